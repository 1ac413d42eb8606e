//! The main job, end to end: a worker reverses a payload for a client.
//!
//! Without arguments it starts a job server of its own on a free port of this machine; with `--server HOST:PORT`, or with
//! `GEARMAN_SERVERS` in the environment, it uses one that runs already.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::Runtime;
use gearwheel::blocking::{HandlerError, JobError, JobEvent, Task};
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
        Runtime::Blocking => blocking(&arguments),
        #[cfg(feature = "mio")]
        Runtime::Mio => mio(&arguments),
        #[cfg(feature = "smol")]
        Runtime::Smol => async_io::block_on(smol(&arguments)),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => common::on_tokio(tokio(&arguments)),
    })
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::blocking::{Client, Server, Worker};

    // Port 0: any that is free. The server lives as long as this value.
    let server = if arguments.servers.is_empty() { Some(Server::bind("127.0.0.1:0")?) } else { None };
    let servers = arguments.servers(server.as_ref().map(Server::local_addr))?;
    let worker = Worker::builder().servers(&servers).function("reverse", |task| reverse(task)).spawn()?;
    let client = Client::builder().servers(&servers).build()?;

    let mut job = client.submit(arguments.job())?;
    while let Some(event) = job.next_event() {
        show(event)?;
    }
    // Takes no more jobs, finishes what it has, says good-bye.
    worker.drain(Duration::from_secs(5))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::mio::{Client, Server, Worker};

    let server = if arguments.servers.is_empty() { Some(Server::bind("127.0.0.1:0")?) } else { None };
    let serving = server.as_ref().map(Server::spawn).transpose()?;
    let servers = arguments.servers(server.as_ref().map(Server::local_addr))?;
    let worker = Worker::builder().servers(&servers).function("reverse", |task| reverse(task)).spawn()?;
    let client = Client::builder().servers(&servers).spawn()?;

    let mut job = client.submit(arguments.job())?;
    while let Some(event) = job.next_event() {
        show(event)?;
    }
    worker.drain(Duration::from_secs(5))?;
    server.iter().for_each(Server::close);
    serving.into_iter().for_each(|thread| drop(thread.join()));
    Ok(ExitCode::SUCCESS)
}

/// The same words for both runtimes of futures, which differ in their names only.
macro_rules! on_futures {
    ($runtime:ident, $arguments:expr) => {{
        use gearwheel::$runtime::{Client, Server, Worker};

        let arguments = $arguments;
        let server = if arguments.servers.is_empty() { Some(Server::bind("127.0.0.1:0").await?) } else { None };
        let servers = arguments.servers(server.as_ref().map(Server::local_addr))?;
        let worker = Worker::builder().servers(&servers);
        let worker = worker.function("reverse", |task| async move { reverse(&task) }).build()?;
        let client = Client::builder().servers(&servers).build()?;

        let serving = async {
            if let Some(server) = &server {
                server.run().await;
            }
        };
        let drivers = futures_lite::future::zip(serving, futures_lite::future::zip(worker.run(), client.run()));
        let work = async {
            let mut job = client.submit(arguments.job()).await?;
            while let Some(event) = job.next_event().await {
                show(event)?;
            }
            worker.drain(Duration::from_secs(5)).await?;
            Ok(ExitCode::SUCCESS)
        };
        let drivers = async {
            drivers.await;
        };
        common::beside(drivers, work).await
    }};
}

#[cfg(feature = "smol")]
async fn smol(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    on_futures!(smol, arguments)
}

#[cfg(feature = "tokio")]
async fn tokio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    on_futures!(tokio, arguments)
}

impl Arguments {
    /// The job servers: those named, or else the one of our own.
    fn servers(&self, own: Option<SocketAddr>) -> Result<Vec<Address>, Box<dyn Error>> {
        let servers = match own {
            Some(address) => vec![address.to_string().parse()?],
            None => self.servers.clone(),
        };
        println!("job server: {}", servers.iter().map(Address::to_string).collect::<Vec<_>>().join(", "));
        Ok(servers)
    }

    fn job(&self) -> Job {
        println!("submitted: {}", self.payload);
        Job::new("reverse", self.payload.clone()).timeout(Duration::from_secs(10))
    }
}

/// Prints an event of the job; an error when it is that there is no result.
fn show(event: JobEvent) -> Result<(), JobError> {
    match event {
        JobEvent::Created { handle, .. } => println!("accepted as {handle}"),
        JobEvent::Data(part) => println!("data: {}", String::from_utf8_lossy(&part)),
        JobEvent::Progress { numerator, denominator } => println!("progress: {numerator}/{denominator}"),
        JobEvent::Warning(warning) => println!("warning: {}", String::from_utf8_lossy(&warning)),
        JobEvent::Done(outcome) => println!("result: {}", String::from_utf8_lossy(&JobError::check(outcome)?)),
        _ => {}
    }
    Ok(())
}

/// Sends the reversed payload in parts while it works, and all of it as the result.
fn reverse(task: &Task) -> Result<Vec<u8>, HandlerError> {
    const PARTS: usize = 3;
    let result = common::reversed(task.payload());
    let length = result.len().div_ceil(PARTS).max(1);
    let count = result.chunks(length).len() as u64;
    for (done, part) in (1..).zip(result.chunks(length)) {
        task.data(part.to_vec())?;
        task.progress(done, count)?;
    }
    Ok(result)
}
