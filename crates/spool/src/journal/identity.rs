//! Identifies the writer of a journal: the names in its records.

use std::fmt;

/// Which running of which program wrote a journal file: 16 bytes that cannot be guessed, so that no message can contain a
/// record that passes for one of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub [u8; 16]);

impl Instance {
    /// Reads 32 hexadecimal digits, as [`fmt::Display`] writes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_digits(text).map(Self)
    }
}

/// Reads 32 hexadecimal digits, lower case.
fn parse_digits(text: &str) -> Option<[u8; 16]> {
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 32 || !text.bytes().all(is_lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Which running of the machine's kernel: `/proc/sys/kernel/random/boot_id`. An equal one does not prove that what a process
/// wrote and did not sync is still there: the file system can have been mounted anew. See [`continuity`](super::continuity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub(super) [u8; 16]);

impl BootId {
    /// It could not be found out. It is never [the same](BootId::is_same) as another.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// Reads the text of `/proc/sys/kernel/random/boot_id`; anything else is [`BootId::UNKNOWN`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if digits.len() == 32 => Self(number.to_be_bytes()),
            _ => Self::UNKNOWN,
        }
    }

    /// Whether the machine certainly ran on between the two.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        self == other && self != Self::UNKNOWN
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// On which mount, in which running of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// The running of the kernel.
    pub boot_id: BootId,
    /// The unique ID of the mount; 0 where it is not known.
    pub id: u64,
    /// Who held the file system mounted.
    pub witness: WitnessId,
}

/// The name of a witness: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessId(pub [u8; 16]);

impl WitnessId {
    /// There was no witness.
    pub const NONE: Self = Self([0; 16]);

    /// Reads 32 hexadecimal digits, as [`fmt::Display`] writes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_digits(text).map(Self).filter(|id| *id != Self::NONE)
    }
}

impl fmt::Display for WitnessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Mount {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { boot_id: BootId::UNKNOWN, id: 0, witness: WitnessId::NONE };
}
