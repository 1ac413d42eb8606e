//! The two servers that are talked to: gearmand over sockets, ours in memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{self, Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use gearwheel::server::{Config, Server};
use gearwheel::wire::PacketType;
use gearwheel::wire::frame::Magic;
use gearwheel::{CloseReason, ConnId, Input, Instant, Machine, Output, Peer};

use crate::peers::{Gearmand, PATIENCE, wait_until};
use crate::talk::{Conn, Replies, Reply, Step, joined, packet, take};

/// What both servers are told before they start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// gearmand's `--round-robin`, which ours always does.
    pub(crate) round_robin: bool,
    /// gearmand's `--job-retries`.
    pub(crate) job_retries: Option<u32>,
    /// gearmand's `--exceptions`.
    pub(crate) exceptions: bool,
}

const HANDLE_PREFIX: &str = "H:t";

/// Our server, driven directly.
pub(crate) struct Ours {
    server: Server,
    now: Instant,
    conns: Vec<Line>,
}

enum Line {
    Unused,
    Open { id: ConnId, incoming: BytesMut, outgoing: BytesMut },
    Closed,
}

impl Ours {
    pub(crate) fn start(options: Options) -> Self {
        let mut config = Config::new([7; 32]);
        config.handle_prefix = HANDLE_PREFIX.into();
        config.exceptions = options.exceptions;
        // gearmand 1.1 counts the first time, too.
        config.job_retries = options.job_retries.map(|retries| retries - 1);
        let now = Instant::from_epoch(Duration::from_secs(1000));
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        let server = Server::new(config, now, unix_now).expect("the configuration is one");
        Self { server, now, conns: Vec::new() }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Replies {
        if let Step::Wait { millis } = step {
            self.now = self.now + Duration::from_millis(*millis);
            self.server.handle(Input::Tick, self.now);
            return self.replies();
        }
        let conn = step.conn().expect("only waiting has none");
        while self.conns.len() <= conn {
            self.conns.push(Line::Unused);
        }
        if matches!(self.conns[conn], Line::Unused) {
            let id = self.server.accept(Peer::new("127.0.0.1", true), self.now).expect("it accepts");
            self.conns[conn] = Line::Open { id, incoming: BytesMut::new(), outgoing: BytesMut::new() };
        }
        if let Line::Open { id, incoming, .. } = &mut self.conns[conn] {
            let id = *id;
            incoming.extend_from_slice(&step.bytes());
            if !incoming.is_empty() {
                self.server.handle(Input::Data(id, incoming), self.now);
            }
            if matches!(step, Step::Close { .. }) {
                // What it sends to one who has left goes nowhere.
                self.server.handle(Input::Closed(id, CloseReason::Ended), self.now);
                self.conns[conn] = Line::Closed;
            }
        }
        let replies = self.replies();
        self.server.audit();
        replies
    }

    fn replies(&mut self) -> Replies {
        let mut replies = Replies::new();
        loop {
            match self.server.poll() {
                Output::Transmit(id) => {
                    let place = self.conns.iter_mut().find_map(|line| match line {
                        Line::Open { id: this, outgoing, .. } if *this == id => Some(outgoing),
                        _ => None,
                    });
                    let mut out = self.server.outgoing(id);
                    let bytes: Vec<u8> = out.chunks().flat_map(|chunk| chunk.to_vec()).collect();
                    out.advance(bytes.len());
                    place.into_iter().for_each(|place| place.extend_from_slice(&bytes));
                }
                Output::Disconnect(id) => {
                    for (conn, line) in self.conns.iter_mut().enumerate() {
                        if let Line::Open { id: this, outgoing, .. } = line
                            && *this == id
                        {
                            let said = replies.entry(conn).or_default();
                            said.extend(take(outgoing));
                            said.push(Reply::Closed);
                            *line = Line::Closed;
                        }
                    }
                }
                Output::Wait(_) => break,
                Output::Event(_) => {}
                other => panic!("{other:?} was not asked for"),
            }
        }
        for (conn, line) in self.conns.iter_mut().enumerate() {
            if let Line::Open { outgoing, .. } = line
                && !outgoing.is_empty()
            {
                replies.entry(conn).or_default().extend(take(outgoing));
            }
        }
        replies
    }
}

/// gearmand, over sockets.
pub(crate) struct Theirs {
    gearmand: Gearmand,
    conns: Vec<Wire>,
    barriers: u64,
    /// How long it may take to answer before that counts as silence.
    patience: Duration,
}

enum Wire {
    Unused,
    Open {
        socket: TcpStream,
        incoming: BytesMut,
    },
    /// It reads no more of it, or has closed it.
    Over,
}

impl Theirs {
    /// `None`: it is not installed. In random conversations silence is a fault; in scripted ones it may be the point.
    pub(crate) fn start(options: Options, is_scripted: bool) -> Option<Self> {
        let mut arguments = vec!["-t", "0", "--job-handle-prefix=H:t"];
        let retries = options.job_retries.map(|retries| format!("--job-retries={retries}"));
        arguments.extend(retries.as_deref());
        arguments.extend(options.round_robin.then_some("--round-robin"));
        arguments.extend(options.exceptions.then_some("--exceptions"));
        let patience = if is_scripted { Duration::from_millis(300) } else { PATIENCE };
        Some(Self { gearmand: Gearmand::with(&arguments)?, conns: Vec::new(), barriers: 0, patience })
    }

