//! What the runtimes of futures share: one driver, polled by whatever executor the user has, and the handles on it. The
//! client's handles also serve mio, whose callers wait for the futures on threads.

#![cfg_attr(not(any(feature = "smol", feature = "tokio")), allow(unreachable_pub, reason = "mio uses a part"))]

mod client;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod driver;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod server;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod worker;

pub use self::client::{Client, JobSet, Pending};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::driver::Runtime;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::driver::{Driver, Reactor};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::server::Server;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::wakes::Wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::worker::Worker;
