//! Other people's clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

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
    for (client, peer) in [("nullmailer", Peer::Nullmailer), ("qmqp_send", Peer::QmqpSend)] {
        trials.add(&format!("clients::{client}_hears_that_a_message_is_too_large"), &[peer], move || {
            too_large(peer, Line::Loopback);
        });
        trials.add(&format!("clients::{client}_hears_it_on_a_slow_line"), &[peer], move || {
            too_large(peer, Line::Slow);
        });
    }
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
    assert!(status.success(), "qmqp-source: {status}");
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
fn run_nullmailer(server: SocketAddr, queued: &[u8]) -> Output {
    let mut message = tempfile::NamedTempFile::new().unwrap();
    message.write_all(queued).unwrap();
    let mut options = tempfile::NamedTempFile::new().unwrap();
    write!(options, "host=127.0.0.1\nport={}\n", server.port()).unwrap();
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
    let output = run_nullmailer(server.address, QUEUED.as_bytes());
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
    let output = run_nullmailer(server.address, QUEUED.as_bytes());
    assert!(!output.status.success(), "{output:?}");
    server.queue.wait_until_empty();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// 40 MB, more than `qmqpd_drain_limit`.
    Loopback,
    /// 14 MB, for longer than `qmqpd_drain_timeout`.
    Slow,
}

/// A client that is not told so tries again for ever. Other clients lose the reply when the server closes while they still write.
fn too_large(client: Peer, line: Line) {
    let drain = match line {
        Line::Loopback => [].as_slice(),
        Line::Slow => &["qmqpd_drain_timeout = 2s", "qmqpd_drain_limit = 1000"],
    };
    let main_cf = drain.iter().map(|&line| line.to_owned()).collect();
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let (address, bytes) = match line {
        Line::Loopback => (server.address, 40_000_000),
        Line::Slow => (slow_line_to(server.address), 14_000_000),
    };
    let message = [b"Subject: large\n\n".to_vec(), b"all work and no play\n".repeat(bytes / 21)].concat();
    let (output, permanent) = match client {
        Peer::QmqpSend => (run_qmqp_send(address, &message), 31..=31),
        // With the bit that nullmailer-send(8) takes for "do not try again".
        _ => (
            run_nullmailer(address, &[b"a@sender.example\nb@rcpt.example\n\n", &message[..]].concat()),
            32..=63,
        ),
    };
    let status = output.status.code().unwrap_or_default();
    assert!(permanent.contains(&status), "{output:?}; {}", server.log.all());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("netstring length exceeds storage limit while receiving message content"),
        "{said}"
    );
    server.queue.wait_until_empty();
}

fn run_qmqp_send(server: SocketAddr, message: &[u8]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(message).unwrap();
    Command::new(peers::qmqp_send())
        .args(["-s", &server.to_string(), "-f", "a@sender.example", "b@rcpt.example"])
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap()
}

/// A line of some megabytes a second, for one connection. What breaks behind it breaks in front of it, too.
fn slow_line_to(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let (client, server) = (Arc::new(client), Arc::new(TcpStream::connect(server).unwrap()));
        let back = (Arc::clone(&server), Arc::clone(&client));
        std::thread::spawn(move || pass_on(&back.0, &back.1, Duration::ZERO));
        pass_on(&client, &server, Duration::from_millis(3));
    });
    address
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, pause: Duration) {
    let mut piece = [0; 16 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) if to.write_all(&piece[..count]).is_ok() => std::thread::sleep(pause),
            _ => {
                for side in [from, to] {
                    let _ = socket2::SockRef::from(side).set_linger(Some(Duration::ZERO));
                    let _ = side.shutdown(Shutdown::Both);
                }
                return;
            }
        }
    }
}
