//! Recipient records: sends them to filters, and drops the recipients that filters deleted.

use std::collections::HashSet;

use postfix::record::{Reader, RecordType, encode};

use crate::address::quote;

/// The record, never in a queue file, that tells a recipient as filters hear it; the records of the queue file follow,
/// none for a duplicate.
pub(crate) const HEARD: RecordType = RecordType(b'=');

/// Takes apart what [`Message::recipient`](crate::Message::recipient) wrote for filters: each recipient as they hear it, in
/// bare form, and the records of the queue file. Whole records only.
pub fn recipients(records: &[u8], heard: &mut impl FnMut(&[u8]), out: &mut Vec<u8>) {
    for item in Reader::new(records) {
        let Ok((_, record)) = item else { return };
        if record.kind == HEARD {
            heard(record.data);
        } else {
            encode(out, record.kind, record.data);
        }
    }
}

pub(super) fn count_recipients(records: &[u8]) -> u64 {
    Reader::new(records)
        .filter(|item| matches!(item, Ok((_, record)) if record.kind == RecordType::RECIPIENT))
        .count() as u64
}

/// Copies records, but not the recipients whose original address is among these, nor what belongs to them; those are
/// handed to `gone`.
pub(super) fn without(
    deleted: &HashSet<Vec<u8>>,
    records: &[u8],
    out: &mut Vec<u8>,
    gone: &mut impl FnMut(&[u8]),
) {
    let mut start = None;
    let mut original: Option<&[u8]> = None;
    let mut reader = Reader::new(records);
    while let Some(Ok((offset, record))) = reader.next() {
        let about_recipient = match record.kind {
            RecordType::ATTRIBUTE => {
                record.data.starts_with(b"dsn_orig_rcpt=") || record.data.starts_with(b"notify_flags=")
            }
            RecordType::ORIGINAL_RECIPIENT | RecordType::RECIPIENT => true,
            _ => false,
        };
        let end = reader.offset();
        if !about_recipient {
            out.extend_from_slice(records.get(offset..end).unwrap_or_default());
            continue;
        }
        let begin = *start.get_or_insert(offset);
        match record.kind {
            RecordType::ORIGINAL_RECIPIENT => original = Some(record.data),
            RecordType::RECIPIENT => {
                let group = records.get(begin..end).unwrap_or_default();
                if deleted.contains(original.unwrap_or(record.data)) {
                    gone(group);
                } else {
                    out.extend_from_slice(group);
                }
                start = None;
                original = None;
            }
            _ => {}
        }
    }
}

/// The external form; the null address stays as it is.
pub(super) fn heard(address: &[u8]) -> Vec<u8> {
    if address.is_empty() { Vec::new() } else { quote(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_recipient_takes_what_belongs_to_it() {
        let mut records = Vec::new();
        for (kind, data) in [
            (RecordType::ATTRIBUTE, "encoding=8bit"),
            (RecordType::ATTRIBUTE, "notify_flags=1"),
            (RecordType::ORIGINAL_RECIPIENT, "a"),
            (RecordType::RECIPIENT, "a@x"),
            (RecordType::ORIGINAL_RECIPIENT, "b"),
            (RecordType::RECIPIENT, "b@x"),
            (RecordType::ORIGINAL_RECIPIENT, "a"),
            (RecordType::RECIPIENT, "c@x"),
        ] {
            encode(&mut records, kind, data.as_bytes());
        }
        let (mut left, mut gone) = (Vec::new(), 0);
        without(&HashSet::from([b"a".to_vec()]), &records, &mut left, &mut |_| gone += 1);
        let kinds: Vec<_> = Reader::new(&left).map(|item| char::from(item.unwrap().1.kind.0)).collect();
        assert_eq!((kinds, gone), (vec!['A', 'O', 'R'], 2));
    }
}
