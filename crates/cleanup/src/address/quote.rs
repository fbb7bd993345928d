//! Converts local parts between internal form (bare) and external form (quoted where RFC 822 requires it).

use memchr::{memchr, memrchr};

/// External form of an internal address: the local part is put in quotes unless it is a dot-string. 8-bit bytes need
/// none. The local part ends at the last `@`; a source route `@host:` before it is left alone.
pub(crate) fn quote(address: &[u8]) -> Vec<u8> {
    let (route, rest) = address.split_at(route_len(address));
    quote_parts(route, rest.split_at(memrchr(b'@', rest).unwrap_or(rest.len())))
}

/// External form of a local part alone.
pub(crate) fn quote_local(local: &[u8]) -> Vec<u8> {
    let (route, rest) = local.split_at(route_len(local));
    quote_parts(route, (rest, b""))
}

fn quote_parts(route: &[u8], (local, domain): (&[u8], &[u8])) -> Vec<u8> {
    if is_dot_string(local) {
        return [route, local, domain].concat();
    }
    let len = route.len().saturating_add(local.len()).saturating_add(domain.len());
    let mut quoted = Vec::with_capacity(len.saturating_add(2));
    quoted.extend_from_slice(route);
    quoted.push(b'"');
    for &byte in local {
        if matches!(byte, b'"' | b'\\' | b'\r') {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted.extend_from_slice(domain);
    quoted
}

/// Internal form of an external address: quotes and backslashes go, up to the last `@` outside quotes.
pub(crate) fn unquote(address: &[u8]) -> Vec<u8> {
    let (route, rest) = address.split_at(route_len(address));
    let mut bare = route.to_vec();
    let mut in_quotes = false;
    let mut last_at = None;
    let mut bytes = rest.iter().enumerate();
    while let Some((position, &byte)) = bytes.next() {
        match byte {
            b'"' => {
                in_quotes = !in_quotes;
                continue;
            }
            b'\\' => {
                bare.extend(bytes.next().map(|(_, &next)| next));
                continue;
            }
            b'@' if !in_quotes => last_at = Some((position, bare.len())),
            _ => {}
        }
        bare.push(byte);
    }
    if let Some((source, target)) = last_at {
        bare.truncate(target);
        bare.extend_from_slice(rest.get(source..).unwrap_or_default());
    }
    bare
}

/// Length of a source route with its colon, 0 if there is none.
fn route_len(address: &[u8]) -> usize {
    if address.first() == Some(&b'@') {
        memchr(b':', address).map_or(0, |colon| colon.saturating_add(1))
    } else {
        0
    }
}

/// Atoms with single dots between them.
fn is_dot_string(local: &[u8]) -> bool {
    let mut after_dot = true;
    for &byte in local {
        if byte == b'.' {
            if after_dot {
                return false;
            }
            after_dot = true;
            continue;
        }
        after_dot = false;
        if byte.is_ascii_control() || b" ()<>@,;:\\\"[]".contains(&byte) {
            return false;
        }
    }
    !after_dot
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_no_dot_string_is_quoted() {
        for (bare, quoted) in [
            ("a.b@c", "a.b@c"),
            ("", "\"\""),
            ("@", "\"\"@"),
            ("user name@x", "\"user name\"@x"),
            ("\"user name\"@x", "\"\\\"user name\\\"\"@x"),
            ("a@b@c", "\"a@b\"@c"),
            (".a@x", "\".a\"@x"),
            ("a.@x", "\"a.\"@x"),
            ("a..b@x", "\"a..b\"@x"),
            ("a\\b@x", "\"a\\\\b\"@x"),
            ("@r:u@h", "@r:u@h"),
            ("@r:u v@h", "@r:\"u v\"@h"),
            ("caf\u{e9}@x", "caf\u{e9}@x"),
        ] {
            assert_eq!(quote(bare.as_bytes()), quoted.as_bytes(), "{bare}");
            assert_eq!(unquote(quoted.as_bytes()), bare.as_bytes(), "{quoted}");
        }
    }

    #[test]
    fn the_domain_is_not_unquoted() {
        assert_eq!(unquote(b"a\\"), b"a");
        assert_eq!(unquote(b"\"a@b\"@\"c d\""), b"a@b@\"c d\"");
        assert_eq!(unquote(b"\"open@x"), b"open@x");
        assert_eq!(unquote(b"a@\"b@c\""), b"a@\"b@c\"");
    }

    proptest! {
        #[test]
        fn unquoting_undoes_quoting_of_addresses_with_a_domain(
            local in "[a-z .@\"\\\\<>,;:()\t\\[\\]]{0,12}",
            domain in "[a-z.]{1,8}",
        ) {
            let bare = format!("{local}@{domain}");
            // A local part that looks like a route is one.
            prop_assume!(!bare.starts_with('@'));
            prop_assert_eq!(unquote(&quote(bare.as_bytes())), bare.as_bytes());
        }
    }
}
