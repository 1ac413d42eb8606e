//! What the machines say to `tracing`: a span for each job and each connection, and an event for each turn in their lives.
//!
//! Without the feature `tracing` a [`Span`] has no size and every function here is empty. With it, what no subscriber wants
//! costs a comparison. Payloads are never said, only how many bytes they have.
#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "then there is nobody to tell"))]

use core::time::Duration;

use crate::address::Address;
use crate::job::{Handle, Job, Outcome, Phase, ServerError, ServerId};
use crate::machine::{CloseReason, ConnId};
use crate::wire::PacketType;
use crate::worker::Gone;
use crate::{admin, client, worker};

/// What events belong to. It lives as long as the job or connection that it is of.
#[derive(Clone, Debug)]
pub(crate) struct Span(#[cfg(feature = "tracing")] ::tracing::Span);

/// What a span is of says whether two are the same.
impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl Span {
    /// Of nothing.
    pub(crate) fn none() -> Self {
        #[cfg(feature = "tracing")]
        return Self(::tracing::Span::none());
        #[cfg(not(feature = "tracing"))]
        Self()
    }

    /// Does something in the span: what it says to `tracing` belongs there, too.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    #[inline]
    pub(crate) fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let _within = self.0.enter();
        act()
    }
}

/// Makes a span.
#[cfg(feature = "tracing")]
macro_rules! span {
    ($name:literal, $($fields:tt)*) => {
        Span(::tracing::span!(target: "gearwheel", ::tracing::Level::INFO, $name, $($fields)*))
    };
}

/// Says something that belongs to a span.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($span:expr, $level:ident, $($fields:tt)*) => {
        ::tracing::event!(target: "gearwheel", parent: &$span.0, ::tracing::Level::$level, $($fields)*)
    };
}

/// Says something that belongs to nothing.
#[cfg(feature = "tracing")]
macro_rules! say {
    ($level:ident, $($fields:tt)*) => {
        ::tracing::event!(target: "gearwheel", ::tracing::Level::$level, $($fields)*)
    };
}

