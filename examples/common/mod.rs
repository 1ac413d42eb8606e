//! What the arguments of the examples have in common.
#![allow(dead_code, reason = "each example uses some of it")]

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gearwheel::{Address, Priority};

/// Which runtime drives the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Threads and blocking sockets of the standard library.
    Blocking,
    /// One thread and mio.
    #[cfg(feature = "mio")]
    Mio,
    /// Futures on async-io, which smol is made of.
    #[cfg(feature = "smol")]
    Smol,
    /// Futures on tokio.
    #[cfg(feature = "tokio")]
    Tokio,
}

/// Runs a future of this program to its end on tokio's current-thread runtime.
#[cfg(feature = "tokio")]
pub(crate) fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has what a runtime needs").block_on(future)
}

/// `work` to its end, with the `drivers` that it needs beside it.
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) async fn beside<T>(drivers: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    // A driver ends when its machine is closed: what has come until then is still to be looked at.
    let drivers = async {
        drivers.await;
        std::future::pending().await
    };
    futures_lite::future::or(work, drivers).await
}

/// The job servers of a client or worker.
#[derive(Args, Clone, Debug)]
pub(crate) struct Servers {
    /// A job server; give it once for each. Without a port it is 4730.
    #[arg(long = "server", value_name = "HOST:PORT", env = "GEARMAN_SERVERS", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<Address>,
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
