//! What the owner of a job sees when something goes wrong: a test for each row of docs/what-happens-when.md.

#[path = "common/rig.rs"]
mod rig;

use gearwheel::client::{Client, Config, EVENT_COST, Event, Unread};
use gearwheel::wire::{Magic, PacketType as T};
use gearwheel::{CloseReason, ConnId, Input, Job, JobId, Machine, Outcome, Phase, ProtocolError, Retry};
use rig::{Rig, address, millis, packet, secs};

const RETRIES: [Retry; 3] = [Retry::Unsent, Retry::Never, Retry::Idempotent { attempts: 5 }];

fn client(servers: &[&str]) -> Rig<Client> {
    let mut config = Config::new([9; 32]);
    config.servers = servers.iter().map(|server| address(server)).collect();
    config.exceptions = false;
    Rig::new(Client::new(config).expect("valid"))
}

fn job(retry: Retry) -> Job {
    Job::new("f", "0123456789").retry(retry)
}

fn submit(rig: &mut Rig<Client>, job: Job) -> JobId {
    rig.act(|client, now| client.submit(job, now)).expect("accepted")
}

fn sent(retry: Retry) -> (Rig<Client>, ConnId, JobId) {
    let mut rig = client(&["a"]);
    let id = submit(&mut rig, job(retry));
    let conn = rig.connect();
    rig.sent(conn);
    rig.events();
    (rig, conn, id)
}

fn accepted(retry: Retry) -> (Rig<Client>, ConnId, JobId) {
    let (mut rig, conn, id) = sent(retry);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.events();
    (rig, conn, id)
}

fn outcomes(rig: &mut Rig<Client>) -> Vec<Outcome> {
    let done = |event| if let Event::Done { outcome, .. } = event { Some(outcome) } else { None };
    rig.events().into_iter().filter_map(done).collect()
}

fn lost(phase: Phase, reason: CloseReason) -> Outcome {
    Outcome::Lost { phase, server: address("a"), reason, attempts: 1 }
}

fn timed_out(phase: Phase) -> Outcome {
    Outcome::TimedOut { phase, server: Some(address("a")), reason: None, attempts: 1 }
}

/// The job is submitted once more on a new connection, and ends well there.
fn tried_again(rig: &mut Rig<Client>) {
    assert_eq!(outcomes(rig), []);
    rig.pass(secs(2));
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:y:1"), packet(T::WORK_COMPLETE, "H:y:1|r")]);
    assert_eq!(outcomes(rig), [Outcome::Complete("r".into())]);
    assert!(rig.machine.is_empty());
}

/// The job has ended so, or goes on, as its retry says. `retries`: which of them try again.
fn expect(rig: &mut Rig<Client>, retry: Retry, again: &[Retry], end: Outcome) {
    if again.contains(&retry) {
        tried_again(rig);
    } else {
        assert_eq!(outcomes(rig), [end], "{retry:?}");
        assert!(rig.machine.is_empty());
    }
}

#[test]
fn connect_refused() {
    for reason in [CloseReason::Refused, CloseReason::Unresolved] {
        for retry in RETRIES {
            let mut rig = client(&["a", "b"]);
            submit(&mut rig, job(retry));
            let (conn, _) = rig.connects()[0].clone();
            rig.close(conn, reason.clone());
            assert!(rig.events().iter().any(|event| matches!(event, Event::Disconnected { .. })));
            let (conn, server) = rig.connects()[0].clone();
            assert_eq!(server, address("b"), "without any delay");
            rig.handle(Input::Connected(conn));
            assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
        }
    }
}

#[test]
fn all_refused() {
    for retry in RETRIES {
        let mut rig = client(&["a", "b"]);
        submit(&mut rig, job(retry));
        let (mut all_down, mut ends) = (0, Vec::new());
        while ends.is_empty() {
            for (conn, _) in rig.connects() {
                rig.close(conn, CloseReason::Refused);
            }
            for event in rig.events() {
                match event {
                    Event::AllDown { retry_at } => all_down += usize::from(retry_at.is_some()),
                    Event::Done { outcome, .. } => ends.push((rig.now, outcome)),
                    _ => {}
                }
            }
            rig.pass(millis(50));
        }
        assert_eq!(all_down, 1);
        let (when, outcome) = ends.remove(0);
        let Outcome::TimedOut { phase: Phase::Parked, server: Some(_), reason, attempts: 0 } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(reason, Some(CloseReason::Refused));
        assert!(when.since_epoch() >= secs(1030) && when.since_epoch() <= secs(1031), "{when:?}");
    }
}

