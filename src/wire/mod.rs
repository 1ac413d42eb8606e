//! The wire: packets and text lines as bytes, and nothing of what they mean.
//!
//! [`table`] declares every packet type once; [`packets`](self) makes of each row a type with named arguments; [`frame`]
//! splits a stream into packets; [`admin`] is the text protocol, both ways.

pub mod admin;
pub mod frame;
#[macro_use]
mod packets;
pub mod table;

pub(crate) use frame::Head;
pub use frame::{Frame, Magic, split};
pub use packets::{DecodeError, NulInArgument, PacketInfo, Sender};
pub use table::{PACKETS, Packet, PacketType};

/// The bytes of a packet header: magic, type, size.
pub const HEADER: usize = 12;
