//! What `bounce/ID`, `defer/ID` and `trace/ID` say of each recipient: text, an entry after another, in Postfix's format,
//! so that its tools and its queue manager read ours and ours reads theirs.
//!
//! ```text
//! recipient=dave@grey.example
//! offset=624
//! status=4.2.0
//! action=delayed
//! diag_type=smtp
//! diag_text=450 4.2.0 greylisted
//! mta_type=dns
//! mta_mname=mx.grey.example
//! reason=host mx.grey.example[192.0.2.3] said: 450 4.2.0 greylisted (in reply to RCPT TO command)
//! (an empty line)
//! ```
//!
//! Names that are not known are skipped, in whatever order they come. What is no printable character is masked when it
//! is written and again when it is read: the file may be another program's.

use crate::outcome::{Diagnostic, Outcome, Status, status};

/// The longest line that is read, in bytes; the rest of a longer one is dropped. A reply has at most 4 KiB.
pub const LINE_BYTES_MAX: usize = 16_384;

/// What is to be done about a recipient, in the words of RFC 3464.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
    Expanded,
}

impl Action {
    /// The word in the file and in a report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Failed, Self::Delayed, Self::Delivered, Self::Relayed, Self::Expanded];
        all.into_iter().find(|action| action.word() == word)
    }
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The recipient in quoted form; `<>` in the file when it is empty.
    pub recipient: String,
    /// The address as it was received, if that differs; empty without.
    pub original_recipient: String,
    /// Where the recipient's record stands in the queue file; 0 when that is not known.
    pub offset: u64,
    /// The original recipient with its type, for reports; empty without.
    pub dsn_original: String,
    /// When the sender wants to be told: 1 never, 2 success, 4 failure, 8 delay; 0 when he did not say.
    pub notify: u32,
    /// The status.
    pub status: Status,
    /// What is done about it.
    pub action: Action,
    /// What the other side said.
    pub diagnostic: Option<Diagnostic>,
    /// Which host said it.
    pub remote_mta: Option<String>,
    /// What happened.
    pub reason: String,
}

impl Entry {
    /// An entry for an outcome; what is known of the recipient is to be filled in.
    #[must_use]
    pub fn new(recipient: impl Into<String>, action: Action, outcome: &Outcome) -> Self {
        Self {
            recipient: recipient.into(),
            original_recipient: String::new(),
            offset: 0,
            dsn_original: String::new(),
            notify: 0,
            status: outcome.status,
            action,
            diagnostic: outcome.diagnostic.clone(),
            remote_mta: outcome.remote_mta.clone(),
            reason: outcome.reason.clone(),
        }
    }

