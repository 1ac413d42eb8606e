//! Jobs that are over the limit of a packet.

use super::*;
use gearwheel::wire::Magic;
use gearwheel::wire::frame::header;

#[test]
fn a_job_over_the_limit_fails_and_the_next_one_is_run() {
    let bytes = |kind: T, body: &[u8]| [&header(Magic::Response, kind, body.len()), body].concat();
    // What is passed over is looked at by nobody, though it be packets.
    let inside = bytes(T::JOB_ASSIGN_UNIQ, b"H:x:9\0f\0u\0p").repeat(20);
    for (kind, names) in [
        (T::JOB_ASSIGN, &b"H:x:1\0f\0"[..]),
        (T::JOB_ASSIGN_UNIQ, b"H:x:1\0f\0u1\0"),
        (T::JOB_ASSIGN_ALL, b"H:x:1\0f\0u1\0r\0"),
    ] {
        let large = bytes(kind, &[names, &inside].concat());
        for step in [1, 12, 13, 17, 18, 19, 20, 100, usize::MAX] {
            let mut small = config(&["a"]);
            small.limits.max_packet = 100;
            let (mut rig, conn) = worker_with(small);
            for chunk in large.chunks(step.min(large.len())) {
                assert!(rig.sent(conn).is_empty(), "gearmand sends from what it drops with the answer");
                rig.receive_bytes(conn, chunk);
            }
            let size = large.len() - 12;
            let why = format!("H:x:1|the job has {size} bytes; this worker takes 100");
            let [exception, fail, grab] = &rig.sent(conn)[..] else { panic!("three packets") };
            assert_eq!(exception, &packet(T::WORK_EXCEPTION, &why), "{kind} by {step}");
            assert_eq!((fail, grab.kind()), (&packet(T::WORK_FAIL, "H:x:1"), T::GRAB_JOB_UNIQ));
            rig.receive(conn, &[job(2)]);
            let task = one(&mut rig);
            complete(&mut rig, task);
            let counters = rig.machine.counters();
            assert_eq!((counters.assigned, counters.answered, rig.disconnects().len()), (2, 2, 0));
        }
    }
}

#[test]
fn what_is_over_the_limit_and_no_job_of_ours_ends_the_connection() {
    let names = [b"H:x:1\0other\0u\0".to_vec(), vec![b'x'; 2000], b"\0f\0u\0".to_vec()];
    let jobs = names.map(|names| (T::JOB_ASSIGN_UNIQ, [names, vec![7; 2000]].concat()));
    for (kind, body) in jobs.into_iter().chain([(T::ECHO_RES, vec![7; 101])]) {
        let mut small = config(&["a"]);
        small.limits.max_packet = 100;
        let (mut rig, conn) = worker_with(small);
        rig.receive_bytes(conn, &[&header(Magic::Response, kind, body.len())[..], &body].concat());
        assert_eq!(rig.disconnects(), [conn]);
        assert!(assigned(&mut rig).is_empty());
    }
}
