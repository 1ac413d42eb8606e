//! gearmand's faults, each done right.

use gearwheel::wire::DecodeError;
use gearwheel::{CloseReason, ProtocolError};

use crate::net::{Net, UNIX, raw, request, secs};

#[test]
fn type_0xffffffff_closes_its_connection_and_nothing_else() {
    for number in [0xffff_ffff, 0x7fff_ffff, 99, 43, 0] {
        let mut net = Net::new();
        let good = net.connect();
        let bad = net.connect();
        net.send_bytes(bad, &[raw(number, b""), request("ECHO_REQ never")].concat());
        assert_eq!(net.disconnected, [bad]);
        let error = ProtocolError::Decode(DecodeError::UnknownType(number));
        assert_eq!(net.reason(bad), Some(CloseReason::Protocol(error)));
        assert_eq!(net.ask(good, &["ECHO_REQ x"]), ["ECHO_RES x"]);
    }
}

#[test]
fn too_few_arguments_get_an_error_at_once_and_the_stream_stays_in_step() {
    let mut net = Net::new();
    let conn = net.connect();
    for line in [
        "SUBMIT_JOB f",
        "SUBMIT_JOB f|u",
        "SUBMIT_JOB_BG f",
        "SUBMIT_JOB_HIGH f|u",
        "SUBMIT_JOB_LOW_BG f|u",
        "SUBMIT_JOB_EPOCH f|u|1",
        "SUBMIT_REDUCE_JOB f|u|r",
        "WORK_COMPLETE H:lap:1",
        "WORK_DATA H:lap:1",
        "WORK_WARNING H:lap:1",
        "WORK_EXCEPTION H:lap:1",
        "WORK_STATUS H:lap:1|1",
        "CAN_DO_TIMEOUT f",
    ] {
        let name = line.split(' ').next().unwrap_or_default();
        let answer = net.ask(conn, &[line, "ECHO_REQ in step"]);
        assert_eq!(answer.len(), 2, "{line}");
        assert!(answer[0].starts_with("ERROR INVALID_ARGUMENTS|An incomplete set of arguments"), "{}", answer[0]);
        assert!(answer[0].contains(&format!("{name} takes ")), "{}", answer[0]);
        assert_eq!(answer[1], "ECHO_RES in step", "{line}");
    }
    assert_eq!(net.server.counters().jobs, 0);
}

