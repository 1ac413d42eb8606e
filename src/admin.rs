//! The admin machine: it asks one job server by the text protocol.
//!
//! Commands and replies are [`wire::admin`](crate::wire::admin)'s. Each command that [`Admin::ask`] accepts ends in exactly
//! one [`Event::Reply`], within [`Config::timeout`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

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
    pub server: Option<Address>,
    /// The most time from a command to the end of its reply, connecting included. A command whose reply is late ends, and
    /// so does its connection. Default 15 s.
    pub timeout: Duration,
    /// How it connects. Nothing else of it counts here: there are no probes, and `timeout` bounds the replies.
    pub connecting: Connecting,
    /// What it may hold: `max_packet` bounds the bytes of a reply, `max_jobs` the commands outstanding.
    pub limits: Limits,
    /// Where its randomness comes from.
    pub seed: Seed,
}

impl Config {
    /// The defaults, without a server.
    #[must_use]
    pub fn new(seed: impl Into<Seed>) -> Self {
        Self {
            server: None,
            timeout: Duration::from_secs(15),
            connecting: Connecting::default(),
            limits: Limits::default(),
            seed: seed.into(),
        }
    }
}

/// What an admin machine tells its user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The job server is connected.
    Connected,
    /// The connection was lost or could not be made. The next command tries again, after a wait that grows with each failure.
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
    /// The job server answered with an ERR line. Its first word is the code, where it is one; some of gearmand's have none.
    #[error(transparent)]
    Refused(ServerError),
    /// The connection was lost, or could not be made.
    #[error("no connection to {server}: {reason}")]
    Lost {
        /// The job server.
        server: Address,
        /// What became of the connection.
        reason: CloseReason,
    },
    /// The reply did not come, or not all of it, within [`Config::timeout`].
    #[error("{server} has not answered within {within:?}")]
    TimedOut {
        /// The job server.
        server: Address,
        /// The limit.
        within: Duration,
    },
    /// The machine was closed.
    #[error("the admin connection was closed")]
    Closed,
}

/// The admin machine. See the [module](self).
#[derive(Debug)]
pub struct Admin {
    links: Links<Asked, Event>,
    /// Commands that wait for the connection.
    waiting: VecDeque<(RequestId, Request, Instant)>,
    server: Address,
    timeout: Duration,
    asked: u64,
    open: usize,
    /// A connection is wanted though no command waits for it.
    dialling: bool,
    closed: bool,
}

/// A command whose reply is due.
#[derive(Debug)]
struct Asked {
    id: RequestId,
    parser: ReplyParser,
    deadline: Instant,
}

/// The one server's place.
const PLACE: usize = 0;

