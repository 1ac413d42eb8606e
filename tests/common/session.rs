//! A machine with connections that always succeed, told the same things in different [`Style`]s: what it says must not
//! depend on how its input is cut, how its output is taken, or what else is said that means nothing.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use bytes::BytesMut;
use gearwheel::{Batch, CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

use super::net::Dice;

/// How a machine is told things.
#[derive(Clone, Debug, Default)]
pub struct Style {
    pub seed: u64,
    /// Input comes in pieces of any size.
    pub split: bool,
    /// Output is taken in parts of any size, some of it much later.
    pub partial: bool,
    /// Ticks for no reason, time that stands still or goes back, inputs for connections that are no more.
    pub disturb: bool,
}

pub struct Session<M: Machine> {
    pub machine: M,
    pub now: Instant,
    /// In the order in which they came.
    pub conns: Vec<ConnId>,
    gone: Vec<ConnId>,
    buffers: BTreeMap<ConnId, BytesMut>,
    /// What has been taken from each connection.
    pub written: BTreeMap<ConnId, Vec<u8>>,
    /// What the machine has said, for people and for comparison.
    pub said: Vec<String>,
    /// Events that nobody has looked at.
    pub events: Vec<M::Event>,
    pub wait: Option<Instant>,
    style: Style,
    dice: Dice,
}

impl<M: Machine<Event: Debug + Clone>> Session<M> {
    pub fn new(machine: M, style: &Style) -> Self {
        let mut session = Self {
            machine,
            now: Instant::from_epoch(Duration::from_secs(1000)),
            conns: Vec::new(),
            gone: Vec::new(),
            buffers: BTreeMap::new(),
            written: BTreeMap::new(),
            said: Vec::new(),
            events: Vec::new(),
            wait: None,
            style: style.clone(),
            dice: Dice::new(style.seed),
        };
        session.settle(false);
        session
    }

    /// Does something to the machine.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut M, Instant) -> T) -> T {
        let result = act(&mut self.machine, self.now);
        self.settle(false);
        result
    }

    /// A peer connects.
    pub fn knock(&mut self) -> Option<ConnId> {
        let conn = self.machine.accept(Peer::new("10.0.0.1", true), self.now)?;
        self.conns.push(conn);
        self.settle(false);
        Some(conn)
    }

    /// Bytes come on a connection.
    pub fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length =
                if self.style.split { self.dice.skewed(rest.len() as u64).max(1) as usize } else { rest.len() };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            if !self.conns.contains(&conn) {
                return;
            }
            self.buffers.entry(conn).or_default().extend_from_slice(piece);
            self.hand_in(conn);
            self.settle(false);
        }
    }

    /// A connection ends.
    pub fn end(&mut self, conn: ConnId, reason: CloseReason) {
        self.flush();
        if let Some(place) = self.conns.iter().position(|other| *other == conn) {
            self.conns.remove(place);
            self.gone.push(conn);
            self.machine.handle(Input::Closed(conn, reason), self.now);
            self.settle(false);
        }
    }

    /// Time passes, with a tick whenever the machine wants one.
    pub fn pass(&mut self, time: Duration) {
        self.flush();
        // How far a job has come depends on what was taken, so nothing may be left when time decides.
        let partial = std::mem::take(&mut self.style.partial);
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.wait.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle(Input::Tick, self.now);
            self.settle(true);
            ticks += 1;
            assert!(ticks < 10_000, "time stands still");
        }
        self.now = end;
        self.style.partial = partial;
    }

    /// Takes all that is to be written.
    pub fn flush(&mut self) {
        for conn in self.conns.clone() {
            while self.take(conn, usize::MAX) {}
        }
        self.settle(false);
    }

    fn hand_in(&mut self, conn: ConnId) {
        if !self.machine.wants_read(conn) {
            return;
        }
        let mut buffer = self.buffers.remove(&conn).unwrap_or_default();
        self.machine.handle(Input::Data(conn, &mut buffer), self.now);
        self.buffers.insert(conn, buffer);
    }

    /// Takes up to `most` bytes of what waits; whether anything waits still.
    fn take(&mut self, conn: ConnId, most: usize) -> bool {
        let shared = self.style.partial && self.dice.chance(500);
        let mut outgoing = self.machine.outgoing(conn);
        let mut bytes: Vec<u8> = if shared {
            let mut batch = Batch::default();
            outgoing.share(3, &mut batch);
            batch.chunks().flatten().copied().collect()
        } else {
            outgoing.chunks().flatten().copied().collect()
        };
        bytes.truncate(most);
        outgoing.advance(bytes.len());
        let left = !outgoing.is_empty();
        self.written.entry(conn).or_default().extend(bytes);
        left
    }

    fn settle(&mut self, ticked: bool) {
        let mut turns = 0;
        let wait = loop {
            turns += 1;
            assert!(turns < 100_000, "the machine never waits");
            match self.machine.poll() {
                Output::Connect { conn, server, .. } => {
                    self.said.push(format!("connect {server}"));
                    self.conns.push(conn);
                    self.machine.handle(Input::Connected(conn), self.now);
                }
                Output::Transmit(conn) => {
                    if self.style.partial {
                        let mut parts = self.dice.below(4);
                        while parts > 0 && self.take_some(conn) {
                            parts -= 1;
                        }
                    } else {
                        while self.take(conn, usize::MAX) {}
                    }
                }
                Output::Resume(conn) => self.hand_in(conn),
                Output::Disconnect(conn) => {
                    self.said.push(format!("disconnect {conn:?}"));
                    self.conns.retain(|other| *other != conn);
                    self.gone.push(conn);
                    self.buffers.remove(&conn);
                }
                Output::Event(event) => {
                    self.said.push(format!("{event:?}"));
                    self.events.push(event);
                }
                Output::Wait(at) => break at,
            }
        };
        assert!(
            !(ticked && wait.is_some_and(|at| at <= self.now)),
            "after a tick at {:?} the next at {wait:?}",
            self.now
        );
        self.wait = wait;
        // A tick while an upload is under way shows whether it moves, and so means something.
        let uploading = self.conns.iter().any(|conn| !self.machine.outgoing(*conn).is_empty());
        if self.style.disturb && !uploading && self.wait.is_none_or(|at| at > self.now) {
            self.disturb();
        }
    }

    fn take_some(&mut self, conn: ConnId) -> bool {
        let most = self.dice.skewed(5000) as usize + 1;
        self.take(conn, most)
    }

    fn disturb(&mut self) {
        let (now, earlier) = (self.now, Instant::from_epoch(self.now.since_epoch() / 2));
        self.machine.handle(Input::Tick, now);
        self.quiet("a tick for no reason");
        self.machine.handle(Input::Tick, earlier);
        self.quiet("a tick in the past");
        if let Some(conn) = self.gone.first().copied() {
            let mut bytes = BytesMut::from(&b"\0RES\0\0\0\x0d\0\0\0\x05H:1\0x"[..]);
            self.machine.handle(Input::Data(conn, &mut bytes), now);
            self.quiet("data of a connection that is no more");
            self.machine.handle(Input::Connected(conn), now);
            self.quiet("Connected for a connection that is no more");
            self.machine.handle(Input::Closed(conn, CloseReason::Reset), now);
            self.quiet("Closed for a connection that is no more");
            self.machine.outgoing(conn).advance(7);
            assert!(self.machine.outgoing(conn).is_empty());
            let _ = self.machine.wants_read(conn);
            self.quiet("questions about a connection that is no more");
        }
    }

    fn quiet(&mut self, what: &str) {
        match self.machine.poll() {
            Output::Wait(at) => {
                assert!(
                    at.is_none_or(|at| self.wait.is_some_and(|before| at >= before)),
                    "{what} moved the next deadline"
                );
                self.wait = at;
            }
            other => panic!("{what} made the machine say {other:?}"),
        }
    }
}
