//! Bytes of several guests at a job server: its tables agree, and nothing of a guest stays when it has gone.

use std::time::Duration;

use gearwheel::server::{Config, Server};
use gearwheel::{CloseReason, Instant};

use super::cursor::Cursor;
use super::session::{Session, Style};

pub fn run(data: &[u8]) {
    let mut data = Cursor(data);
    let mut config = Config::new([1; 32]);
    config.handle_prefix = "H:x".into();
    config.limits.max_packet = 1 << 16;
    config.limits.max_events = usize::from(data.byte()) + 1;
    config.limits.max_outgoing = (usize::from(data.byte()) + 1) << 8;
    (config.max_jobs, config.max_functions, config.max_abilities) = (100, 20, 30);
    (config.max_job_bytes, config.max_partial, config.max_connections) = (1 << 16, 1 << 16, 8);
    config.job_retries = Some(u32::from(data.byte() % 4)).filter(|retries| *retries < 3);
    config.allow_shutdown = data.byte() == 0;
    let flags = data.byte();
    let style = Style { seed: u64::from(flags), split: flags & 1 > 0, partial: flags & 2 > 0, disturb: flags & 4 > 0 };
    let server = Server::new(config, Instant::EPOCH, Duration::from_secs(1_800_000_000)).expect("a good configuration");
    let mut session = Session::new(server, &style);
    let _ = session.knock();
    while !data.is_empty() {
        let what = data.byte();
        let conn = session.conns.get(usize::from(what >> 4) % session.conns.len().max(1)).copied();
        match (what & 15, conn) {
            (0, _) => drop(session.knock()),
            (1, Some(conn)) => session.end(conn, CloseReason::Ended),
            (2, _) => session.pass(Duration::from_millis(u64::from(data.byte()) * 50)),
            (3, _) if data.byte() == 0 => session.act(Server::drain),
            (_, Some(conn)) => {
                let bytes = data.piece();
                session.feed(conn, bytes);
            }
            _ => {}
        }
    }
    session.machine.audit();
    session.flush();
    for conn in session.conns.clone() {
        session.end(conn, CloseReason::Reset);
    }
    session.machine.audit();
    let counters = session.machine.counters();
    assert_eq!((counters.connections, counters.running, counters.waiting, counters.abilities), (0, 0, 0, 0));
}
