//! One machine on blocking sockets, shared by any number of callers.
//!
//! **Threads.** One for the clock, one a connection, one a listener; for a connection whose peer does not read, one more
//! until it does. None a job. A machine at rest leaves all of them asleep in the kernel.
//!
//! **Lock.** One mutex holds the machine and all that belongs to it; it is never held over a system call on a socket.
//! Writing a connection is a role: who has it shares the chunks, unlocks, writes, locks, and goes on until nothing is left.
//! A writer that the peer blocks for [`WRITE_PATIENCE`] passes the role to a thread: nobody stops reading because he writes.
//!
//! **Reading** a connection is a role, too. A caller who waits alone for something of a connection reads it himself, so
//! that no thread has to wake another; while callers do, the connection's own thread only looks in now and then ([`NAP`]),
//! and takes the role back when they have gone.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::Waker;
use core::time::Duration;

use bytes::Bytes;

use super::super::handles::Listener;
use super::super::std::io::{self, ErrorKind, Read, Write};
use super::super::std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use super::super::std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use super::super::std::{thread, thread_local};
use super::super::{ACCEPT_PAUSE, CHUNKS, Clock, Incoming, SCRATCH};
use super::super::{accept_goes_on, close_reason, connect_reason, peer_name, prepare, resolve, write_chunks};
use crate::time::earlier;
use crate::{Address, CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

/// How long a caller is blocked in a write before a thread takes it over.
const WRITE_PATIENCE: Duration = Duration::from_millis(5);
/// How long a caller reads a quiet connection before its thread takes over, in milliseconds. A power of two.
const READ_PATIENCE: u64 = 1024;
/// How often a connection's thread looks in while callers read by themselves; the most that a deferred write waits.
const NAP: Duration = Duration::from_millis(10);
/// How long the last handle waits when it is dropped: for what is to be written, then for the threads.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Events that wait for a listener which is slow or stuck; later ones are dropped.
const MAX_NOTICES: usize = 4096;

/// Where a machine's events go.
pub(crate) trait Sink<E>: Send + 'static {
    /// Notes an event and whom to wake for it, or gives it back for the listener. Called with all locked.
    fn take(&mut self, event: E, wake: &mut Vec<Waker>) -> Option<E>;
}

/// What a waiting caller finds.
pub(crate) enum Look<T> {
    Found(T),
    Missing(Source),
}

/// Where what a caller waits for will come from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// Only from this connection, or from nobody while there is none.
    Conn(Option<ConnId>),
    /// From the one connection there is.
    Sole,
    /// From any of several.
    Any,
}

/// What this driver can drive.
pub(crate) trait Driven: Machine<Event: Send> + Send + 'static {
    /// Closes it at once.
    fn close(&mut self, now: Instant);
}

/// A machine and its driver. Dropping it flushes for a bounded time, closes the machine and ends all threads.
pub(crate) struct Driver<M: Driven, S: Sink<M::Event>>(Arc<Shared<M, S>>);

struct Shared<M: Machine, S> {
    clock: Clock,
    core: Mutex<Core<M, S>>,
    /// There is an earlier time to wake at, or it is the end.
    alarm: Condvar,
    /// A write, a connection or a thread has ended.
    ended: Condvar,
}

struct Core<M: Machine, S> {
    machine: M,
    sink: S,
    links: Vec<Option<Link>>,
    /// Connections with something to write.
    due: Vec<ConnId>,
    /// Spare room for a writer.
    chunks: Vec<Bytes>,
    wakers: Vec<Waker>,
    /// Callers who wait for no connection that there is.
    strays: Vec<Waker>,
    listener: Option<Listener<M::Event>>,
    /// What it is to hear; bounded by [`MAX_NOTICES`], and empty for ever where no listener is.
    notices: VecDeque<M::Event>,
    hears: bool,
    /// When the machine wants its next tick, and until when the clock's thread sleeps.
    wait: Option<Instant>,
    alarm: Option<Instant>,
    doors: Vec<SocketAddr>,
    /// Threads that will end soon when they are told to: all but those that connect.
    threads: usize,
    stopped: bool,
}

