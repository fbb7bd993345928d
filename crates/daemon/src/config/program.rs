//! What a configuration cannot know of the programs that it is for.

use std::fmt::Debug;

use postfix::notice::Severity;
use postfix::settings::Settings;

use super::{Config, Service};

/// A program whose services stand in master.cf.
pub trait Program: Debug + Sync {
    /// The command of its lines.
    fn name(&self) -> &'static str;

    /// What it is, in errors about its lines: `QMQP server`.
    fn description(&self) -> &'static str;

    /// Says which services of Postfix's master(8) this service needs, and has no line for in master.cf.
    fn missing_services(&self, config: &Config, service: &Service) -> Vec<String>;

    /// Whether a service with these settings keeps a journal beside the queue.
    fn has_journal(&self, settings: &Settings) -> bool;

    /// Whether it is part of delivery: its services run only with `qmqpd_deliver = yes`.
    fn delivers(&self) -> bool {
        false
    }

    /// Whether its process finds the user that it needs by itself, and so starts as the master's: as root, if that is root.
    fn chooses_its_user(&self) -> bool {
        false
    }

    /// The `unix` services of a part of delivery where master.cf has none: name, and whether it is private.
    fn built_in_services(&self) -> &'static [(&'static str, bool)] {
        &[]
    }

    /// Opens what a process of this service would open, and says what is wrong or odd about it. Relative names start at the
    /// working directory, which must be the queue directory.
    fn check(&self, config: &Config, service: &Service) -> Vec<Finding>;
}

/// Those that a master starts. The first one has the service that `qmqpd_listen` describes.
pub type Programs = &'static [&'static dyn Program];

/// The name of the program that the master is for: it stands in the master's log lines, and in the example of a line for
/// master.cf.
pub(super) fn first_name(programs: Programs) -> &'static str {
    programs.first().map_or("master", |program| program.name())
}

/// What a program has to say about one of its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The parameter that it is about: what is found with a default in the place of a broken value is of no interest.
    pub parameter: &'static str,
    /// Whether it is an error, or a warning; the rest is not said.
    pub severity: Severity,
    /// In whole.
    pub text: String,
}
