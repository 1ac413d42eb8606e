//! Limits to the byte and times to the millisecond, and the order of what is said.

use gearwheel::server::{Config, Event, QueuedJob};
use gearwheel::{CloseReason, ConnId, Handle, Input, Machine};

use crate::net::{Net, config, millis, request, secs};

#[test]
fn the_defaults_are_those_of_the_docs() {
    let config = Config::new([0; 32]);
    assert_eq!((&*config.handle_prefix, config.job_retries, config.worker_wakeup), ("H:gearwheel", None, 0));
    assert!(!config.exceptions && !config.allow_shutdown);
    assert_eq!((config.min_job_timeout, config.slow_reader), (secs(1), secs(5)));
    assert_eq!((config.silent_worker, config.idle, config.process_id), (None, None, 0));
    assert_eq!((config.max_connections, config.max_jobs), (65_536, 10_000_000));
    assert_eq!((config.max_functions, config.max_abilities), (100_000, 1_000_000));
    let large = usize::BITS > 32;
    assert_eq!(config.max_job_bytes as u64, if large { 4 << 30 } else { 1 << 30 });
    assert_eq!(config.max_partial, if large { 1 << 30 } else { 256 << 20 });
}

#[test]
fn each_limit_of_zero_is_refused_by_its_name() {
    let changes: [fn(&mut Config); 9] = [
        |config| config.max_connections = 0,
        |config| config.max_jobs = 0,
        |config| config.max_functions = 0,
        |config| config.max_abilities = 0,
        |config| config.limits.max_packet = 0,
        |config| config.limits.max_outgoing = 0,
        |config| config.limits.max_events = 0,
        |config| config.slow_reader = secs(0),
        |config| config.silent_worker = Some(secs(0)),
    ];
    let errors = changes.map(|change| {
        let mut config = config();
        change(&mut config);
        let now = gearwheel::Instant::EPOCH;
        gearwheel::server::Server::new(config, now, secs(0)).expect_err("refused").to_string()
    });
    for (place, error) in errors.iter().enumerate() {
        assert!(!errors[..place].contains(error), "{error} twice");
    }
}

#[test]
fn unfinished_packets_may_have_as_many_bytes_as_the_limit() {
    let mut config = config();
    config.max_partial = 500;
    let mut net = Net::with(config);
    let packet = request(&format!("ECHO_REQ {}", "x".repeat(900)));
    let conn = net.connect();
    net.send_bytes(conn, &packet[..500]);
    assert_eq!(net.disconnected, []);
    // What grows no further costs nobody his connection.
    net.send_bytes(conn, b"");
    let other = net.connect();
    net.send_bytes(other, &packet[..1]);
    assert_eq!(net.disconnected, [other]);
    net.send_bytes(conn, &packet[500..501]);
    assert_eq!(net.disconnected, [other, conn]);
}

/// A connection that takes nothing and has asked for more than a limit of 1,024 bytes.
fn congested(config: impl FnOnce(&mut Config)) -> (Net, ConnId) {
    let mut base = crate::net::config();
    base.limits.max_outgoing = 1024;
    config(&mut base);
    let mut net = Net::with(base);
    let conn = net.connect();
    net.deaf.insert(conn);
    net.send(conn, &[&format!("ECHO_REQ {}", "x".repeat(1500))]);
    assert!(!net.server.wants_read(conn));
    (net, conn)
}

#[test]
fn a_congested_connection_is_not_listened_to_whatever_its_driver_does() {
    let (mut net, conn) = congested(|_| {});
    let held = net.waiting(conn);
    net.send(conn, &["ECHO_REQ more", "ECHO_REQ more"]);
    assert_eq!(net.waiting(conn), held);
    net.deaf.remove(&conn);
    net.write(conn, held);
    net.run();
    assert_eq!(net.take(conn)[1..], ["ECHO_RES more", "ECHO_RES more"]);
}

