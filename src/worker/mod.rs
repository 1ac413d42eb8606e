//! The worker machine: it grabs jobs from job servers, hands them out to be run, and sends back what comes of them.
//!
//! What a worker can do is a wish that outlives its connections: each new one is told the client id and the functions
//! before it is asked for jobs. Jobs are asked for in turn from all servers that may have some.

mod config;
mod event;
mod functions;
mod grab;
mod oversized;
mod packet;
mod servers;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use slab::Slab;

pub use self::config::{Config, Counters, Grab, Latencies};
pub use self::event::{Assignment, Event, Gone, TaskId};
use self::grab::{Mood, Side};
pub use self::servers::{JobServer, ServerCounters};
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::{Handle, check_client_id};
use crate::link::Removal;
use crate::links::Links;
use crate::machine::{CloseReason, ConnId, Input, Machine, Outgoing, Output};
use crate::time::Instant;
use crate::trace::{self, Span};
use crate::wire::PacketType;

/// What a reply is for.
#[derive(Debug)]
enum Reply {
    Grab,
    Probe,
    /// WORK_FAIL behind WORK_EXCEPTION, which Perl's job server needs and gearmand answers with ERROR.
    SecondEnd,
    /// The last thing before a connection closes in order: all before it has arrived.
    Farewell,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    /// The same as long as jobs of it may be in hand.
    number: u32,
    timeout: Option<Duration>,
    /// No longer wanted: to be told to each server once no job of it is run for that one.
    leaving: bool,
}

#[derive(Debug)]
struct Task {
    place: usize,
    generation: u32,
    /// The number of its function.
    function: u32,
    handle: Handle,
    /// When it was handed out, and how long it may take from then on.
    began: Instant,
    limit: Option<Duration>,
    span: Span,
    /// The connection is gone or the limit passed: nothing is sent of it any more.
    gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Draining,
    Closed,
}

/// The worker machine. See the [module](self).
#[derive(Debug)]
pub struct Worker {
    links: Links<Reply, Event>,
    sides: Vec<Side>,
    /// What has come of each server so far, place by place.
    tallies: Vec<ServerCounters>,
    functions: BTreeMap<Bytes, Function>,
    /// How many of them have a timeout, and how many are leaving.
    timed: usize,
    leaving: usize,
    next_function: u32,
    tasks: Slab<Task>,
    /// When each task that has been handed out and has a limit must be over, and its place.
    limits: BTreeSet<(Instant, usize)>,
    /// Nothing of the worker's own is due before this. What puts a thing off leaves it: a tick then finds it anew.
    own: Instant,
    /// Jobs that wait for one of the `concurrency` places.
    waiting: VecDeque<Assignment>,
    running: usize,
    /// Whose turn it is to be asked.
    turn: usize,
    next_task: u32,
    counters: Counters,
    latencies: Latencies,
    stop: Stop,
    client_id: Option<Box<str>>,
    namespace: Option<Box<str>>,
    concurrency: usize,
    prefetch: usize,
    grab: Grab,
    regrab_after: Option<Duration>,
    timeout_is_exception: bool,
}

