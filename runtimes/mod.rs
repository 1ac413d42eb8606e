//! What every driver shares. The only place of the house that knows std.
#![allow(clippy::disallowed_types, reason = "clocks, sockets and threads live here")]
#![cfg_attr(
    not(all(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio")),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        unreachable_pub,
        reason = "each runtime uses a part of what they share"
    )
)]

extern crate std;

#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
pub mod future;
pub(crate) mod handles;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
mod hub;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
mod inbox;
mod listening;
#[cfg(feature = "mio")]
pub mod mio;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
mod next;
#[cfg(any(feature = "blocking", feature = "mio"))]
mod parked;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
mod resolver;
#[cfg(feature = "smol")]
pub mod smol;
#[cfg(any(feature = "mio", feature = "smol", feature = "tokio"))]
mod sockets;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tokio")]
pub mod tokio;

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::io::{self, ErrorKind, IoSlice};
use std::net::ToSocketAddrs;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use crate::admin;
use crate::client::RequestError;
use crate::{Address, CloseReason, ConfigError, Instant, Outgoing, Peer, Reason, Rejected, Seed};

/// The scratch of a reading thread, in bytes: what one read brings at most, unless the machine has made room for more.
pub(crate) const SCRATCH: usize = 64 << 10;
/// Room in a connection's buffer from which on a read goes straight into it.
const STRAIGHT: usize = 16 << 10;
/// The most that one read straight into a buffer takes: the room is cleared before.
const STEP: usize = 256 << 10;
/// What an idle connection keeps of its buffer, and the least that is made at once.
const KEPT: usize = 1 << 10;
/// Chunks in one vectored write.
pub(crate) const CHUNKS: usize = 64;
/// How long to leave a listener alone when the process has no file descriptor for another connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a runtime could not do what it was asked. All errors of its handles become one, so that `?` will do in a function that
/// returns it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is draining already: the first drain holds.
    #[error("it is draining already")]
    Draining,
    /// The drain came to its deadline: jobs were left, which their job servers give to other workers.
    #[error("{jobs} jobs were not done by the deadline of the drain")]
    Unfinished {
        /// How many.
        jobs: usize,
    },
    /// The request was not taken.
    #[error(transparent)]
    Refused(#[from] Reason),
    /// The request has no reply.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The job has no result.
    #[error(transparent)]
    Job(#[from] handles::JobError),
    /// The admin command has no result.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// It has been closed: nothing can be asked of it any more.
    #[error("it is closed")]
    Closed,
}

/// Why it was not taken; what was to be done is dropped.
impl<T> From<Rejected<T>> for Error {
    fn from(rejected: Rejected<T>) -> Self {
        Self::Refused(rejected.reason)
    }
}

impl Error {
    /// For `map_err`: the operating system refused to do `what`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Readings of one monotonic clock as a machine wants them. All that drive one machine share one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    /// A clock that stands at [`Instant::EPOCH`] now.
    pub(crate) fn start() -> Self {
        Self { epoch: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_epoch(self.epoch.elapsed())
    }

    /// A reading to be taken when it is first asked for.
    pub(crate) const fn moment(self) -> Moment {
        Moment { clock: self, read: None }
    }

    /// How long to sleep until `at`, rounded up so that the sleeper does not wake a little early; zero in the past.
    pub(crate) fn until(self, at: Instant) -> Duration {
        let left = at.saturating_since(self.now());
        if left.is_zero() { left } else { left + Duration::from_micros(1) }
    }

    /// The standard library's name of `at`, for its timers; `None` when that is too far for it.
    pub(crate) fn to_std(self, at: Instant) -> Option<std::time::Instant> {
        self.epoch.checked_add(at.since_epoch())
    }
}

/// One reading of a clock, taken when it is first asked for: most looks at what has come need none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    clock: Clock,
    read: Option<Instant>,
}

impl Moment {
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        *self.read.get_or_insert_with(|| self.clock.now())
    }

    /// Where it has not been read, a reading of before will do.
    #[cfg(feature = "blocking")]
    pub(crate) fn assume(&mut self, before: Instant) {
        self.read.get_or_insert(before);
    }

    /// Time has passed: the clock is to be read anew.
    pub(crate) const fn pass(&mut self) {
        self.read = None;
    }
}

/// The time since 1970, for machines that take wall time.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A seed from the operating system: its randomness keys std's hash tables, and that key hashes a counter here.
pub(crate) fn seed() -> Seed {
    let keyed = RandomState::new();
    let mut seed = [0; 32];
    for (number, part) in seed.chunks_mut(8).enumerate() {
        let mut hasher = keyed.build_hasher();
        hasher.write_usize(number);
        part.copy_from_slice(&hasher.finish().to_ne_bytes());
    }
    seed.into()
}

