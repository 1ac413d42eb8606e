//! Where the events of a client's jobs wait for those who submitted them.
//!
//! How much of a job may wait is the machine's to say: it is told of what is read here, and of those who want nothing but an
//! end. Of statuses of a job that follow one another unread, the last is kept.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::task::Waker;

use bytes::Bytes;

use super::job::JobEvent;
use crate::client::{Client, Event, RequestError, RequestId, Status};
use crate::excerpt::debug;
use crate::runtimes::Moment;
use crate::{Instant, JobId, Outcome};

/// Payloads in a mailbox, and as many that a set has taken out of it, may keep alive so many buffers, of 64 KiB at most, that
/// other things came in, too; what comes in further ones is copied, if it has no more bytes than [`COPIED`].
const SHARING: usize = 64;
const COPIED: usize = 32 << 10;
/// Events for which a mailbox that is used again keeps room.
const KEPT: usize = 16;
/// What lies so near behind the payload before it is in the same buffer, and keeps hardly more alive than itself.
const NEAR: usize = 256;

/// One mailbox of a [`Post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mailbox(u32);

/// All mailboxes of a client. A mailbox is for one job or for a set of them; its room is used again.
#[derive(Debug, Default)]
pub(crate) struct Post {
    /// Each outstanding job, by [`JobId::index`].
    jobs: Vec<Option<Addressee>>,
    /// Jobs that have ended in the machine, which has not been polled since, and whose places others have by now.
    ending: BTreeMap<JobId, Addressee>,
    boxes: Vec<Contents>,
    free: Vec<Mailbox>,
    requests: BTreeMap<RequestId, Request>,
}

/// Where the mail of a job goes.
#[derive(Clone, Copy, Debug)]
struct Addressee {
    job: JobId,
    mailbox: Mailbox,
    /// The number of its last event, as [`Contents::first`] counts, if that is a status.
    status: Option<u64>,
}

#[derive(Debug, Default)]
struct Contents {
    /// As the machine made them: a job has but one mailbox, and few events are looked at before they are taken.
    mail: VecDeque<Event>,
    /// The number of the first event in `mail`: of all that have ever been in.
    first: u64,
    /// Where in memory the last payload that came has its end, and in how many buffers those that wait may be.
    end: usize,
    buffers: usize,
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
pub(crate) enum Answer {
    Status(Result<Status, RequestError>),
    Echo(Result<Bytes, RequestError>),
}

debug!(
    enum Answer {
        Status(result),
        Echo(result),
    }
);

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
    #[inline]
    pub(crate) fn expect(&mut self, job: JobId, mailbox: Mailbox, client: &mut Client, now: Instant) {
        let Some(contents) = self.contents(mailbox) else { return };
        contents.outstanding += 1;
        if contents.ends_only {
            client.want_end(job, now);
        }
        let addressee = Some(Addressee { job, mailbox, status: None });
        match self.jobs.get_mut(job.index()) {
            Some(place) => {
                if let Some(before) = core::mem::replace(place, addressee) {
                    self.keep_to_its_end(before);
                }
            }
            None => self.make_room(job.index(), addressee),
        }
    }

    #[cold]
    fn keep_to_its_end(&mut self, before: Addressee) {
        self.ending.insert(before.job, before);
    }

    #[cold]
    fn make_room(&mut self, place: usize, addressee: Option<Addressee>) {
        self.jobs.resize(place, None);
        self.jobs.push(addressee);
    }

    /// Nobody takes anything from `mailbox` any more. Returns who was to be woken, as [`register`](Self::register) does.
    pub(crate) fn close(&mut self, mailbox: Mailbox) -> Option<Waker> {
        let contents = self.contents(mailbox)?;
        contents.left = true;
        let waker = contents.waker.take();
        if !contents.mail.is_empty() {
            contents.drop_all();
        }
        contents.mail.shrink_to(KEPT);
        if contents.outstanding == 0 {
            self.free.push(mailbox);
        }
        waker
    }

