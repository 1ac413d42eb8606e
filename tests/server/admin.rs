//! The admin commands, byte for byte as gearmand prints them.

use gearwheel::Peer;

use crate::net::{Net, UNIX, config, request};

#[test]
fn lists_show_functions_jobs_and_connections() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO a", "CAN_DO b", "SET_CLIENT_ID id with blank"]);
    let epoch = format!("SUBMIT_JOB_EPOCH b|ep|{}|z", UNIX.as_secs() + 100);
    let client = net.peer(&[
        "SUBMIT_JOB a|u1|d",
        "SUBMIT_JOB_BG a||d",
        "SUBMIT_JOB_HIGH_BG a||d",
        "SUBMIT_JOB_LOW a||d",
        &epoch,
    ]);
    net.send(worker, &["GRAB_JOB"]);
    let admin = net.connect();
    assert_eq!(net.text(admin, "status\n"), "a\t4\t1\t1\nb\t1\t0\t1\n.\n");
    assert_eq!(net.text(admin, "prioritystatus\n"), "a\t0\t2\t1\t1\nb\t0\t1\t0\t1\n.\n");
    assert_eq!(
        net.text(admin, "workers\r\n"),
        "2 127.0.0.1 - :\n1 127.0.0.1 - :\n0 127.0.0.1 id with blank : b a\n.\n"
    );
    let jobs = "H:lap:1\t0\t0\t0\nH:lap:2\t0\t0\t1\nH:lap:3\t0\t0\t1\nH:lap:4\t0\t0\t0\nH:lap:5\t0\t0\t1\n.\n";
    assert_eq!(net.text(admin, "show jobs\n"), jobs);
    assert_eq!(net.text(admin, "show unique jobs\n"), "u1\n\n\n\nep\n.\n");
    net.close(worker);
    assert!(net.text(admin, "SHOW JOBS\n").contains("H:lap:3\t1\t0\t1\n"), "requeued once");
    net.close(client);
    assert_eq!(net.text(admin, "show jobs\n"), "H:lap:2\t0\t0\t1\nH:lap:3\t1\t0\t1\nH:lap:5\t0\t0\t1\n.\n");
}

#[test]
fn an_abandoned_job_that_runs_is_shown_as_ignored() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||d"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.close(client);
    net.take(worker);
    assert_eq!(net.text(worker, "show jobs\n"), "H:lap:1\t0\t1\t0\n.\n");
}

#[test]
fn words_and_numbers_come_from_the_configuration() {
    let mut config = config();
    config.version = "9.9".into();
    config.verbose = "INFO".into();
    config.process_id = 4711;
    let mut net = Net::with(config);
    let conn = net.connect();
    assert_eq!(net.text(conn, "version\nGetPid\nverbose x\n"), "OK 9.9\nOK 4711\nOK INFO\n");
}

#[test]
fn text_and_packets_mix_on_one_connection() {
    let mut net = Net::new();
    let conn = net.connect();
    let bytes = [b"getpid\n".to_vec(), request("ECHO_REQ x"), b"verbose\r\n".to_vec(), request("GRAB_JOB")].concat();
    net.send_bytes(conn, &bytes);
    let echo = b"\0RES\0\0\0\x11\0\0\0\x01x";
    let no_job = b"\0RES\0\0\0\x0a\0\0\0\0";
    assert_eq!(net.take_bytes(conn), [&b"OK 0\n"[..], echo, b"OK ERROR\n", no_job].concat());
}

#[test]
fn cancel_ends_a_queued_job_at_once() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||1", "SUBMIT_JOB_BG f||2"]);
    net.take(client);
    let admin = net.connect();
    assert_eq!(net.text(admin, "cancel job H:lap:1\r\ncancel job H:lap:2\n"), "OK\r\nOK\r\n");
    assert_eq!(net.take(client), ["WORK_FAIL H:lap:1"]);
    assert_eq!(net.text(admin, "cancel job H:lap:1\nshow jobs\n"), "ERR UNKNOWN_JOB\r\n.\n");
    assert!(net.is_empty());
}

