//! The engine on sockets in memory, whose every answer is scripted.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;

use super::dial::STAGGER;
use super::*;
use crate::outbox::Outbox;
use crate::runtimes::handles::{Driven, Sink};
use crate::runtimes::hub::Hub;
use crate::runtimes::listening::Bound;
use crate::runtimes::std::io::IoSlice;
use crate::runtimes::std::net::TcpListener;
use crate::{Outgoing, Peer, ProtocolError};

/// What a socket does next.
#[derive(Default)]
struct Wire {
    /// What reads bring, one by one; then they would block.
    reads: VecDeque<io::Result<usize>>,
    /// How much writes take, one by one; then all of it.
    writes: VecDeque<io::Result<usize>>,
    /// What flushes say, one by one; then that all is sent.
    flushes: VecDeque<io::Result<()>>,
    flush_calls: usize,
    /// It cannot be taken up.
    unfit: bool,
    asked: usize,
    written: Vec<u8>,
    write_calls: usize,
}

type Shared = Rc<RefCell<Wire>>;

#[derive(Default)]
struct Fake {
    accepts: VecDeque<io::Result<Shared>>,
    accept_calls: usize,
    connects: VecDeque<io::Result<Shared>>,
    lookups: Vec<(ConnId, io::Result<Vec<SocketAddr>>)>,
}

fn would_block<T>() -> io::Result<T> {
    Err(ErrorKind::WouldBlock.into())
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 1))
}

impl Net for Fake {
    type Wire = Shared;
    type Connecting = Option<io::Result<Shared>>;
    type Listener = ();
    type Given = Shared;

    fn waker(&mut self, _: Place) -> Waker {
        Waker::noop().clone()
    }

    fn listen(&mut self, _: Bound, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self, (): &(), _: &mut Context<'_>) -> io::Result<(Shared, Option<SocketAddr>)> {
        self.accept_calls += 1;
        Ok((self.accepts.pop_front().unwrap_or_else(would_block)?, Some(address(9))))
    }

    fn resolve(&mut self, _: ConnId, _: &Address) -> io::Result<Vec<SocketAddr>> {
        would_block()
    }

    fn found(&mut self) -> Vec<(ConnId, io::Result<Vec<SocketAddr>>)> {
        core::mem::take(&mut self.lookups)
    }

    fn connect(&mut self, _: &Target, _: usize) -> io::Result<Self::Connecting> {
        Ok(Some(self.connects.pop_front().unwrap_or_else(would_block)))
    }

    fn connected(&mut self, attempt: &mut Self::Connecting, _: &mut Context<'_>) -> io::Result<Shared> {
        match attempt.take() {
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                *attempt = Some(would_block());
                would_block()
            }
            ended => ended.unwrap_or_else(would_block),
        }
    }

    fn adopt(&mut self, given: Shared) -> io::Result<Shared> {
        if given.borrow().unfit { Err(ErrorKind::ConnectionReset.into()) } else { Ok(given) }
    }

    fn attempt(&mut self, stream: Shared, _: usize) -> io::Result<Self::Connecting> {
        Ok(Some(Ok(stream)))
    }

    fn opened(&mut self, _: &mut Shared, _: usize, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn readable(&mut self, _: &Shared, _: &mut Context<'_>) -> bool {
        false
    }

    fn read(&mut self, stream: &mut Shared, _: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = stream.borrow_mut();
        wire.asked += 1;
        let count = wire.reads.pop_front().unwrap_or_else(would_block)?.min(into.len());
        into[..count].fill(b'x');
        Ok(count)
    }

    fn write(&mut self, stream: &mut Shared, _: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = stream.borrow_mut();
        wire.write_calls += 1;
        let all: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        let count = wire.writes.pop_front().unwrap_or(Ok(all.len()))?.min(all.len());
        wire.written.extend_from_slice(&all[..count]);
        Ok(count)
    }

    fn flush(&mut self, stream: &mut Shared, _: &mut Context<'_>) -> io::Result<()> {
        let mut wire = stream.borrow_mut();
        wire.flush_calls += 1;
        wire.flushes.pop_front().unwrap_or(Ok(()))
    }
}

