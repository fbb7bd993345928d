//! What cleanup(8) is told, byte by byte, and what becomes of its answers: a cleanup service in this process that records
//! what it hears and answers as it is told.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testbed::client::{self, request};
use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    trials.add("dialogue::same_bytes", &needs, same_bytes);
    trials.add("dialogue::every_status", &needs, every_status);
    trials.add("dialogue::all_dialects", &needs, all_dialects);
    trials.add("dialogue::a_dying_cleanup_is_z", &needs, dying_cleanup);
    trials.add("dialogue::a_missing_cleanup_is_z_soon", &needs, missing_cleanup);
    trials.add("dialogue::too_many_recipients_cost_no_disk", &needs, crowd);
    trials.add("dialogue::a_broken_client_costs_no_cleanup", &needs, broken_client);
}

/// What the service says first since Postfix 3.6.
const ANNOUNCEMENT: &[u8] = b"protocol\0cleanup_protocol\0queue_id\x00ABCDEF123456\0\0";
const ACCEPTED: &[u8] = b"status\x000\0reason\0\0\0";
const SERVICE: &str = "recorder";

/// How the service behaves in one dialogue.
#[derive(Clone, Copy)]
struct Script {
    announcement: &'static [u8],
    /// `None` hangs up instead, behind this many bytes.
    answer: Result<&'static [u8], usize>,
}

const GOOD: Script = Script { announcement: ANNOUNCEMENT, answer: Ok(ACCEPTED) };

struct Recorder {
    postfix: Instance,
    scripts: mpsc::Sender<Script>,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl Recorder {
    fn start(ours: bool, main_cf: &[&str]) -> Self {
        let mut main_cf: Vec<String> = main_cf.iter().map(|line| (*line).to_owned()).collect();
        // Stock qmqpd connects for every client: the first one, which only looks whether there is a server, finds cleanup.
        main_cf.push(format!("cleanup_service_name = {SERVICE}"));
        let setup = Setup { main_cf, master_cf: RECORDER_LINE.to_owned(), ..Default::default() };
        let postfix = if ours { drop_in::start(Submit::Postfix, &setup) } else { Instance::start(&setup) };
        let path = postfix.queue.path.join("public").join(SERVICE);
        std::fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let (scripts, next_script) = mpsc::channel::<Script>();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for script in next_script {
                let Ok((stream, _)) = listener.accept() else { return };
                let _ = tell.send(play(stream, script));
            }
        });
        Self { postfix, scripts, heard }
    }

    /// One message and one dialogue: the reply, and what the service heard.
    fn send(&self, script: Script, message: &[u8]) -> (String, Vec<u8>, u16) {
        self.scripts.send(script).unwrap();
        let session = client::run(self.postfix.address, &[client::Step::Send(message.to_vec())]);
        let reply = client::reply(&session.received).map(client::text).unwrap_or_default();
        (reply, self.heard.recv_timeout(wait::PATIENCE).unwrap(), session.port)
    }
}

/// A service of this name for the first client; later the socket is ours.
const RECORDER_LINE: &str = "recorder unix n - n - 0 cleanup\n";

fn play(mut stream: UnixStream, script: Script) -> Vec<u8> {
    stream.write_all(script.announcement).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    let enough = |heard: &[u8]| match script.answer {
        Ok(_) => heard.ends_with(b"X\0E\0"),
        Err(bytes) => heard.len() >= bytes,
    };
    while !enough(&heard) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
        }
    }
    if let Ok(answer) = script.answer {
        let _ = stream.write_all(answer);
    }
    heard
}

fn message(content: &[u8]) -> Vec<u8> {
    request(content, b"list-@host.example-@[]", &[b"one@x.example", b"two@x.example"])
}

