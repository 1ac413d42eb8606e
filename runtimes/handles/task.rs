//! A worker's job in the hand of whoever runs it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use bytes::Bytes;

#[cfg(any(feature = "smol", feature = "tokio"))]
use super::WorkerMachine;
use super::{Desk, Sending, may_wait};
use crate::excerpt::Excerpt;
#[cfg(any(feature = "smol", feature = "tokio"))]
use crate::runtimes::hub::{Hub, wait_for_room};
use crate::runtimes::std::panic::{self, AssertUnwindSafe};
use crate::worker::{Assignment, Gone, TaskId, Worker};
use crate::{ConfigError, Handle, Instant, Reason, Rejected, ServerId};

/// What a handler may fail with: any error. What the job server is told is WORK_EXCEPTION with its text, but for [`Fail`]
/// and [`Throw`].
pub type HandlerError = Box<dyn core::error::Error + Send + Sync>;

/// The error of a handler that wants WORK_FAIL sent, and no exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job failed")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to be said with it")]
pub struct Fail;

/// The error of a handler that wants exactly these bytes sent as WORK_EXCEPTION.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job threw an exception: {}", Excerpt(.0))]
#[expect(clippy::exhaustive_structs, reason = "it is what it holds")]
pub struct Throw(pub Bytes);

impl fmt::Debug for Throw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Throw").field(&Excerpt(&self.0)).finish()
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("the handler panicked")
}

/// The text of a handler's error, or of the panic where it has none: it is the user's code that tells.
fn error_text(error: &HandlerError) -> String {
    let text = panic::catch_unwind(AssertUnwindSafe(|| error.to_string()));
    text.unwrap_or_else(|panic| panic_text(&*panic).into())
}

/// Its handler runs on a thread, which waits where a [`Task`] has to.
#[derive(Clone, Copy, Debug)]
#[cfg(any(feature = "blocking", feature = "mio"))]
pub struct Threads {
    /// Not where that thread moves the worker's bytes, too.
    may_wait: bool,
}

#[cfg(any(feature = "blocking", feature = "mio"))]
impl Default for Threads {
    fn default() -> Self {
        Self { may_wait: true }
    }
}

/// Its handler is a future, which waits where a [`Task`] has to.
#[derive(Clone, Copy, Debug, Default)]
#[cfg(any(feature = "smol", feature = "tokio"))]
pub struct Futures(());

/// How a [`Task`] reaches its worker.
pub(crate) trait Port: Send + Sync {
    /// Does something to the worker, then what the worker wants done.
    fn act(&self, act: &mut dyn FnMut(&mut Worker, &mut Desk, Instant) -> Sending);

    /// Looks at the desk.
    fn look(&self, look: &mut dyn FnMut(&Desk));

    /// Has this thread wait until `attempt` finds room for what it is to send; not where that would be to wait for itself.
    #[cfg(any(feature = "blocking", feature = "mio"))]
    fn wait_for_room(&self, attempt: &mut dyn FnMut() -> bool);

    /// Where futures wait for room.
    #[cfg(any(feature = "smol", feature = "tokio"))]
    fn hub(&self) -> Option<&Hub<WorkerMachine, Desk>>;
}

/// A job to run. It is answered once, by [`complete`](Self::complete), [`fail`](Self::fail) or
/// [`exception`](Self::exception); dropped unanswered, it is failed.
#[must_use]
pub struct Task<W> {
    assignment: Assignment,
    port: Arc<dyn Port>,
    since: Instant,
    answered: bool,
    waits: W,
}

impl<W: Default> Task<W> {
    pub(crate) fn new(assignment: Assignment, port: Arc<dyn Port>, since: Instant) -> Self {
        Self { assignment, port, since, answered: false, waits: W::default() }
    }
}

#[cfg(any(feature = "blocking", feature = "mio"))]
impl Task<Threads> {
    /// On the thread that moves the worker's bytes, too, nobody may wait for them to be moved.
    #[cfg(feature = "mio")]
    pub(crate) fn on_the_loop(mut self) -> Self {
        self.waits.may_wait = false;
        self
    }

    /// Sends a part of the result (WORK_DATA). Waits while [`max_outgoing`](crate::Limits::max_outgoing) bytes wait to be
    /// written, until the job server has taken some: but on mio's loop, where handlers of its `Worker` run, and in what was
    /// given to `on_event` or `connect_with` of any client, worker or server, it is as [`try_data`](Self::try_data).
    ///
    /// # Errors
    /// The part comes back when it is over the limit, or when the job is no longer this worker's.
    pub fn data(&self, part: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        self.when_room(part.into(), |part| self.try_data(part))
    }

