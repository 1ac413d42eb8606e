//! What becomes of a row of the table: a type that holds one body and knows where its arguments lie.

use core::fmt;

use super::frame::nothing;
use super::table::PacketType;
use crate::excerpt::Excerpt;

/// Who may send a packet type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// One who submits jobs.
    Client,
    /// One who runs jobs.
    Worker,
    /// The job server.
    Server,
}

/// A row of the table as data.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PacketInfo {
    /// The number on the wire.
    pub kind: PacketType,
    /// The protocol's name.
    pub name: &'static str,
    /// Who may send it.
    pub senders: &'static [Sender],
    /// The arguments in order, the opaque one included.
    pub arguments: &'static [&'static str],
    /// Whether the last argument is opaque bytes that may hold NULs.
    pub opaque: bool,
    /// What it means.
    pub doc: &'static str,
}

/// A packet that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The number is in no row of the table.
    #[error("unknown packet type {0}")]
    UnknownType(u32),
    /// Fewer arguments than the type has.
    #[error("{kind} ends before its argument `{argument}`")]
    MissingArgument {
        /// The type of the packet.
        kind: PacketType,
        /// The first argument that is not there.
        argument: &'static str,
    },
}

/// An argument that is not the last one holds a NUL, which would end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argument `{argument}` of {kind} holds a NUL byte")]
pub struct NulInArgument {
    /// The type of the packet.
    pub kind: PacketType,
    /// The name of the argument.
    pub argument: &'static str,
}

impl fmt::Debug for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "packet type {}", self.number()),
        }
    }
}

/// The places of the first `N` NULs. `Err`: how many there were instead.
#[inline(always)]
pub(super) fn separators<const N: usize>(body: &[u8]) -> Result<[u32; N], usize> {
    let mut ends = [0; N];
    let mut nuls = Nuls::new(body);
    for (found, end) in ends.iter_mut().enumerate() {
        *end = nuls.next().ok_or(found)?;
    }
    Ok(ends)
}

/// Finds NULs eight bytes at a time: names are short, so that a call of a vectorised search costs more than it finds.
struct Nuls<'a> {
    ahead: &'a [u8],
    /// Where `ahead` begins.
    start: u32,
    /// The top bit of each NUL in the eight bytes before `ahead`, from the lowest.
    seen: u64,
}

impl<'a> Nuls<'a> {
    #[inline]
    fn new(body: &'a [u8]) -> Self {
        Self { ahead: body.get(..u32::MAX as usize - 8).unwrap_or(body), start: 0, seen: 0 }
    }

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.seen == 0 {
            match self.ahead.split_first_chunk() {
                Some((word, rest)) => {
                    self.seen = zero_bytes(*word);
                    self.ahead = rest;
                }
                None => self.last_bytes()?,
            }
            self.start += 8;
        }
        let place = self.start - 8 + self.seen.trailing_zeros() / 8;
        self.seen &= self.seen - 1;
        Some(place)
    }

    #[cold]
    fn last_bytes(&mut self) -> Option<()> {
        let mut word = [1; 8];
        word.iter_mut().zip(self.ahead).for_each(|(place, byte)| *place = *byte);
        self.ahead = &[];
        self.seen = zero_bytes(word);
        if self.seen == 0 { None } else { Some(()) }
    }
}

/// The top bit of each byte that is zero, in the order of the bytes from the lowest.
#[inline]
const fn zero_bytes(word: [u8; 8]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let word = u64::from_le_bytes(word);
    !(((word & LOW) + LOW) | word | LOW)
}

/// The bytes of argument `index`, given where the NULs before the last argument lie.
#[inline]
pub(super) fn argument<'a>(body: &'a [u8], ends: &[u32], index: usize) -> &'a [u8] {
    let start = index.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |&end| end as usize + 1);
    let found = match ends.get(index) {
        Some(&end) => body.get(start..end as usize),
        None => body.get(start..),
    };
    found.unwrap_or_else(nothing)
}

/// Shows a packet of type `name` by its arguments.
pub(super) fn debug(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    arguments: &[&str],
    body: &[u8],
    ends: &[u32],
) -> fmt::Result {
    let mut packet = f.debug_struct(name);
    for (index, name) in arguments.iter().enumerate() {
        packet.field(name, &Excerpt(argument(body, ends, index)));
    }
    packet.finish()
}

