//! A worker that reverses payloads.
//!
//! SIGTERM and SIGINT drain it: it grabs no more jobs, finishes those in hand, says good-bye and exits with status 0; what
//! is not done by the deadline goes back to the job servers, and the exit status is 1.

use std::error::Error;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
#[cfg(any(feature = "smol", feature = "tokio"))]
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use common::{Patience, Runtime, Servers, connecting, say};
use gearwheel::worker::Event;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod common;

/// Offers functions to Gearman job servers that reverse their payloads.
#[derive(Parser)]
#[command(
    after_help = "SIGTERM drains it: no more jobs are grabbed, those in hand are finished. The exit status is 1 if \
                        some were not done by the deadline of the drain. A job server that cannot be had is tried again \
                        after 100 ms, then at growing intervals up to 5 s; one that owes a reply is left after \
                        --reply-timeout, one that is quiet is probed after --probe-after."
)]
struct Arguments {
    #[command(flatten)]
    servers: Servers,
    /// A function to offer; give it once for each.
    #[arg(long = "function", value_name = "NAME", required = true)]
    functions: Vec<String>,
    /// Stop after so many jobs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Jobs run at once.
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrency: usize,
    /// The time limit of a job, in seconds.
    #[arg(long, value_name = "SECS", value_parser = common::seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    patience: Patience,
    /// The name under which job servers list the worker.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How long a drain may take, in seconds.
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = common::seconds)]
    drain: Duration,
    /// What drives the worker.
    #[arg(long, value_enum, default_value_t = Runtime::Blocking)]
    runtime: Runtime,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::end(match arguments.runtime {
        Runtime::Blocking => blocking(arguments),
        #[cfg(feature = "mio")]
        Runtime::Mio => mio(arguments),
        #[cfg(feature = "smol")]
        Runtime::Smol => smol(arguments),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => tokio(arguments),
    })
}

/// The worker of any runtime: they are described in the same words.
macro_rules! describe {
    ($runtime:ident, $arguments:expr, |$builder:ident, $function:ident| $add:expr) => {{
        let mut builder = connecting!(gearwheel::$runtime::Worker::builder(), $arguments.servers)
            .servers(&$arguments.servers.servers)
            .concurrency($arguments.concurrency)
            .configure(|config| $arguments.patience.apply(&mut config.connecting))
            .on_event(|event| match event {
                Event::Connected { address, .. } => say!("connected to {address}"),
                Event::Disconnected { address, reason, .. } => say!("disconnected from {address}: {reason}"),
                _ => {}
            });
        if let Some(id) = &$arguments.id {
            builder = builder.client_id(id.clone());
        }
        for $function in $arguments.functions.clone() {
            let $builder = builder;
            builder = $add;
        }
        builder.build()?
    }};
}

/// A worker whose jobs are taken by threads, one by one.
macro_rules! on_threads {
    ($runtime:ident, $arguments:expr) => {{
        let arguments = &$arguments;
        let worker = describe!($runtime, arguments, |builder, function| match arguments.timeout {
            Some(timeout) => builder.can_do_timeout(function, timeout),
            None => builder.can_do(function),
        });
        let draining = worker.clone();
        let within = arguments.drain;
        let drains = drain_on_signal(move || draining.drain(within).map_err(|error| error.to_string()))?;
        let (most, begun) = (arguments.jobs.unwrap_or(u64::MAX), AtomicU64::new(0));
        let taking = worker.clone();
        let work = move || {
            while let Some(task) = taking.next() {
                if begun.fetch_add(1, Ordering::Relaxed) + 1 == most {
                    // Before the last answer, so that no other job is grabbed along with it.
                    taking.finish();
                }
                let result = common::reversed(task.payload());
                if let Err(error) = task.complete(result) {
                    say!("a result was not sent: {error}");
                }
            }
        };
        (worker, arguments.concurrency, work, drains)
    }};
}

fn blocking(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let (worker, threads, work, drains) = on_threads!(blocking, arguments);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
    Ok(end(&drains, worker.counters().answered))
}

#[cfg(feature = "mio")]
fn mio(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let (worker, threads, work, drains) = on_threads!(mio, arguments);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
        // The loop has this thread.
        worker.run()
    })?;
    Ok(end(&drains, worker.counters().answered))
}

/// A worker whose jobs are futures.
#[cfg(any(feature = "smol", feature = "tokio"))]
macro_rules! as_futures {
    ($runtime:ident, $arguments:expr, $block_on:expr) => {{
        let arguments = &$arguments;
        let (most, begun) = (arguments.jobs.unwrap_or(u64::MAX), Arc::new(AtomicU64::new(0)));
        let last: Arc<OnceLock<gearwheel::$runtime::Worker>> = Arc::default();
        let worker = describe!($runtime, arguments, |builder, function| {
            let (begun, last) = (begun.clone(), last.clone());
            let run = move |task: gearwheel::$runtime::Task| {
                if begun.fetch_add(1, Ordering::Relaxed) + 1 == most
                    && let Some(worker) = last.get()
                {
                    // Before the last answer, so that no other job is grabbed along with it.
                    worker.finish();
                }
                async move { Ok(common::reversed(task.payload())) }
            };
            match arguments.timeout {
                Some(timeout) => builder.function_timeout(function, timeout, run),
                None => builder.function(function, run),
            }
        });
        let _ = last.set(worker.clone());
        let draining = worker.clone();
        let within = arguments.drain;
        let drain = move || futures_lite::future::block_on(draining.drain(within)).map_err(|error| error.to_string());
        let drains = drain_on_signal(drain)?;
        $block_on(worker.run());
        Ok(end(&drains, worker.counters().answered))
    }};
}

#[cfg(feature = "smol")]
fn smol(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    as_futures!(smol, arguments, async_io::block_on)
}

#[cfg(feature = "tokio")]
fn tokio(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    as_futures!(tokio, arguments, |run| runtime.block_on(run))
}

/// Waits for a drain that is under way; one that fails ends the process.
fn end(drains: &Receiver<JoinHandle<()>>, answered: u64) -> ExitCode {
    drains.try_iter().for_each(|drain| drop(drain.join()));
    say!("{answered} jobs answered");
    ExitCode::SUCCESS
}

/// At the first SIGTERM or SIGINT drains the worker, on a thread that it sends; at the second ends the process.
fn drain_on_signal(
    drain: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<Receiver<JoinHandle<()>>, Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (drains, receiver) = mpsc::channel();
    let drain = move || {
        say!("draining");
        if let Err(error) = drain() {
            say!("{error}");
            process::exit(1);
        }
    };
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            let _ = drains.send(thread::spawn(drain));
        }
        if let Some(signal) = signals.next() {
            process::exit(128 + signal);
        }
    });
    Ok(receiver)
}
