//! TLS for what the scenarios make: by default all trust one CA, and nobody asks for a client's certificate.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};

use gearwheel::tls::{ClientCertificates, ClientTls, ServerTls};
use gearwheel::{CloseReason, client};

use crate::certs::{self, OURS};
use crate::peers::{Gearmand, PATIENCE, Process, free_port, missing, wait_until};

thread_local! {
    static CLIENT: RefCell<Option<ClientTls>> = const { RefCell::new(None) };
    static SERVER: RefCell<Option<ServerTls>> = const { RefCell::new(None) };
    static REASONS: RefCell<Option<Sender<CloseReason>>> = const { RefCell::new(None) };
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Why the clients that this thread makes from now on lose their connections.
pub(crate) fn reasons() -> Receiver<CloseReason> {
    let (tell, heard) = mpsc::channel();
    REASONS.set(Some(tell));
    heard
}

/// What clients and workers that this thread makes use from now on.
pub(crate) fn use_client(tls: ClientTls) {
    CLIENT.set(Some(tls));
}

/// What servers that this thread makes use from now on.
pub(crate) fn use_server(tls: ServerTls) {
    SERVER.set(Some(tls));
}

/// Whether what this thread makes from now on is without TLS.
pub(crate) fn use_plain(plain: bool) {
    PLAIN.set(plain);
}

pub(crate) fn client_tls() -> ClientTls {
    CLIENT.with_borrow(Clone::clone).unwrap_or_else(|| ClientTls::new(OURS.roots()).expect("settings"))
}

pub(crate) fn server_tls() -> ServerTls {
    SERVER.with_borrow(Clone::clone).unwrap_or_else(|| {
        let identity = OURS.sign(&["localhost", "127.0.0.1"]).identity();
        ServerTls::new(identity, ClientCertificates::NotAsked).expect("settings")
    })
}

/// What a client's builder is to be told: its TLS, if any, and whom to tell of lost connections.
pub(crate) fn client() -> (Option<ClientTls>, impl FnMut(client::Event) + Send + 'static) {
    let reasons = REASONS.with_borrow(Clone::clone);
    let listener = move |event| {
        if let (client::Event::Disconnected { reason, .. }, Some(reasons)) = (event, &reasons) {
            // Nobody may listen any more.
            let _ = reasons.send(reason);
        }
    };
    (worker(), listener)
}

pub(crate) fn worker() -> Option<ClientTls> {
    (!PLAIN.get()).then(client_tls)
}

pub(crate) fn admin() -> Option<ClientTls> {
    worker()
}

pub(crate) fn server() -> Option<ServerTls> {
    (!PLAIN.get()).then(server_tls)
}

/// gearmand behind stunnel, which asks each client for a certificate: those made by this thread show one from now on.
///
/// Debian's gearmand is built without TLS: it takes `--ssl` and stays plain.
pub(crate) fn gearmand() -> Option<Tunnel> {
    let identity = OURS.sign(&["a client"]).identity();
    use_client(ClientTls::new(OURS.roots()).expect("settings").identity(identity));
    let gearmand = Gearmand::start()?;
    let leaf = OURS.sign(&["localhost", "127.0.0.1"]);
    let service = format!(
        "cert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\nrequireCert = yes",
        certs::file("gearmand.pem", &leaf.certificate),
        certs::file("gearmand.key", &leaf.key),
        certs::file("ca.pem", &OURS.pem),
    );
    let stunnel = Stunnel::start(gearmand.address(), &service)?;
    Some(Tunnel { gearmand, stunnel })
}

pub(crate) struct Tunnel {
    gearmand: Gearmand,
    stunnel: Stunnel,
}

impl Tunnel {
    pub(crate) fn address(&self) -> SocketAddr {
        self.stunnel.address()
    }

    pub(crate) fn kill(&mut self) {
        self.gearmand.kill();
        self.stunnel.process = None;
    }

    pub(crate) fn restart(&mut self) {
        self.gearmand.restart();
        assert!(self.stunnel.launch(), "its port is taken");
    }
}

/// stunnel, which speaks TLS for those who cannot.
pub(crate) struct Stunnel {
    process: Option<Process>,
    port: u16,
    settings: PathBuf,
}

impl Stunnel {
    /// Carries what connects to it to `target`. `None`: it is not installed, which has been said.
    pub(crate) fn start(target: SocketAddr, service: &str) -> Option<Self> {
        if Command::new("stunnel").arg("-version").output().is_err() {
            missing("stunnel", "stunnel4");
            return None;
        }
        for _ in 0..5 {
            let port = free_port();
            let text = format!(
                "foreground = yes\npid =\n[gearman]\naccept = 127.0.0.1:{port}\nconnect = {target}\n{service}\n"
            );
            let settings = certs::file(&format!("stunnel-{port}.conf"), &text).into();
            let mut stunnel = Self { process: None, port, settings };
            if stunnel.launch() {
                return Some(stunnel);
            }
        }
        panic!("stunnel does not listen")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Whether it listens.
    fn launch(&mut self) -> bool {
        let mut process = Process::start(Command::new("stunnel").arg(&self.settings));
        let mut lives = true;
        wait_until("stunnel listens", PATIENCE, || {
            lives = process.0.try_wait().expect("a child can be waited for").is_none();
            !lives || TcpStream::connect(self.address()).is_ok()
        });
        self.process = Some(process);
        lives
    }
}
