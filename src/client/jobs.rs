//! The jobs outstanding in a client: found by id, by handle and by deadline.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::handles::Handles;
use crate::job::{Deadlines, Extra, Handle, Job, JobId, Phase, Retry, Unique};
use crate::random::Random;
use crate::time::{Instant, Nanos};
use crate::trace::Span;

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

/// What is meant by a job where it says nothing itself, and with what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    accept: Nanos,
    total: Nanos,
    idle: Nanos,
    pub(super) retry: Retry,
    /// How much of it may wait to be read.
    pub(super) max_unread: usize,
}

impl Terms {
    pub(super) fn new(deadlines: &Deadlines, retry: Retry, max_unread: usize) -> Self {
        let Deadlines { accept, total, idle } = *deadlines;
        Self { accept: accept.into(), total: total.into(), idle: idle.into(), retry, max_unread }
    }

    #[cold]
    fn with(&self, extra: &Extra) -> Box<Self> {
        let or = |own: Option<Duration>, default| own.map_or(default, |own| Some(own).into());
        let Deadlines { accept, total, idle } = extra.deadlines;
        Box::new(Self {
            accept: or(accept, self.accept),
            total: or(total, self.total),
            idle: or(idle, self.idle),
            retry: extra.retry.unwrap_or(self.retry),
            max_unread: extra.max_unread.unwrap_or(self.max_unread),
        })
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    /// `None` once it is never submitted again.
    pub(super) job: Option<Job>,
    /// Where it says something itself.
    own_terms: Option<Box<Terms>>,
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
    sequence: u64,
    /// Packets dealt to it since its handle was shared; see [`Jobs::deal`].
    dealt: u32,
    /// Of its handle, once it has one.
    pub(super) hash: u64,
    /// The next in the list of [`Handles`] that it is in, if it has a handle.
    pub(super) next: u32,
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

    const fn generation(&self) -> u32 {
        self.sequence as u32
    }

    /// Its place in the order of submission.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a connection has it.
    pub(super) fn is_placed(&self) -> bool {
        matches!(self.stage, Stage::Sent { .. } | Stage::Accepted { .. })
    }

    pub(super) fn terms<'a>(&'a self, defaults: &'a Terms) -> &'a Terms {
        self.own_terms.as_deref().unwrap_or(defaults)
    }

    /// When one of its deadlines passes.
    pub(super) fn deadline(&self, defaults: &Terms) -> Instant {
        let terms = self.terms(defaults);
        let other = match self.stage {
            Stage::Accepted { .. } => terms.idle,
            _ => terms.accept,
        };
        (self.submitted + terms.total).min(self.since + other)
    }

    fn next_timer(&self, defaults: &Terms) -> Instant {
        let other = match &self.stage {
            Stage::Delayed { until } => Some(*until),
            Stage::Accepted { doubt: Some(doubt), .. } => doubt.ask_at,
            Stage::Accepted { .. } | Stage::Parked | Stage::Sent { .. } => None,
        };
        self.deadline(defaults).min(other.unwrap_or(Instant::NEVER))
    }

    /// When something is next due for it, where that is earlier than what its timer says; then it says so.
    fn wind(&mut self, defaults: &Terms) -> Option<Instant> {
        let at = self.next_timer(defaults);
        if at >= self.timer {
            return None;
        }
        self.timer = at;
        Some(at)
    }
}

/// What is left of a job that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The place of the job server that had it.
    pub(super) link: Option<usize>,
    pub(super) submitted: Instant,
    pub(super) unread: usize,
    pub(super) holds: bool,
    pub(super) span: Span,
}

