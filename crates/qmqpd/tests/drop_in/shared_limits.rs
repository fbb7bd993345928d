//! Limits that are held over all processes that Postfix's master(8) has started for a service, and those that it knows no more.

use std::io::Write;
use std::net::TcpStream;

use testbed::client::{self, Step, request};
use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup};
use testbed::trials::Trials;
use testbed::{name_server, wait};

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix, Peer::Isolation];
    trials.add("shared_limits::connections_of_one_client", &needs, connections);
    trials.add("shared_limits::one_client_never_has_all_places", &needs, greedy);
    trials.add("shared_limits::old_generations_are_few", &needs, generations);
    trials.add("shared_limits::the_log_quota_outlives_its_process", &needs, quota);
}

const CONTENT: &[u8] = b"Subject: limits\n\nhello\n";

fn with(lines: &[&str], columns: &'static str) -> Instance {
    name_server::start();
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    drop_in::start(Submit::Local, &Setup { main_cf, columns: Some(columns), ..Setup::default() })
}

fn message() -> Vec<u8> {
    request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

fn send_from(from: &str, server: &Instance) -> String {
    let session = client::run_from(from, server.address, &[Step::Send(message())]);
    client::text(client::reply(&session.received).unwrap_or_else(|| panic!("no reply: {session:?}")))
}

const AUTHORIZED: &str = "qmqpd_authorized_clients = 127.0.0.1, 127.0.0.2";

/// Two processes of five places, and seven connections for one client.
fn connections() {
    let server = with(
        &[
            AUTHORIZED,
            "qmqpd_client_event_limit_exceptions = 127.0.0.1",
            "qmqpd_client_connection_count_limit = 7",
            "qmqpd_connection_limit = 5",
        ],
        "n - n - 2",
    );
    let mut held: Vec<TcpStream> =
        (0..5).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    assert!(send_from("127.0.0.1", &server).starts_with('K'), "a second process serves");
    held.extend((0..2).map(|_| client::connect_from("127.0.0.2", server.address)));
    wait::until("the eighth is one too many", || {
        (send_from("127.0.0.2", &server) == "ZError: too many connections from 127.0.0.2").then_some(())
    });
    assert!(send_from("127.0.0.1", &server).starts_with('K'), "another client");
    let words = "Connection concurrency limit exceeded: 8 (qmqpd_client_connection_count_limit = 7)";
    wait::until("the log says so", || server.log.all().contains(words).then_some(()));
    drop(held);
    wait::until("there is room again", || send_from("127.0.0.2", &server).starts_with('K').then_some(()));
}

/// Two processes of twenty places; both clients may send, and one of them takes all it can get.
fn greedy() {
    let server = with(&[AUTHORIZED, "qmqpd_connection_limit = 20"], "n - n - 2");
    let mut held: Vec<TcpStream> =
        (0..60).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    let heard = wait::within(wait::PATIENCE, || held.iter_mut().find_map(has_heard));
    let heard = heard.unwrap_or_else(|| panic!("none hears that it has had its share: {}", server.log.all()));
    assert_eq!(client::text(&heard), "45:ZError: too many connections, try again later,");
    for _ in 0..10 {
        let said = send_from("127.0.0.1", &server);
        assert!(said.starts_with('K'), "{said}; {}", server.log.all());
    }
}

/// What is there to be read, without waiting.
fn has_heard(stream: &mut TcpStream) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut heard = [0; 100];
    stream.set_nonblocking(true).unwrap();
    let count = stream.read(&mut heard);
    stream.set_nonblocking(false).unwrap();
    count.ok().filter(|count| *count > 0).map(|count| heard[..count].to_vec())
}

fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let is_over =
        !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    is_over
}

/// A client in the middle of its message at each reload: the master knows nothing of those who serve it to the end.
fn generations() {
    const RELOADS: usize = 5;
    let server = with(&[AUTHORIZED, "qmqpd_old_process_limit = 2"], "n - n - 1");
    let served = || server.log.all().matches(": confined: ").count();
    let mut clients = Vec::new();
    for reload in 1..=RELOADS {
        let mut client = client::connect_from("127.0.0.2", server.address);
        client.write_all(&message()[..20]).unwrap();
        clients.push(client);
        wait::until("its session begins", || {
            let log = server.log.all();
            let begins = |line: &&str| line.contains(": connect from ") && line.ends_with("[127.0.0.2]");
            (log.lines().filter(begins).count() == reload).then_some(())
        });
        server.control("reload");
        wait::until("another process serves", || {
            assert!(send_from("127.0.0.1", &server).starts_with('K'));
            (served() > reload).then_some(())
        });
    }
    let (old, young) = clients.split_at(RELOADS - 2);
    wait::until("the oldest end their sessions", || old.iter().all(is_over).then_some(()));
    assert!(!young.iter().any(is_over), "two may finish: {}", server.log.all());
    let words = "more than 2 draining processes (qmqpd_old_process_limit)";
    // The log may come a little later than what it tells of.
    let told = || server.log.all().matches(words).count();
    wait::until("the log says so of each", || (told() >= RELOADS - 2).then_some(()));
    assert_eq!(told(), RELOADS - 2, "{}", server.log.all());
    for mut client in clients.split_off(RELOADS - 2) {
        client.write_all(&message()[20..]).unwrap();
        let (received, _) = client::read_to_end(&mut client);
        assert!(client::text(&received).contains(":KOk: queued as "), "{}", client::text(&received));
    }
}

/// Process after process, each of which lives for a second.
fn quota() {
    const LIMIT: usize = 20;
    let limit = format!("qmqpd_session_log_limit = {LIMIT}");
    let lines = ["qmqpd_authorized_clients = 127.0.0.1", "max_use = 1", "max_idle = 1s", &limit];
    let mut server = with(&lines, "n - n - 1");
    let processes = || server.log.all().matches(": confined: ").count();
    let mut sessions = 0;
    wait::until("eight processes have served", || {
        for _ in 0..LIMIT {
            client::run_from("127.0.0.66", server.address, &[]);
            sessions += 1;
        }
        (processes() >= 8 && sessions >= 8 * LIMIT).then_some(())
    });
    server.stop();
    let log = server.log.all();
    let logged = log.matches("]: connect from unknown[127.0.0.66]").count();
    // The minute may have ended meanwhile, and a process may have been told a moment too late.
    assert!((LIMIT..=4 * LIMIT).contains(&logged), "{logged} of {sessions}: {log}");
}
