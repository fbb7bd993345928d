//! The process is killed under load, the machine stops: what was answered with K is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;
use spool::journal::BootId;
use spool::{Options, Spool, Timestamp, UnixDisk};

use testbed::client::{self, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    for way in ["journal", "file"] {
        trials.add(
            &format!("crash::kills_under_load_lose_nothing_that_was_answered::{way}"),
            &[],
            move || {
                kills_under_load(way);
            },
        );
    }
    trials.add("crash::after_a_start_of_the_machine_the_journal_brings_mail_back", &[], machine_starts_again);
    trials.add("crash::an_orderly_end_leaves_no_journal", &[], orderly_end);
    trials.add(
        "crash::a_journal_without_a_process_is_settled_while_the_server_runs",
        &[],
        draining_is_killed,
    );
    trials.add("crash::a_stop_settles_what_killed_processes_left", &[], stop_settles);
    trials.add("crash::what_cannot_be_settled_stops_no_mail", &[Peer::Root], unsettled);
    trials.add("crash::without_its_journal_directory_mail_goes_on", &[Peer::Root], journal_directory_goes);
}

fn with(lines: &[&str]) -> Instance {
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, queue: None })
}

/// Sends one message; `None` when there was no whole reply, else the queue ID in it.
fn try_send(server: SocketAddr, subject: &str) -> Option<String> {
    let content = format!("Subject: {subject}\n\n{}", "a line of the message\n".repeat(150));
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
    stream.write_all(&request(content.as_bytes(), b"a@sender.example", &[b"b@x.example"])).ok()?;
    let mut received = Vec::new();
    // A reset after a reply is no loss of the reply.
    let _ = stream.read_to_end(&mut received);
    let reply = String::from_utf8(client::reply(&received)?.to_vec()).ok()?;
    assert!(reply.starts_with("KOk: queued as "), "{reply}");
    reply.rsplit(' ').next().map(str::to_owned)
}

fn kill_services(server: &Instance) {
    for service in server.services() {
        let _ = kill(service, Signal::SIGKILL);
    }
}

/// Clients send as fast as they can, and the service process is killed again and again.
fn kills_under_load(way: &str) {
    const CLIENTS: usize = 8;
    const KILLS: u32 = 4;
    let server = with(&[&format!("qmqpd_commit = {way}"), "service_throttle_time = 1s"]);
    let answered: Mutex<BTreeSet<String>> = Mutex::default();
    let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    if let Some(id) = try_send(server.address, &format!("message {number}")) {
                        assert!(answered.lock().unwrap().insert(id), "an ID was given twice");
                    }
                }
            });
        }
        let mut before = 0;
        for _ in 0..KILLS {
            wait::until("messages are answered", || {
                (answered.lock().unwrap().len() > before + 30).then_some(())
            });
            before = answered.lock().unwrap().len();
            kill_services(&server);
        }
        wait::until("messages are answered again", || {
            (answered.lock().unwrap().len() > before + 30).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
    });
    let found: Vec<_> = server.queue.take().into_iter().map(Result::unwrap).collect();
    let ids: BTreeSet<String> = found.iter().map(|file| file.id.clone()).collect();
    let answered = answered.into_inner().unwrap();
    let lost: Vec<_> = answered.difference(&ids).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    // Once each: what is there without an answer was complete when its process was killed.
    let subjects: BTreeSet<Vec<u8>> = found.iter().map(queue_subject).collect();
    assert_eq!(subjects.len(), found.len());
    assert!(found.len() - answered.len() <= CLIENTS * (KILLS as usize + 1));
    assert!(!server.log.all().contains("written again"));
    // The journals of the killed go; one process lives.
    wait::until("the journals of the killed are settled", || {
        (queue::journals(&server.queue.path).len() <= 1).then_some(())
    });
    assert!(!server.log.all().contains("written again"));
}

