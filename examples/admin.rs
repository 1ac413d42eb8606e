//! Asks job servers how they are, and tells them what to do.
//!
//! What is told goes to stdout, complaints to stderr. The exit status is 0 only if every server answered and none refused.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use common::{Servers, connecting};
use gearwheel::Address;
use gearwheel::blocking::Admin;
use table::printable;

mod common;
#[path = "common/table.rs"]
mod table;

/// Asks Gearman job servers how they are, and tells them what to do.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    servers: Servers,
    /// The most time that a command may take, connecting included.
    #[arg(long, value_name = "SECS", value_parser = common::seconds, default_value = "15")]
    timeout: Duration,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The functions, with their jobs and workers.
    Status,
    /// The queued jobs of each function by priority.
    PriorityStatus,
    /// The connections, and what each can run.
    Workers,
    /// The jobs that have not ended.
    Jobs,
    /// The uniques of the jobs that have not ended.
    UniqueJobs,
    /// The version of the job server.
    Version,
    /// The process id of the job server.
    Pid,
    /// How much the job server logs.
    Verbose,
    /// Cancel a job that is queued.
    Cancel {
        /// Its handle.
        handle: String,
    },
    /// Make a function known.
    Create {
        /// Its name.
        function: String,
    },
    /// Forget a function that has neither jobs nor workers.
    Drop {
        /// Its name.
        function: String,
    },
    /// Bound the jobs of a function: one limit for all priorities, or one each for high, normal and low.
    Maxqueue {
        /// Its name.
        function: String,
        /// Zero, the default, is no limit.
        #[arg(num_args = 0..=3)]
        limits: Vec<u32>,
    },
    /// End the job server. gearmand has it no more.
    Shutdown {
        /// Finish first what runs.
        #[arg(long)]
        graceful: bool,
    },
    /// Watch the queues, live. The program for it is built at the first time.
    Watch {
        /// Look again after so many seconds.
        #[arg(long, value_name = "SECS", value_parser = common::seconds, default_value = "1")]
        every: Duration,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Task::Watch { every } = arguments.task {
        return common::end(watch(&arguments.servers.servers, every));
    }
    let several = arguments.servers.servers.len() > 1;
    let mut code = ExitCode::SUCCESS;
    for server in &arguments.servers.servers {
        let named = if several { say(&server.to_string()) } else { Ok(()) };
        if let Err(error) = named.map_err(Into::into).and_then(|()| ask(server, &arguments)) {
            let _ = writeln!(io::stderr(), "{error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn ask(server: &Address, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let admin = connecting!(Admin::builder(), arguments.servers).server(server).timeout(arguments.timeout).connect()?;
    match &arguments.task {
        Task::Status => status(&admin)?,
        Task::PriorityStatus => priority_status(&admin)?,
        Task::Workers => workers(&admin)?,
        Task::Jobs => jobs(&admin)?,
        Task::UniqueJobs => unique_jobs(&admin)?,
        Task::Version => say(&admin.version()?)?,
        Task::Pid => say(&admin.pid()?.to_string())?,
        Task::Verbose => say(&admin.verbose()?)?,
        Task::Cancel { handle } => admin.cancel_job(handle)?,
        Task::Create { function } => admin.create_function(function.clone())?,
        Task::Drop { function } => admin.drop_function(function.clone())?,
        Task::Maxqueue { function, limits } => {
            let limits = match limits[..] {
                [] => [0; 3],
                [all] => [all; 3],
                [high, normal, low] => [high, normal, low],
                _ => return Err("one limit, or three: for high, normal and low".into()),
            };
            admin.max_queue(function.clone(), limits)?;
        }
        Task::Shutdown { graceful } => admin.shutdown(*graceful)?,
        Task::Watch { .. } => {}
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", printable(text.as_bytes()))
}

fn status(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let rows = admin.status()?.into_iter().map(|row| {
        let queued = row.total.saturating_sub(row.running);
        [printable(&row.function), queued.to_string(), row.running.to_string(), row.workers.to_string()]
    });
    Ok(table::print(["FUNCTION", " QUEUED", " RUNNING", " WORKERS"], &rows.collect::<Vec<_>>())?)
}

fn priority_status(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let rows = admin.priority_status()?.into_iter().map(|row| {
        let [high, normal, low] = row.queued.map(|jobs| jobs.to_string());
        [printable(&row.function), high, normal, low, row.workers.to_string()]
    });
    Ok(table::print(["FUNCTION", " HIGH", " NORMAL", " LOW", " WORKERS"], &rows.collect::<Vec<_>>())?)
}

fn workers(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let rows = admin.workers()?.into_iter().map(|row| {
        let functions: Vec<_> = row.functions.iter().map(|name| printable(name)).collect();
        [row.fd.to_string(), printable(&row.address), printable(&row.id), functions.join(" ")]
    });
    Ok(table::print([" FD", "ADDRESS", "ID", "FUNCTIONS"], &rows.collect::<Vec<_>>())?)
}

fn jobs(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
    let rows = admin
        .jobs()?
        .into_iter()
        .map(|row| [printable(&row.handle), row.retries.to_string(), yes(row.queued), yes(row.ignored)]);
    Ok(table::print(["HANDLE", " RETRIES", "BACKGROUND", "DROPPED"], &rows.collect::<Vec<_>>())?)
}

fn unique_jobs(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let rows = admin
        .unique_jobs()?
        .into_iter()
        .map(|row| [row.handle.as_deref().map(printable).unwrap_or_default(), printable(&row.unique)]);
    Ok(table::print(["HANDLE", "UNIQUE"], &rows.collect::<Vec<_>>())?)
}

/// Runs the program that watches. It stands apart, as its libraries are large and nothing else needs them.
fn watch(servers: &[Address], every: Duration) -> io::Result<ExitCode> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/watch/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--manifest-path", manifest, "--"]);
    command.args(servers.iter().map(|server| format!("--server={server}")));
    let ended = command.arg(format!("--every={}", every.as_secs_f64())).status()?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
