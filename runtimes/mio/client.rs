//! The client's handles: those of the futures, for callers who wait on threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::pin;
use core::task::Context;
use core::time::Duration;

use bytes::Bytes;

use super::Stream;
use super::driver::Connector;
use super::turnkey::Seat;
use crate::client::{Counters, Latencies, Status};
use crate::runtimes::handles::{
    ClientBuilder, ClientMachine as Machine, Dials, JobError, JobEvent, Post, Sealed, ToAddress, may_wait,
};
use crate::runtimes::parked::is_called;
use crate::runtimes::std::{io, thread};
use crate::runtimes::{Clock, Error, future};
use crate::{Address, Candidate, Handle, Instant, Job, JobId, Outcome, Phase, Rejected, ServerId};

/// A client with a loop of its own. Cheap to clone, and to be used from any number of threads at once.
///
/// Its sockets are moved by [`run`](Self::run) or [`spawn`](Self::spawn); until then, jobs wait. Once it runs, a caller who
/// waits alone is lent the loop and moves them himself, so that no thread has to wake another; where several wait, or none
/// does, the loop's own thread has it. It sees within some 20 ms that a caller has gone: what comes meanwhile, and what is
/// asked for without a wait and without being a job, is seen to then. What was given to `connect_with` and `on_event` is
/// called by that thread alone. When the last clone and the last job are dropped, it closes: what is to be written is
/// written for at most a second, and the loop ends.
#[derive(Clone)]
pub struct Client {
    client: future::Client<()>,
    seat: Arc<Own>,
}

type Own = Seat<Machine, Post>;

impl Sealed for Client {}

impl Dials for Client {
    type Connector = Connector;
}

impl ClientBuilder<Client> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the addresses of the job servers: with
    /// socket options of yours, or as objects of any kind that a poll can watch.
    ///
    /// It is called by the loop, with nothing locked, and must not block: a `mio::net::TcpStream` may be connecting still,
    /// until the [connect timeout](Self::connect_timeout) has passed. An error ends the attempt with its text; a panic
    /// likewise.
    pub fn connect_with<S: Into<Stream>>(
        mut self,
        mut connect: impl FnMut(Address) -> io::Result<S> + Send + 'static,
    ) -> Self {
        self.connector = Some(Box::new(move |server| connect(server).map(Into::into)));
        self
    }

    /// Makes the client. It does not connect yet, and does nothing until it [runs](Client::run).
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be. [`Error::Io`]: there
    /// is no descriptor to be had.
    pub fn build(self) -> Result<Client, Error> {
        let (machine, listener, connector) = self.machine()?;
        let seat = Seat::new(machine, Post::default(), Clock::start(), listener, connector)?;
        Ok(Client { client: future::Client::new(Arc::clone(&seat), None), seat: Arc::new(seat) })
    }

    /// Makes the client and runs it on a thread of its own.
    ///
    /// # Errors
    /// As [`build`](Self::build); or there is no thread to be had.
    pub fn spawn(self) -> Result<Client, Error> {
        let client = self.build()?;
        client.spawn()?;
        Ok(client)
    }
}

impl Client {
    /// Describes a client.
    pub fn builder() -> ClientBuilder<Self> {
        ClientBuilder::new()
    }

    /// Moves the client's bytes on this thread until it has closed; where it runs already, waits for that.
    ///
    /// # Errors
    /// [`Error::Io`]: the operating system no longer tells what is ready.
    pub fn run(&self) -> Result<(), Error> {
        self.seat.run(|| false)
    }

    /// Runs it on a thread of its own, which ends with the client.
    ///
    /// # Errors
    /// [`Error::Io`]: there is no thread to be had.
    pub fn spawn(&self) -> Result<thread::JoinHandle<Result<(), Error>>, Error> {
        // The thread holds no handle: it ends when the last of them is dropped.
        let seat = self.seat.clone();
        let thread = thread::Builder::new().name("gearwheel-client".into());
        thread.spawn(move || seat.run(|| false)).map_err(Error::io("start a thread"))
    }

