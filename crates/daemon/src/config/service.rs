//! The services: lines of master.cf whose command is `qmqpd`, or qmqpd_listen; and the configuration of the one that a
//! service process runs.

use std::path::Path;
use std::sync::Arc;

use nix::unistd::Uid;
use postfix::child::Arguments;
use postfix::main_cf::{MainCf, Override};
use postfix::master_cf::{Defaults, MasterCf, Service as Line, Transport};
use postfix::notice::Notice;
use postfix::settings::{ConfigError, Endpoint, LegacyDefaults, Loaded, Settings};

use super::addresses::{Interfaces, Listen};
use super::files::read_at_rest;
use super::mode::{ConfigSource, log_config};
use super::program::{Program, Programs};
use super::unknown_names::{is_own, master_cf_text, mistake};
use super::{
    Facts, account_errors, drop_in, open_error, parse_overrides, place, read_main_cf, sound_overrides,
};
use crate::jail::{JailPlan, Owner};
use crate::log::{LogConfig, LogDestination, Mode};

/// One service that `qmqpd serve` runs.
#[derive(Debug, Clone)]
pub struct Service {
    /// The program that serves it.
    pub kind: &'static dyn Program,
    /// The first field of its line in master.cf; the name of its program if qmqpd_listen made it.
    pub name: String,
    /// The command word, and `argv[0]` of its processes.
    pub program: String,
    /// Where it listens; at least one address, or none where Postfix's master(8) does that.
    pub addresses: Vec<Listen>,
    /// What asks for it: file and line, or the parameter.
    pub origin: String,
    /// Processes at the same time; 0 is no limit.
    pub process_limit: u32,
    /// Whether its processes change from root to mail_owner.
    pub unprivileged: bool,
    /// Whether they change their root directory to the queue.
    pub chroot: bool,
    /// The arguments behind those that the master makes up itself.
    pub arguments: Vec<String>,
    /// The parameters as this service sees them, its `-o` included.
    pub settings: Arc<Settings>,
}

impl Service {
    /// The `-o` of its arguments.
    pub(super) fn overrides(&self) -> impl Iterator<Item = Override> {
        let words = std::iter::once(self.kind.name()).chain(self.arguments.iter().map(String::as_str));
        let parsed = Arguments::parse(&words.collect::<Vec<_>>())
            .map_or_else(|_| Vec::new(), |parsed| parsed.overrides);
        parsed.into_iter().filter_map(|text| Override::parse(&text, "").ok())
    }
}

/// All that the services are read from, but for master.cf.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    pub(super) source: &'r ConfigSource,
    pub(super) facts: &'r Facts,
    pub(super) main_cf: &'r MainCf,
    /// main.cf with `overrides`.
    pub(super) loaded: &'r Loaded,
    /// Those of the command line; they are passed on to the services and win there too.
    pub(super) overrides: &'r [Override],
    /// Whose services are looked for.
    pub(super) programs: Programs,
}

/// What [`find`] found.
#[derive(Debug, Default)]
pub(super) struct FoundServices {
    pub(super) services: Vec<Service>,
    pub(super) notices: Vec<Notice>,
    /// What is wrong with them.
    pub(super) errors: Vec<ConfigError>,
    /// The services that any program may contact, where Postfix's master(8) runs them.
    pub(super) public_services: Option<Vec<String>>,
}

/// The services of these programs that the configuration asks for: qmqpd_listen if it is set, else the lines of master.cf
/// with their commands, else the default of qmqpd_listen.
pub(super) fn find(reading: &Reading<'_>) -> FoundServices {
    let Reading { source, loaded, programs, .. } = *reading;
    let mut found = FoundServices::default();
    let file = read_master_cf(source, loaded).unwrap_or_else(|unreadable| {
        found.errors.push(*unreadable);
        None
    });
    if is_under_postfix(source) {
        drop_in::find(reading, file, &mut found);
        return found;
    }
    let is_from_file = file.as_ref().is_some_and(|file| servers_of_master_cf(file, reading, &mut found));
    if !is_from_file && let Some(program) = programs.first() {
        from_listen(reading, *program, &mut found);
    }
    if loaded.settings.qmqpd_deliver {
        deliverers(file.as_ref(), reading, &mut found);
    }
    found
}

