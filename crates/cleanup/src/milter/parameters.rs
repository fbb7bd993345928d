//! Parameters of a sender or a recipient in a change that a filter asks for, as in an SMTP command (RFC 3461).

pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

pub(super) fn name_and_value(parameter: &[u8]) -> (&[u8], &[u8]) {
    let equals = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
    let (name, rest) = parameter.split_at(equals);
    (name, rest.get(1..).unwrap_or_default())
}

/// RFC 3461: `NEVER` alone, or any of the others.
pub(super) fn notify_mask(value: &[u8]) -> Option<u8> {
    let mut mask = 0_u8;
    for word in value.split(|&byte| byte == b',') {
        mask |= match word.to_ascii_uppercase().as_slice() {
            b"NEVER" => 1,
            b"SUCCESS" => 2,
            b"FAILURE" => 4,
            b"DELAY" => 8,
            _ => return None,
        };
    }
    (mask == 1 || mask & 1 == 0 && mask != 0).then_some(mask)
}

/// RFC 3461: type, `;`, and an address in xtext.
pub(super) fn original_recipient(value: &[u8]) -> Option<Vec<u8>> {
    let (kind, address) = value.split_at_checked(memchr::memchr(b';', value)?)?;
    let address = address.get(1..)?;
    if kind.is_empty() {
        return None;
    }
    Some([kind, b";", &xtext(address)?].concat())
}

/// RFC 3461: `+` and two capital hexadecimal digits are one byte. Without NUL, which no record can hold.
pub(super) fn xtext(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'+' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        plain.push(digit()?.checked_mul(16)?.checked_add(digit()?)?);
    }
    (!plain.contains(&0) && !plain.contains(&b'\n')).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_recipients() {
        assert_eq!(notify_mask(b"never"), Some(1));
        assert_eq!(notify_mask(b"SUCCESS,delay"), Some(10));
        assert_eq!(notify_mask(b"failure"), Some(4));
        assert_eq!(words(b" a  b=c ").collect::<Vec<_>>(), [b"a".as_slice(), b"b=c"]);
        assert_eq!(name_and_value(b"NAME=a=b"), (b"NAME".as_slice(), b"a=b".as_slice()));
        assert_eq!(name_and_value(b"NAME"), (b"NAME".as_slice(), b"".as_slice()));
        assert_eq!(notify_mask(b"never,delay"), None);
        assert_eq!(notify_mask(b""), None);
        assert_eq!(original_recipient(b"rfc822;a+40b").as_deref(), Some(b"rfc822;a@b".as_slice()));
        assert_eq!(original_recipient(b";a"), None);
        assert_eq!(original_recipient(b"rfc822"), None);
        assert_eq!(xtext(b"a+4"), None);
        assert_eq!(xtext(b"a+00"), None);
    }
}
