//! All that a driver needs: one trait, what goes in, what comes out.
//!
//! A machine is told bytes and time and answers with actions and events. It owns no socket, starts no thread and reads no
//! clock, so one driver a runtime serves [`Client`](crate::client::Client), [`Worker`](crate::worker::Worker) and
//! [`Server`](crate::server::Server) alike. The whole duty of a driver:
//!
//! 1. after anything it did to the machine, call [`Machine::poll`] until it answers [`Output::Wait`], and do as it says;
//! 2. hand what a socket brings to [`Machine::handle`], and [`Input::Tick`] when the time of the last `Wait` has come;
//! 3. write what [`Machine::outgoing`] shows after [`Output::Transmit`], and tell it how much was taken.
//!
//! Calls are legal in any order and at any time. A [`ConnId`] that no longer lives is ignored everywhere.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use bytes::BytesMut;

use crate::address::Address;
use crate::error::ProtocolError;
use crate::excerpt::Excerpt;
pub use crate::outbox::{Batch, Outgoing};
use crate::time::Instant;

/// A client, worker, server or admin connection as a pure state machine.
pub trait Machine {
    /// What it tells the user.
    type Event;

    /// Takes one input. Never fails: what is wrong with it comes out of [`poll`](Machine::poll).
    fn handle(&mut self, input: Input<'_>, now: Instant);

    /// The next thing to do. [`Output::Wait`] comes only when nothing else is due.
    fn poll(&mut self) -> Output<Self::Event>;

    /// The bytes to write on `conn`. They stay until [`Outgoing::advance`] is told that they were taken.
    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_>;

    /// False while the machine's limits say not to read this connection; [`Output::Resume`] ends it.
    fn wants_read(&self, conn: ConnId) -> bool;

    /// A listener has a new connection. `None`: the driver closes the socket.
    fn accept(&mut self, peer: Peer<'_>, now: Instant) -> Option<ConnId> {
        let _ = (peer, now);
        None
    }

    /// False while the machine would refuse every new connection. A driver may then leave its listeners alone.
    fn wants_accept(&self) -> bool {
        false
    }
}

/// A connection of a machine, never reused.
///
/// Its [`index`](ConnId::index) is dense, so that a driver can keep its sockets in a table or use it as a poll token; an
/// index is used again after its connection has ended, the whole id is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place of this connection in a table of all.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({}.{})", self.index, self.generation)
    }
}

/// What a driver tells a machine.
#[non_exhaustive]
pub enum Input<'a> {
    /// The connection that [`Output::Connect`] asked for stands.
    Connected(ConnId),
    /// Bytes that came, behind what the machine left of them before. It splits whole packets off and leaves the rest,
    /// which the driver keeps for the next time. It may reserve room for what a packet has announced: a driver does well
    /// to read straight into such room.
    Data(ConnId, &'a mut BytesMut),
    /// The connection ended, or could not be made.
    Closed(ConnId, CloseReason),
    /// Time has passed.
    Tick,
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(conn) => f.debug_tuple("Connected").field(conn).finish(),
            Self::Data(conn, stream) => f.debug_tuple("Data").field(conn).field(&Excerpt(stream)).finish(),
            Self::Closed(conn, reason) => f.debug_tuple("Closed").field(conn).field(reason).finish(),
            Self::Tick => f.write_str("Tick"),
        }
    }
}

/// What a machine tells its driver. Exhaustive on purpose: a driver must know how to do each.
#[derive(Debug)]
#[must_use]
pub enum Output<E> {
    /// Connect to `server`, trying all its addresses, and answer with [`Input::Connected`] or [`Input::Closed`]. After
    /// `within` the machine gives up by itself with [`Output::Disconnect`].
    Connect {
        /// The name of the connection to be.
        conn: ConnId,
        /// Where to.
        server: Address,
        /// How long the attempt may take.
        within: Duration,
    },
    /// [`Machine::outgoing`] has bytes for a connection where it had none. Said once: whoever could not write all of them
    /// goes on when the socket is writable. A client that [gathers submissions](crate::client::Config::gather), a server with
    /// [`patience`](crate::server::Config::patience) and one that [gathers results](crate::server::Config::gather_results)
    /// may say it a little later than the bytes are there, for more to follow; then it wants a tick, and where that is at
    /// once, the driver had better see first whether there is more to read.
    Transmit(ConnId),
    /// Reading may go on: hand in what was left of the last [`Input::Data`], then read.
    Resume(ConnId),
    /// Close the socket, or give up connecting. What was to be flushed has been. Nothing more is said of it, but that
    /// [`Machine::outgoing`] may have a last word of some bytes (TLS's close_notify), until the next poll: to be written where
    /// that does not block.
    Disconnect(ConnId),
    /// Something for the user.
    Event(E),
    /// Nothing else is due: send [`Input::Tick`] at this time, or never.
    Wait(Option<Instant>),
}

