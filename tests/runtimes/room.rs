//! Submissions, and parts of results, for which there is no room yet.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
#[cfg(any(feature = "blocking", feature = "mio"))]
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::{Balance, Job, Outcome, Reason, client, worker};

use crate::kinds::{Kind, any::JobEvent};
use crate::peers::PATIENCE;
use crate::scenarios::local;
use crate::unread::request;

/// Bytes that may wait for a connection.
const LIMIT: usize = 1 << 20;

fn narrow(config: &mut client::Config) {
    config.limits.max_outgoing = LIMIT;
    config.deadlines.total = Some(PATIENCE);
}

pub(crate) fn large_jobs_are_submitted_as_room_comes<K: Kind>() {
    let server = K::server(local(), |_| ());
    let _worker = K::worker(K::address(&server), 2);
    let client = K::client(&K::address(&server).to_string(), narrow);
    let sizes = [LIMIT; 40].into_iter().chain([3 * LIMIT, 0, LIMIT]);
    let jobs: Vec<_> = sizes.map(|size| Job::new("echo", vec![7; size])).collect();
    let all: usize = jobs.iter().map(|job| job.payload().len()).sum();
    let count = jobs.len();
    let outcomes = K::run_all(&client, jobs, PATIENCE);
    let lengths = outcomes.iter().map(|(_, outcome)| match outcome {
        Outcome::Complete(result) => result.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!((outcomes.len(), lengths.sum()), (count, all));
}

pub(crate) fn room_is_waited_for_though_nothing_is_outstanding<K: Kind>() {
    let listener = TcpListener::bind(local()).expect("a port");
    let at = listener.local_addr().expect("bound");
    let (tell, reading) = mpsc::channel();
    let (go_on, may_read) = mpsc::channel();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        request(&mut stream);
        tell.send(()).expect("somebody waits");
        may_read.recv().expect("it goes on");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        io::copy(&mut stream.take(u64::MAX), &mut io::sink()).expect("the client closes");
    });
    let client = K::client(&at.to_string(), narrow);
    let first = K::submit(&client, Job::new("f", "")).expect("taken");
    reading.recv_timeout(PATIENCE).expect("it is sent");
    // More than sockets take.
    let large = K::try_submit(&client, Job::new("f", vec![7; 64 * LIMIT])).expect("one may always be queued");
    let full = K::try_submit(&client, Job::new("f", "x")).map(drop).expect_err("the bytes wait");
    assert!(matches!(full.reason, Reason::Full { limit: LIMIT, .. }), "{full:?}");
    // What has been given up is sent all the same.
    drop((first, large));
    let full = K::try_submit(&client, full.value).map(drop).expect_err("they wait still");
    let (ended, end) = mpsc::channel();
    let other = client.clone();
    let submitter = thread::spawn(move || {
        K::submit(&other, full.value).map(drop).expect("there is room");
        ended.send(()).expect("somebody waits");
    });
    assert!(end.recv_timeout(Duration::from_millis(20)).is_err(), "nobody reads");
    go_on.send(()).expect("it waits for that");
    end.recv_timeout(PATIENCE).expect("it is submitted");
    submitter.join().expect("no panic");
    K::close(&client);
    peer.join().expect("no panic");
}

pub(crate) fn all_who_wait_for_room_get_some<K: Kind>() {
    let server = K::server(local(), |_| ());
    let _worker = K::worker(K::address(&server), 4);
    let client = K::client(&K::address(&server).to_string(), |config| {
        config.limits.max_jobs = 2;
        config.deadlines.total = Some(PATIENCE);
    });
    let (ended, end) = mpsc::channel();
    for _ in 0..8 {
        let (client, ended) = (client.clone(), ended.clone());
        thread::spawn(move || {
            for _ in 0..50 {
                let job = K::submit(&client, Job::new("echo", "x")).expect("taken");
                assert_eq!(K::wait(job), Ok("x".into()));
            }
            ended.send(()).expect("somebody waits");
        });
    }
    for _ in 0..8 {
        end.recv_timeout(PATIENCE).expect("all come to an end");
    }
}

