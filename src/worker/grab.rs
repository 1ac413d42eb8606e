//! When a worker asks which job server for how many jobs, and when it sleeps.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::oversized::Refused;
use super::{Assignment, Event, Function, Grab, Reply, Stop, Worker};
use crate::link::{Link, Removal};
use crate::links::Links;
use crate::time::Instant;
use crate::wire::PacketType;

/// Grabs that may be out at once, so that a worker of any number of jobs does not flood its server with them: each that is
/// answered by a job is followed by another.
pub(super) const MOST_GRABS: usize = 4096;
/// How often in a row a worker may be woken for nothing before it takes its time: from 2 to 8 ms, no longer, lest a job wait for it.
const EAGER: u32 = 16;
/// How often in a row finding no job behind a result is counted: at most 2^4 - 2 results are then followed by sleep unasked.
const LULLS: u32 = 4;
/// One that has slept for so long is woken for the first time.
const DEEP_SLEEP: Duration = Duration::from_secs(1);

/// Whether a server may have a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It may: ask before sleeping.
    Awake,
    /// It has none any more, but other grabs are still out.
    Tired,
    /// PRE_SLEEP was sent.
    Asleep { since: Instant },
    /// It was woken once more, after it had been for nothing again and again: it is not in a hurry.
    Dozing { until: Instant },
}

/// The worker's side of one connection.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) mood: Mood,
    pub(super) grab: Grab,
    /// Grabs without a reply, and when the oldest of them was sent.
    pub(super) grabs: usize,
    pub(super) grabbed: Instant,
    /// Whether that one takes longer than patience allows: the server must not keep the worker from the others.
    pub(super) slow: bool,
    /// How often in a row it was woken and found no job.
    pub(super) in_vain: u32,
    /// How many grabs may be out: grows while the server has jobs.
    pub(super) window: usize,
    /// Whether the grab that is out came right behind a result, with nothing else in hand.
    pub(super) behind: bool,
    /// How often in a row such a grab found no job, and how many results are still to be followed by sleep at once.
    pub(super) lulls: u32,
    pub(super) naps: u32,
    /// Functions that this server has been told of and must be told to forget.
    pub(super) to_forget: Vec<Bytes>,
    pub(super) leaving: bool,
    /// The job that is being passed over.
    pub(super) refused: Option<Box<Refused>>,
}

impl Side {
    pub(super) const fn new(grab: Grab) -> Self {
        Self {
            mood: Mood::Awake,
            grab,
            grabs: 0,
            grabbed: Instant::EPOCH,
            slow: false,
            in_vain: 0,
            window: 1,
            behind: false,
            lulls: 0,
            naps: 0,
            to_forget: Vec::new(),
            leaving: false,
            refused: None,
        }
    }

    /// Whether its server may be asked, as far as this side knows.
    fn is_ready(&self) -> bool {
        self.mood == Mood::Awake && self.to_forget.is_empty()
    }
}

impl Worker {
    pub(super) fn offer(&mut self, place: usize, function: &Bytes, timeout: Option<Duration>) {
        // gearmand takes a number that is too large for it for the smallest, and gives the job to others after a second.
        match timeout.filter(|timeout| timeout.as_millis() <= u32::MAX.into()) {
            Some(timeout) => {
                let millis = timeout.as_millis().to_string();
                self.links.send(place, PacketType::CAN_DO_TIMEOUT, &[function, millis.as_bytes()], None, None);
            }
            None => self.links.send(place, PacketType::CAN_DO, &[function], None, None),
        }
    }

    /// Tells each server of functions that it must forget, once no job of them can be lost by it.
    #[inline]
    pub(super) fn forget_functions(&mut self) {
        if self.leaving > 0 {
            self.forget_those_leaving();
        }
    }