    /// Submits a job. Waits while a limit is reached ([`Limits::max_outgoing`](crate::Limits::max_outgoing),
    /// [`max_jobs`](crate::Limits::max_jobs)), but never for a job server. In what was given to
    /// [`on_event`](ClientBuilder::on_event) or [`connect_with`](ClientBuilder::connect_with), of any client, worker or
    /// server, it is as [`try_submit`](Self::try_submit).
    ///
    /// # Errors
    /// The job comes back: it is none, or the client is closed; or there is no room, in such a function.
    pub fn submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        match self.try_submit(job) {
            Err(full) if may_wait(&full.reason) && !is_called() => {
                let pending = wait_for_room(&self.seat, self.client.submit(full.value))?;
                Ok(Pending { pending, seat: self.seat.clone() })
            }
            result => result,
        }
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached ([`Reason::Full`](crate::Reason::Full)), or the client is closed.
    pub fn try_submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        let pending = self.client.try_submit(job)?;
        self.seat.send();
        Ok(Pending { pending, seat: self.seat.clone() })
    }

    /// An empty set of jobs: for many at once, whose outcomes are taken as they come.
    pub fn set(&self) -> JobSet {
        JobSet { set: self.client.set(), seat: self.seat.clone() }
    }

    /// Like [`set`](Self::set), for all events of the jobs: [`JobSet::next_event`].
    pub fn set_with_events(&self) -> JobSet {
        JobSet { set: self.client.set_with_events(), seat: self.seat.clone() }
    }

    /// Asks how an outstanding job is (GET_STATUS), and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`]: the job is over or has no handle yet, or the client is closed. [`Error::Request`]: no answer came.
    pub fn status(&self, job: JobId) -> Result<Status, Error> {
        self.wait(self.client.status(job))
    }

    /// Asks how the job named `handle` is (GET_STATUS), also one submitted elsewhere or in the background.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_of(&self, server: ServerId, handle: Handle) -> Result<Status, Error> {
        self.wait(self.client.status_of(server, handle))
    }

    /// Asks how the job with `unique` is (GET_STATUS_UNIQUE). Perl's job server cannot tell.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_unique(&self, server: ServerId, unique: impl Into<Bytes>) -> Result<Status, Error> {
        self.wait(self.client.status_unique(server, unique))
    }

    /// Sends `payload` to a job server and waits until it is back (ECHO_REQ).
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn echo(&self, server: ServerId, payload: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.wait(self.client.echo(server, payload))
    }

    /// How far an outstanding job has come; `None` when it has ended.
    #[must_use]
    pub fn phase(&self, job: JobId) -> Option<Phase> {
        self.client.phase(job)
    }

    /// The job servers as they stand, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<Candidate> {
        self.client.servers()
    }

    /// The time by the client's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.client.now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        self.client.add_server(server)
    }

    /// Removes a job server. It gets no more jobs; with `drain` those that it has are finished first, else they are lost
    /// and go by their [`Retry`](crate::Retry).
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.client.remove_server(server, drain)
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        self.client.set_tls(tls);
    }

    /// Plain counts since the client was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.client.counters()
    }

    /// How long its jobs took since the client was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.client.latencies()
    }

    /// Closes it at once, for all clones: outstanding jobs end as [`Outcome::Cancelled`], and nothing is taken any more.
    pub fn close(&self) {
        self.client.close();
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        wait_out(&self.seat, future)
    }
}

/// Waits for a future on this thread. `None`: the deadline has passed.
fn wait_for<T>(deadline: Option<Instant>, seat: &Own, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    seat.wait(deadline, |waker| future.as_mut().poll(&mut Context::from_waker(waker)))
}

/// Waits for a future on this thread, however long that takes.
fn wait_out<T>(seat: &Own, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        // It has no deadline that could pass.
        if let Some(found) = wait_for(None, seat, future.as_mut()) {
            return found;
        }
    }
}

/// Waits for a submission on this thread.
fn wait_for_room<T>(
    seat: &Own,
    submission: impl Future<Output = Result<T, Rejected<Job>>>,
) -> Result<T, Rejected<Job>> {
    let result = wait_out(seat, submission);
    seat.send();
    result
}

/// A job that was submitted. Dropping it abandons the job: the job server is not told, as the protocol has no word for it,
/// but what still comes of it is dropped. A background job is sent and runs all the same, as long as its client is not
/// dropped or closed before it can be sent: wait for it to know that it is queued.
#[must_use = "dropping it abandons the job"]
pub struct Pending {
    pending: future::Pending,
    seat: Arc<Own>,
}

