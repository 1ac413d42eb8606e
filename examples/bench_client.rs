//! A client that submits jobs as fast as it can, for comparison with other libraries.
//!
//! Told by the environment: `GEARMAN_ADDR` (host:port), `FUNC`, `SECS` and `N` (no new job after so many seconds or jobs),
//! `DEPTH` (jobs outstanding), `SIZE` (bytes of payload), `MODE` (`fg`, `bg`), `RUNTIME`. Ends with a line of JSON.

use std::env;
use std::error::Error;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gearwheel::{Job, JobId, Outcome, Reason, Rejected};

#[path = "common/usage.rs"]
mod usage;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
struct Settings {
    function: Bytes,
    seconds: f64,
    jobs: u64,
    depth: usize,
    payload: Bytes,
    background: bool,
}

fn server() -> String {
    setting("GEARMAN_ADDR", "127.0.0.1:4730".to_owned())
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// At the start of a page: malloc puts a large block 16 bytes into one, from where the copy into a socket was measured to be
/// much slower on one machine (an AMD processor's doing, we suppose), which would be measured instead.
fn payload(size: usize) -> Bytes {
    const PAGE: usize = 4096;
    let block = Bytes::from(vec![b'x'; size + PAGE]);
    let start = block.as_ptr().align_offset(PAGE).min(PAGE);
    block.slice(start..start + size)
}

fn main() -> Result<(), Failure> {
    let settings = Settings {
        // For ever, as that of a program is, which is a literal mostly: it need not be counted who has it.
        function: Bytes::from_static(setting("FUNC", "bench".to_owned()).leak().as_bytes()),
        seconds: setting("SECS", 2.0),
        jobs: setting("N", u64::MAX),
        depth: setting("DEPTH", 1).max(1),
        payload: payload(setting("SIZE", 16)),
        background: setting("MODE", "fg".to_owned()) == "bg",
    };
    match setting("RUNTIME", "blocking".to_owned()).as_str() {
        #[cfg(feature = "blocking")]
        "blocking" => blocking(&settings),
        #[cfg(feature = "mio")]
        "mio" => mio(&settings),
        #[cfg(feature = "smol")]
        "smol" => smol(&settings),
        #[cfg(feature = "tokio")]
        "tokio" => tokio(&settings),
        other => Err(format!("no such runtime: {other}").into()),
    }
}

impl Settings {
    fn job(&self) -> Job {
        let job = Job::new(self.function.clone(), self.payload.clone());
        if self.background { job.background() } else { job }
    }

    fn check(&self, outcome: &Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Complete(result) if result.len() == self.payload.len() => Ok(()),
            Outcome::Queued { .. } => Ok(()),
            other => Err(format!("a job ended as {other:?}").into()),
        }
    }
}

/// What is measured: the time of each job, and the processor's time over all.
struct Measure {
    start: Instant,
    cpu: Duration,
    micros: Vec<f32>,
}

impl Measure {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: usage::cpu_time(), micros: Vec::new() }
    }

    fn goes_on(&self, settings: &Settings, submitted: u64, now: Instant) -> bool {
        submitted < settings.jobs && now.duration_since(self.start).as_secs_f64() < settings.seconds
    }

    /// A job has ended. Says when.
    fn job(&mut self, since: Instant) -> Instant {
        let now = Instant::now();
        if self.micros.len() < 4_000_000 {
            self.micros.push(now.duration_since(since).as_secs_f32() * 1e6);
        }
        now
    }

    fn print(mut self, jobs: u64) {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = (usage::cpu_time() - self.cpu).as_secs_f64() * 1e6 / jobs.max(1) as f64;
        let mut at = |part: f64| match (self.micros.len() as f64 * part) as usize {
            place if place < self.micros.len() => *self.micros.select_nth_unstable_by(place, f32::total_cmp).1,
            _ => 0.0,
        };
        let (p50, p99) = (at(0.5), at(0.99));
        println!(
            "{{\"jobs\":{jobs},\"secs\":{seconds:.4},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"cpu_us_per_job\":{cpu:.3},\"rss_kb\":{}}}",
            usage::peak_kb()
        );
    }
}

