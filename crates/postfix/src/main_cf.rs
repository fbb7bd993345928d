//! main.cf as a list of names with raw values, and the `-o name=value` that replace them.
//!
//! Nothing is expanded or typed here; see [`crate::settings`]. Observed on Postfix 3.7.

use std::collections::{BTreeMap, BTreeSet};

use crate::config_error::ConfigError;
use crate::notice::Notice;
use crate::text::{NameValueError, read_logical_lines, split_name_value};

/// One setting of main.cf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; bytes that are not UTF-8 are replaced, since no reference can name it anyway.
    pub name: String,
    /// The value before expansion, without white space at its ends.
    pub value: Vec<u8>,
    /// Number of the first physical line, from 1.
    pub line: usize,
}

/// A main.cf file. Errors in it are kept, so that a check can report them together with those of the values.
#[derive(Debug, Clone, Default)]
pub struct MainCf {
    path: String,
    entries: Vec<Entry>,
    by_name: BTreeMap<String, usize>,
    notices: Vec<Notice>,
    errors: Vec<ConfigError>,
}

impl MainCf {
    /// Reads the content of the file `path`; the path serves for messages only.
    #[must_use]
    pub fn parse(path: &str, input: &[u8]) -> Self {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        let lines = read_logical_lines(path, input, &mut file.notices);
        for line in lines {
            match split_name_value(&line.text) {
                Ok((name, value)) => file.enter(name, value, line.first_line),
                Err(error) => file.errors.push(syntax_error(path, line.first_line, &line.text, error)),
            }
        }
        file
    }

    fn enter(&mut self, name: &[u8], value: &[u8], line: usize) {
        let name = String::from_utf8_lossy(name).into_owned();
        let entry = Entry { name: name.clone(), value: value.to_vec(), line };
        let earlier = self.by_name.insert(name, self.entries.len());
        if let Some(old) = earlier.and_then(|at| self.entries.get(at))
            && old.value != entry.value
        {
            self.notices.push(Notice::warning(format!(
                "{}, line {line}: overriding earlier entry: {}={}",
                self.path,
                old.name,
                String::from_utf8_lossy(&old.value)
            )));
        }
        self.entries.push(entry);
    }

    /// The path that messages show; empty for a configuration that is not a file.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The setting of a name; the last one wins.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|&at| self.entries.get(at))
    }

    /// The settings that are in force, each name once, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(at, entry)| self.by_name.get(&entry.name) == Some(at))
            .map(|(_, entry)| entry)
    }

    /// The same file as if it did not set these names, and without its errors: what is left when everything that is
    /// known to be wrong is taken away.
    #[must_use]
    pub(crate) fn without(&self, names: &BTreeSet<String>) -> Self {
        let mut rest = Self { errors: Vec::new(), ..self.clone() };
        rest.by_name.retain(|name, _| !names.contains(name));
        rest
    }

    /// What Postfix logs while it reads this file.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Lines that are not `name = value`.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

fn syntax_error(path: &str, line: usize, text: &[u8], error: NameValueError) -> ConfigError {
    let shown = String::from_utf8_lossy(text);
    let remedy = match error {
        NameValueError::MissingName => "write a parameter name before the \"=\"",
        NameValueError::MissingEquals => {
            "write \"name = value\"; a line that continues the previous one begins with white space"
        }
    };
    ConfigError::new(format!("{path}, line {line}: {error}: \"{shown}\""), remedy)
        .in_file(path, Some(line))
        .about("", shown.clone())
}

/// Names that no file and no option can change.
pub const READ_ONLY: [&str; 3] = ["process_id", "process_name", "service_name"];

/// `-o name=value`: replaces a setting of main.cf, or a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The parameter name.
    pub name: String,
    /// The value before expansion.
    pub value: String,
    /// Where it was given, for messages: `command line`, or `FILE, line N`.
    pub origin: String,
}

impl Override {
    /// Reads the argument of `-o`. White space around the `=` is allowed; the `{ }` of master.cf are not, since master
    /// takes them off.
    ///
    /// # Errors
    /// The text is not `name=value`.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Box<ConfigError>> {
        match split_name_value(text.as_bytes()) {
            Ok((name, value)) => Ok(Self {
                name: String::from_utf8_lossy(name).into_owned(),
                value: String::from_utf8_lossy(value).into_owned(),
                origin: origin.to_owned(),
            }),
            Err(error) => {
                let what = format!("invalid \"-o {text}\" option value: {error}");
                let error = ConfigError::new(what, "write -o name=value").in_file(origin, None);
                Err(Box::new(error.about("", text)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(file: &MainCf, name: &str) -> Option<String> {
        file.get(name).map(|entry| String::from_utf8(entry.value.clone()).unwrap())
    }

    #[test]
    fn settings_are_stored_raw() {
        let file = MainCf::parse("/p/main.cf", b"a = $b # c\r\n# x\nb=\n  1,\n\n  {2}\nA=3\n");
        assert_eq!(value(&file, "a").as_deref(), Some("$b # c"));
        assert_eq!(value(&file, "b").as_deref(), Some("1,  {2}"));
        assert_eq!(value(&file, "A").as_deref(), Some("3"));
        assert_eq!(file.get("b").map(|entry| entry.line), Some(3));
        assert_eq!(value(&file, "c"), None);
        assert!(file.notices().is_empty() && file.errors().is_empty());
    }

    #[test]
    fn the_last_one_wins_with_a_warning() {
        let file = MainCf::parse("/p/main.cf", b"a = 1\nb = 2\na = 1\na = 3\n");
        assert_eq!(value(&file, "a").as_deref(), Some("3"));
        assert_eq!(file.notices(), [Notice::warning("/p/main.cf, line 4: overriding earlier entry: a=1")]);
        let names: Vec<_> = file.entries().map(|entry| (entry.name.as_str(), entry.line)).collect();
        assert_eq!(names, [("b", 2), ("a", 4)]);
    }

    #[test]
    fn every_bad_line_is_reported() {
        let file = MainCf::parse("/p/main.cf", b"ok = 1\n\na b = c\n= d\nword\n more\n");
        let whats: Vec<_> = file.errors().iter().map(|error| error.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "/p/main.cf, line 3: missing '=' after attribute name: \"a b = c\"",
                "/p/main.cf, line 4: missing attribute name: \"= d\"",
                "/p/main.cf, line 5: missing '=' after attribute name: \"word more\"",
            ]
        );
        assert_eq!(value(&file, "ok").as_deref(), Some("1"));
    }

    #[test]
    fn a_byte_order_mark_is_part_of_the_name() {
        let file = MainCf::parse("p", b"\xef\xbb\xbfa = 1\n");
        assert!(file.get("a").is_none() && file.get("\u{feff}a").is_some());
    }

    #[test]
    fn overrides() {
        let given = Override::parse(" a = b c ", "command line").unwrap();
        assert_eq!((given.name.as_str(), given.value.as_str()), ("a", "b c"));
        assert_eq!(
            Override::parse("a", "command line").unwrap_err().what,
            "invalid \"-o a\" option value: missing '=' after attribute name"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = MainCf::parse("p", &input);
        }

        #[test]
        fn what_is_written_is_read(values in proptest::collection::btree_map("[a-z_]{1,8}", "[!-~][ -~]{0,20}", 0..10)) {
            let text: String = values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            let file = MainCf::parse("p", text.as_bytes());
            for (name, text) in &values {
                prop_assert_eq!(value(&file, name).unwrap(), text.trim_end());
            }
        }
    }
}
