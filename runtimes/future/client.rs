//! The client's handles.

#[cfg(any(feature = "smol", feature = "tokio"))]
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use bytes::Bytes;
#[cfg(any(feature = "smol", feature = "tokio"))]
use futures_core::Stream;

#[cfg(any(feature = "smol", feature = "tokio"))]
use super::{Connector, Driver, Helmsman, Runtime, connector};
use super::{Running, finish};
#[cfg(any(feature = "smol", feature = "tokio"))]
use crate::Address;
use crate::client::{self, Counters, Latencies, RequestId, Status};
use crate::runtimes::handles::{
    Answer, ClientMachine as Machine, JobError, JobEvent, MAX_OUTCOMES, Mailbox, Post, ToAddress, UNTAKEN, may_wait,
    submit_in_time,
};
use crate::runtimes::hub::{Hold, Hub, Owner, wait_for_room};
use crate::runtimes::std::sync::{Mutex, PoisonError};
use crate::runtimes::{Clock, Error, Moment};
#[cfg(any(feature = "smol", feature = "tokio"))]
use crate::runtimes::{
    handles::{ClientBuilder, Dials, Sealed},
    std::io,
};
use crate::{Candidate, Handle, Instant, Job, JobId, Outcome, Phase, Reason, Rejected, ServerId};

type Shared = Arc<Owner<Machine, Post>>;

/// A client of one or more job servers. Cheap to clone, and to be used from any number of tasks and threads at once.
///
/// Its sockets are moved by the future of [`run`](Self::run), which is to be spawned on an executor; until it is polled, jobs
/// wait. It connects when the first job is submitted. When the last clone and the last job are dropped, it closes: what is
/// to be written is written for at most a second, and the future ends. When that future is dropped before, the client closes
/// at once: outstanding jobs end as [`Outcome::Cancelled`].
///
/// Every `async` function here is safe to cancel, as each says.
pub struct Client<R> {
    shared: Shared,
    /// Until it runs.
    driver: Arc<Mutex<Option<Running>>>,
    runtime: PhantomData<fn() -> R>,
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl<R: Runtime> Sealed for Client<R> {}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl<R: Runtime> Dials for Client<R> {
    type Connector = Connector<R>;
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl<R: Runtime> ClientBuilder<Client<R>> {
    /// Has the connections made by the futures of `connect`, instead of by TCP and Unix sockets to the addresses of the job
    /// servers: by way of a proxy, with socket options of yours, or as objects of any kind.
    ///
    /// A future is polled in that of `run`, with nothing locked. It is dropped when the
    /// [connect timeout](Self::connect_timeout) has passed. An error ends the attempt with its text; a panic likewise.
    pub fn connect_with<S: Into<R::Stream>, F: Future<Output = io::Result<S>> + Send + 'static>(
        mut self,
        connect: impl FnMut(Address) -> F + Send + 'static,
    ) -> Self {
        self.connector = Some(connector::<R, S, F>(connect));
        self
    }

    /// Makes the client. It does not connect yet, and does nothing until `run` is polled.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be.
    pub fn build(self) -> Result<Client<R>, Error> {
        let (machine, listener, connector) = self.machine()?;
        let hub = Hub::new(machine, Post::default(), Clock::start());
        let driver = Driver::<R, _, _>::new(hub.clone(), listener, connector);
        let run = Helmsman::new(hub.helm().clone(), Box::new(driver));
        Ok(Client::new(hub, Some(Box::pin(run))))
    }
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl<R: Runtime> Client<R> {
    /// Describes a client.
    pub fn builder() -> ClientBuilder<Self> {
        ClientBuilder::new()
    }
}

impl<R> Client<R> {
    pub(crate) fn new(hub: Arc<Hub<Machine, Post>>, driver: Option<Running>) -> Self {
        Self { shared: Arc::new(Owner(hub)), driver: Arc::new(Mutex::new(driver)), runtime: PhantomData }
    }

    /// Moves the client's bytes: to be spawned, or polled beside the futures that use the client. It ends when the client
    /// has closed. A second call gives a future that waits for that.
    ///
    /// It holds no handle, so that the client closes when the last one is dropped. Dropping it closes the client at once.
    #[must_use = "the client does nothing until this future is polled"]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<R> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        finish(driver, Arc::clone(&self.shared.0))
    }

    /// Submits a job. Waits while a limit is reached ([`Limits::max_outgoing`](crate::Limits::max_outgoing),
    /// [`max_jobs`](crate::Limits::max_jobs)), but never for a job server.
    ///
    /// Safe to cancel: a job that has not been submitted is dropped.
    ///
    /// # Errors
    /// The job comes back: it is none, or the client is closed.
    pub async fn submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        submit_late(&self.shared, job, |job| self.try_submit(job)).await
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached ([`Reason::Full`]), or the client is closed.
    pub fn try_submit(&self, job: Job) -> Result<Pending, Rejected<Job>> {
        let (mut hold, now) = self.shared.hold();
        let (client, post) = hold.parts();
        let job = match submit_in_time(client, job, now) {
            Ok(job) => job,
            Err(rejected) => return Err(not_taken(hold, rejected)),
        };
        let mailbox = post.open(false);
        post.expect(job, mailbox, client, now);
        drop(hold);
        Ok(Pending { shared: self.shared.clone(), job, mailbox, outcome: None })
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
        let mailbox = self.shared.look(|_, post| post.open(ends_only));
        JobSet { shared: self.shared.clone(), mailbox, taken: VecDeque::new(), deadline: None }
    }

    /// Asks how an outstanding job is (GET_STATUS).
    ///
    /// Safe to cancel: the answer is dropped when it comes.
    ///
    /// # Errors
    /// [`Error::Refused`]: the job is over or has no handle yet, or the client is closed. [`Error::Request`]: no answer came.
    pub async fn status(&self, job: JobId) -> Result<Status, Error> {
        self.ask_status(|client, now| client.status(job, now).map_err(|refused| refused.reason)).await
    }

    /// Asks how the job named `handle` is (GET_STATUS), also one submitted elsewhere or in the background.
    ///
    /// Safe to cancel: the answer is dropped when it comes.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn status_of(&self, server: ServerId, handle: Handle) -> Result<Status, Error> {
        self.ask_status(|client, now| client.status_of(server, handle, now).map_err(|refused| refused.reason)).await
    }

