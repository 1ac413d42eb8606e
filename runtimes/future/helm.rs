//! Who moves the bytes of a client: the future of its `run`, and in between those who wait in the same task.
//!
//! A task that has been woken for a socket polls, often, first those who wait for what came, then the future that brings it:
//! by then they have been polled, and the task must wake itself, which costs some executors as much as a sleep. So they read
//! for themselves. What is to be written they leave to `run`, whose poll is due: whatever the task has to say by then leaves
//! in one write.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::runtimes::handles::replace;
use crate::runtimes::std::sync::{Mutex, MutexGuard, PoisonError};

/// Reads between two polls of `run`, which writes and lets others in its task have their turns.
const READS: usize = 16;

/// A driver, whatever its runtime is.
pub(crate) trait Hand: Future<Output = ()> + Send + Unpin {
    /// Whether a socket or a timer has been woken since the last turn, and may be seen to here: then its task has been
    /// woken, too.
    fn is_woken(&self) -> bool;

    /// Reads what has come. The rest of a turn is left to the next poll, which must be due.
    fn read(&mut self);
}

/// Where the driver is while nobody has it.
#[derive(Default)]
pub(crate) struct Helm(Mutex<Place>);

#[derive(Default)]
struct Place {
    /// Absent while somebody has it, and before `run` is polled.
    hand: Option<Box<dyn Hand>>,
    /// The task of `run`.
    task: Option<Waker>,
    /// `run` was polled while another had it.
    wanted: bool,
    /// Reads since `run` was polled last.
    reads: usize,
    /// `run` has ended or was dropped.
    over: bool,
}

impl Helm {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what has come, where that is for the task of `run` to do, and that is this one. `before` is called if so.
    /// Says whether it has.
    pub(crate) fn read(&self, task: &Waker, before: impl FnOnce()) -> bool {
        let mut place = self.lock();
        if place.reads >= READS || !place.task.as_ref().is_some_and(|own| own.will_wake(task)) {
            return false;
        }
        let Some(hand) = place.hand.take_if(|hand| hand.is_woken()) else { return false };
        place.reads += 1;
        drop(place);
        let mut taken = Taken { helm: self, hand: Some(hand) };
        before();
        taken.hand.iter_mut().for_each(|hand| hand.read());
        true
    }
}

/// Gives the driver back, come what may.
struct Taken<'a> {
    helm: &'a Helm,
    hand: Option<Box<dyn Hand>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut place = self.helm.lock();
        if place.over {
            drop(place);
            return;
        }
        place.hand = self.hand.take();
        let task = if core::mem::take(&mut place.wanted) { place.task.clone() } else { None };
        drop(place);
        task.into_iter().for_each(Waker::wake);
    }
}

/// The future of a client's `run`.
pub(crate) struct Helmsman {
    helm: Arc<Helm>,
    /// Until the first poll.
    hand: Option<Box<dyn Hand>>,
}

impl Helmsman {
    pub(crate) fn new(helm: Arc<Helm>, hand: Box<dyn Hand>) -> Self {
        Self { helm, hand: Some(hand) }
    }

    fn take(&mut self, task: &Waker) -> Option<Box<dyn Hand>> {
        if self.hand.is_some() {
            return self.hand.take();
        }
        let mut place = self.helm.lock();
        let hand = place.hand.take();
        if hand.is_none() {
            let old = replace(&mut place.task, task);
            place.wanted = true;
            drop((place, old));
        }
        hand
    }

    fn put(&self, hand: Box<dyn Hand>, task: &Waker) {
        let mut place = self.helm.lock();
        (place.hand, place.reads) = (Some(hand), 0);
        let old = replace(&mut place.task, task);
        drop((place, old));
    }
}

impl Future for Helmsman {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut hand) = self.take(cx.waker()) else { return Poll::Pending };
        let polled = Pin::new(&mut hand).poll(cx);
        if polled.is_pending() {
            self.put(hand, cx.waker());
        }
        polled
    }
}

