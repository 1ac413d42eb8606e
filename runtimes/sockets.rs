//! The sockets of one machine, for every runtime that is told what is ready: mio by tokens, smol and tokio by wakers.
//!
//! A turn reads once from each connection that has something, lets the machine and its user answer all of it, then writes
//! once to each connection that has something to say. A connection that has more waits for the next turn: nobody starves.

mod dial;
mod net;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::task::{Context, Waker};

use self::dial::Dial;
use self::net::await_a_crowd;
pub(crate) use self::net::{Net, Place, Target, prepare_accepted};
use super::listening::{Listening, Nameplate};
use super::std::io::{self, ErrorKind};
use super::{ACCEPT_PAUSE, Clock, Incoming, SCRATCH, Visitor, accept_goes_on, close_reason, write_out};
use crate::time::earlier;
use crate::{Address, CloseReason, ConnId, Input, Instant, Machine, Output};

/// Bytes read from one connection in a turn, about.
const READ_A_TURN: usize = 256 << 10;
/// Vectored writes to one connection in a turn.
const WRITES_A_TURN: usize = 16;
/// Connections taken from one listener in a turn.
const ACCEPTED_A_TURN: usize = 64;
/// All sockets of one machine.
pub(crate) struct Sockets<N: Net> {
    pub(crate) net: N,
    clock: Clock,
    slots: Vec<Option<Slot<N>>>,
    doors: Vec<Door<N::Listener>>,
    /// Slots to look at, each once.
    ready: VecDeque<usize>,
    /// A turn has begun.
    under_way: bool,
    /// How many of them it still looks at, once the machine has had its say.
    left: Option<usize>,
    /// When this turn began, until something has been read by that time.
    began: Option<Instant>,
    /// Slots whose machine has something to write.
    dirty: Vec<usize>,
    /// Slots that are not connected yet.
    dialling: Vec<usize>,
    /// The user makes the connections, and those that he has not been asked for yet.
    entrusted: bool,
    wanted: VecDeque<(ConnId, Address)>,
    /// Connected streams that the user has handed over, and who is at their other ends.
    arrivals: VecDeque<(N::Given, Visitor)>,
    /// When the machine wants its next tick.
    wait: Option<Instant>,
    /// A listener has more than a turn takes.
    crowded: bool,
    /// Turns end without writing.
    writes_later: bool,
    /// Something may have been written since that was asked last.
    wrote: bool,
    scratch: Box<[u8]>,
}

struct Slot<N: Net> {
    conn: ConnId,
    state: State<N>,
    waker: Waker,
    incoming: Incoming,
    /// In `ready`.
    queued: bool,
    /// In `dirty`.
    dirty: bool,
    /// A read may bring something.
    readable: bool,
    /// The peer has closed it, or another attempt at it has failed.
    ending: bool,
    /// A write was refused, and no wake has come since.
    blocked: bool,
    /// Not all of what was to be written has been, or an object of the user's has not sent all.
    unsent: bool,
    /// Nothing can be written any more. What the peer had sent before is still read.
    broken: Option<CloseReason>,
}

enum State<N: Net> {
    Resolving,
    /// The user makes it; and what came of that.
    Entrusted(Option<io::Result<N::Given>>),
    Dialling(Dial<N>),
    Up(N::Wire),
}

struct Door<L> {
    /// Before the listener, and so dropped before it.
    _nameplate: Option<Nameplate>,
    listener: L,
    waker: Waker,
    plain: bool,
    ready: bool,
    /// Left alone until then: the process has no descriptor for another connection.
    until: Option<Instant>,
}

