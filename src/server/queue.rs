//! Who can run what, what waits to be run, and who is to be woken for it.
//!
//! A grab must find the next function that has a job without looking at those that have none, whatever the worker has
//! registered. So each worker keeps, by priority, the functions that it believes to have jobs, in the order of its turns.
//! It learns that one is empty when it looks there, and then lies dormant on that function; the first job to come promotes
//! all who lie there. A promotion is paid for by the look that made it needed: a grab costs the same however many
//! functions, workers and jobs there are. A sleeping worker is dormant on all its functions, so that the same promotion
//! finds whom to wake.

mod abilities;
mod audit;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashTable;

use self::abilities::Ability;
use super::Latencies;
use super::jobs::{Jobs, NewJob, State};
use super::table::{Link, List, NONE, Table};
use super::timers::{Timer, Timers};
use crate::job::Priority;
use crate::random::Random;
use crate::time::Instant;

/// The turns of a worker's functions count from here: newly registered ones stand before, those served go behind.
const MIDDLE_TURN: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: Box<[u8]>,
    queues: [List; 3],
    /// Its jobs that do not run, by priority.
    pub(super) queued: [u32; 3],
    /// Its jobs, those that run included.
    pub(super) total: u32,
    pub(super) running: u32,
    /// The connections that can run it.
    pub(super) workers: u32,
    /// Its jobs from which on submissions are refused, by priority; zero for no limit.
    pub(super) limits: [u32; 3],
    /// The abilities that hold a priority of it for empty.
    dormant: [List; 3],
    /// The abilities of sleeping workers that were not woken for a job, as others were.
    passed_over: List,
    /// In the list of functions without jobs and workers.
    idle: Link,
    is_idle: bool,
}

/// A foreground submission that waits for a job.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) job: u32,
    pub(super) peer: u32,
    in_job: Link,
    in_peer: Link,
}

/// What a connection is to the queue, as client and as worker.
#[derive(Debug)]
pub(super) struct Party {
    abilities: List,
    ability_count: u32,
    /// By priority: the abilities that may find a job, by turn.
    ready: [BTreeMap<u64, u32>; 3],
    first_turn: u64,
    last_turn: u64,
    running: List,
    pub(super) running_count: u32,
    waiters: List,
    /// Foreground submissions that it waits for.
    pub(super) waiting: u32,
    asleep: bool,
    /// For which function it was woken, as not all were, unless it has grabbed since.
    woken: Option<u32>,
    /// For which queue nobody else was woken, as its grab waited.
    pub(super) promised: Option<(u32, Priority)>,
}

impl Party {
    const NEW: Self = Self {
        abilities: List::EMPTY,
        ability_count: 0,
        ready: [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()],
        first_turn: MIDDLE_TURN,
        last_turn: MIDDLE_TURN,
        running: List::EMPTY,
        running_count: 0,
        waiters: List::EMPTY,
        waiting: 0,
        asleep: false,
        woken: None,
        promised: None,
    };
}

/// What became of a job that was taken from its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requeued {
    /// It waits again.
    Settled,
    /// Nobody wanted it any more.
    Dropped,
    /// It has been given out too often: it is to be failed and finished.
    Exhausted,
}

/// No room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What a queue may hold, and its ways.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) job_retries: Option<u32>,
    pub(super) worker_wakeup: u32,
    pub(super) min_job_timeout: Duration,
    pub(super) max_jobs: usize,
    pub(super) max_job_bytes: usize,
    pub(super) max_functions: usize,
    pub(super) max_abilities: usize,
}

impl Rules {
    /// How many sleeping workers a new job wakes at most.
    const fn to_wake(&self) -> u32 {
        if self.worker_wakeup == 0 { u32::MAX } else { self.worker_wakeup }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    rules: Rules,
    random: Random,
    pub(super) functions: Table<Function>,
    names: HashTable<u32>,
    idle: List,
    pub(super) jobs: Jobs,
    pub(super) waiters: Table<Waiter>,
    pub(super) abilities: Table<Ability>,
    ability_index: HashTable<u32>,
    /// By the index of the connection.
    parties: Vec<Party>,
    pub(super) timers: Timers,
    /// The connections to be sent a NOOP, or what their grab waits for.
    pub(super) woken: Vec<u32>,
    /// The connections whose grab waits for a job, and until when, in order.
    awaiting: VecDeque<(Instant, u32)>,
    pub(super) running: u32,
    pub(super) now: Instant,
    pub(super) latencies: Latencies,
    pub(super) requeues: u64,
    /// Whether background jobs are held back.
    holding: bool,
    /// Whether all connections are being closed.
    closing: bool,
}

impl Queue {
    pub(super) fn new(rules: Rules, random: Random) -> Self {
        Self {
            rules,
            functions: Table::new(),
            names: HashTable::new(),
            idle: List::EMPTY,
            jobs: Jobs::new(random.clone()),
            random,
            waiters: Table::new(),
            abilities: Table::new(),
            ability_index: HashTable::new(),
            parties: Vec::new(),
            timers: Timers::default(),
            woken: Vec::new(),
            awaiting: VecDeque::new(),
            running: 0,
            now: Instant::EPOCH,
            latencies: Latencies::default(),
            requeues: 0,
            holding: false,
            closing: false,
        }
    }

