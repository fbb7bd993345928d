//! Limits that the system sets, and a session on standard input.

use std::fs::File;
use std::process::{Command, Output};

use testbed::peers::Peer;
use testbed::program::qmqpd;
use testbed::trials::Trials;

use super::site::{Site, free_address, request, send, text, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "limits::a_session_on_standard_input_that_cannot_be_is_z_and_111_at_once",
        &[],
        a_session_on_standard_input_that_cannot_be_is_z_and_111_at_once,
    );
    trials.add(
        "limits::a_session_on_standard_input_as_root_is_z_and_111_at_once",
        &[Peer::Root],
        a_session_on_standard_input_as_root_is_z_and_111_at_once,
    );
    trials.add(
        "limits::too_little_address_space_is_a_sentence_and_never_a_crash",
        &[],
        too_little_address_space_is_a_sentence_and_never_a_crash,
    );
    trials.add("limits::few_open_files_are_lived_with", &[], few_open_files_are_lived_with);
    trials.add(
        "limits::mail_filters_count_among_the_open_files",
        &[],
        mail_filters_count_among_the_open_files,
    );
}

/// A session on standard input under this shell's limit.
fn session(site: &Site, limit: &str, options: &str) -> Output {
    site.write("request", &text(&request()));
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{limit}; exec {} -S {options}", qmqpd())])
        .current_dir(site.directory.path());
    command.env("MAIL_CONFIG", site.path("etc")).env("QMQPD_STANDALONE", "yes").env("RUST_BACKTRACE", "0");
    command.stdin(File::open(site.path("request")).unwrap()).output().unwrap()
}

const REFUSAL: &str = "34:ZError: server configuration error,";

fn a_session_on_standard_input_that_cannot_be_is_z_and_111_at_once() {
    let site = Site::new();
    site.configure("qmqpd_authorized_clients = 127.0.0.1\n");
    let serve = site.serve(&["-c", "etc", "-o", &format!("qmqpd_listen={}", free_address())]);
    drop(serve);
    let began = std::time::Instant::now();
    let refused = ["-o qmqpd_timeout=never", "-o queue_directory=/nowhere"];
    for options in refused {
        assert_refused(&site, &format!("{}{options}", unprivileged(options)));
    }
    assert!(began.elapsed().as_secs() < 60, "a silent minute each: {:?}", began.elapsed());
    let fine = session(&site, "true", unprivileged("-"));
    assert!(text(&fine.stdout).contains(":KOk: queued as "), "{}", text(&fine.stderr));
}

fn assert_refused(site: &Site, options: &str) {
    let output = session(site, "true", options);
    assert_eq!(output.status.code(), Some(111), "{options}: {}", text(&output.stderr));
    assert_eq!(text(&output.stdout), REFUSAL, "{options}");
    assert!(text(&output.stderr).contains("error: "), "{options}: {}", text(&output.stderr));
}

/// Without -u it would have to serve as root.
fn a_session_on_standard_input_as_root_is_z_and_111_at_once() {
    let site = Site::new();
    site.configure("qmqpd_authorized_clients = 127.0.0.1\n");
    drop(site.serve(&["-c", "etc", "-o", &format!("qmqpd_listen={}", free_address())]));
    let began = std::time::Instant::now();
    assert_refused(&site, "");
    assert!(began.elapsed().as_secs() < 50, "a silent minute: {:?}", began.elapsed());
}

/// Where root serves, it becomes mail_owner.
fn unprivileged(options: &str) -> &'static str {
    if nix::unistd::Uid::effective().is_root() && !options.is_empty() { "-u " } else { "" }
}

fn too_little_address_space_is_a_sentence_and_never_a_crash() {
    let site = Site::new();
    site.configure("qmqpd_authorized_clients = 127.0.0.1\n");
    drop(site.serve(&["-c", "etc", "-o", &format!("qmqpd_listen={}", free_address())]));
    let mut outcomes = [0, 0];
    for kilobytes in (24_000..=408_000).step_by(24_000) {
        let output = session(&site, &format!("ulimit -v {kilobytes}"), unprivileged("-"));
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0) => {
                outcomes[1] += 1;
                assert!(text(&output.stdout).contains(":KOk: queued as "), "{kilobytes}: {said}");
            }
            Some(111) => {
                outcomes[0] += 1;
                assert_eq!(text(&output.stdout), REFUSAL, "{kilobytes}: {said}");
                assert!(said.contains("the limit on address space is "), "{kilobytes}: {said}");
                assert!(said.contains(" MB: raise it (ulimit -v, softlimit -a)"), "{kilobytes}: {said}");
            }
            other => panic!("{kilobytes}: {other:?} {:?}: {said}", output.status),
        }
    }
    assert!(outcomes[0] > 2 && outcomes[1] > 2, "refused and served: {outcomes:?}");
    let mut serve = Command::new("sh");
    let script = format!("ulimit -v 100000; exec {} serve -c etc", qmqpd());
    let refused = serve.args(["-c", &script]).current_dir(site.directory.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(69));
    assert!(
        text(&refused.stderr).contains("the limit on address space is 98 MB"),
        "{}",
        text(&refused.stderr)
    );
}

fn few_open_files_are_lived_with() {
    let site = Site::new();
    let address = free_address();
    site.configure(&format!("qmqpd_listen = {address}\nqmqpd_authorized_clients = 127.0.0.1\n"));
    for files in [100, 256, 1000] {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files} && exec {} serve -c etc", qmqpd());
        command.args(["-c", &script]).current_dir(site.directory.path());
        let server = site.start(command, &["-c", "etc"]);
        until("it runs", || server.status().contains(": running\n").then_some(()));
        assert!(send(address).starts_with("KOk: queued as "), "{files}: {}", server.log());
        let warning = format!("only {files} open files are allowed");
        assert!(server.log().contains(&warning), "{}", server.log());
        let reloaded = server.control("reload");
        assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
        assert!(send(address).starts_with("KOk: queued as "), "{files}: {}", server.log());
    }
}

/// Each filter is a socket more for each session: a limit that is enough without filters is too low with them.
fn mail_filters_count_among_the_open_files() {
    let site = Site::new();
    let address = free_address();
    let own = format!(
        "qmqpd_listen = {address}\nqmqpd_authorized_clients = 127.0.0.1\nqmqpd_connection_limit = 100\n"
    );
    let filters = "non_smtpd_milters = inet:127.0.0.1:1\nmilter_default_action = accept\n";
    for (filters, is_warned) in [("", false), (filters, true)] {
        site.configure(&format!("{own}{filters}"));
        let mut command = Command::new("sh");
        let script = format!("ulimit -n 1400 && exec {} serve -c etc", qmqpd());
        command.args(["-c", &script]).current_dir(site.directory.path());
        let server = site.start(command, &["-c", "etc"]);
        until("it runs", || server.status().contains(": running\n").then_some(()));
        assert!(send(address).starts_with("KOk: queued as "), "{}", server.log());
        let warning = "only 1400 open files are allowed, and qmqpd_connection_limit = 100 can need 1624";
        assert_eq!(server.log().contains(warning), is_warned, "{}", server.log());
        assert_eq!(server.log().contains("open files are allowed"), is_warned, "{}", server.log());
    }
}