impl<N: Net> Sockets<N> {
    pub(crate) fn new(net: N, clock: Clock) -> Self {
        Self {
            net,
            clock,
            slots: Vec::new(),
            doors: Vec::new(),
            ready: VecDeque::new(),
            under_way: false,
            left: None,
            began: None,
            dirty: Vec::new(),
            dialling: Vec::new(),
            entrusted: false,
            wanted: VecDeque::new(),
            arrivals: VecDeque::new(),
            wait: Some(Instant::EPOCH),
            crowded: false,
            writes_later: false,
            wrote: false,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Accepts connections from a listener.
    pub(crate) fn listen(&mut self, listening: Listening) -> io::Result<()> {
        let number = self.doors.len();
        let plain = listening.is_plain();
        let (nameplate, socket) = listening.into_parts();
        socket.set_nonblocking(true)?;
        await_a_crowd(&socket)?;
        let listener = self.net.listen(socket, number)?;
        let waker = self.net.waker(Place::Door(number));
        self.doors.push(Door { _nameplate: nameplate, listener, waker, plain, ready: true, until: None });
        self.crowded = true;
        Ok(())
    }

    /// Has the machine accept a stream that is connected.
    pub(crate) fn arrive(&mut self, stream: N::Given, visitor: Visitor) {
        self.arrivals.push_back((stream, visitor));
        self.crowded = true;
    }

    /// Whether turns end without writing, which is due at once then.
    pub(crate) fn put_writes_off(&mut self, off: bool) {
        self.writes_later = off;
    }

    /// Whether something may have been written since this was asked last.
    pub(crate) fn has_written(&mut self) -> bool {
        core::mem::take(&mut self.wrote)
    }

    /// Stops listening.
    pub(crate) fn shut_doors(&mut self) {
        self.doors.clear();
        self.arrivals.clear();
    }

    /// A socket may be ready; with `ending` its peer has closed it, which only a read that brings nothing will show.
    pub(crate) fn wake(&mut self, place: Place, ending: bool) {
        match place {
            Place::Slot(index) => {
                if let Some(Some(slot)) = self.slots.get_mut(index) {
                    slot.readable = true;
                    slot.blocked = false;
                    slot.ending |= ending;
                    queue(&mut slot.queued, index, &mut self.ready);
                }
            }
            Place::Door(number) => {
                if let Some(door) = self.doors.get_mut(number) {
                    door.ready = true;
                }
            }
            Place::Clock | Place::Job(_) => {}
        }
    }

    /// The next event of `machine`, after doing all that is due. `None`: this turn is over, and all that could be written
    /// has been; the next one is due at [`deadline`](Self::deadline) or when a socket wakes.
    #[cfg(any(feature = "mio", test))]
    pub(crate) fn next<M: Machine>(&mut self, machine: &mut M) -> Option<M::Event> {
        self.begin(machine);
        loop {
            match machine.poll() {
                Output::Event(event) => {
                    // Who takes it may take his time.
                    self.began = None;
                    return Some(event);
                }
                output => {
                    if !self.obey(output, machine) && !self.step(machine) {
                        return None;
                    }
                }
            }
        }
    }

    /// Does what `machine` says, but nothing is read, and only noted what is to be written. False: it said to wait.
    pub(crate) fn obey<M: Machine>(&mut self, output: Output<M::Event>, machine: &mut M) -> bool {
        match output {
            Output::Transmit(conn) => {
                if let Some(slot) = self.slots.get_mut(conn.index()).and_then(Option::as_mut)
                    && slot.conn == conn
                    && !slot.dirty
                    && !slot.blocked
                {
                    slot.dirty = true;
                    self.dirty.push(conn.index());
                }
            }
            Output::Connect { conn, server, within: _ } => self.connect(conn, server, machine),
            Output::Resume(conn) => self.resume(conn, machine),
            Output::Disconnect(conn) => self.disconnect(conn, machine),
            Output::Wait(at) => {
                self.wait = at;
                return false;
            }
            Output::Event(_) => {}
        }
        true
    }

    /// Whether a connection had more for the last turn than its share.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next turn is due if no socket wakes before: [`Instant::EPOCH`] at once, `None` never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.ready.is_empty() || !self.dirty.is_empty() || self.crowded || self.under_way {
            return Some(Instant::EPOCH);
        }
        let at = earlier(self.wait, self.next_dial());
        self.doors.iter().fold(at, |at, door| earlier(at, door.until))
    }

    /// Whether nothing is due at once but to read on.
    #[cfg(feature = "mio")]
    pub(crate) fn only_reads(&self) -> bool {
        let reads = |index: &usize| {
            let slot = self.slots.get(*index).and_then(Option::as_ref);
            slot.is_some_and(|slot| matches!(slot.state, State::Up(_)) && slot.readable)
        };
        self.is_written_out() && !self.crowded && !self.under_way && self.ready.iter().all(reads)
    }

    /// Whether no socket is to take more of what the machine had.
    #[cfg(feature = "mio")]
    pub(crate) fn is_written_out(&self) -> bool {
        !self.slots.iter().flatten().any(|slot| slot.dirty || slot.unsent)
    }

