//! Sessions in this process: real sockets and a real queue, no look-up beyond this file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lookup::MatchList;
use postfix::main_cf::MainCf;
use postfix::own_networks::InterfaceAddress;
use postfix::queue_file::letter::{Content, Event, Letter};
use postfix::settings::HostFacts;
use postfix::settings::words::Facility;
use qmqp::client::{CLOSING, Request};
use qmqp::netstring;
use spool::journal::BootId;
use spool::{CommitWay, Spool, UnixDisk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::access::{Access, List};
use crate::peer::{self, PeerNames};
use crate::space::FreeSpace;
use daemon::log::{Log, LogConfig, LogDestination};
use daemon::service::{Capacity, Clients, ConnectionLimit, Limits, MessageMemory, SessionQuota};
use intake::list_options;
use intake::{Backend, CleanupTables, DateFormat, Local, Lookups, Store, cleanup_options};

/// Until a test gives up. Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service with a queue of its own, and one share of memory.
pub(super) struct Fixture {
    directory: tempfile::TempDir,
    pub(super) service: Arc<Context>,
}

impl Fixture {
    pub(super) fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = format!(
            "compatibility_level = 3.6\nqmqpd_authorized_clients = 127.0.0.1\nqmqpd_error_delay = 0s\n{lines}"
        );
        let host = HostFacts {
            host_name: "mx.example.test".to_owned(),
            interfaces: vec![InterfaceAddress { address: "127.0.0.1".parse().unwrap(), prefix_len: 8 }],
            resolve: &|_| Vec::new(),
            first_line: &|_| Ok(Vec::new()),
            config_directory: "/p".to_owned(),
            process_name: "qmqpd".to_owned(),
            process_id: 42,
            service_name: "628".to_owned(),
            is_under_postfix: false,
        };
        let loaded =
            postfix::settings::load(&MainCf::parse("/p/main.cf", text.as_bytes()), &[], &host).unwrap();
        let settings = Arc::new(loaded.settings);
        let log = Log::open(&LogConfig {
            syslog_name: "postfix".to_owned(),
            process_name: "qmqpd".to_owned(),
            host_name: "mx.example.test".to_owned(),
            facility: Facility::Mail,
            utf8: true,
            destinations: vec![LogDestination::File { path: at("log"), mode: 0o600 }],
        })
        .unwrap();
        std::fs::write(at("hosts"), "127.0.0.1 localhost\n").unwrap();
        let (names, _) = PeerNames::open(peer::Options {
            hosts: at("hosts"),
            resolv_conf: at("resolv.conf"),
            name_server_port: 1,
            ..peer::Options::default()
        })
        .unwrap();
        let list = |parameter, patterns: &str| {
            List::new(
                MatchList::open(parameter, patterns, &list_options(&settings), &mut Vec::new()).unwrap(),
            )
        };
        let access = Access {
            authorized_clients: list("qmqpd_authorized_clients", &settings.qmqpd_authorized_clients),
            debug_peers: list("debug_peer_list", &settings.debug_peer_list),
            exceptions: None,
            debug_peer_level: 2,
            verbosity: 0,
        };
        let service = Context {
            backend: Backend::Local(local(&at("queue"), &settings, &log)),
            names,
            access,
            connection_limit: Arc::new(ConnectionLimit::new(100)),
            clients: Arc::new(Clients::new(
                Limits::new(&settings),
                Capacity { of_process: 100, processes_max: Some(1) },
                Arc::default(),
            )),
            memory: Arc::new(MessageMemory::new(1)),
            commits: Arc::default(),
            session_quota: Arc::new(SessionQuota::new(settings.qmqpd_session_log_limit)),
            changes: Arc::default(),
            space: FreeSpace::new(0),
            settings,
            log,
        };
        Self { directory, service: Arc::new(service) }
    }

    /// All that was logged so far.
    fn log(&self) -> String {
        self.service.log.flush();
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The content of each message in the incoming queue, without headers.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let incoming = self.directory.path().join("queue/incoming");
        let files = std::fs::read_dir(incoming).unwrap().map(|entry| entry.unwrap().path());
        let body = |path: std::path::PathBuf| {
            let (bytes, mut content) = (std::fs::read(path).unwrap(), Vec::new());
            let mut take = |event: Event<'_>| {
                if let Event::Content { data, line_ends } = event {
                    content.extend_from_slice(data);
                    content.extend_from_slice(if line_ends { b"\n" } else { b"" });
                }
            };
            Letter::default().read(&bytes[..], Content::Read, &mut take).unwrap();
            let start = content.windows(2).position(|pair| pair == b"\n\n").unwrap();
            content.split_off(start + 2)
        };
        files.filter(|path| path.is_file()).map(body).collect()
    }

    /// A client, and its session as a task.
    async fn connect(&self) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, address) = listener.accept().await.unwrap();
        let connection = Connection::new(OwnedFd::from(accepted.into_std().unwrap()));
        let session = serve(Arc::clone(&self.service), connection, PeerAddress::of(address), None);
        (client, tokio::spawn(session))
    }

    pub(super) fn session<'s>(
        &'s self,
        client: &'s Client,
        quota_guard: &'s QuotaGuard<'s>,
        connection: Connection,
    ) -> Session<'s> {
        Session {
            service: &self.service,
            connection,
            client,
            network: None,
            is_limited: false,
            log: SessionLog::new(&self.service.log, client, 0, quota_guard),
            timeouts: Timeouts { operation: PATIENCE, deadline: None },
            arrived: daemon::service::now(),
            recipients: 0,
            unread: 0,
            under_way: None,
        }
    }
}

