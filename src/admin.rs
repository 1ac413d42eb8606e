//! The admin machine: it asks one job server by the text protocol.
//!
//! Commands and replies are [`wire::admin`](crate::wire::admin)'s. Each command that [`Admin::ask`] accepts ends in exactly
//! one [`Event::Reply`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::BytesMut;

use crate::address::Address;
use crate::error::{ConfigError, ProtocolError, Reason, Rejected, lossy};
use crate::job::ServerError;
use crate::link::Connecting;
use crate::links::Links;
use crate::machine::{CloseReason, ConnId, Input, Limits, Machine, Outgoing, Output};
use crate::random::Seed;
use crate::time::Instant;
use crate::wire::admin::{NotAWord, Reply, ReplyParser, Request};

/// What an admin machine is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The job server.
    pub server: Address,
    /// How it connects, and how long a reply may take. There are no probes.
    pub connecting: Connecting,
    /// What it may hold: `max_packet` bounds the bytes of a reply, `max_jobs` the commands outstanding.
    pub limits: Limits,
    /// Where its randomness comes from.
    pub seed: Seed,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(server: Address, seed: Seed) -> Self {
        Self { server, connecting: Connecting::default(), limits: Limits::default(), seed }
    }
}

/// What an admin machine tells its user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The job server is connected.
    Connected,
    /// The connection was lost or could not be made. The next command tries again.
    Disconnected {
        /// Why.
        reason: CloseReason,
    },
    /// The reply to a command: exactly one for each.
    Reply {
        /// The command.
        request: RequestId,
        /// What the job server says, or why it says nothing.
        result: Result<Reply, Error>,
    },
    /// The machine has closed. The last event.
    Closed,
}

/// A command that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The job server answered with an ERR line.
    #[error(transparent)]
    Refused(ServerError),
    /// The connection was lost, or could not be made.
    #[error("the connection was lost: {0}")]
    Lost(CloseReason),
    /// The machine was closed.
    #[error("the admin connection was closed")]
    Closed,
}

/// The admin machine. See the [module](self).
#[derive(Debug)]
pub struct Admin {
    links: Links<(RequestId, ReplyParser), Event>,
    /// Commands that wait for the connection.
    waiting: VecDeque<(RequestId, Request)>,
    asked: u64,
    open: usize,
    closed: bool,
}

/// The one server's place.
const PLACE: usize = 0;

impl Admin {
    /// A machine for one job server. It connects at the first command.
    ///
    /// # Errors
    /// A duration that is too short.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let connecting = Connecting { probe_after: None, ..config.connecting };
        let links = Links::new(alloc::vec![config.server], connecting, config.limits, &config.seed)?;
        Ok(Self { links, waiting: VecDeque::new(), asked: 0, open: 0, closed: false })
    }

    /// Sends a command. Its reply is an [`Event::Reply`].
    ///
    /// # Errors
    /// The command comes back when a name in it is no single word, too many are outstanding, or the machine is closed.
    pub fn ask(&mut self, request: Request, now: Instant) -> Result<RequestId, Rejected<Request>> {
        self.links.advance_clock(now);
        let limit = self.links.limits.max_jobs;
        if self.closed {
            return Err(Rejected::new(Reason::Closed, request));
        }
        if self.open >= limit {
            return Err(Rejected::new(Reason::Full { what: "the number of outstanding commands", limit }, request));
        }
        if let Err(NotAWord { what }) = request.encode(&mut BytesMut::new()) {
            return Err(Rejected::new(ConfigError::NotAWord(what), request));
        }
        self.asked += 1;
        self.open += 1;
        self.waiting.push_back((RequestId(self.asked), request));
        self.links.dial(PLACE);
        self.send_waiting();
        Ok(RequestId(self.asked))
    }

    /// Closes at once: what is outstanding ends as [`Error::Closed`], then comes [`Event::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if !core::mem::replace(&mut self.closed, true) {
            let replies = self.links.close(PLACE);
            self.end(replies, &Error::Closed);
            self.links.event(Event::Closed);
        }
    }

    fn send_waiting(&mut self) {
        if !self.links.is_up(PLACE) {
            return;
        }
        let limit = self.links.limits.max_packet;
        for (id, request) in core::mem::take(&mut self.waiting) {
            let mut line = BytesMut::new();
            if request.encode(&mut line).is_ok() {
                self.links.send_text(PLACE, &line, (id, ReplyParser::new(&request, limit)));
            }
        }
    }

    /// The commands of `replies`, which will not come, and those that wait end with `error`.
    fn end(&mut self, replies: Vec<(RequestId, ReplyParser)>, error: &Error) {
        let waiting = core::mem::take(&mut self.waiting);
        let requests = replies.into_iter().map(|(id, _)| id).chain(waiting.into_iter().map(|(id, _)| id));
        for request in requests {
            self.open -= 1;
            self.links.event(Event::Reply { request, result: Err(error.clone()) });
        }
    }

    fn lost(&mut self, reason: CloseReason) {
        let (replies, _) = self.links.lost(PLACE);
        self.links.event(Event::Disconnected { reason: reason.clone() });
        self.end(replies, &Error::Lost(reason));
    }

    fn break_off(&mut self, reason: CloseReason) {
        self.links.disconnect(PLACE);
        self.lost(reason);
    }

    fn receive(&mut self, conn: ConnId, stream: &mut BytesMut) {
        while self.links.may_receive(conn) && !stream.is_empty() {
            match self.reply(stream) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    stream.clear();
                    return self.break_off(CloseReason::Protocol(error));
                }
            }
        }
    }

    /// Takes what there is of the next reply. Says whether that was all of it.
    fn reply(&mut self, stream: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some(link) = self.links.get_mut(PLACE) else { return Ok(false) };
        let (id, parser) = link.connection.due_mut().ok_or(ProtocolError::BadReply)?;
        let request = *id;
        let Some(reply) = parser.take(stream)? else { return Ok(false) };
        link.proved();
        link.connection.take_reply(|_| true, |_| false);
        self.open -= 1;
        let result = match reply {
            Reply::Refused(line) => {
                let (code, text) =
                    line.iter().position(|&byte| byte == b' ').map_or((&line[..], &b""[..]), |at| line.split_at(at));
                Err(Error::Refused(ServerError { code: lossy(code), text: lossy(text.trim_ascii()) }))
            }
            reply => Ok(reply),
        };
        self.links.event(Event::Reply { request, result });
        Ok(true)
    }
}

impl Machine for Admin {
    type Event = Event;

    fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.links.advance_clock(now);
        let (Input::Connected(conn) | Input::Data(conn, _) | Input::Closed(conn, _)) = &input else {
            if let Some(reason) = self.links.tick(PLACE, None, |_| false) {
                self.break_off(reason);
            }
            if !self.waiting.is_empty() {
                self.links.dial(PLACE);
            }
            return;
        };
        if self.links.place_of(*conn).is_none() {
            return;
        }
        match input {
            Input::Connected(_) => {
                if self.links.connected(PLACE) {
                    self.links.event(Event::Connected);
                    self.send_waiting();
                }
            }
            Input::Data(conn, stream) => {
                self.receive(conn, stream);
            }
            Input::Closed(_, reason) => self.lost(reason),
            Input::Tick => {}
        }
    }

    fn poll(&mut self) -> Output<Event> {
        if let Some(output) = self.links.output() {
            return output;
        }
        let wanted = !self.waiting.is_empty();
        self.links.wait(None, |_| wanted)
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        self.links.outgoing(conn)
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.links.wants_read(conn)
    }
}
