//! Who is at the other end: address, port, verified name, and how they are shown.

use cleanup::Origin;
use lookup::ClientName;

use crate::peer::Name;
use daemon::peer_address::PeerAddress;

/// The peer of a session, as it is written to logs, replies and message headers.
#[derive(Debug, Clone)]
pub struct Client {
    /// The verified host name, or `unknown`.
    pub name: String,
    /// The address without brackets; `unknown` when the peer had gone before it could be asked for.
    pub address: String,
    /// The port in decimal; `unknown` as the address.
    pub port: String,
    /// The address family as Linux numbers it: 2, 10, or 0 for a peer without an internet address.
    pub family: i32,
    /// `name[address]`, with `:port` if `qmqpd_client_port_logging` is set.
    pub shown: String,
    /// What there is to know about the name.
    pub name_status: NameStatus,
}

/// How far the name of a client is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameStatus {
    /// It is what the name service says.
    Settled,
    /// It is `unknown` only because of a temporary failure of the name service.
    Unresolved,
    /// It is `unknown` as long as the name service has not answered.
    Pending,
}

impl Client {
    /// A client whose name is not known yet, and may never be.
    #[must_use]
    pub fn pending(peer: PeerAddress, with_port: bool) -> Self {
        Self { name_status: NameStatus::Pending, ..Self::new(peer, &Name::Unresolved, with_port) }
    }

    /// The client as back ends know it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            client_name: self.name.clone(),
            client_address: self.address.clone(),
            client_port: self.port.clone(),
            address_family: self.family,
            log_origin: self.shown.clone(),
            protocol: "QMQP",
        }
    }

    /// The name as match lists want it.
    #[must_use]
    pub fn name_for_lists(&self) -> ClientName<'_> {
        match self.name_status {
            NameStatus::Pending => ClientName::Pending,
            NameStatus::Unresolved => ClientName::Unresolved,
            NameStatus::Settled if self.name == UNKNOWN => ClientName::Unknown,
            NameStatus::Settled => ClientName::Verified(&self.name),
        }
    }

    /// Puts the pieces together; `with_port` is `qmqpd_client_port_logging`.
    #[must_use]
    pub fn new(peer: PeerAddress, found: &Name, with_port: bool) -> Self {
        let (name, address, port, family) = match peer {
            PeerAddress::Inet(address) => {
                let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
                (found.as_str(), address.ip().to_string(), address.port().to_string(), family)
            }
            PeerAddress::Local => ("localhost", "127.0.0.1".to_owned(), "0".to_owned(), libc::AF_UNSPEC),
            PeerAddress::Gone => (UNKNOWN, UNKNOWN.to_owned(), UNKNOWN.to_owned(), libc::AF_UNSPEC),
        };
        let shown =
            if with_port { format!("{name}[{address}]:{port}") } else { format!("{name}[{address}]") };
        let name_status =
            if *found == Name::Unresolved { NameStatus::Unresolved } else { NameStatus::Settled };
        Self { name: name.to_owned(), address, port, family, shown, name_status }
    }
}

/// What Postfix calls a client whose name it could not verify.
const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let peer = PeerAddress::of("[::ffff:192.0.2.1]:1234".parse().unwrap());
        let client = Client::new(peer, &Name::Verified("mx.example.com".to_owned()), false);
        assert_eq!(client.shown, "mx.example.com[192.0.2.1]");
        assert_eq!(client.family, 2);
    }

    #[test]
    fn ports_are_shown_on_request() {
        let peer = PeerAddress::of("[2001:db8::1]:1234".parse().unwrap());
        assert_eq!(Client::new(peer, &Name::Unknown, true).shown, "unknown[2001:db8::1]:1234");
        assert_eq!(Client::new(PeerAddress::Gone, &Name::Unknown, true).shown, "unknown[unknown]:unknown");
        assert_eq!(Client::new(PeerAddress::Local, &Name::Unknown, false).shown, "localhost[127.0.0.1]");
    }
}
