//! Which job server gets a job: pure, and replaceable.
//!
//! All strategies keep away from a server that failed, for [`Connecting::recover_time`](crate::Connecting::recover_time)
//! while another can be had. After that it is tried again, beside the others and with one job at first: a reply clears it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::address::Address;
use crate::job::ServerId;
use crate::ketama::Ring;
use crate::link::LinkState;
use crate::machine::CloseReason;
use crate::time::Instant;

/// A job server as a [`Strategy`] sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Which one.
    pub server: ServerId,
    /// Where it is.
    pub address: Address,
    /// Whether it can be had. One that has failed shows as [`Down`](LinkState::Down) while it is kept away from, and one
    /// that is on probation with its one job as [`Connecting`](LinkState::Connecting).
    pub state: LinkState,
    /// Until when it is kept away from, where it is [`Down`](LinkState::Down): by the wait before the next attempt, or by
    /// [`recover_time`](crate::Connecting::recover_time).
    pub retry_at: Option<Instant>,
    /// Why a connection to it was lost or not made the last time, whether or not it is back.
    pub failure: Option<CloseReason>,
    /// Jobs given to it that have not ended.
    pub outstanding: usize,
    /// What has come of it so far.
    pub counters: ServerCounters,
}

/// Plain counts of one job server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections made.
    pub connected: u64,
    /// Connections lost or not made.
    pub failed: u64,
    /// Jobs given to it, further attempts included.
    pub sent: u64,
    /// Jobs that came to an end with it: a result, a failure, an exception, or queued in the background.
    pub finished: u64,
}

/// What a [`Strategy`] decides. Both fields are places in the list of candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "strategies of one's own make it")]
pub struct Choice {
    /// Who gets the job now: one that is [`Up`](LinkState::Up). `None`: the job waits for a change.
    pub send: Option<usize>,
    /// Whom to connect to: one that is [`Idle`](LinkState::Idle).
    pub dial: Option<usize>,
}

/// Chooses the job server of each job.
///
/// It is asked for each submission; again, until it has chosen all that it does, while the connection of its choice is full;
/// and for jobs that wait whenever a server's state changes.
pub trait Strategy: fmt::Debug + Send {
    /// Chooses among `candidates`, which stand in the order they were configured, for a job of `function` with `unique`
    /// (empty: none).
    fn choose(&mut self, function: &[u8], unique: &[u8], candidates: &[Candidate]) -> Choice;
}

/// Which job server gets a job.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Balance {
    /// The first that can be had, in the order they were configured; back to the first when it recovers. The default.
    #[default]
    Sequence,
    /// The same one as before as long as it can be had, else the next.
    Sticky,
    /// Each in turn, but for those whose connections are full. All are dialled at once; jobs that were submitted before the first
    /// is connected go to that one.
    RoundRobin,
    /// The one with the fewest jobs outstanding. As with [`RoundRobin`](Self::RoundRobin), jobs that were submitted before
    /// the first is connected go to that one.
    LeastOutstanding,
    /// By the job's unique, on the ring of libgearman 2.2.0, so that equal uniques of all clients meet on one server. Jobs
    /// without a unique go by [`Sequence`](Self::Sequence).
    ByUnique,
    /// A strategy of one's own.
    Custom(Box<dyn Strategy>),
}

/// A [`Balance`] at work.
#[derive(Debug)]
pub(crate) struct Balancer {
    balance: Balance,
    /// Whose turn it is, or who had it last.
    turn: usize,
    ring: Ring,
    /// Whom `ring` is made of.
    ringed: Vec<ServerId>,
}

impl Balancer {
    pub(crate) fn new(balance: Balance) -> Self {
        Self { balance, turn: 0, ring: Ring::default(), ringed: Vec::new() }
    }