#[test]
fn connect_black_hole() {
    for retry in RETRIES {
        let mut rig = client(&["a", "b"]);
        submit(&mut rig, job(retry));
        let (hole, _) = rig.connects()[0].clone();
        rig.pass(millis(250));
        let (conn, server) = rig.connects()[0].clone();
        assert_eq!(server, address("b"));
        rig.handle(Input::Connected(conn));
        assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:b:1")]);
        rig.pass(secs(5));
        assert_eq!(rig.disconnects(), [hole], "the attempt is given up");
        assert_eq!(outcomes(&mut rig), []);
    }
}

#[test]
fn reset_within_submit() {
    let whole = 12 + "f\0\0".len() + 10;
    for written in 0..whole {
        for retry in RETRIES {
            let mut rig = client(&["a"]);
            rig.writable = false;
            submit(&mut rig, job(retry));
            let conn = rig.connect();
            rig.events();
            assert_eq!(rig.write(conn, written), written);
            rig.close(conn, CloseReason::Ended);
            rig.writable = true;
            let again = [Retry::Unsent, RETRIES[2]];
            expect(&mut rig, retry, &again, lost(Phase::Sending, CloseReason::Ended));
        }
    }
}

#[test]
fn reset_around_created() {
    let mut created = bytes::BytesMut::new();
    packet(T::JOB_CREATED, "H:x:1").encode(Magic::Response, &mut created);
    for came in 0..created.len() {
        for retry in RETRIES {
            let (mut rig, conn, _) = sent(retry);
            rig.receive_bytes(conn, &created[..came]);
            rig.close(conn, CloseReason::Reset);
            expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Sent, CloseReason::Reset));
        }
    }
}

#[test]
fn reset_after_created() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.close(conn, CloseReason::Reset);
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Accepted, CloseReason::Reset));
        let (mut rig, conn, _) = accepted(retry);
        rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|d")]);
        rig.close(conn, CloseReason::Reset);
        rig.events.retain(|event| !matches!(event, Event::Data { .. }));
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Running, CloseReason::Reset));
    }
}

#[test]
fn half_open() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.pass(millis(29_999));
        assert_eq!(rig.disconnects(), []);
        rig.pass(millis(1));
        assert_eq!(rig.disconnects(), [conn]);
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Accepted, CloseReason::Silent));
    }
}

#[test]
fn reply_missing() {
    for retry in RETRIES {
        let (mut rig, conn, first) = accepted(retry);
        rig.act(|client, now| client.abandon(first, now));
        submit(&mut rig, job(retry).accept_timeout(secs(60)));
        rig.events();
        // It lives: it goes on talking of other jobs.
        for _ in 0..15 {
            assert_eq!(rig.disconnects(), []);
            rig.pass(secs(1));
            rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|d")]);
        }
        assert_eq!(rig.disconnects(), [conn]);
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Sent, CloseReason::Silent));
    }
}

#[test]
fn error_instead_of_created() {
    for retry in RETRIES {
        let (mut rig, conn, _) = sent(retry);
        submit(&mut rig, job(retry));
        rig.receive(
            conn,
            &[
                packet(T::ERROR, "QUEUE_ERROR|Job queue is full"),
                packet(T::JOB_CREATED, "H:x:1"),
                packet(T::WORK_COMPLETE, "H:x:1|r"),
            ],
        );
        let ends = outcomes(&mut rig);
        assert!(matches!(&ends[0], Outcome::Rejected(error) if &*error.text == "Job queue is full"), "{ends:?}");
        assert_eq!(ends[1..], [Outcome::Complete("r".into())]);
    }
}

#[test]
fn garbage() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.receive(conn, &[packet(T::SUBMIT_JOB, "f|u|p")]);
        assert_eq!(rig.disconnects(), [conn]);
        let reason = CloseReason::Protocol(ProtocolError::WrongSide(T::SUBMIT_JOB));
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Accepted, reason));
    }
}

#[test]
fn restart_with_the_same_handles() {
    let (mut rig, conn, old) = accepted(Retry::Unsent);
    rig.close(conn, CloseReason::Ended);
    assert_eq!(outcomes(&mut rig), [lost(Phase::Accepted, CloseReason::Ended)]);
    rig.pass(secs(1));
    let new = submit(&mut rig, Job::new("g", "x"));
    let conn = rig.connect();
    // The new server calls the new job as the old one was called.
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_COMPLETE, "H:x:1|new")]);
    let done = rig.events().into_iter().rfind(|event| matches!(event, Event::Done { .. }));
    assert_eq!(done, Some(Event::Done { job: new, outcome: Outcome::Complete("new".into()) }));
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|again")]);
    assert_eq!(rig.events(), []);
    assert_ne!(old, new);
}

