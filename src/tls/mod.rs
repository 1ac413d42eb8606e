//! TLS around any machine, on any loop (feature `tls`).
//!
//! [`Secured`] is a [`Machine`] around a [`Machine`]: its driver sees encrypted bytes, the machine inside plain ones, and
//! neither knows. The clients, workers, servers and admin connections of the runtimes take it from their builders (`tls`);
//! whoever drives a machine himself wraps it himself:
//!
//! ```
//! use gearwheel::client::{Client, Config};
//! use gearwheel::tls::{ClientTls, Roots, Secured};
//!
//! # fn example(pem: &[u8]) -> Result<(), Box<dyn core::error::Error>> {
//! let mut config = Config::new([7; 32]);
//! config.servers.push("jobs.example.org".parse()?);
//! let client = Secured::client(Client::new(config)?, ClientTls::new(Roots::from_pem(pem)?)?);
//! // Drive it as any machine; the client's own methods are there, too.
//! assert_eq!(client.outstanding(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - The machine inside hears [`Input::Connected`] when the handshake is done. A handshake that fails or takes too long is a
//!   [`Input::Closed`] with [`CloseReason::Tls`], which says who is at fault; the other side is told by an alert.
//! - What the machine inside has to write is encrypted when the driver comes for it, about 100 KiB ahead, and counts as taken
//!   when the driver has taken the whole record that it is in: how far a job has come is known as exactly as without TLS.
//! - A client that says close_notify still gets the answers to what it has asked before, if it takes them within a second and
//!   its connection stays open for as long.
//! - An end without close_notify is an end like any other: packets have a length, so that one cut short is never taken for
//!   whole. A connection that the machine inside closes gets a close_notify where its driver writes it (see
//!   [`Output::Disconnect`]).
//! - Nothing is held without a limit: at most 128 KiB of an incomplete record or handshake message, one reading of the driver
//!   decrypted while the machine inside does not want to read, and what is encrypted ahead.

mod reason;
mod session;
mod settings;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

use bytes::BytesMut;
pub use rustls;
use rustls::pki_types::ServerName;

use self::session::{Came, Phase, Session};
pub use self::settings::{ClientCertificates, ClientTls, Error, Identity, Roots, ServerTls};
use crate::machine::{CloseReason, ConnId, Input, Machine, Outgoing, Output, Peer};
use crate::time::{Instant, earlier};

/// How long a peer may take to read why it is refused, or what it is answered when it has parted.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A machine whose connections are encrypted, or, where nothing is set up, the machine as it is.
///
/// It derefs to the machine inside, for its own methods. Inputs go to this one alone.
pub struct Secured<M> {
    machine: M,
    layer: Option<Box<Layer>>,
}

struct Layer {
    client: Option<ClientTls>,
    server: Option<ServerTls>,
    /// By the index of the connection.
    places: Vec<Place>,
    /// Connections whose outgoing bytes the driver has looked at, and may have taken.
    noticed: Vec<ConnId>,
    /// What the driver is to be told before anything of the machine inside.
    said: VecDeque<Said>,
    deadlines: BTreeSet<(Instant, ConnId)>,
    /// A connection that the driver was just told to close: it may still write what is in it.
    parting: Option<Box<Session>>,
    gathered: Vec<u8>,
    now: Instant,
}

enum Place {
    Empty,
    /// The driver connects. The certificate must be for `name`.
    Dialling {
        conn: ConnId,
        name: ServerName<'static>,
        within: Duration,
    },
    Up(Box<Session>),
}

enum Said {
    Transmit(ConnId),
    /// This layer ends the connection: the machine inside is told when the driver is.
    End(ConnId, CloseReason),
}

impl<M> Secured<M> {
    /// The machine as it is, without TLS.
    pub const fn plain(machine: M) -> Self {
        Self { machine, layer: None }
    }

    /// Encrypts the connections that the machine dials. Those it accepts stay plain.
    pub fn client(machine: M, tls: ClientTls) -> Self {
        Self { machine, layer: Some(Box::new(Layer::new(Some(tls), None))) }
    }

