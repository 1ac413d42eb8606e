//! What a peer can make the server hold, and how long it may keep it waiting.

use gearwheel::{CloseReason, Machine};

use crate::net::{Net, config, request, secs};

const FULL: &str = "ERROR QUEUE_ERROR|Job queue is full";

#[test]
fn connections_over_the_limit_are_not_accepted() {
    let mut config = config();
    config.max_connections = 2;
    let mut net = Net::with(config);
    let first = net.connect();
    net.connect();
    assert!(!net.server.wants_accept());
    assert_eq!(net.connect_from(gearwheel::Peer::new("x", false)), None);
    net.close(first);
    assert!(net.server.wants_accept());
    net.connect();
}

#[test]
fn jobs_and_those_who_wait_for_them_are_bounded() {
    let mut config = config();
    config.max_jobs = 2;
    let mut net = Net::with(config);
    let client = net.connect();
    let answers = net.ask(client, &["SUBMIT_JOB f|u|1", "SUBMIT_JOB f|u|1", "SUBMIT_JOB f|u|1", "SUBMIT_JOB_BG f||2"]);
    assert_eq!(answers, ["JOB_CREATED H:lap:1", "JOB_CREATED H:lap:1", FULL, FULL]);
    net.close(client);
    assert!(net.is_empty());
}

#[test]
fn the_bytes_of_jobs_are_bounded() {
    let mut config = config();
    config.max_job_bytes = 1_000;
    let mut net = Net::with(config);
    let line = format!("SUBMIT_JOB_BG f|u|{}", "x".repeat(600));
    let other = format!("SUBMIT_JOB_BG f||{}", "x".repeat(600));
    let client = net.connect();
    assert_eq!(net.ask(client, &[&line, &other, &line]), ["JOB_CREATED H:lap:1", FULL, "JOB_CREATED H:lap:1"]);
}

#[test]
fn functions_are_bounded_and_the_longest_idle_is_forgotten() {
    let mut config = config();
    config.max_functions = 2;
    let mut net = Net::with(config);
    let conn = net.peer(&["CAN_DO a", "SUBMIT_JOB_BG b||x", "SUBMIT_JOB_BG c||x", "CAN_DO d", "CANT_DO a", "CAN_DO e"]);
    assert_eq!(net.take(conn), ["JOB_CREATED H:lap:1", FULL, FULL]);
    assert_eq!(net.text(conn, "status\n"), "e\t0\t0\t1\nb\t1\t0\t0\n.\n");
    assert_eq!(net.text(conn, "create function x\n"), "ERR QUEUE_ERROR\r\n");
}

#[test]
fn a_function_that_was_forgotten_is_not_taken_for_the_one_in_its_place() {
    let mut config = config();
    config.max_functions = 1;
    let mut net = Net::with(config);
    let conn = net.peer(&["CAN_DO a", "CANT_DO a", "CAN_DO b", "CANT_DO b", "CAN_DO a"]);
    assert_eq!(net.text(conn, "status\n"), "a\t0\t0\t1\n.\n");
}

#[test]
fn abilities_are_bounded() {
    let mut config = config();
    config.max_abilities = 2;
    let mut net = Net::with(config);
    let first = net.peer(&["CAN_DO a", "CAN_DO b", "CAN_DO c", "CAN_DO a"]);
    assert_eq!(net.take(first), [FULL]);
    net.close(first);
    let second = net.peer(&["CAN_DO a", "CAN_DO b"]);
    assert_eq!(net.take(second), [""; 0]);
}

#[test]
fn function_names_are_bounded() {
    let mut net = Net::new();
    let [fits, too_long] = [4_096, 4_097].map(|length| format!("SUBMIT_JOB_BG {}||x", "f".repeat(length)));
    let client = net.peer(&[&fits, &too_long]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "ERROR ARGUMENT_TOO_LARGE|Function value too large"]);
}

