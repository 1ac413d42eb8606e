//! The client machine against job servers that the test plays packet by packet.

#[path = "client/limits.rs"]
mod limits;
#[path = "client/losses.rs"]
mod losses;
#[path = "common/rig.rs"]
mod rig;
#[path = "client/servers.rs"]
mod servers;

use bytes::Bytes;
use gearwheel::client::{Client, Config, Event, RequestError};
use gearwheel::wire::{Packet, PacketType as T};
use gearwheel::{
    CloseReason, ConfigError, ConnId, Handle, Job, JobId, LinkState, Outcome, Phase, Priority, ProtocolError, Reason,
    Retry, Unique,
};
use rig::{Rig, address, millis, packet, secs};

fn config(servers: &[&str]) -> Config {
    let mut config = Config::new([7; 32]);
    config.servers = servers.iter().map(|server| address(server)).collect();
    config.exceptions = false;
    config
}

fn client(servers: &[&str]) -> Rig<Client> {
    Rig::new(Client::new(config(servers)).expect("valid"))
}

fn submit(rig: &mut Rig<Client>, job: Job) -> JobId {
    rig.act(|client, now| client.submit(job, now)).expect("accepted")
}

/// A client with one connection, and a job that has been sent on it.
fn sent(job: Job) -> (Rig<Client>, ConnId, JobId) {
    let mut rig = client(&["a"]);
    let id = submit(&mut rig, job);
    let conn = rig.connect();
    rig.sent(conn);
    rig.events();
    (rig, conn, id)
}

fn accepted(job: Job) -> (Rig<Client>, ConnId, JobId) {
    let (mut rig, conn, id) = sent(job);
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.events();
    (rig, conn, id)
}

fn outcomes(rig: &mut Rig<Client>) -> Vec<(JobId, Outcome)> {
    let done = |event| if let Event::Done { job, outcome } = event { Some((job, outcome)) } else { None };
    rig.events().into_iter().filter_map(done).collect()
}

fn complete(text: &'static str) -> Outcome {
    Outcome::Complete(Bytes::from_static(text.as_bytes()))
}

#[test]
fn a_foreground_job_tells_its_life_in_order() {
    let (mut rig, conn, job) = sent(Job::new("f", "in"));
    let handle = Handle::from_wire(b"H:x:1");
    rig.receive(
        conn,
        &[
            packet(T::JOB_CREATED, "H:x:1"),
            packet(T::WORK_STATUS, "H:x:1|1|4"),
            packet(T::WORK_DATA, "H:x:1|part"),
            packet(T::WORK_WARNING, "H:x:1|beware"),
            packet(T::WORK_COMPLETE, "H:x:1|out"),
        ],
    );
    let events = rig.events();
    let server = rig.machine.servers().next().expect("one").server;
    assert_eq!(
        events,
        [
            Event::Created { job, handle, server },
            Event::Progress { job, numerator: 1, denominator: 4 },
            Event::Data { job, payload: "part".into() },
            Event::Warning { job, payload: "beware".into() },
            Event::Done { job, outcome: complete("out") },
        ]
    );
    assert!(rig.machine.is_empty());
}

#[test]
fn each_kind_of_submission_has_its_packet() {
    let mut rig = client(&["a"]);
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    for priority in [Priority::High, Priority::Low, Priority::Normal] {
        submit(&mut rig, Job::new("f", "x").priority(priority));
        submit(&mut rig, Job::new("f", "x").priority(priority).background());
    }
    assert_eq!(
        rig.sent_names(conn),
        [
            "SUBMIT_JOB",
            "SUBMIT_JOB_HIGH",
            "SUBMIT_JOB_HIGH_BG",
            "SUBMIT_JOB_LOW",
            "SUBMIT_JOB_LOW_BG",
            "SUBMIT_JOB",
            "SUBMIT_JOB_BG"
        ]
    );
}

#[test]
fn a_background_job_ends_when_it_is_queued() {
    let (mut rig, conn, job) = sent(Job::new("f", "x").background());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:9")]);
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Queued(Handle::from_wire(b"H:x:9")))]);
    assert!(rig.machine.is_empty());
}

