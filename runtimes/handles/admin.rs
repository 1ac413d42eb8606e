//! What the admin handles of all runtimes share: how one is described, its commands, and where replies wait.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::task::Waker;
use core::time::Duration;

use super::post::replace;
use super::{AdminMachine, Dials, ToAddress};
use crate::admin::{Admin, Config, Error as CommandError, Event, RequestId};
use crate::runtimes::{Error, seed};
use crate::wire::admin::Reply;
use crate::{CloseReason, ConfigError, Limits, Seed};

/// Describes an admin connection. What is wrong with it is said by `build`.
#[must_use]
pub struct AdminBuilder<A: Dials> {
    config: Config,
    pub(crate) connector: Option<A::Connector>,
    error: Option<ConfigError>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ClientTls>,
    builds: PhantomData<fn() -> A>,
}

impl<A: Dials> AdminBuilder<A> {
    pub(crate) fn new() -> Self {
        Self {
            config: Config::new(seed()),
            connector: None,
            error: None,
            #[cfg(feature = "tls")]
            tls: None,
            builds: PhantomData,
        }
    }

    /// The job server that is asked.
    pub fn server(mut self, server: impl ToAddress) -> Self {
        match server.to_address() {
            Ok(address) => self.config.server = Some(address),
            Err(error) => self.error = self.error.or(Some(error)),
        }
        self
    }

    /// The most time from a command to the end of its reply, connecting included. Default 15 s.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.config.timeout = within;
        self
    }

    /// The most time a connection attempt may take. Default 5 s.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.config.connecting.connect_timeout = within;
        self
    }

    /// Encrypts the connection to the job server.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::tls::ClientTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// What it may hold: `max_packet` bounds the bytes of a reply, `max_jobs` the commands outstanding.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Where its randomness comes from, for runs that repeat. Default: the operating system.
    pub fn seed(mut self, seed: impl Into<Seed>) -> Self {
        self.config.seed = seed.into();
        self
    }

    /// Changes whatever else there is.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// The machine of it all.
    pub(crate) fn machine(self) -> Result<(AdminMachine, Option<A::Connector>), Error> {
        match self.error {
            Some(error) => Err(error.into()),
            None => {
                let machine = Admin::new(self.config)?;
                #[cfg(feature = "tls")]
                let machine = crate::runtimes::tls::dialling(machine, self.tls);
                Ok((machine, self.connector))
            }
        }
    }
}

impl<A: Dials> fmt::Debug for AdminBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminBuilder").field("config", &self.config).field("error", &self.error).finish_non_exhaustive()
    }
}

/// Where the replies of an admin machine wait for those who asked.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    open: BTreeMap<RequestId, Open>,
    /// What became of the last attempt to connect, and who waits for that: whoever makes the handle.
    connected: Option<Result<(), CloseReason>>,
    connecting: Option<Waker>,
}

#[derive(Debug, Default)]
struct Open {
    result: Option<Result<Reply, CommandError>>,
    waker: Option<Waker>,
}

impl Replies {
    /// A reply is wanted. To be called before the machine is polled.
    pub(crate) fn expect(&mut self, request: RequestId) {
        self.open.insert(request, Open::default());
    }

    /// The reply to `request`, once.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<Result<Reply, CommandError>> {
        let result = self.open.get_mut(&request)?.result.take()?;
        self.open.remove(&request);
        Some(result)
    }

    /// Whom to wake when the reply to `request` comes. Returns whom not to wake any more: a waker is to be dropped with nothing
    /// locked, as its task may be dropped with it, and what that has of this very handle.
    pub(crate) fn register(&mut self, request: RequestId, waker: &Waker) -> Option<Waker> {
        replace(&mut self.open.get_mut(&request)?.waker, waker)
    }

    /// Nobody takes the reply to `request` any more. Returns what [`register`](Self::register) does.
    pub(crate) fn forget(&mut self, request: RequestId) -> Option<Waker> {
        self.open.remove(&request)?.waker
    }

    /// Whether it is connected, or why not; `None` as long as that is not known.
    pub(crate) fn connected(&self) -> Option<Result<(), CloseReason>> {
        self.connected.clone()
    }

    /// Whom to wake when that is known. Returns what [`register`](Self::register) does.
    pub(crate) fn register_connecting(&mut self, waker: &Waker) -> Option<Waker> {
        replace(&mut self.connecting, waker)
    }

    /// Puts an event where it belongs, and tells whom to wake.
    pub(crate) fn deliver(&mut self, event: Event, wake: &mut Vec<Waker>) {
        match event {
            Event::Reply { request, result } => {
                if let Some(open) = self.open.get_mut(&request) {
                    open.result = Some(result);
                    wake.extend(open.waker.take());
                }
            }
            Event::Connected => self.settle(Ok(()), wake),
            Event::Disconnected { reason } => self.settle(Err(reason), wake),
            Event::Closed => self.settle(Err(CloseReason::Local), wake),
        }
    }

    fn settle(&mut self, connected: Result<(), CloseReason>, wake: &mut Vec<Waker>) {
        self.connected = Some(connected);
        wake.extend(self.connecting.take());
    }
}

