//! What a table is to those who ask it, and what a type of table offers to be opened.

use std::time::Instant;

use postfix::notice::Notice;

use crate::budget::Budget;
use crate::error::{OpenError, TableError};

/// What goes along with one lookup.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is to be logged about it, warnings in the words of Postfix.
    pub notices: &'a mut Vec<Notice>,
    /// When the answer is no longer wanted. Remote tables, locks and expressions that take long look at it.
    pub deadline: Option<Instant>,
    /// What expressions may still cost; `None` gives each lookup a whole budget.
    pub budget: Option<&'a Budget>,
}

/// An open table. Lookups block the thread while a remote server answers.
pub trait Table: Send + Sync {
    /// `type:name`, as it appears in log lines.
    fn name(&self) -> &str;

    /// Asks for a key; `Ok(None)` means that there is no such key. Keys and values end at their first NUL, as in Postfix.
    ///
    /// # Errors
    /// The table cannot answer. Why has been added to the notices, except for `fail:`, which has no reason.
    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError>;

    /// Whether keys are fixed strings, so that asking for parent domains makes sense. A remote table may know only after
    /// a lookup; until then it says no.
    fn is_fixed(&self) -> bool;

    /// Whether lookups may take long: through a socket always, in a file while another program writes it.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether lookups search for expressions, which can cost more than a moment of processor time.
    fn has_expressions(&self) -> bool {
        false
    }

    /// Host and port of each server that lookups reach through the network. Those on local sockets are not among them.
    fn inet_servers(&self) -> Vec<(String, u16)> {
        Vec::new()
    }

    /// Whether some host name could be found in it; false only if the table certainly holds addresses alone.
    fn could_know_a_name(&self) -> bool {
        true
    }

    /// What an operator should know about the contents, for keys that no match list ever asks for.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// An entry whose value says that it is refused, or that it is a rule for another program, as
    /// `values::is_foreign` has it: its key and its value. Looks at a bounded part of the table.
    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        None
    }

    /// The file that has changed since the table was opened, if the change is not seen by lookups anyway.
    fn changed(&self) -> Option<String> {
        None
    }
}

/// An opened table, or why it cannot be opened in the words of Postfix.
pub(super) type Opened = Result<Box<dyn Table>, String>;

/// Opens the tables inside of a table.
pub(super) trait OpenInner {
    /// Opens a table that is written as one item, `type:name`.
    ///
    /// # Errors
    /// As for the outer one; also that tables are nested too deep.
    fn open_inner(&mut self, item: &[u8]) -> Result<Box<dyn Table>, OpenError>;
}
