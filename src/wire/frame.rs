//! The 12-byte header, and a stream split into packets without copying.

use bytes::{Buf, Bytes, BytesMut};

use super::HEADER;
use super::table::PacketType;
use crate::excerpt::debug;

/// Room is made for what a packet has announced in steps of what has come of it, so that a header alone claims little.
const FIRST_ROOM: usize = 16 << 10;
/// Room is made for so many times what has come.
const AHEAD: usize = 4;
/// A packet may keep its neighbours alive up to this size.
const LARGE: usize = 64 << 10;
/// The most bytes that a header can announce.
pub(crate) const LARGEST_BODY: usize = u32::MAX as usize;

/// Which way a packet goes, by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// `\0REQ`: to the job server.
    Request,
    /// `\0RES`: from the job server.
    Response,
}

impl Magic {
    /// The four bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        match self {
            Self::Request => *b"\0REQ",
            Self::Response => *b"\0RES",
        }
    }

    #[inline]
    const fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        const REQUEST: u32 = u32::from_ne_bytes(Magic::Request.bytes());
        const RESPONSE: u32 = u32::from_ne_bytes(Magic::Response.bytes());
        match u32::from_ne_bytes(bytes) {
            REQUEST => Some(Self::Request),
            RESPONSE => Some(Self::Response),
            _ => None,
        }
    }
}

/// A packet split off a stream, its arguments not yet looked at.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Which way it goes.
    pub magic: Magic,
    /// Its type, known or not.
    pub kind: PacketType,
    /// Its arguments, a slice of the stream.
    pub body: Bytes,
}

debug!(struct Frame { magic, kind, body });

/// Bytes that are no packet. There is no way to find the next one behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first four bytes are neither magic.
    #[error("a packet begins with {0:02x?} instead of a magic{hint}", hint = hint(.0))]
    BadMagic([u8; 4]),
    /// The header announces more than the limit.
    #[error("{kind} announces {size} bytes; the limit is {limit}")]
    TooLarge {
        /// The type of the packet.
        kind: PacketType,
        /// The bytes it announces.
        size: usize,
        /// The bytes that are allowed.
        limit: usize,
    },
}

/// Said where a packet should be, these come from a peer that speaks TLS: an alert, or the first bytes of a handshake.
const fn hint(magic: &[u8; 4]) -> &'static str {
    if matches!(magic, [0x15 | 0x16, 0x03, ..]) { ": the peer speaks TLS" } else { "" }
}

/// A peer that speaks otherwise may say no more than some bytes.
#[cold]
fn begins_well<T>(stream: &[u8]) -> Result<Option<T>, FrameError> {
    match stream.first_chunk() {
        Some(magic) if Magic::from_bytes(*magic).is_none() => Err(FrameError::BadMagic(*magic)),
        _ => Ok(None),
    }
}

/// Splits the first packet off `stream`. `None`: it is not all there yet, and room for more of it has been made.
///
/// A packet whose body is over `limit` bytes is refused from its header, before any room is made for it.
#[inline(always)]
pub fn split(stream: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some((header, rest)) = stream.split_first_chunk() else { return begins_well(stream) };
    let [magic, kind, size] = fields(header);
    let magic = Magic::from_bytes(magic).ok_or(FrameError::BadMagic(magic))?;
    let head = Head::new(kind, size);
    head.check(limit)?;
    if rest.len() < head.size {
        make_room(stream, head.size);
        return Ok(None);
    }
    Ok(Some(Frame { magic, kind: head.kind, body: head.split(stream, head.size) }))
}

/// The header of the first packet of a stream, which is all there. What is not kept of a packet need not be split off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: PacketType,
    size: usize,
}

