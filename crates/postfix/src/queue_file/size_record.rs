//! The size record: six numbers at the start of a queue file, written last.

use crate::record::{RecordType, encode, encoded_len};

/// How many bytes the whole record takes, type and length included.
pub const SIZE_RECORD_BYTES: usize = encoded_len(95);

/// The largest number that fits a column.
pub(super) const NUMBER_MAX: u64 = 999_999_999_999_999;

/// What the size record says. See the fields; offsets and sizes are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SizeRecord {
    /// From [`Self::data_offset`] to the `X` record. Readers seek by it.
    pub data_size: u64,
    /// File offset of the first record of the content, right behind `M`.
    pub data_offset: u64,
    /// How many recipients the file was written with.
    pub recipients: u64,
    /// See [`super::Counts::qmgr_flags`].
    pub qmgr_flags: u32,
    /// Size of the content as logged and as announced to the next server; 0 means as [`Self::data_size`].
    pub content_length: u64,
    /// See [`super::Counts::send_options`].
    pub send_options: u32,
}

/// The text is no size record that a queue manager would work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size record: {}", .0.escape_default())]
pub struct InvalidSizeRecord(
    /// The start of the record's data.
    pub String,
);

impl SizeRecord {
    /// Appends the record to `out`: always [`SIZE_RECORD_BYTES`] bytes. Numbers that do not fit their 15 columns,
    /// which no file system can make happen, become the largest that fits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let numbers = [
            self.data_size,
            self.data_offset,
            self.recipients,
            u64::from(self.qmgr_flags),
            self.content_length,
            u64::from(self.send_options),
        ]
        .map(|number| format!("{:15}", number.min(NUMBER_MAX)));
        encode(out, RecordType::SIZE, numbers.join(" ").as_bytes());
    }

    /// Reads the data of a size record. As with qmgr(8), three numbers are enough, further text is ignored, and size
    /// and offset must be positive; a missing content length is the data size.
    ///
    /// # Errors
    /// The text is not UTF-8, a number is malformed, or size or offset is missing or 0.
    pub fn parse(data: &[u8]) -> Result<Self, InvalidSizeRecord> {
        let invalid =
            || InvalidSizeRecord(String::from_utf8_lossy(data.get(..100).unwrap_or(data)).into_owned());
        let text = str::from_utf8(data).map_err(|_| invalid())?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().transpose().map_err(|_| invalid());
        let data_size = next()?.filter(|size| *size > 0).ok_or_else(invalid)?;
        let data_offset = next()?.filter(|offset| *offset > 0).ok_or_else(invalid)?;
        let recipients = next()?.ok_or_else(invalid)?;
        let qmgr_flags = u32::try_from(next()?.unwrap_or(0)).map_err(|_| invalid())?;
        let content_length = next()?.filter(|length| *length > 0).unwrap_or(data_size);
        let send_options = u32::try_from(next()?.unwrap_or(0)).map_err(|_| invalid())?;
        Ok(Self { data_size, data_offset, recipients, qmgr_flags, content_length, send_options })
    }

    /// File offset of the `X` record; `None` if the record holds nonsense.
    #[must_use]
    pub fn extracted_offset(&self) -> Option<u64> {
        self.data_offset.checked_add(self.data_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postfix_reads() {
        let full = b"            323             495               1               0             323               0";
        let size = SizeRecord::parse(full).unwrap();
        assert_eq!(
            size,
            SizeRecord {
                data_size: 323,
                data_offset: 495,
                recipients: 1,
                qmgr_flags: 0,
                content_length: 323,
                send_options: 0
            }
        );
        let mut out = Vec::new();
        size.encode(&mut out);
        assert_eq!(out, [b"C\x5f", &full[..]].concat());
        assert_eq!(out.len(), SIZE_RECORD_BYTES);
        assert_eq!(SizeRecord::parse(b"5 6 7").unwrap().content_length, 5);
        assert_eq!(SizeRecord::parse(b"5 6 7 0 0 0").unwrap().content_length, 5);
        for bad in [&b""[..], b"323", b"0 5 1", b"5 0 1", b"-5 3 1", b"5 3 1 0 -1 0", b"x", b"5 6 \xff"] {
            assert!(SizeRecord::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(SizeRecord::parse(b"a\x1b").unwrap_err().to_string(), "invalid size record: a\\u{1b}");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(
            data_size in 1..NUMBER_MAX, data_offset in 1..NUMBER_MAX, recipients in 0..NUMBER_MAX, qmgr_flags: u32,
            content_length in 1..NUMBER_MAX, send_options: u32
        ) {
            let size = SizeRecord { data_size, data_offset, recipients, qmgr_flags, content_length, send_options };
            let mut out = Vec::new();
            size.encode(&mut out);
            prop_assert_eq!(out.len(), SIZE_RECORD_BYTES);
            prop_assert_eq!(SizeRecord::parse(&out[2..]).unwrap(), size);
        }
    }
}
