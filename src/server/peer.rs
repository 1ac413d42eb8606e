//! The connections of a server, and what is queued for its driver.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Event;
use super::packets::Grab;
use super::table::NONE;
use crate::machine::{CloseReason, ConnId, Output, Peer as Knocking};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::trace::{self, Span};
use crate::wire::{Magic, PacketType};

/// More bytes than this do not wait for others.
const MOST_GATHERED: usize = 16 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) conn: ConnId,
    pub(super) outbox: Outbox,
    pub(super) span: Span,
    pub(super) address: Box<str>,
    pub(super) loopback: bool,
    /// How many were accepted before it.
    pub(super) serial: u64,
    /// Its SET_CLIENT_ID.
    pub(super) id: Box<[u8]>,
    pub(super) exceptions: bool,
    /// The function that it named last.
    pub(super) last_function: u32,
    /// When it last sent something.
    pub(super) heard: Instant,
    /// Bytes of a packet that has begun to come.
    pub(super) partial: usize,
    /// Its entry among the timers: never later than when it is to be looked at.
    pub(super) timer: Option<Instant>,
    /// Why it is closed, once its last bytes are taken.
    pub(super) closing: Option<CloseReason>,
    /// Set while it has too much to read: when it is looked at next, and its [`progress`](Self::progress) before.
    pub(super) congested: Option<(Instant, u64)>,
    /// Bytes of packets that were read from it since it is congested. They count as far as the limit: who only sends does
    /// not keep those waiting for ever whom he holds up.
    came: usize,
    /// Those who are not read until this one has taken enough.
    pub(super) holding_up: Vec<u32>,
    /// Whether it is not read until it is told to.
    pub(super) paused: bool,
    /// Whether it is to be looked at in the next poll.
    noticed: bool,
    /// Its grab, which waits for a job.
    pub(super) grab: Option<Grab>,
    /// Whether somebody waited for the job that it has ended since its last grab.
    pub(super) told: bool,
    /// Whether it took less time than an answer may wait for its last job that somebody waited for.
    pub(super) quick: bool,
    /// How often its grab has waited in vain, and how many grabs do not wait therefore.
    pub(super) doubt: u8,
    pub(super) in_doubt: u8,
    /// Set while what is in its outbox waits for more, without the driver's being told: how many results that are.
    gathered: Option<u32>,
    /// Until when that may wait though there is nothing to be read.
    gathers_until: Option<Instant>,
    /// Whether it is among those that gather, and whether something was gathered since the last tick.
    gathers: bool,
    gathered_anew: bool,
    /// When it got its last result.
    pub(super) answered: Instant,
    /// How much of its bytes must have been taken for its last handle to be on its way, and whether it submitted that job
    /// before the handle of the one before was.
    handle_begins: u64,
    runs_ahead: bool,
}

/// How a packet waits for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gather {
    /// So many results leave together.
    pub(super) most: u32,
    /// Until when the first of them waits for more to come. `None`: only for what is there to be read.
    pub(super) until: Option<Instant>,
}

impl Gather {
    /// How many results wait when so many are added to those that did before. `None`: there are enough.
    fn after(self, before: u32, results: u32) -> Option<u32> {
        Some(before + results).filter(|results| *results < self.most)
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

#[derive(Debug)]
pub(super) struct Peers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    accepted: u64,
    max_outgoing: usize,
    pub(super) outputs: VecDeque<Output<Event>>,
    /// Those whose outgoing bytes were looked at, though something waits for them to be taken.
    noticed: Vec<u32>,
    /// Those to be resumed once the outputs have been polled.
    pub(super) paused: Vec<u32>,
    /// Those that have just got too much to read.
    pub(super) overfull: Vec<u32>,
    /// One that has too much to read and was sent something.
    pub(super) hit: Option<u32>,
    /// Those whose results wait for others. The driver may have been told since.
    gathering: Vec<ConnId>,
    /// Of how many it has not been told.
    gathered: usize,
    /// None of these waits less long; as [`Peer::gathers_until`] has it.
    gathering_until: Option<Instant>,
}

impl Peer {
    /// It has too much to read, or still has: it is looked at again at `until`.
    pub(super) fn congest(&mut self, until: Instant, most: usize) {
        if self.congested.is_none() {
            self.came = 0;
        }
        self.congested = Some((until, self.progress(most)));
    }