impl Drop for Helmsman {
    fn drop(&mut self) {
        let mut place = self.helm.lock();
        place.over = true;
        let left = (place.hand.take(), place.task.take());
        drop(place);
        drop(left);
    }
}

#[cfg(all(test, any(feature = "smol", feature = "tokio")))]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts its reads; it has been woken while `woken` is not zero.
    #[derive(Default)]
    struct Fake(Arc<Counts>);

    #[derive(Default)]
    struct Counts {
        woken: AtomicUsize,
        reads: AtomicUsize,
        polls: AtomicUsize,
        wakes: AtomicUsize,
    }

    impl Counts {
        fn all(&self) -> [usize; 3] {
            [&self.reads, &self.polls, &self.wakes].map(|count| count.load(Ordering::Relaxed))
        }
    }

    impl alloc::task::Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Future for Fake {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            self.0.polls.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        }
    }

    impl Hand for Fake {
        fn is_woken(&self) -> bool {
            self.0.woken.load(Ordering::Relaxed) > 0
        }

        fn read(&mut self) {
            self.0.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn helmsman() -> (Helmsman, Arc<Helm>, Arc<Counts>, Waker) {
        let (helm, counts) = (Arc::<Helm>::default(), Arc::<Counts>::default());
        let run = Helmsman::new(helm.clone(), Box::new(Fake(counts.clone())));
        (run, helm, counts.clone(), counts.into())
    }

    fn poll(run: &mut Helmsman, task: &Waker) -> Poll<()> {
        Pin::new(run).poll(&mut Context::from_waker(task))
    }

    #[test]
    fn only_a_task_that_has_been_woken_reads_for_itself() {
        let (mut run, helm, counts, task) = helmsman();
        counts.woken.store(1, Ordering::Relaxed);
        assert!(!helm.read(&task, || ()), "it does not run yet");
        assert!(poll(&mut run, &task).is_pending());
        assert!(!helm.read(Waker::noop(), || ()), "another task");
        counts.woken.store(0, Ordering::Relaxed);
        assert!(!helm.read(&task, || panic!("there is nothing to read")));
        counts.woken.store(1, Ordering::Relaxed);
        assert!(helm.read(&task, || ()));
        assert!(helm.read(&task, || ()), "it is back");
        assert_eq!(counts.all(), [2, 1, 0]);
    }

    #[test]
    fn run_is_woken_when_it_was_polled_without_its_driver() {
        let (mut run, helm, counts, task) = helmsman();
        assert!(poll(&mut run, &task).is_pending());
        counts.woken.store(1, Ordering::Relaxed);
        assert!(helm.read(&task, || assert!(poll(&mut run, &task).is_pending())));
        assert_eq!(counts.all(), [1, 1, 1]);
        assert!(poll(&mut run, &task).is_pending());
        assert_eq!(counts.all(), [1, 2, 1]);
    }

    #[test]
    fn however_much_comes_run_has_its_turn() {
        let (mut run, helm, counts, task) = helmsman();
        counts.woken.store(1, Ordering::Relaxed);
        for _ in 0..3 {
            assert!(poll(&mut run, &task).is_pending());
            let reads = (0..1000).take_while(|_| helm.read(&task, || ())).count();
            assert_eq!(reads, READS);
        }
    }

    #[test]
    fn neither_driver_nor_task_is_kept_when_run_is_dropped() {
        let (mut run, helm, counts, task) = helmsman();
        assert!(poll(&mut run, &task).is_pending());
        counts.woken.store(1, Ordering::Relaxed);
        let held = Arc::strong_count(&counts);
        let mut run = Some(run);
        assert!(helm.read(&task, || run = None));
        assert_eq!(Arc::strong_count(&counts), held - 2);
        assert!(!helm.read(&task, || ()));
    }
}
