//! A job server, clients and workers over TLS on the virtual network, whose drivers judge the contract of the layer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::client::{self, Client};
use gearwheel::server::{self, Server};
use gearwheel::tls::{ClientCertificates, ClientTls, Secured, ServerTls};
use gearwheel::worker::{self, Worker};
use gearwheel::{Address, Connecting, Instant, Job, JobId, Outcome, Phase, Retry};

use crate::certs::OURS;
use crate::common::net::{Dice, Driver, Fault, Net, SECOND};

const CLIENTS: usize = 2;
const WORKERS: usize = 2;
const JOBS: usize = 20;
/// In the calm part everything must have ended by then.
const PATIENCE: u64 = 600 * SECOND;

struct World {
    net: Net,
    server: Driver<Secured<Server>>,
    clients: Vec<Driver<Secured<Client>>>,
    workers: Vec<Driver<Secured<Worker>>>,
    open: Vec<BTreeMap<JobId, Bytes>>,
    complete: usize,
    lost: usize,
}

fn impatient(connecting: &mut Connecting, dice: &mut Dice) {
    connecting.connect_timeout = Duration::from_millis(dice.range(500, 8000));
    connecting.probe_after = Some(Duration::from_secs(2));
    connecting.reply_timeout = Duration::from_secs(10);
    connecting.retry_most = Duration::from_secs(2);
}

