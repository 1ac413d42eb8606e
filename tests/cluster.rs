//! Three job servers that die, fall silent and come back, one after the other, under load: gearmand, and ours.
//!
//! Each job must end once; one that is declared idempotent must not be lost; the loss of another must say how far it had
//! come; and the workers must be back on each server soon after it. See docs/what-happens-when.md.
#![cfg(feature = "blocking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gearwheel::blocking::{Client, Running, Server, Worker};
use gearwheel::{Balance, Connecting, Job, JobId, Outcome, Phase, Retry};
use peers::{Gearmand, PATIENCE, free_port, status, wait_for_workers, wait_until};

#[path = "common/peers.rs"]
mod peers;

/// Within this the workers must be back on a server that is.
const SOON: Duration = Duration::from_secs(5);
/// Jobs that each client has outstanding.
const WINDOW: usize = 32;
/// Jobs that each client submits at least.
const JOBS: u64 = 2_000;
/// Jobs that each client must see end while one server is away.
const MEANWHILE: u64 = 100;

#[test]
fn three_gearmands_that_are_killed_and_silenced_in_turn_cost_no_idempotent_job() {
    let nodes = [(); 3].map(|()| Gearmand::start().map(Node::Gearmand));
    let [Some(a), Some(b), Some(c)] = nodes else { return };
    rolling_faults([a, b, c], &[Fault::Crash, Fault::Silence]);
}

#[test]
fn three_servers_of_ours_that_end_and_return_in_turn_cost_no_idempotent_job() {
    rolling_faults([(); 3].map(|()| Node::ours()), &[Fault::Crash, Fault::Crash]);
}

/// One of the job servers.
enum Node {
    Gearmand(Gearmand),
    Ours { server: Option<Server>, address: SocketAddr },
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// All connections end and nothing listens.
    Crash,
    /// The connections stay, and nothing comes any more.
    Silence,
}

impl Node {
    fn ours() -> Self {
        let server = Server::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = server.local_addr();
        Self::Ours { server: Some(server), address }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Gearmand(gearmand) => gearmand.address(),
            Self::Ours { address, .. } => *address,
        }
    }

    fn fail(&mut self, fault: Fault) {
        match (self, fault) {
            (Self::Gearmand(gearmand), Fault::Crash) => gearmand.kill(),
            (Self::Gearmand(gearmand), Fault::Silence) => gearmand.pause(),
            (Self::Ours { server, .. }, _) => {
                let server = server.take().expect("it runs");
                server.close();
                server.wait();
            }
        }
    }

    fn recover(&mut self, fault: Fault) {
        match (self, fault) {
            (Self::Gearmand(gearmand), Fault::Crash) => gearmand.restart(),
            (Self::Gearmand(gearmand), Fault::Silence) => gearmand.resume(),
            (Self::Ours { server, address }, _) => {
                wait_until("the port is free again", SOON, || {
                    *server = Server::bind(*address).ok();
                    server.is_some()
                });
            }
        }
    }
}

/// Faults on this machine are noticed fast.
fn impatient(connecting: &mut Connecting) {
    connecting.connect_timeout = Duration::from_secs(1);
    connecting.reply_timeout = Duration::from_millis(800);
    connecting.probe_after = Some(Duration::from_millis(400));
    connecting.retry_first = Duration::from_millis(50);
    connecting.retry_most = Duration::from_millis(500);
    connecting.recover_time = Duration::from_secs(1);
}

fn worker(servers: &[SocketAddr]) -> Running {
    let worker = Worker::builder().servers(servers.iter().copied()).concurrency(4).function("reverse", |task| {
        // It takes a while, so that jobs are running when a server goes.
        thread::park_timeout(Duration::from_millis(3));
        Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>())
    });
    worker.configure(|config| impatient(&mut config.connecting)).spawn().expect("a worker")
}

