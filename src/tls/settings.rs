//! What a user says about TLS: whom to trust, who one is, and what is asked of the other side.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a handshake may take where nothing else is said.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up as it was said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {file}: {error}")]
    File {
        /// Its path.
        file: Box<str>,
        /// What the operating system said.
        error: Box<str>,
    },
    /// There is no certificate or key where one should be.
    #[error("no {what} in {place}: it must be PEM, with a line -----BEGIN ... before it")]
    Missing {
        /// Of what there is none.
        what: &'static str,
        /// The path of the file, or "the PEM text".
        place: Box<str>,
    },
    /// There is one, but it is not to be used.
    #[error("the {what} in {place} cannot be used: {error}")]
    Unusable {
        /// A certificate or a private key.
        what: &'static str,
        /// The path of the file, or "the PEM text".
        place: Box<str>,
        /// What is wrong with it.
        error: Box<str>,
    },
    /// No certificate can be for this name.
    #[error("{name:?} is no name that a certificate can be for: it must be a DNS name or an IP address")]
    Name {
        /// What was given.
        name: Box<str>,
    },
    /// The settings do not go together.
    #[error("TLS cannot be set up: {error}")]
    Unfit {
        /// What rustls said.
        error: Box<str>,
    },
}

/// The CAs whose certificates are trusted, or single certificates that are.
///
/// For those of the operating system make a [`rustls::RootCertStore`] with the crate rustls-native-certs.
#[derive(Clone, Debug)]
pub struct Roots(RootCertStore);

impl Roots {
    /// All certificates in a PEM text.
    ///
    /// # Errors
    /// There is none, or one cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::from_pem_of("the PEM text", pem)
    }

    pub(crate) fn from_pem_of(place: &str, pem: &[u8]) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(place, pem)? {
            store.add(certificate).map_err(|error| unusable("certificate", place, &error))?;
        }
        Ok(Self(store))
    }
}

impl From<RootCertStore> for Roots {
    fn from(store: RootCertStore) -> Self {
        Self(store)
    }
}

/// A certificate with the chain that leads to its CA, and its private key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// The certificates in one PEM text, its own first, and the key in another, which may be the same: PKCS#8, PKCS#1 or
    /// SEC1, without a passphrase.
    ///
    /// # Errors
    /// One is missing or cannot be used, or the key is not that of the certificate.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::from_pem_of("the PEM text", certificates, "the PEM text", key)
    }

    pub(crate) fn from_pem_of(chain_in: &str, chain: &[u8], key_in: &str, key: &[u8]) -> Result<Self, Error> {
        let chain = certificates(chain_in, chain)?;
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Err(pem::Error::NoItemsFound) => {
                return Err(Error::Missing { what: "private key", place: key_in.into() });
            }
            key => key.map_err(|error| unusable("private key", key_in, &error))?,
        };
        let key = CertifiedKey::from_der(chain, key, &provider());
        Ok(Self(Arc::new(key.map_err(|error| unusable("private key", key_in, &error))?)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.0.cert.len())
    }
}

fn certificates(place: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable("certificate", place, &error))?;
    if found.is_empty() { Err(Error::Missing { what: "certificate", place: place.into() }) } else { Ok(found) }
}

fn unusable(what: &'static str, place: &str, error: &dyn fmt::Display) -> Error {
    Error::Unusable { what, place: place.into(), error: error.to_string().into() }
}

