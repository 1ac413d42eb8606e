//! A job as its owner sees it: what is submitted, its names, how it ends.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::error::{ConfigError, ProtocolError, lossy};
use crate::excerpt::{Excerpt, debug};
use crate::machine::CloseReason;
use crate::wire::PacketType;

/// Bytes that a function name may have, as in libgearman.
pub const MAX_FUNCTION: usize = 512;
/// Bytes that a unique may have: gearmand cuts or refuses longer ones.
pub const MAX_UNIQUE: usize = 63;

/// Bytes that a handle may have: gearmand's have at most 63, those of others a host name and a number.
pub(crate) const MAX_HANDLE: usize = 512;

/// Bytes of the code and of the text of an ERROR that are kept.
const MAX_ERROR: usize = 4 << 10;

/// The last time, since 1970, to which gearmand answers. Later ones have no reply, and the next job's would be taken for it.
const LAST_START: Duration = Duration::from_secs(i64::MAX.unsigned_abs());

/// Bytes that a client id may have: gearmand keeps no more.
pub const MAX_CLIENT_ID: usize = 127;

/// A job to submit.
///
/// ```
/// # use gearwheel::{Job, Priority};
/// # use core::time::Duration;
/// let job = Job::new("resize", &b"image bytes"[..]).unique("image-42").priority(Priority::High).timeout(Duration::from_secs(30));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    pub(crate) function: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) unique: Unique,
    pub(crate) priority: Priority,
    pub(crate) background: bool,
    pub(crate) extra: Option<Box<Extra>>,
}

debug!(struct Job { function, payload, unique, priority, background, extra });

/// What few jobs have: apart, so that a job is small.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) deadlines: Deadlines,
    pub(crate) retry: Option<Retry>,
    pub(crate) start: Option<Start>,
    pub(crate) reducer: Option<Bytes>,
    pub(crate) max_unread: Option<usize>,
}

debug!(struct Extra { deadlines, retry, start, reducer, max_unread });

/// Not before when a delayed job is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Since 1970.
    At(Duration),
    After(Duration),
}

impl Job {
    /// A foreground job of normal priority: `function` is to be run on `payload`. Both may be static texts and bytes, a `String`,
    /// a `Vec` or [`Bytes`]; of other slices make a copy first: `slice.to_vec()`.
    ///
    /// A function has at most [`MAX_FUNCTION`] bytes; how large a payload may be, [`Limits::max_packet`](crate::Limits::max_packet)
    /// says.
    #[must_use]
    pub fn new(function: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self {
            function: function.into(),
            payload: payload.into(),
            unique: Unique::None,
            priority: Priority::Normal,
            background: false,
            extra: None,
        }
    }

    /// Makes it a background job: it ends for its client with [`Outcome::Queued`], and nobody gets its result.
    #[must_use]
    pub fn background(mut self) -> Self {
        self.background = true;
        self
    }

    /// Its unique: the job server joins jobs of one function and one unique. At most [`MAX_UNIQUE`] bytes.
    #[must_use]
    pub fn unique(mut self, unique: impl Into<Bytes>) -> Self {
        self.unique = Unique::Own(unique.into());
        self
    }

    /// Lets the job server take the payload for the unique (`-` on the wire): jobs of one function and one payload are
    /// joined.
    #[must_use]
    pub fn payload_unique(self) -> Self {
        self.unique(&b"-"[..])
    }

    /// Makes a hash of the payload its unique, as libgearman does for `#`: like [`payload_unique`](Self::payload_unique),
    /// but the same on every job server, and with [`Balance::ByUnique`](crate::Balance::ByUnique) on the same one.
    #[must_use]
    pub fn hashed_unique(self) -> Self {
        let hash = crate::murmur::payload_hash(&self.payload);
        self.unique(alloc::format!("{hash}"))
    }

    /// Gives it a random unique of 128 bits, a new one for each attempt.
    #[must_use]
    pub fn generated_unique(mut self) -> Self {
        self.unique = Unique::Generated;
        self
    }

    /// Its priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Makes it a background job that is not run before a time, in whole seconds since 1970 (SUBMIT_JOB_EPOCH); a time in the
    /// past means at once. One after 2^63 - 1 s counts as that. It has normal priority.
    #[must_use]
    pub fn at(mut self, since_1970: Duration) -> Self {
        self.start_at(since_1970);
        self.background()
    }

    /// Whether its client must know the wall time.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    #[inline]
    pub(crate) fn has_delay(&self) -> bool {
        matches!(self.start(), Some(Start::After(_)))
    }

    pub(crate) fn start_at(&mut self, since_1970: Duration) {
        self.extra_mut().start = Some(Start::At(since_1970.min(LAST_START)));
    }

