//! The job servers of a run: our own, and the toy.

use std::time::Duration;

use bytes::Bytes;
use gearwheel::server::{self, Config, QueuedJob, Server};
use gearwheel::{Address, CloseReason, Instant};

use super::super::net::{Driver, HostId, SECOND};
use super::toy::{Habits, Toy};
use super::{Errand, UNIX, World};

pub(super) enum AnyServer {
    Ours(Box<Driver<Server>>),
    Toy(Toy),
}

impl AnyServer {
    /// Whether it has no job.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Ours(driver) => {
                let counters = driver.machine.counters();
                counters.jobs + counters.running + counters.waiting + counters.job_bytes == 0
            }
            Self::Toy(toy) => toy.is_empty(),
        }
    }

    pub(super) fn guests(&self) -> usize {
        match self {
            Self::Ours(driver) => driver.machine.counters().connections,
            Self::Toy(toy) => toy.guests(),
        }
    }
}

pub(super) struct ServerSlot {
    pub(super) host: HostId,
    pub(super) address: Address,
    pub(super) incarnation: u32,
    pub(super) server: Option<AnyServer>,
    /// `None`: it is our own.
    pub(super) habits: Option<Habits>,
    /// Whether it may refuse jobs.
    pub(super) picky: bool,
    /// Whether it drops jobs that were given out too often without coming back.
    pub(super) impatient: bool,
    /// Or was, before it started again: a client that stood still may hear of it later.
    pub(super) was_impatient: bool,
    /// It ends in order, and is to be down for so long.
    pub(super) draining: Option<u64>,
    /// It has refused submissions because it was about to end.
    pub(super) has_drained: bool,
    /// The background jobs of a server that has ended in order, for the next one.
    pub(super) kept: Vec<QueuedJob>,
    /// Whether a sleeping worker hears of a job at once, and is not sent away meanwhile.
    pub(super) prompt: bool,
}

impl ServerSlot {
    pub(super) fn new(host: HostId, address: Address, habits: Option<Habits>) -> Self {
        let picky = habits.is_some_and(|habits| habits.picky);
        Self {
            host,
            address,
            incarnation: 0,
            server: None,
            habits,
            picky,
            impatient: false,
            was_impatient: false,
            draining: None,
            has_drained: false,
            kept: Vec::new(),
            prompt: false,
        }
    }

    /// Whether it has no job, nor will have one when it is back.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.server.as_ref().is_none_or(AnyServer::is_empty)
    }
}

impl World {
    pub(super) fn start_server(&mut self, place: usize) {
        let slot = &mut self.servers[place];
        if slot.server.is_some() {
            return;
        }
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        let prefix = format!("H:s{place}.{}", slot.incarnation);
        if let Some(habits) = slot.habits {
            slot.server = Some(AnyServer::Toy(Toy::new(slot.host, prefix, habits)));
            return;
        }
        let dice = &mut self.dice;
        let mut config = Config::new(dice.seed());
        config.handle_prefix = prefix;
        config.version = format!("server{place}");
        config.process_id = place as u32 + 1;
        config.job_retries = dice.chance(200).then(|| dice.range(0, 3) as u32);
        slot.impatient = config.job_retries.is_some();
        slot.was_impatient |= slot.impatient;
        config.worker_wakeup = dice.range(0, 2) as u32;
        config.exceptions = dice.chance(200);
        config.patience = Duration::from_millis(if dice.chance(400) { dice.skewed(500) } else { 0 });
        config.gather_results = !config.patience.is_zero();
        config.slow_reader = Duration::from_millis(dice.range(100, 10_000));
        config.silent_worker = dice.chance(300).then(|| Duration::from_secs(dice.range(30, 90)));
        config.idle = dice.chance(200).then(|| Duration::from_secs(dice.range(5, 90)));
        slot.prompt = config.worker_wakeup == 0 && config.idle.is_none() && config.silent_worker.is_none();
        if dice.chance(300) {
            config.limits.max_events = dice.below(8) + 1;
            config.limits.max_outgoing = dice.below(1 << 16) + 1;
        }
        if dice.chance(100) {
            config.max_jobs = dice.below(40) + 1;
            slot.picky = true;
        }
        let unix_now = Duration::from_nanos(UNIX * SECOND + self.net.now());
        let patience = config.patience;
        let server = Server::new(config, Instant::EPOCH, unix_now).expect("a good configuration");
        let mut driver = Driver::new(&mut self.net, slot.host, server);
        driver.patience = patience;
        driver.act(&mut self.net, |server, now| server.set_unix_time(unix_now, now));
        slot.server = Some(AnyServer::Ours(Box::new(driver)));
        self.restore(place);
        self.look_at_server(place);
    }

