//! Time, connections, memory: what one client may take from the others.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::hostile::assert_waits_are_alike;
use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{name_server, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("limits::a_silent_client_is_dropped", &[], silent_client);
    trials.add("limits::a_trickling_client_is_dropped", &[], trickling_client);
    trials.add("limits::too_many_connections_hear_z", &[], connection_limit);
    trials.add("limits::idle_connections_hold_up_nobody", &[], idle_connections);
    trials.add("limits::a_delayed_refusal_holds_up_nobody", &[], delayed_refusal);
    trials.add("limits::large_messages_in_little_memory", &[], little_memory);
    trials.add("limits::one_client_leaves_memory_to_others", &[Peer::Isolation], memory_of_others);
    trials.add("limits::many_recipients_in_little_memory", &[], many_recipients);
    trials.add("limits::a_declared_length_allocates_nothing", &[], declared_length);
    trials.add("limits::a_large_message_hears_why_it_is_refused", &[], large_refusal);
    trials.add("limits::a_slow_line_hears_why_it_is_refused", &[], slow_refusal);
    trials.add("limits::a_refused_client_that_stalls_is_let_go", &[], stalled_refusal);
    trials.add("limits::a_filter_that_cannot_be_reached_is_given_up", &[], unreachable_filter);
    trials.add("limits::a_fast_sender_leaves_its_thread_to_others", &[], fast_sender);
}

const CONTENT: &[u8] = b"Subject: limits\n\nhello\n";

fn with(lines: &[&str]) -> Instance {
    Instance::start(&Setup {
        main_cf: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Default::default()
    })
}

fn assert_serves(server: &Instance) {
    let said = client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(said.starts_with('K'), "{said}");
}

fn silent_client() {
    let mut server = with(&["qmqpd_timeout = 1s"]);
    let session = client::run(server.address, &[Step::Send(b"100:20:half".to_vec())]);
    assert!(session.received.is_empty());
    assert!(session.took >= Duration::from_millis(900), "dropped after {:?}", session.took);
    server.log.lines_until("the timeout", |line| {
        line.text.ends_with("read/write timeout while receiving message content")
    });
    server.queue.wait_until_empty();
}

/// Each byte is in time for `qmqpd_timeout`; the session as a whole is not.
fn trickling_client() {
    let server = with(&["qmqpd_session_deadline = 2s", "qmqpd_timeout = 10s", "qmqpd_drain_timeout = 0"]);
    let began = Instant::now();
    let mut stream = client::connect(server.address);
    stream.write_all(b"100000:90000:").unwrap();
    let cut = wait::within(wait::PATIENCE, || stream.write_all(b"x").err());
    assert!(cut.is_some(), "a client that trickles stays for ever");
    assert!(began.elapsed() >= Duration::from_secs(2), "cut after {:?}", began.elapsed());
    server.queue.wait_until_empty();
    assert_serves(&server);
}

fn connection_limit() {
    let server = with(&["qmqpd_connection_limit = 2"]);
    // The probe that waited for the server may still be counted: wait until two are held and a third is refused.
    let _held = [client::connect(server.address), client::connect(server.address)];
    let said = wait::until("a third connection is refused", || {
        let mut stream = client::connect(server.address);
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut reply = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut reply);
        (!reply.is_empty()).then(|| client::text(client::reply(&reply).expect("a whole reply")))
    });
    assert!(said.starts_with('Z'), "{said}");
    drop(_held);
    wait::until("there is room again", || {
        let said = client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
        said.starts_with('K').then_some(())
    });
}

fn idle_connections() {
    let server = with(&[]);
    let quiet = with(&[]);
    let idle: Vec<TcpStream> = (0..400).map(|_| client::connect(server.address)).collect();
    assert_waits_are_alike(server.address, quiet.address, 20);
    drop(idle);
    assert_serves(&server);
}

/// `qmqpd_error_delay` is for the client that made the error: neither for one that makes none, nor for others that make their own.
fn delayed_refusal() {
    const REFUSED: usize = 8;
    const DELAY: Duration = Duration::from_secs(6);
    let server = with(&["qmqpd_error_delay = 6s"]);
    let address = server.address;
    let refused: Vec<_> = (0..REFUSED)
        .map(|_| std::thread::spawn(move || client::run(address, &[Step::Send(b"x".to_vec())])))
        .collect();
    // The log has it before the client.
    wait::until("each of them is refused", || {
        let log = server.log.all();
        (log.matches("netstring format error while").count() == REFUSED).then_some(())
    });
    assert_serves(&server);
    assert!(refused.iter().all(|one| !one.is_finished()), "a good client waited for the delay of another");
    let sessions: Vec<_> = refused.into_iter().map(|one| one.join().unwrap()).collect();
    for session in &sessions {
        assert!(session.took >= DELAY, "the refusal came after {:?}", session.took);
        assert_eq!((client::reply(&session.received).unwrap()[0], session.end), (b'D', End::Closed));
    }
    // One after the other, the last would have waited for all of them.
    let longest = sessions.iter().map(|session| session.took).max().unwrap();
    assert!(longest < DELAY * 3, "of {REFUSED}, one waited for {longest:?}");
}

