//! Where a job server is.

use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use crate::error::ConfigError;

/// The port of a job server where none is given.
pub const DEFAULT_PORT: u16 = 4730;

/// The address of a job server: a host name or an IP address, and a port. The host is kept as it was written and resolved
/// by the runtime at each connection attempt.
///
/// ```
/// # use gearwheel::Address;
/// let address: Address = "jobs.example.org".parse()?;
/// assert_eq!((address.host(), address.port()), ("jobs.example.org", 4730));
/// let address: Address = "[::1]:7003".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 7003));
/// # Ok::<(), gearwheel::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: Arc<str>,
    port: u16,
}

impl Address {
    /// The address of `host`, an IPv6 address without brackets, at `port`; port 0 means [`DEFAULT_PORT`].
    pub fn new(host: &str, port: u16) -> Result<Self, ConfigError> {
        let plain = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if plain.is_empty() || plain.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/,".contains(c)) {
            return Err(ConfigError::BadAddress { text: host.into() });
        }
        Ok(Self { host: plain.into(), port: if port == 0 { DEFAULT_PORT } else { port } })
    }

    /// The host as it was written, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = ConfigError;

    /// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadAddress { text: text.into() };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') && !text.starts_with('[') => (text, None),
            Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().map_err(|_| bad())?,
            Some(_) => return Err(bad()),
            None => DEFAULT_PORT,
        };
        Self::new(host, port).map_err(|_| bad())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_form_of_an_address_is_read_and_written() {
        for (text, host, port) in [
            ("localhost", "localhost", 4730),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("::1", "::1", 4730),
            ("fe80::1:4730", "fe80::1:4730", 4730),
            ("[::1]", "::1", 4730),
            ("[::1]:99", "::1", 99),
            ("h:0", "h", 4730),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(&address));
        }
    }

    #[test]
    fn what_is_no_address_is_named_in_the_error() {
        for text in ["", ":4730", "h:", "h:x", "h:65536", "h:-1", "a b", "[::1", "[::1]:x", "a,b", "a/b"] {
            assert_eq!(text.parse::<Address>(), Err(ConfigError::BadAddress { text: text.into() }));
        }
    }
}
