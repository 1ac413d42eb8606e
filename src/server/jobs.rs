//! The jobs that a server holds: small, found by number or by unique in constant time.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use hashbrown::HashTable;

use super::config::MAX_HANDLE;
use super::table::{KEPT, Link, List, NONE, Table};
use crate::excerpt::debug;
use crate::job::Priority;
use crate::random::Random;
use crate::time::Instant;

/// A payload up to this size lies with its unique in one allocation and is copied into the packet that assigns it.
const SMALL: usize = 2 << 10;
/// A payload from this size on is kept as the slice that came, which pins the read buffer it came in. Smaller ones are
/// copied, so that they do not keep a buffer that is far larger.
const PINNED: usize = 64 << 10;

/// A restored job keeps its number below this, so that numbers never run out behind it.
const MOST_RESTORED: u64 = 1 << 63;

/// The length of the reducer of a job that has none.
const NO_REDUCER: u8 = u8::MAX;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue of its function and priority.
    Queued,
    /// In no queue until its time has come.
    Delayed,
    /// With a worker.
    Running,
    /// In no queue, as the server hands out no background jobs any more.
    Held,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    /// When its timer fires, if it is `timed`: it is due, or its worker has taken too long. Else since when it is queued, or
    /// runs.
    pub(super) when: Instant,
    body: Body,
    /// In the queue or in its worker's list, as its state is.
    pub(super) link: Link,
    /// Jobs of other functions with the same unique.
    same_unique: Link,
    pub(super) function: u32,
    /// The connection that runs it.
    pub(super) worker: u32,
    /// The foreground submissions that wait for it.
    pub(super) waiters: List,
    pub(super) waiting: u32,
    pub(super) numerator: u32,
    pub(super) denominator: u32,
    pub(super) retries: u32,
    unique_length: u8,
    /// [`NO_REDUCER`] where there is none.
    reducer_length: u8,
    pub(super) priority: Priority,
    pub(super) state: State,
    pub(super) background: bool,
    pub(super) timed: bool,
    /// Cancelled while it ran: its results are for nobody.
    pub(super) cancelled: bool,
    /// How its submissions are joined.
    key: Key,
}

/// What joins submissions of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Nothing,
    Unique,
    Payload,
}

enum Body {
    /// Unique, reducer and payload.
    Small(Box<[u8]>),
    Large(Box<Large>),
}

debug!(
    enum Body {
        Small(bytes),
        Large(large),
    }
);

struct Large {
    /// Unique and reducer.
    names: Box<[u8]>,
    payload: Bytes,
}

debug!(struct Large { names, payload });

/// A job to be.
#[derive(Clone)]
pub(super) struct NewJob<'a> {
    pub(super) function: u32,
    pub(super) unique: &'a [u8],
    pub(super) reducer: Option<&'a [u8]>,
    pub(super) payload: Bytes,
    pub(super) priority: Priority,
    pub(super) background: bool,
}

impl NewJob<'_> {
    /// What joins it with others of its function.
    fn key(&self) -> (Key, &[u8]) {
        match self.unique {
            [] => (Key::Nothing, &[]),
            b"-" if self.payload.is_empty() => (Key::Nothing, &[]),
            b"-" => (Key::Payload, &self.payload),
            unique => (Key::Unique, unique),
        }
    }

    /// The bytes that it will hold.
    pub(super) fn bytes(&self) -> usize {
        self.unique.len() + self.reducer.map_or(0, <[u8]>::len) + self.payload.len()
    }
}

impl Job {
    fn new(number: u64, new: NewJob<'_>) -> Self {
        let (key, _) = new.key();
        let reducer = new.reducer.unwrap_or_default();
        let names = [new.unique, reducer];
        let body = if new.payload.len() <= SMALL {
            let mut joined = Vec::with_capacity(new.bytes());
            names.iter().for_each(|name| joined.extend_from_slice(name));
            joined.extend_from_slice(&new.payload);
            Body::Small(joined.into())
        } else {
            let payload = if new.payload.len() < PINNED { Bytes::copy_from_slice(&new.payload) } else { new.payload };
            Body::Large(Box::new(Large { names: names.concat().into(), payload }))
        };
        Self {
            number,
            when: Instant::EPOCH,
            body,
            link: Link::LOOSE,
            same_unique: Link::LOOSE,
            function: new.function,
            worker: NONE,
            waiters: List::EMPTY,
            waiting: 0,
            numerator: 0,
            denominator: 0,
            retries: 0,
            unique_length: u8::try_from(new.unique.len()).unwrap_or(u8::MAX),
            reducer_length: new.reducer.map_or(NO_REDUCER, |reducer| u8::try_from(reducer.len()).unwrap_or(0)),
            priority: new.priority,
            state: State::Queued,
            background: new.background,
            timed: false,
            cancelled: false,
            key,
        }
    }

