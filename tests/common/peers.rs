//! Peers that nobody here wrote, started and ended by the tests: gearmand, libgearman's tools, Perl's Gearman.
//!
//! A peer that is not installed is told aloud on stderr and its tests return early, so that a developer without gearmand
//! can run the others; with `CI` set in the environment it is a failure. Everything listens on free ports of 127.0.0.1 and
//! is killed when its owner is dropped. Whatever is waited for has a deadline.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything on this machine may take before it counts as hung. Generous: a machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics, naming `what`, when it does not within `within`.
#[track_caller]
pub(crate) fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {within:?} in vain until {what}");
        nap();
    }
}

/// Between two looks at something that another process will do and can give no sign of.
#[expect(clippy::disallowed_methods, reason = "the one place that may: everything here waits through it")]
pub(crate) fn nap() {
    thread::sleep(Duration::from_millis(5));
}

/// Says aloud that a peer is missing and its tests do not run, or fails where all peers must be there.
#[track_caller]
pub(crate) fn missing(peer: &str, package: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    assert!(std::env::var_os("CI").is_none(), "{peer} is missing: CI runs no tests without it (Debian: {package})");
    if SAID.lock().expect("nobody panics here").insert(peer.into()) {
        // Not eprintln!, which the test harness would swallow.
        let line = format!("\n*** NOT TESTED, as it is not installed: {peer} (Debian: {package})\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// A job server that runs as a process of its own.
#[derive(Debug)]
pub(crate) struct Gearmand {
    binary: PathBuf,
    /// Perl's is the other one.
    is_c: bool,
    options: Vec<String>,
    port: u16,
    child: Child,
}

impl Gearmand {
    /// The C server. `None`: it is not installed, which has been said.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// The C server with further options.
    pub(crate) fn with(options: &[&str]) -> Option<Self> {
        match binary(&["/usr/sbin/gearmand", "/usr/local/sbin/gearmand", "/opt/homebrew/sbin/gearmand"], "gearmand ") {
            Some(path) => Some(Self::spawn(path, true, options)),
            None => {
                missing("gearmand", "gearman-job-server");
                None
            }
        }
    }

    /// Perl's server, Gearman::Server. `None`: it is not installed, which has been said.
    pub(crate) fn perl() -> Option<Self> {
        match binary(&["/usr/bin/gearmand", "/usr/local/bin/gearmand"], "Gearman::Server") {
            Some(path) => Some(Self::spawn(path, false, &[])),
            None => {
                missing("Perl's Gearman::Server", "gearman-server");
                None
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// SIGKILL: its connections are reset, its jobs are lost.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// After [`kill`](Self::kill): comes back on the same port.
    pub(crate) fn restart(&mut self) {
        wait_until("its port is free again and it listens there", PATIENCE, || {
            self.child = launch(&self.binary, self.port, &self.options);
            listening(&mut self.child, self.port, self.is_c)
        });
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub(crate) fn pause(&self) {
        signal(&self.child, "STOP");
        // Each of its threads stops when it is run next.
        wait_until("it has stopped", PATIENCE, || has_stopped(self.child.id()));
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        signal(&self.child, "CONT");
    }

    fn spawn(binary: PathBuf, is_c: bool, options: &[&str]) -> Self {
        // Another process may take the free port before the server does: then its child ends, and another port is tried.
        for _ in 0..5 {
            let port = free_port();
            let mut options: Vec<String> = options.iter().map(|&option| option.into()).collect();
            if is_c {
                // Its pid file is unlinked at its end, whatever it is: one that is this server's alone.
                options.push(format!("--pid-file={}/gearmand-{port}.pid", env!("CARGO_TARGET_TMPDIR")));
                options.push("--log-file=none".into());
            }
            let mut child = launch(&binary, port, &options);
            if listening(&mut child, port, is_c) {
                return Self { binary, is_c, options, port, child };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("{} does not listen", binary.display());
    }
}

impl Drop for Gearmand {
    fn drop(&mut self) {
        self.kill();
        if let Some(file) = self.options.iter().find_map(|option| option.strip_prefix("--pid-file=")) {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn launch(binary: &Path, port: u16, options: &[String]) -> Child {
    Command::new(binary)
        .args(["-L", "127.0.0.1", "-p", &port.to_string()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server was found, so it starts")
}

/// Waits until `child` listens on `port`; false when it has ended instead, or another process has the port.
fn listening(child: &mut Child, port: u16, is_c: bool) -> bool {
    let mut listener = None;
    wait_until("the server listens", PATIENCE, || {
        let lives = child.try_wait().expect("a child can be waited for").is_none();
        listener = if lives { listener_on(port, is_c) } else { Some(Listener::Another) };
        listener.is_some()
    });
    let is_it = match listener {
        Some(Listener::Process(pid)) => pid == child.id(),
        Some(Listener::Unknown) => true,
        Some(Listener::Another) | None => false,
    };
    is_it && child.try_wait().expect("a child can be waited for").is_none()
}

enum Listener {
    Process(u32),
    /// Perl's server does not say.
    Unknown,
    /// It does not speak as the server would.
    Another,
}

/// Who listens on `port`: the admin command `getpid` tells.
fn listener_on(port: u16, is_c: bool) -> Option<Listener> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    if stream.local_addr().ok()?.port() == port {
        return None; // Nobody: a socket that dials its own port finds itself.
    }
    if !is_c {
        return Some(Listener::Unknown);
    }
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"getpid\n").ok()?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    // Once it has closed its side, too, it lists this connection no more.
    stream.get_ref().shutdown(Shutdown::Write).ok()?;
    let _ = stream.read_to_end(&mut Vec::new());
    let pid = line.strip_prefix("OK ").and_then(|pid| pid.trim_end().parse().ok());
    Some(pid.map_or(Listener::Another, Listener::Process))
}

/// Whether all threads of a process have stopped, as far as the system tells.
fn has_stopped(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        // The name before the state may have any characters.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}

/// A port on which nothing listens now, outside the range from which systems take ports for outgoing connections.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time start far from each other.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < COUNT, "loopback has free ports");
        let port = FIRST + start.wrapping_add(taken) % COUNT;
        let port = u16::try_from(port).expect("below 30,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The first of `paths` that says it is `name` when asked for its version: two quite different servers are both called
/// gearmand.
fn binary(paths: &[&str], name: &str) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| {
        Command::new(path).arg("--version").stdin(Stdio::null()).output().is_ok_and(|said| {
            let said = [said.stdout, said.stderr].concat();
            String::from_utf8_lossy(&said).trim_start().starts_with(name)
        })
    })
}

/// Sends `child` a signal by its name, such as `TERM`.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(status.is_ok_and(|status| status.success()), "no SIG{name} for process {}", child.id());
}

/// A text command to the job server at `address`, and the lines of its reply: up to `.` where the command's reply ends so,
/// one line otherwise.
pub(crate) fn admin(address: SocketAddr, command: &str) -> Vec<String> {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
    socket.write_all(format!("{command}\r\n").as_bytes()).expect("a short line is written");
    let table = matches!(command, "status" | "workers" | "prioritystatus" | "show jobs" | "show unique jobs");
    let mut lines = Vec::new();
    for line in BufReader::new(socket).lines() {
        let line = line.expect("the server answers in time");
        if table && line == "." {
            return lines;
        }
        lines.push(line);
        if !table {
            return lines;
        }
    }
    panic!("the reply to {command:?} ended after {lines:?}");
}

/// A line of the admin command `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Jobs queued and running.
    pub(crate) total: u64,
    /// Jobs running.
    pub(crate) running: u64,
    /// Workers that can do it.
    pub(crate) workers: u64,
}

/// What `status` says of one function; zeros when it does not name it.
pub(crate) fn status(address: SocketAddr, function: &str) -> Status {
    let lines = admin(address, "status");
    let line = lines.iter().find_map(|line| line.strip_prefix(function)?.strip_prefix('\t'));
    let Some(line) = line else { return Status::default() };
    let numbers: Vec<u64> = line.split('\t').map(|number| number.parse().expect("status gives numbers")).collect();
    match numbers[..] {
        [total, running, workers] => Status { total, running, workers },
        _ => panic!("status has three numbers: {line:?}"),
    }
}

/// Waits until `count` workers are registered for `function`.
#[track_caller]
pub(crate) fn wait_for_workers(address: SocketAddr, function: &str, count: u64) {
    wait_until(&format!("{count} workers are there for {function}"), PATIENCE, || {
        status(address, function).workers == count
    });
}

/// What a program left when it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// All that it printed.
    pub(crate) stdout: Vec<u8>,
    /// All that it complained.
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// Its stdout as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr as text.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Runs a program to its end with `stdin`; kills it and panics when that takes longer than [`PATIENCE`].
#[track_caller]
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Ended {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Process(child.unwrap_or_else(|error| panic!("{command:?} starts: {error}")));
    let mut pipes = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    thread::scope(|scope| {
        // A program that ends early does not read the rest: no error of ours.
        scope.spawn(move || pipes.0.take().map(|mut pipe| pipe.write_all(stdin)));
        let stdout = scope.spawn(move || all_of(pipes.1));
        let stderr = scope.spawn(move || all_of(pipes.2));
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.0.try_wait().expect("a child can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => nap(),
            }
        };
        drop(child); // With it end the pipes, and so the threads.
        let (stdout, stderr) = (stdout.join().expect("it only reads"), stderr.join().expect("it only reads"));
        let Some(status) = status else {
            panic!("{command:?} hangs; it said {} {}", stdout.escape_ascii(), stderr.escape_ascii())
        };
        Ended { status, stdout, stderr }
    })
}

fn all_of(pipe: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut all);
    }
    all
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts a program whose output nobody reads.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?} starts: {error}")))
    }

    /// Waits for its end, at most [`PATIENCE`].
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", PATIENCE, || {
            status = self.0.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// libgearman's command line tools `gearman` and `gearadmin`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools(());

impl Tools {
    /// `None`: they are not installed, which has been said.
    pub(crate) fn find() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = FOUND
            .get_or_init(|| ["gearman", "gearadmin"].iter().all(|tool| Command::new(tool).arg("-H").output().is_ok()));
        if !found {
            missing("gearman and gearadmin, libgearman's tools", "gearman-tools");
        }
        found.then_some(Self(()))
    }

    /// `gearman` in client mode: submits `payload` and returns what it printed, the result of the job.
    #[track_caller]
    pub(crate) fn submit(self, server: SocketAddr, function: &str, options: &[&str], payload: &[u8]) -> Ended {
        let mut command = self.gearman(server, function);
        run(command.args(options), payload)
    }

    /// `gearman` in worker mode: runs `program` for each job, with the payload as its stdin and its stdout as the result.
    pub(crate) fn work(self, server: SocketAddr, function: &str, program: &[&str]) -> Process {
        let mut command = self.gearman(server, function);
        let worker = Process::start(command.arg("-w").arg("--").args(program));
        wait_for_workers(server, function, 1);
        worker
    }

    /// `gearadmin` with one option, such as `--status`.
    #[track_caller]
    pub(crate) fn admin(self, server: SocketAddr, options: &[&str]) -> Ended {
        let mut command = Command::new("gearadmin");
        command.args(["-h", &server.ip().to_string(), "-p", &server.port().to_string()]);
        run(command.args(options), &[])
    }

    fn gearman(self, server: SocketAddr, function: &str) -> Command {
        let mut command = Command::new("gearman");
        command.args(["-h", &server.ip().to_string(), "-p", &server.port().to_string(), "-f", function]);
        command
    }
}

/// Our C program on libgearman, `tests/interop/libgearman.c`, for what the tools do not reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Libgearman(&'static Path);

impl Libgearman {
    /// Compiles it. `None`: libgearman or a C compiler is not installed, which has been said.
    pub(crate) fn build() -> Option<Self> {
        static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let mut includes = Command::new("cc");
            includes.args(["-E", "-include", "libgearman/gearman.h", "-xc", "-"]).stdin(Stdio::null());
            if !includes.output().is_ok_and(|said| said.status.success()) {
                return None;
            }
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libgearman-{}", std::process::id()));
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/libgearman.c");
            let mut command = Command::new("cc");
            let ended = run(command.arg("-o").arg(&program).args([source, "-lgearman"]), &[]);
            assert!(ended.status.success(), "{}", ended.errors());
            Some(program)
        });
        if built.is_none() {
            missing("a C compiler with libgearman", "gcc libgearman-dev");
        }
        built.as_deref().map(Self)
    }

    /// Goes through a client's calls, and returns what came of each.
    #[track_caller]
    pub(crate) fn client(self, server: SocketAddr) -> String {
        let ended = run(Command::new(self.0).args([&server.port().to_string(), "client"]), &[]);
        assert!(ended.status.success(), "{ended:?}");
        ended.text()
    }

    /// Serves `talk`.
    pub(crate) fn work(self, server: SocketAddr) -> Process {
        let worker = Process::start(Command::new(self.0).args([&server.port().to_string(), "worker"]));
        wait_for_workers(server, "talk", 1);
        worker
    }
}

/// Perl's Gearman::Client and Gearman::Worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Perl(());

impl Perl {
    /// `None`: they are not installed, which has been said.
    pub(crate) fn find() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let found = Command::new("perl").args(["-MGearman::Client", "-MGearman::Worker", "-e", "1"]).output();
            found.is_ok_and(|ended| ended.status.success())
        });
        if !found {
            missing("Perl's Gearman::Client and Gearman::Worker", "libgearman-client-perl");
        }
        found.then_some(Self(()))
    }

    /// Submits `payload` with Gearman::Client and returns what it printed, the result of the job.
    #[track_caller]
    pub(crate) fn submit(self, server: SocketAddr, function: &str, payload: &[u8]) -> Ended {
        let script = r#"
            binmode STDIN; binmode STDOUT;
            my ($server, $function) = @ARGV;
            my $client = Gearman::Client->new(job_servers => [$server]);
            my $result = $client->do_task($function, join('', <STDIN>));
            exit 1 unless defined $result;
            print $$result;
        "#;
        run(Command::new("perl").args(["-MGearman::Client", "-e", script, &server.to_string(), function]), payload)
    }

    /// Serves `function` with Gearman::Worker: the result is the payload reversed; the payload `fail` fails, and `die`
    /// throws.
    pub(crate) fn work(self, server: SocketAddr, function: &str) -> Process {
        let script = r#"
            my ($server, $function) = @ARGV;
            my $worker = Gearman::Worker->new(job_servers => [$server]);
            $worker->register_function($function => sub {
                my $payload = $_[0]->arg;
                return undef if $payload eq 'fail';
                die "thrown\n" if $payload eq 'die';
                return scalar reverse $payload;
            });
            $worker->work while 1;
        "#;
        let mut command = Command::new("perl");
        let worker = Process::start(command.args(["-MGearman::Worker", "-e", script, &server.to_string(), function]));
        wait_for_workers(server, function, 1);
        worker
    }
}
