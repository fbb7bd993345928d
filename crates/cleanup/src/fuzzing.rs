//! Doors for the fuzz targets; built for them alone.

use crate::mapping::{Mapping, Place};
use crate::notices::Notices;
use crate::options::Options;
use crate::tables::NoTables;

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
    crate::header::rewrite_addresses(&mut mapping, Place::HeaderSender, value)
}
