//! What a user hears when certificates or peers are wrong, on every runtime.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use gearwheel::tls::{ClientCertificates, ClientTls, ServerTls};
use gearwheel::{CloseReason, Job};

use crate::certs::{self, OURS, THEIRS};
use crate::kinds::Kind;
use crate::kinds::any::Listening;
use crate::peers::{PATIENCE, Tools, wait_until};
use crate::secured::{Stunnel, client_tls, reasons, use_client, use_plain, use_server};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn server_tls(leaf: &certs::Leaf, clients: ClientCertificates) -> ServerTls {
    ServerTls::new(leaf.identity(), clients).expect("settings")
}

fn leaf() -> certs::Leaf {
    OURS.sign(&["localhost", "127.0.0.1"])
}

/// Why a client cannot get a job to the server at `at`.
fn why<K: Kind>(at: SocketAddr) -> CloseReason {
    let heard = reasons();
    let client = K::client(&at.to_string(), |config| {
        config.connecting.connect_timeout = Duration::from_secs(3);
        config.deadlines.total = Some(PATIENCE);
    });
    let _job = K::submit(&client, Job::new("echo", "x")).expect("taken");
    let reason = heard.recv_timeout(PATIENCE).expect("the client says why");
    K::close(&client);
    reason
}

#[track_caller]
fn says(reason: &CloseReason, text: &str) {
    assert!(matches!(reason, CloseReason::Tls(_)) && reason.to_string().contains(text), "{reason}");
}

fn nobody_is_left<K: Kind>(server: &K::Server) {
    wait_until("every connection is closed", PATIENCE, || K::counters(server).connections == 0);
}

pub(crate) fn certificates_that_are_refused_are_named<K: Kind>() {
    for (leaf, text) in [
        (THEIRS.sign(&["localhost", "127.0.0.1"]), "it is not signed by a CA that is trusted here"),
        (OURS.sign(&["jobs.example.org"]), "it is for another name"),
        (OURS.sign_until(&["127.0.0.1"], 2021), "it has expired"),
    ] {
        use_server(server_tls(&leaf, ClientCertificates::NotAsked));
        let server = K::server(local(), |_| ());
        says(&why::<K>(K::address(&server)), text);
        nobody_is_left::<K>(&server);
    }
    use_server(server_tls(&OURS.sign(&["jobs.example.org"]), ClientCertificates::NotAsked));
    use_client(client_tls().server_name("jobs.example.org").expect("a name"));
    let server = K::server(local(), |_| ());
    goes_round::<K>(K::address(&server));
}

fn goes_round<K: Kind>(at: SocketAddr) {
    let worker = K::worker(at, 1);
    let client = K::client(&at.to_string(), |config| config.deadlines.total = Some(PATIENCE));
    let job = K::submit(&client, Job::new("echo", "x")).expect("taken");
    assert_eq!(K::wait(job), Ok("x".into()));
    drop(worker);
}

pub(crate) fn clients_show_certificates_where_they_must<K: Kind>() {
    use_server(server_tls(&leaf(), ClientCertificates::Required(OURS.roots())));
    let server = K::server(local(), |_| ());
    let at = K::address(&server);
    says(&why::<K>(at), "it wants a certificate of this side");
    let trusting = client_tls();
    use_client(trusting.clone().identity(THEIRS.sign(&["me"]).identity()));
    says(&why::<K>(at), "it does not trust the CA of this side's certificate");
    use_client(trusting.identity(OURS.sign(&["me"]).identity()));
    goes_round::<K>(at);
}

pub(crate) fn plain_and_tls_tell_each_other_apart<K: Kind>() {
    let secret = K::server(local(), |_| ());
    use_plain(true);
    let reason = why::<K>(K::address(&secret));
    // What it hears is an alert, unless the connection is reset before it has read that.
    let says_so = reason.to_string().contains("the peer speaks TLS");
    assert!(says_so || reason == CloseReason::Reset, "{reason}");
    nobody_is_left::<K>(&secret);
    let plain = K::server(local(), |_| ());
    use_plain(false);
    says(&why::<K>(K::address(&plain)), "not speak TLS");
    nobody_is_left::<K>(&plain);

    let silent = TcpListener::bind(local()).expect("a port");
    says(&why::<K>(silent.local_addr().expect("bound")), "the server did not answer the handshake in time");
    let text = TcpListener::bind(local()).expect("a port");
    let at = text.local_addr().expect("bound");
    let answer = std::thread::spawn(move || {
        let (mut socket, _) = text.accept().expect("a client");
        let _ = socket.write_all(b"ERR UNKNOWN_COMMAND Unknown+server+command\r\n");
        let _ = socket.read(&mut [0; 1000]);
    });
    says(&why::<K>(at), "the server does not speak TLS");
    answer.join().expect("no panic");
}

pub(crate) fn a_listener_may_stay_plain<K: Kind>() {
    let doors = ["127.0.0.1:0"; 2].map(|at| Listening::bind(at).expect("a port"));
    let [secret, open] = doors;
    let server = K::server_on(vec![secret, open.plain()], |_| ());
    let addresses = K::addresses(&server);
    for (plain, at) in [(false, &addresses[0]), (true, &addresses[1])] {
        use_plain(plain);
        goes_round::<K>(at.to_string().parse().expect("of TCP"));
    }
    use_plain(true);
    assert!(!matches!(why::<K>(K::address(&server)), CloseReason::Tls(_)), "plain at the other");
}

