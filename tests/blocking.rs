//! The blocking runtime on real sockets.
#![cfg(feature = "blocking")]

#[path = "common/peers.rs"]
mod peers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gearwheel::blocking::{Client, Duplex, Error, Fail, JobError, JobEvent, Running, Server, Stream, Throw, Worker};
use gearwheel::{Balance, CloseReason, ConfigError, Job, LinkState, Outcome, Phase, Reason, Retry, client, worker};
use peers::{PATIENCE, wait_until};

/// A job server that can go and come back.
struct House {
    server: Option<Server>,
    address: SocketAddr,
}

fn server() -> House {
    let server = Server::bind("127.0.0.1:0").expect("a free port");
    House { address: server.local_addr(), server: Some(server) }
}

impl House {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn kill(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) {
        self.server = Some(Server::bind(self.address).expect("its port again"));
    }
}

fn client(at: SocketAddr) -> Client {
    Client::builder().server(at).timeout(PATIENCE).build().expect("a client")
}

/// A worker whose functions do what the tests want.
fn worker(at: SocketAddr, concurrency: usize) -> Running {
    Worker::builder()
        .server(at)
        .concurrency(concurrency)
        .function("echo", |task| Ok(task.payload().clone()))
        .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
        .function("fail", |_| -> Result<Vec<u8>, _> { Err(Fail.into()) })
        .function("throw", |_| -> Result<Vec<u8>, _> { Err(Throw((&b"\0bytes"[..]).into()).into()) })
        .function("err", |_| -> Result<Vec<u8>, _> { Err("no good".into()) })
        .function("panic", |_| -> Result<Vec<u8>, _> { panic!("dropped the ball") })
        .function("chatty", |task| {
            task.data("one")?;
            task.warning("careful")?;
            task.progress(1, 2)?;
            task.data("two")?;
            Ok("done")
        })
        .spawn()
        .expect("a worker")
}

#[test]
fn events_are_waited_for_no_longer_than_one_likes() {
    let server = server();
    let client = client(server.address());
    let mut job = client.submit(Job::new("chatty", "")).expect("taken");
    let mut set = client.set_with_events();
    set.submit(Job::new("chatty", "")).expect("taken");
    // There is no worker: all that comes is that the server has them.
    let short = Duration::from_millis(20);
    let created = |event: &JobEvent| matches!(event, JobEvent::Created { .. });
    assert!(job.next_event_timeout(PATIENCE).is_some_and(|event| created(&event)));
    assert!(set.next_event_timeout(PATIENCE).is_some_and(|(_, event)| created(&event)));
    assert_eq!((job.next_event_timeout(short), set.next_event_timeout(short)), (None, None));
    let _worker = worker(server.address(), 1);
    assert!(job.next_event_timeout(PATIENCE).is_some(), "nothing of it was lost by waiting");
    let ended = std::iter::from_fn(|| job.next_event_timeout(PATIENCE)).last();
    assert_eq!(ended, Some(JobEvent::Done(Outcome::Complete("done".into()))));
    let events = std::iter::from_fn(|| set.next_event_timeout(PATIENCE)).count();
    assert_eq!(events, 5, "two parts, a warning, a status and the end");
}

#[test]
fn a_job_goes_round() {
    let server = server();
    let worker = worker(server.address(), 1);
    let client = client(server.address());
    for payload in [&b""[..], b"x", b"hello \0 world", &[7; 70_000]] {
        let reversed: Vec<u8> = payload.iter().rev().copied().collect();
        let result = client.submit(Job::new("reverse", payload.to_vec())).expect("taken").wait();
        assert_eq!(result.as_deref(), Ok(&reversed[..]));
    }
    worker.drain(PATIENCE).expect("drained");
}

#[test]
fn what_a_handler_says_arrives() {
    let server = server();
    let worker = worker(server.address(), 1);
    let client = client(server.address());
    let wait = |function: &'static str| client.submit(Job::new(function, "")).expect("taken").wait();
    assert_eq!(wait("fail"), Err(JobError::Failed));
    assert_eq!(wait("throw"), Err(JobError::Exception((&b"\0bytes"[..]).into())));
    assert_eq!(wait("err"), Err(JobError::Exception("no good".into())));
    assert_eq!(wait("panic"), Err(JobError::Exception("dropped the ball".into())));
    assert_eq!(wait("echo"), Ok("".into()), "the worker goes on after a panic");

    let mut job = client.submit(Job::new("chatty", "")).expect("taken");
    assert!(job.accepted().is_ok());
    let rest: Vec<_> = std::iter::from_fn(|| job.next_event()).collect();
    let progress = |event: &JobEvent| matches!(event, JobEvent::Progress { numerator: 1, denominator: 2 });
    let [JobEvent::Data(one), JobEvent::Warning(careful), third, JobEvent::Data(two), JobEvent::Done(done)] = &rest[..]
    else {
        panic!("{rest:?}")
    };
    assert_eq!((&one[..], &careful[..], &two[..]), (&b"one"[..], &b"careful"[..], &b"two"[..]));
    assert!(progress(third));
    assert_eq!(*done, Outcome::Complete("done".into()));
    drop(worker);
}