/// The lines of master.cf for servers, unless qmqpd_listen takes their place. Are there any?
fn servers_of_master_cf(file: &MasterCf, reading: &Reading<'_>, found: &mut FoundServices) -> bool {
    let is_server = |program: &dyn Program| !program.delivers();
    let is_line = |line: &&Line| program_of(line, reading.programs).is_some_and(is_server);
    let has_lines = file.services().iter().any(|line| is_line(&line));
    if reading.loaded.is_set("qmqpd_listen") {
        if has_lines {
            let path = file.path();
            let text = format!("qmqpd_listen is set: the qmqpd lines of {path} are ignored");
            found.notices.push(Notice::info(text));
        }
        return false;
    }
    found.errors.extend(file.errors().iter().cloned());
    found.notices.extend(file.notices().iter().cloned());
    if has_lines {
        from_master_cf(file, reading, is_server, found);
    }
    has_lines
}

/// The services of delivery: the lines of master.cf, if one is for a queue manager, else those that the programs name.
fn deliverers(file: Option<&MasterCf>, reading: &Reading<'_>, found: &mut FoundServices) {
    let delivers = |program: &dyn Program| program.delivers();
    let queue_service = &reading.loaded.settings.queue_service_name;
    if let Some(file) = file
        && file.services().iter().any(|line| line.name == *queue_service && line.program() == "qmgr")
    {
        return from_master_cf(file, reading, delivers, found);
    }
    for kind in reading.programs.iter().copied().filter(|program| program.delivers()) {
        for (name, is_private) in kind.built_in_services() {
            found.services.push(built_in(kind, name, *is_private, reading));
        }
    }
}

/// A service of delivery that stands in no file.
fn built_in(kind: &'static dyn Program, name: &str, is_private: bool, reading: &Reading<'_>) -> Service {
    let Reading { source, loaded, overrides, .. } = *reading;
    let root = Uid::effective().is_root();
    let directory = if is_private { "private" } else { "public" };
    let path = Path::new(&loaded.settings.queue_directory).join(directory).join(name);
    Service {
        kind,
        name: name.to_owned(),
        program: kind.name().to_owned(),
        addresses: vec![Listen::Unix(path)],
        origin: "qmqpd_deliver".to_owned(),
        process_limit: 1,
        unprivileged: root && !kind.chooses_its_user(),
        chroot: root && source.directory().is_some() && !kind.chooses_its_user(),
        arguments: as_arguments(overrides),
        settings: Arc::new(loaded.settings.clone()),
    }
}

/// The program of a line, if it is one of these.
fn program_of(line: &Line, programs: Programs) -> Option<&'static dyn Program> {
    programs.iter().copied().find(|program| program.name() == line.program())
}

/// The `-o` of the command line, as a service gets them.
pub(super) fn as_arguments(overrides: &[Override]) -> Vec<String> {
    overrides.iter().flat_map(|each| ["-o".to_owned(), format!("{}={}", each.name, each.value)]).collect()
}

/// master.cf of the source; `None` if there is none.
fn read_master_cf(source: &ConfigSource, loaded: &Loaded) -> Result<Option<MasterCf>, Box<ConfigError>> {
    let Some(directory) = source.directory() else { return Ok(None) };
    let path = directory.join("master.cf");
    let shown = path.display().to_string();
    let defaults = Defaults {
        process_limit: process_limit(&loaded.settings),
        chroot: loaded.legacy.chroot,
        disabled: &loaded.settings.master_service_disable,
    };
    match read_at_rest(&path) {
        Ok(content) => Ok(Some(MasterCf::parse(&shown, &content, &defaults))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let remedy = "make it readable, or set qmqpd_listen and remove it";
            Err(Box::new(open_error(&shown, &error, remedy)))
        }
    }
}

