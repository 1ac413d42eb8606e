//! Limits to the byte and times to the millisecond; two servers, two functions, and ends that cross each other.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::worker::{Config, Event, Gone, JobServer, TaskId, Worker};
use gearwheel::{CloseReason, ConfigError, ConnId, Input, Machine, Output, Reason};

use super::rig::{Rig, millis, packet, secs};
use super::{T, assigned, complete, config, job, no_job, one, register, worker, worker_with};

fn job_of(function: &str, number: u32) -> gearwheel::wire::Packet {
    packet(T::JOB_ASSIGN_UNIQ, &format!("H:x:{number}|{function}|u|p"))
}

fn register_timed(rig: &mut Rig<Worker>, function: &'static str, timeout: Duration) {
    rig.act(|worker, now| worker.register(function, Some(timeout), now)).expect("registered");
}

fn unregister(rig: &mut Rig<Worker>, function: &str) {
    rig.act(|worker, now| worker.unregister(function.as_bytes(), now)).expect("it was registered");
}

/// Two servers that are connected, of which the first was asked.
fn two_servers(change: impl FnOnce(&mut Config)) -> (Rig<Worker>, [ConnId; 2]) {
    let mut two = config(&["a", "b"]);
    change(&mut two);
    let mut rig = Rig::new(Worker::new(two).expect("valid"));
    register(&mut rig, "f");
    let conns: Vec<_> = rig.connects().into_iter().map(|(conn, _)| conn).collect();
    for &conn in &conns {
        rig.handle(Input::Connected(conn));
        rig.sent(conn);
    }
    rig.events();
    (rig, [conns[0], conns[1]])
}

#[test]
fn durations_may_have_a_millisecond_and_no_less() {
    let short = Duration::from_micros(999);
    for (after, good) in [(Some(millis(1)), true), (Some(short), false), (None, true)] {
        let mut config = config(&["a"]);
        config.regrab_after = after;
        assert_eq!(Worker::new(config).is_ok(), good, "{after:?}");
    }
    let (mut rig, _) = worker();
    let refused = rig.act(|worker, now| worker.register("g", Some(short), now)).expect_err("too short");
    assert!(matches!(refused, ConfigError::BadDuration { .. }));
    register_timed(&mut rig, "g", millis(1));
    let defaults = Config::new([0; 32]);
    assert_eq!((defaults.concurrency, defaults.prefetch, defaults.regrab_after), (1, 0, Some(secs(30))));
    assert_eq!((defaults.connecting.retry_most, defaults.timeout_is_exception), (secs(5), false));
}

#[test]
fn the_limit_of_a_job_that_has_ended_is_not_the_next_ones() {
    let (mut rig, conn) = worker();
    register_timed(&mut rig, "g", secs(5));
    rig.receive(conn, &[job_of("g", 1)]);
    let first = one(&mut rig);
    rig.pass(secs(2));
    complete(&mut rig, first);
    rig.receive(conn, &[job_of("g", 2)]);
    let second = one(&mut rig);
    assert_eq!(first.index(), second.index(), "the same place");
    rig.pass(millis(4_499));
    assert_eq!(rig.events(), []);
    rig.pass(millis(1));
    assert_eq!(rig.events(), [Event::Gone { task: second, reason: Gone::TimedOut }]);
    // Nor is that of one whose connection is gone.
    complete_late(&mut rig, second);
    rig.receive(conn, &[job_of("g", 3)]);
    let third = one(&mut rig);
    rig.close(conn, CloseReason::Reset);
    rig.events();
    complete_late(&mut rig, third);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[job_of("f", 4)]);
    rig.events();
    rig.pass(secs(10));
    assert_eq!(rig.events(), []);
}

fn complete_late(rig: &mut Rig<Worker>, task: TaskId) {
    rig.act(|worker, now| worker.complete(task, "r".into(), now)).expect_err("it is no longer this worker's");
}

