//! How a server is described.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::SocketAddr;

use super::Listener;
use crate::runtimes::std::io;
use crate::runtimes::std::net::{TcpListener, ToSocketAddrs};
use crate::runtimes::{Clock, Error, seed, unix_now};
use crate::server::{Config, Event, Server};
use crate::{Limits, Seed};

/// Describes a server. What is wrong with it is said by `bind`.
#[must_use]
pub struct ServerBuilder<S> {
    config: Config,
    listener: Option<Listener<Event>>,
    binds: PhantomData<fn() -> S>,
}

impl<S> ServerBuilder<S> {
    pub(crate) fn new() -> Self {
        Self { config: Config::new(seed()), listener: None, binds: PhantomData }
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

    /// Calls `listener` for each event: [`Connected`](Event::Connected), [`Disconnected`](Event::Disconnected),
    /// [`Shutdown`](Event::Shutdown), [`Closed`](Event::Closed). It should not block.
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The machine of it all.
    pub(crate) fn machine(self, clock: Clock) -> Result<(Server, Option<Listener<Event>>), Error> {
        Ok((Server::new(self.config, clock.now(), unix_now())?, self.listener))
    }
}

impl<S> fmt::Debug for ServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Binds the first of the addresses that can be had; its listener does not block.
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
pub(crate) fn bind(addresses: impl ToSocketAddrs) -> Result<(TcpListener, SocketAddr), Error> {
    let bind = || {
        let addresses: Vec<SocketAddr> = addresses.to_socket_addrs()?.collect();
        let listener = TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    bind().map_err(Error::io("listen"))
}
