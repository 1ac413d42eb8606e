//! The worker's handles.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use super::driver::Connector;
use super::turnkey::{Seat, wait};
use super::{Stream, Task};
use crate::runtimes::handles::{
    Desk, Dials, HandlerError, Sealed, ToAddress, WorkerBuilder, WorkerMachine as Machine, panic_text,
};
use crate::runtimes::next::Waiting;
use crate::runtimes::std::panic::{self, AssertUnwindSafe};
use crate::runtimes::std::{io, thread};
use crate::runtimes::{Clock, Error};
use crate::worker::{Counters, JobServer, Latencies};
use crate::{Address, Instant, Rejected, ServerId};

/// What runs the jobs of one function.
type Handler = Box<dyn Fn(&mut Task) -> Result<Bytes, HandlerError> + Send + Sync>;

/// A worker with a loop of its own. Cheap to clone: to stop it from elsewhere, say.
///
/// Handlers run on the thread of the loop, one after another between its turns, so that a job costs no switch between
/// threads: right for jobs of microseconds. While one runs, its connections wait, so that what it sends comes back where there
/// is no room for it. For longer ones take the jobs with [`next`](Self::next) on threads of yours, or the blocking runtime.
#[derive(Clone)]
pub struct Worker(Arc<Inside>);

struct Inside {
    seat: Seat<Machine, Desk>,
    handlers: BTreeMap<Bytes, Handler>,
    panics_fail: bool,
}

impl Sealed for Worker {}

impl Dials for Worker {
    type Connector = Connector;
}

impl WorkerBuilder<Worker, Handler> {
    /// Has the connections made by `connect`, instead of by TCP and Unix sockets to the addresses of the job servers: with
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

    /// Offers `function` with a time limit (CAN_DO_TIMEOUT). A job that takes longer is failed once its handler is done;
    /// the handler is not interrupted. gearmand raises limits under 1 s to 1 s.
    pub fn function_timeout<R: Into<Bytes>>(
        self,
        function: impl Into<Bytes>,
        timeout: Duration,
        handler: impl Fn(&mut Task) -> Result<R, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        self.handler(function.into(), Some(timeout), Box::new(move |task| handler(task).map(Into::into)))
    }

    /// Makes the worker. It does nothing until it [runs](Worker::run).
    ///
    /// # Errors
    /// [`Error::Config`]: no job server, an address that is none, a function that is none or is given twice, or another
    /// setting that cannot be. [`Error::Io`]: there is no descriptor to be had.
    pub fn build(mut self) -> Result<Worker, Error> {
        let machine = self.machine()?;
        let seat = Seat::new(machine, Desk::default(), Clock::start(), self.listener, self.connector)?;
        let handlers = self.functions.into_iter().filter_map(|(name, _, handler)| Some((name, handler?)));
        Ok(Worker(Arc::new(Inside { seat, handlers: handlers.collect(), panics_fail: self.panics_fail })))
    }

    /// Makes the worker and runs it here until it is drained or closed, which its job servers cannot do: for a program that
    /// is a worker and nothing else.
    ///
    /// # Errors
    /// As [`build`](Self::build) and [`Worker::run`].
    pub fn run(self) -> Result<(), Error> {
        self.build()?.run()
    }

    /// Makes the worker and runs it on a thread of its own.
    ///
    /// # Errors
    /// As [`build`](Self::build); or there is no thread to be had.
    pub fn spawn(self) -> Result<Worker, Error> {
        let worker = self.build()?;
        worker.spawn()?;
        Ok(worker)
    }
}

impl Worker {
    /// Describes a worker.
    pub fn builder() -> WorkerBuilder<Self, Handler> {
        WorkerBuilder::new()
    }

    /// Moves the worker's bytes and runs its handlers on this thread until it is drained or closed; where it runs already,
    /// waits for that.
    ///
    /// # Errors
    /// [`Error::Io`]: the operating system no longer tells what is ready.
    pub fn run(&self) -> Result<(), Error> {
        self.0.seat.run(|| self.0.run_jobs())
    }

    /// Runs it on a thread of its own, from which the result of [`run`](Self::run) can be had.
    ///
    /// # Errors
    /// [`Error::Io`]: there is no thread to be had.
    pub fn spawn(&self) -> Result<thread::JoinHandle<Result<(), Error>>, Error> {
        let worker = self.clone();
        let thread = thread::Builder::new().name("gearwheel-worker".into());
        thread.spawn(move || worker.run()).map_err(Error::io("start a thread"))
    }

    /// Waits for a job to run. `None`: the worker is drained or closed. For workers without handlers, on any thread but that
    /// of the loop.
    #[must_use]
    pub fn next(&self) -> Option<Task> {
        self.next_until(None)
    }

