//! The name that a message has in every log line.

use std::sync::{Arc, OnceLock};

use postfix::notice::Severity;
use postfix::queue_id::QueueId;

use daemon::log::{Log, Program};

/// The queue ID of one message. The back end gives it, once, on whatever thread; the session reads it here for its lines.
#[derive(Debug, Clone, Default)]
pub struct Name(Arc<OnceLock<QueueId>>);

impl Name {
    /// The queue ID, if the message has one by now.
    #[must_use]
    pub fn get(&self) -> Option<&QueueId> {
        self.0.get()
    }

    /// Gives it, with the first line about the message: whose it is. The line comes first, so that no other line of the message can.
    pub(super) fn give(&self, queue_id: QueueId, client: &str, log: &Log) {
        log.write(Program::Service, Severity::Info, &format!("{queue_id}: client={client}"));
        // A message has one name: a second one would be a fault of ours, and the first stays.
        let _ = self.0.set(queue_id);
    }
}
