//! One machine on blocking sockets, shared by any number of callers.
//!
//! **Threads.** One for the clock, one a connection, one a listener, one that calls the user's function for events where he
//! has given one; for a connection whose peer does not read, one more until it does. None a job. A machine at rest leaves
//! all of them asleep in the kernel.
//!
//! **Lock.** One mutex holds the machine and all that belongs to it; it is never held over a system call on a socket.
//! Who reads lets those who wait for it go first, as a reader of a flood would win it each time.
//! Writing a connection is a role: who has it shares the chunks, unlocks, writes, locks, and goes on until nothing is left.
//! A writer that the peer blocks for [`WRITE_PATIENCE`] passes the role to a thread: nobody stops reading because he writes.
//!
//! **Reading** a connection is a role, too. A caller who waits alone for something of a connection reads it himself, so
//! that no thread has to wake another; while callers do, the connection's own thread only looks in now and then ([`NAP`]),
//! and takes the role back when they have gone.

mod doors;
mod flow;
mod held;
mod state;
mod threads;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::AtomicUsize;
use core::task::Waker;
use core::time::Duration;

use self::doors::Bell;
pub(crate) use self::held::Held;
use self::state::{Core, MILLISECOND};
use super::stream::Stream;
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::listening::{Bound, Listening};
use crate::runtimes::parked::{is_called, own_waker};
use crate::runtimes::std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::runtimes::std::{io, thread, thread_local};
use crate::runtimes::{Clock, Moment, Visitor};
use crate::{Address, ConnId, Instant, Machine};

/// How long a caller is blocked in a write before a thread takes it over.
const WRITE_PATIENCE: Duration = Duration::from_millis(5);
/// How long a caller reads a quiet connection before its thread takes over, in nanoseconds.
const READ_PATIENCE: u64 = 1024 * MILLISECOND;
/// How often a connection's thread looks in while callers read by themselves; the most that a deferred write waits.
const NAP: Duration = Duration::from_millis(10);
/// How long a reader keeps back for those who wait for the lock.
const GIVE_WAY: Duration = Duration::from_millis(1);
/// How long the last handle waits when it is dropped: for what is to be written, then for the threads.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Attempts to connect to one job server that may hang at once.
const MAX_DIALS: usize = 8;
/// Events that wait for a listener which is slow or stuck; later ones are dropped.
const MAX_NOTICES: usize = 4096;

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

/// The user's function that makes connections.
pub(crate) type Connector = Arc<dyn Fn(Address) -> io::Result<Stream> + Send + Sync>;

/// A machine and its driver. Dropping it flushes for a bounded time, closes the machine and ends all threads.
pub(crate) struct Driver<M: Driven, S: Sink<M::Event>>(Arc<Shared<M, S>>);

struct Shared<M: Machine, S> {
    clock: Clock,
    /// What makes the connections instead of this driver.
    connector: Option<Connector>,
    core: Mutex<Core<M, S>>,
    /// Threads that wait for it.
    waiting: AtomicUsize,
    /// There is an earlier time to wake at, or it is the end.
    alarm: Condvar,
    /// There is a notice, or it is the end.
    noticed: Condvar,
    /// A write, a connection or a thread has ended.
    ended: Condvar,
}

type Guard<'a, M, S> = MutexGuard<'a, Core<M, S>>;

thread_local! {
    /// Where what a driver's threads share is, in one of them; else 0.
    static OURS: Cell<usize> = const { Cell::new(0) };
}

