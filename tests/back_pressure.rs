//! What a client does when its user does not read what comes of a job, on virtual time.

#[path = "common/rig.rs"]
mod rig;

use gearwheel::client::{Client, Config, EVENT_COST, Event, Unread};
use gearwheel::wire::{Packet, PacketType as T};
use gearwheel::{CloseReason, ConnId, Job, JobId, Machine, Outcome, Phase, Reason, Retry};
use rig::{Rig, address, millis, packet, secs};

/// What may wait: ten events without payload.
const LIMIT: usize = 10 * EVENT_COST;

fn client(unread: Unread) -> Rig<Client> {
    let mut config = Config::new([5; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    config.unread = unread;
    config.limits.max_unread = LIMIT;
    config.limits.max_jobs = 2;
    Rig::new(Client::new(config).expect("valid"))
}

/// Two jobs that run on one connection, as H:1 and H:2.
fn running(unread: Unread, first: Job) -> (Rig<Client>, ConnId, [JobId; 2]) {
    let mut rig = client(unread);
    let jobs = [first, Job::new("f", "2")].map(|job| rig.act(|client, now| client.submit(job, now)).expect("taken"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:2")]);
    rig.sent(conn);
    rig.events();
    (rig, conn, jobs)
}

fn parts(count: usize) -> Vec<Packet> {
    vec![packet(T::WORK_DATA, "H:1|"); count]
}

/// What came: parts of the first job, and whatever else.
fn came(rig: &mut Rig<Client>, jobs: [JobId; 2]) -> (usize, Vec<Event>) {
    let (parts, others): (Vec<_>, Vec<_>) =
        rig.events().into_iter().partition(|event| matches!(event, Event::Data { job, .. } if *job == jobs[0]));
    (parts.len(), others)
}

fn overflow(job: JobId, limit: usize) -> Event {
    let outcome = Outcome::Overflow { limit, phase: Phase::Running, server: address("a"), attempts: 1 };
    Event::Done { job, outcome }
}

#[test]
fn a_job_that_nobody_reads_ends_and_hurts_no_other() {
    for last in [T::WORK_DATA, T::WORK_WARNING] {
        let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1"));
        rig.receive(conn, &parts(10));
        assert_eq!(came(&mut rig, jobs), (10, vec![]), "so many may wait");
        assert_eq!(rig.machine.outstanding(), 2);
        rig.receive(conn, &[packet(last, "H:1|")]);
        assert_eq!(came(&mut rig, jobs), (0, vec![overflow(jobs[0], LIMIT)]));
        assert_eq!(rig.sent_names(conn), [""; 0], "the protocol has no word for it");
        rig.receive(conn, &parts(1000));
        rig.receive(conn, &[packet(T::WORK_STATUS, "H:1|1|2"), packet(T::WORK_COMPLETE, "H:1|r")]);
        assert_eq!(came(&mut rig, jobs), (0, vec![]), "nothing comes after the end");
        let counters = rig.machine.counters();
        assert_eq!((counters.late, counters.overflowed, counters.ended), (1002, 1, 1));
        rig.receive(conn, &[packet(T::WORK_DATA, "H:2|x"), packet(T::WORK_COMPLETE, "H:2|r")]);
        let others = [
            Event::Data { job: jobs[1], payload: "x".into() },
            Event::Done { job: jobs[1], outcome: Outcome::Complete("r".into()) },
        ];
        assert_eq!(came(&mut rig, jobs).1, others);
        assert!(rig.machine.is_empty() && rig.machine.wants_read(conn));
    }
}

#[test]
fn room_for_another_job_comes_with_the_end_not_with_its_reading() {
    let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1"));
    let full = rig.machine.submit(Job::new("f", "3"), rig.now).expect_err("two are all");
    assert!(matches!(full.reason, Reason::Full { limit: 2, .. }), "{full:?}");
    let mut stream = bytes::BytesMut::new();
    parts(11).iter().for_each(|part| part.encode(gearwheel::wire::Magic::Response, &mut stream));
    // Nothing has been polled since: neither the parts nor the end.
    rig.machine.handle(gearwheel::Input::Data(conn, &mut stream), rig.now);
    assert_eq!(rig.machine.outstanding(), 1);
    rig.act(|client, now| client.submit(full.value, now)).expect("there is room");
    assert_eq!(came(&mut rig, jobs), (10, vec![overflow(jobs[0], LIMIT)]));
}

#[test]
fn who_reads_in_time_gets_all() {
    let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1"));
    for _ in 0..1000 {
        rig.receive(conn, &parts(7));
        assert_eq!(came(&mut rig, jobs), (7, vec![]));
        (0..7).for_each(|_| rig.act(|client, now| client.release(jobs[0], 0, now)));
    }
    let payload = "x".repeat(LIMIT - 2 * EVENT_COST);
    rig.receive(conn, &[packet(T::WORK_DATA, &format!("H:1|{payload}")), packet(T::WORK_DATA, "H:1|")]);
    assert_eq!(came(&mut rig, jobs), (2, vec![]), "payloads count, too");
    rig.act(|client, now| client.release(jobs[0], payload.len(), now));
    rig.receive(conn, &parts(9));
    assert_eq!(came(&mut rig, jobs), (9, vec![]));
    rig.receive(conn, &parts(1));
    assert_eq!(came(&mut rig, jobs), (0, vec![overflow(jobs[0], LIMIT)]));
    // All is over for this job: nothing more happens to it, or by it.
    rig.act(|client, now| client.release(jobs[0], usize::MAX, now));
    assert_eq!(came(&mut rig, jobs), (0, vec![]));
}

#[test]
fn one_event_may_be_larger_than_the_limit() {
    let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1"));
    let large = packet(T::WORK_DATA, &format!("H:1|{}", "x".repeat(3 * LIMIT)));
    rig.receive(conn, std::slice::from_ref(&large));
    assert_eq!(came(&mut rig, jobs), (1, vec![]));
    rig.act(|client, now| client.release(jobs[0], 3 * LIMIT, now));
    rig.receive(conn, &[large, packet(T::WORK_DATA, "H:1|")]);
    assert_eq!(came(&mut rig, jobs), (1, vec![overflow(jobs[0], LIMIT)]));
}

#[test]
fn a_job_may_have_a_limit_of_its_own() {
    let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1").max_unread(20 * EVENT_COST));
    rig.receive(conn, &parts(21));
    assert_eq!(came(&mut rig, jobs), (20, vec![overflow(jobs[0], 20 * EVENT_COST)]));
    let (mut rig, conn, jobs) = running(Unread::Overflow, Job::new("f", "1").max_unread(0));
    rig.receive(conn, &parts(2));
    assert_eq!(came(&mut rig, jobs), (1, vec![overflow(jobs[0], 0)]));
}

#[test]
fn all_jobs_together_have_a_limit_too() {
    for unread in [Unread::Overflow, Unread::Pause] {
        let mut config = Config::new([5; 32]);
        config.servers = vec![address("a")];
        config.exceptions = false;
        config.unread = unread;
        config.limits.max_unread_total = LIMIT;
        let mut rig = Rig::new(Client::new(config).expect("valid"));
        let jobs =
            ["1", "2"].map(|payload| rig.act(|client, now| client.submit(Job::new("f", payload), now)).expect("taken"));
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:2")]);
        rig.receive(conn, &parts(6));
        rig.receive(conn, &vec![packet(T::WORK_DATA, "H:2|"); 4]);
        rig.events();
        if unread == Unread::Pause {
            assert!(!rig.machine.wants_read(conn));
            // One job is enough: it was the last that filled the room.
            rig.act(|client, now| client.release(jobs[1], 0, now));
            assert!(rig.machine.wants_read(conn));
            continue;
        }
        rig.receive(conn, &[packet(T::WORK_DATA, "H:2|")]);
        assert_eq!(rig.events(), [overflow(jobs[1], LIMIT)], "whose part it is, he overflows");
        rig.receive(conn, &parts(4));
        assert_eq!(came(&mut rig, jobs), (4, vec![]), "what he had not read no longer counts");
    }
}

#[test]
fn a_status_never_fills_anything_as_only_the_last_is_kept() {
    for unread in [Unread::Overflow, Unread::Pause] {
        let (mut rig, conn, jobs) = running(unread, Job::new("f", "1"));
        rig.receive(conn, &vec![packet(T::WORK_STATUS, "H:1|1|2"); 1000]);
        assert_eq!(came(&mut rig, jobs).1.len(), 1000);
        assert!(rig.machine.wants_read(conn));
    }
}

#[test]
fn what_is_polled_is_read_where_nothing_else_is_said() {
    let (mut rig, conn, jobs) = running(Unread::default(), Job::new("f", "1"));
    rig.receive(conn, &parts(1000));
    assert_eq!(came(&mut rig, jobs), (1000, vec![]));
}

#[test]
fn who_wants_only_the_end_gets_only_the_end() {
    for unread in [Unread::Polled, Unread::Overflow, Unread::Pause] {
        let mut rig = client(unread);
        let job = rig.act(|client, now| client.submit(Job::new("f", "1"), now)).expect("taken");
        rig.act(|client, now| client.want_end(job, now));
        let conn = rig.connect();
        rig.events();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::WORK_STATUS, "H:1|1|2")]);
        rig.receive(conn, &parts(1000));
        rig.receive(conn, &[packet(T::WORK_WARNING, "H:1|w")]);
        assert_eq!(rig.machine.phase(job), Some(Phase::Running));
        rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:1|r")]);
        assert_eq!(rig.events(), [Event::Done { job, outcome: Outcome::Complete("r".into()) }]);
    }
}

/// The first job has its connection paused, behind ten of its parts.
fn paused() -> (Rig<Client>, ConnId, [JobId; 2]) {
    let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1").retry(Retry::Idempotent { attempts: 3 }));
    let mut packets = parts(20);
    packets.extend([packet(T::WORK_COMPLETE, "H:2|r"), packet(T::WORK_COMPLETE, "H:1|r")]);
    rig.receive(conn, &packets);
    assert_eq!(came(&mut rig, jobs), (10, vec![]));
    assert!(!rig.machine.wants_read(conn));
    (rig, conn, jobs)
}

fn done(job: JobId) -> Event {
    Event::Done { job, outcome: Outcome::Complete("r".into()) }
}

#[test]
fn a_paused_connection_goes_on_when_half_has_been_read() {
    let (mut rig, conn, jobs) = paused();
    for _ in 0..4 {
        rig.act(|client, now| client.release(jobs[0], 0, now));
        assert!(!rig.machine.wants_read(conn));
    }
    assert_eq!(came(&mut rig, jobs), (0, vec![]));
    rig.act(|client, now| client.release(jobs[0], 0, now));
    assert_eq!(came(&mut rig, jobs), (5, vec![]));
    assert!(!rig.machine.wants_read(conn), "it is full again");
    (0..5).for_each(|_| rig.act(|client, now| client.release(jobs[0], 0, now)));
    (0..5).for_each(|_| rig.act(|client, now| client.release(jobs[0], 0, now)));
    assert_eq!(came(&mut rig, jobs), (5, vec![done(jobs[1]), done(jobs[0])]));
    assert!(rig.machine.wants_read(conn) && rig.machine.is_empty());
    assert_eq!(rig.machine.counters().late, 0);
}

#[test]
fn whatever_ends_a_job_ends_its_pause() {
    let ends: [fn(&mut Rig<Client>, JobId); 3] = [
        |rig, job| rig.act(|client, now| client.abandon(job, now)),
        |rig, job| rig.act(|client, now| client.want_end(job, now)),
        |rig, _| {
            rig.pass(secs(100));
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1").timeout(secs(100)));
        let mut packets = parts(20);
        packets.push(packet(T::WORK_COMPLETE, "H:2|r"));
        rig.receive(conn, &packets);
        assert_eq!(came(&mut rig, jobs), (10, vec![]));
        end(&mut rig, jobs[0]);
        let (parts, others) = came(&mut rig, jobs);
        assert_eq!((parts, others.last()), (0, Some(&done(jobs[1]))), "{number}");
        assert!(rig.machine.wants_read(conn));
    }
}

#[test]
fn two_jobs_pause_a_connection_until_both_are_read() {
    let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1"));
    let large = format!("H:2|{}", "x".repeat(LIMIT));
    rig.receive(conn, &[packet(T::WORK_DATA, &large)]);
    assert!(!rig.machine.wants_read(conn));
    rig.act(|client, now| client.release(jobs[0], 0, now));
    assert!(!rig.machine.wants_read(conn), "it was not the first that is not read");
    rig.act(|client, now| client.release(jobs[1], LIMIT, now));
    assert!(rig.machine.wants_read(conn));
}

#[test]
fn nothing_is_missed_of_a_server_that_is_not_read() {
    let (mut rig, conn, jobs) = paused();
    rig.pass(secs(3600));
    assert_eq!(rig.sent_names(conn), [""; 0], "no probe, whose answer could not be read");
    assert_eq!((came(&mut rig, jobs), rig.disconnects()), ((0, vec![]), vec![]));
    // Now it is judged again, from now on.
    rig.act(|client, now| client.want_end(jobs[0], now));
    rig.pass(secs(14));
    assert_eq!(rig.sent_names(conn), [""; 0]);
    rig.pass(secs(2));
    assert_eq!(rig.sent_names(conn), ["ECHO_REQ"]);
    rig.pass(secs(16));
    assert_eq!(rig.disconnects(), [conn]);
}

#[test]
fn a_reply_that_waits_behind_a_pause_is_not_overdue() {
    let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1"));
    let server = rig.machine.servers().next().expect("one").server;
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:2|r")]);
    rig.act(|client, now| client.echo(server, "x".into(), now)).expect("sent");
    let mut packets = parts(10);
    packets.push(packet(T::ECHO_RES, "x"));
    rig.receive(conn, &packets);
    rig.pass(secs(60));
    rig.act(|client, now| client.want_end(jobs[0], now));
    assert_eq!(rig.disconnects(), []);
    let answered = |event: &Event| matches!(event, Event::Echo { result: Ok(_), .. });
    assert!(came(&mut rig, jobs).1.iter().any(answered));
}

#[test]
fn a_lost_connection_takes_its_pause_along_until_the_job_runs_again() {
    let (mut rig, mut conn, jobs) = paused();
    for _ in 0..2 {
        rig.close(conn, CloseReason::Reset);
        while rig.connects.is_empty() {
            rig.pass(millis(100));
        }
        conn = rig.connect();
        assert!(rig.machine.wants_read(conn));
        rig.events();
        let mut packets = vec![packet(T::JOB_CREATED, "H:1")];
        packets.extend(parts(3));
        rig.receive(conn, &packets);
        let (parts, others) = came(&mut rig, jobs);
        assert_eq!((parts, others.len()), (0, 1), "what came before still waits: nothing more may come");
        assert!(!rig.machine.wants_read(conn));
    }
    // Half of it read, the job goes on.
    (0..5).for_each(|_| rig.act(|client, now| client.release(jobs[0], 0, now)));
    assert_eq!(came(&mut rig, jobs), (3, vec![]));
    assert!(rig.machine.wants_read(conn));
}

#[test]
fn a_closed_client_holds_nothing_whoever_pauses() {
    let (mut rig, conn, _) = paused();
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(2));
    let again = rig.connect();
    rig.receive(again, &[packet(T::JOB_CREATED, "H:1")]);
    assert!(!rig.machine.wants_read(again));
    rig.events();
    rig.act(|client, now| client.close(now));
    assert_eq!(rig.events().last(), Some(&Event::Closed));
    assert!(rig.machine.is_empty());
}

#[test]
fn what_an_earlier_attempt_has_left_holds_a_connection_only_where_it_is_too_much() {
    // So much of ten waits unread when the job runs again.
    for (unread, left, wants_read) in
        [(Unread::Pause, 9, true), (Unread::Pause, 10, false), (Unread::Overflow, 10, true)]
    {
        let (mut rig, conn, jobs) = running(unread, Job::new("f", "1").retry(Retry::Idempotent { attempts: 3 }));
        rig.receive(conn, &parts(left));
        assert_eq!(came(&mut rig, jobs), (left, vec![]));
        rig.close(conn, CloseReason::Reset);
        rig.pass(secs(2));
        let again = rig.connect();
        rig.receive(again, &[packet(T::JOB_CREATED, "H:1")]);
        assert_eq!(rig.machine.wants_read(again), wants_read, "{unread:?}, {left}");
        rig.act(|client, now| client.want_end(jobs[0], now));
        assert!(rig.machine.wants_read(again), "{unread:?}, {left}");
    }
}

#[test]
fn all_jobs_together_hold_a_job_that_runs_again() {
    let mut config = Config::new([5; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    config.unread = Unread::Pause;
    config.limits.max_unread_total = LIMIT;
    let mut rig = Rig::new(Client::new(config).expect("valid"));
    let again = |payload| Job::new("f", payload).retry(Retry::Idempotent { attempts: 3 });
    let jobs = ["1", "2"].map(|payload| rig.act(|client, now| client.submit(again(payload), now)).expect("taken"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:2")]);
    rig.receive(conn, &parts(10));
    assert!(!rig.machine.wants_read(conn));
    rig.close(conn, CloseReason::Reset);
    while rig.connects.is_empty() {
        rig.pass(millis(100));
    }
    let conn = rig.connect();
    // The second has nothing unread: one event of it may always come. The first has.
    rig.pass(secs(2));
    rig.sent(conn);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:2")]);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
    let held = !rig.machine.wants_read(conn);
    rig.act(|client, now| client.want_end(jobs[0], now));
    assert!(held && rig.machine.wants_read(conn));
}

#[test]
fn who_wants_only_the_end_of_a_job_makes_room_for_the_others() {
    let mut config = Config::new([5; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    config.unread = Unread::Overflow;
    config.limits.max_unread_total = LIMIT;
    let mut rig = Rig::new(Client::new(config).expect("valid"));
    let jobs =
        ["1", "2"].map(|payload| rig.act(|client, now| client.submit(Job::new("f", payload), now)).expect("taken"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:2")]);
    rig.receive(conn, &parts(10));
    rig.act(|client, now| client.want_end(jobs[0], now));
    rig.events();
    rig.receive(conn, &vec![packet(T::WORK_DATA, "H:2|"); 11]);
    let events = rig.events();
    assert_eq!((events.len(), events.last()), (11, Some(&overflow(jobs[1], LIMIT))));
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:1|r")]);
    assert!(rig.machine.is_empty());
}

#[test]
fn only_who_holds_a_connection_lets_it_go() {
    let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1"));
    rig.receive(conn, &vec![packet(T::WORK_DATA, "H:2|"); 10]);
    assert!(!rig.machine.wants_read(conn));
    rig.act(|client, now| client.want_end(jobs[0], now));
    assert!(!rig.machine.wants_read(conn));
    rig.act(|client, now| client.want_end(jobs[1], now));
    assert!(rig.machine.wants_read(conn));
}

#[test]
fn a_job_of_which_nothing_waits_holds_nothing() {
    let (mut rig, conn, jobs) = running(Unread::Pause, Job::new("f", "1").max_unread(0));
    assert!(rig.machine.wants_read(conn));
    rig.receive(conn, &parts(2));
    assert_eq!(came(&mut rig, jobs), (1, vec![]));
    assert!(!rig.machine.wants_read(conn));
}
