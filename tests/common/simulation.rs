//! Clients, workers and job servers on the virtual network, driven by a [`Script`] that follows from a seed, and the rules
//! that must hold whatever goes wrong.
//!
//! A run has a stormy part, in which users do what users do and the faults strike, and a calm one: the net is healed,
//! everybody is there, and all that was begun must come to its end. Then nothing may be left in any table.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::client::{self, Client};
use gearwheel::server::{self, Server};
use gearwheel::wire::{Packet, split};
use gearwheel::worker::{self, TaskId, Worker};
use gearwheel::{Address, Balance, CloseReason, Connecting, Job, JobId, Outcome, Phase, Priority, Retry};

use super::net::{Dice, Driver, EndId, Fault, HostId, MILLISECOND, Net, Occurrence, SECOND, WORLD};
use super::toy::{Habits, Toy};

const FUNCTIONS: [&str; 3] = ["reverse", "resize", "mail"];
/// In the calm part everything must have ended by then.
const PATIENCE: u64 = 3600 * SECOND;

/// What happens in a run, all of it.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub servers: usize,
    pub clients: usize,
    pub workers: usize,
    /// Thousandths, in the order of [`Fault::ALL`].
    pub chances: Vec<u64>,
    pub storm: u64,
    pub steps: Vec<(u64, Step)>,
}

/// What a user or the weather does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Submit { client: usize, dice: u64 },
    Burst { client: usize, count: usize, dice: u64 },
    Abandon { client: usize, dice: u64 },
    Ask { client: usize, dice: u64 },
    CloseClient { client: usize },
    ChangeServers { client: usize, dice: u64 },
    Drain { worker: usize },
    CloseWorker { worker: usize },
    ChangeFunctions { worker: usize, dice: u64 },
    CrashServer { server: usize, power_loss: bool, down: u64 },
    CrashClient { client: usize },
    CrashWorker { worker: usize, power_loss: bool },
    Stall { host: HostId, nanos: u64 },
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let (servers, clients, workers) = (dice.below(3) + 1, dice.below(3) + 1, dice.below(3) + 1);
        let stormy = dice.range(0, 3);
        let mut chances: Vec<u64> = Fault::ALL.map(|_| dice.skewed(80 * stormy)).to_vec();
        if stormy == 0 {
            chances = vec![0; Fault::ALL.len()];
        }
        chances[Fault::Spurious as usize] = dice.range(0, 50);
        let storm = dice.range(1, 90) * SECOND;
        let count = dice.skewed(120) + 5;
        let mut steps: Vec<_> = (0..count)
            .map(|_| (dice.range(0, storm), Self::step(&mut dice, stormy, servers, clients, workers)))
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        Self { seed, servers, clients, workers, chances, storm, steps }
    }

    fn step(dice: &mut Dice, stormy: u64, servers: usize, clients: usize, workers: usize) -> Step {
        let (client, worker, server) = (dice.below(clients), dice.below(workers), dice.below(servers));
        let die = dice.next();
        match dice.range(0, if stormy == 0 { 849 } else { 999 }) {
            0..600 => Step::Submit { client, dice: die },
            600..650 => Step::Burst { client, count: dice.skewed(200) as usize + 2, dice: die },
            650..700 => Step::Abandon { client, dice: die },
            700..750 => Step::Ask { client, dice: die },
            750..780 => Step::ChangeServers { client, dice: die },
            780..820 => Step::ChangeFunctions { worker, dice: die },
            820..830 => Step::CloseClient { client },
            830..840 => Step::Drain { worker },
            840..850 => Step::CloseWorker { worker },
            850..900 => Step::CrashServer { server, power_loss: dice.chance(300), down: dice.skewed(20 * SECOND) },
            900..920 => Step::CrashClient { client },
            920..960 => Step::CrashWorker { worker, power_loss: dice.chance(300) },
            _ => Step::Stall { host: dice.below(servers + clients + workers), nanos: dice.skewed(40 * SECOND) },
        }
    }
}

/// What a run has to show.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub virtual_nanos: u64,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub faults: [u64; Fault::ALL.len()],
    pub inputs: u64,
    pub outputs: u64,
    pub connects: u64,
    pub carried: u64,
    pub trace: String,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.virtual_nanos += other.virtual_nanos;
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.inputs += other.inputs;
        self.outputs += other.outputs;
        self.connects += other.connects;
        self.carried += other.carried;
    }
}