/// Answers a line to every input, and tells its user of it.
#[derive(Default)]
struct Toy {
    outputs: VecDeque<Output<Told>>,
    out: BTreeMap<ConnId, Outbox>,
    paused: bool,
    full: bool,
    accepted: u32,
    ticks: usize,
    wait: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Up(ConnId),
    Got(ConnId, usize),
    Down(ConnId, CloseReason),
}

impl Toy {
    fn say(&mut self, conn: ConnId, text: &[u8]) {
        if self.out.entry(conn).or_default().text(text) {
            self.outputs.push_back(Output::Transmit(conn));
        }
    }

    fn dial(&mut self, conn: ConnId, host: &str) {
        let server = Address::new(host, 1).expect("a host");
        self.outputs.push_back(Output::Connect { conn, server, within: Duration::from_secs(1) });
    }
}

impl Machine for Toy {
    type Event = Told;

    fn handle(&mut self, input: Input<'_>, _: Instant) {
        let told = match input {
            Input::Connected(conn) => Told::Up(conn),
            Input::Closed(conn, reason) => Told::Down(conn, reason),
            Input::Tick => {
                self.ticks += 1;
                self.wait = None;
                return;
            }
            Input::Data(conn, bytes) if !self.paused => {
                self.say(conn, b"line\n");
                Told::Got(conn, bytes.split().len())
            }
            Input::Data(..) => return,
        };
        self.outputs.push_back(Output::Event(told));
    }

    fn poll(&mut self) -> Output<Told> {
        self.outputs.pop_front().unwrap_or(Output::Wait(self.wait))
    }

    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        Outgoing::new(self.out.get_mut(&conn))
    }

    fn wants_read(&self, _: ConnId) -> bool {
        !self.paused
    }

    fn accept(&mut self, _: Peer<'_>, _: Instant) -> Option<ConnId> {
        self.accepted += 1;
        Some(conn(self.accepted - 1))
    }

    fn wants_accept(&self) -> bool {
        !self.full
    }
}

impl Driven for Toy {
    fn close(&mut self, _: Instant) {}

    fn drain(&mut self, _: Instant) {}

    fn unfinished(&self) -> usize {
        0
    }

    fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    fn is_last(_: &Told) -> bool {
        false
    }
}

fn conn(index: u32) -> ConnId {
    ConnId::new(index, 0)
}

/// An engine with `count` accepted connections, and their wires.
fn with_connections(count: u32) -> (Sockets<Fake>, Toy, Vec<Shared>) {
    let wires: Vec<Shared> = (0..count).map(|_| Shared::default()).collect();
    let mut sockets = Sockets::new(Fake::default(), Clock::start());
    sockets.net.accepts = wires.iter().cloned().map(Ok).collect();
    sockets.listen(TcpListener::bind("127.0.0.1:0").expect("a port").into()).expect("it is a fake");
    let mut toy = Toy::default();
    assert_eq!(sockets.next(&mut toy), None);
    assert_eq!(toy.accepted, count);
    (sockets, toy, wires)
}

fn turn(sockets: &mut Sockets<Fake>, toy: &mut Toy) -> Vec<Told> {
    core::iter::from_fn(|| sockets.next(toy)).collect()
}

fn wake(sockets: &mut Sockets<Fake>, index: usize) {
    sockets.wake(Place::Slot(index), false);
}

