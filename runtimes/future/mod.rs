//! What the runtimes of futures share: one driver, polled by whatever executor the user has, and the handles on it. The
//! client's handles also serve mio, whose callers wait for the futures on threads.

mod admin;
mod client;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod driver;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod server;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod worker;

pub(crate) use self::admin::Admin;
pub(crate) use self::client::Client;
pub use self::client::{JobSet, Pending};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::driver::{Driver, Reactor, Runtime};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::server::Server;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::wakes::Wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::worker::Worker;
