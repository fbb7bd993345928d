//! Which host names Postfix believes to be host names, with its complaints word for word.

use std::net::Ipv6Addr;

/// The longest name, in bytes (RFC 1035, as Postfix counts it).
const NAME_BYTES_MAX: usize = 255;
/// The longest part between two dots, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Complaints quote so much of a name, in bytes.
const QUOTED_BYTES_MAX: usize = 100;

/// A host name, or the text of the warning about it. Accepted are letters, digits and `_` in labels, `-` inside of them.
///
/// The order of the checks is that of Postfix 3.7, where an address in the place of a name comes first.
pub(super) fn check(name: &[u8]) -> Result<String, String> {
    if is_address(name) {
        return Err(format!("numeric hostname: {}", String::from_utf8_lossy(name)));
    }
    match complaint(name) {
        None => Ok(String::from_utf8_lossy(name).into_owned()),
        Some(complaint) => Err(format!("valid_hostname: {complaint}")),
    }
}

fn complaint(name: &[u8]) -> Option<String> {
    if name.is_empty() {
        return Some("empty hostname".to_owned());
    }
    let quoted = String::from_utf8_lossy(name.get(..QUOTED_BYTES_MAX).unwrap_or(name));
    let mut label_bytes = 0usize;
    let mut numeric = true;
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'.' if label_bytes == 0 || rest.is_empty() => {
                return Some(format!("misplaced delimiter: {quoted}"));
            }
            b'.' => label_bytes = 0,
            b'-' if label_bytes == 0 || matches!(rest.first(), None | Some(b'.')) => {
                return Some(format!("misplaced hyphen: {quoted}"));
            }
            b'-' => {
                numeric = false;
                label_bytes = label_bytes.saturating_add(1);
            }
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                numeric &= byte.is_ascii_digit();
                label_bytes = label_bytes.saturating_add(1);
                if label_bytes > LABEL_BYTES_MAX {
                    return Some(format!("hostname label too long: {quoted}"));
                }
            }
            _ => return Some(format!("invalid character {byte}(decimal): {quoted}")),
        }
    }
    if numeric {
        return Some(format!("numeric hostname: {quoted}"));
    }
    (name.len() > NAME_BYTES_MAX).then(|| format!("bad length {} for {quoted}...", name.len()))
}

