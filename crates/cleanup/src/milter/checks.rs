//! `milter_header_checks`: what an operator's rule makes of a header that a filter adds or changes.

use postfix::notice::Notice;

use super::inspection::Inspection;
use crate::header::name_len;
use crate::printable::printable;
use crate::refusal::Refusal;
use crate::rules::{split_rule, with_dsn};
use crate::tables::{Key, LookupFailed, Maps};

/// Bytes of a header that are logged.
const LOGGED_HEADER_LEN_MAX: usize = 200;

/// What rules about headers of filters have decided about the message.
#[derive(Debug, Default)]
pub(super) struct HeaderRules {
    /// `transport:next-hop`
    pub(super) filter: Option<Vec<u8>>,
    /// The address that takes the place of all recipients.
    pub(super) redirect: Option<Vec<u8>>,
    /// A rule has decided: no rule looks at further headers.
    is_over: bool,
}

impl Inspection {
    /// Shows a header that a filter adds or changes to the rules. Returns what to write, if it is to be written.
    pub(super) fn check_header(&mut self, header: Vec<u8>) -> Option<Vec<u8>> {
        if self.header_rules.is_over || !self.tables.has(Maps::MilterHeaderChecks) {
            return Some(header);
        }
        let mut notices = Vec::new();
        let found = self.tables.find(Maps::MilterHeaderChecks, Key::Whole(&header), &mut notices);
        notices.into_iter().for_each(|notice| self.notices.push(notice));
        match found {
            Ok(None) => Some(header),
            Ok(Some(rule)) => self.act(&rule, header),
            Err(LookupFailed) => {
                let queue_id = self.queue_id();
                let parameter = Maps::MilterHeaderChecks.parameter();
                let text = format!(
                    "{queue_id}: {parameter} map lookup problem -- message not accepted, try again later"
                );
                self.warn(&text);
                self.fail();
                None
            }
        }
    }

    fn act(&mut self, rule: &[u8], header: Vec<u8>) -> Option<Vec<u8>> {
        let (command, argument) = split_rule(rule);
        let shown = printable(argument, self.options.smtputf8_enable);
        let is = |name: &str| command.eq_ignore_ascii_case(name.as_bytes());
        let parameter = Maps::MilterHeaderChecks.parameter();
        if is("REJECT") {
            self.reject(&header, argument);
        } else if is("DISCARD") {
            self.log_rule("discard", &header, &shown);
            self.is_discarded = true;
            self.header_rules.is_over = true;
        } else if is("HOLD") {
            if !std::mem::replace(&mut self.is_held, true) {
                self.log_rule("hold", &header, &shown);
            }
        } else if is("FILTER") {
            if argument.is_empty() {
                self.warn(&format!("missing FILTER command argument in {parameter} map"));
            } else if !argument.contains(&b':') {
                self.warn(&format!(
                    "bad FILTER command {shown} in {parameter} -- need transport:destination"
                ));
            } else {
                self.header_rules.filter = Some(argument.to_vec());
                self.log_rule("filter", &header, &shown);
            }
        } else if is("REDIRECT") {
            if argument.contains(&b'@') {
                self.header_rules.redirect = Some(argument.to_vec());
                self.header_rules.is_over = true;
                self.log_rule("redirect", &header, &shown);
            } else {
                self.warn(&format!("bad REDIRECT target \"{shown}\" in {parameter} map -- need user@domain"));
            }
        } else if is("BCC") {
            if argument.contains(&b'@') {
                self.log_rule("bcc", &header, &shown);
                self.add_recipient(argument, b"");
            } else {
                self.warn(&format!("bad BCC address \"{shown}\" in {parameter} map -- need user@domain"));
            }
        } else if is("WARN") {
            self.log_rule("warning", &header, &shown);
        } else if is("INFO") {
            self.log_rule("info", &header, &shown);
        } else if is("REPLACE") {
            if argument.is_empty() {
                self.warn(&format!("REPLACE action without text in {parameter} map"));
            } else if name_len(argument).is_none() {
                self.warn(&format!(
                    "bad REPLACE header text \"{shown}\" in {parameter} map -- need \"headername: headervalue\""
                ));
            } else {
                self.log_rule("replace", &header, &shown);
                return Some(argument.to_vec());
            }
        } else if is("PREPEND") {
            self.log_rule("prepend", &header, &shown);
            self.warn("the milter_header/body_checks prepend action is not implemented");
        } else if is("STRIP") {
            self.log_rule("strip", &header, &shown);
            return None;
        } else if is("IGNORE") {
            return None;
        } else if !is("DUNNO") && !is("OK") {
            let rule = printable(rule, self.options.smtputf8_enable);
            self.warn(&format!("unsupported command in {parameter} map: {rule}"));
        }
        Some(header)
    }

    fn reject(&mut self, header: &[u8], argument: &[u8]) {
        let utf8 = self.options.smtputf8_enable;
        let mut reason = if argument.is_empty() {
            "5.7.1 message content rejected".to_owned()
        } else {
            printable(&with_dsn("5.7.1", argument), utf8)
        };
        if !reason.starts_with(['4', '5']) {
            let shown = printable(argument, utf8);
            self.warn(&format!("bad DSN action in {shown} -- need 4.x.x or 5.x.x"));
            reason.replace_range(..1, "4");
        }
        self.header_rules.is_over = true;
        self.log_rule("reject", header, &reason);
        self.refusal = Some(if reason.starts_with('4') {
            Refusal::Defer { text: reason }
        } else {
            Refusal::Content { text: reason }
        });
    }

    fn log_rule(&mut self, action: &str, header: &[u8], argument: &str) {
        let header =
            printable(header.get(..LOGGED_HEADER_LEN_MAX).unwrap_or(header), self.options.smtputf8_enable);
        let names = self.log_names();
        let line = format!(
            "{}: milter-header-{action}: header {header} from localhost[{}];{names}: {argument}",
            self.queue_id, self.client_address
        );
        self.notices.push(Notice::info(line));
    }
}
