//! Tables of small indices, and lists threaded through what they hold: all in constant time, nothing allocated a link.

use core::ops::{Index, IndexMut};

use slab::Slab;

/// No index.
pub(super) const NONE: u32 = u32::MAX;
/// What an emptied table keeps of its room.
pub(super) const KEPT: usize = 64 << 10;

/// Values under dense indices, which are used again.
#[derive(Debug)]
pub(super) struct Table<T>(Slab<T>);

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self(Slab::new())
    }

    /// Puts `value` in. The caller's limits keep a table under 2^32 - 1 values.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        u32::try_from(self.0.insert(value)).unwrap_or(NONE)
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let value = self.0.remove(index as usize);
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = Slab::new();
        }
        value
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(index, value)| (u32::try_from(index).unwrap_or(NONE), value))
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.0[index as usize]
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.0[index as usize]
    }
}

/// A value's place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    pub(super) const LOOSE: Self = Self { prev: NONE, next: NONE };

    pub(super) const fn next(&self) -> u32 {
        self.next
    }
}

/// A list of values of one table, through the link that each call names.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    /// The part of a list from `head` on, for a list whose head is kept elsewhere.
    pub(super) const fn starting_at(head: u32) -> Self {
        Self { head, tail: NONE }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.head == NONE
    }

    pub(super) const fn first(self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    pub(super) fn push_back<T>(&mut self, table: &mut Table<T>, index: u32, link: impl Fn(&mut T) -> &mut Link) {
        *link(&mut table[index]) = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => link(&mut table[tail]).next = index,
        }
        self.tail = index;
    }

    pub(super) fn push_front<T>(&mut self, table: &mut Table<T>, index: u32, link: impl Fn(&mut T) -> &mut Link) {
        *link(&mut table[index]) = Link { prev: NONE, next: self.head };
        match self.head {
            NONE => self.tail = index,
            head => link(&mut table[head]).prev = index,
        }
        self.head = index;
    }

    /// Takes out a value that is in this list.
    pub(super) fn remove<T>(&mut self, table: &mut Table<T>, index: u32, link: impl Fn(&mut T) -> &mut Link) {
        let Link { prev, next } = core::mem::replace(link(&mut table[index]), Link::LOOSE);
        match prev {
            NONE => self.head = next,
            prev => link(&mut table[prev]).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => link(&mut table[next]).prev = prev,
        }
    }

    pub(super) fn pop_front<T>(&mut self, table: &mut Table<T>, link: impl Fn(&mut T) -> &mut Link) -> Option<u32> {
        let index = self.first()?;
        self.remove(table, index, link);
        Some(index)
    }

    /// The values from first to last.
    pub(super) fn iter<T>(self, table: &Table<T>, link: impl Fn(&T) -> &Link) -> impl Iterator<Item = u32> {
        let mut at = self.head;
        core::iter::from_fn(move || {
            let index = at;
            (index != NONE).then(|| {
                at = link(&table[index]).next;
                index
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_list_keeps_its_order_through_every_way_in_and_out() {
        let mut table = Table::new();
        let [a, b, c, d] = [(); 4].map(|()| table.insert(Link::LOOSE));
        let mut list = List::EMPTY;
        let order = |list: List, table: &Table<Link>| list.iter(table, |link| link).collect::<Vec<_>>();
        for index in [b, c, d] {
            list.push_back(&mut table, index, |link| link);
        }
        list.push_front(&mut table, a, |link| link);
        assert_eq!(order(list, &table), [a, b, c, d]);
        list.remove(&mut table, c, |link| link);
        list.remove(&mut table, d, |link| link);
        list.push_back(&mut table, c, |link| link);
        assert_eq!(order(list, &table), [a, b, c]);
        assert_eq!(list.pop_front(&mut table, |link| link), Some(a));
        list.remove(&mut table, b, |link| link);
        list.remove(&mut table, c, |link| link);
        assert!(list.is_empty());
        assert_eq!(list.pop_front(&mut table, |link| link), None);
    }
}
