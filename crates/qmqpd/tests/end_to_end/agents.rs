//! The agents that become another user, behind our own queue manager: a program, a content filter and back, a Maildir.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use testbed::peers::{self, Peer};
use testbed::queue::{directory, files_below};
use testbed::trials::Trials;
use testbed::{client, ours, ports, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("agents::a_program_gets_the_mail_as_its_user", &[], program);
    trials.add("agents::mail_goes_through_a_filter_and_back", &[Peer::QmqpSend], filter);
    trials.add("agents::mail_arrives_in_a_maildir", &[], maildir);
    trials.add("agents::check_says_what_is_wrong_with_a_pipe", &[], checked);
    trials.add("agents::check_rejects_what_the_agents_cannot_keep", &[], checked_security);
}

const QMGR: &str = "qmgr unix n y n - 1 qmgr";
const COLUMNS: &str = "n y n - -";

/// Another user than that of the server, where there can be one.
fn user() -> User {
    let own = Uid::effective();
    if own.is_root() {
        User::from_name("nobody").unwrap().unwrap()
    } else {
        User::from_uid(own).unwrap().unwrap()
    }
}

fn setup(main_cf: &[&str]) -> ours::Setup {
    let lines = ["qmqpd_deliver = yes", "default_transport = discard:thrown away"];
    let lines = lines.iter().chain(main_cf).map(|line| (*line).to_owned());
    ours::Setup { main_cf: lines.collect(), ..ours::Setup::default() }
}

