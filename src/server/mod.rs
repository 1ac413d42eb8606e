//! The job server as a state machine.
//!
//! It does what gearmand does, for one machine and without gearmand's faults: every packet type and every admin command,
//! uniques, priorities, delayed and map/reduce jobs. Jobs live in memory; [`Server::queued`] and [`Server::restore`] let
//! whoever embeds it keep background jobs over a restart.
//!
//! # Order
//! A worker is given the job of the highest priority over all functions it can do, and within a priority its functions
//! take turns, as in gearmand 2 (gearmand 1.1 empties one function after another, the last registered first). Jobs of one
//! function and priority are first in, first out; one that is requeued goes to the end.
//!
//! # What joins submissions
//! Two submissions of one function and one unique are one job, queued or running alike, with the payload and priority of
//! the first. The unique `-` stands for the payload. Each foreground submission gets every WORK_* packet: a connection
//! that has submitted one job twice gets each twice, as from gearmand. A job is in the background as soon as one of its
//! submissions was.
//!
//! # Where it differs from gearmand
//! All that is meant to be otherwise than in gearmand 1.1.20 is in [one table](crate::guide::differences), with the reasons.
//! What a peer may hold here has [limits](Config) that gearmand does not have.
//!
//! As in gearmand: CANT_DO and RESET_ABILITIES requeue the jobs of those functions that the worker runs, and its results
//! for them get ERROR `JOB_NOT_FOUND`; CAN_DO_TIMEOUT is in milliseconds, and at expiry the job is requeued in silence;
//! SUBMIT_JOB_SCHED gets ERROR `INVALID_COMMAND`, since no server has ever run one and a job that is accepted and never
//! run would be worse; ALL_YOURS likewise.

mod config;
mod jobs;
mod packets;
mod patience;
mod peer;
mod queue;
mod stored;
mod table;
mod text;
mod timers;

use alloc::boxed::Box;
use core::time::Duration;

use bytes::BytesMut;

pub use self::config::Config;
use self::jobs::{Handles, Job};
use self::peer::{Peer, Peers};
use self::queue::{Queue, Requeued, Rules};
pub use self::stored::QueuedJob;
use self::timers::Timer;
use crate::error::{ConfigError, ProtocolError};
use crate::histogram::Histogram;
use crate::machine::{CloseReason, ConnId, Input, Machine, Outgoing, Output, Peer as Knocking};
use crate::random::Random;
use crate::time::{Instant, earlier};
use crate::trace;
use crate::wire::frame::{FrameError, packet_type};
use crate::wire::{DecodeError, PacketType, admin, split};

/// What a server tells whoever embeds it. Jobs come and go without events: [`Server::counters`] counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was accepted.
    Connected {
        /// Its name.
        conn: ConnId,
        /// Its address, as the driver gave it.
        address: Box<str>,
    },
    /// A connection ended; its jobs have been given to others.
    Disconnected {
        /// Its name, which is void now.
        conn: ConnId,
        /// Why: [`CloseReason::Protocol`] where it broke the protocol.
        reason: CloseReason,
    },
    /// The admin command `shutdown` was given and allowed. The server has begun to [`drain`](Server::drain) or
    /// [`close`](Server::close).
    Shutdown {
        /// Whether it drains.
        graceful: bool,
    },
    /// The last connection of a server that drains or closes has ended. The last event.
    Closed,
}

/// Plain numbers. Those in the past tense count from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that live.
    pub connections: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Functions that are known.
    pub functions: usize,
    /// Pairs of a connection and a function that it can run.
    pub abilities: usize,
    /// Jobs, those that run included.
    pub jobs: usize,
    /// Jobs that run.
    pub running: usize,
    /// Foreground submissions that wait.
    pub waiting: usize,
    /// Bytes of payloads and uniques.
    pub job_bytes: usize,
    /// Submissions that were accepted.
    pub submitted: u64,
    /// Of those, the ones that were joined with a job that was there.
    pub joined: u64,
    /// Jobs that were given to workers.
    pub assigned: u64,
    /// Jobs that ended with WORK_COMPLETE.
    pub completed: u64,
    /// Jobs that ended with WORK_FAIL, WORK_EXCEPTION, `cancel job` or too many retries.
    pub failed: u64,
    /// Jobs that were taken from workers and given to others.
    pub requeued: u64,
    /// ERROR packets that were sent.
    pub errors: u64,
}

