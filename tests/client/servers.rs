//! Who is asked, who is let alone, who may go, and what is counted.

use bytes::Bytes;
use gearwheel::client::{Client, Event, RequestError};
use gearwheel::{CloseReason, ConfigError, Input, Job, LinkState, Machine, Outcome, Reason, Retry, ServerCounters};

use super::rig::{Rig, address, millis, packet, secs};
use super::{T, client, complete, config, connect_all, outcomes, server_of, submit};

fn counters(rig: &Rig<Client>) -> Vec<ServerCounters> {
    rig.machine.servers().map(|server| server.counters).collect()
}

fn states(rig: &Rig<Client>) -> Vec<LinkState> {
    rig.machine.servers().map(|server| server.state).collect()
}

#[test]
fn everything_is_counted_once() {
    let mut rig = client(&["a"]);
    let first = submit(&mut rig, Job::new("f", "1").retry(Retry::Idempotent { attempts: 2 }));
    let conn = rig.connect();
    assert_eq!((rig.machine.outstanding(), rig.machine.is_empty()), (1, false));
    submit(&mut rig, Job::new("f", "2").retry(Retry::Never));
    rig.act(|client, now| client.submit(Job::new("", ""), now)).expect_err("no function");
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.pass(secs(1));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_DATA, "H:y:7|x")]);
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|y"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    let ends = outcomes(&mut rig);
    assert_eq!(ends[1], (first, complete("y")));
    let counts = rig.machine.counters();
    assert_eq!((counts.submitted, counts.ended, counts.retried, counts.late), (2, 2, 1, 2));
    let server = counters(&rig)[0];
    assert_eq!((server.connected, server.failed, server.sent, server.finished), (2, 1, 3, 1));
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.outstanding(), 0);
}

#[test]
fn only_what_a_job_server_has_ended_counts_as_finished() {
    let mut rig = client(&["a"]);
    let given_up = submit(&mut rig, Job::new("f", "0"));
    for text in ["1", "2", "3"] {
        submit(&mut rig, Job::new("f", text));
    }
    submit(&mut rig, Job::new("f", "4").background());
    let conn = rig.connect();
    rig.act(|client, now| client.abandon(given_up, now));
    for handle in 0..3 {
        rig.receive(conn, &[packet(T::JOB_CREATED, &format!("H:x:{handle}"))]);
    }
    rig.receive(conn, &[packet(T::ERROR, "QUEUE_ERROR|full"), packet(T::JOB_CREATED, "H:x:4")]);
    assert_eq!(counters(&rig)[0].finished, 1, "the one in the background is queued");
    rig.receive(conn, &[packet(T::WORK_FAIL, "H:x:1")]);
    assert_eq!(counters(&rig)[0].finished, 2);
    rig.receive(conn, &[packet(T::WORK_EXCEPTION, "H:x:2|e")]);
    assert_eq!(counters(&rig)[0].finished, 3);
    assert!(rig.machine.is_empty());
}

#[test]
fn an_empty_client_is_one_without_jobs_and_without_requests() {
    let mut rig = client(&["a"]);
    assert!(rig.machine.is_empty());
    let job = submit(&mut rig, Job::new("f", "x"));
    assert!(!rig.machine.is_empty());
    rig.act(|client, now| client.abandon(job, now));
    assert!(rig.machine.is_empty());
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.echo(server, Bytes::new(), now)).expect("asked");
    assert!(!rig.machine.is_empty(), "an echo waits for the connection");
    let conn = rig.connect();
    assert!(!rig.machine.is_empty(), "an echo is under way");
    // The reply to the job that was given up was never asked for, as it was never sent.
    rig.receive(conn, &[packet(T::ECHO_RES, "")]);
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.counters().ended, 1);
}