fn send(server: &ours::Instance, recipient: &str) -> String {
    let recipients: &[&[u8]] = &[recipient.as_bytes()];
    let said = client::send(server.address, b"Subject: x\n\nhello\n", b"alice@sender.example", recipients);
    said.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn wait_for(server: &ours::Instance, words: &str) -> String {
    wait::until(words, || {
        let log = server.log.all();
        log.lines().find(|line| line.contains(words)).map(str::to_owned)
    })
}

fn program() {
    let place = tempfile::tempdir().unwrap();
    directory(place.path(), 0o777);
    let got = place.path().join("got");
    let line = format!(
        "save unix - n n - 10 pipe flags=DR user={} argv=/bin/sh -c {{cat > $$0; echo thanks}} {} ${{recipient}}",
        user().name,
        got.display()
    );
    let main_cf = ["transport_maps = inline:{ rcpt.example=save: }"];
    let server = ours::Instance::start_with_lines(&setup(&main_cf), COLUMNS, &[QMGR.to_owned(), line]);
    let queue_id = send(&server, "bob@rcpt.example");
    let line = wait_for(&server, &format!("{queue_id}: to=<bob@rcpt.example>, relay=save, delay="));
    assert!(line.contains("/pipe["), "{line}");
    assert!(line.ends_with(", dsn=2.0.0, status=sent (delivered via save service (thanks))"), "{line}");
    wait_for(&server, &format!("{queue_id}: removed"));
    let text = fs::read_to_string(&got).unwrap();
    let begin = "Return-Path: <alice@sender.example>\nDelivered-To: bob@rcpt.example\nReceived: ";
    assert!(text.starts_with(begin) && text.ends_with("\n\nhello\n"), "{text}");
    assert_eq!(got.metadata().unwrap().uid(), user().uid.as_raw());
}

fn filter() {
    let back = ports::free();
    let place = tempfile::tempdir().unwrap();
    directory(place.path(), 0o755);
    // The user of the filter need not see the directory that we were built in.
    let program = place.path().join("sendmail");
    fs::copy(peers::qmqp_send(), &program).unwrap();
    let script = format!(
        "sender=$$1; shift; sed s/hello/scanned/ | {} -G -i -s 127.0.0.1:{back} -f \"$$sender\" -- \"$$@\"",
        program.display()
    );
    let name = user().name;
    let lines = [
        QMGR.to_owned(),
        format!("127.0.0.1:{back} inet n y n - - qmqpd -o content_filter="),
        format!(
            "scan unix - n n - 10 pipe flags=q user={name} null_sender= argv=/bin/sh -c {{ {script} }} x ${{sender}} ${{recipient}}"
        ),
    ];
    let server = ours::Instance::start_with_lines(&setup(&["content_filter = scan:dummy"]), COLUMNS, &lines);
    let first = send(&server, "bob@rcpt.example");
    let line = wait_for(&server, &format!("{first}: to=<bob@rcpt.example>, relay=scan, "));
    assert!(line.ends_with("status=sent (delivered via scan service)"), "{line}");
    wait_for(&server, &format!("{first}: removed"));
    let line = wait_for(&server, "status=sent (thrown away)");
    assert!(line.contains(": to=<bob@rcpt.example>, relay=none, ") && !line.contains(&first), "{line}");
    server.queue.wait_until_empty();
}

fn mails(below: &Path) -> Vec<PathBuf> {
    files_below(below)
        .into_iter()
        .filter(|path| path.parent().is_some_and(|above| above.ends_with("new")))
        .collect()
}

fn maildir() {
    let base = tempfile::tempdir().unwrap();
    let user = user();
    nix::unistd::chown(base.path(), Some(user.uid), Some(user.gid)).unwrap();
    let main_cf = [
        "virtual_mailbox_domains = v.example".to_owned(),
        format!("virtual_mailbox_base = {}", base.path().display()),
        "virtual_mailbox_maps = inline:{ bob@v.example=v.example/bob/ }".to_owned(),
        format!("virtual_uid_maps = static:{}", user.uid),
        format!("virtual_gid_maps = static:{}", user.gid),
        "virtual_minimum_uid = 1".to_owned(),
        "recipient_delimiter = +".to_owned(),
    ];
    let main_cf: Vec<&str> = main_cf.iter().map(String::as_str).collect();
    let server = ours::Instance::start(&setup(&main_cf));
    let queue_id = send(&server, "bob+x@v.example");
    let line = wait_for(&server, &format!("{queue_id}: to=<bob+x@v.example>, relay=virtual, delay="));
    assert!(line.contains("/virtual["), "{line}");
    assert!(line.ends_with(", dsn=2.0.0, status=sent (delivered to maildir)"), "{line}");
    wait_for(&server, &format!("{queue_id}: removed"));
    let found = mails(base.path());
    let [mail] = found.as_slice() else { panic!("one mail: {found:?}") };
    assert!(mail.starts_with(base.path().join("v.example/bob/new")), "{mail:?}");
    assert_eq!(mail.metadata().unwrap().uid(), user.uid.as_raw());
    let text = fs::read_to_string(mail).unwrap();
    assert!(text.contains("\nDelivered-To: bob+x@v.example\nReceived: "), "{text}");
    let queue_id = send(&server, "no@v.example");
    let line = wait_for(&server, &format!("{queue_id}: to=<no@v.example>, relay=virtual, "));
    assert!(line.ends_with("dsn=5.1.1, status=bounced (unknown user: \"no@v.example\")"), "{line}");
    wait_for(&server, &format!("{queue_id}: sender non-delivery notification: "));
}

/// What would go out with less than main.cf asks for does not go out.
fn checked_security() {
    for (line, words) in [
        ("smtp_tls_security_level = encrypt", "smtp_tls_security_level = encrypt: the delivery agents"),
        ("lmtp_tls_security_level = dane", "lmtp_tls_security_level = dane: the delivery agents"),
        ("smtp_tls_policy_maps = inline:{{a.example=encrypt}}", "smtp_tls_policy_maps = inline:"),
        ("smtp_sasl_auth_enable = yes", "smtp_sasl_auth_enable = yes: the delivery agents"),
    ] {
        for (delivers, is_refused) in [("yes", true), ("no", false)] {
            let main_cf =
                format!("qmqpd_authorized_clients = 127.0.0.1\nqmqpd_deliver = {delivers}\n{line}\n");
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("main.cf"), main_cf).unwrap();
            let said = std::process::Command::new(testbed::program::qmqpd())
                .args(["check", "-c"])
                .arg(directory.path())
                .output()
                .unwrap();
            let text =
                String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
            assert_eq!(text.contains(words), is_refused, "{line}, {delivers}: {text}");
            assert!(!is_refused || said.status.code() == Some(78), "{line}: {text}");
        }
    }
}

fn checked() {
    let server = ours::Instance::start(&setup(&[]));
    for (line, words) in [
        ("scan unix - n n - 10 pipe argv=/bin/cat", "missing user= attribute"),
        ("scan unix - n n - 10 pipe user=root argv=/bin/cat", "specifies root privileges"),
        ("scan unix - n n - 10 pipe user=no-such-user argv=/bin/cat", "unknown username: no-such-user"),
        ("scan unix - n n - 10 pipe user=nobody flags=z argv=/bin/cat", "unknown flag: z"),
    ] {
        fs::write(server.config.join("master.cf"), format!("{QMGR}\n{line}\n")).unwrap();
        let said = std::process::Command::new(testbed::program::qmqpd())
            .args(["check", "-c"])
            .arg(&server.config)
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && text.contains(words), "{text}");
        assert!(text.contains("master.cf, line 2"), "{text}");
    }
}
