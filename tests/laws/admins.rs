//! An admin machine, told anything, and what must hold of what it says.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum AdminOp {
    Ask(u8),
    Answer(u8),
    Raw(Vec<u8>),
    Pass(u16),
    End,
}

pub(super) fn admin_ops() -> impl Strategy<Value = Vec<AdminOp>> {
    let op = prop_oneof![
        4 => (0..6u8).prop_map(AdminOp::Ask),
        4 => (0..6u8).prop_map(AdminOp::Answer),
        1 => any_bytes().prop_map(AdminOp::Raw),
        1 => any::<u16>().prop_map(AdminOp::Pass),
        1 => Just(AdminOp::End),
    ];
    prop::collection::vec(op, 1..20)
}

pub(super) fn run_admin(ops: &[AdminOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
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
