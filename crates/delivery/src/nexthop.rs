//! Where a transport is to deliver to, as transport tables and parameters write it.

use std::fmt;

/// How many members a list of next-hops may have. What is beyond is an error: Postfix has no limit, and a table gone
/// wrong can name thousands.
pub const MEMBERS_MAX: usize = 100;

/// One member of a next-hop of the SMTP, LMTP or QMQP transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Nexthop {
    /// A domain: its MX hosts, or itself.
    Domain {
        /// The domain, without a dot at its end.
        name: String,
        /// The port or service, if one was given.
        port: Option<Port>,
    },
    /// A host, in brackets: no MX look-up.
    Host {
        /// A name, or an address without brackets and prefix.
        name: String,
        /// The port or service, if one was given.
        port: Option<Port>,
    },
    /// A socket of the file system (LMTP only).
    Socket(String),
}

/// A port by number or by the name of its service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// 1 to 65535.
    Number(u16),
    /// As services(5) names it.
    Service(String),
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Service(name) => out.write_str(name),
        }
    }
}

/// Why a next-hop cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNexthop {
    /// Nothing there.
    #[error("the next-hop is empty")]
    Empty,
    /// `[` without `]`, or more behind `]` than a port.
    #[error("next-hop {0:?}: write [host] or [host]:port")]
    Brackets(String),
    /// No name or no port where one is due.
    #[error("next-hop {0:?}: no host, or no port behind the colon")]
    Incomplete(String),
    /// A port that is a number but no port.
    #[error("next-hop {0:?}: a port is a number from 1 to 65535, or the name of a service")]
    Port(String),
    /// More than [`MEMBERS_MAX`].
    #[error("the next-hop lists more than {MEMBERS_MAX} members")]
    TooMany,
}

/// Reads a list of next-hops for SMTP: members separated by commas or blanks, tried in their order (Postfix 3.5 and
/// later).
///
/// # Errors
/// When a member is not a next-hop.
pub fn smtp(text: &str) -> Result<Vec<Nexthop>, InvalidNexthop> {
    list(text, |member| inet(member, false))
}

/// Reads a list of next-hops for LMTP or QMQP: as for SMTP, and `inet:host[:port]`, `unix:/path`. A host without brackets
/// is a host all the same: there is no MX look-up.
///
/// # Errors
/// When a member is not a next-hop.
pub fn direct(text: &str) -> Result<Vec<Nexthop>, InvalidNexthop> {
    list(text, |member| {
        if let Some(path) = member.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(InvalidNexthop::Incomplete(member.into()))
            } else {
                Ok(Nexthop::Socket(path.into()))
            };
        }
        inet(member.strip_prefix("inet:").unwrap_or(member), true)
    })
}

fn list(
    text: &str,
    parse: impl Fn(&str) -> Result<Nexthop, InvalidNexthop>,
) -> Result<Vec<Nexthop>, InvalidNexthop> {
    let mut members = Vec::new();
    for member in text.split([',', ' ', '\t', '\r', '\n']).filter(|member| !member.is_empty()) {
        if members.len() == MEMBERS_MAX {
            return Err(InvalidNexthop::TooMany);
        }
        members.push(parse(member)?);
    }
    if members.is_empty() { Err(InvalidNexthop::Empty) } else { Ok(members) }
}

fn inet(member: &str, is_host: bool) -> Result<Nexthop, InvalidNexthop> {
    if let Some(rest) = member.strip_prefix('[') {
        let (name, behind) = rest.split_once(']').ok_or_else(|| InvalidNexthop::Brackets(member.into()))?;
        let port = match behind.strip_prefix(':') {
            Some(port) => Some(self::port(port, member)?),
            None if behind.is_empty() => None,
            None => return Err(InvalidNexthop::Brackets(member.into())),
        };
        let name = strip_prefix_ignoring_case(name, "ipv6:").unwrap_or(name);
        return named(name, port, true, member);
    }
    match member.split_once(':') {
        // An IPv6 address without brackets has more than one colon; Postfix would take its last part for a port.
        Some((_, rest)) if rest.contains(':') => Err(InvalidNexthop::Brackets(member.into())),
        Some((name, port)) => named(name, Some(self::port(port, member)?), is_host, member),
        None => named(member, None, is_host, member),
    }
}

fn named(name: &str, port: Option<Port>, is_host: bool, member: &str) -> Result<Nexthop, InvalidNexthop> {
    if name.is_empty() {
        return Err(InvalidNexthop::Incomplete(member.into()));
    }
    if is_host {
        return Ok(Nexthop::Host { name: name.to_owned(), port });
    }
    let name = name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name);
    Ok(Nexthop::Domain { name: name.to_owned(), port })
}

fn port(text: &str, member: &str) -> Result<Port, InvalidNexthop> {
    match text.parse::<u16>() {
        _ if text.is_empty() => Err(InvalidNexthop::Incomplete(member.into())),
        Ok(1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Port::Number(text.parse().unwrap_or(0)))
        }
        _ if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-')) => {
            Err(InvalidNexthop::Port(member.into()))
        }
        _ => Ok(Port::Service(text.to_owned())),
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text.get(prefix.len()..).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn domain(name: &str, port: Option<Port>) -> Nexthop {
        Nexthop::Domain { name: name.into(), port }
    }

    fn host(name: &str, port: Option<Port>) -> Nexthop {
        Nexthop::Host { name: name.into(), port }
    }

    #[test]
    fn smtp_nexthops() {
        for (text, members) in [
            ("example.org", vec![domain("example.org", None)]),
            ("example.org.", vec![domain("example.org", None)]),
            ("example.org:587", vec![domain("example.org", Some(Port::Number(587)))]),
            ("example.org:submission", vec![domain("example.org", Some(Port::Service("submission".into())))]),
            ("[gw.example.org]", vec![host("gw.example.org", None)]),
            ("[192.0.2.1]:26", vec![host("192.0.2.1", Some(Port::Number(26)))]),
            ("[ipv6:::1]", vec![host("::1", None)]),
            ("[IPv6:2001:db8::1]:25", vec![host("2001:db8::1", Some(Port::Number(25)))]),
            ("[2001:db8::1]", vec![host("2001:db8::1", None)]),
            (
                "a.example, [b.example]:26  c.example",
                vec![
                    domain("a.example", None),
                    host("b.example", Some(Port::Number(26))),
                    domain("c.example", None),
                ],
            ),
        ] {
            assert_eq!(smtp(text), Ok(members), "{text}");
        }
    }

    #[test]
    fn lmtp_and_qmqp_nexthops() {
        for (text, member) in [
            ("unix:/run/lmtp.sock", Nexthop::Socket("/run/lmtp.sock".into())),
            ("unix:private/lmtp", Nexthop::Socket("private/lmtp".into())),
            ("inet:store.example:24", host("store.example", Some(Port::Number(24)))),
            ("store.example", host("store.example", None)),
            ("[::1]:628", host("::1", Some(Port::Number(628)))),
        ] {
            assert_eq!(direct(text), Ok(vec![member]), "{text}");
        }
        assert!(direct("unix:").is_err());
    }

    #[test]
    fn what_is_none_is_named() {
        for text in
            ["[a", "[a]b", "[]", ":25", "a:", "[a]:", "a:0", "a:65536", "a:-1", "a:+1", "a:1x", "2001:db8::1"]
        {
            let error = smtp(text).unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
        assert_eq!(smtp(" , "), Err(InvalidNexthop::Empty));
        assert_eq!(smtp(&"a ".repeat(101)), Err(InvalidNexthop::TooMany));
    }
}
