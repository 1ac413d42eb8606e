//! Gearman as pure state machines. (The map of the house follows as it is built.)
#![no_std]
#![warn(clippy::disallowed_types, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod address;
pub mod admin;
mod balancer;
pub mod client;
mod connection;
#[cfg(feature = "encoding")]
pub mod encoding;
mod error;
pub mod guide;
mod job;
#[cfg(feature = "json")]
pub mod json;
mod ketama;
mod link;
mod links;
mod machine;
mod murmur;
mod outbox;
mod random;
pub mod server;
mod time;

pub mod wire;
pub mod worker;

pub use address::{Address, DEFAULT_PORT};
pub use balancer::{Balance, Candidate, Choice, ServerCounters, Strategy};
pub use error::{ConfigError, ProtocolError, Reason, Rejected};
pub use job::{
    Deadlines, Handle, Job, JobId, MAX_CLIENT_ID, MAX_FUNCTION, MAX_UNIQUE, Outcome, Phase, Priority, Retry,
    ServerError, ServerId, Unique,
};
pub use link::{Connecting, LinkState};
pub use machine::{CloseReason, ConnId, Input, Limits, Machine, Outgoing, Output, Peer};
pub use random::Seed;
pub use time::Instant;

#[cfg(feature = "blocking")]
#[path = "../runtimes/mod.rs"]
mod runtimes;
#[cfg(feature = "blocking")]
pub use runtimes::blocking;
