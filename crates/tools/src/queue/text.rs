//! Text for people: bytes of envelopes may be anything.

use crate::json::is_treacherous;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

/// Text in which no terminal finds a command: control characters, those that turn the direction of writing, and bytes that
/// are not UTF-8 become `\xNN`, a backslash becomes two.
pub(super) fn escaped(bytes: &[u8]) -> String {
    escaped_but(bytes, |character| character == '\\')
}

/// A line of a message for a terminal: as [`escaped`], but tabs and backslashes stay.
pub(super) fn for_terminal(bytes: &[u8]) -> String {
    escaped_but(bytes, |_| false).replace("\\x09", "\t")
}

fn escaped_but(bytes: &[u8], is_doubled: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_doubled(character) {
                text.push(character);
                text.push(character);
            } else if is_treacherous(character) {
                let mut buffer = [0; 4];
                push_hexadecimal(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_hexadecimal(&mut text, chunk.invalid());
    }
    text
}

fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// `2026-11-22 22:25:00` in the local time zone; the number itself where the calendar ends.
pub(super) fn local_time(seconds: u64, zone: &TimeZone) -> String {
    format_time(i64::try_from(seconds).unwrap_or(i64::MAX), zone, "%Y-%m-%d %H:%M:%S")
}

/// `Sun Nov 22 22:25:00 2026` in the local time zone, as postcat(1) has it.
pub(super) fn asctime(seconds: i64, zone: &TimeZone) -> String {
    format_time(seconds, zone, "%a %b %e %H:%M:%S %Y")
}

fn format_time(seconds: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime(format).to_string(),
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_as_a_command() {
        assert_eq!(escaped("a\x1b[31m\u{9b}é\\\0\n".as_bytes()), "a\\x1b[31m\\xc2\\x9bé\\\\\\x00\\x0a");
        assert_eq!(escaped(b"a\xffb"), "a\\xffb");
        let bidi = "a\u{202e}b\u{2066}\u{9b}\u{7f}é";
        assert_eq!(escaped(bidi.as_bytes()), "a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6\\xc2\\x9b\\x7fé");
        assert_eq!(for_terminal(b"a\tb\\c\x1b[31m\r"), "a\tb\\c\\x1b[31m\\x0d");
    }

    #[test]
    fn times_are_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local_time(1_795_386_300, &zone), "2026-11-23 00:25:00");
        assert_eq!(asctime(1_795_386_300 - 15 * 86_400, &TimeZone::UTC), "Sat Nov  7 22:25:00 2026");
        assert_eq!(asctime(-1, &TimeZone::UTC), "Wed Dec 31 23:59:59 1969");
        assert_eq!(local_time(u64::MAX, &zone), i64::MAX.to_string());
    }
}
