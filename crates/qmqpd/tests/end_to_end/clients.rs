//! Other people's clients.

use std::io::Write;
use std::process::{Command, Stdio};

use testbed::ours::{Instance, Setup};
use testbed::peers::{self, Peer};
use testbed::queue_file::QueueFile;
use testbed::trials::Trials;

pub(crate) fn add(trials: &mut Trials) {
    for (sessions, messages, bytes, recipients) in
        [(1, 5, 100, 1), (20, 400, 4096, 1), (50, 200, 1000, 3), (4, 8, 1_000_000, 1), (2, 4, 500, 5000)]
    {
        let name = format!("clients::qmqp_source_{sessions}_sessions_{bytes}_bytes_{recipients}_recipients");
        trials.add(&name, &[Peer::QmqpSource], move || qmqp_source(sessions, messages, bytes, recipients));
    }
    trials.add("clients::nullmailer", &[Peer::Nullmailer], nullmailer);
    trials.add("clients::nullmailer_hears_a_refusal", &[Peer::Nullmailer], nullmailer_refused);
}

/// Every message that the load generator got a `K` for is in the queue, whole.
fn qmqp_source(sessions: u32, messages: usize, bytes: usize, recipients: usize) {
    let server = Instance::start(&Setup::default());
    let status = peers::command("/usr/sbin/qmqp-source")
        .unwrap()
        .args(["-f", "source@sender.example", "-t", "sink@rcpt.example"])
        .args(["-s", &sessions.to_string(), "-m", &messages.to_string()])
        .args(["-l", &bytes.to_string(), "-r", &recipients.to_string()])
        .arg(server.address.to_string())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "qmqp-source: {status}; {}", server.log.all());
    let files: Vec<QueueFile> = server.queue.take().into_iter().map(Result::unwrap).collect();
    assert_eq!(files.len(), messages);
    for file in files {
        assert_eq!(file.sender(), Some(&b"source@sender.example"[..]));
        assert_eq!(file.recipients().count(), recipients);
        assert!(file.message().len() >= bytes, "{} bytes of {bytes}", file.message().len());
    }
    server.queue.wait_until_empty();
}

/// What nullmailer-send hands to its QMQP client: the sender, a recipient a line, an empty line, the message.
const QUEUED: &str =
    "alice@sender.example\nbob@rcpt.example\ncarol@rcpt.example\n\nSubject: null client\n\nhello\n";

/// Runs the client as nullmailer-send does: options on standard input, the message on descriptor 3.
fn run_nullmailer(server: &Instance) -> std::process::Output {
    let mut message = tempfile::NamedTempFile::new().unwrap();
    message.write_all(QUEUED.as_bytes()).unwrap();
    let mut options = tempfile::NamedTempFile::new().unwrap();
    write!(options, "host=127.0.0.1\nport={}\n", server.address.port()).unwrap();
    let client = peers::command("/usr/lib/nullmailer/qmqp").unwrap();
    Command::new("sh")
        .args(["-c", "exec \"$0\" 3<\"$1\""])
        .arg(client.get_program())
        .arg(message.path())
        .stdin(options.reopen().unwrap())
        .output()
        .unwrap()
}

fn nullmailer() {
    let server = Instance::start(&Setup::default());
    let output = run_nullmailer(&server);
    assert!(output.status.success(), "{output:?}");
    let files = server.queue.take();
    let [Ok(file)] = &files[..] else { panic!("in the queue: {files:?}") };
    assert_eq!(file.sender(), Some(&b"alice@sender.example"[..]));
    assert_eq!(
        file.recipients().collect::<Vec<_>>(),
        [b"bob@rcpt.example".as_slice(), b"carol@rcpt.example"]
    );
    assert!(file.message().ends_with(b"\n\nhello\n"));
}

/// The client's exit status tells nullmailer-send whether to try again.
fn nullmailer_refused() {
    let refuses = Setup { main_cf: vec!["qmqpd_authorized_clients =".to_owned()], ..Default::default() };
    let server = Instance::start(&refuses);
    let output = run_nullmailer(&server);
    assert!(!output.status.success(), "{output:?}");
    server.queue.wait_until_empty();
}
