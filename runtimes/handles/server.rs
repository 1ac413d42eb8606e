//! How a server is described, and what the handles of all runtimes share of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::task::Waker;

use super::{Listener, ServerMachine};
use crate::runtimes::std::net::{TcpListener, ToSocketAddrs};
use crate::runtimes::std::{fs, io, process};
use crate::runtimes::{Clock, Error, seed, unix_now};
use crate::server::{Config, Event, QueuedJob, Server};
use crate::{Limits, Seed};

/// Describes a server. What is wrong with it is said by `bind`.
#[must_use]
pub struct ServerBuilder<S> {
    config: Config,
    jobs: Vec<QueuedJob>,
    listener: Option<Listener<Event>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ServerTls>,
    binds: PhantomData<fn() -> S>,
}

impl<S> ServerBuilder<S> {
    pub(crate) fn new() -> Self {
        let mut config = Config::new(seed());
        config.process_id = process::id();
        if let Some(host) = host_name() {
            config.handle_prefix = alloc::format!("H:{host}");
        }
        Self {
            config,
            jobs: Vec::new(),
            listener: None,
            #[cfg(feature = "tls")]
            tls: None,
            binds: PhantomData,
        }
    }

    /// Encrypts its connections from the first byte: whoever does not speak TLS is refused.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::tls::ServerTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// What it may hold, beside the limits in its configuration.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Where its randomness comes from, for runs that repeat. Default: the operating system.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.config.seed = seed;
        self
    }

    /// Changes whatever else there is.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Takes up background jobs that another server had: see [`Server::queued`].
    pub fn restore(mut self, jobs: impl IntoIterator<Item = QueuedJob>) -> Self {
        self.jobs.extend(jobs);
        self
    }

    /// Calls `listener` for each event: [`Connected`](Event::Connected), [`Disconnected`](Event::Disconnected),
    /// [`Shutdown`](Event::Shutdown), [`Closed`](Event::Closed). It should not block.
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The machine of it all.
    pub(crate) fn machine(self, clock: Clock) -> Result<(ServerMachine, Option<Listener<Event>>), Error> {
        let mut machine = Server::new(self.config, clock.now(), unix_now())?;
        for job in self.jobs {
            machine.restore(job).map_err(|rejected| Error::Refused(rejected.reason))?;
        }
        #[cfg(feature = "tls")]
        let machine = crate::runtimes::tls::accepting(machine, self.tls);
        Ok((machine, self.listener))
    }
}

impl<S> fmt::Debug for ServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Binds the first of the addresses that can be had; its listener does not block.
pub(crate) fn bind(addresses: impl ToSocketAddrs) -> Result<(TcpListener, SocketAddr), Error> {
    let bind = || {
        let addresses: Vec<SocketAddr> = addresses.to_socket_addrs()?.collect();
        let listener = TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
        super::super::sockets::await_a_crowd(&listener)?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    bind().map_err(Error::io("listen"))
}

/// As gearmand names its handles, where the system tells.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_graphic())).then(|| name.into())
}

/// Whether a server has closed, and who waits for it.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) closed: bool,
    pub(crate) draining: bool,
    pub(crate) waiting: Vec<Waker>,
}

impl Gate {
    /// Notes the end, and passes every event on to the listener.
    pub(crate) fn pass(&mut self, event: Event, wake: &mut Vec<Waker>) -> Event {
        if event == Event::Closed {
            self.closed = true;
            wake.append(&mut self.waiting);
        }
        event
    }

    /// Whether it has closed; else `waker` is woken when it does.
    pub(crate) fn is_closed(&mut self, waker: Option<&Waker>) -> bool {
        if !self.closed
            && let Some(waker) = waker
        {
            self.waiting.retain(|other| !other.will_wake(waker));
            self.waiting.push(waker.clone());
        }
        self.closed
    }
}
