//! How those who run jobs reach a worker behind a [`Hub`], and wait for its jobs.

use alloc::sync::Arc;
#[cfg(any(feature = "blocking", feature = "mio"))]
use core::future::Future;
#[cfg(any(feature = "blocking", feature = "mio"))]
use core::pin::pin;
#[cfg(any(feature = "blocking", feature = "mio"))]
use core::task::Context;
use core::task::{Poll, Waker};

use super::handles::{Desk, Port, Sending, Task, Ticket, WorkerMachine};
use super::hub::Hub;
#[cfg(any(feature = "blocking", feature = "mio"))]
use super::hub::wait_for_room;
#[cfg(any(feature = "blocking", feature = "mio"))]
use super::parked::{is_called, own_waker};
use super::std::sync::{Mutex, PoisonError};
#[cfg(any(feature = "blocking", feature = "mio"))]
use super::std::thread;
use crate::Instant;
use crate::worker::{Assignment, Worker};

impl Port for Hub<WorkerMachine, Desk> {
    fn act(&self, act: &mut dyn FnMut(&mut Worker, &mut Desk, Instant) -> Sending) {
        let (mut hold, now) = self.hold();
        let (worker, desk) = hold.parts();
        match act(worker, desk, now) {
            Sending::Nothing => hold.leave(),
            due => desk.note(due == Sending::Later),
        }
    }

    fn look(&self, look: &mut dyn FnMut(&Desk)) {
        Self::look(self, |_, desk| look(desk));
    }

    #[cfg(any(feature = "blocking", feature = "mio"))]
    fn wait_for_room(&self, attempt: &mut dyn FnMut() -> bool) {
        if is_called() {
            return;
        }
        let mut room = pin!(wait_for_room(self, (), |()| attempt().then_some(()).ok_or(())));
        let waker = own_waker();
        while room.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            thread::park();
        }
    }

    #[cfg(any(feature = "smol", feature = "tokio"))]
    fn hub(&self) -> Option<&Self> {
        Some(self)
    }
}

/// One who waits for a job. When he goes without one that he was woken for, the next is woken.
pub(crate) struct Waiting<'a>(&'a Arc<Hub<WorkerMachine, Desk>>, Mutex<Option<Ticket>>);

impl<'a> Waiting<'a> {
    pub(crate) fn new(hub: &'a Arc<Hub<WorkerMachine, Desk>>) -> Self {
        Self(hub, Mutex::new(None))
    }

    pub(crate) fn poll<W: Default>(&self, waker: &Waker) -> Poll<Option<Task<W>>> {
        loop {
            let Poll::Ready(found) = self.look_for_one(waker) else { return Poll::Pending };
            let Some((assignment, gone)) = found else { return Poll::Ready(None) };
            let task = Task::new(assignment, self.0.clone(), self.0.clock().now());
            // One that was taken away before anybody began it is let go.
            if !gone {
                return Poll::Ready(Some(task));
            }
        }
    }

    fn look_for_one(&self, waker: &Waker) -> Poll<Option<(Assignment, bool)>> {
        let mut own = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut old, mut next) = (None, None);
        let found = self.0.look(|_, desk| {
            old = own.take().and_then(|own| desk.came(own));
            if let Some(taken) = desk.take_to_run() {
                next = desk.summon();
                return Poll::Ready(Some(taken));
            }
            if desk.closed {
                return Poll::Ready(None);
            }
            *own = Some(desk.wait(waker.clone()));
            Poll::Pending
        });
        next.into_iter().for_each(Waker::wake);
        found
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let own = self.1.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(own) = own else { return };
        let (_old, next) = self.0.look(|_, desk| (desk.came(own), desk.summon()));
        next.into_iter().for_each(Waker::wake);
    }
}
