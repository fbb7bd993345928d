//! The tables of our own cleanup: opened before the jail, asked by `cleanup` through its trait.

use std::sync::Arc;

use cleanup::{Key, LookupFailed, Maps, Names};
use lookup::{Keys, OpenError, Options, Problem};
use postfix::notice::Notice;
use postfix::settings::Settings;
use tokio::sync::Semaphore;

/// Every table and list that cleanup(8) knows, as main.cf names them.
#[derive(Debug)]
pub struct CleanupTables {
    maps: Vec<(Maps, lookup::Maps)>,
    names: Vec<(Names, lookup::Names)>,
    is_remote: bool,
}

impl CleanupTables {
    /// Opens them. What is to be logged about it goes to `notices`, also in case of an error.
    ///
    /// # Errors
    /// What is fatal in Postfix.
    pub fn open(
        settings: &Settings,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        let mut maps = Vec::new();
        for which in Maps::ALL {
            let text = text_of(settings, which);
            let opened = lookup::Maps::open(which.parameter(), keys_of(which), text, options, notices)?;
            if !opened.is_empty() {
                maps.push((which, opened));
            }
        }
        let mut names = Vec::new();
        for (which, text) in [
            (Names::MyDestination, &settings.mydestination),
            (Names::MasqueradeExceptions, &settings.masquerade_exceptions),
        ] {
            names.push((which, lookup::Names::open(which.parameter(), text, options, notices)?));
        }
        let is_remote =
            maps.iter().any(|(_, maps)| maps.is_remote()) || names.iter().any(|(_, names)| names.is_remote());
        Ok(Self { maps, names, is_remote })
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        let in_maps = self.maps.iter().find_map(|(_, maps)| maps.changed());
        in_maps.or_else(|| self.names.iter().find_map(|(_, names)| names.changed()))
    }

    /// Host and port of each table server in the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        let in_maps = self.maps.iter().flat_map(|(_, maps)| maps.inet_servers());
        in_maps.chain(self.names.iter().flat_map(|(_, names)| names.inet_servers())).collect()
    }

    fn maps(&self, which: Maps) -> Option<&lookup::Maps> {
        self.maps.iter().find_map(|(each, maps)| (*each == which).then_some(maps))
    }
}

impl cleanup::Tables for CleanupTables {
    fn has(&self, maps: Maps) -> bool {
        self.maps(maps).is_some()
    }

    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        let Some(maps) = self.maps(maps) else { return Ok(None) };
        let (key, is_part) = match key {
            Key::Whole(key) => (key, false),
            Key::Part(key) => (key, true),
        };
        maps.find(key, is_part, notices).map_err(|_| LookupFailed)
    }

    fn is_listed(&self, names: Names, text: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        let list = self.names.iter().find_map(|(each, list)| (*each == names).then_some(list));
        list.map_or(Ok(false), |list| list.contains(text, notices).map_err(|_| LookupFailed))
    }
}

/// What is wrong with the tables of each parameter: for `qmqpd check`.
pub(crate) fn problems(settings: &Settings, options: &Options) -> Vec<(&'static str, Vec<Problem>)> {
    Maps::ALL
        .map(|which| {
            let parameter = which.parameter();
            (parameter, lookup::check_maps(parameter, keys_of(which), text_of(settings, which), options))
        })
        .to_vec()
}

const fn keys_of(maps: Maps) -> Keys {
    if maps.has_address_keys() { Keys::Addresses } else { Keys::Lines }
}

fn text_of(settings: &Settings, maps: Maps) -> &str {
    match maps {
        Maps::SenderCanonical => &settings.sender_canonical_maps,
        Maps::RecipientCanonical => &settings.recipient_canonical_maps,
        Maps::Canonical => &settings.canonical_maps,
        Maps::VirtualAlias => &settings.virtual_alias_maps,
        Maps::SenderBcc => &settings.sender_bcc_maps,
        Maps::RecipientBcc => &settings.recipient_bcc_maps,
        Maps::HeaderChecks => &settings.header_checks,
        Maps::MimeHeaderChecks => &settings.mime_header_checks,
        Maps::NestedHeaderChecks => &settings.nested_header_checks,
        Maps::BodyChecks => &settings.body_checks,
        Maps::MilterHeaderChecks => &settings.milter_header_checks,
    }
}

/// The tables as sessions use them: a table server that is slow must hold up nobody but who asked.
#[derive(Debug, Clone)]
pub struct Lookups {
    tables: Arc<CleanupTables>,
    /// One permit per thread that may wait for a table server.
    turns: Arc<Semaphore>,
}

impl Lookups {
    /// `turns`: how many sessions may wait for table servers at a time, each with a thread of its own.
    #[must_use]
    pub fn new(tables: CleanupTables, turns: Arc<Semaphore>) -> Self {
        Self { tables: Arc::new(tables), turns }
    }

    /// The tables, for a message.
    #[must_use]
    pub fn tables(&self) -> Arc<dyn cleanup::Tables> {
        Arc::<CleanupTables>::clone(&self.tables)
    }

    /// Whether one of them is asked over a socket, so that an answer can take a while.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.tables.is_remote
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        self.tables.changed()
    }

    /// Host and port of each table server in the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        self.tables.inet_servers()
    }

    /// Does work in which tables may be asked. If some are remote the runtime is told that this thread may wait, so that
    /// the other sessions move to another one.
    pub async fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.tables.is_remote {
            return work();
        }
        // Nobody closes the semaphore.
        let _turn = self.turns.acquire().await;
        tokio::task::block_in_place(work)
    }
}
