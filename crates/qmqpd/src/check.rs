//! `qmqpd check`: what is wrong with the configuration, all of it, and what to write instead.

use std::collections::BTreeSet;

use lookup::Problem;
use postfix::notice::Severity;

use crate::config::{self, Config, ConfigSource, Survey};
use crate::exit::{self, Exit};
use crate::master;
use crate::service::list_options;
use crate::submit::{Backend, PublicService};

/// Checks, and returns what to print if all is well. What stops nothing goes to standard error, too: as a warning, or as
/// a note where nothing is wrong.
///
/// # Errors
/// All that is wrong.
pub fn check(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let survey = config::survey(source, overrides);
    if let Some(config) = &survey.config {
        // Relative names of tables start at the queue directory. It need not exist yet.
        let _may_not_exist = std::env::set_current_dir(config.queue_directory());
    }
    let findings = examine(&survey);
    print("warning", findings.warnings.iter());
    print("note", findings.notes.iter());
    if findings.errors.is_empty() {
        Ok(format!("configuration {source} is good"))
    } else {
        Err(Exit { status: Exit::CONFIG, lines: findings.errors })
    }
}

/// Tells an operator what stops nothing.
pub(crate) fn print<'t>(label: &str, texts: impl Iterator<Item = &'t String>) {
    for text in texts {
        exit::complain(&format!("{label}: {text}"));
    }
}

/// What there is to say about a configuration, each text once.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What is wrong, in the order of the files.
    pub(crate) errors: Vec<String>,
    /// What is odd, but stops nothing.
    pub(crate) warnings: BTreeSet<String>,
    /// Where nothing is wrong.
    pub(crate) notes: BTreeSet<String>,
    /// The warnings about who may send mail and about tables: not those of main.cf, which every process logs.
    pub(crate) about_lists: BTreeSet<String>,
}

impl Findings {
    fn add(&mut self, severity: Severity, text: String) {
        let kind = if severity == Severity::Info { &mut self.notes } else { &mut self.warnings };
        kind.insert(text);
    }

    fn add_about_lists(&mut self, text: String) {
        self.about_lists.insert(text.clone());
        self.warnings.insert(text);
    }
}

/// All that `qmqpd check` says. Relative names of tables start at the working directory, which must be the queue directory.
pub(crate) fn examine(survey: &Survey) -> Findings {
    let mut findings =
        Findings { errors: survey.errors.iter().map(ToString::to_string).collect(), ..Findings::default() };
    if let Some(config) = &survey.config {
        findings.errors.extend(missing_services(config));
        findings.warnings.extend(config.remarks.iter().cloned());
        config.notices.iter().for_each(|notice| findings.add(notice.severity, notice.text.clone()));
        findings.notes.extend(master::journal_note(config));
        let errors = lists(config, &|parameter| survey.is_broken(parameter), &mut findings);
        findings.errors.extend(errors);
        // Not those that stand in for the ones that were meant.
        if !survey.is_broken("queue_directory") && !survey.is_broken("mail_owner") {
            findings.errors.extend(master::check_queue(config).err());
        }
    }
    let mut said = BTreeSet::new();
    findings.errors.retain(|error| said.insert(error.clone()));
    findings
}

/// The services of Postfix's master(8) that have no line in master.cf, and are to take the mail of one of ours.
fn missing_services(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    for service in &config.services {
        for PublicService { name, parameter, purpose, line } in Backend::needs(&service.settings).sockets {
            if config.lacks_service(&name) {
                let place = &service.origin;
                errors.push(format!(
                    "{place}: no public unix service \"{name}\" {purpose} ({parameter}); write: {line}"
                ));
            }
        }
    }
    errors
}

/// The warnings about the match lists and tables of a configuration that can be used.
pub(crate) fn list_warnings(config: &Config) -> BTreeSet<String> {
    let mut findings = Findings::default();
    // What is wrong with a table the processes say, and their clients hear it.
    let _said_elsewhere = lists(config, &|_| false, &mut findings);
    findings.about_lists
}

/// The match lists of every service, opened as its processes would open them; but for those of which `is_broken` says
/// that they are not what was meant.
fn lists(config: &Config, is_broken: &dyn Fn(&str) -> bool, findings: &mut Findings) -> Vec<String> {
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
            ("qmqpd_client_event_limit_exceptions", &settings.qmqpd_client_event_limit_exceptions),
        ] {
            let is_said = parameter == "qmqpd_client_event_limit_exceptions"
                && *patterns == settings.qmqpd_authorized_clients;
            if !is_said {
                found.push((parameter, lookup::check(parameter, patterns, &options)));
            }
        }
        found.extend(Backend::check(settings, &options));
        for (parameter, problems) in found.into_iter().filter(|(parameter, _)| !is_broken(parameter)) {
            for problem in problems {
                let text =
                    format!("{}: parameter {parameter}: {problem}", config.place_of(parameter, service));
                match problem.severity {
                    Severity::Info => {}
                    Severity::Warning => findings.add_about_lists(text),
                    Severity::Error | Severity::Fatal | Severity::Panic => errors.push(text),
                }
            }
        }
        let nobody = settings.qmqpd_authorized_clients.trim().is_empty();
        if nobody && !is_broken("qmqpd_authorized_clients") {
            findings.add_about_lists(
                "parameter qmqpd_authorized_clients is empty: nobody may send mail; write $mynetworks, for example"
                    .to_owned(),
            );
        }
    }
    errors
}
