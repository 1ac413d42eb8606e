//! The admin handles on real sockets: our own job server, gearmand, and servers that behave badly.
#![cfg(feature = "blocking")]

#[path = "common/peers.rs"]
mod peers;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gearwheel::admin::Error as CommandError;
use gearwheel::blocking::{Admin, Client, Error, Server, Worker};
use gearwheel::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, UniqueJob};
use gearwheel::{CloseReason, ConfigError, Job, Priority, Reason};
use peers::{Gearmand, PATIENCE, wait_until};

fn refusal(result: Result<(), Error>) -> (String, String) {
    match result {
        Err(Error::Admin(CommandError::Refused(error))) => (error.code.into(), error.text.into()),
        other => panic!("no refusal: {other:?}"),
    }
}

/// Every command against a job server at `at` that has just started.
fn try_every_command(at: SocketAddr) {
    let admin = Admin::builder().server(at).timeout(PATIENCE).connect().expect("it listens");
    assert_eq!(admin.status().expect("an answer"), []);
    admin.create_function("abcd").expect("done");
    assert_eq!(admin.status().expect("an answer"), [FunctionStatus::new("abcd".into(), 0, 0, 0)]);

    let client = Client::builder().server(at).client_id("counter").timeout(PATIENCE).build().expect("a client");
    let mut handles = Vec::new();
    for (number, priority) in [Priority::High, Priority::High, Priority::Low].into_iter().enumerate() {
        let job = Job::new("abcd", "x").unique(format!("u{number}")).priority(priority).background();
        handles.push(client.submit(job).expect("taken").accepted().expect("queued"));
    }
    assert_eq!(admin.status().expect("an answer"), [FunctionStatus::new("abcd".into(), 3, 0, 0)]);
    assert_eq!(admin.priority_status().expect("an answer"), [PriorityStatus::new("abcd".into(), [2, 0, 1], 0)]);

    let mut jobs = admin.jobs().expect("an answer");
    jobs.sort_by(|a, b| a.handle.cmp(&b.handle));
    let job = |handle: &gearwheel::Handle| JobStatus::new(handle.as_bytes().to_vec().into(), 0, false, true);
    assert_eq!(jobs, handles.iter().map(job).collect::<Vec<_>>());
    let mut uniques = admin.unique_jobs().expect("an answer");
    uniques.sort_by(|a, b| a.unique.cmp(&b.unique));
    assert_eq!(uniques, ["u0", "u1", "u2"].map(|unique| UniqueJob::new(None, unique.into())));

    let workers = admin.workers().expect("an answer");
    assert!(workers.iter().all(|row| row.address == "127.0.0.1" && row.functions.is_empty()), "{workers:?}");
    assert_eq!(workers.iter().filter(|row| row.id == "counter").count(), 1, "{workers:?}");

    admin.max_queue("abcd", [2, 0, 2]).expect("done");
    let refused = client.submit(Job::new("abcd", "x").priority(Priority::Low)).expect("taken").wait();
    assert!(refused.is_err_and(|error| error.to_string().contains("QUEUE_ERROR")));
    client.submit(Job::new("abcd", "x").background()).expect("taken").wait().expect("normal ones have no limit");

    admin.cancel_job(&handles[0]).expect("done");
    assert_eq!(refusal(admin.cancel_job("H:nobody:1")), ("UNKNOWN_JOB".into(), "".into()));
    assert_eq!(refusal(admin.drop_function("never")), ("".into(), "function not found".into()));
    let in_use = "there are still connected workers or executing clients";
    let worker = Worker::builder().server(at).function("abcd", |_| Ok("")).spawn().expect("a worker");
    peers::wait_for_workers(at, "abcd", 1);
    assert_eq!(refusal(admin.drop_function("abcd")), ("".into(), in_use.into()));
    wait_until("the jobs are done", PATIENCE, || admin.status().is_ok_and(|rows| rows[0].total == 0));
    worker.drain(PATIENCE).expect("drained");
    peers::wait_for_workers(at, "abcd", 0);
    admin.drop_function("abcd").expect("done");

    assert!(admin.pid().expect("an answer") > 1);
    assert_eq!(admin.verbose().expect("an answer"), "ERROR");
    assert!(admin.version().expect("an answer").starts_with(|first: char| first.is_ascii_digit()));
    let (code, text) = refusal(admin.shutdown(false));
    assert_eq!((&*code, &*text), ("UNKNOWN_COMMAND", "Unknown server commandshutdown"));
}

#[test]
fn every_command_has_its_typed_result_from_gearmand() {
    let Some(server) = Gearmand::start() else { return };
    try_every_command(server.address());
}