    /// The bytes that it has taken and, while it had too much to read, sent, of these `most` at most: who does either is no
    /// slow reader.
    pub(super) fn progress(&self, most: usize) -> u64 {
        self.outbox.taken().saturating_add(bytes(self.came.saturating_add(self.partial).min(most)))
    }
}

fn bytes(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Peers {
    pub(super) const fn new(max_outgoing: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            max_outgoing,
            outputs: VecDeque::new(),
            noticed: Vec::new(),
            paused: Vec::new(),
            overfull: Vec::new(),
            hit: None,
            gathering: Vec::new(),
            gathered: 0,
            gathering_until: None,
        }
    }

    /// The places that are taken, by those included that are leaving.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) const fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(super) fn insert(&mut self, knocking: Knocking<'_>, exceptions: bool, now: Instant) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        let serial = self.accepted;
        self.accepted += 1;
        let slot = &mut self.slots[index as usize];
        let conn = ConnId::new(index, slot.generation);
        slot.peer = Some(Box::new(Peer {
            conn,
            outbox: Outbox::default(),
            span: trace::accepted(knocking.address, conn),
            address: knocking.address.into(),
            loopback: knocking.loopback,
            serial,
            id: b"-"[..].into(),
            exceptions,
            last_function: NONE,
            heard: now,
            partial: 0,
            timer: None,
            closing: None,
            congested: None,
            came: 0,
            holding_up: Vec::new(),
            paused: false,
            noticed: false,
            grab: None,
            told: false,
            quick: false,
            doubt: 0,
            in_doubt: 0,
            gathered: None,
            gathers_until: None,
            gathers: false,
            gathered_anew: false,
            answered: Instant::EPOCH,
            handle_begins: 0,
            runs_ahead: false,
        }));
        conn
    }

    /// The place of a connection that lives.
    pub(super) fn find(&self, conn: ConnId) -> Option<u32> {
        let index = u32::try_from(conn.index()).ok()?;
        self.get(index).filter(|peer| peer.conn == conn).map(|_| index)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Peer> {
        self.slots.get(index as usize)?.peer.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.slots.get_mut(index as usize)?.peer.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> {
        let all = self.slots.iter().zip(0..);
        all.filter_map(|(slot, index)| slot.peer.as_deref().map(|peer| (index, peer)))
    }

    /// Takes a connection out. Its place is taken until it is [`free`](Self::free)d: the driver may still have its socket.
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(index as usize)?.peer.take()?;
        self.gathered -= usize::from(peer.gathered.is_some());
        if peer.gathers {
            self.gathering.retain(|conn| *conn != peer.conn);
        }
        Some(peer)
    }

    /// The driver has done with this connection: its place may be used again.
    pub(super) fn free(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        if slot.generation == conn.generation() && slot.peer.is_none() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(u32::try_from(conn.index()).unwrap_or(NONE));
        }
    }

    /// Queues a packet for a connection, unless it is closing.
    #[inline]
    pub(super) fn send<const N: usize>(
        &mut self,
        index: u32,
        kind: PacketType,
        arguments: &[&[u8]; N],
        payload: Option<&Bytes>,
    ) {
        self.write(index, None, 0, |outbox| outbox.packet(Magic::Response, kind, arguments, payload));
    }

    /// The next packet for a connection is the handle of a job that it submits. Says whether it does not need the handles of
    /// those before for that: it has not got one of them, or had not with the last.
    pub(super) fn runs_ahead(&mut self, index: u32) -> bool {
        let Some(peer) = self.get_mut(index) else { return false };
        let now = peer.outbox.perhaps_taken() < peer.handle_begins;
        peer.handle_begins = peer.outbox.end() + 1;
        core::mem::replace(&mut peer.runs_ahead, now) || now
    }

    /// Queues a JOB_CREATED, which may wait for results as these do for each other.
    pub(super) fn created(&mut self, index: u32, handle: &[u8], gather: Option<Gather>) {
        let kind = PacketType::JOB_CREATED;
        self.write(index, gather, 0, |outbox| outbox.packet(Magic::Response, kind, &[handle], None));
    }

    /// Queues a WORK_COMPLETE, which may wait for others until there are enough or nothing more comes.
    pub(super) fn result(&mut self, index: u32, handle: &[u8], payload: &Bytes, gather: Option<Gather>, now: Instant) {
        let kind = PacketType::WORK_COMPLETE;
        self.write(index, gather, 1, |outbox| outbox.packet(Magic::Response, kind, &[handle], Some(payload)));
        self.get_mut(index).into_iter().for_each(|peer| peer.answered = now);
    }

    /// Queues a text for a connection, unless it is closing.
    pub(super) fn text(&mut self, index: u32, bytes: &[u8]) {
        self.write(index, None, 0, |outbox| outbox.text(bytes));
    }

    /// Queues a packet with so many results.
    #[inline]
    fn write(&mut self, index: u32, gather: Option<Gather>, results: u32, write: impl FnOnce(&mut Outbox) -> bool) {
        let Some(peer) = self.slots.get_mut(index as usize).and_then(|slot| slot.peer.as_deref_mut()) else { return };
        if peer.closing.is_some() {
            return;
        }
        let was_empty = write(&mut peer.outbox);
        if was_empty || peer.gathered.is_some() {
            let before = peer.gathered.filter(|_| !was_empty);
            let fits = |gather: &Gather| before.is_none() || gather.until.is_some() == peer.gathers_until.is_some();
            let gather = gather.filter(|gather| peer.outbox.waiting() < MOST_GATHERED && fits(gather));
            let gathered = gather.and_then(|gather| gather.after(before.unwrap_or(0), results));
            if let (None, Some(gather)) = (before, gather) {
                peer.gathers_until = gather.until;
                // `None` is the least.
                let others = if self.gathered == 0 { gather.until } else { self.gathering_until };
                self.gathering_until = others.min(gather.until);
            }
            self.gathered += usize::from(gathered.is_some());
            self.gathered -= usize::from(peer.gathered.is_some());
            (peer.gathered, peer.gathered_anew) = (gathered, gathered.is_some());
            if gathered.is_none() {
                self.outputs.push_back(Output::Transmit(peer.conn));
            } else if !core::mem::replace(&mut peer.gathers, true) {
                self.gathering.push(peer.conn);
            }
        }
        let waiting = peer.outbox.waiting();
        if waiting > self.max_outgoing - self.max_outgoing / 4 {
            self.overfull.push(index);
            // Of several the one that has most to read.
            if self.hit.and_then(|hit| self.get(hit)).is_none_or(|hit| hit.outbox.waiting() <= waiting) {
                self.hit = Some(index);
            }
        }
    }

