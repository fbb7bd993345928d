//! Limits of one client, named and meant as Postfix's smtpd(8) has them.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{name_server, program, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("client_limits::connections_at_a_time", &[Peer::Isolation], connections);
    trials.add("client_limits::connections_within_a_time", &[Peer::Isolation], connection_rate);
    trials.add("client_limits::messages_within_a_time", &[Peer::Isolation], message_rate);
    trials.add("client_limits::recipients_within_a_time", &[Peer::Isolation], recipient_rate);
    trials.add("client_limits::are_held_over_reloads", &[Peer::Isolation], reloads);
    trials.add(
        "client_limits::rates_are_held_over_reloads_and_kills",
        &[Peer::Isolation],
        rates_over_reloads,
    );
    trials.add("client_limits::the_log_quota_is_held_over_reloads", &[Peer::Isolation], quota_over_reloads);
    trials.add("client_limits::who_may_send_is_exempt_by_default", &[Peer::Isolation], exempt);
}

const CONTENT: &[u8] = b"Subject: limits\n\nhello\n";

/// Of these, the first comes under no limit.
const AUTHORIZED: &str = "qmqpd_authorized_clients = 127.0.0.1, 127.0.0.2, 127.0.0.3";
const EXCEPTIONS: &str = "qmqpd_client_event_limit_exceptions = 127.0.0.1";

fn with(lines: &[&str]) -> Instance {
    name_server::start();
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Default::default() })
}

fn send_from(from: &str, server: SocketAddr, recipients: usize) -> String {
    let addresses: Vec<String> = (0..recipients).map(|at| format!("r{at}@rcpt.example")).collect();
    let addresses: Vec<&[u8]> = addresses.iter().map(String::as_bytes).collect();
    let whole = request(CONTENT, b"a@sender.example", &addresses);
    let session = client::run_from(from, server, &[Step::Send(whole)]);
    assert_eq!(session.end, End::Closed, "{session:?}");
    client::text(client::reply(&session.received).unwrap_or_else(|| panic!("no reply: {session:?}")))
}

fn connections() {
    let mut server = with(&[AUTHORIZED, EXCEPTIONS, "qmqpd_client_connection_count_limit = 3"]);
    let held: Vec<TcpStream> = (0..3).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    until_refused(&server, "127.0.0.2");
    let words = "Connection concurrency limit exceeded: 4 (qmqpd_client_connection_count_limit = 3)";
    server.log.lines_until("which limit it is", |line| {
        line.text.starts_with("warning: NOQUEUE: ") && line.text.ends_with(&format!("[127.0.0.2]: {words}"))
    });
    assert!(send_from("127.0.0.3", server.address, 1).starts_with('K'), "another client");
    drop(held);
    wait::until("there is room again", || {
        send_from("127.0.0.2", server.address, 1).starts_with('K').then_some(())
    });
    let _many: Vec<TcpStream> = (0..5).map(|_| client::connect_from("127.0.0.1", server.address)).collect();
    assert!(send_from("127.0.0.1", server.address, 1).starts_with('K'), "an exception");
}

fn until_logged(server: &Instance, words: &str) {
    wait::until("the log says which limit it is", || server.log.all().contains(words).then_some(()));
}

/// A connection counts when the name of its client has been looked up, so some may come in while others are there already.
fn until_refused(server: &Instance, from: &str) {
    let words = format!("ZError: too many connections from {from}");
    wait::until("there are too many", || (send_from(from, server.address, 1) == words).then_some(()));
}

/// What each of some messages hears, in a time unit that does not end.
fn replies(server: &Instance, from: &str, recipients: &[usize]) -> Vec<String> {
    recipients.iter().map(|count| send_from(from, server.address, *count)).collect()
}

fn assert_replies(server: &Instance, from: &str, recipients: &[usize], expected: &[&str]) {
    let said = replies(server, from, recipients);
    assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{from}: {said:?}");
}

/// Longer than the test, and not about to end.
const ALWAYS: &str = "anvil_rate_time_unit = 1000000000s";

fn connection_rate() {
    let server = with(&[AUTHORIZED, EXCEPTIONS, ALWAYS, "qmqpd_client_connection_rate_limit = 2"]);
    let refused = "ZError: too many connections from 127.0.0.2";
    assert_replies(&server, "127.0.0.2", &[1, 1, 1], &["K", "K", refused]);
    assert_replies(&server, "127.0.0.3", &[1], &["K"]);
    assert_replies(&server, "127.0.0.1", &[1, 1, 1], &["K", "K", "K"]);
    until_logged(&server, "Connection rate limit exceeded: 3 (qmqpd_client_connection_rate_limit = 2)");
}

fn message_rate() {
    let server = with(&[AUTHORIZED, EXCEPTIONS, ALWAYS, "qmqpd_client_message_rate_limit = 2"]);
    assert_replies(&server, "127.0.0.2", &[1, 1, 1], &["K", "K", "ZError: too much mail from 127.0.0.2"]);
    assert_replies(&server, "127.0.0.3", &[1], &["K"]);
    assert_replies(&server, "127.0.0.1", &[1, 1, 1], &["K", "K", "K"]);
    let words = "Message delivery request rate limit exceeded: 3 (qmqpd_client_message_rate_limit = 2)";
    until_logged(&server, words);
    assert_eq!(server.queue.take().len(), 6);
}

