//! What the machine says about itself: its name, the addresses of its network interfaces, and the addresses behind a name.
//!
//! Defaults of parameters depend on it: `myhostname`, `mynetworks`, `inet_interfaces`. The server and `qmqpctl config` ask
//! here, so that both see the same. What the answers mean is decided in [`postfix::settings`] and
//! [`postfix::own_networks`], which take them as arguments. No function fails: a machine that does not tell has no name
//! and no addresses, as for Postfix.
//!
//! ```
//! let loopback = host::interfaces().into_iter().find(|found| found.address.is_loopback());
//! assert!(loopback.is_none_or(|found| found.prefix_len >= 8));
//! ```
#![forbid(unsafe_code)]

use std::net::{IpAddr, ToSocketAddrs};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use postfix::own_networks::InterfaceAddress;

/// What gethostname(2) says; empty if that is not UTF-8.
#[must_use]
pub fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The addresses of the network interfaces that are up, in the system's order; empty if the system does not tell.
#[must_use]
pub fn interfaces() -> Vec<InterfaceAddress> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    found
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = ip_address(interface.address.as_ref()?)?;
            let mask = interface.netmask.as_ref().and_then(ip_address);
            Some(InterfaceAddress { address, prefix_len: prefix_len(address, mask) })
        })
        .collect()
}

/// The addresses of a host name, from the system's resolver, which may ask the network and wait; empty if the name has none
/// or the resolver fails.
#[must_use]
pub fn resolve(name: &str) -> Vec<IpAddr> {
    (name, 0_u16)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(found) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(found.ip()));
    }
    address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip()))
}

/// Leading one bits of the mask; a missing mask is that of a single host.
fn prefix_len(address: IpAddr, mask: Option<IpAddr>) -> u8 {
    let bits = match (address, mask) {
        (IpAddr::V4(_), Some(IpAddr::V4(mask))) => mask.to_bits().leading_ones(),
        (IpAddr::V6(_), Some(IpAddr::V6(mask))) => mask.to_bits().leading_ones(),
        (IpAddr::V4(_), _) => u32::BITS,
        (IpAddr::V6(_), _) => u128::BITS,
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_interfaces_with_its_network() {
        let loopback = interfaces().into_iter().find(|found| found.address.to_string() == "127.0.0.1");
        assert_eq!(loopback.map(|found| found.prefix_len), Some(8));
    }

    #[test]
    fn masks_become_prefix_lengths() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(prefix_len(parse("10.0.0.1"), Some(parse("255.255.240.0"))), 20);
        assert_eq!(prefix_len(parse("::1"), Some(parse("ffff:ffff:ffff:ffff::"))), 64);
        assert_eq!(prefix_len(parse("10.0.0.1"), None), 32);
    }
}