#[test]
fn every_command_has_its_typed_result_from_our_own_server() {
    let server = Server::bind("127.0.0.1:0").expect("a free port");
    try_every_command(server.local_addr());
}

#[test]
fn our_own_server_is_shut_down_where_it_allows_it() {
    let server = Server::builder().configure(|config| config.allow_shutdown = true).bind("127.0.0.1:0");
    let server = server.expect("a free port");
    let admin = Admin::connect(server.local_addr()).expect("it listens");
    admin.shutdown(true).expect("allowed");
    server.wait();
    assert!(matches!(admin.version(), Err(Error::Admin(CommandError::Lost { .. }))));
}

#[test]
fn the_version_of_perls_server_is_understood() {
    let Some(server) = Gearmand::perl() else { return };
    let admin = Admin::connect(server.address()).expect("it listens");
    assert!(admin.version().expect("an answer").starts_with('v'));
    assert!(admin.status().expect("an answer").is_empty());
    assert!(admin.jobs().is_err(), "it has no such command");
    admin.shutdown(false).expect("it has this one");
}

#[test]
fn many_threads_ask_at_once_and_each_gets_its_own_answer() {
    let server = Server::bind("127.0.0.1:0").expect("a free port");
    let admin = Admin::connect(server.local_addr()).expect("it listens");
    admin.create_function("f").expect("done");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(admin.status().expect("an answer").len(), 1);
                    assert_eq!(admin.verbose().expect("an answer"), "ERROR");
                    assert_eq!(refusal(admin.cancel_job("x")).0, "UNKNOWN_JOB");
                }
            });
        }
    });
}

#[test]
fn after_a_restart_the_next_command_connects_again() {
    let Some(mut server) = Gearmand::start() else { return };
    let admin = Admin::connect(server.address()).expect("it listens");
    server.kill();
    wait_until("the loss is known", PATIENCE, || admin.version().is_err());
    server.restart();
    // A first attempt may still have found nobody there.
    wait_until("it is back", PATIENCE, || admin.version().is_ok());
}

#[test]
fn that_nobody_listens_is_said_at_once() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], peers::free_port()));
    let Err(Error::Admin(error)) = Admin::connect(nobody) else { panic!("connected to nobody") };
    assert_eq!(error.to_string(), format!("no connection to {nobody}: connection refused: nothing listens there"));
    let lazy = Admin::builder().server(nobody).build().expect("it does not connect yet");
    assert!(matches!(lazy.version(), Err(Error::Admin(CommandError::Lost { reason: CloseReason::Refused, .. }))));
}

#[test]
fn what_cannot_be_said_or_is_missing_is_refused_here() {
    assert!(matches!(Admin::builder().build(), Err(Error::Config(ConfigError::NoServers))));
    assert!(matches!(Admin::connect("a b"), Err(Error::Config(ConfigError::BadAddress { .. }))));
    let admin = Admin::builder().server("127.0.0.1:1").build().expect("it does not connect yet");
    let refused = admin.create_function("two words\r\nshutdown");
    assert!(matches!(refused, Err(Error::Refused(Reason::Invalid(ConfigError::NotAWord("function"))))));
}

/// A server that answers each line by `answer`, to which the writing end of the connection is given.
fn scripted(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            socket.set_nodelay(true).expect("it is open");
            let lines = BufReader::new(socket.try_clone().expect("it is open")).lines();
            lines.map_while(Result::ok).for_each(|line| answer(&line, &mut socket));
        }
    });
    address
}

#[test]
fn a_reply_may_come_in_any_pieces() {
    let at = scripted(|_, socket| {
        for byte in b"a\t1\t0\t2\nb\t9\t8\t7\n.\n" {
            socket.write_all(&[*byte]).expect("somebody reads");
        }
    });
    let rows = Admin::connect(at).expect("it listens").status().expect("an answer");
    assert_eq!(rows, [FunctionStatus::new("a".into(), 1, 0, 2), FunctionStatus::new("b".into(), 9, 8, 7)]);
}

