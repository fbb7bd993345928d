//! What Postfix's programs, the disk and the name service do to us.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use spool::{Disk, UnixDisk};

use super::load::send;
use testbed::client::{self, Step, request};
use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup};
use testbed::small_disk::SmallDisk;
use testbed::trials::Trials;
use testbed::{name_server, queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    let postfix = [Peer::Postfix];
    let disk = [Peer::Postfix, Peer::Isolation, Peer::Root];
    let names = [Peer::Postfix, Peer::Isolation];
    trials.add("trouble::a_killed_cleanup_is_z", &postfix, killed_cleanup);
    trials.add("trouble::a_cleanup_killed_in_time_costs_nothing", &postfix, stopped_cleanup);
    trials.add("trouble::a_killed_worker_with_a_journal_loses_nothing", &postfix, killed_with_journal);
    for (way, submit) in [("cleanup", Submit::Postfix), ("our_cleanup", Submit::Local)] {
        trials.add(&format!("trouble::a_full_disk_is_z_with_{way}"), &disk, move || full_disk(submit));
        trials.add(
            &format!("trouble::a_silent_name_server_holds_up_one_client_with_{way}"),
            &names,
            move || {
                silent_name_server(submit);
            },
        );
    }
}

const WRITE_ERROR: &str = "ZError: queue file write error";

/// master(8) takes a process for a bad start that dies before it has said that it served somebody.
const SHORT_THROTTLE: &str = "service_throttle_time = 1s";

/// A server for `tcp:` tables in which nothing is found; while it is held, it does not answer.
struct TableServer {
    address: SocketAddr,
    is_held: Arc<AtomicBool>,
    questions: Arc<AtomicUsize>,
}

