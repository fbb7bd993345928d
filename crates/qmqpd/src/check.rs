//! `qmqpd check`: what is wrong with the configuration, all of it, and what to write instead.

use std::collections::BTreeSet;

use lookup::Problem;
use postfix::notice::Severity;
use postfix::settings::words::Submit;

use crate::config::{self, Config, ConfigSource};
use crate::exit::Exit;
use crate::master;
use crate::service::list_options;
use crate::submit::table_problems;

/// Checks, and returns what to print if all is well. What stops nothing goes to standard error, too: as a warning, or as
/// a note where nothing is wrong.
///
/// # Errors
/// All that is wrong.
pub fn check(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let survey = config::survey(source, overrides);
    let mut errors: Vec<String> = survey.errors.iter().map(ToString::to_string).collect();
    if let Some(config) = &survey.config {
        let mut asides = Asides::default();
        asides.warnings.extend(config.remarks.iter().cloned());
        config.notices.iter().for_each(|notice| asides.add(notice.severity, notice.text.clone()));
        // Relative names of tables start at the queue directory. It need not exist yet.
        let _may_not_exist = std::env::set_current_dir(config.queue_directory());
        errors.extend(lists(config, &|parameter| survey.is_broken(parameter), &mut asides));
        // Not those that stand in for the ones that were meant.
        if !survey.is_broken("queue_directory") && !survey.is_broken("mail_owner") {
            errors.extend(master::check_queue(config).err());
        }
        asides.print();
    }
    let mut said = BTreeSet::new();
    errors.retain(|error| said.insert(error.clone()));
    if errors.is_empty() {
        Ok(format!("configuration {source} is good"))
    } else {
        Err(Exit { status: Exit::CONFIG, lines: errors })
    }
}

/// What is said although it stops nothing.
#[derive(Debug, Default)]
struct Asides {
    warnings: BTreeSet<String>,
    notes: BTreeSet<String>,
}

impl Asides {
    fn add(&mut self, severity: Severity, text: String) {
        let kind = if severity == Severity::Info { &mut self.notes } else { &mut self.warnings };
        kind.insert(text);
    }

    fn print(&self) {
        for (label, texts) in [("warning", &self.warnings), ("note", &self.notes)] {
            for text in texts {
                eprintln!("qmqpd: {label}: {}", crate::log::escape(text.as_bytes(), true));
            }
        }
    }
}

/// What would make match lists of this configuration fail, for a server that has something better to fall back on.
/// Relative names of tables start at the working directory, which must be the queue directory.
pub(crate) fn broken_lists(config: &Config) -> Vec<String> {
    lists(config, &|_| false, &mut Asides::default())
}

/// The match lists of every service, opened as its processes would open them; but for those of which `is_broken` says
/// that they are not what was meant.
fn lists(config: &Config, is_broken: &dyn Fn(&str) -> bool, asides: &mut Asides) -> Vec<String> {
    let mut errors = Vec::new();
    for service in &config.services {
        let settings = &service.settings;
        let options = lookup::Options {
            is_beside_postfix: config::is_under_postfix(&config.source),
            ..list_options(settings)
        };
        let mut found: Vec<(&str, Vec<Problem>)> = Vec::new();
        for (parameter, patterns) in [
            ("qmqpd_authorized_clients", &settings.qmqpd_authorized_clients),
            ("debug_peer_list", &settings.debug_peer_list),
        ] {
            found.push((parameter, lookup::check(parameter, patterns, &options)));
        }
        if settings.qmqpd_submit == Submit::Local {
            found.extend(table_problems(settings, &options));
        }
        for (parameter, problems) in found.into_iter().filter(|(parameter, _)| !is_broken(parameter)) {
            for problem in problems {
                let text =
                    format!("{}: parameter {parameter}: {problem}", config.place_of(parameter, service));
                match problem.severity {
                    Severity::Info => {}
                    Severity::Warning => asides.add(problem.severity, text),
                    Severity::Error | Severity::Fatal | Severity::Panic => errors.push(text),
                }
            }
        }
        let nobody = settings.qmqpd_authorized_clients.trim().is_empty();
        if nobody && !is_broken("qmqpd_authorized_clients") {
            asides.add(
                Severity::Warning,
                "parameter qmqpd_authorized_clients is empty: nobody may send mail; write $mynetworks, for example"
                    .to_owned(),
            );
        }
    }
    errors
}
