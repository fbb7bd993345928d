//! What the configuration and the master have to know of this program.

use postfix::settings::Settings;

use crate::lists;
use daemon::config::{Config, Finding, Program, Programs, Service};
use intake::{Backend, PublicService};
use qmgr::program::{LMTP, PIPE, QMGR, QMQP, SMTP, VIRTUAL};

/// The programs that `qmqpd serve` starts.
pub(crate) const PROGRAMS: Programs = &[&Qmqpd, &QMGR, &SMTP, &LMTP, &QMQP, &PIPE, &VIRTUAL];

/// The QMQP server.
#[derive(Debug)]
pub(crate) struct Qmqpd;

impl Program for Qmqpd {
    fn name(&self) -> &'static str {
        "qmqpd"
    }

    fn description(&self) -> &'static str {
        "QMQP server"
    }

    fn missing_services(&self, config: &Config, service: &Service) -> Vec<String> {
        let sockets = Backend::needs(&service.settings).sockets.into_iter();
        let missing = sockets.filter(|socket| config.lacks_service(&socket.name));
        let say = |PublicService { name, parameter, purpose, line }| {
            let place = &service.origin;
            format!("{place}: no public unix service \"{name}\" {purpose} ({parameter}); write: {line}")
        };
        missing.map(say).collect()
    }

    fn has_journal(&self, settings: &Settings) -> bool {
        Backend::needs(settings).keeps_journal
    }

    fn check(&self, config: &Config, service: &Service) -> Vec<Finding> {
        lists::problems(config, service)
    }
}
