//! Users who take their time to read what comes of their jobs, and what may wait meanwhile.

use std::collections::BTreeMap;

use gearwheel::JobId;
use gearwheel::client::{Config, EVENT_COST, Unread};

use super::super::net::{Dice, MILLISECOND};
use super::{Errand, World};

/// How the user of a client reads.
#[derive(Default)]
pub(super) struct Reading {
    policy: Unread,
    limit: usize,
    /// How long he leaves things unread at most, in milliseconds.
    slowness: u64,
    /// What he has not read of each outstanding job: the payloads' bytes.
    unread: BTreeMap<JobId, Vec<usize>>,
    /// He will read.
    soon: bool,
}

impl Reading {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let policy = [Unread::Polled, Unread::Overflow, Unread::Pause][dice.below(3)];
        let slowness = if dice.chance(300) { 0 } else { dice.skewed(20_000) };
        Self { policy, limit: dice.below(300), slowness, ..Self::default() }
    }

    pub(super) fn configure(&self, config: &mut Config) {
        (config.unread, config.limits.max_unread) = (self.policy, self.limit);
    }

    /// A job ends because nobody reads it only if more than one event and more than the limit would wait.
    pub(super) fn judge_overflow(&self, job: JobId, limit: usize) {
        assert_eq!((self.policy, self.limit), (Unread::Overflow, limit), "nobody asked for that");
        let waiting = self.unread.get(&job).map_or(0, |unread| cost(unread));
        assert!(waiting > 0, "it was all read");
        assert!(waiting + 10 + EVENT_COST > limit, "there was room: {waiting} of {limit}");
    }

    pub(super) fn forget(&mut self, job: JobId) {
        self.unread.remove(&job);
    }
}

fn cost(unread: &[usize]) -> usize {
    unread.iter().map(|payload| payload + EVENT_COST).sum()
}

impl World {
    /// The user of a client has something more to read.
    pub(super) fn unread(&mut self, client: usize, job: JobId, payload: usize) {
        let slot = &mut self.clients[client];
        let (incarnation, reading) = (slot.incarnation, &mut slot.reading);
        let waiting = reading.unread.entry(job).or_default();
        waiting.push(payload);
        match reading.policy {
            Unread::Overflow => assert!(waiting.len() == 1 || cost(waiting) <= reading.limit, "too much waits"),
            // The event that reaches the limit is the last, in whatever attempt of the job it comes.
            Unread::Pause => {
                let before = &waiting[..waiting.len() - 1];
                assert!(before.is_empty() || cost(before) < reading.limit, "too much waits");
            }
            _ => {}
        }
        if !std::mem::replace(&mut reading.soon, true) {
            let at = self.net.now() + self.dice.range(0, reading.slowness) * MILLISECOND;
            self.put_off(at, Errand::Read { client, incarnation });
        }
    }

    /// He reads all that there is.
    pub(super) fn read(&mut self, client: usize, incarnation: u32) {
        let slot = &mut self.clients[client];
        let Some(driver) = slot.driver.as_mut().filter(|_| slot.incarnation == incarnation) else { return };
        slot.reading.soon = false;
        for (job, payloads) in std::mem::take(&mut slot.reading.unread) {
            driver.act(&mut self.net, |machine, now| {
                payloads.into_iter().for_each(|payload| machine.release(job, payload, now));
            });
        }
        self.look_at_client(client);
    }
}
