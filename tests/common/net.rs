//! A virtual network on a virtual clock: hosts with machines, joined by connections that fail in every way that is known.
//!
//! [`Net`] is the wires and the time: seeded latency, bandwidth, full windows, bytes cut anywhere, and the [`Fault`]s.
//! [`Driver`] is what a runtime is to a machine: it does what [`Machine::poll`] says over the net, and holds the machine to
//! the laws of its contract all the while. Whoever owns both passes occurrences on:
//!
//! ```text
//! while let Some((host, occurrence)) = net.next(until) { drivers[host].occur(&mut net, occurrence); … }
//! ```
//!
//! All that happens follows from the seed: the same seed gives the same trace, byte for byte.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Debug, Write as _};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::{Address, CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

/// The number of a host, from 0 in the order they were added.
pub type HostId = usize;
/// One end of a connection.
pub type EndId = u64;

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.max(low) - low + 1)
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.range(0, count.max(1) as u64 - 1) as usize
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }

    /// Mostly small, now and then as large as `most`.
    pub fn skewed(&mut self, most: u64) -> u64 {
        let bits = 64 - most.leading_zeros();
        let shift = self.range(0, u64::from(bits)) as u32;
        self.range(0, most >> shift.min(63))
    }

    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|place| place.copy_from_slice(&self.next().to_le_bytes()));
        seed
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A connection attempt is refused.
    Refused,
    /// A connection attempt is never answered.
    BlackHole,
    /// A connection is reset behind some byte.
    Reset,
    /// A connection is ended in order behind some byte, as by a proxy.
    Ended,
    /// Behind some byte nothing passes any more, and nobody is told.
    HalfOpen,
    /// Behind some byte nothing passes in one direction.
    OneWay,
    /// A process dies: its peers are told.
    Crash,
    /// A computer dies: its peers are told nothing.
    PowerLoss,
    /// A host stands still for a while.
    Stall,
    /// A tick for no reason, time going back, or an input for a connection that is no more.
    Spurious,
    /// A link is slow: a second and more of latency, some bytes a millisecond.
    Slow,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::Refused,
        Self::BlackHole,
        Self::Reset,
        Self::Ended,
        Self::HalfOpen,
        Self::OneWay,
        Self::Crash,
        Self::PowerLoss,
        Self::Stall,
        Self::Spurious,
        Self::Slow,
    ];
}

/// How likely each fault is, in thousandths of the occasions for it, and how often it has been injected.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    chance: [u64; Fault::ALL.len()],
    pub injected: [u64; Fault::ALL.len()],
}

impl Faults {
    pub fn set(&mut self, fault: Fault, per_mille: u64) {
        self.chance[fault as usize] = per_mille;
    }

    pub fn chance(&self, fault: Fault) -> u64 {
        self.chance[fault as usize]
    }

    /// No more faults from now on.
    pub fn heal(&mut self) {
        self.chance = [0; Fault::ALL.len()];
    }

    pub fn count(&mut self, fault: Fault) {
        self.injected[fault as usize] += 1;
    }
}

/// What is told to a host.
#[derive(Debug)]
pub enum Occurrence {
    /// The time of its machine's `Wait` has come, if it still is the one of this number.
    Timer(u64),
    /// A connection attempt succeeded.
    Connected(EndId),
    /// A connection attempt failed.
    Refused(EndId, CloseReason),
    /// Somebody connects to it.
    Knock(EndId),
    Readable(EndId),
    Writable(EndId),
    /// Something that the owner of the net has put off until now.
    Errand(u64),
}

enum Mail {
    Host(Occurrence),
    Arrive(EndId, Bytes),
    Finish(EndId, CloseReason),
}

struct Host {
    address: Option<Address>,
    up: bool,
    incarnation: u32,
    stalled_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    Reset(u64),
    Ended(u64),
    HalfOpen(u64),
    /// From which end nothing comes through.
    OneWay(u64, EndId),
}

/// One end of a connection. Bytes that it has sent and its peer has not read count against its window.
struct End {
    host: HostId,
    peer: EndId,
    peer_host: HostId,
    connection: EndId,
    latency: u64,
    nanos_a_byte: u64,
    window: usize,
    unread: usize,
    last_arrival: u64,
    inbox: VecDeque<Bytes>,
    finished: Option<CloseReason>,
    wants_room: bool,
    told_readable: bool,
    tapped: bool,
}

