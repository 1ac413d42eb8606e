//! Client and worker machines against job servers that misbehave, packet by packet and on virtual time. What real processes
//! make of such servers is in `tests/misbehaving.rs`.

#[path = "common/rig.rs"]
mod rig;

use std::time::Duration;

use gearwheel::client::{self, Client};
use gearwheel::wire::{Magic, Packet, PacketType as T};
use gearwheel::worker::{self, TaskId, Worker};
use gearwheel::{CloseReason, ConnId, Job, JobId, Machine, Outcome, ProtocolError, Retry};
use rig::{Rig, address, millis, packet, secs};

fn client() -> Rig<Client> {
    let mut config = client::Config::new([3; 32]);
    config.servers = vec![address("a")];
    config.exceptions = false;
    Rig::new(Client::new(config).expect("valid"))
}

fn submit(rig: &mut Rig<Client>, job: Job) -> JobId {
    rig.act(|client, now| client.submit(job, now)).expect("taken")
}

/// A client with one connection and a job that has been sent on it.
fn sent(job: Job) -> (Rig<Client>, ConnId, JobId) {
    let mut rig = client();
    let id = submit(&mut rig, job);
    let conn = rig.connect();
    rig.sent(conn);
    rig.events();
    (rig, conn, id)
}

fn worker(configure: impl FnOnce(&mut worker::Config)) -> Rig<Worker> {
    let mut config = worker::Config::new([3; 32]);
    config.servers = vec![address("a")];
    configure(&mut config);
    let mut rig = Rig::new(Worker::new(config).expect("valid"));
    rig.act(|worker, now| worker.register("f", None, now)).expect("new");
    rig
}

/// A worker with one connection, which has asked for a job.
fn grabbing(configure: impl FnOnce(&mut worker::Config)) -> (Rig<Worker>, ConnId) {
    let mut rig = worker(configure);
    let conn = rig.connect();
    assert_eq!(rig.sent_names(conn), ["CAN_DO", "GRAB_JOB_UNIQ"]);
    rig.events();
    (rig, conn)
}

/// Waits for the next connection attempt, and says how long that took.
fn gap<M: Machine<Event: std::fmt::Debug>>(rig: &mut Rig<M>) -> Duration {
    let begun = rig.now;
    while rig.connects.is_empty() {
        rig.pass(millis(1));
    }
    rig.now.saturating_since(begun)
}

/// Whether each wait is random between half and all of what doubles up to a limit.
#[track_caller]
fn assert_grow(gaps: &[Duration], first: Duration, most: Duration) {
    for (number, gap) in (0..).zip(gaps) {
        let doubled = (first * (1 << number)).min(most);
        let fits = (doubled / 2..=doubled + millis(1)).contains(gap);
        assert!(fits, "wait {number} is {gap:?}, not up to {doubled:?}: {gaps:?}");
    }
}

#[test]
fn a_server_that_answers_and_breaks_off_is_left_alone_for_longer_each_time() {
    let mut rig = worker(|_| ());
    let mut gaps = Vec::new();
    for _ in 0..9 {
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::NO_JOB, "")]);
        rig.pass(millis(200));
        rig.close(conn, CloseReason::Reset);
        gaps.push(gap(&mut rig));
    }
    assert_grow(&gaps, millis(100), secs(5));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::NO_JOB, "")]);
    rig.pass(secs(5));
    rig.close(conn, CloseReason::Reset);
    assert!(gap(&mut rig) <= millis(101), "it has worked for long enough");
}

#[test]
fn the_gaps_of_a_client_grow_too() {
    let retry = Retry::Idempotent { attempts: 1000 };
    let mut rig = client();
    submit(&mut rig, Job::new("f", "").retry(retry).accept_timeout(secs(3600)));
    let mut gaps = Vec::new();
    for number in 0..8 {
        let conn = rig.connect();
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
        rig.close(conn, CloseReason::Ended);
        gaps.push(gap(&mut rig));
        assert!(gaps[number] >= millis(50 << number), "{gaps:?}");
    }
    assert!(gaps[7] <= millis(2 * (100 << 7)), "{gaps:?}");
}

