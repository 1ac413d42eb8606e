//! A job server in a few obvious lines, straight on the virtual network and no machine at all: the other opinion of how
//! a job server behaves. Its [`Habits`] are those in which real ones differ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use gearwheel::CloseReason;
use gearwheel::wire::{Magic, Packet, PacketType, split};

use super::super::net::{EndId, HostId, Net, Occurrence};

/// In which real job servers differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Perl's: a job whose worker is lost fails, and EXCEPTION is not the end of it.
    pub perl: bool,
    /// rustygear's: packets that answer nothing bear the magic of a request.
    pub wrong_magic: bool,
    /// Wakes sleepers for nothing.
    pub nervous: bool,
    /// Forgets to wake sleepers, now and then.
    pub drowsy: bool,
    /// Refuses every so many submissions.
    pub picky: bool,
}

#[derive(Default)]
struct Guest {
    stream: BytesMut,
    out: VecDeque<Bytes>,
    can_do: BTreeSet<Bytes>,
    asleep: bool,
    exceptions: bool,
}

struct Job {
    function: Bytes,
    unique: Bytes,
    payload: Bytes,
    level: usize,
    background: bool,
    clients: Vec<EndId>,
    worker: Option<EndId>,
    status: (Bytes, Bytes),
}

/// The toy. Whatever it holds is lost when its host crashes: make a new one.
pub struct Toy {
    host: HostId,
    /// What stands before the number in its handles.
    prefix: String,
    habits: Habits,
    guests: BTreeMap<EndId, Guest>,
    jobs: BTreeMap<Bytes, Job>,
    queue: [VecDeque<Bytes>; 3],
    last: u64,
}

impl Toy {
    pub fn new(host: HostId, prefix: String, habits: Habits) -> Self {
        Self {
            host,
            prefix,
            habits,
            guests: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queue: Default::default(),
            last: 0,
        }
    }

