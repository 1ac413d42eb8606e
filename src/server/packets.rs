//! What each packet does.

use bytes::Bytes;
use memchr::memchr;

use super::Server;
use super::jobs::{NewJob, write_decimal};
use super::queue::Full;
use crate::error::ProtocolError;
use crate::job::{MAX_CLIENT_ID, Priority};
use crate::time::Instant;
use crate::trace;
use crate::wire::table::{
    CanDo, CanDoTimeout, CantDo, EchoReq, GetStatus, GetStatusUnique, OptionReq, SetClientId, SubmitJob,
    SubmitJobEpoch, SubmitReduceJob, WorkFail, WorkStatus,
};
use crate::wire::{DecodeError, Frame, Magic, PacketType};
use core::time::Duration;

/// Bytes that a function may have here. gearmand has no limit but its buffer, libgearman's is 512.
pub(super) const MAX_FUNCTION: usize = 4 << 10;
/// Bytes that a unique or a reducer may have.
pub(super) const MAX_NAME: usize = 64;
/// What gearmand has room for, so that a longer handle in WORK_FAIL gets another ERROR.
const MAX_FAILED_HANDLE: usize = 64;

/// What is wrong with a packet.
enum Fault {
    /// ERROR, and the connection goes on.
    Refuse(&'static str, &'static str),
    /// The packet has not the arguments of its type.
    Incomplete,
    /// There is no going on.
    Close(ProtocolError),
}

use Fault::Refuse;

impl From<DecodeError> for Fault {
    fn from(_: DecodeError) -> Self {
        Self::Incomplete
    }
}

impl From<Full> for Fault {
    fn from(_: Full) -> Self {
        Refuse("QUEUE_ERROR", "Job queue is full")
    }
}

type Done = Result<(), Fault>;

/// A unique or reducer, out of a packet whose payload is to be kept.
struct Name {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Name {
    fn new(name: &[u8]) -> Result<Self, Fault> {
        let mut bytes = [0; MAX_NAME];
        let place = bytes.get_mut(..name.len()).ok_or(Refuse("ARGUMENT_TOO_LARGE", "Unique value too large"))?;
        place.copy_from_slice(name);
        Ok(Self { bytes, length: name.len() })
    }
}

impl core::ops::Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A number, written out.
struct Decimal {
    digits: [u8; 20],
    length: usize,
}

impl Decimal {
    fn new(number: u32) -> Self {
        let mut digits = [0; 20];
        let length = write_decimal(number.into(), &mut digits);
        Self { digits, length }
    }
}

impl core::ops::Deref for Decimal {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.digits.get(..self.length).unwrap_or_default()
    }
}

/// The form of a GRAB_JOB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grab {
    Plain,
    Unique,
    All,
}

impl Server {
    /// Does what a packet asks. `Err`: its connection is to be closed.
    pub(super) fn packet(&mut self, peer: u32, frame: Frame) -> Result<(), ProtocolError> {
        let kind = frame.kind;
        match self.dispatch(peer, frame) {
            Ok(()) => {}
            Err(Refuse(code, text)) => self.refuse(peer, code, text),
            Err(Fault::Incomplete) => self.refuse_incomplete(peer, kind),
            Err(Fault::Close(error)) => return Err(error),
        }
        Ok(())
    }

    /// Sends an ERROR.
    pub(super) fn refuse(&mut self, peer: u32, code: &str, text: &str) {
        self.counters.errors += 1;
        self.peers.get(peer).into_iter().for_each(|this| trace::refused(&this.span, code, text));
        self.peers.send(peer, PacketType::ERROR, &[code.as_bytes(), text.as_bytes()], None);
    }

    #[cold]
    fn refuse_incomplete(&mut self, peer: u32, kind: PacketType) {
        let arguments = kind.info().map(|info| info.arguments.join(", ")).unwrap_or_default();
        let text = alloc::format!("An incomplete set of arguments was sent; {kind} takes {arguments}");
        self.refuse(peer, "INVALID_ARGUMENTS", &text);
    }