/// A window of jobs that are outstanding, and when each was submitted.
struct Window<'a> {
    settings: &'a Settings,
    measure: Measure,
    /// Jobs have dense places in a table: so have the times at which they began.
    since: Vec<Instant>,
    /// When the last of them ended.
    now: Instant,
    submitted: u64,
    ended: u64,
}

impl<'a> Window<'a> {
    fn new(settings: &'a Settings) -> Self {
        let measure = Measure::start();
        let now = measure.start;
        Self { settings, measure, since: Vec::new(), now, submitted: 0, ended: 0 }
    }

    /// Whether another job is to be submitted now.
    fn is_open(&mut self) -> bool {
        if self.ended == 0 {
            self.now = Instant::now();
        }
        self.submitted < self.ended + self.settings.depth as u64
            && (self.ended == 0 || self.measure.goes_on(self.settings, self.submitted, self.now))
            && self.submitted < self.settings.jobs
    }

    fn began(&mut self, job: JobId) {
        let place = job.index();
        if self.since.len() <= place {
            self.since.resize(place + 1, self.now);
        }
        self.since[place] = self.now;
        self.submitted += 1;
    }

    fn ended(&mut self, job: JobId, outcome: &Outcome) -> Result<(), Failure> {
        self.settings.check(outcome)?;
        self.now = self.measure.job(self.since[job.index()]);
        self.ended += 1;
        Ok(())
    }
}

/// What threads wait for, and what futures wait for, in the same words: `[] []` or `[async] [.await]`.
macro_rules! run {
    ($client:ident, $settings:ident, [$($await:tt)*]) => {{
        // Connects, which is not measured.
        $client.echo($client.servers()[0].server, "")$($await)*?;
        if $settings.depth == 1 {
            let mut measure = Measure::start();
            let (mut jobs, mut since) = (0, measure.start);
            while measure.goes_on($settings, jobs, since) {
                let outcome = submit!($client, $settings.job(), [$($await)*]);
                $settings.check(&outcome)?;
                since = measure.job(since);
                jobs += 1;
            }
            measure.print(jobs);
        } else {
            let mut set = $client.set();
            let mut window = Window::new($settings);
            loop {
                while window.is_open() {
                    match set.try_submit($settings.job()) {
                        Ok(job) => window.began(job),
                        // No room: what has ended is taken first, so that large results do not pile up.
                        Err(Rejected { reason: Reason::Full { .. }, .. }) if set.outstanding() > 0 => break,
                        Err(rejected) => window.began(set.submit(rejected.value)$($await)*?),
                    }
                }
                let Some((job, outcome)) = set.next()$($await)* else { break };
                window.ended(job, &outcome)?;
            }
            window.measure.print(window.ended);
        }
        Ok(())
    }};
}

macro_rules! submit {
    ($client:ident, $job:expr, []) => {
        $client.submit($job)?.outcome()
    };
    ($client:ident, $job:expr, [.await]) => {
        $client.submit($job).await?.outcome().await
    };
}

#[cfg(feature = "blocking")]
fn blocking(settings: &Settings) -> Result<(), Failure> {
    let client = gearwheel::blocking::Client::builder().server(server()).build()?;
    run!(client, settings, [])
}

#[cfg(feature = "mio")]
fn mio(settings: &Settings) -> Result<(), Failure> {
    let client = gearwheel::mio::Client::builder().server(server()).spawn()?;
    run!(client, settings, [])
}

#[cfg(feature = "smol")]
fn smol(settings: &Settings) -> Result<(), Failure> {
    let client = gearwheel::smol::Client::builder().server(server()).build()?;
    let driver = client.run();
    async_io::block_on(futures_lite::future::or(async { run!(client, settings, [.await]) }, async {
        driver.await;
        Err("the client has closed".into())
    }))
}

#[cfg(feature = "tokio")]
fn tokio(settings: &Settings) -> Result<(), Failure> {
    let client = gearwheel::tokio::Client::builder().server(server()).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.spawn(client.run());
    let settings = settings.clone();
    // Spawned, as tokio's documentation says of what is to be fast: when another task wakes the future of `block_on`, tokio
    // looks for events before it polls that.
    runtime.block_on(runtime.spawn(async move {
        let settings = &settings;
        run!(client, settings, [.await])
    }))?
}
