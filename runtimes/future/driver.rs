//! The driver: a future that moves a machine's bytes. It holds sockets and a timer, no machine and no lock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, ready};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use super::Hand;
use super::wakes::{Spare, Wakes};
use crate::runtimes::guarded;
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::hub::{Hub, Turn};
use crate::runtimes::inbox::Inbox;
use crate::runtimes::listening::Listening;
use crate::runtimes::sockets::{Net, Place, Sockets};
use crate::runtimes::std::{io, time};
use crate::{Address, ConnId, Instant};

/// Turns in one poll of the driver; then other tasks have theirs.
const TURNS: usize = 16;

/// Which executor's sockets and timers are used. Sealed.
#[expect(private_bounds, reason = "it is sealed")]
pub trait Runtime: Reactor + Net<Given: From<Self::Stream>> {
    /// What its users may give as the bytes of a connection.
    type Stream: Send + 'static;
}

/// The user's function that makes connections.
pub(crate) type Connector<R> = Box<dyn FnMut(Address) -> Making<<R as Runtime>::Stream> + Send>;
pub(crate) type Making<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// Boxes what a user gives to `connect_with`.
pub(crate) fn connector<R: Runtime, S: Into<R::Stream>, F: Future<Output = io::Result<S>> + Send + 'static>(
    mut connect: impl FnMut(Address) -> F + Send + 'static,
) -> Connector<R> {
    Box::new(move |server| {
        let making = connect(server);
        Box::pin(async move { making.await.map(Into::into) })
    })
}

/// Sockets that wake wakers, and a timer.
pub(crate) trait Reactor:
    Net<Wire: Send, Connecting: Send, Listener: Send, Given: Send> + Send + Unpin + 'static
{
    /// How long a server's answers may wait by default: no time where a timer costs what that saves.
    const PATIENCE: Duration;

    fn new(wakes: Arc<Wakes>) -> Self;
    /// Whether whoever polls now may have it do all that it does.
    fn is_here(&self) -> bool {
        true
    }
    /// Wakes the waker of [`Place::Clock`] at `at`, instead of when it was told before.
    fn set_alarm(&mut self, at: time::Instant);
    /// Whether the alarm has gone off; else its waker is waiting for it.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Moves the bytes of one machine. Ends when the machine has closed; dropped before, it closes it at once.
pub(crate) struct Driver<R: Runtime, M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    sockets: Sockets<R>,
    connector: Option<Connector<R>>,
    /// The connections that the user is making.
    making: Vec<(ConnId, Making<R::Stream>)>,
    inbox: Option<Arc<Inbox<R::Stream>>>,
    wakes: Arc<Wakes>,
    spare: Spare,
    listener: Option<Listener<M::Event>>,
    heard: Vec<M::Event>,
    clock_waker: Waker,
    /// How a turn by [`Hand::read`] left things.
    read: Option<Turn>,
    /// As [`Turn::told`] of the last turn.
    told: bool,
    /// What the alarm is set to; earlier than needed does no harm.
    alarm: Option<Instant>,
}

impl<R: Runtime, M: Driven, S: Sink<M::Event>> Driver<R, M, S> {
    pub(crate) fn new(
        hub: Arc<Hub<M, S>>,
        listener: Option<Listener<M::Event>>,
        connector: Option<Connector<R>>,
    ) -> Self {
        let wakes = Arc::new(Wakes::default());
        let mut sockets = Sockets::new(R::new(wakes.clone()), hub.clock());
        if connector.is_some() {
            sockets.entrust();
        }
        Self {
            hub,
            sockets,
            connector,
            making: Vec::new(),
            inbox: None,
            clock_waker: wakes.waker(Place::Clock),
            wakes,
            spare: Spare::default(),
            listener,
            heard: Vec::new(),
            read: None,
            told: false,
            alarm: None,
        }
    }

    /// Accepts connections from `listener`.
    pub(crate) fn listen(&mut self, listener: Listening) -> io::Result<()> {
        self.sockets.listen(listener)
    }