/// Fills in fields of a span.
#[cfg(feature = "tracing")]
macro_rules! record {
    ($span:expr, $($field:ident = $value:expr),*) => {
        $(let _ = $span.0.record(stringify!($field), $value);)*
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($($nothing:tt)*) => {
        Span()
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($nothing:tt)*) => {
        ()
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! say {
    ($($nothing:tt)*) => {
        ()
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! record {
    ($($nothing:tt)*) => {};
}

/// Bytes that somebody else chose, as text on one line.
#[cfg(feature = "tracing")]
fn text(bytes: &[u8]) -> impl ::tracing::Value {
    use core::fmt::{self, Display, Write};

    struct Text<'a>(&'a [u8]);

    impl Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for chunk in self.0.utf8_chunks() {
                for character in chunk.valid().chars() {
                    if character.is_control() {
                        Display::fmt(&character.escape_default(), f)?;
                    } else {
                        f.write_char(character)?;
                    }
                }
                Display::fmt(&chunk.invalid().escape_ascii(), f)?;
            }
            Ok(())
        }
    }

    ::tracing::field::display(Text(bytes))
}

// A client's jobs.

/// A job was taken from its user.
#[inline]
pub(crate) fn submitted(job: &Job) -> Span {
    let span = span!(
        "job",
        role = "client",
        function = text(&job.function),
        background = job.background,
        unique = ::tracing::field::Empty,
        server = ::tracing::field::Empty,
        attempt = ::tracing::field::Empty,
        handle = ::tracing::field::Empty,
    );
    event!(span, DEBUG, bytes = job.payload.len(), "submitted");
    span
}

/// It was given to a connection.
#[inline]
pub(crate) fn sent(span: &Span, server: &Address, attempt: u32, unique: &[u8]) {
    if !unique.is_empty() {
        record!(span, unique = text(unique));
    }
    record!(span, server = ::tracing::field::display(server), attempt = attempt);
    event!(span, DEBUG, %server, attempt, "sent");
}

/// JOB_CREATED.
#[inline]
pub(crate) fn created(span: &Span, handle: &[u8]) {
    record!(span, handle = text(handle));
    event!(span, DEBUG, handle = text(handle), "created");
}

/// Its connection was lost, and it is tried again.
#[inline]
pub(crate) fn retried(span: &Span, phase: Phase, server: &Address, reason: &CloseReason) {
    event!(span, WARN, ?phase, %server, %reason, "lost, to be tried again");
}

/// It has ended.
#[inline]
pub(crate) fn done(span: &Span, outcome: &Outcome, took: Duration) {
    match outcome {
        Outcome::Complete(result) => event!(span, DEBUG, bytes = result.len(), ?took, "complete"),
        Outcome::Queued { handle, .. } => event!(span, DEBUG, %handle, ?took, "queued"),
        Outcome::Failed => event!(span, INFO, ?took, "failed"),
        Outcome::Exception(thrown) => event!(span, INFO, bytes = thrown.len(), ?took, "exception"),
        Outcome::Rejected(error) => {
            event!(span, WARN, code = text(error.code.as_bytes()), text = text(error.text.as_bytes()), "rejected");
        }
        Outcome::TimedOut { phase, .. } => event!(span, WARN, ?phase, ?took, "a deadline has passed"),
        Outcome::Lost { phase, server, reason, .. } => event!(span, WARN, ?phase, %server, %reason, "lost"),
        Outcome::Overflow { limit, .. } => event!(span, WARN, limit, ?took, "more came at once, or unread, than may"),
        Outcome::Cancelled { phase } => event!(span, DEBUG, ?phase, "cancelled"),
    }
}

/// A packet came for a job that has ended or never was.
#[inline]
pub(crate) fn late(connection: &Span, handle: &[u8]) {
    event!(connection, DEBUG, handle = text(handle), "a late packet");
}

// A worker's jobs.

/// A job server has assigned a job.
#[inline]
pub(crate) fn assigned(server: &Address, handle: &Handle, function: &[u8], unique: &[u8], bytes: usize) -> Span {
    let span = span!(
        "job",
        role = "worker",
        function = text(function),
        %handle,
        unique = ::tracing::field::Empty,
        %server,
    );
    if !unique.is_empty() {
        record!(span, unique = text(unique));
    }
    event!(span, DEBUG, bytes, "assigned");
    span
}

/// It was answered. `took`: since it was handed out.
#[inline]
pub(crate) fn answered(span: &Span, with: PacketType, bytes: usize, took: Duration) {
    event!(span, DEBUG, %with, bytes, ?took, "answered");
}

/// It was answered when it was no longer this worker's.
#[inline]
pub(crate) fn dropped(span: &Span, took: Duration) {
    event!(span, WARN, ?took, "answered too late: the answer is dropped");
}

/// It was taken from the worker.
#[inline]
pub(crate) fn gone(span: &Span, reason: &Gone) {
    match reason {
        Gone::Disconnected => event!(span, WARN, "gone with its connection"),
        Gone::TimedOut => event!(span, WARN, "the time limit of its function has passed"),
    }
}

// Connections that this side dials.

/// Whose events they are, and which of them are said.
pub(crate) trait Told {
    /// Who dials the connections.
    const ROLE: &'static str;

    /// Says what the machine tells its user of no one job or connection.
    fn tell(&self) {}
}

impl Told for client::Event {
    const ROLE: &'static str = "client";

    #[inline]
    fn tell(&self) {
        match self {
            Self::ServerError { server, error } => error_said(Self::ROLE, *server, error),
            Self::Removed { server } => say!(INFO, role = Self::ROLE, ?server, "the job server is removed"),
            Self::AllDown { .. } => say!(WARN, role = Self::ROLE, "jobs wait, and no job server can be had"),
            Self::Closed => say!(DEBUG, role = Self::ROLE, "closed"),
            _ => {}
        }
    }
}

impl Told for worker::Event {
    const ROLE: &'static str = "worker";

    #[inline]
    fn tell(&self) {
        match self {
            Self::ServerError { server, error } => error_said(Self::ROLE, *server, error),
            Self::Removed { server } => say!(INFO, role = Self::ROLE, ?server, "the job server is removed"),
            Self::Unregistered { function } => {
                say!(DEBUG, role = Self::ROLE, function = text(function), "the function is unregistered");
            }
            Self::Closed => say!(DEBUG, role = Self::ROLE, "closed"),
            _ => {}
        }
    }
}

impl Told for admin::Event {
    const ROLE: &'static str = "admin";
}

fn error_said(role: &'static str, server: ServerId, error: &ServerError) {
    say!(WARN, role, ?server, code = text(error.code.as_bytes()), text = text(error.text.as_bytes()), "server error");
}

/// A job server is dialled.
#[inline]
pub(crate) fn dialled(role: &'static str, server: &Address, conn: ConnId) -> Span {
    let span = span!("connection", role, %server, ?conn);
    event!(span, DEBUG, "connecting");
    span
}

/// It is connected.
#[inline]
pub(crate) fn connected(span: &Span) {
    event!(span, INFO, "connected");
}

/// The connection was lost, or could not be made.
#[inline]
pub(crate) fn lost(span: &Span, reason: &CloseReason, retry_in: Duration) {
    match reason {
        CloseReason::Protocol(error) => event!(span, ERROR, %error, ?retry_in, "protocol error"),
        CloseReason::Local => event!(span, INFO, %reason, "disconnected"),
        _ => event!(span, WARN, %reason, ?retry_in, "disconnected"),
    }
}

/// The connection was closed by this side, in order.
#[inline]
pub(crate) fn left(span: &Span) {
    event!(span, INFO, reason = %CloseReason::Local, "disconnected");
}

/// A packet goes out.
#[inline]
pub(crate) fn packet_sent(span: &Span, packet: PacketType) {
    event!(span, TRACE, %packet, "sent");
}

/// A packet came.
#[inline]
pub(crate) fn packet_received(span: &Span, packet: PacketType) {
    event!(span, TRACE, %packet, "received");
}

// A job server.

/// A peer has come.
#[inline]
pub(crate) fn accepted(peer: &str, conn: ConnId) -> Span {
    let span = span!("connection", role = "server", peer, ?conn);
    event!(span, DEBUG, "connected");
    span
}

/// A peer has gone.
#[inline]
pub(crate) fn peer_gone(span: &Span, reason: &CloseReason) {
    match reason {
        CloseReason::Protocol(error) => event!(span, WARN, %error, "protocol error"),
        CloseReason::Silent | CloseReason::SlowReader | CloseReason::Tls(_) | CloseReason::Failed(_) => {
            event!(span, WARN, %reason, "disconnected");
        }
        _ => event!(span, DEBUG, %reason, "disconnected"),
    }
}

/// A peer was answered with ERROR.
#[inline]
pub(crate) fn refused(span: &Span, code: &str, said: &str) {
    event!(span, DEBUG, code, text = said, "refused");
}

/// A job was taken from the worker that the connection is of. `failed`: as that has happened too often.
#[inline]
pub(crate) fn requeued(span: &Span, handle: &[u8], function: &[u8], why: &'static str, failed: bool) {
    let what = if failed { "failed: it was requeued too often" } else { "requeued" };
    event!(span, WARN, handle = text(handle), function = text(function), why, "{what}");
}

/// The admin command `shutdown` was given.
#[inline]
pub(crate) fn shutdown(span: &Span, graceful: bool) {
    event!(span, INFO, graceful, "shutdown");
}

#[cfg(all(test, not(feature = "tracing")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_span_takes_no_room() {
        assert_eq!(size_of::<Span>(), 0);
    }
}