#[test]
fn requests_go_out_in_the_order_in_which_they_were_made() {
    let mut rig = client(&["a"]);
    let server = server_of(&rig, "a");
    let mut asked = Vec::new();
    for text in ["1", "2", "3"] {
        asked.push(rig.act(|client, now| client.echo(server, text.into(), now)).expect("asked"));
    }
    let conn = rig.connect();
    assert_eq!(rig.sent(conn), [packet(T::ECHO_REQ, "1"), packet(T::ECHO_REQ, "2"), packet(T::ECHO_REQ, "3")]);
    rig.events();
    rig.receive(conn, &[packet(T::ECHO_RES, "1"), packet(T::ECHO_RES, "2"), packet(T::ECHO_RES, "3")]);
    let answered: Vec<_> = rig
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Echo { request, result } => (request, result.expect("answered")),
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted: Vec<_> = asked.into_iter().zip([Bytes::from("1"), "2".into(), "3".into()]).collect();
    assert_eq!(answered, wanted);
}

#[test]
fn a_request_dials_again_when_its_server_may_be_tried() {
    let mut rig = client(&["a"]);
    let server = server_of(&rig, "a");
    submit(&mut rig, Job::new("f", "x").retry(Retry::Never));
    let conn = rig.connect();
    rig.close(conn, CloseReason::Reset);
    assert_eq!(rig.wait, None, "nobody waits for the server");
    rig.act(|client, now| client.echo(server, "e".into(), now)).expect("asked");
    assert_eq!(rig.connects(), [], "it failed just now");
    assert!(rig.wait.is_some_and(|at| at <= rig.now + millis(100)), "{:?}", rig.wait);
    rig.pass(millis(100));
    let conn = rig.connect();
    assert_eq!(rig.sent(conn), [packet(T::ECHO_REQ, "e")]);
}

#[test]
fn a_server_on_its_way_out_stays_until_all_of_it_is_answered() {
    let mut rig = client(&["a", "b"]);
    submit(&mut rig, Job::new("f", "x"));
    let a = rig.connect();
    rig.receive(a, &[packet(T::JOB_CREATED, "H:a:1")]);
    let server = server_of(&rig, "a");
    let echo = rig.act(|client, now| client.echo(server, "e".into(), now)).expect("asked");
    rig.events();
    rig.act(|client, now| client.remove_server(server, true, now)).expect("there");
    assert_eq!(states(&rig)[0], LinkState::Draining);
    rig.receive(a, &[packet(T::WORK_FAIL, "H:a:1")]);
    assert!(matches!(&rig.events()[..], [Event::Done { .. }]), "an echo is under way");
    assert_eq!(rig.disconnects(), []);
    rig.receive(a, &[packet(T::ECHO_RES, "e")]);
    let events = rig.events();
    assert!(matches!(&events[0], Event::Echo { request, .. } if *request == echo), "{events:?}");
    assert_eq!(events[1..], [Event::Removed { server }]);
    assert_eq!(rig.disconnects(), [a]);
}

#[test]
fn what_waits_for_a_server_that_is_removed_ends() {
    for drain in [true, false] {
        let mut rig = client(&["a", "b"]);
        let server = server_of(&rig, "a");
        rig.act(|client, now| client.echo(server, "e".into(), now)).expect("asked");
        let (conn, _) = rig.connects()[0].clone();
        rig.close(conn, CloseReason::Refused);
        rig.events();
        let request = rig.act(|client, now| client.echo(server, "e".into(), now)).expect("asked");
        rig.act(|client, now| client.remove_server(server, drain, now)).expect("there");
        let result = Err(RequestError::Lost(CloseReason::Local));
        assert_eq!(rig.events(), [Event::Echo { request, result }, Event::Removed { server }]);
        assert!(rig.machine.is_empty());
    }
}

