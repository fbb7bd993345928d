//! The configuration, typed once: main.cf, `-o` overrides and defaults become one [`Settings`].
//!
//! Expansion sees every parameter's default from the start, in any order. In Postfix a program's default is visible
//! only after that program has loaded it, so that `$qmqpd_error_delay` in `qmqpd_timeout` is empty there while
//! `postconf -x` shows its value; here it is what `postconf -x` shows. Parameters that other programs own are empty
//! unless main.cf sets them, as in Postfix.
//!
//! [`load()`] finds all errors of a configuration in one go. Each has Postfix's words, and a remedy of our own.

mod accounts;
mod host;
mod loader;
mod namespace;
mod origin;
mod sanity;

use std::collections::BTreeSet;

pub use crate::config_error::ConfigError;
pub use crate::endpoint::{BadEndpoint, Endpoint};
pub use crate::parameter::table::Settings;
pub use crate::parameter::words;
pub use accounts::{AccountFacts, Group, User, check_accounts};
pub use host::HostFacts;
pub use namespace::{Namespace, UnknownName};

use crate::compatibility::{Level, Release};
use crate::main_cf::{MainCf, Override};
use crate::milter_protocol::{self, BadService, Macro, Service};
use crate::notice::Notice;

/// A configuration that cannot be used: everything that is wrong with it, in the order in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// At least one.
    pub errors: Vec<ConfigError>,
    /// What Postfix logs besides.
    pub notices: Vec<Notice>,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// Defaults that keep the value of an old release because `compatibility_level` is low and they are not set. Postfix
/// logs a line when such a default matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegacyDefaults {
    /// `append_dot_mydomain = yes`.
    pub append_dot_mydomain: bool,
    /// `smtputf8_enable = no`.
    pub smtputf8_enable: bool,
    /// `mynetworks_style = subnet`, with `mynetworks` not set either.
    pub mynetworks_style: bool,
    /// A `-` in the chroot column of master.cf means `y`.
    pub chroot: bool,
}

/// A configuration that can be used, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed values.
    pub settings: Settings,
    /// What Postfix logs about this configuration.
    pub notices: Vec<Notice>,
    /// Settings of main.cf or `-o` that nothing reads and no value refers to. Postfix's daemons say nothing about them,
    /// postconf(1) calls them `unused parameter`.
    pub unused: Vec<UnknownName>,
    /// Names that values refer to although nothing defines them; they expand to nothing.
    pub undefined: Vec<UnknownName>,
    /// The old defaults in force.
    pub legacy: LegacyDefaults,
    set: BTreeSet<String>,
}

impl Loaded {
    /// Whether main.cf or an override sets the parameter, even to its default.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains(name)
    }

    /// The unused settings that `text` does not refer to either, where `text` is something else that is expanded:
    /// the arguments in master.cf.
    pub fn unused_besides<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a UnknownName> {
        let named: BTreeSet<&[u8]> = crate::expand::references(text.as_bytes()).collect();
        let tables = namespace::tables_set_in_main_cf(text.as_bytes()).into_iter().collect();
        self.unused.iter().filter(move |unknown| {
            !named.contains(unknown.name.as_bytes()) && !namespace::is_of_a_table(&unknown.name, &tables)
        })
    }
}

/// A configuration with whatever is wrong in it, as far as it can be understood.
#[derive(Debug, Clone)]
pub struct Survey {
    /// All that is wrong; empty if it can be used.
    pub errors: Vec<ConfigError>,
    /// The values, for checks that go on: a default stands in for each that an error names. `None` if not even the
    /// defaults make sense on this host.
    pub loaded: Option<Loaded>,
    /// What Postfix logs about this configuration.
    pub notices: Vec<Notice>,
}

/// Types and checks a configuration.
///
/// # Errors
/// All that is wrong in main.cf, in the overrides, and between the values. What needs the system's accounts is left to
/// [`check_accounts`].
pub fn load(main_cf: &MainCf, overrides: &[Override], host: &HostFacts<'_>) -> Result<Loaded, LoadError> {
    let Survey { errors, loaded, notices } = survey(main_cf, overrides, host);
    match loaded {
        Some(loaded) if errors.is_empty() => Ok(loaded),
        _ => Err(LoadError { errors, notices }),
    }
}