struct Connection {
    fate: Fate,
    passed: u64,
}

/// The wires and the clock.
pub struct Net {
    now: u64,
    mail: BTreeMap<(u64, u64), (HostId, u32, Mail)>,
    sequence: u64,
    hosts: Vec<Host>,
    ends: BTreeMap<EndId, End>,
    connections: BTreeMap<EndId, Connection>,
    next_end: EndId,
    pub dice: Dice,
    pub faults: Faults,
    trace: Option<String>,
    /// What was handed to the net on tapped ends, in order.
    pub tapped: Vec<(HostId, EndId, Bytes)>,
    pub connects: u64,
    pub carried: u64,
}

/// The world outside the hosts, as the addressee of errands.
pub const WORLD: HostId = HostId::MAX;

impl Net {
    pub fn new(seed: u64) -> Self {
        Self {
            now: 0,
            mail: BTreeMap::new(),
            sequence: 0,
            hosts: Vec::new(),
            ends: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_end: 0,
            dice: Dice::new(seed),
            faults: Faults::default(),
            trace: None,
            tapped: Vec::new(),
            connects: 0,
            carried: 0,
        }
    }

    /// Adds a host, which listens at `address` if it has one.
    pub fn add_host(&mut self, address: Option<Address>) -> HostId {
        self.hosts.push(Host { address, up: true, incarnation: 0, stalled_until: 0 });
        self.hosts.len() - 1
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn keep_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    pub fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Writes a line into the trace, if one is kept.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>14.6} {line}", self.now as f64 / 1e6);
        }
    }

    /// The next occurrence until the time `until`; the clock moves with it.
    pub fn next(&mut self, until: u64) -> Option<(HostId, Occurrence)> {
        loop {
            let entry = self.mail.first_entry()?;
            if entry.key().0 > until {
                self.now = self.now.max(until);
                return None;
            }
            let ((at, _), (host, incarnation, mail)) = entry.remove_entry();
            self.now = self.now.max(at);
            let Some(addressee) = self.hosts.get(host) else {
                match mail {
                    Mail::Host(occurrence) => return Some((host, occurrence)),
                    _ => continue,
                }
            };
            if addressee.stalled_until > self.now && matches!(mail, Mail::Host(_)) {
                self.post(addressee.stalled_until, host, incarnation, mail);
                continue;
            }
            if let Mail::Arrive(end, bytes) = mail {
                self.arrive(end, bytes);
                continue;
            }
            if !addressee.up || incarnation != addressee.incarnation {
                continue;
            }
            match mail {
                Mail::Host(occurrence) => {
                    if let Occurrence::Readable(end) = &occurrence
                        && let Some(end) = self.ends.get_mut(end)
                    {
                        end.told_readable = false;
                    }
                    return Some((host, occurrence));
                }
                Mail::Finish(end, reason) => self.finish(end, reason),
                Mail::Arrive(..) => {}
            }
        }
    }

    /// Whether nothing will ever happen but what is due after `until`.
    pub fn is_quiet_until(&self, until: u64) -> bool {
        self.mail.first_key_value().is_none_or(|((at, _), _)| *at > until)
    }

    /// Puts off an errand of the owner.
    pub fn errand(&mut self, at: u64, number: u64) {
        self.post(at, WORLD, 0, Mail::Host(Occurrence::Errand(number)));
    }

    pub fn timer(&mut self, host: HostId, at: u64, number: u64) {
        self.tell(host, at, Occurrence::Timer(number));
    }

    /// Begins a connection; its end on this side.
    pub fn connect(&mut self, host: HostId, server: &Address) -> EndId {
        self.connects += 1;
        let (near, far) = (self.next_end, self.next_end + 1);
        self.next_end += 2;
        let slow = self.strikes(Fault::Slow);
        let latency = if slow { self.dice.range(SECOND / 2, 2 * SECOND) } else { self.dice.skewed(50 * MILLISECOND) };
        let listener = self.hosts.iter().position(|other| other.address.as_ref() == Some(server));
        if self.strikes(Fault::BlackHole) {
            self.note(format_args!("host {host} connects to {server}: end {near}, a black hole"));
            return near;
        }
        let Some(listener) = listener.filter(|&listener| self.hosts[listener].up) else {
            self.note(format_args!("host {host} connects to {server}: end {near}, nobody is there"));
            self.tell(host, self.now + latency, Occurrence::Refused(near, CloseReason::Refused));
            return near;
        };
        if self.strikes(Fault::Refused) {
            self.note(format_args!("host {host} connects to {server}: end {near}, refused"));
            self.tell(host, self.now + latency, Occurrence::Refused(near, CloseReason::Refused));
            return near;
        }
        let nanos_a_byte = if slow { self.dice.range(1000, 100_000) } else { self.dice.skewed(1000) };
        // Far ends have wide windows, else nothing would ever get through.
        let window = (self.dice.skewed(1 << 18) + 1 + latency / 10_000) as usize;
        let end = |host, peer, peer_host| End {
            host,
            peer,
            peer_host,
            connection: near,
            latency,
            nanos_a_byte,
            window,
            unread: 0,
            last_arrival: 0,
            inbox: VecDeque::new(),
            finished: None,
            wants_room: false,
            told_readable: false,
            tapped: false,
        };
        self.ends.insert(near, end(host, far, listener));
        self.ends.insert(far, end(listener, near, host));
        let fate = self.draw_fate(near, far);
        self.connections.insert(near, Connection { fate, passed: 0 });
        self.note(format_args!(
            "host {host} connects to {server}: ends {near} and {far}, latency {latency}, window {window}, {fate:?}"
        ));
        self.tell(listener, self.now + latency, Occurrence::Knock(far));
        self.tell(host, self.now + 2 * latency, Occurrence::Connected(near));
        near
    }

    /// Whether `end` is there to be connected, and not finished before it was.
    pub fn is_open(&self, end: EndId) -> bool {
        self.ends.contains_key(&end)
    }

    /// Copies what is sent on this end to [`tapped`](Self::tapped).
    pub fn tap(&mut self, end: EndId) {
        if let Some(end) = self.ends.get_mut(&end) {
            end.tapped = true;
        }
    }

    /// How many bytes may be sent on `end` now. None: the owner is told when there is room again.
    pub fn room(&mut self, id: EndId) -> usize {
        let Some(end) = self.ends.get_mut(&id) else { return 0 };
        let room = end.window.saturating_sub(end.unread);
        end.wants_room = room == 0;
        room
    }

    /// Sends bytes, at most as many as there is [`room`](Self::room) for.
    pub fn send(&mut self, id: EndId, bytes: Bytes) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        assert!(end.unread + bytes.len() <= end.window, "the driver writes more than there is room for");
        end.unread += bytes.len();
        self.carried += bytes.len() as u64;
        if end.tapped {
            self.tapped.push((end.host, id, bytes.clone()));
        }
        let (peer, connection) = (end.peer, end.connection);
        let Some(Connection { fate, passed }) = self.connections.get_mut(&connection) else { return };
        let before = *passed;
        *passed += bytes.len() as u64;
        let until = |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX);
        match *fate {
            Fate::Well => self.carry(id, bytes),
            Fate::Reset(at) | Fate::Ended(at) => {
                let through = bytes.slice(..until(at).min(bytes.len()));
                let cut = through.len() < bytes.len();
                self.carry(id, through);
                if cut {
                    let reason = if matches!(fate_of(self, connection), Fate::Reset(_)) {
                        CloseReason::Reset
                    } else {
                        CloseReason::Ended
                    };
                    self.cut(id, peer, reason);
                }
            }
            Fate::HalfOpen(at) => self.carry(id, bytes.slice(..until(at).min(bytes.len()))),
            Fate::OneWay(at, mute) if mute == id => self.carry(id, bytes.slice(..until(at).min(bytes.len()))),
            Fate::OneWay(..) => self.carry(id, bytes),
        }
    }

    /// Takes up to `most` bytes that have come. `Err`: none will come any more.
    pub fn read(&mut self, id: EndId, most: usize, into: &mut BytesMut) -> Result<usize, CloseReason> {
        let Some(end) = self.ends.get_mut(&id) else { return Err(CloseReason::Reset) };
        let mut taken = 0;
        while taken < most
            && let Some(first) = end.inbox.front_mut()
        {
            let piece = first.split_to(first.len().min(most - taken));
            taken += piece.len();
            into.extend_from_slice(&piece);
            if first.is_empty() {
                end.inbox.pop_front();
            }
        }
        if taken == 0 {
            return end.finished.clone().map_or(Ok(0), Err);
        }
        let (peer, peer_host, more) = (end.peer, end.peer_host, !end.inbox.is_empty() || end.finished.is_some());
        let latency = end.latency;
        if more {
            self.tell_readable(id, self.now);
        }
        if let Some(peer_end) = self.ends.get_mut(&peer) {
            peer_end.unread -= taken;
            if std::mem::take(&mut peer_end.wants_room) {
                self.tell(peer_host, self.now + latency, Occurrence::Writable(peer));
            }
        }
        Ok(taken)
    }

    /// Whoever read nothing as its machine would not have it is told again when it asks.
    pub fn look_again(&mut self, id: EndId) {
        if self.ends.get(&id).is_some_and(|end| !end.inbox.is_empty() || end.finished.is_some()) {
            self.tell_readable(id, self.now);
        }
    }

    /// Closes an end in order: what was sent arrives, then the peer is told.
    pub fn close(&mut self, id: EndId, reason: CloseReason) {
        let Some(end) = self.ends.remove(&id) else { return };
        let at = end.last_arrival.max(self.now + end.latency);
        let silent = match fate_of(self, end.connection) {
            Fate::HalfOpen(at) => self.passed(end.connection) >= at,
            Fate::OneWay(at, mute) => mute == id && self.passed(end.connection) >= at,
            _ => false,
        };
        self.note(format_args!("host {} closes end {id}", end.host));
        if !silent {
            self.finish_at(end.peer, at, reason);
        }
        if !self.ends.contains_key(&end.peer) {
            self.connections.remove(&end.connection);
        }
    }

    /// Ends the process on `host`. Its peers are told, unless power was lost.
    pub fn crash(&mut self, host: HostId, power_loss: bool) {
        self.faults.count(if power_loss { Fault::PowerLoss } else { Fault::Crash });
        self.note(format_args!("host {host} {}", if power_loss { "loses power" } else { "crashes" }));
        let gone = &mut self.hosts[host];
        gone.up = false;
        gone.incarnation += 1;
        gone.stalled_until = 0;
        let lost: Vec<_> = self.ends.iter().filter(|(_, end)| end.host == host).map(|(id, _)| *id).collect();
        for id in lost {
            if power_loss {
                self.ends.remove(&id);
            } else {
                let reason = if self.dice.chance(500) { CloseReason::Reset } else { CloseReason::Ended };
                self.close(id, reason);
            }
        }
    }

    /// Starts the host again.
    pub fn restart(&mut self, host: HostId) {
        self.note(format_args!("host {host} starts again"));
        self.hosts[host].up = true;
    }

    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host].up
    }

    /// Nothing is told to `host` for this long; what comes meanwhile is told behind it.
    pub fn stall(&mut self, host: HostId, nanos: u64) {
        self.faults.count(Fault::Stall);
        self.note(format_args!("host {host} stands still for {} ms", nanos / MILLISECOND));
        let until = self.now + nanos;
        self.hosts[host].stalled_until = self.hosts[host].stalled_until.max(until);
    }

    pub fn stalled_until(&self, host: HostId) -> u64 {
        self.hosts[host].stalled_until
    }

    /// Connections with an end that lives.
    pub fn open_ends(&self) -> usize {
        self.ends.len()
    }

    /// No more faults; connections that were to fail, and have not yet, will not.
    pub fn heal(&mut self) {
        self.note(format_args!("the net is healed"));
        self.faults.heal();
        for connection in self.connections.values_mut() {
            if let Fate::Reset(at) | Fate::Ended(at) | Fate::HalfOpen(at) | Fate::OneWay(at, _) = connection.fate
                && connection.passed < at
            {
                connection.fate = Fate::Well;
            }
        }
    }

    /// What TCP's keepalive does in the end: whoever holds a dead connection is told.
    pub fn keepalive(&mut self) {
        let dead = |end: &End| {
            !self.ends.contains_key(&end.peer)
                || matches!(fate_of(self, end.connection), Fate::HalfOpen(_) | Fate::OneWay(..))
        };
        let dead: Vec<_> = self.ends.iter().filter(|(_, end)| dead(end)).map(|(id, _)| *id).collect();
        for id in dead {
            self.finish_at(id, self.now, CloseReason::Reset);
        }
    }

    /// Whether a fault strikes now; it is counted if it does.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let chance = self.faults.chance(fault);
        let strikes = chance > 0 && self.dice.chance(chance);
        if strikes {
            self.faults.count(fault);
        }
        strikes
    }

    fn draw_fate(&mut self, near: EndId, far: EndId) -> Fate {
        let at = self.dice.skewed(1 << 14);
        if self.strikes(Fault::Reset) {
            Fate::Reset(at)
        } else if self.strikes(Fault::Ended) {
            Fate::Ended(at)
        } else if self.strikes(Fault::HalfOpen) {
            Fate::HalfOpen(at)
        } else if self.strikes(Fault::OneWay) {
            Fate::OneWay(at, if self.dice.chance(500) { near } else { far })
        } else {
            Fate::Well
        }
    }

    fn passed(&self, connection: EndId) -> u64 {
        self.connections.get(&connection).map_or(0, |connection| connection.passed)
    }

    fn post(&mut self, at: u64, host: HostId, incarnation: u32, mail: Mail) {
        self.sequence += 1;
        self.mail.insert((at, self.sequence), (host, incarnation, mail));
    }

    fn tell(&mut self, host: HostId, at: u64, occurrence: Occurrence) {
        let incarnation = self.hosts[host].incarnation;
        self.post(at, host, incarnation, Mail::Host(occurrence));
    }

    fn tell_readable(&mut self, id: EndId, at: u64) {
        if let Some(end) = self.ends.get_mut(&id)
            && !std::mem::replace(&mut end.told_readable, true)
        {
            let host = end.host;
            self.tell(host, at, Occurrence::Readable(id));
        }
    }

    /// Cuts bytes into pieces that arrive one after the other.
    fn carry(&mut self, id: EndId, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let length = match self.dice.below(8) {
                0 => 1,
                1 => self.dice.below(32) + 1,
                2..=4 => self.dice.below(bytes.len()) + 1,
                _ => bytes.len(),
            };
            let piece = bytes.split_to(length.min(bytes.len()));
            let jitter = self.dice.skewed(MILLISECOND);
            let Some(end) = self.ends.get_mut(&id) else { return };
            let at = end.last_arrival.max(self.now + end.latency + jitter) + end.nanos_a_byte * piece.len() as u64;
            end.last_arrival = at;
            let (peer, peer_host) = (end.peer, end.peer_host);
            let incarnation = self.hosts[peer_host].incarnation;
            self.post(at, peer_host, incarnation, Mail::Arrive(peer, piece));
        }
    }

    fn arrive(&mut self, id: EndId, bytes: Bytes) {
        match self.ends.get_mut(&id) {
            Some(end) if end.finished.is_none() => {
                end.inbox.push_back(bytes);
                self.tell_readable(id, self.now);
            }
            Some(_) => {}
            None => self.answer_with_reset(id),
        }
    }

    /// Bytes for a connection that its host no longer knows: the sender is told, if the host can speak.
    fn answer_with_reset(&mut self, id: EndId) {
        let sender = self.ends.iter().find(|(_, end)| end.peer == id).map(|(sender, end)| (*sender, end));
        if let Some((sender, end)) = sender
            && self.hosts[end.peer_host].up
        {
            let at = self.now + end.latency;
            self.finish_at(sender, at, CloseReason::Reset);
        }
    }

    fn finish_at(&mut self, id: EndId, at: u64, reason: CloseReason) {
        if let Some(end) = self.ends.get(&id) {
            let host = end.host;
            let incarnation = self.hosts[host].incarnation;
            self.post(at, host, incarnation, Mail::Finish(id, reason));
        }
    }

    fn finish(&mut self, id: EndId, reason: CloseReason) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.finished.is_none() {
            if reason == CloseReason::Reset && self.dice.chance(500) {
                // A reset may overtake what has not been read.
                end.inbox.clear();
            }
            end.finished = Some(reason);
            self.tell_readable(id, self.now);
        }
    }

    /// A fate has come: both ends are told.
    fn cut(&mut self, id: EndId, peer: EndId, reason: CloseReason) {
        let (latency, last) = self.ends.get(&id).map_or((0, 0), |end| (end.latency, end.last_arrival));
        let jitter = self.dice.skewed(10 * MILLISECOND);
        self.note(format_args!("ends {id} and {peer} are cut: {reason:?}"));
        self.finish_at(peer, last.max(self.now + latency), reason.clone());
        self.finish_at(id, self.now + jitter, reason);
    }
}