/// How long the jobs of a server took, since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// From coming into the queue to being assigned: each time a job is assigned. A delayed job comes when it is due.
    pub wait: Histogram,
    /// From being assigned to WORK_COMPLETE, WORK_FAIL or WORK_EXCEPTION. Jobs that were taken from workers do not count.
    pub run: Histogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// No new connections and jobs; closes once nothing runs.
    Draining,
    /// Every connection is being closed.
    Closing,
    Closed,
}

/// A wait that is over when a driver comes back, and yet later than the tick before it.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// A job server. See the [module](self).
#[derive(Debug)]
pub struct Server {
    config: Config,
    queue: Queue,
    peers: Peers,
    handles: Handles,
    now: Instant,
    /// A wall time since 1970 and when it was.
    unix: (Duration, Instant),
    life: Life,
    counters: Counters,
    /// Bytes of packets that have begun to come and are not whole.
    partial: usize,
    scratch: BytesMut,
}

impl Server {
    /// A server at `now`, when the wall clock says that `unix_now` has passed since 1970.
    ///
    /// # Errors
    /// A handle prefix that is empty, too long, or has white space or a NUL; a limit or a time limit of zero.
    pub fn new(config: Config, now: Instant, unix_now: Duration) -> Result<Self, ConfigError> {
        config.check()?;
        let rules = Rules {
            job_retries: config.job_retries,
            worker_wakeup: config.worker_wakeup,
            min_job_timeout: config.min_job_timeout,
            max_jobs: config.max_jobs,
            max_job_bytes: config.max_job_bytes,
            max_functions: config.max_functions,
            max_abilities: config.max_abilities,
        };
        let mut queue = Queue::new(rules, Random::new(&config.seed));
        queue.now = now;
        Ok(Self {
            queue,
            peers: Peers::new(config.limits.max_outgoing),
            handles: Handles::new(&config.handle_prefix),
            config,
            now,
            unix: (unix_now, now),
            life: Life::Open,
            counters: Counters::default(),
            partial: 0,
            scratch: BytesMut::new(),
        })
    }

    /// Sets the wall clock: delayed jobs keep their wall times.
    pub fn set_unix_time(&mut self, unix_now: Duration, now: Instant) {
        self.turn_to(now);
        let (now, old) = (self.now, self.unix_now());
        self.unix = (unix_now, now);
        self.queue.reschedule(|when| {
            let left = when.saturating_since(now).saturating_add(old);
            now + left.saturating_sub(unix_now)
        });
    }

    /// Stops in order: no new connections; submissions get ERROR `SHUTTING_DOWN`; background jobs that do not run yet are
    /// held back for [`queued`](Self::queued). Once no job runs and nobody waits for one, every connection is closed, and
    /// [`Event::Closed`] ends it. A foreground job that nobody can run would hold that up: [`close`](Self::close) ends
    /// the waiting.
    pub fn drain(&mut self, now: Instant) {
        self.turn_to(now);
        if self.life == Life::Open {
            self.life = Life::Draining;
            self.queue.hold_background();
        }
        self.settle();
    }

    /// Closes every connection, as soon as it has taken what was to be sent. Background jobs that ran are back among the
    /// [`queued`](Self::queued) ones. [`Event::Closed`] ends it.
    pub fn close(&mut self, now: Instant) {
        self.turn_to(now);
        if matches!(self.life, Life::Closing | Life::Closed) {
            return;
        }
        self.life = Life::Closing;
        self.queue.close();
        let all: alloc::vec::Vec<u32> = self.peers.iter().map(|(index, _)| index).collect();
        for peer in all {
            self.hang_up(peer, CloseReason::Local);
        }
        self.settle();
    }

