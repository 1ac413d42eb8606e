//! The bytes that wait to be written on one connection.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::frame::header;
use crate::wire::{HEADER, Magic, PacketType};

/// A payload up to this size is copied behind its header: cheaper than a chunk of its own.
const COPIED: usize = 2 << 10;
/// What a connection keeps of its buffer when all is written and it needed less than that.
const KEPT: usize = 4 << 10;
/// What a busy connection keeps of it at most.
const KEPT_BUSY: usize = 128 << 10;
/// More than this cannot be taken for written at once.
const BULKY: usize = 256 << 10;
/// Small packets up to this size together are copied into a [`Batch`]: cheaper than to share their buffer.
const COPIED_TAIL: usize = 64 << 10;

/// Packets as chunks for a vectored write: small ones gathered, large payloads as they came.
#[derive(Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// The most that `tail` has held since the outbox was empty.
    peak: usize,
    /// The most that `tail` has held since it was made.
    room: usize,
    waiting: usize,
    taken: u64,
    /// As `taken`, with what a writer has in hand: it may be on its way, or not.
    offered: u64,
    bulky: bool,
}

impl Outbox {
    /// Appends a packet of `arguments` joined by NULs, the last of them `payload` where there is one.
    /// Says whether the outbox was empty: then its driver must be told ([`Output::Transmit`](crate::Output::Transmit)).
    #[must_use]
    #[inline]
    pub(crate) fn packet<const N: usize>(
        &mut self,
        magic: Magic,
        kind: PacketType,
        arguments: &[&[u8]; N],
        payload: Option<&Bytes>,
    ) -> bool {
        let was_empty = self.waiting == 0;
        let separators = (arguments.len() + usize::from(payload.is_some())).saturating_sub(1);
        let joined = arguments.iter().map(|argument| argument.len()).sum::<usize>() + separators;
        let size = joined + payload.map_or(0, Bytes::len);
        self.tail.extend_from_slice(&header(magic, kind, size));
        for (index, argument) in arguments.iter().enumerate() {
            self.tail.extend_from_slice(argument);
            if index < separators {
                self.tail.extend_from_slice(&[0]);
            }
        }
        match payload {
            Some(large) if large.len() > COPIED => {
                self.freeze_tail();
                self.chunks.push_back(large.clone());
            }
            Some(small) => self.tail.extend_from_slice(small),
            None => {}
        }
        self.waiting += HEADER + size;
        self.bulky |= self.waiting > BULKY;
        was_empty
    }

    /// Appends bytes as they are: a line of the text protocol. Says whether the outbox was empty.
    #[must_use]
    pub(crate) fn text(&mut self, bytes: &[u8]) -> bool {
        let was_empty = self.waiting == 0;
        self.tail.extend_from_slice(bytes);
        self.waiting += bytes.len();
        was_empty && !bytes.is_empty()
    }

    /// Appends what `write` puts into `room` bytes; it says how many those are.
    #[cfg(feature = "tls")]
    pub(crate) fn fill<E>(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        let before = self.tail.len();
        self.tail.resize(before + room, 0);
        let written = write(self.tail.get_mut(before..).unwrap_or_default());
        let length = written.as_ref().map_or(0, |length| (*length).min(room));
        self.tail.truncate(before + length);
        self.waiting += length;
        written.map(drop)
    }

    /// Bytes not yet taken.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Where in the stream of all bytes the next packet will begin; compare with [`taken`](Self::taken).
    pub(crate) const fn end(&self) -> u64 {
        self.taken + self.waiting as u64
    }

    /// How many bytes of the stream have been taken.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many bytes of the stream may have been taken, as far as the driver has told.
    pub(crate) const fn perhaps_taken(&self) -> u64 {
        if self.offered > self.taken { self.offered } else { self.taken }
    }

    /// Whether there has been much to write since this was last asked.
    pub(crate) fn take_bulky(&mut self) -> bool {
        core::mem::take(&mut self.bulky)
    }

