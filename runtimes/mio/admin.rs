//! The admin handle: that of the futures, for callers who wait on threads.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::pin;
use core::task::Context;

use bytes::Bytes;

use super::turnkey::{Seat, wait};
use crate::admin::Admin as Machine;
use crate::runtimes::handles::{AdminBuilder, Replies, ToAddress, commands, unpack};
use crate::runtimes::std::thread;
use crate::runtimes::{Clock, Error, future};
use crate::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, Reply, Request, UniqueJob, WorkerStatus};

/// The admin commands of one job server, each with its typed result, on a loop of their own. Cheap to clone, and to be used
/// from any number of threads at once: commands go out at once and are answered in order.
///
/// Its socket is moved by [`run`](Self::run) or [`spawn`](Self::spawn); until then, commands wait. When the last clone is
/// dropped, it closes, and the loop ends.
///
/// A command ends within the [`timeout`](AdminBuilder::timeout). When the connection is lost, those outstanding fail, and the
/// next one connects again.
#[derive(Clone)]
pub struct Admin {
    admin: future::Admin<()>,
    seat: Arc<Seat<Machine, Replies>>,
}

impl AdminBuilder<Admin> {
    /// Makes the handle. It does nothing until it [runs](Admin::run), and connects at the first command.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be. [`Error::Io`]: there
    /// is no descriptor to be had.
    pub fn build(self) -> Result<Admin, Error> {
        let seat = Seat::new(self.machine()?, Replies::default(), Clock::start(), None)?;
        Ok(Admin { admin: future::Admin::new(Arc::clone(&seat), None), seat: Arc::new(seat) })
    }

    /// Makes the handle, runs it on a thread of its own and connects it.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Admin`]: it cannot connect.
    pub fn connect(self) -> Result<Admin, Error> {
        let admin = self.build()?;
        admin.spawn()?;
        admin.seat.call(|machine, _, now| machine.connect(now));
        wait(None, admin.seat.clock(), |waker| admin.admin.connected(waker)).ok_or(Error::Closed)??;
        Ok(admin)
    }
}

impl Admin {
    /// Connects to a job server, with the loop on a thread of its own.
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

    /// Moves its bytes on this thread until it has closed; where it runs already, waits for that.
    ///
    /// # Errors
    /// [`Error::Io`]: the operating system no longer tells what is ready.
    pub fn run(&self) -> Result<(), Error> {
        self.seat.run(|| false)
    }

    /// Runs it on a thread of its own, which ends when the last handle is dropped.
    ///
    /// # Errors
    /// [`Error::Io`]: there is no thread to be had.
    pub fn spawn(&self) -> Result<thread::JoinHandle<Result<(), Error>>, Error> {
        // The thread holds no handle: it ends when the last of them is dropped.
        let seat = self.seat.clone();
        let thread = thread::Builder::new().name("gearwheel-admin".into());
        thread.spawn(move || seat.run(|| false)).map_err(Error::io("start a thread"))
    }

    /// Sends any command and waits for its reply.
    ///
    /// # Errors
    /// [`Error::Admin`]: the job server refuses, cannot be had, or does not answer in time. [`Error::Refused`]: a name is no
    /// single word, or too many commands are outstanding.
    pub fn request(&self, request: Request) -> Result<Reply, Error> {
        let mut reply = pin!(self.admin.request(request));
        let reply = wait(None, self.seat.clock(), |waker| reply.as_mut().poll(&mut Context::from_waker(waker)));
        reply.ok_or(Error::Closed)?
    }

    commands!([] []);
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.admin.fmt(f)
    }
}
