//! The worker machine against job servers that the test plays packet by packet.

#[path = "worker/edges.rs"]
mod edges;
#[path = "worker/oversized.rs"]
mod oversized;
#[path = "common/rig.rs"]
mod rig;

use bytes::Bytes;
use gearwheel::wire::{Packet, PacketType as T};
use gearwheel::worker::{Assignment, Config, Event, Gone, Grab, TaskId, Worker};
use gearwheel::{CloseReason, ConfigError, ConnId, Input, LinkState, ProtocolError, Reason};
use rig::{Rig, address, millis, packet, secs};

fn config(servers: &[&str]) -> Config {
    let mut config = Config::new([3; 32]);
    config.servers = servers.iter().map(|server| address(server)).collect();
    config
}

fn register(rig: &mut Rig<Worker>, function: &'static str) {
    rig.act(|worker, now| worker.register(function, None, now)).expect("registered");
}

/// A worker of `f` with one connection, which has sent its first grab.
fn worker_with(config: Config) -> (Rig<Worker>, ConnId) {
    let mut rig = Rig::new(Worker::new(config).expect("valid"));
    register(&mut rig, "f");
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["CAN_DO", "GRAB_JOB_UNIQ"]);
    rig.events();
    (rig, conn)
}

fn worker() -> (Rig<Worker>, ConnId) {
    worker_with(config(&["a"]))
}

fn job(number: u32) -> Packet {
    packet(T::JOB_ASSIGN_UNIQ, &format!("H:x:{number}|f|u{number}|p{number}"))
}

fn no_job() -> Packet {
    packet(T::NO_JOB, "")
}

fn assigned(rig: &mut Rig<Worker>) -> Vec<Assignment> {
    let assigned = |event| if let Event::Assigned(assignment) = event { Some(assignment) } else { None };
    rig.events().into_iter().filter_map(assigned).collect()
}

fn one(rig: &mut Rig<Worker>) -> TaskId {
    let assigned = assigned(rig);
    assert_eq!(assigned.len(), 1);
    assigned[0].task
}

fn complete(rig: &mut Rig<Worker>, task: TaskId) {
    rig.act(|worker, now| worker.complete(task, "r".into(), now)).expect("sent");
}

#[test]
fn a_job_is_grabbed_handed_out_and_answered_with_the_next_grab_behind() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let jobs = assigned(&mut rig);
    let [one] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((&one.function[..], &one.unique[..], &one.payload[..]), (&b"f"[..], &b"u1"[..], &b"p1"[..]));
    assert_eq!(rig.sent_names(conn), [""; 0], "one job at a time");
    rig.writable = false;
    complete(&mut rig, one.task);
    rig.writable = true;
    rig.write(conn, usize::MAX);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"], "in one write");
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
    rig.receive(conn, &[packet(T::NOOP, "")]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    rig.receive(conn, &[packet(T::NOOP, ""), packet(T::NOOP, "")]);
    assert_eq!(rig.sent_names(conn), [""; 0], "a wake-up while it asks is no reason to ask again");
}

