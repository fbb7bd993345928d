//! Clients, name servers, table servers and the log: what the session threads do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use nix::unistd::Pid;

use super::record;
use testbed::client::{self, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::strace::{Fault, Injection, descriptors, threads};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    trials.add("network::accept", &[Peer::Strace], accept);
    trials.add("network::session", &[Peer::Strace], session);
    trials.add("network::names", &[Peer::Strace, Peer::Isolation], names);
    trials.add("network::tables", &[Peer::Strace], tables);
    trials.add("network::table_files", &[Peer::Strace, Peer::Postfix], table_files);
    trials.add("network::log", &[Peer::Strace], log);
}

const CONTENT: &[u8] = b"Subject: faults\n\nhello\n";

fn start(lines: &[&str]) -> Instance {
    // A journal would be opened by the first message, and stay open: the descriptors here are to be the same behind each.
    let main_cf = ["qmqpd_commit = file"].iter().chain(lines).map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Setup::default() })
}

fn service(server: &Instance) -> Pid {
    wait::until("there is a service process", || server.services().first().copied())
}

fn send_from(server: &Instance, from: &str) -> Option<char> {
    let steps = [Step::Send(request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]))];
    let session = client::run_from(from, server.address, &steps);
    client::reply(&session.received)?.first().map(|letter| char::from(*letter))
}

fn send(server: &Instance) -> Option<char> {
    send_from(server, "127.0.0.1")
}

/// The fault is in all threads while one client from `from` is served; then everything is as before. What the client heard,
/// and how many calls failed.
fn with_fault(server: &Instance, fault: &Fault, from: &str) -> (Option<char>, usize) {
    with_fault_for(server, fault, || send_from(server, from))
}

fn with_fault_for(
    server: &Instance,
    fault: &Fault,
    client: impl FnOnce() -> Option<char>,
) -> (Option<char>, usize) {
    let (heard, calls) = with_faults(server, std::slice::from_ref(fault), client);
    (heard, calls.len())
}

/// The same for several faults at a time, and with the calls that failed.
fn with_faults(
    server: &Instance,
    faults: &[Fault],
    client: impl FnOnce() -> Option<char>,
) -> (Option<char>, Vec<String>) {
    let fault = faults[0];
    let process = service(server);
    let open_before = descriptors(process);
    let injection = Injection::attach_all(&threads(process, |_| true), faults);
    let heard = client();
    let failed = injection.failed_calls();
    drop(injection);
    assert_eq!(send(server), Some('K'), "{fault}: the service does not return");
    assert_eq!(service(server), process, "{fault}: the process has ended");
    wait::within(wait::PATIENCE, || (descriptors(process) <= open_before).then_some(()))
        .unwrap_or_else(|| panic!("{fault}: {open_before} open before, {} behind", descriptors(process)));
    let stored = server.queue.take();
    let accepted = 1 + usize::from(heard == Some('K'));
    assert!(stored.iter().all(Result::is_ok), "{fault}: {stored:?}");
    assert!(stored.len() >= accepted, "{fault}: {accepted} times K, and {} messages", stored.len());
    (heard, failed)
}

fn each(
    server: &Instance,
    place: &'static str,
    faults: &[(&'static str, &[&'static str])],
    when: &'static str,
    from: &str,
    allowed: &[Option<char>],
) {
    for (call, errors) in faults {
        for error in *errors {
            let fault = Fault { call, error, when };
            let (heard, injected) = with_fault(server, &fault, from);
            assert!(allowed.contains(&heard), "{fault}: {heard:?}");
            assert!(injected > 0, "{fault}: no such call was made");
            let outcome = match heard {
                Some('K') => "K, whole; the next message K",
                Some('Z') => "Z; the next message K",
                Some(other) => panic!("{fault}: {other}"),
                None => "this connection is lost; the next message K",
            };
            record::note(place, &fault, injected, outcome);
        }
    }
}

