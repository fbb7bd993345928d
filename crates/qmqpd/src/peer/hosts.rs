//! The hosts file, in both directions.

use std::collections::HashMap;
use std::net::IpAddr;

/// What a hosts file says, read as the C library reads it: `ADDRESS NAME ALIAS...`, `#` begins a comment, lines that make no
/// sense are passed over.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// The first name of the first line with this address.
    names: HashMap<IpAddr, Vec<u8>>,
    /// All addresses of all lines with this name, in lower case, as with `multi on` in host.conf(5).
    addresses: HashMap<Vec<u8>, Vec<IpAddr>>,
}

impl Hosts {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == b'#').next().unwrap_or(&[]);
            let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
            let address = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
            let Some(address) = address else { continue };
            let mut words = words.peekable();
            // A line without a name counts, and gives the empty one.
            hosts.names.entry(address).or_insert_with(|| words.peek().copied().unwrap_or_default().to_vec());
            for name in words {
                let addresses = hosts.addresses.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        hosts
    }

    /// The name of an address, in the letter case of the file.
    pub(super) fn name(&self, address: IpAddr) -> Option<&[u8]> {
        self.names.get(&address).map(Vec::as_slice)
    }

    /// The addresses of a name that are of the same family as `like`; none means that the file does not know it.
    pub(super) fn addresses(&self, name: &str, like: IpAddr) -> Vec<IpAddr> {
        let addresses = self.addresses.get(name.to_ascii_lowercase().as_bytes());
        addresses
            .into_iter()
            .flatten()
            .filter(|address| address.is_ipv4() == like.is_ipv4())
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_directions() {
        let hosts = Hosts::parse(
            b"127.0.0.1\tlocalhost Loop # comment loopback\n\n# 10.0.0.9 gone\nnonsense here\n10.0.0.1\n\
              10.0.0.2 Web.Example.com web\r\n10.0.0.3 web.example.com\n10.0.0.2 second\nfd00::1 web.example.com\n10.0.0.4 caf\xe9",
        );
        assert_eq!(hosts.name(ip("127.0.0.1")), Some(&b"localhost"[..]));
        assert_eq!(hosts.name(ip("10.0.0.2")), Some(&b"Web.Example.com"[..]), "the first line counts");
        assert_eq!(hosts.name(ip("10.0.0.4")), Some(&b"caf\xe9"[..]));
        assert_eq!(hosts.name(ip("10.0.0.1")), Some(&b""[..]));
        for address in ["10.0.0.9", "::1"] {
            assert_eq!(hosts.name(ip(address)), None);
        }
        assert_eq!(hosts.addresses("WEB.example.com", ip("0.0.0.0")), [ip("10.0.0.2"), ip("10.0.0.3")]);
        assert_eq!(hosts.addresses("web.example.com", ip("::")), [ip("fd00::1")]);
        assert_eq!(hosts.addresses("loop", ip("0.0.0.0")), [ip("127.0.0.1")]);
        assert!(hosts.addresses("loopback", ip("0.0.0.0")).is_empty());
        assert!(hosts.addresses("second", ip("::")).is_empty());
    }
}
