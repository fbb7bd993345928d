//! Mail through ours, Postfix's queue manager and its delivery agents, to the end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testbed::client;
use testbed::drop_in::{self, Submit};
use testbed::mailboxes::Mailboxes;
use testbed::peers::{self, Peer};
use testbed::postfix::{Instance, Setup, scratch};
use testbed::queue::{directory, files_below};
use testbed::trials::Trials;
use testbed::{ports, wait};

pub(crate) fn add(trials: &mut Trials) {
    for (way, submit) in [("cleanup", Submit::Postfix), ("our_cleanup", Submit::Local)] {
        for (jail, columns) in [("", "n - n - -"), ("_chroot", "n - y - -")] {
            let name = format!("delivery::to_a_pipe_with_{way}{jail}");
            trials.add(&name, &[Peer::Postfix], move || to_a_pipe(submit, columns));
        }
        let name = format!("delivery::a_queue_manager_behind_a_named_pipe_is_woken_with_{way}");
        trials.add(&name, &[Peer::Postfix], move || through_a_named_pipe(submit));
        let name = format!("delivery::to_an_smtp_sink_with_{way}");
        trials.add(&name, &[Peer::Postfix, Peer::SmtpSink], move || to_a_sink(submit));
        let name = format!("delivery::through_a_content_filter_with_{way}");
        trials.add(&name, &[Peer::Postfix], move || through_a_filter(submit));
    }
}

const SENDER: &str = "alice@sender.example";

fn send(server: &Instance, content: &[u8], recipients: &[&str]) {
    let recipients: Vec<&[u8]> = recipients.iter().map(|recipient| recipient.as_bytes()).collect();
    let said = client::send(server.address, content, SENDER.as_bytes(), &recipients);
    assert!(said.starts_with("KOk: queued as "), "{said}");
}

fn wait_until_removed(server: &Instance, messages: usize) {
    let done = || server.log.all().matches(": removed\n").count() >= messages;
    wait::within(wait::PATIENCE, || done().then_some(()))
        .unwrap_or_else(|| panic!("the queue manager is not done"));
}

/// Nobody waits for the queue manager's next look at the queue, which comes after five minutes: it is woken.
fn to_a_pipe(submit: Submit, columns: &'static str) {
    let place = scratch("pipe");
    let boxes = Mailboxes::new(place.path());
    let server = drop_in::start(submit, &Setup { columns: Some(columns), ..boxes.setup(&[]) });
    let large = [b"Subject: large\n\n".to_vec(), b"0123456789abcde\n".repeat(200_000)].concat();
    send(&server, b"Subject: small\n\n.\nhello\n", &["small@rcpt.example"]);
    send(&server, &large, &["one@rcpt.example", "two@rcpt.example"]);
    let mut delivered = boxes.wait_for(3);
    delivered.sort();
    let names: Vec<&str> = delivered.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["one", "small", "two"].map(|to| format!("{SENDER}:{to}@rcpt.example")));
    assert!(delivered[0].1.ends_with(&large[b"Subject: large\n".len()..]), "the large message has changed");
    assert!(delivered[0].1 == delivered[2].1);
    assert!(delivered[1].1.ends_with(b"\n\n.\nhello\n"), "{}", client::text(&delivered[1].1));
    wait_until_removed(&server, 2);
    assert!(server.queue.incoming().is_empty());
}

/// `qmgr fifo` in master.cf: one message after the other, so that the queue manager waits each time.
fn through_a_named_pipe(submit: Submit) {
    let place = scratch("fifo");
    let boxes = Mailboxes::new(place.path());
    let server = drop_in::start(submit, &Setup { has_fifo: true, ..boxes.setup(&[]) });
    let pipe = fs::metadata(server.queue.path.join("public/qmgr")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.file_type()));
    for (count, name) in (1..).zip(["first", "second", "third"]) {
        send(&server, b"Subject: x\n\n", &[&format!("{name}@rcpt.example")]);
        boxes.wait_for(count);
        wait_until_removed(&server, count);
    }
}

