//! The syntax of host and domain names as Postfix checks it.

/// Why a text is not a host name. `Display` is the text that Postfix logs as a warning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("valid_hostname: {0}")]
pub struct BadHostname(String);

const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;

/// Checks a name: labels of ASCII letters, digits, `_` and inner `-`, at most 63 bytes each and 255 in all, no dot at
/// either end, not digits only.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_hostname(name: &str) -> Result<(), BadHostname> {
    let shown = String::from_utf8_lossy(name.as_bytes().get(..100).unwrap_or(name.as_bytes()));
    let bad = |what: &str| Err(BadHostname(format!("{what}: {shown}")));
    if name.is_empty() {
        return Err(BadHostname("empty hostname".to_owned()));
    }
    let mut label_len = 0_usize;
    let mut numeric = true;
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' if label_len == 0 || bytes.peek().is_none() => return bad("misplaced delimiter"),
            b'.' => label_len = 0,
            b'-' => {
                numeric = false;
                let ends_label = matches!(bytes.peek(), None | Some(b'.'));
                if label_len == 0 || ends_label {
                    return bad("misplaced hyphen");
                }
                label_len = label_len.saturating_add(1);
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                label_len = label_len.saturating_add(1);
                if label_len > LABEL_BYTES_MAX {
                    return bad("hostname label too long");
                }
                numeric &= byte.is_ascii_digit();
            }
            byte => return bad(&format!("invalid character {byte}(decimal)")),
        }
    }
    if numeric {
        return bad("numeric hostname");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadHostname(format!("bad length {} for {shown}...", name.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for name in ["a", "mx.example.test", "_x._tcp.a", "1a.2", "a-b.c--d", "unknown"] {
            assert_eq!(check_hostname(name), Ok(()), "{name}");
        }
        let (label, name) = (format!("{}.a", "x".repeat(63)), "abcdefg.".repeat(31) + "abcdefg");
        assert_eq!((check_hostname(&label), check_hostname(&name)), (Ok(()), Ok(())));
        assert_eq!(name.len(), 255);
    }

    #[test]
    fn bad_names_in_the_words_of_postfix() {
        let long = format!("{}.a", "x".repeat(64));
        for (name, text) in [
            ("", "empty hostname"),
            (".a", "misplaced delimiter: .a"),
            ("a.", "misplaced delimiter: a."),
            ("a..b", "misplaced delimiter: a..b"),
            ("-bad.example.com", "misplaced hyphen: -bad.example.com"),
            ("a-.b", "misplaced hyphen: a-.b"),
            ("a-", "misplaced hyphen: a-"),
            ("10.0.0.5", "numeric hostname: 10.0.0.5"),
            ("12345", "numeric hostname: 12345"),
            ("a b", "invalid character 32(decimal): a b"),
            ("h\u{e9}", "invalid character 195(decimal): h\u{e9}"),
            (&long, &format!("hostname label too long: {long}")),
        ] {
            assert_eq!(check_hostname(name).unwrap_err().to_string(), format!("valid_hostname: {text}"));
        }
        let long = "abcdefgh.".repeat(29) + "x";
        assert_eq!(
            check_hostname(&long).unwrap_err().to_string(),
            format!("valid_hostname: bad length 262 for {}...", long.get(..100).unwrap())
        );
    }
}
