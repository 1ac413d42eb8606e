//! TLS on one connection: rustls between the bytes of a socket and those of a machine.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Buf, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, Error, InvalidMessage, ServerConfig};

use crate::machine::{CloseReason, ConnId, Input, Machine};
use crate::outbox::Outbox;
use crate::time::Instant;

/// Encrypted bytes that wait for a driver, beyond which nothing more of the machine is encrypted.
const AHEAD: usize = 96 << 10;
/// Decrypted bytes after which the machine is handed what there is.
const HANDED: usize = 48 << 10;
/// What a connection keeps of each of its buffers while it is quiet.
const KEPT: usize = 4 << 10;
/// The most plaintext in a record.
const RECORD: usize = 16 << 10;
/// What may have come of a handshake message that is not whole. rustls takes none above 64 KiB, but it keeps all of the records
/// that it comes in, which a peer may make as small or as padded as it likes.
const INCOMPLETE: usize = 128 << 10;
/// Room for what a record adds to its plaintext in any version and cipher of TLS.
const OVERHEAD: usize = 64;

/// A connection and its TLS.
pub(super) struct Session {
    pub(super) conn: ConnId,
    side: Side,
    pub(super) phase: Phase,
    /// Of the socket, not yet a whole record. Where rustls is in it, only this very buffer tells.
    raw: BytesMut,
    /// Decrypted, not yet taken by the machine.
    plain: BytesMut,
    /// Encrypted, for the driver.
    pub(super) out: Outbox,
    /// What of the machine is in `out`, from first to last.
    batches: VecDeque<Batch>,
    /// How much of what the machine has to write is in `batches`: until the driver has taken it, the machine has it still.
    held: usize,
    /// The most plaintext that goes into one record.
    record: usize,
    /// The peer has said that nothing more will come.
    pub(super) parted: bool,
    /// The driver knows that there is something to write.
    pub(super) announced: bool,
    /// It is in the list of those that the driver has looked at.
    pub(super) noticed: bool,
    /// When the handshake, or the last alert, must be done.
    pub(super) deadline: Option<Instant>,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

pub(super) enum Phase {
    Handshaking,
    Open,
    /// It ends for this reason once the driver has taken the alert that tells the peer.
    Ending(CloseReason),
}

/// Plaintext of the machine and where it is in the stream of encrypted bytes.
struct Batch {
    plain: usize,
    /// When so many bytes have been taken, the peer may have read some of it.
    readable: u64,
    /// When so many have been, all of it is taken.
    end: u64,
}

/// What has come of the bytes of a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing more for now.
    Nothing,
    /// Something for the machine.
    Data,
    /// The handshake is done.
    Opened,
    /// The peer has parted.
    Goodbye,
}

enum Write<'a> {
    Nothing,
    Data(&'a [u8]),
    Goodbye,
}

#[derive(PartialEq, Eq)]
enum Step {
    Again,
    Idle,
    Written { one_record: bool },
    Goodbye,
}

impl Session {
    pub(super) fn dialled(conn: ConnId, config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let side = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Ok(Self::new(conn, Side::Client(Box::new(side)), config.max_fragment_size))
    }

    pub(super) fn accepted(conn: ConnId, config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let side = UnbufferedServerConnection::new(Arc::clone(config))?;
        Ok(Self::new(conn, Side::Server(Box::new(side)), config.max_fragment_size))
    }

    fn new(conn: ConnId, side: Side, fragment: Option<usize>) -> Self {
        Self {
            conn,
            side,
            phase: Phase::Handshaking,
            raw: BytesMut::new(),
            plain: BytesMut::new(),
            out: Outbox::default(),
            batches: VecDeque::new(),
            held: 0,
            // rustls counts the header of a record among its bytes.
            record: fragment.map_or(RECORD, |most| most.saturating_sub(5).clamp(1, RECORD)),
            parted: false,
            announced: false,
            noticed: false,
            deadline: None,
        }
    }

