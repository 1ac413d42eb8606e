//! What a job costs in the client, the worker and the server alone, in memory: instructions, allocations, bytes, time.
//!
//! `cargo bench --bench machines` prints a line a case. Instructions and allocations do not depend on the machine's load,
//! so two commits can be compared anywhere: keep what one prints and give the file to the other with `-- --against FILE`.
//! `-- worker` measures only the cases that have this in their names. `-- --check` fails when one takes more than it may.
//! `-- --grow` prints how time and memory grow with depth, payload, queue, functions, connections and servers instead.
//!
//! The bench plays driver and peer at once, as cheaply as it can: packets are made beforehand, what is written is only
//! looked at. Its part is in the figures, and is the same for every commit. A figure is the difference of two runs of
//! different length, so that starting costs nothing.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::process::ExitCode;
use std::time;

use bytes::{Bytes, BytesMut};
use gearwheel::wire::{Magic, PacketType};
use gearwheel::{
    Address, Balance, ConnId, Input, Instant, Job, Machine, Outcome, Output, Peer, client, server, worker,
};

mod common;

use common::{has_valgrind, instructions};

const SEED: [u8; 32] = [7; 32];
const FUNCTION: &str = "bench";
const HEADER: usize = 12;
const PIECE: usize = 64 << 10;
const JOBS: usize = 1 << 10;

/// What is measured, beside a job of 16 bytes one after another.
#[derive(Clone, Copy)]
enum Shape {
    Client {
        depth: usize,
        payload: usize,
        servers: usize,
        background: bool,
    },
    /// `asleep`: there is no job behind each one, and it is woken for the next.
    Worker {
        concurrency: usize,
        payload: usize,
        functions: usize,
        asleep: bool,
    },
    /// Jobs are submitted and grabbed `depth` at a time, beside others that wait and connections that sleep.
    Server {
        depth: usize,
        payload: usize,
        functions: usize,
        queued: usize,
        idle: usize,
    },
}

const CLIENT: Shape = Shape::Client { depth: 1, payload: 16, servers: 1, background: false };
const WORKER: Shape = Shape::Worker { concurrency: 1, payload: 16, functions: 1, asleep: false };
const SERVER: Shape = Shape::Server { depth: 1, payload: 16, functions: 1, queued: 0, idle: 0 };

