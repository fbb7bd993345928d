//! The content of a message out of its queue file, in bounded pieces.

use std::fs::File;
use std::io;
use std::ops::Range;

use postfix::queue_file::reader::{WalkError, Walker};
use postfix::record::RecordType;

use crate::mail_copy::QueueFile;

/// About how many bytes a piece has.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// Why the content cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// The records are damaged, or the disk fails.
    #[error(transparent)]
    Walk(#[from] WalkError<io::Error>),
    /// A record that has no place there, or the end of the file.
    #[error("damaged at offset {offset}: bad record type {kind} in the content")]
    Record { offset: u64, kind: RecordType },
    /// The file ends without the record that ends the content.
    #[error("damaged: the content does not end")]
    NoEnd,
}

impl ContentError {
    /// Is the file damaged? A disk that fails may read well another time.
    pub(super) const fn is_damage(&self) -> bool {
        !matches!(self, Self::Walk(WalkError::Read { .. }))
    }
}

/// The content, line by line.
#[derive(Debug)]
pub(super) struct Content<'a> {
    walker: Walker<QueueFile<'a>>,
    is_over: bool,
}

impl<'a> Content<'a> {
    pub(super) fn new(file: &'a File, place: &Range<u64>) -> Self {
        let mut walker = Walker::new(QueueFile(file));
        walker.seek(place.start);
        Self { walker, is_over: false }
    }

    /// Gives lines, or pieces of lines with `false`, to `take` until it says that it has enough. Returns whether there is
    /// more.
    pub(super) fn lines(&mut self, mut take: impl FnMut(&[u8], bool) -> bool) -> Result<bool, ContentError> {
        while !self.is_over {
            let record = self.walker.next()?.ok_or(ContentError::NoEnd)?;
            let has_enough = match record.kind {
                RecordType::NORMAL => take(record.data, true),
                RecordType::PARTIAL => take(record.data, false),
                RecordType::EXTRACTED => {
                    self.is_over = true;
                    true
                }
                kind => return Err(ContentError::Record { offset: record.offset, kind }),
            };
            if has_enough {
                break;
            }
        }
        Ok(!self.is_over)
    }
}
