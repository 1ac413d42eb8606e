//! Who can run what, and who is woken for it.

use alloc::vec::Vec;

use super::{Full, Function, Queue};
use crate::job::Priority;
use crate::server::table::Link;
use crate::time::Instant;

/// Grabs that may wait at once: each new job looks at all of them.
const MOST_AWAITING: usize = 16;

/// That a connection can run a function.
#[derive(Debug)]
pub(in crate::server) struct Ability {
    pub(super) peer: u32,
    pub(in crate::server) function: u32,
    /// The limit of its jobs in milliseconds, zero for none.
    pub(super) timeout: u32,
    turn: u64,
    in_peer: Link,
    pub(super) dormant: [Link; 3],
    passed_over: Link,
    is_passed_over: bool,
    /// By priority: whether it stands in the worker's `ready`, else it is dormant.
    pub(super) ready: [bool; 3],
}

impl Queue {
    /// The connection can run the function, with a limit a job in milliseconds. Zero is none.
    pub(in crate::server) fn register(&mut self, peer: u32, function: u32, timeout: u32) -> Result<(), Full> {
        let floor = u32::try_from(self.rules.min_job_timeout.as_millis()).unwrap_or(u32::MAX);
        let timeout = if timeout == 0 { 0 } else { timeout.max(floor) };
        if let Some(known) = self.ability(peer, function) {
            self.abilities[known].timeout = timeout;
            return Ok(());
        }
        if self.abilities.len() >= self.rules.max_abilities {
            return Err(Full);
        }
        let party = self.party_mut(peer);
        party.first_turn -= 1;
        party.ability_count += 1;
        let turn = party.first_turn;
        let index = self.abilities.insert(Ability {
            peer,
            function,
            timeout,
            turn,
            in_peer: Link::LOOSE,
            dormant: [Link::LOOSE; 3],
            passed_over: Link::LOOSE,
            is_passed_over: false,
            ready: [false; 3],
        });
        let Self { abilities, ability_index, parties, functions, .. } = self;
        parties[peer as usize].abilities.push_front(abilities, index, |ability| &mut ability.in_peer);
        ability_index.insert_unique(ability_hash(peer, function), index, |&other| {
            ability_hash(abilities[other].peer, abilities[other].function)
        });
        functions[function].workers += 1;
        let mut finds_work = false;
        for priority in 0..3 {
            if functions[function].queues[priority].is_empty() {
                functions[function].dormant[priority]
                    .push_back(abilities, index, |ability| &mut ability.dormant[priority]);
            } else {
                abilities[index].ready[priority] = true;
                parties[peer as usize].ready[priority].insert(turn, index);
                finds_work = true;
            }
        }
        self.mark_idle(function);
        if finds_work && self.party(peer).asleep {
            self.wake(peer, function);
        }
        Ok(())
    }

    pub(in crate::server) fn ability(&self, peer: u32, function: u32) -> Option<u32> {
        self.ability_index
            .find(ability_hash(peer, function), |&index| {
                self.abilities[index].peer == peer && self.abilities[index].function == function
            })
            .copied()
    }

    /// Some ability of the connection.
    pub(in crate::server) fn ability_of(&self, peer: u32) -> Option<u32> {
        self.party(peer).abilities.first()
    }

    /// The functions that a connection can run, the newest first.
    pub(in crate::server) fn functions_of(&self, peer: u32) -> impl Iterator<Item = &Function> {
        let abilities = self.party(peer).abilities.iter(&self.abilities, |ability| &ability.in_peer);
        abilities.map(|index| &self.functions[self.abilities[index].function])
    }

    pub(in crate::server) fn unregister(&mut self, index: u32) {
        let Ability { peer, function, turn, ready, is_passed_over, .. } = self.abilities[index];
        let Self { abilities, ability_index, parties, functions, .. } = self;
        let party = &mut parties[peer as usize];
        for (priority, is_ready) in ready.into_iter().enumerate() {
            if is_ready {
                party.ready[priority].remove(&turn);
            } else {
                functions[function].dormant[priority]
                    .remove(abilities, index, |ability| &mut ability.dormant[priority]);
            }
        }
        if is_passed_over {
            functions[function].passed_over.remove(abilities, index, |ability| &mut ability.passed_over);
        }
        party.abilities.remove(abilities, index, |ability| &mut ability.in_peer);
        party.ability_count -= 1;
        if let Ok(entry) = ability_index.find_entry(ability_hash(peer, function), |&other| other == index) {
            entry.remove();
        }
        abilities.remove(index);
        functions[function].workers -= 1;
        let party = self.party_mut(peer);
        let was_promised = party.promised.take_if(|(promised, _)| *promised == function).is_some();
        if party.woken.take_if(|woken| *woken == function).is_some() || was_promised {
            // It was to take a job that it now will not take: somebody else must.
            for priority in [Priority::High, Priority::Normal, Priority::Low] {
                if !self.functions[function].queues[priority as usize].is_empty() {
                    self.announce(function, priority, self.rules.to_wake());
                }
            }
        }
        self.mark_idle(function);
    }

    /// The jobs of `function` that the connection runs.
    pub(in crate::server) fn running_of(&self, peer: u32, function: u32) -> Vec<u32> {
        let running = self.party(peer).running.iter(&self.jobs.table, |job| &job.link);
        running.filter(|&job| self.jobs.table[job].function == function).collect()
    }

    // Sleeping and waking.

