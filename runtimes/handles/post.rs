//! Where the events of a client's jobs wait for those who submitted them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;

use bytes::Bytes;

use crate::client::{Event, RequestError, RequestId, Status};
use crate::{Address, CloseReason, Handle, JobId, Outcome, Phase, ServerError, ServerId};

/// Bytes and events of jobs that may wait in one mailbox, beside how the jobs ended.
const MAX_BYTES: usize = 64 << 20;
const MAX_EVENTS: usize = 65_536;

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// JOB_CREATED: a job server has taken it. It may come again after a retry.
    Created {
        /// The job server's name for it.
        handle: Handle,
        /// The job server.
        server: ServerId,
    },
    /// WORK_DATA: a part of the result.
    Data(Bytes),
    /// WORK_WARNING.
    Warning(Bytes),
    /// WORK_STATUS: how far it is.
    Progress {
        /// Done so far.
        numerator: u64,
        /// Of so much.
        denominator: u64,
    },
    /// So many events were dropped, as 64 MiB or 65,536 events waited and nobody took them.
    Missed(usize),
    /// It has ended: the last event.
    Done(Outcome),
}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// WORK_FAIL: the worker failed it.
    #[error("the job failed")]
    Failed,
    /// WORK_EXCEPTION: what the worker threw.
    #[error("the job threw an exception: {}", String::from_utf8_lossy(.0))]
    Exception(Bytes),
    /// The job server refused it.
    #[error(transparent)]
    Rejected(ServerError),
    /// One of its deadlines passed.
    #[error("the job timed out {}", so_far(*.phase))]
    TimedOut {
        /// How far it had come.
        phase: Phase,
        /// The job server that had it, from [`Phase::Sending`] on.
        server: Option<Address>,
        /// How often it was submitted.
        attempts: u32,
    },
    /// The connection to its job server was lost.
    #[error("the job was lost with {server} {}: {reason}", so_far(*.phase))]
    Lost {
        /// How far it had come.
        phase: Phase,
        /// The job server.
        server: Address,
        /// What became of the connection.
        reason: CloseReason,
        /// How often it was submitted.
        attempts: u32,
    },
    /// It was abandoned, or its client closed.
    #[error("the job was given up {}", so_far(*.phase))]
    Cancelled {
        /// How far it had come.
        phase: Phase,
    },
}

const fn so_far(phase: Phase) -> &'static str {
    match phase {
        Phase::Parked => "before any job server could be had",
        Phase::Sending => "before it was sent",
        Phase::Sent => "before its job server said that it has it",
        Phase::Accepted => "before any worker was heard of",
        Phase::Running => "while it ran",
    }
}

impl JobError {
    /// The result of a job that ended so; of a background job, that it is queued.
    ///
    /// # Errors
    /// It has none.
    pub fn check(outcome: Outcome) -> Result<Bytes, Self> {
        Err(match outcome {
            Outcome::Complete(result) => return Ok(result),
            Outcome::Queued(_) => return Ok(Bytes::new()),
            Outcome::Failed => Self::Failed,
            Outcome::Exception(thrown) => Self::Exception(thrown),
            Outcome::Rejected(error) => Self::Rejected(error),
            Outcome::TimedOut { phase, server, attempts } => Self::TimedOut { phase, server, attempts },
            Outcome::Lost { phase, server, reason, attempts } => Self::Lost { phase, server, reason, attempts },
            Outcome::Cancelled { phase } => Self::Cancelled { phase },
        })
    }
}

/// One mailbox of a [`Post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mailbox(u32);

/// All mailboxes of a client. A mailbox is for one job or for a set of them; its room is used again.
#[derive(Debug, Default)]
pub(crate) struct Post {
    /// Whose mailbox each outstanding job has, by [`JobId::index`].
    jobs: Vec<Option<(JobId, Mailbox)>>,
    boxes: Vec<Contents>,
    free: Vec<Mailbox>,
    requests: BTreeMap<RequestId, Request>,
}

#[derive(Debug, Default)]
struct Contents {
    mail: VecDeque<(JobId, JobEvent)>,
    /// Events that are no ends, and their bytes.
    events: usize,
    bytes: usize,
    waker: Option<Waker>,
    /// Jobs that have not ended.
    outstanding: usize,
    /// Nothing but ends is wanted.
    ends_only: bool,
    /// Nobody takes anything any more.
    left: bool,
}

#[derive(Debug, Default)]
struct Request {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Status(Result<Status, RequestError>),
    Echo(Result<Bytes, RequestError>),
}

