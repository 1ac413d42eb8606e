//! Bytes of a job server at a client that has something outstanding: it may say anything, but each job ends once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::client::{Client, Config, Event};
use gearwheel::{CloseReason, Job, Retry};

use super::cursor::Cursor;
use super::session::{Session, Style};

pub fn run(data: &[u8]) {
    let mut data = Cursor(data);
    let mut config = Config::new([1; 32]);
    config.servers = vec!["a".parse().expect("an address"), "b".parse().expect("an address")];
    config.limits.max_packet = 1 << 16;
    config.gather = Duration::from_millis(1);
    config.limits.max_events = usize::from(data.byte()) + 1;
    let flags = data.byte();
    let style = Style { seed: u64::from(flags), split: flags & 1 > 0, partial: flags & 2 > 0, disturb: flags & 4 > 0 };
    let mut session = Session::new(Client::new(config).expect("a good configuration"), &style);
    let mut jobs = Vec::new();
    while !data.is_empty() {
        let conn = session.conns.first().copied();
        match (data.byte() % 8, conn) {
            (0, _) => {
                let kind = data.byte();
                let mut job = Job::new("f", data.piece().to_vec());
                job = if kind & 1 > 0 { job.unique("u") } else { job };
                job = if kind & 2 > 0 { job.background() } else { job };
                job = if kind & 4 > 0 { job.retry(Retry::Idempotent { attempts: 3 }) } else { job };
                jobs.extend(session.act(|client, now| client.submit(job, now)));
            }
            (1, _) => {
                let server = session.machine.servers().next().expect("a server").server;
                let _ = session.act(|client, now| client.echo(server, Bytes::from_static(b"e"), now));
            }
            (2, _) if !jobs.is_empty() => {
                let job = jobs[usize::from(data.byte()) % jobs.len()];
                if data.byte() & 1 > 0 {
                    session.act(|client, now| client.abandon(job, now));
                } else {
                    let _ = session.act(|client, now| client.status(job, now));
                }
            }
            (3, _) => session.pass(Duration::from_millis(u64::from(data.byte()) * 100)),
            (4, Some(conn)) => session.end(conn, CloseReason::Reset),
            (_, Some(conn)) => {
                let bytes = data.piece();
                session.feed(conn, bytes);
            }
            _ => {}
        }
    }
    session.act(Client::close);
    let mut ends = BTreeMap::new();
    for event in &session.events {
        if let Event::Done { job, .. } = event {
            *ends.entry(*job).or_insert(0) += 1;
        }
    }
    assert!(jobs.iter().all(|job| ends.get(job) == Some(&1)), "{ends:?}");
    assert!(session.machine.is_empty());
    assert!(matches!(session.events.last(), Some(Event::Closed)));
}
