//! The job server dies, or falls silent, at every phase of a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gearwheel::blocking::{Client, JobEvent, Pending, Worker};
use gearwheel::client::Event;
use gearwheel::{CloseReason, Job, Outcome, Phase, Retry};

use crate::peers::{Gearmand, PATIENCE, free_port, wait_for_workers, wait_until};
use crate::{client, reversing_worker};

/// What a loss may take to be noticed: all of it happens on this machine.
const SOON: Duration = Duration::from_secs(5);

/// The end of a job that is due.
#[track_caller]
fn ended(job: Pending) -> Outcome {
    let begun = Instant::now();
    let outcome = job.outcome();
    assert!(begun.elapsed() < SOON, "{outcome:?} after {:?}", begun.elapsed());
    outcome
}

#[track_caller]
fn assert_lost(job: Pending, expected: Phase) {
    match ended(job) {
        Outcome::Lost { phase, attempts: 1, .. } => assert_eq!(phase, expected),
        other => panic!("expected a loss in {expected:?}, not {other:?}"),
    }
}

#[test]
fn each_job_lost_with_its_server_ends_once_and_names_its_phase() {
    let Some(mut server) = Gearmand::start() else { return };
    let client = Client::builder().server(server.address()).retry(Retry::Never).build().expect("a client");
    let (release, hold) = mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let _worker = Worker::builder()
        .server(server.address())
        .function("hang", move |task| {
            task.data("begun")?;
            let _ = hold.lock().map(|hold| hold.recv());
            Ok("")
        })
        .spawn()
        .expect("a worker");

    let mut running = client.submit(Job::new("hang", "")).expect("a job");
    while !matches!(running.next_event(), Some(JobEvent::Data(_))) {}
    let mut accepted = client.submit(Job::new("nobody", "")).expect("a job");
    accepted.accepted().expect("the server takes it");
    // The server stops reading: what the sockets hold is sent, the rest is not.
    server.pause();
    let sent = client.submit(Job::new("nobody", "")).expect("a job");
    let sending = client.submit(Job::new("nobody", vec![0; 30 << 20])).expect("a job");
    server.kill();

    assert_lost(running, Phase::Running);
    assert_lost(accepted, Phase::Accepted);
    assert_lost(sent, Phase::Sent);
    assert_lost(sending, Phase::Sending);
    let parked = Job::new("nobody", "").accept_timeout(Duration::from_secs(1));
    let parked = ended(client.submit(parked).expect("a job"));
    assert!(
        matches!(parked, Outcome::TimedOut { phase: Phase::Parked, server: Some(_), reason: Some(_), attempts: 0 }),
        "{parked:?}"
    );
    drop(release);
}

#[test]
fn a_worker_is_back_with_all_its_functions_soon_after_its_server() {
    let Some(mut server) = Gearmand::start() else { return };
    let worker = Worker::builder()
        .server(server.address())
        .client_id("the-worker")
        .function("one", |_| Ok("1"))
        .function_timeout("two", Duration::from_secs(5), |_| Ok("2"))
        .spawn()
        .expect("a worker");
    worker.worker().register("three", None).expect("a function");
    let functions = ["one", "two", "three"];
    for _ in 0..3 {
        functions.iter().for_each(|function| wait_for_workers(server.address(), function, 1));
        server.kill();
        let begun = Instant::now();
        server.restart();
        functions.iter().for_each(|function| wait_for_workers(server.address(), function, 1));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        let workers = crate::peers::admin(server.address(), "workers");
        assert!(workers.iter().any(|line| line.contains("the-worker")), "{workers:?}");
        assert_eq!(client(server.address()).submit(Job::new("one", "")).expect("a job").wait().expect("a result"), "1");
    }
}

#[test]
fn jobs_submitted_while_the_server_is_away_are_done_when_it_is_back() {
    let Some(mut server) = Gearmand::start() else { return };
    let (tell, told) = mpsc::channel();
    let client = Client::builder()
        .server(server.address())
        .timeout(PATIENCE)
        .on_event(move |event| {
            let _ = tell.send(event);
        })
        .build()
        .expect("a client");
    let _worker = reversing_worker(server.address());
    let reverse = || client.submit(Job::new("reverse", "abc")).expect("a job");
    assert_eq!(reverse().wait().expect("a result"), "cba");
    server.kill();
    // What is sent before the loss is seen is lost with it.
    wait_until("the client has seen it", SOON, || matches!(told.recv_timeout(SOON), Ok(Event::Disconnected { .. })));
    let jobs: Vec<_> = (0..100).map(|_| reverse()).collect();
    server.restart();
    for job in jobs {
        assert_eq!(job.wait().expect("a result"), "cba");
    }
}

