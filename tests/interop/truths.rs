//! What servers, clients and workers really do beyond round trips, and that ours do the like.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use gearwheel::blocking::{Client, Fail, JobError, Running, Throw, Worker};
use gearwheel::{Job, Outcome, Priority, worker};

use crate::peers::{Gearmand, Libgearman, PATIENCE, Tools, admin, status, wait_for_workers, wait_until};
use crate::{JobServer, client, reversing_worker};

/// Runs a test on gearmand and on our server.
macro_rules! on_both {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;
            #[test] fn on_gearmand() { JobServer::gearmand().as_ref().map(super::$name); }
            #[test] fn on_our_server() { JobServer::ours().as_ref().map(super::$name); }
        }
    )*};
}

on_both! {
    a_thousand_jobs_in_flight_each_get_their_own_result
    exceptions_come_to_those_who_want_them_and_are_failures_to_others
    a_handler_may_fail_throw_and_panic_and_the_worker_goes_on
    priorities_are_kept_within_a_function
    a_background_job_is_known_until_it_has_ended
    jobs_of_one_unique_are_one_job_and_each_gets_the_result
    a_drain_finishes_what_runs_and_leaves_the_rest_to_others
    a_job_over_its_time_limit_fails_once
    what_is_over_the_limit_of_a_packet_harms_no_other
    a_function_is_taken_back_only_when_its_job_has_been_answered
    a_worker_is_listed_with_its_name_and_functions
    libgearmans_client_says_the_same_of_every_worker
}

fn a_thousand_jobs_in_flight_each_get_their_own_result(server: &JobServer) {
    let worker = |concurrency| {
        Worker::builder()
            .server(server.address())
            .concurrency(concurrency)
            .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
            .spawn()
            .expect("a worker")
    };
    let _workers = (worker(1), worker(16));
    let client = client(server.address());
    let mut jobs = client.set();
    let mut due: BTreeMap<_, _> = (0..1_000)
        .map(|number| {
            let payload = format!("payload {number}");
            (jobs.submit(Job::new("reverse", payload.clone())).expect("a job"), payload)
        })
        .collect();
    while let Some((job, outcome)) = jobs.next() {
        let payload = due.remove(&job).expect("a job of ours that has not ended before");
        assert_eq!(outcome, Outcome::Complete(payload.chars().rev().collect::<String>().into()));
    }
    assert_eq!(due.len(), 0);
}

/// A worker whose functions end in every way.
fn moody_worker(server: &JobServer) -> Running {
    let worker = Worker::builder()
        .server(server.address())
        .function::<Vec<u8>>("throw", |_| Err(Throw("thrown\0 bytes".into()).into()))
        .function::<Vec<u8>>("error", |_| Err("what went wrong".into()))
        .function::<Vec<u8>>("fail", |_| Err(Fail.into()))
        .function::<Vec<u8>>("panic", |_| panic!("out of the handler"))
        .function("work", |_| Ok("done"))
        .spawn()
        .expect("a worker");
    wait_for_workers(server.address(), "work", 1);
    worker
}

fn exceptions_come_to_those_who_want_them_and_are_failures_to_others(server: &JobServer) {
    let _worker = moody_worker(server);
    let willing = client(server.address());
    let deaf =
        Client::builder().server(server.address()).timeout(PATIENCE).exceptions(false).build().expect("a client");
    for _ in 0..3 {
        let end = |client: &Client| client.submit(Job::new("throw", "")).expect("a job").wait();
        assert_eq!(end(&willing), Err(JobError::Exception("thrown\0 bytes".into())));
        // gearmand's WORK_FAIL for it bears a handle with a NUL too many.
        assert_eq!(end(&deaf), Err(JobError::Failed));
    }
}

fn a_handler_may_fail_throw_and_panic_and_the_worker_goes_on(server: &JobServer) {
    let worker = moody_worker(server);
    let client = client(server.address());
    let end = |function: &'static str| client.submit(Job::new(function, "")).expect("a job").wait();
    for _ in 0..3 {
        assert_eq!(end("fail"), Err(JobError::Failed));
        assert_eq!(end("error"), Err(JobError::Exception("what went wrong".into())));
        assert_eq!(end("panic"), Err(JobError::Exception("out of the handler".into())));
        assert_eq!(end("work"), Ok("done".into()));
    }
    assert_eq!(worker.worker().counters().answered, 12);
}

