//! A recipient's address, taken apart: user, extension, domain. No I/O.

/// `user+extension@domain`, borrowed from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox<'a> {
    /// All before the last `@`.
    pub local: &'a [u8],
    /// The local part without its extension.
    pub user: &'a [u8],
    /// Behind the delimiter; nothing without one.
    pub extension: Option<&'a [u8]>,
    /// Behind the last `@`; empty without one.
    pub domain: &'a [u8],
}

impl<'a> Mailbox<'a> {
    /// Takes `address` apart, with the letters of `recipient_delimiter`.
    #[must_use]
    pub fn of(address: &'a [u8], delimiters: &str) -> Self {
        let at = address.iter().rposition(|&byte| byte == b'@');
        let (local, domain) = match at {
            Some(at) => {
                let (local, rest) = address.split_at_checked(at).unwrap_or((address, b""));
                (local, rest.get(1..).unwrap_or_default())
            }
            None => (address, &b""[..]),
        };
        let is_delimiter = |byte: &u8| delimiters.as_bytes().contains(byte);
        let (user, extension) = match local.iter().position(is_delimiter) {
            Some(at) if at > 0 && !is_of_the_mail_system(local, delimiters) => {
                let (user, rest) = local.split_at_checked(at).unwrap_or((local, b""));
                (user, rest.get(1..))
            }
            _ => (local, None),
        };
        Self { local, user, extension, domain }
    }
}

/// Names that have no extension, though they may hold a delimiter.
fn is_of_the_mail_system(local: &[u8], delimiters: &str) -> bool {
    let folded = local.to_ascii_lowercase();
    let is_list = folded.starts_with(b"owner-") || folded.ends_with(b"-request");
    is_list && delimiters.contains('-') || folded == b"mailer-daemon" || folded == b"double-bounce"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |address: &'static str, delimiters: &str| {
            let Mailbox { local, user, extension, domain } = Mailbox::of(address.as_bytes(), delimiters);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(local), text(user), extension.map(text), text(domain))
        };
        let of = |local: &str, user: &str, extension: Option<&str>, domain: &str| {
            (local.to_owned(), user.to_owned(), extension.map(str::to_owned), domain.to_owned())
        };
        assert_eq!(parts("bob+x+y@e.com", "+"), of("bob+x+y", "bob", Some("x+y"), "e.com"));
        assert_eq!(parts("bob-x@e.com", "+-"), of("bob-x", "bob", Some("x"), "e.com"));
        assert_eq!(parts("bob+x@e.com", ""), of("bob+x", "bob+x", None, "e.com"));
        assert_eq!(parts("+x@e.com", "+"), of("+x", "+x", None, "e.com"));
        assert_eq!(parts("owner-list@e.com", "-"), of("owner-list", "owner-list", None, "e.com"));
        assert_eq!(parts("a@b@e.com", "+"), of("a@b", "a@b", None, "e.com"));
        assert_eq!(parts("bob", "+"), of("bob", "bob", None, ""));
    }
}