#[test]
fn who_takes_a_64th_of_the_limit_in_time_is_kept_and_who_takes_a_byte_less_is_not() {
    for (taken, kept) in [(16, true), (15, false)] {
        let (mut net, conn) = congested(|_| {});
        for _ in 0..3 {
            net.pass(millis(2500));
            let written = net.write(conn, taken);
            assert!(written == taken || !kept);
            net.run();
            net.pass(millis(2500));
        }
        assert_eq!(net.disconnected.is_empty(), kept, "{taken} bytes in 5 s");
        assert_eq!(net.reason(conn), (!kept).then_some(CloseReason::SlowReader));
    }
}

#[test]
fn one_is_listened_to_again_when_it_has_taken_all_but_half_of_the_limit() {
    let (mut net, conn) = congested(|_| {});
    let held = net.waiting(conn);
    net.write(conn, held - 513);
    net.run();
    assert!(!net.server.wants_read(conn));
    net.write(conn, 1);
    net.run();
    assert!(net.server.wants_read(conn));
    assert_eq!(net.resumed, [conn]);
}

#[test]
fn a_job_that_was_cancelled_is_not_counted_again_when_its_worker_ends_it() {
    for end in ["WORK_COMPLETE H:lap:1|r", "WORK_FAIL H:lap:1", "WORK_EXCEPTION H:lap:1|e"] {
        let mut net = Net::new();
        let worker = net.peer(&["SUBMIT_JOB f||x", "CAN_DO f", "GRAB_JOB"]);
        let admin = net.connect();
        net.text(admin, "cancel job H:lap:1\n");
        net.send(worker, &[end]);
        let counters = net.server.counters();
        assert_eq!((counters.completed, counters.failed, counters.jobs), (0, 1, 0), "{end}");
    }
}

#[test]
fn everything_is_counted_once() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f|u|1", "SUBMIT_JOB f|u|1", "SUBMIT_JOB f||2", "SUBMIT_JOB f||3"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "GRAB_JOB", "GRAB_JOB"]);
    net.send(
        worker,
        &["WORK_COMPLETE H:lap:1|r", "WORK_FAIL H:lap:2", "WORK_EXCEPTION H:lap:3|e", "WORK_FAIL H:lap:9"],
    );
    net.send(client, &["SUBMIT_JOB_BG f||4"]);
    net.send(worker, &["GRAB_JOB"]);
    net.close(worker);
    let counters = net.server.counters();
    assert_eq!((counters.submitted, counters.joined, counters.assigned), (5, 1, 4));
    assert_eq!((counters.completed, counters.failed, counters.requeued), (1, 2, 1));
    assert_eq!((counters.errors, counters.accepted, counters.connections), (1, 2, 1));
    assert_eq!((counters.functions, counters.jobs, counters.running, counters.waiting), (1, 1, 0, 0));
    assert_eq!(net.server.latencies().run.count(), 3);
}

#[test]
fn a_reader_is_given_its_whole_time_however_often_it_is_looked_at() {
    let (mut net, conn) = congested(|config| config.idle = Some(secs(3)));
    net.pass(millis(4999));
    assert_eq!(net.disconnected, [], "whoever is not listened to cannot be called silent");
    net.pass(millis(1));
    assert_eq!(net.reason(conn), Some(CloseReason::SlowReader));
}

#[test]
fn one_that_is_being_closed_gets_no_more_time_for_taking_some() {
    let mut net = Net::new();
    let conn = net.connect();
    net.deaf.insert(conn);
    net.send(conn, &[&format!("ECHO_REQ {}", "x".repeat(300_000))]);
    net.now = net.now + secs(100);
    net.server.close(net.now);
    net.run();
    assert_eq!(net.disconnected, [], "its last bytes wait");
    // What it says from now on is for nobody.
    let mut stream = bytes::BytesMut::from(&request("ECHO_REQ y")[..]);
    net.server.handle(Input::Data(conn, &mut stream), net.now);
    net.run();
    assert!(stream.is_empty());
    net.pass(millis(4900));
    net.write(conn, 100_000);
    net.run();
    assert_eq!(net.disconnected, []);
    net.pass(millis(100));
    assert_eq!((&net.disconnected[..], net.events.last()), (&[conn][..], Some(&Event::Closed)));
    let mut stream = bytes::BytesMut::from(&b"\0REQ"[..]);
    net.server.handle(Input::Data(conn, &mut stream), net.now);
    assert!(stream.is_empty(), "a connection that is no more");
}

