//! The clients of a run, and what must hold of what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gearwheel::client::{self, Client, Config};
use gearwheel::wire::{Packet, split};
use gearwheel::{Balance, Job, JobId, Outcome, Phase, Priority, Retry, ServerId};

use super::super::net::{Dice, Driver, EndId, HostId, MILLISECOND, SECOND};
use super::readers::Reading;
use super::record::{Record, judge_phase, parts, reversed};
use super::{FUNCTIONS, UNIX, World};

pub(super) struct ClientSlot {
    pub(super) host: HostId,
    pub(super) incarnation: u32,
    pub(super) driver: Option<Driver<Client>>,
    pub(super) jobs: BTreeMap<JobId, usize>,
    pub(super) asked: BTreeSet<client::RequestId>,
    /// Servers that are being removed.
    pub(super) leaving: BTreeSet<ServerId>,
    /// What it has written on each connection and was not a whole packet.
    pub(super) written: BTreeMap<EndId, BytesMut>,
    pub(super) reading: Reading,
    pub(super) closed: bool,
    pub(super) closing: bool,
}

impl World {
    pub(super) fn start_client(&mut self, place: usize) {
        if self.clients[place].driver.is_some() {
            return;
        }
        let mut config = Config::new(self.dice.seed());
        config.connecting = self.connecting();
        config.servers = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let turn = self.dice.below(config.servers.len());
        config.servers.rotate_left(turn);
        config.balance = match self.dice.below(5) {
            0 => Balance::Sticky,
            1 => Balance::RoundRobin,
            2 => Balance::LeastOutstanding,
            3 => Balance::ByUnique,
            _ => Balance::Sequence,
        };
        config.exceptions = self.dice.chance(800);
        if self.dice.chance(300) {
            config.limits.max_events = self.dice.below(8) + 1;
            config.limits.max_outgoing = self.dice.below(1 << 16) + 1;
            config.limits.max_jobs = self.dice.below(40) + 1;
        }
        if self.dice.chance(500) {
            config.deadlines.accept = None;
        }
        config.gather = Duration::from_millis(place as u64 % 2);
        let reading = Reading::new(&mut self.dice);
        reading.configure(&mut config);
        config.client_id = self.dice.chance(300).then(|| format!("client-{place}").into());
        let slot = &mut self.clients[place];
        if slot.incarnation > 0 {
            self.net.restart(slot.host);
        }
        let mut driver = Driver::new(&mut self.net, slot.host, Client::new(config).expect("a good configuration"));
        driver.tap();
        let unix_now = Duration::from_nanos(UNIX * SECOND + self.net.now());
        driver.act(&mut self.net, |client, now| client.set_unix_time(unix_now, now));
        slot.driver = Some(driver);
        slot.jobs.clear();
        slot.asked.clear();
        slot.leaving.clear();
        slot.written.clear();
        slot.reading = reading;
        (slot.closing, slot.closed) = (false, false);
        self.look_at_client(place);
    }

