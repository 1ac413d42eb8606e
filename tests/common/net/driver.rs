//! What a runtime is to a machine, on the virtual network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use bytes::BytesMut;
use gearwheel::{Batch, CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

use super::{EndId, Fault, HostId, Net, Occurrence, digest};

struct Socket {
    end: EndId,
    up: bool,
    buffer: BytesMut,
    /// The machine has said that it has bytes, and they have not all been taken.
    writing: bool,
}

/// What a runtime is to a machine, and the judge of its contract.
pub struct Driver<M: Machine> {
    pub host: HostId,
    pub machine: M,
    /// What the machine has told its user, for the owner to take.
    pub events: VecDeque<M::Event>,
    sockets: BTreeMap<ConnId, Socket>,
    conns: BTreeMap<EndId, ConnId>,
    /// Each connection there has been, for no id may come twice.
    seen: BTreeSet<ConnId>,
    wait: Option<Instant>,
    timer: u64,
    armed_for: Option<Instant>,
    /// How far the host's clock is ahead of the net's.
    epoch: u64,
    tap: bool,
    /// How long the machine may leave bytes to wait before it says that there are some.
    pub patience: Duration,
    /// How much waits to be written where the machine asks for nothing more.
    pub choked_at: usize,
    /// Less than that waits now, and no tick has told the machine.
    relieved: bool,
    pub inputs: u64,
    pub outputs: u64,
}

/// A TLS alert: all that a machine may have behind its Disconnect.
const LAST_WORD: usize = 64;
/// How many outputs may follow from one input beside those for the packets it brings.
const OUTPUTS: u64 = 100_000;

impl<M: Machine<Event: Debug>> Driver<M> {
    pub fn new(net: &mut Net, host: HostId, machine: M) -> Self {
        let epoch = net.dice.skewed(1 << 50);
        let mut driver = Self {
            host,
            machine,
            events: VecDeque::new(),
            sockets: BTreeMap::new(),
            conns: BTreeMap::new(),
            seen: BTreeSet::new(),
            wait: None,
            timer: 0,
            armed_for: None,
            epoch,
            tap: false,
            patience: Duration::ZERO,
            choked_at: usize::MAX,
            relieved: false,
            inputs: 0,
            outputs: 0,
        };
        driver.settle(net, false);
        driver
    }

    /// Copies what is sent to [`Net::tapped`].
    pub fn tap(&mut self) {
        self.tap = true;
    }

    /// The time on the host's clock.
    pub fn now(&self, net: &Net) -> Instant {
        Instant::from_epoch(Duration::from_nanos(net.now() + self.epoch))
    }

    /// When the machine wants to be told the time, as the net counts it.
    pub fn wait(&self) -> Option<u64> {
        self.wait.map(|at| (at.since_epoch().as_nanos() as u64).saturating_sub(self.epoch))
    }

    pub fn connections(&self) -> usize {
        self.sockets.len()
    }

    /// Does something to the machine, then all that comes of it.
    pub fn act<T>(&mut self, net: &mut Net, act: impl FnOnce(&mut M, Instant) -> T) -> T {
        self.inputs += 1;
        let now = self.now(net);
        let result = act(&mut self.machine, now);
        self.settle(net, false);
        result
    }

    /// Passes an occurrence on to the machine, then does all that comes of it.
    pub fn occur(&mut self, net: &mut Net, occurrence: Occurrence) {
        let now = self.now(net);
        self.inputs += 1;
        let mut ticked = false;
        match occurrence {
            Occurrence::Timer(number) => {
                if number != self.timer {
                    return;
                }
                self.armed_for = None;
                ticked = true;
                self.relieved = false;
                net.note(format_args!("host {} ticks", self.host));
                self.machine.handle(Input::Tick, now);
            }
            Occurrence::Connected(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    if net.is_open(end) {
                        net.note(format_args!("host {} is connected: {conn:?}", self.host));
                        if let Some(socket) = self.sockets.get_mut(&conn) {
                            socket.up = true;
                        }
                        self.machine.handle(Input::Connected(conn), now);
                        net.look_again(end);
                    } else {
                        self.lost(net, conn, CloseReason::Reset);
                    }
                }
            }
            Occurrence::Refused(end, reason) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.lost(net, conn, reason);
                }
            }
            Occurrence::Knock(end) => self.knock(net, end, now),
            Occurrence::Readable(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.read(net, conn);
                }
            }
            Occurrence::Writable(end) => {
                if let Some(conn) = self.conns.get(&end).copied() {
                    self.write(net, conn);
                }
            }
            Occurrence::Errand(_) => {}
        }
        self.settle(net, ticked);
        if net.strikes(Fault::Spurious) {
            self.disturb(net);
        }
    }

    fn knock(&mut self, net: &mut Net, end: EndId, now: Instant) {
        if !net.is_open(end) {
            return;
        }
        match self.machine.accept(Peer::new("10.0.0.1", true), now) {
            Some(conn) => {
                net.note(format_args!("host {} accepts end {end} as {conn:?}", self.host));
                self.open(conn, end, true);
                net.look_again(end);
            }
            None => net.close(end, CloseReason::Reset),
        }
    }

    fn open(&mut self, conn: ConnId, end: EndId, up: bool) {
        assert!(self.seen.insert(conn), "{conn:?} is used again");
        assert!(
            self.sockets.keys().all(|other| other.index() != conn.index()),
            "{conn:?} has the index of a connection that lives"
        );
        self.sockets.insert(conn, Socket { end, up, buffer: BytesMut::new(), writing: false });
        self.conns.insert(end, conn);
    }

    fn forget(&mut self, conn: ConnId) -> Option<EndId> {
        let socket = self.sockets.remove(&conn)?;
        self.conns.remove(&socket.end);
        Some(socket.end)
    }

    /// The connection is gone, or was never made.
    fn lost(&mut self, net: &mut Net, conn: ConnId, reason: CloseReason) {
        net.note(format_args!("host {} loses {conn:?}: {reason:?}", self.host));
        if let Some(end) = self.forget(conn) {
            net.close(end, CloseReason::Reset);
        }
        let now = self.now(net);
        self.machine.handle(Input::Closed(conn, reason), now);
    }

    /// One read, as much of it as luck will have.
    fn read(&mut self, net: &mut Net, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if !socket.up || !self.machine.wants_read(conn) {
            return;
        }
        let most = if net.dice.chance(300) { net.dice.skewed(64) as usize + 1 } else { 64 << 10 };
        match net.read(socket.end, most, &mut socket.buffer) {
            Ok(0) => {}
            Ok(count) => {
                net.note(format_args!("host {} gets {count} bytes on {conn:?}", self.host));
                self.hand_in(net, conn);
            }
            Err(reason) => self.lost(net, conn, reason),
        }
    }

    /// Gives the machine what the buffer holds, and keeps what it leaves.
    fn hand_in(&mut self, net: &mut Net, conn: ConnId) {
        let now = self.now(net);
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        let mut buffer = std::mem::take(&mut socket.buffer);
        self.machine.handle(Input::Data(conn, &mut buffer), now);
        if let Some(socket) = self.sockets.get_mut(&conn) {
            socket.buffer = if buffer.is_empty() { BytesMut::new() } else { buffer };
        }
    }

    /// Writes what there is room for, cut anywhere.
    fn write(&mut self, net: &mut Net, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        loop {
            let mut outgoing = self.machine.outgoing(conn);
            if outgoing.is_empty() {
                socket.writing = false;
                return;
            }
            let room = net.room(socket.end);
            if room == 0 {
                return;
            }
            let most = if net.dice.chance(200) { net.dice.below(room.min(64)) + 1 } else { room };
            let mut bytes = BytesMut::new();
            if net.dice.chance(500) {
                for chunk in outgoing.chunks() {
                    assert!(!chunk.is_empty(), "an empty chunk");
                    bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
                }
            } else {
                let mut batch = Batch::default();
                outgoing.share(4, &mut batch);
                for chunk in batch.chunks() {
                    bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
                }
            }
            assert!(!bytes.is_empty(), "bytes wait, but no chunk has any");
            self.relieved |= outgoing.len() >= self.choked_at;
            outgoing.advance(bytes.len());
            net.note(format_args!(
                "host {} writes {} bytes on {conn:?}: {:016x}",
                self.host,
                bytes.len(),
                digest(&bytes)
            ));
            net.send(socket.end, bytes.freeze());
        }
    }

    /// Does what the machine says until it waits, and sees that it keeps its contract.
    fn settle(&mut self, net: &mut Net, ticked: bool) {
        let mut count = 0;
        let wait = loop {
            count += 1;
            assert!(count < OUTPUTS, "the machine never waits");
            match self.machine.poll() {
                Output::Connect { conn, server, within } => {
                    assert!(within > Duration::ZERO);
                    let end = net.connect(self.host, &server);
                    if self.tap {
                        net.tap(end);
                    }
                    net.note(format_args!("host {} dials {conn:?}: {server}", self.host));
                    self.open(conn, end, false);
                }
                Output::Transmit(conn) => {
                    let socket = self.sockets.get_mut(&conn).expect("Transmit for a connection that is none");
                    assert!(socket.up, "Transmit before {conn:?} stands");
                    assert!(!socket.writing, "Transmit is said twice for {conn:?}");
                    socket.writing = true;
                    self.write(net, conn);
                }
                Output::Resume(conn) => {
                    assert!(self.sockets.contains_key(&conn), "Resume for a connection that is none");
                    assert!(self.machine.wants_read(conn), "Resume, but no wish to read {conn:?}");
                    net.note(format_args!("host {} resumes {conn:?}", self.host));
                    self.hand_in(net, conn);
                    if let Some(socket) = self.sockets.get(&conn) {
                        net.look_again(socket.end);
                    }
                }
                Output::Disconnect(conn) => {
                    let last_word: Vec<u8> = self.machine.outgoing(conn).chunks().flatten().copied().collect();
                    assert!(
                        last_word.len() <= LAST_WORD,
                        "{} bytes for {conn:?} behind its Disconnect",
                        last_word.len()
                    );
                    self.machine.outgoing(conn).advance(last_word.len());
                    let end = self.forget(conn).expect("Disconnect for a connection that is none");
                    if !last_word.is_empty() && last_word.len() <= net.room(end) {
                        net.send(end, last_word.into());
                    }
                    net.note(format_args!("host {} hangs up {conn:?}", self.host));
                    net.close(end, CloseReason::Ended);
                }
                Output::Event(event) => {
                    net.note(format_args!("host {} says {event:?}", self.host));
                    self.events.push_back(event);
                }
                Output::Wait(at) => break at,
            }
        };
        self.outputs += count;
        self.judge(wait, ticked, self.now(net));
        self.arm(net, wait);
    }

    fn arm(&mut self, net: &mut Net, wait: Option<Instant>) {
        self.wait = wait;
        if self.wait != self.armed_for {
            self.timer += 1;
            self.armed_for = self.wait;
            if let Some(at) = self.wait() {
                net.timer(self.host, at.max(net.now()), self.timer);
            }
        }
    }

    fn judge(&mut self, wait: Option<Instant>, ticked: bool, now: Instant) {
        assert!(
            !(ticked && wait.is_some_and(|at| at <= now)),
            "a busy loop: after a tick at {now:?} the next is due at {wait:?}"
        );
        match self.machine.poll() {
            Output::Wait(again) => assert_eq!(again, wait, "Wait changes without a cause"),
            other => panic!("Wait, and then {other:?}"),
        }
        let soon = !self.patience.is_zero() && wait.is_some_and(|at| at <= now + self.patience);
        for (conn, socket) in &self.sockets {
            let waiting = !self.machine.outgoing(*conn).is_empty();
            assert!(!waiting || socket.writing || soon, "bytes wait on {conn:?} of which the driver was not told");
        }
    }

    /// What must do nothing: a tick before its time, time that goes back, inputs for connections that are no more.
    fn disturb(&mut self, net: &mut Net) {
        let now = self.now(net);
        if self.wait.is_some_and(|at| at <= now) {
            return;
        }
        let stale = self.seen.iter().copied().find(|conn| !self.sockets.contains_key(conn));
        let earlier = Instant::from_epoch(now.since_epoch().saturating_sub(Duration::from_secs(net.dice.range(0, 5))));
        let way = net.dice.below(6);
        net.note(format_args!("host {} is disturbed, way {way}", self.host));
        match (way, stale) {
            (0, _) => self.machine.handle(Input::Tick, earlier),
            (1, Some(conn)) => self.machine.handle(Input::Connected(conn), now),
            (2, Some(conn)) => self.machine.handle(Input::Closed(conn, CloseReason::Reset), now),
            (3, Some(conn)) => {
                let mut bytes = BytesMut::from(&b"\0RES\0\0\0\x08\0\0\0\x01x"[..]);
                self.machine.handle(Input::Data(conn, &mut bytes), now);
            }
            (4, Some(conn)) => {
                self.machine.outgoing(conn).advance(100);
                let _ = self.machine.wants_read(conn);
            }
            _ => self.machine.handle(Input::Tick, now),
        }
        match self.machine.poll() {
            Output::Wait(at) => {
                // A tick may show that an upload moves, and so that a reply need not be here yet; or that there is room to
                // ask for more, behind what waits.
                let later = self.relieved || at.is_none_or(|at| self.wait.is_some_and(|before| at >= before));
                assert!(later, "an input that means nothing moved the next deadline from {:?} to {at:?}", self.wait);
                self.arm(net, at);
            }
            // The tick is the first to show that there is room again.
            Output::Transmit(conn) if self.relieved => {
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.writing = true;
                }
                self.write(net, conn);
                self.settle(net, false);
            }
            Output::Transmit(conn) => {
                let bytes: Vec<u8> = self.machine.outgoing(conn).chunks().flatten().copied().collect();
                panic!("an input that means nothing made the machine send {}", bytes.escape_ascii());
            }
            other => panic!("an input that means nothing made the machine say {other:?}"),
        }
    }
}