#[test]
fn ends_are_told_in_the_order_in_which_they_came() {
    let gone = |net: &Net| -> Vec<ConnId> {
        let conn = |event: &Event| if let Event::Disconnected { conn, .. } = event { Some(*conn) } else { None };
        net.events.iter().filter_map(conn).collect()
    };
    let mut net = Net::new();
    let conns = [(); 3].map(|()| net.connect());
    for conn in conns {
        net.server.handle(Input::Closed(conn, CloseReason::Reset), net.now);
    }
    net.run();
    assert_eq!(gone(&net), conns);
    let mut net = Net::new();
    let conns = [(); 3].map(|()| net.connect());
    net.server.close(net.now);
    net.run();
    assert_eq!((gone(&net), &net.disconnected[..]), (conns.to_vec(), &conns[..]));
    assert_eq!(net.events.last(), Some(&Event::Closed));
    let events = net.events.len();
    net.server.close(net.now);
    net.server.drain(net.now);
    net.run();
    assert_eq!(net.events.len(), events, "nothing comes behind Closed");
}

#[test]
fn an_idle_server_that_drains_closes_at_once_and_stays_closed() {
    let mut net = Net::new();
    let conn = net.connect();
    net.server.drain(net.now);
    net.run();
    assert_eq!((&net.disconnected[..], net.events.last()), (&[conn][..], Some(&Event::Closed)));
    assert!(!net.server.wants_accept());
    assert!(net.server.restore(QueuedJob::new("f", "x")).is_err());
}

#[test]
fn a_closed_server_waits_for_nothing_and_keeps_the_time_of_a_delayed_job() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_EPOCH f||1800000100|x"]);
    assert!(net.wait.is_some());
    net.server.drain(net.now);
    net.run();
    assert_eq!((net.events.last(), net.wait), (Some(&Event::Closed), None));
    assert_eq!(net.server.queued().next().and_then(|job| job.not_before), Some(secs(1_800_000_100)));
}

#[test]
fn a_drain_while_it_closes_opens_nothing_again() {
    let (mut net, conn) = congested(|_| {});
    net.server.close(net.now);
    net.server.drain(net.now);
    net.run();
    net.deaf.remove(&conn);
    net.write(conn, usize::MAX);
    net.run();
    assert_eq!(net.events.last(), Some(&Event::Closed));
}

#[test]
fn a_nearer_time_takes_the_place_of_a_timer() {
    let mut config = config();
    (config.idle, config.silent_worker) = (Some(secs(100)), Some(secs(10)));
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB_BG f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.close(client);
    assert_eq!(net.wait, Some(net.now + secs(10)));
    net.pass(secs(5));
    net.send(worker, &["WORK_COMPLETE H:lap:1|r"]);
    // One look at the old time, one at the new: none is left over of the first.
    assert_eq!(net.pass(secs(100)), 2);
    assert_eq!(net.disconnected, [worker]);
    assert_eq!(net.wait, None);
}

#[test]
fn a_worker_whose_last_job_took_longer_than_it_may_be_idle_is_closed_when_it_is() {
    // The last one: its time limit passes.
    for end in ["WORK_COMPLETE H:lap:1|r", "CANT_DO f", ""] {
        let mut config = config();
        config.idle = Some(secs(10));
        let mut net = Net::with(config);
        let worker = net.peer(&["SUBMIT_JOB_BG f||x", "CAN_DO_TIMEOUT f|20000", "GRAB_JOB"]);
        net.pass(secs(20));
        if !end.is_empty() {
            net.send(worker, &[end]);
        }
        net.pass(millis(9_999));
        assert_eq!(net.disconnected, [], "{end}");
        net.pass(millis(1));
        assert_eq!(net.disconnected, [worker], "{end}");
    }
}