#[test]
fn where_no_job_comes_behind_results_the_worker_sleeps_with_them_and_asks_now_and_then() {
    let (mut rig, conn) = worker();
    // What is sent behind the result of each job; then nothing else is there, and the worker is woken for the next.
    let mut sent_behind = Vec::new();
    for number in 0..50 {
        rig.receive(conn, &[job(number)]);
        let task = one(&mut rig);
        complete(&mut rig, task);
        let sent = rig.sent_names(conn);
        assert_eq!((sent.len(), sent[0]), (2, "WORK_COMPLETE"));
        sent_behind.push(sent[1]);
        if sent[1] == "GRAB_JOB_UNIQ" {
            rig.receive(conn, &[no_job()]);
            assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
        }
        rig.receive(conn, &[packet(T::NOOP, "")]);
        assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    }
    let (asks, sleeps) = ("GRAB_JOB_UNIQ", "PRE_SLEEP");
    let runs =
        [(2, asks), (2, sleeps), (1, asks), (6, sleeps), (1, asks), (14, sleeps), (1, asks), (14, sleeps), (1, asks)];
    let expected: Vec<_> = runs.iter().flat_map(|&(count, name)| std::iter::repeat_n(name, count)).collect();
    assert_eq!(sent_behind[..expected.len()], expected);
    // Once there is a job behind a result, it asks each time.
    while sent_behind.last() == Some(&sleeps) {
        rig.receive(conn, &[job(99)]);
        let task = one(&mut rig);
        complete(&mut rig, task);
        sent_behind.push(rig.sent_names(conn)[1]);
        if sent_behind.last() == Some(&sleeps) {
            rig.receive(conn, &[packet(T::NOOP, "")]);
            rig.sent(conn);
        }
    }
    for number in 100..110 {
        rig.receive(conn, &[job(number)]);
        let task = one(&mut rig);
        complete(&mut rig, task);
        assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
    }
}

#[test]
fn what_a_handler_says_goes_to_the_server() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.data(task, "d".into(), now)).expect("sent");
    rig.act(|worker, now| worker.warning(task, "w".into(), now)).expect("sent");
    rig.act(|worker, now| worker.progress(task, 1, 2, now)).expect("sent");
    rig.act(|worker, now| worker.fail(task, now)).expect("sent");
    let sent = rig.sent(conn);
    assert_eq!(
        sent[..4],
        [
            packet(T::WORK_DATA, "H:x:1|d"),
            packet(T::WORK_WARNING, "H:x:1|w"),
            packet(T::WORK_STATUS, "H:x:1|1|2"),
            packet(T::WORK_FAIL, "H:x:1"),
        ]
    );
    let over = rig.act(|worker, now| worker.data(task, "late".into(), now)).expect_err("over");
    assert_eq!(over.value, Bytes::from("late"));
}

#[test]
fn an_exception_is_followed_by_a_failure_and_its_error_is_swallowed() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.exception(task, "boom".into(), now)).expect("sent");
    assert_eq!(rig.sent_names(conn), ["WORK_EXCEPTION", "WORK_FAIL", "GRAB_JOB_UNIQ"]);
    let error = packet(T::ERROR, "JOB_NOT_FOUND|Job given in work result not found");
    rig.receive(conn, &[error.clone(), job(2)]);
    let task = one(&mut rig);
    // A server that takes both says nothing: the next reply is the grab's all the same.
    rig.act(|worker, now| worker.exception(task, "boom".into(), now)).expect("sent");
    rig.receive(conn, &[job(3)]);
    one(&mut rig);
    // One that answers nothing is told.
    rig.receive(conn, &[error]);
    assert!(matches!(&rig.events()[..], [Event::ServerError { .. }]));
}

#[test]
fn an_error_after_a_late_result_is_never_taken_for_the_grabs_reply() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    complete(&mut rig, task);
    rig.receive(conn, &[packet(T::ERROR, "JOB_NOT_FOUND|late"), job(2)]);
    let events = rig.events();
    assert!(matches!(&events[..], [Event::ServerError { .. }, Event::Assigned(_)]), "{events:?}");
}

