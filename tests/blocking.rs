//! The blocking runtime on real sockets.
#![cfg(feature = "blocking")]

#[path = "blocking/driver.rs"]
mod driver;
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
fn each_end_is_taken_once_whoever_asks_for_it() {
    let server = server();
    let client = client(server.address());
    let _worker = worker(server.address(), 1);
    for events in [false, true] {
        let mut set = if events { client.set_with_events() } else { client.set() };
        let mut jobs: Vec<_> = (0..50).map(|_| set.submit(Job::new("echo", "")).expect("taken")).collect();
        wait_until("all have ended", PATIENCE, || set.outstanding() == 0);
        let mut ended = vec![set.next().expect("an end").0];
        while ended.len() < 40 {
            if let (job, JobEvent::Done(_)) = set.next_event().expect("there are more") {
                ended.push(job);
            }
            ended.push(set.next_timeout(Duration::ZERO).expect("there are more").0);
        }
        // What has been taken out of the mailbox by now is not what comes last.
        let late = set.submit(Job::new("echo", "")).expect("taken");
        while let Some((job, _)) = set.next() {
            ended.push(job);
        }
        assert!(set.next_event().is_none());
        assert_eq!(ended.pop(), Some(late));
        ended.sort_unstable();
        jobs.sort_unstable();
        assert_eq!(ended, jobs);
    }
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
    assert_eq!(job.wait_timeout(Duration::ZERO).expect("it has ended, as was told"), Ok("".into()));
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
fn a_result_over_the_limit_is_thrown_as_such_and_the_worker_runs_the_next() {
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
        let text = "the worker cannot send the result: the payload has 1000 bytes; the limit is 959";
        assert_eq!(large.wait(), Err(JobError::Exception(text.into())));
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
fn last_words_are_written_in_the_listener_of_another() {
    const SIZE: usize = 16 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut begun = vec![0; 1 << 20];
        stream.read_exact(&mut begun).expect("a part of the job");
        // The rest does not fit between them: who closes now has to wait.
        thread::park_timeout(Duration::from_millis(100));
        let rest = std::io::copy(&mut stream, &mut std::io::sink()).expect("all that is sent");
        begun.len() + usize::try_from(rest).expect("no more than was sent")
    });
    let other = Client::builder().server("127.0.0.1:1").on_event(move |event| {
        if matches!(event, client::Event::Closed) {
            let client = Client::builder().server(address).exceptions(false).build().expect("a client");
            let job = client.submit(Job::new("f", vec![7; SIZE]).background()).expect("taken");
            wait_until("it is connected", PATIENCE, || client.servers()[0].state == LinkState::Up);
            drop((job, client));
        }
    });
    other.build().expect("a client").close();
    let came = reader.join().expect("no panic");
    assert!(came > SIZE, "{came} bytes came of {SIZE}");
}

#[test]
fn whoever_has_a_job_no_more_need_not_wait_for_room_behind_others() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a worker");
        for assigned in [&b"\0RES\0\0\0\x1f\0\0\0\x0aH:1\0long\0\0"[..], b"\0RES\0\0\0\x1f\0\0\0\x0bH:2\0short\0\0"] {
            // Until it asks for a job.
            let (mut header, mut body) = ([0; 12], [0; 100]);
            while header[7] != 30 {
                stream.read_exact(&mut header).expect("a packet");
                stream.read_exact(&mut body[..header[11].into()]).expect("its body");
            }
            stream.write_all(assigned).expect("it is connected");
        }
        stream
    });
    let worker = Worker::builder()
        .server(address)
        .concurrency(2)
        .can_do("long")
        .can_do_timeout("short", Duration::from_secs(1))
        .configure(|config| (config.limits.max_outgoing, config.connecting.probe_after) = (1 << 20, None))
        .build()
        .expect("a worker");
    let [long, short] = [(); 2].map(|()| worker.next().expect("a job"));
    let _unread = server.join().expect("no panic");
    // More than sockets take.
    long.data(vec![7; 64 << 20]).expect("one part may always be sent");
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| long.data("part").expect_err("the worker closes"));
        }
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(short.data("part").expect_err("its time is up").reason));
        let reason = told.recv_timeout(PATIENCE / 2);
        worker.close();
        assert!(matches!(reason, Ok(Reason::Unknown(_))), "{reason:?}");
    });
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
    assert!(started.elapsed() < PATIENCE / 4);
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
    // A timeout that a socket had before is none of ours.
    let client = Client::builder().server(server.address()).timeout(PATIENCE).connect_with(|at| {
        let stream = TcpStream::connect(at.to_string())?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(stream)
    });
    let client = client.build().expect("a client");
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
    wait_until("nothing wakes any more", PATIENCE, || (0..4).all(|_| rest() == 0));
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
