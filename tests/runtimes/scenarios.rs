//! What every runtime must do alike.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gearwheel::{Job, Outcome, Phase, Reason, Retry};

use crate::kinds::Kind;
use crate::kinds::any::{Error, JobError, JobEvent};
use crate::peers::{PATIENCE, free_port, wait_until};

pub(crate) fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn server<K: Kind>() -> K::Server {
    K::server(local(), |_| ())
}

pub(crate) fn client<K: Kind>(at: impl ToString) -> K::Client {
    K::client(&at.to_string(), |config| config.deadlines.total = Some(PATIENCE))
}

pub(crate) fn result<K: Kind>(client: &K::Client, job: Job) -> Result<bytes::Bytes, JobError> {
    K::wait(K::submit(client, job).expect("taken"))
}

/// Waits until a job server has the job.
pub(crate) fn accepted<K: Kind>(job: &mut K::Pending) {
    let first = K::next_event(job);
    assert!(matches!(first, Some(JobEvent::Created { .. })), "{first:?}");
}

pub(crate) fn a_job_goes_round<K: Kind>() {
    let server = server::<K>();
    goes_round::<K>(&K::address(&server));
}

pub(crate) fn a_job_goes_round_by_gearmand<K: Kind>() {
    let Some(server) = crate::secured::gearmand() else { return };
    goes_round::<K>(&server.address());
}

pub(crate) fn goes_round<K: Kind>(at: &impl ToString) {
    let worker = K::worker(at.to_string(), 1);
    let client = client::<K>(at.to_string());
    for payload in [&b""[..], b"x", b"hello \0 world", &[7; 70_000]] {
        let reversed: Vec<u8> = payload.iter().rev().copied().collect();
        assert_eq!(result::<K>(&client, Job::new("reverse", payload.to_vec())).as_deref(), Ok(&reversed[..]));
    }
    assert_eq!(result::<K>(&client, Job::new("echo", "later").background()).as_deref(), Ok(&b""[..]));
    K::drain(&worker, PATIENCE).expect("drained");
}

pub(crate) fn a_background_job_whose_handle_is_dropped_at_once_runs<K: Kind>() {
    let server = server::<K>();
    let client = client::<K>(K::address(&server));
    // Nothing is connected yet.
    for payload in ["one", "two"] {
        drop(K::submit(&client, Job::new("later", payload).background()).expect("taken"));
    }
    wait_until("both are queued", PATIENCE, || K::queued(&server).len() == 2);
    let worker = K::taker(K::address(&server), "later", |_| ());
    for payload in ["one", "two"] {
        let task = K::next(&worker).expect("a job");
        assert_eq!(task.payload(), payload);
        task.complete("").expect("ours");
    }
}

pub(crate) fn jobs_that_are_gone_are_not_given_out<K: Kind>() {
    let server = server::<K>();
    let worker = K::taker(K::address(&server), "f", |config| config.concurrency = 2);
    let client = client::<K>(K::address(&server));
    let jobs = ["one", "two"].map(|payload| K::submit(&client, Job::new("f", payload)).expect("taken"));
    let first = K::next(&worker).expect("a job");
    wait_until("the other waits here", PATIENCE, || K::counters(&server).running == 2);
    drop(server);
    wait_until("the first is gone", PATIENCE, || first.is_cancelled());
    let other = worker.clone();
    drop(first);
    let next = thread::spawn(move || K::next(&worker).map(drop));
    K::drain(&other, PATIENCE).expect("nothing is left");
    assert!(next.join().expect("no panic").is_none(), "that one is gone, too");
    drop(jobs);
}

pub(crate) fn what_a_handler_says_arrives<K: Kind>() {
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 1);
    let client = client::<K>(K::address(&server));
    let wait = |function: &'static str| result::<K>(&client, Job::new(function, ""));
    assert_eq!(wait("fail"), Err(JobError::Failed));
    assert_eq!(wait("throw"), Err(JobError::Exception((&b"\0bytes"[..]).into())));
    assert_eq!(wait("err"), Err(JobError::Exception("no good".into())));
    assert_eq!(wait("panic"), Err(JobError::Exception("dropped the ball".into())));
    assert!(matches!(wait("mute"), Err(JobError::Exception(_))));
    assert_eq!(wait("echo"), Ok("".into()), "the worker goes on after a panic");

    let mut job = K::submit(&client, Job::new("chatty", "")).expect("taken");
    let events: Vec<_> = std::iter::from_fn(|| K::next_event(&mut job)).collect();
    let [
        JobEvent::Created { .. },
        JobEvent::Data(one),
        JobEvent::Warning(careful),
        JobEvent::Progress { numerator: 1, denominator: 2 },
        JobEvent::Data(two),
        JobEvent::Done(Outcome::Complete(done)),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!([&one[..], &careful[..], &two[..], &done[..]], [&b"one"[..], b"careful", b"two", b"done"]);
    assert_eq!(K::next_event(&mut job), None);
    assert_eq!(K::wait(job), Ok("done".into()), "an end that was told is the end all the same");
    drop(worker);
}