/// Hides port and times.
fn masked(heard: &[u8], port: u16) -> Vec<String> {
    let begin = heard.windows(2).position(|pair| pair == b"\0\0").unwrap() + 2;
    let mut lines = vec![client::text(&heard[..begin])];
    for record in postfix::record::Reader::new(&heard[begin..]) {
        let (_, record) = record.unwrap();
        let text = client::text(record.data).replace(&format!("port={port}"), "port=PORT");
        let text = match (record.kind.0, text.split_once("; ")) {
            (b'T', _) => "TIME".to_owned(),
            (b'N', Some((before, _))) if before.contains("\\tid ") || before.contains("\\tfor ") => {
                format!("{before}; DATE")
            }
            _ => text,
        };
        lines.push(format!("{} {text}", char::from(record.kind.0)));
    }
    lines
}

fn same_bytes() {
    let long = [b"Subject: x\n\n".to_vec(), b"0123456789abcdef\n".repeat(20_000)].concat();
    let contents: [&[u8]; 6] = [
        b"Subject: x\n\nhello\n",
        b"",
        b"From me\n>From you\n x\nlast",
        b"\xff\0\x01\n\n\n",
        &[b'y'; 4097],
        &long,
    ];
    for settings in [
        &[][..],
        &[
            "content_filter = scan:next",
            "receive_override_options = no_milters",
            "smtputf8_autodetect_classes = all",
        ],
        &[
            "receive_override_options = no_address_mappings, no_header_body_checks",
            "qmqpd_client_port_logging = yes",
        ],
    ] {
        let (stock, ours) = (Recorder::start(false, settings), Recorder::start(true, settings));
        let one = |content: &[u8]| request(content, b"", &[b"\"a b\"@c.example"]);
        for content in contents {
            for message in [message(content), one(content), request(content, b"a@b", &[])] {
                let (expected, heard_by_stock, stock_port) = stock.send(GOOD, &message);
                let (said, heard, port) = ours.send(GOOD, &message);
                assert_eq!(said, expected);
                let (stock, ours) = (masked(&heard_by_stock, stock_port), masked(&heard, port));
                assert!(stock.len() > 14, "{stock:#?}");
                let differing = stock.iter().zip(&ours).find(|(stock, ours)| {
                    stock != ours
                        && stock.replace(&stock_port.to_string(), "") != ours.replace(&port.to_string(), "")
                });
                assert_eq!(differing, None, "{settings:?}");
                assert_eq!(stock.len(), ours.len());
            }
        }
    }
}

fn every_status() {
    let (stock, ours) = (Recorder::start(false, &[]), Recorder::start(true, &[]));
    let answers: [&'static [u8]; 12] = [
        b"status\x001\0reason\0\0\0",
        b"status\x002\0reason\0\0\0",
        b"status\x004\0reason\0\0\0",
        b"status\x008\0reason\x005.7.1 no thanks\0\0",
        b"status\x008\0reason\x004.7.1 later\0\0",
        b"status\x0016\0reason\0\0\0",
        b"status\x0064\0reason\0\0\0",
        b"status\x00128\0reason\0\0\0",
        b"status\x00256\0reason\x004.3.0 wait\0\0",
        b"status\x00512\0reason\0\0\0",
        b"status\x0092\0reason\x005.7.1 many\0\0",
        b"reason\0\0status\x000\0\0",
    ];
    for answer in answers {
        let script = Script { announcement: ANNOUNCEMENT, answer: Ok(answer) };
        let (expected, ..) = stock.send(script, &message(b"x\n"));
        let (said, ..) = ours.send(script, &message(b"x\n"));
        assert_eq!(said, expected, "{}", client::text(answer));
        assert!(!said.starts_with('K'), "{}", client::text(answer));
    }
}

