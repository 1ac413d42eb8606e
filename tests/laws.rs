//! The laws of [`gearwheel::Machine`]'s contract, for the client, the worker, the job server and the admin machine: what a
//! machine says depends on what it is told, never on how its input is cut, how its output is taken, how often it is paused
//! or what meaningless things it is told besides; and what it holds has a bound, whatever a peer sends.

mod common {
    pub mod net;
    pub mod session;
}

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::session::{Session, Style};
use gearwheel::admin::{self, Admin};
use gearwheel::client::{self, Client};
use gearwheel::server::{self, Server};
use gearwheel::wire::admin::Request;
use gearwheel::wire::{HEADER, Magic, Packet, PacketType, split};
use gearwheel::worker::{self, TaskId, Worker};
use gearwheel::{CloseReason, ConnId, Input, Instant, Job, JobId, Limits, Machine, Outcome, Output, Peer, Retry};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

/// What both runs must agree on.
#[derive(Debug, PartialEq)]
struct Record {
    said: Vec<String>,
    written: BTreeMap<ConnId, Vec<u8>>,
}

/// What a connection that has died was to send may never have been taken.
fn compare(plain: &Record, styled: &Record, living: &[ConnId]) -> Result<(), TestCaseError> {
    prop_assert_eq!(&plain.said, &styled.said);
    for (conn, bytes) in &plain.written {
        let other = styled.written.get(conn).map(Vec::as_slice).unwrap_or_default();
        if living.contains(conn) {
            prop_assert!(bytes == other, "{conn:?}: {} / {}", bytes.escape_ascii(), other.escape_ascii());
        } else {
            let alike = bytes.starts_with(other) || other.starts_with(bytes);
            prop_assert!(alike, "{conn:?}: {} / {}", bytes.escape_ascii(), other.escape_ascii());
        }
    }
    Ok(())
}

fn packet(kind: PacketType, arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    Packet::decode(kind, arguments.join(&0).into()).expect("a packet of the table").encode(Magic::Response, &mut bytes);
    bytes.to_vec()
}

/// Bytes that are rarely what is due: packets of any type, packets cut short, and noise.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let packets =
        (any::<bool>(), 0..50u32, prop::collection::vec(prop_oneof![Just(0), Just(b'H'), any::<u8>()], 0..40));
    prop_oneof![
        6 => packets.prop_map(|(request, kind, body)| {
            let magic = if request { &b"\0REQ"[..] } else { &b"\0RES"[..] };
            [magic, &kind.to_be_bytes(), &(body.len() as u32).to_be_bytes(), &body].concat()
        }),
        1 => prop::collection::vec(any::<u8>(), 1..40),
        1 => "[a-z ]{0,12}\r?\n".prop_map(String::into_bytes),
    ]
}

fn any_style() -> impl Strategy<Value = Style> {
    (any::<u64>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(seed, split, partial, disturb)| Style {
        seed,
        split,
        partial,
        disturb,
    })
}

/// The end of a reading: how much of what was written on each connection has been looked at.
type Read = BTreeMap<ConnId, usize>;

/// The requests that have been written on a connection since the last time.
fn requests<M: Machine>(session: &Session<M>, conn: ConnId, read: &mut Read) -> Vec<Packet> {
    let read = read.entry(conn).or_default();
    let written = session.written.get(&conn).map(Vec::as_slice).unwrap_or_default();
    let mut stream = BytesMut::from(&written[*read..]);
    let mut packets = Vec::new();
    while let Some(frame) = split(&mut stream, usize::MAX).expect("our machines write packets") {
        packets.push(Packet::decode(frame.kind, frame.body).expect("our machines write whole packets"));
    }
    *read = written.len() - stream.len();
    packets
}

#[derive(Clone, Debug)]
enum ClientOp {
    Submit { unique: bool, background: bool, retry: u8 },
    Status(usize),
    Echo,
    Answer,
    Work { handle: u8, what: u8 },
    Raw(Vec<u8>),
    Abandon(usize),
    Pass(u16),
    End,
    Close,
}

