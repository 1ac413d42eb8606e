//! Packets of jobs that are over the limit.

use super::*;
use gearwheel::wire::Magic;
use gearwheel::wire::frame::header;
use gearwheel::{CloseReason, Phase};

const LIMIT: usize = 100;

/// A client that takes packets of 100 bytes, and two jobs that its job server has.
fn two_jobs() -> (Rig<Client>, ConnId, [JobId; 2]) {
    let mut small = config(&["a"]);
    small.limits.max_packet = LIMIT;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    let jobs = ["f", "g"].map(|function| submit(&mut rig, Job::new(function, "x")));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:2")]);
    rig.events();
    (rig, conn, jobs)
}

fn bytes(kind: T, body: &[u8]) -> Vec<u8> {
    [&header(Magic::Response, kind, body.len()), body].concat()
}

fn overflow(phase: Phase) -> Outcome {
    Outcome::Overflow { limit: LIMIT, phase, server: address("a"), attempts: 1 }
}

#[test]
fn a_result_over_the_limit_ends_its_job_and_no_other() {
    // What is passed over is looked at by nobody, though it be packets.
    let inside = bytes(T::WORK_FAIL, b"H:2").repeat(40);
    for (kind, phase) in [
        (T::WORK_COMPLETE, Phase::Accepted),
        (T::WORK_EXCEPTION, Phase::Accepted),
        (T::WORK_DATA, Phase::Running),
        (T::WORK_WARNING, Phase::Running),
    ] {
        let large = bytes(kind, &[b"H:1\0", &inside[..]].concat());
        for step in [1, 7, 15, 16, 17, 100, large.len(), usize::MAX] {
            let (mut rig, conn, [first, second]) = two_jobs();
            let all = [&large[..], &bytes(T::WORK_COMPLETE, b"H:2\0done")].concat();
            all.chunks(step.min(all.len())).for_each(|chunk| rig.receive_bytes(conn, chunk));
            assert_eq!(outcomes(&mut rig), [(first, overflow(phase)), (second, complete("done"))], "{kind} by {step}");
            assert!(rig.disconnects().is_empty());
            assert_eq!(rig.machine.counters().overflowed, 1);
        }
    }
}

#[test]
fn what_is_passed_over_goes_with_its_connection() {
    let (mut rig, conn, [first, second]) = two_jobs();
    rig.receive_bytes(conn, &bytes(T::WORK_COMPLETE, &[b"H:1\0", &[7; 5000][..]].concat())[..1000]);
    assert_eq!(outcomes(&mut rig), [(first, overflow(Phase::Accepted))]);
    rig.close(conn, CloseReason::Reset);
    assert!(matches!(outcomes(&mut rig)[..], [(job, Outcome::Lost { .. })] if job == second));
    rig.pass(secs(1));
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::WORK_COMPLETE, "H:1|done")]);
    assert_eq!(outcomes(&mut rig), [(job, complete("done"))]);
}

#[test]
fn what_is_over_the_limit_and_of_no_job_is_passed_over_or_ends_the_connection() {
    let (mut rig, conn, _) = two_jobs();
    rig.receive_bytes(conn, &bytes(T::WORK_DATA, &[b"H:9\0", &[7; 5000][..]].concat()));
    assert_eq!((rig.machine.counters().late, rig.disconnects().len()), (1, 0));
    for bad in [bytes(T::WORK_COMPLETE, &[7; 5000]), bytes(T::WORK_COMPLETE, &[7; 101]), bytes(T::ECHO_RES, &[7; 101])]
    {
        let (mut rig, conn, [first, second]) = two_jobs();
        rig.receive_bytes(conn, &bad);
        let lost: Vec<_> = outcomes(&mut rig).into_iter().map(|(job, _)| job).collect();
        assert_eq!((lost, rig.disconnects().len()), (vec![first, second], 1));
    }
}