impl Worker {
    /// A worker for these job servers. It connects when its first function is registered.
    ///
    /// # Errors
    /// No servers, one twice, no concurrency, a client id that is none, a limit of zero, or a duration that is too short.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if let Some(id) = &config.client_id {
            check_client_id(id)?;
        }
        if config.concurrency == 0 {
            return Err(ConfigError::Zero("concurrency"));
        }
        if config.regrab_after.is_some_and(|after| after < Duration::from_millis(1)) {
            return Err(ConfigError::BadDuration {
                what: "time after which a sleeper asks again",
                must_be: "at least 1 ms",
            });
        }
        let links: Links<_, _> = Links::new(config.servers, config.connecting, config.limits, &config.seed)?;
        Ok(Self {
            sides: (0..links.len()).map(|_| Side::new(config.grab)).collect(),
            tallies: (0..links.len()).map(|_| ServerCounters::default()).collect(),
            links,
            functions: BTreeMap::new(),
            timed: 0,
            leaving: 0,
            next_function: 0,
            tasks: Slab::new(),
            limits: BTreeSet::new(),
            own: Instant::NEVER,
            waiting: VecDeque::new(),
            running: 0,
            turn: 0,
            next_task: 0,
            counters: Counters::default(),
            latencies: Latencies::default(),
            stop: Stop::No,
            client_id: config.client_id,
            namespace: config.namespace,
            concurrency: config.concurrency,
            prefetch: config.prefetch,
            grab: config.grab,
            regrab_after: config.regrab_after,
            timeout_is_exception: config.timeout_is_exception,
        })
    }

    /// The job is done and `payload` is its result (WORK_COMPLETE).
    ///
    /// # Errors
    /// The payload comes back when it is over the limit (the job stays in hand) or the job is no longer this worker's.
    pub fn complete(&mut self, task: TaskId, payload: Bytes, now: Instant) -> Result<(), Rejected<Bytes>> {
        let ended = self.end(task, PacketType::WORK_COMPLETE, Some(&payload), now);
        ended.map_err(|reason| Rejected::new(reason, payload))
    }

    /// The job failed (WORK_FAIL).
    ///
    /// # Errors
    /// The job is no longer this worker's.
    pub fn fail(&mut self, task: TaskId, now: Instant) -> Result<(), Rejected<()>> {
        self.end(task, PacketType::WORK_FAIL, None, now).map_err(|reason| Rejected::new(reason, ()))
    }

    /// The job threw `payload` (WORK_EXCEPTION, then WORK_FAIL for job servers that need it).
    ///
    /// # Errors
    /// The payload comes back when it is over the limit (the job stays in hand) or the job is no longer this worker's.
    pub fn exception(&mut self, task: TaskId, payload: Bytes, now: Instant) -> Result<(), Rejected<Bytes>> {
        let ended = self.end(task, PacketType::WORK_EXCEPTION, Some(&payload), now);
        ended.map_err(|reason| Rejected::new(reason, payload))
    }

    /// Sends a part of the result (WORK_DATA).
    ///
    /// # Errors
    /// The payload comes back when it is over the limit, too much waits to be written, or the job is no longer this worker's.
    pub fn data(&mut self, task: TaskId, payload: Bytes, now: Instant) -> Result<(), Rejected<Bytes>> {
        self.tell(task, PacketType::WORK_DATA, payload, now)
    }

    /// Sends a warning (WORK_WARNING).
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn warning(&mut self, task: TaskId, payload: Bytes, now: Instant) -> Result<(), Rejected<Bytes>> {
        self.tell(task, PacketType::WORK_WARNING, payload, now)
    }

    /// Tells how far the job is (WORK_STATUS).
    ///
    /// # Errors
    /// Too much waits to be written, or the job is no longer this worker's.
    pub fn progress(
        &mut self,
        task: TaskId,
        numerator: u64,
        denominator: u64,
        now: Instant,
    ) -> Result<(), Rejected<()>> {
        self.links.advance_clock(now);
        let (place, handle) = self.writable(task).map_err(|reason| Rejected::new(reason, ()))?;
        let (numerator, denominator) = (numerator.to_string(), denominator.to_string());
        let arguments: [&[u8]; 3] = [handle.as_bytes(), numerator.as_bytes(), denominator.as_bytes()];
        self.links.send(place, PacketType::WORK_STATUS, &arguments, None, None);
        Ok(())
    }

    /// The connection that a job came on. `None`: the job has been answered, or its connection is gone.
    #[must_use]
    pub fn conn_of(&self, task: TaskId) -> Option<ConnId> {
        let task = self.task(task).filter(|task| !task.gone)?;
        self.links.get(task.place).map(crate::link::Link::conn)
    }

    /// Jobs assigned and not answered, waiting ones included.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.tasks.len()
    }

    /// Plain counts since the worker was made.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How long its jobs took since the worker was made.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// When it was told something last.
    #[cfg(feature = "blocking")]
    pub(crate) const fn now(&self) -> Instant {
        self.links.now
    }

    /// Whether [`poll`](Machine::poll) has something other than `Wait`.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn has_output(&self) -> bool {
        self.links.has_output()
    }

    /// What [`poll`](Machine::poll) has where that is a `Transmit`, ahead of its turn.
    #[cfg(feature = "blocking")]
    pub(crate) fn next_due(&mut self) -> Option<ConnId> {
        self.links.next_due()
    }

    /// What [`poll`](Machine::poll) has where that is a `Wait`.
    #[cfg(feature = "blocking")]
    pub(crate) fn rests_until(&mut self) -> Option<Instant> {
        let wanted = self.wants_servers();
        self.links.waits(self.own, |_| wanted)
    }

    /// Asks for no more jobs, finishes those in hand and those that grabs under way bring, then closes each connection when
    /// its job server has got everything, and says [`Event::Closed`].
    pub fn drain(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if self.stop == Stop::No {
            self.stop = Stop::Draining;
            self.own = self.own_deadline();
            self.leave_if_done();
        }
    }

    /// Closes at once: jobs in hand are [`Gone`], and their job servers give them to other workers.
    pub fn close(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if self.stop == Stop::Closed {
            return;
        }
        for place in 0..self.links.len() {
            self.links.close(place);
            self.orphan(place);
            self.removed(place);
        }
        self.end_of_all();
    }

    /// No connection is left, so each function that was to be forgotten is.
    fn end_of_all(&mut self) {
        self.sides.iter_mut().for_each(|side| side.to_forget.clear());
        self.forget_functions();
        self.stop = Stop::Closed;
        self.own = self.own_deadline();
        self.links.event(Event::Closed);
    }

    /// Whether there is something to ask job servers for.
    fn wants_servers(&self) -> bool {
        self.stop == Stop::No && !self.functions.is_empty()
    }

    fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id.index()).filter(|task| task.generation == id.generation)
    }

    /// Where the packets of a job go, when any may.
    fn writable(&self, id: TaskId) -> Result<(usize, Handle), Reason> {
        let task =
            self.task(id).filter(|task| !task.gone).ok_or(Reason::Unknown("job: it is no longer this worker's"))?;
        let limit = self.links.limits.max_outgoing;
        match self.links.get(task.place) {
            Some(link) if link.connection.out.waiting() >= limit => Err(Reason::full_connection(limit)),
            _ => Ok((task.place, task.handle.clone())),
        }
    }

    fn check_size(&self, payload: &Bytes) -> Result<(), ConfigError> {
        // Handles have at most 64 bytes.
        let limit = self.links.limits.max_packet.saturating_sub(65);
        if payload.len() > limit {
            return Err(ConfigError::TooLong { what: "payload", length: payload.len(), limit });
        }
        Ok(())
    }

    fn tell(&mut self, id: TaskId, kind: PacketType, payload: Bytes, now: Instant) -> Result<(), Rejected<Bytes>> {
        self.links.advance_clock(now);
        if let Err(error) = self.check_size(&payload) {
            return Err(Rejected::new(error, payload));
        }
        match self.writable(id) {
            Ok((place, handle)) => {
                self.links.send(place, kind, &[handle.as_bytes()], Some(&payload), None);
                Ok(())
            }
            Err(reason) => Err(Rejected::new(reason, payload)),
        }
    }

    /// Answers a job, whatever waits to be written: an end is never refused for want of room.
    fn end(&mut self, id: TaskId, kind: PacketType, payload: Option<&Bytes>, now: Instant) -> Result<(), Reason> {
        self.links.advance_clock(now);
        if let Some(payload) = payload {
            self.check_size(payload)?;
        }
        let known = self.task(id).is_some();
        let Some(task) = known.then(|| self.tasks.try_remove(id.index())).flatten() else {
            return Err(Reason::Unknown("job: it has been answered"));
        };
        if let Some(limit) = task.limit {
            self.limits.remove(&(task.began + limit, id.index()));
        }
        self.running = self.running.saturating_sub(1);
        let took = self.links.now.saturating_since(task.began);
        let result = if task.gone {
            self.counters.dropped += 1;
            trace::dropped(&task.span, took);
            // Nothing is said of a job behind its end.
            self.links.take_back(|event| matches!(event, Event::Gone { task, .. } if *task == id));
            Err(Reason::Unknown("job: it is no longer this worker's"))
        } else {
            self.counters.answered += 1;
            self.tallies.get_mut(task.place).into_iter().for_each(|tally| tally.answered += 1);
            self.latencies.run.record_between(task.began, self.links.now);
            trace::answered(&task.span, kind, payload.map_or(0, Bytes::len), took);
            self.send_end(task.place, &task.handle, kind, payload);
            Ok(())
        };
        self.hand_out();
        self.forget_functions();
        let slept = self.nap(task.place);
        if !slept || self.sides.len() > 1 {
            self.grab_more();
        }
        self.leave_if_done();
        result
    }

    #[inline(always)]
    fn send_end(&mut self, place: usize, handle: &Handle, kind: PacketType, payload: Option<&Bytes>) {
        self.links.send(place, kind, &[handle.as_bytes()], payload, None);
        if kind == PacketType::WORK_EXCEPTION {
            self.links.send(place, PacketType::WORK_FAIL, &[handle.as_bytes()], None, Some(Reply::SecondEnd));
        }
    }

    /// The connection of these jobs is gone: those that wait were never here, those that run are told.
    fn orphan(&mut self, place: usize) {
        let (tasks, limits) = (&mut self.tasks, &mut self.limits);
        let server = self.links.get(place).map(|link| link.id);
        self.waiting.retain(|assignment| {
            let stays = Some(assignment.server) != server;
            if !stays {
                tasks.try_remove(assignment.task.index());
            }
            stays
        });
        for (index, task) in tasks.iter_mut().filter(|(_, task)| task.place == place && !task.gone) {
            task.gone = true;
            if let Some(limit) = task.limit {
                limits.remove(&(task.began + limit, index));
            }
            trace::gone(&task.span, &Gone::Disconnected);
            let id = TaskId { index: u32::try_from(index).unwrap_or(u32::MAX), generation: task.generation };
            self.links.event(Event::Gone { task: id, reason: Gone::Disconnected });
        }
    }

    #[cold]
    fn connected(&mut self, place: usize) {
        if !self.links.connected(place) {
            return;
        }
        self.tallies.get_mut(place).into_iter().for_each(|tally| tally.connected += 1);
        if let Some(id) = &self.client_id {
            self.links.send(place, PacketType::SET_CLIENT_ID, &[id.as_bytes()], None, None);
        }
        let offers: Vec<_> = self
            .functions
            .iter()
            .filter(|(_, known)| !known.leaving)
            .map(|(name, known)| (name.clone(), known.timeout))
            .collect();
        for (function, timeout) in offers {
            self.offer(place, &function, timeout);
        }
        if let Some((server, address)) = self.links.get(place).map(|link| (link.id, link.address.clone())) {
            self.links.event(Event::Connected { server, address });
        }
        self.grab_more();
        self.leave_if_done();
    }

    #[cold]
    fn link_lost(&mut self, place: usize, reason: CloseReason) {
        let (_, retry_at) = self.links.lost(place, &reason);
        self.tallies.get_mut(place).into_iter().for_each(|tally| tally.failed += 1);
        if let Some(side) = self.sides.get_mut(place) {
            *side = Side::new(self.grab);
        }
        let retry_at = (self.stop == Stop::No).then_some(retry_at);
        if let Some((server, address)) = self.links.get(place).map(|link| (link.id, link.address.clone())) {
            self.links.event(Event::Disconnected { server, address, reason, retry_at });
        }
        self.orphan(place);
        self.forget_functions();
        self.grab_more();
        self.leave_if_done();
    }

    #[cold]
    fn break_off(&mut self, place: usize, reason: CloseReason) {
        self.links.disconnect(place);
        self.link_lost(place, reason);
    }

    /// Says farewell to each server that is to be left, once no job of it is in hand or under way.
    #[inline]
    fn leave_if_done(&mut self) {
        if self.stop != Stop::No || self.links.iter().any(|link| link.removal != Removal::None) {
            self.leave_those_done();
        }
    }

    #[cold]
    fn leave_those_done(&mut self) {
        if self.stop == Stop::Closed {
            return;
        }
        for place in 0..self.sides.len() {
            let removed = self.links.get(place).is_some_and(|link| link.removal == Removal::Draining);
            if !removed && self.stop != Stop::Draining {
                continue;
            }
            let in_hand = self.tasks.iter().any(|(_, task)| task.place == place && !task.gone);
            let Some(side) = self.sides.get_mut(place) else { return };
            if !self.links.is_up(place) {
                *side = Side::new(self.grab);
                self.links.close(place);
                self.removed(place);
            } else if side.grabs == 0 && !in_hand && !side.leaving {
                side.leaving = true;
                self.links.send(place, PacketType::ECHO_REQ, &[], None, Some(Reply::Farewell));
            }
        }
        let none_up = (0..self.sides.len()).all(|place| !self.links.is_up(place));
        if self.stop == Stop::Draining && none_up && self.tasks.is_empty() {
            self.end_of_all();
        }
    }

    #[cold]
    fn tick(&mut self) {
        for place in 0..self.sides.len() {
            if let Some(reason) = self.links.tick(place, Some(Reply::Probe), |reply| matches!(reply, Reply::SecondEnd))
            {
                self.break_off(place, reason);
            }
            if self.wants_servers() {
                self.links.dial(place);
            }
            let patience = self.links.settings.patience;
            let now = self.links.now;
            if let Some(side) = self.sides.get_mut(place) {
                side.slow |= side.grabs > 0 && side.grabbed + patience <= now;
            }
            if let Some(side) = self.sides.get_mut(place)
                && let (Mood::Asleep { since }, Some(after)) = (side.mood, self.regrab_after)
                && since + after <= now
            {
                side.mood = Mood::Awake;
            }
            if let Some(side) = self.sides.get_mut(place)
                && let Mood::Dozing { until } = side.mood
                && until <= now
            {
                side.mood = Mood::Awake;
            }
        }
        self.end_overdue();
        self.grab_more();
        self.own = self.own_deadline();
    }

    /// Ends the jobs that have run too long.
    fn end_overdue(&mut self) {
        while let Some(&(at, index)) = self.limits.first().filter(|(at, _)| *at <= self.links.now) {
            self.limits.remove(&(at, index));
            let Some(task) = self.tasks.get_mut(index) else { continue };
            task.gone = true;
            let id = TaskId { index: u32::try_from(index).unwrap_or(u32::MAX), generation: task.generation };
            trace::gone(&task.span, &Gone::TimedOut);
            let (place, handle) = (task.place, task.handle.clone());
            self.counters.timed_out += 1;
            if self.timeout_is_exception {
                let text = Bytes::from_static(b"the worker's time limit for this function has passed");
                self.send_end(place, &handle, PacketType::WORK_EXCEPTION, Some(&text));
            } else {
                self.send_end(place, &handle, PacketType::WORK_FAIL, None);
            }
            self.links.event(Event::Gone { task: id, reason: Gone::TimedOut });
        }
        self.forget_functions();
        self.leave_if_done();
    }
}

impl Machine for Worker {
    type Event = Event;

    fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.links.advance_clock(now);
        match input {
            Input::Data(conn, stream) => self.receive(conn, stream),
            Input::Connected(conn) => {
                if let Some(place) = self.links.place_of(conn) {
                    self.connected(place);
                }
            }
            Input::Closed(conn, reason) => {
                if let Some(place) = self.links.place_of(conn) {
                    self.link_lost(place, reason);
                }
            }
            Input::Tick if self.stop == Stop::Closed => {}
            Input::Tick => self.tick(),
        }
    }

    fn poll(&mut self) -> Output<Event> {
        let wanted = self.wants_servers();
        self.links.output(|| self.own, |_| wanted)
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        self.links.outgoing(conn)
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.links.wants_read(conn)
    }
}
