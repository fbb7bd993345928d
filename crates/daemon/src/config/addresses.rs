//! From the first field of a master.cf line, or an item of qmqpd_listen, to socket addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use postfix::settings::Endpoint;
use postfix::value::KeywordSet;

use crate::port::port_number;

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address and port.
    Inet(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
    /// One on which other servers hand over their clients.
    Pass(PathBuf),
}

impl Listen {
    /// What master(8) calls the type.
    #[must_use]
    pub const fn transport(&self) -> &'static str {
        match self {
            Self::Inet(_) => "inet",
            Self::Unix(_) => "unix",
            Self::Pass(_) => "pass",
        }
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Inet(address) => address.ip().is_loopback(),
            Self::Unix(_) | Self::Pass(_) => true,
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(path) | Self::Pass(path) => Some(path),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) | Self::Pass(path) => path.display().fmt(f),
        }
    }
}

/// What the machine and main.cf say about addresses.
#[derive(Debug, Clone)]
pub(super) struct Interfaces<'a> {
    /// inet_interfaces: `all`, `loopback-only`, or names and addresses.
    pub(super) inet_interfaces: &'a str,
    /// Whether inet_protocols and the kernel have IPv4.
    pub(super) ipv4: bool,
    /// Whether inet_protocols and the kernel have IPv6.
    pub(super) ipv6: bool,
}

impl<'a> Interfaces<'a> {
    /// A protocol of `inet_protocols` that the kernel lacks is left out, as Postfix does.
    pub(super) fn new(inet_interfaces: &'a str, inet_protocols: &KeywordSet) -> Self {
        let (ipv4, ipv6) = postfix::own_networks::enabled_protocols(inet_protocols);
        Self {
            inet_interfaces,
            ipv4: ipv4 && kernel_has(socket2::Domain::IPV4),
            ipv6: ipv6 && kernel_has(socket2::Domain::IPV6),
        }
    }

    const fn takes(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.ipv4,
            IpAddr::V6(_) => self.ipv6,
        }
    }

    /// The addresses that a service with a bare port listens on.
    fn addresses(&self, missing: &mut Vec<String>) -> Result<Vec<IpAddr>, String> {
        let mut found: Vec<IpAddr> = Vec::new();
        for item in postfix::text::split_list(self.inet_interfaces) {
            let mut each: Vec<IpAddr> = match item {
                "all" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
                "loopback-only" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                host => resolve(host)?,
            };
            each.retain(|address| self.takes(*address));
            found.extend(there(item, each, is_there, missing));
        }
        if found.is_empty() {
            return Err(format!(
                "inet_interfaces ({}) and inet_protocols leave no address to listen on",
                self.inet_interfaces
            ));
        }
        Ok(found)
    }

    /// All addresses that an endpoint stands for. A bare port means the addresses of inet_interfaces. Of the addresses of a
    /// name only those that the machine has; `missing` gets a sentence about each other one. On an error: what is wrong with
    /// it.
    pub(super) fn listen_addresses(
        &self,
        endpoint: &Endpoint,
        missing: &mut Vec<String>,
    ) -> Result<Vec<SocketAddr>, String> {
        let port = port_number(&endpoint.port)?;
        let addresses = match &endpoint.host {
            None => self.addresses(missing)?,
            Some(host) => {
                let mut usable = resolve(host)?;
                usable.retain(|address| self.takes(*address));
                if usable.is_empty() {
                    return Err(format!(
                        "\"{host}\" has no address of a protocol that inet_protocols and the kernel allow"
                    ));
                }
                there(host, usable, is_there, missing)
            }
        };
        let mut unique: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            let address = SocketAddr::new(address, port);
            if !unique.contains(&address) {
                unique.push(address);
            }
        }
        Ok(unique)
    }
}

/// The addresses of a name without those that the machine has not, as long as any is left. `localhost` is `::1`, too, in many
/// a hosts file, also where there is no IPv6.
fn there(
    name: &str,
    addresses: Vec<IpAddr>,
    is_there: impl Fn(IpAddr) -> bool,
    missing: &mut Vec<String>,
) -> Vec<IpAddr> {
    let (present, absent): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|address| is_there(*address));
    if present.is_empty() {
        // The error at bind(2) says more.
        return absent;
    }
    for address in absent {
        missing.push(format!(
            "{name} also resolves to {address}, which this machine does not have: not listening there"
        ));
    }
    present
}

/// Whether a socket can have the address.
fn is_there(address: IpAddr) -> bool {
    let bound = std::net::UdpSocket::bind((address, 0));
    !bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
}

fn kernel_has(domain: socket2::Domain) -> bool {
    socket2::Socket::new(domain, socket2::Type::STREAM, None).is_ok()
}

fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    match (host, 0_u16).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(format!("host not found: {host} ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Interfaces<'static> = Interfaces { inet_interfaces: "all", ipv4: true, ipv6: true };

    fn shown(interfaces: &Interfaces<'_>, field: &str) -> String {
        match Endpoint::parse(field)
            .map_err(|bad| bad.to_string())
            .and_then(|it| interfaces.listen_addresses(&it, &mut Vec::new()))
        {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_bare_port_listens_on_inet_interfaces() {
        assert_eq!(shown(&BOTH, "628"), "0.0.0.0:628 [::]:628");
        assert_eq!(shown(&Interfaces { ipv6: false, ..BOTH }, ":628"), "0.0.0.0:628");
        let loopback = Interfaces { inet_interfaces: "loopback-only", ..BOTH };
        assert_eq!(shown(&loopback, "628"), "127.0.0.1:628 [::1]:628");
        let some = Interfaces { inet_interfaces: "127.0.0.2, [::1], 127.0.0.2", ..BOTH };
        assert_eq!(shown(&some, "628"), "127.0.0.2:628 [::1]:628");
    }

    #[test]
    fn an_address_of_its_own_is_taken_as_it_stands() {
        assert_eq!(shown(&BOTH, "127.0.0.1:7631"), "127.0.0.1:7631");
        assert_eq!(shown(&BOTH, "[::1]:7632"), "[::1]:7632");
    }

    #[test]
    fn of_a_name_what_is_there_is_served_and_the_rest_is_said() {
        let both = || -> Vec<IpAddr> { vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()] };
        let mut missing = Vec::new();
        assert_eq!(there("localhost", both(), |it| it.is_ipv4(), &mut missing), [Ipv4Addr::LOCALHOST]);
        assert_eq!(
            missing,
            ["localhost also resolves to ::1, which this machine does not have: not listening there"]
        );
        let mut missing = Vec::new();
        assert_eq!(there("localhost", both(), |_| false, &mut missing), both());
        assert_eq!(there("localhost", both(), |_| true, &mut missing), both());
        assert!(missing.is_empty());
        assert!(is_there(Ipv4Addr::LOCALHOST.into()) && !is_there([192, 0, 2, 1].into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(shown(&BOTH, "70000"), "error: port number out of range");
        assert!(shown(&BOTH, "127.0.0.1:no-such-service").contains("neither a port number nor"));
        let v6 = Interfaces { ipv4: false, ..BOTH };
        assert!(shown(&v6, "127.0.0.1:1").contains("has no address of a protocol"));
    }
}
