//! The permissions that tell what state a queue file is in: see the [states of a queue file](crate#states-of-a-queue-file).

/// The permissions of a finished queue file. The owner's execute bit is what Postfix's queue manager looks for; any
/// bit for group or others means something else to it.
pub(crate) const READY_MODE: u32 = 0o700;

/// The mark of a draft of this program: the sticky bit, which means nothing on a regular file. Queue manager, showq(8)
/// and postsuper(1) of Postfix 3.7 look at the owner's bits only, and cleanup(8) never sets it, so that its own drafts
/// in the same queue can be told from ours. Giving the file its final permissions takes the mark away.
pub(crate) const DRAFT_MARK: u32 = 0o1000;