#[test]
fn panics_fail_the_job_where_told_so() {
    let server = server();
    let worker = Worker::builder()
        .server(server.address())
        .panics_fail(true)
        .function("panic", |_| -> Result<Vec<u8>, _> { panic!("dropped the ball") })
        .spawn()
        .expect("a worker");
    let result = client(server.address()).submit(Job::new("panic", "")).expect("taken").wait();
    assert_eq!(result, Err(JobError::Failed));
    drop(worker);
}

#[test]
fn background_jobs_end_when_they_are_queued() {
    let server = server();
    let client = client(server.address());
    let mut job = client.submit(Job::new("later", "x").background()).expect("taken");
    let handle = job.accepted().expect("queued");
    let server_id = client.servers()[0].server;
    let status = client.status_of(server_id, handle).expect("an answer");
    assert!(status.known && !status.running);
    assert_eq!(client.submit(Job::new("later", "x").background()).expect("taken").wait(), Ok("".into()));

    let worker = Worker::builder().server(server.address()).can_do("later").build().expect("a worker");
    for _ in 0..2 {
        let task = worker.next().expect("a job");
        assert_eq!((task.function(), &task.payload()[..]), (&b"later"[..], &b"x"[..]));
        task.complete("").expect("ours");
    }
    assert!(worker.next_timeout(Duration::from_millis(20)).is_none());
    worker.drain(PATIENCE).expect("drained");
    assert!(worker.next().is_none());
}

#[test]
fn an_unanswered_task_fails() {
    let server = server();
    let worker = Worker::builder().server(server.address()).can_do("forget").build().expect("a worker");
    let job = client(server.address()).submit(Job::new("forget", "")).expect("taken");
    drop(worker.next().expect("a job"));
    assert_eq!(job.wait(), Err(JobError::Failed));
}

#[test]
fn echo_and_status_are_answered() {
    let server = server();
    let client = client(server.address());
    let server_id = client.servers()[0].server;
    assert_eq!(client.echo(server_id, "ping").expect("an answer"), "ping");
    assert!(!client.status_unique(server_id, "nobody").expect("an answer").known);
    let job = client.submit(Job::new("nobody does this", "")).expect("taken");
    wait_until("the job has a handle", PATIENCE, || client.status(job.id()).is_ok_and(|status| status.known));
    job.abandon();
    client.close();
    assert!(matches!(client.echo(server_id, "ping"), Err(Error::Refused(Reason::Closed))));
}

#[test]
fn a_set_gives_each_job_its_own_result() {
    let server = server();
    let worker = worker(server.address(), 4);
    let client = client(server.address());
    let mut set = client.set();
    let mut expected = BTreeMap::new();
    for number in 0..1000 {
        let payload = format!("payload {number}");
        expected.insert(set.submit(Job::new("echo", payload.clone())).expect("taken"), payload);
    }
    // Further ones as the first are done: some are written together.
    let mut more = 0;
    while let Some((job, outcome)) = set.next() {
        let payload = expected.remove(&job).expect("once");
        assert_eq!(outcome, Outcome::Complete(payload.into()));
        if more < 1000 {
            more += 1;
            let payload = format!("more {more}");
            expected.insert(set.submit(Job::new("echo", payload.clone())).expect("taken"), payload);
        }
    }
    assert!(expected.is_empty());
    assert_eq!(set.outstanding(), 0);
    drop(worker);
}

#[test]
fn many_threads_share_a_client() {
    let server = server();
    let worker = worker(server.address(), 2);
    let client = client(server.address());
    thread::scope(|scope| {
        for number in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for turn in 0..200 {
                    let payload = format!("{number}/{turn}");
                    let result = client.submit(Job::new("echo", payload.clone())).expect("taken").wait();
                    assert_eq!(result, Ok(payload.into()));
                }
            });
        }
    });
    drop(worker);
}

#[test]
fn a_worker_runs_as_many_jobs_at_once_as_it_says() {
    let server = server();
    let together = Arc::new(Barrier::new(4));
    let all = together.clone();
    let meet = move |_: &mut gearwheel::blocking::Task| {
        all.wait();
        Ok("met")
    };
    let worker = Worker::builder().server(server.address()).concurrency(4).function("meet", meet).spawn();
    let client = client(server.address());
    let mut set = client.set();
    for _ in 0..4 {
        set.submit(Job::new("meet", "")).expect("taken");
    }
    assert!((&mut set).all(|(_, outcome)| outcome == Outcome::Complete("met".into())));
    drop(worker);
}

