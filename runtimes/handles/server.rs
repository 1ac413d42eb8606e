//! What the servers of all runtimes share.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::task::Waker;

use super::super::std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use super::super::std::{fs, io, process};
use super::Listener;
use crate::Limits;
use crate::runtimes::{Error, seed};
use crate::server::{Config, Event, QueuedJob, Server};

/// Describes a job server. What is wrong with it is said when it starts.
#[must_use]
pub struct ServerBuilder<S> {
    config: Config,
    doors: Vec<SocketAddr>,
    unknown: Option<io::Error>,
    jobs: Vec<QueuedJob>,
    pub(crate) listener: Option<Listener<Event>>,
    builds: PhantomData<fn() -> S>,
}

impl<S> ServerBuilder<S> {
    pub(crate) fn new() -> Self {
        let mut config = Config::new(seed());
        config.process_id = process::id();
        if let Some(host) = host_name() {
            config.handle_prefix = alloc::format!("H:{host}");
        }
        Self { config, doors: Vec::new(), unknown: None, jobs: Vec::new(), listener: None, builds: PhantomData }
    }

    /// Adds an address to listen on, such as `"127.0.0.1:4730"`; port 0 lets the system choose one.
    pub fn listen(mut self, address: impl ToSocketAddrs) -> Self {
        match address.to_socket_addrs() {
            Ok(found) => self.doors.extend(found),
            Err(error) => self.unknown = self.unknown.or(Some(error)),
        }
        self
    }

    /// What it may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Changes anything else of its configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Takes up background jobs that another server had: see [`Server::queued`].
    pub fn restore(mut self, jobs: impl IntoIterator<Item = QueuedJob>) -> Self {
        self.jobs.extend(jobs);
        self
    }

    /// Hears every event, on a thread of the runtime. It must not block for long.
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The machine, the listening sockets and who hears of events.
    pub(crate) fn open(
        self,
        now: crate::Instant,
    ) -> Result<(Server, Vec<TcpListener>, Option<Listener<Event>>), Error> {
        if let Some(error) = self.unknown {
            return Err(Error::io("find the address to listen on")(error));
        }
        let mut machine = Server::new(self.config, now, crate::runtimes::unix_now())?;
        for job in self.jobs {
            machine.restore(job).map_err(|rejected| Error::Refused(rejected.reason))?;
        }
        let doors = self.doors.iter().map(TcpListener::bind).collect::<Result<Vec<_>, _>>();
        Ok((machine, doors.map_err(Error::io("listen"))?, self.listener))
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