#[test]
fn a_server_that_has_nothing_to_do_goes_at_once_and_gives_way_to_the_next() {
    let mut rig = client(&["a", "b"]);
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.remove_server(server, true, now)).expect("there");
    assert_eq!(rig.events(), [Event::Removed { server }]);
    let unknown = rig.act(|client, now| client.remove_server(server, true, now)).expect_err("gone");
    assert_eq!(unknown.reason, Reason::Unknown("job server"));
    assert_eq!(rig.machine.servers().count(), 1);
    let new = rig.act(|client, now| client.add_server(address("c"), now)).expect("new");
    assert_eq!(server_of(&rig, "c"), new);
    assert_eq!(counters(&rig), [ServerCounters::default(); 2]);
    let more = rig.act(|client, now| client.add_server(address("d"), now)).expect("new");
    rig.act(|client, now| client.echo(more, "e".into(), now)).expect("asked");
    let conn = rig.connect();
    assert_eq!(rig.sent(conn), [packet(T::ECHO_REQ, "e")]);
}

#[test]
fn a_job_that_waits_is_given_to_a_server_that_comes_and_not_to_one_that_goes() {
    let mut rig = client(&["a"]);
    submit(&mut rig, Job::new("f", "x"));
    let (refused, _) = rig.connects()[0].clone();
    rig.close(refused, CloseReason::Refused);
    rig.act(|client, now| client.add_server(address("b"), now)).expect("new");
    let b = rig.connect();
    assert_eq!(rig.sent_names(b), ["SUBMIT_JOB"]);
    // Dropped: the job that it has is sent to whoever can be had.
    let server = server_of(&rig, "b");
    rig.act(|client, now| client.remove_server(server, false, now)).expect("there");
    assert_eq!(rig.disconnects(), [b]);
    assert!(matches!(&outcomes(&mut rig)[..], [(_, Outcome::Lost { .. })]), "it was sent and is not to be retried");
    submit(&mut rig, Job::new("f", "y"));
    rig.pass(millis(100));
    let a = rig.connect();
    assert_eq!(rig.sent_names(a), ["SUBMIT_JOB"]);
}

#[test]
fn an_outage_is_told_once_and_again_only_after_a_server_was_there() {
    let mut eager = config(&["a"]);
    eager.connecting.retry_most = secs(1);
    let mut rig = Rig::new(Client::new(eager).expect("valid"));
    let outages =
        |rig: &mut Rig<Client>| rig.events().iter().filter(|event| matches!(event, Event::AllDown { .. })).count();
    submit(&mut rig, Job::new("f", "x"));
    assert_eq!(outages(&mut rig), 0, "nothing has failed yet");
    for round in 0..2 {
        for attempt in 0..3 {
            let (conn, _) = rig.connects()[0].clone();
            rig.close(conn, CloseReason::Refused);
            assert_eq!(outages(&mut rig), usize::from(attempt == 0), "round {round}, attempt {attempt}");
            rig.pass(secs(1));
        }
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_FAIL, "H:x:1")]);
        let events = rig.events();
        assert!(matches!(events[0], Event::Connected { .. }), "{events:?}");
        rig.pass(secs(1));
        rig.close(conn, CloseReason::Ended);
        assert_eq!(outages(&mut rig), 0, "nobody waits for a server");
        submit(&mut rig, Job::new("f", "x"));
        if round == 0 {
            assert_eq!(outages(&mut rig), 0);
            rig.pass(millis(100));
        }
    }
}

#[test]
fn where_no_other_can_be_had_one_that_failed_is_tried_at_once_with_all() {
    let mut rig = client(&["a", "b"]);
    for _ in 0..2 {
        submit(&mut rig, Job::new("f", "x").retry(Retry::Never));
        let (conn, _) = rig.connects().pop().expect("dialled");
        rig.close(conn, CloseReason::Refused);
    }
    // Both have failed: the waits alone count, and whoever is up gets all there is.
    rig.pass(millis(200));
    let conns = connect_all(&mut rig);
    assert!(!conns.is_empty());
    let sent: usize = conns.iter().map(|&conn| rig.sent_names(conn).len()).sum();
    assert_eq!(sent, 2);
}

