//! `milter_header_checks`: what an operator's rule makes of a header that a filter adds or changes.

use postfix::notice::Notice;

use super::inspection::Inspection;
use crate::rule::{Action, Complaint, Rule, refused, rejection, split};
use crate::tables::{Key, LookupFailed, Maps};
use postfix::text::printable;

/// Bytes of a header that are logged.
const LOGGED_HEADER_LEN_MAX: usize = 200;

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
        let parameter = Maps::MilterHeaderChecks.parameter();
        let rule = match Rule::parse(rule, true) {
            // Postfix has no way to put a text before such a header, and so never asks what the text is.
            Err(Complaint::MissingText(Action::Prepend) | Complaint::BadHeader(Action::Prepend, _)) => {
                Ok(Rule { action: Action::Prepend, argument: split(rule).1 })
            }
            Ok(Rule { action: Action::Pass, .. }) => Err(Complaint::Unknown(rule)),
            rule => rule,
        };
        let Rule { action, argument } = match rule {
            Ok(rule) => rule,
            Err(complaint) => {
                let words = complaint.words(parameter, |text| self.shown(text));
                self.warn(&words.replacen("unknown command", "unsupported command", 1));
                return Some(header);
            }
        };
        match action {
            Action::Nothing | Action::Pass => return Some(header),
            Action::Ignore => return None,
            Action::Reject => {
                self.reject(&header, argument);
                return Some(header);
            }
            Action::Hold if self.is_held => return Some(header),
            Action::Hold => self.is_held = true,
            Action::Discard => (self.is_discarded, self.header_rules.is_over) = (true, true),
            Action::Filter => self.header_rules.filter = Some(argument.to_vec()),
            Action::Redirect => {
                self.header_rules.redirect = Some(argument.to_vec());
                self.header_rules.is_over = true;
            }
            Action::Bcc | Action::Warn | Action::Info | Action::Replace | Action::Prepend | Action::Strip => {
            }
        }
        let shown = self.shown(argument);
        self.log_rule(action, &header, &shown);
        match action {
            Action::Bcc => self.add_recipient(argument, b""),
            Action::Prepend => self.warn("the milter_header/body_checks prepend action is not implemented"),
            Action::Replace => return Some(argument.to_vec()),
            Action::Strip => return None,
            _ => {}
        }
        Some(header)
    }

    fn reject(&mut self, header: &[u8], argument: &[u8]) {
        let (reason, complaint) = rejection(argument, |text| self.shown(text));
        if let Some(complaint) = complaint {
            self.warn(&complaint);
        }
        self.header_rules.is_over = true;
        self.log_rule(Action::Reject, header, &reason);
        self.refusal = Some(refused(reason));
    }

    fn log_rule(&mut self, action: Action, header: &[u8], argument: &str) {
        let header =
            printable(header.get(..LOGGED_HEADER_LEN_MAX).unwrap_or(header), self.options.smtputf8_enable);
        let names = self.log_names();
        let line = format!(
            "{}: milter-header-{}: header {header} from localhost[{}];{names}: {argument}",
            self.queue_id,
            action.log_word(),
            self.client_address
        );
        self.notices.push(Notice::info(line));
    }
}
