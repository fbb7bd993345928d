//! What the configuration and the master have to know of the programs of delivery.

use daemon::config::{Config, Finding, Program, Service};
use postfix::settings::Settings;

/// A program of delivery.
#[derive(Debug)]
pub struct DeliveryProgram {
    name: &'static str,
    description: &'static str,
    /// Its services where there is no master.cf, and whether they are private.
    services: &'static [(&'static str, bool)],
}

/// The queue manager.
pub const QMGR: DeliveryProgram =
    DeliveryProgram { name: "qmgr", description: "queue manager", services: &[("qmgr", false)] };

/// The agent for SMTP.
pub const SMTP: DeliveryProgram = DeliveryProgram {
    name: "smtp",
    description: "SMTP delivery agent",
    services: &[("smtp", true), ("relay", true)],
};

/// The agent for LMTP.
pub const LMTP: DeliveryProgram =
    DeliveryProgram { name: "lmtp", description: "LMTP delivery agent", services: &[("lmtp", true)] };

/// The agent for QMQP.
pub const QMQP: DeliveryProgram =
    DeliveryProgram { name: "qmqp", description: "QMQP delivery agent", services: &[("qmqp", true)] };

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

    fn check(&self, _: &Config, _: &Service) -> Vec<Finding> {
        Vec::new()
    }

    fn delivers(&self) -> bool {
        true
    }

    fn built_in_services(&self) -> &'static [(&'static str, bool)] {
        self.services
    }
}
