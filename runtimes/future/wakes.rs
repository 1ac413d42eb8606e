//! Which of many sockets or futures of one task have been woken: each has a waker of its own, so that a wake costs the
//! same however many there are.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use crate::runtimes::handles::replace;
use crate::runtimes::sockets::Place;
use crate::runtimes::std::sync::{Mutex, PoisonError};

/// The wakes of one task.
#[derive(Default)]
pub(crate) struct Wakes(Mutex<Woken>);

#[derive(Default)]
struct Woken {
    entries: Vec<Arc<Entry>>,
    /// The task, asleep.
    task: Option<Waker>,
    /// Nobody looks at them any more. They would keep each other alive.
    over: bool,
}

struct Entry {
    place: Place,
    woken: AtomicBool,
    wakes: Arc<Wakes>,
}

impl Wakes {
    /// The waker of one of the task's sockets or futures.
    pub(crate) fn waker(self: &Arc<Self>, place: Place) -> Waker {
        Waker::from(Arc::new(Entry { place, woken: AtomicBool::new(false), wakes: self.clone() }))
    }

    /// Calls `visit` for each place woken since the last time. `spare` is empty before and after.
    pub(crate) fn drain(&self, spare: &mut Spare, mut visit: impl FnMut(Place)) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::swap(&mut woken.entries, &mut spare.0);
        drop(woken);
        for entry in spare.0.drain(..) {
            // A wake that finds it set is this one: what was done before it is to be seen from here on.
            entry.woken.swap(false, Ordering::AcqRel);
            visit(entry.place);
        }
    }

    /// Whether anything has been woken since the last time: then the task has been, too.
    pub(crate) fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.is_empty()
    }

    /// The task goes to sleep until `task` is woken. False: something has been woken since.
    pub(crate) fn rest(&self, task: &Waker) -> bool {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.entries.is_empty() {
            let old = replace(&mut woken.task, task);
            drop((woken, old));
            return true;
        }
        false
    }

    /// The task has ended: nothing that is woken is kept from now on.
    pub(crate) fn end(&self) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        woken.over = true;
        let left = (core::mem::take(&mut woken.entries), woken.task.take());
        drop((woken, left));
    }
}

/// Room for the wakes that are being looked at.
#[derive(Default)]
pub(crate) struct Spare(Vec<Arc<Entry>>);

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            let mut woken = self.wakes.0.lock().unwrap_or_else(PoisonError::into_inner);
            if woken.over {
                return;
            }
            woken.entries.push(self.clone());
            let task = woken.task.take();
            drop(woken);
            task.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_seen_once_and_none_is_lost() {
        let (wakes, mut spare) = (Arc::new(Wakes::default()), Spare::default());
        let wakers: Vec<_> = (0..3).map(|index| wakes.waker(Place::Slot(index))).collect();
        let seen = |spare: &mut Spare| {
            let mut seen = Vec::new();
            wakes.drain(spare, |place| seen.push(place));
            seen
        };
        for waker in [&wakers[2], &wakers[0], &wakers[2]] {
            waker.wake_by_ref();
        }
        assert!(!wakes.rest(Waker::noop()));
        assert_eq!(seen(&mut spare), [Place::Slot(2), Place::Slot(0)]);
        assert!(wakes.rest(Waker::noop()));
        wakers[2].wake_by_ref();
        assert_eq!(seen(&mut spare), [Place::Slot(2)]);
        assert!(seen(&mut spare).is_empty());
    }

    #[test]
    fn nothing_is_kept_of_what_is_woken_when_all_is_over() {
        for before in [true, false] {
            let wakes = Arc::new(Wakes::default());
            let waker = wakes.waker(Place::Slot(0));
            assert!(wakes.rest(Waker::noop()));
            if before {
                waker.wake_by_ref();
            }
            wakes.end();
            waker.wake();
            assert_eq!(Arc::strong_count(&wakes), 1);
        }
    }
}