/// The connection waits in the kernel meanwhile, and is served when the fault is over.
fn accept() {
    let server = start(&[]);
    let errors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR", "EPROTO", "EPERM"];
    each(&server, "accept", &[("accept4", &errors)], "1", "127.0.0.1", &[Some('K')]);
    each(&server, "accept", &[("epoll_wait", &["EINTR"])], "1..3", "127.0.0.1", &[Some('K')]);
    // A client that has to be waited for, and cannot be watched, cannot be served; it must not take others along.
    for error in ["ENOMEM", "ENOSPC"] {
        let fault = Fault { call: "epoll_ctl", error, when: "1" };
        let (heard, injected) = with_fault_for(&server, &fault, || {
            let (received, _) = client::read_to_end(&mut client::connect(server.address));
            received.first().map(|letter| char::from(*letter))
        });
        assert_eq!((heard, injected), (None, 1), "{fault}");
        record::note("accept", &fault, injected, "this connection is lost; the next message K");
    }
}

fn session() {
    let server = start(&[]);
    each(&server, "session", &[("recvfrom", &["EINTR"])], "1", "127.0.0.1", &[Some('K')]);
    each(
        &server,
        "session",
        &[("recvfrom", &["ECONNRESET", "EIO", "ETIMEDOUT", "ENOMEM"])],
        "1",
        "127.0.0.1",
        &[None],
    );
    each(&server, "session", &[("sendto", &["EINTR"])], "1", "127.0.0.1", &[Some('K')]);
    each(
        &server,
        "session",
        &[("sendto", &["EPIPE", "ECONNRESET", "ENOBUFS", "EIO"])],
        "1",
        "127.0.0.1",
        &[None],
    );
}

/// An authorised address is an authorised address, whatever becomes of its name.
fn names() {
    let server = start(&["qmqpd_authorized_clients = 127.0.0.0/8"]);
    let mut client = 20;
    for (call, errors, when) in [
        // The first one of a thread may be for the queue manager, which is to be woken for the message before.
        ("socket", &["EMFILE", "ENFILE", "ENOBUFS", "EACCES"][..], "1+"),
        ("bind", &["EADDRINUSE", "ENOMEM"], "1"),
        ("sendto", &["ENETUNREACH", "EPERM", "ENOBUFS"], "1"),
        ("recvfrom", &["ECONNREFUSED", "ENOMEM"], "1"),
    ] {
        for error in errors {
            // Each client is new, so that no name is remembered.
            client += 1;
            let from = format!("127.0.7.{client}");
            let fault = Fault { call, error, when };
            let (heard, calls) = with_faults(&server, &[fault], || send_from(&server, &from));
            // The client's own socket speaks with the same calls: there the connection may be lost.
            let allowed = heard == Some('K') || matches!(call, "sendto" | "recvfrom") && heard.is_none();
            assert!(allowed, "{fault}: {heard:?}");
            let lookups = calls.iter().filter(|call| asks_for_a_name(call)).count();
            assert!(lookups > 0, "{fault}: no look-up of a name met it: {calls:?}");
            record::note(
                "names of clients",
                &fault,
                lookups,
                "the client is known without its name or is lost; the next message K",
            );
        }
    }
}

/// Whether a call is about the socket to a name server, and not about that of the client.
fn asks_for_a_name(call: &str) -> bool {
    let is = |name: &str| call.starts_with(&format!("{name}("));
    is("socket") && call.contains("SOCK_DGRAM")
        || is("bind")
        || is("sendto") && call.contains("htons(53)")
        // Who sent it is of no interest on the client's socket.
        || is("recvfrom") && !call.contains("NULL")
}

