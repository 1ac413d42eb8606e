//! Clients, workers and job servers on the virtual network, driven by a [`Script`] that follows from a seed, and the rules
//! that must hold whatever goes wrong.
//!
//! A run has a stormy part, in which users do what users do and the faults strike, and a calm one: the net is healed,
//! everybody is there, and all that was begun must come to its end. Then nothing may be left in any table.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]

mod clients;
mod operators;
mod probe;
mod readers;
mod record;
mod script;
mod servers;
mod toy;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use gearwheel::client::Client;
use gearwheel::worker::{TaskId, Worker};
use gearwheel::{Address, Connecting};

use self::clients::ClientSlot;
use self::operators::OperatorSlot;
use self::probe::Probe;
use self::readers::Reading;
use self::record::Record;
pub use self::script::{Report, Script, Step, run, shrink};
use self::servers::{AnyServer, ServerSlot};
use self::toy::Habits;
use self::workers::WorkerSlot;
use super::net::{Dice, Fault, HostId, Net, Occurrence, SECOND, Trace, WORLD};

const FUNCTIONS: [&str; 3] = ["reverse", "resize", "mail"];
/// When a run begins, in seconds since 1970.
const UNIX: u64 = 1_800_000_000;
/// In the calm part everything must have ended by then.
const PATIENCE: u64 = 3600 * SECOND;

#[derive(Clone, Debug)]
enum Errand {
    Step(usize),
    Calm,
    Keepalive,
    StartServer(usize),
    StartClient(usize),
    StartWorker(usize),
    StartOperator(usize),
    Read { client: usize, incarnation: u32 },
    Work { worker: usize, incarnation: u32, task: TaskId, turn: u32 },
}

struct World {
    net: Net,
    script: Script,
    dice: Dice,
    servers: Vec<ServerSlot>,
    clients: Vec<ClientSlot>,
    workers: Vec<WorkerSlot>,
    operators: Vec<OperatorSlot>,
    records: Vec<Record>,
    by_payload: BTreeMap<Bytes, usize>,
    errands: Vec<Errand>,
    outcomes: BTreeMap<&'static str, u64>,
    calm: bool,
    /// Whether a worker has been given a time limit for a function, so that jobs may fail by it.
    timed: bool,
    /// Whether a job that several submissions share has been cancelled, so that any of them may fail by it.
    shared_may_fail: bool,
    probe: Option<Probe>,
    inputs: u64,
    outputs: u64,
}

impl World {
    fn new(script: Script, trace: Trace) -> Self {
        let mut net = Net::new(script.seed);
        net.keep_trace(trace);
        for (fault, chance) in Fault::ALL.into_iter().zip(&script.chances) {
            net.faults.set(fault, *chance);
        }
        let mut dice = Dice::new(script.seed ^ 0xd1ce);
        let servers = (0..script.servers)
            .map(|place| {
                let address: Address = format!("server{place}:4730").parse().expect("an address");
                let mut habit = || dice.chance(150);
                let habits =
                    Habits { perl: habit(), wrong_magic: habit(), nervous: habit(), drowsy: habit(), picky: habit() };
                let host = net.add_host(Some(address.clone()));
                let habits = dice.chance(400).then_some(habits);
                ServerSlot::new(host, address, habits)
            })
            .collect::<Vec<_>>();
        let clients = (0..script.clients)
            .map(|_| ClientSlot {
                host: net.add_host(None),
                incarnation: 0,
                driver: None,
                jobs: BTreeMap::new(),
                asked: BTreeSet::new(),
                leaving: BTreeSet::new(),
                written: BTreeMap::new(),
                reading: Reading::default(),
                closed: false,
                closing: false,
            })
            .collect();
        let workers = (0..script.workers)
            .map(|_| WorkerSlot {
                host: net.add_host(None),
                incarnation: 0,
                driver: None,
                tasks: BTreeMap::new(),
                leaving: BTreeSet::new(),
                concurrency: 1,
                stopping: false,
                closed: false,
            })
            .collect();
        let operators =
            (0..script.operators).map(|_| OperatorSlot::new(net.add_host(None), &servers, &mut dice)).collect();
        let mut world = Self {
            net,
            dice,
            servers,
            clients,
            workers,
            operators,
            records: Vec::new(),
            by_payload: BTreeMap::new(),
            errands: Vec::new(),
            outcomes: BTreeMap::new(),
            calm: false,
            timed: false,
            shared_may_fail: false,
            probe: None,
            inputs: 0,
            outputs: 0,
            script,
        };
        (0..world.servers.len()).for_each(|place| world.start_server(place));
        (0..world.clients.len()).for_each(|place| world.start_client(place));
        (0..world.workers.len()).for_each(|place| world.start_worker(place));
        (0..world.operators.len()).for_each(|place| world.start_operator(place));
        for index in 0..world.script.steps.len() {
            let at = world.script.steps[index].0;
            world.put_off(at, Errand::Step(index));
        }
        let storm = world.script.storm;
        world.put_off(storm, Errand::Calm);
        world
    }

