//! `qmqpctl queue` beside a running Postfix, and with the journal of a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use testbed::client;
use testbed::peers::{Peer, qmqpctl};
use testbed::trials::Trials;
use testbed::{ours, postfix, wait};

pub(crate) fn add(trials: &mut Trials) {
    let beside = [Peer::Postfix, Peer::Qmqpctl];
    trials.add("queue::the_list_is_that_of_postqueue", &beside, the_list_is_that_of_postqueue);
    trials.add("queue::each_verb_beside_postfix", &beside, each_verb_beside_postfix);
    trials.add(
        "queue::a_message_goes_out_and_comes_in_again",
        &beside,
        a_message_goes_out_and_comes_in_again,
    );
    trials.add("queue::what_is_wrong_is_told_by_the_exit_status", &beside, what_is_wrong_is_told);
    trials.add(
        "queue::what_was_deleted_does_not_come_back_after_a_power_cut",
        &[Peer::Root, Peer::Qmqpctl],
        what_was_deleted_does_not_come_back,
    );
}

/// A Postfix that defers all mail to grey.example, throws the rest away, and has pickup(8) and showq(8).
fn deferring() -> postfix::Instance {
    postfix::Instance::start(&postfix::Setup {
        main_cf: vec![
            "transport_maps = inline:{{grey.example=retry:4.2.0 come back: later}, {slow.example=retry:4.3.0 too slow}}"
                .to_owned(),
            "default_transport = discard".to_owned(),
        ],
        master_cf: "pickup unix n - n 60 1 pickup\nshowq unix n - n - - showq\n".to_owned(),
        delivers: true,
        ..postfix::Setup::default()
    })
}

