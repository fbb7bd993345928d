//! What the configuration and the master have to know of the programs of delivery.

use daemon::config::{Config, Finding, Program, Service};
use postfix::notice::Severity;
use postfix::settings::Settings;

use crate::network::{self, Protocol, TlsLevel};
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
        let problem = match self.name {
            "pipe" => pipe::server::problem(service),
            "smtp" => problem(service, Protocol::Smtp),
            "lmtp" => problem(service, Protocol::Lmtp),
            _ => None,
        };
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

/// What of TLS main.cf asks for; an error names the parameter that this agent cannot keep.
pub(crate) fn tls_level(protocol: Protocol, settings: &Settings) -> Result<TlsLevel, String> {
    match protocol {
        Protocol::Smtp => network::tls_level(
            "smtp",
            &settings.smtp_tls_security_level,
            settings.smtp_enforce_tls,
            &settings.smtp_tls_policy_maps,
        ),
        Protocol::Lmtp => network::tls_level(
            "lmtp",
            &settings.lmtp_tls_security_level,
            settings.lmtp_enforce_tls,
            &settings.lmtp_tls_policy_maps,
        ),
        Protocol::Qmqp => Ok(TlsLevel::Plain),
    }
}

/// What the agent of a service cannot do that main.cf asks for. Mail does not leave in a way that is less than that.
fn problem(service: &Service, protocol: Protocol) -> Option<String> {
    let settings = &service.settings;
    if let Err(setting) = tls_level(protocol, settings) {
        return Some(format!(
            "{setting}: the delivery agents of this version have no TLS: set the level to `may` to send in plain \
             text, or leave delivery to Postfix (qmqpd_deliver = no)"
        ));
    }
    let logs_in = match protocol {
        Protocol::Smtp => settings.smtp_sasl_auth_enable,
        Protocol::Lmtp => settings.lmtp_sasl_auth_enable,
        Protocol::Qmqp => false,
    };
    logs_in.then(|| {
        let prefix = if protocol == Protocol::Lmtp { "lmtp" } else { "smtp" };
        format!(
            "{prefix}_sasl_auth_enable = yes: the delivery agents of this version do not log in: remove it, or leave \
             delivery to Postfix (qmqpd_deliver = no)"
        )
    })
}
