//! The proof that a message is durable, and who receives it.

use postfix::queue_id::QueueId;

/// What is called when a message or a job is done, on a committer thread: it must be short.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

/// The message is on disk, whole, and will be delivered whatever happens to this machine's power. Only
/// [`Draft::commit`](crate::Draft::commit) and [`Draft::commit_whole`](crate::Draft::commit_whole) make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a receipt is what the sender of the message waits for"]
pub struct Receipt {
    queue_id: QueueId,
}

impl Receipt {
    pub(crate) const fn new(queue_id: QueueId) -> Self {
        Self { queue_id }
    }

    /// The message's queue ID.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }
}