/// As many connections wait for it as the kernel lets wait; each further one is tried for minutes.
fn unreachable_filter() {
    let filter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = filter.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
    let waiting: Vec<TcpStream> = std::iter::from_fn(connect).take(1000).collect();
    let mut server = with(&[&format!("non_smtpd_milters = inet:{address}"), "milter_connect_timeout = 2s"]);
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let session = client::run(server.address, &[Step::Send(whole)]);
    let said = client::reply(&session.received).map(client::text);
    assert_eq!(said.as_deref(), Some("ZError: 4.7.1 Service unavailable - try again later"));
    assert!(session.took >= Duration::from_secs(2), "given up after {:?}", session.took);
    let reason = format!("connect to Milter service inet:{address}: Connection timed out");
    server.log.lines_until("the reason", |line| line.text.ends_with(&reason));
    drop(waiting);
}

/// Who sends as fast as it is read, and asks for no disk, could keep a thread for itself. Here there is only one for all.
fn fast_sender() {
    let server = Instance::start_on_one_processor(&Setup {
        main_cf: vec!["message_size_limit = 0".to_owned()],
        ..Default::default()
    });
    // With so many hops the message is refused, and the rest of it is only read.
    let hops = b"Received: x\n".repeat(100);
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = client::connect(server.address);
            stream.write_all(b"100000001000:99999999990:").unwrap();
            stream.write_all(&hops).unwrap();
            let lines = b"0123456789abcde\n".repeat(1 << 16);
            let began = Instant::now();
            while !is_over.load(Ordering::Relaxed) && began.elapsed() < 2 * wait::PATIENCE {
                stream.write_all(&lines).expect("a message that is read to its end");
                sent.fetch_add(lines.len() as u64, Ordering::Relaxed);
            }
        });
        wait::until("it is in full swing", || (sent.load(Ordering::Relaxed) > 16 << 20).then_some(()));
        let before = sent.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert_serves(&server);
        }
        wait::until("it has gone on beside them", || (sent.load(Ordering::Relaxed) > before).then_some(()));
        is_over.store(true, Ordering::Relaxed);
    });
}

/// The most memory that any service process ever used, in KiB.
fn peak_memory_kib(server: &Instance) -> u64 {
    let of = |pid: &nix::unistd::Pid| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse().ok())
    };
    let services = server.services();
    services.iter().filter_map(of).max().expect("a service process with a peak of memory")
}

fn little_memory() {
    const SESSIONS: usize = 10;
    const MESSAGE_BYTES: usize = 9_000_000;
    const ALLOWED_KIB: u64 = 64 * 1024;
    let server = with(&[]);
    let mut content = b"Subject: large\n\n".to_vec();
    content.extend(
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".repeat(MESSAGE_BYTES / 64),
    );
    let bytes = request(&content, b"a@sender.example", &[b"b@rcpt.example"]);
    std::thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                let session = client::run(server.address, &[Step::Send(bytes.clone())]);
                let said = client::reply(&session.received).map(client::text).unwrap_or_default();
                assert!(said.starts_with('K'), "{said}");
            });
        }
    });
    let peak = peak_memory_kib(&server);
    assert!(peak <= ALLOWED_KIB, "{SESSIONS} messages of {MESSAGE_BYTES} bytes took {peak} KiB");
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), SESSIONS);
}

/// Begins more messages than there is memory for, and ends none of them, until all others have been served.
fn memory_of_others() {
    const SHARES: usize = 32;
    const GREEDY: &str = "127.0.0.66";
    name_server::start();
    let memory = format!("qmqpd_memory_limit = {}", SHARES * 256 * 1024);
    let authorized = "qmqpd_authorized_clients = 127.0.0.0/8";
    let server = with(&[authorized, &memory, "qmqpd_timeout = 600s", "qmqpd_stress_timeout = 600s"]);
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let (beginning, rest) = whole.split_at(20);
    let mut greedy: Vec<TcpStream> = (0..2 * SHARES)
        .map(|_| {
            let mut stream = client::connect_from(GREEDY, server.address);
            stream.write_all(beginning).unwrap();
            stream
        })
        .collect();
    let begun = || server.log.all().matches(&format!("client=unknown[{GREEDY}]")).count();
    wait::until("it has what it may have", || (begun() >= SHARES - 1).then_some(()));
    for _ in 0..20 {
        assert_serves(&server);
    }
    assert_eq!(begun(), SHARES - 1, "messages that the greedy client could begin");
    // Its other messages have only waited.
    for stream in &mut greedy {
        stream.write_all(rest).unwrap();
    }
    for mut stream in greedy {
        let (received, end) = client::read_to_end(&mut stream);
        let said = client::reply(&received).map(client::text).unwrap_or_default();
        assert!(said.starts_with('K') && end == End::Closed, "{said}, {end:?}");
    }
}