/// Runs a script; what was wrong, if anything.
pub fn run(script: &Script, trace: bool) -> Result<Report, String> {
    let mut report = Report::default();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(script.clone(), trace);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()));
        report.trace = world.net.trace().into();
        match result {
            Ok(()) => world.report(&mut report),
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }));
    match result {
        Ok(()) => Ok(report),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).into()));
            let text = text.unwrap_or_else(|| "a panic".into());
            Err(if trace { format!("{}{text}", report.trace) } else { text })
        }
    }
}

/// A shorter script that fails, too.
pub fn shrink(mut script: Script) -> Script {
    let fails = |script: &Script| run(script, false).is_err();
    let mut size = script.steps.len();
    while size > 0 {
        let mut at = 0;
        while at < script.steps.len() {
            let mut shorter = script.clone();
            shorter.steps.drain(at..(at + size).min(script.steps.len()));
            if fails(&shorter) { script = shorter } else { at += size }
        }
        size /= 2;
    }
    for fault in 0..script.chances.len() {
        let mut milder = script.clone();
        milder.chances[fault] = 0;
        if fails(&milder) {
            script = milder;
        }
    }
    script
}

/// What is known of a job, by whoever looks on.
struct Record {
    client: usize,
    incarnation: u32,
    job: JobId,
    submitted: u64,
    background: bool,
    retry: Retry,
    payload: Bytes,
    /// Several have this payload, so that nobody can tell which of them is meant.
    shared: bool,
    shortest_deadline: Option<u64>,
    abandoned: bool,
    created: bool,
    alive: bool,
    ended: bool,
    queued: Option<Bytes>,
    /// How many complete submissions have been written.
    written: u32,
    /// How often a worker was given it.
    runs: u32,
}

enum AnyServer {
    Ours(Box<Driver<Server>>),
    Toy(Toy),
}

impl AnyServer {
    /// Whether it has no job.
    fn is_empty(&self) -> bool {
        match self {
            Self::Ours(driver) => {
                let counters = driver.machine.counters();
                counters.jobs + counters.running + counters.waiting + counters.job_bytes == 0
            }
            Self::Toy(toy) => toy.is_empty(),
        }
    }

    fn guests(&self) -> usize {
        match self {
            Self::Ours(driver) => driver.machine.counters().connections,
            Self::Toy(toy) => toy.guests(),
        }
    }
}

struct ServerSlot {
    host: HostId,
    address: Address,
    incarnation: u32,
    server: Option<AnyServer>,
    /// `None`: it is our own.
    habits: Option<Habits>,
    /// Whether it may refuse jobs.
    picky: bool,
    /// Whether it drops jobs that were given out too often without coming back.
    impatient: bool,
}

struct ClientSlot {
    host: HostId,
    incarnation: u32,
    driver: Option<Driver<Client>>,
    jobs: BTreeMap<JobId, usize>,
    asked: BTreeSet<client::RequestId>,
    /// What it has written on each connection and was not a whole packet.
    written: BTreeMap<EndId, BytesMut>,
    closed: bool,
    unwatched: bool,
}

struct WorkerSlot {
    host: HostId,
    incarnation: u32,
    driver: Option<Driver<Worker>>,
    tasks: BTreeMap<TaskId, Bytes>,
    concurrency: usize,
    stopping: bool,
    closed: bool,
}

#[derive(Clone, Debug)]
enum Errand {
    Step(usize),
    Calm,
    Keepalive,
    StartServer(usize),
    StartClient(usize),
    StartWorker(usize),
    Work { worker: usize, incarnation: u32, task: TaskId, turn: u32 },
}

struct World {
    net: Net,
    script: Script,
    dice: Dice,
    servers: Vec<ServerSlot>,
    clients: Vec<ClientSlot>,
    workers: Vec<WorkerSlot>,
    records: Vec<Record>,
    by_payload: BTreeMap<Bytes, usize>,
    errands: Vec<Errand>,
    outcomes: BTreeMap<&'static str, u64>,
    calm: bool,
    inputs: u64,
    outputs: u64,
}

