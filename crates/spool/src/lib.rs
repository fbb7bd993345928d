//! The durable queue directory: can an accepted message be lost?
//!
//! A message is accepted when [`Draft::commit`] or [`Draft::commit_whole`] comes to a [`Receipt`], and there is no
//! other way to get one.
//!
//! # What it is not
//!
//! It knows no header and no record: a queue file is bytes to it. It has no log and no clock: notices go to [`Notify`],
//! times come in. Its calls block; [`committer`] has the threads for them.
//!
//! # The two types that matter
//!
//! [`Spool`] is the queue directory of a process. [`Draft`] is one message that is being written; dropping it discards
//! the message. Behind both is a [`Disk`]: [`UnixDisk`] in a program, a simulated one in tests.
//!
//! # Example
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! use std::sync::Arc;
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use spool::{Options, Spool, Timestamp, UnixDisk};
//!
//! let clock = || {
//!     let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
//!     Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() }
//! };
//! let options = Options { create_missing: true, ..Options::default() };
//! let disk = UnixDisk::open(directory.path())?;
//! let spool = Spool::open(disk, &options, Arc::new(|notice| eprintln!("{}", notice.text)))?;
//! spool.remove_stale(clock())?;
//!
//! let mut draft = spool.create(&clock)?;
//! draft.write_at(0, b"the records of a queue file")?;
//! let receipt = draft.commit()?;
//! println!("queued as {}", receipt.queue_id());
//! # Ok(())
//! # }
//! ```
//!
//! # States of a queue file
//!
//! The directories, names and final permissions are those of Postfix 3.7's cleanup(8). `ID` is the queue ID, in
//! `incoming/` or in a subdirectory of it when `hash_queue_names` has `incoming`. Where the system lets us
//! (O_TMPFILE, and linkat(2) without a capability since Linux 6.10), a message is written to a file that has no
//! name, and gets it when it is complete:
//!
//! | state | names | mode | a killed process leaves it so, and | a power cut leaves |
//! |---|---|---|---|---|
//! | 1 being written | – | 0700 | the file is gone | 0 |
//! | 4 ready | `incoming/ID` | 0700 | the queue manager delivers it: whole, but not acknowledged | 0, 4, or 4 with a part of the bytes |
//! | 5 durable | `incoming/ID` | 0700 | the queue manager delivers it | 5 |
//! | 0 gone | none | | | 0 or what it was before |
//!
//! Elsewhere, and with [`Options::names_drafts`], the order of the calls is Postfix's too, as seen with a system
//! call trace, except for the mark `01000` (the sticky bit, which means nothing on a file) and the lock:
//!
//! | state | names | mode | lock | a killed process leaves it so, and | a power cut leaves |
//! |---|---|---|---|---|---|
//! | 1 created | `incoming/MICROSECONDS.PROCESS` | 01600 | – | [`Spool::remove_stale`] removes it | 0 or 1 |
//! | 2 locked | the same | 01600 | held | the same | 0 or 1 |
//! | 3 named, being written | `incoming/ID` | 01600 | held | the same | 0, 1 or 3 |
//! | 4 ready | `incoming/ID` | 0700 | held | the queue manager delivers it: whole, but not acknowledged | 0, 1, 3, 4, or 4 with a part of the bytes |
//! | 5 durable | `incoming/ID` | 0700 | – | the queue manager delivers it | 5 |
//! | 0 gone | none | | | | 0 or what it was before |
//!
//! A message that a rule has put on hold gets its name in `hold/`, or in a subdirectory of it, before state 4;
//! there the queue manager does not look for it.
//!
//! Only state 5 is acknowledged. From 1, 2 and 3 a draft that is dropped goes to 0; from 4 it does so when sync or
//! close failed. After a power cut a file in state 4 can lack bytes: it then lacks its end record, and the queue
//! manager puts it into `corrupt`. (A file system that writes the length before the bytes, ext4's `data=writeback`,
//! can leave zeros inside instead, with Postfix as well; the client was not told that the message was accepted.)
//! The queue manager can take a file in state 4 before it is in state 5, so a message can be delivered whose sender
//! is told to try again: at least once, never less.
//!
//! With a [journal] a small message is acknowledged in state 4, closed and without lock, as soon as the journal
//! answers for it; what a power cut leaves of its file, recovery repairs.
//!
//! What tells a draft with a name of ours from others': cleanup(8)'s have no mark and are never touched. What tells
//! an orphan from a draft that is being written: the lock (an open file description lock on the whole file), which
//! a process gives up only by closing the file or by ending. A draft gets it before its name, and loses the mark
//! before it, so that a marked file under an ID without lock has no writer. It is not the lock that Postfix takes
//! with flock(2): the queue manager would put off a file on which it finds that one. Where the file system has no
//! such locks, drafts get no mark, and what a crash leaves stays until postsuper(1) removes it after seven days.
//!
//! Queue manager, showq(8) and postsuper(1) of Postfix 3.7 pass over a draft in state 3 in silence; `postsuper -p`
//! removes it when it was not written to for seven days, `postsuper -d ALL` at once. [`Draft::commit`] therefore
//! looks whether a file that had a name still has it.
//!
//! # What is assumed of a file system
//!
//! That fsync(2) of a new file makes its name durable, its directories' and its permissions too: true of ext4, XFS
//! and Btrfs, and assumed by Postfix. That syncfs(2) does so for all files, and tells of errors: Linux 5.8. That
//! rename(2) and linkat(2) are one step. That the queues are on one file system. The simulated disk (the feature
//! `simulated`) does the worst that these assumptions allow, and `tests/crash.rs` lets it do so at every call.
#![warn(clippy::missing_errors_doc)]
#![forbid(unsafe_code)]

pub mod committer;
pub mod directories;
mod disk;
mod draft;
mod error;
pub mod file_lock;
pub mod journal;
pub mod lease;
mod logs;
mod modes;
mod open_file;
pub mod operator;
pub mod planted;
pub mod queue;
mod receipt;
mod shared;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod spool;
mod stale;
mod sync;
mod unix;

pub use disk::{Disk, FileKind, Status, Timestamp};
pub use draft::Draft;
pub use error::{ErrorKind, SpoolError, Step};
pub use queue::{Entry, Queue};
pub use receipt::{Done, Receipt};
pub use shared::Notify;
pub use spool::{CommitWay, Options, Spool};
pub use unix::UnixDisk;