#[test]
fn a_server_that_refuses_a_form_of_grab_is_asked_with_a_simpler_one() {
    let mut all = config(&["a"]);
    all.grab = Grab::All;
    let mut rig = Rig::new(Worker::new(all).expect("valid"));
    register(&mut rig, "f");
    let conn = rig.connect();
    let refused = || packet(T::ERROR, "server_error|Can't locate object method");
    assert_eq!(rig.sent_names(conn), ["CAN_DO", "GRAB_JOB_ALL"]);
    rig.receive(conn, &[refused()]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    rig.receive(conn, &[refused()]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB"]);
    rig.receive(conn, &[packet(T::JOB_ASSIGN, "H:x:1|f|p")]);
    let jobs = assigned(&mut rig);
    assert_eq!((&jobs[0].unique[..], &jobs[0].payload[..]), (&b""[..], &b"p"[..]));
    complete(&mut rig, jobs[0].task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB"]);
    rig.receive(conn, &[refused()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"], "no spinning on refusals");
}

#[test]
fn a_reduce_job_names_its_reducer() {
    let mut all = config(&["a"]);
    all.grab = Grab::All;
    let mut rig = Rig::new(Worker::new(all).expect("valid"));
    register(&mut rig, "f");
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_ASSIGN_ALL, "H:x:1|f|u|sum|p")]);
    assert_eq!(assigned(&mut rig)[0].reducer, Some("sum".into()));
}

#[test]
fn a_function_with_a_limit_is_offered_in_milliseconds_and_failed_before_the_server_gives_it_away() {
    let mut rig = Rig::new(Worker::new(config(&["a"])).expect("valid"));
    rig.act(|worker, now| worker.register("f", Some(millis(2500)), now)).expect("registered");
    let conn = rig.connect();
    assert_eq!(rig.sent(conn)[0], packet(T::CAN_DO_TIMEOUT, "f|2500"));
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.pass(millis(2000));
    assert_eq!(rig.sent(conn), []);
    rig.pass(millis(499));
    assert_eq!(rig.sent(conn), [packet(T::WORK_FAIL, "H:x:1")]);
    assert_eq!(rig.events(), [Event::Gone { task, reason: Gone::TimedOut }]);
    // The handler still holds its place; what it says in the end is dropped.
    let late = rig.act(|worker, now| worker.complete(task, "late".into(), now)).expect_err("dropped");
    assert_eq!(late.value, Bytes::from("late"));
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    assert_eq!((rig.machine.counters().dropped, rig.machine.counters().timed_out), (1, 1));
}

#[test]
fn the_end_of_an_overlong_job_can_be_an_exception() {
    let mut told = config(&["a"]);
    told.timeout_is_exception = true;
    let mut rig = Rig::new(Worker::new(told).expect("valid"));
    rig.act(|worker, now| worker.register("f", Some(secs(2)), now)).expect("registered");
    let conn = rig.connect();
    rig.receive(conn, &[job(1)]);
    rig.sent(conn);
    rig.pass(secs(2));
    assert_eq!(rig.sent_names(conn)[..2], ["WORK_EXCEPTION", "WORK_FAIL"]);
}

#[test]
fn wishes_outlive_the_connection() {
    let mut named = config(&["a"]);
    named.client_id = Some("w1".into());
    let mut rig = Rig::new(Worker::new(named).expect("valid"));
    register(&mut rig, "f");
    rig.act(|worker, now| worker.register("g", Some(secs(9)), now)).expect("registered");
    for _ in 0..3 {
        let conn = rig.connect();
        assert_eq!(rig.sent_names(conn), ["SET_CLIENT_ID", "CAN_DO", "CAN_DO_TIMEOUT", "GRAB_JOB_UNIQ"]);
        rig.close(conn, CloseReason::Reset);
        rig.pass(secs(2));
    }
}

#[test]
fn a_job_whose_connection_is_gone_is_told_and_its_result_dropped() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.close(conn, CloseReason::Reset);
    let events = rig.events();
    assert!(matches!(&events[0], Event::Disconnected { retry_at: Some(_), .. }));
    assert_eq!(events[1], Event::Gone { task, reason: Gone::Disconnected });
    rig.pass(secs(1));
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["CAN_DO"], "its place is still taken");
    assert!(rig.act(|worker, now| worker.complete(task, "r".into(), now)).is_err());
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
}

