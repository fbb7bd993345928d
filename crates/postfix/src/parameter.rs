//! The table of parameters: what each is called, what it may be, what it defaults to, and whom it reaches.
//!
//! There is no parameter that is read and then ignored: [`Reach`] says of each row what becomes of its value. The table
//! itself is [`table`]; the fields of [`crate::settings::Settings`] are made from the same rows.

mod other;
pub mod table;

pub(crate) use other::is_template;
pub use other::{is_read_by_other_programs, other_names};

use crate::value::Bounds;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text; the bounds are those of its length in bytes.
    Text(Bounds),
    /// A list of patterns or names, read by whoever uses it.
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

/// The value of a parameter that nobody sets.
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
    /// What it is when nobody sets it.
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
                "write a {}: digits, and directly behind them a unit (s, m, h, d or w), for example {}",
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

/// The row of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Parameter> {
    table::PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// The known name that looks most like `name`, if one looks much like it.
#[must_use]
pub fn suggestion(name: &str) -> Option<&'static str> {
    let limit = (name.chars().count() / 4).clamp(1, 3);
    let own = table::PARAMETERS.iter().map(|parameter| parameter.name);
    own.chain(other_names())
        .filter(|known| known.len().abs_diff(name.len()) <= limit)
        .map(|known| (edit_distance(name, known), known))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to turn one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut previous = '\0';
    for (at, letter) in left.chars().enumerate() {
        let mut next = vec![at.saturating_add(1)];
        for (column, &other) in right.iter().enumerate() {
            let cell = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = cell(&row, column).saturating_add(usize::from(letter != other));
            let removed = cell(&row, column.saturating_add(1)).saturating_add(1);
            let inserted = cell(&next, column).saturating_add(1);
            let swapped = match column.checked_sub(1) {
                Some(before) if at > 0 && right.get(before) == Some(&letter) && previous == other => {
                    cell(&above, before).saturating_add(1)
                }
                _ => usize::MAX,
            };
            next.push(replaced.min(removed).min(inserted).min(swapped));
        }
        above = std::mem::replace(&mut row, next);
        previous = letter;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_unique_and_documented() {
        let mut names: Vec<_> = table::PARAMETERS.iter().map(|parameter| parameter.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for parameter in table::PARAMETERS {
            assert!(parameter.doc.len() > 20 && parameter.doc.trim().ends_with('.'), "{}", parameter.name);
            assert!(
                !other_names().any(|other| other == parameter.name),
                "{} is in both lists",
                parameter.name
            );
        }
    }

    #[test]
    fn misspelt_names_find_their_model() {
        assert_eq!(suggestion("qmqpd_authorised_clients"), Some("qmqpd_authorized_clients"));
        assert_eq!(suggestion("mesage_size_limit"), Some("message_size_limit"));
        assert_eq!(suggestion("myhostnmae"), Some("myhostname"));
        assert_eq!(suggestion("smtpd_relay_restriction"), Some("smtpd_relay_restrictions"));
        assert_eq!(suggestion("my_own_list"), None);
        // One letter in four may be wrong, and three in all.
        assert_eq!(suggestion("relayhots"), Some("relayhost"));
        assert_eq!(suggestion("rleayhots"), Some("relayhost"));
        assert_eq!(suggestion("erlayhots_x"), None);
        assert_eq!(suggestion("qmqpd_auhtorised_cleints"), Some("qmqpd_authorized_clients"));
        assert_eq!(suggestion("qmqpd_auhtorised_cleintx"), None);
    }

    #[test]
    fn kinds_in_words() {
        let words = |name| find(name).unwrap().kind_in_words();
        assert_eq!(words("qmqpd_timeout"), "time, 1s or more");
        assert_eq!(words("line_length_limit"), "number of bytes, 512 or more");
        assert_eq!(words("default_verp_delimiters"), "text of 2 bytes");
        assert_eq!(words("soft_bounce"), "yes or no");
        assert_eq!(words("mynetworks_style"), "one of: class, subnet, host");
    }

    #[test]
    fn distances() {
        for (left, right, distance) in [
            ("ab", "ba", 1),
            ("xab", "xba", 1),
            ("abc", "bca", 2),
            ("abcd", "badc", 2),
            ("aab", "aba", 1),
            ("abab", "baba", 2),
            ("ca", "abc", 3),
            ("abc", "acx", 2),
            ("aa", "bb", 2),
            ("ab", "bx", 2),
            ("xb", "ba", 2),
        ] {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn our_own_parameters_are_known_as_such() {
        let own = |name| find(name).unwrap().is_own();
        assert!(own("qmqpd_commit") && own("qmqpd_session_deadline"));
        assert!(!own("qmqpd_timeout") && !own("qmqpd_authorized_clients") && !own("soft_bounce"));
    }

    #[test]
    fn bounds_of_texts_in_words() {
        let words =
            |bounds| Parameter { kind: Kind::Text(bounds), ..*find("myhostname").unwrap() }.kind_in_words();
        assert_eq!(words(Bounds::at_least(1)), "text, not empty");
        assert_eq!(words(Bounds::at_least(2)), "text, 2 bytes or more");
        assert_eq!(words(Bounds::between(2, 2)), "text of 2 bytes");
        assert_eq!(words(Bounds::between(1, 2)), "text, 1 bytes to 2 bytes");
        assert_eq!(words(Bounds::at_most(9)), "text, at most 9 bytes");
        assert_eq!(words(Bounds::NONE), "text");
    }

    proptest! {
        #[test]
        fn distance_is_a_distance(left in "[ab_]{0,8}", right in "[ab_]{0,8}") {
            prop_assert_eq!(edit_distance(&left, &right), edit_distance(&right, &left));
            prop_assert_eq!(edit_distance(&left, &right) == 0, left == right);
            prop_assert!(edit_distance(&left, &right) <= left.len().max(right.len()));
        }
    }
}
