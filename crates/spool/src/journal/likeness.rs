//! Compares a file with the message of a journal record. Bytes in, judgements out.

use postfix::record::{Reader, RecordType, encoded_len};

/// Files are made durable in pieces of this: the smallest block of a file system.
const BLOCK_BYTES: usize = 512;

/// What a file under the queue ID of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The message, as it was written or with what delivery changes in place.
    Same,
    /// What a crash left of it: zeros in place of a part, or less of it.
    Remnant,
    /// Something else. A queue ID can be given again, so it can be another message, whole or not.
    Other,
}

/// Judges a file. `found` begins with its first bytes: all of them, or at least one more than were written.
pub(super) fn judge(written: &[u8], found: &[u8]) -> Likeness {
    let common = written.len().min(found.len());
    let (found, rest) = found.split_at(common);
    let found = without_marks_of_delivery(written, found);
    if found == written {
        return Likeness::Same;
    }
    let is_left = |(found, written): (&u8, &u8)| found == written || *found == 0;
    if rest.is_empty() && found.iter().zip(written).all(is_left) {
        Likeness::Remnant
    } else {
        Likeness::Other
    }
}

/// Takes back what delivery changes in place: types of records (a recipient that is done), and the time of the delay
/// warning.
fn without_marks_of_delivery(written: &[u8], found: &[u8]) -> Vec<u8> {
    let mut found = found.to_vec();
    for record in Reader::new(written) {
        let Ok((at, record)) = record else { break };
        if let Some(kind) = found.get_mut(at)
            && RecordType(*kind).is_printable()
        {
            *kind = record.kind.0;
        }
        if record.kind == RecordType::WARNING_TIME {
            let start = at.saturating_add(encoded_len(record.data.len())).saturating_sub(record.data.len());
            if let Some(time) = found.get_mut(start..start.saturating_add(record.data.len()))
                && time.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ')
            {
                time.copy_from_slice(record.data);
            }
        }
    }
    found
}

/// A byte of each block that delivery never changes. Writing these again, as they are, makes the system write every block
/// to disk, while a queue manager may work on the file.
pub(super) fn quiet_bytes(written: &[u8]) -> Vec<(u64, u8)> {
    let mut quiet = Vec::new();
    let mut next_block = 0_usize;
    let mut take = |range: std::ops::Range<usize>| {
        let mut at = range.start;
        while at < range.end {
            if at / BLOCK_BYTES >= next_block
                && let Some(byte) = written.get(at)
            {
                quiet.push((at as u64, *byte));
                next_block = (at / BLOCK_BYTES).saturating_add(1);
            }
            at = next_block.saturating_mul(BLOCK_BYTES).max(at.saturating_add(1));
        }
    };
    for record in Reader::new(written) {
        let Ok((at, record)) = record else { break };
        let end = at.saturating_add(encoded_len(record.data.len()));
        if record.kind != RecordType::WARNING_TIME {
            take(at.saturating_add(1)..end);
        }
    }
    // What is no record is not changed by delivery either.
    take(written.len().min(next_free(written))..written.len());
    quiet
}

/// Where the last record that can be read ends.
fn next_free(written: &[u8]) -> usize {
    let records = Reader::new(written).map_while(Result::ok);
    records.last().map_or(0, |(at, record)| at.saturating_add(encoded_len(record.data.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::record::encode;
    use proptest::prelude::*;

    fn message(lines: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, RecordType::WARNING_TIME, b"              0");
        encode(&mut bytes, RecordType::SENDER, b"a@b");
        for line in 0..lines {
            encode(
                &mut bytes,
                RecordType::NORMAL,
                format!("a line of the message, number {line}").as_bytes(),
            );
        }
        encode(&mut bytes, RecordType::RECIPIENT, b"c@d");
        encode(&mut bytes, RecordType::END, b"");
        bytes
    }

    fn delivered(written: &[u8]) -> Vec<u8> {
        let mut delivered = written.to_vec();
        let recipient = written.iter().rposition(|byte| *byte == b'R').unwrap();
        delivered[recipient] = b'D';
        delivered[2..17].copy_from_slice(b"     1795000000");
        delivered
    }

    #[test]
    fn what_delivery_changes_is_the_same_message() {
        let written = message(60);
        assert_eq!(judge(&written, &written), Likeness::Same);
        assert_eq!(judge(&written, &delivered(&written)), Likeness::Same);
        let longer = [delivered(&written), b"x".to_vec()].concat();
        assert_eq!(judge(&written, &longer), Likeness::Same, "something was appended");
    }

    #[test]
    fn what_a_crash_leaves_is_a_remnant() {
        let written = message(60);
        assert!(written.len() > 3 * BLOCK_BYTES);
        for length in 0..written.len() {
            assert_eq!(judge(&written, &written[..length]), Likeness::Remnant, "{length} bytes");
        }
        let mut torn = delivered(&written);
        torn[700..1500].fill(0);
        assert_eq!(judge(&written, &torn), Likeness::Remnant);
        assert_eq!(judge(&written, &vec![0; written.len()]), Likeness::Remnant);
    }

    #[test]
    fn anything_else_is_another_file() {
        let written = message(60);
        for at in [40, 600, written.len() - 3] {
            let mut other = written.clone();
            other[at] ^= 0x55;
            assert_eq!(judge(&written, &other), Likeness::Other, "byte {at}");
        }
        assert_eq!(judge(&written, &message(61)), Likeness::Other);
        assert_eq!(judge(&written, &vec![0; written.len() + 1]), Likeness::Other);
        assert_eq!(judge(&message(3), b"xx"), Likeness::Other);
        let mut other = written.clone();
        other[5] = b'x';
        assert_eq!(judge(&written, &other), Likeness::Other, "that is not a time");
    }

    /// A file that ends in the time of the delay warning, across two blocks.
    #[test]
    fn no_byte_of_a_time_is_quiet_at_the_end_of_a_file_either() {
        let mut written = Vec::new();
        encode(&mut written, RecordType::NORMAL, &[b'x'; 500]);
        let start = written.len();
        encode(&mut written, RecordType::WARNING_TIME, b"              0");
        assert!(start < BLOCK_BYTES && BLOCK_BYTES < written.len());
        assert!(
            quiet_bytes(&written).iter().all(|(at, _)| (*at as usize) < start),
            "{:?}",
            quiet_bytes(&written)
        );
    }

    proptest! {
        /// One quiet byte in every block, and none that delivery changes.
        #[test]
        fn every_block_has_a_quiet_byte(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..12),
            rest in 0..1400_usize,
        ) {
            let mut written = message(0);
            let mut types = vec![0, 17, 22];
            types.extend(2..17);
            written.truncate(22);
            for line in &lines {
                types.push(written.len());
                encode(&mut written, RecordType::NORMAL, line);
            }
            let records_end = written.len();
            // A record that does not end.
            written.extend_from_slice(&b"N\xff\xff\x03"[..rest.min(4)]);
            written.resize(records_end + rest, b'y');
            let quiet = quiet_bytes(&written);
            let blocks: Vec<usize> = quiet.iter().map(|(at, _)| *at as usize / BLOCK_BYTES).collect();
            // The last block can be the type of a record alone only where a record is cut off.
            prop_assert_eq!(blocks, (0..written.len().div_ceil(BLOCK_BYTES)).collect::<Vec<_>>());
            for (at, byte) in quiet {
                prop_assert_eq!(written[at as usize], byte);
                prop_assert!(!types.contains(&(at as usize)), "byte {}", at);
            }
        }
    }
}
