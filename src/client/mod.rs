//! The client machine: it submits jobs to job servers and tells how each one ends.
//!
//! It keeps at most one connection to each job server, made when it is needed. Whatever happens, each submission that
//! [`Client::submit`] accepts ends in exactly one [`Event::Done`].

mod config;
mod event;
mod gather;
mod handles;
mod jobs;
mod oversized;
mod packet;
mod requests;
mod servers;
mod unread;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::BytesMut;

pub use self::config::{Config, Counters, Latencies, Unread};
pub use self::event::{Event, RequestError, RequestId, Status};
use self::gather::Gathering;
use self::jobs::{Ended, Jobs, Stage, Terms};
use self::requests::Ask;
use self::servers::candidate;
pub use self::unread::EVENT_COST;
use crate::address::Address;
use crate::balancer::{Balancer, Candidate, Choice};
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::{Extra, Handle, Job, JobId, MAX_FUNCTION, Outcome, Phase, Retry, Start, Unique};
use crate::link::{Link, LinkState};
use crate::links::Links;
use crate::machine::{CloseReason, ConnId, Input, Machine, Outgoing, Output};
use crate::time::Instant;
use crate::trace::{self, Span};
use crate::wire::PacketType;

/// What a reply is for.
#[derive(Debug)]
enum Reply {
    /// `joins`: whether the job server joins it with others.
    Created {
        job: JobId,
        joins: bool,
    },
    Status(RequestId),
    StatusUnique(RequestId),
    Echo(RequestId),
    Probe,
    Option,
    /// Whether the job server still knows a job in doubt.
    Doubt(JobId),
    /// One of several submissions that share this handle has ended. If no copy for the others comes before this reply,
    /// none will. Boxed, as it is rare and large.
    Barrier(Box<(Handle, Outcome)>),
}

/// The client machine. See the [module](self).
#[derive(Debug)]
pub struct Client {
    config: Settings,
    links: Links<Reply, Event>,
    balancer: Balancer,
    /// What the strategy sees of the links, place by place.
    candidates: Vec<Candidate>,
    /// How they stood when they were looked at before, and whether one has changed since the parked jobs were given out.
    shown: Vec<LinkState>,
    changed: bool,
    /// As [`Links::steady`] said then.
    looked: Option<u64>,
    /// Requests that wait for a connection, place by place.
    asks: Vec<VecDeque<(RequestId, Ask)>>,
    jobs: Jobs,
    gathering: Gathering,
    /// What of all jobs waits to be read.
    unread: usize,
    requests: u64,
    open_requests: usize,
    counters: Counters,
    latencies: Latencies,
    /// The time since 1970, and when it was so.
    unix_time: Option<(Duration, Instant)>,
    /// Whether the user knows that no server can be had.
    all_down: bool,
    closed: bool,
}

/// What of its configuration a client needs all its life.
#[derive(Debug)]
struct Settings {
    exceptions: bool,
    unread: Unread,
    client_id: Option<Box<str>>,
    namespace: Option<Box<str>>,
}

