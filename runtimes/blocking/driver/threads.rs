//! The threads of a driver: the clock's, a connection's, a blocked writer's, that of the user's function.

use alloc::sync::Arc;
use core::time::Duration;

use super::super::stream::Stream;
use super::{Driven, LAST_WORDS, MAX_DIALS, NAP, OURS, Shared, Sink, WRITE_PATIENCE};
use crate::runtimes::at_path;
use crate::runtimes::handles::Listener;
#[cfg(not(unix))]
use crate::runtimes::no_unix_sockets;
#[cfg(unix)]
use crate::runtimes::parked::Called;
use crate::runtimes::std::io;
use crate::runtimes::std::net::TcpStream;
#[cfg(unix)]
use crate::runtimes::std::os::unix::net::UnixStream;
use crate::runtimes::std::sync::{Condvar, MutexGuard, PoisonError};
use crate::runtimes::std::thread;
use crate::runtimes::{connect_reason, guarded, made_reason, resolve};
use crate::{Address, CloseReason, ConnId, Input, Instant};

impl<M: Driven, S: Sink<M::Event>> Shared<M, S> {
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        let run = move || {
            let _called = Called::begin();
            OURS.set(Arc::as_ptr(&shared).addr());
            body(&shared);
        };
        thread::Builder::new().name(name.into()).spawn(run).map(drop)
    }

    /// Counts the thread that calls it until the value is dropped.
    pub(super) fn counted(self: &Arc<Self>) -> Counted<M, S> {
        self.lock().threads += 1;
        Counted(Arc::clone(self))
    }
    /// The clock's thread.
    pub(super) fn keep_time(self: &Arc<Self>) {
        let _counted = self.counted();
        let mut core = self.lock();
        while !core.stopped {
            let now = self.clock.now();
            if core.wait <= now {
                core.machine.handle(Input::Tick, now);
                core = self.settle(core);
                continue;
            }
            if core.flush_at <= now {
                // Another may have written it, in the middle of a round of his that had begun before.
                core.flush_at = Instant::NEVER;
                if core.machine.gathers_until() <= now {
                    core.machine.handle(Input::Tick, now);
                }
                core = self.settle(core);
                continue;
            }
            // A time that was asked for holds though its reason is gone by now: the next such reason then wakes nobody.
            if core.alarm == Instant::NEVER || core.alarm <= now {
                core.alarm = core.wait.min(core.flush_at);
            }
            core = match core.alarm {
                Instant::NEVER => self.alarm.wait(core).unwrap_or_else(PoisonError::into_inner),
                at => sleep(&self.alarm, core, self.clock.until(at)),
            };
        }
    }

    /// The thread that calls the user's function: one event after another, with nothing locked. No other does, as that function
    /// may wait, also for what the others bring.
    pub(super) fn tell(self: &Arc<Self>, _counted: Counted<M, S>, mut listener: Listener<M::Event>) {
        let _hearing = Hearing(self);
        let mut core = self.lock();
        loop {
            if let Some(event) = core.notices.pop_front() {
                drop(core);
                listener(event);
                core = self.lock();
            } else if core.stopped {
                return;
            } else {
                core = self.noticed.wait(core).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// The thread of a connection that is to be made: it becomes the connection's.
    pub(super) fn dial(self: &Arc<Self>, conn: ConnId, server: &Address, within: Duration) {
        let result = self.connect(conn, server, within);
        let mut core = self.lock();
        let now = self.clock.now();
        core.seen = now;
        match (core.link(conn), result) {
            (None, _) => return,
            (Some(_), Err(reason)) => core.end(conn, reason, now),
            (Some(_), Ok(socket)) => {
                core.open(conn, socket);
                // Who waited for it may want to read it.
                let strays = core::mem::take(&mut core.strays);
                if let Some(link) = core.link(conn) {
                    link.quiet = strays.is_empty() && link.callers.is_empty();
                }
                core.wakers.extend(strays);
                core.pass_on(conn, false);
                core.machine.handle(Input::Connected(conn), now);
            }
        }
        drop(self.settle(core));
        self.serve(conn);
    }

    fn connect(&self, conn: ConnId, server: &Address, within: Duration) -> Result<Stream, CloseReason> {
        let _dialling = Dialling::begin(self, server)?;
        if let Some(connector) = &self.connector {
            return guarded(|| connector(server.clone())).and_then(open).map_err(|error| made_reason(&error));
        }
        match server.unix_path() {
            Some(path) => connect_unix(path).and_then(open).map_err(|error| connect_reason(&error)),
            None => self.connect_tcp(conn, server, within),
        }
    }

    fn connect_tcp(&self, conn: ConnId, server: &Address, within: Duration) -> Result<Stream, CloseReason> {
        let until = self.clock.now() + within;
        let addresses = resolve(server)?;
        let mut reason = CloseReason::ConnectTimeout;
        for (tried, address) in (0..).zip(&addresses) {
            let left = until.saturating_since(self.clock.now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            if share.is_zero() || self.lock().link(conn).is_none() {
                break;
            }
            match TcpStream::connect_timeout(address, share).and_then(|stream| open(stream.into())) {
                Ok(socket) => return Ok(socket),
                Err(error) => reason = connect_reason(&error),
            }
        }
        Err(reason)
    }

    /// The thread of a connection.
    pub(super) fn serve(self: &Arc<Self>, conn: ConnId) {
        let _counted = self.counted();
        let mut core = self.lock();
        loop {
            let wants_read = core.machine.wants_read(conn);
            let Some(link) = core.link(conn) else { return };
            link.roused = false;
            let rouse = Arc::clone(&link.rouse);
            if !wants_read && link.reader.is_some() {
                core = rouse.wait(core).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let own = link.callers.len() > 1 || link.callers.is_empty() && link.quiet;
            if own {
                let read;
                (core, read) = self.read_for_thread(core, conn);
                if read {
                    continue;
                }
            }
            core.link(conn).into_iter().for_each(|link| link.quiet = true);
            core.seen = self.clock.now();
            core = sleep(&rouse, core, NAP);
        }
    }

    /// The thread that has the role of a blocked writer.
    pub(super) fn go_on(self: &Arc<Self>, conn: ConnId, socket: Arc<Stream>) {
        let _counted = self.counted();
        // Where that fails it is only woken more often.
        let _ = socket.set_write_timeout(Some(LAST_WORDS));
        let core = self.write(self.lock(), conn, Arc::clone(&socket), true);
        let _ = socket.set_write_timeout(Some(WRITE_PATIENCE));
        drop(self.settle(core));
    }
}

pub(super) struct Counted<M: Driven, S: Sink<M::Event>>(Arc<Shared<M, S>>);

impl<M: Driven, S: Sink<M::Event>> Drop for Counted<M, S> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.ended.notify_all();
    }
}

/// Somebody hears what is told. At its end, should that be a panic, nothing is kept for him any more.
struct Hearing<'a, M: Driven, S: Sink<M::Event>>(&'a Shared<M, S>);

impl<M: Driven, S: Sink<M::Event>> Drop for Hearing<'_, M, S> {
    fn drop(&mut self) {
        let mut core = self.0.lock();
        core.hears = false;
        core.notices.clear();
    }
}