#[test]
fn a_flood_on_one_connection_starves_no_other() {
    let (mut sockets, mut toy, wires) = with_connections(2);
    wires[0].borrow_mut().reads.extend((0..100).map(|_| Ok(SCRATCH)));
    wires[1].borrow_mut().reads.push_back(Ok(1));
    wake(&mut sockets, 0);
    wake(&mut sockets, 1);
    let told = turn(&mut sockets, &mut toy);
    let bytes = |told: &[Told], of: u32| -> usize {
        told.iter()
            .map(|told| {
                if let Told::Got(from, count) = told
                    && *from == conn(of)
                {
                    *count
                } else {
                    0
                }
            })
            .sum()
    };
    assert_eq!((bytes(&told, 0), bytes(&told, 1)), (READ_A_TURN, 1));
    assert_eq!(sockets.deadline(), Some(Instant::EPOCH), "there is more at once");
    for _ in 0..100 {
        turn(&mut sockets, &mut toy);
    }
    assert_eq!(sockets.deadline(), None);
    assert!(wires[0].borrow().reads.is_empty());
}

#[test]
fn a_turn_writes_once_a_connection_and_reads_once_where_little_came() {
    let (mut sockets, mut toy, wires) = with_connections(3);
    for (index, wire) in wires.iter().enumerate() {
        wire.borrow_mut().reads.push_back(Ok(10));
        wake(&mut sockets, index);
    }
    let mut answered = 0;
    while let Some(event) = sockets.next(&mut toy) {
        // The user has his say before anything is written.
        let Told::Got(from, 10) = event else { panic!("{event:?}") };
        toy.say(conn(0), b"more\n");
        toy.say(from, b"more\n");
        answered += 1;
    }
    assert_eq!(answered, 3);
    for (wire, written) in wires.iter().zip([25, 10, 10]) {
        let wire = wire.borrow();
        assert_eq!((wire.asked, wire.write_calls, wire.written.len()), (1, 1, written));
    }
}

#[test]
fn a_turn_that_puts_writes_off_leaves_them_to_the_next() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().reads.push_back(Ok(10));
    wake(&mut sockets, 0);
    sockets.put_writes_off(true);
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Got(conn(0), 10)]);
    assert_eq!((wires[0].borrow().write_calls, sockets.deadline()), (0, Some(Instant::EPOCH)));
    toy.say(conn(0), b"more\n");
    sockets.put_writes_off(false);
    assert!(turn(&mut sockets, &mut toy).is_empty());
    let wire = wires[0].borrow();
    assert_eq!((wire.write_calls, &wire.written[..], sockets.deadline()), (1, &b"line\nmore\n"[..], None));
}

#[test]
fn what_a_machine_says_is_heeded_without_a_read_or_a_write() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().reads.push_back(Ok(10));
    wake(&mut sockets, 0);
    toy.say(conn(0), b"more\n");
    toy.outputs.push_back(Output::Event(Told::Up(conn(0))));
    let mut told = Vec::new();
    loop {
        match toy.poll() {
            Output::Event(event) => told.push(event),
            output => {
                if !sockets.obey(output, &mut toy) {
                    break;
                }
            }
        }
    }
    assert_eq!(told, [Told::Up(conn(0))]);
    assert_eq!((wires[0].borrow().asked, wires[0].borrow().write_calls), (0, 0));
    assert_eq!(sockets.deadline(), Some(Instant::EPOCH));
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Got(conn(0), 10)]);
    assert_eq!(wires[0].borrow().written, b"more\nline\n");
}

#[test]
fn a_hub_whose_sink_may_put_off_reads_and_writes_when_nothing_more_is_told_or_after_so_many_turns() {
    struct Put(bool);

    impl Sink<Told> for Put {
        fn take(&mut self, event: Told, _: &mut Vec<Waker>) -> Option<Told> {
            Some(event)
        }

        fn may_put_off(&self) -> bool {
            self.0
        }
    }

    let (mut sockets, toy, wires) = with_connections(1);
    let hub = Hub::new(toy, Put(true), sockets.clock());
    let mut turns = |tell: bool| {
        let mut heard = Vec::new();
        hub.call(|toy, _, _| {
            toy.say(conn(0), b"x");
            toy.outputs.extend(tell.then_some(Output::Event(Told::Up(conn(0)))));
        });
        let turn = hub.turn(&mut sockets, &mut heard);
        assert_eq!(heard.len(), usize::from(tell));
        let written = wires[0].borrow().written.len();
        assert_eq!(turn.next, if written == 0 { Some(Instant::EPOCH) } else { None });
        written
    };
    assert_eq!([true, true, false].map(&mut turns), [0, 0, 3]);
    wires[0].borrow_mut().written.clear();
    let first = (1..1000).find(|_| turns(true) > 0).expect("not for ever");
    assert!((16..64).contains(&first), "after {first} turns");
    assert_eq!(wires[0].borrow().written.len(), first);
    hub.call(|_, put, _| put.0 = false);
    wires[0].borrow_mut().written.clear();
    assert_eq!(turns(true), 1);
}