/// Memory does not grow with them; `make bench` does the same with a million.
fn many_recipients() {
    const RECIPIENTS: usize = 100_000;
    const ALLOWED_KIB: u64 = 2 * 1024;
    let server = with(&["message_size_limit = 100000000"]);
    assert_serves(&server);
    assert_eq!(server.queue.take().len(), 1);
    let addresses: Vec<String> =
        (0..RECIPIENTS).map(|number| format!("subscriber-{number}@lists.example")).collect();
    let addresses: Vec<&[u8]> = addresses.iter().map(String::as_bytes).collect();
    // The duplicate filter is full after a thousand: what it takes is not what grows.
    client::send(server.address, CONTENT, b"a@sender.example", addresses.get(..1500).unwrap_or_default());
    let before = peak_memory_kib(&server);
    let said = client::send(server.address, CONTENT, b"a@sender.example", &addresses);
    assert!(said.starts_with('K'), "{said}");
    let peak = peak_memory_kib(&server);
    assert!(peak <= before + ALLOWED_KIB, "{before} KiB before, {peak} KiB with {RECIPIENTS} recipients");
    let files = server.queue.take();
    let stored = files.into_iter().map(|file| file.unwrap().recipients().count());
    assert_eq!(stored.max(), Some(RECIPIENTS));
}

fn declared_length() {
    let server = with(&["message_size_limit = 0"]);
    let before = peak_memory_kib(&server);
    let session =
        client::run(server.address, &[Step::Send(b"100000001000:99999999990:x".to_vec()), Step::HalfClose]);
    assert!(session.received.is_empty());
    let after = peak_memory_kib(&server);
    assert!(after < before + 10 * 1024, "{before} KiB before, {after} KiB after");
    assert_serves(&server);
}

const TOO_LARGE: &str = "Dnetstring length exceeds storage limit while receiving message content";

/// A client that writes all before it reads must be able to do so, or it comes again for ever.
fn large_refusal() {
    let server = with(&[]);
    let content = vec![b'x'; 40_000_000];
    let bytes = request(&content, b"a@sender.example", &[b"b@rcpt.example"]);
    let session = client::run(server.address, &[Step::Send(bytes)]);
    let said = client::reply(&session.received).map(client::text);
    assert_eq!((said.as_deref(), session.end), (Some(TOO_LARGE), End::Closed));
}

/// The message takes longer than anything but a request that is wanted may take, and it is larger.
fn slow_refusal() {
    let mut server =
        with(&["message_size_limit = 10000", "qmqpd_drain_timeout = 5s", "qmqpd_drain_limit = 1000"]);
    let bytes = request(&vec![b'x'; 8_000_000], b"a@sender.example", &[b"b@rcpt.example"]);
    let mut stream = client::connect(server.address);
    let began = Instant::now();
    let send = |stream: &mut TcpStream, piece: &[u8]| {
        stream.write_all(piece).unwrap_or_else(|error| panic!("{error} after {:?}", began.elapsed()));
    };
    // One that was refused, too, and sends next to nothing, tells when the time limit for what is not wanted is over. Until then,
    // pieces come that are large enough however slow the machine is.
    let mut stalled = client::connect(server.address);
    stalled.write_all(&bytes[..20]).unwrap();
    let mut pieces = bytes.chunks(1000);
    let mut turns = 0_u32;
    let stalled_for = wait::within(wait::PATIENCE, || {
        pieces.next().into_iter().for_each(|piece| send(&mut stream, piece));
        turns += 1;
        let gone = turns.is_multiple_of(100).then(|| stalled.write_all(b"x").err()).flatten();
        gone.map(|_| began.elapsed())
    });
    let limit = Duration::from_secs(5);
    assert!(
        stalled_for.is_some_and(|time| time >= limit),
        "the other client was let go after {stalled_for:?}"
    );
    pieces.for_each(|piece| send(&mut stream, piece));
    let (received, end) = client::read_to_end(&mut stream);
    assert_eq!((client::reply(&received).map(client::text).as_deref(), end), (Some(TOO_LARGE), End::Closed));
    server.log.lines_until("the reason", |line| line.text.ends_with(TOO_LARGE.trim_start_matches('D')));
}

/// It says that more will come than ever could, and sends nothing, or next to nothing.
fn stalled_refusal() {
    let server = with(&["qmqpd_drain_timeout = 1s", "qmqpd_session_deadline = 600s"]);
    let mut silent = client::connect(server.address);
    silent.write_all(b"100000000000000000:99999999999999999:").unwrap();
    let (received, end) = client::read_to_end(&mut silent);
    assert_eq!((client::reply(&received).map(client::text).as_deref(), end), (Some(TOO_LARGE), End::Closed));
    let mut trickling = client::connect(server.address);
    trickling.write_all(b"100000000000000000:99999999999999999:").unwrap();
    let cut = wait::within(wait::PATIENCE, || {
        std::thread::sleep(Duration::from_millis(50));
        trickling.write_all(b"x").err()
    });
    assert!(cut.is_some(), "a refused client that trickles stays for ever");
    assert_serves(&server);
}