    fn put_off(&mut self, at: u64, errand: Errand) {
        self.errands.push(errand);
        self.net.errand(at, self.errands.len() as u64 - 1);
    }

    fn run(&mut self) {
        let end = self.script.storm + PATIENCE;
        while !(self.calm && self.all_ended()) {
            let Some((host, occurrence)) = self.net.next(end) else { break };
            self.occur(host, occurrence);
        }
        self.judge_ends();
        self.idle();
        self.probe();
        self.close_all();
    }

    fn occur(&mut self, host: HostId, occurrence: Occurrence) {
        if host == WORLD {
            if let Occurrence::Errand(number) = occurrence {
                let errand = self.errands[number as usize].clone();
                self.errand(errand);
            }
            return;
        }
        let (servers, clients, workers) = (self.servers.len(), self.clients.len(), self.workers.len());
        if host < servers {
            match &mut self.servers[host].server {
                Some(AnyServer::Ours(driver)) => driver.occur(&mut self.net, occurrence),
                Some(AnyServer::Toy(toy)) => toy.occur(&mut self.net, occurrence),
                None => {}
            }
            self.look_at_server(host);
        } else if host < servers + clients {
            if let Some(driver) = &mut self.clients[host - servers].driver {
                driver.occur(&mut self.net, occurrence);
            }
            self.look_at_client(host - servers);
        } else if host < servers + clients + workers {
            let place = host - servers - clients;
            if let Some(driver) = &mut self.workers[place].driver {
                driver.occur(&mut self.net, occurrence);
            }
            self.look_at_worker(place);
        } else {
            let place = host - servers - clients - workers;
            if let Some(driver) = &mut self.operators[place].driver {
                driver.occur(&mut self.net, occurrence);
            }
            self.look_at_operator(place);
        }
    }

    fn errand(&mut self, errand: Errand) {
        match errand {
            Errand::Step(index) => {
                let step = self.script.steps[index].1;
                self.net.note(format_args!("step {index}: {step:?}"));
                self.step(step);
            }
            Errand::Calm => self.calm_down(),
            Errand::Keepalive => self.net.keepalive(),
            Errand::StartServer(place) => self.start_server(place),
            Errand::StartClient(place) => self.start_client(place),
            Errand::StartWorker(place) => self.start_worker(place),
            Errand::StartOperator(place) => self.start_operator(place),
            Errand::Read { client, incarnation } => self.read(client, incarnation),
            Errand::Work { worker, incarnation, task, turn } => self.work(worker, incarnation, task, turn),
        }
    }

