//! Reports to a sender or to the postmaster, as messages (RFC 3464; the shape is Postfix's, the words are ours).
//!
//! A report is made of three parts: [`Report::begin`] with the header and the text, an entry for each recipient, twice
//! ([`Report::explain`], then [`Report::status_fields`]), and what surrounds the original. The original itself is the
//! caller's to copy, line by line: it may be large.
//!
//! ```text
//! begin ─ explain* ─ begin_status ─ status_fields* ─ begin_original ─ (lines of the original) ─ end
//! ```
//!
//! All text comes as lines with LF.

use crate::failure_log::Entry;

/// Lines of explanation are wrapped at this column.
const WRAP_COLUMN: usize = 79;
const WRAP_INDENT: &str = "    ";

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Recipients that are given up.
    Failure,
    /// Recipients that are still tried.
    Delay,
    /// Recipients that were delivered, where the sender asked to be told.
    Success,
}

/// Who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The sender of the message.
    Sender,
    /// The postmaster: a copy, or because there is no sender.
    Postmaster,
}

/// How much of the original follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// All of it.
    Whole,
    /// Its headers.
    Headers,
}

/// What all reports of a message share.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// What it is about.
    pub kind: Kind,
    /// Who gets it.
    pub reader: Reader,
    /// The address that gets it, in quoted form.
    pub recipient: &'a str,
    /// `myhostname`.
    pub hostname: &'a str,
    /// `mail_name`, for the names of fields.
    pub mail_name: &'a str,
    /// The queue ID of the message.
    pub queue_id: &'a str,
    /// Its envelope sender in quoted form; empty: the null sender.
    pub sender: &'a str,
    /// Its envelope ID, if the sender gave one.
    pub envelope_id: Option<&'a str>,
    /// Its Message-ID with brackets, where the report is to be shown in the same thread.
    pub message_id: Option<&'a str>,
    /// When it arrived, as a Date header has it.
    pub arrival_date: &'a str,
    /// Until when it is tried; delay reports say so.
    pub retry_until: Option<&'a str>,
    /// Seconds since 1970 now: part of the boundary.
    pub now: u64,
    /// Does the message, or may the report, hold bytes of 128 and more?
    pub is_eight_bit: bool,
    /// Did the sender ask for SMTPUTF8?
    pub is_smtp_utf8: bool,
    /// How much of the original follows.
    pub original: Original,
}