#[test]
fn functions_are_created_and_dropped() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO busy"]);
    net.peer(&["SUBMIT_JOB_BG queued||x"]);
    let answers = net.text(
        worker,
        "create function f\r\ncreate function f\n\
         drop function f\ndrop function f\ndrop function busy\ndrop function queued\nstatus\n",
    );
    let still = "ERR there are still connected workers or executing clients\r\n";
    let list = "busy\t0\t0\t1\nqueued\t1\t0\t0\n.\n";
    assert_eq!(answers, format!("OK\r\nOK\r\nOK\r\nERR function not found\r\n{still}{still}{list}"));
}

#[test]
fn maxqueue_refuses_by_priority_and_counts_running_jobs() {
    let mut net = Net::new();
    let admin = net.connect();
    let client = net.peer(&["SUBMIT_JOB_BG f||1"]);
    net.take(client);
    net.peer(&["CAN_DO f", "GRAB_JOB"]);
    let full = ["ERROR QUEUE_ERROR|Job queue is full"];
    let mut with = |limit: &str, line: &str| {
        assert_eq!(net.text(admin, &format!("maxqueue {limit}\n")), "OK\r\n");
        net.ask(client, &[line])
    };
    assert_eq!(with("f 1", "SUBMIT_JOB f||x"), full);
    assert_eq!(with("f 99 1 0", "SUBMIT_JOB f||x"), full);
    assert_eq!(with("f 99 1 0", "SUBMIT_JOB_HIGH f|u|x"), ["JOB_CREATED H:lap:2"]);
    assert_eq!(with("f 99 1 0", "SUBMIT_JOB_LOW f||x"), ["JOB_CREATED H:lap:3"]);
    assert_eq!(with("f 1", "SUBMIT_JOB f|u|x"), ["JOB_CREATED H:lap:2"], "one that joins is let in");
    assert_eq!(with("f", "SUBMIT_JOB f||x"), ["JOB_CREATED H:lap:4"]);
    assert_eq!(with("f -1", "SUBMIT_JOB f||x"), ["JOB_CREATED H:lap:5"]);
    assert_eq!(with("unknown 1", "SUBMIT_JOB unknown||x"), ["JOB_CREATED H:lap:6"]);
    assert_eq!(with("unknown 1", "SUBMIT_JOB unknown||x"), full);
}

#[test]
fn too_many_words_and_too_long_lines_close_the_connection() {
    let mut net = Net::new();
    for text in ["a b c d e f\n".to_owned(), "x".repeat(8_193), format!("{}\n", "x".repeat(9_000))] {
        let conn = net.connect();
        assert_eq!(net.text(conn, &text), "");
        assert_eq!(net.disconnected.pop(), Some(conn), "{text:.20}");
    }
    let conn = net.connect();
    assert!(net.text(conn, &format!("{}\n", "x".repeat(8_000))).starts_with("ERR UNKNOWN_COMMAND"));
}

#[test]
fn shutdown_needs_leave_and_a_loopback_address() {
    let unknown = "ERR UNKNOWN_COMMAND Unknown+server+commandShutDown\r\n";
    for (allowed, loopback) in [(false, false), (false, true), (true, false)] {
        let mut config = config();
        config.allow_shutdown = allowed;
        let mut net = Net::with(config);
        let conn = net.connect_from(Peer::new("peer", loopback)).expect("accepted");
        assert_eq!(net.text(conn, "ShutDown\nShutDown graceful\n"), unknown.repeat(2));
    }
}

#[test]
fn names_of_peers_forge_no_lines() {
    let mut net = Net::new();
    let conn = net.peer(&["SET_CLIENT_ID x\n.\n", "CAN_DO f\t9\n."]);
    assert_eq!(net.text(conn, "workers\nstatus\n"), "0 127.0.0.1 x?.? : f\t9?.\n.\nf\t9?.\t0\t0\t1\n.\n");
}