#[test]
fn unfinished_packets_are_bounded_over_all_connections() {
    let mut config = config();
    config.max_partial = 1_000;
    let mut net = Net::with(config);
    let packet = request(&format!("ECHO_REQ {}", "x".repeat(900)));
    let [one, two] = [0, 1].map(|_| net.connect());
    net.send_bytes(one, &packet[..600]);
    net.send_bytes(two, &packet[..300]);
    assert_eq!(net.disconnected, []);
    net.send_bytes(two, &packet[300..500]);
    assert_eq!(net.disconnected, [two]);
    net.send_bytes(one, &packet[600..]);
    assert_eq!(net.take(one).len(), 1);
    let three = net.connect();
    net.send_bytes(three, &packet[..900]);
    assert_eq!(net.disconnected, [two], "what is whole or gone does not count");
}

/// Limits of 1,000 bytes, and a client that takes nothing, with a job of it running.
fn congested() -> (Net, gearwheel::ConnId, gearwheel::ConnId) {
    congested_at(1_000)
}

fn congested_at(limit: usize) -> (Net, gearwheel::ConnId, gearwheel::ConnId) {
    let mut config = config();
    config.limits.max_outgoing = limit;
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    net.deaf.insert(client);
    (net, client, worker)
}

fn data(length: usize) -> String {
    format!("WORK_DATA H:lap:1|{}", "d".repeat(length))
}

#[test]
fn who_feeds_a_client_that_does_not_read_is_held_up_until_it_reads() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(600), &data(600), &data(600), "ECHO_REQ held up"]);
    let held = net.waiting(client);
    assert!((1_000..1_300).contains(&held), "{held}: the limit and a packet");
    assert!(!net.server.wants_read(worker));
    assert_eq!(net.take(worker), [""; 0]);
    let other = net.peer(&["ECHO_REQ x"]);
    assert_eq!(net.take(other), ["ECHO_RES x"], "others go on");
    net.deaf.remove(&client);
    net.write(client, 500);
    net.run();
    assert_eq!(net.resumed, [], "half of the limit is still more than half");
    net.write(client, usize::MAX);
    net.run();
    assert_eq!(net.resumed, [worker]);
    assert_eq!(net.take(worker), ["ECHO_RES held up"]);
    assert_eq!(net.take(client).len(), 3);
    net.pass(secs(60));
    assert_eq!(net.disconnected, []);
}

#[test]
fn a_client_that_does_not_read_is_closed_and_its_feeder_goes_on() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(1_200), "ECHO_REQ x"]);
    assert_eq!(net.take(worker), [""; 0]);
    net.pass(secs(5));
    assert_eq!(net.disconnected, [client]);
    assert_eq!(net.reason(client), Some(CloseReason::SlowReader));
    assert_eq!(net.take(worker), ["ECHO_RES x"]);
    assert_eq!(net.wait, None);
}

#[test]
fn a_client_that_reads_slowly_but_steadily_is_kept() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(2_000)]);
    for _ in 0..5 {
        net.write(client, 100);
        net.pass(secs(5));
    }
    assert_eq!(net.disconnected, []);
    net.write(client, 10);
    net.pass(secs(5));
    assert_eq!(net.disconnected, [client], "ten bytes are no reading");
}

#[test]
fn who_feeds_a_client_is_held_up_from_the_first_byte_over_three_quarters_of_the_limit() {
    for (payload, held_up) in [(730, false), (731, true)] {
        let (mut net, client, worker) = congested();
        let packet = format!("WORK_DATA H:lap:1|{}", "d".repeat(payload));
        net.send(worker, &[&packet, "ECHO_REQ x"]);
        assert_eq!(net.waiting(client), 20 + payload);
        assert_eq!(net.server.wants_read(worker), !held_up, "{payload}");
        assert!(net.server.wants_read(client), "it may say something itself");
    }
}