    /// The jobs of `mailbox` that have not ended.
    pub(crate) fn jobs_of(&self, mailbox: Mailbox) -> Vec<JobId> {
        let its = self.jobs.iter().flatten().filter(|other| other.mailbox == mailbox);
        // Where it has none left, nobody is looked at.
        its.map(|other| other.job).take(self.outstanding(mailbox)).collect()
    }

    /// How many jobs of `mailbox` have not ended.
    pub(crate) fn outstanding(&self, mailbox: Mailbox) -> usize {
        self.peek(mailbox).map_or(0, |contents| contents.outstanding)
    }

    /// How many events wait in `mailbox`.
    pub(crate) fn waiting(&self, mailbox: Mailbox) -> usize {
        self.peek(mailbox).map_or(0, |contents| contents.mail.len())
    }

    /// From now on only the end of `job` is wanted, which alone has `mailbox`.
    #[inline(always)]
    pub(crate) fn want_end(&mut self, mailbox: Mailbox, job: JobId, client: &mut Client, time: &mut Moment) {
        if let Some(contents) = self.contents(mailbox)
            && !contents.ends_only
        {
            contents.ends_only = true;
            if !contents.mail.is_empty() {
                contents.drop_all_but_ends();
            }
            if !client.mute(job) {
                client.want_end(job, time.now());
            }
        }
    }

    /// The next event in `mailbox`. Its job may have more to come then.
    #[inline]
    pub(crate) fn next(
        &mut self,
        mailbox: Mailbox,
        client: &mut Client,
        time: &mut Moment,
    ) -> Option<(JobId, JobEvent)> {
        let (job, event) = JobEvent::of(self.contents(mailbox)?.take()?)?;
        if let JobEvent::Data(payload) | JobEvent::Warning(payload) = &event {
            client.release(job, payload.len(), time.now());
        }
        Some((job, event))
    }

    /// How the next job of `mailbox` that ended did so; what else waits is dropped.
    #[inline]
    pub(crate) fn next_end(
        &mut self,
        mailbox: Mailbox,
        client: &mut Client,
        time: &mut Moment,
    ) -> Option<(JobId, Outcome)> {
        let contents = self.contents(mailbox)?;
        if !matches!(contents.mail.front()?, Event::Done { .. }) {
            contents.drop_to_end(client, time);
        }
        let Event::Done { job, outcome } = contents.take()? else { return None };
        Some((job, outcome))
    }

    /// Takes all at once what is in `mailbox`, where that is ends and nothing else, into `ends`, which is empty: its room
    /// is used again.
    pub(crate) fn take_ends(&mut self, mailbox: Mailbox, ends: &mut VecDeque<Event>) {
        if let Some(contents) = self.contents(mailbox).filter(|contents| contents.ends_only) {
            contents.first += contents.mail.len() as u64;
            core::mem::swap(&mut contents.mail, ends);
        }
    }

