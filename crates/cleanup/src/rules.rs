//! header_checks, body_checks and similar parameters: applies an operator's rule to one header or line.

use std::collections::BTreeSet;
use std::sync::Arc;

use postfix::notice::Notice;

use crate::finished::Fate;
use crate::mime::{MimeError, Section};
use crate::notices::Notices;
use crate::options::{Options, Origin};
use crate::refusal::Refusal;
use crate::rule::{Action, Rule, refused, rejection};
use crate::tables::{Key, LookupFailed, Maps, Tables};
use postfix::text::printable;
use postfix::text::until_nul;

/// Bytes of an argument that are logged; the logs of Postfix cut lines at this length.
const LOGGED_ARGUMENT_LEN_MAX: usize = 2000;

/// Recipients that rules may add to one message.
const ADDED_RECIPIENTS_MAX: usize = 1000;

/// What a rule looked at, as log lines call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Header,
    Body,
    Content,
}

impl Subject {
    const fn word(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Content => "content",
        }
    }
}

/// What becomes of the header or line that a rule looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Keep,
    Drop,
    /// This goes before it.
    Prepend(Vec<u8>),
    /// This takes its place.
    Replace(Vec<u8>),
}

/// What rules have decided about the message as a whole.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// Nothing else is to be looked at: no rules, no milters.
    pub(crate) is_passed: bool,
    pub(crate) is_held: bool,
    pub(crate) is_discarded: bool,
    /// `transport:next-hop`
    pub(crate) filter: Option<Vec<u8>>,
    /// The only recipient.
    pub(crate) redirect: Option<Vec<u8>>,
    /// Further recipients, each once.
    pub(crate) recipients: Vec<Vec<u8>>,
    known_recipients: BTreeSet<Vec<u8>>,
}

impl Decisions {
    pub(crate) const fn fate(&self) -> Fate {
        if self.is_discarded {
            Fate::Discard
        } else if self.is_held {
            Fate::Hold
        } else {
            Fate::Deliver
        }
    }
}

/// The rules, and what came of them so far.
#[derive(Debug)]
pub(crate) struct Rules {
    options: Arc<Options>,
    tables: Arc<dyn Tables>,
    queue_id: String,
    /// The client, as log lines call it.
    origin: String,
    protocol: &'static str,
    has_header_rules: bool,
    has_body_rules: bool,
    /// Nothing is looked at because of what was foreseen about a header that comes later.
    is_passed_by_foresight: bool,
    /// What comes is the first line of the content, or its first piece: our own Received header ends only with it, so
    /// that no rule can have ended all looking yet.
    is_first_line: bool,
    /// The message is refused for a character in that line: no rule sees our Received header.
    pub(crate) is_first_line_refused: bool,
    pub(crate) decisions: Decisions,
    /// Why the message is refused; nothing of it is looked at any more.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) notices: Notices,
}

impl Rules {
    pub(crate) fn new(
        options: Arc<Options>,
        tables: Arc<dyn Tables>,
        queue_id: &str,
        origin: &Origin,
    ) -> Self {
        let has = |maps| options.header_body_checks && tables.has(maps);
        Self {
            has_header_rules: HEADER_MAPS.into_iter().any(has),
            has_body_rules: has(Maps::BodyChecks),
            is_passed_by_foresight: false,
            is_first_line: true,
            is_first_line_refused: false,
            options,
            tables,
            queue_id: queue_id.to_owned(),
            origin: origin.log_origin.clone(),
            protocol: origin.protocol,
            decisions: Decisions::default(),
            refusal: None,
            notices: Notices::default(),
        }
    }

    /// The same rules, for something that comes before all that was looked at.
    pub(crate) fn anew(&self) -> Self {
        Self {
            options: Arc::clone(&self.options),
            tables: Arc::clone(&self.tables),
            queue_id: self.queue_id.clone(),
            origin: self.origin.clone(),
            is_passed_by_foresight: false,
            decisions: Decisions::default(),
            refusal: None,
            notices: Notices::default(),
            ..*self
        }
    }

    /// Looks at what our own Received: header, the first of the message, may become. If each of its forms leads to a rule
    /// that ends all looking, nothing else is looked at; [`Rules::follow`] holds that against what it became.
    pub(crate) fn foresee(&mut self, headers: &[Vec<u8>]) {
        let ends = |header: &Vec<u8>| {
            let key = Key::Whole(until_nul(header));
            // What is wrong with a table is said when the header itself is looked up.
            let found = self.tables.find(Maps::HeaderChecks, key, &mut Vec::new());
            let rule = found.ok().flatten();
            rule.is_some_and(|rule| Rule::parse(until_nul(&rule), true).is_ok_and(|rule| rule.ends_looking()))
        };
        if self.has_header_rules && headers.iter().all(ends) {
            self.is_passed_by_foresight = true;
            self.decisions.is_passed = true;
        }
    }

