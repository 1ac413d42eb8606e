//! The client's handles.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;

use bytes::Bytes;

use super::Stream;
use super::driver::{Connector, Driver, Held, Look, Source};
use crate::client::{self, Counters, Latencies, RequestId, Status};
use crate::runtimes::handles::{
    Answer, ClientBuilder, ClientMachine as Machine, Dials, JobError, JobEvent, MAX_OUTCOMES, Mailbox, Post, Sealed,
    ToAddress, UNTAKEN, may_wait, submit_in_time,
};
use crate::runtimes::std::io;
use crate::runtimes::{Clock, Error, Moment};
use crate::{Address, Candidate, Handle, Instant, Job, JobId, Outcome, Phase, Reason, Rejected, ServerId};

type Shared = Arc<Driver<Machine, Post>>;

/// A client of one or more job servers. Cheap to clone, and to be used from any number of threads at once.
///
/// It connects when the first job is submitted. When the last clone and the last job are dropped, it closes: what is to be
/// written is written for at most a second, and its threads end.
#[derive(Clone)]
pub struct Client(Shared);

impl Sealed for Client {}

impl Dials for Client {
    type Connector = Connector;
}

impl ClientBuilder<Client> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the addresses of the job servers: by way
    /// of a proxy, with socket options of yours, or as objects of a kind of yours.
    ///
    /// It is called on the connection's thread, with nothing locked, and may block, best for no longer than the
    /// [connect timeout](Self::connect_timeout): then the attempt counts as failed, and what it returns later is dropped.
    /// When eight attempts at one job server hang, further ones fail. An error ends the attempt with its text; a panic
    /// likewise.
    pub fn connect_with<T: Into<Stream>>(
        mut self,
        connect: impl Fn(Address) -> io::Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.connector = Some(Arc::new(move |server| connect(server).map(Into::into)));
        self
    }

    /// Makes the client. It does not connect yet.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be. [`Error::Io`]: there
    /// is no thread to be had.
    pub fn build(self) -> Result<Client, Error> {
        let (machine, listener, connector) = self.machine()?;
        let driver = Driver::start(machine, Post::default(), Clock::start(), listener, connector);
        Ok(Client(Arc::new(driver.map_err(Error::io("start a thread"))?)))
    }
}

impl Client {
    /// Describes a client.
    pub fn builder() -> ClientBuilder<Self> {
        ClientBuilder::new()
    }

