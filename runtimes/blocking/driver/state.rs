//! What the mutex of a driver holds: the machine, its connections, and what is owed to whom.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::task::Waker;
use core::time::Duration;

use super::super::stream::Stream;
use super::READ_PATIENCE;
use super::doors::Bell;
use crate::runtimes::handles::Sink;
use crate::runtimes::std::io::{self, ErrorKind};
use crate::runtimes::std::sync::Condvar;
use crate::runtimes::{Incoming, SCRATCH, write_out};
use crate::{Address, Batch, CloseReason, ConnId, Input, Instant, Machine};

/// So many scratches of connections that have ended are kept for others.
const SPARE: usize = 4;
/// In nanoseconds.
pub(super) const MILLISECOND: u64 = 1_000_000;
/// No patience is as long.
const UNTOLD: u64 = u64::MAX;

pub(super) struct Core<M: Machine, S> {
    pub(super) machine: M,
    pub(super) sink: S,
    pub(super) links: Vec<Option<Link>>,
    /// Connections with something to write.
    pub(super) due: Vec<ConnId>,
    /// When the clock's thread writes them, or has the machine say more of them, where that was put off.
    pub(super) flush_at: Instant,
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
    /// Callers who wait for room. They are woken one by one: whoever finds some wakes the next.
    pub(super) room: VecDeque<Waker>,
    /// So many of them have not been woken since there may be room.
    pub(super) unasked: usize,
    /// What the user's function is to hear, if he has given one; bounded by `MAX_NOTICES`.
    pub(super) notices: VecDeque<M::Event>,
    pub(super) hears: bool,
    /// When something was read last, or a connection's thread began a nap: the time at which a caller begins to read, where no
    /// more than his patience hangs on it. As long as he may, that is hardly more than a [`NAP`](super::NAP) ago.
    pub(super) seen: Instant,
    /// When the machine wants its next tick, and until when the clock's thread sleeps.
    pub(super) wait: Instant,
    pub(super) alarm: Instant,
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
    /// The role of the writer, unless somebody has it or there is nothing yet to be written to.
    pub(super) writer: Option<Arc<Stream>>,
    /// The role of the reader, unless somebody has it or nothing can be read: not yet, or no more.
    pub(super) reader: Option<Box<Reader>>,
    /// What has come; elsewhere while it is read into.
    pub(super) incoming: Incoming,
    /// Callers who wait for this connection and could read it.
    pub(super) callers: Vec<Waker>,
    /// No caller has read or waited since the thread looked last.
    pub(super) quiet: bool,
    pub(super) rouse: Arc<Condvar>,
    /// Its thread was roused and has not looked yet.
    pub(super) roused: bool,
}

/// The role of the reader of a connection. Whoever has it keeps it from read to read, and gives it back.
pub(super) struct Reader {
    socket: Arc<Stream>,
    /// The socket's read timeout, in nanoseconds; 0 for none, [`UNTOLD`] where it may have one of its maker's.
    patience: u64,
    scratch: Box<[u8]>,
    /// What the next read goes into instead, where the machine has made room there.
    straight: Option<Incoming>,
}

impl<M: Machine, S: Sink<M::Event>> Core<M, S> {
    /// Has one of those woken who wait for whatever comes.
    #[inline]
    pub(super) fn summon(&mut self) {
        if let Some(waker) = self.sink.summon() {
            self.wakers.push(waker);
        }
    }
}

impl<M: Machine, S> Core<M, S> {
    /// There may be room now for one of those who wait for some.
    #[inline]
    pub(super) fn make_room(&mut self) {
        self.unasked = self.room.len();
        self.ask_next();
    }

    /// Somebody who was woken has found no room for himself: perhaps there is some for the next.
    pub(super) fn ask_next(&mut self) {
        if self.unasked > 0
            && let Some(waker) = self.room.pop_front()
        {
            self.unasked -= 1;
            self.wakers.push(waker);
        }
    }

