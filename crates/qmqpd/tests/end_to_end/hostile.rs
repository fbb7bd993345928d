//! Many clients that mean no good, and one that just wants to send its mail.
//!
//! `QMQPD_CLIENTS` sets how many there are in the larger tests. They print how long the good client waits, beside them and
//! at a server of its own.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{name_server, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("hostile::thousands_of_connections", &[], thousands);
    trials.add("hostile::a_byte_now_and_then", &[], trickle);
    trials.add("hostile::half_a_message_and_then_silence", &[], silence);
    trials.add("hostile::messages_that_stall_give_way", &[], stalled);
    trials.add("hostile::resets_by_the_hundred", &[], resets);
    trials.add("hostile::a_flood_of_refusals_is_counted", &[Peer::Isolation], refusals);
    trials.add("hostile::more_clients_than_are_counted", &[Peer::Isolation], uncounted);
    trials.add("hostile::nothing_from_outside_gets_raw_into_the_log", &[Peer::Isolation], log_injection);
    trials.add("hostile::very_many_recipients", &[], recipients);
}

const CONTENT: &[u8] = b"Subject: hostile\n\nhello\n";

fn with(lines: &[&str]) -> Instance {
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Default::default() })
}

fn send(address: SocketAddr) -> String {
    client::send(address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

/// How many clients a test has: `QMQPD_CLIENTS`, or as many as do not make everybody wait.
fn clients(otherwise: usize) -> usize {
    std::env::var("QMQPD_CLIENTS").map_or(otherwise, |count| count.parse().expect("QMQPD_CLIENTS: a number"))
}

/// This program holds a descriptor for each of them.
fn raise_descriptors(wanted: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).unwrap();
    }
}

/// Sends messages one after the other, to a server that is troubled and one that is not in turns: what the machine has to do
/// besides, both feel. Neither may take much longer than the other. The median and the 99th percentile of the times at each.
pub(crate) fn assert_waits_are_alike(
    troubled: SocketAddr,
    quiet: SocketAddr,
    messages: usize,
) -> [(Duration, Duration); 2] {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..messages {
        for (took, address) in took.iter_mut().zip([troubled, quiet]) {
            let began = Instant::now();
            let said = send(address);
            assert!(said.starts_with('K'), "{said}");
            took.push(began.elapsed());
        }
    }
    let seen = took.map(|mut took| {
        took.sort();
        (took[messages / 2], took[messages * 99 / 100])
    });
    let [(beside, _), (alone, _)] = seen;
    assert!(beside < alone * 20, "median and p99 beside the others, and without: {seen:?}");
    seen
}

/// Descriptors of the service process.
fn descriptors(server: &Instance) -> usize {
    let of = |pid: &nix::unistd::Pid| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    server.services().iter().map(of).sum()
}

/// The most memory that the service process ever had, in KiB.
fn peak_kib(server: &Instance) -> u64 {
    let of = |pid: &nix::unistd::Pid| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    server.services().iter().filter_map(of).max().expect("a service process")
}

/// Idle ones, with and without half a message. The good client is served, and afterwards nothing is left of them.
fn thousands() {
    // Fewer than `qmqpd_memory_limit` lets in at a time: beyond that, everybody waits for them.
    const HALF_MESSAGES: usize = 200;
    let count = clients(1500);
    raise_descriptors(count as u64 + 1000);
    let server = with(&[&format!("qmqpd_connection_limit = {}", count + 100), "qmqpd_timeout = 300s"]);
    let quiet = with(&[]);
    let messages = if std::env::var_os("QMQPD_CLIENTS").is_some() { 1000 } else { 20 };
    assert_waits_are_alike(server.address, quiet.address, messages);
    let (before, memory_before) = (descriptors(&server), peak_kib(&server));
    let idle: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = client::connect(server.address);
            if number < HALF_MESSAGES {
                stream.write_all(b"100:50:Subject: x").unwrap();
            }
            stream
        })
        .collect();
    wait::until("all of them are held", || (descriptors(&server) >= before + count).then_some(()));
    let [beside, alone] = assert_waits_are_alike(server.address, quiet.address, messages);
    let memory = peak_kib(&server) - memory_before;
    eprintln!(
        "{count} connections, {messages} messages: median and p99 {alone:?} alone, {beside:?} beside them; {memory} KiB more"
    );
    // What the runtime and the log keep of each, and for some a buffer and a message.
    let allowed_kib = 8 * 1024 + 8 * count as u64 + 64 * HALF_MESSAGES as u64;
    assert!(memory <= allowed_kib, "{count} connections took {memory} KiB, more than {allowed_kib}");
    drop(idle);
    wait::until("all of them are gone", || (descriptors(&server) <= before + 2).then_some(()));
    assert!(send(server.address).starts_with('K'));
}

