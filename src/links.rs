//! All the job servers that a client or worker dials, and the outputs it owes its driver: what the two machines share.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::address::Address;
use crate::error::{ConfigError, ProtocolError};
use crate::job::ServerId;
use crate::link::{Connecting, Due, Link, LinkState, Removal};
use crate::machine::{CloseReason, ConnId, Limits, Outgoing, Output};
use crate::random::{Random, Seed};
use crate::time::{Instant, earlier};
use crate::trace::{self, Span, Told};
use crate::wire::frame::LARGEST_BODY;
use crate::wire::{HEADER, Head, PacketType};

/// `R`: what a due reply is for. `E`: the machine's events. A job server is named by its place in the list.
#[derive(Debug)]
pub(crate) struct Links<R, E> {
    list: Vec<Link<R>>,
    queue: VecDeque<Output<E>>,
    /// Connections with something to write that the driver has not been told of.
    due: Vec<ConnId>,
    next_server: u32,
    /// Connections whose packets wait until the queue is shorter.
    paused: Vec<ConnId>,
    /// No link has to be looked at before this, unless they are `stirred`: then it is to be found anew.
    next: Instant,
    stirred: bool,
    /// How often something happened to one of them.
    turns: u64,
    pub(crate) settings: Connecting,
    pub(crate) limits: Limits,
    pub(crate) random: Random,
    pub(crate) now: Instant,
}

impl<R, E: Told> Links<R, E> {
    pub(crate) fn new(
        servers: Vec<Address>,
        settings: Connecting,
        mut limits: Limits,
        seed: &Seed,
    ) -> Result<Self, ConfigError> {
        if servers.is_empty() {
            return Err(ConfigError::NoServers);
        }
        for (what, limit) in [
            ("limits.max_outgoing", limits.max_outgoing),
            ("limits.max_jobs", limits.max_jobs),
            ("limits.max_events", limits.max_events),
        ] {
            if limit == 0 {
                return Err(ConfigError::Zero(what));
            }
        }
        settings.check()?;
        limits.max_packet = limits.max_packet.min(LARGEST_BODY);
        let mut links = Self {
            list: Vec::with_capacity(servers.len()),
            queue: VecDeque::new(),
            due: Vec::new(),
            next_server: 0,
            paused: Vec::new(),
            next: Instant::NEVER,
            stirred: false,
            turns: 0,
            settings,
            limits,
            random: Random::new(seed),
            now: Instant::EPOCH,
        };
        for address in servers {
            links.add(address)?;
        }
        Ok(links)
    }

    /// Takes up a server; says at which place.
    pub(crate) fn add(&mut self, address: Address) -> Result<usize, ConfigError> {
        if self.list.iter().any(|link| link.address == address && link.removal == Removal::None) {
            return Err(ConfigError::DuplicateServer(address));
        }
        self.stir();
        let id = ServerId(self.next_server);
        self.next_server = self.next_server.wrapping_add(1);
        if let Some(place) = self.list.iter().position(|link| link.removal == Removal::Done) {
            if let Some(link) = self.list.get_mut(place) {
                link.replace(id, address);
            }
            return Ok(place);
        }
        let place = self.list.len();
        self.list.push(Link::new(id, address, u32::try_from(place).unwrap_or(u32::MAX)));
        Ok(place)
    }

    /// Where a server stands that has not been removed.
    pub(crate) fn place_of_server(&self, server: ServerId) -> Option<usize> {
        self.list.iter().position(|link| link.id == server && link.removal != Removal::Done)
    }