#[test]
fn a_sleeper_asks_again_now_and_then() {
    let mut no_probes = config(&["a"]);
    no_probes.connecting.probe_after = None;
    let (mut rig, conn) = worker_with(no_probes);
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
    for _ in 0..3 {
        rig.pass(secs(29));
        assert_eq!(rig.sent(conn), []);
        rig.pass(secs(1));
        assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
        rig.receive(conn, &[no_job()]);
        assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
    }
}

#[test]
fn a_connection_is_probed_asleep_and_busy() {
    let (mut asleep, conn) = worker();
    asleep.receive(conn, &[no_job()]);
    asleep.sent(conn);
    asleep.pass(secs(15));
    assert_eq!(asleep.sent_names(conn), ["ECHO_REQ"]);
    let (mut busy, conn) = worker();
    busy.receive(conn, &[job(1)]);
    busy.pass(secs(15));
    assert_eq!(busy.sent_names(conn), ["ECHO_REQ"]);
    busy.pass(secs(15));
    assert_eq!(busy.disconnects(), [conn], "no answer: the server is dead");
}

#[test]
fn a_silent_server_is_left_and_dialled_again() {
    let (mut rig, conn) = worker();
    rig.pass(secs(16));
    assert_eq!(rig.disconnects(), [conn], "the grab was never answered");
    rig.pass(secs(1));
    rig.connect();
}

#[test]
fn a_function_offered_to_a_sleeper_is_asked_for_at_once() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[no_job()]);
    rig.sent(conn);
    register(&mut rig, "g");
    assert_eq!(rig.sent_names(conn), ["CAN_DO", "GRAB_JOB_UNIQ"]);
}

#[test]
fn a_function_is_not_taken_back_while_a_job_of_it_could_be_lost() {
    let mut two = config(&["a"]);
    two.concurrency = 2;
    let mut rig = Rig::new(Worker::new(two).expect("valid"));
    register(&mut rig, "f");
    register(&mut rig, "g");
    let conn = rig.connect();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    assert_eq!(rig.sent_names(conn).last(), Some(&"GRAB_JOB_UNIQ"));
    rig.act(|worker, now| worker.unregister(b"f", now)).expect("registered");
    assert_eq!(rig.sent_names(conn), [""; 0], "a job runs and a grab is out");
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), [""; 0], "a job still runs");
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "CANT_DO", "GRAB_JOB_UNIQ"]);
    assert!(rig.events().contains(&Event::Unregistered { function: "f".into() }));
    assert_eq!(rig.machine.functions().collect::<Vec<_>>(), [Bytes::from("g")]);
    let unknown = rig.act(|worker, now| worker.unregister(b"f", now)).expect_err("unknown");
    assert_eq!(unknown.reason, Reason::Unknown("function"));
}

#[test]
fn a_function_taken_back_and_offered_again_is_not_offered_twice() {
    let (mut rig, conn) = worker();
    rig.act(|worker, now| worker.unregister(b"f", now)).expect("registered");
    register(&mut rig, "f");
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
}

#[test]
fn a_job_of_a_function_that_was_offered_again_since_is_still_of_that_function() {
    let (mut rig, conn) = worker();
    register(&mut rig, "g");
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.sent(conn);
    rig.act(|worker, now| worker.unregister(b"f", now)).expect("registered");
    register(&mut rig, "f");
    rig.act(|worker, now| worker.unregister(b"f", now)).expect("registered");
    assert_eq!(rig.sent_names(conn), [""; 0], "a job of it runs");
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "CANT_DO", "GRAB_JOB_UNIQ"]);
}

