//! Where messages are kept: a queue directory of Postfix's format, on a disk of this machine.

pub(super) mod directory;
pub(super) mod draft;
pub(super) mod queue_file;
