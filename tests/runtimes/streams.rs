//! What every runtime must do alike over Unix sockets, and over streams that the user makes or accepts.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gearwheel::client::Event;
use gearwheel::{Address, CloseReason, Job, Peer, Reason};

use crate::kinds::any::{Error, Listening};
use crate::kinds::{Connect, Kind};
use crate::peers::{PATIENCE, wait_until};
use crate::scenarios::{big_payloads, client, goes_round, killed_and_back, result, thousand_at_once};

/// A place for sockets, removed with all that is in it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gearwheel-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn address(&self) -> Address {
        Address::unix(self.path("server.sock").to_str().expect("text")).expect("a path")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn nobody_listens(at: &Address) -> bool {
    UnixStream::connect(at.host()).is_err()
}

pub(crate) fn a_job_goes_round_by_a_unix_socket<K: Kind>() {
    let place = Place::new();
    let server = K::server(place.address(), |_| ());
    assert_eq!(K::addresses(&server), [place.address()]);
    goes_round::<K>(&place.address());
}

pub(crate) fn a_thousand_jobs_at_once_by_a_unix_socket<K: Kind>() {
    let place = Place::new();
    let server = K::server(place.address(), |_| ());
    thousand_at_once::<K>(&place.address());
    assert_eq!(K::counters(&server).completed, 1000);
}

pub(crate) fn big_payloads_cross_by_a_unix_socket<K: Kind>() {
    let place = Place::new();
    let _server = K::server(place.address(), |_| ());
    big_payloads::<K>(&place.address());
}

pub(crate) fn a_unix_server_is_killed_and_comes_back<K: Kind>() {
    let place = Place::new();
    let at = place.address();
    let mut server = Some(K::server(&at, |_| ()));
    killed_and_back::<K>(&at, |dies| {
        server = None;
        if dies {
            wait_until("nobody listens", PATIENCE, || nobody_listens(&at));
            wait_until("its file is gone", PATIENCE, || !is_there(Path::new(at.host())));
            // A process that is killed leaves its file.
            drop(UnixListener::bind(at.host()).expect("nobody listens there"));
        } else {
            server = Some(K::server(&at, |_| ()));
        }
    });
}

pub(crate) fn a_unix_server_drains_and_takes_its_file_away<K: Kind>() {
    let place = Place::new();
    let at = place.address();
    let server = K::server(&at, |_| ());
    let worker = K::taker(&at, "slow", |_| ());
    let client = client::<K>(&at);
    let job = K::submit(&client, Job::new("slow", "")).expect("taken");
    let task = K::next(&worker).expect("a job");
    thread::scope(|scope| {
        let drain = scope.spawn(|| K::drain_server(&server, PATIENCE));
        wait_until("nobody is let in", PATIENCE, || nobody_listens(&at));
        task.complete("finished").expect("ours");
        assert_eq!(K::wait(job), Ok("finished".into()));
        drain.join().expect("no panic").expect("drained in time");
    });
    assert!(!is_there(Path::new(at.host())), "its file is gone");
    // What is at the path by now is somebody else's.
    let other = UnixListener::bind(at.host()).expect("nobody listens there");
    drop(server);
    assert!(is_there(Path::new(at.host())));
    drop(other);
}

pub(crate) fn a_path_that_cannot_be_had_is_named<K: Kind>() {
    let place = Place::new();
    let refused = |path: &Path| match Listening::unix(path) {
        Err(Error::Io { what: "listen", source }) => (source.kind(), source.to_string()),
        other => panic!("{other:?}"),
    };
    let at = place.address();
    let _server = K::server(&at, |_| ());
    let (kind, text) = refused(Path::new(at.host()));
    assert_eq!((kind, text), (ErrorKind::AddrInUse, format!("{}: somebody listens there already", at.host())));
    assert_eq!(result::<K>(&client::<K>(&at), Job::new("f", "").background()), Ok("".into()), "it is not disturbed");

    let file = place.path("file");
    fs::write(&file, "precious").expect("it can be written");
    let (kind, text) = refused(&file);
    assert_eq!((kind, text), (ErrorKind::AlreadyExists, format!("{}: it is there, and no socket", file.display())));
    assert_eq!(fs::read(&file).expect("it is still there"), b"precious");

    let long = place.path(&"x".repeat(200));
    let (_, text) = refused(&long);
    assert!(text.contains("too long for a Unix socket"), "{text}");
    let (kind, _) = refused(&place.path("no/such/directory"));
    assert_eq!(kind, ErrorKind::NotFound);

    // Who connects to such a path is told, too.
    for (path, expected) in
        [(place.path("nobody.sock"), "nothing listens"), (file, "nothing listens"), (long, "too long for a")]
    {
        let address = Address::unix(path.to_str().expect("text")).expect("a path");
        let (heard, events) = mpsc::channel();
        let client = K::client_heard(address, heard);
        let job = K::submit(&client, Job::new("f", "")).expect("taken");
        let reason = reason(&events).to_string();
        assert!(reason.contains(expected), "{reason}");
        K::close(&client);
        assert!(K::wait(job).is_err());
    }
}

