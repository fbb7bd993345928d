//! Who may not send must not be able to keep those from it who may: with the help of table servers and name servers that do
//! not answer, or alone.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{name_server, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("strangers::a_silent_table_server_holds_up_its_own_clients_alone", &[Peer::Isolation], table);
    trials.add("strangers::no_turn_at_a_table_server_is_z_in_time", &[Peer::Isolation], turns);
    trials.add("strangers::a_silent_name_server_holds_up_who_needs_a_name", &[Peer::Isolation], names);
    trials.add("strangers::a_flood_leaves_room_for_those_who_may_send", &[Peer::Isolation], flood);
    trials.add("strangers::who_waits_for_a_name_leaves_room_for_others", &[Peer::Isolation], waiting);
    trials.add("strangers::a_greedy_client_leaves_room_for_another", &[Peer::Isolation], greedy);
}

const CONTENT: &[u8] = b"Subject: strangers\n\nhello\n";

/// More than wait for a table server at a time.
const STRANGERS: usize = 70;

fn with(lines: &[&str]) -> Instance {
    name_server::start();
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Default::default() })
}

/// With a resolver that waits for a name server longer than `qmqpd_dns_timeout`.
fn with_patient_resolver(lines: &[&str]) -> Instance {
    name_server::start();
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\noptions timeout:5 attempts:5\n").unwrap();
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start_with_resolver(&Setup { main_cf, ..Default::default() }, &resolv_conf)
}

fn send_from(from: &str, server: SocketAddr) -> String {
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let session = client::run_from(from, server, &[Step::Send(whole)]);
    client::text(client::reply(&session.received).unwrap_or_else(|| panic!("no reply: {session:?}")))
}

/// What has come so far, if anything: the reply, or the end.
fn has_heard(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.set_nonblocking(true).unwrap();
    let mut heard = [0; 1000];
    match stream.read(&mut heard) {
        Ok(count) => Some(heard[..count].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error} instead of a reply"),
    }
}

/// A tcp: table whose server takes each connection and, with an answer, says that to each question.
fn table_server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().flatten() {
            match answer {
                None => silent.push(stream),
                Some(answer) => drop(std::thread::spawn(move || {
                    let mut replies = stream.try_clone().unwrap();
                    for _question in BufReader::new(stream).lines().map_while(Result::ok) {
                        let _ = replies.write_all(answer.as_bytes());
                    }
                })),
            }
        }
    });
    format!("tcp:127.0.0.1:{port}")
}

/// They take all turns at that server; and a client that stands in front of it in the list is served meanwhile, by help of another
/// table server.
fn table() {
    let (silent, good) = (table_server(None), table_server(Some("500 not found\n")));
    let server = with(&[
        &format!("qmqpd_authorized_clients = 127.0.0.1, {silent}"),
        &format!("recipient_canonical_maps = {good}"),
    ]);
    let mut strangers: Vec<TcpStream> =
        (0..STRANGERS).map(|_| client::connect_from("127.0.0.66", server.address)).collect();
    wait::until("the strangers are there", || {
        (server.log.all().matches("]: connect from unknown[127.0.0.66]").count() == STRANGERS).then_some(())
    });
    for _ in 0..20 {
        assert!(send_from("127.0.0.1", server.address).starts_with('K'));
    }
    let heard = strangers.iter_mut().filter_map(has_heard).count();
    assert!(heard < STRANGERS / 2, "{heard} strangers were served first");
}

fn turns() {
    let mut server = with(&[&format!("qmqpd_authorized_clients = 127.0.0.1, {}", table_server(None))]);
    let mut strangers: Vec<TcpStream> =
        (0..STRANGERS).map(|_| client::connect_from("127.0.0.66", server.address)).collect();
    let said =
        wait::until("one of them hears that there are too many", || strangers.iter_mut().find_map(has_heard));
    assert_eq!(client::text(&said), "47:ZError: too many table lookups, try again later,");
    server.log.lines_until("the reason", |line| line.text.contains("Error: too many table lookups"));
}