fn client_ops() -> impl Strategy<Value = Vec<ClientOp>> {
    let op = prop_oneof![
        8 => (any::<bool>(), any::<bool>(), 0..4u8)
            .prop_map(|(unique, background, retry)| ClientOp::Submit { unique, background, retry }),
        8 => Just(ClientOp::Answer),
        8 => (1..6u8, 0..6u8).prop_map(|(handle, what)| ClientOp::Work { handle, what }),
        2 => (0..9usize).prop_map(ClientOp::Status),
        2 => Just(ClientOp::Echo),
        2 => any_bytes().prop_map(ClientOp::Raw),
        2 => (0..9usize).prop_map(ClientOp::Abandon),
        2 => any::<u16>().prop_map(ClientOp::Pass),
        1 => Just(ClientOp::End),
        1 => Just(ClientOp::Close),
    ];
    prop::collection::vec(op, 1..40)
}

fn new_client(max_events: usize) -> Client {
    let mut config = client::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    config.limits.max_events = max_events;
    Client::new(config).expect("a good configuration")
}

fn run_client(ops: &[ClientOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
    let mut session = Session::new(new_client(max_events), style);
    let mut jobs: Vec<JobId> = Vec::new();
    let mut handles = 0;
    let mut read = Read::new();
    for op in ops {
        if matches!(
            op,
            ClientOp::Answer | ClientOp::Work { .. } | ClientOp::Raw(_) | ClientOp::Abandon(_) | ClientOp::Close
        ) {
            session.flush();
        }
        let conn = session.conns.first().copied();
        match (op, conn) {
            (ClientOp::Submit { unique, background, retry }, _) => {
                let mut job = Job::new("f", vec![b'p'; 10 * jobs.len()]);
                job = if *unique { job.unique("same") } else { job };
                job = if *background { job.background() } else { job };
                job = match retry {
                    0 => job.retry(Retry::Never),
                    1 => job.retry(Retry::Idempotent { attempts: 3 }),
                    _ => job,
                };
                if let Ok(job) = session.act(|client, now| client.submit(job, now)) {
                    jobs.push(job);
                }
            }
            (ClientOp::Status(at), _) if !jobs.is_empty() => {
                let job = jobs[at % jobs.len()];
                let _ = session.act(|client, now| client.status(job, now));
            }
            (ClientOp::Echo, _) => {
                let _ = session.act(|client, now| {
                    let server = client.servers().next().expect("a server").server;
                    client.echo(server, Bytes::from_static(b"e\0e"), now)
                });
            }
            (ClientOp::Answer, Some(conn)) => {
                let answers: Vec<u8> = requests(&session, conn, &mut read)
                    .into_iter()
                    .flat_map(|request| match request {
                        Packet::EchoReq(echo) => packet(PacketType::ECHO_RES, &[echo.payload()]),
                        Packet::OptionReq(option) => packet(PacketType::OPTION_RES, &[option.option()]),
                        Packet::GetStatus(get) => {
                            packet(PacketType::STATUS_RES, &[get.handle(), b"1", b"0", b"1", b"2"])
                        }
                        Packet::SetClientId(_) => Vec::new(),
                        _ => {
                            handles += 1;
                            packet(PacketType::JOB_CREATED, &[format!("H:{}", handles % 5 + 1).as_bytes()])
                        }
                    })
                    .collect();
                session.feed(conn, &answers);
            }
            (ClientOp::Work { handle, what }, Some(conn)) => {
                let handle = format!("H:{handle}");
                let handle = handle.as_bytes();
                let bytes = match what {
                    0 => packet(PacketType::WORK_COMPLETE, &[handle, b"result"]),
                    1 => packet(PacketType::WORK_FAIL, &[&[handle, &[0]].concat()]),
                    2 => packet(PacketType::WORK_EXCEPTION, &[handle, b"thrown"]),
                    3 => packet(PacketType::WORK_DATA, &[handle, b"part"]),
                    4 => packet(PacketType::WORK_STATUS, &[handle, b"1", b"2"]),
                    _ => packet(PacketType::ERROR, &[b"code", b"text"]),
                };
                session.feed(conn, &bytes.repeat(3));
            }
            (ClientOp::Raw(bytes), Some(conn)) => session.feed(conn, bytes),
            (ClientOp::Abandon(at), _) if !jobs.is_empty() => {
                let job = jobs[at % jobs.len()];
                session.act(|client, now| client.abandon(job, now));
            }
            (ClientOp::Pass(millis), _) => session.pass(Duration::from_millis(u64::from(*millis))),
            (ClientOp::End, Some(conn)) => session.end(conn, CloseReason::Ended),
            (ClientOp::Close, _) => session.act(Client::close),
            _ => {}
        }
    }
    session.flush();
    let living = session.conns.clone();
    session.act(Client::close);
    for job in &jobs {
        let ends =
            session.events.iter().filter(|event| matches!(event, client::Event::Done { job: done, .. } if done == job));
        assert_eq!(ends.count(), 1, "{job:?} has not one end");
    }
    for (at, event) in session.events.iter().enumerate() {
        if let client::Event::Done { job, .. } = event {
            let mentions = |event: &client::Event| match event {
                client::Event::Created { job: other, .. }
                | client::Event::Data { job: other, .. }
                | client::Event::Warning { job: other, .. }
                | client::Event::Progress { job: other, .. }
                | client::Event::Done { job: other, .. } => other == job,
                _ => false,
            };
            assert!(!session.events[at + 1..].iter().any(mentions), "something of {job:?} behind its end");
        }
    }
    assert!(session.machine.is_empty(), "a closed client holds something");
    assert!(matches!(session.events.last(), Some(client::Event::Closed)), "Closed is not the last event");
    (Record { said: session.said, written: session.written }, living)
}

#[derive(Clone, Debug)]
enum WorkerOp {
    Register(u8, bool),
    Unregister(u8),
    Answer(u64),
    Noop,
    Finish { at: usize, how: u8 },
    Tell { at: usize, what: u8 },
    Raw(Vec<u8>),
    Pass(u16),
    End,
    Drain,
    Close,
}

fn worker_ops() -> impl Strategy<Value = (usize, usize, Vec<WorkerOp>)> {
    let op = prop_oneof![
        4 => (0..3u8, any::<bool>()).prop_map(|(function, timed)| WorkerOp::Register(function, timed)),
        1 => (0..3u8).prop_map(WorkerOp::Unregister),
        12 => any::<u64>().prop_map(WorkerOp::Answer),
        3 => Just(WorkerOp::Noop),
        8 => (0..9usize, 0..3u8).prop_map(|(at, how)| WorkerOp::Finish { at, how }),
        3 => (0..9usize, 0..3u8).prop_map(|(at, what)| WorkerOp::Tell { at, what }),
        1 => any_bytes().prop_map(WorkerOp::Raw),
        2 => any::<u16>().prop_map(WorkerOp::Pass),
        1 => Just(WorkerOp::End),
        1 => Just(WorkerOp::Drain),
        1 => Just(WorkerOp::Close),
    ];
    (1..5usize, 0..4usize, prop::collection::vec(op, 1..40))
}

fn new_worker(concurrency: usize, prefetch: usize, max_events: usize) -> Worker {
    let mut config = worker::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    (config.concurrency, config.prefetch) = (concurrency, prefetch);
    config.limits.max_events = max_events;
    Worker::new(config).expect("a good configuration")
}

fn run_worker(
    (concurrency, prefetch, ops): &(usize, usize, Vec<WorkerOp>),
    style: &Style,
    max_events: usize,
) -> (Record, Vec<ConnId>) {
    let mut session = Session::new(new_worker(*concurrency, *prefetch, max_events), style);
    let mut tasks: Vec<TaskId> = Vec::new();
    let mut seen = 0;
    let mut number = 0;
    let mut read = Read::new();
    for op in ops {
        session.flush();
        let conn = session.conns.first().copied();
        match (op, conn) {
            (WorkerOp::Register(function, timed), _) => {
                let timeout = timed.then_some(Duration::from_secs(2));
                let _ = session.act(|worker, now| worker.register(vec![b'a' + function], timeout, now));
            }
            (WorkerOp::Unregister(function), _) => {
                let _ = session.act(|worker, now| worker.unregister(&[b'a' + function], now));
            }
            (WorkerOp::Answer(luck), Some(conn)) => {
                let mut luck = *luck;
                let answers: Vec<u8> = requests(&session, conn, &mut read)
                    .into_iter()
                    .flat_map(|request| match request {
                        Packet::EchoReq(echo) => packet(PacketType::ECHO_RES, &[echo.payload()]),
                        Packet::GrabJob(_) | Packet::GrabJobUniq(_) | Packet::GrabJobAll(_) => {
                            luck = luck.rotate_right(3);
                            number += 1;
                            let handle = format!("H:{number}");
                            match luck & 7 {
                                0 | 1 => packet(PacketType::NO_JOB, &[]),
                                2 => packet(PacketType::ERROR, &[b"code", b"text"]),
                                _ => packet(PacketType::JOB_ASSIGN_UNIQ, &[handle.as_bytes(), b"a", b"u", b"payload"]),
                            }
                        }
                        _ => Vec::new(),
                    })
                    .collect();
                session.feed(conn, &answers);
            }
            (WorkerOp::Noop, Some(conn)) => session.feed(conn, &packet(PacketType::NOOP, &[])),
            (WorkerOp::Finish { at, how }, _) if !tasks.is_empty() => {
                let task = tasks.remove(at % tasks.len());
                let _ = session.act(|worker, now| match how {
                    0 => worker.complete(task, Bytes::from_static(b"done"), now).is_ok(),
                    1 => worker.fail(task, now).is_ok(),
                    _ => worker.exception(task, Bytes::from_static(b"thrown"), now).is_ok(),
                });
            }
            (WorkerOp::Tell { at, what }, _) if !tasks.is_empty() => {
                let task = tasks[at % tasks.len()];
                let _ = session.act(|worker, now| match what {
                    0 => worker.data(task, Bytes::from(vec![b'd'; 3000]), now).is_ok(),
                    1 => worker.warning(task, Bytes::from_static(b"w"), now).is_ok(),
                    _ => worker.progress(task, 1, 2, now).is_ok(),
                });
            }
            (WorkerOp::Raw(bytes), Some(conn)) => session.feed(conn, bytes),
            (WorkerOp::Pass(millis), _) => session.pass(Duration::from_millis(u64::from(*millis))),
            (WorkerOp::End, Some(conn)) => session.end(conn, CloseReason::Reset),
            (WorkerOp::Drain, _) => session.act(Worker::drain),
            (WorkerOp::Close, _) => session.act(Worker::close),
            _ => {}
        }
        for event in &session.events[seen..] {
            if let worker::Event::Assigned(assignment) = event {
                tasks.push(assignment.task);
            }
        }
        seen = session.events.len();
        assert!(tasks.len() <= *concurrency, "more at once than may run");
    }
    session.flush();
    let living = session.conns.clone();
    session.act(Worker::close);
    for task in tasks {
        let _ = session.act(|worker, now| worker.fail(task, now));
    }
    assert_eq!(session.machine.in_hand(), 0);
    assert!(matches!(session.events.last(), Some(worker::Event::Closed)), "{:?}", session.events.last());
    (Record { said: session.said, written: session.written }, living)
}

#[derive(Clone, Debug)]
enum ServerOp {
    Knock,
    Packets(usize, Vec<(u8, u8)>),
    Raw(usize, Vec<u8>),
    Leave(usize),
    Pass(u16),
}

fn server_ops() -> impl Strategy<Value = Vec<ServerOp>> {
    let packets = prop::collection::vec((0..20u8, any::<u8>()), 1..8);
    let op = prop_oneof![
        3 => Just(ServerOp::Knock),
        14 => (0..4usize, packets).prop_map(|(peer, packets)| ServerOp::Packets(peer, packets)),
        2 => (0..4usize, any_bytes()).prop_map(|(peer, bytes)| ServerOp::Raw(peer, bytes)),
        2 => (0..4usize).prop_map(ServerOp::Leave),
        1 => any::<u16>().prop_map(ServerOp::Pass),
    ];
    prop::collection::vec(op, 1..40).prop_map(|mut ops| {
        ops.splice(0..0, [ServerOp::Knock, ServerOp::Knock]);
        ops
    })
}

/// A request as clients and workers send it: `which` of them, and a byte of variety.
fn request(which: u8, variety: u8) -> Vec<u8> {
    let function = [b'a' + variety % 2];
    let unique = [b"", &b"u"[..], b"-", b"v"][usize::from(variety / 2 % 4)];
    let handle = format!("H:x:{}", variety % 8 + 1);
    let handle = handle.as_bytes();
    let payload: &[u8] = if variety > 200 { &[b'p'; 3000] } else { b"p\0p" };
    let (kind, arguments): (PacketType, Vec<&[u8]>) = match which {
        0 => (PacketType::CAN_DO, vec![&function]),
        1 => (PacketType::CANT_DO, vec![&function]),
        2 => (PacketType::CAN_DO_TIMEOUT, vec![&function, b"1500"]),
        3 => (PacketType::PRE_SLEEP, vec![]),
        4 | 5 => (PacketType::GRAB_JOB_UNIQ, vec![]),
        6 => (PacketType::GRAB_JOB, vec![]),
        7 => (PacketType::WORK_COMPLETE, vec![handle, payload]),
        8 => (PacketType::WORK_FAIL, vec![handle]),
        9 => (PacketType::WORK_EXCEPTION, vec![handle, payload]),
        10 => (PacketType::WORK_DATA, vec![handle, payload]),
        11 => (PacketType::WORK_STATUS, vec![handle, b"1", b"2"]),
        12 => (PacketType::SUBMIT_JOB_BG, vec![&function, unique, payload]),
        13 => (PacketType::SUBMIT_JOB_HIGH, vec![&function, unique, payload]),
        14 => (PacketType::GET_STATUS, vec![handle]),
        15 => (PacketType::ECHO_REQ, vec![payload]),
        16 => (PacketType::OPTION_REQ, vec![b"exceptions"]),
        17 => (PacketType::RESET_ABILITIES, vec![]),
        _ => (PacketType::SUBMIT_JOB, vec![&function, unique, payload]),
    };
    let mut bytes = BytesMut::new();
    Packet::decode(kind, arguments.join(&0).into()).expect("a packet of the table").encode(Magic::Request, &mut bytes);
    bytes.to_vec()
}

fn new_server(change: impl FnOnce(&mut server::Config)) -> Server {
    let mut config = server::Config::new(SEED);
    config.handle_prefix = "H:x".into();
    config.patience = Duration::from_millis(1);
    change(&mut config);
    Server::new(config, Instant::EPOCH, Duration::from_secs(1_800_000_000)).expect("a good configuration")
}

fn run_server(ops: &[ServerOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
    let mut session = Session::new(new_server(|config| config.limits.max_events = max_events), style);
    for op in ops {
        let peer = |at: &usize| session.conns.get(at % session.conns.len().max(1)).copied();
        match op {
            ServerOp::Knock => drop(session.knock()),
            ServerOp::Packets(at, packets) => {
                let bytes: Vec<u8> = packets.iter().flat_map(|(which, variety)| request(*which, *variety)).collect();
                if let Some(peer) = peer(at) {
                    session.feed(peer, &bytes);
                }
            }
            ServerOp::Raw(at, bytes) => {
                if let Some(peer) = peer(at) {
                    session.flush();
                    session.feed(peer, bytes);
                }
            }
            ServerOp::Leave(at) => {
                if let Some(peer) = peer(at) {
                    session.end(peer, CloseReason::Ended);
                }
            }
            ServerOp::Pass(millis) => session.pass(Duration::from_millis(u64::from(*millis))),
        }
        // A connection that is to be closed is, once its last bytes are taken.
        session.flush();
        session.machine.audit();
    }
    let living = session.conns.clone();
    for conn in living.clone() {
        session.end(conn, CloseReason::Ended);
    }
    session.machine.audit();
    let counters = session.machine.counters();
    assert_eq!((counters.connections, counters.running, counters.waiting, counters.abilities), (0, 0, 0, 0));
    (Record { said: session.said, written: session.written }, living)
}

#[derive(Clone, Debug)]
enum AdminOp {
    Ask(u8),
    Answer(u8),
    Raw(Vec<u8>),
    Pass(u16),
    End,
}

fn admin_ops() -> impl Strategy<Value = Vec<AdminOp>> {
    let op = prop_oneof![
        4 => (0..6u8).prop_map(AdminOp::Ask),
        4 => (0..6u8).prop_map(AdminOp::Answer),
        1 => any_bytes().prop_map(AdminOp::Raw),
        1 => any::<u16>().prop_map(AdminOp::Pass),
        1 => Just(AdminOp::End),
    ];
    prop::collection::vec(op, 1..20)
}

fn run_admin(ops: &[AdminOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
    let mut config = admin::Config::new(SEED);
    config.server = Some("a".parse().expect("an address"));
    config.limits.max_events = max_events;
    let mut session = Session::new(Admin::new(config).expect("a good configuration"), style);
    let mut asked = Vec::new();
    for op in ops {
        session.flush();
        let conn = session.conns.first().copied();
        match (op, conn) {
            (AdminOp::Ask(which), _) => {
                let request = match which {
                    0 => Request::Version,
                    1 => Request::Status,
                    2 => Request::Workers,
                    3 => Request::ShowJobs,
                    4 => Request::Pid,
                    _ => Request::CancelJob { handle: Bytes::from_static(b"H:1") },
                };
                asked.extend(session.act(|admin, now| admin.ask(request, now)));
            }
            (AdminOp::Answer(which), Some(conn)) => session.feed(
                conn,
                match which {
                    0 => b"OK 1.1.20\n",
                    1 => b"a\t1\t0\t2\nb\t0\t0\t0\n.\n",
                    2 => b"8 127.0.0.1 - : a b\n.\n",
                    3 => b".\n",
                    4 => b"OK 123\n",
                    _ => b"ERR UNKNOWN_JOB\r\n",
                },
            ),
            (AdminOp::Raw(bytes), Some(conn)) => session.feed(conn, bytes),
            (AdminOp::Pass(millis), _) => session.pass(Duration::from_millis(u64::from(*millis))),
            (AdminOp::End, Some(conn)) => session.end(conn, CloseReason::Ended),
            _ => {}
        }
    }
    session.flush();
    let living = session.conns.clone();
    session.act(Admin::close);
    for request in asked {
        let replies = session
            .events
            .iter()
            .filter(|event| matches!(event, admin::Event::Reply { request: other, .. } if *other == request));
        assert_eq!(replies.count(), 1, "{request:?} has not one reply");
    }
    (Record { said: session.said, written: session.written }, living)
}

const EVENTS: usize = 4096;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_says_the_same_however_it_is_told(ops in client_ops(), style in any_style()) {
        let (plain, living) = run_client(&ops, &Style::default(), EVENTS);
        compare(&plain, &run_client(&ops, &style, EVENTS).0, &living)?;
    }

    #[test]
    fn a_worker_says_the_same_however_it_is_told(ops in worker_ops(), style in any_style()) {
        let (plain, living) = run_worker(&ops, &Style::default(), EVENTS);
        compare(&plain, &run_worker(&ops, &style, EVENTS).0, &living)?;
    }

    #[test]
    fn a_job_server_says_the_same_however_it_is_told(ops in server_ops(), style in any_style()) {
        let (plain, living) = run_server(&ops, &Style::default(), EVENTS);
        compare(&plain, &run_server(&ops, &style, EVENTS).0, &living)?;
    }

    #[test]
    fn an_admin_machine_says_the_same_however_it_is_told(ops in admin_ops(), style in any_style()) {
        let (plain, living) = run_admin(&ops, &Style::default(), EVENTS);
        compare(&plain, &run_admin(&ops, &style, EVENTS).0, &living)?;
    }

    #[test]
    fn pausing_at_any_packet_changes_nothing(
        client in client_ops(), worker in worker_ops(), server in server_ops(), admin in admin_ops(), events in 1..5usize,
    ) {
        let style = Style::default();
        let (plain, living) = run_client(&client, &style, EVENTS);
        compare(&plain, &run_client(&client, &style, events).0, &living)?;
        let (plain, living) = run_worker(&worker, &style, EVENTS);
        compare(&plain, &run_worker(&worker, &style, events).0, &living)?;
        let (plain, living) = run_server(&server, &style, EVENTS);
        compare(&plain, &run_server(&server, &style, events).0, &living)?;
        let (plain, living) = run_admin(&admin, &style, EVENTS);
        compare(&plain, &run_admin(&admin, &style, events).0, &living)?;
    }
}

/// Everything that a machine has to say now.
fn outputs<M: Machine>(machine: &mut M) -> Vec<Output<M::Event>> {
    let mut outputs = Vec::new();
    loop {
        match machine.poll() {
            Output::Wait(_) => return outputs,
            output => outputs.push(output),
        }
    }
}

/// A client with one connection, on which it has one job with the handle `H:1`.
fn busy_client(limits: Limits) -> (Client, ConnId) {
    let mut config = client::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address")];
    config.limits = limits;
    let mut client = Client::new(config).expect("a good configuration");
    client.submit(Job::new("f", "p"), Instant::EPOCH).expect("there is room");
    let conn = match outputs(&mut client).first() {
        Some(Output::Connect { conn, .. }) => *conn,
        other => panic!("{other:?}"),
    };
    client.handle(Input::Connected(conn), Instant::EPOCH);
    let mut stream = BytesMut::from(&packet(PacketType::OPTION_RES, &[b"exceptions"])[..]);
    stream.extend_from_slice(&packet(PacketType::JOB_CREATED, &[b"H:1"]));
    client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
    drop(outputs(&mut client));
    (client, conn)
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn a_client_that_is_not_polled_stops_reading() {
    let (mut client, conn) = busy_client(limits(|limits| limits.max_events = 10));
    let mut stream = BytesMut::from(&packet(PacketType::WORK_DATA, &[b"H:1", b"part"]).repeat(1000)[..]);
    let whole = stream.len();
    client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
    assert!(!client.wants_read(conn));
    assert!(stream.len() > whole * 9 / 10, "what is not read stays with the driver");
    let said = outputs(&mut client);
    assert!(said.len() <= 12, "{} outputs with a limit of 10", said.len());
    assert!(matches!(said.last(), Some(Output::Resume(_))));
    assert!(client.wants_read(conn));
}

#[test]
fn what_a_job_server_sends_to_nobody_leaves_no_trace_in_a_client() {
    let (mut client, conn) = busy_client(Limits::default());
    let nobodys = packet(PacketType::WORK_DATA, &[b"H:2", &[b'x'; 500]]);
    let mut stream = BytesMut::with_capacity(1 << 16);
    let mut send = |client: &mut Client, times: usize| {
        for _ in 0..times {
            stream.extend_from_slice(&nobodys);
            client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
            drop(outputs(client));
        }
    };
    send(&mut client, 100);
    let memory = allocation_counter::measure(|| send(&mut client, 20_000));
    assert!(memory.bytes_max < 1 << 18, "{} bytes for 10 MB of packets for nobody", memory.bytes_max);
    assert!(memory.bytes_current.abs() < 1 << 17, "{} bytes stay", memory.bytes_current);
}

#[test]
fn an_announced_packet_claims_no_more_than_a_few_times_what_has_come_of_it() {
    let (mut client, conn) = busy_client(Limits::default());
    let mut stream = BytesMut::new();
    let memory = allocation_counter::measure(|| {
        stream.extend_from_slice(b"\0RES\0\0\0\x1c\x08\0\0\0");
        for _ in 0..1000 {
            stream.extend_from_slice(&[b'x'; 1000]);
            client.handle(Input::Data(conn, &mut stream), Instant::EPOCH);
        }
    });
    assert_eq!(stream.len(), HEADER + 1_000_000, "128 MiB are announced, and not all are there");
    assert!(memory.bytes_max < 8_000_000, "{} bytes for 1 MB", memory.bytes_max);
}

#[test]
fn a_client_refuses_what_is_beyond_its_limits_and_gives_it_back() {
    let (mut client, _) = busy_client(limits(|limits| (limits.max_outgoing, limits.max_jobs) = (10_000, 50)));
    let job = Job::new("f", vec![b'p'; 3000]);
    let taken = (0..100).filter(|_| client.submit(job.clone(), Instant::EPOCH).is_ok()).count();
    assert!((3..6).contains(&taken), "{taken} jobs of 3 KB into 10 KB");
    let (mut client, _) = busy_client(limits(|limits| limits.max_jobs = 50));
    let taken = (0..100).filter(|_| client.submit(Job::new("f", ""), Instant::EPOCH).is_ok()).count();
    assert_eq!(taken, 49, "one is there already");
    let rejected = client.submit(job.clone(), Instant::EPOCH).expect_err("it is full");
    assert_eq!(rejected.value, job);
}

/// A job server with two connections.
fn two_guests(change: impl FnOnce(&mut server::Config)) -> (Server, ConnId, ConnId) {
    let mut server = new_server(change);
    let mut knock = || server.accept(Peer::new("10.0.0.1", true), Instant::EPOCH).expect("it is open");
    let (first, second) = (knock(), knock());
    drop(outputs(&mut server));
    (server, first, second)
}

#[test]
fn a_guest_that_never_reads_costs_a_job_server_no_more_than_the_limit() {
    let most = 100_000;
    let (mut server, guest, _) = two_guests(|config| config.limits.max_outgoing = most);
    let echo = request(15, 255).repeat(20);
    let mut stream = BytesMut::new();
    let memory = allocation_counter::measure(|| {
        for _ in 0..300 {
            if server.wants_read(guest) {
                stream.extend_from_slice(&echo);
                server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
                drop(outputs(&mut server));
            }
        }
    });
    let waiting = server.outgoing(guest).len();
    assert!(waiting > most / 2 && waiting <= most + echo.len(), "{waiting} bytes wait with a limit of {most}");
    assert!(memory.bytes_max < 1_000_000, "{} bytes", memory.bytes_max);
}

#[test]
fn jobs_that_nobody_runs_fill_a_job_server_to_its_limit_and_no_further() {
    let (mut server, guest, _) = two_guests(|config| (config.max_jobs, config.max_job_bytes) = (1000, 100_000));
    // With variety 193 they have no unique, and so are never joined.
    let submit = [request(12, 193), request(12, 249)].concat().repeat(5);
    let mut stream = BytesMut::new();
    for _ in 0..200 {
        stream.extend_from_slice(&submit);
        server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
        drop(outputs(&mut server));
        let waiting = server.outgoing(guest).len();
        server.outgoing(guest).advance(waiting);
    }
    let counters = server.counters();
    assert!(counters.jobs <= 1000 && counters.job_bytes <= 100_000, "{counters:?}");
    assert!(counters.errors > 1000, "{counters:?}");
}

#[test]
fn half_packets_of_many_guests_are_bounded_together() {
    let mut server = new_server(|config| config.max_partial = 100_000);
    let mut closed = 0;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let guest = server.accept(Peer::new("10.0.0.1", true), Instant::EPOCH).expect("it is open");
        let mut stream = BytesMut::from(&b"\0REQ\0\0\0\x07\0\x10\0\0"[..]);
        stream.resize(5000, b'x');
        server.handle(Input::Data(guest, &mut stream), Instant::EPOCH);
        closed += outputs(&mut server).iter().filter(|output| matches!(output, Output::Disconnect(_))).count();
        streams.push(stream);
    }
    assert!((75..=85).contains(&closed), "{closed} of 100 guests with 5 KB each are closed at a limit of 100 KB");
}

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
fn connected_worker(concurrency: usize) -> (Session<Worker>, ConnId, ConnId) {
    let mut session = Session::new(new_worker(concurrency, 0, EVENTS), &Style::default());
    session.act(|worker, now| worker.register("a", None, now)).expect("a new function");
    session.act(|worker, now| worker.register("b", None, now)).expect("a new function");
    let [first, second] = session.conns[..] else { panic!("not two connections") };
    (session, first, second)
}

fn assigned(session: &Session<Worker>) -> Vec<TaskId> {
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