fn run(config: &Path, arguments: &[&str], input: &str) -> Output {
    let (verb, rest) = arguments.split_first().unwrap();
    let mut child = Command::new(qmqpctl())
        .args(["queue", verb, "-c"])
        .arg(config)
        .args(rest)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The output of a command that must succeed.
fn ctl(config: &Path, arguments: &[&str]) -> String {
    let output = run(config, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn postqueue(config: &Path, option: &str) -> String {
    let mut command = Command::new("/usr/sbin/postqueue");
    let output = command.arg("-c").arg(config).arg(option).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn send(server: &postfix::Instance, sender: &str, recipients: &[&str]) -> String {
    let recipients: Vec<&[u8]> = recipients.iter().map(|recipient| recipient.as_bytes()).collect();
    let said = client::send(server.address, b"Subject: x\n\nhello\n", sender.as_bytes(), &recipients);
    let id = said.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{said}"));
    id.trim_end_matches(',').to_owned()
}

/// Which queue each message is in.
fn places(config: &Path) -> BTreeMap<String, String> {
    let lines = ctl(config, &["list", "--json"]);
    let place = |line: &str| {
        let message: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        (text("queue_id"), text("queue_name"))
    };
    lines.lines().map(place).collect()
}

fn wait_for(config: &Path, id: &str, queue: Option<&str>) {
    let what = format!("{id} is in {queue:?}");
    wait::until(&what, || (places(config).get(id).map(String::as_str) == queue).then_some(()));
}

fn the_list_is_that_of_postqueue() {
    let server = deferring();
    let config = &server.config;
    let ids = [
        send(
            &server,
            "alice@sender.example",
            &["bob@grey.example", "x@discard.example", "carol@grey.example"],
        ),
        send(&server, "", &["dave@grey.example", "eve@slow.example"]),
        send(&server, "held@sender.example", &["erin@grey.example"]),
    ];
    for id in &ids {
        wait_for(config, id, Some("deferred"));
    }
    ctl(config, &["hold", &ids[2]]);
    // As JSON: what both have is the same.
    let theirs = postqueue(config, "-j");
    let ours = ctl(config, &["list", "--json"]);
    let messages = |text: &str| -> BTreeMap<String, Value> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|message| (message["queue_id"].as_str().unwrap().to_owned(), message)).collect()
    };
    let (theirs, mut ours) = (messages(&theirs), messages(&ours));
    assert_eq!(theirs.len(), 3, "{theirs:?}");
    for (id, message) in &mut ours {
        let message = message.as_object_mut().unwrap();
        message.remove("recipients_left").unwrap();
        let next = message.remove("next_attempt");
        assert_eq!(next.is_some(), message["queue_name"] == "deferred", "{id}");
        if message["sender"] == "" {
            message.insert("sender".to_owned(), "MAILER-DAEMON".into());
        }
    }
    assert_eq!(ours, theirs);
    // As text: the same blocks.
    let blocks = |text: String| -> BTreeSet<String> {
        text.split("\n\n").map(|block| block.trim_end().to_owned()).map(without_head).collect()
    };
    assert_eq!(blocks(ctl(config, &["list", "--mailq"])), blocks(postqueue(config, "-p")));
    // As qshape sums it up.
    let qshape =
        Command::new("/usr/sbin/qshape").arg("-c").arg(config).args(["deferred", "hold"]).output().unwrap();
    assert!(qshape.status.success(), "{qshape:?}");
    let cells = |text: &str| -> BTreeSet<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let mut summary = ctl(config, &["summary"]);
    assert!(summary.ends_with(&format!("3 messages in {}\n", server.queue.path.display())), "{summary}");
    summary.truncate(summary.trim_end().rfind('\n').unwrap());
    assert_eq!(cells(&summary), cells(&String::from_utf8(qshape.stdout).unwrap()));
    let summary = ctl(config, &["summary", "--by", "reason", "--json"]);
    assert!(summary.contains("{\"reason\": \"come back: later\", \"count\": 4, "), "{summary}");
    // Filters, sorting, limits.
    let listed = |arguments: &[&str]| -> Vec<String> {
        let text = ctl(config, &[&["list", "--json"], arguments].concat());
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["queue_id"].as_str().unwrap().to_owned()
        };
        text.lines().map(id).collect()
    };
    assert_eq!(listed(&["--reason", "TOO slow"]), [ids[1].clone()]);
    assert_eq!(listed(&["--sender", "<>"]), [ids[1].clone()]);
    assert_eq!(listed(&["--state", "hold", "--domain", "grey.example"]), [ids[2].clone()]);
    assert_eq!(listed(&["--sort", "arrival", "--limit", "2"]), ids[..2]);
    assert_eq!(listed(&["--sort", "recipients", "--reverse", "--recipient", "*@grey.example"]).len(), 3);
    let text = ctl(config, &["list", "--recipient", "bob@*"]);
    assert!(text.contains("(come back: later)") && text.contains("1 message, 2 recipients left"), "{text}");
}

/// The head stands before the first message, whichever that is.
fn without_head(block: String) -> String {
    match block.split_once('\n') {
        Some((head, rest)) if head.starts_with('-') => rest.to_owned(),
        _ => block,
    }
}

fn each_verb_beside_postfix() {
    let server = deferring();
    let config = &server.config;
    let [kept, deleted, requeued, expired, flushed] = ["kept", "deleted", "requeued", "expired", "flushed"]
        .map(|sender| {
            let id = send(&server, &format!("{sender}@sender.example"), &["bob@grey.example"]);
            wait_for(config, &id, Some("deferred"));
            id
        });
    assert!(ctl(config, &["delete", "-n", "--sender", "deleted@*"]).contains("1 message would be removed"));
    assert_eq!(places(config).len(), 5);
    let said = ctl(config, &["delete", "--sender", "deleted@*"]);
    assert_eq!(said, format!("{deleted}: removed\n1 message removed\n"));
    assert!(!places(config).contains_key(&deleted) && !postqueue(config, "-p").contains(&deleted));

    // From standard input, as postqueue writes it.
    let jsonl = postqueue(config, "-j");
    let held = run(config, &["hold", "-", "--sender", "kept@sender.example"], &jsonl);
    assert!(held.status.success(), "{held:?}");
    let said = String::from_utf8(held.stdout).unwrap();
    assert_eq!(
        said,
        format!("{kept}: placed on hold\n1 message placed on hold; 3 left out by the filters\n")
    );
    assert!(postqueue(config, "-p").contains(&format!("{kept}!")));
    ctl(config, &["release", &kept]);
    assert_eq!(places(config)[&kept], "deferred");

    // pickup(8) makes a new message of it, and the old one is gone.
    ctl(config, &["requeue", &requeued]);
    wait_for(config, &requeued, None);
    let anew = |line: &str| line.contains("requeued@sender.example");
    wait::until("it comes back under a new ID", || {
        ctl(config, &["list", "--state", "deferred"]).lines().any(anew).then_some(())
    });

    // The queue manager tells the sender, whose domain is discarded.
    ctl(config, &["expire", &expired]);
    wait_for(config, &expired, None);
    let told =
        |log: &str| log.contains(&format!("{expired}: from=<expired@sender.example>, status=force-expired"));
    assert!(told(&server.log.all()), "{}", server.log.all());

    // The queue manager tries it once more.
    let attempts = |id: &str| server.log.all().matches(&format!("{id}: to=<bob@grey.example>")).count();
    let before = attempts(&flushed);
    ctl(config, &["flush", &flushed]);
    wait::until("another attempt", || (attempts(&flushed) > before).then_some(()));
    wait_for(config, &flushed, Some("deferred"));
    let before = attempts(&flushed);
    assert!(ctl(config, &["flush", "ALL", "--yes"]).contains("tries all deferred messages now"));
    wait::until("another attempt", || (attempts(&flushed) > before).then_some(()));

    // Nothing is left that is not the mail owner's, and Postfix has nothing to complain about.
    wait_for(config, &flushed, Some("deferred"));
    wait::until("the report of the expired message is gone", || (places(config).len() == 3).then_some(()));
    let said = ctl(config, &["delete", "ALL", "--yes", "-q"]);
    assert_eq!(said, "3 messages removed\n");
    assert_eq!(places(config).len(), 0);
    assert!(!server.log.all().contains("fatal:"), "{}", server.log.all());
}

fn a_message_goes_out_and_comes_in_again() {
    let server = deferring();
    let config = &server.config;
    let id = send(&server, "alice@sender.example", &["bob@grey.example", "x@discard.example"]);
    wait_for(config, &id, Some("deferred"));
    let message = ctl(config, &["export", &id]);
    // cleanup(8) has put its own headers before and behind those of the client.
    let is_whole = message.starts_with("Received: ") && message.ends_with("\n\nhello\n");
    assert!(is_whole && message.contains("\nSubject: x\n"), "{message}");
    let file = run(config, &["export", "--format", "queue-file", &id], "");
    assert!(file.status.success(), "{file:?}");
    let path = server.dir().join("exported");
    std::fs::write(&path, &file.stdout).unwrap();
    ctl(config, &["delete", &id]);
    let said = ctl(config, &["import", path.to_str().unwrap()]);
    let (new_id, words) = said.split_once(": ").unwrap();
    assert_eq!(words, "imported, 1 recipients left\n");
    // The queue manager takes it, and only the recipient who was left is tried.
    wait_for(config, new_id, Some("deferred"));
    let listed: Value = serde_json::from_str(&ctl(config, &["list", "--json"])).unwrap();
    assert_eq!(listed["recipients"][0]["address"], "bob@grey.example");
    assert_eq!(listed["sender"], "alice@sender.example");
    assert!(!server.log.all().contains(&format!("{new_id}: to=<x@discard.example>")));
    // A file that is cut off is refused, with words.
    std::fs::write(&path, &file.stdout[..file.stdout.len() - 2]).unwrap();
    let refused = run(config, &["import", path.to_str().unwrap()], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exported: missing end record"), "{refused:?}");
}

fn what_is_wrong_is_told() {
    let server = deferring();
    let config = &server.config;
    let status = |arguments: &[&str]| {
        let output = run(config, arguments, "");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), words)
    };
    for (arguments, code, words) in [
        (&["delete"][..], 64, "name messages: by queue ID"),
        (&["delete", "../etc"], 64, "is not a queue ID"),
        (&["delete", "ALL"], 64, "without one, give --yes"),
        (&["hold", "ALL", "ABC123"], 64, "ALL stands alone"),
        (&["delete", "--older", "5y"], 64, "write a number with s, m, h, d or w"),
        (&["delete", "--sender", "nobody@x"], 1, "no message in "),
        (&["list", "--sender", "nobody@x"], 1, "no message matches the filters"),
        (&["delete", "ABC123"], 1, ""),
    ] {
        let (found, said) = status(arguments);
        assert!(found == code && said.contains(words), "{arguments:?}: {found}, {said}");
    }
    // What is gone is counted, and what is there is done.
    let id = send(&server, "a@sender.example", &["bob@grey.example"]);
    wait_for(config, &id, Some("deferred"));
    let said = ctl(config, &["delete", "ABC123", &id]);
    assert!(said.ends_with("1 message removed; 1 not in the queue (any more)\n"), "{said}");
}