impl Report<'_> {
    /// The header, and the text for a human reader up to the recipients.
    #[must_use]
    pub fn begin(&self) -> String {
        let boundary = self.boundary();
        let encoding = if self.is_eight_bit { "8bit" } else { "7bit" };
        let charset = if self.is_eight_bit { "utf-8" } else { "us-ascii" };
        let threads =
            self.message_id.map_or_else(String::new, |id| format!("References: {id}\nIn-Reply-To: {id}\n"));
        let automatic = if self.reader == Reader::Postmaster { "auto-generated" } else { "auto-replied" };
        let mut text = format!(
            "From: Mail Delivery System <MAILER-DAEMON>\n\
             Subject: {}\n\
             To: {}\n\
             {threads}\
             Auto-Submitted: {automatic}\n\
             MIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=delivery-status;\n\
             \tboundary=\"{boundary}\"\n\
             Content-Transfer-Encoding: {encoding}\n\
             \n\
             This is a MIME-encapsulated message.\n\
             \n\
             --{boundary}\n\
             Content-Description: Notification\n\
             Content-Type: text/plain; charset={charset}\n",
            self.subject(),
            self.recipient,
        );
        self.add_encoding(&mut text);
        text.push('\n');
        if self.reader == Reader::Sender {
            text.push_str(&self.words());
        }
        text
    }

    /// What happened to a recipient, for a human reader.
    #[must_use]
    pub fn explain(&self, entry: &Entry) -> String {
        let from = match entry.original_recipient.as_str() {
            "" => String::new(),
            original => format!(" (expanded from <{original}>)"),
        };
        format!("\n{}", wrapped(&format!("<{}>{from}: {}", entry.recipient, entry.reason)))
    }

    /// What comes between the explanations and the fields for programs.
    #[must_use]
    pub fn begin_status(&self) -> String {
        let boundary = self.boundary();
        let global = if self.is_smtp_utf8 { "global-" } else { "" };
        let mut text = format!(
            "\n--{boundary}\nContent-Description: Delivery report\nContent-Type: message/{global}delivery-status\n"
        );
        self.add_encoding(&mut text);
        text.push_str(&format!("\nReporting-MTA: dns; {}\n", self.hostname));
        if let Some(id) = self.envelope_id {
            text.push_str(&format!("Original-Envelope-Id: {id}\n"));
        }
        let sender_type = if self.is_smtp_utf8 && !self.sender.is_ascii() { "utf-8" } else { "rfc822" };
        text.push_str(&format!("X-{}-Queue-ID: {}\n", self.mail_name, self.queue_id));
        if !self.sender.is_empty() {
            text.push_str(&format!("X-{}-Sender: {sender_type}; {}\n", self.mail_name, self.sender));
        }
        text.push_str(&format!("Arrival-Date: {}\n", self.arrival_date));
        text
    }

    /// What happened to a recipient, for programs.
    #[must_use]
    pub fn status_fields(&self, entry: &Entry) -> String {
        let kind_of =
            |address: &str| if self.is_smtp_utf8 && !address.is_ascii() { "utf-8" } else { "rfc822" };
        let mut text = format!("\nFinal-Recipient: {}; {}\n", kind_of(&entry.recipient), entry.recipient);
        if !entry.dsn_original.is_empty() {
            text.push_str(&format!("Original-Recipient: {}\n", entry.dsn_original));
        } else if !entry.original_recipient.is_empty() {
            let original = &entry.original_recipient;
            text.push_str(&format!("Original-Recipient: {}; {original}\n", kind_of(original)));
        }
        let action = if self.kind == Kind::Failure { "failed" } else { entry.action.word() };
        text.push_str(&format!("Action: {action}\nStatus: {}\n", entry.status));
        if let Some(host) = &entry.remote_mta {
            text.push_str(&wrapped(&format!("Remote-MTA: dns; {host}")));
        }
        text.push_str(&wrapped(&match &entry.diagnostic {
            Some(diagnostic) => format!("Diagnostic-Code: {}; {}", diagnostic.kind, diagnostic.text),
            None => format!("Diagnostic-Code: X-{}; {}", self.mail_name, entry.reason),
        }));
        if let Some(until) = self.retry_until.filter(|_| self.kind == Kind::Delay) {
            text.push_str(&format!("Will-Retry-Until: {until}\n"));
        }
        text
    }

    /// What comes before the original.
    #[must_use]
    pub fn begin_original(&self) -> String {
        let (description, kind, global) = match self.original {
            Original::Whole => ("Message", "message/rfc822", "message/global"),
            Original::Headers => ("Message Headers", "text/rfc822-headers", "message/global-headers"),
        };
        let undelivered = if self.kind == Kind::Success { "" } else { "Undelivered " };
        let kind = if self.is_smtp_utf8 { global } else { kind };
        let boundary = self.boundary();
        let mut text = format!(
            "\n--{boundary}\nContent-Description: {undelivered}{description}\nContent-Type: {kind}\n"
        );
        self.add_encoding(&mut text);
        text.push_str(&format!("\nReturn-Path: <{}>\n", self.sender));
        text
    }

    /// What ends the report.
    #[must_use]
    pub fn end(&self) -> String {
        format!("\n--{}--\n", self.boundary())
    }

    fn boundary(&self) -> String {
        format!("{}.{}/{}", self.queue_id, self.now, self.hostname)
    }

    fn add_encoding(&self, text: &mut String) {
        if self.is_eight_bit {
            text.push_str("Content-Transfer-Encoding: 8bit\n");
        }
    }

    const fn subject(&self) -> &'static str {
        match (self.kind, self.reader) {
            (Kind::Failure, Reader::Sender) => "Undelivered Mail Returned to Sender",
            (Kind::Failure, Reader::Postmaster) => "Postmaster Copy: Undelivered Mail",
            (Kind::Delay, Reader::Sender) => "Delayed Mail (still being retried)",
            (Kind::Delay, Reader::Postmaster) => "Postmaster Warning: Delayed Mail",
            (Kind::Success, _) => "Successful Mail Delivery Report",
        }
    }

    fn words(&self) -> String {
        let host = self.hostname;
        let rest = match self.kind {
            Kind::Failure => {
                "Your message could not be delivered to the recipients listed below.\n\
                 It is not tried again. The message, or its headers, are attached.\n\
                 \n\
                 If you need help, write to postmaster and include this report. Your own\n\
                 text in the attached message is not needed and may be removed.\n"
            }
            Kind::Delay => {
                "YOU NEED NOT SEND YOUR MESSAGE AGAIN: this is only a notice.\n\
                 \n\
                 Your message has not yet been delivered to the recipients listed below.\n\
                 It is tried again until it succeeds or its time is up.\n"
            }
            Kind::Success => {
                "Your message was delivered to the recipients listed below, or was handed\n\
                 over to a mail system that sends no further notice of success.\n"
            }
        };
        format!("This is the mail system at {host}.\n\n{rest}")
    }
}