#[test]
fn each_job_has_its_own_limit_whichever_comes_first() {
    let mut three = config(&["a"]);
    three.concurrency = 3;
    let (mut rig, conn) = worker_with(three);
    register_timed(&mut rig, "slow", secs(10));
    register_timed(&mut rig, "quick", secs(3));
    rig.receive(conn, &[job_of("slow", 1), job_of("quick", 2)]);
    let tasks: Vec<_> = assigned(&mut rig).into_iter().map(|assignment| assignment.task).collect();
    let gone = |place: usize| [Event::Gone { task: tasks[place], reason: Gone::TimedOut }];
    rig.sent(conn);
    rig.pass(millis(2_700));
    assert_eq!(rig.events(), gone(1));
    assert_eq!(rig.sent(conn), [packet(T::WORK_FAIL, "H:x:2")]);
    rig.receive(conn, &[packet(T::NO_JOB, "")]);
    rig.pass(millis(6_799));
    assert_eq!(rig.events(), []);
    rig.pass(millis(1));
    assert_eq!(rig.events(), gone(0));
    assert_eq!(rig.machine.counters().timed_out, 2);
}

#[test]
fn everything_is_counted_once() {
    let (mut rig, conn) = worker();
    for number in 1..=3 {
        rig.receive(conn, &[job(number)]);
        let task = one(&mut rig);
        assert_eq!(rig.machine.conn_of(task), Some(conn));
        rig.pass(secs(1));
        match number {
            1 => complete(&mut rig, task),
            2 => rig.act(|worker, now| worker.fail(task, now)).expect("sent"),
            _ => {
                rig.close(conn, CloseReason::Reset);
                assert_eq!(rig.machine.conn_of(task), None);
                complete_late(&mut rig, task);
            }
        }
        assert_eq!(rig.machine.conn_of(task), None);
    }
    let counters = rig.machine.counters();
    assert_eq!((counters.assigned, counters.answered, counters.dropped, counters.timed_out), (3, 2, 1, 0));
    let latencies = rig.machine.latencies();
    assert_eq!((latencies.run.count(), latencies.run.sum()), (2, secs(2)));
}

#[test]
fn a_connection_says_that_it_stands() {
    let mut rig = Rig::new(Worker::new(config(&["a"])).expect("valid"));
    register(&mut rig, "f");
    rig.connect();
    let JobServer { server, address, .. } = rig.machine.servers().next().expect("there");
    assert_eq!(address.to_string(), "a:4730");
    assert_eq!(rig.events(), [Event::Connected { server, address }]);
}

#[test]
fn a_call_tells_the_machine_the_time() {
    // What is begun by a call is counted from it, however long ago the last input was.
    let mut rig = Rig::new(Worker::new(config(&["a"])).expect("valid"));
    rig.now = rig.now + secs(100);
    register(&mut rig, "f");
    rig.pass(millis(4_999));
    assert_eq!(rig.disconnects(), []);
    rig.pass(millis(1));
    assert_eq!(rig.disconnects().len(), 1, "the time to connect is over");

    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.now = rig.now + secs(100);
    complete(&mut rig, task);
    rig.pass(millis(14_999));
    assert_eq!(rig.disconnects(), [], "the next grab was sent just now");
    rig.pass(millis(1));
    assert_eq!(rig.disconnects(), [conn]);

    let (mut rig, conn) = worker();
    rig.receive(conn, &[no_job()]);
    rig.now = rig.now + secs(100);
    rig.act(|worker, now| worker.drain(now));
    rig.pass(millis(14_999));
    assert_eq!(rig.disconnects(), [], "the farewell was sent just now");
}

#[test]
fn an_empty_name_is_none_in_any_namespace_and_a_job_of_a_foreign_one_goes_back() {
    let mut spaced = config(&["a"]);
    spaced.namespace = Some("ns.".into());
    let mut rig = Rig::new(Worker::new(spaced).expect("valid"));
    let refused = rig.act(|worker, now| worker.register("", None, now)).expect_err("no name");
    assert_eq!(refused, ConfigError::EmptyFunction);
    register(&mut rig, "f");
    let conn = rig.connect();
    rig.receive(conn, &[job_of("other.f", 1)]);
    assert_eq!((assigned(&mut rig), rig.disconnects()), (vec![], vec![conn]));
}