    pub(super) fn submit(&mut self, place: usize, dice: &mut Dice) {
        let number = self.records.len();
        let shared = dice.chance(150);
        let size = if dice.chance(20) { dice.skewed(200_000) } else { dice.skewed(4000) } as usize;
        let how = ["c", "cd", "f", "fd", "x", "xd"][if dice.chance(800) { dice.below(2) } else { dice.below(6) }];
        let delay = if dice.chance(700) { 0 } else { dice.skewed(5000) };
        // What stands in front says what the worker is to do with it.
        let payload = if shared {
            format!("u{}|cd|{delay}|", dice.below(3))
        } else {
            format!("{number}|{how}|{delay}|{}", "x".repeat(size))
        };
        let payload = Bytes::from(payload);
        let mut job = Job::new(FUNCTIONS[dice.below(FUNCTIONS.len())], payload.clone());
        if shared {
            job = job.unique(payload.clone());
        } else if dice.chance(200) {
            job = job.generated_unique();
        }
        let background = dice.chance(250);
        let mut not_before = None;
        match dice.below(10) {
            0 if background => {
                let delay = dice.skewed(60_000) * MILLISECOND;
                not_before = Some(self.net.now() + delay);
                job = job.after(Duration::from_nanos(delay));
            }
            1 => job = job.reducer("sum"),
            _ => {}
        }
        if background {
            job = job.background();
        }
        job = job.priority([Priority::High, Priority::Normal, Priority::Low][dice.below(3)]);
        let retry = match dice.below(4) {
            0 => Retry::Never,
            1 => Retry::Unsent,
            2 => Retry::Idempotent { attempts: dice.below(4) as u32 + 1 },
            _ => Retry::Idempotent { attempts: 100_000 },
        };
        job = job.retry(retry);
        let mut shortest: Option<u64> = None;
        let mut deadline = |dice: &mut Dice| {
            let nanos = dice.range(1, 20_000) * MILLISECOND;
            shortest = Some(shortest.map_or(nanos, |shortest| shortest.min(nanos)));
            Duration::from_nanos(nanos)
        };
        if dice.chance(100) {
            job = job.timeout(deadline(dice));
        }
        if dice.chance(100) {
            job = job.idle_timeout(deadline(dice));
        }
        if dice.chance(100) {
            job = job.accept_timeout(deadline(dice));
        }
        let slot = &mut self.clients[place];
        let Some(driver) = &mut slot.driver else { return };
        if slot.closed {
            return;
        }
        let submitted = self.net.now();
        let result = driver.act(&mut self.net, |client, now| client.submit(job.clone(), now));
        let Ok(id) = result else {
            let rejected = result.expect_err("it was not taken");
            assert_eq!(rejected.value, job, "what is refused comes back as it was");
            *self.outcomes.entry("refused by submit").or_default() += 1;
            return self.look_at_client(place);
        };
        self.by_payload.insert(payload.clone(), number);
        let old = slot.jobs.insert(id, number);
        assert!(old.is_none(), "{id:?} is used again");
        self.records.push(Record {
            client: place,
            incarnation: slot.incarnation,
            job: id,
            submitted,
            background,
            not_before,
            retry,
            payload,
            shared,
            shortest_deadline: shortest,
            abandoned: false,
            created: false,
            alive: false,
            ended: false,
            queued: None,
            handle: None,
            may_fail: false,
            written: 0,
            runs: 0,
        });
        self.net.note(format_args!("client {place} has job {number} taken as {id:?}"));
        self.look_at_client(place);
    }

    pub(super) fn abandon(&mut self, place: usize, dice: u64) {
        let slot = &mut self.clients[place];
        let (Some(driver), false) = (&mut slot.driver, slot.jobs.is_empty()) else { return };
        let at = (dice % slot.jobs.len() as u64) as usize;
        let (id, number) = slot.jobs.iter().nth(at).map(|(id, number)| (*id, *number)).expect("counted");
        self.records[number].abandoned = true;
        driver.act(&mut self.net, |client, now| client.abandon(id, now));
        self.look_at_client(place);
    }

    pub(super) fn ask(&mut self, place: usize, dice: &mut Dice) {
        let slot = &mut self.clients[place];
        let Some(driver) = &mut slot.driver else { return };
        let jobs: Vec<_> = slot.jobs.keys().copied().collect();
        let request = driver.act(&mut self.net, |client, now| {
            let servers: Vec<_> = client.servers().map(|candidate| candidate.server).collect();
            let server = *servers.get(dice.below(servers.len()))?;
            match dice.below(2) {
                0 => client.echo(server, Bytes::from(vec![b'e'; dice.skewed(300) as usize]), now).ok(),
                _ if jobs.is_empty() => None,
                _ => client.status(jobs[dice.below(jobs.len())], now).ok(),
            }
        });
        if let Some(request) = request {
            assert!(slot.asked.insert(request), "{request:?} is used again");
        }
        self.look_at_client(place);
    }