    /// Whom to wake when something comes into `mailbox`. Returns whom not to wake any more: a waker is to be dropped with
    /// nothing locked, as its task may be dropped with it, and what that has of this very client.
    pub(crate) fn register(&mut self, mailbox: Mailbox, waker: &Waker) -> Option<Waker> {
        replace(&mut self.contents(mailbox)?.waker, waker)
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

    /// Whom to wake when `request` is answered. Returns what [`register`](Self::register) does.
    pub(crate) fn register_request(&mut self, request: RequestId, waker: &Waker) -> Option<Waker> {
        replace(&mut self.requests.get_mut(&request)?.waker, waker)
    }

    /// Nobody takes the answer to `request` any more. Returns what [`register`](Self::register) does.
    pub(crate) fn forget(&mut self, request: RequestId) -> Option<Waker> {
        self.requests.remove(&request)?.waker
    }

    /// Puts an event of the client where it belongs, and tells whom to wake. One that belongs to no one job comes back.
    #[inline(always)]
    pub(crate) fn deliver(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        match event {
            Event::Done { job, outcome } => self.put_end(job, outcome, wake),
            Event::Created { .. } | Event::Data { .. } | Event::Warning { .. } | Event::Progress { .. } => {
                self.put(event, wake);
            }
            other => return self.deliver_reply(other, wake),
        }
        None
    }

    fn deliver_reply(&mut self, event: Event, wake: &mut Vec<Waker>) -> Option<Event> {
        match event {
            Event::Status { request, result } => self.reply(request, Answer::Status(result), wake),
            Event::Echo { request, result } => self.reply(request, Answer::Echo(result), wake),
            other => return Some(other),
        }
        None
    }

    #[inline(never)]
    fn put(&mut self, event: Event, wake: &mut Vec<Waker>) {
        let (Event::Created { job, .. }
        | Event::Data { job, .. }
        | Event::Warning { job, .. }
        | Event::Progress { job, .. }) = event
        else {
            return;
        };
        let Some(Addressee { mailbox, status, .. }) = addressee(&mut self.jobs, job) else { return };
        let Some(contents) = self.boxes.get_mut(mailbox.0 as usize) else { return };
        if !contents.left && !contents.ends_only && contents.put(event, status) {
            wake.extend(contents.waker.take());
        }
    }

    /// The last event of a job.
    #[inline(always)]
    fn put_end(&mut self, job: JobId, mut outcome: Outcome, wake: &mut Vec<Waker>) {
        let Some(place) = self.jobs.get_mut(job.index()) else { return };
        let known = place.take_if(|known| known.job == job);
        let Some(Addressee { mailbox, .. }) = known.or_else(|| self.take_ending(job)) else { return };
        let Some(contents) = self.boxes.get_mut(mailbox.0 as usize) else { return };
        contents.outstanding -= 1;
        if !contents.left {
            if let Outcome::Complete(payload) | Outcome::Exception(payload) = &mut outcome {
                contents.keep(payload);
            }
            contents.mail.push_back(Event::Done { job, outcome });
            if let Some(waker) = contents.waker.take() {
                wake.push(waker);
            }
        } else if contents.outstanding == 0 {
            self.free.push(mailbox);
        }
    }

    #[cold]
    fn take_ending(&mut self, job: JobId) -> Option<Addressee> {
        self.ending.remove(&job)
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
    fn take(&mut self) -> Option<Event> {
        let event = self.mail.pop_front();
        self.first += u64::from(event.is_some());
        event
    }

    /// Drops what is before the end of a job.
    #[cold]
    fn drop_to_end(&mut self, client: &mut Client, time: &mut Moment) {
        while let Some(event) = self.mail.front().filter(|event| !matches!(event, Event::Done { .. })) {
            if let Event::Data { job, payload } | Event::Warning { job, payload } = event {
                client.release(*job, payload.len(), time.now());
            }
            self.take();
        }
    }

    /// Says whether there is something new to be taken. `status` is that of the job.
    fn put(&mut self, mut event: Event, status: &mut Option<u64>) -> bool {
        let last = status.take();
        if matches!(event, Event::Progress { .. }) {
            *status = last;
            let unread = last.and_then(|number| number.checked_sub(self.first));
            let unread = unread.and_then(|place| self.mail.get_mut(usize::try_from(place).ok()?));
            if let Some(old) = unread {
                *old = event;
                return false;
            }
            *status = Some(self.first + self.mail.len() as u64);
        }
        if let Event::Data { payload, .. } | Event::Warning { payload, .. } = &mut event {
            self.keep(payload);
        }
        self.mail.push_back(event);
        true
    }

    /// A payload is to keep alive no more than it may, while it waits behind the others.
    #[inline(always)]
    fn keep(&mut self, payload: &mut Bytes) {
        if self.mail.is_empty() {
            self.buffers = 0;
        }
        let start = payload.as_ptr().addr();
        let follows = start.checked_sub(self.end).is_some_and(|gap| gap <= NEAR);
        self.end = start + payload.len();
        self.buffers += usize::from(self.buffers == 0 || !follows);
        if self.buffers > SHARING && payload.len() <= COPIED {
            *payload = Bytes::copy_from_slice(payload);
        }
    }

    #[cold]
    fn drop_all(&mut self) {
        self.retain(|_| false);
    }

    #[cold]
    fn drop_all_but_ends(&mut self) {
        self.retain(|event| matches!(event, Event::Done { .. }));
    }

    /// Drops what waits, but for what is `wanted`.
    fn retain(&mut self, wanted: impl Fn(&Event) -> bool) {
        // No number that was given names another event from now on.
        self.first += self.mail.len() as u64;
        self.mail.retain(wanted);
    }
}

impl JobEvent {
    /// What a client's event says of a job; `None` where it is of none.
    pub(crate) fn of(event: Event) -> Option<(JobId, Self)> {
        Some(match event {
            Event::Created { job, handle, server } => (job, Self::Created { handle, server }),
            Event::Data { job, payload } => (job, Self::Data(payload)),
            Event::Warning { job, payload } => (job, Self::Warning(payload)),
            Event::Progress { job, numerator, denominator } => (job, Self::Progress { numerator, denominator }),
            Event::Done { job, outcome } => (job, Self::Done(outcome)),
            _ => return None,
        })
    }
}

fn addressee(jobs: &mut [Option<Addressee>], job: JobId) -> Option<&mut Addressee> {
    jobs.get_mut(job.index())?.as_mut().filter(|known| known.job == job)
}

/// Keeps `waker`, without another reference where it is there already, and gives back the one that it replaces.
pub(crate) fn replace(place: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match place {
        Some(old) if old.will_wake(waker) => None,
        place => place.replace(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Config;
    use crate::runtimes::Clock;
    use crate::{Job, Machine, Output};

    const NOW: Instant = Instant::EPOCH;

    fn client() -> Client {
        let mut config = Config::new([7; 32]);
        config.servers = alloc::vec!["a".parse().expect("an address")];
        Client::new(config).expect("a client")
    }

    fn data(job: JobId, size: usize) -> Event {
        Event::Data { job, payload: alloc::vec![0; size].into() }
    }

    fn events(post: &mut Post, mailbox: Mailbox) -> Vec<JobEvent> {
        let mut client = client();
        core::iter::from_fn(|| post.next(mailbox, &mut client, &mut Clock::start().moment()))
            .map(|(_, event)| event)
            .collect()
    }

    #[test]
    fn an_unread_status_is_replaced_by_the_one_behind_it() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        let (job, other) = (JobId::new(3, 0), JobId::new(4, 0));
        let mailbox = post.open(false);
        post.expect(job, mailbox, &mut client(), NOW);
        post.expect(other, mailbox, &mut client(), NOW);
        let progress = |job, numerator| Event::Progress { job, numerator, denominator: 9 };
        let status = |numerator| JobEvent::Progress { numerator, denominator: 9 };
        for round in 1..3 {
            for numerator in 0..10_000 {
                post.deliver(progress(job, numerator + round), &mut wake);
                post.deliver(progress(other, numerator), &mut wake);
            }
            post.deliver(data(job, 1), &mut wake);
        }
        let part = JobEvent::Data(alloc::vec![0].into());
        // Of the other job only the last, of this one the last before each part.
        let kept = [status(10_000), status(9_999), part.clone(), status(10_001), part];
        assert_eq!(events(&mut post, mailbox), kept);
        post.deliver(progress(job, 1), &mut wake);
        assert_eq!(events(&mut post, mailbox), [status(1)]);
        post.deliver(progress(job, 2), &mut wake);
        post.deliver(Event::Done { job, outcome: Outcome::Failed }, &mut wake);
        assert_eq!(events(&mut post, mailbox), [status(2), JobEvent::Done(Outcome::Failed)]);
        assert_eq!(post.outstanding(mailbox), 1);
    }

    #[test]
    fn a_status_is_not_taken_for_what_was_dropped_before_it() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        let job = JobId::new(0, 0);
        let mailbox = post.open(false);
        post.expect(job, mailbox, &mut client(), NOW);
        post.deliver(Event::Progress { job, numerator: 1, denominator: 2 }, &mut wake);
        post.deliver(Event::Done { job, outcome: Outcome::Failed }, &mut wake);
        post.close(mailbox);
        let job = JobId::new(0, 1);
        assert_eq!(post.open(false), mailbox);
        post.expect(job, mailbox, &mut client(), NOW);
        post.deliver(data(job, 1), &mut wake);
        post.deliver(Event::Progress { job, numerator: 2, denominator: 2 }, &mut wake);
        assert_eq!(events(&mut post, mailbox).len(), 2);
    }

    #[test]
    fn what_waits_keeps_no_more_than_itself_alive() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        let job = JobId::new(0, 0);
        let mailbox = post.open(false);
        post.expect(job, mailbox, &mut client(), NOW);
        let buffers: Vec<Bytes> = (0..100).map(|_| alloc::vec![0; 64 << 10].into()).collect();
        for buffer in &buffers {
            post.deliver(Event::Data { job, payload: buffer.slice(..1) }, &mut wake);
        }
        let free = buffers.into_iter().filter(Bytes::is_unique).count();
        assert_eq!(free, 100 - SHARING);
    }

    #[test]
    fn what_came_side_by_side_is_shared_however_much_waits() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        let mailbox = post.open(false);
        let buffer = Bytes::from(alloc::vec![0; 1000 * 50]);
        for (index, place) in (0..1000).enumerate() {
            let job = JobId::new(place, 0);
            post.expect(job, mailbox, &mut client(), NOW);
            let result = buffer.slice(index * 50 + 30..(index + 1) * 50);
            post.deliver(Event::Done { job, outcome: Outcome::Complete(result) }, &mut wake);
        }
        let within = buffer.as_ptr_range();
        let shared = events(&mut post, mailbox).into_iter().filter(
            |event| matches!(event, JobEvent::Done(Outcome::Complete(result)) if within.contains(&result.as_ptr())),
        );
        assert_eq!(shared.count(), 1000);
    }

