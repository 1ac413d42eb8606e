//! The main job, end to end: a worker reverses a payload for a client.
//!
//! Without arguments it starts a job server of its own on a free port of this machine; with `--server HOST:PORT`, or with
//! `GEARMAN_SERVERS` in the environment, it uses one that runs already.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use common::Runtime;
use gearwheel::blocking::{HandlerError, JobError, JobEvent, Task};
use gearwheel::{Address, Job};

mod common;

/// Starts a job server, a worker and a client, and has a payload reversed.
#[derive(Parser)]
struct Arguments {
    /// Use this job server instead of starting one; give it once for each. unix:PATH is a Unix socket.
    #[arg(long = "server", value_name = "HOST:PORT", env = "GEARMAN_SERVERS", value_delimiter = ',')]
    servers: Vec<Address>,
    /// What drives the machines.
    #[arg(long, value_enum, default_value_t = Runtime::Blocking)]
    runtime: Runtime,
    /// What to reverse.
    #[arg(default_value = "hello world!")]
    payload: String,
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

/// The main job on any runtime: `$start` has what was made run, `[]` or `[.await]` waits.
macro_rules! main_job {
    ($arguments:expr, |$handler:ident| $reverse:expr, $start:expr, [$($await:tt)*]) => {{
        let arguments: Arguments = $arguments;
        // Port 0: any that is free. The server lives as long as this value.
        let server = if arguments.servers.is_empty() { Some(Server::bind("127.0.0.1:0")$($await)*?) } else { None };
        let servers = match &server {
            Some(server) => vec![server.local_addr().to_string().parse()?],
            None => arguments.servers,
        };
        writeln!(io::stdout(), "job server: {}", servers.iter().map(Address::to_string).collect::<Vec<_>>().join(", "))?;

        let $handler = Worker::builder().servers(&servers);
        let worker = $reverse.build()?;
        let client = Client::builder().servers(&servers).build()?;
        $start(server.as_ref(), &worker, &client)?;

        let job = Job::new("reverse", arguments.payload.clone()).timeout(Duration::from_secs(10));
        let mut job = client.submit(job)$($await)*?;
        writeln!(io::stdout(), "submitted: {}", arguments.payload)?;
        let mut code = ExitCode::FAILURE;
        while let Some(event) = job.next_event()$($await)* {
            if let Some(result) = tell(event)? {
                writeln!(io::stdout(), "result: {}", String::from_utf8_lossy(&result?))?;
                code = ExitCode::SUCCESS;
            }
        }
        // Takes no more jobs, finishes what it has, says good-bye.
        worker.drain(Duration::from_secs(5))$($await)*?;
        Ok(code)
    }};
}

type Started = Result<(), Box<dyn Error>>;

fn blocking(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::blocking::{Client, Server, Worker};
    let start = |_: Option<&Server>, worker: &Worker, _: &Client| -> Started {
        let worker = worker.clone();
        thread::spawn(move || worker.run());
        Ok(())
    };
    main_job!(arguments, |builder| builder.function("reverse", |task| reverse(task)), start, [])
}

#[cfg(feature = "mio")]
fn mio(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::mio::{Client, Server, Worker};
    let start = |server: Option<&Server>, worker: &Worker, client: &Client| -> Started {
        server.map(Server::spawn).transpose()?;
        worker.spawn()?;
        client.spawn()?;
        Ok(())
    };
    main_job!(arguments, |builder| builder.function("reverse", |task| reverse(task)), start, [])
}

#[cfg(feature = "smol")]
fn smol(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::smol::{Client, Server, Worker};
    // Any executor will do; this is async-io's own, on a thread for each.
    let start = |server: Option<&Server>, worker: &Worker, client: &Client| -> Started {
        let (serving, working, asking) = (server.map(Server::run), worker.run(), client.run());
        serving.map(|serving| thread::spawn(|| async_io::block_on(serving)));
        thread::spawn(|| async_io::block_on(working));
        thread::spawn(|| async_io::block_on(asking));
        Ok(())
    };
    let handler = |task| async move { reverse(&task) };
    async_io::block_on(async { main_job!(arguments, |builder| builder.function("reverse", handler), start, [.await]) })
}

#[cfg(feature = "tokio")]
fn tokio(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::tokio::{Client, Server, Worker};
    let start = |server: Option<&Server>, worker: &Worker, client: &Client| -> Started {
        server.map(|server| tokio::spawn(server.run()));
        tokio::spawn(worker.run());
        tokio::spawn(client.run());
        Ok(())
    };
    let handler = |task| async move { reverse(&task) };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async { main_job!(arguments, |builder| builder.function("reverse", handler), start, [.await]) })
}

/// Prints an event; how the job ended, if it has.
fn tell(event: JobEvent) -> io::Result<Option<Result<Bytes, JobError>>> {
    let mut out = io::stdout();
    match event {
        JobEvent::Created { handle, .. } => writeln!(out, "accepted as {handle}")?,
        JobEvent::Data(part) => writeln!(out, "data: {}", String::from_utf8_lossy(&part))?,
        JobEvent::Progress { numerator, denominator } => writeln!(out, "progress: {numerator}/{denominator}")?,
        JobEvent::Warning(warning) => writeln!(out, "warning: {}", String::from_utf8_lossy(&warning))?,
        JobEvent::Done(outcome) => return Ok(Some(JobError::check(outcome))),
        _ => {}
    }
    Ok(None)
}

/// Sends the reversed payload in parts while it works, and all of it as the result. As it serves all runtimes, it does not
/// wait for room to send them, which `data` and `progress` would.
fn reverse<W>(task: &Task<W>) -> Result<Vec<u8>, HandlerError> {
    const PARTS: usize = 3;
    let result = common::reversed(task.payload());
    let length = result.len().div_ceil(PARTS).max(1);
    let parts = result.chunks(length);
    for (done, (count, part)) in (1..).zip(std::iter::repeat(parts.len() as u64).zip(parts)) {
        task.try_data(part.to_vec())?;
        task.try_progress(done, count)?;
    }
    Ok(result)
}