    pub(super) fn change_servers(&mut self, place: usize, dice: &mut Dice) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let slot = &mut self.clients[place];
        let (Some(driver), leaving) = (&mut slot.driver, &mut slot.leaving) else { return };
        driver.act(&mut self.net, |client, now| {
            let there: Vec<_> =
                client.servers().map(|candidate| (candidate.server, candidate.address.clone())).collect();
            match addresses.iter().find(|address| !there.iter().any(|(_, other)| other == *address)) {
                Some(missing) => drop(client.add_server(missing.clone(), now)),
                None if there.len() > 1 => {
                    let (server, _) = there[dice.below(there.len())];
                    client.remove_server(server, dice.chance(500), now).expect("it is there");
                    leaving.insert(server);
                }
                None => {}
            }
        });
        self.look_at_client(place);
    }

    /// Gives a client the servers that it has not.
    pub(super) fn give_servers(&mut self, place: usize) {
        let addresses: Vec<_> = self.servers.iter().map(|slot| slot.address.clone()).collect();
        let Some(driver) = &mut self.clients[place].driver else { return };
        driver.act(&mut self.net, |client, now| {
            for address in addresses {
                // One that is there, or is being removed, is refused.
                let _ = client.add_server(address, now);
            }
        });
    }

    /// Takes the events of a client, and compares them with what is known.
    pub(super) fn look_at_client(&mut self, place: usize) {
        self.read_what_was_written();
        while let Some(event) = self.clients[place].driver.as_mut().and_then(|driver| driver.events.pop_front()) {
            assert!(!self.clients[place].closed, "{event:?} behind Closed");
            let Some(event) = self.heard_of_probe(place, event) else { continue };
            match event {
                client::Event::Created { job, handle, .. } => {
                    let number = self.outstanding(place, job, "Created");
                    let record = &mut self.records[number];
                    assert!(!record.background, "Created for a background job");
                    assert!(!handle.as_bytes().is_empty());
                    record.created = true;
                    record.handle = Some(Bytes::copy_from_slice(handle.as_bytes()));
                }
                client::Event::Data { job, payload } | client::Event::Warning { job, payload } => {
                    self.sign_of_life(place, job, Some(&payload));
                    self.unread(place, job, payload.len());
                }
                client::Event::Progress { job, numerator, denominator } => {
                    assert_eq!((numerator, denominator), (1, 2));
                    self.sign_of_life(place, job, None);
                }
                client::Event::Done { job, outcome } => self.done(place, job, outcome),
                client::Event::Status { request, .. } | client::Event::Echo { request, .. } => {
                    assert!(self.clients[place].asked.remove(&request), "{request:?} is answered twice or never asked");
                }
                client::Event::Closed => {
                    let slot = &mut self.clients[place];
                    assert!(slot.jobs.is_empty(), "Closed before {:?} have ended", slot.jobs);
                    assert!(slot.asked.is_empty(), "Closed before {:?} are answered", slot.asked);
                    slot.closed = true;
                }
                client::Event::Removed { server } => {
                    assert!(self.clients[place].leaving.remove(&server), "{server:?} was not to be removed");
                    if self.calm {
                        self.give_servers(place);
                    }
                }
                _ => {}
            }
        }
        if self.clients[place].closed
            && let Some(driver) = self.clients[place].driver.take()
        {
            assert!(driver.machine.is_empty(), "a closed client holds something");
            assert_eq!(driver.connections(), 0, "a closed client has connections");
            assert_eq!(driver.wait(), None, "a closed client waits for something");
            (self.inputs, self.outputs) = (self.inputs + driver.inputs, self.outputs + driver.outputs);
            self.net.exit(self.clients[place].host);
            self.clients[place].incarnation += 1;
        }
    }

    pub(super) fn outstanding(&self, place: usize, job: JobId, what: &str) -> usize {
        let number = self.clients[place].jobs.get(&job).copied();
        number.unwrap_or_else(|| panic!("{what} for {job:?}, which has ended or never was"))
    }

    pub(super) fn sign_of_life(&mut self, place: usize, job: JobId, payload: Option<&Bytes>) {
        let number = self.outstanding(place, job, "a sign of life");
        let record = &mut self.records[number];
        assert!(!record.background, "a sign of life of a background job");
        assert!(record.created, "a sign of life before Created");
        record.alive = true;
        if let Some(payload) = payload {
            assert!(record.payload.starts_with(payload), "data of another job: {payload:?} for {:?}", record.payload);
        }
    }

    pub(super) fn done(&mut self, place: usize, job: JobId, outcome: Outcome) {
        let number = self.outstanding(place, job, "Done");
        self.clients[place].jobs.remove(&job);
        let closing = self.clients[place].closing;
        let picky = self.servers.iter().any(|slot| slot.picky || slot.has_drained);
        let drops = self.servers.iter().any(|slot| slot.was_impatient || slot.habits.is_some_and(|habits| habits.perl));
        let may_fail = drops || self.timed || self.shared_may_fail;
        let now = self.net.now();
        let record = &mut self.records[number];
        record.ended = true;
        let what = parts(&record.payload);
        let name = match &outcome {
            Outcome::Complete(result) => {
                assert!(!record.background);
                assert!(what.how.starts_with('c'), "a job that cannot complete has: {}", what.how);
                assert_eq!(*result, reversed(&record.payload), "the result of another job");
                "complete"
            }
            Outcome::Failed => {
                assert!(!record.background);
                assert!(
                    may_fail || record.may_fail || !what.how.starts_with('c'),
                    "a job that does not fail has failed"
                );
                "failed"
            }
            Outcome::Exception(text) => {
                assert!(!record.background);
                let limit = text.starts_with(b"the worker's time limit");
                assert!(limit || (what.how.starts_with('x') && text == "thrown"), "{text:?} was never thrown");
                "exception"
            }
            Outcome::Queued { handle, .. } => {
                assert!(record.background);
                record.queued = Some(Bytes::copy_from_slice(handle.as_bytes()));
                record.handle.clone_from(&record.queued);
                "queued"
            }
            Outcome::Rejected(error) => {
                assert!(picky, "refused: {error}");
                "rejected"
            }
            Outcome::TimedOut { phase, .. } => {
                let least = record.shortest_deadline.unwrap_or(30 * SECOND).min(30 * SECOND);
                assert!(now - record.submitted >= least, "timed out too early");
                judge_phase(record, *phase);
                "timed out"
            }
            Outcome::Lost { phase, .. } => {
                judge_phase(record, *phase);
                match record.retry {
                    Retry::Never => {}
                    Retry::Unsent => assert!(*phase >= Phase::Sent, "lost though no job server can have had it"),
                    Retry::Idempotent { attempts } => {
                        assert!(attempts < 100_000, "given up though another attempt was allowed");
                        assert!(*phase >= Phase::Sent);
                    }
                    _ => {}
                }
                "lost"
            }
            Outcome::Overflow { limit, phase, .. } => {
                assert_eq!(*phase, Phase::Running);
                judge_phase(record, *phase);
                self.clients[place].reading.judge_overflow(job, *limit);
                "overflowed"
            }
            Outcome::Cancelled { phase } => {
                judge_phase(record, *phase);
                assert!(record.abandoned || closing, "cancelled, though nobody has asked for it");
                "cancelled"
            }
            other => panic!("an outcome that is new: {other:?}"),
        };
        if !matches!(record.retry, Retry::Idempotent { .. }) && !record.shared {
            assert!(record.written <= 1, "submitted {} times though it is not to be retried", record.written);
        }
        self.clients[place].reading.forget(job);
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// Counts the submissions that clients have written whole.
    pub(super) fn read_what_was_written(&mut self) {
        for (host, end, bytes) in std::mem::take(&mut self.net.tapped) {
            let Some(slot) = host.checked_sub(self.servers.len()).and_then(|place| self.clients.get_mut(place)) else {
                continue;
            };
            let stream = slot.written.entry(end).or_default();
            stream.extend_from_slice(&bytes);
            while let Some(frame) = split(stream, usize::MAX).expect("a client writes packets") {
                let payload = match Packet::decode(frame.kind, frame.body).expect("a client writes whole packets") {
                    Packet::SubmitJob(packet) => packet.into_payload(),
                    Packet::SubmitJobHigh(packet) => packet.into_payload(),
                    Packet::SubmitJobLow(packet) => packet.into_payload(),
                    Packet::SubmitJobBg(packet) => packet.into_payload(),
                    Packet::SubmitJobHighBg(packet) => packet.into_payload(),
                    Packet::SubmitJobLowBg(packet) => packet.into_payload(),
                    Packet::SubmitJobEpoch(packet) => packet.into_payload(),
                    Packet::SubmitReduceJob(packet) => packet.into_payload(),
                    Packet::SubmitReduceJobBackground(packet) => packet.into_payload(),
                    _ => continue,
                };
                // While `submit` still runs its job has no number yet.
                let number = parts(&payload).number.unwrap_or(usize::MAX);
                if let Some(record) = self.records.get_mut(number) {
                    record.written += 1;
                }
            }
        }
    }
}
