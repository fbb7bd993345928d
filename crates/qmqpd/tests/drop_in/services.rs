//! What a line of master.cf can say: types of services, options, sockets, and processes that are full.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::load::send;
use testbed::client::{self, request};
use testbed::drop_in::{self, Submit};
use testbed::mask::Mask;
use testbed::peers::Peer;
use testbed::postfix::{self, Instance, Setup};
use testbed::trials::Trials;
use testbed::{ports, wait};

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    trials.add("services::unix_is_that_of_postfix", &needs, || same_by_socket("unix"));
    trials.add("services::pass_is_that_of_postfix", &needs, || same_by_socket("pass"));
    trials.add("services::pass_without_a_client_is_logged", &needs, pass_without_client);
    trials.add("services::pass_with_a_mistake_is_z", &needs, pass_with_mistake);
    trials.add("services::options_are_those_of_postfix", &needs, options);
    trials.add("services::max_idle_ends_an_idle_process", &needs, max_idle);
    trials.add("services::several_sockets", &[Peer::Postfix, Peer::Isolation, Peer::Ipv6], several_sockets);
    trials.add("services::debugger_command_runs", &needs, debugger);
    trials.add("services::no_accept_lock_is_needed", &needs, accept_lock);
    for (way, submit) in [("cleanup", Submit::Postfix), ("our_cleanup", Submit::Local)] {
        trials.add(&format!("services::a_full_process_gets_help_with_{way}"), &needs, move || relief(submit));
        trials.add(&format!("services::a_full_service_lets_clients_wait_with_{way}"), &needs, move || {
            full(submit)
        });
    }
}

fn message() -> Vec<u8> {
    request(b"Subject: x\nFrom: a@b.example\n\nx\n", b"a@sender.example", &[b"b@rcpt.example"])
}

fn reply_from(stream: &mut (impl Read + Write)) -> String {
    stream.write_all(&message()).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    client::reply(&received).map(client::text).unwrap_or_default()
}

/// A client whose connection somebody else has accepted and passes on.
fn pass(socket: &UnixStream, attributes: &[u8]) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client::connect(listener.local_addr().unwrap());
    let (accepted, _) = listener.accept().unwrap();
    let descriptors = [accepted.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let byte = [std::io::IoSlice::new(b"\0")];
    rustix::net::sendmsg(socket, &byte, &mut beside, SendFlags::empty()).unwrap();
    (&*socket).write_all(attributes).unwrap();
    client
}

fn connect(server: &Instance) -> UnixStream {
    UnixStream::connect(server.queue.path.join("public/clients")).unwrap()
}

/// What a message through the socket leaves behind.
fn through(mut server: Instance, kind: &str) -> Vec<String> {
    let began = SystemTime::now();
    server.log.skip();
    let said = if kind == "pass" {
        let socket = connect(&server);
        let attributes = b"client_address\x00192.0.2.7\0client_port\x0099\0server_address\x00192.0.2.8\0\0";
        reply_from(&mut pass(&socket, attributes))
    } else {
        let mut socket = connect(&server);
        socket.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        reply_from(&mut socket)
    };
    let id = said.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{said}")).to_owned();
    let lines = server.log.lines_until("the end", |line| line.text.starts_with("disconnect from "));
    let mask = Mask::new(Some(&id), 9, began);
    // Postfix's has no sandbox to speak of.
    let of_qmqpd =
        lines.iter().filter(|line| line.program == "qmqpd" && !line.text.starts_with("confined: "));
    let mut outcome: Vec<String> = of_qmqpd.map(|line| mask.line(&line.text)).collect();
    let file = server.queue.take().remove(0).unwrap();
    outcome.extend(file.lines(&mask, false, false).into_iter().filter(|line| !line.contains("client_port")));
    outcome
}

fn same_by_socket(kind: &str) {
    let setup = Setup { master_cf: format!("clients {kind} n - n - - qmqpd\n"), ..Default::default() };
    let stock = through(Instance::start(&setup), kind);
    assert!(stock.iter().any(|line| line.contains("client=localhost[127.0.0.1]")), "{stock:#?}");
    assert_eq!(through(drop_in::start(Submit::Postfix, &setup), kind), stock);
    let jailed = Setup { master_cf: format!("clients {kind} n - y - 1 qmqpd\n"), ..Default::default() };
    assert_eq!(through(drop_in::start(Submit::Postfix, &jailed), kind), stock);
}