    /// Whether it has no job.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.queue.iter().all(VecDeque::is_empty)
    }

    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    pub fn occur(&mut self, net: &mut Net, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Knock(end) if net.is_open(end) => {
                self.guests.insert(end, Guest::default());
                net.look_again(end);
            }
            Occurrence::Readable(end) => self.read(net, end),
            Occurrence::Writable(end) => self.flush(net, end),
            _ => {}
        }
    }

    fn read(&mut self, net: &mut Net, end: EndId) {
        let Some(guest) = self.guests.get_mut(&end) else { return };
        if net.read(end, usize::MAX, &mut guest.stream).is_err() {
            net.close(end, CloseReason::Reset);
            return self.left(net, end);
        }
        while let Some(guest) = self.guests.get_mut(&end)
            && let Some(frame) = split(&mut guest.stream, usize::MAX).expect("our machines send packets")
        {
            assert_eq!(frame.magic, Magic::Request);
            let packet = Packet::decode(frame.kind, frame.body).expect("our machines send whole packets");
            let sender_may = frame.kind.info().is_some_and(|info| info.senders != [gearwheel::wire::Sender::Server]);
            assert!(sender_may, "{packet:?} is not for a job server");
            self.packet(net, end, packet);
        }
    }

    fn packet(&mut self, net: &mut Net, end: EndId, packet: Packet) {
        let arguments: Vec<Bytes> = packet.arguments().map(Bytes::copy_from_slice).collect();
        let guest = self.guests.entry(end).or_default();
        match packet {
            Packet::SubmitJob(_) => self.submit(net, end, arguments, 1, false),
            Packet::SubmitJobHigh(_) => self.submit(net, end, arguments, 0, false),
            Packet::SubmitJobLow(_) => self.submit(net, end, arguments, 2, false),
            Packet::SubmitJobBg(_) => self.submit(net, end, arguments, 1, true),
            Packet::SubmitJobHighBg(_) => self.submit(net, end, arguments, 0, true),
            Packet::SubmitJobLowBg(_) => self.submit(net, end, arguments, 2, true),
            // It knows neither waiting nor reducing.
            Packet::SubmitJobEpoch(_) | Packet::SubmitReduceJobBackground(_) => {
                self.submit(net, end, short(arguments), 1, true);
            }
            Packet::SubmitReduceJob(_) => self.submit(net, end, short(arguments), 1, false),
            Packet::CanDo(_) | Packet::CanDoTimeout(_) => {
                guest.can_do.insert(arguments[0].clone());
            }
            Packet::CantDo(_) => {
                guest.can_do.remove(&arguments[0]);
                let held = |job: &Job| job.worker == Some(end) && job.function == arguments[0];
                assert!(!self.jobs.values().any(held), "CANT_DO while a job of the function runs: it would run again");
                self.take_back(net, end, Some(&arguments[0]));
            }
            Packet::PreSleep(_) => {
                guest.asleep = true;
                if self.find(end).is_some() || (self.habits.nervous && net.dice.chance(100)) {
                    self.wake(net, end);
                }
            }
            Packet::GrabJob(_) => self.grab(net, end, PacketType::JOB_ASSIGN),
            Packet::GrabJobUniq(_) => self.grab(net, end, PacketType::JOB_ASSIGN_UNIQ),
            Packet::GrabJobAll(_) if self.habits.perl => self.say_error(net, end, "unknown_command"),
            Packet::GrabJobAll(_) => self.grab(net, end, PacketType::JOB_ASSIGN_UNIQ),
            Packet::EchoReq(_) => self.say(net, end, PacketType::ECHO_RES, &arguments),
            Packet::OptionReq(_) => {
                guest.exceptions = true;
                self.say(net, end, PacketType::OPTION_RES, &arguments);
            }
            Packet::GetStatus(_) => {
                let reply = self.status(&arguments[0]);
                self.say(net, end, PacketType::STATUS_RES, &reply);
            }
            Packet::WorkStatus(_) => {
                if let Some(job) = self.held(net, end, &arguments[0]) {
                    job.status = (arguments[1].clone(), arguments[2].clone());
                    self.pass_on(net, PacketType::WORK_STATUS, &arguments, false);
                }
            }
            Packet::WorkData(_) | Packet::WorkWarning(_) => {
                if self.held(net, end, &arguments[0]).is_some() {
                    self.pass_on(net, packet.kind(), &arguments, false);
                }
            }
            Packet::WorkComplete(_) | Packet::WorkFail(_) => {
                if self.held(net, end, &arguments[0]).is_some() {
                    self.pass_on(net, packet.kind(), &arguments, true);
                }
            }
            Packet::WorkException(_) => {
                if self.held(net, end, &arguments[0]).is_some() {
                    self.pass_on(net, packet.kind(), &arguments, !self.habits.perl);
                }
            }
            Packet::SetClientId(_) => {}
            other => panic!("the toy does not know {other:?}"),
        }
    }

    fn submit(&mut self, net: &mut Net, end: EndId, arguments: Vec<Bytes>, level: usize, background: bool) {
        let [function, unique, payload] = arguments.try_into().expect("three arguments");
        if self.habits.picky && net.dice.chance(50) {
            return self.say_error(net, end, "QUEUE_ERROR");
        }
        let same = |job: &Job| !unique.is_empty() && job.unique == unique && job.function == function;
        let handle = match self.jobs.iter_mut().find(|(_, job)| same(job)) {
            Some((handle, job)) => {
                if !background {
                    job.clients.push(end);
                }
                handle.clone()
            }
            None => {
                self.last += 1;
                let handle = Bytes::from(format!("{}:{}", self.prefix, self.last));
                let clients = if background { Vec::new() } else { vec![end] };
                let (worker, status) = (None, (Bytes::from_static(b"0"), Bytes::from_static(b"0")));
                let job = Job { function, unique, payload, level, background, clients, worker, status };
                self.jobs.insert(handle.clone(), job);
                self.queue[level].push_back(handle.clone());
                handle
            }
        };
        self.say(net, end, PacketType::JOB_CREATED, std::slice::from_ref(&handle));
        self.wake_all(net, &handle);
    }

    fn wake_all(&mut self, net: &mut Net, handle: &Bytes) {
        let Some(job) = self.jobs.get(handle).filter(|job| job.worker.is_none()) else { return };
        let sleepers: Vec<_> =
            self.guests.iter().filter(|(_, guest)| guest.asleep && guest.can_do.contains(&job.function)).collect();
        let sleepers: Vec<_> = sleepers.into_iter().map(|(end, _)| *end).collect();
        for sleeper in sleepers {
            if !(self.habits.drowsy && net.dice.chance(300)) {
                self.wake(net, sleeper);
            }
        }
    }

    fn wake(&mut self, net: &mut Net, end: EndId) {
        self.push(net, end, PacketType::NOOP, &[]);
    }

    /// The next job that this worker can run.
    fn find(&self, end: EndId) -> Option<(usize, usize)> {
        let can_do = &self.guests.get(&end)?.can_do;
        let fits = |handle: &Bytes| self.jobs.get(handle).is_some_and(|job| can_do.contains(&job.function));
        (0..3).find_map(|level| self.queue[level].iter().position(fits).map(|place| (level, place)))
    }

    fn grab(&mut self, net: &mut Net, end: EndId, kind: PacketType) {
        if let Some(guest) = self.guests.get_mut(&end) {
            guest.asleep = false;
        }
        let Some((level, place)) = self.find(end) else { return self.say(net, end, PacketType::NO_JOB, &[]) };
        let handle = self.queue[level].remove(place).expect("found above");
        let job = self.jobs.get_mut(&handle).expect("what is queued is a job");
        job.worker = Some(end);
        let (function, unique, payload) = (job.function.clone(), job.unique.clone(), job.payload.clone());
        if kind == PacketType::JOB_ASSIGN {
            self.say(net, end, kind, &[handle, function, payload]);
        } else {
            self.say(net, end, kind, &[handle, function, unique, payload]);
        }
    }

    /// The job, if this worker holds it; else it is told off.
    fn held(&mut self, net: &mut Net, end: EndId, handle: &Bytes) -> Option<&mut Job> {
        if self.jobs.get(handle).is_none_or(|job| job.worker != Some(end)) {
            self.say_error(net, end, if self.habits.perl { "not_worker" } else { "JOB_NOT_FOUND" });
            return None;
        }
        self.jobs.get_mut(handle)
    }

    /// Passes a packet of a worker on to those who wait for the job.
    fn pass_on(&mut self, net: &mut Net, kind: PacketType, arguments: &[Bytes], end_of_it: bool) {
        let Some(job) = self.jobs.get(&arguments[0]) else { return };
        for client in job.clients.clone() {
            let deaf = self.guests.get(&client).is_none_or(|guest| !guest.exceptions);
            if kind == PacketType::WORK_EXCEPTION && deaf {
                if !self.habits.perl {
                    let handle = Bytes::from([&arguments[0][..], &[0]].concat());
                    self.push(net, client, PacketType::WORK_FAIL, &[handle]);
                }
            } else {
                self.push(net, client, kind, arguments);
            }
        }
        if end_of_it {
            self.jobs.remove(&arguments[0]);
        }
    }

    fn status(&self, handle: &Bytes) -> Vec<Bytes> {
        let zero = Bytes::from_static(b"0");
        let one = Bytes::from_static(b"1");
        match self.jobs.get(handle) {
            Some(job) => {
                let running = if job.worker.is_some() { one.clone() } else { zero };
                vec![handle.clone(), one, running, job.status.0.clone(), job.status.1.clone()]
            }
            None => vec![handle.clone(), zero.clone(), zero.clone(), zero.clone(), zero],
        }
    }

    /// Jobs that a worker holds go back into the queue, or fail.
    fn take_back(&mut self, net: &mut Net, end: EndId, function: Option<&Bytes>) {
        let held = |job: &Job| job.worker == Some(end) && function.is_none_or(|function| job.function == *function);
        let back: Vec<_> = self.jobs.iter().filter(|(_, job)| held(job)).map(|(handle, _)| handle.clone()).collect();
        for handle in back {
            let job = self.jobs.get_mut(&handle).expect("found above");
            job.worker = None;
            if self.habits.perl && !job.background {
                self.pass_on(net, PacketType::WORK_FAIL, std::slice::from_ref(&handle), true);
            } else if job.clients.is_empty() && !job.background {
                self.jobs.remove(&handle);
            } else {
                let level = job.level;
                self.queue[level].push_back(handle.clone());
                self.wake_all(net, &handle);
            }
        }
    }

    /// A guest is gone.
    fn left(&mut self, net: &mut Net, end: EndId) {
        self.guests.remove(&end);
        self.take_back(net, end, None);
        let mut dropped = Vec::new();
        for (handle, job) in &mut self.jobs {
            job.clients.retain(|client| *client != end);
            if job.clients.is_empty() && !job.background && job.worker.is_none() {
                dropped.push(handle.clone());
            }
        }
        for handle in dropped {
            self.jobs.remove(&handle);
            self.queue.iter_mut().for_each(|queue| queue.retain(|other| *other != handle));
        }
    }

    fn say_error(&mut self, net: &mut Net, end: EndId, code: &'static str) {
        self.say(net, end, PacketType::ERROR, &[Bytes::from_static(code.as_bytes()), Bytes::from_static(b"so there")]);
    }

    fn say(&mut self, net: &mut Net, end: EndId, kind: PacketType, arguments: &[Bytes]) {
        self.put(net, end, Magic::Response, kind, arguments);
    }

    /// Says what answers nothing.
    fn push(&mut self, net: &mut Net, end: EndId, kind: PacketType, arguments: &[Bytes]) {
        let magic = if self.habits.wrong_magic { Magic::Request } else { Magic::Response };
        self.put(net, end, magic, kind, arguments);
    }

    fn put(&mut self, net: &mut Net, end: EndId, magic: Magic, kind: PacketType, arguments: &[Bytes]) {
        let Some(guest) = self.guests.get_mut(&end) else { return };
        let mut bytes = BytesMut::new();
        Packet::decode(kind, arguments.join(&0).into()).expect("a packet of the table").encode(magic, &mut bytes);
        net.note(format_args!("toy {} says {kind} on end {end}", self.host));
        guest.out.push_back(bytes.freeze());
        self.flush(net, end);
    }

    fn flush(&mut self, net: &mut Net, end: EndId) {
        let Some(guest) = self.guests.get_mut(&end) else { return };
        while let Some(first) = guest.out.front_mut() {
            let room = net.room(end);
            if room == 0 {
                return;
            }
            net.send(end, first.split_to(room.min(first.len())));
            if first.is_empty() {
                guest.out.pop_front();
            }
        }
    }
}

/// Function, unique and payload of a submission that has more between them.
fn short(mut arguments: Vec<Bytes>) -> Vec<Bytes> {
    arguments.drain(2..arguments.len() - 1);
    arguments
}
