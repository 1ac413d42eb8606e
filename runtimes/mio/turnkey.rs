//! A loop that is nothing but the driver's: it owns its poll.
//!
//! It belongs to the thread of `run`. A caller who waits alone would have that thread wake him for each thing that comes, and
//! would wake it for each that is to be sent; so the thread lends him the loop, and he moves the bytes himself. Between two
//! waits the loop lies in the seat: there whoever asks for something sends it himself, and the thread looks in now and then
//! ([`NAP`]) and takes the loop back when the caller has gone. It has it back at once when others wait, too, or when some of
//! the user's code is to be called, which it alone does.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};
use core::time::Duration;

use ::mio::{Events, Token};

use super::alarm::Alarm;
use super::driver::Connector;
use super::{Driver, Stream};
use crate::Instant;
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::hub::Hub;
use crate::runtimes::inbox::Inbox;
use crate::runtimes::listening::Listening;
use crate::runtimes::parked::{Called, own_waker};
use crate::runtimes::std::io::ErrorKind;
use crate::runtimes::std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::runtimes::std::thread;
use crate::runtimes::{Clock, Error};
use crate::time::earlier;

/// Events taken from the poll at once.
const EVENTS: usize = 1024;
/// The tokens of the waker and the alarm; all between are for sockets.
const WAKER: Token = Token(0);
const ALARM: Token = Token(usize::MAX);
/// How often the thread looks in while a caller has the loop; it takes it back after two looks at an idle one.
const NAP: Duration = Duration::from_millis(10);
/// Turns in which but one caller waits, before he is lent the loop.
const ALONE: u32 = 16;
/// Turns that follow one another without a look at what has come, while there is something to be done after each.
const BUSY: u32 = 16;
/// Things asked for one after another without a wait, from which on the thread sends them, many at once.
const IN_A_ROW: u32 = 4;

/// What can be asked of a machine that a loop drives, by any thread.
pub(super) struct Seat<M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    place: Mutex<Place<M, S>>,
    /// The thread that has lent the loop is to look.
    bell: Condvar,
    /// Things that were sent since a caller waited last.
    in_a_row: AtomicU32,
}

/// Where the loop is while nobody has it.
struct Place<M: Driven, S: Sink<M::Event>> {
    turnkey: Option<Box<Loop<M, S>>>,
    /// Callers may take it.
    lent: bool,
    /// The thread is to have it back as soon as it is put down.
    wanted: bool,
    /// Nobody has taken it or put it down since the thread looked last.
    still: bool,
    /// The thread sleeps until it is put down.
    asleep: bool,
    /// When a turn of the loop that lies there is due, and when the thread looks in at the latest.
    due: Instant,
    looks: Instant,
    /// Callers who wait without it.
    parked: Vec<Waker>,
    /// Turns of the thread in which but one of them did.
    alone: u32,
}

impl<M: Driven, S: Sink<M::Event>> Place<M, S> {
    fn put_down(&mut self, mut turnkey: Box<Loop<M, S>>) {
        self.due = turnkey.due();
        self.turnkey = Some(turnkey);
    }

    fn pick_up(&mut self) -> Option<Box<Loop<M, S>>> {
        self.due = Instant::NEVER;
        self.turnkey.take()
    }
}

