//! The driver: a future that moves a machine's bytes. It holds sockets and a timer, no machine and no lock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::wakes::{Spare, Wakes};
use crate::Instant;
use crate::runtimes::handles::{Driven, Listener, Sink};
use crate::runtimes::hub::Hub;
use crate::runtimes::sockets::{Net, Place, Sockets};
use crate::runtimes::std::net::TcpListener;
use crate::runtimes::std::{io, time};

/// Turns in one poll of the driver; then other tasks have theirs.
pub(super) const TURNS: usize = 16;

/// Which executor's sockets and timers are used. Sealed.
#[expect(private_bounds, reason = "it is sealed")]
pub trait Runtime: Reactor {}

/// Sockets that wake wakers, and a timer.
pub(crate) trait Reactor: Net<Stream: Send, Connecting: Send, Listener: Send> + Send + Unpin + 'static {
    fn new(wakes: Arc<Wakes>) -> Self;
    /// Wakes the waker of [`Place::Clock`] at `at`, instead of when it was told before.
    fn set_alarm(&mut self, at: time::Instant);
    /// Whether the alarm has gone off; else its waker is waiting for it.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Moves the bytes of one machine. Ends when the machine has closed; dropped before, it closes it at once.
pub(crate) struct Driver<R: Reactor, M: Driven, S: Sink<M::Event>> {
    hub: Arc<Hub<M, S>>,
    sockets: Sockets<R>,
    wakes: Arc<Wakes>,
    spare: Spare,
    listener: Option<Listener<M::Event>>,
    heard: Vec<M::Event>,
    clock_waker: Waker,
    /// What the alarm is set to; earlier than needed does no harm.
    alarm: Option<Instant>,
}

impl<R: Reactor, M: Driven, S: Sink<M::Event>> Driver<R, M, S> {
    pub(crate) fn new(hub: Arc<Hub<M, S>>, listener: Option<Listener<M::Event>>) -> Self {
        let wakes = Arc::new(Wakes::default());
        let clock = hub.clock();
        Self {
            hub,
            sockets: Sockets::new(R::new(wakes.clone()), clock),
            clock_waker: wakes.waker(Place::Clock),
            wakes,
            spare: Spare::default(),
            listener,
            heard: Vec::new(),
            alarm: None,
        }
    }

    /// Accepts connections from a non-blocking `listener`.
    pub(crate) fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        self.sockets.listen(listener)
    }

    pub(crate) fn hub(&self) -> &Arc<Hub<M, S>> {
        &self.hub
    }

    pub(crate) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    /// Does what is due; `jobs` is told which jobs have been woken. `Ready(true)`: the machine has closed. `Ready(false)`:
    /// there is more to do. `Pending`: [`rest`](Self::rest) may follow.
    pub(crate) fn turn(&mut self, mut jobs: impl FnMut(usize)) -> Poll<bool> {
        self.wakes.drain(&mut self.spare, |place| match place {
            Place::Clock => self.alarm = None,
            Place::Job(index) => jobs(index),
            place => self.sockets.wake(place, false),
        });
        let turn = self.hub.turn(&mut self.sockets, &mut self.heard);
        if let Some(listener) = &mut self.listener {
            self.heard.drain(..).for_each(listener);
        }
        self.heard.clear();
        match turn.next {
            _ if turn.ended => Poll::Ready(true),
            Some(at) if at == Instant::EPOCH || !self.wait_until(at) => Poll::Ready(false),
            _ => Poll::Pending,
        }
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

impl<R: Reactor, M: Driven, S: Sink<M::Event>> Unpin for Driver<R, M, S> {}

impl<R: Reactor, M: Driven, S: Sink<M::Event>> Future for Driver<R, M, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            match self.turn(|_| ()) {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Pending if self.rest(cx.waker()) => return Poll::Pending,
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: Reactor, M: Driven, S: Sink<M::Event>> Drop for Driver<R, M, S> {
    fn drop(&mut self) {
        self.hub.abandon();
    }
}