    /// Asks how the job with `unique` is (GET_STATUS_UNIQUE). Perl's job server cannot tell.
    ///
    /// Safe to cancel: the answer is dropped when it comes.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn status_unique(&self, server: ServerId, unique: impl Into<Bytes>) -> Result<Status, Error> {
        let unique = unique.into();
        self.ask_status(|client, now| client.status_unique(server, unique, now).map_err(|refused| refused.reason)).await
    }

    /// Sends `payload` to a job server and waits until it is back (ECHO_REQ).
    ///
    /// Safe to cancel: the answer is dropped when it comes.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn echo(&self, server: ServerId, payload: impl Into<Bytes>) -> Result<Bytes, Error> {
        let payload = payload.into();
        match self.ask(|client, now| client.echo(server, payload, now).map_err(|refused| refused.reason)).await? {
            Answer::Echo(result) => Ok(result?),
            Answer::Status(_) => Err(Error::Refused(Reason::Unknown("request"))),
        }
    }

    /// How far an outstanding job has come; `None` when it has ended.
    #[must_use]
    pub fn phase(&self, job: JobId) -> Option<Phase> {
        self.shared.look(|client, _| client.phase(job))
    }

    /// The job servers as they stand, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<Candidate> {
        self.shared.look(|client, _| client.servers().cloned().collect())
    }

    /// The time by the client's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock().now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        let address = server.to_address()?;
        let added = self.shared.call(|client, _, now| client.add_server(address, now))?;
        self.shared.make_room();
        Ok(added)
    }

    /// Removes a job server. It gets no more jobs; with `drain` those that it has are finished first, else they are lost
    /// and go by their [`Retry`](crate::Retry). [`Removed`](crate::client::Event::Removed) says when it is gone.
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.shared.call(|client, _, now| client.remove_server(server, drain, now))?;
        self.shared.make_room();
        Ok(())
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        let tls = tls.into();
        self.shared.call(|client, _, _| client.set_client_tls(tls));
    }

    /// Plain counts since the client was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.look(|client, _| client.counters())
    }

    /// How long its jobs took since the client was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.shared.look(|client, _| client.latencies().clone())
    }

    /// Closes it at once, for all clones: outstanding jobs end as [`Outcome::Cancelled`], and nothing is taken any more.
    /// To close in order, wait for the jobs first.
    pub fn close(&self) {
        self.shared.call(|client, _, now| client.close(now));
    }

    async fn ask_status(
        &self,
        ask: impl FnOnce(&mut Machine, Instant) -> Result<RequestId, Reason>,
    ) -> Result<Status, Error> {
        match self.ask(ask).await? {
            Answer::Status(result) => Ok(result?),
            Answer::Echo(_) => Err(Error::Refused(Reason::Unknown("request"))),
        }
    }

    async fn ask(&self, ask: impl FnOnce(&mut Machine, Instant) -> Result<RequestId, Reason>) -> Result<Answer, Error> {
        let id = self.shared.call(|client, post, now| {
            let request = ask(client, now)?;
            post.ask(request);
            Ok::<_, Reason>(request)
        })?;
        let request = Request { shared: &self.shared, id };
        poll_fn(|cx| request.poll(cx.waker())).await
    }
}

