//! A worker that reverses payloads.
//!
//! SIGTERM and SIGINT drain it: it grabs no more jobs, finishes those in hand, says good-bye and exits with status 0; what
//! is not done by the deadline goes back to the job servers, and the exit status is 1.

use std::error::Error;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use common::{Runtime, Servers};
use gearwheel::blocking::WorkerBuilder;
use gearwheel::worker::{Counters, Event};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod common;

/// Offers functions to Gearman job servers that reverse their payloads.
#[derive(Parser)]
#[command(
    after_help = "SIGTERM drains it: no more jobs are grabbed, those in hand are finished. The exit status is 1 if \
                        some were not done by the deadline of the drain."
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
        Runtime::Blocking => blocking(&arguments),
        #[cfg(feature = "mio")]
        Runtime::Mio => mio(&arguments),
        #[cfg(feature = "smol")]
        Runtime::Smol => describe(gearwheel::smol::Worker::builder(), &arguments)
            .build()
            .map_err(Into::into)
            .and_then(|worker| async_io::block_on(futures(worker, &arguments))),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => describe(gearwheel::tokio::Worker::builder(), &arguments)
            .build()
            .map_err(Into::into)
            .and_then(|worker| common::on_tokio(futures(worker, &arguments))),
    })
}

/// The worker that the arguments ask for, on any runtime.
fn describe<W, H>(mut builder: WorkerBuilder<W, H>, arguments: &Arguments) -> WorkerBuilder<W, H> {
    builder =
        builder.servers(&arguments.servers.servers).concurrency(arguments.concurrency).on_event(|event| match event {
            Event::Connected { server } => eprintln!("connected to {server:?}"),
            Event::Disconnected { server, reason, .. } => eprintln!("disconnected from {server:?}: {reason}"),
            _ => {}
        });
    if let Some(id) = &arguments.id {
        builder = builder.client_id(id.clone());
    }
    for function in &arguments.functions {
        builder = match arguments.timeout {
            Some(timeout) => builder.can_do_timeout(function.clone(), timeout),
            None => builder.can_do(function.clone()),
        };
    }
    builder
}

/// The same words for every runtime: `[]` where they block, `[.await]` where they are futures.
macro_rules! work {
    ($worker:expr, $most:expr, $begun:expr, [$($await:tt)*]) => {
        while let Some(task) = $worker.next()$($await)* {
            if $begun.fetch_add(1, Ordering::Relaxed) + 1 == $most {
                // Before the last answer, so that no other job is grabbed along with it.
                $worker.finish();
            }
            let result = common::reversed(task.payload());
            if let Err(error) = task.complete(result) {
                eprintln!("a result was not sent: {error}");
            }
        }
    };
}

/// A thread for each job that may run at once.
macro_rules! work_on_threads {
    ($worker:expr, $arguments:expr) => {{
        let (worker, within) = ($worker, $arguments.drain);
        let drains = drain_on_signal({
            let worker = worker.clone();
            move || worker.drain(within)
        })?;
        let (most, begun) = ($arguments.jobs.unwrap_or(u64::MAX), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..$arguments.concurrency {
                scope.spawn(|| work!(worker, most, begun, []));
            }
        });
        end(&drains, worker.counters())
    }};
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    work_on_threads!(describe(gearwheel::blocking::Worker::builder(), arguments).build()?, arguments)
}

/// One more thread moves the bytes.
#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    work_on_threads!(describe(gearwheel::mio::Worker::builder(), arguments).spawn()?, arguments)
}

/// Everything on this thread, one job after another: reversing a payload never waits.
#[cfg(any(feature = "smol", feature = "tokio"))]
async fn futures<R: gearwheel::future::Runtime>(
    worker: gearwheel::future::Worker<R>,
    arguments: &Arguments,
) -> Result<ExitCode, Box<dyn Error>> {
    let within = arguments.drain;
    let drains = drain_on_signal({
        let worker = worker.clone();
        move || futures_lite::future::block_on(worker.drain(within))
    })?;
    let (most, begun) = (arguments.jobs.unwrap_or(u64::MAX), AtomicU64::new(0));
    common::beside(worker.run(), async { work!(worker, most, begun, [.await]) }).await;
    end(&drains, worker.counters())
}

/// What is left to say and to wait for.
fn end(drains: &Receiver<JoinHandle<()>>, counters: Counters) -> Result<ExitCode, Box<dyn Error>> {
    // A drain that fails ends the process.
    drains.try_iter().for_each(|drain| drop(drain.join()));
    eprintln!("{} jobs answered", counters.answered);
    Ok(ExitCode::SUCCESS)
}

/// At the first SIGTERM or SIGINT drains the worker, on a thread that it sends; at the second ends the process.
fn drain_on_signal(
    drain: impl FnOnce() -> Result<(), gearwheel::blocking::Error> + Send + 'static,
) -> Result<Receiver<JoinHandle<()>>, Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (drains, receiver) = mpsc::channel();
    let drain = move || {
        eprintln!("draining");
        if let Err(error) = drain() {
            eprintln!("{error}");
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
