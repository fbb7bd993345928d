//! Exit statuses of the program.

/// For a run that is not possible, or output that cannot be written.
pub(super) const EXIT_TROUBLE: u8 = 2;