pub(crate) fn a_thousand_jobs_at_once<K: Kind>() {
    let server = server::<K>();
    thousand_at_once::<K>(&K::address(&server));
    let counters = K::counters(&server);
    assert_eq!((counters.completed, counters.jobs), (1000, 0));
}

pub(crate) fn a_thousand_jobs_at_once_by_gearmand<K: Kind>() {
    let Some(server) = crate::secured::gearmand() else { return };
    thousand_at_once::<K>(&server.address());
}

pub(crate) fn thousand_at_once<K: Kind>(at: &impl ToString) {
    let worker = K::worker(at.to_string(), 8);
    let jobs = (0..1000).map(|number| Job::new("echo", number.to_string())).collect();
    let mut results: Vec<u32> = K::run_all(&client::<K>(at.to_string()), jobs, PATIENCE)
        .into_iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Complete(result) => std::str::from_utf8(&result).expect("text").parse().expect("a number"),
            other => panic!("{other:?}"),
        })
        .collect();
    results.sort_unstable();
    assert!(results.into_iter().eq(0..1000));
    drop(worker);
}

pub(crate) fn big_payloads_cross_with_full_sockets<K: Kind>() {
    let server = server::<K>();
    big_payloads::<K>(&K::address(&server));
}

pub(crate) fn big_payloads_cross_with_full_sockets_by_gearmand<K: Kind>() {
    let Some(server) = crate::secured::gearmand() else { return };
    big_payloads::<K>(&server.address());
}

pub(crate) fn big_payloads<K: Kind>(at: &impl ToString) {
    let worker = K::worker(at.to_string(), 4);
    let payload: bytes::Bytes = (0..1_u32 << 20).map(|at| at.to_le_bytes()[1]).collect::<Vec<u8>>().into();
    let jobs = (0..24).map(|_| Job::new("echo", payload.clone())).collect();
    for (_, outcome) in K::run_all(&client::<K>(at.to_string()), jobs, PATIENCE) {
        assert!(outcome == Outcome::Complete(payload.clone()));
    }
    drop(worker);
}

/// A peer that writes 8 MiB before it reads a byte of the 8 MiB that are written to it.
pub(crate) fn a_peer_that_writes_before_it_reads_blocks_nobody<K: Kind>() {
    const SIZE: usize = 8 << 20;
    let listener = TcpListener::bind(local()).expect("a port");
    let client = client::<K>(listener.local_addr().expect("bound"));
    let job = K::submit(&client, Job::new("echo", vec![1; SIZE])).expect("taken");
    let (mut socket, _) = listener.accept().expect("the client");
    let peer = thread::spawn(move || {
        let handle = b"H:t:1";
        let packets = [
            packet(b"\0RES", 27, &[b"exceptions"]),
            packet(b"\0RES", 8, &[handle]),
            packet(b"\0RES", 28, &[handle, &vec![2; SIZE]]),
            packet(b"\0RES", 13, &[handle, b"ok"]),
        ];
        socket.write_all(&packets.concat()).expect("the client reads though it cannot write");
        let mut taken = 0;
        let mut buffer = vec![0; 64 << 10];
        while taken < SIZE {
            taken += socket.read(&mut buffer).expect("the client writes");
        }
    });
    // The job cannot end before its last byte is written: it is not all sent when its result comes.
    let ended = K::wait(job);
    assert!(matches!(ended, Ok(_) | Err(JobError::Lost { .. })), "{ended:?}");
    drop(client);
    peer.join().expect("all was taken");
}

pub(crate) fn packet(magic: &[u8; 4], kind: u8, arguments: &[&[u8]]) -> Vec<u8> {
    let body = arguments.join(&0);
    let size = u32::try_from(body.len()).expect("small").to_be_bytes();
    [&magic[..], &[0, 0, 0, kind], &size, &body].concat()
}

