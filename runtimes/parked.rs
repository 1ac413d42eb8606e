//! What wakes a thread that sleeps.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::task::Waker;

use super::std::{thread, thread_local};

thread_local! {
    static OWN: Waker = Parked::waker();
}

struct Parked(thread::Thread);

impl Parked {
    fn waker() -> Waker {
        Waker::from(Arc::new(Self(thread::current())))
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The waker of this thread, which ends its `park`.
pub(crate) fn own_waker() -> Waker {
    // A thread that ends may have none any more, and still wait in what it drops.
    OWN.try_with(Waker::clone).unwrap_or_else(|_| Parked::waker())
}