#[test]
fn a_worker_of_two_servers_serves_both() {
    let (one, two) = (server(), server());
    let worker = Worker::builder()
        .servers([one.address(), two.address()])
        .function("echo", |task| Ok(task.payload().clone()))
        .spawn()
        .expect("a worker");
    for _ in 0..20 {
        for server in [&one, &two] {
            let job = client(server.address()).submit(Job::new("echo", "x")).expect("taken");
            assert_eq!(job.wait(), Ok("x".into()));
        }
    }
    drop(worker);
}

#[test]
fn drain_finishes_what_runs() {
    let server = server();
    let (started, has_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let worker = Worker::builder()
        .server(server.address())
        .function("slow", move |_| {
            started.send(())?;
            may_go_on.lock().expect("one").recv()?;
            Ok("finished")
        })
        .spawn()
        .expect("a worker");
    let client = client(server.address());
    let job = client.submit(Job::new("slow", "")).expect("taken");
    has_started.recv().expect("it starts");
    let drainers = [(), ()].map(|()| {
        let worker = worker.worker().clone();
        thread::spawn(move || worker.drain(PATIENCE))
    });
    wait_until("one drain is refused", PATIENCE, || drainers.iter().any(|drainer| drainer.is_finished()));
    go_on.send(()).expect("it listens");
    assert_eq!(job.wait(), Ok("finished".into()));
    let mut results = drainers.map(|drainer| drainer.join().expect("no panic"));
    results.sort_by_key(Result::is_err);
    assert!(matches!(results, [Ok(()), Err(Error::Draining)]), "{results:?}");
    assert!(worker.worker().next().is_none());
    worker.join();
}

#[test]
fn a_result_over_the_limit_fails_its_job_and_the_worker_runs_the_next() {
    let server = server();
    let worker = Worker::builder()
        .server(server.address())
        .configure(|config| config.limits.max_packet = 1024)
        .function("repeat", |task| Ok(task.payload().repeat(100)))
        .spawn()
        .expect("a thread");
    let client = client(server.address());
    for _ in 0..2 {
        let large = client.submit(Job::new("repeat", "0123456789")).expect("taken");
        assert_eq!(large.wait(), Err(JobError::Failed));
        assert_eq!(client.submit(Job::new("repeat", "x")).expect("taken").wait().map(|result| result.len()), Ok(100));
    }
    assert_eq!(worker.worker().counters().answered, 4);
    worker.drain(PATIENCE).expect("nothing is left");
}

#[test]
fn a_job_that_is_lost_before_it_is_begun_is_not_run() {
    let mut server = server();
    let (events, seen) = mpsc::channel();
    let ran = Arc::new(AtomicBool::new(false));
    let runs = ran.clone();
    let worker = Worker::builder()
        .server(server.address())
        .function("f", move |_| {
            runs.store(true, Ordering::Relaxed);
            Ok("")
        })
        .on_event(move |event| drop(events.send(event)))
        .build()
        .expect("a worker");
    assert!(matches!(seen.recv_timeout(PATIENCE), Ok(worker::Event::Connected { .. })));
    let job = client(server.address()).submit(Job::new("f", "")).expect("taken");
    wait_until("the job is there", PATIENCE, || worker.counters().assigned == 1);
    server.kill();
    assert!(matches!(seen.recv_timeout(PATIENCE), Ok(worker::Event::Disconnected { .. })));
    worker.finish();
    worker.run();
    assert!(!ran.load(Ordering::Relaxed));
    assert_eq!((worker.counters().answered, worker.counters().dropped), (0, 1));
    assert!(matches!(job.wait(), Err(JobError::Lost { .. })));
}

#[test]
fn drain_reports_what_is_not_done_in_time() {
    let server = server();
    let worker = Worker::builder().server(server.address()).can_do("slow").build().expect("a worker");
    let client = client(server.address());
    let job = client.submit(Job::new("slow", "")).expect("taken");
    let task = worker.next().expect("a job");
    assert!(!task.is_cancelled());
    let Err(Error::Unfinished { jobs: 1 }) = worker.drain(Duration::from_millis(20)) else { panic!("one is left") };
    assert!(task.is_cancelled());
    assert!(task.complete("too late").is_err());

    let other = Worker::builder().server(server.address()).can_do("slow").build().expect("a worker");
    other.next().expect("the job again").complete("in time").expect("ours");
    assert_eq!(job.wait(), Ok("in time".into()));
}

#[test]
fn a_client_dropped_with_jobs_in_flight_ends_its_threads() {
    let server = server();
    let events = Arc::new(());
    {
        let held = events.clone();
        let client = Client::builder().server(server.address()).on_event(move |_| drop(held.clone())).build();
        let client = client.expect("a client");
        let mut set = client.set();
        for _ in 0..100 {
            set.submit(Job::new("nobody does this", "x")).expect("taken");
        }
        let job = client.submit(Job::new("nobody does this", "x")).expect("taken");
        assert!(job.wait_timeout(Duration::from_millis(5)).is_err());
    }
    // The listener lived in the threads.
    wait_until("the threads have ended", PATIENCE, || Arc::strong_count(&events) == 1);
}

#[test]
fn closing_a_client_ends_its_jobs_and_refuses_others() {
    let server = server();
    let client = client(server.address());
    let mut job = client.submit(Job::new("nobody does this", "")).expect("taken");
    job.accepted().expect("taken by the server");
    let closer = client.clone();
    let waiting = thread::spawn(move || job.wait());
    closer.close();
    let result = waiting.join().expect("no panic");
    assert_eq!(result, Err(JobError::Cancelled { phase: Phase::Accepted }));
    let rejected = client.submit(Job::new("f", "x")).expect_err("closed");
    assert_eq!((rejected.reason, rejected.value), (Reason::Closed, Job::new("f", "x")));
}

#[test]
fn a_client_survives_its_server() {
    let mut server = server();
    let (events, seen) = mpsc::channel();
    let client = Client::builder()
        .server(server.address())
        .on_event(move |event| drop(events.send(event)))
        .configure(|config| config.connecting.retry_most = Duration::from_millis(200))
        .build()
        .expect("a client");
    let worker = Worker::builder()
        .server(server.address())
        .configure(|config| config.connecting.retry_most = Duration::from_millis(200))
        .function("echo", |task| Ok(task.payload().clone()))
        .spawn()
        .expect("a worker");
    assert_eq!(client.submit(Job::new("echo", "1")).expect("taken").wait(), Ok("1".into()));
    let mut stuck = client.submit(Job::new("nobody does this", "")).expect("taken");
    stuck.accepted().expect("taken by the server");
    server.kill();
    let Err(JobError::Lost { phase: Phase::Accepted, .. }) = stuck.wait() else { panic!("it was lost") };
    let waits = client.submit(Job::new("echo", "2").timeout(PATIENCE)).expect("taken");
    server.restart();
    assert_eq!(waits.wait(), Ok("2".into()), "a job that was never sent is not lost");
    assert!(matches!(seen.recv(), Ok(client::Event::Connected { .. })));
    assert!(matches!(seen.recv(), Ok(client::Event::Disconnected { .. })));
    drop(worker);
}

#[test]
fn nobody_there_is_an_outcome() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], peers::free_port()));
    let client = Client::builder().server(nobody).build().expect("a client");
    let job = Job::new("echo", "").timeout(Duration::from_millis(50)).retry(Retry::Never);
    let started = Instant::now();
    let outcome = client.submit(job).expect("taken").outcome();
    assert!(matches!(outcome, Outcome::TimedOut { phase: Phase::Parked, .. } | Outcome::Lost { .. }), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_cannot_be_is_said_by_build() {
    let config = |error: Error| match error {
        Error::Config(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(Client::builder().build().map(drop).map_err(config), Err(ConfigError::NoServers));
    let bad = Client::builder().server("a b").server("also bad:x").build();
    assert_eq!(bad.map(drop).map_err(config), Err(ConfigError::BadAddress { text: "a b".into() }));
    let twice = Client::builder().server("h:1").server(("h", 1)).build().map(drop).map_err(config);
    assert!(matches!(twice, Err(ConfigError::DuplicateServer(_))));
    let worker = || Worker::builder().server("127.0.0.1:1");
    assert_eq!(worker().can_do("").build().map(drop).map_err(config), Err(ConfigError::EmptyFunction));
    let twice = worker().can_do("f").can_do("f").build().map(drop).map_err(config);
    assert!(matches!(twice, Err(ConfigError::DuplicateFunction { .. })));
    assert_eq!(worker().concurrency(0).build().map(drop).map_err(config), Err(ConfigError::Zero("concurrency")));
}

#[test]
fn a_time_out_is_told_in_time_while_the_caller_reads() {
    let server = server();
    let client = client(server.address());
    // Long enough to read by itself, several times.
    for _ in 0..2 {
        let started = Instant::now();
        let mut job =
            client.submit(Job::new("nobody does this", "").timeout(Duration::from_millis(300))).expect("taken");
        job.accepted().expect("taken by the server");
        assert!(matches!(job.wait(), Err(JobError::TimedOut { phase: Phase::Accepted, .. })));
        let took = started.elapsed();
        assert!((300..600).contains(&took.as_millis()), "{took:?}");
    }
}

#[test]
fn a_caller_who_has_something_due_at_once_reads_on_after_it() {
    let server = server();
    let _worker = worker(server.address(), 1);
    let probes = |config: &mut client::Config| config.connecting.probe_after = Some(Duration::from_millis(20));
    let client =
        Client::builder().server(server.address()).timeout(PATIENCE).configure(probes).build().expect("a client");
    // One after another, so that some jobs are waited for in the last millisecond before each probe.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        let submitted = Instant::now();
        assert_eq!(client.submit(Job::new("echo", "x")).expect("taken").wait().expect("an answer"), "x");
        let took = submitted.elapsed();
        assert!(took < PATIENCE / 2, "{took:?}");
    }
}

#[test]
fn a_time_out_is_told_while_much_comes_that_nobody_wants() {
    // JOB_CREATED for each submission, and WORK_DATA of the first job without end in between.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut from = stream.try_clone().expect("a second name");
        let (tell, submissions) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(1..) = from.read(&mut bytes)
                && tell.send(()).is_ok()
            {}
        });
        let packet = |kind: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).expect("a short one");
            [b"\0RES\0\0\0", &[kind][..], b"\0\0\0", &[length], body].concat()
        };
        let flood = packet(28, b"H:1\0part").repeat(500);
        submissions.recv().expect("a job");
        let mut bytes = packet(8, b"H:1");
        let mut job = 1;
        loop {
            bytes.extend(&flood);
            if stream.write_all(&bytes).is_err() {
                return;
            }
            bytes.clear();
            for () in submissions.try_iter() {
                job += 1;
                bytes.extend(packet(8, format!("H:{job}").as_bytes()));
            }
        }
    });
    let client = client(address);
    for _ in 0..20 {
        let started = Instant::now();
        let job = client.submit(Job::new("f", "").timeout(Duration::from_millis(20))).expect("taken");
        let outcome = job.outcome();
        assert!(matches!(outcome, Outcome::TimedOut { .. }), "{outcome:?}");
        let took = started.elapsed();
        assert!(took < PATIENCE / 4, "{took:?}");
    }
    drop(client);
    server.join().expect("it has not panicked");
}