    /// Sends a warning (WORK_WARNING). Waits as [`data`](Self::data) does.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn warning(&self, warning: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        self.when_room(warning.into(), |warning| self.try_warning(warning))
    }

    /// Tells how far the job is (WORK_STATUS). Waits as [`data`](Self::data) does.
    ///
    /// # Errors
    /// The job is no longer this worker's.
    pub fn progress(&self, numerator: u64, denominator: u64) -> Result<(), Rejected<()>> {
        self.when_room((), |()| self.try_progress(numerator, denominator))
    }

    fn when_room<T>(&self, said: T, say: impl Fn(T) -> Result<(), Rejected<T>>) -> Result<(), Rejected<T>> {
        let mut result = say(said);
        if self.waits.may_wait && is_full(&result) {
            self.port.wait_for_room(&mut || {
                if let Err(full) = core::mem::replace(&mut result, Ok(())) {
                    result = say(full.value);
                }
                !is_full(&result)
            });
        }
        result
    }
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl Task<Futures> {
    /// Sends a part of the result (WORK_DATA). Waits while [`max_outgoing`](crate::Limits::max_outgoing) bytes wait to be
    /// written, until the job server has taken some. Dropped before, it sends nothing.
    ///
    /// # Errors
    /// The part comes back when it is over the limit, or when the job is no longer this worker's.
    pub async fn data(&self, part: impl Into<Bytes> + Send) -> Result<(), Rejected<Bytes>> {
        self.when_room(part.into(), |part| self.try_data(part)).await
    }

    /// Sends a warning (WORK_WARNING). Waits as [`data`](Self::data) does.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub async fn warning(&self, warning: impl Into<Bytes> + Send) -> Result<(), Rejected<Bytes>> {
        self.when_room(warning.into(), |warning| self.try_warning(warning)).await
    }

    /// Tells how far the job is (WORK_STATUS). Waits as [`data`](Self::data) does.
    ///
    /// # Errors
    /// The job is no longer this worker's.
    pub async fn progress(&self, numerator: u64, denominator: u64) -> Result<(), Rejected<()>> {
        self.when_room((), |()| self.try_progress(numerator, denominator)).await
    }

    async fn when_room<T>(&self, said: T, say: impl Fn(T) -> Result<(), Rejected<T>>) -> Result<(), Rejected<T>> {
        match (say(said), self.port.hub()) {
            (Err(full), Some(hub)) if may_wait(&full.reason) => {
                let attempt = |said| match say(said) {
                    Err(full) if may_wait(&full.reason) => Err(full.value),
                    result => Ok(result),
                };
                wait_for_room(hub, full.value, attempt).await
            }
            (result, _) => result,
        }
    }
}

impl<W> Task<W> {
    /// The same job in the hand of its handler, for whom it is answered: dropped, it says nothing.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn lend(&self) -> Self
    where
        W: Copy,
    {
        let (assignment, port) = (self.assignment.clone(), self.port.clone());
        Self { assignment, port, since: self.since, answered: true, waits: self.waits }
    }

    /// Calls what handles it, so that what that says to `tracing` belongs to the job.
    pub(crate) fn within<T>(&mut self, handle: impl FnOnce(&mut Self) -> T) -> T {
        self.assignment.span.clone().within(|| handle(self))
    }

    /// It is answered by other means than its own: which it is, and since when it has been in hand.
    #[cfg(feature = "blocking")]
    pub(crate) fn end_elsewhere(&mut self) -> (TaskId, Instant) {
        self.answered = true;
        (self.assignment.task, self.since)
    }

    /// Its function.
    #[must_use]
    pub fn function(&self) -> &[u8] {
        &self.assignment.function
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.assignment.payload
    }

    /// Its unique; empty when it has none or the job server does not tell.
    #[must_use]
    pub fn unique(&self) -> &[u8] {
        &self.assignment.unique
    }