    fn dispatch(&mut self, peer: u32, frame: Frame) -> Done {
        use Priority::{High, Low, Normal};
        let Frame { magic, kind, body, .. } = frame;
        if magic == Magic::Response && kind.info().is_some() {
            return Err(Refuse("INVALID_MAGIC", "Request magic expected"));
        }
        match kind {
            PacketType::SUBMIT_JOB => self.submit_job(peer, body, Normal, false)?,
            PacketType::SUBMIT_JOB_BG => self.submit_job(peer, body, Normal, true)?,
            PacketType::SUBMIT_JOB_HIGH => self.submit_job(peer, body, High, false)?,
            PacketType::SUBMIT_JOB_HIGH_BG => self.submit_job(peer, body, High, true)?,
            PacketType::SUBMIT_JOB_LOW => self.submit_job(peer, body, Low, false)?,
            PacketType::SUBMIT_JOB_LOW_BG => self.submit_job(peer, body, Low, true)?,
            PacketType::SUBMIT_JOB_EPOCH => self.submit_epoch(peer, body)?,
            PacketType::SUBMIT_REDUCE_JOB => self.submit_reduce(peer, body, false)?,
            PacketType::SUBMIT_REDUCE_JOB_BACKGROUND => self.submit_reduce(peer, body, true)?,
            PacketType::GRAB_JOB => self.grab(peer, Grab::Plain),
            PacketType::GRAB_JOB_UNIQ => self.grab(peer, Grab::Unique),
            PacketType::GRAB_JOB_ALL => self.grab(peer, Grab::All),
            PacketType::PRE_SLEEP => self.queue.sleep(peer),
            PacketType::WORK_COMPLETE
            | PacketType::WORK_DATA
            | PacketType::WORK_WARNING
            | PacketType::WORK_EXCEPTION => self.work(peer, kind, body)?,
            PacketType::WORK_STATUS => self.work_status(peer, body)?,
            PacketType::WORK_FAIL => self.work_fail(peer, body)?,
            PacketType::CAN_DO => self.can_do(peer, up_to_nul(CanDo::decode(body)?.function()), 0)?,
            PacketType::CAN_DO_TIMEOUT => {
                let packet = CanDoTimeout::decode(body)?;
                self.can_do(peer, packet.function(), timeout(packet.timeout()))?;
            }
            PacketType::CANT_DO => self.cant_do(peer, up_to_nul(CantDo::decode(body)?.function())),
            PacketType::RESET_ABILITIES => self.reset(peer),
            PacketType::GET_STATUS => self.status(peer, up_to_nul(GetStatus::decode(body)?.handle())),
            PacketType::GET_STATUS_UNIQUE => {
                self.status_unique(peer, up_to_nul(GetStatusUnique::decode(body)?.unique()));
            }
            PacketType::ECHO_REQ => {
                let payload = EchoReq::decode(body)?.into_payload();
                self.peers.send(peer, PacketType::ECHO_RES, &[], Some(&payload));
            }
            PacketType::OPTION_REQ => self.option(peer, OptionReq::decode(body)?.option())?,
            PacketType::SET_CLIENT_ID => self.name(peer, up_to_nul(SetClientId::decode(body)?.id())),
            kind if kind.info().is_some() => return Err(Refuse("INVALID_COMMAND", "Command not expected")),
            kind => return Err(Fault::Close(DecodeError::UnknownType(kind.number()).into())),
        }
        Ok(())
    }

    // A client's.

    fn submit_job(&mut self, peer: u32, body: Bytes, priority: Priority, background: bool) -> Done {
        let packet = SubmitJob::decode(body)?;
        let unique = Name::new(packet.unique())?;
        let function = self.function(peer, packet.function())?;
        let payload = packet.into_payload();
        let new = NewJob { function, unique: &unique, reducer: None, payload, priority, background };
        self.submit(peer, new, None)
    }

    fn submit_epoch(&mut self, peer: u32, body: Bytes) -> Done {
        let packet = SubmitJobEpoch::decode(body)?;
        let unique = Name::new(packet.unique())?;
        let function = self.function(peer, packet.function())?;
        let due = self.when(Duration::from_secs(natural(packet.epoch())));
        let payload = packet.into_payload();
        let (priority, background) = (Priority::Normal, true);
        self.submit(peer, NewJob { function, unique: &unique, reducer: None, payload, priority, background }, due)
    }