impl<M: Driven, S: Sink<M::Event>> Driver<M, S> {
    pub(crate) fn start(
        machine: M,
        sink: S,
        clock: Clock,
        listener: Option<Listener<M::Event>>,
        connector: Option<Connector>,
    ) -> io::Result<Self> {
        let core = Core {
            machine,
            sink,
            links: Vec::new(),
            due: Vec::new(),
            flush_at: Instant::NEVER,
            news: 0,
            scratches: Vec::new(),
            batch: None,
            wakers: Vec::new(),
            strays: Vec::new(),
            room: VecDeque::new(),
            unasked: 0,
            hears: listener.is_some(),
            notices: VecDeque::new(),
            seen: Instant::EPOCH,
            wait: Instant::NEVER,
            alarm: Instant::NEVER,
            doors: Vec::new(),
            shut: false,
            dials: Vec::new(),
            threads: 0,
            ending: false,
            stopped: false,
        };
        let (alarm, noticed, ended) = (Condvar::new(), Condvar::new(), Condvar::new());
        let driver = Self(Arc::new(Shared {
            clock,
            connector,
            core: Mutex::new(core),
            waiting: AtomicUsize::new(0),
            alarm,
            noticed,
            ended,
        }));
        driver.0.spawn("gearwheel-clock", Shared::keep_time)?;
        if let Some(listener) = listener {
            let counted = driver.0.counted();
            driver.0.spawn("gearwheel-event", move |shared| shared.tell(counted, listener))?;
        }
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
    /// will soon be as `lazy` says after the events have been noted. It waits for [`NAP`] at most: then the clock's thread
    /// writes it.
    pub(crate) fn call_lazily<T>(
        &self,
        act: impl FnOnce(&mut M, &mut S, Instant) -> T,
        lazy: impl FnOnce(&S) -> bool,
    ) -> T {
        let mut held = self.hold();
        let (machine, sink, time) = held.parts();
        let result = act(machine, sink, time.now());
        held.settle(lazy);
        result
    }

    /// [`call_lazily`](Self::call_lazily) and [`wait`](Self::wait) in one, for a caller who does one after the other all the
    /// time.
    pub(crate) fn call_and_wait<T>(
        &self,
        act: impl FnOnce(&mut M, &mut S, Instant),
        lazy: impl FnOnce(&S) -> bool,
        look: impl FnMut(&mut M, &mut S, Option<&Waker>, &mut Moment) -> Look<T>,
    ) -> Option<T> {
        let mut held = self.hold();
        let (machine, sink, time) = held.parts();
        act(machine, sink, time.now());
        held.settle_first(lazy).wait(None, look)
    }

    /// Has the machine for itself, to do something to it.
    #[inline(always)]
    pub(crate) fn hold(&self) -> Held<'_, M, S> {
        Held { shared: &self.0, core: self.0.lock(), time: self.0.clock.moment() }
    }

