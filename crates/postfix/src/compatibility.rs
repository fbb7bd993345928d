//! Which Postfix is followed: `compatibility_level = MAJOR[.MINOR[.PATCH]]` selects some defaults, `mail_version` the
//! release where releases differ without a setting.

use crate::value::parse_integer;

/// A compatibility level, ordered as Postfix orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Level {
    major: i64,
    minor: i64,
    patch: i64,
}

/// A text that is not a compatibility level. `Display` is Postfix's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed compatibility level syntax: \"{0}\"")]
pub struct BadLevel(pub String);

impl Level {
    /// The level `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major: major as i64, minor: minor as i64, patch: 0 }
    }

    /// Reads `MAJOR[.MINOR[.PATCH]]`; minor and patch are at most 1023, the major number at most 2^43 − 1.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, BadLevel> {
        let bad = || BadLevel(text.to_owned());
        let mut numbers = [0_i64; 3];
        let mut parts = text.split('.');
        for (number, limit) in numbers.iter_mut().zip([i64::MAX >> 20, 0x3ff, 0x3ff]) {
            let Some(part) = parts.next() else { break };
            *number = parse_integer(part.as_bytes()).ok_or_else(bad)?;
            if !(0..=limit).contains(number) {
                return Err(bad());
            }
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

/// A release of Postfix, by the first two of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// The release that is followed where `mail_version` does not name another.
    pub const DEFAULT: Self = Self::new(3, 7);

    /// The release `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The release that a `mail_version` names, such as `3.7.11` or `3.12-20260821`; [`Self::DEFAULT`] if the text is
    /// another.
    #[must_use]
    pub fn of(mail_version: &str) -> Self {
        let mut numbers = mail_version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Self { major, minor },
            _ => Self::DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_number() {
        let level = |text| Level::parse(text).unwrap();
        assert!(level("3.10") > level("3.9") && level("3.6") < level("3.6.1") && level("2") < level("3.0.1"));
        assert_eq!(level("3.0"), level("3"));
        assert_eq!(level("3.6"), Level::new(3, 6));
    }

    #[test]
    fn a_release_is_two_numbers() {
        assert_eq!(Release::of("3.7.11"), Release::new(3, 7));
        assert_eq!(Release::of("3.12-20260821"), Release::new(3, 12));
        assert!(Release::of("3.10.0") > Release::of("3.9.7") && Release::of("4.0") > Release::of("3.12"));
        for text in ["", "x", "3", "3.x", "99999999999.1"] {
            assert_eq!(Release::of(text), Release::DEFAULT, "{text}");
        }
    }

    #[test]
    fn malformed_levels_are_refused() {
        for text in ["", "x", "3.", ".3", "3.6.1.2", "-1", "3.1024", "3x", "9223372036854775807", "3.6 "] {
            let bad = Level::parse(text).unwrap_err();
            assert_eq!(bad.to_string(), format!("malformed compatibility level syntax: \"{text}\""));
        }
        for text in ["0", "3.1023.1023", "+3", "003"] {
            assert!(Level::parse(text).is_ok(), "{text}");
        }
    }
}
