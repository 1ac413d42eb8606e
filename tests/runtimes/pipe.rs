//! Streams that no runtime has heard of: a pipe in memory, which holds back what is not flushed; and one that panics.

#![cfg_attr(
    not(any(feature = "blocking", feature = "smol", feature = "tokio")),
    allow(dead_code, unused_imports, reason = "mio's objects have descriptors")
)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
#[cfg(any(feature = "smol", feature = "tokio"))]
use std::task::{Context, Poll, Waker};

/// Bytes that are under way in one direction at most.
const ROOM: usize = 48 << 10;

/// One direction.
#[derive(Default)]
struct Pipe {
    way: Mutex<Way>,
    #[cfg(feature = "blocking")]
    changed: std::sync::Condvar,
}

#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    closed: bool,
    #[cfg(any(feature = "smol", feature = "tokio"))]
    sleepers: Vec<Waker>,
}

/// One of two ends.
pub(crate) struct End {
    from: Arc<Pipe>,
    to: Arc<Pipe>,
    /// Not flushed.
    #[cfg_attr(not(any(feature = "smol", feature = "tokio")), allow(dead_code))]
    held: Vec<u8>,
    #[cfg(feature = "blocking")]
    patience: [Mutex<Option<std::time::Duration>>; 2],
}

pub(crate) fn pair() -> (End, End) {
    let (a, b) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
    let end = |from: &Arc<Pipe>, to: &Arc<Pipe>| End {
        from: from.clone(),
        to: to.clone(),
        held: Vec::new(),
        #[cfg(feature = "blocking")]
        patience: Default::default(),
    };
    (end(&a, &b), end(&b, &a))
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl End {
    /// Puts bytes on their way, however many.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        self.to.with(|way| way.bytes.extend(bytes));
    }

    /// Bytes that the other end has not read yet.
    pub(crate) fn under_way(&self) -> usize {
        self.to.with(|way| way.bytes.len())
    }
}

impl Pipe {
    fn with<T>(&self, act: impl FnOnce(&mut Way) -> T) -> T {
        let mut way = self.way.lock().expect("no panic");
        let result = act(&mut way);
        #[cfg(any(feature = "smol", feature = "tokio"))]
        let sleepers = std::mem::take(&mut way.sleepers);
        drop(way);
        #[cfg(feature = "blocking")]
        self.changed.notify_all();
        #[cfg(any(feature = "smol", feature = "tokio"))]
        sleepers.into_iter().for_each(Waker::wake);
        result
    }
}

impl Way {
    /// `None`: nothing is there yet.
    fn take(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.bytes.is_empty() && !self.closed {
            return None;
        }
        Some(self.bytes.read(into).expect("it is memory"))
    }

    /// `None`: there is no room.
    fn put(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.closed {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(ROOM.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..count]);
        (count > 0 || bytes.is_empty()).then_some(Ok(count))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.from.with(|way| way.closed = true);
        self.to.with(|way| way.closed = true);
    }
}

/// Pulls its pin when it is read.
pub(crate) struct Grenade;

#[cfg(feature = "blocking")]
mod blocking {
    use super::*;
    use gearwheel::blocking::Duplex;
    use std::time::{Duration, Instant};

    impl End {
        fn wait<T>(&self, pipe: &Pipe, which: usize, mut act: impl FnMut(&mut Way) -> Option<T>) -> io::Result<T> {
            let until = self.patience[which].lock().expect("no panic").map(|within| Instant::now() + within);
            let mut way = pipe.way.lock().expect("no panic");
            loop {
                if let Some(result) = act(&mut way) {
                    pipe.changed.notify_all();
                    return Ok(result);
                }
                let left =
                    until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                way = pipe.changed.wait_timeout(way, left).expect("no panic").0;
            }
        }
    }

    impl Duplex for End {
        fn read(&self, into: &mut [u8]) -> io::Result<usize> {
            self.wait(&self.from, 0, |way| way.take(into))
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.wait(&self.to, 1, |way| way.put(bytes))?
        }

