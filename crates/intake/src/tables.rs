//! The tables of our own cleanup: opened before the jail, asked by `cleanup` through its trait.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cleanup::{Key, LookupFailed, Maps, Names, Origin};
use lookup::{Asker, Budget, Keys, OpenError, Options, Owner, Problem, TurnOptions, Turns};
use postfix::notice::Notice;
use postfix::settings::Settings;
use tokio::sync::Semaphore;

/// Every table and list that cleanup(8) knows, as main.cf names them.
#[derive(Debug)]
pub struct CleanupTables {
    maps: Vec<(Maps, lookup::Maps)>,
    names: Vec<(Names, lookup::Names)>,
    /// Where expressions that take long wait for each other, if there are expressions at all.
    expressions: Option<Arc<Turns>>,
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
        let has_expressions = maps.iter().any(|(_, maps)| maps.has_expressions())
            || names.iter().any(|(_, names)| names.has_expressions());
        let expressions = has_expressions.then(|| Arc::clone(&options.turns));
        Ok(Self { maps, names, expressions })
    }

    /// Whether a lookup can take a while. Not a constant: a `hash:` table that is being written answers when that is done.
    fn is_remote(&self) -> bool {
        self.maps.iter().any(|(_, maps)| maps.is_remote())
            || self.names.iter().any(|(_, names)| names.is_remote())
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

/// The tables as one message asks them.
#[derive(Debug)]
struct OfMessage {
    tables: Arc<CleanupTables>,
    budget: Option<Arc<Budget>>,
}

impl cleanup::Tables for OfMessage {
    fn has(&self, maps: Maps) -> bool {
        self.tables.maps(maps).is_some()
    }

    fn find(
        &self,
        maps: Maps,
        key: Key<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, LookupFailed> {
        let Some(maps) = self.tables.maps(maps) else { return Ok(None) };
        let (key, is_part) = match key {
            Key::Whole(key) => (key, false),
            Key::Part(key) => (key, true),
        };
        maps.find_within(self.budget.as_deref(), key, is_part, notices).map_err(|_| LookupFailed)
    }

    fn is_listed(&self, names: Names, text: &[u8], notices: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        let list = self.tables.names.iter().find_map(|(each, list)| (*each == names).then_some(list));
        let Some(list) = list else { return Ok(false) };
        list.contains_within(self.budget.as_deref(), text, notices).map_err(|_| LookupFailed)
    }
}

/// The options with which a service opens its match lists and tables. What they say of expressions is for all of them
/// together: a process makes them once.
#[must_use]
pub fn list_options(settings: &Settings) -> Options {
    Options {
        smtputf8_enable: settings.smtputf8_enable,
        parent_domain_matches_subdomains: settings.parent_domain_matches_subdomains.clone(),
        daemon_table_open_error_is_fatal: settings.daemon_table_open_error_is_fatal,
        proxymap_service_name: settings.proxymap_service_name.clone(),
        release: settings.release(),
        ipc_idle: settings.ipc_idle,
        ipc_ttl: settings.ipc_ttl,
        socketmap_max_reply_size: usize::try_from(settings.socketmap_max_reply_size).unwrap_or(usize::MAX),
        socketmap_max_query_size: usize::try_from(settings.socketmap_max_query_size).unwrap_or(usize::MAX),
        turns: Turns::new(TurnOptions {
            time_limit: settings.qmqpd_expression_time_limit,
            aside: |work| tokio::task::block_in_place(work),
            ..TurnOptions::default()
        }),
        ..Options::default()
    }
}

/// What is wrong with the tables of each parameter: for `qmqpd check`.
pub(super) fn problems(settings: &Settings, options: &Options) -> Vec<(&'static str, Vec<Problem>)> {
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

/// The tables as sessions use them: a slow table server must delay only the messages that need it.
#[derive(Debug, Clone)]
pub struct Lookups {
    tables: Arc<CleanupTables>,
    /// The same for all messages, where no expressions are.
    unbounded: Arc<dyn cleanup::Tables>,
    /// One permit per thread that may wait for a table server.
    turns: Arc<Semaphore>,
    /// How long a message may take, whatever it waits for.
    message_time_max: Duration,
}

impl Lookups {
    /// `turns`: how many sessions may wait for table servers at a time, each with a thread of its own.
    #[must_use]
    pub fn new(tables: CleanupTables, turns: Arc<Semaphore>, message_time_max: Duration) -> Self {
        let tables = Arc::new(tables);
        let unbounded = Arc::new(OfMessage { tables: Arc::clone(&tables), budget: None });
        Self { tables, unbounded, turns, message_time_max }
    }

    /// The tables for a message of this client. Where there are expressions, they have a budget,
    /// and end when the client has disconnected.
    #[must_use]
    pub fn tables(&self, origin: &Origin, asker: Arc<dyn Asker>) -> Arc<dyn cleanup::Tables> {
        self.of_message(self.budget(origin).map(|budget| Arc::new(budget.asked_by(asker))))
    }

    /// The same for a message that cannot wait: an expression that takes long fails, and the budget says so.
    pub(super) fn tables_at_once(&self, origin: &Origin) -> (Arc<dyn cleanup::Tables>, Option<Arc<Budget>>) {
        let budget = self.budget(origin).map(|budget| Arc::new(budget.staying()));
        (self.of_message(budget.clone()), budget)
    }

    fn of_message(&self, budget: Option<Arc<Budget>>) -> Arc<dyn cleanup::Tables> {
        if budget.is_none() {
            return Arc::clone(&self.unbounded);
        }
        Arc::new(OfMessage { tables: Arc::clone(&self.tables), budget })
    }

    fn budget(&self, origin: &Origin) -> Option<Budget> {
        let turns = self.tables.expressions.as_ref()?;
        let deadline = Instant::now().checked_add(self.message_time_max);
        Some(Budget::new(turns, owner_of(origin), deadline))
    }

    /// Whether one of them is asked over a socket, or is being written just now, so that an answer can take a while.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.tables.is_remote()
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
        if !self.tables.is_remote() {
            return work();
        }
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        tokio::task::block_in_place(work)
    }
}

/// Who has its share of what expressions may cost: an IPv4 address, or an IPv6 network.
fn owner_of(origin: &Origin) -> Owner {
    match origin.client_address.parse() {
        Ok(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
        Ok(IpAddr::V6(address)) => address.to_bits() >> 64,
        Err(_) => 0,
    }
}
