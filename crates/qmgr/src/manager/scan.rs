//! Going through a queue, a few files at a time.

use spool::queue::{Entries, list};
use spool::{Entry, Queue, SpoolError, Timestamp, UnixDisk};

/// How many files one turn looks at.
const FILES_PER_TURN: usize = 200;

/// A scan that keeps its place.
#[derive(Debug)]
pub(super) struct Scan<'q> {
    disk: &'q UnixDisk,
    queue: Queue,
    entries: Option<Entries<'q, UnixDisk>>,
    /// Another one was asked for meanwhile.
    is_wanted: bool,
    ignores_times: bool,
}

impl<'q> Scan<'q> {
    /// None is under way.
    pub(super) const fn new(disk: &'q UnixDisk, queue: Queue) -> Self {
        Self { disk, queue, entries: None, is_wanted: false, ignores_times: false }
    }

    /// Begins one, or another one behind the one that is under way.
    pub(super) fn request(&mut self, ignores_times: bool) {
        self.is_wanted = true;
        self.ignores_times |= ignores_times;
    }

    /// Is there anything to look at?
    pub(super) const fn is_under_way(&self) -> bool {
        self.entries.is_some() || self.is_wanted
    }

    /// The next message that is due, if one of the next files is. Files that cannot be looked at are told to `failed`.
    pub(super) fn next(&mut self, now: Timestamp, failed: &mut dyn FnMut(SpoolError)) -> Option<Entry> {
        if self.entries.is_none() && std::mem::take(&mut self.is_wanted) {
            self.entries = Some(list(self.disk, self.queue));
        }
        let entries = self.entries.as_mut()?;
        for _ in 0..FILES_PER_TURN {
            match entries.next() {
                None => {
                    self.entries = None;
                    if !self.is_wanted {
                        self.ignores_times = false;
                    }
                    return None;
                }
                Some(Ok(entry)) => {
                    // One second early counts, as with Postfix.
                    let is_due = entry.status.modified.seconds <= now.seconds.saturating_add(1);
                    if entry.status.is_ready() && !entry.is_draft() && (is_due || self.ignores_times) {
                        return Some(entry);
                    }
                }
                Some(Err(error)) => failed(error),
            }
        }
        None
    }
}
