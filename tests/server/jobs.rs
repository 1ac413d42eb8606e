//! What becomes of a job: submitted, joined, run, asked after, given up.

use std::time::Duration;

use crate::net::{Net, UNIX, config, millis, secs};

#[test]
fn a_job_goes_to_a_worker_and_everything_it_sends_to_the_client() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    let client = net.peer(&["SUBMIT_JOB f|u|in"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1"]);
    assert_eq!(net.take(worker), ["NOOP"]);
    assert_eq!(net.ask(worker, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:1|f|in"]);
    let sent =
        ["WORK_DATA H:lap:1|d", "WORK_WARNING H:lap:1|w", "WORK_STATUS H:lap:1|1|x", "WORK_COMPLETE H:lap:1|out"];
    assert_eq!(net.ask(worker, &sent), [""; 0]);
    assert_eq!(net.take(client), sent);
    assert_eq!(net.ask(worker, &["GRAB_JOB"]), ["NO_JOB"]);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn each_form_of_grab_gets_its_form_of_assignment() {
    let mut net = Net::new();
    let submit = ["SUBMIT_JOB_BG f|u|in", "SUBMIT_REDUCE_JOB_BACKGROUND f|v|red|agg|in"];
    let client = net.peer(&submit);
    net.take(client);
    for (grab, first, second) in [
        ("GRAB_JOB", "JOB_ASSIGN H:lap:1|f|in", "JOB_ASSIGN H:lap:2|f|in"),
        ("GRAB_JOB_UNIQ", "JOB_ASSIGN_UNIQ H:lap:1|f|u|in", "JOB_ASSIGN_UNIQ H:lap:2|f|v|in"),
        ("GRAB_JOB_ALL", "JOB_ASSIGN_UNIQ H:lap:1|f|u|in", "JOB_ASSIGN_ALL H:lap:2|f|v|red|in"),
    ] {
        let worker = net.peer(&["CAN_DO f", grab, grab, grab]);
        assert_eq!(net.take(worker), [first, second, "NO_JOB"]);
        net.close(worker);
    }
}

#[test]
fn large_payloads_come_through_whole_in_every_form() {
    let mut net = Net::new();
    for size in [0, 1, 2_047, 2_048, 2_049, 65_480, 65_510, 65_536, 1 << 20] {
        let payload = "p".repeat(size);
        let client = net.peer(&[&format!("SUBMIT_JOB f|u|{payload}")]);
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB_ALL"]);
        let assigned = net.take(worker).remove(0);
        let handle = assigned.split(['|', ' ']).nth(1).expect("a handle");
        assert_eq!(assigned, format!("JOB_ASSIGN_UNIQ {handle}|f|u|{payload}"));
        net.send(worker, &[&format!("WORK_COMPLETE {handle}|{payload}")]);
        assert_eq!(net.take(client)[1], format!("WORK_COMPLETE {handle}|{payload}"));
        net.close(worker);
    }
    assert!(net.is_empty());
}

#[test]
fn one_connection_holds_many_jobs_and_is_client_and_worker_at_once() {
    let mut net = Net::new();
    let both = net.peer(&["CAN_DO f", "SUBMIT_JOB f||a", "SUBMIT_JOB f||b", "GRAB_JOB", "GRAB_JOB", "GRAB_JOB"]);
    let expected =
        ["JOB_CREATED H:lap:1", "JOB_CREATED H:lap:2", "JOB_ASSIGN H:lap:1|f|a", "JOB_ASSIGN H:lap:2|f|b", "NO_JOB"];
    assert_eq!(net.take(both), expected);
    assert_eq!(
        net.ask(both, &["WORK_COMPLETE H:lap:2|B", "WORK_FAIL H:lap:1"]),
        ["WORK_COMPLETE H:lap:2|B", "WORK_FAIL H:lap:1"]
    );
}

#[test]
fn submissions_with_one_unique_are_one_job_queued_or_running() {
    let mut net = Net::new();
    let first = net.peer(&["SUBMIT_JOB f|u|1"]);
    let second = net.peer(&["SUBMIT_JOB_HIGH f|u|2"]);
    let worker = net.peer(&["CAN_DO f", "CAN_DO g", "GRAB_JOB_UNIQ"]);
    let third = net.peer(&["SUBMIT_JOB f|u|3"]);
    let other = net.peer(&["SUBMIT_JOB g|u|4"]);
    for conn in [first, second, third] {
        assert_eq!(net.take(conn), ["JOB_CREATED H:lap:1"]);
    }
    assert_eq!(net.take(other), ["JOB_CREATED H:lap:2"]);
    assert_eq!(net.take(worker), ["JOB_ASSIGN_UNIQ H:lap:1|f|u|1"]);
    net.send(worker, &["WORK_COMPLETE H:lap:1|r"]);
    for conn in [first, second, third] {
        assert_eq!(net.take(conn), ["WORK_COMPLETE H:lap:1|r"]);
    }
    assert_eq!(net.ask(first, &["SUBMIT_JOB f|u|5"]), ["JOB_CREATED H:lap:3"], "a finished job joins nothing");
}

#[test]
fn a_connection_that_submits_a_job_twice_gets_each_packet_twice() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f|u|1", "SUBMIT_JOB f|u|1", "SUBMIT_JOB_BG f|u|1"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1"; 3]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.take(worker).len(), 1);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"; 2]);
}

#[test]
fn an_empty_unique_joins_nothing_and_a_dash_joins_by_payload() {
    let mut net = Net::new();
    let client = net.peer(&[
        "SUBMIT_JOB f||x",
        "SUBMIT_JOB f||x",
        "SUBMIT_JOB f|-|x",
        "SUBMIT_JOB f|-|x",
        "SUBMIT_JOB f|-|y",
        "SUBMIT_JOB f|-|",
        "SUBMIT_JOB f|-|",
        "SUBMIT_JOB f|x|x",
    ]);
    assert_eq!(net.take(client), [1, 2, 3, 3, 4, 5, 6, 7].map(|number| format!("JOB_CREATED H:lap:{number}")));
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB_UNIQ", "GRAB_JOB_UNIQ", "GRAB_JOB_UNIQ"]);
    assert_eq!(net.take(worker)[2], "JOB_ASSIGN_UNIQ H:lap:3|f|-|x");
}

#[test]
fn with_background_submissions_only_foreground_ones_get_results() {
    for (first, second) in [("SUBMIT_JOB", "SUBMIT_JOB_BG"), ("SUBMIT_JOB_BG", "SUBMIT_JOB")] {
        let mut net = Net::new();
        let [one, two] = [first, second].map(|form| net.peer(&[&format!("{form} f|u|x")]));
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_DATA H:lap:1|d", "WORK_COMPLETE H:lap:1|r"]);
        net.take(worker);
        let results = ["JOB_CREATED H:lap:1", "WORK_DATA H:lap:1|d", "WORK_COMPLETE H:lap:1|r"];
        for (conn, form) in [(one, first), (two, second)] {
            let expected = if form == "SUBMIT_JOB" { &results[..] } else { &results[..1] };
            assert_eq!(net.take(conn), expected);
        }
    }
}

#[test]
fn results_are_taken_only_from_the_connection_that_holds_the_job() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    net.take(worker);
    let thief = net.connect();
    let late = [
        "WORK_COMPLETE H:lap:1|r",
        "WORK_FAIL H:lap:1",
        "WORK_STATUS H:lap:1|1|2",
        "WORK_DATA H:lap:1|d",
        "WORK_WARNING H:lap:1|w",
        "WORK_EXCEPTION H:lap:1|e",
    ];
    let not_found = [
        "ERROR JOB_NOT_FOUND|Job given in work result not found",
        "ERROR JOB_NOT_FOUND|Job given in work result not found",
        "ERROR JOB_NOT_FOUND|Job given in work result not found",
        "ERROR JOB_NOT_FOUND|Job does not exist on server",
        "ERROR JOB_NOT_FOUND|Job does not exist on server",
        "ERROR JOB_NOT_FOUND|An exception was received for a job that does not exist",
    ];
    assert_eq!(net.ask(thief, &late), not_found);
    assert_eq!(net.take(client), [""; 0]);
    net.send(worker, &["WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.ask(worker, &late), not_found, "nor once it is done");
    let long = format!("WORK_FAIL H:lap:{}", "1".repeat(60));
    let too_small = "Error occurred due to GEARMAND_JOB_HANDLE_SIZE being too small from snprintf";
    assert_eq!(net.ask(worker, &[&long]), [format!("ERROR ARGUMENT_TOO_LARGE|{too_small}")]);
}

#[test]
fn an_exception_ends_the_job_and_goes_to_those_who_asked_for_it() {
    let mut net = Net::new();
    let asked = net.peer(&["SUBMIT_JOB f|u|x"]);
    let not_asked = net.peer(&["SUBMIT_JOB f|u|x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    // The option may come after the job.
    assert_eq!(net.ask(asked, &["OPTION_REQ exceptions"]), ["JOB_CREATED H:lap:1", "OPTION_RES exceptions"]);
    net.take(not_asked);
    net.take(worker);
    assert_eq!(
        net.ask(worker, &["WORK_EXCEPTION H:lap:1|boom", "WORK_FAIL H:lap:1"]),
        ["ERROR JOB_NOT_FOUND|Job given in work result not found"]
    );
    assert_eq!(net.take(asked), ["WORK_EXCEPTION H:lap:1|boom"]);
    assert_eq!(net.take(not_asked), ["WORK_FAIL H:lap:1"]);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn the_exceptions_option_can_be_the_default() {
    let mut config = config();
    config.exceptions = true;
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_EXCEPTION H:lap:1|boom"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_EXCEPTION H:lap:1|boom"]);
}

#[test]
fn status_is_known_running_and_how_far() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f|u|x", "SUBMIT_JOB_BG f|u|x"]);
    let other = net.peer(&["SUBMIT_JOB f|u|x"]);
    net.take(client);
    net.take(other);
    let ask = ["GET_STATUS H:lap:1", "GET_STATUS_UNIQUE u"];
    assert_eq!(net.ask(client, &ask), ["STATUS_RES H:lap:1|1|0|0|0", "STATUS_RES_UNIQUE u|1|0|0|0|2"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_STATUS H:lap:1|3|10"]);
    net.take(client);
    assert_eq!(net.ask(client, &ask), ["STATUS_RES H:lap:1|1|1|3|10", "STATUS_RES_UNIQUE u|1|1|3|10|2"]);
    net.close(worker);
    assert_eq!(net.ask(client, &ask), ["STATUS_RES H:lap:1|1|0|0|0", "STATUS_RES_UNIQUE u|1|0|0|0|2"]);
    net.close(other);
    assert_eq!(net.ask(client, &ask[1..]), ["STATUS_RES_UNIQUE u|1|0|0|0|1"]);
    let unknown =
        ["GET_STATUS H:lap:2", "GET_STATUS nonsense", "GET_STATUS ", "GET_STATUS_UNIQUE ", "GET_STATUS_UNIQUE v"];
    assert_eq!(
        net.ask(client, &unknown),
        [
            "STATUS_RES H:lap:2|0|0|0|0",
            "STATUS_RES nonsense|0|0|0|0",
            "STATUS_RES |0|0|0|0",
            "STATUS_RES_UNIQUE |0|0|0|0|0",
            "STATUS_RES_UNIQUE v|0|0|0|0|0",
        ]
    );
    assert_eq!(
        net.ask(client, &["GET_STATUS H:lap:1|"]),
        ["STATUS_RES H:lap:1|1|0|0|0"],
        "a trailing NUL is no matter"
    );
}

#[test]
fn status_numbers_pass_as_text_and_are_kept_in_32_bits() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(client);
    for (sent, kept) in [("0.5|", "0|0"), ("-1|4294967297", "4294967295|1"), ("7|2|3", "7|2")] {
        net.send(worker, &[&format!("WORK_STATUS H:lap:1|{sent}")]);
        assert_eq!(net.take(client), [format!("WORK_STATUS H:lap:1|{sent}")]);
        assert_eq!(net.ask(client, &["GET_STATUS H:lap:1"]), [format!("STATUS_RES H:lap:1|1|1|{kept}")]);
    }
}

#[test]
fn a_lost_workers_jobs_go_to_the_end_of_the_queue_and_wake_the_others() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||1", "SUBMIT_JOB_BG f||2", "SUBMIT_JOB f||3"]);
    let lost = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "WORK_STATUS H:lap:1|1|2"]);
    let other = net.peer(&["CAN_DO f"]);
    net.take(client);
    net.close(lost);
    let order = ["JOB_ASSIGN H:lap:3|f|3", "JOB_ASSIGN H:lap:1|f|1", "JOB_ASSIGN H:lap:2|f|2", "NO_JOB"];
    assert_eq!(net.ask(other, &["GRAB_JOB"; 4]), order);
    assert_eq!(net.ask(client, &["GET_STATUS H:lap:1"]), ["STATUS_RES H:lap:1|1|1|0|0"]);
    let sleeper = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    assert_eq!(net.take(sleeper), [""; 0]);
    net.close(other);
    assert_eq!(net.take(sleeper), ["NOOP"], "one, however many jobs");
}

