//! Clients and workers that nobody here wrote, seven in five languages, on our server and on gearmand, with our worker and our
//! client. Their programs, and what these do, are in `tests/peers/`.
//!
//! What is not installed is told aloud and passed over; with `CI` set it is a failure. `.ci/run` installs all of it.
#![cfg(feature = "blocking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use gearwheel::blocking::{Client, Fail, JobEvent, Running, Server, Throw, Worker};
use gearwheel::{Job, Outcome, Priority};
use peers::{Gearmand, PATIENCE, Process, missing, run, wait_for_workers};

#[path = "common/peers.rs"]
mod peers;

/// A foreign library, with a client and a worker on it.
struct Peer {
    name: &'static str,
    /// What to install.
    package: &'static str,
    /// How a program on it, `client` or `worker`, is run. `None`: it is not installed.
    command: fn(&str) -> Option<Command>,
    /// What its client says otherwise than [`CLIENT`]; an empty outcome where it says nothing.
    client: &'static [(&'static str, &'static str)],
    /// And that only on gearmand.
    client_on_gearmand: &'static [(&'static str, &'static str)],
    /// What comes of its worker's functions otherwise than [`WORKER`] has it; an empty outcome for what it is not asked.
    worker: &'static [(&'static str, &'static str)],
    /// And on gearmand, besides.
    worker_on_gearmand: &'static [(&'static str, &'static str)],
}

/// What a client says when all is well.
const CLIENT: &[(&str, &str)] = &[
    ("binary", "ok"),
    ("empty", "ok"),
    ("high", "ok"),
    ("low", "ok"),
    ("background", "known"),
    ("unique", "same"),
    ("talk", "status 1/2, data part, warning careful, complete done"),
    ("fail", "failed"),
    ("many", "20"),
    ("throw", "exception thrown"),
];

/// What comes of a worker's functions when all is well.
const WORKER: &[(&str, &str)] = &[
    ("binary", "ok"),
    ("empty", "ok"),
    ("high", "ok"),
    ("low", "ok"),
    ("background", "done"),
    ("unique", "same"),
    ("talk", "status 1/2, data part, warning careful, complete done"),
    ("fail", "failed"),
    ("limited", "complete in time"),
    ("many", "20"),
    ("throw", "exception thrown"),
];

const PERL: Peer = Peer {
    name: "Perl's Gearman::Client and Gearman::Worker",
    package: "Debian: libgearman-client-perl",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        let mut check = Command::new("perl");
        check.args(["-MGearman::Client", "-MGearman::Worker", "-e", "1"]);
        THERE.get_or_init(|| succeeds(&mut check)).then(|| script("perl", &format!("perl/{program}.pl")))
    },
    client: &[],
    client_on_gearmand: &[],
    worker: &[],
    // gearmand waits for the NUL that it leaves out before an empty result.
    worker_on_gearmand: &[("empty", "")],
};

const NODE: Peer = Peer {
    name: "GearmaNode",
    package: "npm: gearmanode",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        from_npm("gearmanode", &THERE, &format!("node/{program}.js"))
    },
    client: &[],
    client_on_gearmand: &[],
    // It makes UTF-8 of every result.
    worker: &[("binary", "wrong")],
    worker_on_gearmand: &[],
};

const ABRAXAS: Peer = Peer {
    name: "abraxas",
    package: "npm: abraxas",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        from_npm("abraxas", &THERE, &format!("abraxas/{program}.js"))
    },
    // A part is to it the beginning of the result, and progress a share.
    client: &[("talk", "status 0.5, warning careful, complete partdone")],
    client_on_gearmand: &[],
    // It cannot fail but by an exception.
    worker: &[("talk", "status 50/100, warning careful, complete partdone"), ("fail", "exception failed")],
    worker_on_gearmand: &[],
};

const PYTHON: Peer = Peer {
    name: "pygearman",
    package: "PyPI: pygearman",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        from_pypi("gearman", &THERE, &format!("python/{program}.py"))
    },
    // It does not ask for exceptions.
    client: &[("throw", "failed")],
    // It does not survive the NUL at the end of gearmand's handle.
    client_on_gearmand: &[("throw", "")],
    // It has no time limits.
    worker: &[("limited", "")],
    worker_on_gearmand: &[],
};

const GEAR: Peer = Peer {
    name: "OpenStack's gear",
    package: "PyPI: gear",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        from_pypi("gear", &THERE, &format!("gear/{program}.py"))
    },
    client: &[],
    client_on_gearmand: &[],
    worker: &[],
    worker_on_gearmand: &[],
};

const PHP: Peer = Peer {
    name: "PHP's gearman extension",
    package: "Debian: php-cli php-gearman",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        let mut check = Command::new("php");
        check.args(["-r", "exit(extension_loaded('gearman') ? 0 : 1);"]);
        THERE.get_or_init(|| succeeds(&mut check)).then(|| script("php", &format!("php/{program}.php")))
    },
    // libgearman refuses a task without a payload.
    client: &[("empty", "")],
    client_on_gearmand: &[],
    worker: &[],
    worker_on_gearmand: &[],
};

