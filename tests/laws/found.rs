//! What the laws and the simulation have found, each as a test of its own.

use super::bounds::*;
use super::workers::*;
use super::*;

#[test]
fn every_outstanding_job_of_a_client_that_closes_ends_at_once() {
    let (mut client, _) = busy_client(Limits::default());
    for _ in 0..100 {
        client.submit(Job::new("f", "p"), Instant::EPOCH).expect("there is room");
    }
    client.close(Instant::EPOCH);
    let ends = outputs(&mut client)
        .into_iter()
        .filter(|output| {
            matches!(output, Output::Event(client::Event::Done { outcome: Outcome::Cancelled { .. }, .. }))
        })
        .count();
    assert_eq!(ends, 101);
}

// What the simulation has found, each as a test of its own.

/// A worker that has connected to its two servers and asked each for jobs.
pub(super) fn connected_worker(concurrency: usize) -> (Session<Worker>, ConnId, ConnId) {
    let mut session = Session::new(new_worker(concurrency, 0, EVENTS), &Style::default());
    session.act(|worker, now| worker.register("a", None, now)).expect("a new function");
    session.act(|worker, now| worker.register("b", None, now)).expect("a new function");
    let [first, second] = session.conns[..] else { panic!("not two connections") };
    (session, first, second)
}

pub(super) fn assigned(session: &Session<Worker>) -> Vec<TaskId> {
    let task = |event: &worker::Event| match event {
        worker::Event::Assigned(assignment) => Some(assignment.task),
        _ => None,
    };
    session.events.iter().filter_map(task).collect()
}

#[test]
fn a_worker_without_functions_dials_nobody() {
    let mut worker = new_worker(1, 0, EVENTS);
    worker.handle(Input::Tick, Instant::EPOCH + Duration::from_secs(1));
    assert!(matches!(worker.poll(), Output::Wait(None)));
}

#[test]
fn nothing_comes_behind_a_workers_closed() {
    let (mut session, first, _) = connected_worker(2);
    session.feed(first, &packet(PacketType::JOB_ASSIGN_UNIQ, &[b"H:1", b"a", b"", b""]));
    session.act(|worker, now| worker.unregister(b"a", now)).expect("it is registered");
    session.act(Worker::close);
    assert_eq!(&session.said[session.said.len() - 2..], ["Unregistered { function: b\"a\" }", "Closed"]);
    for task in assigned(&session) {
        let _ = session.act(|worker, now| worker.fail(task, now));
    }
    assert!(session.act(|worker, now| worker.unregister(b"b", now)).is_err());
    assert_eq!(session.said.last().map(String::as_str), Some("Closed"));
}

#[test]
fn a_function_is_forgotten_as_soon_as_the_last_grab_is_answered_however_it_is() {
    let answers = [
        packet(PacketType::NO_JOB, &[]),
        packet(PacketType::JOB_ASSIGN_UNIQ, &[b"H:1", b"b", b"", b""]),
        packet(PacketType::ERROR, &[b"unknown_command", b""]),
    ];
    for answer in answers {
        let mut session = Session::new(new_worker(1, 0, EVENTS), &Style::default());
        session.act(|worker, now| worker.register("a", None, now)).expect("a new function");
        session.act(|worker, now| worker.register("b", None, now)).expect("a new function");
        session.act(|worker, now| worker.unregister(b"a", now)).expect("it is registered");
        for conn in session.conns.clone() {
            session.feed(conn, &answer);
        }
        assert!(session.said.iter().any(|event| event.starts_with("Unregistered")), "{}", answer.escape_ascii());
    }
}

#[test]
fn a_slow_job_server_is_not_asked_again_and_again() {
    let (mut session, first, _) = connected_worker(8);
    let mut read = Read::new();
    // It has had jobs, so that several may be asked for at once.
    for number in 0..20 {
        let due = requests(&session, first, &mut read)
            .iter()
            .filter(|packet| matches!(packet, Packet::GrabJobUniq(_)))
            .count();
        for _ in 0..due {
            let handle = format!("H:{number}");
            session.feed(first, &packet(PacketType::JOB_ASSIGN_UNIQ, &[handle.as_bytes(), b"a", b"", b""]));
        }
        for task in assigned(&session) {
            let _ = session.act(|worker, now| worker.fail(task, now));
        }
    }
    session.pass(Duration::from_secs(5));
    let before = session.written[&first].len();
    for _ in 0..20 {
        session.act(|worker, now| worker.handle(Input::Tick, now));
    }
    session.flush();
    assert_eq!(session.written[&first].len(), before, "each tick asks again");
}

#[test]
fn a_tick_that_changes_nothing_makes_no_strategy_choose_again() {
    let mut config = client::Config::new(SEED);
    config.servers = ["a", "b", "c"].map(|host| host.parse().expect("an address")).to_vec();
    config.balance = gearwheel::Balance::RoundRobin;
    let patience = config.connecting.patience;
    let mut client = Client::new(config).expect("a good configuration");
    let count =
        |client: &mut Client| outputs(client).iter().filter(|output| matches!(output, Output::Connect { .. })).count();
    client.submit(Job::new("f", ""), Instant::EPOCH).expect("there is room");
    assert_eq!(count(&mut client), 1);
    client.handle(Input::Tick, Instant::EPOCH);
    assert_eq!(count(&mut client), 0);
    client.handle(Input::Tick, Instant::EPOCH + patience);
    assert_eq!(count(&mut client), 1, "the first takes long");
    client.handle(Input::Tick, Instant::EPOCH + patience);
    assert_eq!(count(&mut client), 0);
}