impl Client {
    /// A client of these job servers. It connects when the first job is submitted.
    ///
    /// # Errors
    /// No servers, one twice, a client id or a namespace that is none, a limit of zero, or a duration that is too short.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if let Some(id) = &config.client_id {
            crate::job::check_client_id(id)?;
        }
        if let Some(namespace) = &config.namespace {
            ConfigError::check_name("namespace", namespace.as_bytes(), MAX_FUNCTION)?;
        }
        // Else a reply would seem to be late that was not asked for yet.
        let gather = config.gather.min(config.connecting.reply_timeout / 2);
        let terms = Terms::new(&config.deadlines, config.retry, config.limits.max_unread);
        let links: Links<_, _> = Links::new(config.servers, config.connecting, config.limits, &config.seed)?;
        let candidates: Vec<_> = links.iter().map(candidate).collect();
        Ok(Self {
            balancer: Balancer::new(config.balance),
            all_down: false,
            shown: candidates.iter().map(|candidate| candidate.state).collect(),
            changed: false,
            looked: None,
            asks: candidates.iter().map(|_| VecDeque::new()).collect(),
            candidates,
            links,
            jobs: Jobs::new(terms),
            gathering: Gathering::new(gather),
            unread: 0,
            requests: 0,
            open_requests: 0,
            counters: Counters::default(),
            latencies: Latencies::default(),
            unix_time: None,
            closed: false,
            config: Settings {
                exceptions: config.exceptions,
                unread: config.unread,
                client_id: config.client_id,
                namespace: config.namespace,
            },
        })
    }

    /// Takes a job. It ends in exactly one [`Event::Done`].
    ///
    /// # Errors
    /// The job comes back when it is not one ([`Reason::Invalid`]), when a limit is reached ([`Reason::Full`]: there may be room
    /// when the driver has written some or a job has ended) or the client is closed.
    pub fn submit(&mut self, mut job: Job, now: Instant) -> Result<JobId, Rejected<Job>> {
        let now = self.links.advance_clock(now);
        if let Err(reason) = self.room_for(1) {
            return Err(Rejected::new(reason, job));
        }
        if let Err(error) = self.check(&job) {
            return Err(Rejected::new(error, job));
        }
        self.look_at_links();
        let mut choice = self.balancer.choose(&job.function, unique_of(&job), &self.candidates);
        if let Some(link) = choice.send.and_then(|place| self.links.get(place)) {
            let limit = self.links.limits.max_outgoing;
            if link.connection.out.waiting() >= limit {
                let Some(other) = self.choose_another(&job, choice.send, limit) else {
                    // There may be room where it would be dialled beside.
                    self.dial(choice.dial);
                    return Err(Rejected::new(Reason::full_connection(limit), job));
                };
                choice = other;
            }
        }
        self.counters.submitted += 1;
        self.make_ready(&mut job);
        let span = trace::submitted(&job);
        self.dial(choice.dial);
        let (place, may_wait) = (choice.send, !job.background);
        let Self { links, candidates, jobs, .. } = self;
        let id = jobs.insert(job, span, now, |id, job, span| {
            let place = place?;
            Some((place, give(links, candidates, place, id, job, 1, span)?))
        });
        if let Some(place) = place {
            self.depart(place, may_wait);
        }
        Ok(id)
    }

    /// Which job server gets a job for which the connection of the first choice is full. `None`: so is that of each one whose
    /// turn it may be instead.
    #[cold]
    fn choose_another(&mut self, job: &Job, first: Option<usize>, limit: usize) -> Option<Choice> {
        let Self { balancer, links, candidates, .. } = self;
        let choose = || balancer.choose(&job.function, unique_of(job), candidates);
        let has_room = |choice: &Choice| {
            let link = choice.send.and_then(|place| links.get(place));
            link.is_none_or(|link| link.connection.out.waiting() < limit)
        };
        let others = core::iter::repeat_with(choose).take(candidates.len());
        others.take_while(|other| other.send != first).find(has_room)
    }

    /// Gives a job up: it ends as [`Outcome::Cancelled`], and what still comes of it is dropped. The job server is not told,
    /// as the protocol has no word for it. Does nothing when the job has ended.
    pub fn abandon(&mut self, job: JobId, now: Instant) {
        self.links.advance_clock(now);
        if let Some(phase) = self.phase(job) {
            self.finish(job, Outcome::Cancelled { phase });
        }
    }

    /// Nobody waits for a job any more: it is [given up](Self::abandon), unless it is a background job, which wants no one.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn let_go(&mut self, job: JobId, now: Instant) {
        let is_background = |entry: &jobs::Entry| entry.job.as_ref().is_some_and(|job| job.background);
        if !self.jobs.entry(job).is_some_and(is_background) {
            self.abandon(job, now);
        }
    }

    /// How far a job is. `None`: it has ended.
    #[must_use]
    pub fn phase(&self, job: JobId) -> Option<Phase> {
        let entry = self.jobs.entry(job)?;
        Some(entry.phase(self.taken(entry.link)))
    }

    /// The connection on which the next packet of a job will come.
    #[must_use]
    pub fn conn_of(&self, job: JobId) -> Option<ConnId> {
        let entry = self.jobs.entry(job).filter(|entry| entry.is_placed())?;
        self.links.get(entry.link).map(Link::conn)
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.jobs.len()
    }

    /// Plain counts since the client was made.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How long its jobs took since the client was made.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Closes at once: each outstanding job ends as [`Outcome::Cancelled`], each connection is closed, then comes
    /// [`Event::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if core::mem::replace(&mut self.closed, true) {
            return;
        }
        let outstanding: Vec<_> = self.jobs.iter().map(|(id, _)| id).collect();
        for id in outstanding {
            if let Some(phase) = self.phase(id) {
                self.finish(id, Outcome::Cancelled { phase });
            }
        }
        for place in 0..self.links.len() {
            let replies = self.links.close(place);
            self.jobs.lay_all_ghosts(place);
            self.end_requests(place, replies, &RequestError::Closed);
            self.remove_if_done(place);
        }
        self.gathering = Gathering::new(Duration::ZERO);
        self.links.event(Event::Closed);
    }

    /// Whether every table is empty, as it must be when nothing is outstanding.
    #[doc(hidden)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && (self.open_requests, self.unread) == (0, 0)
            && self.candidates.iter().all(|candidate| candidate.outstanding == 0)
            && self.asks.iter().all(VecDeque::is_empty)
    }

    /// Whether [`poll`](Machine::poll) has something other than `Wait`.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn has_output(&self) -> bool {
        self.links.has_output()
    }

    /// What [`poll`](Machine::poll) has where that is a `Transmit`, ahead of its turn.
    #[cfg(feature = "blocking")]
    #[inline(always)]
    pub(crate) fn next_due(&mut self) -> Option<ConnId> {
        self.links.next_due()
    }

    /// What [`poll`](Machine::poll) has where that is a `Wait`, but for [`gathers_until`](Self::gathers_until).
    #[cfg(feature = "blocking")]
    #[inline(always)]
    pub(crate) fn rests_until(&mut self) -> Option<Instant> {
        let Self { links, jobs, asks, .. } = self;
        links.waits(jobs.first_timer(), |place| is_wanted(jobs, asks, place))
    }

    /// When submissions that wait for others want a tick.
    #[cfg(feature = "blocking")]
    pub(crate) const fn gathers_until(&self) -> Instant {
        self.gathering.next()
    }

    /// Tells the wall time, as the time since 1970: jobs that start after a delay need it. To be told again when the wall
    /// clock has been set.
    pub fn set_unix_time(&mut self, since_1970: Duration, now: Instant) {
        self.unix_time = Some((since_1970, self.links.advance_clock(now)));
    }

    fn check(&self, job: &Job) -> Result<(), ConfigError> {
        let prefix = self.config.namespace.as_ref().map_or(0, |namespace| namespace.len());
        job.check(self.links.limits.max_packet.saturating_sub(prefix))?;
        let length = prefix + job.function.len();
        if length > MAX_FUNCTION {
            return Err(ConfigError::TooLong { what: "function with its namespace", length, limit: MAX_FUNCTION });
        }
        match job.start() {
            Some(Start::After(_)) if self.unix_time.is_none() => Err(ConfigError::NoWallTime),
            _ => Ok(()),
        }
    }

    /// Makes it the job that goes to any server: in its namespace, and with a time where it has a delay.
    fn make_ready(&self, job: &mut Job) {
        if let Some(namespace) = &self.config.namespace {
            job.function = [namespace.as_bytes(), &job.function].concat().into();
        }
        if let (Some(Start::After(delay)), Some((unix, then))) = (job.start(), self.unix_time) {
            let start = unix.saturating_add(self.links.now.saturating_since(then)).saturating_add(delay);
            let up = u64::from(start.subsec_nanos() > 0);
            job.start_at(Duration::from_secs(start.as_secs().saturating_add(up)));
        }
    }

    fn room_for(&self, more: usize) -> Result<(), Reason> {
        let limit = self.links.limits.max_jobs;
        match self.jobs.len() + self.open_requests + more {
            _ if self.closed => Err(Reason::Closed),
            wanted if wanted > limit => {
                Err(Reason::Full { what: "the number of outstanding jobs and requests", limit })
            }
            _ => Ok(()),
        }
    }

    /// How many bytes the connection at `place` may have taken: a writer may be at work.
    fn taken(&self, place: usize) -> u64 {
        self.links.get(place).map_or(0, |link| link.connection.out.perhaps_taken())
    }

    /// Dials whom a strategy chose. That it is being dialled now is no news to the strategy.
    fn dial(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            let changed = self.changed;
            self.links.dial(place);
            self.look_at_links();
            self.changed = changed;
        }
    }

    /// Gives the parked jobs to the servers that can be had now.
    fn place_parked(&mut self) {
        self.look_at_links();
        let parked: Vec<_> = self.jobs.parked().collect();
        for id in parked {
            let Some(job) = self.jobs.entry(id).and_then(|entry| entry.job.as_ref()) else { continue };
            let choice = self.balancer.choose(&job.function, unique_of(job), &self.candidates);
            self.dial(choice.dial);
            let Self { links, candidates, jobs, .. } = self;
            if let Some(place) = choice.send
                && let Some(entry @ jobs::Entry { job: Some(job), span, .. }) = jobs.entry(id)
                && let Some(end) = give(links, candidates, place, id, job, entry.attempts + 1, span)
            {
                links.tell(place);
                self.counters.retried += u64::from(entry.attempts > 0);
                self.jobs.sent(id, place, end);
                // A server that is tried with one job gets no other.
                self.look_at_links();
            }
        }
        self.changed = false;
        if self.jobs.has_parked() && self.none_can_be_had() && !core::mem::replace(&mut self.all_down, true) {
            let retry_at = self.links.iter().filter_map(Link::retry_at).min();
            self.links.event(Event::AllDown { retry_at });
        }
    }

    /// Ends a job.
    fn finish(&mut self, id: JobId, outcome: Outcome) {
        if matches!(outcome, Outcome::TimedOut { .. } | Outcome::Cancelled { .. } | Outcome::Overflow { .. }) {
            self.jobs.leave_ghost(id);
            self.counters.overflowed += u64::from(matches!(outcome, Outcome::Overflow { .. }));
        }
        if let Some(ended) = self.jobs.remove(id) {
            self.done(id, ended, outcome);
        }
    }

    /// A job has been removed, as it has ended: the one place where `Done` is said.
    #[inline(always)]
    fn done(&mut self, job: JobId, ended: Ended, outcome: Outcome) {
        let finished =
            matches!(outcome, Outcome::Complete(_) | Outcome::Failed | Outcome::Exception(_) | Outcome::Queued { .. });
        self.counters.ended += 1;
        self.latencies.total.record_between(ended.submitted, self.links.now);
        trace::done(&ended.span, &outcome, self.links.now.saturating_since(ended.submitted));
        self.links.event(Event::Done { job, outcome });
        self.unread -= ended.unread;
        let Some(link) = ended.link else { return };
        if ended.holds {
            self.links.unhold(link);
        }
        self.leave(link, finished);
    }

    /// The connection to a server is gone, or could not be made.
    fn link_lost(&mut self, place: usize, reason: &CloseReason) {
        let Some(link) = self.links.get(place) else { return };
        let (server, address, taken) = (link.id, link.address.clone(), self.taken(place));
        let (replies, retry_at) = self.links.lost(place, reason);
        self.gathering.left(place);
        self.jobs.lay_all_ghosts(place);
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.counters.failed += 1;
            candidate.failure = Some(reason.clone());
        }
        self.links.event(Event::Disconnected { server, address: address.clone(), reason: reason.clone(), retry_at });
        let placed = self.jobs.iter().filter(|(_, entry)| entry.is_placed() && entry.link == place);
        let mut lost: Vec<_> = placed.map(|(id, entry)| (entry.sequence(), id)).collect();
        lost.sort_unstable();
        for (_, job) in lost {
            self.lose(job, taken, &address, reason);
        }
        self.end_requests(place, replies, &RequestError::Lost(reason.clone()));
        self.remove_if_done(place);
        self.place_parked();
    }

    /// A job's connection is gone: another attempt, or the end.
    fn lose(&mut self, id: JobId, taken: u64, server: &Address, reason: &CloseReason) {
        let defaults = self.jobs.defaults;
        let Some(entry) = self.jobs.entry_mut(id) else { return };
        let (phase, place, attempts) = (entry.phase(taken), entry.link, entry.attempts);
        if phase >= Phase::Accepted {
            entry.since = self.links.now;
        }
        if core::mem::take(&mut entry.holds) {
            self.links.unhold(place);
        }
        let until = match entry.terms(&defaults).retry {
            Retry::Unsent | Retry::Idempotent { .. } if phase <= Phase::Sending => None,
            Retry::Idempotent { attempts: most } if attempts < most => {
                let doubled = self.links.settings.retry_first.saturating_mul(1 << attempts.saturating_sub(1).min(30));
                Some(self.links.now + self.links.random.jitter(doubled.min(self.links.settings.retry_most)))
            }
            _ => {
                return self
                    .finish(id, Outcome::Lost { phase, server: server.clone(), reason: reason.clone(), attempts });
            }
        };
        trace::retried(&entry.span, phase, server, reason);
        self.jobs.put_off(id, until);
        self.leave(place, false);
    }

    fn connected(&mut self, place: usize) {
        if !self.links.connected(place) {
            return;
        }
        if let Some(name) = &self.config.client_id {
            self.links.send(place, PacketType::SET_CLIENT_ID, &[name.as_bytes()], None, None);
        }
        if self.config.exceptions {
            self.links.send(place, PacketType::OPTION_REQ, &[b"exceptions"], None, Some(Reply::Option));
        }
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.counters.connected += 1;
            self.all_down = false;
            let (server, address) = (candidate.server, candidate.address.clone());
            self.links.event(Event::Connected { server, address });
        }
        self.send_asks(place);
        self.place_parked();
    }

    fn break_off(&mut self, place: usize, reason: &CloseReason) {
        self.links.disconnect(place);
        self.link_lost(place, reason);
    }

    fn tick(&mut self) {
        self.end_gathering(self.links.now);
        for place in 0..self.links.len() {
            if let Some(reason) = self.links.tick(place, Some(Reply::Probe), |reply| matches!(reply, Reply::Option)) {
                self.break_off(place, &reason);
            }
            if self.asks.get(place).is_some_and(|asks| !asks.is_empty()) {
                self.links.dial(place);
            }
            // The last that a server on its way out was waited for may have been a reply that never came.
            self.remove_if_done(place);
        }
        while let Some(id) = self.jobs.timed(self.links.now) {
            self.job_timer(id);
        }
        // A tick that changes nothing makes no strategy choose again.
        self.look_at_links();
        if self.changed {
            self.place_parked();
        }
    }

    fn job_timer(&mut self, id: JobId) {
        let Some(phase) = self.phase(id) else { return };
        let defaults = self.jobs.defaults;
        let Some(entry) = self.jobs.entry_mut(id) else { return };
        if entry.deadline(&defaults) <= self.links.now {
            let (attempts, placed, place) = (entry.attempts, entry.is_placed(), entry.link);
            let (server, reason) = if placed {
                (self.links.get(place).map(|link| link.address.clone()), None)
            } else {
                self.links.last_failure().unzip()
            };
            return self.finish(id, Outcome::TimedOut { phase, server, reason, attempts });
        }
        let place = entry.link;
        match &mut entry.stage {
            Stage::Delayed { until } if *until <= self.links.now => {
                self.changed = true;
                return self.jobs.put_off(id, None);
            }
            Stage::Accepted { handle, doubt: Some(doubt), .. }
                if doubt.ask_at.is_some_and(|at| at <= self.links.now) =>
            {
                doubt.ask_at = None;
                self.links.send(place, PacketType::GET_STATUS, &[handle.as_bytes()], None, Some(Reply::Doubt(id)));
            }
            _ => {}
        }
        self.jobs.set_timer(id);
    }

    #[inline(always)]
    fn receive(&mut self, conn: ConnId, stream: &mut BytesMut) {
        let (place, came) = (conn.index(), stream.len());
        loop {
            let result = match self.links.receive_head(conn, stream) {
                Ok(Some(head)) => self.packet(place, head, stream),
                Ok(None) if self.links.skip_on(conn, stream) => continue,
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                match self.pass_over(place, stream, error) {
                    Ok(true) => continue,
                    Ok(false) => break,
                    Err(error) => {
                        stream.clear();
                        return self.break_off(place, &CloseReason::Protocol(error));
                    }
                }
            }
            if stream.is_empty() {
                break;
            }
        }
        self.links.received(conn, came, stream.len());
        // A server that failed may have answered, so that it gets more than the one job which tried it.
        if self.jobs.has_parked() {
            self.look_at_links();
            if self.changed {
                self.place_parked();
            }
        }
        // The last that a server on its way out was waited for may have been a reply.
        self.remove_if_done(place);
    }
}

