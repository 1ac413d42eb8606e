//! What a client does with each packet of a job server.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::jobs::{Doubt, Stage};
use super::{Client, Event, Reply, RequestError, Status};
use crate::error::ProtocolError;
use crate::job::{Handle, Job, JobId, Outcome, ServerError, ServerId, Unique, given_name, handle_name};
use crate::machine::CloseReason;
use crate::trace;
use crate::wire::table::{JobCreated, StatusRes, StatusResUnique, WorkComplete};
use crate::wire::{Head, Packet, PacketType};

impl Client {
    /// Takes the packet with which `stream` begins.
    #[inline(always)]
    pub(super) fn packet(&mut self, place: usize, head: Head, stream: &mut BytesMut) -> Result<(), ProtocolError> {
        match head.kind {
            // The two that come for each job are looked at where they lie, and spared the way by all the others.
            PacketType::JOB_CREATED => {
                let [handle] = JobCreated::arguments(head.body(stream))?;
                self.job_created(place, handle)?;
                Ok(head.skip(stream))
            }
            PacketType::WORK_COMPLETE => {
                let [handle, payload] = WorkComplete::arguments(head.body(stream))?;
                let (size, name) = (payload.len(), handle_name(handle));
                if let Some((job, ended)) = self.jobs.remove_sole(place, name, &self.links.random) {
                    return Ok(self.done(job, ended, Outcome::Complete(head.split(stream, size))));
                }
                let handle = Handle::of(name);
                Ok(self.ended(place, &handle, Outcome::Complete(head.split(stream, size))))
            }
            kind => self.other(place, Packet::decode(kind, head.take(stream))?),
        }
    }

    fn other(&mut self, place: usize, packet: Packet) -> Result<(), ProtocolError> {
        match packet {
            Packet::WorkFail(packet) => {
                self.ended(place, &Handle::from_wire(packet.handle()), Outcome::Failed);
            }
            Packet::WorkException(packet) => {
                let handle = Handle::from_wire(packet.handle());
                self.ended(place, &handle, Outcome::Exception(packet.into_payload()));
            }
            Packet::WorkData(packet) => {
                let job = self.alive(place, packet.handle());
                let payload = packet.into_payload();
                if let Some(job) = job.filter(|&job| self.may_wait(place, job, payload.len())) {
                    self.links.event(Event::Data { job, payload });
                }
            }
            Packet::WorkWarning(packet) => {
                let job = self.alive(place, packet.handle());
                let payload = packet.into_payload();
                if let Some(job) = job.filter(|&job| self.may_wait(place, job, payload.len())) {
                    self.links.event(Event::Warning { job, payload });
                }
            }
            Packet::WorkStatus(packet) => {
                let job = self.alive(place, packet.handle());
                if let Some(job) = job.filter(|&job| !self.is_muted(job)) {
                    let (numerator, denominator) = (number(packet.numerator()), number(packet.denominator()));
                    self.links.event(Event::Progress { job, numerator, denominator });
                }
            }
            Packet::StatusRes(packet) => self.status_res(place, &packet)?,
            Packet::StatusResUnique(packet) => self.status_res_unique(place, &packet)?,
            Packet::EchoRes(packet) => {
                let wanted = |reply: &Reply| matches!(reply, Reply::Echo(_) | Reply::Probe);
                if let Reply::Echo(request) = self.reply(place, PacketType::ECHO_RES, wanted)? {
                    self.answer_echo(request, Ok(packet.into_payload()));
                }
            }
            Packet::OptionRes(_) => {
                self.reply(place, PacketType::OPTION_RES, |reply| matches!(reply, Reply::Option))?;
            }
            Packet::Error(packet) => {
                let error = ServerError::from_wire(packet.code(), packet.text());
                self.server_error(place, error);
            }
            // A worker on this connection would want it; a client that shares a server's connection with nobody does not.
            Packet::Noop(_) => {}
            other => return Err(ProtocolError::WrongSide(other.kind())),
        }
        Ok(())
    }