/// Older Postfix announces nothing but the queue ID; some servers announce in two lists.
fn all_dialects() {
    let ours = Recorder::start(true, &[]);
    for announcement in [
        ANNOUNCEMENT,
        b"queue_id\x00ABCDEF123456\0\0",
        b"protocol\0cleanup_protocol\0\0queue_id\x00ABCDEF123456\0\0",
    ] {
        let (said, ..) = ours.send(Script { announcement, ..GOOD }, &message(b"x\n"));
        assert_eq!(said, "KOk: queued as ABCDEF123456");
    }
    for announcement in [&b"protocol\0proxymap_protocol\0\0"[..], b"queue_id\0../x\0\0", b"\0", b"junk"] {
        let script = Script { announcement, answer: Err(0) };
        let (said, ..) = ours.send(script, &message(b"x\n"));
        assert_eq!(said, "ZError: queue file write error", "{}", client::text(announcement));
    }
}

fn dying_cleanup() {
    let (stock, mut ours) = (Recorder::start(false, &[]), Recorder::start(true, &[]));
    let small = message(b"x\n");
    let large = message(&b"0123456789abcdef0123456789abcde\n".repeat(200_000));
    for (bytes, message) in [(0, small.clone()), (100, small.clone()), (1, large.clone()), (500_000, large)] {
        let script = Script { announcement: ANNOUNCEMENT, answer: Err(bytes) };
        let (expected, ..) = stock.send(script, &message);
        assert_eq!(expected, "ZError: queue file write error");
        let (said, ..) = ours.send(script, &message);
        assert_eq!(said, expected, "gone behind {bytes} bytes");
        ours.postfix.log.lines_until("the refusal", |line| {
            line.text == "warning: ABCDEF123456: localhost[127.0.0.1]: Error: queue file write error"
        });
    }
    let (said, ..) = ours.send(GOOD, &small);
    assert_eq!(said, "KOk: queued as ABCDEF123456", "the next message finds it well again");
}

fn missing_cleanup() {
    let setup = Setup { main_cf: vec!["cleanup_service_name = nobody".to_owned()], ..Default::default() };
    let mut ours = drop_in::start(Submit::Postfix, &setup);
    let session = client::run(ours.address, &[client::Step::Send(message(b"x\n"))]);
    let said = client::reply(&session.received).map(client::text);
    assert_eq!(said.as_deref(), Some("ZError: queue file write error"));
    assert!(session.took < Duration::from_secs(10), "{:?}", session.took);
    for attempt in 1..=3 {
        let text =
            format!("warning: connect #{attempt} to subsystem public/nobody: No such file or directory");
        ours.log.lines_until(&text, |line| line.text == text);
    }
    ours.log.lines_until("the refusal", |line| {
        line.text == "warning: NOQUEUE: localhost[127.0.0.1]: Error: queue file write error"
    });
}

/// Recipients that cannot fit are not kept until cleanup(8) says so.
fn crowd() {
    let main_cf = ["cleanup_service_name = nobody", "message_size_limit = 5000"].map(str::to_owned).to_vec();
    let mut ours = drop_in::start(Submit::Postfix, &Setup { main_cf, ..Default::default() });
    let recipients: Vec<&[u8]> = vec![b"subscriber@list.example"; 250];
    assert_eq!(client::send(ours.address, b"x\n", b"a@b.example", &recipients), "DError: message too large");
    ours.log.lines_until("the refusal", |line| {
        line.text == "warning: NOQUEUE: localhost[127.0.0.1]: Error: message too large"
    });
    assert!(!ours.log.all().contains("subsystem"));
}

/// Nobody listens on the socket, and nobody is asked.
fn broken_client() {
    let setup = Setup { main_cf: vec!["cleanup_service_name = nobody".to_owned()], ..Default::default() };
    let mut ours = drop_in::start(Submit::Postfix, &setup);
    let mut whole = message(b"Subject: x\n\nhello\n");
    whole.pop();
    client::run(ours.address, &[client::Step::Send(whole), client::Step::HalfClose]);
    ours.log.lines_until("the lost client", |line| {
        line.text.starts_with("NOQUEUE: ") && line.text.contains("lost")
    });
    assert!(!ours.log.all().contains("subsystem"));
}
