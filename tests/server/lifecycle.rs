//! Connections, shutting down, and what outlives it.

use gearwheel::server::{Event, QueuedJob};
use gearwheel::{CloseReason, ConfigError, Handle, Machine, Peer, Priority, Reason};

use crate::net::{Net, UNIX, config, request, secs};

#[test]
fn a_connection_is_announced_with_its_address_and_its_end_with_the_reason() {
    let mut net = Net::new();
    let conn = net.connect_from(Peer::new("2001:db8::1", false)).expect("accepted");
    net.server.handle(gearwheel::Input::Closed(conn, CloseReason::Reset), net.now);
    net.run();
    let connected = Event::Connected { conn, address: "2001:db8::1".into() };
    assert_eq!(net.events, [connected, Event::Disconnected { conn, reason: CloseReason::Reset }]);
    assert_eq!(net.disconnected, []);
}

#[test]
fn an_index_is_used_again_only_after_the_driver_was_told_and_the_old_name_is_void() {
    let mut net = Net::new();
    let old = net.connect();
    let mut bad = bytes::BytesMut::from(&b"\0BAD........"[..]);
    net.server.handle(gearwheel::Input::Data(old, &mut bad), net.now);
    let other = net.server.accept(Peer::new("x", false), net.now).expect("accepted");
    assert_ne!(other.index(), old.index(), "the driver may still have the old socket");
    net.run();
    let new = net.connect();
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    net.send(old, &["SUBMIT_JOB_BG f||x"]);
    net.close(old);
    assert_eq!(net.server.counters().jobs, 0);
    assert_eq!(net.ask(new, &["ECHO_REQ x"]), ["ECHO_RES x"]);
    assert!(!net.server.wants_read(old));
}

#[test]
fn draining_finishes_what_is_waited_for_and_holds_background_jobs_back() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||fg", "SUBMIT_JOB_BG f||bg1", "SUBMIT_JOB_BG f||bg2"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "PRE_SLEEP"]);
    net.take(client);
    net.take(worker);
    net.server.drain(net.now);
    net.run();
    assert!(!net.server.wants_accept());
    assert_eq!(net.connect_from(Peer::new("x", true)), None);
    assert_eq!(net.ask(client, &["SUBMIT_JOB f||late"]), ["ERROR SHUTTING_DOWN|The job server is shutting down"]);
    assert_eq!(net.ask(worker, &["GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]), ["NO_JOB"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.disconnected, []);
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.disconnected.len(), 2);
    assert_eq!(net.events.last(), Some(&Event::Closed));
    assert_eq!(net.events.iter().filter(|event| **event == Event::Closed).count(), 1);
    let left: Vec<_> = net.server.queued().map(|job| job.payload).collect();
    assert_eq!(left, ["bg2"]);
}

#[test]
fn a_drain_goes_on_with_foreground_jobs_that_wait() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||fg"]);
    net.server.drain(net.now);
    net.run();
    let worker_conn = net.connect_from(Peer::new("x", true));
    assert_eq!(worker_conn, None);
    assert_eq!(net.disconnected, []);
    net.close(client);
    assert_eq!(net.events.last(), Some(&Event::Closed));
}

#[test]
fn closing_waits_until_the_last_bytes_are_taken() {
    let mut net = Net::new();
    let client = net.connect();
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ last words"]);
    net.server.close(net.now);
    net.run();
    assert_eq!(net.disconnected, []);
    net.write(client, 5);
    net.run();
    assert_eq!(net.disconnected, []);
    net.write(client, usize::MAX);
    net.run();
    assert_eq!(net.take(client), ["ECHO_RES last words"]);
    assert_eq!(net.disconnected, [client]);
    assert_eq!(net.events.last(), Some(&Event::Closed));
    assert_eq!(net.wait, None);
}