impl Head {
    /// As [`split`] does it, but that the packet is left where it lies. Neither calls the other, which made both slower.
    #[inline(always)]
    pub(crate) fn read(stream: &mut BytesMut, limit: usize) -> Result<Option<Self>, FrameError> {
        let Some((header, rest)) = stream.split_first_chunk() else { return begins_well(stream) };
        let [magic, kind, size] = fields(header);
        Magic::from_bytes(magic).ok_or(FrameError::BadMagic(magic))?;
        let head = Self::new(kind, size);
        head.check(limit)?;
        if rest.len() < head.size {
            make_room(stream, head.size);
            return Ok(None);
        }
        Ok(Some(head))
    }

    #[inline]
    fn new(kind: [u8; 4], size: [u8; 4]) -> Self {
        let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
        Self { kind: PacketType::new(u32::from_be_bytes(kind)), size }
    }

    #[inline]
    const fn check(self, limit: usize) -> Result<(), FrameError> {
        let Self { kind, size } = self;
        if size > limit { Err(FrameError::TooLarge { kind, size, limit }) } else { Ok(()) }
    }

    /// The arguments in their place.
    #[inline]
    pub(crate) fn body(self, stream: &[u8]) -> &[u8] {
        stream.get(HEADER..).and_then(|behind| behind.get(..self.size)).unwrap_or_else(nothing)
    }

    /// Takes the packet off its stream, and gives its arguments.
    #[inline]
    pub(crate) fn take(self, stream: &mut BytesMut) -> Bytes {
        self.split(stream, self.size)
    }

    /// Takes the packet off its stream, and gives its last bytes, so many.
    #[inline(always)]
    pub(crate) fn split(self, stream: &mut BytesMut, last: usize) -> Bytes {
        let mut kept = stream.split_to(HEADER + self.size).freeze();
        kept.advance(HEADER + self.size.saturating_sub(last));
        if self.size > LARGE {
            detach(stream, self.size);
        }
        kept
    }

    /// Takes the packet off its stream.
    #[inline]
    pub(crate) fn skip(self, stream: &mut BytesMut) {
        match HEADER + self.size {
            // The room before what comes next need not be found again.
            all if all == stream.len() => stream.clear(),
            taken => stream.advance(taken),
        }
    }
}

/// The type that a packet at the start of `stream` announces, once its header is there.
pub(crate) fn packet_type(stream: &[u8]) -> Option<PacketType> {
    let [_, kind, _] = fields(stream.first_chunk::<HEADER>()?);
    Some(PacketType::new(u32::from_be_bytes(kind)))
}

/// What came behind a large packet moves out of its buffer, which a small packet would keep alive otherwise. Where nothing
/// has come yet, whether the room is used again is the driver's affair.
#[cold]
fn detach(stream: &mut BytesMut, size: usize) {
    if (1..=size).contains(&stream.len()) {
        *stream = BytesMut::from(&stream[..]);
    }
}

/// Apart, so that the way which is never taken costs a branch and no more.
#[cold]
pub(super) const fn nothing<'a>() -> &'a [u8] {
    &[]
}

#[inline]
const fn fields(header: &[u8; HEADER]) -> [[u8; 4]; 3] {
    let [m0, m1, m2, m3, k0, k1, k2, k3, s0, s1, s2, s3] = *header;
    [[m0, m1, m2, m3], [k0, k1, k2, k3], [s0, s1, s2, s3]]
}

/// Room is made as bytes come, when little is left, and for [`AHEAD`] times what has come: a header alone claims nothing, and
/// a large packet is moved seldom.
#[cold]
fn make_room(stream: &mut BytesMut, size: usize) {
    let (come, room) = (stream.len(), stream.capacity() - stream.len());
    let missing = (HEADER + size).saturating_sub(come);
    if come >= FIRST_ROOM && room < missing.min(come / 2) {
        stream.reserve(missing.min(AHEAD * come));
    }
}

/// The header of a packet whose body has `size` bytes.
#[inline]
#[must_use]
pub fn header(magic: Magic, kind: PacketType, size: usize) -> [u8; HEADER] {
    let [m0, m1, m2, m3] = magic.bytes();
    let [k0, k1, k2, k3] = kind.number().to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    [m0, m1, m2, m3, k0, k1, k2, k3, s0, s1, s2, s3]
}
