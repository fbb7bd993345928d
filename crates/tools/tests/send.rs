//! qmqp-send as a program, against a server that plays a part on loopback.

// A failed set-up is a failed test; helpers outside of #[test] functions are not recognised as tests by the lint.
#![cfg(test)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

/// What the server does with its one connection.
enum Part {
    /// Reads the whole request, then answers with these bytes.
    Answer(&'static [u8]),
    /// Reads the whole request, then closes.
    Vanish,
    /// Reads this many bytes, then answers and closes with the rest unread.
    Interrupt(usize, &'static [u8]),
    /// Reads the whole request, and stays silent until the client leaves.
    Silence,
}

/// Plays one part on one connection, and returns what was received.
struct Played {
    address: String,
    thread: JoinHandle<Vec<u8>>,
}

fn play(part: Part) -> Played {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        perform(stream, part)
    });
    Played { address, thread }
}

/// Reads one netstring, framing included.
fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let mut request = Vec::new();
    let mut byte = [0];
    while request.last() != Some(&b':') {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let digits = std::str::from_utf8(&request[..request.len() - 1]).unwrap();
    let mut rest = vec![0; digits.parse::<usize>().unwrap() + 1];
    stream.read_exact(&mut rest).unwrap();
    request.extend_from_slice(&rest);
    request
}

fn perform(mut stream: TcpStream, part: Part) -> Vec<u8> {
    match part {
        Part::Answer(reply) => {
            let request = read_request(&mut stream);
            stream.write_all(reply).unwrap();
            request
        }
        Part::Vanish => read_request(&mut stream),
        Part::Interrupt(bytes, reply) => {
            let mut request = vec![0; bytes];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(reply).unwrap();
            request
        }
        Part::Silence => {
            let request = read_request(&mut stream);
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
            request
        }
    }
}

