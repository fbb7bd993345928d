//! Rules that are cheap for everybody's mail, and expensive for a message that was made for them: the client that sends
//! it waits, and all others are served.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testbed::client;
use testbed::ours::{Instance, Setup};
use testbed::postfix::scratch;
use testbed::trials::Trials;
use testbed::wait;

/// docs/postfix-differences.md names them so.
const OTHERS: &str = "expressions::hold_up_nobody_else";

pub(crate) fn add(trials: &mut Trials) {
    for (name, attack) in [
        ("pcre_that_backtracks", ATTACKS[0]),
        ("pcre_that_begins_anywhere", ATTACKS[1]),
        ("pcre_that_doubles", ATTACKS[2]),
        ("regexp_that_begins_anywhere", ATTACKS[3]),
    ] {
        trials.add(&format!("{OTHERS}_{name}"), &[], move || large(attack));
        trials.add(&format!("{OTHERS}_in_short_messages_{name}"), &[], move || {
            short(attack);
        });
    }
    for (name, leaves) in
        [("resets_the_connection", Leaves::Reset), ("goes_in_mid_message", Leaves::InMidMessage)]
    {
        trials.add(&format!("expressions::end_when_their_client_{name}"), &[], move || {
            work_for_nobody_ends(leaves);
        });
    }
    trials.add(
        "expressions::go_on_for_a_client_that_only_sends_no_more",
        &[],
        a_half_closed_client_is_served,
    );
}