pub(crate) fn a_server_listens_in_several_places<K: Kind>() {
    let place = Place::new();
    let passed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let passed_at = passed.local_addr().expect("bound");
    let unix = UnixListener::bind(place.path("passed.sock")).expect("a path");
    let doors = vec![
        Listening::unix(place.address().host()).expect("a path"),
        Listening::bind("127.0.0.1:0").expect("a port"),
        passed.into(),
        unix.into(),
    ];
    let server = K::server_on(doors, |_| ());
    let addresses = K::addresses(&server);
    assert_eq!(addresses[0], place.address());
    assert_eq!(addresses[1].to_string(), K::address(&server).to_string(), "the first of TCP");
    assert_eq!(addresses[2].to_string(), passed_at.to_string());
    assert_eq!(addresses[3].unix_path(), place.path("passed.sock").to_str());
    let worker = K::worker(&addresses[0], 1);
    for address in &addresses {
        assert_eq!(result::<K>(&client::<K>(address), Job::new("echo", "x")), Ok("x".into()), "{address}");
    }
    let rows = K::workers(&addresses[1], None);
    let of = |name: &str| rows.iter().filter(|row| row.address == name).count();
    assert!(of("unix") >= 1 && of("127.0.0.1") >= 1 && of("unix") + of("127.0.0.1") == rows.len(), "{rows:?}");
    drop(worker);
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    for address in &addresses {
        wait_until("nobody is let in", PATIENCE, || match address.unix_path() {
            Some(_) => nobody_listens(address),
            None => TcpStream::connect(address.to_string()).is_err(),
        });
    }
    assert!(is_there(&place.path("passed.sock")), "the file of a socket that was passed is its owner's");
}

/// A service manager keeps its sockets, and starts the server again when somebody knocks.
pub(crate) fn a_socket_that_was_passed_stays_open_for_others<K: Kind>() {
    let place = Place::new();
    let kept = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        UnixListener::bind(place.path("kept.sock")).expect("a path"),
    );
    for _ in 0..2 {
        let passed = (kept.0.try_clone().expect("a descriptor"), kept.1.try_clone().expect("a descriptor"));
        let server = K::server_on(vec![passed.0.into(), passed.1.into()], |_| ());
        for address in K::addresses(&server) {
            assert_eq!(result::<K>(&client::<K>(&address), Job::new("f", "").background()), Ok("".into()));
        }
        K::drain_server(&server, PATIENCE).expect("nothing runs");
    }
    let waiting = UnixStream::connect(place.path("kept.sock")).expect("the owner listens");
    drop(waiting);
    TcpStream::connect(kept.0.local_addr().expect("bound")).expect("the owner listens");
}

/// Makes pairs of streams, and has `server` serve one end of each.
fn joined<K: Kind>(server: &Arc<K::Server>, pair: fn() -> (K::Stream, K::Stream)) -> Connect<K>
where
    K::Server: 'static,
{
    let server = server.clone();
    Box::new(move |address| {
        assert_eq!(address.to_string(), "there:4730");
        let (near, far) = pair();
        let peer = Peer::new("through the wall", false);
        K::serve(&server, far, peer).map_err(|rejected| io::Error::other(rejected.reason))?;
        Ok(near)
    })
}

fn sockets<K: Kind>() -> (K::Stream, K::Stream) {
    let (a, b) = UnixStream::pair().expect("a pair");
    (a.into(), b.into())
}

