//! The match lists and tables that the parameters of a service name: how they are opened, and what is wrong with them.

use lookup::Problem;
use postfix::notice::Severity;

use daemon::config::{self, Config, Finding, Service};
use intake::{Backend, list_options};

/// What is wrong or odd about those of a service, opened as its processes would open them.
pub(crate) fn problems(config: &Config, service: &Service) -> Vec<Finding> {
    let settings = &service.settings;
    let options = lookup::Options {
        is_beside_postfix: config::is_under_postfix(&config.source),
        ..list_options(settings)
    };
    let mut found: Vec<(&'static str, Vec<Problem>)> = Vec::new();
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
    let mut findings = Vec::new();
    for (parameter, problems) in found {
        findings.extend(problems.into_iter().map(|problem| Finding {
            parameter,
            severity: problem.severity,
            text: format!("{}: parameter {parameter}: {problem}", config.place_of(parameter, service)),
        }));
    }
    if settings.qmqpd_authorized_clients.trim().is_empty() {
        findings.push(Finding {
            parameter: "qmqpd_authorized_clients",
            severity: Severity::Warning,
            text: "parameter qmqpd_authorized_clients is empty: no client may send mail; write \
             $mynetworks, for example"
                .to_owned(),
        });
    }
    findings
}
