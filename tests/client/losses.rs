//! Jobs that end without a result: deadlines, lost connections, silence; and which of them are submitted again.

use super::*;

#[test]
fn a_parked_job_times_out_and_is_never_sent() {
    let mut rig = client(&["a"]);
    let job = submit(&mut rig, Job::new("f", "x").accept_timeout(secs(2)));
    rig.pass(secs(3));
    assert_eq!(outcomes(&mut rig), [(job, Outcome::TimedOut { phase: Phase::Parked, server: None, attempts: 0 })]);
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), [""; 0]);
    assert!(rig.machine.is_empty());
}

#[test]
fn each_deadline_ends_the_job_with_its_phase() {
    let (mut rig, _, job) = sent(Job::new("f", "x").accept_timeout(secs(2)));
    rig.pass(secs(3));
    assert_eq!(
        outcomes(&mut rig),
        [(job, Outcome::TimedOut { phase: Phase::Sent, server: Some(address("a")), attempts: 1 })]
    );

    let (mut rig, _, job) = accepted(Job::new("f", "x").timeout(secs(5)));
    rig.pass(secs(4));
    assert_eq!(outcomes(&mut rig), []);
    rig.pass(secs(2));
    assert_eq!(
        outcomes(&mut rig),
        [(job, Outcome::TimedOut { phase: Phase::Accepted, server: Some(address("a")), attempts: 1 })]
    );

    let (mut rig, conn, job) = accepted(Job::new("f", "x").idle_timeout(secs(2)));
    for _ in 0..5 {
        rig.pass(secs(1));
        rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|alive")]);
    }
    assert_eq!(outcomes(&mut rig), []);
    rig.pass(secs(3));
    assert_eq!(
        outcomes(&mut rig),
        [(job, Outcome::TimedOut { phase: Phase::Running, server: Some(address("a")), attempts: 1 })]
    );
}

#[test]
fn the_reply_to_a_job_that_is_over_is_not_taken_for_the_next() {
    let (mut rig, conn, first) = sent(Job::new("f", "1").accept_timeout(secs(1)));
    let second = submit(&mut rig, Job::new("f", "2"));
    rig.pass(secs(2));
    assert_eq!(outcomes(&mut rig).len(), 1, "{first:?} has timed out");
    rig.receive(
        conn,
        &[
            packet(T::JOB_CREATED, "H:x:1"),
            packet(T::JOB_CREATED, "H:x:2"),
            packet(T::WORK_COMPLETE, "H:x:1|one"),
            packet(T::WORK_COMPLETE, "H:x:2|two"),
        ],
    );
    assert_eq!(outcomes(&mut rig), [(second, complete("two"))]);
}

#[test]
fn a_loss_names_its_phase_and_server() {
    let lost = |phase| Outcome::Lost { phase, server: address("a"), reason: CloseReason::Reset, attempts: 1 };

    let (mut rig, conn, job) = sent(Job::new("f", "x"));
    rig.close(conn, CloseReason::Reset);
    assert_eq!(outcomes(&mut rig), [(job, lost(Phase::Sent))]);

    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.close(conn, CloseReason::Reset);
    assert_eq!(outcomes(&mut rig), [(job, lost(Phase::Accepted))]);

    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.receive(conn, &[packet(T::WORK_STATUS, "H:x:1|1|2")]);
    rig.close(conn, CloseReason::Reset);
    assert_eq!(outcomes(&mut rig), [(job, lost(Phase::Running))]);
    assert!(rig.machine.is_empty());
}

#[test]
fn a_job_whose_bytes_were_not_all_taken_is_sent_again() {
    for written in [0, 1, 12, 20] {
        let mut rig = client(&["a"]);
        rig.writable = false;
        let job = submit(&mut rig, Job::new("f", "0123456789"));
        let conn = rig.connect();
        rig.write(conn, written);
        assert_eq!(rig.machine.phase(job), Some(Phase::Sending));
        rig.close(conn, CloseReason::Reset);
        rig.writable = true;
        rig.pass(secs(1));
        let conn = rig.connect();
        assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"], "after {written} bytes");
        assert_eq!(outcomes(&mut rig), []);
        assert_eq!(rig.machine.counters().retried, 1);
    }
}

#[test]
fn a_job_that_must_never_be_sent_again_is_lost_while_sending() {
    let mut rig = client(&["a"]);
    rig.writable = false;
    let job = submit(&mut rig, Job::new("f", "0123456789").retry(Retry::Never));
    let conn = rig.connect();
    rig.write(conn, 5);
    rig.close(conn, CloseReason::Reset);
    let outcome =
        Outcome::Lost { phase: Phase::Sending, server: address("a"), reason: CloseReason::Reset, attempts: 1 };
    assert_eq!(outcomes(&mut rig), [(job, outcome)]);
}

#[test]
fn what_a_writer_has_in_hand_may_have_arrived() {
    use gearwheel::Machine;
    let mut rig = client(&["a"]);
    rig.writable = false;
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.events();
    let mut in_hand = gearwheel::Batch::default();
    rig.machine.outgoing(conn).share(64, &mut in_hand);
    assert_eq!(in_hand.chunks().count(), 1);
    rig.receive_bytes(conn, b"garbage from the server");
    let ends = outcomes(&mut rig);
    assert!(matches!(&ends[..], [(id, Outcome::Lost { phase: Phase::Sent, .. })] if *id == job), "{ends:?}");
    // A driver that has told how much was taken has nothing in hand.
    let mut rig = client(&["a"]);
    rig.writable = false;
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    let mut outgoing = rig.machine.outgoing(conn);
    outgoing.share(64, &mut in_hand);
    outgoing.advance(3);
    rig.close(conn, CloseReason::Reset);
    assert_eq!(outcomes(&mut rig), [], "it is sent again");
}

