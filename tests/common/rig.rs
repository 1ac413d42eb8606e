//! A machine under a test that plays its driver and its peers by hand, on a clock that the test moves.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::wire::{Magic, Packet, split};
use gearwheel::{Address, CloseReason, ConnId, Input, Instant, Machine, Output};

pub struct Rig<M: Machine> {
    pub machine: M,
    pub now: Instant,
    /// When the machine wants its next tick.
    pub wait: Option<Instant>,
    /// Whether bytes are written as soon as the machine has some.
    pub writable: bool,
    pub events: Vec<M::Event>,
    pub connects: Vec<(ConnId, Address)>,
    disconnects: Vec<ConnId>,
    /// Connections that do not stand: not yet, or no more.
    down: HashSet<ConnId>,
    written: HashMap<ConnId, BytesMut>,
    streams: HashMap<ConnId, BytesMut>,
}

impl<M: Machine<Event: Debug>> Rig<M> {
    pub fn new(machine: M) -> Self {
        let mut rig = Self {
            machine,
            now: Instant::from_epoch(Duration::from_secs(1000)),
            wait: None,
            writable: true,
            events: Vec::new(),
            connects: Vec::new(),
            disconnects: Vec::new(),
            down: HashSet::new(),
            written: HashMap::new(),
            streams: HashMap::new(),
        };
        rig.run();
        rig
    }

    /// Does something to the machine, then all that comes of it.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut M, Instant) -> T) -> T {
        let result = act(&mut self.machine, self.now);
        self.run();
        result
    }

    /// Polls until the machine waits.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            match self.machine.poll() {
                Output::Connect { conn, server, .. } => {
                    self.down.insert(conn);
                    self.connects.push((conn, server));
                }
                Output::Transmit(conn) => {
                    assert!(!self.down.contains(&conn), "Transmit for a connection that does not stand");
                    if self.writable {
                        self.write(conn, usize::MAX);
                    }
                }
                Output::Resume(conn) => {
                    let mut stream = self.streams.remove(&conn).unwrap_or_default();
                    self.machine.handle(Input::Data(conn, &mut stream), self.now);
                    self.streams.insert(conn, stream);
                }
                Output::Disconnect(conn) => {
                    self.down.insert(conn);
                    self.disconnects.push(conn);
                }
                Output::Event(event) => self.events.push(event),
                Output::Wait(at) => {
                    self.wait = at;
                    return;
                }
            }
        }
        panic!("the machine never waits");
    }

    /// Takes up to `most` bytes that wait on `conn`.
    pub fn write(&mut self, conn: ConnId, most: usize) -> usize {
        let mut outgoing = self.machine.outgoing(conn);
        let bytes: Vec<u8> = outgoing.chunks().flatten().copied().take(most).collect();
        outgoing.advance(bytes.len());
        self.written.entry(conn).or_default().extend_from_slice(&bytes);
        bytes.len()
    }

    pub fn handle(&mut self, input: Input<'_>) {
        match &input {
            Input::Connected(conn) => self.down.remove(conn),
            Input::Closed(conn, _) => self.down.insert(*conn),
            _ => false,
        };
        self.machine.handle(input, self.now);
        self.run();
    }

    /// The connection attempts since the last call.
    pub fn connects(&mut self) -> Vec<(ConnId, Address)> {
        std::mem::take(&mut self.connects)
    }

    /// The one connection attempt that has been made, which succeeds.
    pub fn connect(&mut self) -> ConnId {
        let connects = self.connects();
        let [(conn, _)] = connects[..] else { panic!("not one connection attempt: {connects:?}") };
        self.handle(Input::Connected(conn));
        conn
    }

    pub fn disconnects(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.disconnects)
    }

    pub fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.handle(Input::Closed(conn, reason));
    }

    /// The packets written on `conn` since the last call.
    pub fn sent(&mut self, conn: ConnId) -> Vec<Packet> {
        let written = self.written.entry(conn).or_default();
        let mut packets = Vec::new();
        while let Some(frame) = split(written, usize::MAX).expect("framed") {
            assert_eq!(frame.magic, Magic::Request);
            packets.push(Packet::decode(frame.kind, frame.body).expect("decodable"));
        }
        assert!(written.is_empty() || !self.writable, "a packet is whole");
        packets
    }

    /// The bytes written on `conn` since the last call.
    pub fn sent_bytes(&mut self, conn: ConnId) -> Bytes {
        self.written.remove(&conn).unwrap_or_default().freeze()
    }

    /// The bytes written on `conn` since the last call, as text.
    pub fn sent_text(&mut self, conn: ConnId) -> String {
        let written = self.written.remove(&conn).unwrap_or_default();
        String::from_utf8(written.to_vec()).expect("text")
    }

    /// The names of the packets written on `conn` since the last call.
    pub fn sent_names(&mut self, conn: ConnId) -> Vec<&'static str> {
        self.sent(conn).iter().map(|packet| packet.kind().name().expect("known")).collect()
    }

    /// A peer's packets arrive.
    pub fn receive(&mut self, conn: ConnId, packets: &[Packet]) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.encode(Magic::Response, &mut bytes);
        }
        self.receive_bytes(conn, &bytes);
    }

    pub fn receive_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut stream = self.streams.remove(&conn).unwrap_or_default();
        stream.extend_from_slice(bytes);
        self.machine.handle(Input::Data(conn, &mut stream), self.now);
        self.streams.insert(conn, stream);
        self.run();
    }

    pub fn events(&mut self) -> Vec<M::Event> {
        std::mem::take(&mut self.events)
    }

    /// Lets time pass, with a tick whenever the machine wants one. Returns how many it wanted.
    pub fn pass(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.wait.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Tick);
            ticks += 1;
            assert!(self.wait.is_none_or(|next| next > self.now), "the next wait is later than the tick");
            assert!(ticks < 10_000, "time stands still");
        }
        self.now = end;
        ticks
    }
}

/// A packet of the job server, from its arguments joined by `|`.
pub fn packet(kind: gearwheel::wire::PacketType, arguments: &str) -> Packet {
    let body: Vec<u8> = arguments.bytes().map(|byte| if byte == b'|' { 0 } else { byte }).collect();
    Packet::decode(kind, Bytes::from(body)).expect("well-formed")
}

pub fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