    #[inline(always)]
    pub(crate) fn choose(&mut self, function: &[u8], unique: &[u8], candidates: &[Candidate]) -> Choice {
        match &mut self.balance {
            Balance::Sequence => in_order(0..candidates.len(), candidates),
            Balance::Sticky => {
                let choice = in_order(around(self.turn, candidates.len()), candidates);
                self.turn = choice.send.unwrap_or(self.turn);
                choice
            }
            Balance::RoundRobin => {
                let Choice { send, .. } = in_order(around(self.turn, candidates.len()), candidates);
                self.turn = send.map_or(self.turn, |place| place + 1);
                // All are wanted, so nobody waits to see whether another can be had.
                let dial = around(self.turn, candidates.len())
                    .find(|&place| candidates.get(place).is_some_and(|candidate| candidate.state == LinkState::Idle));
                Choice { send, dial }
            }
            Balance::LeastOutstanding => {
                let up = candidates.iter().enumerate().filter(|(_, candidate)| candidate.state == LinkState::Up);
                let send = up.min_by_key(|(_, candidate)| candidate.outstanding).map(|(place, _)| place);
                let dial = candidates.iter().position(|candidate| candidate.state == LinkState::Idle);
                Choice { send, dial }
            }
            Balance::ByUnique if unique.is_empty() => in_order(0..candidates.len(), candidates),
            Balance::ByUnique => self.by_unique(unique, candidates),
            Balance::Custom(strategy) => strategy.choose(function, unique, candidates),
        }
    }

    fn by_unique(&mut self, unique: &[u8], candidates: &[Candidate]) -> Choice {
        let there = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.state.takes_jobs());
        if !there().map(|(_, candidate)| candidate.server).eq(self.ringed.iter().copied()) {
            self.ring = Ring::new(there().map(|(place, candidate)| (place, &candidate.address)));
            self.ringed = there().map(|(_, candidate)| candidate.server).collect();
        }
        // An heir is no better than the owner unless the owner has failed: wait for it.
        let owner = self.ring.pick(unique, |place| {
            candidates.get(place).is_some_and(|owner| !matches!(owner.state, LinkState::Down | LinkState::Slow))
        });
        let Some(place) = owner else { return Choice::default() };
        let state = candidates.get(place).map(|owner| owner.state);
        Choice {
            send: (state == Some(LinkState::Up)).then_some(place),
            dial: (state == Some(LinkState::Idle)).then_some(place),
        }
    }
}

fn around(turn: usize, length: usize) -> impl Iterator<Item = usize> {
    let turn = turn % length.max(1);
    (turn..length).chain(0..turn)
}