    fn names(&self) -> &[u8] {
        match &self.body {
            Body::Small(joined) => joined,
            Body::Large(large) => &large.names,
        }
    }

    pub(super) fn unique(&self) -> &[u8] {
        self.names().get(..usize::from(self.unique_length)).unwrap_or_default()
    }

    /// Its reducer, if it is a map/reduce job.
    pub(super) fn reducer(&self) -> Option<&[u8]> {
        let start = usize::from(self.unique_length);
        let end = start + usize::from(self.reducer_length);
        if self.reducer_length == NO_REDUCER { None } else { self.names().get(start..end) }
    }

    /// The payload: as it lies with the names, or as a value of its own.
    pub(super) fn payload(&self) -> Result<&[u8], &Bytes> {
        match &self.body {
            Body::Small(joined) => {
                let start = usize::from(self.unique_length) + self.reducer().map_or(0, <[u8]>::len);
                Ok(joined.get(start..).unwrap_or_default())
            }
            Body::Large(large) => Err(&large.payload),
        }
    }

    pub(super) fn payload_bytes(&self) -> &[u8] {
        self.payload().unwrap_or_else(|large| large)
    }

    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match &self.body {
            Body::Small(joined) => joined.len(),
            Body::Large(large) => large.names.len() + large.payload.len(),
        }
    }

    fn key_bytes(&self) -> &[u8] {
        match self.key {
            Key::Nothing => &[],
            Key::Unique => self.unique(),
            Key::Payload => self.payload_bytes(),
        }
    }
}

/// An entry of a table that finds jobs. It knows its hash, so that a table that grows need not look at each job.
#[derive(Clone, Copy, Debug)]
struct Found {
    hash: u32,
    job: u32,
}

#[derive(Debug, Default)]
struct Finder(HashTable<Found>);

impl Finder {
    fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.0.find(spread(hash), |found| found.hash == hash && is_it(found.job)).map(|found| found.job)
    }

    fn insert(&mut self, hash: u32, job: u32) {
        self.0.insert_unique(spread(hash), Found { hash, job }, |found| spread(found.hash));
    }

    fn remove(&mut self, hash: u32, job: u32) {
        if let Ok(entry) = self.0.find_entry(spread(hash), |found| found.job == job) {
            entry.remove();
        }
    }

    /// Puts `job` in the place of `old`.
    fn replace(&mut self, hash: u32, old: u32, job: u32) {
        if let Some(found) = self.0.find_mut(spread(hash), |found| found.job == old) {
            found.job = job;
        }
    }

    /// Gives back the room of a table that was large and is empty.
    fn tidy(&mut self) {
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = HashTable::new();
        }
    }
}

/// All jobs, with the tables that find them.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) table: Table<Job>,
    random: Random,
    by_number: Finder,
    /// By function and key.
    by_key: Finder,
    /// The newest job of any function with a unique; the others hang on its link.
    by_unique: Finder,
    last_number: u64,
    bytes: usize,
}

impl Jobs {
    pub(super) fn new(random: Random) -> Self {
        Self {
            table: Table::new(),
            random,
            by_number: Finder::default(),
            by_key: Finder::default(),
            by_unique: Finder::default(),
            last_number: 0,
            bytes: 0,
        }
    }