#[test]
fn a_limit_beyond_what_job_servers_can_count_is_not_told_to_them() {
    let (mut rig, conn) = worker();
    let most = millis(u32::MAX.into());
    for (function, limit) in [("g", most), ("h", most + millis(1)), ("i", std::time::Duration::MAX)] {
        register_timed(&mut rig, function, limit);
    }
    let offers = [packet(T::CAN_DO_TIMEOUT, "g|4294967295"), packet(T::CAN_DO, "h"), packet(T::CAN_DO, "i")];
    assert_eq!(rig.sent(conn), offers);
    rig.receive(conn, &[job_of("h", 1)]);
    rig.sent(conn);
    rig.events();
    rig.machine.handle(Input::Tick, rig.now + most + millis(1));
    assert_eq!(rig.machine.counters().timed_out, 1, "the worker keeps it all the same");
}

#[test]
fn a_function_offered_again_with_another_limit_is_offered_anew() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    unregister(&mut rig, "f");
    assert_eq!(rig.sent(conn), [], "a job of it runs");
    register_timed(&mut rig, "f", secs(7));
    assert_eq!(rig.sent(conn), [packet(T::CAN_DO_TIMEOUT, "f|7000")]);
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"], "it is not taken back any more");
}

#[test]
fn jobs_are_fetched_ahead_again_once_no_function_has_a_limit() {
    let mut ahead = config(&["a"]);
    ahead.prefetch = 1;
    let (mut rig, conn) = worker_with(ahead);
    register_timed(&mut rig, "g", secs(7));
    rig.sent(conn);
    unregister(&mut rig, "g");
    rig.receive(conn, &[job(1)]);
    assert_eq!(rig.sent_names(conn), ["CANT_DO", "GRAB_JOB_UNIQ"]);
}

#[test]
fn a_handler_is_told_when_its_server_does_not_read_but_an_end_is_always_taken() {
    let mut narrow = config(&["a"]);
    narrow.limits.max_outgoing = 20;
    let (mut rig, conn) = worker_with(narrow);
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.writable = false;
    let data = |rig: &mut Rig<Worker>| rig.act(|worker, now| worker.data(task, "dd".into(), now));
    // 12 of the header, 6 of the handle, 2 of the data.
    data(&mut rig).expect("nothing waits");
    let full = Reason::Full { what: "the bytes queued for a connection", limit: 20 };
    assert_eq!(data(&mut rig).expect_err("20 bytes wait").reason, full);
    let progress = rig.act(|worker, now| worker.progress(task, 1, 2, now));
    assert_eq!(progress.expect_err("20 bytes wait").reason, full);
    assert_eq!(rig.write(conn, 1), 1);
    data(&mut rig).expect("19 bytes wait");
    complete(&mut rig, task);
}

#[test]
fn a_payload_may_fill_a_packet_behind_the_longest_handle() {
    let mut small = config(&["a"]);
    small.limits.max_packet = 100;
    let (mut rig, conn) = worker_with(small);
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.data(task, vec![0; 35].into(), now)).expect("it fits");
    rig.act(|worker, now| worker.data(task, vec![0; 36].into(), now)).expect_err("it does not");
    rig.act(|worker, now| worker.complete(task, vec![0; 36].into(), now)).expect_err("it does not");
    rig.act(|worker, now| worker.complete(task, vec![0; 35].into(), now)).expect("it fits");
}

#[test]
fn a_server_is_told_of_a_function_that_is_taken_back_as_soon_as_none_of_its_own_jobs_can_be_lost() {
    let (mut rig, [a, b]) = two_servers(|config| config.concurrency = 2);
    register(&mut rig, "g");
    for conn in [a, b] {
        rig.receive(conn, &[no_job()]);
        rig.sent(conn);
    }
    rig.receive(a, &[packet(T::NOOP, "")]);
    rig.receive(a, &[job(1)]);
    let task = one(&mut rig);
    rig.receive(a, &[no_job()]);
    rig.sent(a);
    rig.sent(b);
    unregister(&mut rig, "f");
    assert_eq!(rig.sent(b), [packet(T::CANT_DO, "f")], "it sleeps on, and has no job of it");
    assert_eq!(rig.sent(a), []);
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(a)[..2], ["WORK_COMPLETE", "CANT_DO"]);
}

