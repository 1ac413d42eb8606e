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
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]

mod dice;
mod driver;
mod faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};
use gearwheel::{Address, CloseReason};

pub use self::dice::Dice;
pub use self::driver::Driver;
pub use self::faults::{Fault, Faults};

/// The number of a host, from 0 in the order they were added.
pub type HostId = usize;
/// One end of a connection.
pub type EndId = u64;

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

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

/// What is kept of all that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    Off,
    /// A hash of it: two runs are alike if theirs are.
    Hash,
    /// The text, and its hash.
    Whole,
}

/// What a link has at most that is not slow.
const LATENCY: u64 = 50 * MILLISECOND;
const NANOS_A_BYTE: u64 = 1000;

/// A window of some bytes opens behind so many, else a large payload costs an occurrence a byte.
const NARROW: u64 = 4096;
const OPENED: usize = 1024;

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of the bytes of a text.
struct Digest<'a>(&'a mut u64);

impl fmt::Write for Digest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self.0 = text.bytes().fold(*self.0, fnv);
        Ok(())
    }
}

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

/// A hash of some bytes.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().copied().fold(FNV_BASIS, fnv)
}

enum Mail {
    Host(Occurrence),
    Arrive(EndId, Bytes),
    Finish(EndId, CloseReason),
}

struct Letter {
    host: HostId,
    incarnation: u32,
    mail: Mail,
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
    /// When what is under way arrives, in order, and its place among the letters.
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    letters: Vec<Option<Letter>>,
    free: Vec<usize>,
    sequence: u64,
    hosts: Vec<Host>,
    ends: BTreeMap<EndId, End>,
    connections: BTreeMap<EndId, Connection>,
    next_end: EndId,
    pub dice: Dice,
    pub faults: Faults,
    keep: Trace,
    trace: String,
    digest: u64,
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
            due: BinaryHeap::new(),
            letters: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            hosts: Vec::new(),
            ends: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_end: 0,
            dice: Dice::new(seed),
            faults: Faults::default(),
            keep: Trace::Off,
            trace: String::new(),
            digest: FNV_BASIS,
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

    pub fn keep_trace(&mut self, keep: Trace) {
        self.keep = keep;
    }

    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// The hash of the trace.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Writes a line into the trace, if there is one.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        if self.keep == Trace::Off {
            return;
        }
        let (millis, nanos) = (self.now / MILLISECOND, self.now % MILLISECOND);
        let line = format_args!("{millis:>8}.{nanos:06} {line}");
        let _ = writeln!(Digest(&mut self.digest), "{line}");
        if self.keep == Trace::Whole {
            let _ = writeln!(self.trace, "{line}");
        }
    }

    /// The next occurrence until the time `until`; the clock moves with it.
    pub fn next(&mut self, until: u64) -> Option<(HostId, Occurrence)> {
        loop {
            let Reverse((at, _, place)) = *self.due.peek()?;
            if at > until {
                self.now = self.now.max(until);
                return None;
            }
            self.due.pop();
            self.free.push(place);
            let Some(Letter { host, incarnation, mail }) = self.letters[place].take() else { continue };
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
        let latency = if slow { self.dice.range(SECOND / 2, 2 * SECOND) } else { self.dice.skewed(LATENCY) };
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
        let nanos_a_byte = if slow { self.dice.range(1000, 100_000) } else { self.dice.skewed(NANOS_A_BYTE) };
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
        if *passed > NARROW {
            end.window = end.window.max(OPENED);
        }
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
            // Half of the window, as TCP does: who fills each byte that is free goes on byte by byte for ever.
            if peer_end.wants_room && peer_end.unread <= peer_end.window / 2 {
                peer_end.wants_room = false;
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
        self.end(host, power_loss);
    }

    /// Ends the process on `host` in order.
    pub fn exit(&mut self, host: HostId) {
        self.note(format_args!("host {host} exits"));
        self.end(host, false);
    }

    fn end(&mut self, host: HostId, power_loss: bool) {
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

    /// No more faults; connections that were to fail, and have not yet, will not, and those that are slow are so no longer.
    pub fn heal(&mut self) {
        self.note(format_args!("the net is healed"));
        self.faults.heal();
        for end in self.ends.values_mut() {
            end.latency = end.latency.min(LATENCY);
            end.nanos_a_byte = end.nanos_a_byte.min(NANOS_A_BYTE);
        }
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
        let place = self.free.pop().unwrap_or_else(|| {
            self.letters.push(None);
            self.letters.len() - 1
        });
        self.letters[place] = Some(Letter { host, incarnation, mail });
        self.due.push(Reverse((at, self.sequence, place)));
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