#[test]
fn big_payloads_cross_without_deadlock() {
    let server = server();
    let worker = worker(server.address(), 2);
    let client = client(server.address());
    let payload: Vec<u8> = (0..8_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
    let mut set = client.set();
    for _ in 0..6 {
        set.submit(Job::new("echo", payload.clone())).expect("taken");
    }
    for (_, outcome) in &mut set {
        let Outcome::Complete(result) = outcome else { panic!("{outcome:?}") };
        assert!(result == payload);
    }
    drop(worker);
}

/// A peer that writes 8 MiB before it reads a byte of the 8 MiB that are written to it.
#[test]
fn full_sockets_both_ways_do_not_deadlock() {
    const SIZE: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = client(listener.local_addr().expect("bound"));
    let job = client.submit(Job::new("echo", vec![1; SIZE]).timeout(PATIENCE)).expect("taken");
    let (mut socket, _) = listener.accept().expect("the client");
    let peer = thread::spawn(move || {
        // OPTION_RES, then JOB_CREATED, then WORK_DATA: nothing of what the client writes is read before all is written.
        let handle = b"H:t:1";
        let packet = |kind: u8, body: &[&[u8]]| {
            let body = body.join(&0);
            let size = u32::try_from(body.len()).expect("small").to_be_bytes();
            [&b"\0RES\0\0\0"[..], &[kind], &size, &body].concat()
        };
        let data = packet(28, &[handle, &vec![2; SIZE]]);
        let all = [packet(27, &[b"exceptions"]), packet(8, &[handle]), data, packet(13, &[handle, b"ok"])].concat();
        socket.write_all(&all).expect("the client reads though it cannot write");
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        while taken < SIZE {
            match socket.read(&mut buffer).expect("the rest") {
                0 => break,
                count => taken += count,
            }
        }
        (socket, taken)
    });
    let mut job = job;
    let mut came = 0;
    let result = loop {
        match job.next_event().expect("not ended") {
            JobEvent::Data(data) => came += data.len(),
            JobEvent::Done(outcome) => break outcome,
            _ => {}
        }
    };
    let (_socket, taken) = peer.join().expect("no panic");
    assert_eq!((came, result), (SIZE, Outcome::Complete("ok".into())));
    assert!(taken >= SIZE, "{taken}");
}

/// Times that any thread of this process gave up the processor by itself or was woken, of threads with `name`.
#[cfg(target_os = "linux")]
fn switches(names: &[&str]) -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let ours = status.filter(|text| names.iter().any(|name| text.starts_with(&format!("Name:\t{name}"))));
    let count = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    ours.filter_map(count).sum()
}