/// Told of it while the job runs, gearmand would give the job to another worker.
fn a_function_is_taken_back_only_when_its_job_has_been_answered(server: &JobServer) {
    let client = client(server.address());
    let worker = || {
        let worker = Worker::builder().server(server.address()).can_do("leaving").can_do("staying");
        worker.build().expect("a worker")
    };
    let first = worker();
    let job = client.submit(Job::new("leaving", "")).expect("a job");
    let task = first.next_timeout(PATIENCE).expect("the job");
    let second = worker();
    wait_for_workers(server.address(), "leaving", 2);
    first.unregister(b"leaving").expect("it is offered");
    assert!(second.next_timeout(Duration::from_millis(200)).is_none(), "the job was taken away");
    task.complete("of the first").expect("the job is ours");
    assert_eq!(job.wait(), Ok("of the first".into()));
    wait_for_workers(server.address(), "leaving", 1);
    let staying = client.submit(Job::new("staying", "")).expect("a job");
    drop(second);
    first.next_timeout(PATIENCE).expect("the job").complete("still here").expect("the job is ours");
    assert_eq!(staying.wait(), Ok("still here".into()));
}

fn priorities_are_kept_within_a_function(server: &JobServer) {
    let client = client(server.address());
    let submit = |payload: &'static str, priority| {
        let job = Job::new("ordered", payload).priority(priority).background();
        client.submit(job).expect("a job").wait().expect("it is queued");
    };
    for (payload, priority) in [
        ("low 1", Priority::Low),
        ("normal 1", Priority::Normal),
        ("high 1", Priority::High),
        ("low 2", Priority::Low),
        ("normal 2", Priority::Normal),
        ("high 2", Priority::High),
    ] {
        submit(payload, priority);
    }
    let worker = Worker::builder().server(server.address()).can_do("ordered").build().expect("a worker");
    let order: Vec<_> = (0..6)
        .map(|_| {
            let task = worker.next_timeout(PATIENCE).expect("a job");
            let payload = task.payload().clone();
            task.complete("").expect("the job is ours");
            payload
        })
        .collect();
    assert_eq!(order, ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]);
}

fn a_background_job_is_known_until_it_has_ended(server: &JobServer) {
    let client = client(server.address());
    let at = client.servers()[0].server;
    let job = Job::new("slow", "").unique("the-unique").background();
    let handle = client.submit(job).expect("a job").accepted().expect("a handle");
    let known = |running, numerator, denominator| {
        let status = client.status_of(at, handle.clone()).expect("a reply");
        (status.known, status.running, status.numerator, status.denominator) == (true, running, numerator, denominator)
    };
    assert!(known(false, 0, 0));
    let by_unique = client.status_unique(at, "the-unique").expect("a reply");
    assert!(by_unique.known && !by_unique.running && by_unique.clients == Some(0), "{by_unique:?}");

    let worker = Worker::builder().server(server.address()).can_do("slow").build().expect("a worker");
    let task = worker.next_timeout(PATIENCE).expect("the job");
    assert_eq!((task.unique(), task.handle()), (&b"the-unique"[..], &handle));
    task.progress(3, 7).expect("the job is ours");
    wait_until("the server knows the progress", PATIENCE, || known(true, 3, 7));
    task.complete("").expect("the job is ours");
    wait_until("the server has forgotten it", PATIENCE, || {
        !client.status_of(at, handle.clone()).expect("a reply").known
    });
    assert!(!client.status_unique(at, "the-unique").expect("a reply").known);
}