fn fate_of(net: &Net, connection: EndId) -> Fate {
    net.connections.get(&connection).map_or(Fate::Well, |connection| connection.fate)
}

struct Socket {
    end: EndId,
    up: bool,
    buffer: BytesMut,
    /// The machine has said that it has bytes, and they have not all been taken.
    writing: bool,
}

/// What a runtime is to a machine, and the judge of its contract.
pub struct Driver<M: Machine> {
    pub host: HostId,
    pub machine: M,
    /// What the machine has told its user, for the owner to take.
    pub events: VecDeque<M::Event>,
    sockets: BTreeMap<ConnId, Socket>,
    conns: BTreeMap<EndId, ConnId>,
    /// Each connection there has been, for no id may come twice.
    seen: BTreeSet<ConnId>,
    wait: Option<Instant>,
    timer: u64,
    armed_for: Option<Instant>,
    /// How far the host's clock is ahead of the net's.
    epoch: u64,
    tap: bool,
    pub inputs: u64,
    pub outputs: u64,
}

/// How many outputs may follow from one input beside those for the packets it brings.
const OUTPUTS: u64 = 100_000;

impl<M: Machine<Event: Debug>> Driver<M> {
    pub fn new(net: &mut Net, host: HostId, machine: M) -> Self {
        let epoch = net.dice.skewed(1 << 50);
        let mut driver = Self {
            host,
            machine,
            events: VecDeque::new(),
            sockets: BTreeMap::new(),
            conns: BTreeMap::new(),
            seen: BTreeSet::new(),
            wait: None,
            timer: 0,
            armed_for: None,
            epoch,
            tap: false,
            inputs: 0,
            outputs: 0,
        };
        driver.settle(net, false);
        driver
    }