/// The first that is up gets the job; the first before it that can be had is dialled, unless one is about to be there.
fn in_order(places: impl Iterator<Item = usize>, candidates: &[Candidate]) -> Choice {
    let mut dial = None;
    let mut pending = false;
    for place in places {
        match candidates.get(place).map(|candidate| candidate.state) {
            Some(LinkState::Up) => return Choice { send: Some(place), dial },
            Some(LinkState::Idle) if !pending && dial.is_none() => dial = Some(place),
            Some(LinkState::Connecting) => pending = true,
            _ => {}
        }
    }
    Choice { send: None, dial }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkState::{Connecting, Down, Draining, Idle, Slow, Up};

    fn candidates(states: &[LinkState]) -> Vec<Candidate> {
        let named = (0..).zip(states);
        named
            .map(|(place, &state)| Candidate {
                server: ServerId(place),
                address: Address::new("h", u16::try_from(place).expect("few") + 1).expect("valid"),
                state,
                retry_at: None,
                failure: None,
                outstanding: 0,
                counters: ServerCounters::default(),
            })
            .collect()
    }

    fn once(balance: Balance, states: &[LinkState]) -> (Option<usize>, Option<usize>) {
        let Choice { send, dial } = Balancer::new(balance).choose(b"f", b"", &candidates(states));
        (send, dial)
    }

    fn sends(balance: Balance, rounds: &[&[LinkState]]) -> Vec<Option<usize>> {
        let mut balancer = Balancer::new(balance);
        rounds.iter().map(|states| balancer.choose(b"f", b"u", &candidates(states)).send).collect()
    }

    #[test]
    fn sequence_takes_the_first_that_is_up_and_dials_what_stands_before_it() {
        let choice = |states: &[LinkState]| once(Balance::Sequence, states);
        assert_eq!(choice(&[Idle, Idle]), (None, Some(0)));
        assert_eq!(choice(&[Up, Idle]), (Some(0), None));
        assert_eq!(choice(&[Idle, Up]), (Some(1), Some(0)), "the first has recovered: it is tried, and delays nothing");
        assert_eq!(choice(&[Down, Up]), (Some(1), None));
        assert_eq!(choice(&[Down, Idle]), (None, Some(1)));
        assert_eq!(choice(&[Connecting, Idle]), (None, None), "one attempt at a time");
        assert_eq!(choice(&[Slow, Idle]), (None, Some(1)), "unless it takes long");
        assert_eq!(choice(&[Down, Down]), (None, None));
        assert_eq!(choice(&[]), (None, None));
    }

    #[test]
    fn sticky_stays_where_it_is_and_sequence_goes_back() {
        let rounds: [&[LinkState]; 5] = [&[Up, Up], &[Down, Up], &[Up, Up], &[Up, Down], &[Up, Up]];
        assert_eq!(sends(Balance::Sticky, &rounds), [Some(0), Some(1), Some(1), Some(0), Some(0)]);
        assert_eq!(sends(Balance::Sequence, &rounds), [Some(0), Some(1), Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_what_cannot_be_had() {
        let rounds: [&[LinkState]; 6] =
            [&[Up, Up, Up], &[Up, Up, Up], &[Up, Up, Up], &[Up, Down, Up], &[Up, Down, Up], &[Up, Draining, Up]];
        assert_eq!(sends(Balance::RoundRobin, &rounds), [Some(0), Some(1), Some(2), Some(0), Some(2), Some(0)]);
        assert_eq!(once(Balance::RoundRobin, &[Idle, Up]), (Some(1), Some(0)));
        assert_eq!(once(Balance::RoundRobin, &[Up, Idle]), (Some(0), Some(1)));
        assert_eq!(once(Balance::RoundRobin, &[Connecting, Idle]), (None, Some(1)), "each is dialled at once");
    }

    #[test]
    fn least_outstanding_counts() {
        let mut three = candidates(&[Up, Up, Up]);
        three[0].outstanding = 5;
        three[1].outstanding = 2;
        three[2].outstanding = 3;
        let mut balancer = Balancer::new(Balance::LeastOutstanding);
        assert_eq!(balancer.choose(b"f", b"", &three), Choice { send: Some(1), dial: None });
        three[1].state = Down;
        assert_eq!(balancer.choose(b"f", b"", &three), Choice { send: Some(2), dial: None });
    }

    #[test]
    fn by_unique_waits_for_the_owner_and_goes_to_the_heir_when_it_has_failed() {
        let mut balancer = Balancer::new(Balance::ByUnique);
        let mut three = candidates(&[Up, Up, Up]);
        for (place, candidate) in three.iter_mut().enumerate() {
            candidate.address = Address::new(["10.0.0.1", "10.0.0.2", "10.0.0.3"][place], 0).expect("valid");
        }
        let mut choose = |states: [LinkState; 3]| {
            for (candidate, state) in three.iter_mut().zip(states) {
                candidate.state = state;
            }
            let Choice { send, dial } = balancer.choose(b"f", b"order-42", &three);
            (send, dial)
        };
        assert_eq!(choose([Up, Up, Up]), (Some(1), None));
        assert_eq!(choose([Up, Idle, Up]), (None, Some(1)));
        assert_eq!(choose([Up, Connecting, Up]), (None, None));
        assert_eq!(choose([Up, Down, Up]), (Some(2), None));
        assert_eq!(choose([Up, Slow, Up]), (Some(2), None));
        assert_eq!(choose([Up, Down, Down]), (Some(0), None));
        assert_eq!(choose([Down, Down, Down]), (None, None));
        assert_eq!(once(Balance::ByUnique, &[Up, Up, Up]), (Some(0), None), "no unique: in order");
    }

    #[test]
    fn a_strategy_of_ones_own_is_asked() {
        #[derive(Debug)]
        struct Last;
        impl Strategy for Last {
            fn choose(&mut self, function: &[u8], unique: &[u8], candidates: &[Candidate]) -> Choice {
                assert_eq!((function, unique), (&b"f"[..], &b"u"[..]));
                Choice { send: candidates.len().checked_sub(1), dial: None }
            }
        }
        assert_eq!(sends(Balance::Custom(Box::new(Last)), &[&[Up, Up]]), [Some(1)]);
    }
}
