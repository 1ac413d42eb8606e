//! The admin handle.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::task::Poll;

use bytes::Bytes;

use super::{Connector, Driver, Running, Runtime, connector, finish};
use crate::Address;
use crate::admin::{Error as CommandError, RequestId};
use crate::runtimes::handles::{
    AdminBuilder, AdminMachine as Machine, Dials, Replies, Sealed, ToAddress, commands, unpack,
};
use crate::runtimes::hub::{Hub, Owner};
use crate::runtimes::std::io;
use crate::runtimes::std::sync::{Mutex, PoisonError};
use crate::runtimes::{Clock, Error};
use crate::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, Reply, Request, UniqueJob, WorkerStatus};

/// The admin commands of one job server, each with its typed result. Cheap to clone, and to be used from any number of tasks
/// at once: commands go out at once and are answered in order.
///
/// Its socket is moved by the future of [`run`](Self::run), which is to be spawned, and ends when the last handle is dropped.
/// A command ends within the [`timeout`](AdminBuilder::timeout). When the connection is lost, those outstanding fail, and
/// the next one connects again. Every command is safe to cancel: its reply is dropped when it comes.
pub struct Admin<R> {
    shared: Arc<Owner<Machine, Replies>>,
    /// Until it runs.
    driver: Arc<Mutex<Option<Running>>>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Sealed for Admin<R> {}

impl<R: Runtime> Dials for Admin<R> {
    type Connector = Connector<R>;
}

impl<R: Runtime> AdminBuilder<Admin<R>> {
    /// Has the connections made by the futures of `connect`, instead of by TCP and Unix sockets to the address of the job
    /// server: by way of a proxy, with socket options of yours, or as objects of any kind.
    ///
    /// A future is polled in that of `run`, with nothing locked. It is dropped when the
    /// [connect timeout](Self::connect_timeout) has passed. An error ends the attempt with its text; a panic likewise.
    pub fn connect_with<S: Into<R::Stream>, F: Future<Output = io::Result<S>> + Send + 'static>(
        mut self,
        connect: impl FnMut(Address) -> F + Send + 'static,
    ) -> Self {
        self.connector = Some(connector::<R, S, F>(connect));
        self
    }

    /// Makes the handle. It connects at the first command, and does nothing until `run` is polled.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be.
    pub fn build(self) -> Result<Admin<R>, Error> {
        let (machine, connector) = self.machine()?;
        let hub = Hub::new(machine, Replies::default(), Clock::start());
        let driver = Driver::<R, _, _>::new(hub.clone(), None, connector);
        Ok(Admin {
            shared: Arc::new(Owner(hub)),
            driver: Arc::new(Mutex::new(Some(Box::pin(driver)))),
            runtime: PhantomData,
        })
    }

    /// Makes the handle and connects it. `run` is to be spawned then.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Admin`]: it cannot connect.
    pub async fn connect(self) -> Result<Admin<R>, Error> {
        let admin = self.build()?;
        admin.shared.call(|machine, _, now| machine.connect(now));
        poll_fn(|cx| {
            // Nobody else moves its bytes yet.
            if let Some(driver) = &mut *admin.driver.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = driver.as_mut().poll(cx);
            }
            let (connected, _old) = admin.shared.look(|machine, replies| {
                let lost = |reason| CommandError::Lost { server: machine.server().clone(), reason };
                match replies.connected() {
                    Some(connected) => (Poll::Ready(connected.map_err(lost)), None),
                    None => (Poll::Pending, replies.register_connecting(cx.waker())),
                }
            });
            connected
        })
        .await?;
        Ok(admin)
    }
}

impl<R: Runtime> Admin<R> {
    /// Connects to a job server. [`run`](Self::run) is to be spawned then.
    ///
    /// # Errors
    /// As [`AdminBuilder::connect`].
    pub async fn connect(server: impl ToAddress) -> Result<Self, Error> {
        Self::builder().server(server).connect().await
    }

    /// Describes an admin connection.
    pub fn builder() -> AdminBuilder<Self> {
        AdminBuilder::new()
    }
}

impl<R> Admin<R> {
    /// Moves the handle's bytes: to be spawned, or polled beside the commands. It ends when the last handle is dropped. A
    /// second call gives a future that waits for that. Dropping it fails all commands.
    #[must_use = "no command is sent until this future is polled"]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<R> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        finish(driver, Arc::clone(&self.shared.0))
    }

    /// Sends any command and waits for its reply.
    ///
    /// # Errors
    /// [`Error::Admin`]: the job server refuses, cannot be had, or does not answer in time. [`Error::Refused`]: a name is no
    /// single word, or too many commands are outstanding.
    pub async fn request(&self, request: Request) -> Result<Reply, Error> {
        let id = self.shared.call(|admin, replies, now| {
            let id = admin.ask(request, now).map_err(|rejected| rejected.reason)?;
            replies.expect(id);
            Ok::<_, Error>(id)
        })?;
        let asked = Asked(&self.shared, id);
        let reply = poll_fn(|cx| {
            let (reply, _old) = asked.0.look(|_, replies| match replies.take(id) {
                Some(reply) => (Poll::Ready(reply), None),
                None => (Poll::Pending, replies.register(id, cx.waker())),
            });
            reply
        });
        Ok(reply.await?)
    }

    commands!([async] [.await]);
}

/// A command whose reply is forgotten when nobody waits for it any more.
struct Asked<'a>(&'a Owner<Machine, Replies>, RequestId);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.look(|_, replies| replies.forget(self.1));
    }
}

impl<R> Clone for Admin<R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), driver: self.driver.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Admin<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admin").field(&self.shared.look(|machine, _| machine.server().clone())).finish()
    }
}
