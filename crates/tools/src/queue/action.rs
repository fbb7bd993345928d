//! What an operator can ask for, in his words and in those of the spool.

use super::wake;
use spool::Queue;
use spool::operator::Verb;

/// The service that looks after the queues.
pub(super) const QUEUE_MANAGER: &str = "qmgr";
/// The service that empties maildrop.
pub(super) const PICKUP: &str = "pickup";
/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Hold,
    Release,
    Delete,
    Requeue,
    Expire,
    Flush,
}

impl Action {
    /// As it is said of a message, in the words of postsuper(1) where it has them.
    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Hold => "placed on hold",
            Self::Release => "released from hold",
            Self::Delete => "removed",
            Self::Requeue => "requeued",
            Self::Expire => "expired",
            Self::Flush => "due now",
        }
    }

    /// As it is typed.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Delete => "delete",
            Self::Requeue => "requeue",
            Self::Expire => "expire",
            Self::Flush => "flush",
        }
    }

    /// The queues that are looked at where the user names none. What is corrupt is for him to look at first.
    pub(super) const fn queues(self) -> &'static [Queue] {
        match self {
            Self::Hold => &[Queue::Incoming, Queue::Active, Queue::Deferred],
            Self::Release => &[Queue::Hold],
            Self::Flush => &[Queue::Incoming, Queue::Deferred],
            Self::Delete | Self::Requeue | Self::Expire => {
                &[Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Hold]
            }
        }
    }

    /// Whether there is anything to do with a message in this queue.
    pub(super) fn is_for(self, queue: Queue) -> bool {
        self == Self::Delete || self.queues().contains(&queue)
    }

    pub(super) const fn verb(self, through_pickup: bool) -> Verb {
        match self {
            Self::Hold => Verb::Hold,
            Self::Release => Verb::Release,
            Self::Delete => Verb::Delete,
            Self::Requeue => Verb::Requeue { through_pickup },
            Self::Expire => Verb::Expire,
            Self::Flush => Verb::Flush,
        }
    }

    /// Who is told afterwards, and what.
    pub(super) const fn wakes(self, through_pickup: bool) -> Option<(&'static str, &'static [u8])> {
        match self {
            Self::Hold | Self::Delete => None,
            Self::Release | Self::Expire => {
                Some((QUEUE_MANAGER, &[wake::SCAN_INCOMING, wake::SCAN_DEFERRED]))
            }
            Self::Requeue if through_pickup => Some((PICKUP, &[wake::WAKE_PICKUP])),
            Self::Requeue | Self::Flush => Some((QUEUE_MANAGER, &[wake::SCAN_INCOMING])),
        }
    }
}
