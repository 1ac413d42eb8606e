//! The worker's handles.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::iter;
use core::task::Waker;
use core::time::Duration;

use bytes::Bytes;

use super::driver::{Connector, Driver, Look, Source};
use super::{Stream, Task};
use crate::runtimes::handles::{
    Desk, Dials, HandlerError, Port, Sealed, Sending, Ticket, ToAddress, WorkerBuilder, WorkerMachine as Machine,
    panic_text, refuse_result,
};
#[cfg(any(feature = "smol", feature = "tokio"))]
use crate::runtimes::hub::Hub;
use crate::runtimes::std::panic::{self, AssertUnwindSafe};
use crate::runtimes::std::{io, thread};
use crate::runtimes::{Clock, Error};
use crate::worker::{self, Counters, JobServer, Latencies};
use crate::{Address, Instant, Reason, Rejected, ServerId};

impl Port for Driver<Machine, Desk> {
    fn act(&self, act: &mut dyn FnMut(&mut worker::Worker, &mut Desk, Instant) -> Sending) {
        let due = Cell::new(Sending::Nothing);
        let act = |worker: &mut Machine, desk: &mut Desk, now| due.set(act(worker, desk, now));
        self.call_lazily(act, |desk| due.get() == Sending::Later && desk.has_tasks());
    }

    fn look(&self, look: &mut dyn FnMut(&Desk)) {
        self.look(|_, desk| look(desk));
    }

    fn wait_for_room(&self, attempt: &mut dyn FnMut() -> bool) {
        let attempt = |()| attempt().then_some(()).ok_or(());
        // Where there is none for one, the job of another may be gone.
        let _ = self.wait_for_room((), attempt, |_, ()| true);
    }

    #[cfg(any(feature = "smol", feature = "tokio"))]
    fn hub(&self) -> Option<&Hub<Machine, Desk>> {
        None
    }
}

/// What runs the jobs of one function.
type Handler = Box<dyn Fn(&mut Task) -> Result<Bytes, HandlerError> + Send + Sync>;

/// A worker for one or more job servers. Cheap to clone: to stop it from elsewhere, say.
///
/// Either [`run`](Self::run) runs the handlers, or [`next`](Self::next) gives out one job after another. When the last clone,
/// the last [`Task`] and the last [`Running`] are dropped, it closes: what is to be written is written for at most a second,
/// and its threads end.
#[derive(Clone)]
pub struct Worker(Arc<Inside>);

struct Inside {
    driver: Arc<Driver<Machine, Desk>>,
    handlers: BTreeMap<Bytes, Handler>,
    concurrency: usize,
    panics_fail: bool,
}

impl Sealed for Worker {}

impl Dials for Worker {
    type Connector = Connector;
}

