//! Virtual aliases: replace one recipient by any number of recipients.

use std::collections::HashSet;

use super::Mapping;
use crate::tables::{LookupFailed, Maps};
use postfix::text::{equal_but_for_case, fold_into};

const MAPS: Maps = Maps::VirtualAlias;

/// An alias has no end, or a very large one: temporary, for the whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AliasTooLarge;

/// Why an expansion goes no further.
enum Stop {
    LookupFailed,
    TooLarge,
}

impl Mapping<'_> {
    /// The final recipients for a recipient, in internal form; `None` is the recipient itself. Each result is looked up
    /// again until there is nothing more for it, or until it is its own result.
    ///
    /// After a lookup that failed it is the recipient itself, too, and [`Mapping::failed`] says so.
    pub(crate) fn final_recipients(
        &mut self,
        recipient: &[u8],
    ) -> Result<Option<Vec<Vec<u8>>>, AliasTooLarge> {
        if !self.options.address_mapping || !self.tables.has(MAPS) {
            return Ok(None);
        }
        match self.expand(recipient) {
            Ok(addresses) => Ok(Some(addresses)),
            Err(Stop::LookupFailed) => Ok(None),
            Err(Stop::TooLarge) => Err(AliasTooLarge),
        }
    }

    fn expand(&mut self, recipient: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        let mut addresses = vec![recipient.to_vec()];
        // Without differences of case.
        let mut own_results: HashSet<Vec<u8>> = HashSet::new();
        let mut position = 0_usize;
        while position < addresses.len() {
            if addresses.len() > self.options.virtual_alias_expansion_limit {
                self.unreasonable(&format!(
                    "{} map expansion size for {}",
                    MAPS.parameter(),
                    self.shown(recipient)
                ));
                return Err(Stop::TooLarge);
            }
            self.follow(recipient, position, &mut addresses, &mut own_results)?;
            position = position.saturating_add(1);
        }
        Ok(addresses)
    }

    /// Looks one of the addresses up until there is nothing more for it. The first result takes its place, others come
    /// behind all.
    fn follow(
        &mut self,
        recipient: &[u8],
        position: usize,
        addresses: &mut Vec<Vec<u8>>,
        own_results: &mut HashSet<Vec<u8>>,
    ) -> Result<(), Stop> {
        let options = self.options;
        let mut rounds = 0_usize;
        while let Some(address) = addresses.get_mut(position) {
            if own_results.contains(&self.folded(address)) {
                return Ok(());
            }
            if rounds >= options.virtual_alias_recursion_limit {
                self.unreasonable(&format!("{} map nesting for {}", MAPS.parameter(), self.shown(recipient)));
                return Err(Stop::TooLarge);
            }
            rounds = rounds.saturating_add(1);
            let found = self.results(MAPS, address, address, options.propagates_virtual_extensions);
            let results = match found {
                Ok(Some(results)) => results,
                Ok(None) => return Ok(()),
                Err(LookupFailed) => {
                    self.lookup_problem(MAPS, recipient);
                    return Err(Stop::LookupFailed);
                }
            };
            self.check_lengths(&results)?;
            if results.iter().any(|result| equal_but_for_case(result, address, options.smtputf8_enable)) {
                own_results.insert(self.folded(address));
            }
            let mut results = results.into_iter();
            *address = results.next().unwrap_or_default();
            addresses.extend(results);
        }
        Ok(())
    }

    fn check_lengths(&mut self, results: &[Vec<u8>]) -> Result<(), Stop> {
        let limit = self.options.virtual_alias_address_length_limit;
        let Some(long) = results.iter().find(|result| result.len() > limit) else { return Ok(()) };
        let beginning = self.shown(long.get(..300).unwrap_or(long));
        self.unreasonable(&format!("{} result {beginning}...", MAPS.parameter()));
        Err(Stop::TooLarge)
    }

    fn folded(&self, address: &[u8]) -> Vec<u8> {
        let mut folded = Vec::new();
        fold_into(address, self.options.smtputf8_enable, &mut folded);
        folded
    }
}