/// Who knocks at a listener.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// Its address without a port, as the admin command `workers` shows it: one word. The runtimes' for a peer on a Unix
    /// socket is `unix`.
    pub address: &'a str,
    /// Whether it is on this machine.
    pub loopback: bool,
    /// Whether its connection stays as it is though the machine accepts with TLS (feature `tls`). Default false.
    pub plain: bool,
}

impl<'a> Peer<'a> {
    /// A peer at `address` (an IP address without a port, or any word for other transports).
    #[must_use]
    pub const fn new(address: &'a str, loopback: bool) -> Self {
        Self { address, loopback, plain: false }
    }

    /// Leaves its connection as it is, though the machine accepts with TLS: one from a Unix socket, say.
    #[must_use]
    pub const fn plain(self) -> Self {
        Self { plain: true, ..self }
    }
}

/// Why a connection ended or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in order.
    Ended,
    /// The peer or the network reset it.
    Reset,
    /// Nobody listens there.
    Refused,
    /// It was not made within the connect deadline.
    ConnectTimeout,
    /// The host name has no address.
    Unresolved,
    /// No reply or sign of life within the limit, though one was due.
    Silent,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// TLS (feature `tls`) did not come about or broke off: who is at fault, and what to look at.
    Tls(Arc<str>),
    /// The peer does not read what is sent to it.
    SlowReader,
    /// We closed it.
    Local,
    /// The connection stands, but the job server no longer knows the job and never said how it ended.
    Forgotten,
    /// Anything else that the operating system said.
    Failed(Arc<str>),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the peer closed the connection"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Refused => f.write_str("connection refused: nothing listens there"),
            Self::ConnectTimeout => f.write_str("no connection within the connect deadline"),
            Self::Unresolved => f.write_str("the host name has no address"),
            Self::Silent => f.write_str("the peer is silent"),
            Self::Protocol(error) => write!(f, "the peer broke the protocol: {error}"),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::SlowReader => f.write_str("the peer does not read what is sent to it"),
            Self::Forgotten => f.write_str("the job server has forgotten the job"),
            Self::Local => f.write_str("closed on this side"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for CloseReason {}

/// What a machine will hold at most, whatever its peers and its user do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes in the body of one packet. Of a larger one nothing is kept, and its connection is closed; but a larger result, or
    /// part of one, ends the job alone, as [`Overflow`](crate::Outcome::Overflow), and a larger job is failed by its worker
    /// (WORK_EXCEPTION), which would else be given it again and again. A larger submission is refused by `submit`. No more
    /// than 2^32 - 1, which a header can announce. Default 128 MiB.
    pub max_packet: usize,
    /// Bytes queued for one connection from which on a client refuses submissions (`Full`; `submit` of the runtimes waits).
    /// For a server see [`slow_reader`](crate::server::Config::slow_reader). One packet may always be queued. Default 64 MiB.
    pub max_outgoing: usize,
    /// Jobs outstanding in one client beyond which it refuses submissions likewise. Default 1,000,000.
    pub max_jobs: usize,
    /// Outputs queued in a machine beyond which it stops reading until they have been polled, at least one. Default 4,096.
    pub max_events: usize,
    /// Bytes of WORK_DATA and WORK_WARNING of one job that may wait to be read by its user, each event counted as its
    /// payload and [`EVENT_COST`](crate::client::EVENT_COST) more; one event may always wait. What happens beyond is the
    /// client's [`Unread`](crate::client::Unread). A job may have its own: [`Job::max_unread`](crate::Job::max_unread).
    /// Default 64 MiB.
    pub max_unread: usize,
    /// The same for all outstanding jobs of a client together: beyond, it is as if the job for which more comes had reached
    /// its own limit. Default 1 GiB.
    pub max_unread_total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet: 128 << 20,
            max_outgoing: 64 << 20,
            max_jobs: 1_000_000,
            max_events: 4_096,
            max_unread: 64 << 20,
            max_unread_total: 1 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_reason_for_an_end_has_words_of_its_own() {
        let reasons = [
            CloseReason::Ended,
            CloseReason::Reset,
            CloseReason::Refused,
            CloseReason::ConnectTimeout,
            CloseReason::Unresolved,
            CloseReason::Silent,
            CloseReason::Protocol(ProtocolError::OutOfOrder(crate::wire::PacketType::ECHO_RES)),
            CloseReason::Tls("a certificate".into()),
            CloseReason::SlowReader,
            CloseReason::Local,
            CloseReason::Forgotten,
            CloseReason::Failed("the disk is full".into()),
        ];
        let mut texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert!(texts.iter().all(|text| text.len() > 5), "{texts:?}");
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), reasons.len(), "{texts:?}");
    }
}
