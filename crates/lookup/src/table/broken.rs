//! The table in the place of one that cannot be opened.

use postfix::notice::Notice;

use super::driver::{Call, Table};
use crate::error::TableError;
use crate::watch::Missed;

/// A table that could not be opened.
pub(crate) struct Broken {
    name: String,
    reason: String,
    /// The files that can make it whole.
    missed: Missed,
}

impl Broken {
    pub(crate) fn boxed(name: String, reason: String, missed: Missed) -> Box<dyn Table> {
        Box::new(Self { name, reason, missed })
    }
}

impl Table for Broken {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, _key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        call.notices.push(Notice::warning(format!("{} is unavailable. {}", self.name, self.reason)));
        Err(TableError { table: self.name.clone(), temporary: true })
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn changed(&self) -> Option<String> {
        self.missed.changed().map(|path| path.display().to_string())
    }
}
