//! Gearman in a [`Poll`](::mio::Poll) of yours, and loops that are nothing else.
//!
//! [`Driver`] is for a program that has a loop already: it takes a registry and a range of tokens, and wants to be handed
//! events and asked for the next timeout. Nothing blocks, nothing is spawned; the machines are your own
//! [`client::Client`](crate::client::Client), [`worker::Worker`](crate::worker::Worker) and
//! [`server::Server`](crate::server::Server):
//!
//! ```
//! use gearwheel::{Job, client, mio::Driver, server};
//!
//! let mut poll = mio::Poll::new()?;
//! let mut events = mio::Events::with_capacity(256);
//! let mut serving = Driver::new(poll.registry(), 1000..2000)?;
//! let mut asking = Driver::new(poll.registry(), 2000..2010)?;
//!
//! let mut server = server::Server::new(server::Config::new([1; 32]), serving.now(), Default::default())?;
//! let address = serving.listen("127.0.0.1:0".parse()?)?;
//! let mut config = client::Config::new([2; 32]);
//! config.servers.push(gearwheel::Address::new("127.0.0.1", address.port())?);
//! let mut client = client::Client::new(config)?;
//! client.submit(Job::new("later", "").background(), asking.now())?;
//!
//! 'queued: loop {
//!     while let Some(event) = serving.next_event(&mut server) {
//!         println!("{event:?}");
//!     }
//!     while let Some(event) = asking.next_event(&mut client) {
//!         if let client::Event::Done { outcome, .. } = event {
//!             println!("{outcome:?}");
//!             break 'queued;
//!         }
//!     }
//!     let timeout = [serving.next_timeout(), asking.next_timeout()].into_iter().flatten().min();
//!     poll.poll(&mut events, timeout)?;
//!     for event in &events {
//!         let _ours = serving.handle_event(event) || asking.handle_event(event);
//!     }
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! The driver's connections are TCP and Unix sockets, unless you [make](Driver::connect_with) or
//! [accept](Driver::accept) them yourself:
//!
//! ```
//! # #[cfg(unix)] fn main() -> Result<(), Box<dyn core::error::Error>> {
//! use gearwheel::{Job, Peer, client, mio::Driver, server};
//! use std::os::unix::net::UnixStream;
//!
//! let mut poll = mio::Poll::new()?;
//! let mut events = mio::Events::with_capacity(256);
//! let mut serving = Driver::new(poll.registry(), 1000..2000)?;
//! let mut asking = Driver::new(poll.registry(), 2000..2010)?;
//! let mut server = server::Server::new(server::Config::new([1; 32]), serving.now(), Default::default())?;
//! let mut config = client::Config::new([2; 32]);
//! config.servers.push("inside".parse()?);
//! let mut client = client::Client::new(config)?;
//!
//! let (near, far) = UnixStream::pair()?;
//! let mut near = Some(near);
//! asking.connect_with(move |_address| near.take().ok_or(std::io::ErrorKind::ConnectionRefused.into()));
//! serving.accept(far, Peer::new("inside", true));
//! client.submit(Job::new("later", "").background(), asking.now())?;
//! 'queued: loop {
//!     while let Some(event) = serving.next_event(&mut server) {
//!         println!("{event:?}");
//!     }
//!     while let Some(event) = asking.next_event(&mut client) {
//!         if let client::Event::Done { outcome, .. } = event {
//!             assert!(matches!(outcome, gearwheel::Outcome::Queued { .. }));
//!             break 'queued;
//!         }
//!     }
//!     let timeout = [serving.next_timeout(), asking.next_timeout()].into_iter().flatten().min();
//!     poll.poll(&mut events, timeout)?;
//!     for event in &events {
//!         let _ours = serving.handle_event(event) || asking.handle_event(event);
//!     }
//! }
//! # Ok(()) }
//! # #[cfg(not(unix))] fn main() {}
//! ```
//!
//! [`Server`], [`Client`], [`Worker`] and [`Admin`] have a loop of their own; their handles may be used by any thread.

mod admin;
mod alarm;
mod client;
mod driver;
mod server;
mod stream;
mod turnkey;
mod worker;

pub use self::admin::Admin;
pub use self::client::{Client, JobSet, Pending};
pub use self::driver::Driver;
pub use self::server::Server;
pub use self::stream::{Object, Stream};
pub use self::worker::Worker;
pub use super::Error;
/// The tasks of all runtimes; [`Task`] is this one's.
pub use super::handles::Task as AnyTask;
pub use super::handles::{
    AdminBuilder, ClientBuilder, Dials, Fail, HandlerError, JobError, JobEvent, ServerBuilder, Threads, Throw,
    ToAddress, WorkerBuilder, servers_from_env,
};
pub use super::listening::Listening;

/// A job to run, on a thread that waits where it has to. `W` is for code that serves tasks of all runtimes.
pub type Task<W = Threads> = AnyTask<W>;