        fn set_read_timeout(&self, within: Option<Duration>) -> io::Result<()> {
            *self.patience[0].lock().expect("no panic") = within;
            Ok(())
        }

        fn set_write_timeout(&self, within: Option<Duration>) -> io::Result<()> {
            *self.patience[1].lock().expect("no panic") = within;
            Ok(())
        }

        fn shutdown(&self) {
            self.from.with(|way| way.closed = true);
            self.to.with(|way| way.closed = true);
        }
    }

    impl Duplex for Grenade {
        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            panic!("the pin is out")
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn shutdown(&self) {}
    }
}

#[cfg(any(feature = "smol", feature = "tokio"))]
mod polled {
    use super::*;

    const HELD: usize = 16 << 10;

    impl Pipe {
        fn poll<T>(&self, cx: &mut Context<'_>, act: impl FnOnce(&mut Way) -> Option<T>) -> Poll<T> {
            let mut way = self.way.lock().expect("no panic");
            let Some(result) = act(&mut way) else {
                way.sleepers.push(cx.waker().clone());
                return Poll::Pending;
            };
            let sleepers = std::mem::take(&mut way.sleepers);
            drop(way);
            sleepers.into_iter().for_each(Waker::wake);
            Poll::Ready(result)
        }
    }

    impl End {
        pub(super) fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            self.from.poll(cx, |way| way.take(into)).map(Ok)
        }

        /// Holds back up to 16 KiB.
        pub(super) fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.held.len() >= HELD {
                match self.poll_send(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let count = (HELD - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            while !self.held.is_empty() {
                let held = &self.held;
                match self.to.poll(cx, |way| way.put(held)) {
                    Poll::Ready(Ok(count)) => drop(self.held.drain(..count)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(feature = "smol")]
mod smol {
    use super::*;
    use futures_lite::io::{AsyncRead, AsyncWrite};
    use std::pin::Pin;

    impl AsyncRead for End {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            self.poll_take(cx, into)
        }
    }

    impl AsyncWrite for End {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_put(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_send(cx)
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    impl AsyncRead for Grenade {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            panic!("the pin is out")
        }
    }

    impl AsyncWrite for Grenade {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(feature = "tokio")]
mod tokio {
    use super::*;
    use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use std::pin::Pin;

    impl AsyncRead for End {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let polled = self.poll_take(cx, into.initialize_unfilled());
            polled.map_ok(|count| into.advance(count))
        }
    }

    impl AsyncWrite for End {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_put(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_send(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    impl AsyncRead for Grenade {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("the pin is out")
        }
    }

    impl AsyncWrite for Grenade {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

/// A poll wants descriptors: this object hides a socket of its own kind, and holds back what is not flushed.
#[cfg(feature = "mio")]
pub(crate) struct Watched {
    socket: ::mio::net::UnixStream,
    held: Vec<u8>,
}

#[cfg(feature = "mio")]
pub(crate) fn sources() -> (Watched, Watched) {
    let (a, b) = ::mio::net::UnixStream::pair().expect("a pair");
    (Watched { socket: a, held: Vec::new() }, Watched { socket: b, held: Vec::new() })
}

#[cfg(feature = "mio")]
mod mio {
    use super::*;
    use ::mio::event::Source;
    use ::mio::{Interest, Registry, Token};
    use std::io::Write;

    const HELD: usize = 16 << 10;

    impl Source for Watched {
        fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
            self.socket.register(registry, token, interests)
        }

        fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
            self.socket.reregister(registry, token, interests)
        }

        fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
            self.socket.deregister(registry)
        }
    }

    impl Read for Watched {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            // Less than there is: only an object that would block has shown all.
            let most = into.len().min(10_000);
            self.socket.read(&mut into[..most])
        }
    }

    impl Write for Watched {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.held.len() >= HELD {
                self.flush()?;
            }
            let count = (HELD - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            while !self.held.is_empty() {
                let count = self.socket.write(&self.held)?;
                self.held.drain(..count);
            }
            Ok(())
        }
    }

    impl Source for Grenade {
        fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn deregister(&mut self, _: &Registry) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Grenade {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("the pin is out")
        }
    }

    impl Write for Grenade {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
