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
use gearwheel::blocking::Worker;
use gearwheel::worker::Event;
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
        Runtime::Blocking => blocking(arguments),
    })
}

fn blocking(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let mut builder = Worker::builder()
        .servers(&arguments.servers.servers)
        .concurrency(arguments.concurrency)
        .on_event(|event| match event {
            Event::Connected { server } => eprintln!("connected to {server:?}"),
            Event::Disconnected { server, reason, .. } => eprintln!("disconnected from {server:?}: {reason}"),
            _ => {}
        });
    if let Some(id) = arguments.id {
        builder = builder.client_id(id);
    }
    for function in arguments.functions {
        builder = match arguments.timeout {
            Some(timeout) => builder.can_do_timeout(function, timeout),
            None => builder.can_do(function),
        };
    }
    let worker = builder.build()?;
    let drains = drain_on_signal(worker.clone(), arguments.drain)?;

    let (most, begun) = (arguments.jobs.unwrap_or(u64::MAX), AtomicU64::new(0));
    let work = || {
        while let Some(task) = worker.next() {
            if begun.fetch_add(1, Ordering::Relaxed) + 1 == most {
                // Before the last answer, so that no other job is grabbed along with it.
                worker.finish();
            }
            let result = common::reversed(task.payload());
            if let Err(error) = task.complete(result) {
                eprintln!("a result was not sent: {error}");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..arguments.concurrency {
            scope.spawn(work);
        }
    });
    // A drain that fails ends the process.
    drains.try_iter().for_each(|drain| drop(drain.join()));
    eprintln!("{} jobs answered", worker.counters().answered);
    Ok(ExitCode::SUCCESS)
}

/// At the first SIGTERM or SIGINT drains the worker, on a thread that it sends; at the second ends the process.
fn drain_on_signal(worker: Worker, within: Duration) -> Result<Receiver<JoinHandle<()>>, Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (drains, receiver) = mpsc::channel();
    let drain = move || {
        eprintln!("draining");
        if let Err(error) = worker.drain(within) {
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
