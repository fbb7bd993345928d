//! Where messages are kept, below cleanup: a queue directory of Postfix's format. Nothing outside of this folder knows
//! offsets, the gap in front of streamed content, the disk, or its threads.
//!
//! ```text
//! Store::create ─► Draft ─ append ─ append ─ … ─┬─ commit ─► Receipt, or why there is none
//!                                               └─ discard, or dropped: gone
//! ```
//!
//! What holds for a caller, wherever the messages are kept:
//! - a draft has its queue ID from the beginning, and it is the one that the receipt has;
//! - nothing of a draft counts before [`Draft::commit`] has come to a receipt;
//! - what goes wrong in [`Draft::append`] is told by [`Draft::commit`], and in the log at once;
//! - a refusal says whether the message is not kept ([`Refusal::Storage`]), or whether that is unknown ([`Refusal::Unknown`]).
//!
//! A short message takes the same steps in one go ([`Store::whole`]).

pub(super) mod directory;
mod draft;
mod layout;
mod queue_file;
mod records;
mod shared;
mod whole;

use std::io;
use std::sync::Arc;

use postfix::settings::Settings;
use spool::committer::{Clock, Committers};
use spool::{Spool, UnixDisk};

pub(super) use self::draft::Draft;
use self::queue_file::QueueFile;
pub(super) use self::records::Records;
use self::shared::Shared;
pub(super) use self::whole::{Answer, WholeDraft};
use super::Refusal;
use super::wake::Wake;
use daemon::log::Log;

/// A queue directory, the threads that write to it, and the queue manager that reads it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

impl Store {
    /// Starts its threads and a task of the runtime. At most so many messages are under way at a time.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(
        spool: Spool<UnixDisk>,
        clock: Clock,
        settings: &Settings,
        messages_max: usize,
        log: Log,
    ) -> io::Result<Self> {
        // Each message waits for one job at a time, so this many can never be too few.
        let waiting_jobs_max = messages_max.saturating_mul(2);
        let committers =
            Committers::start(spool, clock, super::needs::file_threads(settings), waiting_jobs_max)?;
        Ok(Self(Arc::new(Shared {
            committers: Arc::new(committers),
            front_bytes: layout::front_bytes(settings),
            wake: Wake::start(&super::wake::queue_manager(settings), settings.trigger_timeout),
            log,
        })))
    }

    /// Begins a message.
    pub(super) async fn create(&self) -> Result<Draft, Refusal> {
        match QueueFile::create(&self.0.committers).await {
            Ok(file) => Ok(Draft::new(file, Arc::clone(&self.0))),
            Err(failure) => Err(self.0.refused_without_draft(&failure)),
        }
    }

    /// Does a message from its beginning to its end as one job of a thread that may wait for the disk. `work` gets the draft, and
    /// gives its answer when it has one; that can be after it has returned.
    pub(super) async fn whole<T: Send + 'static>(
        &self,
        work: impl FnOnce(WholeDraft, Answer<T>) + Send + 'static,
    ) -> Result<T, Refusal> {
        whole::run(&self.0, work).await
    }

    /// Finishes what was begun, discards included, and takes no more.
    pub fn shut_down(&self) {
        self.0.committers.shut_down();
    }
}
