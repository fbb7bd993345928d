//! Queue files that we wrote, read by Postfix's tools and delivered by its queue manager.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use testbed::client::{self, request};
use testbed::mailboxes::Mailboxes;
use testbed::peers::{self, Peer};
use testbed::queue::directory;
use testbed::queue_file::QueueFile;
use testbed::trials::Trials;
use testbed::{ours, postfix, queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("delivery::postcat_reads_a_small_file", &[Peer::Postcat], || postcat(&small()));
    trials.add("delivery::postcat_reads_a_streamed_file", &[Peer::Postcat], || postcat(&large()));
    trials.add("delivery::qmgr_delivers_small", &[Peer::Postfix], || deliver(&small(), &[RECIPIENT], &[]));
    trials.add("delivery::qmgr_delivers_streamed", &[Peer::Postfix], || deliver(&large(), &[RECIPIENT], &[]));
    trials.add("delivery::qmgr_delivers_streamed_without_from", &[Peer::Postfix], || {
        let content = [b"Subject: no From\n\n".to_vec(), b"0123456789abcde\n".repeat(200_000)].concat();
        deliver(&content, &[RECIPIENT], &[]);
    });
    trials.add("delivery::qmgr_delivers_to_always_bcc", &[Peer::Postfix], || {
        deliver(&small(), &[RECIPIENT], &["always_bcc = archive@log.example"]);
    });
    trials.add("delivery::qmgr_delivers_streamed_to_always_bcc", &[Peer::Postfix], || {
        deliver(&large(), &[RECIPIENT, "carol@rcpt.example"], &["always_bcc = archive@log.example"]);
    });
    trials.add("delivery::qmgr_expands_verp", &[Peer::Postfix], verp);
    trials.add("delivery::qmgr_delivers_to_30000", &[Peer::Postfix], thirty_thousand);
    trials.add("delivery::qmgr_bounces_and_the_bounce_is_whole", &[Peer::Postfix], bounce);
    trials.add("delivery::the_queue_manager_is_woken", &[], woken);
    trials.add("delivery::pflogsumm_reads_the_log", &[Peer::Pflogsumm], pflogsumm);
}

const SENDER: &str = "alice@sender.example";
const RECIPIENT: &str = "bob@rcpt.example";

fn small() -> Vec<u8> {
    b"From: alice@sender.example\nSubject: small\n\nhello\n.\nFrom here on\n".to_vec()
}

