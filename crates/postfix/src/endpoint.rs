//! `host:port` as master.cf and qmqpd_listen write it.

use std::net::{IpAddr, Ipv6Addr};

use crate::hostname::check_hostname;

/// Where to listen. Names are looked up by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or an address without brackets; `None` for the addresses that `inet_interfaces` selects.
    pub host: Option<String>,
    /// A port number or the name of a service.
    pub port: String,
}

/// Why a text is not an endpoint. `Display` is Postfix's wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// A `[` without `]`.
    #[error("missing \"]\"")]
    MissingBracket,
    /// Something other than `:` behind the `]`.
    #[error("garbage after \"]\"")]
    AfterBracket,
    /// `[ipv6:…]` without an IPv6 address.
    #[error("malformed IPv6 address")]
    Ipv6,
    /// No port.
    #[error("missing service information")]
    MissingPort,
    /// The host is neither a name nor an address.
    #[error("valid hostname or network address required")]
    Host,
    /// The port begins with a digit and is no number.
    #[error("garbage after numerical service")]
    Port,
    /// The port number is 0 or above 65535. Postfix 3.7 takes such a number without a word.
    #[error("port number out of range")]
    PortRange,
}

impl Endpoint {
    /// Reads `port`, `:port`, `host:port`, `[host]:port`, `[ipv6:address]:port`; an IPv6 address needs no brackets.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or(BadEndpoint::MissingBracket)?;
                let port = match behind.strip_prefix(':') {
                    Some(port) => port,
                    None if behind.is_empty() => "",
                    None => return Err(BadEndpoint::AfterBracket),
                };
                match host.get(..5) {
                    Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
                        let address = host.get(5..).unwrap_or_default();
                        address.parse::<Ipv6Addr>().map_err(|_| BadEndpoint::Ipv6)?;
                        (Some(address), port)
                    }
                    _ => (Some(host), port),
                }
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => ((!host.is_empty()).then_some(host), port),
                None => (None, text),
            },
        };
        if port.is_empty() {
            return Err(BadEndpoint::MissingPort);
        }
        if host.is_some_and(|host| check_hostname(host).is_err() && host.parse::<IpAddr>().is_err()) {
            return Err(BadEndpoint::Host);
        }
        if port.starts_with(|c: char| c.is_ascii_digit()) {
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(BadEndpoint::Port);
            }
            if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
                return Err(BadEndpoint::PortRange);
            }
        }
        Ok(Self { host: host.map(str::to_owned), port: port.to_owned() })
    }

    /// The port's number, when it is given as one.
    #[must_use]
    pub fn port_number(&self) -> Option<u16> {
        self.port.parse().ok()
    }

    /// The host's address, when it is given as one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.as_ref()?.parse().ok()
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            // No service has such a name; without the colon it would begin a host.
            None if self.port.starts_with('[') => write!(f, ":{}", self.port),
            None => write!(f, "{}", self.port),
            Some(host) if host.contains(':') || self.port.contains(':') => {
                write!(f, "[{host}]:{}", self.port)
            }
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_spellings() {
        for (text, host, port) in [
            ("628", None, "628"),
            ("qmqp", None, "qmqp"),
            (":628", None, "628"),
            ("127.0.0.1:628", Some("127.0.0.1"), "628"),
            ("[127.0.0.1]:628", Some("127.0.0.1"), "628"),
            ("[::1]:628", Some("::1"), "628"),
            ("::1:628", Some("::1"), "628"),
            ("[IPv6:::1]:qmqp", Some("::1"), "qmqp"),
            ("mx.example.test:628", Some("mx.example.test"), "628"),
            // Names that no service has.
            (":[628", None, "[628"),
            ("[host]:a:b", Some("host"), "a:b"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host.as_deref(), endpoint.port.as_str()), (host, port), "{text}");
            assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        }
    }

    #[test]
    fn bad_spellings() {
        for (text, error) in [
            ("", BadEndpoint::MissingPort),
            ("host:", BadEndpoint::MissingPort),
            ("[::1]", BadEndpoint::MissingPort),
            ("[::1", BadEndpoint::MissingBracket),
            ("[::1]628", BadEndpoint::AfterBracket),
            ("[ipv6:x]:1", BadEndpoint::Ipv6),
            ("-x:628", BadEndpoint::Host),
            ("::1", BadEndpoint::Host),
            ("628x", BadEndpoint::Port),
            ("0", BadEndpoint::PortRange),
            ("65536", BadEndpoint::PortRange),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "[\\[\\]:.a-f0-9é]{0,20}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
            }
        }
    }
}