pub(crate) fn the_server_is_killed_and_comes_back<K: Kind>() {
    let server = server::<K>();
    let at = K::address(&server);
    let mut server = Some(server);
    killed_and_back::<K>(&at, |dies| {
        server = None;
        if dies {
            wait_until("nobody listens", PATIENCE, || TcpStream::connect(at).is_err());
        } else {
            server = Some(K::server(at, |_| ()));
        }
    });
}

pub(crate) fn gearmand_is_killed_and_comes_back<K: Kind>() {
    let Some(mut server) = crate::secured::gearmand() else { return };
    killed_and_back::<K>(&server.address(), |dies| if dies { server.kill() } else { server.restart() });
}

pub(crate) fn killed_and_back<K: Kind>(at: &impl ToString, mut server: impl FnMut(bool)) {
    let worker = K::worker(at.to_string(), 1);
    let client = client::<K>(at.to_string());
    assert_eq!(result::<K>(&client, Job::new("echo", "1")), Ok("1".into()));
    let mut stuck = K::submit(&client, Job::new("nobody does this", "")).expect("taken");
    accepted::<K>(&mut stuck);
    server(true);
    let lost = K::wait(stuck);
    assert!(matches!(lost, Err(JobError::Lost { phase: Phase::Accepted, .. })), "{lost:?}");
    let waits = K::submit(&client, Job::new("echo", "2")).expect("taken");
    server(false);
    assert_eq!(K::wait(waits), Ok("2".into()), "a job that was never sent is not lost");
    drop(worker);
}

pub(crate) fn a_slow_reader_slows_nobody_else<K: Kind>() {
    let server = K::server(local(), |config| {
        config.limits.max_outgoing = 256 << 10;
        config.slow_reader = Duration::from_millis(100);
    });
    let at = K::address(&server);
    let worker = K::worker(at, 1);
    let mut slow = TcpStream::connect(at).expect("it listens");
    let job = packet(b"\0REQ", 7, &[b"echo", b"", &[1; 64 << 10]]);
    let writer = thread::spawn(move || {
        // It never reads. The server stops reading it, and then closes it: the write may fail.
        let _ = slow.write_all(&job.repeat(256));
        slow
    });
    let client = client::<K>(at);
    for _ in 0..20 {
        assert_eq!(result::<K>(&client, Job::new("echo", "quick")), Ok("quick".into()));
    }
    wait_until("the slow reader is closed", PATIENCE, || K::counters(&server).connections == 2);
    drop(writer.join().expect("no panic"));
    drop(worker);
}

pub(crate) fn who_closes_one_side_gets_the_answers_to_what_was_asked_before<K: Kind>() {
    let server = K::server(local(), |config| config.handle_prefix = "H:x".into());
    let mut peer = TcpStream::connect(K::address(&server)).expect("it listens");
    let asked = [packet(b"\0REQ", 16, &[b"x"]), packet(b"\0REQ", 18, &[b"f", b"", b""]), b"maxqueue f\n".to_vec()];
    peer.write_all(&asked.concat()).expect("written");
    peer.shutdown(Shutdown::Write).expect("still open");
    let mut answers = Vec::new();
    peer.read_to_end(&mut answers).expect("closed in order");
    let expected = [packet(b"\0RES", 17, &[b"x"]), packet(b"\0RES", 8, &[b"H:x:1"]), b"OK\r\n".to_vec()];
    assert_eq!(answers, expected.concat());
    wait_until("it is gone", PATIENCE, || K::counters(&server).connections == 0);
}

/// So many jobs, one after another by one thread, that its waits have become the way in which the client's bytes move.
fn many<K: Kind>(client: &K::Client, payload: &str) {
    for _ in 0..100 {
        assert_eq!(result::<K>(client, Job::new("echo", payload.to_owned())), Ok(payload.to_owned().into()));
    }
}

pub(crate) fn who_asks_and_goes_is_served<K: Kind>() {
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 1);
    let client = client::<K>(K::address(&server));
    for round in 0..3_u64 {
        many::<K>(&client, "x");
        // Nobody waits for these: one, then many in a row.
        for jobs in [1, 50] {
            let before = K::counters(&server).submitted;
            let queued: Vec<_> =
                (0..jobs).map(|_| K::submit(&client, Job::new("nobody", "").background()).expect("taken")).collect();
            wait_until("all are queued", PATIENCE, || K::counters(&server).submitted == before + jobs);
            drop(queued);
        }
        wait_until("all are waiting", PATIENCE, || K::queued(&server).len() as u64 == 51 * (round + 1));
    }
    drop(worker);
}

