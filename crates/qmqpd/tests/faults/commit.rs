//! The road to the disk: what a committer thread does for one message.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::record;
use testbed::client::{self, Step, request};
use testbed::maillog::Line;
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::strace::{Fault, Injection, descriptors, threads};
use testbed::trials::Trials;
use testbed::{queue, wait};

/// What a disk or the kernel answers when it cannot.
const DISK: &[&str] = &["EIO", "ENOSPC", "EDQUOT", "EROFS", "ENOMEM"];
/// What a full table of open files answers.
const FILES: &[&str] = &["EMFILE", "ENFILE"];

/// What the client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// `K`, and the message is there.
    Queued,
    /// `K`, and the message is there; but there is no journal until the process is another.
    QueuedWithoutJournal,
    /// `Z`; there is nothing.
    Temporary,
    /// `Z`, and it stays so until the process is another: nobody knows what the disk holds.
    TemporaryUntilReload,
}

/// How messages are committed, the system call that fails, lists of errors, which of its calls fail, what the client hears.
type Case = (&'static str, &'static str, &'static [&'static [&'static str]], &'static [&'static str], Heard);

pub(crate) fn add(trials: &mut Trials) {
    let cases: &[Case] = &[
        ("file", "openat", &[DISK, FILES], &["1", "1+"], Heard::Temporary),
        ("file", "openat", &[&["EINTR"]], &["1"], Heard::Queued),
        ("file", "linkat", &[DISK], &["1", "1+"], Heard::Temporary),
        ("file", "pwrite64", &[DISK, &["EFBIG"]], &["1", "1+"], Heard::Temporary),
        ("file", "pwrite64", &[&["EINTR"]], &["1"], Heard::Queued),
        ("file", "fsync", &[&["EIO", "EROFS"]], &["1", "1+"], Heard::TemporaryUntilReload),
        // A full disk is told by a sync too, where space is given out late; that passes when there is room again.
        ("file", "fsync", &[&["ENOSPC", "EDQUOT"]], &["1"], Heard::Temporary),
        // A file that has a name from the beginning.
        ("named", "openat", &[DISK, FILES], &["1", "1+"], Heard::Temporary),
        // Without a lock a draft has no mark: what a crash leaves then stays until postsuper(1) finds it.
        ("named", "fcntl", &[&["ENOLCK", "EINVAL"]], &["1"], Heard::Queued),
        ("named", "renameat2", &[DISK], &["1", "1+"], Heard::Temporary),
        ("named", "fchmod", &[DISK, &["EPERM"]], &["1"], Heard::Temporary),
        // The journal is made by the first message, and synced once for many.
        // When that fails, the queue file proves by its own sync that it is on disk.
        ("journal", "fdatasync", &[&["EIO", "EROFS"]], &["1", "1+"], Heard::QueuedWithoutJournal),
        ("journal", "fdatasync", &[&["ENOSPC", "EDQUOT"]], &["1"], Heard::Queued),
        ("journal", "fdatasync,fsync", &[&["EIO", "EROFS"]], &["1+"], Heard::TemporaryUntilReload),
        // The first one writes the queue file, the second one the journal.
        ("journal", "pwrite64", &[&["EIO", "ENOSPC", "EDQUOT"]], &["1", "1+"], Heard::Temporary),
        ("journal", "pwrite64", &[&["EIO", "EROFS"]], &["2"], Heard::QueuedWithoutJournal),
        ("journal", "pwrite64", &[&["ENOSPC", "EDQUOT"]], &["2"], Heard::Queued),
        ("journal", "openat", &[&["EIO", "ENOSPC", "EMFILE"]], &["1"], Heard::Temporary),
    ];
    for (way, call, errors, whens, heard) in cases {
        let faults: Vec<Fault> = errors
            .concat()
            .into_iter()
            .flat_map(|error| whens.iter().map(move |when| Fault { call, error, when }))
            .collect();
        let (name, way, heard) = (format!("commit::{way}::{call}::{heard:?}"), *way, *heard);
        let needs: &[Peer] =
            if *call == "linkat" { &[Peer::Strace, Peer::NamelessFiles] } else { &[Peer::Strace] };
        trials.add(&name, needs, move || {
            let mut server = start(way);
            // With the first message a journal is opened, which stays open.
            assert_eq!(letter_after(&mut server), Some('K'));
            server.queue.take();
            for fault in faults {
                try_fault(&mut server, place(way), &fault, SMALL, heard);
            }
        });
    }
    // A large message goes to the disk in many pieces, on the way.
    let faults = ["1", "2", "3"].into_iter().flat_map(|when| {
        ["EIO", "ENOSPC", "EDQUOT"].into_iter().map(move |error| Fault { call: "pwrite64", error, when })
    });
    let faults: Vec<Fault> = faults.collect();
    trials.add("commit::pwrite64::large", &[Peer::Strace], move || {
        let mut server = start("file");
        let large = large();
        for fault in faults {
            try_fault(&mut server, place("file"), &fault, &large, Heard::Temporary);
        }
    });
    trials.add("commit::file_size_limit", &[Peer::Strace], file_size_limit);
    trials.add("commit::journal::syncfs", &[Peer::Strace], checkpoint);
    for way in ["file", "journal"] {
        trials.add(&format!("commit::{way}::close"), &[Peer::Strace], move || close(way));
    }
}

const SMALL: &[u8] = b"Subject: small\n\nhello\n";

/// 640 KB: it goes to the disk while it comes.
fn large() -> Vec<u8> {
    [b"Subject: large\n\n".to_vec(), b"0123456789abcde\n".repeat(40_000)].concat()
}

fn start(way: &str) -> Instance {
    // With one committer the count of its calls is the count of all.
    let lines = match way {
        "named" => &["qmqpd_commit = file", "qmqpd_named_drafts = yes"][..],
        "file" => &["qmqpd_commit = file"],
        _ => &["qmqpd_commit = journal"],
    };
    let main_cf = ["qmqpd_commit_threads = 1"].iter().chain(lines).map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Setup::default() })
}

fn service(server: &Instance) -> Pid {
    wait::until("there is one service process", || match &*server.services() {
        [one] => Some(*one),
        _ => None,
    })
}

fn place(way: &str) -> &'static str {
    match way {
        "file" => "commit by file",
        "named" => "commit by file, named drafts",
        _ => "commit by journal",
    }
}

