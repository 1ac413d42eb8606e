//! Errors by who is at fault: [`ProtocolError`] is the peer's, [`ConfigError`] and [`Rejected`] are the caller's.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::fmt;

use crate::address::Address;
use crate::excerpt::{Beginning, Excerpt};
use crate::wire::frame::FrameError;
use crate::wire::{DecodeError, PacketType};

/// The peer broke the protocol. Its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Its bytes are no packets.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its packet has not the arguments of its type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet that this side never gets.
    #[error("{0} is not for this side of a connection")]
    WrongSide(PacketType),
    /// A reply that answers no request, or another one than is next.
    #[error("{0} answers no request that is due")]
    OutOfOrder(PacketType),
    /// A line of the text protocol longer than the limit, in bytes.
    #[error("a text line is longer than {0} bytes")]
    LineTooLong(usize),
    /// A line of the text protocol with more words than any command has; the most there are.
    #[error("a text command has more than {0} words")]
    TooManyWords(usize),
    /// A text where a number belongs, or the like.
    #[error("the argument `{argument}` of {kind} makes no sense")]
    BadArgument {
        /// The type of the packet.
        kind: PacketType,
        /// The argument's name in the table.
        argument: &'static str,
    },
    /// A reply of the text protocol that is not as the command's replies are.
    #[error("a text reply makes no sense")]
    BadReply,
}

/// What the caller asked for cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A function without a name.
    #[error("the function name is empty")]
    EmptyFunction,
    /// A name that holds a NUL byte, which would end it on the wire.
    #[error("the {what} {value:?} holds a NUL byte")]
    Nul {
        /// What the value is for.
        what: &'static str,
        /// The value.
        value: Box<str>,
    },
    /// A value longer than job servers take.
    #[error("the {what} has {length} bytes; the limit is {limit}")]
    TooLong {
        /// What the value is for.
        what: &'static str,
        /// Its bytes.
        length: usize,
        /// The bytes that are allowed.
        limit: usize,
    },
    /// A function that is registered already.
    #[error("the function {function:?} is registered twice")]
    DuplicateFunction {
        /// Its name.
        function: Box<str>,
    },
    /// No job server to connect to.
    #[error("no job server is given")]
    NoServers,
    /// The same job server twice.
    #[error("the job server {0} is given twice")]
    DuplicateServer(Address),
    /// A text that is no address.
    #[error("{text:?} is no address of a job server: expected HOST, HOST:PORT, [IPV6], [IPV6]:PORT or unix:/PATH")]
    BadAddress {
        /// The text.
        text: Box<str>,
    },
    /// A client id that is empty or has white space, which the admin command `workers` could not show.
    #[error("the client id {id:?} is empty or has white space")]
    BadClientId {
        /// The id.
        id: Box<str>,
    },
    /// The protocol has no packet for such a job.
    #[error("there is no such job: {0}")]
    NoSuchJob(&'static str),
    /// A job is to start after a delay, and its client has not been told the wall time.
    #[error("a job with a delay needs the wall time: Client::set_unix_time has not been called")]
    NoWallTime,
    /// A name in a text command that is empty, or has white space which would end it.
    #[error("the {0} is empty or has white space")]
    NotAWord(&'static str),
    /// A number that must be at least one.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A duration that is out of range.
    #[error("the {what} must be {must_be}")]
    BadDuration {
        /// What the duration is for.
        what: &'static str,
        /// What is allowed.
        must_be: &'static str,
    },
}

impl ConfigError {
    /// Checks a name that stands before another argument on the wire.
    #[expect(clippy::manual_contains, reason = "names are short: to search them word by word costs twice as much")]
    pub(crate) fn check_name(what: &'static str, value: &[u8], limit: usize) -> Result<(), Self> {
        if value.iter().any(|&byte| byte == 0) {
            return Err(Self::Nul { what, value: lossy(value) });
        }
        if value.len() > limit {
            return Err(Self::TooLong { what, length: value.len(), limit });
        }
        Ok(())
    }
}

/// Bytes as a text for people, as far as anybody reads it.
pub(crate) fn lossy(bytes: &[u8]) -> Box<str> {
    Excerpt(bytes).to_string().into()
}

/// A request that was not taken, with what was to be done: nothing is lost.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected<T> {
    /// Why.
    pub reason: Reason,
    /// What was asked.
    pub value: T,
}

impl<T> Rejected<T> {
    pub(crate) fn new(reason: impl Into<Reason>, value: T) -> Self {
        Self { reason: reason.into(), value }
    }
}

impl<T: fmt::Debug> fmt::Debug for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).field("value", &Beginning(&self.value)).finish()
    }
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

impl<T: fmt::Debug> core::error::Error for Rejected<T> {}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A queue is at its limit; try again when some of it is done.
    #[error("full: {what} has reached its limit of {limit}")]
    Full {
        /// Which queue.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// The machine is closing or closed.
    #[error("closed: nothing is taken any more")]
    Closed,
    /// It names a job, server or request that is unknown or over.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

/// What is full where a connection has too much to write.
const CONNECTION: &str = "the bytes queued for a connection";

impl Reason {
    pub(crate) const fn full_connection(limit: usize) -> Self {
        Self::Full { what: CONNECTION, limit }
    }

    /// Whether another connection may have room.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_full_connection(&self) -> bool {
        matches!(self, Self::Full { what: CONNECTION, .. })
    }
}