impl<M: Driven, S: Sink<M::Event>> Seat<M, S> {
    pub(super) fn new(
        machine: M,
        sink: S,
        clock: Clock,
        listener: Option<Listener<M::Event>>,
        connector: Option<Connector>,
    ) -> Result<Self, Error> {
        let hub = Hub::new(machine, sink, clock);
        let turnkey = Some(Box::new(Loop::new(hub.clone(), listener, connector)?));
        let (lent, wanted, still, asleep, parked, alone) = (false, false, false, false, Vec::new(), 0);
        let (due, looks) = (Instant::NEVER, Instant::NEVER);
        let place = Mutex::new(Place { turnkey, lent, wanted, still, asleep, due, looks, parked, alone });
        Ok(Self { hub, place, bell: Condvar::new(), in_a_row: AtomicU32::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Place<M, S>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the machine accept connections from `doors`, and by the inbox that is returned. To be called before it runs.
    pub(super) fn open(&self, doors: Vec<Listening>) -> Result<Arc<Inbox<Stream>>, Error> {
        match &mut self.lock().turnkey {
            Some(turnkey) => {
                doors.into_iter().try_for_each(|door| turnkey.driver.listen_on(door))?;
                Ok(turnkey.inbox.insert(Inbox::new()).clone())
            }
            None => Err(Error::Closed),
        }
    }

    /// Runs the loop here until the machine has closed; where it runs elsewhere, waits for that.
    /// `each` is called after each turn, and says whether it did something.
    pub(super) fn run(&self, mut each: impl FnMut() -> bool) -> Result<(), Error> {
        let mut place = self.lock();
        let turnkey = if place.lent { None } else { place.pick_up() };
        drop(place);
        let Some(mut turnkey) = turnkey else {
            self.wait_for_end();
            return Ok(());
        };
        let mut in_a_row = 0;
        loop {
            let ended = turnkey.turn();
            let called = turnkey.call_user();
            if ended {
                return Ok(());
            }
            let busy = called | each();
            in_a_row = if busy && in_a_row < BUSY { in_a_row + 1 } else { 0 };
            if in_a_row > 0 {
                // What has been done is seen to before there is a look at what has come.
            } else if turnkey.is_due() {
                turnkey.sleep(None)?;
            } else if !busy && self.has_lone_caller() {
                turnkey = self.lend(turnkey);
            } else if !busy && turnkey.rest() {
                turnkey.sleep(None)?;
            }
        }
    }

    /// Whether one caller has been waiting alone for some turns.
    fn has_lone_caller(&self) -> bool {
        let mut place = self.lock();
        match place.parked.len() {
            0 => return false,
            1 => place.alone += 1,
            _ => place.alone = 0,
        }
        place.alone >= ALONE
    }

    /// Lets callers have the loop until they have gone.
    fn lend(&self, turnkey: Box<Loop<M, S>>) -> Box<Loop<M, S>> {
        let mut place = self.lock();
        (place.lent, place.still, place.alone) = (true, false, 0);
        // Who has done something to the machine since the last turn has not found the loop here.
        place.wanted = !turnkey.rest();
        place.put_down(turnkey);
        if !place.wanted {
            place.parked.iter().for_each(Waker::wake_by_ref);
        }
        let clock = self.hub.clock();
        let mut nap_ends = clock.now() + NAP;
        loop {
            place = if place.asleep {
                let away = |place: &mut Place<M, S>| place.turnkey.is_none();
                self.bell.wait_while(place, away).unwrap_or_else(PoisonError::into_inner)
            } else {
                place.looks = nap_ends.min(place.due);
                let most = clock.until(place.looks);
                let theirs =
                    |place: &mut Place<M, S>| (place.turnkey.is_none() || !place.wanted) && place.looks <= place.due;
                self.bell.wait_timeout_while(place, most, theirs).unwrap_or_else(PoisonError::into_inner).0
            };
            let now = clock.now();
            let overdue = place.due <= now;
            let nap_is_over = !overdue && (place.asleep || nap_ends <= now);
            // Who has left something to be done may do something else for long.
            let undone = |turnkey: &Loop<M, S>| turnkey.is_due() || self.hub.is_stirred();
            let neglected = nap_is_over && !place.asleep && place.turnkey.as_deref().is_some_and(undone);
            let was_still = nap_is_over && !neglected && core::mem::replace(&mut place.still, true);
            if (place.wanted || overdue || neglected || was_still)
                && let Some(turnkey) = place.pick_up()
            {
                (place.lent, place.asleep) = (false, false);
                return turnkey;
            }
            if nap_is_over {
                nap_ends = now + NAP;
                place.asleep = was_still;
            }
        }
    }

    /// Takes the loop where it may be taken; else the caller whose `waker` is given is parked.
    fn take(&self, waker: Option<&Waker>) -> Option<Taken<'_, M, S>> {
        let mut place = self.lock();
        let turnkey = if place.lent && !place.wanted { place.pick_up() } else { None };
        if turnkey.is_none() {
            place.parked.extend(waker.cloned());
            return None;
        }
        place.still = false;
        Some(Taken { seat: self, turnkey, wanted: false })
    }

    /// Has what was asked for sent, where no other thread is to do it. To be called after it was asked for.
    pub(super) fn send(&self) {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        if let Some(mut taken) = self.take(None) {
            taken.look_around();
            taken.turn();
            taken.wanted |= in_a_row >= IN_A_ROW;
        }
    }

    /// Waits on this thread until `poll` is ready, whose waker is woken when it may be. `None`: the deadline has passed.
    pub(super) fn wait<T>(&self, deadline: Option<Instant>, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
        self.in_a_row.store(0, Ordering::Relaxed);
        let waker = own_waker();
        loop {
            if let Poll::Ready(found) = poll(&waker) {
                return Some(found);
            }
            if is_past(deadline, self.hub.clock()) {
                return None;
            }
            match self.take(Some(&waker)) {
                Some(mut taken) => {
                    if let Poll::Ready(found) = taken.drive(deadline, || poll(&waker)) {
                        return Some(found);
                    }
                }
                None => {
                    park(deadline, self.hub.clock());
                    self.lock().parked.retain(|other| !other.will_wake(&waker));
                }
            }
        }
    }

    fn wait_for_end(&self) {
        wait(None, self.hub.clock(), |waker| if self.hub.has_ended(waker) { Poll::Ready(()) } else { Poll::Pending });
    }

    /// Closes in order, within a time.
    pub(super) fn drain(&self, within: Duration) -> Result<(), Error> {
        self.hub.drain(within)?;
        self.wait_for_end();
        self.hub.drained()
    }
}

impl<M: Driven, S: Sink<M::Event>> Deref for Seat<M, S> {
    type Target = Arc<Hub<M, S>>;

    fn deref(&self) -> &Self::Target {
        &self.hub
    }
}

/// The loop in the hands of a caller, who puts it down again, come what may.
struct Taken<'a, M: Driven, S: Sink<M::Event>> {
    seat: &'a Seat<M, S>,
    /// Until it is put down.
    turnkey: Option<Box<Loop<M, S>>>,
    /// The thread is to have it then.
    wanted: bool,
}

impl<M: Driven, S: Sink<M::Event>> Taken<'_, M, S> {
    /// False: from here on it is for the thread.
    fn turn(&mut self) -> bool {
        let Some(turnkey) = &mut self.turnkey else { return false };
        self.wanted |= turnkey.turn() || turnkey.owes_a_call();
        !self.wanted
    }

