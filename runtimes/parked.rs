//! What wakes a thread that sleeps, and which must not wait.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::cell::Cell;
use core::task::Waker;

use super::std::{thread, thread_local};

thread_local! {
    static OWN: Waker = Parked::waker();
    static CALLED: Cell<bool> = const { Cell::new(false) };
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

/// This thread is, for as long as this lives, in a function of the user's that a driver of any runtime calls.
pub(crate) struct Called(bool);

impl Called {
    pub(crate) fn begin() -> Self {
        Self(CALLED.replace(true))
    }
}

/// It may have been in one before.
impl Drop for Called {
    fn drop(&mut self) {
        CALLED.set(self.0);
    }
}

/// Whether this thread is in such a function: to wait there may be to wait for oneself.
pub(crate) fn is_called() -> bool {
    CALLED.get()
}