#[test]
fn spurious_wakes_and_stale_names_do_nothing() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    for place in [Place::Slot(0), Place::Slot(7), Place::Door(0), Place::Door(7), Place::Clock, Place::Job(3)] {
        sockets.wake(place, false);
    }
    let stale = ConnId::new(0, 9);
    toy.outputs.extend([Output::Disconnect(stale), Output::Transmit(stale), Output::Resume(stale)]);
    sockets.resolved(&mut toy, stale, Ok(Vec::from([address(1)])));
    assert!(turn(&mut sockets, &mut toy).is_empty());
    assert_eq!(sockets.deadline(), None);
    wires[0].borrow_mut().reads.push_back(Ok(5));
    wake(&mut sockets, 0);
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Got(conn(0), 5)]);
}

#[test]
fn a_full_socket_is_written_on_when_it_wakes() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().writes.extend([Ok(3), would_block()]);
    toy.say(conn(0), b"0123456789");
    turn(&mut sockets, &mut toy);
    toy.say(conn(0), b"ab");
    turn(&mut sockets, &mut toy);
    assert_eq!(wires[0].borrow().written, b"012");
    assert_eq!(wires[0].borrow().write_calls, 2, "nobody tries before the wake");
    assert!(!sockets.is_flushed());
    wake(&mut sockets, 0);
    turn(&mut sockets, &mut toy);
    assert_eq!(wires[0].borrow().written, b"0123456789ab");
    assert!(sockets.is_flushed());
}

#[test]
fn a_peer_that_takes_little_by_little_gets_its_share_of_a_turn() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().writes.extend((0..100).map(|_| Ok(1)));
    toy.say(conn(0), &[b'z'; 100]);
    turn(&mut sockets, &mut toy);
    assert_eq!(wires[0].borrow().write_calls, WRITES_A_TURN);
    assert_eq!(sockets.deadline(), Some(Instant::EPOCH));
    assert!(!sockets.is_flushed());
    for _ in 0..10 {
        turn(&mut sockets, &mut toy);
    }
    assert_eq!((wires[0].borrow().written.len(), sockets.deadline()), (100, None));
    assert!(sockets.is_flushed());
}

#[test]
fn what_the_peer_sent_before_it_hung_up_is_read() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().writes.push_back(Err(ErrorKind::BrokenPipe.into()));
    wires[0].borrow_mut().reads.extend([Ok(7), Ok(8)]);
    toy.say(conn(0), b"too late");
    let mut told = turn(&mut sockets, &mut toy);
    for _ in 0..3 {
        told.extend(turn(&mut sockets, &mut toy));
    }
    let got: usize = told.iter().map(|told| if let Told::Got(_, count) = told { *count } else { 0 }).sum();
    assert_eq!((got, told.last()), (15, Some(&Told::Down(conn(0), CloseReason::Reset))), "{told:?}");
    assert_eq!(sockets.deadline(), None);
}

