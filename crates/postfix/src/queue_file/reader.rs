//! Walks the records of a queue file in the order that Postfix reads them: pointers followed, padding skipped.

use std::collections::BTreeSet;

use super::size_record::NUMBER_MAX;
use crate::record::{DecodeError, LENGTH_BYTES_MAX, RecordType, decode_head};

/// How many jumps to an earlier place a file may have; qmgr(8) of Postfix 3.7 gives up behind as many.
pub const BACKWARD_JUMPS_MAX: usize = 10_000;

/// How much is read at once.
const CHUNK_BYTES: usize = 8192;

/// Where the bytes of a queue file come from: a slice here, an open file elsewhere.
pub trait Source {
    /// What can go wrong with reading.
    type Error: std::error::Error + 'static;

    /// Reads some bytes at an absolute offset; 0 means that the file ends there.
    ///
    /// # Errors
    /// What the source says: an error of read(2) for a file, never for a slice.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Source for &[u8] {
    type Error = std::convert::Infallible;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(len)
    }
}

/// Why the records of a file cannot be read further. Offsets are absolute.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E: std::error::Error + 'static> {
    /// The source failed.
    #[error("cannot read at offset {offset}: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// What the source said.
        #[source]
        error: E,
    },
    /// The bytes are no record.
    #[error("damaged at offset {offset}: {error}")]
    Record {
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
    /// A pointer record does not hold a number.
    #[error("damaged at offset {offset}: malformed pointer record")]
    Pointer {
        /// Where the pointer record begins.
        offset: u64,
    },
    /// The pointers lead back too often.
    #[error("damaged at offset {offset}: more than {BACKWARD_JUMPS_MAX} reverse jump records")]
    BackwardJumps {
        /// Where the last pointer record begins.
        offset: u64,
    },
    /// The pointers lead in a circle. Postfix goes round until it has jumped too often.
    #[error("damaged at offset {offset}: reverse jump record leads in a circle")]
    Circle {
        /// Where the last pointer record begins.
        offset: u64,
    },
}

/// A record and the place where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<'a> {
    /// Absolute offset of the type byte.
    pub offset: u64,
    /// Absolute offset behind the data.
    pub end: u64,
    /// What it is.
    pub kind: RecordType,
    /// What it says.
    pub data: &'a [u8],
}

/// The walk. It ends behind the `E` record, or where the file ends without one.
#[derive(Debug)]
pub struct Walker<S> {
    source: S,
    /// What was read last; it begins at `window_offset` of the file.
    window: Vec<u8>,
    window_offset: u64,
    /// Where the next record begins.
    position: u64,
    /// The pointer records that led back, by offset: one that does so again would do so for ever.
    backward_jumps: BTreeSet<u64>,
    ended: bool,
}

/// A record in the window: its place and that of its data.
struct LocatedRecord {
    offset: u64,
    end: u64,
    kind: RecordType,
    data: std::ops::Range<usize>,
}

