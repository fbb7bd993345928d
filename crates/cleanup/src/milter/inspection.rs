//! Applies filters to one message: sends them the envelope, and applies their decisions and changes.

use std::collections::HashSet;
use std::sync::Arc;

use postfix::milter_protocol::Edit;
use postfix::notice::Notice;

use super::decided::{HeaderRules, NewSender};
use super::filter::Response;
use super::headers::{Edits, LimitExceeded, new_header};
use super::recipients::heard;
use crate::envelope::Envelope;
use crate::finished::{Finished, LAYOUT_BYTES, too_large};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::tables::Tables;
use postfix::text::printable;

/// When filters decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// When they hear of the client.
    Connect,
    /// When they hear its greeting.
    Ehlo,
    /// When they hear the sender.
    Mail,
    /// When they hear a recipient.
    Rcpt,
    /// Before the content.
    Data,
    /// With the content.
    EndOfMessage,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::EndOfMessage => "END-OF-MESSAGE",
        }
    }
}

/// One message before the filters.
#[derive(Debug)]
pub struct Inspection {
    pub(super) options: Arc<Options>,
    pub(super) envelope: Envelope,
    pub(super) queue_id: String,
    /// The address that filters and log lines have for the client.
    pub(super) client_address: &'static str,
    protocol: &'static str,
    /// Where the headers end and the body begins in the content records.
    header_bytes: u64,
    /// The last recipient that filters heard of.
    recipient: Option<Vec<u8>>,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) header_rules: HeaderRules,
    /// Changes of headers.
    pub edits: Edits,
    /// A change of a header was not ASCII.
    pub(super) has_8bit_header: bool,
    pub(super) sender: Option<NewSender>,
    /// Records of the recipients that were added.
    pub(super) added: Vec<u8>,
    pub(super) deleted: HashSet<Vec<u8>>,
    pub(super) envelope_edit_bytes: usize,
    pub(super) refusal: Option<Refusal>,
    pub(super) is_held: bool,
    pub(super) is_discarded: bool,
    pub(super) notices: Vec<Notice>,
}

impl Inspection {
    pub(crate) fn new(
        options: Arc<Options>,
        tables: Arc<dyn Tables>,
        envelope: Envelope,
        queue_id: String,
        client_address: &'static str,
        protocol: &'static str,
        header_bytes: u64,
    ) -> Self {
        Self {
            options,
            envelope,
            queue_id,
            client_address,
            protocol,
            header_bytes,
            recipient: None,
            tables,
            header_rules: HeaderRules::default(),
            edits: Edits::default(),
            has_8bit_header: false,
            sender: None,
            added: Vec::new(),
            deleted: HashSet::new(),
            envelope_edit_bytes: 0,
            refusal: None,
            is_held: false,
            is_discarded: false,
            notices: Vec::new(),
        }
    }

    /// Where the headers end and the body begins in the content records.
    #[must_use]
    pub const fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// The queue ID.
    #[must_use]
    pub fn queue_id(&self) -> &str {
        &self.queue_id
    }

    /// The sender as filters hear it: quoted where necessary, without `<>`.
    #[must_use]
    pub fn heard_sender(&self) -> Vec<u8> {
        heard(&self.envelope.sender)
    }

    /// A recipient, in the bare form of a record [`recipients`](super::recipients()) hands out: returns what filters hear.
    pub fn recipient(&mut self, address: &[u8]) -> Vec<u8> {
        self.recipient = Some(address.to_vec());
        heard(address)
    }