    // Connections.

    pub(super) fn open(&mut self, peer: u32) {
        if self.parties.len() <= peer as usize {
            self.parties.resize_with(peer as usize + 1, || Party::NEW);
        }
        self.parties[peer as usize] = Party::NEW;
    }

    pub(super) fn party(&self, peer: u32) -> &Party {
        &self.parties[peer as usize]
    }

    fn party_mut(&mut self, peer: u32) -> &mut Party {
        &mut self.parties[peer as usize]
    }

    /// Drops all that a lost connection waited for. A job that only it wanted is dropped; one that runs goes on, and may
    /// find another who wants it.
    pub(super) fn abandon(&mut self, peer: u32) {
        while let Some(waiter) = self.parties[peer as usize].waiters.first() {
            let job = self.waiters[waiter].job;
            self.remove_waiter(waiter);
            let job_ref = &self.jobs.table[job];
            if job_ref.waiting == 0 && !job_ref.background && job_ref.state != State::Running {
                self.finish(job);
            }
        }
    }

    /// A job that the connection runs.
    pub(super) fn running_on(&self, peer: u32) -> Option<u32> {
        self.party(peer).running.first()
    }

    // Functions.

    pub(super) fn function(&self, name: &[u8]) -> Option<u32> {
        self.names.find(self.random.hash_one(name), |&index| &*self.functions[index].name == name).copied()
    }

    /// The function with this name, made where there is none.
    pub(super) fn intern(&mut self, name: &[u8]) -> Result<u32, Full> {
        if let Some(index) = self.function(name) {
            return Ok(index);
        }
        if self.functions.len() >= self.rules.max_functions {
            let idle = self.idle.first().ok_or(Full)?;
            self.forget_function(idle);
        }
        let index = self.functions.insert(Function {
            name: name.into(),
            queues: [List::EMPTY; 3],
            queued: [0; 3],
            total: 0,
            running: 0,
            workers: 0,
            limits: [0; 3],
            dormant: [List::EMPTY; 3],
            passed_over: List::EMPTY,
            idle: Link::LOOSE,
            is_idle: false,
        });
        let Self { functions, names, random, .. } = self;
        names.insert_unique(random.hash_one(name), index, |&other| random.hash_one(&functions[other].name));
        self.mark_idle(index);
        Ok(index)
    }

    /// Forgets a function. Says whether it had neither jobs nor workers, and so is gone.
    pub(super) fn drop_function(&mut self, index: u32) -> bool {
        let is_idle = self.functions[index].is_idle;
        if is_idle {
            self.forget_function(index);
        }
        is_idle
    }

    fn forget_function(&mut self, index: u32) {
        self.idle.remove(&mut self.functions, index, |function| &mut function.idle);
        let hash = self.random.hash_one(&self.functions[index].name);
        if let Ok(entry) = self.names.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        self.functions.remove(index);
    }

    /// Keeps the list of those that could be forgotten right.
    fn mark_idle(&mut self, index: u32) {
        let function = &mut self.functions[index];
        let is_idle = function.total == 0 && function.workers == 0;
        if is_idle == function.is_idle {
            return;
        }
        function.is_idle = is_idle;
        if is_idle {
            self.idle.push_back(&mut self.functions, index, |function| &mut function.idle);
        } else {
            self.idle.remove(&mut self.functions, index, |function| &mut function.idle);
        }
    }

    // Jobs: in.

    /// Whether a submission of `bytes` may come in, to be joined or not.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.jobs.table.len() < self.rules.max_jobs
            && self.waiters.len() < self.rules.max_jobs
            && self.jobs.bytes().saturating_add(bytes) <= self.rules.max_job_bytes
    }

    /// Whether the function has as many jobs as it may before one of `priority` is refused.
    pub(super) fn is_full(&self, function: u32, priority: Priority) -> bool {
        let function = &self.functions[function];
        let limit = function.limits[priority as usize];
        limit != 0 && function.total >= limit
    }

