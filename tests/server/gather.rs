//! Results and handles that leave together, where `Config::gather_results` says so.

use core::time::Duration;

use gearwheel::ConnId;

use crate::net::{Net, config, millis};

/// A client that waits for so many jobs, and a worker that can do them.
fn party(jobs: usize) -> (Net, ConnId, ConnId) {
    let mut config = config();
    config.gather_results = true;
    let mut net = Net::with(config);
    let client = net.peer(&vec!["SUBMIT_JOB f||x"; jobs]);
    let worker = net.peer(&["CAN_DO f"]);
    net.pass(SOON);
    assert_eq!(net.take(client).len(), jobs);
    (net, client, worker)
}

/// The worker grabs and completes a job; says how many packets its client has got by then.
fn complete(net: &mut Net, (client, worker): (ConnId, ConnId), number: usize, payload: &str) -> usize {
    net.send(worker, &["GRAB_JOB", &format!("WORK_COMPLETE H:lap:{number}|{payload}")]);
    net.take(client).len()
}

/// More than two ticks at once take.
const SOON: Duration = Duration::from_nanos(10);

#[test]
fn results_wait_until_nothing_more_comes_and_no_time_passes() {
    let (mut net, client, worker) = party(64);
    for number in 1..=3 {
        assert_eq!(complete(&mut net, (client, worker), number, "r"), 0);
        // A driver ticks before it hands over what it has read.
        let at = net.wait.expect("a tick is wanted");
        assert_eq!(net.pass(at.saturating_since(net.now)), 1);
        assert!(net.take(client).is_empty());
    }
    assert_eq!(net.pass(SOON), 1);
    assert_eq!(net.take(client), [1, 2, 3].map(|number| format!("WORK_COMPLETE H:lap:{number}|r")));
    assert_eq!(net.wait, None);
}

#[test]
fn sixteen_results_leave_together_at_most() {
    let (mut net, client, worker) = party(200);
    let came = (1..=48).map(|number| complete(&mut net, (client, worker), number, "r")).collect::<Vec<_>>();
    let sixteen = [&[0; 15][..], &[16]].concat();
    assert_eq!(came, [sixteen.clone(), sixteen.clone(), sixteen].concat());
    assert!(net.take(client).is_empty() && net.wait.is_none());
}

#[test]
fn a_quarter_of_those_waited_for_leave_together() {
    let (mut net, client, worker) = party(64);
    // The thirteenth is one of 52.
    let came = (1..=13).map(|number| complete(&mut net, (client, worker), number, "r")).collect::<Vec<_>>();
    assert_eq!(came, [&[0; 12][..], &[13]].concat());
}

#[test]
fn results_wait_where_12_are_waited_for_and_no_fewer() {
    for (jobs, came) in [(13, [0, 0]), (12, [0, 2]), (11, [1, 1])] {
        let (mut net, client, worker) = party(jobs);
        assert_eq!([1, 2].map(|number| complete(&mut net, (client, worker), number, "r")), came, "{jobs} jobs");
    }
}

#[test]
fn handles_wait_as_results_do_and_do_not_count() {
    let (mut net, client, worker) = party(100);
    for number in 1..=15 {
        assert!(net.ask(client, &["SUBMIT_JOB f||x"]).is_empty());
        assert_eq!(complete(&mut net, (client, worker), number, "r"), 0);
    }
    assert!(net.ask(client, &["SUBMIT_JOB_BG f||x"]).is_empty());
    assert_eq!(complete(&mut net, (client, worker), 16, "r"), 16 + 16);
    assert!(net.ask(client, &["SUBMIT_JOB f||x"]).is_empty());
    net.pass(SOON);
    assert_eq!(net.take(client), ["JOB_CREATED H:lap:117"]);
}

#[test]
fn any_other_packet_takes_them_along() {
    let (mut net, client, worker) = party(64);
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 0);
    assert_eq!(net.ask(client, &["ECHO_REQ x"]), ["WORK_COMPLETE H:lap:1|r", "ECHO_RES x"]);
    net.send(worker, &["GRAB_JOB", "GRAB_JOB", "WORK_COMPLETE H:lap:2|r"]);
    net.send(worker, &["WORK_DATA H:lap:3|d"]);
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:2|r", "WORK_DATA H:lap:3|d"]);
    net.pass(SOON);
    assert!(net.take(client).is_empty() && net.wait.is_none());
}

#[test]
fn up_to_16_kib_wait() {
    for (payload, came) in [(16_383 - 20, 0), (16_384 - 20, 1)] {
        let (mut net, client, worker) = party(64);
        assert_eq!(complete(&mut net, (client, worker), 1, &"x".repeat(payload)), came);
        assert_eq!(net.waiting(client), if came == 0 { 16_383 } else { 0 });
    }
}

