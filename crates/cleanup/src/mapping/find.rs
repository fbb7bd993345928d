//! The order in which the parts of an address are looked up.

use memchr::memrchr;

use super::Mapping;
use super::extension::strip_extension;
use crate::address::{quote, quote_local};
use crate::tables::{Key, LookupFailed, Maps};

/// In which form an address is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The external form.
    External,
    /// The external form, then the internal one if it is another.
    ExternalThenInternal,
}

/// What a table says about an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableValue<'a> {
    pub(crate) value: Vec<u8>,
    /// The part of the address that the table knows nothing about, with its delimiter; or nothing.
    pub(crate) extension: &'a [u8],
}

impl Mapping<'_> {
    /// Looks for an address in internal form: `user+extension@domain`, `user@domain`, for domains of this host
    /// `user+extension` and `user`, then `@domain`. Only the first is looked up in tables of patterns.
    pub(crate) fn find<'a>(
        &mut self,
        maps: Maps,
        address: &'a [u8],
        form: Form,
    ) -> Result<Option<TableValue<'a>>, LookupFailed> {
        let whole = |value| TableValue { value, extension: b"" };
        if let Some(value) = self.find_form(maps, address, form, &quote, false)? {
            return Ok(Some(whole(value)));
        }
        let stripped = strip_extension(self.options, address);
        let (bare, extension) = match &stripped {
            Some((bare, extension)) => (Some(bare.as_slice()), *extension),
            None => (None, &b""[..]),
        };
        if let Some(bare) = bare
            && let Some(value) = self.find_form(maps, bare, form, &quote, true)?
        {
            return Ok(Some(TableValue { value, extension }));
        }
        let Some(at) = memrchr(b'@', address) else { return Ok(None) };
        let (local, at_domain) = address.split_at(at);
        if self.is_local_domain(at_domain.get(1..).unwrap_or_default())? {
            if let Some(value) = self.find_form(maps, local, form, &quote_local, true)? {
                return Ok(Some(whole(value)));
            }
            let bare_local = bare.and_then(|bare| bare.strip_suffix(at_domain));
            if let Some(bare_local) = bare_local
                && let Some(value) = self.find_form(maps, bare_local, form, &quote_local, true)?
            {
                return Ok(Some(TableValue { value, extension }));
            }
        }
        Ok(self.ask(maps, Key::Part(at_domain))?.map(whole))
    }

    fn find_form(
        &mut self,
        maps: Maps,
        address: &[u8],
        form: Form,
        quote: &dyn Fn(&[u8]) -> Vec<u8>,
        is_part: bool,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        let quoted = quote(address);
        let found = self.ask(maps, key(is_part, &quoted))?;
        if found.is_some() || form == Form::External || quoted == address {
            return Ok(found);
        }
        self.ask(maps, key(is_part, address))
    }
}

const fn key(is_part: bool, key: &[u8]) -> Key<'_> {
    if is_part { Key::Part(key) } else { Key::Whole(key) }
}
