//! TLS around the machines, in memory and on virtual time: what the layer says to both of its sides, whatever bytes come and
//! however they are cut.

mod common {
    pub mod net;
}
#[path = "tls/certs.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "tests/tls.rs uses the rest")]
mod certs;
#[path = "tls/layer/ends.rs"]
mod ends;
#[path = "tls/layer/harm.rs"]
mod harm;
#[path = "common/rig.rs"]
mod rig;
#[path = "tls/virtual_net.rs"]
mod virtual_net;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use certs::{OURS, THEIRS};
use gearwheel::client::{self, Client};
use gearwheel::server::{self, Server};
use gearwheel::tls::{ClientCertificates, ClientTls, Secured, ServerTls};
use gearwheel::{Batch, CloseReason, ConnId, Input, Job, JobId, Limits, Machine, Outcome, Peer, Phase, Retry};
use rig::{Rig, millis, secs};

type ClientRig = Rig<Secured<Client>>;
type ServerRig = Rig<Secured<Server>>;

fn client_tls() -> ClientTls {
    ClientTls::new(OURS.roots()).expect("settings")
}

fn server_tls() -> ServerTls {
    ServerTls::new(OURS.sign(&["server"]).identity(), ClientCertificates::NotAsked).expect("settings")
}

fn plain_client() -> Client {
    let mut config = client::Config::new([7; 32]);
    config.servers = vec!["server".parse().expect("an address")];
    config.exceptions = false;
    Client::new(config).expect("a client")
}

fn plain_server(limits: Limits) -> Server {
    let mut config = server::Config::new([7; 32]);
    config.limits = limits;
    config.handle_prefix = "H:x".into();
    Server::new(config, gearwheel::Instant::EPOCH, secs(1_800_000_000)).expect("a server")
}

fn client_rig(tls: ClientTls) -> ClientRig {
    Rig::new(Secured::client(plain_client(), tls))
}

fn server_rig(tls: ServerTls) -> ServerRig {
    Rig::new(Secured::server(plain_server(Limits::default()), tls))
}

fn accept(server: &mut ServerRig) -> ConnId {
    server.act(|machine, now| machine.accept(Peer::new("10.0.0.1", false), now)).expect("room")
}

fn submit(client: &mut ClientRig, job: Job) -> JobId {
    client.act(|client, now| client.submit(job, now)).expect("taken")
}

/// A client and a server with one connection between them, not yet connected for the client's machine.
struct Line {
    client: ClientRig,
    server: ServerRig,
    ours: ConnId,
    theirs: ConnId,
}

impl Line {
    fn new() -> Self {
        Self::of(client_rig(client_tls()), server_rig(server_tls()))
    }

    fn of(mut client: ClientRig, mut server: ServerRig) -> Self {
        let first = client.act(|client, _| client.servers().next().expect("one").server);
        let _ = client.act(|client, now| client.echo(first, Bytes::from_static(b"hello"), now)).expect("taken");
        let ours = client.connect();
        let theirs = accept(&mut server);
        Self { client, server, ours, theirs }
    }

    /// One whose handshake is done.
    fn open() -> Self {
        let mut line = Self::new();
        line.carry(usize::MAX);
        assert!(matches!(&line.client.events()[..], [client::Event::Connected { .. }, client::Event::Echo { .. }]));
        line
    }

    /// Carries what has been written to the other side until nobody writes any more, in pieces of `size`.
    fn carry(&mut self, size: usize) {
        loop {
            let (there, back) = (self.client.sent_bytes(self.ours), self.server.sent_bytes(self.theirs));
            if there.is_empty() && back.is_empty() {
                return;
            }
            there.chunks(size).for_each(|piece| self.server.receive_bytes(self.theirs, piece));
            back.chunks(size).for_each(|piece| self.client.receive_bytes(self.ours, piece));
        }
    }

