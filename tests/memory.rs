//! Client, worker and job server joined in memory.

use std::time::Duration;

use gearwheel::client::Event;
use gearwheel::memory::{Failure, InMemory};
use gearwheel::{Job, Outcome, Phase, Priority, client, server, worker};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_job_is_told_event_by_event() {
    let mut gearman = InMemory::new();
    gearman
        .function("f", |task| {
            task.data("part");
            task.warning("careful");
            task.progress(1, 2);
            assert_eq!(std::str::from_utf8(&task.assignment().unique)?, "u");
            Ok("done".into())
        })
        .expect("a function");
    let id = gearman.submit(Job::new("f", "x").unique("u")).expect("taken");
    let mut names = Vec::new();
    while let Some(event) = gearman.next() {
        match event {
            Event::Created { job, .. } if job == id => names.push("created"),
            Event::Data { payload, .. } if payload == "part" => names.push("data"),
            Event::Warning { payload, .. } if payload == "careful" => names.push("warning"),
            Event::Progress { numerator: 1, denominator: 2, .. } => names.push("progress"),
            Event::Done { outcome, .. } if outcome == Outcome::Complete("done".into()) => names.push("done"),
            Event::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names, ["created", "data", "warning", "progress", "done"]);
}

#[test]
fn every_end_has_its_outcome() {
    let mut gearman = InMemory::new();
    gearman.function("fails", |_| Err(Failure::Fail)).expect("a function");
    gearman.function("throws", |_| Err(Failure::Throw("boom".into()))).expect("a function");
    let mut run = |job| gearman.run(job).expect("taken");
    assert_eq!(run(Job::new("fails", "")), Outcome::Failed);
    assert_eq!(run(Job::new("throws", "")), Outcome::Exception("boom".into()));
    assert!(matches!(run(Job::new("fails", "").background()), Outcome::Queued { .. }));
    assert!(matches!(
        run(Job::new("nobody", "").timeout(secs(60))),
        Outcome::TimedOut { phase: Phase::Accepted, attempts: 1, .. }
    ));
    assert_eq!(run(Job::new("nobody", "")), Outcome::Cancelled { phase: Phase::Accepted }, "after a day");
    assert!(gearman.function("fails", |_| Err(Failure::Fail)).is_err());
    assert!(gearman.run(Job::new("", "")).is_err());
}

#[test]
fn delayed_jobs_run_when_their_time_has_come() {
    let mut gearman = InMemory::new();
    let (ran, times) = std::sync::mpsc::channel();
    gearman
        .function("later", move |task| Ok(ran.send(task.payload().clone()).map(|()| "".into()).expect("heard")))
        .expect("one");
    let now = gearman.now();
    gearman.client().set_unix_time(secs(0), now);
    gearman.run(Job::new("later", "in an hour").after(secs(3600))).expect("taken");
    gearman.pass(secs(3599));
    assert!(times.try_recv().is_err());
    gearman.pass(secs(2));
    assert_eq!(times.try_recv().ok().as_deref(), Some(&b"in an hour"[..]));
}

#[test]
fn priorities_and_large_payloads_go_through() {
    let seed = [1; 32];
    let mut worker = worker::Config::new(seed);
    worker.concurrency = 1;
    let mut gearman = InMemory::with(client::Config::new(seed), worker, server::Config::new(seed)).expect("good");
    let large = gearman.submit(Job::new("f", vec![7; 3 << 20])).expect("taken");
    let low = gearman.submit(Job::new("f", "low").priority(Priority::Low)).expect("taken");
    let high = gearman.submit(Job::new("f", "high").priority(Priority::High)).expect("taken");
    gearman.pass(secs(1));
    gearman.function("f", |task| Ok(task.payload().clone())).expect("a function");
    let mut ends = Vec::new();
    while let Some(event) = gearman.next() {
        if let Event::Done { job, outcome } = event {
            assert!(matches!(outcome, Outcome::Complete(_)));
            ends.push(job);
        }
    }
    assert_eq!(ends, [high, large, low]);
}

#[test]
fn a_server_that_closes_is_lost_and_takes_nobody() {
    let mut gearman = InMemory::new();
    gearman.function("f", |_| Ok("done".into())).expect("a function");
    assert_eq!(gearman.run(Job::new("f", "")).expect("taken"), Outcome::Complete("done".into()));
    let now = gearman.now();
    gearman.server().close(now);
    let mut run = || gearman.run(Job::new("f", "").timeout(secs(60))).expect("taken");
    assert!(matches!(run(), Outcome::Lost { phase: Phase::Sent, .. }), "it was under way");
    assert!(matches!(run(), Outcome::TimedOut { phase: Phase::Parked, .. }), "each attempt is refused");
    assert_eq!(gearman.server().counters().connections, 0);
}

#[test]
fn a_job_of_a_function_that_is_the_workers_alone_fails() {
    let mut gearman = InMemory::new();
    let now = gearman.now();
    gearman.worker().register("bare", None, now).expect("a function");
    assert_eq!(gearman.run(Job::new("bare", "")).expect("taken"), Outcome::Failed);
}

#[test]
fn parts_are_taken_at_once_however_many_they_are() {
    let seed = [1; 32];
    let mut worker = worker::Config::new(seed);
    (worker.limits.max_outgoing, worker.concurrency) = (1000, 2);
    let mut gearman = InMemory::with(client::Config::new(seed), worker, server::Config::new(seed)).expect("good");
    gearman
        .function("f", |task| {
            (0..5).for_each(|_| task.data(vec![0; 900]));
            (0..5).for_each(|_| task.warning(vec![0; 900]));
            (0..100).for_each(|part| task.progress(part, 100));
            Ok(vec![0; 2000].into())
        })
        .expect("a function");
    for _ in 0..2 {
        gearman.submit(Job::new("f", "")).expect("taken");
    }
    let mut came = [0; 4];
    while let Some(event) = gearman.next() {
        match event {
            Event::Data { .. } => came[0] += 1,
            Event::Warning { .. } => came[1] += 1,
            Event::Progress { .. } => came[2] += 1,
            Event::Done { .. } => came[3] += 1,
            _ => {}
        }
    }
    assert_eq!(came, [10, 10, 200, 2]);
}

#[test]
fn a_result_over_the_limit_fails_its_job() {
    let seed = [1; 32];
    let mut worker = worker::Config::new(seed);
    worker.limits.max_packet = 1000;
    let mut gearman = InMemory::with(client::Config::new(seed), worker, server::Config::new(seed)).expect("good");
    gearman.function("f", |task| Ok(vec![0; 200 * task.payload().len()].into())).expect("a function");
    gearman.function("g", |_| Err(Failure::Throw(vec![0; 2000].into()))).expect("a function");
    assert_eq!(gearman.run(Job::new("f", "12345")).expect("taken"), Outcome::Failed);
    assert_eq!(gearman.run(Job::new("g", "")).expect("taken"), Outcome::Failed);
    assert_eq!(gearman.run(Job::new("f", "1")).expect("taken"), Outcome::Complete(vec![0; 200].into()));
}
