//! The laws of [`gearwheel::Machine`]'s contract, for the client, the worker, the job server and the admin machine: what a
//! machine says depends on what it is told, never on how its input is cut, how its output is taken, how often it is paused
//! or what meaningless things it is told besides; and what it holds has a bound, whatever a peer sends.

#[path = "laws/admins.rs"]
mod admins;
#[path = "laws/bounds.rs"]
mod bounds;
#[path = "laws/clients.rs"]
mod clients;
#[path = "common"]
mod common {
    pub mod net;
    pub mod session;
}
#[path = "laws/found.rs"]
mod found;
#[path = "laws/servers.rs"]
mod servers;
#[path = "laws/workers.rs"]
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use admins::{admin_ops, run_admin};
use bytes::{Bytes, BytesMut};
use clients::{client_ops, run_client};
use common::session::{Session, Style};
use gearwheel::admin::{self, Admin};
use gearwheel::client::{self, Client};
use gearwheel::server::{self, Server};
use gearwheel::wire::admin::Request;
use gearwheel::wire::{HEADER, Magic, Packet, PacketType, split};
use gearwheel::worker::{self, TaskId, Worker};
use gearwheel::{CloseReason, ConnId, Input, Instant, Job, JobId, Limits, Machine, Outcome, Output, Peer, Retry};
use proptest::prelude::*;
use servers::{run_server, server_ops};
use workers::{run_worker, worker_ops};

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