    /// Something is said to the machine, at this time. Time never goes back for a machine, whatever its driver says.
    pub(crate) fn advance_clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Link<R>> {
        self.list.get(place)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Link<R>> {
        self.list.get_mut(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link<R>> {
        self.list.iter()
    }

    pub(crate) fn is_up(&self, place: usize) -> bool {
        self.get(place).is_some_and(Link::is_up)
    }

    /// Whose connection `conn` is, if it lives.
    pub(crate) fn place_of(&self, conn: ConnId) -> Option<usize> {
        self.get(conn.index()).filter(|link| link.owns(conn)).map(|_| conn.index())
    }

    /// Something happens to a link.
    pub(crate) fn stir(&mut self) {
        self.stirred = true;
        self.turns += 1;
    }

    /// How often something has happened to the links, where time alone changes none of them: as long as this stays the same,
    /// they all stand as they do.
    pub(crate) fn steady(&self) -> Option<u64> {
        self.list.iter().all(Link::is_steady).then_some(self.turns)
    }

    /// Whether they still stand as they did when [`steady`](Self::steady) was asked.
    pub(crate) fn are_still(&self, steady: Option<u64>) -> bool {
        steady == Some(self.turns)
    }

    #[inline(always)]
    pub(crate) fn event(&mut self, event: E) {
        event.tell();
        self.queue.push_back(Output::Event(event));
    }

    /// Takes back what has not been told yet.
    #[cold]
    pub(crate) fn take_back(&mut self, is: impl Fn(&E) -> bool) {
        self.queue.retain(|output| !matches!(output, Output::Event(event) if is(event)));
    }

    /// Begins to connect, where nothing speaks against it.
    pub(crate) fn dial(&mut self, place: usize) {
        let now = self.now;
        if let Some(link) = self.list.get_mut(place).filter(|link| link.state(now) == LinkState::Idle) {
            let (conn, server, within) = (link.dial(now), link.address.clone(), self.settings.connect_timeout);
            link.span = trace::dialled(E::ROLE, &server, conn);
            self.stir();
            self.queue.push_back(Output::Connect { conn, server, within });
        }
    }

    /// Sends a packet, and remembers the reply that is due for it. Does nothing where no connection is.
    pub(crate) fn send<const N: usize>(
        &mut self,
        place: usize,
        kind: PacketType,
        arguments: &[&[u8]; N],
        payload: Option<&Bytes>,
        reply: Option<R>,
    ) {
        self.put(place, kind, arguments, payload, reply);
        self.tell(place);
    }

    /// The same, but for [telling](Self::tell) the driver.
    #[inline]
    pub(crate) fn put<const N: usize>(
        &mut self,
        place: usize,
        kind: PacketType,
        arguments: &[&[u8]; N],
        payload: Option<&Bytes>,
        reply: Option<R>,
    ) -> Option<&Link<R>> {
        let link = self.list.get_mut(place).filter(|link| link.is_up())?;
        trace::packet_sent(&link.span, kind);
        link.untold |= link.connection.send(kind, arguments, payload);
        if let Some(reply) = reply {
            link.connection.expect(reply, self.now);
            self.next = self.next.min(self.now + self.settings.reply_timeout);
        }
        Some(link)
    }

    /// Has the driver told of what there is to write, if it was not.
    #[inline]
    pub(crate) fn tell(&mut self, place: usize) {
        if let Some(link) = self.list.get_mut(place)
            && core::mem::take(&mut link.untold)
        {
            self.due.push(link.conn());
        }
    }

    /// Sends a line of the text protocol, and remembers the reply that is due for it.
    pub(crate) fn send_text(&mut self, place: usize, line: &[u8], reply: R) {
        let Some(link) = self.list.get_mut(place).filter(|link| link.is_up()) else { return };
        link.untold |= link.connection.out.text(line);
        link.connection.expect(reply, self.now);
        self.next = self.next.min(self.now + self.settings.reply_timeout);
        self.tell(place);
    }

    /// The link whose `conn` may be looked at now: none when that is over, or when the machine must be polled first.
    fn receiving(&mut self, conn: ConnId) -> Option<&mut Link<R>> {
        if self.queue.len() >= self.limits.max_events {
            self.pause_if_read(conn);
            return None;
        }
        let link = self.list.get_mut(conn.index()).filter(|link| link.owns(conn) && !link.is_deaf())?;
        link.heard(self.now);
        Some(link)
    }

    /// Whether what came on `conn` may be looked at: not when it is over, or when the machine must be polled first.
    pub(crate) fn may_receive(&mut self, conn: ConnId) -> bool {
        self.receiving(conn).is_some()
    }

    #[cold]
    fn pause_if_read(&mut self, conn: ConnId) {
        if self.list.get(conn.index()).is_some_and(|link| link.owns(conn) && !link.is_held()) {
            self.pause(conn);
        }
    }

    #[cold]
    fn pause(&mut self, conn: ConnId) {
        if !self.paused.contains(&conn) {
            self.paused.push(conn);
        }
    }

    /// The next packet that came on `conn`, for its machine to look into and take off the stream, and to say so by
    /// [`received`](Self::received) when it has taken all that it can. `None`: no whole one, or the machine must be polled
    /// first. Its magic is not compared: rustygeard sends pushed packets with the request's.
    #[inline]
    pub(crate) fn receive_head(&mut self, conn: ConnId, stream: &mut BytesMut) -> Result<Option<Head>, ProtocolError> {
        let most = self.limits.max_packet;
        let Some(link) = self.receiving(conn).filter(|_| !stream.is_empty()) else { return Ok(None) };
        let head = Head::read(stream, most)?;
        head.iter().for_each(|head| trace::packet_received(&link.span, head.kind));
        Ok(head)
    }

    /// Passes over the next packet of a connection, with a body of so many bytes. Says whether that was all of it: else
    /// [`skip_on`](Self::skip_on) goes on when more has come.
    #[cold]
    pub(crate) fn skip(&mut self, place: usize, stream: &mut BytesMut, body: usize) -> bool {
        let bytes = (HEADER as u64).saturating_add(u64::try_from(body).unwrap_or(u64::MAX));
        self.list.get_mut(place).is_some_and(|link| link.skip(bytes, stream))
    }

    /// To be called where no packet was found in what has come: it may be what is passed over. Says whether that is over now.
    #[cold]
    pub(crate) fn skip_on(&mut self, conn: ConnId, stream: &mut BytesMut) -> bool {
        let now = self.now;
        let link = self.list.get_mut(conn.index()).filter(|link| link.owns(conn) && link.is_deaf() && !link.is_held());
        link.is_some_and(|link| {
            link.heard(now);
            link.skip(0, stream)
        })
    }

    /// Of so many bytes that came on `conn`, so many are left.
    #[inline]
    pub(crate) fn received(&mut self, conn: ConnId, came: usize, left: usize) {
        let link = self.list.get_mut(conn.index()).filter(|link| link.owns(conn));
        link.into_iter().for_each(|link| link.received(came - left, left));
    }

    /// The attempt to connect succeeded; false when none was under way.
    pub(crate) fn connected(&mut self, place: usize) -> bool {
        let now = self.now;
        self.stir();
        let Some(link) = self.get_mut(place) else { return false };
        let was_connecting = link.connected(now);
        if was_connecting {
            trace::connected(&link.span);
        }
        was_connecting
    }

    /// The connection is gone or was not made: the replies that will not come, and when it may be tried again.
    pub(crate) fn lost(&mut self, place: usize, reason: &CloseReason) -> (Vec<R>, Instant) {
        self.stir();
        match self.list.get_mut(place) {
            Some(link) => {
                let retry_at = link.lost(self.now, &self.settings, &mut self.random);
                trace::lost(&link.span, reason, retry_at.saturating_since(self.now));
                link.failure = Some(reason.clone());
                link.span = Span::none();
                let conn = link.conn();
                self.due.retain(|due| *due != conn);
                (link.connection.end().collect(), retry_at)
            }
            None => (Vec::new(), self.now),
        }
    }

    /// Which of those that have failed and not answered since has failed last, and why.
    pub(crate) fn last_failure(&self) -> Option<(Address, CloseReason)> {
        let failed = self.list.iter().filter(|link| link.removal == Removal::None && link.is_on_probation());
        let last = failed.max_by_key(|link| link.failed_at())?;
        Some((last.address.clone(), last.failure.clone()?))
    }

    /// Tells the driver to close a connection; what that means to the machine is the caller's to do.
    pub(crate) fn disconnect(&mut self, place: usize) {
        if let Some(link) = self.get(place) {
            self.queue.push_back(Output::Disconnect(link.conn()));
        }
    }

    /// Closes a connection for good, if there is one.
    pub(crate) fn close(&mut self, place: usize) -> Vec<R> {
        self.stir();
        let Some(link) = self.list.get_mut(place) else { return Vec::new() };
        let conn = link.conn();
        if link.owns(conn) {
            self.queue.push_back(Output::Disconnect(conn));
            self.due.retain(|due| *due != conn);
            trace::left(&link.span);
        }
        link.span = Span::none();
        link.rest();
        link.connection.end().collect()
    }

    /// What a link needs now that time has passed: a probe is sent; why it must be broken off is returned.
    /// A reply that `may_miss` lets go unanswered is forgotten in the end.
    pub(crate) fn tick(
        &mut self,
        place: usize,
        probe: Option<R>,
        may_miss: impl Fn(&R) -> bool,
    ) -> Option<CloseReason> {
        let now = self.now;
        self.stir();
        let link = self.list.get_mut(place)?;
        match link.tick(now, &self.settings) {
            Due::Nothing => {}
            Due::ConnectTimeout => return Some(CloseReason::ConnectTimeout),
            Due::Silent if link.connection.due().is_some_and(|(reply, _)| may_miss(reply)) => {
                link.connection.take_reply(|_| true, |_| false);
                return self.tick(place, probe, may_miss);
            }
            Due::Silent => return Some(CloseReason::Silent),
            Due::Probe => self.send(place, PacketType::ECHO_REQ, &[], None, probe),
        }
        None
    }

    /// The next output; for the last of them `other` and `wanted` are as for [`waits`](Self::waits).
    #[inline(always)]
    pub(crate) fn output(&mut self, other: impl FnOnce() -> Instant, wanted: impl Fn(usize) -> bool) -> Output<E> {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        if let Some(conn) = self.due.pop() {
            return Output::Transmit(conn);
        }
        while let Some(conn) = self.paused.pop() {
            // One that is held goes on when it no longer is.
            if self.place_of(conn).is_some_and(|place| !self.get(place).is_some_and(Link::is_held)) {
                return Output::Resume(conn);
            }
        }
        Output::Wait(self.waits(other(), wanted))
    }

    /// A connection with something to write that the driver has not been told of.
    #[cfg(feature = "blocking")]
    pub(crate) fn next_due(&mut self) -> Option<ConnId> {
        self.due.pop()
    }

    /// Whether there is an output but for `Wait`.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn has_output(&self) -> bool {
        !(self.queue.is_empty() && self.due.is_empty() && self.paused.is_empty())
    }

    /// Reads nothing from a server until each call has been followed by [`unhold`](Self::unhold).
    pub(crate) fn hold(&mut self, place: usize) {
        self.stir();
        self.get_mut(place).into_iter().for_each(Link::hold);
    }

    pub(crate) fn unhold(&mut self, place: usize) {
        let now = self.now;
        if let Some(link) = self.list.get_mut(place)
            && link.unhold(now)
        {
            let conn = link.conn();
            self.stir();
            self.pause(conn);
        }
    }

    /// Until when to wait: until a link must be looked at, or `other`, when the machine itself has something due.
    /// `wanted`: whether the machine waits for that server.
    ///
    /// What comes on a connection that stands only puts off what is due on it: the links are looked at again when the
    /// time has come that was found before, not after each packet.
    #[inline]
    pub(crate) fn waits(&mut self, other: Instant, wanted: impl Fn(usize) -> bool) -> Option<Instant> {
        if self.stirred {
            self.find_next(wanted);
        }
        self.next.min(other).unless_never()
    }

    #[cold]
    fn find_next(&mut self, wanted: impl Fn(usize) -> bool) {
        let settings = &self.settings;
        let deadline = |(place, link): (usize, &Link<R>)| {
            // As soon as no reply is due any more, a probe may be the next thing.
            let probe = settings.probe_after.filter(|_| link.is_up()).map(|quiet| self.now + quiet);
            let wanted = wanted(place);
            let rested = link.rests_until(self.now, settings).filter(|_| wanted);
            earlier(earlier(link.deadline(settings, wanted), probe), rested)
        };
        self.next = self.list.iter().enumerate().filter_map(deadline).min().unwrap_or(Instant::NEVER);
        // Without probes a quiet connection has nothing due, and shall wake nobody.
        let may_change = |link: &Link<R>| link.is_between() || link.rests_until(self.now, settings).is_some();
        self.stirred = settings.probe_after.is_none() || self.list.iter().any(may_change);
    }

    pub(crate) fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        let link = self.list.get_mut(conn.index()).filter(|link| link.owns(conn));
        Outgoing::new(link.map(|link| &mut link.connection.out))
    }

    pub(crate) fn wants_read(&self, conn: ConnId) -> bool {
        let is_held = self.get(conn.index()).is_some_and(|link| link.is_held() && link.owns(conn));
        !is_held && !self.paused.contains(&conn)
    }
}