impl WorkerBuilder<Worker, Handler> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the addresses of the job servers: by way
    /// of a proxy, with socket options of yours, or as objects of a kind of yours.
    ///
    /// It is called on the connection's thread, with nothing locked, and may block, best for no longer than the
    /// [connect timeout](Self::connect_timeout): then the attempt counts as failed, and what it returns later is dropped.
    /// When eight attempts at one job server hang, further ones fail. An error ends the attempt with its text; a panic
    /// likewise.
    pub fn connect_with<T: Into<Stream>>(
        mut self,
        connect: impl Fn(Address) -> io::Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.connector = Some(Arc::new(move |server| connect(server).map(Into::into)));
        self
    }

    /// Offers `function` (CAN_DO), to be run by `handler`.
    ///
    /// What it returns is the result. An error is sent as WORK_EXCEPTION with its text, but for [`Fail`](super::Fail) and
    /// [`Throw`](super::Throw); a panic likewise.
    pub fn function<R: Into<Bytes>>(
        self,
        function: impl Into<Bytes>,
        handler: impl Fn(&mut Task) -> Result<R, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        self.handler(function.into(), None, Box::new(move |task| handler(task).map(Into::into)))
    }

    /// Offers `function` with a time limit (CAN_DO_TIMEOUT). A job that takes longer is failed, and its task
    /// [cancelled](Task::is_cancelled); the handler is not interrupted. gearmand raises limits under 1 s to 1 s.
    pub fn function_timeout<R: Into<Bytes>>(
        self,
        function: impl Into<Bytes>,
        timeout: Duration,
        handler: impl Fn(&mut Task) -> Result<R, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        self.handler(function.into(), Some(timeout), Box::new(move |task| handler(task).map(Into::into)))
    }

    /// Makes the worker. It connects at once.
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, a function that is none or is given twice, or another
    /// setting that cannot be. [`Error::Io`]: there is no thread to be had.
    pub fn build(mut self) -> Result<Worker, Error> {
        let machine = self.machine()?;
        let driver = Driver::start(machine, Desk::default(), Clock::start(), self.listener, self.connector);
        let handlers = self.functions.into_iter().filter_map(|(name, _, handler)| Some((name, handler?)));
        Ok(Worker(Arc::new(Inside {
            driver: Arc::new(driver.map_err(Error::io("start a thread"))?),
            handlers: handlers.collect(),
            concurrency: self.config.concurrency,
            panics_fail: self.panics_fail,
        })))
    }

    /// Makes the worker and runs it here until it is drained or closed, which its job servers cannot do: for a program that
    /// is a worker and nothing else.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn run(self) -> Result<(), Error> {
        self.build()?.run();
        Ok(())
    }

    /// Makes the worker and runs it on threads of its own, as many as its concurrency.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn spawn(self) -> Result<Running, Error> {
        self.build()?.spawn()
    }
}

impl Worker {
    /// Describes a worker.
    pub fn builder() -> WorkerBuilder<Self, Handler> {
        WorkerBuilder::new()
    }

    /// Waits for a job to run. `None`: the worker is drained or closed.
    ///
    /// As many jobs as its concurrency says may be in hand at once; any number of threads may wait here.
    #[must_use]
    pub fn next(&self) -> Option<Task> {
        self.next_until(None)?
    }

    /// Like [`next`](Self::next), for `timeout` at most. `None`: the worker is drained or closed, or time is up.
    #[must_use]
    pub fn next_timeout(&self, timeout: Duration) -> Option<Task> {
        self.next_until(Some(self.0.driver.now() + timeout))?
    }

    fn next_until(&self, deadline: Option<Instant>) -> Option<Option<Task>> {
        loop {
            let mut hand = Hand::default();
            self.0.driver.wait(deadline, |worker, desk, waker, _| self.look(&mut hand, worker, desk, waker))?;
            // One that was taken away before anybody began it is let go.
            if !hand.cancelled {
                return Some(hand.task);
            }
        }
    }

    /// Looks for a job on the desk, for an empty hand.
    #[inline(always)]
    fn look(&self, hand: &mut Hand, worker: &Machine, desk: &mut Desk, waker: Option<&Waker>) -> Look<()> {
        if let Some(ticket) = hand.ticket.take() {
            drop(desk.came(ticket));
        }
        if let Some(assignment) = desk.take() {
            hand.cancelled = desk.is_gone(assignment.task);
            hand.task = Some(Task::new(assignment, self.0.driver.clone(), worker.now()));
            return Look::Found(());
        }
        if desk.closed {
            return Look::Found(());
        }
        hand.ticket = waker.map(|waker| desk.wait(waker.clone()));
        Look::Missing(if worker.has_several_servers() { Source::Any } else { Source::Sole })
    }

    /// Runs the handlers until the worker is drained or closed: on this thread, and on as many more as its concurrency asks
    /// for.
    pub fn run(&self) {
        thread::scope(|scope| {
            for _ in 1..self.0.concurrency {
                let name = thread::Builder::new().name("gearwheel-run".into());
                // With fewer threads it is slower, no worse.
                if name.spawn_scoped(scope, || self.run_one()).is_err() {
                    break;
                }
            }
            self.run_one();
        });
    }