#[test]
fn lost_jobs_are_sent_again_in_the_order_of_their_submission() {
    let mut rig = client(&["a", "b"]);
    let first = submit(&mut rig, Job::new("f", "0"));
    let a = rig.connect();
    rig.act(|client, now| client.abandon(first, now));
    rig.writable = false;
    rig.sent(a);
    // Ends in between leave holes in the table, which newer jobs fill.
    let jobs: Vec<_> = (1..8).map(|number| submit(&mut rig, Job::new("f", number.to_string()))).collect();
    rig.act(|client, now| client.abandon(jobs[1], now));
    rig.act(|client, now| client.abandon(jobs[4], now));
    submit(&mut rig, Job::new("f", "8"));
    submit(&mut rig, Job::new("f", "9"));
    rig.writable = true;
    rig.close(a, CloseReason::Reset);
    let b = rig.connect();
    let payloads: Vec<_> =
        rig.sent(b).into_iter().map(|packet| packet.arguments().last().map(<[u8]>::to_vec)).collect();
    let wanted: Vec<_> = ["1", "3", "4", "6", "7", "8", "9"].map(|text| Some(text.as_bytes().to_vec())).to_vec();
    assert_eq!(payloads, wanted);
}

#[test]
fn by_unique_a_server_that_is_down_has_an_heir_and_the_ring_follows_the_list() {
    let mut ring = config(&["a", "b", "c"]);
    ring.balance = gearwheel::Balance::ByUnique;
    let mut rig = Rig::new(Client::new(ring).expect("valid"));
    let owner = |rig: &mut Rig<Client>, unique: &'static str| {
        let job = submit(rig, Job::new("f", "x").unique(unique));
        connect_all(rig);
        let conn = rig.machine.conn_of(job).expect("it was sent");
        rig.act(|client, now| client.abandon(job, now));
        conn
    };
    let uniques = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "u10", "u11", "u12"];
    let before: Vec<_> = uniques.iter().map(|unique| owner(&mut rig, unique)).collect();
    let again: Vec<_> = uniques.iter().map(|unique| owner(&mut rig, unique)).collect();
    assert_eq!(before, again, "a unique has one owner");
    let mut distinct = before.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "all are owners");
    // Without a unique the first in the list has it.
    let plain = submit(&mut rig, Job::new("f", "x"));
    assert_eq!(rig.machine.conn_of(plain).map(gearwheel::ConnId::index), Some(0));
    // One that is removed has heirs; what the others own stays where it was.
    let server = server_of(&rig, "b");
    rig.act(|client, now| client.remove_server(server, false, now)).expect("there");
    let gone = rig.disconnects()[0];
    let after: Vec<_> = uniques.iter().map(|unique| owner(&mut rig, unique)).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(if *before == gone { *after != gone } else { before == after });
    }
    assert!(before.contains(&gone));
}

#[test]
fn a_removal_that_is_under_way_ends_before_closed_and_none_begins_behind_it() {
    let mut rig = client(&["a", "b"]);
    let job = submit(&mut rig, Job::new("f", "x"));
    rig.connect();
    let (a, b) = (server_of(&rig, "a"), server_of(&rig, "b"));
    rig.act(|client, now| client.remove_server(a, true, now)).expect("there");
    rig.events();
    rig.act(Client::close);
    let events = rig.events();
    assert!(matches!(&events[0], Event::Done { job: id, .. } if *id == job), "{events:?}");
    assert_eq!(events[1..], [Event::Removed { server: a }, Event::Closed]);
    let refused = rig.act(|client, now| client.remove_server(b, true, now)).expect_err("it has closed");
    assert_eq!((refused.reason, refused.value), (Reason::Closed, b));
    assert_eq!(rig.events(), []);
}

