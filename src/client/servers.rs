//! The job servers of a client: who can be had, who comes and who goes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::gather::FEWEST;
use super::{Client, Event, Reply, RequestError};
use crate::address::Address;
use crate::balancer::{Candidate, ServerCounters};
use crate::error::{ConfigError, Reason, Rejected};
use crate::job::ServerId;
use crate::link::{Link, LinkState, Removal};
use crate::machine::CloseReason;
use crate::time::Instant;

pub(super) fn candidate(link: &Link<Reply>) -> Candidate {
    let (server, address) = (link.id, link.address.clone());
    Candidate {
        server,
        address,
        state: LinkState::Idle,
        retry_at: None,
        failure: None,
        outstanding: 0,
        counters: ServerCounters::default(),
    }
}

impl Client {
    /// The job servers as they stood at the last call that changed anything, in the order they were configured.
    pub fn servers(&self) -> impl Iterator<Item = &Candidate> {
        let there = |(_, link): &(&Candidate, &Link<Reply>)| link.removal != Removal::Done;
        self.candidates.iter().zip(self.links.iter()).filter(there).map(|(candidate, _)| candidate)
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is there already.
    pub fn add_server(&mut self, address: Address, now: Instant) -> Result<ServerId, ConfigError> {
        self.links.advance_clock(now);
        let place = self.links.add(address)?;
        let Some(added) = self.links.get(place).map(candidate) else { return Err(ConfigError::NoServers) };
        let server = added.server;
        if place < self.candidates.len() {
            self.candidates[place] = added;
        } else {
            self.candidates.push(added);
            self.asks.push(VecDeque::new());
        }
        self.place_parked();
        Ok(server)
    }

    /// Removes a job server. It gets no more jobs; with `drain` those that it has are finished first, else they are lost
    /// and go by their [`Retry`](crate::Retry). [`Event::Removed`] says when it is gone.
    ///
    /// # Errors
    /// There is no such server, or the client has closed.
    pub fn remove_server(&mut self, server: ServerId, drain: bool, now: Instant) -> Result<(), Rejected<ServerId>> {
        self.links.advance_clock(now);
        if self.closed {
            return Err(Rejected::new(Reason::Closed, server));
        }
        let Some(place) = self.links.place_of_server(server) else {
            return Err(Rejected::new(Reason::Unknown("job server"), server));
        };
        if let Some(link) = self.links.get_mut(place) {
            link.removal = Removal::Draining;
            let conn = link.conn();
            let owns = link.owns(conn);
            self.links.stir();
            if !owns {
                // It is not dialled any more, so that what waits for a connection waits in vain.
                self.end_requests(place, Vec::new(), &RequestError::Lost(CloseReason::Local));
            } else if !drain {
                self.break_off(place, &CloseReason::Local);
            }
        }
        self.remove_if_done(place);
        self.place_parked();
        Ok(())
    }

    /// Brings the candidates up to date: how the links stand, and who is kept away from while others can be had.
    pub(super) fn look_at_links(&mut self) {
        if !self.links.are_still(self.looked) {
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        let now = self.links.now;
        for (candidate, link) in self.candidates.iter_mut().zip(self.links.iter()) {
            candidate.state = link.state(now);
            candidate.retry_at = link.retry_at().filter(|_| candidate.state == LinkState::Down);
        }
        if self.links.iter().any(Link::is_on_probation) {
            let settings = &self.links.settings;
            let good = |(candidate, link): (&Candidate, &Link<Reply>)| {
                candidate.state.takes_jobs() && candidate.state != LinkState::Down && !link.is_recovering(now, settings)
            };
            let any_good = self.candidates.iter().zip(self.links.iter()).any(good);
            let proved = |(candidate, link): (&Candidate, &Link<Reply>)| {
                candidate.state == LinkState::Up && !link.is_on_probation()
            };
            let any_proved = self.candidates.iter().zip(self.links.iter()).any(proved);
            for (candidate, link) in self.candidates.iter_mut().zip(self.links.iter()) {
                match candidate.state {
                    LinkState::Idle if any_good && link.is_recovering(now, settings) => {
                        candidate.state = LinkState::Down;
                        candidate.retry_at = link.recovers_at(settings);
                    }
                    LinkState::Up if any_proved && link.is_on_probation() && candidate.outstanding > 0 => {
                        candidate.state = LinkState::Connecting;
                    }
                    _ => {}
                }
            }
        }
        let states = self.candidates.iter().map(|candidate| candidate.state);
        if self.shown.iter().copied().ne(states.clone()) {
            self.changed = true;
            self.shown.clear();
            self.shown.extend(states);
        }
        self.looked = self.links.steady();
    }

    pub(super) fn none_can_be_had(&self) -> bool {
        self.candidates.iter().all(|candidate| matches!(candidate.state, LinkState::Down | LinkState::Draining))
    }

    pub(super) fn leave(&mut self, place: usize, finished: bool) {
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.outstanding = candidate.outstanding.saturating_sub(1);
            candidate.counters.finished += u64::from(finished);
            if finished && candidate.outstanding + 1 >= FEWEST {
                self.gathering.ended(place, self.links.now);
            }
        }
        self.remove_if_done(place);
    }

    /// Ends the removal of a server that has nothing more to do.
    #[inline]
    pub(super) fn remove_if_done(&mut self, place: usize) {
        if self.links.get(place).is_some_and(|link| link.removal == Removal::Draining) {
            self.remove_once_idle(place);
        }
    }

    #[cold]
    fn remove_once_idle(&mut self, place: usize) {
        let idle = self.candidates.get(place).is_some_and(|candidate| candidate.outstanding == 0);
        let asked = self.asks.get(place).is_some_and(|asks| !asks.is_empty());
        let Some(link) = self.links.get_mut(place) else { return };
        let answered = link.connection.due().is_none() || !link.is_up();
        if idle && !asked && answered {
            link.removal = Removal::Done;
            let server = link.id;
            self.links.close(place);
            self.jobs.lay_all_ghosts(place);
            self.links.event(Event::Removed { server });
        }
    }
}