    /// Does a group of steps, all of one connection, in one write; then waits until the server has answered an ECHO_REQ on
    /// every connection, so that all that it does because of them has come.
    pub(crate) fn steps(&mut self, steps: &[Step]) -> Replies {
        let mut replies = Replies::new();
        if let [Step::Wait { millis }] = steps {
            let end = time::Instant::now() + Duration::from_millis(*millis);
            wait_until("so much time has passed", PATIENCE, || time::Instant::now() >= end);
            self.barrier(None, &mut replies);
            return replies;
        }
        let conn = steps.iter().find_map(Step::conn).expect("there is one");
        while self.conns.len() <= conn {
            self.conns.push(Wire::Unused);
        }
        if matches!(self.conns[conn], Wire::Unused) {
            let Ok(socket) = TcpStream::connect(self.gearmand.address()) else {
                replies.entry(conn).or_default().push(Reply::Gone);
                return replies;
            };
            socket.set_nodelay(true).expect("it is open");
            socket.set_read_timeout(Some(self.patience)).expect("more than zero");
            self.conns[conn] = Wire::Open { socket, incoming: BytesMut::new() };
        }
        let bytes: Vec<u8> = steps.iter().flat_map(Step::bytes).collect();
        let closes = steps.iter().any(|step| matches!(step, Step::Close { .. }));
        if closes {
            if let Wire::Open { socket, .. } = &mut self.conns[conn] {
                let _ = socket.write_all(&bytes);
                // Now, whoever else has it: a process that is just being started for another test, say.
                let _ = socket.shutdown(Shutdown::Both);
            }
            self.conns[conn] = Wire::Over;
            // The end of it may come to the server behind the first barrier, in one look at its sockets.
            self.barrier(None, &mut replies);
            self.barrier(None, &mut replies);
        } else {
            self.ask(conn, &bytes, &mut replies);
            self.barrier(Some(conn), &mut replies);
        }
        replies
    }

    /// On every connection but one.
    fn barrier(&mut self, but: Option<Conn>, replies: &mut Replies) {
        for conn in (0..self.conns.len()).filter(|&conn| Some(conn) != but) {
            self.ask(conn, &[], replies);
        }
    }

    /// Writes `bytes` and an ECHO_REQ, and reads up to its reply.
    fn ask(&mut self, conn: Conn, bytes: &[u8], replies: &mut Replies) {
        let Wire::Open { socket, incoming } = &mut self.conns[conn] else { return };
        self.barriers += 1;
        let barrier = format!("barrier {}", self.barriers);
        let out = [bytes, &packet(Magic::Request, PacketType::ECHO_REQ, barrier.as_bytes())].concat();
        let _ = socket.write_all(&out); // One that is closed is seen below.
        let is_barrier = |reply: &Reply| *reply == Reply::Packet(PacketType::ECHO_RES, Bytes::from(barrier.clone()));
        let mut came = Vec::new();
        let mut scratch = [0; 16 << 10];
        let end = loop {
            match socket.read(&mut scratch) {
                Ok(0) => break Some(Reply::Closed),
                Ok(count) => incoming.extend_from_slice(&scratch[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break Some(Reply::Silence);
                }
                Err(_) => break Some(Reply::Closed),
            }
            came.extend(take(incoming));
            if came.last().is_some_and(is_barrier) {
                came.pop();
                break None;
            }
        };
        if let Some(end) = end {
            came.extend(take(incoming));
            came.push(end);
            self.conns[conn] = Wire::Over;
        }
        let came = joined(came);
        if !came.is_empty() {
            replies.entry(conn).or_default().extend(came);
        }
    }
}