#[test]
fn a_job_that_was_taken_away_keeps_no_function_and_no_server() {
    let mut two = config(&["a"]);
    two.concurrency = 2;
    let (mut rig, conn) = worker_with(two);
    register_timed(&mut rig, "g", secs(5));
    rig.receive(conn, &[job_of("g", 1)]);
    let task = one(&mut rig);
    rig.receive(conn, &[no_job()]);
    unregister(&mut rig, "g");
    rig.sent(conn);
    // At the limit it is over for the server, though the handler goes on.
    rig.pass(millis(4_500));
    assert_eq!(rig.sent_names(conn), ["WORK_FAIL", "CANT_DO"]);
    let unregistered = Event::Unregistered { function: "g".into() };
    assert_eq!(rig.events(), [Event::Gone { task, reason: Gone::TimedOut }, unregistered]);
    rig.act(|worker, now| worker.drain(now));
    assert_eq!(rig.sent_names(conn), ["ECHO_REQ"], "nothing of the server is in hand");
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    assert_eq!((rig.events(), rig.disconnects()), (vec![], vec![conn]), "a handler is at work still");
    complete_late(&mut rig, task);
    assert_eq!(rig.events(), [Event::Closed]);
}

#[test]
fn a_drain_leaves_at_the_limit_of_the_last_job() {
    let (mut rig, conn) = worker();
    register_timed(&mut rig, "g", secs(5));
    rig.receive(conn, &[job_of("g", 1)]);
    let task = one(&mut rig);
    rig.act(|worker, now| worker.drain(now));
    rig.sent(conn);
    rig.pass(millis(4_500));
    assert_eq!(rig.sent_names(conn), ["WORK_FAIL", "ECHO_REQ"]);
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    complete_late(&mut rig, task);
    assert_eq!(rig.events().last(), Some(&Event::Closed));
}

#[test]
fn a_sleeper_sleeps_on_when_a_function_is_taken_back() {
    let mut quiet = config(&["a"]);
    quiet.connecting.probe_after = None;
    let (mut rig, conn) = worker_with(quiet);
    register(&mut rig, "g");
    rig.receive(conn, &[no_job()]);
    rig.sent(conn);
    unregister(&mut rig, "g");
    assert_eq!(rig.sent_names(conn), ["CANT_DO"]);
    assert!(rig.wait.is_some(), "it asks again in 30 s");
    unregister(&mut rig, "f");
    assert_eq!(rig.sent_names(conn), ["CANT_DO"]);
    assert_eq!(rig.wait, None, "it has nothing to ask for");
    // Nor does one that lost its server dial for nothing.
    rig.close(conn, CloseReason::Reset);
    assert_eq!(rig.wait, None);
}

#[test]
fn no_more_is_asked_for_until_a_server_was_told_what_to_forget() {
    let mut three = config(&["a"]);
    three.concurrency = 3;
    let (mut rig, conn) = worker_with(three);
    register(&mut rig, "g");
    rig.receive(conn, &[job_of("f", 1)]);
    let task = one(&mut rig);
    rig.sent(conn);
    unregister(&mut rig, "f");
    rig.receive(conn, &[job_of("g", 2)]);
    assert_eq!(rig.sent(conn), [], "a job of f could come with each grab");
    rig.receive(conn, &[job_of("g", 3)]);
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "CANT_DO", "GRAB_JOB_UNIQ"]);
}

