//! Goes through the messages of a queue that filters select, each once.

use super::directory::Directory;
use super::message::Message;
use super::select::Filters;
use super::{QueueError, complain};
use spool::{Entry, Queue};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::ControlFlow;

/// What a walk is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) directory: &'a Directory,
    pub(super) filters: &'a Filters,
    pub(super) queues: &'a [Queue],
    /// Read why recipients were put off, also where no filter asks for it.
    pub(super) with_reasons: bool,
    /// Seconds since 1970.
    pub(super) now: u64,
}

impl Walk<'_> {
    /// Hands out the messages as they are found, in no order, until it is told to stop. `Ok(false)` if some could not be
    /// read; standard error then says what.
    ///
    /// Remembers eight bytes of each message: one that moves to another queue meanwhile comes once.
    pub(super) fn run(
        &self,
        each: &mut dyn FnMut(Message) -> Result<ControlFlow<()>, QueueError>,
    ) -> Result<bool, QueueError> {
        let (hasher, mut seen) = (RandomState::new(), HashSet::new());
        let mut complete = true;
        // A message that is put off while this looks goes from active to deferred, and back when its time has come: looking
        // at active again behind deferred misses neither.
        let order =
            [Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Active, Queue::Hold, Queue::Corrupt];
        for queue in order.into_iter().filter(|queue| self.queues.contains(queue)) {
            let flow = self.directory.walk(queue, &mut |found| {
                if !seen.insert(hasher.hash_one(found.queue_id)) {
                    return Ok(ControlFlow::Continue(()));
                }
                match self.read(found) {
                    Ok(Some(message)) if self.filters.matches(&message, self.now) => each(message),
                    Ok(_) => Ok(ControlFlow::Continue(())),
                    Err(failure) => {
                        complete = false;
                        complain(&failure);
                        Ok(ControlFlow::Continue(()))
                    }
                }
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(complete)
    }

    /// `None`: it was delivered since it was seen.
    fn read(&self, found: &Entry) -> Result<Option<Message>, QueueError> {
        let with_reasons = self.with_reasons || self.filters.looks_at_reasons();
        match self.directory.open_file(&found.path) {
            Ok(file) => Message::read(self.directory, &file, found, with_reasons).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some((file, found)) = self.directory.open_message(&found.queue_id)? else {
                    return Ok(None);
                };
                Message::read(self.directory, &file, &found, with_reasons).map(Some)
            }
            Err(error) => Err(QueueError::File { path: found.path.clone(), error }),
        }
    }
}