    /// Puts in a job, to be run from `due` on, under `number` if that is free.
    pub(super) fn add(&mut self, new: NewJob<'_>, due: Option<Instant>, number: Option<u64>) -> u32 {
        let (function, priority) = (new.function, new.priority);
        let job = self.jobs.insert(new, number);
        self.functions[function].total += 1;
        self.functions[function].queued[priority as usize] += 1;
        self.mark_idle(function);
        match due {
            Some(due) => {
                self.jobs.table[job].state = State::Delayed;
                self.time(job, due);
            }
            None => self.enqueue(job),
        }
        job
    }

    /// One more foreground submission waits for the job.
    pub(super) fn wait_for(&mut self, peer: u32, job: u32) {
        let waiter = self.waiters.insert(Waiter { job, peer, in_job: Link::LOOSE, in_peer: Link::LOOSE });
        let Self { waiters, jobs, parties, .. } = self;
        let job = &mut jobs.table[job];
        job.waiters.push_back(waiters, waiter, |waiter| &mut waiter.in_job);
        job.waiting += 1;
        let party = &mut parties[peer as usize];
        party.waiting += 1;
        party.waiters.push_back(waiters, waiter, |waiter| &mut waiter.in_peer);
    }

    /// The connections that wait for the job, one as often as it has submitted it.
    pub(super) fn waiting_for(&self, job: u32) -> impl Iterator<Item = u32> {
        let waiters = self.jobs.table[job].waiters.iter(&self.waiters, |waiter| &waiter.in_job);
        waiters.map(|waiter| self.waiters[waiter].peer)
    }

    fn remove_waiter(&mut self, index: u32) {
        let Waiter { job, peer, .. } = self.waiters[index];
        let Self { waiters, jobs, parties, .. } = self;
        let job = &mut jobs.table[job];
        job.waiters.remove(waiters, index, |waiter| &mut waiter.in_job);
        job.waiting -= 1;
        let party = &mut parties[peer as usize];
        party.waiting -= 1;
        party.waiters.remove(waiters, index, |waiter| &mut waiter.in_peer);
        waiters.remove(index);
    }

    /// To the tail of its queue, unless it is held back.
    fn enqueue(&mut self, index: u32) {
        let job = &mut self.jobs.table[index];
        if self.holding && job.waiting == 0 {
            job.state = State::Held;
            return;
        }
        job.state = State::Queued;
        job.when = self.now;
        let (function, priority) = (job.function, job.priority);
        let queue = &mut self.functions[function].queues[priority as usize];
        queue.push_back(&mut self.jobs.table, index, |job| &mut job.link);
        match self.taker(function) {
            // It gets the job at once: there is nobody to wake for it.
            Some(peer) => {
                self.announce(function, priority, 0);
                self.party_mut(peer).promised = Some((function, priority));
                self.woken.push(peer);
            }
            None => self.announce(function, priority, self.rules.to_wake()),
        }
    }

    /// The timer of a job has fired. A delayed job is due now; says whether it was another, to be taken from its worker.
    pub(super) fn fired(&mut self, index: u32) -> bool {
        let job = &mut self.jobs.table[index];
        job.timed = false;
        let is_delayed = job.state == State::Delayed;
        if is_delayed {
            self.enqueue(index);
        }
        !is_delayed
    }

    // Jobs: out.

    /// Gives the connection its next job.
    pub(super) fn grab(&mut self, peer: u32, now: Instant) -> Option<u32> {
        let next = self.next_ability(peer);
        let party = self.party_mut(peer);
        party.asleep = false;
        let (woken, promised) = (party.woken.take(), party.promised.take());
        let (ability, priority) = next?;
        let Ability { function, timeout, .. } = self.abilities[ability];
        if let Some((other, at)) = promised.filter(|&(other, at)| (other, at as usize) != (function, priority)) {
            // Something better has come since: that job is for others.
            self.announce(other, at, self.rules.to_wake());
        }
        if let Some(other) = woken.filter(|other| *other != function) {
            self.pass_wake_up(other);
        }
        let Self { functions, jobs, parties, .. } = self;
        let function = &mut functions[function];
        let index = function.queues[priority].pop_front(&mut jobs.table, |job| &mut job.link)?;
        function.queued[priority] -= 1;
        function.running += 1;
        let party = &mut parties[peer as usize];
        party.running.push_back(&mut jobs.table, index, |job| &mut job.link);
        party.running_count += 1;
        let job = &mut jobs.table[index];
        self.latencies.wait.record_between(job.when, now);
        job.when = now;
        job.state = State::Running;
        job.worker = peer;
        self.running += 1;
        if timeout > 0 {
            self.time(index, now + Duration::from_millis(timeout.into()));
        }
        self.served(ability);
        Some(index)
    }

