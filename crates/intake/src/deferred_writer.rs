//! A message that waits until mail filters have seen it.
//!
//! The client sends content, sender, recipients; filters want to hear of sender and recipients first, and may change all
//! of it at the end. So with filters a message is kept (see [`super::spill_buffer`]) until it is complete, shown to them, and
//! then written with their changes in one go.

use std::io;
use std::sync::Arc;

use cleanup::milter::Inspection;
use cleanup::{Fate, Finished, Message};
use postfix::notice::Severity;

use super::Refusal;
use super::feed::{Sink, feed, judge};
use super::held_message::{HeldMessage, Part};
use super::milter::{Conversation, Milters};
use super::piece::Piece;
use super::spill_buffer::{SpillBuffer, TemporaryFiles};
use super::store::{Draft, Records};
use super::tables::Lookups;
use daemon::log::{Log, Program};

/// The records of a message, and who is to see them.
#[derive(Debug)]
pub(super) struct DeferredWriter {
    milters: Arc<Milters>,
    held: HeldMessage,
    /// Recipients as filters hear them, and their records.
    recipients: SpillBuffer,
    has_failed: Option<io::Error>,
}

impl DeferredWriter {
    pub(super) fn new(milters: Arc<Milters>) -> Self {
        Self { milters, held: HeldMessage::default(), recipients: SpillBuffer::default(), has_failed: None }
    }

    /// One piece through cleanup: its records wait here.
    pub(super) fn feed(&mut self, message: &mut Message, piece: Piece<'_>) {
        let Self { held, recipients, .. } = self;
        let sink = Sink { content: held.content.end(), recipients: recipients.end(), is_for_filters: true };
        feed(message, piece, sink);
    }

    /// Keeps the memory bounded. What goes wrong is remembered.
    pub(super) async fn settle(&mut self, message: &Message) {
        if self.has_failed.is_some() || !message.is_wanted() {
            self.held.content.clear();
        }
        if self.has_failed.is_some() {
            self.recipients.clear();
        }
        let files = &self.milters.files;
        let mut settled = self.held.content.settle(files).await;
        if settled.is_ok() {
            settled = self.recipients.settle(files).await;
        }
        if let Err(error) = settled {
            self.has_failed.get_or_insert(error);
        }
    }

    /// Shows the message to the filters, and writes what is left of it.
    pub(super) async fn show(
        self,
        message: Message,
        lookups: &Lookups,
        log: &Log,
        draft: &mut Draft,
        records: &mut Records,
    ) -> Result<Finished, Refusal> {
        let Self { milters, mut held, recipients, has_failed } = self;
        let queue_id = *draft.queue_id();
        let storage = |error: &io::Error| {
            let text = format!("{queue_id}: write temporary file: {error}");
            log.write(Program::Cleanup, Severity::Warning, &text);
            Refusal::Storage
        };
        let client_address = milters.client_address();
        let (outcome, inspection) = lookups.run(|| message.finish_for_filters(client_address)).await;
        let Some(mut inspection) = inspection else {
            return judge(outcome, log);
        };
        if let Some(error) = has_failed {
            return Err(storage(&error));
        }
        let (about_envelope, about_content) =
            outcome.notices.split_at(outcome.envelope_notices.min(outcome.notices.len()));
        about_envelope.iter().for_each(|notice| log.notice(Program::Cleanup, notice));
        let mut conversation = Conversation::begin(&milters, lookups).await;
        let heard = conversation.envelope(&mut inspection, &recipients).await;
        heard.map_err(|error| storage(&error))?;
        if inspection.goes_on() {
            about_content.iter().for_each(|notice| log.notice(Program::Cleanup, notice));
        }
        let mut finished = match outcome.result {
            Ok(finished) => finished,
            Err(refusal) => {
                conversation.end().await;
                // A filter's answer came first, and the content was not examined any more.
                return Err(inspection.refusal().cloned().unwrap_or(refusal).into());
            }
        };
        held.header_bytes = inspection.header_bytes();
        held.received = std::mem::take(&mut finished.received);
        held.from = finished.from.take();
        if finished.fate == Fate::Hold {
            inspection.hold();
        }
        if inspection.goes_on() && !outcome.is_passed {
            let shown = conversation.content(&mut inspection, &mut held).await;
            shown.map_err(|error| storage(&error))?;
        }
        conversation.end().await;
        if let Some(refusal) = inspection.refusal() {
            return Err(refusal.clone().into());
        }
        if inspection.is_discarded() {
            finished.fate = Fate::Discard;
        } else if inspection.is_held() && finished.fate == Fate::Deliver {
            finished.fate = Fate::Hold;
        }
        if finished.fate == Fate::Discard {
            return Ok(finished);
        }
        let sources = Sources { held: &held, recipients: &recipients, files: &milters.files };
        let written = write(sources, &mut inspection, &mut finished, draft, records).await;
        written.map_err(|error| storage(&error))?;
        for notice in inspection.take_notices() {
            log.notice(Program::Cleanup, &notice);
        }
        match inspection.refusal() {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(finished),
        }
    }
}

/// What is left of the message is read from here.
struct Sources<'a> {
    held: &'a HeldMessage,
    recipients: &'a SpillBuffer,
    files: &'a TemporaryFiles,
}

/// Writes the content with all changes, then the recipients that are left and those that were added.
async fn write(
    from: Sources<'_>,
    inspection: &mut Inspection,
    finished: &mut Finished,
    draft: &mut Draft,
    records: &mut Records,
) -> io::Result<()> {
    inspection.change_envelope(finished);
    draft.know_front(finished);
    let mut content_bytes = 0_u64;
    let mut walk = from.held.walk(inspection.edits.pass(), from.files);
    while let Some(part) = walk.next().await? {
        let (Part::Header(part, _) | Part::Body(part)) = part else { continue };
        content_bytes = content_bytes.saturating_add(part.len() as u64);
        records.content.extend_from_slice(&part);
        draft.append(records).await;
    }
    let new_copies = inspection.new_sender_copies();
    records.recipients.extend_from_slice(new_copies);
    let (mut recipient_bytes, mut count) = (new_copies.len() as u64, 0_u64);
    // The recipients that the sender brought with it come first.
    let mut old_copies = std::mem::replace(&mut finished.sender_copies.bytes, new_copies.len());
    let mut reader = from.recipients.records();
    while let Some(read) = reader.next(from.files).await? {
        let (copies, others) = read.split_at(old_copies.min(read.len()));
        old_copies = old_copies.saturating_sub(copies.len());
        for (part, is_copy) in [(copies, true), (others, false)] {
            let mut all = Vec::new();
            cleanup::milter::recipients(part, &mut |_| {}, &mut all);
            let before = records.recipients.len();
            count = count.saturating_add(inspection.keep_recipients(&all, &mut records.recipients));
            let kept_bytes = records.recipients.len().abs_diff(before);
            recipient_bytes = recipient_bytes.saturating_add(kept_bytes as u64);
            if is_copy {
                finished.sender_copies.bytes = finished.sender_copies.bytes.saturating_add(kept_bytes);
            }
        }
        draft.append(records).await;
    }
    let added = inspection.added_recipients();
    records.recipients.extend_from_slice(added);
    recipient_bytes = recipient_bytes.saturating_add(added.len() as u64);
    count = count.saturating_add(inspection.added_count());
    draft.append(records).await;
    inspection.seal(finished, content_bytes, recipient_bytes, count);
    Ok(())
}
