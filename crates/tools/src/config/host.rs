//! What this machine says about itself, for the defaults that depend on it.

use std::net::{IpAddr, ToSocketAddrs};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use postfix::own_networks::InterfaceAddress;

/// What gethostname(2) says; empty if it is not UTF-8.
pub(super) fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The addresses of the network interfaces that are up; none if the system does not tell.
pub(super) fn interfaces() -> Vec<InterfaceAddress> {
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

/// The addresses of a host name; empty if it has none.
pub(super) fn resolve(name: &str) -> Vec<IpAddr> {
    (name, 0_u16)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

/// How many leading bits a network mask has; without a mask the address stands for itself alone.
fn prefix_len(address: IpAddr, mask: Option<IpAddr>) -> u8 {
    let bits = match (address, mask) {
        (IpAddr::V4(_), Some(IpAddr::V4(mask))) => mask.to_bits().leading_ones(),
        (IpAddr::V6(_), Some(IpAddr::V6(mask))) => mask.to_bits().leading_ones(),
        (IpAddr::V4(_), _) => 32,
        (IpAddr::V6(_), _) => 128,
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_lengths() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(prefix_len(ip("10.0.0.1"), Some(ip("255.255.240.0"))), 20);
        assert_eq!(prefix_len(ip("fe80::1"), Some(ip("ffff:ffff:ffff:ffff::"))), 64);
        assert_eq!(prefix_len(ip("10.0.0.1"), None), 32);
    }
}