/// An address where nothing listens.
fn deaf() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn send(arguments: &[&str], message: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qmqp-send"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let message = message.to_vec();
    // The program may end without reading.
    let writer = thread::spawn(move || drop(stdin.write_all(&message)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_accepted_message_is_on_the_wire_as_the_protocol_has_it() {
    let server = play(Part::Answer(b"16:KOk: queued as X,"));
    let output = send(&["-f", "s@e.com", "-s", &server.address, "a@e.com", "b@e.com"], b"Subject: x\n\nhi\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "Ok: queued as X\n");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&server.thread.join().unwrap()),
        "49:15:Subject: x\n\nhi\n,7:s@e.com,7:a@e.com,7:b@e.com,,"
    );
}

#[test]
fn refusals_have_the_exit_statuses_of_qmail_qmqpc() {
    for (reply, status, words) in [
        (&b"9:Dno\x1b[2Jay,"[..], 31, "permanently rejected the message: no?[2Jay"),
        (b"4:Zbad,", 71, "temporarily rejected the message: bad"),
    ] {
        let server = play(Part::Answer(reply));
        let output = send(&["-f", "", "-s", &server.address, "r"], b"");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(text(&output.stderr), format!("qmqp-send: {} {words}\n", server.address));
        assert_eq!(text(&output.stdout), "");
        assert_eq!(server.thread.join().unwrap(), b"10:0:,0:,1:r,,");
    }
}

#[test]
fn no_connection_is_73() {
    let output = send(&["-f", "", "-s", &deaf(), "r"], b"");
    assert_eq!(output.status.code(), Some(73));
    assert!(text(&output.stderr).contains("Connection refused"), "{output:?}");
}

#[test]
fn the_next_server_is_tried_while_none_can_have_the_message() {
    // No connection; a lost one before the end; a temporary refusal; then one that accepts.
    let message = vec![b'x'; 8 << 20];
    let dropping = play(Part::Interrupt(100, b""));
    let busy = play(Part::Answer(b"5:Zbusy,"));
    let good = play(Part::Answer(b"3:Kok,"));
    let deaf = deaf();
    let servers = ["-s", &deaf, "-s", &dropping.address, "-s", &busy.address, "-s", &good.address];
    let mut arguments = vec!["-v", "-f", "s", "r"];
    arguments.extend(servers);
    let output = send(&arguments, &message);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "ok\n");
    let said = text(&output.stderr);
    for words in ["cannot connect to", "cannot send the message to", "temporarily rejected the message: busy"]
    {
        assert!(said.contains(words), "{said}");
    }
    for server in [busy, good] {
        let received = server.thread.join().unwrap();
        assert_eq!(received.iter().filter(|&&byte| byte == b'x').count(), message.len());
    }
}

#[test]
fn the_next_server_is_not_tried_after_a_final_refusal_or_a_silent_end() {
    for (part, status) in [(Part::Answer(b"3:Dno,"), 31), (Part::Vanish, 74), (Part::Answer(b"2:Xx,"), 74)] {
        let first = play(part);
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        unused.set_nonblocking(true).unwrap();
        let second = unused.local_addr().unwrap().to_string();
        let output = send(&["-f", "s", "-s", &first.address, "-s", &second, "r"], b"hi\n");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(unused.accept().is_err(), "a second server was tried");
        first.thread.join().unwrap();
    }
}

#[test]
fn a_refusal_in_the_middle_of_a_large_message_is_heard() {
    let server = play(Part::Interrupt(1000, b"14:Dtoo much data,"));
    let output = send(&["-f", "s", "-s", &server.address, "r"], &vec![b'x'; 32 << 20]);
    assert_eq!(output.status.code(), Some(31), "{output:?}");
    assert!(text(&output.stderr).contains("too much data"));
    server.thread.join().unwrap();
}

#[test]
fn a_silent_server_is_given_up() {
    let server = play(Part::Silence);
    let output = send(&["-f", "s", "--timeout", "1", "-s", &server.address, "r"], b"hi\n");
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(text(&output.stderr).contains("may or may not have accepted it"), "{output:?}");
    server.thread.join().unwrap();
}

#[test]
fn a_message_and_its_recipients_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let message = directory.path().join("message");
    let list = directory.path().join("list");
    std::fs::write(&message, vec![b'm'; 3_000_000]).unwrap();
    std::fs::write(&list, "a@e.com\r\n\nb@e.com\nc@e.com").unwrap();
    let (message, list) = (message.to_str().unwrap(), list.to_str().unwrap());
    let server = play(Part::Answer(b"3:Kok,"));
    let arguments = ["-f", "s", "-s", &server.address, "-m", message, "-r", list, "-r", "-", "first"];
    let output = send(&arguments, b"d@e.com\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let received = server.thread.join().unwrap();
    let tail = b"mmm,1:s,5:first,7:a@e.com,7:b@e.com,7:c@e.com,7:d@e.com,,";
    assert!(received.ends_with(tail), "{}", text(&received[received.len() - 100..]));
}

#[test]
fn a_message_that_shrinks_is_never_complete() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("message");
    let file = std::fs::File::create(&path).unwrap();
    // More than any socket buffer, so that the client cannot be through when the server truncates the file.
    file.set_len(256 << 20).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        file.set_len(1 << 20).unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let output = send(&["-f", "s", "-s", &address, "-m", path.to_str().unwrap(), "r"], b"");
    assert_eq!(output.status.code(), Some(54), "{output:?}");
    assert!(text(&output.stderr).contains("became shorter"), "{output:?}");
    assert!(thread.join().unwrap() < 256 << 20);
}

#[test]
fn a_file_that_only_claims_to_be_empty_is_read() {
    let server = play(Part::Answer(b"3:Kok,"));
    let output = send(&["-f", "s", "-s", &server.address, "-m", "/proc/version", "r"], b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let version = std::fs::read_to_string("/proc/version").unwrap();
    assert!(text(&server.thread.join().unwrap()).contains(&version));
}

#[test]
fn standard_input_is_sent_from_where_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("message");
    std::fs::write(&path, "skipped\nsent\n").unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    file.read_exact(&mut [0; 8]).unwrap();
    let server = play(Part::Answer(b"3:Kok,"));
    let status = Command::new(env!("CARGO_BIN_EXE_qmqp-send"))
        .args(["-q", "-f", "s", "-s", &server.address, "r"])
        .stdin(file)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(text(&server.thread.join().unwrap()), "16:5:sent\n,1:s,1:r,,");
}

#[test]
fn a_unix_domain_socket_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmqp");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        stream.write_all(b"3:Kok,").unwrap();
        request
    });
    let output = send(&["-f", "s", "-s", &format!("unix:{}", path.display()), "r"], b"hi\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&thread.join().unwrap()), "14:3:hi\n,1:s,1:r,,");
}