fn pass_without_client() {
    let setup = Setup { master_cf: "clients pass n - n - - qmqpd\n".to_owned(), ..Default::default() };
    let start: [fn(&Setup) -> Instance; 2] =
        [Instance::start, |setup| drop_in::start(Submit::Postfix, setup)];
    for start in start {
        let mut server = start(&setup);
        connect(&server).write_all(b"\0\0").unwrap();
        server.log.lines_until("that no client came", |line| {
            line.text.starts_with("warning: pass_accept_attr: cannot receive file descriptor: ")
        });
        drop(pass(&connect(&server), b""));
        server.log.lines_until("that no attributes came", |line| {
            line.text.starts_with("warning: pass_accept_attr: cannot receive connection attributes: ")
        });
        let said = reply_from(&mut pass(&connect(&server), b"\0"));
        assert!(said.starts_with('K'), "{said}");
    }
}

/// A process that cannot work tells passed clients too.
fn pass_with_mistake() {
    let setup = Setup {
        master_cf: "clients pass n - n - - qmqpd -o qmqpd_timeout=never\n".to_owned(),
        ..Default::default()
    };
    let server = drop_in::start(Submit::Local, &setup);
    let mut received = Vec::new();
    pass(&connect(&server), b"\0").read_to_end(&mut received).unwrap();
    assert_eq!(
        client::reply(&received).map(client::text).as_deref(),
        Some("ZError: server configuration error")
    );
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn send_to(port: u16) -> String {
    client::send(at(port), b"Subject: x\n\nx\n", b"a@sender.example", &[b"b@rcpt.example"])
}

/// The tags of the lines `client=`, which tell names and processes apart.
fn tags(server: &Instance, name: &str) -> Vec<String> {
    let log = server.log.all();
    let of_service = log.lines().filter(|line| line.contains(name) && line.contains(": client="));
    of_service.map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

/// `-o { name = value }`, with the service's name in the value; `-v` twice; `-m`; and the `-l` of a limit of 1.
fn options() {
    let port = ports::free();
    let line = format!(
        "127.0.0.1:{port} inet n - n - 1 qmqpd -v -o {{ syslog_name = postfix/$service_name }} -o qmqpd_client_port_logging=yes -v -m 2\n"
    );
    let outcome = |mut server: Instance| {
        for _ in 0..4 {
            let said = send_to(port);
            assert!(said.starts_with('K'), "{said}");
            server.log.lines_until("the end", |line| {
                line.text.starts_with("disconnect from localhost[127.0.0.1]:")
            });
        }
        let tags = tags(&server, &format!("postfix/127.0.0.1:{port}/qmqpd["));
        assert_eq!(tags.len(), 4);
        server.log.all_with("netstring_get_data: read netstring data a@sender.example");
        (tags[0] == tags[1], tags[1] == tags[2], tags[2] == tags[3])
    };
    let setup = Setup { master_cf: line, ..Default::default() };
    assert_eq!(outcome(Instance::start(&setup)), (true, false, true), "two sessions to a process");
    // For ours max_use counts only from an age of max_idle on.
    assert_eq!(outcome(drop_in::start(Submit::Postfix, &setup)), (true, true, true));
}

fn max_idle() {
    let port = ports::free();
    let setup =
        Setup { master_cf: format!("127.0.0.1:{port} inet n - n - - qmqpd -i 1s\n"), ..Default::default() };
    let server = drop_in::start(Submit::Local, &setup);
    let qmqpds = || server.children().iter().filter(|(_, name)| name == "qmqpd").count();
    let before = qmqpds();
    assert!(send_to(port).starts_with('K'));
    assert_eq!(qmqpds(), before + 1);
    wait::until("it has been idle for long enough", || (qmqpds() == before).then_some(()));
    assert!(send_to(port).starts_with('K'));
}

/// `-s 2`: a name with two addresses.
fn several_sockets() {
    let port = ports::free();
    let setup = Setup { master_cf: format!("localhost:{port} inet n - n - - qmqpd\n"), ..Default::default() };
    let server = drop_in::start(Submit::Postfix, &setup);
    for address in [at(port), format!("[::1]:{port}").parse().unwrap()] {
        let mut stream = client::connect(address);
        let said = reply_from(&mut stream);
        assert!(said.starts_with('K'), "{address}: {said}");
    }
    let log = server.log.all();
    let served = wait::until("both messages are logged", || {
        let tags = tags(&server, "/qmqpd[");
        (tags.len() == 2).then(|| std::collections::BTreeSet::from_iter(tags))
    });
    assert_eq!(served.len(), 1, "one process for both: {log}");
}

fn debugger() {
    let place = postfix::scratch("debugger");
    let out = place.path().join("out");
    let port = ports::free();
    let setup = Setup {
        main_cf: vec![format!(
            "debugger_command = echo $process_name $process_id >{}; exit 3",
            out.display()
        )],
        master_cf: format!("127.0.0.1:{port} inet n - n - - qmqpd -D\n"),
        ..Default::default()
    };
    let start: [fn(&Setup) -> Instance; 2] = [Instance::start, |setup| drop_in::start(Submit::Local, setup)];
    for start in start {
        let server = start(&setup);
        assert!(send_to(port).starts_with('K'));
        let told = std::fs::read_to_string(&out).unwrap();
        let id = told.trim().strip_prefix("qmqpd ").unwrap_or_else(|| panic!("{told}"));
        server.log.all_with(&format!("qmqpd[{id}]: running: echo qmqpd {id} >"));
        // The process that is looked at is the one that does the work.
        let worker = wait::until("the message is logged", || tags(&server, "/qmqpd[").pop());
        assert_eq!(worker, format!("postfix/qmqpd[{id}]:"));
    }
}

/// Postfix's qmqpd locks a file around each accept, so that one process wakes for a client and not all. Ours accepts in one
/// process (docs/postfix-differences.md).
fn accept_lock() {
    let locks = |server: &Instance| {
        let names = std::fs::read_dir(server.queue.path.join("pid")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("inet.")).count()
    };
    assert!(locks(&Instance::start(&Setup::default())) > 0);
    let server = drop_in::start(Submit::Postfix, &Setup::default());
    assert!(send(&server).starts_with('K'));
    assert_eq!(locks(&server), 0);
}

const FULL: &str = "qmqpd_connection_limit = 3";

/// A process that has as many clients as it may have makes way for another, as a busy process of Postfix does.
fn relief(submit: Submit) {
    let setup = Setup { main_cf: vec![FULL.to_owned()], columns: Some("n - n - 5"), ..Default::default() };
    let server = drop_in::start(submit, &setup);
    let _held: Vec<_> = (0..6).map(|_| client::connect(server.address)).collect();
    for _ in 0..3 {
        let said = send(&server);
        assert!(said.starts_with('K'), "{said}");
    }
    assert_eq!(server.children().iter().filter(|(_, name)| name == "qmqpd").count(), 3);
    assert!(!server.log.all().contains("too many"));
}

/// With the last process full, clients wait in the backlog, as with Postfix.
fn full(submit: Submit) {
    let setup = Setup { main_cf: vec![FULL.to_owned()], columns: Some("n - n - 1"), ..Default::default() };
    let server = drop_in::start(submit, &setup);
    let mut held: Vec<_> = (0..3).map(|_| client::connect(server.address)).collect();
    let mut fourth = client::connect(server.address);
    fourth.write_all(&message()).unwrap();
    held.pop();
    let (received, _) = client::read_to_end(&mut fourth);
    assert!(client::text(&received).contains(":KOk: queued as "), "{}", client::text(&received));
    // Whoever has a place keeps it.
    let said = reply_from(&mut held[0]);
    assert!(said.starts_with('K'), "{said}");
    assert!(send(&server).starts_with('K'));
    assert!(!server.log.all().contains("too many"));
}
