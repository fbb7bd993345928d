//! The addresses of this host as Postfix counts them, and `$mynetworks` made from them.
//!
//! The addresses of the interfaces come in as data. Rules observed on Postfix 3.7.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::parameter::words::NetworksStyle;
use crate::value::KeywordSet;

/// One address of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address, without scope.
    pub address: IpAddr,
    /// How many leading bits of it name the network.
    pub prefix_len: u8,
}

/// Why the addresses cannot be told. `Display` is Postfix's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnNetworksError {
    /// No address of an enabled family.
    #[error("could not find any active network interfaces")]
    NoInterfaces,
    /// A name in `inet_interfaces` that stands for no address of an enabled family.
    #[error("config variable inet_interfaces: host not found: {0}")]
    HostNotFound(String),
    /// An address in `inet_interfaces` that no interface has.
    #[error("parameter inet_interfaces: no local interface found for {0}")]
    NotLocal(IpAddr),
    /// `mynetworks_style = class` with an address that has no class.
    #[error("mynetworks_core: unknown address class: {0}")]
    NoClass(Ipv4Addr),
}

/// Which protocols `inet_protocols` enables: IPv4, IPv6.
#[must_use]
pub fn enabled_protocols(protocols: &KeywordSet) -> (bool, bool) {
    let all = protocols.contains("all");
    (all || protocols.contains("ipv4"), all || protocols.contains("ipv6"))
}

/// This host's addresses: those that `inet_interfaces` selects among the interfaces, IPv4 first when all are selected.
///
/// `resolve` turns a host name into addresses; it is asked for names only, never for addresses. Of the addresses of a name
/// those that no interface has are left out, if one has another: `localhost` is `::1`, too, where there is no IPv6. (Postfix
/// gives up there.)
///
/// # Errors
/// A name or address in `inet_interfaces` that does not belong to this host.
pub fn own_addresses(
    inet_interfaces: &str,
    protocols: &KeywordSet,
    interfaces: &[InterfaceAddress],
    resolve: &dyn Fn(&str) -> Vec<IpAddr>,
) -> Result<Vec<InterfaceAddress>, OwnNetworksError> {
    let (ipv4, ipv6) = enabled_protocols(protocols);
    if !ipv4 && !ipv6 {
        return Ok(Vec::new());
    }
    let enabled = |address: &IpAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
    let mut local: Vec<InterfaceAddress> =
        interfaces.iter().copied().filter(|own| enabled(&own.address)).collect();
    local.sort_by_key(|own| own.address.is_ipv6());
    if local.is_empty() {
        return Err(OwnNetworksError::NoInterfaces);
    }
    match inet_interfaces {
        "all" => return Ok(local),
        "loopback-only" => {
            local.retain(|own| own.address.is_loopback());
            return Ok(local);
        }
        _ => {}
    }
    let mut selected: Vec<InterfaceAddress> = Vec::new();
    for host in crate::text::split_plain_list(inet_interfaces) {
        let (mut addresses, is_name) = match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => (vec![address], false),
            Err(_) => (resolve(host), true),
        };
        addresses.retain(enabled);
        let is_local = |address: &IpAddr| local.iter().any(|own| own.address == *address);
        if is_name && addresses.iter().any(is_local) {
            addresses.retain(is_local);
        }
        if addresses.is_empty() {
            return Err(OwnNetworksError::HostNotFound(host.to_owned()));
        }
        for address in addresses {
            let own = local.iter().find(|own| own.address == address);
            let own = own.ok_or(OwnNetworksError::NotLocal(address))?;
            if !selected.contains(own) {
                selected.push(*own);
            }
        }
    }
    Ok(selected)
}