pub(crate) fn callers_who_come_and_go_leave_nobody_waiting<K: Kind>() {
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 4);
    let client = client::<K>(K::address(&server));
    many::<K>(&client, "first");
    thread::scope(|scope| {
        for caller in 0..3 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..3 {
                    many::<K>(client, &format!("{caller}"));
                    // Now and then one is away, and another alone.
                    if round == caller {
                        let jobs = (0..20).map(|job| Job::new("echo", format!("{job}"))).collect();
                        let outcomes = K::run_all(client, jobs, PATIENCE);
                        assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Complete(_))));
                    }
                }
            });
        }
    });
    many::<K>(&client, "last");
    drop(worker);
}

pub(crate) fn events_are_told_whoever_moves_the_bytes<K: Kind>() {
    use gearwheel::client::Event;
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 1);
    let (tell, heard) = mpsc::channel();
    let client = K::client_heard(K::address(&server), tell);
    many::<K>(&client, "x");
    assert!(matches!(heard.recv_timeout(PATIENCE), Ok(Event::Connected { .. })));
    drop(worker);
    let job = K::submit(&client, Job::new("nobody", "").timeout(PATIENCE)).expect("taken");
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(move || K::wait(job));
        drop(server);
        assert!(matches!(heard.recv_timeout(PATIENCE), Ok(Event::Disconnected { .. })));
        waiting.join().expect("it ends")
    });
    assert!(waiting.is_err(), "{waiting:?}");
}

pub(crate) fn an_abandoned_job_leaves_the_others_alone<K: Kind>() {
    let server = server::<K>();
    let at = K::address(&server);
    let client = client::<K>(at);
    let mut jobs: Vec<_> =
        (0..100).map(|number| Some(K::submit(&client, Job::new("echo", number.to_string())).expect("taken"))).collect();
    for abandoned in jobs.iter_mut().step_by(2) {
        drop(abandoned.take());
    }
    let worker = K::worker(at, 4);
    for (number, job) in jobs.into_iter().enumerate() {
        if let Some(job) = job {
            assert_eq!(K::wait(job), Ok(number.to_string().into()));
        }
    }
    drop(worker);
}

pub(crate) fn a_drain_finishes_what_runs<K: Kind>() {
    let server = server::<K>();
    let worker = K::taker(K::address(&server), "slow", |_| ());
    let client = client::<K>(K::address(&server));
    let job = K::submit(&client, Job::new("slow", "")).expect("taken");
    let task = K::next(&worker).expect("a job");
    let drainers = [(), ()].map(|()| {
        let worker = worker.clone();
        thread::spawn(move || K::drain(&worker, PATIENCE))
    });
    wait_until("one drain is refused", PATIENCE, || drainers.iter().any(|drainer| drainer.is_finished()));
    task.complete("finished").expect("ours");
    assert_eq!(K::wait(job), Ok("finished".into()));
    let mut results = drainers.map(|drainer| drainer.join().expect("no panic"));
    results.sort_by_key(Result::is_err);
    assert!(matches!(results, [Ok(()), Err(Error::Draining)]), "{results:?}");
    assert!(K::next(&worker).is_none());
}

pub(crate) fn a_drain_reports_what_is_not_done_in_time<K: Kind>() {
    let server = server::<K>();
    let worker = K::taker(K::address(&server), "slow", |_| ());
    let client = client::<K>(K::address(&server));
    let job = K::submit(&client, Job::new("slow", "")).expect("taken");
    let task = K::next(&worker).expect("a job");
    let drained = K::drain(&worker, Duration::from_millis(20));
    assert!(matches!(drained, Err(Error::Unfinished { jobs: 1 })), "{drained:?}");
    assert!(task.is_cancelled());
    assert!(task.complete("too late").is_err());

    let other = K::taker(K::address(&server), "slow", |_| ());
    K::next(&other).expect("the job again").complete("in time").expect("ours");
    assert_eq!(K::wait(job), Ok("in time".into()));
}

