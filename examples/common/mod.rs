//! What the arguments of the examples have in common.
#![allow(dead_code, reason = "each example uses some of it")]

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gearwheel::{Address, Connecting, Priority};

/// Which runtime drives the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Threads and blocking sockets of the standard library.
    Blocking,
    /// A mio loop on a thread of its own.
    #[cfg(feature = "mio")]
    Mio,
    /// Futures on async-io's sockets, on one thread.
    #[cfg(feature = "smol")]
    Smol,
    /// Futures on tokio, on all its threads.
    #[cfg(feature = "tokio")]
    Tokio,
}

/// The job servers of a client or worker.
#[derive(Args, Clone, Debug)]
pub(crate) struct Servers {
    /// A job server; give it once for each. Without a port it is 4730.
    #[arg(long = "server", value_name = "HOST:PORT", env = "GEARMAN_SERVERS", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<Address>,
}

/// How long job servers are waited for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Patience {
    /// How long a connection attempt may take, in seconds.
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    connect_timeout: Duration,
    /// How long a job server may owe a reply, in seconds; then its connection is closed.
    #[arg(long, value_name = "SECS", default_value = "15", value_parser = seconds)]
    reply_timeout: Duration,
    /// How long a connection may be quiet before it is probed, in seconds.
    #[arg(long, value_name = "SECS", default_value = "15", value_parser = seconds)]
    probe_after: Duration,
}

impl Patience {
    pub(crate) fn apply(&self, connecting: &mut Connecting) {
        connecting.connect_timeout = self.connect_timeout;
        connecting.reply_timeout = self.reply_timeout;
        connecting.probe_after = Some(self.probe_after);
    }
}

/// The priority of a job, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PriorityArgument {
    /// Before all others.
    High,
    /// The usual.
    Normal,
    /// After all others.
    Low,
}

impl From<PriorityArgument> for Priority {
    fn from(argument: PriorityArgument) -> Self {
        match argument {
            PriorityArgument::High => Self::High,
            PriorityArgument::Normal => Self::Normal,
            PriorityArgument::Low => Self::Low,
        }
    }
}

/// What the examples' workers do: a payload backwards.
pub(crate) fn reversed(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}

/// A number of seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text:?} seconds: {error}"))
}

/// The result of an example: its exit code, or an error that is said on stderr.
pub(crate) fn end(result: Result<ExitCode, impl Display>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