#[test]
fn a_result_without_a_nul_is_empty_as_perls_worker_means_it() {
    let mut net = Net::new();
    let client = net.peer(&["OPTION_REQ exceptions", "SUBMIT_JOB f||x", "SUBMIT_JOB f||y"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    let lines = ["WORK_DATA H:lap:1", "WORK_WARNING H:lap:1", "WORK_COMPLETE H:lap:1", "WORK_EXCEPTION H:lap:2"];
    assert_eq!(net.ask(worker, &[&lines[..], &["ECHO_REQ x"]].concat()), ["ECHO_RES x"]);
    assert_eq!(net.take(client), lines.map(|line| format!("{line}|")));
    // It has ended: this is not its worker's any more.
    let answer = net.ask(worker, &["WORK_COMPLETE H:lap:1"]);
    assert!(answer[0].starts_with("ERROR INVALID_ARGUMENTS|"), "{answer:?}");
}

#[test]
fn the_form_of_submit_reduce_job_in_protocol_gets_an_answer() {
    let mut net = Net::new();
    let conn = net.connect();
    let answer = net.ask(conn, &["SUBMIT_REDUCE_JOB f|u|reducer|data", "ECHO_REQ x"]);
    let expected = "ERROR INVALID_ARGUMENTS|An incomplete set of arguments was sent; \
                    SUBMIT_REDUCE_JOB takes function, unique, reducer, aggregator, payload";
    assert_eq!(answer, [expected, "ECHO_RES x"]);
}

#[test]
fn a_packet_over_the_limit_is_refused_from_its_header() {
    let mut config = crate::net::config();
    config.limits.max_packet = 1_000;
    let mut net = Net::with(config);
    let conn = net.connect();
    assert_eq!(net.ask(conn, &[&format!("ECHO_REQ {}", "x".repeat(1_000))]).len(), 1);
    let mut header = request("ECHO_REQ ");
    header[8..12].copy_from_slice(&1_001_u32.to_be_bytes());
    net.send_bytes(conn, &header);
    assert_eq!(net.take(conn), ["ERROR ARGUMENT_TOO_LARGE|Packet is larger than this server takes"]);
    assert_eq!(net.disconnected, [conn]);
}

#[test]
fn a_packet_of_an_unknown_type_is_refused_from_its_header_without_a_reply() {
    for size in [1, u32::MAX] {
        let mut net = Net::new();
        let conn = net.connect();
        let mut header = raw(43, b"");
        header[8..12].copy_from_slice(&size.to_be_bytes());
        net.send_bytes(conn, &header[..11]);
        assert!(net.disconnected.is_empty());
        net.send_bytes(conn, &header[11..]);
        assert_eq!(net.disconnected, [conn]);
        assert!(net.take(conn).is_empty());
    }
}

#[test]
fn an_abandoned_foreground_job_joins_no_new_submissions() {
    let mut net = Net::new();
    let gone = net.peer(&["SUBMIT_JOB f|u|old"]);
    net.close(gone);
    let client = net.peer(&["SUBMIT_JOB f|u|new"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:2"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:2|f|new", "NO_JOB"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:2|r"]);
}

#[test]
fn an_abandoned_job_that_runs_gives_its_result_to_the_next_who_asks() {
    let mut net = Net::new();
    let gone = net.peer(&["SUBMIT_JOB f|u|x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.close(gone);
    let client = net.peer(&["SUBMIT_JOB f|u|x"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1"]);
    // And it is wanted again, so that it outlives its worker.
    net.close(worker);
    let other = net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.take(other), ["JOB_ASSIGN H:lap:1|f|x"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"]);
}

#[test]
fn a_background_job_outlives_a_foreground_client_that_joined_it() {
    for [first, second] in [["SUBMIT_JOB_BG", "SUBMIT_JOB"], ["SUBMIT_JOB", "SUBMIT_JOB_BG"]] {
        let mut net = Net::new();
        let conns = [first, second].map(|form| (form, net.peer(&[&format!("{form} f|u|x")])));
        for (form, conn) in conns {
            if form == "SUBMIT_JOB" {
                net.close(conn);
            }
        }
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
        assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:1|f|x"]);
    }
}

#[test]
fn a_wake_up_is_not_lost_when_a_worker_sleeps_again_without_a_grab() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    assert_eq!(net.take(worker), ["NOOP"]);
    assert_eq!(net.ask(worker, &["PRE_SLEEP"]), ["NOOP"]);
    let thief = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(net.take(thief).len(), 1);
    assert_eq!(net.ask(worker, &["PRE_SLEEP"]), [""; 0]);
    net.peer(&["SUBMIT_JOB_BG f||2"]);
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn a_function_registered_while_asleep_wakes_if_a_job_waits() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    let worker = net.peer(&["PRE_SLEEP"]);
    assert_eq!(net.take(worker), [""; 0]);
    assert_eq!(net.ask(worker, &["CAN_DO g"]), [""; 0]);
    assert_eq!(net.ask(worker, &["CAN_DO f"]), ["NOOP"]);
}

#[test]
fn a_timer_does_not_fire_on_a_finished_job() {
    for end in ["WORK_COMPLETE H:lap:1|r", "WORK_FAIL H:lap:1", "WORK_EXCEPTION H:lap:1|e", "RESET_ABILITIES"] {
        let mut net = Net::new();
        let client = net.peer(&["SUBMIT_JOB f||x"]);
        let worker = net.peer(&["CAN_DO_TIMEOUT f|1000", "GRAB_JOB", end]);
        assert_eq!(net.wait, None, "{end}");
        assert_eq!(net.pass(secs(5)), 0);
        net.close(client);
        net.close(worker);
        assert!(net.is_empty());
    }
}

#[test]
fn each_job_has_a_timer_of_its_own() {
    let mut net = Net::new();
    let watcher = net.peer(&["SUBMIT_JOB_BG f||1", "SUBMIT_JOB_BG g||2", "SUBMIT_JOB_BG f||3"]);
    net.take(watcher);
    let worker = net.peer(&["CAN_DO g", "CAN_DO_TIMEOUT f|2000", "GRAB_JOB"]);
    net.pass(secs(1));
    net.send(worker, &["GRAB_JOB", "GRAB_JOB", "PRE_SLEEP"]);
    assert_eq!(net.server.counters().running, 3);
    net.pass(secs(1));
    assert_eq!(net.server.counters().running, 2);
    assert_eq!(net.text(watcher, "status\n").lines().next(), Some("f\t2\t1\t1"));
    net.pass(secs(1));
    assert_eq!(net.text(watcher, "status\n"), "f\t2\t0\t1\ng\t1\t1\t1\n.\n");
    assert_eq!(net.pass(secs(100)), 0);
}

#[test]
fn a_function_registered_twice_counts_once_and_the_last_time_limit_holds() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "CAN_DO f", "CAN_DO_TIMEOUT f|5000", "SET_CLIENT_ID w"]);
    assert_eq!(net.text(worker, "status\nworkers\n"), "f\t0\t0\t1\n.\n0 127.0.0.1 w : f\n.\n");
    net.send(worker, &["SUBMIT_JOB_BG f||1", "GRAB_JOB"]);
    assert_eq!(net.wait, Some(net.now + secs(5)));
    net.send(worker, &["WORK_COMPLETE H:lap:1|", "CAN_DO f", "SUBMIT_JOB_BG f||2", "GRAB_JOB"]);
    assert_eq!(net.wait, None);
    net.send(worker, &["CANT_DO f"]);
    net.take_bytes(worker);
    assert_eq!(net.text(worker, "status\n"), "f\t1\t0\t0\n.\n");
}

#[test]
fn a_running_job_that_is_cancelled_ends_once() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f|u|x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    let admin = net.connect();
    assert_eq!(net.text(admin, "cancel job H:lap:1\n"), "OK\r\n");
    assert_eq!(net.take(client), ["WORK_FAIL H:lap:1"]);
    assert_eq!(net.text(admin, "cancel job H:lap:1\n"), "ERR UNKNOWN_JOB\r\n");
    assert_eq!(net.text(admin, "show jobs\n"), "H:lap:1\t0\t1\t0\n.\n");
    assert_eq!(net.ask(client, &["SUBMIT_JOB f|u|x"]), ["JOB_CREATED H:lap:2"], "it joins no more");
    assert_eq!(net.ask(worker, &["WORK_DATA H:lap:1|d", "WORK_COMPLETE H:lap:1|r"]), [""; 0]);
    assert_eq!(net.take(client), [""; 0]);
    net.close(client);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn a_cancelled_job_is_not_run_again_when_its_worker_is_lost() {
    let mut net = Net::new();
    let worker = net.peer(&["SUBMIT_JOB_BG f|u|x", "CAN_DO f", "GRAB_JOB"]);
    let admin = net.connect();
    net.text(admin, "cancel job H:lap:1\n");
    assert_eq!(net.server.queued().count(), 0);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn a_delayed_job_that_falls_due_wakes_a_sleeper() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.peer(&[&format!("SUBMIT_JOB_EPOCH f||{}|x", UNIX.as_secs() + 60)]);
    net.pass(secs(61));
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn work_fail_ends_with_no_nul() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||1", "SUBMIT_JOB f||2"]);
    net.take(client);
    net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "WORK_EXCEPTION H:lap:1|boom", "WORK_FAIL H:lap:2|"]);
    assert_eq!(net.take(client), ["WORK_FAIL H:lap:1", "WORK_FAIL H:lap:2"]);
}

#[test]
fn a_unique_of_64_bytes_is_kept_whole_and_one_of_65_refused() {
    let mut net = Net::new();
    let unique = "u".repeat(64);
    let client = net.peer(&[&format!("SUBMIT_JOB_BG f|{unique}|x"), &format!("SUBMIT_JOB_BG f|{unique}u|x")]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "ERROR ARGUMENT_TOO_LARGE|Unique value too large"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB_UNIQ"]);
    assert_eq!(net.take(worker), [format!("JOB_ASSIGN_UNIQ H:lap:1|f|{unique}|x")]);
    let reducer = "r".repeat(65);
    let answer = net.ask(client, &[&format!("SUBMIT_REDUCE_JOB f|u|{reducer}||x")]);
    assert_eq!(answer, ["ERROR ARGUMENT_TOO_LARGE|Unique value too large"]);
}

#[test]
fn long_handles_and_uniques_in_a_status_request_are_unknown() {
    let mut net = Net::new();
    let conn = net.connect();
    let long = "x".repeat(5_000);
    let ask = [format!("GET_STATUS {long}"), format!("GET_STATUS_UNIQUE {long}")];
    let expected = [format!("STATUS_RES {long}|0|0|0|0"), format!("STATUS_RES_UNIQUE {long}|0|0|0|0|0")];
    assert_eq!(net.ask(conn, &[&ask[0], &ask[1]]), expected);
}

#[test]
fn create_function_without_crlf_or_name_does_as_told() {
    let mut net = Net::new();
    let conn = net.connect();
    assert_eq!(net.text(conn, "create function abcd\ncreate function \ncreate function xy\r\n"), "OK\r\nOK\r\nOK\r\n");
    assert_eq!(net.text(conn, "status\n"), "abcd\t0\t0\t0\n\t0\t0\t0\nxy\t0\t0\t0\n.\n");
}

#[test]
fn unexpected_types_are_refused_and_the_connection_goes_on() {
    let mut net = Net::new();
    let conn = net.connect();
    for number in [5, 6, 8, 10, 11, 17, 19, 20, 24, 27, 31, 35, 40, 42] {
        net.send_bytes(conn, &raw(number, b"a\0b\0c\0d\0e\0f\0g\0h"));
        assert_eq!(net.take(conn), ["ERROR INVALID_COMMAND|Command not expected"], "{number}");
    }
    let mut response = request("ECHO_REQ x");
    response[..4].copy_from_slice(b"\0RES");
    net.send_bytes(conn, &response);
    assert_eq!(net.take(conn), ["ERROR INVALID_MAGIC|Request magic expected"]);
    assert_eq!(net.ask(conn, &["ECHO_REQ x"]), ["ECHO_RES x"]);
}
