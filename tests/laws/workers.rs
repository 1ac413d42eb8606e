//! A worker, told anything, and what must hold of what it says.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum WorkerOp {
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

pub(super) fn worker_ops() -> impl Strategy<Value = (usize, usize, Vec<WorkerOp>)> {
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

pub(super) fn new_worker(concurrency: usize, prefetch: usize, max_events: usize) -> Worker {
    let mut config = worker::Config::new(SEED);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    (config.concurrency, config.prefetch) = (concurrency, prefetch);
    config.limits.max_events = max_events;
    Worker::new(config).expect("a good configuration")
}

pub(super) fn run_worker(
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
