//! What a user or a peer gets wrong is said, by whom it was and what the limit is, and nothing else suffers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use gearwheel::blocking::{Client, Error, Worker};
use gearwheel::{CloseReason, ConfigError, Job, Outcome, Phase, Reason, Retry, client::Event};

use crate::peers::Gearmand;
use crate::reversing_worker;

#[test]
fn a_builder_names_the_value_that_is_wrong() {
    let said = |result: Result<Client, Error>| result.expect_err("it is wrong").to_string();
    assert_eq!(said(Client::builder().build()), "no job server is given");
    assert_eq!(said(Client::builder().server("h:1").server("h:1").build()), "the job server h:1 is given twice");
    assert_eq!(
        said(Client::builder().server("h:port").build()),
        "\"h:port\" is no address of a job server: expected HOST, HOST:PORT, [IPV6], [IPV6]:PORT or unix:/PATH"
    );
    assert!(said(Client::builder().server("h").client_id("a b").build()).contains("\"a b\""));

    let said = |result: Result<Worker, Error>| result.expect_err("it is wrong").to_string();
    let worker = || Worker::builder().server("h");
    assert_eq!(said(Worker::builder().can_do("f").build()), "no job server is given");
    assert_eq!(said(worker().can_do("").build()), "the function name is empty");
    assert!(said(worker().can_do("f").can_do("f").build()).contains("\"f\""));
    assert!(said(worker().can_do("a\0b").build()).contains("\"a\\0b\""));
    assert!(said(worker().can_do("f".repeat(600)).build()).contains("600"));
    assert!(said(worker().can_do("f").concurrency(0).build()).contains("concurrency"));
}

#[test]
fn a_job_that_is_none_comes_back_with_the_reason() {
    let client = Client::builder().server("127.0.0.1:1").build().expect("a client");
    let reason = |job: Job| {
        let rejected = client.submit(job.clone()).expect_err("it is wrong");
        assert_eq!(rejected.value, job);
        match rejected.reason {
            Reason::Invalid(error) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(Job::new("", "")), ConfigError::EmptyFunction);
    assert!(matches!(reason(Job::new("a\0b", "")), ConfigError::Nul { .. }));
    assert!(matches!(reason(Job::new("f", "").unique("a\0b")), ConfigError::Nul { .. }));
    let error = reason(Job::new("f", "").unique("u".repeat(64)));
    assert!(matches!(error, ConfigError::TooLong { length: 64, limit: 63, .. }), "{error:?}");
    // The packet is limited, so the payload is to a little less.
    let error = reason(Job::new("f", vec![0; 128 << 20]));
    assert_eq!(error, ConfigError::TooLong { what: "payload", length: 128 << 20, limit: (128 << 20) - 3 });
}

/// A server that answers whatever it is told with `reply`, once for each connection.
fn impostor(reply: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut scratch = [0; 4_096];
            if socket.read(&mut scratch).is_ok_and(|length| length > 0) && socket.write_all(reply).is_ok() {
                // Until the other side closes.
                while socket.read(&mut scratch).is_ok_and(|length| length > 0) {}
            }
        }
    });
    address
}

#[test]
fn garbage_closes_its_connection_and_nothing_else() {
    let Some(sound) = Gearmand::start() else { return };
    let _worker = reversing_worker(sound.address());
    let garbage: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        // A type that is none, a packet for servers, a body that is over the limit, arguments that are missing.
        b"\0RES\0\0\0\x63\0\0\0\0",
        b"\0RES\0\0\0\x07\0\0\0\x02\0\0",
        b"\0RES\0\0\0\x08\xff\xff\xff\xff",
        b"\0RES\0\0\0\x0d\0\0\0\x03abc",
    ];
    for reply in garbage {
        let bad = impostor(reply);
        let (tell, told) = mpsc::channel();
        let client = Client::builder()
            .servers([bad, sound.address()])
            .on_event(move |event| {
                let _ = tell.send(event);
            })
            .build()
            .expect("a client");

        let job = client.submit(Job::new("reverse", "abc").retry(Retry::Never)).expect("a job");
        match job.outcome() {
            // The answer may come before the write returns.
            Outcome::Lost { phase: Phase::Sending | Phase::Sent, server, reason: CloseReason::Protocol(_), .. } => {
                assert_eq!(server.port(), bad.port());
            }
            other => panic!("{} ended it as {other:?}", reply.escape_ascii()),
        }
        let reason =
            std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(5)).ok()).find_map(|event| match event {
                Event::Disconnected { reason, .. } => Some(reason),
                _ => None,
            });
        let reason = reason.expect("the loss of the connection is told");
        assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
        assert!(reason.to_string().starts_with("the peer broke the protocol: "), "{reason}");

        let result = client.submit(Job::new("reverse", "abc")).expect("a job").wait();
        assert_eq!(result.expect("the other server is as good as before"), "cba");
        let job = Job::new("reverse", "abc").retry(Retry::Idempotent { attempts: 3 });
        assert_eq!(client.submit(job).expect("a job").wait().expect("a result"), "cba");
    }
}
