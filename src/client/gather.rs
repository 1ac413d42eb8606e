//! Submissions that wait a moment for others, to leave with them: see [`Config::gather`](super::Config::gather).
//!
//! A client that has many jobs outstanding and submits one for each that ends would write one packet at a time, and be read
//! and answered one packet at a time, though none of them is run before those that wait for a worker already.

use alloc::vec::Vec;
use core::time::Duration;

use super::Client;
use crate::time::Instant;

/// One submission may wait in so many jobs that its job server has.
const SHARE: usize = 8;
/// Where a server has fewer, that would be less than three, which are not worth waiting for.
pub(super) const FEWEST: usize = 3 * SHARE + 1;
/// So many ends at a time are few, and so often in a row they are a trickle.
const FEW: usize = 2;
const IN_A_ROW: usize = 16;
/// Submissions, and bytes, that leave together at most.
const MOST: usize = 64;
const MOST_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Gathering {
    within: Duration,
    /// By the place of the job server.
    places: Vec<Gathered>,
    /// None of them waits for longer than until then.
    next: Instant,
}

#[derive(Debug)]
struct Gathered {
    /// When a job ended last, and how many did then.
    ended: Instant,
    together: usize,
    /// How often in a row before that few ended at a time, shortly behind the time before.
    trickled: usize,
    waiting: usize,
    until: Instant,
}

impl Gathering {
    pub(super) const fn new(within: Duration) -> Self {
        Self { within, places: Vec::new(), next: Instant::NEVER }
    }

    /// A job of the server at `place` has ended. Those whose ends came together count as one.
    #[inline]
    pub(super) fn ended(&mut self, place: usize, now: Instant) {
        if self.within.is_zero() {
            return;
        }
        let Some(this) = self.places.get_mut(place) else { return self.ended_first(place, now) };
        if this.ended < now {
            let trickles = this.together <= FEW && now < this.ended + self.within;
            this.trickled = if trickles { this.trickled + 1 } else { 0 };
            (this.ended, this.together) = (now, 0);
        }
        this.together += 1;
    }

    #[cold]
    fn ended_first(&mut self, place: usize, now: Instant) {
        let nothing = || Gathered { ended: now, together: 1, trickled: 0, waiting: 0, until: Instant::EPOCH };
        self.places.resize_with(place + 1, nothing);
    }

    /// Whether a submission to a server that has so many jobs, this one and those that wait among them, waits for others.
    #[inline]
    pub(super) fn waits(&mut self, place: usize, outstanding: usize, now: Instant) -> bool {
        let Some(this) = self.places.get_mut(place) else { return false };
        let waiting = this.waiting + 1;
        let most = (outstanding.saturating_sub(waiting) / SHARE).min(MOST);
        let trickles = this.trickled >= IN_A_ROW && this.together <= FEW && now < this.ended + self.within;
        let over = this.waiting > 0 && this.until <= now;
        if !trickles || waiting > most || over {
            return false;
        }
        if waiting == 1 {
            this.until = now + self.within;
            self.next = self.next.min(this.until);
        }
        this.waiting = waiting;
        true
    }

    /// None waits at `place` any more.
    #[inline]
    pub(super) fn left(&mut self, place: usize) {
        if let Some(this) = self.places.get_mut(place)
            && core::mem::take(&mut this.waiting) > 0
            && self.places.iter().all(|this| this.waiting == 0)
        {
            self.next = Instant::NEVER;
        }
    }

    /// When some have waited long enough.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Whether some at `place` have; to be asked of every place once [`next`](Self::next) has come.
    pub(super) fn is_over(&mut self, place: usize, now: Instant) -> bool {
        let Some(this) = self.places.get_mut(place).filter(|this| this.waiting > 0) else { return false };
        let over = this.until <= now;
        if over {
            this.waiting = 0;
        } else {
            self.next = self.next.min(this.until);
        }
        over
    }
}

impl Client {
    /// Has the submissions that wait for others (see [`Config::gather`](super::Config::gather)) leave now.
    pub fn flush(&mut self) {
        self.end_gathering(Instant::NEVER);
    }

    /// A submission was put behind what is to be written to the server at `place`.
    #[inline]
    pub(super) fn depart(&mut self, place: usize, may_wait: bool) {
        let Self { links, candidates, gathering, .. } = self;
        let (Some(link), Some(candidate)) = (links.get(place), candidates.get(place)) else { return };
        let waits = candidate.outstanding >= FEWEST
            && may_wait
            && link.untold
            && link.connection.out.waiting() < MOST_BYTES
            && gathering.waits(place, candidate.outstanding, links.now);
        if !waits {
            links.tell(place);
            gathering.left(place);
        }
    }

    /// Has those leave that have waited until `now`.
    pub(super) fn end_gathering(&mut self, now: Instant) {
        if self.gathering.next > now {
            return;
        }
        self.gathering.next = Instant::NEVER;
        for place in 0..self.links.len() {
            if self.gathering.is_over(place, now) {
                self.links.tell(place);
            }
        }
    }
}