    #[cold]
    fn forget_those_leaving(&mut self) {
        for (place, side) in self.sides.iter_mut().enumerate() {
            if side.to_forget.is_empty() || side.grabs > 0 {
                continue;
            }
            let (links, tasks, functions) = (&mut self.links, &self.tasks, &self.functions);
            side.to_forget.retain(|function| {
                let number = functions.get(function).map(|known| known.number);
                let in_hand =
                    tasks.iter().any(|(_, task)| task.place == place && !task.gone && Some(task.function) == number);
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
        self.own = self.own_deadline();
    }

    /// How many more jobs may be asked for.
    fn credits(&self) -> usize {
        let most = self.concurrency.saturating_add(if self.timed > 0 { 0 } else { self.prefetch });
        let grabs = match &self.sides[..] {
            [only] => only.grabs,
            sides => sides.iter().filter(|side| !side.slow).map(|side| side.grabs).sum(),
        };
        most.saturating_sub(self.tasks.len() + grabs)
    }

    /// A result goes to a server. Where there was no job behind the last ones, most likely there is none behind this one: to
    /// sleep at once saves asking. A server that has one after all says so, as it must where a job comes between NO_JOB and
    /// PRE_SLEEP; that costs a round trip more, so that now and then the worker asks all the same. Says whether it sleeps.
    pub(super) fn nap(&mut self, place: usize) -> bool {
        if !self.tasks.is_empty() || !self.wants_servers() {
            return false;
        }
        let Some(side) = self.sides.get_mut(place).filter(|side| side.is_ready() && side.grabs == 0) else {
            return false;
        };
        if !self.links.get(place).is_some_and(stays) {
            return false;
        }
        side.behind = side.naps == 0;
        if side.behind {
            return false;
        }
        side.naps -= 1;
        self.sleep(place);
        true
    }

    /// Asks for jobs as far as there are places for them.
    #[inline]
    pub(super) fn grab_more(&mut self) {
        let credits = self.credits();
        if credits > 0 && self.wants_servers() {
            self.grab(credits);
        }
    }

    /// Asks for so many jobs, server by server in turn.
    fn grab(&mut self, mut credits: usize) {
        let places = self.sides.len();
        if places == 1 {
            while credits > 0 && self.grab_from(0) {
                credits -= 1;
            }
            return;
        }
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

    #[inline]
    fn grab_from(&mut self, place: usize) -> bool {
        let Some(side) = self.sides.get_mut(place).filter(|side| side.is_ready() && side.grabs < side.window) else {
            return false;
        };
        let Some(link) = self.links.get(place).filter(|link| stays(link)) else { return false };
        // Grabs at a slow server are not counted, so it gets no more of them until it answers.
        if side.slow && side.grabs > 0 {
            return false;
        }
        if is_choked(&self.links, link) {
            self.remind(self.links.now + self.links.settings.patience);
            return false;
        }
        side.grabs += 1;
        let grab = side.grab.packet();
        if side.grabs == 1 {
            side.grabbed = self.links.now;
            side.slow = false;
            self.mind_grabs();
        }
        self.links.send(place, grab, &[], None, Some(Reply::Grab));
        true
    }

    /// A server must not keep the worker from the others: how long it takes for a grab is looked at.
    pub(super) fn mind_grabs(&mut self) {
        if self.sides.len() > 1 {
            self.remind(self.links.now + self.links.settings.patience);
        }
    }

    /// Hands out waiting jobs while there are places.
    #[inline]
    pub(super) fn hand_out(&mut self) {
        while self.running < self.concurrency
            && let Some(assignment) = self.waiting.pop_front()
        {
            self.begin(assignment);
        }
    }

    /// Hands out a job that has waited. Its time begins only now: until then its job server may take it away, but the worker
    /// has no cause to fail it.
    fn begin(&mut self, assignment: Assignment) {
        if let Some(task) = self.tasks.get_mut(assignment.task.index()) {
            task.began = self.links.now;
        }
        self.hand_over(assignment);
    }

    /// Hands out a job whose time begins now.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, assignment: Assignment) {
        self.running += 1;
        if self.timed > 0 {
            self.limit(assignment.task.index());
        }
        self.links.event(Event::Assigned(assignment));
    }

    /// Sees to it that a job ends in time, if its function has a limit.
    #[cold]
    fn limit(&mut self, index: usize) {
        if let Some(task) = self.tasks.get(index)
            && let Some(limit) = task.limit
        {
            let at = task.began + limit;
            self.limits.insert((at, index));
            self.remind(at);
        }
    }

    /// The server has no job: sleep, once no other grab is out.
    pub(super) fn tire(&mut self, place: usize) {
        let Some(side) = self.sides.get_mut(place) else { return };
        side.window = 1;
        side.mood = Mood::Tired;
        if core::mem::take(&mut side.behind) {
            side.lulls = (side.lulls + 1).min(LULLS);
            side.naps = (1 << side.lulls) - 2;
        }
        if side.grabs == 0 && self.stop == Stop::No && side.to_forget.is_empty() {
            self.sleep(place);
        }
    }

    fn sleep(&mut self, place: usize) {
        let now = self.links.now;
        if let Some(side) = self.sides.get_mut(place) {
            side.mood = Mood::Asleep { since: now };
            self.links.send(place, PacketType::PRE_SLEEP, &[], None, None);
        }
        if let Some(after) = self.regrab_after {
            self.remind(now + after);
        }
    }

    /// NOOP: the server may have a job. One that says so time and again and has none is not asked at once, as it would keep
    /// both busy with nothing; where many workers are woken for each job that comes about, too.
    pub(super) fn woken(&mut self, place: usize) {
        let now = self.links.now;
        let Some(side) = self.sides.get_mut(place) else { return };
        let Mood::Asleep { since } = side.mood else { return };
        side.in_vain = if since + DEEP_SLEEP <= now { 1 } else { side.in_vain.saturating_add(1) };
        match side.in_vain.checked_sub(EAGER) {
            None | Some(0) => {
                side.mood = Mood::Awake;
                self.grab_more();
            }
            Some(beyond) => {
                let until = now + Duration::from_millis(1 << beyond.min(3));
                side.mood = Mood::Dozing { until };
                self.remind(until);
            }
        }
    }

    /// Something of the worker's own may be due then.
    pub(super) fn remind(&mut self, at: Instant) {
        self.own = self.own.min(at);
    }

    /// When something of the worker's own is due: a task's limit, a safety grab, patience with a grab.
    pub(super) fn own_deadline(&self) -> Instant {
        let mut first = self.limits.first().map_or(Instant::NEVER, |&(at, _)| at);
        if self.stop != Stop::No {
            return first;
        }
        let patience = self.links.settings.patience;
        let several = self.sides.len() > 1;
        for (link, side) in self.links.iter().zip(&self.sides).filter(|(link, _)| link.is_up()) {
            let moody = match side.mood {
                Mood::Awake if is_choked(&self.links, link) => Some(self.links.now + patience),
                Mood::Dozing { until } => Some(until),
                Mood::Asleep { since } if !self.functions.is_empty() => self.regrab_after.map(|after| since + after),
                _ => None,
            };
            let patient = several && side.grabs > 0 && !side.slow;
            let impatient = patient.then(|| side.grabbed + patience);
            first = moody.into_iter().chain(impatient).fold(first, Instant::min);
        }
        first
    }
}

/// Whether too much waits to be written to a server to ask it for more.
fn is_choked(links: &Links<Reply, Event>, link: &Link<Reply>) -> bool {
    link.connection.out.waiting() >= links.limits.max_outgoing
}

/// Whether jobs may be asked for on a connection.
fn stays(link: &Link<Reply>) -> bool {
    link.is_up() && link.removal == Removal::None
}

/// A little less than the server's limit, which gearmand takes for at least a second: the worker must be the first to say
/// that the job failed, else it is silently given to another.
pub(super) fn local_limit(timeout: Duration) -> Duration {
    let servers = timeout.max(Duration::from_secs(1));
    timeout.min(servers - (servers / 10).min(Duration::from_millis(500)))
}
