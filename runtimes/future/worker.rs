//! The worker's handles.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use bytes::Bytes;
use slab::Slab;

use super::{Connector, Driver, Running, Runtime, Wakes, connector, ended, finish};
use crate::runtimes::handles::{
    self, Desk, Dials, Futures, HandlerError, Sealed, ToAddress, WorkerBuilder, WorkerMachine as Machine, panic_text,
};
use crate::runtimes::hub::Hub;
use crate::runtimes::next::Waiting;
use crate::runtimes::sockets::Place;
use crate::runtimes::std::io;
use crate::runtimes::std::panic::{self, AssertUnwindSafe};
use crate::runtimes::std::sync::{Mutex, PoisonError};
use crate::runtimes::{Clock, Error};
use crate::worker::{Assignment, Counters, JobServer, Latencies};
use crate::{Address, Instant, Rejected, ServerId};

/// Turns in one poll of a worker, each of which may begin but one job; then other tasks have theirs.
const ROUNDS: usize = 32;

type Task = handles::Task<Futures>;
type Shared = Arc<Hub<Machine, Desk>>;
type Answer = Pin<Box<dyn Future<Output = Result<Bytes, HandlerError>> + Send>>;

/// What runs the jobs of one function.
pub struct Handler {
    run: Arc<dyn Fn(Task) -> Answer + Send + Sync>,
    /// Takes a running handler elsewhere; without it, it is polled in the worker's own future.
    spawn: Option<Arc<dyn Fn(Running) + Send + Sync>>,
}

/// A worker for one or more job servers. Cheap to clone: to stop it from elsewhere, say.
///
/// Its sockets are moved by the future of [`run`](Self::run), which also polls the handlers, as many at once as the
/// concurrency says; without handlers, [`next`](Self::next) gives out one job after another. That future ends when the worker
/// is drained or closed. Dropped before, it closes the worker at once: handlers that run in it are dropped, and the job
/// servers give their jobs to others.
///
/// Handlers must not block, as they run beside the sockets: see the documentation of each runtime for what may.
pub struct Worker<R> {
    shared: Shared,
    driver: Arc<Mutex<Option<Running>>>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Sealed for Worker<R> {}

impl<R: Runtime> Dials for Worker<R> {
    type Connector = Connector<R>;
}

impl<R: Runtime> WorkerBuilder<Worker<R>, Handler> {
    /// Has the connections made by the futures of `connect`, instead of by TCP and Unix sockets to the addresses of the job
    /// servers: by way of a proxy, with socket options of yours, or as objects of any kind.
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

    /// Offers `function` (CAN_DO), to be run by the future that `handler` returns, polled in that of `run`.
    ///
    /// What it yields is the result. An error is sent as WORK_EXCEPTION with its text, but for `Fail` and `Throw`; a panic
    /// likewise.
    pub fn function<T: Into<Bytes>, F: Future<Output = Result<T, HandlerError>> + Send + 'static>(
        self,
        function: impl Into<Bytes>,
        handler: impl Fn(Task) -> F + Send + Sync + 'static,
    ) -> Self {
        self.handler(function.into(), None, Handler { run: boxed(handler), spawn: None })
    }

    /// Offers `function` with a time limit (CAN_DO_TIMEOUT). A job that takes longer is failed, and its task
    /// [cancelled](Task::is_cancelled); its future is polled on. gearmand raises limits under 1 s to 1 s.
    pub fn function_timeout<T: Into<Bytes>, F: Future<Output = Result<T, HandlerError>> + Send + 'static>(
        self,
        function: impl Into<Bytes>,
        timeout: Duration,
        handler: impl Fn(Task) -> F + Send + Sync + 'static,
    ) -> Self {
        self.handler(function.into(), Some(timeout), Handler { run: boxed(handler), spawn: None })
    }

    /// Hands each running handler of the functions added so far to `spawn`, say to use more than one thread.
    pub fn spawn_with(
        mut self,
        spawn: impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    ) -> Self {
        let spawn: Arc<dyn Fn(Running) + Send + Sync> = Arc::new(spawn);
        for (_, _, handler) in &mut self.functions {
            handler.iter_mut().for_each(|handler| handler.spawn = Some(spawn.clone()));
        }
        self
    }

    /// Makes the worker. It does nothing until `run` is polled.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, a function that is none or is given twice, or another
    /// setting that cannot be.
    pub fn build(mut self) -> Result<Worker<R>, Error> {
        let machine = self.machine()?;
        let shared = Hub::new(machine, Desk::default(), Clock::start());
        let handlers = self.functions.into_iter().filter_map(|(name, _, handler)| Some((name, handler?)));
        let run = Run {
            driver: Driver::<R, _, _>::new(shared.clone(), self.listener, self.connector),
            handlers: handlers.collect(),
            panics_fail: self.panics_fail,
            jobs: Slab::new(),
            wakers: Vec::new(),
            woken: Vec::new(),
        };
        Ok(Worker { shared, driver: Arc::new(Mutex::new(Some(Box::pin(run)))), runtime: PhantomData })
    }

    /// Makes the worker and runs it here until it is drained or closed, which its job servers cannot do: for a program that
    /// is a worker and nothing else.
    ///
    /// Dropping the future closes the worker at once.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn run(self) -> Result<(), Error> {
        self.build()?.run().await;
        Ok(())
    }
}