#[test]
fn a_client_that_writes_all_its_jobs_before_it_reads_is_served() {
    let (mut net, client, worker) = congested_at(3_000);
    let mut results = (1..20).map(|job| format!("WORK_COMPLETE H:lap:{job}|{}", "r".repeat(600)));
    while net.server.wants_read(worker) {
        net.send(client, &["SUBMIT_JOB f||x"]);
        net.send(worker, &[&results.next().expect("not all of them"), "GRAB_JOB"]);
    }
    assert_eq!(results.len(), 15, "four are more than three quarters of the limit");
    while net.server.counters().submitted < 19 {
        net.send(client, &["SUBMIT_JOB f||x"]);
        assert!(net.server.wants_read(client));
    }
    net.deaf.remove(&client);
    net.write(client, usize::MAX);
    net.run();
    assert!(net.server.wants_read(worker));
    results.for_each(|result| net.send(worker, &[&result, "GRAB_JOB"]));
    let came = net.take(client);
    let count = |kind| came.iter().filter(|packet| packet.starts_with(kind)).count();
    assert_eq!((count("JOB_CREATED"), count("WORK_COMPLETE")), (18, 19));
}

#[test]
fn a_client_that_sends_steadily_is_no_slow_reader() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(800)]);
    for _ in 0..5 {
        net.send(client, &["SUBMIT_JOB_BG f||"]);
        net.pass(secs(5));
    }
    let packet = crate::net::request("SUBMIT_JOB_BG f||yyyyyyyyyyyyyyyy");
    net.send_bytes(client, &packet[..15]);
    net.pass(secs(5));
    net.send_bytes(client, &packet[15..]);
    net.pass(secs(5));
    assert_eq!(net.disconnected, []);
    net.pass(secs(5));
    assert_eq!(net.disconnected, [client]);
}

#[test]
fn a_client_that_only_sends_holds_nobody_up_for_ever() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(800), "ECHO_REQ x"]);
    let mut periods = 0;
    while !net.server.wants_read(worker) && periods < 1_000 {
        net.send(client, &["PRE_SLEEP", "PRE_SLEEP"]);
        net.pass(secs(5));
        periods += 1;
    }
    assert!((40..64).contains(&periods), "{periods}");
    assert_eq!(net.reason(client), Some(CloseReason::SlowReader));
}

#[test]
fn bytes_of_a_packet_that_comes_in_parts_count_once() {
    for parts in [1, 2] {
        let (mut net, client, worker) = congested();
        net.send(worker, &[&data(720)]);
        let packet = request(&format!("SUBMIT_JOB_BG f||{}", "y".repeat(700)));
        let (begin, end) = packet.split_at(if parts == 1 { 0 } else { 650 });
        net.send_bytes(client, begin);
        net.send_bytes(client, end);
        assert!((751..1_000).contains(&net.waiting(client)));
        net.write(client, 100);
        net.run();
        net.pass(secs(5));
        assert_eq!(net.disconnected, [], "{parts}");
    }
}

#[test]
fn a_packet_larger_than_what_counts_is_no_step_back() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(800)]);
    let packet = request(&format!("SUBMIT_JOB_BG f||{}", "y".repeat(3_000)));
    net.send_bytes(client, &packet[..2_500]);
    net.pass(secs(5));
    net.send_bytes(client, &packet[2_500..]);
    net.write(client, 100);
    net.run();
    net.pass(secs(5));
    assert_eq!(net.disconnected, []);
}

#[test]
fn who_is_held_up_within_a_packet_has_sent_what_there_is_of_it() {
    let (mut net, client, one) = congested();
    net.deaf.remove(&client);
    net.send(client, &["SUBMIT_JOB f||x"]);
    net.take(client);
    net.deaf.insert(client);
    let two = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.send(one, &[&data(800)]);
    let packet = request(&format!("SUBMIT_JOB_BG f||{}", "y".repeat(900)));
    net.send_bytes(client, &packet[..600]);
    net.pass(secs(5));
    net.send(two, &[&data(400).replace(":1|", ":2|")]);
    assert!(net.waiting(client) > 1_000);
    net.send_bytes(client, &packet[600..650]);
    assert!(!net.server.wants_read(client));
    net.write(client, 100);
    net.run();
    net.pass(secs(5));
    assert_eq!(net.disconnected, []);
}

