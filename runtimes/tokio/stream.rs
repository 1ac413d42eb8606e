//! What moves a connection's bytes on tokio.

use alloc::boxed::Box;
use core::fmt;
use core::pin::Pin;
use core::task::Context;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::TcpStream;
#[cfg(unix)]
use ::tokio::net::UnixStream;

use super::{inside, now};
use crate::runtimes::guarded;
use crate::runtimes::sockets::prepare_accepted;
use crate::runtimes::std::io::{self, IoSlice};
use crate::runtimes::std::net;
#[cfg(unix)]
use crate::runtimes::std::os::unix::net as unix;

/// Bytes both ways, by polling: what [`Stream::object`] takes. They are polled while the handles are locked and must not use
/// them.
pub trait Object: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Object for T {}

/// A connection's byte layer: `From` the streams of std and tokio, or an [`object`](Self::object) of yours.
pub struct Stream(Given);

enum Given {
    StdTcp(net::TcpStream),
    #[cfg(unix)]
    StdUnix(unix::UnixStream),
    Ready(Wire),
}

/// A stream that the driver has taken up.
pub(crate) enum Wire {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Object(Box<dyn Object>),
}

impl Stream {
    /// Anything that reads and writes by polling, such as a stream of TLS or SSH, or `tokio::io::duplex`.
    ///
    /// It counts as connected. It is flushed after what was written to it, and just dropped when the connection ends: what it
    /// could not send by then is lost. A panic in it ends the connection.
    pub fn object(object: impl Object + 'static) -> Self {
        Self(Given::Ready(Wire::Object(Box::new(object))))
    }

    pub(super) fn adopt(self) -> io::Result<Wire> {
        inside()?;
        match self.0 {
            Given::StdTcp(stream) => {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Wire::Tcp)
            }
            #[cfg(unix)]
            Given::StdUnix(stream) => {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Wire::Unix)
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
    /// Sets what only TCP has.
    pub(super) fn prepare(&self, accepted: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) if accepted => prepare_accepted(stream),
            Self::Tcp(stream) => stream.set_nodelay(true),
            _ => Ok(()),
        }
    }

    pub(super) fn readable(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).is_ready(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.poll_read_ready(cx).is_ready(),
            // Only a read tells.
            Self::Object(_) => true,
        }
    }

    pub(super) fn read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read(stream, cx, into),
            #[cfg(unix)]
            Self::Unix(stream) => read(stream, cx, into),
            Self::Object(object) => guarded(|| read(object, cx, into)),
        }
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => write(stream, cx, chunks),
            #[cfg(unix)]
            Self::Unix(stream) => write(stream, cx, chunks),
            Self::Object(object) => guarded(|| write(object, cx, chunks)),
        }
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self {
            Self::Object(object) => guarded(|| now(Pin::new(object).poll_flush(cx))),
            _ => Ok(()),
        }
    }
}

fn read(stream: impl AsyncRead + Unpin, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
    let (mut stream, mut buffer) = (stream, ReadBuf::new(into));
    now(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
    Ok(buffer.filled().len())
}

fn write(mut stream: impl AsyncWrite + Unpin, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
    now(match chunks {
        [only] => Pin::new(&mut stream).poll_write(cx, only),
        _ => Pin::new(&mut stream).poll_write_vectored(cx, chunks),
    })
}
