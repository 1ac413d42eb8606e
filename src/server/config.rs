//! What a job server can be told before it starts.

use alloc::string::String;
use core::time::Duration;

use crate::error::ConfigError;
use crate::machine::Limits;
use crate::random::Seed;

/// Bytes that a handle may have.
pub(super) const MAX_HANDLE: usize = 63;
/// The bytes of a colon and the largest number.
const NUMBER: usize = 21;

/// How a [`Server`](super::Server) behaves. Each limit says what happens when it is met.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// 32 bytes from the operating system's source of randomness, or fixed ones in a test: they key the tables that hold
    /// what peers choose, so that nobody can make them slow. No output depends on them.
    pub seed: Seed,
    /// What stands before the colon and the number in a handle. At most 42 bytes, no NUL, no white space. gearmand takes
    /// `H:` and the host name. Default `H:gearwheel`.
    pub handle_prefix: String,
    /// How often a job may be given out again after its worker was lost, timed out or said CANT_DO. Beyond that it has
    /// failed: WORK_FAIL to those who wait. `None`, the default: for ever, as gearmand. (`Some(0)` is gearmand 2's
    /// `--job-retries=0`.)
    pub job_retries: Option<u32>,
    /// How many sleeping workers a new job wakes at most. Zero, the default: all that can run it, as gearmand.
    pub worker_wakeup: u32,
    /// Whether every connection begins with the option `exceptions` set. Default false, as gearmand.
    pub exceptions: bool,
    /// The least limit that CAN_DO_TIMEOUT can set: smaller ones count as this. Default 1 s, as gearmand.
    pub min_job_timeout: Duration,
    /// The general limits of a machine. Of these a server heeds `max_packet` (a larger packet gets an ERROR and its
    /// connection is closed), `max_outgoing` (see [`slow_reader`](Self::slow_reader)) and `max_events`.
    pub limits: Limits,
    /// Connections at once; the next ones are not accepted. Default 65,536.
    pub max_connections: usize,
    /// Jobs at once, and clients waiting for them; the next submission gets ERROR `QUEUE_ERROR`. Default 10,000,000.
    pub max_jobs: usize,
    /// Bytes of payloads and uniques of all jobs at once; a submission beyond gets ERROR `QUEUE_ERROR`. Default 4 GiB
    /// (on 32-bit machines 1 GiB).
    pub max_job_bytes: usize,
    /// Functions known at once, as each stays listed until `drop function`. Beyond it an idle one is forgotten for each
    /// new one; where none is idle, ERROR `QUEUE_ERROR`. Default 100,000.
    pub max_functions: usize,
    /// Pairs of a connection and a function it can run; beyond it CAN_DO gets ERROR `QUEUE_ERROR`. Default 1,000,000.
    pub max_abilities: usize,
    /// Bytes of packets that have begun to come and are not whole, over all connections; beyond it the connection whose
    /// packet grows is closed. Default 1 GiB (on 32-bit machines 256 MiB).
    pub max_partial: usize,
    /// A connection with more than three quarters of `limits.max_outgoing` bytes to read is congested: those who send it
    /// results, or wake it by a job, are no more read from until it has but half of the limit left. So is it itself while
    /// it has more than the limit; as far as that it may go on submitting jobs without reading. One that takes and sends
    /// less than a 64th of the limit in this time is closed; what it sends counts until that is as much as the limit.
    /// So is one that is to be closed and does not take its last bytes. Default 5 s.
    pub slow_reader: Duration,
    /// A connection that holds a job and sends nothing for so long is closed and its jobs given to others. A worker must
    /// then send something more often (ECHO_REQ, WORK_STATUS; the worker of this crate does). `None`, the default: never,
    /// as gearmand.
    pub silent_worker: Option<Duration>,
    /// A connection that holds no job and sends nothing for so long is closed. Default `None`: never.
    pub idle: Option<Duration>,
    /// How long an answer may wait where that saves packets. NO_JOB: the grab of a worker that has just ended a job somebody
    /// waited for is likely to be followed by the next job, and waits so long for it, unless waiting has been in vain lately.
    /// JOB_CREATED: where a worker that took less than this for its last job (of a function without a time limit) has waited
    /// for this one, and the client waits for nothing else, it comes with the result or any other packet; for a client with
    /// many jobs see [`gather_results`](Self::gather_results). Zero, the default: never, as gearmand. The servers of the
    /// runtimes set 1 ms (but smol's, where it saves nothing), with which one job after another takes less than half as many
    /// system calls.
    pub patience: Duration,
    /// Whether results and handles for a client that waits for 12 jobs or more leave together: up to a quarter of as many
    /// results as it waits for, 16 at most, and up to 16 KiB. They wait as long as there is more to read, for which the
    /// server asks for ticks at once; results also for [`patience`](Self::patience), where one has followed the other within
    /// that. So do the handles of foreground jobs then, if the client has submitted this job or the one before without having
    /// the handle of the last; other handles take along what waits. It spares server and client writes and wake-ups. It is of
    /// use where the driver looks for more to read before it ticks. Default false; the server on mio sets it.
    pub gather_results: bool,
    /// Whether the admin commands `shutdown` and `shutdown graceful` work, and then only from this machine. gearmand has
    /// them no more. Default false: they are unknown commands.
    pub allow_shutdown: bool,
    /// What the admin command `version` says behind `OK`. Default: the version of this crate.
    pub version: String,
    /// What the admin command `verbose` says behind `OK`. Default `ERROR`, as gearmand.
    pub verbose: String,
    /// What the admin command `getpid` says. The core cannot know it. Default 0.
    pub process_id: u32,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(seed: impl Into<Seed>) -> Self {
        Self {
            seed: seed.into(),
            handle_prefix: "H:gearwheel".into(),
            job_retries: None,
            worker_wakeup: 0,
            exceptions: false,
            min_job_timeout: Duration::from_secs(1),
            limits: Limits::default(),
            max_connections: 65_536,
            max_jobs: 10_000_000,
            max_job_bytes: usize::try_from(4_u64 << 30).unwrap_or(1 << 30),
            max_functions: 100_000,
            max_abilities: 1_000_000,
            max_partial: if usize::BITS > 32 { 1 << 30 } else { 256 << 20 },
            slow_reader: Duration::from_secs(5),
            silent_worker: None,
            idle: None,
            patience: Duration::ZERO,
            gather_results: false,
            allow_shutdown: false,
            version: env!("CARGO_PKG_VERSION").into(),
            verbose: "ERROR".into(),
            process_id: 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_name("handle prefix", self.handle_prefix.as_bytes(), MAX_HANDLE - NUMBER)?;
        if self.handle_prefix.is_empty() || self.handle_prefix.contains(char::is_whitespace) {
            return Err(ConfigError::NotAWord("handle prefix"));
        }
        for (what, number) in [
            ("max_connections", self.max_connections),
            ("max_jobs", self.max_jobs),
            ("max_functions", self.max_functions),
            ("max_abilities", self.max_abilities),
            ("limits.max_packet", self.limits.max_packet),
            ("limits.max_outgoing", self.limits.max_outgoing),
            ("limits.max_events", self.limits.max_events),
        ] {
            if number == 0 {
                return Err(ConfigError::Zero(what));
            }
        }
        let durations =
            [("slow_reader", Some(self.slow_reader)), ("silent_worker", self.silent_worker), ("idle", self.idle)];
        for (what, duration) in durations {
            if duration.is_some_and(|duration| duration.is_zero()) {
                return Err(ConfigError::BadDuration { what, must_be: "more than zero" });
            }
        }
        Ok(())
    }
}
