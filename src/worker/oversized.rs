//! Jobs that are over the limit of a packet: they fail, and their bytes are passed over.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Mood, Worker};
use crate::error::ProtocolError;
use crate::job::{Handle, MAX_FUNCTION, MAX_HANDLE, given_name};
use crate::trace::{self, Span};
use crate::wire::frame::FrameError;
use crate::wire::{HEADER, PacketType};

/// A job that is being passed over.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    kind: PacketType,
    handle: Handle,
    span: Span,
    why: Bytes,
}

impl Worker {
    /// A job over the limit is no end of its connection: left to its server, it would be given out again and again. False: it
    /// cannot be told yet whether it is one.
    #[cold]
    pub(super) fn pass_over(
        &mut self,
        place: usize,
        stream: &mut BytesMut,
        error: ProtocolError,
    ) -> Result<bool, ProtocolError> {
        const NAMES: usize = MAX_HANDLE + MAX_FUNCTION + 2;
        let ProtocolError::Frame(FrameError::TooLarge { kind, size, limit }) = error else { return Err(error) };
        if !matches!(kind, PacketType::JOB_ASSIGN | PacketType::JOB_ASSIGN_UNIQ | PacketType::JOB_ASSIGN_ALL) {
            return Err(error);
        }
        let body = stream.get(HEADER..).unwrap_or_default();
        let body = body.get(..size.min(NAMES)).unwrap_or(body);
        let mut names = body.split(|&byte| byte == 0);
        let (Some(handle), Some(function), Some(_)) = (names.next(), names.next(), names.next()) else {
            return if body.len() == size.min(NAMES) { Err(error) } else { Ok(false) };
        };
        let (name, _) = self.known(kind, function)?;
        let handle = Handle::of(given_name(kind, handle)?);
        let Some(link) = self.links.get(place) else { return Err(error) };
        let span = trace::assigned(&link.address, &handle, name, &Bytes::new(), size);
        let why = Bytes::from(format!("the job has {size} bytes; this worker takes {limit}"));
        if let Some(side) = self.sides.get_mut(place) {
            side.refused = Some(Box::new(Refused { kind, handle, span, why }));
        }
        if self.links.skip(place, stream, size) {
            self.refuse(place)?;
        }
        Ok(true)
    }

    /// Answers the job that has been passed over. Not before all of it has come: gearmand sends it from where it keeps the
    /// job, which it gives up with the answer.
    #[cold]
    pub(super) fn refuse(&mut self, place: usize) -> Result<(), ProtocolError> {
        let Some(refused) = self.sides.get_mut(place).and_then(|side| side.refused.take()) else { return Ok(()) };
        let Refused { kind, handle, span, why } = *refused;
        self.grab_answered(place, kind)?;
        if let Some(side) = self.sides.get_mut(place) {
            side.mood = Mood::Awake;
            side.in_vain = 0;
            if core::mem::take(&mut side.behind) {
                (side.lulls, side.naps) = (0, 0);
            }
        }
        self.counters.assigned += 1;
        self.counters.answered += 1;
        if let Some(tally) = self.tallies.get_mut(place) {
            tally.assigned += 1;
            tally.answered += 1;
        }
        trace::answered(&span, PacketType::WORK_EXCEPTION, why.len(), Duration::ZERO);
        self.send_end(place, &handle, PacketType::WORK_EXCEPTION, Some(&why));
        self.forget_functions();
        self.grab_more();
        self.leave_if_done();
        Ok(())
    }
}
