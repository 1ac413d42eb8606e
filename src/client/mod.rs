//! The client machine: it submits jobs to job servers and tells how each one ends.
//!
//! It keeps at most one connection to each job server, made when it is needed. Whatever happens, each submission that
//! [`Client::submit`] accepts ends in exactly one [`Event::Done`].

mod event;
mod jobs;
mod packet;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

pub use self::event::{Event, RequestError, RequestId, Status};
use self::jobs::{Jobs, Stage};
use crate::address::Address;
use crate::balancer::{Balance, Candidate};
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::{Deadlines, Handle, Job, JobId, Outcome, Phase, Retry, ServerId, Unique};
use crate::link::{Connecting, Due, Link, LinkState};
use crate::machine::{CloseReason, ConnId, Input, Limits, Machine, Outgoing, Output};
use crate::random::{Random, Seed};
use crate::time::{Instant, earlier};
use crate::wire::PacketType;

/// What a client is to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The job servers, at least one, none twice.
    pub servers: Vec<Address>,
    /// Which of them gets a job.
    pub balance: Balance,
    /// How it connects, and finds out that a server is dead.
    pub connecting: Connecting,
    /// The deadlines of jobs that have none of their own.
    pub deadlines: Deadlines,
    /// What happens to lost jobs that do not say so themselves.
    pub retry: Retry,
    /// Whether job servers are asked to send exceptions (OPTION_REQ `exceptions`); else a job that throws just fails.
    /// Default true.
    pub exceptions: bool,
    /// The name under which job servers list the client (SET_CLIENT_ID), without white space.
    pub client_id: Option<Box<str>>,
    /// What it may hold.
    pub limits: Limits,
    /// Where its randomness comes from: jitter, generated uniques, the hash of its tables.
    pub seed: Seed,
}

impl Config {
    /// The defaults, without a server.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            servers: Vec::new(),
            balance: Balance::Sequence,
            connecting: Connecting::default(),
            deadlines: Deadlines { accept: Some(core::time::Duration::from_secs(30)), total: None, idle: None },
            retry: Retry::Unsent,
            exceptions: true,
            client_id: None,
            limits: Limits::default(),
            seed,
        }
    }
}

/// Plain counts since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Jobs taken by `submit`.
    pub submitted: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Further attempts at a job.
    pub retried: u64,
    /// Packets for jobs that had ended or were never known.
    pub late: u64,
}

/// What a reply is for.
#[derive(Debug)]
enum Reply {
    Created(JobId),
    Status(RequestId),
    StatusUnique(RequestId),
    Echo(RequestId),
    Probe,
    Option,
    /// Whether the job server still knows a job in doubt.
    Doubt(JobId),
    /// One of several submissions that share this handle has ended. If no copy for the others comes before this reply,
    /// none will.
    Barrier(Handle, Outcome),
}

#[derive(Debug)]
enum Ask {
    Status(Handle),
    StatusUnique(Bytes),
    Echo(Bytes),
}

#[derive(Debug)]
struct Server {
    link: Link<Reply>,
    /// Requests that wait for the connection.
    asks: VecDeque<(RequestId, Ask)>,
}

/// The client machine. See the [module](self).
#[derive(Debug)]
pub struct Client {
    config: Config,
    random: Random,
    servers: Vec<Server>,
    /// What the strategy sees of `servers`, place by place.
    candidates: Vec<Candidate>,
    jobs: Jobs,
    queue: VecDeque<Output<Event>>,
    /// Connections whose packets wait until the queue is shorter.
    paused: Vec<ConnId>,
    requests: u64,
    open_requests: usize,
    counters: Counters,
    now: Instant,
    closed: bool,
}

