//! Typed values: booleans, numbers, times, strings, keywords, with the texts of Postfix for what is wrong with them.
//!
//! Observed on Postfix 3.7. The functions take the expanded value; the error is what stands behind `fatal: ` in the log.

use std::time::Duration;

/// The least and the greatest value allowed, or length in bytes for a string; `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The least.
    pub min: Option<i64>,
    /// The greatest.
    pub max: Option<i64>,
}

impl Bounds {
    /// No bound at either side.
    pub const NONE: Self = Self { min: None, max: None };

    /// `min` and above.
    #[must_use]
    pub const fn at_least(min: i64) -> Self {
        Self { min: Some(min), max: None }
    }

    /// `min` to `max`, both included.
    #[must_use]
    pub const fn between(min: i64, max: i64) -> Self {
        Self { min: Some(min), max: Some(max) }
    }

    /// 0 to `max`. Like Postfix it sets no lower bound: types that can be negative refuse that themselves.
    #[must_use]
    pub const fn at_most(max: i64) -> Self {
        Self { min: None, max: Some(max) }
    }
}

/// A decimal number as C's `strtol` reads it, and the bytes behind it: white space and a sign may stand before the
/// digits; no digit at all is 0. `None` when it does not fit 64 bits.
fn leading_integer(text: &[u8]) -> Option<(i64, &[u8])> {
    let unsigned = crate::text::trim_start(text);
    let (negative, digits) = match unsigned.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, unsigned),
    };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(len)?;
    if digits.is_empty() {
        return Some((0, text));
    }
    let mut number = 0_i64;
    for digit in digits {
        let digit = i64::from(digit.saturating_sub(b'0'));
        number = number.checked_mul(10)?;
        number = if negative { number.checked_sub(digit)? } else { number.checked_add(digit)? };
    }
    Some((number, rest))
}

/// A whole decimal number of 64 bits: optional sign, leading zeros allowed, nothing behind it.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    match leading_integer(text)? {
        (number, b"") if !text.is_empty() => Some(number),
        _ => None,
    }
}

/// Reads `yes` or `no`, in any case.
///
/// # Errors
/// Anything else.
pub fn boolean(name: &str, value: &str) -> Result<bool, String> {
    if value.eq_ignore_ascii_case("yes") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(format!("bad boolean configuration: {name} = {value}"))
    }
}

/// Reads a number of 32 bits.
///
/// # Errors
/// Not a number, or out of bounds.
pub fn integer(name: &str, value: &str, bounds: Bounds) -> Result<i64, String> {
    match parse_integer(value.as_bytes()) {
        Some(number) if i32::try_from(number).is_ok() => in_bounds(name, number, bounds),
        _ => Err(format!("bad numerical configuration: {name} = {value}")),
    }
}

/// Reads a number of 64 bits.
///
/// # Errors
/// Not a number, or out of bounds.
pub fn long(name: &str, value: &str, bounds: Bounds) -> Result<i64, String> {
    let number = parse_integer(value.as_bytes())
        .ok_or_else(|| format!("bad numerical configuration: {name} = {value}"))?;
    in_bounds(name, number, bounds)
}

fn in_bounds(name: &str, number: i64, bounds: Bounds) -> Result<i64, String> {
    match bounds {
        Bounds { min: Some(min), .. } if number < min => {
            Err(format!("invalid {name} parameter value {number} < {min}"))
        }
        Bounds { max: Some(max), .. } if number > max => {
            Err(format!("invalid {name} parameter value {number} > {max}"))
        }
        _ => Ok(number),
    }
}

/// Seconds in one of the units `s`, `m`, `h`, `d`, `w`.
#[must_use]
pub const fn seconds_per_unit(unit: u8) -> Option<i64> {
    match unit {
        b's' => Some(1),
        b'm' => Some(60),
        b'h' => Some(3_600),
        b'd' => Some(86_400),
        b'w' => Some(604_800),
        _ => None,
    }
}