    fn why_client_lost(&mut self) -> CloseReason {
        let found = self.client.events().into_iter().find_map(|event| match event {
            client::Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        found.expect("the client lost its connection")
    }
}

fn why_lost(server: &mut ServerRig) -> CloseReason {
    let found = server.events().into_iter().find_map(|event| match event {
        server::Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    });
    found.expect("the server lost the connection")
}

#[track_caller]
fn says(reason: &CloseReason, text: &str) {
    assert!(matches!(reason, CloseReason::Tls(_)) && reason.to_string().contains(text), "{reason}");
}

fn outcomes(client: &mut ClientRig) -> Vec<(JobId, Outcome)> {
    let done = |event| if let client::Event::Done { job, outcome } = event { Some((job, outcome)) } else { None };
    client.events().into_iter().filter_map(done).collect()
}

#[test]
fn the_machine_is_connected_when_the_handshake_is_done() {
    let mut line = Line::new();
    let hello = line.client.sent_bytes(line.ours);
    assert_eq!(hello.first(), Some(&22), "a handshake record");
    assert!(line.client.events().is_empty(), "not connected yet");
    line.server.receive_bytes(line.theirs, &hello);
    line.carry(usize::MAX);
    assert!(matches!(line.client.events()[..], [client::Event::Connected { .. }, client::Event::Echo { .. }]));
}

#[test]
fn however_the_bytes_are_cut_the_events_are_the_same() {
    let run = |size| {
        let mut line = Line::new();
        line.carry(size);
        submit(&mut line.client, Job::new("f", vec![3; 40_000]).background());
        submit(&mut line.client, Job::new("g", "").background());
        line.carry(size);
        format!("{:?} {:?}", line.client.events(), line.server.events())
    };
    let whole = run(usize::MAX);
    assert_eq!(whole.matches("Queued").count(), 2, "{whole}");
    for size in [1, 2, 3, 5, 100, 16_000] {
        assert_eq!(run(size), whole, "in pieces of {size}");
    }
}

#[test]
fn a_machine_without_tls_is_as_it_is() {
    let (mut plain, mut secured) = (Rig::new(plain_client()), Rig::new(Secured::plain(plain_client())));
    let (one, other) = (
        plain.act(|client, now| client.submit(Job::new("f", "x").unique("u"), now)).expect("taken"),
        secured.act(|client, now| client.submit(Job::new("f", "x").unique("u"), now)).expect("taken"),
    );
    assert_eq!(one, other);
    let (one, other) = (plain.connect(), secured.connect());
    assert_eq!(plain.sent_bytes(one), secured.sent_bytes(other));
}

/// The lengths of the records in `bytes`.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let length = 5 + usize::from(*high) * 256 + usize::from(*low);
        lengths.push(length);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
    lengths
}

/// Two jobs in a record each, not yet taken. All that waits, and the length of the first record.
fn two_records(line: &mut Line) -> (Vec<JobId>, Vec<usize>) {
    line.client.writable = false;
    let jobs = ["first", "second"].map(|payload| {
        let job = submit(&mut line.client, Job::new("f", payload));
        // The driver comes, but its socket takes nothing.
        assert!(!line.client.machine.outgoing(line.ours).is_empty());
        job
    });
    let bytes: Vec<u8> = line.client.machine.outgoing(line.ours).chunks().flatten().copied().collect();
    line.client.run();
    (jobs.to_vec(), records(&bytes))
}

#[test]
fn what_was_taken_is_known_to_the_record() {
    // With the default, what may have arrived is lost, and what has not is sent again.
    for (taken, lost) in [(0, 0), (1, 0), (-1, 0), (0, 1), (1, 1), (-1, 1), (0, 2)] {
        let mut line = Line::open();
        let (jobs, lengths) = two_records(&mut line);
        assert_eq!(lengths.len(), 2);
        let whole: usize = lengths[..lost].iter().sum();
        let taken = match taken {
            -1 if lost < 2 => whole + lengths[lost] - 1,
            more => whole + more as usize,
        };
        line.client.write(line.ours, taken);
        line.client.run();
        line.client.close(line.ours, CloseReason::Reset);
        let ended = outcomes(&mut line.client);
        let expected: Vec<_> = jobs[..lost].to_vec();
        assert_eq!(ended.iter().map(|(job, _)| *job).collect::<Vec<_>>(), expected, "{taken} bytes of {lengths:?}");
        for (_, outcome) in ended {
            assert!(matches!(outcome, Outcome::Lost { phase: Phase::Sent, .. }), "{outcome:?}");
        }
    }
}

#[test]
fn what_a_writer_has_in_hand_may_have_arrived() {
    for (failed, polled) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut line = Line::open();
        let (jobs, _) = two_records(&mut line);
        let mut in_hand = Batch::default();
        line.client.machine.outgoing(line.ours).share(64, &mut in_hand);
        if failed {
            line.client.machine.outgoing(line.ours).advance(0);
        }
        if polled {
            line.client.run();
        }
        // The machine breaks off while somebody writes.
        line.client.pass(secs(60));
        let ended = outcomes(&mut line.client);
        assert_eq!(ended.len(), jobs.len());
        for (_, outcome) in ended {
            match outcome {
                Outcome::Lost { phase: Phase::Sent, .. } => assert!(!failed),
                Outcome::TimedOut { phase: Phase::Parked, .. } => assert!(failed, "it waited to be sent again"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_encrypted_ahead_is_bounded_and_all_of_it_arrives() {
    let mut line = Line::open();
    line.client.writable = false;
    for _ in 0..40 {
        submit(&mut line.client, Job::new("f", vec![1; 100_000]).background());
    }
    let waiting = line.client.machine.outgoing(line.ours).len();
    assert!((90 << 10..130 << 10).contains(&waiting), "{waiting}");
    for round in 1.. {
        let most = [7, 5000, 200_000][round % 3];
        if line.client.write(line.ours, most) == 0 {
            break;
        }
        line.client.run();
        assert!(line.client.machine.outgoing(line.ours).len() < 130 << 10);
    }
    line.client.writable = true;
    line.carry(60_000);
    assert_eq!(outcomes(&mut line.client).len(), 40);
}

#[test]
fn a_half_open_handshake_ends_at_its_deadline() {
    let mut server = server_rig(server_tls().handshake_timeout(secs(3)));
    let silent = accept(&mut server);
    let began = accept(&mut server);
    server.receive_bytes(began, &[22, 3, 1, 0, 200, 1, 0]);
    server.pass(millis(2999));
    assert!(server.disconnects().is_empty());
    server.pass(millis(1));
    assert_eq!(server.disconnects(), [silent, began]);
    says(&why_lost(&mut server), "the client did not answer the handshake in time");
    assert_eq!(server.machine.counters().connections, 0);
    assert_eq!(server.wait, None, "nothing is due any more");
    // Each has its own time, and one that is gone has none.
    let [first, second] = [accept(&mut server), {
        server.pass(secs(1));
        accept(&mut server)
    }];
    assert_eq!(server.wait, Some(server.now + secs(2)));
    server.close(first, CloseReason::Reset);
    assert_eq!(server.wait, Some(server.now + secs(3)));
    server.close(second, CloseReason::Reset);
    assert_eq!(server.wait, None);
}

#[test]
fn a_server_that_says_nothing_is_named_before_the_connect_timeout() {
    let mut line = Line::new();
    // An eighth of the 5 s before the machine inside would give up without a word of TLS.
    line.client.pass(millis(4374));
    assert!(line.client.disconnects().is_empty());
    line.client.pass(millis(1));
    let reason = line.why_client_lost();
    says(&reason, "the server did not answer the handshake in time: it may not speak TLS");
    assert_eq!(line.client.disconnects(), [line.ours]);
    // Or sooner, where that is said.
    let mut line = Line::of(client_rig(client_tls().handshake_timeout(secs(2))), server_rig(server_tls()));
    line.client.pass(millis(1999));
    assert!(line.client.disconnects().is_empty());
    line.client.pass(millis(1));
    says(&line.why_client_lost(), "the server did not answer the handshake in time");
}

#[test]
fn who_does_not_speak_tls_is_told_apart() {
    let mut server = server_rig(server_tls());
    for bytes in [&b"\0REQ\0\0\0\x10\0\0\0\x01x"[..], b"status\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let conn = accept(&mut server);
        server.receive_bytes(conn, bytes);
        assert_eq!(server.disconnects(), [conn], "{}", bytes.escape_ascii());
        assert_eq!(server.sent_bytes(conn).first(), Some(&21), "an alert");
        says(&why_lost(&mut server), "the client does not speak TLS");
    }
    let mut line = Line::new();
    line.client.receive_bytes(line.ours, b"ERR UNKNOWN_COMMAND Unknown+server+command\r\n");
    says(&line.why_client_lost(), "the server does not speak TLS");
    let mut line = Line::new();
    line.client.close(line.ours, CloseReason::Ended);
    says(&line.why_client_lost(), "the server broke off the handshake");
}

#[test]
fn a_plain_client_hears_that_its_peer_speaks_tls() {
    let mut client = Rig::new(plain_client());
    client.act(|client, now| client.submit(Job::new("f", ""), now)).expect("taken");
    let conn = client.connect();
    let mut server = server_rig(server_tls());
    let theirs = accept(&mut server);
    server.receive_bytes(theirs, &client.sent_bytes(conn));
    client.receive_bytes(conn, &server.sent_bytes(theirs));
    let reason = client.events().into_iter().find_map(|event| match event {
        client::Event::Disconnected { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert!(reason.as_ref().is_some_and(|reason| reason.ends_with("the peer speaks TLS")), "{reason:?}");
}

/// Why the client, then the server, lost the connection of this handshake.
fn failed_handshake(client: ClientTls, server: ServerTls) -> (CloseReason, CloseReason) {
    let mut line = Line::of(client_rig(client), server_rig(server));
    line.carry(usize::MAX);
    let reasons = (line.why_client_lost(), why_lost(&mut line.server));
    assert_eq!(line.client.disconnects(), [line.ours]);
    assert_eq!(line.server.disconnects(), [line.theirs]);
    assert_eq!(line.server.machine.counters().connections, 0);
    reasons
}

#[test]
fn a_certificate_that_is_refused_is_told_to_both() {
    let with = |leaf: certs::Leaf| ServerTls::new(leaf.identity(), ClientCertificates::NotAsked).expect("settings");
    for (server, here, there) in [
        (with(THEIRS.sign(&["server"])), "it is not signed by a CA that is trusted here", "UnknownCA"),
        (with(OURS.sign(&["other"])), "it is for another name", "BadCertificate"),
        (with(OURS.sign_until(&["server"], 2021)), "it has expired", "CertificateExpired"),
    ] {
        let (ours, theirs) = failed_handshake(client_tls(), server);
        says(&ours, here);
        says(&theirs, there);
    }
    // The name that counts may be given.
    let mut line = Line::of(
        client_rig(client_tls().server_name("other").expect("a name")),
        server_rig(with(OURS.sign(&["other"]))),
    );
    line.carry(usize::MAX);
    assert!(matches!(line.client.events()[0], client::Event::Connected { .. }));
}

#[test]
fn a_server_may_want_certificates_of_clients() {
    let server = |clients| ServerTls::new(OURS.sign(&["server"]).identity(), clients).expect("settings");
    let wanted = || ClientCertificates::Required(OURS.roots());
    let (ours, theirs) = failed_handshake(client_tls(), server(wanted()));
    says(&ours, "it wants a certificate of this side, which showed none");
    says(&theirs, "the client has shown no certificate, and must");
    let stranger = client_tls().identity(THEIRS.sign(&["me"]).identity());
    let (ours, theirs) = failed_handshake(stranger.clone(), server(wanted()));
    says(&ours, "it does not trust the CA of this side's certificate");
    says(&theirs, "the client's certificate is refused: it is not signed by a CA that is trusted here");
    let friend = client_tls().identity(OURS.sign(&["me"]).identity());
    for (client, clients) in [
        (friend.clone(), wanted()),
        (friend, ClientCertificates::Optional(OURS.roots())),
        (client_tls(), ClientCertificates::Optional(OURS.roots())),
    ] {
        let mut line = Line::of(client_rig(client), server_rig(server(clients)));
        line.carry(usize::MAX);
        assert!(matches!(line.client.events()[..], [client::Event::Connected { .. }, client::Event::Echo { .. }]));
    }
    let (ours, _) = failed_handshake(stranger, server(ClientCertificates::Optional(OURS.roots())));
    says(&ours, "it does not trust the CA");
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_not_connected_to() {
    let mut config = client::Config::new([7; 32]);
    config.servers = vec!["no..name".parse().expect("an address")];
    let mut rig = Rig::new(Secured::client(Client::new(config).expect("a client"), client_tls()));
    submit(&mut rig, Job::new("f", ""));
    assert!(rig.connects().is_empty());
    let reason = rig.events().into_iter().find_map(|event| match event {
        client::Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    });
    says(&reason.expect("told"), "is no name that a certificate can be for");
}

#[test]
fn a_renewed_certificate_is_shown_to_those_who_come_later() {
    let mut line = Line::open();
    line.server.act(|server, _| {
        let renewed = ServerTls::new(THEIRS.sign(&["server"]).identity(), ClientCertificates::NotAsked);
        server.set_server_tls(renewed.expect("settings"));
    });
    // Who is there stays.
    submit(&mut line.client, Job::new("f", "x").background());
    line.carry(usize::MAX);
    assert_eq!(outcomes(&mut line.client).len(), 1);
    let Line { server, .. } = line;
    let mut line = Line::of(client_rig(client_tls()), server);
    line.carry(usize::MAX);
    says(&line.why_client_lost(), "it is not signed by a CA that is trusted here");
    line.client.act(|client, _| client.set_client_tls(ClientTls::new(THEIRS.roots()).expect("settings")));
    submit(&mut line.client, Job::new("f", "x").background());
    line.client.pass(secs(1));
    line.ours = line.client.connect();
    line.theirs = accept(&mut line.server);
    line.carry(usize::MAX);
    assert!(matches!(outcomes(&mut line.client)[..], [(_, Outcome::Queued { .. })]));
}

#[test]
fn a_peer_may_stay_plain_at_a_server_with_tls() {
    let mut line = Line::of(Rig::new(Secured::plain(plain_client())), server_rig(server_tls()));
    line.server.close(line.theirs, CloseReason::Ended);
    let neighbour = Peer::new("10.0.0.2", false).plain();
    line.theirs = line.server.act(|server, now| server.accept(neighbour, now)).expect("room");
    line.carry(usize::MAX);
    assert!(matches!(line.client.events()[..], [client::Event::Connected { .. }, client::Event::Echo { .. }]));
    let mut secret = Line::of(client_rig(client_tls()), line.server);
    secret.carry(usize::MAX);
    assert!(matches!(secret.client.events()[..], [client::Event::Connected { .. }, client::Event::Echo { .. }]));
}

#[test]
fn nothing_goes_out_or_comes_in_before_a_connection_stands() {
    let mut client = client_rig(client_tls());
    let first = client.act(|client, _| client.servers().next().expect("one").server);
    let _ = client.act(|client, now| client.echo(first, Bytes::from_static(b"hello"), now)).expect("taken");
    let [(conn, _)] = client.connects()[..] else { panic!("one attempt") };
    assert!(client.machine.outgoing(conn).is_empty(), "not even in plain");
    client.receive_bytes(conn, b"hello");
    assert_eq!(client.sent_bytes(conn), "");
    // It takes too long, and comes all the same.
    client.pass(secs(5));
    assert_eq!(client.disconnects(), [conn]);
    client.handle(Input::Connected(conn));
    assert_eq!(client.sent_bytes(conn), "");
    assert!(client.machine.outgoing(conn).is_empty());
}

#[test]
fn whether_more_are_accepted_is_the_machines_to_say() {
    let mut server = server_rig(server_tls());
    assert!(server.machine.wants_accept());
    server.act(|server, now| server.close(now));
    assert!(!server.machine.wants_accept());
}

#[test]
fn the_other_direction_stays_plain() {
    // A machine that accepts, with TLS for what it dials, and the reverse.
    let mut server = Rig::new(Secured::client(plain_server(Limits::default()), client_tls()));
    let conn = server.act(|server, now| server.accept(Peer::new("10.0.0.1", false), now)).expect("room");
    server.receive_bytes(conn, b"version\n");
    assert!(server.sent_text(conn).starts_with("OK "));
    assert!(server.machine.wants_read(conn));
    server.close(conn, CloseReason::Ended);
    assert_eq!((why_lost(&mut server), server.wait), (CloseReason::Ended, None));
    let mut client = Rig::new(Secured::server(plain_client(), server_tls()));
    client.act(|client, now| client.submit(Job::new("f", "x"), now)).expect("taken");
    let conn = client.connect();
    assert_eq!(client.sent_names(conn).last(), Some(&"SUBMIT_JOB"));
}

#[test]
fn a_limit_for_records_is_kept_and_filled() {
    use gearwheel::tls::rustls::{self, pki_types::pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(OURS.pem.as_bytes()).expect("a certificate");
    roots.add(ca).expect("a root");
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.max_fragment_size = Some(512);
    let mut line = Line::of(client_rig(config.into()), server_rig(server_tls()));
    line.carry(usize::MAX);
    submit(&mut line.client, Job::new("f", vec![7; 3000]).background());
    let bytes = line.client.sent_bytes(line.ours);
    // 512 with the header that rustls counts, and 17 that TLS 1.3 adds.
    assert_eq!(records(&bytes)[..5], [512 + 17; 5]);
    line.server.receive_bytes(line.theirs, &bytes);
    line.carry(usize::MAX);
    assert!(matches!(outcomes(&mut line.client)[..], [(_, Outcome::Queued { .. })]));
}
