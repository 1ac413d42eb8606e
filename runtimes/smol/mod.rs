//! Gearman on async-io, which smol is made of: for smol's executors, and for any other.
//!
//! ```
//! use futures_lite::future::{block_on, or};
//! use gearwheel::Job;
//! use gearwheel::smol::{Client, Server, Worker};
//!
//! # async fn example() -> Result<(), Box<dyn core::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?;
//! let worker = Worker::builder()
//!     .server(server.local_addr())
//!     .concurrency(16)
//!     .function("reverse", |task| async move { Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()) })
//!     .build()?;
//! let client = Client::builder().server(server.local_addr()).build()?;
//! // Spawned on whatever executor there is, say by `smol::spawn(client.run()).detach()`, or polled side by side as here:
//! let all = or(server.run(), or(worker.run(), client.run()));
//! let example = async {
//!     assert_eq!(client.submit(Job::new("reverse", "hello")).await?.await?, "olleh");
//!     worker.drain(core::time::Duration::from_secs(5)).await?;
//!     Ok(())
//! };
//! or(example, async { all.await; Ok(()) }).await
//! # }
//! # block_on(example()).unwrap();
//! ```
//!
//! # What blocks
//!
//! Handlers are polled in the future of `Worker::run`, beside its sockets. Wrap what blocks or computes for long in
//! `smol::unblock`. With [`spawn_with`](WorkerBuilder::spawn_with) each job becomes a task of its own:
//! `.spawn_with(|job| smol::spawn(job).detach())`.
//!
//! # Connections of yours
//!
//! `connect_with` has a connection made by a future, `Server::serve` takes one that is made: see [`Stream`] for what it may
//! be.
//!
//! ```
//! # fn example() -> Result<(), gearwheel::smol::Error> {
//! use async_io::Async;
//! use gearwheel::smol::Client;
//! use std::net::TcpStream;
//!
//! // By way of a tunnel that listens on this machine.
//! let client = Client::builder()
//!     .server("jobs.example.org")
//!     .connect_with(|_server| Async::<TcpStream>::connect(([127, 0, 0, 1], 7000)))
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

use ::async_io::{Async, Timer};

pub use self::stream::{Object, Stream};
use self::stream::{Wire, poll};
pub use super::Error;
use super::future::{self, Reactor, Runtime, Wakes};
pub use super::future::{JobSet, Pending};
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
use super::std::net::{TcpListener, TcpStream};
#[cfg(unix)]
use super::std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use super::std::path::Path;
use super::std::time;
#[cfg(unix)]
use super::unix_failure;
use crate::{Address, ConnId};

/// The admin commands of one job server.
pub type Admin = future::Admin<Smol>;
/// A client of one or more job servers.
pub type Client = future::Client<Smol>;
/// A job to run, which a future waits for. `W` is for code that serves tasks of all runtimes.
pub type Task<W = Futures> = AnyTask<W>;
/// A worker for one or more job servers.
pub type Worker = future::Worker<Smol>;
/// A job server.
pub type Server = future::Server<Smol>;

/// async-io's sockets and timers.
pub struct Smol {
    wakes: Arc<Wakes>,
    resolver: Resolver,
    alarm: Timer,
}

impl Runtime for Smol {
    type Stream = Stream;
}

impl Reactor for Smol {
    /// With a timer, each wait takes two more system calls.
    const PATIENCE: Duration = Duration::ZERO;

    fn new(wakes: Arc<Wakes>) -> Self {
        Self { wakes, resolver: Resolver::default(), alarm: Timer::never() }
    }

    fn set_alarm(&mut self, at: time::Instant) {
        self.alarm.set_at(at);
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.alarm).poll(cx).map(drop)
    }
}

/// A listener that async-io watches.
pub(crate) enum Listener {
    Tcp(Async<TcpListener>),
    #[cfg(unix)]
    Unix(Async<UnixListener>),
}

impl Net for Smol {
    type Wire = Wire;
    type Connecting = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;
    type Listener = Listener;
    type Given = Stream;

    fn waker(&mut self, place: Place) -> Waker {
        self.wakes.waker(place)
    }

    fn listen(&mut self, listener: Bound, _: usize) -> io::Result<Listener> {
        match listener {
            Bound::Tcp(listener) => Async::new_nonblocking(listener).map(Listener::Tcp),
            #[cfg(unix)]
            Bound::Unix(listener) => Async::new_nonblocking(listener).map(Listener::Unix),
        }
    }

    fn accept(&mut self, listener: &Listener, cx: &mut Context<'_>) -> io::Result<(Wire, Option<SocketAddr>)> {
        match listener {
            Listener::Tcp(listener) => {
                let (stream, from) = poll(|| listener.get_ref().accept(), || listener.poll_readable(cx))?;
                Ok((Wire::Tcp(Async::new(stream)?), Some(from)))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let (stream, _) = poll(|| listener.get_ref().accept(), || listener.poll_readable(cx))?;
                Ok((Wire::Unix(Async::new(stream)?), None))
            }
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
        match target.clone() {
            Target::Tcp(address) => {
                Ok(Box::pin(async move { Async::<TcpStream>::connect(address).await.map(Wire::Tcp) }))
            }
            #[cfg(unix)]
            Target::Unix(server) => Ok(Box::pin(async move {
                let path = Path::new(server.host());
                let stream = Async::<UnixStream>::connect(path).await.map_err(|error| unix_failure(path, error))?;
                Ok(Wire::Unix(stream))
            })),
            #[cfg(not(unix))]
            Target::Unix(_) => Err(no_unix_sockets()),
        }
    }

    fn connected(&mut self, attempt: &mut Self::Connecting, cx: &mut Context<'_>) -> io::Result<Wire> {
        match attempt.as_mut().poll(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
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