#[test]
fn joined_a_forgotten_job() {
    let mut rig = client(&["a"]);
    submit(&mut rig, job(RETRIES[2]).unique("u"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(2));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.sent(conn);
    for _ in 0..2 {
        rig.pass(secs(3));
        assert_eq!(rig.sent_names(conn), ["GET_STATUS"]);
        rig.receive(conn, &[packet(T::STATUS_RES, "H:x:1|0|0|0|0")]);
    }
    rig.pass(secs(2));
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:2"), packet(T::WORK_COMPLETE, "H:x:2|r")]);
    assert_eq!(outcomes(&mut rig), [Outcome::Complete("r".into())]);
}

#[test]
fn worker_failed() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.receive(conn, &[packet(T::WORK_FAIL, "H:x:1|")]);
        assert_eq!(outcomes(&mut rig), [Outcome::Failed]);
        assert!(rig.machine.is_empty());
    }
}

#[test]
fn worker_threw() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.receive(conn, &[packet(T::WORK_EXCEPTION, "H:x:1|boom"), packet(T::WORK_FAIL, "H:x:1")]);
        assert_eq!(outcomes(&mut rig), [Outcome::Exception("boom".into())]);
        assert_eq!(rig.machine.counters().late, 1);
    }
}

#[test]
fn idle_deadline() {
    for retry in RETRIES {
        let mut rig = client(&["a"]);
        submit(&mut rig, job(retry).idle_timeout(secs(4)));
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        for _ in 0..3 {
            rig.pass(secs(3));
            rig.receive(conn, &[packet(T::WORK_STATUS, "H:x:1|1|2")]);
        }
        assert_eq!(outcomes(&mut rig), []);
        rig.pass(secs(4));
        assert_eq!(outcomes(&mut rig), [timed_out(Phase::Running)]);
    }
}

#[test]
fn total_deadline() {
    for retry in RETRIES {
        let mut rig = client(&["a"]);
        submit(&mut rig, job(retry).timeout(secs(6)));
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        rig.pass(millis(5999));
        assert_eq!(outcomes(&mut rig), []);
        rig.pass(millis(1));
        assert_eq!(outcomes(&mut rig), [timed_out(Phase::Accepted)]);
        rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|late")]);
        assert_eq!((outcomes(&mut rig), rig.machine.counters().late), (vec![], 1));
    }
}

#[test]
fn abandoned() {
    let (mut rig, conn, id) = accepted(Retry::Unsent);
    rig.act(|client, now| client.abandon(id, now));
    assert_eq!(outcomes(&mut rig), [Outcome::Cancelled { phase: Phase::Accepted }]);
    assert_eq!(rig.sent_names(conn), [""; 0]);
    assert!(rig.machine.is_empty());
}

#[test]
fn closed() {
    let (mut rig, conn, _) = accepted(Retry::Unsent);
    submit(&mut rig, job(Retry::Unsent));
    rig.act(|client, now| client.close(now));
    let events = rig.events();
    assert_eq!(events.last(), Some(&Event::Closed));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Done { .. })).count(), 2);
    assert_eq!(rig.disconnects(), [conn]);
}

#[test]
fn server_drained() {
    let (mut rig, conn, _) = accepted(Retry::Unsent);
    let server = rig.machine.servers().next().expect("one").server;
    rig.act(|client, now| client.remove_server(server, true, now)).expect("there");
    assert_eq!((rig.events(), rig.disconnects()), (vec![], vec![]));
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|r")]);
    assert_eq!(outcomes(&mut rig), [Outcome::Complete("r".into())]);
    assert_eq!(rig.disconnects(), [conn]);
}

#[test]
fn server_dropped() {
    for retry in RETRIES {
        let (mut rig, conn, _) = accepted(retry);
        rig.act(|client, now| client.add_server(address("b"), now)).expect("new");
        let server = rig.machine.servers().next().expect("one").server;
        rig.act(|client, now| client.remove_server(server, false, now)).expect("there");
        assert_eq!(rig.disconnects(), [conn]);
        expect(&mut rig, retry, &RETRIES[2..], lost(Phase::Accepted, CloseReason::Local));
    }
}

