//! A job server that we dial: connecting, waiting after a failure, and whether it still lives.

use core::fmt;
use core::time::Duration;

use bytes::{Buf, BytesMut};

use crate::address::Address;
use crate::connection::Connection;
use crate::error::ConfigError;
use crate::job::ServerId;
use crate::machine::{CloseReason, ConnId};
use crate::random::Random;
use crate::time::Instant;
use crate::trace::Span;

/// How a client or worker connects to its job servers and finds out that one is dead.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connecting {
    /// The most time a connection attempt may take, name resolution included. Default 5 s.
    pub connect_timeout: Duration,
    /// The most time a reply may take, such as JOB_CREATED, from when its request was made, or from when a long upload was last
    /// seen to move. Beyond it the connection is closed as silent. Default 15 s.
    pub reply_timeout: Duration,
    /// A connection on which nothing came for this long is probed with ECHO_REQ, idle or busy. `None`: never. Default 15 s.
    pub probe_after: Option<Duration>,
    /// The wait after a first failure; it doubles with each further one. The true wait is random between half of it and
    /// all of it. Default 100 ms.
    pub retry_first: Duration,
    /// The longest such wait. A failure is a first one again when the connection has worked for so long. Default 30 s; a worker's 5 s.
    pub retry_most: Duration,
    /// How long a server that failed is kept away from while another can be had, counted from the failure on a clock that
    /// does not go back. After it the server is tried again, with one job at first: a reply makes it as good as the others.
    /// Where no other can be had, only the waits above count. Default 30 s.
    pub recover_time: Duration,
    /// An attempt that takes longer than this lets another server be tried beside it. Default 250 ms.
    pub patience: Duration,
}

impl Default for Connecting {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(15),
            probe_after: Some(Duration::from_secs(15)),
            retry_first: Duration::from_millis(100),
            retry_most: Duration::from_secs(30),
            recover_time: Duration::from_secs(30),
            patience: Duration::from_millis(250),
        }
    }
}

impl Connecting {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (what, duration) in [
            ("connect timeout", self.connect_timeout),
            ("reply timeout", self.reply_timeout),
            ("time before a probe", self.probe_after.unwrap_or(Duration::MAX)),
            ("first wait before a retry", self.retry_first),
            ("longest wait before a retry", self.retry_most),
            ("patience with a connection attempt", self.patience),
        ] {
            if duration < Duration::from_millis(1) {
                return Err(ConfigError::BadDuration { what, must_be: "at least 1 ms" });
            }
        }
        Ok(())
    }
}

/// A reply may wait for so many bytes that come before it. Fewer within the time that it has are none: a server that dribbles
/// is silent.
const MUCH: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Connecting { since: Instant, slow: bool },
    Up,
    Waiting { until: Instant },
}

/// How the connection to a job server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkState {
    /// Not connected, and nothing speaks against trying.
    Idle,
    /// An attempt is under way.
    Connecting,
    /// An attempt is under way and takes long.
    Slow,
    /// Connected.
    Up,
    /// The last attempt failed or the connection was lost: not tried again before its time.
    Down,
    /// It is being removed: it gets no more jobs.
    Draining,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Slow => "slow to connect",
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
        })
    }
}

impl LinkState {
    /// Whether it may get jobs, now or later.
    pub(crate) const fn takes_jobs(self) -> bool {
        !matches!(self, Self::Draining)
    }
}

/// Whether a server is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    None,
    /// What it has is finished first.
    Draining,
    /// Its place may be given to another.
    Done,
}

/// What a link asks of its machine when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send an ECHO_REQ: nothing was heard for long.
    Probe,
    /// The oldest reply never came.
    Silent,
    /// The attempt took too long.
    ConnectTimeout,
}

#[derive(Debug)]
pub(crate) struct Link<R> {
    pub(crate) id: ServerId,
    pub(crate) address: Address,
    pub(crate) connection: Connection<R>,
    /// Its driver has not been told that there is something to write.
    pub(crate) untold: bool,
    /// Of its last connection.
    pub(crate) span: Span,
    index: u32,
    generation: u32,
    phase: Phase,
    failures: u32,
    /// When it was connected last.
    since: Instant,
    /// When it failed last, unless a reply has come since.
    failed: Option<Instant>,
    /// Why a connection was lost or not made the last time.
    pub(crate) failure: Option<CloseReason>,
    pub(crate) removal: Removal,
    heard: Instant,
    /// How many bytes were written when a long upload was last seen to move, and when: it is no silence.
    written: (u64, Instant),
    /// How many bytes have come on the connection, in whole packets and beside them.
    taken: u64,
    received: u64,
    /// How many had come when much was last seen to have come, and when: that is no silence either.
    moved: (u64, Instant),
    /// How many reasons there are not to read it.
    holds: u32,
    /// The next bytes that are to be passed over, so many.
    skips: u64,
    /// Whether what comes is no packet to be looked at, for either of them: asked for each packet, where working it out cost a
    /// hundredth of a job.
    deaf: bool,
}

