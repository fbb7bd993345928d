//! What the administrator's tables make of an address: canonical addresses, masquerading, virtual aliases, copies.
//!
//! An address has been rewritten ([`crate::address`]) before it comes here. Tables know addresses in external form.

mod canonical;
mod extension;
mod find;
mod local;
mod masquerade;
mod virtual_alias;

use postfix::notice::Notice;

pub(crate) use find::Form;
pub(crate) use virtual_alias::AliasTooLarge;

use crate::address::{Token, external, quote, scan, unquote};
use crate::notices::Notices;
use crate::options::{AddressClasses, Options};
use crate::tables::{Key, LookupFailed, Maps, Tables};
use postfix::text::printable;

/// Where an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressRole {
    EnvelopeSender,
    EnvelopeRecipient,
    HeaderSender,
    HeaderRecipient,
}

/// One thing that is done to an address.
#[derive(Debug, Clone, Copy)]
enum Step {
    Canonical(Maps),
    Masquerade,
}

/// The tables, asked on behalf of one message.
pub(crate) struct Mapping<'a> {
    options: &'a Options,
    tables: &'a dyn Tables,
    queue_id: &'a str,
    notices: &'a mut Notices,
    /// A table could not answer, or gave an invalid answer: the message cannot be accepted now.
    pub(crate) failed: bool,
}

impl<'a> Mapping<'a> {
    pub(crate) fn new(
        options: &'a Options,
        tables: &'a dyn Tables,
        queue_id: &'a str,
        notices: &'a mut Notices,
    ) -> Self {
        Self { options, tables, queue_id, notices, failed: false }
    }

    pub(crate) const fn options(&self) -> &'a Options {
        self.options
    }

    pub(crate) const fn notices(&mut self) -> &mut Notices {
        self.notices
    }

    /// The canonical form of an address of the envelope, which is internal.
    pub(crate) fn envelope_address(&mut self, role: AddressRole, mut address: Vec<u8>) -> Vec<u8> {
        for step in self.steps(role) {
            let mut text = quote(&address);
            self.take(step, &mut text);
            address = unquote(&text);
        }
        address
    }

    /// Puts the canonical form of an address in a header in its place; says whether anything has changed.
    pub(crate) fn header_address(&mut self, role: AddressRole, tokens: &mut Vec<Token>) -> bool {
        let mut changed = false;
        for step in self.steps(role) {
            let mut text = external(tokens);
            changed |= self.take(step, &mut text);
            *tokens = scan(&text, 0);
        }
        changed
    }

    /// Whether there is anything to do to addresses in this place.
    pub(crate) fn maps(&self, role: AddressRole) -> bool {
        self.steps(role).next().is_some()
    }

    fn steps(&self, role: AddressRole) -> impl Iterator<Item = Step> + use<> {
        let options = self.options;
        let canonical = |maps: Maps, classes: AddressClasses| {
            let applies = options.address_mapping && classes.have(role) && self.tables.has(maps);
            applies.then_some(Step::Canonical(maps))
        };
        let masquerades = options.address_mapping
            && !options.masquerade_domains.is_empty()
            && options.masquerade_classes.have(role);
        let of_one_side = match role {
            AddressRole::EnvelopeSender | AddressRole::HeaderSender => {
                canonical(Maps::SenderCanonical, options.sender_canonical_classes)
            }
            AddressRole::EnvelopeRecipient | AddressRole::HeaderRecipient => {
                canonical(Maps::RecipientCanonical, options.recipient_canonical_classes)
            }
        };
        let common = canonical(Maps::Canonical, options.canonical_classes);
        [of_one_side, common, masquerades.then_some(Step::Masquerade)].into_iter().flatten()
    }

    /// Does one step to an address in external form; says whether it changed.
    fn take(&mut self, step: Step, address: &mut Vec<u8>) -> bool {
        match step {
            Step::Canonical(maps) => self.canonical(maps, address),
            Step::Masquerade => self.masquerade(address),
        }
    }

    fn ask(&mut self, maps: Maps, key: Key<'_>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let mut notices = Vec::new();
        let found = self.tables.find(maps, key, &mut notices);
        self.keep(notices);
        found
    }

    fn keep(&mut self, notices: Vec<Notice>) {
        notices.into_iter().for_each(|notice| self.notices.push(notice));
    }

    /// An address for a log line.
    fn shown(&self, address: &[u8]) -> String {
        printable(address, self.options.smtputf8_enable)
    }

    fn warn(&mut self, text: &str) {
        self.notices.push(Notice::warning(format!("{}: {text}", self.queue_id)));
    }
}

impl AddressClasses {
    const fn have(self, role: AddressRole) -> bool {
        match role {
            AddressRole::EnvelopeSender => self.envelope_sender,
            AddressRole::EnvelopeRecipient => self.envelope_recipient,
            AddressRole::HeaderSender => self.header_sender,
            AddressRole::HeaderRecipient => self.header_recipient,
        }
    }
}

#[cfg(test)]
mod tests;
