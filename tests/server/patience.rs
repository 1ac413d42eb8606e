//! Answers that wait a moment, where `Config::patience` says so.

use core::time::Duration;

use gearwheel::{ConnId, Input, Machine};

use crate::net::{Net, config, millis};

const NANO: Duration = Duration::from_nanos(1);

fn patient() -> Net {
    let mut config = config();
    config.patience = millis(1);
    Net::with(config)
}

/// A client and a worker that has just completed its first job and grabs the next.
fn after_a_job(net: &mut Net) -> (ConnId, ConnId) {
    let client = net.peer(&["SUBMIT_JOB f||1"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(net.ask(worker, &["WORK_COMPLETE H:lap:1|r", "GRAB_JOB_UNIQ"]), ["JOB_ASSIGN H:lap:1|f|1"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:1", "WORK_COMPLETE H:lap:1|r"]);
    (client, worker)
}

#[test]
fn the_grab_behind_a_result_gets_the_job_that_follows_and_nobody_is_woken_for_it() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    let sleeper = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.send(client, &["SUBMIT_JOB f|u|2"]);
    assert_eq!(net.take(worker), ["JOB_ASSIGN_UNIQ H:lap:2|f|u|2"]);
    assert!(net.take(sleeper).is_empty());
    // The one after it is for everybody.
    net.send(client, &["SUBMIT_JOB f||3"]);
    assert_eq!(net.take(sleeper), ["NOOP"]);
    assert!(net.take(worker).is_empty());
    net.send(worker, &["WORK_COMPLETE H:lap:2|", "GRAB_JOB", "WORK_COMPLETE H:lap:3|"]);
    net.pass(millis(1));
    assert_eq!((net.server.counters().jobs, net.wait), (0, None));
}

#[test]
fn no_job_comes_when_patience_is_over() {
    let mut net = patient();
    let (_, worker) = after_a_job(&mut net);
    assert_eq!(net.wait, Some(net.now + millis(1)));
    net.pass(millis(1));
    assert_eq!(net.take(worker), ["NO_JOB"]);
    assert_eq!((net.server.counters().jobs, net.wait), (0, None));
}

#[test]
fn whatever_the_worker_says_next_is_answered_behind_no_job() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    assert_eq!(net.ask(worker, &["ECHO_REQ x", "PRE_SLEEP"]), ["NO_JOB", "ECHO_RES x"]);
    net.send(client, &["SUBMIT_JOB f||2"]);
    assert_eq!(net.take(worker), ["NOOP"]);
    assert!(net.wait.is_none());
    net.close(worker);
    net.server.audit();
}

#[test]
fn only_a_result_that_somebody_waited_for_makes_a_grab_wait() {
    let mut net = patient();
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(
        net.ask(worker, &["WORK_COMPLETE H:lap:1|", "GRAB_JOB", "GRAB_JOB"]),
        ["JOB_ASSIGN H:lap:1|f|1", "NO_JOB", "NO_JOB"]
    );
}

#[test]
fn a_worker_that_leaves_while_its_grab_waits_takes_no_job_along() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    net.close(worker);
    net.send(client, &["SUBMIT_JOB f||2"]);
    let other = net.peer(&["CAN_DO f", "GRAB_JOB"]);
    assert_eq!(net.take(other), ["JOB_ASSIGN H:lap:2|f|2"]);
}

#[test]
fn a_job_whose_taker_gets_a_better_one_wakes_others() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||1"]);
    let worker = net.peer(&["CAN_DO f", "CAN_DO g", "GRAB_JOB"]);
    let dying = net.peer(&["CAN_DO f", "CAN_DO g"]);
    net.send(client, &["SUBMIT_JOB f||2"]);
    net.send(dying, &["GRAB_JOB"]);
    net.send(client, &["SUBMIT_JOB_HIGH g||3"]);
    net.send(dying, &["GRAB_JOB"]);
    let sleeper = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    net.send(worker, &["WORK_COMPLETE H:lap:1|r", "GRAB_JOB"]);
    assert!(net.wait.is_some(), "it waits");
    net.take(worker);
    // Both come back at once, the one that the waiting grab could do first, then the one that it prefers.
    net.close(dying);
    assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:3|g|3"]);
    assert_eq!(net.take(sleeper), ["NOOP"]);
    net.server.audit();
}

#[test]
fn a_grab_waits_for_no_job_of_another_function() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    net.send(client, &["SUBMIT_JOB g||2"]);
    assert!(net.take(worker).is_empty());
    net.pass(millis(1));
    assert_eq!(net.take(worker), ["NO_JOB"]);
}

#[test]
fn after_waiting_in_vain_grabs_wait_less_and_less_often() {
    let mut net = patient();
    let client = net.connect();
    let worker = net.peer(&["CAN_DO f"]);
    let waited: usize = (1..=500)
        .map(|number| {
            net.send(client, &["SUBMIT_JOB f||x"]);
            net.send(worker, &["GRAB_JOB", &format!("WORK_COMPLETE H:lap:{number}|r"), "GRAB_JOB"]);
            let has_waited = net.wait.is_some();
            net.pass(millis(1));
            assert_eq!(net.take(worker).pop().as_deref(), Some("NO_JOB"));
            usize::from(has_waited)
        })
        .sum();
    // After 1, 2, 4 ... 64 grabs, and then after each 64.
    assert_eq!(waited, 6 + (500 - 126) / 64 + 1);
}