    /// Whether filters are told more of this message.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.refusal.is_none() && !self.is_discarded
    }

    /// Why the message is refused, if it is.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// A rule about the content has put the message on hold already.
    pub const fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether it goes into the `hold` queue.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether it is taken and dropped.
    #[must_use]
    pub const fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// What is to be logged, since the last time.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Does what a filter has decided.
    pub fn apply(&mut self, stage: Stage, response: &Response) {
        if !self.goes_on() {
            return;
        }
        match response {
            Response::Hold(reason) => {
                if !std::mem::replace(&mut self.is_held, true) {
                    let told = self.options.since_3_10 && !reason.is_empty();
                    self.log("milter-hold", stage, if told { reason } else { "milter triggers HOLD action" });
                }
            }
            Response::Discard => {
                self.is_discarded = true;
                self.log("milter-discard", stage, "milter triggers DISCARD action");
            }
            Response::Refuse(reply) => {
                let text = reply.get(4..).unwrap_or_default();
                self.log("milter-reject", stage, text);
                // The reply to the client is one line.
                let text = text.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
                self.refusal = Some(if reply.starts_with('5') {
                    Refusal::Content { text }
                } else {
                    Refusal::Defer { text }
                });
                if stage == Stage::Rcpt {
                    self.refuse_a_refused_recipient();
                }
            }
        }
    }

    /// There is no way to refuse one recipient of many.
    fn refuse_a_refused_recipient(&mut self) {
        let queue_id = &self.queue_id;
        for text in [
            "milter configuration error: can't reject recipient in non-smtpd(8) submission",
            "message not accepted, try again later",
        ] {
            self.notices.push(Notice::warning(format!("{queue_id}: {text}")));
        }
        self.refusal = Some(Refusal::Defer { text: "4.3.5 Server configuration error".to_owned() });
    }

    /// What went wrong for want of disk or memory: the message is refused for now.
    pub fn fail(&mut self) {
        self.refusal.get_or_insert(Refusal::Write);
    }

    fn log(&mut self, action: &str, stage: Stage, text: &str) {
        let line = format!(
            "{}: {action}: {} from localhost[{}]: {};{}",
            self.queue_id,
            stage.name(),
            self.client_address,
            self.shown(text.as_bytes()),
            self.log_names(),
        );
        self.notices.push(Notice::info(line));
    }

    /// Sender, and from the first recipient on that and the protocol, as log lines have them.
    pub(super) fn log_names(&self) -> String {
        let mut names = format!(" from=<{}>", self.envelope.logged(&self.envelope.sender));
        if let Some(recipient) = &self.recipient {
            let recipient = self.envelope.logged(recipient);
            names.push_str(&format!(" to=<{recipient}> proto={}", self.protocol));
        }
        names
    }

    pub(super) fn shown(&self, bytes: &[u8]) -> String {
        printable(bytes, self.options.smtputf8_enable)
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.notices.push(Notice::warning(text.to_owned()));
    }

    /// Makes a change, but for that of the body.
    ///
    /// # Errors
    /// There are too many; the filter is to be treated as one out of order.
    pub fn edit(&mut self, edit: &Edit, leading_blank: bool) -> Result<(), LimitExceeded> {
        let edited = self.make(edit, leading_blank);
        let notices = std::mem::take(&mut self.envelope.notices).into_lines(&self.queue_id);
        self.notices.extend(notices);
        if let Some(refusal) = self.envelope.refusal.take() {
            self.refusal.get_or_insert(refusal);
        }
        edited
    }

    fn make(&mut self, edit: &Edit, leading_blank: bool) -> Result<(), LimitExceeded> {
        match edit {
            Edit::ChangeSender { address, parameters } => {
                self.count(address, parameters)?;
                self.change_sender(address, parameters);
            }
            Edit::AddRecipient { address, parameters } => {
                self.count(address, parameters)?;
                self.add_recipient(address, parameters);
            }
            Edit::DeleteRecipient { address } => {
                self.count(address, b"")?;
                self.delete_recipient(address);
            }
            _ => {
                let header = match new_header(edit, leading_blank) {
                    None => None,
                    Some(header) => match self.check_header(header) {
                        None => return Ok(()),
                        checked => checked,
                    },
                };
                if let Some(header) = &header {
                    self.has_8bit_header |= !header.is_ascii() && self.options.smtputf8_enable;
                }
                let Options { header_size_limit, line_length_limit, .. } = *self.options;
                self.edits.push(edit, header.as_deref(), header_size_limit, line_length_limit)?;
            }
        }
        Ok(())
    }

    /// Whether the message as it was written, between what is in `finished`, is not too large. `recipients` are those among
    /// the records in front.
    pub fn seal(
        &mut self,
        finished: &mut Finished,
        content_bytes: u64,
        recipient_bytes: u64,
        recipients: u64,
    ) {
        finished.counts.recipients = finished.counts.recipients.saturating_add(recipients);
        let around = [finished.envelope.len() as u64, finished.extracted.len() as u64];
        let bytes = around
            .into_iter()
            .chain([content_bytes, recipient_bytes])
            .fold(LAYOUT_BYTES, u64::saturating_add);
        if self.exceeds_limit(bytes) {
            self.refuse_size();
        }
    }

    /// Whether a file of so many bytes is too large.
    #[must_use]
    pub fn exceeds_limit(&self, bytes: u64) -> bool {
        let limit = self.options.message_size_limit;
        limit != 0 && bytes > limit
    }

    /// What filters made of the message is too large.
    pub fn refuse_size(&mut self) {
        if self.refusal.is_none() {
            self.notices.extend(too_large(&self.queue_id));
            self.refusal = Some(Refusal::Size);
        }
    }

    /// Bytes in a record of a new body.
    #[must_use]
    pub fn line_length_limit(&self) -> usize {
        self.options.line_length_limit
    }
}
