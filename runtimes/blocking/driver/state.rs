//! What the mutex of a driver holds: the machine, its connections, and what is owed to whom.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::DerefMut;
use core::task::Waker;
use core::time::Duration;

use super::super::stream::Stream;
use super::doors::Bell;
use crate::runtimes::handles::{Listener, Sink};
use crate::runtimes::std::io::{self, ErrorKind};
use crate::runtimes::std::sync::Condvar;
use crate::runtimes::{Incoming, SCRATCH, uninterrupted, write_out};
use crate::{Address, Batch, CloseReason, ConnId, Input, Instant, Machine};

/// So many readers' scratches are kept for others.
const SPARE: usize = 4;

pub(super) struct Core<M: Machine, S> {
    pub(super) machine: M,
    pub(super) sink: S,
    pub(super) links: Vec<Option<Link>>,
    /// Connections with something to write.
    pub(super) due: Vec<ConnId>,
    /// When the clock's thread writes them, where that was put off.
    pub(super) flush_at: Option<Instant>,
    /// How often the machine has had something to be done but writing, or a reader has found his connection gone or at its
    /// end.
    pub(super) news: u64,
    /// Spare room for readers, at most [`SPARE`] times.
    pub(super) scratches: Vec<Box<[u8]>>,
    /// Spare room for a writer.
    pub(super) batch: Option<Box<Batch>>,
    pub(super) wakers: Vec<Waker>,
    /// Callers who wait for no connection that there is.
    pub(super) strays: Vec<Waker>,
    pub(super) listener: Option<Listener<M::Event>>,
    /// What it is to hear; bounded by `MAX_NOTICES`, and empty for ever where no listener is.
    pub(super) notices: VecDeque<M::Event>,
    pub(super) hears: bool,
    /// When the machine wants its next tick, and until when the clock's thread sleeps.
    pub(super) wait: Option<Instant>,
    pub(super) alarm: Option<Instant>,
    /// What wakes each listener's thread, and whether they are to end.
    pub(super) doors: Vec<Arc<Bell>>,
    pub(super) shut: bool,
    /// Where threads are connecting to.
    pub(super) dials: Vec<Address>,
    /// Threads that will end soon when they are told to: all but those that connect.
    pub(super) threads: usize,
    /// The last handle is gone, and soon the threads will be.
    pub(super) ending: bool,
    pub(super) stopped: bool,
}

/// One connection, made or being made.
pub(super) struct Link {
    pub(super) id: ConnId,
    pub(super) socket: Option<Arc<Stream>>,
    /// Why nothing can be written any more. What the peer has sent before is still read.
    pub(super) broken: Option<CloseReason>,
    /// It has ended while somebody wrote, who will say so.
    pub(super) ended: Option<CloseReason>,
    pub(super) writing: bool,
    /// Somebody has the role of the reader.
    pub(super) reading: bool,
    /// What has come; elsewhere while it is read into.
    pub(super) incoming: Incoming,
    /// The socket's read timeout, in milliseconds; 0 for none.
    patience: u64,
    /// Callers who wait for this connection and could read it.
    pub(super) callers: Vec<Waker>,
    /// No caller has read or waited since the thread looked last.
    pub(super) quiet: bool,
    pub(super) rouse: Arc<Condvar>,
    /// Its thread was roused and has not looked yet.
    pub(super) roused: bool,
}

/// The role of the reader of a connection. Whoever has it keeps it from read to read, and gives it back.
pub(super) struct Role {
    pub(super) conn: ConnId,
    socket: Arc<Stream>,
    patience: u64,
    scratch: Box<[u8]>,
    /// What the next read goes into instead, where the machine has made room there.
    straight: Option<Incoming>,
}

impl<M: Machine, S: Sink<M::Event>> Core<M, S> {
    /// Has one of those woken who wait for whatever comes.
    #[inline]
    pub(super) fn call(&mut self) {
        if let Some(waker) = self.sink.call() {
            self.wakers.push(waker);
        }
    }
}