    /// The worker sleeps, unless a job waits: then it is woken at once.
    pub(in crate::server) fn sleep(&mut self, peer: u32) {
        let next = self.next_ability(peer);
        let party = self.party_mut(peer);
        party.asleep = true;
        let woken = party.woken.take();
        if let Some((ability, _)) = next {
            let function = self.abilities[ability].function;
            self.wake(peer, function);
            if let Some(other) = woken.filter(|other| *other != function) {
                self.pass_wake_up(other);
            }
        }
    }

    // Grabs that wait.

    /// The grab of a connection waits for a job, until then at the longest. False: too many do.
    pub(in crate::server) fn await_job(&mut self, peer: u32, until: Instant) -> bool {
        let has_room = self.awaiting.len() < MOST_AWAITING;
        if has_room {
            self.awaiting.push_back((until, peer));
        }
        has_room
    }

    /// The grab of a connection does not wait any more.
    pub(in crate::server) fn await_no_job(&mut self, peer: u32) {
        self.awaiting.retain(|&(_, other)| other != peer);
    }

    /// A connection whose grab has waited until `now`.
    pub(in crate::server) fn tired(&self, now: Instant) -> Option<u32> {
        self.awaiting.front().filter(|(until, _)| *until <= now).map(|&(_, peer)| peer)
    }

    /// When the first of them has waited for long enough.
    pub(in crate::server) fn next_tired(&self) -> Option<Instant> {
        self.awaiting.front().map(|&(until, _)| until)
    }

    /// The first whose grab waits for such a job. It waits no more.
    pub(super) fn taker(&mut self, function: u32) -> Option<u32> {
        let at = self.awaiting.iter().position(|&(_, peer)| self.ability(peer, function).is_some())?;
        self.awaiting.remove(at).map(|(_, peer)| peer)
    }

    fn wake(&mut self, peer: u32, function: u32) {
        let not_all = self.rules.worker_wakeup > 0;
        let party = self.party_mut(peer);
        party.asleep = false;
        party.woken = not_all.then_some(function);
        self.woken.push(peer);
    }

    /// Who was woken for `function` has found something better: another is woken for it, if it still has a job.
    #[cold]
    pub(super) fn pass_wake_up(&mut self, function: u32) {
        if self.functions[function].queues.iter().any(|queue| !queue.is_empty()) {
            self.wake_passed_over(function, 1);
        }
    }

    /// Wakes so many of those who sleep beside a job of `function`. Says how many more could have been.
    fn wake_passed_over(&mut self, function: u32, mut to_wake: u32) -> u32 {
        while to_wake > 0 {
            let list = &mut self.functions[function].passed_over;
            let Some(index) = list.pop_front(&mut self.abilities, |ability| &mut ability.passed_over) else { break };
            self.abilities[index].is_passed_over = false;
            let peer = self.abilities[index].peer;
            if self.party(peer).asleep {
                self.wake(peer, function);
                to_wake -= 1;
            }
        }
        to_wake
    }

    /// Tells all who can run `function` that it has a job, and wakes `to_wake` of those who sleep.
    pub(super) fn announce(&mut self, function: u32, priority: Priority, to_wake: u32) {
        let priority = priority as usize;
        let mut to_wake = self.wake_passed_over(function, to_wake);
        loop {
            let list = &mut self.functions[function].dormant[priority];
            let Some(index) = list.pop_front(&mut self.abilities, |ability| &mut ability.dormant[priority]) else {
                break;
            };
            let ability = &mut self.abilities[index];
            ability.ready[priority] = true;
            let peer = ability.peer;
            let party = &mut self.parties[peer as usize];
            party.ready[priority].insert(ability.turn, index);
            if !party.asleep {
                continue;
            }
            if to_wake > 0 {
                to_wake -= 1;
                self.wake(peer, function);
            } else if !ability.is_passed_over {
                ability.is_passed_over = true;
                let list = &mut self.functions[function].passed_over;
                list.push_back(&mut self.abilities, index, |ability| &mut ability.passed_over);
            }
        }
    }

    /// The ability whose job is next for the connection, with its priority: the highest priority over all its functions,
    /// and within it the function whose turn it is.
    pub(super) fn next_ability(&mut self, peer: u32) -> Option<(u32, usize)> {
        let Self { parties, functions, abilities, .. } = self;
        let party = &mut parties[peer as usize];
        for priority in 0..3 {
            while let Some(entry) = party.ready[priority].first_entry() {
                let index = *entry.get();
                let function = &mut functions[abilities[index].function];
                if !function.queues[priority].is_empty() {
                    return Some((index, priority));
                }
                entry.remove();
                abilities[index].ready[priority] = false;
                function.dormant[priority].push_back(abilities, index, |ability| &mut ability.dormant[priority]);
            }
        }
        None
    }

    /// The function that was served has its next turn behind all others.
    pub(super) fn served(&mut self, index: u32) {
        let ability = &mut self.abilities[index];
        let party = &mut self.parties[ability.peer as usize];
        if party.ability_count == 1 {
            return;
        }
        for ready in &mut party.ready {
            if ready.remove(&ability.turn).is_some() {
                ready.insert(party.last_turn, index);
            }
        }
        ability.turn = party.last_turn;
        party.last_turn += 1;
    }

    pub(in crate::server) fn sleepers_beside_work(&self) -> usize {
        let has_work =
            |ability: &Ability| self.functions[ability.function].queues.iter().any(|queue| !queue.is_empty());
        self.abilities.iter().filter(|(_, ability)| self.party(ability.peer).asleep && has_work(ability)).count()
    }
}

/// The indices are the server's own, so that this needs no key.
const fn ability_hash(peer: u32, function: u32) -> u64 {
    let hash = (((peer as u64) << 32) | function as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}
