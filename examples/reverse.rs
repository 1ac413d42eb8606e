//! The main job, end to end: a worker reverses a payload for a client.
//!
//! Without arguments it starts a job server of its own on a free port of this machine; with `--server HOST:PORT`, or with
//! `GEARMAN_SERVERS` in the environment, it uses one that runs already.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::Runtime;
use gearwheel::blocking::{Client, HandlerError, JobError, JobEvent, Server, Task, Worker};
use gearwheel::{Address, Job};

mod common;

/// Starts a job server, a worker and a client, and has a payload reversed.
#[derive(Parser)]
struct Arguments {
    /// Use this job server instead of starting one; give it once for each.
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
    })
}

fn blocking(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    // Port 0: any that is free. The server lives as long as this value.
    let server = if arguments.servers.is_empty() { Some(Server::bind("127.0.0.1:0")?) } else { None };
    let servers = match &server {
        Some(server) => vec![server.local_addr().to_string().parse()?],
        None => arguments.servers,
    };
    println!("job server: {}", servers.iter().map(Address::to_string).collect::<Vec<_>>().join(", "));

    let worker = Worker::builder().servers(&servers).function("reverse", reverse).spawn()?;
    let client = Client::builder().servers(&servers).build()?;

    let job = Job::new("reverse", arguments.payload.clone()).timeout(Duration::from_secs(10));
    let mut job = client.submit(job)?;
    println!("submitted: {}", arguments.payload);
    let mut code = ExitCode::FAILURE;
    while let Some(event) = job.next_event() {
        match event {
            JobEvent::Created { handle, .. } => println!("accepted as {handle}"),
            JobEvent::Data(part) => println!("data: {}", String::from_utf8_lossy(&part)),
            JobEvent::Progress { numerator, denominator } => println!("progress: {numerator}/{denominator}"),
            JobEvent::Warning(warning) => println!("warning: {}", String::from_utf8_lossy(&warning)),
            JobEvent::Done(outcome) => {
                let result = JobError::check(outcome)?;
                println!("result: {}", String::from_utf8_lossy(&result));
                code = ExitCode::SUCCESS;
            }
            _ => {}
        }
    }
    // Takes no more jobs, finishes what it has, says good-bye.
    worker.drain(Duration::from_secs(5))?;
    Ok(code)
}

/// Sends the reversed payload in parts while it works, and all of it as the result.
fn reverse(task: &mut Task) -> Result<Vec<u8>, HandlerError> {
    const PARTS: usize = 3;
    let result = common::reversed(task.payload());
    let length = result.len().div_ceil(PARTS).max(1);
    let parts = result.chunks(length);
    for (done, (count, part)) in (1..).zip(std::iter::repeat(parts.len() as u64).zip(parts)) {
        task.data(part.to_vec())?;
        task.progress(done, count)?;
    }
    Ok(result)
}
