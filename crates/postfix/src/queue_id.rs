//! Queue IDs: the names of queue files.
//!
//! A short ID is the microseconds of the file's creation and its inode number, in upper-case hexadecimal. A long ID
//! (`enable_long_queue_ids = yes`) adds the seconds, so that it is never used twice. Rules and sample values were
//! observed on Postfix 3.7.

use std::fmt;
use std::str::FromStr;

/// The digits of a long ID, by value. It has no vowels, so that no ID reads like a word.
const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// Separates the time of a long ID from the inode number, which is written in base 51 and so never has this digit.
const INODE_SEPARATOR: u8 = b'z';
/// How many digits the seconds of a long ID have at least.
const LONG_SECONDS_DIGITS: usize = 6;
/// How many digits the microseconds of a long ID have.
const LONG_MICROSECONDS_DIGITS: usize = 4;
/// How many digits the microseconds of a short ID have.
const SHORT_MICROSECONDS_DIGITS: usize = 5;

/// The longest ID that [`QueueId`] holds. What Postfix makes is at most 29 characters long.
pub const QUEUE_ID_BYTES_MAX: usize = 47;

/// A queue ID: 1 to [`QUEUE_ID_BYTES_MAX`] of `A`–`Z`, `a`–`z`, `0`–`9` and `_`; safe in a path and in a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    /// Zero behind the ID, so that the derived comparisons are right.
    bytes: [u8; QUEUE_ID_BYTES_MAX],
    len: u8,
}

impl QueueId {
    /// The ID of a file with this inode that was created at this time.
    ///
    /// `seconds` since 1970 are only used in a long ID; `microseconds` of a second are taken modulo 1,000,000.
    #[must_use]
    pub fn new(long: bool, seconds: u64, microseconds: u32, inode: u64) -> Self {
        let microseconds = u64::from(microseconds % 1_000_000);
        let mut id = Self { bytes: [0; QUEUE_ID_BYTES_MAX], len: 0 };
        if long {
            id.push_number(seconds, 52, LONG_SECONDS_DIGITS);
            id.push_number(microseconds, 52, LONG_MICROSECONDS_DIGITS);
            id.push(INODE_SEPARATOR);
            id.push_number(inode, 51, 1);
        } else {
            id.push_number(microseconds, 16, SHORT_MICROSECONDS_DIGITS);
            id.push_number(inode, 16, 1);
        }
        id
    }

    /// Takes an ID from outside (a file name, a command line, a cleanup server); `None` if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !is_legal_name(text.as_bytes()) {
            return None;
        }
        let mut id = Self { bytes: [0; QUEUE_ID_BYTES_MAX], len: u8::try_from(text.len()).ok()? };
        id.bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(id)
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The ID as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether Postfix takes this for a long ID: its last `z` stands behind at least ten characters.
    #[must_use]
    pub fn is_long(&self) -> bool {
        separator(self.as_bytes()).is_some()
    }

    /// The inode number that the ID names; `None` if the ID was not made by the rules of [`QueueId::new`].
    ///
    /// Postfix's structure check at start-up renames files whose short ID names another inode than theirs.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let bytes = self.as_bytes();
        match separator(bytes) {
            Some(at) => decode(bytes.get(at + 1..)?, 51),
            None => u64::from_str_radix(self.as_str().get(SHORT_MICROSECONDS_DIGITS..)?, 16).ok(),
        }
    }

    /// The subdirectories, each followed by `/`, that hold this ID in a hashed queue: see [`hash_dir_path`].
    #[must_use]
    pub fn hash_dir_path(&self, depth: usize) -> String {
        hash_dir_path(self.as_str(), depth)
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// Appends `value` in `base` (at most 52), with leading zeros up to `digits_min`.
    fn push_number(&mut self, value: u64, base: u64, digits_min: usize) {
        // Upper-case hexadecimal is not a part of the vowel-free alphabet.
        let alphabet: &[u8] = if base == 16 { b"0123456789ABCDEF" } else { DIGITS };
        let mut reversed = [0_u8; 16];
        let mut count = 0;
        let mut rest = value;
        for slot in &mut reversed {
            if rest == 0 && count >= digits_min {
                break;
            }
            let digit = usize::try_from(rest % base).unwrap_or_default();
            *slot = alphabet.get(digit).copied().unwrap_or(b'0');
            rest /= base;
            count += 1;
        }
        for &digit in reversed.iter().take(count).rev() {
            self.push(digit);
        }
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueId({})", self.as_str())
    }
}

impl AsRef<str> for QueueId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// The text is not a queue ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a queue ID: it has 1 to {QUEUE_ID_BYTES_MAX} letters, digits and underscores",
        text = .0.escape_default())]
pub struct InvalidQueueId(
    /// What was given.
    pub String,
);

impl FromStr for QueueId {
    type Err = InvalidQueueId;

    fn from_str(text: &str) -> Result<Self, InvalidQueueId> {
        Self::parse(text).ok_or_else(|| InvalidQueueId(text.to_owned()))
    }
}

