//! The job server's handle.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::task::Waker;
use core::time::Duration;

use super::driver::{Driver, Look, Source};
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::std::net::{TcpListener, ToSocketAddrs};
use crate::runtimes::std::process;
use crate::runtimes::{Clock, Error, seed, unix_now};
use crate::server::{Config, Counters, Event, QueuedJob, Server as Machine};
use crate::{Instant, Rejected};

/// Who waits for the end of a server.
#[derive(Debug, Default)]
struct End {
    closed: bool,
    draining: bool,
    waiting: Vec<Waker>,
}

impl Sink<Event> for End {
    fn take(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        if event == Event::Closed {
            self.closed = true;
            wake.append(&mut self.waiting);
        }
        Some(event)
    }
}

/// Describes a job server. What is wrong with it is said by [`build`](Self::build).
#[must_use]
pub struct ServerBuilder {
    config: Config,
    listeners: Vec<TcpListener>,
    on_event: Option<Listener<Event>>,
    jobs: Vec<QueuedJob>,
    error: Option<Error>,
}

impl ServerBuilder {
    /// Listens at `address`, at port 0 at one that is free. Several are possible.
    pub fn listen(mut self, address: impl ToSocketAddrs) -> Self {
        match TcpListener::bind(address) {
            Ok(listener) => self.listeners.push(listener),
            Err(error) => {
                self.error.get_or_insert(Error::io("listen")(error));
            }
        }
        self
    }

    /// Listens by a listener that is bound already. It must block.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Begins with these background jobs, which another server has left ([`Server::queued`]).
    pub fn jobs(mut self, jobs: impl IntoIterator<Item = QueuedJob>) -> Self {
        self.jobs.extend(jobs);
        self
    }

    /// Changes what there is to be changed.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Calls `listener` for each event: connections that come and go, the admin command `shutdown`, the end.
    ///
    /// It is called by one thread at a time, one that also serves a connection, and may ask the server things. When it
    /// blocks, further events wait, up to 4,096.
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(listener));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// [`Error::Io`]: an address cannot be listened at, or there is no thread to be had. [`Error::Config`]: a setting that
    /// cannot be. [`Error::Refused`]: a job that cannot be taken.
    pub fn build(self) -> Result<Server, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let clock = Clock::start();
        let mut machine = Machine::new(self.config, clock.now(), unix_now())?;
        for job in self.jobs {
            machine.restore(job).map_err(|Rejected { reason, .. }| reason)?;
        }
        let started = Driver::start(machine, End::default(), clock, self.on_event);
        let driver = started.map_err(Error::io("start a thread"))?;
        let listening = self.listeners.into_iter().map(|listener| driver.listen(listener)).collect();
        let addresses = Result::map_err(listening, Error::io("start a thread"))?;
        Ok(Server { driver, addresses })
    }
}

/// A job server that runs on threads of its own, one for each connection: for tests, and for one machine with some hundred
/// connections. Dropping it closes it; its jobs are in memory and end with it.
#[must_use = "dropping it stops the server"]
pub struct Server {
    driver: Driver<Machine, End>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Describes a server.
    pub fn builder() -> ServerBuilder {
        let mut config = Config::new(seed());
        config.process_id = process::id();
        ServerBuilder { config, listeners: Vec::new(), on_event: None, jobs: Vec::new(), error: None }
    }

    /// Starts a server at `address`, at port 0 at one that is free.
    ///
    /// # Errors
    /// [`Error::Io`]: the address cannot be listened at, or there is no thread to be had.
    pub fn bind(address: impl ToSocketAddrs) -> Result<Self, Error> {
        Self::builder().listen(address).build()
    }

    /// Where it listens: the first of its addresses.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Numbers for a status page.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.driver.call(|server, _, _| server.counters())
    }

    /// The background jobs, those that run included, to be given to another server ([`ServerBuilder::jobs`]).
    #[must_use]
    pub fn queued(&self) -> Vec<QueuedJob> {
        self.driver.call(|server, _, _| server.queued().collect())
    }

    /// Stops in order: no new connections and no new jobs. Waits until no job runs and nobody waits for one, for `within`
    /// at most, then closes. Background jobs that were not begun stay: [`queued`](Self::queued).
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs ran or were waited for.
    pub fn drain(&self, within: Duration) -> Result<(), Error> {
        let deadline = self.driver.now() + within;
        self.driver.call(|server, end, now| {
            if core::mem::replace(&mut end.draining, true) {
                return Err(Error::Draining);
            }
            server.drain(now);
            Ok(())
        })?;
        self.driver.shut_doors();
        if self.join_until(Some(deadline)) {
            return Ok(());
        }
        let jobs = self.driver.call(|server, _, _| server.unfinished());
        self.stop();
        Err(Error::Unfinished { jobs })
    }

    /// Closes every connection as soon as it has taken what was to be sent. Does not wait for that: [`join`](Self::join)
    /// does.
    pub fn stop(&self) {
        self.driver.call(|server, _, now| server.close(now));
        self.driver.shut_doors();
    }

    /// Waits until it has closed: by [`stop`](Self::stop), [`drain`](Self::drain) or the admin command `shutdown`.
    pub fn join(&self) {
        self.join_until(None);
    }

    fn join_until(&self, deadline: Option<Instant>) -> bool {
        let closed = self.driver.wait(deadline, |_, end, waker| {
            end.waiting.extend(waker.cloned());
            if end.closed { Look::Found(()) } else { Look::Missing(Source::Any) }
        });
        closed.is_some()
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).field("counters", &self.counters()).finish()
    }
}