/// Where a line of master.cf listens, as Postfix has it: a socket in the file system lies in the queue directory.
fn destinations(
    line: &Line,
    kind: &dyn Program,
    interfaces: &Interfaces<'_>,
    queue: &Path,
    missing: &mut Vec<String>,
) -> Result<Vec<Listen>, (String, &'static str)> {
    let path = || queue.join(if line.private { "private" } else { "public" }).join(&line.name);
    match &line.transport {
        Transport::Inet(endpoint) => interfaces
            .listen_addresses(endpoint, missing)
            .map(|addresses| addresses.into_iter().map(Listen::Inet).collect())
            .map_err(|what| (what, "write a port, or address:port, into the first column")),
        Transport::Unix | Transport::Pass if line.name.contains('/') => Err((
            "the name of a socket in the queue directory has a slash in it".to_owned(),
            "write a plain name",
        )),
        Transport::Unix => Ok(vec![Listen::Unix(path())]),
        Transport::Pass => Ok(vec![Listen::Pass(path())]),
        Transport::UnixDatagram | Transport::Fifo => Err((
            format!("{} does not serve a {}", kind.name(), line.transport.as_str()),
            "write inet, unix or pass into the second column",
        )),
    }
}

/// The services of master.cf, each with the parameters that its own `-o` leave it.
fn from_master_cf(
    file: &MasterCf,
    reading: &Reading<'_>,
    is_wanted: impl Fn(&dyn Program) -> bool,
    found: &mut FoundServices,
) {
    let root = Uid::effective().is_root();
    let settings = &reading.loaded.settings;
    let interfaces = Interfaces::new(&settings.inet_interfaces, &settings.inet_protocols);
    let FoundServices { services, errors, notices, .. } = found;
    for line in file.services() {
        let Some(kind) = program_of(line, reading.programs).filter(|kind| is_wanted(*kind)) else { continue };
        let wrong = |what: String, remedy: &str| wrong_line(file, line, what, remedy);
        errors.extend(bad_columns(file, line, kind, root));
        let mut missing = Vec::new();
        let queue = Path::new(&settings.queue_directory);
        let addresses =
            destinations(line, kind, &interfaces, queue, &mut missing).unwrap_or_else(|(what, remedy)| {
                errors.push(wrong(what, remedy));
                Vec::new()
            });
        let place = format!("{}, line {}", file.path(), line.line);
        notices.extend(missing.iter().map(|text| Notice::warning(format!("{place}: {text}"))));
        for address in &addresses {
            if let Some(other) = services.iter().find(|other| other.addresses.contains(address)) {
                let what = format!("{address} is already used by {}", other.origin);
                errors.push(wrong(what, "give each service a separate address or port"));
            }
        }
        let arguments = with_overrides(kind, &line.arguments, reading.overrides);
        let origin = format!("{}, line {}", file.path(), line.line);
        let own = own_settings(reading, kind, &line.name, &arguments, &origin, errors);
        let own = own.map_or_else(|| settings.clone(), |own| own.settings);
        services.push(Service {
            kind,
            name: line.name.clone(),
            program: line.command.clone(),
            addresses,
            origin,
            process_limit: line.process_limit,
            unprivileged: root && !kind.chooses_its_user(),
            chroot: root && line.chroot && !kind.chooses_its_user(),
            arguments,
            settings: Arc::new(own),
        });
    }
}

/// The arguments of a line, with the `-o` of the command line behind its own, and before what is not an option.
fn with_overrides(kind: &dyn Program, arguments: &[String], overrides: &[Override]) -> Vec<String> {
    let words = std::iter::once(kind.name()).chain(arguments.iter().map(String::as_str));
    let parsed = Arguments::parse(&words.collect::<Vec<_>>());
    let behind = parsed.map_or(0, |parsed| parsed.attributes.len());
    let (options, attributes) =
        arguments.split_at_checked(arguments.len().saturating_sub(behind)).unwrap_or((arguments, &[]));
    [options, &as_arguments(overrides), attributes].concat()
}

/// What is wrong about a line of master.cf.
pub(super) fn wrong_line(file: &MasterCf, line: &Line, what: String, remedy: &str) -> ConfigError {
    ConfigError::new(what, remedy).in_file(file.path(), Some(line.line)).about("", line.name.clone())
}

