//! Bytes of a job server at an admin machine, and lines at a job server: each command has one reply.

use std::time::Duration;

use bytes::Bytes;
use gearwheel::CloseReason;
use gearwheel::admin::{Admin, Config, Event};
use gearwheel::wire::admin::Request;

use super::cursor::Cursor;
use super::session::{Session, Style};

pub fn run(data: &[u8]) {
    let mut data = Cursor(data);
    let mut config = Config::new([1; 32]);
    config.server = Some("a".parse().expect("an address"));
    config.limits.max_packet = 1 << 12;
    config.limits.max_events = usize::from(data.byte()) + 1;
    let flags = data.byte();
    let style = Style { seed: u64::from(flags), split: flags & 1 > 0, partial: flags & 2 > 0, disturb: flags & 4 > 0 };
    let mut session = Session::new(Admin::new(config).expect("a good configuration"), &style);
    let mut asked = 0;
    while !data.is_empty() {
        let conn = session.conns.first().copied();
        match (data.byte() % 6, conn) {
            (0, _) => {
                let word = |data: &mut Cursor<'_>| Bytes::copy_from_slice(data.piece());
                let request = match data.byte() % 10 {
                    0 => Request::Version,
                    1 => Request::Status,
                    2 => Request::PriorityStatus,
                    3 => Request::Workers,
                    4 => Request::ShowJobs,
                    5 => Request::ShowUniqueJobs,
                    6 => Request::CancelJob { handle: word(&mut data) },
                    7 => Request::CreateFunction { function: word(&mut data) },
                    8 => Request::MaxQueue { function: word(&mut data), limits: [1, 2, 3] },
                    _ => Request::Pid,
                };
                asked += u64::from(session.act(|admin, now| admin.ask(request, now)).is_ok());
            }
            (1, _) => session.pass(Duration::from_millis(u64::from(data.byte()) * 100)),
            (2, Some(conn)) => session.end(conn, CloseReason::Reset),
            (_, Some(conn)) => {
                let bytes = data.piece();
                session.feed(conn, bytes);
            }
            _ => {}
        }
    }
    session.act(Admin::close);
    let replies = session.events.iter().filter(|event| matches!(event, Event::Reply { .. })).count() as u64;
    assert_eq!(replies, asked);
    assert!(matches!(session.events.last(), Some(Event::Closed)));
}