    /// Writes the entry with the empty line that ends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let recipient = if self.recipient.is_empty() { "<>" } else { &self.recipient };
        put(out, "recipient", recipient);
        if !self.original_recipient.is_empty()
            && !self.original_recipient.eq_ignore_ascii_case(&self.recipient)
        {
            put(out, "original_recipient", &self.original_recipient);
        }
        if self.offset > 0 {
            put(out, "offset", &self.offset.to_string());
        }
        if !self.dsn_original.is_empty() {
            put(out, "dsn_orig_rcpt", &self.dsn_original);
        }
        if self.notify != 0 {
            put(out, "notify_flags", &self.notify.to_string());
        }
        put(out, "status", &self.status.to_string());
        put(out, "action", self.action.word());
        if let Some(diagnostic) = &self.diagnostic {
            put(out, "diag_type", &diagnostic.kind);
            put(out, "diag_text", &diagnostic.text);
        }
        if let Some(host) = &self.remote_mta {
            put(out, "mta_type", "dns");
            put(out, "mta_mname", host);
        }
        put(out, "reason", &self.reason);
        out.push(b'\n');
    }

    /// Before anything is known of it.
    fn unknown(default: Action) -> Self {
        Self {
            recipient: "(recipient address unavailable)".into(),
            original_recipient: String::new(),
            offset: 0,
            dsn_original: String::new(),
            notify: 0,
            status: if default == Action::Failed { status(5, 0, 0) } else { status(4, 0, 0) },
            action: default,
            diagnostic: None,
            remote_mta: None,
            reason: "(description unavailable)".into(),
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        let text = value.to_owned();
        match name {
            "recipient" => self.recipient = if value == "<>" { String::new() } else { text },
            "original_recipient" => self.original_recipient = text,
            "offset" => self.offset = value.parse().unwrap_or(0),
            "dsn_orig_rcpt" => self.dsn_original = text,
            "notify_flags" => self.notify = value.parse().ok().filter(|flags| *flags < 16).unwrap_or(0),
            "status" => self.status = Status::parse(value.as_bytes()).unwrap_or(self.status),
            "action" => self.action = Action::of_word(value).unwrap_or(self.action),
            "diag_type" => self.diagnostic_mut().kind = text.into(),
            "diag_text" => self.diagnostic_mut().text = text,
            "mta_mname" => self.remote_mta = Some(text),
            "reason" => self.reason = text,
            _ => {}
        }
    }

    fn diagnostic_mut(&mut self) -> &mut Diagnostic {
        self.diagnostic.get_or_insert_with(|| Diagnostic { kind: "X-Postfix".into(), text: String::new() })
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    out.extend(value.chars().map(masked).collect::<String>().into_bytes());
    out.push(b'\n');
}

fn masked(letter: char) -> char {
    if letter.is_control() { '?' } else { letter }
}

/// Reads entries out of pieces of any size.
#[derive(Debug)]
pub struct Reader {
    default: Action,
    line: Vec<u8>,
    entry: Option<Entry>,
}

impl Reader {
    /// A reader of a file whose entries mean `default` where they do not say: `bounce/` files failed, `defer/` files
    /// delayed.
    #[must_use]
    pub const fn new(default: Action) -> Self {
        Self { default, line: Vec::new(), entry: None }
    }

    /// Takes a piece of the file, and hands out the entries that are complete.
    pub fn take(&mut self, bytes: &[u8], mut found: impl FnMut(Entry)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(byte);
                }
            } else if let Some(entry) = self.end_line() {
                found(entry);
            }
        }
    }

    /// The last entry, if the file does not end with an empty line. A torn line counts as far as it goes.
    #[must_use]
    pub fn finish(mut self) -> Option<Entry> {
        if self.line.is_empty() { self.entry } else { self.end_line().or(self.entry) }
    }

    fn end_line(&mut self) -> Option<Entry> {
        let line =
            String::from_utf8_lossy(&std::mem::take(&mut self.line)).chars().map(masked).collect::<String>();
        if line.is_empty() {
            return self.entry.take();
        }
        let default = self.default;
        // `<recipient>: reason`, for programs that read the format of long ago, repeats what follows.
        if let Some((name, value)) =
            line.split_once('=').filter(|_| line.starts_with(|first: char| first.is_ascii_alphanumeric()))
        {
            self.entry.get_or_insert_with(|| Entry::unknown(default)).set(name.trim(), value.trim());
        } else if let Some((recipient, reason)) =
            line.strip_prefix('<').and_then(|rest| rest.split_once(">: "))
        {
            let entry = self.entry.get_or_insert_with(|| Entry::unknown(default));
            recipient.clone_into(&mut entry.recipient);
            reason.trim().clone_into(&mut entry.reason);
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Postfix 3.7 wrote it.
    const SEEN: &str = "<dave@grey.example>: host mx.grey.example[127.2.0.3] said: 450 4.2.0 greylisted\n\
        recipient=dave@grey.example\noriginal_recipient=joe@x\noffset=624\ndsn_orig_rcpt=rfc822;dave@grey.example\n\
        notify_flags=2\nstatus=4.2.0\naction=delayed\ndiag_type=smtp\ndiag_text=450 4.2.0 greylisted, come back\n\
        mta_type=dns\nmta_mname=mx.grey.example\nreason=host mx.grey.example[127.2.0.3] said: 450 4.2.0 greylisted\n\n";

    fn read(text: &[u8], default: Action) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut reader = Reader::new(default);
        reader.take(text, |entry| entries.push(entry));
        entries.extend(reader.finish());
        entries
    }

    fn entry() -> Entry {
        Entry {
            recipient: "dave@grey.example".into(),
            original_recipient: "joe@x".into(),
            offset: 624,
            dsn_original: "rfc822;dave@grey.example".into(),
            notify: 2,
            status: status(4, 2, 0),
            action: Action::Delayed,
            diagnostic: Some(Diagnostic {
                kind: "smtp".into(),
                text: "450 4.2.0 greylisted, come back".into(),
            }),
            remote_mta: Some("mx.grey.example".into()),
            reason: "host mx.grey.example[127.2.0.3] said: 450 4.2.0 greylisted".into(),
        }
    }

    #[test]
    fn what_postfix_wrote_is_read_and_ours_is_the_same_but_for_the_old_line() {
        assert_eq!(read(SEEN.as_bytes(), Action::Failed), [entry()]);
        let mut out = Vec::new();
        entry().write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), SEEN.split_once('\n').unwrap().1);
    }

    #[test]
    fn the_format_of_long_ago_is_read() {
        let entries = read(b"\n<a@b>: no such user\n\n<c@d>: no\n", Action::Failed);
        assert_eq!((entries[0].recipient.as_str(), entries[0].reason.as_str()), ("a@b", "no such user"));
        assert_eq!((entries.len(), entries[0].status.to_string()), (2, "5.0.0".into()));
        assert_eq!(read(b"<a@b>: no\n", Action::Delayed)[0].status.to_string(), "4.0.0");
    }

    #[test]
    fn an_empty_recipient_and_a_torn_end() {
        let mut empty = entry();
        empty.recipient = String::new();
        let mut out = Vec::new();
        empty.write(&mut out);
        assert!(out.starts_with(b"recipient=<>\n"));
        assert_eq!(read(&out, Action::Failed), [empty]);
        let torn = read(b"recipient=a@b\nstatus=4.2.1\nreas", Action::Delayed);
        assert_eq!(
            (torn[0].recipient.as_str(), torn[0].reason.as_str()),
            ("a@b", "(description unavailable)")
        );
    }

    #[test]
    fn a_line_without_end_does_not_grow() {
        let mut reader = Reader::new(Action::Failed);
        for _ in 0..100 {
            reader.take(&[b'x'; 4096], |_| {});
        }
        assert!(reader.line.len() <= LINE_BYTES_MAX);
    }

    proptest! {
        /// What a remote server says never becomes an attribute of its own, and what is written is read again.
        #[test]
        fn entries_survive(reason in any::<String>(), recipient in "[a-z]{1,5}@[a-z]{1,5}", count in 1usize..4) {
            let mut wanted = entry();
            wanted.recipient = recipient;
            wanted.reason = reason.clone();
            wanted.diagnostic = Some(Diagnostic { kind: "smtp".into(), text: reason });
            let mut out = Vec::new();
            for _ in 0..count {
                wanted.write(&mut out);
            }
            let entries = read(&out, Action::Failed);
            let shown = |text: &str| text.chars().map(masked).collect::<String>().trim().to_owned();
            prop_assert_eq!(entries.len(), count);
            for found in entries {
                prop_assert_eq!(&found.reason, &shown(&wanted.reason));
                prop_assert_eq!((found.offset, found.status), (wanted.offset, wanted.status));
            }
        }

        /// No file makes the reader panic, and pieces do not matter.
        #[test]
        fn pieces_do_not_matter(text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), Just(b'<'), any::<u8>()], 0..200), cut in 0usize..200) {
            let whole = read(&text, Action::Delayed);
            let (head, tail) = text.split_at(cut.min(text.len()));
            let mut entries = Vec::new();
            let mut reader = Reader::new(Action::Delayed);
            reader.take(head, |entry| entries.push(entry));
            reader.take(tail, |entry| entries.push(entry));
            entries.extend(reader.finish());
            prop_assert_eq!(entries, whole);
        }
    }
}