#[test]
fn what_waits_is_sent_before_a_connection_is_closed() {
    let (mut net, client, worker) = party(64);
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 0);
    net.send(worker, &["GRAB_JOB"]);
    net.server.close(net.now);
    net.run();
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"]);
    assert!(net.disconnected.contains(&client) && net.disconnected.contains(&worker));
}

#[test]
fn who_has_bytes_to_take_is_told_neither_late_nor_twice() {
    let (mut net, client, worker) = party(64);
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ x"]);
    net.transmits.clear();
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 0);
    assert_eq!(net.wait, None, "it comes with what it has to take anyhow");
    assert!(!net.transmits.contains(&client));
    net.write(client, usize::MAX);
    net.take(client);
    // And once it was told of those that have waited, it is told no more.
    net.deaf.remove(&client);
    assert_eq!(complete(&mut net, (client, worker), 2, "r"), 0);
    net.deaf.insert(client);
    net.send(client, &["ECHO_REQ x", "ECHO_REQ y"]);
    assert_eq!(complete(&mut net, (client, worker), 3, "r"), 0);
    net.pass(millis(5));
    assert_eq!(net.transmits.iter().filter(|conn| **conn == client).count(), 1);
    assert_eq!(net.wait, None);
}

#[test]
fn those_of_two_clients_wait_each_for_its_own() {
    let (mut net, client, worker) = party(64);
    let clients = [client, net.peer(&["SUBMIT_JOB g||x"; 64])];
    let workers = [worker, net.peer(&["CAN_DO g"])];
    net.pass(SOON);
    clients.iter().for_each(|client| drop(net.take(*client)));
    for (place, number) in [(0, 1), (1, 65)] {
        assert_eq!(complete(&mut net, (clients[place], workers[place]), number, "r"), 0);
    }
    assert_eq!(net.pass(millis(1)), 2);
    assert_eq!(clients.map(|client| net.take(client).len()), [1, 1]);
    // One that goes leaves nothing behind.
    complete(&mut net, (clients[1], workers[1]), 66, "r");
    net.close(clients[1]);
    net.pass(SOON);
    assert_eq!(net.wait, None);
    let other = net.peer(&["SUBMIT_JOB f||x"; 64]);
    net.pass(SOON);
    assert_eq!(net.take(other).len(), 64);
}

#[test]
fn who_gets_no_more_does_not_wait_for_others_who_do() {
    let (mut net, client, worker) = party(64);
    let busy = net.peer(&["SUBMIT_JOB g||x"; 64]);
    let other = net.peer(&["CAN_DO g"]);
    net.pass(SOON);
    net.take(busy);
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 0);
    for number in [65, 66] {
        assert_eq!(complete(&mut net, (busy, other), number, "r"), 0, "and a tick");
        let at = net.wait.expect("a tick is wanted");
        assert_eq!(net.pass(at.saturating_since(net.now)), 1);
    }
    assert_eq!(net.take(client), ["WORK_COMPLETE H:lap:1|r"]);
    assert!(net.take(busy).is_empty());
}

#[test]
fn results_wait_for_those_that_have_followed_each_other_lately() {
    let mut config = config();
    (config.patience, config.gather_results) = (millis(1), true);
    let mut net = Net::with(config);
    let client = net.peer(&["SUBMIT_JOB f||x"; 64]);
    let worker = net.peer(&["CAN_DO f"]);
    net.pass(SOON);
    net.take(client);
    let mut number = 0;
    let mut complete = |net: &mut Net| {
        number += 1;
        complete(net, (client, worker), number, "r")
    };
    // Nobody knows yet whether more will come.
    assert_eq!(complete(&mut net), 0);
    net.pass(SOON);
    assert_eq!((net.take(client).len(), net.wait), (1, None));
    // One follows the other: they wait a millisecond, counted from the first.
    for _ in 0..3 {
        assert_eq!(complete(&mut net), 0);
        net.now = net.now + millis(1) / 4;
    }
    net.pass(SOON);
    assert!(net.take(client).is_empty());
    net.pass(millis(1) / 4);
    assert_eq!((net.take(client).len(), net.wait), (3, None));
    net.now = net.now + millis(1);
    // The last result is too long ago.
    assert_eq!(complete(&mut net), 0);
    net.pass(SOON);
    assert_eq!((net.take(client).len(), net.wait), (1, None));
}

