//! The reply: one netstring, a letter and a text for people.

use crate::netstring;

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// `K`: the server has the message and will answer for it.
    Queued,
    /// `Z`: not now; the client keeps the message and tries again.
    Temporary,
    /// `D`: not ever; the client returns the message to its sender.
    Permanent,
}

impl Status {
    /// The first byte of the reply.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Queued => b'K',
            Self::Temporary => b'Z',
            Self::Permanent => b'D',
        }
    }

    /// The status that `letter` stands for; `None` for any other byte.
    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'K' => Some(Self::Queued),
            b'Z' => Some(Self::Temporary),
            b'D' => Some(Self::Permanent),
            _ => None,
        }
    }
}

/// The whole reply, ready for the socket.
///
/// A reply ends in other people's logs and bounces, so `text` is sent with each control character, and each byte that is
/// not UTF-8, replaced by `?`, one for each byte. Postfix 3.7 sends such bytes as they are; the two differ only when the text quotes them.
#[must_use]
pub fn encode(status: Status, text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut payload = vec![status.letter()];
    payload.extend_from_slice(printable(text.as_ref()).as_bytes());
    let mut reply = Vec::new();
    netstring::encode(&payload, &mut reply);
    reply
}

/// `text` with a `?` for each byte of a control character (C0, DEL, C1) and for each byte that is not UTF-8: fit for a terminal or a
/// log. The same as logs have (`postfix::text::printable`), which a test of qmqpd holds: this crate imports nothing.
#[must_use]
pub fn printable(text: &[u8]) -> String {
    let mut clean = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                clean.extend(std::iter::repeat_n('?', character.len_utf8()));
            } else {
                clean.push(character);
            }
        }
        clean.extend(chunk.invalid().iter().map(|_| '?'));
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_postfix_sends_it() {
        assert_eq!(encode(Status::Queued, "Ok: queued as 4E5A1B2C3D4"), b"26:KOk: queued as 4E5A1B2C3D4,");
        assert_eq!(encode(Status::Permanent, ""), b"1:D,");
    }

    #[test]
    fn what_could_drive_a_terminal_is_replaced() {
        assert_eq!(encode(Status::Temporary, b"a\r\nb\x1b[2J\x7f\xff"), b"11:Za??b?[2J??,");
        assert_eq!(encode(Status::Temporary, "é\u{9b}x"), "6:Zé??x,".as_bytes());
    }

    #[test]
    fn letters_read_back() {
        for letter in 0..=u8::MAX {
            assert!(Status::from_letter(letter).is_none_or(|status| status.letter() == letter));
        }
        assert_eq!((0..=u8::MAX).filter_map(Status::from_letter).count(), 3);
    }

    proptest! {
        #[test]
        fn the_text_is_printable_whatever_comes_in(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let clean = printable(&text);
            prop_assert!(!clean.chars().any(char::is_control));
            prop_assert_eq!(printable(clean.as_bytes()), clean);
        }
    }
}