    /// Like [`next`](Self::next), for `timeout` at most. `None`: the worker is drained or closed, or time is up.
    #[must_use]
    pub fn next_timeout(&self, timeout: Duration) -> Option<Task> {
        self.next_until(Some(self.0.seat.clock().now() + timeout))
    }

    fn next_until(&self, deadline: Option<Instant>) -> Option<Task> {
        let waiting = Waiting::new(&self.0.seat);
        wait(deadline, self.0.seat.clock(), |waker| waiting.poll(waker))?
    }

    /// Offers another function. Its jobs come out of [`next`](Self::next), or go to the handler that it was built with.
    ///
    /// # Errors
    /// The name is none, or is registered already; a timeout of zero.
    pub fn register(&self, function: impl Into<Bytes>, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.0.seat.call(|worker, _, now| worker.register(function, timeout, now))?)
    }

    /// Takes an offer back. Jobs of the function that are in hand are finished; until each job server knows, more may come.
    ///
    /// # Errors
    /// The function is not registered.
    pub fn unregister(&self, function: &[u8]) -> Result<(), Rejected<()>> {
        self.0.seat.call(|worker, _, now| worker.unregister(function, now))
    }

    /// Takes all offers back, each as [`unregister`](Self::unregister) does.
    pub fn unregister_all(&self) {
        self.0.seat.call(|worker, _, now| worker.unregister_all(now));
    }

    /// The time by the worker's clock, which `retry_at` of its events and [`servers`](Self::servers) is told by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.seat.clock().now()
    }

    /// Takes up one more job server.
    ///
    /// # Errors
    /// It is no address, or is there already.
    pub fn add_server(&self, server: impl ToAddress) -> Result<ServerId, Error> {
        let address = server.to_address()?;
        Ok(self.0.seat.call(|worker, _, now| worker.add_server(address, now))?)
    }

    /// Removes a job server. With `drain` the jobs that it has given are finished first, else they are cancelled.
    ///
    /// # Errors
    /// There is no such server.
    pub fn remove_server(&self, server: ServerId, drain: bool) -> Result<(), Rejected<ServerId>> {
        self.0.seat.call(|worker, _, now| worker.remove_server(server, drain, now))
    }

    /// Each job server and how it stands, in the order they were given.
    #[must_use]
    pub fn servers(&self) -> Vec<JobServer> {
        self.0.seat.look(|worker, _| worker.servers().collect())
    }

    /// Asks for no more jobs, and waits until those in hand are answered and everything has been written, for `within` at
    /// most: then the worker is closed, and its job servers give what is left to other workers. To be called by another
    /// thread than that of the loop.
    ///
    /// # Errors
    /// [`Error::Draining`]: a drain is under way, which holds. [`Error::Unfinished`]: so many jobs were left.
    pub fn drain(&self, within: Duration) -> Result<(), Error> {
        self.0.seat.drain(within)
    }

    /// Asks for no more jobs, and returns at once: what is in hand or on its way is still to be run, then
    /// [`run`](Self::run) and [`next`](Self::next) end. [`drain`](Self::drain) waits for that.
    pub fn finish(&self) {
        self.0.seat.call(|worker, _, now| worker.drain(now));
    }

    /// Closes it at once: jobs in hand are cancelled, and their job servers give them to other workers.
    pub fn close(&self) {
        self.0.seat.close();
    }

    /// Has the connections that are made from now on encrypted so, as when a certificate has been renewed. Those that stand stay as
    /// they are.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<crate::tls::ClientTls>) {
        let tls = tls.into();
        self.0.seat.call(|worker, _, _| worker.set_client_tls(tls));
    }

    /// Plain counts since the worker was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.seat.look(|worker, _| worker.counters())
    }

    /// How long its jobs took since the worker was made.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.0.seat.look(|worker, _| worker.latencies().clone())
    }
}

impl Inside {
    /// Runs what waits on the desk. Says whether there was anything.
    fn run_jobs(&self) -> bool {
        if self.handlers.is_empty() {
            return false;
        }
        let mut any = false;
        while let Some((assignment, gone)) = self.seat.look(|_, desk| desk.take_to_run()) {
            any = true;
            let hub = Arc::clone(&self.seat);
            let now = hub.clock().now();
            let task = Task::new(assignment, hub, now).on_the_loop();
            if !gone {
                self.run_job(task);
            }
        }
        any
    }

    fn run_job(&self, mut task: Task) {
        let Some(handler) = self.handlers.get(task.function()) else {
            task.answer(Err("this worker has no handler for the function".into()));
            return;
        };
        match panic::catch_unwind(AssertUnwindSafe(|| task.within(|task| handler(task)))) {
            Ok(result) => task.answer(result),
            Err(_) if self.panics_fail => drop(task.fail()),
            Err(panic) => drop(task.exception(Bytes::copy_from_slice(panic_text(&*panic).as_bytes()))),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.counters()).finish()
    }
}
