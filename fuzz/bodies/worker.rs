//! Bytes of a job server at a worker: it may say anything, but no more runs at once than may.

use std::time::Duration;

use bytes::Bytes;
use gearwheel::CloseReason;
use gearwheel::worker::{Config, Event, Worker};

use super::cursor::Cursor;
use super::session::{Session, Style};

pub fn run(data: &[u8]) {
    let mut data = Cursor(data);
    let mut config = Config::new([1; 32]);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    config.limits.max_packet = 1 << 16;
    config.limits.max_events = usize::from(data.byte()) + 1;
    config.concurrency = usize::from(data.byte() % 8) + 1;
    config.prefetch = usize::from(data.byte() % 4);
    let concurrency = config.concurrency;
    let flags = data.byte();
    let style = Style { seed: u64::from(flags), split: flags & 1 > 0, partial: flags & 2 > 0, disturb: flags & 4 > 0 };
    let mut session = Session::new(Worker::new(config).expect("a good configuration"), &style);
    let mut tasks = Vec::new();
    let mut seen = 0;
    while !data.is_empty() {
        let conn = session.conns.first().copied();
        match (data.byte() % 9, conn) {
            (0, _) => {
                let function = [data.byte() % 3 + b'a'];
                let timeout = (data.byte() & 1 > 0).then(|| Duration::from_secs(1));
                let _ = session.act(|worker, now| worker.register(function.to_vec(), timeout, now));
            }
            (1, _) => {
                let function = [data.byte() % 3 + b'a'];
                let _ = session.act(|worker, now| worker.unregister(&function, now));
            }
            (2, _) if !tasks.is_empty() => {
                let task = tasks.remove(usize::from(data.byte()) % tasks.len());
                let _ = session.act(|worker, now| worker.complete(task, Bytes::from_static(b"r"), now));
            }
            (3, _) if !tasks.is_empty() => {
                let task = tasks[usize::from(data.byte()) % tasks.len()];
                let _ = session.act(|worker, now| worker.progress(task, 1, 2, now));
            }
            (4, _) => session.pass(Duration::from_millis(u64::from(data.byte()) * 100)),
            (5, Some(conn)) => session.end(conn, CloseReason::Ended),
            (6, _) if data.byte() == 0 => session.act(Worker::drain),
            (_, Some(conn)) => {
                let bytes = data.piece();
                session.feed(conn, bytes);
            }
            _ => {}
        }
        for event in &session.events[seen..] {
            match event {
                Event::Assigned(assignment) => tasks.push(assignment.task),
                Event::Gone { task, .. } => assert!(tasks.contains(task), "{task:?} is gone, but it was never there"),
                _ => {}
            }
        }
        seen = session.events.len();
        assert!(tasks.len() <= concurrency, "more at once than may run");
    }
    session.act(Worker::close);
    for task in tasks {
        let _ = session.act(|worker, now| worker.exception(task, Bytes::new(), now));
    }
    assert_eq!(session.machine.in_hand(), 0);
    assert!(matches!(session.events.last(), Some(Event::Closed)));
}
