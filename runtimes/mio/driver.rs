//! The driver that lives in somebody else's `mio::Poll`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;
use core::task::{Context, Waker};
use core::time::Duration;

use ::mio::event::Event;
use ::mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use ::mio::net::{UnixListener, UnixStream};
use ::mio::{Interest, Registry, Token};

use super::stream::{Stream, Wire};
use crate::runtimes::listening::{Bound, Listening};

#[cfg(unix)]
use crate::runtimes::at_path;
#[cfg(not(unix))]
use crate::runtimes::no_unix_sockets;
use crate::runtimes::resolver::Resolver;
use crate::runtimes::sockets::{Net, Place, Sockets, Target};
use crate::runtimes::std::io::{self, ErrorKind, IoSlice};
use crate::runtimes::std::net;
use crate::runtimes::{Clock, Error, Visitor, guarded};
use crate::{Address, ConnId, Instant, Machine, Peer};

/// Where a read that brings less than was asked for has brought all: elsewhere a socket is only watched again after
/// [`ErrorKind::WouldBlock`].
const SHORT_READ_IS_ALL: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_vendor = "apple"
));

/// The sockets of one machine in a [`Poll`](::mio::Poll) of yours. It owns neither: you own the loop and the machine.
///
/// Of your loop it wants four things, in any order and as often as you like:
///
/// 1. wait for events no longer than [`next_timeout`](Self::next_timeout);
/// 2. give it each event ([`handle_event`](Self::handle_event)), which only notes it;
/// 3. whenever you waited, and whenever you did something to the machine, call [`next_event`](Self::next_event) until it
///    says `None`: this reads, lets time pass, writes, and gives out what there is for you;
/// 4. name every time you give the machine by [`now`](Self::now).
///
/// Nothing blocks, nothing is spawned, and however many packets a turn brings, each connection is read once and written
/// once (256 KiB of it; the rest comes in the next turn, for which `next_timeout` is zero).
pub struct Driver {
    sockets: Sockets<Mio>,
    tokens: Range<usize>,
    connector: Option<Connector>,
}

impl Driver {
    /// A driver for the poll of `registry`, whose sockets bear the tokens of `tokens`: one for each connection and each
    /// listener at once. A connection for which none is left fails.
    ///
    /// # Errors
    /// [`Error::Io`]: the operating system has no descriptor for another reference to the poll.
    pub fn new(registry: &Registry, tokens: Range<usize>) -> Result<Self, Error> {
        Self::with_clock(registry, tokens, Clock::start())
    }

    pub(super) fn with_clock(registry: &Registry, tokens: Range<usize>, clock: Clock) -> Result<Self, Error> {
        let registry = registry.try_clone().map_err(Error::io("refer to the poll"))?;
        let lookup = Lookup::Yours(Box::new(|_, _| Some(Vec::new())));
        let net = Mio { registry, tokens: tokens.clone(), doors: 0, lookup };
        Ok(Self { sockets: Sockets::new(net, clock), tokens, connector: None })
    }

    /// Has host names looked up by `resolver`; without it, only IP addresses can be connected to.
    ///
    /// It returns the addresses to try, none if the name has none; or `None` when they will come later by
    /// [`resolved`](Self::resolved). It should not block the loop.
    pub fn set_resolver(&mut self, resolver: impl FnMut(ConnId, &Address) -> Option<Vec<SocketAddr>> + Send + 'static) {
        self.sockets.net.lookup = Lookup::Yours(Box::new(resolver));
    }

    /// Has host names looked up on threads, which wake `waker`.
    pub(super) fn look_up_on_threads(&mut self, waker: Waker) {
        self.sockets.net.lookup = Lookup::OnThreads(Resolver::default(), waker);
    }

    /// The addresses of a host that the resolver was asked for; none if there are none. To be followed by
    /// [`next_event`](Self::next_event).
    pub fn resolved<M: Machine>(&mut self, machine: &mut M, conn: ConnId, addresses: Vec<SocketAddr>) {
        self.sockets.resolved(machine, conn, Ok(addresses));
    }