#[test]
fn a_wall_clock_that_stands_at_the_end_of_time_hurts_nobody() {
    let mut net = Net::new();
    net.server.set_unix_time(std::time::Duration::MAX, net.now);
    net.pass(secs(5));
    let client = net.connect();
    assert_eq!(net.ask(client, &[&format!("SUBMIT_JOB_EPOCH f||{}|x", u64::MAX)]), ["JOB_CREATED H:lap:1"]);
    net.server.set_unix_time(crate::net::UNIX, net.now);
    assert_eq!(net.server.queued().count(), 1);
}

#[test]
fn a_restored_job_has_waited_since_it_was_restored() {
    let mut net = Net::new();
    net.server.restore(QueuedJob::new("f", "x")).expect("room");
    net.run();
    net.pass(secs(3));
    net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(net.server.latencies().wait.max(), secs(3));
}

#[test]
fn a_number_at_the_end_of_all_numbers_is_not_given_back() {
    let mut net = Net::new();
    let mut job = QueuedJob::new("f", "x");
    job.handle = Some(Handle::from_wire(b"H:lap:18446744073709551615"));
    assert_eq!(net.server.restore(job), Ok(Handle::from_wire(b"H:lap:1")));
    let client = net.connect();
    assert_eq!(net.ask(client, &["SUBMIT_JOB_BG f||y"]), ["JOB_CREATED H:lap:2"]);
}

#[test]
fn a_handle_is_digits_to_its_end() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB_BG f||y"]);
    net.take(client);
    assert_eq!(net.ask(client, &["GET_STATUS H:lap:1"]), ["STATUS_RES H:lap:1|1|0|0|0"]);
    for handle in ["H:lap:1:", "H:lap:1/", "H:lap:", "H:lap:+1", "H:lap:01"] {
        assert_eq!(net.ask(client, &[&format!("GET_STATUS {handle}")]), [format!("STATUS_RES {handle}|0|0|0|0")]);
    }
}

#[test]
fn a_connection_in_the_place_of_a_sleeper_does_not_sleep() {
    let mut net = Net::new();
    let sleeper = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.close(sleeper);
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    let awake = net.peer(&["CAN_DO f"]);
    net.peer(&["SUBMIT_JOB_BG f||2"]);
    assert_eq!(net.take(awake), [""; 0], "it has not said that it sleeps");
}

#[test]
fn whoever_grabs_is_awake_until_it_says_otherwise() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    assert_eq!(net.ask(worker, &["GRAB_JOB"]), ["NOOP", "JOB_ASSIGN H:lap:1|f|1"]);
    net.peer(&["SUBMIT_JOB_BG f||2"]);
    assert_eq!(net.take(worker), [""; 0]);
    assert_eq!(net.ask(worker, &["PRE_SLEEP"]), ["NOOP"]);
}

#[test]
fn a_background_job_that_comes_back_while_the_server_drains_is_given_to_nobody() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_HIGH_BG f||bg", "SUBMIT_JOB f||fg"]);
    let dying = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!([dying, worker].map(|conn| net.take(conn)), [["JOB_ASSIGN H:lap:1|f|bg"], ["JOB_ASSIGN H:lap:2|f|fg"]]);
    net.server.drain(net.now);
    net.run();
    net.close(dying);
    assert_eq!(net.ask(worker, &["GRAB_JOB", "PRE_SLEEP"]), ["NO_JOB"]);
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.events.last(), Some(&Event::Closed));
    assert_eq!(net.server.queued().map(|job| job.payload).collect::<Vec<_>>(), ["bg"]);
}

#[test]
fn a_job_is_given_out_again_as_often_as_the_limit_says() {
    let mut config = config();
    config.job_retries = Some(2);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    net.take(client);
    for _ in 0..3 {
        assert_eq!(net.take(client), [""; 0]);
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
        assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:1|f|x"]);
        net.close(worker);
    }
    assert_eq!(net.take(client), ["WORK_FAIL H:lap:1"]);
}

