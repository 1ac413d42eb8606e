//! The jobs that have handles, found by the hash of those.
//!
//! Jobs whose hashes share a slot are linked through their entries: to be found by its handle each takes part in one short
//! list, and its place in the table costs one number.

use alloc::vec;
use alloc::vec::Vec;

use super::jobs::{Entry, at};

/// No job: the end of a list.
const NONE: u32 = u32::MAX;
/// Slots of a table that has any.
const FEWEST: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Handles {
    /// The first of each list; as many as a power of two, or none.
    slots: Vec<u32>,
    count: usize,
}

impl Handles {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    const fn slot(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    /// One of the jobs whose handles have this hash, where it is the one.
    #[inline(always)]
    pub(super) fn find<'a>(
        &self,
        places: &'a [Option<Entry>],
        hash: u64,
        is_it: impl Fn(&Entry) -> bool,
    ) -> Option<(u32, &'a Entry)> {
        let mut index = *self.slots.get(self.slot(hash))?;
        loop {
            let entry = at(places, index)?;
            if entry.hash == hash && is_it(entry) {
                return Some((index, entry));
            }
            index = entry.next;
        }
    }

    /// All of them.
    pub(super) fn with_hash<'a>(
        &self,
        places: &'a [Option<Entry>],
        hash: u64,
    ) -> impl Iterator<Item = (u32, &'a Entry)> + Clone + use<'a> {
        let mut next = self.slots.get(self.slot(hash)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            let (index, entry) = (next, at(places, next)?);
            next = entry.next;
            Some((index, entry))
        })
        .filter(move |(_, entry)| entry.hash == hash)
    }

    /// Takes up a job that has been given a handle with this hash.
    #[inline]
    pub(super) fn insert(&mut self, places: &mut [Option<Entry>], index: u32, hash: u64) {
        if self.count == self.slots.len() {
            self.grow(places);
        }
        let slot = self.slot(hash);
        if let Some(first) = self.slots.get_mut(slot)
            && let Some(Some(entry)) = places.get_mut(index as usize)
        {
            entry.hash = hash;
            entry.next = core::mem::replace(first, index);
            self.count += 1;
        }
    }

    /// A job that was taken up has its handle no more.
    #[inline]
    pub(super) fn remove(&mut self, places: &mut [Option<Entry>], index: u32) {
        let Some(&Entry { hash, next, .. }) = at(places, index) else { return };
        let slot = self.slot(hash);
        let Some(first) = self.slots.get_mut(slot) else { return };
        self.count -= 1;
        if *first == index {
            *first = next;
            return;
        }
        let mut before = *first;
        while let Some(Some(entry)) = places.get_mut(before as usize) {
            if entry.next == index {
                entry.next = next;
                return;
            }
            before = entry.next;
        }
    }

    #[cold]
    fn grow(&mut self, places: &mut [Option<Entry>]) {
        let old = core::mem::take(&mut self.slots);
        self.slots = vec![NONE; (2 * old.len()).max(FEWEST)];
        for mut index in old {
            while let Some(Some(entry)) = places.get_mut(index as usize) {
                let slot = self.slot(entry.hash);
                let Some(first) = self.slots.get_mut(slot) else { return };
                let moved = core::mem::replace(first, index);
                index = core::mem::replace(&mut entry.next, moved);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::client::jobs::{Jobs, Terms};
    use crate::job::{Deadlines, Job, JobId, Retry};
    use crate::random::Random;
    use crate::time::Instant;
    use crate::trace::Span;

    fn accepted(jobs: &mut Jobs, handle: &str, random: &Random) -> JobId {
        let id = jobs.insert(Job::new("f", ""), Span::none(), Instant::EPOCH, |_, _, _| Some((0, 0)));
        assert!(jobs.accept(id, 0, handle.as_bytes(), None, random));
        id
    }

    #[test]
    fn jobs_are_found_by_their_handles_in_whatever_order_they_end() {
        let random = Random::new(&[7; 32].into());
        let deadlines = Deadlines { accept: None, total: None, idle: None };
        let mut jobs = Jobs::new(Terms::new(&deadlines, Retry::Unsent, 0));
        for step in [1, 7, 331, 999] {
            let ids: Vec<_> =
                (0..1000).map(|number| accepted(&mut jobs, &format!("H:host:{number}"), &random)).collect();
            for number in (0..1000).map(|turn| turn * step % 1000) {
                let handle = format!("H:host:{number}");
                let found = jobs.remove_sole(0, handle.as_bytes(), &random).map(|(id, _)| id);
                assert_eq!(found, Some(ids[number]));
                assert!(jobs.remove_sole(0, handle.as_bytes(), &random).is_none());
                assert!(jobs.remove_sole(1, b"H:host:1000", &random).is_none());
            }
            assert!(jobs.is_empty());
        }
    }

    #[test]
    fn those_whose_hashes_share_a_slot_or_all_are_told_apart() {
        let random = Random::new(&[7; 32].into());
        let deadlines = Deadlines { accept: None, total: None, idle: None };
        let mut jobs = Jobs::new(Terms::new(&deadlines, Retry::Unsent, 0));
        let mut places = Vec::new();
        for number in 0..100 {
            accepted(&mut jobs, &format!("{number}"), &random);
        }
        places.append(&mut jobs.places);
        let mut handles = Handles::default();
        let hash = |index: u32| u64::from(index % 3) << 32;
        (0..100).for_each(|index| handles.insert(&mut places, index, hash(index)));
        let all = |handles: &Handles, places: &[Option<Entry>], hash| {
            let mut all: Vec<_> = handles.with_hash(places, hash).map(|(index, _)| index).collect();
            all.sort_unstable();
            all
        };
        let thirds: Vec<u32> = (0..100).filter(|index| index % 3 == 0).collect();
        assert_eq!(all(&handles, &places, 0), thirds);
        (0..100).filter(|index| index % 2 == 0).for_each(|index| handles.remove(&mut places, index));
        let odd: Vec<u32> = thirds.into_iter().filter(|index| index % 2 == 1).collect();
        assert_eq!(all(&handles, &places, 0), odd);
        assert!(handles.find(&places, hash(1), |entry| entry.hash == hash(2)).is_none());
        (0..100).filter(|index| index % 2 == 1).for_each(|index| handles.remove(&mut places, index));
        assert!(handles.is_empty() && all(&handles, &places, 0).is_empty());
    }
}
