//! Errors of lists and tables, in words that an operator can act on.

/// A list or table cannot be used at all; the server should not start with it. In Postfix each of these is `fatal:`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// `!` with nothing behind it.
    #[error("{parameter}: no pattern after '!' (write !pattern without a blank between)")]
    NoPattern {
        /// The list.
        parameter: String,
    },
    /// An item with a colon that has no type or no name, such as `hash:` or `::1`.
    #[error("{parameter}: open dictionary: expecting \"type:name\" form instead of \"{item}\"{remedy}")]
    NotTypeName {
        /// The list.
        parameter: String,
        /// The item.
        item: String,
        /// What to write instead; begins with a separator, or is empty.
        remedy: String,
    },
    /// A pattern file was opened but not read.
    #[error("{parameter}: cannot read the pattern file {path}: {reason}")]
    PatternFile {
        /// The list.
        parameter: String,
        /// The file.
        path: String,
        /// What the system, or one of our bounds, says.
        reason: String,
    },
    /// Files that include files, or tables that contain tables, more deeply than the bound allows; as a rule one that includes itself.
    #[error("{parameter}: {what} is nested more than {nesting_max} deep; does it include itself?")]
    Nesting {
        /// The list.
        parameter: String,
        /// The file or table at which the bound was met.
        what: String,
        /// The bound.
        nesting_max: usize,
    },
    /// parent_domain_matches_subdomains could not be evaluated.
    #[error("parent_domain_matches_subdomains: {0}")]
    ParentDomains(
        /// Why.
        #[source]
        LookupError,
    ),
    /// A table cannot be opened and daemon_table_open_error_is_fatal says that this is the end.
    #[error("{reason}")]
    Table {
        /// Postfix's words for what is wrong with the table.
        reason: String,
    },
}

/// A list or a table in it could not be evaluated: the answer is neither yes nor no. What Postfix logs about it has
/// already gone into the notices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// A literal pattern that has to be read as a network cannot be.
    #[error("{parameter}: {reason}")]
    Pattern {
        /// The list.
        parameter: String,
        /// Postfix's words, such as `bad mask value in "10.0.0.0/x"`.
        reason: String,
    },
    /// A table failed.
    #[error("{parameter}: {table}: table lookup problem")]
    Table {
        /// The list.
        parameter: String,
        /// `type:name`.
        table: String,
    },
}

/// A lookup in one table failed; why is in the notices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}: table lookup problem")]
pub struct TableError {
    /// `type:name`.
    pub table: String,
    /// Trying again later can help. False when the data or the configuration must be changed first.
    pub temporary: bool,
}
