//! All that is wrong with a configuration, and what can be had of it in spite of that.

use std::path::Path;
use std::sync::Arc;

use postfix::main_cf::{MainCf, Override};
use postfix::settings::{ConfigError, Loaded, UnknownName};

use super::mode::{ConfigSource, log_config, unconfigured_overrides};
use super::program::{Programs, first_name};
use super::service::{self, FoundServices, Reading};
use super::unknown_names::{is_own, master_cf_text, mistake};
use super::{Config, Facts, account_errors, given_overrides, place, read_main_cf};

/// A configuration with whatever is wrong in it.
#[derive(Debug, Clone)]
pub struct Survey {
    /// All that is wrong: that of main.cf and the command line first, then that of master.cf, each in the order of its
    /// lines. Empty if `config` can be used.
    pub errors: Vec<ConfigError>,
    /// What can be had, for checks that go on: defaults stand in for broken values. `None` if that is nothing.
    pub config: Option<Config>,
}

impl Survey {
    /// Whether the value of this parameter is a default that stands in for a broken one.
    #[must_use]
    pub fn is_broken(&self, parameter: &str) -> bool {
        self.errors.iter().any(|error| error.name == parameter)
    }
}

/// Reads and checks everything about the services of these programs. `overrides` are the arguments of `-o` on the command line of `qmqpd serve`; they win
/// over main.cf and over the `-o` of master.cf.
///
/// # Errors
/// All that is wrong, with file and line.
pub fn load(
    source: &ConfigSource,
    overrides: &[String],
    programs: Programs,
) -> Result<Config, Vec<ConfigError>> {
    match survey(source, overrides, programs) {
        Survey { errors, config: Some(config) } if errors.is_empty() => Ok(config),
        Survey { errors, .. } => Err(errors),
    }
}

/// As [`load`], but goes on behind the errors.
#[must_use]
pub fn survey(source: &ConfigSource, overrides: &[String], programs: Programs) -> Survey {
    let mut errors = Vec::new();
    let mut all = unconfigured_overrides(source).unwrap_or_else(|error| {
        errors.push(*error);
        Vec::new()
    });
    all.extend(given_overrides(overrides, &mut errors));
    let main_cf = match read_main_cf(source) {
        Ok(main_cf) => main_cf,
        Err(unreadable) => {
            errors.extend(unreadable);
            return Survey { errors, config: None };
        }
    };
    let facts = Facts::new(source, "master", "master");
    let settings = facts.survey(&main_cf, &all);
    errors.extend(settings.errors);
    let Some(loaded) = settings.loaded else { return Survey { errors, config: None } };
    let mut survey = Survey { errors, config: None };
    let master_cf = master_cf_text(source);
    let mistakes = loaded.unused_besides(&master_cf).filter(|unknown| is_own(unknown)).map(mistake);
    survey.errors.extend(mistakes);
    survey.errors.extend(relative_queue(source, &main_cf, &all, &loaded));
    let accounts = account_errors(source, &main_cf, &all, &loaded, true);
    let accounts: Vec<_> = accounts.into_iter().filter(|error| !survey.is_broken(&error.name)).collect();
    survey.errors.extend(accounts);
    survey.errors.sort_by_key(|error| error.line);
    let found = service::find(&Reading {
        source,
        facts: &facts,
        main_cf: &main_cf,
        loaded: &loaded,
        overrides: &all,
        programs,
    });
    for error in &found.errors {
        // A service sees main.cf, too, and what is wrong there is wrong for each.
        let of_main_cf = error.file == source.main_cf_path() && survey.is_broken(&error.name);
        if !of_main_cf && !survey.errors.contains(error) {
            survey.errors.push(error.clone());
        }
    }
    survey.config = Some(config(source, programs, main_cf, all, loaded, found, &master_cf));
    survey
}

fn config(
    source: &ConfigSource,
    programs: Programs,
    main_cf: MainCf,
    given: Vec<Override>,
    loaded: Loaded,
    found: FoundServices,
    master_cf: &str,
) -> Config {
    let mut notices = loaded.notices.clone();
    notices.extend(found.notices);
    Config {
        source: source.clone(),
        log: log_config(source.mode(), &loaded.settings, first_name(programs)),
        remarks: remarks(&loaded, master_cf),
        settings: Arc::new(loaded.settings),
        services: found.services,
        public_services: found.public_services,
        notices,
        main_cf: Arc::new(main_cf),
        given,
    }
}

fn relative_queue(
    source: &ConfigSource,
    main_cf: &MainCf,
    overrides: &[Override],
    loaded: &Loaded,
) -> Option<ConfigError> {
    let name = "queue_directory";
    let value = &loaded.settings.queue_directory;
    let (file, line) = place(source, main_cf, overrides, name);
    Path::new(value).is_relative().then(|| {
        ConfigError::new(
            format!("parameter {name}: not an absolute path: {value}"),
            "write a path that begins with /",
        )
        .in_file(file, line)
        .about(name, value.clone())
    })
}

/// What is odd, but stops nothing.
fn remarks(loaded: &Loaded, master_cf: &str) -> Vec<String> {
    let remark = |unknown: &UnknownName, what: &str, aside: &str| {
        let place = unknown.line.map_or_else(String::new, |line| format!(", line {line}"));
        let meant = unknown.suggestion.map_or_else(String::new, |name| format!("; did you mean {name}?"));
        format!("{}{place}: {what} parameter: {}{aside}{meant}", unknown.file, unknown.name)
    };
    let unused = loaded.unused_besides(master_cf).filter(|unknown| !is_own(unknown));
    let unused = unused.map(|unknown| remark(unknown, "unused", ""));
    let undefined = loaded.undefined.iter();
    let undefined = undefined.map(|unknown| remark(unknown, "undefined", " (it expands to nothing)"));
    unused.chain(undefined).collect()
}
