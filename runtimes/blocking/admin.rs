//! The admin handle.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::Stream;
use super::driver::{Connector, Driver, Look, Source};
use crate::Address;
use crate::admin::Error as CommandError;
use crate::runtimes::handles::{
    AdminBuilder, AdminMachine as Machine, Dials, Replies, Sealed, ToAddress, commands, unpack,
};
use crate::runtimes::std::io;
use crate::runtimes::{Clock, Error};
use crate::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, Reply, Request, UniqueJob, WorkerStatus};

/// The admin commands of one job server, each with its typed result. Cheap to clone, and to be used from any number of
/// threads at once: commands go out at once and are answered in order.
///
/// A command ends within the [`timeout`](AdminBuilder::timeout). When the connection is lost, those outstanding fail, and the
/// next one connects again.
///
/// ```no_run
/// use gearwheel::blocking::Admin;
///
/// let admin = Admin::connect("localhost")?;
/// for row in admin.status()? {
///     println!("{}: {} jobs", String::from_utf8_lossy(&row.function), row.total);
/// }
/// # Ok::<(), gearwheel::blocking::Error>(())
/// ```
#[derive(Clone)]
pub struct Admin(Arc<Driver<Machine, Replies>>);

impl Sealed for Admin {}

impl Dials for Admin {
    type Connector = Connector;
}

impl AdminBuilder<Admin> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the address of the job server: by way
    /// of a proxy, with socket options of yours, or as objects of a kind of yours.
    ///
    /// It is called on the connection's thread, with nothing locked, and may block, best for no longer than the
    /// [connect timeout](Self::connect_timeout): then the attempt counts as failed, and what it returns later is dropped.
    /// When eight attempts hang, further ones fail. An error ends the attempt with its text; a panic
    /// likewise.
    pub fn connect_with<T: Into<Stream>>(
        mut self,
        connect: impl Fn(Address) -> io::Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.connector = Some(Arc::new(move |server| connect(server).map(Into::into)));
        self
    }

    /// Makes the handle. It connects at the first command.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be. [`Error::Io`]: there is
    /// no thread to be had.
    pub fn build(self) -> Result<Admin, Error> {
        let (machine, connector) = self.machine()?;
        let driver = Driver::start(machine, Replies::default(), Clock::start(), None, connector);
        Ok(Admin(Arc::new(driver.map_err(Error::io("start a thread"))?)))
    }

    /// Makes the handle and connects it.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Admin`]: it cannot connect.
    pub fn connect(self) -> Result<Admin, Error> {
        let admin = self.build()?;
        admin.0.call(|machine, _, now| machine.connect(now));
        let connected = admin.0.wait(None, |machine, replies, waker, _| match replies.connected() {
            Some(Ok(())) => Look::Found(Ok(())),
            Some(Err(reason)) => Look::Found(Err(CommandError::Lost { server: machine.server().clone(), reason })),
            None => {
                waker.into_iter().for_each(|waker| drop(replies.register_connecting(waker)));
                Look::Missing(Source::Conn(None))
            }
        });
        connected.ok_or(Error::Closed)??;
        Ok(admin)
    }
}

impl Admin {
    /// Connects to a job server.
    ///
    /// # Errors
    /// As [`AdminBuilder::connect`].
    pub fn connect(server: impl ToAddress) -> Result<Self, Error> {
        Self::builder().server(server).connect()
    }

    /// Describes an admin connection.
    pub fn builder() -> AdminBuilder<Self> {
        AdminBuilder::new()
    }

    /// Sends any command and waits for its reply.
    ///
    /// # Errors
    /// [`Error::Admin`]: the job server refuses, cannot be had, or does not answer in time. [`Error::Refused`]: a name is no
    /// single word, or too many commands are outstanding.
    pub fn request(&self, request: Request) -> Result<Reply, Error> {
        let id = self.0.call(|admin, replies, now| {
            let id = admin.ask(request, now).map_err(|rejected| rejected.reason)?;
            replies.expect(id);
            Ok::<_, Error>(id)
        })?;
        let reply = self.0.wait(None, |_, replies, waker, _| match replies.take(id) {
            Some(reply) => Look::Found(reply),
            None => {
                waker.into_iter().for_each(|waker| drop(replies.register(id, waker)));
                Look::Missing(Source::Sole)
            }
        });
        Ok(reply.ok_or(CommandError::Closed)??)
    }

    commands!([] []);
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admin").field(&self.0.call(|machine, _, _| machine.server().clone())).finish()
    }
}
