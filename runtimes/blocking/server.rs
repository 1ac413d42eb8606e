//! The job server's handle.

use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;

use super::driver::{Driver, Look, Source};
use crate::runtimes::handles::{self, Gate, ServerBuilder, ServerMachine as Machine, Sink};
use crate::runtimes::std::net::{SocketAddr, ToSocketAddrs};
use crate::runtimes::{Clock, Error};
use crate::server::{Counters, Event, Latencies, QueuedJob};
use crate::{Handle, Instant, Rejected};

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
    address: SocketAddr,
}

impl ServerBuilder<Server> {
    /// Starts the server on the first of the addresses that can be had; port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Refused`]: a job that cannot be restored. [`Error::Io`]: no
    /// address can be listened on, or there is no thread to be had.
    pub fn bind(self, addresses: impl ToSocketAddrs) -> Result<Server, Error> {
        let clock = Clock::start();
        let (machine, listener) = self.machine(clock)?;
        let (door, address) = handles::bind(addresses)?;
        door.set_nonblocking(false).map_err(Error::io("listen"))?;
        let driver = Driver::start(machine, Gate::default(), clock, listener).map_err(Error::io("start a thread"))?;
        driver.listen(door).map_err(Error::io("start a thread"))?;
        Ok(Server { driver, address })
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

    /// Describes a job server.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::new()
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
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

    /// How long its jobs took since the server was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.driver.call(|server, _, _| server.latencies().clone())
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
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}
