//! Converts expanded text to typed values, row by row.

use std::time::Duration;

use super::namespace::Namespace;
use crate::compatibility::Level;
use crate::config_error::ConfigError;
use crate::expand::{ExpandError, MACRO_ERROR};
use crate::parameter::kind::{Kind, Load, Parameter, Reach};
use crate::value::{self, Bounds, Keyword, KeywordSet};

/// Loads values and keeps the errors. A method returns `None` when it has kept one.
pub(super) struct Loader<'n, 'a> {
    namespace: &'n Namespace<'a>,
    pub(super) errors: Vec<ConfigError>,
    /// Defaults that cannot be expanded or are no text, because a value that they refer to cannot or is not: worth a
    /// word only if nothing else is wrong.
    pub(super) consequences: Vec<ConfigError>,
}

impl<'n, 'a> Loader<'n, 'a> {
    pub(super) const fn new(namespace: &'n Namespace<'a>) -> Self {
        Self { namespace, errors: Vec::new(), consequences: Vec::new() }
    }

    fn keep(&mut self, row: &Parameter, value: &str, what: String) {
        self.errors.push(self.namespace.error(row.name, value, what, row.remedy()));
    }

    fn is_foreign_default(&self, row: &Parameter) -> bool {
        let is_foreign_list = matches!((row.reach, row.kind), (Reach::OtherPrograms(_), Kind::List));
        is_foreign_list && !self.namespace.is_set(row.name)
    }

    /// The expanded value as text.
    fn expanded(&mut self, row: &Parameter) -> Option<String> {
        let name = row.name;
        let bytes = match self.namespace.expanded(name) {
            Ok(value) => value.unwrap_or_default(),
            // The default of proxy_read_maps, say, must not fail for a table that only other programs read.
            Err(_) if self.is_foreign_default(row) => return Some(String::new()),
            Err(error) => {
                let raw = self.namespace.raw(name).unwrap_or_default();
                let error = expansion_error(self.namespace, name, &String::from_utf8_lossy(&raw), error);
                let set = self.namespace.is_set(name);
                if set { &mut self.errors } else { &mut self.consequences }.push(error);
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let mut error =
                    self.namespace.error(name, &shown, String::new(), "write it in UTF-8".to_owned());
                error.what = format!("parameter {name}: the value is not UTF-8 text: {shown}");
                let set = self.namespace.is_set(name);
                if set { &mut self.errors } else { &mut self.consequences }.push(error);
                None
            }
        }
    }

    fn typed<T>(&mut self, row: &Parameter, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.expanded(row)?;
        read(&text).map_err(|what| self.keep(row, &text, what)).ok()
    }

    fn keyword_in_words_of_postfix(&self, name: &str, text: &str) -> String {
        if let Err(what) = value::string(name, text, Bounds::at_least(1)) {
            return what;
        }
        match name {
            "syslog_facility" => {
                format!("file {}: parameter {name}: unrecognized value: {text}", self.namespace.path())
            }
            "mynetworks_style" => match crate::text::split_plain_list(text)
                .into_iter()
                .find(|word| !["class", "subnet", "host"].contains(word))
            {
                Some(word) => format!("unknown mynetworks mask style value \"{word}\" in \"{text}\""),
                None => format!("bad mynetworks_style value: {text}; specify exactly one value"),
            },
            _ => format!("unknown {name} value \"{text}\" in \"{text}\""),
        }
    }
}

impl Load for Loader<'_, '_> {
    fn text(&mut self, row: &Parameter, bounds: Bounds) -> Option<String> {
        self.typed(row, |text| value::string(row.name, text, bounds))
    }

    fn boolean(&mut self, row: &Parameter) -> Option<bool> {
        self.typed(row, |text| value::boolean(row.name, text))
    }

    fn integer(&mut self, row: &Parameter, bounds: Bounds) -> Option<i64> {
        self.typed(row, |text| value::integer(row.name, text, bounds))
    }

    fn long(&mut self, row: &Parameter, bounds: Bounds) -> Option<i64> {
        self.typed(row, |text| value::long(row.name, text, bounds))
    }

    fn time(&mut self, row: &Parameter, bounds: Bounds) -> Option<Duration> {
        let unit = value::default_unit(self.namespace.default_raw(row.name).unwrap_or_default());
        self.typed(row, |text| value::time(row.name, text, unit, bounds))
    }

    fn keywords(&mut self, row: &Parameter, words: &[&'static str], bounds: Bounds) -> Option<KeywordSet> {
        self.typed(row, |text| value::keywords(row.name, &value::string(row.name, text, bounds)?, words))
    }

    fn level(&mut self, row: &Parameter) -> Option<Level> {
        self.typed(row, |text| Level::parse(text).map_err(|bad| bad.to_string()))
    }

    fn keyword<T: Keyword>(&mut self, row: &Parameter) -> Option<T> {
        let text = self.expanded(row)?;
        if let Some(&(_, value)) = T::KEYWORDS.iter().find(|(word, _)| *word == text) {
            return Some(value);
        }
        let what = self.keyword_in_words_of_postfix(row.name, &text);
        self.keep(row, &text, what);
        None
    }
}

fn expansion_error(namespace: &Namespace<'_>, name: &str, raw: &str, error: ExpandError) -> ConfigError {
    match error {
        ExpandError::Syntax(warning) => {
            let remedy = "write $name, ${name}, ${name?{a}:{b}}, or $$ for a plain $".to_owned();
            let mut error = namespace.error(name, raw, MACRO_ERROR.to_owned(), remedy);
            error.warnings.push(warning);
            error
        }
        ExpandError::Conversion(_) => {
            namespace.error(name, raw, error.to_string(), "compare numbers of at most 18 digits".to_owned())
        }
        ExpandError::TooLarge => namespace.error(
            name,
            raw,
            format!("parameter {name}: {error}"),
            "refer to fewer or shorter values".to_owned(),
        ),
    }
}