/// In a process of its own, as other tests have threads of these names.
#[test]
#[cfg(target_os = "linux")]
fn at_rest_nothing_wakes() {
    let server = server();
    if std::env::var_os("GEARWHEEL_ALONE").is_none() {
        let myself = std::env::current_exe().expect("a test");
        let mut command = std::process::Command::new(myself);
        command.args(["--exact", "at_rest_nothing_wakes", "--nocapture"]).env("GEARWHEEL_ALONE", "1");
        let ended = peers::run(&mut command, b"");
        assert!(ended.status.success(), "{}{}", ended.text(), ended.errors());
        return;
    }
    let worker = worker(server.address(), 1);
    let client = client(server.address());
    for _ in 0..100 {
        assert!(client.submit(Job::new("echo", "x")).expect("taken").wait().is_ok());
    }
    let names = ["gearwheel-clock", "gearwheel-conn", "gearwheel-run"];
    let rest = || {
        let before = switches(&names);
        drop(TcpListener::bind("127.0.0.1:0").expect("a port").set_nonblocking(true));
        let (_never, wait) = mpsc::channel::<()>();
        assert!(wait.recv_timeout(Duration::from_millis(400)).is_err());
        switches(&names) - before
    };
    // The worker itself reads for a second, then leaves that to its connection's thread.
    wait_until("nothing wakes any more", PATIENCE, || rest() == 0);
    assert_eq!(rest(), 0);
    assert!(client.submit(Job::new("echo", "x")).expect("taken").wait().is_ok());
    drop((worker, TcpStream::connect(server.address())));
}