#[test]
fn jobs_may_have_as_many_bytes_as_the_limit() {
    let mut config = config();
    config.max_job_bytes = 100;
    let mut net = Net::with(config);
    let client = net.connect();
    let full = "ERROR QUEUE_ERROR|Job queue is full";
    let line = |size| format!("SUBMIT_JOB_BG f|uu|{}", "x".repeat(size));
    assert_eq!(net.ask(client, &[&line(99)]), [full]);
    assert_eq!(net.ask(client, &[&line(98)]), ["JOB_CREATED H:lap:1"]);
    assert_eq!(net.ask(client, &["SUBMIT_JOB_BG f||x"]), [full]);
    assert_eq!(net.ask(client, &["SUBMIT_JOB_BG f||"]), ["JOB_CREATED H:lap:2"]);
}

#[test]
fn a_connection_is_congested_from_the_first_byte_over_the_limit() {
    for (payload, congested) in [(1012, false), (1013, true)] {
        let mut config = config();
        config.limits.max_outgoing = 1024;
        let mut net = Net::with(config);
        let conn = net.connect();
        net.deaf.insert(conn);
        net.send(conn, &[&format!("ECHO_REQ {}", "x".repeat(payload)), "ECHO_REQ more"]);
        assert_eq!(net.server.wants_read(conn), !(congested || net.waiting(conn) > 1024), "{payload}");
        assert_eq!(net.waiting(conn), if congested { 12 + payload } else { 12 + payload + 16 });
    }
}

#[test]
fn the_longest_idle_function_is_the_first_to_be_forgotten() {
    let mut config = config();
    config.max_functions = 3;
    let mut net = Net::with(config);
    let conn = net.connect();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(net.text(conn, &format!("create function {name}\r\n")), "OK\r\n");
    }
    let status = net.text(conn, "status\n");
    let mut names: Vec<_> = status.lines().filter_map(|line| line.split_once('\t')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "c", "d"]);
}

#[test]
fn a_restored_payload_may_fill_a_packet() {
    let mut config = config();
    config.limits.max_packet = 100;
    let mut net = Net::with(config);
    net.server.restore(QueuedJob::new("f", vec![b'x'; 100])).expect("restored");
    let rejected = net.server.restore(QueuedJob::new("f", vec![b'x'; 101])).expect_err("too long");
    let expected = gearwheel::ConfigError::TooLong { what: "payload", length: 101, limit: 100 };
    assert_eq!(rejected.reason, gearwheel::Reason::Invalid(expected));
}

#[test]
fn a_failed_handle_is_read_up_to_63_bytes() {
    let mut net = Net::new();
    let worker = net.connect();
    let not_found = net.ask(worker, &[&format!("WORK_FAIL {}", "x".repeat(63))]);
    assert!(not_found[0].starts_with("ERROR JOB_NOT_FOUND|"), "{not_found:?}");
    let too_long = net.ask(worker, &[&format!("WORK_FAIL {}", "x".repeat(64))]);
    assert!(too_long[0].starts_with("ERROR ARGUMENT_TOO_LARGE|"), "{too_long:?}");
}

#[test]
fn a_created_function_has_a_name_of_4_kib_at_most() {
    let mut net = Net::new();
    let admin = net.connect();
    assert_eq!(net.text(admin, &format!("create function {}\n", "x".repeat(4096))), "OK\r\n");
    assert_eq!(net.text(admin, &format!("create function {}\n", "y".repeat(4097))), "ERR QUEUE_ERROR\r\n");
    assert_eq!(net.server.counters().functions, 1);
}

