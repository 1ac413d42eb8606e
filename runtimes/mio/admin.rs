//! The admin handle.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::Poll;

use bytes::Bytes;

use super::Stream;
use super::driver::Connector;
use super::turnkey::{Seat, wait};
use crate::Address;
use crate::admin::Error as CommandError;
use crate::runtimes::handles::{
    AdminBuilder, AdminMachine as Machine, Dials, Replies, Sealed, ToAddress, commands, unpack,
};
use crate::runtimes::hub::Owner;
use crate::runtimes::std::{io, thread};
use crate::runtimes::{Clock, Error};
use crate::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, Reply, Request, UniqueJob, WorkerStatus};

/// The admin commands of one job server, each with its typed result, on a loop of its own. Cheap to clone, and to be used
/// from any number of threads at once: commands go out at once and are answered in order.
///
/// A command ends within the [`timeout`](AdminBuilder::timeout). When the connection is lost, those outstanding fail, and the
/// next one connects again.
#[derive(Clone)]
pub struct Admin(Arc<Owner<Machine, Replies>>);

impl Sealed for Admin {}

impl Dials for Admin {
    type Connector = Connector;
}

impl AdminBuilder<Admin> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the address of the job server: with
    /// socket options of yours, or as objects of any kind that a poll can watch.
    ///
    /// It is called by the loop, with nothing locked, and must not block: a `mio::net::TcpStream` may be connecting still,
    /// until the [connect timeout](Self::connect_timeout) has passed. An error ends the attempt with its text; a panic
    /// likewise.
    pub fn connect_with<S: Into<Stream>>(
        mut self,
        mut connect: impl FnMut(Address) -> io::Result<S> + Send + 'static,
    ) -> Self {
        self.connector = Some(Box::new(move |server| connect(server).map(Into::into)));
        self
    }

    /// Makes the handle and its loop, on a thread that ends when the last handle is dropped. It connects at the first
    /// command.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be. [`Error::Io`]: there is
    /// no descriptor or no thread to be had.
    pub fn build(self) -> Result<Admin, Error> {
        let (machine, connector) = self.machine()?;
        let seat = Seat::new(machine, Replies::default(), Clock::start(), None, connector)?;
        let admin = Admin(Arc::new(Owner(Arc::clone(&seat))));
        let thread = thread::Builder::new().name("gearwheel-admin".into());
        thread.spawn(move || seat.run(|| false)).map_err(Error::io("start a thread"))?;
        Ok(admin)
    }

    /// Makes the handle and connects it.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Admin`]: it cannot connect.
    pub fn connect(self) -> Result<Admin, Error> {
        let admin = self.build()?;
        admin.0.call(|machine, _, now| machine.connect(now));
        let connected = wait(None, admin.0.clock(), |waker| {
            admin.0.look(|machine, replies| match replies.connected() {
                Some(Ok(())) => Poll::Ready(Ok(())),
                Some(Err(reason)) => Poll::Ready(Err(CommandError::Lost { server: machine.server().clone(), reason })),
                None => {
                    drop(replies.register_connecting(waker));
                    Poll::Pending
                }
            })
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
        let reply = wait(None, self.0.clock(), |waker| {
            self.0.look(|_, replies| match replies.take(id) {
                Some(reply) => Poll::Ready(reply),
                None => {
                    drop(replies.register(id, waker));
                    Poll::Pending
                }
            })
        });
        Ok(reply.ok_or(CommandError::Closed)??)
    }

    commands!([] []);
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admin").field(&self.0.look(|machine, _| machine.server().clone())).finish()
    }
}