/// Each byte is in time; the session is not.
fn trickle() {
    const CLIENTS: usize = 100;
    const DEADLINE: Duration = Duration::from_secs(2);
    // The rest of the time is for reading why: a client that sends on must not lose the reply.
    let server = with(&["qmqpd_session_deadline = 2s", "qmqpd_timeout = 300s", "qmqpd_drain_timeout = 300s"]);
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..CLIENTS).map(|_| client::connect(server.address)).collect();
    for stream in &mut slow {
        stream.write_all(b"100000:90000:").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut replies: BTreeMap<String, usize> = BTreeMap::new();
    wait::until("the last of them has heard why it is cut", || {
        slow.retain_mut(|stream| {
            let mut reply = [0; 100];
            match stream.read(&mut reply) {
                Ok(count) => {
                    assert!(began.elapsed() >= DEADLINE, "cut after {:?}", began.elapsed());
                    *replies.entry(client::text(&reply[..count])).or_default() += 1;
                    false
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    stream.write_all(b"x").unwrap();
                    true
                }
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        slow.is_empty().then_some(())
    });
    let words = "58:Zsession deadline exceeded while receiving message content,";
    assert_eq!(replies, BTreeMap::from([(words.to_owned(), CLIENTS)]));
    assert!(send(server.address).starts_with('K'));
    assert_eq!(server.queue.take().len(), 1);
    server.queue.wait_until_empty();
}

/// Peers whose machine has gone look like this: nothing more comes, not even an end.
fn silence() {
    let server = with(&["qmqpd_timeout = 1s"]);
    let before = descriptors(&server);
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let silent: Vec<TcpStream> = (0..whole.len() - 1)
        .map(|length| {
            let mut stream = client::connect(server.address);
            stream.write_all(&whole[..length]).unwrap();
            stream
        })
        .collect();
    assert!(send(server.address).starts_with('K'));
    for mut stream in silent {
        assert_eq!(client::read_to_end(&mut stream), (vec![], End::Closed));
    }
    wait::until("nothing is left of them", || (descriptors(&server) <= before + 1).then_some(()));
    assert_eq!(server.queue.take().len(), 1);
    server.queue.wait_until_empty();
}

/// Half a message holds its memory, and a byte now and then keeps it in time; but not when others wait for it.
fn stalled() {
    const SHARES: usize = 4;
    // One more is for other clients.
    let memory = format!("qmqpd_memory_limit = {}", (SHARES + 1) * 256 * 1024);
    let server =
        with(&[&memory, "qmqpd_stress_timeout = 1s", "qmqpd_timeout = 300s", "qmqpd_drain_timeout = 0"]);
    let mut slow: Vec<TcpStream> = (0..SHARES)
        .map(|_| {
            let mut stream = client::connect(server.address);
            stream.write_all(b"100000:90000:Subject: x").unwrap();
            stream
        })
        .collect();
    wait::until("they hold all the memory that they may", || {
        (server.log.all().matches(": client=").count() == SHARES).then_some(())
    });
    for stream in &slow {
        stream.set_nonblocking(true).unwrap();
    }
    let address = server.address;
    let good = std::thread::spawn(move || (0..5).map(|_| send(address)).collect::<Vec<_>>());
    let mut replies = Vec::new();
    // Half of them send on, a little.
    wait::until("the good client is served, and somebody has heard why it gave way", || {
        slow.iter_mut().step_by(2).for_each(|stream| drop(stream.write_all(b"x")));
        for stream in &mut slow {
            let _ = stream.read_to_end(&mut replies);
        }
        std::thread::sleep(Duration::from_millis(50));
        (good.is_finished() && !replies.is_empty()).then_some(())
    });
    assert!(good.join().unwrap().iter().all(|said| said.starts_with('K')));
    assert!(client::text(&replies).contains("ZError: server is busy, try again later"), "{replies:?}");
}

/// At every byte, from several sides at once, with a good client among them.
fn resets() {
    let server = with(&[]);
    let before = descriptors(&server);
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for length in 0..whole.len() - 1 {
                    client::run(server.address, &[Step::Send(whole[..length].to_vec()), Step::Reset]);
                }
            });
        }
        for _ in 0..20 {
            assert!(send(server.address).starts_with('K'));
        }
    });
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), 20);
    server.queue.wait_until_empty();
    wait::until("nothing is left of them", || (descriptors(&server) <= before + 1).then_some(()));
}