    /// The message will be refused or vanish: nothing more of it is looked at.
    #[inline]
    pub(crate) const fn is_over(&self) -> bool {
        self.refusal.is_some() || self.decisions.is_discarded
    }

    /// Puts what came of all that follows behind what came of this, unless that has ended all looking.
    pub(crate) fn follow(&mut self, mut later: Self) {
        if self.is_over() {
            return;
        }
        if later.is_passed_by_foresight && !later.is_first_line_refused && !self.decisions.is_passed {
            let queue_id = &self.queue_id;
            self.warn(format!(
                "{queue_id}: the header_checks result for our own Received header depends on the recipient and \
                 could not be predicted, and the content was not checked -- message not accepted, try again later"
            ));
            self.refuse(Refusal::Write);
            return;
        }
        if self.decisions.is_held && later.decisions.is_held {
            later.notices.remove_naming_envelope(&format!("{}: hold: ", self.queue_id));
        }
        self.notices.append(later.notices);
        self.refusal = later.refusal;
        let Decisions { is_passed, is_held, is_discarded, filter, redirect, recipients, .. } =
            later.decisions;
        self.decisions.is_passed |= is_passed;
        self.decisions.is_held |= is_held;
        self.decisions.is_discarded |= is_discarded;
        self.decisions.filter = filter.or_else(|| self.decisions.filter.take());
        self.decisions.redirect = redirect.or_else(|| self.decisions.redirect.take());
        for recipient in recipients {
            self.add_recipient(&recipient);
        }
    }

    pub(crate) const fn has_header_rules(&self) -> bool {
        self.has_header_rules
    }

