//! A parameter like canonical_maps or header_checks: tables that are looked up one after the other.

use postfix::notice::{Notice, Severity};

use crate::budget::Budget;
use crate::check::Problem;
use crate::error::{LookupError, OpenError};
use crate::list::Listed;
use crate::options::Options;
use crate::syntax::{next_item, shown};
use crate::table::{Call, Opener};
use postfix::text::until_nul;

/// Which kind of keys a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Addresses: tables of fixed strings are asked in lower case; keys and values that are not UTF-8 are kept away
    /// under smtputf8_enable.
    Addresses,
    /// Lines of a message: bytes, asked as they are.
    Lines,
}

/// A list of tables. Safe to share between threads; a lookup blocks when [`is_remote`](Self::is_remote).
pub struct Maps {
    parameter: &'static str,
    keys: Keys,
    tables: Vec<Listed>,
    options: Options,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").field("parameter", &self.parameter).finish_non_exhaustive()
    }
}

impl Maps {
    /// Opens the tables that `text`, the value of the parameter with `$name` expanded, lists.
    ///
    /// A table that cannot be opened is no error here: it gives an `error: ` notice, and each lookup that reaches it
    /// fails.
    ///
    /// # Errors
    /// What is fatal in Postfix: an item that is not `type:name`, or, under daemon_table_open_error_is_fatal, a table
    /// that cannot be opened.
    pub fn open(
        parameter: &'static str,
        keys: Keys,
        text: &str,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        let options = options_for(keys, options);
        let mut tables = Vec::new();
        let mut rest = until_nul(text.as_bytes());
        while let Some(item) = next_item(&mut rest) {
            let table = Opener { parameter, options: &options, notices, depth: 0 }.open_item(item)?;
            tables.push(Listed { item: shown(item), table });
        }
        Ok(Self { parameter, keys, tables, options })
    }

    /// The value of the first table that knows the key; never an empty one. With `is_part` only tables of fixed strings
    /// are asked, so that no pattern matches a part of an address by accident.
    ///
    /// # Errors
    /// A table that was reached cannot answer, or its value is empty. What Postfix logs about it is in `notices`.
    pub fn find(
        &self,
        key: &[u8],
        is_part: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupError> {
        self.find_within(None, key, is_part, notices)
    }

    /// As [`find`](Self::find), for a message whose expressions have a budget together.
    ///
    /// # Errors
    /// As for [`find`](Self::find).
    pub fn find_within(
        &self,
        budget: Option<&Budget>,
        key: &[u8],
        is_part: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupError> {
        let key = until_nul(key);
        if key.is_empty() {
            return Ok(None);
        }
        let mut call = Call { notices, deadline: self.options.deadline(), budget };
        for Listed { table, .. } in &self.tables {
            if is_part && !table.is_fixed() {
                continue;
            }
            let failed = || LookupError::Table {
                parameter: self.parameter.to_owned(),
                table: table.name().to_owned(),
            };
            match table.lookup(key, &mut call) {
                Ok(None) => {}
                Ok(Some(value)) if value.is_empty() => {
                    let Self { parameter, .. } = self;
                    for text in [
                        format!("{parameter} lookup of {} returns an empty string result", shown(key)),
                        format!("{parameter} should return NO RESULT in case of NOT FOUND"),
                    ] {
                        call.notices.push(Notice::warning(text));
                    }
                    return Err(failed());
                }
                Ok(Some(value)) => return Ok(Some(value)),
                Err(_) => {
                    let text = format!("{} lookup error for \"{}\"", table.name(), shown(key));
                    call.notices.push(Notice::warning(text));
                    return Err(failed());
                }
            }
        }
        Ok(None)
    }

    /// Whether some table talks over a socket, so that a lookup can take long.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.tables.iter().any(|listed| listed.table.is_remote())
    }

    /// Whether some table has expressions, so that a lookup can cost more than a moment of processor time.
    #[must_use]
    pub fn has_expressions(&self) -> bool {
        self.tables.iter().any(|listed| listed.table.has_expressions())
    }

    /// Host and port of each server that the tables reach through the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        self.tables.iter().flat_map(|listed| listed.table.inet_servers()).collect()
    }

    /// Whether no table is listed, so that nothing is ever found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Which table is no longer what was opened, if its change is not seen anyway; as Postfix calls it when it logs
    /// `table … has changed`.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        let flags = match self.keys {
            Keys::Addresses => "lock|fold_fix|utf8_request",
            Keys::Lines => "lock",
        };
        let changed = self.tables.iter().find(|listed| listed.table.changed().is_some())?;
        Some(format!("{}(0,{flags})", changed.item))
    }
}

/// Lists what is wrong with the tables of a parameter, in their order. Tables are opened, remote servers are not asked.
#[must_use]
pub fn check_maps(parameter: &'static str, keys: Keys, text: &str, options: &Options) -> Vec<Problem> {
    // A table that cannot be opened is to be described, not to end the check.
    let options = Options {
        daemon_table_open_error_is_fatal: false,
        asks_at_open: false,
        ..options_for(keys, options)
    };
    let mut problems = Vec::new();
    let mut rest = until_nul(text.as_bytes());
    while let Some(item) = next_item(&mut rest) {
        let mut notices = Vec::new();
        let opened = Opener { parameter, options: &options, notices: &mut notices, depth: 0 }.open_item(item);
        let problem = |severity, what: String, remedy: &str| Problem {
            severity,
            place: None,
            item: shown(item),
            what,
            remedy: remedy.to_owned(),
        };
        problems.extend(notices.into_iter().map(|notice| problem(notice.severity, notice.text, "")));
        if let Err(error) = opened {
            problems.push(problem(Severity::Error, error.to_string(), "write type:name"));
        }
    }
    problems
}

