//! Runs an example against a job server that misbehaves, and says what is wrong with it.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::peers::{Process, nap, signal};
use crate::programs::example;

/// What of an output is looked at.
const KEPT: usize = 256 << 10;

/// One way to misbehave, and what is to come of it.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// What the job server does.
    pub(crate) name: &'static str,
    /// The example, and what it is told.
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) door: Door,
    pub(crate) serve: fn(&mut Peer),
    /// How it ends.
    pub(crate) code: i32,
    pub(crate) stdout: &'static str,
    /// What it says among other things.
    pub(crate) stderr: &'static str,
    /// The most it may take: milliseconds, milliseconds of the processor, KiB.
    pub(crate) within: u64,
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    /// The fewest connections that it makes, the wait between them growing.
    pub(crate) connections: usize,
    /// When it is told to end (SIGTERM), in milliseconds; 0 for never.
    pub(crate) term: u64,
}

/// How connections are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Nothing listens; for a while, or for ever.
    Shut,
    ShutFor(u64),
    /// More wait than the operating system lets in: further ones get no answer at all.
    Crowded,
    /// Each is taken after a while.
    Slow(u64),
}

/// What a process did and cost.
#[derive(Default)]
struct Run {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    took: Duration,
    cpu: u64,
    memory: u64,
    connected: Vec<Instant>,
    complaints: Vec<String>,
}

/// What is wrong with what the example does.
pub(crate) fn judge(row: &Row, runtime: &str) -> Vec<String> {
    let run = run(row, runtime);
    let stderr = String::from_utf8_lossy(&run.stderr);
    let mut faults = run.complaints;
    if run.code != Some(row.code) {
        faults.push(format!("it ended with {:?} instead of {}", run.code, row.code));
    }
    if run.stdout != row.stdout.as_bytes() {
        faults.push(format!("it printed {:?}", String::from_utf8_lossy(&run.stdout[..run.stdout.len().min(200)])));
    }
    if !stderr.contains(row.stderr) {
        faults.push(format!("it did not say {:?}", row.stderr));
    }
    if stderr.contains("panicked") {
        faults.push("it panicked".into());
    }
    if run.cpu > row.cpu {
        faults.push(format!("it used {} ms of the processor, {} allowed", run.cpu, row.cpu));
    }
    if run.memory > row.memory {
        faults.push(format!("it used {} KiB of memory, {} allowed", run.memory, row.memory));
    }
    if run.connected.len() < row.connections {
        faults.push(format!("it connected {} times, not {}", run.connected.len(), row.connections));
    }
    if row.connections > 2 {
        let gaps: Vec<_> = run.connected.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        // Each wait is random between half and all of what doubles, from 100 ms on. A busy machine only adds to it; what the
        // server takes until it looks may be missing.
        if gaps.iter().zip(0..).any(|(gap, number)| *gap + 10 < 50 << number) {
            faults.push(format!("the gaps between connections do not grow: {gaps:?} ms"));
        }
    }
    if !faults.is_empty() {
        let said = stderr.chars().take(400).collect::<String>();
        faults.push(format!("it took {:?}, and said {said:?}", run.took));
    }
    faults.into_iter().map(|fault| format!("{} ({runtime}), {}: {fault}", row.program, row.name)).collect()
}

fn run(row: &Row, runtime: &str) -> Run {
    let over = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(Mutex::new(Vec::new()));
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let is_shut = matches!(row.door, Door::Shut | Door::ShutFor(_));
    // Where nobody listens, whoever connects to a port that outgoing connections have may have come upon his own.
    let bind = || TcpListener::bind(("127.0.0.1", if is_shut { crate::peers::free_port() } else { 0 })).ok();
    let mut listener = (0..10).find_map(|_| bind());
    let at = listener.as_ref().expect("just made").local_addr().expect("bound");
    let crowd = if row.door == Door::Crowded { crowd(listener.as_ref().expect("just made"), at) } else { Vec::new() };
    if is_shut {
        listener = None;
    }
    let server = {
        let (row, over, connected, complaints) = (*row, over.clone(), connected.clone(), complaints.clone());
        thread::spawn(move || serve(&row, listener, at, &over, &connected, &complaints))
    };
    let mut command = example(row.program);
    command.args(["--server", &at.to_string(), "--runtime", runtime]).args(row.arguments.split(' '));
    let mut run = watch(&mut command, row);
    over.store(true, Ordering::Relaxed);
    server.join().expect("the server does not panic");
    drop(crowd);
    run.connected = std::mem::take(&mut connected.lock().expect("no panic"));
    run.complaints.append(&mut complaints.lock().expect("no panic"));
    run
}