#[test]
fn concurrency_bounds_what_runs_and_grabs_grow_while_there_are_jobs() {
    let mut four = config(&["a"]);
    four.concurrency = 4;
    let (mut rig, conn) = worker_with(four);
    rig.receive(conn, &[job(1)]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"; 2]);
    rig.receive(conn, &[job(2), job(3)]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    rig.receive(conn, &[job(4)]);
    assert_eq!(rig.sent_names(conn), [""; 0], "four run");
    let jobs = assigned(&mut rig);
    assert_eq!(jobs.len(), 4);
    complete(&mut rig, jobs[2].task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"], "a worker sleeps beside the jobs it runs");
    rig.receive(conn, &[packet(T::NOOP, "")]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
}

#[test]
fn prefetched_jobs_wait_here_and_are_never_more_than_allowed() {
    let mut ahead = config(&["a"]);
    ahead.prefetch = 2;
    let (mut rig, conn) = worker_with(ahead);
    rig.receive(conn, &[job(1)]);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"; 2]);
    rig.receive(conn, &[job(2), job(3)]);
    assert_eq!(rig.sent_names(conn), [""; 0]);
    let first = one(&mut rig);
    complete(&mut rig, first);
    assert_eq!(&one_assignment(&mut rig).payload[..], b"p2", "the next one starts without a round trip");
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
    // What waits here when the connection goes was never started: nobody is told.
    rig.close(conn, CloseReason::Reset);
    let gone = rig.events().iter().filter(|event| matches!(event, Event::Gone { .. })).count();
    assert_eq!((gone, rig.machine.in_hand()), (1, 1));
}

fn one_assignment(rig: &mut Rig<Worker>) -> Assignment {
    let mut assigned = assigned(rig);
    assert_eq!(assigned.len(), 1);
    assigned.remove(0)
}

#[test]
fn functions_with_a_limit_are_never_prefetched() {
    let mut ahead = config(&["a"]);
    ahead.prefetch = 5;
    let mut rig = Rig::new(Worker::new(ahead).expect("valid"));
    rig.act(|worker, now| worker.register("f", Some(secs(5)), now)).expect("registered");
    let conn = rig.connect();
    rig.sent(conn);
    rig.receive(conn, &[job(1)]);
    assert_eq!(rig.sent(conn), []);
}

#[test]
fn the_time_of_a_job_that_waits_here_begins_when_it_is_handed_out() {
    let mut ahead = config(&["a"]);
    ahead.prefetch = 1;
    let (mut rig, conn) = worker_with(ahead);
    rig.receive(conn, &[job(1)]);
    let first = one(&mut rig);
    // The grab for a job to wait is out already when the function with a limit comes.
    rig.act(|worker, now| worker.register("timed", Some(secs(5)), now)).expect("registered");
    rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, "H:x:2|timed|u|p")]);
    rig.sent(conn);
    rig.pass(secs(9));
    assert_eq!(
        (rig.sent_names(conn), rig.events()),
        (vec![], vec![]),
        "nobody is told of a job that was never handed out"
    );
    complete(&mut rig, first);
    let second = one(&mut rig);
    rig.sent(conn);
    rig.pass(millis(4499));
    assert_eq!(rig.events(), []);
    rig.pass(millis(1));
    assert_eq!(rig.events(), [Event::Gone { task: second, reason: Gone::TimedOut }]);
    assert_eq!(rig.sent_names(conn), ["WORK_FAIL"]);
}

#[test]
fn servers_are_asked_in_turn() {
    let mut rig = Rig::new(Worker::new(config(&["a", "b"])).expect("valid"));
    register(&mut rig, "f");
    let conns: Vec<_> = rig.connects().into_iter().map(|(conn, _)| conn).collect();
    for &conn in &conns {
        rig.handle(Input::Connected(conn));
    }
    let mut order = Vec::new();
    for number in 0..6 {
        let asked =
            conns.iter().position(|&conn| rig.sent_names(conn).contains(&"GRAB_JOB_UNIQ")).expect("one is asked");
        order.push(asked);
        rig.receive(conns[asked], &[job(number)]);
        let task = one(&mut rig);
        complete(&mut rig, task);
    }
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_server_that_does_not_answer_delays_the_others_by_no_more_than_patience() {
    let mut rig = Rig::new(Worker::new(config(&["a", "b"])).expect("valid"));
    register(&mut rig, "f");
    let conns: Vec<_> = rig.connects().into_iter().map(|(conn, _)| conn).collect();
    for &conn in &conns {
        rig.handle(Input::Connected(conn));
    }
    rig.pass(millis(300));
    assert!(rig.sent_names(conns[1]).contains(&"GRAB_JOB_UNIQ"));
}

#[test]
fn a_drain_finishes_what_is_under_way_and_says_farewell() {
    let (mut rig, conn) = worker();
    rig.act(|worker, now| worker.drain(now));
    assert_eq!(rig.sent_names(conn), [""; 0], "a grab is out: it may bring a job");
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "ECHO_REQ"]);
    assert_eq!(rig.disconnects(), []);
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    assert_eq!(rig.disconnects(), [conn]);
    assert_eq!(rig.events(), [Event::Closed]);
    assert_eq!(rig.wait, None);
}