impl Admin {
    /// A machine for one job server. It connects at the first command, or when it is told to.
    ///
    /// # Errors
    /// No server, a limit of zero, or a duration that is too short.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let server = config.server.ok_or(ConfigError::NoServers)?;
        if config.timeout < Duration::from_millis(1) {
            return Err(ConfigError::BadDuration { what: "timeout of a command", must_be: "at least 1 ms" });
        }
        // Each command has its own limit here.
        let connecting = Connecting { probe_after: None, reply_timeout: Duration::MAX, ..config.connecting };
        let links = Links::new(alloc::vec![server.clone()], connecting, config.limits, &config.seed)?;
        let (waiting, timeout) = (VecDeque::new(), config.timeout);
        Ok(Self { links, waiting, server, timeout, asked: 0, open: 0, dialling: false, closed: false })
    }

    /// Connects before there is a command. [`Event::Connected`] or [`Event::Disconnected`] says what comes of it, unless it is
    /// connected already.
    pub fn connect(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if !self.closed && !self.links.is_up(PLACE) {
            self.dialling = true;
            self.links.dial(PLACE);
        }
    }

    /// Sends a command. Its reply is an [`Event::Reply`].
    ///
    /// # Errors
    /// The command comes back when a name in it is no single word, too many are outstanding, or the machine is closed.
    pub fn ask(&mut self, request: Request, now: Instant) -> Result<RequestId, Rejected<Request>> {
        let now = self.links.advance_clock(now);
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
        self.waiting.push_back((RequestId(self.asked), request, now + self.timeout));
        self.links.dial(PLACE);
        self.send_waiting();
        Ok(RequestId(self.asked))
    }

    /// Commands that have no reply yet.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.open
    }

    /// Closes at once: what is outstanding ends as [`Error::Closed`], then comes [`Event::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.links.advance_clock(now);
        if !core::mem::replace(&mut self.closed, true) {
            self.dialling = false;
            let replies = self.links.close(PLACE);
            self.end(replies, &Error::Closed);
            self.links.event(Event::Closed);
        }
    }

    /// Whether [`poll`](Machine::poll) has something other than `Wait`.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn has_output(&self) -> bool {
        self.links.has_output()
    }

    /// The job server.
    #[must_use]
    pub const fn server(&self) -> &Address {
        &self.server
    }

    fn send_waiting(&mut self) {
        if !self.links.is_up(PLACE) {
            return;
        }
        let limit = self.links.limits.max_packet;
        for (id, request, deadline) in core::mem::take(&mut self.waiting) {
            let mut line = BytesMut::new();
            if request.encode(&mut line).is_ok() {
                let parser = ReplyParser::new(&request, limit);
                self.links.send_text(PLACE, &line, Asked { id, parser, deadline });
            }
        }
    }

    /// The commands of `replies`, which will not come, and those that wait end with `error`.
    fn end(&mut self, replies: Vec<Asked>, error: &Error) {
        let waiting = core::mem::take(&mut self.waiting);
        let requests = replies.into_iter().map(|asked| asked.id).chain(waiting.into_iter().map(|(id, ..)| id));
        for request in requests {
            self.answer(request, Err(error.clone()));
        }
    }

    /// The one end of a command.
    fn answer(&mut self, request: RequestId, result: Result<Reply, Error>) {
        self.open -= 1;
        self.links.event(Event::Reply { request, result });
    }

    fn lost(&mut self, reason: CloseReason) {
        self.dialling = false;
        let (replies, _) = self.links.lost(PLACE, &reason);
        self.links.event(Event::Disconnected { reason: reason.clone() });
        self.end(replies, &Error::Lost { server: self.server.clone(), reason });
    }

    fn break_off(&mut self, reason: CloseReason) {
        self.links.disconnect(PLACE);
        self.lost(reason);
    }

    /// The limit of the first reply that is due. All commands have one limit, so that the others' come later.
    fn deadline(&self) -> Option<Instant> {
        let due = self.links.get(PLACE).and_then(|link| link.connection.due());
        due.map(|(asked, _)| asked.deadline).or_else(|| self.waiting.front().map(|(.., deadline)| *deadline))
    }

    fn tick(&mut self) {
        if let Some(reason) = self.links.tick(PLACE, None, |_| false) {
            self.break_off(reason);
        }
        while self.deadline().is_some_and(|deadline| deadline <= self.links.now) {
            let late = Err(Error::TimedOut { server: self.server.clone(), within: self.timeout });
            let due = self.links.get_mut(PLACE).and_then(|link| link.connection.take_reply(|_| true, |_| false));
            if let Some(asked) = due {
                self.answer(asked.id, late);
                // What comes after it cannot be told from the late reply.
                self.break_off(CloseReason::Silent);
            } else if let Some((request, ..)) = self.waiting.pop_front() {
                self.answer(request, late);
            }
        }
        if self.dialling || !self.waiting.is_empty() {
            self.links.dial(PLACE);
        }
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
        let asked = link.connection.due_mut().ok_or(ProtocolError::BadReply)?;
        let request = asked.id;
        let Some(reply) = asked.parser.take(stream)? else { return Ok(false) };
        link.proved();
        link.connection.take_reply(|_| true, |_| false);
        let result = if let Reply::Refused(line) = reply { Err(Error::Refused(refusal(&line))) } else { Ok(reply) };
        self.answer(request, result);
        Ok(true)
    }
}

/// What stands behind ERR, in its parts. gearmand writes `+` for a blank where there is a code.
fn refusal(line: &[u8]) -> ServerError {
    let (first, rest) = line.iter().position(|&byte| byte == b' ').map_or((line, &[][..]), |at| line.split_at(at));
    let is_code = first.contains(&b'_') || first.iter().all(u8::is_ascii_uppercase);
    if !is_code {
        return ServerError { code: "".into(), text: lossy(line.trim_ascii()) };
    }
    let text: Vec<_> = rest.trim_ascii().iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    ServerError { code: lossy(first), text: lossy(&text) }
}

impl Machine for Admin {
    type Event = Event;

    fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.links.advance_clock(now);
        let (Input::Connected(conn) | Input::Data(conn, _) | Input::Closed(conn, _)) = &input else {
            return self.tick();
        };
        if self.links.place_of(*conn).is_none() {
            return;
        }
        match input {
            Input::Connected(_) => {
                if self.links.connected(PLACE) {
                    self.dialling = false;
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
        let (wanted, deadline) = (self.dialling || !self.waiting.is_empty(), self.deadline());
        self.links.output(|| deadline.unwrap_or(Instant::NEVER), |_| wanted)
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        self.links.outgoing(conn)
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.links.wants_read(conn)
    }
}