impl Ended {
    #[inline]
    fn of(entry: &mut Entry) -> Self {
        Self {
            link: entry.is_placed().then_some(entry.link),
            submitted: entry.submitted,
            unread: entry.unread,
            holds: entry.holds,
            span: core::mem::replace(&mut entry.span, Span::none()),
        }
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

#[derive(Debug)]
pub(super) struct Jobs {
    /// Those of jobs that have none of their own.
    pub(super) defaults: Terms,
    /// By [`JobId::index`]. An entry is made and dropped where it stands, as it is large.
    pub(super) places: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    handles: Handles,
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
    pub(super) fn new(defaults: Terms) -> Self {
        Self {
            defaults,
            places: Vec::new(),
            vacant: Vec::new(),
            handles: Handles::default(),
            ghosts: BTreeMap::new(),
            timers: VecDeque::new(),
            other_timers: BTreeSet::new(),
            parked: BTreeSet::new(),
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        let timers = self.timers.len() + self.other_timers.len();
        self.len() == 0 && self.handles.is_empty() && timers == 0 && self.parked.is_empty()
    }

    /// The name of the job that is inserted next.
    fn next_id(&self) -> JobId {
        let index =
            self.vacant.last().map_or_else(|| u32::try_from(self.places.len()).unwrap_or(u32::MAX), |&last| last);
        JobId::new(index, self.next as u32)
    }

    /// Takes up a job. `give` gives it to the connection of a link, and says where the stream of that is past it; else it waits
    /// for a job server.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        job: Job,
        span: Span,
        now: Instant,
        give: impl FnOnce(JobId, &Job, &Span) -> Option<(usize, u64)>,
    ) -> JobId {
        let id = self.next_id();
        if self.vacant.pop().is_none() {
            self.places.push(None);
        }
        let Some(place) = self.places.get_mut(id.index()) else { return id };
        let sequence = self.next;
        self.next += 1;
        let defaults = &self.defaults;
        let own_terms = job.extra.as_ref().map(|extra| defaults.with(extra));
        let entry = place.insert(Entry {
            job: None,
            own_terms,
            stage: Stage::Parked,
            link: 0,
            attempts: 0,
            submitted: now,
            span,
            since: now,
            timer: Instant::NEVER,
            sequence,
            dealt: 0,
            hash: 0,
            next: 0,
            joins: 0,
            unread: 0,
            holds: false,
            muted: false,
        });
        // By itself, as it is large: so it is moved once.
        let job = entry.job.insert(job);
        match give(id, job, &entry.span) {
            Some((link, end)) => (entry.stage, entry.link, entry.attempts) = (Stage::Sent { end }, link, 1),
            None => drop(self.parked.insert((sequence, id.index() as u32))),
        }
        if let Some(at) = entry.wind(defaults) {
            self.add_timer(id, at);
        }
        id
    }

    pub(super) fn entry(&self, id: JobId) -> Option<&Entry> {
        at(&self.places, id.index() as u32).filter(|entry| entry.generation() == id.generation())
    }

    pub(super) fn entry_mut(&mut self, id: JobId) -> Option<&mut Entry> {
        self.places.get_mut(id.index())?.as_mut().filter(|entry| entry.generation() == id.generation())
    }

    /// All that are outstanding.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Entry)> {
        let taken = (0..).zip(&self.places).filter_map(|(index, place)| Some((index, place.as_ref()?)));
        taken.map(|(index, entry)| (JobId::new(index, entry.generation()), entry))
    }

    /// Those that wait for a job server, oldest first.
    pub(super) fn parked(&self) -> impl Iterator<Item = JobId> {
        self.parked.iter().map(|&(sequence, index)| JobId::new(index, sequence as u32))
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// A job waits for a job server, or for its next attempt.
    pub(super) fn put_off(&mut self, id: JobId, until: Option<Instant>) {
        let Some(entry) = self.entry_mut(id) else { return };
        let key = (entry.sequence, id.index() as u32);
        let stage = until.map_or(Stage::Parked, |until| Stage::Delayed { until });
        if matches!(core::mem::replace(&mut entry.stage, stage), Stage::Accepted { .. }) {
            self.handles.remove(&mut self.places, key.1);
        }
        if until.is_none() {
            self.parked.insert(key);
        }
        self.set_timer(id);
    }

    /// A job that was parked was given to the connection of `link`, whose stream is past it at `end`.
    pub(super) fn sent(&mut self, id: JobId, link: usize, end: u64) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.stage = Stage::Sent { end };
        entry.link = link;
        entry.attempts += 1;
        let key = (entry.sequence, id.index() as u32);
        self.parked.remove(&key);
        self.set_timer(id);
    }

    /// A job that was sent on `link` has been given its handle; whoever is never submitted again forgets what it was made of.
    /// False where it may not have that: another one has it, and they are not one job to their server.
    #[inline]
    pub(super) fn accept(
        &mut self,
        id: JobId,
        link: usize,
        name: &[u8],
        doubt: Option<Box<Doubt>>,
        random: &Random,
    ) -> bool {
        let hash = hash(random, link, name);
        let has_it = |other: &Entry| is_at(other, link, name);
        let is_new = self.ghosts.is_empty() && self.handles.find(&self.places, hash, has_it).is_none();
        let dealt = if is_new { Some(0) } else { self.join(id, link, name, hash) };
        let defaults = self.defaults;
        let (Some(dealt), Some(entry)) = (dealt, self.entry_mut(id)) else { return false };
        if !matches!(entry.terms(&defaults).retry, Retry::Idempotent { .. }) {
            entry.job = None;
        }
        entry.dealt = dealt;
        entry.stage = Stage::Accepted { handle: Handle::of(name), running: false, doubt };
        let timer = entry.wind(&defaults);
        self.handles.insert(&mut self.places, id.index() as u32, hash);
        if let Some(at) = timer {
            self.add_timer(id, at);
        }
        true
    }

    /// A job is given a handle that others have, or had. Its turn comes when those before it have had as many packets as the
    /// foremost of them: so many it is to count as dealt to it. `None`: it may not have the handle.
    #[cold]
    fn join(&self, id: JobId, link: usize, handle: &[u8], hash: u64) -> Option<u32> {
        let joins = self.entry(id)?.joins;
        let mut dealt = None;
        for (_, other) in self.handles.with_hash(&self.places, hash).filter(|(_, other)| is_at(other, link, handle)) {
            if joins == 0 || other.joins != joins {
                return None;
            }
            dealt = dealt.max(Some(other.dealt));
        }
        if dealt.is_none() {
            let ghosts = self.ghosts.get(&(link, handle.into()));
            dealt = ghosts.and_then(|ghosts| u32::try_from(ghosts.dealt.div_ceil(ghosts.count)).ok());
        }
        Some(dealt.unwrap_or(0))
    }

    /// Has a job looked at when something is next due for it, or before: a timer is not put off when its job no longer needs
    /// it so soon.
    pub(super) fn set_timer(&mut self, id: JobId) {
        let defaults = self.defaults;
        if let Some(at) = self.entry_mut(id).and_then(|entry| entry.wind(&defaults)) {
            self.add_timer(id, at);
        }
    }

    fn add_timer(&mut self, id: JobId, at: Instant) {
        if self.timers.front().is_some_and(|first| !holds(&self.places, first)) {
            self.timers.pop_front();
        }
        let timer = (at, id);
        if self.timers.back().is_none_or(|&(last, _)| last <= at) {
            self.timers.push_back(timer);
        } else {
            self.other_timers.insert(timer);
        }
        if self.timers.len() + self.other_timers.len() > 2 * self.len() {
            self.timers.retain(|timer| holds(&self.places, timer));
            self.other_timers.retain(|timer| holds(&self.places, timer));
        }
    }

    fn first(&self) -> Option<(Instant, JobId)> {
        match (self.timers.front(), self.other_timers.first()) {
            (Some(&queued), Some(&other)) => Some(queued.min(other)),
            (queued, other) => queued.or(other).copied(),
        }
    }

    pub(super) fn first_timer(&self) -> Instant {
        let queued = self.timers.front().map_or(Instant::NEVER, |&(at, _)| at);
        if self.other_timers.is_empty() { queued } else { self.first().map_or(queued, |(at, _)| at) }
    }

    /// A job whose timer has come, and which has none from now on.
    pub(super) fn timed(&mut self, now: Instant) -> Option<JobId> {
        loop {
            let timer = self.first().filter(|(at, _)| *at <= now)?;
            if !self.other_timers.remove(&timer) {
                self.timers.pop_front();
            }
            if holds(&self.places, &timer)
                && let Some(entry) = self.entry_mut(timer.1)
            {
                entry.timer = Instant::NEVER;
                return Some(timer.1);
            }
        }
    }

    /// The job that has `handle` on `link`, where it can share that with no other. Only one that is joined with others does.
    pub(super) fn sole(&self, link: usize, handle: &[u8], random: &Random) -> Option<JobId> {
        let (index, entry) = self.with_handle(link, handle, random).next()?;
        (entry.joins == 0 && self.ghosts.is_empty()).then(|| JobId::new(index, entry.generation()))
    }

    /// All that have `handle` on `link`.
    fn with_handle<'a>(
        &'a self,
        link: usize,
        handle: &'a [u8],
        random: &Random,
    ) -> impl Iterator<Item = (u32, &'a Entry)> + Clone + use<'a> {
        let all = self.handles.with_hash(&self.places, hash(random, link, handle));
        all.filter(move |(_, entry)| is_at(entry, link, handle))
    }

    /// Who gets a packet for `handle` on `link`, and whether others share the handle. A server sends one copy for each
    /// submission that does, so the copies are dealt in turn.
    pub(super) fn deal(&mut self, link: usize, handle: &[u8], random: &Random) -> Option<(JobId, bool)> {
        if let Some(job) = self.sole(link, handle, random) {
            return Some((job, false));
        }
        let sharing = self.with_handle(link, handle, random);
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
        let entry = self.places.get_mut(index as usize)?.as_mut()?;
        entry.dealt = entry.dealt.wrapping_add(1);
        Some((JobId::new(index, entry.generation()), shared))
    }

    /// What job servers join this job by, to be noted before the job forgets what it was made of.
    pub(super) fn note_joins(&mut self, id: JobId, random: &Random) {
        let Some(entry) = self.entry_mut(id) else { return };
        if let Some(job) = &entry.job
            && let Some(unique) = joins(job)
        {
            // `-` stands for the payload; to Perl's job server it is the same as a unique that equals it.
            let unique = if unique == b"-" { &job.payload } else { unique };
            entry.joins = (random.hash_one(&job.function).rotate_left(21) ^ random.hash_one(unique)) | 1;
        }
    }

    /// A job ends here that its server goes on with: the copies for it are nobody's from now on.
    pub(super) fn leave_ghost(&mut self, id: JobId) {
        let Some(entry) = self.entry(id).filter(|entry| entry.joins != 0) else { return };
        let Stage::Accepted { handle, .. } = &entry.stage else { return };
        let (link, handle, dealt) = (entry.link, handle.clone(), entry.dealt);
        self.haunt(link, handle.as_bytes(), dealt);
    }

    /// A submission that has ended before has been given a handle.
    pub(super) fn ghost_created(&mut self, link: usize, handle: &[u8], random: &Random) {
        let dealt = self.with_handle(link, handle, random).map(|(_, other)| other.dealt).max();
        self.haunt(link, handle, dealt.unwrap_or(0));
    }

    fn haunt(&mut self, link: usize, handle: &[u8], dealt: u32) {
        if self.ghosts.len() >= MAX_GHOSTS {
            self.ghosts.pop_first();
        }
        let ghosts = self.ghosts.entry((link, handle.into())).or_default();
        ghosts.count += 1;
        ghosts.dealt += u64::from(dealt);
    }

    /// A handle has come to its end: nothing more will come for those who had it.
    pub(super) fn lay_ghosts(&mut self, link: usize, handle: &Handle, random: &Random) {
        if self.ghosts.is_empty() {
            return;
        }
        if self.with_handle(link, handle.as_bytes(), random).next().is_none() {
            self.ghosts.remove(&(link, handle.as_bytes().into()));
        }
    }

    /// The connection of a link is gone, and with it all handles.
    pub(super) fn lay_all_ghosts(&mut self, link: usize) {
        self.ghosts.retain(|(other, _), _| *other != link);
    }

    /// Any job that has this handle.
    pub(super) fn first_of(&self, link: usize, handle: &Handle, random: &Random) -> Option<JobId> {
        let first = self.with_handle(link, handle.as_bytes(), random).min_by_key(|(_, entry)| entry.sequence);
        first.map(|(index, entry)| JobId::new(index, entry.generation()))
    }

    /// Takes a job out: it has ended.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Ended> {
        let index = id.index() as u32;
        let entry = self.entry(id)?;
        match entry.stage {
            Stage::Accepted { .. } => self.handles.remove(&mut self.places, index),
            Stage::Parked => drop(self.parked.remove(&(entry.sequence, index))),
            _ => {}
        }
        let place = self.places.get_mut(id.index())?;
        let entry = place.as_mut()?;
        let ended = Ended::of(entry);
        *place = None;
        self.vacated(index);
        Some(ended)
    }