/// Why a connection that stood has ended.
pub(crate) fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::UnexpectedEof => CloseReason::Ended,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => CloseReason::Reset,
        ErrorKind::ConnectionRefused => CloseReason::Refused,
        // Keepalive, or retransmissions that nobody acknowledged.
        ErrorKind::TimedOut => CloseReason::Silent,
        _ => CloseReason::Failed(alloc::format!("{error}").into()),
    }
}

/// Why a connection was not made.
pub(crate) fn connect_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => CloseReason::ConnectTimeout,
        _ => close_reason(error),
    }
}

/// Why a connection that the user was to make was not made: in his own words, where he has some.
pub(crate) fn made_reason(error: &io::Error) -> CloseReason {
    match error.get_ref() {
        Some(own) => CloseReason::Failed(alloc::format!("{own}").into()),
        None => connect_reason(error),
    }
}

/// Connects to the Unix socket at `path`, or says in words that help why not.
#[cfg(unix)]
pub(crate) fn at_path<T>(path: &str, connect: impl FnOnce(&std::path::Path) -> io::Result<T>) -> io::Result<T> {
    let path = std::path::Path::new(path);
    connect(path).map_err(|error| unix_failure(path, error))
}

/// Why the Unix socket at `path` was not connected, in words that help. Never [`ErrorKind::WouldBlock`].
#[cfg(unix)]
pub(crate) fn unix_failure(path: &std::path::Path, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::NotFound => io::Error::new(ErrorKind::ConnectionRefused, "there is no such socket"),
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            let bytes = path.as_os_str().len();
            io::Error::other(alloc::format!("a path of {bytes} bytes is too long for a Unix socket, or has a NUL"))
        }
        ErrorKind::WouldBlock => io::Error::other("the Unix socket has no room for another connection"),
        _ => error,
    }
}

/// For systems whose Unix sockets std does not know.
#[cfg(not(unix))]
pub(crate) fn no_unix_sockets() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "Unix sockets are not supported here")
}

/// Calls the user's code about a connection: a panic in it is that connection's failure, not the driver's.
pub(crate) fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(io::Error::other(alloc::format!("the stream panicked: {}", handles::panic_text(&*panic))))
    })
}

/// Whether `accept` failed for the connection it was about rather than for all: then the next one may be tried at once,
/// else the listener is to be left alone for [`ACCEPT_PAUSE`].
pub(crate) fn accept_goes_on(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// All addresses of `server` now, the two families in turn, in the order of the resolver. Blocks.
pub(crate) fn resolve(server: &Address) -> Result<Vec<SocketAddr>, CloseReason> {
    let found: Vec<_> = match (server.host(), server.port()).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(_) => return Err(CloseReason::Unresolved),
    };
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let (a, b): (Vec<_>, Vec<_>) = found.iter().copied().partition(|address| address.is_ipv4() == first_is_v4);
    let turns = a.len().max(b.len());
    let addresses: Vec<_> = (0..turns).flat_map(|turn| a.get(turn).into_iter().chain(b.get(turn))).copied().collect();
    if addresses.is_empty() { Err(CloseReason::Unresolved) } else { Ok(addresses) }
}

/// A peer that has been named, to be presented to a server machine when it comes to that.
pub(crate) struct Visitor {
    name: alloc::string::String,
    loopback: bool,
    plain: bool,
}

impl Visitor {
    /// Whoever came by a listener. Without an address it came by a Unix socket.
    pub(crate) fn of(address: Option<SocketAddr>, plain: bool) -> Self {
        let Some(address) = address else { return Self { name: "unix".into(), loopback: true, plain } };
        let ip = match address.ip() {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
            v4 => v4,
        };
        Self { name: alloc::format!("{ip}"), loopback: ip.is_loopback(), plain }
    }

    /// Whom the user calls so: by one word, since the admin command `workers` shows it between blanks.
    pub(crate) fn called(peer: Peer<'_>) -> Self {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        let name = if peer.address.is_empty() { "unknown".into() } else { peer.address.replace(bad, "_") };
        Self { name, loopback: peer.loopback, plain: peer.plain }
    }

    pub(crate) fn peer(&self) -> Peer<'_> {
        let peer = Peer::new(&self.name, self.loopback);
        if self.plain { peer.plain() } else { peer }
    }
}

/// Calls `io` again as long as a signal interrupts it.
#[inline(always)]
pub(crate) fn uninterrupted<T>(mut io: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes the chunks of `outgoing` by `write`, at most [`CHUNKS`] of them, and tells what was taken. Says how much.
/// For drivers that own their machine.
pub(crate) fn write_out(
    mut outgoing: Outgoing<'_>,
    write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let taken = match outgoing.as_slice() {
        Some([]) => 0,
        Some(all) => write_some(&[IoSlice::new(all)], write)?,
        None => write_chunks(outgoing.chunks(), write)?,
    };
    outgoing.advance(taken);
    Ok(taken)
}

/// One vectored write of the first [`CHUNKS`] of `chunks`. Says how many bytes were taken; an error where it was none.
pub(crate) fn write_chunks<'a>(
    chunks: impl Iterator<Item = &'a [u8]>,
    write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); CHUNKS];
    let mut count = 0;
    for (slice, chunk) in slices.iter_mut().zip(chunks) {
        *slice = IoSlice::new(chunk);
        count += 1;
    }
    match slices.get(..count) {
        None | Some([]) => Ok(0),
        Some(slices) => write_some(slices, write),
    }
}