pub(crate) fn who_waits_for_room_hears_of_the_end<K: Kind>() {
    let client = K::client("127.0.0.1:1", |config| config.limits.max_jobs = 1);
    let _job = K::submit(&client, Job::new("f", "")).expect("taken");
    let other = client.clone();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(K::submit(&other, Job::new("f", "")).map(drop)));
    assert!(end.recv_timeout(Duration::from_millis(20)).is_err(), "there is no room");
    K::close(&client);
    let closed = end.recv_timeout(PATIENCE).expect("it comes back").expect_err("it is closed");
    assert_eq!(closed.reason, Reason::Closed);
}

pub(crate) fn a_server_that_comes_or_is_to_go_makes_room<K: Kind>() {
    let by_unique = |config: &mut client::Config| {
        config.balance = Balance::ByUnique;
        narrow(config);
    };
    let in_turn = |config: &mut client::Config| {
        config.balance = Balance::RoundRobin;
        narrow(config);
    };
    for (comes, configure) in [(true, by_unique as fn(&mut client::Config)), (true, in_turn), (false, in_turn)] {
        let [stuck, other] = [(); 2].map(|()| TcpListener::bind(local()).expect("a port"));
        let at = |listener: &TcpListener| listener.local_addr().expect("bound");
        let client = K::client(&at(&stuck).to_string(), configure);
        let _first = K::submit(&client, Job::new("f", "")).expect("taken");
        let (mut stream, _) = stuck.accept().expect("a client");
        request(&mut stream);
        // More than sockets take.
        let _large = K::try_submit(&client, Job::new("f", vec![7; 64 * LIMIT])).expect("one may always be queued");
        let (ended, end) = mpsc::channel();
        // Some of them are the other's, if it is there.
        for number in 0..20 {
            let (client, ended, job) = (client.clone(), ended.clone(), Job::new("f", "").unique(number.to_string()));
            thread::spawn(move || ended.send(K::submit(&client, job).is_ok()));
        }
        assert!(end.recv_timeout(Duration::from_millis(20)).is_err(), "there is no room");
        if comes {
            K::add_server(&client, at(&other));
        } else {
            K::remove_server(&client, K::first_server(&client));
        }
        // Sooner than its server is found to be silent.
        assert_eq!(end.recv_timeout(PATIENCE / 4), Ok(true), "there is room");
        K::close(&client);
    }
}

fn narrow_worker(config: &mut worker::Config) {
    config.limits.max_outgoing = LIMIT;
}

/// A job server that gives a worker one job and reads nothing from then on, until it is told to; then `end` has the rest.
fn reluctant(end: fn(TcpStream)) -> (SocketAddr, mpsc::Sender<()>, thread::JoinHandle<()>) {
    let listener = TcpListener::bind(local()).expect("a port");
    let at = listener.local_addr().expect("bound");
    let (go_on, may_go_on) = mpsc::channel();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a worker");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let grab_job_uniq = 30;
        while request(&mut stream) != grab_job_uniq {}
        let assigned = b"\0RES\0\0\0\x1f\0\0\0\x08H:1\0f\0u\0";
        stream.write_all(assigned).expect("it is connected");
        may_go_on.recv().expect("somebody tells it");
        end(stream);
    });
    (at, go_on, peer)
}

fn read_on(stream: TcpStream) {
    let came = io::copy(&mut stream.take(u64::MAX), &mut io::sink()).expect("the worker closes");
    // But for the last part, which may have waited for those before it only.
    assert!(came > 63 * LIMIT as u64, "{came}");
}

