//! Connected streams on their way from a server's handles to its driver.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Visitor;
use super::handles::ServerMachine;
use super::hub::Hub;
use super::sockets::{Net, Sockets};
use super::std::sync::{Mutex, MutexGuard, PoisonError};
use crate::{Machine, Peer, Reason, Rejected};

/// Streams that wait for the driver's next turn, or for room in the server.
const MOST: usize = 1024;

/// Streams that the user has handed over, `G` being what his runtime takes.
pub(crate) struct Inbox<G>(Mutex<Waiting<G>>);

struct Waiting<G> {
    streams: Vec<(G, Visitor)>,
    /// The driver is gone.
    closed: bool,
}

impl<G: Send> Inbox<G> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiting { streams: Vec::new(), closed: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<G>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver of `hub` take `stream` up, or gives it back.
    pub(crate) fn put(&self, value: G, peer: Peer<'_>, hub: &Hub<ServerMachine, ()>) -> Result<(), Rejected<G>> {
        let (full, limit) = hub.look(|server, ()| (!server.wants_accept(), server.counters().connections));
        let mut waiting = self.lock();
        let reason = match waiting.streams.len() {
            _ if waiting.closed || hub.is_shut() => Reason::Closed,
            _ if full => Reason::Full { what: "connections", limit },
            MOST.. => Reason::Full { what: "streams handed over", limit: MOST },
            _ => {
                waiting.streams.push((value, Visitor::called(peer)));
                drop(waiting);
                hub.call(|_, (), _| ());
                return Ok(());
            }
        };
        Err(Rejected { reason, value })
    }

    /// What was handed over since goes to `sockets`.
    pub(crate) fn empty_into<N: Net<Given: From<G>>>(&self, sockets: &mut Sockets<N>) {
        let streams = core::mem::take(&mut self.lock().streams);
        for (stream, visitor) in streams {
            sockets.arrive(stream.into(), visitor);
        }
    }

    /// Nothing is taken up any more; what waits is closed.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let streams = core::mem::take(&mut waiting.streams);
        drop(waiting);
        drop(streams);
    }
}