/// The first letter of the reply, and its text; nothing when the connection ended without one. And what was logged until
/// the end of the session.
fn send(server: &mut Instance, content: &[u8]) -> (Option<(char, String)>, Vec<Line>) {
    let steps = [Step::Send(request(content, b"a@sender.example", &[b"b@rcpt.example"]))];
    let session = client::run(server.address, &steps);
    let lines = server.log.lines_until("the end of the session", |line| line.text.starts_with("disconnect"));
    let payload = client::reply(&session.received).map(client::text);
    (payload.and_then(|text| Some((text.chars().next()?, text))), lines)
}

fn letter_after(server: &mut Instance) -> Option<char> {
    send(server, SMALL).0.map(|(letter, _)| letter)
}

fn try_fault(server: &mut Instance, place: &'static str, fault: &Fault, content: &[u8], heard: Heard) {
    let process = service(server);
    // After a reload it may have been started a moment ago.
    let committer = wait::until("there is one committer thread", || {
        let found = threads(process, |name| name.starts_with("committer"));
        (found.len() == 1).then_some(found)
    });
    let open_before = descriptors(process);
    let injection = Injection::attach(&committer, fault);
    let (reply, lines) = send(server, content);
    let (letter, text) = reply.unwrap_or_else(|| panic!("{fault}: no reply"));
    let injected = injection.injected();
    drop(injection);
    assert!(injected > 0, "{fault}: no such call was made");

    let complaints: Vec<&str> = lines
        .iter()
        .map(|line| line.text.as_str())
        .filter(|text| ["warning: ", "error: ", "fatal: "].iter().any(|word| text.contains(word)))
        .collect();
    let is_queued = matches!(heard, Heard::Queued | Heard::QueuedWithoutJournal);
    if is_queued {
        let is_given_up = complaints.iter().any(|text| text.contains("the journal is no longer used"));
        assert_eq!(is_given_up, heard == Heard::QueuedWithoutJournal, "{fault}: {lines:?}");
        assert_eq!(letter, 'K', "{fault}: {text}");
        let stored = server.queue.take();
        assert!(stored.len() == 1 && stored[0].is_ok(), "{fault}: K, and in the queue {stored:?}");
    } else {
        assert_eq!(letter, 'Z', "{fault}: {text}");
        assert!(!complaints.is_empty(), "{fault}: {text}, and the log says only {lines:?}");
        server.queue.wait_until_empty();
    }
    wait::within(wait::PATIENCE, || (descriptors(process) <= open_before).then_some(()))
        .unwrap_or_else(|| panic!("{fault}: {open_before} open before, {} behind", descriptors(process)));

    let after = letter_after(server);
    let outcome = match heard {
        Heard::Queued => "K, whole",
        Heard::QueuedWithoutJournal => "K, whole; no journal until the next reload",
        Heard::Temporary => "Z, nothing left behind; the next message K",
        Heard::TemporaryUntilReload => "Z, and Z for all until the next reload",
    };
    if matches!(heard, Heard::TemporaryUntilReload | Heard::QueuedWithoutJournal) {
        let expected = if is_queued { 'K' } else { 'Z' };
        assert_eq!(after, Some(expected), "{fault}: the next message");
        server.signal(Signal::SIGHUP);
        wait::until("a reload brings the service back", || (letter_after(server) == Some('K')).then_some(()));
        wait::until("the old process is gone", || (!server.services().contains(&process)).then_some(()));
        // The one before answers until it is gone.
        wait::until("the new process serves", || (letter_after(server) == Some('K')).then_some(()));
    } else {
        assert_eq!(after, Some('K'), "{fault}: the service does not return");
    }
    server.queue.take();
    record::note(place, fault, injected, outcome);
}