    /// Submits a job. Waits while a limit is reached ([`Limits::max_outgoing`](crate::Limits::max_outgoing),
    /// [`max_jobs`](crate::Limits::max_jobs)), but never for a job server: it returns when the job is on its way, or will be
    /// once one can be had. In what was given to [`on_event`](ClientBuilder::on_event) or
    /// [`connect_with`](ClientBuilder::connect_with), of any client, worker or server, it is as
    /// [`try_submit`](Self::try_submit).
    ///
    /// # Errors
    /// The job comes back: it is none, or the client is closed; or there is no room, in such a function.
    pub fn submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        wait_for_room(&self.0, self.put(job), |job| self.try_submit(job))
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached ([`Reason::Full`]), or the client is closed.
    pub fn try_submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        self.put(job)
    }

    #[inline(always)]
    fn put(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        let mut held = self.0.hold();
        let (client, post, time) = held.parts();
        let job = match submit_in_time(client, job, time.now()) {
            Ok(job) => job,
            Err(rejected) => return Err(not_taken(held, rejected)),
        };
        let mailbox = post.open(false);
        post.expect(job, mailbox, client, time.now());
        held.settle(|_| false);
        Ok(Pending { shared: self.0.clone(), job, mailbox, ended: false, told: None })
    }

    /// An empty set of jobs: for many at once, whose outcomes are taken as they come.
    pub fn set(&self) -> JobSet {
        self.open_set(true)
    }

    /// Like [`set`](Self::set), for all events of the jobs: [`JobSet::next_event`].
    pub fn set_with_events(&self) -> JobSet {
        self.open_set(false)
    }

    fn open_set(&self, ends_only: bool) -> JobSet {
        let mailbox = self.0.call(|_, post, _| post.open(ends_only));
        JobSet { shared: self.0.clone(), mailbox, taken: VecDeque::new(), deadline: None }
    }

    /// Asks how an outstanding job is (GET_STATUS), and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`]: the job is over or has no handle yet, or the client is closed. [`Error::Request`]: no answer came.
    pub fn status(&self, job: JobId) -> Result<Status, Error> {
        self.ask_status(|client, now| client.status(job, now).map_err(|refused| refused.reason))
    }

    /// Asks how the job named `handle` is (GET_STATUS), also one submitted elsewhere or in the background.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_of(&self, server: ServerId, handle: Handle) -> Result<Status, Error> {
        self.ask_status(|client, now| client.status_of(server, handle, now).map_err(|refused| refused.reason))
    }

    /// Asks how the job with `unique` is (GET_STATUS_UNIQUE). Perl's job server cannot tell.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_unique(&self, server: ServerId, unique: impl Into<Bytes>) -> Result<Status, Error> {
        let unique = unique.into();
        self.ask_status(|client, now| client.status_unique(server, unique, now).map_err(|refused| refused.reason))
    }

    /// Sends `payload` to a job server and waits until it is back (ECHO_REQ).
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn echo(&self, server: ServerId, payload: impl Into<Bytes>) -> Result<Bytes, Error> {
        let payload = payload.into();
        match self.ask(|client, now| client.echo(server, payload, now).map_err(|refused| refused.reason))? {
            Answer::Echo(result) => Ok(result?),
            Answer::Status(_) => Err(Error::Refused(Reason::Unknown("request"))),
        }
    }

    /// How far an outstanding job has come; `None` when it has ended.
    #[must_use]
    pub fn phase(&self, job: JobId) -> Option<Phase> {
        self.0.look(|client, _| client.phase(job))
    }

    /// The job servers as they stand, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<Candidate> {
        self.0.call(|client, _, _| client.servers().cloned().collect())
    }

    /// The time by the client's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        let address = server.to_address()?;
        let added = self.0.call(|client, _, now| client.add_server(address, now))?;
        self.0.make_room();
        Ok(added)
    }

    /// Removes a job server. It gets no more jobs; with `drain` those that it has are finished first, else they are lost
    /// and go by their [`Retry`](crate::Retry). [`Removed`](crate::client::Event::Removed) says when it is gone.
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.0.call(|client, _, now| client.remove_server(server, drain, now))?;
        self.0.make_room();
        Ok(())
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        let tls = tls.into();
        self.0.call(|client, _, _| client.set_client_tls(tls));
    }

    /// Plain counts since the client was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.call(|client, _, _| client.counters())
    }

    /// How long its jobs took since the client was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.0.call(|client, _, _| client.latencies().clone())
    }

    /// Closes it at once, for all clones: outstanding jobs end as [`Outcome::Cancelled`], and nothing is taken any more.
    /// To close in order, wait for the jobs first.
    pub fn close(&self) {
        self.0.call(|client, _, now| client.close(now));
    }

    fn ask_status(
        &self,
        ask: impl FnOnce(&mut Machine, Instant) -> Result<RequestId, Reason>,
    ) -> Result<Status, Error> {
        match self.ask(ask)? {
            Answer::Status(result) => Ok(result?),
            Answer::Echo(_) => Err(Error::Refused(Reason::Unknown("request"))),
        }
    }

    fn ask(&self, ask: impl FnOnce(&mut Machine, Instant) -> Result<RequestId, Reason>) -> Result<Answer, Error> {
        let request = self.0.call(|client, post, now| {
            let request = ask(client, now)?;
            post.ask(request);
            Ok::<_, Reason>(request)
        })?;
        let answer = self.0.wait(None, |client, post, waker, _| {
            if let Some(answer) = post.answer(request) {
                return Look::Found(answer);
            }
            waker.into_iter().for_each(|waker| drop(post.register_request(request, waker)));
            Look::Missing(any_of(client))
        });
        answer.ok_or(Error::Closed)
    }
}

#[cold]
fn not_taken(held: Held<'_, Machine, Post>, rejected: Rejected<Job>) -> Rejected<Job> {
    // Another server may be dialled for it.
    held.settle(|_| false);
    rejected
}

/// What came of submitting a job; where there was no room, what comes of it as soon as there is some.
#[inline(always)]
fn wait_for_room<T>(
    shared: &Shared,
    first: Result<T, Rejected<Job>>,
    submit: impl FnMut(Job) -> Result<T, Rejected<Job>>,
) -> Result<T, Rejected<Job>> {
    match first {
        Err(full) if may_wait(&full.reason) => submit_late(shared, full, submit),
        result => result,
    }
}