pub(super) fn sleep<'a, T>(on: &Condvar, guard: MutexGuard<'a, T>, most: Duration) -> MutexGuard<'a, T> {
    on.wait_timeout(guard, most).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(unix)]
fn connect_unix(path: &str) -> io::Result<Stream> {
    Ok(at_path(path, |path| UnixStream::connect(path))?.into())
}

#[cfg(not(unix))]
fn connect_unix(_: &str) -> io::Result<Stream> {
    Err(no_unix_sockets())
}

/// How a stream is set up, whoever made it.
pub(super) fn open(stream: Stream) -> io::Result<Stream> {
    stream.prepare()?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(stream)
}

/// A thread that connects, and may hang: in the user's function, or at a Unix socket whose server accepts nobody. The
/// machine gives such an attempt up, the thread cannot; so they are counted, or each attempt would leave another.
struct Dialling<'a, M: Driven, S: Sink<M::Event>>(&'a Shared<M, S>, &'a Address);

impl<'a, M: Driven, S: Sink<M::Event>> Dialling<'a, M, S> {
    fn begin(shared: &'a Shared<M, S>, server: &'a Address) -> Result<Self, CloseReason> {
        let mut core = shared.lock();
        if core.dials.iter().filter(|other| *other == server).count() >= MAX_DIALS {
            return Err(CloseReason::Failed("earlier attempts to connect have not come to an end".into()));
        }
        core.dials.push(server.clone());
        Ok(Self(shared, server))
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Dialling<'_, M, S> {
    fn drop(&mut self) {
        let mut core = self.0.lock();
        if let Some(at) = core.dials.iter().position(|other| other == self.1) {
            core.dials.swap_remove(at);
        }
    }
}
