//! `qmqpd check`: reports all errors in the configuration, and what to write instead.

use daemon::config::{self, ConfigSource, Findings, Programs};
use daemon::exit::{Exit, remark};

/// Checks, and returns what to print if there is no error. Warnings and notes go to standard error.
///
/// # Errors
/// All errors in the configuration.
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
        let warnings = match findings.warnings.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            count => format!(", {count} warnings"),
        };
        Ok(format!("{source}: configuration OK{warnings}"))
    } else {
        Err(Exit { status: Exit::CONFIG, lines: findings.errors })
    }
}
