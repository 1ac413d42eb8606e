//! How a connection comes to be: attempts at each address of a host, a Unix socket, or what the user makes.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::Context;
use core::time::Duration;

use super::net::{Net, Place, Target};
use super::{Slot, Sockets, State, queue};
use crate::runtimes::std::io::{self, ErrorKind};
use crate::runtimes::{connect_reason, made_reason};
use crate::{Address, CloseReason, ConnId, Input, Instant, Machine};

/// When an address of a host has not answered in this time, the next is tried beside it (RFC 8305).
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// The attempts at one connection.
pub(super) struct Dial<N: Net> {
    pub(super) targets: vec::IntoIter<Target>,
    attempts: Vec<N::Connecting>,
    /// When to try the next address beside those under way.
    pub(super) next: Instant,
    failure: Option<io::Error>,
}

impl<N: Net> Dial<N> {
    fn new(targets: Vec<Target>, attempts: Vec<N::Connecting>) -> Self {
        Self { targets: targets.into_iter(), attempts, next: Instant::EPOCH, failure: None }
    }

    /// The first attempt that has become a connection; those that failed are forgotten.
    fn poll(&mut self, net: &mut N, cx: &mut Context<'_>) -> Option<N::Wire> {
        let mut up = None;
        self.attempts.retain_mut(|attempt| {
            if up.is_some() {
                return false;
            }
            match net.connected(attempt, cx) {
                Ok(stream) => up = Some(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => self.failure = Some(error),
            }
            false
        });
        up
    }
}

impl<N: Net> Sockets<N> {
    /// Has the user make all connections: what is [wanted](Self::wanted) is to be [made](Self::made).
    pub(crate) fn entrust(&mut self) {
        self.entrusted = true;
    }

    /// The connections that the user is to make, each told once.
    pub(crate) fn wanted(&mut self) -> Option<(ConnId, Address)> {
        while let Some((conn, server)) = self.wanted.pop_front() {
            if self.wants(conn) {
                return Some((conn, server));
            }
        }
        None
    }

    /// Whether there are any, or were and have been given up.
    #[cfg(feature = "mio")]
    pub(crate) fn wants_any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether the machine still waits for a connection that the user is making.
    pub(crate) fn wants(&self, conn: ConnId) -> bool {
        let slot = self.slots.get(conn.index()).and_then(Option::as_ref);
        slot.is_some_and(|slot| slot.conn == conn && matches!(slot.state, State::Entrusted(None)))
    }

    /// The user has made a connection, or could not. To be followed by [`next`](Self::next).
    pub(crate) fn made(&mut self, conn: ConnId, result: io::Result<N::Given>) {
        if self.wants(conn)
            && let Some(slot) = self.slot(conn)
        {
            slot.state = State::Entrusted(Some(result));
            self.wake(Place::Slot(conn.index()), false);
        }
    }

    pub(super) fn connect<M: Machine>(&mut self, conn: ConnId, server: Address, machine: &mut M) {
        let waker = self.net.waker(Place::Slot(conn.index()));
        self.dialling.push(conn.index());
        if self.entrusted {
            self.insert(conn, State::Entrusted(None), waker);
            return self.wanted.push_back((conn, server));
        }
        self.insert(conn, State::Resolving, waker);
        if server.unix_path().is_some() {
            return self.try_all(conn.index(), Vec::from([Target::Unix(server)]), machine);
        }
        let addresses = match server.host().parse::<IpAddr>() {
            Ok(ip) => Ok(Vec::from([SocketAddr::new(ip, server.port())])),
            Err(_) => self.net.resolve(conn, &server),
        };
        match addresses {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            addresses => self.resolved(machine, conn, addresses),
        }
    }

    /// A host has been looked up.
    pub(crate) fn resolved<M: Machine>(
        &mut self,
        machine: &mut M,
        conn: ConnId,
        addresses: io::Result<Vec<SocketAddr>>,
    ) {
        if self.slot(conn).is_some_and(|slot| matches!(slot.state, State::Resolving)) {
            match addresses {
                Ok(addresses) if !addresses.is_empty() => {
                    self.try_all(conn.index(), addresses.into_iter().map(Target::Tcp).collect(), machine);
                }
                _ => self.close(conn.index(), CloseReason::Unresolved, machine),
            }
        }
    }

    fn try_all<M: Machine>(&mut self, index: usize, targets: Vec<Target>, machine: &mut M) {
        if let Some(Some(slot)) = self.slots.get_mut(index) {
            slot.state = State::Dialling(Dial::new(targets, Vec::new()));
            self.dial(index, machine);
        }
    }

    /// Goes on with what the user has made.
    pub(super) fn take_made<M: Machine>(&mut self, index: usize, machine: &mut M) {
        let Self { net, slots, .. } = self;
        let Some(Some(Slot { state, .. })) = slots.get_mut(index) else { return };
        let State::Entrusted(result) = state else { return };
        let Some(result) = result.take() else { return };
        match result.and_then(|given| net.adopt(given)).and_then(|stream| net.attempt(stream, index)) {
            Ok(attempt) => {
                *state = State::Dialling(Dial::new(Vec::new(), Vec::from([attempt])));
                self.dial(index, machine);
            }
            Err(error) => self.close(index, made_reason(&error), machine),
        }
    }

    pub(super) fn dial_overdue<M: Machine>(&mut self, index: usize, machine: &mut M, now: Instant) {
        if let Some(Some(Slot { state: State::Dialling(dial), .. })) = self.slots.get(index)
            && dial.next <= now
            && dial.targets.len() > 0
        {
            self.dial(index, machine);
        }
    }

    /// Looks at the attempts of a connection and begins another when none is left or the last one takes long.
    pub(super) fn dial<M: Machine>(&mut self, index: usize, machine: &mut M) {
        let now = self.clock.now();
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        let State::Dialling(dial) = &mut slot.state else { return };
        let mut cx = Context::from_waker(&slot.waker);
        let ended = loop {
            if let Some(stream) = dial.poll(&mut self.net, &mut cx) {
                break Ok(stream);
            }
            if !dial.attempts.is_empty() && (dial.next > now || dial.targets.len() == 0) {
                return;
            }
            let Some(target) = dial.targets.next() else {
                let failure = dial.failure.as_ref();
                break Err(failure.map_or(CloseReason::Unresolved, connect_reason));
            };
            dial.next = now + STAGGER;
            match self.net.connect(&target, index) {
                Ok(attempt) => dial.attempts.push(attempt),
                Err(error) => dial.failure = Some(error),
            }
        };
        match ended {
            Ok(stream) => {
                let conn = slot.conn;
                self.dialling.retain(|other| *other != index);
                if self.open(conn, stream, machine, false) {
                    machine.handle(Input::Connected(conn), now);
                }
            }
            Err(reason) => self.close(index, reason, machine),
        }
    }

    /// When the next address of some host is due to be tried.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        let dials = self.dialling.iter().filter_map(|index| match self.slots.get(*index) {
            Some(Some(Slot { state: State::Dialling(dial), .. })) if dial.targets.len() > 0 => Some(dial.next),
            _ => None,
        });
        dials.min()
    }

    /// Some host may have been looked up, where nothing tells which.
    #[cfg(feature = "mio")]
    pub(crate) fn wake_dialling(&mut self) {
        for index in &self.dialling {
            if let Some(Some(slot)) = self.slots.get_mut(*index) {
                queue(&mut slot.queued, *index, &mut self.ready);
            }
        }
    }
}
