//! Listen sockets: bound once, kept over reloads, handed to each service process.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::Listen;

/// Descriptors that children get by number (see `start`) live at or above this number here, so that putting one
/// in its place never overwrites another. Where fewer files may be open, the number is lower, and so are
/// [`listeners_max`].
const DESCRIPTOR_FLOOR: RawFd = 512;

/// The lowest floor: below it there is no room for a service with a few addresses.
const DESCRIPTOR_FLOOR_MIN: RawFd = 24;

/// [`DESCRIPTOR_FLOOR`], or half of what may be open.
fn descriptor_floor() -> RawFd {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.and_then(|limit| RawFd::try_from(limit / 2).ok()).unwrap_or(RawFd::MAX);
    half.clamp(DESCRIPTOR_FLOOR_MIN, DESCRIPTOR_FLOOR)
}

/// How many sockets one service can be given under the limit of open files.
pub(super) fn listeners_max() -> usize {
    let first = postfix::child::FIRST_LISTEN_DESCRIPTOR;
    usize::try_from(descriptor_floor().saturating_sub(first)).unwrap_or(0)
}

/// A socket that listens, or did before it was silenced.
#[derive(Debug)]
pub(super) struct Listener {
    address: Listen,
    socket: OwnedFd,
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(super) struct ListenError {
    address: Listen,
    /// Where the configuration asks for it.
    origin: String,
    source: std::io::Error,
}

impl ListenError {
    /// Whether another socket has the address.
    fn is_taken(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} ({}): {}", self.address, self.origin, self.source)?;
        match self.source.kind() {
            std::io::ErrorKind::AddrInUse if self.address.path().is_some() => {
                write!(f, "; another program listens there, or a file of another type exists: remove it")
            }
            std::io::ErrorKind::AddrInUse => write!(
                f,
                "; another program listens there (`ss -ltnp` shows which): stop it, or choose another \
                 address or port"
            ),
            std::io::ErrorKind::PermissionDenied if self.address.path().is_some() => {
                write!(f, "; the user starting the server must be able to write to the directory")
            }
            std::io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "; ports below 1024 need root or CAP_NET_BIND_SERVICE: start the server with it, or \
                     choose a higher port"
                )
            }
            std::io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "; this machine has no such address (`ip address` lists them): write one that it has"
                )
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}

/// Moves a descriptor out of the way of the numbers that children get; close-on-exec.
pub(super) fn lift(descriptor: &impl AsFd) -> std::io::Result<OwnedFd> {
    let floor = descriptor_floor();
    rustix::io::fcntl_dupfd_cloexec(descriptor, floor).map_err(|errno| {
        std::io::Error::other(format!(
            "cannot keep a descriptor above number {floor}: {errno}; \
             raise the limit of open files (ulimit -n) to 1024 or more"
        ))
    })
}

