//! Where a connection came from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::SocketAddrAny;

/// Where a connection came from, before any name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// An internet peer; an IPv4-mapped IPv6 address is already the IPv4 address.
    Inet(SocketAddr),
    /// A peer on a `unix` service: Postfix treats it as `localhost[127.0.0.1]`, port 0 (observed on Postfix 3.7).
    Local,
    /// The peer was gone before its address could be asked for.
    Gone,
}

impl PeerAddress {
    /// The address of an accepted internet connection.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self::Inet(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address that came with a connection from accept(2).
    #[must_use]
    pub fn of_accepted(address: Option<SocketAddrAny>) -> Self {
        address.and_then(|address| SocketAddr::try_from(address).ok()).map_or(Self::Gone, Self::of)
    }

    /// The address to look up in the name service, if there is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Local | Self::Gone => None,
        }
    }
}

/// A client with one address of an IPv6 network of 64 bits has all of them: the network counts as one client.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