/// Somebody who is refused as fast as it can connect does not fill the log, and mail is logged as ever.
fn refusals() {
    const REFUSED: usize = 300;
    const LOGGED: usize = 20;
    const FROM: &str = "127.0.0.66";
    name_server::start();
    let limit = format!("qmqpd_session_log_limit = {LOGGED}");
    let mut server = with(&["qmqpd_authorized_clients = 127.0.0.1", &limit]);
    for _ in 0..REFUSED {
        let session = client::run_from(FROM, server.address, &[]);
        assert!(client::text(&session.received).contains("is not authorized to use this service"));
    }
    for _ in 0..2 * LOGGED {
        assert!(send(server.address).starts_with('K'));
    }
    server.stop();
    let log = server.log.all();
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines(&format!("]: connect from unknown[{FROM}]")), LOGGED);
    assert_eq!(lines(&format!("]: disconnect from unknown[{FROM}]")), LOGGED);
    assert_eq!(lines("is not authorized to use this service"), LOGGED);
    assert_eq!(lines(&format!("]: warning: too many sessions without a message from [{FROM}]: ")), 1);
    let counted: usize = log
        .lines()
        .filter_map(|line| line.split_once("sessions without a message, not logged: "))
        .map(|(_, rest)| rest.split_once(" from [127.0.0.66]").unwrap().0.parse::<usize>().unwrap())
        .sum();
    assert_eq!(counted, REFUSED - LOGGED, "{log}");
    assert_eq!(lines(": client=localhost[127.0.0.1]"), 2 * LOGGED);
}

/// Each client has its own count in the log, up to a thousand of them; the others have one together. One that is known keeps
/// its own, and one that comes later gets none.
fn uncounted() {
    const KNOWN: usize = 1000;
    name_server::start();
    let mut server = with(&["qmqpd_authorized_clients = !127.0.0.0/8", "qmqpd_session_log_limit = 1"]);
    let refused = |from: &str| {
        let session = client::run_from(from, server.address, &[]);
        assert!(client::text(&session.received).contains("is not authorized to use this service"));
    };
    for number in 0..KNOWN {
        refused(&format!("127.0.{}.{}", 8 + number / 200, 1 + number % 200));
    }
    for (from, count) in [("127.0.8.1", 30), ("127.0.20.1", 20), ("127.0.20.2", 20)] {
        (0..count).for_each(|_| refused(from));
    }
    server.stop();
    let log = server.log.all();
    let counted = |who: &str| -> usize {
        log.lines()
            .filter_map(|line| line.split_once("sessions without a message, not logged: "))
            .filter_map(|(_, rest)| rest.strip_suffix(who)?.parse::<usize>().ok())
            .sum()
    };
    assert_eq!(counted(" from [127.0.8.1]"), 30, "{log}");
    assert_eq!((counted(" from [127.0.20.1]"), counted(" from [127.0.20.2]")), (0, 0), "{log}");
    // All that came later, and what does not fit into the list.
    assert!(counted(" from other clients") >= 40, "{log}");
}