/// One connection, made or being made.
struct Link {
    id: ConnId,
    socket: Option<Arc<TcpStream>>,
    /// Why nothing can be written any more. What the peer has sent before is still read.
    broken: Option<CloseReason>,
    writing: bool,
    /// The reading role: absent while somebody reads.
    reading: Option<Reading>,
    /// Callers who wait for this connection and could read it.
    callers: Vec<Waker>,
    /// No caller has read or waited since the thread looked last.
    quiet: bool,
    napping: bool,
    rouse: Arc<Condvar>,
}

#[derive(Default)]
struct Reading {
    incoming: Incoming,
    /// The socket's read timeout, in milliseconds; 0 for none.
    patience: u64,
}

type Guard<'a, M, S> = MutexGuard<'a, Core<M, S>>;

thread_local! {
    static SCRATCHES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OURS: Cell<bool> = const { Cell::new(false) };
    static PARKED: Waker = Waker::from(Arc::new(Parked(thread::current())));
}

struct Parked(thread::Thread);

impl alloc::task::Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl<M: Driven, S: Sink<M::Event>> Driver<M, S> {
    pub(crate) fn start(machine: M, sink: S, clock: Clock, listener: Option<Listener<M::Event>>) -> io::Result<Self> {
        let core = Core {
            machine,
            sink,
            links: Vec::new(),
            due: Vec::new(),
            chunks: Vec::new(),
            wakers: Vec::new(),
            strays: Vec::new(),
            hears: listener.is_some(),
            listener,
            notices: VecDeque::new(),
            wait: None,
            alarm: None,
            doors: Vec::new(),
            threads: 0,
            stopped: false,
        };
        let (alarm, ended) = (Condvar::new(), Condvar::new());
        let driver = Self(Arc::new(Shared { clock, core: Mutex::new(core), alarm, ended }));
        driver.0.spawn("gearwheel-clock", Shared::keep_time)?;
        driver.call(|_, _, _| ());
        Ok(driver)
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// Does something to the machine, then what the machine wants done.
    pub(crate) fn call<T>(&self, act: impl FnOnce(&mut M, &mut S, Instant) -> T) -> T {
        self.call_lazily(act, |_| false)
    }

    /// Like [`call`](Self::call), but what is to be written may wait for the caller's next [`wait`](Self::wait), where he
    /// will soon be as `lazy` says after the events have been noted. It waits for [`NAP`] at most.
    pub(crate) fn call_lazily<T>(
        &self,
        act: impl FnOnce(&mut M, &mut S, Instant) -> T,
        lazy: impl FnOnce(&S) -> bool,
    ) -> T {
        let shared = &self.0;
        let mut core = shared.lock();
        let Core { machine, sink, .. } = &mut *core;
        let result = act(machine, sink, shared.clock.now());
        shared.poll(&mut core);
        core = shared.wake(core);
        if !core.may_defer() || !lazy(&core.sink) {
            core = shared.flush(core);
        }
        drop(shared.notify(core));
        result
    }

    /// Waits until `look` finds something, reading the connection itself where it may. `look` is given a waker when that one
    /// is to be woken for what is missing. `None`: the deadline has passed.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut M, &mut S, Option<&Waker>) -> Look<T>,
    ) -> Option<T> {
        let shared = &self.0;
        let mut core = shared.lock();
        let (mut from, mut may_read) = (None, true);
        let found = loop {
            let Core { machine, sink, .. } = &mut *core;
            from = match look(machine, sink, None) {
                Look::Found(found) => break Some(found),
                Look::Missing(Source::Conn(conn)) => conn,
                Look::Missing(Source::Sole) => core.sole(),
                Look::Missing(Source::Any) => None,
            };
            let now = shared.clock.now();
            if !core.due.is_empty() {
                core = shared.flush(core);
                continue;
            }
            if core.wait.is_some_and(|at| at <= now) {
                core.machine.handle(Input::Tick, now);
                core = shared.settle(core);
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                break None;
            }
            let patience = patience(earlier(deadline, core.wait), now).filter(|_| may_read);
            if let (Some(conn), Some(patience)) = (from, patience)
                && let Some((socket, reading)) = core.take_role(conn)
            {
                drop(core);
                (core, may_read) = shared.read(conn, &socket, reading, Some(patience));
                continue;
            }
            let Core { machine, sink, .. } = &mut *core;
            if let Look::Found(found) = PARKED.with(|waker| look(machine, sink, Some(waker))) {
                break Some(found);
            }
            core = shared.park(core, from, may_read, deadline);
        };
        if let Some(conn) = from {
            core.pass_on(conn, false);
        }
        drop(shared.notify(shared.wake(core)));
        found
    }

