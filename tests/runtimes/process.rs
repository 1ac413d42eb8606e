//! What a process has but once: its processor's time, its descriptors, its signals. And crowds.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use gearwheel::Job;

use crate::kinds::Kind;
use crate::peers::{PATIENCE, run};
use crate::scenarios::{client, local, result, server};

/// Runs this test in a process of its own, where what belongs to the whole process can be changed and measured. True in
/// that process.
pub(crate) fn alone() -> bool {
    if std::env::var_os("GEARWHEEL_ALONE").is_some() {
        return true;
    }
    let name = thread::current().name().expect("a test has a name").to_owned();
    let program = std::env::current_exe().expect("a test is a program");
    let mut command = Command::new(program);
    let ended = run(command.args(["--exact", &name, "--nocapture"]).env("GEARWHEEL_ALONE", "1"), &[]);
    assert!(ended.status.success(), "{}\n{}", ended.text(), ended.errors());
    assert!(ended.text().contains("1 passed"), "{}", ended.text());
    false
}

/// What this process has used of the processor in `span`; 0 where the system does not tell.
fn cpu_in(span: Duration) -> Duration {
    let used = || {
        let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let nanos = threads.filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        if stat.is_empty() { Duration::ZERO } else { Duration::from_nanos(nanos.sum()) }
    };
    let before = used();
    // Nothing is to happen: there is nothing to wait for but time.
    thread::park_timeout(span);
    used().saturating_sub(before)
}

pub(crate) fn idle_means_idle<K: Kind>() {
    if !alone() {
        return;
    }
    let server = server::<K>();
    let at = K::address(&server);
    let worker = K::worker(at, 4);
    let client = client::<K>(at);
    for _ in 0..10 {
        assert_eq!(result::<K>(&client, Job::new("echo", "x")), Ok("x".into()));
    }
    let _settling = cpu_in(Duration::from_millis(100));
    let used = cpu_in(Duration::from_millis(1500));
    assert!(used < Duration::from_millis(10), "idle for 1.5 s used {used:?}");
    drop(worker);
}

/// Every descriptor is taken when connections knock: they wait, the server does not spin, and they are served later.
#[cfg(unix)]
pub(crate) fn a_full_table_of_descriptors_keeps_connections_waiting<K: Kind>() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !alone() {
        return;
    }
    let server = server::<K>();
    let at = K::address(&server);
    version(&TcpStream::connect(at).expect("it listens"));
    // What was opened since the runtime started has low numbers.
    let limit = Rlimit { current: Some(60), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("it may be lowered");
    let mut clients: Vec<_> = std::iter::from_fn(|| TcpStream::connect(at).ok()).collect();
    assert!(clients.len() >= 10, "{}", clients.len());
    // Of a file's descriptor, /proc cannot be read: make room, and leave the server without.
    let waiting = clients.split_off(clients.len() - 2);
    let full: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/").ok()).collect();
    drop(full);
    let used = cpu_in(Duration::from_millis(400));
    assert!(used < Duration::from_millis(60), "a full table for 0.4 s used {used:?}");
    drop(clients);
    waiting.iter().for_each(version);
}

#[cfg(unix)]
fn version(mut socket: &TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
    socket.write_all(b"version\n").expect("connected");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).expect("an answer");
    assert!(line.starts_with("OK "), "{line}");
}

/// There is room for one connection: whoever else knocks is let in when that one has gone.
pub(crate) fn who_knocks_at_a_full_server_is_let_in_when_another_goes<K: Kind>() {
    let server = K::server(local(), |config| config.max_connections = 1);
    let at = K::address(&server);
    let mut inside = TcpStream::connect(at).expect("it listens");
    version(&inside);
    for _ in 0..3 {
        let next = TcpStream::connect(at).expect("it listens");
        // It is asked by one who has knocked before, and so has seen that somebody else does.
        version(&inside);
        drop(std::mem::replace(&mut inside, next));
        version(&inside);
    }
}

/// Signals interrupt system calls: nobody minds.
#[cfg(unix)]
pub(crate) fn signals_interrupt_nothing<K: Kind>() {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    if !alone() {
        return;
    }
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, caught.clone()).expect("it can be caught");
    let server = server::<K>();
    let at = K::address(&server);
    let worker = K::worker(at, 2);
    let client = client::<K>(at);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                kill_process(getpid(), Signal::USR1).expect("ourselves");
                thread::park_timeout(Duration::from_micros(200));
            }
        });
        for number in 0..300_u32 {
            assert_eq!(result::<K>(&client, Job::new("echo", number.to_string())), Ok(number.to_string().into()));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(caught.load(Ordering::Relaxed));
    drop(worker);
}

/// Two thousand connections that say nothing, and one that does.
#[cfg(all(unix, any(feature = "mio", feature = "smol", feature = "tokio")))]
pub(crate) fn two_thousand_idle_connections<K: Kind>() {
    use crate::peers::wait_until;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !alone() {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 4100) {
        eprintln!("*** NOT TESTED: this user may have {:?} descriptors, 4,100 are needed", limit.maximum);
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(4100), ..limit }).expect("it may be raised");
    let server = server::<K>();
    let at = K::address(&server);
    let idle: Vec<_> = (0..2000).map(|_| TcpStream::connect(at).expect("it listens")).collect();
    wait_until("all are accepted", PATIENCE, || K::counters(&server).connections == 2000);
    let _settling = cpu_in(Duration::from_millis(200));
    let used = cpu_in(Duration::from_millis(300));
    assert!(used < Duration::from_millis(10), "2,000 idle connections for 0.3 s used {used:?}");
    let worker = K::worker(at, 1);
    let client = client::<K>(at);
    for _ in 0..100 {
        assert_eq!(result::<K>(&client, Job::new("echo", "x")), Ok("x".into()));
    }
    idle.iter().step_by(100).for_each(version);
    drop(idle);
    wait_until("all are gone", PATIENCE, || K::counters(&server).connections == 2);
    drop(worker);
}
