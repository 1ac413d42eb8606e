//! Submits jobs and prints what becomes of them.
//!
//! Results go to stdout, one a line, in the order of the payloads; progress and warnings to stderr. The exit status is 0
//! only if every job completed, or was queued with `--background`.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::{Patience, PriorityArgument, Runtime, Servers, connecting};
use gearwheel::blocking::{JobError, JobEvent};
use gearwheel::client::Config;
use gearwheel::{Job, Outcome, Reason, Rejected, Retry};
use progress::Progress;

mod common;
#[path = "common/progress.rs"]
mod progress;

/// Jobs that are outstanding at once, at most.
const WINDOW: usize = 1_000;
/// Bytes of them that wait to be printed, at most.
const UNREAD: usize = 256 << 20;
/// Warnings of one job that are shown: whoever sends many must not have them hold up the end of the job.
const WARNINGS: usize = 1_000;

/// Submits jobs to Gearman job servers and prints their results, one a line.
#[derive(Parser)]
#[command(
    after_help = "The exit status is 0 only if every job completed (with --background: was queued). No job takes longer than \
                  --timeout, 60 s unless told otherwise. Before that end: a job that no server can be had for, or accepts, \
                  after 30 s; one whose server owes a reply, after --reply-timeout; one whose server has died in silence, \
                  after --probe-after and --reply-timeout."
)]
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
    /// Give a job up after so many seconds; 0 waits for ever.
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = common::seconds)]
    timeout: Duration,
    #[command(flatten)]
    patience: Patience,
    /// Submit a lost job again, up to so many times in all: for jobs that may run twice.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// Give a job up when its result is larger, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    max_result: usize,
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
        if !self.timeout.is_zero() {
            job = job.timeout(self.timeout);
        }
        if self.attempts > 1 {
            job = job.retry(Retry::Idempotent { attempts: self.attempts });
        }
        Ok(if self.background { job.background() } else { job })
    }

    fn configure(&self, config: &mut Config) {
        self.patience.apply(&mut config.connecting);
        // Only the oldest job is read; what the others say meanwhile waits.
        config.limits.max_unread_total = UNREAD;
    }
}

/// Submits all jobs with the client of any runtime: `[]` for threads, `[.await]` for futures.
macro_rules! submit_all {
    ($Pending:ty, $client:expr, $arguments:expr, [$($await:tt)*]) => {{
        let arguments: &Arguments = $arguments;
        let client = $client;
        let jobs = arguments.jobs()?;
        let mut printer = Printer::new(jobs.len() * arguments.count, arguments.max_result);
        let mut outstanding = VecDeque::<$Pending>::new();
        for job in jobs.iter().flat_map(|job| std::iter::repeat_n(job, arguments.count)) {
            let submitted = loop {
                match client.try_submit(job.clone()) {
                    // No room: the oldest comes to its end first, so that large results do not pile up.
                    Err(Rejected { reason: Reason::Full { .. }, value, .. }) => match outstanding.pop_front() {
                        Some(oldest) => finish!(oldest, printer, [$($await)*]),
                        None => break client.submit(value)$($await)*,
                    },
                    submitted => break submitted,
                }
            };
            outstanding.push_back(submitted?);
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
            if !$printer.event(event)? {
                break;
            }
        }
    }};
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::blocking::{Client, Pending};
    submit_all!(
        Pending,
        connecting!(Client::builder(), arguments.servers)
            .servers(&arguments.servers.servers)
            .configure(|config| arguments.configure(config))
            .build()?,
        arguments,
        []
    )
}

#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::mio::{Client, Pending};
    submit_all!(
        Pending,
        connecting!(Client::builder(), arguments.servers)
            .servers(&arguments.servers.servers)
            .configure(|config| arguments.configure(config))
            .spawn()?,
        arguments,
        []
    )
}

#[cfg(feature = "smol")]
fn smol(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = connecting!(gearwheel::smol::Client::builder(), arguments.servers)
        .servers(&arguments.servers.servers)
        .configure(|config| arguments.configure(config))
        .build()?;
    let driver = client.run();
    // No executor: the client's bytes are moved while its jobs are waited for.
    async_io::block_on(futures_lite::future::or(
        async { submit_all!(gearwheel::smol::Pending, client, arguments, [.await]) },
        async {
            driver.await;
            Err("the client has closed".into())
        },
    ))
}

#[cfg(feature = "tokio")]
fn tokio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = connecting!(gearwheel::tokio::Client::builder(), arguments.servers)
        .servers(&arguments.servers.servers)
        .configure(|config| arguments.configure(config))
        .build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(client.run());
    runtime.block_on(async { submit_all!(gearwheel::tokio::Pending, client, arguments, [.await]) })
}

/// Prints what becomes of jobs, one after another.
struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    progress: Progress,
    /// Of the job whose events come now.
    result: Vec<u8>,
    warnings: usize,
    max_result: usize,
    all_completed: bool,
}

impl Printer {
    fn new(jobs: usize, max_result: usize) -> Self {
        let (out, progress) = (BufWriter::new(io::stdout().lock()), Progress::of(jobs));
        Self { out, progress, result: Vec::new(), warnings: 0, max_result, all_completed: true }
    }

    /// False: nothing more is wanted of the job.
    fn event(&mut self, event: JobEvent) -> io::Result<bool> {
        let Self { out, progress, result, warnings, max_result, all_completed } = self;
        match event {
            JobEvent::Data(part) if result.len() + part.len() > *max_result => {
                result.clear();
                (*warnings, *all_completed) = (0, false);
                progress.end_of_job(out, Write::flush)?;
                progress.say(&format!("the result is larger than {max_result} bytes: given up"));
                return Ok(false);
            }
            JobEvent::Data(part) => result.extend_from_slice(&part),
            // Tried again: what came before is of no account.
            JobEvent::Created { .. } => result.clear(),
            JobEvent::Warning(warning) => {
                *warnings += 1;
                match (*warnings).cmp(&WARNINGS) {
                    Ordering::Less => progress.say(&format!("warning: {}", String::from_utf8_lossy(&warning))),
                    Ordering::Equal => progress.say("further warnings of this job are not shown"),
                    Ordering::Greater => {}
                }
            }
            JobEvent::Progress { numerator, denominator } => progress.job(numerator, denominator),
            JobEvent::Done(outcome) => {
                *warnings = 0;
                let mut result = std::mem::take(result);
                match outcome {
                    Outcome::Complete(rest) => {
                        result.extend_from_slice(&rest);
                        result.push(b'\n');
                        progress.end_of_job(out, |out| out.write_all(&result))?;
                    }
                    Outcome::Queued { handle, .. } => progress.end_of_job(out, |out| writeln!(out, "{handle}"))?,
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
        Ok(true)
    }

    fn end(mut self) -> Result<ExitCode, Box<dyn Error>> {
        self.out.flush()?;
        Ok(if self.all_completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
