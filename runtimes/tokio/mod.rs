//! Gearman on tokio, current-thread or multi-thread.
//!
//! ```no_run
//! use gearwheel::Job;
//! use gearwheel::tokio::{Client, Server, Worker};
//!
//! # async fn example() -> Result<(), Box<dyn core::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?;
//! tokio::spawn(server.run());
//! let worker = Worker::builder()
//!     .server(server.local_addr())
//!     .concurrency(16)
//!     .function("reverse", |task| async move { Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()) })
//!     .build()?;
//! tokio::spawn(worker.run());
//! let client = Client::builder().server(server.local_addr()).build()?;
//! tokio::spawn(client.run());
//! assert_eq!(client.submit(Job::new("reverse", "hello")).await?.await?, "olleh");
//! worker.drain(core::time::Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The runtime must have its I/O and its time enabled (`enable_all`). Without time, and outside of a runtime, the futures of
//! `run` panic, as all that waits in tokio does, and the machine closes. The other futures of a client may be
//! awaited anywhere.
//!
//! # What blocks
//!
//! Handlers are polled in the future of `Worker::run`, beside its sockets. Wrap what blocks or computes for long in
//! `tokio::task::spawn_blocking`. With [`spawn_with`](WorkerBuilder::spawn_with) each job becomes a task of its own, so
//! that jobs use all threads of the runtime:
//!
//! ```
//! # let builder = gearwheel::tokio::Worker::builder();
//! let builder = builder
//!     .function("resize", |task| async move {
//!         let payload = task.payload().clone();
//!         Ok(tokio::task::spawn_blocking(move || payload.to_ascii_uppercase()).await?)
//!     })
//!     .spawn_with(|job| drop(tokio::spawn(job)));
//! ```
//!
//! # Connections of yours
//!
//! `connect_with` has a connection made by a future, `Server::serve` takes one that is made: see [`Stream`] for what it may
//! be.
//!
//! ```
//! # fn example() -> Result<(), gearwheel::tokio::Error> {
//! use gearwheel::tokio::Client;
//! use tokio::net::{TcpSocket, lookup_host};
//!
//! let client = Client::builder()
//!     .server("jobs.example.org")
//!     .connect_with(|server| async move {
//!         let mut addresses = lookup_host((server.host(), server.port())).await?;
//!         let address = addresses.find(|address| address.is_ipv4()).ok_or(std::io::ErrorKind::NotFound)?;
//!         let socket = TcpSocket::new_v4()?;
//!         socket.set_send_buffer_size(1 << 20)?;
//!         socket.connect(address).await
//!     })
//!     .build()?;
//! # Ok(())
//! # }
//! ```

mod stream;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, ready};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use ::tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use ::tokio::net::{UnixListener, UnixStream};
use ::tokio::time::{Sleep, sleep_until};

use self::stream::Wire;
pub use self::stream::{Object, Stream};
pub use super::Error;
use super::future::{self, Reactor, Runtime, Wakes};
pub use super::future::{JobSet, Pending};
use super::handles::PATIENCE;
/// The tasks of all runtimes; [`Task`] is this one's.
pub use super::handles::Task as AnyTask;
pub use super::handles::{
    AdminBuilder, ClientBuilder, Dials, Fail, Futures, HandlerError, JobError, JobEvent, ServerBuilder, Throw,
    ToAddress, WorkerBuilder, servers_from_env,
};
use super::listening::Bound;
pub use super::listening::Listening;
#[cfg(not(unix))]
use super::no_unix_sockets;
use super::resolver::Resolver;
use super::sockets::{Net, Place, Target};
use super::std::io::{self, ErrorKind, IoSlice};
#[cfg(unix)]
use super::std::path::Path;
use super::std::time;
#[cfg(unix)]
use super::unix_failure;
use crate::{Address, ConnId};

/// The admin commands of one job server.
pub type Admin = future::Admin<Tokio>;
/// A client of one or more job servers.
pub type Client = future::Client<Tokio>;
/// A job to run, which a future waits for. `W` is for code that serves tasks of all runtimes.
pub type Task<W = Futures> = AnyTask<W>;
/// A worker for one or more job servers.
pub type Worker = future::Worker<Tokio>;
/// A job server.
pub type Server = future::Server<Tokio>;