    fn run_one(&self) {
        let mut hand = Hand::default();
        self.take_next(&mut hand);
        while let Some(task) = &mut hand.task {
            let Some(handler) = self.0.handlers.get(task.function()).filter(|_| !hand.cancelled) else {
                self.leave_unhandled(&mut hand);
                continue;
            };
            match panic::catch_unwind(AssertUnwindSafe(|| task.within(|task| handler(task)))) {
                Ok(Ok(result)) => self.complete_and_take_next(&mut hand, result),
                ended => self.end_badly(&mut hand, ended),
            }
        }
    }

    fn take_next(&self, hand: &mut Hand) {
        self.0.driver.wait(None, |worker, desk, waker, _| self.look(hand, worker, desk, waker));
    }

    /// Sends the result of the job in hand, and waits for another: both with the worker locked once.
    fn complete_and_take_next(&self, hand: &mut Hand, result: Bytes) {
        let Some((id, since)) = hand.task.as_mut().map(Task::end_elsewhere) else { return };
        hand.task = None;
        let due = Cell::new(Sending::Now);
        self.0.driver.call_and_wait(
            |worker, desk, now| {
                if let Err(Rejected { reason: Reason::Invalid(why), .. }) = worker.complete(id, result, now) {
                    refuse_result(worker, id, &why, now);
                }
                due.set(desk.ended(id, since, now));
            },
            |desk| due.get() == Sending::Later && desk.has_tasks(),
            |worker, desk, waker, _| self.look(hand, worker, desk, waker),
        );
    }

    /// A job that was taken away before anybody began it, or that nobody here can run.
    #[cold]
    fn leave_unhandled(&self, hand: &mut Hand) {
        if let Some(task) = hand.task.take().filter(|_| !hand.cancelled) {
            task.answer(Err("this worker has no handler for the function".into()));
        }
        self.take_next(hand);
    }

    #[cold]
    fn end_badly(&self, hand: &mut Hand, ended: thread::Result<Result<Bytes, HandlerError>>) {
        if let Some(task) = hand.task.take() {
            match ended {
                Ok(result) => task.answer(result),
                Err(_) if self.0.panics_fail => drop(task.fail()),
                Err(panic) => drop(task.exception(Bytes::copy_from_slice(panic_text(&*panic).as_bytes()))),
            }
        }
        self.take_next(hand);
    }

    /// Runs it on threads of its own, as many as its concurrency.
    ///
    /// # Errors
    /// [`Error::Io`]: there is no thread to be had.
    pub fn spawn(self) -> Result<Running, Error> {
        let start = |_| {
            let worker = self.clone();
            thread::Builder::new().name("gearwheel-run".into()).spawn(move || worker.run_one())
        };
        let first = start(0).map_err(Error::io("start a thread"))?;
        // With fewer threads it is slower, no worse.
        let others = (1..self.0.concurrency).map_while(|number| start(number).ok());
        let threads = iter::once(first).chain(others).collect();
        Ok(Running { worker: self, threads })
    }

