//! A master and a jail for another program than qmqpd speak of that program.

use daemon::config::{self, Config, ConfigSource, Finding, Program, Service};
use daemon::jail::{self, JailError, JailPlan};
use postfix::settings::Settings;

#[derive(Debug)]
struct Mailer;

impl Program for Mailer {
    fn name(&self) -> &'static str {
        "mailer"
    }

    fn description(&self) -> &'static str {
        "mail client"
    }

    fn missing_services(&self, _config: &Config, _service: &Service) -> Vec<String> {
        Vec::new()
    }

    fn has_journal(&self, _settings: &Settings) -> bool {
        false
    }

    fn check(&self, _config: &Config, _service: &Service) -> Vec<Finding> {
        Vec::new()
    }
}

#[test]
fn a_configuration_without_its_services_is_told_the_name_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("main.cf"), "myhostname = mx.example.com\n").unwrap();
    std::fs::write(directory.path().join("master.cf"), "628 inet n - n - - qmqpd\n").unwrap();
    let source = ConfigSource::of_postfix(Some(directory.path())).unwrap();
    let survey = config::survey(&source, &[], &[&Mailer]);
    let errors: Vec<String> = survey.errors.iter().map(ToString::to_string).collect();
    let said = errors.iter().find(|error| error.contains("no line has the command mailer"));
    assert!(said.is_some_and(|error| error.ends_with("628 inet n - n - - mailer")), "{errors:?}");
    assert_eq!(survey.config.unwrap().log.process_name, "mailer");
}

#[test]
fn a_process_that_would_stay_root_is_called_what_it_is() {
    let program = Mailer.description();
    let plan = JailPlan { queue_directory: "/".into(), chroot: false, owner: None };
    let refused = match jail::enter(&plan, program) {
        Err(error) => error,
        // The test does not run as root, so that the jail was entered.
        Ok(()) => JailError::Root { program: program.to_owned() },
    };
    let words = "the Postfix mail client must run with $mail_owner privileges: ";
    assert!(refused.to_string().starts_with(words), "{refused}");
}