/// Gives a job to the server at `place`. Says where the stream of its connection is past it; `None` when it is not up.
#[inline(always)]
fn give(
    links: &mut Links<Reply, Event>,
    candidates: &mut [Candidate],
    place: usize,
    id: JobId,
    job: &Job,
    attempt: u32,
    span: &Span,
) -> Option<u64> {
    let generated;
    let unique = match &job.unique {
        Unique::Generated => {
            generated = links.random.unique();
            &generated[..]
        }
        _ => unique_of(job),
    };
    let reply = Some(Reply::Created { job: id, joins: jobs::joins(job).is_some() });
    let (kind, payload) = (job.packet(), Some(&job.payload));
    let link = match job.extra.as_deref() {
        Some(Extra { start: Some(Start::At(time)), .. }) => {
            let seconds = time.as_secs().to_string();
            links.put(place, kind, &[&job.function, unique, seconds.as_bytes()], payload, reply)
        }
        // libgearman leaves the aggregator empty, too: job servers only pass the reducer on.
        Some(Extra { reducer: Some(reducer), .. }) => {
            links.put(place, kind, &[&job.function, unique, reducer, b""], payload, reply)
        }
        _ => links.put(place, kind, &[&job.function, unique], payload, reply),
    }?;
    trace::sent(span, &link.address, attempt, unique);
    if let Some(candidate) = candidates.get_mut(place) {
        candidate.outstanding += 1;
        candidate.counters.sent += 1;
    }
    Some(link.connection.out.end())
}