#[test]
fn an_error_stands_where_the_reply_would() {
    let mut rig = client(&["a"]);
    let first = submit(&mut rig, Job::new("f", "1"));
    let refused = submit(&mut rig, Job::new("f", "2"));
    let last = submit(&mut rig, Job::new("f", "3"));
    let conn = rig.connect();
    rig.receive(
        conn,
        &[
            packet(T::JOB_CREATED, "H:x:1"),
            packet(T::ERROR, "QUEUE_ERROR|Job queue is full"),
            packet(T::JOB_CREATED, "H:x:2"),
            packet(T::WORK_COMPLETE, "H:x:2|three"),
            packet(T::WORK_COMPLETE, "H:x:1|one"),
        ],
    );
    let outcomes = outcomes(&mut rig);
    assert!(
        matches!(&outcomes[0], (job, Outcome::Rejected(error)) if *job == refused && &*error.code == "QUEUE_ERROR")
    );
    assert_eq!(outcomes[1..], [(last, complete("three")), (first, complete("one"))]);
}

#[test]
fn an_error_that_answers_nothing_is_told_and_harms_nobody() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.receive(conn, &[packet(T::ERROR, "ODD|why"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    let events = rig.events();
    assert!(matches!(&events[0], Event::ServerError { error, .. } if &*error.text == "why"));
    assert_eq!(events[1], Event::Done { job, outcome: complete("y") });
}

#[test]
fn a_failure_whose_handle_ends_in_a_nul_is_this_jobs() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.receive(conn, &[packet(T::WORK_FAIL, "H:x:1|")]);
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Failed)]);
}

#[test]
fn an_exception_is_the_end_and_what_follows_is_late() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    rig.receive(
        conn,
        &[packet(T::WORK_EXCEPTION, "H:x:1|boom"), packet(T::WORK_FAIL, "H:x:1"), packet(T::WORK_COMPLETE, "H:x:1|no")],
    );
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Exception("boom".into()))]);
    assert_eq!(rig.machine.counters().late, 2);
}

#[test]
fn pushed_packets_may_bear_the_request_magic() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    let mut bytes = bytes::BytesMut::new();
    packet(T::WORK_COMPLETE, "H:x:1|y").encode(gearwheel::wire::Magic::Request, &mut bytes);
    rig.receive_bytes(conn, &bytes);
    assert_eq!(outcomes(&mut rig), [(job, complete("y"))]);
}

#[test]
fn submissions_that_share_a_handle_get_a_copy_each() {
    let mut rig = client(&["a"]);
    let job = || Job::new("f", "x").unique("u");
    let jobs = [submit(&mut rig, job()), submit(&mut rig, job())];
    let conn = rig.connect();
    rig.receive(
        conn,
        &[
            packet(T::JOB_CREATED, "H:x:1"),
            packet(T::JOB_CREATED, "H:x:1"),
            packet(T::WORK_DATA, "H:x:1|d"),
            packet(T::WORK_DATA, "H:x:1|d"),
            packet(T::WORK_COMPLETE, "H:x:1|y"),
            packet(T::WORK_COMPLETE, "H:x:1|y"),
        ],
    );
    let events = rig.events();
    for job in jobs {
        let data = Event::Data { job, payload: "d".into() };
        assert_eq!(events.iter().filter(|event| **event == data).count(), 1, "one copy for {job:?}");
        let done = Event::Done { job, outcome: complete("y") };
        assert_eq!(events.iter().filter(|event| **event == done).count(), 1, "one end for {job:?}");
    }
    // The server is asked once whether a copy may be missing; here none is.
    assert!(rig.sent_names(conn).contains(&"GET_STATUS"));
    rig.receive(conn, &[packet(T::STATUS_RES, "H:x:1|0|0|0|0")]);
    assert_eq!(rig.events(), []);
    assert!(rig.machine.is_empty());
}

#[test]
fn submissions_that_share_a_handle_all_end_with_a_server_that_sends_one_copy() {
    let mut rig = client(&["a"]);
    let jobs: Vec<_> = (0..3).map(|_| submit(&mut rig, Job::new("f", "x").unique("u"))).collect();
    let conn = rig.connect();
    let created = packet(T::JOB_CREATED, "H:x:1");
    rig.receive(conn, &[created.clone(), created.clone(), created, packet(T::WORK_COMPLETE, "H:x:1|y")]);
    rig.receive(conn, &[packet(T::STATUS_RES, "H:x:1|0|0|0|0")]);
    let mut ended: Vec<_> =
        outcomes(&mut rig).into_iter().map(|(job, outcome)| (outcome == complete("y"), job)).collect();
    ended.sort_unstable();
    assert_eq!(ended, jobs.iter().map(|&job| (true, job)).collect::<Vec<_>>());
}