fn boxed<T: Into<Bytes>, F: Future<Output = Result<T, HandlerError>> + Send + 'static>(
    handler: impl Fn(Task) -> F + Send + Sync + 'static,
) -> Arc<dyn Fn(Task) -> Answer + Send + Sync> {
    Arc::new(move |task| {
        let running = handler(task);
        Box::pin(async move { running.await.map(Into::into) })
    })
}

impl<R: Runtime> Worker<R> {
    /// Describes a worker.
    pub fn builder() -> WorkerBuilder<Self, Handler> {
        WorkerBuilder::new()
    }
}

impl<R> Worker<R> {
    /// Moves the worker's bytes and runs its handlers: to be spawned or awaited. It ends when the worker is drained or
    /// closed. A second call gives a future that waits for that.
    ///
    /// Dropping it closes the worker at once.
    #[must_use = "the worker does nothing until this future is polled"]
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<R> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        finish(driver, self.shared.clone())
    }

    /// Waits for a job to run. `None`: the worker is drained or closed. For workers without handlers; [`run`](Self::run)
    /// must be polled elsewhere.
    ///
    /// As many jobs as the worker's concurrency says may be in hand at once; any number of tasks may wait here.
    ///
    /// Safe to cancel: no job is lost.
    pub async fn next(&self) -> Option<Task> {
        let waiting = Waiting::new(&self.shared);
        poll_fn(|cx| waiting.poll(cx.waker())).await
    }

    /// Offers another function. Its jobs come out of [`next`](Self::next), or go to the handler that it was built with.
    ///
    /// # Errors
    /// The name is none, or is registered already; a timeout of zero.
    pub fn register(&self, function: impl Into<Bytes>, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.shared.call(|worker, _, now| worker.register(function, timeout, now))?)
    }

    /// Takes an offer back. Jobs of the function that are in hand are finished; until each job server knows, more may come.
    ///
    /// # Errors
    /// The function is not registered.
    pub fn unregister(&self, function: &[u8]) -> Result<(), Rejected<()>> {
        self.shared.call(|worker, _, now| worker.unregister(function, now))
    }

    /// Takes all offers back, each as [`unregister`](Self::unregister) does.
    pub fn unregister_all(&self) {
        self.shared.call(|worker, _, now| worker.unregister_all(now));
    }

    /// The time by the worker's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock().now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        let address = server.to_address()?;
        Ok(self.shared.call(|worker, _, now| worker.add_server(address, now))?)
    }

    /// Removes a job server. With `drain` the jobs that it has given are finished first, else they are cancelled.
    /// [`Removed`](crate::worker::Event::Removed) says when it is gone.
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.shared.call(|worker, _, now| worker.remove_server(server, drain, now))
    }

    /// Each job server and how it stands, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<JobServer> {
        self.shared.look(|worker, _| worker.servers().collect())
    }

    /// Asks for no more jobs, and waits until those in hand are answered and everything has been written, for `within` at
    /// most: then the worker is closed, and its job servers give what is left to other workers. [`run`](Self::run) must be
    /// polled meanwhile.
    ///
    /// Safe to cancel: the drain goes on.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs were left.
    pub async fn drain(&self, within: Duration) -> Result<(), Error> {
        self.shared.drain(within)?;
        ended(&self.shared).await;
        self.shared.drained()
    }

    /// Asks for no more jobs, and returns at once: what is in hand or on its way is still to be run, then
    /// [`run`](Self::run) and [`next`](Self::next) end. [`drain`](Self::drain) waits for that.
    pub fn finish(&self) {
        self.shared.call(|worker, _, now| worker.drain(now));
    }

    /// Closes it at once: jobs in hand are cancelled, and their job servers give them to other workers.
    pub fn close(&self) {
        self.shared.call(|worker, _, now| worker.close(now));
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        let tls = tls.into();
        self.shared.call(|worker, _, _| worker.set_client_tls(tls));
    }

    /// Plain counts since the worker was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.look(|worker, _| worker.counters())
    }

    /// How long its jobs took since the worker was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.shared.look(|worker, _| worker.latencies().clone())
    }
}