impl Listener {
    /// Binds and listens. IPv6 sockets take IPv6 only, as Postfix's do, so that `0.0.0.0` and `::` can stand side
    /// by side. SO_REUSEPORT, which Postfix sets since 3.6, is left out: with it a second server on the same port
    /// would take half of the clients in silence.
    ///
    /// `backlog`: connections that wait for accept(2) at most. `origin`: file and line, for the error.
    pub(super) fn bind(address: &Listen, backlog: u32, origin: &str) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: address.clone(), origin: origin.to_owned(), source };
        let open = || -> std::io::Result<OwnedFd> {
            let socket = match address {
                Listen::Inet(address) => bind_inet(*address)?,
                Listen::Unix(path) | Listen::Pass(path) => bind_unix(path)?,
            };
            socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            lift(&socket)
        };
        let socket = open().map_err(failed)?;
        Ok(Self { address: address.clone(), socket })
    }

    /// A socket that another program, such as systemd, bound and left to us. `None`: it is not a listening stream socket.
    pub(super) fn adopt(descriptor: &OwnedFd) -> std::io::Result<Option<Self>> {
        let socket = SockRef::from(descriptor);
        let listens = socket.is_listener().unwrap_or(false) && socket.r#type()? == Type::STREAM;
        let bound = socket.local_addr()?;
        let inet = bound.as_socket().map(Listen::Inet);
        let address = inet.or_else(|| bound.as_pathname().map(|path| Listen::Unix(path.to_owned())));
        let Some(address) = address.filter(|_| listens) else { return Ok(None) };
        socket.set_nonblocking(true)?;
        Ok(Some(Self { address, socket: lift(descriptor)? }))
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> &Listen {
        &self.address
    }

    /// Whether it serves a wish to listen on `wanted`.
    pub(super) fn is_for(&self, wanted: &Listen) -> bool {
        // What kind of service a socket in the file system is for cannot be told from one that another program left to us.
        self.address == *wanted || (wanted.path().is_some() && self.address.path() == wanted.path())
    }

    /// Sets the backlog of a socket that is kept.
    pub(super) fn set_backlog(&self, backlog: u32) -> std::io::Result<()> {
        SockRef::from(&self.socket).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Puts right what a process that shares the socket can have done to it: it blocks, or listens no more. Returns
    /// whether it had stopped listening.
    pub(super) fn heal(&self, backlog: u32) -> std::io::Result<bool> {
        let socket = SockRef::from(&self.socket);
        socket.set_nonblocking(true)?;
        let has_stopped = !socket.is_listener()?;
        if has_stopped {
            self.set_backlog(backlog)?;
        }
        Ok(has_stopped)
    }

    /// Stops listening, for every process that holds the socket; the address becomes free. [`Listener::set_backlog`]
    /// undoes it.
    fn silence(&self) {
        if self.address.path().is_some() {
            return;
        }
        let _already_silent = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Read);
    }
}

fn bind_inet(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Binds a socket in the file system, which every user may use who can reach its directory: as Postfix's, with mode 0666.
/// A socket that another server left behind goes away; one on which a process listens stays.
///
/// The directory belongs to mail_owner, so nothing is changed by path: the mode comes from the umask.
fn bind_unix(path: &Path) -> std::io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if is_stale(path, &address)? {
        std::fs::remove_file(path)?;
    }
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o111));
    let bound = socket.bind(&address);
    nix::sys::stat::umask(mask);
    bound?;
    Ok(socket)
}

/// Whether there is a socket on which no process listens.
fn is_stale(path: &Path, address: &SockAddr) -> std::io::Result<bool> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let refused = probe.connect(address).is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionRefused);
    Ok(is_socket && refused)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What to listen on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListenSpec {
    pub(super) address: Listen,
    pub(super) backlog: u32,
    pub(super) origin: String,
}

