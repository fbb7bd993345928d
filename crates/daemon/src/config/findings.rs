//! What there is to say about a configuration: for `qmqpd check`, and for a master that reloads it.

use std::collections::BTreeSet;

use postfix::notice::Severity;

use super::program::Finding;
use super::queue::{check_queue, journal_note};
use super::{Config, Service, Survey};

/// What there is to say about a configuration, each text once.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong, in the order of the files.
    pub errors: Vec<String>,
    /// What is odd, but stops nothing.
    pub warnings: BTreeSet<String>,
    /// Where nothing is wrong.
    pub notes: BTreeSet<String>,
    /// The warnings about who may send mail and about tables: not those of main.cf, which every process logs.
    pub about_lists: BTreeSet<String>,
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

    /// All that `qmqpd check` says. Relative names of tables start at the working directory, which must be the queue directory.
    #[must_use]
    pub fn of(survey: &Survey) -> Self {
        let mut findings =
            Self { errors: survey.errors.iter().map(ToString::to_string).collect(), ..Self::default() };
        if let Some(config) = &survey.config {
            let missing = |service: &Service| service.kind.missing_services(config, service);
            findings.errors.extend(config.services.iter().flat_map(missing));
            findings.warnings.extend(config.remarks.iter().cloned());
            config.notices.iter().for_each(|notice| findings.add(notice.severity, notice.text.clone()));
            findings.notes.extend(journal_note(config));
            let errors = findings.ask_programs(config, &|parameter| survey.is_broken(parameter));
            findings.errors.extend(errors);
            // Not those that stand in for the ones that were meant.
            if !survey.is_broken("queue_directory") && !survey.is_broken("mail_owner") {
                findings.errors.extend(check_queue(config).err());
            }
        }
        let mut said = BTreeSet::new();
        findings.errors.retain(|error| said.insert(error.clone()));
        findings
    }

    /// What the programs say of their services, but for what is about values of which `is_broken` says that they are not what was
    /// meant. Returns what is wrong.
    fn ask_programs(&mut self, config: &Config, is_broken: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut errors = Vec::new();
        for service in &config.services {
            let found = service.kind.check(config, service);
            for Finding { severity, text, .. } in found.into_iter().filter(|it| !is_broken(it.parameter)) {
                match severity {
                    Severity::Info => {}
                    Severity::Warning => self.add_about_lists(text),
                    Severity::Error | Severity::Fatal | Severity::Panic => errors.push(text),
                }
            }
        }
        errors
    }
}

/// The warnings about the match lists and tables of a configuration that can be used.
pub(crate) fn list_warnings(config: &Config) -> BTreeSet<String> {
    let mut findings = Findings::default();
    // What is wrong with a table the processes say, and their clients hear it.
    let _said_elsewhere = findings.ask_programs(config, &|_| false);
    findings.about_lists
}