#[test]
fn an_idempotent_job_is_run_again_when_its_server_is_back() {
    let Some(mut server) = Gearmand::start() else { return };
    let (begun, first) = mpsc::channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let worker = Worker::builder().server(server.address()).can_do("twice").concurrency(2).build().expect("a worker");
    let serving = std::thread::spawn({
        let runs = runs.clone();
        move || {
            let mut lost = None;
            while let Some(task) = worker.next() {
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    begun.send(()).expect("somebody waits");
                    lost = Some(task);
                } else {
                    task.complete("done").expect("the job is ours");
                    // The first one's answer goes nowhere: its server is another one now.
                    return lost.map(|task| task.is_cancelled());
                }
            }
            None
        }
    });
    let job = Job::new("twice", "").retry(Retry::Idempotent { attempts: 5 });
    let job = client(server.address()).submit(job).expect("a job");
    first.recv_timeout(SOON).expect("the job runs");
    server.kill();
    server.restart();
    assert_eq!(job.wait().expect("a result"), "done");
    assert_eq!(serving.join().expect("no panic"), Some(true));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[test]
fn a_thousand_jobs_in_flight_each_end_once_when_the_server_dies() {
    let Some(mut server) = Gearmand::start() else { return };
    let client = Client::builder().server(server.address()).timeout(SOON).build().expect("a client");
    let _worker = reversing_worker(server.address());
    let mut jobs = client.set();
    let mut due: BTreeMap<_, Option<Outcome>> =
        (0..1_000).map(|number| (jobs.submit(Job::new("reverse", number.to_string())).expect("a job"), None)).collect();
    let mut kill_after = 100;
    while let Some((job, outcome)) = jobs.next() {
        let end = due.get_mut(&job).expect("a job of ours");
        assert_eq!(end.replace(outcome), None, "it ended twice");
        kill_after -= 1;
        if kill_after == 0 {
            server.kill();
        }
    }
    let lost = |outcome: &Option<Outcome>| match outcome.as_ref().expect("each job ends") {
        Outcome::Complete(_) => false,
        Outcome::Lost { .. } | Outcome::TimedOut { .. } => true,
        other => panic!("{other:?}"),
    };
    let lost = due.values().filter(|outcome| lost(outcome)).count();
    assert!(lost <= 900, "100 had completed before");
    assert_eq!(client.counters().ended, 1_000);
}

#[test]
fn a_silent_server_is_given_up_and_the_next_one_takes_the_job() {
    let (Some(silent), Some(sound)) = (Gearmand::start(), Gearmand::start()) else { return };
    let _worker = reversing_worker(sound.address());
    let client = Client::builder()
        .servers([silent.address(), sound.address()])
        .retry(Retry::Idempotent { attempts: 3 })
        .configure(|config| {
            config.connecting.reply_timeout = Duration::from_millis(300);
            config.connecting.probe_after = Some(Duration::from_millis(300));
        })
        .build()
        .expect("a client");
    let job = client.submit(Job::new("nobody-here", "")).expect("a job");
    silent.pause();
    let begun = Instant::now();
    let result = client.submit(Job::new("reverse", "abc")).expect("a job").wait();
    assert_eq!(result.expect("the other server's worker does it"), "cba");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(job);
}

#[test]
fn a_server_that_never_was_is_named_with_what_is_wrong_with_it() {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (tell, told) = mpsc::channel();
    let client = Client::builder()
        .server(nowhere)
        .on_event(move |event| {
            let _ = tell.send(event);
        })
        .build()
        .expect("a client");
    let job = Job::new("f", "").timeout(Duration::from_millis(500));
    let outcome = ended(client.submit(job).expect("a job"));
    assert!(matches!(outcome, Outcome::TimedOut { phase: Phase::Parked, .. }), "{outcome:?}");
    let event = told.recv_timeout(SOON).expect("an event");
    assert!(matches!(event, Event::Disconnected { reason: CloseReason::Refused, .. }), "{event:?}");
}