    /// Encrypts the connections that the machine accepts, but for those of a [plain](Peer::plain) peer. Those it dials stay
    /// plain.
    pub fn server(machine: M, tls: ServerTls) -> Self {
        Self { machine, layer: Some(Box::new(Layer::new(None, Some(tls)))) }
    }

    /// Has the connections that are dialled from now on encrypted so, as when a certificate has been renewed. Those that
    /// stand stay as they are.
    pub fn set_client_tls(&mut self, tls: ClientTls) {
        self.layer_mut().client = Some(tls);
    }

    /// Has the connections that are accepted from now on encrypted so, as when a certificate has been renewed. Those that
    /// stand stay as they are.
    pub fn set_server_tls(&mut self, tls: ServerTls) {
        self.layer_mut().server = Some(tls);
    }

    fn layer_mut(&mut self) -> &mut Layer {
        self.layer.get_or_insert_with(|| Box::new(Layer::new(None, None)))
    }
}

#[cfg(any(feature = "blocking", feature = "mio", feature = "smol", feature = "tokio"))]
impl<M> Secured<M> {
    /// Whether this layer has something for its driver, whatever the machine inside has.
    pub(crate) fn layer_has_output(&self) -> bool {
        let has_none = |layer: &Layer| layer.said.is_empty() && layer.noticed.is_empty() && layer.parting.is_none();
        self.layer.as_ref().is_some_and(|layer| !has_none(layer))
    }

    /// When the layer wants its next tick.
    #[cfg(feature = "blocking")]
    pub(crate) fn layer_deadline(&self) -> Option<Instant> {
        self.layer.as_ref()?.deadline()
    }

    /// Whether nothing is encrypted, so that this machine is the one inside.
    #[cfg(feature = "blocking")]
    pub(crate) const fn is_plain(&self) -> bool {
        self.layer.is_none()
    }
}

impl<M> Deref for Secured<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M> DerefMut for Secured<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.machine
    }
}

impl<M: fmt::Debug> fmt::Debug for Secured<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured")
            .field("machine", &self.machine)
            .field("tls", &self.layer.is_some())
            .finish_non_exhaustive()
    }
}

/// Where nothing is encrypted each call goes straight on to the machine inside, and what the layer does is kept out of its way.
impl<M: Machine> Machine for Secured<M> {
    type Event = M::Event;

    #[inline]
    fn handle(&mut self, input: Input<'_>, now: Instant) {
        match &mut self.layer {
            None => self.machine.handle(input, now),
            Some(layer) => layer.handle(input, now, &mut self.machine),
        }
    }

    #[inline]
    fn poll(&mut self) -> Output<M::Event> {
        match &mut self.layer {
            None => self.machine.poll(),
            Some(layer) => layer.poll(&mut self.machine),
        }
    }

    #[inline]
    fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        match &mut self.layer {
            None => self.machine.outgoing(conn),
            Some(layer) => layer.outgoing(conn, &mut self.machine),
        }
    }

    #[inline]
    fn wants_read(&self, conn: ConnId) -> bool {
        match &self.layer {
            Some(layer) if layer.shakes_hands(conn) => true,
            _ => self.machine.wants_read(conn),
        }
    }

    fn accept(&mut self, peer: Peer<'_>, now: Instant) -> Option<ConnId> {
        let conn = self.machine.accept(peer, now)?;
        let Some(Layer { server: Some(tls), .. }) = self.layer.as_deref().filter(|_| !peer.plain) else {
            return Some(conn);
        };
        match Session::accepted(conn, &tls.config) {
            Ok(session) => {
                let within = tls.handshake;
                self.layer.as_mut()?.begin(session, now, within);
                Some(conn)
            }
            Err(error) => {
                self.machine.handle(Input::Closed(conn, reason::of_error(&error, "client", false)), now);
                None
            }
        }
    }

    fn wants_accept(&self) -> bool {
        self.machine.wants_accept()
    }
}

impl Layer {
    const fn new(client: Option<ClientTls>, server: Option<ServerTls>) -> Self {
        Self {
            client,
            server,
            places: Vec::new(),
            noticed: Vec::new(),
            said: VecDeque::new(),
            deadlines: BTreeSet::new(),
            parting: None,
            gathered: Vec::new(),
            now: Instant::EPOCH,
        }
    }