/// A client of one server where so many bytes of a job may wait, and a job that runs there.
fn unread(unread: Unread, retry: Retry) -> (Rig<Client>, ConnId, JobId) {
    let mut config = Config::new([9; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    config.unread = unread;
    config.limits.max_unread = 2 * EVENT_COST;
    let mut rig = Rig::new(Client::new(config).expect("valid"));
    let id = submit(&mut rig, job(retry));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.sent(conn);
    rig.events();
    (rig, conn, id)
}

#[test]
fn unread_overflows() {
    for retry in RETRIES {
        let (mut rig, conn, _) = unread(Unread::Overflow, retry);
        rig.receive(conn, &vec![packet(T::WORK_DATA, "H:x:1|"); 2]);
        assert_eq!(outcomes(&mut rig), []);
        rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|"), packet(T::WORK_COMPLETE, "H:x:1|r")]);
        let (limit, server) = (2 * EVENT_COST, address("a"));
        assert_eq!(outcomes(&mut rig), [Outcome::Overflow { limit, phase: Phase::Running, server, attempts: 1 }]);
        assert_eq!((rig.machine.counters().late, rig.disconnects()), (1, vec![]));
        assert!(rig.machine.is_empty());
    }
}

#[test]
fn too_large() {
    const LIMIT: usize = 100;
    for retry in RETRIES {
        let mut config = Config::new([9; 32]);
        config.servers = vec![address("a")];
        config.exceptions = false;
        config.limits.max_packet = LIMIT;
        let mut rig = Rig::new(Client::new(config).expect("valid"));
        let jobs = [(); 2].map(|()| submit(&mut rig, Job::new("f", "x").retry(retry)));
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::JOB_CREATED, "H:x:2")]);
        let large = format!("H:x:1|{}", "x".repeat(1000));
        rig.receive(conn, &[packet(T::WORK_COMPLETE, &large), packet(T::WORK_COMPLETE, "H:x:2|r")]);
        let overflow = Outcome::Overflow { limit: LIMIT, phase: Phase::Accepted, server: address("a"), attempts: 1 };
        let ends = jobs.into_iter().zip([overflow, Outcome::Complete("r".into())]);
        let ends = ends.map(|(job, outcome)| Event::Done { job, outcome });
        let events = rig.events().into_iter().filter(|event| matches!(event, Event::Done { .. }));
        assert!(events.eq(ends) && rig.disconnects().is_empty());
    }
}

#[test]
fn unread_pauses() {
    for retry in RETRIES {
        let (mut rig, conn, id) = unread(Unread::Pause, retry);
        rig.receive(conn, &vec![packet(T::WORK_DATA, "H:x:1|"); 2]);
        rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|r")]);
        rig.pass(secs(600));
        assert_eq!(outcomes(&mut rig), []);
        assert!(!rig.machine.wants_read(conn));
        rig.act(|client, now| client.release(id, 0, now));
        assert_eq!(outcomes(&mut rig), [Outcome::Complete("r".into())]);
    }
}

#[test]
fn handle_of_another_job() {
    for retry in RETRIES {
        for handle in ["", "H:x:1", &"H".repeat(513)] {
            let (mut rig, conn, _) = accepted(Retry::Never);
            submit(&mut rig, job(retry));
            rig.receive(conn, &[packet(T::JOB_CREATED, handle)]);
            assert_eq!(rig.disconnects(), [conn]);
            let error = ProtocolError::BadArgument { kind: T::JOB_CREATED, argument: "handle" };
            let ends = |phase| lost(phase, CloseReason::Protocol(error));
            let mut expected = vec![ends(Phase::Accepted)];
            if retry != RETRIES[2] {
                expected.push(ends(Phase::Sent));
            }
            assert_eq!(outcomes(&mut rig), expected);
            if retry == RETRIES[2] {
                tried_again(&mut rig);
            }
        }
    }
}

#[test]
fn breaking_off_again_and_again() {
    let mut rig = client(&["a"]);
    let mut waits = Vec::new();
    for _ in 0..12 {
        submit(&mut rig, job(Retry::Unsent));
        let begun = rig.now;
        while rig.connects.is_empty() {
            rig.pass(millis(10));
        }
        waits.push(rig.now.saturating_since(begun));
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        rig.close(conn, CloseReason::Reset);
        assert_eq!(outcomes(&mut rig), [lost(Phase::Accepted, CloseReason::Reset)]);
    }
    for (wait, number) in waits[1..].iter().zip(0..) {
        let doubled = millis(100 << number).min(secs(30));
        assert!((doubled / 2..=doubled + millis(10)).contains(wait), "{waits:?}");
    }
}
