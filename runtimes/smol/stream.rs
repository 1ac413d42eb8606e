//! What moves a connection's bytes on async-io.

use alloc::boxed::Box;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use ::async_io::Async;
use ::futures_io::{AsyncRead, AsyncWrite};

use crate::runtimes::guarded;
use crate::runtimes::sockets::prepare_accepted;
use crate::runtimes::std::io::{self, ErrorKind, IoSlice, Read, Write};
use crate::runtimes::std::net::TcpStream;
#[cfg(unix)]
use crate::runtimes::std::os::unix::net::UnixStream;

/// Bytes both ways, by polling: what [`Stream::object`] takes. The traits are those of futures-io, which smol, async-std and
/// futures share. They are polled while the handles are locked and must not use them.
pub trait Object: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Object for T {}

/// A connection's byte layer: `From` the streams of std and async-io, or an [`object`](Self::object) of yours.
pub struct Stream(Given);

enum Given {
    StdTcp(TcpStream),
    #[cfg(unix)]
    StdUnix(UnixStream),
    Ready(Wire),
}

/// A stream that the driver has taken up.
pub(crate) enum Wire {
    Tcp(Async<TcpStream>),
    #[cfg(unix)]
    Unix(Async<UnixStream>),
    Object(Box<dyn Object>),
}

impl Stream {
    /// Anything that reads and writes by polling, such as a stream of TLS or SSH, or a pipe in memory.
    ///
    /// It counts as connected. It is flushed after what was written to it, and just dropped when the connection ends: what it
    /// could not send by then is lost. A panic in it ends the connection.
    pub fn object(object: impl Object + 'static) -> Self {
        Self(Given::Ready(Wire::Object(Box::new(object))))
    }

    pub(super) fn adopt(self) -> io::Result<Wire> {
        match self.0 {
            Given::StdTcp(stream) => Async::new(stream).map(Wire::Tcp),
            #[cfg(unix)]
            Given::StdUnix(stream) => Async::new(stream).map(Wire::Unix),
            Given::Ready(wire) => Ok(wire),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Given::StdTcp(stream))
    }
}

impl From<Async<TcpStream>> for Stream {
    fn from(stream: Async<TcpStream>) -> Self {
        Self(Given::Ready(Wire::Tcp(stream)))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Given::StdUnix(stream))
    }
}

#[cfg(unix)]
impl From<Async<UnixStream>> for Stream {
    fn from(stream: Async<UnixStream>) -> Self {
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

/// Calls `io` until it does not block, or until its turn is over: then `ready` has seen to the wake.
pub(super) fn poll<T>(
    mut io: impl FnMut() -> io::Result<T>,
    mut ready: impl FnMut() -> Poll<io::Result<()>>,
) -> io::Result<T> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => match ready() {
                Poll::Pending => return Err(error),
                Poll::Ready(result) => result?,
            },
            result => return result,
        }
    }
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

impl Wire {
    /// Sets what only TCP has.
    pub(super) fn prepare(&self, accepted: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) if accepted => prepare_accepted(stream),
            Self::Tcp(stream) => stream.get_ref().set_nodelay(true),
            _ => Ok(()),
        }
    }

    pub(super) fn readable(&self, cx: &mut Context<'_>) -> bool {
        // The first answer may be that of the wake which led to this read: only the next one asks anew.
        match self {
            Self::Tcp(stream) => stream.poll_readable(cx).is_ready() && stream.poll_readable(cx).is_ready(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.poll_readable(cx).is_ready() && stream.poll_readable(cx).is_ready(),
            // Only a read tells.
            Self::Object(_) => true,
        }
    }

    pub(super) fn read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => poll(|| stream.get_ref().read(into), || stream.poll_readable(cx)),
            #[cfg(unix)]
            Self::Unix(stream) => poll(|| stream.get_ref().read(into), || stream.poll_readable(cx)),
            Self::Object(object) => guarded(|| now(Pin::new(object).poll_read(cx, into))),
        }
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => poll(|| write(stream.get_ref(), chunks), || stream.poll_writable(cx)),
            #[cfg(unix)]
            Self::Unix(stream) => poll(|| write(stream.get_ref(), chunks), || stream.poll_writable(cx)),
            Self::Object(object) => guarded(|| {
                now(match chunks {
                    [only] => Pin::new(object).poll_write(cx, only),
                    _ => Pin::new(object).poll_write_vectored(cx, chunks),
                })
            }),
        }
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self {
            Self::Object(object) => guarded(|| now(Pin::new(object).poll_flush(cx))),
            _ => Ok(()),
        }
    }
}

fn write(mut socket: impl Write, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
    match chunks {
        [only] => socket.write(only),
        _ => socket.write_vectored(chunks),
    }
}