#[test]
fn a_reply_that_stops_halfway_fails_in_time_and_the_next_command_has_a_new_connection() {
    let at = scripted(|line, socket| {
        let said: &[u8] = if line == "status" { b"a\t1\t" } else { b"OK 1.2\n" };
        socket.write_all(said).expect("somebody reads");
    });
    let within = Duration::from_millis(200);
    let admin = Admin::builder().server(at).timeout(within).connect().expect("it listens");
    let began = Instant::now();
    let Err(Error::Admin(error)) = admin.status() else { panic!("half a reply was taken") };
    assert!(matches!(error, CommandError::TimedOut { within: limit, .. } if limit == within), "{error}");
    assert!(began.elapsed() >= within && began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    wait_until("a new connection answers", PATIENCE, || admin.version().is_ok_and(|version| version == "1.2"));
}

#[test]
fn a_flood_is_cut_off_at_the_limit() {
    let at = scripted(|_, socket| while socket.write_all(&b"function\t1\t1\t1\n".repeat(100)).is_ok() {});
    let admin = Admin::builder().server(at).configure(|config| config.limits.max_packet = 1 << 16);
    let flooded = admin.connect().expect("it listens").status();
    let Err(Error::Admin(CommandError::Lost { reason: CloseReason::Protocol(_), .. })) = flooded else {
        panic!("it went on: {flooded:?}")
    };
}

/// The same on another runtime: `$connect` makes a handle that is connected to an address.
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
macro_rules! on {
    ($connect:expr, [$($await:tt)*]) => {{
        let server = Server::bind("127.0.0.1:0").expect("a free port");
        let admin = $connect(server.local_addr(), PATIENCE)$($await)*.expect("it listens");
        assert_eq!(admin.status()$($await)*.expect("an answer"), []);
        admin.create_function("f")$($await)*.expect("done");
        admin.max_queue("f", [1, 2, 3])$($await)*.expect("done");
        let functions = [FunctionStatus::new("f".into(), 0, 0, 0)];
        assert_eq!(admin.status()$($await)*.expect("an answer"), functions);
        assert_eq!(admin.priority_status()$($await)*.expect("an answer").len(), 1);
        assert_eq!(admin.workers()$($await)*.expect("an answer").len(), 1);
        assert_eq!(admin.jobs()$($await)*.expect("an answer"), []);
        assert_eq!(admin.unique_jobs()$($await)*.expect("an answer"), []);
        assert_eq!(refusal(admin.cancel_job("x")$($await)*).0, "UNKNOWN_JOB");
        admin.drop_function("f")$($await)*.expect("done");
        assert!(admin.pid()$($await)*.is_ok() && admin.version()$($await)*.is_ok() && admin.verbose()$($await)*.is_ok());
        assert_eq!(refusal(admin.shutdown(true)$($await)*).0, "UNKNOWN_COMMAND");

        let dribbling = scripted(|_, socket| {
            for byte in b"a\t1\t0\t2\n.\n" {
                socket.write_all(&[*byte]).expect("somebody reads");
            }
        });
        let admin = $connect(dribbling, PATIENCE)$($await)*.expect("it listens");
        assert_eq!(admin.status()$($await)*.expect("an answer"), [FunctionStatus::new("a".into(), 1, 0, 2)]);

        let silent = scripted(|_, socket| socket.write_all(b"a\t1\t").expect("somebody reads"));
        let admin = $connect(silent, Duration::from_millis(200))$($await)*.expect("it listens");
        let Err(Error::Admin(error)) = admin.status()$($await)* else { panic!("half a reply was taken") };
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");

        let nobody = SocketAddr::from(([127, 0, 0, 1], peers::free_port()));
        // Some connect at once, some at the first command.
        let answer = match $connect(nobody, PATIENCE)$($await)* {
            Ok(admin) => admin.status()$($await)*.map(drop),
            Err(error) => Err(error),
        };
        let Err(Error::Admin(error)) = answer else { panic!("connected to nobody") };
        assert!(matches!(error, CommandError::Lost { reason: CloseReason::Refused, .. }), "{error}");
    }};
}

#[test]
#[cfg(feature = "mio")]
fn the_same_holds_on_mio() {
    on!(|at: SocketAddr, within| gearwheel::mio::Admin::builder().server(at).timeout(within).connect(), []);
}

#[test]
#[cfg(feature = "smol")]
fn the_same_holds_on_smol() {
    async fn connect(at: SocketAddr, within: Duration) -> Result<gearwheel::smol::Admin, Error> {
        let admin = gearwheel::smol::Admin::builder().server(at).timeout(within).build()?;
        let run = admin.run();
        thread::spawn(|| async_io::block_on(run));
        Ok(admin)
    }
    async_io::block_on(async { on!(connect, [.await]) });
}

#[test]
#[cfg(feature = "tokio")]
fn the_same_holds_on_tokio() {
    async fn connect(at: SocketAddr, within: Duration) -> Result<gearwheel::tokio::Admin, Error> {
        let admin = gearwheel::tokio::Admin::builder().server(at).timeout(within).build()?;
        tokio::spawn(admin.run());
        Ok(admin)
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { on!(connect, [.await]) });
}
