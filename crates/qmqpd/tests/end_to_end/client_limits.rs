//! Limits of one client, named and meant as Postfix's smtpd(8) has them.

use std::net::{SocketAddr, TcpStream};

use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{name_server, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("client_limits::connections_at_a_time", &[Peer::Isolation], connections);
    trials.add("client_limits::connections_within_a_time", &[Peer::Isolation], connection_rate);
    trials.add("client_limits::messages_within_a_time", &[Peer::Isolation], message_rate);
    trials.add("client_limits::recipients_within_a_time", &[Peer::Isolation], recipient_rate);
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