impl Post {
    /// Opens a mailbox. With `ends_only` it takes nothing but how jobs end.
    pub(crate) fn open(&mut self, ends_only: bool) -> Mailbox {
        let mailbox = self.free.pop().unwrap_or_else(|| {
            self.boxes.push(Contents::default());
            Mailbox(u32::try_from(self.boxes.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(contents) = self.contents(mailbox) {
            (contents.ends_only, contents.left) = (ends_only, false);
        }
        mailbox
    }

    /// The events of `job` go to `mailbox` from now on. To be called before the machine is polled.
    pub(crate) fn expect(&mut self, job: JobId, mailbox: Mailbox) {
        if self.jobs.len() <= job.index() {
            self.jobs.resize(job.index() + 1, None);
        }
        if let Some(place) = self.jobs.get_mut(job.index()) {
            *place = Some((job, mailbox));
        }
        if let Some(contents) = self.contents(mailbox) {
            contents.outstanding += 1;
        }
    }

    /// Nobody takes anything from `mailbox` any more.
    pub(crate) fn close(&mut self, mailbox: Mailbox) {
        if let Some(contents) = self.contents(mailbox) {
            contents.left = true;
            contents.mail.clear();
            (contents.events, contents.bytes, contents.waker) = (0, 0, None);
            if contents.outstanding == 0 {
                self.free.push(mailbox);
            }
        }
    }

    /// The jobs of `mailbox` that have not ended.
    pub(crate) fn jobs_of(&self, mailbox: Mailbox) -> Vec<JobId> {
        self.jobs.iter().flatten().filter(|(_, other)| *other == mailbox).map(|(job, _)| *job).collect()
    }

    /// How many jobs of `mailbox` have not ended.
    pub(crate) fn outstanding(&self, mailbox: Mailbox) -> usize {
        self.peek(mailbox).map_or(0, |contents| contents.outstanding)
    }

    /// How many events wait in `mailbox`.
    pub(crate) fn waiting(&self, mailbox: Mailbox) -> usize {
        self.peek(mailbox).map_or(0, |contents| contents.mail.len())
    }

    /// From now on only how jobs end is wanted in `mailbox`.
    pub(crate) fn want_ends(&mut self, mailbox: Mailbox) {
        if let Some(contents) = self.contents(mailbox)
            && !contents.ends_only
        {
            contents.ends_only = true;
            contents.mail.retain(|(_, event)| matches!(event, JobEvent::Done(_)));
            (contents.events, contents.bytes) = (0, 0);
        }
    }

    /// The next event in `mailbox`.
    pub(crate) fn next(&mut self, mailbox: Mailbox) -> Option<(JobId, JobEvent)> {
        let contents = self.contents(mailbox)?;
        let (job, event) = contents.mail.pop_front()?;
        if !matches!(event, JobEvent::Done(_)) {
            contents.events -= 1;
            contents.bytes -= event.size();
        }
        Some((job, event))
    }

    /// How the next job of `mailbox` that ended did so; what else waits is dropped.
    pub(crate) fn next_end(&mut self, mailbox: Mailbox) -> Option<(JobId, Outcome)> {
        loop {
            if let (job, JobEvent::Done(outcome)) = self.next(mailbox)? {
                return Some((job, outcome));
            }
        }
    }

    /// Whom to wake when something comes into `mailbox`.
    pub(crate) fn register(&mut self, mailbox: Mailbox, waker: &Waker) {
        if let Some(contents) = self.contents(mailbox) {
            replace(&mut contents.waker, waker);
        }
    }

    /// An answer is wanted. To be called before the machine is polled.
    pub(crate) fn ask(&mut self, request: RequestId) {
        self.requests.insert(request, Request::default());
    }

    /// The answer to `request`, once.
    pub(crate) fn answer(&mut self, request: RequestId) -> Option<Answer> {
        let answer = self.requests.get_mut(&request)?.answer.take()?;
        self.requests.remove(&request);
        Some(answer)
    }

    /// Whom to wake when `request` is answered.
    pub(crate) fn register_request(&mut self, request: RequestId, waker: &Waker) {
        if let Some(request) = self.requests.get_mut(&request) {
            replace(&mut request.waker, waker);
        }
    }

    /// Nobody takes the answer to `request` any more.
    pub(crate) fn forget(&mut self, request: RequestId) {
        self.requests.remove(&request);
    }

    /// Puts an event of the client where it belongs, and tells whom to wake. One that belongs to no one job comes back.
    pub(crate) fn deliver(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        let (job, event) = match event {
            Event::Created { job, handle, server } => (job, JobEvent::Created { handle, server }),
            Event::Data { job, payload } => (job, JobEvent::Data(payload)),
            Event::Warning { job, payload } => (job, JobEvent::Warning(payload)),
            Event::Progress { job, numerator, denominator } => (job, JobEvent::Progress { numerator, denominator }),
            Event::Done { job, outcome } => (job, JobEvent::Done(outcome)),
            Event::Status { request, result } => {
                self.reply(request, Answer::Status(result), wake);
                return None;
            }
            Event::Echo { request, result } => {
                self.reply(request, Answer::Echo(result), wake);
                return None;
            }
            other => return Some(other),
        };
        self.put(job, event, wake);
        None
    }

    fn put(&mut self, job: JobId, event: JobEvent, wake: &mut Vec<Waker>) {
        let Some(place) = self.jobs.get_mut(job.index()) else { return };
        let Some((_, mailbox)) = place.filter(|(known, _)| *known == job) else { return };
        let ends = matches!(event, JobEvent::Done(_));
        if ends {
            *place = None;
        }
        let Some(contents) = self.contents(mailbox) else { return };
        contents.outstanding -= usize::from(ends);
        if contents.left {
            if contents.outstanding == 0 {
                self.free.push(mailbox);
            }
        } else if contents.put(job, event, ends) {
            wake.extend(contents.waker.take());
        }
    }

    fn reply(&mut self, request: RequestId, answer: Answer, wake: &mut Vec<Waker>) {
        if let Some(request) = self.requests.get_mut(&request) {
            request.answer = Some(answer);
            wake.extend(request.waker.take());
        }
    }

    fn contents(&mut self, mailbox: Mailbox) -> Option<&mut Contents> {
        self.boxes.get_mut(mailbox.0 as usize)
    }

    fn peek(&self, mailbox: Mailbox) -> Option<&Contents> {
        self.boxes.get(mailbox.0 as usize)
    }
}

impl Contents {
    /// Says whether there is something new to be taken.
    fn put(&mut self, job: JobId, event: JobEvent, ends: bool) -> bool {
        if ends {
            self.mail.push_back((job, event));
        } else if self.ends_only {
            return false;
        } else if self.events < MAX_EVENTS && self.bytes < MAX_BYTES {
            self.events += 1;
            self.bytes += event.size();
            self.mail.push_back((job, event));
        } else if let Some((last, JobEvent::Missed(missed))) = self.mail.back_mut()
            && *last == job
        {
            *missed += 1;
        } else {
            self.events += 1;
            self.mail.push_back((job, JobEvent::Missed(1)));
        }
        true
    }
}

impl JobEvent {
    fn size(&self) -> usize {
        match self {
            Self::Data(payload) | Self::Warning(payload) => payload.len(),
            _ => 0,
        }
    }
}

fn replace(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(old) => old.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(job: JobId, size: usize) -> Event {
        Event::Data { job, payload: alloc::vec![0; size].into() }
    }

    #[test]
    fn a_mailbox_that_nobody_empties_stays_bounded_and_says_what_is_missing() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        let job = JobId::new(3, 0);
        let mailbox = post.open(false);
        post.expect(job, mailbox);
        for _ in 0..70 {
            assert_eq!(post.deliver(data(job, 1 << 20), &mut wake), None);
        }
        let outcome = Outcome::Failed;
        post.deliver(Event::Done { job, outcome: outcome.clone() }, &mut wake);
        assert_eq!(post.waiting(mailbox), 66);
        let events: Vec<_> = core::iter::from_fn(|| post.next(mailbox)).map(|(_, event)| event).collect();
        assert_eq!(events.get(64..), Some(&[JobEvent::Missed(6), JobEvent::Done(outcome)][..]));
        assert_eq!(post.outstanding(mailbox), 0);
    }

    #[test]
    fn room_is_used_again_and_late_events_find_nobody() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        for generation in 0..100 {
            let job = JobId::new(0, generation);
            let mailbox = post.open(false);
            assert_eq!(mailbox, Mailbox(0));
            post.expect(job, mailbox);
            post.deliver(data(job, 1), &mut wake);
            post.close(mailbox);
            assert_eq!((post.waiting(mailbox), post.outstanding(mailbox)), (0, 1));
            post.deliver(Event::Done { job, outcome: Outcome::Failed }, &mut wake);
            post.deliver(data(job, 1), &mut wake);
            assert_eq!((post.waiting(mailbox), post.outstanding(mailbox)), (0, 0));
        }
        assert!(wake.is_empty());
    }

    #[test]
    fn events_of_no_job_come_back() {
        let mut post = Post::default();
        assert_eq!(post.deliver(Event::Closed, &mut Vec::new()), Some(Event::Closed));
    }
}