fn queue_subject(file: &testbed::queue_file::QueueFile) -> Vec<u8> {
    let message = file.message();
    let line = message.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"Subject: "));
    line.unwrap().to_vec()
}

/// The server is killed, the files that were never synced are lost or torn, as a power cut would have it, and the next
/// process learns of another boot ID.
fn machine_starts_again() {
    let mut server = with(&["qmqpd_commit = journal", "qmqpd_journal_checkpoint_delay = 1h"]);
    let ids: Vec<String> =
        (0..12).map(|number| try_send(server.address, &format!("message {number}")).unwrap()).collect();
    let services = server.services();
    server.signal(Signal::SIGKILL);
    for service in services {
        let _ = kill(service, Signal::SIGKILL);
    }
    server.wait();
    let whole: Vec<Vec<u8>> =
        ids.iter().map(|id| fs::read(server.queue.path.join("incoming").join(id)).unwrap()).collect();
    for (number, id) in ids.iter().enumerate() {
        let path = server.queue.path.join("incoming").join(id);
        let file = || fs::File::options().write(true).open(&path).unwrap();
        match number % 4 {
            0 => fs::remove_file(&path).unwrap(),
            1 => file().set_len(0).unwrap(),
            2 => file().write_all(&[0; 700]).unwrap(),
            _ => {}
        }
    }
    if Uid::effective().is_root() {
        chown(server.queue.path.join("incoming"), Some(0), None).unwrap();
    }
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&lines);
    let notify = Arc::new(move |notice: postfix::notice::Notice| log.lock().unwrap().push(notice.text));
    let boot_id = BootId::parse("00000000-0000-0000-0000-000000000001");
    let options = Options { boot_id, ..Options::default() };
    let spool = Spool::open(UnixDisk::open(&server.queue.path).unwrap(), &options, notify).unwrap();
    // A process that was killed can hold its journal for a while: the last of its threads gives it up.
    wait::until("the journal of the killed process is settled", || {
        (spool.settle(&now).unwrap().settled > 0).then_some(())
    });
    for (id, whole) in ids.iter().zip(&whole) {
        let found = fs::read(server.queue.path.join("incoming").join(id)).unwrap_or_default();
        assert!(found == *whole, "{id} is not whole; {:?}", lines.lock().unwrap());
    }
    assert_eq!(server.queue.committed().len(), ids.len());
    let written =
        lines.lock().unwrap().iter().filter(|line| line.contains(": written again from journal/")).count();
    assert_eq!(written, 9, "{:?}", lines.lock().unwrap());
    assert_eq!(queue::journals(&server.queue.path), Vec::<std::path::PathBuf>::new());
    drop(spool);
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() }
}

fn orderly_end() {
    let mut server = with(&["qmqpd_commit = journal"]);
    assert!(try_send(server.address, "one").is_some());
    let queue = server.queue.path.clone();
    assert_eq!(queue::journals(&queue).len(), 1);
    // A reload: the old process ends, the new one has a journal of its own.
    server.signal(Signal::SIGHUP);
    assert!(try_send(server.address, "two").is_some());
    wait::until("one journal at most is left", || (queue::journals(&queue).len() <= 1).then_some(()));
    server.signal(Signal::SIGTERM);
    wait::within(Duration::from_secs(20), || server.services().is_empty().then_some(()));
    server.wait();
    // Neither a journal nor the witness of the master.
    wait::until("no journal is left", || queue::files_below(&queue.join("journal")).is_empty().then_some(()));
    assert_eq!(server.queue.take().len(), 2);
}

