//! Submits jobs and prints what becomes of them.
//!
//! Results go to stdout, one a line, in the order of the payloads; progress and warnings to stderr. The exit status is 0
//! only if every job completed, or was queued with `--background`.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::{PriorityArgument, Runtime, Servers};
use gearwheel::blocking::{JobError, JobEvent};
use gearwheel::{Job, Outcome};
use progress::Progress;

mod common;
#[path = "common/progress.rs"]
mod progress;

/// Jobs that are outstanding at once, at most.
const WINDOW: usize = 1_000;

/// Submits jobs to Gearman job servers and prints their results, one a line.
#[derive(Parser)]
#[command(after_help = "The exit status is 0 only if every job completed (with --background: was queued).")]
struct Arguments {
    #[command(flatten)]
    servers: Servers,
    /// The function to run.
    #[arg(long, value_name = "NAME")]
    function: String,
    /// Only queue the jobs, and print their handles instead of results.
    #[arg(long)]
    background: bool,
    /// Before or after which other jobs of the function.
    #[arg(long, value_enum, default_value_t = PriorityArgument::Normal)]
    priority: PriorityArgument,
    /// The unique of the jobs: job servers join jobs of one function and one unique.
    #[arg(long, value_name = "UNIQUE")]
    unique: Option<String>,
    /// Give a job up after so many seconds.
    #[arg(long, value_name = "SECS", value_parser = common::seconds)]
    timeout: Option<Duration>,
    /// Submit each payload so many times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// What drives the client.
    #[arg(long, value_enum, default_value_t = Runtime::Blocking)]
    runtime: Runtime,
    /// What to run the function on; `-` reads standard input.
    #[arg(value_name = "PAYLOAD", required = true)]
    payloads: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::end(match arguments.runtime {
        Runtime::Blocking => blocking(&arguments),
        #[cfg(feature = "mio")]
        Runtime::Mio => mio(&arguments),
        #[cfg(feature = "smol")]
        Runtime::Smol => smol(&arguments),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => tokio(&arguments),
    })
}

impl Arguments {
    fn jobs(&self) -> io::Result<Vec<Job>> {
        self.payloads.iter().map(|payload| self.job(payload)).collect()
    }

    fn job(&self, payload: &str) -> io::Result<Job> {
        let mut bytes = payload.as_bytes().to_vec();
        if payload == "-" {
            bytes.clear();
            io::stdin().read_to_end(&mut bytes)?;
        }
        let mut job = Job::new(self.function.clone(), bytes).priority(self.priority.into());
        if let Some(unique) = &self.unique {
            job = job.unique(unique.clone());
        }
        if let Some(timeout) = self.timeout {
            job = job.timeout(timeout);
        }
        Ok(if self.background { job.background() } else { job })
    }
}

/// Submits all jobs with the client of any runtime: `[]` for threads, `[.await]` for futures.
macro_rules! submit_all {
    ($client:expr, $arguments:expr, [$($await:tt)*]) => {{
        let arguments: &Arguments = $arguments;
        let client = $client;
        let jobs = arguments.jobs()?;
        let mut printer = Printer::new(jobs.len() * arguments.count);
        let mut outstanding = VecDeque::new();
        for job in jobs.iter().flat_map(|job| std::iter::repeat_n(job, arguments.count)) {
            outstanding.push_back(client.submit(job.clone())$($await)*?);
            if outstanding.len() == WINDOW
                && let Some(oldest) = outstanding.pop_front()
            {
                finish!(oldest, printer, [$($await)*]);
            }
        }
        for job in outstanding {
            finish!(job, printer, [$($await)*]);
        }
        printer.end()
    }};
}

/// Waits for the end of a job and prints what comes of it.
macro_rules! finish {
    ($job:expr, $printer:ident, [$($await:tt)*]) => {{
        let mut job = $job;
        while let Some(event) = job.next_event()$($await)* {
            $printer.event(event)?;
        }
    }};
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::blocking::Client;
    submit_all!(Client::builder().servers(&arguments.servers.servers).build()?, arguments, [])
}

#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::mio::Client;
    submit_all!(Client::builder().servers(&arguments.servers.servers).spawn()?, arguments, [])
}

#[cfg(feature = "smol")]
fn smol(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = gearwheel::smol::Client::builder().servers(&arguments.servers.servers).build()?;
    let driver = client.run();
    // No executor: the client's bytes are moved while its jobs are waited for.
    async_io::block_on(futures_lite::future::or(async { submit_all!(client, arguments, [.await]) }, async {
        driver.await;
        Err("the client has closed".into())
    }))
}

#[cfg(feature = "tokio")]
fn tokio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = gearwheel::tokio::Client::builder().servers(&arguments.servers.servers).build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(client.run());
    runtime.block_on(async { submit_all!(client, arguments, [.await]) })
}

/// Prints what becomes of jobs, one after another.
struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    progress: Progress,
    /// Of the job whose events come now.
    result: Vec<u8>,
    all_completed: bool,
}

impl Printer {
    fn new(jobs: usize) -> Self {
        let (out, progress) = (BufWriter::new(io::stdout().lock()), Progress::of(jobs));
        Self { out, progress, result: Vec::new(), all_completed: true }
    }

    fn event(&mut self, event: JobEvent) -> io::Result<()> {
        let Self { out, progress, result, all_completed } = self;
        match event {
            JobEvent::Data(part) => result.extend_from_slice(&part),
            JobEvent::Warning(warning) => progress.say(&format!("warning: {}", String::from_utf8_lossy(&warning))),
            JobEvent::Progress { numerator, denominator } => progress.job(numerator, denominator),
            JobEvent::Done(outcome) => {
                let mut result = std::mem::take(result);
                match outcome {
                    Outcome::Complete(rest) => {
                        result.extend_from_slice(&rest);
                        result.push(b'\n');
                        progress.end_of_job(out, |out| out.write_all(&result))?;
                    }
                    Outcome::Queued(handle) => progress.end_of_job(out, |out| writeln!(out, "{handle}"))?,
                    other => {
                        *all_completed = false;
                        // Results that came before belong before the complaint.
                        progress.end_of_job(out, Write::flush)?;
                        if let Err(error) = JobError::check(other) {
                            progress.say(&error.to_string());
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(mut self) -> Result<ExitCode, Box<dyn Error>> {
        self.out.flush()?;
        Ok(if self.all_completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