#[test]
fn one_that_is_given_up_takes_no_end_from_the_others_where_a_server_sends_one_copy() {
    let mut rig = client(&["a"]);
    let jobs = [0, 1].map(|_| submit(&mut rig, Job::new("f", "x").unique("u")));
    let conn = rig.connect();
    let created = packet(T::JOB_CREATED, "H:x:1");
    rig.receive(conn, &[created.clone(), created]);
    rig.act(|client, now| client.abandon(jobs[1], now));
    rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|d"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert!(rig.sent_names(conn).contains(&"GET_STATUS"), "whose copy that was is to be seen");
    rig.receive(conn, &[packet(T::STATUS_RES, "H:x:1|0|0|0|0")]);
    assert_eq!(outcomes(&mut rig).last(), Some(&(jobs[0], complete("y"))));
    assert!(rig.machine.is_empty());
}

#[test]
fn a_refused_connection_is_told_and_tried_again_with_growing_gaps() {
    let mut rig = client(&["a"]);
    let job = submit(&mut rig, Job::new("f", "x").accept_timeout(secs(600)));
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let (conn, _) = rig.connects()[0].clone();
        rig.close(conn, CloseReason::Refused);
        let events = rig.events();
        assert!(matches!(&events[0], Event::Disconnected { reason: CloseReason::Refused, .. }), "{events:?}");
        let all_down = events.iter().filter(|event| matches!(event, Event::AllDown { retry_at: Some(_) })).count();
        assert_eq!(all_down, usize::from(gaps.is_empty()), "said once");
        let before = rig.now;
        while rig.connects.is_empty() {
            rig.pass(millis(10));
        }
        gaps.push(rig.now.saturating_since(before));
    }
    assert!(gaps[0] <= millis(110) && gaps[3] > gaps[0] && gaps[11] > secs(14) && gaps[11] <= secs(31), "{gaps:?}");
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["SUBMIT_JOB"]);
    assert_eq!(rig.machine.phase(job), Some(Phase::Sent));
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
fn garbage_closes_the_connection_with_an_error_and_the_client_goes_on() {
    let cases: [(&[u8], ProtocolError); 3] = [
        (b"garbage garbage", gearwheel::wire::frame::FrameError::BadMagic(*b"garb").into()),
        (b"\0RES\0\0\0\x63\0\0\0\0", gearwheel::wire::DecodeError::UnknownType(99).into()),
        (b"\0RES\0\0\0\x09\0\0\0\0", ProtocolError::WrongSide(T::GRAB_JOB)),
    ];
    for (bytes, error) in cases {
        let (mut rig, conn, job) = accepted(Job::new("f", "x"));
        rig.receive_bytes(conn, bytes);
        let reason = CloseReason::Protocol(error);
        let events = rig.events();
        assert!(matches!(&events[0], Event::Disconnected { reason: told, .. } if *told == reason), "{events:?}");
        let outcome = Outcome::Lost { phase: Phase::Accepted, server: address("a"), reason, attempts: 1 };
        assert_eq!(events[1], Event::Done { job, outcome });
        assert_eq!(rig.disconnects(), [conn]);
        rig.pass(secs(1));
        submit(&mut rig, Job::new("f", "again"));
        rig.connect();
    }
}

#[test]
fn a_reply_to_nothing_closes_the_connection() {
    for reply in [packet(T::JOB_CREATED, "H:x:2"), packet(T::STATUS_RES, "H|0|0|0|0"), packet(T::ECHO_RES, "x")] {
        let (mut rig, conn, _) = accepted(Job::new("f", "x"));
        let kind = reply.kind();
        rig.receive(conn, &[reply]);
        let reason = CloseReason::Protocol(ProtocolError::OutOfOrder(kind));
        assert!(matches!(&rig.events()[0], Event::Disconnected { reason: told, .. } if *told == reason));
    }
}

#[test]
fn requests_are_answered_in_order_each_once() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x").unique("u"));
    let server = rig.machine.servers().next().expect("one").server;
    let status = rig.act(|client, now| client.status(job, now)).expect("asked");
    let unique = rig.act(|client, now| client.status_unique(server, "u".into(), now)).expect("asked");
    let echo = rig.act(|client, now| client.echo(server, "hi".into(), now)).expect("asked");
    let refused = rig.act(|client, now| client.status_unique(server, "v".into(), now)).expect("asked");
    let lost = rig.act(|client, now| client.echo(server, "lost".into(), now)).expect("asked");
    assert_eq!(rig.sent_names(conn), ["GET_STATUS", "GET_STATUS_UNIQUE", "ECHO_REQ", "GET_STATUS_UNIQUE", "ECHO_REQ"]);
    rig.receive(
        conn,
        &[
            packet(T::STATUS_RES, "H:x:1|1|1|3|9"),
            packet(T::STATUS_RES_UNIQUE, "u|1|0|||2"),
            packet(T::ECHO_RES, "hi"),
            packet(T::ERROR, "server_error|no"),
        ],
    );
    rig.close(conn, CloseReason::Ended);
    let events = rig.events();
    let [
        Event::Status { request, result: Ok(first) },
        Event::Status { request: second_request, result: Ok(second) },
        ..,
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*request, first.known, first.running, first.numerator, first.denominator), (status, true, true, 3, 9));
    assert_eq!((*second_request, second.running, second.numerator, second.clients), (unique, false, 0, Some(2)));
    assert_eq!(events[2], Event::Echo { request: echo, result: Ok("hi".into()) });
    assert!(
        matches!(&events[3], Event::Status { request, result: Err(RequestError::Rejected(_)) } if *request == refused)
    );
    let gone = Event::Echo { request: lost, result: Err(RequestError::Lost(CloseReason::Ended)) };
    assert!(events.contains(&gone), "{events:?}");
    assert!(rig.machine.is_empty());
}