#[test]
fn a_worker_tells_what_became_of_its_connections() {
    let mut server = server();
    let (events, seen) = mpsc::channel();
    let worker = Worker::builder()
        .server(server.address())
        .can_do("f")
        .on_event(move |event| drop(events.send(event)))
        .build()
        .expect("a worker");
    assert!(matches!(seen.recv_timeout(PATIENCE), Ok(worker::Event::Connected { .. })));
    let job = client(server.address()).submit(Job::new("f", "")).expect("taken");
    let task = worker.next().expect("a job");
    server.kill();
    assert!(matches!(seen.recv_timeout(PATIENCE), Ok(worker::Event::Disconnected { .. })));
    assert!(task.is_cancelled());
    assert!(matches!(job.wait(), Err(JobError::Lost { .. })));
    worker.close();
    assert!(matches!(seen.recv_timeout(PATIENCE), Ok(worker::Event::Closed)));
    assert!(worker.next().is_none());
}

#[test]
fn a_server_drains_and_hands_its_jobs_on() {
    let server = Server::bind("127.0.0.1:0").expect("a free port");
    let at = server.local_addr();
    let worker = Worker::builder().server(at).can_do("now").build().expect("a worker");
    let client = client(at);
    let runs = client.submit(Job::new("now", "")).expect("taken");
    for payload in ["a", "b"] {
        client.submit(Job::new("later", payload).background()).expect("taken").wait().expect("queued");
    }
    let task = worker.next().expect("a job");
    let (server, drained) = thread::scope(|scope| {
        let drain = scope.spawn(|| server.drain(PATIENCE));
        wait_until("nobody new is let in", PATIENCE, || TcpStream::connect(at).is_err());
        assert!(matches!(server.drain(PATIENCE), Err(Error::Draining)));
        task.complete("done").expect("ours");
        let drained = drain.join().expect("no panic");
        (&server, drained)
    });
    drained.expect("in time");
    assert_eq!(runs.wait(), Ok("done".into()));

    let next = Server::builder().restore(server.queued()).bind("127.0.0.1:0").expect("a server");
    let worker = Worker::builder().server(next.local_addr()).can_do("later").build().expect("a worker");
    for payload in ["a", "b"] {
        let task = worker.next().expect("a job");
        assert_eq!(task.payload(), payload);
        task.complete("").expect("ours");
    }
}

#[test]
fn a_server_that_is_stopped_has_ended() {
    let server = Server::bind("[::1]:0").or_else(|_| Server::bind("127.0.0.1:0")).expect("a free port");
    let socket = TcpStream::connect(server.local_addr()).expect("it listens");
    wait_until("the connection is counted", PATIENCE, || server.counters().connections == 1);
    server.close();
    server.wait();
    assert_eq!(server.counters().connections, 0);
    wait_until("it listens no more", PATIENCE, || TcpStream::connect(server.local_addr()).is_err());
    drop(socket);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let error = Server::bind(taken.local_addr().expect("bound")).map(drop);
    assert!(matches!(error, Err(Error::Io { what: "listen", .. })), "{error:?}");
}

