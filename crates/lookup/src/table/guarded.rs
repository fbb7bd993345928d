//! What every table does about NUL and about text that is not UTF-8.

use postfix::notice::Notice;
use postfix::text::until_nul;

use super::driver::{Call, Table};
use crate::error::TableError;
use crate::syntax::shown;

/// A value as a C string would hold it: a server or a file may send anything.
fn cut_at_nul(mut value: Vec<u8>) -> Vec<u8> {
    value.truncate(until_nul(&value).len());
    value
}

/// Stands before every table: cuts keys and values at NUL, and keeps what is not UTF-8 away when smtputf8_enable is set.
pub(super) struct Guarded {
    pub(super) table: Box<dyn Table>,
    pub(super) unicode: bool,
}

impl Table for Guarded {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        const MALFORMED: &str = "malformed UTF-8 or invalid codepoint";
        let key = until_nul(key);
        if !self.unicode {
            return Ok(self.table.lookup(key, call)?.map(cut_at_nul));
        }
        if std::str::from_utf8(key).is_err() {
            let text = format!("{}: non-UTF-8 key \"{}\": {MALFORMED}", self.name(), shown(key));
            call.notices.push(Notice::warning(text));
            return Ok(None);
        }
        let value = self.table.lookup(key, call)?.map(cut_at_nul);
        if let Some(bytes) = value.as_deref()
            && std::str::from_utf8(bytes).is_err()
        {
            let (key, value) = (shown(key), shown(bytes));
            let text = format!("{}: key \"{key}\": non-UTF-8 value \"{value}\": {MALFORMED}", self.name());
            call.notices.push(Notice::warning(text));
            return Err(TableError { table: self.name().to_owned(), temporary: false });
        }
        Ok(value)
    }

    fn is_fixed(&self) -> bool {
        self.table.is_fixed()
    }

    fn is_remote(&self) -> bool {
        self.table.is_remote()
    }

    fn has_expressions(&self) -> bool {
        self.table.has_expressions()
    }

    fn inet_servers(&self) -> Vec<(String, u16)> {
        self.table.inet_servers()
    }

    fn could_know_a_name(&self) -> bool {
        self.table.could_know_a_name()
    }

    fn remarks(&self) -> Vec<String> {
        self.table.remarks()
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        self.table.foreign_entry()
    }

    fn changed(&self) -> Option<String> {
        self.table.changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it is asked, and a NUL behind it.
    struct Echo;

    impl Table for Echo {
        fn name(&self) -> &'static str {
            "echo:x"
        }

        fn lookup(&self, key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
            let value = if key == b"bad" { b"\xff" } else { key };
            Ok(Some([value, &b"\0behind"[..]].concat()))
        }

        fn is_fixed(&self) -> bool {
            false
        }
    }

    fn ask(unicode: bool, key: &[u8]) -> (Result<Option<Vec<u8>>, TableError>, Vec<String>) {
        let mut notices = Vec::new();
        let table = Guarded { table: Box::new(Echo), unicode };
        let result = table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None });
        (result, notices.into_iter().map(|notice| notice.text).collect())
    }

    #[test]
    fn keys_and_values_end_at_nul() {
        for unicode in [false, true] {
            assert_eq!(ask(unicode, b"a\0b"), (Ok(Some(b"a".to_vec())), vec![]));
        }
        assert_eq!(ask(false, b"\xff"), (Ok(Some(b"\xff".to_vec())), vec![]));
    }

    #[test]
    fn what_is_not_utf8_is_kept_away() {
        let words = "malformed UTF-8 or invalid codepoint";
        let text = format!("echo:x: non-UTF-8 key \"k\u{fffd}\": {words}");
        assert_eq!(ask(true, b"k\xff"), (Ok(None), vec![text]));
        let text = format!("echo:x: key \"bad\": non-UTF-8 value \"\u{fffd}\": {words}");
        let failed = TableError { table: "echo:x".to_owned(), temporary: false };
        assert_eq!(ask(true, b"bad"), (Err(failed), vec![text]));
    }
}
