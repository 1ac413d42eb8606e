//! A connection that this side dialled: packets in and out, and which replies are due.
//!
//! A job server answers the requests of one connection in order, and its ERROR may take the place of any reply. So the
//! replies that are due stand in a queue, each with what its owner must know when it comes.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::outbox::Outbox;
use crate::time::Instant;
use crate::wire::{Magic, PacketType};

#[derive(Debug)]
pub(crate) struct Connection<R> {
    pub(crate) out: Outbox,
    replies: VecDeque<(R, Instant)>,
}

impl<R> Connection<R> {
    pub(crate) fn new() -> Self {
        Self { out: Outbox::default(), replies: VecDeque::new() }
    }

    /// Queues a packet that has no reply. Says whether the driver must be told to write.
    #[must_use]
    pub(crate) fn send<const N: usize>(
        &mut self,
        kind: PacketType,
        arguments: &[&[u8]; N],
        payload: Option<&Bytes>,
    ) -> bool {
        self.out.packet(Magic::Request, kind, arguments, payload)
    }

    /// Remembers that `reply` is due for the packet sent last.
    pub(crate) fn expect(&mut self, reply: R, now: Instant) {
        self.replies.push_back((reply, now));
    }

    /// Takes the first due reply that `wanted` accepts, and forgets those before it that `never_came` allows to miss.
    pub(crate) fn take_reply(&mut self, wanted: impl Fn(&R) -> bool, never_came: impl Fn(&R) -> bool) -> Option<R> {
        loop {
            let (first, _) = self.replies.front()?;
            if wanted(first) {
                return self.replies.pop_front().map(|(reply, _)| reply);
            }
            if !never_came(first) {
                return None;
            }
            self.replies.pop_front();
        }
    }

    /// The reply that is due next and since when.
    pub(crate) fn due(&self) -> Option<&(R, Instant)> {
        self.replies.front()
    }

    /// The reply that is due next, for one that comes in parts.
    pub(crate) fn due_mut(&mut self) -> Option<&mut R> {
        self.replies.front_mut().map(|(reply, _)| reply)
    }

    /// The reply that is due last.
    pub(crate) fn due_last(&self) -> Option<&R> {
        self.replies.back().map(|(reply, _)| reply)
    }

    /// Ends it: the replies that will never come, in order.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = R> + use<R> {
        self.out = Outbox::default();
        core::mem::take(&mut self.replies).into_iter().map(|(reply, _)| reply)
    }
}