fn local(queue: &Path, settings: &postfix::settings::Settings, log: &Log) -> Local {
    std::fs::create_dir(queue).unwrap();
    let options = spool::Options {
        hash_queue_names: Vec::new(),
        hash_queue_depth: 1,
        long_queue_ids: false,
        names_drafts: false,
        create_missing: true,
        commit_way: CommitWay::File,
        boot_id: BootId::UNKNOWN,
    };
    let spool = Spool::open(UnixDisk::open(queue).unwrap(), &options, Arc::new(|_| ())).unwrap();
    let tables = CleanupTables::open(settings, &list_options(settings), &mut Vec::new()).unwrap();
    Local {
        store: Store::start(spool, Arc::new(daemon::service::now), settings, 100, log.clone()).unwrap(),
        options: Arc::new(cleanup_options(settings, false, Vec::new())),
        lookups: Lookups::new(tables, Arc::new(Semaphore::new(1)), PATIENCE),
        milters: None,
        dates: DateFormat::local(),
        log: log.clone(),
    }
}

fn a_client() -> Client {
    Client::new(PeerAddress::Local, &Name::Unknown, false)
}

/// The bytes of a request.
fn request(content: &[u8], recipients: &[&str]) -> Vec<u8> {
    let mut head = Request::new(content.len() as u64, 3).unwrap();
    for recipient in recipients {
        head = head.with_recipient(recipient.len() as u64).unwrap();
    }
    let mut bytes = head.head();
    bytes.extend_from_slice(content);
    bytes.push(b',');
    netstring::encode(b"a@b", &mut bytes);
    for recipient in recipients {
        netstring::encode(recipient.as_bytes(), &mut bytes);
    }
    bytes.extend_from_slice(CLOSING);
    bytes
}

/// What the server says, up to its end; an error if the connection was reset before.
async fn hear(client: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("the session ends")?;
    let text = String::from_utf8(bytes).unwrap();
    Ok(text.split_once(':').map_or(String::new(), |(_, text)| text.trim_end_matches(',').to_owned()))
}

async fn end(session: tokio::task::JoinHandle<()>) {
    timeout(PATIENCE, session).await.expect("the session ends").unwrap();
}

