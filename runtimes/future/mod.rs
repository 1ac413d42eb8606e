//! What the runtimes of futures share: one driver, polled by whatever executor the user has, and the handles on it. The
//! client's handles also serve mio, whose callers wait for the futures on threads.

#![cfg_attr(not(any(feature = "smol", feature = "tokio")), allow(unreachable_pub, reason = "mio uses a part"))]

#[cfg(any(feature = "smol", feature = "tokio"))]
mod admin;
mod client;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod driver;
mod helm;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod server;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
mod worker;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;

#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::admin::Admin;
pub use self::client::{Client, JobSet, Pending};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::driver::Runtime;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::driver::{Connector, Driver, Reactor, connector};
pub(crate) use self::helm::Helm;
#[cfg(any(feature = "smol", feature = "tokio"))]
use self::helm::{Hand, Helmsman};
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::server::Server;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub(crate) use self::wakes::Wakes;
#[cfg(any(feature = "smol", feature = "tokio"))]
pub use self::worker::Worker;
use crate::runtimes::handles::{Driven, Sink};
use crate::runtimes::hub::Hub;

/// A driver that may run anywhere.
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future of a `run`: the driver, or, where that runs already, the wait for its end.
async fn finish<M: Driven, S: Sink<M::Event>>(driver: Option<Running>, hub: Arc<Hub<M, S>>) {
    match driver {
        Some(driver) => driver.await,
        None => ended(&hub).await,
    }
}

/// Waits until the machine has closed.
async fn ended<M: Driven, S: Sink<M::Event>>(hub: &Hub<M, S>) {
    poll_fn(|cx| if hub.has_ended(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
}
