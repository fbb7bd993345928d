//! What an operator's rule says: the right-hand side of header_checks, body_checks, milter_header_checks and the
//! like.
//!
//! Words and complaints are those of Postfix 3.7. The caller carries out the action.

use crate::header::name_len;
use crate::refusal::Refusal;

/// A rule that can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule<'a> {
    pub(crate) action: Action,
    /// What follows the action's name: a text, or what the action needs, which was checked.
    pub(crate) argument: &'a [u8],
}

/// What a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Reject,
    Warn,
    Info,
    /// Its argument is `transport:next-hop`.
    Filter,
    /// Nothing else of the message is looked at.
    Pass,
    Discard,
    Hold,
    /// Its argument is a text, of a header if a header was looked at.
    Prepend,
    /// As with [`Action::Prepend`].
    Replace,
    /// Its argument has an `@`.
    Redirect,
    /// The same.
    Bcc,
    /// Drops what was looked at, and logs it.
    Strip,
    /// Drops what was looked at.
    Ignore,
    /// `DUNNO` and `OK`.
    Nothing,
}

/// Why a rule cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint<'a> {
    /// No action has this name; the whole rule.
    Unknown(&'a [u8]),
    MissingFilter,
    BadFilter(&'a [u8]),
    MissingText(Action),
    BadHeader(Action, &'a [u8]),
    BadAddress(Action, &'a [u8]),
}

impl Action {
    const NAMES: [(&'static str, Self); 15] = [
        ("REJECT", Self::Reject),
        ("WARN", Self::Warn),
        ("INFO", Self::Info),
        ("FILTER", Self::Filter),
        ("PASS", Self::Pass),
        ("DISCARD", Self::Discard),
        ("HOLD", Self::Hold),
        ("PREPEND", Self::Prepend),
        ("REPLACE", Self::Replace),
        ("REDIRECT", Self::Redirect),
        ("BCC", Self::Bcc),
        ("STRIP", Self::Strip),
        ("IGNORE", Self::Ignore),
        ("DUNNO", Self::Nothing),
        ("OK", Self::Nothing),
    ];

    fn parse(command: &[u8]) -> Option<Self> {
        let is_named = |(name, _): &&(&str, Self)| command.eq_ignore_ascii_case(name.as_bytes());
        Self::NAMES.iter().find(is_named).map(|(_, action)| *action)
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }

    /// What log lines call it.
    pub(crate) const fn log_word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Warn => "warning",
            Self::Info => "info",
            Self::Filter => "filter",
            Self::Pass => "pass",
            Self::Discard => "discard",
            Self::Hold => "hold",
            Self::Prepend => "prepend",
            Self::Replace => "replace",
            Self::Redirect => "redirect",
            Self::Bcc => "bcc",
            Self::Strip => "strip",
            Self::Ignore => "ignore",
            Self::Nothing => "dunno",
        }
    }
}

impl<'a> Rule<'a> {
    /// Reads a rule about a header, or about another line.
    ///
    /// # Errors
    /// It names no action, or lacks what its action needs.
    pub(crate) fn parse(rule: &'a [u8], is_about_header: bool) -> Result<Self, Complaint<'a>> {
        let (command, argument) = split(rule);
        let action = Action::parse(command).ok_or(Complaint::Unknown(rule))?;
        match action {
            Action::Filter if argument.is_empty() => Err(Complaint::MissingFilter),
            Action::Filter if !argument.contains(&b':') => Err(Complaint::BadFilter(argument)),
            Action::Prepend | Action::Replace if argument.is_empty() => Err(Complaint::MissingText(action)),
            Action::Prepend | Action::Replace if is_about_header && name_len(argument).is_none() => {
                Err(Complaint::BadHeader(action, argument))
            }
            Action::Redirect | Action::Bcc if !argument.contains(&b'@') => {
                Err(Complaint::BadAddress(action, argument))
            }
            _ => Ok(Self { action, argument }),
        }
    }

    /// Whether nothing of the message is looked at behind it.
    pub(crate) const fn ends_looking(&self) -> bool {
        matches!(self.action, Action::Reject | Action::Discard | Action::Pass | Action::Redirect)
    }
}

impl Complaint<'_> {
    /// The words for the log. `show` makes text from outside printable.
    pub(crate) fn words(&self, parameter: &str, show: impl Fn(&[u8]) -> String) -> String {
        match self {
            Self::Unknown(rule) => format!("unknown command in {parameter} map: {}", show(rule)),
            Self::MissingFilter => format!("missing FILTER command argument in {parameter} map"),
            Self::BadFilter(argument) => {
                format!("bad FILTER command {} in {parameter} -- need transport:destination", show(argument))
            }
            Self::MissingText(action) => format!("{} action without text in {parameter} map", action.name()),
            Self::BadHeader(action, argument) => format!(
                "bad {} header text \"{}\" in {parameter} map -- need \"headername: headervalue\"",
                action.name(),
                show(argument)
            ),
            Self::BadAddress(action, argument) => {
                let what = if *action == Action::Bcc { "BCC address" } else { "REDIRECT target" };
                format!("bad {what} \"{}\" in {parameter} map -- need user@domain", show(argument))
            }
        }
    }
}

/// What `REJECT` with this argument comes to: the text for the client, printable, and a complaint about its status code.
pub(crate) fn rejection(argument: &[u8], show: impl Fn(&[u8]) -> String) -> (String, Option<String>) {
    if argument.is_empty() {
        return ("5.7.1 message content rejected".to_owned(), None);
    }
    let mut text = show(&with_dsn("5.7.1", argument));
    if text.starts_with(['4', '5']) {
        return (text, None);
    }
    text.replace_range(..1, "4");
    let complaint = format!("bad DSN action in {} -- need 4.x.x or 5.x.x", show(argument));
    (text, Some(complaint))
}

/// A refusal with the text of a [`rejection`].
pub(crate) fn refused(text: String) -> Refusal {
    if text.starts_with('4') { Refusal::Defer { text } } else { Refusal::Content { text } }
}

/// The command of a rule and what follows it.
pub(crate) fn split(rule: &[u8]) -> (&[u8], &[u8]) {
    let end = rule.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(rule.len());
    let (command, argument) = rule.split_at(end);
    (command, trim_start(argument))
}

/// Without white space at its beginning.
fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| is_space(byte)).count();
    text.get(blanks..).unwrap_or_default()
}

