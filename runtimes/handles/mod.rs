//! What the handles of all runtimes share: how a client and a worker are described, and where their events wait.

mod admin;
mod desk;
mod driven;
mod job;
mod post;
mod server;
mod task;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

pub use self::admin::AdminBuilder;
pub(crate) use self::admin::{Replies, commands, unpack};
pub(crate) use self::desk::{Desk, Sending, Ticket};
pub(crate) use self::driven::{Driven, Sink};
pub use self::job::{JobError, JobEvent};
pub(crate) use self::job::{MAX_OUTCOMES, UNTAKEN, may_wait, submit_in_time};
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
pub(crate) use self::post::replace;
pub(crate) use self::post::{Answer, Mailbox, Post};
#[cfg(any(feature = "blocking", feature = "mio", feature = "tokio"))]
pub(crate) use self::server::PATIENCE;
pub use self::server::ServerBuilder;
pub(crate) use self::server::{Addresses, Gate, Plan};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::task::Futures;
#[cfg(any(feature = "blocking", feature = "mio"))]
pub use self::task::Threads;
pub use self::task::{Fail, HandlerError, Task, Throw};
pub(crate) use self::task::{Port, panic_text, refuse_result};
use super::std::env;
use super::std::path::{Path, PathBuf};
use super::{Error, seed};
use crate::client::Unread;
use crate::{Address, Balance, ConfigError, Limits, Retry, Seed, client, worker};

/// What is driven for a handle: its machine, with TLS around it where that may be.
#[cfg(feature = "tls")]
type Guarded<M> = crate::tls::Secured<M>;
#[cfg(not(feature = "tls"))]
type Guarded<M> = M;
pub(crate) type ClientMachine = Guarded<client::Client>;
pub(crate) type WorkerMachine = Guarded<worker::Worker>;
pub(crate) type ServerMachine = Guarded<crate::server::Server>;
pub(crate) type AdminMachine = Guarded<crate::admin::Admin>;

/// How long submissions may wait for others by default: the least that most pollers can wait. It was measured to save more than
/// the timer costs on smol, too.
const GATHER: Duration = Duration::from_millis(1);

/// The user's function for events that belong to no one job.
pub(crate) type Listener<E> = Box<dyn FnMut(E) + Send>;

/// What names a job server: an [`Address`], a socket address, a text as `host`, `host:port`, `[v6]:port` or `unix:/path`, or
/// the path of a Unix socket.
pub trait ToAddress {
    /// The address.
    ///
    /// # Errors
    /// It is none.
    fn to_address(&self) -> Result<Address, ConfigError>;
}

impl<A: ToAddress + ?Sized> ToAddress for &A {
    fn to_address(&self) -> Result<Address, ConfigError> {
        (**self).to_address()
    }
}

impl ToAddress for Address {
    fn to_address(&self) -> Result<Address, ConfigError> {
        Ok(self.clone())
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<Address, ConfigError> {
        self.parse()
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<Address, ConfigError> {
        self.parse()
    }
}

impl ToAddress for SocketAddr {
    fn to_address(&self) -> Result<Address, ConfigError> {
        Ok((*self).into())
    }
}

impl ToAddress for (&str, u16) {
    fn to_address(&self) -> Result<Address, ConfigError> {
        Address::new(self.0, self.1)
    }
}

impl ToAddress for (IpAddr, u16) {
    fn to_address(&self) -> Result<Address, ConfigError> {
        SocketAddr::from(*self).to_address()
    }
}

/// A Unix socket's.
impl ToAddress for Path {
    fn to_address(&self) -> Result<Address, ConfigError> {
        match self.to_str() {
            Some(path) => Address::unix(path),
            None => Err(ConfigError::BadAddress { text: alloc::format!("unix:{}", self.display()).into() }),
        }
    }
}

impl ToAddress for PathBuf {
    fn to_address(&self) -> Result<Address, ConfigError> {
        self.as_path().to_address()
    }
}

/// The job servers that the environment variable `GEARMAN_SERVERS` names, parted by commas or blanks; none when it is unset.
/// So the path of a Unix socket among them (`unix:/PATH`) can have neither.
///
/// # Errors
/// One of them is no address.
pub fn servers_from_env() -> Result<Vec<Address>, ConfigError> {
    let list = env::var_os("GEARMAN_SERVERS").unwrap_or_default();
    let list = list.to_string_lossy();
    list.split([',', ' ', '\t', '\n']).filter(|text| !text.is_empty()).map(str::parse).collect()
}

/// How the connections of a handle are made where the user makes them. Sealed: the handles of the runtimes are all there are.
#[expect(private_bounds, reason = "it is sealed")]
pub trait Dials: Sealed {
    /// The user's function, boxed.
    #[doc(hidden)]
    type Connector: Send;
}

pub(crate) trait Sealed {}

/// Describes a client. What is wrong with it is said by `build`.
#[must_use]
pub struct ClientBuilder<C: Dials> {
    pub(crate) config: client::Config,
    pub(crate) connector: Option<C::Connector>,
    pub(crate) listener: Option<Listener<client::Event>>,
    error: Option<ConfigError>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ClientTls>,
    builds: PhantomData<fn() -> C>,
}

impl<C: Dials> ClientBuilder<C> {
    pub(crate) fn new() -> Self {
        Self {
            config: client::Config { gather: GATHER, ..client::Config::new(seed()) },
            connector: None,
            listener: None,
            error: None,
            #[cfg(feature = "tls")]
            tls: None,
            builds: PhantomData,
        }
    }

    /// Adds a job server.
    pub fn server(mut self, server: impl ToAddress) -> Self {
        add(&mut self.config.servers, &mut self.error, &server);
        self
    }

    /// Adds job servers.
    pub fn servers<A: ToAddress>(self, servers: impl IntoIterator<Item = A>) -> Self {
        servers.into_iter().fold(self, Self::server)
    }

    /// Which job server gets a job. Default: the first that can be had.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.config.balance = balance;
        self
    }

    /// The name under which job servers list this client.
    pub fn client_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.config.client_id = Some(id.into());
        self
    }