/// Names, addresses, headers, replies: whatever can be said by somebody else.
fn log_injection() {
    name_server::start();
    let mut server = with(&["qmqpd_authorized_clients = 127.0.0.0/8", "debug_peer_list = 127.0.0.1"]);
    let evil: &[u8] = b"FAKED\x1b[31m\r\nNov 23 22:30:10 mx postfix/qmqpd[1]: FAKED\x07\x9b2J\0\x7f\xff";
    // Without the end of a line, so that it stays in its header.
    let inside: &[u8] = b"FAKED\x1b[31m\r\x07\x9b2J\x7f\xff\xc2\x9b";
    let mut replies = Vec::new();
    let mut say = |from: &str, bytes: Vec<u8>| {
        let session = client::run_from(from, server.address, &[Step::Send(bytes), Step::HalfClose]);
        replies.extend(session.received);
    };
    // The hosts file and the name server know names for these that are full of such bytes.
    for from in ["127.0.0.8", "127.0.1.17", "127.0.1.18"] {
        say(from, request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]));
    }
    let from_evil = [b"list-".as_slice(), evil, b"@host.example-@[]"].concat();
    let headers = ["Subject: ", "\nMessage-ID: <", "@x>\nTo: ", "\nFrom: a@b\nReceived: ", "\n\n"];
    let content = headers.map(str::as_bytes).join(inside);
    for bytes in [
        request(CONTENT, evil, &[b"b@rcpt.example"]),
        request(CONTENT, b"a@sender.example", &[evil]),
        request(CONTENT, &from_evil, &[b"b@rcpt.example"]),
        request(CONTENT, b"list-@host.example-@[]\x1b\n", &[b"b@rcpt.example"]),
        request(CONTENT, b"list\x1b@host.example\n-@[]", &[b"b@rcpt.example"]),
        request(&content, b"a@sender.example", &[b"b@rcpt.example"]),
        client::netstring(evil),
        evil.to_vec(),
        [b"20:".as_slice(), evil].concat(),
    ] {
        say("127.0.0.1", bytes);
    }
    assert!(send(server.address).starts_with('K'));
    // Only then no line is on its way.
    server.stop();
    let is_text = |character: char| !character.is_control();
    let log = String::from_utf8(std::fs::read(server.dir().join("maillog")).unwrap()).expect("UTF-8");
    for line in log.lines() {
        assert!(line.chars().all(is_text), "{line:?}");
        let tag = line.get(15..).unwrap_or_default();
        assert!(tag.starts_with(" mx postfix/") && !line.starts_with("Nov 23 22:30:10"), "{line:?}");
    }
    assert!(log.contains("FAKED"), "what the clients said is not in the log at all: {log}");
    assert!(log.contains("valid_hostname: ") || log.contains("malformed"), "no word about the names: {log}");
    let replies = String::from_utf8(replies).expect("UTF-8");
    assert!(replies.chars().all(is_text), "{replies:?}");
}

/// As many as the size limit lets through, in several sessions at once, with a good client beside them.
fn recipients() {
    const SESSIONS: usize = 4;
    const RECIPIENTS: usize = 60_000;
    const ALLOWED_KIB: u64 = 64 * 1024;
    let server = with(&["qmqpd_memory_limit = 4194304"]);
    let addresses: Vec<Vec<u8>> =
        (0..RECIPIENTS).map(|at| format!("subscriber-{at}@list.example").into_bytes()).collect();
    let addresses: Vec<&[u8]> = addresses.iter().map(Vec::as_slice).collect();
    let large = request(CONTENT, b"owner@list.example", &addresses);
    let same = request(CONTENT, b"owner@list.example", &vec![addresses[0]; RECIPIENTS]);
    let crowd = request(CONTENT, b"owner@list.example", &[addresses.as_slice(); 6].concat());
    std::thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                for (bytes, reply) in
                    [(&large, "KOk: "), (&same, "KOk: "), (&crowd, "DError: message too large")]
                {
                    let session = client::run(server.address, &[Step::Send(bytes.clone())]);
                    let said = client::reply(&session.received).map(client::text).unwrap_or_default();
                    assert!(said.starts_with(reply), "{said}");
                }
            });
        }
        for _ in 0..20 {
            assert!(send(server.address).starts_with('K'));
        }
    });
    let peak = peak_kib(&server);
    assert!(peak <= ALLOWED_KIB, "{SESSIONS} times {RECIPIENTS} recipients took {peak} KiB");
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), 2 * SESSIONS + 20);
    server.queue.wait_until_empty();
}