    #[inline(never)]
    fn handle<M: Machine>(&mut self, input: Input<'_>, now: Instant, machine: &mut M) {
        self.now = self.now.max(now);
        // The machine is to know what has been taken before it judges.
        self.look_at_noticed(machine);
        match input {
            Input::Connected(conn) => self.connected(conn, machine),
            Input::Data(conn, stream) => self.data(conn, stream, machine),
            Input::Closed(conn, reason) => self.closed(conn, reason, machine),
            Input::Tick => {
                self.tick();
                machine.handle(Input::Tick, now);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    #[inline(never)]
    fn poll<M: Machine>(&mut self, machine: &mut M) -> Output<M::Event> {
        self.parting = None;
        loop {
            self.look_at_noticed(machine);
            match self.said.pop_front() {
                Some(Said::Transmit(conn)) if self.session(conn).is_some() => return Output::Transmit(conn),
                Some(Said::End(conn, reason)) if self.knows(conn) => {
                    self.leave(conn, machine);
                    machine.handle(Input::Closed(conn, reason), self.now);
                    return Output::Disconnect(conn);
                }
                Some(_) => continue,
                None => {}
            }
            match machine.poll() {
                Output::Connect { conn, server, within } => match self.dial(conn, server.host(), within) {
                    Ok(()) => return Output::Connect { conn, server, within },
                    Err(reason) => machine.handle(Input::Closed(conn, reason), self.now),
                },
                Output::Transmit(conn) => {
                    if self.transmits(conn) {
                        return Output::Transmit(conn);
                    }
                }
                Output::Disconnect(conn) => {
                    self.leave(conn, machine);
                    return Output::Disconnect(conn);
                }
                Output::Wait(at) => return Output::Wait(earlier(at, self.deadline())),
                output => return output,
            }
        }
    }

    #[inline(never)]
    fn outgoing<'a, M: Machine>(&'a mut self, conn: ConnId, machine: &'a mut M) -> Outgoing<'a> {
        if !self.knows(conn) && self.parting.as_ref().is_none_or(|session| session.conn != conn) {
            return machine.outgoing(conn);
        }
        self.encrypt(conn, machine);
        let Self { places, parting, .. } = self;
        match places.get_mut(conn.index()) {
            Some(Place::Up(session)) if session.conn == conn => Outgoing::new(Some(&mut session.out)),
            _ => Outgoing::new(parting.as_mut().filter(|session| session.conn == conn).map(|session| &mut session.out)),
        }
    }

    /// Whether nothing of the machine inside can come on this connection yet.
    #[inline(never)]
    fn shakes_hands(&self, conn: ConnId) -> bool {
        self.session(conn).is_some_and(|session| !session.is_open())
    }

    fn session(&self, conn: ConnId) -> Option<&Session> {
        match self.places.get(conn.index()) {
            Some(Place::Up(session)) if session.conn == conn => Some(session),
            _ => None,
        }
    }

    /// Whether `conn` is a connection of this layer, made or being made.
    fn knows(&self, conn: ConnId) -> bool {
        match self.places.get(conn.index()) {
            Some(Place::Dialling { conn: dialled, .. }) => *dialled == conn,
            Some(Place::Up(session)) => session.conn == conn,
            _ => false,
        }
    }

    fn put(&mut self, conn: ConnId, place: Place) {
        if self.places.len() <= conn.index() {
            self.places.resize_with(conn.index() + 1, || Place::Empty);
        }
        if let Some(old) = self.places.get_mut(conn.index()) {
            *old = place;
        }
    }

    /// The driver is told to connect.
    fn dial(&mut self, conn: ConnId, host: &str, within: Duration) -> Result<(), CloseReason> {
        if let Some(tls) = &self.client {
            let name = tls.name_of(host).ok_or_else(|| reason::no_name(host))?;
            self.put(conn, Place::Dialling { conn, name, within });
        }
        Ok(())
    }

    /// A connection stands: its handshake begins.
    fn begin(&mut self, mut session: Session, now: Instant, within: Duration) {
        self.now = self.now.max(now);
        let (conn, at) = (session.conn, self.now + within);
        session.deadline = Some(at);
        self.deadlines.insert((at, conn));
        self.put(conn, Place::Up(Box::new(session)));
    }

    fn connected<M: Machine>(&mut self, conn: ConnId, machine: &mut M) {
        let (name, within) = match self.places.get(conn.index()) {
            Some(Place::Dialling { conn: dialled, name, within }) if *dialled == conn => (name.clone(), *within),
            _ if self.knows(conn) => return,
            _ => return machine.handle(Input::Connected(conn), self.now),
        };
        let Some(tls) = &self.client else { return };
        // A little less than the machine allows: what it says then is that the peer does not answer, not that it cannot be
        // had. How much of that went into connecting is not known here, as the machine may have been told of a later time.
        let within = tls.handshake.min(within - within / 8);
        match Session::dialled(conn, &tls.config, name) {
            Ok(session) => {
                self.begin(session, self.now, within);
                self.data(conn, &mut BytesMut::new(), machine);
            }
            Err(error) => self.said.push_back(Said::End(conn, reason::of_error(&error, "server", false))),
        }
    }

    fn data<M: Machine>(&mut self, conn: ConnId, stream: &mut BytesMut, machine: &mut M) {
        let Self { places, said, deadlines, now, .. } = self;
        let session = match places.get_mut(conn.index()) {
            Some(Place::Up(session)) if session.conn == conn => session,
            Some(Place::Dialling { conn: dialled, .. }) if *dialled == conn => return stream.clear(),
            _ => return machine.handle(Input::Data(conn, stream), *now),
        };
        if matches!(session.phase, Phase::Ending(_)) {
            return stream.clear();
        }
        let (mut fresh, mut opened) = (true, false);
        let result = loop {
            if session.is_open() {
                if core::mem::take(&mut fresh) {
                    session.hand_in(machine, *now);
                }
                if !machine.wants_read(conn) {
                    break Ok(());
                }
                if session.parted {
                    stream.clear();
                    session.phase = Phase::Ending(CloseReason::Ended);
                    let is_answered = session.may_write() && (session.out.waiting() > 0 || session.has_more(machine));
                    if is_answered {
                        await_last_words(session, said, deadlines, *now);
                    } else {
                        said.push_back(Said::End(conn, CloseReason::Ended));
                    }
                    break Ok(());
                }
            }
            match session.receive(stream) {
                Ok(Came::Nothing) => break Ok(()),
                Ok(Came::Data) => fresh = true,
                Ok(Came::Goodbye) => (fresh, session.parted) = (true, true),
                Ok(Came::Opened) => {
                    fresh = true;
                    opened = true;
                    if let Some(at) = session.deadline.take() {
                        deadlines.remove(&(at, conn));
                    }
                    if session.is_client() {
                        machine.handle(Input::Connected(conn), *now);
                    }
                }
                Err(error) => {
                    if session.is_open() {
                        session.hand_in(machine, *now);
                    }
                    break Err(error);
                }
            }
        };
        match result {
            Ok(()) if session.out.waiting() > 0 || opened && session.has_more(machine) => announce(session, said),
            Ok(()) => {}
            Err(error) => self.fail(conn, &error),
        }
    }

    /// The driver says that a connection has ended, or was not made.
    fn closed<M: Machine>(&mut self, conn: ConnId, mut reason: CloseReason, machine: &mut M) {
        if let Some(session) = self.take(conn) {
            let mut session = *session;
            session.settle(machine);
            match session.phase {
                Phase::Open => session.hand_in(machine, self.now),
                Phase::Handshaking => reason = reason::of_early_end(&reason, peer(&session)),
                Phase::Ending(why) => reason = why,
            }
        }
        machine.handle(Input::Closed(conn, reason), self.now);
    }

    /// Something is wrong: the peer is told, then the connection ends.
    fn fail(&mut self, conn: ConnId, error: &rustls::Error) {
        let Self { places, said, deadlines, now, .. } = self;
        let Some(Place::Up(session)) = places.get_mut(conn.index()) else { return };
        let reason = reason::of_error(error, peer(session), session.is_open());
        session.last_alert();
        session.phase = Phase::Ending(reason.clone());
        if session.out.waiting() == 0 {
            return said.push_back(Said::End(conn, reason));
        }
        await_last_words(session, said, deadlines, *now);
    }

    /// Whether the driver is to be told that the machine has something to write.
    fn transmits(&mut self, conn: ConnId) -> bool {
        match self.places.get_mut(conn.index()) {
            Some(Place::Up(session)) if session.conn == conn => {
                session.is_open() && !core::mem::replace(&mut session.announced, true)
            }
            Some(Place::Dialling { conn: dialled, .. }) => *dialled != conn,
            _ => true,
        }
    }

    /// The driver comes for what is to be written.
    fn encrypt<M: Machine>(&mut self, conn: ConnId, machine: &mut M) {
        let Some(Place::Up(session)) = self.places.get_mut(conn.index()) else { return };
        if session.conn != conn {
            return;
        }
        session.settle(machine);
        let result = if session.may_write() { session.encrypt(machine, &mut self.gathered) } else { Ok(()) };
        session.offer(machine);
        if !core::mem::replace(&mut session.noticed, true) {
            self.noticed.push(conn);
        }
        if let Err(error) = result {
            self.fail(conn, &error);
        }
    }

    /// Sees to the connections that the driver has looked at: what has been taken of them, and whether there is more.
    fn look_at_noticed<M: Machine>(&mut self, machine: &mut M) {
        while let Some(conn) = self.noticed.pop() {
            let Self { places, said, .. } = self;
            let Some(Place::Up(session)) = places.get_mut(conn.index()) else { continue };
            if session.conn != conn {
                continue;
            }
            session.noticed = false;
            session.settle(machine);
            if session.out.waiting() > 0 {
                announce(session, said);
            } else if session.parted && session.has_more(machine) {
                session.announced = false;
                announce(session, said);
            } else if let Phase::Ending(reason) = &session.phase {
                said.push_back(Said::End(conn, reason.clone()));
            } else {
                // Said again where the driver knows already: it may have stopped writing.
                session.announced = false;
                if session.has_more(machine) {
                    announce(session, said);
                }
            }
        }
    }

    fn tick(&mut self) {
        while let Some(&(at, conn)) = self.deadlines.first()
            && at <= self.now
        {
            self.deadlines.pop_first();
            let Some(Place::Up(session)) = self.places.get_mut(conn.index()) else { continue };
            session.deadline = None;
            let reason = match &session.phase {
                Phase::Ending(reason) => reason.clone(),
                _ => reason::too_slow(peer(session)),
            };
            self.said.push_back(Said::End(conn, reason));
        }
    }

    /// Takes a connection out; nothing more will come of it but, where all has been written, a last word.
    fn leave<M: Machine>(&mut self, conn: ConnId, machine: &mut M) {
        if let Some(mut session) = self.take(conn) {
            session.settle(machine);
            // A last word only behind whole ones: somebody may be writing what is not taken yet.
            self.parting = session.goodbye().then_some(session);
        }
    }

    fn take(&mut self, conn: ConnId) -> Option<Box<Session>> {
        if !self.knows(conn) {
            return None;
        }
        match core::mem::replace(self.places.get_mut(conn.index())?, Place::Empty) {
            Place::Up(session) => {
                if let Some(at) = session.deadline {
                    self.deadlines.remove(&(at, conn));
                }
                Some(session)
            }
            _ => None,
        }
    }
}

fn announce(session: &mut Session, said: &mut VecDeque<Said>) {
    if !core::mem::replace(&mut session.announced, true) {
        said.push_back(Said::Transmit(session.conn));
    }
}

/// A connection ends when its driver has taken what is to be written, but does not wait long for that.
fn await_last_words(
    session: &mut Session,
    said: &mut VecDeque<Said>,
    deadlines: &mut BTreeSet<(Instant, ConnId)>,
    now: Instant,
) {
    announce(session, said);
    let at = now + LAST_WORDS;
    if let Some(before) = session.deadline.replace(at) {
        deadlines.remove(&(before, session.conn));
    }
    deadlines.insert((at, session.conn));
}

const fn peer(session: &Session) -> &'static str {
    if session.is_client() { "server" } else { "client" }
}