impl<R> Clone for Worker<R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), driver: self.driver.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Worker<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.counters()).finish()
    }
}

/// The future of `run`: sockets and handlers in one task, so that a job wakes no other.
struct Run<R: Runtime> {
    driver: Driver<R, Machine, Desk>,
    handlers: BTreeMap<Bytes, Handler>,
    panics_fail: bool,
    jobs: Slab<Running>,
    /// Those of the places in `jobs`: a wake that comes too late is that of another job, which is polled once for nothing.
    wakers: Vec<Waker>,
    /// Those to be polled.
    woken: Vec<usize>,
}

impl<R: Runtime> Future for Run<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..ROUNDS {
            let woken = &mut this.woken;
            let more = match this.driver.turn(|job| woken.push(job)) {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Ready(false) => true,
                Poll::Pending => false,
            };
            let begun = this.begin();
            let woken = !this.woken.is_empty();
            this.poll_jobs();
            if !more && !begun && !woken && this.driver.rest(cx.waker()) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: Runtime> Unpin for Run<R> {}

impl<R: Runtime> Run<R> {
    /// Begins what waits on the desk. Says whether there was anything.
    fn begin(&mut self) -> bool {
        if self.handlers.is_empty() {
            return false;
        }
        let mut any = false;
        while let Some((assignment, gone)) = self.driver.hub().look(|_, desk| desk.take_to_run()) {
            any = true;
            self.begin_one(assignment, gone);
        }
        any
    }

    fn begin_one(&mut self, assignment: Assignment, gone: bool) {
        let hub = self.driver.hub();
        let task = Task::new(assignment, hub.clone(), hub.clock().now());
        if gone {
            return;
        }
        let Some(handler) = self.handlers.get(task.function()) else {
            task.answer(Err("this worker has no handler for the function".into()));
            return;
        };
        let running = Box::pin(run(handler.run.clone(), task, self.panics_fail));
        match &handler.spawn {
            Some(spawn) => spawn(running),
            None => {
                let index = self.jobs.insert(running);
                if self.wakers.len() == index {
                    self.wakers.push(Wakes::waker(self.driver.wakes(), Place::Job(index)));
                }
                self.woken.push(index);
            }
        }
    }

    fn poll_jobs(&mut self) {
        while let Some(index) = self.woken.pop() {
            if let (Some(running), Some(waker)) = (self.jobs.get_mut(index), self.wakers.get(index))
                && running.as_mut().poll(&mut Context::from_waker(waker)).is_ready()
            {
                drop(self.jobs.remove(index));
            }
        }
    }
}

/// Runs one job and answers it.
async fn run(handler: Arc<dyn Fn(Task) -> Answer + Send + Sync>, mut task: Task, panics_fail: bool) {
    let (mut lent, mut running) = (Some(task.lend()), None);
    let result = poll_fn(|cx| {
        let mut poll = || {
            if let Some(lent) = lent.take() {
                running = Some(handler(lent));
            }
            running.as_mut().map_or(Poll::Pending, |running: &mut Answer| running.as_mut().poll(cx))
        };
        match panic::catch_unwind(AssertUnwindSafe(|| task.within(|_| poll()))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    match result.await {
        Ok(result) => task.answer(result),
        Err(_) if panics_fail => drop(task.fail()),
        Err(panic) => drop(task.exception(Bytes::copy_from_slice(panic_text(&*panic).as_bytes()))),
    }
}