/// Columns with values that make no sense for this program.
pub(super) fn bad_columns(file: &MasterCf, line: &Line, kind: &dyn Program, root: bool) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if root && !line.unprivileged && !kind.chooses_its_user() {
        let what = format!("the Postfix {} must run with $mail_owner privileges", kind.description());
        errors.push(wrong_line(file, line, what, "write y or - into the unprivileged column, the fourth"));
    }
    // The queue manager has a clock of its own.
    if line.wakeup_seconds > 0 && !kind.delivers() {
        let what = format!("a {} has nothing to do when it is woken", kind.description());
        errors.push(wrong_line(file, line, what, "write - into the wakeup column, the sixth"));
    }
    errors
}

/// The parameters as a service with these arguments sees them, with defaults for those that are broken.
pub(super) fn own_settings(
    reading: &Reading<'_>,
    kind: &dyn Program,
    service_name: &str,
    arguments: &[String],
    origin: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<Loaded> {
    let command_line: Vec<&str> =
        std::iter::once(kind.name()).chain(arguments.iter().map(String::as_str)).collect();
    let parsed = match Arguments::parse(&command_line) {
        Ok(parsed) => parsed,
        Err(error) => {
            errors.push(
                ConfigError::new(
                    error.to_string(),
                    "write only options of Postfix's daemons after the command, such as -v or -o name=value",
                )
                .in_file(origin, None)
                .about("", arguments.join(" ")),
            );
            return None;
        }
    };
    let mut overrides = sound_overrides(&parsed.overrides, origin, errors);
    // What the command line passes on stands behind those of the line itself.
    for (own, theirs) in overrides.iter_mut().rev().zip(reading.overrides.iter().rev()) {
        own.origin.clone_from(&theirs.origin);
    }
    let survey = reading.facts.of_service(kind.name(), service_name).survey(reading.main_cf, &overrides);
    errors.extend(survey.errors);
    let loaded = survey.loaded?;
    let others = arguments.join("\n");
    // Those of main.cf are known already.
    let mistakes = loaded.unused_besides(&others).filter(|unknown| unknown.line.is_none() && is_own(unknown));
    errors.extend(mistakes.map(mistake));
    Some(loaded)
}

/// The service that qmqpd_listen describes.
fn from_listen(reading: &Reading<'_>, kind: &'static dyn Program, found: &mut FoundServices) {
    const PARAMETER: &str = "qmqpd_listen";
    let Reading { source, main_cf, loaded, overrides, .. } = *reading;
    let settings = &loaded.settings;
    let (file, line) = place(source, main_cf, overrides, PARAMETER);
    let mut wrong = |what: String| {
        let error = ConfigError::new(
            format!("parameter {PARAMETER}: {what}"),
            "write a list of address:port, such as 127.0.0.1:628, [::1]:628",
        )
        .in_file(file.clone(), line)
        .about(PARAMETER, settings.qmqpd_listen.clone());
        found.errors.push(error);
    };
    let interfaces = Interfaces::new(&settings.inet_interfaces, &settings.inet_protocols);
    let mut addresses = Vec::new();
    let mut is_sound = true;
    let mut missing = Vec::new();
    for item in postfix::text::split_list(&settings.qmqpd_listen) {
        let endpoint = Endpoint::parse(item).map_err(|bad| format!("{bad} in \"{item}\""));
        let listed = endpoint.and_then(|endpoint| {
            interfaces.listen_addresses(&endpoint, &mut missing).map_err(|what| format!("\"{item}\": {what}"))
        });
        match listed {
            Ok(listed) => {
                let new = listed.into_iter().map(Listen::Inet).filter(|address| !addresses.contains(address));
                addresses.extend(new.collect::<Vec<_>>());
            }
            Err(what) => {
                is_sound = false;
                wrong(what);
            }
        }
    }
    let missing = missing.into_iter().map(|text| Notice::warning(format!("{PARAMETER}: {text}")));
    if addresses.is_empty() && is_sound {
        wrong("no address to listen on".to_owned());
    }
    found.notices.extend(missing);
    let origin = match line {
        Some(line) => format!("{PARAMETER} in {file}, line {line}"),
        None if loaded.is_set(PARAMETER) => file,
        None => PARAMETER.to_owned(),
    };
    let root = Uid::effective().is_root();
    found.services.push(Service {
        kind,
        name: kind.name().to_owned(),
        program: kind.name().to_owned(),
        addresses,
        origin,
        process_limit: process_limit(settings),
        unprivileged: root,
        chroot: root && source.directory().is_some(),
        arguments: as_arguments(overrides),
        settings: Arc::new(settings.clone()),
    });
}

/// default_process_limit.
fn process_limit(settings: &Settings) -> u32 {
    u32::try_from(settings.default_process_limit).unwrap_or(u32::MAX)
}

/// What one service process works from.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Where it came from.
    pub source: ConfigSource,
    /// The parameters, `-o` included.
    pub settings: Arc<Settings>,
    /// Where to log; open it before the jail.
    pub log: LogConfig,
    /// What there is to say in the log.
    pub notices: Vec<Notice>,
    /// Where to confine the process, and as whom.
    pub jail: JailPlan,
    /// Old defaults in force: each use of one is worth a line.
    pub legacy: LegacyDefaults,
    /// How many processes of this service may take clients at the same time; `None`: any number, or it is not known.
    pub processes_max: Option<usize>,
}

