//! Tables made of tables: `unionmap:`, `pipemap:` and `debug:`.

use postfix::notice::Notice;
use postfix::text::strip_braces;

use super::driver::{OpenInner, Opened};
use super::{Call, Table, TableError};
use crate::error::OpenError;
use crate::syntax::{next_item, shown};

/// How the answers of several tables become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `unionmap:` all answers, joined by commas.
    Union,
    /// `pipemap:` the answer of one is the question to the next.
    Pipe,
}

struct Combined {
    name: String,
    how: How,
    tables: Vec<Box<dyn Table>>,
}

/// `unionmap:{type:name, …}` or `pipemap:{type:name, …}`.
pub(super) fn open(how: How, name: &[u8], opener: &mut impl OpenInner) -> Result<Opened, OpenError> {
    let type_name = match how {
        How::Union => "unionmap",
        How::Pipe => "pipemap",
    };
    let full_name = format!("{type_name}:{}", shown(name));
    let bad_syntax =
        || Ok(Err(format!("bad syntax: \"{full_name}\"; need \"{type_name}:{{type:name...}}\"")));
    // Text behind the closing brace is no table.
    let Ok(mut rest) = strip_braces(name) else { return bad_syntax() };
    let items: Vec<&[u8]> = std::iter::from_fn(|| next_item(&mut rest)).collect();
    if items.is_empty() || items.iter().any(|item| !item.contains(&b':')) {
        return bad_syntax();
    }
    let tables = items.into_iter().map(|item| opener.open_inner(item)).collect::<Result<_, _>>()?;
    Ok(Ok(Box::new(Combined { name: full_name, how, tables })))
}

impl Combined {
    fn failed(&self, error: &TableError) -> TableError {
        TableError { table: self.name.clone(), temporary: error.temporary }
    }
}

impl Table for Combined {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let mut ask =
            |table: &dyn Table, key: &[u8]| table.lookup(key, call).map_err(|error| self.failed(&error));
        match self.how {
            How::Union => {
                let mut result = Vec::new();
                for table in &self.tables {
                    if let Some(value) = ask(table.as_ref(), key)? {
                        if !result.is_empty() {
                            result.push(b',');
                        }
                        result.extend_from_slice(&value);
                    }
                }
                // Nothing but empty answers is no answer, as in Postfix.
                Ok((!result.is_empty()).then_some(result))
            }
            How::Pipe => {
                let mut value = key.to_vec();
                for table in &self.tables {
                    match ask(table.as_ref(), &value)? {
                        Some(next) => value = next,
                        None => return Ok(None),
                    }
                }
                Ok(Some(value))
            }
        }
    }

    fn is_fixed(&self) -> bool {
        self.tables.first().is_some_and(|table| table.is_fixed())
    }

    fn is_remote(&self) -> bool {
        self.tables.iter().any(|table| table.is_remote())
    }

    fn has_expressions(&self) -> bool {
        self.tables.iter().any(|table| table.has_expressions())
    }

    fn inet_servers(&self) -> Vec<(String, u16)> {
        self.tables.iter().flat_map(|table| table.inet_servers()).collect()
    }

    fn could_know_a_name(&self) -> bool {
        match self.how {
            How::Union => self.tables.iter().any(|table| table.could_know_a_name()),
            How::Pipe => self.tables.first().is_some_and(|table| table.could_know_a_name()),
        }
    }

    fn remarks(&self) -> Vec<String> {
        let asked = match self.how {
            How::Union => self.tables.len(),
            // The others are asked for what the one before them answers.
            How::Pipe => 1,
        };
        self.tables.iter().take(asked).flat_map(|table| table.remarks()).collect()
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        match self.how {
            How::Union => self.tables.iter().find_map(|table| table.foreign_entry()),
            // Which value comes of which key is not known without asking.
            How::Pipe => None,
        }
    }

    fn changed(&self) -> Option<String> {
        self.tables.iter().find_map(|table| table.changed())
    }
}