#[test]
fn a_sleeper_that_is_woken_for_nothing_again_and_again_takes_its_time() {
    let (mut rig, conn) = grabbing(|_| ());
    let mut grabs = 0;
    let until = rig.now + secs(1);
    while rig.now < until {
        rig.receive(conn, &[packet(T::NO_JOB, ""), packet(T::NOOP, "")]);
        while rig.sent_names(conn).last() != Some(&"GRAB_JOB_UNIQ") {
            rig.receive(conn, &[packet(T::NOOP, "")]);
            rig.pass(millis(1));
        }
        grabs += 1;
    }
    assert!((120..160).contains(&grabs), "{grabs} grabs in a second");
    // A job shows that it is worth while.
    rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, "H:1|f||")]);
    let task = tasks(&mut rig)[0];
    rig.act(|worker, now| worker.complete(task, "".into(), now)).expect("ours");
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE", "GRAB_JOB_UNIQ"]);
    rig.receive(conn, &[packet(T::NO_JOB, ""), packet(T::NOOP, "")]);
    assert_eq!(rig.sent_names(conn), ["PRE_SLEEP", "GRAB_JOB_UNIQ"]);
}

#[test]
fn a_sleeper_that_is_woken_now_and_then_is_awake_at_once() {
    let (mut rig, conn) = grabbing(|config| config.regrab_after = None);
    for _ in 0..100 {
        rig.receive(conn, &[packet(T::NO_JOB, "")]);
        assert_eq!(rig.sent_names(conn), ["PRE_SLEEP"]);
        rig.pass(secs(1));
        rig.receive(conn, &[packet(T::NOOP, "")]);
        assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
    }
}

fn tasks(rig: &mut Rig<Worker>) -> Vec<TaskId> {
    let assigned = |event| if let worker::Event::Assigned(assignment) = event { Some(assignment.task) } else { None };
    rig.events().into_iter().filter_map(assigned).collect()
}

#[test]
fn a_server_that_reads_no_results_is_asked_for_no_more_jobs() {
    let (mut rig, conn) = grabbing(|config| config.limits.max_outgoing = 1000);
    rig.writable = false;
    let mut done = 0;
    loop {
        rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, "H:1|f||x")]);
        let [task] = tasks(&mut rig)[..] else { break };
        done += 1;
        rig.act(|worker, now| worker.complete(task, vec![0; 100].into(), now)).expect("ours");
        assert!(done < 20, "it works on and on");
    }
    assert_eq!(rig.disconnects(), [conn], "the last was a job that nobody had asked for");
}

#[test]
fn a_server_that_reads_late_is_asked_again() {
    let (mut rig, conn) = grabbing(|config| config.limits.max_outgoing = 50);
    rig.writable = false;
    rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, "H:1|f||x")]);
    let [task] = tasks(&mut rig)[..] else { panic!("no job") };
    rig.act(|worker, now| worker.complete(task, vec![0; 100].into(), now)).expect("ours");
    rig.pass(secs(2));
    rig.write(conn, usize::MAX);
    assert_eq!(rig.sent_names(conn), ["WORK_COMPLETE"]);
    rig.writable = true;
    rig.pass(secs(1));
    assert_eq!(rig.sent_names(conn), ["GRAB_JOB_UNIQ"]);
}

#[track_caller]
fn assert_breaks<M: Machine<Event: std::fmt::Debug>>(rig: &mut Rig<M>, conn: ConnId, packet: Packet, what: &str) {
    rig.receive(conn, &[packet]);
    assert_eq!(rig.disconnects(), [conn]);
    let said = format!("{:?}", rig.events());
    assert!(said.contains(what), "{said}");
}

