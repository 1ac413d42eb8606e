//! What is said to `tracing`, as a subscriber hears it.
#![cfg(feature = "blocking")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/rig.rs"]
mod rig;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use bytes::BytesMut;
use gearwheel::blocking::{Client, Server, Worker};
use gearwheel::wire::{Magic, PacketType as T};
use gearwheel::{CloseReason, Job, Retry, client, worker};
use peers::{PATIENCE, wait_until};
use rig::{Rig, address, packet, secs};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

type Fields = BTreeMap<String, String>;

/// An event, and what it belongs to.
#[derive(Clone, Debug)]
struct Said {
    level: String,
    text: String,
    fields: Fields,
    span: Fields,
}

/// All that was said in this process. Each test looks for what bears its own names.
static SAID: Mutex<Vec<Said>> = Mutex::new(Vec::new());

#[derive(Default)]
struct Listener {
    spans: Mutex<HashMap<u64, Fields>>,
    last: AtomicU64,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Taken<'a>(&'a mut Fields);

impl Visit for Taken<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::from([("span".into(), attributes.metadata().name().into())]);
        attributes.record(&mut Taken(&mut fields));
        self.spans.lock().expect("nobody panics").insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.spans.lock().expect("nobody panics");
        values.record(&mut Taken(spans.entry(span.into_u64()).or_default()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Taken(&mut fields));
        let entered = || ENTERED.with_borrow(|entered| entered.last().copied());
        let parent = event.parent().map(Id::into_u64).or_else(|| entered().filter(|_| event.is_contextual()));
        let spans = self.spans.lock().expect("nobody panics");
        let span = parent.and_then(|parent| spans.get(&parent).cloned()).unwrap_or_default();
        let (level, text) = (event.metadata().level().to_string(), fields.remove("message").unwrap_or_default());
        SAID.lock().expect("nobody panics").push(Said { level, text, fields, span });
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(Vec::pop);
    }
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener::default()).expect("the only one"));
}

/// What was said in spans whose `field` is `value`, but for single packets.
fn said(field: &str, value: &str) -> Vec<Said> {
    let said = SAID.lock().expect("nobody panics");
    let ours = |said: &&Said| said.level != "TRACE" && said.span.get(field).is_some_and(|found| found == value);
    said.iter().filter(ours).cloned().collect()
}

fn lines(said: &[Said]) -> Vec<String> {
    said.iter().map(|said| format!("{} {}", said.level, said.text)).collect()
}

fn client_of(server: &str, retry: Retry) -> Rig<client::Client> {
    let mut config = client::Config::new([7; 32]);
    config.servers = vec![address(server)];
    config.exceptions = false;
    config.retry = retry;
    Rig::new(client::Client::new(config).expect("valid"))
}

#[test]
fn spans_and_events_tell_the_life_of_a_job() {
    listen();
    let mut rig = client_of("life", Retry::Idempotent { attempts: 3 });
    let job = Job::new("live\n", "a secret").unique("u\u{e9}\u{1b}1");
    rig.act(|client, now| client.submit(job, now)).expect("accepted");
    let conn = rig.connect();
    rig.close(conn, CloseReason::Reset);
    rig.pass(secs(1));
    let conn = rig.connect();
    rig.receive(conn, &[packet(T::JOB_CREATED, "H:x:1")]);
    rig.receive(conn, &[packet(T::WORK_DATA, "H:x:1|a secret"), packet(T::WORK_COMPLETE, "H:x:1|a secret")]);
    rig.receive(conn, &[packet(T::WORK_FAIL, "H:x:1")]);

    let job = said("function", "live\\n");
    assert_eq!(
        lines(&job),
        [
            "DEBUG submitted",
            "DEBUG sent",
            "WARN lost, to be tried again",
            "DEBUG sent",
            "DEBUG created",
            "DEBUG complete"
        ]
    );
    assert_eq!(
        (&job[0].fields["bytes"][..], &job[2].fields["phase"][..], &job[5].fields["bytes"][..]),
        ("8", "Sent", "8")
    );
    assert_eq!(job[2].fields["reason"], "the connection was reset");
    let span: Vec<_> = job[5].span.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        span.join(" "),
        "attempt=2 background=false function=live\\n handle=H:x:1 role=client server=life:4730 span=job unique=u\u{e9}\\u{1b}1"
    );

    let connection: Vec<_> =
        said("server", "life:4730").into_iter().filter(|said| said.span["span"] == "connection").collect();
    assert_eq!(
        lines(&connection),
        [
            "DEBUG connecting",
            "INFO connected",
            "WARN disconnected",
            "DEBUG connecting",
            "INFO connected",
            "DEBUG a late packet"
        ]
    );
    assert_eq!(connection[2].fields["reason"], "the connection was reset");
    assert!(connection[2].fields["retry_in"].ends_with("ms"), "{:?}", connection[2]);
    let all = format!("{:?}", SAID.lock().expect("nobody panics"));
    assert!(!all.contains("a secret"), "a payload was said");
}

