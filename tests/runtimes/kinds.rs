//! The runtimes, each put in the same words, so that a scenario is written once.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::client::Status;
use gearwheel::server::{Config, Counters, QueuedJob};
use gearwheel::wire::admin::WorkerStatus;
use gearwheel::{Address, Job, JobId, Outcome, Peer, Rejected, ServerId, client, worker};

#[cfg(feature = "blocking")]
pub(crate) use gearwheel::blocking as any;
#[cfg(all(feature = "mio", not(feature = "blocking")))]
pub(crate) use gearwheel::mio as any;
#[cfg(all(feature = "smol", not(any(feature = "blocking", feature = "mio"))))]
pub(crate) use gearwheel::smol as any;
#[cfg(all(feature = "tokio", not(any(feature = "blocking", feature = "mio", feature = "smol"))))]
pub(crate) use gearwheel::tokio as any;

use self::any::{Error, Fail, JobError, JobEvent, Task, Throw};

/// A runtime. What it makes runs at once, and ends when it is dropped.
pub(crate) trait Kind {
    type Server: Send + Sync;
    type Client: Clone + Send + Sync + 'static;
    type Pending: Send;
    /// What a connection's bytes may be.
    type Stream: Send + fmt::Debug + From<TcpStream> + From<UnixStream> + 'static;
    type Worker: Clone + Send + Sync + 'static;
    /// How whoever has a task waits.
    type Waits: Send + 'static;

    fn server(at: impl ToString, configure: fn(&mut Config)) -> Self::Server;
    fn address(server: &Self::Server) -> SocketAddr;
    fn addresses(server: &Self::Server) -> Vec<Address>;
    /// A server that listens on what it is given.
    fn server_on(doors: Vec<any::Listening>, configure: fn(&mut Config)) -> Self::Server;
    /// Hands a connected stream over.
    fn serve(server: &Self::Server, stream: Self::Stream, peer: Peer<'_>) -> Result<(), Rejected<Self::Stream>>;
    fn counters(server: &Self::Server) -> Counters;
    fn queued(server: &Self::Server) -> Vec<QueuedJob>;
    fn drain_server(server: &Self::Server, within: Duration) -> Result<(), Error>;

    fn client(at: &str, configure: fn(&mut client::Config)) -> Self::Client;
    fn submit(client: &Self::Client, job: Job) -> Result<Self::Pending, Rejected<Job>>;
    /// The same without waiting for room.
    fn try_submit(client: &Self::Client, job: Job) -> Result<Self::Pending, Rejected<Job>>;
    fn id(job: &Self::Pending) -> JobId;
    fn wait(job: Self::Pending) -> Result<Bytes, JobError>;
    fn next_event(job: &mut Self::Pending) -> Option<JobEvent>;
    /// Has all jobs run at once, with one deadline.
    fn run_all(client: &Self::Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)>;
    fn status(client: &Self::Client, job: JobId) -> Result<Status, Error>;
    fn echo(client: &Self::Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error>;
    fn first_server(client: &Self::Client) -> ServerId;
    fn add_server(client: &Self::Client, at: SocketAddr);
    /// Once it has done what it has.
    fn remove_server(client: &Self::Client, server: ServerId);
    fn close(client: &Self::Client);

    /// A worker with handlers for all functions of [`run`].
    fn worker(at: impl ToString, concurrency: usize) -> Self::Worker;
    /// Two ends of an object that the runtime has never heard of.
    fn objects() -> (Self::Stream, Self::Stream);
    /// An object that panics when it is read.
    fn grenade() -> Self::Stream;
    /// A client whose connections `connect` makes, within `within`, and which tells what happens to them.
    fn client_by(connect: Connect<Self>, within: Duration, heard: Sender<client::Event>) -> Self::Client
    where
        Self: Sized;
    /// Like [`client_by`](Self::client_by), whose connections are never made, until `done`.
    fn client_that_waits(within: Duration, done: Arc<AtomicBool>, heard: Sender<client::Event>) -> Self::Client;
    /// A client that tells what happens to its connections.
    fn client_heard(at: impl ToString, heard: Sender<client::Event>) -> Self::Client;
    /// Like [`worker`](Self::worker).
    fn worker_by(connect: Connect<Self>, concurrency: usize) -> Self::Worker
    where
        Self: Sized;
    /// What the admin command `workers` says, asked at `at`, or by what `connect` makes.
    fn workers(at: impl ToString, connect: Option<Connect<Self>>) -> Vec<WorkerStatus>
    where
        Self: Sized;
    /// A worker without handlers, for [`next`](Self::next).
    fn taker(at: impl ToString, function: &'static str, configure: fn(&mut worker::Config)) -> Self::Worker;
    fn next(worker: &Self::Worker) -> Option<Task<Self::Waits>>;
    /// Sends a part of a result as soon as there is room.
    fn data(task: &Task<Self::Waits>, part: Bytes) -> Result<(), Rejected<Bytes>>;
    fn drain(worker: &Self::Worker, within: Duration) -> Result<(), Error>;
}

/// The functions of the tests' workers.
pub(crate) const FUNCTIONS: [&str; 8] = ["echo", "reverse", "fail", "throw", "err", "mute", "panic", "chatty"];

/// What their handlers do.
fn run<W>(task: &Task<W>) -> Result<Bytes, any::HandlerError> {
    match task.function() {
        b"echo" => Ok(task.payload().clone()),
        b"reverse" => Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>().into()),
        b"fail" => Err(Fail.into()),
        b"throw" => Err(Throw((&b"\0bytes"[..]).into()).into()),
        b"err" => Err("no good".into()),
        b"mute" => Err(Mute.into()),
        b"panic" => panic!("dropped the ball"),
        b"chatty" => {
            task.try_data("one")?;
            task.try_warning("careful")?;
            task.try_progress(1, 2)?;
            task.try_data("two")?;
            Ok("done".into())
        }
        other => Err(format!("no function {}", other.escape_ascii()).into()),
    }
}

/// An error that cannot say what it is.
#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

impl std::error::Error for Mute {}

/// What a server listens on.
fn listening(at: impl ToString) -> any::Listening {
    any::Listening::bind(&at.to_string()).expect("it can be had")
}

/// What makes a connection of a kind.
pub(crate) type Connect<K> = Box<dyn Fn(Address) -> io::Result<<K as Kind>::Stream> + Send + Sync + 'static>;

/// What comes back quickly from a server that is gone.
fn impatient(connecting: &mut gearwheel::Connecting) {
    connecting.retry_most = Duration::from_millis(200);
}

#[cfg(feature = "blocking")]
#[path = "kinds/blocking.rs"]
pub(crate) mod blocking;

/// What is closed when it is dropped, as its future holds it.
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
pub(crate) struct Owned<T>(T, fn(&T));

#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.1(&self.0);
    }
}

