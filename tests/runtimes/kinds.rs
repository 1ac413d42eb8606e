//! The runtimes, each put in the same words, so that a scenario is written once.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gearwheel::client::Status;
use gearwheel::server::{Config, Counters, QueuedJob};
use gearwheel::{Job, JobId, Outcome, Rejected, ServerId, client};

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
    type Worker: Clone + Send + Sync + 'static;

    fn server(at: SocketAddr, configure: fn(&mut Config)) -> Self::Server;
    fn address(server: &Self::Server) -> SocketAddr;
    fn counters(server: &Self::Server) -> Counters;
    fn queued(server: &Self::Server) -> Vec<QueuedJob>;
    fn drain_server(server: &Self::Server, within: Duration) -> Result<(), Error>;

    fn client(at: &str, configure: fn(&mut client::Config)) -> Self::Client;
    fn submit(client: &Self::Client, job: Job) -> Result<Self::Pending, Rejected<Job>>;
    fn id(job: &Self::Pending) -> JobId;
    fn wait(job: Self::Pending) -> Result<Bytes, JobError>;
    fn next_event(job: &mut Self::Pending) -> Option<JobEvent>;
    /// Has all jobs run at once, with one deadline.
    fn run_all(client: &Self::Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)>;
    fn status(client: &Self::Client, job: JobId) -> Result<Status, Error>;
    fn echo(client: &Self::Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error>;
    fn first_server(client: &Self::Client) -> ServerId;
    fn close(client: &Self::Client);

    /// A worker with handlers for all functions of [`run`].
    fn worker(at: SocketAddr, concurrency: usize) -> Self::Worker;
    /// A worker without handlers, for [`next`](Self::next).
    fn taker(at: SocketAddr, function: &'static str) -> Self::Worker;
    fn next(worker: &Self::Worker) -> Option<Task>;
    fn drain(worker: &Self::Worker, within: Duration) -> Result<(), Error>;
}

/// The functions of the tests' workers.
pub(crate) const FUNCTIONS: [&str; 7] = ["echo", "reverse", "fail", "throw", "err", "panic", "chatty"];

/// What their handlers do.
fn run(task: &Task) -> Result<Bytes, any::HandlerError> {
    match task.function() {
        b"echo" => Ok(task.payload().clone()),
        b"reverse" => Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>().into()),
        b"fail" => Err(Fail.into()),
        b"throw" => Err(Throw((&b"\0bytes"[..]).into()).into()),
        b"err" => Err("no good".into()),
        b"panic" => panic!("dropped the ball"),
        b"chatty" => {
            task.data("one")?;
            task.warning("careful")?;
            task.progress(1, 2)?;
            task.data("two")?;
            Ok("done".into())
        }
        other => Err(format!("no function {}", other.escape_ascii()).into()),
    }
}

/// What comes back quickly from a server that is gone.
fn impatient(connecting: &mut gearwheel::Connecting) {
    connecting.retry_most = Duration::from_millis(200);
}

#[cfg(feature = "blocking")]
pub(crate) mod blocking {
    use super::*;
    use gearwheel::blocking::{Client, Pending, Running, Server, Worker};
    use std::sync::Arc;

    pub(crate) enum Blocking {}

    pub(crate) struct Either {
        worker: Worker,
        /// Absent where the tests take the jobs.
        _running: Option<Running>,
    }

    impl Kind for Blocking {
        type Server = Server;
        type Client = Client;
        type Pending = Pending;
        type Worker = Arc<Either>;

        fn server(at: SocketAddr, configure: fn(&mut Config)) -> Server {
            secured!(server Server::builder()).configure(configure).bind(at).expect("a port")
        }

        fn address(server: &Server) -> SocketAddr {
            server.local_addr()
        }

        fn counters(server: &Server) -> Counters {
            server.counters()
        }

        fn queued(server: &Server) -> Vec<QueuedJob> {
            server.queued()
        }

        fn drain_server(server: &Server, within: Duration) -> Result<(), Error> {
            server.drain(within)
        }

        fn client(at: &str, configure: fn(&mut client::Config)) -> Client {
            secured!(client Client::builder())
                .server(at)
                .configure(|config| impatient(&mut config.connecting))
                .configure(configure)
                .build()
                .expect("a client")
        }

