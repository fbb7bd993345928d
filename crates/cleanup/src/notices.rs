//! The log lines about one message, limited in number.

use postfix::notice::Notice;

/// Log lines kept for one message. An ordinary message has one; a message can be made to have one for each of its
/// headers or recipients.
const NOTICES_MAX: usize = 100;

/// What is to be logged about a message. Postfix writes such lines as they come; here they wait until it is known what
/// becomes of the message, so that there is a limit.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    lines: Vec<Line>,
    left_out: u64,
}

#[derive(Debug)]
enum Line {
    Complete(Notice),
    /// A line about the content that names the envelope, which comes behind it: `before from=<…> to=<…>after`.
    NamesEnvelope {
        before: String,
        after: String,
        /// What stands for the recipient if there is none; otherwise the line then ends at the sender.
        no_recipient: Option<&'static str>,
    },
}

/// Sender and last recipient, as log lines show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvelopeNames {
    pub(crate) sender: String,
    pub(crate) recipient: Option<String>,
}

impl Notices {
    /// Keeps a line, or counts it if there are too many.
    pub(crate) fn push(&mut self, notice: Notice) {
        self.push_line(Line::Complete(notice));
    }

    /// Keeps a line of information that will name the envelope between these two.
    pub(crate) fn push_naming_envelope(
        &mut self,
        before: String,
        after: String,
        no_recipient: Option<&'static str>,
    ) {
        self.push_line(Line::NamesEnvelope { before, after, no_recipient });
    }

    fn push_line(&mut self, line: Line) {
        if self.lines.len() < NOTICES_MAX {
            self.lines.push(line);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// How many lines there are.
    pub(crate) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Puts the lines of `later` behind these.
    pub(crate) fn append(&mut self, later: Self) {
        self.left_out = self.left_out.saturating_add(later.left_out);
        for line in later.lines {
            self.push_line(line);
        }
    }

    /// The envelope is known.
    pub(crate) fn name_envelope(&mut self, names: &EnvelopeNames) {
        for line in &mut self.lines {
            line.name_envelope(names);
        }
    }

    /// Takes the lines about the envelope away that begin so.
    pub(crate) fn remove_naming_envelope(&mut self, start: &str) {
        self.lines
            .retain(|line| !matches!(line, Line::NamesEnvelope { before, .. } if before.starts_with(start)));
    }

    /// All lines, with a word about those that were left out.
    pub(crate) fn into_lines(self, queue_id: &str) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.lines.into_iter().map(Line::into_notice).collect();
        if self.left_out > 0 {
            let left_out = self.left_out;
            notices.push(Notice::warning(format!("{queue_id}: {left_out} more log lines left out")));
        }
        notices
    }
}

impl Line {
    fn name_envelope(&mut self, names: &EnvelopeNames) {
        if let Self::NamesEnvelope { before, after, no_recipient } = self {
            let sender = &names.sender;
            *self = Self::Complete(Notice::info(match names.recipient.as_deref().or(*no_recipient) {
                Some(recipient) => format!("{before} from=<{sender}> to=<{recipient}>{after}"),
                None => format!("{before} from=<{sender}>{after}"),
            }));
        }
    }

    fn into_notice(self) -> Notice {
        match self {
            Self::Complete(notice) => notice,
            Self::NamesEnvelope { before, after, .. } => Notice::info(format!("{before}{after}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_limit() {
        let notices = |count: usize| {
            let mut notices = Notices::default();
            for number in 0..count {
                notices.push(Notice::info(number.to_string()));
            }
            notices
        };
        assert_eq!(notices(NOTICES_MAX).into_lines("ID").len(), NOTICES_MAX);
        let mut many = notices(NOTICES_MAX + 2);
        many.append(notices(NOTICES_MAX + 3));
        let lines = many.into_lines("ID");
        assert_eq!(lines.len(), NOTICES_MAX + 1);
        assert_eq!(lines.last(), Some(&Notice::warning("ID: 105 more log lines left out")));
    }

    #[test]
    fn the_envelope_is_named_when_it_is_known() {
        let mut notices = Notices::default();
        notices.push_naming_envelope("a;".to_owned(), " proto=QMQP".to_owned(), None);
        notices.push_naming_envelope("b;".to_owned(), String::new(), Some("unknown"));
        let names = EnvelopeNames { sender: "s".to_owned(), recipient: None };
        notices.name_envelope(&names);
        let lines = notices.into_lines("ID");
        assert_eq!(lines[0], Notice::info("a; from=<s> proto=QMQP"));
        assert_eq!(lines[1], Notice::info("b; from=<s> to=<unknown>"));
    }

    #[test]
    fn lines_about_the_envelope_can_be_taken_back_by_their_beginning() {
        let mut notices = Notices::default();
        notices.push(Notice::info("one: complete"));
        for start in ["one: a", "one: b", "two: c"] {
            notices.push_naming_envelope(start.to_owned(), String::new(), None);
        }
        assert_eq!(notices.len(), 4);
        notices.remove_naming_envelope("one: ");
        assert_eq!(notices.len(), 2);
        let texts: Vec<String> = notices.into_lines("ID").into_iter().map(|notice| notice.text).collect();
        assert_eq!(texts, ["one: complete", "two: c"]);
    }
}
