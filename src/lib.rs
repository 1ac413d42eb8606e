//! Gearman as pure state machines: a client, a worker and a job server that take bytes and time, and answer with actions and
//! events. Thin runtimes drive them on blocking sockets, mio, smol or tokio; your own event loop can, too.
//!
//! # In ten minutes
//!
//! Gearman is a job system. Clients submit jobs, each a *function* and a *payload*, to a *job server*; workers that can run
//! the function take them; results flow back. Foreground jobs tell their client how they go; background jobs only queue.
//!
//! The job server can be gearmand, or the one in this crate: it needs no installation, for one machine and for tests.
#![cfg_attr(feature = "blocking", doc = include_str!("../docs/first-program.md"))]
//!
//! **Nothing is lost in silence.** Each submission that was accepted ends in exactly one [`Outcome`]: its result, its failure
//! or exception, or what became of it and how far it had come ([`Phase`]) when a connection, a server or a deadline ended it.
//! [What happens when](guide::what_happens_when) is a table of every fault, and each row is a test.
//!
//! **Several job servers** share the work by a [`Balance`] of your choice. One that fails is kept away from and comes back;
//! jobs move on as their [`Retry`] allows. Clients and workers reconnect by themselves, workers with their functions.
//!
//! **Deadlines** ([`Deadlines`], [`Connecting`]) bound every wait; [`Limits`] bound every queue.
//!
//! Read on in the [guide].
//!
//! # The map
//!
//! ```text
//!  socket ──bytes──▶ wire ─▶ connection ─▶ link ─▶ client │ worker ─▶ Event ──▶ your code
//!  socket ◀─chunks── outbox ◀─────────── balancer ◀── submit() │ complete() ◀── your code
//!                         server: peer ─▶ queue ─▶ peer
//! ```
//!
//! - [`Machine`] is all that a driver must know; [`client`], [`worker`], [`server`] and [`admin`] are machines.
//! - [`Job`] and [`Outcome`] are what goes in and how it ends.
//! - [`memory`] joins client, worker and server without sockets, for unit tests.
#![cfg_attr(feature = "tls", doc = "- [`tls`] is a machine around a machine: encryption for any of them.")]
//! - [`wire`] has every packet type, from one table, and the text protocol.
#![cfg_attr(feature = "blocking", doc = "- [`blocking`]: threads and blocking sockets, no dependency.")]
#![cfg_attr(feature = "mio", doc = "- [`mio`]: inside a `mio::Poll` that you own, or a turnkey loop.")]
#![cfg_attr(feature = "smol", doc = "- [`smol`]: futures on async-io, on any executor.")]
#![cfg_attr(feature = "tokio", doc = "- [`tokio`]: the same words on tokio.")]
//!
//! # Features
//!
//! | feature | adds | for |
//! | --- | --- | --- |
//! | `blocking` (default) | nothing | threads |
//! | `mio` | mio, socket2, on Linux rustix | a loop of your own, thousands of connections on one thread |
//! | `smol` | async-io, futures-core, futures-io, socket2 | async without tokio |
//! | `tokio` | tokio, futures-core, socket2 | programs on tokio |
//! | `encoding` | data-encoding | text payloads by Node's names of encodings |
//! | `json` | serde, serde_json | JSON payloads |
//! | `tls` | rustls, with ring | encrypted connections, on any runtime and loop: see [security](guide::security) |
//! | `tracing` | tracing | spans and events for logs: see [observing](guide::observing) |
//!
//! Without any feature the crate is the bare machines, `no_std` with `alloc`. `src/` never touches a socket, a thread or a
//! clock, and the compiler sees to it. There is no `unsafe`.
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
mod excerpt;
pub mod guide;
mod histogram;
mod job;
#[cfg(feature = "json")]
pub mod json;
mod ketama;
mod link;
mod links;
mod machine;
pub mod memory;
mod murmur;
mod outbox;
mod random;
pub mod server;
mod time;
#[cfg(feature = "tls")]
pub mod tls;
mod trace;
pub mod wire;
pub mod worker;

/// What payloads are made of: the crate of this name, in the version that is used here.
pub use bytes;

pub use address::{Address, DEFAULT_PORT};
pub use balancer::{Balance, Candidate, Choice, ServerCounters, Strategy};
pub use error::{ConfigError, ProtocolError, Reason, Rejected};
pub use histogram::Histogram;
pub use job::{
    Deadlines, Handle, Job, JobId, MAX_CLIENT_ID, MAX_FUNCTION, MAX_UNIQUE, Outcome, Phase, Priority, Retry,
    ServerError, ServerId, Unique,
};
pub use link::{Connecting, LinkState};
pub use machine::{Batch, CloseReason, ConnId, Input, Limits, Machine, Outgoing, Output, Peer};
pub use random::Seed;
pub use time::Instant;

#[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
#[path = "../runtimes/mod.rs"]
mod runtimes;
#[cfg(feature = "blocking")]
pub use runtimes::blocking;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use runtimes::future;
#[cfg(feature = "mio")]
pub use runtimes::mio;
#[cfg(feature = "smol")]
pub use runtimes::smol;
#[cfg(feature = "tokio")]
pub use runtimes::tokio;

/// The README's snippets are tests.
#[cfg(all(doctest, feature = "blocking"))]
#[doc = include_str!("../README.md")]
mod readme {}