const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The text behind its status code of RFC 3463, and behind `default` if it has none.
fn with_dsn(default: &str, text: &[u8]) -> Vec<u8> {
    let text = trim_start(text);
    let (code, text) = text.split_at(dsn_len(text).unwrap_or(0));
    let code = if code.is_empty() { default.as_bytes() } else { code };
    [code, b" ", trim_start(text)].concat()
}

/// Length of a status code of RFC 3463 at the beginning, if there is one.
fn dsn_len(text: &[u8]) -> Option<usize> {
    let digits = |start: usize| {
        let count = text.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (1..=3).contains(&count).then(|| start.saturating_add(count))
    };
    let (b'2' | b'4' | b'5', b'.') = (*text.first()?, *text.get(1)?) else { return None };
    let subject_end = digits(2)?;
    (*text.get(subject_end)? == b'.').then_some(())?;
    let end = digits(subject_end.saturating_add(1))?;
    text.get(end).is_none_or(|&byte| is_space(byte)).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_what_its_action_needs_or_is_complained_of() {
        let parse = |rule: &'static str, is_about_header| Rule::parse(rule.as_bytes(), is_about_header);
        for (name, action) in Action::NAMES {
            let argument: &'static [u8] = b"a:b@c";
            let rule = [name.to_ascii_lowercase().as_bytes(), b" \t", argument].concat();
            assert_eq!(Rule::parse(&rule, true), Ok(Rule { action, argument }), "{name}");
        }
        for (rule, is_about_header, words) in [
            ("FILTERS x:y", true, "unknown command in M map: FILTERS x:y"),
            ("", true, "unknown command in M map: "),
            ("FILTER", true, "missing FILTER command argument in M map"),
            ("FILTER x", true, "bad FILTER command x in M -- need transport:destination"),
            ("replace ", false, "REPLACE action without text in M map"),
            ("PREPEND x", true, "bad PREPEND header text \"x\" in M map -- need \"headername: headervalue\""),
            ("redirect x", true, "bad REDIRECT target \"x\" in M map -- need user@domain"),
            ("BCC", true, "bad BCC address \"\" in M map -- need user@domain"),
        ] {
            let complaint = parse(rule, is_about_header).unwrap_err();
            assert_eq!(complaint.words("M", |text| String::from_utf8_lossy(text).into_owned()), words);
        }
        assert!(parse("PREPEND x", false).is_ok(), "any text is a line of a body");
        assert!(parse("REDIRECT a@b", true).unwrap().ends_looking());
        assert!(!parse("HOLD", true).unwrap().ends_looking());
    }

    #[test]
    fn status_codes_are_those_of_rfc_3463() {
        for (text, len) in [
            ("5.7.1", Some(5)),
            ("4.123.321 x", Some(9)),
            ("2.0.0\tx", Some(5)),
            ("5.7", None),
            ("5.7.", None),
            ("5.7.1x", None),
            ("5.1234.1", None),
            ("3.7.1", None),
            ("5..1", None),
            ("", None),
        ] {
            assert_eq!(dsn_len(text.as_bytes()), len, "{text}");
        }
        assert_eq!(with_dsn("5.7.1", b"  4.0.1   why"), b"4.0.1 why");
        assert_eq!(with_dsn("5.7.1", b"why  not "), b"5.7.1 why  not ");
    }
}
