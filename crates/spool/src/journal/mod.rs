//! The journal: many messages made durable by one fdatasync(2).
//!
//! A message's queue file is written as always, but not synced. Its bytes are appended to the journal file of this
//! process, together with those of all messages that have come meanwhile, and one sync makes them all durable. That
//! is when they are acknowledged. A thread that finds no other one writing writes the next batch, and continues
//! until nothing waits: no timer, no thread of its own, and batches as large as the disk is slow.
//!
//! A *checkpoint* makes the queue files themselves durable, with one syncfs(2), and then *retires* what stands in
//! the journal: most of those files are delivered and gone by then, and never reach the disk. It happens some time
//! after the first message, or when the journal has grown to some size.
//!
//! # What is where
//!
//! `journal/INSTANCE.v2` in the queue directory, one file for each process, locked as long as the process lives;
//! made with its first message, removed when it ends in order. [`record`] has the format, [`names`] the names,
//! [`scan`] reads what a crash left of it, [`settlement`] brings back what it answers for, and [`continuity`] says
//! when a missing file was delivered and not lost. What cannot be read is kept aside as
//! `journal/INSTANCE.v2.damaged`.
//!
//! # After an error
//!
//! A process whose journal cannot be written or synced, or whose checkpoint failed, *gives it up*: it lets go of
//! the file, for settlement to prove message by message what is on disk, and from then on syncs each queue file by
//! itself. What waited for the journal is proven in the same way, or refused. So an error in another program's
//! file, or a journal that an operator removed, stops no mail; and where the disk is broken, each message is told
//! so by its own sync.
//!
//! # Order of things
//!
//! | step | after a crash of the machine from here on |
//! |---|---|
//! | the queue file is written, has its final mode, and is closed | the message is there, or not, or in part; the client has no reply |
//! | its record is written, in a batch | the same |
//! | the journal is synced; **the client is told** | recovery writes it again unless it is there, whole |
//! | the file system is synced | the same |
//! | the mark is written and synced | the queue file is on disk |
//!
//! A message is in the journal at most until the second checkpoint after it.

mod checkpoint;
pub mod continuity;
mod done;
mod identity;
mod likeness;
pub mod names;
mod proof;
pub mod record;
mod ring;
pub mod scan;
pub mod settlement;
mod writer;

pub(crate) use done::DoneJournal;
pub use identity::{BootId, Instance, Mount, WitnessId};
pub use names::DIRECTORY;
pub(crate) use writer::Journal;
pub use writer::Options;