#[test]
fn a_server_that_knows_no_parts_of_results_is_not_taken_to_refuse_the_grab_behind_them() {
    let (mut rig, conn) = worker();
    for number in 1..4 {
        rig.receive(conn, &[job(number)]);
        let task = one(&mut rig);
        rig.act(|worker, now| worker.data(task, "d".into(), now)).expect("sent");
        rig.act(|worker, now| worker.warning(task, "w".into(), now)).expect("sent");
        complete(&mut rig, task);
        assert_eq!(rig.sent_names(conn), ["WORK_DATA", "WORK_WARNING", "WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
        for name in ["work_data", "work_warning"] {
            let text = format!("server_error|Can't locate object method \"CMD_{name}\" via package \"Gearman");
            rig.receive(conn, &[packet(T::ERROR, &text)]);
        }
        let events = rig.events();
        assert!(matches!(&events[..], [Event::ServerError { .. }, Event::ServerError { .. }]), "{events:?}");
        assert_eq!(rig.sent_names(conn), [""; 0], "the grab is out");
    }
    rig.receive(conn, &[no_job()]);
    assert_eq!((rig.sent_names(conn), rig.disconnects()), (vec!["PRE_SLEEP"], vec![]));
}

#[test]
fn a_worker_of_any_number_of_jobs_does_not_flood_its_server_with_grabs() {
    let mut all = config(&["a"]);
    (all.concurrency, all.prefetch) = (usize::MAX, usize::MAX);
    let (mut rig, conn) = worker_with(all);
    let mut out = 1;
    for number in 0..40 {
        rig.receive(conn, &[job(number)]);
        out += rig.sent(conn).len() - 1;
        assert!(out <= 4096, "{out}");
    }
    assert_eq!((out, assigned(&mut rig).len()), (4096, 40));
}

#[test]
fn a_server_on_its_way_out_is_not_asked() {
    let (mut rig, [a, b]) = two_servers(|config| config.concurrency = 4);
    rig.receive(a, &[job(1)]);
    let first = one(&mut rig);
    rig.sent(a);
    let server = rig.machine.servers().next().expect("there").server;
    rig.act(|worker, now| worker.remove_server(server, true, now)).expect("there");
    rig.receive(a, &[job(2)]);
    let second = one(&mut rig);
    assert_eq!(rig.sent(a), []);
    complete(&mut rig, first);
    assert_eq!(rig.sent_names(a), ["WORK_COMPLETE"]);
    complete(&mut rig, second);
    // Another grab was out beside those two, or not: the farewell comes when nothing is.
    let sent = rig.sent_names(a);
    if sent == ["WORK_COMPLETE"] {
        rig.receive(a, &[no_job()]);
        assert_eq!(rig.sent_names(a).last(), Some(&"ECHO_REQ"));
    } else {
        assert_eq!(sent, ["WORK_COMPLETE", "ECHO_REQ"]);
    }
    rig.receive(a, &[packet(T::ECHO_RES, "")]);
    assert_eq!(rig.events(), [Event::Removed { server }]);
    assert!(rig.machine.conn_of(first).is_none() && rig.disconnects() == [a]);
    let _ = b;
}

#[test]
fn a_worker_sleeps_when_the_last_grab_is_answered_and_not_before() {
    let mut three = config(&["a"]);
    three.concurrency = 3;
    let (mut rig, conn) = worker_with(three);
    rig.receive(conn, &[job(1)]);
    one(&mut rig);
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"; 2]);
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent(conn), []);
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
}

#[test]
fn one_that_drains_does_not_go_to_sleep() {
    let (mut rig, conn) = worker();
    rig.act(|worker, now| worker.drain(now));
    rig.act(|worker, now| worker.drain(now));
    rig.receive(conn, &[no_job()]);
    assert_eq!(rig.sent_names(conn), ["ECHO_REQ"]);
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    assert_eq!(rig.events(), [Event::Closed]);
    rig.act(|worker, now| worker.drain(now));
    rig.act(|worker, now| worker.close(now));
    rig.handle(Input::Tick);
    assert_eq!((rig.events(), rig.wait), (vec![], None), "nothing comes behind Closed");
}

#[test]
fn a_removal_that_is_under_way_ends_before_closed_and_none_begins_behind_it() {
    let (mut rig, [a, _]) = two_servers(|_| {});
    rig.receive(a, &[job(1)]);
    let task = one(&mut rig);
    let servers: Vec<_> = rig.machine.servers().map(|server| server.server).collect();
    rig.act(|worker, now| worker.remove_server(servers[0], true, now)).expect("there");
    rig.act(|worker, now| worker.close(now));
    let gone = Event::Gone { task, reason: Gone::Disconnected };
    assert_eq!(rig.events(), [gone, Event::Removed { server: servers[0] }, Event::Closed]);
    complete_late(&mut rig, task);
    let refused = rig.act(|worker, now| worker.remove_server(servers[1], true, now)).expect_err("it has closed");
    assert_eq!((refused.reason, refused.value), (Reason::Closed, servers[1]));
    assert_eq!(rig.events(), []);
}

#[test]
fn a_job_that_is_answered_before_its_loss_is_told_is_not_gone_behind_its_end() {
    let (mut rig, [a, _]) = two_servers(|_| {});
    rig.receive(a, &[job(1)]);
    let task = one(&mut rig);
    let server = rig.machine.servers().next().expect("two").server;
    let late = rig.act(|worker, now| {
        worker.remove_server(server, false, now).expect("there");
        worker.complete(task, "late".into(), now)
    });
    assert!(late.is_err());
    assert!(!rig.events().iter().any(|event| matches!(event, Event::Gone { .. })));
}

#[test]
fn a_loss_ends_what_waited_for_the_server() {
    // The other server is asked in its stead.
    let (mut rig, [a, b]) = two_servers(|_| {});
    assert_eq!(rig.sent(b), []);
    rig.close(a, CloseReason::Reset);
    assert_eq!(rig.sent_names(b), ["GRAB_JOB_UNIQ"]);
    // A function that was to be taken back from it is.
    let (mut rig, conn) = worker();
    register(&mut rig, "g");
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    unregister(&mut rig, "f");
    assert_eq!(rig.events(), []);
    rig.close(conn, CloseReason::Reset);
    assert!(rig.events().contains(&Event::Unregistered { function: "f".into() }));
    complete_late(&mut rig, task);
    // A drain has nothing more to wait for.
    let (mut rig, conn) = worker();
    rig.act(|worker, now| worker.drain(now));
    assert_eq!(rig.events(), []);
    rig.close(conn, CloseReason::Reset);
    assert_eq!(rig.events().last(), Some(&Event::Closed));
    assert_eq!(rig.wait, None);
}

#[test]
fn a_drain_leaves_each_server_when_nothing_of_it_is_in_hand() {
    let (mut rig, [a, b]) = two_servers(|config| config.concurrency = 2);
    rig.receive(a, &[job(1)]);
    let task = one(&mut rig);
    for conn in [a, b] {
        let names = rig.sent_names(conn);
        for _ in names.iter().filter(|name| **name == "GRAB_JOB_UNIQ") {
            rig.receive(conn, &[no_job()]);
        }
        rig.sent(conn);
    }
    rig.act(|worker, now| worker.drain(now));
    if rig.sent_names(b).is_empty() {
        rig.receive(b, &[no_job()]);
        assert_eq!(rig.sent_names(b), ["ECHO_REQ"]);
    }
    assert_eq!(rig.sent(a), []);
    rig.receive(b, &[packet(T::ECHO_RES, "")]);
    assert_eq!((rig.disconnects(), rig.events()), (vec![b], vec![]));
    complete(&mut rig, task);
    assert_eq!(rig.sent_names(a), ["WORK_COMPLETE", "ECHO_REQ"]);
    rig.receive(a, &[packet(T::ECHO_RES, "")]);
    assert_eq!(rig.events(), [Event::Closed]);
}

#[test]
fn a_connection_that_has_worked_for_long_makes_the_next_failure_a_first_one() {
    let (mut rig, conn) = worker();
    rig.close(conn, CloseReason::Reset);
    for _ in 0..20 {
        rig.pass(secs(6));
        for (conn, _) in rig.connects() {
            rig.close(conn, CloseReason::Refused);
        }
    }
    rig.pass(secs(6));
    let conn = rig.connect();
    rig.receive(conn, &[no_job()]);
    rig.pass(secs(5));
    rig.close(conn, CloseReason::Reset);
    rig.pass(millis(100));
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn one_that_is_not_polled_is_not_read_and_what_breaks_the_protocol_is_thrown_away() {
    let mut narrow = config(&["a"]);
    narrow.limits.max_events = 1;
    narrow.concurrency = 8;
    let (mut rig, conn) = worker_with(narrow);
    let mut stream = BytesMut::new();
    for number in 1..=2 {
        job(number).encode(gearwheel::wire::Magic::Response, &mut stream);
    }
    let whole = stream.len();
    rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
    assert_eq!(stream.len(), whole / 2, "one job makes an output");
    assert!(!rig.machine.wants_read(conn));
    let mut resumed = 0;
    loop {
        match rig.machine.poll() {
            Output::Resume(_) => {
                resumed += 1;
                assert!(rig.machine.wants_read(conn));
                stream.extend_from_slice(b"nonsense that nobody speaks");
                rig.machine.handle(Input::Data(conn, &mut stream), rig.now);
            }
            Output::Wait(_) => break,
            _ => {}
        }
    }
    assert!(resumed > 0);
    assert!(stream.is_empty(), "{:?}", Bytes::from(stream));
}

#[test]
fn a_farewell_that_is_refused_is_a_farewell() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[no_job()]);
    rig.act(|worker, now| worker.drain(now));
    rig.receive(conn, &[packet(T::ERROR, "INVALID_COMMAND|what?")]);
    assert_eq!((rig.events(), rig.disconnects()), (vec![Event::Closed], vec![conn]));
}

