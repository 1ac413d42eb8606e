//! The jobs outstanding in a client: found by id, by handle and by deadline.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use hashbrown::HashTable;
use slab::Slab;

use crate::job::{Deadlines, Handle, Job, JobId, Phase, Retry, Unique};
use crate::random::Random;
use crate::time::Instant;
use crate::trace::{self, Span};

/// How far a job is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Waits for a job server.
    Parked,
    /// Waits for its next attempt.
    Delayed { until: Instant },
    /// Given to a connection, whose stream is past it at `end`.
    Sent { end: u64 },
    /// The job server has it.
    Accepted { handle: Handle, running: bool, doubt: Option<Box<Doubt>> },
}

/// A job that may have joined one which its job server will throw away: gearmand lets a lost foreground job catch new
/// submissions of its unique. So the server is asked, at growing intervals, whether it still knows it.
#[derive(Debug)]
pub(super) struct Doubt {
    /// When the server is asked next; `None` while its answer is awaited.
    pub(super) ask_at: Option<Instant>,
    pub(super) interval: Duration,
    pub(super) unknown: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// The place of its job server, from `Sent` on.
    pub(super) link: usize,
    pub(super) attempts: u32,
    pub(super) submitted: Instant,
    pub(super) span: Span,
    /// Since when it waits for JOB_CREATED (since `submit`, or since it was lost after one); once it has that, when it last
    /// gave a sign of life.
    pub(super) since: Instant,
    timer: Instant,
    generation: u32,
    sequence: u64,
    /// Packets dealt to it since its handle was shared; see [`Jobs::deal`].
    dealt: u32,
    /// Of its handle, once it has one.
    hash: u64,
    /// Of what job servers join it by; 0 if they must not.
    joins: u64,
    /// What of it waits to be read, as [`Limits::max_unread`](crate::Limits::max_unread) counts.
    pub(super) unread: usize,
    /// That is too much, and its connection is paused.
    pub(super) holds: bool,
    /// Only its end is wanted.
    pub(super) muted: bool,
}

impl Entry {
    /// `taken`: how many bytes its connection has taken.
    pub(super) fn phase(&self, taken: u64) -> Phase {
        match &self.stage {
            Stage::Parked | Stage::Delayed { .. } => Phase::Parked,
            Stage::Sent { end } if taken < *end => Phase::Sending,
            Stage::Sent { .. } => Phase::Sent,
            Stage::Accepted { running: false, .. } => Phase::Accepted,
            Stage::Accepted { running: true, .. } => Phase::Running,
        }
    }

    /// Its place in the order of submission.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a connection has it.
    pub(super) fn is_placed(&self) -> bool {
        matches!(self.stage, Stage::Sent { .. } | Stage::Accepted { .. })
    }

    pub(super) fn retry(&self, default: Retry) -> Retry {
        self.job.extra.as_ref().and_then(|extra| extra.retry).unwrap_or(default)
    }

    /// How much of it may wait to be read.
    pub(super) fn max_unread(&self, default: usize) -> usize {
        self.job.extra.as_ref().and_then(|extra| extra.max_unread).unwrap_or(default)
    }

    /// When one of its deadlines passes.
    pub(super) fn deadline(&self, defaults: &Deadlines) -> Instant {
        let own;
        let limits = match &self.job.extra {
            None => defaults,
            Some(extra) => {
                own = extra.deadlines.or(defaults);
                &own
            }
        };
        let other = match self.stage {
            Stage::Accepted { .. } => limits.idle,
            _ => limits.accept,
        };
        self.submitted.within(limits.total).min(self.since.within(other))
    }

    fn next_timer(&self, defaults: &Deadlines) -> Instant {
        let other = match &self.stage {
            Stage::Delayed { until } => Some(*until),
            Stage::Accepted { doubt: Some(doubt), .. } => doubt.ask_at,
            Stage::Accepted { .. } | Stage::Parked | Stage::Sent { .. } => None,
        };
        self.deadline(defaults).min(other.unwrap_or(Instant::NEVER))
    }
}

/// Handles of which ghosts are kept, at most.
const MAX_GHOSTS: usize = 4096;

