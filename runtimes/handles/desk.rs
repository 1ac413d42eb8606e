//! Where a worker's jobs wait for somebody to run them, and somebody for jobs.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::Waker;
use core::time::Duration;

use crate::Instant;
use crate::worker::{Assignment, Event, Gone, TaskId};

/// A job done so fast leaves its result to be written with those of the jobs that wait here already.
const QUICK: Duration = Duration::from_millis(1);
/// So many jobs are done so fast, one after another, before the next is taken for quick, too, by a thread that has to see to
/// the sockets as well.
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
const IN_A_ROW: u32 = 16;

/// What is to be done after something was said to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing: it was not taken.
    Nothing,
    /// It is to be written.
    Now,
    /// It is to be written, but may wait until the jobs have been run that wait on the [`Desk`].
    Later,
}

/// One who waits at a [`Desk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Where jobs wait for somebody to run them, and somebody for jobs.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    tasks: VecDeque<Assignment>,
    waiting: Vec<(Ticket, Waker)>,
    /// Who was woken for a job and has not come yet. One at a time: whoever comes has the next one woken, and of quick jobs
    /// most are done by then.
    summoned: Option<Ticket>,
    tickets: u64,
    /// Jobs in hand that are no longer this worker's.
    gone: Vec<(TaskId, Gone)>,
    /// How many jobs, one after another, were done so fast that their results might wait for others.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    quick: u32,
    pub(crate) closed: bool,
    pub(crate) draining: bool,
    /// Whom to wake when the worker has closed.
    pub(crate) drainer: Option<Waker>,
}

impl Desk {
    /// Whether a job waits to be run.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// The next job to run, and whether it is this worker's no longer.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn take_to_run(&mut self) -> Option<(Assignment, bool)> {
        let assignment = self.take()?;
        let gone = self.is_gone(assignment.task);
        Some((assignment, gone))
    }

    /// Something has been said of a job, which may wait for what comes next or not.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn note(&mut self, may_wait: bool) {
        self.quick = if may_wait { self.quick.saturating_add(1) } else { 0 };
    }

    /// Whether the results of the last jobs may wait for those of the next.
    #[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn may_put_off(&self) -> bool {
        self.quick >= IN_A_ROW
    }

    /// The next job to run. Then [`summon`](Self::summon) says whom to wake for the one behind it.
    pub(crate) fn take(&mut self) -> Option<Assignment> {
        self.tasks.pop_front()
    }

    /// Has somebody wait for a job, to be woken by `waker`.
    pub(crate) fn wait(&mut self, waker: Waker) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.push((ticket, waker));
        ticket
    }

    /// Who has waited is here again, or gives up; then [`summon`](Self::summon) says who is to come instead. Returns his waker,
    /// which is to be dropped with nothing locked.
    pub(crate) fn came(&mut self, ticket: Ticket) -> Option<Waker> {
        self.summoned.take_if(|summoned| *summoned == ticket);
        let at = self.waiting.iter().position(|(other, _)| *other == ticket)?;
        Some(self.waiting.remove(at).1)
    }

    /// Whom to wake for a job that waits.
    #[inline]
    pub(crate) fn summon(&mut self) -> Option<Waker> {
        if self.tasks.is_empty() || self.summoned.is_some() {
            return None;
        }
        self.summon_one()
    }

    /// Whether somebody was woken and has not come yet.
    #[cfg(feature = "blocking")]
    pub(crate) fn awaits_one(&self) -> bool {
        self.summoned.is_some()
    }

    #[cold]
    fn summon_one(&mut self) -> Option<Waker> {
        let (ticket, waker) = self.waiting.pop()?;
        self.summoned = Some(ticket);
        Some(waker)
    }

    /// Whether a job in hand is no longer this worker's.
    pub(crate) fn is_gone(&self, task: TaskId) -> bool {
        self.why_gone(task).is_some()
    }

    /// Why it is not.
    pub(crate) fn why_gone(&self, task: TaskId) -> Option<&Gone> {
        self.gone.iter().find(|(gone, _)| *gone == task).map(|(_, reason)| reason)
    }

    /// A job has been answered that was taken so long ago.
    pub(crate) fn ended(&mut self, task: TaskId, since: Instant, now: Instant) -> Sending {
        if !self.gone.is_empty() {
            self.gone.retain(|(gone, _)| *gone != task);
        }
        if now.saturating_since(since) < QUICK { Sending::Later } else { Sending::Now }
    }

    /// Puts an event of the worker where it belongs, and tells whom to wake; for jobs [`summon`](Self::summon) does. One that
    /// belongs to no one job comes back.
    pub(crate) fn deliver(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        match event {
            Event::Assigned(assignment) => self.tasks.push_back(assignment),
            Event::Gone { task, reason } => self.gone.push((task, reason)),
            Event::Closed => {
                self.closed = true;
                wake.extend(self.waiting.drain(..).map(|(_, waker)| waker));
                wake.extend(self.drainer.take());
                return Some(Event::Closed);
            }
            other => return Some(other),
        }
        None
    }
}

#[cfg(all(test, any(feature = "mio", feature = "smol", feature = "tokio")))]
mod tests {
    use super::*;

    #[test]
    fn a_result_may_wait_after_many_quick_ones_and_no_other() {
        let mut desk = Desk::default();
        for _ in 0..3 {
            for _ in 0..IN_A_ROW {
                assert!(!desk.may_put_off());
                desk.note(true);
            }
            assert!(desk.may_put_off());
            desk.note(false);
            assert!(!desk.may_put_off());
        }
    }
}