#[test]
fn a_grab_that_no_form_of_is_known_sleeps_and_is_told() {
    let mut plain = config(&["a"]);
    plain.grab = gearwheel::worker::Grab::Plain;
    let mut rig = Rig::new(Worker::new(plain).expect("valid"));
    register(&mut rig, "f");
    let conn = rig.connect();
    rig.sent(conn);
    rig.events();
    rig.receive(conn, &[packet(T::ERROR, "INVALID_COMMAND|what?")]);
    assert!(matches!(&rig.events()[..], [Event::ServerError { error, .. }] if &*error.code == "INVALID_COMMAND"));
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
    // While it drains there is nothing to sleep for.
    rig.receive(conn, &[packet(T::NOOP, "")]);
    rig.act(|worker, now| worker.drain(now));
    rig.sent(conn);
    rig.receive(conn, &[packet(T::ERROR, "INVALID_COMMAND|what?")]);
    assert_eq!(rig.sent_names(conn), ["ECHO_REQ"]);
}

#[test]
fn a_server_that_comes_is_dialled_only_for_somebody() {
    let mut rig = Rig::new(Worker::new(config(&["a"])).expect("valid"));
    rig.act(|worker, now| worker.add_server("b".parse().expect("an address"), now)).expect("new");
    assert_eq!(rig.connects(), [], "it has no function");
    rig.act(|worker, now| worker.drain(now));
    rig.act(|worker, now| worker.add_server("c".parse().expect("an address"), now)).expect("new");
    assert_eq!((rig.connects(), rig.wait), (vec![], None));
}

