//! The result of cleanup: the parts of a queue file, and the queue that it goes to.

use postfix::notice::Notice;
use postfix::queue_file::{
    CONTENT_RECORD, Counts, END_RECORD, EXTRACTED_RECORD, Parts, SIZE_RECORD_BYTES, SenderCopies,
};

/// Bytes of a queue file that belong to the layout, not to the message.
pub(crate) const LAYOUT_BYTES: u64 =
    (SIZE_RECORD_BYTES + CONTENT_RECORD.len() + EXTRACTED_RECORD.len() + END_RECORD.len()) as u64;

/// What Postfix logs about a file that would be too large: its cleanup(8), and then the function that closes the file.
pub(crate) fn too_large(queue_id: &str) -> [Notice; 2] {
    [
        Notice::warning(format!("{queue_id}: queue file size limit exceeded")),
        Notice::warning("mail_stream_cleanup: close error"),
    ]
}

/// What is to become of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes into the incoming queue.
    Deliver,
    /// It goes into the hold queue, where it waits for an operator; the queue manager is not woken.
    Hold,
    /// A rule has said that it is to vanish: the client hears that it is queued.
    Discard,
}

/// The parts of a queue file that are known only at the end. Sequences of encoded records, but without the records
/// `C`, `M`, `X` and `E`, which depend on the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Before the first recipient: `T`, `A create_time`, perhaps `L`, `S`, perhaps `V`, ten attributes, perhaps `W`.
    pub envelope: Vec<u8>,
    /// Where in a classic layout the first of the recipients stand.
    pub sender_copies: SenderCopies,
    /// Our Received: header, which stands before the content.
    pub received: Vec<u8>,
    /// Offset in the content of the place that was kept for a From: header (one `p` record, 17 bytes), and the records
    /// that belong there. `None` if the message had one.
    pub from: Option<(u64, Vec<u8>)>,
    /// Behind the record `X`: attributes, automatic recipients.
    pub extracted: Vec<u8>,
    /// Numbers for the size record.
    pub counts: Counts,
    /// Where it goes. What is discarded may be without parts that it would need otherwise.
    pub fate: Fate,
}

impl Finished {
    /// The parts of the queue file, with the records that were written on the way: those of the recipients and those of
    /// the content.
    #[must_use]
    pub fn parts<'a>(&'a self, recipients: &'a [u8], content: &'a [u8]) -> Parts<'a> {
        Parts {
            envelope: &self.envelope,
            recipients,
            sender_copies: self.sender_copies,
            received: &self.received,
            content,
            from: self.from.as_ref().map(|(offset, records)| (*offset, records.as_slice())),
            extracted: &self.extracted,
            counts: self.counts,
        }
    }
}
