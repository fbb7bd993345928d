//! Our own queue manager: what was accepted leaves again, is reported, or is tried again.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::trials::Trials;
use testbed::{client, ours, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("deliverer::what_has_a_transport_is_delivered_and_removed", &[], delivered);
    trials.add("deliverer::a_failure_is_reported_to_the_sender", &[], reported);
    trials.add("deliverer::what_cannot_be_delivered_now_is_tried_again_and_given_up", &[], retried);
    trials.add("deliverer::beside_a_postfix_it_does_not_start", &[], beside_postfix);
    trials.add("deliverer::each_message_survives_the_death_of_the_queue_manager", &[], killed);
}

fn server(lines: &[&str]) -> ours::Instance {
    let common = ["qmqpd_deliver = yes", "default_transport = discard:thrown away"];
    let main_cf = common.iter().chain(lines).map(|line| (*line).to_owned()).collect();
    ours::Instance::start(&ours::Setup { main_cf, ..ours::Setup::default() })
}

/// Sends a message, and returns its queue ID.
fn send(server: &ours::Instance, sender: &str, recipients: &[&str]) -> String {
    let recipients: Vec<&[u8]> = recipients.iter().map(|recipient| recipient.as_bytes()).collect();
    let said = client::send(server.address, b"Subject: x\n\nhello\n", sender.as_bytes(), &recipients);
    said.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn wait_for(server: &ours::Instance, words: &str) {
    wait::until(words, || server.log.all().contains(words).then_some(()));
}

fn delivered() {
    let server = server(&[]);
    let queue_id = send(&server, "alice@sender.example", &["bob@rcpt.example", "carol@rcpt.example"]);
    wait_for(&server, &format!("{queue_id}: removed"));
    let log = server.log.all();
    assert!(log.contains(&format!("{queue_id}: from=<alice@sender.example>, size=")), "{log}");
    assert!(log.contains(", nrcpt=2 (queue active)"), "{log}");
    for recipient in ["bob", "carol"] {
        let line = log.lines().find(|line| line.contains(&format!("{queue_id}: to=<{recipient}@")));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("/discard[") && line.contains(", relay=none, delay="), "{line}");
        assert!(line.ends_with(", dsn=2.0.0, status=sent (thrown away)"), "{line}");
    }
    server.queue.wait_until_empty();
}

/// The report is a message without sender, goes to the sender, and is delivered in its turn; its own failure is not reported.
fn reported() {
    let server = server(&[
        "transport_maps = inline:{ {bad.example=error:5.1.1 no such user here}, {gone.example=error:gone} }",
    ]);
    let queue_id = send(&server, "alice@sender.example", &["bob@bad.example", "carol@rcpt.example"]);
    wait_for(&server, &format!("{queue_id}: removed"));
    let notified = format!("{queue_id}: sender non-delivery notification: ");
    let log = server.log.all();
    let report = log.lines().find_map(|line| line.split_once(&notified)).map(|(_, report)| report.to_owned());
    let report = report.unwrap_or_else(|| panic!("{log}"));
    assert!(log.contains("dsn=5.1.1, status=bounced (no such user here)"), "{log}");
    wait_for(&server, &format!("{report}: removed"));
    let log = server.log.all();
    assert!(log.contains(&format!("{report}: from=<>, size=")), "{log}");
    assert!(log.contains(&format!("{report}: to=<alice@sender.example>, relay=none")), "{log}");
    // A report that cannot be delivered ends there.
    let queue_id = send(&server, "alice@gone.example", &["bob@bad.example"]);
    wait_for(&server, &format!("{queue_id}: removed"));
    let log = server.log.all();
    let notified = format!("{queue_id}: sender non-delivery notification: ");
    let (_, report) = log.lines().find_map(|line| line.split_once(&notified)).unwrap();
    wait_for(&server, &format!("{report}: removed"));
    assert!(!server.log.all().contains(&format!("{report}: sender non-delivery")), "a report about a report");
    server.queue.wait_until_empty();
}

fn retried() {
    let server = server(&[
        "transport_maps = inline:{ {later.example=retry:4.2.1 come back} }",
        "minimal_backoff_time = 1s",
        "maximal_backoff_time = 1s",
        "queue_run_delay = 1s",
        "maximal_queue_lifetime = 5s",
    ]);
    let queue_id = send(&server, "alice@sender.example", &["bob@later.example", "carol@rcpt.example"]);
    wait_for(
        &server,
        &format!("{queue_id}: from=<alice@sender.example>, status=expired, returned to sender"),
    );
    wait_for(&server, &format!("{queue_id}: removed"));
    let log = server.log.all();
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert!(count(&format!("{queue_id}: to=<bob@later.example>")) > 1, "tried once only: {log}");
    assert_eq!(count(&format!("{queue_id}: to=<carol@rcpt.example>")), 1, "delivered twice: {log}");
    assert!(log.contains("dsn=4.2.1, status=deferred (come back)"), "{log}");
    assert_eq!(count(&format!("{queue_id}: sender non-delivery notification")), 1, "{log}");
    server.queue.wait_until_empty();
}

/// The queue manager's process.
fn queue_manager(server: &ours::Instance) -> Option<Pid> {
    server.services().into_iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "qmgr")
    })
}

/// Whatever is under way when the process is killed: each message leaves the queue. (Lines that wait for the log die with the
/// process, so that the log is no account.)
fn killed() {
    const MESSAGES: usize = 60;
    let server = server(&["service_throttle_time = 1s"]);
    for number in 0..MESSAGES {
        let recipient = format!("to{number}@rcpt.example");
        send(&server, "alice@sender.example", &[&recipient, "carol@rcpt.example"]);
        if number % 20 == 10 {
            let found = wait::until("the queue manager runs", || queue_manager(&server));
            kill(found, Signal::SIGKILL).unwrap();
        }
    }
    let queues = ["incoming", "active", "deferred", "corrupt"].map(|name| server.queue.path.join(name));
    wait::until("all messages leave the queue", || {
        queues.iter().all(|queue| testbed::queue::files_below(queue).is_empty()).then_some(())
    });
    let log = server.log.all();
    assert!(!log.contains("cannot "), "{log}");
}

/// A lock on `pid/master.pid`, as Postfix's master has it while it runs; ours keeps that master from starting.
fn beside_postfix() {
    use rustix::fs::{FlockOperation, flock};
    let mut server = server(&[]);
    let queue_id = send(&server, "alice@sender.example", &["bob@rcpt.example"]);
    wait_for(&server, &format!("{queue_id}: removed"));
    let path = server.queue.path.join("pid/master.pid");
    let file = fs::File::open(&path).unwrap();
    assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(), "Postfix could start");
    server.stop();
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("the lock is free");
    let said =
        Command::new(testbed::program::qmqpd()).arg("serve").arg("-c").arg(&server.config).output().unwrap();
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned() + &server.log.all();
    assert!(said.contains("a Postfix runs on this queue"), "{said}");
}