    /// Where a connection has more to be read, others may have something, too.
    fn look_around(&mut self) {
        if let Some(turnkey) = self.turnkey.as_mut().filter(|turnkey| turnkey.is_due()) {
            self.wanted |= turnkey.sleep(None).is_err();
        }
    }

    /// Moves the bytes until `look` is ready. Pending: the deadline has passed, or it is for the thread.
    fn drive<T>(&mut self, deadline: Option<Instant>, mut look: impl FnMut() -> Poll<T>) -> Poll<T> {
        let mut turn = false;
        loop {
            if turn && !self.turn() {
                return Poll::Pending;
            }
            let Some(turnkey) = &mut self.turnkey else { return Poll::Pending };
            // Also before the first turn: something may have come just before the loop was to be had.
            let found = if turn && !turnkey.told { Poll::Pending } else { look() };
            if found.is_ready() || is_past(deadline, self.seat.hub.clock()) {
                return found;
            }
            turn = true;
            if (turnkey.is_due() || turnkey.rest()) && turnkey.sleep(deadline).is_err() {
                // The thread finds the same, and says it.
                self.wanted = true;
                return found;
            }
        }
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Taken<'_, M, S> {
    fn drop(&mut self) {
        let Some(mut turnkey) = self.turnkey.take() else { return };
        let has_written = turnkey.driver.sockets().is_written_out();
        let mut place = self.seat.lock();
        place.put_down(turnkey);
        place.still = false;
        place.wanted |= self.wanted || !has_written || place.due == Instant::EPOCH;
        // Who has done something to the machine since the last turn has not found the loop here.
        place.wanted |= !place.parked.is_empty() || self.seat.hub.is_stirred();
        if place.wanted || place.asleep || place.due < place.looks {
            self.seat.bell.notify_all();
        }
    }
}

struct Loop<M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    poll: ::mio::Poll,
    events: Events,
    driver: Driver,
    waker: Waker,
    alarm: Alarm,
    listener: Option<Listener<M::Event>>,
    heard: Vec<M::Event>,
    inbox: Option<Arc<Inbox<Stream>>>,
    /// When the next turn is due, as the last one said.
    next: Option<Instant>,
    /// Whether there may be something to be found since it.
    told: bool,
}

