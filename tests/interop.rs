//! Against peers that nobody here wrote: gearmand, libgearman's client, worker and tools, Perl's server, client and worker;
//! and our server in gearmand's place. Needs what is not installed everywhere: see `tests/common/peers.rs`.
#![cfg(feature = "blocking")]

use std::net::SocketAddr;

use gearwheel::blocking::{Client, Running, Server, Worker};
use peers::Gearmand;

#[path = "interop/bad_input.rs"]
mod bad_input;
#[path = "interop/crash.rs"]
mod crash;
#[path = "interop/matrix.rs"]
mod matrix;
#[path = "common/peers.rs"]
mod peers;
#[path = "interop/truths.rs"]
mod truths;

/// A job server under test.
#[derive(Debug)]
enum JobServer {
    Process(Gearmand),
    Ours(Server),
}

impl JobServer {
    fn gearmand() -> Option<Self> {
        Gearmand::start().map(Self::Process)
    }

    fn perl() -> Option<Self> {
        Gearmand::perl().map(Self::Process)
    }

    fn ours() -> Option<Self> {
        Some(Self::Ours(Server::bind("127.0.0.1:0").expect("loopback has free ports")))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Process(gearmand) => gearmand.address(),
            Self::Ours(server) => server.local_addr(),
        }
    }
}

/// Our client of one server.
fn client(server: SocketAddr) -> Client {
    // Nothing here takes that long: a test that would hang fails.
    Client::builder().server(server).timeout(peers::PATIENCE).build().expect("the address is one")
}

/// Our worker, which reverses payloads.
fn reversing_worker(server: SocketAddr) -> Running {
    let worker = Worker::builder()
        .server(server)
        .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
        .spawn()
        .expect("the worker starts");
    peers::wait_for_workers(server, "reverse", 1);
    worker
}