/// Reads the configuration of a service process: the environment says where, the arguments what else.
///
/// # Errors
/// All that is wrong with it. The process cannot work, but should tell its clients so.
pub fn for_service(arguments: &Arguments) -> Result<ServiceConfig, Vec<ConfigError>> {
    let source = ConfigSource::from_environment();
    let overrides = parse_overrides(&arguments.overrides, "command line")?;
    let main_cf = read_main_cf(&source)?;
    let loaded =
        Facts::new(&source, &arguments.process_name, &arguments.service_name).load(&main_cf, &overrides)?;
    let errors = account_errors(&source, &main_cf, &overrides, &loaded, arguments.unprivileged);
    let owner = match owner(&source, &loaded.settings, arguments.unprivileged) {
        Ok(owner) if errors.is_empty() => owner,
        // mail_owner is among the account checks already.
        Err(error) if errors.is_empty() => return Err(vec![*error]),
        _ => return Err(errors),
    };
    let mut log = log_config(source.mode(), &loaded.settings, &arguments.process_name);
    if arguments.log_to_stderr && !log.destinations.contains(&LogDestination::Stderr) {
        log.destinations.push(LogDestination::Stderr);
    }
    let jail = JailPlan {
        queue_directory: loaded.settings.queue_directory.clone().into(),
        chroot: arguments.chroot,
        owner,
    };
    let processes_max = processes_max(&source, &loaded, arguments);
    let mut notices = loaded.notices.clone();
    if is_under_postfix(&source) {
        // `qmqpd serve` has refused such a name before it comes here; where Postfix's master starts us, mail must flow.
        let others = master_cf_text(&source);
        let mistakes = loaded.unused_besides(&others).filter(|unknown| is_own(unknown)).map(mistake);
        notices.extend(mistakes.map(|error| Notice::warning(error.to_string())));
    }
    Ok(ServiceConfig {
        source,
        settings: Arc::new(loaded.settings),
        log,
        notices,
        jail,
        legacy: loaded.legacy,
        processes_max,
    })
}

/// What the seventh column of master.cf says, under Postfix's master(8). Ours has one process that takes clients.
fn processes_max(source: &ConfigSource, loaded: &Loaded, arguments: &Arguments) -> Option<usize> {
    if !is_under_postfix(source) || arguments.is_only_process {
        return Some(1);
    }
    let file = read_master_cf(source, loaded).ok()??;
    let is_it =
        |line: &&Line| line.name == arguments.service_name && line.transport.as_str() == arguments.transport;
    let limit = file.services().iter().find(is_it)?.process_limit;
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

fn owner(
    source: &ConfigSource,
    settings: &Settings,
    unprivileged: bool,
) -> Result<Option<Owner>, Box<ConfigError>> {
    if !unprivileged {
        return Ok(None);
    }
    Owner::find("mail_owner", &settings.mail_owner).map(Some).map_err(|error| {
        Box::new(
            ConfigError::new(error.to_string(), "")
                .in_file(source.main_cf_path(), None)
                .about("mail_owner", settings.mail_owner.clone()),
        )
    })
}

/// Whether Postfix's master(8) is above a process with this source.
#[must_use]
pub fn is_under_postfix(source: &ConfigSource) -> bool {
    source.mode() == Mode::UnderPostfix
}