    /// Makes it a background job that is not run before `delay` has passed since `submit`, rounded up to a whole second by
    /// the client's wall clock (SUBMIT_JOB_EPOCH). It has normal priority.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.extra_mut().start = Some(Start::After(delay));
        self.background()
    }

    /// Makes it a map/reduce job (SUBMIT_REDUCE_JOB): a worker that grabs all forms learns the name of the reducer, which it
    /// is to run on its partial results. It has normal priority.
    #[must_use]
    pub fn reducer(mut self, reducer: impl Into<Bytes>) -> Self {
        self.extra_mut().reducer = Some(reducer.into());
        self
    }

    /// The most time from `submit` to its end, whatever happens. Default: the client's.
    #[must_use]
    pub fn timeout(mut self, total: Duration) -> Self {
        self.extra_mut().deadlines.total = Some(total);
        self
    }

    /// The most time from `submit` to the job server's JOB_CREATED. Default: the client's.
    #[must_use]
    pub fn accept_timeout(mut self, accept: Duration) -> Self {
        self.extra_mut().deadlines.accept = Some(accept);
        self
    }

    /// The most time without any sign of life from the worker once the job is accepted. Default: the client's.
    #[must_use]
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.extra_mut().deadlines.idle = Some(idle);
        self
    }

    /// What to do when the job is lost. Default: the client's.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.extra_mut().retry = Some(retry);
        self
    }

    /// How many bytes of it may wait to be read. Default: the client's
    /// [`Limits::max_unread`](crate::Limits::max_unread), which says what is counted and what happens beyond.
    #[must_use]
    pub fn max_unread(mut self, bytes: usize) -> Self {
        self.extra_mut().max_unread = Some(bytes);
        self
    }

    /// With a total deadline no later than this.
    #[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
    pub(crate) fn at_most(self, total: Duration) -> Self {
        let own = self.extra.as_ref().and_then(|extra| extra.deadlines.total);
        self.timeout(own.map_or(total, |own| own.min(total)))
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Its function.
    #[must_use]
    pub fn function(&self) -> &[u8] {
        &self.function
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The packet type that submits it.
    pub(crate) fn packet(&self) -> PacketType {
        match (self.background, self.priority) {
            _ if self.start().is_some() => PacketType::SUBMIT_JOB_EPOCH,
            (false, _) if self.reducer_name().is_some() => PacketType::SUBMIT_REDUCE_JOB,
            (true, _) if self.reducer_name().is_some() => PacketType::SUBMIT_REDUCE_JOB_BACKGROUND,
            (false, Priority::Normal) => PacketType::SUBMIT_JOB,
            (false, Priority::High) => PacketType::SUBMIT_JOB_HIGH,
            (false, Priority::Low) => PacketType::SUBMIT_JOB_LOW,
            (true, Priority::Normal) => PacketType::SUBMIT_JOB_BG,
            (true, Priority::High) => PacketType::SUBMIT_JOB_HIGH_BG,
            (true, Priority::Low) => PacketType::SUBMIT_JOB_LOW_BG,
        }
    }

    pub(crate) fn start(&self) -> Option<Start> {
        self.extra.as_ref().and_then(|extra| extra.start)
    }

    pub(crate) fn reducer_name(&self) -> Option<&Bytes> {
        self.extra.as_ref().and_then(|extra| extra.reducer.as_ref())
    }

    pub(crate) fn check(&self, max_packet: usize) -> Result<(), ConfigError> {
        check_function(&self.function)?;
        let mut size = self.function.len() + 2;
        match &self.unique {
            Unique::Own(unique) => {
                ConfigError::check_name("unique", unique, MAX_UNIQUE)?;
                size += unique.len();
            }
            Unique::Generated => size += 32,
            Unique::None => {}
        }
        if self.start().is_some() {
            if self.priority != Priority::Normal || self.reducer_name().is_some() {
                return Err(ConfigError::NoSuchJob("a delayed job has normal priority and no reducer"));
            }
            size += 20;
        }
        if let Some(reducer) = self.reducer_name() {
            if self.priority != Priority::Normal {
                return Err(ConfigError::NoSuchJob("a map/reduce job has normal priority"));
            }
            ConfigError::check_name("reducer", reducer, MAX_UNIQUE)?;
            size += reducer.len() + 2;
        }
        let limit = max_packet.saturating_sub(size);
        if self.payload.len() > limit {
            return Err(ConfigError::TooLong { what: "payload", length: self.payload.len(), limit });
        }
        Ok(())
    }
}

pub(crate) fn check_function(function: &[u8]) -> Result<(), ConfigError> {
    if function.is_empty() {
        return Err(ConfigError::EmptyFunction);
    }
    ConfigError::check_name("function", function, MAX_FUNCTION)
}

pub(crate) fn check_client_id(id: &str) -> Result<(), ConfigError> {
    if id.is_empty() || id.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(ConfigError::BadClientId { id: lossy(id.as_bytes()) });
    }
    ConfigError::check_name("client id", id.as_bytes(), MAX_CLIENT_ID)
}