#[test]
fn who_has_much_to_read_himself_is_held_up_by_one_who_has_more() {
    let mut config = config();
    config.limits.max_outgoing = 1_000;
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f|u|x"]);
    let worker = net.peer(&["SUBMIT_JOB f|u|x", "CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    net.deaf.extend([client, worker]);
    net.send(worker, &[&format!("ECHO_REQ {}", "e".repeat(800))]);
    for _ in 0..100 {
        if net.server.wants_read(worker) {
            net.send(worker, &[&data(100)]);
            let over = net.waiting(worker) - 812;
            net.write(worker, over);
        }
    }
    assert!(!net.server.wants_read(worker));
    assert!(net.waiting(client) < 1_300, "{}", net.waiting(client));
}

#[test]
fn who_asks_more_than_it_reads_is_not_read_itself() {
    let mut config = config();
    config.limits.max_outgoing = 1_000;
    let mut net = Net::with(config);
    let conn = net.connect();
    net.deaf.insert(conn);
    let echo = format!("ECHO_REQ {}", "e".repeat(400));
    net.send(conn, &[&echo[..]; 10]);
    assert!((1_000..1_500).contains(&net.waiting(conn)));
    assert!(!net.server.wants_read(conn));
    net.deaf.remove(&conn);
    net.write(conn, usize::MAX);
    net.run();
    assert_eq!(net.take(conn).len(), 10, "all that was asked is answered");
    assert!(net.server.wants_read(conn));
}

#[test]
fn nothing_hangs_when_the_one_that_holds_others_up_leaves() {
    let (mut net, client, worker) = congested();
    net.send(worker, &[&data(1_200), "ECHO_REQ x"]);
    net.close(client);
    assert_eq!(net.take(worker), ["ECHO_RES x"]);
    assert!(net.server.wants_read(worker));
}

#[test]
fn a_silent_worker_is_closed_and_its_job_given_to_another() {
    let mut config = config();
    config.silent_worker = Some(secs(30));
    config.idle = Some(secs(600));
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let dead = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    let other = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.pass(secs(29));
    net.send(dead, &["ECHO_REQ alive"]);
    net.pass(secs(29));
    assert_eq!(net.disconnected, []);
    net.pass(secs(1));
    assert_eq!(net.disconnected, [dead]);
    assert_eq!(net.reason(dead), Some(CloseReason::Silent));
    assert_eq!(net.take(other), ["NOOP"]);
    net.pass(secs(600));
    assert_eq!(net.disconnected, [dead, client, other], "those without a job have longer");
}

#[test]
fn liveness_costs_one_timer_a_connection_and_fires_no_oftener_than_its_limit() {
    let mut config = config();
    config.idle = Some(secs(100));
    let mut net = Net::with(config);
    let conn = net.connect();
    let mut ticks = 0;
    for _ in 0..1_000 {
        net.send(conn, &["ECHO_REQ x"]);
        ticks += net.pass(secs(1));
    }
    assert!(ticks <= 20, "{ticks}");
    assert_eq!(net.disconnected, []);
}

#[test]
fn a_machine_with_too_many_outputs_stops_reading_and_goes_on_when_they_are_polled() {
    let lines =
        ["SUBMIT_JOB f|u|1", "CAN_DO f", "GRAB_JOB", "WORK_DATA H:lap:1|d", "WORK_COMPLETE H:lap:1|r", "ECHO_REQ x"];
    let bytes: Vec<u8> = lines.iter().flat_map(|line| request(line)).collect();
    let mut free = Net::new();
    let conn = free.connect();
    free.send_bytes(conn, &bytes);
    let expected = free.take(conn);

    let mut config = config();
    config.limits.max_events = 1;
    let mut net = Net::with(config);
    let conn = net.connect();
    net.send_bytes(conn, &bytes);
    assert_eq!(net.take(conn), expected);
    assert_eq!(net.resumed.len(), 4, "it paused behind every packet that had an answer");
}