/// Logs what another table answers.
struct Debug {
    name: String,
    table: Box<dyn Table>,
}

/// `debug:type:name` (Postfix 3.11).
pub(super) fn open_debug(name: &[u8], opener: &mut impl OpenInner) -> Result<Opened, OpenError> {
    let table = opener.open_inner(name)?;
    Ok(Ok(Box::new(Debug { name: format!("debug:{}", shown(name)), table })))
}

impl Table for Debug {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let result = self.table.lookup(key, call);
        let answer = match &result {
            Ok(Some(value)) => shown(value),
            Ok(None) => "not_found".to_owned(),
            Err(_) => "error".to_owned(),
        };
        let table = self.name.strip_prefix("debug:").unwrap_or(&self.name);
        let text = format!("{table} lookup: \"{}\" = \"{answer}\"", shown(key));
        call.notices.push(Notice::info(text));
        result.map_err(|error| TableError { table: self.name.clone(), temporary: error.temporary })
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
    use crate::options::Options;
    use crate::table::{Call, TableError, open};
    use crate::{OpenError, syntax::shown};
    use postfix::notice::Notice;

    #[test]
    fn servers_behind_other_tables_are_known() {
        let servers = |type_name, name| {
            open(type_name, name, &Options::default(), &mut Vec::new()).unwrap().inet_servers()
        };
        let tables = "{tcp:maps.example:7777, socketmap:unix:/s:x, socketmap:inet:192.0.2.1:9:x, static:a}";
        let found = [("maps.example".to_owned(), 7777), ("192.0.2.1".to_owned(), 9)];
        assert_eq!(servers("unionmap", tables), found);
        assert_eq!(servers("debug", "tcp:[2001:db8::1]:7"), [("2001:db8::1".to_owned(), 7)]);
        assert!(servers("static", "a").is_empty());
    }

    fn ask(type_name: &str, name: &str, key: &str) -> Result<Option<String>, TableError> {
        let mut notices = Vec::new();
        let table = open(type_name, name, &Options::default(), &mut notices).unwrap();
        let mut call = Call { notices: &mut notices, deadline: None, budget: None };
        Ok(table.lookup(key.as_bytes(), &mut call)?.map(|value| shown(&value)))
    }

    #[test]
    fn answers_combine() {
        assert_eq!(ask("unionmap", "{static:a, inline:{k=b}}", "k"), Ok(Some("a,b".to_owned())));
        assert_eq!(ask("unionmap", "{inline:{k=b}}", "x"), Ok(None));
        assert_eq!(ask("pipemap", "{inline:{a=b},inline:{b=c}}", "a"), Ok(Some("c".to_owned())));
        assert_eq!(ask("pipemap", "{inline:{a=b},inline:{c=d}}", "a"), Ok(None));
        let failed = |table: &str| Err(TableError { table: table.to_owned(), temporary: true });
        assert_eq!(ask("unionmap", "{static:a,fail:x}", "k"), failed("unionmap:{static:a,fail:x}"));
        assert_eq!(ask("unionmap", "{a}", "k"), failed("unionmap:{a}"));
    }

    #[test]
    fn debug_logs_the_answer() {
        let mut notices = Vec::new();
        let table = open("debug", "inline:{a=b}", &Options::default(), &mut notices).unwrap();
        for key in [&b"a"[..], b"c"] {
            table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None }).unwrap();
        }
        assert_eq!(
            notices,
            [
                Notice::info("inline:{a=b} lookup: \"a\" = \"b\""),
                Notice::info("inline:{a=b} lookup: \"c\" = \"not_found\"")
            ]
        );
    }

    #[test]
    fn nesting_has_a_bound() {
        let mut name = "static:x".to_owned();
        for _ in 0..12 {
            name = format!("debug:{name}");
        }
        let (_, name) = name.split_once(':').unwrap();
        let result = open("debug", name, &Options::default(), &mut Vec::new());
        assert!(matches!(result.err(), Some(OpenError::Nesting { nesting_max: 10, .. })));
    }
}
