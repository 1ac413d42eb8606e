//! The workers of a run and their handlers, and what must hold of what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use gearwheel::ServerId;
use gearwheel::worker::{self, Config, TaskId, Worker};

use super::super::net::{Dice, Driver, HostId, MILLISECOND, SECOND};
use super::record::{parts, reversed};
use super::{Errand, FUNCTIONS, World};

pub(super) struct WorkerSlot {
    pub(super) host: HostId,
    pub(super) incarnation: u32,
    pub(super) driver: Option<Driver<Worker>>,
    pub(super) tasks: BTreeMap<TaskId, Bytes>,
    /// Servers that are being removed.
    pub(super) leaving: BTreeSet<ServerId>,
    pub(super) concurrency: usize,
    pub(super) stopping: bool,
    pub(super) closed: bool,
}

impl World {
    pub(super) fn start_worker(&mut self, place: usize) {
        if self.workers[place].driver.is_some() {
            return;
        }
        let mut config = Config::new(self.dice.seed());
        config.connecting = self.connecting();
        config.servers = self.servers.iter().map(|slot| slot.address.clone()).collect();
        config.concurrency = self.dice.skewed(16) as usize + 1;
        config.prefetch = self.dice.skewed(16) as usize;
        config.grab = [worker::Grab::Plain, worker::Grab::Unique, worker::Grab::All][self.dice.below(3)];
        config.regrab_after = Some(Duration::from_secs(self.dice.range(1, 60)));
        config.timeout_is_exception = self.dice.chance(300);
        config.client_id = self.dice.chance(300).then(|| format!("worker-{place}").into());
        if self.dice.chance(300) {
            config.limits.max_events = self.dice.below(8) + 1;
            config.limits.max_outgoing = self.dice.below(1 << 16) + 1;
        }
        let slot = &mut self.workers[place];
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        slot.concurrency = config.concurrency;
        let choked_at = config.limits.max_outgoing;
        let mut driver = Driver::new(&mut self.net, slot.host, Worker::new(config).expect("a good configuration"));
        driver.choked_at = choked_at;
        for function in FUNCTIONS {
            driver.act(&mut self.net, |worker, now| worker.register(function, None, now)).expect("a new function");
        }
        slot.driver = Some(driver);
        slot.tasks.clear();
        slot.leaving.clear();
        (slot.stopping, slot.closed) = (false, false);
        self.look_at_worker(place);
    }