/// The stranger may come in by a name, which nobody ever says. All the others are let in by their address.
fn names() {
    let server = with_patient_resolver(&[
        "qmqpd_authorized_clients = 127.0.1.12, dns.example",
        "debug_peer_list = dns.example",
    ]);
    let mut stranger = client::connect_from("127.0.1.20", server.address);
    for _ in 0..20 {
        let said = send_from("127.0.1.12", server.address);
        assert!(said.starts_with('K'), "{said}");
    }
    assert_eq!(has_heard(&mut stranger), None, "the good clients waited as long as the stranger");
    wait::until("the log tells whose messages they were", || {
        (server.log.all().matches(": client=unknown[127.0.1.12]").count() == 20).then_some(())
    });
    stranger.set_nonblocking(false).unwrap();
    let (said, end) = client::read_to_end(&mut stranger);
    let words = "ZError: cannot verify the host name of unknown[127.0.1.20], try again later";
    assert_eq!((client::reply(&said).map(client::text), end), (Some(words.to_owned()), End::Closed));
}

/// More than there are places, from one address, all at once, and none of them goes by itself. Each hears what there is to say, and
/// no good client finds the house full.
fn flood() {
    const PLACES: usize = 100;
    let server = with(&[
        "qmqpd_authorized_clients = 127.0.0.1",
        &format!("qmqpd_connection_limit = {PLACES}"),
        "qmqpd_session_log_limit = 0",
    ]);
    let (is_over, strangers) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) && strangers.lock().unwrap().len() < 5 * PLACES {
                let stranger = client::connect_from("127.0.0.66", server.address);
                strangers.lock().unwrap().push(stranger);
            }
        });
        wait::until("there are more than places", || {
            (strangers.lock().unwrap().len() > 2 * PLACES).then_some(())
        });
        for _ in 0..100 {
            let said = send_from("127.0.0.1", server.address);
            assert!(said.starts_with('K'), "{said}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let mut counts = [0, 0];
    for mut stranger in strangers.into_inner().unwrap() {
        let (said, end) = client::read_to_end(&mut stranger);
        assert_eq!(end, End::Closed, "{}", client::text(&said));
        match client::reply(&said).map(client::text).as_deref() {
            Some("ZError: too many connections from 127.0.0.66") => counts[0] += 1,
            Some("DError: unknown[127.0.0.66] is not authorized to use this service") => counts[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        counts[0] > 0 && counts[1] > 0,
        "{counts:?} heard of too many connections, or that they may not send"
    );
    wait::until("the log names the limit", || {
        server.log.all().contains("(qmqpd_client_connection_count_limit = 50)").then_some(())
    });
}

/// Their names could let them in, and do not come. They have half of the places, and one address a quarter.
fn waiting() {
    let server = with_patient_resolver(&[
        "qmqpd_authorized_clients = 127.0.0.1, dns.example",
        "qmqpd_connection_limit = 16",
    ]);
    let mut strangers = Vec::new();
    for from in ["127.0.1.12", "127.0.1.20"] {
        strangers.extend((0..20).map(|_| client::connect_from(from, server.address)));
    }
    for _ in 0..20 {
        let said = send_from("127.0.0.1", server.address);
        assert!(said.starts_with('K'), "{said}");
    }
    let heard: Vec<_> = strangers.iter_mut().filter_map(has_heard).collect();
    assert!(heard.len() <= 32, "{} strangers were served first", heard.len());
    let too_many = b"45:ZError: too many connections, try again later,";
    assert!(heard.iter().all(|said| said == too_many), "{heard:?}");
}

/// Both may send; one of them takes all it can get.
fn greedy() {
    let server = with(&["qmqpd_authorized_clients = 127.0.0.1, 127.0.0.2", "qmqpd_connection_limit = 100"]);
    let mut held: Vec<TcpStream> =
        (0..150).map(|_| client::connect_from("127.0.0.2", server.address)).collect();
    let heard = wait::until("one hears that it has had its share", || held.iter_mut().find_map(has_heard));
    assert_eq!(client::text(&heard), "45:ZError: too many connections, try again later,");
    for _ in 0..20 {
        let said = send_from("127.0.0.1", server.address);
        assert!(said.starts_with('K'), "{said}");
    }
}