/// The unit that a time without one has: the first letter in the parameter's default. `s` when that has none.
#[must_use]
pub fn default_unit(default: &str) -> u8 {
    default.bytes().find(u8::is_ascii_alphabetic).unwrap_or(b's')
}

/// Reads a time: a number and directly behind it a unit. Like Postfix it looks at nothing behind the unit.
///
/// # Errors
/// Not a time, a time that does not fit 2^31 − 1 seconds, or out of bounds (given in seconds).
pub fn time(name: &str, value: &str, default_unit: u8, bounds: Bounds) -> Result<Duration, String> {
    let seconds = parse_seconds(value.as_bytes(), default_unit)
        .ok_or_else(|| format!("parameter {name}: bad time value or unit: {value}"))?;
    match bounds {
        Bounds { min: Some(min), .. } if i64::from(seconds) < min => {
            Err(format!("invalid {name}: {seconds} (min {min})"))
        }
        Bounds { max: Some(max), .. } if i64::from(seconds) > max => {
            Err(format!("invalid {name}: {seconds} (max {max})"))
        }
        _ => Ok(Duration::from_secs(u64::from(seconds))),
    }
}

fn parse_seconds(value: &[u8], default_unit: u8) -> Option<u32> {
    const LARGEST: i64 = i32::MAX as i64;
    if value.is_empty() {
        return None;
    }
    let (number, rest) = leading_integer(value)?;
    let unit = seconds_per_unit(rest.first().copied().unwrap_or(default_unit))?;
    let fits = if unit == 1 { number <= LARGEST } else { number < LARGEST.checked_div(unit)? };
    if number < 0 || !fits {
        return None;
    }
    u32::try_from(number.checked_mul(unit)?).ok()
}

