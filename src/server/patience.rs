//! Answers that wait a moment because a better one may come: see [`Config::patience`](super::Config::patience) and
//! [`Config::gather_results`](super::Config::gather_results).
//!
//! A client that submits one job after another submits the next as soon as it has the result. Its worker's grab is there
//! before: NO_JOB, PRE_SLEEP, NOOP and another grab would follow, four packets that a moment's patience saves. Its handle
//! may come with its result: a write less, and the client wakes once. And the results of a client that has many jobs
//! outstanding are worth one write together.

use super::Server;
use super::packets::Grab;
use super::peer::Gather;
use crate::wire::PacketType;

/// Results that leave together at most.
const MOST_RESULTS: u32 = 16;
/// Fewer than this are not worth waiting for.
const FEWEST_RESULTS: u32 = 3;
/// One result may wait in so many jobs that its client waits for.
const SHARE: u32 = 4;
/// A worker that has waited in vain is answered at once for a while: after so many times in vain, 2^this grabs.
const MOST_DOUBT: u8 = 6;

impl Server {
    /// A grab found nothing. Says whether it waits for a job to come.
    pub(super) fn waits(&mut self, peer: u32, form: Grab) -> bool {
        let Some(this) = self.peers.get_mut(peer) else { return false };
        if !core::mem::take(&mut this.told) || self.config.patience.is_zero() {
            return false;
        }
        if this.in_doubt > 0 {
            this.in_doubt -= 1;
            return false;
        }
        if !self.queue.await_job(peer, self.now + self.config.patience) {
            return false;
        }
        this.grab = Some(form);
        true
    }

    /// There may be a job for a grab that waited; says whether one did.
    pub(super) fn end_wait(&mut self, peer: u32) -> bool {
        let Some(this) = self.peers.get_mut(peer) else { return false };
        let Some(form) = this.grab.take() else { return false };
        this.doubt = 0;
        self.grab(peer, form);
        true
    }

    /// A grab has waited long enough, or its worker goes on without an answer.
    pub(super) fn give_up(&mut self, peer: u32) {
        self.queue.await_no_job(peer);
        if self.peers.get_mut(peer).is_some_and(|this| this.grab.take().is_some()) {
            self.peers.send(peer, PacketType::NO_JOB, &[], None);
        }
    }

    /// Gives out what has waited long enough.
    pub(super) fn lose_patience(&mut self) {
        while let Some(peer) = self.queue.tired(self.now) {
            self.give_up(peer);
            if let Some(this) = self.peers.get_mut(peer) {
                this.doubt = (this.doubt + 1).min(MOST_DOUBT);
                this.in_doubt = (1 << this.doubt) - 1;
            }
        }
    }

    /// How results for this connection, and the handles that it does not need for its next job, wait for each other, if they
    /// do: for `patience` where one result has followed the other within that.
    pub(super) fn gathers(&self, client: u32) -> Option<Gather> {
        let patience = self.config.patience;
        let follow = self.peers.get(client).is_some_and(|this| self.now < this.answered + patience);
        Some(Gather { until: follow.then(|| self.now + patience), ..self.gathers_at_once(client)? })
    }

    /// The same for its other handles, which wait only for what is there to be read: it may submit the next job when it has
    /// them.
    pub(super) fn gathers_at_once(&self, client: u32) -> Option<Gather> {
        let most = (self.queue.party(client).waiting / SHARE).min(MOST_RESULTS);
        (self.config.gather_results && most >= FEWEST_RESULTS).then_some(Gather { most, until: None })
    }

    /// How the handle of a job that was put in just now waits for its result, if it does: where its client waits for nothing
    /// else, and a worker for this job who was quick with his last.
    pub(super) fn waits_for_result(&self, client: u32) -> Option<Gather> {
        let taker = *self.queue.woken.last()?;
        let quick = self.queue.party(taker).promised.is_some() && self.peers.get(taker).is_some_and(|this| this.quick);
        let alone = self.queue.party(client).waiting == 1;
        (quick && alone).then(|| Gather { most: 1, until: Some(self.now + self.config.patience) })
    }
}