    pub(super) const fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) const fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Handshaking)
    }

    /// Takes what a socket has brought. To be called until it says that nothing more has come.
    pub(super) fn receive(&mut self, stream: &mut BytesMut) -> Result<Came, Error> {
        if !self.raw.is_empty() {
            self.raw.extend_from_slice(stream);
            stream.clear();
        }
        let before = self.plain.len();
        let came = loop {
            let buffer = if self.raw.is_empty() { &mut *stream } else { &mut self.raw };
            let step = self.side.step(buffer, &mut self.plain, &mut self.out, &Write::Nothing)?;
            if self.is_handshaking() && !self.side.is_handshaking() {
                self.phase = Phase::Open;
                self.parted = step == Step::Goodbye;
                break Came::Opened;
            }
            match step {
                Step::Goodbye => break Came::Goodbye,
                Step::Again if self.plain.len() - before < HANDED => {}
                _ if self.plain.len() > before => break Came::Data,
                _ => break Came::Nothing,
            }
        };
        if !stream.is_empty() {
            self.raw.extend_from_slice(stream);
            stream.clear();
        } else if self.raw.is_empty() && self.raw.capacity() > KEPT {
            self.raw = BytesMut::new();
        }
        if came == Came::Nothing && self.raw.len() > INCOMPLETE {
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        Ok(came)
    }

    /// Hands the machine what has been decrypted, unless it does not want to read.
    pub(super) fn hand_in<M: Machine>(&mut self, machine: &mut M, now: Instant) {
        if !self.plain.is_empty() && machine.wants_read(self.conn) {
            machine.handle(Input::Data(self.conn, &mut self.plain), now);
            if self.plain.is_empty() && self.plain.capacity() > KEPT {
                self.plain = BytesMut::new();
            }
        }
    }

    /// Encrypts what the machine has to write, as long as the driver takes it.
    pub(super) fn encrypt<M: Machine>(&mut self, machine: &mut M, gathered: &mut Vec<u8>) -> Result<(), Error> {
        let outgoing = machine.outgoing(self.conn);
        let mut skip = self.held;
        gathered.clear();
        for chunk in outgoing.chunks() {
            let mut rest = chunk.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(chunk.len());
            while !rest.is_empty() {
                if self.out.waiting() >= AHEAD {
                    return Ok(());
                }
                let (now, later) = rest.split_at(rest.len().min(self.record - gathered.len()));
                rest = later;
                if gathered.is_empty() && now.len() == self.record {
                    self.write(now)?;
                    continue;
                }
                gathered.extend_from_slice(now);
                if gathered.len() == self.record {
                    self.write(gathered)?;
                    gathered.clear();
                }
            }
        }
        if gathered.is_empty() { Ok(()) } else { self.write(gathered) }
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        let before = self.out.end();
        let one_record = self.step_until_written(&Write::Data(data))?;
        let end = self.out.end();
        // Nothing of a record can be read before it is whole.
        let readable = if one_record { end } else { before + 1 };
        self.batches.push_back(Batch { plain: data.len(), readable, end });
        self.held += data.len();
        Ok(())
    }

    /// Tells the machine what of it has been taken, and what may have been.
    pub(super) fn settle<M: Machine>(&mut self, machine: &mut M) {
        if self.held == 0 {
            return;
        }
        let mut taken = 0;
        while let Some(batch) = self.batches.front().filter(|batch| batch.end <= self.out.taken()) {
            taken += batch.plain;
            self.batches.pop_front();
        }
        self.held -= taken;
        let perhaps = self.out.perhaps_taken();
        let perhaps = self.batches.iter().take_while(|batch| batch.readable <= perhaps).map(|batch| batch.plain).sum();
        let mut outgoing = machine.outgoing(self.conn);
        if taken > 0 {
            outgoing.advance(taken);
        }
        outgoing.offer(perhaps);
    }

    /// The driver looks at what is to be written, and may have taken all of it when the machine is asked next.
    pub(super) fn offer<M: Machine>(&self, machine: &mut M) {
        if self.held > 0 {
            machine.outgoing(self.conn).offer(self.held);
        }
    }

    /// Whether the machine has something to write that is not encrypted yet.
    pub(super) fn has_more<M: Machine>(&self, machine: &mut M) -> bool {
        self.may_write() && machine.outgoing(self.conn).len() > self.held
    }

    /// Queues the alert that tells the peer what is wrong, which rustls has ready after an error.
    pub(super) fn last_alert(&mut self) {
        // Not a step further: what comes behind the error is not to be looked at again.
        while self.side.wants_write()
            && let Ok(Step::Again) = self.side.step(&mut self.raw, &mut self.plain, &mut self.out, &Write::Nothing)
        {
        }
        self.plain.clear();
    }

    /// Whether what the machine has to write goes out. A client that has parted still gets the answers to what it has asked;
    /// what a server is asked counts as unsent.
    pub(super) fn may_write(&self) -> bool {
        self.is_open() || self.parted && !self.is_client()
    }

    /// Queues close_notify, where all that was to be written has been taken. Says whether it has.
    pub(super) fn goodbye(&mut self) -> bool {
        (self.is_open() || self.parted)
            && self.held == 0
            && self.out.waiting() == 0
            && self.step_until_written(&Write::Goodbye).is_ok()
    }

    /// Says whether it has become one record.
    fn step_until_written(&mut self, write: &Write<'_>) -> Result<bool, Error> {
        loop {
            match self.side.step(&mut self.raw, &mut self.plain, &mut self.out, write)? {
                Step::Again => {}
                Step::Written { one_record } => return Ok(one_record),
                Step::Goodbye if !self.parted => self.parted = true,
                Step::Goodbye | Step::Idle => return Err(Error::HandshakeNotComplete),
            }
        }
    }
}