#[test]
fn an_idempotent_job_is_tried_as_often_as_allowed() {
    let (mut rig, mut conn, job) = sent(Job::new("f", "x").unique("u").retry(Retry::Idempotent { attempts: 3 }));
    for _ in 0..2 {
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
        rig.close(conn, CloseReason::Ended);
        assert_eq!(outcomes(&mut rig), []);
        rig.pass(secs(1));
        conn = rig.connect();
        let [Packet::SubmitJob(again)] = &rig.sent(conn)[..] else { panic!("not submitted again") };
        assert_eq!((again.unique(), again.payload()), (&b"u"[..], &b"x"[..]));
    }
    rig.close(conn, CloseReason::Ended);
    let outcome = Outcome::Lost { phase: Phase::Sent, server: address("a"), reason: CloseReason::Ended, attempts: 3 };
    assert_eq!(outcomes(&mut rig), [(job, outcome)]);
}

#[test]
fn a_job_that_joined_one_which_the_server_forgot_is_submitted_once_more() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x").unique("u").retry(Retry::Idempotent { attempts: 5 }));
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.sent(conn);
    // gearmand's orphan: known at first, then no more, and never any result.
    for known in ["1|0", "0|0", "0|0"] {
        rig.pass(secs(3));
        assert_eq!(rig.sent_names(conn), ["GET_STATUS"], "asked as long as it is in doubt");
        rig.receive(conn, &[packet(T::STATUS_RES, &format!("H:x:1|{known}|0|0"))]);
    }
    rig.pass(secs(2));
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:2"), packet(T::WORK_COMPLETE, "H:x:2|y")]);
    assert_eq!(outcomes(&mut rig), [(job, complete("y"))]);
}

#[test]
fn a_generated_unique_is_new_for_each_attempt() {
    let job = Job::new("f", "x").generated_unique().retry(Retry::Idempotent { attempts: 2 });
    assert_eq!(job.clone().generated_unique(), job);
    let mut rig = client(&["a"]);
    submit(&mut rig, job);
    let mut uniques = Vec::new();
    for _ in 0..2 {
        let conn = rig.connect();
        let [Packet::SubmitJob(packet)] = &rig.sent(conn)[..] else { panic!("not submitted") };
        uniques.push(packet.unique().to_vec());
        rig.close(conn, CloseReason::Reset);
        rig.pass(secs(1));
    }
    assert_eq!((uniques[0].len(), uniques[1].len()), (32, 32));
    assert_ne!(uniques[0], uniques[1]);
    let _ = Unique::Generated;
}

#[test]
fn a_silent_server_is_found_by_a_probe_and_its_jobs_end() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.pass(secs(16));
    assert_eq!(rig.sent_names(conn), ["ECHO_REQ"]);
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    rig.pass(secs(14));
    assert_eq!(outcomes(&mut rig), [], "it lives");
    rig.pass(secs(17));
    assert_eq!(rig.disconnects(), [conn]);
    let outcome =
        Outcome::Lost { phase: Phase::Accepted, server: address("a"), reason: CloseReason::Silent, attempts: 1 };
    assert_eq!(outcomes(&mut rig), [(job, outcome)]);
}

#[test]
fn a_reply_that_never_comes_closes_the_connection() {
    let (mut rig, conn, job) = sent(Job::new("f", "x").accept_timeout(secs(100)));
    rig.pass(secs(16));
    assert_eq!(rig.disconnects(), [conn]);
    let outcome = Outcome::Lost { phase: Phase::Sent, server: address("a"), reason: CloseReason::Silent, attempts: 1 };
    assert_eq!(outcomes(&mut rig), [(job, outcome)]);
}

#[test]
fn a_slow_upload_is_no_silence() {
    let mut rig = client(&["a"]);
    rig.writable = false;
    let job = submit(&mut rig, Job::new("f", vec![0; 1 << 20]).accept_timeout(secs(1000)));
    let conn = rig.connect();
    for _ in 0..100 {
        rig.write(conn, 10_000);
        rig.pass(secs(1));
    }
    assert_eq!((outcomes(&mut rig), rig.disconnects()), (vec![], vec![]));
    assert_eq!(rig.machine.phase(job), Some(Phase::Sending));
}

#[test]
fn an_idle_client_has_no_timer_but_the_probe() {
    let (mut rig, conn, _) = accepted(Job::new("f", "x"));
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert_eq!(rig.pass(secs(14)), 0);
    let mut quiet = config(&["a"]);
    quiet.connecting.probe_after = None;
    let mut rig = Rig::new(Client::new(quiet).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x").background());
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    assert_eq!(outcomes(&mut rig).len(), 1, "{job:?}");
    assert_eq!(rig.wait, None);
}

#[test]
fn abandoned_and_closed_jobs_end_once() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    let other = submit(&mut rig, Job::new("f", "y"));
    rig.act(|client, now| client.abandon(job, now));
    rig.act(|client, now| client.abandon(job, now));
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Cancelled { phase: Phase::Accepted })]);
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|late")]);
    rig.act(|client, now| client.close(now));
    let events = rig.events();
    assert_eq!(events, [Event::Done { job: other, outcome: Outcome::Cancelled { phase: Phase::Sent } }, Event::Closed]);
    assert_eq!(rig.disconnects(), [conn]);
    let rejected = rig.act(|client, now| client.submit(Job::new("f", "z"), now)).expect_err("closed");
    assert_eq!((rejected.reason, rejected.value.payload().clone()), (Reason::Closed, Bytes::from("z")));
    assert_eq!((rig.wait, rig.machine.is_empty()), (None, true));
}