#[test]
fn the_end_of_a_stream_is_told_once() {
    let (mut sockets, mut toy, wires) = with_connections(2);
    wires[0].borrow_mut().reads.extend([Ok(4), Ok(0)]);
    wires[1].borrow_mut().reads.push_back(Err(ErrorKind::ConnectionReset.into()));
    sockets.wake(Place::Slot(0), true);
    wake(&mut sockets, 1);
    let told = turn(&mut sockets, &mut toy);
    assert_eq!(
        told,
        [Told::Got(conn(0), 4), Told::Down(conn(0), CloseReason::Ended), Told::Down(conn(1), CloseReason::Reset)]
    );
    wake(&mut sockets, 0);
    wake(&mut sockets, 1);
    assert!(turn(&mut sockets, &mut toy).is_empty());
}

#[test]
fn a_paused_connection_is_not_read_until_it_resumes() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    toy.paused = true;
    wires[0].borrow_mut().reads.push_back(Ok(6));
    wake(&mut sockets, 0);
    assert!(turn(&mut sockets, &mut toy).is_empty());
    assert_eq!((wires[0].borrow().asked, sockets.deadline()), (0, None), "no spinning meanwhile");
    toy.paused = false;
    toy.outputs.push_back(Output::Resume(conn(0)));
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Got(conn(0), 0), Told::Got(conn(0), 6)]);
}

#[test]
fn without_descriptors_the_listener_is_left_alone() {
    let (mut sockets, mut toy, _wires) = with_connections(0);
    sockets.net.accepts.push_back(Err(io::Error::other("too many open files")));
    sockets.net.accepts.push_back(Ok(Shared::default()));
    sockets.wake(Place::Door(0), false);
    let before = sockets.net.accept_calls;
    for _ in 0..100 {
        turn(&mut sockets, &mut toy);
    }
    assert_eq!((sockets.net.accept_calls - before, toy.accepted), (1, 0));
    let until = sockets.deadline().expect("it is asked again");
    assert!(until > sockets.clock().now() && until <= sockets.clock().now() + ACCEPT_PAUSE);
}

#[test]
fn a_listener_that_was_left_alone_is_no_reason_to_spin_when_nobody_knocks_or_may_come_in() {
    for full in [false, true] {
        let (mut sockets, mut toy, _wires) = with_connections(0);
        sockets.net.accepts.push_back(Err(io::Error::other("too many open files")));
        sockets.wake(Place::Door(0), false);
        turn(&mut sockets, &mut toy);
        assert!(sockets.deadline().is_some());
        sockets.doors[0].until = Some(Instant::EPOCH);
        toy.full = full;
        turn(&mut sockets, &mut toy);
        assert_eq!(sockets.deadline(), None);
        toy.full = false;
        sockets.net.accepts.push_back(Ok(Shared::default()));
        sockets.wake(Place::Door(0), false);
        turn(&mut sockets, &mut toy);
        assert_eq!(toy.accepted, 1);
    }
}

#[test]
fn an_accept_that_failed_for_its_own_connection_is_passed_over() {
    let (mut sockets, mut toy, _wires) = with_connections(0);
    sockets.net.accepts.extend([Err(ErrorKind::ConnectionAborted.into()), Ok(Shared::default())]);
    sockets.wake(Place::Door(0), false);
    turn(&mut sockets, &mut toy);
    assert_eq!(toy.accepted, 1);
    sockets.net.accepts.extend((0..100).map(|_| Ok(Shared::default())));
    sockets.wake(Place::Door(0), false);
    turn(&mut sockets, &mut toy);
    assert_eq!(toy.accepted as usize, 1 + ACCEPTED_A_TURN, "a crowd waits for the next turn");
    assert_eq!(sockets.deadline(), Some(Instant::EPOCH));
    toy.full = true;
    turn(&mut sockets, &mut toy);
    assert_eq!(sockets.deadline(), None, "a full server is no reason to spin");
    toy.full = false;
    turn(&mut sockets, &mut toy);
    assert_eq!(toy.accepted, 101);
}

