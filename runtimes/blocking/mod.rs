//! Gearman on threads and blocking sockets, with no dependency beyond the core's.
//!
//! ```
//! use gearwheel::Job;
//! use gearwheel::blocking::{Client, Server, Worker};
//!
//! let server = Server::bind("127.0.0.1:0")?;
//! let worker = Worker::builder()
//!     .server(server.local_addr())
//!     .function("reverse", |task| Ok(task.payload().iter().rev().copied().collect::<Vec<u8>>()))
//!     .spawn()?;
//! let client = Client::builder().server(server.local_addr()).build()?;
//! assert_eq!(client.submit(Job::new("reverse", "hello"))?.wait()?, "olleh");
//! worker.drain(core::time::Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Threads
//!
//! Each client, worker and server has one thread for its clock, one for each connection and one for each listening socket,
//! none for a job, and one for the function given to `on_event`, where there is one. A caller who waits alone on a
//! connection reads it himself: one job after another then costs no switch between threads. At rest all of them sleep, and
//! nothing wakes them but bytes and deadlines. A connection whose peer does not read has one more thread until it does:
//! whoever wrote to it goes on.

mod admin;
mod client;
mod driver;
mod server;
mod stream;
mod worker;

pub use self::admin::Admin;
pub use self::client::{Client, JobSet, Pending};
pub use self::server::Server;
pub use self::stream::{Duplex, Stream};
pub use self::worker::{Running, Worker};
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
