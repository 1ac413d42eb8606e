//! The blocking runtime's job server, over real sockets.
#![cfg(feature = "blocking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gearwheel::blocking::{Client, Error, Server, Worker};
use gearwheel::server::QueuedJob;
use gearwheel::{Job, Outcome};
use peers::wait_until;

#[path = "common/peers.rs"]
mod peers;

const PATIENCE: Duration = Duration::from_secs(20);

fn reverser(server: &Server) -> gearwheel::blocking::Running {
    Worker::builder()
        .server(server.local_addr())
        .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
        .spawn()
        .expect("a worker")
}

#[test]
fn a_job_goes_round() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let worker = reverser(&server);
    let client = Client::builder().server(server.local_addr()).build().expect("a client");
    for payload in [vec![], vec![0, 1, 255], vec![7; 1 << 20]] {
        let job = client.submit(Job::new("reverse", payload.clone())).expect("taken");
        let expected: Vec<u8> = payload.into_iter().rev().collect();
        assert_eq!(job.wait().expect("a result"), expected);
    }
    worker.drain(PATIENCE).expect("drained");
}

#[test]
fn a_thousand_jobs_at_once_end_each_with_its_own_result() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let _worker = reverser(&server);
    let client = Client::builder().server(server.local_addr()).build().expect("a client");
    let mut set = client.set();
    let mut expected = std::collections::HashMap::new();
    for number in 0..1000 {
        let job = set.submit(Job::new("reverse", format!("{number:04}"))).expect("taken");
        expected.insert(job, format!("{number:04}").chars().rev().collect::<String>());
    }
    while let Some((job, outcome)) = set.next() {
        assert_eq!(outcome, Outcome::Complete(expected.remove(&job).expect("once").into()));
    }
    assert!(expected.is_empty());
}

#[test]
fn it_drains_and_keeps_what_is_queued() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let client = Client::builder().server(server.local_addr()).build().expect("a client");
    let job = client.submit(Job::new("later", "kept").background()).expect("taken");
    assert!(matches!(job.outcome(), Outcome::Queued { .. }));
    server.drain(PATIENCE).expect("drained");
    assert!(matches!(server.drain(PATIENCE), Err(Error::Draining)));
    let jobs = server.queued();
    assert_eq!((jobs.len(), &jobs[0].payload[..]), (1, &b"kept"[..]));
    wait_until("it listens no more", PATIENCE, || TcpStream::connect(server.local_addr()).is_err());

    let next = Server::builder().restore(jobs).bind("127.0.0.1:0").expect("a server");
    let worker = Worker::builder().server(next.local_addr()).can_do("later").build().expect("a worker");
    let task = worker.next_timeout(PATIENCE).expect("the job");
    assert_eq!(&task.payload()[..], b"kept");
    task.complete("").expect("taken");
    wait_until("the job is done", PATIENCE, || next.counters().completed == 1);
}

#[test]
fn a_drain_that_is_too_short_says_what_ran() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let client = Client::builder().server(server.local_addr()).build().expect("a client");
    let worker = Worker::builder().server(server.local_addr()).can_do("slow").build().expect("a worker");
    let job = client.submit(Job::new("slow", "").background()).expect("taken");
    assert!(matches!(job.outcome(), Outcome::Queued { .. }));
    let task = worker.next_timeout(PATIENCE).expect("the job");
    assert!(matches!(server.drain(Duration::from_millis(20)), Err(Error::Unfinished { jobs: 1 })));
    assert_eq!(server.queued().len(), 1);
    wait_until("the worker is told", PATIENCE, || task.is_cancelled());
}

#[test]
fn shutdown_works_where_it_is_allowed() {
    let server =
        Server::builder().configure(|config| config.allow_shutdown = true).bind("127.0.0.1:0").expect("a server");
    let mut admin = TcpStream::connect(server.local_addr()).expect("it listens");
    admin.write_all(b"shutdown\n").expect("written");
    server.wait();
    let mut rest = Vec::new();
    admin.read_to_end(&mut rest).expect("closed in order");
    assert_eq!(rest, b"OK\r\n");
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let first = Server::bind("127.0.0.1:0").expect("a server");
    assert!(matches!(Server::bind(first.local_addr()), Err(Error::Io { .. })));
    assert!(matches!(Server::bind("no such address"), Err(Error::Io { .. })));
    let prefix = Server::builder().configure(|config| config.handle_prefix = "a b".into());
    assert!(matches!(prefix.bind("127.0.0.1:0"), Err(Error::Config(_))));
    let mut nameless = QueuedJob::new("f", "");
    nameless.unique = "a\0b".into();
    assert!(matches!(Server::builder().restore([nameless]).bind("127.0.0.1:0"), Err(Error::Refused(_))));
}

#[test]
fn dropping_it_ends_its_connections() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let mut peer = TcpStream::connect(server.local_addr()).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("set");
    wait_until("it is accepted", PATIENCE, || server.counters().connections == 1);
    drop(server);
    assert_eq!(peer.read(&mut [0; 8]).ok(), Some(0));
}

/// Whoever listens on Unix sockets alone has no address of TCP's.
#[cfg(unix)]
#[test]
#[should_panic(expected = "ask for addresses()")]
fn a_unix_server_has_no_tcp_address() {
    let server = Server::builder().build().expect("a server");
    assert!(server.addresses().is_empty());
    let _ = server.local_addr();
}

/// The thread in `accept` cannot be reached by a path that is gone.
#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_socket_file_is_gone_still_stops() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("gearwheel-gone-{}.sock", std::process::id()));
    let stop = |_| {
        let server = Server::bind_unix(&path).expect("a server");
        let mut peer = UnixStream::connect(&path).expect("it listens");
        wait_until("it is accepted", PATIENCE, || server.counters().connections == 1);
        std::fs::remove_file(&path).expect("it is there");
        let started = std::time::Instant::now();
        drop(server);
        let took = started.elapsed();
        assert_eq!(peer.read(&mut [0; 8]).ok(), Some(0));
        took
    };
    // A busy machine may be as slow now and then.
    let times = [(); 3].map(stop);
    assert!(times.iter().any(|&took| took < Duration::from_millis(900)), "a thread had to be given up: {times:?}");
}

/// What the documentation says of keepalive: std cannot set it, but an accepted connection has what its listener has.
#[cfg(target_os = "linux")]
#[test]
fn keepalive_is_inherited_from_a_listener_that_was_passed() {
    let passed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::sockopt::set_socket_keepalive(&passed, true).expect("it can be set");
    let server = Server::builder().listen_on(passed).build().expect("a server");
    let port = format!(":{:04X}", server.local_addr().port());
    let _peer = TcpStream::connect(server.local_addr()).expect("it listens");
    wait_until("its keepalive timer runs", PATIENCE, || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
        table.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Local and remote address, state (01: established), queues, timer (02: keepalive).
            fields[1].ends_with(&port) && fields[3] == "01" && fields[5].starts_with("02:")
        })
    });
}