/// Submits a job, where it must be as soon as there is room.
async fn submit_late<T>(
    shared: &Shared,
    job: Job,
    mut submit: impl FnMut(Job) -> Result<T, Rejected<Job>>,
) -> Result<T, Rejected<Job>> {
    let attempt = |job| match submit(job) {
        Err(full) if may_wait(&full.reason) => Err(full.value),
        result => Ok(result),
    };
    wait_for_room(shared, job, attempt).await
}

#[cold]
fn not_taken(mut hold: Hold<'_, Machine, Post>, rejected: Rejected<Job>) -> Rejected<Job> {
    // Another server may be dialled for it.
    if !hold.parts().0.has_output() {
        hold.leave();
    }
    rejected
}

/// A request whose answer is forgotten when nobody waits for it any more.
struct Request<'a> {
    shared: &'a Shared,
    id: RequestId,
}

impl Request<'_> {
    fn poll(&self, waker: &Waker) -> Poll<Result<Answer, Error>> {
        let (answer, _old) = self.shared.look(|_, post| match post.answer(self.id) {
            None => (Poll::Pending, post.register_request(self.id, waker)),
            Some(answer) => (Poll::Ready(Ok(answer)), None),
        });
        answer
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.shared.look(|_, post| post.forget(self.id));
    }
}

impl<R> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), driver: self.driver.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.servers()).finish()
    }
}

/// A job that was submitted: a future of its result, and a stream of its events.
///
/// Awaiting it drops all events but the end. Dropping it abandons the job: the job server is not told, as the protocol has
/// no word for it, but what still comes of it is dropped. A background job is sent and runs all the same, as long as its
/// client is not dropped or closed before it can be sent: await it to know that it is queued. `&mut job` can be awaited under a
/// time limit: the job goes on when time is up.
#[must_use = "dropping it abandons the job"]
pub struct Pending {
    shared: Shared,
    job: JobId,
    mailbox: Mailbox,
    /// It has ended, and its mailbox is closed.
    outcome: Option<Outcome>,
}

