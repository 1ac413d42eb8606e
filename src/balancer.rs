//! Which job server gets a job: pure, and replaceable.

use alloc::boxed::Box;
use core::fmt;

use crate::address::Address;
use crate::job::ServerId;
use crate::link::LinkState;

/// A job server as a [`Strategy`] sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Which one.
    pub server: ServerId,
    /// Where it is.
    pub address: Address,
    /// Whether it can be had.
    pub state: LinkState,
    /// Jobs given to it that have not ended.
    pub outstanding: usize,
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
/// It is asked once for each submission, and again for jobs that wait whenever a server's state changes.
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
    /// A strategy of one's own.
    Custom(Box<dyn Strategy>),
}

impl Balance {
    pub(crate) fn choose(&mut self, function: &[u8], unique: &[u8], candidates: &[Candidate]) -> Choice {
        match self {
            Self::Sequence => in_order(candidates),
            Self::Custom(strategy) => strategy.choose(function, unique, candidates),
        }
    }
}

/// The first that is up gets the job; the first before it that can be had is dialled, unless one is about to be there.
fn in_order(candidates: &[Candidate]) -> Choice {
    let mut dial = None;
    let mut pending = false;
    for (place, candidate) in candidates.iter().enumerate() {
        match candidate.state {
            LinkState::Up => return Choice { send: Some(place), dial },
            LinkState::Idle if !pending && dial.is_none() => dial = Some(place),
            LinkState::Connecting => pending = true,
            LinkState::Idle | LinkState::Slow | LinkState::Down => {}
        }
    }
    Choice { send: None, dial }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkState::{Connecting, Down, Idle, Slow, Up};
    use alloc::vec::Vec;

    fn choice(states: &[LinkState]) -> (Option<usize>, Option<usize>) {
        let candidates: Vec<_> = states
            .iter()
            .enumerate()
            .map(|(place, &state)| Candidate {
                server: ServerId(u32::try_from(place).expect("few")),
                address: Address::new("h", 1).expect("valid"),
                state,
                outstanding: 0,
            })
            .collect();
        let Choice { send, dial } = Balance::Sequence.choose(b"f", b"", &candidates);
        (send, dial)
    }

    #[test]
    fn sequence_takes_the_first_that_is_up_and_dials_what_stands_before_it() {
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
}
