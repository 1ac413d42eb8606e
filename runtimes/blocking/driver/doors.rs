//! Listeners: the thread of each, and how it is woken to end.

use alloc::sync::Arc;

use super::super::stream::Stream;
use super::threads::{open, sleep};
use super::{Driven, LAST_WORDS, Shared, Sink};
use crate::Input;
use crate::runtimes::listening::{Bound, Listening};
use crate::runtimes::std::io;
#[cfg(unix)]
use crate::runtimes::std::net::Shutdown;
use crate::runtimes::std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
#[cfg(unix)]
use crate::runtimes::std::os::{
    fd::OwnedFd,
    unix::net::{SocketAddr as UnixAddress, UnixStream},
};
#[cfg(unix)]
use crate::runtimes::std::{sync::mpsc, thread};
use crate::runtimes::{ACCEPT_PAUSE, Visitor, accept_goes_on, close_reason};

/// What wakes a thread that waits in `accept`: a connection.
pub(super) struct Bell {
    at: At,
    /// The same listener, if it is ours alone: one that was passed to us may be in use elsewhere, and goes on.
    #[cfg(unix)]
    ours: Option<UnixStream>,
}

enum At {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(UnixAddress),
}

impl Bell {
    pub(super) fn of(listening: &Listening) -> io::Result<Self> {
        match listening.socket() {
            Bound::Tcp(listener) => Ok(Self {
                at: At::Tcp(listener.local_addr()?),
                #[cfg(unix)]
                ours: match listening.is_ours() {
                    true => Some(UnixStream::from(OwnedFd::from(listener.try_clone()?))),
                    false => None,
                },
            }),
            #[cfg(unix)]
            Bound::Unix(listener) => Ok(Self {
                at: At::Unix(listener.local_addr()?),
                ours: match listening.is_ours() {
                    true => Some(UnixStream::from(OwnedFd::from(listener.try_clone()?))),
                    false => None,
                },
            }),
        }
    }

    pub(super) fn ring(&self) {
        let rung = match &self.at {
            At::Tcp(at) => {
                let mut at = *at;
                match at.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                TcpStream::connect_timeout(&at, LAST_WORDS).is_ok()
            }
            #[cfg(unix)]
            At::Unix(at) => knock(at),
        };
        // No descriptor is left, the socket's file is gone, or a crowd stands before it. Linux ends `accept` when its listener is shut down.
        #[cfg(unix)]
        if let (false, Some(listener)) = (rung, &self.ours) {
            let _ = listener.shutdown(Shutdown::Both);
        }
        #[cfg(not(unix))]
        let _ = rung;
    }
}

/// Connects to a Unix socket, for a bounded time: std knows none, and where a full server has a crowd wait, this one would
/// wait behind it, for ever where nobody accepts any more.
#[cfg(unix)]
fn knock(at: &UnixAddress) -> bool {
    let (at, (tell, told)) = (at.clone(), mpsc::channel());
    let knocking = move || tell.send(UnixStream::connect_addr(&at).is_ok());
    let thread = thread::Builder::new().name("gearwheel-knock".into()).spawn(knocking);
    thread.is_ok() && told.recv_timeout(LAST_WORDS) == Ok(true)
}

impl<M: Driven, S: Sink<M::Event>> Shared<M, S> {
    /// The thread of a listener.
    pub(super) fn accept(self: &Arc<Self>, listening: Listening, bell: &Arc<Bell>) {
        let _counted = self.counted();
        loop {
            let accepted = match listening.socket() {
                Bound::Tcp(listener) => listener.accept().map(|(stream, from)| (Stream::from(stream), Some(from))),
                #[cfg(unix)]
                Bound::Unix(listener) => listener.accept().map(|(stream, _)| (Stream::from(stream), None)),
            };
            let mut core = self.lock();
            if core.shut {
                drop(listening);
                core.doors.retain(|other| !Arc::ptr_eq(other, bell));
                self.ended.notify_all();
                return;
            }
            match accepted {
                Ok((stream, from)) => {
                    drop(core);
                    self.let_in(stream, &Visitor::of(from, listening.is_plain()));
                }
                Err(error) if accept_goes_on(&error) => {}
                // No descriptor is free. This condition is told of every connection that ends.
                Err(_) => drop(sleep(&self.ended, core, ACCEPT_PAUSE)),
            }
        }
    }

    /// Has the machine accept a stream as soon as there is room. Until then its listener accepts no other.
    fn let_in(self: &Arc<Self>, mut stream: Stream, visitor: &Visitor) {
        while let Err(back) = self.welcome(stream, visitor) {
            let core = self.lock();
            if core.shut {
                return;
            }
            stream = back;
            // This condition is told of every connection that ends.
            drop(sleep(&self.ended, core, ACCEPT_PAUSE));
        }
    }

    /// Has the machine accept a stream, or gives it back.
    pub(super) fn welcome(self: &Arc<Self>, stream: Stream, visitor: &Visitor) -> Result<(), Stream> {
        let mut core = self.lock();
        let now = self.clock.now();
        let accepted = if core.shut { None } else { core.machine.accept(visitor.peer(), now) };
        let Some(conn) = accepted else {
            drop(self.settle(core));
            return Err(stream);
        };
        let started = open(stream).and_then(|stream| {
            core.admit(conn);
            core.open(conn, stream);
            self.spawn("gearwheel-conn", move |shared| shared.serve(conn))
        });
        if let Err(error) = started {
            core.remove(conn);
            core.machine.handle(Input::Closed(conn, close_reason(&error)), now);
        }
        drop(self.settle(core));
        Ok(())
    }
}
