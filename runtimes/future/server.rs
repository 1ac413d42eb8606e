//! The server's handle.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;

use super::{Driver, Running, Runtime, ended, finish};
use crate::runtimes::handles::{Addresses, Plan, ServerBuilder, ServerMachine as Machine};
use crate::runtimes::hub::Hub;
use crate::runtimes::inbox::Inbox;
use crate::runtimes::listening::Listening;
use crate::runtimes::std::net::ToSocketAddrs;
use crate::runtimes::std::path::Path;
use crate::runtimes::std::sync::{Mutex, PoisonError};
use crate::runtimes::{Clock, Error};
use crate::server::{Counters, Latencies, QueuedJob};
use crate::{Address, Handle, Peer, Rejected};

/// A job server. Cheap to clone: to stop it from elsewhere, say.
///
/// Its sockets are moved by the future of [`run`](Self::run), which is to be spawned or awaited. It ends when the server has
/// been drained or closed; dropped before, it closes every connection at once.
pub struct Server<R: Runtime> {
    shared: Arc<Hub<Machine, ()>>,
    driver: Arc<Mutex<Option<Running>>>,
    inbox: Arc<Inbox<R::Stream>>,
    addresses: Arc<Addresses>,
}

impl<R: Runtime> ServerBuilder<Server<R>> {
    /// Listens on the first of `addresses` that can be had; port 0 for one that is free. Names are looked up on the spot,
    /// which blocks: give addresses. It serves from when `run` is polled.
    ///
    /// Safe to cancel: nothing is waited for.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Io`]: none of the addresses can be had.
    pub async fn bind(self, addresses: impl ToSocketAddrs) -> Result<Server<R>, Error> {
        self.listen_on(Listening::tcp(addresses)?).build().await
    }

    /// Listens on a Unix socket at `path`: see [`Listening::unix`]. It serves from when `run` is polled.
    ///
    /// Safe to cancel: nothing is waited for.
    ///
    /// # Errors
    /// As [`build`](Self::build), and as [`Listening::unix`].
    pub async fn bind_unix(self, path: impl AsRef<Path>) -> Result<Server<R>, Error> {
        self.listen_on(Listening::unix(path)?).build().await
    }

    /// Makes the server with the listeners that it was [given](Self::listen_on), if any: streams may be
    /// [handed over](Server::serve), too. It serves from when `run` is polled.
    ///
    /// Safe to cancel: nothing is waited for.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting that cannot be. [`Error::Io`]: a listener cannot be used.
    #[expect(clippy::unused_async, reason = "it is made in the runtime's context, and may come to wait")]
    pub async fn build(self) -> Result<Server<R>, Error> {
        let clock = Clock::start();
        let Plan { machine, listener, doors, addresses } = self.plan(clock)?;
        let shared = Hub::new(machine, (), clock);
        let mut driver = Driver::<R, _, _>::new(shared.clone(), listener, None);
        for door in doors {
            driver.listen(door).map_err(Error::io("listen"))?;
        }
        let inbox = driver.open_inbox();
        let driver: Running = Box::pin(driver);
        Ok(Server { shared, driver: Arc::new(Mutex::new(Some(driver))), inbox, addresses: addresses.into() })
    }
}

impl<R: Runtime> Server<R> {
    /// Describes a server.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::new(R::PATIENCE)
    }

    /// A server with the default settings: see [`ServerBuilder::bind`].
    ///
    /// Safe to cancel: nothing is waited for.
    ///
    /// # Errors
    /// [`Error::Io`]: none of the addresses can be had.
    pub async fn bind(addresses: impl ToSocketAddrs) -> Result<Self, Error> {
        Self::builder().bind(addresses).await
    }

    /// A server on a Unix socket with the default settings: see [`ServerBuilder::bind_unix`].
    ///
    /// Safe to cancel: nothing is waited for.
    ///
    /// # Errors
    /// [`Error::Io`]: the path cannot be had.
    pub async fn bind_unix(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().bind_unix(path).await
    }

    /// Serves a stream that is connected, such as one that a listener of yours accepted, or one end of a pair. `peer` is how
    /// the server is to call whoever is at its other end: one word, for the admin command `workers`.
    ///
    /// It is taken up in the next turn of [`run`](Self::run), where it is also closed if the server closes before.
    ///
    /// # Errors
    /// The stream comes back: the server is closing, or has as many connections as it may.
    pub fn serve(&self, stream: impl Into<R::Stream>, peer: Peer<'_>) -> Result<(), Rejected<R::Stream>> {
        self.inbox.put(stream.into(), peer, &self.shared)
    }
}

impl<R: Runtime> Server<R> {
    /// Serves: to be spawned or awaited. It ends when the server has been drained or closed. A second call gives a future
    /// that waits for that.
    ///
    /// Dropping it closes every connection at once.
    #[must_use = "the server does nothing until this future is polled"]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<R> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        finish(driver, self.shared.clone())
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

    /// The background jobs, those that run included, to be kept and given to the
    /// [`restore`](ServerBuilder::restore) of another server.
    #[must_use]
    pub fn queued(&self) -> Vec<QueuedJob> {
        self.shared.look(|server, ()| server.queued().collect())
    }

    /// Takes up a background job that another server had.
    ///
    /// # Errors
    /// The job comes back: it is none, a limit is reached, or its handle is taken.
    pub fn restore(&self, job: QueuedJob) -> Result<Handle, Rejected<QueuedJob>> {
        self.shared.call(|server, (), _| server.restore(job))
    }

    /// Has the connections that are accepted from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ServerTls>) {
        let tls = tls.into();
        self.shared.call(|server, (), _| server.set_server_tls(tls));
    }

    /// Numbers for a status page.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.look(|server, _| server.counters())
    }

    /// How long its jobs took since the server was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.shared.look(|server, _| server.latencies().clone())
    }

    /// Stops listening, lets what runs be finished, then closes every connection; after `within` at once. Submissions are
    /// refused meanwhile. [`run`](Self::run) must be polled.
    ///
    /// Safe to cancel: the drain goes on.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs were left.
    pub async fn drain(&self, within: Duration) -> Result<(), Error> {
        self.shared.drain(within)?;
        ended(&self.shared).await;
        self.shared.drained()
    }

    /// Closes every connection as soon as it has taken what was to be sent, 5 s later at the latest.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl<R: Runtime> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            driver: self.driver.clone(),
            inbox: self.inbox.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses.all).field("counters", &self.counters()).finish()
    }
}