/// A client that does not read the 20 MiB it is sent: its worker's connection, on which they came, must still be served.
#[test]
fn a_slow_reader_holds_up_nobody_else() {
    const SIZE: usize = 20 << 20;
    let server = server();
    let worker = Worker::builder()
        .server(server.address())
        .function("big", |_| Ok(vec![7; SIZE]))
        .function("echo", |task| Ok(task.payload().clone()))
        .spawn()
        .expect("a worker");
    let mut slow = TcpStream::connect(server.address()).expect("it listens");
    slow.write_all(b"\0REQ\0\0\0\x07\0\0\0\x05big\0\0").expect("room for a small job");
    let client = client(server.address());
    wait_until("the big job is done", PATIENCE, || server.server.as_ref().is_some_and(|s| s.counters().completed == 1));
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(client.submit(Job::new("echo", "x")).expect("taken").wait(), Ok("x".into()));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    // In the end it gets all of it.
    let mut header = [0; 12];
    for kind in [8, 13] {
        slow.read_exact(&mut header).expect("a packet");
        assert_eq!(header[..8], [0, b'R', b'E', b'S', 0, 0, 0, kind]);
        let size = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let mut body = vec![0; size.try_into().expect("32 bits")];
        slow.read_exact(&mut body).expect("its body");
        assert!(kind == 8 || body.ends_with(&[7; 1000]) && body.len() > SIZE);
    }
    drop(worker);
}

