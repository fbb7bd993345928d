//! Netstrings: `LENGTH:BYTES,` with LENGTH in decimal digits.

/// The longest number that is read, in digits; more than this is a [`LengthError::Format`]. Twenty would do for any value
/// that fits, the rest is room for the leading zeros that Postfix accepts.
pub const DIGITS_MAX: u8 = 64;

/// The largest length that can be declared, in bytes: 2^63−1, as in Postfix on a 64-bit machine.
pub const BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// Why the number before a `:` is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// A byte that is neither a digit nor the `:`, or more than [`DIGITS_MAX`] digits.
    #[error("netstring format error")]
    Format,
    /// A number above [`BYTES_MAX`].
    #[error("netstring length exceeds storage limit")]
    TooLong,
}

/// Reads the number and the `:` of a netstring, in as many pieces as they come.
///
/// As in Postfix 3.7, leading zeros are accepted, and so is no digit at all, which means 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length {
    value: u64,
    digits: u8,
}

impl Length {
    /// Before the first digit.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: 0, digits: 0 }
    }

    /// Consumes bytes from the front of `input` up to and including the `:`, and returns the number then. `None` means that
    /// `input` is used up and the `:` is still to come. After an error the reader is of no use.
    ///
    /// # Errors
    /// As soon as a byte shows that no acceptable number can come of it.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<u64>, LengthError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            match byte {
                b':' => return Ok(Some(self.value)),
                b'0'..=b'9' if self.digits < DIGITS_MAX => {
                    self.digits = self.digits.saturating_add(1);
                    let digit = u64::from(byte & 0x0f);
                    self.value = self
                        .value
                        .checked_mul(10)
                        .and_then(|tens| tens.checked_add(digit))
                        .filter(|&value| value <= BYTES_MAX)
                        .ok_or(LengthError::TooLong)?;
                }
                _ => return Err(LengthError::Format),
            }
        }
        Ok(None)
    }
}

/// Appends the head of a netstring of `payload_bytes` bytes: the number and the `:`.
pub fn encode_length(payload_bytes: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut value = payload_bytes;
    let mut count = 0usize;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' | u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        count = count.saturating_add(1);
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(count)..).unwrap_or(&[]));
    out.push(b':');
}

/// Appends `payload` as a netstring.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    encode_length(u64::try_from(payload.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(payload);
    out.push(b',');
}

/// The bytes that a netstring of `payload_bytes` bytes takes with its number, `:` and `,`; `None` above [`BYTES_MAX`].
#[must_use]
pub fn encoded_len(payload_bytes: u64) -> Option<u64> {
    let digits = u64::from(payload_bytes.checked_ilog10().unwrap_or(0)).checked_add(1)?;
    payload_bytes.checked_add(digits)?.checked_add(2).filter(|&total| total <= BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Option<u64>, LengthError> {
        Length::new().read(&mut &text[..])
    }

    #[test]
    fn numbers_as_postfix_reads_them() {
        assert_eq!(read(b"0:"), Ok(Some(0)));
        assert_eq!(read(b":"), Ok(Some(0)));
        assert_eq!(read(b"0000012:"), Ok(Some(12)));
        assert_eq!(read(b"12"), Ok(None));
        assert_eq!(read(b"9223372036854775807:"), Ok(Some(BYTES_MAX)));
        assert_eq!(read(b"9223372036854775808:"), Err(LengthError::TooLong));
        assert_eq!(read(b"99999999999999999999999"), Err(LengthError::TooLong));
        for text in [&b"+1:"[..], b"-1:", b" 1:", b"1 :", b"0x1:", b"1,", b"\xb2:"] {
            assert_eq!(read(text), Err(LengthError::Format), "{text:?}");
        }
    }

    #[test]
    fn the_digit_count_is_bounded() {
        let mut text = vec![b'0'; 63];
        text.extend_from_slice(b"7:");
        assert_eq!(read(&text), Ok(Some(7)));
        text.insert(0, b'0');
        assert_eq!(read(&text), Err(LengthError::Format));
    }

    #[test]
    fn nothing_after_the_colon_is_consumed() {
        let mut input = &b"3:abc,"[..];
        assert_eq!(Length::new().read(&mut input), Ok(Some(3)));
        assert_eq!(input, b"abc,");
    }

    #[test]
    fn encodes() {
        let mut out = Vec::new();
        encode(b"", &mut out);
        encode(b"hello world!", &mut out);
        assert_eq!(out, b"0:,12:hello world!,");
        assert_eq!(encoded_len(BYTES_MAX), None);
        assert_eq!(encoded_len(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(value in 0..=BYTES_MAX, split in 0usize..20) {
            let mut text = Vec::new();
            encode_length(value, &mut text);
            let (mut head, mut tail) = text.split_at(split.min(text.len() - 1));
            let mut length = Length::new();
            prop_assert_eq!(length.read(&mut head), Ok(None));
            prop_assert_eq!(length.read(&mut tail), Ok(Some(value)));
        }

        #[test]
        fn the_computed_size_is_the_written_size(payload in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let mut text = Vec::new();
            encode(&payload, &mut text);
            prop_assert_eq!(encoded_len(payload.len() as u64), Some(text.len() as u64));
        }
    }
}
