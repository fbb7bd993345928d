//! Values in a table of a match list: they do not count there. A client that is found in the table is on the list, also where the
//! value says `REJECT` to another program, or the file was made by tcprules(1).

use super::Table;
use crate::syntax::shown;
use postfix::text::until_nul;

/// What a value of this kind says to the program that it was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// tcpserver(1) denies.
    Denied,
    /// tcpserver(1) sets a variable.
    Environment,
    /// smtpd(8) refuses.
    Refused,
}

/// Whether the value is a rule of tcprules(1), or an access(5) action that refuses.
pub(crate) fn is_foreign(value: &[u8]) -> bool {
    kind(value).is_some()
}

fn kind(value: &[u8]) -> Option<Foreign> {
    match value {
        [b'D'] | [b'D', 0 | b'+', ..] => return Some(Foreign::Denied),
        [b'+', rest @ ..] => {
            let name = rest.split(|&byte| byte == b'=').next().filter(|name| name.len() < rest.len())?;
            let is_name =
                !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return is_name.then_some(Foreign::Environment);
        }
        _ => {}
    }
    let text = String::from_utf8_lossy(value);
    let word = text.split([' ', '\t', '\0']).next().unwrap_or_default().to_ascii_uppercase();
    let is_code =
        word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|byte| byte.is_ascii_digit());
    let actions = ["REJECT", "DEFER", "DEFER_IF_PERMIT", "DEFER_IF_REJECT", "DISCARD", "DENY", "NO"];
    (is_code || actions.contains(&word.as_str())).then_some(Foreign::Refused)
}

/// What an operator should know about a table whose entries let clients in although their values refuse them: what is wrong,
/// and what to do.
pub(crate) fn remark(table: &dyn Table) -> Option<(String, String)> {
    let (key, value) = table.foreign_entry()?;
    let (key, entry) = (pattern(&key), format!("the value \"{}\" of \"{key}\"", shown(until_nul(&value))));
    Some(match kind(&value)? {
        Foreign::Denied => (
            format!(
                "this file was made by tcprules(1), and {entry} authorizes the client that it denies to \
                 tcpserver(1)"
            ),
            format!(
                "write !{key} before the pattern that authorizes the others, and addresses and networks \
                 instead of this table"
            ),
        ),
        Foreign::Environment => (
            format!(
                "this file was made by tcprules(1), and {entry} has no effect here: denied clients are \
                 authorized"
            ),
            "write addresses and networks, each denied one with a ! before it, instead of this table"
                .to_owned(),
        ),
        Foreign::Refused => (
            format!("{entry} has no effect: every client that the table knows matches"),
            format!("write !{key} before the table, or remove the entry"),
        ),
    })
}

/// The key as a pattern: `192.0.2.` of tcprules(1) is a network, `=host` a name.
fn pattern(key: &str) -> String {
    match crate::meant::network_of_octets(key) {
        Some(network) if key.ends_with('.') => network,
        _ => key.strip_prefix('=').unwrap_or(key).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_mean_by_a_value() {
        for (value, expected) in [
            (&b"D"[..], Some(Foreign::Denied)),
            (b"D\0", Some(Foreign::Denied)),
            (b"D+A=b\0", Some(Foreign::Denied)),
            (b"+RELAYCLIENT=\0", Some(Foreign::Environment)),
            (b"reject go away", Some(Foreign::Refused)),
            (b"554 no", Some(Foreign::Refused)),
            (b"DUNNO", None),
            (b"OK", None),
            (b"Dave", None),
            (b"+49 30 1234", None),
            (b"+1=2 3", Some(Foreign::Environment)),
            (b"5540", None),
            (b"", None),
        ] {
            assert_eq!(kind(value), expected, "{}", shown(value));
        }
        assert_eq!(pattern("192.0.2."), "192.0.2.0/24");
        assert_eq!((pattern("=a.test"), pattern("192.0.2.1")), ("a.test".to_owned(), "192.0.2.1".to_owned()));
    }
}