/// Whether Postfix takes the text for an address. `0.1.2.3` is not an address to it, `0.0.0.0` is; leading zeros do not matter.
fn is_address(text: &[u8]) -> bool {
    if text.contains(&b':') {
        return std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let mut octets = 0usize;
    let mut first_is_zero = false;
    for octet in text.split(|&byte| byte == b'.') {
        let value = octet.iter().try_fold(0u32, |value, &byte| {
            let digit = byte.is_ascii_digit().then(|| u32::from(byte & 0x0f))?;
            value.checked_mul(10)?.checked_add(digit).filter(|&value| value <= 255)
        });
        match value {
            Some(value) if !octet.is_empty() => first_is_zero |= octets == 0 && value == 0,
            _ => return false,
        }
        octets = octets.saturating_add(1);
    }
    octets == 4 && !(first_is_zero && text.iter().any(|byte| !matches!(byte, b'0' | b'.')))
}

/// The name as text, if the C library would pass it on: it drops names from the DNS in silence that have other bytes than
/// letters, digits, `-` and `_`, or begin with `-` (observed with glibc 2.36). The root comes out as `.`, as there.
pub(super) fn from_labels<'l>(labels: impl Iterator<Item = &'l [u8]>) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    for label in labels {
        if !label.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(label);
    }
    match name.first() {
        None => Some(vec![b'.']),
        Some(b'-') => None,
        Some(_) => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_pass() {
        for name in [
            "mail.example.com",
            "single",
            "unknown",
            "under_score.e",
            "1.2.3.com",
            "a-b.c",
            "0x7f.1",
            "Mixed.Case",
        ] {
            assert_eq!(check(name.as_bytes()).as_deref(), Ok(name));
        }
        let longest = [[b'a'; 63], [b'b'; 63], [b'c'; 63]].join(&b'.');
        assert!(check(&longest).is_ok());
    }

    #[test]
    fn complaints_in_the_words_of_postfix() {
        let label = "a".repeat(64);
        let long = format!("{}.bcd", "a.".repeat(127));
        let cases = [
            ("", "valid_hostname: empty hostname".to_owned()),
            ("10.0.0.5", "numeric hostname: 10.0.0.5".to_owned()),
            ("010.000.0.5", "numeric hostname: 010.000.0.5".to_owned()),
            ("::1", "numeric hostname: ::1".to_owned()),
            ("0.1.2.3", "valid_hostname: numeric hostname: 0.1.2.3".to_owned()),
            ("255.255.255.256", "valid_hostname: numeric hostname: 255.255.255.256".to_owned()),
            ("1.2.3", "valid_hostname: numeric hostname: 1.2.3".to_owned()),
            ("12345", "valid_hostname: numeric hostname: 12345".to_owned()),
            (".", "valid_hostname: misplaced delimiter: .".to_owned()),
            ("a..b", "valid_hostname: misplaced delimiter: a..b".to_owned()),
            ("a.b.", "valid_hostname: misplaced delimiter: a.b.".to_owned()),
            ("-bad.example.com", "valid_hostname: misplaced hyphen: -bad.example.com".to_owned()),
            ("bad-.example.com", "valid_hostname: misplaced hyphen: bad-.example.com".to_owned()),
            ("a.-bad.example.com", "valid_hostname: misplaced hyphen: a.-bad.example.com".to_owned()),
            ("a.b-", "valid_hostname: misplaced hyphen: a.b-".to_owned()),
            ("a*b", "valid_hostname: invalid character 42(decimal): a*b".to_owned()),
            ("a:b", "valid_hostname: invalid character 58(decimal): a:b".to_owned()),
            (&label, format!("valid_hostname: hostname label too long: {label}")),
            (&long, format!("valid_hostname: misplaced delimiter: {}", "a.".repeat(50))),
        ];
        for (name, words) in cases {
            assert_eq!(check(name.as_bytes()), Err(words), "{name}");
        }
        assert_eq!(
            check(b"caf\xe9.e"),
            Err("valid_hostname: invalid character 233(decimal): caf\u{fffd}.e".to_owned())
        );
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63), "e".to_owned()].join(".");
        let quoted = format!("{}.{}", "a".repeat(63), "b".repeat(36));
        assert_eq!(check(long.as_bytes()), Err(format!("valid_hostname: bad length 257 for {quoted}...")));
    }

    #[test]
    fn what_the_c_library_drops() {
        let name = |labels: &[&[u8]]| from_labels(labels.iter().copied());
        assert_eq!(name(&[b"Good", b"Example", b"com"]), Some(b"Good.Example.com".to_vec()));
        assert_eq!(name(&[]), Some(b".".to_vec()));
        assert_eq!(name(&[b"bad-", b"com"]), Some(b"bad-.com".to_vec()));
        assert_eq!(name(&[b"a", b"-bad", b"com"]), Some(b"a.-bad.com".to_vec()));
        for labels in [
            &[&b"-bad"[..], b"com"][..],
            &[b"a b"],
            &[b"caf\xe9"],
            &[b"do.t", b"com"],
            &[b"*"],
            &[b"a/b"],
            &[b"a\x01"],
        ] {
            assert_eq!(name(labels), None, "{labels:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_passes_has_nothing_but_the_allowed_bytes(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(text) = check(&name) {
                prop_assert_eq!(text.as_bytes(), &name[..]);
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
                prop_assert!(text.len() <= NAME_BYTES_MAX && text.parse::<std::net::IpAddr>().is_err());
            }
        }

        #[test]
        fn an_address_is_no_name(address in any::<std::net::IpAddr>()) {
            prop_assert!(check(address.to_string().as_bytes()).is_err());
        }
    }
}