#[cold]
fn submit_late<T>(
    shared: &Shared,
    full: Rejected<Job>,
    mut submit: impl FnMut(Job) -> Result<T, Rejected<Job>>,
) -> Result<T, Rejected<Job>> {
    let attempt = |full: Rejected<Job>| match submit(full.value) {
        Err(full) if may_wait(&full.reason) => Err(full),
        result => Ok(result),
    };
    // Where the client has had its fill, there is none for any of them.
    let others_may =
        |client: &Machine, full: &Rejected<Job>| full.reason.is_full_connection() && client.servers().nth(1).is_some();
    shared.wait_for_room(full, attempt, others_may).unwrap_or_else(Err)
}

/// Where something comes from that may come from any server of a client.
fn any_of(client: &Machine) -> Source {
    if client.servers().nth(1).is_none() { Source::Sole } else { Source::Any }
}

/// A job that was submitted. Dropping it abandons the job: the job server is not told, as the protocol has no word for it,
/// but what still comes of it is dropped. A background job is sent and runs all the same, as long as its client is not
/// dropped or closed before it can be sent: wait for it to know that it is queued.
#[must_use = "dropping it abandons the job"]
pub struct Pending {
    shared: Shared,
    job: JobId,
    mailbox: Mailbox,
    /// The mailbox is closed.
    ended: bool,
    /// How it ended, where that was told as an event. Boxed, as it is rare and large.
    told: Option<Box<Outcome>>,
}

impl Pending {
    /// The job's name in its client.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.job
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
        let deadline = self.shared.now() + timeout;
        self.outcome_until(Some(deadline)).map(JobError::check).ok_or(self)
    }

    /// Waits until the job has ended.
    #[must_use]
    pub fn outcome(mut self) -> Outcome {
        match self.outcome_until(None) {
            Some(outcome) => outcome,
            // Unreachable: a job without a deadline here ends once.
            None => Outcome::Failed,
        }
    }

    /// Waits until a job server has taken the job, and returns the handle. Works for foreground and background jobs; use
    /// it before the first [`next_event`](Self::next_event). After it, a background job has ended.
    ///
    /// # Errors
    /// How the job ended instead.
    pub fn accepted(&mut self) -> Result<Handle, JobError> {
        loop {
            match self.next_event() {
                Some(JobEvent::Created { handle, .. } | JobEvent::Done(Outcome::Queued { handle, .. })) => {
                    return Ok(handle);
                }
                Some(JobEvent::Done(outcome)) => {
                    return Err(JobError::check(outcome).err().unwrap_or(JobError::Failed));
                }
                Some(_) => {}
                None => return Err(JobError::Failed),
            }
        }
    }

    /// Waits for the next event. `None` after [`JobEvent::Done`], which is the last.
    pub fn next_event(&mut self) -> Option<JobEvent> {
        self.event_until(None)
    }

    /// Like [`next_event`](Self::next_event), for `timeout` at most. `None`: it has ended, or time is up.
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Option<JobEvent> {
        self.event_until(Some(self.shared.now() + timeout))
    }

    /// Gives the job up, as dropping does, and a background job, too, where no job server has got it yet.
    pub fn abandon(self) {
        self.shared.call(|client, _, now| client.abandon(self.job, now));
    }

    fn event_until(&mut self, deadline: Option<Instant>) -> Option<JobEvent> {
        if self.ended {
            return None;
        }
        let (job, mailbox) = (self.job, self.mailbox);
        let event = self.shared.wait(deadline, |client, post, waker, time| match post.next(mailbox, client, time) {
            Some((_, event)) => Look::Found(event),
            None => missing(client, post, waker, job, mailbox),
        })?;
        if let JobEvent::Done(outcome) = &event {
            (self.ended, self.told) = (true, Some(Box::new(outcome.clone())));
            self.leave(false);
        }
        Some(event)
    }

    fn outcome_until(&mut self, deadline: Option<Instant>) -> Option<Outcome> {
        let (job, mailbox) = (self.job, self.mailbox);
        if self.ended {
            return self.told.as_deref().cloned();
        }
        let mut end = None;
        let mut held = self.shared.hold();
        let (client, post, time) = held.parts();
        post.want_end(mailbox, job, client, time);
        held.wait(deadline, |client, post, waker, time| {
            let Some((_, outcome)) = post.next_end(mailbox, client, time) else {
                return missing(client, post, waker, job, mailbox);
            };
            end = Some(outcome);
            post.close(mailbox);
            Look::Found(())
        })?;
        self.ended = true;
        end
    }

    fn leave(&self, abandon: bool) {
        self.shared.call(|client, post, now| {
            if abandon {
                client.let_go(self.job, now);
            }
            post.close(self.mailbox);
        });
    }
}