/// Each node fails and returns in turn, once for each of the faults.
fn rolling_faults(mut nodes: [Node; 3], faults: &[Fault]) {
    let servers = nodes.each_ref().map(Node::address);
    let workers = [worker(&servers), worker(&servers)];
    servers.iter().for_each(|&server| wait_for_workers(server, "reverse", 2));
    let idempotent = Retry::Idempotent { attempts: 30 };
    let loads = [
        Load::start("sequence", &servers, Balance::Sequence, Some(idempotent)),
        Load::start("turns", &servers, Balance::RoundRobin, Some(idempotent)),
        Load::start("default", &servers, Balance::RoundRobin, None),
    ];
    for &fault in faults {
        for node in &mut nodes {
            node.fail(fault);
            loads.iter().for_each(|load| load.goes_on(&format!("while {} is away by {fault:?}", node.address())));
            if matches!(fault, Fault::Silence) {
                // Else it would be back before anybody has noticed.
                wait_until("the clients have given it up", SOON, || {
                    loads.iter().all(|load| load.has_left(node.address()))
                });
            }
            node.recover(fault);
            let begun = Instant::now();
            does_jobs(node.address());
            wait_until(&format!("both workers are back after {fault:?}"), SOON, || {
                status(node.address(), "reverse").workers == 2
            });
            println!("the workers are back on {} {:?} after {fault:?}", node.address(), begun.elapsed());
            loads.iter().for_each(|load| load.goes_on("with all servers"));
        }
    }
    let [sequence, turns, default] = loads.map(Load::finish);
    for ends in [&sequence, &turns] {
        assert_eq!(ends.lost.len(), 0, "an idempotent job is not lost: {ends:?}");
        assert!(ends.retried > 0, "some were tried again: {ends:?}");
    }
    // What was sent and not answered may have run: that is never tried again without being asked for.
    let phases: Vec<Phase> = default.lost.keys().copied().collect();
    assert!(phases.iter().all(|phase| [Phase::Sent, Phase::Accepted, Phase::Running].contains(phase)), "{default:?}");
    assert!(!phases.is_empty(), "servers that die under load take jobs with them: {default:?}");
    drop(workers);
}

/// A job that only `server` can have is done soon.
#[track_caller]
fn does_jobs(server: SocketAddr) {
    let client = Client::builder().server(server).build().expect("a client");
    let result = client.submit(Job::new("reverse", "abc")).expect("a job").wait_timeout(SOON);
    assert_eq!(result.unwrap_or_else(|_| panic!("no worker is back on {server}")).expect("a result"), "cba");
}

/// A client that submits jobs until it is told to finish.
struct Load {
    client: Client,
    ended: Arc<AtomicU64>,
    finish: Arc<AtomicBool>,
    thread: JoinHandle<Ends>,
}

/// What became of the jobs.
#[derive(Debug, Default)]
struct Ends {
    complete: u64,
    lost: BTreeMap<Phase, u64>,
    retried: u64,
}

impl Load {
    fn start(name: &'static str, servers: &[SocketAddr], balance: Balance, retry: Option<Retry>) -> Self {
        let builder = Client::builder().servers(servers.iter().copied()).balance(balance).timeout(PATIENCE * 2);
        let builder = builder.configure(|config| impatient(&mut config.connecting));
        let builder = retry.into_iter().fold(builder, gearwheel::blocking::ClientBuilder::retry);
        let client = builder.build().expect("a client");
        let (ended, finish) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (client, ended, finish) = (client.clone(), ended.clone(), finish.clone());
            move || run(name, &client, &ended, &finish)
        });
        Self { client, ended, finish, thread }
    }

    /// Waits until more jobs have ended.
    #[track_caller]
    fn goes_on(&self, when: &str) {
        let begun = self.ended.load(Ordering::Relaxed);
        let goes_on = || self.ended.load(Ordering::Relaxed) >= begun + MEANWHILE || self.thread.is_finished();
        wait_until(&format!("jobs end {when}"), PATIENCE, goes_on);
    }

    /// Whether it has no connection to `server`.
    fn has_left(&self, server: SocketAddr) -> bool {
        let address = server.to_string();
        self.client
            .servers()
            .iter()
            .any(|candidate| candidate.address.to_string() == address && candidate.state != gearwheel::LinkState::Up)
    }

    fn finish(self) -> Ends {
        self.finish.store(true, Ordering::Relaxed);
        let mut ends = self.thread.join().expect("its jobs end as they should");
        let counters = self.client.counters();
        assert_eq!(counters.submitted, counters.ended, "each job ends: {counters:?}");
        ends.retried = counters.retried;
        println!("{ends:?}");
        ends
    }
}