/// A connection whose way to the client is full, the client, and how many bytes it must read first.
fn clogged() -> (UnixStream, Connection, usize) {
    let (client, server) = UnixStream::pair().unwrap();
    let mut full = 0;
    while let Ok(count) = server.try_write(&[b'#'; 4096]) {
        full += count;
    }
    (client, Connection::new(OwnedFd::from(server.into_std().unwrap())), full)
}

/// Lets other tasks run until they wait for something.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_message_of_any_size_in_any_pieces_is_queued_as_it_came() {
    let fixture = Fixture::new("");
    let line = b"All that a client sends is what is in the queue.\n";
    for (bytes, piece) in
        [(100, usize::MAX), (100, 7), (16 * 1024, 4096), (300_000, usize::MAX), (300_000, 10_000)]
    {
        let body = line.repeat(bytes / line.len() + 1);
        let content = [b"Subject: x\n\n", &body[..]].concat();
        let (mut client, session) = fixture.connect().await;
        for piece in request(&content, &["r@example.test"]).chunks(piece) {
            client.write_all(piece).await.unwrap();
            settle().await;
        }
        let reply = hear(&mut client).await.unwrap();
        assert!(reply.starts_with("KOk: queued as "), "{reply}");
        end(session).await;
        let bodies = fixture.bodies();
        assert!(bodies.contains(&body), "{bytes} bytes in pieces of {piece}, {} messages", bodies.len());
    }
    assert_eq!(fixture.bodies().len(), 5);
    let log = fixture.log();
    assert_eq!(log.matches(": client=localhost[127.0.0.1]").count(), 5, "{log}");
    assert_eq!(log.matches(": connect from localhost[127.0.0.1]").count(), 5, "{log}");
    assert_eq!(log.matches(": disconnect from localhost[127.0.0.1]").count(), 5, "{log}");
    assert_eq!(fixture.service.memory.free_shares(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_queues_nothing() {
    let fixture = Fixture::new("");
    let request = request(b"Subject: x\n\nbody\n", &["r@example.test"]);
    for bytes in [0, 5, request.len() - 1] {
        let (mut client, session) = fixture.connect().await;
        client.write_all(&request[..bytes]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(hear(&mut client).await.unwrap(), "");
        end(session).await;
    }
    assert!(fixture.bodies().is_empty());
    assert_eq!(fixture.log().matches("lost connection while receiving").count(), 3, "{}", fixture.log());
}

#[tokio::test]
async fn a_client_that_is_not_authorized_hears_so_whatever_it_sends() {
    let fixture = Fixture::new("qmqpd_authorized_clients = 192.0.2.1");
    let (mut client, session) = fixture.connect().await;
    let _ = client.write_all(&request(&[b'x'; 1 << 20], &["r@example.test"])).await;
    let reply = "DError: localhost[127.0.0.1] is not authorized to use this service";
    assert_eq!(hear(&mut client).await.unwrap(), reply);
    drop(client);
    end(session).await;
    assert!(fixture.bodies().is_empty());
}

/// Data that stays unread resets the connection, and the client might lose its reply with it.
#[tokio::test]
async fn what_follows_a_message_does_not_cost_the_client_its_reply() {
    let fixture = Fixture::new("");
    let mut bytes = request(b"Subject: x\n\nbody\n", &["r@example.test"]);
    bytes.extend_from_slice(&[b'x'; 200_000]);
    let (mut client, session) = fixture.connect().await;
    client.write_all(&bytes).await.unwrap();
    let reply = hear(&mut client).await.unwrap();
    assert!(reply.starts_with("KOk: queued as "), "{reply}");
    client.write_all(b"x").await.unwrap();
    settle().await;
    client.write_all(b"y").await.expect("the server reads on");
    drop(client);
    end(session).await;
}

#[tokio::test]
async fn a_refused_request_is_read_for_so_long_and_no_longer() {
    let refuse = "qmqpd_authorized_clients = 192.0.2.1\n";
    // It says no more, and stays.
    let fixture = Fixture::new(&format!("{refuse}qmqpd_drain_timeout = 1s"));
    let (mut client, session) = fixture.connect().await;
    assert!(hear(&mut client).await.unwrap().starts_with("DError: "));
    end(session).await;
    // It says more and more.
    let fixture = Fixture::new(&format!("{refuse}qmqpd_drain_timeout = 1h\nqmqpd_drain_limit = 65536"));
    let (mut client, session) = fixture.connect().await;
    let talk = tokio::spawn(async move { while client.write_all(&[b'x'; 4096]).await.is_ok() {} });
    end(session).await;
    timeout(PATIENCE, talk).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_delayed_refusal_holds_up_no_other_client_and_no_stop() {
    let fixture = Fixture::new("qmqpd_error_delay = 1h");
    let (mut refused, _waits) = fixture.connect().await;
    refused.write_all(&request(b"Subject: x\n\nbody\n", &[])).await.unwrap();
    let said = async {
        while !fixture.log().contains("no recipients specified") {
            settle().await
        }
    };
    timeout(PATIENCE, said).await.expect("the refusal is logged at once");
    let (mut client, session) = fixture.connect().await;
    client.write_all(&request(b"Subject: x\n\nbody\n", &["r@example.test"])).await.unwrap();
    let reply = hear(&mut client).await.unwrap();
    assert!(reply.starts_with("KOk: queued as "), "{reply}");
    end(session).await;
    // A stop waits for replies to durable messages, not for this one.
    timeout(PATIENCE, fixture.service.commits.finish()).await.expect("nothing is under way");
    assert!(refused.try_read(&mut [0; 1]).is_err(), "the refusal waits for its hour");
}

/// It would send its message again.
#[tokio::test]
async fn a_client_that_reads_late_hears_that_its_message_is_queued() {
    let fixture = Fixture::new("qmqpd_session_deadline = 1s");
    let (mut client, connection, junk) = clogged();
    let began = Instant::now();
    let session = tokio::spawn(serve(Arc::clone(&fixture.service), connection, PeerAddress::Local, None));
    client.write_all(&request(b"Subject: x\n\nbody\n", &["r@example.test"])).await.unwrap();
    let queued = async {
        while fixture.bodies().is_empty() {
            settle().await
        }
    };
    timeout(PATIENCE, queued).await.expect("the message is queued");
    // The process must not end before the client has its reply.
    let finish = fixture.service.commits.finish();
    tokio::pin!(finish);
    let deadline = began + Duration::from_secs(2);
    assert!(tokio::time::timeout_at(deadline, &mut finish).await.is_err(), "a stop waits for the reply");
    let mut said = vec![0; junk];
    client.read_exact(&mut said).await.unwrap();
    let reply = hear(&mut client).await.unwrap();
    assert!(reply.starts_with("KOk: queued as "), "{reply} {}", fixture.log());
    end(session).await;
    timeout(PATIENCE, finish).await.expect("and no longer");
}

#[tokio::test]
async fn a_session_that_takes_too_long_hears_so() {
    let fixture = Fixture::new("qmqpd_session_deadline = 1s");
    let (mut client, session) = fixture.connect().await;
    client.write_all(b"100:90:Subject").await.unwrap();
    let reply = hear(&mut client).await.unwrap();
    assert_eq!(reply, "Zsession deadline exceeded while receiving message content");
    drop(client);
    end(session).await;
}

#[tokio::test]
async fn a_silent_client_is_left_without_a_reply() {
    let fixture = Fixture::new("qmqpd_timeout = 1s");
    let (mut client, session) = fixture.connect().await;
    assert_eq!(hear(&mut client).await.unwrap(), "");
    end(session).await;
    assert!(
        fixture.log().contains("read/write timeout while receiving QMQP packet header"),
        "{}",
        fixture.log()
    );
}

#[tokio::test]
async fn a_client_that_is_turned_away_hears_why() {
    let fixture = Fixture::new("");
    let (mut client, server) = UnixStream::pair().unwrap();
    let connection = Connection::new(OwnedFd::from(server.into_std().unwrap()));
    // It may send, so it waits for a place first: all are taken.
    let connection_limit = &fixture.service.connection_limit;
    let mut permits = Vec::new();
    while connection_limit.free_places() > 0 {
        permits.push(connection_limit.permit().await);
    }
    let slot = connection_limit.try_reject_slot().unwrap();
    let away = turn_away(Arc::clone(&fixture.service), connection, PeerAddress::Local, slot);
    let session = tokio::spawn(away);
    assert_eq!(hear(&mut client).await.unwrap(), "ZError: too many connections, try again later");
    drop(client);
    end(session).await;
    assert!(fixture.log().contains("too many connections"), "{}", fixture.log());
}

#[tokio::test]
async fn a_client_that_is_turned_away_cannot_stay() {
    let fixture = Fixture::new("");
    let who = a_client();
    let (quota_guard, _) = fixture.service.session_quota.begin(None, 0);
    for (timeout, seconds) in [(300, 10), (11, 10), (3, 3)] {
        let (client, server) = UnixStream::pair().unwrap();
        let connection = Connection::new(OwnedFd::from(server.into_std().unwrap()));
        drop(client);
        let mut session = fixture.session(&who, &quota_guard, connection);
        session.timeouts.operation = Duration::from_secs(timeout);
        session.dismiss(&Ending::TooManyConnections, Holdings::default()).await;
        // So long it would have waited for the client to take the reply.
        assert_eq!(session.timeouts.operation.as_secs(), seconds);
    }
}

#[tokio::test]
async fn too_many_sessions_without_a_message_are_said_once() {
    let fixture = Fixture::new("qmqpd_session_log_limit = 2");
    for _ in 0..5 {
        let (client, session) = fixture.connect().await;
        drop(client);
        end(session).await;
    }
    let log = fixture.log();
    assert_eq!(
        log.matches("warning: too many sessions without a message from [127.0.0.1]").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches(": connect from localhost[127.0.0.1]").count(), 2, "{log}");
}

#[tokio::test]
async fn a_client_is_known_by_its_name_in_the_hosts_file() {
    let fixture = Fixture::new("");
    let (quota_guard, _) = fixture.service.session_quota.begin(None, 0);
    let peer = PeerAddress::of("127.0.0.1:5".parse().unwrap());
    let met = entry::meet(&fixture.service, peer, &quota_guard, &mut Holdings::default()).await;
    assert_eq!((met.client.shown.as_str(), met.refusal.is_none()), ("localhost[127.0.0.1]", true));
}

/// One that sends faster than we read must not keep its thread.
#[tokio::test]
async fn a_fast_client_lets_others_have_their_turn() {
    let fixture = Fixture::new("");
    let who = a_client();
    let (quota_guard, _) = fixture.service.session_quota.begin(None, 0);
    let (client, server) = UnixStream::pair().unwrap();
    let server = server.into_std().unwrap();
    let watched = server.try_clone().unwrap();
    let mut session = fixture.session(&who, &quota_guard, Connection::new(OwnedFd::from(server)));
    let mut receive = Box::pin(session.receive());
    // `is_spent`: all that its task may do in one turn is done already when it is its turn. Returns how many bytes are left then.
    let mut turn = async |is_spent: bool| {
        sleep(Duration::from_millis(1)).await;
        std::future::poll_fn(|context| {
            while is_spent && std::pin::pin!(tokio::task::consume_budget()).poll(context).is_ready() {}
            assert!(receive.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let mut left = vec![0; 60_000];
        rustix::net::recv(&watched, &mut left[..], rustix::net::RecvFlags::PEEK).map_or(0, |(_, left)| left)
    };
    // With the second piece it waits for the client, and for nothing else.
    for piece in [&b"90000:80000:Subject: x\n\n"[..], b"x"] {
        client.try_write(piece).unwrap();
        timeout(PATIENCE, async { while turn(false).await > 0 {} }).await.expect("the piece is read");
    }
    let sent = client.try_write(&[b'x'; 60_000]).unwrap();
    let left = timeout(PATIENCE, async {
        loop {
            let left = turn(true).await;
            if left < sent {
                return left;
            }
        }
    });
    let left = left.await.expect("the session reads on");
    assert!(left > 0, "{sent} bytes were read in one turn");
}

const fn bytes_of<A, B, C, D, F>(_: &impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

/// Thousands of clients wait at a time, each with all that its session may ever need to remember.
#[test]
fn a_client_that_waits_takes_little_memory() {
    let bytes = bytes_of(&serve);
    assert!(bytes < 2500, "{bytes} bytes");
}

/// While others wait for memory, a stalled message is ended; one that makes progress is not.
#[tokio::test]
async fn a_message_that_stops_gives_way_to_those_that_wait_for_memory() {
    let fixture = Fixture::new("qmqpd_stress_timeout = 5s");
    let who = a_client();
    let (quota_guard, _) = fixture.service.session_quota.begin(None, 0);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
    for (is_stressed, before, now, gives_way) in [
        (true, 0, 100, true),
        (true, 923, 100, true),
        (true, 924, 100, false),
        (true, 5000, 100, false),
        (false, 0, 100, false),
    ] {
        let share = if is_stressed { fixture.service.memory.try_share(None) } else { None };
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut session =
            fixture.session(&who, &quota_guard, Connection::new(OwnedFd::from(server.into_std().unwrap())));
        client.write_all(&vec![b'x'; now]).await.unwrap();
        let mut pace = receive::Pace { since: long_ago, bytes: before };
        let read = session.read(&mut Vec::with_capacity(1000), Some(&mut pace)).await;
        assert_eq!(matches!(read, Err(receive::Stop::GaveWay)), gives_way, "{before} bytes before");
        assert_eq!(matches!(read, Ok(count) if count == now), !gives_way, "{before} bytes before");
        // It is looked at anew.
        assert!(pace.bytes == 0 && pace.since > long_ago);
        drop(share);
    }
}

#[tokio::test]
async fn a_message_that_stops_has_its_whole_time_as_long_as_there_is_memory() {
    let fixture = Fixture::new("qmqpd_stress_timeout = 1s");
    let who = a_client();
    let (quota_guard, _) = fixture.service.session_quota.begin(None, 0);
    let (client, server) = UnixStream::pair().unwrap();
    let mut session =
        fixture.session(&who, &quota_guard, Connection::new(OwnedFd::from(server.into_std().unwrap())));
    session.timeouts.operation = Duration::from_secs(3);
    let began = Instant::now();
    let mut pace = receive::Pace { since: began, bytes: 0 };
    let read = timeout(PATIENCE, session.read(&mut Vec::with_capacity(9), Some(&mut pace))).await.unwrap();
    assert!(matches!(read, Err(receive::Stop::Broken(Broken::Timeout))));
    assert!(began.elapsed() >= Duration::from_secs(3));
    // Under stress it has one window, but that whole.
    let _share = fixture.service.memory.try_share(None).unwrap();
    session.timeouts.operation = PATIENCE;
    let began = Instant::now();
    let mut pace = receive::Pace { since: began, bytes: 0 };
    let read = timeout(PATIENCE, session.read(&mut Vec::with_capacity(9), Some(&mut pace))).await.unwrap();
    assert!(matches!(read, Err(receive::Stop::GaveWay)));
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(client);
}

#[tokio::test]
async fn a_client_for_whom_there_is_no_memory_in_time_hears_so() {
    let fixture = Fixture::new("qmqpd_timeout = 3s");
    let _share = fixture.service.memory.try_share(None).unwrap();
    for piece in [usize::MAX, 20] {
        let (mut client, session) = fixture.connect().await;
        for piece in request(b"Subject: x\n\nbody\n", &["r@example.test"]).chunks(piece) {
            client.write_all(piece).await.unwrap();
            settle().await;
        }
        assert_eq!(hear(&mut client).await.unwrap(), "ZError: server is busy, try again later");
        drop(client);
        end(session).await;
    }
    assert!(fixture.bodies().is_empty());
}