impl<R> Link<R> {
    pub(crate) fn new(id: ServerId, address: Address, index: u32) -> Self {
        Self {
            id,
            address,
            connection: Connection::new(),
            untold: false,
            span: Span::none(),
            index,
            generation: 0,
            phase: Phase::Idle,
            failures: 0,
            since: Instant::EPOCH,
            failed: None,
            failure: None,
            removal: Removal::None,
            heard: Instant::EPOCH,
            written: (0, Instant::EPOCH),
            taken: 0,
            received: 0,
            moved: (0, Instant::EPOCH),
            holds: 0,
            skips: 0,
            deaf: false,
        }
    }

    pub(crate) const fn conn(&self) -> ConnId {
        ConnId::new(self.index, self.generation)
    }

    /// Whether `conn` is this link's connection, made or being made.
    pub(crate) fn owns(&self, conn: ConnId) -> bool {
        conn.generation() == self.generation && matches!(self.phase, Phase::Connecting { .. } | Phase::Up)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether it is being connected or waits to be.
    pub(crate) const fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Connecting { .. } | Phase::Waiting { .. })
    }

    /// Whether time alone does not change its [`state`](Self::state), nor what is thought of it.
    pub(crate) fn is_steady(&self) -> bool {
        self.failed.is_none() && !self.is_between()
    }

    /// Puts another server in the place of one that has been removed.
    pub(crate) fn replace(&mut self, id: ServerId, address: Address) {
        *self = Self { generation: self.generation, ..Self::new(id, address, self.index) };
    }

    /// Whether it failed so lately that another is to be preferred.
    pub(crate) fn is_recovering(&self, now: Instant, settings: &Connecting) -> bool {
        self.recovers_at(settings).is_some_and(|at| now < at)
    }

    /// Until when another is to be preferred, if it has failed.
    pub(crate) fn recovers_at(&self, settings: &Connecting) -> Option<Instant> {
        self.failed.map(|failed| failed + settings.recover_time)
    }

    /// Until when another is to be preferred, where nothing else speaks against trying it.
    pub(crate) fn rests_until(&self, now: Instant, settings: &Connecting) -> Option<Instant> {
        let rests = |at: &Instant| self.removal == Removal::None && self.phase == Phase::Idle && now < *at;
        self.recovers_at(settings).filter(rests)
    }

    /// When it failed last, unless it has answered since.
    pub(crate) const fn failed_at(&self) -> Option<Instant> {
        self.failed
    }

    /// Whether it has failed and not answered since.
    pub(crate) fn is_on_probation(&self) -> bool {
        self.failed.is_some()
    }

    /// When a connection may be tried again, if that is not yet.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        if let Phase::Waiting { until } = self.phase { Some(until) } else { None }
    }

    pub(crate) fn state(&self, now: Instant) -> LinkState {
        match self.phase {
            _ if self.removal != Removal::None => LinkState::Draining,
            Phase::Idle => LinkState::Idle,
            Phase::Connecting { slow: true, .. } => LinkState::Slow,
            Phase::Connecting { .. } => LinkState::Connecting,
            Phase::Up => LinkState::Up,
            Phase::Waiting { until } if until <= now => LinkState::Idle,
            Phase::Waiting { .. } => LinkState::Down,
        }
    }

    /// Begins a connection attempt; its machine tells the driver.
    pub(crate) fn dial(&mut self, now: Instant) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        self.phase = Phase::Connecting { since: now, slow: false };
        self.conn()
    }

    /// The attempt succeeded. False when none was under way.
    pub(crate) fn connected(&mut self, now: Instant) -> bool {
        let was_connecting = matches!(self.phase, Phase::Connecting { .. });
        if was_connecting {
            self.phase = Phase::Up;
            (self.since, self.heard, self.written) = (now, now, (0, now));
            (self.taken, self.received, self.moved) = (0, 0, (0, now));
            (self.holds, self.skips, self.deaf) = (0, 0, false);
        }
        was_connecting
    }

    /// Whether what comes is no packet to be looked at.
    pub(crate) const fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Passes over what has come of the next bytes, so many beside those that are passed over already. Says whether that was
    /// the last of them.
    pub(crate) fn skip(&mut self, bytes: u64, stream: &mut BytesMut) -> bool {
        let skips = self.skips.saturating_add(bytes);
        let come = usize::try_from(skips).map_or(stream.len(), |skips| skips.min(stream.len()));
        match come {
            // The room before what comes next need not be found again.
            all if all == stream.len() => stream.clear(),
            come => stream.advance(come),
        }
        self.skips = skips.saturating_sub(come as u64);
        self.deaf = self.is_held() || self.skips > 0;
        skips > 0 && self.skips == 0
    }

    /// Whether it is not to be read: then nothing it has sent can be missed.
    pub(crate) const fn is_held(&self) -> bool {
        self.holds > 0
    }

    pub(crate) fn hold(&mut self) {
        self.holds += 1;
        self.deaf = true;
    }

    /// Says whether it may be read again. Then what is due on it counts from now.
    pub(crate) fn unhold(&mut self, now: Instant) -> bool {
        let was_held = self.is_held();
        self.holds = self.holds.saturating_sub(1);
        self.deaf = self.holds > 0 || self.skips > 0;
        let resumes = was_held && !self.is_held() && self.is_up();
        if resumes {
            self.heard = now;
            self.written.1 = now;
        }
        resumes
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A reply came: the server works.
    pub(crate) fn proved(&mut self) {
        self.failed = None;
    }

    /// So many bytes came and were taken, and others are the beginning of a packet.
    pub(crate) fn received(&mut self, taken: usize, begun: usize) {
        self.taken += taken as u64;
        self.received = self.taken + begun as u64;
    }

    /// The connection is gone or was not made; returns when it may be tried again.
    pub(crate) fn lost(&mut self, now: Instant, settings: &Connecting, random: &mut Random) -> Instant {
        // One that answers and then breaks off, again and again, is left alone for longer each time.
        if self.is_up() && self.failed.is_none() && self.since + settings.retry_most <= now {
            self.failures = 0;
        }
        let doubled = settings.retry_first.saturating_mul(1 << self.failures.min(30));
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(now);
        (self.holds, self.skips, self.deaf, self.untold) = (0, 0, false, false);
        let until = now + random.jitter(doubled.min(settings.retry_most)).max(Duration::from_millis(1));
        self.phase = Phase::Waiting { until };
        until
    }

    /// Leaves it unconnected, with nothing to wait for.
    pub(crate) fn rest(&mut self) {
        self.phase = Phase::Idle;
        (self.holds, self.skips, self.deaf, self.untold) = (0, 0, false, false);
    }

    /// When it must be looked at. `wanted`: whether somebody waits for a connection that is not there.
    pub(crate) fn deadline(&self, settings: &Connecting, wanted: bool) -> Option<Instant> {
        match self.phase {
            Phase::Idle => None,
            Phase::Waiting { until } => wanted.then_some(until),
            Phase::Connecting { since, slow: false } if wanted => {
                Some(since + settings.patience.min(settings.connect_timeout))
            }
            Phase::Connecting { since, .. } => Some(since + settings.connect_timeout),
            Phase::Up if self.is_held() => None,
            Phase::Up => match self.connection.due() {
                Some((_, since)) => Some((*since).max(self.written.1).max(self.moved.1) + settings.reply_timeout),
                None => settings.probe_after.map(|quiet| self.heard + quiet),
            },
        }
    }

    /// Looks at it; whatever is due is said once.
    pub(crate) fn tick(&mut self, now: Instant, settings: &Connecting) -> Due {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Idle;
                Due::Nothing
            }
            Phase::Idle | Phase::Waiting { .. } => Due::Nothing,
            Phase::Connecting { since, .. } if since + settings.connect_timeout <= now => Due::ConnectTimeout,
            Phase::Connecting { since, .. } => {
                self.phase = Phase::Connecting { since, slow: since + settings.patience <= now };
                Due::Nothing
            }
            Phase::Up => {
                let out = &mut self.connection.out;
                if out.taken() != self.written.0 && (out.take_bulky() || out.waiting() > 0) {
                    self.written = (out.taken(), now);
                }
                if self.received.saturating_sub(self.moved.0) >= MUCH {
                    self.moved = (self.received, now);
                }
                match self.deadline(settings, true) {
                    Some(at) if at <= now && self.connection.due().is_some() => Due::Silent,
                    Some(at) if at <= now => Due::Probe,
                    _ => Due::Nothing,
                }
            }
        }
    }
}