fn run(name: &str, client: &Client, ended: &AtomicU64, finish: &AtomicBool) -> Ends {
    let mut due: BTreeMap<JobId, String> = BTreeMap::new();
    let (mut jobs, mut ends, mut submitted) = (client.set(), Ends::default(), 0);
    loop {
        while due.len() < WINDOW && (submitted < JOBS || !finish.load(Ordering::Relaxed)) {
            let payload = format!("{name}-{submitted}");
            let job = Job::new("reverse", payload.clone()).unique(payload.clone());
            due.insert(jobs.submit(job).expect("there is room"), payload);
            submitted += 1;
        }
        let Some((job, outcome)) = jobs.next() else { break };
        let payload = due.remove(&job).unwrap_or_else(|| panic!("{job:?} is not due: {outcome:?}"));
        match outcome {
            Outcome::Complete(result) => {
                assert!(result.iter().rev().eq(payload.as_bytes()), "{payload} has another's result: {result:?}");
                ends.complete += 1;
            }
            Outcome::Lost { phase, .. } => *ends.lost.entry(phase).or_default() += 1,
            other => panic!("{payload} ends as {other:?}"),
        }
        ended.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(due.len(), 0, "each job ends");
    ends
}

#[test]
fn a_job_orphaned_on_gearmand_does_not_swallow_its_second_attempt() {
    let Some(gearmand) = Gearmand::start() else { return };
    orphan(gearmand.address());
}

#[test]
fn a_job_orphaned_on_our_server_does_not_swallow_its_second_attempt() {
    let server = Server::bind("127.0.0.1:0").expect("loopback has free ports");
    orphan(server.local_addr());
}

/// A client's connection ends while its job is queued; it submits the job again with the same unique; only then a worker
/// comes. gearmand has joined the second submission with the first, which it drops as its client has left.
fn orphan(server: SocketAddr) {
    let proxy = Proxy::start(server);
    let client = Client::builder()
        .server(proxy.address)
        .retry(Retry::Idempotent { attempts: 10 })
        .configure(|config| impatient(&mut config.connecting))
        .build()
        .expect("a client");
    let mut job = client.submit(Job::new("reverse", "abc").unique("the-same")).expect("a job");
    let first = job.accepted().expect("the server takes it");
    proxy.cut();
    let second = job.accepted().expect("the server takes it again");
    println!("first {first}, then {second}");
    let begun = Instant::now();
    let _worker = worker(&[server]);
    let result = job.wait_timeout(PATIENCE).unwrap_or_else(|_| panic!("it hangs")).expect("a result");
    assert_eq!(result, "cba");
    println!("done {:?} after the worker came", begun.elapsed());
}

/// Stands between a client and a job server, and cuts their connections.
struct Proxy {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let kept = sockets.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(server).expect("the server listens");
                let mut kept = kept.lock().expect("nobody panics with it");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let [from, to, keep] = [from, to, from].map(|socket| socket.try_clone().expect("descriptors"));
                    kept.push(keep);
                    thread::spawn(move || pass_on(from, to));
                }
            }
        });
        Self { address, sockets }
    }

    /// Ends all connections there are; new ones may come.
    fn cut(&self) {
        for socket in self.sockets.lock().expect("nobody panics with it").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