/// Nothing has come of a job.
fn missing<T>(client: &Machine, post: &mut Post, waker: Option<&Waker>, job: JobId, mailbox: Mailbox) -> Look<T> {
    waker.into_iter().for_each(|waker| drop(post.register(mailbox, waker)));
    Look::Missing(Source::Conn(client.conn_of(job)))
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.ended {
            self.leave(true);
        }
    }
}

/// Many jobs at once, whose outcomes are taken as they come. Cheap: no thread, no channel and no allocation a job.
///
/// While outcomes wait to be taken, jobs submitted for those that were taken are not written one by one but together when
/// none is left, or after 10 ms. Dropping it abandons its jobs, but for background jobs.
///
/// ```
/// # use gearwheel::{Job, blocking::{Client, Server, Worker}};
/// # let server = Server::bind("127.0.0.1:0")?;
/// # let worker = Worker::builder().server(server.local_addr()).function("f", |task| Ok(task.payload().clone())).spawn()?;
/// # let client = Client::builder().server(server.local_addr()).build()?;
/// let mut set = client.set();
/// for number in 0..100 {
///     set.submit(Job::new("f", number.to_string()))?;
/// }
/// for (job, outcome) in &mut set {
///     println!("{job:?}: {outcome:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it abandons its jobs"]
pub struct JobSet {
    shared: Shared,
    mailbox: Mailbox,
    /// What was in the mailbox behind the end that was asked for last: ends only.
    taken: VecDeque<client::Event>,
    deadline: Option<Instant>,
}

impl JobSet {
    /// Gives all jobs that are submitted from now on one deadline, `within` from now: what has not ended by then ends as
    /// [`Outcome::TimedOut`]. A job's own deadlines hold, too.
    pub fn within(mut self, within: Duration) -> Self {
        self.deadline = Some(self.shared.now() + within);
        self
    }