/// Wraps a line between words: further lines are indented. A word that is too long for a line stays whole, and blanks
/// between the words of a line stay as they are.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let (mut start, mut width, mut indent) = (0, WRAP_COLUMN, "");
    let blanks = text.match_indices([' ', '\t']).map(|(at, _)| at);
    let mut word = 0;
    for end in blanks.chain([text.len()]) {
        if word > start && end.saturating_sub(start) > width {
            let line = text.get(start..word).unwrap_or_default().trim_end();
            lines.push_str(&format!("{indent}{line}\n"));
            (width, indent) = (WRAP_COLUMN - WRAP_INDENT.len(), WRAP_INDENT);
            start = word;
        }
        word = end + 1;
    }
    let rest = text.get(start..).unwrap_or_default().trim();
    lines.push_str(&format!("{indent}{rest}\n"));
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::failure_log::Action;
    use crate::outcome::{Diagnostic, status};

    fn report() -> Report<'static> {
        Report {
            kind: Kind::Failure,
            reader: Reader::Sender,
            recipient: "alice@sender.example",
            hostname: "mx.example.test",
            mail_name: "Postfix",
            queue_id: "1C835288",
            sender: "alice@sender.example",
            envelope_id: Some("QQ123"),
            message_id: None,
            arrival_date: "Mon, 30 Nov 2026 16:54:48 +0000 (UTC)",
            retry_until: None,
            now: 1_796_057_688,
            is_eight_bit: true,
            is_smtp_utf8: false,
            original: Original::Whole,
        }
    }

    fn entry() -> Entry {
        Entry {
            recipient: "carol@bad.example".into(),
            original_recipient: String::new(),
            offset: 1,
            dsn_original: "rfc822;carol@bad.example".into(),
            notify: 0,
            status: status(5, 1, 1),
            action: Action::Failed,
            diagnostic: Some(Diagnostic { kind: "smtp".into(), text: "550 5.1.1 no such user here".into() }),
            remote_mta: Some("mx.bad.example".into()),
            reason: "host mx.bad.example[127.2.0.2] said: 550 5.1.1 no such user here (in reply to RCPT TO command)".into(),
        }
    }

    fn whole(report: &Report<'_>, entry: &Entry) -> String {
        [
            report.begin(),
            report.explain(entry),
            report.begin_status(),
            report.status_fields(entry),
            report.begin_original(),
            "Subject: x\n\nbody\n".into(),
            report.end(),
        ]
        .concat()
    }

    /// The lines around our own words are those of Postfix 3.7, but for what its cleanup adds to the header.
    #[test]
    fn a_failure_has_the_shape_of_postfix_s() {
        let wanted = "From: Mail Delivery System <MAILER-DAEMON>
Subject: Undelivered Mail Returned to Sender
To: alice@sender.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"1C835288.1796057688/mx.example.test\"
Content-Transfer-Encoding: 8bit

This is a MIME-encapsulated message.

--1C835288.1796057688/mx.example.test
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

WORDS
<carol@bad.example>: host mx.bad.example[127.2.0.2] said: 550 5.1.1 no such
    user here (in reply to RCPT TO command)

--1C835288.1796057688/mx.example.test
Content-Description: Delivery report
Content-Type: message/delivery-status
Content-Transfer-Encoding: 8bit

Reporting-MTA: dns; mx.example.test
Original-Envelope-Id: QQ123
X-Postfix-Queue-ID: 1C835288
X-Postfix-Sender: rfc822; alice@sender.example
Arrival-Date: Mon, 30 Nov 2026 16:54:48 +0000 (UTC)

Final-Recipient: rfc822; carol@bad.example
Original-Recipient: rfc822;carol@bad.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.bad.example
Diagnostic-Code: smtp; 550 5.1.1 no such user here

--1C835288.1796057688/mx.example.test
Content-Description: Undelivered Message
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Return-Path: <alice@sender.example>
Subject: x

body

--1C835288.1796057688/mx.example.test--
";
        let report = report();
        assert_eq!(whole(&report, &entry()).replace(&report.words(), "WORDS"), wanted);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut plain = entry();
        (plain.diagnostic, plain.remote_mta) = (None, None);
        plain.dsn_original = String::new();
        plain.original_recipient = "joe@x".into();
        plain.reason = "unknown user: \"carol\"".into();
        let report = Report {
            sender: "",
            envelope_id: None,
            is_eight_bit: false,
            original: Original::Headers,
            ..report()
        };
        let text = whole(&report, &plain);
        for absent in ["Original-Envelope-Id", "X-Postfix-Sender", "Remote-MTA", "8bit", "utf-8"] {
            assert!(!text.contains(absent), "{absent}");
        }
        for present in [
            "<carol@bad.example> (expanded from <joe@x>): unknown user",
            "Original-Recipient: rfc822; joe@x\n",
            "Diagnostic-Code: X-Postfix; unknown user: \"carol\"\n",
            "Content-Description: Undelivered Message Headers\nContent-Type: text/rfc822-headers\n",
            "Return-Path: <>\n",
        ] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }

    #[test]
    fn a_delay_says_until_when_and_keeps_its_action() {
        let mut late = entry();
        late.action = Action::Delayed;
        let report = Report { kind: Kind::Delay, retry_until: Some("Sat, 5 Dec"), ..report() };
        let fields = report.status_fields(&late);
        assert!(fields.contains("Action: delayed\n") && fields.ends_with("Will-Retry-Until: Sat, 5 Dec\n"));
        // A message that expired keeps what was said of it, but its action is failed.
        late.status = status(4, 2, 0);
        let fields = Report { kind: Kind::Failure, ..report.clone() }.status_fields(&late);
        assert!(fields.contains("Action: failed\nStatus: 4.2.0\n"));
    }

    #[test]
    fn the_postmaster_gets_no_words_and_threads_get_references() {
        let report = Report { reader: Reader::Postmaster, message_id: Some("<1@x>"), ..report() };
        let text = report.begin();
        assert!(text.contains("Subject: Postmaster Copy: Undelivered Mail\n"));
        assert!(text.contains("References: <1@x>\nIn-Reply-To: <1@x>\nAuto-Submitted: auto-generated\n"));
        assert!(text.ends_with("Content-Transfer-Encoding: 8bit\n\n"));
    }

    #[test]
    fn utf8_addresses_are_named_as_such_where_the_sender_asked_for_them() {
        let mut global = entry();
        global.recipient = "j\u{f6}rg@b.example".into();
        let report = Report { is_smtp_utf8: true, sender: "\u{e4}@b.example", ..report() };
        let text = whole(&report, &global);
        for present in [
            "Final-Recipient: utf-8; j\u{f6}rg",
            "X-Postfix-Sender: utf-8; \u{e4}@",
            "message/global-delivery-status",
            "Content-Type: message/global\n",
        ] {
            assert!(text.contains(present), "{present}");
        }
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let word = "x".repeat(100);
        for (text, lines) in [
            ("short".to_owned(), vec!["short".to_owned()]),
            (format!("a {word} b"), vec!["a".into(), format!("    {word}"), "    b".into()]),
            (format!("{} y", "x".repeat(77)), vec![format!("{} y", "x".repeat(77))]),
            (format!("{} yy", "x".repeat(77)), vec!["x".repeat(77), "    yy".into()]),
            (format!("a  b   {word}"), vec!["a  b".into(), format!("    {word}")]),
            (String::new(), vec![String::new()]),
        ] {
            assert_eq!(wrapped(&text).lines().collect::<Vec<_>>(), lines, "{text:?}");
        }
    }
}
