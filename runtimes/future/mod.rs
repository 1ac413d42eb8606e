//! What the runtimes of futures share: one driver, polled by whatever executor the user has, and the handles on it.

mod client;
mod driver;
mod server;
mod wakes;
mod worker;

pub use self::client::{Client, JobSet, Pending};
pub use self::driver::Runtime;
pub(crate) use self::driver::{Driver, Reactor};
pub use self::server::Server;
pub(crate) use self::wakes::Wakes;
pub use self::worker::Worker;
