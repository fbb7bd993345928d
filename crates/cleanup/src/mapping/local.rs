//! Decides whether a domain belongs to this host.

use std::net::IpAddr;

use super::Mapping;
use crate::tables::{LookupFailed, Names};
use postfix::text::equal_but_for_case;

impl Mapping<'_> {
    /// Whether users of this domain may stand in tables without it: $myorigin, mydestination, addresses of this host.
    pub(super) fn is_local_domain(&mut self, domain: &[u8]) -> Result<bool, LookupFailed> {
        let options = self.options;
        if equal_but_for_case(domain, options.myorigin.as_bytes(), options.smtputf8_enable) {
            return Ok(true);
        }
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        if domain.is_empty() || domain.ends_with(b".") {
            return Ok(false);
        }
        let mut notices = Vec::new();
        let listed = self.tables.is_listed(Names::MyDestination, domain, &mut notices);
        self.keep(notices);
        let literal = domain.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        Ok(listed?
            || literal.and_then(literal_address).is_some_and(|own| options.own_addresses.contains(&own)))
    }
}

/// The address between the brackets of a literal; IPv6 addresses have a prefix.
fn literal_address(literal: &[u8]) -> Option<IpAddr> {
    const PREFIX: &str = "IPv6:";
    let text = std::str::from_utf8(literal).ok()?;
    match text.split_at_checked(PREFIX.len()) {
        Some((prefix, address)) if prefix.eq_ignore_ascii_case(PREFIX) => {
            address.parse().ok().map(IpAddr::V6)
        }
        _ => text.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        for (text, address) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("IPv6:::1", Some("::1")),
            ("ipv6:2001:db8::1", Some("2001:db8::1")),
            ("::1", None),
            ("IPv6:127.0.0.1", None),
            ("x", None),
            ("", None),
        ] {
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(literal_address(text.as_bytes()), expected, "{text}");
        }
    }
}