impl<S: Source> Walker<S> {
    /// Starts at the begin of the file.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            window: Vec::new(),
            window_offset: 0,
            position: 0,
            backward_jumps: BTreeSet::new(),
            ended: false,
        }
    }

    /// Goes on with the record at this offset, as a program does that skips the content by the size record.
    pub const fn seek(&mut self, offset: u64) {
        self.position = offset;
    }

    /// The next record; `None` behind `E` or at the end of the file. Pointers and padding are not returned.
    ///
    /// Memory grows with the longest record that is really there, never with a length that is only announced.
    ///
    /// # Errors
    /// The source failed, bytes are not a record, or a pointer is malformed or leads back too often.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the walker's window")]
    pub fn next(&mut self) -> Result<Option<Located<'_>>, WalkError<S::Error>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(found) = self.find()? else {
                self.ended = true;
                return Ok(None);
            };
            self.position = found.end;
            match found.kind {
                RecordType::POINTER => self.jump(&found)?,
                RecordType::PADDING => {}
                kind => {
                    self.ended = kind == RecordType::END;
                    let data = self.window.get(found.data).unwrap_or_default();
                    return Ok(Some(Located { offset: found.offset, end: found.end, kind, data }));
                }
            }
        }
    }

    /// Brings the record at the position into the window.
    fn find(&mut self) -> Result<Option<LocatedRecord>, WalkError<S::Error>> {
        let offset = self.position;
        let mut wanted = 2 + LENGTH_BYTES_MAX;
        self.fill(wanted)?;
        let at_hand = self.at_hand();
        let Some(&kind) = at_hand.first() else { return Ok(None) };
        let kind = RecordType(kind);
        let damaged = |error| WalkError::Record { offset, error };
        let head = decode_head(at_hand).map_err(damaged)?;
        let head = head.ok_or_else(|| damaged(DecodeError::TruncatedLength { kind }))?;
        wanted = head.head_len + head.data_len;
        self.fill(wanted)?;
        let present = self.at_hand().len().saturating_sub(head.head_len);
        if present < head.data_len {
            return Err(damaged(DecodeError::TruncatedData { kind, announced: head.data_len, present }));
        }
        let start = usize::try_from(offset.saturating_sub(self.window_offset)).unwrap_or(usize::MAX);
        let data_start = start.saturating_add(head.head_len);
        Ok(Some(LocatedRecord {
            offset,
            end: offset.saturating_add(wanted as u64),
            kind,
            data: data_start..data_start.saturating_add(head.data_len),
        }))
    }

    /// What the window has from the position on.
    fn at_hand(&self) -> &[u8] {
        let Some(start) = self.position.checked_sub(self.window_offset) else { return &[] };
        usize::try_from(start).ok().and_then(|start| self.window.get(start..)).unwrap_or_default()
    }

    /// Reads on until `wanted` bytes are at hand or the file ends.
    fn fill(&mut self, wanted: usize) -> Result<(), WalkError<S::Error>> {
        if self.at_hand().len() >= wanted {
            return Ok(());
        }
        let kept = self.at_hand().len();
        if kept == 0 {
            self.window.clear();
        } else {
            self.window.drain(..self.window.len() - kept);
        }
        self.window_offset = self.position;
        while self.window.len() < wanted {
            let filled = self.window.len();
            let offset = self.window_offset.saturating_add(filled as u64);
            self.window.resize(filled + CHUNK_BYTES, 0);
            let free = self.window.get_mut(filled..).unwrap_or_default();
            let read = self.source.read_at(offset, free);
            let len = *read.as_ref().unwrap_or(&0);
            self.window.truncate(filled + len.min(CHUNK_BYTES));
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(WalkError::Read { offset, error }),
            }
        }
        Ok(())
    }

    /// Goes where the pointer record points to; a pointer to 0 is only a reserved place.
    fn jump(&mut self, found: &LocatedRecord) -> Result<(), WalkError<S::Error>> {
        let offset = found.offset;
        let data = self.window.get(found.data.clone()).unwrap_or_default();
        let target = str::from_utf8(data).ok().map(str::trim_ascii).and_then(|text| text.parse::<u64>().ok());
        let target = target.filter(|target| *target <= NUMBER_MAX).ok_or(WalkError::Pointer { offset })?;
        if target == 0 {
            return Ok(());
        }
        if target <= offset {
            if !self.backward_jumps.insert(offset) {
                return Err(WalkError::Circle { offset });
            }
            if self.backward_jumps.len() > BACKWARD_JUMPS_MAX {
                return Err(WalkError::BackwardJumps { offset });
            }
        }
        self.position = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_file::{POINTER_RECORD_BYTES, encode_pointer};
    use crate::record::encode;
    use proptest::prelude::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(u64, char, Vec<u8>)>, String> {
        let mut walker = Walker::new(bytes);
        let mut out = Vec::new();
        while let Some(record) = walker.next().map_err(|error| error.to_string())? {
            out.push((record.offset, char::from(record.kind.0), record.data.to_vec()));
        }
        Ok(out)
    }

    #[test]
    fn pointers_are_followed_and_padding_is_not_shown() {
        let mut file = Vec::new();
        encode(&mut file, RecordType::NORMAL, b"one");
        encode_pointer(&mut file, 0);
        encode_pointer(&mut file, 60);
        encode(&mut file, RecordType::NORMAL, b"three");
        encode(&mut file, RecordType::END, b"");
        file.resize(60, 0xff);
        encode(&mut file, RecordType::PADDING, b"   0");
        encode(&mut file, RecordType::NORMAL, b"two");
        encode_pointer(&mut file, 39);
        let read = walk(&file).unwrap();
        assert_eq!(
            read,
            [
                (0, 'N', b"one".to_vec()),
                (66, 'N', b"two".to_vec()),
                (39, 'N', b"three".to_vec()),
                (46, 'E', Vec::new())
            ]
        );
    }

    #[test]
    fn a_circle_ends_when_it_closes() {
        let mut file = Vec::new();
        encode(&mut file, RecordType::NORMAL, b"again");
        encode_pointer(&mut file, 1_000_000);
        file.resize(1_000_000, 0);
        encode_pointer(&mut file, 7);
        assert_eq!(
            walk(&file).unwrap_err(),
            "damaged at offset 1000000: reverse jump record leads in a circle"
        );
        // A caller that keeps what is read must not have to keep a small file ten thousand times.
        let mut file = Vec::new();
        encode(&mut file, RecordType::TIME, b"1");
        encode(&mut file, RecordType::ATTRIBUTE, b"a=b");
        encode_pointer(&mut file, 3);
        let mut walker = Walker::new(&file[..]);
        let mut records = 0;
        while let Ok(Some(_)) = walker.next() {
            records += 1;
        }
        assert_eq!(records, 3);
    }

    #[test]
    fn there_are_not_more_backward_jumps_than_in_postfix() {
        // Each pointer leads to the one before it, the first to the last.
        let file = |pointers: u64| {
            let mut file = Vec::new();
            encode_pointer(&mut file, pointers * POINTER_RECORD_BYTES as u64);
            encode_pointer(&mut file, 1_000_000);
            for at in 2..=pointers {
                encode_pointer(&mut file, (at - 1) * POINTER_RECORD_BYTES as u64);
            }
            file
        };
        assert_eq!(walk(&file(10_001)), Ok(Vec::new()));
        assert_eq!(
            walk(&file(10_002)).unwrap_err(),
            "damaged at offset 34: more than 10000 reverse jump records"
        );
    }

    #[test]
    fn damage_is_told_with_its_place() {
        assert_eq!(walk(b"").unwrap(), []);
        assert_eq!(
            walk(b"N\x01aN\x05abc").unwrap_err(),
            "damaged at offset 3: the record of type 'N' declares 5 bytes of data, but only 3 follow"
        );
        assert_eq!(
            walk(b"N").unwrap_err(),
            "damaged at offset 0: the record of type 'N' ends within its length field"
        );
        assert_eq!(walk(b"p\x01x").unwrap_err(), "damaged at offset 0: malformed pointer record");
        assert_eq!(walk(b"p\x02-1").unwrap_err(), "damaged at offset 0: malformed pointer record");
        // Behind the end of the file there is no record: qmgr(8) calls this a missing end record.
        let mut file = Vec::new();
        encode_pointer(&mut file, 999);
        assert_eq!(walk(&file).unwrap(), []);
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut walker = Walker::new(&b"N\xff\xff\xff\x7fabc"[..]);
        assert!(walker.next().is_err());
        assert!(walker.window.capacity() < 3 * CHUNK_BYTES);
    }

    /// A source that gives one byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Source for Drops<'_> {
        type Error = std::convert::Infallible;

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            let len = buffer.len().min(1);
            self.0.read_at(offset, &mut buffer[..len])
        }
    }

    proptest! {
        #[test]
        fn how_the_source_splits_does_not_matter(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20_000), 0..5)
        ) {
            let mut file = Vec::new();
            for line in &lines {
                encode(&mut file, RecordType::NORMAL, line);
            }
            encode(&mut file, RecordType::END, b"");
            let (mut whole, mut drops) = (Walker::new(&file[..]), Walker::new(Drops(&file)));
            for line in &lines {
                prop_assert_eq!(whole.next().unwrap().unwrap().data, &line[..]);
                prop_assert_eq!(drops.next().unwrap().unwrap().data, &line[..]);
            }
            prop_assert_eq!(whole.next().unwrap().unwrap().kind, RecordType::END);
            prop_assert_eq!(whole.next().unwrap(), None);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in proptest::collection::vec(
            prop_oneof![Just(b'p'), Just(1), Just(2), Just(b'1'), Just(b'0'), Just(b'N'), any::<u8>()], 0..300)
        ) {
            let _ = walk(&bytes);
        }
    }
}