macro_rules! packets {
    ($($(#[doc = $doc:literal])+ $number:literal $NAME:ident $Type:ident [$($sender:ident)*] { $($arg:ident),* $(; $opaque:ident)? })+) => {
        use alloc::vec::Vec;
        use core::fmt;
        use bytes::{Buf, Bytes, BytesMut};
        use super::frame::{Magic, header};
        use super::packets::{argument, debug, separators, DecodeError, NulInArgument, PacketInfo, Sender};

        /// The number of a packet type. A number that no row of the table has stays representable.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct PacketType(u32);

        impl PacketType {
            $($(#[doc = $doc])+ pub const $NAME: Self = Self($number);)+

            /// The type with this number, known or not.
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                self.0
            }

            /// The protocol's name, where the table has the number.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                self.info().map(|info| info.name)
            }

            /// The row of the table, where it has the number.
            #[must_use]
            pub fn info(self) -> Option<&'static PacketInfo> {
                PACKETS.binary_search_by_key(&self, |info| info.kind).ok().and_then(|row| PACKETS.get(row))
            }
        }

        /// The table as data, in the order of the numbers.
        pub const PACKETS: &[PacketInfo] = &[$(PacketInfo {
            kind: PacketType::$NAME,
            name: stringify!($NAME),
            senders: &[$(Sender::$sender),*],
            arguments: &[$(stringify!($arg),)* $(stringify!($opaque))?],
            opaque: false $(|| !stringify!($opaque).is_empty())?,
            doc: concat!($($doc, "\n"),+),
        }),+];

        $(
            $(#[doc = $doc])+
            #[derive(Clone, PartialEq, Eq)]
            pub struct $Type {
                body: Bytes,
                ends: [u32; $Type::ARGUMENTS.len().saturating_sub(1)],
            }

            impl $Type {
                const ARGUMENTS: &'static [&'static str] = &[$(stringify!($arg),)* $(stringify!($opaque))?];

                /// Its type.
                pub const KIND: PacketType = PacketType::$NAME;

                /// A packet with these arguments, which are copied. Only the last one may hold a NUL.
                #[expect(clippy::allow_attributes, reason = "one row in forty has more arguments than clippy likes")]
                #[allow(clippy::too_many_arguments)]
                pub fn new($($arg: &[u8],)* $($opaque: &[u8])?) -> Result<Self, NulInArgument> {
                    let arguments: &[&[u8]] = &[$($arg,)* $($opaque)?];
                    let mut body = Vec::with_capacity(arguments.iter().map(|argument| argument.len() + 1).sum());
                    let mut ends = [0; Self::ARGUMENTS.len().saturating_sub(1)];
                    for (index, bytes) in arguments.iter().enumerate() {
                        body.extend_from_slice(bytes);
                        if let Some(end) = ends.get_mut(index) {
                            if bytes.contains(&0) {
                                return Err(NulInArgument { kind: Self::KIND, argument: Self::ARGUMENTS[index] });
                            }
                            *end = u32::try_from(body.len()).unwrap_or(u32::MAX);
                            body.push(0);
                        }
                    }
                    Ok(Self { body: body.into(), ends })
                }

                /// The packet whose body is `body`. Surplus NULs belong to the last argument.
                #[inline]
                pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
                    match separators(&body) {
                        Ok(ends) => Ok(Self { body, ends }),
                        Err(found) => Err(Self::without(found)),
                    }
                }

                /// The arguments of the packet whose body is `body`, in their place.
                #[inline]
                #[allow(dead_code, reason = "most types are not so frequent that it matters")]
                pub(crate) fn arguments(body: &[u8]) -> Result<[&[u8]; $Type::ARGUMENTS.len()], DecodeError> {
                    let ends: [u32; $Type::ARGUMENTS.len().saturating_sub(1)] = separators(body).map_err(Self::without)?;
                    Ok(core::array::from_fn(|index| argument(body, &ends, index)))
                }

                #[cold]
                fn without(argument: usize) -> DecodeError {
                    let argument = Self::ARGUMENTS.get(argument + 1).copied().unwrap_or_default();
                    DecodeError::MissingArgument { kind: Self::KIND, argument }
                }

                /// Appends the packet, header and all.
                pub fn encode(&self, magic: Magic, out: &mut BytesMut) {
                    out.extend_from_slice(&header(magic, Self::KIND, self.body.len()));
                    out.extend_from_slice(&self.body);
                }

                packets!(@accessors 0usize; $($arg)* $($opaque)?);
                $(packets!(@opaque $opaque);)?
            }

            impl fmt::Debug for $Type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    debug(f, stringify!($Type), Self::ARGUMENTS, &self.body, &self.ends)
                }
            }
        )+

        /// A packet of any type.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[expect(clippy::exhaustive_enums, reason = "the protocol has these and a driver of one's own matches on them")]
        #[allow(missing_docs, reason = "each variant is its type, which has a doc")]
        pub enum Packet {
            $($Type($Type),)+
        }

        impl Packet {
            /// The packet of type `kind` whose body is `body`.
            #[inline]
            pub fn decode(kind: PacketType, body: Bytes) -> Result<Self, DecodeError> {
                match kind {
                    $(PacketType::$NAME => $Type::decode(body).map(Self::$Type),)+
                    PacketType(number) => Err(DecodeError::UnknownType(number)),
                }
            }

            /// Its type.
            #[must_use]
            pub const fn kind(&self) -> PacketType {
                match self {
                    $(Self::$Type(_) => PacketType::$NAME,)+
                }
            }

            /// Its arguments in the order of the table, for whoever shows or passes on packets of any type.
            pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
                let (body, ends): (&[u8], &[u32]) = match self {
                    $(Self::$Type(packet) => (&packet.body, &packet.ends),)+
                };
                let count = self.kind().info().map_or(0, |info| info.arguments.len());
                (0..count).map(move |index| argument(body, ends, index))
            }

            /// Appends the packet, header and all.
            pub fn encode(&self, magic: Magic, out: &mut BytesMut) {
                match self {
                    $(Self::$Type(packet) => packet.encode(magic, out),)+
                }
            }
        }
    };

    (@accessors $index:expr; $arg:ident $($rest:ident)*) => {
        #[doc = concat!("The argument `", stringify!($arg), "`.")]
        #[must_use]
        #[inline]
        pub fn $arg(&self) -> &[u8] {
            argument(&self.body, &self.ends, $index)
        }
        packets!(@accessors $index + 1usize; $($rest)*);
    };
    (@accessors $index:expr;) => {};

    (@opaque $opaque:ident) => {
        /// The opaque argument, as a slice of the packet's body: nothing is copied.
        #[must_use]
        pub fn into_payload(mut self) -> Bytes {
            let start = self.ends.last().map_or(0, |&end| end as usize + 1);
            self.body.advance(start.min(self.body.len()));
            self.body
        }

        /// One of its arguments as a slice of the packet's body: nothing is copied.
        #[allow(dead_code, reason = "most types have no argument that is worth it")]
        pub(crate) fn share(&self, argument: &[u8]) -> Bytes {
            self.body.slice_ref(argument)
        }
    };
}
