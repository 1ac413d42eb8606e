//! The jobs outstanding in a client: found by id, by handle and by deadline.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::job::{Deadlines, Handle, Job, JobId, Phase, Retry, Unique};
use crate::random::Random;
use crate::time::{Instant, earlier};
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
    timer: Option<Instant>,
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
    pub(super) fn deadline(&self, defaults: &Deadlines) -> Option<Instant> {
        let own = self.job.extra.as_ref().map(|extra| &extra.deadlines);
        let most = |limit: fn(&Deadlines) -> Option<Duration>| own.and_then(limit).or_else(|| limit(defaults));
        let total = most(|deadlines| deadlines.total).map(|total| self.submitted + total);
        let other = match self.stage {
            Stage::Accepted { .. } => most(|deadlines| deadlines.idle),
            _ => most(|deadlines| deadlines.accept),
        };
        earlier(total, other.map(|other| self.since + other))
    }

    fn next_timer(&self, defaults: &Deadlines) -> Option<Instant> {
        let other = match &self.stage {
            Stage::Delayed { until } => Some(*until),
            Stage::Accepted { doubt, .. } => doubt.as_ref().and_then(|doubt| doubt.ask_at),
            Stage::Parked | Stage::Sent { .. } => None,
        };
        earlier(self.deadline(defaults), other)
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
    /// holds no more, as its job has another, is passed over when it comes to the front.
    timers: VecDeque<(Instant, u32)>,
    /// Those that came out of order.
    other_timers: BTreeSet<(Instant, u32)>,
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
            timer: None,
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

    /// Moves a job to another stage and sets its timer anew.
    pub(super) fn set_stage(&mut self, id: JobId, stage: Stage, defaults: &Deadlines) {
        let Some(entry) = self.entry_mut(id) else { return };
        let (key, hash) = ((entry.sequence, id.index() as u32), entry.hash);
        let (parks, accepted) = (matches!(stage, Stage::Parked), matches!(stage, Stage::Accepted { .. }));
        match core::mem::replace(&mut entry.stage, stage) {
            Stage::Accepted { .. } => self.forget_handle(hash, id),
            Stage::Parked if !parks => drop(self.parked.remove(&key)),
            _ => {}
        }
        if parks {
            self.parked.insert(key);
        }
        if accepted {
            self.remember_handle(id);
        }
        self.set_timer(id, defaults);
    }

    fn remember_handle(&mut self, id: JobId) {
        let Some(entry) = self.entry(id) else { return };
        let Stage::Accepted { handle, .. } = &entry.stage else { return };
        let (link, hash) = (entry.link, entry.hash);
        // A newcomer's turn comes when those before it have had as many packets as the foremost of them.
        let others = self.handles.iter_hash(hash).filter_map(|&other| self.slab.get(other as usize));
        let mut dealt = others.filter(|other| is_at(other, link, handle.as_bytes())).map(|other| other.dealt).max();
        if dealt.is_none() && !self.ghosts.is_empty() {
            let ghosts = self.ghosts.get(&(link, handle.as_bytes().into()));
            dealt = ghosts.and_then(|ghosts| u32::try_from(ghosts.dealt.div_ceil(ghosts.count)).ok());
        }
        if let Some(entry) = self.entry_mut(id) {
            entry.dealt = dealt.unwrap_or(0);
        }
        let slab = &self.slab;
        let hash_of = |&index: &u32| slab.get(index as usize).map_or(0, |entry| entry.hash);
        self.handles.insert_unique(hash, id.index() as u32, hash_of);
    }

    /// Sets the timer of a job to what is due for it next.
    pub(super) fn set_timer(&mut self, id: JobId, defaults: &Deadlines) {
        let index = id.index() as u32;
        let Some(entry) = self.slab.get_mut(id.index()) else { return };
        let next = entry.next_timer(defaults);
        if next == entry.timer {
            return;
        }
        let old = core::mem::replace(&mut entry.timer, next);
        if let Some(new) = next {
            if self.timers.back().is_none_or(|&(last, _)| last <= new) {
                self.timers.push_back((new, index));
            } else {
                self.other_timers.insert((new, index));
            }
        }
        self.drop_timer(old, index);
    }

    /// Forgets a timer that its job no longer has.
    fn drop_timer(&mut self, old: Option<Instant>, index: u32) {
        let Some(old) = old else { return };
        self.other_timers.remove(&(old, index));
        let slab = &self.slab;
        let holds =
            |&(at, index): &(Instant, u32)| slab.get(index as usize).is_some_and(|entry| entry.timer == Some(at));
        while self.timers.front().is_some_and(|first| !holds(first)) {
            self.timers.pop_front();
        }
        if self.timers.len() > 2 * slab.len() {
            self.timers.retain(holds);
        }
    }

    fn first(&self) -> Option<(Instant, u32)> {
        match (self.timers.front(), self.other_timers.first()) {
            (Some(&queued), Some(&other)) => Some(queued.min(other)),
            (queued, other) => queued.or(other).copied(),
        }
    }

    pub(super) fn first_timer(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// A job whose timer has come.
    pub(super) fn timed(&self, now: Instant) -> Option<JobId> {
        let (at, index) = self.first().filter(|(at, _)| *at <= now)?;
        let entry = self.slab.get(index as usize).filter(|entry| entry.timer == Some(at))?;
        Some(JobId::new(index, entry.generation))
    }

    /// Who gets a packet for `handle` on `link`, and whether others share the handle. A server sends one copy for each
    /// submission that does, so the copies are dealt in turn.
    pub(super) fn deal(&mut self, link: usize, handle: &[u8], random: &Random) -> Option<(JobId, bool)> {
        let slab = &self.slab;
        let mut sharing = self
            .handles
            .iter_hash(hash(random, link, handle))
            .filter_map(|&index| slab.get(index as usize).map(|entry| (index, entry)))
            .filter(|(_, entry)| is_at(entry, link, handle));
        let (one, other) = (sharing.next(), sharing.next());
        let shared = other.is_some();
        let first = if shared {
            one.into_iter().chain(other).chain(sharing).min_by_key(|(_, entry)| (entry.dealt, entry.sequence))
        } else {
            one
        };
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

    /// Whether this job may have this handle: no other has it, or all are one job to their server. Notes the handle's hash,
    /// to be asked before the job is [`Stage::Accepted`].
    pub(super) fn may_have(&mut self, id: JobId, link: usize, handle: &Handle, random: &Random) -> bool {
        let hash = hash(random, link, handle.as_bytes());
        let Some(entry) = self.entry_mut(id) else { return false };
        entry.hash = hash;
        let joins = entry.joins;
        let others = self.handles.iter_hash(hash);
        others
            .filter_map(|&index| self.slab.get(index as usize))
            .filter(|other| is_at(other, link, handle.as_bytes()))
            .all(|other| joins != 0 && other.joins == joins)
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
    pub(super) fn remove(&mut self, id: JobId) -> Option<Entry> {
        self.entry(id)?;
        let entry = self.slab.try_remove(id.index())?;
        let index = id.index() as u32;
        match entry.stage {
            Stage::Accepted { .. } => self.forget_handle(entry.hash, id),
            Stage::Parked => drop(self.parked.remove(&(entry.sequence, index))),
            _ => {}
        }
        self.drop_timer(entry.timer, index);
        Some(entry)
    }

    fn forget_handle(&mut self, hash: u64, id: JobId) {
        if let Ok(found) = self.handles.find_entry(hash, |&index| index as usize == id.index()) {
            found.remove();
        }
    }
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
    random.hash_one(handle).wrapping_add(link as u64)
}
