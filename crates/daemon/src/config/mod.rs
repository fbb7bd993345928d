//! The configuration as it stands on this machine: main.cf, master.cf, `-o`, and what the host knows about itself.
//!
//! [`load`] is for the master and for `qmqpd check`; [`for_service`] is for a service process.

mod addresses;
mod drop_in;
mod files;
mod findings;
mod mode;
mod program;
mod queue;
mod service;
mod survey;
mod unknown_names;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Uid;
use postfix::main_cf::{MainCf, Override};
use postfix::notice::Notice;
use postfix::settings::{
    AccountFacts, ConfigError, Group, HostFacts, Loaded, Settings, Survey as SettingsSurvey, User,
    check_accounts, load as load_settings, survey as survey_settings,
};

pub use addresses::Listen;
pub use findings::Findings;
pub(crate) use findings::list_warnings;
pub use mode::{ConfigSource, STANDALONE_VARIABLE, UNCONFIGURED_CLIENTS, unconfigured_overrides};
pub use program::{Finding, Program, Programs};
pub(crate) use queue::{journal_note, writer};
pub use service::{Service, ServiceConfig, for_service, is_under_postfix};
pub use survey::{Survey, load, survey};

use crate::log::{LogConfig, Mode};

/// The word of `-t` for a process that settles the journals of others; master(8) has none such.
pub const SETTLEMENT_TRANSPORT: &str = "settle";

/// All that `qmqpd serve` works from. One value is one consistent reading of the files.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it came from.
    pub source: ConfigSource,
    /// The parameters as main.cf and the command line give them.
    pub settings: Arc<Settings>,
    /// What to run; at least one.
    pub services: Vec<Service>,
    /// Where the master itself logs.
    pub log: LogConfig,
    /// What there is to say about it in the log.
    pub notices: Vec<Notice>,
    /// What `qmqpd check` says besides: settings that nothing reads and the like.
    pub remarks: Vec<String>,
    /// The public `unix` services of master.cf, where Postfix's master(8) runs them.
    public_services: Option<Vec<String>>,
    main_cf: Arc<MainCf>,
    /// What stands above main.cf and master.cf.
    given: Vec<Override>,
}

impl Config {
    /// queue_directory.
    #[must_use]
    pub fn queue_directory(&self) -> &Path {
        Path::new(&self.settings.queue_directory)
    }

    /// Where the value of a parameter comes from, as `service` sees it: file and line, or the command line.
    #[must_use]
    pub fn place_of(&self, parameter: &str, service: &Service) -> String {
        let own = service.overrides().find(|given| given.name == parameter);
        match (own, self.main_cf.get(parameter)) {
            (Some(given), _) => match self.given.iter().find(|each| each.name == given.name) {
                Some(on_command_line) => on_command_line.origin.clone(),
                None => service.origin.clone(),
            },
            (None, Some(entry)) => format!("{}, line {}", self.main_cf.path(), entry.line),
            (None, None) => "default".to_owned(),
        }
    }

    /// Whether Postfix's master(8) starts our processes and has no public `unix` service of this name for them to ask.
    #[must_use]
    pub fn lacks_service(&self, name: &str) -> bool {
        self.public_services.as_ref().is_some_and(|public| !public.iter().any(|other| other == name))
    }

    /// The variables that every service process gets besides those of import_environment.
    #[must_use]
    pub fn service_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MAIL_CONFIG", self.source.mail_config()),
            ("MAIL_LOGTAG", self.settings.syslog_name.clone()),
            (STANDALONE_VARIABLE, "yes".to_owned()),
        ]
    }
}