impl Side {
    fn wants_write(&self) -> bool {
        match self {
            Self::Client(client) => client.wants_write(),
            Self::Server(server) => server.wants_write(),
        }
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Client(client) => client.is_handshaking(),
            Self::Server(server) => server.is_handshaking(),
        }
    }

    fn step(
        &mut self,
        raw: &mut BytesMut,
        plain: &mut BytesMut,
        out: &mut Outbox,
        write: &Write<'_>,
    ) -> Result<Step, Error> {
        let (done, result) = match self {
            Self::Client(client) => step(client.process_tls_records(raw), plain, out, write),
            Self::Server(server) => step(server.process_tls_records(raw), plain, out, write),
        };
        raw.advance(done.min(raw.len()));
        result
    }
}

/// Does what rustls wants done, or writes. Also says how much of the bytes that came is done with.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut BytesMut,
    out: &mut Outbox,
    write: &Write<'_>,
) -> (usize, Result<Step, Error>) {
    let mut done = status.discard;
    let result = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    plain.extend_from_slice(record.payload);
                    done += record.discard;
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let room = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
                _ => 0,
            };
            out.fill(room, |room| data.encode(room)).map(|()| Step::Again).map_err(general)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Goodbye),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match write {
            Write::Nothing => Ok(Step::Idle),
            Write::Data(data) => put(out, data.len() + OVERHEAD, |room| traffic.encrypt(data, room)),
            Write::Goodbye => put(out, OVERHEAD, |room| traffic.queue_close_notify(room)),
        },
        // Early data is never allowed: see `settings`.
        Ok(_) => Ok(Step::Idle),
    };
    (done, result)
}

/// Writes at once what becomes of the user's bytes, or a last word.
fn put(
    out: &mut Outbox,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<Step, Error> {
    let mut one_record = false;
    let mut write = |room: &mut [u8]| {
        let written = write(room)?;
        let length = room.get(3..5).and_then(|length| length.try_into().ok()).map_or(0, u16::from_be_bytes);
        one_record = 5 + usize::from(length) == written;
        Ok(written)
    };
    let written = match out.fill(room, &mut write) {
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => out.fill(required_size, write),
        result => result,
    };
    written.map(|()| Step::Written { one_record }).map_err(general)
}

fn general(error: impl ToString) -> Error {
    Error::General(error.to_string())
}
