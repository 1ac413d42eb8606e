//! A worker that echoes payloads as fast as it can, for comparison with other libraries.
//!
//! Told by the environment: `GEARMAN_ADDR` (host:port), `FUNC`, `CONCURRENCY` and `PREFETCH`, `RUNTIME`. At SIGTERM it
//! prints a line of JSON and ends.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

#[path = "common/usage.rs"]
mod usage;

static JOBS: AtomicU64 = AtomicU64::new(0);
static CPU_BEFORE: OnceLock<Duration> = OnceLock::new();

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn count() {
    if JOBS.fetch_add(1, Ordering::Relaxed) == 0 {
        let _ = CPU_BEFORE.set(usage::cpu_time());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM])?;
    match setting("RUNTIME", "blocking".to_owned()).as_str() {
        #[cfg(feature = "blocking")]
        "blocking" => blocking(&mut signals)?,
        #[cfg(feature = "mio")]
        "mio" => mio(&mut signals)?,
        #[cfg(feature = "smol")]
        "smol" => smol(&mut signals)?,
        #[cfg(feature = "tokio")]
        "tokio" => tokio(&mut signals)?,
        other => return Err(format!("no such runtime: {other}").into()),
    }
    Ok(())
}

fn print() {
    let jobs = JOBS.load(Ordering::Relaxed);
    let before = CPU_BEFORE.get().copied().unwrap_or_else(usage::cpu_time);
    let micros = (usage::cpu_time().saturating_sub(before)).as_secs_f64() * 1e6;
    // The reader may have gone; this ends all the same.
    let _ = writeln!(
        io::stdout(),
        "{{\"jobs\":{jobs},\"cpu_us\":{micros:.0},\"cpu_us_per_job\":{:.3},\"rss_kb\":{}}}",
        micros / jobs.max(1) as f64,
        usage::peak_kb()
    );
}

/// A worker of any runtime, described in the same words.
macro_rules! worker {
    ($builder:expr, $handler:expr) => {
        $builder
            .server(setting("GEARMAN_ADDR", "127.0.0.1:4730".to_owned()))
            .concurrency(setting("CONCURRENCY", 1))
            .prefetch(setting("PREFETCH", 0))
            .function(setting("FUNC", "bench".to_owned()), $handler)
            .build()?
    };
}

/// Runs the worker on a thread until SIGTERM.
fn until_signal(signals: &mut Signals, run: impl FnOnce() + Send, close: impl FnOnce()) {
    let handle = signals.handle();
    thread::scope(|scope| {
        scope.spawn(run);
        signals.forever().next();
        // Measured while its threads live.
        print();
        handle.close();
        close();
    });
}

#[cfg(feature = "blocking")]
fn blocking(signals: &mut Signals) -> Result<(), Box<dyn Error>> {
    let worker = worker!(gearwheel::blocking::Worker::builder(), |task| {
        count();
        Ok(task.payload().clone())
    });
    until_signal(signals, || worker.run(), || worker.close());
    Ok(())
}

#[cfg(feature = "mio")]
fn mio(signals: &mut Signals) -> Result<(), Box<dyn Error>> {
    let worker = worker!(gearwheel::mio::Worker::builder(), |task| {
        count();
        Ok(task.payload().clone())
    });
    until_signal(signals, || worker.run().expect("the poll works"), || worker.close());
    Ok(())
}

#[cfg(feature = "smol")]
fn smol(signals: &mut Signals) -> Result<(), Box<dyn Error>> {
    let worker = worker!(gearwheel::smol::Worker::builder(), |task| async move {
        count();
        Ok(task.payload().clone())
    });
    until_signal(signals, || async_io::block_on(worker.run()), || worker.close());
    Ok(())
}

#[cfg(feature = "tokio")]
fn tokio(signals: &mut Signals) -> Result<(), Box<dyn Error>> {
    let worker = worker!(gearwheel::tokio::Worker::builder(), |task| async move {
        count();
        Ok(task.payload().clone())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    until_signal(signals, || runtime.block_on(worker.run()), || worker.close());
    Ok(())
}
