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

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use ::async_io::{Async, Timer};

pub use super::Error;
use super::future::{self, Reactor, Runtime, Wakes};
pub use super::future::{JobSet, Pending};
pub use super::handles::{
    AdminBuilder, ClientBuilder, Fail, HandlerError, JobError, JobEvent, ServerBuilder, Task, Throw, ToAddress,
    WorkerBuilder, servers_from_env,
};
use super::resolver::Resolver;
use super::sockets::{Net, Place, prepare_accepted};
use super::std::io::{self, ErrorKind, IoSlice, Read, Write};
use super::std::net::{TcpListener, TcpStream};
use super::std::time;
use crate::{Address, ConnId};

/// The admin commands of one job server.
pub type Admin = future::Admin<Smol>;
/// A client of one or more job servers.
pub type Client = future::Client<Smol>;
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

impl Runtime for Smol {}

impl Reactor for Smol {
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

/// Calls `io` until it does not block, or until its turn is over: then `ready` has seen to the wake.
fn poll<T>(mut io: impl FnMut() -> io::Result<T>, mut ready: impl FnMut() -> Poll<io::Result<()>>) -> io::Result<T> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => match ready() {
                Poll::Pending => return Err(error),
                Poll::Ready(result) => result?,
            },
            result => return result,
        }
    }
}

impl Net for Smol {
    type Stream = Async<TcpStream>;
    type Connecting = Pin<Box<dyn Future<Output = io::Result<Async<TcpStream>>> + Send>>;
    type Listener = Async<TcpListener>;

    fn waker(&mut self, place: Place) -> Waker {
        self.wakes.waker(place)
    }

    fn listen(&mut self, listener: TcpListener, _: usize) -> io::Result<Self::Listener> {
        Async::new_nonblocking(listener)
    }

    fn accept(&mut self, listener: &Self::Listener, cx: &mut Context<'_>) -> io::Result<(Self::Stream, SocketAddr)> {
        let (stream, from) = poll(|| listener.get_ref().accept(), || listener.poll_readable(cx))?;
        Ok((Async::new(stream)?, from))
    }

    fn resolve(&mut self, conn: ConnId, server: &Address) -> io::Result<Vec<SocketAddr>> {
        self.resolver.begin(conn, server, self.wakes.waker(Place::Slot(conn.index())))?;
        Err(ErrorKind::WouldBlock.into())
    }

    fn found(&mut self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)> {
        self.resolver.take()
    }

    fn connect(&mut self, address: SocketAddr, _: usize) -> io::Result<Self::Connecting> {
        Ok(Box::pin(Async::<TcpStream>::connect(address)))
    }

    fn connected(&mut self, attempt: &mut Self::Connecting, cx: &mut Context<'_>) -> io::Result<Self::Stream> {
        match attempt.as_mut().poll(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn opened(&mut self, stream: &mut Self::Stream, _: usize, accepted: bool) -> io::Result<()> {
        if accepted { prepare_accepted(stream) } else { stream.get_ref().set_nodelay(true) }
    }

    fn readable(&mut self, stream: &Self::Stream, cx: &mut Context<'_>) -> bool {
        // The first answer may be that of the wake which led to this read: only the next one asks anew.
        stream.poll_readable(cx).is_ready() && stream.poll_readable(cx).is_ready()
    }

    fn read(&mut self, stream: &mut Self::Stream, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        poll(|| stream.get_ref().read(into), || stream.poll_readable(cx))
    }

    fn write(&mut self, stream: &mut Self::Stream, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        poll(
            || match chunks {
                [only] => stream.get_ref().write(only),
                _ => stream.get_ref().write_vectored(chunks),
            },
            || stream.poll_writable(cx),
        )
    }
}
