//! A job server, told anything, and what must hold of what it says.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum ServerOp {
    Knock,
    Packets(usize, Vec<(u8, u8)>),
    Raw(usize, Vec<u8>),
    Leave(usize),
    Pass(u16),
}

pub(super) fn server_ops() -> impl Strategy<Value = Vec<ServerOp>> {
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
pub(super) fn request(which: u8, variety: u8) -> Vec<u8> {
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

pub(super) fn new_server(change: impl FnOnce(&mut server::Config)) -> Server {
    let mut config = server::Config::new(SEED);
    (config.patience, config.gather_results) = (Duration::from_millis(1), true);
    config.handle_prefix = "H:x".into();
    change(&mut config);
    Server::new(config, Instant::EPOCH, Duration::from_secs(1_800_000_000)).expect("a good configuration")
}

pub(super) fn run_server(ops: &[ServerOp], style: &Style, max_events: usize) -> (Record, Vec<ConnId>) {
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