/// Checks the length of a string.
///
/// # Errors
/// Too short or too long, in bytes.
pub fn string(name: &str, value: &str, bounds: Bounds) -> Result<String, String> {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    match bounds {
        Bounds { min: Some(min), .. } if len < min => {
            Err(format!("bad string length {len} < {min}: {name} = {value}"))
        }
        Bounds { max: Some(max), .. } if len > max => {
            Err(format!("bad string length {len} > {max}: {name} = {value}"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// A set of keywords, in the order in which they were given, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeywordSet(Vec<&'static str>);

impl KeywordSet {
    /// Whether the keyword was given.
    #[must_use]
    pub fn contains(&self, keyword: &str) -> bool {
        self.0.contains(&keyword)
    }

    /// Whether no keyword was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keywords.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().copied()
    }
}

/// Reads a list of keywords.
///
/// # Errors
/// A word that is not among `known`.
pub fn keywords(name: &str, value: &str, known: &[&'static str]) -> Result<KeywordSet, String> {
    let mut set = KeywordSet::default();
    for word in crate::text::split_plain_list(value) {
        match known.iter().find(|&&keyword| keyword == word) {
            Some(keyword) if set.contains(keyword) => {}
            Some(keyword) => set.0.push(keyword),
            None => return Err(format!("unknown {name} value \"{word}\" in \"{value}\"")),
        }
    }
    Ok(set)
}

/// A parameter value that is exactly one keyword.
pub trait Keyword: Sized + Copy + 'static {
    /// The keywords and what they mean.
    const KEYWORDS: &'static [(&'static str, Self)];

    /// The keyword of this value.
    fn as_str(self) -> &'static str;
}

/// Defines an enum whose variants are keywords.
macro_rules! keyword_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::value::Keyword for $name {
            const KEYWORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}
pub(crate) use keyword_enum;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn booleans() {
        assert_eq!(boolean("b", "YeS"), Ok(true));
        assert_eq!(boolean("b", "no"), Ok(false));
        for value in ["1", "true", "", "yes "] {
            assert_eq!(boolean("b", value), Err(format!("bad boolean configuration: b = {value}")));
        }
    }

    #[test]
    fn numbers() {
        let any = Bounds::NONE;
        for (value, number) in
            [("0", 0), ("007", 7), ("-5", -5), ("+5", 5), ("2147483647", i64::from(i32::MAX))]
        {
            assert_eq!(integer("i", value, any), Ok(number));
        }
        for value in ["", "10M", "0x10", "1 ", "-", "2147483648", "99999999999999999999", "1.5"] {
            assert_eq!(integer("i", value, any), Err(format!("bad numerical configuration: i = {value}")));
        }
        assert_eq!(long("l", "9223372036854775807", any), Ok(i64::MAX));
        assert_eq!(long("l", "-9223372036854775808", any), Ok(i64::MIN));
        assert!(long("l", "9223372036854775808", any).is_err());
        assert_eq!(
            integer("line_length_limit", "511", Bounds::at_least(512)),
            Err("invalid line_length_limit parameter value 511 < 512".to_owned())
        );
        assert_eq!(long("x", "10", Bounds::between(0, 10)), Ok(10));
        assert_eq!(long("x", "0", Bounds::between(0, 10)), Ok(0));
        assert_eq!(
            long("x", "11", Bounds::between(0, 10)),
            Err("invalid x parameter value 11 > 10".to_owned())
        );
    }

    #[test]
    fn times() {
        let time = |value| time("t", value, b's', Bounds::NONE).map(|time| time.as_secs());
        for (value, seconds) in [
            ("5", 5),
            ("5min", 300),
            ("1m30s", 60),
            ("5sx", 5),
            ("s", 0),
            ("2h", 7_200),
            ("1d", 86_400),
            ("1w", 604_800),
            ("35791393m", 2_147_483_580),
            ("2147483647", 2_147_483_647),
        ] {
            assert_eq!(time(value), Ok(seconds), "{value}");
        }
        for value in
            ["", "5 m", "1.5s", "1M", "-1", "35791394m", "3550w", "2147483648", "99999999999999999999"]
        {
            assert_eq!(time(value), Err(format!("parameter t: bad time value or unit: {value}")));
        }
    }

    #[test]
    fn times_know_bounds_and_default_units() {
        assert_eq!(time("x", "2", default_unit("0h"), Bounds::NONE).unwrap().as_secs(), 7_200);
        assert_eq!(
            time("qmqpd_timeout", "0", b's', Bounds::at_least(1)),
            Err("invalid qmqpd_timeout: 0 (min 1)".to_owned())
        );
        assert_eq!(time("in_flow_delay", "10", b's', Bounds::at_most(10)).unwrap().as_secs(), 10);
        assert_eq!(time("qmqpd_timeout", "1", b's', Bounds::at_least(1)).unwrap().as_secs(), 1);
        assert_eq!(
            time("in_flow_delay", "11", b's', Bounds::at_most(10)),
            Err("invalid in_flow_delay: 11 (max 10)".to_owned())
        );
    }

    #[test]
    fn strings_and_keywords() {
        assert_eq!(
            string("default_verp_delimiters", "+", Bounds::between(2, 2)),
            Err("bad string length 1 < 2: default_verp_delimiters = +".to_owned())
        );
        assert_eq!(
            string("d", "+-=", Bounds::between(2, 2)),
            Err("bad string length 3 > 2: d = +-=".to_owned())
        );
        let set = keywords("r", "b,a b", &["a", "b"]).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), ["b", "a"]);
        assert!(!set.is_empty() && keywords("r", " ,", &["a"]).unwrap().is_empty());
        assert_eq!(keywords("r", "a, X", &["a"]), Err("unknown r value \"X\" in \"a, X\"".to_owned()));
    }

    proptest! {
        #[test]
        fn numbers_round_trip(number: i64) {
            prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn nothing_panics(value in "\\PC{0,30}", unit: u8) {
            let _ = time("t", &value, unit, Bounds::NONE);
            let _ = integer("t", &value, Bounds::NONE);
            let _ = crate::compatibility::Level::parse(&value);
        }
    }
}