/// What is wanted of a reply. `None`: it is another command's, which the machine does not let happen.
pub(crate) fn unpack<T>(reply: Reply, unpack: fn(Reply) -> Option<T>) -> Result<T, Error> {
    unpack(reply).ok_or(Error::Refused(crate::Reason::Unknown("reply")))
}

/// All commands as methods, on a method `ask(Request)`: the same words for every runtime. `[] []` makes them block,
/// `[async] [.await]` makes them futures.
macro_rules! commands {
    ([$($async:tt)*] [$($await:tt)*]) => {
        /// Each function that the job server knows, with its jobs and workers (`status`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn status(&self) -> Result<Vec<FunctionStatus>, Error> {
            unpack(self.request(Request::Status)$($await)*?, |reply| match reply {
                Reply::Status(rows) => Some(rows),
                _ => None,
            })
        }

        /// The queued jobs of each function by priority (`prioritystatus`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn priority_status(&self) -> Result<Vec<PriorityStatus>, Error> {
            unpack(self.request(Request::PriorityStatus)$($await)*?, |reply| match reply {
                Reply::PriorityStatus(rows) => Some(rows),
                _ => None,
            })
        }

        /// Each connection of the job server, clients and this one included, and what it can run (`workers`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn workers(&self) -> Result<Vec<WorkerStatus>, Error> {
            unpack(self.request(Request::Workers)$($await)*?, |reply| match reply {
                Reply::Workers(rows) => Some(rows),
                _ => None,
            })
        }

        /// Each job that has not ended (`show jobs`). Perl's job server cannot tell.
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn jobs(&self) -> Result<Vec<JobStatus>, Error> {
            unpack(self.request(Request::ShowJobs)$($await)*?, |reply| match reply {
                Reply::Jobs(rows) => Some(rows),
                _ => None,
            })
        }

        /// The unique of each job that has not ended, and from gearmand 2.2 on its handle (`show unique jobs`). Perl's job
        /// server cannot tell.
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn unique_jobs(&self) -> Result<Vec<UniqueJob>, Error> {
            unpack(self.request(Request::ShowUniqueJobs)$($await)*?, |reply| match reply {
                Reply::UniqueJobs(rows) => Some(rows),
                _ => None,
            })
        }

        /// Cancels a job that is queued: its clients get WORK_FAIL (`cancel job`). gearmand says yes for a running job, too,
        /// and sends WORK_FAIL, but the job runs on.
        ///
        /// # Errors
        /// As [`request`](Self::request); refused as `UNKNOWN_JOB` where no such job is.
        pub $($async)* fn cancel_job(&self, handle: impl AsRef<[u8]>) -> Result<(), Error> {
            let handle = Bytes::copy_from_slice(handle.as_ref());
            self.done(Request::CancelJob { handle })$($await)*
        }

        /// Makes a function known to the job server before anybody offers or asks for it (`create function`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn create_function(&self, function: impl Into<Bytes>) -> Result<(), Error> {
            let function = function.into();
            self.done(Request::CreateFunction { function })$($await)*
        }

        /// Makes the job server forget a function without jobs and workers (`drop function`).
        ///
        /// # Errors
        /// As [`request`](Self::request); refused where there is no such function, or where it is in use.
        pub $($async)* fn drop_function(&self, function: impl Into<Bytes>) -> Result<(), Error> {
            let function = function.into();
            self.done(Request::DropFunction { function })$($await)*
        }

        /// How many jobs a function may have, running ones included, before the next is refused: for high, normal and low
        /// priority (`maxqueue`). Zero is no limit. Job servers say yes for an unknown function, too, and forget it.
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn max_queue(&self, function: impl Into<Bytes>, limits: [u32; 3]) -> Result<(), Error> {
            let function = function.into();
            self.done(Request::MaxQueue { function, limits })$($await)*
        }

        /// The process id of the job server (`getpid`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn pid(&self) -> Result<u64, Error> {
            unpack(self.request(Request::Pid)$($await)*?, |reply| match reply {
                Reply::Pid(pid) => Some(pid),
                _ => None,
            })
        }

        /// How much the job server logs, such as `ERROR` (`verbose`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn verbose(&self) -> Result<String, Error> {
            unpack(self.request(Request::Verbose)$($await)*?, |reply| match reply {
                Reply::Verbose(text) => Some(String::from_utf8_lossy(&text).into()),
                _ => None,
            })
        }

        /// The version of the job server (`version`).
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn version(&self) -> Result<String, Error> {
            unpack(self.request(Request::Version)$($await)*?, |reply| match reply {
                Reply::Version(text) => Some(String::from_utf8_lossy(&text).into()),
                _ => None,
            })
        }

        /// Ends the job server (`shutdown`); with `graceful`, once what runs is finished. gearmand has it no more, and our
        /// own only where its configuration allows it.
        ///
        /// # Errors
        /// As [`request`](Self::request).
        pub $($async)* fn shutdown(&self, graceful: bool) -> Result<(), Error> {
            self.done(Request::Shutdown { graceful })$($await)*
        }

        $($async)* fn done(&self, request: Request) -> Result<(), Error> {
            self.request(request)$($await)*.map(drop)
        }
    };
}

pub(crate) use commands;
