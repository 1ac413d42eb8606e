//! What moves a connection's bytes on threads.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use crate::runtimes::guarded;
use crate::runtimes::std::io::{self, ErrorKind, IoSlice, Read, Write};
use crate::runtimes::std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use crate::runtimes::std::os::unix::net::UnixStream;

/// Bytes both ways, read by one thread while another writes: what [`Stream::object`] takes.
///
/// `Read` and `Write` want `&mut`, which two threads cannot have; and a thread that reads must come back after a while, and
/// at once when the connection ends. So an object such as a TLS stream needs a lock inside, or a proxy that pumps between it
/// and one end of `UnixStream::pair`, the other end being the [`Stream`].
///
/// Some of what it does, its drop included, is called while the handles are locked: it must not use them, nor wait for
/// somebody who does.
pub trait Duplex: Send + Sync {
    /// Reads what there is; waits for the first byte, at most as long as [`set_read_timeout`](Self::set_read_timeout) said:
    /// then [`WouldBlock`](ErrorKind::WouldBlock) or [`TimedOut`](ErrorKind::TimedOut). 0: nothing comes any more.
    ///
    /// # Errors
    /// The connection is broken.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes some of it and says how much, and holds nothing back; waits for room for the first byte, at most as long as
    /// [`set_write_timeout`](Self::set_write_timeout) said: then as [`read`](Self::read).
    ///
    /// # Errors
    /// The connection is broken.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// How long a read may wait from now on. `None`: for ever. It is never zero.
    ///
    /// # Errors
    /// The connection is broken.
    fn set_read_timeout(&self, within: Option<Duration>) -> io::Result<()>;

    /// How long a write may wait from now on. `None`: for ever. It is never zero.
    ///
    /// # Errors
    /// The connection is broken.
    fn set_write_timeout(&self, within: Option<Duration>) -> io::Result<()>;

    /// Ends both directions: reads and writes that wait come back at once. It must not wait for anything, and may be called
    /// again.
    fn shutdown(&self);
}

/// A connection's byte layer: `From` the streams of std, or an [`object`](Self::object) of yours.
pub struct Stream(Wire);

enum Wire {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Object(Box<dyn Duplex>),
}

impl Stream {
    /// Anything that reads and writes by two threads at once.
    ///
    /// It is shut down and dropped when the connection ends. A panic in it ends the connection.
    pub fn object(object: impl Duplex + 'static) -> Self {
        Self(Wire::Object(Box::new(object)))
    }

    /// Has it block, whatever it did before, and sets what only TCP has.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match &self.0 {
            Wire::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                // Small packets leave at once, or each answer waits 40 ms for an acknowledgement.
                stream.set_nodelay(true)
            }
            #[cfg(unix)]
            Wire::Unix(stream) => stream.set_nonblocking(false),
            Wire::Object(_) => Ok(()),
        }
    }

    /// A signal ends a read or a write as its timeout does: whoever asks again works out how long it may take then. Begun
    /// anew they would outlast every deadline under a profiler that interrupts them often enough.
    #[inline(always)]
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let result = match &self.0 {
            Wire::Tcp(stream) => (&mut &*stream).read(into),
            #[cfg(unix)]
            Wire::Unix(stream) => (&mut &*stream).read(into),
            Wire::Object(object) => guarded(|| object.read(into)).map_err(timeout),
        };
        result.map_err(signalled)
    }

    #[inline(always)]
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = match &self.0 {
            Wire::Tcp(stream) => (&mut &*stream).write(bytes),
            #[cfg(unix)]
            Wire::Unix(stream) => (&mut &*stream).write(bytes),
            Wire::Object(object) => guarded(|| object.write(bytes)).map_err(timeout),
        };
        result.map_err(signalled)
    }

    pub(super) fn write_vectored(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = match &self.0 {
            Wire::Tcp(stream) => (&mut &*stream).write_vectored(chunks),
            #[cfg(unix)]
            Wire::Unix(stream) => (&mut &*stream).write_vectored(chunks),
            Wire::Object(_) => {
                let first = chunks.iter().find(|chunk| !chunk.is_empty());
                first.map_or(Ok(0), |first| self.write(first))
            }
        };
        result.map_err(signalled)
    }

    pub(super) fn set_read_timeout(&self, within: Option<Duration>) -> io::Result<()> {
        match &self.0 {
            Wire::Tcp(stream) => stream.set_read_timeout(within),
            #[cfg(unix)]
            Wire::Unix(stream) => stream.set_read_timeout(within),
            Wire::Object(object) => guarded(|| object.set_read_timeout(within)),
        }
    }

    pub(super) fn set_write_timeout(&self, within: Option<Duration>) -> io::Result<()> {
        match &self.0 {
            Wire::Tcp(stream) => stream.set_write_timeout(within),
            #[cfg(unix)]
            Wire::Unix(stream) => stream.set_write_timeout(within),
            Wire::Object(object) => guarded(|| object.set_write_timeout(within)),
        }
    }

    /// Where that fails, the connection has ended already.
    pub(super) fn shutdown(&self) {
        let _ = match &self.0 {
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Wire::Unix(stream) => stream.shutdown(Shutdown::Both),
            Wire::Object(object) => guarded(|| Ok(object.shutdown())),
        };
    }
}

/// A socket's own timeout is told apart from that of TCP, which ends the connection; objects have but one.
fn timeout(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::TimedOut { ErrorKind::WouldBlock.into() } else { error }
}

fn signalled(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::Interrupted { ErrorKind::WouldBlock.into() } else { error }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Wire::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Wire::Unix(stream))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Wire::Tcp(_) => "Stream(tcp)",
            #[cfg(unix)]
            Wire::Unix(_) => "Stream(unix)",
            Wire::Object(_) => "Stream(object)",
        })
    }
}