    /// Whether exceptions of workers are wanted; else a job that throws just fails. Default true.
    pub fn exceptions(mut self, exceptions: bool) -> Self {
        self.config.exceptions = exceptions;
        self
    }

    /// The most time from `submit` to the end of a job that does not say so itself. Default: none.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.config.deadlines.total = Some(total);
        self
    }

    /// The most time a connection attempt may take. Default 5 s.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.config.connecting.connect_timeout = within;
        self
    }

    /// What happens to lost jobs that do not say so themselves. Default: [`Retry::Unsent`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.config.retry = retry;
        self
    }

    /// What happens when the user of a job does not read what comes of it, and
    /// [`Limits::max_unread`] bytes of it wait. Default: the job ends as [`Outcome::Overflow`](crate::Outcome::Overflow).
    pub fn unread(mut self, unread: Unread) -> Self {
        self.config.unread = unread;
        self
    }

    /// Encrypts the connections to job servers.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::tls::ClientTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// What it may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Where its randomness comes from, for runs that repeat. Default: the operating system.
    pub fn seed(mut self, seed: impl Into<Seed>) -> Self {
        self.config.seed = seed.into();
        self
    }

    /// Changes whatever else there is.
    pub fn configure(mut self, change: impl FnOnce(&mut client::Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Calls `listener` for each event that belongs to no one job: [`Connected`](client::Event::Connected),
    /// [`Disconnected`](client::Event::Disconnected), [`ServerError`](client::Event::ServerError),
    /// [`Closed`](client::Event::Closed).
    ///
    /// It is called by one thread at a time and may call the client, whose `submit` does not wait for room there. On the
    /// blocking runtime that thread is its own: it may wait for jobs, and while it does further events wait, up to 4,096;
    /// more are dropped, and once it has panicked, all are. On the others the loop's thread calls it, or `run`, and it must
    /// not block: nothing comes meanwhile.
    pub fn on_event(mut self, listener: impl FnMut(client::Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The machine of it all.
    #[expect(clippy::type_complexity, reason = "each is what a driver wants")]
    pub(crate) fn machine(
        self,
    ) -> Result<(ClientMachine, Option<Listener<client::Event>>, Option<C::Connector>), Error> {
        let mut config = self.config;
        if config.unread == Unread::Polled {
            // A mailbox polls all at once, so that is no limit to it.
            config.unread = Unread::Overflow;
        }
        match self.error {
            Some(error) => Err(error.into()),
            None => {
                let machine = client::Client::new(config)?;
                #[cfg(feature = "tls")]
                let machine = crate::runtimes::tls::dialling(machine, self.tls);
                Ok((machine, self.listener, self.connector))
            }
        }
    }
}

impl<C: Dials> fmt::Debug for ClientBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("config", &self.config)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Describes a worker. What is wrong with it is said by `build`.
///
/// `H` is the kind of handler that its runtime takes.
#[must_use]
pub struct WorkerBuilder<W: Dials, H> {
    pub(crate) config: worker::Config,
    pub(crate) connector: Option<W::Connector>,
    pub(crate) listener: Option<Listener<worker::Event>>,
    pub(crate) functions: Vec<(Bytes, Option<Duration>, Option<H>)>,
    pub(crate) panics_fail: bool,
    error: Option<ConfigError>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ClientTls>,
    builds: PhantomData<fn() -> W>,
}

impl<W: Dials, H> WorkerBuilder<W, H> {
    pub(crate) fn new() -> Self {
        Self {
            config: worker::Config::new(seed()),
            connector: None,
            listener: None,
            functions: Vec::new(),
            panics_fail: false,
            error: None,
            #[cfg(feature = "tls")]
            tls: None,
            builds: PhantomData,
        }
    }

    /// Adds a job server.
    pub fn server(mut self, server: impl ToAddress) -> Self {
        add(&mut self.config.servers, &mut self.error, &server);
        self
    }

    /// Adds job servers.
    pub fn servers<A: ToAddress>(self, servers: impl IntoIterator<Item = A>) -> Self {
        servers.into_iter().fold(self, Self::server)
    }

    /// Offers `function` (CAN_DO) without a handler: its jobs come out of `next`.
    pub fn can_do(mut self, function: impl Into<Bytes>) -> Self {
        self.functions.push((function.into(), None, None));
        self
    }

    /// Offers `function` (CAN_DO_TIMEOUT) without a handler. A job that takes longer than `timeout` is failed; gearmand
    /// raises limits under 1 s to 1 s.
    pub fn can_do_timeout(mut self, function: impl Into<Bytes>, timeout: Duration) -> Self {
        self.functions.push((function.into(), Some(timeout), None));
        self
    }

    /// The name under which job servers list this worker.
    pub fn client_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.config.client_id = Some(id.into());
        self
    }

    /// Jobs run at once, at least 1. Default 1.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.config.concurrency = jobs;
        self
    }

    /// Jobs that may wait here while others run: a round trip less for each, but they are kept from other workers. Counts
    /// as 0 while any function has a timeout. Default 0.
    pub fn prefetch(mut self, jobs: usize) -> Self {
        self.config.prefetch = jobs;
        self
    }

    /// What becomes of a job whose handler panics: WORK_FAIL if true, else WORK_EXCEPTION with the text of the panic, the
    /// default. The worker goes on either way.
    pub fn panics_fail(mut self, fail: bool) -> Self {
        self.panics_fail = fail;
        self
    }

    /// The most time a connection attempt may take. Default 5 s.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.config.connecting.connect_timeout = within;
        self
    }

    /// Encrypts the connections to job servers.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::tls::ClientTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// What it may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Where its randomness comes from, for runs that repeat. Default: the operating system.
    pub fn seed(mut self, seed: impl Into<Seed>) -> Self {
        self.config.seed = seed.into();
        self
    }

    /// Changes whatever else there is.
    pub fn configure(mut self, change: impl FnOnce(&mut worker::Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Calls `listener` for each event that belongs to no one job: [`Connected`](worker::Event::Connected),
    /// [`Disconnected`](worker::Event::Disconnected), [`ServerError`](worker::Event::ServerError),
    /// [`Closed`](worker::Event::Closed).
    ///
    /// It is called by one thread at a time and may call the worker. On the blocking runtime that thread is its own, and while
    /// it blocks further events wait, up to 4,096; more are dropped, and once it has panicked, all are. On the others the
    /// loop's thread calls it, or `run`, and it must not block: nothing comes meanwhile.
    pub fn on_event(mut self, listener: impl FnMut(worker::Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Adds a function with a handler.
    pub(crate) fn handler(mut self, function: Bytes, timeout: Option<Duration>, handler: H) -> Self {
        self.functions.push((function, timeout, Some(handler)));
        self
    }

    /// The machine of it all, with its functions registered.
    pub(crate) fn machine(&mut self) -> Result<WorkerMachine, Error> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        let mut machine = worker::Worker::new(self.config.clone())?;
        for (function, timeout, _) in &self.functions {
            machine.register(function.clone(), *timeout, crate::Instant::EPOCH)?;
        }
        #[cfg(feature = "tls")]
        let machine = crate::runtimes::tls::dialling(machine, self.tls.take());
        Ok(machine)
    }
}

impl<W: Dials, H> fmt::Debug for WorkerBuilder<W, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("config", &self.config)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

fn add(servers: &mut Vec<Address>, error: &mut Option<ConfigError>, server: &dyn ToAddress) {
    match server.to_address() {
        Ok(address) => servers.push(address),
        Err(found) => {
            error.get_or_insert(found);
        }
    }
}