/// queue_directory alone, for `reload`, `stop` and `status`: they must work although something else in the
/// configuration is broken by now.
///
/// # Errors
/// main.cf cannot be read, or queue_directory cannot be told from it.
pub fn queue_directory(
    source: &ConfigSource,
    overrides: &[String],
) -> Result<(PathBuf, String), Vec<ConfigError>> {
    let mut all = unconfigured_overrides(source).map_err(|error| vec![*error])?;
    all.extend(parse_overrides(overrides, "command line")?);
    let main_cf = read_main_cf(source)?;
    let facts = Facts::new(source, "master", "master");
    let resolve = |name: &str| host::resolve(name);
    let host = facts.host(&resolve);
    let namespace = postfix::settings::Namespace::new(&main_cf, &all, &host);
    let value = |name: &'static str| {
        let expanded = namespace.expanded(name).ok().flatten();
        expanded.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.is_empty()).ok_or_else(
            || {
                vec![
                    ConfigError::new(
                        format!("parameter {name}: the value cannot be expanded"),
                        "run `qmqpd check` for the reason",
                    )
                    .in_file(source.main_cf_path(), None)
                    .about(name, ""),
                ]
            },
        )
    };
    Ok((PathBuf::from(value("queue_directory")?), value("process_id_directory")?))
}

/// Where the value of a parameter is set: the `-o`, or main.cf and the line in it.
fn place(
    source: &ConfigSource,
    main_cf: &MainCf,
    overrides: &[Override],
    name: &str,
) -> (String, Option<usize>) {
    match overrides.iter().rfind(|given| given.name == name) {
        Some(given) => (given.origin.clone(), None),
        None => (source.main_cf_path(), main_cf.get(name).map(|entry| entry.line)),
    }
}

/// The arguments of `-o` on the command line of an operator's command: errors name the one that is to blame.
fn given_overrides(texts: &[String], errors: &mut Vec<ConfigError>) -> Vec<Override> {
    let mut given = sound_overrides(texts, "command line", errors);
    given.iter_mut().for_each(|each| each.origin = format!("command line, -o {}", each.name));
    given
}

fn parse_overrides(texts: &[String], origin: &str) -> Result<Vec<Override>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let parsed = sound_overrides(texts, origin, &mut errors);
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

/// The arguments of `-o` that can be understood.
fn sound_overrides(texts: &[String], origin: &str, errors: &mut Vec<ConfigError>) -> Vec<Override> {
    let parsed = texts.iter().filter_map(|text| match Override::parse(text, origin) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            errors.push(*error);
            None
        }
    });
    parsed.collect()
}

/// main.cf of the source; nothing, if there is none.
fn read_main_cf(source: &ConfigSource) -> Result<MainCf, Vec<ConfigError>> {
    let Some(directory) = source.directory() else { return Ok(MainCf::parse("", b"")) };
    let path = directory.join("main.cf");
    let shown = path.display().to_string();
    match files::read_at_rest(&path) {
        Ok(content) => Ok(MainCf::parse(&shown, &content)),
        Err(error) => Err(vec![open_error(
            &shown,
            &error,
            "name the directory of main.cf with -c, or create the file (it may be empty)",
        )]),
    }
}

fn open_error(path: &str, error: &std::io::Error, remedy: &str) -> ConfigError {
    ConfigError::new(format!("cannot open {path}: {error}"), remedy).in_file(path, None)
}

/// What the loader wants to know about host and process.
#[derive(Debug, Clone)]
struct Facts {
    host_name: String,
    interfaces: Vec<postfix::own_networks::InterfaceAddress>,
    config_directory: String,
    process_name: String,
    service_name: String,
    is_under_postfix: bool,
}

impl Facts {
    fn new(source: &ConfigSource, process_name: &str, service_name: &str) -> Self {
        Self {
            host_name: host::name(),
            interfaces: host::interfaces(),
            config_directory: source.mail_config(),
            process_name: process_name.to_owned(),
            service_name: service_name.to_owned(),
            is_under_postfix: is_under_postfix(source),
        }
    }

    /// The same machine, seen by a process of a service.
    fn of_service(&self, process_name: &str, service_name: &str) -> Self {
        Self { process_name: process_name.to_owned(), service_name: service_name.to_owned(), ..self.clone() }
    }