#[test]
fn limits_refuse_and_give_back() {
    let mut small = config(&["a"]);
    small.limits.max_jobs = 2;
    small.limits.max_packet = 100;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    submit(&mut rig, Job::new("f", "1"));
    let too_large = rig.act(|client, now| client.submit(Job::new("f", vec![0; 98]), now)).expect_err("too large");
    assert_eq!(too_large.reason, Reason::Invalid(ConfigError::TooLong { what: "payload", length: 98, limit: 97 }));
    submit(&mut rig, Job::new("f", vec![0; 97]));
    let full = rig.act(|client, now| client.submit(Job::new("f", "3"), now)).expect_err("full");
    assert!(matches!(full.reason, Reason::Full { limit: 2, .. }));
    assert_eq!(full.value, Job::new("f", "3"));
}

#[test]
fn a_connection_with_too_much_to_write_takes_no_more() {
    let mut small = config(&["a"]);
    small.limits.max_outgoing = 1000;
    let mut rig = Rig::new(Client::new(small).expect("valid"));
    submit(&mut rig, Job::new("f", "1"));
    let conn = rig.connect();
    rig.writable = false;
    submit(&mut rig, Job::new("f", vec![0; 5000]));
    let full = rig.act(|client, now| client.submit(Job::new("f", "3"), now)).expect_err("full");
    assert!(matches!(full.reason, Reason::Full { limit: 1000, .. }));
    rig.write(conn, usize::MAX);
    submit(&mut rig, Job::new("f", "3"));
}