#[test]
fn the_addresses_of_a_host_are_tried_in_turn() {
    let (mut sockets, mut toy) = (Sockets::new(Fake::default(), Clock::start()), Toy::default());
    let refused = || Err(ErrorKind::ConnectionRefused.into());
    toy.dial(conn(0), "host");
    assert!(turn(&mut sockets, &mut toy).is_empty());
    sockets.net.connects.extend([refused(), Ok(Shared::default())]);
    sockets.net.lookups.push((conn(0), Ok(Vec::from([address(1), address(2)]))));
    wake(&mut sockets, 0);
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Up(conn(0))]);

    toy.dial(conn(1), "10.0.0.1");
    sockets.net.connects.push_back(refused());
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Down(conn(1), CloseReason::Refused)]);

    toy.dial(conn(2), "nowhere");
    turn(&mut sockets, &mut toy);
    sockets.resolved(&mut toy, conn(2), Ok(Vec::new()));
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Down(conn(2), CloseReason::Unresolved)]);
    assert_eq!(sockets.deadline(), None);
}

#[test]
fn what_is_told_along_with_a_connection_is_not_forgotten() {
    let (mut sockets, mut toy) = (Sockets::new(Fake::default(), Clock::start()), Toy::default());
    for (index, end) in [(0, Ok(0)), (1, would_block())] {
        toy.dial(conn(index), "host");
        turn(&mut sockets, &mut toy);
        let (wire, ended) = (Shared::default(), end.is_ok());
        wire.borrow_mut().reads.extend([Ok(3), end]);
        sockets.net.connects.push_back(Ok(wire));
        sockets.net.lookups.push((conn(index), Ok(Vec::from([address(1)]))));
        sockets.wake(Place::Slot(index as usize), true);
        assert_eq!(turn(&mut sockets, &mut toy), [Told::Up(conn(index))]);
        assert_eq!(sockets.deadline(), Some(Instant::EPOCH));
        let told = turn(&mut sockets, &mut toy);
        assert_eq!(told.first(), Some(&Told::Got(conn(index), 3)));
        assert_eq!(told.get(1), ended.then_some(&Told::Down(conn(index), CloseReason::Ended)));
    }
}

#[test]
fn an_address_that_is_slow_to_answer_has_the_next_tried_beside_it() {
    let (mut sockets, mut toy) = (Sockets::new(Fake::default(), Clock::start()), Toy::default());
    toy.dial(conn(0), "host");
    turn(&mut sockets, &mut toy);
    sockets.resolved(&mut toy, conn(0), Ok(Vec::from([address(1), address(2)])));
    assert!(turn(&mut sockets, &mut toy).is_empty());
    let next = sockets.deadline().expect("the next address has its time");
    assert!(next > sockets.clock().now() && next <= sockets.clock().now() + STAGGER);
    toy.outputs.push_back(Output::Disconnect(conn(0)));
    turn(&mut sockets, &mut toy);
    assert_eq!(sockets.deadline(), None, "a connection given up has no time any more");
}

#[test]
fn a_tick_comes_when_its_time_has_come() {
    let (mut sockets, mut toy) = (Sockets::new(Fake::default(), Clock::start()), Toy::default());
    let far = sockets.clock().now() + Duration::from_secs(3600);
    toy.wait = Some(far);
    turn(&mut sockets, &mut toy);
    toy.ticks = 0;
    toy.wait = Some(far);
    turn(&mut sockets, &mut toy);
    assert_eq!((toy.ticks, sockets.deadline()), (0, Some(far)));
    toy.wait = Some(sockets.clock().now());
    turn(&mut sockets, &mut toy);
    turn(&mut sockets, &mut toy);
    assert_eq!((toy.ticks, sockets.deadline()), (1, None));
}

#[test]
fn a_machine_may_close_a_connection_for_what_came() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().reads.push_back(Ok(1));
    wake(&mut sockets, 0);
    let reason = CloseReason::Protocol(ProtocolError::BadReply);
    toy.outputs.extend([Output::Event(Told::Down(conn(0), reason.clone())), Output::Disconnect(conn(0))]);
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Down(conn(0), reason)]);
    assert_eq!(Rc::strong_count(&wires[0]), 1, "the socket is closed");
}