    fn host<'a>(&self, resolve: &'a dyn Fn(&str) -> Vec<IpAddr>) -> HostFacts<'a> {
        HostFacts {
            host_name: self.host_name.clone(),
            interfaces: self.interfaces.clone(),
            resolve,
            first_line: &files::first_line,
            config_directory: self.config_directory.clone(),
            process_name: self.process_name.clone(),
            process_id: std::process::id(),
            service_name: self.service_name.clone(),
            is_under_postfix: self.is_under_postfix,
        }
    }

    fn survey(&self, main_cf: &MainCf, overrides: &[Override]) -> SettingsSurvey {
        survey_settings(main_cf, overrides, &self.host(&host::resolve))
    }

    fn load(&self, main_cf: &MainCf, overrides: &[Override]) -> Result<Loaded, Vec<ConfigError>> {
        load_settings(main_cf, overrides, &self.host(&host::resolve)).map_err(|error| error.errors)
    }
}

/// The addresses of this host, or those that stand for it: inet_interfaces and proxy_interfaces. A name that cannot be
/// resolved stands for none.
#[must_use]
pub fn own_addresses(settings: &Settings) -> Vec<IpAddr> {
    let interfaces = host::interfaces();
    let own = postfix::own_networks::own_addresses(
        &settings.inet_interfaces,
        &settings.inet_protocols,
        &interfaces,
        &host::resolve,
    );
    let mut addresses: Vec<IpAddr> = own.unwrap_or_default().iter().map(|own| own.address).collect();
    for host in postfix::text::split_plain_list(&settings.proxy_interfaces) {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        addresses.extend(bare.parse().map_or_else(|_| host::resolve(host), |address| vec![address]));
    }
    addresses
}

/// The checks of accounts that Postfix makes at its start. They matter where we switch users: an ordinary user
/// stays who he is. Mode alone we need mail_owner only; the other two belong to programs that we do not run, and
/// are checked if they are set.
fn account_errors(
    source: &ConfigSource,
    main_cf: &MainCf,
    overrides: &[Override],
    loaded: &Loaded,
    switches_user: bool,
) -> Vec<ConfigError> {
    let unconfigured = source.directory().is_none();
    if !Uid::effective().is_root() || !switches_user || unconfigured {
        return Vec::new();
    }
    let everything = source.mode() == Mode::UnderPostfix;
    let errors = check_accounts(&source.main_cf_path(), &loaded.settings, &account_facts(&loaded.settings));
    let matters =
        |error: &ConfigError| everything || error.name == "mail_owner" || loaded.is_set(&error.name);
    let with_place = |mut error: ConfigError| {
        (error.file, error.line) = place(source, main_cf, overrides, &error.name);
        // Postfix names main.cf in any case.
        let main_cf = format!("file {}: ", source.main_cf_path());
        if error.file != source.main_cf_path()
            && let Some(what) = error.what.strip_prefix(&main_cf)
        {
            error.what = what.to_owned();
        }
        error
    };
    errors.into_iter().filter(matters).map(with_place).collect()
}

fn account_facts(settings: &Settings) -> AccountFacts {
    let user = |name: &str| {
        let found = nix::unistd::User::from_name(name).ok().flatten()?;
        let name_of_uid =
            nix::unistd::User::from_uid(found.uid).ok().flatten().map_or_else(String::new, |user| user.name);
        Some(User { uid: found.uid.as_raw(), gid: found.gid.as_raw(), name_of_uid })
    };
    let group = |name: &str| {
        let found = nix::unistd::Group::from_name(name).ok().flatten()?;
        let name_of_gid = nix::unistd::Group::from_gid(found.gid)
            .ok()
            .flatten()
            .map_or_else(String::new, |group| group.name);
        Some(Group { gid: found.gid.as_raw(), name_of_gid })
    };
    AccountFacts {
        mail_owner: user(&settings.mail_owner),
        default_privs: user(&settings.default_privs),
        setgid_group: group(&settings.setgid_group),
    }
}
