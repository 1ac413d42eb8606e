//! When a worker asks which job server for how many jobs, and when it sleeps.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::{Event, Function, Mood, Reply, Stop, Worker};
use crate::link::Removal;
use crate::time::{Instant, earlier};
use crate::wire::PacketType;

impl Worker {
    pub(super) fn offer(&mut self, place: usize, function: &Bytes, timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => {
                let millis = timeout.as_millis().to_string();
                self.links.send(place, PacketType::CAN_DO_TIMEOUT, &[function, millis.as_bytes()], None, None);
            }
            None => self.links.send(place, PacketType::CAN_DO, &[function], None, None),
        }
    }

    /// Tells each server of functions that it must forget, once no job of them can be lost by it.
    pub(super) fn forget_functions(&mut self) {
        if self.leaving == 0 {
            return;
        }
        for (place, side) in self.sides.iter_mut().enumerate() {
            if side.to_forget.is_empty() || side.grabs > 0 {
                continue;
            }
            let (links, tasks) = (&mut self.links, &self.tasks);
            side.to_forget.retain(|function| {
                let in_hand =
                    tasks.iter().any(|(_, task)| task.place == place && !task.gone && task.function == *function);
                if !in_hand {
                    links.send(place, PacketType::CANT_DO, &[function], None, None);
                }
                in_hand
            });
            if side.to_forget.is_empty() && side.mood == Mood::Tired {
                side.mood = Mood::Awake;
            }
        }
        let forgotten = |name: &Bytes, function: &Function| {
            function.leaving && !self.sides.iter().any(|side| side.to_forget.contains(name))
        };
        let gone: Vec<_> = self
            .functions
            .iter()
            .filter(|(name, function)| forgotten(name, function))
            .map(|(name, _)| name.clone())
            .collect();
        for function in gone {
            self.withdraw(&function);
            let function = self.plain(function);
            self.links.event(Event::Unregistered { function });
        }
    }

    /// How many more jobs may be asked for.
    pub(super) fn credits(&self) -> usize {
        let most = self.concurrency.saturating_add(if self.timed > 0 { 0 } else { self.prefetch });
        let others = self.sides.len() > 1;
        let counted = self.sides.iter().filter(|side| !(others && side.slow));
        most.saturating_sub(self.tasks.len() + counted.map(|side| side.grabs).sum::<usize>())
    }

    /// Asks for jobs, server by server in turn, as far as there are places for them.
    pub(super) fn grab_more(&mut self) {
        if self.stop != Stop::No || self.functions.is_empty() {
            return;
        }
        let mut credits = self.credits();
        let places = self.sides.len();
        let mut passed_over = 0;
        while credits > 0 && passed_over < places {
            let place = self.turn % places;
            self.turn = place + 1;
            if self.grab_from(place) {
                credits -= 1;
                passed_over = 0;
            } else {
                passed_over += 1;
            }
        }
    }

    pub(super) fn grab_from(&mut self, place: usize) -> bool {
        let Some(side) = self.sides.get_mut(place).filter(|side| side.mood == Mood::Awake && side.to_forget.is_empty())
        else {
            return false;
        };
        let wanted = self.links.get(place).is_some_and(|link| link.is_up() && link.removal == Removal::None);
        // Grabs at a slow server are not counted, so it gets no more of them until it answers.
        let slow = side.slow && side.grabs > 0;
        if side.grabs >= side.window || slow || !wanted {
            return false;
        }
        if side.grabs == 0 {
            side.grabbed = self.links.now;
            side.slow = false;
        }
        side.grabs += 1;
        self.links.send(place, side.grab.packet(), &[], None, Some(Reply::Grab));
        true
    }

    /// The server has no job: sleep, once no other grab is out.
    pub(super) fn tire(&mut self, place: usize) {
        let Some(side) = self.sides.get_mut(place) else { return };
        side.window = 1;
        side.mood = Mood::Tired;
        if side.grabs == 0 && self.stop == Stop::No && side.to_forget.is_empty() {
            side.mood = Mood::Asleep { since: self.links.now };
            self.links.send(place, PacketType::PRE_SLEEP, &[], None, None);
        }
    }

    /// Finds until when to wait. Apart, so that a poll for an output pays nothing for it.
    #[inline(never)]
    pub(super) fn settle(&mut self) {
        let wanted = self.stop == Stop::No && !self.functions.is_empty();
        self.links.settle(self.own_deadline(), |_| wanted);
    }

    /// When something of the worker's own is due: a task's limit, a safety grab, patience with a grab.
    fn own_deadline(&self) -> Option<Instant> {
        let first = self.limits.first().map(|&(at, _)| at);
        let patience = self.links.settings.patience;
        let sides =
            self.sides.iter().enumerate().filter(|(place, _)| self.links.is_up(*place) && self.stop == Stop::No);
        sides.fold(first, |first, (_, side)| {
            let asleep = match side.mood {
                Mood::Asleep { since } if !self.functions.is_empty() => self.regrab_after.map(|after| since + after),
                _ => None,
            };
            let impatient = self.sides.len() > 1 && side.grabs > 0 && !side.slow;
            earlier(first, earlier(asleep, impatient.then(|| side.grabbed + patience)))
        })
    }
}