    pub(super) fn change_servers_of_worker(&mut self, place: usize, dice: &mut Dice) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let slot = &mut self.workers[place];
        let leaving = &mut slot.leaving;
        let Some(driver) = slot.driver.as_mut().filter(|_| !slot.closed) else { return };
        driver.act(&mut self.net, |worker, now| {
            let there: Vec<_> = worker.servers().map(|there| (there.server, there.address)).collect();
            match addresses.iter().find(|address| !there.iter().any(|(_, other)| other == *address)) {
                Some(missing) => drop(worker.add_server(missing.clone(), now)),
                None if there.len() > 1 => {
                    let (server, _) = there[dice.below(there.len())];
                    worker.remove_server(server, dice.chance(500), now).expect("it is there");
                    leaving.insert(server);
                }
                None => {}
            }
        });
        self.look_at_worker(place);
    }

    /// Gives a worker the servers that it has not.
    pub(super) fn give_servers_to_worker(&mut self, place: usize) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let slot = &mut self.workers[place];
        let Some(driver) = slot.driver.as_mut().filter(|_| !slot.stopping) else { return };
        driver.act(&mut self.net, |worker, now| {
            for address in addresses {
                // One that is there, or is being removed, is refused.
                let _ = worker.add_server(address, now);
            }
        });
    }

    /// Takes the events of a worker, and lets its handlers begin.
    pub(super) fn look_at_worker(&mut self, place: usize) {
        while let Some(event) = self.workers[place].driver.as_mut().and_then(|driver| driver.events.pop_front()) {
            let slot = &mut self.workers[place];
            assert!(!slot.closed, "{event:?} behind Closed");
            match event {
                worker::Event::Assigned(assignment) => {
                    let payload = Bytes::copy_from_slice(&assignment.payload);
                    let old = slot.tasks.insert(assignment.task, payload.clone());
                    assert!(old.is_none(), "{:?} is used again", assignment.task);
                    assert!(slot.tasks.len() <= slot.concurrency, "more jobs at once than the worker may run");
                    assert!(FUNCTIONS.iter().any(|function| assignment.function == *function));
                    let is_probe = self.probe.as_ref().is_some_and(|probe| probe.payload == payload);
                    let number = self.by_payload.get(&payload).copied();
                    assert!(number.is_some() || is_probe, "a job that nobody has submitted");
                    let ours = self.servers.iter().enumerate().any(|(place, slot)| {
                        slot.habits.is_none()
                            && assignment.handle.as_bytes().starts_with(format!("H:s{place}.").as_bytes())
                    });
                    if let Some(number) = number {
                        let record = &mut self.records[number];
                        record.runs += 1;
                        let too_early = record.not_before.is_some_and(|at| self.net.now() < at);
                        assert!(!(ours && too_early && !record.shared), "a delayed job runs before its time");
                    }
                    let at = self.net.now() + parts(&payload).delay * MILLISECOND;
                    let incarnation = slot.incarnation;
                    self.put_off(at, Errand::Work { worker: place, incarnation, task: assignment.task, turn: 0 });
                }
                worker::Event::Removed { server } => {
                    assert!(slot.leaving.remove(&server), "{server:?} was not to be removed");
                    if self.calm {
                        self.give_servers_to_worker(place);
                    }
                }
                worker::Event::Gone { task, .. } => {
                    assert!(slot.tasks.contains_key(&task), "{task:?} is gone, but it was never there");
                }
                worker::Event::Closed => {
                    assert!(slot.stopping, "Closed though nobody asked for it");
                    slot.closed = true;
                }
                _ => {}
            }
        }
        self.bury_worker(place);
    }

    /// A worker that has closed and has nothing in hand is replaced by a new one.
    pub(super) fn bury_worker(&mut self, place: usize) {
        let slot = &mut self.workers[place];
        if slot.closed
            && slot.tasks.is_empty()
            && let Some(driver) = slot.driver.take()
        {
            assert_eq!(driver.machine.in_hand(), 0, "a closed worker holds a job");
            assert_eq!(driver.connections(), 0, "a closed worker has connections");
            assert_eq!(driver.wait(), None, "a closed worker waits for something");
            (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
            slot.incarnation += 1;
            self.net.exit(slot.host);
            let at = self.net.now() + SECOND;
            if !self.calm || !self.all_ended() {
                self.put_off(at, Errand::StartWorker(place));
            }
        }
    }

    /// A handler goes on: data, warning and progress first where it sends some, then the end.
    pub(super) fn work(&mut self, place: usize, incarnation: u32, task: TaskId, turn: u32) {
        let slot = &mut self.workers[place];
        if slot.incarnation != incarnation || self.net.stalled_until(slot.host) > self.net.now() {
            if slot.incarnation == incarnation {
                let at = self.net.stalled_until(slot.host);
                self.put_off(at, Errand::Work { worker: place, incarnation, task, turn });
            }
            return;
        }
        let (Some(driver), Some(payload)) = (&mut slot.driver, slot.tasks.get(&task).cloned()) else { return };
        let what = parts(&payload);
        if what.how.ends_with('d') && turn < 3 {
            let part = payload.slice(..payload.len().min(10));
            driver.act(&mut self.net, |worker, now| match turn {
                0 => drop(worker.progress(task, 1, 2, now)),
                1 => drop(worker.data(task, part, now)),
                _ => drop(worker.warning(task, part, now)),
            });
            let at = self.net.now() + what.delay * MILLISECOND / 4;
            self.put_off(at, Errand::Work { worker: place, incarnation, task, turn: turn + 1 });
        } else {
            slot.tasks.remove(&task);
            driver.act(&mut self.net, |worker, now| match what.how.as_bytes().first() {
                Some(b'c') => drop(worker.complete(task, reversed(&payload), now)),
                Some(b'f') => drop(worker.fail(task, now)),
                _ => drop(worker.exception(task, Bytes::from_static(b"thrown"), now)),
            });
        }
        self.look_at_worker(place);
    }
}
