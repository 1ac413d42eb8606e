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
#[cfg(any(feature = "smol", feature = "tokio"))]
use gearwheel::blocking::ClientBuilder;
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
        Runtime::Smol => async_io::block_on(futures(gearwheel::smol::Client::builder(), &arguments)),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => common::on_tokio(futures(gearwheel::tokio::Client::builder(), &arguments)),
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

/// The same words for every runtime: `[]` where they block, `[.await]` where they are futures.
macro_rules! submit_all {
    ($client:expr, $arguments:expr, [$($await:tt)*]) => {{
        let jobs = $arguments.jobs()?;
        let mut output = Output::of(jobs.len() * $arguments.count);
        let mut outstanding = VecDeque::new();
        for job in jobs {
            for _ in 0..$arguments.count {
                outstanding.push_back($client.submit(job.clone())$($await)*?);
                if outstanding.len() == WINDOW
                    && let Some(mut oldest) = outstanding.pop_front()
                {
                    show_all!(oldest, output, [$($await)*]);
                }
            }
        }
        for mut job in outstanding {
            show_all!(job, output, [$($await)*]);
        }
        output.end()
    }};
}

macro_rules! show_all {
    ($job:expr, $output:expr, [$($await:tt)*]) => {
        while let Some(event) = $job.next_event()$($await)* {
            $output.show(event)?;
        }
    };
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = gearwheel::blocking::Client::builder().servers(&arguments.servers.servers).build()?;
    submit_all!(client, arguments, [])
}

/// The client has a thread of its own.
#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = gearwheel::mio::Client::builder().servers(&arguments.servers.servers).spawn()?;
    submit_all!(client, arguments, [])
}

#[cfg(any(feature = "smol", feature = "tokio"))]
async fn futures<R: gearwheel::future::Runtime>(
    builder: ClientBuilder<gearwheel::future::Client<R>>,
    arguments: &Arguments,
) -> Result<ExitCode, Box<dyn Error>> {
    let client = builder.servers(&arguments.servers.servers).build()?;
    common::beside(client.run(), async { submit_all!(client, arguments, [.await]) }).await
}

/// What is printed.
struct Output {
    out: BufWriter<StdoutLock<'static>>,
    progress: Progress,
    /// What has come of the result of the job that is waited for.
    result: Vec<u8>,
    all_completed: bool,
}

impl Output {
    /// Of so many jobs.
    fn of(jobs: usize) -> Self {
        let out = BufWriter::new(io::stdout().lock());
        Self { out, progress: Progress::of(jobs), result: Vec::new(), all_completed: true }
    }

    fn show(&mut self, event: JobEvent) -> io::Result<()> {
        let Self { out, progress, result, all_completed } = self;
        match event {
            JobEvent::Data(part) => result.extend_from_slice(&part),
            JobEvent::Warning(warning) => progress.say(&format!("warning: {}", String::from_utf8_lossy(&warning))),
            JobEvent::Progress { numerator, denominator } => progress.job(numerator, denominator),
            JobEvent::Missed(events) => progress.say(&format!("{events} events were missed")),
            JobEvent::Done(Outcome::Complete(rest)) => {
                result.extend_from_slice(&rest);
                result.push(b'\n');
                progress.end_of_job(out, |out| out.write_all(result))?;
                result.clear();
            }
            JobEvent::Done(Outcome::Queued(handle)) => progress.end_of_job(out, |out| writeln!(out, "{handle}"))?,
            JobEvent::Done(outcome) => {
                // Results that came before belong before the complaint.
                progress.end_of_job(out, Write::flush)?;
                if let Err(error) = JobError::check(outcome) {
                    progress.say(&error.to_string());
                }
                result.clear();
                *all_completed = false;
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
