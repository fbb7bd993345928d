//! `qmqpd check --postfix`: what is said before a Postfix is switched over.

use std::process::Command;

use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup, write_old};
use testbed::program;
use testbed::trials::Trials;

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    trials.add("check::a_postfix_that_works_is_good", &needs, good);
    trials.add("check::what_our_cleanup_lacks_is_named", &needs, lacking);
    trials.add("check::lines_of_master_cf", &needs, lines);
}

/// Exit status, and all that it says.
fn check(postfix: &Instance, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program::qmqpd());
    let output = command.args(["check", "--postfix", "-c"]).arg(&postfix.config).args(more).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn good() {
    let setup = Setup {
        main_cf: vec!["qmqpd_listen = 127.0.0.1:1".to_owned()],
        master_cf: "clients pass n - n - - qmqpd\nmore unix n - n - - qmqpd -v\n".to_owned(),
        ..Default::default()
    };
    let (status, said) = check(&drop_in::start(Submit::Postfix, &setup), &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("note: qmqpd_listen has no effect here"), "{said}");
    assert!(!said.contains("not the program") && !said.contains("error"), "{said}");
    // Not switched over yet.
    let (status, said) = check(&Instance::start(&Setup::default()), &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("/usr/lib/postfix/sbin/qmqpd is not the program that runs this check"), "{said}");
}

/// Nothing, as long as Postfix's cleanup(8) takes the mail.
fn lacking() {
    let main_cf = vec!["canonical_maps = ldap:/etc/postfix/canonical".to_owned()];
    let setup = Setup { main_cf, ..Default::default() };
    let postfix = drop_in::start(Submit::Postfix, &setup);
    let (status, said) = check(&postfix, &[]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = check(&postfix, &["-o", "qmqpd_submit=local"]);
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("unsupported dictionary type: ldap"), "{said}");
}

fn lines() {
    let postfix = drop_in::start(Submit::Postfix, &Setup::default());
    let path = postfix.config.join("master.cf");
    let text = std::fs::read_to_string(&path).unwrap();
    write_old(&path, &text.replace("cleanup   unix  n", "cleanup   unix  y"));
    let (status, said) = check(&postfix, &[]);
    assert_eq!(status, Some(78));
    assert!(
        said.contains("no public unix service \"cleanup\" takes the mail (cleanup_service_name)"),
        "{said}"
    );
    let (status, said) = check(&postfix, &["-o", "qmqpd_submit=local"]);
    assert_eq!(status, Some(0), "{said}");
    write_old(&path, &text.replace("inet n - n - - qmqpd", "inet n n n - - qmqpd"));
    let (status, said) = check(&postfix, &[]);
    assert_eq!(status, Some(78));
    assert!(said.contains("the Postfix QMQP server must run with $mail_owner privileges"), "{said}");
    write_old(&path, &text.replace(" qmqpd", " smtpd"));
    let (status, said) = check(&postfix, &[]);
    assert_eq!(status, Some(78));
    assert!(said.contains("no line has the command qmqpd"), "{said}");
}
