//! Packets of jobs that are over the limit: what of them is passed over, so that the jobs around them go on.

use bytes::BytesMut;

use super::Client;
use crate::error::ProtocolError;
use crate::job::{Handle, JobId, MAX_HANDLE, Outcome, Phase, handle_name};
use crate::wire::frame::FrameError;
use crate::wire::{HEADER, PacketType};

impl Client {
    /// What is over the limit of a packet is no end of its connection where it is of one job, which ends of it. False: that
    /// cannot be told yet.
    #[cold]
    pub(super) fn pass_over(
        &mut self,
        place: usize,
        stream: &mut BytesMut,
        error: ProtocolError,
    ) -> Result<bool, ProtocolError> {
        let ProtocolError::Frame(FrameError::TooLarge { kind, size, limit }) = error else { return Err(error) };
        let is_end = matches!(kind, PacketType::WORK_COMPLETE | PacketType::WORK_EXCEPTION);
        if !is_end && !matches!(kind, PacketType::WORK_DATA | PacketType::WORK_WARNING) {
            return Err(error);
        }
        let body = stream.get(HEADER..).unwrap_or_default();
        let Some(end) = body.iter().take(size.min(MAX_HANDLE + 1)).position(|&byte| byte == 0) else {
            return if body.len() > MAX_HANDLE || body.len() >= size { Err(error) } else { Ok(false) };
        };
        let handle = Handle::of(handle_name(body.get(..end).unwrap_or_default()));
        if is_end {
            let job = self.jobs.first_of(place, &handle, &self.links.random);
            let outcome = job.and_then(|job| self.overflow_of(place, job, limit));
            self.ended(place, &handle, outcome.unwrap_or(Outcome::Failed));
        } else if let Some(job) = self.alive(place, handle.as_bytes()).filter(|&job| !self.is_muted(job)) {
            self.overflow(place, job, limit);
        }
        self.links.skip(place, stream, size);
        Ok(true)
    }

    /// More came of a job than its client takes: it ends.
    pub(super) fn overflow(&mut self, place: usize, job: JobId, limit: usize) {
        if let Some(outcome) = self.overflow_of(place, job, limit) {
            self.finish(job, outcome);
        }
    }

    fn overflow_of(&self, place: usize, job: JobId, limit: usize) -> Option<Outcome> {
        let server = self.links.get(place)?.address.clone();
        let attempts = self.jobs.entry(job)?.attempts;
        let phase = self.phase(job).unwrap_or(Phase::Running);
        Some(Outcome::Overflow { limit, phase, server, attempts })
    }
}