fn options_for(keys: Keys, options: &Options) -> Options {
    let are_addresses = keys == Keys::Addresses;
    Options {
        fold_keys: are_addresses,
        smtputf8_enable: are_addresses && options.smtputf8_enable,
        ..options.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, key: &str, is_part: bool) -> (Result<Option<String>, LookupError>, Vec<String>) {
        let mut notices = Vec::new();
        let maps =
            Maps::open("canonical_maps", Keys::Addresses, text, &Options::default(), &mut notices).unwrap();
        let found = maps.find(key.as_bytes(), is_part, &mut notices);
        let found = found.map(|value| value.map(|value| String::from_utf8(value).unwrap()));
        (found, notices.into_iter().map(|notice| notice.text).collect())
    }

    fn failed(table: &str) -> Result<Option<String>, LookupError> {
        Err(LookupError::Table { parameter: "canonical_maps".to_owned(), table: table.to_owned() })
    }

    #[test]
    fn the_first_table_that_knows_the_key_answers() {
        let list = "inline:{Alice@x=1}, inline:{alice@x=2, bob@x=3}";
        assert_eq!(find(list, "ALICE@X", false), (Ok(Some("1".to_owned())), vec![]));
        assert_eq!(find(list, "bob@x", true), (Ok(Some("3".to_owned())), vec![]));
        assert_eq!(find(list, "carol@x", false), (Ok(None), vec![]));
        assert_eq!(find("", "carol@x", false), (Ok(None), vec![]));
        assert_eq!(find("static:y", "", false), (Ok(None), vec![]));
    }

    #[test]
    fn patterns_are_not_tried_on_parts() {
        let list = "regexp:{{/a/ 1}}, inline:{@x=2}";
        assert_eq!(find(list, "a@x", false).0, Ok(Some("1".to_owned())));
        assert_eq!(find(list, "@x", true).0, Ok(Some("2".to_owned())));
        assert_eq!(find("regexp:{{/a/ 1}}", "a", true).0, Ok(None));
    }

    #[test]
    fn an_error_ends_the_search() {
        let (found, log) = find("inline:{a=1} fail:down inline:{b=2}", "b", false);
        assert_eq!((found, log), (failed("fail:down"), vec!["fail:down lookup error for \"b\"".to_owned()]));
        assert_eq!(find("inline:{a=1} fail:down", "a", false).0, Ok(Some("1".to_owned())));
    }

    #[test]
    fn empty_values_are_errors() {
        let (found, log) = find("pcre:{{/^(x?)a/ $1}}", "a", false);
        assert_eq!(found, failed("pcre:{{/^(x?)a/ $1}}"));
        assert_eq!(
            log,
            [
                "canonical_maps lookup of a returns an empty string result",
                "canonical_maps should return NO RESULT in case of NOT FOUND"
            ]
        );
    }

    #[test]
    fn lines_are_bytes() {
        let mut notices = Vec::new();
        let options = Options::default();
        let maps = Maps::open("header_checks", Keys::Lines, "inline:{A=1}", &options, &mut notices).unwrap();
        assert_eq!(maps.find(b"A", false, &mut notices), Ok(Some(b"1".to_vec())));
        assert_eq!(maps.find(b"a", false, &mut notices), Ok(None));
        assert_eq!(maps.find(b"A\xff", false, &mut notices), Ok(None));
        assert_eq!(notices, []);
    }

    #[test]
    fn a_changed_table_is_named_as_in_postfix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, "a b\n").unwrap();
        let text = format!("texthash:{}", path.display());
        for (keys, flags) in [(Keys::Addresses, "lock|fold_fix|utf8_request"), (Keys::Lines, "lock")] {
            std::fs::write(&path, "a b\n").unwrap();
            let maps = Maps::open("x", keys, &text, &Options::default(), &mut Vec::new()).unwrap();
            assert_eq!(maps.changed(), None);
            std::fs::write(&path, "a b\nc d\n").unwrap();
            assert_eq!(maps.changed(), Some(format!("{text}(0,{flags})")));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| -> Vec<String> {
            let problems = check_maps("canonical_maps", Keys::Addresses, text, &Options::default());
            problems.iter().map(|problem| format!("{}{problem}", problem.severity.prefix())).collect()
        };
        assert_eq!(said("inline:{Alice=b}"), [""; 0]);
        assert_eq!(
            said("/etc/aliases"),
            [
                "error: \"/etc/aliases\": canonical_maps: open dictionary: expecting \"type:name\" form instead of \
              \"/etc/aliases:\"; write type:name"
            ]
        );
        assert!(said("nope:x")[0].starts_with("error: \"nope:x\": unsupported dictionary type: nope"));
    }
}