fn streams<K: Kind>() -> (K::Stream, K::Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    (near.into(), listener.accept().expect("it knocks").0.into())
}

fn joins_all<K: Kind>(pair: fn() -> (K::Stream, K::Stream))
where
    K::Server: 'static,
{
    let server = Arc::new(K::server_on(Vec::new(), |_| ()));
    assert!(K::addresses(&server).is_empty());
    let worker = K::worker_by(joined::<K>(&server, pair), 4);
    let (heard, events) = mpsc::channel();
    let client = K::client_by(joined::<K>(&server, pair), PATIENCE, heard);
    for number in 0..100_u32 {
        assert_eq!(result::<K>(&client, Job::new("echo", number.to_string())), Ok(number.to_string().into()));
    }
    assert!(matches!(events.recv(), Ok(Event::Connected { .. })));
    let rows = K::workers("there", Some(joined::<K>(&server, pair)));
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.iter().all(|row| row.address == "through_the_wall"), "one word each: {rows:?}");
    K::drain(&worker, PATIENCE).expect("nothing runs");
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    assert!(matches!(events.recv_timeout(PATIENCE), Ok(Event::Disconnected { .. })));
}

pub(crate) fn a_pair_of_sockets_joins_client_worker_and_server<K: Kind>()
where
    K::Server: 'static,
{
    joins_all::<K>(sockets::<K>);
    joins_all::<K>(streams::<K>);
}

pub(crate) fn objects_join_client_worker_and_server<K: Kind>()
where
    K::Server: 'static,
{
    joins_all::<K>(K::objects);
}

pub(crate) fn big_payloads_cross_by_objects<K: Kind>()
where
    K::Server: 'static,
{
    let server = Arc::new(K::server_on(Vec::new(), |_| ()));
    let worker = K::worker_by(joined::<K>(&server, K::objects), 4);
    let client = K::client_by(joined::<K>(&server, K::objects), PATIENCE, mpsc::channel().0);
    let payload: bytes::Bytes = (0..1_u32 << 20).map(|at| at.to_le_bytes()[1]).collect::<Vec<u8>>().into();
    let jobs = (0..3).map(|_| Job::new("echo", payload.clone())).collect();
    for (_, outcome) in K::run_all(&client, jobs, PATIENCE) {
        assert!(outcome == gearwheel::Outcome::Complete(payload.clone()));
    }
    drop(worker);
}

pub(crate) fn a_stream_that_cannot_be_served_comes_back<K: Kind>() {
    let server = K::server_on(Vec::new(), |config| config.max_connections = 1);
    let (mut near, far) = UnixStream::pair().expect("a pair");
    K::serve(&server, far.into(), Peer::new("first", true)).expect("there is room");
    near.write_all(b"version\n").expect("it is read");
    let mut answer = [0; 3];
    near.read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"OK ");

    let (second, far) = UnixStream::pair().expect("a pair");
    let rejected = K::serve(&server, far.into(), Peer::new("second", true)).expect_err("there is no room");
    assert_eq!(rejected.reason, Reason::Full { what: "connections", limit: 1 });
    assert_eq!(format!("{:?}", rejected.value), "Stream(unix)");
    drop(near);
    wait_until("there is room again", PATIENCE, || K::counters(&server).connections == 0);
    K::serve(&server, rejected.value, Peer::new("second", true)).expect("there is room");
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    assert_eq!((&second).read(&mut answer).expect("it is closed in order"), 0);

    let (_third, far) = UnixStream::pair().expect("a pair");
    let rejected = K::serve(&server, far.into(), Peer::new("third", true)).expect_err("it is closed");
    assert_eq!(rejected.reason, Reason::Closed);
}

