//! Randomness without a source: a keyed hash of a counter, so that the same seed gives the same numbers.

use core::fmt;
use core::hash::Hasher;
use core::time::Duration;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher128};

/// A seed that the driver took from the operating system, or one of a test's choice: `From` 32 bytes.
///
/// Whoever knows it can tell the uniques that are generated and flood the tables that it keys, so `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// Numbers and keyed hashes from one seed.
#[derive(Clone)]
pub(crate) struct Random {
    table_key: [u8; 16],
    number_key: [u8; 16],
    quick_key: (u64, SharedSeed),
    counter: u64,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Random {
    pub(crate) fn new(seed: &Seed) -> Self {
        let (mut table_key, mut number_key) = ([0; 16], [0; 16]);
        let (front, back) = seed.0.split_at(16);
        table_key.copy_from_slice(front);
        number_key.copy_from_slice(back);
        let mut random = Self { table_key, number_key, quick_key: (0, SharedSeed::from_u64(0)), counter: 0 };
        let [seed, shared] = [0, 1].map(|part| random.hash(&[b"quick", &[part]]));
        random.quick_key = (seed, SharedSeed::from_u64(shared));
        random
    }

    /// The place of `bytes` in a table whose keys a peer chooses.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.table_key);
        for part in parts {
            hasher.write(part);
            hasher.write_u8(0);
        }
        hasher.finish()
    }

    /// The same for bytes that stand for themselves.
    pub(crate) fn hash_one(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.table_key).hash(bytes)
    }

    /// For a table whose keys a job server chooses for its own clients, a sixth of the work of the others: who means harm
    /// and can measure how long each look-up takes may find keys that meet in one place.
    pub(crate) fn quick_hash(&self, bytes: &[u8]) -> u64 {
        let (seed, shared) = &self.quick_key;
        let mut hasher = FoldHasher::with_seed(*seed, shared);
        hasher.write(bytes);
        hasher.finish()
    }

    fn next(&mut self) -> u128 {
        self.counter += 1;
        let mut hasher = SipHasher128::new_with_key(&self.number_key);
        hasher.write_u64(self.counter);
        hasher.finish128().into()
    }

    /// 32 hexadecimal digits, never the same.
    pub(crate) fn unique(&mut self) -> [u8; 32] {
        let mut number = self.next();
        [(); 32].map(|()| {
            let digit = (number & 15) as u8;
            number >>= 4;
            if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
        })
    }

    /// A duration between half of `most` and `most`.
    pub(crate) fn jitter(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        let half = nanos / 2;
        let span = u128::from(nanos - half) + 1;
        Duration::from_nanos(half + u64::try_from(self.next() % span).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_seed_is_not_shown() {
        let config = || {
            let mut config = crate::client::Config::new([201; 32]);
            config.servers = alloc::vec!["a".parse().expect("an address")];
            config
        };
        let shown = alloc::format!("{:?} {:?}", config(), crate::client::Client::new(config()));
        assert!(shown.contains("seed: Seed") && !shown.contains("201"), "{shown}");
    }
}