#[test]
fn a_result_makes_one_grab_wait() {
    let mut net = patient();
    let (_, worker) = after_a_job(&mut net);
    net.pass(millis(1));
    assert_eq!(net.take(worker), ["NO_JOB"]);
    for _ in 0..5 {
        assert_eq!(net.ask(worker, &["GRAB_JOB"]), ["NO_JOB"]);
        assert_eq!(net.wait, None);
    }
}

/// The worker does a job that somebody waits for, and grabs the next: whether that grab waits.
fn waits_after_a_job(net: &mut Net, client: ConnId, worker: ConnId, number: usize) -> bool {
    net.send(client, &["SUBMIT_JOB f||x"]);
    net.send(worker, &["GRAB_JOB", &format!("WORK_COMPLETE H:lap:{number}|r"), "GRAB_JOB"]);
    net.wait.is_some()
}

#[test]
fn a_job_that_came_in_time_ends_all_doubt() {
    let mut net = patient();
    let (client, worker) = (net.connect(), net.peer(&["CAN_DO f"]));
    let mut number = 0;
    let mut next = |net: &mut Net| {
        number += 1;
        waits_after_a_job(net, client, worker, number)
    };
    // In vain twice: then three grabs do not wait.
    let waited = [(); 7].map(|()| {
        let waited = next(&mut net);
        net.pass(millis(1));
        waited
    });
    assert_eq!(waited, [true, false, true, false, false, false, true]);
    (0..7).for_each(|_| assert!(!next(&mut net)));
    // This one waits, and a job comes: the next that waits in vain is the first again.
    assert!(next(&mut net));
    net.send(client, &["SUBMIT_JOB f||x"]);
    assert_eq!(net.take(worker).pop().as_deref(), Some("JOB_ASSIGN H:lap:16|f|x"));
    net.send(worker, &["WORK_COMPLETE H:lap:16|r", "GRAB_JOB"]);
    assert!(net.wait.is_some());
    net.pass(millis(1));
    let waited = [17, 18].map(|number| waits_after_a_job(&mut net, client, worker, number));
    assert_eq!(waited, [false, true]);
}

#[test]
fn a_worker_that_goes_on_without_an_answer_has_not_waited_in_vain() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    for number in 2..=6 {
        assert_eq!(net.ask(worker, &["ECHO_REQ x"]).last().map(String::as_str), Some("ECHO_RES x"));
        assert_eq!(net.wait, None);
        assert!(waits_after_a_job(&mut net, client, worker, number));
    }
}

#[test]
fn all_grabs_that_have_waited_long_enough_are_answered_at_one_tick() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||1", "SUBMIT_JOB f||2", "SUBMIT_JOB f||3"]);
    let workers = [1, 2, 3].map(|_| net.peer(&["CAN_DO f", "GRAB_JOB"]));
    for (worker, number) in workers.into_iter().zip(1..) {
        net.send(worker, &[&format!("WORK_COMPLETE H:lap:{number}|r"), "GRAB_JOB"]);
        net.take(worker);
        // The last a little later.
        net.now = net.now + if number == 2 { millis(1) / 2 } else { millis(0) };
    }
    let tired = |net: &mut Net| workers.map(|worker| net.take(worker).len());
    assert_eq!(net.pass(millis(1) / 2), 1);
    assert_eq!(tired(&mut net), [1, 1, 0]);
    // Who is asked first gets the job, and only he.
    net.send(client, &["SUBMIT_JOB f||4"]);
    assert_eq!(net.take(workers[2]), ["JOB_ASSIGN H:lap:4|f|4"]);
    net.pass(millis(1));
    assert_eq!(net.wait, None);
}

/// What the client has got by when its second job has been begun, for a worker who took so long for its first.
fn handle_of_next(net: &mut Net, took: Duration) -> (ConnId, ConnId, Vec<String>) {
    let (client, worker) = (net.connect(), net.peer(&["CAN_DO f"]));
    net.send(client, &["SUBMIT_JOB f||1"]);
    net.send(worker, &["GRAB_JOB"]);
    net.now = net.now + took;
    net.send(worker, &["WORK_COMPLETE H:lap:1|r", "GRAB_JOB"]);
    net.take(client);
    let handle = net.ask(client, &["SUBMIT_JOB f||2"]);
    (client, worker, handle)
}

#[test]
fn the_handle_of_a_job_for_a_quick_worker_comes_with_its_result() {
    let mut net = patient();
    let (client, worker, handle) = handle_of_next(&mut net, millis(1) - NANO);
    assert!(handle.is_empty());
    assert_eq!(net.wait, Some(net.now + millis(1)));
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:2", "WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.transmits.iter().filter(|conn| **conn == client).count(), 3, "one for both");
    assert_eq!(net.wait, None);
    for (mut net, took) in [(patient(), millis(1)), (Net::new(), millis(0))] {
        let (_, _, handle) = handle_of_next(&mut net, took);
        assert_eq!(handle, ["JOB_CREATED H:lap:2"], "its worker is slow, or nobody may wait");
    }
}

