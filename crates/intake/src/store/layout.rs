//! Where the parts of a message stand in its queue file (`docs/queue-file.md`).

use cleanup::Finished;
use postfix::queue_file::{
    self, CONTENT_RECORD, EXTRACTED_RECORD, FrontNeeds, Late, LayoutError, POINTER_RECORD_BYTES,
    SIZE_RECORD_BYTES, Streamed, Write, front_bytes_for,
};
use postfix::settings::Settings;

use super::records::Records;

/// A message that fits into memory, in Postfix's own layout.
pub(super) fn whole_file(records: &Records, finished: &Finished) -> Result<Vec<u8>, LayoutError> {
    let parts = finished.parts(&records.recipients, &records.content);
    let mut file = Vec::with_capacity(records.bytes().saturating_add(FRONT_BYTES));
    queue_file::classic(&parts, &mut file)?;
    Ok(file)
}

/// What stands around content and recipients, roughly: the vector need not grow.
const FRONT_BYTES: usize = 2048;

/// What is missing around the content and recipients that are on disk: bytes, each with its offset.
pub(super) fn rest_of_file(
    mut streamed: Streamed,
    records: Records,
    finished: &Finished,
) -> Result<Vec<(u64, Vec<u8>)>, LayoutError> {
    let Records { content, recipients } = records;
    let mut rest = Vec::new();
    let content_end = streamed.extracted_offset();
    streamed.content_bytes = streamed.content_bytes.saturating_add(content.len() as u64);
    rest.push((content_end, content));
    rest.push((streamed.extracted_offset(), EXTRACTED_RECORD.to_vec()));
    let recipients_end = streamed.tail_offset();
    streamed.recipients_bytes = streamed.recipients_bytes.saturating_add(recipients.len() as u64);
    rest.push((recipients_end, recipients));
    let late = Late {
        envelope: &finished.envelope,
        received: &finished.received,
        from: finished.from.as_ref().map(|(offset, records)| (*offset, records.as_slice())),
        extracted: &finished.extracted,
        counts: finished.counts,
    };
    rest.extend(streamed.finish(&late)?.into_iter().map(|Write { offset, bytes }| (offset, bytes)));
    rest.retain(|(_, bytes)| !bytes.is_empty());
    Ok(rest)
}

/// Bytes kept for what rules put in front of the content: a filter, a redirection, a header before our own.
const RULE_BYTES: u64 = 8192;

/// How much is kept in front of streamed content: enough for the longest envelope under these settings.
pub(super) fn front_bytes(settings: &Settings) -> u64 {
    let address_bytes_max = u64::try_from(settings.line_length_limit).unwrap_or(u64::MAX);
    let named = [&settings.content_filter, &settings.myhostname, &settings.myorigin, &settings.mail_name];
    let has_rules = ![
        &settings.header_checks,
        &settings.mime_header_checks,
        &settings.nested_header_checks,
        &settings.body_checks,
    ]
    .into_iter()
    .all(String::is_empty);
    let rule_bytes = if has_rules { RULE_BYTES } else { 0 };
    front_bytes_for(&FrontNeeds {
        sender_bytes_max: address_bytes_max,
        recipient_bytes_max: address_bytes_max,
        setting_bytes: named.iter().map(|text| text.len() as u64).sum::<u64>().saturating_add(rule_bytes),
    })
}

/// How much to keep in front of the content of a message of which all that goes there is known.
pub(super) fn exact_front_bytes(finished: &Finished) -> u64 {
    let front = [
        finished.envelope.len(),
        finished.extracted.len(),
        SIZE_RECORD_BYTES,
        POINTER_RECORD_BYTES,
        CONTENT_RECORD.len(),
    ];
    let front = front.into_iter().fold(0_usize, usize::saturating_add) as u64;
    front.checked_next_multiple_of(4096).unwrap_or(front)
}