impl<M: Driven, S: Sink<M::Event>> Loop<M, S> {
    fn new(
        hub: Arc<Hub<M, S>>,
        listener: Option<Listener<M::Event>>,
        connector: Option<Connector>,
    ) -> Result<Self, Error> {
        let poll = ::mio::Poll::new().map_err(Error::io("make a poll"))?;
        let waker = ::mio::Waker::new(poll.registry(), WAKER).map_err(Error::io("make a waker"))?;
        let waker = Waker::from(Arc::new(Awake(waker)));
        let mut driver = Driver::with_clock(poll.registry(), WAKER.0 + 1..ALARM.0, hub.clock())?;
        driver.look_up_on_threads(waker.clone());
        connector.into_iter().for_each(|connector| driver.set_connector(connector));
        let events = Events::with_capacity(EVENTS);
        let (alarm, heard, inbox, next, told) = (Alarm::default(), Vec::new(), None, None, false);
        Ok(Self { hub, poll, events, driver, waker, alarm, listener, heard, inbox, next, told })
    }

    /// Does all that is due, but for the [calls](Self::call_user) of the user's code. Says whether the machine has closed.
    fn turn(&mut self) -> bool {
        if let Some(inbox) = &self.inbox {
            inbox.empty_into(self.driver.sockets());
        }
        let turn = self.hub.turn(self.driver.sockets(), &mut self.heard);
        if self.listener.is_none() {
            self.heard.clear();
        }
        (self.next, self.told) = (turn.next, turn.told);
        turn.ended
    }

    /// Tells the user what is for him, and has him make the connections that are wanted. Says whether there were any: then a
    /// turn is due.
    fn call_user(&mut self) -> bool {
        if !self.owes_a_call() {
            return false;
        }
        let _called = Called::begin();
        if let Some(listener) = &mut self.listener {
            self.heard.drain(..).for_each(listener);
        }
        self.driver.connect_wanted()
    }

    fn owes_a_call(&self) -> bool {
        !self.heard.is_empty() || self.driver.wants_connections()
    }

    /// Whether the next turn is due at once.
    fn is_due(&self) -> bool {
        self.next == Some(Instant::EPOCH)
    }

    /// When it is to have a turn where it lies: not to read on, as whoever had it may be back at once.
    fn due(&mut self) -> Instant {
        match self.next {
            Some(at) if at != Instant::EPOCH || !self.driver.sockets().only_reads() => at,
            _ => Instant::NEVER,
        }
    }

    /// Whether nothing was done to the machine since the last turn; if something is from now on, [`sleep`](Self::sleep) ends.
    fn rest(&self) -> bool {
        self.hub.rest(&self.waker)
    }

    /// Waits for events until the next turn is due, or until `deadline`.
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        let Self { hub, poll, events, driver, alarm, .. } = self;
        let timeout = match earlier(self.next, deadline) {
            Some(at) if at == Instant::EPOCH => Some(Duration::ZERO),
            at => at.and_then(|at| alarm.timeout(at, || hub.clock().until(at), poll.registry(), ALARM)),
        };
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.map_err(Error::io("wait for events"))?,
        }
        for event in &*events {
            if event.token() == ALARM {
                alarm.rung();
            } else if !driver.handle_event(event) {
                driver.sockets().wake_dialling();
            }
        }
        Ok(())
    }
}

impl<M: Driven, S: Sink<M::Event>> Drop for Loop<M, S> {
    fn drop(&mut self) {
        self.hub.abandon();
        self.inbox.iter().for_each(|inbox| inbox.close());
    }
}

struct Awake(::mio::Waker);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when the loop is gone, and then nobody waits for it.
        let _ = self.0.wake();
    }
}

/// Waits on this thread until `poll` is ready, whose waker is woken when it may be. `None`: the deadline has passed.
pub(super) fn wait<T>(deadline: Option<Instant>, clock: Clock, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
    let waker = own_waker();
    loop {
        if let Poll::Ready(found) = poll(&waker) {
            return Some(found);
        }
        if is_past(deadline, clock) {
            return None;
        }
        park(deadline, clock);
    }
}