impl<M: Machine, S> Core<M, S> {
    pub(super) fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        find(&mut self.links, conn)
    }

    pub(super) fn sole(&self) -> Option<ConnId> {
        let mut all = self.links.iter().flatten();
        all.next().filter(|_| all.next().is_none()).map(|link| link.id)
    }

    /// Makes ready for a read, which is for whoever has the `role`, or can have it now.
    #[inline(always)]
    pub(super) fn take_role<'a>(&mut self, conn: ConnId, role: &'a mut Option<Role>) -> Option<&'a mut Role> {
        // Not even a broken connection, whose end would overtake what the machine does not want yet.
        if !self.machine.wants_read(conn) {
            return None;
        }
        let link = find(&mut self.links, conn)?;
        if role.is_none() {
            if link.reading {
                return None;
            }
            let socket = link.socket.clone()?;
            (link.reading, link.quiet) = (true, false);
            let scratch = self.scratches.pop().unwrap_or_else(|| vec![0; SCRATCH].into());
            *role = Some(Role { conn, socket, patience: link.patience, scratch, straight: None });
        }
        let role = role.as_mut()?;
        if link.incoming.has_room() {
            role.straight = Some(core::mem::take(&mut link.incoming));
        }
        Some(role)
    }

    /// Gives the role of the reader back, unless the connection has ended: then there is nothing more to be read.
    #[inline]
    pub(super) fn give_back(&mut self, role: Role) {
        if let Some(link) = self.link(role.conn) {
            (link.reading, link.patience) = (link.ended.is_some(), role.patience);
        }
        if self.scratches.len() < SPARE {
            self.scratches.push(role.scratch);
        }
    }

    /// Should the role of the reader be free: the caller who waits alone takes it, else the connection's thread, when the
    /// callers are many, have gone, or `sleep`.
    #[inline]
    pub(super) fn pass_on(&mut self, conn: ConnId, sleep: bool) {
        let Some(link) = find(&mut self.links, conn).filter(|link| !link.reading) else { return };
        match &link.callers[..] {
            [] if !sleep => {}
            [only] => self.wakers.push(only.clone()),
            _ => {
                link.quiet = true;
                if !core::mem::replace(&mut link.roused, true) {
                    link.rouse.notify_one();
                }
            }
        }
    }

    pub(super) fn admit(&mut self, conn: ConnId, socket: Option<Arc<Stream>>) {
        let index = conn.index();
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        if let Some(place) = self.links.get_mut(index) {
            *place = Some(Link {
                id: conn,
                socket,
                broken: None,
                ended: None,
                writing: false,
                reading: false,
                incoming: Incoming::default(),
                patience: 0,
                callers: Vec::new(),
                quiet: true,
                rouse: Arc::default(),
                roused: false,
            });
        }
    }

    /// The machine has done with a connection.
    #[cold]
    pub(super) fn disconnect(&mut self, conn: ConnId) {
        self.say_goodbye(conn);
        self.remove(conn);
    }

    /// Reading goes on with what was left of the last time.
    #[cold]
    pub(super) fn resume(&mut self, conn: ConnId, now: Instant) {
        let Some(link) = find(&mut self.links, conn) else { return };
        link.rouse.notify_one();
        self.machine.handle(Input::Data(conn, &mut link.incoming.bytes), now);
        link.incoming.settle();
        self.pass_on(conn, false);
    }

    /// Nothing can be written any more: the reader finds the end once he has read what the peer has sent before.
    pub(super) fn break_off(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(link) = self.link(conn) {
            link.broken = Some(reason);
            link.writing = false;
            link.rouse.notify_one();
            link.socket.iter().for_each(|socket| socket.shutdown());
        }
    }

    /// The connection has ended, or was not made.
    #[cold]
    pub(super) fn end(&mut self, conn: ConnId, reason: CloseReason, now: Instant) {
        let Some(link) = self.link(conn) else { return };
        let reason = link.broken.take().unwrap_or(reason);
        if link.writing {
            // What is being written must be known as taken before the machine hears of the end.
            link.ended = Some(reason);
            link.socket.iter().for_each(|socket| socket.shutdown());
            self.news = self.news.wrapping_add(1);
            return;
        }
        self.remove(conn);
        self.machine.handle(Input::Closed(conn, reason), now);
    }

    /// TLS has a last word. Everything before it has been taken, so that nobody is writing, and the socket has room for some
    /// bytes: this does not block, and hardly so where it has none.
    fn say_goodbye(&mut self, conn: ConnId) {
        let Self { machine, links, .. } = self;
        let outgoing = machine.outgoing(conn);
        if !outgoing.is_empty()
            && let Some(Link { broken: None, socket: Some(socket), .. }) = find(links, conn)
            && socket.set_write_timeout(Some(Duration::from_millis(1))).is_ok()
        {
            let _ = write_out(outgoing, |chunks| socket.write_vectored(chunks));
        }
    }

    /// Forgets a connection. Whoever reads it, writes it or waits for it finds out.
    pub(super) fn remove(&mut self, conn: ConnId) {
        if let Some(place) = self.links.get_mut(conn.index())
            && let Some(link) = place.take_if(|link| link.id == conn)
        {
            link.socket.iter().for_each(|socket| socket.shutdown());
            link.rouse.notify_all();
            self.wakers.extend(link.callers);
        }
    }
}

impl Role {
    /// Has the socket read for so many milliseconds at most.
    #[inline]
    fn wait_for(&mut self, patience: Option<u64>) -> io::Result<()> {
        let fits = match patience {
            None => self.patience == 0,
            Some(patience) => (patience.div_ceil(4)..=patience).contains(&self.patience),
        };
        if !fits {
            self.socket.set_read_timeout(patience.map(Duration::from_millis))?;
            self.patience = patience.unwrap_or(0);
        }
        Ok(())
    }

    /// Reads once, with nothing locked, then locks, by `lock`. With `patience` it waits for so many milliseconds at most.
    #[inline(always)]
    pub(super) fn read<M: Machine, S, C: DerefMut<Target = Core<M, S>>>(
        &mut self,
        patience: Option<u64>,
        lock: impl Fn() -> C,
    ) -> (C, io::Result<usize>) {
        if let Err(error) = self.wait_for(patience) {
            return (lock(), Err(error));
        }
        let Self { conn, socket, scratch, straight, .. } = self;
        let (result, mut core);
        match straight.take() {
            Some(mut incoming) => {
                result = incoming.read_straight(|into| socket.read(into));
                core = lock();
                if let Some(link) = core.link(*conn) {
                    link.incoming = incoming;
                }
            }
            None => {
                result = uninterrupted(|| socket.read(scratch));
                core = lock();
                if let (Ok(came), Some(link)) = (&result, core.link(*conn)) {
                    link.incoming.append(scratch.get(..*came).unwrap_or_default());
                }
            }
        }
        (core, result)
    }
}

#[inline]
pub(super) fn find(links: &mut [Option<Link>], conn: ConnId) -> Option<&mut Link> {
    links.get_mut(conn.index())?.as_mut().filter(|link| link.id == conn)
}

/// Whether a socket's read or write timeout has passed.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || (cfg!(windows) && error.kind() == ErrorKind::TimedOut)
}