#[test]
fn jobs_that_cannot_be_done_go_back_to_their_server() {
    let long = format!("{}|f||x", "H".repeat(513));
    for (arguments, what) in [("H:1|g||x", "function"), ("|f||x", "handle"), (&*long, "handle")] {
        let (mut rig, conn) = grabbing(|_| ());
        let error = ProtocolError::BadArgument { kind: T::JOB_ASSIGN_UNIQ, argument: what };
        assert_breaks(&mut rig, conn, packet(T::JOB_ASSIGN_UNIQ, arguments), &format!("{error:?}"));
        assert_eq!(rig.machine.in_hand(), 0);
    }
    let (mut rig, conn) = grabbing(|_| ());
    rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, &long[1..])]);
    assert_eq!(tasks(&mut rig).len(), 1);
}

#[test]
fn a_job_without_a_name_of_its_own_is_lost() {
    let error = ProtocolError::BadArgument { kind: T::JOB_CREATED, argument: "handle" };
    for handle in ["".into(), "H".repeat(513)] {
        let (mut rig, conn, _) = sent(Job::new("f", ""));
        assert_breaks(&mut rig, conn, packet(T::JOB_CREATED, &handle), &format!("{error:?}"));
        assert!(rig.machine.is_empty());
    }
    // Two jobs of one name, neither of which its server can have taken for the other.
    let unlike = [
        [Job::new("f", "1"), Job::new("f", "2")],
        [Job::new("f", "1").unique("u"), Job::new("f", "2").unique("v")],
        [Job::new("f", "1").unique("u"), Job::new("g", "1").unique("u")],
        [Job::new("f", "1").unique("u"), Job::new("f", "1")],
        [Job::new("f", "1").payload_unique(), Job::new("f", "2").payload_unique()],
        [Job::new("f", "1").unique(""), Job::new("f", "2").unique("")],
    ];
    for [first, second] in unlike {
        let (mut rig, conn, _) = sent(first);
        submit(&mut rig, second);
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
        assert_breaks(&mut rig, conn, packet(T::JOB_CREATED, "H:1"), &format!("{error:?}"));
        assert!(rig.machine.is_empty());
    }
    // A background job has nothing that could be mistaken.
    let (mut rig, conn, _) = sent(Job::new("f", "1").background());
    submit(&mut rig, Job::new("f", "2").background());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:1")]);
    assert_eq!(rig.disconnects(), []);
}

#[test]
fn of_a_long_error_the_beginning_is_kept() {
    let (mut rig, conn, job) = sent(Job::new("f", ""));
    rig.receive(conn, &[packet(T::ERROR, &format!("{}|{}", "C".repeat(10_000), "T".repeat(1 << 20)))]);
    let events = rig.events();
    let [client::Event::Done { job: ended, outcome: Outcome::Rejected(error) }] = &events[..] else {
        panic!("not one end")
    };
    assert_eq!((*ended, error.code.len(), error.text.len()), (job, 4096, 4096));
}

#[test]
fn a_long_download_is_no_silence_and_a_dribble_is() {
    for (piece, survives) in [(64 << 10, true), (100, false)] {
        let (mut rig, conn, _) = sent(Job::new("f", "1"));
        rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
        // The reply to this one has to wait behind the result of the first.
        submit(&mut rig, Job::new("f", "2").accept_timeout(secs(3600)));
        let mut result = bytes::BytesMut::new();
        packet(T::WORK_COMPLETE, &format!("H:1|{}", "x".repeat(4 << 20))).encode(Magic::Response, &mut result);
        for chunk in result.chunks(piece).take(30) {
            rig.receive_bytes(conn, chunk);
            rig.pass(secs(2));
        }
        assert_eq!(rig.disconnects().is_empty(), survives, "{piece} bytes each two seconds");
    }
}

/// Two submissions that their server has joined as H:1, the first of which is given up.
fn joined_and_given_up() -> (Rig<Client>, ConnId, JobId) {
    let job = || Job::new("f", "").unique("u");
    let (mut rig, conn, first) = sent(job());
    let second = submit(&mut rig, job());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:1")]);
    rig.receive(conn, &[packet(T::WORK_DATA, "H:1|a"), packet(T::WORK_DATA, "H:1|a")]);
    rig.act(|client, now| client.abandon(first, now));
    rig.events();
    (rig, conn, second)
}

