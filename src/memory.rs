//! A client, a worker and a job server joined in memory: the same bytes as between processes, no socket, no thread, and time
//! that passes when you say so. Made for unit tests of your own functions.
//!
//! ```
//! use gearwheel::{Job, Outcome, memory::InMemory};
//! use std::time::Duration;
//!
//! let mut gearman = InMemory::new();
//! gearman.function("reverse", |task| {
//!     task.progress(1, 2);
//!     Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>().into())
//! })?;
//! assert_eq!(gearman.run(Job::new("reverse", "abc"))?, Outcome::Complete("cba".into()));
//!
//! // Nobody can run this one; an hour passes at once.
//! let outcome = gearman.run(Job::new("unknown", "").timeout(Duration::from_secs(3600)))?;
//! assert!(matches!(outcome, Outcome::TimedOut { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::address::Address;
use crate::client::{self, Client};
use crate::error::{ConfigError, Rejected};
use crate::excerpt::debug;
use crate::job::{Job, JobId, Outcome};
use crate::machine::{CloseReason, ConnId, Input, Machine, Output, Peer};
use crate::server::{self, Server};
use crate::time::Instant;
use crate::worker::{self, Assignment, TaskId, Worker};

/// How long [`InMemory::next`] waits at most.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How a handler ends a job that it does not complete.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these two")]
pub enum Failure {
    /// WORK_FAIL.
    Fail,
    /// WORK_EXCEPTION with this payload.
    Throw(Bytes),
}

debug!(
    enum Failure {
        Fail,
        Throw(thrown),
    }
);

/// Any other error is thrown with its text, as by the handlers of the runtimes: `?` will do.
impl<E: core::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Throw(error.to_string().into())
    }
}

type Handler = Box<dyn FnMut(&mut Task<'_>) -> Result<Bytes, Failure> + Send>;

/// A job in the hand of a handler. What it says reaches the client in order.
#[derive(Debug)]
pub struct Task<'a> {
    assignment: &'a Assignment,
    worker: &'a mut Side<Worker>,
    now: Instant,
}

impl Task<'_> {
    /// The job: function, unique, handle and payload.
    #[must_use]
    pub const fn assignment(&self) -> &Assignment {
        self.assignment
    }

    /// Its payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.assignment.payload
    }

    /// Sends a part of the result (WORK_DATA). One that is over the limit of a packet is dropped.
    pub fn data(&mut self, part: impl Into<Bytes>) {
        self.say(|worker, task, now| worker.data(task, part.into(), now));
    }

    /// Sends a warning (WORK_WARNING). One that is over the limit of a packet is dropped.
    pub fn warning(&mut self, warning: impl Into<Bytes>) {
        self.say(|worker, task, now| worker.warning(task, warning.into(), now));
    }

    /// Tells how far the job is (WORK_STATUS).
    pub fn progress(&mut self, numerator: u64, denominator: u64) {
        self.say(|worker, task, now| worker.progress(task, numerator, denominator, now));
    }

    fn say<T>(&mut self, say: impl FnOnce(&mut Worker, TaskId, Instant) -> Result<(), Rejected<T>>) {
        let task = self.assignment.task;
        // All that was said before is taken first: nothing is refused for want of room.
        if let Some(conn) = self.worker.machine.conn_of(task) {
            self.worker.write(conn);
        }
        let _ = say(&mut self.worker.machine, task, self.now);
    }
}

/// One connection between a machine and the server, and the bytes under way.
#[derive(Debug)]
struct Wire {
    ours: ConnId,
    servers: ConnId,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// A machine at its end of the wires.
#[derive(Debug)]
struct Side<M: Machine> {
    machine: M,
    wires: Vec<Wire>,
    events: VecDeque<M::Event>,
    wait: Option<Instant>,
}

impl<M: Machine> Side<M> {
    const fn new(machine: M) -> Self {
        Self { machine, wires: Vec::new(), events: VecDeque::new(), wait: None }
    }

    fn wire(&mut self, conn: ConnId) -> Option<&mut Wire> {
        self.wires.iter_mut().find(|wire| wire.ours == conn)
    }

