//! Answers that wait a moment, where `Config::patience` says so.

use gearwheel::ConnId;

use crate::net::{Net, config, millis};

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
    assert_eq!(net.ask(client, &["SUBMIT_JOB f|u|2"]), ["JOB_CREATED H:lap:2"]);
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
fn results_for_a_client_with_many_jobs_leave_together() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||x"; 64]);
    let worker = net.peer(&["CAN_DO f"]);
    net.take(client);
    let complete = |net: &mut Net, number: u32| {
        net.send(worker, &["GRAB_JOB", &format!("WORK_COMPLETE H:lap:{number}|r")]);
        net.take(client).len()
    };
    // The first comes alone; then a quarter of those that still wait leave together, which are 51 at last.
    assert_eq!(
        (1..=14).map(|number| complete(&mut net, number)).collect::<Vec<_>>(),
        [&[1; 1][..], &[0; 12], &[13]].concat()
    );
    // What nothing follows waits for a moment, and what comes after that has nothing to wait for.
    assert_eq!(complete(&mut net, 15), 0);
    assert_eq!(net.wait, Some(net.now + millis(1)));
    net.pass(millis(1));
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:15|r"]);
    assert_eq!(complete(&mut net, 16), 1);
    // Any other packet takes them along.
    assert_eq!(complete(&mut net, 17), 0);
    assert_eq!(net.ask(client, &["ECHO_REQ x"]), ["WORK_COMPLETE H:lap:17|r", "ECHO_RES x"]);
    let soon = (18..=33).map(|number| complete(&mut net, number)).sum::<usize>();
    // Less than 32 wait: each is told at once.
    assert_eq!(soon + complete(&mut net, 34), 17);
    assert_eq!((35..=64).map(|number| complete(&mut net, number)).collect::<Vec<_>>(), [1; 30]);
    assert!(net.wait.is_none());
}

#[test]
fn large_results_do_not_wait_for_others() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||x"; 64]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "GRAB_JOB", "GRAB_JOB", "WORK_COMPLETE H:lap:1|r"]);
    net.take(client);
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert_eq!(net.take(client).len(), 0);
    net.send(worker, &[&format!("WORK_COMPLETE H:lap:3|{}", "x".repeat(20_000))]);
    assert_eq!(net.take(client).len(), 2);
}

#[test]
fn results_that_wait_are_sent_before_a_connection_is_closed() {
    let mut net = patient();
    let client = net.peer(&["SUBMIT_JOB f||x"; 64]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "WORK_COMPLETE H:lap:1|r", "GRAB_JOB"]);
    net.take(client);
    net.send(worker, &["WORK_COMPLETE H:lap:2|r"]);
    assert!(net.take(client).is_empty());
    net.server.close(net.now);
    net.run();
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:2|r"]);
    assert!(net.disconnected.contains(&client) && net.disconnected.contains(&worker));
}