/// Fills what may wait in a listener.
fn crowd(listener: &TcpListener, at: SocketAddr) -> Vec<TcpStream> {
    rustix::net::listen(listener, 0).expect("it listens");
    let connect = |_| TcpStream::connect_timeout(&at, Duration::from_millis(50)).ok();
    (0..4).map_while(connect).collect()
}

fn serve(
    row: &Row,
    listener: Option<TcpListener>,
    at: SocketAddr,
    over: &Arc<AtomicBool>,
    connected: &Mutex<Vec<Instant>>,
    complaints: &Mutex<Vec<String>>,
) {
    let begun = Instant::now();
    let wait = |millis| {
        while begun.elapsed() < Duration::from_millis(millis) && !over.load(Ordering::Relaxed) {
            nap();
        }
    };
    let listener = match (listener, row.door) {
        (Some(listener), Door::Slow(millis)) => {
            wait(millis);
            listener
        }
        (Some(listener), Door::Open) => listener,
        (_, Door::ShutFor(millis)) => {
            wait(millis);
            let Ok(listener) = TcpListener::bind(at) else { return };
            listener
        }
        (listener, _) => {
            while !over.load(Ordering::Relaxed) {
                nap();
            }
            return drop(listener);
        }
    };
    listener.set_nonblocking(true).expect("a socket");
    thread::scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("a socket");
                    let number = {
                        let mut connected = connected.lock().expect("no panic");
                        connected.push(Instant::now());
                        connected.len() - 1
                    };
                    let mut peer = Peer::new(stream, number, over.clone());
                    scope.spawn(move || {
                        (row.serve)(&mut peer);
                        complaints.lock().expect("no panic").extend(peer.complaint.take());
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => nap(),
                Err(_) => {}
            }
        }
    });
}

/// Runs a program and looks at it, for so long at most.
fn watch(command: &mut Command, row: &Row) -> Run {
    let (within, mut term) = (Duration::from_millis(row.within), row.term);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = Process(child.expect("it starts"));
    let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
    let begun = Instant::now();
    let mut run = Run::default();
    thread::scope(|scope| {
        let stdout = scope.spawn(|| first_of(stdout));
        let stderr = scope.spawn(|| first_of(stderr));
        loop {
            let ended = sample(&process.0, &mut run);
            run.took = begun.elapsed();
            if ended {
                run.code = process.0.wait().ok().and_then(|status| status.code());
                break;
            }
            if term > 0 && run.took > Duration::from_millis(term) {
                signal(&process.0, "TERM");
                term = 0;
            }
            if run.took > within {
                run.complaints.push(format!("it hangs: {within:?} have passed"));
                break;
            }
            nap();
        }
        drop(process);
        run.stdout = stdout.join().expect("it only reads");
        run.stderr = stderr.join().expect("it only reads");
    });
    run
}

/// Looks at what a process has used so far. Says whether it has ended.
fn sample(child: &Child, run: &mut Run) -> bool {
    let of = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", child.id())).unwrap_or_default();
    let status = of("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(peak) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()) {
        run.memory = peak;
    }
    let stat = of("stat");
    // Behind the name, which may hold anything but ends in the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // A tick is 10 ms on every Linux of today.
    run.cpu = run.cpu.max((ticks(11) + ticks(12)) * 10);
    fields.first() == Some(&"Z")
}

/// What comes first out of a pipe. The rest is read, too.
fn first_of(pipe: Option<impl Read>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let Some(mut pipe) = pipe else { return kept };
    while let Ok(count) = pipe.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let room = KEPT - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    kept
}
