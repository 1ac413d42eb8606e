//! What a worker does with each packet of a job server.

use bytes::{Bytes, BytesMut};

use super::{Assignment, Event, Grab, Mood, Reply, Task, TaskId, Worker};
use crate::error::ProtocolError;
use crate::job::{Handle, ServerError};
use crate::machine::{CloseReason, ConnId};
use crate::trace;
use crate::wire::table::JobAssignUniq;
use crate::wire::{Frame, Packet, PacketType};

/// What is in an assignment, its function by the name that was registered.
struct Given {
    handle: Handle,
    function: Bytes,
    unique: Bytes,
    reducer: Option<Bytes>,
    payload: Bytes,
}

impl Worker {
    pub(super) fn receive(&mut self, conn: ConnId, stream: &mut BytesMut) {
        let place = conn.index();
        loop {
            let result = match self.links.receive_frame(conn, stream) {
                Ok(Some(frame)) => self.packet(place, frame),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                stream.clear();
                return self.break_off(place, CloseReason::Protocol(error));
            }
            if stream.is_empty() {
                return;
            }
        }
    }

    fn packet(&mut self, place: usize, frame: Frame) -> Result<(), ProtocolError> {
        // The two that come for each job are known without a look at all types.
        match frame.kind {
            PacketType::JOB_ASSIGN_UNIQ => {
                let packet = JobAssignUniq::decode(frame.body)?;
                let (handle, function) = self.known(frame.kind, packet.handle(), packet.function())?;
                let unique = packet.share(packet.unique());
                let given = Given { handle, function, unique, reducer: None, payload: packet.into_payload() };
                self.assigned(place, frame.kind, given)
            }
            PacketType::NOOP => Ok(self.woken(place)),
            kind => self.other_packet(place, Packet::decode(kind, frame.body)?),
        }
    }

    #[inline(never)]
    fn other_packet(&mut self, place: usize, packet: Packet) -> Result<(), ProtocolError> {
        let kind = packet.kind();
        match packet {
            Packet::JobAssign(packet) => {
                let (handle, function) = self.known(kind, packet.handle(), packet.function())?;
                let (unique, payload) = (Bytes::new(), packet.into_payload());
                self.assigned(place, kind, Given { handle, function, unique, reducer: None, payload })
            }
            Packet::JobAssignAll(packet) => {
                let (handle, function) = self.known(kind, packet.handle(), packet.function())?;
                let (unique, reducer) = (packet.share(packet.unique()), packet.share(packet.reducer()));
                let (reducer, payload) = (Some(reducer).filter(|reducer| !reducer.is_empty()), packet.into_payload());
                self.assigned(place, kind, Given { handle, function, unique, reducer, payload })
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
            other => Err(ProtocolError::WrongSide(other.kind())),
        }
    }

    /// The names in an assignment. The function is as it was registered: nothing is copied. A job server that gives a job of
    /// another must not have it failed by this worker: it breaks the protocol, and others get the job.
    #[inline(always)]
    fn known(&self, kind: PacketType, handle: &[u8], function: &[u8]) -> Result<(Handle, Bytes), ProtocolError> {
        let known = self.functions.get_key_value(function).map(|(function, _)| function.clone());
        let function = known.ok_or(ProtocolError::BadArgument { kind, argument: "function" })?;
        Ok((Handle::given(kind, handle)?, function))
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
    fn grab_answered(&mut self, place: usize, kind: PacketType) -> Result<(), ProtocolError> {
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
    fn assigned(&mut self, place: usize, kind: PacketType, given: Given) -> Result<(), ProtocolError> {
        self.grab_answered(place, kind)?;
        let (Some(side), Some(link)) = (self.sides.get_mut(place), self.links.get(place)) else { return Ok(()) };
        let server = link.id;
        side.mood = Mood::Awake;
        side.in_vain = 0;
        if core::mem::take(&mut side.behind) {
            (side.lulls, side.naps) = (0, 0);
        }
        side.window = side.window.saturating_mul(2).min(self.concurrency.saturating_add(self.prefetch));
        self.counters.assigned += 1;
        self.tallies.get_mut(place).into_iter().for_each(|tally| tally.assigned += 1);
        self.next_task = self.next_task.wrapping_add(1);
        let Given { handle, function, unique, reducer, payload } = given;
        let span = trace::assigned(&link.address, &handle, &function, &unique, payload.len());
        let task = Task {
            place,
            generation: self.next_task,
            handle: handle.clone(),
            function: function.clone(),
            deadline: None,
            began: self.links.now,
            span: span.clone(),
            gone: false,
        };
        let index = self.tasks.insert(task);
        let id = TaskId { index: u32::try_from(index).unwrap_or(u32::MAX), generation: self.next_task };
        let function = self.plain(function);
        let assignment = Assignment { task: id, function, unique, reducer, handle, payload, server, span };
        if self.running < self.concurrency {
            self.hand_over(assignment);
        } else {
            self.waiting.push_back(assignment);
        }
        self.forget_functions();
        self.grab_more();
        Ok(())
    }

    fn server_error(&mut self, place: usize, error: ServerError) {
        let Some(link) = self.links.get_mut(place) else { return };
        let server = link.id;
        // These two answer WORK_* packets, which have no reply when all is well: never a grab.
        if matches!(&*error.code, "JOB_NOT_FOUND" | "not_worker") {
            if link.connection.take_reply(|reply| matches!(reply, Reply::SecondEnd), |_| false).is_none() {
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