    /// Whether all that the machine had for connections that stand has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        // One that is ready may have had its share of a turn, and be written on in the next.
        self.ready.is_empty() && !self.slots.iter().flatten().any(|slot| slot.dirty || slot.blocked)
    }

    /// Begins a turn, where none is under way.
    pub(crate) fn begin<M: Machine>(&mut self, machine: &mut M) {
        if core::mem::replace(&mut self.under_way, true) {
            return;
        }
        let now = self.clock.now();
        self.began = Some(now);
        if self.wait.is_some_and(|at| at <= now) {
            machine.handle(Input::Tick, now);
        }
        if self.crowded || !self.doors.is_empty() || !self.arrivals.is_empty() {
            self.accept(machine, now);
        }
        for at in (0..self.dialling.len()).rev() {
            if let Some(&index) = self.dialling.get(at) {
                self.dial_overdue(index, machine, now);
            }
        }
    }

    /// Does one thing that is due while the machine is idle. False: the turn is over, and the next one begins.
    pub(crate) fn step<M: Machine>(&mut self, machine: &mut M) -> bool {
        match *self.left.get_or_insert(self.ready.len()) {
            0 if self.dirty.is_empty() || self.writes_later => {
                (self.under_way, self.left) = (false, None);
                // Who has knocked when there was no room comes in as soon as there is.
                self.crowded |= machine.wants_accept() && self.is_knocked_at();
                return false;
            }
            0 => {
                while let Some(index) = self.dirty.pop() {
                    self.write(index, machine);
                }
            }
            left => {
                self.left = Some(left - 1);
                if let Some(index) = self.ready.pop_front() {
                    self.serve(index, machine);
                }
            }
        }
        true
    }

    /// Whether somebody may wait to be let in, of whom nothing is told again.
    fn is_knocked_at(&self) -> bool {
        !self.arrivals.is_empty() || self.doors.iter().any(|door| door.ready && door.until.is_none())
    }

    fn serve<M: Machine>(&mut self, index: usize, machine: &mut M) {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        slot.queued = false;
        match slot.state {
            State::Resolving => {
                for (conn, addresses) in self.net.found() {
                    self.resolved(machine, conn, addresses);
                }
            }
            State::Entrusted(_) => self.take_made(index, machine),
            State::Dialling(_) => self.dial(index, machine),
            State::Up(_) => {
                if slot.unsent && !slot.blocked && !slot.dirty {
                    slot.dirty = true;
                    self.dirty.push(index);
                }
                if slot.readable {
                    self.read(index, machine);
                }
            }
        }
    }

    fn read<M: Machine>(&mut self, index: usize, machine: &mut M) {
        let Self { net, slots, scratch, ready, .. } = self;
        let Some(Some(slot)) = slots.get_mut(index) else { return };
        let State::Up(stream) = &mut slot.state else { return };
        let now = self.began.take().unwrap_or_else(|| self.clock.now());
        let mut cx = Context::from_waker(&slot.waker);
        let mut left = READ_A_TURN;
        let ended = loop {
            if !machine.wants_read(slot.conn) {
                return;
            }
            let mut asked = 0;
            let came = slot.incoming.read(scratch, |into| {
                asked = into.len();
                net.read(stream, &mut cx, into)
            });
            match came {
                Ok(0) => break CloseReason::Ended,
                Ok(count) => {
                    machine.handle(Input::Data(slot.conn, &mut slot.incoming.bytes), now);
                    slot.incoming.settle();
                    let to_the_end = slot.ending || slot.broken.is_some();
                    slot.readable = count == asked || to_the_end || net.readable(stream, &mut cx);
                    left = left.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => (slot.readable, slot.ending) = (false, false),
                Err(error) => break close_reason(&error),
            }
            match &slot.broken {
                _ if slot.readable && left > 0 => {}
                _ if slot.readable => return queue(&mut slot.queued, index, ready),
                Some(reason) => break reason.clone(),
                None => return,
            }
        };
        let reason = slot.broken.take().unwrap_or(ended);
        if reason == CloseReason::Ended && !machine.outgoing(slot.conn).is_empty() {
            // What it asked before it closed its side is answered, as far as the socket takes that at once.
            self.write(index, machine);
        }
        self.close(index, reason, machine);
    }

    fn write<M: Machine>(&mut self, index: usize, machine: &mut M) {
        let Self { net, slots, ready, wrote, .. } = self;
        let Some(Some(slot)) = slots.get_mut(index) else { return };
        slot.dirty = false;
        let State::Up(stream) = &mut slot.state else { return };
        if slot.blocked || slot.broken.is_some() {
            return;
        }
        slot.unsent = true;
        *wrote = true;
        let mut cx = Context::from_waker(&slot.waker);
        for _ in 0..WRITES_A_TURN {
            let written = write_out(machine.outgoing(slot.conn), |chunks| net.write(stream, &mut cx, chunks));
            let all = written.and_then(|_| {
                if !machine.outgoing(slot.conn).is_empty() {
                    return Ok(false);
                }
                net.flush(stream, &mut cx)?;
                slot.unsent = false;
                Ok(true)
            });
            match all {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    slot.blocked = true;
                    return;
                }
                Err(error) => {
                    slot.broken = Some(close_reason(&error));
                    slot.readable = true;
                    return queue(&mut slot.queued, index, ready);
                }
            }
        }
        // More than its share: it goes on in the next turn.
        queue(&mut slot.queued, index, ready);
    }

    fn disconnect<M: Machine>(&mut self, conn: ConnId, machine: &mut M) {
        if self.slot(conn).is_some() && !machine.outgoing(conn).is_empty() {
            // TLS has a last word. It is taken at once, or not at all.
            self.write(conn.index(), machine);
        }
        let Self { net, slots, .. } = self;
        let slot = slots.get_mut(conn.index()).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.conn == conn) else { return };
        if let (State::Up(stream), true) = (&mut slot.state, slot.unsent) {
            // The last chance of an object: what it still holds then is lost.
            let _ = net.flush(stream, &mut Context::from_waker(&slot.waker));
        }
        self.remove(conn.index());
    }

    fn resume<M: Machine>(&mut self, conn: ConnId, machine: &mut M) {
        let now = self.clock.now();
        if let Some(slot) = self.slots.get_mut(conn.index()).and_then(Option::as_mut)
            && slot.conn == conn
        {
            machine.handle(Input::Data(conn, &mut slot.incoming.bytes), now);
            slot.incoming.settle();
            if slot.readable {
                queue(&mut slot.queued, conn.index(), &mut self.ready);
            }
        }
    }

    fn accept<M: Machine>(&mut self, machine: &mut M, now: Instant) {
        self.crowded = false;
        while machine.wants_accept()
            && let Some((given, visitor)) = self.arrivals.pop_front()
        {
            let Some(conn) = machine.accept(visitor.peer(), now) else { continue };
            match self.net.adopt(given) {
                Ok(stream) => drop(self.open(conn, stream, machine, true)),
                Err(error) => machine.handle(Input::Closed(conn, close_reason(&error)), now),
            }
        }
        for number in 0..self.doors.len() {
            if let Some(door) = self.doors.get_mut(number) {
                // Nothing may come, or be wanted, for long: it is no reason to look again then.
                door.until.take_if(|until| *until <= now);
            }
            for taken in 0.. {
                let Some(door) = self.doors.get_mut(number) else { break };
                if !door.ready || door.until.is_some() || !machine.wants_accept() {
                    break;
                }
                if taken == ACCEPTED_A_TURN {
                    self.crowded = true;
                    break;
                }
                match self.net.accept(&door.listener, &mut Context::from_waker(&door.waker)) {
                    Ok((stream, from)) => {
                        if let Some(conn) = machine.accept(Visitor::of(from, door.plain).peer(), now) {
                            self.open(conn, stream, machine, true);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => door.ready = false,
                    Err(error) if accept_goes_on(&error) => {}
                    Err(_) => door.until = Some(now + ACCEPT_PAUSE),
                }
            }
        }
    }

    fn open<M: Machine>(&mut self, conn: ConnId, mut stream: N::Wire, machine: &mut M, accepted: bool) -> bool {
        let index = conn.index();
        if let Err(error) = self.net.opened(&mut stream, index, accepted) {
            self.remove(index);
            machine.handle(Input::Closed(conn, close_reason(&error)), self.clock.now());
            return false;
        }
        // What told that it stands may have told of more, and does not tell it again.
        let (waker, woken, ending) = match self.slot(conn) {
            Some(slot) => (slot.waker.clone(), slot.readable, slot.ending),
            None => (self.net.waker(Place::Slot(index)), false, false),
        };
        let readable = woken || self.net.readable(&stream, &mut Context::from_waker(&waker));
        self.insert(conn, State::Up(stream), waker);
        if readable {
            self.wake(Place::Slot(index), ending);
        }
        true
    }

    fn insert(&mut self, conn: ConnId, state: State<N>, waker: Waker) {
        let index = conn.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let incoming = Incoming::default();
        let (queued, dirty, readable, ending, blocked, unsent, broken) =
            (false, false, false, false, false, false, None);
        self.slots[index] =
            Some(Slot { conn, state, waker, incoming, queued, dirty, readable, ending, blocked, unsent, broken });
    }

    fn slot(&mut self, conn: ConnId) -> Option<&mut Slot<N>> {
        self.slots.get_mut(conn.index())?.as_mut().filter(|slot| slot.conn == conn)
    }

    fn remove(&mut self, index: usize) -> Option<ConnId> {
        let slot = self.slots.get_mut(index)?.take()?;
        match slot.state {
            State::Up(stream) => self.net.close(stream),
            _ => self.dialling.retain(|other| *other != index),
        }
        Some(slot.conn)
    }

    fn close<M: Machine>(&mut self, index: usize, reason: CloseReason, machine: &mut M) {
        if let Some(conn) = self.remove(index) {
            machine.handle(Input::Closed(conn, reason), self.clock.now());
        }
    }
}

fn queue(queued: &mut bool, index: usize, ready: &mut VecDeque<usize>) {
    if !*queued {
        *queued = true;
        ready.push_back(index);
    }
}

#[cfg(test)]
mod tests;
