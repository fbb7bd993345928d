//! The same words from check, start and reload, and words that are true.

use testbed::peers::Peer;
use testbed::trials::Trials;

use super::site::{Site, free_address, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "said::what_never_applies_is_said_by_check_start_and_reload",
        &[],
        what_never_applies_is_said_by_check_start_and_reload,
    );
    trials.add(
        "said::reload_refuses_and_prints_what_check_does_one_error_a_line",
        &[],
        reload_refuses_and_prints_what_check_does_one_error_a_line,
    );
    trials.add(
        "said::reload_refuses_a_queue_of_another_owner_as_check_does",
        &[Peer::Root],
        reload_refuses_a_queue_of_another_owner_as_check_does,
    );
    trials.add("said::an_option_that_is_to_blame_is_named", &[], an_option_that_is_to_blame_is_named);
    trials.add(
        "said::an_owner_that_there_is_not_is_named_with_its_option",
        &[Peer::Root],
        an_owner_that_there_is_not_is_named_with_its_option,
    );
    trials.add(
        "said::the_start_says_who_may_send_and_a_reload_that_an_option_changes_nothing",
        &[],
        the_start_says_who_may_send_and_a_reload_that_an_option_changes_nothing,
    );
}

fn what_never_applies_is_said_by_check_start_and_reload() {
    let site = Site::new();
    let listen = format!("qmqpd_listen = {}\nmynetworks = 127.0.0.0/8, 198.51.100.0/24\n", free_address());
    let late = format!("{listen}qmqpd_authorized_clients = $mynetworks, !198.51.100.7\n");
    let words = "line 8: parameter qmqpd_authorized_clients: \"!198.51.100.7\": this exception never applies: \
                 \"198.51.100.0/24\" before it already matches; write it before \"198.51.100.0/24\"";
    site.configure(&late);
    let (status, said) = site.outcome(&["check", "-c", "etc"]);
    assert_eq!(status, Some(0));
    assert!(said.contains(words), "{said}");
    let server = site.serve(&["-c", "etc"]);
    until("the start says so", || server.log().contains(words).then_some(()));
    site.configure(&format!("{listen}qmqpd_authorized_clients = !198.51.100.7, $mynetworks\n"));
    let fine = server.control("reload");
    assert_eq!((fine.status.code(), String::from_utf8(fine.stderr).unwrap().as_str()), (Some(0), ""));
    for (value, words) in [
        ("$mynetworks, !198.51.100.7", words),
        (
            "permit_mynetworks",
            "\"permit_mynetworks\": only a client with this name matches; write $mynetworks",
        ),
        (
            "192.0.2.1-192.0.2.9",
            "ranges of addresses are not supported; write 192.0.2.1, 192.0.2.2/31, 192.0.2.4/30",
        ),
    ] {
        site.configure(&format!("{listen}qmqpd_authorized_clients = {value}\n"));
        let reloaded = server.control("reload");
        let said = String::from_utf8(reloaded.stderr).unwrap();
        assert_eq!(reloaded.status.code(), Some(0), "{said}");
        assert!(said.starts_with("qmqpd: warning: ") && said.contains(words), "{said}");
        until("the log says so, too", || {
            server.log().matches(words).nth(usize::from(value.contains('$'))).map(drop)
        });
    }
}

fn reload_refuses_and_prints_what_check_does_one_error_a_line() {
    let site = Site::new();
    let listen = format!("qmqpd_listen = {}\nqmqpd_authorized_clients = 127.0.0.1\n", free_address());
    site.configure(&listen);
    let server = site.serve(&["-c", "etc"]);
    site.configure(&format!(
        "{listen}qmqpd_timeout = soon\nmessage_size_limit = 10M\nunheard_of = 1\n\
         qmqpd_authorized_clients = 127.0.0.1:628\n"
    ));
    let (status, checked) = site.outcome(&["check", "-c", "etc"]);
    assert_eq!(status, Some(78));
    let reloaded = server.control("reload");
    assert_eq!(reloaded.status.code(), Some(78));
    let said = String::from_utf8(reloaded.stderr).unwrap();
    assert!(checked.lines().count() >= 4, "{checked}");
    // Notes are for those who ask for a check.
    let is_no_note = |line: &&str| !line.starts_with("qmqpd: note: ");
    let checked: String = checked.split_inclusive('\n').filter(is_no_note).collect();
    assert_eq!(said, format!("{checked}qmqpd: the current configuration stays in effect\n"));
    assert!(said.contains("a pattern cannot contain a port; write 127.0.0.1"), "{said}");
}