    /// Does what the machine wants done, and hands the server its bytes. Says whether anything moved.
    fn turn(&mut self, server: &mut Server, now: Instant) -> bool {
        let mut moved = false;
        loop {
            match self.machine.poll() {
                Output::Wait(at) => {
                    self.wait = at;
                    break;
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Connect { conn, .. } => match server.accept(Peer::new("memory", true), now) {
                    Some(servers) => {
                        let (incoming, outgoing) = Default::default();
                        self.wires.push(Wire { ours: conn, servers, incoming, outgoing });
                        self.machine.handle(Input::Connected(conn), now);
                    }
                    None => self.machine.handle(Input::Closed(conn, CloseReason::Refused), now),
                },
                Output::Transmit(conn) => self.write(conn),
                Output::Resume(conn) => {
                    let mut incoming =
                        self.wire(conn).map(|wire| core::mem::take(&mut wire.incoming)).unwrap_or_default();
                    self.machine.handle(Input::Data(conn, &mut incoming), now);
                    self.wire(conn).into_iter().for_each(|wire| wire.incoming = core::mem::take(&mut incoming));
                }
                Output::Disconnect(conn) => {
                    if let Some(at) = self.wires.iter().position(|wire| wire.ours == conn) {
                        let wire = self.wires.swap_remove(at);
                        server.handle(Input::Closed(wire.servers, CloseReason::Ended), now);
                    }
                }
            }
            moved = true;
        }
        for wire in &mut self.wires {
            if !wire.outgoing.is_empty() && server.wants_read(wire.servers) {
                let before = wire.outgoing.len();
                server.handle(Input::Data(wire.servers, &mut wire.outgoing), now);
                moved |= wire.outgoing.len() < before;
            }
        }
        moved
    }

    /// Takes what the machine has to write.
    fn write(&mut self, conn: ConnId) {
        let mut waiting = self.machine.outgoing(conn);
        if let Some(wire) = self.wires.iter_mut().find(|wire| wire.ours == conn) {
            waiting.chunks().for_each(|chunk| wire.outgoing.extend_from_slice(chunk));
        }
        waiting.advance(waiting.len());
    }

    /// Takes what the server has for its connection `conn`, if that is one of these.
    fn take(&mut self, server: &mut Server, conn: ConnId, now: Instant) {
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.servers == conn) else { return };
        let mut waiting = server.outgoing(conn);
        waiting.chunks().for_each(|chunk| wire.incoming.extend_from_slice(chunk));
        waiting.advance(waiting.len());
        self.machine.handle(Input::Data(wire.ours, &mut wire.incoming), now);
    }

    fn cut(&mut self, conn: ConnId, now: Instant) {
        if let Some(at) = self.wires.iter().position(|wire| wire.servers == conn) {
            let wire = self.wires.swap_remove(at);
            self.machine.handle(Input::Closed(wire.ours, CloseReason::Ended), now);
        }
    }
}

/// A client, a worker and a job server joined in memory. See the [module](self).
pub struct InMemory {
    client: Side<Client>,
    worker: Side<Worker>,
    server: Server,
    handlers: BTreeMap<Bytes, Handler>,
    now: Instant,
    server_wait: Option<Instant>,
}

impl InMemory {
    /// With default settings and fixed seeds: every run is the same.
    ///
    /// # Panics
    /// Never: the defaults are good.
    #[must_use]
    pub fn new() -> Self {
        let seed = [0; 32];
        let configs = (client::Config::new(seed), worker::Config::new(seed), server::Config::new(seed));
        Self::with(configs.0, configs.1, configs.2).expect("the defaults are good")
    }

    /// With settings of your own. The job servers that they name are replaced by the one in memory.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn with(
        mut client: client::Config,
        mut worker: worker::Config,
        server: server::Config,
    ) -> Result<Self, ConfigError> {
        let address = Address::new("memory", 0)?;
        client.servers = alloc::vec![address.clone()];
        worker.servers = alloc::vec![address];
        let now = Instant::EPOCH;
        Ok(Self {
            client: Side::new(Client::new(client)?),
            worker: Side::new(Worker::new(worker)?),
            server: Server::new(server, now, Duration::ZERO)?,
            handlers: BTreeMap::new(),
            now,
            server_wait: None,
        })
    }

    /// Lets the worker run `function` by `handler`.
    ///
    /// # Errors
    /// The name is none, or is registered already.
    pub fn function(
        &mut self,
        function: impl Into<Bytes>,
        handler: impl FnMut(&mut Task<'_>) -> Result<Bytes, Failure> + Send + 'static,
    ) -> Result<(), ConfigError> {
        let function = function.into();
        self.worker.machine.register(function.clone(), None, self.now)?;
        self.handlers.insert(function, Box::new(handler));
        self.settle();
        Ok(())
    }

    /// Submits a job. Its events come from [`next`](Self::next).
    ///
    /// # Errors
    /// The job comes back: it is none, or a limit is reached.
    pub fn submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        self.client.machine.submit(job, self.now)
    }

