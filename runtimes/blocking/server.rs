//! The job server's handle.

use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;

use super::driver::{Driven, Driver, Look, Sink, Source};
use crate::runtimes::handles::{Gate, ServerBuilder};
use crate::runtimes::std::net::{SocketAddr, ToSocketAddrs};
use crate::runtimes::{Clock, Error};
use crate::server::{Counters, Event, QueuedJob, Server as Machine};
use crate::{Handle, Instant, Rejected};

impl Driven for Machine {
    fn close(&mut self, now: Instant) {
        Self::close(self, now);
    }
}

impl Sink<Event> for Gate {
    fn take(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        Some(self.pass(event, wake))
    }
}

/// A job server in this process, on threads of its own. Jobs live in memory; dropping it closes every connection, and
/// [`queued`](Self::queued) tells before what would be lost.
///
/// ```
/// use gearwheel::blocking::Server;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// println!("gearman -h 127.0.0.1 -p {}", server.local_addr().port());
/// # Ok::<(), gearwheel::blocking::Error>(())
/// ```
pub struct Server {
    driver: Driver<Machine, Gate>,
    addresses: Vec<SocketAddr>,
}

impl ServerBuilder<Server> {
    /// Starts the server.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Refused`]: a job that cannot be restored. [`Error::Io`]: an
    /// address that cannot be listened on, or there is no thread to be had.
    pub fn start(self) -> Result<Server, Error> {
        let clock = Clock::start();
        let (machine, doors, listener) = self.open(clock.now())?;
        let driver = Driver::start(machine, Gate::default(), clock, listener).map_err(Error::io("start a thread"))?;
        let addresses = doors.into_iter().map(|door| driver.listen(door)).collect::<Result<_, _>>();
        Ok(Server { driver, addresses: addresses.map_err(Error::io("start a thread"))? })
    }
}

impl Server {
    /// A job server with default settings that listens on `address`; port 0 lets the system choose one.
    ///
    /// # Errors
    /// As [`ServerBuilder::start`].
    pub fn bind(address: impl ToSocketAddrs) -> Result<Self, Error> {
        Self::builder().listen(address).start()
    }

    /// Describes a job server.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::new()
    }

    /// The first address it listens on.
    ///
    /// # Panics
    /// It listens on none.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.addresses.first().expect("a server that listens")
    }

    /// All addresses it listens on.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops in order: it accepts nothing new, lets the jobs that run finish for `within` at most, then closes every
    /// connection. Background jobs that do not run yet are not begun: [`queued`](Self::queued) has them.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way. [`Error::Unfinished`]: so many jobs still ran; their workers are cut off,
    /// and the background ones among them are queued again.
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
            let jobs = server.counters().running;
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

    /// Plain numbers.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.driver.call(|server, _, _| server.counters())
    }

    fn closed_by(&self, deadline: Option<Instant>) -> bool {
        let closed = self.driver.wait(deadline, |_, gate, waker| {
            if gate.is_closed(waker) { Look::Found(()) } else { Look::Missing(Source::Any) }
        });
        closed.is_some()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