/// Submissions of one handle that have ended here, while their job server goes on to send copies for them.
#[derive(Debug, Default)]
struct Ghosts {
    count: u64,
    /// The copies that all of them have had, since the handle was shared.
    dealt: u64,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    slab: Slab<Entry>,
    handles: HashTable<u32>,
    /// By link and handle.
    ghosts: BTreeMap<(usize, Vec<u8>), Ghosts>,
    /// Most jobs have the same time to be accepted in, so that their timers come in order and stand in a queue. One that
    /// holds no more, as its job has ended or has another, is passed over when it comes to the front.
    timers: VecDeque<(Instant, JobId)>,
    /// Those that came out of order.
    other_timers: BTreeSet<(Instant, JobId)>,
    /// In the order of submission.
    parked: BTreeSet<(u64, u32)>,
    next: u64,
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        let timers = self.timers.len() + self.other_timers.len();
        self.slab.is_empty() && self.handles.is_empty() && timers == 0 && self.parked.is_empty()
    }

    /// Takes up a job; its stage is to be set next.
    pub(super) fn insert(&mut self, job: Job, now: Instant) -> JobId {
        let sequence = self.next;
        self.next += 1;
        let generation = sequence as u32;
        let vacant = self.slab.vacant_entry();
        let place = vacant.key();
        vacant.insert(Entry {
            span: trace::submitted(&job),
            job,
            stage: Stage::Parked,
            link: 0,
            attempts: 0,
            submitted: now,
            since: now,
            timer: Instant::NEVER,
            generation,
            sequence,
            dealt: 0,
            hash: 0,
            joins: 0,
            unread: 0,
            holds: false,
            muted: false,
        });
        JobId::new(u32::try_from(place).unwrap_or(u32::MAX), generation)
    }

    pub(super) fn entry(&self, id: JobId) -> Option<&Entry> {
        self.slab.get(id.index()).filter(|entry| entry.generation == id.generation())
    }

    pub(super) fn entry_mut(&mut self, id: JobId) -> Option<&mut Entry> {
        self.slab.get_mut(id.index()).filter(|entry| entry.generation == id.generation())
    }

    /// All that are outstanding.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Entry)> {
        self.slab
            .iter()
            .map(|(index, entry)| (JobId::new(u32::try_from(index).unwrap_or(u32::MAX), entry.generation), entry))
    }

    /// Those that wait for a job server, oldest first.
    pub(super) fn parked(&self) -> impl Iterator<Item = JobId> {
        self.parked.iter().map(|&(sequence, index)| JobId::new(index, sequence as u32))
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// A job waits for a job server, or for its next attempt.
    pub(super) fn put_off(&mut self, id: JobId, until: Option<Instant>, defaults: &Deadlines) {
        let Some(entry) = self.entry_mut(id) else { return };
        let (key, hash) = ((entry.sequence, id.index() as u32), entry.hash);
        let stage = until.map_or(Stage::Parked, |until| Stage::Delayed { until });
        if matches!(core::mem::replace(&mut entry.stage, stage), Stage::Accepted { .. }) {
            self.forget_handle(hash, id);
        }
        if until.is_none() {
            self.parked.insert(key);
        }
        self.set_timer(id, defaults);
    }

    /// A job was given to a connection, whose stream is past it at `end`.
    pub(super) fn sent(&mut self, id: JobId, end: u64, defaults: &Deadlines) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.stage = Stage::Sent { end };
        let key = (entry.sequence, id.index() as u32);
        if !self.parked.is_empty() {
            self.parked.remove(&key);
        }
        self.set_timer(id, defaults);
    }

    /// A job that was sent has been given its handle. False where it may not have that: another one has it, and they are not
    /// one job to their server.
    pub(super) fn accept(
        &mut self,
        id: JobId,
        handle: Handle,
        doubt: Option<Box<Doubt>>,
        random: &Random,
        defaults: &Deadlines,
    ) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let (link, joins) = (entry.link, entry.joins);
        let hash = hash(random, link, handle.as_bytes());
        // A newcomer's turn comes when those before it have had as many packets as the foremost of them.
        let mut dealt = None;
        for &other in self.handles.iter_hash(hash) {
            if let Some(other) = self.slab.get(other as usize).filter(|other| is_at(other, link, handle.as_bytes())) {
                if joins == 0 || other.joins != joins {
                    return false;
                }
                dealt = dealt.max(Some(other.dealt));
            }
        }
        if dealt.is_none() && !self.ghosts.is_empty() {
            let ghosts = self.ghosts.get(&(link, handle.as_bytes().into()));
            dealt = ghosts.and_then(|ghosts| u32::try_from(ghosts.dealt.div_ceil(ghosts.count)).ok());
        }
        let slab = &self.slab;
        let hash_of = |&index: &u32| slab.get(index as usize).map_or(0, |entry| entry.hash);
        self.handles.insert_unique(hash, id.index() as u32, hash_of);
        if let Some(entry) = self.entry_mut(id) {
            (entry.hash, entry.dealt) = (hash, dealt.unwrap_or(0));
            entry.stage = Stage::Accepted { handle, running: false, doubt };
        }
        self.set_timer(id, defaults);
        true
    }

    /// Where a job is never submitted again, what it was made of is no longer needed.
    pub(super) fn forget_contents(&mut self, id: JobId, default: Retry) {
        if let Some(entry) = self.entry_mut(id)
            && !matches!(entry.retry(default), Retry::Idempotent { .. })
        {
            entry.job.function = Bytes::new();
            entry.job.payload = Bytes::new();
            entry.job.unique = Unique::None;
        }
    }

    /// Has a job looked at when something is next due for it, or before: a timer is not put off when its job no longer needs
    /// it so soon.
    pub(super) fn set_timer(&mut self, id: JobId, defaults: &Deadlines) {
        let Some(entry) = self.entry_mut(id) else { return };
        let at = entry.next_timer(defaults);
        if at >= entry.timer {
            return;
        }
        entry.timer = at;
        while self.timers.front().is_some_and(|first| !holds(&self.slab, first)) {
            self.timers.pop_front();
        }
        let timer = (at, id);
        if self.timers.back().is_none_or(|&(last, _)| last <= at) {
            self.timers.push_back(timer);
        } else {
            self.other_timers.insert(timer);
        }
        if self.timers.len() + self.other_timers.len() > 2 * self.slab.len() {
            self.timers.retain(|timer| holds(&self.slab, timer));
            self.other_timers.retain(|timer| holds(&self.slab, timer));
        }
    }

    fn first(&self) -> Option<(Instant, JobId)> {
        match (self.timers.front(), self.other_timers.first()) {
            (Some(&queued), Some(&other)) => Some(queued.min(other)),
            (queued, other) => queued.or(other).copied(),
        }
    }

    pub(super) fn first_timer(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// A job whose timer has come, and which has none from now on.
    pub(super) fn timed(&mut self, now: Instant) -> Option<JobId> {
        loop {
            let timer = self.first().filter(|(at, _)| *at <= now)?;
            if !self.other_timers.remove(&timer) {
                self.timers.pop_front();
            }
            if holds(&self.slab, &timer)
                && let Some(entry) = self.entry_mut(timer.1)
            {
                entry.timer = Instant::NEVER;
                return Some(timer.1);
            }
        }
    }

    /// Who gets a packet for `handle` on `link`, and whether others share the handle. A server sends one copy for each
    /// submission that does, so the copies are dealt in turn.
    pub(super) fn deal(&mut self, link: usize, handle: &[u8], random: &Random) -> Option<(JobId, bool)> {
        let hash = hash(random, link, handle);
        if !self.ghosts.is_empty() {
            return self.deal_in_turn(link, handle, hash);
        }
        let slab = &self.slab;
        let is_it = |&index: &u32| slab.get(index as usize).is_some_and(|entry| is_at(entry, link, handle));
        let &index = self.handles.find(hash, is_it)?;
        let entry = self.slab.get(index as usize)?;
        // Only a job that is joined with others shares its handle.
        match entry.joins {
            0 => Some((JobId::new(index, entry.generation), false)),
            _ => self.deal_in_turn(link, handle, hash),
        }
    }

    #[cold]
    fn deal_in_turn(&mut self, link: usize, handle: &[u8], hash: u64) -> Option<(JobId, bool)> {
        let slab = &self.slab;
        let sharing = self
            .handles
            .iter_hash(hash)
            .filter_map(|&index| slab.get(index as usize).map(|entry| (index, entry)))
            .filter(|(_, entry)| is_at(entry, link, handle));
        let shared = sharing.clone().nth(1).is_some();
        let first = sharing.min_by_key(|(_, entry)| (entry.dealt, entry.sequence));
        let first = first.map(|(index, entry)| (index, entry.dealt));
        if !self.ghosts.is_empty()
            && let Some(ghosts) = self.ghosts.get_mut(&(link, handle.into()))
            // A round is over when each of them has had its copy, too.
            && first.is_none_or(|(_, rounds)| ghosts.dealt < ghosts.count * u64::from(rounds))
        {
            ghosts.dealt += 1;
            return None;
        }
        let (index, _) = first?;
        let entry = self.slab.get_mut(index as usize)?;
        entry.dealt = entry.dealt.wrapping_add(1);
        Some((JobId::new(index, entry.generation), shared))
    }

    /// What job servers join this job by, to be noted before the job forgets what it was made of.
    pub(super) fn note_joins(&mut self, id: JobId, random: &Random) {
        let Some(entry) = self.entry_mut(id) else { return };
        if let Some(unique) = joins(&entry.job) {
            // `-` stands for the payload.
            let payload = if unique == b"-" { random.hash_one(&entry.job.payload) } else { 0 };
            let named = random.hash_one(&entry.job.function).rotate_left(21) ^ random.hash_one(unique);
            entry.joins = (named.rotate_left(21) ^ payload) | 1;
        }
    }

    /// A job ends here that its server goes on with: the copies for it are nobody's from now on.
    pub(super) fn leave_ghost(&mut self, id: JobId) {
        let Some(entry) = self.entry(id).filter(|entry| entry.joins != 0) else { return };
        let Stage::Accepted { handle, .. } = &entry.stage else { return };
        let (link, handle, dealt) = (entry.link, handle.clone(), entry.dealt);
        self.haunt(link, &handle, dealt);
    }

    /// A submission that has ended before has been given a handle.
    pub(super) fn ghost_created(&mut self, link: usize, handle: &Handle, random: &Random) {
        let slab = &self.slab;
        let name = handle.as_bytes();
        let sharing = self.handles.iter_hash(hash(random, link, name)).filter_map(|&other| slab.get(other as usize));
        let dealt = sharing.filter(|other| is_at(other, link, name)).map(|other| other.dealt).max();
        self.haunt(link, handle, dealt.unwrap_or(0));
    }

    /// Whether there are ghosts at all.
    pub(super) fn are_haunted(&self) -> bool {
        !self.ghosts.is_empty()
    }

    fn haunt(&mut self, link: usize, handle: &Handle, dealt: u32) {
        if self.ghosts.len() >= MAX_GHOSTS {
            self.ghosts.pop_first();
        }
        let ghosts = self.ghosts.entry((link, handle.as_bytes().into())).or_default();
        ghosts.count += 1;
        ghosts.dealt += u64::from(dealt);
    }

    /// A handle has come to its end: nothing more will come for those who had it.
    pub(super) fn lay_ghosts(&mut self, link: usize, handle: &Handle, random: &Random) {
        if self.ghosts.is_empty() {
            return;
        }
        let slab = &self.slab;
        let name = handle.as_bytes();
        let mut others = self.handles.iter_hash(hash(random, link, name));
        if !others.any(|&other| slab.get(other as usize).is_some_and(|other| is_at(other, link, name))) {
            self.ghosts.remove(&(link, handle.as_bytes().into()));
        }
    }

    /// The connection of a link is gone, and with it all handles.
    pub(super) fn lay_all_ghosts(&mut self, link: usize) {
        self.ghosts.retain(|(other, _), _| *other != link);
    }

    /// Any job that has this handle.
    pub(super) fn first_of(&self, link: usize, handle: &Handle, random: &Random) -> Option<JobId> {
        let with_entry = |&index: &u32| self.slab.get(index as usize).map(|entry| (index, entry));
        let name = handle.as_bytes();
        let all = self.handles.iter_hash(hash(random, link, name)).filter_map(with_entry);
        let first = all.filter(|(_, entry)| is_at(entry, link, name)).min_by_key(|(_, entry)| entry.sequence);
        first.map(|(index, entry)| JobId::new(index, entry.generation))
    }

    /// Takes a job out: it has ended.
    pub(super) fn remove(&mut self, id: JobId) {
        let Some(entry) = self.entry(id) else { return };
        match entry.stage {
            Stage::Accepted { .. } => self.forget_handle(entry.hash, id),
            Stage::Parked => drop(self.parked.remove(&(entry.sequence, id.index() as u32))),
            _ => {}
        }
        self.slab.try_remove(id.index());
        if self.slab.is_empty() {
            self.timers.clear();
            self.other_timers.clear();
        }
    }

    fn forget_handle(&mut self, hash: u64, id: JobId) {
        if let Ok(found) = self.handles.find_entry(hash, |&index| index as usize == id.index()) {
            found.remove();
        }
    }
}