impl Pending {
    /// The job's name in its client.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.pending.id()
    }

    /// Waits for the result. A background job has none: it ends, with no bytes, when a job server has queued it.
    ///
    /// # Errors
    /// How else the job ended.
    pub fn wait(self) -> Result<Bytes, JobError> {
        JobError::check(self.outcome())
    }

    /// Like [`wait`](Self::wait), for `timeout` at most: then the job, which goes on, comes back. But of its events only the
    /// end is kept from now on: see [`next_event_timeout`](Self::next_event_timeout) for the others.
    ///
    /// # Errors
    /// Time is up; else as [`wait`](Self::wait).
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Bytes, JobError>, Self> {
        let deadline = self.seat.clock().now() + timeout;
        match wait_for(Some(deadline), &self.seat, self.pending.outcome()) {
            Some(outcome) => Ok(JobError::check(outcome)),
            None => Err(self),
        }
    }

    /// Waits until the job has ended.
    #[must_use]
    pub fn outcome(mut self) -> Outcome {
        // Without a deadline there always is one.
        wait_out(&self.seat, self.pending.outcome())
    }

    /// Waits until a job server has taken the job, and returns the handle. Works for foreground and background jobs; use
    /// it before the first [`next_event`](Self::next_event). After it, a background job has ended.
    ///
    /// # Errors
    /// How the job ended instead.
    pub fn accepted(&mut self) -> Result<Handle, JobError> {
        wait_out(&self.seat, self.pending.accepted())
    }

    /// Waits for the next event. `None` after [`JobEvent::Done`], which is the last.
    pub fn next_event(&mut self) -> Option<JobEvent> {
        wait_for(None, &self.seat, self.pending.next_event())?
    }

    /// Like [`next_event`](Self::next_event), for `timeout` at most. `None`: it has ended, or time is up.
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Option<JobEvent> {
        let deadline = self.seat.clock().now() + timeout;
        wait_for(Some(deadline), &self.seat, self.pending.next_event())?
    }

    /// Gives the job up, as dropping does, and a background job, too, where no job server has got it yet.
    pub fn abandon(self) {
        self.pending.abandon();
    }
}

/// Many jobs at once, whose outcomes are taken as they come. Dropping it abandons its jobs, but for background jobs.
#[must_use = "dropping it abandons its jobs"]
pub struct JobSet {
    set: future::JobSet,
    seat: Arc<Own>,
}

impl JobSet {
    /// Gives all jobs that are submitted from now on one deadline, `within` from now: what has not ended by then ends as
    /// [`Outcome::TimedOut`]. A job's own deadlines hold, too.
    pub fn within(self, within: Duration) -> Self {
        Self { set: self.set.within(within), seat: self.seat }
    }

    /// Submits a job. Waits while a limit of the client is reached, as [`Client::submit`] does. Outcomes that come meanwhile
    /// wait to be taken; to take them instead see [`try_submit`](Self::try_submit).
    ///
    /// The deadline of [`within`](Self::within) does not end this wait. A set with events must not wait here where what it has
    /// not read pauses its connection ([`Unread::Pause`](crate::client::Unread::Pause)): it would wait for itself.
    ///
    /// # Errors
    /// The job comes back: it is none, 1,000,000 outcomes have not been taken ([`Reason::Full`](crate::Reason::Full)), or the
    /// client is closed.
    pub fn submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        match self.try_submit(job) {
            Err(full) if may_wait(&full.reason) && !is_called() => {
                Ok(wait_for_room(&self.seat, self.set.put_where_room(full.value))?.0)
            }
            result => result,
        }
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait. So outcomes can be taken until there is room,
    /// and large results do not pile up.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached or 1,000,000 outcomes have not been taken
    /// ([`Reason::Full`](crate::Reason::Full)), or the client is closed.
    pub fn try_submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        let (job, more) = self.set.put(job)?;
        if !more {
            self.seat.send();
        }
        Ok(job)
    }

    /// Waits for the next job that ends. `None`: all have.
    #[expect(clippy::should_implement_trait, reason = "it is the same as that of its iterator")]
    pub fn next(&mut self) -> Option<(JobId, Outcome)> {
        match self.set.next_taken() {
            None => wait_for(None, &self.seat, self.set.next())?,
            end => end,
        }
    }

    /// Like [`next`](Self::next), for `timeout` at most. `None`: all have ended, or time is up.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(JobId, Outcome)> {
        let deadline = self.seat.clock().now() + timeout;
        wait_for(Some(deadline), &self.seat, self.set.next())?
    }

    /// Waits for the next event of any job, [`JobEvent::Done`] included; others come only to a set with events
    /// ([`Client::set_with_events`]). `None`: all jobs have ended.
    pub fn next_event(&mut self) -> Option<(JobId, JobEvent)> {
        wait_for(None, &self.seat, self.set.next_event())?
    }

    /// Like [`next_event`](Self::next_event), for `timeout` at most. `None`: all jobs have ended, or time is up.
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Option<(JobId, JobEvent)> {
        let deadline = self.seat.clock().now() + timeout;
        wait_for(Some(deadline), &self.seat, self.set.next_event())?
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.set.outstanding()
    }

    /// Gives a job up: it ends as [`Outcome::Cancelled`].
    pub fn abandon(&mut self, job: JobId) {
        self.set.abandon(job);
    }
}

impl Iterator for &mut JobSet {
    type Item = (JobId, Outcome);

    fn next(&mut self) -> Option<Self::Item> {
        JobSet::next(self)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pending.fmt(f)
    }
}

impl fmt::Debug for JobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set.fmt(f)
    }
}
