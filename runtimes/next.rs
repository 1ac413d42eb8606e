//! How those who run jobs reach a worker behind a [`Hub`], and wait for its jobs.

use alloc::sync::Arc;
use core::task::{Poll, Waker};

use super::handles::{Desk, Port, Task, Ticket, WorkerMachine};
use super::hub::Hub;
use super::std::sync::{Mutex, PoisonError};
use crate::Instant;
use crate::worker::Worker;

impl Port for Hub<WorkerMachine, Desk> {
    fn act(&self, act: &mut dyn FnMut(&mut Worker, &mut Desk, Instant) -> bool) {
        self.call(|worker, desk, now| {
            let may_wait = act(worker, desk, now);
            desk.note(may_wait);
        });
    }

    fn look(&self, look: &mut dyn FnMut(&Desk)) {
        Self::look(self, |_, desk| look(desk));
    }
}

/// One who waits for a job. When he goes without one that he was woken for, the next is woken.
pub(crate) struct Waiting<'a>(&'a Arc<Hub<WorkerMachine, Desk>>, Mutex<Option<Ticket>>);

impl<'a> Waiting<'a> {
    pub(crate) fn new(hub: &'a Arc<Hub<WorkerMachine, Desk>>) -> Self {
        Self(hub, Mutex::new(None))
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Option<Task>> {
        let mut own = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old = None;
        let found = self.0.look(|_, desk| {
            old = own.take().and_then(|own| desk.came(own));
            match desk.take() {
                Some(taken) => Poll::Ready(Some((taken, desk.summon()))),
                None if desk.closed => Poll::Ready(None),
                None => {
                    *own = Some(desk.wait(waker.clone()));
                    Poll::Pending
                }
            }
        });
        found.map(|found| {
            found.map(|(assignment, next)| {
                next.into_iter().for_each(Waker::wake);
                Task::new(assignment, self.0.clone(), self.0.clock().now())
            })
        })
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
