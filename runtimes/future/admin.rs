//! The admin handle.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Poll, Waker};

use bytes::Bytes;

#[cfg(any(feature = "smol", feature = "tokio"))]
use super::{Driver, Runtime};
use crate::admin::{Admin as Machine, Error as CommandError, RequestId};
use crate::runtimes::Error;
use crate::runtimes::handles::{Replies, commands, unpack};
use crate::runtimes::hub::{Hub, Owner};
use crate::runtimes::std::sync::{Mutex, PoisonError};
#[cfg(any(feature = "smol", feature = "tokio"))]
use crate::runtimes::{
    Clock,
    handles::{AdminBuilder, ToAddress},
};
use crate::wire::admin::{FunctionStatus, JobStatus, PriorityStatus, Reply, Request, UniqueJob, WorkerStatus};

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The admin commands of one job server, each with its typed result. Cheap to clone, and to be used from any number of tasks
/// and threads at once: commands go out at once and are answered in order.
///
/// Its socket is moved by the future of [`run`](Self::run), which is to be spawned on an executor; until it is polled,
/// commands wait. When the last clone is dropped, it closes, and that future ends.
///
/// A command ends within the [`timeout`](crate::admin::Config::timeout). When the connection is lost, those outstanding fail,
/// and the next one connects again. Every `async` function here is safe to cancel: the command has been sent or will be, and
/// its reply is dropped.
pub struct Admin<R> {
    shared: Arc<Owner<Machine, Replies>>,
    /// Until it runs.
    driver: Arc<Mutex<Option<Run>>>,
    runtime: PhantomData<fn() -> R>,
}

#[cfg(any(feature = "smol", feature = "tokio"))]
impl<R: Runtime> AdminBuilder<Admin<R>> {
    /// Makes the handle. It does nothing until [`Admin::run`] is polled, and connects at the first command.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, or another setting that cannot be.
    pub fn build(self) -> Result<Admin<R>, Error> {
        let hub = Hub::new(self.machine()?, Replies::default(), Clock::start());
        let driver = Driver::<R, _, _>::new(hub.clone(), None);
        Ok(Admin::new(hub, Some(Box::pin(driver))))
    }

    /// Makes the handle and connects it. [`Admin::run`] is to be spawned then.
    ///
    /// # Errors
    /// As [`build`](Self::build). [`Error::Admin`]: it cannot connect.
    pub async fn connect(self) -> Result<Admin<R>, Error> {
        let admin = self.build()?;
        admin.shared.call(|machine, _, now| machine.connect(now));
        poll_fn(|cx| {
            if let Some(driver) = &mut *admin.driver.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = driver.as_mut().poll(cx);
            }
            admin.connected(cx.waker())
        })
        .await?;
        Ok(admin)
    }
}

#[cfg(any(feature = "smol", feature = "tokio"))]
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
    pub(crate) fn new(hub: Arc<Hub<Machine, Replies>>, driver: Option<Run>) -> Self {
        Self { shared: Arc::new(Owner(hub)), driver: Arc::new(Mutex::new(driver)), runtime: PhantomData }
    }

    /// Moves its bytes: to be spawned, or polled beside the futures that use it. It ends when the last handle is dropped. A
    /// second call gives a future that waits for that. Dropping it closes the connection at once.
    #[must_use = "nothing is asked until this future is polled"]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<R> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let hub = Arc::clone(&self.shared.0);
        async move {
            match driver {
                Some(driver) => driver.await,
                None => poll_fn(|cx| if hub.has_ended(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await,
            }
        }
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
        let asked = Asked { hub: &self.shared, id };
        poll_fn(|cx| asked.poll(cx.waker())).await
    }

    /// What became of the attempt to connect.
    pub(crate) fn connected(&self, waker: &Waker) -> Poll<Result<(), Error>> {
        self.shared.look(|machine, replies| match replies.connected(Some(waker)) {
            Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err(reason)) => {
                Poll::Ready(Err(CommandError::Lost { server: machine.server().clone(), reason }.into()))
            }
            None => Poll::Pending,
        })
    }

    commands!([async] [.await]);
}

/// A command whose reply is forgotten when nobody waits for it any more.
struct Asked<'a> {
    hub: &'a Hub<Machine, Replies>,
    id: RequestId,
}

impl Asked<'_> {
    fn poll(&self, waker: &Waker) -> Poll<Result<Reply, Error>> {
        self.hub.look(|_, replies| match replies.take(self.id, Some(waker)) {
            Some(result) => Poll::Ready(result.map_err(Error::Admin)),
            None => Poll::Pending,
        })
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.hub.look(|_, replies| replies.forget(self.id));
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
