//! What a worker does with each packet of a job server.

use bytes::{Buf, Bytes, BytesMut};

use super::grab::{MOST_GRABS, local_limit};
use super::{Assignment, Event, Function, Grab, Mood, Reply, Task, TaskId, Worker};
use crate::error::ProtocolError;
use crate::job::{Handle, ServerError, ServerId, given_name};
use crate::machine::{CloseReason, ConnId};
use crate::trace::{self, Span};
use crate::wire::table::JobAssignUniq;
use crate::wire::{Head, Packet, PacketType};

impl Worker {
    pub(super) fn receive(&mut self, conn: ConnId, stream: &mut BytesMut) {
        let (place, came) = (conn.index(), stream.len());
        loop {
            let result = match self.links.receive_head(conn, stream) {
                Ok(Some(head)) => self.packet(place, head, stream),
                Ok(None) if self.links.skip_on(conn, stream) => self.refuse(place),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                match self.pass_over(place, stream, error) {
                    Ok(true) => continue,
                    Ok(false) => break,
                    Err(error) => {
                        stream.clear();
                        return self.break_off(place, CloseReason::Protocol(error));
                    }
                }
            }
            if stream.is_empty() {
                break;
            }
        }
        self.links.received(conn, came, stream.len());
    }

    /// Takes the packet with which `stream` begins.
    #[inline]
    fn packet(&mut self, place: usize, head: Head, stream: &mut BytesMut) -> Result<(), ProtocolError> {
        match head.kind {
            // The two that come for each job are looked at where they lie, and spared the way by all the others.
            PacketType::JOB_ASSIGN_UNIQ => self.job_assign_uniq(place, head, stream),
            PacketType::NOOP => {
                head.skip(stream);
                Ok(self.woken(place))
            }
            kind => self.other_packet(place, kind, head.take(stream)),
        }
    }

    #[inline(never)]
    fn job_assign_uniq(&mut self, place: usize, head: Head, stream: &mut BytesMut) -> Result<(), ProtocolError> {
        const KIND: PacketType = JobAssignUniq::KIND;
        let [handle, function, unique, payload] = JobAssignUniq::arguments(head.body(stream))?;
        let (name, function) = self.known(KIND, function)?;
        let handle = Handle::of(given_name(KIND, handle)?);
        let size = unique.len();
        let kept = size + 1 + payload.len();
        let mut payload = head.split(stream, kept);
        let unique = payload.split_to(size);
        payload.advance(1);
        self.assigned(place, KIND, function, draft(handle, name, unique, None, payload))
    }

    #[inline(never)]
    fn other_packet(&mut self, place: usize, kind: PacketType, body: Bytes) -> Result<(), ProtocolError> {
        match Packet::decode(kind, body)? {
            Packet::JobAssign(packet) => {
                let (name, function) = self.known(kind, packet.function())?;
                let handle = Handle::of(given_name(kind, packet.handle())?);
                let job = draft(handle, name, Bytes::new(), None, packet.into_payload());
                self.assigned(place, kind, function, job)
            }
            Packet::JobAssignAll(packet) => {
                let (name, function) = self.known(kind, packet.function())?;
                let handle = Handle::of(given_name(kind, packet.handle())?);
                let (unique, reducer) = (packet.share(packet.unique()), packet.share(packet.reducer()));
                let reducer = Some(reducer).filter(|reducer| !reducer.is_empty());
                let job = draft(handle, name, unique, reducer, packet.into_payload());
                self.assigned(place, kind, function, job)
            }
            Packet::NoJob(_) => {
                self.grab_answered(place, PacketType::NO_JOB)?;
                self.tire(place);
                self.forget_functions();
                self.grab_more();
                self.leave_if_done();
                Ok(())
            }
            Packet::EchoRes(_) => {
                let wanted = |reply: &Reply| matches!(reply, Reply::Probe | Reply::Farewell);
                if let Reply::Farewell = self.reply(place, PacketType::ECHO_RES, wanted)? {
                    self.links.close(place);
                    self.leave_if_done();
                }
                Ok(())
            }
            Packet::Error(packet) => {
                let error = ServerError::from_wire(packet.code(), packet.text());
                self.server_error(place, error);
                Ok(())
            }
            _ => Err(ProtocolError::WrongSide(kind)),
        }
    }

    /// The function in an assignment, by the name that was registered: nothing is copied. A job server that gives a job of
    /// another must not have it failed by this worker: it breaks the protocol, and others get the job.
    #[inline(always)]
    pub(super) fn known(&self, kind: PacketType, function: &[u8]) -> Result<(&Bytes, Function), ProtocolError> {
        let known = self.functions.get_key_value(function).map(|(name, function)| (name, *function));
        known.ok_or(ProtocolError::BadArgument { kind, argument: "function" })
    }