fn what_was_deleted_does_not_come_back() {
    let setup = ours::Setup {
        // The journal answers for all of it.
        main_cf: ["qmqpd_commit = journal", "qmqpd_journal_checkpoint_delay = 1h"]
            .map(str::to_owned)
            .to_vec(),
        queue: None,
    };
    let scratch = postfix::scratch("journal");
    let setup = ours::Setup { queue: Some(scratch.path().join("queue")), ..setup };
    let server = ours::Instance::start(&setup);
    let accept = || {
        let said = client::send(server.address, b"\nx\n", b"a@b.example", &[b"c@d.example"]);
        said.strip_prefix("KOk: queued as ")
            .unwrap_or_else(|| panic!("{said}"))
            .trim_end_matches(',')
            .to_owned()
    };
    let [kept, deleted, lost] = [accept(), accept(), accept()];
    let said = ctl(&server.config, &["delete", &deleted]);
    assert!(said.starts_with(&format!("{deleted}: removed\n")), "{said}");
    // What no program of ours removes comes back: the journal is what this test is about.
    std::fs::remove_file(server.queue.path.join("incoming").join(&lost)).unwrap();
    for pid in server.services().into_iter().chain([server.pid()]) {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    drop(server);
    let boot_id = scratch.path().join("boot_id");
    std::fs::write(&boot_id, "00000000-0000-0000-0000-000000000002\n").unwrap();
    let server = ours::Instance::start_after_boot(&setup, &boot_id);
    let found = wait::until("the journals are settled", || {
        let journals = std::fs::read_dir(server.queue.path.join("journal")).unwrap();
        let names = journals.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let is_settled = names.filter(|name| name.ends_with(".v2")).count() == 0;
        is_settled.then(|| places(&server.config))
    });
    assert!(found.contains_key(&kept) && found.contains_key(&lost), "{found:?}");
    assert!(!found.contains_key(&deleted), "it came back: {found:?}");
}