    fn job_created(&mut self, place: usize, handle: &[u8]) -> Result<(), ProtocolError> {
        match self.reply(place, PacketType::JOB_CREATED, |reply| matches!(reply, Reply::Created { .. }))? {
            Reply::Created { job, joins } => self.created(place, job, joins, handle),
            _ => Ok(()),
        }
    }

    fn status_res(&mut self, place: usize, packet: &StatusRes) -> Result<(), ProtocolError> {
        let status = Status {
            known: number(packet.known()) != 0,
            running: number(packet.running()) != 0,
            numerator: number(packet.numerator()),
            denominator: number(packet.denominator()),
            clients: None,
        };
        let wanted = |reply: &Reply| matches!(reply, Reply::Status(_) | Reply::Doubt(_) | Reply::Barrier(..));
        match self.reply(place, PacketType::STATUS_RES, wanted)? {
            Reply::Status(request) => self.answer_status(request, Ok(status)),
            Reply::Doubt(job) => self.doubt(place, job, status.known),
            Reply::Barrier(end) if !status.known => self.end_all(place, &end),
            _ => {}
        }
        Ok(())
    }

    fn status_res_unique(&mut self, place: usize, packet: &StatusResUnique) -> Result<(), ProtocolError> {
        let status = Status {
            known: number(packet.known()) != 0,
            running: number(packet.running()) != 0,
            numerator: number(packet.numerator()),
            denominator: number(packet.denominator()),
            clients: Some(number(packet.clients())),
        };
        let wanted = |reply: &Reply| matches!(reply, Reply::StatusUnique(_));
        if let Reply::StatusUnique(request) = self.reply(place, PacketType::STATUS_RES_UNIQUE, wanted)? {
            self.answer_status(request, Ok(status));
        }
        Ok(())
    }