    /// Tells the driver of what waits for more.
    pub(super) fn announce(&mut self, index: u32) {
        if let Some(peer) = self.get_mut(index)
            && peer.gathered.take().is_some()
        {
            let conn = peer.conn;
            self.gathered -= 1;
            self.outputs.push_back(Output::Transmit(conn));
        }
    }

    /// A tick: the driver is told of what has waited long enough, and, where time `has_passed`, of what may wait only for
    /// what is to be read and has got nothing since the last.
    pub(super) fn end_gathering(&mut self, now: Instant, has_passed: bool) {
        let mut gathering = core::mem::take(&mut self.gathering);
        let mut until = Some(Instant::NEVER);
        gathering.retain(|&conn| {
            let Some(index) = self.find(conn) else { return false };
            let goes_on = self.get_mut(index).is_some_and(|peer| {
                let anew = !has_passed || core::mem::take(&mut peer.gathered_anew);
                peer.gathers = peer.gathered.is_some() && peer.gathers_until.map_or(anew, |until| now < until);
                if peer.gathers {
                    until = until.min(peer.gathers_until);
                }
                peer.gathers
            });
            if !goes_on {
                self.announce(index);
            }
            goes_on
        });
        (self.gathering, self.gathering_until) = (gathering, until);
    }

    /// When there is to be a tick for the driver to be told of what was gathered, if anything was.
    pub(super) fn gathering_until(&self, at_once: Instant) -> Option<Instant> {
        if self.gathered == 0 { None } else { Some(self.gathering_until.unwrap_or(at_once)) }
    }

    /// The driver looks at the outgoing bytes of a connection.
    pub(super) fn outgoing(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        let index = self.find(conn)?;
        let peer = self.slots.get_mut(index as usize)?.peer.as_deref_mut()?;
        if (peer.closing.is_some() || peer.congested.is_some()) && !peer.noticed {
            peer.noticed = true;
            self.noticed.push(index);
        }
        Some(&mut peer.outbox)
    }

    /// One whose outgoing bytes were looked at since, though something waits for them to be taken.
    pub(super) fn next_noticed(&mut self) -> Option<u32> {
        let index = self.noticed.pop()?;
        if let Some(peer) = self.get_mut(index) {
            peer.noticed = false;
        }
        Some(index)
    }

    /// Whether one of them has something for the driver.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(super) fn have_output(&self) -> bool {
        !(self.outputs.is_empty() && self.noticed.is_empty() && self.paused.is_empty())
    }

    /// Stops reading a connection until the outputs have been polled.
    pub(super) fn pause(&mut self, index: u32) {
        if let Some(peer) = self.get_mut(index)
            && !peer.paused
        {
            peer.paused = true;
            self.paused.push(index);
        }
    }

    /// Stops reading a connection until `other` has taken what it has to read. Says whether there is that to wait for.
    ///
    /// One that has too much to read is itself read on, as far as the limit: many a client writes all its jobs first.
    pub(super) fn hold_up(&mut self, index: u32, other: u32) -> bool {
        let is_slow = self.get(other).is_some_and(|slow| {
            let is_over = slow.outbox.waiting() > self.max_outgoing;
            slow.congested.is_some() && slow.closing.is_none() && (index != other || is_over)
        });
        if !is_slow {
            return false;
        }
        let was_paused = self.get_mut(index).is_some_and(|peer| core::mem::replace(&mut peer.paused, true));
        if let Some(other) = self.get_mut(other).filter(|_| !was_paused) {
            other.holding_up.push(index);
        }
        true
    }

    /// Bytes of a packet were read from one that has too much to read.
    #[cold]
    pub(super) fn came(&mut self, index: u32, bytes: usize) {
        if let Some(peer) = self.get_mut(index) {
            peer.came = peer.came.saturating_add(bytes);
        }
    }

    pub(super) fn resume(&mut self, index: u32, now: Instant) {
        if let Some(peer) = self.get_mut(index)
            && peer.paused
        {
            peer.paused = false;
            peer.heard = peer.heard.max(now);
            let conn = peer.conn;
            self.outputs.push_back(Output::Resume(conn));
        }
    }
}