    /// Accepts connections from `listener`.
    pub(crate) fn listen(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.0.lock().doors.push(address);
        self.0.spawn("gearwheel-listen", move |shared| shared.accept(&listener))?;
        Ok(address)
    }

    /// Stops listening. The connections that there are stay.
    pub(crate) fn shut_doors(&self) {
        let doors = core::mem::take(&mut self.0.lock().doors);
        for mut door in doors {
            // Nothing else wakes a thread in `accept`.
            match door.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => door.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => door.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            drop(TcpStream::connect_timeout(&door, LAST_WORDS));
        }
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Driver<M, S> {
    fn drop(&mut self) {
        // On a thread of ours (in the listener, say) nothing can be waited for.
        let ours = OURS.get();
        let wait = |core, until: fn(&mut Core<M, S>) -> bool| {
            let patience = if ours { Duration::ZERO } else { LAST_WORDS };
            let result = self.0.ended.wait_timeout_while(core, patience, |core| !until(core));
            result.unwrap_or_else(PoisonError::into_inner).0
        };
        self.shut_doors();
        let core = self.0.flush(self.0.lock());
        let mut core = wait(core, |core| core.links.iter().flatten().all(|link| !link.writing));
        core.machine.close(self.0.clock.now());
        core = wait(self.0.settle(core), |core| core.links.iter().all(Option::is_none));
        core.stopped = true;
        let rest: Vec<_> = core.links.iter().flatten().map(|link| link.id).collect();
        rest.into_iter().for_each(|conn| core.remove(conn));
        self.0.alarm.notify_all();
        self.0.ended.notify_all();
        drop(wait(core, |core| core.threads == 0));
    }
}

/// Lends the waker that [`Driver::wait`] gives to this thread.
pub(crate) fn with_own_waker<T>(look: impl FnOnce(&Waker) -> T) -> T {
    PARKED.with(look)
}

/// The powers of two are few, so that the socket is seldom told a new one.
fn patience(limit: Option<Instant>, now: Instant) -> Option<u64> {
    let left = limit.map_or(u128::MAX, |at| at.saturating_since(now).as_millis());
    let left = u64::try_from(left).unwrap_or(u64::MAX).min(READ_PATIENCE);
    left.checked_ilog2().map(|bits| 1 << bits)
}

impl<M: Driven, S: Sink<M::Event>> Shared<M, S> {
    fn lock(&self) -> Guard<'_, M, S> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, name: &str, body: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
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

    /// Does what the machine wants done but for writing.
    fn poll(self: &Arc<Self>, core: &mut Core<M, S>) {
        loop {
            match core.machine.poll() {
                Output::Connect { conn, server, within } => {
                    core.admit(conn, None);
                    let dial = move |shared: &Arc<Self>| shared.dial(conn, &server, within);
                    if let Err(error) = self.spawn("gearwheel-conn", dial) {
                        core.end(conn, close_reason(&error), self.clock.now());
                    }
                }
                Output::Transmit(conn) => core.due.push(conn),
                Output::Resume(conn) => core.resume(conn, self.clock.now()),
                Output::Disconnect(conn) => {
                    core.remove(conn);
                    self.ended.notify_all();
                }
                Output::Event(event) => {
                    if let Some(event) = core.sink.take(event, &mut core.wakers)
                        && core.hears
                        && core.notices.len() < MAX_NOTICES
                    {
                        core.notices.push_back(event);
                    }
                }
                Output::Wait(at) => {
                    core.wait = at;
                    if at.is_some_and(|at| core.alarm.is_none_or(|alarm| at < alarm)) {
                        core.alarm = at;
                        self.alarm.notify_one();
                    }
                    return;
                }
            }
        }
    }

    /// Does all that the machine wants done.
    fn settle<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        self.poll(&mut core);
        self.notify(self.flush(self.wake(core)))
    }

    /// Wakes those for whom something has come.
    fn wake<'a>(&'a self, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        if core.wakers.is_empty() {
            return core;
        }
        let wakers = core::mem::take(&mut core.wakers);
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
        self.lock()
    }

