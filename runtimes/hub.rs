//! A machine between its handles, on any thread, and the one driver that moves its bytes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::ops::Deref;
use core::task::{Poll, Waker};
use core::time::Duration;

use super::future::Helm;
use super::handles::{Driven, Sink, replace};
use super::sockets::{Net, Sockets};
use super::std::sync::{Mutex, MutexGuard, PoisonError};
use super::{Clock, Error};
use crate::time::earlier;
use crate::{Instant, Machine, Output};

/// How long a client whose last handle is gone may still write.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Turns in a row that may leave reading and writing to the next.
const PUT_OFF: u32 = 24;

/// A machine and what belongs to it. The lock is never held across an `await` or a call of the user's code, but
/// for what moves the bytes of a stream of his.
pub(crate) struct Hub<M: Machine, S> {
    clock: Clock,
    state: Mutex<State<M, S>>,
    helm: Arc<Helm>,
}

struct State<M, S> {
    machine: M,
    sink: S,
    /// Whom to wake so that the driver takes a turn; `None` while it takes one.
    driver: Option<Waker>,
    /// Something was done to the machine since the driver's last turn began.
    stirred: bool,
    /// Turns that have left reading and writing to the next, since one has not.
    put_off: u32,
    /// Those who wait for room, by their tickets, and those who wait for the end.
    room: BTreeMap<u64, Waker>,
    tickets: u64,
    /// Somebody has said that there may be room: whoever moves the bytes while he waits for it is to look, too.
    roomy: bool,
    end: Vec<Waker>,
    wakers: Vec<Waker>,
    /// When it is to be closed, come what may.
    deadline: Option<Instant>,
    draining: bool,
    /// No connection is accepted any more.
    shut: bool,
    /// No handle is left.
    orphan: bool,
    /// Jobs that were left when the deadline came, or the driver went.
    unfinished: usize,
    ended: bool,
}

/// A machine, locked. When this is dropped its driver is woken, for something is done to it.
pub(crate) struct Hold<'a, M, S> {
    // Before the other, and so dropped before it.
    state: MutexGuard<'a, State<M, S>>,
    due: Due,
    was_stirred: bool,
}

impl<M, S> Hold<'_, M, S> {
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut M, &mut S) {
        let State { machine, sink, .. } = &mut *self.state;
        (machine, sink)
    }

    /// For one who has done nothing to it after all: those who wait until they can would else keep the driver and each other
    /// awake.
    #[cold]
    pub(crate) fn leave(mut self) {
        (self.state.driver, self.state.stirred) = (self.due.0.take(), self.was_stirred);
    }
}

/// Who is to be woken at the end.
struct Due(Option<Waker>);

impl Drop for Due {
    #[inline]
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }
}

/// How a turn left things.
pub(crate) struct Turn {
    /// When the next is due, if nothing wakes before: [`Instant::EPOCH`] at once.
    pub(crate) next: Option<Instant>,
    /// The machine has closed.
    pub(crate) ended: bool,
    /// The machine had something to tell, or somebody waits for room: before, whoever looked for it need not look again.
    pub(crate) told: bool,
}

impl<M: Driven, S: Sink<M::Event>> Hub<M, S> {
    pub(crate) fn new(machine: M, sink: S, clock: Clock) -> Arc<Self> {
        let state = State {
            machine,
            sink,
            driver: None,
            stirred: false,
            put_off: 0,
            room: BTreeMap::new(),
            tickets: 0,
            roomy: false,
            end: Vec::new(),
            wakers: Vec::new(),
            deadline: None,
            draining: false,
            shut: false,
            orphan: false,
            unfinished: 0,
            ended: false,
        };
        Arc::new(Self { clock, state: Mutex::new(state), helm: Arc::default() })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn helm(&self) -> &Arc<Helm> {
        &self.helm
    }

    fn lock(&self) -> MutexGuard<'_, State<M, S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the machine, and has the driver do what follows.
    pub(crate) fn call<T>(&self, act: impl FnOnce(&mut M, &mut S, Instant) -> T) -> T {
        let (mut hold, now) = self.hold();
        let (machine, sink) = hold.parts();
        act(machine, sink, now)
    }

    /// For one who does something to the machine, at the time that is returned.
    #[inline]
    pub(crate) fn hold(&self) -> (Hold<'_, M, S>, Instant) {
        let now = self.clock.now();
        let mut state = self.lock();
        let was_stirred = core::mem::replace(&mut state.stirred, true);
        let due = Due(state.driver.take());
        (Hold { state, due, was_stirred }, now)
    }

    /// Whether something was done to the machine since the driver's last turn began.
    pub(crate) fn is_stirred(&self) -> bool {
        self.lock().stirred
    }

    /// Looks at things. The driver only has something to do where the machine says so.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut M, &mut S) -> T) -> T {
        let mut state = self.lock();
        let State { machine, sink, .. } = &mut *state;
        let result = look(machine, sink);
        if machine.has_output() {
            state.stirred = true;
            let driver = state.driver.take();
            drop(state);
            driver.into_iter().for_each(Waker::wake);
        }
        result
    }