        fn submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
            client.submit(job)
        }

        fn id(job: &Pending) -> JobId {
            job.id()
        }

        fn wait(job: Pending) -> Result<Bytes, JobError> {
            job.wait()
        }

        fn next_event(job: &mut Pending) -> Option<JobEvent> {
            job.next_event()
        }

        fn run_all(client: &Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)> {
            let mut set = client.set().within(within);
            for job in jobs {
                set.submit(job).expect("taken");
            }
            set.collect()
        }

        fn status(client: &Client, job: JobId) -> Result<Status, Error> {
            client.status(job)
        }

        fn echo(client: &Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error> {
            client.echo(server, payload)
        }

        fn first_server(client: &Client) -> ServerId {
            client.servers()[0].server
        }

        fn close(client: &Client) {
            client.close();
        }

        fn worker(at: SocketAddr, concurrency: usize) -> Arc<Either> {
            let builder = secured!(worker Worker::builder()).server(at).concurrency(concurrency);
            let builder = builder.configure(|config| impatient(&mut config.connecting));
            let builder = FUNCTIONS.iter().fold(builder, |builder, name| builder.function(*name, |task| run(task)));
            let running = builder.spawn().expect("a worker");
            Arc::new(Either { worker: running.worker().clone(), _running: Some(running) })
        }

        fn taker(at: SocketAddr, function: &'static str) -> Arc<Either> {
            let worker = secured!(worker Worker::builder()).server(at).can_do(function).build().expect("a worker");
            Arc::new(Either { worker, _running: None })
        }

        fn next(worker: &Arc<Either>) -> Option<Task> {
            worker.worker.next()
        }

        fn drain(worker: &Arc<Either>, within: Duration) -> Result<(), Error> {
            worker.worker.drain(within)
        }
    }
}

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
pub(crate) mod mio {
    use super::*;
    use gearwheel::mio::{Client, Pending, Server, Worker};
    use std::sync::Arc;

    pub(crate) enum Mio {}

    impl Kind for Mio {
        type Server = Owned<Server>;
        type Client = Client;
        type Pending = Pending;
        type Worker = Arc<Owned<Worker>>;

        fn server(at: SocketAddr, configure: fn(&mut Config)) -> Self::Server {
            let server = secured!(server Server::builder()).configure(configure).bind(at).expect("a port");
            server.spawn().expect("a thread");
            Owned(server, Server::close)
        }

        fn address(server: &Self::Server) -> SocketAddr {
            server.0.local_addr()
        }

        fn counters(server: &Self::Server) -> Counters {
            server.0.counters()
        }

        fn queued(server: &Self::Server) -> Vec<QueuedJob> {
            server.0.queued()
        }

        fn drain_server(server: &Self::Server, within: Duration) -> Result<(), Error> {
            server.0.drain(within)
        }

        fn client(at: &str, configure: fn(&mut client::Config)) -> Client {
            secured!(client Client::builder())
                .server(at)
                .configure(|config| impatient(&mut config.connecting))
                .configure(configure)
                .spawn()
                .expect("a client")
        }

        fn submit(client: &Client, job: Job) -> Result<Pending, Rejected<Job>> {
            client.submit(job)
        }

        fn id(job: &Pending) -> JobId {
            job.id()
        }

        fn wait(job: Pending) -> Result<Bytes, JobError> {
            job.wait()
        }

        fn next_event(job: &mut Pending) -> Option<JobEvent> {
            job.next_event()
        }

        fn run_all(client: &Client, jobs: Vec<Job>, within: Duration) -> Vec<(JobId, Outcome)> {
            let mut set = client.set().within(within);
            for job in jobs {
                set.submit(job).expect("taken");
            }
            set.collect()
        }

        fn status(client: &Client, job: JobId) -> Result<Status, Error> {
            client.status(job)
        }

        fn echo(client: &Client, server: ServerId, payload: Bytes) -> Result<Bytes, Error> {
            client.echo(server, payload)
        }

        fn first_server(client: &Client) -> ServerId {
            client.servers()[0].server
        }

        fn close(client: &Client) {
            client.close();
        }