    /// Calls the listener: one thread at a time, in the order of the events, with nothing locked.
    fn notify<'a>(&'a self, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        while !core.notices.is_empty()
            && let Some(mut listener) = core.listener.take()
        {
            while let Some(event) = core.notices.pop_front() {
                drop(core);
                listener(event);
                core = self.lock();
            }
            core.listener = Some(listener);
        }
        core
    }

    /// Writes what is to be written.
    fn flush<'a>(self: &'a Arc<Self>, mut core: Guard<'a, M, S>) -> Guard<'a, M, S> {
        while let Some(conn) = core.due.pop() {
            if let Some(link) = core.link(conn)
                && let (false, Some(socket)) = (link.writing, link.socket.clone())
            {
                link.writing = true;
                core = self.write(core, conn, &socket, false);
            }
        }
        core
    }

    /// Writes a connection until nothing is left, then gives the role of its writer back, unless a thread takes it over.
    fn write<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a, M, S>,
        conn: ConnId,
        socket: &Arc<TcpStream>,
        patient: bool,
    ) -> Guard<'a, M, S> {
        loop {
            let mut chunks = core::mem::take(&mut core.chunks);
            core.machine.outgoing(conn).share(CHUNKS, &mut chunks);
            let empty = chunks.is_empty();
            let mut result = Ok(0);
            if !empty {
                drop(core);
                let slices = chunks.iter().map(|chunk| &chunk[..]);
                result = write_chunks(slices, |slices| (&**socket).write_vectored(slices));
                chunks.clear();
                core = self.lock();
            }
            core.chunks = chunks;
            let Some(link) = core.link(conn) else { return core };
            match result {
                _ if empty => {
                    link.writing = false;
                    self.ended.notify_all();
                    return core;
                }
                Ok(taken) => {
                    core.machine.outgoing(conn).advance(taken);
                    self.poll(&mut core);
                }
                Err(error) if is_timeout(&error) && patient => {}
                Err(error) if is_timeout(&error) => {
                    let socket = Arc::clone(socket);
                    if let Err(error) = self.spawn("gearwheel-write", move |shared| shared.go_on(conn, &socket)) {
                        core.break_off(conn, close_reason(&error));
                    }
                    return core;
                }
                Err(error) => {
                    core.break_off(conn, close_reason(&error));
                    return core;
                }
            }
        }
    }

    /// The thread that has the role of a blocked writer.
    fn go_on(self: &Arc<Self>, conn: ConnId, socket: &Arc<TcpStream>) {
        let _counted = self.counted();
        // Where that fails it is only woken more often.
        let _ = socket.set_write_timeout(Some(LAST_WORDS));
        let core = self.write(self.lock(), conn, socket, true);
        let _ = socket.set_write_timeout(Some(WRITE_PATIENCE));
        drop(self.settle(core));
    }

    /// Reads once with the role of the reader, which is given back. A caller has a limit to his `patience`; false when it
    /// has come to its end: sleeping is for the connection's thread.
    fn read<'a>(
        self: &'a Arc<Self>,
        conn: ConnId,
        socket: &TcpStream,
        mut reading: Reading,
        patience: Option<u64>,
    ) -> (Guard<'a, M, S>, bool) {
        let result = reading.read(socket, patience);
        let mut core = self.lock();
        let now = self.clock.now();
        let Core { machine, links, .. } = &mut *core;
        let Some(link) = find(links, conn) else { return (core, true) };
        let mut awake = true;
        match result {
            Ok(0) => core.end(conn, CloseReason::Ended, now),
            Ok(_) => {
                machine.handle(Input::Data(conn, &mut reading.incoming.bytes), now);
                reading.incoming.settle();
                link.reading = Some(reading);
            }
            Err(error) if is_timeout(&error) => {
                link.reading = Some(reading);
                awake = false;
            }
            Err(error) => core.end(conn, close_reason(&error), now),
        }
        self.poll(&mut core);
        if patience.is_none() || !awake {
            core.pass_on(conn, !awake);
        }
        (self.notify(self.flush(self.wake(core))), awake)
    }

    /// Sleeps until something has come, the role of the reader is offered, or the deadline passes.
    fn park<'a>(
        &'a self,
        mut core: Guard<'a, M, S>,
        from: Option<ConnId>,
        may_read: bool,
        deadline: Option<Instant>,
    ) -> Guard<'a, M, S> {
        PARKED.with(|waker| {
            match from {
                None => core.strays.push(waker.clone()),
                Some(conn) if may_read => {
                    core.link(conn).into_iter().for_each(|link| {
                        link.quiet = false;
                        link.callers.push(waker.clone());
                    });
                }
                Some(_) => {}
            }
            drop(core);
            match deadline {
                None => thread::park(),
                Some(deadline) => thread::park_timeout(self.clock.until(deadline)),
            }
            core = self.lock();
            let list = match from.map(|conn| core.link(conn)) {
                None => Some(&mut core.strays),
                Some(link) => link.map(|link| &mut link.callers),
            };
            list.into_iter().for_each(|list| list.retain(|other| !other.will_wake(waker)));
            core
        })
    }

    /// The clock's thread.
    fn keep_time(self: &Arc<Self>) {
        let _counted = self.counted();
        let mut core = self.lock();
        while !core.stopped {
            let now = self.clock.now();
            if core.wait.is_some_and(|at| at <= now) {
                core.machine.handle(Input::Tick, now);
                core = self.settle(core);
                continue;
            }
            core.alarm = core.wait;
            core = match core.wait {
                None => self.alarm.wait(core).unwrap_or_else(PoisonError::into_inner),
                Some(at) => sleep(&self.alarm, core, self.clock.until(at)),
            };
        }
    }

    /// The thread of a connection that is to be made: it becomes the connection's.
    fn dial(self: &Arc<Self>, conn: ConnId, server: &Address, within: Duration) {
        let result = self.connect(conn, server, within);
        let mut core = self.lock();
        let now = self.clock.now();
        match (core.link(conn), result) {
            (None, _) => return,
            (Some(_), Err(reason)) => core.end(conn, reason, now),
            (Some(link), Ok(socket)) => {
                link.socket = Some(Arc::new(socket));
                core.machine.handle(Input::Connected(conn), now);
                let strays = core::mem::take(&mut core.strays);
                core.wakers.extend(strays);
                core.pass_on(conn, false);
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
    fn serve(self: &Arc<Self>, conn: ConnId) {
        let _counted = self.counted();
        let mut core = self.lock();
        loop {
            let wants_read = core.machine.wants_read(conn);
            let Some(link) = core.link(conn) else { return };
            let rouse = Arc::clone(&link.rouse);
            if !wants_read && link.reading.is_some() {
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
            core.link(conn).into_iter().for_each(|link| (link.quiet, link.napping) = (true, true));
            core = sleep(&rouse, core, NAP);
            core.link(conn).into_iter().for_each(|link| link.napping = false);
            core = self.flush(core);
        }
    }

    /// The thread of a listener.
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let _counted = self.counted();
        loop {
            let accepted = listener.accept();
            let mut core = self.lock();
            if core.doors.is_empty() {
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
                Err(_) => {
                    drop(core);
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}

struct Counted<M: Driven, S: Sink<M::Event>>(Arc<Shared<M, S>>);

impl<M: Driven, S: Sink<M::Event>> Drop for Counted<M, S> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.ended.notify_all();
    }
}

impl<M: Machine, S> Core<M, S> {
    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        find(&mut self.links, conn)
    }

    fn sole(&self) -> Option<ConnId> {
        let mut all = self.links.iter().flatten();
        all.next().filter(|_| all.next().is_none()).map(|link| link.id)
    }

    /// Whether each connection that has something to write will be looked at soon.
    fn may_defer(&self) -> bool {
        let napping =
            |conn: &ConnId| self.links.get(conn.index()).and_then(Option::as_ref).is_some_and(|link| link.napping);
        self.due.iter().all(napping)
    }

    fn take_role(&mut self, conn: ConnId) -> Option<(Arc<TcpStream>, Reading)> {
        if !self.machine.wants_read(conn) {
            return None;
        }
        let link = self.link(conn)?;
        let socket = link.socket.clone()?;
        link.quiet = false;
        Some((socket, link.reading.take()?))
    }

    /// The role of the reader is free: the caller who waits alone takes it, else the connection's thread, when the callers
    /// are many, have gone, or `sleep`.
    fn pass_on(&mut self, conn: ConnId, sleep: bool) {
        let Some(link) = find(&mut self.links, conn).filter(|link| link.reading.is_some()) else { return };
        match &link.callers[..] {
            [only] => self.wakers.push(only.clone()),
            [] if !sleep => {}
            _ => {
                link.quiet = true;
                link.rouse.notify_one();
            }
        }
    }

    fn admit(&mut self, conn: ConnId, socket: Option<Arc<TcpStream>>) {
        let index = conn.index();
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        if let Some(place) = self.links.get_mut(index) {
            *place = Some(Link {
                id: conn,
                socket,
                broken: None,
                writing: false,
                reading: Some(Reading::default()),
                callers: Vec::new(),
                quiet: true,
                napping: false,
                rouse: Arc::default(),
            });
        }
    }

    /// Reading goes on with what was left of the last time.
    fn resume(&mut self, conn: ConnId, now: Instant) {
        let Some(link) = find(&mut self.links, conn) else { return };
        link.rouse.notify_one();
        if let Some(reading) = &mut link.reading {
            self.machine.handle(Input::Data(conn, &mut reading.incoming.bytes), now);
            reading.incoming.settle();
        }
        self.pass_on(conn, false);
    }

    /// Nothing can be written any more: the reader finds the end once he has read what the peer has sent before.
    fn break_off(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(link) = self.link(conn) {
            link.broken = Some(reason);
            link.socket.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
        }
    }

    /// The connection has ended, or was not made.
    fn end(&mut self, conn: ConnId, reason: CloseReason, now: Instant) {
        if let Some(link) = self.link(conn) {
            let reason = link.broken.take().unwrap_or(reason);
            self.remove(conn);
            self.machine.handle(Input::Closed(conn, reason), now);
        }
    }

    /// Forgets a connection. Whoever reads it, writes it or waits for it finds out.
    fn remove(&mut self, conn: ConnId) {
        if let Some(place) = self.links.get_mut(conn.index())
            && let Some(link) = place.take_if(|link| link.id == conn)
        {
            link.socket.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
            link.rouse.notify_all();
            self.wakers.extend(link.callers);
        }
    }
}

impl Reading {
    fn read(&mut self, socket: &TcpStream, patience: Option<u64>) -> io::Result<usize> {
        let fits = match patience {
            None => self.patience == 0,
            Some(patience) => (patience.div_ceil(4)..=patience).contains(&self.patience),
        };
        if !fits {
            socket.set_read_timeout(patience.map(Duration::from_millis))?;
            self.patience = patience.unwrap_or(0);
        }
        SCRATCHES.with_borrow_mut(|scratch| {
            if scratch.is_empty() {
                *scratch = vec![0; SCRATCH];
            }
            self.incoming.read(scratch, |into| (&*socket).read(into))
        })
    }
}

fn find(links: &mut [Option<Link>], conn: ConnId) -> Option<&mut Link> {
    links.get_mut(conn.index())?.as_mut().filter(|link| link.id == conn)
}

fn sleep<'a, T>(on: &Condvar, guard: MutexGuard<'a, T>, most: Duration) -> MutexGuard<'a, T> {
    on.wait_timeout(guard, most).unwrap_or_else(PoisonError::into_inner).0
}

fn open(socket: TcpStream) -> io::Result<TcpStream> {
    prepare(&socket)?;
    socket.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(socket)
}

/// Whether a socket's read or write timeout has passed.
fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || (cfg!(windows) && error.kind() == ErrorKind::TimedOut)
}