/// As [`load`](load()), but goes on behind the errors: what is wrong with the rest of a configuration should be known
/// in one go.
#[must_use]
pub fn survey(main_cf: &MainCf, overrides: &[Override], host: &HostFacts<'_>) -> Survey {
    let namespace = Namespace::new(main_cf, overrides, host);
    let mut attempt = Attempt::new(main_cf, &namespace);
    let mut errors = attempt.errors.clone();
    let mut broken = BTreeSet::new();
    let mut has_bad_lines = !main_cf.errors().is_empty();
    // Each round removes at least one name that is set, so the loop ends.
    while !attempt.errors.is_empty() {
        let names = attempt.errors.iter().map(|error| error.name.clone());
        let names: Vec<_> = names.filter(|name| namespace.is_set(name) && !broken.contains(name)).collect();
        if names.is_empty() && !std::mem::take(&mut has_bad_lines) {
            break;
        }
        broken.extend(names);
        let main_cf = main_cf.without(&broken);
        let overrides: Vec<_> =
            overrides.iter().filter(|given| !broken.contains(&given.name)).cloned().collect();
        let rest = Namespace::new(&main_cf, &overrides, host);
        attempt = Attempt::new(&main_cf, &rest);
        // What is wrong with a default only because another one stands beside it is nobody's mistake.
        let more: Vec<_> = attempt
            .errors
            .iter()
            .filter(|error| rest.is_set(&error.name) && !errors.contains(error))
            .cloned()
            .collect();
        errors.extend(more);
    }
    let Attempt { settings, notices, .. } = attempt;
    let loaded = settings.map(|settings| Loaded {
        legacy: legacy_defaults(&settings, &namespace),
        unused: namespace.unused(),
        undefined: namespace.undefined(),
        set: namespace.set_names(),
        settings,
        notices: notices.clone(),
    });
    Survey { errors, loaded, notices }
}

impl Settings {
    /// The release of Postfix that is followed where releases differ without a setting.
    #[must_use]
    pub fn release(&self) -> Release {
        Release::of(&self.mail_version)
    }

    /// The filters that mail from QMQP clients is shown to, and the values of macros that the server does not know.
    ///
    /// # Errors
    /// What is wrong with the list, or with a parameter that a filter takes its settings from.
    pub fn milters(&self) -> Result<(Vec<Service>, Vec<Macro>), BadService> {
        if self.non_smtpd_milters.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let defaults = milter_protocol::Defaults {
            connect_timeout: self.milter_connect_timeout,
            command_timeout: self.milter_command_timeout,
            content_timeout: self.milter_content_timeout,
            protocol: &self.milter_protocol,
            default_action: &self.milter_default_action,
        };
        let services = milter_protocol::parse_services(&self.non_smtpd_milters, defaults)?;
        Ok((services, milter_protocol::parse_macro_defaults(&self.milter_macro_defaults)?))
    }
}

/// One go at typing all values.
struct Attempt {
    settings: Option<Settings>,
    errors: Vec<ConfigError>,
    notices: Vec<Notice>,
}

impl Attempt {
    fn new(main_cf: &MainCf, namespace: &Namespace<'_>) -> Self {
        let mut notices = main_cf.notices().to_vec();
        let mut loader = loader::Loader::new(namespace);
        let mut settings = Settings::from_loader(&mut loader);
        let mut errors = main_cf.errors().to_vec();
        errors.append(&mut loader.errors);
        if errors.is_empty() {
            errors.append(&mut loader.consequences);
        }
        if let Some(settings) = &mut settings {
            if let Err(error) = origin::resolve(settings, namespace) {
                errors.push(*error);
            }
            sanity::check(settings, namespace, &mut errors, &mut notices);
        }
        Self { settings, errors, notices }
    }
}

fn legacy_defaults(settings: &Settings, namespace: &Namespace<'_>) -> LegacyDefaults {
    let level = settings.compatibility_level;
    let first = level < Level::new(1, 0);
    LegacyDefaults {
        append_dot_mydomain: first && !namespace.is_set("append_dot_mydomain"),
        smtputf8_enable: first && !namespace.is_set("smtputf8_enable"),
        mynetworks_style: level < Level::new(2, 0)
            && !namespace.is_set("mynetworks")
            && !namespace.is_set("mynetworks_style"),
        chroot: first,
    }
}

#[cfg(test)]
mod tests;