/// tokio's sockets and time.
pub struct Tokio {
    wakes: Arc<Wakes>,
    resolver: Resolver,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Runtime for Tokio {
    type Stream = Stream;
}

impl Reactor for Tokio {
    const PATIENCE: Duration = PATIENCE;

    fn new(wakes: Arc<Wakes>) -> Self {
        Self { wakes, resolver: Resolver::default(), alarm: None }
    }

    /// Who waits for a job need not be inside a runtime, beside a `run` that is.
    fn is_here(&self) -> bool {
        inside().is_ok()
    }

    fn set_alarm(&mut self, at: time::Instant) {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(at.into()),
            None => self.alarm = Some(Box::pin(sleep_until(at.into()))),
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.as_mut().map_or(Poll::Pending, |alarm| alarm.as_mut().poll(cx))
    }
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// tokio panics where it has no runtime.
fn inside() -> io::Result<()> {
    ::tokio::runtime::Handle::try_current().map(drop).map_err(io::Error::other)
}

/// A listener that tokio watches.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Net for Tokio {
    type Wire = Wire;
    type Connecting = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;
    type Listener = Listener;
    type Given = Stream;

    fn waker(&mut self, place: Place) -> Waker {
        self.wakes.waker(place)
    }

    fn listen(&mut self, listener: Bound, _: usize) -> io::Result<Listener> {
        inside()?;
        match listener {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            #[cfg(unix)]
            Bound::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }

    fn accept(&mut self, listener: &Listener, cx: &mut Context<'_>) -> io::Result<(Wire, Option<SocketAddr>)> {
        match listener {
            Listener::Tcp(listener) => {
                now(listener.poll_accept(cx)).map(|(stream, from)| (Wire::Tcp(stream), Some(from)))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => now(listener.poll_accept(cx)).map(|(stream, _)| (Wire::Unix(stream), None)),
        }
    }

    fn resolve(&mut self, conn: ConnId, server: &Address) -> io::Result<Vec<SocketAddr>> {
        self.resolver.begin(conn, server, self.wakes.waker(Place::Slot(conn.index())))?;
        Err(ErrorKind::WouldBlock.into())
    }

    fn found(&mut self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)> {
        self.resolver.take()
    }

    fn connect(&mut self, target: &Target, _: usize) -> io::Result<Self::Connecting> {
        inside()?;
        match target.clone() {
            Target::Tcp(address) => Ok(Box::pin(async move { TcpStream::connect(address).await.map(Wire::Tcp) })),
            #[cfg(unix)]
            Target::Unix(server) => Ok(Box::pin(async move {
                let path = Path::new(server.host());
                let stream = UnixStream::connect(path).await.map_err(|error| unix_failure(path, error))?;
                Ok(Wire::Unix(stream))
            })),
            #[cfg(not(unix))]
            Target::Unix(_) => Err(no_unix_sockets()),
        }
    }

    fn connected(&mut self, attempt: &mut Self::Connecting, cx: &mut Context<'_>) -> io::Result<Wire> {
        now(attempt.as_mut().poll(cx))
    }

    fn adopt(&mut self, given: Stream) -> io::Result<Wire> {
        given.adopt()
    }

    fn attempt(&mut self, stream: Wire, _: usize) -> io::Result<Self::Connecting> {
        Ok(Box::pin(ready(Ok(stream))))
    }

    fn opened(&mut self, stream: &mut Wire, _: usize, accepted: bool) -> io::Result<()> {
        stream.prepare(accepted)
    }

    fn readable(&mut self, stream: &Wire, cx: &mut Context<'_>) -> bool {
        stream.readable(cx)
    }

    fn read(&mut self, stream: &mut Wire, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        stream.read(cx, into)
    }

    fn write(&mut self, stream: &mut Wire, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        stream.write(cx, chunks)
    }

    fn flush(&mut self, stream: &mut Wire, cx: &mut Context<'_>) -> io::Result<()> {
        stream.flush(cx)
    }
}
