//! A loop that is nothing but the driver's: it owns its poll.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::ops::Deref;
use core::task::{Poll, Waker};
use core::time::Duration;

use ::mio::{Events, Token};

use super::driver::Connector;
use super::{Driver, Stream};
use crate::Instant;
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::hub::Hub;
use crate::runtimes::inbox::Inbox;
use crate::runtimes::listening::Listening;
use crate::runtimes::std::io::ErrorKind;
use crate::runtimes::std::sync::{Mutex, PoisonError};
use crate::runtimes::std::thread;
use crate::runtimes::{Clock, Error};

/// Events taken from the poll at once.
const EVENTS: usize = 1024;
/// The token of the waker; all above are for sockets.
const WAKER: Token = Token(0);

/// What can be asked of a machine that a loop drives, by any thread.
pub(super) struct Seat<M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    /// Until it runs.
    turnkey: Mutex<Option<Loop<M, S>>>,
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
        let turnkey = Loop::new(hub.clone(), listener, connector)?;
        Ok(Self { hub, turnkey: Mutex::new(Some(turnkey)) })
    }

    /// Has the machine accept connections from `doors`, and by the inbox that is returned. To be called before it runs.
    pub(super) fn open(&self, doors: Vec<Listening>) -> Result<Arc<Inbox<Stream>>, Error> {
        match &mut *self.turnkey.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(turnkey) => {
                doors.into_iter().try_for_each(|door| turnkey.driver.listen_on(door))?;
                Ok(turnkey.inbox.insert(Inbox::new()).clone())
            }
            None => Err(Error::Closed),
        }
    }

    /// Runs the loop here until the machine has closed; where it runs elsewhere, waits for that.
    /// `each` is called after each turn, and says whether it did something.
    pub(super) fn run(&self, each: impl FnMut() -> bool) -> Result<(), Error> {
        let turnkey = self.turnkey.lock().unwrap_or_else(PoisonError::into_inner).take();
        match turnkey {
            Some(turnkey) => turnkey.run(each),
            None => {
                self.wait_for_end();
                Ok(())
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

struct Loop<M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    poll: ::mio::Poll,
    driver: Driver,
    waker: Waker,
    listener: Option<Listener<M::Event>>,
    inbox: Option<Arc<Inbox<Stream>>>,
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
        let mut driver = Driver::with_clock(poll.registry(), WAKER.0 + 1..usize::MAX, hub.clock())?;
        driver.look_up_on_threads(waker.clone());
        connector.into_iter().for_each(|connector| driver.set_connector(connector));
        Ok(Self { hub, poll, driver, waker, listener, inbox: None })
    }

    fn run(mut self, mut each: impl FnMut() -> bool) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS);
        let mut heard = Vec::new();
        loop {
            if let Some(inbox) = &self.inbox {
                inbox.empty_into(self.driver.sockets());
            }
            let turn = self.hub.turn(self.driver.sockets(), &mut heard);
            if let Some(listener) = &mut self.listener {
                heard.drain(..).for_each(listener);
            }
            heard.clear();
            if turn.ended {
                return Ok(());
            }
            let busy = self.driver.connect_wanted() | each();
            let timeout = match turn.next {
                Some(at) if at == Instant::EPOCH => Some(Duration::ZERO),
                _ if busy || !self.hub.rest(&self.waker) => continue,
                next => next.map(|at| self.hub.clock().until(at)),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.map_err(Error::io("wait for events"))?,
            }
            for event in &events {
                if !self.driver.handle_event(event) {
                    self.driver.sockets().wake_dialling();
                }
            }
        }
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

struct Parked(thread::Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread until `poll` is ready, whose waker is woken when it may be. `None`: the deadline has passed.
pub(super) fn wait<T>(deadline: Option<Instant>, clock: Clock, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    loop {
        if let Poll::Ready(found) = poll(&waker) {
            return Some(found);
        }
        match deadline.map(|at| clock.until(at)) {
            None => thread::park(),
            Some(left) if left.is_zero() => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}
