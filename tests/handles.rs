//! What the handles are for those who write programs with them: one error, names to be kept, reasons to be told.
#![cfg(all(feature = "blocking", feature = "mio", feature = "tokio"))]

use std::collections::HashMap;
use std::time::Duration;

use gearwheel::blocking::{Client, Error, JobError, Server, Worker};
use gearwheel::bytes::Bytes;
use gearwheel::{Address, CloseReason, Handle, Job, Limits, Outcome, Phase, Reason};

const PATIENCE: Duration = Duration::from_secs(20);

fn client(server: &Server) -> Client {
    Client::builder().server(server.local_addr()).timeout(PATIENCE).build().expect("a client")
}

fn small() -> Limits {
    let mut limits = Limits::default();
    limits.max_packet = 1000;
    limits
}

/// Large results and errors, from handlers of a worker that may not send them.
fn assert_refused(server: &Server, function: &'static str) {
    let result = client(server).submit(Job::new(function, "")).expect("taken").wait();
    let Err(JobError::Exception(text)) = result else { panic!("{function}: {result:?}") };
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text, "the worker cannot send the result: the payload has 5000 bytes; the limit is 935");
}

#[test]
fn a_result_that_is_too_large_to_be_sent_is_an_exception_that_says_so() {
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let at = server.local_addr();
    let large = || Ok(vec![0; 5000]);
    let blocking = Worker::builder().server(at).limits(small()).function("blocking", move |_| large());
    let blocking = blocking.spawn().expect("a worker");
    let mio = gearwheel::mio::Worker::builder().server(at).limits(small()).function("mio", move |_| large());
    let mio = mio.spawn().expect("a worker");
    let tokio = gearwheel::tokio::Worker::builder().server(at).limits(small());
    let tokio = tokio.function("tokio", move |_| async move { large() }).build().expect("a worker");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.spawn(tokio.run());
    ["blocking", "mio", "tokio"].into_iter().for_each(|function| assert_refused(&server, function));
    // Each goes on.
    ["blocking", "mio", "tokio"].into_iter().for_each(|function| assert_refused(&server, function));
    blocking.drain(PATIENCE).expect("drained");
    mio.drain(PATIENCE).expect("drained");
    tokio.close();
}

#[test]
fn one_error_does_for_all_that_a_program_does() {
    fn program(client: &Client, job: Job) -> Result<Bytes, Error> {
        let server = client.servers().first().map(|server| server.server).ok_or(Error::Closed)?;
        client.echo(server, "hello")?;
        Ok(client.submit(job)?.wait()?)
    }
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let worker = Worker::builder().server(server.local_addr()).function("f", |task| Ok(task.payload().clone()));
    let worker = worker.spawn().expect("a worker");
    let client = client(&server);
    assert_eq!(program(&client, Job::new("f", "x")).expect("a result"), "x");
    assert!(matches!(program(&client, Job::new("", "x")), Err(Error::Refused(Reason::Invalid(_)))));
    let late = program(&client, Job::new("nobody", "").timeout(Duration::from_millis(50)));
    assert!(matches!(late, Err(Error::Job(JobError::TimedOut { .. }))), "{late:?}");
    drop(worker);
}

#[test]
fn a_background_job_is_found_again_by_what_was_kept_of_it() {
    let servers = [(); 2].map(|()| Server::bind("127.0.0.1:0").expect("a port"));
    let client = Client::builder()
        .servers(servers.iter().map(Server::local_addr))
        .balance(gearwheel::Balance::RoundRobin)
        .timeout(PATIENCE)
        .build()
        .expect("a client");
    let mut kept = HashMap::new();
    for number in 0..8 {
        match client.submit(Job::new("later", "").background()).expect("taken").outcome() {
            Outcome::Queued { handle, server } => drop(kept.insert((server, handle.to_string()), number)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept.len(), 8);
    let mut by_handle: HashMap<Handle, usize> = HashMap::new();
    for (server, name) in kept.keys() {
        let handle = Handle::from(&**name);
        *by_handle.entry(handle.clone()).or_default() += 1;
        assert!(client.status_of(*server, handle).expect("an answer").known);
    }
    assert_eq!(by_handle.values().sum::<usize>(), 8);
}

#[test]
fn whoever_forgot_to_start_a_job_server_is_told() {
    let nobody = Server::bind("127.0.0.1:0").expect("a port").local_addr();
    let client = Client::builder().server(nobody).timeout(Duration::from_millis(300)).build().expect("a client");
    let job = client.submit(Job::new("f", "")).expect("taken");
    assert_eq!(client.phase(job.id()).map(|phase| phase < Phase::Sent), Some(true));
    let error = job.wait().expect_err("nobody is there");
    assert_eq!(
        error.to_string(),
        format!(
            "the job timed out before any job server could be had; the last that failed is {nobody}: connection refused: \
             nothing listens there"
        )
    );
    let servers = client.servers();
    assert_eq!(servers[0].address, Address::from(nobody));
    assert_eq!(servers[0].failure, Some(CloseReason::Refused));
    let worker = Worker::builder().server(nobody).can_do("f").can_do("g").build().expect("a worker");
    worker.unregister_all();
    assert!(worker.unregister(b"f").is_err());
    assert!(worker.now() <= worker.now());
}