    pub(super) fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        find(&mut self.links, conn)
    }

    pub(super) fn sole(&self) -> Option<ConnId> {
        let mut all = self.links.iter().flatten();
        all.next().filter(|_| all.next().is_none()).map(|link| link.id)
    }

    /// Whether a caller may begin to read as if no time had passed since the clock was read last: nothing is due within two
    /// patiences of a reader, so that he would not have less than one.
    #[inline]
    pub(super) fn is_at_leisure(&mut self, conn: ConnId) -> bool {
        self.wait.nanos_since(self.seen) > 2 * READ_PATIENCE
            && self.link(conn).is_some_and(|link| link.reader.is_some())
    }

    /// The connection, where it may be read now.
    #[inline(always)]
    pub(super) fn readable(&mut self, conn: ConnId) -> Option<&mut Link> {
        // Not even a broken connection, whose end would overtake what the machine does not want yet.
        if self.machine.wants_read(conn) { self.link(conn) } else { None }
    }

    /// Gives the role of the reader back, unless the connection has ended: then there is nothing more to be read.
    #[inline(always)]
    pub(super) fn give_back(&mut self, conn: ConnId, reader: Box<Reader>) {
        match self.link(conn) {
            Some(link) if link.ended.is_none() => link.reader = Some(reader),
            _ => self.spare(reader.scratch),
        }
    }

    #[cold]
    fn spare(&mut self, scratch: Box<[u8]>) {
        if self.scratches.len() < SPARE {
            self.scratches.push(scratch);
        }
    }

    /// Should the role of the reader be free: the caller who waits alone takes it, else the connection's thread, when the
    /// callers are many, have gone, or `sleep`.
    #[inline]
    pub(super) fn pass_on(&mut self, conn: ConnId, sleep: bool) {
        if let Some(link) = find(&mut self.links, conn)
            && (sleep || !link.callers.is_empty())
            && link.reader.is_some()
        {
            self.wakers.extend(link.pass_on());
        }
    }

    /// There is a connection from now on; its socket may come [later](Self::open).
    pub(super) fn admit(&mut self, conn: ConnId) {
        let index = conn.index();
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        if let Some(place) = self.links.get_mut(index) {
            *place = Some(Link {
                id: conn,
                socket: None,
                broken: None,
                ended: None,
                writer: None,
                reader: None,
                incoming: Incoming::default(),
                callers: Vec::new(),
                quiet: true,
                rouse: Arc::default(),
                roused: false,
            });
        }
    }

    /// A connection has been made.
    pub(super) fn open(&mut self, conn: ConnId, socket: Stream) {
        let Some(link) = find(&mut self.links, conn) else { return };
        let socket = Arc::new(socket);
        let scratch = self.scratches.pop().unwrap_or_else(|| vec![0; SCRATCH].into());
        link.reader = Some(Box::new(Reader { socket: Arc::clone(&socket), patience: UNTOLD, scratch, straight: None }));
        link.writer = Some(Arc::clone(&socket));
        link.socket = Some(socket);
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
        self.seen = now;
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
            link.rouse.notify_one();
            link.socket.iter().for_each(|socket| socket.shutdown());
        }
    }

    /// The connection has ended, or was not made.
    #[cold]
    pub(super) fn end(&mut self, conn: ConnId, reason: CloseReason, now: Instant) {
        let Some(link) = self.link(conn) else { return };
        let reason = link.broken.take().unwrap_or(reason);
        if link.is_being_written() {
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
            link.reader.into_iter().for_each(|reader| self.spare(reader.scratch));
        }
    }
}

impl Link {
    /// The role of the reader is free: says who is to be woken for it, or wakes the connection's thread.
    #[cold]
    fn pass_on(&mut self) -> Option<Waker> {
        if let [only] = &self.callers[..] {
            return Some(only.clone());
        }
        self.quiet = true;
        if !core::mem::replace(&mut self.roused, true) {
            self.rouse.notify_one();
        }
        None
    }

    pub(super) const fn is_being_written(&self) -> bool {
        self.writer.is_none() && self.socket.is_some()
    }

    /// Makes ready for a read.
    #[inline]
    pub(super) fn prepare(&mut self, reader: &mut Reader) {
        if self.incoming.has_room() {
            reader.straight = Some(core::mem::take(&mut self.incoming));
        }
    }

    /// Takes what a read has brought.
    #[inline]
    pub(super) fn take_in(&mut self, reader: &mut Reader, result: &io::Result<usize>) {
        if let Some(incoming) = reader.straight.take() {
            self.incoming = incoming;
        } else if let Ok(came) = result {
            self.incoming.append(reader.scratch.get(..*came).unwrap_or_default());
        }
    }
}

impl Reader {
    /// Has the socket read for so many nanoseconds at most, or not much less. What it is told are powers of two, so that it
    /// is seldom told another.
    #[inline]
    fn wait_for(&mut self, patience: Option<u64>) -> io::Result<()> {
        let fits = match patience {
            None => self.patience == 0,
            Some(patience) => (patience / 4 + 1..=patience).contains(&self.patience),
        };
        if fits { Ok(()) } else { self.tell_socket(patience) }
    }

    #[cold]
    fn tell_socket(&mut self, patience: Option<u64>) -> io::Result<()> {
        let millis = patience.map(|nanos| 1 << (nanos / MILLISECOND).max(1).ilog2());
        self.socket.set_read_timeout(millis.map(Duration::from_millis))?;
        self.patience = millis.map_or(0, |millis| millis * MILLISECOND);
        Ok(())
    }

    /// Reads once, by the scratch or straight. With `patience` it waits for so many nanoseconds at most.
    #[inline(always)]
    pub(super) fn read(&mut self, patience: Option<u64>) -> io::Result<usize> {
        self.wait_for(patience)?;
        let Self { socket, scratch, straight, .. } = self;
        match straight {
            Some(incoming) => incoming.read_straight(|into| socket.read(into)),
            None => socket.read(scratch),
        }
    }
}

#[inline]
pub(super) fn find(links: &mut [Option<Link>], conn: ConnId) -> Option<&mut Link> {
    links.get_mut(conn.index())?.as_mut().filter(|link| link.id.generation() == conn.generation())
}

/// Whether a socket's read or write timeout has passed, or a signal has come.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || (cfg!(windows) && error.kind() == ErrorKind::TimedOut)
}