fn jobs_of_one_unique_are_one_job_and_each_gets_the_result(server: &JobServer) {
    let (one, other) = (client(server.address()), client(server.address()));
    let submit = |client: &Client| {
        let mut job = client.submit(Job::new("join", "").unique("same")).expect("a job");
        let handle = job.accepted().expect("a handle");
        (job, handle)
    };
    let jobs = [submit(&one), submit(&other), submit(&one)];
    assert!(jobs.iter().all(|(_, handle)| *handle == jobs[0].1));
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let _worker = Worker::builder()
        .server(server.address())
        .function("join", move |_| Ok(format!("run {}", counter.fetch_add(1, Ordering::SeqCst))))
        .spawn()
        .expect("a worker");
    for (job, _) in jobs {
        assert_eq!(job.wait().expect("a result"), "run 0");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

fn a_drain_finishes_what_runs_and_leaves_the_rest_to_others(server: &JobServer) {
    let worker = |name: &'static str| {
        let worker = Worker::builder().server(server.address()).can_do("who").build().expect("a worker");
        wait_until("the worker is there", PATIENCE, || status(server.address(), "who").workers > 0);
        (name, worker)
    };
    let (name, first) = worker("first");
    let client = client(server.address());
    let jobs = [(); 2].map(|()| client.submit(Job::new("who", "")).expect("a job"));
    let task = first.next_timeout(PATIENCE).expect("a job");
    let draining = std::thread::spawn({
        let first = first.clone();
        move || first.drain(PATIENCE)
    });
    // Nothing more is assigned to it: after its answer it leaves.
    first.finish();
    task.complete(name).expect("the job is ours still");
    draining.join().expect("no panic").expect("everything was done in time");
    assert!(first.next().is_none());
    wait_for_workers(server.address(), "who", 0);

    let (name, second) = worker("second");
    second.next_timeout(PATIENCE).expect("the other job").complete(name).expect("the job is ours");
    let results = jobs.map(|job| job.wait().expect("a result"));
    assert_eq!(results, ["first", "second"]);
}

fn a_job_over_its_time_limit_fails_once(server: &JobServer) {
    // The worker is to be the first to give it up, by the half second that it keeps of so long a limit.
    const LIMIT: Duration = Duration::from_secs(5);
    let (release, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let worker = Worker::builder()
        .server(server.address())
        .function_timeout("hang", LIMIT, move |task| {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = hold.lock().map(|hold| hold.recv_timeout(PATIENCE));
            assert!(task.is_cancelled());
            Ok("too late")
        })
        .spawn()
        .expect("a worker");
    let begun = Instant::now();
    let result = client(server.address()).submit(Job::new("hang", "")).expect("a job").wait();
    assert_eq!(result, Err(JobError::Failed));
    let took = begun.elapsed();
    assert!(LIMIT - Duration::from_secs(1) < took && took < 2 * LIMIT, "{took:?}");
    drop(release);
    worker.drain(PATIENCE).expect("nothing hangs any more");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(status(server.address(), "hang").total, 0);
}

fn what_is_over_the_limit_of_a_packet_harms_no_other(server: &JobServer) {
    const LIMIT: usize = 1 << 20;
    let (tell, told) = mpsc::channel();
    let narrow = Worker::builder()
        .server(server.address())
        .configure(|config| config.limits.max_packet = LIMIT)
        .function("narrow", |task| Ok(task.payload().clone()))
        .on_event(move |event| drop(tell.send(event)));
    let narrow = narrow.spawn().expect("a worker");
    let grow = |_: &mut gearwheel::blocking::Task| Ok(vec![7; 8 * LIMIT]);
    let _wide = Worker::builder().server(server.address()).function("grow", grow).spawn().expect("a worker");
    let wide = client(server.address());
    for _ in 0..3 {
        let large = wide.submit(Job::new("narrow", vec![7; 8 * LIMIT])).expect("a job");
        let small = wide.submit(Job::new("narrow", "x")).expect("a job");
        let Err(JobError::Exception(why)) = large.wait() else { panic!("no worker takes it") };
        assert!(why.ends_with(b"bytes; this worker takes 1048576"), "{why:?}");
        assert_eq!(small.wait(), Ok("x".into()));
    }
    let builder = Client::builder().server(server.address()).timeout(PATIENCE);
    let client = builder.configure(|config| config.limits.max_packet = LIMIT).build().expect("a client");
    for _ in 0..3 {
        let large = client.submit(Job::new("grow", "")).expect("a job");
        let small = client.submit(Job::new("narrow", "x")).expect("a job");
        assert!(matches!(large.wait(), Err(JobError::Overflow { limit: LIMIT, .. })));
        assert_eq!(small.wait(), Ok("x".into()));
    }
    assert_eq!(client.servers()[0].counters.failed, 0);
    let lost = |event| matches!(event, worker::Event::Disconnected { .. });
    assert!(!told.try_iter().any(lost), "one connection is enough");
    drop(narrow);
}

fn a_worker_is_listed_with_its_name_and_functions(server: &JobServer) {
    let _worker = Worker::builder()
        .server(server.address())
        .client_id("its-name")
        .can_do("one")
        .can_do_timeout("two", Duration::from_secs(9))
        .build()
        .expect("a worker");
    wait_for_workers(server.address(), "two", 1);
    let workers = admin(server.address(), "workers");
    let line = workers.iter().find(|line| line.contains("its-name")).expect("it is listed");
    let (about, functions) = line.split_once(" :").expect("functions follow a colon");
    assert!(about.ends_with(" 127.0.0.1 its-name"), "{line}");
    let mut functions: Vec<_> = functions.split_whitespace().collect();
    functions.sort_unstable();
    assert_eq!(functions, ["one", "two"]);
}

/// What libgearman's client says where the worker does what `talk` and `reverse` should.
const TRANSCRIPT: &str = "\
echo: success
echo of nothing much: success
option exceptions: granted
option nonsense: refused
normal: lamron
high: hgih
low: wol
on: success
progress: 1/2
data: part
warning: careful
data: unique
complete: on
fail: success
progress: 1/2
data: part
warning: careful
fail
throw: success
progress: 1/2
data: part
warning: careful
exception: thrown
background: success
status: success known=1 running=0 0/0
unique status: known=1 running=0
unknown unique: known=0
same unique: success
same unique, same handle: yes
high background: success
low background: success
epoch job: success
";

fn libgearmans_client_says_the_same_of_every_worker(server: &JobServer) {
    let Some(libgearman) = Libgearman::build() else { return };
    let _reversing = reversing_worker(server.address());
    {
        let _theirs = libgearman.work(server.address());
        assert_eq!(libgearman.client(server.address()), TRANSCRIPT, "with libgearman's worker");
    }
    wait_for_workers(server.address(), "talk", 0);
    assert_eq!(status(server.address(), "parked").total, 4);
    let _ours = Worker::builder()
        .server(server.address())
        .function("talk", |task| {
            task.progress(1, 2)?;
            task.data("part")?;
            task.warning("careful")?;
            match &task.payload()[..] {
                b"fail" => Err(Fail.into()),
                b"throw" => Err(Throw("thrown".into()).into()),
                _ => {
                    if !task.unique().is_empty() {
                        task.data("unique")?;
                    }
                    Ok(task.payload().clone())
                }
            }
        })
        .spawn()
        .expect("a worker");
    wait_for_workers(server.address(), "talk", 1);
    assert_eq!(libgearman.client(server.address()), TRANSCRIPT, "with our worker");
}

#[test]
fn a_time_limit_is_milliseconds_to_gearmand() {
    let Some(server) = Gearmand::start() else { return };
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let (_never, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let _worker = Worker::builder()
        .server(server.address())
        // Told in seconds, gearmand would take 5 for its least limit, a second, and give the job away before it is done.
        .function_timeout("slow", Duration::from_secs(5), move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = hold.lock().map(|hold| hold.recv_timeout(Duration::from_millis(1_400)));
            Ok("done")
        })
        .spawn()
        .expect("a worker");
    let client = client(server.address());
    assert_eq!(client.submit(Job::new("slow", "")).expect("a job").wait().expect("a result"), "done");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn libgearmans_tools_get_an_end_from_our_server_where_gearmand_lets_them_hang() {
    let (Some(tools), Some(server)) = (Tools::find(), JobServer::ours()) else { return };
    let _worker = moody_worker(&server);
    for function in ["throw", "fail"] {
        let begun = Instant::now();
        let ended = tools.submit(server.address(), function, &[], b"");
        assert!(begun.elapsed() < Duration::from_secs(5), "{ended:?}");
        assert_eq!(ended.text(), "");
    }
}

#[test]
fn gearadmin_reads_what_our_server_says() {
    let (Some(tools), Some(server)) = (Tools::find(), JobServer::ours()) else { return };
    let _worker = reversing_worker(server.address());
    let client = client(server.address());
    let job = Job::new("parked", "").unique("the-unique").background();
    let handle = client.submit(job).expect("a job").accepted().expect("a handle").to_string();
    let said = |option: &str| {
        let ended = tools.admin(server.address(), &[option]);
        assert!(ended.status.success(), "{ended:?}");
        ended.text()
    };
    let table = said("--status");
    let mut lines: Vec<_> = table.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [".", "parked\t1\t0\t0", "reverse\t0\t0\t1"]);
    assert!(said("--workers").lines().any(|line| line.ends_with(" : reverse")));
    assert!(said("--server-version").contains('.'));
    assert!(said("--getpid").contains(&std::process::id().to_string()));
    assert_eq!(said("--show-unique-jobs").lines().next(), Some("the-unique"));
    assert!(said("--show-jobs").starts_with(&handle));
    assert!(tools.admin(server.address(), &["--create-function=made"]).status.success());
    assert!(said("--status").contains("made\t0\t0\t0"));
    assert!(tools.admin(server.address(), &["--drop-function=made"]).status.success());
    assert!(!said("--status").contains("made"));
    assert!(tools.admin(server.address(), &[&format!("--cancel-job={handle}")]).status.success());
    wait_until("the job is gone", PATIENCE, || status(server.address(), "parked").total == 0);
}
