//! What is known of each job by whoever looks on, and what its payload says.

use bytes::Bytes;
use gearwheel::{JobId, Phase, Retry};

/// What is known of a job, by whoever looks on.
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) incarnation: u32,
    pub(super) job: JobId,
    pub(super) submitted: u64,
    pub(super) background: bool,
    /// A delayed job is not run before this time.
    pub(super) not_before: Option<u64>,
    pub(super) retry: Retry,
    pub(super) payload: Bytes,
    /// Several have this payload, so that nobody can tell which of them is meant.
    pub(super) shared: bool,
    pub(super) shortest_deadline: Option<u64>,
    pub(super) abandoned: bool,
    pub(super) created: bool,
    pub(super) alive: bool,
    pub(super) ended: bool,
    pub(super) queued: Option<Bytes>,
    /// The name that its client was told last.
    pub(super) handle: Option<Bytes>,
    /// It was cancelled, or was held by a server that keeps no jobs any more.
    pub(super) may_fail: bool,
    /// How many complete submissions have been written.
    pub(super) written: u32,
    /// How often a worker was given it.
    pub(super) runs: u32,
}

/// Whether a job can have come as far as is said.
pub(super) fn judge_phase(record: &Record, phase: Phase) {
    if !record.shared {
        match phase {
            Phase::Sending if !matches!(record.retry, Retry::Idempotent { .. }) => {
                assert_eq!(record.written, 0, "the job server has all of it");
            }
            Phase::Sent | Phase::Accepted | Phase::Running => assert!(record.written > 0, "{phase:?}, but never sent"),
            _ => {}
        }
    }
    match phase {
        Phase::Accepted => assert!(record.created, "Accepted without Created"),
        Phase::Running => assert!(record.created && record.alive, "Running without a sign of life"),
        _ => {}
    }
}

pub(super) struct Parts<'a> {
    pub(super) number: Option<usize>,
    pub(super) how: &'a str,
    pub(super) delay: u64,
}

pub(super) fn parts(payload: &[u8]) -> Parts<'_> {
    let text = std::str::from_utf8(payload).expect("our payloads are text");
    let mut parts = text.splitn(4, '|');
    let number = parts.next().and_then(|number| number.parse().ok());
    Parts {
        number,
        how: parts.next().unwrap_or_default(),
        delay: parts.next().and_then(|delay| delay.parse().ok()).unwrap_or_default(),
    }
}

pub(super) fn reversed(payload: &[u8]) -> Bytes {
    payload.iter().rev().copied().collect()
}