    /// Offers another function. Its jobs come out of [`next`](Self::next), or go to the handler that it was built with.
    ///
    /// # Errors
    /// The name is none, or is registered already; a timeout of zero.
    pub fn register(&self, function: impl Into<Bytes>, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.0.driver.call(|worker, _, now| worker.register(function, timeout, now))?)
    }

    /// Takes an offer back. Jobs of the function that are in hand are finished; until each job server knows, more may come.
    ///
    /// # Errors
    /// The function is not registered.
    pub fn unregister(&self, function: &[u8]) -> Result<(), Rejected<()>> {
        self.0.driver.call(|worker, _, now| worker.unregister(function, now))
    }

    /// Takes all offers back, each as [`unregister`](Self::unregister) does.
    pub fn unregister_all(&self) {
        self.0.driver.call(|worker, _, now| worker.unregister_all(now));
    }

    /// The time by the worker's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.driver.now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        let address = server.to_address()?;
        Ok(self.0.driver.call(|worker, _, now| worker.add_server(address, now))?)
    }

    /// Removes a job server. With `drain` the jobs that it has given are finished first, else they are cancelled.
    /// [`Removed`](crate::worker::Event::Removed) says when it is gone.
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.0.driver.call(|worker, _, now| worker.remove_server(server, drain, now))
    }

    /// Each job server and how it stands, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<JobServer> {
        self.0.driver.call(|worker, _, _| worker.servers().collect())
    }

    /// Asks for no more jobs, and waits until those in hand are answered and everything has been written, for `within` at
    /// most: then the worker is closed, and its job servers give what is left to other workers.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs were left.
    pub fn drain(&self, within: Duration) -> Result<(), Error> {
        let driver = &self.0.driver;
        let deadline = driver.now() + within;
        driver.call(|worker, desk, now| {
            if core::mem::replace(&mut desk.draining, true) {
                return Err(Error::Draining);
            }
            worker.drain(now);
            Ok(())
        })?;
        let drained = driver.wait(Some(deadline), |_, desk, waker, _| {
            if desk.closed {
                return Look::Found(());
            }
            desk.drainer = waker.cloned();
            Look::Missing(Source::Any)
        });
        if drained.is_some() {
            return Ok(());
        }
        let jobs = driver.call(|worker, _, now| {
            let jobs = worker.in_hand();
            worker.close(now);
            jobs
        });
        if jobs == 0 { Ok(()) } else { Err(Error::Unfinished { jobs }) }
    }

    /// Asks for no more jobs, and returns at once: what is in hand or on its way is still to be run, then
    /// [`run`](Self::run) and [`next`](Self::next) end. [`drain`](Self::drain) waits for that.
    pub fn finish(&self) {
        self.0.driver.call(|worker, _, now| worker.drain(now));
    }

    /// Closes it at once: jobs in hand are cancelled, and their job servers give them to other workers.
    pub fn close(&self) {
        self.0.driver.call(|worker, _, now| worker.close(now));
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        let tls = tls.into();
        self.0.driver.call(|worker, _, _| worker.set_client_tls(tls));
    }

    /// Plain counts since the worker was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.driver.call(|worker, _, _| worker.counters())
    }

    /// How long its jobs took since the worker was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.0.driver.call(|worker, _, _| worker.latencies().clone())
    }
}

/// What a thread has taken from the desk.
#[derive(Default)]
struct Hand {
    task: Option<Task>,
    /// It was no longer this worker's when it was taken.
    cancelled: bool,
    /// What the thread waits by, as there was no job.
    ticket: Option<Ticket>,
}

/// A worker that runs on threads of its own. Dropping it closes the worker at once, as [`stop`](Self::stop) does, and waits
/// for the handlers that run; for the others, where one of them drops it.
#[must_use = "dropping it stops the worker"]
pub struct Running {
    worker: Worker,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Running {
    /// The worker itself, to be asked and drained from elsewhere.
    #[must_use]
    pub const fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Asks for no more jobs, and waits until those in hand are answered, for `within` at most. A handler that still runs
    /// then keeps its thread; nobody waits for it.
    ///
    /// # Errors
    /// As [`Worker::drain`].
    pub fn drain(mut self, within: Duration) -> Result<(), Error> {
        let drained = self.worker.drain(within);
        match &drained {
            Ok(()) => self.join_threads(),
            Err(_) => self.threads.clear(),
        }
        drained
    }

    /// Closes the worker at once, and waits for the handlers that run.
    pub fn stop(self) {}

    /// Waits until the worker has been drained or closed from elsewhere.
    pub fn join(mut self) {
        self.join_threads();
    }

    fn join_threads(&mut self) {
        let own = thread::current().id();
        for thread in self.threads.drain(..).filter(|handle| handle.thread().id() != own) {
            // Handlers' panics are caught: there is none.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.worker.close();
            self.join_threads();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.counters()).finish()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.worker).finish()
    }
}
