//! What a pure function wants to have logged: it returns the text, and the caller who owns a log writes it.

/// How grave a log line is. The order is from harmless to grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Normal operation; no prefix in the log.
    Info,
    /// `warning: ` in the log.
    Warning,
    /// `error: ` in the log.
    Error,
    /// `fatal: ` in the log; the process ends.
    Fatal,
    /// `panic: ` in the log; one of our own invariants does not hold.
    Panic,
}

impl Severity {
    /// The words that Postfix puts before the text of a line, with the blank; empty for [`Severity::Info`].
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
            Self::Fatal => "fatal: ",
            Self::Panic => "panic: ",
        }
    }
}

/// One line for the log, without prefix, tag or queue ID unless the text has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How grave it is.
    pub severity: Severity,
    /// The text as Postfix words it. It may hold bytes from outside: whoever writes it escapes them.
    pub text: String,
}

impl Notice {
    /// A line without prefix.
    pub fn info(text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, text: text.into() }
    }

    /// A `warning: ` line.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }

    /// An `error: ` line.
    pub fn error(text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_as_in_postfix() {
        use Severity::{Error, Fatal, Info, Panic, Warning};
        let prefixes = [Info, Warning, Error, Fatal, Panic].map(Severity::prefix);
        assert_eq!(prefixes, ["", "warning: ", "error: ", "fatal: ", "panic: "]);
    }
}