impl World {
    fn new(seed: u64) -> Self {
        let mut net = Net::new(seed);
        let mut dice = Dice::new(seed ^ 0xd1ce);
        let address: Address = "server:4730".parse().expect("an address");
        let host = net.add_host(Some(address.clone()));
        let mut config = server::Config::new(dice.seed());
        config.silent_worker = Some(Duration::from_secs(30));
        config.idle = Some(Duration::from_secs(30));
        if dice.chance(300) {
            config.limits.max_events = dice.below(8) + 1;
            config.limits.max_outgoing = dice.below(1 << 16) + 1;
        }
        let tls = ServerTls::new(OURS.sign(&["server"]).identity(), ClientCertificates::NotAsked).expect("settings");
        let server = Server::new(config, Instant::EPOCH, Duration::from_secs(1_800_000_000)).expect("a server");
        let server = Driver::new(&mut net, host, Secured::server(server, tls));
        let tls = ClientTls::new(OURS.roots()).expect("settings");
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut config = client::Config::new(dice.seed());
            config.servers.push(address.clone());
            impatient(&mut config.connecting, &mut dice);
            if dice.chance(300) {
                config.limits.max_events = dice.below(8) + 1;
            }
            let client = Secured::client(Client::new(config).expect("a client"), tls.clone());
            let host = net.add_host(None);
            clients.push(Driver::new(&mut net, host, client));
        }
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let mut config = worker::Config::new(dice.seed());
            config.servers.push(address.clone());
            impatient(&mut config.connecting, &mut dice);
            config.concurrency = dice.below(8) + 1;
            config.regrab_after = Some(Duration::from_secs(5));
            let mut worker = Secured::client(Worker::new(config).expect("a worker"), tls.clone());
            worker.register("f", None, Instant::EPOCH).expect("a function");
            let host = net.add_host(None);
            workers.push(Driver::new(&mut net, host, worker));
        }
        let open = (0..CLIENTS).map(|_| BTreeMap::new()).collect();
        Self { net, server, clients, workers, open, complete: 0, lost: 0 }
    }

    fn submit(&mut self, client: usize, dice: &mut Dice) {
        let most = if dice.chance(100) { 300_000 } else { 3000 };
        let size = dice.skewed(most) as usize;
        let payload = Bytes::from(dice.seed().repeat(size / 32));
        let retry = if dice.chance(500) { Retry::Unsent } else { Retry::Idempotent { attempts: 9 } };
        let job = Job::new("f", payload.clone()).retry(retry);
        let driver = &mut self.clients[client];
        let job = driver.act(&mut self.net, |client, now| client.submit(job, now)).expect("room");
        self.open[client].insert(job, payload);
        self.look();
    }

    /// Lets things happen until `until`, or until nothing is open.
    fn run(&mut self, until: u64, all_done: bool) {
        while !(all_done && self.open.iter().all(BTreeMap::is_empty)) {
            let Some((host, occurrence)) = self.net.next(until) else { return };
            match host {
                0 => self.server.occur(&mut self.net, occurrence),
                1..=CLIENTS => self.clients[host - 1].occur(&mut self.net, occurrence),
                _ => self.workers[host - 1 - CLIENTS].occur(&mut self.net, occurrence),
            }
            self.look();
        }
    }

    fn look(&mut self) {
        for worker in &mut self.workers {
            while let Some(event) = worker.events.pop_front() {
                if let worker::Event::Assigned(assignment) = event {
                    let reversed: Vec<u8> = assignment.payload.iter().rev().copied().collect();
                    worker
                        .act(&mut self.net, |worker, now| drop(worker.complete(assignment.task, reversed.into(), now)));
                }
            }
        }
        for (client, open) in self.clients.iter_mut().zip(&mut self.open) {
            while let Some(event) = client.events.pop_front() {
                if let client::Event::Done { job, outcome } = event {
                    let payload = open.remove(&job).expect("a job that is open ends once");
                    match outcome {
                        Outcome::Complete(result) => {
                            assert!(result.iter().rev().eq(payload.iter()), "another's result");
                            self.complete += 1;
                        }
                        // Where no connection came about in 30 s it was never sent.
                        Outcome::Lost { .. } | Outcome::TimedOut { phase: Phase::Parked, .. } => self.lost += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        self.server.events.clear();
    }

    /// Everybody goes, and nothing is left.
    fn close(&mut self) {
        for client in &mut self.clients {
            assert!(client.machine.is_empty(), "an idle client holds something");
            client.act(&mut self.net, |client, now| client.close(now));
            assert_eq!((client.connections(), client.wait()), (0, None));
        }
        for worker in &mut self.workers {
            worker.act(&mut self.net, |worker, now| worker.drain(now));
        }
        self.run(self.net.now() + 150 * SECOND, false);
        assert!(self.workers.iter().all(|worker| worker.connections() == 0 && worker.wait().is_none()));
        assert_eq!(self.net.open_ends(), 0, "connections are left");
        let counters = self.server.machine.counters();
        assert_eq!((counters.connections, counters.jobs, self.server.wait()), (0, 0, None));
    }
}

#[test]
fn jobs_find_their_way_over_a_net_without_faults() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        let mut dice = Dice::new(seed);
        (0..JOBS).for_each(|number| world.submit(number % CLIENTS, &mut dice));
        world.run(PATIENCE, true);
        assert_eq!((world.complete, world.lost), (JOBS, 0), "seed {seed}");
        world.close();
    }
}

#[test]
fn every_job_ends_once_whatever_the_net_does() {
    let (mut complete, mut lost, mut injected) = (0, 0, 0);
    for seed in 100..115 {
        let mut world = World::new(seed);
        let mut dice = Dice::new(seed);
        for fault in [Fault::Refused, Fault::BlackHole, Fault::Reset, Fault::Ended, Fault::HalfOpen, Fault::OneWay] {
            world.net.faults.set(fault, dice.range(0, 150));
        }
        world.net.faults.set(Fault::Spurious, 50);
        world.net.faults.set(Fault::Slow, dice.range(0, 200));
        for number in 0..JOBS {
            world.submit(number % CLIENTS, &mut dice);
            let until = world.net.now() + dice.range(0, SECOND);
            world.run(until, false);
        }
        world.run(world.net.now() + 20 * SECOND, false);
        world.net.heal();
        world.run(world.net.now() + PATIENCE, true);
        assert_eq!(world.complete + world.lost, JOBS, "seed {seed}: some jobs never end");
        injected += world.net.faults.injected.iter().sum::<u64>();
        (complete, lost) = (complete + world.complete, lost + world.lost);
        world.net.keepalive();
        world.close();
    }
    assert!(injected > 100 && lost > 0 && complete > 10 * lost, "{injected} faults, {complete} complete, {lost} lost");
}
