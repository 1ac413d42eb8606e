//! The job servers of a worker: who comes and who goes.

use super::{Event, Side, Stop, Worker};
use crate::address::Address;
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::ServerId;
use crate::link::{LinkState, Removal};
use crate::machine::CloseReason;
use crate::time::Instant;

/// A job server of a worker, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobServer {
    /// Which one.
    pub server: ServerId,
    /// Where it is.
    pub address: Address,
    /// Whether it is connected.
    pub state: LinkState,
    /// When it is tried again, where it is [`Down`](LinkState::Down).
    pub retry_at: Option<Instant>,
    /// Why a connection to it was lost or not made the last time, whether or not it is back.
    pub failure: Option<CloseReason>,
    /// What has come of it so far.
    pub counters: ServerCounters,
}

/// Plain counts of one job server of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections made.
    pub connected: u64,
    /// Connections lost or not made.
    pub failed: u64,
    /// Jobs that it assigned.
    pub assigned: u64,
    /// Of these, those whose result, failure or exception went out.
    pub answered: u64,
}

impl Worker {
    /// Each job server and how it stands, in the order they were configured.
    pub fn servers(&self) -> impl Iterator<Item = JobServer> {
        let there = self.links.iter().zip(&self.tallies).filter(|(link, _)| link.removal != Removal::Done);
        there.map(|(link, counters)| {
            let state = link.state(self.links.now);
            let retry_at = link.retry_at().filter(|_| state == LinkState::Down);
            let (server, address, failure) = (link.id, link.address.clone(), link.failure.clone());
            JobServer { server, address, state, retry_at, failure, counters: *counters }
        })
    }

    #[cfg(feature = "blocking")]
    pub(crate) fn has_several_servers(&self) -> bool {
        self.links.len() > 1 && self.links.iter().filter(|link| link.removal != Removal::Done).nth(1).is_some()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is there already.
    pub fn add_server(&mut self, address: Address, now: Instant) -> Result<ServerId, ConfigError> {
        self.links.advance_clock(now);
        let place = self.links.add(address)?;
        match self.sides.get_mut(place) {
            Some(side) => {
                *side = Side::new(self.grab);
                self.tallies.get_mut(place).into_iter().for_each(|tally| *tally = ServerCounters::default());
            }
            None => {
                self.sides.push(Side::new(self.grab));
                self.tallies.push(ServerCounters::default());
            }
        }
        // With a second one there is patience to be had with the first.
        self.own = self.own_deadline();
        if self.wants_servers() {
            self.links.dial(place);
        }
        Ok(self.links.get(place).map_or(ServerId(0), |link| link.id))
    }

    /// Removes a job server. With `drain` the jobs that it has given are finished first, else they are [`Gone`](super::Gone).
    /// [`Event::Removed`] says when it is gone.
    ///
    /// # Errors
    /// There is no such server, or the worker has closed.
    pub fn remove_server(&mut self, server: ServerId, drain: bool, now: Instant) -> Result<(), Rejected<ServerId>> {
        self.links.advance_clock(now);
        if self.stop == Stop::Closed {
            return Err(Rejected::new(Reason::Closed, server));
        }
        let Some(place) = self.links.place_of_server(server) else {
            return Err(Rejected::new(Reason::Unknown("job server"), server));
        };
        if let Some(link) = self.links.get_mut(place) {
            link.removal = Removal::Draining;
        }
        if !drain && self.links.is_up(place) {
            self.break_off(place, CloseReason::Local);
        }
        self.leave_if_done();
        Ok(())
    }

    /// The connection to a server is closed: if that is what its removal waited for, it is gone.
    pub(super) fn removed(&mut self, place: usize) {
        if let Some(link) = self.links.get_mut(place).filter(|link| link.removal == Removal::Draining) {
            link.removal = Removal::Done;
            let server = link.id;
            self.links.event(Event::Removed { server });
        }
    }
}
