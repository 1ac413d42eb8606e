//! The threads of a driver: the clock's, a connection's, a listener's, a blocked writer's.

use alloc::sync::Arc;
use core::time::Duration;

use super::{Driven, LAST_WORDS, NAP, OURS, Shared, Sink, WRITE_PATIENCE};
use crate::runtimes::std::io;
use crate::runtimes::std::net::{TcpListener, TcpStream};
use crate::runtimes::std::sync::{Condvar, MutexGuard, PoisonError};
use crate::runtimes::std::thread;
use crate::runtimes::{ACCEPT_PAUSE, accept_goes_on, close_reason, connect_reason, peer_name, prepare, resolve};
use crate::time::earlier;
use crate::{Address, CloseReason, ConnId, Input, Peer};

impl<M: Driven, S: Sink<M::Event>> Shared<M, S> {
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        let run = move || {
            OURS.set(true);
            body(&shared);
        };
        thread::Builder::new().name(name.into()).spawn(run).map(drop)
    }

    /// Counts the thread that calls it until the value is dropped.
    fn counted(self: &Arc<Self>) -> Counted<M, S> {
        self.lock().threads += 1;
        Counted(Arc::clone(self))
    }
    /// The clock's thread.
    pub(super) fn keep_time(self: &Arc<Self>) {
        let _counted = self.counted();
        let mut core = self.lock();
        while !core.stopped {
            let now = self.clock.now();
            if core.wait.is_some_and(|at| at <= now) {
                core.machine.handle(Input::Tick, now);
                core = self.settle(core);
                continue;
            }
            if core.flush_at.is_some_and(|at| at <= now) {
                core = self.notify(self.flush(core));
                continue;
            }
            // A time that was asked for holds though its reason is gone by now: the next such reason then wakes nobody.
            if core.alarm.is_none_or(|alarm| alarm <= now) {
                core.alarm = earlier(core.wait, core.flush_at);
            }
            core = match core.alarm {
                None => self.alarm.wait(core).unwrap_or_else(PoisonError::into_inner),
                Some(at) => sleep(&self.alarm, core, self.clock.until(at)),
            };
        }
    }

    /// The thread of a connection that is to be made: it becomes the connection's.
    pub(super) fn dial(self: &Arc<Self>, conn: ConnId, server: &Address, within: Duration) {
        let result = self.connect(conn, server, within);
        let mut core = self.lock();
        let now = self.clock.now();
        match (core.link(conn), result) {
            (None, _) => return,
            (Some(_), Err(reason)) => core.end(conn, reason, now),
            (Some(link), Ok(socket)) => {
                link.socket = Some(Arc::new(socket));
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

    fn connect(&self, conn: ConnId, server: &Address, within: Duration) -> Result<TcpStream, CloseReason> {
        let until = self.clock.now() + within;
        let addresses = resolve(server)?;
        let mut reason = CloseReason::ConnectTimeout;
        for (tried, address) in (0..).zip(&addresses) {
            let left = until.saturating_since(self.clock.now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            if share.is_zero() || self.lock().link(conn).is_none() {
                break;
            }
            match TcpStream::connect_timeout(address, share).and_then(open) {
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
            let rouse = Arc::clone(&link.rouse);
            if !wants_read && link.reading.is_some() && link.broken.is_none() {
                core = rouse.wait(core).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let own = link.callers.len() > 1 || link.callers.is_empty() && link.quiet;
            if own && let Some((socket, reading)) = core.take_role(conn) {
                core.link(conn).into_iter().for_each(|link| link.quiet = true);
                drop(core);
                core = self.read(conn, &socket, reading, None).0;
                continue;
            }
            core.link(conn).into_iter().for_each(|link| link.quiet = true);
            core = sleep(&rouse, core, NAP);
        }
    }

    /// The thread of a listener.
    pub(super) fn accept(self: &Arc<Self>, listener: TcpListener) {
        let _counted = self.counted();
        loop {
            let accepted = listener.accept();
            let mut core = self.lock();
            if core.shut {
                drop(listener);
                core.doors.pop();
                self.ended.notify_all();
                return;
            }
            match accepted.and_then(|(socket, from)| Ok((open(socket)?, from))) {
                Ok((socket, from)) => {
                    let (name, loopback) = peer_name(from);
                    let now = self.clock.now();
                    if let Some(conn) = core.machine.accept(Peer::new(&name, loopback), now) {
                        core.admit(conn, Some(Arc::new(socket)));
                        if let Err(error) = self.spawn("gearwheel-conn", move |shared| shared.serve(conn)) {
                            core.end(conn, close_reason(&error), now);
                        }
                    }
                    drop(self.settle(core));
                }
                Err(error) if accept_goes_on(&error) => {}
                // No descriptor is free. This condition is told of every connection that ends.
                Err(_) => drop(sleep(&self.ended, core, ACCEPT_PAUSE)),
            }
        }
    }

    /// The thread that has the role of a blocked writer.
    pub(super) fn go_on(self: &Arc<Self>, conn: ConnId, socket: &Arc<TcpStream>) {
        let _counted = self.counted();
        // Where that fails it is only woken more often.
        let _ = socket.set_write_timeout(Some(LAST_WORDS));
        let core = self.write(self.lock(), conn, socket, true);
        let _ = socket.set_write_timeout(Some(WRITE_PATIENCE));
        drop(self.settle(core));
    }
}

struct Counted<M: Driven, S: Sink<M::Event>>(Arc<Shared<M, S>>);

impl<M: Driven, S: Sink<M::Event>> Drop for Counted<M, S> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.ended.notify_all();
    }
}
fn sleep<'a, T>(on: &Condvar, guard: MutexGuard<'a, T>, most: Duration) -> MutexGuard<'a, T> {
    on.wait_timeout(guard, most).unwrap_or_else(PoisonError::into_inner).0
}

fn open(socket: TcpStream) -> io::Result<TcpStream> {
    prepare(&socket)?;
    socket.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(socket)
}