/// Whether qmgr(8) and showq(8) look at a queue file of this name at all: 1 to 255 letters, digits and underscores.
#[must_use]
pub fn is_legal_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The subdirectories of a hashed queue, each followed by `/`, that hold the file of this name: `"7/B/"` for the name
/// `7B3099AA1F6` and depth 2, the empty text for depth 0.
///
/// They are the first `depth` characters of a short ID, or those of the microseconds of a long ID as five hexadecimal
/// digits; `_` where characters run out. `name` must be legal (see [`is_legal_name`]); characters that would leave the
/// queue are replaced by `_` all the same.
#[must_use]
pub fn hash_dir_path(name: &str, depth: usize) -> String {
    let hexadecimal;
    let source = match separator(name.as_bytes()) {
        Some(at) => {
            let digits = name.as_bytes().get(at - LONG_MICROSECONDS_DIGITS..at).unwrap_or_default();
            hexadecimal = format!("{:05X}", decode(digits, 52).unwrap_or(0));
            hexadecimal.as_str()
        }
        None => name,
    };
    let characters = source.bytes().chain(std::iter::repeat(b'_'));
    let mut path = String::with_capacity(2 * depth);
    for byte in characters.take(depth) {
        path.push(if byte.is_ascii_alphanumeric() { char::from(byte) } else { '_' });
        path.push('/');
    }
    path
}

/// The time in a Message-ID that cleanup(8) generates: `YYYYMMDDhhmmss`, UTC. It stands before the dot and a short
/// queue ID; with long IDs Postfix leaves it out.
///
/// `seconds` since 1970 is the second in which the queue file was named.
#[must_use]
pub fn message_id_time(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    // Years that begin on 1 March make the leap day the last of its year. 719,468 days from 0000-03-01 to 1970.
    let day_number = days + 719_468;
    let (era, day_of_era) = (day_number / 146_097, day_number % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// Where the inode separator of a long ID is; `None` for a short ID.
fn separator(id: &[u8]) -> Option<usize> {
    let at = memchr::memrchr(INODE_SEPARATOR, id)?;
    (at >= LONG_SECONDS_DIGITS + LONG_MICROSECONDS_DIGITS).then_some(at)
}

/// The value of vowel-free digits; `None` if there is another character or no digit, or the number is too large.
fn decode(digits: &[u8], base: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let position = DIGITS.iter().position(|known| known == digit)?;
        let digit = u64::try_from(position).ok().filter(|digit| *digit < base)?;
        value.checked_mul(base)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_id_is_that_of_postfix() {
        let id = QueueId::new(false, 0, 504_585, 0x009A_A1F6);
        assert_eq!(id.as_str(), "7B3099AA1F6");
        assert!(!id.is_long());
        assert_eq!(id.inode(), Some(0x009A_A1F6));
        assert_eq!(QueueId::new(false, 0, 1, 10).as_str(), "00001A");
        // A `z` makes a long ID only where seconds and microseconds stand before it.
        let early = QueueId::parse("abcdefghiz1").unwrap();
        assert!(!early.is_long() && QueueId::parse("abcdefghijz1").unwrap().is_long());
        assert_eq!(early.hash_dir_path(2), "a/b/");
    }

    #[test]
    fn long_id_is_that_of_postfix() {
        let id = QueueId::new(true, 1_795_387_674, 571_297, 10_133_872);
        assert_eq!(id.as_str(), "4jXkk243GTz1TN7M");
        assert!(id.is_long());
        assert_eq!(id.inode(), Some(10_133_872));
        assert_eq!(id.hash_dir_path(1), "8/");
        assert_eq!(id.hash_dir_path(7), "8/B/7/A/1/_/_/");
    }

    #[test]
    fn hash_directories_come_from_the_first_characters() {
        let id = QueueId::parse("7B3099AA1F6").unwrap();
        assert_eq!(id.hash_dir_path(0), "");
        assert_eq!(id.hash_dir_path(2), "7/B/");
        assert_eq!(hash_dir_path("A", 3), "A/_/_/");
        assert_eq!(hash_dir_path("../etc", 3), "_/_/_/");
        // Postfix takes microseconds that it cannot read for 0.
        assert_eq!(hash_dir_path("abcdefAEIOz1", 2), "0/0/");
    }

    #[test]
    fn names_that_could_leave_the_queue_are_no_ids() {
        for text in ["", ".", "..", "a/b", "a.b", "a b", "é", "a\n", "a-b", &"A".repeat(48)] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
        assert!(QueueId::parse(&"A".repeat(47)).is_some());
        assert!(is_legal_name(&[b'A'; 255]));
        assert!(!is_legal_name(&[b'A'; 256]));
        let error = "a\nb".parse::<QueueId>().unwrap_err().to_string();
        assert!(error.starts_with(r#""a\nb" is not a queue ID"#), "{error}");
    }

    #[test]
    fn message_id_time_is_universal_time() {
        assert_eq!(message_id_time(1_795_386_300), "20261122222500");
        assert_eq!(message_id_time(0), "19700101000000");
        assert_eq!(message_id_time(951_782_399), "20000228235959");
        assert_eq!(message_id_time(951_782_400), "20000229000000");
        assert_eq!(message_id_time(4_107_542_400), "21000301000000");
    }

    proptest! {
        #[test]
        fn what_is_made_is_parsed(long: bool, seconds: u64, microseconds in 0..1_000_000_u32, inode: u64) {
            let id = QueueId::new(long, seconds, microseconds, inode);
            prop_assert_eq!(QueueId::parse(id.as_str()), Some(id));
            prop_assert_eq!(id.is_long(), long);
            prop_assert_eq!(id.inode(), Some(inode));
            let hexadecimal = format!("{microseconds:05X}");
            let expected: String = hexadecimal.chars().take(2).flat_map(|c| [c, '/']).collect();
            prop_assert_eq!(id.hash_dir_path(2), expected);
        }

        #[test]
        fn order_is_that_of_the_text(a in "[A-Za-z0-9_]{1,47}", b in "[A-Za-z0-9_]{1,47}") {
            let (x, y) = (QueueId::parse(&a).unwrap(), QueueId::parse(&b).unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