#[test]
fn a_handle_waits_for_its_result_no_longer_than_a_millisecond() {
    let mut net = patient();
    let (client, worker, _) = handle_of_next(&mut net, millis(0));
    net.pass(millis(1) - NANO);
    assert!(net.take(client).is_empty());
    net.pass(NANO * 2);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:2"]);
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:2|r"]);
}

#[test]
fn anything_else_for_the_client_takes_the_handle_along() {
    for (line, reply) in [("ECHO_REQ x", "ECHO_RES x"), ("SUBMIT_JOB f||3", "JOB_CREATED H:lap:3")] {
        let mut net = patient();
        let (client, _, _) = handle_of_next(&mut net, millis(0));
        assert_eq!(net.ask(client, &[line]), ["JOB_CREATED H:lap:2", reply]);
    }
    for what in ["WORK_DATA H:lap:2|part", "WORK_STATUS H:lap:2|1|2", "WORK_FAIL H:lap:2"] {
        let mut net = patient();
        let (client, worker, _) = handle_of_next(&mut net, millis(0));
        net.send(worker, &[what]);
        assert_eq!(net.take(client), ["JOB_CREATED H:lap:2", what]);
    }
    // It is lost with nobody who could have said more.
    let mut net = patient();
    let (client, worker, _) = handle_of_next(&mut net, millis(0));
    net.close(worker);
    net.pass(millis(1));
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:2"]);
}

#[test]
fn only_a_client_that_waits_for_nothing_else_waits_for_a_handle() {
    let mut net = patient();
    let (client, worker) = after_a_job(&mut net);
    net.send(client, &["SUBMIT_JOB g||x"]);
    net.take(client);
    assert_eq!(net.ask(client, &["SUBMIT_JOB f||x"]), ["JOB_CREATED H:lap:3"]);
    net.send(worker, &["WORK_COMPLETE H:lap:3|r", "GRAB_JOB"]);
    net.take(client);
    assert_eq!(net.ask(client, &["SUBMIT_JOB_BG f||x"]), ["JOB_CREATED H:lap:4"], "nobody waits for its result");
}

#[test]
fn without_patience_everything_is_said_at_once() {
    let mut net = Net::new();
    let (client, worker) = (net.peer(&["SUBMIT_JOB f||x"]), net.peer(&["CAN_DO f", "GRAB_JOB"]));
    net.take(worker);
    assert_eq!(net.ask(worker, &["WORK_COMPLETE H:lap:1|", "GRAB_JOB"]), ["NO_JOB"]);
    assert_eq!((net.take(client).len(), net.wait), (2, None));
}

#[test]
fn every_sleeper_is_woken_for_a_job_where_nothing_bounds_it() {
    for mut net in [Net::new(), patient()] {
        let sleepers = [(); 9].map(|()| net.peer(&["CAN_DO f", "PRE_SLEEP"]));
        net.peer(&["SUBMIT_JOB f||x"]);
        for sleeper in sleepers {
            assert_eq!(net.take(sleeper), ["NOOP"]);
        }
    }
}

#[test]
fn sixteen_grabs_wait_at_most() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||x"; 17]);
    let workers: Vec<_> = (0..17).map(|_| net.peer(&["CAN_DO f", "GRAB_JOB"])).collect();
    net.take(client);
    let answers: Vec<_> = workers
        .iter()
        .enumerate()
        .map(|(place, &worker)| {
            net.take(worker);
            net.ask(worker, &[&format!("WORK_COMPLETE H:lap:{}|r", place + 1), "GRAB_JOB"])
        })
        .collect();
    assert!(answers[..16].iter().all(Vec::is_empty), "{answers:?}");
    assert_eq!(answers[16], ["NO_JOB"]);
    net.pass(millis(1));
    assert!(workers[..16].iter().all(|&worker| net.take(worker) == ["NO_JOB"]));
}

#[test]
fn a_handle_waits_no_longer_where_others_send_all_the_time() {
    // A driver may look whether a tick is due before it hands over what it has read, or behind that.
    for due_before in [true, false] {
        let mut net = patient();
        let (client, _, handle) = handle_of_next(&mut net, millis(0));
        assert!(handle.is_empty());
        let other = net.connect();
        let waited = (1..100).find(|_| {
            net.now = net.now + millis(1) / 10;
            let due = due_before && net.wait.is_some_and(|at| at <= net.now);
            net.send(other, &["ECHO_REQ x"]);
            if due || net.wait.is_some_and(|at| at <= net.now) {
                net.server.handle(Input::Tick, net.now);
                net.run();
            }
            !net.take(client).is_empty()
        });
        assert_eq!(waited, Some(10), "tenths of a millisecond");
    }
}
