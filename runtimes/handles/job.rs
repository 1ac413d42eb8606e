//! What a user hears of a job: what becomes of it, why it has no result, and whether room for it may come.

use bytes::Bytes;

use super::ClientMachine;
use crate::excerpt::{Excerpt, debug};
use crate::job::LastFailure;
use crate::runtimes::unix_now;
use crate::{
    Address, CloseReason, Handle, Instant, Job, JobId, Outcome, Phase, Reason, Rejected, ServerError, ServerId,
};

/// What became of one job.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// JOB_CREATED: a job server has taken it. It may come again after a retry: then it begins anew, and the parts of the
    /// result that came before are of no account.
    Created {
        /// The job server's name for it.
        handle: Handle,
        /// The job server.
        server: ServerId,
    },
    /// WORK_DATA: a part of the result.
    Data(Bytes),
    /// WORK_WARNING.
    Warning(Bytes),
    /// WORK_STATUS: how far it is. One that has not been taken is replaced by the next, unless something else came between.
    Progress {
        /// Done so far.
        numerator: u64,
        /// Of so much.
        denominator: u64,
    },
    /// It has ended: the last event.
    Done(Outcome),
}

debug!(enum JobEvent { Created { handle, server }, Data(part), Warning(warning), Progress { numerator, denominator }, Done(outcome) });

/// Why a job has no result.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// WORK_FAIL: the worker failed it.
    #[error("the job failed")]
    Failed,
    /// WORK_EXCEPTION: what the worker threw.
    #[error("the job threw an exception: {}", Excerpt(.0))]
    Exception(Bytes),
    /// The job server refused it.
    #[error(transparent)]
    Rejected(ServerError),
    /// One of its deadlines passed.
    #[error("the job timed out {}{}", .phase.so_far(), LastFailure(.server.as_ref(), .reason.as_ref()))]
    TimedOut {
        /// How far it had come.
        phase: Phase,
        /// The job server that had it; in [`Phase::Parked`] the one that failed last, if any has.
        server: Option<Address>,
        /// In [`Phase::Parked`], why that one could not be had.
        reason: Option<CloseReason>,
        /// How often it was submitted.
        attempts: u32,
    },
    /// The connection to its job server was lost.
    #[error("the job was lost with {server} {}: {reason}", .phase.so_far())]
    Lost {
        /// How far it had come.
        phase: Phase,
        /// The job server.
        server: Address,
        /// What became of the connection.
        reason: CloseReason,
        /// How often it was submitted.
        attempts: u32,
    },
    /// More came of it than may wait to be read, and nobody read it; or more than a packet may have.
    #[error("the job was given up: more than {limit} bytes came of it at once, or unread")]
    Overflow {
        /// The bytes that may wait, [`Limits::max_unread`](crate::Limits::max_unread) or the job's own; or those of a packet,
        /// [`Limits::max_packet`](crate::Limits::max_packet).
        limit: usize,
        /// How far it had come.
        phase: Phase,
        /// The job server that has it.
        server: Address,
        /// How often it was submitted.
        attempts: u32,
    },
    /// It was abandoned, or its client closed.
    #[error("the job was given up {}", .phase.so_far())]
    Cancelled {
        /// How far it had come.
        phase: Phase,
    },
}

debug!(enum JobError {
    Failed,
    Exception(thrown),
    Rejected(error),
    TimedOut { phase, server, reason, attempts },
    Lost { phase, server, reason, attempts },
    Overflow { limit, phase, server, attempts },
    Cancelled { phase }
});

impl JobError {
    /// The result of a job that ended so; of a background job, that it is queued.
    ///
    /// # Errors
    /// It has none.
    pub fn check(outcome: Outcome) -> Result<Bytes, Self> {
        Err(match outcome {
            Outcome::Complete(result) => return Ok(result),
            Outcome::Queued { .. } => return Ok(Bytes::new()),
            Outcome::Failed => Self::Failed,
            Outcome::Exception(thrown) => Self::Exception(thrown),
            Outcome::Rejected(error) => Self::Rejected(error),
            Outcome::TimedOut { phase, server, reason, attempts } => Self::TimedOut { phase, server, reason, attempts },
            Outcome::Lost { phase, server, reason, attempts } => Self::Lost { phase, server, reason, attempts },
            Outcome::Overflow { limit, phase, server, attempts } => Self::Overflow { limit, phase, server, attempts },
            Outcome::Cancelled { phase } => Self::Cancelled { phase },
        })
    }
}

/// Outcomes that a set of jobs keeps for its owner at most.
pub(crate) const MAX_OUTCOMES: usize = 1_000_000;
/// Why it takes no more then: nobody but its owner can make room.
pub(crate) const UNTAKEN: Reason = Reason::Full { what: "the outcomes in a set of jobs", limit: MAX_OUTCOMES };

/// Whether room for it may come without whoever asks.
pub(crate) fn may_wait(reason: &Reason) -> bool {
    matches!(reason, Reason::Full { .. }) && *reason != UNTAKEN
}

/// Submits a job to the machine. One with a delay needs the wall time, which may have been set since the last.
#[inline(always)]
pub(crate) fn submit_in_time(client: &mut ClientMachine, job: Job, now: Instant) -> Result<JobId, Rejected<Job>> {
    if job.has_delay() {
        client.set_unix_time(unix_now(), now);
    }
    client.submit(job, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_and_its_error_say_the_same() {
        let (server, attempts, phase): (Address, _, _) = ("a".parse().expect("an address"), 1, Phase::Sent);
        let error = ServerError { code: "QUEUE_ERROR".into(), text: "full".into() };
        for (outcome, said) in [
            (Outcome::Failed, "the job failed"),
            (Outcome::Exception("no good".into()), "the job threw an exception: no good"),
            (Outcome::Rejected(error), "the job server says QUEUE_ERROR: full"),
            (
                Outcome::TimedOut { phase, server: None, reason: None, attempts },
                "the job timed out before its job server said that it has it",
            ),
            (
                Outcome::TimedOut {
                    phase: Phase::Parked,
                    server: Some(server.clone()),
                    reason: Some(CloseReason::Refused),
                    attempts,
                },
                "the job timed out before any job server could be had; the last that failed is a:4730: connection refused: \
                 nothing listens there",
            ),
            (
                Outcome::Lost { phase: Phase::Running, server: server.clone(), reason: CloseReason::Reset, attempts },
                "the job was lost with a:4730 while it ran: the connection was reset",
            ),
            (
                Outcome::Overflow { limit: 9, phase, server, attempts },
                "the job was given up: more than 9 bytes came of it at once, or unread",
            ),
            (Outcome::Cancelled { phase: Phase::Parked }, "the job was given up before any job server could be had"),
        ] {
            assert_eq!(alloc::format!("{outcome}"), said);
            let error = JobError::check(outcome).expect_err("no result");
            assert_eq!(alloc::format!("{error}"), said);
        }
        assert_eq!(alloc::format!("{}", Outcome::Complete("abc".into())), "the job is complete: 3 bytes");
    }
}