/// A thread in the user's function cannot be ended: it is waited for, or each attempt would leave another.
#[test]
fn a_set_that_drops_what_fills_it_reads_on_at_once() {
    let server = server();
    let client = Client::builder()
        .server(server.address())
        .timeout(PATIENCE)
        .configure(|config| {
            // A part is too much, and the connection stands still until it has been taken.
            (config.limits.max_unread, config.unread) = (1, client::Unread::Pause);
        })
        .build()
        .expect("a client");
    let _worker = worker(server.address(), 1);
    let mut set = client.set_with_events();
    set.submit(Job::new("chatty", "x")).expect("taken");
    let begun = Instant::now();
    let (_, outcome) = set.next().expect("it ends");
    assert_eq!(outcome, Outcome::Complete("done".into()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn attempts_to_connect_that_hang_are_bounded() {
    let (asked, attempts) = mpsc::channel();
    let hangs = Arc::new(Barrier::new(9));
    let barrier = hangs.clone();
    let (told, reasons) = mpsc::channel();
    let client = Client::builder()
        .server("there")
        .connect_timeout(Duration::from_millis(10))
        .configure(|config| config.connecting.retry_most = Duration::from_millis(10))
        .connect_with(move |address| -> std::io::Result<TcpStream> {
            asked.send(address).expect("somebody counts");
            barrier.wait();
            Err(std::io::Error::other("too late"))
        })
        .on_event(move |event| {
            if let client::Event::Disconnected { reason, .. } = event {
                let _ = told.send(reason.to_string());
            }
        })
        .build()
        .expect("a client");
    let job = client.submit(Job::new("f", "")).expect("taken");
    let refusal = "earlier attempts to connect have not come to an end";
    let failed = std::iter::from_fn(|| reasons.recv_timeout(PATIENCE).ok()).take_while(|reason| reason != refusal);
    assert_eq!(failed.count(), 8, "each by its deadline");
    assert_eq!(attempts.try_iter().count(), 8);
    hangs.wait();
    attempts.recv_timeout(PATIENCE).expect("there is room for attempts again");
    client.close();
    assert!(job.wait().is_err());
}

#[test]
fn the_listener_of_a_worker_hears_at_once_what_comes_of_a_result() {
    let (servers, (told, heard)) = ([server(), server()], mpsc::channel());
    let (begun, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let worker = Worker::builder()
        .servers(servers.iter().map(House::address))
        .function("f", move |_| {
            begun.send(()).expect("somebody waits");
            goes_on.lock().expect("no panic").recv().expect("it is told");
            Ok("")
        })
        .on_event(move |event| {
            if let worker::Event::Unregistered { function } = event {
                let _ = told.send(function);
            }
        })
        .spawn()
        .expect("a worker");
    let is_up = |server: worker::JobServer| server.state == LinkState::Up;
    wait_until("both are connected", PATIENCE, || worker.worker().servers().into_iter().all(is_up));
    let job = client(servers[0].address()).submit(Job::new("f", "")).expect("taken");
    begins.recv_timeout(PATIENCE).expect("the job has begun");
    worker.worker().unregister(b"f").expect("it is offered");
    go_on.send(()).expect("it waits");
    assert_eq!(job.wait(), Ok("".into()));
    // Not only when something else is next due.
    assert_eq!(heard.recv_timeout(PATIENCE / 4).as_deref(), Ok(&b"f"[..]));
}

#[test]
fn who_waits_for_one_job_server_is_not_forgotten_when_another_is_added() {
    for _ in 0..3 {
        let (first, second) = (server(), server());
        let worker = worker(first.address(), 2);
        let client = client(first.address());
        let echo = || client.submit(Job::new("echo", "x")).expect("taken").wait();
        // One thread of the worker reads now, and the other waits for its turn.
        assert_eq!(echo(), Ok("x".into()));
        worker.worker().add_server(second.address()).expect("another");
        let asked = Instant::now();
        assert_eq!(echo(), Ok("x".into()));
        assert!(asked.elapsed() < PATIENCE / 4, "only when something else was due: {:?}", asked.elapsed());
    }
}

/// TCP that stops writers, as long as it is told to, or breaks when it is read.
struct Valve {
    stream: TcpStream,
    state: Arc<ValveState>,
}

#[derive(Default)]
struct ValveState {
    /// The next write waits.
    closes: AtomicBool,
    /// A write waits until this is false.
    closed: AtomicBool,
    /// Reads fail from now on, first for a reason and then as at an end.
    breaks: AtomicBool,
    broken_reads: AtomicUsize,
}

impl Duplex for Valve {
    fn read(&self, into: &mut [u8]) -> std::io::Result<usize> {
        let came = (&self.stream).read(into);
        match self.state.breaks.load(Ordering::SeqCst) {
            false => came,
            true if self.state.broken_reads.fetch_add(1, Ordering::SeqCst) == 0 => {
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            true => Ok(0),
        }
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.state.closes.swap(false, Ordering::SeqCst) {
            self.state.closed.store(true, Ordering::SeqCst);
            wait_until("the valve is open", PATIENCE, || !self.state.closed.load(Ordering::SeqCst));
        }
        (&self.stream).write(bytes)
    }

    fn set_read_timeout(&self, within: Option<Duration>) -> std::io::Result<()> {
        self.stream.set_read_timeout(within)
    }

    fn set_write_timeout(&self, within: Option<Duration>) -> std::io::Result<()> {
        self.stream.set_write_timeout(within)
    }

    fn shutdown(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl ValveState {
    fn client(self: &Arc<Self>, servers: &[House]) -> Client {
        let state = self.clone();
        Client::builder()
            .servers(servers.iter().map(House::address))
            .balance(Balance::RoundRobin)
            .timeout(PATIENCE)
            .connect_with(move |at| {
                let stream = TcpStream::connect(at.to_string())?;
                Ok(Stream::object(Valve { stream, state: state.clone() }))
            })
            .build()
            .expect("a client")
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

#[test]
fn why_a_connection_broke_is_told_though_somebody_was_writing() {
    let (servers, state) = ([server()], Arc::new(ValveState::default()));
    let client = state.client(&servers);
    // There is no worker: it waits.
    let mut first = client.submit(Job::new("f", "").retry(Retry::Never)).expect("taken");
    first.accepted().expect("the server has it");
    state.closes.store(true, Ordering::SeqCst);
    let other = client.clone();
    let writer = thread::spawn(move || other.submit(Job::new("f", "").retry(Retry::Never)).map(|job| job.outcome()));
    wait_until("somebody writes", PATIENCE, || state.is_closed());
    state.breaks.store(true, Ordering::SeqCst);
    drop(servers);
    wait_until("it is read", PATIENCE, || state.broken_reads.load(Ordering::SeqCst) > 0);
    // Nobody shall read again, so that there is nothing to wait for but time.
    thread::park_timeout(Duration::from_millis(50));
    state.closed.store(false, Ordering::SeqCst);
    let lost = |outcome: &Outcome| matches!(outcome, Outcome::Lost { reason: CloseReason::Reset, .. });
    let outcomes = [first.outcome(), writer.join().expect("no panic").expect("taken")];
    assert!(outcomes.iter().all(lost), "{outcomes:?}");
    assert_eq!(state.broken_reads.load(Ordering::SeqCst), 1);
}

#[test]
fn what_was_put_off_and_then_written_by_another_stops_nobody() {
    let (servers, state) = ([server(), server()], Arc::new(ValveState::default()));
    let _workers = servers.each_ref().map(|server| worker(server.address(), 1));
    let client = state.client(&servers);
    let mut set = client.set();
    for round in 0..5 {
        // While outcomes wait to be taken, what the set submits is put off.
        set.submit(Job::new("echo", "")).expect("taken");
        wait_until("an outcome waits", PATIENCE, || set.outstanding() == 0);
        state.closes.store(true, Ordering::SeqCst);
        let other = client.clone();
        let writer = thread::spawn(move || other.submit(Job::new("echo", "")).map(|job| job.wait()));
        wait_until("somebody writes", PATIENCE, || state.is_closed());
        for _ in 0..4 {
            set.submit(Job::new("echo", "")).expect("taken");
        }
        state.closed.store(false, Ordering::SeqCst);
        let freed = Instant::now();
        assert_eq!(writer.join().expect("no panic").expect("taken"), Ok("".into()));
        // What was put off would be due for the clock's thread before the next look.
        wait_until("all have ended", PATIENCE, || set.outstanding() == 0);
        assert!(freed.elapsed() < PATIENCE / 4, "round {round}: {:?}", freed.elapsed());
        while set.next_timeout(Duration::ZERO).is_some() {}
    }
}