    /// The job server's name for it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.assignment.handle
    }

    /// The reducer of a map/reduce job; only with [`Grab::All`](crate::worker::Grab::All).
    #[must_use]
    pub fn reducer(&self) -> Option<&[u8]> {
        self.assignment.reducer.as_deref()
    }

    /// The job server that it came from.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.assignment.server
    }

    /// Why it is no longer this worker's, if so: whatever is said of it is dropped, and there is no use in going on.
    #[must_use]
    pub fn cancelled(&self) -> Option<Gone> {
        let mut found = None;
        self.port.look(&mut |desk| found = desk.why_gone(self.assignment.task).cloned());
        found
    }

    /// Whether it is no longer this worker's.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled().is_some()
    }

    /// Sends a part of the result (WORK_DATA), or gives it back where `data` would wait.
    ///
    /// # Errors
    /// The part comes back when it is over the limit, when too much waits to be written ([`Reason::Full`]), or when the job
    /// is no longer this worker's.
    pub fn try_data(&self, part: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        let mut part = Some(part.into());
        self.act(|worker, task, now| worker.data(task, part.take().unwrap_or_default(), now))
    }

    /// Sends a warning (WORK_WARNING), or gives it back where `warning` would wait.
    ///
    /// # Errors
    /// As [`try_data`](Self::try_data).
    pub fn try_warning(&self, warning: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        let mut warning = Some(warning.into());
        self.act(|worker, task, now| worker.warning(task, warning.take().unwrap_or_default(), now))
    }

    /// Tells how far the job is (WORK_STATUS), unless `progress` would wait.
    ///
    /// # Errors
    /// Too much waits to be written ([`Reason::Full`]), or the job is no longer this worker's.
    pub fn try_progress(&self, numerator: u64, denominator: u64) -> Result<(), Rejected<()>> {
        self.act(|worker, task, now| worker.progress(task, numerator, denominator, now))
    }

    /// The job is done, and this is its result (WORK_COMPLETE).
    ///
    /// # Errors
    /// The result comes back when it is over the limit (then the job is failed) or the job is no longer this worker's.
    pub fn complete(mut self, result: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        let mut result = Some(result.into());
        self.end(|worker, task, now| worker.complete(task, result.take().unwrap_or_default(), now))
    }

    /// The job failed (WORK_FAIL).
    ///
    /// # Errors
    /// The job is no longer this worker's.
    pub fn fail(mut self) -> Result<(), Rejected<()>> {
        self.end(|worker, task, now| worker.fail(task, now))
    }

    /// The job threw this (WORK_EXCEPTION).
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn exception(mut self, thrown: impl Into<Bytes>) -> Result<(), Rejected<Bytes>> {
        let mut thrown = Some(thrown.into());
        self.end(|worker, task, now| worker.exception(task, thrown.take().unwrap_or_default(), now))
    }

    /// Answers it as its handler said. That it is no longer this worker's is not the handler's business.
    pub(crate) fn answer(self, result: Result<Bytes, HandlerError>) {
        match result {
            Ok(result) => self.complete_or_say_why(result),
            Err(error) => match error.downcast::<Throw>() {
                Ok(thrown) => drop(self.exception(thrown.0)),
                Err(error) if error.is::<Fail>() => drop(self.fail()),
                Err(error) => drop(self.exception(error_text(&error))),
            },
        }
    }

    fn complete_or_say_why(mut self, result: Bytes) {
        let mut result = Some(result);
        let _ = self.end(|worker, task, now| {
            let ended = worker.complete(task, result.take().unwrap_or_default(), now);
            if let Err(Rejected { reason: Reason::Invalid(why), .. }) = ended {
                refuse_result(worker, task, &why, now);
            }
            Ok::<_, Rejected<()>>(())
        });
    }

    fn act<T>(
        &self,
        mut act: impl FnMut(&mut Worker, TaskId, Instant) -> Result<(), Rejected<T>>,
    ) -> Result<(), Rejected<T>> {
        let mut result = Ok(());
        self.port.act(&mut |worker, _, now| {
            result = act(worker, self.assignment.task, now);
            if result.is_ok() { Sending::Now } else { Sending::Nothing }
        });
        result
    }

    fn end<T>(
        &mut self,
        mut act: impl FnMut(&mut Worker, TaskId, Instant) -> Result<(), Rejected<T>>,
    ) -> Result<(), Rejected<T>> {
        let mut result = Ok(());
        let (id, since) = (self.assignment.task, self.since);
        self.port.act(&mut |worker, desk, now| {
            result = act(worker, id, now);
            desk.ended(id, since, now)
        });
        // A result that cannot be sent leaves the job in hand.
        self.answered = !matches!(&result, Err(Rejected { reason: Reason::Invalid(_), .. }));
        result
    }
}

/// A handler's result cannot be sent: the job has failed, and its client is told why if it wants to know.
#[cold]
pub(crate) fn refuse_result(worker: &mut Worker, task: TaskId, why: &ConfigError, now: Instant) {
    let text = alloc::format!("the worker cannot send the result: {why}");
    if worker.exception(task, text.into(), now).is_err() {
        let _ = worker.fail(task, now);
    }
}

impl<W> Drop for Task<W> {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.end(|worker, task, now| worker.fail(task, now));
        }
    }
}

impl<W> fmt::Debug for Task<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.assignment).finish()
    }
}

/// Whether what was to be said may be said once there is room.
#[cfg(any(feature = "blocking", feature = "mio"))]
fn is_full<T>(result: &Result<(), Rejected<T>>) -> bool {
    result.as_ref().is_err_and(|rejected| may_wait(&rejected.reason))
}