    /// Ends a server of ours in order. One that must wait for ever for somebody to run a job is closed when the storm ends.
    pub(super) fn drain_server(&mut self, place: usize, down: u64) {
        let slot = &mut self.servers[place];
        let Some(AnyServer::Ours(driver)) = slot.server.as_mut().filter(|_| slot.draining.is_none()) else { return };
        (slot.draining, slot.has_drained) = (Some(down), true);
        driver.act(&mut self.net, Server::drain);
        self.look_at_server(place);
    }

    pub(super) fn close_draining_server(&mut self, place: usize) {
        let slot = &mut self.servers[place];
        if let (Some(AnyServer::Ours(driver)), Some(_)) = (&mut slot.server, slot.draining) {
            driver.act(&mut self.net, Server::close);
            self.look_at_server(place);
        }
    }

    /// A server has ended in order: its background jobs are for the next one.
    fn bury_server(&mut self, place: usize) {
        let slot = &mut self.servers[place];
        let (Some(AnyServer::Ours(driver)), Some(down)) = (slot.server.take(), slot.draining.take()) else {
            panic!("Closed, though nobody asked for it");
        };
        assert_eq!(driver.connections(), 0, "a closed server has connections");
        assert_eq!(driver.wait(), None, "a closed server waits for something");
        driver.machine.audit();
        slot.kept = driver.machine.queued().collect();
        let counters = driver.machine.counters();
        assert_eq!(counters.jobs, slot.kept.len(), "a closed server has jobs that it does not give back");
        assert_eq!((counters.running, counters.waiting, counters.connections), (0, 0, 0));
        slot.incarnation += 1;
        self.net.exit(slot.host);
        let at = self.net.now() + if self.calm { 0 } else { down };
        self.put_off(at, Errand::StartServer(place));
    }

    /// Gives a new server the jobs of the one before it, and looks for them under their new names.
    fn restore(&mut self, place: usize) {
        let slot = &mut self.servers[place];
        let Some(AnyServer::Ours(driver)) = &mut slot.server else { return };
        for job in std::mem::take(&mut slot.kept) {
            let old = job.handle.clone().expect("it was there").as_bytes().to_vec();
            let new = driver.act(&mut self.net, |server, _| server.restore(job));
            let records = self.records.iter_mut().filter(|record| record.queued.as_deref() == Some(&old[..]));
            match new {
                Ok(new) => records.for_each(|record| {
                    record.queued = Some(Bytes::copy_from_slice(new.as_bytes()));
                    record.handle.clone_from(&record.queued);
                }),
                Err(rejected) => {
                    assert!(slot.picky, "not taken back: {}", rejected.reason);
                    records.for_each(|record| record.may_fail = true);
                }
            }
        }
    }

    /// Our machines keep the protocol, so no server has cause to complain of them.
    pub(super) fn look_at_server(&mut self, place: usize) {
        let Some(AnyServer::Ours(driver)) = &mut self.servers[place].server else { return };
        while let Some(event) = driver.events.pop_front() {
            match event {
                server::Event::Disconnected { reason: CloseReason::Protocol(error), .. } => {
                    panic!("a server says that our machines break the protocol: {error}");
                }
                server::Event::Closed => return self.bury_server(place),
                _ => {}
            }
        }
        assert_eq!(driver.machine.sleepers_beside_work(), 0, "a worker sleeps though a job waits for it");
        if self.net.dice.chance(5) {
            driver.machine.audit();
        }
    }
}