#[test]
fn what_an_object_holds_back_is_flushed_until_it_is_sent() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().flushes.extend([would_block(), would_block()]);
    toy.say(conn(0), b"0123456789");
    turn(&mut sockets, &mut toy);
    assert_eq!((wires[0].borrow().written.len(), wires[0].borrow().flush_calls), (10, 1));
    assert!(!sockets.is_flushed());
    turn(&mut sockets, &mut toy);
    assert_eq!((wires[0].borrow().flush_calls, sockets.deadline()), (1, None), "nobody tries before the wake");
    for calls in [2, 3, 3] {
        wake(&mut sockets, 0);
        turn(&mut sockets, &mut toy);
        assert_eq!(wires[0].borrow().flush_calls, calls);
    }
    assert_eq!((wires[0].borrow().write_calls, sockets.is_flushed()), (1, true));
}

#[test]
fn a_connection_that_the_user_makes_is_asked_for_once() {
    let (mut sockets, mut toy) = (Sockets::new(Fake::default(), Clock::start()), Toy::default());
    sockets.entrust();
    toy.dial(conn(0), "host");
    toy.dial(conn(1), "host");
    toy.dial(conn(2), "host");
    assert!(turn(&mut sockets, &mut toy).is_empty());
    toy.outputs.push_back(Output::Disconnect(conn(2)));
    assert!(turn(&mut sockets, &mut toy).is_empty());
    let wanted: Vec<_> = core::iter::from_fn(|| sockets.wanted()).map(|(conn, _)| conn).collect();
    assert_eq!(wanted, [conn(0), conn(1)], "one was given up");
    assert_eq!(sockets.deadline(), None);
    sockets.made(conn(0), Ok(Shared::default()));
    sockets.made(conn(1), Err(io::Error::other("no way through the proxy")));
    sockets.made(conn(2), Ok(Shared::default()));
    let reason = CloseReason::Failed("no way through the proxy".into());
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Up(conn(0)), Told::Down(conn(1), reason)]);
    sockets.made(conn(0), Err(ErrorKind::Other.into()));
    assert!(turn(&mut sockets, &mut toy).is_empty(), "what is made is made");
}

#[test]
fn a_stream_that_is_handed_over_waits_for_room() {
    let (mut sockets, mut toy, _wires) = with_connections(0);
    toy.full = true;
    sockets.arrive(Shared::default(), Visitor::called(Peer::new("there", false)));
    assert!(turn(&mut sockets, &mut toy).is_empty());
    assert_eq!((toy.accepted, sockets.deadline()), (0, None), "no spinning meanwhile");
    toy.full = false;
    let unfit = Shared::default();
    unfit.borrow_mut().unfit = true;
    sockets.arrive(unfit, Visitor::called(Peer::new("there", false)));
    assert_eq!(turn(&mut sockets, &mut toy), [Told::Down(conn(1), CloseReason::Reset)]);
    assert_eq!(toy.accepted, 2);
    let late = Shared::default();
    sockets.arrive(late.clone(), Visitor::called(Peer::new("there", false)));
    sockets.shut_doors();
    assert!(turn(&mut sockets, &mut toy).is_empty());
    assert_eq!((toy.accepted, Rc::strong_count(&late)), (2, 1), "it is closed");
}

#[test]
fn an_object_gets_a_last_chance_to_send_what_it_holds() {
    let (mut sockets, mut toy, wires) = with_connections(1);
    wires[0].borrow_mut().flushes.push_back(would_block());
    toy.say(conn(0), b"goodbye");
    turn(&mut sockets, &mut toy);
    toy.outputs.push_back(Output::Disconnect(conn(0)));
    turn(&mut sockets, &mut toy);
    assert_eq!((wires[0].borrow().flush_calls, Rc::strong_count(&wires[0])), (2, 1), "it is closed");
}