        fn worker(at: SocketAddr, concurrency: usize) -> Self::Worker {
            let builder = secured!(worker Worker::builder()).server(at).concurrency(concurrency);
            let builder = builder.configure(|config| impatient(&mut config.connecting));
            let builder = FUNCTIONS.iter().fold(builder, |builder, name| builder.function(*name, |task| run(task)));
            Arc::new(Owned(builder.spawn().expect("a worker"), Worker::close))
        }

        fn taker(at: SocketAddr, function: &'static str) -> Self::Worker {
            let worker = secured!(worker Worker::builder()).server(at).can_do(function).spawn().expect("a worker");
            Arc::new(Owned(worker, Worker::close))
        }

        fn next(worker: &Self::Worker) -> Option<Task> {
            worker.0.next()
        }

        fn drain(worker: &Self::Worker, within: Duration) -> Result<(), Error> {
            worker.0.drain(within)
        }
    }
}

/// A runtime of futures. `spawn` runs a future to its end somewhere, now.
#[cfg(any(feature = "smol", feature = "tokio"))]
macro_rules! kind_of_futures {
    ($kind:ident, $runtime:ident, $spawn:expr) => {
        pub(crate) enum $kind {}

        impl Kind for $kind {
            type Server = Owned<Server>;
            type Client = Client;
            type Pending = Pending;
            type Worker = Arc<Owned<Worker>>;

            fn server(at: SocketAddr, configure: fn(&mut Config)) -> Self::Server {
                let (bound, server) = mpsc::channel();
                let builder = secured!(server Server::builder());
                ($spawn)(async move {
                    let server = builder.configure(configure).bind(at).await.expect("a port");
                    bound.send(server.clone()).expect("somebody waits");
                    server.run().await;
                });
                Owned(server.recv().expect("bound"), Server::close)
            }

            fn address(server: &Self::Server) -> SocketAddr {
                server.0.local_addr()
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
                    set.submit(job).expect("taken");
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

            fn close(client: &Client) {
                client.close();
            }

            fn worker(at: SocketAddr, concurrency: usize) -> Self::Worker {
                let builder = secured!(worker Worker::builder()).server(at).concurrency(concurrency);
                let builder = builder.configure(|config| impatient(&mut config.connecting));
                let builder = FUNCTIONS
                    .iter()
                    .fold(builder, |builder, name| builder.function(*name, |task| async move { run(&task) }));
                let worker = builder.build().expect("a worker");
                ($spawn)(worker.run());
                Arc::new(Owned(worker, Worker::close))
            }

            fn taker(at: SocketAddr, function: &'static str) -> Self::Worker {
                let worker =
                    secured!(worker Worker::builder()).server(at).can_do(function).build().expect("a worker");
                ($spawn)(worker.run());
                Arc::new(Owned(worker, Worker::close))
            }

            fn next(worker: &Self::Worker) -> Option<Task> {
                block_on(worker.0.next())
            }

            fn drain(worker: &Self::Worker, within: Duration) -> Result<(), Error> {
                block_on(worker.0.drain(within))
            }
        }
    };
}

#[cfg(feature = "smol")]
pub(crate) mod smol {
    use super::*;
    use futures_lite::StreamExt;
    use futures_lite::future::block_on;
    use gearwheel::smol::{Client, Pending, Server, Worker};
    use std::sync::{Arc, mpsc};
    use std::thread;

    /// What must live where a driver is polled by hand.
    pub(crate) fn context() -> impl Sized {
        // Nothing.
        None::<String>
    }

    kind_of_futures!(Smol, smol, |future| drop(thread::spawn(|| async_io::block_on(future))));
}

#[cfg(feature = "tokio")]
pub(crate) mod tokio {
    use super::*;
    use ::tokio::runtime::{Builder, Runtime};
    use futures_lite::StreamExt;
    use futures_lite::future::block_on;
    use gearwheel::tokio::{Client, Pending, Server, Worker};
    use std::sync::{Arc, LazyLock, mpsc};
    use std::thread;

    /// What must live where a driver is polled by hand.
    pub(crate) fn context() -> ::tokio::runtime::EnterGuard<'static> {
        THREADS.enter()
    }

    pub(crate) static THREADS: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads"));

    kind_of_futures!(Current, tokio, |future| drop(thread::spawn(|| {
        Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future);
    })));
    kind_of_futures!(Threads, tokio, |future| drop(THREADS.spawn(future)));
}
