//! The log lines of one message, bounded.

use postfix::notice::Notice;

/// Log lines kept for one message. An ordinary message has one; a message can be made to have one for each of its
/// headers or recipients.
const NOTICES_MAX: usize = 100;

/// What is to be logged about a message. Postfix writes such lines as they come; here they wait until it is known what
/// becomes of the message, so that there is a limit.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    notices: Vec<Notice>,
    left_out: u64,
}

impl Notices {
    /// Keeps a line, or counts it if there are too many.
    pub(crate) fn push(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Puts the lines of `later` behind these.
    pub(crate) fn append(&mut self, later: Self) {
        self.left_out = self.left_out.saturating_add(later.left_out);
        for notice in later.notices {
            self.push(notice);
        }
    }

    /// All lines, with a word about those that were left out.
    pub(crate) fn into_lines(mut self, queue_id: &str) -> Vec<Notice> {
        if self.left_out > 0 {
            let left_out = self.left_out;
            self.notices.push(Notice::warning(format!("{queue_id}: {left_out} more log lines left out")));
        }
        self.notices
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
}
