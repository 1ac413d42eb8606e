//! A job server and its peers in memory, on a clock that the test moves. Packets are written and read as lines: the name of
//! the type, a blank, the arguments joined by `|`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::server::{Config, Event, Server};
use gearwheel::wire::{Magic, PACKETS, Packet, PacketType, split};
use gearwheel::{CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

pub(crate) struct Net {
    pub(crate) server: Server,
    pub(crate) now: Instant,
    pub(crate) wait: Option<Instant>,
    pub(crate) events: Vec<Event>,
    /// Connections whose peer takes no bytes.
    pub(crate) deaf: BTreeSet<ConnId>,
    pub(crate) disconnected: Vec<ConnId>,
    pub(crate) resumed: Vec<ConnId>,
    pub(crate) transmits: Vec<ConnId>,
    taken: BTreeMap<ConnId, BytesMut>,
    streams: BTreeMap<ConnId, BytesMut>,
}

pub(crate) const UNIX: Duration = Duration::from_secs(1_800_000_000);

pub(crate) fn config() -> Config {
    let mut config = Config::new([5; 32]);
    config.handle_prefix = "H:lap".into();
    config
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A request from its line.
pub(crate) fn request(line: &str) -> Vec<u8> {
    let (name, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let kind = PACKETS.iter().find(|info| info.name == name).unwrap_or_else(|| panic!("no packet {name}")).kind;
    raw(kind.number(), arguments.replace('|', "\0").as_bytes())
}

/// A request from its number and body.
pub(crate) fn raw(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Magic::Request.bytes().to_vec();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

impl Net {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        let now = Instant::from_epoch(secs(500));
        Self {
            server: Server::new(config, now, UNIX).expect("valid"),
            now,
            wait: None,
            events: Vec::new(),
            deaf: BTreeSet::new(),
            disconnected: Vec::new(),
            resumed: Vec::new(),
            transmits: Vec::new(),
            taken: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        self.connect_from(Peer::new("127.0.0.1", true)).expect("accepted")
    }

    pub(crate) fn connect_from(&mut self, peer: Peer<'_>) -> Option<ConnId> {
        let conn = self.server.accept(peer, self.now);
        self.run();
        conn
    }

    /// A connection that has sent these lines.
    pub(crate) fn peer(&mut self, lines: &[&str]) -> ConnId {
        let conn = self.connect();
        self.send(conn, lines);
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnId, lines: &[&str]) {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| request(line)).collect();
        self.send_bytes(conn, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut stream = self.streams.remove(&conn).unwrap_or_default();
        stream.extend_from_slice(bytes);
        self.server.handle(Input::Data(conn, &mut stream), self.now);
        self.streams.insert(conn, stream);
        self.run();
    }

    /// Sends lines and says what came back on the same connection.
    pub(crate) fn ask(&mut self, conn: ConnId, lines: &[&str]) -> Vec<String> {
        self.send(conn, lines);
        self.take(conn)
    }

    /// Sends a text and says what came back.
    pub(crate) fn text(&mut self, conn: ConnId, text: &str) -> String {
        self.send_bytes(conn, text.as_bytes());
        self.take_text(conn)
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.server.handle(Input::Closed(conn, CloseReason::Ended), self.now);
        self.run();
    }

    pub(crate) fn run(&mut self) {
        loop {
            match self.server.poll() {
                Output::Connect { .. } => panic!("a server does not connect"),
                Output::Transmit(conn) => {
                    assert!(!self.server.outgoing(conn).is_empty(), "there is something to transmit");
                    self.transmits.push(conn);
                    if !self.deaf.contains(&conn) {
                        self.write(conn, usize::MAX);
                    }
                }
                Output::Resume(conn) => {
                    self.resumed.push(conn);
                    assert!(self.server.wants_read(conn));
                    let mut stream = self.streams.remove(&conn).unwrap_or_default();
                    self.server.handle(Input::Data(conn, &mut stream), self.now);
                    self.streams.insert(conn, stream);
                }
                Output::Disconnect(conn) => self.disconnected.push(conn),
                Output::Event(event) => self.events.push(event),
                Output::Wait(at) => {
                    self.wait = at;
                    break;
                }
            }
        }
        self.server.audit();
    }

    /// The peer takes up to `most` bytes.
    pub(crate) fn write(&mut self, conn: ConnId, most: usize) -> usize {
        let mut outgoing = self.server.outgoing(conn);
        let bytes: Vec<u8> = outgoing.chunks().flatten().copied().take(most).collect();
        outgoing.advance(bytes.len());
        self.taken.entry(conn).or_default().extend_from_slice(&bytes);
        bytes.len()
    }

    pub(crate) fn waiting(&mut self, conn: ConnId) -> usize {
        self.server.outgoing(conn).len()
    }

    /// What the peer got since the last call.
    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<String> {
        let bytes = self.taken.entry(conn).or_default();
        let mut lines = Vec::new();
        while let Some(frame) = split(bytes, usize::MAX).expect("framed") {
            assert_eq!(frame.magic, Magic::Response);
            let packet = Packet::decode(frame.kind, frame.body.clone()).expect("decodable");
            let name = packet.kind().name().expect("known");
            let arguments = String::from_utf8_lossy(&frame.body).replace('\0', "|");
            lines.push(if arguments.is_empty() { name.to_owned() } else { format!("{name} {arguments}") });
        }
        assert!(bytes.is_empty(), "a packet is whole");
        lines
    }

    pub(crate) fn take_bytes(&mut self, conn: ConnId) -> Bytes {
        self.taken.remove(&conn).unwrap_or_default().freeze()
    }

    pub(crate) fn take_text(&mut self, conn: ConnId) -> String {
        String::from_utf8_lossy(&self.take_bytes(conn)).into_owned()
    }

    /// Lets time pass, with a tick whenever the server wants one. Says how many it wanted.
    pub(crate) fn pass(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.wait.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle(Input::Tick, self.now);
            self.run();
            ticks += 1;
            assert!(self.wait.is_none_or(|next| next > self.now), "the next wait is later than the tick");
        }
        self.now = end;
        ticks
    }

    /// Why a connection was disconnected, if it was.
    pub(crate) fn reason(&self, conn: ConnId) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Disconnected { conn: other, reason } if *other == conn => Some(reason.clone()),
            _ => None,
        })
    }

    /// Whether nothing is left of any job, worker or time limit.
    pub(crate) fn is_empty(&self) -> bool {
        let counters = self.server.counters();
        (counters.jobs, counters.running, counters.waiting, counters.abilities, counters.job_bytes) == (0, 0, 0, 0, 0)
            && self.wait.is_none()
    }
}

/// The name of a packet type by its number, for packets that a test makes at random.
pub(crate) fn kind(number: u32) -> PacketType {
    PacketType::new(number)
}