#[test]
fn a_job_fails_when_it_has_been_given_out_too_often() {
    let mut config = config();
    config.job_retries = Some(1);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||fg", "SUBMIT_JOB_BG f||bg"]);
    for expected in [&["JOB_CREATED H:lap:1", "JOB_CREATED H:lap:2"][..], &["WORK_FAIL H:lap:1"]] {
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB"]);
        assert_eq!(net.take(worker).len(), 2);
        if expected.len() == 2 {
            assert_eq!(net.take(client), expected);
            net.close(worker);
        } else {
            net.close(worker);
            assert_eq!(net.take(client), expected);
        }
    }
    assert!(net.is_empty());
    assert_eq!(net.server.counters().failed, 2);
}

#[test]
fn no_retries_means_that_the_first_loss_is_the_end() {
    let mut config = config();
    config.job_retries = Some(0);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.close(worker);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_FAIL H:lap:1"]);
    assert!(net.is_empty());
}

#[test]
fn cant_do_takes_the_running_jobs_of_that_function_away() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||x", "SUBMIT_JOB g||y"]);
    let worker = net.peer(&["CAN_DO f", "CAN_DO g", "GRAB_JOB", "GRAB_JOB", "CANT_DO f", "CANT_DO unknown"]);
    let other = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(worker);
    net.take(client);
    assert_eq!(net.take(other), ["JOB_ASSIGN H:lap:1|f|x"]);
    let late = net.ask(worker, &["WORK_COMPLETE H:lap:1|late", "WORK_COMPLETE H:lap:2|y"]);
    assert_eq!(late, ["ERROR JOB_NOT_FOUND|Job given in work result not found"]);
    net.send(other, &["WORK_COMPLETE H:lap:1|right"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:2|y", "WORK_COMPLETE H:lap:1|right"]);
}

#[test]
fn reset_abilities_takes_all_running_jobs_away() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_BG f||x", "SUBMIT_JOB_BG g||y"]);
    let worker = net.peer(&["CAN_DO f", "CAN_DO g", "GRAB_JOB", "GRAB_JOB", "RESET_ABILITIES", "GRAB_JOB"]);
    assert_eq!(net.take(worker).last().expect("an answer"), "NO_JOB");
    let counters = net.server.counters();
    assert_eq!((counters.jobs, counters.running, counters.abilities, counters.requeued), (2, 0, 0, 2));
}

