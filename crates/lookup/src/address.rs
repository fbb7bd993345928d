//! Client addresses against literal patterns, and the `net/bits` patterns that match lists and cidr tables share.
//!
//! Texts of errors are Postfix's word for word. Observed on Postfix 3.7.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::syntax::shown;

/// A network: an address whose bits beyond the length are zero, and the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    net: ipnet::IpNet,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkError {
    /// `[` without `]`.
    MissingBracket { text: String },
    /// Something other than `/` behind `]`.
    Garbage { text: String },
    /// The part behind `/` is not a decimal number.
    MaskValue { net: String, mask: String },
    /// More bits than the address has.
    MaskLength { net: String, mask: String },
    /// What stands before `/` is no complete address.
    NetworkValue { net: String, mask: String },
    /// Bits beyond the mask are set.
    HostBits { net: String, mask: String, instead: ipnet::IpNet },
    /// No `/`, and no complete address either.
    Address { text: String },
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingBracket { text } => write!(f, "missing ']' character after \"[{text}\""),
            Self::Garbage { text } => write!(f, "garbage after \"[{text}]\""),
            Self::MaskValue { net, mask } => write!(f, "bad mask value in \"{net}/{mask}\""),
            Self::MaskLength { net, mask } => write!(f, "bad mask length in \"{net}/{mask}\""),
            Self::NetworkValue { net, mask } => write!(f, "bad network value in \"{net}/{mask}\""),
            Self::HostBits { net, mask, instead } => write!(
                f,
                "non-null host address bits in \"{net}/{mask}\", perhaps you should use \"{instead}\" instead"
            ),
            Self::Address { text } => write!(f, "bad address pattern: \"{text}\""),
        }
    }
}

impl Network {
    /// Reads `net`, `net/bits`, `[net]`, `[net]/bits` or `[net/bits]`. A colon decides the family.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NetworkError> {
        let (net, mask) = match text.strip_prefix(b"[") {
            None => split_at_byte(text, b'/'),
            Some(inside) => match split_at_byte(inside, b']') {
                (_, None) => return Err(NetworkError::MissingBracket { text: shown(inside) }),
                (net, Some(b"")) => split_at_byte(net, b'/'),
                (net, Some(behind)) => match behind.strip_prefix(b"/") {
                    Some(mask) => (net, Some(mask)),
                    None => return Err(NetworkError::Garbage { text: shown(net) }),
                },
            },
        };
        let address = parse_address(net);
        let Some(mask) = mask else {
            return match address {
                Some(address) => Ok(Self { net: address.into() }),
                None => Err(NetworkError::Address { text: shown(net) }),
            };
        };
        Self::masked(net, address, mask)
    }

    fn masked(net: &[u8], address: Option<IpAddr>, mask: &[u8]) -> Result<Self, NetworkError> {
        let words = || (shown(net), shown(mask));
        if mask.is_empty() || !mask.iter().all(u8::is_ascii_digit) {
            let (net, mask) = words();
            return Err(NetworkError::MaskValue { net, mask });
        }
        let bits_max: u8 = if net.contains(&b':') { 128 } else { 32 };
        // Leading zeros are allowed; a number that fits in no integer is certainly too long.
        let bits = std::str::from_utf8(mask).ok().and_then(|digits| digits.parse::<u128>().ok());
        let Some(bits) = bits.and_then(|bits| u8::try_from(bits).ok()).filter(|&bits| bits <= bits_max)
        else {
            let (net, mask) = words();
            return Err(NetworkError::MaskLength { net, mask });
        };
        let Some(parsed) = address.and_then(|address| ipnet::IpNet::new(address, bits).ok()) else {
            let (net, mask) = words();
            return Err(NetworkError::NetworkValue { net, mask });
        };
        if parsed.trunc() != parsed {
            let (net, mask) = words();
            return Err(NetworkError::HostBits { net, mask, instead: parsed.trunc() });
        }
        Ok(Self { net: parsed })
    }

    /// The network itself.
    pub(crate) const fn net(&self) -> ipnet::IpNet {
        self.net
    }

    /// Whether the address is of this family.
    pub(crate) fn is_family_of(&self, address: IpAddr) -> bool {
        self.net.addr().is_ipv4() == address.is_ipv4()
    }

    /// Whether it has no fixed bit at all.
    pub(crate) fn is_everything(&self) -> bool {
        self.net.prefix_len() == 0
    }

    /// Whether the address lies in the network; never for the other family.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.net.contains(&address)
    }
}

/// Reads a whole address in the form of inet_pton(3); a colon makes it IPv6.
pub(crate) fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    }
}

/// Splits at the first such byte; the byte itself goes.
fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&other| other == byte).and_then(|at| text.split_at_checked(at)) {
        Some((front, back)) => (front, Some(back.get(1..).unwrap_or_default())),
        None => (text, None),
    }
}

/// Whether a text has only bytes that occur in addresses. A client address that has others (`unknown`) matches nothing.
fn is_address_text(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'))
}

/// Whether a literal pattern is parsed as a network at all, for clients of its family. What is not is silently no match.
fn is_network_pattern(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b':' | b'/'))
        && pattern
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']' | b'/'))
}

/// A literal pattern, case-folded, prepared for many clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Literal {
    /// The pattern itself.
    pub(crate) text: Vec<u8>,
    /// What it is as a network, for clients of its family; `None` if it does not look like one.
    pub(crate) network: Option<Result<Network, NetworkError>>,
}

