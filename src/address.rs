//! Where a job server is.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

use crate::error::{ConfigError, lossy};

/// The port of a job server where none is given.
pub const DEFAULT_PORT: u16 = 4730;
/// What the text of a Unix socket's address begins with.
const UNIX: &str = "unix:";

/// The address of a job server: a host name or an IP address, and a port; or the path of a Unix socket. A host is kept as it
/// was written and resolved by the runtime at each connection attempt.
///
/// ```
/// # use gearwheel::Address;
/// let address: Address = "jobs.example.org".parse()?;
/// assert_eq!((address.host(), address.port()), ("jobs.example.org", 4730));
/// let address: Address = "[::1]:7003".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 7003));
/// let address: Address = "unix:/run/gearmand.sock".parse()?;
/// assert_eq!(address.unix_path(), Some("/run/gearmand.sock"));
/// # Ok::<(), gearwheel::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The host, or the path of a Unix socket.
    host: Arc<str>,
    /// No port is 0: that is a Unix socket.
    port: u16,
}

impl Address {
    /// The address of `host`, an IPv6 address without brackets, at `port`; port 0 means [`DEFAULT_PORT`].
    pub fn new(host: &str, port: u16) -> Result<Self, ConfigError> {
        let plain = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if plain.is_empty() || plain.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/,".contains(c)) {
            return Err(ConfigError::BadAddress { text: lossy(host.as_bytes()) });
        }
        Ok(Self { host: plain.into(), port: if port == 0 { DEFAULT_PORT } else { port } })
    }

    /// The address of the Unix socket at `path`, absolute or from the working directory. How long it may be, about 100
    /// bytes, is the system's to say when it is connected to.
    ///
    /// # Errors
    /// The path is empty or has control characters.
    pub fn unix(path: &str) -> Result<Self, ConfigError> {
        if path.is_empty() || path.contains(char::is_control) {
            return Err(ConfigError::BadAddress { text: lossy(format!("{UNIX}{path}").as_bytes()) });
        }
        // With a slash, its text cannot be that of a host named unix.
        let host = if path.contains('/') { path.into() } else { format!("./{path}").into() };
        Ok(Self { host, port: 0 })
    }

    /// The host as it was written, an IPv6 address without brackets; the path of a Unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a Unix socket, which has none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path, where it is a Unix socket.
    #[must_use]
    pub fn unix_path(&self) -> Option<&str> {
        (self.port == 0).then_some(&*self.host)
    }
}

/// Port 0 means [`DEFAULT_PORT`].
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        let port = if address.port() == 0 { DEFAULT_PORT } else { address.port() };
        Self { host: host.into(), port }
    }
}

impl FromStr for Address {
    type Err = ConfigError;

    /// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address; or `unix:` and a path, which has a slash in it.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadAddress { text: lossy(text.as_bytes()) };
        if let Some(path) = text.strip_prefix(UNIX).filter(|path| path.contains('/')) {
            return Self::unix(path);
        }
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
        match self.unix_path() {
            Some(path) => write!(f, "{UNIX}{path}"),
            None if self.host.contains(':') => write!(f, "[{}]:{}", self.host, self.port),
            None => write!(f, "{}:{}", self.host, self.port),
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
            ("unix:4730", "unix", 4730),
            ("unix", "unix", 4730),
            ("unix:/run/g.sock", "/run/g.sock", 0),
            ("unix:./4730", "./4730", 0),
            ("unix:/a dir/with:colons,[and]", "/a dir/with:colons,[and]", 0),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(&address));
        }
    }

    #[test]
    fn what_is_no_address_is_named_in_the_error() {
        for text in [
            "",
            ":4730",
            "h:",
            "h:x",
            "h:65536",
            "h:-1",
            "a b",
            "[::1",
            "[::1]:x",
            "a,b",
            "a/b",
            "unix:",
            "unix:g.sock",
            "unix:/a\0b",
        ] {
            assert_eq!(text.parse::<Address>(), Err(ConfigError::BadAddress { text: text.into() }));
        }
    }
    #[test]
    fn a_path_is_no_host() {
        let here = Address::unix("4730").expect("a path");
        assert_eq!((here.unix_path(), here.to_string().as_str()), (Some("./4730"), "unix:./4730"));
        assert_eq!(Address::new("unix", 4730).expect("a host").unix_path(), None);
        assert_ne!(Address::unix("./h").expect("a path"), Address::new("h", 0).expect("a host"));
        let empty = Err(ConfigError::BadAddress { text: "unix:".into() });
        assert_eq!(Address::unix(""), empty);
    }
}
