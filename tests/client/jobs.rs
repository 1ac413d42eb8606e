//! What a job is on the wire, what is told of it, and that it ends once.

use super::*;

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
    let (handle, server) = (Handle::from_wire(b"H:x:9"), server_of(&rig, "a"));
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Queued { handle, server })]);
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
fn abandoned_and_closed_jobs_end_once() {
    let (mut rig, conn, job) = accepted(Job::new("f", "x"));
    let other = submit(&mut rig, Job::new("f", "y"));
    rig.act(|client, now| client.abandon(job, now));
    rig.act(|client, now| client.abandon(job, now));
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Cancelled { phase: Phase::Accepted })]);
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|late")]);
    rig.act(|client, now| client.close(now));
    let events = rig.events();
    assert_eq!(events, [Event::Done { job: other, outcome: Outcome::Cancelled { phase: Phase::Sent } }, Event::Closed]);
    assert_eq!(rig.disconnects(), [conn]);
    let rejected = rig.act(|client, now| client.submit(Job::new("f", "z"), now)).expect_err("closed");
    assert_eq!((rejected.reason, rejected.value.payload().clone()), (Reason::Closed, Bytes::from("z")));
    assert_eq!((rig.wait, rig.machine.is_empty()), (None, true));
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
fn a_generated_unique_is_new_for_each_attempt() {
    let job = Job::new("f", "x").generated_unique().retry(Retry::Idempotent { attempts: 2 });
    assert_eq!(job.clone().generated_unique(), job);
    let mut rig = client(&["a"]);
    submit(&mut rig, job);
    let mut uniques = Vec::new();
    for _ in 0..2 {
        let conn = rig.connect();
        let [Packet::SubmitJob(packet)] = &rig.sent(conn)[..] else { panic!("not submitted") };
        uniques.push(packet.unique().to_vec());
        rig.close(conn, CloseReason::Reset);
        rig.pass(secs(1));
    }
    assert_eq!((uniques[0].len(), uniques[1].len()), (32, 32));
    assert_ne!(uniques[0], uniques[1]);
    let _ = Unique::Generated;
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
    let (handle, server) = (Handle::from_wire(b"H:x:1"), server_of(&rig, "a"));
    assert_eq!(outcomes(&mut rig), [(job, Outcome::Queued { handle, server })]);
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

#[test]
fn a_status_is_asked_for_by_handle_and_by_unique_of_a_job_that_may_be_unknown() {
    let (mut rig, conn, _) = sent(Job::new("f", "x").background());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    let ends = outcomes(&mut rig);
    let [(_, Outcome::Queued { handle, server })] = &ends[..] else { panic!("{ends:?}") };
    let server = *server;
    let by_handle = rig.act(|client, now| client.status_of(server, handle.clone(), now)).expect("asked");
    let by_unique = rig.act(|client, now| client.status_unique(server, "u".into(), now)).expect("asked");
    assert_ne!(by_handle, by_unique);
    assert_eq!(rig.sent_names(conn), ["GET_STATUS", "GET_STATUS_UNIQUE"]);
    rig.receive(conn, &[packet(T::STATUS_RES, "H:x:1|0|0|0|0"), packet(T::STATUS_RES_UNIQUE, "u|0|0|0|0|0")]);
    let answer = |event| match event {
        Event::Status { request, result: Ok(status) } => (request, status.known, status.running),
        other => panic!("{other:?}"),
    };
    let answered: Vec<_> = rig.events().into_iter().map(answer).collect();
    assert_eq!(answered, [(by_handle, false, false), (by_unique, false, false)]);
}

#[test]
fn who_asks_a_server_that_is_none_gets_everything_back() {
    let stranger = server_of(&client(&["x", "y"]), "y");
    let (mut rig, conn, _) = sent(Job::new("f", "x").background());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    let ends = outcomes(&mut rig);
    let [(_, Outcome::Queued { handle, .. })] = &ends[..] else { panic!("{ends:?}") };
    let unknown = Reason::Unknown("job server");
    let rejected = rig.act(|client, now| client.status_of(stranger, handle.clone(), now)).expect_err("a stranger");
    assert_eq!((&rejected.reason, &rejected.value), (&unknown, handle));
    let rejected = rig.act(|client, now| client.status_unique(stranger, "u".into(), now)).expect_err("a stranger");
    assert_eq!((&rejected.reason, &rejected.value[..]), (&unknown, &b"u"[..]));
    let rejected = rig.act(|client, now| client.echo(stranger, "e".into(), now)).expect_err("a stranger");
    assert_eq!((&rejected.reason, &rejected.value[..]), (&unknown, &b"e"[..]));
    let server = server_of(&rig, "a");
    let rejected = rig.act(|client, now| client.status_unique(server, "u\0".into(), now)).expect_err("no unique");
    assert!(matches!(rejected.reason, Reason::Invalid(_)) && rejected.value == "u\0");
    assert!(rig.machine.is_empty() && rig.sent(conn).is_empty());
}

#[test]
fn a_question_that_waits_for_a_connection_ends_with_it() {
    let mut rig = client(&["a"]);
    let server = server_of(&rig, "a");
    let request = rig.act(|client, now| client.status_unique(server, "u".into(), now)).expect("asked");
    let [(conn, _)] = rig.connects()[..] else { panic!("one attempt") };
    rig.close(conn, CloseReason::Refused);
    let result = Err(RequestError::Lost(CloseReason::Refused));
    assert!(rig.events().contains(&Event::Status { request, result }));
    assert!(rig.machine.is_empty());
}

#[test]
fn perls_server_joins_a_payload_with_the_unique_that_it_equals() {
    let mut rig = client(&["a"]);
    let by_payload = submit(&mut rig, Job::new("f", "DD").payload_unique());
    let by_name = submit(&mut rig, Job::new("f", "x").unique("DD"));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1"), packet(T::JOB_CREATED, "H:x:1")]);
    rig.receive(conn, &[packet(T::WORK_COMPLETE, "H:x:1|y"), packet(T::WORK_COMPLETE, "H:x:1|y")]);
    assert_eq!(outcomes(&mut rig), [(by_payload, complete("y")), (by_name, complete("y"))]);
}