#[test]
fn each_end_of_a_job_has_its_event() {
    listen();
    let end = |server: &str, end: &dyn Fn(&mut Rig<client::Client>, gearwheel::ConnId)| {
        let mut rig = client_of(server, Retry::Unsent);
        let job = Job::new(server.to_owned(), "").timeout(secs(5));
        rig.act(|client, now| client.submit(job, now)).expect("accepted");
        let conn = rig.connect();
        end(&mut rig, conn);
        let last = said("function", server).pop().expect("something was said");
        format!("{} {} {:?}", last.level, last.text, last.fields)
    };
    let created = packet(T::JOB_CREATED, "H:x:1");
    let rejected =
        end("rejected", &|rig, conn| rig.receive(conn, &[packet(T::ERROR, "QUEUE_ERROR|Job queue is full")]));
    assert_eq!(rejected, r#"WARN rejected {"code": "QUEUE_ERROR", "text": "Job queue is full"}"#);
    let late = end("late", &|rig, _| assert!(rig.pass(secs(6)) > 0));
    assert_eq!(late, r#"WARN a deadline has passed {"phase": "Sent", "took": "5s"}"#);
    let failed = end("failed", &|rig, conn| rig.receive(conn, &[created.clone(), packet(T::WORK_FAIL, "H:x:1")]));
    assert_eq!(failed, r#"INFO failed {"took": "0ns"}"#);
    let lost = end("lost", &|rig, conn| {
        rig.receive(conn, std::slice::from_ref(&created));
        rig.close(conn, CloseReason::Ended);
    });
    assert!(lost.starts_with("WARN lost {\"phase\": \"Accepted\", \"reason\": \"the peer closed"), "{lost}");
    let closed = end("closed", &|rig, _| rig.act(|client, now| client.close(now)));
    assert_eq!(closed, r#"DEBUG cancelled {"phase": "Sent"}"#);
    end("garbage", &|rig, conn| rig.receive_bytes(conn, b"\0REX garbage that is no packet"));
    let garbage: Vec<_> = said("server", "garbage:4730").into_iter().filter(|said| said.level == "ERROR").collect();
    assert_eq!(lines(&garbage), ["ERROR protocol error"]);
}

#[test]
fn a_worker_tells_what_it_was_given_and_what_was_taken_from_it() {
    listen();
    let mut config = worker::Config::new([3; 32]);
    config.servers = vec![address("w")];
    let mut rig = Rig::new(worker::Worker::new(config).expect("valid"));
    rig.act(|worker, now| worker.register("work", Some(secs(2)), now)).expect("registered");
    let conn = rig.connect();
    let mut answer = |handle: &str, time: u64| {
        rig.receive(conn, &[packet(T::JOB_ASSIGN_UNIQ, &format!("{handle}|work||a secret"))]);
        rig.pass(secs(time));
        let task = rig.events().into_iter().find_map(|event| match event {
            worker::Event::Assigned(job) => Some(job.task),
            _ => None,
        });
        let _ = rig.act(|worker, now| worker.complete(task.expect("assigned"), "a secret".into(), now));
    };
    answer("H:w:1", 1);
    answer("H:w:2", 3);
    let told = said("handle", "H:w:1");
    assert_eq!(lines(&told), ["DEBUG assigned", "DEBUG answered"]);
    assert_eq!((&told[1].fields["with"][..], &told[1].fields["took"][..]), ("WORK_COMPLETE", "1s"));
    assert_eq!((&told[0].span["function"][..], &told[0].span["server"][..]), ("work", "w:4730"));
    let late = ["DEBUG assigned", "WARN the time limit of its function has passed"];
    assert_eq!(
        lines(&said("handle", "H:w:2")),
        [&late[..], &["WARN answered too late: the answer is dropped"]].concat()
    );
}

#[test]
fn what_a_handler_says_belongs_to_its_job_and_a_server_tells_what_it_requeues() {
    listen();
    let server = Server::bind("127.0.0.1:0").expect("a free port");
    let client = Client::builder().server(server.local_addr()).timeout(PATIENCE).build().expect("a client");
    let job = client.submit(Job::new("handled", "")).expect("taken");
    wait_until("it is queued", PATIENCE, || server.counters().jobs == 1);

    // A worker that takes the job and leaves.
    let mut socket = TcpStream::connect(server.local_addr()).expect("it listens");
    let mut bytes = BytesMut::new();
    [packet(T::CAN_DO, "handled"), packet(T::GRAB_JOB, "")]
        .iter()
        .for_each(|packet| packet.encode(Magic::Request, &mut bytes));
    socket.write_all(&bytes).expect("somebody reads");
    wait_until("it has the job", PATIENCE, || server.counters().running == 1);
    drop(socket);

    let worker = Worker::builder().server(server.local_addr()).function("handled", |_| {
        tracing::info!(answer = 42, "from the handler");
        Ok("")
    });
    let worker = worker.spawn().expect("a worker");
    job.wait().expect("done");
    let (asked, served, run) = (client.latencies(), server.latencies(), worker.worker().latencies());
    assert_eq!((asked.accept.count(), asked.total.count()), (1, 1));
    assert_eq!((served.wait.count(), served.run.count(), run.run.count()), (2, 1, 1));
    worker.drain(PATIENCE).expect("drained");
    let handler = said("function", "handled").into_iter().find(|said| said.text == "from the handler");
    let handler = handler.expect("it was heard, in the span of the job");
    assert_eq!((&handler.fields["answer"][..], &handler.span["role"][..]), ("42", "worker"));
    let requeued: Vec<_> = said("role", "server").into_iter().filter(|said| said.text == "requeued").collect();
    assert_eq!(lines(&requeued), ["WARN requeued"]);
    assert_eq!(requeued[0].fields["function"], "handled");
    assert_eq!(requeued[0].span["peer"], "127.0.0.1");
}
