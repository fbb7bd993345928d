//! Something wrong in the configuration, with its place and a remedy.

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or `command line`; empty when the error is in none.
    pub file: String,
    /// The first physical line of the setting, from 1, when a line is to blame.
    pub line: Option<usize>,
    /// The parameter; empty when the line names none.
    pub name: String,
    /// Its value, expanded where that was possible.
    pub value: String,
    /// What is wrong, in the words that Postfix logs behind `fatal: `.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// The warnings that Postfix logs before the fatal error.
    pub warnings: Vec<String>,
}

impl ConfigError {
    /// An error without a place, about no parameter; the other methods add to it.
    #[must_use]
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            line: None,
            name: String::new(),
            value: String::new(),
            what: what.into(),
            remedy: remedy.into(),
            warnings: Vec::new(),
        }
    }

    /// The same, in this file, or given as `command line`; `line` is the first physical line of the setting, from 1.
    #[must_use]
    pub fn in_file(self, file: impl Into<String>, line: Option<usize>) -> Self {
        Self { file: file.into(), line, ..self }
    }

    /// The same, about this parameter and its value; about a line that names none if the name is empty.
    #[must_use]
    pub fn about(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), ..self }
    }
}

impl std::fmt::Display for ConfigError {
    /// `FILE, line N: what; remedy`, with the details of a warning where Postfix's error alone says too little.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.line.map(|line| format!("{}, line {line}: ", self.file));
        let place = match line {
            Some(place) => place,
            None if self.file.is_empty() => String::new(),
            None => format!("{}: ", self.file),
        };
        let about_file = format!("file {}: ", self.file);
        let what = self.what.strip_prefix(&place).unwrap_or(&self.what);
        // Postfix's way to name a line of master.cf.
        let line = self.line.map_or_else(String::new, |line| format!("{}: line {line}: ", self.file));
        let what = what.strip_prefix(&line).unwrap_or(what);
        let what = what.strip_prefix(&about_file).unwrap_or(what);
        write!(f, "{place}")?;
        if what == crate::expand::MACRO_ERROR {
            write!(f, "{} = {}: ", self.name, self.value)?;
        } else if self.warnings.is_empty() || !what.is_empty() {
            write!(f, "{what}")?;
            if !self.warnings.is_empty() {
                write!(f, ": ")?;
            }
        }
        write!(f, "{}", self.warnings.join(": "))?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl std::error::Error for ConfigError {}
