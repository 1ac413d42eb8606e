//! How long things took, as plain numbers.

use core::fmt;
use core::time::Duration;

use crate::time::Instant;

/// As many as go up to 4.9 hours, and one for what is longer.
const BUCKETS: usize = 36;
/// The lowest bucket is for what takes less than 2 to the power of this in nanoseconds.
const LOWEST: u32 = 10;

/// How long things took, counted in buckets that double: under 1.024 µs, under 2.048 µs and so on, the last for 4.9 hours
/// and more.
///
/// It has a fixed size of some 300 bytes, allocates nothing, and to record costs a few instructions. It counts from the
/// start and is never reset: whoever wants the last minute keeps a copy and takes [`since`](Self::since).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    /// In nanoseconds.
    sum: u64,
    max: u64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], sum: 0, max: 0 }
    }

    /// Counts something that took so long.
    pub fn record(&mut self, took: Duration) {
        self.record_nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts something that began and ended so.
    pub(crate) fn record_between(&mut self, began: Instant, ended: Instant) {
        self.record_nanos(ended.nanos_since(began));
    }

    fn record_nanos(&mut self, nanos: u64) {
        let bits = u64::BITS - (nanos >> LOWEST).leading_zeros();
        let bucket = (bits as usize).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all took together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// How long the longest took.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// How long they took on average; zero where none was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or(0))
    }

    /// How long the quickest `share` of them took at most, from 0 to 1: `quantile(0.99)` is the 99th percentile. Within a
    /// bucket it is estimated, so that it may be off by a factor of two, most often by far less. Zero where none was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = self.count() as f64 * share.clamp(0.0, 1.0);
        let mut before = 0.0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && before + count >= wanted {
                let end = if bucket == BUCKETS - 1 { u64::MAX } else { bound(bucket + 1) };
                let (low, high) = (bound(bucket), end.min(self.max.saturating_add(1)));
                let within = high.saturating_sub(low) as f64 * ((wanted - before) / count);
                return Duration::from_nanos(low.saturating_add(within as u64).min(self.max));
            }
            before += count;
        }
        self.max()
    }

    /// Each bucket, from the lowest: how long what is in it took less than, and how many there are. The last has no bound,
    /// [`Duration::MAX`].
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().map(|(bucket, &count)| {
            let bound = if bucket == BUCKETS - 1 { Duration::MAX } else { Duration::from_nanos(bound(bucket + 1)) };
            (bound, count)
        })
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What was counted since `earlier`, a copy of this one. Its [`max`](Self::max) is that of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        since.counts.iter_mut().zip(earlier.counts).for_each(|(count, old)| *count = count.saturating_sub(old));
        since.sum = self.sum.saturating_sub(earlier.sum);
        since
    }
}

/// Where a bucket begins, in nanoseconds.
const fn bound(bucket: usize) -> u64 {
    if bucket == 0 { 0 } else { 1 << (LOWEST as usize + bucket - 1) }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_duration_is_under_its_bound_and_not_under_the_one_before() {
        let edges = (0..64).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for nanos in edges.chain([u64::MAX]) {
            let mut histogram = Histogram::new();
            histogram.record(Duration::from_nanos(nanos));
            let buckets: Vec<_> = histogram.buckets().collect();
            let bucket = buckets.iter().position(|(_, count)| *count == 1).expect("it is counted");
            assert!(Duration::from_nanos(nanos) < buckets[bucket].0);
            assert!(bucket == 0 || Duration::from_nanos(nanos) >= buckets[bucket - 1].0);
            assert_eq!((histogram.count(), histogram.max()), (1, Duration::from_nanos(nanos)));
        }
    }

    #[test]
    fn quantiles_are_near_and_never_beyond_the_longest() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (Duration::ZERO, Duration::ZERO));
        (1..=1000).for_each(|millis| histogram.record(Duration::from_millis(millis)));
        assert_eq!(histogram.mean(), Duration::from_micros(500_500));
        for (share, millis) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.05, "{share}: {found} ms");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
        assert_eq!(histogram.quantile(7.0), Duration::from_secs(1));
    }

    #[test]
    fn the_last_bucket_begins_at_4_9_hours_and_has_no_end() {
        let mut histogram = Histogram::new();
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        histogram.record(week);
        assert_eq!(histogram.quantile(1.0), week);
        assert!(histogram.quantile(0.5) > week / 2);
        let [.., (bound, _), (never, 1)] = &histogram.buckets().collect::<Vec<_>>()[..] else { panic!("in the last") };
        assert_eq!((bound.as_secs(), *never), (17_592, Duration::MAX));
    }

    #[test]
    fn one_value_is_every_quantile_but_for_its_bucket() {
        let mut histogram = Histogram::new();
        (0..10).for_each(|_| histogram.record(Duration::from_micros(100)));
        for share in [0.1, 0.5, 1.0] {
            let found = histogram.quantile(share);
            assert!(found > Duration::from_micros(65) && found <= Duration::from_micros(100), "{found:?}");
        }
    }

    #[test]
    fn two_can_be_added_and_taken_apart_again() {
        let (mut first, mut second) = (Histogram::new(), Histogram::new());
        first.record(Duration::from_millis(1));
        second.record(Duration::from_millis(1));
        second.record(Duration::from_secs(100_000));
        let mut both = first;
        both.merge(&second);
        assert_eq!(both.count(), 3);
        assert_eq!(both.since(&first), second);
    }
}