/// Type and rule of a table, and a piece of a header that it has trouble with.
type Attack = (&'static str, &'static str, &'static str);

const ATTACKS: [Attack; 4] = [
    ("pcre", r"/\s+$/", " "),
    ("pcre", r"/name=[^>]*\.(bat|com|exe|dll)/", "name=."),
    ("pcre", r"/^X-Header: (x+)+$/", "x"),
    ("regexp", r"/x+y/", "x"),
];

/// A message with headers of so many bytes.
fn message(piece: &str, headers: usize, header_bytes: usize) -> Vec<u8> {
    let mut message = String::new();
    for _ in 0..headers {
        writeln!(message, "X-Header: {}!", piece.repeat(header_bytes / piece.len())).unwrap();
    }
    message.push_str("\nhello\n");
    message.into_bytes()
}

/// Two megabytes, as a client of a list server may well send them.
fn large(attack: Attack) {
    hold_up_nobody(attack, 4, &message(attack.2, 20, 99_000));
}

/// What comes in one piece goes another way: there, a handful of threads are for all.
fn short(attack: Attack) {
    hold_up_nobody(attack, 8, &message(attack.2, 1, 14_000));
}

fn hold_up_nobody((kind, rule, _): Attack, attackers: usize, message: &[u8]) {
    let dir = scratch("rules");
    let rules = dir.path().join("rules");
    std::fs::write(&rules, format!("/^X-Nothing: / REJECT\n{rule} REJECT\n")).unwrap();
    let main_cf = vec![
        format!("header_checks = {kind}:{}", rules.display()),
        "qmqpd_expression_time_limit = 1s".to_owned(),
        "qmqpd_commit_threads = 2".to_owned(),
        "qmqpd_error_delay = 0".to_owned(),
    ];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let alone = wait_of_good_client(server.address);
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        let hostile: Vec<_> = (0..attackers)
            .map(|_| {
                scope.spawn(|| {
                    let mut replies = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        replies.push(send_patiently(server.address, message));
                    }
                    replies
                })
            })
            .collect();
        let _over = Over(&is_over);
        wait::until("all of them are under way", || {
            (server.log.all().matches("connect from").count() >= GOOD_MESSAGES + attackers).then_some(())
        });
        let beside = wait_of_good_client(server.address);
        is_over.store(true, Ordering::Relaxed);
        for attacker in hostile {
            let replies = attacker.join().unwrap();
            let are_known =
                |reply: &String| reply.starts_with('K') || reply == "ZError: queue file write error";
            assert!(replies.iter().all(are_known), "{replies:?}");
        }
        beside
    });
    eprintln!("{kind} {rule}: {alone:?} alone, {beside:?} beside {attackers} others");
    assert!(beside < alone * 100, "{alone:?} alone, {beside:?} beside");
    // Another limit comes first where one place of the key takes all the time.
    if message.len() > 1_000_000 && !rule.contains("(x+)+") {
        let place = format!("{kind} map {}, line 2: expressions have used all", rules.display());
        let limit = "qmqpd_expression_time_limit = 1s";
        let log = server.log.all_with(&place);
        let is_named = log.lines().any(|line| line.contains(&place) && line.ends_with(limit));
        assert!(is_named, "no line names {limit}");
    }
    wait::until("the work ends with its client", || {
        let before = processor_time(&server);
        std::thread::sleep(Duration::from_millis(500));
        (processor_time(&server) - before < Duration::from_millis(100)).then_some(())
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Behind a whole request.
    Reset,
    /// In order.
    InMidMessage,
}

/// Rules that would work on this message for minutes.
fn server_of_slow_rules(time_limit: &str) -> (Instance, tempfile::TempDir) {
    let dir = scratch("rules");
    let rules = dir.path().join("rules");
    std::fs::write(&rules, "/\\s+$/ REJECT\n".repeat(20)).unwrap();
    let main_cf = vec![
        format!("header_checks = pcre:{}", rules.display()),
        format!("qmqpd_expression_time_limit = {time_limit}"),
        "qmqpd_error_delay = 0".to_owned(),
    ];
    (Instance::start(&Setup { main_cf, ..Default::default() }), dir)
}

fn request_of_slow_header() -> Vec<u8> {
    client::request(&message(" ", 1, 99_000), b"a@sender.example", &[b"b@rcpt.example"])
}

/// One works, the others wait for their turn.
fn work_for_nobody_ends(leaves: Leaves) {
    let (server, _rules) = server_of_slow_rules("1000s");
    let request = request_of_slow_header();
    let sent = match leaves {
        Leaves::Reset => request.as_slice(),
        Leaves::InMidMessage => &request[..request.len() - 2],
    };
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = client::connect(server.address);
            stream.write_all(sent).unwrap();
            stream
        })
        .collect();
    wait::until("the work is under way", || {
        let is_heard_of = server.log.all().matches(": client=").count() == 5;
        (is_heard_of && processor_time(&server) > Duration::from_millis(500)).then_some(())
    });
    for stream in clients {
        if leaves == Leaves::Reset {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    wait::until("each of them is missed", || {
        let log = server.log.all();
        (log.matches(" connect from").count() == log.matches(" disconnect from").count()).then_some(())
    });
    let words = match leaves {
        Leaves::Reset => ", line 1: the client has disconnected",
        Leaves::InMidMessage => "lost connection while receiving recipient address",
    };
    server.log.all_with(words);
    wait::until("the work has ended", || {
        let before = processor_time(&server);
        std::thread::sleep(Duration::from_millis(500));
        (processor_time(&server) - before < Duration::from_millis(100)).then_some(())
    });
    let good =
        client::send(server.address, b"Subject: good\n\nhello\n", b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(good.starts_with('K'), "{good}");
}

fn a_half_closed_client_is_served() {
    let (server, _rules) = server_of_slow_rules("1s");
    let steps = [client::Step::Send(request_of_slow_header()), client::Step::HalfClose];
    let session = client::run(server.address, &steps);
    let reply = client::reply(&session.received).map(client::text);
    assert_eq!(reply.as_deref(), Some("ZError: queue file write error"));
}

/// Whoever costs so much waits for as long as it takes.
fn send_patiently(address: SocketAddr, message: &[u8]) -> String {
    let mut stream = client::connect(address);
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(300))).unwrap();
    stream.write_all(&client::request(message, b"a@sender.example", &[b"b@rcpt.example"])).unwrap();
    let (received, end) = client::read_to_end(&mut stream);
    let reply = client::reply(&received).unwrap_or_else(|| panic!("no reply: {end:?}"));
    client::text(reply)
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const GOOD_MESSAGES: usize = 20;

/// The median.
fn wait_of_good_client(address: SocketAddr) -> Duration {
    let mut took: Vec<Duration> = (0..GOOD_MESSAGES)
        .map(|_| {
            let began = Instant::now();
            let said =
                client::send(address, b"Subject: good\n\nhello\n", b"a@sender.example", &[b"b@rcpt.example"]);
            assert!(said.starts_with('K'), "{said}");
            began.elapsed()
        })
        .collect();
    took.sort();
    took[GOOD_MESSAGES / 2]
}

/// What the service processes have had of the processors.
fn processor_time(server: &Instance) -> Duration {
    let ticks = |pid: &nix::unistd::Pid| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    Duration::from_millis(server.services().iter().filter_map(ticks).sum::<u64>() * 10)
}