    /// The request that a reply of `kind` answers. OPTION_REQ alone may go unanswered (rustygeard ignores it).
    fn reply(
        &mut self,
        place: usize,
        kind: PacketType,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, ProtocolError> {
        let out_of_order = ProtocolError::OutOfOrder(kind);
        let link = self.links.get_mut(place).ok_or(out_of_order)?;
        link.proved();
        link.connection.take_reply(wanted, |reply| matches!(reply, Reply::Option)).ok_or(out_of_order)
    }

    fn created(&mut self, place: usize, id: JobId, joins: bool, handle: &[u8]) -> Result<(), ProtocolError> {
        let handle = given_name(PacketType::JOB_CREATED, handle)?;
        if joins {
            self.jobs.note_joins(id, &self.links.random);
        }
        let Some(entry) = self.jobs.entry_mut(id) else {
            if joins {
                self.jobs.ghost_created(place, handle, &self.links.random);
            }
            return Ok(());
        };
        self.latencies.accept.record_between(entry.submitted, self.links.now);
        trace::created(&entry.span, handle);
        if entry.job.as_ref().is_some_and(|job| job.background) {
            let handle = Handle::of(handle);
            return Ok(self.finish(id, Outcome::Queued { handle, server: self.server_at(place) }));
        }
        entry.since = self.links.now;
        let is_named = |job: &Job| matches!(job.unique, Unique::Own(_));
        let doubt = (entry.attempts > 1 && entry.job.as_ref().is_some_and(is_named)).then(|| {
            let interval = self.links.settings.retry_first.saturating_mul(2);
            Box::new(Doubt { ask_at: Some(self.links.now + interval), interval, unknown: false })
        });
        let told = (!entry.muted).then(|| Handle::of(handle));
        if !self.jobs.accept(id, place, handle, doubt, &self.links.random) {
            return Err(ProtocolError::BadArgument { kind: PacketType::JOB_CREATED, argument: "handle" });
        }
        if let Some(handle) = told {
            self.links.event(Event::Created { job: id, handle, server: self.server_at(place) });
        }
        self.hold_again(place, id);
        Ok(())
    }

    fn server_at(&self, place: usize) -> ServerId {
        self.candidates.get(place).map_or(ServerId(0), |candidate| candidate.server)
    }

    /// A sign of life of a job that goes on.
    pub(super) fn alive(&mut self, place: usize, handle: &[u8]) -> Option<JobId> {
        let job = self.jobs.deal(place, handle_name(handle), &self.links.random).map(|(job, _)| job);
        let Some(entry) = job.and_then(|job| self.jobs.entry_mut(job)) else {
            self.late(place, handle);
            return None;
        };
        entry.since = self.links.now;
        if let Stage::Accepted { running, .. } = &mut entry.stage {
            *running = true;
        }
        job
    }

    fn late(&mut self, place: usize, handle: &[u8]) {
        self.counters.late += 1;
        self.links.get(place).into_iter().for_each(|link| trace::late(&link.span, handle));
    }

    /// The job server said how one of those who have this handle, or had it, has ended.
    pub(super) fn ended(&mut self, place: usize, handle: &Handle, outcome: Outcome) {
        if let Some(job) = self.jobs.sole(place, handle.as_bytes(), &self.links.random) {
            return self.finish(job, outcome);
        }
        let dealt = self.jobs.deal(place, handle.as_bytes(), &self.links.random);
        let shared = match dealt {
            Some((_, shared)) => shared,
            // The copy of one that has ended before; or the only one, of a server that sends no more.
            None => self.jobs.first_of(place, handle, &self.links.random).is_some(),
        };
        let asked = |last: Option<&Reply>| matches!(last, Some(Reply::Barrier(end)) if end.0 == *handle);
        if shared && !asked(self.links.get(place).and_then(|link| link.connection.due_last())) {
            let reply = Some(Reply::Barrier(Box::new((handle.clone(), outcome.clone()))));
            self.links.send(place, PacketType::GET_STATUS, &[handle.as_bytes()], None, reply);
        }
        match dealt {
            Some((job, _)) => self.finish(job, outcome),
            None => self.late(place, handle.as_bytes()),
        }
        self.jobs.lay_ghosts(place, handle, &self.links.random);
    }

    fn end_all(&mut self, place: usize, (handle, outcome): &(Handle, Outcome)) {
        while let Some(job) = self.jobs.first_of(place, handle, &self.links.random) {
            self.finish(job, outcome.clone());
        }
        self.jobs.lay_ghosts(place, handle, &self.links.random);
    }

    /// The job server said whether it still knows a job in doubt. Unknown twice, without an end between: it is lost.
    fn doubt(&mut self, place: usize, job: JobId, known: bool) {
        let Some(entry) = self.jobs.entry_mut(job) else { return };
        let Stage::Accepted { doubt: Some(doubt), .. } = &mut entry.stage else { return };
        let lost = doubt.unknown && !known;
        doubt.unknown = !known;
        doubt.interval = doubt.interval.saturating_mul(2).min(self.links.settings.retry_most);
        doubt.ask_at = Some(self.links.now + doubt.interval);
        if !lost {
            return self.jobs.set_timer(job);
        }
        if let Some(address) = self.links.get(place).map(|link| link.address.clone()) {
            self.lose(job, u64::MAX, &address, &CloseReason::Forgotten);
            self.place_parked();
        }
    }

    fn server_error(&mut self, place: usize, error: ServerError) {
        let Some(link) = self.links.get_mut(place) else { return };
        let server = link.id;
        let reply = link.connection.take_reply(|_| true, |_| false);
        if reply.is_some() {
            // A refusal is a reply, too.
            link.proved();
        }
        match reply {
            Some(Reply::Created { job, .. }) => self.finish(job, Outcome::Rejected(error)),
            Some(Reply::Status(request) | Reply::StatusUnique(request)) => {
                self.answer_status(request, Err(RequestError::Rejected(error)))
            }
            Some(Reply::Echo(request)) => self.answer_echo(request, Err(RequestError::Rejected(error))),
            Some(Reply::Barrier(end)) => self.end_all(place, &end),
            Some(Reply::Doubt(job)) => self.doubt(place, job, true),
            Some(Reply::Probe | Reply::Option) | None => self.links.event(Event::ServerError { server, error }),
        }
    }
}

/// A decimal number as job servers and workers write it: a fraction is cut, what is no number counts as 0.
fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0, |number: u64, &digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}
