//! The match lists and tables that the parameters of a service name: how they are opened, and what is wrong with them.

use lookup::{Problem, TurnOptions, Turns};
use postfix::notice::Severity;
use postfix::settings::Settings;

use daemon::config::{self, Config, Finding, Service};
use intake::Backend;

/// The options with which a service opens its match lists and tables. What they say of expressions is for all of them
/// together: a process makes them once.
pub(crate) fn list_options(settings: &Settings) -> lookup::Options {
    lookup::Options {
        smtputf8_enable: settings.smtputf8_enable,
        parent_domain_matches_subdomains: settings.parent_domain_matches_subdomains.clone(),
        daemon_table_open_error_is_fatal: settings.daemon_table_open_error_is_fatal,
        proxymap_service_name: settings.proxymap_service_name.clone(),
        release: settings.release(),
        ipc_idle: settings.ipc_idle,
        ipc_ttl: settings.ipc_ttl,
        socketmap_max_reply_size: usize::try_from(settings.socketmap_max_reply_size).unwrap_or(usize::MAX),
        socketmap_max_query_size: usize::try_from(settings.socketmap_max_query_size).unwrap_or(usize::MAX),
        turns: Turns::new(TurnOptions {
            time_limit: settings.qmqpd_expression_time_limit,
            aside: |work| tokio::task::block_in_place(work),
            ..TurnOptions::default()
        }),
        ..lookup::Options::default()
    }
}

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
