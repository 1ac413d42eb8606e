//! All that is due at some time, in one order.

use alloc::collections::BTreeSet;

use crate::time::Instant;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A job may be run from now on, or has run for too long.
    Job(u32),
    /// A connection is to be looked at.
    Peer(u32),
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    /// Takes out what is due at `now`, one at a time.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first().map(|(_, timer)| timer)
    }

    /// How many jobs have one.
    pub(super) fn jobs(&self) -> usize {
        self.0.iter().filter(|(_, timer)| matches!(timer, Timer::Job(_))).count()
    }
}
