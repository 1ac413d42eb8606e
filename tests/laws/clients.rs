//! A client, told anything, and what must hold of what it says.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum ClientOp {
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

pub(super) fn client_ops() -> impl Strategy<Value = Vec<ClientOp>> {
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

pub(super) fn new_client(max_events: usize) -> Client {
    let mut config = client::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    config.limits.max_events = max_events;
    config.gather = Duration::from_millis(1);
    Client::new(config).expect("a good configuration")
}

pub(super) fn run_client(ops: &[ClientOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
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