#[test]
fn a_second_close_says_nothing_more() {
    let mut rig = client(&["a"]);
    submit(&mut rig, Job::new("f", "x"));
    rig.act(Client::close);
    assert!(matches!(&rig.events()[..], [Event::Done { .. }, Event::Closed]));
    rig.act(Client::close);
    rig.handle(Input::Tick);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.wait, None);
    let (conn, _) = rig.connects()[0].clone();
    assert!(rig.machine.outgoing(conn).is_empty());
}

#[test]
fn a_submission_tells_the_machine_the_time() {
    // What begins behind the machine's last input is counted from when it began.
    let mut rig = client(&["a"]);
    rig.now = rig.now + secs(100);
    submit(&mut rig, Job::new("f", "x").timeout(secs(5)));
    rig.pass(millis(4999));
    assert_eq!(outcomes(&mut rig), []);
    rig.pass(millis(1));
    assert!(matches!(&outcomes(&mut rig)[..], [(_, Outcome::TimedOut { .. })]));
    // A server that is removed is lost now, not when the machine last heard of the time.
    let mut rig = client(&["a", "b"]);
    submit(&mut rig, Job::new("f", "x"));
    rig.connect();
    rig.now = rig.now + secs(100);
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.remove_server(server, false, now)).expect("there");
    let lost = rig.now;
    let told = rig.events().into_iter().find_map(|event| match event {
        Event::Disconnected { retry_at, .. } => Some(retry_at),
        _ => None,
    });
    assert!(told.is_some_and(|at| at > lost), "{told:?}");
}

#[test]
fn a_status_that_will_not_come_is_told() {
    let mut rig = client(&["a"]);
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    let request = rig.act(|client, now| client.status(job, now)).expect("it has a handle");
    rig.receive(conn, &[packet(T::NOOP, "")]);
    assert_eq!(rig.disconnects(), [], "a wake-up is nothing to a client");
    rig.events();
    rig.close(conn, CloseReason::Reset);
    let result = Err(RequestError::Lost(CloseReason::Reset));
    assert!(rig.events().contains(&Event::Status { request, result }));
    assert!(rig.machine.is_empty());
}