/// Each with the instructions a job that `--check` allows: a little more than it takes, as compilers differ.
const CASES: &[(&str, Shape, u32)] = &[
    ("client-depth-1", CLIENT, 3_000),
    ("client-depth-64", Shape::Client { depth: 64, payload: 16, servers: 1, background: false }, 2_580),
    ("client-depth-1024", Shape::Client { depth: 1024, payload: 16, servers: 1, background: false }, 2_650),
    ("client-depth-64-1k", Shape::Client { depth: 64, payload: 1024, servers: 1, background: false }, 3_755),
    ("client-depth-1-64k", Shape::Client { depth: 1, payload: 64 << 10, servers: 1, background: false }, 71_300),
    ("client-background-64", Shape::Client { depth: 64, payload: 16, servers: 1, background: true }, 1_980),
    ("client-16-servers", Shape::Client { depth: 1, payload: 16, servers: 16, background: false }, 3_130),
    ("worker-busy", WORKER, 2_580),
    ("worker-woken", Shape::Worker { concurrency: 1, payload: 16, functions: 1, asleep: true }, 3_445),
    ("worker-concurrency-16", Shape::Worker { concurrency: 16, payload: 16, functions: 1, asleep: false }, 1_935),
    ("worker-1000-functions", Shape::Worker { concurrency: 1, payload: 16, functions: 1000, asleep: false }, 2_780),
    ("server-depth-1", SERVER, 6_800),
    ("server-depth-64", Shape::Server { depth: 64, payload: 16, functions: 1, queued: 0, idle: 0 }, 4_450),
    ("server-1000-queued", Shape::Server { depth: 1, payload: 16, functions: 1, queued: 1000, idle: 0 }, 5_900),
    ("server-1000-functions", Shape::Server { depth: 1, payload: 16, functions: 1000, queued: 0, idle: 0 }, 7_800),
    ("server-1000-idle", Shape::Server { depth: 1, payload: 16, functions: 1, queued: 0, idle: 1000 }, 6_800),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().skip_while(|argument| *argument != flag).nth(1);
    if let Some(name) = after("--run") {
        let (_, shape, _) = CASES.iter().find(|(case, ..)| case == name).expect("a case");
        let jobs = arguments.last().and_then(|jobs| jobs.parse().ok()).expect("a number of jobs");
        run(&mut *shape.start(), jobs);
    } else if arguments.iter().any(|argument| argument == "--grow") {
        grow();
    } else {
        let valgrind = arguments.iter().any(|argument| argument == "--bench") && has_valgrind();
        let text = after("--against").map(|file| fs::read_to_string(file).expect("what another commit printed"));
        let only = arguments.iter().find(|argument| CASES.iter().any(|(name, ..)| name.contains(argument.as_str())));
        let over = table(valgrind, only.map_or("", String::as_str), &text.unwrap_or_default());
        if over && arguments.iter().any(|argument| argument == "--check") {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A line for each case whose name has `only` in it; beside each figure how it has changed against `old`, the output of
/// another run. Says whether one takes more than it may.
fn table(valgrind: bool, only: &str, old: &str) -> bool {
    let old: HashMap<&str, Vec<&str>> = old
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name, rest.split_whitespace().collect()))
        .collect();
    println!("{:<24} {:>14} {:>12}", "case", "instructions", "allocations");
    let mut over = false;
    for (name, shape, most) in CASES.iter().filter(|(name, ..)| name.contains(only)) {
        let count = |jobs| allocation_counter::measure(|| run(&mut *shape.start(), jobs)).count_total;
        let allocations = (count(3 * JOBS) - count(JOBS)) as f64 / (2 * JOBS) as f64;
        let each = valgrind.then(|| {
            let run = |jobs: usize| instructions(&["--run", name, &jobs.to_string()]);
            (run(3 * JOBS) - run(JOBS)) as f64 / (2 * JOBS) as f64
        });
        let was = |column: usize| old.get(name).and_then(|was| was.get(column)?.parse::<f64>().ok());
        let shown = each.map_or("-".to_owned(), |each| format!("{each:.0}"));
        let change = match (each, was(0)) {
            (Some(now), Some(was)) => format!("  {:+.1} % instructions", (now / was - 1.0) * 100.0),
            _ => String::new(),
        };
        let too_much = each.is_some_and(|each| each > f64::from(*most));
        let mark = if too_much { "  OVER" } else { "" };
        println!("{name:<24} {shown:>14} {allocations:>12.2}{change}{mark}");
        over |= too_much;
    }
    over
}

fn grow() {
    type Row = (&'static str, &'static [usize], fn(usize) -> Shape);
    const TENS: &[usize] = &[1, 10, 100, 1000, 10_000];
    const SIZES: &[usize] = &[0, 16, 1 << 10, 16 << 10, 256 << 10, 4 << 20, 16 << 20];
    let rows: &[Row] = &[
        ("client: jobs outstanding", &[1, 10, 100, 1000, 10_000, 100_000], |depth| Shape::Client {
            depth,
            payload: 16,
            servers: 1,
            background: false,
        }),
        ("client: bytes of payload", SIZES, |payload| Shape::Client {
            depth: 1,
            payload,
            servers: 1,
            background: false,
        }),
        ("client: job servers", &[1, 2, 4, 16, 64], |servers| Shape::Client {
            depth: 1,
            payload: 16,
            servers,
            background: false,
        }),
        ("worker: jobs at once", &[1, 10, 100, 1000], |concurrency| Shape::Worker {
            concurrency,
            payload: 16,
            functions: 1,
            asleep: false,
        }),
        ("worker: bytes of payload", SIZES, |payload| Shape::Worker {
            concurrency: 1,
            payload,
            functions: 1,
            asleep: false,
        }),
        ("worker: functions", TENS, |functions| Shape::Worker { concurrency: 1, payload: 16, functions, asleep: true }),
        ("server: bytes of payload", SIZES, |payload| Shape::Server {
            depth: 1,
            payload,
            functions: 1,
            queued: 0,
            idle: 0,
        }),
        ("server: jobs queued", &[10, 100, 1000, 10_000, 100_000, 1_000_000], |queued| Shape::Server {
            depth: 1,
            payload: 16,
            functions: 1,
            queued,
            idle: 0,
        }),
        ("server: functions", TENS, |functions| Shape::Server { depth: 1, payload: 16, functions, queued: 0, idle: 0 }),
        ("server: sleeping workers", TENS, |idle| Shape::Server {
            depth: 1,
            payload: 16,
            functions: 1,
            queued: 0,
            idle,
        }),
    ];
    for (what, sizes, shape) in rows {
        println!("\n{what:<28} {:>10} {:>14}", "ns a job", "bytes each");
        for &size in *sizes {
            let (nanos, bytes) = time_and_memory(shape(size));
            println!("{size:<28} {nanos:>10.0} {:>14.0}", bytes as f64 / size.max(1) as f64);
        }
    }
}

/// The best of several times a job, and what the machine holds on to when it has been set up and worked once.
fn time_and_memory(shape: Shape) -> (f64, i64) {
    let mut rig = None;
    let held = allocation_counter::measure(|| {
        let mut started = shape.start();
        started();
        rig = Some(started);
    });
    let mut rig = rig.expect("it has been started");
    let once = |rig: &mut dyn FnMut() -> usize| {
        let start = time::Instant::now();
        let mut jobs = 0;
        while start.elapsed() < time::Duration::from_millis(20) || jobs == 0 {
            jobs += rig();
        }
        start.elapsed().as_secs_f64() * 1e9 / jobs as f64
    };
    let best = (0..7).map(|_| once(&mut *rig)).fold(f64::INFINITY, f64::min);
    (best, held.bytes_current)
}

/// Rounds until so many jobs are done.
fn run(round: &mut dyn FnMut() -> usize, jobs: usize) {
    let mut done = 0;
    while done < jobs {
        done += round();
    }
    assert_eq!(done % JOBS, 0, "whole rounds make {JOBS} jobs");
}

impl Shape {
    /// Sets up all that it needs; each call of what comes back is a round of jobs, and says of how many.
    fn start(self) -> Box<dyn FnMut() -> usize> {
        match self {
            Self::Client { depth, payload, servers, background } => start_client(depth, payload, servers, background),
            Self::Worker { concurrency, payload, functions, asleep } => {
                start_worker(concurrency, payload, functions, asleep)
            }
            Self::Server { depth, payload, functions, queued, idle } => {
                start_server(depth, payload, functions, queued, idle)
            }
        }
    }
}

/// A machine and the driver's part in memory.
struct Rig<M: Machine> {
    machine: M,
    now: Instant,
    due: Vec<ConnId>,
    connects: Vec<ConnId>,
    stream: BytesMut,
    /// How many bytes the machine has written since this was set to 0.
    written: usize,
    /// What it has written, where somebody wants to read it.
    output: Option<Vec<u8>>,
}

impl<M: Machine> Rig<M> {
    fn new(machine: M) -> Self {
        let now = Instant::EPOCH;
        let (due, connects, stream) = (Vec::new(), Vec::new(), BytesMut::with_capacity(2 * PIECE));
        Self { machine, now, due, connects, stream, written: 0, output: None }
    }

    fn settle(&mut self, mut event: impl FnMut(&mut M, M::Event, Instant)) {
        loop {
            match self.machine.poll() {
                Output::Connect { conn, .. } => self.connects.push(conn),
                Output::Transmit(conn) => self.due.push(conn),
                Output::Resume(conn) => self.machine.handle(Input::Data(conn, &mut self.stream), self.now),
                Output::Disconnect(conn) => panic!("{conn:?} is to be closed"),
                Output::Event(told) => event(&mut self.machine, told, self.now),
                Output::Wait(_) => match self.due.pop() {
                    Some(conn) => self.write(conn),
                    None => return,
                },
            }
        }
    }

    fn write(&mut self, conn: ConnId) {
        let mut outgoing = self.machine.outgoing(conn);
        for chunk in outgoing.chunks() {
            self.written += black_box(chunk).len();
            self.output.iter_mut().for_each(|output| output.extend_from_slice(chunk));
        }
        outgoing.advance(usize::MAX);
    }

    /// What a socket has brought, in pieces as it would.
    fn feed(&mut self, conn: ConnId, bytes: &[u8], mut event: impl FnMut(&mut M, M::Event, Instant)) {
        for piece in bytes.chunks(PIECE) {
            self.now = self.now + time::Duration::from_micros(1);
            self.stream.extend_from_slice(piece);
            self.machine.handle(Input::Data(conn, &mut self.stream), self.now);
            self.settle(&mut event);
        }
        assert!(self.stream.is_empty(), "the machine has left something");
    }
}

fn packet(magic: Magic, kind: PacketType, arguments: &[&[u8]]) -> Vec<u8> {
    let body = arguments.join(&0);
    let size = u32::try_from(body.len()).expect("a small packet").to_be_bytes();
    [&magic.bytes()[..], &kind.number().to_be_bytes(), &size, &body].concat()
}

fn address(place: usize) -> Address {
    Address::new("bench", 4730 + u16::try_from(place).expect("few")).expect("an address")
}

/// Handles of one length, so that all packets of a kind have the same.
fn handle(job: usize) -> String {
    format!("H:bench:{job:07}")
}

fn start_client(depth: usize, payload: usize, servers: usize, background: bool) -> Box<dyn FnMut() -> usize> {
    let mut config = client::Config::new(SEED);
    config.servers = (0..servers).map(address).collect();
    config.balance = Balance::RoundRobin;
    config.exceptions = false;
    let mut rig = Rig::new(client::Client::new(config).expect("a client"));
    let (function, payload) = (Bytes::from_static(FUNCTION.as_bytes()), Bytes::from(vec![b'x'; payload]));
    let result = payload.clone();
    let job = move || {
        let job = Job::new(function.clone(), payload.clone());
        if background { job.background() } else { job }
    };
    let replies = |kind, result: &[&[u8]]| -> Vec<u8> {
        (0..depth)
            .flat_map(|job| packet(Magic::Response, kind, &[&[handle(job).as_bytes()], result].concat()))
            .collect()
    };
    let created = replies(PacketType::JOB_CREATED, &[]);
    let complete = if background { Vec::new() } else { replies(PacketType::WORK_COMPLETE, &[&result]) };
    connect_client(&mut rig, &job, servers);
    Box::new(move || {
        let mut conn = None;
        for _ in 0..depth {
            let id = rig.machine.submit(job(), rig.now).expect("room");
            rig.settle(|_, _, _| ());
            conn = rig.machine.conn_of(id);
        }
        let conn = conn.expect("it is connected");
        let mut done = 0;
        let mut count = |_: &mut client::Client, event, _| {
            if let client::Event::Done { outcome: Outcome::Complete(_) | Outcome::Queued { .. }, .. } = black_box(event)
            {
                done += 1;
            }
        };
        rig.feed(conn, &created, &mut count);
        rig.feed(conn, &complete, &mut count);
        done
    })
}

/// Submits jobs until all servers are connected, and has these jobs refused.
fn connect_client(rig: &mut Rig<client::Client>, job: impl Fn() -> Job, servers: usize) {
    let mut ids = Vec::new();
    let mut connected = 0;
    while connected < servers {
        ids.push(rig.machine.submit(job(), rig.now).expect("room"));
        rig.settle(|_, _, _| ());
        while let Some(conn) = rig.connects.pop() {
            rig.machine.handle(Input::Connected(conn), rig.now);
            connected += 1;
        }
        rig.settle(|_, _, _| ());
    }
    let refusal = packet(Magic::Response, PacketType::ERROR, &[b"QUEUE_ERROR", b"not yet"]);
    for id in ids {
        let conn = rig.machine.conn_of(id).expect("it has been given to a server");
        rig.feed(conn, &refusal, |_, _, _| ());
    }
    assert_eq!(rig.machine.outstanding(), 0);
}

fn start_worker(concurrency: usize, payload: usize, functions: usize, asleep: bool) -> Box<dyn FnMut() -> usize> {
    let mut config = worker::Config::new(SEED);
    config.servers = vec![address(0)];
    config.concurrency = concurrency;
    let mut rig = Rig::new(worker::Worker::new(config).expect("a worker"));
    for function in 1..functions {
        rig.machine.register(format!("{FUNCTION}-{function}"), None, rig.now).expect("a function");
    }
    rig.machine.register(FUNCTION, None, rig.now).expect("a function");
    rig.settle(|_, _, _| ());
    let conn = rig.connects.pop().expect("it dials");
    rig.machine.handle(Input::Connected(conn), rig.now);
    rig.settle(|_, _, _| ());
    let payload = Bytes::from(vec![b'x'; payload]);
    let assign: Vec<u8> = (0..concurrency)
        .flat_map(|job| {
            let handle = handle(job);
            let arguments: [&[u8]; 4] = [handle.as_bytes(), FUNCTION.as_bytes(), b"", &payload];
            packet(Magic::Response, PacketType::JOB_ASSIGN_UNIQ, &arguments)
        })
        .collect();
    let (one, answer) = (assign.len() / concurrency, handle(0).len() + 1 + payload.len() + HEADER);
    let no_job = packet(Magic::Response, PacketType::NO_JOB, &[]);
    let noop = packet(Magic::Response, PacketType::NOOP, &[]);
    let pre_sleep = packet(Magic::Request, PacketType::PRE_SLEEP, &[]);
    rig.output = asleep.then(Vec::new);
    let mut grabs = 1;
    let mut tasks = Vec::new();
    let mut round = move || {
        if asleep {
            // It goes to sleep with most results, and asks behind some.
            if !rig.output.as_ref().is_some_and(|output| output.ends_with(&pre_sleep)) {
                rig.feed(conn, &no_job, |_, _, _| ());
            }
            rig.feed(conn, &noop, |_, _, _| ());
            rig.output.iter_mut().for_each(Vec::clear);
        }
        rig.written = 0;
        rig.feed(conn, &assign[..grabs * one], |_, event, _| {
            if let worker::Event::Assigned(assignment) = event {
                tasks.push((assignment.task, black_box(assignment)));
            }
        });
        let jobs = tasks.len();
        for (task, assignment) in tasks.drain(..) {
            rig.machine.complete(task, assignment.payload, rig.now).expect("the job is in hand");
        }
        rig.settle(|_, _, _| ());
        // The rest is grabs.
        grabs = (rig.written - jobs * answer) / HEADER;
        jobs
    };
    // It asks for more at once when it has seen that there is more.
    while round() < concurrency {}
    Box::new(round)
}

fn start_server(
    depth: usize,
    payload: usize,
    functions: usize,
    queued: usize,
    idle: usize,
) -> Box<dyn FnMut() -> usize> {
    let mut rig = Rig::new(
        server::Server::new(server::Config::new(SEED), Instant::EPOCH, time::Duration::ZERO).expect("a server"),
    );
    let request = |kind, arguments: &[&[u8]]| packet(Magic::Request, kind, arguments);
    let accept = |rig: &mut Rig<server::Server>| {
        let conn = rig.machine.accept(Peer::new("127.0.0.1", true), rig.now).expect("room");
        rig.settle(|_, _, _| ());
        conn
    };
    for sleeper in 0..idle {
        let conn = accept(&mut rig);
        let name = format!("idle-{}", sleeper % 100);
        let words = [request(PacketType::CAN_DO, &[name.as_bytes()]), request(PacketType::PRE_SLEEP, &[])].concat();
        rig.feed(conn, &words, |_, _, _| ());
    }
    let (client, worker) = (accept(&mut rig), accept(&mut rig));
    let payload = vec![b'x'; payload];
    let names: Vec<_> = (0..functions).map(|function| format!("{FUNCTION}-{function}")).collect();
    for name in &names {
        rig.feed(worker, &request(PacketType::CAN_DO, &[name.as_bytes()]), |_, _, _| ());
    }
    let background = request(PacketType::SUBMIT_JOB_BG, &[names[0].as_bytes(), b"", &payload]);
    for _ in 0..queued {
        rig.feed(client, &background, |_, _, _| ());
    }
    // Beside a queue, background jobs: each round takes the oldest and adds one.
    let kind = if queued > 0 { PacketType::SUBMIT_JOB_BG } else { PacketType::SUBMIT_JOB };
    let submits: Vec<Vec<u8>> =
        names.iter().map(|name| request(kind, &[name.as_bytes(), b"", &payload]).repeat(depth)).collect();
    let grab = request(PacketType::GRAB_JOB, &[]).repeat(depth);
    let complete = request(PacketType::WORK_COMPLETE, &[b"H:gearwheel:0", &payload]);
    let (front, back) = complete.split_at(HEADER + "H:gearwheel:".len());
    let (front, back) = (front.to_vec(), back[1..].to_vec());
    let mut round = 0;
    rig.output = Some(Vec::new());
    let (mut assigned, mut completes) = (Vec::new(), Vec::new());
    Box::new(move || {
        rig.feed(client, &submits[round % submits.len()], |_, _, _| ());
        round += 1;
        rig.output.iter_mut().for_each(Vec::clear);
        rig.feed(worker, &grab, |_, _, _| ());
        rig.output.iter_mut().for_each(|output| core::mem::swap(output, &mut assigned));
        completes.clear();
        let mut jobs = 0;
        let mut rest = &assigned[..];
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER>() {
            let [.., a, b, c, d] = *header;
            let size = u32::from_be_bytes([a, b, c, d]) as usize;
            let (body, behind) = behind.split_at(size);
            let number = &body.split(|byte| *byte == 0).next().expect("a handle")["H:gearwheel:".len()..];
            let at = completes.len();
            completes.extend_from_slice(&front);
            completes.extend_from_slice(number);
            completes.extend_from_slice(&back);
            let size = u32::try_from(completes.len() - at - HEADER).expect("a small packet");
            completes[at + HEADER - 4..at + HEADER].copy_from_slice(&size.to_be_bytes());
            (rest, jobs) = (behind, jobs + 1);
        }
        rig.feed(worker, &completes, |_, _, _| ());
        jobs
    })
}