impl World {
    fn new(script: Script, trace: bool) -> Self {
        let mut net = Net::new(script.seed);
        if trace {
            net.keep_trace();
        }
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
                let picky = habits.is_some_and(|habits| habits.picky);
                ServerSlot { host, address, incarnation: 0, server: None, habits, picky, impatient: false }
            })
            .collect();
        let clients = (0..script.clients)
            .map(|_| ClientSlot {
                host: net.add_host(None),
                incarnation: 0,
                driver: None,
                jobs: BTreeMap::new(),
                asked: BTreeSet::new(),
                written: BTreeMap::new(),
                closed: false,
                unwatched: false,
            })
            .collect();
        let workers = (0..script.workers)
            .map(|_| WorkerSlot {
                host: net.add_host(None),
                incarnation: 0,
                driver: None,
                tasks: BTreeMap::new(),
                concurrency: 1,
                stopping: false,
                closed: false,
            })
            .collect();
        let mut world = Self {
            net,
            dice,
            servers,
            clients,
            workers,
            records: Vec::new(),
            by_payload: BTreeMap::new(),
            errands: Vec::new(),
            outcomes: BTreeMap::new(),
            calm: false,
            inputs: 0,
            outputs: 0,
            script,
        };
        (0..world.servers.len()).for_each(|place| world.start_server(place));
        (0..world.clients.len()).for_each(|place| world.start_client(place));
        (0..world.workers.len()).for_each(|place| world.start_worker(place));
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
        let (servers, clients) = (self.servers.len(), self.clients.len());
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
        } else {
            let place = host - servers - clients;
            if let Some(driver) = &mut self.workers[place].driver {
                driver.occur(&mut self.net, occurrence);
            }
            self.look_at_worker(place);
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

    fn start_server(&mut self, place: usize) {
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
        let mut config = server::Config::new(dice.seed());
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
        let unix_now = Duration::from_secs(1_800_000_000);
        let now = gearwheel::Instant::EPOCH;
        let server = Server::new(config, now, unix_now).expect("a good configuration");
        slot.server = Some(AnyServer::Ours(Box::new(Driver::new(&mut self.net, slot.host, server))));
        self.look_at_server(place);
    }

    /// Our machines keep the protocol, so no server has cause to complain of them.
    fn look_at_server(&mut self, place: usize) {
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

    fn start_client(&mut self, place: usize) {
        if self.clients[place].driver.is_some() {
            return;
        }
        let mut config = client::Config::new(self.dice.seed());
        config.connecting = self.connecting();
        config.servers = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let turn = self.dice.below(config.servers.len());
        config.servers.rotate_left(turn);
        config.balance = match self.dice.below(5) {
            0 => Balance::Sticky,
            1 => Balance::RoundRobin,
            2 => Balance::LeastOutstanding,
            3 => Balance::ByUnique,
            _ => Balance::Sequence,
        };
        config.exceptions = self.dice.chance(800);
        if self.dice.chance(300) {
            config.limits.max_events = self.dice.below(8) + 1;
            config.limits.max_outgoing = self.dice.below(1 << 16) + 1;
            config.limits.max_jobs = self.dice.below(40) + 1;
        }
        if self.dice.chance(500) {
            config.deadlines.accept = None;
        }
        config.client_id = self.dice.chance(300).then(|| format!("client-{place}").into());
        let slot = &mut self.clients[place];
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        let mut driver = Driver::new(&mut self.net, slot.host, Client::new(config).expect("a good configuration"));
        driver.tap();
        slot.driver = Some(driver);
        slot.jobs.clear();
        slot.asked.clear();
        slot.written.clear();
        slot.closed = false;
        self.look_at_client(place);
    }

    fn start_worker(&mut self, place: usize) {
        if self.workers[place].driver.is_some() {
            return;
        }
        let mut config = worker::Config::new(self.dice.seed());
        config.connecting = self.connecting();
        config.servers = self.servers.iter().map(|slot| slot.address.clone()).collect();
        config.concurrency = self.dice.skewed(16) as usize + 1;
        config.prefetch = self.dice.skewed(16) as usize;
        config.grab = [worker::Grab::Plain, worker::Grab::Unique, worker::Grab::All][self.dice.below(3)];
        config.regrab_after = Some(Duration::from_secs(self.dice.range(1, 60)));
        config.timeout_is_exception = self.dice.chance(300);
        config.client_id = self.dice.chance(300).then(|| format!("worker-{place}").into());
        if self.dice.chance(300) {
            config.limits.max_events = self.dice.below(8) + 1;
            config.limits.max_outgoing = self.dice.below(1 << 16) + 1;
        }
        let slot = &mut self.workers[place];
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        slot.concurrency = config.concurrency;
        let mut driver = Driver::new(&mut self.net, slot.host, Worker::new(config).expect("a good configuration"));
        for function in FUNCTIONS {
            driver.act(&mut self.net, |worker, now| worker.register(function, None, now)).expect("a new function");
        }
        slot.driver = Some(driver);
        slot.tasks.clear();
        (slot.stopping, slot.closed) = (false, false);
        self.look_at_worker(place);
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
                if let Some(driver) = &mut self.clients[client].driver {
                    driver.act(&mut self.net, Client::close);
                    self.look_at_client(client);
                    let at = self.net.now() + SECOND;
                    self.put_off(at, Errand::StartClient(client));
                }
            }
            Step::ChangeServers { client, dice } => self.change_servers(client, &mut Dice::new(dice)),
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
                if let Some(driver) = self.workers[worker].driver.as_mut().filter(|_| !closed) {
                    driver.act(&mut self.net, |worker, now| {
                        if worker.unregister(function.as_bytes(), now).is_err() {
                            let timeout = (dice % 5 == 0).then(|| Duration::from_millis(dice % 9000 + 1));
                            worker.register(function, timeout, now).expect("it was not registered");
                        }
                    });
                    self.look_at_worker(worker);
                }
            }
            Step::CrashServer { server, power_loss, down } => {
                if self.servers[server].server.take().is_some() {
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
        }
    }

    fn submit(&mut self, place: usize, dice: &mut Dice) {
        let number = self.records.len();
        let shared = dice.chance(150);
        let size = if dice.chance(20) { dice.skewed(200_000) } else { dice.skewed(4000) } as usize;
        let how = ["c", "cd", "f", "fd", "x", "xd"][if dice.chance(800) { dice.below(2) } else { dice.below(6) }];
        let delay = if dice.chance(700) { 0 } else { dice.skewed(5000) };
        // What stands in front says what the worker is to do with it.
        let payload = if shared {
            format!("u{}|cd|{delay}|", dice.below(3))
        } else {
            format!("{number}|{how}|{delay}|{}", "x".repeat(size))
        };
        let payload = Bytes::from(payload);
        let mut job = Job::new(FUNCTIONS[dice.below(FUNCTIONS.len())], payload.clone());
        if shared {
            job = job.unique(payload.clone());
        } else if dice.chance(200) {
            job = job.generated_unique();
        }
        let background = dice.chance(250);
        if background {
            job = job.background();
        }
        job = job.priority([Priority::High, Priority::Normal, Priority::Low][dice.below(3)]);
        let retry = match dice.below(4) {
            0 => Retry::Never,
            1 => Retry::Unsent,
            2 => Retry::Idempotent { attempts: dice.below(4) as u32 + 1 },
            _ => Retry::Idempotent { attempts: 100_000 },
        };
        job = job.retry(retry);
        let mut shortest: Option<u64> = None;
        let mut deadline = |dice: &mut Dice| {
            let nanos = dice.range(1, 20_000) * MILLISECOND;
            shortest = Some(shortest.map_or(nanos, |shortest| shortest.min(nanos)));
            Duration::from_nanos(nanos)
        };
        if dice.chance(100) {
            job = job.timeout(deadline(dice));
        }
        if dice.chance(100) {
            job = job.idle_timeout(deadline(dice));
        }
        if dice.chance(100) {
            job = job.accept_timeout(deadline(dice));
        }
        let slot = &mut self.clients[place];
        let Some(driver) = &mut slot.driver else { return };
        if slot.closed {
            return;
        }
        let submitted = self.net.now();
        let result = driver.act(&mut self.net, |client, now| client.submit(job.clone(), now));
        let Ok(id) = result else {
            let rejected = result.expect_err("it was not taken");
            assert_eq!(rejected.value, job, "what is refused comes back as it was");
            *self.outcomes.entry("refused by submit").or_default() += 1;
            return self.look_at_client(place);
        };
        self.by_payload.insert(payload.clone(), number);
        let old = slot.jobs.insert(id, number);
        assert!(old.is_none(), "{id:?} is used again");
        self.records.push(Record {
            client: place,
            incarnation: slot.incarnation,
            job: id,
            submitted,
            background,
            retry,
            payload,
            shared,
            shortest_deadline: shortest,
            abandoned: false,
            created: false,
            alive: false,
            ended: false,
            queued: None,
            written: 0,
            runs: 0,
        });
        self.net.note(format_args!("client {place} has job {number} taken as {id:?}"));
        self.look_at_client(place);
    }

    fn abandon(&mut self, place: usize, dice: u64) {
        let slot = &mut self.clients[place];
        let (Some(driver), false) = (&mut slot.driver, slot.jobs.is_empty()) else { return };
        let at = dice as usize % slot.jobs.len();
        let (id, number) = slot.jobs.iter().nth(at).map(|(id, number)| (*id, *number)).expect("counted");
        self.records[number].abandoned = true;
        driver.act(&mut self.net, |client, now| client.abandon(id, now));
        self.look_at_client(place);
    }

    fn ask(&mut self, place: usize, dice: &mut Dice) {
        let slot = &mut self.clients[place];
        let Some(driver) = &mut slot.driver else { return };
        let jobs: Vec<_> = slot.jobs.keys().copied().collect();
        let request = driver.act(&mut self.net, |client, now| {
            let servers: Vec<_> = client.servers().map(|candidate| candidate.server).collect();
            let server = *servers.get(dice.below(servers.len()))?;
            match dice.below(2) {
                0 => client.echo(server, Bytes::from(vec![b'e'; dice.skewed(300) as usize]), now).ok(),
                _ if jobs.is_empty() => None,
                _ => client.status(jobs[dice.below(jobs.len())], now).ok(),
            }
        });
        if let Some(request) = request {
            assert!(slot.asked.insert(request), "{request:?} is used again");
        }
        self.look_at_client(place);
    }

    fn change_servers(&mut self, place: usize, dice: &mut Dice) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let Some(driver) = &mut self.clients[place].driver else { return };
        driver.act(&mut self.net, |client, now| {
            let there: Vec<_> =
                client.servers().map(|candidate| (candidate.server, candidate.address.clone())).collect();
            match addresses.iter().find(|address| !there.iter().any(|(_, other)| other == *address)) {
                Some(missing) => drop(client.add_server(missing.clone(), now)),
                None if there.len() > 1 => {
                    let (server, _) = there[dice.below(there.len())];
                    client.remove_server(server, dice.chance(500), now).expect("it is there");
                }
                None => {}
            }
        });
        self.look_at_client(place);
    }

    /// Gives a client the servers that it has not.
    fn give_servers(&mut self, place: usize) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let Some(driver) = &mut self.clients[place].driver else { return };
        driver.act(&mut self.net, |client, now| {
            for address in addresses {
                // One that is there, or is being removed, is refused.
                let _ = client.add_server(address, now);
            }
        });
    }

    /// Takes the events of a client, and compares them with what is known.
    fn look_at_client(&mut self, place: usize) {
        self.read_what_was_written();
        while let Some(event) = self.clients[place].driver.as_mut().and_then(|driver| driver.events.pop_front()) {
            assert!(!self.clients[place].closed, "{event:?} behind Closed");
            match event {
                client::Event::Created { job, handle, .. } => {
                    let number = self.outstanding(place, job, "Created");
                    let record = &mut self.records[number];
                    assert!(!record.background, "Created for a background job");
                    assert!(!handle.as_bytes().is_empty());
                    record.created = true;
                }
                client::Event::Data { job, payload } => self.sign_of_life(place, job, Some(&payload)),
                client::Event::Warning { job, payload } => self.sign_of_life(place, job, Some(&payload)),
                client::Event::Progress { job, numerator, denominator } => {
                    assert_eq!((numerator, denominator), (1, 2));
                    self.sign_of_life(place, job, None);
                }
                client::Event::Done { job, outcome } => self.done(place, job, outcome),
                client::Event::Status { request, .. } | client::Event::Echo { request, .. } => {
                    assert!(self.clients[place].asked.remove(&request), "{request:?} is answered twice or never asked");
                }
                client::Event::Closed => {
                    let slot = &mut self.clients[place];
                    assert!(slot.jobs.is_empty(), "Closed before {:?} have ended", slot.jobs);
                    assert!(slot.asked.is_empty(), "Closed before {:?} are answered", slot.asked);
                    slot.closed = true;
                }
                client::Event::Removed { .. } if self.calm => self.give_servers(place),
                _ => {}
            }
        }
        if self.clients[place].closed
            && let Some(driver) = self.clients[place].driver.take()
        {
            assert!(driver.machine.is_empty(), "a closed client holds something");
            assert_eq!(driver.connections(), 0, "a closed client has connections");
            assert_eq!(driver.wait(), None, "a closed client waits for something");
            (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
            self.net.crash(self.clients[place].host, false);
            self.clients[place].incarnation += 1;
        }
    }

    fn outstanding(&self, place: usize, job: JobId, what: &str) -> usize {
        let number = self.clients[place].jobs.get(&job).copied();
        number.unwrap_or_else(|| panic!("{what} for {job:?}, which has ended or never was"))
    }

    fn sign_of_life(&mut self, place: usize, job: JobId, payload: Option<&Bytes>) {
        let number = self.outstanding(place, job, "a sign of life");
        let record = &mut self.records[number];
        assert!(!record.background, "a sign of life of a background job");
        assert!(record.created, "a sign of life before Created");
        record.alive = true;
        if let Some(payload) = payload {
            assert!(record.payload.starts_with(payload), "data of another job: {payload:?} for {:?}", record.payload);
        }
    }

    fn done(&mut self, place: usize, job: JobId, outcome: Outcome) {
        let number = self.outstanding(place, job, "Done");
        self.clients[place].jobs.remove(&job);
        let closing = self.clients[place].driver.is_none() || self.clients[place].unwatched;
        let (picky, perl) = (
            self.servers.iter().any(|slot| slot.picky),
            self.servers.iter().any(|slot| slot.habits.is_some_and(|habits| habits.perl)),
        );
        let now = self.net.now();
        let record = &mut self.records[number];
        record.ended = true;
        let what = parts(&record.payload);
        let name = match &outcome {
            Outcome::Complete(result) => {
                assert!(!record.background);
                assert!(what.how.starts_with('c'), "a job that cannot complete has: {}", what.how);
                assert_eq!(*result, reversed(&record.payload), "the result of another job");
                "complete"
            }
            Outcome::Failed => {
                assert!(!record.background);
                let timed = true; // A worker may have been given a time limit for the function.
                assert!(perl || timed || !what.how.starts_with('c'), "a job that does not fail has failed");
                "failed"
            }
            Outcome::Exception(text) => {
                assert!(!record.background);
                let limit = text.starts_with(b"the worker's time limit");
                assert!(limit || (what.how.starts_with('x') && text == "thrown"), "{text:?} was never thrown");
                "exception"
            }
            Outcome::Queued(handle) => {
                assert!(record.background);
                record.queued = Some(Bytes::copy_from_slice(handle.as_bytes()));
                "queued"
            }
            Outcome::Rejected(error) => {
                assert!(picky, "refused: {error}");
                "rejected"
            }
            Outcome::TimedOut { phase, .. } => {
                let least = record.shortest_deadline.unwrap_or(30 * SECOND).min(30 * SECOND);
                assert!(now - record.submitted >= least, "timed out too early");
                judge_phase(record, *phase);
                "timed out"
            }
            Outcome::Lost { phase, .. } => {
                judge_phase(record, *phase);
                match record.retry {
                    Retry::Never => {}
                    Retry::Unsent => assert!(*phase >= Phase::Sent, "lost though no job server can have had it"),
                    Retry::Idempotent { attempts } => {
                        assert!(attempts < 100_000, "given up though another attempt was allowed");
                        assert!(*phase >= Phase::Sent);
                    }
                    _ => {}
                }
                "lost"
            }
            Outcome::Cancelled { phase } => {
                judge_phase(record, *phase);
                assert!(record.abandoned || closing || true);
                "cancelled"
            }
            other => panic!("an outcome that is new: {other:?}"),
        };
        if !matches!(record.retry, Retry::Idempotent { .. }) && !record.shared {
            assert!(record.written <= 1, "submitted {} times though it is not to be retried", record.written);
        }
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// Counts the submissions that clients have written whole.
    fn read_what_was_written(&mut self) {
        for (host, end, bytes) in std::mem::take(&mut self.net.tapped) {
            let Some(slot) = host.checked_sub(self.servers.len()).and_then(|place| self.clients.get_mut(place)) else {
                continue;
            };
            let stream = slot.written.entry(end).or_default();
            stream.extend_from_slice(&bytes);
            while let Some(frame) = split(stream, usize::MAX).expect("a client writes packets") {
                let payload = match Packet::decode(frame.kind, frame.body).expect("a client writes whole packets") {
                    Packet::SubmitJob(packet) => packet.into_payload(),
                    Packet::SubmitJobHigh(packet) => packet.into_payload(),
                    Packet::SubmitJobLow(packet) => packet.into_payload(),
                    Packet::SubmitJobBg(packet) => packet.into_payload(),
                    Packet::SubmitJobHighBg(packet) => packet.into_payload(),
                    Packet::SubmitJobLowBg(packet) => packet.into_payload(),
                    _ => continue,
                };
                // While `submit` still runs its job has no number yet.
                let number = parts(&payload).number.unwrap_or(usize::MAX);
                if let Some(record) = self.records.get_mut(number) {
                    record.written += 1;
                }
            }
        }
    }

    /// Takes the events of a worker, and lets its handlers begin.
    fn look_at_worker(&mut self, place: usize) {
        while let Some(event) = self.workers[place].driver.as_mut().and_then(|driver| driver.events.pop_front()) {
            let slot = &mut self.workers[place];
            assert!(!slot.closed, "{event:?} behind Closed");
            match event {
                worker::Event::Assigned(assignment) => {
                    let payload = Bytes::copy_from_slice(&assignment.payload);
                    let old = slot.tasks.insert(assignment.task, payload.clone());
                    assert!(old.is_none(), "{:?} is used again", assignment.task);
                    assert!(slot.tasks.len() <= slot.concurrency, "more jobs at once than the worker may run");
                    assert!(FUNCTIONS.iter().any(|function| assignment.function == *function));
                    let number = *self.by_payload.get(&payload).expect("a job that nobody has submitted");
                    self.records[number].runs += 1;
                    let at = self.net.now() + parts(&payload).delay * MILLISECOND;
                    let incarnation = slot.incarnation;
                    self.put_off(at, Errand::Work { worker: place, incarnation, task: assignment.task, turn: 0 });
                }
                worker::Event::Gone { task, .. } => {
                    assert!(slot.tasks.contains_key(&task), "{task:?} is gone, but it was never there");
                }
                worker::Event::Closed => {
                    assert!(slot.stopping, "Closed though nobody asked for it");
                    slot.closed = true;
                }
                _ => {}
            }
        }
        self.bury_worker(place);
    }

    /// A worker that has closed and has nothing in hand is replaced by a new one.
    fn bury_worker(&mut self, place: usize) {
        let slot = &mut self.workers[place];
        if slot.closed
            && slot.tasks.is_empty()
            && let Some(driver) = slot.driver.take()
        {
            assert_eq!(driver.machine.in_hand(), 0, "a closed worker holds a job");
            assert_eq!(driver.connections(), 0, "a closed worker has connections");
            assert_eq!(driver.wait(), None, "a closed worker waits for something");
            (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
            slot.incarnation += 1;
            self.net.crash(slot.host, false);
            let at = self.net.now() + SECOND;
            if !self.calm || !self.all_ended() {
                self.put_off(at, Errand::StartWorker(place));
            }
        }
    }

    /// A handler goes on: data, warning and progress first where it sends some, then the end.
    fn work(&mut self, place: usize, incarnation: u32, task: TaskId, turn: u32) {
        let slot = &mut self.workers[place];
        if slot.incarnation != incarnation || self.net.stalled_until(slot.host) > self.net.now() {
            if slot.incarnation == incarnation {
                let at = self.net.stalled_until(slot.host);
                self.put_off(at, Errand::Work { worker: place, incarnation, task, turn });
            }
            return;
        }
        let (Some(driver), Some(payload)) = (&mut slot.driver, slot.tasks.get(&task).cloned()) else { return };
        let what = parts(&payload);
        if what.how.ends_with('d') && turn < 3 {
            let part = payload.slice(..payload.len().min(10));
            driver.act(&mut self.net, |worker, now| match turn {
                0 => drop(worker.progress(task, 1, 2, now)),
                1 => drop(worker.data(task, part, now)),
                _ => drop(worker.warning(task, part, now)),
            });
            let at = self.net.now() + what.delay * MILLISECOND / 4;
            self.put_off(at, Errand::Work { worker: place, incarnation, task, turn: turn + 1 });
        } else {
            slot.tasks.remove(&task);
            driver.act(&mut self.net, |worker, now| match what.how.as_bytes().first() {
                Some(b'c') => drop(worker.complete(task, reversed(&payload), now)),
                Some(b'f') => drop(worker.fail(task, now)),
                _ => drop(worker.exception(task, Bytes::from_static(b"thrown"), now)),
            });
        }
        self.look_at_worker(place);
    }

    /// The storm is over: everybody is there, and nothing goes wrong any more.
    fn calm_down(&mut self) {
        self.net.heal();
        self.calm = true;
        for place in 0..self.servers.len() {
            self.start_server(place);
        }
        for place in 0..self.clients.len() {
            self.give_servers(place);
            self.look_at_client(place);
        }
        for place in 0..self.workers.len() {
            self.start_worker(place);
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
            && self.workers.iter().all(|slot| slot.tasks.is_empty())
            && self.servers.iter().all(|slot| slot.server.as_ref().is_none_or(AnyServer::is_empty))
    }

    fn judge_ends(&self) {
        for (place, slot) in self.clients.iter().enumerate() {
            assert!(slot.jobs.is_empty(), "jobs of client {place} never end: {:?}", slot.jobs);
            assert!(slot.asked.is_empty(), "requests of client {place} are never answered: {:?}", slot.asked);
        }
        for (number, record) in self.records.iter().enumerate() {
            if let Some(handle) = &record.queued {
                let by = |(place, slot): &(usize, &ServerSlot)| {
                    !slot.impatient && handle.starts_with(format!("H:s{place}.{}:", slot.incarnation).as_bytes())
                };
                let server = self.servers.iter().enumerate().find(by);
                if server.is_some() && !record.shared {
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
            clients.chain(workers).sum::<u64>()
        };
        let settled = self.net.now() + 300 * SECOND;
        while let Some((host, occurrence)) = self.net.next(settled) {
            self.occur(host, occurrence);
        }
        let before = count(self);
        let until = self.net.now() + 600 * SECOND;
        while let Some((host, occurrence)) = self.net.next(until) {
            self.occur(host, occurrence);
        }
        let machines = (self.clients.len() + self.workers.len()) as u64;
        let (servers, inputs) = (self.servers.len() as u64, count(self) - before);
        // A probe each half second at most, and a grab each second; bytes may come one by one.
        let most = machines * servers * 600 * 40;
        assert!(inputs <= most, "an idle system is busy: {inputs} inputs in ten minutes");
    }

    /// Everybody goes, and nothing may be left.
    fn close_all(&mut self) {
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
        let until = self.net.now() + 300 * SECOND;
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
    }
}

/// Whether a job can have come as far as is said.
fn judge_phase(record: &Record, phase: Phase) {
    if !record.shared {
        match phase {
            Phase::Sending if !matches!(record.retry, Retry::Idempotent { .. }) => {
                assert_eq!(record.written, 0, "the job server has all of it");
            }
            Phase::Sent | Phase::Accepted | Phase::Running => assert!(record.written > 0, "{phase:?}, but never sent"),
            _ => {}
        }
    }
    match phase {
        Phase::Accepted => assert!(record.created, "Accepted without Created"),
        Phase::Running => assert!(record.created && record.alive, "Running without a sign of life"),
        _ => {}
    }
}

struct Parts<'a> {
    number: Option<usize>,
    how: &'a str,
    delay: u64,
}

fn parts(payload: &[u8]) -> Parts<'_> {
    let text = std::str::from_utf8(payload).expect("our payloads are text");
    let mut parts = text.splitn(4, '|');
    let number = parts.next().and_then(|number| number.parse().ok());
    Parts {
        number,
        how: parts.next().unwrap_or_default(),
        delay: parts.next().and_then(|delay| delay.parse().ok()).unwrap_or_default(),
    }
}

fn reversed(payload: &[u8]) -> Bytes {
    payload.iter().rev().copied().collect()
}