/// Postfix's SMTP server that takes everything, a file for each message.
struct Sink {
    program: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Sink {
    fn start() -> Self {
        let place = scratch("sink");
        directory(&place.path().join("mail"), 0o777);
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let program = peers::command("/usr/sbin/smtp-sink")
            .unwrap()
            .args(["-u", "nobody", "-d", "%M."])
            .args([&address.to_string(), "100"])
            .current_dir(place.path().join("mail"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sink = Self { program, directory: place, address };
        wait::until("the sink listens", || TcpStream::connect(address).ok());
        sink
    }

    fn subjects(&self) -> BTreeSet<String> {
        let texts =
            files_below(self.directory.path()).into_iter().filter_map(|path| fs::read_to_string(path).ok());
        texts
            .filter_map(|text| text.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned))
            .collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn to_a_sink(submit: Submit) {
    const CLIENTS: usize = 4;
    const MESSAGES: usize = 10;
    let sink = Sink::start();
    let main_cf = vec![
        format!("relayhost = [127.0.0.1]:{}", sink.address.port()),
        "default_transport = smtp".to_owned(),
    ];
    let server = drop_in::start(submit, &Setup { main_cf, delivers: true, ..Default::default() });
    let subject = |client: usize, message: usize| format!("Subject: {client}.{message}");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                for message in 0..MESSAGES {
                    send(
                        server,
                        format!("{}\n\nx\n", subject(client, message)).as_bytes(),
                        &["b@rcpt.example"],
                    );
                }
            });
        }
    });
    wait_until_removed(&server, CLIENTS * MESSAGES);
    let expected: BTreeSet<String> =
        (0..CLIENTS).flat_map(|client| (0..MESSAGES).map(move |message| subject(client, message))).collect();
    assert_eq!(sink.subjects(), expected);
    assert_eq!(server.log.all().matches("status=sent").count(), CLIENTS * MESSAGES);
}

/// An SMTP server that marks each message and hands it back to Postfix by SMTP: the content filter of Postfix's
/// FILTER_README, "advanced".
struct Filter {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl Filter {
    fn start(back_to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let filter = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&filter.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(stream, back_to, &seen));
            }
        });
        filter
    }
}

/// Passes every command on, and every answer back; in front of the content goes the mark.
fn serve(client: TcpStream, back_to: SocketAddr, seen: &AtomicUsize) {
    let server = TcpStream::connect(back_to).unwrap();
    let (mut to_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut client, mut server) = (BufReader::new(client), BufReader::new(server));
    let mut answer = move || {
        let mut last = String::new();
        loop {
            let mut line = String::new();
            server.read_line(&mut line).unwrap();
            to_client.write_all(line.as_bytes()).unwrap();
            last.clone_from(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return last;
            }
        }
    };
    answer();
    let mut line = Vec::new();
    loop {
        line.clear();
        if client.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        to_server.write_all(&line).unwrap();
        if answer().starts_with("354") {
            to_server.write_all(b"X-Filtered: yes\r\n").unwrap();
            loop {
                line.clear();
                client.read_until(b'\n', &mut line).unwrap();
                to_server.write_all(&line).unwrap();
                if line == b".\r\n" {
                    break;
                }
            }
            seen.fetch_add(1, Ordering::AcqRel);
            answer();
        }
    }
}

fn through_a_filter(submit: Submit) {
    let place = scratch("filter");
    let boxes = Mailboxes::new(place.path());
    let back = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let filter = Filter::start(back);
    let mut setup = boxes.setup(&[format!("content_filter = scan:[127.0.0.1]:{}", filter.address.port())]);
    setup.master_cf.push_str("scan unix - - n - 10 smtp\nproxymap unix - - n - - proxymap\n");
    setup.master_cf.push_str(&format!(
        "{back} inet n - n - 10 smtpd -o content_filter= -o local_recipient_maps= \
         -o smtpd_recipient_restrictions=permit_mynetworks,reject -o mynetworks=127.0.0.0/8 \
         -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters\n"
    ));
    let server = drop_in::start(submit, &setup);
    let large = [b"Subject: large\n\n".to_vec(), b"0123456789abcde\n".repeat(20_000)].concat();
    send(&server, b"Subject: small\n\n.\nhello\n", &["small@rcpt.example", "other@rcpt.example"]);
    send(&server, &large, &["large@rcpt.example"]);
    let delivered = boxes.wait_for(3);
    wait_until_removed(&server, 4);
    assert_eq!(filter.seen.load(Ordering::Acquire), 2, "messages that passed the filter");
    for (name, text) in &delivered {
        let text = String::from_utf8_lossy(text);
        let (header, body) = text.split_once("\n\n").unwrap();
        assert_eq!(header.matches("X-Filtered: yes").count(), 1, "{name}: {header}");
        assert_eq!(
            header.matches("with QMQP id").count() + header.matches("with QMQP\n").count(),
            1,
            "{name}: {header}"
        );
        assert!(body == ".\nhello\n" || body.len() == 16 * 20_000, "{name}: {body:.200}");
    }
    assert!(server.queue.incoming().is_empty());
}
