//! What ends the waits of a loop in time where many would have to end soon.
//!
//! A timeout is a timer that the kernel sets and takes back in each wait, and where it is the next to fire, the processor is
//! told of it both times, for which a virtual machine stops. One timer does for all waits that follow each other: it rings when
//! the first of them would have had to end, and is set anew for the one under way then.

use core::time::Duration;

#[cfg(target_os = "linux")]
use ::mio::{Interest, unix::SourceFd};
use ::mio::{Registry, Token};
#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Instant;
use crate::runtimes::std::io;
#[cfg(target_os = "linux")]
use crate::runtimes::std::os::fd::{AsRawFd, OwnedFd};

/// Longer waits have a timeout.
const SOON: Duration = Duration::from_millis(4);

/// Made when it is first needed, and elsewhere than on Linux never.
#[derive(Default)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<OwnedFd>,
    /// When it rings next.
    rings: Option<Instant>,
}

impl Alarm {
    /// The timeout of a wait that is to end at `at`, `left` from now. `None`: the alarm ends it then, or earlier, by an event
    /// of `token`.
    pub(super) fn timeout(
        &mut self,
        at: Instant,
        left: impl FnOnce() -> Duration,
        registry: &Registry,
        token: Token,
    ) -> Option<Duration> {
        if self.rings.is_some_and(|rings| rings <= at) {
            return None;
        }
        let left = left();
        if left.is_zero() || left > SOON || self.set(left, registry, token).is_err() {
            return Some(left);
        }
        self.rings = Some(at);
        None
    }

    /// There was an event.
    pub(super) fn rung(&mut self) {
        self.rings = None;
    }

    #[cfg(target_os = "linux")]
    fn set(&mut self, left: Duration, registry: &Registry, token: Token) -> io::Result<()> {
        let timer = match &self.timer {
            Some(timer) => timer,
            None => {
                let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
                registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
                self.timer.insert(timer)
            }
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn set(&mut self, _: Duration, _: &Registry, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use ::mio::{Events, Poll};

    use super::*;
    use crate::runtimes::Clock;

    const TOKEN: Token = Token(7);

    #[test]
    fn waits_end_in_time_by_one_alarm() {
        let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(8));
        let registry = poll.registry().try_clone().expect("another");
        let (mut alarm, clock) = (Alarm::default(), Clock::start());
        let at = |millis| Instant::EPOCH + Duration::from_millis(millis);
        for _ in 0..3 {
            let begun = clock.now();
            // A later wait is content with an alarm that is set, an earlier one is not.
            for (millis, rings) in [(4, 4), (99, 4), (2, 2), (3, 2)] {
                let timeout = alarm.timeout(at(millis), || Duration::from_millis(millis), &registry, TOKEN);
                assert_eq!((timeout, alarm.rings), (None, Some(at(rings))));
            }
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("it polls");
            assert_eq!(events.iter().map(|event| event.token()).collect::<alloc::vec::Vec<_>>(), [TOKEN]);
            assert!(clock.now() >= begun + Duration::from_millis(2));
            alarm.rung();
        }
        poll.poll(&mut events, Some(Duration::ZERO)).expect("it polls");
        assert!(events.is_empty(), "it rings once");
    }

    #[test]
    fn a_wait_that_is_over_or_takes_long_has_a_timeout() {
        let (poll, mut alarm) = (Poll::new().expect("a poll"), Alarm::default());
        for left in [Duration::ZERO, SOON + Duration::from_nanos(1)] {
            assert_eq!(alarm.timeout(Instant::EPOCH + left, || left, poll.registry(), TOKEN), Some(left));
        }
        assert!(alarm.rings.is_none() && alarm.timer.is_none());
    }
}