#[test]
fn a_server_that_cannot_tell_whether_it_knows_a_shared_job_has_told_all_there_is() {
    let mut rig = client(&["a"]);
    let jobs = ["1", "2"].map(|_| submit(&mut rig, Job::new("f", "x").unique("u")));
    let conn = rig.connect();
    let created = || packet(T::JOB_CREATED, "H:x:1");
    rig.receive(conn, &[created(), created(), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert_eq!(outcomes(&mut rig), [(jobs[0], complete("y"))]);
    rig.receive(conn, &[packet(T::ERROR, "INVALID_COMMAND|what?")]);
    assert_eq!(outcomes(&mut rig), [(jobs[1], complete("y"))]);
    assert!(rig.machine.is_empty());
}

#[test]
fn the_next_server_takes_what_the_first_cannot() {
    let mut rig = client(&["a", "b"]);
    let job = submit(&mut rig, Job::new("f", "x"));
    let (first, server) = rig.connects()[0].clone();
    assert_eq!(server, address("a"));
    rig.close(first, CloseReason::Refused);
    let (second, server) = rig.connects()[0].clone();
    assert_eq!(server, address("b"), "without waiting for the first");
    rig.handle(gearwheel::Input::Connected(second));
    assert_eq!(rig.sent_names(second), ["SUBMIT_JOB"]);
    assert_eq!(rig.machine.conn_of(job), Some(second));
}

#[test]
fn a_black_hole_delays_a_job_by_no_more_than_patience() {
    let mut rig = client(&["a", "b"]);
    submit(&mut rig, Job::new("f", "x"));
    assert_eq!(rig.connects().len(), 1);
    rig.pass(millis(300));
    let connects = rig.connects();
    assert_eq!(connects[0].1, address("b"));
    rig.handle(gearwheel::Input::Connected(connects[0].0));
    assert_eq!(rig.sent_names(connects[0].0), ["SUBMIT_JOB"]);
}

#[test]
fn the_options_of_a_connection_are_set_on_each_new_one() {
    let mut with_exceptions = config(&["a"]);
    with_exceptions.exceptions = true;
    with_exceptions.client_id = Some("me".into());
    let mut rig = Rig::new(Client::new(with_exceptions).expect("valid"));
    submit(&mut rig, Job::new("f", "x"));
    for _ in 0..2 {
        let conn = rig.connect();
        assert_eq!(rig.sent_names(conn)[..2], ["SET_CLIENT_ID", "OPTION_REQ"]);
        rig.receive(conn, &[packet(T::OPTION_RES, "exceptions")]);
        rig.close(conn, CloseReason::Ended);
        rig.pass(secs(1));
        submit(&mut rig, Job::new("f", "x"));
    }
}

#[test]
fn a_server_that_answers_no_option_request_works_all_the_same() {
    let mut with_exceptions = config(&["a"]);
    with_exceptions.exceptions = true;
    let mut rig = Rig::new(Client::new(with_exceptions).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert_eq!(outcomes(&mut rig), [(job, complete("y"))]);
    // Also when nothing else is asked: the connection is not taken for silent.
    rig.close(conn, CloseReason::Ended);
    rig.pass(secs(1));
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.pass(secs(20));
    assert_eq!(rig.disconnects(), []);
}

#[test]
fn a_failed_server_is_kept_away_from_and_then_tried_with_one_job() {
    let mut two = config(&["a", "b"]);
    two.connecting.probe_after = None;
    let mut rig = Rig::new(Client::new(two).expect("valid"));
    submit(&mut rig, Job::new("f", "0"));
    let a = rig.connect();
    rig.close(a, CloseReason::Reset);
    let failed = rig.now;
    submit(&mut rig, Job::new("f", "1"));
    let b = rig.connect();
    rig.receive(b, &[packet(T::JOB_CREATED, "H:b:1")]);
    let down = rig.machine.servers().next().expect("two");
    let until = down.retry_at.expect("it failed").saturating_since(rig.now);
    assert!(down.state == LinkState::Down && (millis(50)..=secs(30)).contains(&until), "{down:?}");
    // Its back-off is over long before its recover time is: another can be had, so it is let alone.
    for number in 2..6 {
        rig.pass(secs(7));
        submit(&mut rig, Job::new("f", "2"));
        rig.receive(b, &[packet(T::JOB_CREATED, &format!("H:b:{number}"))]);
        assert_eq!(rig.connects(), []);
        let down = rig.machine.servers().next().expect("two");
        assert_eq!((down.state, down.retry_at), (LinkState::Down, Some(failed + secs(30))));
    }
    rig.pass(millis(1999));
    submit(&mut rig, Job::new("f", "2"));
    rig.receive(b, &[packet(T::JOB_CREATED, "H:b:6")]);
    assert_eq!(rig.connects(), [], "a millisecond to go");
    rig.sent(b);
    rig.pass(millis(1));
    submit(&mut rig, Job::new("f", "3"));
    let a = rig.connect();
    assert_eq!(rig.sent_names(b), ["SUBMIT_JOB"], "the dial delays nothing");
    submit(&mut rig, Job::new("f", "probe"));
    submit(&mut rig, Job::new("f", "4"));
    assert_eq!(rig.sent_names(a), ["SUBMIT_JOB"], "one job tries it");
    assert_eq!(rig.sent_names(b), ["SUBMIT_JOB"]);
    rig.receive(a, &[packet(T::JOB_CREATED, "H:a:1")]);
    submit(&mut rig, Job::new("f", "5"));
    submit(&mut rig, Job::new("f", "6"));
    assert_eq!(rig.sent_names(a), ["SUBMIT_JOB"; 2], "a reply clears it");
}

#[test]
fn servers_come_and_go_at_run_time() {
    let mut rig = client(&["a"]);
    let first = submit(&mut rig, Job::new("f", "1"));
    let a = rig.connect();
    rig.receive(a, &[packet(T::JOB_CREATED, "H:a:1")]);
    rig.act(|client, now| client.add_server(address("b"), now)).expect("new");
    let twice = rig.act(|client, now| client.add_server(address("b"), now)).expect_err("there");
    assert_eq!(twice, ConfigError::DuplicateServer(address("b")));
    // Drained: what it has is finished, what is new goes elsewhere.
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.remove_server(server, true, now)).expect("there");
    submit(&mut rig, Job::new("f", "2"));
    let b = rig.connect();
    assert_eq!(rig.sent_names(b), ["SUBMIT_JOB"]);
    rig.events();
    rig.receive(a, &[packet(T::WORK_COMPLETE, "H:a:1|y")]);
    assert_eq!(rig.events(), [Event::Done { job: first, outcome: complete("y") }, Event::Removed { server }]);
    assert_eq!(rig.disconnects(), [a]);
    assert_eq!(rig.machine.servers().count(), 1);
    // Dropped: what it has is lost. The place is used again, the id is not.
    let other = server_of(&rig, "b");
    rig.act(|client, now| client.remove_server(other, false, now)).expect("there");
    assert!(matches!(&outcomes(&mut rig)[..], [(_, Outcome::Lost { reason: CloseReason::Local, .. })]));
    assert!(rig.act(|client, now| client.remove_server(server, true, now)).is_err());
    let again = rig.act(|client, now| client.add_server(address("a"), now)).expect("it was removed");
    assert_ne!(again, server);
    submit(&mut rig, Job::new("f", "3"));
    let a = rig.connect();
    assert_eq!(rig.sent_names(a), ["SUBMIT_JOB"]);
}

#[test]
fn round_robin_spreads_and_counts() {
    let mut round = config(&["a", "b", "c"]);
    round.balance = gearwheel::Balance::RoundRobin;
    let mut rig = Rig::new(Client::new(round).expect("valid"));
    for _ in 0..4 {
        submit(&mut rig, Job::new("f", "x"));
        connect_all(&mut rig);
    }
    for _ in 0..30 {
        submit(&mut rig, Job::new("f", "x"));
    }
    let sent: Vec<_> = rig.machine.servers().map(|server| server.counters.sent).collect();
    assert_eq!(sent.iter().sum::<u64>(), 34);
    assert!(sent.iter().all(|&sent| sent >= 10), "{sent:?}");
}

#[test]
fn an_outage_of_all_servers_is_told_with_the_time_of_the_next_try() {
    let mut rig = client(&["a", "b"]);
    submit(&mut rig, Job::new("f", "x"));
    for _ in 0..2 {
        let (conn, _) = rig.connects()[0].clone();
        rig.close(conn, CloseReason::Refused);
    }
    let next = rig.wait;
    let told: Vec<_> = rig.events().into_iter().filter(|event| matches!(event, Event::AllDown { .. })).collect();
    assert_eq!(told, [Event::AllDown { retry_at: next }]);
}

#[test]
fn lost_jobs_end_in_the_order_of_their_submission() {
    let mut rig = client(&["a"]);
    let first = submit(&mut rig, Job::new("f", "0"));
    let conn = rig.connect();
    let mut jobs: Vec<_> = (1..4).map(|number| submit(&mut rig, Job::new("f", number.to_string()))).collect();
    // Its place in the table is the first, and a newer job's from now on.
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::WORK_FAIL, "H:x:1")]);
    assert_eq!(outcomes(&mut rig), [(first, Outcome::Failed)]);
    jobs.push(submit(&mut rig, Job::new("f", "4")));
    rig.close(conn, CloseReason::Reset);
    assert_eq!(outcomes(&mut rig).into_iter().map(|(job, _)| job).collect::<Vec<_>>(), jobs);
}

