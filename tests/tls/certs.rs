//! Certificates, made anew for each run.

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gearwheel::tls::{Identity, Roots};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A CA and what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, as PEM.
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The CA that servers and clients trust unless a test says otherwise.
pub(crate) static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Ours"));
/// One that nobody trusts.
pub(crate) static THEIRS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Theirs"));

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.distinguished_name = named(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("signed");
        Self { pem: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for `names`, DNS names and IP addresses.
    pub(crate) fn sign(&self, names: &[&str]) -> Leaf {
        self.sign_until(names, 4096)
    }

    pub(crate) fn sign_until(&self, names: &[&str], year: i32) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut parameters = CertificateParams::new(names).expect("names");
        parameters.distinguished_name = named("leaf");
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(year, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signed");
        Leaf { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(self.pem.as_bytes()).expect("a CA")
    }
}

impl Leaf {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).expect("a certificate and its key")
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

/// The path of a file of this test process with `content`.
pub(crate) fn file(name: &str, content: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, content).expect("written");
    path.to_str().expect("UTF-8").into()
}