    /// Copies what is sent to [`Net::tapped`].
    pub fn tap(&mut self) {
        self.tap = true;
    }

    /// The time on the host's clock.
    pub fn now(&self, net: &Net) -> Instant {
        Instant::from_epoch(Duration::from_nanos(net.now() + self.epoch))
    }

    /// When the machine wants to be told the time, as the net counts it.
    pub fn wait(&self) -> Option<u64> {
        self.wait.map(|at| (at.since_epoch().as_nanos() as u64).saturating_sub(self.epoch))
    }

    pub fn connections(&self) -> usize {
        self.sockets.len()
    }

    /// Does something to the machine, then all that comes of it.
    pub fn act<T>(&mut self, net: &mut Net, act: impl FnOnce(&mut M, Instant) -> T) -> T {
        self.inputs += 1;
        let now = self.now(net);
        let result = act(&mut self.machine, now);
        self.settle(net, false);
        result
    }

    /// Passes an occurrence on to the machine, then does all that comes of it.
    pub fn occur(&mut self, net: &mut Net, occurrence: Occurrence) {
        let now = self.now(net);
        self.inputs += 1;
        let mut ticked = false;
        match occurrence {
            Occurrence::Timer(number) => {
                if number != self.timer {
                    return;
                }
                self.armed_for = None;
                ticked = true;
                net.note(format_args!("host {} ticks", self.host));
                self.machine.handle(Input::Tick, now);
            }
            Occurrence::Connected(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    if net.is_open(end) {
                        net.note(format_args!("host {} is connected: {conn:?}", self.host));
                        if let Some(socket) = self.sockets.get_mut(&conn) {
                            socket.up = true;
                        }
                        self.machine.handle(Input::Connected(conn), now);
                        net.look_again(end);
                    } else {
                        self.lost(net, conn, CloseReason::Reset);
                    }
                }
            }
            Occurrence::Refused(end, reason) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.lost(net, conn, reason);
                }
            }
            Occurrence::Knock(end) => self.knock(net, end, now),
            Occurrence::Readable(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.read(net, conn);
                }
            }
            Occurrence::Writable(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.write(net, conn);
                }
            }
            Occurrence::Errand(_) => {}
        }
        self.settle(net, ticked);
        if net.strikes(Fault::Spurious) {
            self.disturb(net);
        }
    }

    fn knock(&mut self, net: &mut Net, end: EndId, now: Instant) {
        if !net.is_open(end) {
            return;
        }
        match self.machine.accept(Peer::new("10.0.0.1", true), now) {
            Some(conn) => {
                net.note(format_args!("host {} accepts end {end} as {conn:?}", self.host));
                self.open(conn, end, true);
                net.look_again(end);
            }
            None => net.close(end, CloseReason::Reset),
        }
    }

    fn open(&mut self, conn: ConnId, end: EndId, up: bool) {
        assert!(self.seen.insert(conn), "{conn:?} is used again");
        assert!(
            self.sockets.keys().all(|other| other.index() != conn.index()),
            "{conn:?} has the index of a connection that lives"
        );
        self.sockets.insert(conn, Socket { end, up, buffer: BytesMut::new(), writing: false });
        self.conns.insert(end, conn);
    }

    fn forget(&mut self, conn: ConnId) -> Option<EndId> {
        let socket = self.sockets.remove(&conn)?;
        self.conns.remove(&socket.end);
        Some(socket.end)
    }

    /// The connection is gone, or was never made.
    fn lost(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason) {
        net.note(format_args!("host {} loses {conn:?}: {reason:?}", self.host));
        if let Some(end) = self.forget(conn) {
            net.close(end, CloseReason::Reset);
        }
        let now = self.now(net);
        self.machine.handle(Input::Closed(conn, reason), now);
    }

    /// One read, as much of it as luck will have.
    fn read(&mut self, net: &mut Net, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if !socket.up || !self.machine.wants_read(conn) {
            return;
        }
        let most = if net.dice.chance(300) { net.dice.skewed(64) as usize + 1 } else { 64 << 10 };
        match net.read(socket.end, most, &mut socket.buffer) {
            Ok(0) => {}
            Ok(count) => {
                net.note(format_args!("host {} gets {count} bytes on {conn:?}", self.host));
                self.hand_in(net, conn);
            }
            Err(reason) => self.lost(net, conn, reason),
        }
    }

    /// Gives the machine what the buffer holds, and keeps what it leaves.
    fn hand_in(&mut self, net: &mut Net, conn: ConnId) {
        let now = self.now(net);
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        let mut buffer = std::mem::take(&mut socket.buffer);
        self.machine.handle(Input::Data(conn, &mut buffer), now);
        if let Some(socket) = self.sockets.get_mut(&conn) {
            socket.buffer = if buffer.is_empty() { BytesMut::new() } else { buffer };
        }
    }

    /// Writes what there is room for, cut anywhere.
    fn write(&mut self, net: &mut Net, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        loop {
            let mut outgoing = self.machine.outgoing(conn);
            if outgoing.is_empty() {
                socket.writing = false;
                return;
            }
            let room = net.room(socket.end);
            if room == 0 {
                return;
            }
            let most = if net.dice.chance(200) { net.dice.below(room.min(64)) + 1 } else { room };
            let mut bytes = BytesMut::new();
            if net.dice.chance(500) {
                for chunk in outgoing.chunks() {
                    assert!(!chunk.is_empty(), "an empty chunk");
                    bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
                }
            } else {
                let mut list = Vec::new();
                outgoing.share(4, &mut list);
                for chunk in list {
                    bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
                }
            }
            assert!(!bytes.is_empty(), "bytes wait, but no chunk has any");
            outgoing.advance(bytes.len());
            net.note(format_args!(
                "host {} writes {} bytes on {conn:?}: {:016x}",
                self.host,
                bytes.len(),
                digest(&bytes)
            ));
            net.send(socket.end, bytes.freeze());
        }
    }

    /// Does what the machine says until it waits, and sees that it keeps its contract.
    fn settle(&mut self, net: &mut Net, ticked: bool) {
        let mut count = 0;
        let wait = loop {
            count += 1;
            assert!(count < OUTPUTS, "the machine never waits");
            match self.machine.poll() {
                Output::Connect { conn, server, within } => {
                    assert!(within > Duration::ZERO);
                    let end = net.connect(self.host, &server);
                    if self.tap {
                        net.tap(end);
                    }
                    net.note(format_args!("host {} dials {conn:?}: {server}", self.host));
                    self.open(conn, end, false);
                }
                Output::Transmit(conn) => {
                    let socket = self.sockets.get_mut(&conn).expect("Transmit for a connection that is none");
                    assert!(socket.up, "Transmit before {conn:?} stands");
                    assert!(!socket.writing, "Transmit is said twice for {conn:?}");
                    socket.writing = true;
                    self.write(net, conn);
                }
                Output::Resume(conn) => {
                    assert!(self.sockets.contains_key(&conn), "Resume for a connection that is none");
                    assert!(self.machine.wants_read(conn), "Resume, but no wish to read {conn:?}");
                    net.note(format_args!("host {} resumes {conn:?}", self.host));
                    self.hand_in(net, conn);
                    if let Some(socket) = self.sockets.get(&conn) {
                        net.look_again(socket.end);
                    }
                }
                Output::Disconnect(conn) => {
                    let end = self.forget(conn).expect("Disconnect for a connection that is none");
                    net.note(format_args!("host {} hangs up {conn:?}", self.host));
                    net.close(end, CloseReason::Ended);
                    assert!(self.machine.outgoing(conn).is_empty(), "bytes for {conn:?} behind its Disconnect");
                }
                Output::Event(event) => {
                    net.note(format_args!("host {} says {event:?}", self.host));
                    self.events.push_back(event);
                }
                Output::Wait(at) => break at,
            }
        };
        self.outputs += count;
        self.judge(wait, ticked, self.now(net));
        self.arm(net, wait);
    }

    fn arm(&mut self, net: &mut Net, wait: Option<Instant>) {
        self.wait = wait;
        if self.wait != self.armed_for {
            self.timer += 1;
            self.armed_for = self.wait;
            if let Some(at) = self.wait() {
                net.timer(self.host, at.max(net.now()), self.timer);
            }
        }
    }

    fn judge(&mut self, wait: Option<Instant>, ticked: bool, now: Instant) {
        assert!(
            !(ticked && wait.is_some_and(|at| at <= now)),
            "a busy loop: after a tick at {now:?} the next is due at {wait:?}"
        );
        match self.machine.poll() {
            Output::Wait(again) => assert_eq!(again, wait, "Wait changes without a cause"),
            other => panic!("Wait, and then {other:?}"),
        }
        for (conn, socket) in &self.sockets {
            let waiting = !self.machine.outgoing(*conn).is_empty();
            assert!(!waiting || socket.writing, "bytes wait on {conn:?} of which the driver was not told");
        }
    }

    /// What must do nothing: a tick before its time, time that goes back, inputs for connections that are no more.
    fn disturb(&mut self, net: &mut Net) {
        let now = self.now(net);
        if self.wait.is_some_and(|at| at <= now) {
            return;
        }
        let stale = self.seen.iter().copied().find(|conn| !self.sockets.contains_key(conn));
        let earlier = Instant::from_epoch(now.since_epoch().saturating_sub(Duration::from_secs(net.dice.range(0, 5))));
        let way = net.dice.below(6);
        net.note(format_args!("host {} is disturbed, way {way}", self.host));
        match (way, stale) {
            (0, _) => self.machine.handle(Input::Tick, earlier),
            (1, Some(conn)) => self.machine.handle(Input::Connected(conn), now),
            (2, Some(conn)) => self.machine.handle(Input::Closed(conn, CloseReason::Reset), now),
            (3, Some(conn)) => {
                let mut bytes = BytesMut::from(&b"\0RES\0\0\0\x08\0\0\0\x01x"[..]);
                self.machine.handle(Input::Data(conn, &mut bytes), now);
            }
            (4, Some(conn)) => {
                self.machine.outgoing(conn).advance(100);
                let _ = self.machine.wants_read(conn);
            }
            _ => self.machine.handle(Input::Tick, now),
        }
        match self.machine.poll() {
            Output::Wait(at) => {
                // A tick may show that an upload moves, and so that a reply need not be here yet.
                let later = at.is_none_or(|at| self.wait.is_some_and(|before| at >= before));
                assert!(later, "an input that means nothing moved the next deadline from {:?} to {at:?}", self.wait);
                self.arm(net, at);
            }
            Output::Transmit(conn) => {
                let bytes: Vec<u8> = self.machine.outgoing(conn).chunks().flatten().copied().collect();
                panic!("an input that means nothing made the machine send {}", bytes.escape_ascii());
            }
            other => panic!("an input that means nothing made the machine say {other:?}"),
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