impl Pending {
    /// The job's name in its client.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.job
    }

    /// Waits until the job has ended; what else comes of it is dropped. Again and again the same.
    ///
    /// Safe to cancel: the job goes on.
    pub async fn outcome(&mut self) -> Outcome {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    /// Waits until a job server has taken the job, and returns the handle. Works for foreground and background jobs; use
    /// it before the first [`next_event`](Self::next_event). After it, a background job has ended.
    ///
    /// Safe to cancel.
    ///
    /// # Errors
    /// How the job ended instead.
    pub async fn accepted(&mut self) -> Result<Handle, JobError> {
        loop {
            match self.next_event().await {
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
    ///
    /// Safe to cancel: no event is lost.
    pub async fn next_event(&mut self) -> Option<JobEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Gives the job up, as dropping does, and a background job, too, where no job server has got it yet.
    pub fn abandon(self) {
        self.shared.call(|client, _, now| client.abandon(self.job, now));
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        if self.outcome.is_some() {
            return Poll::Ready(None);
        }
        let Poll::Ready((_, event)) = self.look(cx, Post::next) else { return Poll::Pending };
        if let JobEvent::Done(outcome) = &event {
            self.outcome = Some(outcome.clone());
        }
        Poll::Ready(Some(event))
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.outcome.is_none() {
            let end = |post: &mut Post, mailbox, client: &mut client::Client, time: &mut Moment| {
                post.want_end(mailbox, self.job, client, time);
                post.next_end(mailbox, client, time).map(|(job, outcome)| (job, JobEvent::Done(outcome)))
            };
            if let Poll::Ready((_, JobEvent::Done(outcome))) = self.look(cx, end) {
                self.outcome = Some(outcome);
            }
        }
        self.outcome.clone().map_or(Poll::Pending, Poll::Ready)
    }

    fn look(
        &self,
        cx: &mut Context<'_>,
        mut next: impl FnMut(&mut Post, Mailbox, &mut client::Client, &mut Moment) -> Option<(JobId, JobEvent)>,
    ) -> Poll<(JobId, JobEvent)> {
        let mut old = None;
        read_and_look(&self.shared, self.mailbox, cx.waker(), |client, post, time| {
            let found = next(post, self.mailbox, client, time);
            if found.as_ref().is_some_and(|(_, event)| matches!(event, JobEvent::Done(_))) {
                old = post.close(self.mailbox);
            }
            found
        })
    }
}

/// Looks for something in a mailbox, after this task has read what it was woken for. When there is nothing, `task` is to be
/// woken for it.
#[inline]
fn read_and_look<T>(
    shared: &Shared,
    mailbox: Mailbox,
    task: &Waker,
    mut look: impl FnMut(&mut client::Client, &mut Post, &mut Moment) -> Option<T>,
) -> Poll<T> {
    // Who looks for himself need not be woken.
    let nobody = || drop(shared.look(|_, post| post.register(mailbox, Waker::noop())));
    shared.helm().read(task, nobody);
    let mut time = shared.clock().moment();
    let (found, _old) = shared.look(|client, post| match look(client, post, &mut time) {
        None => (Poll::Pending, post.register(mailbox, task)),
        Some(found) => (Poll::Ready(found), None),
    });
    found
}

impl Future for Pending {
    type Output = Result<Bytes, JobError>;

    /// The result. A background job has none: it ends, with no bytes, when a job server has queued it.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(cx).map(JobError::check)
    }
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl Stream for Pending {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        self.poll_event(cx)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            self.shared.call(|client, post, now| {
                client.let_go(self.job, now);
                post.close(self.mailbox)
            });
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.job).finish()
    }
}

/// Many jobs at once, whose outcomes are taken as they come: a stream of them. Cheap: no task, no channel and no allocation
/// a job. Dropping it abandons its jobs, but for background jobs.
#[must_use = "dropping it abandons its jobs"]
pub struct JobSet {
    shared: Shared,
    mailbox: Mailbox,
    /// What was in the mailbox behind the event that was asked for last: ends only.
    taken: VecDeque<client::Event>,
    deadline: Option<Instant>,
}

impl JobSet {
    /// Gives all jobs that are submitted from now on one deadline, `within` from now: what has not ended by then ends as
    /// [`Outcome::TimedOut`]. A job's own deadlines hold, too.
    pub fn within(mut self, within: Duration) -> Self {
        self.deadline = Some(self.shared.clock().now() + within);
        self
    }

    /// Submits a job. Waits while a limit of the client is reached, as [`Client::submit`] does. Outcomes that come meanwhile
    /// wait to be taken; to take them instead see [`try_submit`](Self::try_submit).
    ///
    /// The deadline of [`within`](Self::within) does not end this wait. A set with events must not wait here where what it has
    /// not read pauses its connection ([`Unread::Pause`](crate::client::Unread::Pause)): it would wait for itself.
    ///
    /// Safe to cancel: a job that has not been submitted is dropped.
    ///
    /// # Errors
    /// The job comes back: it is none, 1,000,000 outcomes have not been taken ([`Reason::Full`]), or the client is closed.
    pub async fn submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        Ok(self.put_where_room(job).await?.0)
    }

    /// Submits a job, or gives it back where [`submit`](Self::submit) would wait. So outcomes can be taken until there is room,
    /// and large results do not pile up.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached or 1,000,000 outcomes have not been taken ([`Reason::Full`]), or the
    /// client is closed.
    pub fn try_submit(&mut self, job: Job) -> Result<JobId, Rejected<Job>> {
        Ok(self.put(job)?.0)
    }

    /// As [`put`](Self::put), as soon as there is room.
    pub(crate) async fn put_where_room(&self, job: Job) -> Result<(JobId, bool), Rejected<Job>> {
        submit_late(&self.shared, job, |job| self.put(job)).await
    }

    /// Submits a job, and says whether outcomes wait: then they will soon be looked for again.
    pub(crate) fn put(&self, mut job: Job) -> Result<(JobId, bool), Rejected<Job>> {
        let (mut hold, now) = self.shared.hold();
        let (client, post) = hold.parts();
        let waiting = self.taken.len() + post.waiting(self.mailbox);
        if waiting >= MAX_OUTCOMES {
            return Err(not_taken(hold, Rejected::new(UNTAKEN, job)));
        }
        if let Some(deadline) = self.deadline {
            job = job.at_most(deadline.saturating_since(now));
        }
        let job = match submit_in_time(client, job, now) {
            Ok(job) => job,
            Err(rejected) => return Err(not_taken(hold, rejected)),
        };
        post.expect(job, self.mailbox, client, now);
        Ok((job, waiting > 0))
    }

    /// Waits for the next job that ends. `None`: all have.
    ///
    /// Safe to cancel: no outcome is lost.
    #[cfg_attr(
        any(feature = "smol", feature = "tokio"),
        expect(clippy::should_implement_trait, reason = "it is the same as that of its stream")
    )]
    pub fn next(&mut self) -> impl Future<Output = Option<(JobId, Outcome)>> + Send {
        poll_fn(|cx| self.poll_end(cx))
    }

    /// Waits for the next event of any job, [`JobEvent::Done`] included; others come only to a set with events
    /// (`set_with_events`). `None`: all jobs have ended.
    ///
    /// Safe to cancel: no event is lost.
    pub async fn next_event(&mut self) -> Option<(JobId, JobEvent)> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.shared.look(|_, post| post.outstanding(self.mailbox))
    }

    /// Gives a job up: it ends as [`Outcome::Cancelled`].
    pub fn abandon(&mut self, job: JobId) {
        self.shared.call(|client, _, now| client.abandon(job, now));
    }

    /// The next end, where it has been taken out of the mailbox already.
    #[inline]
    pub(crate) fn next_taken(&mut self) -> Option<(JobId, Outcome)> {
        match self.taken.pop_front()? {
            client::Event::Done { job, outcome } => Some((job, outcome)),
            _ => None,
        }
    }

    #[inline]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<(JobId, Outcome)>> {
        match self.taken.pop_front() {
            Some(client::Event::Done { job, outcome }) => Poll::Ready(Some((job, outcome))),
            _ => self.look_for_ends(cx),
        }
    }

    /// Apart from what is done for each job.
    #[inline(never)]
    fn look_for_ends(&mut self, cx: &mut Context<'_>) -> Poll<Option<(JobId, Outcome)>> {
        let Self { shared, mailbox, taken, .. } = self;
        look_for(shared, *mailbox, cx, |post, client, time| {
            let found = post.next_end(*mailbox, client, time)?;
            post.take_ends(*mailbox, taken);
            Some(found)
        })
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<(JobId, JobEvent)>> {
        match self.taken.pop_front() {
            None => {
                look_for(&self.shared, self.mailbox, cx, |post, client, time| post.next(self.mailbox, client, time))
            }
            taken => Poll::Ready(taken.and_then(JobEvent::of)),
        }
    }
}

/// Looks for something in the mailbox of a set. `Ready(None)`: nothing comes any more.
fn look_for<T>(
    shared: &Shared,
    mailbox: Mailbox,
    cx: &mut Context<'_>,
    mut next: impl FnMut(&mut Post, &mut client::Client, &mut Moment) -> Option<T>,
) -> Poll<Option<T>> {
    read_and_look(shared, mailbox, cx.waker(), |client, post, time| {
        let found = next(post, client, time);
        if found.is_some() || post.outstanding(mailbox) == 0 { Some(found) } else { None }
    })
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl Stream for JobSet {
    type Item = (JobId, Outcome);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_end(cx)
    }
}

impl Drop for JobSet {
    fn drop(&mut self) {
        self.shared.call(|client, post, now| {
            for job in post.jobs_of(self.mailbox) {
                client.let_go(job, now);
            }
            post.close(self.mailbox)
        });
    }
}

impl fmt::Debug for JobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSet").field("outstanding", &self.outstanding()).finish()
    }
}
