//! `qmqpd check`: what is wrong with the configuration, all of it, and what to write instead.

use daemon::config::{self, ConfigSource, Findings, Programs};
use daemon::exit::{Exit, remark};

/// Checks, and returns what to print if all is well. What stops nothing goes to standard error, too: as a warning, or as
/// a note where nothing is wrong.
///
/// # Errors
/// All that is wrong.
pub fn check(source: &ConfigSource, overrides: &[String], programs: Programs) -> Result<String, Exit> {
    let survey = config::survey(source, overrides, programs);
    if let Some(config) = &survey.config {
        // Relative names of tables start at the queue directory. It need not exist yet.
        let _may_not_exist = std::env::set_current_dir(config.queue_directory());
    }
    let findings = Findings::of(&survey);
    remark("warning", findings.warnings.iter());
    remark("note", findings.notes.iter());
    if findings.errors.is_empty() {
        Ok(format!("configuration {source} is good"))
    } else {
        Err(Exit { status: Exit::CONFIG, lines: findings.errors })
    }
}
