//! The two regular expression engines that are C libraries. Everything `unsafe` of this crate is here.

mod pcre;
mod posix;

pub(crate) use pcre::{Pcre, PcreFlags};
pub(crate) use posix::{Posix, PosixFlags};

/// Where a group matched: offsets of its first byte and behind its last. `None` if it took no part.
pub(crate) type Group = Option<(usize, usize)>;