    /// Listens on `address` for a machine that accepts connections; port 0 for one that is free. Returns the address.
    ///
    /// When the process has no descriptor left, the listener is left alone for a moment, time and again: no connection is
    /// lost, and nothing spins.
    ///
    /// # Errors
    /// [`Error::Io`]: the address cannot be had, or no token is left.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let listener = net::TcpListener::bind(address).map_err(Error::io("listen"))?;
        let address = listener.local_addr().map_err(Error::io("listen"))?;
        self.listen_on(listener)?;
        Ok(address)
    }

    /// Like [`listen`](Self::listen), with a socket that is bound: [`Listening::unix`] binds a Unix socket.
    ///
    /// # Errors
    /// [`Error::Io`]: it cannot be used, or no token is left.
    pub fn listen_on(&mut self, listener: impl Into<Listening>) -> Result<(), Error> {
        self.sockets.listen(listener.into()).map_err(Error::io("listen"))
    }

    /// Has the machine accept a stream that is connected, such as one that a listener of yours accepted. Where the machine
    /// has no room, the stream waits for it. To be followed by [`next_event`](Self::next_event).
    pub fn accept(&mut self, stream: impl Into<Stream>, peer: Peer<'_>) {
        self.sockets.arrive(stream.into(), Visitor::called(peer));
    }

    /// Has the machine's connections made by `connect`, instead of by TCP and Unix sockets to the addresses of its job
    /// servers. It must not block: a `mio::net::TcpStream` may be connecting still. It is called from within
    /// [`next_event`](Self::next_event).
    ///
    /// What it returns as an error ends the attempt with its text, as [`CloseReason::Failed`](crate::CloseReason::Failed)
    /// or the reason of its kind.
    pub fn connect_with<S: Into<Stream>>(
        &mut self,
        mut connect: impl FnMut(Address) -> io::Result<S> + Send + 'static,
    ) {
        self.set_connector(Box::new(move |server| connect(server).map(Into::into)));
    }

    pub(super) fn set_connector(&mut self, connector: Connector) {
        self.connector = Some(connector);
        self.sockets.entrust();
    }

    /// Whether there are connections for [`connect_wanted`](Self::connect_wanted) to make.
    pub(super) fn wants_connections(&self) -> bool {
        self.connector.is_some() && self.sockets.wants_any()
    }

    /// Makes the connections that are wanted. Says whether there were any: then a turn is due.
    pub(super) fn connect_wanted(&mut self) -> bool {
        let Some(connector) = &mut self.connector else { return false };
        let mut any = false;
        while let Some((conn, server)) = self.sockets.wanted() {
            any = true;
            self.sockets.made(conn, guarded(|| connector(server)));
        }
        any
    }

    /// Stops listening. The connections that there are stay.
    pub fn stop_listening(&mut self) {
        self.sockets.shut_doors();
        self.sockets.net.doors = 0;
    }

    /// Notes an event. False: it is none of this driver's.
    pub fn handle_event(&mut self, event: &Event) -> bool {
        let Token(token) = event.token();
        if !self.tokens.contains(&token) {
            return false;
        }
        let from_end = self.tokens.end - 1 - token;
        let place = if from_end < self.sockets.net.doors {
            Place::Door(from_end)
        } else {
            Place::Slot(token - self.tokens.start)
        };
        self.sockets.wake(place, event.is_read_closed() || event.is_error());
        true
    }

    /// The next event of `machine`, which must always be the same, after doing all that is due. `None`: this turn is over,
    /// and what could be written has been.
    pub fn next_event<M: Machine>(&mut self, machine: &mut M) -> Option<M::Event> {
        loop {
            let event = self.sockets.next(machine);
            if event.is_some() || !self.connect_wanted() {
                return event;
            }
        }
    }

    /// How long the loop may wait for events. `None`: for ever.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let at = self.sockets.deadline()?;
        Some(if at == Instant::EPOCH { Duration::ZERO } else { self.sockets.clock().until(at) })
    }

    /// The present time, as the machine is to be told it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.sockets.clock().now()
    }

    pub(super) fn sockets(&mut self) -> &mut Sockets<Mio> {
        &mut self.sockets
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// The user's function that makes connections.
pub(super) type Connector = Box<dyn FnMut(Address) -> io::Result<Stream> + Send>;

type Resolve = Box<dyn FnMut(ConnId, &Address) -> Option<Vec<SocketAddr>> + Send>;

/// Connections take tokens from the front of the range, listeners from its end.
pub(super) struct Mio {
    registry: Registry,
    tokens: Range<usize>,
    doors: usize,
    lookup: Lookup,
}

enum Lookup {
    Yours(Resolve),
    OnThreads(Resolver, Waker),
}

impl Mio {
    fn token(&self, slot: usize) -> io::Result<Token> {
        if slot < self.tokens.len().saturating_sub(self.doors) {
            return Ok(Token(self.tokens.start + slot));
        }
        Err(io::Error::other("no token is left for another connection"))
    }
}

/// A listener that is registered.
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Net for Mio {
    type Wire = Wire;
    type Connecting = Option<Wire>;
    type Listener = Listener;
    type Given = Stream;

    /// The poll tells by tokens what is ready.
    fn waker(&mut self, _: Place) -> Waker {
        Waker::noop().clone()
    }

    fn listen(&mut self, listener: Bound, door: usize) -> io::Result<Listener> {
        if door >= self.tokens.len() {
            return Err(io::Error::other("no token is left for another listener"));
        }
        let token = Token(self.tokens.end - 1 - door);
        let listener = match listener {
            Bound::Tcp(listener) => {
                let mut listener = TcpListener::from_std(listener);
                self.registry.register(&mut listener, token, Interest::READABLE)?;
                Listener::Tcp(listener)
            }
            #[cfg(unix)]
            Bound::Unix(listener) => {
                let mut listener = UnixListener::from_std(listener);
                self.registry.register(&mut listener, token, Interest::READABLE)?;
                Listener::Unix(listener)
            }
        };
        self.doors = door + 1;
        Ok(listener)
    }

    fn accept(&mut self, listener: &Listener, _: &mut Context<'_>) -> io::Result<(Wire, Option<SocketAddr>)> {
        match listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, from)| (Wire::Tcp(stream), Some(from))),
            #[cfg(unix)]
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| (Wire::Unix(stream), None)),
        }
    }

    fn resolve(&mut self, conn: ConnId, server: &Address) -> io::Result<Vec<SocketAddr>> {
        let found = match &mut self.lookup {
            Lookup::Yours(resolve) => resolve(conn, server),
            Lookup::OnThreads(resolver, waker) => {
                resolver.begin(conn, server, waker.clone())?;
                None
            }
        };
        found.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn found(&mut self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)> {
        match &self.lookup {
            Lookup::Yours(_) => Vec::new(),
            Lookup::OnThreads(resolver, _) => resolver.take(),
        }
    }

    fn connect(&mut self, target: &Target, slot: usize) -> io::Result<Option<Wire>> {
        let stream = match target {
            Target::Tcp(address) => Wire::Tcp(TcpStream::connect(*address)?),
            #[cfg(unix)]
            Target::Unix(server) => Wire::Unix(at_path(server.host(), |path| UnixStream::connect(path))?),
            #[cfg(not(unix))]
            Target::Unix(_) => return Err(no_unix_sockets()),
        };
        self.attempt(stream, slot)
    }

    fn connected(&mut self, attempt: &mut Option<Wire>, _: &mut Context<'_>) -> io::Result<Wire> {
        let pending = || io::Error::from(ErrorKind::WouldBlock);
        attempt.as_ref().ok_or_else(pending)?.check_connected()?;
        attempt.take().ok_or_else(pending)
    }

    fn adopt(&mut self, given: Stream) -> io::Result<Wire> {
        given.adopt()
    }

    fn attempt(&mut self, mut stream: Wire, slot: usize) -> io::Result<Option<Wire>> {
        stream.register(&self.registry, self.token(slot)?)?;
        Ok(Some(stream))
    }

    fn opened(&mut self, stream: &mut Wire, slot: usize, accepted: bool) -> io::Result<()> {
        if accepted {
            stream.register(&self.registry, self.token(slot)?)?;
        }
        stream.prepare(accepted)
    }

    /// An edge will tell, where a short read is known to be all there is.
    fn readable(&mut self, stream: &Wire, _: &mut Context<'_>) -> bool {
        !(SHORT_READ_IS_ALL && stream.is_socket())
    }

    fn read(&mut self, stream: &mut Wire, _: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        stream.read(into)
    }

    fn write(&mut self, stream: &mut Wire, _: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        stream.write(chunks)
    }

    fn flush(&mut self, stream: &mut Wire, _: &mut Context<'_>) -> io::Result<()> {
        stream.flush()
    }

    fn close(&mut self, stream: Wire) {
        stream.close(&self.registry);
    }
}
