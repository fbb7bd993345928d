//! Canonical mapping: replaces one address by another.

use memchr::memrchr;

use super::Mapping;
use super::find::{Form, TableValue};
use crate::address::{Token, external, parse_list, quote, rewrite_external, unquote};
use crate::tables::{LookupFailed, Maps};
use postfix::text::equal_but_for_case;

/// How often a canonical address is looked up again.
const ROUNDS_MAX: usize = 10;

impl Mapping<'_> {
    /// Replaces an address, in external form, by the one that the tables have for it, as long as they have one. Says
    /// whether anything has changed. Observed on Postfix 3.7: an address without end is logged as a reason not to accept
    /// the message, which is then accepted.
    pub(super) fn canonical(&mut self, maps: Maps, address: &mut Vec<u8>) -> bool {
        let propagates = self.options.propagates_canonical_extensions;
        let mut changed = false;
        for _ in 0..ROUNDS_MAX {
            let results = match self.results(maps, address, &unquote(address), propagates) {
                Ok(Some(results)) => results,
                Ok(None) => return changed,
                Err(LookupFailed) => {
                    self.lookup_problem(maps, address);
                    return changed;
                }
            };
            if results.len() > 1 {
                self.warn(&format!("multi-valued {} entry for {}", maps.parameter(), self.shown(address)));
            }
            let Some(first) = results.first() else { return changed };
            let result = quote(first);
            changed |= result != *address;
            let is_itself = equal_but_for_case(&result, address, self.options.smtputf8_enable);
            *address = result;
            if is_itself {
                return changed;
            }
        }
        self.unreasonable(&format!("{} map nesting for {}", maps.parameter(), self.shown(address)));
        changed
    }

    /// The addresses, in internal form, that tables have for one; never none. `asked` is the address as log lines call
    /// it.
    pub(super) fn results(
        &mut self,
        maps: Maps,
        asked: &[u8],
        address: &[u8],
        propagates: bool,
    ) -> Result<Option<Vec<Vec<u8>>>, LookupFailed> {
        let Some(TableValue { mut value, extension }) = self.find(maps, address, Form::External)? else {
            return Ok(None);
        };
        if value.first() == Some(&b'@') {
            let user = address.get(..memrchr(b'@', address).unwrap_or(address.len())).unwrap_or_default();
            let user = user.get(..user.len().saturating_sub(extension.len())).unwrap_or_default();
            value = quote(&[user, value.as_slice()].concat());
        }
        let results = self.addresses_in(&value, if propagates { extension } else { b"" });
        if results.is_empty() {
            self.notices.push(postfix::notice::Notice::warning(format!(
                "{} lookup of {} returns non-address result \"{}\"",
                maps.parameter(),
                self.shown(asked),
                self.shown(&value)
            )));
            return Err(LookupFailed);
        }
        Ok(Some(results))
    }

    /// The addresses in the value of a table, rewritten, with an extension appended to their local parts.
    fn addresses_in(&mut self, value: &[u8], extension: &[u8]) -> Vec<Vec<u8>> {
        // The null address has no other form that an address list can hold.
        let value = if value == b"<>" { b"\"\"" } else { value };
        let list = parse_list(value, 0);
        let addresses = list.iter().filter_map(|token| match token {
            Token::Address(tokens) => Some(external(tokens)),
            _ => None,
        });
        let addresses = addresses.map(|address| {
            let mut address = unquote(&rewrite_external(self.options, &address, self.notices));
            let at = memrchr(b'@', &address).unwrap_or(address.len());
            address.splice(at..at, extension.iter().copied());
            address
        });
        addresses.collect()
    }

    pub(super) fn lookup_problem(&mut self, maps: Maps, address: &[u8]) {
        self.failed = true;
        self.warn(&format!(
            "{} map lookup problem for {} -- message not accepted, try again later",
            maps.parameter(),
            self.shown(address)
        ));
    }

    pub(super) fn unreasonable(&mut self, what: &str) {
        self.warn(&format!("unreasonable {what} -- message not accepted, try again later"));
    }
}