fn named(text: &'static str) -> Job {
    Job::new("f", text).unique("u")
}

/// A client of two servers whose jobs go by their unique. The one that has that of `named` has failed, and may be tried anew;
/// the other has answered.
fn owner_failed_and_rested() -> Rig<Client> {
    let mut ring = config(&["a", "b"]);
    ring.balance = gearwheel::Balance::ByUnique;
    ring.connecting.probe_after = None;
    let mut rig = Rig::new(Client::new(ring).expect("valid"));
    submit(&mut rig, named("0"));
    let owner = rig.connect();
    rig.close(owner, CloseReason::Reset);
    submit(&mut rig, named("1"));
    let heir = rig.connect();
    rig.receive(heir, &[packet(T::JOB_CREATED, "H:h:1")]);
    rig.pass(secs(30));
    rig
}

#[test]
fn what_waits_for_a_server_that_is_tried_with_one_job_goes_when_that_is_answered() {
    let mut rig = owner_failed_and_rested();
    submit(&mut rig, named("2"));
    let owner = rig.connect();
    assert_eq!(rig.sent_names(owner), ["SUBMIT_JOB"], "one job tries it");
    submit(&mut rig, named("3"));
    assert_eq!(rig.sent_names(owner), [""; 0]);
    rig.receive(owner, &[packet(T::JOB_CREATED, "H:o:1")]);
    assert_eq!(rig.sent_names(owner), ["SUBMIT_JOB"], "the other need not wait for a tick");
}

