//! The consistent hash ring of libgearman 2.2.0, so that all clients of one list of job servers agree on who gets a unique.

use alloc::format;
use alloc::vec::Vec;

use md5::{Digest, Md5};

use crate::address::Address;

/// Digests taken of each server; each gives four points.
const DIGESTS: usize = 4;

/// Points on a circle of 2^32, each a server's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    points: Vec<(u32, usize)>,
}

impl Ring {
    /// The ring of these servers, each with its place in the caller's list.
    pub(crate) fn new<'a>(servers: impl Iterator<Item = (usize, &'a Address)>) -> Self {
        let mut points = Vec::new();
        for (place, address) in servers {
            for digest in 0..DIGESTS {
                let text = match address.unix_path() {
                    Some(_) => format!("{address}-{digest}"),
                    None => format!("{}:{}-{digest}", address.host(), address.port()),
                };
                points.extend(numbers(text.as_bytes()).map(|point| (point, place)));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// Who gets `unique`: its owner, or the first of its heirs that will do.
    pub(crate) fn pick(&self, unique: &[u8], mut will_do: impl FnMut(usize) -> bool) -> Option<usize> {
        let key = numbers(unique).next()?;
        let start = self.points.partition_point(|&(point, _)| point < key);
        let mut tried = Vec::new();
        let mut next = self.from(start).next();
        while let Some(place) = next.filter(|place| !tried.contains(place)) {
            if will_do(place) {
                return Some(place);
            }
            tried.push(place);
            next = self.after(place);
        }
        // libgearman may give up where its chain closes; the ring goes on from the key.
        self.from(start).find(|place| !tried.contains(place) && will_do(*place))
    }

    fn from(&self, start: usize) -> impl Iterator<Item = usize> {
        let (before, behind) = self.points.split_at(start.min(self.points.len()));
        behind.iter().chain(before).map(|&(_, place)| place)
    }

    /// Who takes over from a server that failed: the owner of the first foreign point behind the server's own first.
    fn after(&self, failed: usize) -> Option<usize> {
        let first = self.points.iter().position(|&(_, place)| place == failed)?;
        self.from(first).find(|&place| place != failed)
    }
}

/// The MD5 of `text` as four little-endian numbers.
fn numbers(text: &[u8]) -> impl Iterator<Item = u32> {
    let digest: [u8; 16] = Md5::digest(text).into();
    let (groups, _) = digest.as_chunks();
    let numbers: [u32; 4] = [0, 1, 2, 3].map(|group| groups.get(group).map_or(0, |group| u32::from_le_bytes(*group)));
    numbers.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(servers: &[&str]) -> Ring {
        let addresses: Vec<Address> = servers.iter().map(|server| server.parse().expect("an address")).collect();
        Ring::new(addresses.iter().enumerate())
    }

    fn owners(ring: &Ring, unique: &str) -> Vec<usize> {
        let mut order = Vec::new();
        let picked = ring.pick(unique.as_bytes(), |place| {
            if !order.contains(&place) {
                order.push(place);
            }
            false
        });
        assert_eq!(picked, None);
        order
    }

    #[test]
    fn owners_and_heirs_are_libgearmans() {
        let three = ring(&["10.0.0.1", "10.0.0.2:4730", "10.0.0.3"]);
        for (unique, first, second) in [("a", 0, 1), ("order-42", 1, 2), ("dedupe-me", 2, 0), ("x", 1, 2)] {
            assert_eq!(owners(&three, unique)[..2], [first, second], "{unique}");
        }
        let two = ring(&["localhost:4730", "localhost:4731"]);
        for (unique, first) in [("a", 1), ("b", 0), ("order-42", 1), ("x", 0)] {
            assert_eq!(owners(&two, unique)[0], first, "{unique}");
        }
    }

    #[test]
    fn a_unix_socket_has_points_by_its_path() {
        let mixed = ring(&["unix:/run/a.sock", "unix:/run/b.sock", "10.0.0.3"]);
        let mut firsts = [0; 3];
        for unique in 0..300 {
            firsts[owners(&mixed, &format!("{unique}"))[0]] += 1;
        }
        assert!(firsts.iter().all(|&count| count > 30), "{firsts:?}");
    }

    #[test]
    fn every_server_is_an_heir_once() {
        let names: Vec<_> = (1..=9).map(|number| format!("10.0.0.{number}")).collect();
        let ring = ring(&names.iter().map(|name| &**name).collect::<Vec<_>>());
        for unique in 0..200 {
            let mut order = owners(&ring, &format!("{unique}"));
            order.sort_unstable();
            assert_eq!(order, (0..9).collect::<Vec<_>>());
        }
        assert_eq!(owners(&Ring::default(), "a"), Vec::<usize>::new());
    }
}