#[test]
fn the_name_of_a_task_that_was_answered_is_void_though_another_has_its_place() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let first = one(&mut rig);
    complete(&mut rig, first);
    rig.receive(conn, &[job(2)]);
    let second = one(&mut rig);
    assert_ne!(first, second);
    rig.sent(conn);
    rig.act(|worker, now| worker.complete(first, "again".into(), now)).expect_err("answered before");
    assert_eq!(rig.sent_names(conn), [""; 0]);
    complete(&mut rig, second);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
}

#[test]
fn a_task_is_gone_once_however_often_its_server_is_lost() {
    let (mut rig, conn) = worker();
    rig.receive(conn, &[job(1)]);
    let task = one(&mut rig);
    rig.close(conn, CloseReason::Reset);
    let gone =
        |rig: &mut Rig<Worker>| rig.events().into_iter().filter(|event| matches!(event, Event::Gone { .. })).count();
    assert_eq!(gone(&mut rig), 1);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.close(conn, CloseReason::Reset);
    assert_eq!(gone(&mut rig), 0);
    rig.act(|worker, now| worker.complete(task, "r".into(), now)).expect_err("nobody to tell");
}

#[test]
fn a_server_that_is_none_cannot_be_removed() {
    let stranger = Worker::new(config(&["x", "y"])).expect("valid").servers().nth(1).expect("two").server;
    let (mut rig, conn) = worker();
    let rejected = rig.act(|worker, now| worker.remove_server(stranger, false, now)).expect_err("a stranger");
    assert_eq!((rejected.reason, rejected.value), (Reason::Unknown("job server"), stranger));
    assert_eq!((rig.disconnects(), rig.sent_names(conn)), (vec![], vec![""; 0]));
}
