//! What all drafts of a store share, and how each of them ends.

use std::sync::Arc;

use cleanup::Fate;
use daemon::log::{Log, Program};
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use spool::UnixDisk;
use spool::committer::Committers;

use super::queue_file::StoreError;
use crate::wake::Wake;
use crate::{Receipt, Refusal};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) committers: Arc<Committers<UnixDisk>>,
    /// Bytes kept in front of streamed content, for the envelope that comes later.
    pub(super) front_bytes: u64,
    pub(super) wake: Wake,
    pub(super) log: Log,
}

impl Shared {
    pub(super) fn refused_without_draft(&self, failure: &StoreError) -> Refusal {
        self.log.write(Program::Cleanup, Severity::Warning, &failure.to_string());
        failure.refusal()
    }

    pub(super) fn log_failure(&self, queue_id: &QueueId, failure: &StoreError) {
        self.log.write(Program::Cleanup, Severity::Warning, &format!("{queue_id}: {failure}"));
    }

    /// How every commit ends: the queue manager hears of new mail, the log of what went wrong.
    pub(super) fn conclude(
        &self,
        queue_id: &QueueId,
        fate: Fate,
        committed: Result<spool::Receipt, StoreError>,
    ) -> Result<Receipt, Refusal> {
        match committed {
            Ok(receipt) => {
                if fate == Fate::Deliver {
                    self.wake.queue_manager();
                }
                Ok(receipt.into())
            }
            Err(failure) => {
                self.log_failure(queue_id, &failure);
                Err(failure.refusal())
            }
        }
    }
}