    /// Whether [`poll`](Machine::poll) has something other than `Wait`.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn has_output(&self) -> bool {
        self.peers.have_output()
    }

    /// Numbers for a status page.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            connections: self.peers.len(),
            accepted: self.peers.accepted(),
            functions: self.queue.functions.len(),
            abilities: self.queue.abilities.len(),
            jobs: self.queue.jobs.table.len(),
            running: self.queue.running as usize,
            waiting: self.queue.waiters.len(),
            job_bytes: self.queue.jobs.bytes(),
            requeued: self.queue.requeues,
            ..self.counters
        }
    }

    /// How long its jobs took since the server was made.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.queue.latencies
    }

    /// Panics where the server's own tables do not agree. For tests.
    #[doc(hidden)]
    pub fn audit(&self) {
        self.queue.audit();
    }

    /// How many workers sleep though a job waits that they were not woken for: none, unless
    /// [`Config::worker_wakeup`] says not to wake all. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn sleepers_beside_work(&self) -> usize {
        if self.config.worker_wakeup == 0 { self.queue.sleepers_beside_work() } else { 0 }
    }

    fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    // Time.

    /// Says whether time has passed with it.
    fn turn_to(&mut self, now: Instant) -> bool {
        let has_passed = now > self.now;
        self.now = self.now.max(now);
        self.queue.now = self.now;
        has_passed
    }

    fn unix_now(&self) -> Duration {
        self.unix.0.saturating_add(self.now.saturating_since(self.unix.1))
    }

    /// When the wall clock will say that `since_1970` has passed. `None`: it does already.
    fn when(&self, since_1970: Duration) -> Option<Instant> {
        let left = since_1970.checked_sub(self.unix_now()).filter(|left| !left.is_zero())?;
        Some(self.now + left)
    }

    fn tick(&mut self) {
        while let Some(timer) = self.queue.timers.pop_due(self.now) {
            match timer {
                Timer::Job(job) => self.job_timer(job),
                Timer::Peer(peer) => self.look_at(peer),
            }
        }
        self.lose_patience();
        self.settle();
    }

    fn job_timer(&mut self, job: u32) {
        if self.queue.fired(job) {
            self.requeue(job, "its time limit has passed");
        }
    }

    // Data.

    fn data(&mut self, peer: u32, stream: &mut BytesMut) {
        self.peers.hit = None;
        let all = stream.len();
        while let Some(&first) = stream.first() {
            let Some(this) = self.peers.get(peer).filter(|this| this.closing.is_none()) else {
                stream.clear();
                break;
            };
            let (waits, is_congested) = (this.grab.is_some(), this.congested.is_some());
            if is_congested && self.peers.hold_up(peer, peer) {
                if stream.len() == all {
                    // What is there of a packet still counts.
                    return;
                }
                break;
            }
            if waits {
                self.give_up(peer);
            }
            if self.peers.outputs.len() >= self.config.limits.max_events {
                self.peers.pause(peer);
                break;
            }
            let before = stream.len();
            let done = if first == 0 { self.binary(peer, stream) } else { self.line(peer, stream) };
            if let Err(fault) = done {
                self.hang_up(peer, CloseReason::Protocol(fault));
            } else if stream.len() == before {
                self.partial(peer, before);
                return;
            }
            if is_congested {
                self.peers.came(peer, before - stream.len());
            }
            if !self.queue.woken.is_empty() {
                self.send_wake_ups();
            }
            if let Some(slow) = self.peers.hit.take() {
                self.partial(peer, 0);
                self.settle();
                if self.peers.hold_up(peer, slow) {
                    break;
                }
            }
        }
        self.partial(peer, 0);
    }

    fn binary(&mut self, peer: u32, stream: &mut BytesMut) -> Result<(), ProtocolError> {
        match split(stream, self.config.limits.max_packet) {
            Ok(Some(frame)) => self.packet(peer, frame),
            Ok(None) => unknown_type(stream),
            Err(fault) => {
                if let FrameError::TooLarge { kind, .. } = fault
                    && kind.info().is_some()
                {
                    self.refuse(peer, "ARGUMENT_TOO_LARGE", "Packet is larger than this server takes");
                }
                Err(fault.into())
            }
        }
    }

    fn line(&mut self, peer: u32, stream: &mut BytesMut) -> Result<(), ProtocolError> {
        match admin::split_line(stream, admin::MAX_LINE)? {
            Some(line) => self.command(peer, &line),
            None => Ok(()),
        }
    }

    /// Notes how much of a packet has come that is not whole.
    fn partial(&mut self, peer: u32, bytes: usize) {
        let Some(this) = self.peers.get_mut(peer) else { return };
        let before = core::mem::replace(&mut this.partial, bytes);
        self.partial = self.partial + bytes - before;
        if bytes > before && self.partial > self.config.max_partial {
            self.hang_up(peer, CloseReason::Failed("unfinished packets hold too many bytes".into()));
        }
    }

    // Connections.

    /// Drops all that a connection is for jobs: its own ones are abandoned, those it runs are given to others.
    fn retire(&mut self, peer: u32) {
        self.queue.await_no_job(peer);
        self.queue.abandon(peer);
        self.reset(peer);
    }

    /// The connection can run nothing any more.
    fn reset(&mut self, peer: u32) {
        while let Some(ability) = self.queue.ability_of(peer) {
            self.queue.unregister(ability);
        }
        while let Some(job) = self.queue.running_on(peer) {
            self.requeue(job, "its worker has left or been reset");
        }
    }

    /// Takes a job from its worker.
    fn requeue(&mut self, job: u32, why: &'static str) {
        let Job { number, function, worker, .. } = self.queue.jobs.table[job];
        let requeued = self.queue.requeue(job);
        self.is_rid_of_one(worker);
        if requeued == Requeued::Exhausted {
            self.fail(job);
        }
        if requeued != Requeued::Dropped
            && let Some(worker) = self.peers.get(worker)
        {
            let (handle, function) = (self.handles.write(number), &self.queue.functions[function].name);
            trace::requeued(&worker.span, &handle, function, why, requeued == Requeued::Exhausted);
        }
    }

    /// Ends a job with WORK_FAIL for all who wait.
    fn fail(&mut self, job: u32) {
        self.tell_failed(job);
        self.queue.finish(job);
    }

    fn tell_failed(&mut self, job: u32) {
        let handle = self.handles.write(self.queue.jobs.table[job].number);
        for waiter in self.queue.waiting_for(job) {
            self.peers.send(waiter, PacketType::WORK_FAIL, &[&handle], None);
        }
        self.counters.failed += u64::from(!self.queue.jobs.table[job].cancelled);
    }

    /// Closes a connection once it has taken what was to be sent.
    fn hang_up(&mut self, peer: u32, reason: CloseReason) {
        let Some(this) = self.peers.get_mut(peer) else { return };
        if this.closing.is_some() {
            return;
        }
        let is_quiet = this.outbox.waiting() == 0;
        this.closing = Some(reason);
        self.peers.announce(peer);
        self.retire(peer);
        if is_quiet {
            self.leave(peer);
        } else if let Some(this) = self.peers.get_mut(peer) {
            // For its last bytes it has as long as one that has too many.
            this.congest(self.now + self.config.slow_reader, self.config.limits.max_outgoing);
            self.release_held_up(peer);
            self.arm(peer);
        }
    }

    /// Closes a connection that is closing, whatever it has not taken.
    fn leave(&mut self, peer: u32) {
        let Some(this) = self.bury(peer) else { return };
        let reason = this.closing.unwrap_or(CloseReason::Local);
        trace::peer_gone(&this.span, &reason);
        self.peers.outputs.push_back(Output::Event(Event::Disconnected { conn: this.conn, reason }));
        self.peers.outputs.push_back(Output::Disconnect(this.conn));
    }

    /// The driver says that a connection has ended.
    fn ended(&mut self, peer: u32, reason: CloseReason) {
        self.retire(peer);
        let Some(this) = self.bury(peer) else { return };
        self.peers.free(this.conn);
        let reason = this.closing.unwrap_or(reason);
        trace::peer_gone(&this.span, &reason);
        self.peers.outputs.push_back(Output::Event(Event::Disconnected { conn: this.conn, reason }));
    }

    fn bury(&mut self, peer: u32) -> Option<Box<Peer>> {
        self.partial(peer, 0);
        self.release_held_up(peer);
        let this = self.peers.take(peer)?;
        if let Some(at) = this.timer {
            self.queue.timers.cancel(at, Timer::Peer(peer));
        }
        Some(this)
    }

    /// Goes on reading those who waited for this connection to read.
    fn release_held_up(&mut self, peer: u32) {
        let Some(this) = self.peers.get_mut(peer) else { return };
        for other in core::mem::take(&mut this.holding_up) {
            self.peers.resume(other, self.now);
        }
    }

    /// Looks at a connection whose timer has fired.
    fn look_at(&mut self, peer: u32) {
        let Some(this) = self.peers.get_mut(peer) else { return };
        this.timer = None;
        if let Some((at, before)) = this.congested
            && at <= self.now
        {
            let enough = u64::try_from(self.config.limits.max_outgoing / 64).unwrap_or(u64::MAX).max(1);
            if this.closing.is_some() || this.progress(self.config.limits.max_outgoing).saturating_sub(before) < enough
            {
                this.closing.get_or_insert(CloseReason::SlowReader);
                self.retire(peer);
                self.leave(peer);
                return;
            }
            this.congest(self.now + self.config.slow_reader, self.config.limits.max_outgoing);
        }
        if let Some(limit) = self.silence_limit(peer)
            && let Some(this) = self.peers.get_mut(peer)
        {
            if this.paused {
                // It may speak, but is not listened to.
                this.heard = self.now;
            } else if this.closing.is_none() && this.heard + limit <= self.now {
                this.closing = Some(CloseReason::Silent);
                self.retire(peer);
                self.leave(peer);
                return;
            }
        }
        self.arm(peer);
    }

    /// How long the connection may be silent.
    fn silence_limit(&self, peer: u32) -> Option<Duration> {
        if self.queue.party(peer).running_count > 0 { self.config.silent_worker } else { self.config.idle }
    }

    /// Sees to it that a connection is looked at in time. One that is looked at too early is looked at again.
    fn arm(&mut self, peer: u32) {
        let limit = self.silence_limit(peer);
        let Some(this) = self.peers.get_mut(peer) else { return };
        // One that is closing is no longer asked to speak: nothing would come of its silence, time and again.
        let silence = limit.filter(|_| this.closing.is_none()).map(|limit| this.heard + limit);
        let due = earlier(silence, this.congested.map(|(at, _)| at));
        if let Some(due) = due
            && this.timer.is_none_or(|armed| due < armed)
        {
            if let Some(armed) = this.timer.replace(due) {
                self.queue.timers.cancel(armed, Timer::Peer(peer));
            }
            self.queue.timers.set(due, Timer::Peer(peer));
        }
    }

    // What is due after any input.

    fn send_wake_ups(&mut self) {
        let mut next = 0;
        // A grab that ends may wake others.
        while let Some(&peer) = self.queue.woken.get(next) {
            next += 1;
            if !self.end_wait(peer) {
                self.peers.send(peer, PacketType::NOOP, &[], None);
            }
        }
        self.queue.woken.clear();
    }

    fn settle(&mut self) {
        self.send_wake_ups();
        while let Some(peer) = self.peers.overfull.pop() {
            if let Some(this) = self.peers.get_mut(peer)
                && this.congested.is_none()
            {
                this.congest(self.now + self.config.slow_reader, self.config.limits.max_outgoing);
                self.arm(peer);
            }
        }
        if self.life == Life::Draining && self.queue.is_settled() {
            self.close(self.now);
        }
    }

    /// A connection that closes or has too much to read may have taken enough.
    fn notice(&mut self, peer: u32) {
        let Some(this) = self.peers.get_mut(peer) else { return };
        let waiting = this.outbox.waiting();
        if this.closing.is_some() {
            if waiting == 0 {
                self.leave(peer);
            }
        } else if this.congested.is_some() && waiting <= self.config.limits.max_outgoing / 2 {
            this.congested = None;
            self.release_held_up(peer);
        }
    }
}