    /// The job that `number` names, if the connection runs it.
    pub(super) fn held_by(&self, peer: u32, number: u64) -> Option<u32> {
        self.jobs.with_number(number).filter(|&job| self.jobs.table[job].worker == peer)
    }

    /// Counts how long a job has run, whose worker ends it now.
    pub(super) fn count_run(&mut self, index: u32) {
        let job = &self.jobs.table[index];
        // A job with a time limit knows only when that is over.
        let limit = if job.timed { self.ability(job.worker, job.function) } else { None };
        let limit = limit.map_or(0, |ability| self.abilities[ability].timeout);
        self.latencies.run.record_between(job.when, self.now + Duration::from_millis(limit.into()));
    }

    /// Takes a running job from its worker: it was lost, took too long, or cannot do it any more.
    pub(super) fn requeue(&mut self, index: u32) -> Requeued {
        self.cancel_timer(index);
        self.take_from_worker(index);
        self.requeues += 1;
        let job = &mut self.jobs.table[index];
        let function = job.function;
        self.functions[function].queued[job.priority as usize] += 1;
        job.state = State::Held;
        (job.numerator, job.denominator) = (0, 0);
        if job.cancelled || (job.waiting == 0 && !job.background) {
            self.finish(index);
            return Requeued::Dropped;
        }
        // What a closing server takes back is no fault of the job's, and what is held back is not given out again.
        if !self.closing && (!self.holding || job.waiting > 0) {
            job.retries = job.retries.saturating_add(1);
            if self.rules.job_retries.is_some_and(|most| job.retries > most) {
                return Requeued::Exhausted;
            }
        }
        self.enqueue(index);
        Requeued::Settled
    }

    fn take_from_worker(&mut self, index: u32) {
        let job = &mut self.jobs.table[index];
        let (peer, function) = (job.worker, job.function);
        job.worker = NONE;
        let party = &mut self.parties[peer as usize];
        party.running.remove(&mut self.jobs.table, index, |job| &mut job.link);
        party.running_count -= 1;
        self.functions[function].running -= 1;
        self.running -= 1;
    }

    /// Ends a job, wherever it is: nothing of it is left.
    pub(super) fn finish(&mut self, index: u32) {
        self.cancel_timer(index);
        self.disown(index);
        let job = &self.jobs.table[index];
        let (function, priority, state) = (job.function, job.priority as usize, job.state);
        if state == State::Running {
            self.take_from_worker(index);
        } else {
            self.functions[function].queued[priority] -= 1;
        }
        if state == State::Queued {
            let queue = &mut self.functions[function].queues[priority];
            queue.remove(&mut self.jobs.table, index, |job| &mut job.link);
        }
        self.functions[function].total -= 1;
        self.jobs.remove(index);
        self.mark_idle(function);
    }

    /// Nobody waits for the job any more.
    pub(super) fn disown(&mut self, index: u32) {
        while let Some(waiter) = self.jobs.table[index].waiters.first() {
            self.remove_waiter(waiter);
        }
    }

    fn time(&mut self, index: u32, at: Instant) {
        let job = &mut self.jobs.table[index];
        job.timed = true;
        job.when = at;
        self.timers.set(at, Timer::Job(index));
    }

    fn cancel_timer(&mut self, index: u32) {
        let job = &mut self.jobs.table[index];
        if core::mem::take(&mut job.timed) {
            self.timers.cancel(job.when, Timer::Job(index));
        }
    }

    /// All connections are to be closed: their jobs are taken back.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.hold_background();
    }

    /// Hands out no background jobs from now on.
    pub(super) fn hold_background(&mut self) {
        self.holding = true;
        let queued = self.jobs.table.iter().filter(|(_, job)| job.state == State::Queued && job.waiting == 0);
        let indices: Vec<u32> = queued.map(|(index, _)| index).collect();
        for index in indices {
            let job = &mut self.jobs.table[index];
            job.state = State::Held;
            let queue = &mut self.functions[job.function].queues[job.priority as usize];
            queue.remove(&mut self.jobs.table, index, |job| &mut job.link);
        }
    }

    /// Moves the time of all delayed jobs, as the wall clock was set.
    pub(super) fn reschedule(&mut self, moved: impl Fn(Instant) -> Instant) {
        let delayed = self.jobs.table.iter().filter(|(_, job)| job.state == State::Delayed);
        let indices: Vec<u32> = delayed.map(|(index, _)| index).collect();
        for index in indices {
            let when = self.jobs.table[index].when;
            self.cancel_timer(index);
            self.time(index, moved(when));
        }
    }

    /// Whether no job runs or is waited for.
    pub(super) fn is_settled(&self) -> bool {
        self.running == 0 && self.waiters.is_empty()
    }
}