pub(crate) fn parts_of_a_result_are_sent_as_room_comes<K: Kind>() {
    let (at, go_on, peer) = reluctant(read_on);
    let worker = K::taker(at, "f", narrow_worker);
    let task = K::next(&worker).expect("a job");
    // More than sockets take.
    K::data(&task, vec![7; 64 * LIMIT].into()).expect("one may always be sent");
    let full = task.try_data("part").expect_err("the bytes wait");
    assert!(matches!(full.reason, Reason::Full { limit: LIMIT, .. }) && full.value == "part", "{full:?}");
    assert!(task.try_warning("no").is_err() && task.try_progress(1, 2).is_err());
    let (ended, end) = mpsc::channel();
    let handler = thread::spawn(move || {
        K::data(&task, vec![7; LIMIT].into()).expect("there is room");
        ended.send(()).expect("somebody waits");
        task.complete("done").expect("ours");
    });
    assert!(end.recv_timeout(Duration::from_millis(20)).is_err(), "nobody reads");
    go_on.send(()).expect("it waits for that");
    end.recv_timeout(PATIENCE).expect("it is sent");
    handler.join().expect("no panic");
    drop(worker);
    peer.join().expect("no panic");
}

pub(crate) fn who_waits_to_send_a_part_hears_that_the_job_is_gone<K: Kind>() {
    let (at, go_on, peer) = reluctant(drop);
    let worker = K::taker(at, "f", narrow_worker);
    let task = K::next(&worker).expect("a job");
    K::data(&task, vec![7; 64 * LIMIT].into()).expect("one may always be sent");
    let (ended, end) = mpsc::channel();
    let handler = thread::spawn(move || {
        let gone = K::data(&task, "part".into()).expect_err("it is not ours");
        assert!(matches!(gone.reason, Reason::Unknown(_)) && gone.value == "part", "{gone:?}");
        ended.send(()).expect("somebody waits");
    });
    assert!(end.recv_timeout(Duration::from_millis(20)).is_err(), "nobody reads");
    go_on.send(()).expect("it waits for that");
    handler.join().expect("no panic");
    peer.join().expect("no panic");
}

pub(crate) fn a_result_in_many_parts_needs_little_room<K: Kind>() {
    const PARTS: usize = 200;
    let server = K::server(local(), |_| ());
    let worker = K::taker(K::address(&server), "f", narrow_worker);
    let client = K::client(&K::address(&server).to_string(), |config| config.deadlines.total = Some(PATIENCE));
    let mut job = K::submit(&client, Job::new("f", "")).expect("taken");
    let handler = thread::spawn(move || {
        let task = K::next(&worker).expect("a job");
        let part = Bytes::from(vec![7; LIMIT / 4]);
        (0..PARTS).for_each(|_| K::data(&task, part.clone()).expect("there is room"));
        task.complete("done").expect("ours");
        worker
    });
    let mut came = 0;
    while let Some(event) = K::next_event(&mut job) {
        match event {
            JobEvent::Data(part) => came += part.len(),
            JobEvent::Done(outcome) => assert_eq!(outcome, Outcome::Complete("done".into())),
            _ => {}
        }
    }
    assert_eq!(came, PARTS * LIMIT / 4);
    drop(handler.join().expect("no panic"));
}

/// Its handler moves the worker's bytes itself.
#[cfg(feature = "mio")]
#[test]
fn a_handler_on_mios_loop_does_not_wait_for_room() {
    let (at, go_on, peer) = reluctant(drop);
    let (tell, told) = mpsc::channel();
    let worker = gearwheel::mio::Worker::builder()
        .server(at)
        .configure(narrow_worker)
        .function("f", move |task| {
            task.data(vec![7; 64 * LIMIT]).expect("one may always be sent");
            tell.send(task.data("part").expect_err("the bytes wait")).expect("somebody waits");
            Ok("")
        })
        .spawn()
        .expect("a worker");
    let full = told.recv_timeout(PATIENCE).expect("it does not wait for itself");
    assert!(matches!(full.reason, Reason::Full { limit: LIMIT, .. }));
    go_on.send(()).expect("it waits for that");
    peer.join().expect("no panic");
    worker.close();
}

