//! Sockets that listen: TCP's and Unix ones.

use alloc::format;
use core::fmt;
use core::net::SocketAddr;

use super::Error;
use super::handles::ToAddress;
#[cfg(not(unix))]
use super::no_unix_sockets;
use super::std::io;
use super::std::net::{TcpListener, ToSocketAddrs};
#[cfg(unix)]
use super::std::os::unix::net::UnixListener;
use super::std::path::Path;
use crate::Address;

/// A socket that listens, for a server to accept connections from: bound here, or by somebody else who passes it on, such as
/// a service manager at socket activation (`From` std's `TcpListener` and `UnixListener`).
///
/// ```
/// use gearwheel::blocking::{Listening, Server};
///
/// let passed = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let server = Server::builder().listen_on(passed).listen_on(Listening::bind("127.0.0.1:0")?).build()?;
/// assert_eq!(server.addresses().len(), 2);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Listening {
    // Before the socket, and so dropped before it.
    nameplate: Option<Nameplate>,
    socket: Bound,
    #[cfg_attr(not(all(unix, feature = "blocking")), expect(dead_code, reason = "only threads must be woken"))]
    ours: bool,
    plain: bool,
}

/// A listener as std has it.
pub(crate) enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listening {
    /// Binds what a text names: `HOST:PORT`, where port 0 lets the system choose one, or `unix:/PATH`.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp) and [`unix`](Self::unix).
    pub fn bind(at: &str) -> Result<Self, Error> {
        match at.parse::<Address>().ok().as_ref().and_then(Address::unix_path) {
            Some(path) => Self::unix(path),
            None => Self::tcp(at),
        }
    }

    /// Binds the first of the TCP addresses that can be had. Names are looked up on the spot, which blocks.
    ///
    /// # Errors
    /// [`Error::Io`]: none of them can be had.
    pub fn tcp(addresses: impl ToSocketAddrs) -> Result<Self, Error> {
        let listener = TcpListener::bind(addresses).map_err(Error::io("listen"))?;
        Ok(Self { nameplate: None, socket: Bound::Tcp(listener), ours: true, plain: false })
    }

    /// Binds a Unix socket at `path`. Who may connect is the matter of the directory's permissions, and of the umask.
    ///
    /// The file is removed when this socket is closed. One that is there already, left by a process that was killed, is
    /// removed first if it is a socket on which nobody listens.
    ///
    /// # Errors
    /// [`Error::Io`]: a server listens there, something else is in its place, the path is too long or cannot be written to,
    /// or the system has no Unix sockets that std knows (Windows).
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::at_path(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            .map_err(Error::io("listen"))
    }

    #[cfg(unix)]
    fn at_path(path: &Path) -> io::Result<Self> {
        let socket = unix::bind(path)?;
        let nameplate = Nameplate::of(path)?;
        Ok(Self { nameplate: Some(nameplate), socket: Bound::Unix(socket), ours: true, plain: false })
    }

    #[cfg(not(unix))]
    fn at_path(_: &Path) -> io::Result<Self> {
        Err(no_unix_sockets())
    }

    /// Leaves the connections that come by this socket as they are, though the server has TLS: those of a Unix socket, say.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Where it listens; `None` for a Unix socket without a path, or with one that is no text.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().ok()?.to_address().ok(),
            #[cfg(unix)]
            Bound::Unix(listener) => Address::unix(listener.local_addr().ok()?.as_pathname()?.to_str()?).ok(),
        }
    }

    /// The socket, and what removes its file when it is dropped: to be dropped before the socket.
    pub(crate) fn into_parts(self) -> (Option<Nameplate>, Bound) {
        (self.nameplate, self.socket)
    }

    pub(crate) fn socket(&self) -> &Bound {
        &self.socket
    }

    /// Whether it was bound here, and so is in nobody else's use.
    #[cfg(all(unix, feature = "blocking"))]
    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Where it listens on TCP.
    pub(crate) fn socket_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Bound::Unix(_) => None,
        }
    }
}

impl Bound {
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(nonblocking),
            #[cfg(unix)]
            Self::Unix(listener) => listener.set_nonblocking(nonblocking),
        }
    }
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Self {
        Self { nameplate: None, socket: Bound::Tcp(listener), ours: false, plain: false }
    }
}

/// Its file stays when it is closed.
#[cfg(unix)]
impl From<UnixListener> for Listening {
    fn from(listener: UnixListener) -> Self {
        Self { nameplate: None, socket: Bound::Unix(listener), ours: false, plain: false }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listening").field(&self.address()).finish()
    }
}

#[cfg(unix)]
pub(crate) use self::unix::Nameplate;

/// There are no files of sockets here.
#[cfg(not(unix))]
pub(crate) enum Nameplate {}

#[cfg(unix)]
mod unix {
    use crate::runtimes::std::fs::{self, Metadata};
    use crate::runtimes::std::io::{self, ErrorKind};
    use crate::runtimes::std::os::unix::fs::{FileTypeExt, MetadataExt};
    use crate::runtimes::std::os::unix::net::{UnixDatagram, UnixListener};
    use crate::runtimes::std::path::{self, Path, PathBuf};
    use crate::runtimes::unix_failure;

    /// The file of a Unix socket that listens, removed when this is dropped, if it is still the same.
    pub(crate) struct Nameplate {
        path: PathBuf,
        file: (u64, u64),
    }

    impl Nameplate {
        pub(super) fn of(path: &Path) -> io::Result<Self> {
            // The working directory may change.
            Ok(Self { path: path::absolute(path)?, file: identity(&fs::symlink_metadata(path)?) })
        }
    }

    impl Drop for Nameplate {
        /// No other socket can bear the number of this one's file while this one is open.
        fn drop(&mut self) {
            if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file) {
                // Where that fails, the file is stale: whoever binds the path next removes it.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn identity(file: &Metadata) -> (u64, u64) {
        (file.dev(), file.ino())
    }

    pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
        let bind = || {
            UnixListener::bind(path).map_err(|error| match error.kind() {
                ErrorKind::InvalidInput | ErrorKind::InvalidFilename => unix_failure(path, error),
                _ => error,
            })
        };
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound,
        }
        let found = fs::symlink_metadata(path)?;
        if !found.file_type().is_socket() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "it is there, and no socket"));
        }
        // A socket of another kind is refused by one that lives: it is not disturbed, and nobody has to wait.
        match UnixDatagram::unbound()?.connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            _ => return Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there already")),
        }
        if identity(&fs::symlink_metadata(path)?) == identity(&found) {
            fs::remove_file(path)?;
        }
        bind()
    }
}