/// Which unique a job is submitted with.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unique {
    /// None: the job is never joined with another.
    None,
    /// A random one, new for each attempt: never joined, but can be asked after by unique.
    Generated,
    /// The caller's.
    Own(Bytes),
}

debug!(
    enum Unique {
        None,
        Generated,
        Own(unique),
    }
);

/// The priority of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has three")]
pub enum Priority {
    /// Before all others.
    High,
    /// Neither.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// The times after which a job ends with [`Outcome::TimedOut`]. `None` means the client's default, in the client's own
/// defaults never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// From `submit` to the job server's JOB_CREATED, and again from a loss after it when the job is tried again. The
    /// client's default is 30 s.
    pub accept: Option<Duration>,
    /// From `submit` to the end. The client's default is never.
    pub total: Option<Duration>,
    /// From one sign of the job's life (JOB_CREATED, WORK_STATUS, WORK_DATA, WORK_WARNING) to the next. The client's
    /// default is never.
    pub idle: Option<Duration>,
}

/// When a lost job is submitted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Never: the first loss ends it.
    Never,
    /// While the job server cannot have got all of it: no job runs twice by this. The default.
    Unsent,
    /// Whenever it is lost, as running it twice does no harm: up to this many attempts in all, at growing intervals.
    Idempotent {
        /// The most times it is submitted.
        attempts: u32,
    },
}

/// A job of one client, from `submit` on. Never on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    index: u32,
    generation: u32,
}

impl JobId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place of this job in a table of those outstanding: dense, and used again after the job has ended.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({}.{})", self.index, self.generation)
    }
}

/// A job server of one client or worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub(crate) u32);

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({})", self.0)
    }
}

const SHORT: usize = 30;

/// The handle in an argument of a packet, as it came.
pub(crate) fn handle_name(argument: &[u8]) -> &[u8] {
    argument.strip_suffix(&[0]).unwrap_or(argument)
}

/// The name that a job server gave a job. It holds for one connection: after a restart the server may give it to another.
#[derive(Clone)]
pub struct Handle(Repr);

#[derive(Clone)]
enum Repr {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

impl Handle {
    /// The handle in an argument of a packet. gearmand and some workers end it with a NUL, which is none of it.
    #[must_use]
    #[inline]
    pub fn from_wire(argument: &[u8]) -> Self {
        Self::of(handle_name(argument))
    }

    /// The handle that is this, as it is.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name);
                Self(Repr::Short { length: u8::try_from(name.len()).unwrap_or(0), bytes })
            }
            None => Self(Repr::Long(name.into())),
        }
    }

    /// Whether it is this one.
    #[inline]
    pub(crate) fn is(&self, name: &[u8]) -> bool {
        match &self.0 {
            Repr::Short { length, bytes } => {
                usize::from(*length) == name.len()
                    && bytes.get(..name.len()).is_some_and(|bytes| are_equal(bytes, name))
            }
            Repr::Long(bytes) => **bytes == *name,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Repr::Long(bytes) => bytes,
        }
    }
}

/// Compares names of one length word by word: a call costs more than most of them.
#[inline]
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(last), Some(other)) => last == other && a.chunks_exact(8).eq(b.chunks_exact(8)),
        _ => a == b,
    }
}

/// The name in the argument of a packet that makes it known. There is one: else nobody could tell whose the results are.
#[inline]
pub(crate) fn given_name(kind: PacketType, argument: &[u8]) -> Result<&[u8], ProtocolError> {
    let name = handle_name(argument);
    if (1..=MAX_HANDLE).contains(&name.len()) {
        Ok(name)
    } else {
        Err(ProtocolError::BadArgument { kind, argument: "handle" })
    }
}

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Handle {}

impl PartialOrd for Handle {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Handle {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// The handle that was kept as this text.
impl From<&str> for Handle {
    fn from(name: &str) -> Self {
        Self::of(name.as_bytes())
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_bytes().escape_ascii(), f)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_bytes() {
            // No job server gives such a name.
            long if long.len() > MAX_HANDLE => Excerpt(long).fmt(f),
            _ => fmt::Display::fmt(self, f),
        }
    }
}

/// How far a job had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Not given to any connection: no job server knows of it.
    Parked,
    /// Given to a connection that had not taken all its bytes: no job server has it. If it was given up then, or a deadline
    /// passed, the connection goes on to send it: it may be run, and nobody gets its result.
    Sending,
    /// All bytes taken, or in a writer's hand; no JOB_CREATED: the job server may or may not have it.
    Sent,
    /// The job server has it.
    Accepted,
    /// A worker has it: something came of it.
    Running,
}