impl TableServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (is_held, questions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, is_held: Arc::clone(&is_held), questions: Arc::clone(&questions) };
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (is_held, questions) = (Arc::clone(&is_held), Arc::clone(&questions));
                std::thread::spawn(move || {
                    let mut answers = stream.try_clone().unwrap();
                    for _question in BufReader::new(stream).lines().map_while(Result::ok) {
                        questions.fetch_add(1, Ordering::AcqRel);
                        while is_held.load(Ordering::Acquire) {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        if answers.write_all(b"500 not%20found\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    /// The main.cf line that makes cleanup(8) ask it about each recipient.
    fn setup(&self) -> Setup {
        Setup {
            main_cf: vec![format!("virtual_alias_maps = tcp:{}", self.address), SHORT_THROTTLE.to_owned()],
            ..Default::default()
        }
    }

    fn wait_for_question(&self, before: usize) {
        wait::until("cleanup(8) asks", || (self.questions.load(Ordering::Acquire) > before).then_some(()));
    }

    fn asked(&self) -> usize {
        self.questions.load(Ordering::Acquire)
    }
}

fn cleanups(server: &Instance) -> Vec<nix::unistd::Pid> {
    let children = server.children().into_iter();
    children.filter(|(_, name)| name == "cleanup").map(|(pid, _)| pid).collect()
}

/// In the middle of a message. The same reply and the same log line as from Postfix's qmqpd, and the next message finds
/// another cleanup(8).
fn killed_cleanup() {
    let outcome = |mut server: Instance, table: &TableServer| {
        assert!(send(&server).starts_with('K'));
        server.queue.take();
        table.is_held.store(true, Ordering::Release);
        let asked = table.asked();
        server.log.skip();
        let said = std::thread::scope(|scope| {
            let client = scope.spawn(|| send(&server));
            table.wait_for_question(asked);
            cleanups(&server).into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).unwrap());
            client.join().unwrap()
        });
        table.is_held.store(false, Ordering::Release);
        let refused = server.log.lines_until("the refusal", |line| {
            line.program == "qmqpd"
                && line.text.ends_with("localhost[127.0.0.1]: Error: queue file write error")
        });
        let refused = refused.last().unwrap().text.clone();
        assert!(!refused.contains("NOQUEUE"), "{refused}");
        let next = send(&server);
        assert!(next.starts_with('K'), "{next}");
        said
    };
    let table = TableServer::start();
    assert_eq!(outcome(Instance::start(&table.setup()), &table), WRITE_ERROR);
    assert_eq!(outcome(drop_in::start(Submit::Postfix, &table.setup()), &table), WRITE_ERROR);
}

/// The process that does the work is killed: the next one settles its journal before its first client. Where the kernel tells
/// mounts apart, what was delivered does not come back.
fn killed_with_journal() {
    let lines = ["qmqpd_commit = journal", "qmqpd_journal_checkpoint_delay = 1h", SHORT_THROTTLE];
    let setup = Setup { main_cf: lines.map(str::to_owned).to_vec(), ..Default::default() };
    let server = drop_in::start(Submit::Local, &setup);
    let id =
        |said: String| said.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{said}")).to_owned();
    let (delivered, stays) = (id(send(&server)), id(send(&server)));
    let incoming = server.queue.path.join("incoming");
    fs::remove_file(incoming.join(&delivered)).unwrap();
    let before = queue::journals(&server.queue.path);
    assert_eq!(before.len(), 1);
    for (known, _) in server.children().into_iter().filter(|(_, name)| name == "qmqpd") {
        let path = format!("/proc/{known}/task/{known}/children");
        let workers = fs::read_to_string(path).unwrap_or_default();
        for worker in workers.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        }
    }
    let next = id(wait::until("the next process serves", || {
        Some(send(&server)).filter(|said| said.starts_with('K'))
    }));
    wait::until("the journal is settled", || {
        (!queue::journals(&server.queue.path).contains(&before[0])).then_some(())
    });
    let there = |id: &str| incoming.join(id).exists();
    assert!(there(&stays) && there(&next));
    let knows_mounts = UnixDisk::open(&server.queue.path).unwrap().mount_id() != 0;
    assert_eq!(there(&delivered), !knows_mounts);
}

/// A cleanup(8) that has not taken the connection yet: the next one does.
fn stopped_cleanup() {
    let setup = Setup { main_cf: vec![SHORT_THROTTLE.to_owned()], ..Default::default() };
    let server = drop_in::start(Submit::Postfix, &setup);
    assert!(send(&server).starts_with('K'));
    let idle = cleanups(&server);
    assert!(!idle.is_empty());
    idle.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    let said = std::thread::scope(|scope| {
        let client = scope.spawn(|| send(&server));
        // Other clients are not held up: they come in, and some of them wait for cleanup(8), too.
        drop(client::connect(server.address));
        idle.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
        client.join().unwrap()
    });
    assert!(said.starts_with('K'), "{said}");
}

fn full_disk(submit: Submit) {
    let disk = SmallDisk::mount("size=1m");
    let queue = disk.queue();
    let setup = Setup { queue: Some(queue.path.clone()), ..Default::default() };
    let mut server = drop_in::start(submit, &setup);
    let large = [b"Subject: x\n\n".to_vec(), b"0123456789abcde\n".repeat(150_000)].concat();
    let said = client::send(server.address, &large, b"a@sender.example", &[b"b@x.example"]);
    assert_eq!(said, WRITE_ERROR);
    let reason = server.log.lines_until("the reason", |line| line.text.contains("No space left on device"));
    assert!(reason.last().unwrap().text.starts_with("warning: "), "{reason:?}");
    queue.wait_until_empty();
    assert!(send(&server).starts_with('K'));
    assert_eq!(queue.take().into_iter().map(Result::unwrap).count(), 1);

    let filler = disk.fill();
    assert_eq!(send(&server), WRITE_ERROR);
    queue.wait_until_empty();
    fs::remove_file(&filler).unwrap();
    let said = send(&server);
    assert!(said.starts_with('K'), "{said}");
}

/// Its client has no name; the others do not notice.
fn silent_name_server(submit: Submit) {
    name_server::start();
    let mut server = drop_in::start(submit, &Setup::default());
    let message = request(b"Subject: x\n\n", b"a@sender.example", &[b"b@x.example"]);
    let finished = AtomicUsize::new(0);
    let session = std::thread::scope(|scope| {
        let nameless = scope.spawn(|| {
            let session = client::run_from("127.0.1.12", server.address, &[Step::Send(message.clone())]);
            (session, finished.fetch_add(1, Ordering::AcqRel))
        });
        assert!(send(&server).starts_with('K'));
        assert_eq!(finished.fetch_add(1, Ordering::AcqRel), 0, "the client with a name came second");
        nameless.join().unwrap().0
    });
    let said = client::reply(&session.received).map(client::text).unwrap_or_default();
    assert!(said.starts_with('K'), "{said}");
    server.log.lines_until("its name", |line| line.text == "connect from unknown[127.0.1.12]");
    let mut stock = Instance::start(&Setup::default());
    let session = client::run_from("127.0.1.12", stock.address, &[Step::Send(message)]);
    assert!(client::text(&session.received).contains(":KOk: "), "{}", client::text(&session.received));
    stock.log.lines_until("its name", |line| line.text == "connect from unknown[127.0.1.12]");
}