    /// Wakes `waker` when something has come or was written, which may have made room. Returns the one before of the same
    /// ticket, which is to be dropped with nothing locked.
    fn wait_for_room(&self, ticket: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let mut state = self.lock();
        let ticket = *ticket.get_or_insert(state.tickets);
        state.tickets = state.tickets.max(ticket + 1);
        state.room.insert(ticket, waker.clone())
    }

    /// Who has waited for room waits no more. Returns what [`wait_for_room`](Self::wait_for_room) does.
    fn leave_room(&self, ticket: u64) -> Option<Waker> {
        self.lock().room.remove(&ticket)
    }

    /// There may be room for those who wait for some, though nothing was written and nothing has come.
    pub(crate) fn make_room(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.room.is_empty() {
            // One of them may move the bytes meanwhile, and look only after a turn that has told him to.
            (state.roomy, state.stirred) = (true, true);
            state.wakers.extend(state.driver.take());
        }
        self.wake(guard, true);
    }

    /// Whether the machine has closed; else wakes `waker` when it has.
    pub(crate) fn has_ended(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.ended {
            add(&mut state.end, waker);
        }
        state.ended
    }

    /// Begins to close in order, for `within` at most.
    pub(crate) fn drain(&self, within: Duration) -> Result<(), Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        if core::mem::replace(&mut state.draining, true) {
            return Err(Error::Draining);
        }
        state.deadline = earlier(state.deadline, Some(now + within));
        state.shut = true;
        drop(state);
        self.call(|machine, _, now| machine.drain(now));
        Ok(())
    }

    /// Closes it at once.
    pub(crate) fn close(&self) {
        self.lock().shut = true;
        self.call(|machine, _, now| machine.close(now));
    }

    /// Whether no connection is accepted any more.
    pub(crate) fn is_shut(&self) -> bool {
        let state = self.lock();
        state.shut || state.ended
    }

    /// How the drain went, once the machine has closed.
    pub(crate) fn drained(&self) -> Result<(), Error> {
        match self.lock().unfinished {
            0 => Ok(()),
            jobs => Err(Error::Unfinished { jobs }),
        }
    }

    /// Lets `sockets` do all that is due, and puts the events where they belong; those for the user's listener into `heard`.
    pub(crate) fn turn<N: Net>(&self, sockets: &mut Sockets<N>, heard: &mut Vec<M::Event>) -> Turn {
        let mut guard = self.lock();
        let state = &mut *guard;
        (state.driver, state.stirred) = (None, false);
        let Heard { told, put_off } = state.hear(sockets, heard);
        state.put_off = if put_off { state.put_off + 1 } else { 0 };
        if state.shut {
            sockets.shut_doors();
        }
        if state.orphan && state.deadline.is_some() && sockets.is_flushed() {
            state.deadline = Some(Instant::EPOCH);
        }
        if let Some(at) = state.deadline
            && at <= self.clock.now()
        {
            state.deadline = None;
            state.unfinished = state.machine.unfinished();
            state.machine.close(self.clock.now());
            state.stirred = true;
        }
        let next =
            if state.stirred || put_off { Some(Instant::EPOCH) } else { earlier(sockets.deadline(), state.deadline) };
        let made_room = sockets.has_written() | told;
        let roomy = core::mem::take(&mut state.roomy);
        let (ended, told) = (state.ended, told || roomy || made_room && !state.room.is_empty());
        self.wake(guard, made_room);
        Turn { next, ended, told }
    }

    /// The driver goes to sleep until `waker` is woken. False: there is more to do.
    pub(crate) fn rest(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.stirred {
            return false;
        }
        let old = replace(&mut state.driver, waker);
        drop((state, old));
        true
    }

    /// The driver is gone: everything ends.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        if !state.ended {
            // Where the deadline has just come there are none any more.
            state.unfinished = state.unfinished.max(state.machine.unfinished());
        }
        let State { machine, sink, wakers, .. } = &mut *state;
        machine.close(self.clock.now());
        loop {
            match machine.poll() {
                Output::Event(event) => drop(sink.take(event, wakers)),
                Output::Wait(_) => break,
                _ => {}
            }
        }
        state.ended = true;
        self.wake(state, true);
    }

    /// Wakes all who wait for something that may have come, without the lock.
    fn wake(&self, mut state: MutexGuard<'_, State<M, S>>, made_room: bool) {
        let State { sink, wakers, room, end, ended, .. } = &mut *state;
        wakers.extend(sink.summon());
        if made_room {
            wakers.extend(core::mem::take(room).into_values());
        }
        if *ended {
            wakers.append(end);
        }
        if wakers.len() <= 1 {
            let one = wakers.pop();
            drop(state);
            return one.into_iter().for_each(Waker::wake);
        }
        let wakers = core::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn orphan(&self) {
        let (mut hold, now) = self.hold();
        let state = &mut *hold.state;
        state.orphan = true;
        state.deadline = earlier(state.deadline, Some(now + LAST_WORDS));
        // No turn between may find that all has been written.
        state.machine.flush();
    }
}