/// A worker whose listener sends a part of a result where there is no room, and what it is told then.
#[cfg(any(feature = "blocking", feature = "mio"))]
macro_rules! a_listener_that_sends_a_part {
    ($runtime:ident, $build:ident) => {{
        let (at, go_on, peer) = reluctant(drop);
        let (tell, told) = mpsc::channel();
        let (hand_over, tasks) = mpsc::channel::<gearwheel::$runtime::Task>();
        let other = TcpListener::bind(local()).expect("a port");
        let worker = gearwheel::$runtime::Worker::builder()
            .server(at)
            .can_do("f")
            .configure(narrow_worker)
            .on_event(move |event| {
                if let (worker::Event::Connected { .. }, Ok(task)) = (event, tasks.try_recv()) {
                    tell.send(task.data("part")).expect("somebody waits");
                }
            })
            .$build()
            .expect("a worker");
        let task = worker.next().expect("a job");
        task.data(vec![7; 64 * LIMIT]).expect("one may always be sent");
        hand_over.send(task).expect("the worker is there");
        worker.add_server(other.local_addr().expect("bound")).expect("it is new");
        let full = told.recv_timeout(PATIENCE).expect("it does not wait for itself").expect_err("the bytes wait");
        assert!(matches!(full.reason, Reason::Full { limit: LIMIT, .. }));
        go_on.send(()).expect("it waits for that");
        peer.join().expect("no panic");
        worker.close();
    }};
}

#[cfg(feature = "blocking")]
#[test]
fn a_blocking_listener_does_not_wait_to_send_a_part() {
    a_listener_that_sends_a_part!(blocking, build);
}

#[cfg(feature = "mio")]
#[test]
fn a_mio_listener_does_not_wait_to_send_a_part() {
    a_listener_that_sends_a_part!(mio, spawn);
}

/// A client whose listener submits a job where there is no room, and what it is told then.
#[cfg(any(feature = "blocking", feature = "mio"))]
macro_rules! a_listener_that_submits {
    ($client:ty, $build:ident) => {{
        let (tell, told) = mpsc::channel();
        let own = Arc::new(OnceLock::<$client>::new());
        let itself = own.clone();
        let server = TcpListener::bind(local()).expect("a port");
        let client = <$client>::builder()
            .server(server.local_addr().expect("bound"))
            .configure(|config| config.limits.max_jobs = 1)
            .on_event(move |event| {
                if let (client::Event::Connected { .. }, Some(client)) = (event, itself.get()) {
                    tell.send(client.submit(Job::new("f", "")).map(drop)).expect("somebody waits");
                }
            })
            .$build()
            .expect("a client");
        own.set(client.clone()).expect("once");
        let _job = client.submit(Job::new("f", "")).expect("taken");
        let full = told.recv_timeout(PATIENCE).expect("it does not wait for itself").expect_err("one is all");
        assert!(matches!(full.reason, Reason::Full { limit: 1, .. }));
        client.close();
    }};
}

#[cfg(feature = "blocking")]
#[test]
fn a_blocking_listener_does_not_wait_for_room() {
    a_listener_that_submits!(gearwheel::blocking::Client, build);
}

#[cfg(all(feature = "blocking", feature = "mio"))]
#[test]
fn a_listener_does_not_wait_for_room_in_a_client_of_another_runtime() {
    let (tell, told) = mpsc::channel();
    let server = TcpListener::bind(local()).expect("a port");
    let at = server.local_addr().expect("bound");
    let full = gearwheel::mio::Client::builder().server(at).configure(|config| config.limits.max_jobs = 1);
    let full = full.spawn().expect("a client");
    let _all = full.submit(Job::new("f", "")).expect("taken");
    let client = gearwheel::blocking::Client::builder()
        .server(at)
        .on_event(move |_| tell.send(full.submit(Job::new("f", "")).map(drop)).unwrap_or_default())
        .build()
        .expect("a client");
    let _job = client.submit(Job::new("f", "")).expect("taken");
    let full = told.recv_timeout(PATIENCE).expect("it does not wait").expect_err("one is all");
    assert!(matches!(full.reason, Reason::Full { limit: 1, .. }));
}

#[cfg(feature = "mio")]
#[test]
fn a_mio_listener_does_not_wait_for_room() {
    a_listener_that_submits!(gearwheel::mio::Client, spawn);
}