#[test]
fn a_server_on_its_way_out_is_not_kept_by_an_option_that_it_does_not_know() {
    let mut eager = config(&["a", "b"]);
    eager.exceptions = true;
    eager.connecting.probe_after = None;
    let mut rig = Rig::new(Client::new(eager).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x"));
    rig.act(|client, now| client.abandon(job, now));
    let conn = rig.connect();
    let server = server_of(&rig, "a");
    rig.act(|client, now| client.remove_server(server, true, now)).expect("there");
    rig.events();
    rig.pass(secs(16));
    assert_eq!((rig.events(), rig.disconnects()), (vec![Event::Removed { server }], vec![conn]));
}

#[derive(Debug)]
struct First;

impl gearwheel::Strategy for First {
    fn choose(&mut self, _: &[u8], _: &[u8], candidates: &[gearwheel::Candidate]) -> gearwheel::Choice {
        let is = |state| candidates[0].state == state;
        gearwheel::Choice { send: is(LinkState::Up).then_some(0), dial: is(LinkState::Idle).then_some(0) }
    }
}

#[test]
fn a_strategy_that_waits_for_one_server_is_asked_when_that_is_no_longer_kept_away_from() {
    let mut pinned = config(&["a", "b"]);
    pinned.balance = gearwheel::Balance::Custom(Box::new(First));
    let mut rig = Rig::new(Client::new(pinned).expect("valid"));
    submit(&mut rig, Job::new("f", "x").accept_timeout(secs(1000)));
    let a = rig.connects()[0].0;
    rig.close(a, CloseReason::Refused);
    rig.pass(millis(29_999));
    assert_eq!(rig.connects(), []);
    rig.pass(millis(1));
    let a = rig.connect();
    assert_eq!(rig.sent_names(a), ["SUBMIT_JOB"]);
}

#[test]
fn of_those_that_wait_for_a_server_one_job_tries_it() {
    // A refusal is a reply, too: else each of the others would have to try it by itself.
    for reply in [packet(T::JOB_CREATED, "H:o:1"), packet(T::ERROR, "QUEUE_ERROR|full")] {
        let mut rig = owner_failed_and_rested();
        for text in ["2", "3", "4"] {
            submit(&mut rig, named(text));
        }
        let owner = rig.connect();
        assert_eq!(rig.sent_names(owner), ["SUBMIT_JOB"], "one job tries it");
        rig.receive(owner, &[reply]);
        assert_eq!(rig.sent_names(owner), ["SUBMIT_JOB"; 2]);
    }
}