    /// The bytes that all jobs hold.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn with_number(&self, number: u64) -> Option<u32> {
        self.by_number.find(number_hash(number), |index| self.table[index].number == number)
    }

    /// The job that a submission is to be joined with.
    pub(super) fn to_join(&self, new: &NewJob<'_>) -> Option<u32> {
        let (key, bytes) = new.key();
        if key == Key::Nothing {
            return None;
        }
        self.by_key.find(self.key_hash(new.function, key, bytes), |index| {
            let job = &self.table[index];
            job.function == new.function && job.key == key && job.key_bytes() == bytes
        })
    }

    /// The newest job with this unique, whatever its function. A unique `-` is none.
    pub(super) fn with_unique(&self, unique: &[u8]) -> Option<u32> {
        self.by_unique.find(self.unique_hash(unique), |index| self.table[index].unique() == unique)
    }

    /// Puts a job in, under `number` if that is free, else under the next one.
    pub(super) fn insert(&mut self, new: NewJob<'_>, number: Option<u64>) -> u32 {
        let free = number.filter(|&number| number > 0 && number < MOST_RESTORED && self.with_number(number).is_none());
        let number = free.unwrap_or(self.last_number + 1);
        self.last_number = self.last_number.max(number);
        let job = Job::new(number, new);
        self.bytes += job.bytes();
        let index = self.table.insert(job);
        self.by_number.insert(number_hash(number), index);
        self.learn_key(index);
        index
    }

    fn learn_key(&mut self, index: u32) {
        let job = &self.table[index];
        if job.key == Key::Nothing {
            return;
        }
        self.by_key.insert(self.key_hash(job.function, job.key, job.key_bytes()), index);
        if job.key == Key::Unique {
            let hash = self.unique_hash(job.unique());
            match self.with_unique(job.unique()) {
                None => self.by_unique.insert(hash, index),
                Some(older) => {
                    self.by_unique.replace(hash, older, index);
                    let mut ring = List::starting_at(older);
                    ring.push_front(&mut self.table, index, |job| &mut job.same_unique);
                }
            }
        }
    }

    /// Makes a job one that no submission is joined with any more.
    pub(super) fn forget_key(&mut self, index: u32) {
        let job = &self.table[index];
        if job.key == Key::Nothing {
            return;
        }
        self.by_key.remove(self.key_hash(job.function, job.key, job.key_bytes()), index);
        if job.key == Key::Unique {
            let hash = self.unique_hash(job.unique());
            match job.same_unique.next() {
                // Either it is the last one left, or it is not the one that is found.
                NONE => self.by_unique.remove(hash, index),
                older => self.by_unique.replace(hash, index, older),
            }
            let mut ring = List::EMPTY;
            ring.remove(&mut self.table, index, |job| &mut job.same_unique);
        }
        self.table[index].key = Key::Nothing;
    }

    /// Takes a job out that is in no list any more.
    pub(super) fn remove(&mut self, index: u32) -> Job {
        self.forget_key(index);
        self.by_number.remove(number_hash(self.table[index].number), index);
        let job = self.table.remove(index);
        self.bytes -= job.bytes();
        if self.table.is_empty() {
            self.by_number.tidy();
            self.by_key.tidy();
            self.by_unique.tidy();
        }
        job
    }

    fn key_hash(&self, function: u32, key: Key, bytes: &[u8]) -> u32 {
        fold(self.random.hash(&[&function.to_le_bytes(), &[u8::from(key == Key::Payload)], bytes]))
    }

    fn unique_hash(&self, unique: &[u8]) -> u32 {
        fold(self.random.hash_one(unique))
    }

    /// Panics where the tables do not agree.
    pub(super) fn audit(&self) {
        let keyed = |wanted: &[Key]| self.table.iter().filter(|(_, job)| wanted.contains(&job.key)).count();
        assert_eq!(self.by_number.0.len(), self.table.len());
        assert_eq!(self.by_key.0.len(), keyed(&[Key::Unique, Key::Payload]));
        assert_eq!(self.bytes, self.table.iter().map(|(_, job)| job.bytes()).sum::<usize>());
        let mut on_rings = 0;
        for head in &self.by_unique.0 {
            let ring = List::starting_at(head.job);
            on_rings += ring.iter(&self.table, |job| &job.same_unique).count();
        }
        assert_eq!(on_rings, keyed(&[Key::Unique]));
        for (index, job) in self.table.iter() {
            assert_eq!(self.with_number(job.number), Some(index));
        }
    }
}

/// The numbers are the server's own and come in a row, so that their low bits are as good as a hash.
const fn number_hash(number: u64) -> u32 {
    fold(number)
}

