//! The job servers of a run: our own, and the toy.

use std::time::Duration;

use gearwheel::server::{self, Config, Server};
use gearwheel::{Address, CloseReason, Instant};

use super::super::net::{Driver, HostId, SECOND};
use super::toy::{Habits, Toy};
use super::{UNIX, World};

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
        config.job_retries = dice.chance(200).then(|| dice.range(0, 3) as u32);
        slot.impatient = config.job_retries.is_some();
        config.worker_wakeup = dice.range(0, 2) as u32;
        config.exceptions = dice.chance(200);
        config.slow_reader = Duration::from_millis(dice.range(100, 10_000));
        config.silent_worker = dice.chance(300).then(|| Duration::from_secs(dice.range(30, 90)));
        config.idle = dice.chance(200).then(|| Duration::from_secs(dice.range(5, 90)));
        if dice.chance(300) {
            config.limits.max_events = dice.below(8) + 1;
            config.limits.max_outgoing = dice.below(1 << 16) + 1;
        }
        if dice.chance(100) {
            config.max_jobs = dice.below(40) + 1;
            slot.picky = true;
        }
        let unix_now = Duration::from_nanos(UNIX * SECOND + self.net.now());
        let server = Server::new(config, Instant::EPOCH, unix_now).expect("a good configuration");
        let mut driver = Driver::new(&mut self.net, slot.host, server);
        driver.act(&mut self.net, |server, now| server.set_unix_time(unix_now, now));
        slot.server = Some(AnyServer::Ours(Box::new(driver)));
        self.look_at_server(place);
    }

    /// Our machines keep the protocol, so no server has cause to complain of them.
    pub(super) fn look_at_server(&mut self, place: usize) {
        let Some(AnyServer::Ours(driver)) = &mut self.servers[place].server else { return };
        while let Some(event) = driver.events.pop_front() {
            match event {
                server::Event::Disconnected { reason: CloseReason::Protocol(error), .. } => {
                    panic!("a server says that our machines break the protocol: {error}");
                }
                server::Event::Closed => panic!("Closed, though nobody asked for it"),
                _ => {}
            }
        }
        if self.net.dice.chance(5) {
            driver.machine.audit();
        }
    }
}
