//! Our own queue manager: what was accepted leaves again, is reported, or is tried again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::trials::Trials;
use testbed::{client, ours, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("deliverer::what_has_a_transport_is_delivered_and_removed", &[], delivered);
    trials.add("deliverer::a_failure_is_reported_to_the_sender", &[], reported);
    trials.add("deliverer::what_cannot_be_delivered_now_is_tried_again_and_given_up", &[], retried);
    trials.add("deliverer::mail_goes_out_by_smtp_whatever_is_killed", &[], smtp);
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

/// The process of a service.
fn process(server: &ours::Instance, service: &str) -> Option<Pid> {
    server.services().into_iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == service)
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
            let found = wait::until("the queue manager runs", || process(&server, "qmgr"));
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

/// An SMTP server that takes everything, and keeps the recipients of what it has answered with 250.
fn sink() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let account = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let account = Arc::clone(&account);
            // A session that breaks off has taken nothing.
            std::thread::spawn(move || drop(serve_smtp(&stream, &account)));
        }
    });
    (address, taken)
}

fn serve_smtp(stream: &TcpStream, account: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut out = stream;
    let mut recipients = Vec::new();
    let mut in_content = false;
    out.write_all(b"220 sink.example\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let reply: &[u8] = match line.as_str() {
            "." if in_content => {
                in_content = false;
                account.lock().unwrap().append(&mut recipients);
                b"250 2.0.0 taken\r\n"
            }
            _ if in_content => continue,
            "DATA" => {
                in_content = true;
                b"354 go on\r\n"
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            other => {
                recipients.extend(other.strip_prefix("RCPT TO:").map(str::to_owned));
                b"250 2.0.0 yes\r\n"
            }
        };
        out.write_all(reply)?;
    }
    Ok(())
}

/// Queue manager and agent are killed again and again while mail goes out by SMTP: the server has taken each recipient's mail,
/// and nothing stays.
fn smtp() {
    const MESSAGES: usize = 60;
    let (address, taken) = sink();
    let transport = format!("default_transport = smtp:[127.0.0.1]:{}", address.port());
    let pace = ["minimal_backoff_time = 1s", "maximal_backoff_time = 1s", "queue_run_delay = 1s"];
    let lines = [&[transport.as_str(), "service_throttle_time = 1s"], pace.as_slice()].concat();
    let server = server(&lines);
    for number in 0..MESSAGES {
        let recipient = format!("to{number}@rcpt.example");
        send(&server, "alice@sender.example", &[&recipient, "carol@rcpt.example"]);
        if number % 15 == 10 {
            let name = if number % 2 == 0 { "qmgr" } else { "smtp" };
            let found = wait::until("the process runs", || process(&server, name));
            kill(found, Signal::SIGKILL).unwrap();
        }
    }
    let queues = ["incoming", "active", "deferred", "corrupt"].map(|name| server.queue.path.join(name));
    wait::until("all messages leave the queue", || {
        queues.iter().all(|queue| testbed::queue::files_below(queue).is_empty()).then_some(())
    });
    let taken = taken.lock().unwrap();
    for number in 0..MESSAGES {
        let recipient = format!("<to{number}@rcpt.example>");
        assert!(taken.contains(&recipient), "{recipient} got nothing: {}", server.log.all());
    }
    assert!(taken.iter().filter(|recipient| *recipient == "<carol@rcpt.example>").count() >= MESSAGES);
}