/// Whether a timer is that of its job: not that of one which has ended, whose place another job has that is due at the same
/// time.
fn holds(slab: &Slab<Entry>, &(at, id): &(Instant, JobId)) -> bool {
    slab.get(id.index()).is_some_and(|entry| entry.timer == at && entry.generation == id.generation())
}

/// The unique by which job servers join a foreground job with others.
pub(super) fn joins(job: &Job) -> Option<&[u8]> {
    match &job.unique {
        Unique::Own(unique) if !job.background && !unique.is_empty() => Some(unique),
        _ => None,
    }
}

fn is_at(entry: &Entry, link: usize, wanted: &[u8]) -> bool {
    entry.link == link && matches!(&entry.stage, Stage::Accepted { handle, .. } if handle.as_bytes() == wanted)
}

fn hash(random: &Random, link: usize, handle: &[u8]) -> u64 {
    random.quick_hash(handle).wrapping_add(link as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Deadlines = Deadlines { accept: Some(Duration::from_secs(30)), total: None, idle: None };

    fn at(seconds: u64) -> Instant {
        Instant::from_epoch(Duration::from_secs(seconds))
    }

    fn send(jobs: &mut Jobs, now: Instant) -> JobId {
        let id = jobs.insert(Job::new("f", ""), now);
        jobs.sent(id, 0, &DEFAULTS);
        id
    }

    #[test]
    fn timers_of_jobs_that_have_ended_do_not_pile_up() {
        let mut jobs = Jobs::default();
        let long = send(&mut jobs, at(0));
        for second in 1..10_000 {
            let id = send(&mut jobs, at(second));
            jobs.remove(id);
            assert!(jobs.timers.len() <= 4, "{}", jobs.timers.len());
        }
        assert_eq!(jobs.first_timer(), Some(at(30)));
        jobs.remove(long);
        assert!(jobs.is_empty());
    }

    #[test]
    fn timers_of_jobs_with_one_deadline_do_not_pile_up() {
        let mut jobs = Jobs::default();
        let mut last = send(&mut jobs, at(0));
        for _ in 1..10_000 {
            let id = send(&mut jobs, at(0));
            jobs.remove(core::mem::replace(&mut last, id));
            assert!(jobs.timers.len() <= 4, "{}", jobs.timers.len());
        }
        assert_eq!((jobs.timed(at(30)), jobs.timed(at(30))), (Some(last), None));
    }

    #[test]
    fn a_timer_that_was_put_off_is_looked_at_once() {
        let mut jobs = Jobs::default();
        let random = Random::new(&[0; 32].into());
        let (id, handle) = (send(&mut jobs, at(0)), Handle::from_wire(b"H:1"));
        assert!(jobs.accept(id, handle, None, &random, &DEFAULTS));
        assert_eq!(jobs.timed(at(29)), None);
        assert_eq!(jobs.timed(at(30)), Some(id));
        jobs.set_timer(id, &DEFAULTS);
        assert_eq!((jobs.timed(at(1000)), jobs.first_timer()), (None, None));
    }
}
