//! Looks up the value of each name: first overrides, then main.cf, then defaults.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::host::HostFacts;
use crate::compatibility::Release;
use crate::config_error::ConfigError;
use crate::expand::{ExpandError, NameValue, Names, expand, references};
use crate::main_cf::{MainCf, Override, READ_ONLY};
use crate::own_networks::{OwnNetworksError, mynetworks, own_addresses};
use crate::parameter::words::{Commit, NetworksStyle, Submit};
use crate::parameter::{
    DefaultValue, find, is_read_by_other_programs, is_template, suggestion, table::PARAMETERS,
};
use crate::value::{Keyword, keywords};

/// A name that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// The name.
    pub name: String,
    /// Where it stands: a file or `command line`.
    pub file: String,
    /// The line, from 1, when it stands in main.cf.
    pub line: Option<usize>,
    /// A known name that looks much like it.
    pub suggestion: Option<&'static str>,
}

/// The configuration before typing: every name with its raw and its expanded value.
pub struct Namespace<'a> {
    main_cf: &'a MainCf,
    overrides: BTreeMap<&'a str, &'a Override>,
    read_only: [(&'static str, String); READ_ONLY.len()],
    computed: BTreeMap<&'static str, String>,
    own_networks: Option<OwnNetworksError>,
    origin_line: Option<Result<Vec<u8>, String>>,
}

impl Names for Namespace<'_> {
    fn find(&self, name: &[u8]) -> Option<NameValue<'_>> {
        let name = std::str::from_utf8(name).ok()?;
        if let Some((_, value)) = self.read_only.iter().find(|(read_only, _)| *read_only == name) {
            return Some(NameValue { text: Cow::Borrowed(value.as_bytes()), is_default: false });
        }
        if let Some(raw) = self.set_value(name) {
            return Some(NameValue { text: Cow::Borrowed(raw), is_default: false });
        }
        let text = match find(name)?.default {
            DefaultValue::Text(text) => text.as_bytes(),
            DefaultValue::Computed(_) => self.computed.get(name)?.as_bytes(),
        };
        Some(NameValue { text: Cow::Borrowed(text), is_default: true })
    }
}

impl<'a> Namespace<'a> {
    /// Brings the sources together and finds out the defaults that depend on the host.
    #[must_use]
    pub fn new(main_cf: &'a MainCf, overrides: &'a [Override], host: &HostFacts<'_>) -> Self {
        let overrides = overrides
            .iter()
            .filter(|given| !READ_ONLY.contains(&given.name.as_str()))
            .map(|given| (given.name.as_str(), given))
            .collect();
        let mut namespace = Self {
            main_cf,
            overrides,
            read_only: [
                ("process_id", host.process_id.to_string()),
                ("process_name", host.process_name.clone()),
                ("service_name", host.service_name.clone()),
            ],
            computed: BTreeMap::new(),
            own_networks: None,
            origin_line: None,
        };
        // The order decides what a circle of these four sees; it is Postfix's.
        let submit = if host.is_under_postfix { Submit::Postfix } else { Submit::Local };
        namespace.computed.insert("qmqpd_submit", submit.as_str().to_owned());
        let commit = if host.is_under_postfix { Commit::File } else { Commit::Journal };
        namespace.computed.insert("qmqpd_commit", commit.as_str().to_owned());
        namespace.computed.insert("config_directory", host.config_directory.clone());
        let release = Release::of(&namespace.expanded_text("mail_version"));
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        namespace.computed.insert("tls_required_enable", yes_or_no(release >= Release::new(3, 10)));
        let requires_tls = release >= Release::new(3, 11) || namespace.is_set("requiretls_esmtp_header");
        namespace.computed.insert("requiretls_enable", yes_or_no(requires_tls));
        let name = namespace.default_myhostname(host);
        namespace.computed.insert("myhostname", name);
        let domain = namespace.default_mydomain();
        namespace.computed.insert("mydomain", domain);
        let networks = namespace.default_mynetworks(host);
        namespace.own_networks = networks.as_ref().err().cloned();
        namespace.computed.insert("mynetworks", networks.unwrap_or_default());
        let origin = namespace.expanded_text("myorigin");
        namespace.origin_line = origin.starts_with('/').then(|| (host.first_line)(&origin));
        namespace
    }

