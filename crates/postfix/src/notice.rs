//! Log lines as values: a pure function returns the text, and its caller writes it to the log.

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

/// Which program of Postfix says such a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The one whose work the pure code does: its caller knows which.
    Caller,
    /// trivial-rewrite(8), which cleanup(8) asks to rewrite addresses.
    TrivialRewrite,
}

/// One line for the log, without prefix, tag or queue ID unless the text has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How grave it is.
    pub severity: Severity,
    /// The text as Postfix words it. It may contain bytes from outside; the log escapes them.
    pub text: String,
    /// Whose tag stands before it.
    pub speaker: Speaker,
}

impl Notice {
    /// A line of the program whose work is done.
    fn new(severity: Severity, text: impl Into<String>) -> Self {
        Self { severity, text: text.into(), speaker: Speaker::Caller }
    }

    /// A line without prefix.
    pub fn info(text: impl Into<String>) -> Self {
        Self::new(Severity::Info, text)
    }

    /// A `warning: ` line.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, text)
    }

    /// An `error: ` line.
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(Severity::Error, text)
    }

    /// A `panic: ` line.
    pub fn panic(text: impl Into<String>) -> Self {
        Self::new(Severity::Panic, text)
    }

    /// The same line, said by trivial-rewrite(8).
    #[must_use]
    pub fn by_trivial_rewrite(self) -> Self {
        Self { speaker: Speaker::TrivialRewrite, ..self }
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