    fn freeze_tail(&mut self) {
        if !self.tail.is_empty() {
            self.peak = self.peak.max(self.tail.len());
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    #[inline]
    fn advance(&mut self, taken: usize) {
        let left = taken.min(self.waiting);
        self.waiting -= left;
        self.taken += left as u64;
        self.offered = self.taken;
        if left == 0 {
            return;
        }
        if self.chunks.is_empty() && left == self.tail.len() {
            self.peak = self.peak.max(left);
            self.tail.clear();
            self.tidy();
        } else {
            self.advance_chunks(left);
        }
    }

    #[inline(never)]
    fn advance_chunks(&mut self, mut left: usize) {
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > left {
                first.advance(left);
                return;
            }
            left -= first.len();
            self.chunks.pop_front();
        }
        self.peak = self.peak.max(self.tail.len());
        self.tail.advance(left);
        if self.waiting == 0 {
            self.tidy();
        }
    }

    fn share_chunks(&mut self, most: usize, batch: &mut Batch) {
        if self.tail.len() > COPIED_TAIL {
            self.freeze_tail();
        }
        batch.chunks.extend(self.chunks.iter().take(most).cloned());
        if batch.chunks.len() < most {
            batch.tail.extend_from_slice(&self.tail);
        }
        let shared = batch.chunks.iter().map(Bytes::len).sum::<usize>() + batch.tail.len();
        self.offered += shared as u64;
    }

    /// A busy connection writes again into the same room; one that has become quiet gives it back.
    #[inline]
    fn tidy(&mut self) {
        self.room = self.room.max(self.peak);
        let kept = if self.peak > KEPT { KEPT_BUSY } else { KEPT };
        if self.room > kept {
            self.tail = BytesMut::new();
            self.room = 0;
        } else {
            // Now that it is empty, what has been written in front of it comes back without moving a byte.
            let _ = self.tail.try_reclaim(self.room);
        }
        self.peak = 0;
    }
}

/// The bytes to write on a connection, as chunks. They stay until [`advance`](Outgoing::advance) is told of them.
#[derive(Debug)]
pub struct Outgoing<'a>(Option<&'a mut Outbox>);

impl<'a> Outgoing<'a> {
    pub(crate) const fn new(outbox: Option<&'a mut Outbox>) -> Self {
        Self(outbox)
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |outbox| outbox.waiting)
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order, in chunks none of which is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|outbox| {
            let tail = Some(&outbox.tail[..]).filter(|tail| !tail.is_empty());
            outbox.chunks.iter().map(|chunk| &chunk[..]).filter(|chunk| !chunk.is_empty()).chain(tail)
        })
    }

    /// All of them, where they are in one piece, as those of small packets are.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            Some(outbox) if outbox.chunks.is_empty() => Some(&outbox.tail),
            Some(_) => None,
            None => Some(&[]),
        }
    }

    /// Puts the first chunks into `batch`, at most `most`, for a writer that must not hold the machine. Large payloads are not
    /// copied.
    #[inline]
    pub fn share(&mut self, most: usize, batch: &mut Batch) {
        batch.clear();
        let Some(outbox) = &mut self.0 else { return };
        outbox.offered = outbox.taken;
        if outbox.chunks.is_empty() && outbox.tail.len() <= COPIED_TAIL {
            batch.tail.extend_from_slice(&outbox.tail);
            outbox.offered += outbox.tail.len() as u64;
        } else {
            outbox.share_chunks(most, batch);
        }
    }

    /// `taken` bytes have been written. More than wait count as all of them. After a failed write of what was
    /// [`share`](Self::share)d say 0: until it is said, the machine must think that all of it may have left.
    #[inline]
    pub fn advance(&mut self, taken: usize) {
        if let Some(outbox) = &mut self.0 {
            outbox.advance(taken);
        }
    }

    /// For a layer between machine and driver that holds the first `held` bytes in its own form: the driver may have taken
    /// them by now, though nothing is known of it.
    #[cfg(feature = "tls")]
    pub(crate) fn offer(&mut self, held: usize) {
        if let Some(outbox) = &mut self.0 {
            outbox.offered = outbox.taken + held.min(outbox.waiting) as u64;
        }
    }
}

/// The bytes that a writer has in hand: see [`Outgoing::share`]. Its room is used again.
#[derive(Default)]
pub struct Batch {
    chunks: Vec<Bytes>,
    tail: Vec<u8>,
}

impl Batch {
    /// The bytes in order, in chunks none of which is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| &chunk[..]).chain(Some(&self.tail[..])).filter(|chunk| !chunk.is_empty())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// All of them, where they are in one piece, as those of small packets are.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        if self.chunks.is_empty() { Some(&self.tail) } else { None }
    }

    /// Forgets them.
    #[inline]
    pub fn clear(&mut self) {
        if !self.chunks.is_empty() {
            self.chunks.clear();
        }
        self.tail.clear();
    }
}