#[test]
fn server_worker_and_client_take_renewed_certificates() {
    use gearwheel::blocking::{Client, Server, Worker};
    let trusting = |authority: &certs::Authority| ClientTls::new(authority.roots()).expect("settings");
    let leaf = |authority: &certs::Authority| server_tls(&authority.sign(&["127.0.0.1"]), ClientCertificates::NotAsked);
    let server = Server::builder().tls(leaf(&OURS)).bind("127.0.0.1:0").expect("a port");
    let at = server.local_addr();
    let heard = Worker::builder().server(at).tls(trusting(&OURS)).function("echo", |task| Ok(task.payload().clone()));
    let worker = heard.spawn().expect("a worker");
    let client = Client::builder().server(at).tls(trusting(&OURS)).timeout(PATIENCE).build().expect("a client");
    let goes_round = |client: &Client| client.submit(Job::new("echo", "x")).expect("taken").wait();
    assert_eq!(goes_round(&client), Ok("x".into()));
    server.set_tls(leaf(&THEIRS));
    assert_eq!(goes_round(&client), Ok("x".into()), "what stands goes on");
    // Who comes later must trust the new one.
    let later = Client::builder().server(at).tls(trusting(&OURS)).timeout(Duration::from_millis(300));
    let later = later.build().expect("a client");
    assert!(goes_round(&later).is_err());
    later.set_tls(trusting(&THEIRS));
    wait_until("it trusts the server", PATIENCE, || goes_round(&later).is_ok());
    worker.worker().set_tls(trusting(&THEIRS));
}

pub(crate) fn a_handshake_that_is_never_done_is_ended<K: Kind>() {
    let tls = server_tls(&leaf(), ClientCertificates::NotAsked).handshake_timeout(Duration::from_millis(300));
    use_server(tls);
    let server = K::server(local(), |_| ());
    let at = K::address(&server);
    let silent = TcpStream::connect(at).expect("it listens");
    let mut slow = TcpStream::connect(at).expect("it listens");
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).expect("connected");
    wait_until("both are accepted", PATIENCE, || K::counters(&server).connections == 2);
    goes_round::<K>(at);
    for mut socket in [silent, slow] {
        socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
        assert_eq!(socket.read_to_end(&mut Vec::new()).expect("an end in time"), 0);
    }
    nobody_is_left::<K>(&server);
}

/// OpenSSL's word for it: stunnel carries libgearman's `gearman` to our job server, and shows a certificate.
pub(crate) fn gearman_comes_by_stunnel<K: Kind>() {
    let Some(tools) = Tools::find() else { return };
    use_server(server_tls(&leaf(), ClientCertificates::Required(OURS.roots())));
    let server = K::server(local(), |_| ());
    let mine = OURS.sign(&["me"]);
    let service = format!(
        "client = yes\nCAfile = {}\nverifyChain = yes\ncheckIP = 127.0.0.1\ncert = {}\nkey = {}",
        certs::file("ca.pem", &OURS.pem),
        certs::file("me.pem", &mine.certificate),
        certs::file("me.key", &mine.key),
    );
    let Some(stunnel) = Stunnel::start(K::address(&server), &service) else { return };
    use_client(client_tls().identity(mine.identity()));
    let worker = K::worker(K::address(&server), 1);
    let payload = vec![b'p'; 50_000];
    let ended = tools.submit(stunnel.address(), "echo", &[], &payload);
    assert!(ended.status.success() && ended.stdout == payload, "{}", ended.errors());
    drop(worker);
}

/// stunnel says close_notify as soon as its own client has closed its side, and passes the answer on.
pub(crate) fn who_closes_only_his_own_side_is_answered<K: Kind>() {
    let server = K::server(local(), |_| ());
    let service = format!("client = yes\nCAfile = {}\nverifyChain = yes", certs::file("ca.pem", &OURS.pem));
    let Some(stunnel) = Stunnel::start(K::address(&server), &service) else { return };
    for _ in 0..10 {
        let mut socket = TcpStream::connect(stunnel.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
        socket.write_all(b"version\n").expect("connected");
        socket.shutdown(Shutdown::Write).expect("connected");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("text");
        assert!(answer.starts_with("OK"), "{answer}");
    }
}

/// And when we close, OpenSSL finds an orderly end.
pub(crate) fn a_close_is_an_orderly_end_to_openssl<K: Kind>() {
    if Command::new("openssl").arg("version").output().is_err() {
        return crate::peers::missing("openssl", "openssl");
    }
    let server = K::server(local(), |_| ());
    let at = K::address(&server);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-no_ign_eof", "-connect", &at.to_string()]);
    command.args(["-CAfile", &certs::file("ca.pem", &OURS.pem), "-verify_return_error"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"version\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    assert!(line.starts_with("OK"), "{line}");
    K::drain_server(&server, PATIENCE).expect("nothing runs");
    let ended = child.wait_with_output().expect("it ends");
    drop(stdin);
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!errors.contains("unexpected eof"), "{errors}");
}