impl Phase {
    /// In words, behind what happened to the job.
    pub(crate) const fn so_far(self) -> &'static str {
        match self {
            Self::Parked => "before any job server could be had",
            Self::Sending => "before it was sent",
            Self::Sent => "before its job server said that it has it",
            Self::Accepted => "before any worker was heard of",
            Self::Running => "while it ran",
        }
    }
}

/// How a job ended. Each accepted submission ends in exactly one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// WORK_COMPLETE: the result.
    Complete(Bytes),
    /// WORK_FAIL.
    Failed,
    /// WORK_EXCEPTION: what the worker threw.
    Exception(Bytes),
    /// The job server has queued a background job.
    Queued {
        /// The job server's name for it.
        handle: Handle,
        /// The job server, to be asked how the job is: `status_of`.
        server: ServerId,
    },
    /// The job server refused it with ERROR.
    Rejected(ServerError),
    /// One of its deadlines passed.
    TimedOut {
        /// How far it had come.
        phase: Phase,
        /// The job server that had it; in [`Phase::Parked`] the one that failed last, if any has.
        server: Option<Address>,
        /// In [`Phase::Parked`], why that one could not be had.
        reason: Option<CloseReason>,
        /// How often it was submitted.
        attempts: u32,
    },
    /// The connection to its job server was lost, and its [`Retry`] did not allow another attempt.
    Lost {
        /// How far it had come.
        phase: Phase,
        /// The job server that it was lost with.
        server: Address,
        /// What became of the connection.
        reason: CloseReason,
        /// How often it was submitted.
        attempts: u32,
    },
    /// More came of it than may wait to be read, and its user did not read; or more than a packet may have. It is given up:
    /// the job server is not told, and what still comes of it is dropped. See [`Unread`](crate::client::Unread).
    Overflow {
        /// The bytes that may wait, [`Limits::max_unread`](crate::Limits::max_unread) or the job's own; or those of a packet,
        /// [`Limits::max_packet`](crate::Limits::max_packet).
        limit: usize,
        /// How far it had come.
        phase: Phase,
        /// The job server that has it.
        server: Address,
        /// How often it was submitted.
        attempts: u32,
    },
    /// It was abandoned, or its client closed.
    Cancelled {
        /// How far it had come.
        phase: Phase,
    },
}

debug!(enum Outcome {
    Complete(result),
    Failed,
    Exception(thrown),
    Queued { handle, server },
    Rejected(error),
    TimedOut { phase, server, reason, attempts },
    Lost { phase, server, reason, attempts },
    Overflow { limit, phase, server, attempts },
    Cancelled { phase }
});

/// In a sentence; of a result only its length.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete(result) => write!(f, "the job is complete: {} bytes", result.len()),
            Self::Failed => f.write_str("the job failed"),
            Self::Exception(thrown) => write!(f, "the job threw an exception: {}", Excerpt(thrown)),
            Self::Queued { handle, .. } => write!(f, "the job is queued as {handle}"),
            Self::Rejected(error) => write!(f, "{error}"),
            Self::TimedOut { phase, server, reason, .. } => {
                write!(f, "the job timed out {}{}", phase.so_far(), LastFailure(server.as_ref(), reason.as_ref()))
            }
            Self::Lost { phase, server, reason, .. } => {
                write!(f, "the job was lost with {server} {}: {reason}", phase.so_far())
            }
            Self::Overflow { limit, .. } => {
                write!(f, "the job was given up: more than {limit} bytes came of it at once, or unread")
            }
            Self::Cancelled { phase } => write!(f, "the job was given up {}", phase.so_far()),
        }
    }
}

/// Behind what happened to a job that waited in vain for a job server: why it could not be had, if that is known.
pub(crate) struct LastFailure<'a>(pub(crate) Option<&'a Address>, pub(crate) Option<&'a CloseReason>);

impl fmt::Display for LastFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Some(server), Some(reason)) => write!(f, "; the last that failed is {server}: {reason}"),
            _ => Ok(()),
        }
    }
}

/// What a job server said in an ERROR packet, or in an ERR line of the text protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job server says {code}{}{text}", if code.is_empty() || text.is_empty() { "" } else { ": " })]
#[non_exhaustive]
pub struct ServerError {
    /// For programs, such as `QUEUE_ERROR`.
    pub code: Box<str>,
    /// For people.
    pub text: Box<str>,
}

impl ServerError {
    /// What an ERROR says, as far as anybody reads it.
    pub(crate) fn from_wire(code: &[u8], text: &[u8]) -> Self {
        let short = |text: &[u8]| lossy(text.get(..MAX_ERROR).unwrap_or(text));
        Self { code: short(code), text: short(text) }
    }
}
