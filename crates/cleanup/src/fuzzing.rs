//! Entry points for the fuzz targets; compiled for them only.

use postfix::notice::Notice;

use crate::mapping::{AddressRole, AliasTooLarge, Mapping};
use crate::notices::Notices;
use crate::options::{AddressClasses, Options};
use crate::tables::{Key, LookupFailed, Maps, Names, NoTables, Tables};

/// The settings under which the targets rewrite: every kind of rewriting is on.
#[must_use]
pub fn options() -> Options {
    Options {
        myorigin: "origin.example".to_owned(),
        mydomain: "example".to_owned(),
        append_dot_mydomain: true,
        ..Options::default()
    }
}

/// An envelope address, rewritten.
#[must_use]
pub fn rewrite_internal(options: &Options, address: &[u8]) -> Vec<u8> {
    crate::address::rewrite_internal(options, address, &mut Notices::default())
}

/// An address of a header, rewritten.
#[must_use]
pub fn rewrite_external(options: &Options, address: &[u8]) -> Vec<u8> {
    crate::address::rewrite_external(options, address, &mut Notices::default())
}

/// The value of an address header, if rewriting changes it.
#[must_use]
pub fn rewrite_addresses(options: &Options, value: &[u8]) -> Option<Vec<u8>> {
    let mut notices = Notices::default();
    let mut mapping = Mapping::new(options, &NoTables, "ID", &mut notices);
    crate::header::rewrite_addresses(&mut mapping, AddressRole::HeaderSender, value)
}

/// What tables made of an address.
#[derive(Debug)]
pub struct Mapped<T> {
    /// The outcome.
    pub value: T,
    /// A table could not answer, or gave an invalid answer.
    pub failed: bool,
    /// What is logged about it.
    pub notices: Vec<Notice>,
}

fn mapped<T>(options: &Options, tables: &dyn Tables, work: impl FnOnce(&mut Mapping<'_>) -> T) -> Mapped<T> {
    let mut notices = Notices::default();
    let mut mapping = Mapping::new(options, tables, "ID", &mut notices);
    let value = work(&mut mapping);
    let failed = mapping.failed;
    Mapped { value, failed, notices: notices.into_lines("ID") }
}

/// The final recipients for a recipient, `None` for the recipient itself; or there is no end of them.
#[must_use]
pub fn virtual_aliases(
    options: &Options,
    tables: &dyn Tables,
    recipient: &[u8],
) -> Mapped<Result<Option<Vec<Vec<u8>>>, ()>> {
    mapped(options, tables, |mapping| mapping.final_recipients(recipient).map_err(|AliasTooLarge| ()))
}

/// The address that the tables of one parameter have for another.
#[must_use]
pub fn canonical(options: &Options, tables: &dyn Tables, maps: Maps, address: &[u8]) -> Mapped<Vec<u8>> {
    let options = Options {
        masquerade_domains: Vec::new(),
        sender_canonical_classes: AddressClasses::ALL,
        recipient_canonical_classes: AddressClasses::ALL,
        ..options.clone()
    };
    let role = if maps == Maps::SenderCanonical {
        AddressRole::EnvelopeSender
    } else {
        AddressRole::EnvelopeRecipient
    };
    mapped(&options, &Only { maps, tables }, |mapping| mapping.envelope_address(role, address.to_vec()))
}

/// Text without differences of case.
#[must_use]
pub fn fold_case(text: &[u8], utf8: bool) -> Vec<u8> {
    let mut folded = Vec::new();
    postfix::text::fold_into(text, utf8, &mut folded);
    folded
}

/// The tables of one parameter.
#[derive(Debug)]
struct Only<'a> {
    maps: Maps,
    tables: &'a dyn Tables,
}

impl Tables for Only<'_> {
    fn has(&self, maps: Maps) -> bool {
        maps == self.maps && self.tables.has(maps)
    }

    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        self.tables.find(maps, key, notices)
    }

    fn is_listed(&self, names: Names, text: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        self.tables.is_listed(names, text, notices)
    }
}
