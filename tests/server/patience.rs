//! Answers that wait a moment, where `Config::patience` says so.

use gearwheel::ConnId;

use crate::net::{Net, config, millis};

fn patient() -> Net {
    let mut config = config();
    (config.patience, config.result_patience) = (millis(1), millis(1));
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

/// A client that waits for so many jobs, and a worker that has grabbed the first of them.
fn party(jobs: usize) -> (Net, ConnId, ConnId) {
    let mut net = patient();
    let client = net.peer(&vec!["SUBMIT_JOB f||x"; jobs]);
    let worker = net.peer(&["CAN_DO f"]);
    net.take(client);
    (net, client, worker)
}

/// The worker grabs and completes a job; says how many results its client has got by then.
fn complete(net: &mut Net, (client, worker): (ConnId, ConnId), number: usize, payload: &str) -> usize {
    net.send(worker, &["GRAB_JOB", &format!("WORK_COMPLETE H:lap:{number}|{payload}")]);
    net.take(client).len()
}

#[test]
fn sixteen_results_leave_together_at_most() {
    let (mut net, client, worker) = party(200);
    let came = (1..=49).map(|number| complete(&mut net, (client, worker), number, "r")).collect::<Vec<_>>();
    let sixteen = [&[0; 15][..], &[16]].concat();
    assert_eq!(came, [&[1][..], &sixteen, &sixteen, &sixteen].concat());
    assert_eq!(net.wait, None);
}

#[test]
fn results_wait_for_each_other_where_32_are_waited_for_and_no_fewer() {
    for (jobs, came) in [(33, [1, 0, 2]), (32, [1, 1, 1]), (34, [1, 0, 0])] {
        let (mut net, client, worker) = party(jobs);
        let first = [1, 2].map(|number| complete(&mut net, (client, worker), number, "r"));
        let last = complete(&mut net, (client, worker), 3, "r");
        assert_eq!([first[0], first[1], last], came, "{jobs} jobs");
    }
}

#[test]
fn a_result_waits_only_where_the_one_before_came_a_quarter_of_patience_ago_or_less() {
    let quarter = millis(1) / 4;
    for (gap, waits) in [(quarter, true), (quarter + std::time::Duration::from_nanos(1), false)] {
        let (mut net, client, worker) = party(64);
        assert_eq!(complete(&mut net, (client, worker), 1, "r"), 1);
        // One that does not wait sets the pace, too.
        let begun = net.now + gap;
        for number in 2..=3 {
            net.now = net.now + gap;
            let came = complete(&mut net, (client, worker), number, "r");
            assert_eq!(came, usize::from(!waits), "{gap:?}");
        }
        // It is the first of them that has waited long enough.
        assert_eq!(net.wait, waits.then(|| begun + millis(1)));
        net.pass(millis(1));
        assert_eq!(net.take(client).len(), if waits { 2 } else { 0 });
        assert_eq!(net.wait, None);
    }
}

#[test]
fn results_wait_up_to_16_kib() {
    for (payload, came) in [(16_383 - 20, 0), (16_384 - 20, 1)] {
        let (mut net, client, worker) = party(64);
        assert_eq!(complete(&mut net, (client, worker), 1, "r"), 1);
        assert_eq!(complete(&mut net, (client, worker), 2, &"x".repeat(payload)), came);
        assert_eq!(net.waiting(client), if came == 0 { 16_383 } else { 0 });
    }
}

#[test]
fn who_has_bytes_to_take_is_told_of_results_neither_late_nor_twice() {
    let (mut net, client, worker) = party(64);
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 1);
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ x"]);
    net.transmits.clear();
    assert_eq!(complete(&mut net, (client, worker), 2, "r"), 0);
    assert_eq!(net.wait, None, "it comes with what it has to take anyhow");
    assert!(!net.transmits.contains(&client));
    net.write(client, usize::MAX);
    net.take(client);
    // And once it was told of those that have waited, it is told no more.
    net.deaf.remove(&client);
    assert_eq!(complete(&mut net, (client, worker), 3, "r"), 0);
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ x", "ECHO_REQ y"]);
    assert_eq!(complete(&mut net, (client, worker), 4, "r"), 0);
    assert_eq!(net.pass(millis(5)), 0);
    assert_eq!(net.transmits.iter().filter(|conn| **conn == client).count(), 1);
}

#[test]
fn results_of_two_clients_wait_each_for_its_own() {
    let mut net = patient();
    let clients = [net.peer(&["SUBMIT_JOB f||x"; 64]), net.peer(&["SUBMIT_JOB g||x"; 64])];
    let workers = [net.peer(&["CAN_DO f"]), net.peer(&["CAN_DO g"])];
    clients.iter().for_each(|client| drop(net.take(*client)));
    for (place, number) in [(0, 1), (1, 65)] {
        assert_eq!(complete(&mut net, (clients[place], workers[place]), number, "r"), 1);
    }
    for (place, number) in [(0, 2), (1, 66)] {
        assert_eq!(complete(&mut net, (clients[place], workers[place]), number, "r"), 0);
    }
    // Both at one tick.
    assert_eq!(net.pass(millis(1)), 1);
    assert_eq!(clients.map(|client| net.take(client).len()), [1, 1]);
    // One that goes leaves nothing to wait for.
    net.now = net.now + millis(1);
    for number in [67, 68] {
        complete(&mut net, (clients[1], workers[1]), number, "r");
    }
    assert!(net.wait.is_some());
    net.close(clients[1]);
    assert_eq!(net.wait, None);
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
    assert_eq!(net.wait, None);
}

#[test]
fn without_patience_everything_is_said_at_once() {
    let mut net = Net::new();
    let (client, worker) = (net.peer(&["SUBMIT_JOB f||x"; 64]), net.peer(&["CAN_DO f"]));
    net.take(client);
    assert_eq!([1, 2, 3].map(|number| complete(&mut net, (client, worker), number, "r")), [1; 3]);
    let (client, worker) = (net.peer(&["SUBMIT_JOB g||x"]), net.peer(&["CAN_DO g", "GRAB_JOB"]));
    net.take(worker);
    assert_eq!(net.ask(worker, &["WORK_COMPLETE H:lap:65|", "GRAB_JOB"]), ["NO_JOB"]);
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
