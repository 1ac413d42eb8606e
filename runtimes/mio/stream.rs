//! What moves a connection's bytes on mio.

use alloc::boxed::Box;
use core::fmt;

use ::mio::event::Source;
use ::mio::net::TcpStream;
#[cfg(unix)]
use ::mio::net::UnixStream;
use ::mio::{Interest, Registry, Token};

use crate::runtimes::guarded;
use crate::runtimes::sockets::prepare_accepted;
use crate::runtimes::std::io::{self, ErrorKind, IoSlice, Read, Write};
use crate::runtimes::std::net;
#[cfg(unix)]
use crate::runtimes::std::os::unix::net as unix;

/// Bytes both ways that a [`Poll`](::mio::Poll) can watch: what [`Stream::object`] takes.
///
/// Reads and writes must not block: they say [`WouldBlock`](ErrorKind::WouldBlock), after which the poll tells by an event
/// when to go on, edge by edge as mio's own sockets do. They are called while the handles are locked and must not use them.
pub trait Object: Source + Read + Write + Send {}

impl<T: Source + Read + Write + Send> Object for T {}

/// A connection's byte layer: `From` the streams of std and mio, or an [`object`](Self::object) of yours. Not registered
/// yet: the driver does that.
pub struct Stream(Given);

enum Given {
    StdTcp(net::TcpStream),
    #[cfg(unix)]
    StdUnix(unix::UnixStream),
    Ready(Wire),
}

/// A stream that the driver has taken up.
pub(super) enum Wire {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Object(Box<dyn Object>),
}

impl Stream {
    /// Anything that a poll can watch and that reads and writes without blocking, such as a pair of pipes, or a socket of a
    /// kind that std does not know behind `mio::unix::SourceFd`.
    ///
    /// It counts as connected. It is flushed after what was written to it, and just dropped when the connection ends: what it
    /// could not send by then is lost. A panic in it ends the connection.
    pub fn object(object: impl Object + 'static) -> Self {
        Self(Given::Ready(Wire::Object(Box::new(object))))
    }

    pub(super) fn adopt(self) -> io::Result<Wire> {
        match self.0 {
            Given::StdTcp(stream) => {
                stream.set_nonblocking(true)?;
                Ok(Wire::Tcp(TcpStream::from_std(stream)))
            }
            #[cfg(unix)]
            Given::StdUnix(stream) => {
                stream.set_nonblocking(true)?;
                Ok(Wire::Unix(UnixStream::from_std(stream)))
            }
            Given::Ready(wire) => Ok(wire),
        }
    }
}

impl From<net::TcpStream> for Stream {
    fn from(stream: net::TcpStream) -> Self {
        Self(Given::StdTcp(stream))
    }
}

/// It may be connecting still.
impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Given::Ready(Wire::Tcp(stream)))
    }
}

#[cfg(unix)]
impl From<unix::UnixStream> for Stream {
    fn from(stream: unix::UnixStream) -> Self {
        Self(Given::StdUnix(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Given::Ready(Wire::Unix(stream)))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Given::StdTcp(_) | Given::Ready(Wire::Tcp(_)) => "Stream(tcp)",
            #[cfg(unix)]
            Given::StdUnix(_) | Given::Ready(Wire::Unix(_)) => "Stream(unix)",
            Given::Ready(Wire::Object(_)) => "Stream(object)",
        })
    }
}

impl Wire {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, token, both),
            #[cfg(unix)]
            Self::Unix(stream) => registry.register(stream, token, both),
            Self::Object(object) => guarded(|| registry.register(&mut **object, token, both)),
        }
    }

    /// [`WouldBlock`](ErrorKind::WouldBlock): it is connecting still.
    pub(super) fn check_connected(&self) -> io::Result<()> {
        let (error, peer) = match self {
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            #[cfg(unix)]
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Self::Object(_) => (None, Ok(())),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
            (None, peer) => peer,
        }
    }

    /// Sets what only TCP has.
    pub(super) fn prepare(&self, accepted: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) if accepted => prepare_accepted(stream),
            Self::Tcp(stream) => stream.set_nodelay(true),
            _ => Ok(()),
        }
    }

    /// Whether it says by events what it has, as sockets do.
    pub(super) const fn is_socket(&self) -> bool {
        !matches!(self, Self::Object(_))
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(into),
            Self::Object(object) => guarded(|| object.read(into)),
        }
    }

    pub(super) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => write(stream, chunks),
            #[cfg(unix)]
            Self::Unix(stream) => write(stream, chunks),
            Self::Object(object) => guarded(|| write(&mut **object, chunks)),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Object(object) => guarded(|| object.flush()),
            _ => Ok(()),
        }
    }
}

fn write(stream: &mut (impl Write + ?Sized), chunks: &[IoSlice<'_>]) -> io::Result<usize> {
    match chunks {
        [only] => stream.write(only),
        _ => stream.write_vectored(chunks),
    }
}
