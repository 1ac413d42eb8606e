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
use gearwheel::blocking::{Client, JobError, JobEvent, Pending};
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

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let client = Client::builder().servers(&arguments.servers.servers).build()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut outstanding = VecDeque::new();
    let mut all_completed = true;
    let jobs = arguments.jobs()?;
    let mut progress = Progress::of(jobs.len() * arguments.count);
    for job in jobs {
        for _ in 0..arguments.count {
            if outstanding.len() == WINDOW
                && let Some(oldest) = outstanding.pop_front()
            {
                all_completed &= finish(oldest, &mut out, &mut progress)?;
            }
            outstanding.push_back(client.submit(job.clone())?);
        }
    }
    for job in outstanding {
        all_completed &= finish(job, &mut out, &mut progress)?;
    }
    out.flush()?;
    Ok(if all_completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the end of a job and prints what comes of it; whether it completed.
fn finish(mut job: Pending, out: &mut BufWriter<StdoutLock<'_>>, progress: &mut Progress) -> io::Result<bool> {
    let mut result = Vec::new();
    while let Some(event) = job.next_event() {
        match event {
            JobEvent::Data(part) => result.extend_from_slice(&part),
            JobEvent::Warning(warning) => progress.say(&format!("warning: {}", String::from_utf8_lossy(&warning))),
            JobEvent::Progress { numerator, denominator } => progress.job(numerator, denominator),
            JobEvent::Missed(events) => progress.say(&format!("{events} events were missed")),
            JobEvent::Done(Outcome::Complete(rest)) => {
                result.extend_from_slice(&rest);
                result.push(b'\n');
                progress.end_of_job(out, |out| out.write_all(&result))?;
                return Ok(true);
            }
            JobEvent::Done(Outcome::Queued(handle)) => {
                progress.end_of_job(out, |out| writeln!(out, "{handle}"))?;
                return Ok(true);
            }
            JobEvent::Done(outcome) => {
                // Results that came before belong before the complaint.
                progress.end_of_job(out, Write::flush)?;
                if let Err(error) = JobError::check(outcome) {
                    progress.say(&error.to_string());
                }
            }
            _ => {}
        }
    }
    Ok(false)
}