    fn reply(
        &mut self,
        place: usize,
        kind: PacketType,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, ProtocolError> {
        let out_of_order = ProtocolError::OutOfOrder(kind);
        let link = self.links.get_mut(place).ok_or(out_of_order)?;
        link.proved();
        link.connection.take_reply(wanted, |reply| matches!(reply, Reply::SecondEnd)).ok_or(out_of_order)
    }

    #[inline]
    pub(super) fn grab_answered(&mut self, place: usize, kind: PacketType) -> Result<(), ProtocolError> {
        self.reply(place, kind, |reply| matches!(reply, Reply::Grab))?;
        if let Some(side) = self.sides.get_mut(place) {
            side.grabs = side.grabs.saturating_sub(1);
            side.grabbed = self.links.now;
            side.slow = false;
            if side.grabs > 0 {
                self.mind_grabs();
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn assigned(
        &mut self,
        place: usize,
        kind: PacketType,
        function: Function,
        mut job: Assignment,
    ) -> Result<(), ProtocolError> {
        self.grab_answered(place, kind)?;
        let (Some(side), Some(link)) = (self.sides.get_mut(place), self.links.get(place)) else { return Ok(()) };
        side.mood = Mood::Awake;
        side.in_vain = 0;
        if core::mem::take(&mut side.behind) {
            (side.lulls, side.naps) = (0, 0);
        }
        side.window = side.window.saturating_mul(2).min(self.concurrency.saturating_add(self.prefetch)).min(MOST_GRABS);
        self.counters.assigned += 1;
        self.tallies.get_mut(place).into_iter().for_each(|tally| tally.assigned += 1);
        self.next_task = self.next_task.wrapping_add(1);
        let index = self.tasks.vacant_key();
        job.task = TaskId { index: u32::try_from(index).unwrap_or(u32::MAX), generation: self.next_task };
        job.server = link.id;
        job.span = trace::assigned(&link.address, &job.handle, &job.function, &job.unique, job.payload.len());
        self.tasks.insert(Task {
            place,
            generation: self.next_task,
            function: function.number,
            handle: job.handle.clone(),
            began: self.links.now,
            limit: function.timeout.map(local_limit),
            span: job.span.clone(),
            gone: false,
        });
        self.strip(&mut job.function);
        if self.running < self.concurrency {
            self.hand_over(job);
        } else {
            self.waiting.push_back(job);
        }
        self.forget_functions();
        self.grab_more();
        Ok(())
    }

    fn server_error(&mut self, place: usize, error: ServerError) {
        let Some(link) = self.links.get_mut(place) else { return };
        let server = link.id;
        let is_unknown = is_of_perl_without_data(&error);
        // These answer WORK_* packets, which have no reply when all is well: never a grab.
        if is_unknown || matches!(&*error.code, "JOB_NOT_FOUND" | "not_worker") {
            if is_unknown || link.connection.take_reply(|reply| matches!(reply, Reply::SecondEnd), |_| false).is_none()
            {
                self.links.event(Event::ServerError { server, error });
            }
            return;
        }
        match link.connection.take_reply(|_| true, |reply| matches!(reply, Reply::SecondEnd)) {
            Some(Reply::Grab) => self.grab_refused(place, error),
            Some(Reply::Farewell) => {
                self.links.close(place);
                self.leave_if_done();
            }
            _ => self.links.event(Event::ServerError { server, error }),
        }
    }

    /// The server does not know this form of grab: try a simpler one; where there is none, sleep on it.
    fn grab_refused(&mut self, place: usize, error: ServerError) {
        let Some(side) = self.sides.get_mut(place) else { return };
        side.grabs = side.grabs.saturating_sub(1);
        let simpler: Option<Grab> = side.grab.simpler();
        match simpler {
            Some(simpler) => side.grab = simpler,
            None => {
                if let Some(server) = self.links.get(place).map(|link| link.id) {
                    self.links.event(Event::ServerError { server, error });
                }
                self.tire(place);
            }
        }
        self.forget_functions();
        self.grab_more();
        self.leave_if_done();
    }
}

/// Whether this is what Perl's job server says to WORK_DATA and WORK_WARNING, neither of which it knows: `Can't locate object
/// method "CMD_work_data"`.
fn is_of_perl_without_data(error: &ServerError) -> bool {
    &*error.code == "server_error" && error.text.contains("\"CMD_work_")
}

/// An assignment as it is in its packet: what is not there is filled in later.
#[inline(always)]
fn draft(handle: Handle, function: &Bytes, unique: Bytes, reducer: Option<Bytes>, payload: Bytes) -> Assignment {
    Assignment {
        task: TaskId { index: 0, generation: 0 },
        function: function.clone(),
        unique,
        reducer,
        handle,
        payload,
        server: ServerId(0),
        span: Span::none(),
    }
}
