//! What the machine knows about itself.

use std::net::{IpAddr, ToSocketAddrs};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use postfix::own_networks::InterfaceAddress;

/// What gethostname(2) says; empty if it says nothing that is text.
pub(super) fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The addresses of the network interfaces that are up, in the system's order; none if the system does not tell.
pub(super) fn interfaces() -> Vec<InterfaceAddress> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    found
        .filter(|interface| interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = ip_address(interface.address.as_ref()?)?;
            let mask = interface.netmask.as_ref().and_then(ip_address);
            Some(InterfaceAddress { address, prefix_len: prefix_len(address, mask) })
        })
        .collect()
}

/// The addresses of a host name; none if there are none or the resolver fails.
pub(super) fn resolve(name: &str) -> Vec<IpAddr> {
    (name, 0_u16)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    address.family()?;
    address
        .as_sockaddr_in()
        .map(|found| IpAddr::V4(found.ip()))
        .or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip())))
}

/// Leading one bits of the mask; a missing mask is that of a single host.
fn prefix_len(address: IpAddr, mask: Option<IpAddr>) -> u8 {
    let bits = match (address, mask) {
        (IpAddr::V4(_), Some(IpAddr::V4(mask))) => u32::from(mask).leading_ones(),
        (IpAddr::V6(_), Some(IpAddr::V6(mask))) => u128::from(mask).leading_ones(),
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
