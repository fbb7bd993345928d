//! Masquerading: replaces a host by its domain.

use memchr::memrchr;

use super::Mapping;
use crate::tables::{LookupFailed, Names};
use postfix::notice::Notice;
use postfix::text::fold_into;

impl Mapping<'_> {
    /// Replaces the domain of an address, in external form, by the first of masquerade_domains that it is in, unless that
    /// one says `!` or is the domain itself. Says whether anything has changed.
    pub(super) fn masquerade(&mut self, address: &mut Vec<u8>) -> bool {
        let Some(at) = memrchr(b'@', address) else { return false };
        let (user, at_domain) = address.split_at(at);
        if self.is_excepted(user) {
            return false;
        }
        let utf8 = self.options.smtputf8_enable;
        let mut domain = Vec::new();
        fold_into(at_domain.get(1..).unwrap_or_default(), utf8, &mut domain);
        for listed in &self.options.masquerade_domains {
            let name = listed.trim_start_matches('!');
            let keeps = listed.len().saturating_sub(name.len()) % 2 == 1;
            let mut hiding = Vec::new();
            fold_into(name.as_bytes(), utf8, &mut hiding);
            let Some(host) = domain.strip_suffix(hiding.as_slice()).filter(|_| !hiding.is_empty()) else {
                continue;
            };
            if host.is_empty() {
                return false;
            }
            if host.ends_with(b".") {
                if !keeps {
                    address.truncate(at.saturating_add(1));
                    address.extend_from_slice(&hiding);
                }
                return !keeps;
            }
        }
        false
    }

    fn is_excepted(&mut self, user: &[u8]) -> bool {
        let mut notices = Vec::new();
        let listed = self.tables.is_listed(Names::MasqueradeExceptions, user, &mut notices);
        self.keep(notices);
        listed.unwrap_or_else(|LookupFailed| {
            self.failed = true;
            self.notices.push(Notice::info(format!(
                "{}: {} map lookup problem -- message not accepted, try again later",
                self.queue_id,
                Names::MasqueradeExceptions.parameter()
            )));
            false
        })
    }
}