impl Client {
    /// A client of these job servers. It connects when the first job is submitted.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.servers.is_empty() {
            return Err(ConfigError::NoServers);
        }
        config.connecting.check()?;
        if let Some(id) = &config.client_id {
            crate::job::check_client_id(id)?;
        }
        let mut client = Self {
            random: Random::new(&config.seed),
            servers: Vec::new(),
            candidates: Vec::new(),
            jobs: Jobs::default(),
            queue: VecDeque::new(),
            paused: Vec::new(),
            requests: 0,
            open_requests: 0,
            counters: Counters::default(),
            now: Instant::EPOCH,
            closed: false,
            config,
        };
        for address in core::mem::take(&mut client.config.servers) {
            if client.candidates.iter().any(|known| known.address == address) {
                return Err(ConfigError::DuplicateServer(address));
            }
            let place = u32::try_from(client.servers.len()).unwrap_or(u32::MAX);
            let server = ServerId(place);
            client.servers.push(Server { link: Link::new(server, address.clone(), place), asks: VecDeque::new() });
            client.candidates.push(Candidate { server, address, state: LinkState::Idle, outstanding: 0 });
        }
        Ok(client)
    }

    /// Takes a job. It ends in exactly one [`Event::Done`].
    ///
    /// # Errors
    /// The job comes back when it is not one ([`Reason::Invalid`]), when a limit is reached ([`Reason::Full`]) or the
    /// client is closed.
    pub fn submit(&mut self, job: Job, now: Instant) -> Result<JobId, Rejected<Job>> {
        let now = self.advance_clock(now);
        if let Err(reason) = self.room_for(1) {
            return Err(Rejected::new(reason, job));
        }
        if let Err(error) = job.check(self.config.limits.max_packet) {
            return Err(Rejected::new(error, job));
        }
        self.look_at_links();
        let choice = self.config.balance.choose(&job.function, unique_of(&job), &self.candidates);
        if let Some(server) = choice.send.and_then(|place| self.servers.get(place)) {
            let limit = self.config.limits.max_outgoing;
            if server.link.connection.out.waiting() >= limit {
                return Err(Rejected::new(Reason::Full { what: "the bytes queued for a connection", limit }, job));
            }
        }
        self.counters.submitted += 1;
        let id = self.jobs.insert(job, now);
        self.dial(choice.dial);
        if !choice.send.is_some_and(|place| self.place(id, place)) {
            self.jobs.set_stage(id, Stage::Parked, &self.config.deadlines, &self.random);
        }
        Ok(id)
    }

    /// Gives a job up: it ends as [`Outcome::Cancelled`], and what still comes of it is dropped. The job server is not told,
    /// as the protocol has no word for it. Does nothing when the job has ended.
    pub fn abandon(&mut self, job: JobId, now: Instant) {
        self.advance_clock(now);
        if let Some(phase) = self.phase(job) {
            self.finish(job, Outcome::Cancelled { phase });
        }
    }

    /// How far a job is. `None`: it has ended.
    #[must_use]
    pub fn phase(&self, job: JobId) -> Option<Phase> {
        let entry = self.jobs.entry(job)?;
        let taken = self.servers.get(entry.link).map_or(0, |server| server.link.connection.out.taken());
        Some(entry.phase(taken))
    }

    /// The connection on which the next packet of a job will come.
    #[must_use]
    pub fn conn_of(&self, job: JobId) -> Option<ConnId> {
        let entry = self.jobs.entry(job).filter(|entry| entry.is_placed())?;
        self.servers.get(entry.link).map(|server| server.link.conn())
    }

    /// Asks how an outstanding job is (GET_STATUS). The answer is an [`Event::Status`].
    ///
    /// # Errors
    /// The job is over or has no handle yet, a limit is reached, or the client is closed.
    pub fn status(&mut self, job: JobId, now: Instant) -> Result<RequestId, Rejected<JobId>> {
        match self.jobs.entry(job) {
            Some(jobs::Entry { stage: Stage::Accepted { handle, .. }, link, .. }) => {
                let (handle, place) = (handle.clone(), *link);
                self.ask(place, Ask::Status(handle), now).map_err(|rejected| Rejected::new(rejected.reason, job))
            }
            _ => Err(Rejected::new(Reason::Unknown("job, or a job that has no handle yet"), job)),
        }
    }

    /// Asks how the job named `handle` is (GET_STATUS), also one submitted elsewhere or in the background.
    ///
    /// # Errors
    /// The server is unknown, a limit is reached, or the client is closed.
    pub fn status_of(&mut self, server: ServerId, handle: Handle, now: Instant) -> Result<RequestId, Rejected<Handle>> {
        match self.place_of(server) {
            Some(place) => self
                .ask(place, Ask::Status(handle.clone()), now)
                .map_err(|rejected| Rejected::new(rejected.reason, handle)),
            None => Err(Rejected::new(Reason::Unknown("job server"), handle)),
        }
    }

    /// Asks how the job with `unique` is (GET_STATUS_UNIQUE). Perl's job server cannot tell.
    ///
    /// # Errors
    /// The unique is no unique, the server is unknown, a limit is reached, or the client is closed.
    pub fn status_unique(
        &mut self,
        server: ServerId,
        unique: Bytes,
        now: Instant,
    ) -> Result<RequestId, Rejected<Bytes>> {
        if let Err(error) = ConfigError::check_name("unique", &unique, crate::job::MAX_UNIQUE) {
            return Err(Rejected::new(error, unique));
        }
        match self.place_of(server) {
            Some(place) => self
                .ask(place, Ask::StatusUnique(unique.clone()), now)
                .map_err(|rejected| Rejected::new(rejected.reason, unique)),
            None => Err(Rejected::new(Reason::Unknown("job server"), unique)),
        }
    }

    /// Sends `payload` to a job server and back (ECHO_REQ). The answer is an [`Event::Echo`].
    ///
    /// # Errors
    /// The payload is over the limit, the server is unknown, a limit is reached, or the client is closed.
    pub fn echo(&mut self, server: ServerId, payload: Bytes, now: Instant) -> Result<RequestId, Rejected<Bytes>> {
        let limit = self.config.limits.max_packet;
        if payload.len() > limit {
            return Err(Rejected::new(ConfigError::TooLong { what: "payload", length: payload.len(), limit }, payload));
        }
        match self.place_of(server) {
            Some(place) => self
                .ask(place, Ask::Echo(payload.clone()), now)
                .map_err(|rejected| Rejected::new(rejected.reason, payload)),
            None => Err(Rejected::new(Reason::Unknown("job server"), payload)),
        }
    }

    /// The job servers as they stand, in the order they were configured.
    #[must_use]
    pub fn servers(&self) -> &[Candidate] {
        &self.candidates
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

    /// Closes at once: each outstanding job ends as [`Outcome::Cancelled`], each connection is closed, then comes
    /// [`Event::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.advance_clock(now);
        if core::mem::replace(&mut self.closed, true) {
            return;
        }
        let outstanding: Vec<_> = self.jobs.iter().map(|(id, _)| id).collect();
        for id in outstanding {
            if let Some(phase) = self.phase(id) {
                self.finish(id, Outcome::Cancelled { phase });
            }
        }
        for place in 0..self.servers.len() {
            self.end_requests(place, &RequestError::Closed);
            let link = &mut self.servers[place].link;
            let conn = link.conn();
            if link.owns(conn) {
                link.rest();
                self.queue.push_back(Output::Disconnect(conn));
            }
        }
        self.paused.clear();
        self.queue.push_back(Output::Event(Event::Closed));
    }

    /// Whether every table is empty, as it must be when nothing is outstanding.
    #[doc(hidden)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.open_requests == 0
            && self.candidates.iter().all(|candidate| candidate.outstanding == 0)
            && self.servers.iter().all(|server| server.asks.is_empty())
    }

    fn advance_clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn room_for(&self, more: usize) -> Result<(), Reason> {
        let limit = self.config.limits.max_jobs;
        match self.jobs.len() + self.open_requests + more {
            _ if self.closed => Err(Reason::Closed),
            wanted if wanted > limit => {
                Err(Reason::Full { what: "the number of outstanding jobs and requests", limit })
            }
            _ => Ok(()),
        }
    }

    fn place_of(&self, server: ServerId) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.server == server)
    }

    fn look_at_links(&mut self) {
        for (candidate, server) in self.candidates.iter_mut().zip(&self.servers) {
            candidate.state = server.link.state(self.now);
        }
    }

    fn transmit_if(&mut self, first: bool, conn: ConnId) {
        if first {
            self.queue.push_back(Output::Transmit(conn));
        }
    }

    fn dial(&mut self, place: Option<usize>) {
        let Some(place) = place else { return };
        if let (Some(server), Some(candidate)) = (self.servers.get_mut(place), self.candidates.get_mut(place))
            && candidate.state == LinkState::Idle
        {
            candidate.state = LinkState::Connecting;
            let conn = server.link.dial(self.now);
            let within = self.config.connecting.connect_timeout;
            self.queue.push_back(Output::Connect { conn, server: server.link.address.clone(), within });
        }
    }

    /// Gives a job to the server at `place`; false when that one is not up.
    fn place(&mut self, id: JobId, place: usize) -> bool {
        let (Some(server), Some(entry)) =
            (self.servers.get_mut(place).filter(|server| server.link.is_up()), self.jobs.entry_mut(id))
        else {
            return false;
        };
        entry.link = place;
        entry.attempts += 1;
        if entry.attempts > 1 {
            self.counters.retried += 1;
        }
        let generated;
        let unique = match &entry.job.unique {
            Unique::Generated => {
                generated = self.random.unique();
                &generated[..]
            }
            _ => unique_of(&entry.job),
        };
        let connection = &mut server.link.connection;
        let first = connection.send(entry.job.packet(), &[&entry.job.function, unique], Some(&entry.job.payload));
        connection.expect(Reply::Created(id), self.now);
        let end = connection.out.end();
        let conn = server.link.conn();
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.outstanding += 1;
        }
        self.jobs.set_stage(id, Stage::Sent { end }, &self.config.deadlines, &self.random);
        self.transmit_if(first, conn);
        true
    }

    /// Gives the parked jobs to the servers that can be had now.
    fn place_parked(&mut self) {
        if !self.jobs.has_parked() {
            return;
        }
        self.look_at_links();
        let parked: Vec<_> = self.jobs.parked().collect();
        for id in parked {
            let Some(entry) = self.jobs.entry(id) else { continue };
            let choice = self.config.balance.choose(&entry.job.function, unique_of(&entry.job), &self.candidates);
            self.dial(choice.dial);
            if let Some(place) = choice.send {
                self.place(id, place);
            }
        }
    }

    fn ask(&mut self, place: usize, ask: Ask, now: Instant) -> Result<RequestId, Rejected<()>> {
        self.advance_clock(now);
        self.room_for(1).map_err(|reason| Rejected::new(reason, ()))?;
        self.requests += 1;
        self.open_requests += 1;
        let request = RequestId(self.requests);
        self.look_at_links();
        if let Some(server) = self.servers.get_mut(place) {
            server.asks.push_back((request, ask));
        }
        self.dial(Some(place));
        self.send_asks(place);
        Ok(request)
    }

    fn send_asks(&mut self, place: usize) {
        let Some(server) = self.servers.get_mut(place).filter(|server| server.link.is_up()) else { return };
        let (conn, connection) = (server.link.conn(), &mut server.link.connection);
        let mut first = false;
        for (request, ask) in server.asks.drain(..) {
            first |= match &ask {
                Ask::Status(handle) => connection.send(PacketType::GET_STATUS, &[handle.as_bytes()], None),
                Ask::StatusUnique(unique) => connection.send(PacketType::GET_STATUS_UNIQUE, &[unique], None),
                Ask::Echo(payload) => connection.send(PacketType::ECHO_REQ, &[], Some(payload)),
            };
            let reply = match ask {
                Ask::Status(_) => Reply::Status(request),
                Ask::StatusUnique(_) => Reply::StatusUnique(request),
                Ask::Echo(_) => Reply::Echo(request),
            };
            connection.expect(reply, self.now);
        }
        self.transmit_if(first, conn);
    }

    fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    /// Ends a job: the one place where `Done` is said.
    fn finish(&mut self, id: JobId, outcome: Outcome) {
        let Some(entry) = self.jobs.remove(id, &self.random) else { return };
        if entry.is_placed() {
            self.leave(entry.link);
        }
        self.counters.ended += 1;
        self.event(Event::Done { job: id, outcome });
    }

    fn leave(&mut self, place: usize) {
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.outstanding = candidate.outstanding.saturating_sub(1);
        }
    }

    fn answer_status(&mut self, request: RequestId, result: Result<Status, RequestError>) {
        self.open_requests -= 1;
        self.event(Event::Status { request, result });
    }

    fn answer_echo(&mut self, request: RequestId, result: Result<Bytes, RequestError>) {
        self.open_requests -= 1;
        self.event(Event::Echo { request, result });
    }

    /// The requests that wait for a connection which is not to be had.
    fn end_requests(&mut self, place: usize, error: &RequestError) {
        let Some(server) = self.servers.get_mut(place) else { return };
        let replies: Vec<_> = server.link.connection.end().collect();
        for (request, ask) in core::mem::take(&mut server.asks) {
            match ask {
                Ask::Echo(_) => self.answer_echo(request, Err(error.clone())),
                Ask::Status(_) | Ask::StatusUnique(_) => self.answer_status(request, Err(error.clone())),
            }
        }
        for reply in replies {
            match reply {
                Reply::Echo(request) => self.answer_echo(request, Err(error.clone())),
                Reply::Status(request) | Reply::StatusUnique(request) => {
                    self.answer_status(request, Err(error.clone()))
                }
                Reply::Created(_) | Reply::Probe | Reply::Option | Reply::Doubt(_) | Reply::Barrier(..) => {}
            }
        }
    }

    /// The connection to a server is gone, or could not be made.
    fn link_lost(&mut self, place: usize, reason: &CloseReason) {
        let Some(server) = self.servers.get_mut(place) else { return };
        let link = &mut server.link;
        let (id, address, taken) = (link.id, link.address.clone(), link.connection.out.taken());
        let retry_at = link.lost(self.now, &self.config.connecting, &mut self.random);
        self.event(Event::Disconnected { server: id, reason: reason.clone(), retry_at });
        let mut lost: Vec<_> =
            self.jobs.iter().filter(|(_, entry)| entry.is_placed() && entry.link == place).map(|(id, _)| id).collect();
        lost.sort_by_key(|&id| self.jobs.entry(id).map(jobs::Entry::sequence));
        for job in lost {
            self.lose(job, taken, &address, reason);
        }
        self.end_requests(place, &RequestError::Lost(reason.clone()));
        self.place_parked();
    }

    /// A job's connection is gone: another attempt, or the end.
    fn lose(&mut self, id: JobId, taken: u64, server: &Address, reason: &CloseReason) {
        let Some(entry) = self.jobs.entry(id) else { return };
        let (phase, place) = (entry.phase(taken), entry.link);
        let stage = match entry.retry(self.config.retry) {
            Retry::Unsent | Retry::Idempotent { .. } if phase <= Phase::Sending => Stage::Parked,
            Retry::Idempotent { attempts } if entry.attempts < attempts => {
                let doubled =
                    self.config.connecting.retry_first.saturating_mul(1 << entry.attempts.saturating_sub(1).min(30));
                Stage::Delayed { until: self.now + self.random.jitter(doubled.min(self.config.connecting.retry_most)) }
            }
            _ => return self.finish(id, Outcome::Lost { phase, server: server.clone(), reason: reason.clone() }),
        };
        self.leave(place);
        self.jobs.set_stage(id, stage, &self.config.deadlines, &self.random);
    }

    fn connected(&mut self, place: usize) {
        let Some(server) = self.servers.get_mut(place) else { return };
        let link = &mut server.link;
        if !link.connected(self.now) {
            return;
        }
        let (id, conn) = (link.id, link.conn());
        let mut first = false;
        if let Some(name) = &self.config.client_id {
            first |= link.connection.send(PacketType::SET_CLIENT_ID, &[name.as_bytes()], None);
        }
        if self.config.exceptions {
            first |= link.connection.send(PacketType::OPTION_REQ, &[b"exceptions"], None);
            link.connection.expect(Reply::Option, self.now);
        }
        self.transmit_if(first, conn);
        self.event(Event::Connected { server: id });
        self.send_asks(place);
        self.place_parked();
    }

    fn break_off(&mut self, place: usize, reason: &CloseReason) {
        if let Some(server) = self.servers.get(place) {
            self.queue.push_back(Output::Disconnect(server.link.conn()));
            self.link_lost(place, reason);
        }
    }

    fn tick(&mut self) {
        while let Some(id) = self.jobs.timed(self.now) {
            self.job_timer(id);
        }
        for place in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(place) else { return };
            match server.link.tick(self.now, &self.config.connecting) {
                Due::Nothing => {}
                Due::ConnectTimeout => self.break_off(place, &CloseReason::ConnectTimeout),
                // rustygeard answers no OPTION_REQ: that is no silence.
                Due::Silent if matches!(server.link.connection.due(), Some((Reply::Option, _))) => {
                    server.link.connection.take_reply(|_| true, |_| false);
                }
                Due::Silent => self.break_off(place, &CloseReason::Silent),
                Due::Probe => {
                    let connection = &mut server.link.connection;
                    let first = connection.send(PacketType::ECHO_REQ, &[], None);
                    connection.expect(Reply::Probe, self.now);
                    let conn = server.link.conn();
                    self.transmit_if(first, conn);
                }
            }
        }
        self.look_at_links();
        for place in 0..self.servers.len() {
            let waits = self.servers.get(place).is_some_and(|server| !server.asks.is_empty());
            self.dial(waits.then_some(place));
        }
        self.place_parked();
    }

    fn job_timer(&mut self, id: JobId) {
        let Some(phase) = self.phase(id) else { return };
        let Some(entry) = self.jobs.entry_mut(id) else { return };
        if entry.deadline(&self.config.deadlines).is_some_and(|deadline| deadline <= self.now) {
            return self.finish(id, Outcome::TimedOut { phase });
        }
        let place = entry.link;
        match &mut entry.stage {
            Stage::Delayed { until } if *until <= self.now => {
                return self.jobs.set_stage(id, Stage::Parked, &self.config.deadlines, &self.random);
            }
            Stage::Accepted { handle, doubt: Some(doubt), .. } if doubt.at <= self.now => {
                doubt.interval = doubt.interval.saturating_mul(2).min(self.config.connecting.retry_most);
                doubt.at = self.now + doubt.interval;
                if let Some(server) = self.servers.get_mut(place) {
                    let connection = &mut server.link.connection;
                    let first = connection.send(PacketType::GET_STATUS, &[handle.as_bytes()], None);
                    connection.expect(Reply::Doubt(id), self.now);
                    let conn = server.link.conn();
                    self.transmit_if(first, conn);
                }
            }
            _ => {}
        }
        self.jobs.set_timer(id, &self.config.deadlines);
    }

    fn receive(&mut self, conn: ConnId, stream: &mut BytesMut) {
        let place = conn.index();
        loop {
            if self.queue.len() >= self.config.limits.max_events {
                if !self.paused.contains(&conn) {
                    self.paused.push(conn);
                }
                return;
            }
            let Some(server) = self.servers.get_mut(place).filter(|server| server.link.owns(conn)) else { return };
            server.link.heard(self.now);
            let step = match server.link.connection.receive(stream, self.config.limits.max_packet) {
                Ok(None) => return,
                Ok(Some(packet)) => self.packet(place, packet),
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                stream.clear();
                return self.break_off(place, &CloseReason::Protocol(error));
            }
        }
    }
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
        self.advance_clock(now);
        let (Input::Connected(conn) | Input::Data(conn, _) | Input::Closed(conn, _)) = &input else {
            return if self.closed { () } else { self.tick() };
        };
        let place = conn.index();
        if !self.servers.get(place).is_some_and(|server| server.link.owns(*conn)) {
            return;
        }
        match input {
            Input::Connected(_) => self.connected(place),
            Input::Data(conn, stream) => self.receive(conn, stream),
            Input::Closed(_, reason) => self.link_lost(place, &reason),
            Input::Tick => {}
        }
    }

    fn poll(&mut self) -> Output<Event> {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        while let Some(conn) = self.paused.pop() {
            if self.servers.get(conn.index()).is_some_and(|server| server.link.owns(conn)) {
                return Output::Resume(conn);
            }
        }
        let parked = self.jobs.has_parked();
        let links = self
            .servers
            .iter()
            .filter_map(|server| server.link.deadline(&self.config.connecting, parked || !server.asks.is_empty()));
        Output::Wait(links.fold(self.jobs.first_timer(), |first, at| earlier(first, Some(at))))
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        let server = self.servers.get_mut(conn.index()).filter(|server| server.link.owns(conn));
        Outgoing::new(server.map(|server| &mut server.link.connection.out))
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        !self.paused.contains(&conn)
    }
}
