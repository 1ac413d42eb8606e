//! What a client tells its user.

use bytes::Bytes;

use crate::address::Address;
use crate::excerpt::debug;
use crate::job::{Handle, JobId, Outcome, ServerError, ServerId};
use crate::machine::CloseReason;
use crate::time::Instant;

/// What a client tells its user.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A job server is connected.
    Connected {
        /// Which one.
        server: ServerId,
        /// Where it is.
        address: Address,
    },
    /// A connection was lost or could not be made.
    Disconnected {
        /// To which job server.
        server: ServerId,
        /// Where it is.
        address: Address,
        /// Why.
        reason: CloseReason,
        /// Not before this time is it tried again, and only when somebody needs it.
        retry_at: Instant,
    },
    /// Jobs wait, and none of the job servers can be had. Said once, until one can.
    AllDown {
        /// When the first of them is tried again; `None` when there are none.
        retry_at: Option<Instant>,
    },
    /// A job server has been removed, as [`remove_server`](super::Client::remove_server) asked.
    Removed {
        /// Which one.
        server: ServerId,
    },
    /// JOB_CREATED: a job server has taken a foreground job. It may come again after a retry: then the job begins anew, and
    /// the parts of the result that came before are of no account.
    Created {
        /// The job.
        job: JobId,
        /// The job server's name for it.
        handle: Handle,
        /// The job server.
        server: ServerId,
    },
    /// WORK_DATA: a part of the result.
    Data {
        /// The job.
        job: JobId,
        /// The part. Like all payloads in events it may share up to 64 KiB with its neighbours: copy what you keep long.
        payload: Bytes,
    },
    /// WORK_WARNING.
    Warning {
        /// The job.
        job: JobId,
        /// What the worker warns of.
        payload: Bytes,
    },
    /// WORK_STATUS: how far the job is. What is no number counts as 0.
    Progress {
        /// The job.
        job: JobId,
        /// Done so far.
        numerator: u64,
        /// Of so much.
        denominator: u64,
    },
    /// The job has ended: exactly one for each accepted submission, and nothing of the job after it.
    Done {
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The reply to a status request: exactly one for each.
    Status {
        /// The request.
        request: RequestId,
        /// What the job server knows, or why it cannot be had.
        result: Result<Status, RequestError>,
    },
    /// The reply to an echo request: exactly one for each.
    Echo {
        /// The request.
        request: RequestId,
        /// What came back, or why nothing did.
        result: Result<Bytes, RequestError>,
    },
    /// An ERROR that answers no submission and no request of the user.
    ServerError {
        /// Who says it.
        server: ServerId,
        /// What it says.
        error: ServerError,
    },
    /// The client has closed. The last event.
    Closed,
}

debug!(enum Event {
    Connected { server, address },
    Disconnected { server, address, reason, retry_at },
    AllDown { retry_at },
    Removed { server },
    Created { job, handle, server },
    Data { job, payload },
    Warning { job, payload },
    Progress { job, numerator, denominator },
    Done { job, outcome },
    Status { request, result },
    Echo { request, result },
    ServerError { server, error },
    Closed
});

/// A status or echo request of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// What a job server knows of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether it knows it at all. A job that has ended is not known.
    pub known: bool,
    /// Whether a worker has it.
    pub running: bool,
    /// Done so far, as the worker said last.
    pub numerator: u64,
    /// Of so much.
    pub denominator: u64,
    /// How many clients wait for it; only asked by unique.
    pub clients: Option<u64>,
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The job server refused it.
    #[error(transparent)]
    Rejected(ServerError),
    /// The connection was lost, or could not be made.
    #[error("the connection was lost: {0}")]
    Lost(CloseReason),
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}