#[test]
fn what_cannot_be_sent_is_refused_before_a_connection() {
    let nowhere = deaf();
    for (arguments, status, words) in [
        (&["-f", "s\n", "r"][..], 64, "contains a NUL, CR or LF"),
        (&["-f", "s", "r\rx"], 64, "contains a NUL, CR or LF"),
        (&["-f", "s", "-m", "/nonexistent/message", "r"], 54, "cannot read /nonexistent/message"),
        (&["-f", "s", "-r", "/nonexistent/list"], 54, "cannot read /nonexistent/list"),
        (&["-f", "s", "-r", "-"], 64, "name a file with --message"),
        (&["-f", "s", "-r", "/dev/null"], 64, "no recipients"),
        (&["-f", "s"], 64, "RECIPIENT"),
        (&["r"], 64, "--sender"),
        (&["-f", "s", "-s", "h:0", "r"], 64, "is not a port number"),
    ] {
        let mut all = arguments.to_vec();
        all.extend(["-s", &nowhere]);
        let output = send(&all, b"");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
    }
}

#[test]
fn a_k_to_a_part_of_the_message_does_not_count() {
    // More than all buffers on the way hold.
    let message = vec![b'x'; 60_000_000];
    let hasty = play(Part::Interrupt(1_000, b"3:Kok,"));
    let output = send(&["-f", "", "-s", &hasty.address, "r@e.com"], &message);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("it replied K before it got the whole message"), "{said}");
    assert_eq!(text(&output.stdout), "");
    // So another one may be asked; and what refuses early is believed.
    let hasty = play(Part::Interrupt(1_000, b"3:Kok,"));
    let strict = play(Part::Interrupt(1_000, b"3:Dno,"));
    let output = send(&["-f", "", "-s", &hasty.address, "-s", &strict.address, "r@e.com"], &message);
    assert_eq!(output.status.code(), Some(31), "{}", text(&output.stderr));
}

#[test]
fn an_empty_recipient_and_a_closed_standard_input_are_errors() {
    let output = send(&["-f", "s@e.com", "-s", &deaf(), ""], b"Subject: x\n\n");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("a recipient is empty: is a variable unset?"));
    let program = env!("CARGO_BIN_EXE_qmqp-send");
    let shell = |redirection: &str, server: &str| {
        let script = format!("{program} -f s@e.com -s {server} r@e.com {redirection}");
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    let closed = shell("<&-", &deaf());
    assert_eq!(closed.status.code(), Some(54), "{}", text(&closed.stderr));
    assert!(text(&closed.stderr).contains("standard input is closed"), "{}", text(&closed.stderr));
    let server = play(Part::Answer(b"3:Kok,"));
    let empty = shell("</dev/null", &server.address);
    assert_eq!(empty.status.code(), Some(0), "an empty message on purpose: {}", text(&empty.stderr));
}

