//! What can go wrong on the way and at its ends.

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A connection attempt is refused.
    Refused,
    /// A connection attempt is never answered.
    BlackHole,
    /// A connection is reset behind some byte.
    Reset,
    /// A connection is ended in order behind some byte, as by a proxy.
    Ended,
    /// Behind some byte nothing passes any more, and nobody is told.
    HalfOpen,
    /// Behind some byte nothing passes in one direction.
    OneWay,
    /// A process dies: its peers are told.
    Crash,
    /// A computer dies: its peers are told nothing.
    PowerLoss,
    /// A host stands still for a while.
    Stall,
    /// A tick for no reason, time going back, or an input for a connection that is no more.
    Spurious,
    /// A link is slow: a second and more of latency, some bytes a millisecond.
    Slow,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::Refused,
        Self::BlackHole,
        Self::Reset,
        Self::Ended,
        Self::HalfOpen,
        Self::OneWay,
        Self::Crash,
        Self::PowerLoss,
        Self::Stall,
        Self::Spurious,
        Self::Slow,
    ];
}

/// How likely each fault is, in thousandths of the occasions for it, and how often it has been injected.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    chance: [u64; Fault::ALL.len()],
    pub injected: [u64; Fault::ALL.len()],
}

impl Faults {
    pub fn set(&mut self, fault: Fault, per_mille: u64) {
        self.chance[fault as usize] = per_mille;
    }

    pub fn chance(&self, fault: Fault) -> u64 {
        self.chance[fault as usize]
    }

    /// No more faults from now on.
    pub fn heal(&mut self) {
        self.chance = [0; Fault::ALL.len()];
    }

    pub fn count(&mut self, fault: Fault) {
        self.injected[fault as usize] += 1;
    }
}
