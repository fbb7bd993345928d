//! The lists and tables that routing asks.

use std::net::IpAddr;

use daemon::log::{Log, Program};
use delivery::routing::{Directory, Domains, Key, LookupFailure, Maps};
use lookup::{Keys, Names, OpenError, Options};
use postfix::notice::Notice;
use postfix::settings::Settings;

/// They are opened before the jail.
#[derive(Debug)]
pub(super) struct Tables {
    maps: Vec<(Maps, lookup::Maps)>,
    names: Vec<(Domains, Names)>,
    own_addresses: Vec<IpAddr>,
    log: Log,
}

const MAPS: [Maps; 4] =
    [Maps::Transport, Maps::Relocated, Maps::SenderDefaultTransport, Maps::SenderRelayhost];
const DOMAINS: [Domains; 4] =
    [Domains::Local, Domains::VirtualAlias, Domains::VirtualMailbox, Domains::Relay];

impl Tables {
    /// Opens what main.cf names.
    pub(super) fn open(
        settings: &Settings,
        options: &Options,
        own_addresses: Vec<IpAddr>,
        log: &Log,
    ) -> Result<Self, OpenError> {
        let mut notices = Vec::new();
        let mut maps = Vec::new();
        for which in MAPS {
            let text = match which {
                Maps::Transport => &settings.transport_maps,
                Maps::Relocated => &settings.relocated_maps,
                Maps::SenderDefaultTransport => &settings.sender_dependent_default_transport_maps,
                Maps::SenderRelayhost => &settings.sender_dependent_relayhost_maps,
            };
            let opened = lookup::Maps::open(which.parameter(), Keys::Addresses, text, options, &mut notices)?;
            if !opened.is_empty() {
                maps.push((which, opened));
            }
        }
        let mut names = Vec::new();
        for which in DOMAINS {
            let text = match which {
                Domains::Local => &settings.mydestination,
                Domains::VirtualAlias => &settings.virtual_alias_domains,
                Domains::VirtualMailbox => &settings.virtual_mailbox_domains,
                Domains::Relay => &settings.relay_domains,
            };
            names.push((which, Names::open(which.parameter(), text, options, &mut notices)?));
        }
        notices.iter().for_each(|notice| log.notice(Program::TrivialRewrite, notice));
        Ok(Self { maps, names, own_addresses, log: log.clone() })
    }

    /// A table or included file that is no longer what was opened.
    pub(super) fn changed(&self) -> Option<String> {
        let in_maps = self.maps.iter().find_map(|(_, maps)| maps.changed());
        in_maps.or_else(|| self.names.iter().find_map(|(_, names)| names.changed()))
    }

    /// Host and port of each table server in the network.
    pub(super) fn inet_servers(&self) -> Vec<(String, u16)> {
        let in_maps = self.maps.iter().flat_map(|(_, maps)| maps.inet_servers());
        in_maps.chain(self.names.iter().flat_map(|(_, names)| names.inet_servers())).collect()
    }

    fn say(&self, notices: &[Notice]) {
        notices.iter().for_each(|notice| self.log.notice(Program::TrivialRewrite, notice));
    }
}

impl Directory for Tables {
    fn lists(&self, domains: Domains, domain: &str) -> Result<bool, LookupFailure> {
        let Some((_, list)) = self.names.iter().find(|(each, _)| *each == domains) else {
            return Ok(false);
        };
        let mut notices = Vec::new();
        let mut key = domain;
        let found = loop {
            match list.contains(key.as_bytes(), &mut notices) {
                // Sub-domains of relay_domains are relayed as well.
                Ok(false) if domains == Domains::Relay => match key.split_once('.') {
                    Some((_, parent)) if parent.contains('.') => key = parent,
                    _ => break Ok(false),
                },
                other => break other,
            }
        };
        self.say(&notices);
        found.map_err(|error| LookupFailure { parameter: domains.parameter(), words: error.to_string() })
    }

    fn find(&self, maps: Maps, key: &str, kind: Key) -> Result<Option<String>, LookupFailure> {
        let Some((_, tables)) = self.maps.iter().find(|(each, _)| *each == maps) else { return Ok(None) };
        let mut notices = Vec::new();
        let found = tables.find(key.as_bytes(), kind == Key::Part, &mut notices);
        self.say(&notices);
        match found {
            Ok(value) => Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => Err(LookupFailure { parameter: maps.parameter(), words: error.to_string() }),
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.own_addresses.contains(&address)
    }
}