    fn default_myhostname(&self, host: &HostFacts<'_>) -> String {
        if host.host_name.contains('.') {
            return host.host_name.clone();
        }
        let domain = match self.set_value("mydomain") {
            Some(_) => self.expanded_text("mydomain"),
            None => "localdomain".to_owned(),
        };
        format!("{}.{domain}", host.host_name)
    }

    fn default_mydomain(&self) -> String {
        match self.expanded_text("myhostname").split_once('.') {
            Some((_, domain)) => domain.to_owned(),
            None => "localdomain".to_owned(),
        }
    }

    fn default_mynetworks(&self, host: &HostFacts<'_>) -> Result<String, OwnNetworksError> {
        let protocols = self.expanded_text("inet_protocols");
        // A bad value is reported when its own row is loaded.
        let protocols = keywords("inet_protocols", &protocols, &["ipv4", "ipv6", "all"]).unwrap_or_default();
        let interfaces = self.expanded_text("inet_interfaces");
        let own = own_addresses(&interfaces, &protocols, &host.interfaces, host.resolve)?;
        if self.set_value("mynetworks").is_some() {
            return Ok(String::new());
        }
        let style = self.expanded_text("mynetworks_style");
        let style = NetworksStyle::KEYWORDS.iter().find(|(word, _)| *word == style);
        mynetworks(style.map_or(NetworksStyle::Host, |&(_, style)| style), &own)
    }

    fn expanded_text(&self, name: &str) -> String {
        self.expanded(name)
            .ok()
            .flatten()
            .map_or_else(String::new, |value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The raw value that main.cf or an override sets.
    fn set_value(&self, name: &str) -> Option<&[u8]> {
        match self.overrides.get(name) {
            Some(given) => Some(given.value.as_bytes()),
            None => self
                .main_cf
                .get(name)
                .filter(|entry| !READ_ONLY.contains(&entry.name.as_str()))
                .map(|entry| entry.value.as_slice()),
        }
    }

    /// Whether main.cf or an override sets the name.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.set_value(name).is_some()
    }

    /// The names that main.cf or an override sets.
    #[must_use]
    pub fn set_names(&self) -> BTreeSet<String> {
        let given = self.overrides.keys().map(|&name| name.to_owned());
        self.main_cf.entries().map(|entry| entry.name.clone()).chain(given).collect()
    }

    /// The value before expansion; for a default that depends on the host, the value itself.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<Vec<u8>> {
        self.find(name.as_bytes()).map(|found| found.text.into_owned())
    }

    /// The unexpanded value that the name has when it is not set.
    #[must_use]
    pub fn default_raw(&self, name: &str) -> Option<&str> {
        match find(name)?.default {
            DefaultValue::Text(text) => Some(text),
            DefaultValue::Computed(_) => self.computed.get(name).map(String::as_str),
        }
    }

    /// The expanded value; `None` for a name that means nothing.
    ///
    /// # Errors
    /// The value cannot be expanded.
    pub fn expanded(&self, name: &str) -> Result<Option<Vec<u8>>, ExpandError> {
        match self.find(name.as_bytes()) {
            Some(found) => self.expand(&found.text).map(Some),
            None => Ok(None),
        }
    }

    /// Expands any text.
    ///
    /// # Errors
    /// The text cannot be expanded.
    pub fn expand(&self, text: &[u8]) -> Result<Vec<u8>, ExpandError> {
        expand(text, self)
    }

    /// Why the default of mynetworks, or the meaning of inet_interfaces, could not be found out.
    pub(super) fn own_networks_error(&self) -> Option<&OwnNetworksError> {
        self.own_networks.as_ref()
    }

    /// The first line of the file that myorigin names; `None` where it is a domain.
    pub(super) fn origin_line(&self) -> Option<&Result<Vec<u8>, String>> {
        self.origin_line.as_ref()
    }

    /// The path of main.cf.
    pub(super) fn path(&self) -> &str {
        self.main_cf.path()
    }