/// qmqp-send under the name `sendmail`.
fn sendmail(arguments: &[&str], servers: &str, message: &[u8]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sendmail");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qmqp-send"), &program).unwrap();
    let mut child = Command::new(&program)
        .args(arguments)
        .env("QMQP_SERVERS", servers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end without reading.
    drop(child.stdin.take().unwrap().write_all(message));
    child.wait_with_output().unwrap()
}

#[test]
fn a_content_filter_can_take_it_for_sendmail() {
    let message = b"To: x@e.com\r\n\r\n.\r\n..\nend\n";
    for arguments in [
        &["-G", "-i", "-f", "s@e.com", "--", "a@e.com", "b@e.com"][..],
        &["-oi", "-oem", "-r", "<s@e.com>", "-bm", "-B8BITMIME", "-FMe", "\"a\"@e.com, <b@e.com>"],
    ] {
        let server = play(Part::Answer(b"3:Kok,"));
        let output = sendmail(arguments, &server.address, message);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
        assert_eq!(
            text(&server.thread.join().unwrap()),
            "56:22:To: x@e.com\n\n.\n..\nend\n,7:s@e.com,7:a@e.com,7:b@e.com,,"
        );
    }
}

#[test]
fn sendmail_ends_as_a_pipe_transport_expects() {
    for (part, status) in [
        (Part::Answer(b"3:Dno,"), 69),
        (Part::Answer(b"3:Zno,"), 75),
        (Part::Vanish, 75),
        (Part::Answer(b"3:Kok,"), 0),
    ] {
        let server = play(part);
        let output = sendmail(&["-i", "-f", "", "r"], &server.address, b"hi\n");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(output.stderr.is_empty(), status == 0, "{output:?}");
        drop(server.thread.join());
    }
    assert_eq!(sendmail(&["-i", "-f", "", "r"], &deaf(), b"").status.code(), Some(75));
    // Under its own name one of these options will do.
    let output = send(&["-i", "-f", "", "-s", &deaf(), "r"], b"");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
}

#[test]
fn sendmail_reads_recipients_from_the_header_and_stops_at_a_dot() {
    let server = play(Part::Answer(b"3:Kok,"));
    let message = b"To: A <a@e.com>,\n b@e.com\nBcc: c@e.com\n\nTo: no@e.com\n.\nrest\n";
    let output = sendmail(&["-t", "-f", "s", "first"], &server.address, message);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let received = text(&server.thread.join().unwrap());
    let tail = "\n\nTo: no@e.com\n,1:s,5:first,7:a@e.com,7:b@e.com,7:c@e.com,,";
    assert!(received.ends_with(tail), "{received}");
    // The sender is the user, unless one is named.
    let server = play(Part::Answer(b"3:Kok,"));
    assert_eq!(sendmail(&["r"], &server.address, b"hi\n").status.code(), Some(0));
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = text(&user).trim().to_owned();
    let received = text(&server.thread.join().unwrap());
    assert!(received.contains(&format!(",{}:{user},1:r,,", user.len())), "{received}");
}

#[test]
fn modes_of_sendmail_that_are_not_there_are_refused_with_a_remedy() {
    for (arguments, words) in [
        (&["-bs"][..], "-bs is not supported: pass the message itself on standard input"),
        (&["-bp"], "qmqpctl queue list shows the queue"),
        (&["-bi"], "there is no alias database"),
        (&["-t"], "no recipients"),
        (&["-q"], "unexpected argument"),
    ] {
        let output = sendmail(arguments, &deaf(), b"Subject: x\n\n");
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
    }
    let header = [b"X: y\n".repeat(300_000), b"\n\n".to_vec()].concat();
    let output = sendmail(&["-t"], &deaf(), &header);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(text(&output.stderr).contains("more than 1048576 bytes"), "{output:?}");
    let output = sendmail(&["-i", "r"], "h:0", b"");
    assert_eq!((output.status.code(), text(&output.stderr).contains("QMQP_SERVERS: ")), (Some(64), true));
}
