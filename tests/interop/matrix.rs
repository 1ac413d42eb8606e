//! Every client with every worker on every server, and payloads of the sizes at which parsers have failed.

use std::net::SocketAddr;

use crate::peers::{Perl, Process, Tools};
use crate::{JobServer, client, reversing_worker};
use gearwheel::Job;
use gearwheel::blocking::{Client, Running, Worker};
use gearwheel::worker::Event;

/// Payloads that any pair can carry.
fn small_payloads() -> Vec<Vec<u8>> {
    let mut payloads = vec![Vec::new(), vec![0], b"a".to_vec(), b"\0\0a\0b\n\0\r\n".to_vec(), (0..=255).collect()];
    let lengths = [8_191, 8_192, 8_193].into_iter().chain((65_480..=65_510).step_by(6));
    payloads.extend(lengths.map(bytes));
    payloads
}

/// Perl's worker cannot answer with nothing.
fn some_payloads() -> Vec<Vec<u8>> {
    small_payloads().into_iter().filter(|payload| !payload.is_empty()).collect()
}

/// Payloads for peers that get on with large ones.
fn large_payloads() -> Vec<Vec<u8>> {
    (65_480..=65_510).chain([1 << 20, 20 << 20]).map(bytes).collect()
}

/// So many bytes without a pattern, many of them NUL, the same each time.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = length as u32 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..length).map(|_| if next()[1] < 64 { 0 } else { next()[0] }).collect()
}

enum AnyClient {
    Ours(Client),
    Tools(Tools, SocketAddr),
    Perl(Perl, SocketAddr),
}

impl AnyClient {
    fn ours(server: SocketAddr) -> Option<Self> {
        Some(Self::Ours(client(server)))
    }

    fn tools(server: SocketAddr) -> Option<Self> {
        Some(Self::Tools(Tools::find()?, server))
    }

    fn perl(server: SocketAddr) -> Option<Self> {
        Some(Self::Perl(Perl::find()?, server))
    }

    fn result_of(&self, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Ours(client) => {
                let job = client.submit(Job::new("reverse", payload.to_vec())).expect("the job is one");
                job.wait().expect("the job completes").to_vec()
            }
            Self::Tools(tools, server) => {
                let ended = tools.submit(*server, "reverse", &[], payload);
                assert!(ended.status.success(), "{ended:?}");
                ended.stdout
            }
            Self::Perl(perl, server) => {
                let ended = perl.submit(*server, "reverse", payload);
                assert!(ended.status.success(), "{ended:?}");
                ended.stdout
            }
        }
    }
}

/// A worker that reverses payloads, until it is dropped.
#[expect(dead_code, reason = "held for their ends")]
enum AnyWorker {
    Ours(Running),
    Process(Process),
}

impl AnyWorker {
    fn ours(server: SocketAddr) -> Option<Self> {
        Some(Self::Ours(reversing_worker(server)))
    }

    fn tools(server: SocketAddr) -> Option<Self> {
        let reverse = ["perl", "-0777", "-pe", "$_ = reverse $_"];
        Some(Self::Process(Tools::find()?.work(server, "reverse", &reverse)))
    }

    fn perl(server: SocketAddr) -> Option<Self> {
        Some(Self::Process(Perl::find()?.work(server, "reverse")))
    }
}

/// `None` where a peer is missing.
fn round_trips(
    server: Option<JobServer>,
    client: fn(SocketAddr) -> Option<AnyClient>,
    worker: fn(SocketAddr) -> Option<AnyWorker>,
    payloads: impl IntoIterator<Item = Vec<u8>>,
) -> Option<()> {
    let server = server?;
    let _worker = worker(server.address())?;
    let client = client(server.address())?;
    for mut payload in payloads {
        let result = client.result_of(&payload);
        payload.reverse();
        assert_eq!(result.len(), payload.len());
        assert!(result == payload, "{} bytes came back otherwise", payload.len());
    }
    Some(())
}

macro_rules! pairs {
    ($($name:ident: $client:ident, $worker:ident, $payloads:expr;)*) => {
        mod on_gearmand {
            use super::*;
            $(#[test] fn $name() {
                round_trips(JobServer::gearmand(), AnyClient::$client, AnyWorker::$worker, $payloads);
            })*
        }
        mod on_our_server {
            use super::*;
            $(#[test] fn $name() {
                round_trips(JobServer::ours(), AnyClient::$client, AnyWorker::$worker, $payloads);
            })*
        }
    };
}

pairs! {
    our_client_with_our_worker: ours, ours, small_payloads().into_iter().chain(large_payloads());
    our_client_with_libgearmans_worker: ours, tools, small_payloads();
    our_client_with_perls_worker: ours, perl, some_payloads();
    libgearmans_client_with_our_worker: tools, ours, small_payloads();
    libgearmans_client_with_libgearmans_worker: tools, tools, small_payloads();
    perls_client_with_our_worker: perl, ours, small_payloads();
    perls_client_with_perls_worker: perl, perl, some_payloads();
}

mod on_perls_server {
    use super::*;

    #[test]
    fn our_client_with_our_worker() {
        round_trips(JobServer::perl(), AnyClient::ours, AnyWorker::ours, small_payloads());
    }

    #[test]
    fn our_client_with_perls_worker() {
        round_trips(JobServer::perl(), AnyClient::ours, AnyWorker::perl, some_payloads());
    }

    #[test]
    fn perls_client_with_our_worker() {
        round_trips(JobServer::perl(), AnyClient::perl, AnyWorker::ours, small_payloads());
    }
    #[test]
    fn our_worker_loses_no_job_though_the_server_knows_no_parts_of_results() {
        let Some(server) = JobServer::perl() else { return };
        let worker = Worker::builder().server(server.address()).concurrency(2);
        let worker = worker.function("parts", |task| {
            task.data("part")?;
            task.warning("warning")?;
            Ok("whole")
        });
        let (told, events) = std::sync::mpsc::channel();
        let worker = worker.on_event(move |event| drop(told.send(event)));
        let worker = worker.spawn().expect("the worker starts");
        crate::peers::wait_for_workers(server.address(), "parts", 1);
        let client = client(server.address());
        let jobs: Vec<_> = (0..20).map(|_| client.submit(Job::new("parts", "")).expect("the job is one")).collect();
        for job in jobs {
            assert_eq!(job.wait().expect("the job completes"), "whole");
        }
        worker.stop();
        assert!(!events.iter().any(|event| matches!(event, Event::Disconnected { .. })), "no connection was lost");
    }
}