fn write_some(slices: &[IoSlice<'_>], mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
    match uninterrupted(|| write(slices))? {
        0 => Err(ErrorKind::WriteZero.into()),
        taken => Ok(taken),
    }
}

/// The reading end of one connection: what came and what its machine has left of it.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// For [`Input::Data`](crate::Input::Data).
    pub(crate) bytes: BytesMut,
    /// How much the next read straight into `bytes` takes at most.
    step: usize,
    /// The most room that `bytes` had since it was new.
    room: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), step: STRAIGHT, room: 0 }
    }
}

impl Incoming {
    /// Reads once by `read`: into the room that the machine has made in the buffer, else by way of `scratch`.
    /// Says how many bytes came; none at the end of the stream.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.has_room() {
            return self.read_straight(read);
        }
        let came = uninterrupted(|| read(scratch))?;
        self.append(scratch.get(..came).unwrap_or_default());
        Ok(came)
    }

    /// Whether the machine has made room for what it expects, so that it is to be read straight into it.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.capacity() - self.bytes.len() >= STRAIGHT
    }

    /// What came another way.
    pub(crate) fn append(&mut self, came: &[u8]) {
        if came.len() > self.bytes.capacity() - self.bytes.len() {
            self.bytes.reserve(came.len().max(KEPT));
            self.room = self.room.max(came.len());
        }
        self.bytes.extend_from_slice(came);
    }

    /// Reads once by `read` into the room that there is.
    pub(crate) fn read_straight(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let held = self.bytes.len();
        let room = self.bytes.capacity() - held;
        self.room = self.room.max(room);
        let step = room.min(self.step);
        self.bytes.resize(held + step, 0);
        let result = uninterrupted(|| read(self.bytes.get_mut(held..).unwrap_or_default()));
        let came = result.as_ref().map_or(0, |came| *came);
        self.bytes.truncate(held + came);
        // Clearing more than what comes is wasted: follow the socket.
        self.step = if came == step { (step * 2).min(STEP) } else { (came * 2).clamp(STRAIGHT, STEP) };
        result
    }

    /// To be called when the machine has taken what it could: an idle connection keeps no large buffer.
    pub(crate) fn settle(&mut self) {
        if self.bytes.is_empty() && self.room > KEPT {
            *self = Self { step: self.step, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_reads_share_one_buffer_and_large_ones_do_not_stay() {
        let mut incoming = Incoming::default();
        let mut scratch = [0; SCRATCH];
        let mut places = alloc::collections::BTreeSet::new();
        for _ in 0..100 {
            let came = incoming.read(&mut scratch, |place| {
                place[..50].fill(7);
                Ok(50)
            });
            assert_eq!(came.ok(), Some(50));
            let packet = incoming.bytes.split().freeze();
            assert_eq!(packet, [7; 50][..]);
            places.insert(packet.as_ptr() as usize / KEPT);
            drop(packet);
            incoming.settle();
        }
        assert!(places.len() <= 2, "{places:?}");
        assert_eq!(incoming.read(&mut scratch, |place| Ok(place.len())).ok(), Some(SCRATCH));
        incoming.bytes.clear();
        incoming.settle();
        assert_eq!(incoming.bytes.capacity(), 0);
    }

    #[test]
    fn reserved_room_is_read_into_without_the_scratch() {
        let mut incoming = Incoming::default();
        incoming.bytes.reserve(1 << 20);
        let (mut total, mut reads) = (0, 0);
        while total < 1 << 20 {
            let came = incoming.read(&mut [], |place| {
                place.fill(1);
                Ok(place.len())
            });
            total += came.expect("no error");
            reads += 1;
        }
        assert!(reads < 12, "{reads} reads");
        assert!(incoming.bytes.iter().all(|&byte| byte == 1));
        assert_eq!(incoming.bytes.len(), total);
        assert!(incoming.read(&mut [], |_| Err(ErrorKind::ConnectionReset.into())).is_err());
        assert_eq!(incoming.bytes.len(), total);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }

    #[test]
    fn an_address_is_tried_as_it_is() {
        let found = resolve(&"127.0.0.1:99".parse().expect("an address"));
        assert_eq!(found, Ok(alloc::vec![([127, 0, 0, 1], 99).into()]));
        assert_eq!(resolve(&"no-such-host.invalid".parse().expect("an address")), Err(CloseReason::Unresolved));
    }
}
