//! How a server is described, and what the handles of all runtimes share of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::task::Waker;
use core::time::Duration;

use super::{Listener, ServerMachine};
use crate::runtimes::listening::Listening;
use crate::runtimes::std::{fs, process};
use crate::runtimes::{Clock, Error, seed, unix_now};
use crate::server::{Config, Event, QueuedJob, Server};
use crate::{Address, Limits, Seed};

/// How long answers may wait by default: the least that most pollers can wait.
#[cfg(any(feature = "blocking", feature = "mio", feature = "tokio"))]
pub(crate) const PATIENCE: Duration = Duration::from_millis(1);

/// Describes a server. What is wrong with it is said by `bind` or `build`.
#[must_use]
pub struct ServerBuilder<S> {
    config: Config,
    jobs: Vec<QueuedJob>,
    listener: Option<Listener<Event>>,
    doors: Vec<Listening>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ServerTls>,
    binds: PhantomData<fn() -> S>,
}

impl<S> ServerBuilder<S> {
    pub(crate) fn new(patience: Duration) -> Self {
        let mut config = Config::new(seed());
        config.process_id = process::id();
        config.patience = patience;
        if let Some(host) = host_name() {
            config.handle_prefix = alloc::format!("H:{host}");
        }
        Self {
            config,
            jobs: Vec::new(),
            listener: None,
            doors: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
            binds: PhantomData,
        }
    }

    /// Encrypts its connections from the first byte: whoever does not speak TLS is refused, but for those who come by a
    /// [plain](Listening::plain) listener.
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
    pub fn seed(mut self, seed: impl Into<Seed>) -> Self {
        self.config.seed = seed.into();
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

    /// Accepts connections from a socket that is bound, too: as often as there are sockets. With [`Listening::bind`] and
    /// [`Listening::unix`] the server listens in several places; a std listener may come from a service manager.
    pub fn listen_on(mut self, listener: impl Into<Listening>) -> Self {
        self.doors.push(listener.into());
        self
    }

    /// Calls `listener` for each event: [`Connected`](Event::Connected), [`Disconnected`](Event::Disconnected),
    /// [`Shutdown`](Event::Shutdown), [`Closed`](Event::Closed). It should not block: on the blocking runtime, where it has a
    /// thread of its own, further events wait, up to 4,096; on the others nothing comes meanwhile.
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The machine of it all.
    pub(crate) fn plan(self, clock: Clock) -> Result<Plan, Error> {
        let mut machine = Server::new(self.config, clock.now(), unix_now())?;
        for job in self.jobs {
            machine.restore(job).map_err(|rejected| Error::Refused(rejected.reason))?;
        }
        #[cfg(feature = "tls")]
        let machine = crate::runtimes::tls::accepting(machine, self.tls);
        let addresses = Addresses::of(&self.doors);
        Ok(Plan { machine, listener: self.listener, doors: self.doors, addresses })
    }
}

impl<S> fmt::Debug for ServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A server that is described whole.
pub(crate) struct Plan {
    pub(crate) machine: ServerMachine,
    pub(crate) listener: Option<Listener<Event>>,
    pub(crate) doors: Vec<Listening>,
    pub(crate) addresses: Addresses,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) all: Vec<Address>,
    first: Option<SocketAddr>,
}

impl Addresses {
    fn of(doors: &[Listening]) -> Self {
        Self {
            all: doors.iter().filter_map(Listening::address).collect(),
            first: doors.iter().find_map(Listening::socket_address),
        }
    }

    /// The first that is TCP's.
    pub(crate) fn socket(&self) -> SocketAddr {
        self.first.expect("local_addr() of a server that listens on no TCP address: ask for addresses()")
    }
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
