//! What a client is to be, and what it counts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::address::Address;
use crate::balancer::Balance;
use crate::histogram::Histogram;
use crate::job::{Deadlines, Retry};
use crate::link::Connecting;
use crate::machine::Limits;
use crate::random::Seed;

/// What a client is to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The job servers, at least one, none twice.
    pub servers: Vec<Address>,
    /// Which of them gets a job.
    pub balance: Balance,
    /// How it connects, and finds out that a server is dead.
    pub connecting: Connecting,
    /// The deadlines of jobs that have none of their own.
    pub deadlines: Deadlines,
    /// What happens to lost jobs that do not say so themselves.
    pub retry: Retry,
    /// Whether job servers are asked to send exceptions (OPTION_REQ `exceptions`); else a job that throws just fails.
    /// Default true.
    pub exceptions: bool,
    /// What stands before the name of every function: a namespace of the client's own, without NULs. With it a name may have
    /// [`MAX_FUNCTION`](crate::MAX_FUNCTION) bytes. Default none.
    pub namespace: Option<Box<str>>,
    /// The name under which job servers list the client (SET_CLIENT_ID), without white space.
    pub client_id: Option<Box<str>>,
    /// How long the submission of a foreground job may wait for others, to leave with them, where a job server has 25 jobs of
    /// this client or more and they end one or two at a time, each within this time after the one before: then the client,
    /// the job server and the worker would write, read and answer one packet at a time. So many wait that eight times as
    /// many are with the job server still, and 64 at most; a background job, a request or
    /// [`flush`](super::Client::flush) takes them along. A job for which a worker is free begins so much later. Zero: none
    /// waits. More than half of [`reply_timeout`](Connecting::reply_timeout), which runs meanwhile, counts as that. Default
    /// of a machine zero, of all handles 1 ms.
    pub gather: Duration,
    /// What happens when the user of a job does not read what comes of it. Default of a machine [`Unread::Polled`], of all
    /// handles [`Unread::Overflow`].
    pub unread: Unread,
    /// What it may hold.
    pub limits: Limits,
    /// Where its randomness comes from: jitter, generated uniques, the hash of its tables.
    pub seed: Seed,
}

impl Config {
    /// The defaults, without a server.
    #[must_use]
    pub fn new(seed: impl Into<Seed>) -> Self {
        Self {
            servers: Vec::new(),
            balance: Balance::Sequence,
            connecting: Connecting::default(),
            deadlines: Deadlines { accept: Some(Duration::from_secs(30)), total: None, idle: None },
            retry: Retry::Unsent,
            exceptions: true,
            namespace: None,
            client_id: None,
            gather: Duration::ZERO,
            unread: Unread::Polled,
            limits: Limits::default(),
            seed: seed.into(),
        }
    }
}

/// What happens when the user of a job does not read its WORK_DATA and WORK_WARNING, and
/// [`Limits::max_unread`] bytes of them wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unread {
    /// An event counts as read as soon as it is polled: whoever polls the machine bounds what he keeps. For handles the same
    /// as [`Overflow`](Self::Overflow).
    #[default]
    Polled,
    /// The job ends as [`Outcome::Overflow`](crate::Outcome::Overflow); its other events so far can still be read, and
    /// nobody else is touched.
    Overflow,
    /// Its connection is no longer read until half of it has been read by the user: the job server has to wait, and in the
    /// end the worker.
    ///
    /// This is head-of-line blocking: **all** jobs and requests of that connection wait for the one user who does not read,
    /// and so does one who waits for one job before he reads another. Meanwhile nobody can see whether the server lives; it
    /// is not probed, and no reply is missed. The deadlines of the jobs go on, and a job that ends by one, or is abandoned,
    /// holds nothing up any more.
    Pause,
}

/// How long the jobs of a client took, since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// From `submit` to JOB_CREATED: parking, connecting and earlier attempts included. A round trip, where the job server
    /// is connected and not busy.
    pub accept: Histogram,
    /// From `submit` to the end, whatever the outcome.
    pub total: Histogram,
}

/// Plain counts since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Jobs taken by `submit`.
    pub submitted: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Further attempts at a job.
    pub retried: u64,
    /// Packets for jobs that had ended or were never known.
    pub late: u64,
    /// Jobs that ended as [`Outcome::Overflow`](crate::Outcome::Overflow).
    pub overflowed: u64,
}
