//! Listen sockets: bound once, kept over reloads, handed to each service process.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Descriptors that children get by number (see `start`) live at or above this number here, so that putting one
/// in its place never overwrites another.
pub(super) const DESCRIPTOR_FLOOR: RawFd = 512;

/// A socket that listens, or did before it was silenced.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    socket: OwnedFd,
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(super) struct ListenError {
    address: SocketAddr,
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
            std::io::ErrorKind::AddrInUse => write!(
                f,
                "; another program listens there (`ss -ltnp` tells which): stop it, or choose another address or port"
            ),
            std::io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "; ports below 1024 need root or CAP_NET_BIND_SERVICE: start it so, or choose a higher port"
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
    rustix::io::fcntl_dupfd_cloexec(descriptor, DESCRIPTOR_FLOOR).map_err(|errno| {
        std::io::Error::other(format!(
            "cannot keep a descriptor above number {DESCRIPTOR_FLOOR}: {errno}; \
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
    pub(super) fn bind(address: SocketAddr, backlog: u32, origin: &str) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, origin: origin.to_owned(), source };
        let open = || -> std::io::Result<OwnedFd> {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&SockAddr::from(address))?;
            socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            lift(&socket)
        };
        let socket = open().map_err(failed)?;
        Ok(Self { address, socket })
    }

    /// A socket that another program, such as systemd, bound and left to us. `None`: it is no listening TCP socket.
    pub(super) fn adopt(descriptor: &OwnedFd) -> std::io::Result<Option<Self>> {
        let socket = SockRef::from(descriptor);
        let listens = socket.is_listener().unwrap_or(false) && socket.r#type()? == Type::STREAM;
        let Some(address) = socket.local_addr()?.as_socket().filter(|_| listens) else { return Ok(None) };
        socket.set_nonblocking(true)?;
        Ok(Some(Self { address, socket: lift(descriptor)? }))
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves a wish to listen on `wanted`.
    pub(super) fn is_for(&self, wanted: SocketAddr) -> bool {
        self.address == wanted
    }

    /// Sets the backlog of a socket that is kept.
    pub(super) fn set_backlog(&self, backlog: u32) -> std::io::Result<()> {
        SockRef::from(&self.socket).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Stops listening, for every process that holds the socket; the address becomes free. [`Listener::set_backlog`]
    /// undoes it.
    fn silence(&self) {
        let _already_silent = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Read);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What to listen on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) address: SocketAddr,
    pub(super) backlog: u32,
    pub(super) origin: String,
}

/// Fulfils `wishes` from the sockets in `have`; binds only what is missing. What is left in `have` afterwards is
/// not wanted any more: dropping it closes it. On an error `have` is as before, and nothing new listens.
pub(super) fn rebind(have: &mut Vec<Listener>, wishes: &[Wish]) -> Result<Vec<Listener>, ListenError> {
    let unwanted = |listener: &Listener| !wishes.iter().any(|wish| listener.is_for(wish.address));
    let mut silenced = false;
    let mut fresh = Vec::new();
    for wish in wishes.iter().filter(|wish| !have.iter().any(|listener| listener.is_for(wish.address))) {
        let mut bound = Listener::bind(wish.address, wish.backlog, &wish.origin);
        // A socket of our own that goes away may be in the way: 0.0.0.0:628 becomes 127.0.0.1:628.
        if !silenced && bound.as_ref().is_err_and(ListenError::is_taken) {
            have.iter().filter(|listener| unwanted(listener)).for_each(Listener::silence);
            silenced = true;
            bound = Listener::bind(wish.address, wish.backlog, &wish.origin);
        }
        match bound {
            Ok(listener) => fresh.push(listener),
            Err(error) => {
                drop(fresh);
                if silenced {
                    for listener in have.iter().filter(|listener| unwanted(listener)) {
                        let _best_effort = listener.set_backlog(wish.backlog);
                    }
                }
                return Err(error);
            }
        }
    }
    let mut listeners = Vec::new();
    for wish in wishes {
        let kept = have.iter().position(|listener| listener.is_for(wish.address));
        if let Some(index) = kept {
            let listener = have.swap_remove(index);
            let _best_effort = listener.set_backlog(wish.backlog);
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

    fn wish(address: SocketAddr) -> Wish {
        Wish { address, backlog: 10, origin: "qmqpd_listen".to_owned() }
    }

    /// An address with a port that nobody uses. The socket that found it is closed again.
    fn free_address(host: [u8; 4]) -> SocketAddr {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        SocketAddr::from((host, port))
    }

    fn bound(address: SocketAddr) -> Listener {
        Listener::bind(address, 10, "test").unwrap()
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
        let kept = have[0].address();
        let number = std::os::fd::AsRawFd::as_raw_fd(&have[0].socket);
        let new = free_address([127, 0, 0, 1]);
        let listeners = rebind(&mut have, &[wish(kept), wish(new)]).unwrap();
        assert!(have.is_empty());
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&listeners[0].socket), number, "same socket");
        assert!(TcpStream::connect(new).is_ok());
    }

    #[test]
    fn a_wider_socket_of_our_own_gives_way_to_a_narrower_one() {
        let mut have = vec![bound(free_address([0; 4]))];
        // Another process, the old service, still holds the old socket.
        let _held = lift(&have[0]).unwrap();
        let narrow = SocketAddr::from(([127, 0, 0, 1], have[0].address().port()));
        let listeners = rebind(&mut have, &[wish(narrow)]).unwrap();
        assert_eq!(listeners[0].address(), narrow);
        assert!(TcpStream::connect(narrow).is_ok());
    }

    #[test]
    fn after_a_failure_the_old_sockets_listen_as_before() {
        let foreign = bound(free_address([127, 0, 0, 1]));
        let mut have = vec![bound(free_address([127, 0, 0, 1]))];
        let old = have[0].address();
        assert!(rebind(&mut have, &[wish(foreign.address())]).is_err());
        assert_eq!(have.len(), 1);
        assert!(TcpStream::connect(old).is_ok());
    }
}