    /// Takes out the job that has `handle` on `link`, as it has ended, where it can share that with no other.
    #[inline(always)]
    pub(super) fn remove_sole(&mut self, link: usize, handle: &[u8], random: &Random) -> Option<(JobId, Ended)> {
        let has_it = |entry: &Entry| is_at(entry, link, handle);
        let (index, entry) = self.handles.find(&self.places, hash(random, link, handle), has_it)?;
        if entry.joins != 0 || !self.ghosts.is_empty() {
            return None;
        }
        self.handles.remove(&mut self.places, index);
        let place = self.places.get_mut(index as usize)?;
        let entry = place.as_mut()?;
        let (id, ended) = (JobId::new(index, entry.generation()), Ended::of(entry));
        *place = None;
        self.vacated(index);
        Some((id, ended))
    }

    #[inline(always)]
    fn vacated(&mut self, index: u32) {
        self.vacant.push(index);
        if self.vacant.len() == self.places.len() {
            self.timers.clear();
            if !self.other_timers.is_empty() {
                self.other_timers.clear();
            }
        }
    }
}

pub(super) fn at(places: &[Option<Entry>], index: u32) -> Option<&Entry> {
    places.get(index as usize)?.as_ref()
}

/// Whether a timer is that of its job: not that of one which has ended, whose place another job has that is due at the same
/// time.
fn holds(places: &[Option<Entry>], &(due, id): &(Instant, JobId)) -> bool {
    at(places, id.index() as u32).is_some_and(|entry| entry.timer == due && entry.generation() == id.generation())
}

