//! What the arguments of the examples have in common.
#![allow(dead_code, reason = "each example uses some of it")]

use std::fmt::Display;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
#[cfg(feature = "tls")]
use gearwheel::tls::{self, ClientTls, Identity, Roots};
use gearwheel::{Address, Connecting, Priority};

/// Says a line on stderr, if somebody listens: where the other end of a pipe is closed, `eprintln!` would panic, and whatever
/// thread called it would not do its work any more.
#[allow(unused_macros, clippy::allow_attributes, reason = "each example uses some of it")]
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}
#[allow(unused_imports, clippy::allow_attributes, reason = "each example uses some of it")]
pub(crate) use say;

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
    /// A job server; give it once for each. Without a port it is 4730. unix:PATH is a Unix socket.
    #[arg(long = "server", value_name = "HOST:PORT", env = "GEARMAN_SERVERS", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<Address>,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: Tls,
}

/// TLS of those who connect.
#[cfg(feature = "tls")]
#[derive(Args, Clone, Debug)]
pub(crate) struct Tls {
    /// Connect by TLS, and trust job servers whose certificate is signed by a CA in this PEM file.
    #[arg(long = "tls-ca", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Show job servers that ask the certificate in this PEM file.
    #[arg(long = "tls-cert", value_name = "FILE", requires = "tls_ca", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in this PEM file.
    #[arg(long = "tls-key", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name that job servers' certificates must be for, instead of their host.
    #[arg(long = "tls-name", value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// `None`: the connections are to be plain.
    pub(crate) fn settings(&self) -> Result<Option<ClientTls>, tls::Error> {
        let Some(ca) = &self.tls_ca else { return Ok(None) };
        let mut tls = ClientTls::new(Roots::from_pem_file(ca)?)?;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = tls.identity(Identity::from_pem_files(certificate, key)?);
        }
        Ok(Some(match &self.tls_name {
            Some(name) => tls.server_name(name)?,
            None => tls,
        }))
    }
}

/// A builder with the TLS by which its servers are to be connected to.
#[allow(unused_macros, clippy::allow_attributes, reason = "each example uses some of it")]
macro_rules! connecting {
    ($builder:expr, $servers:expr) => {{
        let builder = $builder;
        #[cfg(feature = "tls")]
        let builder = match $servers.tls.settings()? {
            Some(tls) => builder.tls(tls),
            None => builder,
        };
        builder
    }};
}
#[allow(unused_imports, clippy::allow_attributes, reason = "each example uses some of it")]
pub(crate) use connecting;

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
        say!("{error}");
        ExitCode::FAILURE
    })
}
