//! What is shown of large payloads: how they begin and how long they are, wherever they lie.

#[path = "common/rig.rs"]
mod rig;

use std::fmt::{Debug, Display};

use bytes::{Bytes, BytesMut};
use gearwheel::client::{self, Client};
use gearwheel::memory::{Failure, InMemory};
use gearwheel::server::{self, QueuedJob, Server};
use gearwheel::wire::{Magic, PACKETS, Packet, PacketType as T, split};
use gearwheel::{Batch, ConfigError, Handle, Input, Instant, Job, Machine, Outcome, Output, Reason};
use rig::{Rig, address, packet};

const SIZE: usize = 4 << 20;
const LENGTH: &str = "... (4194304 bytes)";

fn large() -> Bytes {
    let mut bytes = vec![b'x'; SIZE];
    bytes[..9].copy_from_slice(b"beginning");
    bytes.into()
}

fn is_brief(value: &(impl Debug + ?Sized)) {
    let text = format!("{value:?}");
    assert!(text.len() < 1024, "{} bytes: {}", text.len(), &text[..1024]);
    assert!(text.contains(r#"b"beginningxxx"#) && text.contains(LENGTH), "{text}");
}

/// A machine has much to show, but no payload.
fn holds_back(machine: &impl Debug) {
    let text = format!("{machine:?}");
    assert!(text.len() < 16 << 10 && !text.contains(&"x".repeat(65)), "{} bytes", text.len());
}

fn is_cut(value: impl Display) {
    let text = value.to_string();
    assert!(text.len() < 5 << 10 && text.contains("eginningxxx") && text.contains(LENGTH), "{} bytes", text.len());
}

fn client() -> Rig<Client> {
    let mut config = client::Config::new([5; 32]);
    config.servers = vec![address("a")];
    config.limits.max_outgoing = SIZE;
    Rig::new(Client::new(config).expect("valid"))
}

#[test]
fn a_job_and_how_it_ends() {
    let job = Job::new("f", large());
    is_brief(&job);
    is_brief(&job.clone().unique(large()));
    is_brief(&Outcome::Complete(large()));
    is_brief(&Outcome::Exception(large()));
    is_cut(Outcome::Exception(large()));
    is_brief(&Failure::Throw(large()));
    is_brief(&Handle::from_wire(&large()));
    is_brief(&QueuedJob::new("f", large()));
    let short = format!("{:?}", Job::new("f", "a \"payload\"\n\0"));
    assert!(short.starts_with(r#"Job { function: b"f", payload: b"a \"payload\"\n\0", unique: None"#), "{short}");
}

#[test]
fn what_a_client_holds_tells_and_gives_back() {
    let mut rig = client();
    let job = rig.act(|client, now| client.submit(Job::new("f", large()), now)).expect("taken");
    rig.writable = false;
    let conn = rig.connect();
    let full = rig.machine.submit(Job::new("f", large()), rig.now).expect_err("one is all");
    assert!(matches!(full.reason, Reason::Full { limit: SIZE, .. }));
    is_brief(&full);
    holds_back(&rig.machine);
    assert!(rig.machine.outgoing(conn).len() > SIZE);
    let mut batch = Batch::default();
    rig.machine.outgoing(conn).share(64, &mut batch);
    holds_back(&batch);
    holds_back(&rig.machine.outgoing(conn));
    rig.write(conn, usize::MAX);
    rig.writable = true;

    let said = [&b"H:1\0"[..], &large()].concat();
    let kinds = [T::JOB_CREATED, T::WORK_DATA, T::WORK_WARNING, T::WORK_COMPLETE];
    let bodies = [Bytes::from("H:1"), said.clone().into(), said.clone().into(), said.into()];
    let packets: Vec<_> =
        kinds.into_iter().zip(bodies).map(|(kind, body)| Packet::decode(kind, body).expect("whole")).collect();
    rig.receive(conn, &packets);
    let events = rig.events();
    let events: Vec<_> = events.iter().filter(|event| !matches!(event, client::Event::Connected { .. })).collect();
    assert_eq!(events.len(), 4);
    assert!(matches!(events[0], client::Event::Created { .. }));
    events[1..].iter().for_each(is_brief);
    assert!(matches!(events[3], client::Event::Done { job: done, .. } if *done == job));
    is_brief(&Output::Event(events[3].clone()));

    let server = rig.machine.servers().next().expect("one").server;
    let request = rig.act(|client, now| client.echo(server, large(), now)).expect("taken");
    holds_back(&rig.machine);
    let long = rig.act(|client, now| client.status_unique(server, large(), now)).expect_err("no unique");
    let text = format!("{long:?}");
    assert!(
        text.len() < 1024 && text.contains("beginningxxx") && text.ends_with("... (4194307 characters) }"),
        "{text}"
    );
    is_brief(&client::Event::Echo { request, result: Ok(large()) });
}

#[test]
fn what_a_worker_and_a_server_hold() {
    let mut gearman = InMemory::new();
    let function = gearman.function("f", |task| {
        is_brief(task.assignment());
        let worker = format!("{task:?}");
        assert!(worker.len() < 16 << 10 && worker.contains(LENGTH), "{} bytes", worker.len());
        Ok(task.payload().clone())
    });
    function.expect("valid");
    let outcome = gearman.run(Job::new("f", large())).expect("taken");
    assert_eq!(outcome, Outcome::Complete(large()));

    let server = Server::new(server::Config::new([5; 32]), Instant::EPOCH, std::time::Duration::ZERO);
    let mut server = server.expect("valid");
    for payload in [large(), large().slice(..600)] {
        server.restore(QueuedJob::new("f", payload)).expect("taken");
    }
    holds_back(&server);
}

#[test]
fn packets_of_all_types_and_bytes_on_their_way() {
    for row in PACKETS.iter().filter(|row| !row.arguments.is_empty()) {
        let mut body = vec![0; row.arguments.len() - 1];
        body.extend_from_slice(&large());
        let packet = Packet::decode(row.kind, body.into()).expect("as many arguments as it has");
        is_brief(&packet);
        let last = row.arguments.last().expect("one at least");
        assert!(format!("{packet:?}").contains(&format!(r#"{last}: b"beginningxxx"#)), "{packet:?}");
    }
    assert_eq!(
        format!("{:?}", packet(T::WORK_DATA, "H:1|x")),
        r#"WorkData(WorkData { handle: b"H:1", payload: b"x" })"#
    );
    let mut stream = BytesMut::new();
    Packet::decode(T::ECHO_RES, large()).expect("whole").encode(Magic::Response, &mut stream);
    is_brief(&split(&mut stream, SIZE).expect("valid").expect("whole"));
    let mut rig = client();
    rig.act(|client, now| client.submit(Job::new("f", ""), now)).expect("taken");
    let mut stream = BytesMut::from(&large()[..]);
    is_brief(&Input::Data(rig.connect(), &mut stream));
}

#[test]
fn what_cannot_be() {
    let mut name = large().to_vec();
    name[9] = 0;
    let refused = client().machine.submit(Job::new(name, ""), Instant::EPOCH).expect_err("it holds a NUL");
    assert!(matches!(refused.reason, Reason::Invalid(ConfigError::Nul { .. })));
    let text = refused.to_string();
    assert!(text.len() < 5 << 10 && text.contains(LENGTH), "{} bytes", text.len());
    let text = String::from_utf8(large().to_vec()).expect("a text");
    is_cut(format!("{}[", &text[1..]).parse::<gearwheel::Address>().expect_err("no host"));
}

#[cfg(feature = "blocking")]
#[test]
fn what_the_handles_tell() {
    use gearwheel::blocking::{JobError, JobEvent, Throw};

    for event in [JobEvent::Data(large()), JobEvent::Warning(large()), JobEvent::Done(Outcome::Complete(large()))] {
        is_brief(&event);
    }
    is_brief(&JobError::Exception(large()));
    is_cut(JobError::Exception(large()));
    is_brief(&Throw(large()));
    is_cut(Throw(large()));
}
