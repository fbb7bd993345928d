//! `qmqpd check`: what is wrong with the configuration, all of it, and what to write instead.

use postfix::notice::Severity;

use crate::config::{self, Config, ConfigSource, Remark};
use crate::exit::Exit;
use crate::master;
use crate::service::list_options;

/// Checks, and returns what to print if all is well. What stops nothing goes to standard error as a warning.
///
/// # Errors
/// All that is wrong.
pub fn check(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let config = config::load(source, overrides).map_err(|errors| Exit::config(&errors))?;
    let (mistakes, remarks): (Vec<&Remark>, Vec<&Remark>) =
        config.remarks.iter().partition(|remark| remark.is_mistake);
    let mut errors: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let mut warnings: Vec<String> = remarks.iter().map(ToString::to_string).collect();
    warnings.extend(config.notices.iter().map(|notice| notice.text.clone()));
    // Relative names of tables start at the queue directory. It need not exist yet.
    let _may_not_exist = std::env::set_current_dir(config.queue_directory());
    errors.extend(lists(&config, &mut warnings));
    if let Err(error) = master::check_queue(&config) {
        errors.push(error);
    }
    warnings.sort();
    warnings.dedup();
    for warning in warnings {
        eprintln!("qmqpd: warning: {}", crate::log::escape(warning.as_bytes(), true));
    }
    if errors.is_empty() {
        return Ok(format!("configuration {} is good", config.source));
    }
    errors.sort();
    errors.dedup();
    Err(Exit { status: Exit::CONFIG, lines: errors })
}

/// What would make match lists of this configuration fail, for a server that has something better to fall back on.
/// Relative names of tables start at the working directory, which must be the queue directory.
pub(crate) fn broken_lists(config: &Config) -> Vec<String> {
    lists(config, &mut Vec::new())
}

/// The match lists of every service, opened as its processes would open them.
fn lists(config: &Config, warnings: &mut Vec<String>) -> Vec<String> {
    let mut errors = Vec::new();
    for service in &config.services {
        let settings = &service.settings;
        let options = lookup::Options {
            is_beside_postfix: config::is_under_postfix(&config.source),
            ..list_options(settings)
        };
        let lists = [
            ("qmqpd_authorized_clients", &settings.qmqpd_authorized_clients),
            ("debug_peer_list", &settings.debug_peer_list),
        ];
        for (parameter, patterns) in lists {
            for problem in lookup::check(parameter, patterns, &options) {
                let text =
                    format!("{}: parameter {parameter}: {problem}", config.place_of(parameter, service));
                match problem.severity {
                    Severity::Info => {}
                    Severity::Warning => warnings.push(text),
                    Severity::Error | Severity::Fatal | Severity::Panic => errors.push(text),
                }
            }
        }
        if settings.qmqpd_authorized_clients.trim().is_empty() {
            warnings.push(
                "parameter qmqpd_authorized_clients is empty: nobody may send mail; write $mynetworks, for example"
                    .to_owned(),
            );
        }
    }
    errors
}
