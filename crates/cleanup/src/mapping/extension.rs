//! The extension of a local part: `+list` in `joe+list`.

use memchr::memrchr;

use crate::options::Options;
use postfix::text::equal_but_for_case;

/// The address without its extension, and the extension with its delimiter. `None` if it has none.
pub(super) fn strip_extension<'a>(options: &Options, address: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let (local, domain) = address.split_at(memrchr(b'@', address).unwrap_or(address.len()));
    let (user, extension) = local.split_at(extension_start(options, local)?);
    Some(([user, domain].concat(), extension))
}

/// Where the extension of a local part begins.
fn extension_start(options: &Options, local: &[u8]) -> Option<usize> {
    let delimiters = options.recipient_delimiter.as_bytes();
    let start = local.iter().position(|byte| delimiters.contains(byte)).filter(|start| *start > 0)?;
    let is_whole = |name: &str| local.eq_ignore_ascii_case(name.as_bytes());
    let double_bounce = options.double_bounce_sender.as_bytes();
    if is_whole("postmaster")
        || is_whole("mailer-daemon")
        || equal_but_for_case(local, double_bounce, options.smtputf8_enable)
    {
        return None;
    }
    let is_of_a_list = delimiters.contains(&b'-') && options.owner_request_special && {
        let begins = local.get(..OWNER.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWNER));
        let name_len = local.len().checked_sub(REQUEST.len()).filter(|len| *len > 0);
        let end = name_len.and_then(|len| local.get(len..));
        begins || end.is_some_and(|end| end.eq_ignore_ascii_case(REQUEST))
    };
    (!is_of_a_list).then_some(start)
}

const OWNER: &[u8] = b"owner-";
const REQUEST: &[u8] = b"-request";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_begins_at_the_first_delimiter() {
        let options =
            |delimiter: &str| Options { recipient_delimiter: delimiter.to_owned(), ..Options::default() };
        for (delimiter, address, expected) in [
            ("+", "joe+a+b@x", Some(("joe@x", "+a+b"))),
            ("+", "joe+a", Some(("joe", "+a"))),
            ("+", "joe+@x", Some(("joe@x", "+"))),
            ("+", "+joe@x", None),
            ("+", "joe@x+y", None),
            ("", "joe+a@x", None),
            ("+-", "joe-a+b@x", Some(("joe@x", "-a+b"))),
            ("-", "MAILER-DAEMON@x", None),
            ("-", "double-bounce@x", None),
            ("-", "Owner-list@x", None),
            ("-", "list-REQUEST@x", None),
            ("-", "-request@x", None),
            ("+", "owner-l+a@x", Some(("owner-l@x", "+a"))),
        ] {
            let options = options(delimiter);
            let stripped = strip_extension(&options, address.as_bytes());
            let expected = expected
                .map(|(bare, extension): (&str, &str)| (bare.as_bytes().to_vec(), extension.as_bytes()));
            assert_eq!(stripped, expected, "{delimiter} {address}");
        }
        let plain = Options { owner_request_special: false, ..options("-") };
        assert_eq!(strip_extension(&plain, b"owner-l@x"), Some((b"owner@x".to_vec(), &b"-l"[..])));
    }
}
