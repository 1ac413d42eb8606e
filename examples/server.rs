//! A job server for one machine.
//!
//! Its jobs live in memory. With `--state FILE` a graceful stop writes the background jobs that were not done to FILE, and
//! the next start takes them up; a crash loses them.
//!
//! SIGTERM and SIGINT stop it gracefully: it accepts nothing new, lets the jobs that run finish, keeps the others for
//! FILE. A second one cuts off those that run, and keeps them for FILE if they are background jobs. SIGHUP prints its numbers.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use common::{Runtime, say};
use gearwheel::server::Event;
#[cfg(feature = "tls")]
use gearwheel::tls::{ClientCertificates, Identity, Roots, ServerTls};
use settings::Settings;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod common;
#[path = "common/settings.rs"]
mod settings;
#[path = "common/state.rs"]
mod state;

/// A Gearman job server. Its jobs live in memory.
#[derive(Parser)]
#[command(
    after_help = "SIGTERM stops it gracefully: jobs that run are finished. A second one stops it at once. SIGHUP prints its numbers."
)]
struct Arguments {
    /// Where to listen; give it once for each. Port 0 is any that is free: it is printed. unix:PATH is a Unix socket.
    #[arg(long = "listen", value_name = "HOST:PORT", default_value = "127.0.0.1:4730")]
    listen: Vec<String>,
    /// Read background jobs from this file at the start, and write those that are not done to it at a graceful stop.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How long a graceful stop may take, in seconds.
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = common::seconds)]
    drain: Duration,
    #[command(flatten)]
    settings: Settings,
    /// Speak TLS, with the certificate in this PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in this PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let in only those who show a certificate that is signed by a CA in this PEM file.
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Tell of each connection.
    #[arg(long, short)]
    verbose: bool,
    /// What drives the server.
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
        Runtime::Smol => smol(&arguments),
        #[cfg(feature = "tokio")]
        Runtime::Tokio => tokio(&arguments),
    })
}

#[cfg(feature = "tls")]
impl Arguments {
    /// `None`: connections are plain.
    fn tls(&self) -> Result<Option<ServerTls>, gearwheel::tls::Error> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let clients = match &self.tls_client_ca {
            Some(ca) => ClientCertificates::Required(Roots::from_pem_file(ca)?),
            None => ClientCertificates::NotAsked,
        };
        ServerTls::new(Identity::from_pem_files(certificate, key)?, clients).map(Some)
    }
}

/// The server of any runtime: they are described in the same words. `$wait` makes it, `$serve` serves until it has closed, and
/// `$drain` stops it.
macro_rules! serve {
    ($runtime:ident, $arguments:expr, $wait:expr, |$server:ident| $serve:expr, $drain:expr) => {{
        let arguments: &Arguments = $arguments;
        let verbose = arguments.verbose;
        let mut builder = gearwheel::$runtime::Server::builder()
            .configure(|config| arguments.settings.apply(config))
            .on_event(move |event| tell(event, verbose));
        #[cfg(feature = "tls")]
        if let Some(tls) = arguments.tls()? {
            builder = builder.tls(tls);
        }
        if let Some(file) = &arguments.state {
            let jobs = state::load(file)?;
            state::probe(file)?;
            say!("{} jobs taken up from {}", jobs.len(), file.display());
            builder = builder.restore(jobs);
        }
        for at in &arguments.listen {
            let listening = gearwheel::$runtime::Listening::bind(at).map_err(|error| format!("{at}: {error}"))?;
            builder = builder.listen_on(listening);
        }
        let $server = Arc::new($wait(builder.build())?);
        let (stopping, within) = (Arc::clone(&$server), arguments.drain);
        let counted = Arc::clone(&$server);
        let drain = move || $drain(&*stopping, within).map_err(|error: gearwheel::$runtime::Error| error.to_string());
        let closing = Arc::clone(&$server);
        let drains = stop_on_signal(move || say!("{:?}", counted.counters()), drain, move || closing.close())?;
        if let Some(file) = &arguments.state {
            // The server has them now: a later start is not to run them twice.
            state::remove(file)?;
        }
        for address in $server.addresses() {
            // It serves whether somebody reads this or not.
            let _ = writeln!(io::stdout(), "listening on {address}");
        }
        let served: Result<(), gearwheel::$runtime::Error> = $serve;
        let in_time = drains.try_iter().all(|drain| drain.join().unwrap_or(false));
        if let Some(file) = &arguments.state {
            let jobs = $server.queued();
            state::save(file, &jobs)
                .map_err(|error| format!("{} jobs are lost: cannot write {}: {error}", jobs.len(), file.display()))?;
            say!("{} jobs kept in {}", jobs.len(), file.display());
        }
        served?;
        Ok(if in_time { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }};
}

fn tell(event: Event, verbose: bool) {
    match event {
        Event::Connected { conn, address } if verbose => say!("{conn:?} from {address}"),
        Event::Disconnected { conn, reason } if verbose => say!("{conn:?} has ended: {reason}"),
        Event::Shutdown { graceful } => {
            say!("the admin command shutdown{}", if graceful { " graceful" } else { "" });
        }
        _ => {}
    }
}

fn blocking(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::blocking::Server;
    serve!(
        blocking,
        arguments,
        |bound| bound,
        |server| {
            server.wait();
            Ok(())
        },
        Server::drain
    )
}

#[cfg(feature = "mio")]
fn mio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use gearwheel::mio::Server;
    serve!(mio, arguments, |bound| bound, |server| server.run(), Server::drain)
}

#[cfg(feature = "smol")]
fn smol(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use async_io::block_on;
    use gearwheel::smol::Server;
    let drain = |server: &Server, within| block_on(server.drain(within));
    serve!(
        smol,
        arguments,
        block_on,
        |server| {
            block_on(server.run());
            Ok(())
        },
        drain
    )
}

#[cfg(feature = "tokio")]
fn tokio(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    use futures_lite::future::block_on;
    use gearwheel::tokio::Server;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let drain = |server: &Server, within| block_on(server.drain(within));
    serve!(
        tokio,
        arguments,
        |bound| runtime.block_on(bound),
        |server| {
            runtime.block_on(server.run());
            Ok(())
        },
        drain
    )
}

/// At the first SIGTERM or SIGINT stops the server gracefully, on a thread that it sends and that says whether all was done
/// in time; at the second closes it; at the third ends the process.
fn stop_on_signal(
    tell: impl Fn() + Send + 'static,
    drain: impl FnOnce() -> Result<(), String> + Send + 'static,
    close: impl FnOnce() + Send + 'static,
) -> Result<Receiver<JoinHandle<bool>>, Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (drains, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut drain, mut close) = (Some(drain), Some(close));
        for signal in signals.forever() {
            if signal == SIGHUP {
                tell();
                continue;
            }
            let Some(drain) = drain.take() else {
                let Some(close) = close.take() else { process::exit(128 + signal) };
                // Not all was done.
                let _ = drains.send(thread::spawn(|| false));
                close();
                continue;
            };
            say!("stopping");
            let drain = move || drain().inspect_err(|error| say!("{error}")).is_ok();
            let _ = drains.send(thread::spawn(drain));
        }
    });
    Ok(receiver)
}