    /// Has the machine accept what comes by the inbox that is returned.
    pub(crate) fn open_inbox(&mut self) -> Arc<Inbox<R::Stream>> {
        self.inbox.insert(Inbox::new()).clone()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub<M, S>> {
        &self.hub
    }

    pub(crate) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    /// Does what is due; `jobs` is told which jobs have been woken. `Ready(true)`: the machine has closed. `Ready(false)`:
    /// there is more to do. `Pending`: [`rest`](Self::rest) may follow.
    pub(crate) fn turn(&mut self, jobs: impl FnMut(usize)) -> Poll<bool> {
        self.note_wakes(jobs);
        if let Some(inbox) = &self.inbox {
            inbox.empty_into(&mut self.sockets);
        }
        let turn = match self.read.take() {
            // Nothing was left to do.
            Some(turn) if self.sockets.deadline() != Some(Instant::EPOCH) && !self.hub.is_stirred() => turn,
            _ => self.hub.turn(&mut self.sockets, &mut self.heard),
        };
        self.told = turn.told;
        let made = self.connector.is_some() && self.make_connections();
        if let Some(listener) = &mut self.listener {
            self.heard.drain(..).for_each(listener);
        }
        self.heard.clear();
        match turn.next {
            _ if turn.ended => Poll::Ready(true),
            _ if made => Poll::Ready(false),
            Some(at) if at == Instant::EPOCH || !self.wait_until(at) => Poll::Ready(false),
            _ => Poll::Pending,
        }
    }

    fn note_wakes(&mut self, mut jobs: impl FnMut(usize)) {
        self.wakes.drain(&mut self.spare, |place| match place {
            Place::Clock => self.alarm = None,
            Place::Job(index) => jobs(index),
            place => self.sockets.wake(place, false),
        });
    }

    /// Polls the user's futures that make connections, with nothing locked; those that nobody waits for any more are
    /// dropped. Says whether one has ended: then a turn is due.
    fn make_connections(&mut self) -> bool {
        let Self { sockets, connector: Some(connector), making, .. } = self else { return false };
        while let Some((conn, server)) = sockets.wanted() {
            match guarded(|| Ok(connector(server))) {
                Ok(future) => making.push((conn, future)),
                Err(error) => making.push((conn, Box::pin(ready(Err(error))))),
            }
        }
        let mut any = false;
        making.retain_mut(|(conn, future)| {
            if !sockets.wants(*conn) {
                return false;
            }
            let waker = sockets.net.waker(Place::Slot(conn.index()));
            let polled = guarded(|| Ok(future.as_mut().poll(&mut Context::from_waker(&waker))));
            let result = match polled {
                Ok(Poll::Pending) => return true,
                Ok(Poll::Ready(result)) => result,
                Err(error) => Err(error),
            };
            sockets.made(*conn, result.map(Into::into));
            any = true;
            false
        });
        any
    }

    /// Goes to sleep until `task` is woken. False: there is more to do.
    pub(crate) fn rest(&self, task: &Waker) -> bool {
        self.wakes.rest(task) && self.hub.rest(task)
    }

    /// Sets the alarm where it would come too late. False: it has come.
    fn wait_until(&mut self, at: Instant) -> bool {
        if self.alarm.is_none_or(|alarm| alarm > at)
            && let Some(time) = self.hub.clock().to_std(at)
        {
            self.alarm = Some(at);
            self.sockets.net.set_alarm(time);
            if self.sockets.net.poll_alarm(&mut Context::from_waker(&self.clock_waker)).is_ready() {
                self.alarm = None;
                return false;
            }
        }
        true
    }
}

impl<R: Runtime, M: Driven, S: Sink<M::Event>> Unpin for Driver<R, M, S> {}

impl<R: Runtime, M: Driven, S: Sink<M::Event>> Future for Driver<R, M, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            match self.turn(|_| ()) {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Pending if self.rest(cx.waker()) => return Poll::Pending,
                // Who waits for what came takes it before more is read: large results would pile up.
                _ if self.told && self.sockets.has_more() => break,
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: Runtime, M: Driven, S: Sink<M::Event>> Hand for Driver<R, M, S> {
    fn is_woken(&self) -> bool {
        self.wakes.any() && self.sockets.net.is_here()
    }

    fn read(&mut self) {
        self.note_wakes(|_| ());
        self.sockets.put_writes_off(true);
        self.read = Some(self.hub.turn(&mut self.sockets, &mut self.heard));
        self.sockets.put_writes_off(false);
    }
}

impl<R: Runtime, M: Driven, S: Sink<M::Event>> Drop for Driver<R, M, S> {
    fn drop(&mut self) {
        self.hub.abandon();
        self.wakes.end();
        self.inbox.iter().for_each(|inbox| inbox.close());
    }
}