/// The unique by which job servers join a foreground job with others.
pub(super) fn joins(job: &Job) -> Option<&[u8]> {
    match &job.unique {
        Unique::Own(unique) if !job.background && !unique.is_empty() => Some(unique),
        _ => None,
    }
}

fn is_at(entry: &Entry, link: usize, wanted: &[u8]) -> bool {
    entry.link == link && matches!(&entry.stage, Stage::Accepted { handle, .. } if handle.is(wanted))
}

fn hash(random: &Random, link: usize, handle: &[u8]) -> u64 {
    random.quick_hash(handle).wrapping_add(link as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Instant {
        Instant::from_epoch(Duration::from_secs(seconds))
    }

    fn jobs() -> Jobs {
        let deadlines = Deadlines { accept: Some(Duration::from_secs(30)), total: None, idle: None };
        Jobs::new(Terms::new(&deadlines, Retry::Unsent, 0))
    }

    fn send(jobs: &mut Jobs, now: Instant) -> JobId {
        jobs.insert(Job::new("f", ""), Span::none(), now, |_, _, _| Some((0, 0)))
    }

    #[test]
    fn timers_of_jobs_that_have_ended_do_not_pile_up() {
        let mut jobs = jobs();
        let long = send(&mut jobs, second(0));
        for later in 1..10_000 {
            let id = send(&mut jobs, second(later));
            jobs.remove(id);
            assert!(jobs.timers.len() <= 4, "{}", jobs.timers.len());
        }
        assert_eq!(jobs.first_timer(), second(30));
        jobs.remove(long);
        assert!(jobs.is_empty());
    }

    #[test]
    fn timers_of_jobs_with_one_deadline_do_not_pile_up() {
        let mut jobs = jobs();
        let mut last = send(&mut jobs, second(0));
        for _ in 1..10_000 {
            let id = send(&mut jobs, second(0));
            jobs.remove(core::mem::replace(&mut last, id));
            assert!(jobs.timers.len() <= 4, "{}", jobs.timers.len());
        }
        assert_eq!((jobs.timed(second(30)), jobs.timed(second(30))), (Some(last), None));
    }

    #[test]
    fn a_timer_that_was_put_off_is_looked_at_once() {
        let mut jobs = jobs();
        let random = Random::new(&[0; 32].into());
        let id = send(&mut jobs, second(0));
        assert!(jobs.accept(id, 0, b"H:1", None, &random));
        assert_eq!(jobs.timed(second(29)), None);
        assert_eq!(jobs.timed(second(30)), Some(id));
        jobs.set_timer(id);
        assert_eq!((jobs.timed(second(1000)), jobs.first_timer()), (None, Instant::NEVER));
    }
}