/// A message that could never be sent does not come again and again.
fn recipient_rate() {
    let server = with(&[AUTHORIZED, EXCEPTIONS, ALWAYS, "qmqpd_client_recipient_rate_limit = 10"]);
    let later = "ZError: too many recipients from 127.0.0.2";
    let never = "DError: too many recipients from 127.0.0.2";
    assert_replies(&server, "127.0.0.2", &[6, 11, 5], &["K", never, later]);
    assert_replies(&server, "127.0.0.3", &[10], &["K"]);
    assert_replies(&server, "127.0.0.1", &[1000, 1000], &["K", "K"]);
    let words = "Recipient address rate limit exceeded: 11 (qmqpd_client_recipient_rate_limit = 10)";
    until_logged(&server, words);
    assert_eq!(server.queue.take().len(), 4);
    server.queue.wait_until_empty();
}

/// Has a fresh process serve; the old one finishes its sessions.
fn reload(server: &Instance) {
    let before = server.services();
    let reload = Command::new(program::qmqpd()).args(["reload", "-c"]).arg(&server.config).output().unwrap();
    assert!(reload.status.success(), "{reload:?}");
    wait::until("a fresh process serves", || {
        let fresh = server.services().iter().any(|process| !before.contains(process));
        (fresh && send_from("127.0.0.1", server.address, 1).starts_with('K')).then_some(())
    });
}

/// Two processes at the same time: connections of the old one count for the new one, for as long as they last.
fn reloads() {
    let server = with(&[AUTHORIZED, EXCEPTIONS, "qmqpd_client_connection_count_limit = 3"]);
    let held: Vec<TcpStream> = (0..3).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    until_refused(&server, "127.0.0.2");
    reload(&server);
    until_refused(&server, "127.0.0.2");
    assert!(send_from("127.0.0.3", server.address, 1).starts_with('K'), "another client");
    drop(held);
    wait::until("there is room again", || {
        send_from("127.0.0.2", server.address, 1).starts_with('K').then_some(())
    });
}

/// Also when the old process is there no more.
fn rates_over_reloads() {
    let server = with(&[AUTHORIZED, EXCEPTIONS, ALWAYS, "qmqpd_client_message_rate_limit = 4"]);
    let send_until_told = |messages, told| {
        assert_replies(&server, "127.0.0.2", messages, &["K", "K"]);
        wait::until("the process has told of it", || (told_messages(&server) == told).then_some(()));
    };
    send_until_told(&[1, 1], 2);
    reload(&server);
    wait::until("the old process is gone", || (server.services().len() == 1).then_some(()));
    send_until_told(&[1], 3);
    let [process] = server.services()[..] else { panic!("{:?}", server.services()) };
    kill(process, Signal::SIGKILL).unwrap();
    wait::until("a fresh process serves", || (server.services() != [process]).then_some(()));
    let refused = "ZError: too much mail from 127.0.0.2";
    assert_replies(&server, "127.0.0.2", &[1, 1], &["K", refused]);
}

/// How many messages of 127.0.0.2 the processes have told each other of: service/siblings/region.rs says where.
fn told_messages(server: &Instance) -> u32 {
    let files = std::fs::read_dir(server.queue.path.join("pid")).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|file| file.file_name().as_bytes().starts_with(b"qmqpd-clients."));
    let told = files.flat_map(|file| {
        let bytes = std::fs::read(file.path()).unwrap();
        let client = std::net::Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped().octets();
        let entries = bytes.chunks_exact(64).filter(|entry| entry[8..24] == client);
        entries.map(|entry| u32::from_le_bytes(entry[44..48].try_into().unwrap())).collect::<Vec<_>>()
    });
    told.sum()
}

fn quota_over_reloads() {
    const LIMIT: usize = 20;
    let limit = format!("qmqpd_session_log_limit = {LIMIT}");
    let mut server = with(&["qmqpd_authorized_clients = 127.0.0.1", &limit]);
    for _ in 0..5 {
        for _ in 0..LIMIT {
            let session = client::run_from("127.0.0.66", server.address, &[]);
            assert!(client::text(&session.received).contains("is not authorized to use this service"));
        }
        reload(&server);
    }
    server.stop();
    let log = server.log.all();
    let logged = log.matches("]: connect from unknown[127.0.0.66]").count();
    // The minute may have ended meanwhile, and a process may have been told a moment too late.
    assert!((LIMIT..=3 * LIMIT).contains(&logged), "{logged}: {log}");
}

/// A list server sends as fast as it can, over as many connections as it likes.
fn exempt() {
    let server = with(&[
        AUTHORIZED,
        ALWAYS,
        "qmqpd_client_connection_count_limit = 2",
        "qmqpd_client_connection_rate_limit = 2",
        "qmqpd_client_message_rate_limit = 2",
        "qmqpd_client_recipient_rate_limit = 2",
    ]);
    let _held: Vec<TcpStream> = (0..20).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    assert_replies(&server, "127.0.0.2", &[100, 1, 1], &["K", "K", "K"]);
    let _stranger = [(); 2].map(|()| client::connect_from("127.0.0.66", server.address));
    until_refused(&server, "127.0.0.66");
}
