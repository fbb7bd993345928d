//! The trait through which cleanup looks up tables, its only contact with the outside.

use std::fmt::Debug;

use postfix::notice::Notice;

/// A parameter that lists lookup tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maps {
    /// Other addresses for senders.
    SenderCanonical,
    /// Other addresses for recipients.
    RecipientCanonical,
    /// Other addresses for both.
    Canonical,
    /// Other recipients, any number, for an envelope recipient.
    VirtualAlias,
    /// An additional recipient for a sender.
    SenderBcc,
    /// An additional recipient for a recipient.
    RecipientBcc,
    /// What to do about a primary header.
    HeaderChecks,
    /// What to do about a header of MIME.
    MimeHeaderChecks,
    /// What to do about a header of an attached message.
    NestedHeaderChecks,
    /// What to do about a line of the body.
    BodyChecks,
    /// What to do about a header that a milter added or changed.
    MilterHeaderChecks,
}

impl Maps {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::SenderCanonical,
        Self::RecipientCanonical,
        Self::Canonical,
        Self::VirtualAlias,
        Self::SenderBcc,
        Self::RecipientBcc,
        Self::HeaderChecks,
        Self::MimeHeaderChecks,
        Self::NestedHeaderChecks,
        Self::BodyChecks,
        Self::MilterHeaderChecks,
    ];

    /// The name of the parameter, by which log lines call it.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::SenderCanonical => "sender_canonical_maps",
            Self::RecipientCanonical => "recipient_canonical_maps",
            Self::Canonical => "canonical_maps",
            Self::VirtualAlias => "virtual_alias_maps",
            Self::SenderBcc => "sender_bcc_maps",
            Self::RecipientBcc => "recipient_bcc_maps",
            Self::HeaderChecks => "header_checks",
            Self::MimeHeaderChecks => "mime_header_checks",
            Self::NestedHeaderChecks => "nested_header_checks",
            Self::BodyChecks => "body_checks",
            Self::MilterHeaderChecks => "milter_header_checks",
        }
    }

    /// Keys are addresses, of which only fixed strings are looked up in lower case; not lines of a message.
    #[must_use]
    pub const fn has_address_keys(self) -> bool {
        match self {
            Self::SenderCanonical
            | Self::RecipientCanonical
            | Self::Canonical
            | Self::VirtualAlias
            | Self::SenderBcc
            | Self::RecipientBcc => true,
            Self::HeaderChecks
            | Self::MimeHeaderChecks
            | Self::NestedHeaderChecks
            | Self::BodyChecks
            | Self::MilterHeaderChecks => false,
        }
    }
}

/// A parameter that lists plain texts, some perhaps in tables or files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// Domains whose addresses may be looked up without the domain.
    MyDestination,
    /// Local parts that are not masqueraded.
    MasqueradeExceptions,
}

impl Names {
    /// The name of the parameter.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::MyDestination => "mydestination",
            Self::MasqueradeExceptions => "masquerade_exceptions",
        }
    }
}

/// What a key is to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The whole: any table may know it.
    Whole(&'a [u8]),
    /// A part of an address. Patterns are not tried on it: they could match more than was meant.
    Part(&'a [u8]),
}

/// A table could not answer. The reason has been added to the notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("table lookup problem")]
pub struct LookupFailed;

/// The tables of one configuration. A lookup may take long: the caller of [`Message`](crate::Message) sees to it that
/// no other message waits.
pub trait Tables: Debug + Send + Sync {
    /// Whether the parameter lists any table. If not, [`Self::find`] finds nothing.
    fn has(&self, maps: Maps) -> bool;

    /// Asks the tables of a parameter from the first to the last until one knows the key. A value is never empty.
    ///
    /// # Errors
    /// A table that was reached failed, or has an empty value.
    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed>;

    /// Whether a list of plain texts has this one, in any case of letters.
    ///
    /// # Errors
    /// A table that was reached failed.
    fn is_listed(&self, names: Names, text: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupFailed>;
}

/// No tables at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTables;

impl Tables for NoTables {
    fn has(&self, _maps: Maps) -> bool {
        false
    }

    fn find(
        &self,
        _maps: Maps,
        _key: Key<'_>,
        _notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        Ok(None)
    }

    fn is_listed(
        &self,
        _names: Names,
        _text: &[u8],
        _notices: &mut Vec<Notice>,
    ) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_addresses_are_those_whose_keys_are_addresses() {
        let (addresses, texts): (Vec<Maps>, Vec<Maps>) =
            Maps::ALL.into_iter().partition(|maps| maps.has_address_keys());
        assert!(texts.iter().all(|maps| maps.parameter().ends_with("_checks")), "{texts:?}");
        assert!(addresses.iter().all(|maps| maps.parameter().ends_with("_maps")), "{addresses:?}");
        assert_eq!((addresses.len(), texts.len()), (6, 5));
    }

    #[test]
    fn where_no_tables_are_nothing_is_found() {
        for maps in Maps::ALL {
            assert!(!NoTables.has(maps));
            assert_eq!(NoTables.find(maps, Key::Whole(b"x"), &mut Vec::new()), Ok(None));
        }
        assert_eq!(NoTables.is_listed(Names::MyDestination, b"x", &mut Vec::new()), Ok(false));
    }
}
