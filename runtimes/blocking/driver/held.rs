//! How a caller has the machine for himself, and how he waits.

use alloc::sync::Arc;
use core::task::Waker;

use super::flow::Turn;
use super::state::Core;
use super::{Driven, Guard, Look, NAP, Shared, Sink, Source};
use crate::runtimes::Moment;
use crate::runtimes::parked::own_waker;
use crate::{Input, Instant};

/// A machine that one caller has for himself.
pub(crate) struct Held<'a, M: Driven, S: Sink<M::Event>> {
    pub(super) shared: &'a Arc<Shared<M, S>>,
    pub(super) core: Guard<'a, M, S>,
    pub(super) time: Moment,
}

impl<M: Driven, S: Sink<M::Event>> Held<'_, M, S> {
    /// All of it. Whoever has done something to the machine calls [`settle`](Self::settle) or [`wait`](Self::wait).
    pub(crate) fn parts(&mut self) -> (&mut M, &mut S, &mut Moment) {
        let Core { machine, sink, .. } = &mut *self.core;
        (machine, sink, &mut self.time)
    }

    /// Does what the machine wants done; for `lazy` see [`Driver::call_lazily`](super::Driver::call_lazily).
    #[inline(always)]
    pub(crate) fn settle(self, lazy: impl FnOnce(&S) -> bool) {
        let Self { shared, core, .. } = self.settle_first(lazy);
        drop(shared.wake(core));
    }

    /// Does what the machine wants done, for a caller who waits then.
    #[inline(always)]
    pub(super) fn settle_first(self, lazy: impl FnOnce(&S) -> bool) -> Self {
        let Self { shared, mut core, mut time } = self;
        shared.poll(&mut core);
        core = shared.wake_noted(core);
        if core.due.is_empty() || !lazy(&core.sink) {
            core = shared.flush(core);
        } else {
            shared.flush_at(&mut core, time.now() + NAP);
        }
        Self { shared, core, time }
    }

    /// See [`Driver::wait`](super::Driver::wait).
    #[inline]
    pub(crate) fn wait<T>(
        self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut M, &mut S, Option<&Waker>, &mut Moment) -> Look<T>,
    ) -> Option<T> {
        let Self { shared, mut core, mut time } = self;
        let deadline = deadline.unwrap_or(Instant::NEVER);
        let (mut from, mut may_read, mut parks) = (None, true, None::<Waker>);
        let found = loop {
            let Core { machine, sink, .. } = &mut *core;
            let before = from;
            from = match look(machine, sink, parks.as_ref(), &mut time) {
                Look::Found(found) => break Some(found),
                Look::Missing(Source::Conn(conn)) => conn,
                Look::Missing(Source::Sole) => core.sole(),
                Look::Missing(Source::Any) => None,
            };
            let parking = parks.take();
            if let Some(conn) = before.filter(|_| before != from) {
                // Another may wait for his turn to read what this one reads no more.
                core.pass_on(conn, false);
                core = shared.wake(core);
                time.pass();
                continue;
            }
            if core.machine.has_output() || !core.due.is_empty() {
                // What was taken may let a connection be read on.
                shared.poll(&mut core);
                core = shared.flush(shared.wake_noted(core));
                time.pass();
                continue;
            }
            if let (true, None, Some(conn)) = (may_read && deadline == Instant::NEVER, &parking, from)
                && core.is_at_leisure(conn)
            {
                time.assume(core.seen);
            }
            let now = time.now();
            if core.wait <= now {
                core.machine.handle(Input::Tick, now);
                core = shared.settle(core);
                time.pass();
                continue;
            }
            if let Some(waker) = parking {
                // Also when time is up: another look takes the waker back.
                core = shared.park(&waker, core, from, may_read, deadline);
                time.pass();
                continue;
            }
            if deadline <= now {
                break None;
            }
            if let (true, Some(conn)) = (may_read, from) {
                let turn;
                (core, turn) = shared.read_for_caller(core, conn, deadline, &mut time);
                match turn {
                    Turn::Look => continue,
                    Turn::Leave => may_read = false,
                    Turn::Sleep => time.pass(),
                }
            }
            if let (false, Some(conn)) = (may_read, from) {
                // Whoever left it to him to see to the reading did not know.
                core.pass_on(conn, false);
            }
            // Another look, which leaves the waker, and then to sleep.
            parks = Some(own_waker());
        };
        shared.leave(core, from);
        found
    }
}