    fn connecting(&mut self) -> Connecting {
        let mut connecting = Connecting::default();
        let dice = &mut self.dice;
        let mut between = |low, high| Duration::from_millis(dice.range(low, high));
        connecting.connect_timeout = between(50, 8000);
        connecting.reply_timeout = between(500, 20_000);
        connecting.probe_after = Some(between(500, 20_000));
        connecting.retry_first = between(1, 500);
        connecting.retry_most = between(500, 30_000);
        connecting.patience = between(10, 1000);
        connecting
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { client, dice } => self.submit(client, &mut Dice::new(dice)),
            Step::Burst { client, count, dice } => {
                let mut dice = Dice::new(dice);
                (0..count).for_each(|_| self.submit(client, &mut dice));
            }
            Step::Abandon { client, dice } => self.abandon(client, dice),
            Step::Ask { client, dice } => self.ask(client, &mut Dice::new(dice)),
            Step::CloseClient { client } => {
                let slot = &mut self.clients[client];
                if let Some(driver) = &mut slot.driver {
                    slot.closing = true;
                    driver.act(&mut self.net, Client::close);
                    self.look_at_client(client);
                    let at = self.net.now() + SECOND;
                    self.put_off(at, Errand::StartClient(client));
                }
            }
            Step::ChangeServers { client, dice } => self.change_servers(client, &mut Dice::new(dice)),
            Step::ChangeServersOfWorker { worker, dice } => {
                self.change_servers_of_worker(worker, &mut Dice::new(dice));
            }
            Step::Drain { worker } => {
                if let Some(driver) = &mut self.workers[worker].driver {
                    driver.act(&mut self.net, Worker::drain);
                    self.workers[worker].stopping = true;
                    self.look_at_worker(worker);
                }
            }
            Step::CloseWorker { worker } => {
                if let Some(driver) = &mut self.workers[worker].driver {
                    driver.act(&mut self.net, Worker::close);
                    self.workers[worker].stopping = true;
                    self.look_at_worker(worker);
                }
            }
            Step::ChangeFunctions { worker, dice } => {
                let function = FUNCTIONS[Dice::new(dice).below(FUNCTIONS.len())];
                let closed = self.workers[worker].closed;
                let timed = &mut self.timed;
                if let Some(driver) = self.workers[worker].driver.as_mut().filter(|_| !closed) {
                    driver.act(&mut self.net, |worker, now| {
                        if dice % 11 == 0 {
                            worker.unregister_all(now);
                        } else if worker.unregister(function.as_bytes(), now).is_err() {
                            let timeout = (dice % 5 == 0).then(|| Duration::from_millis(dice % 9000 + 1));
                            *timed |= timeout.is_some();
                            worker.register(function, timeout, now).expect("it was not registered");
                        }
                    });
                    self.look_at_worker(worker);
                }
            }
            Step::CrashServer { server, power_loss, down } => {
                if self.servers[server].server.take().is_some() {
                    self.servers[server].draining = None;
                    self.servers[server].incarnation += 1;
                    self.net.crash(self.servers[server].host, power_loss);
                    let at = self.net.now() + down;
                    self.put_off(at, Errand::StartServer(server));
                }
            }
            Step::CrashClient { client } => {
                let slot = &mut self.clients[client];
                if let Some(driver) = slot.driver.take() {
                    (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
                    slot.incarnation += 1;
                    self.net.crash(slot.host, false);
                    let at = self.net.now() + SECOND;
                    self.put_off(at, Errand::StartClient(client));
                }
            }
            Step::CrashWorker { worker, power_loss } => {
                let slot = &mut self.workers[worker];
                if let Some(driver) = slot.driver.take() {
                    (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
                    slot.incarnation += 1;
                    self.net.crash(slot.host, power_loss);
                    let at = self.net.now() + SECOND;
                    self.put_off(at, Errand::StartWorker(worker));
                }
            }
            Step::Stall { host, nanos } => self.net.stall(host, nanos),
            Step::Command { operator, dice } => self.ask_server(operator, &mut Dice::new(dice)),
            Step::CloseOperator { operator } => {
                self.close_operator(operator);
                let at = self.net.now() + SECOND;
                self.put_off(at, Errand::StartOperator(operator));
            }
            Step::RestartServer { server, down } => self.drain_server(server, down),
        }
    }

    /// The storm is over: everybody is there, and nothing goes wrong any more.
    fn calm_down(&mut self) {
        self.net.heal();
        self.calm = true;
        for place in 0..self.servers.len() {
            self.close_draining_server(place);
            self.start_server(place);
        }
        for place in 0..self.clients.len() {
            self.give_servers(place);
            self.look_at_client(place);
        }
        for place in 0..self.workers.len() {
            self.start_worker(place);
            self.give_servers_to_worker(place);
            let slot = &mut self.workers[place];
            let Some(driver) = &mut slot.driver else { continue };
            let offered: BTreeSet<Bytes> = driver.machine.functions().collect();
            for function in FUNCTIONS {
                if !slot.stopping && !offered.contains(function.as_bytes()) {
                    driver
                        .act(&mut self.net, |worker, now| worker.register(function, None, now))
                        .expect("it is not registered");
                }
            }
            self.look_at_worker(place);
        }
        let at = self.net.now() + 120 * SECOND;
        self.put_off(at, Errand::Keepalive);
    }

    fn all_ended(&self) -> bool {
        self.clients.iter().all(|slot| slot.jobs.is_empty() && slot.asked.is_empty())
            && self.clients.iter().all(|slot| slot.leaving.is_empty() || slot.driver.is_none())
            && self.workers.iter().all(|slot| slot.leaving.is_empty() || slot.driver.is_none())
            && self.operators.iter().all(|slot| slot.asked.is_empty())
            && self.workers.iter().all(|slot| slot.tasks.is_empty())
            && self.servers.iter().all(ServerSlot::is_empty)
    }

    fn judge_ends(&self) {
        for (place, slot) in self.clients.iter().enumerate() {
            assert!(slot.jobs.is_empty(), "jobs of client {place} never end: {:?}", slot.jobs);
            assert!(slot.asked.is_empty(), "requests of client {place} are never answered: {:?}", slot.asked);
            let leaving = slot.leaving.is_empty() || slot.driver.is_none();
            assert!(leaving, "client {place} never gets rid of {:?}", slot.leaving);
        }
        for (place, slot) in self.operators.iter().enumerate() {
            assert!(slot.asked.is_empty(), "commands of operator {place} are never answered: {:?}", slot.asked);
        }
        for (number, record) in self.records.iter().enumerate() {
            if let Some(handle) = &record.queued {
                let by = |(place, slot): &(usize, &ServerSlot)| {
                    !slot.impatient && handle.starts_with(format!("H:s{place}.{}:", slot.incarnation).as_bytes())
                };
                let server = self.servers.iter().enumerate().find(by);
                if server.is_some() && !record.shared && !record.may_fail {
                    assert!(record.runs > 0, "background job {number} was accepted and never run");
                }
            }
        }
        assert!(self.all_ended(), "something is left in a worker or a job server");
    }

    /// An idle system does nothing but see whether its connections live.
    fn idle(&mut self) {
        let count = |world: &Self| {
            let clients = world.clients.iter().flat_map(|slot| &slot.driver).map(|driver| driver.inputs);
            let workers = world.workers.iter().flat_map(|slot| &slot.driver).map(|driver| driver.inputs);
            let operators = world.operators.iter().flat_map(|slot| &slot.driver).map(|driver| driver.inputs);
            clients.chain(workers).chain(operators).sum::<u64>()
        };
        let settled = self.net.now() + 150 * SECOND;
        while let Some((host, occurrence)) = self.net.next(settled) {
            self.occur(host, occurrence);
        }
        let before = count(self);
        let until = self.net.now() + 150 * SECOND;
        while let Some((host, occurrence)) = self.net.next(until) {
            self.occur(host, occurrence);
        }
        let machines = (self.clients.len() + self.workers.len()) as u64;
        let (servers, inputs) = (self.servers.len() as u64, count(self) - before);
        // A probe each half second at most, and a grab each second; bytes may come one by one.
        let most = machines * servers * 150 * 40;
        assert!(inputs <= most, "an idle system is busy: {inputs} inputs in 150 s");
    }

    /// Everybody goes, and nothing may be left.
    fn close_all(&mut self) {
        self.close_operators();
        for place in 0..self.clients.len() {
            if let Some(driver) = &mut self.clients[place].driver {
                assert!(driver.machine.is_empty(), "an idle client holds something");
                driver.act(&mut self.net, Client::close);
                self.look_at_client(place);
                assert!(self.clients[place].closed, "a client does not close");
            }
        }
        for place in 0..self.workers.len() {
            if let Some(driver) = &mut self.workers[place].driver {
                driver.act(&mut self.net, Worker::drain);
                self.workers[place].stopping = true;
                self.look_at_worker(place);
            }
        }
        let until = self.net.now() + 150 * SECOND;
        while let Some((host, occurrence)) = self.net.next(until) {
            self.occur(host, occurrence);
        }
        assert!(self.workers.iter().all(|slot| slot.closed), "a worker with nothing in hand does not drain");
        assert_eq!(self.net.open_ends(), 0, "connections are left");
        for server in self.servers.iter().flat_map(|slot| &slot.server) {
            assert_eq!(server.guests(), 0, "a job server believes in connections that are no more");
            if let AnyServer::Ours(driver) = server {
                driver.machine.audit();
                let counters = driver.machine.counters();
                assert_eq!(counters.abilities, 0, "abilities of nobody");
                assert_eq!(driver.wait(), None, "a job server without connections and jobs waits for something");
            }
        }
    }

    fn report(&self, report: &mut Report) {
        report.virtual_nanos = self.net.now();
        report.outcomes = self.outcomes.clone();
        report.faults = self.net.faults.injected;
        report.inputs = self.inputs;
        report.outputs = self.outputs;
        report.connects = self.net.connects;
        report.carried = self.net.carried;
        report.digest = self.net.digest();
    }
}
