//! The two methods of Berkeley DB, and why a file does not answer.

use std::ops::RangeInclusive;

/// How keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Hash,
    Btree,
}

impl Method {
    /// The type of such a table in main.cf.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Btree => "btree",
        }
    }

    /// The versions of the format that are alike to a reader: those that Berkeley DB 5.3 reads, and 10, which later releases
    /// write and in which only values in other files are new.
    pub(super) const fn versions(self) -> RangeInclusive<u32> {
        match self {
            Self::Hash => 7..=10,
            Self::Btree => 8..=10,
        }
    }
}

/// Why a file does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The system says so.
    #[error("{0}")]
    Unreadable(String),
    #[error("it is not a Berkeley DB file, or it is damaged")]
    NoDatabase,
    #[error("it is a {}: table", .0.name())]
    OtherMethod(Method),
    #[error(
        "it has version {version} of the {} format, and versions {} to {} are supported",
        .method.name(), .method.versions().start(), .method.versions().end()
    )]
    Version { method: Method, version: u32 },
    /// Something that postmap(1) never makes.
    #[error("{0}, which postmap(1) does not make")]
    Feature(&'static str),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}