    #[test]
    fn whoever_wants_only_ends_is_sent_nothing_else() {
        let (mut post, mut client) = (Post::default(), client());
        let mailbox = post.open(true);
        let job = client.submit(Job::new("f", ""), NOW).expect("taken");
        post.expect(job, mailbox, &mut client, NOW);
        post.deliver(data(job, 1), &mut Vec::new());
        assert_eq!(post.waiting(mailbox), 0);
    }

    #[test]
    fn room_is_used_again_and_late_events_find_nobody() {
        let (mut post, mut wake) = (Post::default(), Vec::new());
        for generation in 0..100 {
            let job = JobId::new(0, generation);
            let mailbox = post.open(false);
            assert_eq!(mailbox, Mailbox(0));
            post.expect(job, mailbox, &mut client(), NOW);
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
    fn a_job_whose_place_another_has_before_its_end_is_told_ends_all_the_same() {
        let (mut post, mut client) = (Post::default(), client());
        let mailbox = post.open(true);
        let mut jobs = [(); 3].map(|()| {
            let job = client.submit(Job::new("f", ""), NOW).expect("taken");
            post.expect(job, mailbox, &mut client, NOW);
            client.abandon(job, NOW);
            job
        });
        assert_eq!(jobs.map(JobId::index), [0; 3]);
        loop {
            match client.poll() {
                Output::Event(event) => drop(post.deliver(event, &mut Vec::new())),
                Output::Wait(_) => break,
                _ => {}
            }
        }
        let mut ended =
            jobs.map(|_| post.next_end(mailbox, &mut client, &mut Clock::start().moment()).expect("an end").0);
        ended.sort_unstable();
        jobs.sort_unstable();
        assert_eq!((ended, post.outstanding(mailbox), post.ending.len()), (jobs, 0, 0));
    }

    #[test]
    fn a_mailbox_that_was_full_keeps_no_more_room_than_others() {
        let mut post = Post::default();
        let mailbox = post.open(false);
        let job = JobId::new(0, 0);
        post.expect(job, mailbox, &mut client(), NOW);
        (0..10_000).for_each(|_| drop(post.deliver(data(job, 1), &mut Vec::new())));
        post.close(mailbox);
        assert!(post.boxes[0].mail.capacity() <= KEPT);
    }

    #[test]
    fn events_of_no_job_come_back() {
        let mut post = Post::default();
        assert_eq!(post.deliver(Event::Closed, &mut Vec::new()), Some(Event::Closed));
    }
}