    /// Looks at what there is.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&M, &S) -> T) -> T {
        let core = self.0.lock();
        look(&core.machine, &core.sink)
    }

    /// Waits until `look` finds something, reading the connection itself where it may. `look` is given a waker when that one
    /// is to be woken for what is missing. `None`: the deadline has passed.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut(&mut M, &mut S, Option<&Waker>, &mut Moment) -> Look<T>,
    ) -> Option<T> {
        self.hold().wait(deadline, look)
    }

    /// Makes `attempt` until there is room for `asked`, which comes back as long as there is none; `others_may` says whether
    /// others may come to an end then. Not on a thread of a driver (in the listener, say): there it comes back at once.
    pub(crate) fn wait_for_room<A, T>(
        &self,
        mut asked: A,
        mut attempt: impl FnMut(A) -> Result<T, A>,
        others_may: impl Fn(&M, &A) -> bool,
    ) -> Result<T, A> {
        if is_called() {
            return Err(asked);
        }
        let waker = own_waker();
        loop {
            // Room may come between two looks: so he asks to be woken first.
            self.0.lock().room.push_back(waker.clone());
            let result = attempt(asked);
            let mut core = self.0.lock();
            match result {
                Err(back) => asked = back,
                Ok(taken) => {
                    core.room.retain(|other| !other.will_wake(&waker));
                    core.make_room();
                    drop(self.0.wake(core));
                    return Ok(taken);
                }
            }
            if others_may(&core.machine, &asked) {
                core.ask_next();
            }
            core = self.0.settle(core);
            // What he reads no more, the connections' threads do.
            let conns: Vec<_> = core.links.iter().flatten().map(|link| link.id).collect();
            conns.into_iter().for_each(|conn| core.pass_on(conn, true));
            core = self.0.wake(core);
            // Who was woken meanwhile looks again: what he ran may have slept, too, and taken that for itself.
            let asked_again = !core.room.iter().any(|other| other.will_wake(&waker));
            drop(core);
            if !asked_again {
                thread::park();
            }
            self.0.lock().room.retain(|other| !other.will_wake(&waker));
        }
    }

    /// There may be room for those who wait for some, though nothing was written and nothing has come.
    pub(crate) fn make_room(&self) {
        let mut core = self.0.lock();
        core.make_room();
        drop(self.0.wake(core));
    }

    /// Accepts connections from `listening`.
    pub(crate) fn listen(&self, listening: Listening) -> io::Result<()> {
        match listening.socket() {
            Bound::Tcp(listener) => listener.set_nonblocking(false)?,
            #[cfg(unix)]
            Bound::Unix(listener) => listener.set_nonblocking(false)?,
        }
        let bell = Arc::new(Bell::of(&listening)?);
        let mut core = self.0.lock();
        core.doors.push(Arc::clone(&bell));
        let own = Arc::clone(&bell);
        let spawned = self.0.spawn("gearwheel-listen", move |shared| shared.accept(listening, &own));
        if spawned.is_err() {
            core.doors.retain(|other| !Arc::ptr_eq(other, &bell));
        }
        spawned
    }

    /// Has the machine accept a stream that is connected, or gives it back.
    pub(crate) fn welcome(&self, stream: Stream, visitor: &Visitor) -> Result<(), Stream> {
        self.0.welcome(stream, visitor)
    }

    /// Whether no connection is accepted any more.
    pub(crate) fn is_shut(&self) -> bool {
        self.0.lock().shut
    }

    /// Stops listening. The connections that there are stay.
    pub(crate) fn shut_doors(&self) {
        let mut core = self.0.lock();
        core.shut = true;
        let doors = core.doors.clone();
        drop(core);
        // One that holds somebody for whom there is no room waits for this.
        self.0.ended.notify_all();
        // Nothing else wakes a thread in `accept`.
        doors.iter().for_each(|bell| bell.ring());
        drop(doors);
        drop(self.last_words(self.0.lock(), |core| core.doors.is_empty()));
    }

    /// Waits, for a bounded time, for something that [`Shared::ended`] is told of. Not on a thread of this driver (in its
    /// listener, say), where it could not come.
    fn last_words<'a>(&'a self, core: Guard<'a, M, S>, until: fn(&mut Core<M, S>) -> bool) -> Guard<'a, M, S> {
        let is_ours = OURS.get() == Arc::as_ptr(&self.0).addr();
        let patience = if is_ours { Duration::ZERO } else { LAST_WORDS };
        let result = self.0.ended.wait_timeout_while(core, patience, |core| !until(core));
        result.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Driver<M, S> {
    fn drop(&mut self) {
        self.shut_doors();
        let mut core = self.0.lock();
        core.ending = true;
        core.machine.flush();
        core = self.0.settle(core);
        core = self.last_words(core, |core| core.links.iter().flatten().all(|link| !link.is_being_written()));
        core.machine.close(self.0.clock.now());
        core = self.last_words(self.0.settle(core), |core| core.links.iter().all(Option::is_none));
        core.stopped = true;
        let rest: Vec<_> = core.links.iter().flatten().map(|link| link.id).collect();
        rest.into_iter().for_each(|conn| core.remove(conn));
        self.0.alarm.notify_all();
        self.0.noticed.notify_all();
        core = self.0.wake(core);
        drop(self.last_words(core, |core| core.threads == 0));
    }
}
