//! Records between cleanup and a draft.

use crate::feed::Sink;

/// Records of one message that are not in its draft yet. Content and recipients can come in any order, and in pieces.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Those of the content.
    pub(crate) content: Vec<u8>,
    /// Those of the recipients.
    pub(crate) recipients: Vec<u8>,
}

impl Records {
    /// For cleanup, where no mail filter is to see them.
    pub(crate) const fn sink(&mut self) -> Sink<'_> {
        Sink { content: &mut self.content, recipients: &mut self.recipients, is_for_filters: false }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.content.len().saturating_add(self.recipients.len())
    }

    /// Forgets them, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.content.clear();
        self.recipients.clear();
    }
}