impl Literal {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let network = is_network_pattern(&text).then(|| Network::parse(&text));
        Self { text, network }
    }

    /// Whether it matches a client address.
    ///
    /// # Errors
    /// The pattern has to be read as a network for this client, and cannot be.
    pub(crate) fn matches(&self, address: &Address) -> Result<bool, NetworkError> {
        if address.text.is_empty() {
            return Ok(false);
        }
        let bracketed =
            self.text.strip_prefix(b"[").map(|inside| inside.strip_suffix(b"]").unwrap_or_default());
        if bracketed.unwrap_or(&self.text) == address.text {
            return Ok(true);
        }
        match &self.network {
            Some(network) if self.text.contains(&b':') == address.text.contains(&b':') => match network {
                Ok(network) => Ok(address.parsed.is_some_and(|address| network.contains(address))),
                Err(error) => Err(error.clone()),
            },
            _ => Ok(false),
        }
    }
}

/// The address of a client, case-folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it is written; empty if it has bytes that occur in no address (`unknown`), so that nothing matches.
    pub(crate) text: Vec<u8>,
    parsed: Option<IpAddr>,
}

impl Address {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let text = if is_address_text(&text) { text } else { Vec::new() };
        Self { parsed: parse_address(&text), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(address: &[u8], pattern: &[u8]) -> Result<bool, NetworkError> {
        Literal::new(pattern.to_vec()).matches(&Address::new(address.to_vec()))
    }

    #[test]
    fn what_postfix_matches() {
        for (address, pattern) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "[127.0.0.1]"),
            ("127.0.0.1", "127.0.0.0/8"),
            ("127.0.0.1", "[127.0.0.0]/8"),
            ("127.0.0.1", "[127.0.0.0/8]"),
            ("127.0.0.1", "127.0.0.1/032"),
            ("127.0.0.1", "0.0.0.0/0"),
            ("::1", "[::1]"),
            ("::1", "[0:0:0:0:0:0:0:1]"),
            ("2001:db8::1", "[2001:db8:0::1]"),
            ("2001:db8::1", "[2001:db8::]/32"),
            ("2001:db8::1", "[::/0]"),
        ] {
            assert_eq!(matches(address.as_bytes(), pattern.as_bytes()), Ok(true), "{address} {pattern}");
        }
    }

    #[test]
    fn what_silently_never_matches() {
        for pattern in [
            "127.",
            "127.0.0",
            "127.0.0.01",
            "127.0.0.0/x",
            "{127.0.0.1}",
            "127.0.0.1;10.0.0.1",
            "[::1]x",
            "[fe80::1%lo]",
            "[::/129]",
            "10.0.0.0/8",
            "unknown",
            "[]",
            "[",
        ] {
            assert_eq!(matches(b"127.0.0.1", pattern.as_bytes()), Ok(false), "{pattern}");
        }
        assert_eq!(matches(b"unknown", b"unknown"), Ok(false));
        assert_eq!(matches(b"::1", b"127.0.0.0/33"), Ok(false));
    }

    #[test]
    fn errors_in_the_words_of_postfix() {
        for (address, pattern, text) in [
            (
                "127.0.0.1",
                "127.0.0.1/8",
                "non-null host address bits in \"127.0.0.1/8\", perhaps you should use \"127.0.0.0/8\" instead",
            ),
            ("127.0.0.1", "127.0.0.0/", "bad mask value in \"127.0.0.0/\""),
            ("127.0.0.1", "127.0.0.0/255.0.0.0", "bad mask value in \"127.0.0.0/255.0.0.0\""),
            ("127.0.0.1", "127.0.0.0/33", "bad mask length in \"127.0.0.0/33\""),
            ("127.0.0.1", "127.0.0.0/4294967296", "bad mask length in \"127.0.0.0/4294967296\""),
            ("127.0.0.1", "127.0.0/24", "bad network value in \"127.0.0/24\""),
            ("127.0.0.1", "0/0", "bad network value in \"0/0\""),
            ("127.0.0.1", "[127.0.0.0/8", "missing ']' character after \"[127.0.0.0/8\""),
            ("::1", "[::1", "missing ']' character after \"[::1\""),
            ("::1", "[::1]1", "garbage after \"[::1]\""),
            ("::1", "[::g]", ""),
            ("::1", "[1:2:3]", "bad address pattern: \"1:2:3\""),
            (
                "::1",
                "[2001:db8::1]/32",
                "non-null host address bits in \"2001:db8::1/32\", perhaps you should use \"2001:db8::/32\" instead",
            ),
        ] {
            let got = matches(address.as_bytes(), pattern.as_bytes());
            let got = got.map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(got, text, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            address in "[0-9a-f.:]{0,20}",
            pattern in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'['), Just(b']'), Just(b'/'), Just(b':'), Just(b'1')], 0..30),
        ) {
            let _ = matches(address.as_bytes(), &pattern);
            let _ = Network::parse(&pattern);
        }

        #[test]
        fn a_network_contains_what_its_bits_say(address: u32, other: u32, bits in 0_u32..=32) {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let text = format!("{}/{bits}", Ipv4Addr::from(address & mask));
            let client = Ipv4Addr::from(other).to_string();
            prop_assert_eq!(matches(client.as_bytes(), text.as_bytes()), Ok(other & mask == address & mask));
        }
    }
}