pub(crate) fn two_drains_are_one_too_many<K: Kind>() {
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 1);
    let client = client::<K>(K::address(&server));
    assert_eq!(result::<K>(&client, Job::new("echo", "x")), Ok("x".into()));
    K::drain(&worker, PATIENCE).expect("nothing runs");
    assert!(matches!(K::drain(&worker, PATIENCE), Err(Error::Draining)));
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    assert!(matches!(K::drain_server(&server, PATIENCE), Err(Error::Draining)));
}

pub(crate) fn a_server_drains<K: Kind>() {
    let server = server::<K>();
    let at = K::address(&server);
    let worker = K::taker(at, "slow", |_| ());
    let client = client::<K>(at);
    let job = K::submit(&client, Job::new("slow", "")).expect("taken");
    let task = K::next(&worker).expect("a job");
    thread::scope(|scope| {
        let (begun, has_begun) = mpsc::channel();
        let server = &server;
        let drain = scope.spawn(move || {
            begun.send(()).expect("somebody waits");
            K::drain_server(server, PATIENCE)
        });
        has_begun.recv().expect("it begins");
        wait_until("nobody is let in", PATIENCE, || TcpStream::connect(at).is_err());
        task.complete("finished").expect("ours");
        assert_eq!(K::wait(job), Ok("finished".into()));
        drain.join().expect("no panic").expect("drained in time");
    });
    wait_until("every connection is closed", PATIENCE, || K::counters(&server).connections == 0);
}

pub(crate) fn a_server_that_drains_in_vain_says_how_many_jobs_were_waited_for<K: Kind>() {
    let server = server::<K>();
    let client = client::<K>(K::address(&server));
    let job = K::submit(&client, Job::new("nobody's", "")).expect("taken");
    wait_until("it is there", PATIENCE, || K::counters(&server).waiting == 1);
    let drained = K::drain_server(&server, Duration::from_millis(20));
    assert!(matches!(drained, Err(Error::Unfinished { jobs: 1 })), "{drained:?}");
    drop(job);
}

pub(crate) fn a_server_keeps_what_is_queued<K: Kind>() {
    let server = server::<K>();
    let client = client::<K>(K::address(&server));
    for number in 0..3 {
        result::<K>(&client, Job::new("later", number.to_string()).background()).expect("queued");
    }
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    assert_eq!(K::queued(&server).len(), 3);
}

pub(crate) fn a_delay_counts_from_the_wall_time<K: Kind>() {
    const HOUR: Duration = Duration::from_secs(3600);
    let server = server::<K>();
    let client = client::<K>(K::address(&server));
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let before = wall();
    result::<K>(&client, Job::new("later", "").after(HOUR)).expect("queued");
    let ends = K::run_all(&client, vec![Job::new("later", "in a set").after(HOUR)], PATIENCE);
    assert!(matches!(&ends[..], [(_, Outcome::Queued { .. })]), "{ends:?}");
    let (first, last) = (before + HOUR, wall() + HOUR + Duration::from_secs(1));
    let queued = K::queued(&server);
    assert_eq!(queued.len(), 2);
    for job in queued {
        assert!(
            job.not_before.is_some_and(|at| (first..=last).contains(&at)),
            "{job:?} between {first:?} and {last:?}"
        );
    }
    result::<K>(&client, Job::new("never", "").after(Duration::MAX)).expect("queued");
}

pub(crate) fn handles_outlive_what_they_belong_to<K: Kind>() {
    let server = server::<K>();
    let at = K::address(&server);
    let client = client::<K>(at);
    let mut job = K::submit(&client, Job::new("nobody does this", "")).expect("taken");
    accepted::<K>(&mut job);
    let id = K::id(&job);
    let closing = client.clone();
    thread::spawn(move || K::close(&closing));
    assert_eq!(K::wait(job), Err(JobError::Cancelled { phase: Phase::Accepted }));
    wait_until("the client is closed", PATIENCE, || match K::submit(&client, Job::new("f", "x")) {
        Err(rejected) => {
            assert_eq!((rejected.reason, rejected.value), (Reason::Closed, Job::new("f", "x")));
            true
        }
        Ok(_) => false,
    });
    let first = K::first_server(&client);
    assert!(matches!(K::echo(&client, first, "x".into()), Err(Error::Refused(Reason::Closed))));
    assert!(matches!(K::status(&client, id), Err(Error::Refused(_))));
    assert!(K::run_all(&client, Vec::new(), PATIENCE).is_empty());
    K::close(&client);

    let worker = K::taker(at, "f", |_| ());
    K::drain(&worker, PATIENCE).expect("nothing runs");
    assert!(K::next(&worker).is_none());
    drop(server);
}