#[test]
fn one_that_does_not_take_its_last_bytes_is_closed_all_the_same() {
    let mut net = Net::new();
    let client = net.connect();
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ last words"]);
    net.server.close(net.now);
    net.run();
    net.pass(secs(5));
    assert_eq!(net.disconnected, [client]);
    assert_eq!(net.events.last(), Some(&Event::Closed));
    assert_eq!(net.wait, None);
}

#[test]
fn shutdown_closes_after_its_answer_and_graceful_drains() {
    for (line, graceful) in [("shutdown\n", false), ("shutdown graceful\r\n", true)] {
        let mut config = config();
        config.allow_shutdown = true;
        let mut net = Net::with(config);
        let client = net.peer(&["SUBMIT_JOB f||x"]);
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
        let admin = net.connect();
        assert_eq!(net.text(admin, line), "OK\r\n");
        assert!(net.events.contains(&Event::Shutdown { graceful }));
        assert_eq!(net.events.contains(&Event::Closed), !graceful);
        if graceful {
            net.send(worker, &["WORK_COMPLETE H:lap:1|r"]);
            assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_COMPLETE H:lap:1|r"]);
        }
        assert_eq!(net.events.last(), Some(&Event::Closed));
    }
}

#[test]
fn background_jobs_come_back_in_another_server_as_they_were() {
    let mut net = Net::new();
    let at = UNIX + secs(100);
    net.peer(&[
        "SUBMIT_JOB f||foreground",
        "SUBMIT_JOB_BG f|u|one",
        "SUBMIT_JOB_HIGH_BG g||two",
        &format!("SUBMIT_JOB_EPOCH f|later|{}|three", at.as_secs()),
        "SUBMIT_REDUCE_JOB_BACKGROUND f||red|agg|four",
    ]);
    net.peer(&["CAN_DO g", "GRAB_JOB"]);
    net.server.close(net.now);
    net.run();
    let kept: Vec<QueuedJob> = net.server.queued().collect();
    let facts: Vec<_> =
        kept.iter().map(|job| (&job.function[..], &job.payload[..], job.priority, job.not_before)).collect();
    assert_eq!(
        facts,
        [
            (&b"f"[..], &b"one"[..], Priority::Normal, None),
            (b"g", b"two", Priority::High, None),
            (b"f", b"three", Priority::Normal, Some(at)),
            (b"f", b"four", Priority::Normal, None),
        ]
    );
    let mut net = Net::new();
    for job in &kept {
        let handle = net.server.restore(job.clone()).expect("restored");
        assert_eq!(Some(handle), job.handle);
    }
    assert_eq!(net.server.queued().collect::<Vec<_>>(), kept);
    let client = net.peer(&["SUBMIT_JOB f|u|joins", "SUBMIT_JOB_BG f||new"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:2", "JOB_CREATED H:lap:6"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB_ALL", "GRAB_JOB_ALL", "GRAB_JOB_ALL", "GRAB_JOB_ALL", "PRE_SLEEP"]);
    let expected = [
        "JOB_ASSIGN_UNIQ H:lap:2|f|u|one",
        "JOB_ASSIGN_ALL H:lap:5|f||red|four",
        "JOB_ASSIGN_UNIQ H:lap:6|f||new",
        "NO_JOB",
    ];
    assert_eq!(net.take(worker), expected);
    net.pass(secs(101));
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn a_job_that_ran_at_the_close_is_kept_even_where_no_retry_is_allowed() {
    let mut config = config();
    config.job_retries = Some(0);
    let mut net = Net::with(config);
    net.peer(&["SUBMIT_JOB_BG f||x", "CAN_DO f", "GRAB_JOB"]);
    net.server.close(net.now);
    net.run();
    assert_eq!(net.server.queued().map(|job| job.payload).collect::<Vec<_>>(), ["x"]);
}

#[test]
fn a_job_that_takes_its_workers_with_it_fails_in_the_end_though_the_server_drains() {
    let mut config = config();
    config.job_retries = Some(1);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||poison", "SUBMIT_JOB_BG f||kept"]);
    let workers = [(); 3].map(|()| net.peer(&["CAN_DO f"]));
    for worker in workers {
        net.send(worker, &["GRAB_JOB"]);
    }
    net.take(client);
    net.server.drain(net.now);
    net.run();
    let [first, second, third] = workers;
    net.close(first);
    net.send(third, &["GRAB_JOB"]);
    net.close(second);
    assert_eq!(net.take(client), [""; 0]);
    net.close(third);
    assert_eq!(net.take(client), ["WORK_FAIL H:lap:1"]);
    assert_eq!(net.events.last(), Some(&Event::Closed));
    // What was not given out again is for the next server.
    assert_eq!(net.server.queued().map(|job| job.payload).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_restored_job_gets_a_new_handle_where_its_own_is_of_another_server_or_taken() {
    let mut net = Net::new();
    for (handle, expected) in
        [("H:lap:7", "H:lap:7"), ("H:lap:7", "H:lap:8"), ("H:else:7", "H:lap:9"), ("x", "H:lap:10")]
    {
        let mut job = QueuedJob::new("f", "x");
        job.handle = Some(Handle::from_wire(handle.as_bytes()));
        assert_eq!(net.server.restore(job).expect("restored").as_bytes(), expected.as_bytes());
    }
}

#[test]
fn a_job_that_cannot_be_restored_comes_back() {
    let mut config = config();
    config.max_jobs = 1;
    let mut net = Net::with(config);
    let job = QueuedJob::new("f", "x");
    net.server.restore(job.clone()).expect("restored");
    let full = net.server.restore(job.clone()).expect_err("refused");
    assert_eq!((full.reason, full.value), (Reason::Full { what: "jobs", limit: 1 }, job.clone()));
    let nul = net.server.restore(QueuedJob::new(&b"f\0"[..], "x")).expect_err("refused");
    assert_eq!(nul.reason, Reason::Invalid(ConfigError::Nul { what: "function", value: "f\0".into() }));
    net.server.close(net.now);
    assert_eq!(net.server.restore(job).expect_err("refused").reason, Reason::Closed);
}

#[test]
fn a_restored_job_wakes_a_sleeper() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.server.restore(QueuedJob::new("f", "x")).expect("restored");
    net.run();
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut gearwheel::server::Config)| {
        let mut config = config();
        change(&mut config);
        gearwheel::server::Server::new(config, gearwheel::Instant::EPOCH, UNIX).expect_err("refused")
    };
    assert_eq!(refused(|config| config.max_jobs = 0), ConfigError::Zero("max_jobs"));
    assert_eq!(refused(|config| config.handle_prefix = "a b".into()), ConfigError::NotAWord("handle prefix"));
    assert_eq!(refused(|config| config.handle_prefix = String::new()), ConfigError::NotAWord("handle prefix"));
    let long = refused(|config| config.handle_prefix = "x".repeat(43));
    assert_eq!(long, ConfigError::TooLong { what: "handle prefix", length: 43, limit: 42 });
    let zero = refused(|config| config.idle = Some(secs(0)));
    assert_eq!(zero, ConfigError::BadDuration { what: "idle", must_be: "more than zero" });
}

#[test]
fn spurious_ticks_and_clocks_that_go_back_do_nothing() {
    let mut net = Net::new();
    let conn = net.peer(&["CAN_DO_TIMEOUT f|5000", "SUBMIT_JOB f||x", "GRAB_JOB"]);
    net.take(conn);
    let wait = net.wait;
    for now in [net.now, gearwheel::Instant::EPOCH, net.now] {
        net.server.handle(gearwheel::Input::Tick, now);
        net.run();
        assert_eq!((net.wait, net.take(conn).len()), (wait, 0));
    }
    let bytes = request("ECHO_REQ x");
    let mut stream = bytes::BytesMut::from(&bytes[..]);
    net.server.handle(gearwheel::Input::Data(conn, &mut stream), gearwheel::Instant::EPOCH);
    net.run();
    assert_eq!(net.take(conn), ["ECHO_RES x"]);
    assert_eq!(net.wait, wait);
}