#[test]
fn a_job_that_is_held_back_can_be_cancelled() {
    let mut net = Net::new();
    // One that waited when the drain began, and one that came back behind it.
    let client = net.peer(&["SUBMIT_JOB f||fg", "SUBMIT_JOB_BG f||waits", "SUBMIT_JOB_BG g||runs"]);
    let worker = net.peer(&["CAN_DO g", "GRAB_JOB"]);
    let admin = net.connect();
    net.take(client);
    net.take(worker);
    net.server.drain(net.now);
    net.run();
    net.close(worker);
    assert_eq!(net.text(admin, "cancel job H:lap:2\ncancel job H:lap:3\n"), "OK\r\nOK\r\n");
    net.server.audit();
    assert_eq!(net.server.queued().map(|job| job.payload).collect::<Vec<_>>(), ["fg"; 0]);
    assert_eq!(net.server.counters().jobs, 1, "the one that is waited for");
}

#[test]
fn whoever_was_not_listened_to_has_not_been_silent() {
    let mut config = config();
    config.limits.max_outgoing = 1_000;
    config.idle = Some(secs(10));
    config.silent_worker = Some(secs(10));
    config.slow_reader = secs(60);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    net.deaf.insert(client);
    net.send(worker, &[&format!("WORK_DATA H:lap:1|{}", "d".repeat(1200))]);
    assert!(!net.server.wants_read(worker));
    // It is listened to again just before its time would be over.
    net.pass(millis(9_999));
    net.deaf.remove(&client);
    net.write(client, usize::MAX);
    net.run();
    assert_eq!(net.resumed, [worker]);
    net.send(client, &["ECHO_REQ still here"]);
    net.pass(millis(9_999));
    assert_eq!(net.disconnected, []);
    net.pass(millis(1));
    assert!(net.disconnected.contains(&worker));
}

#[test]
fn one_that_is_being_closed_keeps_its_reason() {
    let mut net = Net::new();
    let conn = net.connect();
    net.deaf.insert(conn);
    net.send(conn, &["ECHO_REQ last words"]);
    net.send_bytes(conn, b"\0BAD........");
    assert_eq!(net.disconnected, []);
    net.server.close(net.now);
    net.run();
    net.deaf.remove(&conn);
    net.write(conn, usize::MAX);
    net.run();
    assert_eq!(net.disconnected, [conn]);
    assert!(matches!(net.reason(conn), Some(CloseReason::Protocol(_))), "{:?}", net.reason(conn));
}

#[test]
fn jobs_are_listed_and_kept_in_the_order_of_their_submission() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB_BG f||1", "SUBMIT_JOB_BG f||2", "SUBMIT_JOB_BG f||3"]);
    net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_COMPLETE H:lap:1|"]);
    // It has the place in the table that the first had.
    net.send(client, &["SUBMIT_JOB_BG f||4"]);
    let admin = net.connect();
    let shown = net.text(admin, "show jobs\n");
    let handles: Vec<_> = shown.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(handles, ["H:lap:2", "H:lap:3", "H:lap:4", "."]);
    let kept: Vec<_> = net.server.queued().map(|job| job.payload).collect();
    assert_eq!(kept, ["2", "3", "4"]);
}

#[test]
fn one_that_is_being_closed_may_be_silent_for_as_long_as_it_has_to_take_its_last_bytes() {
    let mut config = config();
    (config.idle, config.slow_reader) = (Some(secs(3)), secs(5));
    let mut net = Net::with(config);
    let conn = net.connect();
    net.deaf.insert(conn);
    net.send(conn, &["ECHO_REQ last words"]);
    net.send_bytes(conn, b"\0BAD........");
    net.pass(millis(4_999));
    assert_eq!(net.disconnected, []);
    net.pass(millis(1));
    assert_eq!(net.disconnected, [conn]);
    // And so when the server closes shortly before the time of one that said nothing is over.
    let conn = net.peer(&[]);
    net.deaf.insert(conn);
    net.send(conn, &["ECHO_REQ last words"]);
    net.pass(millis(2_999));
    net.server.close(net.now);
    net.run();
    net.pass(millis(4_999));
    assert_eq!(net.disconnected.len(), 1);
    net.pass(millis(1));
    assert_eq!(net.disconnected.len(), 2);
}