const RUST: Peer = Peer {
    name: "the crate gearman",
    package: "crates.io: gearman, built by this test",
    command: |program| {
        static THERE: OnceLock<bool> = OnceLock::new();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers-rust");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(program_of("rust/Cargo.toml"));
        build.arg("--target-dir").arg(&target);
        THERE.get_or_init(|| succeeds(&mut build)).then(|| Command::new(target.join("debug").join(program)))
    },
    client: &[],
    client_on_gearmand: &[],
    worker: &[],
    worker_on_gearmand: &[],
};

/// Where `.ci/run` installs what comes by npm and pip.
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_default().join("gearwheel-ci/peers")
}

/// A script on a package that npm installed; `None`: it is not there.
fn from_npm(package: &str, there: &OnceLock<bool>, path: &str) -> Option<Command> {
    let modules = installed().join("npm/node_modules");
    let mut check = Command::new("node");
    check.arg("-e").arg(format!("require.resolve('{package}')")).env("NODE_PATH", &modules);
    there.get_or_init(|| succeeds(&mut check)).then(|| {
        let mut command = script("node", path);
        command.env("NODE_PATH", &modules).env("NODE_NO_WARNINGS", "1");
        command
    })
}

/// A script on a module that pip installed; `None`: it is not there.
fn from_pypi(module: &str, there: &OnceLock<bool>, path: &str) -> Option<Command> {
    let python = installed().join("python/bin/python");
    let mut check = Command::new(&python);
    check.arg("-c").arg(format!("import {module}"));
    there.get_or_init(|| succeeds(&mut check)).then(|| script(&python, path))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|said| said.status.success())
}

fn script(interpreter: impl AsRef<std::ffi::OsStr>, path: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(program_of(path));
    command
}

fn program_of(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(path)
}

macro_rules! with_each_peer {
    ($($module:ident $peer:ident)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn its_client_and_our_worker_on_our_server() {
                foreign_client(&$peer, our_server().local_addr(), $peer.client);
            }

            #[test]
            fn its_client_and_our_worker_on_gearmand() {
                if let Some(gearmand) = Gearmand::start() {
                    foreign_client(&$peer, gearmand.address(), &[$peer.client_on_gearmand, $peer.client].concat());
                }
            }

            #[test]
            fn our_client_and_its_worker_on_our_server() {
                foreign_worker(&$peer, our_server().local_addr(), $peer.worker);
            }

            #[test]
            fn our_client_and_its_worker_on_gearmand() {
                if let Some(gearmand) = Gearmand::start() {
                    foreign_worker(&$peer, gearmand.address(), &[$peer.worker_on_gearmand, $peer.worker].concat());
                }
            }

            #[test]
            fn its_client_and_its_worker_on_our_server() {
                foreign_both(&$peer, our_server().local_addr());
            }
        }
    )*};
}

with_each_peer! {
    perl PERL
    node NODE
    abraxas ABRAXAS
    python PYTHON
    gear GEAR
    php PHP
    rust RUST
}

fn our_server() -> Server {
    Server::bind("127.0.0.1:0").expect("loopback has free ports")
}

/// The command for one of its programs; `None`: it is not installed, which has been said.
fn command(peer: &Peer, program: &str, server: SocketAddr) -> Option<Command> {
    let command = (peer.command)(program);
    if command.is_none() {
        missing(peer.name, peer.package);
    }
    let mut command = command?;
    command.arg(server.port().to_string());
    Some(command)
}

fn foreign_client(peer: &Peer, server: SocketAddr, otherwise: &[(&str, &str)]) {
    let _worker = our_worker(server);
    let Some(mut command) = command(peer, "client", server) else { return };
    let said = run(&mut command, &[]);
    compare(&said.text(), CLIENT, otherwise, &said.errors());
}

fn foreign_worker(peer: &Peer, server: SocketAddr, otherwise: &[(&str, &str)]) {
    let Some(mut command) = command(peer, "worker", server) else { return };
    let _worker = Process::start(&mut command);
    ["reverse", "talk", "fail", "throw", "count"].iter().for_each(|function| wait_for_workers(server, function, 1));
    let unasked: Vec<_> = otherwise.iter().filter(|(_, outcome)| outcome.is_empty()).map(|(what, _)| *what).collect();
    compare(&our_client(server, &unasked), WORKER, otherwise, "");
}

fn foreign_both(peer: &Peer, server: SocketAddr) {
    let Some(mut worker) = command(peer, "worker", server) else { return };
    let _worker = Process::start(&mut worker);
    ["reverse", "talk", "fail", "throw", "count"].iter().for_each(|function| wait_for_workers(server, function, 1));
    let mut client = command(peer, "client", server).expect("the worker is there, too");
    client.args(peer.worker.iter().filter(|(_, outcome)| outcome.is_empty()).map(|(what, _)| what));
    let said = run(&mut client, &[]);
    // What its worker cannot do its client does not see.
    let both: Vec<_> = peer.client.iter().chain(peer.worker).copied().collect();
    compare(&said.text(), CLIENT, &both, &said.errors());
}