    /// An error about a parameter, with the place where it is set.
    pub(super) fn error(&self, name: &str, value: &str, what: String, remedy: String) -> ConfigError {
        let (file, line) = match (self.overrides.get(name), self.main_cf.get(name)) {
            (Some(given), _) => (given.origin.clone(), None),
            (None, Some(entry)) => (self.main_cf.path().to_owned(), Some(entry.line)),
            (None, None) => (self.main_cf.path().to_owned(), None),
        };
        // Postfix names main.cf in any case.
        let about_main_cf = format!("file {}: ", self.main_cf.path());
        let what = match what.strip_prefix(&about_main_cf) {
            Some(rest) if file != self.main_cf.path() => rest.to_owned(),
            _ => what,
        };
        ConfigError::new(what, remedy).in_file(file, line).about(name, value)
    }

    fn unknown(&self, name: &str, suggestion_for: &str) -> UnknownName {
        let place = self.error(name, "", String::new(), String::new());
        UnknownName {
            name: suggestion_for.to_owned(),
            file: place.file,
            line: place.line,
            suggestion: suggestion(suggestion_for),
        }
    }

    /// Every raw value that counts: what is set, and the defaults of what is not.
    fn values(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let defaults = PARAMETERS
            .iter()
            .filter(|parameter| !self.is_set(parameter.name))
            .map(|parameter| parameter.name.to_owned());
        self.set_names().into_iter().chain(defaults).filter_map(|name| {
            let raw = self.raw(&name)?;
            Some((name, raw))
        })
    }

    /// Settings that nothing reads and no value refers to.
    pub(super) fn unused(&self) -> Vec<UnknownName> {
        let mut named: BTreeSet<String> = self.restriction_classes();
        let mut tables: BTreeSet<String> = BTreeSet::new();
        for (_, raw) in self.values() {
            named.extend(references(&raw).map(|name| String::from_utf8_lossy(name).into_owned()));
            tables.extend(tables_set_in_main_cf(&raw));
        }
        self.set_names()
            .into_iter()
            .filter(|name| find(name).is_none() && !is_read_by_other_programs(name) && !named.contains(name))
            .filter(|name| !is_of_a_table(name, &tables))
            .filter(|name| !READ_ONLY.contains(&name.as_str()))
            .map(|name| self.unknown(&name, &name))
            .collect()
    }

    /// The names that smtpd_restriction_classes makes parameters of.
    fn restriction_classes(&self) -> BTreeSet<String> {
        let classes = self.expanded_text("smtpd_restriction_classes");
        crate::text::split_list(&classes).into_iter().map(str::to_owned).collect()
    }

    /// Names that settings refer to although nothing defines them.
    pub(super) fn undefined(&self) -> Vec<UnknownName> {
        let mut undefined: Vec<UnknownName> = Vec::new();
        for name in self.set_names().into_iter().filter(|name| !is_template(name)) {
            for reference in self.raw(&name).iter().flat_map(|raw| references(raw)) {
                let reference = String::from_utf8_lossy(reference);
                let known =
                    self.find(reference.as_bytes()).is_some() || is_read_by_other_programs(&reference);
                if !known && !undefined.iter().any(|unknown| unknown.name == reference) {
                    undefined.push(self.unknown(&name, &reference));
                }
            }
        }
        undefined
    }
}

/// The names of tables whose settings stand in main.cf: `accounts` in `ldap:accounts`, for `accounts_server_host` and the
/// like. A name that is a path has a file of its own.
pub(super) fn tables_set_in_main_cf(raw: &[u8]) -> Vec<String> {
    const TYPES: [&str; 6] = ["ldap", "mysql", "pgsql", "sqlite", "memcache", "mongodb"];
    let text = String::from_utf8_lossy(raw);
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | '='));
    let named = words.filter_map(|word| {
        let (rest, name) = word.rsplit_once(':')?;
        let table_type = rest.rsplit(':').next()?;
        (TYPES.contains(&table_type) && !name.is_empty() && !name.starts_with(['/', '.']))
            .then(|| name.to_owned())
    });
    named.collect()
}

/// Whether the parameter is one of these tables'.
pub(super) fn is_of_a_table(name: &str, tables: &BTreeSet<String>) -> bool {
    tables.iter().any(|table| name.strip_prefix(table.as_str()).is_some_and(|rest| rest.starts_with('_')))
}
