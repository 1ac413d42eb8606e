//! Background jobs out of a server and into one.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::Server;
use super::jobs::{Job, NewJob, State};
use super::packets::{MAX_FUNCTION, MAX_NAME};
use crate::error::{ConfigError, Reason, Rejected};
use crate::excerpt::debug;
use crate::job::{Handle, Priority};

/// A background job as it can be kept: see [`Server::queued`] and [`Server::restore`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedJob {
    /// The name that its client knows.
    pub handle: Option<Handle>,
    /// Its function.
    pub function: Bytes,
    /// Its unique, empty for none.
    pub unique: Bytes,
    /// Its reducer, if it is a map/reduce job.
    pub reducer: Option<Bytes>,
    /// Its payload.
    pub payload: Bytes,
    /// Its priority.
    pub priority: Priority,
    /// Not before when it is run, since 1970.
    pub not_before: Option<Duration>,
}

debug!(struct QueuedJob { handle, function, unique, reducer, payload, priority, not_before });

impl QueuedJob {
    /// A job of normal priority, to be run at once, without any names.
    #[must_use]
    pub fn new(function: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self {
            handle: None,
            function: function.into(),
            unique: Bytes::new(),
            reducer: None,
            payload: payload.into(),
            priority: Priority::Normal,
            not_before: None,
        }
    }

    fn check(&self, max_packet: usize) -> Result<(), ConfigError> {
        ConfigError::check_name("function", &self.function, MAX_FUNCTION)?;
        ConfigError::check_name("unique", &self.unique, MAX_NAME)?;
        ConfigError::check_name("reducer", self.reducer.as_deref().unwrap_or_default(), MAX_NAME)?;
        if self.payload.len() > max_packet {
            return Err(ConfigError::TooLong { what: "payload", length: self.payload.len(), limit: max_packet });
        }
        Ok(())
    }
}

impl Server {
    /// The background jobs, those that run included, in the order of their numbers: of submission, unless restored.
    pub fn queued(&self) -> impl Iterator<Item = QueuedJob> {
        let jobs = self.queue.jobs.table.iter().filter(|(_, job)| job.background && !job.cancelled);
        let mut indices: Vec<(u64, u32)> = jobs.map(|(index, job)| (job.number, index)).collect();
        indices.sort_unstable();
        indices.into_iter().map(|(_, index)| self.stored(&self.queue.jobs.table[index]))
    }

    fn stored(&self, job: &Job) -> QueuedJob {
        let payload = job.payload().map_or_else(Bytes::clone, Bytes::copy_from_slice);
        let not_before =
            (job.state == State::Delayed).then(|| self.unix.0.saturating_add(job.when.saturating_since(self.unix.1)));
        QueuedJob {
            handle: Some(Handle::from_wire(&self.handles.write(job.number))),
            function: Bytes::copy_from_slice(&self.queue.functions[job.function].name),
            unique: Bytes::copy_from_slice(job.unique()),
            reducer: job.reducer().map(Bytes::copy_from_slice),
            payload,
            priority: job.priority,
            not_before,
        }
    }

    /// Puts a background job in, as if submitted now, and says its handle: its own one, if that is of this server's prefix
    /// and free, else a new one. It is joined with no other.
    ///
    /// # Errors
    /// [`Reason::Closed`] once the server drains; [`Reason::Full`] beyond [`Config::max_jobs`](super::Config::max_jobs),
    /// `max_job_bytes` or `max_functions`; [`Reason::Invalid`] for names that no packet could hold. The job comes back.
    pub fn restore(&mut self, job: QueuedJob) -> Result<Handle, Rejected<QueuedJob>> {
        match self.put_back(&job) {
            Ok(handle) => Ok(handle),
            Err(reason) => Err(Rejected::new(reason, job)),
        }
    }

    fn put_back(&mut self, job: &QueuedJob) -> Result<Handle, Reason> {
        if !self.is_open() {
            return Err(Reason::Closed);
        }
        job.check(self.config.limits.max_packet)?;
        let full = |what, limit| Reason::Full { what, limit };
        let max_functions = self.config.max_functions;
        let function = self.queue.intern(&job.function).map_err(|_| full("functions", max_functions))?;
        let new = NewJob {
            function,
            unique: &job.unique,
            reducer: job.reducer.as_deref(),
            payload: job.payload.clone(),
            priority: job.priority,
            background: true,
        };
        if !self.queue.has_room(new.bytes()) {
            return Err(full("jobs", self.config.max_jobs));
        }
        let number = job.handle.as_ref().and_then(|handle| self.handles.parse(handle.as_bytes()));
        let due = job.not_before.and_then(|at| self.when(at));
        let index = self.queue.add(new, due, number);
        self.settle();
        Ok(Handle::from_wire(&self.handles.write(self.queue.jobs.table[index].number)))
    }
}