/// The low half, with the high half mixed in.
#[expect(clippy::cast_possible_truncation, reason = "that is the purpose")]
const fn fold(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// All bits of a table's hash out of the half that an entry keeps.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Handles: a prefix, a colon and the number of the job.
#[derive(Debug)]
pub(super) struct Handles(Vec<u8>);

/// A handle, written out.
pub(super) struct HandleText {
    bytes: [u8; MAX_HANDLE],
    length: usize,
}

impl core::ops::Deref for HandleText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Handles {
    /// The prefix has been checked: it leaves room for a colon and 20 digits.
    pub(super) fn new(prefix: &str) -> Self {
        let mut start = prefix.as_bytes().to_vec();
        start.push(b':');
        Self(start)
    }

    pub(super) fn write(&self, number: u64) -> HandleText {
        let mut text = HandleText { bytes: [0; MAX_HANDLE], length: self.0.len() };
        if let Some(place) = text.bytes.get_mut(..self.0.len()) {
            place.copy_from_slice(&self.0);
        }
        text.length += write_decimal(number, text.bytes.get_mut(self.0.len()..).unwrap_or_default());
        text
    }

    /// The number in a handle, which a trailing NUL does not hurt.
    pub(super) fn parse(&self, handle: &[u8]) -> Option<u64> {
        let handle = handle.strip_suffix(&[0]).unwrap_or(handle);
        let digits = handle.strip_prefix(&self.0[..])?;
        if digits.first().is_none_or(|&first| first == b'0') {
            return None;
        }
        digits.iter().try_fold(0_u64, |number, &digit| {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
        })
    }
}

/// Writes `number` at the start of `place`, which has room, and says how many digits it took.
pub(super) fn write_decimal(mut number: u64, place: &mut [u8]) -> usize {
    let mut digits = [0; 20];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    let written = digits.get(20 - length..).unwrap_or_default();
    place.iter_mut().zip(written).for_each(|(place, digit)| *place = *digit);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(function: u32, unique: &'a [u8], payload: &'static [u8]) -> NewJob<'a> {
        let payload = Bytes::from_static(payload);
        NewJob { function, unique, reducer: None, payload, priority: Priority::Normal, background: true }
    }

    #[test]
    fn a_job_is_small() {
        assert!(size_of::<Job>() <= 88, "{}", size_of::<Job>());
    }

    #[test]
    fn handles_are_read_as_they_are_written() {
        let handles = Handles::new("H:lap");
        for number in [1, 9, 10, 1_234_567, u64::MAX] {
            assert_eq!(handles.parse(&handles.write(number)), Some(number));
        }
        assert_eq!(&*handles.write(u64::MAX), b"H:lap:18446744073709551615");
        for bad in
            ["", "H:lap", "H:lap:", "H:lap:01", "H:lap:1x", "H:other:1", "H:lap:18446744073709551616", "H:lap:-1"]
        {
            assert_eq!(handles.parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(handles.parse(b"H:lap:7\0"), Some(7));
        assert_eq!(handles.parse(b"H:lap:7\0\0"), None);
    }

    #[test]
    fn uniques_are_per_function_and_found_over_all() {
        let mut jobs = Jobs::new(Random::new(&[7; 32].into()));
        let first = jobs.insert(new(0, b"u", b"x"), None);
        let second = jobs.insert(new(1, b"u", b"x"), None);
        let third = jobs.insert(new(2, b"u", b"x"), None);
        assert_eq!(jobs.to_join(&new(0, b"u", b"other")), Some(first));
        assert_eq!(jobs.to_join(&new(2, b"u", b"")), Some(third));
        assert_eq!(jobs.to_join(&new(3, b"u", b"")), None);
        jobs.audit();
        for (gone, found) in [(second, Some(third)), (third, Some(first)), (first, None)] {
            jobs.remove(gone);
            jobs.audit();
            assert_eq!(jobs.with_unique(b"u"), found);
        }
    }

    #[test]
    fn a_dash_joins_by_payload_and_an_empty_unique_joins_nothing() {
        let mut jobs = Jobs::new(Random::new(&[7; 32].into()));
        let dash = jobs.insert(new(0, b"-", b"DD"), None);
        jobs.insert(new(0, b"", b"DD"), None);
        jobs.insert(new(0, b"-", b""), None);
        assert_eq!(jobs.to_join(&new(0, b"-", b"DD")), Some(dash));
        assert_eq!(jobs.to_join(&new(0, b"DD", b"")), None);
        assert_eq!(jobs.to_join(&new(0, b"-", b"DE")), None);
        assert_eq!(jobs.to_join(&new(0, b"-", b"")), None);
        assert_eq!(jobs.to_join(&new(0, b"", b"DD")), None);
        assert_eq!(jobs.with_unique(b"-"), None);
        jobs.audit();
    }

    #[test]
    fn a_number_is_given_back_only_where_it_is_free() {
        let mut jobs = Jobs::new(Random::new(&[7; 32].into()));
        let mut number = |wanted| {
            let index = jobs.insert(new(0, b"", b""), wanted);
            jobs.table[index].number
        };
        assert_eq!(number(Some(41)), 41);
        assert_eq!(number(Some(41)), 42);
        assert_eq!(number(None), 43);
        assert_eq!(number(Some(5)), 5);
        assert_eq!(number(None), 44);
    }

    #[test]
    fn payloads_of_all_sizes_come_back() {
        for size in [0, 1, SMALL, SMALL + 1, PINNED, PINNED + 1] {
            let payload = Bytes::from(alloc::vec![b'p'; size]);
            let new = NewJob {
                function: 0,
                unique: b"unique",
                reducer: Some(b"red"),
                payload: payload.clone(),
                priority: Priority::High,
                background: false,
            };
            let mut jobs = Jobs::new(Random::new(&[7; 32].into()));
            let index = jobs.insert(new, None);
            let job = &jobs.table[index];
            assert_eq!(
                (job.unique(), job.reducer(), job.payload_bytes()),
                (&b"unique"[..], Some(&b"red"[..]), &payload[..])
            );
            assert_eq!(job.bytes(), size + 9);
        }
    }
}