/// The owner of the queue is one of the things that check looks at.
fn reload_refuses_a_queue_of_another_owner_as_check_does() {
    let site = Site::new();
    site.configure(&format!("qmqpd_listen = {}\n", free_address()));
    let server = site.serve(&["-c", "etc"]);
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap().uid;
    nix::unistd::chown(&site.path("queue/incoming"), Some(daemon), None).unwrap();
    let (status, checked) = site.outcome(&["check", "-c", "etc"]);
    assert_eq!(status, Some(78), "{checked}");
    // Notes are for those who ask for a check.
    let is_no_note = |line: &&str| !line.starts_with("qmqpd: note: ");
    let checked: String = checked.split_inclusive('\n').filter(is_no_note).collect();
    let reloaded = server.control("reload");
    let said = String::from_utf8(reloaded.stderr).unwrap();
    assert_eq!(reloaded.status.code(), Some(78), "{said}");
    assert!(said.starts_with(&checked), "{said} instead of {checked}");
}

fn an_option_that_is_to_blame_is_named() {
    let site = Site::new();
    site.configure(&format!("qmqpd_listen = {}\n", free_address()));
    site.write("etc/master.cf", "127.0.0.1:1 inet n - n - - qmqpd\n");
    for (option, words) in [
        ("qmqpd_timeout=soon", "command line, -o qmqpd_timeout: invalid qmqpd_timeout: 0 (min 1)"),
        (
            "queue_directory=here",
            "command line, -o queue_directory: parameter queue_directory: not an absolute path",
        ),
        (
            "qmqpd_listen=127.0.0.1:0",
            "command line, -o qmqpd_listen: parameter qmqpd_listen: port number out of range",
        ),
        ("myhostname=-x", "command line, -o myhostname: parameter myhostname: bad parameter value"),
        (
            "qmqpd_authorized_clients=127.0.0.1:628",
            "command line, -o qmqpd_authorized_clients: parameter qmqpd_authori",
        ),
        (
            "qmqpd_timout=5s",
            "command line, -o qmqpd_timout: no such parameter: qmqpd_timout; did you mean qmqpd_timeout?",
        ),
    ] {
        let (status, said) = site.outcome(&["check", "-c", "etc", "-o", option]);
        assert_eq!(status, Some(78), "{option}: {said}");
        assert!(said.contains(words), "{option}: {said}");
        assert_eq!(said.matches("etc/main.cf, line").count(), 0, "{option}: {said}");
        assert_eq!(
            said.lines().filter(|line| !line.contains("warning: ") && !line.contains("note: ")).count(),
            1,
            "{option}: {said}"
        );
    }
}

fn an_owner_that_there_is_not_is_named_with_its_option() {
    let site = Site::new();
    site.configure(&format!("qmqpd_listen = {}\n", free_address()));
    let (_, said) = site.outcome(&["check", "-c", "etc", "-o", "mail_owner=nosuch"]);
    let words = "qmqpd: command line, -o mail_owner: parameter mail_owner: unknown user name value: nosuch";
    assert!(said.contains(words), "{said}");
}

fn the_start_says_who_may_send_and_a_reload_that_an_option_changes_nothing() {
    let site = Site::new();
    let listen = format!("qmqpd_listen={}", free_address());
    for (list, words) in [
        (
            "192.0.2.0/24",
            "no configuration was given (-c DIRECTORY): clients that may send mail: 192.0.2.0/24",
        ),
        ("127.0.0.1, [::1]", "only clients on 127.0.0.1 and ::1 may send mail"),
        ("", "no configuration was given (-c DIRECTORY): no client may send mail"),
    ] {
        let list = format!("qmqpd_authorized_clients={list}");
        let server = site.serve(&["-o", &listen, "-o", &list]);
        until("the start says who may send", || server.log().contains(words).then_some(()));
        let reloaded = server.control("reload");
        let said = String::from_utf8(reloaded.stderr).unwrap();
        let words =
            "-o qmqpd_listen has no effect on a reload: the server keeps the -o that it was started with";
        assert!(reloaded.status.success() && said.contains(words), "{said}");
    }
}
