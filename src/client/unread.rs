//! Back-pressure towards the user: what waits to be read, and what is done when that is too much.

use super::{Client, Unread};
use crate::job::JobId;
use crate::time::Instant;

/// What an event counts beside its payload where unread events are counted, in bytes: about what it takes to keep it.
pub const EVENT_COST: usize = 128;

impl Client {
    /// The user has read a [`Data`](super::Event::Data) or [`Warning`](super::Event::Warning) event of a job, with a payload
    /// of so many bytes. To be told of each that was polled, unless the client is [`Unread::Polled`]; one whose job has
    /// ended need not be.
    pub fn release(&mut self, job: JobId, payload: usize, now: Instant) {
        self.links.advance_clock(now);
        let defaults = self.jobs.defaults;
        let Some(entry) = self.jobs.entry_mut(job) else { return };
        let read = entry.unread.min(payload.saturating_add(EVENT_COST));
        entry.unread -= read;
        self.unread -= read;
        if entry.holds && entry.unread <= entry.terms(&defaults).max_unread / 2 {
            entry.holds = false;
            let place = entry.link;
            self.links.unhold(place);
        }
    }

    /// Nothing but the end of a job is wanted from now on: its [`Done`](super::Event::Done) is the next event of it that the
    /// machine makes. What was polled before counts as read, and nothing of it waits to be read any more.
    pub fn want_end(&mut self, job: JobId, now: Instant) {
        self.links.advance_clock(now);
        if !self.mute(job)
            && let Some(entry) = self.jobs.entry_mut(job)
        {
            entry.holds = false;
            let place = entry.link;
            self.links.unhold(place);
            self.mute(job);
        }
    }

    /// The same without the time; but where its connection is paused for the job, it says false and does nothing.
    #[inline]
    pub(crate) fn mute(&mut self, job: JobId) -> bool {
        let Some(entry) = self.jobs.entry_mut(job) else { return true };
        if !entry.holds {
            entry.muted = true;
            self.unread -= core::mem::take(&mut entry.unread);
        }
        !entry.holds
    }

    pub(super) fn is_muted(&self, job: JobId) -> bool {
        self.jobs.entry(job).is_some_and(|entry| entry.muted)
    }

    /// A job runs again before its user has read what came of it before: on to the new connection goes the pause, else each
    /// attempt would bring more than may wait.
    pub(super) fn hold_again(&mut self, place: usize, job: JobId) {
        let defaults = self.jobs.defaults;
        if self.config.unread == Unread::Pause
            && let Some(entry) = self.jobs.entry_mut(job)
            && entry.unread > 0
            && (entry.unread >= entry.terms(&defaults).max_unread || self.unread >= self.links.limits.max_unread_total)
        {
            entry.holds = true;
            self.links.hold(place);
        }
    }

    /// Whether an event with a payload of so many bytes may wait for the user of `job`. Ends the job when it may not.
    pub(super) fn may_wait(&mut self, place: usize, job: JobId, payload: usize) -> bool {
        let (total_limit, defaults) = (self.links.limits.max_unread_total, self.jobs.defaults);
        let Some(entry) = self.jobs.entry_mut(job).filter(|entry| !entry.muted) else { return false };
        let limit = entry.terms(&defaults).max_unread;
        let cost = payload.saturating_add(EVENT_COST);
        let (unread, total) = (entry.unread.saturating_add(cost), self.unread.saturating_add(cost));
        match self.config.unread {
            Unread::Polled => return true,
            Unread::Overflow if entry.unread > 0 && (unread > limit || total > total_limit) => {
                self.overflow(place, job, limit.min(total_limit));
                return false;
            }
            Unread::Pause if (unread >= limit || total >= total_limit) && !entry.holds => {
                entry.holds = true;
                self.links.hold(place);
            }
            Unread::Overflow | Unread::Pause => {}
        }
        (entry.unread, self.unread) = (unread, total);
        true
    }
}
