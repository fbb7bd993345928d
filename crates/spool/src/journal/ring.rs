//! Tracks which bytes of a journal file are in use.
//!
//! Behind the places for marks the file is a ring of batches. It first grows to its limit, then begins again at the
//! front, where by then everything is retired; when everything is retired before that, it begins again at once.

use std::collections::VecDeque;

use crate::planted::{Planted, is_planted};

use super::record::BATCH_ALIGNMENT_BYTES;

/// The two places for marks, written in turn: while one is written, the other stands.
pub(super) const MARK_PLACES: [u64; 2] = [0, BATCH_ALIGNMENT_BYTES as u64];
/// Where batches begin.
pub(super) const BATCHES_START: u64 = 2 * BATCH_ALIGNMENT_BYTES as u64;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Ring {
    /// What is not retired, oldest first.
    in_use: VecDeque<Extent>,
    /// Where the last batch ended.
    head: u64,
    limit: u64,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    /// The first sequence number behind it.
    end_sequence: u64,
}

impl Ring {
    /// An empty ring in a file of at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { in_use: VecDeque::new(), head: BATCHES_START, limit }
    }

    /// Where so many bytes can go; `None`: nowhere before something is retired.
    pub(super) fn place(&self, bytes: u64) -> Option<u64> {
        let Some(oldest) = self.in_use.front() else {
            return (BATCHES_START.saturating_add(bytes) <= self.limit).then_some(BATCHES_START);
        };
        let end = self.head.saturating_add(bytes);
        let is_turned = self.head <= oldest.offset;
        if is_turned {
            return (end <= oldest.offset).then_some(self.head);
        }
        if end <= self.limit {
            return Some(self.head);
        }
        (is_planted(Planted::OverwriteRing) || BATCHES_START.saturating_add(bytes) <= oldest.offset)
            .then_some(BATCHES_START)
    }

    /// A batch stands there now.
    pub(super) fn push(&mut self, offset: u64, bytes: u64, end_sequence: u64) {
        self.in_use.push_back(Extent { offset, end_sequence });
        self.head = offset.saturating_add(bytes);
    }

    /// Batches of lower sequence numbers are no longer needed.
    pub(super) fn retire(&mut self, below: u64) {
        while self.in_use.front().is_some_and(|extent| extent.end_sequence <= below) {
            self.in_use.pop_front();
        }
    }

    /// The first sequence number behind all that stands here; `None` if all of it is retired.
    pub(super) fn end_sequence(&self) -> Option<u64> {
        self.in_use.back().map(|extent| extent.end_sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No batch is ever put where another one still stands.
        #[test]
        fn nothing_in_use_is_overwritten(steps in proptest::collection::vec((1..9_u64, 0..4_u64), 1..300)) {
            let mut ring = Ring::new(BATCHES_START + 20 * 4096);
            let mut standing: Vec<(u64, u64, u64)> = Vec::new();
            let (mut sequence, mut retired, mut refused) = (0, 0, 0);
            for (pages, retire) in steps {
                let bytes = pages * 4096;
                match ring.place(bytes) {
                    Some(offset) => {
                        prop_assert!(offset >= BATCHES_START && offset + bytes <= ring.limit);
                        for (other, length, _) in &standing {
                            prop_assert!(offset + bytes <= *other || other + length <= offset);
                        }
                        sequence += 1;
                        ring.push(offset, bytes, sequence);
                        standing.push((offset, bytes, sequence));
                    }
                    None => {
                        prop_assert!(!standing.is_empty());
                        refused += 1;
                    }
                }
                retired = (retired + retire).min(sequence);
                ring.retire(retired);
                standing.retain(|(_, _, end)| *end > retired);
                prop_assert_eq!(ring.end_sequence().is_none(), standing.is_empty());
            }
            // Room comes back.
            ring.retire(sequence);
            prop_assert!(ring.place(20 * 4096).is_some(), "{refused} refused");
        }
    }
}
