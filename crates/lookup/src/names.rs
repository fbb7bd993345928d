//! A parameter like mydestination: plain texts, some of them in files or tables.

use postfix::notice::Notice;

use crate::budget::Budget;
use crate::error::{LookupError, OpenError};
use crate::list::List;
use crate::options::Options;
use crate::table::Call;

/// A list of plain texts: items, `!item`, `/file`, `type:table`. Safe to share between threads; asking it blocks when
/// [`is_remote`](Self::is_remote).
pub struct Names {
    list: List,
    options: Options,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("parameter", &self.list.parameter).finish_non_exhaustive()
    }
}

impl Names {
    /// Reads the items of `text`, the value of the parameter with `$name` expanded, their files and tables.
    ///
    /// # Errors
    /// What is fatal in Postfix; see [`OpenError`].
    pub fn open(
        parameter: &'static str,
        text: &str,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        Ok(Self { list: List::open(parameter, text, options, notices)?, options: options.clone() })
    }

    /// Whether the first item that is this text, in any case of letters, or the first table that knows it, is a plain
    /// one.
    ///
    /// # Errors
    /// A table that is reached before any hit cannot answer. What Postfix logs about it is in `notices`.
    pub fn contains(&self, text: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupError> {
        self.contains_within(None, text, notices)
    }

    /// As [`contains`](Self::contains), for a message whose expressions have a budget together.
    ///
    /// # Errors
    /// As for [`contains`](Self::contains).
    pub fn contains_within(
        &self,
        budget: Option<&Budget>,
        text: &[u8],
        notices: &mut Vec<Notice>,
    ) -> Result<bool, LookupError> {
        self.list.matches_text(text, &mut Call { notices, deadline: self.options.deadline(), budget })
    }

    /// Whether some table has expressions, so that a lookup can cost more than a moment of processor time.
    #[must_use]
    pub fn has_expressions(&self) -> bool {
        self.list.tables().any(|listed| listed.table.has_expressions())
    }

    /// Whether some table talks over a socket, so that an answer can take long.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.list.is_remote()
    }

    /// Host and port of each server that the tables of the list reach through the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        self.list.inet_servers()
    }

    /// Which table or included file is no longer what was opened, if its change is not seen anyway.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        self.list.changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &str, text: &str) -> Result<bool, LookupError> {
        let mut notices = Vec::new();
        let names = Names::open("mydestination", list, &Options::default(), &mut notices).unwrap();
        names.contains(text.as_bytes(), &mut notices)
    }

    #[test]
    fn texts_are_found_in_any_case() {
        let list = "Mail.Example, !b.example, inline:{c.example=x}, localhost";
        for (text, expected) in [
            ("mail.EXAMPLE", true),
            ("b.example", false),
            ("C.example", true),
            ("sub.mail.example", false),
            ("localhost", true),
            ("d.example", false),
        ] {
            assert_eq!(contains(list, text), Ok(expected), "{text}");
        }
        let failed = LookupError::Table { parameter: "mydestination".to_owned(), table: "fail:x".to_owned() };
        assert_eq!(contains("a, fail:x", "a"), Ok(true));
        assert_eq!(contains("a, fail:x", "b"), Err(failed));
    }
}