    fn submit_reduce(&mut self, peer: u32, body: Bytes, background: bool) -> Done {
        let packet = SubmitReduceJob::decode(body)?;
        let (unique, reducer) = (Name::new(packet.unique())?, Name::new(packet.reducer())?);
        let function = self.function(peer, packet.function())?;
        let payload = packet.into_payload();
        // Without a name it is an ordinary job.
        let (priority, reducer) = (Priority::Normal, Some(&*reducer).filter(|reducer| !reducer.is_empty()));
        self.submit(peer, NewJob { function, unique: &unique, reducer, payload, priority, background }, None)
    }

    fn submit(&mut self, peer: u32, new: NewJob<'_>, due: Option<Instant>) -> Done {
        if !self.is_open() {
            return Err(Refuse("SHUTTING_DOWN", "The job server is shutting down"));
        }
        let background = new.background;
        let known = self.queue.jobs.to_join(&new);
        let room = if known.is_some() { 0 } else { new.bytes() };
        if !self.queue.has_room(room) || (known.is_none() && self.queue.is_full(new.function, new.priority)) {
            return Err(Full.into());
        }
        let job = match known {
            Some(job) => {
                self.counters.joined += 1;
                self.queue.jobs.table[job].background |= background;
                job
            }
            None => self.queue.add(new, due, None),
        };
        if !background {
            self.queue.wait_for(peer, job);
        }
        self.counters.submitted += 1;
        let handle = self.handles.write(self.queue.jobs.table[job].number);
        let runs_ahead = self.peers.runs_ahead(peer);
        let waits = if background || known.is_some() { None } else { self.waits_for_result(peer) };
        let gather = || if runs_ahead && !background { self.gathers(peer) } else { self.gathers_at_once(peer) };
        self.peers.created(peer, &handle, waits.or_else(gather));
        Ok(())
    }

    /// The function with this name, made where there is none.
    fn function(&mut self, peer: u32, name: &[u8]) -> Result<u32, Fault> {
        let Some(this) = self.peers.get_mut(peer) else { return Err(Full.into()) };
        if let Some(last) = self.queue.functions.get(this.last_function)
            && *last.name == *name
        {
            return Ok(this.last_function);
        }
        if name.len() > MAX_FUNCTION {
            return Err(Refuse("ARGUMENT_TOO_LARGE", "Function value too large"));
        }
        let function = self.queue.intern(name)?;
        this.last_function = function;
        Ok(function)
    }

    fn status(&mut self, peer: u32, handle: &[u8]) {
        let job = self.handles.parse(handle).and_then(|number| self.queue.jobs.with_number(number));
        let [known, running, numerator, denominator, _] = self.status_of(job);
        let arguments: [&[u8]; 5] = [handle, &known, &running, &numerator, &denominator];
        self.peers.send(peer, PacketType::STATUS_RES, &arguments, None);
    }

    fn status_unique(&mut self, peer: u32, unique: &[u8]) {
        let job = self.queue.jobs.with_unique(unique);
        let [known, running, numerator, denominator, clients] = self.status_of(job);
        let arguments: [&[u8]; 6] = [unique, &known, &running, &numerator, &denominator, &clients];
        self.peers.send(peer, PacketType::STATUS_RES_UNIQUE, &arguments, None);
    }

    /// Known, running, numerator, denominator, clients that wait.
    fn status_of(&self, job: Option<u32>) -> [Decimal; 5] {
        let numbers = job.map_or([0; 5], |job| {
            let job = &self.queue.jobs.table[job];
            let is_running = job.state == super::jobs::State::Running;
            [1, u32::from(is_running), job.numerator, job.denominator, job.waiting]
        });
        numbers.map(Decimal::new)
    }

    fn option(&mut self, peer: u32, option: &[u8]) -> Done {
        if !up_to_nul(option).eq_ignore_ascii_case(b"exceptions") {
            return Err(Refuse("UNKNOWN_OPTION", "Server does not recognize given option"));
        }
        if let Some(this) = self.peers.get_mut(peer) {
            this.exceptions = true;
        }
        self.peers.send(peer, PacketType::OPTION_RES, &[option], None);
        Ok(())
    }

    // A worker's.

    fn can_do(&mut self, peer: u32, function: &[u8], timeout: u32) -> Done {
        let function = self.function(peer, function)?;
        Ok(self.queue.register(peer, function, timeout)?)
    }

