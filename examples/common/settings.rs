//! The settings of a job server, as arguments: what is not given stays as it is.

use std::time::Duration;

use clap::Args;
use gearwheel::server::Config;

use super::common::seconds;

/// How the server behaves.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// How often a job may be given out again after its worker was lost; without limit if not given.
    #[arg(long, value_name = "N")]
    job_retries: Option<u32>,
    /// How many sleeping workers a new job wakes at most; 0, the default: all that can run it.
    #[arg(long, value_name = "N")]
    worker_wakeup: Option<u32>,
    /// Send exceptions to all clients, asked or not.
    #[arg(long)]
    exceptions: bool,
    /// What handles begin with, such as `H:name`.
    #[arg(long, value_name = "PREFIX")]
    handle_prefix: Option<String>,
    /// The least time limit that a worker can have for its jobs [default: 1].
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    min_job_timeout: Option<Duration>,
    /// The most bytes of a packet [default: 128 MiB].
    #[arg(long, value_name = "BYTES")]
    max_packet: Option<usize>,
    /// The most bytes that may wait for a connection to take them [default: 64 MiB].
    #[arg(long, value_name = "BYTES")]
    max_outgoing: Option<usize>,
    /// The most connections at once [default: 65,536].
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// The most jobs at once [default: 10,000,000].
    #[arg(long, value_name = "N")]
    max_jobs: Option<usize>,
    /// The most bytes of payloads and uniques of all jobs [default: 4 GiB].
    #[arg(long, value_name = "BYTES")]
    max_job_bytes: Option<usize>,
    /// The most functions known at once [default: 100,000].
    #[arg(long, value_name = "N")]
    max_functions: Option<usize>,
    /// The most pairs of a connection and a function that it can run [default: 1,000,000].
    #[arg(long, value_name = "N")]
    max_abilities: Option<usize>,
    /// The most bytes of packets that have begun to come, over all connections [default: 1 GiB].
    #[arg(long, value_name = "BYTES")]
    max_partial: Option<usize>,
    /// Close a connection that has too much to take and takes next to nothing for so many seconds [default: 5].
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    slow_reader: Option<Duration>,
    /// Close a worker's connection that holds a job and says nothing for so many seconds.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    silent_worker: Option<Duration>,
    /// Close any other connection that says nothing for so many seconds.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    idle: Option<Duration>,
    /// How many seconds NO_JOB may wait for a job where that saves packets [default: 0.001; with smol 0].
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    patience: Option<Duration>,
    /// Whether results for a client with many jobs leave together [default: with mio].
    #[arg(long, value_name = "BOOL")]
    gather_results: Option<bool>,
    /// Obey the admin command `shutdown` of a client on this machine.
    #[arg(long)]
    allow_shutdown: bool,
}

impl Settings {
    pub(crate) fn apply(&self, config: &mut Config) {
        config.job_retries = self.job_retries;
        config.exceptions = self.exceptions;
        config.silent_worker = self.silent_worker;
        config.idle = self.idle;
        config.allow_shutdown = self.allow_shutdown;
        set(&mut config.worker_wakeup, &self.worker_wakeup);
        set(&mut config.handle_prefix, &self.handle_prefix);
        set(&mut config.min_job_timeout, &self.min_job_timeout);
        set(&mut config.limits.max_packet, &self.max_packet);
        set(&mut config.limits.max_outgoing, &self.max_outgoing);
        set(&mut config.max_connections, &self.max_connections);
        set(&mut config.max_jobs, &self.max_jobs);
        set(&mut config.max_job_bytes, &self.max_job_bytes);
        set(&mut config.max_functions, &self.max_functions);
        set(&mut config.max_abilities, &self.max_abilities);
        set(&mut config.max_partial, &self.max_partial);
        set(&mut config.slow_reader, &self.slow_reader);
        set(&mut config.patience, &self.patience);
        set(&mut config.gather_results, &self.gather_results);
    }
}

fn set<T: Clone>(setting: &mut T, given: &Option<T>) {
    given.iter().for_each(|given| setting.clone_from(given));
}