/// What became of a turn.
struct Heard {
    /// The machine had something to tell.
    told: bool,
    /// Reading and writing are left to the next turn.
    put_off: bool,
}

impl<M: Driven, S: Sink<M::Event>> State<M, S> {
    fn hear<N: Net>(&mut self, sockets: &mut Sockets<N>, heard: &mut Vec<M::Event>) -> Heard {
        let Self { machine, sink, wakers, .. } = self;
        let (mut told, mut put_off) = (false, false);
        let mut first = self.put_off < PUT_OFF && sink.may_put_off();
        if !first {
            sockets.begin(machine);
        }
        loop {
            let output = machine.poll();
            if let Output::Event(event) = &output {
                (told, put_off) = (true, first);
                self.ended |= M::is_last(event);
                self.shut |= M::shuts_doors(event);
            }
            // What is looked at above is moved but once here, which is much of what an event costs.
            match output {
                Output::Event(event) => {
                    if let Some(event) = sink.take(event, wakers) {
                        heard.push(event);
                    }
                }
                output => {
                    if sockets.obey(output, machine) {
                        continue;
                    }
                    if first && !put_off {
                        first = false;
                        sockets.begin(machine);
                    } else if put_off || !sockets.step(machine) {
                        return Heard { told, put_off };
                    }
                }
            }
        }
    }
}

/// Makes `attempt` until it takes what is `asked`, whenever there may be room for it.
pub(crate) async fn wait_for_room<M: Driven, S: Sink<M::Event>, A, T>(
    hub: &Hub<M, S>,
    asked: A,
    mut attempt: impl FnMut(A) -> Result<T, A>,
) -> T {
    let (mut asked, mut room) = (Some(asked), Room { hub, ticket: None });
    poll_fn(move |cx| {
        // Asks to be woken first: room may come between two looks.
        for waiting in [false, true] {
            let Some(next) = asked.take() else { return Poll::Pending };
            match attempt(next) {
                Ok(taken) => return Poll::Ready(taken),
                Err(back) => asked = Some(back),
            }
            if !waiting {
                room.wait(cx.waker());
            }
        }
        Poll::Pending
    })
    .await
}

/// Who waits for room, until this is dropped.
struct Room<'a, M: Driven, S: Sink<M::Event>> {
    hub: &'a Hub<M, S>,
    ticket: Option<u64>,
}

impl<M: Driven, S: Sink<M::Event>> Room<'_, M, S> {
    fn wait(&mut self, waker: &Waker) {
        drop(self.hub.wait_for_room(&mut self.ticket, waker));
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Room<'_, M, S> {
    fn drop(&mut self) {
        drop(self.ticket.and_then(|ticket| self.hub.leave_room(ticket)));
    }
}

/// What the handles hold of a machine that closes when the last of them is dropped.
pub(crate) struct Owner<M: Driven, S: Sink<M::Event>>(pub(crate) Arc<Hub<M, S>>);

impl<M: Driven, S: Sink<M::Event>> Deref for Owner<M, S> {
    type Target = Arc<Hub<M, S>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Owner<M, S> {
    fn drop(&mut self) {
        self.0.orphan();
    }
}

fn add(list: &mut Vec<Waker>, waker: &Waker) {
    if !list.iter().any(|other| other.will_wake(waker)) {
        list.push(waker.clone());
    }
}
