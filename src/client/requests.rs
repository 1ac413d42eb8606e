//! What a client asks of job servers beside running jobs.

use alloc::vec::Vec;

use bytes::Bytes;

use super::jobs::{self, Stage};
use super::{Client, Event, Reply, RequestError, RequestId, Status};
use crate::error::{ConfigError, Reason, Rejected};
use crate::excerpt::debug;
use crate::job::{Handle, JobId, MAX_UNIQUE, ServerId};
use crate::time::Instant;
use crate::wire::PacketType;

pub(super) enum Ask {
    Status(Handle),
    StatusUnique(Bytes),
    Echo(Bytes),
}

debug!(
    enum Ask {
        Status(handle),
        StatusUnique(unique),
        Echo(payload),
    }
);

impl Client {
    /// Asks how an outstanding job is (GET_STATUS). The answer is an [`Event::Status`].
    ///
    /// # Errors
    /// The job is over or has no handle yet, a limit is reached, or the client is closed.
    pub fn status(&mut self, job: JobId, now: Instant) -> Result<RequestId, Rejected<JobId>> {
        match self.jobs.entry(job) {
            Some(jobs::Entry { stage: Stage::Accepted { handle, .. }, link, .. }) => {
                let (handle, place) = (handle.clone(), *link);
                self.ask(place, Ask::Status(handle), now).map_err(|reason| Rejected::new(reason, job))
            }
            _ => Err(Rejected::new(Reason::Unknown("job, or a job that has no handle yet"), job)),
        }
    }

    /// Asks how the job named `handle` is (GET_STATUS), also one submitted elsewhere or in the background.
    ///
    /// # Errors
    /// The server is unknown, a limit is reached, or the client is closed.
    pub fn status_of(&mut self, server: ServerId, handle: Handle, now: Instant) -> Result<RequestId, Rejected<Handle>> {
        match self.links.place_of_server(server) {
            Some(place) => {
                self.ask(place, Ask::Status(handle.clone()), now).map_err(|reason| Rejected::new(reason, handle))
            }
            None => Err(Rejected::new(Reason::Unknown("job server"), handle)),
        }
    }

    /// Asks how the job with `unique` is (GET_STATUS_UNIQUE). Perl's job server cannot tell.
    ///
    /// # Errors
    /// The unique is no unique, the server is unknown, a limit is reached, or the client is closed.
    pub fn status_unique(
        &mut self,
        server: ServerId,
        unique: Bytes,
        now: Instant,
    ) -> Result<RequestId, Rejected<Bytes>> {
        if let Err(error) = ConfigError::check_name("unique", &unique, MAX_UNIQUE) {
            return Err(Rejected::new(error, unique));
        }
        match self.links.place_of_server(server) {
            Some(place) => {
                self.ask(place, Ask::StatusUnique(unique.clone()), now).map_err(|reason| Rejected::new(reason, unique))
            }
            None => Err(Rejected::new(Reason::Unknown("job server"), unique)),
        }
    }

    /// Sends `payload` to a job server and back (ECHO_REQ). The answer is an [`Event::Echo`].
    ///
    /// # Errors
    /// The payload is over the limit, the server is unknown, a limit is reached, or the client is closed.
    pub fn echo(&mut self, server: ServerId, payload: Bytes, now: Instant) -> Result<RequestId, Rejected<Bytes>> {
        let limit = self.links.limits.max_packet;
        if payload.len() > limit {
            return Err(Rejected::new(ConfigError::TooLong { what: "payload", length: payload.len(), limit }, payload));
        }
        match self.links.place_of_server(server) {
            Some(place) => {
                self.ask(place, Ask::Echo(payload.clone()), now).map_err(|reason| Rejected::new(reason, payload))
            }
            None => Err(Rejected::new(Reason::Unknown("job server"), payload)),
        }
    }

    pub(super) fn ask(&mut self, place: usize, ask: Ask, now: Instant) -> Result<RequestId, Reason> {
        self.links.advance_clock(now);
        self.room_for(1)?;
        self.requests += 1;
        self.open_requests += 1;
        let request = RequestId(self.requests);
        if let Some(asks) = self.asks.get_mut(place) {
            asks.push_back((request, ask));
        }
        self.links.dial(place);
        self.send_asks(place);
        Ok(request)
    }

    pub(super) fn send_asks(&mut self, place: usize) {
        let Some(asks) = self.asks.get_mut(place).filter(|_| self.links.is_up(place)) else { return };
        for (request, ask) in asks.drain(..) {
            match ask {
                Ask::Status(handle) => {
                    let reply = Some(Reply::Status(request));
                    self.links.send(place, PacketType::GET_STATUS, &[handle.as_bytes()], None, reply);
                }
                Ask::StatusUnique(unique) => {
                    let reply = Some(Reply::StatusUnique(request));
                    self.links.send(place, PacketType::GET_STATUS_UNIQUE, &[&unique], None, reply);
                }
                Ask::Echo(payload) => {
                    self.links.send(place, PacketType::ECHO_REQ, &[], Some(&payload), Some(Reply::Echo(request)));
                }
            }
        }
    }

    pub(super) fn answer_status(&mut self, request: RequestId, result: Result<Status, RequestError>) {
        self.open_requests -= 1;
        self.links.event(Event::Status { request, result });
    }

    pub(super) fn answer_echo(&mut self, request: RequestId, result: Result<Bytes, RequestError>) {
        self.open_requests -= 1;
        self.links.event(Event::Echo { request, result });
    }

    /// Ends the requests that wait for the connection at `place`, or for `replies` that will not come.
    pub(super) fn end_requests(&mut self, place: usize, replies: Vec<Reply>, error: &RequestError) {
        for (request, ask) in self.asks.get_mut(place).map(core::mem::take).unwrap_or_default() {
            match ask {
                Ask::Echo(_) => self.answer_echo(request, Err(error.clone())),
                Ask::Status(_) | Ask::StatusUnique(_) => self.answer_status(request, Err(error.clone())),
            }
        }
        for reply in replies {
            match reply {
                Reply::Echo(request) => self.answer_echo(request, Err(error.clone())),
                Reply::Status(request) | Reply::StatusUnique(request) => {
                    self.answer_status(request, Err(error.clone()))
                }
                Reply::Created { .. } | Reply::Probe | Reply::Option | Reply::Doubt(_) | Reply::Barrier(..) => {}
            }
        }
    }
}