#[test]
fn a_drain_of_a_sleeping_worker_ends_and_one_without_a_server_too() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[no_job()]);
    rig.act(|worker, now| worker.drain(now));
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    assert_eq!(rig.events(), [Event::Closed]);
    let mut rig = Rig::new(Worker::new(config(&["a"])).expect("valid"));
    register(&mut rig, "f");
    rig.act(|worker, now| worker.drain(now));
    assert_eq!((rig.events(), rig.disconnects().len()), (vec![Event::Closed], 1));
}

#[test]
fn a_close_hands_back_what_runs() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.close(now));
    assert_eq!(rig.events(), [Event::Gone { task, reason: Gone::Disconnected }, Event::Closed]);
    assert_eq!(rig.disconnects(), [conn]);
    assert!(rig.act(|worker, now| worker.complete(task, "r".into(), now)).is_err());
}

#[test]
fn a_job_that_was_not_asked_for_closes_the_connection() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1), job(2)]);
    let reason = CloseReason::Protocol(ProtocolError::OutOfOrder(T::JOB_ASSIGN_UNIQ));
    let events = rig.events();
    let told = events.iter().any(|event| matches!(event, Event::Disconnected { reason: told, .. } if *told == reason));
    assert!(told, "{events:?}");
}

#[test]
fn bad_functions_and_configurations_are_named() {
    let (mut rig, _) = worker();
    let mut refuse = |function: &'static [u8], timeout| {
        rig.act(|worker, now| worker.register(function, timeout, now)).expect_err("refused")
    };
    assert_eq!(refuse(b"", None), ConfigError::EmptyFunction);
    assert_eq!(refuse(b"f", None), ConfigError::DuplicateFunction { function: "f".into() });
    assert!(matches!(refuse(b"a\0", None), ConfigError::Nul { .. }));
    assert!(matches!(refuse(b"g", Some(secs(0))), ConfigError::BadDuration { .. }));
    let mut none = config(&["a"]);
    none.concurrency = 0;
    assert_eq!(Worker::new(none).expect_err("none"), ConfigError::Zero("concurrency"));
}

#[test]
fn a_payload_over_the_limit_comes_back_and_the_job_stays_in_hand() {
    let mut small = config(&["a"]);
    small.limits.max_packet = 1000;
    let (mut rig, conn) = worker_with(small);
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    let refused = rig.act(|worker, now| worker.complete(task, vec![0; 1000].into(), now)).expect_err("too large");
    assert!(matches!(refused.reason, Reason::Invalid(ConfigError::TooLong { limit: 935, .. })));
    assert_eq!(refused.value.len(), 1000);
    complete(&mut rig, task);
}