#[cfg(feature = "mio")]
#[path = "kinds/mio.rs"]
pub(crate) mod mio;

/// A runtime of futures. `spawn` runs a future to its end somewhere, now.
#[cfg(any(feature = "smol", feature = "tokio"))]
macro_rules! kind_of_futures {
    ($kind:ident, $runtime:ident, $spawn:expr) => {
        pub(crate) enum $kind {}

        impl Kind for $kind {
            type Server = Owned<Server>;
            type Stream = Stream;
            type Client = Client;
            type Pending = Pending;
            type Worker = Arc<Owned<Worker>>;
            type Waits = Futures;

            fn server(at: impl ToString, configure: fn(&mut Config)) -> Self::Server {
                let (bound, server) = mpsc::channel();
                let builder = secured!(server Server::builder()).configure(configure).listen_on(listening(at));
                ($spawn)(async move {
                    let server = builder.build().await.expect("a server");
                    bound.send(server.clone()).expect("somebody waits");
                    server.run().await;
                });
                Owned(server.recv().expect("bound"), Server::close)
            }

            fn address(server: &Self::Server) -> SocketAddr {
                server.0.local_addr()
            }

            fn addresses(server: &Self::Server) -> Vec<Address> {
                server.0.addresses().to_vec()
            }

            fn server_on(doors: Vec<any::Listening>, configure: fn(&mut Config)) -> Self::Server {
                let (bound, server) = mpsc::channel();
                let builder = secured!(server Server::builder());
                let builder = doors.into_iter().fold(builder, |builder, door| builder.listen_on(door));
                ($spawn)(async move {
                    let server = builder.configure(configure).build().await.expect("a server");
                    bound.send(server.clone()).expect("somebody waits");
                    server.run().await;
                });
                Owned(server.recv().expect("bound"), Server::close)
            }

            fn serve(server: &Self::Server, stream: Stream, peer: Peer<'_>) -> Result<(), Rejected<Stream>> {
                server.0.serve(stream, peer)
            }

            fn objects() -> (Stream, Stream) {
                let (a, b) = pipe::pair();
                (Stream::object(a), Stream::object(b))
            }

            fn grenade() -> Stream {
                Stream::object(pipe::Grenade)
            }

            fn client_by(connect: Connect<Self>, within: Duration, heard: Sender<client::Event>) -> Client {
                let connect = Arc::new(connect);
                let builder = secured!(client Client::builder())
                    .server("there")
                    .connect_timeout(within)
                    .connect_with(move |server| {
                        let connect = connect.clone();
                        async move { connect(server) }
                    });
                let builder = builder.configure(|config| impatient(&mut config.connecting));
                let client = builder.on_event(move |event| drop(heard.send(event))).build().expect("a client");
                ($spawn)(client.run());
                client
            }

            fn client_that_waits(within: Duration, _: Arc<AtomicBool>, heard: Sender<client::Event>) -> Client {
                let never = |_| std::future::pending::<io::Result<Stream>>();
                let builder = secured!(client Client::builder())
                    .server("there")
                    .connect_timeout(within)
                    .connect_with(never);
                let builder = builder.configure(|config| impatient(&mut config.connecting));
                let client = builder.on_event(move |event| drop(heard.send(event))).build().expect("a client");
                ($spawn)(client.run());
                client
            }

            fn client_heard(at: impl ToString, heard: Sender<client::Event>) -> Client {
                let builder = Client::builder().server(at.to_string());
                let client = builder.on_event(move |event| drop(heard.send(event))).build().expect("a client");
                ($spawn)(client.run());
                client
            }

            fn worker_by(connect: Connect<Self>, concurrency: usize) -> Self::Worker {
                let builder = secured!(worker Worker::builder()).server("there").concurrency(concurrency);
                let builder = builder.connect_with(move |server| std::future::ready(connect(server)));
                let builder = FUNCTIONS
                    .iter()
                    .fold(builder, |builder, name| builder.function(*name, |task| async move { run(&task) }));
                let worker = builder.build().expect("a worker");
                ($spawn)(worker.run());
                Arc::new(Owned(worker, Worker::close))
            }

            fn workers(at: impl ToString, connect: Option<Connect<Self>>) -> Vec<WorkerStatus> {
                let builder = secured!(admin Admin::builder()).server(at.to_string());
                let builder = match connect {
                    Some(connect) => builder.connect_with(move |server| std::future::ready(connect(server))),
                    None => builder,
                };
                let admin = builder.build().expect("an address");
                ($spawn)(admin.run());
                block_on(admin.workers()).expect("an answer")
            }

            fn counters(server: &Self::Server) -> Counters {
                server.0.counters()
            }

            fn queued(server: &Self::Server) -> Vec<QueuedJob> {
                server.0.queued()
            }

            fn drain_server(server: &Self::Server, within: Duration) -> Result<(), Error> {
                block_on(server.0.drain(within))
            }

            fn client(at: &str, configure: fn(&mut client::Config)) -> Client {
                let builder = secured!(client Client::builder())
                    .server(at)
                    .configure(|config| impatient(&mut config.connecting));
                let client = builder.configure(configure).build().expect("a client");
                ($spawn)(client.run());
                client
            }

            fn submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
                block_on(client.submit(job))
            }

            fn try_submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
                client.try_submit(job)
            }

            fn id(job: &Pending) -> JobId {
                job.id()
            }

            fn wait(job: Pending) -> Result<Bytes, JobError> {
                block_on(job)
            }

            fn next_event(job: &mut Pending) -> Option<JobEvent> {
                block_on(job.next_event())
            }

            fn run_all(client: &Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)> {
                let mut set = client.set().within(within);
                for job in jobs {
                    block_on(set.submit(job)).expect("taken");
                }
                block_on(set.collect())
            }

            fn status(client: &Client, job: JobId) -> Result<Status, Error> {
                block_on(client.status(job))
            }

            fn echo(client: &Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error> {
                block_on(client.echo(server, payload))
            }

            fn first_server(client: &Client) -> ServerId {
                client.servers()[0].server
            }

            fn add_server(client: &Client, at: SocketAddr) {
                client.add_server(at).expect("it is new");
            }

            fn remove_server(client: &Client, server: ServerId) {
                client.remove_server(server, true).expect("it is there");
            }

            fn close(client: &Client) {
                client.close();
            }

            fn worker(at: impl ToString, concurrency: usize) -> Self::Worker {
                let builder = secured!(worker Worker::builder()).server(at.to_string()).concurrency(concurrency);
                let builder = builder.configure(|config| impatient(&mut config.connecting));
                let builder = FUNCTIONS
                    .iter()
                    .fold(builder, |builder, name| builder.function(*name, |task| async move { run(&task) }));
                let worker = builder.build().expect("a worker");
                ($spawn)(worker.run());
                Arc::new(Owned(worker, Worker::close))
            }

            fn taker(at: impl ToString, function: &'static str, configure: fn(&mut worker::Config)) -> Self::Worker {
                let worker = secured!(worker Worker::builder())
                    .server(at.to_string())
                    .can_do(function)
                    .configure(configure)
                    .build()
                    .expect("a worker");
                ($spawn)(worker.run());
                Arc::new(Owned(worker, Worker::close))
            }

            fn next(worker: &Self::Worker) -> Option<Task<Futures>> {
                block_on(worker.0.next())
            }

            fn data(task: &Task<Futures>, part: Bytes) -> Result<(), Rejected<Bytes>> {
                block_on(task.data(part))
            }

            fn drain(worker: &Self::Worker, within: Duration) -> Result<(), Error> {
                block_on(worker.0.drain(within))
            }
        }
    };
}

#[cfg(feature = "smol")]
#[path = "kinds/smol.rs"]
pub(crate) mod smol;

#[cfg(feature = "tokio")]
#[path = "kinds/tokio.rs"]
pub(crate) mod tokio;