/// More than any buffer of the server holds.
fn large() -> Vec<u8> {
    let mut content = b"From: alice@sender.example\nSubject: large\n\n".to_vec();
    content.extend(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".repeat(50_000));
    content.extend(std::iter::repeat_n(b'x', 10_000));
    content.push(b'\n');
    content
}

fn send(server: &ours::Instance, content: &[u8], recipients: &[&str]) {
    let recipients: Vec<&[u8]> = recipients.iter().map(|recipient| recipient.as_bytes()).collect();
    let said = client::send(server.address, content, SENDER.as_bytes(), &recipients);
    assert!(said.starts_with("KOk: queued as "), "{said}");
}

/// Whether this is the message that a client sent: each of its header lines is there, and behind ours its body, byte for byte.
fn assert_is_what_was_sent(message: &[u8], sent: &[u8]) {
    let halves = |text: &[u8]| {
        let end = text.windows(2).position(|pair| pair == b"\n\n").expect("the end of the header");
        (String::from_utf8(text[..end].to_vec()).unwrap(), text[end..].to_vec())
    };
    let ((header, body), (sent_header, sent_body)) = (halves(message), halves(sent));
    for line in sent_header.lines() {
        assert!(header.lines().any(|other| other == line), "no {line:?} in {header}");
    }
    let (bytes, sent_bytes) = (body.len(), sent_body.len());
    assert!(body == sent_body, "a body of {bytes} bytes is not that of {sent_bytes} which was sent");
}

/// postcat prints envelope and message; the message must be what was sent, and what we read in the file ourselves.
fn postcat(content: &[u8]) {
    let server = ours::Instance::start(&ours::Setup::default());
    send(&server, content, &[RECIPIENT, "carol@rcpt.example"]);
    let path = &server.queue.committed()[0];
    let postcat = |options: &str| {
        let output = peers::command("/usr/sbin/postcat")
            .unwrap()
            .arg("-c")
            .arg(&server.config)
            .arg(options)
            .arg(path)
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let envelope = String::from_utf8(postcat("-e")).unwrap();
    for part in [
        format!("sender: {SENDER}"),
        format!("recipient: {RECIPIENT}"),
        "recipient: carol@rcpt.example".into(),
    ] {
        assert!(envelope.contains(&part), "no {part:?} in {envelope}");
    }
    let message = QueueFile::read(path).unwrap().message();
    assert!(postcat("-bh") == message, "postcat shows another message than the file holds");
    assert_is_what_was_sent(&message, content);
}

/// A Postfix that delivers everything in `queue` into these mailboxes.
fn postfix_with(boxes: &Mailboxes, queue: PathBuf, main_cf: &[String]) -> postfix::Instance {
    postfix::Instance::start(&postfix::Setup { queue: Some(queue), ..boxes.setup(main_cf) })
}

/// Writes with ours, then delivers with Postfix from the same queue directory.
fn deliver(content: &[u8], recipients: &[&str], settings: &[&str]) {
    let place = postfix::scratch("delivery");
    let queue_path = place.path().join("queue");
    let main_cf: Vec<String> = settings.iter().map(|line| (*line).to_owned()).collect();
    let setup = ours::Setup { main_cf: main_cf.clone(), queue: Some(queue_path.clone()) };
    let mut server = ours::Instance::start(&setup);
    send(&server, content, recipients);
    server.stop();
    let file = QueueFile::read(&server.queue.committed()[0]).unwrap();
    let message = file.message();
    assert_is_what_was_sent(&message, content);

    let boxes = Mailboxes::new(place.path());
    let _postfix = postfix_with(&boxes, queue_path, &main_cf);
    let delivered = boxes.wait_for(file.recipients().count());
    let mut expected: Vec<String> =
        file.recipients().map(|to| format!("{SENDER}:{}", String::from_utf8_lossy(to))).collect();
    let mut names: Vec<String> = delivered.iter().map(|(name, _)| name.clone()).collect();
    expected.sort();
    names.sort();
    assert_eq!(names, expected);
    for (name, text) in &delivered {
        assert!(
            *text == message,
            "{name} differs from the queue file ({} and {} bytes)",
            text.len(),
            message.len()
        );
    }
}

/// The bounce address of each recipient carries the recipient.
fn verp() {
    let place = postfix::scratch("verp");
    let queue_path = place.path().join("queue");
    let mut server = ours::Instance::start(&ours::Setup { main_cf: vec![], queue: Some(queue_path.clone()) });
    let said = client::send(
        server.address,
        &small(),
        b"list-@sender.example-@[]",
        &[b"bob@rcpt.example", b"c@rcpt.example"],
    );
    assert!(said.starts_with('K'), "{said}");
    server.stop();
    let boxes = Mailboxes::new(place.path());
    let _postfix = postfix_with(&boxes, queue_path, &[]);
    let mut names: Vec<String> = boxes.wait_for(2).into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "list-bob=rcpt.example@sender.example:bob@rcpt.example",
            "list-c=rcpt.example@sender.example:c@rcpt.example"
        ]
    );
}

/// One message to thirty thousand recipients: the queue manager reads them in several batches.
fn thirty_thousand() {
    const RECIPIENTS: usize = 30_000;
    let place = postfix::scratch("many");
    let queue_path = place.path().join("queue");
    let mut server = ours::Instance::start(&ours::Setup { main_cf: vec![], queue: Some(queue_path.clone()) });
    let recipients: Vec<Vec<u8>> =
        (0..RECIPIENTS).map(|i| format!("u{i}@rcpt.example").into_bytes()).collect();
    let slices: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
    let said = client::send(server.address, &small(), SENDER.as_bytes(), &slices);
    assert!(said.starts_with('K'), "{said}");
    server.stop();
    let file = QueueFile::read(&server.queue.committed()[0]).unwrap();
    assert_eq!(file.recipients().count(), RECIPIENTS);
    let postfix = postfix::Instance::start(&postfix::Setup {
        main_cf: vec!["default_transport = discard".to_owned()],
        master_cf: String::new(),
        delivers: true,
        queue: Some(queue_path.clone()),
        ..Default::default()
    });
    let active = queue::Queue { path: queue_path };
    wait::until("the queue manager has done with the message", || {
        let removed = postfix.log.all().contains(": removed\n");
        (removed && active.incoming().is_empty()).then_some(())
    });
    let log = postfix.log.all();
    assert!(log.contains(&format!("nrcpt={RECIPIENTS} ")), "the queue manager counts other recipients");
    assert_eq!(log.matches("status=sent").count(), RECIPIENTS);
    assert!(!log.contains("warning:"), "{:?}", log.lines().find(|line| line.contains("warning:")));
}

