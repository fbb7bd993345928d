//! What the configuration and the master have to know of the programs of delivery.

use daemon::config::{Config, Finding, Program, Service};
use postfix::notice::Severity;
use postfix::settings::Settings;

use crate::pipe;

/// A program of delivery.
#[derive(Debug)]
pub struct DeliveryProgram {
    name: &'static str,
    description: &'static str,
    /// Its services where there is no master.cf, and whether they are private.
    services: &'static [(&'static str, bool)],
    /// Whether its process becomes the user that it needs by itself.
    chooses_its_user: bool,
}

/// The queue manager.
pub const QMGR: DeliveryProgram = DeliveryProgram {
    name: "qmgr",
    description: "queue manager",
    services: &[("qmgr", false)],
    chooses_its_user: false,
};

/// Gives mail to programs. What its services do stands in master.cf alone.
pub const PIPE: DeliveryProgram = DeliveryProgram {
    name: "pipe",
    description: "pipe delivery agent",
    services: &[],
    chooses_its_user: true,
};

/// Delivers into Maildirs.
pub const VIRTUAL: DeliveryProgram = DeliveryProgram {
    name: "virtual",
    description: "virtual delivery agent",
    services: &[("virtual", true)],
    chooses_its_user: true,
};

/// The agent for SMTP.
pub const SMTP: DeliveryProgram = DeliveryProgram {
    name: "smtp",
    description: "SMTP delivery agent",
    services: &[("smtp", true), ("relay", true)],
    chooses_its_user: false,
};

/// The agent for LMTP.
pub const LMTP: DeliveryProgram = DeliveryProgram {
    name: "lmtp",
    description: "LMTP delivery agent",
    services: &[("lmtp", true)],
    chooses_its_user: false,
};

/// The agent for QMQP.
pub const QMQP: DeliveryProgram = DeliveryProgram {
    name: "qmqp",
    description: "QMQP delivery agent",
    services: &[("qmqp", true)],
    chooses_its_user: false,
};

impl Program for DeliveryProgram {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn missing_services(&self, _: &Config, _: &Service) -> Vec<String> {
        Vec::new()
    }

    fn has_journal(&self, _: &Settings) -> bool {
        false
    }

    fn check(&self, _: &Config, service: &Service) -> Vec<Finding> {
        let problem = if self.name == PIPE.name { pipe::server::problem(service) } else { None };
        let finding = |text| Finding { parameter: "", severity: Severity::Error, text };
        problem.map(|words| finding(format!("{}: {words}", service.origin))).into_iter().collect()
    }

    fn delivers(&self) -> bool {
        true
    }

    fn chooses_its_user(&self) -> bool {
        self.chooses_its_user
    }

    fn built_in_services(&self) -> &'static [(&'static str, bool)] {
        self.services
    }
}