#[test]
fn a_namespace_stands_before_functions_on_the_wire_only() {
    let mut spaced = config(&["a"]);
    spaced.namespace = Some("app1.".into());
    let mut rig = Rig::new(Worker::new(spaced).expect("valid"));
    register(&mut rig, "f");
    let conn = rig.connect();
    assert_eq!(rig.sent(conn)[0], packet(T::CAN_DO, "app1.f"));
    rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, "H:x:1|app1.f||p")]);
    let jobs = assigned(&mut rig);
    assert_eq!(jobs[0].function, "f");
    complete(&mut rig, jobs[0].task);
    rig.receive(conn, &[no_job()]);
    rig.act(|worker, now| worker.unregister(b"f", now)).expect("registered");
    assert!(rig.events().contains(&Event::Unregistered { function: "f".into() }));
}

#[test]
fn servers_come_and_go_at_run_time() {
    let (mut rig, a) = worker();
    rig.receive(a, &[job(1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.add_server(address("b"), now)).expect("new");
    let b = rig.connect();
    assert_eq!(rig.sent_names(b), ["CAN_DO"]);
    rig.events();
    let server = rig.machine.servers().next().expect("there").server;
    rig.act(|worker, now| worker.remove_server(server, true, now)).expect("there");
    assert_eq!(rig.sent_names(a), [""; 0], "a job of it is in hand");
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(a), ["WORK_COMPLETE", "ECHO_REQ"]);
    assert_eq!(rig.sent_names(b), ["GRAB_JOB_UNIQ"]);
    rig.receive(a, &[packet(T::ECHO_RES, "")]);
    assert_eq!((rig.events(), rig.disconnects()), (vec![Event::Removed { server }], vec![a]));
    rig.pass(secs(2));
    assert_eq!(rig.connects(), []);
    rig.receive(b, &[packet(T::JOB_ASSIGN_UNIQ, "H:b:1|f||p")]);
    let task = one(&mut rig);
    let other = rig.machine.servers().next().expect("there").server;
    rig.act(|worker, now| worker.remove_server(other, false, now)).expect("there");
    let events = rig.events();
    assert!(
        events.contains(&Event::Gone { task, reason: Gone::Disconnected })
            && events.contains(&Event::Removed { server: other })
    );
    assert_eq!(rig.machine.servers().count(), 0);
}

#[test]
fn how_each_server_stands_is_told_and_what_has_come_of_it() {
    let (mut rig, conn) = worker();
    let server = |rig: &Rig<Worker>| rig.machine.servers().next().expect("one");
    assert_eq!((server(&rig).state, server(&rig).retry_at), (LinkState::Up, None));
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    complete(&mut rig, task);
    rig.receive(conn, &[job(2)]);
    rig.close(conn, CloseReason::Reset);
    let down = server(&rig);
    assert_eq!(down.state, LinkState::Down);
    let wait = down.retry_at.expect("it is tried again").saturating_since(rig.now);
    assert!((millis(50)..=millis(100)).contains(&wait), "{wait:?}");
    let counters = down.counters;
    assert_eq!((counters.connected, counters.failed, counters.assigned, counters.answered), (1, 1, 2, 1));
    rig.pass(millis(100));
    assert_eq!(server(&rig).state, LinkState::Connecting);
}

#[test]
fn all_functions_can_be_taken_back_at_once() {
    let (mut rig, conn) = worker();
    register(&mut rig, "g");
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.sent(conn);
    rig.act(|worker, now| worker.unregister_all(now));
    assert_eq!(rig.sent(conn), [packet(T::CANT_DO, "g")], "nothing of it is in hand");
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "CANT_DO"]);
    assert_eq!(rig.machine.functions().count(), 0);
}

#[test]
fn a_worker_is_back_within_seconds_however_long_its_server_was_away() {
    let (mut rig, conn) = worker();
    rig.close(conn, CloseReason::Reset);
    for _ in 0..40 {
        rig.pass(secs(6));
        for (conn, _) in rig.connects() {
            rig.close(conn, CloseReason::Refused);
        }
    }
    rig.pass(secs(6));
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn)[0], "CAN_DO");
}
