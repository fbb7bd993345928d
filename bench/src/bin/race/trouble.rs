//! What can go wrong, in words.

use std::fmt;

/// Why there are no results.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

pub(crate) fn trouble(text: impl Into<String>) -> Trouble {
    Trouble(text.into())
}

/// Says what was being done when an error came.
pub(crate) trait Context<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Trouble(format!("{}: {error}", doing())))
    }
}
