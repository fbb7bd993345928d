//! The contents of a row of the table, and how its value is loaded.

use std::time::Duration;

use crate::compatibility::Level;
use crate::value::{Bounds, Keyword, KeywordSet};

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text; the bounds are those of its length in bytes.
    Text(Bounds),
    /// A list of patterns or names, parsed by the code that uses it.
    List,
    /// `yes` or `no`.
    Boolean,
    /// A whole number of 32 bits.
    Integer(Bounds),
    /// A whole number of 64 bits.
    Long(Bounds),
    /// A time; the bounds are in seconds.
    Time(Bounds),
    /// Any number of these words.
    Keywords(&'static [&'static str]),
    /// One of the words that the function lists.
    Keyword(fn() -> Vec<&'static str>),
    /// A compatibility level, `MAJOR[.MINOR[.PATCH]]`.
    Level,
}

/// The value of a parameter that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This text, before expansion.
    Text(&'static str),
    /// Found out when the configuration is loaded; the text says how.
    Computed(&'static str),
}

/// What becomes of a parameter's value in this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It decides what the server does.
    Effective,
    /// It is checked as Postfix's qmqpd(8) checks it, and has no other effect; the text says why.
    Validated(&'static str),
    /// It has no effect on mail that comes by QMQP, in Postfix as here; the text says why.
    NoEffectOnQmqp(&'static str),
    /// Other programs read it; the text says which, or for what.
    OtherPrograms(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The name, as in main.cf.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its value when it is not set.
    pub default: DefaultValue,
    /// Unit of a number, `bytes` for example; empty where there is none. Times carry their own.
    pub unit: &'static str,
    /// What it means, in sentences for the manual.
    pub doc: &'static str,
    /// What becomes of its value.
    pub reach: Reach,
}

impl Parameter {
    /// Whether this is a parameter of our own that Postfix does not know.
    #[must_use]
    pub fn is_own(&self) -> bool {
        const POSTFIX: [&str; 4] =
            ["qmqpd_authorized_clients", "qmqpd_timeout", "qmqpd_error_delay", "qmqpd_client_port_logging"];
        self.name.starts_with("qmqpd_") && !POSTFIX.contains(&self.name)
    }

    /// The kind of value in words, with its bounds: `time, 1s or more`.
    #[must_use]
    pub fn kind_in_words(&self) -> String {
        match self.kind {
            Kind::Text(bounds) => match (bounds.min, bounds.max) {
                (Some(1), None) => "text, not empty".to_owned(),
                (Some(min), Some(max)) if min == max => format!("text of {min} bytes"),
                _ => format!("text{}", bounds_in_words(bounds, " bytes")),
            },
            Kind::List => "list".to_owned(),
            Kind::Boolean => "yes or no".to_owned(),
            Kind::Integer(bounds) | Kind::Long(bounds) => {
                let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
                let whole =
                    if self.unit.is_empty() { "number".to_owned() } else { format!("number of{unit}") };
                format!("{whole}{}", bounds_in_words(bounds, ""))
            }
            Kind::Time(bounds) => format!("time{}", bounds_in_words(bounds, "s")),
            Kind::Keywords(words) => format!("any of: {}", words.join(", ")),
            Kind::Keyword(words) => format!("one of: {}", words().join(", ")),
            Kind::Level => "compatibility level, major[.minor[.patch]]".to_owned(),
        }
    }

    /// What to write instead of a bad value.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self.kind {
            Kind::Boolean => "write yes or no".to_owned(),
            Kind::Integer(_) | Kind::Long(_) => format!("write a {} (digits only)", self.kind_in_words()),
            Kind::Time(_) => format!(
                "write a {}: digits, directly followed by a unit (s, m, h, d or w), for example {}",
                self.kind_in_words(),
                match self.default {
                    DefaultValue::Text(text) if !text.starts_with('$') => text,
                    _ => "300s",
                }
            ),
            Kind::Keywords(_) | Kind::Keyword(_) => format!("write {}", self.kind_in_words()),
            Kind::Text(_) | Kind::List => format!("write a {}", self.kind_in_words()),
            Kind::Level => "write a level such as 3.6".to_owned(),
        }
    }
}

fn bounds_in_words(bounds: Bounds, unit: &str) -> String {
    match (bounds.min, bounds.max) {
        (None, None) => String::new(),
        (Some(min), None) => format!(", {min}{unit} or more"),
        (None, Some(max)) => format!(", at most {max}{unit}"),
        (Some(min), Some(max)) => format!(", {min}{unit} to {max}{unit}"),
    }
}

/// Loads the values of rows; each method returns `None` when it has found something wrong.
pub(crate) trait Load {
    /// The bounds are those of the text's length.
    fn text(&mut self, row: &Parameter, bounds: Bounds) -> Option<String>;
    fn boolean(&mut self, row: &Parameter) -> Option<bool>;
    fn integer(&mut self, row: &Parameter, bounds: Bounds) -> Option<i64>;
    fn long(&mut self, row: &Parameter, bounds: Bounds) -> Option<i64>;
    fn time(&mut self, row: &Parameter, bounds: Bounds) -> Option<Duration>;
    /// The bounds are those of the text's length.
    fn keywords(&mut self, row: &Parameter, words: &[&'static str], bounds: Bounds) -> Option<KeywordSet>;
    fn level(&mut self, row: &Parameter) -> Option<Level>;
    fn keyword<T: Keyword>(&mut self, row: &Parameter) -> Option<T>;
}