/// What was said must be what is usual, but for what is known to be otherwise; an empty outcome is a line that is missing.
#[track_caller]
fn compare(said: &str, usual: &[(&str, &str)], otherwise: &[(&str, &str)], complaints: &str) {
    let expected = usual.iter().map(|&(what, usual)| {
        let special = otherwise.iter().find(|(special, _)| *special == what);
        (what, special.map_or(usual, |(_, outcome)| outcome))
    });
    let expected: Vec<_> = expected.filter(|(_, outcome)| !outcome.is_empty()).collect();
    let said: Vec<_> = said.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(said, expected, "{complaints}");
}

/// Serves what `tests/peers/README.md` says.
fn our_worker(server: SocketAddr) -> Running {
    let runs = AtomicU32::new(0);
    let worker = Worker::builder()
        .server(server)
        .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
        .function("talk", |task| {
            task.progress(1, 2)?;
            task.data("part")?;
            task.warning("careful")?;
            Ok("done")
        })
        .function::<Vec<u8>>("fail", |_| Err(Fail.into()))
        .function::<Vec<u8>>("throw", |_| Err(Throw("thrown".into()).into()))
        .function("count", move |_| {
            thread::park_timeout(Duration::from_secs(1));
            Ok((runs.fetch_add(1, Ordering::Relaxed) + 1).to_string())
        })
        .function_timeout("limited", Duration::from_secs(60), |_| Ok("in time"))
        .spawn()
        .expect("a worker");
    wait_for_workers(server, "limited", 1);
    worker
}

/// Does with a foreign worker what their clients do, and says the same.
fn our_client(server: SocketAddr, unasked: &[&str]) -> String {
    let client = Client::builder().server(server).timeout(PATIENCE).build().expect("a client");
    let mut said = Vec::new();
    let reversed = |job: Job| {
        let expected: Vec<u8> = job.payload().iter().rev().copied().collect();
        match client.submit(job).expect("a job").outcome() {
            Outcome::Complete(result) => (if result == expected { "ok" } else { "wrong" }).to_owned(),
            other => format!("{other:?}"),
        }
    };
    said.push(("binary", reversed(Job::new("reverse", (0..=255).collect::<Vec<u8>>()))));
    if !unasked.contains(&"empty") {
        said.push(("empty", reversed(Job::new("reverse", ""))));
    }
    said.push(("high", reversed(Job::new("reverse", "high").priority(Priority::High))));
    said.push(("low", reversed(Job::new("reverse", "low").priority(Priority::Low))));

    let mut background = client.submit(Job::new("reverse", "x").background()).expect("a job");
    let handle = background.accepted().expect("the server takes it");
    let its_server = client.servers()[0].server;
    peers::wait_until("the background job is done", PATIENCE, || {
        !client.status_of(its_server, handle.clone()).expect("a status").known
    });
    said.push(("background", "done".to_owned()));

    let counts = [(); 2].map(|()| client.submit(Job::new("count", "").unique("one")).expect("a job"));
    let [first, second] = counts.map(|job| job.wait().expect("a result"));
    said.push(("unique", if first == second { "same".to_owned() } else { format!("{first:?} {second:?}") }));

    for function in ["talk", "fail"] {
        said.push((function, events_of(&client, function)));
    }
    if !unasked.contains(&"limited") {
        said.push(("limited", events_of(&client, "limited")));
    }

    let jobs: Vec<_> = (0..20).map(|number| client.submit(Job::new("reverse", format!("job {number}")))).collect();
    let right = jobs.into_iter().enumerate().filter(|(number, _)| *number < 20);
    let right = right.map(|(number, job)| (number, job.expect("a job").wait().expect("a result")));
    let right = right.filter(|(number, result)| result.iter().rev().eq(format!("job {number}").as_bytes()));
    said.push(("many", right.count().to_string()));
    said.push(("throw", events_of(&client, "throw")));
    said.iter().map(|(what, outcome)| format!("{what}: {outcome}\n")).collect()
}

/// What comes of a job of `function`, in order.
fn events_of(client: &Client, function: &'static str) -> String {
    let mut job = client.submit(Job::new(function, "x")).expect("a job");
    let mut events = Vec::new();
    while let Some(event) = job.next_event() {
        events.push(match event {
            JobEvent::Created { .. } => continue,
            JobEvent::Progress { numerator, denominator } => format!("status {numerator}/{denominator}"),
            JobEvent::Data(part) => format!("data {}", part.escape_ascii()),
            JobEvent::Warning(warning) => format!("warning {}", warning.escape_ascii()),
            JobEvent::Done(Outcome::Complete(result)) => format!("complete {}", result.escape_ascii()),
            JobEvent::Done(Outcome::Failed) => "failed".to_owned(),
            // Perl's is frozen.
            JobEvent::Done(Outcome::Exception(thrown)) if thrown.ends_with(b"thrown\n") => {
                "exception thrown".to_owned()
            }
            JobEvent::Done(Outcome::Exception(thrown)) => format!("exception {}", thrown.escape_ascii()),
            other => format!("{other:?}"),
        });
    }
    events.join(", ")
}