/// A packet of an unknown type closes its connection as soon as its header has come: its body is not waited for.
fn unknown_type(stream: &[u8]) -> Result<(), ProtocolError> {
    match packet_type(stream) {
        Some(kind) if kind.info().is_none() => Err(DecodeError::UnknownType(kind.number()).into()),
        _ => Ok(()),
    }
}

impl Machine for Server {
    type Event = Event;

    fn handle(&mut self, input: Input<'_>, now: Instant) {
        let has_passed = self.turn_to(now);
        match input {
            Input::Data(conn, stream) => match self.peers.find(conn) {
                Some(peer) => {
                    if let Some(this) = self.peers.get_mut(peer) {
                        this.heard = self.now;
                    }
                    self.data(peer, stream);
                    self.settle();
                }
                None => stream.clear(),
            },
            Input::Closed(conn, reason) => {
                if let Some(peer) = self.peers.find(conn) {
                    self.ended(peer, reason);
                    self.settle();
                }
            }
            Input::Tick => {
                self.tick();
                self.peers.end_gathering(self.now, has_passed);
            }
            Input::Connected(_) => {}
        }
    }

    fn poll(&mut self) -> Output<Event> {
        loop {
            while let Some(peer) = self.peers.next_noticed() {
                self.notice(peer);
            }
            match self.peers.outputs.pop_front() {
                Some(Output::Disconnect(conn)) => {
                    self.peers.free(conn);
                    return Output::Disconnect(conn);
                }
                Some(Output::Transmit(conn) | Output::Resume(conn)) if self.peers.find(conn).is_none() => {}
                Some(output) => return output,
                None if !self.peers.paused.is_empty() => {
                    for peer in core::mem::take(&mut self.peers.paused) {
                        self.peers.resume(peer, self.now);
                    }
                }
                None if self.life == Life::Closing && self.peers.len() == 0 => {
                    self.life = Life::Closed;
                    return Output::Event(Event::Closed);
                }
                // A delayed job that is kept for the next server is due in that one.
                None if self.life == Life::Closed => return Output::Wait(None),
                None => {
                    let own = earlier(self.queue.timers.next(), self.queue.next_tired());
                    let gathered = self.peers.gathering_until(self.now + AT_ONCE);
                    return Output::Wait(earlier(own, gathered));
                }
            }
        }
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        Outgoing::new(self.peers.outgoing(conn))
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.peers.find(conn).and_then(|peer| self.peers.get(peer)).is_some_and(|this| !this.paused)
    }

    fn accept(&mut self, peer: Knocking<'_>, now: Instant) -> Option<ConnId> {
        self.turn_to(now);
        if !self.wants_accept() {
            return None;
        }
        let conn = self.peers.insert(peer, self.config.exceptions, self.now);
        let index = self.peers.find(conn)?;
        self.queue.open(index);
        self.arm(index);
        let address = peer.address.into();
        self.peers.outputs.push_back(Output::Event(Event::Connected { conn, address }));
        Some(conn)
    }

    fn wants_accept(&self) -> bool {
        self.life == Life::Open && self.peers.len() < self.config.max_connections
    }
}