fn parts(rig: &mut Rig<Client>, wanted: JobId) -> String {
    let events = rig.events().into_iter();
    let payload = |event| match event {
        client::Event::Data { job, payload } if job == wanted => Some(payload),
        client::Event::Done { job, outcome: Outcome::Complete(payload) } if job == wanted => Some(payload),
        _ => None,
    };
    events.filter_map(payload).map(|payload| String::from_utf8_lossy(&payload).into_owned()).collect()
}

/// A copy for each of so many submissions.
fn copies(kind: T, payload: &str, count: usize) -> Vec<Packet> {
    vec![packet(kind, &format!("H:1|{payload}")); count]
}

#[test]
fn the_copies_for_a_joined_job_that_was_given_up_are_nobodys() {
    let (mut rig, conn, second) = joined_and_given_up();
    for part in ["b", "c"] {
        rig.receive(conn, &copies(T::WORK_DATA, part, 2));
    }
    rig.receive(conn, &copies(T::WORK_COMPLETE, "d", 2));
    assert_eq!(parts(&mut rig, second), "bcd");
    assert_eq!(rig.machine.counters().late, 3);
    assert!(rig.machine.is_empty());
}

#[test]
fn giving_up_between_two_copies_mixes_nothing_up() {
    let job = || Job::new("f", "").unique("u");
    let (mut rig, conn, first) = sent(job());
    let second = submit(&mut rig, job());
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:1")]);
    rig.receive(conn, &copies(T::WORK_DATA, "a", 1));
    rig.act(|client, now| client.abandon(first, now));
    rig.receive(conn, &copies(T::WORK_DATA, "a", 1));
    rig.receive(conn, &copies(T::WORK_DATA, "b", 2));
    rig.receive(conn, &copies(T::WORK_COMPLETE, "c", 2));
    assert_eq!(parts(&mut rig, second), "abc");
}

#[test]
fn a_job_that_joins_one_given_up_before_gets_each_part_once() {
    let (mut rig, conn, second) = joined_and_given_up();
    rig.act(|client, now| client.abandon(second, now));
    rig.receive(conn, &copies(T::WORK_DATA, "b", 2));
    let third = submit(&mut rig, Job::new("f", "").unique("u"));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
    rig.events();
    rig.receive(conn, &copies(T::WORK_DATA, "c", 3));
    rig.receive(conn, &copies(T::WORK_DATA, "d", 3));
    rig.receive(conn, &copies(T::WORK_COMPLETE, "e", 3));
    assert_eq!(parts(&mut rig, third), "cde");
    // The name is free again: it means another job, of which there is one copy.
    let fourth = submit(&mut rig, Job::new("f", "").unique("u"));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
    rig.receive(conn, &copies(T::WORK_DATA, "f", 1));
    rig.receive(conn, &copies(T::WORK_COMPLETE, "g", 1));
    assert_eq!(parts(&mut rig, fourth), "fg");
}

#[test]
fn a_job_given_up_before_its_reply_has_copies_too() {
    let (mut rig, conn, first) = sent(Job::new("f", "").unique("u"));
    rig.act(|client, now| client.abandon(first, now));
    let second = submit(&mut rig, Job::new("f", "").unique("u"));
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1"), packet(T::JOB_CREATED, "H:1")]);
    rig.receive(conn, &copies(T::WORK_DATA, "a", 2));
    rig.receive(conn, &copies(T::WORK_DATA, "b", 2));
    rig.receive(conn, &copies(T::WORK_COMPLETE, "c", 2));
    assert_eq!(parts(&mut rig, second), "abc");
}

#[test]
fn a_new_connection_knows_nothing_of_those_given_up() {
    let (mut rig, conn, second) = joined_and_given_up();
    rig.act(|client, now| client.abandon(second, now));
    rig.close(conn, CloseReason::Reset);
    let third = submit(&mut rig, Job::new("f", "").unique("u"));
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:1")]);
    rig.receive(conn, &copies(T::WORK_DATA, "a", 1));
    rig.receive(conn, &copies(T::WORK_COMPLETE, "b", 1));
    assert_eq!(parts(&mut rig, third), "ab");
}