#[test]
fn bad_jobs_and_servers_are_named_in_the_error() {
    let refuse = |job: Job| {
        let mut rig = client(&["a"]);
        match rig.act(|client, now| client.submit(job, now)).expect_err("refused").reason {
            Reason::Invalid(error) => error,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refuse(Job::new("", "x")), ConfigError::EmptyFunction);
    assert!(matches!(refuse(Job::new("a\0b", "x")), ConfigError::Nul { what: "function", .. }));
    assert!(matches!(
        refuse(Job::new(vec![b'f'; 513], "x")),
        ConfigError::TooLong { what: "function", limit: 512, .. }
    ));
    assert!(matches!(refuse(Job::new("f", "x").unique("a\0b")), ConfigError::Nul { what: "unique", .. }));
    assert!(matches!(
        refuse(Job::new("f", "x").unique(vec![b'u'; 64])),
        ConfigError::TooLong { what: "unique", length: 64, limit: 63 }
    ));
    assert_eq!(Client::new(config(&[])).expect_err("none"), ConfigError::NoServers);
    let twice = Client::new(config(&["a", "b", "a:4730"])).expect_err("twice");
    assert_eq!(twice, ConfigError::DuplicateServer(address("a")));
    let mut blank = config(&["a"]);
    blank.client_id = Some("a b".into());
    assert!(matches!(Client::new(blank), Err(ConfigError::BadClientId { .. })));
}

#[test]
fn a_client_that_is_not_polled_stops_reading_and_goes_on_when_it_is() {
    let mut few = config(&["a"]);
    few.limits.max_events = 4;
    let mut rig = Rig::new(Client::new(few).expect("valid"));
    let job = submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.events();
    let parts: Vec<_> = (0..50).map(|part| packet(T::WORK_DATA, &format!("H:x:1|{part}"))).collect();
    let mut bytes = bytes::BytesMut::new();
    for part in &parts {
        part.encode(gearwheel::wire::Magic::Response, &mut bytes);
    }
    use gearwheel::Machine;
    rig.machine.handle(gearwheel::Input::Data(conn, &mut bytes), rig.now);
    assert!(!rig.machine.wants_read(conn) && !bytes.is_empty());
    rig.receive_bytes(conn, &bytes);
    let got: Vec<_> = rig.events();
    let wanted: Vec<_> = (0..50).map(|part| Event::Data { job, payload: part.to_string().into() }).collect();
    assert_eq!(got, wanted);
    assert!(rig.machine.wants_read(conn));
}

#[test]
fn the_same_seed_and_inputs_give_the_same_bytes() {
    let run = || {
        let mut rig = client(&["a"]);
        submit(&mut rig, Job::new("f", "x").generated_unique());
        let conn = rig.connect();
        rig.sent(conn)
    };
    assert_eq!(run(), run());
}

fn connect_all(rig: &mut Rig<Client>) -> Vec<ConnId> {
    let conns: Vec<_> = rig.connects().into_iter().map(|(conn, _)| conn).collect();
    for &conn in &conns {
        rig.handle(gearwheel::Input::Connected(conn));
    }
    conns
}

fn server_of(rig: &Rig<Client>, text: &str) -> gearwheel::ServerId {
    rig.machine.servers().find(|server| server.address == address(text)).expect("there").server
}

#[test]
fn a_failed_server_is_kept_away_from_and_then_tried_with_one_job() {
    let mut two = config(&["a", "b"]);
    two.connecting.probe_after = None;
    let mut rig = Rig::new(Client::new(two).expect("valid"));
    submit(&mut rig, Job::new("f", "0"));
    let a = rig.connect();
    rig.close(a, CloseReason::Reset);
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
    }
    rig.sent(b);
    rig.pass(secs(3));
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
fn delayed_jobs_go_by_the_wall_time() {
    let mut rig = client(&["a"]);
    let unready = rig.act(|client, now| client.submit(Job::new("f", "x").after(secs(5)), now)).expect_err("no time");
    assert_eq!(unready.reason, Reason::Invalid(ConfigError::NoWallTime));
    rig.act(|client, now| client.set_unix_time(secs(1_000_000), now));
    rig.pass(millis(1500));
    let job = submit(&mut rig, Job::new("f", "x").after(secs(5)).unique("u"));
    submit(&mut rig, Job::new("f", "x").at(secs(77)));
    let conn = rig.connect();
    assert_eq!(
        rig.sent(conn),
        [packet(T::SUBMIT_JOB_EPOCH, "f|u|1000007|x"), packet(T::SUBMIT_JOB_EPOCH, "f||77|x")],
        "rounded up: never before its time"
    );
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Queued(Handle::from_wire(b"H:x:1")))]);
    let high = Job::new("f", "x").at(secs(1)).priority(Priority::High);
    let refused = rig.act(|client, now| client.submit(high, now)).expect_err("no such packet");
    assert!(matches!(refused.reason, Reason::Invalid(ConfigError::NoSuchJob(_))));
}

#[test]
fn reduce_jobs_carry_an_empty_aggregator() {
    let mut rig = client(&["a"]);
    submit(&mut rig, Job::new("f", "x").reducer("sum"));
    submit(&mut rig, Job::new("f", "x").reducer("sum").background().unique("u"));
    let conn = rig.connect();
    assert_eq!(
        rig.sent(conn),
        [packet(T::SUBMIT_REDUCE_JOB, "f||sum||x"), packet(T::SUBMIT_REDUCE_JOB_BACKGROUND, "f|u|sum||x")]
    );
}

#[test]
fn uniques_can_be_made_of_the_payload() {
    let mut rig = client(&["a"]);
    submit(&mut rig, Job::new("f", "hello world!").payload_unique());
    submit(&mut rig, Job::new("f", "hello world!").hashed_unique());
    let conn = rig.connect();
    assert_eq!(
        rig.sent(conn),
        [packet(T::SUBMIT_JOB, "f|-|hello world!"), packet(T::SUBMIT_JOB, "f|1840336538|hello world!")]
    );
}

#[test]
fn a_namespace_stands_before_the_function() {
    let mut spaced = config(&["a"]);
    spaced.namespace = Some("app1.".into());
    let mut rig = Rig::new(Client::new(spaced).expect("valid"));
    submit(&mut rig, Job::new("f", "x"));
    let conn = rig.connect();
    assert_eq!(rig.sent(conn), [packet(T::SUBMIT_JOB, "app1.f||x")]);
    let long = rig.act(|client, now| client.submit(Job::new(vec![b'f'; 510], "x"), now)).expect_err("too long");
    assert!(matches!(long.reason, Reason::Invalid(ConfigError::TooLong { length: 515, limit: 512, .. })));
}
