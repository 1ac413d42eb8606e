//! Users who do not read what comes of their jobs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gearwheel::client::Unread;
use gearwheel::{Job, Outcome, Phase};

use crate::kinds::Kind;
use crate::kinds::any::JobEvent;
use crate::peers::PATIENCE;
use crate::scenarios::{local, packet};

/// Parts that flood a user who does not read: more than all buffers on the way to him hold.
const FLOOD: usize = 1 << 10;
const PART: usize = 32 << 10;

pub(crate) fn a_user_who_does_not_read_loses_only_his_job<K: Kind>() {
    let at = played(2, |mut stream| {
        let part = packet(b"\0RES", 28, &[b"H:1", &[1; PART]]);
        let status = packet(b"\0RES", 12, &[b"H:1", b"1", b"2"]).repeat(100);
        for _ in 0..FLOOD {
            stream.write_all(&status).and_then(|()| stream.write_all(&part)).expect("it reads on");
        }
        stream.write_all(&packet(b"\0RES", 13, &[b"H:2", b"done"])).expect("it reads on");
        while request(&mut stream) != 7 {}
        stream.write_all(&packet(b"\0RES", 8, &[b"H:3"])).expect("it reads on");
        stream.write_all(&packet(b"\0RES", 13, &[b"H:3", b"more"])).expect("it reads on");
        request(&mut stream);
    });
    let client = K::client(&at.to_string(), |config| {
        config.deadlines.total = Some(PATIENCE);
        config.limits.max_unread = 1 << 20;
        config.limits.max_jobs = 2;
        config.exceptions = false;
    });
    let mut unread = K::submit(&client, Job::new("f", "")).expect("taken");
    let other = K::submit(&client, Job::new("f", "")).expect("taken");
    assert_eq!(K::wait(other), Ok("done".into()));
    // The first has ended, though nobody has looked: there is room for two.
    let third = K::submit(&client, Job::new("f", "")).expect("room");
    assert_eq!(K::wait(third), Ok("more".into()));
    let events: Vec<_> = std::iter::from_fn(|| K::next_event(&mut unread)).collect();
    let statuses = events.iter().filter(|event| matches!(event, JobEvent::Progress { .. })).count();
    let bytes: usize = events.iter().map(|event| if let JobEvent::Data(part) = event { part.len() } else { 0 }).sum();
    let parts = events.iter().filter(|event| matches!(event, JobEvent::Data(_))).count();
    assert!((1..=parts + 1).contains(&statuses), "{statuses} statuses between {parts} parts: of 100 the last is kept");
    assert!((1 << 19..=1 << 20).contains(&bytes), "{bytes} bytes were kept");
    let Some(JobEvent::Done(Outcome::Overflow { limit, phase, server, attempts })) = events.last() else {
        panic!("{:?}", events.last())
    };
    assert_eq!((*limit, *phase, *attempts), (1 << 20, Phase::Running, 1));
    assert_eq!(server.to_string(), at.to_string());
}

pub(crate) fn a_client_that_pauses_reads_as_its_user_does<K: Kind>() {
    let (tell, written) = mpsc::channel();
    let at = played(2, move |mut stream| {
        let part = packet(b"\0RES", 28, &[b"H:1", &[1; PART]]);
        for _ in 0..FLOOD {
            stream.write_all(&part).expect("it reads in the end");
            let _ = tell.send(());
        }
        for handle in [b"H:2", b"H:1"] {
            stream.write_all(&packet(b"\0RES", 13, &[handle, b"done"])).expect("it reads in the end");
        }
        request(&mut stream);
    });
    let client = K::client(&at.to_string(), |config| {
        config.deadlines.total = Some(PATIENCE);
        config.limits.max_unread = 1 << 20;
        config.unread = Unread::Pause;
        config.exceptions = false;
    });
    let mut slow = K::submit(&client, Job::new("f", "")).expect("taken");
    let behind = K::submit(&client, Job::new("f", "")).expect("taken");
    // The job server comes to a standstill.
    let before = std::iter::from_fn(|| written.recv_timeout(Duration::from_millis(200)).ok()).count();
    assert!((1..FLOOD).contains(&before), "{before} parts were written");
    let mut bytes = 0;
    let outcome = loop {
        match K::next_event(&mut slow) {
            Some(JobEvent::Data(part)) => bytes += part.len(),
            Some(JobEvent::Done(outcome)) => break outcome,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert_eq!((bytes, outcome), (FLOOD * PART, Outcome::Complete("done".into())));
    assert_eq!(K::wait(behind), Ok("done".into()));
}

pub(crate) fn what_came_before_a_write_failed_is_read_by_whoever_pauses<K: Kind>() {
    // All of it together is on its way before anybody reads.
    const PARTS: usize = 10;
    const PART: usize = 4 << 10;
    let (tell, written) = mpsc::channel();
    let (_nobody, nothing) = mpsc::channel::<()>();
    let at = played(1, move |mut stream| {
        let part = packet(b"\0RES", 28, &[b"H:1", &[1; PART]]);
        stream.write_all(&part.repeat(PARTS)).expect("buffers hold it");
        stream.write_all(&packet(b"\0RES", 13, &[b"H:1", b"done"])).expect("buffers hold it");
        drop(stream);
        let _ = tell.send(());
    });
    let client = K::client(&at.to_string(), |config| {
        config.deadlines.total = Some(PATIENCE);
        config.limits.max_unread = PART;
        config.unread = Unread::Pause;
        config.exceptions = false;
    });
    let mut slow = K::submit(&client, Job::new("f", "")).expect("taken");
    written.recv_timeout(PATIENCE).expect("it has written all");
    // The first that is written makes the peer reset the connection, so that writing fails from then on.
    for _ in 0..10 {
        K::submit(&client, Job::new("f", "")).map(drop).expect("taken");
        let _ = nothing.recv_timeout(Duration::from_millis(20));
    }
    let mut bytes = 0;
    let outcome = loop {
        match K::next_event(&mut slow) {
            Some(JobEvent::Data(part)) => bytes += part.len(),
            Some(JobEvent::Done(outcome)) => break outcome,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert_eq!((bytes, outcome), (PARTS * PART, Outcome::Complete("done".into())));
}

/// A job server of the test's own for one client, which is told what to send once so many jobs have been submitted.
pub(crate) fn played(jobs: usize, play: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(local()).expect("a port");
    let at = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        for number in 1..=jobs {
            while request(&mut stream) != 7 {}
            let created = packet(b"\0RES", 8, &[format!("H:{number}").as_bytes()]);
            stream.write_all(&created).expect("it reads");
        }
        play(stream);
    });
    at
}

/// Reads a packet and says its type.
pub(crate) fn request(stream: &mut TcpStream) -> u32 {
    let mut header = [0; 12];
    stream.read_exact(&mut header).expect("a packet");
    let [kind, size] = [4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().expect("four")));
    std::io::copy(&mut stream.take(size.into()), &mut std::io::sink()).expect("its body");
    kind
}
