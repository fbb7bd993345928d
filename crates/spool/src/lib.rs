//! The durable queue directory: create, commit, recover, list.

pub mod committer;
pub mod directories;
mod disk;
mod draft;
mod error;
mod logs;
pub mod queue;
pub mod simulated;
mod spool;
mod stale;
mod unix;

pub use disk::{Disk, FileKind, Status, Timestamp};
pub use draft::{Draft, Receipt};
pub use error::{ErrorKind, SpoolError, Step};
pub use queue::{Entry, Queue};
pub use spool::{CommitWay, Notify, Options, Spool};
pub use unix::UnixDisk;