fn park(deadline: Option<Instant>, clock: Clock) {
    match deadline {
        None => thread::park(),
        Some(at) => thread::park_timeout(clock.until(at)),
    }
}

fn is_past(deadline: Option<Instant>, clock: Clock) -> bool {
    deadline.is_some_and(|at| at <= clock.now())
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::cell::RefCell;
    use core::future::Future;
    use core::pin::pin;
    use core::task::Context;

    use super::*;
    use crate::runtimes::handles::{ClientBuilder, ClientMachine, Post, ServerBuilder};
    use crate::runtimes::hub::wait_for_room;
    use crate::runtimes::std::io::Write;
    use crate::runtimes::std::sync::mpsc;
    use crate::runtimes::std::thread_local;
    use crate::{Input, Job, Machine, Peer};

    #[test]
    fn what_nobody_hears_is_not_kept() {
        let (machine, _, _) =
            ClientBuilder::<crate::runtimes::mio::Client>::new().server("a").machine().expect("it is one");
        let hub = Hub::new(machine, Post::default(), Clock::start());
        let mut turnkey = Loop::new(hub.clone(), None, None).expect("a loop");
        for _ in 0..3 {
            let server = hub.call(|client, _, now| client.add_server("b".parse().expect("an address"), now));
            let removed = hub.call(|client, _, now| client.remove_server(server.expect("new"), false, now));
            assert_eq!((removed.is_ok(), turnkey.turn()), (true, false));
            assert!(turnkey.heard.is_empty() && !turnkey.owes_a_call());
        }
    }

    #[test]
    fn a_lent_loop_that_is_due_is_taken_back_before_the_nap_is_over() {
        let (machine, _, _) =
            ClientBuilder::<crate::runtimes::mio::Client>::new().server("a").machine().expect("it is one");
        let seat = Seat::new(machine, Post::default(), Clock::start(), None, None).expect("a loop");
        let mut turnkey = seat.lock().pick_up().expect("nobody else");
        assert!(!turnkey.turn());
        turnkey.next = Some(seat.hub.clock().now() + Duration::from_nanos(1));
        drop(seat.lend(turnkey));
        assert!(!seat.lock().still, "nobody has looked how still it lies");
    }

    #[test]
    fn a_lent_loop_that_has_something_to_do_is_taken_back_with_the_first_nap() {
        struct Acts(Arc<Hub<ClientMachine, Post>>);

        impl Wake for Acts {
            fn wake(self: Arc<Self>) {
                self.0.call(|_, _, _| ());
            }
        }

        let (machine, _, _) =
            ClientBuilder::<crate::runtimes::mio::Client>::new().server("a").machine().expect("it is one");
        let seat = Seat::new(machine, Post::default(), Clock::start(), None, None).expect("a loop");
        let mut turnkey = seat.lock().pick_up().expect("nobody else");
        assert!(!turnkey.turn());
        // The caller who is woken does something to the machine, and nothing else.
        seat.lock().parked.push(Arc::new(Acts(seat.hub.clone())).into());
        drop(seat.lend(turnkey));
        assert!(!seat.lock().still, "nobody has looked how still it lies");
    }

    #[test]
    fn a_loop_that_has_more_to_read_is_left_to_its_caller_until_the_nap_is_over() {
        let (machine, _, _) =
            ClientBuilder::<crate::runtimes::mio::Client>::new().server("a").machine().expect("it is one");
        let seat = Seat::new(machine, Post::default(), Clock::start(), None, None).expect("a loop");
        let mut turnkey = seat.lock().pick_up().expect("nobody else");
        assert!(!turnkey.turn());
        turnkey.next = Some(Instant::EPOCH);
        let taken = Taken { seat: &seat, turnkey: Some(turnkey), wanted: false };
        drop(taken);
        let turnkey = seat.lock().pick_up().expect("it was put down");
        assert!(!seat.lock().wanted, "whoever had it may be back at once");
        drop(seat.lend(turnkey));
        assert!(!seat.lock().still, "nobody has looked how still it lies");
    }

    /// A client and the other end of its connection.
    fn connected() -> (Seat<ClientMachine, Post>, ::mio::net::UnixStream) {
        let (near, far) = ::mio::net::UnixStream::pair().expect("a pair");
        let mut near = Some(Stream::from(near));
        let builder = ClientBuilder::<crate::runtimes::mio::Client>::new().server("a").exceptions(false);
        let (machine, _, _) = builder.machine().expect("it is one");
        let connector: Connector = Box::new(move |_| near.take().ok_or(ErrorKind::NotFound.into()));
        (Seat::new(machine, Post::default(), Clock::start(), None, Some(connector)).expect("a loop"), far)
    }

    #[test]
    fn who_sends_while_there_is_more_to_read_looks_at_the_other_connections() {
        let (seat, mut far) = connected();
        assert!(seat.hub.call(|client, _, now| client.submit(Job::new("f", "").background(), now)).is_ok());
        let mut turnkey = seat.lock().pick_up().expect("nobody else");
        while turnkey.turn() || turnkey.call_user() || turnkey.is_due() {}
        far.write_all(b"\0RES\0\0\0\x08\0\0\0\x03H:1").expect("written");
        turnkey.next = Some(Instant::EPOCH);
        let mut place = seat.lock();
        place.lent = true;
        place.put_down(turnkey);
        drop(place);
        seat.send();
        assert!(seat.lock().pick_up().is_some_and(|turnkey| turnkey.told), "the job is queued");
    }

    #[test]
    fn whoever_moves_the_bytes_while_he_waits_for_room_hears_that_there_may_be_some() {
        let (seat, _far) = connected();
        let mut turnkey = seat.lock().pick_up().expect("nobody else");
        while turnkey.turn() || turnkey.call_user() || turnkey.is_due() {}
        let mut room = pin!(wait_for_room(&seat.hub, (), |()| Err::<(), ()>(())));
        assert!(room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(!turnkey.turn() && !turnkey.told && turnkey.rest());
        // Another, who has just added a job server.
        seat.hub.make_room();
        assert!(!turnkey.rest(), "a turn is due");
        assert!(!turnkey.turn() && turnkey.told);
        assert!(!turnkey.turn() && !turnkey.told);
    }

    #[test]
    fn what_a_drain_in_vain_left_is_told_though_its_loop_goes_before_all_is_closed() {
        let clock = Clock::start();
        let plan = ServerBuilder::<crate::runtimes::mio::Server>::new(Duration::ZERO).plan(clock).expect("it is one");
        let hub = Hub::new(plan.machine, (), clock);
        let mut turnkey = Loop::new(hub.clone(), None, None).expect("a loop");
        hub.call(|server, (), now| {
            let conn = server.accept(Peer::new("a", true), now).expect("there is room");
            let submit_job = &b"\0REQ\0\0\0\x07\0\0\0\x03f\0\0"[..];
            server.handle(Input::Data(conn, &mut submit_job.into()), now);
        });
        hub.drain(Duration::ZERO).expect("the first");
        assert!(!turnkey.turn(), "it has been closed, and has not said so");
        drop(turnkey);
        assert!(matches!(hub.drained(), Err(Error::Unfinished { jobs: 1 })));
    }

    #[test]
    fn a_loop_whose_socket_is_full_is_for_the_thread() {
        let (seat, _far) = connected();
        let mut send = |size| {
            let job = Job::new("f", vec![b'x'; size]).background();
            assert!(seat.hub.call(|client, _, now| client.submit(job, now)).is_ok());
            let mut turnkey = seat.lock().pick_up().expect("it was put down");
            while turnkey.turn() || turnkey.call_user() || turnkey.is_due() {}
            drop(Taken { seat: &seat, turnkey: Some(turnkey), wanted: false });
            seat.lock().wanted
        };
        assert_eq!([10, 4 << 20].map(&mut send), [false, true]);
    }

    #[test]
    fn a_thread_may_wait_in_what_it_drops_at_its_end() {
        struct Last(mpsc::Sender<Option<u32>>);

        impl Drop for Last {
            fn drop(&mut self) {
                let _ = self.0.send(wait(None, Clock::start(), |_| Poll::Ready(1)));
            }
        }

        thread_local! {
            static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
        }

        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            LAST.set(Some(Last(tell)));
            wait(None, Clock::start(), |_| Poll::Ready(0))
        });
        assert_eq!((thread.join().ok(), told.recv()), (Some(Some(0)), Ok(Some(1))));
    }
}
