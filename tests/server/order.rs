//! Which job comes next, and who is woken for it.

use gearwheel::Machine;

use crate::net::{Net, config};

fn grabs(net: &mut Net, worker: gearwheel::ConnId, count: usize) -> Vec<String> {
    let assigned = net.ask(worker, &vec!["GRAB_JOB"; count]);
    assigned.iter().map(|line| line.rsplit('|').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn priority_is_over_all_functions_and_within_it_functions_take_turns() {
    let mut net = Net::new();
    net.peer(&[
        "SUBMIT_JOB_LOW_BG a||aL",
        "SUBMIT_JOB_BG a||a1",
        "SUBMIT_JOB_BG a||a2",
        "SUBMIT_JOB_BG a||a3",
        "SUBMIT_JOB_BG b||b1",
        "SUBMIT_JOB_BG b||b2",
        "SUBMIT_JOB_HIGH_BG b||bH",
        "SUBMIT_JOB_HIGH_BG c||cH",
        "SUBMIT_JOB_LOW_BG c||cL",
    ]);
    let worker = net.peer(&["CAN_DO a", "CAN_DO b", "CAN_DO c"]);
    assert_eq!(grabs(&mut net, worker, 10), ["cH", "bH", "a1", "b1", "a2", "b2", "a3", "cL", "aL", "NO_JOB"]);
}

#[test]
fn the_function_registered_last_has_the_first_turn_whenever_its_jobs_came() {
    let mut net = Net::new();
    let worker = net.peer(&["CAN_DO a", "CAN_DO b", "CAN_DO c", "GRAB_JOB"]);
    net.take(worker);
    let jobs = ["a", "b", "c"].map(|f| [1, 2, 3].map(|n| format!("SUBMIT_JOB_BG {f}||{f}{n}")));
    let jobs: Vec<&str> = jobs.iter().flatten().map(String::as_str).collect();
    net.peer(&jobs);
    assert_eq!(grabs(&mut net, worker, 9), ["c1", "b1", "a1", "c2", "b2", "a2", "c3", "b3", "a3"]);
}

#[test]
fn jobs_of_one_function_and_priority_are_first_in_first_out() {
    let mut net = Net::new();
    let jobs: Vec<String> = (0..100).map(|n| format!("SUBMIT_JOB_BG f||{n}")).collect();
    net.peer(&jobs.iter().map(String::as_str).collect::<Vec<_>>());
    let worker = net.peer(&["CAN_DO f"]);
    assert_eq!(grabs(&mut net, worker, 100), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn all_sleepers_are_woken_once_and_none_who_did_not_say_that_it_sleeps() {
    let mut net = Net::new();
    let [one, two] = [0, 1].map(|_| net.peer(&["CAN_DO f", "PRE_SLEEP"]));
    let awake = net.peer(&["CAN_DO f"]);
    let other = net.peer(&["CAN_DO g", "PRE_SLEEP"]);
    net.peer(&["SUBMIT_JOB_BG f||1", "SUBMIT_JOB_BG f||2", "SUBMIT_JOB_HIGH_BG f||3"]);
    assert_eq!([one, two, awake, other].map(|conn| net.take(conn).len()), [1, 1, 0, 0]);
    assert_eq!(net.ask(one, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:3|f|3"]);
    net.peer(&["SUBMIT_JOB_BG f||4"]);
    assert_eq!([one, two].map(|conn| net.take(conn).len()), [0, 0], "neither sleeps");
}

#[test]
fn a_sleeper_that_still_runs_a_job_is_woken_for_another() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    let worker = net.peer(&["CAN_DO f", "GRAB_JOB", "PRE_SLEEP"]);
    assert_eq!(net.take(worker), ["JOB_ASSIGN H:lap:1|f|1"]);
    net.peer(&["SUBMIT_JOB_BG f||2"]);
    assert_eq!(net.take(worker), ["NOOP"]);
}

#[test]
fn going_to_sleep_while_a_job_waits_wakes_at_once_each_time() {
    let mut net = Net::new();
    net.peer(&["SUBMIT_JOB_BG f||1"]);
    let worker = net.peer(&["CAN_DO f", "PRE_SLEEP", "PRE_SLEEP", "GRAB_JOB"]);
    assert_eq!(net.take(worker), ["NOOP", "NOOP", "JOB_ASSIGN H:lap:1|f|1"]);
}

#[test]
fn worker_wakeup_bounds_how_many_are_woken_and_takes_turns() {
    let mut config = config();
    config.worker_wakeup = 1;
    let mut net = Net::with(config);
    let sleepers = [0, 1, 2].map(|_| net.peer(&["CAN_DO f", "PRE_SLEEP"]));
    for woken in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]] {
        net.peer(&["SUBMIT_JOB_BG f||x"]);
        assert_eq!(sleepers.map(|conn| net.take(conn).len()), woken);
    }
    for conn in sleepers {
        assert_eq!(net.ask(conn, &["GRAB_JOB"]).len(), 1);
    }
}

#[test]
fn a_sleeper_that_was_passed_over_finds_the_job_when_it_grabs_by_itself() {
    let mut config = config();
    config.worker_wakeup = 1;
    let mut net = Net::with(config);
    let [first, second] = [0, 1].map(|_| net.peer(&["CAN_DO f", "PRE_SLEEP"]));
    net.peer(&["SUBMIT_JOB_BG f||x"]);
    assert_eq!((net.take(first).len(), net.take(second).len()), (1, 0));
    assert_eq!(net.ask(second, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:1|f|x"]);
    assert_eq!(net.ask(first, &["GRAB_JOB", "PRE_SLEEP"]), ["NO_JOB"]);
    assert_eq!(net.ask(second, &["PRE_SLEEP"]), [""; 0]);
    net.peer(&["SUBMIT_JOB_HIGH_BG f||x"]);
    assert_eq!(net.take(first).len() + net.take(second).len(), 1, "one of them");
}

#[test]
fn a_wake_up_is_passed_on_when_the_woken_leaves_without_a_grab() {
    for leave in ["close", "CANT_DO f", "RESET_ABILITIES"] {
        let mut config = config();
        config.worker_wakeup = 1;
        let mut net = Net::with(config);
        let [first, second] = [0, 1].map(|_| net.peer(&["CAN_DO f", "PRE_SLEEP"]));
        net.peer(&["SUBMIT_JOB_BG f||x"]);
        assert_eq!((net.take(first).len(), net.take(second).len()), (1, 0));
        if leave == "close" {
            net.close(first)
        } else {
            net.send(first, &[leave])
        }
        assert_eq!(net.take(second), ["NOOP"], "{leave}");
    }
}

#[test]
fn a_worker_of_very_many_functions_finds_the_one_job_and_sleeps_again() {
    let mut net = Net::new();
    let abilities: Vec<String> = (0..5_000).map(|n| format!("CAN_DO f{n}")).collect();
    let worker = net.peer(&abilities.iter().map(String::as_str).collect::<Vec<_>>());
    for n in [0, 4_999, 17, 17] {
        assert_eq!(net.ask(worker, &["GRAB_JOB", "PRE_SLEEP"]), ["NO_JOB"]);
        let client = net.peer(&[&format!("SUBMIT_JOB f{n}||x")]);
        assert_eq!(net.take(worker), ["NOOP"]);
        assert!(net.ask(worker, &["GRAB_JOB"])[0].ends_with(&format!("|f{n}|x")));
        net.close(client);
    }
}

/// Grabs look only where there may be a job. If they scanned what a worker has registered, or all functions, this would
/// take minutes.
#[test]
fn the_cost_of_a_job_does_not_grow_with_idle_functions_workers_and_queued_jobs() {
    let mut net = Net::new();
    let abilities: Vec<String> = (0..10_000).map(|n| format!("CAN_DO f{n}")).collect();
    let abilities: Vec<&str> = abilities.iter().map(String::as_str).collect();
    let bytes = |lines: &[&str]| -> Vec<u8> { lines.iter().flat_map(|line| crate::net::request(line)).collect() };
    // Without the audit that each step of the net makes.
    let feed = |net: &mut Net, conn, bytes: &[u8]| {
        let mut stream = bytes::BytesMut::from(bytes);
        net.server.handle(gearwheel::Input::Data(conn, &mut stream), net.now);
        while !matches!(net.server.poll(), gearwheel::Output::Wait(_)) {}
        let waiting = net.waiting(conn);
        net.server.outgoing(conn).advance(waiting);
    };
    let [worker, client] = [0, 1].map(|_| net.connect());
    feed(&mut net, worker, &bytes(&abilities));
    for n in 0..50_000 {
        feed(&mut net, client, &bytes(&[&format!("SUBMIT_JOB_BG other{}||x", n % 1_000)]));
    }
    let cycle = bytes(&["GRAB_JOB", "PRE_SLEEP"]);
    for n in 0..50_000_u32 {
        feed(&mut net, client, &bytes(&[&format!("SUBMIT_JOB f{}||x", n % 10_000)]));
        feed(&mut net, worker, &cycle);
    }
    assert_eq!(net.server.counters().assigned, 50_000);
}

#[test]
fn who_was_woken_for_a_job_and_finds_a_better_one_has_another_woken_for_it() {
    let mut config = config();
    config.worker_wakeup = 1;
    let mut net = Net::with(config);
    let both = net.peer(&["CAN_DO f", "CAN_DO g", "PRE_SLEEP"]);
    let of_g = net.peer(&["CAN_DO g", "PRE_SLEEP"]);
    let of_f = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    net.send(client, &["SUBMIT_JOB_HIGH g||y"]);
    assert_eq!([both, of_g, of_f].map(|conn| net.take(conn)), [vec!["NOOP"], vec!["NOOP"], vec![]]);
    // It would come back to the other job only when it has run this one.
    assert_eq!(net.ask(both, &["GRAB_JOB"]), ["JOB_ASSIGN H:lap:2|g|y"]);
    assert_eq!(net.ask(of_f, &["GRAB_JOB"]), ["NOOP", "JOB_ASSIGN H:lap:1|f|x"]);
    assert_eq!(net.ask(of_g, &["GRAB_JOB"]), ["NO_JOB"]);
}

#[test]
fn who_was_woken_for_a_job_and_sleeps_on_beside_a_better_one_has_another_woken_for_it() {
    let mut config = config();
    config.worker_wakeup = 1;
    let mut net = Net::with(config);
    let both = net.peer(&["CAN_DO f", "CAN_DO g", "PRE_SLEEP"]);
    let of_f = net.peer(&["CAN_DO f", "PRE_SLEEP"]);
    let client = net.peer(&["SUBMIT_JOB f||x"]);
    net.send(client, &["SUBMIT_JOB_HIGH g||y"]);
    assert_eq!(net.ask(both, &["PRE_SLEEP", "GRAB_JOB"]), ["NOOP", "NOOP", "JOB_ASSIGN H:lap:2|g|y"]);
    assert_eq!(net.ask(of_f, &["GRAB_JOB"]), ["NOOP", "JOB_ASSIGN H:lap:1|f|x"]);
}
