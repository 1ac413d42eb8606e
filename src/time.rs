//! Time as the machines see it: a reading that the driver took, never a clock.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point in time, counted in nanoseconds since an epoch that the driver chose.
///
/// All times given to one machine must count from the same epoch and come from a clock that does not go back (a machine
/// survives one that does: a time in the past moves nothing). It holds 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const EPOCH: Self = Self(0);

    /// The last one there is: what is due then is never due.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The instant `since` after the epoch, or the last one there is.
    #[must_use]
    pub const fn from_epoch(since: Duration) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let seconds = since.as_secs();
        Self(if seconds < u64::MAX / SECOND { seconds * SECOND + since.subsec_nanos() as u64 } else { u64::MAX })
    }

    /// How long after the epoch this is.
    #[must_use]
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The time that has passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// `None`: it never comes.
    #[inline]
    pub(crate) fn unless_never(self) -> Option<Self> {
        if self < Self::NEVER { Some(self) } else { None }
    }

    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the last instant there is.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_epoch(later).0))
    }
}

/// A length of time, for what is reckoned for each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nanos(u64);

/// `None`: without end.
impl From<Option<Duration>> for Nanos {
    fn from(limit: Option<Duration>) -> Self {
        Self(limit.map_or(u64::MAX, |limit| Instant::from_epoch(limit).0))
    }
}

impl Add<Nanos> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, later: Nanos) -> Self {
        Self(self.0.saturating_add(later.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_epoch())
    }
}

/// The earlier of two deadlines, where `None` means never.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