pub(crate) fn requests_are_answered<K: Kind>() {
    let server = server::<K>();
    let client = client::<K>(K::address(&server));
    let first = K::first_server(&client);
    assert_eq!(K::echo(&client, first, "ping".into()).expect("an answer"), "ping");
    let mut job = K::submit(&client, Job::new("nobody does this", "")).expect("taken");
    accepted::<K>(&mut job);
    let status = K::status(&client, K::id(&job)).expect("an answer");
    assert!(status.known && !status.running);
    let waiting = client.clone();
    drop(server);
    let lost = K::wait(job);
    assert!(matches!(lost, Err(JobError::Lost { .. })), "{lost:?}");
    K::close(&waiting);
    assert!(K::echo(&client, first, "ping".into()).is_err());
}

pub(crate) fn nobody_there_is_an_outcome<K: Kind>() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let client = client::<K>(nobody);
    let started = Instant::now();
    let job = Job::new("echo", "").timeout(Duration::from_millis(50)).retry(Retry::Never);
    let ended = result::<K>(&client, job);
    assert!(matches!(ended, Err(JobError::TimedOut { phase: Phase::Parked, .. } | JobError::Lost { .. })), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

pub(crate) fn a_host_name_is_looked_up<K: Kind>() {
    let server = server::<K>();
    let at = K::address(&server);
    let worker = K::worker(at, 1);
    // It may well have ::1 first, where nobody listens.
    let client = K::client(&format!("localhost:{}", at.port()), |config| config.deadlines.total = Some(PATIENCE));
    assert_eq!(result::<K>(&client, Job::new("echo", "x")), Ok("x".into()));
    let nowhere = K::client("no-such-host.invalid:1", |_| ());
    let ended = result::<K>(&nowhere, Job::new("echo", "").timeout(Duration::from_millis(200)));
    assert!(matches!(ended, Err(JobError::TimedOut { .. } | JobError::Lost { .. })), "{ended:?}");
    drop(worker);
}

pub(crate) fn a_set_of_jobs_has_one_deadline<K: Kind>() {
    let server = server::<K>();
    let worker = K::worker(K::address(&server), 1);
    let client = client::<K>(K::address(&server));
    let jobs = ["echo", "nobody does this", "nor this"].map(|function| Job::new(function, "x").timeout(PATIENCE));
    let begun = Instant::now();
    let ends = K::run_all(&client, jobs.into(), Duration::from_millis(500));
    assert!((Duration::from_millis(500)..PATIENCE / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let ends: Vec<_> = ends.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(ends[0], Outcome::Complete("x".into()));
    let timed_out = |end: &Outcome| matches!(end, Outcome::TimedOut { phase: Phase::Accepted, .. });
    assert!(ends.len() == 3 && ends[1..].iter().all(timed_out), "{ends:?}");
    drop(worker);
}

pub(crate) fn joined_jobs_get_their_own_events<K: Kind>() {
    let server = server::<K>();
    joined::<K>(K::address(&server));
}

pub(crate) fn joined_jobs_get_their_own_events_by_gearmand<K: Kind>() {
    let Some(server) = crate::secured::gearmand() else { return };
    joined::<K>(server.address());
}

fn joined<K: Kind>(at: SocketAddr) {
    let client = client::<K>(at);
    let mut jobs: Vec<_> = (0..5)
        .map(|_| {
            let mut job = K::submit(&client, Job::new("join", "").unique("one")).expect("taken");
            accepted::<K>(&mut job);
            job
        })
        .collect();
    // Two are given up, before and within: the copies for them must reach nobody.
    drop(jobs.remove(1));
    let worker = K::taker(at, "join", |_| ());
    let task = K::next(&worker).expect("a job");
    K::data(&task, "a".into()).expect("ours");
    let first = |job: &mut K::Pending| assert_eq!(K::next_event(job), Some(JobEvent::Data("a".into())));
    jobs.iter_mut().for_each(first);
    drop(jobs.remove(2));
    K::data(&task, "b".into()).expect("ours");
    task.complete("c").expect("ours");
    for mut job in jobs {
        let events: Vec<_> = std::iter::from_fn(|| K::next_event(&mut job)).collect();
        assert_eq!(events, [JobEvent::Data("b".into()), JobEvent::Done(Outcome::Complete("c".into()))]);
    }
}
