//! What a worker tells its user.

use bytes::Bytes;

use crate::address::Address;
use crate::excerpt::debug;
use crate::job::{Handle, ServerError, ServerId};
use crate::machine::CloseReason;
use crate::time::Instant;
use crate::trace::Span;

/// What a worker tells its user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A job server is connected and knows the worker's functions.
    Connected {
        /// Which one.
        server: ServerId,
        /// Where it is.
        address: Address,
    },
    /// A connection was lost or could not be made. It is tried again by itself.
    Disconnected {
        /// To which job server.
        server: ServerId,
        /// Where it is.
        address: Address,
        /// Why.
        reason: CloseReason,
        /// When it is tried again; `None` when the worker drains or closes.
        retry_at: Option<Instant>,
    },
    /// Run this job, and answer it with [`complete`](super::Worker::complete), [`fail`](super::Worker::fail) or
    /// [`exception`](super::Worker::exception), exactly once.
    Assigned(Assignment),
    /// A job that is being run is no longer this worker's: whatever is said of it is dropped, but it is still to be
    /// answered, as it holds one of the worker's places until then.
    Gone {
        /// The job.
        task: TaskId,
        /// Why.
        reason: Gone,
    },
    /// A function is no longer registered with any job server ([`unregister`](super::Worker::unregister)).
    Unregistered {
        /// Its name.
        function: Bytes,
    },
    /// A job server has been removed, as [`remove_server`](super::Worker::remove_server) asked.
    Removed {
        /// Which one.
        server: ServerId,
    },
    /// An ERROR that answers no request. `JOB_NOT_FOUND` means that a result came too late: the server had given the job
    /// to somebody else, or forgotten it.
    ServerError {
        /// Who says it.
        server: ServerId,
        /// What it says.
        error: ServerError,
    },
    /// The worker has closed. The last event.
    Closed,
}

/// Why a job was taken from a worker that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gone {
    /// The connection that it came on is gone; the job server gives it to another worker.
    Disconnected,
    /// It ran longer than its function's limit, and the job server was told that it failed.
    TimedOut,
}

/// A job to run.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment {
    /// Its name here.
    pub task: TaskId,
    /// Its function.
    pub function: Bytes,
    /// Its unique; empty when it has none or the job server does not tell. Like the payload it may share up to 64 KiB with
    /// its neighbours: copy what you keep long.
    pub unique: Bytes,
    /// The reducer of a map/reduce job; only with [`Grab::All`](super::Grab::All).
    pub reducer: Option<Bytes>,
    /// The job server's name for it.
    pub handle: Handle,
    /// Its payload.
    pub payload: Bytes,
    /// The job server.
    pub server: ServerId,
    /// Where what its handler says to `tracing` belongs.
    pub(crate) span: Span,
}

debug!(struct Assignment { task, function, unique, reducer, handle, payload, server, span });

/// A job that a worker runs, from [`Event::Assigned`] until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl TaskId {
    /// The place of this job in a table of those in hand: dense, and used again after the job is answered.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}
