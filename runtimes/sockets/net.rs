//! What the engine wants of a runtime's sockets.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::{Context, Waker};
use core::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::runtimes::listening::Bound;
use crate::runtimes::std::io::{self, IoSlice};
use crate::{Address, ConnId};

/// Connections that may wait in a listener.
const BACKLOG: i32 = 4096;
/// After so long without a packet, TCP itself asks after an accepted connection.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// What a runtime knows of sockets. [`WouldBlock`](io::ErrorKind::WouldBlock) means that the place of the socket will be
/// woken.
pub(crate) trait Net {
    /// What moves a connection's bytes: TCP, a Unix socket, or an object of the user's.
    type Wire;
    type Connecting;
    type Listener;
    /// A stream as the user gives it, when it need not be the runtime's yet.
    type Given;

    /// What to poll the socket at `place` with.
    fn waker(&mut self, place: Place) -> Waker;
    /// Takes a bound listener over, which does not block.
    fn listen(&mut self, listener: Bound, door: usize) -> io::Result<Self::Listener>;
    /// The address is that of a TCP peer.
    fn accept(
        &mut self,
        listener: &Self::Listener,
        cx: &mut Context<'_>,
    ) -> io::Result<(Self::Wire, Option<SocketAddr>)>;
    /// Begins to look a host up. [`WouldBlock`](io::ErrorKind::WouldBlock): [`Sockets::resolved`](super::Sockets::resolved)
    /// will be called.
    fn resolve(&mut self, conn: ConnId, server: &Address) -> io::Result<Vec<SocketAddr>>;
    /// What has been looked up since, after the place of a connection was woken.
    fn found(&mut self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)>;
    fn connect(&mut self, target: &Target, slot: usize) -> io::Result<Self::Connecting>;
    fn connected(&mut self, attempt: &mut Self::Connecting, cx: &mut Context<'_>) -> io::Result<Self::Wire>;
    /// Makes a given stream the runtime's.
    fn adopt(&mut self, given: Self::Given) -> io::Result<Self::Wire>;
    /// A stream that the user has made or is making counts as an attempt to connect.
    fn attempt(&mut self, stream: Self::Wire, slot: usize) -> io::Result<Self::Connecting>;
    /// A stream is up: its options, and its registration where accepting did none.
    fn opened(&mut self, stream: &mut Self::Wire, slot: usize, accepted: bool) -> io::Result<()>;
    /// False: nothing is there to be read, and the place will be woken.
    fn readable(&mut self, stream: &Self::Wire, cx: &mut Context<'_>) -> bool;
    fn read(&mut self, stream: &mut Self::Wire, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, stream: &mut Self::Wire, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Sends what an object of the user's holds back. Sockets hold nothing.
    fn flush(&mut self, stream: &mut Self::Wire, cx: &mut Context<'_>) -> io::Result<()>;
}

/// Whom a waker wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The connection with this index.
    Slot(usize),
    /// The listener with this number.
    Door(usize),
    /// The clock of a driver that has no other way to be told the time.
    Clock,
    /// One of a worker's jobs.
    Job(usize),
}

/// One thing to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    /// An address with a path.
    Unix(#[cfg_attr(not(unix), expect(dead_code, reason = "there are none"))] Address),
}

/// Lets more connections wait in a listener than the 128 of the standard library: when those are full, each further one
/// waits a second.
pub(super) fn await_a_crowd(listener: &Bound) -> io::Result<()> {
    match listener {
        Bound::Tcp(listener) => SockRef::from(listener).listen(BACKLOG),
        #[cfg(unix)]
        Bound::Unix(listener) => SockRef::from(listener).listen(BACKLOG),
    }
}

/// How an accepted TCP connection is set up: answers leave at once, and a peer that has vanished is found out, as a server
/// has no other way to ask after it.
#[cfg(unix)]
pub(crate) fn prepare_accepted(stream: &impl crate::runtimes::std::os::fd::AsFd) -> io::Result<()> {
    prepare(SockRef::from(stream))
}

/// How an accepted TCP connection is set up.
#[cfg(windows)]
pub(crate) fn prepare_accepted(stream: &impl crate::runtimes::std::os::windows::io::AsSocket) -> io::Result<()> {
    prepare(SockRef::from(stream))
}

fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}