/// The next reason why a client has no connection.
fn reason(events: &mpsc::Receiver<Event>) -> CloseReason {
    loop {
        match events.recv_timeout(PATIENCE).expect("it is told") {
            Event::Disconnected { reason, .. } => return reason,
            Event::Connected { .. } | Event::AllDown { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn a_connection_that_cannot_be_made_says_why<K: Kind>() {
    type Failure = fn() -> io::Error;
    let failures: [(Failure, CloseReason); 4] = [
        (|| io::Error::other("the proxy wants a password"), CloseReason::Failed("the proxy wants a password".into())),
        (
            || io::Error::new(ErrorKind::TimedOut, "the proxy is asleep"),
            CloseReason::Failed("the proxy is asleep".into()),
        ),
        (|| ErrorKind::ConnectionRefused.into(), CloseReason::Refused),
        (|| panic!("no proxy at all"), CloseReason::Failed("the stream panicked: no proxy at all".into())),
    ];
    for (failure, expected) in failures {
        let (heard, events) = mpsc::channel();
        let client = K::client_by(Box::new(move |_| Err(failure())), PATIENCE, heard);
        let job = K::submit(&client, Job::new("f", "")).expect("taken");
        assert_eq!(reason(&events), expected);
        K::close(&client);
        assert!(K::wait(job).is_err());
    }
}

pub(crate) fn a_connection_that_is_never_made_is_given_up<K: Kind>() {
    let (heard, events) = mpsc::channel();
    let within = Duration::from_millis(30);
    let done = Arc::new(AtomicBool::new(false));
    let client = K::client_that_waits(within, done.clone(), heard);
    let started = Instant::now();
    let job = K::submit(&client, Job::new("f", "")).expect("taken");
    assert_eq!(reason(&events), CloseReason::ConnectTimeout);
    assert!((within..Duration::from_secs(5)).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(reason(&events), CloseReason::ConnectTimeout, "and it is tried again");
    K::close(&client);
    assert!(K::wait(job).is_err());
    done.store(true, Ordering::Relaxed);
}

pub(crate) fn an_object_that_panics_ends_its_connection_alone<K: Kind>() {
    // What the user's code panics with is reported by the hook, too.
    let server = K::server(SocketAddr::from(([127, 0, 0, 1], 0)), |_| ());
    let at = K::address(&server);
    let first = AtomicUsize::new(0);
    let connect: Connect<K> = Box::new(move |_| match first.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(K::grenade()),
        _ => Ok(TcpStream::connect(at)?.into()),
    });
    let (heard, events) = mpsc::channel();
    let client = K::client_by(connect, PATIENCE, heard);
    let worker = K::worker(at, 1);
    let job = K::submit(&client, Job::new("echo", "x").retry(gearwheel::Retry::Unsent)).expect("taken");
    // On mio, nothing wakes an object that lies about having a descriptor: only its first read blows up.
    assert_eq!(reason(&events), CloseReason::Failed("the stream panicked: the pin is out".into()));
    drop(K::wait(job));
    assert_eq!(result::<K>(&client, Job::new("echo", "y")), Ok("y".into()), "the next connection is sound");

    K::serve(&server, K::grenade(), Peer::new("sapper", true)).expect("there is room");
    wait_until("it is closed", PATIENCE, || K::counters(&server).connections == 2);
    assert_eq!(result::<K>(&client, Job::new("echo", "z")), Ok("z".into()), "the others stand");
    drop(worker);
}

/// The last of them wait in `connect`, as whoever wakes the thread that accepts them would.
#[cfg(feature = "blocking")]
#[test]
fn a_blocking_server_closes_though_a_crowd_waits_at_its_unix_socket() {
    let place = Place::new();
    let path = place.path("server.sock");
    let listener = UnixListener::bind(&path).expect("a path");
    // Who passes one may have it still.
    let kept = listener.try_clone().expect("another descriptor");
    rustix::net::listen(&kept, 1).expect("it has no room for more");
    let server = gearwheel::blocking::Server::builder()
        .configure(|config| config.max_connections = 1)
        .listen_on(listener)
        .build()
        .expect("a server");
    let _inside = UnixStream::connect(&path).expect("it listens");
    wait_until("it is in", PATIENCE, || server.counters().connections == 1);
    let knocked = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (path, knocked) = (path.clone(), knocked.clone());
        thread::spawn(move || {
            let mut stream = UnixStream::connect(path)?;
            knocked.fetch_add(1, Ordering::Relaxed);
            stream.read(&mut [0])
        });
    }
    // One at the door, and two behind it.
    wait_until("there is no room for more", PATIENCE, || knocked.load(Ordering::Relaxed) >= 3);
    let (closed, told) = mpsc::channel();
    thread::spawn(move || {
        server.close();
        drop(server);
        closed.send(()).expect("somebody waits");
    });
    told.recv_timeout(PATIENCE).expect("it does not wait with them");
}