    /// Keeps the gravest reason.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        if self.refusal.as_ref().is_none_or(|known| refusal.rank() < known.rank()) {
            self.refusal = Some(refusal);
        }
    }

    /// Looks at a header, complete and normalised.
    #[inline]
    pub(crate) fn header(&mut self, section: Section, header: &[u8]) -> Change {
        if !self.has_header_rules {
            return Change::Keep;
        }
        let maps = match section {
            Section::Primary => Maps::HeaderChecks,
            Section::Part => Maps::MimeHeaderChecks,
            Section::Nested => Maps::NestedHeaderChecks,
        };
        self.ask(maps, Subject::Header, header)
    }

    /// Looks at a record of the body, with as many bytes of the body before it.
    #[inline]
    pub(crate) fn body(&mut self, line: &[u8], offset: u64) -> Change {
        let limit = self.options.body_checks_size_limit;
        if !self.has_body_rules || limit != 0 && offset >= limit {
            return Change::Keep;
        }
        self.ask(Maps::BodyChecks, Subject::Body, line)
    }

    /// Whether lines of a body can be kept without being looked at.
    #[inline]
    pub(crate) fn passes_body(&self) -> bool {
        !self.has_body_rules && !self.looks_at_characters()
    }

    /// Whether there are characters to look for.
    #[inline]
    pub(crate) fn looks_at_characters(&self) -> bool {
        let Options { message_reject_characters, message_strip_characters, .. } = &*self.options;
        self.is_looking() && !(message_reject_characters.is_empty() && message_strip_characters.is_empty())
    }

    /// Whether a record has bytes for which the message is to be refused, which is done then.
    #[inline]
    pub(crate) fn rejects_characters(&mut self, record: &[u8]) -> bool {
        let rejected = &self.options.message_reject_characters;
        if rejected.is_empty() || !self.is_looking() || !record.iter().any(|byte| rejected.contains(byte)) {
            return false;
        }
        self.act(Subject::Content, record, b"REJECT disallowed character", "message_reject_characters");
        self.is_first_line_refused = self.is_first_line;
        true
    }

    /// The first line of the content has been looked at.
    #[inline]
    pub(crate) const fn end_first_line(&mut self) {
        self.is_first_line = false;
    }

    /// Removes what is to be removed from a record.
    #[inline]
    pub(crate) fn strip_characters(&self, record: &mut Vec<u8>) {
        let stripped = &self.options.message_strip_characters;
        if !stripped.is_empty() && self.is_looking() {
            record.retain(|byte| !stripped.contains(byte));
        }
    }

    fn is_looking(&self) -> bool {
        let is_passed = self.decisions.is_passed && !(self.is_first_line && self.is_passed_by_foresight);
        self.options.header_body_checks && !is_passed
    }

    /// Something in the message is wrong by the standards of MIME, which counts at its end.
    pub(crate) fn mime_error(&mut self, error: MimeError, text: &[u8]) {
        let shown = logged(&self.options, text, 100);
        let before = format!("{} {shown} from {};", self.start_of_mime_error(error), self.origin);
        self.notices.push_naming_envelope(before, String::new(), Some("unknown"));
    }

    /// Forgets a line that [`Rules::mime_error`] made.
    pub(crate) fn forget_mime_error(&mut self, error: MimeError) {
        let start = self.start_of_mime_error(error);
        self.notices.remove_naming_envelope(&start);
    }

    fn start_of_mime_error(&self, error: MimeError) -> String {
        format!("{}: reject: mime-error {}:", self.queue_id, error.text())
    }

    fn ask(&mut self, maps: Maps, subject: Subject, text: &[u8]) -> Change {
        let text = until_nul(text);
        if self.decisions.is_passed || text.is_empty() {
            return Change::Keep;
        }
        let mut notices = Vec::new();
        let found = self.tables.find(maps, Key::Whole(text), &mut notices);
        for notice in notices {
            self.notices.push(notice);
        }
        match found {
            Ok(None) => Change::Keep,
            Ok(Some(value)) => self.act(subject, text, until_nul(&value), maps.parameter()),
            Err(LookupFailed) => {
                let (queue_id, parameter) = (&self.queue_id, maps.parameter());
                self.warn(format!(
                    "{queue_id}: {parameter} map lookup problem -- message not accepted, try again later"
                ));
                self.refuse(Refusal::Write);
                Change::Keep
            }
        }
    }

    /// Does what a rule says.
    fn act(&mut self, subject: Subject, text: &[u8], rule: &[u8], parameter: &str) -> Change {
        let show = |text: &[u8]| logged(&self.options, text, LOGGED_ARGUMENT_LEN_MAX);
        let Rule { action, argument } = match Rule::parse(rule, subject == Subject::Header) {
            Ok(rule) => rule,
            Err(complaint) => {
                let words = complaint.words(parameter, show);
                self.warn(words);
                return Change::Keep;
            }
        };
        let shown = show(argument);
        let decisions = &mut self.decisions;
        let mut change = Change::Keep;
        match action {
            Action::Nothing => return Change::Keep,
            Action::Ignore => return Change::Drop,
            Action::Hold if decisions.is_held || decisions.is_discarded => return Change::Keep,
            Action::Reject => {
                self.reject(subject, text, argument);
                return Change::Keep;
            }
            Action::Warn | Action::Info => {}
            Action::Filter => decisions.filter = Some(argument.to_vec()),
            Action::Pass => decisions.is_passed = true,
            Action::Discard => (decisions.is_discarded, decisions.is_passed) = (true, true),
            Action::Hold => decisions.is_held = true,
            Action::Redirect => {
                decisions.redirect = Some(argument.to_vec());
                decisions.is_passed = true;
            }
            Action::Bcc => self.add_recipient(argument),
            Action::Prepend => change = Change::Prepend(argument.to_vec()),
            Action::Replace => change = Change::Replace(argument.to_vec()),
            Action::Strip => change = Change::Drop,
        }
        self.log(action, subject, text, &shown);
        change
    }

    fn reject(&mut self, subject: Subject, text: &[u8], argument: &[u8]) {
        let utf8 = self.options.smtputf8_enable;
        let (reason, complaint) = rejection(argument, |text| printable(text, utf8));
        if let Some(complaint) = complaint {
            self.warn(complaint);
        }
        self.log(Action::Reject, subject, text, cut(&reason, LOGGED_ARGUMENT_LEN_MAX));
        self.decisions.is_passed = true;
        self.refuse(refused(reason));
    }

    fn add_recipient(&mut self, address: &[u8]) {
        let Decisions { recipients, known_recipients, .. } = &mut self.decisions;
        if known_recipients.contains(address) {
            return;
        }
        if recipients.len() < ADDED_RECIPIENTS_MAX {
            known_recipients.insert(address.to_vec());
            recipients.push(address.to_vec());
        } else {
            self.refuse(Refusal::Content { text: "5.7.1 rules add too many recipients".to_owned() });
        }
    }

    fn log(&mut self, action: Action, subject: Subject, text: &[u8], argument: &str) {
        let Self { queue_id, origin, protocol, .. } = self;
        let shown = logged(&self.options, text, 200);
        let (action, subject) = (action.log_word(), subject.word());
        let before = format!("{queue_id}: {action}: {subject} {shown} from {origin};");
        let colon = if argument.is_empty() { "" } else { ": " };
        let after = format!(" proto={protocol}{colon}{argument}");
        self.notices.push_naming_envelope(before, after, None);
    }

    fn warn(&mut self, text: String) {
        self.notices.push(Notice::warning(text));
    }
}

const HEADER_MAPS: [Maps; 3] = [Maps::HeaderChecks, Maps::MimeHeaderChecks, Maps::NestedHeaderChecks];

/// The beginning of a text from outside, for the log.
fn logged(options: &Options, text: &[u8], len_max: usize) -> String {
    let text = until_nul(text);
    printable(text.get(..len_max).unwrap_or(text), options.smtputf8_enable)
}

/// The beginning of a text, whole characters.
fn cut(text: &str, len_max: usize) -> &str {
    let end = (0..=len_max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