/// A bounce quotes the message: bounce(8) reads our file in its own way.
fn bounce() {
    let place = postfix::scratch("bounce");
    let queue_path = place.path().join("queue");
    let mut server = ours::Instance::start(&ours::Setup { main_cf: vec![], queue: Some(queue_path.clone()) });
    send(&server, &large(), &["nobody@refused.example"]);
    server.stop();
    let boxes = Mailboxes::new(place.path());
    let settings = [
        "transport_maps = inline:{{refused.example = error:5.1.1 no such user}}",
        "bounce_size_limit = 100000000",
    ];
    let _postfix = postfix_with(&boxes, queue_path, &settings.map(str::to_owned));
    let delivered = boxes.wait_for(1);
    let (name, bytes) = &delivered[0];
    assert!(name.ends_with(&format!(":{SENDER}")), "{name}");
    let text = String::from_utf8_lossy(bytes);
    assert!(text.contains("Original-Recipient: rfc822;nobody@refused.example"), "{text:.2000}");
    // The last part is the message, between its own header and the boundary.
    let part = text.split("\nContent-Type: message/rfc822\n").nth(1).expect("a part with the message");
    let (_, message) = part.split_once("\n\n").unwrap();
    let (message, _) = message.rsplit_once("\n\n--").unwrap();
    assert_is_what_was_sent(format!("{message}\n").as_bytes(), &large());
}

/// One byte `W` on the queue manager's socket, after the file is there.
fn woken() {
    use std::io::Read;
    let place = postfix::scratch("woken");
    let queue_path = place.path().join("queue");
    // The socket must be there before the server starts: it may look for it from inside its jail.
    let _ = if nix::unistd::Uid::effective().is_root() {
        queue::Queue::make(&queue_path)
    } else {
        directory(&queue_path.join("public"), 0o755);
        queue::Queue { path: queue_path.clone() }
    };
    let socket = std::os::unix::net::UnixListener::bind(queue_path.join("public/qmgr")).unwrap();
    fs::set_permissions(queue_path.join("public/qmgr"), fs::Permissions::from_mode(0o666)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let server = ours::Instance::start(&ours::Setup { main_cf: vec![], queue: Some(queue_path) });
    send(&server, &small(), &[RECIPIENT]);
    let (mut wake, _) = wait::until("the queue manager is woken", || socket.accept().ok());
    wake.set_nonblocking(false).unwrap();
    let mut byte = [0];
    wake.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"W");
    assert_eq!(server.queue.committed().len(), 1);
}

/// The summary counts our warnings, and takes our sessions for no error.
fn pflogsumm() {
    let server = ours::Instance::start(&ours::Setup::default());
    for _ in 0..3 {
        send(&server, &small(), &[RECIPIENT]);
    }
    let bytes = request(&small(), SENDER.as_bytes(), &[]);
    client::run(server.address, &[client::Step::Send(bytes)]);
    let mut log = testbed::maillog::Maillog::new(&server.dir().join("maillog"));
    log.lines_until("the refusal", |line| line.text.contains("no recipients specified"));
    let program = peers::file("/usr/sbin/pflogsumm").unwrap();
    let output = Command::new("perl").arg(program).arg(server.dir().join("maillog")).output().unwrap();
    let summary = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let (_, warnings) = summary.split_once("\nWarnings\n").expect("a section of warnings");
    assert!(warnings.contains("qmqpd (total: 1)"), "{summary}");
    assert!(summary.contains("\nFatal Errors: none"), "{summary}");
}