#[test]
fn a_delayed_job_waits_for_its_time_and_does_not_hold_up_others() {
    let mut net = Net::new();
    let at = UNIX.as_secs() + 10;
    let client = net.peer(&[&format!("SUBMIT_JOB_EPOCH f|u|{at}|later"), "SUBMIT_JOB_BG f||now"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "JOB_CREATED H:lap:2"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "PRE_SLEEP"]);
    assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:2|f|now", "NO_JOB"]);
    assert_eq!(net.text(client, "status\n"), "f\t2\t1\t1\n.\n");
    net.pass(millis(9_999));
    assert_eq!(net.ask(worker, &["GRAB_JOB", "PRE_SLEEP"]), ["NO_JOB"]);
    assert_eq!(net.pass(millis(2)), 1);
    assert_eq!(net.take(worker), ["NOOP"]);
    assert_eq!(net.ask(worker, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:1|f|later"]);
    assert_eq!(net.wait, None);
}

#[test]
fn a_delayed_job_whose_time_is_past_or_no_number_is_due_at_once() {
    for epoch in ["0", "1", "soon", "", "-5"] {
        let mut net = Net::new();
        net.peer(&[&format!("SUBMIT_JOB_EPOCH f||{epoch}|x")]);
        let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
        assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:1|f|x"], "{epoch}");
    }
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_EPOCH f||99999999999999999999999|never"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(net.take(worker), ["NO_JOB"]);
}

#[test]
fn delayed_jobs_follow_the_wall_clock() {
    let mut net = Net::new();
    let at = UNIX.as_secs() + 100;
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.peer(&[&format!("SUBMIT_JOB_EPOCH f||{at}|x")]);
    net.server.set_unix_time(UNIX + secs(90), net.now);
    net.run();
    net.pass(secs(9));
    assert_eq!(net.take(worker), [""; 0]);
    net.server.set_unix_time(UNIX + secs(60), net.now);
    net.run();
    net.pass(secs(39));
    assert_eq!(net.take(worker), [""; 0]);
    net.pass(secs(1) + Duration::from_nanos(1));
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn a_job_that_takes_too_long_is_requeued_in_silence() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let slow = net.peer(&["CAN_DO_TIMEOUT f|2500", "GRAB_JOB", "WORK_STATUS H:lap:1|1|2"]);
    let other = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.take(client);
    net.take(slow);
    net.pass(millis(2_499));
    assert_eq!(net.take(other), [""; 0]);
    net.pass(millis(1));
    assert_eq!(net.take(other), ["NOOP"]);
    assert_eq!((net.take(client).len(), net.take(slow).len()), (0, 0));
    assert_eq!(net.ask(client, &["GET_STATUS H:lap:1"]), ["STATUS_RES H:lap:1|1|0|0|0"]);
    assert_eq!(
        net.ask(slow, &["WORK_COMPLETE H:lap:1|late"]),
        ["ERROR JOB_NOT_FOUND|Job given in work result not found"]
    );
    assert_eq!(net.ask(other, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:1|f|x"]);
    assert_eq!(net.wait, None, "the other has no limit");
}

#[test]
fn can_do_timeout_has_a_floor_and_zero_or_text_is_none() {
    for (timeout, limit) in [("1", Some(1000)), ("999", Some(1000)), ("1500", Some(1500)), ("0", None), ("x", None)] {
        let mut net = Net::new();
        net.peer(&["SUBMIT_JOB_BG f||x"]);
        net.peer(&[&format!("CAN_DO_TIMEOUT f|{timeout}"), "GRAB_JOB"]);
        assert_eq!(net.wait, limit.map(|limit| net.now + millis(limit)), "{timeout}");
    }
    let mut config = config();
    config.min_job_timeout = millis(10);
    let mut net = Net::with(config);
    net.peer(&["SUBMIT_JOB_BG f||x"]);
    net.peer(&["CAN_DO_TIMEOUT f|20", "GRAB_JOB"]);
    assert_eq!(net.wait, Some(net.now + millis(20)), "the floor can be set");
}

#[test]
fn a_timeout_counts_as_a_retry() {
    let mut config = config();
    config.job_retries = Some(0);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    let worker = net.peer(&["CAN_DO_TIMEOUT f|1000", "GRAB_JOB"]);
    net.pass(secs(1));
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_FAIL H:lap:1"]);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn a_client_that_leaves_takes_its_queued_jobs_along_and_leaves_running_ones_to_run() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f||1", "SUBMIT_JOB f||2"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.take(worker);
    net.close(client);
    assert_eq!(net.ask(worker, &["GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]), ["NO_JOB"]);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn a_running_job_that_nobody_wants_any_more_is_dropped_with_its_worker() {
    let mut net = Net::new();
    let client = net.peer(&["SUBMIT_JOB f|u|1"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    net.close(client);
    net.close(worker);
    assert!(net.is_empty());
}

#[test]
fn when_one_of_two_clients_leaves_the_other_gets_the_result() {
    let mut net = Net::new();
    let [one, two] = [0, 1].map(|_| net.peer(&["SUBMIT_JOB f|u|1"]));
    net.close(one);
    net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]);
    assert_eq!(net.take(two), ["JOB_CREATED H:lap:1", "WORK_COMPLETE H:lap:1|r"]);
}

#[test]
fn options_and_echo_are_answered_and_an_echo_of_zero_too() {
    let mut net = Net::new();
    let client = net.connect();
    assert_eq!(
        net.ask(client, &["ECHO_REQ a|b", "ECHO_REQ ", "ECHO_REQ 0"]),
        ["ECHO_RES a|b", "ECHO_RES", "ECHO_RES 0"]
    );
    assert_eq!(
        net.ask(client, &["OPTION_REQ EXCEPTIONS", "OPTION_REQ exceptions|", "OPTION_REQ nope"]),
        [
            "OPTION_RES EXCEPTIONS",
            "OPTION_RES exceptions|",
            "ERROR UNKNOWN_OPTION|Server does not recognize given option",
        ]
    );
}

#[test]
fn an_only_argument_ends_at_its_first_nul_as_a_c_string() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO f|", "SET_CLIENT_ID me|rest"]);
    let client = net.peer(&["SUBMIT_JOB f|u|x"]);
    let asker = net.connect();
    assert_eq!(net.text(asker, "status\n"), "f\t1\t0\t1\n.\n");
    assert!(net.text(asker, "workers\n").contains(" me : f\n"));
    assert_eq!(
        net.ask(asker, &["GET_STATUS H:lap:1|rest", "GET_STATUS_UNIQUE u|rest", "OPTION_REQ exceptions|rest"]),
        ["STATUS_RES H:lap:1|1|0|0|0", "STATUS_RES_UNIQUE u|1|0|0|0|1", "OPTION_RES exceptions|rest"]
    );
    net.send(worker, &["GRAB_JOB", "WORK_FAIL H:lap:1|rest"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_FAIL H:lap:1"]);
    net.send(worker, &["CANT_DO f|"]);
    assert_eq!(net.text(asker, "status\n"), "f\t0\t0\t0\n.\n");
}

#[test]
fn a_reduce_job_without_a_reducer_is_an_ordinary_one() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_REDUCE_JOB_BACKGROUND f|u||aggregator|x"]);
    let worker = net.peer(&["CAN_DO f"]);
    assert_eq!(net.ask(worker, &["GRAB_JOB_ALL"]), ["JOB_ASSIGN_UNIQ H:lap:1|f|u|x"]);
}

#[test]
fn any_split_of_the_stream_gives_the_same_answers() {
    let lines =
        ["CAN_DO f", "SUBMIT_JOB f|u|payload", "GRAB_JOB_ALL", "ECHO_REQ x", "WORK_COMPLETE H:lap:1|r", "GET_STATUS y"];
    let mut bytes: Vec<u8> = lines.iter().flat_map(|line| crate::net::request(line)).collect();
    bytes.splice(0..0, *b"version\n");
    bytes.extend_from_slice(b"status\r\n");
    let whole = {
        let mut net = Net::new();
        let conn = net.connect();
        net.send_bytes(conn, &bytes);
        net.take_bytes(conn)
    };
    for size in 1..bytes.len() {
        let mut net = Net::new();
        let conn = net.connect();
        bytes.chunks(size).for_each(|chunk| net.send_bytes(conn, chunk));
        assert_eq!(net.take_bytes(conn), whole, "in chunks of {size}");
    }
}
