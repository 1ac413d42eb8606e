//! The server's handle.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use super::Stream;
use super::turnkey::Seat;
use crate::runtimes::handles::{Addresses, PATIENCE, Plan, ServerBuilder, ServerMachine as Machine};
use crate::runtimes::inbox::Inbox;
use crate::runtimes::listening::Listening;
use crate::runtimes::std::net::ToSocketAddrs;
use crate::runtimes::std::path::Path;
use crate::runtimes::std::thread;
use crate::runtimes::{Clock, Error};
use crate::server::{Counters, Latencies, QueuedJob};
use crate::{Address, Handle, Peer, Rejected};

/// A job server with a loop of its own, which serves thousands of connections on one thread. Cheap to clone: to stop it
/// from elsewhere, say.
#[derive(Clone)]
pub struct Server(Arc<Inside>);

struct Inside {
    seat: Seat<Machine, ()>,
    inbox: Arc<Inbox<Stream>>,
    addresses: Addresses,
}

impl ServerBuilder<Server> {
    /// Listens on the first of `addresses` that can be had; port 0 for one that is free. It serves from
    /// [`Server::run`] or [`Server::spawn`] on.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Io`]: none of the addresses can be had, or no descriptor.
    pub fn bind(self, addresses: impl ToSocketAddrs) -> Result<Server, Error> {
        self.listen_on(Listening::tcp(addresses)?).build()
    }

    /// Listens on a Unix socket at `path`: see [`Listening::unix`].
    ///
    /// # Errors
    /// As [`build`](Self::build), and as [`Listening::unix`].
    pub fn bind_unix(self, path: impl AsRef<Path>) -> Result<Server, Error> {
        self.listen_on(Listening::unix(path)?).build()
    }

    /// Makes the server with the listeners that it was [given](Self::listen_on), if any: streams may be
    /// [handed over](Server::serve), too. It serves from [`Server::run`] or [`Server::spawn`] on.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Io`]: a listener cannot be used, or no descriptor is left.
    pub fn build(self) -> Result<Server, Error> {
        let clock = Clock::start();
        let Plan { machine, listener, doors, addresses } = self.plan(clock)?;
        let seat = Seat::new(machine, (), clock, listener, None)?;
        let inbox = seat.open(doors)?;
        Ok(Server(Arc::new(Inside { seat, inbox, addresses })))
    }
}

impl Server {
    /// Describes a server.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::new(PATIENCE).configure(|config| config.gather_results = true)
    }

    /// A server with the default settings: see [`ServerBuilder::bind`].
    ///
    /// # Errors
    /// [`Error::Io`]: none of the addresses can be had, or no descriptor.
    pub fn bind(addresses: impl ToSocketAddrs) -> Result<Self, Error> {
        Self::builder().bind(addresses)
    }

    /// A server on a Unix socket with the default settings: see [`ServerBuilder::bind_unix`].
    ///
    /// # Errors
    /// As [`ServerBuilder::bind_unix`].
    pub fn bind_unix(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().bind_unix(path)
    }

    /// Serves a stream that is connected, such as one that a listener of yours accepted, or one end of a pair. `peer` is how
    /// the server is to call whoever is at its other end: one word, for the admin command `workers`.
    ///
    /// It is taken up in the loop's next turn, where it is also closed if the server closes before.
    ///
    /// # Errors
    /// The stream comes back: the server is closing, or has as many connections as it may.
    pub fn serve(&self, stream: impl Into<Stream>, peer: Peer<'_>) -> Result<(), Rejected<Stream>> {
        self.0.inbox.put(stream.into(), peer, &self.0.seat)
    }

    /// Serves on this thread until the server has been drained or closed; where it runs already, waits for that.
    ///
    /// # Errors
    /// [`Error::Io`]: the operating system no longer tells what is ready.
    pub fn run(&self) -> Result<(), Error> {
        self.0.seat.run(|| false)
    }

    /// Serves on a thread of its own, from which the result of [`run`](Self::run) can be had.
    ///
    /// # Errors
    /// [`Error::Io`]: there is no thread to be had.
    pub fn spawn(&self) -> Result<thread::JoinHandle<Result<(), Error>>, Error> {
        let server = self.clone();
        let thread = thread::Builder::new().name("gearwheel-server".into());
        thread.spawn(move || server.run()).map_err(Error::io("start a thread"))
    }

    /// The first TCP address on which it listens.
    ///
    /// # Panics
    /// It listens on none: [`addresses`](Self::addresses) has Unix sockets, too.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.addresses.socket()
    }

    /// Where it listens, but for sockets without an address.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.0.addresses.all
    }

    /// The background jobs, those that run included, to be kept and given to the
    /// [`restore`](ServerBuilder::restore) of another server.
    #[must_use]
    pub fn queued(&self) -> Vec<QueuedJob> {
        self.0.seat.look(|server, ()| server.queued().collect())
    }

    /// Takes up a background job that another server had.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached, or its handle is taken.
    pub fn restore(&self, job: QueuedJob) -> Result<Handle, Rejected<QueuedJob>> {
        self.0.seat.call(|server, (), _| server.restore(job))
    }

    /// Has the connections that are accepted from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ServerTls>) {
        let tls = tls.into();
        self.0.seat.call(|server, (), _| server.set_server_tls(tls));
    }

    /// Numbers for a status page.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.seat.look(|server, ()| server.counters())
    }

    /// How long its jobs took since the server was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.0.seat.look(|server, ()| server.latencies().clone())
    }

    /// Stops listening, lets what runs be finished, then closes every connection; after `within` at once. Submissions are
    /// refused meanwhile. To be called by another thread than the one that serves.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs were left.
    pub fn drain(&self, within: Duration) -> Result<(), Error> {
        self.0.seat.drain(within)
    }

    /// Closes every connection as soon as it has taken what was to be sent, 5 s later at the latest.
    pub fn close(&self) {
        self.0.seat.close();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.0.addresses.all).field("counters", &self.counters()).finish()
    }
}
