//! Addresses as they stand on the wire (RFC 5321 section 4.1.2), and xtext (RFC 3461 section 4).

/// An address that cannot be sent in one line: it holds CR, LF or NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address holds a line break or a NUL and cannot be sent by SMTP")]
pub struct UnsafeAddress;

/// Writes an address as a mailbox: the local part is quoted unless it is a dot-string. The empty address stays empty.
///
/// The address comes as a queue file holds it, without quotes. Bytes of 128 and more need no quotes.
///
/// # Errors
/// When the address would break the line that it stands in.
pub fn quoted(address: &[u8]) -> Result<Vec<u8>, UnsafeAddress> {
    if address.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(UnsafeAddress);
    }
    let at = address.iter().rposition(|&byte| byte == b'@').unwrap_or(address.len());
    let (local, domain) = address.split_at_checked(at).unwrap_or((address, b""));
    if is_dot_string(local) || address.is_empty() {
        return Ok(address.to_vec());
    }
    let mut mailbox = Vec::with_capacity(address.len() + 8);
    mailbox.push(b'"');
    for &byte in local {
        if matches!(byte, b'"' | b'\\') {
            mailbox.push(b'\\');
        }
        mailbox.push(byte);
    }
    mailbox.push(b'"');
    mailbox.extend_from_slice(domain);
    Ok(mailbox)
}

fn is_dot_string(local: &[u8]) -> bool {
    local
        .split(|&byte| byte == b'.')
        .all(|atom| !atom.is_empty() && atom.iter().all(|&byte| is_atom_byte(byte)))
}

const fn is_atom_byte(byte: u8) -> bool {
    byte >= 0x80
        || byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~')
}

/// Writes `text` as xtext: printable ASCII but `+` and `=` as it is, every other byte as `+` and two digits.
pub fn xtext(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_graphic() && byte != b'+' && byte != b'=' {
            out.push(byte);
        } else {
            out.push(b'+');
            for nibble in [byte >> 4, byte & 15] {
                out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_no_dot_string_is_quoted() {
        for (address, mailbox) in [
            ("ann@example.org", "ann@example.org"),
            ("a.b+c=d@example.org", "a.b+c=d@example.org"),
            ("", ""),
            ("ann", "ann"),
            ("ann smith@example.org", "\"ann smith\"@example.org"),
            ("a..b@example.org", "\"a..b\"@example.org"),
            (".a@example.org", "\".a\"@example.org"),
            ("@example.org", "\"\"@example.org"),
            ("a\"b\\c@example.org", "\"a\\\"b\\\\c\"@example.org"),
            ("a@b@example.org", "\"a@b\"@example.org"),
            ("j\u{f6}rg@example.org", "j\u{f6}rg@example.org"),
            ("a>b@example.org", "\"a>b\"@example.org"),
        ] {
            assert_eq!(String::from_utf8(quoted(address.as_bytes()).unwrap()).unwrap(), mailbox, "{address}");
        }
    }

    #[test]
    fn xtext_spares_what_is_printable() {
        let mut out = Vec::new();
        xtext("rfc822;a+b=c d\u{e9}".as_bytes(), &mut out);
        assert_eq!(out, b"rfc822;a+2Bb+3Dc+20d+C3+A9");
    }

    proptest! {
        /// No address breaks a line, and what is inside quotes ends where it should.
        #[test]
        fn an_address_stays_in_its_line(address in proptest::collection::vec(any::<u8>(), 0..40)) {
            match quoted(&address) {
                Err(UnsafeAddress) => prop_assert!(address.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))),
                Ok(mailbox) => {
                    prop_assert!(!mailbox.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                    let unquoted = unquote(&mailbox);
                    prop_assert_eq!(unquoted, address);
                }
            }
        }
    }

    fn unquote(mailbox: &[u8]) -> Vec<u8> {
        let Some(rest) = mailbox.strip_prefix(b"\"") else { return mailbox.to_vec() };
        let mut bytes = rest.iter();
        let mut address = Vec::new();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'\\' => address.extend(bytes.next()),
                b'"' => break,
                _ => address.push(byte),
            }
        }
        address.extend(bytes);
        address
    }
}