/// A client that has submitted 100 jobs, each when it had the handle of the last, and has just got the results of the first two.
fn flowing() -> (Net, ConnId, ConnId) {
    let mut config = config();
    (config.patience, config.gather_results) = (millis(1), true);
    let mut net = Net::with(config);
    let (client, worker) = (net.connect(), net.peer(&["CAN_DO f"]));
    for number in 1..=100 {
        net.send(client, &["SUBMIT_JOB f||x"]);
        net.pass(SOON);
        assert_eq!(net.take(client), [format!("JOB_CREATED H:lap:{number}")]);
    }
    assert_eq!([1, 2].map(|number| complete(&mut net, (client, worker), number, "r")), [0, 2]);
    (net, client, worker)
}

#[test]
fn who_submits_only_with_the_last_handle_gets_each_at_once() {
    let (mut net, client, worker) = flowing();
    for number in 3..=64 {
        assert_eq!(complete(&mut net, (client, worker), number, "r"), 0);
        let came = [format!("WORK_COMPLETE H:lap:{number}|r"), format!("JOB_CREATED H:lap:{}", 2 * number + 95)];
        assert_eq!(net.ask(client, &["SUBMIT_JOB f||x"]), came);
        // Where there is nothing to take along, as soon as there is no more to be read.
        net.send(client, &["SUBMIT_JOB f||x"]);
        net.pass(SOON);
        assert_eq!(net.take(client), [format!("JOB_CREATED H:lap:{}", 2 * number + 96)]);
    }
}

/// As [`flowing`], but the client has just submitted three jobs at once.
fn running_ahead() -> (Net, ConnId, ConnId) {
    let (mut net, client, worker) = flowing();
    assert_eq!(net.ask(client, &["SUBMIT_JOB f||x"; 3]).len(), 3, "nobody knew it of the first");
    (net, client, worker)
}

#[test]
fn who_submits_without_the_last_handle_gets_it_with_the_results_that_follow() {
    let (mut net, client, worker) = running_ahead();
    let mut numbers = 3..;
    // One that comes alone is not the first that does.
    for submissions in [2, 1] {
        assert!(net.ask(client, &vec!["SUBMIT_JOB f||x"; submissions]).is_empty());
        let came = [(); 16].map(|()| complete(&mut net, (client, worker), numbers.next().expect("more"), "r"));
        assert_eq!(came[..15], [0; 15]);
        assert_eq!(came[15], 16 + submissions);
    }
    // The next that comes alone shows that the client may have waited for the handle.
    net.send(client, &["SUBMIT_JOB f||x"]);
    net.pass(SOON);
    assert_eq!((net.take(client).len(), net.wait), (1, None));
}

#[test]
fn a_handle_waits_for_results_no_longer_than_a_millisecond_whatever_follows_it() {
    let (mut net, client, worker) = running_ahead();
    for number in 3..=6 {
        assert!(net.ask(client, &["SUBMIT_JOB f||x"]).is_empty());
        assert_eq!(complete(&mut net, (client, worker), number, "r"), 0);
        assert_eq!(net.pass(millis(1) / 4), usize::from(number == 6));
    }
    assert_eq!((net.take(client).len(), net.wait), (8, None));
}

#[test]
fn a_handle_waits_only_where_results_have_followed_each_other_lately_and_with_nothing_else() {
    let (mut net, client, worker) = running_ahead();
    for (line, reply) in [("SUBMIT_JOB_BG f||x", "JOB_CREATED H:lap:106"), ("ECHO_REQ x", "ECHO_RES x")] {
        assert!(net.ask(client, &["SUBMIT_JOB f||x"; 2]).is_empty());
        assert_eq!(net.ask(client, &[line])[2], reply, "{line}");
    }
    assert_eq!(complete(&mut net, (client, worker), 3, "r"), 0);
    net.pass(millis(1));
    net.take(client);
    net.send(client, &["SUBMIT_JOB f||x"; 2]);
    net.pass(SOON);
    assert_eq!((net.take(client).len(), net.wait), (2, None));
}

#[test]
fn who_leaves_with_results_that_wait_leaves_none_behind() {
    let (mut net, client, worker) = party(64);
    assert_eq!(complete(&mut net, (client, worker), 1, "r"), 0);
    net.close(client);
    assert_eq!(net.wait, None);
}

#[test]
fn unless_told_so_everything_is_said_at_once() {
    let mut net = Net::new();
    let (client, worker) = (net.peer(&["SUBMIT_JOB f||x"; 64]), net.peer(&["CAN_DO f"]));
    assert_eq!(net.take(client).len(), 64);
    assert_eq!([1, 2, 3].map(|number| complete(&mut net, (client, worker), number, "r")), [1; 3]);
}