/// The sync of everything fails, be it for another program's file: mail goes on, and what the journal answers for is settled
/// while the server runs.
fn checkpoint() {
    let mut server = start("journal");
    for error in ["EIO", "ENOSPC"] {
        assert_eq!(letter_after(&mut server), Some('K'));
        let process = service(&server);
        let checkpoints = threads(process, |name| name.starts_with("checkpoint"));
        assert_eq!(checkpoints.len(), 1, "one thread that makes checkpoints");
        let fault = Fault { call: "syncfs", error, when: "1+" };
        let injection = Injection::attach(&checkpoints, &fault);
        // The next checkpoint is about this message at the latest.
        assert_eq!(letter_after(&mut server), Some('K'));
        wait::until("the journal is given up", || {
            server.log.all().contains("the journal is no longer used").then_some(())
        });
        let injected = injection.injected();
        drop(injection);
        assert!(injected > 0, "{fault}: no such call was made");
        assert_eq!(letter_after(&mut server), Some('K'));
        wait::within(Duration::from_secs(60), || {
            queue::journals(&server.queue.path).is_empty().then_some(())
        })
        .unwrap_or_else(|| panic!("the journal is not settled"));
        let stored = server.queue.take();
        assert!(stored.len() == 3 && stored.iter().all(Result::is_ok), "{fault}: {stored:?}");
        server = start("journal");
        record::note(
            "checkpoint",
            &fault,
            injected,
            "K for all, each synced by itself; the journal is settled",
        );
    }
}

/// A file system may say at a close(2) what it could not do before. (Here the descriptor stays open besides, which a real close
/// would not do.)
fn close(way: &'static str) {
    let mut server = start(way);
    assert_eq!(letter_after(&mut server), Some('K'));
    server.queue.take();
    for error in ["EIO", "ENOSPC", "EDQUOT", "EINTR"] {
        let process = service(&server);
        let at_work =
            threads(process, |name| name.starts_with("committer") || name.starts_with("checkpoint"));
        let fault = Fault { call: "close", error, when: "1+" };
        let injection = Injection::attach(&at_work, &fault);
        let (reply, _) = send(&mut server, SMALL);
        let injected = wait::within(wait::PATIENCE, || Some(injection.injected()).filter(|count| *count > 0));
        drop(injection);
        let injected = injected.unwrap_or_else(|| panic!("{fault}: no such call was made"));
        // The descriptor is closed all the same when a signal has come in between.
        let (letter, outcome) = match error {
            "EINTR" => ('K', "K, whole"),
            _ => ('Z', "Z, nothing left behind; the next message K"),
        };
        assert_eq!(reply.map(|(letter, _)| letter), Some(letter), "{fault}");
        assert_eq!(letter_after(&mut server), Some('K'), "{fault}: the service does not return");
        let stored = server.queue.take();
        assert!(stored.iter().all(Result::is_ok), "{fault}: {stored:?}");
        assert_eq!(stored.len(), 1 + usize::from(letter == 'K'), "{fault}");
        server.queue.wait_until_empty();
        record::note(place(way), &fault, injected, outcome);
    }
}

/// A short write and then an error, as `ulimit -f` makes them: no signal may kill the process for it.
fn file_size_limit() {
    let mut server = start("file");
    let process = service(&server);
    // The log stays below it.
    set_file_size_limit(process, "200000");
    let heard = send(&mut server, &large()).0.map(|(letter, _)| letter);
    assert_eq!(heard, Some('Z'));
    server.queue.wait_until_empty();
    set_file_size_limit(process, "unlimited");
    assert_eq!(letter_after(&mut server), Some('K'));
    assert_eq!(service(&server), process, "the process lives on");
    let fault = Fault { call: "pwrite64", error: "EFBIG", when: "2" };
    record::note("commit, a short write before it", &fault, 1, "Z, nothing left behind; the next message K");
}

/// As the user that the process is, which needs no privilege.
fn set_file_size_limit(process: Pid, limit: &str) {
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=postfix", "--regid=postfix", "--clear-groups", "prlimit"])
        .arg(format!("--pid={process}"))
        .arg(format!("--fsize={limit}:"))
        .output()
        .expect("setpriv(1) and prlimit(1)");
    assert!(output.status.success(), "{output:?}");
}