    fn cant_do(&mut self, peer: u32, name: &[u8]) {
        let Some(function) = self.queue.function(name) else { return };
        let Some(ability) = self.queue.ability(peer, function) else { return };
        let running = self.queue.running_of(peer, function);
        self.queue.unregister(ability);
        for job in running {
            self.requeue(job, "its worker said CANT_DO");
        }
    }

    fn name(&mut self, peer: u32, id: &[u8]) {
        if let Some(this) = self.peers.get_mut(peer) {
            this.id = id.get(..MAX_CLIENT_ID).unwrap_or(id).into();
        }
    }

    pub(super) fn grab(&mut self, peer: u32, form: Grab) {
        let Some(job) = self.queue.grab(peer, self.now) else {
            if !self.waits(peer, form) {
                self.peers.send(peer, PacketType::NO_JOB, &[], None);
            }
            return;
        };
        self.counters.assigned += 1;
        let job = &self.queue.jobs.table[job];
        let handle = self.handles.write(job.number);
        let function = &*self.queue.functions[job.function].name;
        let (peers, unique) = (&mut self.peers, job.unique());
        let (all, each, plain) = (PacketType::JOB_ASSIGN_ALL, PacketType::JOB_ASSIGN_UNIQ, PacketType::JOB_ASSIGN);
        match (form, job.reducer(), job.payload()) {
            (Grab::Plain, _, Ok(small)) => peers.send(peer, plain, &[&handle, function, small], None),
            (Grab::Plain, _, Err(large)) => peers.send(peer, plain, &[&handle, function], Some(large)),
            (Grab::All, Some(reducer), Ok(small)) => {
                peers.send(peer, all, &[&handle, function, unique, reducer, small], None);
            }
            (Grab::All, Some(reducer), Err(large)) => {
                peers.send(peer, all, &[&handle, function, unique, reducer], Some(large));
            }
            (Grab::Unique | Grab::All, _, Ok(small)) => {
                peers.send(peer, each, &[&handle, function, unique, small], None);
            }
            (Grab::Unique | Grab::All, _, Err(large)) => {
                peers.send(peer, each, &[&handle, function, unique], Some(large));
            }
        }
        if self.config.silent_worker.is_some() {
            self.arm(peer);
        }
    }

    /// The job that a worker speaks of, if this connection runs it.
    fn held(&self, peer: u32, handle: &[u8], otherwise: &'static str) -> Result<u32, Fault> {
        let job = self.handles.parse(handle).and_then(|number| self.queue.held_by(peer, number));
        job.ok_or(Refuse("JOB_NOT_FOUND", otherwise))
    }

    fn work(&mut self, peer: u32, kind: PacketType, body: Bytes) -> Done {
        let otherwise = match kind {
            PacketType::WORK_COMPLETE => "Job given in work result not found",
            PacketType::WORK_EXCEPTION => "An exception was received for a job that does not exist",
            _ => "Job does not exist on server",
        };
        let (job, payload) = match memchr(0, &body) {
            Some(end) => (self.held(peer, body.get(..end).unwrap_or_default(), otherwise)?, body.slice(end + 1..)),
            // Perl's worker leaves the NUL out where the payload is empty.
            None => (self.held(peer, &body, otherwise).map_err(|_| Fault::Incomplete)?, Bytes::new()),
        };
        let handle = self.handles.write(self.queue.jobs.table[job].number);
        for waiter in self.queue.waiting_for(job) {
            let takes = kind != PacketType::WORK_EXCEPTION || self.peers.get(waiter).is_some_and(|w| w.exceptions);
            if kind == PacketType::WORK_COMPLETE {
                self.peers.result(waiter, &handle, &payload, self.gathers(waiter), self.now);
            } else if takes {
                self.peers.send(waiter, kind, &[&handle], Some(&payload));
            } else {
                self.peers.send(waiter, PacketType::WORK_FAIL, &[&handle], None);
            }
        }
        let ends = match kind {
            PacketType::WORK_COMPLETE => &mut self.counters.completed,
            PacketType::WORK_EXCEPTION => &mut self.counters.failed,
            _ => return Ok(()),
        };
        // One that was cancelled has been counted.
        *ends += u64::from(!self.queue.jobs.table[job].cancelled);
        self.end(peer, job);
        Ok(())
    }

