//! A client that submits jobs as fast as it can, for comparison with other libraries.
//!
//! Told by the environment: `GEARMAN_ADDR` (host:port), `FUNC`, `SECS` and `N` (no new job after so many seconds or jobs),
//! `DEPTH` (jobs outstanding), `SIZE` (bytes of payload), `MODE` (`fg`, `bg`), `RUNTIME`. Ends with a line of JSON.

use std::env;
use std::error::Error;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gearwheel::blocking::{Client, JobSet};
use gearwheel::{Job, Outcome};

#[path = "common/usage.rs"]
mod usage;

struct Settings {
    function: Bytes,
    seconds: f64,
    jobs: u64,
    depth: usize,
    payload: Bytes,
    background: bool,
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        function: setting("FUNC", "bench".to_owned()).into(),
        seconds: setting("SECS", 2.0),
        jobs: setting("N", u64::MAX),
        depth: setting("DEPTH", 1).max(1),
        payload: vec![b'x'; setting("SIZE", 16)].into(),
        background: setting("MODE", "fg".to_owned()) == "bg",
    };
    match setting("RUNTIME", "blocking".to_owned()).as_str() {
        "blocking" => blocking(&settings),
        other => Err(format!("no such runtime: {other}").into()),
    }
}

impl Settings {
    fn job(&self) -> Job {
        let job = Job::new(self.function.clone(), self.payload.clone());
        if self.background { job.background() } else { job }
    }

    fn check(&self, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
        match outcome {
            Outcome::Complete(result) if result.len() == self.payload.len() => Ok(()),
            Outcome::Queued(_) => Ok(()),
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

    fn goes_on(&self, settings: &Settings, submitted: u64) -> bool {
        submitted < settings.jobs && self.start.elapsed().as_secs_f64() < settings.seconds
    }

    fn job(&mut self, since: Instant) {
        if self.micros.len() < 4_000_000 {
            self.micros.push(since.elapsed().as_secs_f32() * 1e6);
        }
    }

    fn print(mut self, jobs: u64) {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = (usage::cpu_time() - self.cpu).as_secs_f64() * 1e6 / jobs.max(1) as f64;
        self.micros.sort_by(f32::total_cmp);
        let at = |part: f64| self.micros.get((self.micros.len() as f64 * part) as usize).copied().unwrap_or(0.0);
        let (p50, p99) = (at(0.5), at(0.99));
        println!(
            "{{\"jobs\":{jobs},\"secs\":{seconds:.4},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"cpu_us_per_job\":{cpu:.3},\"rss_kb\":{}}}",
            usage::peak_kb()
        );
    }
}

fn blocking(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().server(setting("GEARMAN_ADDR", "127.0.0.1:4730".to_owned())).build()?;
    // Connects, which is not measured.
    client.echo(client.servers()[0].server, "")?;
    if settings.depth == 1 { one_by_one(&client, settings) } else { window(client.set(), settings) }
}

fn one_by_one(client: &Client, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut measure = Measure::start();
    let mut jobs = 0;
    while measure.goes_on(settings, jobs) {
        let since = Instant::now();
        let outcome = client.submit(settings.job())?.outcome();
        settings.check(&outcome)?;
        measure.job(since);
        jobs += 1;
    }
    measure.print(jobs);
    Ok(())
}

fn window(mut set: JobSet, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut measure = Measure::start();
    // Jobs have dense places in a table: so have the times at which they began.
    let mut since = Vec::new();
    let submit = |set: &mut JobSet, since: &mut Vec<Instant>| -> Result<(), Box<dyn Error>> {
        let place = set.submit(settings.job())?.index();
        if since.len() <= place {
            since.resize(place + 1, Instant::now());
        }
        since[place] = Instant::now();
        Ok(())
    };
    let (mut submitted, mut jobs) = (0, 0);
    while submitted < settings.depth as u64 && submitted < settings.jobs {
        submit(&mut set, &mut since)?;
        submitted += 1;
    }
    while let Some((job, outcome)) = set.next() {
        settings.check(&outcome)?;
        measure.job(since[job.index()]);
        jobs += 1;
        if measure.goes_on(settings, submitted) {
            submit(&mut set, &mut since)?;
            submitted += 1;
        }
    }
    measure.print(jobs);
    Ok(())
}
