//! Deadlines, silence and broken connections: how a job ends by them, and when it is sent again.

use super::*;

#[test]
fn a_refused_connection_is_told_and_tried_again_with_growing_gaps() {
    let mut rig = client(&["a"]);
    let job = submit(&mut rig, Job::new("f", "x").accept_timeout(secs(600)));
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let (conn, _) = rig.connects()[0].clone();
        rig.close(conn, CloseReason::Refused);
        let events = rig.events();
        assert!(matches!(&events[0], Event::Disconnected { reason: CloseReason::Refused, .. }), "{events:?}");
        let all_down = events.iter().filter(|event| matches!(event, Event::AllDown { retry_at: Some(_) })).count();
        assert_eq!(all_down, usize::from(gaps.is_empty()), "said once");
        let before = rig.now;
        while rig.connects.is_empty() {
            rig.pass(millis(10));
        }
        gaps.push(rig.now.saturating_since(before));
    }
    assert!(gaps[0] <= millis(110) && gaps[3] > gaps[0] && gaps[11] > secs(14) && gaps[11] <= secs(31), "{gaps:?}");
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
    assert_eq!(rig.machine.phase(job), Some(Phase::Sent));
}

#[test]
fn a_parked_job_times_out_and_is_never_sent() {
    let mut rig = client(&["a"]);
    let job = submit(&mut rig, Job::new("f", "x").accept_timeout(secs(2)));
    rig.pass(secs(3));
    assert_eq!(
        outcomes(&mut rig),
        [(job, Outcome::TimedOut { phase: Phase::Parked, server: None, reason: None, attempts: 0 })]
    );
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
        [(job, Outcome::TimedOut { phase: Phase::Sent, server: Some(address("a")), reason: None, attempts: 1 })]
    );

    let (mut rig, _, job) = accepted(Job::new("f", "x").timeout(secs(5)));
    rig.pass(secs(4));
    assert_eq!(outcomes(&mut rig), []);
    rig.pass(secs(2));
    assert_eq!(
        outcomes(&mut rig),
        [(job, Outcome::TimedOut { phase: Phase::Accepted, server: Some(address("a")), reason: None, attempts: 1 })]
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
        [(job, Outcome::TimedOut { phase: Phase::Running, server: Some(address("a")), reason: None, attempts: 1 })]
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
fn garbage_closes_the_connection_with_an_error_and_the_client_goes_on() {
    let cases: [(&[u8], ProtocolError); 3] = [
        (b"garbage garbage", gearwheel::wire::frame::FrameError::BadMagic(*b"garb").into()),
        (b"\0RES\0\0\0\x63\0\0\0\0", gearwheel::wire::DecodeError::UnknownType(99).into()),
        (b"\0RES\0\0\0\x09\0\0\0\0", ProtocolError::WrongSide(T::GRAB_JOB)),
    ];
    for (bytes, error) in cases {
        let (mut rig, conn, job) = accepted(Job::new("f", "x"));
        rig.receive_bytes(conn, bytes);
        let reason = CloseReason::Protocol(error);
        let events = rig.events();
        assert!(matches!(&events[0], Event::Disconnected { reason: told, .. } if *told == reason), "{events:?}");
        let outcome = Outcome::Lost { phase: Phase::Accepted, server: address("a"), reason, attempts: 1 };
        assert_eq!(events[1], Event::Done { job, outcome });
        assert_eq!(rig.disconnects(), [conn]);
        rig.pass(secs(1));
        submit(&mut rig, Job::new("f", "again"));
        rig.connect();
    }
}

#[test]
fn a_reply_to_nothing_closes_the_connection() {
    for reply in [packet(T::JOB_CREATED, "H:x:2"), packet(T::STATUS_RES, "H|0|0|0|0"), packet(T::ECHO_RES, "x")] {
        let (mut rig, conn, _) = accepted(Job::new("f", "x"));
        let kind = reply.kind();
        rig.receive(conn, &[reply]);
        let reason = CloseReason::Protocol(ProtocolError::OutOfOrder(kind));
        assert!(matches!(&rig.events()[0], Event::Disconnected { reason: told, .. } if *told == reason));
    }
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
fn a_lost_job_waits_longer_each_time_though_another_server_could_have_it_at_once() {
    let mut two = config(&["a", "b"]);
    two.connecting.retry_first = millis(100);
    two.connecting.retry_most = secs(1);
    two.connecting.recover_time = secs(0);
    let mut rig = Rig::new(Client::new(two).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x").retry(Retry::Idempotent { attempts: 7 }));
    for most in [100, 200, 400, 800, 1000, 1000] {
        let conn = rig.connect();
        rig.close(conn, CloseReason::Reset);
        assert_eq!(rig.machine.phase(job), Some(Phase::Parked));
        let lost = rig.now;
        while rig.connects.is_empty() {
            let at = rig.wait.expect("it is tried again");
            rig.pass(at.saturating_since(rig.now));
        }
        let gap = rig.now.saturating_since(lost);
        assert!((millis(most / 2)..=millis(most)).contains(&gap), "{gap:?} of {most} ms");
    }
    let conn = rig.connect();
    rig.close(conn, CloseReason::Reset);
    let ends = outcomes(&mut rig);
    assert!(matches!(&ends[..], [(_, Outcome::Lost { attempts: 7, .. })]), "{ends:?}");
}

/// A client whose connections are never probed, and a job that its server took at the second attempt.
fn taken_again(job: Job) -> (Rig<Client>, ConnId) {
    let mut quiet = config(&["a"]);
    quiet.connecting.probe_after = None;
    quiet.connecting.retry_first = millis(500);
    quiet.connecting.retry_most = secs(3);
    let mut rig = Rig::new(Client::new(quiet).expect("valid"));
    submit(&mut rig, job.retry(Retry::Idempotent { attempts: 5 }));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.pass(secs(60));
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"], "a job of one attempt is in no doubt");
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:2")]);
    rig.sent(conn);
    (rig, conn)
}

#[test]
fn a_job_that_may_have_joined_an_orphan_is_asked_for_less_and_less_often() {
    let (mut rig, conn) = taken_again(Job::new("f", "x").unique("u"));
    let answers = [
        packet(T::STATUS_RES, "H:x:2|1|0|0|0"),
        packet(T::STATUS_RES, "H:x:2|0|0|0|0"),
        // Whoever cannot tell has not said that it is unknown.
        packet(T::ERROR, "INVALID_COMMAND|what?"),
        packet(T::STATUS_RES, "H:x:2|0|0|0|0"),
        packet(T::STATUS_RES, "H:x:2|0|0|0|0"),
    ];
    for (wait, answer) in [1000, 2000, 3000, 3000, 3000].into_iter().zip(answers) {
        assert_eq!(outcomes(&mut rig), []);
        rig.pass(millis(wait - 1));
        assert_eq!(rig.sent_names(conn), [""; 0], "before {wait} ms are over");
        rig.pass(millis(1));
        assert_eq!(rig.sent_names(conn), ["GET_STATUS"]);
        rig.receive(conn, &[answer]);
    }
    rig.pass(secs(2));
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"], "unknown twice, with nothing between");
}

#[test]
fn a_job_with_a_unique_of_its_own_attempt_is_in_no_doubt() {
    for job in [Job::new("f", "x"), Job::new("f", "x").generated_unique()] {
        let (mut rig, conn) = taken_again(job);
        rig.pass(secs(60));
        assert_eq!(rig.sent_names(conn), [""; 0]);
    }
}

#[test]
fn what_a_writer_has_in_hand_when_a_job_is_given_up_may_arrive() {
    use gearwheel::Machine;
    for close in [true, false] {
        let mut rig = client(&["a"]);
        rig.writable = false;
        let job = submit(&mut rig, Job::new("f", "x"));
        let conn = rig.connect();
        rig.machine.outgoing(conn).share(64, &mut gearwheel::Batch::default());
        rig.act(|client, now| if close { client.close(now) } else { client.abandon(job, now) });
        assert_eq!(outcomes(&mut rig), [(job, Outcome::Cancelled { phase: Phase::Sent })]);
    }
}

#[test]
fn a_driver_that_forgets_what_it_has_read_does_no_harm() {
    let (mut rig, conn, _) = sent(Job::new("f", "x"));
    let mut much = b"\0RES\0\0\0\x0d\0\x10\0\0".to_vec();
    much.resize(100_000, 0);
    rig.receive_bytes(conn, &much);
    rig.handle(gearwheel::Input::Tick);
    rig.handle(gearwheel::Input::Data(conn, &mut bytes::BytesMut::new()));
    rig.handle(gearwheel::Input::Tick);
    assert_eq!(rig.disconnects(), []);
}