/// The text of `$mynetworks`: one pattern per address, repeated ones left out, each followed by a blank.
///
/// # Errors
/// The style is `class` and an IPv4 address has no class.
pub fn mynetworks(style: NetworksStyle, own: &[InterfaceAddress]) -> Result<String, OwnNetworksError> {
    let mut patterns: Vec<String> = Vec::new();
    for interface in own {
        let pattern = match interface.address {
            IpAddr::V4(address) => {
                let bits = match style {
                    NetworksStyle::Host => 32,
                    NetworksStyle::Subnet => interface.prefix_len.min(32),
                    NetworksStyle::Class => class_bits(address)?,
                };
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or_default();
                format!("{}/{bits}", Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let bits = match style {
                    NetworksStyle::Host => 128,
                    NetworksStyle::Subnet | NetworksStyle::Class => interface.prefix_len.min(128),
                };
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or_default();
                format!("[{}]/{bits}", Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns.into_iter().map(|pattern| pattern + " ").collect())
}

fn class_bits(address: Ipv4Addr) -> Result<u8, OwnNetworksError> {
    match address.octets().first() {
        Some(0..=127) => Ok(8),
        Some(128..=191) => Ok(16),
        Some(192..=223) => Ok(24),
        Some(224..=239) => Ok(4),
        _ => Err(OwnNetworksError::NoClass(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::keywords;

    fn interface(text: &str) -> InterfaceAddress {
        let (address, bits) = text.split_once('/').unwrap();
        InterfaceAddress { address: address.parse().unwrap(), prefix_len: bits.parse().unwrap() }
    }

    fn host() -> Vec<InterfaceAddress> {
        ["::1/128", "127.0.0.1/8", "192.0.2.9/24", "fd00::9/64", "192.0.2.10/24", "fe80::1/64"]
            .map(interface)
            .to_vec()
    }

    fn networks(style: NetworksStyle, interfaces: &str, protocols: &str) -> Result<String, OwnNetworksError> {
        let protocols = keywords("inet_protocols", protocols, &["ipv4", "ipv6", "all"]).unwrap();
        let resolve = |name: &str| match name {
            "me" => vec!["192.0.2.9".parse().unwrap(), "fd00::9".parse().unwrap()],
            "other" => vec!["203.0.113.1".parse().unwrap()],
            "half" => vec!["2001:db8::1".parse().unwrap(), "192.0.2.9".parse().unwrap()],
            _ => vec![],
        };
        mynetworks(style, &own_addresses(interfaces, &protocols, &host(), &resolve)?)
    }

    #[test]
    fn styles() {
        use NetworksStyle::{Class, Host, Subnet};
        for (style, interfaces, protocols, text) in [
            (
                Host,
                "all",
                "all",
                "127.0.0.1/32 192.0.2.9/32 192.0.2.10/32 [::1]/128 [fd00::9]/128 [fe80::1]/128 ",
            ),
            (Subnet, "all", "all", "127.0.0.0/8 192.0.2.0/24 [::1]/128 [fd00::]/64 [fe80::]/64 "),
            (Class, "all", "ipv4", "127.0.0.0/8 192.0.2.0/24 "),
            (Subnet, "loopback-only", "all", "127.0.0.0/8 [::1]/128 "),
            (Subnet, "me, 192.0.2.9 127.0.0.1", "all", "192.0.2.0/24 [fd00::]/64 127.0.0.0/8 "),
            (Host, "[::1]", "ipv6", "[::1]/128 "),
            (Host, "me", "ipv6", "[fd00::9]/128 "),
            // A name with an address that no interface has.
            (Host, "half", "all", "192.0.2.9/32 "),
            (Host, "all", "", ""),
            (Host, "", "all", ""),
        ] {
            assert_eq!(
                networks(style, interfaces, protocols).as_deref(),
                Ok(text),
                "{interfaces} {protocols}"
            );
        }
    }

    #[test]
    fn errors() {
        use NetworksStyle::{Class, Host};
        assert_eq!(
            networks(Host, "nowhere", "all").unwrap_err().to_string(),
            "config variable inet_interfaces: host not found: nowhere"
        );
        assert_eq!(
            networks(Host, "127.0.0.1", "ipv6").unwrap_err().to_string(),
            "config variable inet_interfaces: host not found: 127.0.0.1"
        );
        assert_eq!(
            networks(Host, "other", "all").unwrap_err().to_string(),
            "parameter inet_interfaces: no local interface found for 203.0.113.1"
        );
        assert_eq!(
            mynetworks(Class, &[interface("240.0.0.1/8")]).unwrap_err().to_string(),
            "mynetworks_core: unknown address class: 240.0.0.1"
        );
    }

    #[test]
    fn the_classes_of_old() {
        for (address, network) in [
            ("10.1.2.3/32", "10.0.0.0/8 "),
            ("127.255.0.1/32", "127.0.0.0/8 "),
            ("128.1.2.3/32", "128.1.0.0/16 "),
            ("191.255.2.3/32", "191.255.0.0/16 "),
            ("192.0.2.3/32", "192.0.2.0/24 "),
            ("223.255.2.3/8", "223.255.2.0/24 "),
            ("224.0.0.1/32", "224.0.0.0/4 "),
            ("239.1.2.3/32", "224.0.0.0/4 "),
        ] {
            assert_eq!(mynetworks(NetworksStyle::Class, &[interface(address)]).as_deref(), Ok(network));
        }
    }
}