    fn work_status(&mut self, peer: u32, body: Bytes) -> Done {
        let packet = WorkStatus::decode(body)?;
        let index = self.held(peer, packet.handle(), "Job given in work result not found")?;
        let job = &mut self.queue.jobs.table[index];
        job.numerator = wrapped(packet.numerator());
        job.denominator = wrapped(packet.denominator());
        let handle = self.handles.write(job.number);
        let arguments: [&[u8]; 3] = [&handle, packet.numerator(), packet.denominator()];
        for waiter in self.queue.waiting_for(index) {
            self.peers.send(waiter, PacketType::WORK_STATUS, &arguments, None);
        }
        Ok(())
    }

    fn work_fail(&mut self, peer: u32, body: Bytes) -> Done {
        let packet = WorkFail::decode(body)?;
        if packet.handle().len() >= MAX_FAILED_HANDLE {
            let text = "Error occurred due to GEARMAND_JOB_HANDLE_SIZE being too small from snprintf";
            return Err(Refuse("ARGUMENT_TOO_LARGE", text));
        }
        let job = self.held(peer, up_to_nul(packet.handle()), "Job given in work result not found")?;
        self.tell_failed(job);
        self.end(peer, job);
        Ok(())
    }

    /// The worker of a job has ended it.
    fn end(&mut self, peer: u32, job: u32) {
        let job_ref = &self.queue.jobs.table[job];
        if job_ref.waiting > 0
            && let Some(this) = self.peers.get_mut(peer)
        {
            this.told = true;
            this.quick = !job_ref.timed && self.now < job_ref.when + self.config.patience;
        }
        self.queue.count_run(job);
        self.queue.finish(job);
        self.is_rid_of_one(peer);
    }

    /// A worker has a job less: where that was its last, it is idle from now on.
    pub(super) fn is_rid_of_one(&mut self, peer: u32) {
        if self.config.idle.is_some()
            && self.queue.party(peer).running_count == 0
            && let Some(this) = self.peers.get_mut(peer)
        {
            this.heard = self.now;
            self.arm(peer);
        }
    }
}

/// A text as gearmand reads it where it is the only argument of a packet: clients that send C strings end it with a NUL.
fn up_to_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The number at the start of a text, behind white space and a sign: zero where there is none, the most there is where it
/// is more. Says also whether it is negative.
fn leading_number(text: &[u8]) -> (bool, u64) {
    let (negative, digits) = match text.trim_ascii_start() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0'))));
    (negative, number)
}

/// The number of SUBMIT_JOB_EPOCH or CAN_DO_TIMEOUT, of which a negative one counts as zero.
fn natural(text: &[u8]) -> u64 {
    let (negative, number) = leading_number(text);
    if negative { 0 } else { number }
}

/// The number of CAN_DO_TIMEOUT in milliseconds. What is no number, or a negative one, is no limit.
fn timeout(text: &[u8]) -> u32 {
    u32::try_from(natural(text)).unwrap_or(u32::MAX)
}

/// The number in a WORK_STATUS as gearmand keeps it: in 32 bits, with what is over cut off.
fn wrapped(text: &[u8]) -> u32 {
    let (negative, number) = leading_number(text);
    let number = if negative { number.wrapping_neg() } else { number };
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_are_read_as_gearmand_does() {
        let numbers: [(&[u8], u64); 8] = [
            (b"", 0),
            (b"abc", 0),
            (b"-1", 0),
            (b"12x", 12),
            (b" \t+12", 12),
            (b"0.5", 0),
            (b"+-5", 0),
            (b"99999999999999999999999", u64::MAX),
        ];
        numbers.iter().for_each(|(text, number)| assert_eq!(natural(text), *number));
        assert_eq!(wrapped(b"-1"), u32::MAX);
        assert_eq!(wrapped(b"+7"), 7);
        assert_eq!(wrapped(b"-"), 0);
        assert_eq!(wrapped(b" 5"), 5);
        assert_eq!(wrapped(b"0.5"), 0);
        assert_eq!(wrapped(b"4294967297"), 1);
        assert_eq!(timeout(b"4294967297"), u32::MAX);
    }
}
