//! Messages through Postfix's qmqpd and through ours in its place: accepted ones become the same queue file, refused ones
//! hear the same reply.

use std::path::Path;

use tempfile::TempDir;

use testbed::case::Case;
use testbed::client;
use testbed::drop_in::{self, Submit};
use testbed::ours;
use testbed::pair::{DROP_IN, Outcome, assert_same};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup, scratch};
use testbed::queue::directory;
use testbed::trials::Trials;

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    trials.add("mail::same_with_cleanup", &needs, || same(Submit::Postfix, "n - n - -"));
    trials.add("mail::same_with_cleanup_chroot", &needs, || same(Submit::Postfix, "n - y - -"));
    trials.add("mail::same_with_our_cleanup", &needs, || same(Submit::Local, "n - n - -"));
    trials.add("mail::same_with_our_cleanup_chroot", &needs, || same(Submit::Local, "n - y - -"));
    trials.add("mail::features_of_cleanup", &needs, features_of_cleanup);
    trials.add("mail::an_empty_jail_knows_names", &needs, empty_jail);
    trials.add("mail::standalone_hands_over_too", &needs, standalone);
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

/// Runs each case against a Postfix with its own qmqpd and one with ours.
fn compare(submit: Submit, columns: &'static str, main_cf: &[&str], cases: &[Case]) {
    let setup = |queue: &Path| Setup {
        main_cf: lines(main_cf),
        columns: Some(columns),
        queue: Some(queue.to_owned()),
        ..Default::default()
    };
    let queues = [furnished_queue(), furnished_queue()];
    let mut stock = Instance::start(&setup(queues[0].path()));
    let mut ours = drop_in::start(submit, &setup(queues[1].path()));
    let name = if submit == Submit::Postfix { DROP_IN } else { "ours" };
    for case in cases {
        let expected = Outcome::observe("Postfix", stock.address, &stock.queue, &mut stock.log, case);
        expected.check(&case.expect);
        let found = Outcome::observe(name, ours.address, &ours.queue, &mut ours.log, case);
        assert_same(&expected, &found, case.compare_end);
    }
}

/// A queue directory with the files that Debian puts into a jail, where Postfix's qmqpd looks for names.
fn furnished_queue() -> TempDir {
    let queue = scratch("jail");
    directory(&queue.path().join("etc"), 0o755);
    for name in ["hosts", "resolv.conf", "nsswitch.conf", "host.conf", "services"] {
        if let Ok(text) = std::fs::read(Path::new("/etc").join(name)) {
            std::fs::write(queue.path().join("etc").join(name), text).unwrap();
        }
    }
    queue
}

/// Ours reads them before it goes into the jail.
fn empty_jail() {
    let setup = Setup { columns: Some("n - y - -"), ..Default::default() };
    let server = drop_in::start(Submit::Postfix, &setup);
    assert!(!server.queue.path.join("etc").exists());
    server.log.all_with("connect from localhost[127.0.0.1]");
    let stock = Instance::start(&setup);
    stock.log.all_with("connect from unknown[127.0.0.1]");
}

fn same(submit: Submit, columns: &'static str) {
    let hops = b"Received: x\n".repeat(60);
    let mut large = b"Subject: large\nFrom: a@b.example\n\n".to_vec();
    large.extend(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".repeat(9_000_000 / 64));
    let recipients: Vec<Vec<u8>> =
        (0..30_000).map(|at| format!("subscriber{at}@list.example").into_bytes()).collect();
    let recipients: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
    let cases = [
        Case::content("plain", "Subject: x\nFrom: a@b.example\n\nhello\n"),
        Case::content("nothing", ""),
        Case::content("mailbox", "From a b\n>From c\n x\n"),
        Case::content("long_lines", [b"Subject: x\n\n".to_vec(), vec![b'x'; 5000]].concat()),
        Case::envelope("two", "a@b.example", &[b"c@d.example", b"e@f.example"]),
        Case::envelope("bounce", "", &[b"c@d.example"]),
        Case::envelope("quoted", "\"a b\"@c.example", &[b"\"d e\"@f.example"]),
        Case::envelope("verp", "list-@host.example-@[]", &[b"c@d.example"]),
        Case::envelope("no_verp", "list_@host.example-@[]", &[b"c@d.example"])
            .reply(r#"DError: Invalid VERP delimiters: \"_=\". Need two characters from \"-=+\""#),
        Case::envelope("nobody", "a@b.example", &[]).reply("DError: no recipients specified"),
        Case::content("hops", [&hops[..], b"\nx\n"].concat()).reply("DError: too many hops").any_end(),
        Case::content("large", &large),
        Case::content("too_large", large.repeat(10_240_000 / large.len() + 1).get(..10_230_000).unwrap())
            .reply("DError: message too large")
            .any_end(),
        Case::envelope("crowd", "list-@host.example-@[]", &recipients),
    ];
    compare(submit, columns, &[], &cases);
}

/// What only cleanup(8) can do is its own affair: the same line in main.cf is obeyed.
fn features_of_cleanup() {
    let main_cf = [
        "header_checks = regexp:{{/^Subject: no/ REJECT no thanks} {/^Subject: later/ REJECT 4.7.1 later} \
         {/^Subject: gone/ DISCARD gone} {/^Subject: wait/ HOLD wait} {/^Subject: mark/ PREPEND X-Mark: yes}}",
        "virtual_alias_maps = inline:{all@list.example={one@x.example,two@x.example}}",
        "always_bcc = archive@log.example",
        "content_filter = scan:[127.0.0.1]:10025",
    ];
    let subject = |word: &str| format!("Subject: {word}\nFrom: a@b.example\n\nx\n");
    let quiet = |case: Case| case.each(|outcome| assert_eq!(outcome.said(), "KOk: queued as QUEUE-ID"));
    let cases = [
        Case::content("reject", subject("no")).reply("DError: 5.7.1 no thanks"),
        Case::content("defer", subject("later")).reply("ZError: 4.7.1 later"),
        quiet(Case::content("discard", subject("gone"))),
        quiet(Case::content("hold", subject("wait"))),
        Case::content("prepend", subject("mark")),
        Case::envelope("alias", "a@b.example", &[b"all@list.example"]),
    ];
    compare(Submit::Postfix, "n - n - -", &main_cf, &cases);
    let no_checks = [main_cf.as_slice(), &["receive_override_options = no_header_body_checks"]].concat();
    let no_mappings = [main_cf.as_slice(), &["receive_override_options = no_address_mappings"]].concat();
    compare(Submit::Postfix, "n - n - -", &no_checks, &[Case::content("unchecked", subject("no"))]);
    let alias = Case::envelope("unmapped", "a@b.example", &[b"all@list.example"]);
    compare(Submit::Postfix, "n - n - -", &no_mappings, &[alias]);
}

/// `qmqpd serve` beside a Postfix, in its queue.
fn standalone() {
    let mut postfix = Instance::start(&Setup::default());
    let server = ours::Instance::start(&ours::Setup {
        main_cf: lines(&["qmqpd_submit = postfix", "process_id_directory = pid/qmqpd"]),
        queue: Some(postfix.queue.path.clone()),
    });
    let said = client::send(server.address, b"Subject: x\n\nx\n", b"a@b.example", &[b"c@d.example"]);
    assert!(said.starts_with("KOk: queued as "), "{said}");
    let files = postfix.queue.take();
    assert_eq!(files.len(), 1);
    postfix.log.lines_until("Postfix's cleanup made the file", |line| {
        line.program == "cleanup" && line.text.contains(": message-id=")
    });
}