/// How much waits, not what.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting).field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// How many bytes it has, not which.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.chunks().map(<[u8]>::len).sum::<usize>();
        f.debug_struct("Batch").field("bytes", &bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    // The bench of the codec takes this file in, and has no tests.
    #[test]
    fn a_busy_connection_keeps_its_room_and_a_quiet_one_gives_it_back() {
        use super::*;

        let mut out = Outbox::default();
        let payload = Bytes::from(alloc::vec![b'x'; 1000]);
        // What so many packets leave of room when all are written.
        let mut room_after = |count| {
            for _ in 0..count {
                let _ = out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(&payload));
            }
            assert_eq!(out.waiting(), count * 1012);
            out.advance(usize::MAX);
            assert_eq!(out.waiting(), 0);
            out.tail.capacity()
        };
        assert!(room_after(3) <= 2 * KEPT);
        assert!(room_after(50) >= 50 * 1012, "it writes again into the same room");
        assert!(room_after(50) >= 50 * 1012);
        assert!(room_after(1) <= KEPT, "it needs no more than a little now");
        assert!(room_after(200) <= KEPT_BUSY, "nobody keeps so much");
        assert!(room_after(50) >= 50 * 1012);
        out.advance(0);
        assert!(out.tail.capacity() >= 50 * 1012, "that nothing was written says nothing of what it needs");
    }

    #[test]
    fn what_was_written_in_front_of_a_large_payload_comes_back_as_room() {
        use super::*;

        let mut out = Outbox::default();
        let (small, large) = (Bytes::from(alloc::vec![b'x'; 1000]), Bytes::from(alloc::vec![b'x'; COPIED + 1]));
        for _ in 0..3 {
            for payload in [&small; 50].into_iter().chain([&large]) {
                let _ = out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(payload));
            }
            assert_eq!(Outgoing::new(Some(&mut out)).chunks().count(), 2);
            out.advance(usize::MAX);
            assert!(out.tail.capacity() >= 50 * 1012);
            assert_eq!(out.peak, 0);
        }
        let _ = out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(&large));
        out.advance(usize::MAX);
        assert!(out.tail.capacity() <= KEPT);
    }

    #[test]
    fn payloads_are_copied_up_to_2_kib_and_much_is_more_than_256_kib() {
        use super::*;

        for (size, chunks) in [(2048, 1), (2049, 2)] {
            let mut out = Outbox::default();
            let payload = Bytes::from(alloc::vec![b'x'; size]);
            assert!(out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(&payload)));
            assert_eq!(Outgoing::new(Some(&mut out)).chunks().count(), chunks);
        }
        for (size, bulky) in [((256 << 10) - 12, false), ((256 << 10) - 11, true)] {
            let mut out = Outbox::default();
            let payload = Bytes::from(alloc::vec![b'x'; size]);
            let _ = out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(&payload));
            assert_eq!((out.take_bulky(), out.take_bulky()), (bulky, false));
        }
        let mut out = Outbox::default();
        assert!(!out.text(b""), "there is nothing to be told of");
        assert!(out.text(b"x") && !out.text(b"y"));
    }

    #[test]
    fn a_writer_gets_bytes_wherever_the_one_before_has_stopped() {
        use super::*;

        let mut out = Outbox::default();
        let payload = Bytes::from(alloc::vec![b'x'; 3000]);
        for _ in 0..2 {
            let _ = out.packet(Magic::Response, PacketType::ECHO_RES, &[], Some(&payload));
        }
        let mut batch = Batch::default();
        for (taken, next) in [(0, 12), (12, 3000), (2999, 1), (1, 12), (12, 3000), (3000, 0)] {
            out.advance(taken);
            let mut outgoing = Outgoing::new(Some(&mut out));
            assert_eq!(outgoing.chunks().next().map_or(0, <[u8]>::len), next);
            outgoing.share(1, &mut batch);
            assert_eq!(batch.chunks().map(<[u8]>::len).sum::<usize>(), next);
            assert_eq!(out.perhaps_taken(), out.taken() + next as u64);
        }
        assert_eq!((out.taken(), out.end(), out.waiting()), (6024, 6024, 0));
    }
}