/// Fulfils `wishes` from the sockets in `have`; binds only what is missing. What is left in `have` afterwards is
/// not wanted any more: dropping it closes it. On an error `have` is as before, and nothing new listens.
pub(super) fn rebind(have: &mut Vec<Listener>, specs: &[ListenSpec]) -> Result<Vec<Listener>, ListenError> {
    let unwanted = |listener: &Listener| !specs.iter().any(|spec| listener.is_for(&spec.address));
    let mut silenced = false;
    let mut fresh = Vec::new();
    for spec in specs.iter().filter(|spec| !have.iter().any(|listener| listener.is_for(&spec.address))) {
        let mut bound = Listener::bind(&spec.address, spec.backlog, &spec.origin);
        // A socket of our own that goes away may be in the way: 0.0.0.0:628 becomes 127.0.0.1:628.
        if !silenced && bound.as_ref().is_err_and(ListenError::is_taken) {
            have.iter().filter(|listener| unwanted(listener)).for_each(Listener::silence);
            silenced = true;
            bound = Listener::bind(&spec.address, spec.backlog, &spec.origin);
        }
        match bound {
            Ok(listener) => fresh.push(listener),
            Err(error) => {
                drop(fresh);
                if silenced {
                    for listener in have.iter().filter(|listener| unwanted(listener)) {
                        let _best_effort = listener.set_backlog(spec.backlog);
                    }
                }
                return Err(error);
            }
        }
    }
    let mut listeners = Vec::new();
    for spec in specs {
        let kept = have.iter().position(|listener| listener.is_for(&spec.address));
        if let Some(index) = kept {
            let listener = have.swap_remove(index);
            let _best_effort = listener.set_backlog(spec.backlog);
            listeners.push(listener);
        }
    }
    listeners.append(&mut fresh);
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn spec(address: SocketAddr) -> ListenSpec {
        ListenSpec { address: Listen::Inet(address), backlog: 10, origin: "qmqpd_listen".to_owned() }
    }

    /// An address with an unused port. The socket that found it is closed again.
    fn free_address(host: [u8; 4]) -> SocketAddr {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        SocketAddr::from((host, port))
    }

    fn bound(address: SocketAddr) -> Listener {
        Listener::bind(&Listen::Inet(address), 10, "test").unwrap()
    }

    fn inet(listener: &Listener) -> SocketAddr {
        let Listen::Inet(address) = listener.address() else { panic!("not of TCP") };
        *address
    }

    /// By the kernel, which drops what is too much until there is room, so that connecting takes long.
    #[test]
    fn no_more_connections_wait_than_the_backlog_says() {
        for backlog in [2, 7] {
            let address = Listen::Inet("127.0.0.1:0".parse().unwrap());
            let listener = Listener::bind(&address, backlog, "test").unwrap();
            let address = SockRef::from(&listener.socket).local_addr().unwrap().as_socket().unwrap();
            let connect = || TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).ok();
            let waiting: Vec<TcpStream> = std::iter::from_fn(connect).take(20).collect();
            // Linux adds one.
            assert_eq!(waiting.len(), usize::try_from(backlog).unwrap() + 1);
        }
    }

    #[test]
    fn a_socket_in_the_file_system_replaces_a_stale_one_and_no_other() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::net::UnixStream;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmqp");
        let place = Listen::Unix(path.clone());
        drop(Listener::bind(&place, 10, "test").unwrap());
        assert!(path.exists(), "left behind, as by a crash");
        let listener = Listener::bind(&place, 10, "test").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(listener.is_for(&Listen::Pass(path.clone())));
        let taken = Listener::bind(&place, 10, "master.cf, line 3").unwrap_err().to_string();
        assert!(
            taken.contains("(master.cf, line 3)") && taken.contains("another program listens"),
            "{taken}"
        );
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&place, 10, "test").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let long = Listen::Unix(directory.path().join("x".repeat(200)));
        assert!(Listener::bind(&long, 10, "test").is_err());
    }

    #[test]
    fn a_taken_address_is_named_with_the_way_out() {
        let first = bound(free_address([127, 0, 0, 1]));
        let error =
            Listener::bind(first.address(), 1, "/etc/postfix/master.cf, line 12").unwrap_err().to_string();
        assert!(error.starts_with(&format!(
            "cannot listen on {} (/etc/postfix/master.cf, line 12): ",
            first.address()
        )));
        assert!(error.contains("another program listens there"), "{error}");
    }

    #[test]
    fn what_stays_is_kept_and_what_goes_is_left_over() {
        let mut have = vec![bound(free_address([127, 0, 0, 1]))];
        let kept = inet(&have[0]);
        let number = std::os::fd::AsRawFd::as_raw_fd(&have[0].socket);
        let new = free_address([127, 0, 0, 1]);
        let listeners = rebind(&mut have, &[spec(kept), spec(new)]).unwrap();
        assert!(have.is_empty());
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&listeners[0].socket), number, "same socket");
        assert!(TcpStream::connect(new).is_ok());
    }

    #[test]
    fn a_wider_socket_of_our_own_gives_way_to_a_narrower_one() {
        let mut have = vec![bound(free_address([0; 4]))];
        // Another process, the old service, still holds the old socket.
        let _held = lift(&have[0]).unwrap();
        let narrow = SocketAddr::from(([127, 0, 0, 1], inet(&have[0]).port()));
        let listeners = rebind(&mut have, &[spec(narrow)]).unwrap();
        assert_eq!(inet(&listeners[0]), narrow);
        assert!(TcpStream::connect(narrow).is_ok());
    }

    #[test]
    fn after_a_failure_the_old_sockets_listen_as_before() {
        let foreign = bound(free_address([127, 0, 0, 1]));
        let mut have = vec![bound(free_address([127, 0, 0, 1]))];
        let old = inet(&have[0]);
        assert!(rebind(&mut have, &[spec(inet(&foreign))]).is_err());
        assert_eq!(have.len(), 1);
        assert!(TcpStream::connect(old).is_ok());
    }
}
