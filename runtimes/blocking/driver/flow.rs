//! What flows through a driver: what the machine wants done, what is written, what is read.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::task::Waker;
use core::time::Duration;

use super::super::stream::Stream;
use super::state::{Core, MILLISECOND, Reader, find, is_timeout};
use super::{Driven, GIVE_WAY, Guard, MAX_NOTICES, READ_PATIENCE, Shared, Sink};
use crate::runtimes::std::io::{self, ErrorKind};
use crate::runtimes::std::sync::{PoisonError, TryLockError};
use crate::runtimes::std::thread;
use crate::runtimes::{CHUNKS, Moment, close_reason, write_chunks};
use crate::{Address, Batch, CloseReason, ConnId, Input, Instant, Output};

/// What a caller who has read is to do.
pub(super) enum Turn {
    /// Look whether it is what he waits for.
    Look,
    /// Sleep, as he may not read now.
    Sleep,
    /// Leave the reading to the connection's thread from now on.
    Leave,
}

impl<M: Driven, S: Sink<M::Event>> Shared<M, S> {
    pub(super) fn lock(&self) -> Guard<'_, M, S> {
        match self.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                core
            }
        }
    }

    /// Lets others have the lock: whoever comes back for it at once, as the reader of a flood does, would always win.
    fn give_way(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let until = self.clock.now() + GIVE_WAY;
            while self.waiting.load(Ordering::Relaxed) > 0 && self.clock.now() < until {
                thread::yield_now();
            }
        }
    }

    /// Does what the machine wants done but for writing.
    #[inline(always)]
    pub(super) fn poll(self: &Arc<Self>, core: &mut Core<M, S>) {
        if !self.rests(core) {
            self.poll_all(core);
        }
    }

    /// Whether the machine wants nothing but to wait, as far as it can tell without a poll.
    #[inline(always)]
    fn rests(&self, core: &mut Core<M, S>) -> bool {
        while let Some(conn) = core.machine.next_due() {
            core.due.push(conn);
        }
        if core.machine.has_output() {
            return false;
        }
        let Some(at) = core.machine.rests_until() else { return false };
        self.wait_until(core, at);
        self.flush_at(core, core.machine.gathers_until());
        true
    }

    #[inline(never)]
    fn poll_all(self: &Arc<Self>, core: &mut Core<M, S>) {
        loop {
            match core.machine.poll() {
                Output::Transmit(conn) => core.due.push(conn),
                Output::Wait(at) => {
                    if !self.rests(core) {
                        self.wait_until(core, at);
                    }
                    return;
                }
                Output::Event(event) => self.note(core, event),
                other => self.change(core, other),
            }
            if self.rests(core) {
                return;
            }
        }
    }

    #[inline(always)]
    fn note(&self, core: &mut Core<M, S>, event: M::Event) {
        // The next who knocks wakes the listener's thread.
        core.shut |= M::shuts_doors(&event);
        if let Some(event) = core.sink.take(event, &mut core.wakers)
            && core.hears
            && core.notices.len() < MAX_NOTICES
        {
            core.notices.push_back(event);
            self.noticed.notify_one();
        }
        core.news = core.news.wrapping_add(1);
        core.make_room();
    }

    /// Something is to be done about a connection.
    #[cold]
    fn change(self: &Arc<Self>, core: &mut Core<M, S>, output: Output<M::Event>) {
        match output {
            Output::Connect { conn, server, within } => self.begin_to_dial(core, conn, server, within),
            Output::Resume(conn) => core.resume(conn, self.clock.now()),
            Output::Disconnect(conn) => {
                core.disconnect(conn);
                self.ended.notify_all();
            }
            Output::Transmit(_) | Output::Event(_) | Output::Wait(_) => {}
        }
        core.news = core.news.wrapping_add(1);
    }

    fn begin_to_dial(self: &Arc<Self>, core: &mut Core<M, S>, conn: ConnId, server: Address, within: Duration) {
        core.admit(conn);
        let dial = move |shared: &Arc<Self>| shared.dial(conn, &server, within);
        if let Err(error) = self.spawn("gearwheel-conn", dial) {
            core.end(conn, close_reason(&error), self.clock.now());
        }
    }

    #[inline(always)]
    fn wait_until(&self, core: &mut Core<M, S>, at: Option<Instant>) {
        core.wait = at.unwrap_or(Instant::NEVER);
        self.set_alarm(core, core.wait);
    }

    /// The clock's thread has it written at this time what was put off.
    #[inline]
    pub(super) fn flush_at(&self, core: &mut Core<M, S>, at: Instant) {
        if at < core.flush_at {
            core.flush_at = at;
            self.set_alarm(core, at);
        }
    }

    /// The clock's thread must be awake at this time.
    #[inline]
    pub(super) fn set_alarm(&self, core: &mut Core<M, S>, at: Instant) {
        if at < core.alarm {
            core.alarm = at;
            self.alarm.notify_one();
        }
    }

    /// Does all that the machine wants done.
    pub(super) fn settle<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        self.poll(&mut core);
        self.follow_up(core)
    }

    /// Does what is to be done outside the lock once the machine has been polled.
    #[inline]
    pub(super) fn follow_up<'a>(self: &'a Arc<Self>, core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        let core = self.flush(self.wake(core));
        self.wake(core)
    }

    /// Wakes those for whom something has come, and one of those who wait for the same.
    #[inline]
    pub(super) fn wake<'a>(&'a self, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        core.summon();
        self.wake_noted(core)
    }

    /// The same for whoever will look himself at what there is for any.
    #[inline]
    pub(super) fn wake_noted<'a>(&'a self, core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        if core.wakers.is_empty() { core } else { self.wake_all(core) }
    }

    #[cold]
    fn wake_all<'a>(&'a self, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        let wakers = core::mem::take(&mut core.wakers);
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
        self.lock()
    }

    /// Writes what is to be written, and wakes those for whom something has come by it.
    #[inline]
    pub(super) fn flush<'a>(self: &'a Arc<Self>, core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        if core.due.is_empty() { core } else { self.flush_all(core) }
    }

    fn flush_all<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        core.flush_at = Instant::NEVER;
        let gathers_until = core.machine.gathers_until();
        self.flush_at(&mut core, gathers_until);
        while let Some(conn) = core.due.pop() {
            if let Some(socket) = core.link(conn).and_then(|link| link.writer.take()) {
                core = self.write(core, conn, socket, false);
            }
        }
        self.wake_noted(core)
    }

    /// Writes a connection until nothing is left, then gives the role of its writer back, unless a thread takes it over.
    #[inline(always)]
    pub(super) fn write<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a, M, S>,
        conn: ConnId,
        socket: Arc<Stream>,
        patient: bool,
    ) -> Guard<'a, M, S> {
        loop {
            let mut batch = core.batch.take().unwrap_or_default();
            core.machine.outgoing(conn).share(CHUNKS, &mut batch);
            let was_idle = batch.is_empty();
            let result = if was_idle {
                Ok(0)
            } else {
                drop(core);
                let result = write_batch(&socket, &mut batch);
                core = self.lock();
                result
            };
            core.batch = Some(batch);
            core.make_room();
            let Core { machine, links, .. } = &mut *core;
            let mut outgoing = machine.outgoing(conn);
            // Of what was in hand nothing has left where that failed.
            outgoing.advance(*result.as_ref().unwrap_or(&0));
            let all_written = outgoing.is_empty();
            let Some(link) = find(links, conn) else { return core };
            match result {
                Ok(_) if link.ended.is_some() => {
                    link.writer = Some(socket);
                    return self.ended_after_writing(core, conn);
                }
                // Over TLS there is always something to be looked at once more after a look.
                Ok(_) if all_written && (was_idle || !machine.has_output()) => {
                    link.writer = Some(socket);
                    if core.ending {
                        self.ended.notify_all();
                    }
                    return core;
                }
                Ok(_) => {
                    self.poll(&mut core);
                    // Not only at the end: they may have more to be written.
                    core = self.wake_noted(core);
                }
                Err(error) if is_timeout(&error) && patient => {}
                Err(error) => return self.write_failed(core, conn, socket, &error),
            }
        }
    }

    /// A writer is blocked, or there is nothing to be written any more.
    #[cold]
    fn write_failed<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a, M, S>,
        conn: ConnId,
        socket: Arc<Stream>,
        error: &io::Error,
    ) -> Guard<'a, M, S> {
        let same = Arc::clone(&socket);
        let go_on = move |shared: &Arc<Self>| shared.go_on(conn, same);
        if is_timeout(error) && self.spawn("gearwheel-write", go_on).is_ok() {
            return core;
        }
        let Some(link) = core.link(conn) else { return core };
        link.writer = Some(socket);
        if link.ended.is_some() {
            return self.ended_after_writing(core, conn);
        }
        core.break_off(conn, close_reason(error));
        core
    }

    /// The reader has found the end of a connection while it was being written.
    #[cold]
    fn ended_after_writing<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>, conn: ConnId) -> Guard<'a, M, S> {
        if let Some(reason) = core.link(conn).and_then(|link| link.ended.take()) {
            core.end(conn, reason, self.clock.now());
        }
        self.poll(&mut core);
        core
    }

    /// Reads a connection for a caller, until something comes that he may wait for or it is for others to read. What the
    /// machine replies to the rest is written on the way.
    #[inline(always)]
    pub(super) fn read_for_caller<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a, M, S>,
        conn: ConnId,
        deadline: Instant,
        time: &mut Moment,
    ) -> (Guard<'a, M, S>, Turn) {
        let (mut role, news) = (None, core.news);
        let turn = loop {
            let Some(patience) = patience(deadline.min(core.wait), time.now()) else {
                // A socket's timeout is no shorter than a millisecond: so short a time others read.
                if role.is_none() {
                    core.pass_on(conn, true);
                }
                break Turn::Leave;
            };
            let Some(link) = core.readable(conn) else { break Turn::Sleep };
            if role.is_none() {
                role = link.reader.take();
                link.quiet = false;
            }
            let Some(reader) = &mut role else { break Turn::Sleep };
            link.prepare(reader);
            let awake;
            (core, awake) = self.read(core, conn, reader, Some(patience), time);
            if !awake {
                break Turn::Leave;
            }
            if core.news == news && core.due == [conn] {
                core = self.flush(self.wake(core));
            }
            // What he waits for may have come by another thread while he read.
            if core.news != news || !core.due.is_empty() {
                break Turn::Look;
            }
        };
        let Some(reader) = role else { return (core, turn) };
        core.give_back(conn, reader);
        if matches!(turn, Turn::Leave) {
            core.pass_on(conn, true);
            return (self.follow_up(core), turn);
        }
        // Time has passed: whoever is to sleep has to look first.
        (self.flush(self.wake_noted(core)), Turn::Look)
    }

    /// Reads a connection once for its thread.
    pub(super) fn read_for_thread<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a, M, S>,
        conn: ConnId,
    ) -> (Guard<'a, M, S>, bool) {
        let Some(link) = core.readable(conn) else { return (core, false) };
        let Some(mut reader) = link.reader.take() else { return (core, false) };
        // It looks again itself.
        (link.quiet, link.roused) = (true, true);
        link.prepare(&mut reader);
        core = self.read(core, conn, &mut reader, None, &mut self.clock.moment()).0;
        core.give_back(conn, reader);
        core.pass_on(conn, false);
        (self.follow_up(core), true)
    }

    /// Reads once by the role of the reader, with nothing locked, and does what the machine wants done, but for what
    /// [`follow_up`](Self::follow_up) does. False: no byte came within the patience. `time` is that of the end of the read.
    #[inline(always)]
    fn read<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a, M, S>,
        conn: ConnId,
        reader: &mut Reader,
        patience: Option<u64>,
        time: &mut Moment,
    ) -> (Guard<'a, M, S>, bool) {
        drop(core);
        self.give_way();
        let result = reader.read(patience);
        let mut core = self.lock();
        time.pass();
        let now = time.now();
        core.seen = now;
        let Core { machine, links, .. } = &mut *core;
        let Some(link) = find(links, conn) else {
            core.news = core.news.wrapping_add(1);
            return (core, true);
        };
        link.take_in(reader, &result);
        let mut awake = true;
        match result {
            Ok(1..) => {
                machine.handle(Input::Data(conn, &mut link.incoming.bytes), now);
                link.incoming.settle();
            }
            Ok(0) => core.end(conn, CloseReason::Ended, now),
            Err(error) if is_timeout(&error) => awake = false,
            Err(error) => core.end(conn, close_reason(&error), now),
        }
        if core.wait.min(core.machine.gathers_until()) <= now {
            // Whoever reads a flood may keep the clock's thread from the lock for long.
            core.machine.handle(Input::Tick, now);
        }
        self.poll(&mut core);
        (core, awake)
    }

    /// Ends the wait of a caller for what comes `from` a connection.
    #[inline(always)]
    pub(super) fn leave<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>, from: Option<ConnId>) {
        core.summon();
        // Where they come one by one, the one who comes sees to the reading; else this may be the last that is awake, even
        // where he found something at once.
        let conn = if S::RELAYS { from.or_else(|| core.sole()) } else { from };
        if let Some(conn) = conn.filter(|_| !core.sink.awaits_one()) {
            core.pass_on(conn, false);
        }
        if core.machine.has_output() {
            self.poll(&mut core);
            core = self.flush(core);
        }
        drop(self.wake(core));
    }

    /// Sleeps, to be woken by `waker`, until something has come, the role of the reader is offered, or the deadline passes.
    /// While nobody reads, no longer than until the machine's next tick, behind which there may be something to do.
    pub(super) fn park<'a>(
        &'a self,
        waker: &Waker,
        mut core: Guard<'a, M, S>,
        from: Option<ConnId>,
        may_read: bool,
        deadline: Instant,
    ) -> Guard<'a, M, S> {
        let mut until = deadline;
        let Core { links, strays, wait, .. } = &mut *core;
        match from.map(|conn| find(links, conn)) {
            None => strays.push(waker.clone()),
            Some(Some(link)) if may_read => {
                link.quiet = false;
                link.callers.push(waker.clone());
                if link.reader.is_some() {
                    until = deadline.min(*wait);
                }
            }
            Some(_) => {}
        }
        drop(self.wake(core));
        match until {
            Instant::NEVER => thread::park(),
            until => thread::park_timeout(self.clock.until(until)),
        }
        core = self.lock();
        let list = match from.map(|conn| core.link(conn)) {
            None => Some(&mut core.strays),
            Some(link) => link.map(|link| &mut link.callers),
        };
        list.into_iter().for_each(|list| list.retain(|other| !other.will_wake(waker)));
        core
    }
}

/// Writes what can be written at once, and forgets it.
#[inline(always)]
fn write_batch(socket: &Stream, batch: &mut Batch) -> io::Result<usize> {
    match batch.as_slice() {
        Some(bytes) => match socket.write(bytes) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            result => result,
        },
        None => write_many(socket, batch),
    }
}

#[inline(never)]
fn write_many(socket: &Stream, batch: &mut Batch) -> io::Result<usize> {
    let result = write_chunks(batch.chunks(), |slices| socket.write_vectored(slices));
    batch.clear();
    result
}

/// How many nanoseconds a caller may read; `None` where that is too short.
fn patience(until: Instant, now: Instant) -> Option<u64> {
    let left = until.nanos_since(now);
    if left < MILLISECOND { None } else { Some(left.min(READ_PATIENCE)) }
}