    /// Submits a job. Waits while a limit of the client is reached, as [`Client::submit`] does. Outcomes that come meanwhile
    /// wait to be taken; to take them instead see [`try_submit`](Self::try_submit).
    ///
    /// The deadline of [`within`](Self::within) does not end this wait. A set with events must not wait here where what it has
    /// not read pauses its connection ([`Unread::Pause`](crate::client::Unread::Pause)): it would wait for itself.
    ///
    /// # Errors
    /// The job comes back: it is none, 1,000,000 outcomes have not been taken ([`Reason::Full`]), or the client is closed.
    pub fn submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        wait_for_room(&self.shared, self.put(job), |job| self.put(job))
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait. So outcomes can be taken until there is room,
    /// and large results do not pile up:
    ///
    /// ```
    /// # use gearwheel::{Job, Outcome, Reason, Rejected, blocking::{Client, Server, Worker}};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let worker = Worker::builder().server(server.local_addr()).function("f", |task| Ok(task.payload().clone())).spawn()?;
    /// # let client = Client::builder().server(server.local_addr()).build()?;
    /// # let images = vec![vec![0; 8 << 20]; 30];
    /// # let count = images.len();
    /// # let mut bytes = 0;
    /// # let mut save = |outcome| if let Outcome::Complete(result) = outcome { bytes += result.len() };
    /// let mut set = client.set();
    /// for image in images {
    ///     let mut submitted = set.try_submit(Job::new("f", image));
    ///     while let Err(Rejected { reason: Reason::Full { .. }, value, .. }) = submitted {
    ///         submitted = match set.next() {
    ///             Some((_, outcome)) => {
    ///                 save(outcome);
    ///                 set.try_submit(value)
    ///             }
    ///             // Nothing of this set is outstanding: the room is taken up by others.
    ///             None => set.submit(value),
    ///         };
    ///     }
    ///     submitted?;
    /// }
    /// for (_, outcome) in &mut set {
    ///     save(outcome);
    /// }
    /// # assert_eq!(bytes, count * (8 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached or 1,000,000 outcomes have not been taken ([`Reason::Full`]), or the
    /// client is closed.
    pub fn try_submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        self.put(job)
    }

    #[inline(always)]
    fn put(&self, mut job: Job) -> Result<JobId, Rejected<Job>> {
        let (mailbox, taken) = (self.mailbox, self.taken.len());
        let mut held = self.shared.hold();
        let (client, post, time) = held.parts();
        if taken + post.waiting(mailbox) >= MAX_OUTCOMES {
            return Err(Rejected::new(UNTAKEN, job));
        }
        if let Some(deadline) = self.deadline {
            job = job.at_most(deadline.saturating_since(time.now()));
        }
        let job = match submit_in_time(client, job, time.now()) {
            Ok(job) => job,
            Err(rejected) => return Err(not_taken(held, rejected)),
        };
        post.expect(job, mailbox, client, time.now());
        held.settle(|post| taken + post.waiting(mailbox) > 0);
        Ok(job)
    }

    /// Waits for the next job that ends. `None`: all have.
    #[expect(clippy::should_implement_trait, reason = "it is the same as that of its iterator")]
    pub fn next(&mut self) -> Option<(JobId, Outcome)> {
        self.next_taken().or_else(|| self.wait_for_end(None))
    }

    /// Like [`next`](Self::next), for `timeout` at most. `None`: all have ended, or time is up.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(JobId, Outcome)> {
        self.next_taken().or_else(|| self.wait_for_end(Some(self.shared.now() + timeout)))
    }

    /// Waits for the next event of any job, [`JobEvent::Done`] included; others come only to a set with events
    /// ([`Client::set_with_events`]). `None`: all jobs have ended.
    pub fn next_event(&mut self) -> Option<(JobId, JobEvent)> {
        self.event_until(None)
    }

    /// Like [`next_event`](Self::next_event), for `timeout` at most. `None`: all jobs have ended, or time is up.
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Option<(JobId, JobEvent)> {
        self.event_until(Some(self.shared.now() + timeout))
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.shared.call_lazily(|_, post, _| post.outstanding(self.mailbox), |_| true)
    }

    /// Gives a job up: it ends as [`Outcome::Cancelled`].
    pub fn abandon(&mut self, job: JobId) {
        self.shared.call(|client, _, now| client.abandon(job, now));
    }

    /// The next end, where it has been taken out of the mailbox already.
    #[inline]
    fn next_taken(&mut self) -> Option<(JobId, Outcome)> {
        match self.taken.pop_front()? {
            client::Event::Done { job, outcome } => Some((job, outcome)),
            _ => None,
        }
    }

    /// Waits for an end, and takes along those that are there by then, which need no lock when it is their turn.
    fn wait_for_end(&mut self, deadline: Option<Instant>) -> Option<(JobId, Outcome)> {
        let Self { shared, mailbox, taken, .. } = self;
        wait_for(shared, *mailbox, deadline, |post, client, time| {
            let end = post.next_end(*mailbox, client, time)?;
            post.take_ends(*mailbox, taken);
            Some(end)
        })
    }

    fn event_until(&mut self, deadline: Option<Instant>) -> Option<(JobId, JobEvent)> {
        match self.taken.pop_front() {
            Some(taken) => JobEvent::of(taken),
            None => wait_for(&self.shared, self.mailbox, deadline, |post, client, time| {
                post.next(self.mailbox, client, time)
            }),
        }
    }
}

/// Waits for what `next` takes out of the mailbox of a set. `None`: nothing comes any more, or time is up.
fn wait_for<T>(
    shared: &Shared,
    mailbox: Mailbox,
    deadline: Option<Instant>,
    mut next: impl FnMut(&mut Post, &mut client::Client, &mut Moment) -> Option<T>,
) -> Option<T> {
    let mut found = None;
    shared.wait(deadline, |client, post, waker, time| {
        found = next(post, client, time);
        if found.is_some() || post.outstanding(mailbox) == 0 {
            return Look::Found(());
        }
        waker.into_iter().for_each(|waker| drop(post.register(mailbox, waker)));
        Look::Missing(any_of(client))
    })?;
    found
}

impl Iterator for &mut JobSet {
    type Item = (JobId, Outcome);

    fn next(&mut self) -> Option<Self::Item> {
        JobSet::next(self)
    }
}

impl Drop for JobSet {
    fn drop(&mut self) {
        self.shared.call(|client, post, now| {
            for job in post.jobs_of(self.mailbox) {
                client.let_go(job, now);
            }
            post.close(self.mailbox);
        });
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.servers()).finish()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.job).finish()
    }
}

impl fmt::Debug for JobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSet").field("outstanding", &self.outstanding()).finish()
    }
}