/// Whether something waits for the server at `place`.
fn is_wanted(jobs: &Jobs, asks: &[VecDeque<(RequestId, Ask)>], place: usize) -> bool {
    jobs.has_parked() || asks.get(place).is_some_and(|asks| !asks.is_empty())
}

fn unique_of(job: &Job) -> &[u8] {
    match &job.unique {
        Unique::Own(unique) => unique,
        Unique::None | Unique::Generated => &[],
    }
}

impl Machine for Client {
    type Event = Event;

    fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.links.advance_clock(now);
        match input {
            Input::Data(conn, stream) => self.receive(conn, stream),
            Input::Connected(conn) => self.links.place_of(conn).into_iter().for_each(|place| self.connected(place)),
            Input::Closed(conn, reason) => {
                self.links.place_of(conn).into_iter().for_each(|place| self.link_lost(place, &reason));
            }
            Input::Tick if self.closed => {}
            Input::Tick => self.tick(),
        }
    }

    #[inline(always)]
    fn poll(&mut self) -> Output<Event> {
        let Self { links, jobs, gathering, asks, .. } = self;
        links.output(|| jobs.first_timer().min(gathering.next()), |place| is_wanted(jobs, asks, place))
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        self.links.outgoing(conn)
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.links.wants_read(conn)
    }
}
