//! The job server's handle.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;

use super::Stream;
use super::driver::{Driver, Look, Source};
use crate::runtimes::handles::{
    Addresses, Driven, Gate, PATIENCE, Plan, ServerBuilder, ServerMachine as Machine, Sink,
};
use crate::runtimes::listening::Listening;
use crate::runtimes::std::net::{SocketAddr, ToSocketAddrs};
use crate::runtimes::std::path::Path;
use crate::runtimes::{Clock, Error, Visitor};
use crate::server::{Counters, Event, Latencies, QueuedJob};
use crate::{Address, Handle, Instant, Peer, Reason, Rejected};

impl Sink<Event> for Gate {
    fn take(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        Some(self.pass(event, wake))
    }
}

/// A job server in this process, on threads of its own. Cheap to clone: to stop it from elsewhere, say. Jobs live in memory;
/// dropping the last clone closes every connection, and [`queued`](Self::queued) tells before what would be lost.
///
/// # Peers that vanish
///
/// std cannot switch TCP's keepalive on, and this runtime adds no dependency: where the other runtimes do so for each
/// connection they accept, here a peer whose host is gone without a word is found when something is written to it, or by
/// the limits [`silent_worker`](crate::server::Config::silent_worker) and [`idle`](crate::server::Config::idle). On Linux,
/// connections inherit the options of a socket with which the server [listens](ServerBuilder::listen_on): set SO_KEEPALIVE
/// there.
///
/// ```
/// use gearwheel::blocking::Server;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// println!("gearman -h 127.0.0.1 -p {}", server.local_addr().port());
/// # Ok::<(), gearwheel::blocking::Error>(())
/// ```
#[derive(Clone)]
pub struct Server {
    driver: Arc<Driver<Machine, Gate>>,
    addresses: Addresses,
}

impl ServerBuilder<Server> {
    /// Starts the server on the first of the addresses that can be had; port 0 lets the system choose one.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Io`]: none of the addresses can be had.
    pub fn bind(self, addresses: impl ToSocketAddrs) -> Result<Server, Error> {
        self.listen_on(Listening::tcp(addresses)?).build()
    }

    /// Starts the server on a Unix socket at `path`: see [`Listening::unix`].
    ///
    /// # Errors
    /// As [`build`](Self::build), and as [`Listening::unix`].
    pub fn bind_unix(self, path: impl AsRef<Path>) -> Result<Server, Error> {
        self.listen_on(Listening::unix(path)?).build()
    }

    /// Starts the server on the listeners that it was [given](Self::listen_on), if any: streams may be
    /// [handed over](Server::serve), too.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Refused`]: a job that cannot be restored. [`Error::Io`]: a
    /// listener cannot be used, or there is no thread to be had.
    pub fn build(self) -> Result<Server, Error> {
        let clock = Clock::start();
        let Plan { machine, listener, doors, addresses } = self.plan(clock)?;
        let driver = Driver::start(machine, Gate::default(), clock, listener, None);
        let driver = driver.map_err(Error::io("start a thread"))?;
        doors.into_iter().try_for_each(|door| driver.listen(door)).map_err(Error::io("listen"))?;
        Ok(Server { driver: Arc::new(driver), addresses })
    }
}

impl Server {
    /// A job server with default settings.
    ///
    /// # Errors
    /// As [`ServerBuilder::bind`].
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

    /// Describes a job server.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::new(PATIENCE)
    }

    /// The first TCP address on which it listens.
    ///
    /// # Panics
    /// It listens on none: [`addresses`](Self::addresses) has Unix sockets, too.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.socket()
    }

    /// Where it listens, but for sockets without an address.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses.all
    }

    /// Serves a stream that is connected, such as one that a listener of yours accepted, or one end of a pair. `peer` is how
    /// the server is to call whoever is at its other end: one word, for the admin command `workers`.
    ///
    /// # Errors
    /// The stream comes back: the server is closing, or has as many connections as it may.
    pub fn serve(&self, stream: impl Into<Stream>, peer: Peer<'_>) -> Result<(), Rejected<Stream>> {
        self.driver.welcome(stream.into(), &Visitor::called(peer)).map_err(|value| {
            let (open, limit) =
                self.driver.call(|server, gate, _| (!gate.closed && !gate.draining, server.counters().connections));
            let reason = if open && !self.driver.is_shut() {
                Reason::Full { what: "connections", limit }
            } else {
                Reason::Closed
            };
            Rejected { reason, value }
        })
    }

    /// Stops in order: it accepts nothing new, lets the jobs that run finish for `within` at most, then closes every
    /// connection. Background jobs that do not run yet are not begun: [`queued`](Self::queued) has them.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way. [`Error::Unfinished`]: so many jobs still ran or were waited for; their
    /// workers are cut off, and the background ones among them are queued again.
    pub fn drain(&self, within: Duration) -> Result<(), Error> {
        let deadline = self.driver.now() + within;
        self.driver.call(|server, gate, now| {
            if core::mem::replace(&mut gate.draining, true) {
                return Err(Error::Draining);
            }
            server.drain(now);
            Ok(())
        })?;
        self.driver.shut_doors();
        if self.closed_by(Some(deadline)) {
            return Ok(());
        }
        let jobs = self.driver.call(|server, _, now| {
            let jobs = Driven::unfinished(server);
            server.close(now);
            jobs
        });
        self.closed_by(None);
        Err(Error::Unfinished { jobs })
    }

    /// Closes every connection at once, and stops listening.
    pub fn close(&self) {
        self.driver.call(|server, _, now| server.close(now));
        self.driver.shut_doors();
    }

    /// Waits until it has closed: by [`drain`](Self::drain) or [`close`](Self::close) from elsewhere, or by the admin
    /// command `shutdown` where that is allowed.
    pub fn wait(&self) {
        self.closed_by(None);
        self.driver.shut_doors();
    }

    /// The background jobs, those that run included, to be kept and given to the
    /// [`restore`](ServerBuilder::restore) of another server.
    #[must_use]
    pub fn queued(&self) -> Vec<QueuedJob> {
        self.driver.call(|server, _, _| server.queued().collect())
    }

    /// Takes up a background job that another server had.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached, or its handle is taken.
    pub fn restore(&self, job: QueuedJob) -> Result<Handle, Rejected<QueuedJob>> {
        self.driver.call(|server, _, _| server.restore(job))
    }

    /// Has the connections that are accepted from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ServerTls>) {
        let tls = tls.into();
        self.driver.call(|server, _, _| server.set_server_tls(tls));
    }

    /// Numbers for a status page.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.driver.call(|server, _, _| server.counters())
    }

    /// How long its jobs took since the server was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.driver.call(|server, _, _| server.latencies().clone())
    }

    fn closed_by(&self, deadline: Option<Instant>) -> bool {
        let closed = self.driver.wait(deadline, |_, gate, waker, _| {
            if gate.is_closed(waker) { Look::Found(()) } else { Look::Missing(Source::Any) }
        });
        closed.is_some()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses.all).finish_non_exhaustive()
    }
}
