//! The crate gearman as a peer to measure beside.
//!
//! usage: gearman-rs client|worker, told by the environment as examples/bench_client.rs and bench_worker.rs are:
//! `GEARMAN_ADDR`, `FUNC`, `SECS`, `N`, `DEPTH` (so many tasks, each of which submits one job after another), `SIZE`, `MODE`.

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gearman::GearmanError;
use gearman::client::{Client, ClientBuilder};
use gearman::worker::{GrabMode, WorkError, WorkerBuilder, WorkerJob};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

#[path = "../../../../examples/common/usage.rs"]
mod usage;

type Failure = Box<dyn Error>;

static ANSWERED: AtomicU64 = AtomicU64::new(0);
static CPU_BEFORE: OnceLock<Duration> = OnceLock::new();

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match env::args().nth(1).as_deref() {
        Some("client") => LocalSet::new().block_on(&runtime, client()),
        Some("worker") => runtime.block_on(worker()),
        _ => Err("usage: gearman-rs client|worker".into()),
    }
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn server() -> String {
    setting("GEARMAN_ADDR", "127.0.0.1:4730".to_owned())
}

fn function() -> String {
    setting("FUNC", "bench".to_owned())
}

struct Load {
    client: Client,
    function: String,
    payload: Bytes,
    background: bool,
    jobs: u64,
    end: Instant,
    submitted: Cell<u64>,
}

async fn client() -> Result<(), Failure> {
    let client = ClientBuilder::new().servers([server()]).connect().await?;
    let (cpu, start) = (usage::cpu_time(), Instant::now());
    let load = Rc::new(Load {
        client,
        function: function(),
        payload: vec![b'x'; setting("SIZE", 16)].into(),
        background: setting("MODE", "fg".to_owned()) == "bg",
        jobs: setting("N", u64::MAX),
        end: start + Duration::from_secs_f64(setting("SECS", 2.0)),
        submitted: Cell::new(0),
    });
    let tasks: Vec<_> = (0..setting("DEPTH", 1)).map(|_| tokio::task::spawn_local(submit(load.clone()))).collect();
    let mut micros = Vec::new();
    for task in tasks {
        micros.extend(task.await?.map_err(|error| error.to_string())?);
    }
    print_client(micros, start.elapsed(), usage::cpu_time() - cpu);
    Ok(())
}

/// One job after another: how long each took.
async fn submit(load: Rc<Load>) -> Result<Vec<f32>, GearmanError> {
    let mut micros = Vec::new();
    let mut since = Instant::now();
    while since < load.end && load.submitted.get() < load.jobs {
        load.submitted.update(|submitted| submitted + 1);
        if load.background {
            load.client.submit_bg(&load.function, load.payload.clone()).await?;
        } else {
            let result = load.client.submit_fg(&load.function, load.payload.clone()).await?;
            assert_eq!(result.len(), load.payload.len(), "a result of another length");
        }
        let now = Instant::now();
        micros.push(now.duration_since(since).as_secs_f32() * 1e6);
        since = now;
    }
    Ok(micros)
}

fn print_client(mut micros: Vec<f32>, took: Duration, cpu: Duration) {
    micros.sort_unstable_by(f32::total_cmp);
    let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    println!(
        "{{\"jobs\":{},\"secs\":{:.4},\"p50_us\":{:.1},\"p99_us\":{:.1},\"cpu_us_per_job\":{:.3},\"rss_kb\":{}}}",
        micros.len(),
        took.as_secs_f64(),
        at(0.5),
        at(0.99),
        cpu.as_secs_f64() * 1e6 / micros.len().max(1) as f64,
        usage::peak_kb()
    );
}

async fn worker() -> Result<(), Failure> {
    let mut terminated = signal(SignalKind::terminate())?;
    let builder = WorkerBuilder::new().servers([server()]).concurrency(1).grab_mode(GrabMode::Plain);
    let worker = builder.register(function(), echo).run();
    terminated.recv().await;
    print_worker();
    worker.shutdown().await;
    Ok(())
}

async fn echo(job: WorkerJob) -> Result<Bytes, WorkError> {
    if ANSWERED.fetch_add(1, Ordering::Relaxed) == 0 {
        let _ = CPU_BEFORE.set(usage::cpu_time());
    }
    Ok(job.payload)
}

fn print_worker() {
    let jobs = ANSWERED.load(Ordering::Relaxed);
    let micros = CPU_BEFORE.get().map_or(0.0, |before| (usage::cpu_time() - *before).as_secs_f64() * 1e6);
    println!(
        "{{\"jobs\":{jobs},\"cpu_us\":{micros:.0},\"cpu_us_per_job\":{:.3},\"rss_kb\":{}}}",
        micros / jobs.max(1) as f64,
        usage::peak_kb()
    );
}
