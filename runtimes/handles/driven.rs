//! What every driver can drive, and where its events go.

use alloc::vec::Vec;
use core::task::Waker;

use super::{Desk, Post, Replies};
#[cfg(feature = "blocking")]
use crate::ConnId;
use crate::{Instant, Machine, admin, client, server, worker};

/// A machine that a driver can end.
pub(crate) trait Driven: Machine<Event: Send> + Send + 'static {
    /// Closes it at once.
    fn close(&mut self, now: Instant);

    /// Begins to close it in order.
    fn drain(&mut self, now: Instant);

    /// Jobs that closing now would leave undone.
    fn unfinished(&self) -> usize;

    /// Whether [`poll`](Machine::poll) has something other than a `Wait` that is known, after a look at what has come or
    /// after a write.
    fn has_output(&self) -> bool;

    /// A connection to be written, where a machine can tell that without a poll.
    #[cfg(feature = "blocking")]
    fn next_due(&mut self) -> Option<ConnId> {
        None
    }

    /// Until when to wait, where a machine can tell that without a poll; not where it [has output](Self::has_output).
    #[cfg(feature = "blocking")]
    fn rests_until(&mut self) -> Option<Option<Instant>> {
        None
    }

    /// When a tick is wanted that only has something written. `rests_until` does not count it.
    #[cfg(feature = "blocking")]
    fn gathers_until(&self) -> Instant {
        Instant::NEVER
    }

    /// Has what waits for more to be written with it be written now.
    fn flush(&mut self) {}

    /// Whether nothing comes after this event.
    fn is_last(event: &Self::Event) -> bool;

    /// Whether it wants no connections accepted from now on.
    fn shuts_doors(event: &Self::Event) -> bool {
        let _ = event;
        false
    }
}

impl Driven for client::Client {
    fn close(&mut self, now: Instant) {
        Self::close(self, now);
    }

    /// A client has no other way to close.
    fn drain(&mut self, now: Instant) {
        Self::close(self, now);
    }

    fn unfinished(&self) -> usize {
        self.outstanding()
    }

    fn has_output(&self) -> bool {
        Self::has_output(self)
    }

    #[cfg(feature = "blocking")]
    #[inline(always)]
    fn next_due(&mut self) -> Option<ConnId> {
        Self::next_due(self)
    }

    #[cfg(feature = "blocking")]
    #[inline(always)]
    fn rests_until(&mut self) -> Option<Option<Instant>> {
        Some(Self::rests_until(self))
    }

    #[cfg(feature = "blocking")]
    fn gathers_until(&self) -> Instant {
        Self::gathers_until(self)
    }

    fn flush(&mut self) {
        Self::flush(self);
    }

    fn is_last(event: &client::Event) -> bool {
        matches!(event, client::Event::Closed)
    }
}

impl Driven for worker::Worker {
    fn close(&mut self, now: Instant) {
        Self::close(self, now);
    }

    fn drain(&mut self, now: Instant) {
        Self::drain(self, now);
    }

    fn unfinished(&self) -> usize {
        self.in_hand()
    }

    fn has_output(&self) -> bool {
        Self::has_output(self)
    }

    #[cfg(feature = "blocking")]
    fn next_due(&mut self) -> Option<ConnId> {
        Self::next_due(self)
    }

    #[cfg(feature = "blocking")]
    fn rests_until(&mut self) -> Option<Option<Instant>> {
        Some(Self::rests_until(self))
    }

    fn is_last(event: &worker::Event) -> bool {
        matches!(event, worker::Event::Closed)
    }
}

impl Driven for server::Server {
    fn close(&mut self, now: Instant) {
        Self::close(self, now);
    }

    fn drain(&mut self, now: Instant) {
        Self::drain(self, now);
    }

    fn unfinished(&self) -> usize {
        let counters = self.counters();
        counters.running.max(counters.waiting)
    }

    fn has_output(&self) -> bool {
        Self::has_output(self)
    }

    fn is_last(event: &server::Event) -> bool {
        matches!(event, server::Event::Closed)
    }

    fn shuts_doors(event: &server::Event) -> bool {
        matches!(event, server::Event::Shutdown { .. })
    }
}

impl Driven for admin::Admin {
    fn close(&mut self, now: Instant) {
        Self::close(self, now);
    }

    /// It has no other way to close.
    fn drain(&mut self, now: Instant) {
        Self::close(self, now);
    }

    fn unfinished(&self) -> usize {
        self.outstanding()
    }

    fn has_output(&self) -> bool {
        Self::has_output(self)
    }

    fn is_last(event: &admin::Event) -> bool {
        matches!(event, admin::Event::Closed)
    }
}

/// Where a machine's events go.
pub(crate) trait Sink<E>: Send + 'static {
    /// Notes an event and whom to wake for it, or gives it back for the listener. Called with all locked.
    fn take(&mut self, event: E, wake: &mut Vec<Waker>) -> Option<E>;

    /// Who is to be woken of those who wait for anything that comes. They are woken one by one: whoever comes has the next
    /// one woken, and sees to it that somebody reads.
    fn summon(&mut self) -> Option<Waker> {
        None
    }

    /// Whether one of them was woken and has not come yet.
    #[cfg(feature = "blocking")]
    fn awaits_one(&self) -> bool {
        false
    }

    /// Whether there can be such.
    #[cfg(feature = "blocking")]
    const RELAYS: bool = false;

    /// Whether what the machine has to tell is to be seen to before anything is read or written, if there is something.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    fn may_put_off(&self) -> bool {
        false
    }
}

impl Sink<client::Event> for Post {
    #[inline(always)]
    fn take(&mut self, event: client::Event, wake: &mut Vec<Waker>) -> Option<client::Event> {
        self.deliver(event, wake)
    }
}

impl Sink<worker::Event> for Desk {
    fn take(&mut self, event: worker::Event, wake: &mut Vec<Waker>) -> Option<worker::Event> {
        self.deliver(event, wake)
    }

    #[inline]
    fn summon(&mut self) -> Option<Waker> {
        Self::summon(self)
    }

    #[cfg(feature = "blocking")]
    fn awaits_one(&self) -> bool {
        self.awaits_one()
    }

    #[cfg(feature = "blocking")]
    const RELAYS: bool = true;

    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    fn may_put_off(&self) -> bool {
        Self::may_put_off(self)
    }
}

impl Sink<admin::Event> for Replies {
    fn take(&mut self, event: admin::Event, wake: &mut Vec<Waker>) -> Option<admin::Event> {
        self.deliver(event, wake);
        None
    }
}

/// All a server's events are for its listener.
impl Sink<server::Event> for () {
    fn take(&mut self, event: server::Event, _: &mut Vec<Waker>) -> Option<server::Event> {
        Some(event)
    }
}