/// A process that finishes its last session after a reload is killed. Nothing of what was delivered comes back at the next
/// start of the machine: its journal is settled at once.
fn draining_is_killed() {
    let mut server = with(&["qmqpd_commit = journal", "qmqpd_journal_checkpoint_delay = 1h"]);
    assert!(try_send(server.address, "one").is_some());
    assert_eq!(queue::journals(&server.queue.path).len(), 1);
    let old = server.services();
    // A session keeps it.
    let sticky = TcpStream::connect(server.address).unwrap();
    server.log.lines_until("the session begins", |line| line.text.starts_with("connect from "));
    server.signal(Signal::SIGHUP);
    wait::until("a new process serves", || {
        server.services().iter().any(|service| !old.contains(service)).then_some(())
    });
    for service in &old {
        let _ = kill(*service, Signal::SIGKILL);
    }
    drop(sticky);
    wait::until("the journal is settled", || queue::journals(&server.queue.path).is_empty().then_some(()));
    assert_eq!(server.queue.take().len(), 1);
    assert!(!server.log.all().contains("written again"));
}

/// The processes of a server that is being stopped are killed.
fn stop_settles() {
    let mut server = with(&["qmqpd_commit = journal", "qmqpd_journal_checkpoint_delay = 1h"]);
    assert!(try_send(server.address, "one").is_some());
    let services = server.services();
    for service in &services {
        let _ = kill(*service, Signal::SIGSTOP);
    }
    server.signal(Signal::SIGTERM);
    server.log.lines_until("the stop begins", |line| line.text.contains("terminating on signal"));
    for service in &services {
        let _ = kill(*service, Signal::SIGKILL);
    }
    server.wait();
    assert_eq!(queue::files_below(&server.queue.path.join("journal")), Vec::<std::path::PathBuf>::new());
    assert_eq!(server.queue.take().len(), 1);
}

/// What cannot be settled stays, is told, and stops no mail; when it can, it is settled.
fn unsettled() {
    let queue = testbed::postfix::scratch("unsettled");
    let path = queue.path().join("queue");
    let setup = Setup { main_cf: vec!["qmqpd_commit = journal".to_owned()], queue: Some(path.clone()) };
    drop(Instance::start(&setup));
    // A journal that cannot be opened.
    let left = path.join("journal").join(format!("{}.v2", "a".repeat(32)));
    fs::create_dir(&left).unwrap();
    let server = Instance::start(&setup);
    assert!(try_send(server.address, "beside it").is_some());
    wait::until("it is told", || {
        server.log.all().contains("stays, and holds accepted messages").then_some(())
    });
    assert!(left.exists());
    assert!(try_send(server.address, "behind it").is_some());
    drop(server);
    fs::remove_dir(&left).unwrap();
    fs::write(&left, b"").unwrap();
    chown(&left, Some(fs::metadata(path.join("incoming")).unwrap().uid()), None).unwrap();
    let server = Instance::start(&setup);
    wait::until("it is settled", || (!left.exists()).then_some(()));
    assert_eq!(server.queue.take().len(), 2);
}

/// An operator removes `journal/` beneath a running server, and makes it again as root. No client has to come again.
fn journal_directory_goes() {
    let server = with(&["qmqpd_commit = journal"]);
    let journal = server.queue.path.join("journal");
    assert!(try_send(server.address, "before").is_some());
    fs::remove_dir_all(&journal).unwrap();
    assert!(try_send(server.address, "without").is_some());
    fs::create_dir(&journal).unwrap();
    assert!(try_send(server.address, "of another owner").is_some());
    wait::until("it is said", || server.log.all().contains("remove nothing below journal/").then_some(()));
    let log = server.log.all();
    assert_eq!(log.matches("remove nothing below journal/").count(), 1, "{log}");
    // The next process has a journal, if the directory is as it must be; and none, if it is not.
    server.signal(Signal::SIGHUP);
    wait::until("the next process says so", || {
        server.log.all().contains("no journal, each queue file is synced instead").then_some(())
    });
    assert!(try_send(server.address, "by the next process").is_some());
    fs::remove_dir(&journal).unwrap();
    server.signal(Signal::SIGHUP);
    wait::until("there is a journal again", || {
        try_send(server.address, "again")?;
        (queue::journals(&server.queue.path).len() == 1).then_some(())
    });
    assert!(server.queue.take().iter().all(Result::is_ok));
}
