//! The quiet end of a run: nothing else happens, so that it can be said to the packet and to the second what must.

use std::collections::BTreeMap;

use bytes::Bytes;
use gearwheel::client::Event;
use gearwheel::{Job, JobId, Outcome};

use super::super::net::SECOND;
use super::record::reversed;
use super::{FUNCTIONS, World};

/// What a job server and the wires may take for a job at most, with the slowest of latencies on each leg.
const PROMPT: u64 = 25 * SECOND;
/// How long a handler of the probe works. All submissions that share its job have come by then.
pub(super) const WORK: u64 = 8 * SECOND;

/// Submissions of one client that share one unique, and what was said of each.
pub(super) struct Probe {
    pub(super) payload: Bytes,
    client: usize,
    jobs: BTreeMap<JobId, Heard>,
}

#[derive(Default)]
struct Heard {
    handle: Option<Bytes>,
    progress: u32,
    data: u32,
    warnings: u32,
    complete: bool,
}

impl World {
    /// Where nothing holds a job up, it is run at once; submissions that share a job each hear of it once.
    pub(super) fn probe(&mut self) {
        // A worker's time limit would end the jobs of the probe.
        if self.timed
            || !self
                .servers
                .iter()
                .all(|slot| slot.prompt && !slot.picky && slot.habits.is_none() && slot.server.is_some())
        {
            return;
        }
        // One that was to drain when the storm ended is gone, and nobody comes for it when nothing is left to do.
        if !self.workers.iter().any(|slot| slot.driver.is_some() && !slot.stopping) {
            return;
        }
        for client in 0..self.clients.len() {
            let function = FUNCTIONS[(self.script.seed % 3) as usize];
            self.probe_once(client, function);
        }
    }

    fn probe_once(&mut self, client: usize, function: &'static str) {
        let payload = Bytes::from(format!("probe|cd|{}|{client}{function}", WORK / 1_000_000));
        let Some(driver) = &mut self.clients[client].driver else { return };
        let mut jobs = BTreeMap::new();
        for _ in 0..3 {
            let job = Job::new(function, payload.clone()).unique(payload.clone());
            let taken = driver.act(&mut self.net, |client, now| client.submit(job, now));
            // A client may have room for few jobs, or for few bytes.
            jobs.extend(taken.ok().map(|id| (id, Heard::default())));
        }
        assert!(!jobs.is_empty(), "an idle client has no room for one job");
        self.probe = Some(Probe { payload, client, jobs });
        self.look_at_client(client);
        let until = self.net.now() + WORK + 3 * (WORK / 4) + PROMPT;
        while let Some((host, occurrence)) = self.net.next(until) {
            self.occur(host, occurrence);
        }
        let probe = self.probe.take().expect("it was set");
        let mut shared: BTreeMap<_, u32> = BTreeMap::new();
        for heard in probe.jobs.values() {
            assert!(heard.complete, "a job waits though a worker that can run it is idle");
            *shared.entry(heard.handle.clone()).or_default() += 1;
        }
        for heard in probe.jobs.values() {
            let said = (heard.progress, heard.data, heard.warnings);
            let others = shared[&heard.handle] - 1;
            assert_eq!(said, (1, 1, 1), "what is said of one of {} jobs that share a handle", others + 1);
        }
    }

    /// Takes an event of the probe. Gives back what is none.
    pub(super) fn heard_of_probe(&mut self, place: usize, event: Event) -> Option<Event> {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.client == place) else { return Some(event) };
        let job = match &event {
            Event::Created { job, .. }
            | Event::Data { job, .. }
            | Event::Warning { job, .. }
            | Event::Progress { job, .. }
            | Event::Done { job, .. } => *job,
            _ => return Some(event),
        };
        let Some(heard) = probe.jobs.get_mut(&job) else { return Some(event) };
        assert!(!heard.complete, "{event:?} behind the end of {job:?}");
        let mut read = None;
        match event {
            Event::Created { handle, .. } => heard.handle = Some(Bytes::copy_from_slice(handle.as_bytes())),
            Event::Data { payload, .. } => (heard.data, read) = (heard.data + 1, Some(payload.len())),
            Event::Warning { payload, .. } => (heard.warnings, read) = (heard.warnings + 1, Some(payload.len())),
            Event::Progress { .. } => heard.progress += 1,
            Event::Done { outcome, .. } => {
                assert_eq!(outcome, Outcome::Complete(reversed(&probe.payload)));
                heard.complete = true;
            }
            _ => {}
        }
        if let (Some(payload), Some(driver)) = (read, &mut self.clients[place].driver) {
            driver.act(&mut self.net, |client, now| client.release(job, payload, now));
        }
        None
    }
}
