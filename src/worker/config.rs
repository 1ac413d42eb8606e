//! What a worker is to be, and what it counts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::address::Address;
use crate::histogram::Histogram;
use crate::link::Connecting;
use crate::machine::Limits;
use crate::random::Seed;
use crate::wire::PacketType;

/// What a worker is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The job servers, at least one, none twice.
    pub servers: Vec<Address>,
    /// The name under which job servers list the worker (SET_CLIENT_ID), without white space.
    pub client_id: Option<Box<str>>,
    /// What stands before the name of every function on the wire: a namespace of the worker's own. Default none.
    pub namespace: Option<Box<str>>,
    /// Jobs run at once, over all servers together. Default 1.
    pub concurrency: usize,
    /// Jobs that may wait here while `concurrency` others run: one round trip less a job, but they are kept from other
    /// workers. Counts as 0 while any function has a time limit, as its job server counts that from the assignment. Default 0.
    pub prefetch: usize,
    /// How jobs are asked for.
    pub grab: Grab,
    /// A worker that has slept for so long asks all the same, as job servers do lose wake-ups. `None`: never. Default 30 s.
    pub regrab_after: Option<Duration>,
    /// What a job server is told when a job passes its function's time limit: true for WORK_EXCEPTION with a text, false for
    /// WORK_FAIL. Default false.
    pub timeout_is_exception: bool,
    /// How it connects, and finds out that a server is dead. A worker waits 5 s at most between attempts, so that it is back
    /// within seconds of its server.
    pub connecting: Connecting,
    /// What it may hold.
    pub limits: Limits,
    /// Where its randomness comes from.
    pub seed: Seed,
}

impl Config {
    /// The defaults, without a server.
    #[must_use]
    pub fn new(seed: impl Into<Seed>) -> Self {
        Self {
            servers: Vec::new(),
            client_id: None,
            namespace: None,
            concurrency: 1,
            prefetch: 0,
            grab: Grab::Unique,
            regrab_after: Some(Duration::from_secs(30)),
            timeout_is_exception: false,
            connecting: Connecting { retry_most: Duration::from_secs(5), ..Connecting::default() },
            limits: Limits::default(),
            seed: seed.into(),
        }
    }
}

/// How jobs are asked for. A job server that refuses one form is asked with the next simpler one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Grab {
    /// GRAB_JOB: function and payload.
    Plain,
    /// GRAB_JOB_UNIQ: the unique, too.
    #[default]
    Unique,
    /// GRAB_JOB_ALL: the reducer, too.
    All,
}

impl Grab {
    pub(super) const fn packet(self) -> PacketType {
        match self {
            Self::Plain => PacketType::GRAB_JOB,
            Self::Unique => PacketType::GRAB_JOB_UNIQ,
            Self::All => PacketType::GRAB_JOB_ALL,
        }
    }

    pub(super) const fn simpler(self) -> Option<Self> {
        match self {
            Self::Plain => None,
            Self::Unique => Some(Self::Plain),
            Self::All => Some(Self::Unique),
        }
    }
}

/// How long the jobs of a worker took, since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// From being handed out to the answer. Jobs that were taken from the worker do not count.
    pub run: Histogram,
}

/// Plain counts since the worker was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Jobs assigned by job servers.
    pub assigned: u64,
    /// Jobs answered with a result, a failure or an exception that went out.
    pub answered: u64,
    /// Answers dropped as the job was no longer this worker's.
    pub dropped: u64,
    /// Jobs that passed their function's limit.
    pub timed_out: u64,
}