/// A tcp: table that lets everybody in.
fn tables() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let opened = Arc::clone(&open);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            opened.lock().unwrap().push(stream.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut stream, mut line) = (stream, String::new());
                while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"200 ok\n");
                    line.clear();
                }
            });
        }
    });
    let list = format!("qmqpd_authorized_clients = tcp:127.0.0.1:{port}");
    let server = start(&[&list]);
    // On loopback a connection is there at once. One that takes its time is waited for.
    let waits = Fault { call: "connect", error: "EINPROGRESS", when: "1" };
    for (call, errors, beside) in [
        ("socket", &["EMFILE", "ENFILE", "ENOBUFS"][..], None),
        ("connect", &["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EINTR"], None),
        ("poll", &["EINTR", "ENOMEM"], Some(waits)),
    ] {
        for error in errors {
            // Connections are kept: the next question shall need a new one, by a thread that is there when the fault comes.
            assert_eq!(send(&server), Some('K'));
            server.queue.take();
            for stream in open.lock().unwrap().drain(..) {
                stream.shutdown(std::net::Shutdown::Both).unwrap();
            }
            let fault = Fault { call, error, when: "1" };
            let faults: Vec<Fault> = std::iter::once(fault).chain(beside).collect();
            let (heard, calls) = with_faults(&server, &faults, || send(&server));
            // A list that cannot be asked is no reason to turn a client away for good.
            assert!(matches!(heard, Some('K' | 'Z')), "{fault}: {heard:?}");
            // A name server or a queue manager may be looked for with the same calls.
            let by_table = |line: &&String| match call {
                "socket" => line.starts_with("socket(AF_INET, SOCK_STREAM"),
                "connect" => line.contains(&format!("htons({port})")),
                _ => line.starts_with("poll("),
            };
            let met = calls.iter().filter(by_table).count();
            assert!(met > 0, "{fault}: the table met it nowhere: {calls:?}");
            record::note("tcp: table", &fault, met, format!("{}; the next message K", heard.unwrap()));
        }
    }
}

/// An indexed file is read for each client.
fn table_files() {
    let dir = testbed::postfix::scratch("faults");
    let config = testbed::postfix::write_config(dir.path(), "compatibility_level = 3.6\n", "");
    for (kind, place) in
        [("lmdb", "lmdb: table"), ("cdb", "cdb: table"), ("hash", "hash: table"), ("btree", "btree: table")]
    {
        let file = dir.path().join(kind);
        std::fs::write(&file, "127.0.0.1 yes\n").unwrap();
        let built = std::process::Command::new("postmap")
            .arg("-c")
            .arg(&config)
            .arg(format!("{kind}:{}", file.display()))
            .status();
        assert!(built.expect("postmap(1)").success());
        let list = format!("qmqpd_authorized_clients = {kind}:{}", file.display());
        let server = start(&[&list]);
        each(&server, place, &[("pread64", &["EIO", "ENOMEM"])], "1", "127.0.0.1", &[Some('Z')]);
        each(&server, place, &[("pread64", &["EINTR"])], "1", "127.0.0.1", &[Some('K')]);
        if matches!(kind, "hash" | "btree") {
            each(&server, place, &[("flock", &["ENOLCK"])], "1+", "127.0.0.1", &[Some('Z')]);
            each(&server, place, &[("flock", &["EINTR", "EAGAIN"])], "1", "127.0.0.1", &[Some('K')]);
        }
    }
}

/// A log that cannot be written costs lines, never mail.
fn log() {
    let mut server = start(&[]);
    for error in ["EIO", "ENOSPC", "EDQUOT", "EINTR", "EAGAIN"] {
        let process = service(&server);
        let fault = Fault { call: "write", error, when: "1+" };
        let fault = Fault { when: if error == "EINTR" { "1..3" } else { fault.when }, ..fault };
        let writer = threads(process, |name| name.starts_with("log"));
        assert_eq!(writer.len(), 1, "one log writer");
        let injection = Injection::attach(&writer, &fault);
        assert_eq!(send(&server), Some('K'), "{fault}");
        let injected = wait::within(wait::PATIENCE, || Some(injection.injected()).filter(|count| *count > 0));
        drop(injection);
        let injected = injected.unwrap_or_else(|| panic!("{fault}: no such call was made"));
        server.log.skip();
        assert_eq!(send(&server), Some('K'), "{fault}");
        server.log.lines_until("the log goes on", |line| line.text.starts_with("disconnect"));
        record::note(
            "log writer",
            &fault,
            injected,
            "K; lines are lost while it lasts, then the log goes on",
        );
    }
}