fn unfit(error: impl fmt::Display) -> Error {
    Error::Unfit { error: error.to_string().into() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS for connections that are dialled: those of a client, a worker or an admin connection.
///
/// The server must show a certificate for the host of its address, signed by a CA that is trusted. TLS 1.2 and 1.3.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: Option<ServerName<'static>>,
    pub(super) handshake: Duration,
}

impl ClientTls {
    /// Trusts servers whose certificate leads to one of `roots`.
    ///
    /// # Errors
    /// rustls does not take it.
    pub fn new(roots: Roots) -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        Ok(config.map_err(unfit)?.with_root_certificates(roots.0).with_no_client_auth().into())
    }

    /// Shows this certificate to servers that ask for one.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.config).client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.0));
        self
    }

    /// The name that servers' certificates must be for, whatever the host of their address.
    ///
    /// # Errors
    /// It is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, Error> {
        match ServerName::try_from(name) {
            Ok(found) => self.name = Some(found.to_owned()),
            Err(_) => return Err(Error::Name { name: name.into() }),
        }
        Ok(self)
    }

    /// The most time a handshake may take, from the connection on. Default 10 s, and always less than the connect
    /// timeout.
    #[must_use]
    pub const fn handshake_timeout(mut self, within: Duration) -> Self {
        self.handshake = within;
        self
    }

    /// The name for which the certificate of the server at `host` must be.
    pub(super) fn name_of(&self, host: &str) -> Option<ServerName<'static>> {
        // An interface belongs to this machine's view of an address, not to the address.
        let host = host.split_once('%').map_or(host, |(address, _)| address);
        self.name.clone().or_else(|| ServerName::try_from(host).ok().map(|name| name.to_owned()))
    }
}

/// All that rustls can be told. Early data is switched off: it could be replayed.
impl From<ClientConfig> for ClientTls {
    fn from(mut config: ClientConfig) -> Self {
        config.enable_early_data = false;
        Self { config: Arc::new(config), name: None, handshake: HANDSHAKE }
    }
}

impl From<Arc<ClientConfig>> for ClientTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Arc::unwrap_or_clone(config).into()
    }
}

/// What a server asks of its clients, workers and admin connections.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// Nothing: whoever can connect may do anything.
    #[default]
    NotAsked,
    /// A certificate that leads to one of these, or none.
    Optional(Roots),
    /// A certificate that leads to one of these.
    Required(Roots),
}

/// TLS for connections that are accepted: those of a job server. Encrypted from the first byte, as with `gearmand --ssl`;
/// whoever does not speak TLS is refused.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) handshake: Duration,
}

impl ServerTls {
    /// A server with this certificate. TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// rustls does not take it, or the roots for clients are empty.
    pub fn new(identity: Identity, clients: ClientCertificates) -> Result<Self, Error> {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(unfit)?;
        let verifier = |roots: Roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots.0), provider());
        let config = match clients {
            ClientCertificates::NotAsked => config.with_no_client_auth(),
            ClientCertificates::Optional(roots) => {
                config.with_client_cert_verifier(verifier(roots).allow_unauthenticated().build().map_err(unfit)?)
            }
            ClientCertificates::Required(roots) => {
                config.with_client_cert_verifier(verifier(roots).build().map_err(unfit)?)
            }
        };
        Ok(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.0))).into())
    }

    /// The most time a handshake may take: a connection that has not done it by then is closed. Default 10 s.
    #[must_use]
    pub const fn handshake_timeout(mut self, within: Duration) -> Self {
        self.handshake = within;
        self
    }
}

/// All that rustls can be told. Early data is switched off: it could be replayed.
impl From<ServerConfig> for ServerTls {
    fn from(mut config: ServerConfig) -> Self {
        config.max_early_data_size = 0;
        Self { config: Arc::new(config), handshake: HANDSHAKE }
    }
}

impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Arc::unwrap_or_clone(config).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_data_which_could_be_replayed_is_switched_off() {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(RootCertStore::empty());
        let mut config = config.with_no_client_auth();
        config.enable_early_data = true;
        assert!(!ClientTls::from(Arc::new(config)).config.enable_early_data);
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let resolver = rustls::server::ResolvesServerCertUsingSni::new();
        let config = config.expect("versions").with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(resolver));
        config.max_early_data_size = 1000;
        assert_eq!(ServerTls::from(Arc::new(config)).config.max_early_data_size, 0);
    }

    #[test]
    fn an_interface_is_no_part_of_the_name_that_a_certificate_is_for() {
        let tls = ClientTls::new(Roots::from(RootCertStore::empty())).expect("settings");
        assert_eq!(tls.name_of("fe80::1%eth0"), tls.name_of("fe80::1"));
        assert!(tls.name_of("fe80::1").is_some() && tls.name_of("no..name").is_none());
    }
}