    /// Submits a job and returns how it ended. Events before that are dropped. A job that has not ended within a day is
    /// abandoned.
    ///
    /// # Errors
    /// The job comes back: it is none, or a limit is reached.
    pub fn run(&mut self, job: Job) -> Result<Outcome, Rejected<Job>> {
        let id = self.submit(job)?;
        loop {
            match self.next() {
                Some(client::Event::Done { job, outcome }) if job == id => return Ok(outcome),
                Some(_) => {}
                None => self.client.machine.abandon(id, self.now),
            }
        }
    }

    /// The next event of the client. Time passes as far as it must, but by no more than a day. `None`: nothing is
    /// outstanding, or nothing came in that day.
    #[expect(clippy::should_implement_trait, reason = "it may go on after None")]
    pub fn next(&mut self) -> Option<client::Event> {
        let end = self.now + DAY;
        loop {
            self.settle();
            if let Some(event) = self.client.events.pop_front() {
                return Some(event);
            }
            if self.client.machine.outstanding() == 0 {
                return None;
            }
            self.pass_to(self.next_wait().filter(|next| *next < end)?);
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(next) = self.next_wait().filter(|next| *next < end) {
            self.pass_to(next);
            self.settle();
        }
        self.pass_to(end);
        self.settle();
    }

    /// The client machine, to be asked and told anything.
    pub const fn client(&mut self) -> &mut Client {
        &mut self.client.machine
    }

    /// The worker machine.
    pub const fn worker(&mut self) -> &mut Worker {
        &mut self.worker.machine
    }

    /// The server machine.
    pub const fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The time, counted from the making.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    fn next_wait(&self) -> Option<Instant> {
        [self.client.wait, self.worker.wait, self.server_wait].into_iter().flatten().min()
    }

    fn pass_to(&mut self, time: Instant) {
        self.now = self.now.max(time);
        self.client.machine.handle(Input::Tick, self.now);
        self.worker.machine.handle(Input::Tick, self.now);
        self.server.handle(Input::Tick, self.now);
    }

    /// Moves bytes and runs handlers until nothing moves any more.
    fn settle(&mut self) {
        loop {
            let mut moved = self.client.turn(&mut self.server, self.now);
            moved |= self.worker.turn(&mut self.server, self.now);
            moved |= self.serve();
            while let Some(event) = self.worker.events.pop_front() {
                if let worker::Event::Assigned(assignment) = event {
                    self.handle(&assignment);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn serve(&mut self) -> bool {
        let mut moved = false;
        loop {
            match self.server.poll() {
                Output::Wait(at) => {
                    self.server_wait = at;
                    return moved;
                }
                Output::Transmit(conn) => {
                    self.client.take(&mut self.server, conn, self.now);
                    self.worker.take(&mut self.server, conn, self.now);
                }
                Output::Disconnect(conn) => {
                    self.client.cut(conn, self.now);
                    self.worker.cut(conn, self.now);
                }
                // What waits for it lies at the other end of its wire, and is offered again at each turn.
                Output::Resume(_) | Output::Connect { .. } | Output::Event(_) => {}
            }
            moved = true;
        }
    }

    fn handle(&mut self, assignment: &Assignment) {
        let (now, id) = (self.now, assignment.task);
        let result = match self.handlers.get_mut(&assignment.function) {
            Some(handler) => handler(&mut Task { assignment, worker: &mut self.worker, now }),
            None => Err(Failure::Fail),
        };
        let worker = &mut self.worker.machine;
        let ended = match result {
            Ok(payload) => worker.complete(id, payload, now).map_err(drop),
            Err(Failure::Fail) => worker.fail(id, now).map_err(drop),
            Err(Failure::Throw(payload)) => worker.exception(id, payload, now).map_err(drop),
        };
        // It cannot be gone, as handlers take no time here; but what is over the limit of a packet leaves it in hand.
        if ended.is_err() {
            let _ = worker.fail(id, now);
        }
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory")
            .field("now", &self.now)
            .field("server", &self.server.counters())
            .finish_non_exhaustive()
    }
}
