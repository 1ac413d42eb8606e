//! A worker that echoes payloads as fast as it can, for comparison with other libraries.
//!
//! Told by the environment: `GEARMAN_ADDR` (host:port), `FUNC`, `CONCURRENCY` and `PREFETCH`, `RUNTIME`. At SIGTERM it
//! prints a line of JSON and ends.

use std::env;
use std::error::Error;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use gearwheel::blocking::Worker;
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
        "blocking" => blocking(&mut signals)?,
        other => return Err(format!("no such runtime: {other}").into()),
    }
    Ok(())
}

fn print() {
    let jobs = JOBS.load(Ordering::Relaxed);
    let before = CPU_BEFORE.get().copied().unwrap_or_else(usage::cpu_time);
    let micros = (usage::cpu_time().saturating_sub(before)).as_secs_f64() * 1e6;
    println!(
        "{{\"jobs\":{jobs},\"cpu_us\":{micros:.0},\"cpu_us_per_job\":{:.3},\"rss_kb\":{}}}",
        micros / jobs.max(1) as f64,
        usage::peak_kb()
    );
}

fn blocking(signals: &mut Signals) -> Result<(), Box<dyn Error>> {
    let worker = Worker::builder()
        .server(setting("GEARMAN_ADDR", "127.0.0.1:4730".to_owned()))
        .concurrency(setting("CONCURRENCY", 1))
        .prefetch(setting("PREFETCH", 0))
        .function(setting("FUNC", "bench".to_owned()), |task| {
            count();
            Ok(task.payload().clone())
        })
        .build()?;
    let handle = signals.handle();
    thread::scope(|scope| {
        scope.spawn(|| worker.run());
        signals.forever().next();
        // Measured while its threads live.
        print();
        handle.close();
        worker.close();
    });
    Ok(())
}
