//! What TLS wants of the operating system: files. And how the machines of handles come by it.

use super::std::fs;
use super::std::path::Path;
#[cfg(feature = "blocking")]
use crate::ConnId;
use crate::Instant;
use crate::runtimes::handles::Driven;
#[cfg(feature = "blocking")]
use crate::time::earlier;
use crate::tls::{ClientTls, Error, Identity, Roots, Secured, ServerTls};
use alloc::string::ToString;
use alloc::vec::Vec;

impl Roots {
    /// All certificates in a PEM file.
    ///
    /// # Errors
    /// It cannot be read, has none, or has one that cannot be used.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::from_pem_of(&path.to_string_lossy(), &read(path)?)
    }
}

impl Identity {
    /// The certificates in a PEM file, its own first, and the key in another, which may be the same: PKCS#8, PKCS#1 or SEC1,
    /// without a passphrase. They are read now: a program that renews them hands them to `set_tls` again.
    ///
    /// # Errors
    /// One cannot be read, is missing or cannot be used, or the key is not that of the certificate.
    pub fn from_pem_files(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let (chain, key) = (certificates.as_ref(), key.as_ref());
        Self::from_pem_of(&chain.to_string_lossy(), &read(chain)?, &key.to_string_lossy(), &read(key)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::File { file: path.to_string_lossy().into(), error: error.to_string().into() })
}

impl<M: Driven> Driven for Secured<M> {
    fn close(&mut self, now: Instant) {
        (**self).close(now);
    }

    fn drain(&mut self, now: Instant) {
        (**self).drain(now);
    }

    fn unfinished(&self) -> usize {
        (**self).unfinished()
    }

    fn has_output(&self) -> bool {
        self.layer_has_output() || (**self).has_output()
    }

    #[cfg(feature = "blocking")]
    fn next_due(&mut self) -> Option<ConnId> {
        if self.is_plain() { (**self).next_due() } else { None }
    }

    #[cfg(feature = "blocking")]
    fn rests_until(&mut self) -> Option<Option<Instant>> {
        let own = self.layer_deadline();
        (**self).rests_until().map(|at| earlier(at, own))
    }

    #[cfg(feature = "blocking")]
    fn gathers_until(&self) -> Instant {
        (**self).gathers_until()
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn is_last(event: &Self::Event) -> bool {
        M::is_last(event)
    }

    fn shuts_doors(event: &Self::Event) -> bool {
        M::shuts_doors(event)
    }
}

pub(crate) fn dialling<M>(machine: M, tls: Option<ClientTls>) -> Secured<M> {
    match tls {
        Some(tls) => Secured::client(machine, tls),
        None => Secured::plain(machine),
    }
}

pub(crate) fn accepting<M>(machine: M, tls: Option<ServerTls>) -> Secured<M> {
    match tls {
        Some(tls) => Secured::server(machine, tls),
        None => Secured::plain(machine),
    }
}
