//! The headers that cleanup(8) knows.

/// Whose addresses a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// None that matter.
    None,
    /// Authors: sender rules apply.
    Senders,
    /// Readers: recipient rules apply.
    Recipients,
}

/// A set of headers that were seen, as far as it decides which ones are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeaderSet(u8);

impl HeaderSet {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const MESSAGE_ID: Self = Self(1);
    pub(crate) const RESENT_MESSAGE_ID: Self = Self(2);
    pub(crate) const DATE: Self = Self(4);
    pub(crate) const RESENT_DATE: Self = Self(8);
    pub(crate) const FROM: Self = Self(16);
    pub(crate) const RESENT_FROM: Self = Self(32);
    /// To:, Cc: and their Resent- forms.
    pub(crate) const VISIBLE_RECIPIENT: Self = Self(64);

    pub(crate) const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is known about a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Name in lower case.
    pub(crate) name: &'static str,
    pub(crate) addresses: Addresses,
    /// A header of RFC 2045: treated like one of a body part wherever it stands.
    pub(crate) mime: bool,
    /// Marks the message as resent.
    pub(crate) resent: bool,
    pub(crate) seen: HeaderSet,
}

impl Known {
    /// The header with this name, in any case.
    pub(crate) fn find(name: &[u8]) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

const fn row(name: &'static str, addresses: Addresses, seen: HeaderSet) -> Known {
    Known { name, addresses, mime: false, resent: false, seen }
}

const fn mime(name: &'static str) -> Known {
    Known { mime: true, ..row(name, Addresses::None, HeaderSet::NONE) }
}

const fn resent(name: &'static str, addresses: Addresses, seen: HeaderSet) -> Known {
    Known { resent: true, ..row(name, addresses, seen) }
}

const KNOWN: [Known; 33] = [
    row("received", Addresses::None, HeaderSet::NONE),
    row("from", Addresses::Senders, HeaderSet::FROM),
    row("to", Addresses::Recipients, HeaderSet::VISIBLE_RECIPIENT),
    row("cc", Addresses::Recipients, HeaderSet::VISIBLE_RECIPIENT),
    row("date", Addresses::None, HeaderSet::DATE),
    row("message-id", Addresses::None, HeaderSet::MESSAGE_ID),
    row("reply-to", Addresses::Senders, HeaderSet::NONE),
    row("sender", Addresses::Senders, HeaderSet::NONE),
    row("bcc", Addresses::Recipients, HeaderSet::NONE),
    mime("content-type"),
    mime("content-transfer-encoding"),
    mime("mime-version"),
    mime("content-description"),
    mime("content-disposition"),
    mime("content-id"),
    row("content-length", Addresses::None, HeaderSet::NONE),
    row("delivered-to", Addresses::None, HeaderSet::NONE),
    row("return-path", Addresses::Senders, HeaderSet::NONE),
    row("errors-to", Addresses::Senders, HeaderSet::NONE),
    row("return-receipt-to", Addresses::Senders, HeaderSet::NONE),
    row("disposition-notification-to", Addresses::Senders, HeaderSet::NONE),
    row("mail-followup-to", Addresses::Senders, HeaderSet::NONE),
    row("apparently-to", Addresses::Recipients, HeaderSet::NONE),
    row("tls-required", Addresses::None, HeaderSet::NONE),
    row("require-tls-esmtp", Addresses::None, HeaderSet::NONE),
    resent("resent-from", Addresses::Senders, HeaderSet::RESENT_FROM),
    resent("resent-sender", Addresses::Senders, HeaderSet::NONE),
    resent("resent-to", Addresses::Recipients, HeaderSet::VISIBLE_RECIPIENT),
    resent("resent-cc", Addresses::Recipients, HeaderSet::VISIBLE_RECIPIENT),
    resent("resent-bcc", Addresses::Recipients, HeaderSet::NONE),
    resent("resent-reply-to", Addresses::Recipients, HeaderSet::NONE),
    resent("resent-date", Addresses::None, HeaderSet::RESENT_DATE),
    resent("resent-message-id", Addresses::None, HeaderSet::RESENT_MESSAGE_ID),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Known::find(b"rEsEnT-tO").map(|known| known.resent), Some(true));
        assert_eq!(Known::find(b"CONTENT-type").map(|known| known.mime), Some(true));
        assert_eq!(Known::find(b"x-to"), None);
    }

    #[test]
    fn every_name_is_lower_case_and_there_once() {
        for (position, known) in KNOWN.iter().enumerate() {
            assert_eq!(known.name, known.name.to_lowercase());
            assert!(!KNOWN[..position].iter().any(|other| other.name == known.name), "{}", known.name);
        }
    }
}
