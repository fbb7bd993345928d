//! The road to the disk: what a committer thread does for one message.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::harness::client::{self, Step, request};
use super::harness::maillog::Line;
use super::harness::ours::{Instance, Setup};
use super::harness::peers::Peer;
use super::harness::strace::{Fault, Injection, descriptors, threads};
use super::harness::trials::Trials;
use super::harness::wait;
use super::record;

/// What a disk or the kernel answers when it cannot.
const DISK: &[&str] = &["EIO", "ENOSPC", "EDQUOT", "EROFS", "ENOMEM"];
/// What a full table of open files answers.
const FILES: &[&str] = &["EMFILE", "ENFILE"];

/// What the client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// `K`, and the message is there.
    Queued,
    /// `Z`; there is nothing.
    Temporary,
    /// `Z`, and it stays so until the process is another: nobody knows what the disk holds.
    TemporaryUntilReload,
}

/// How messages are committed, the system call that fails, lists of errors, which of its calls fail, what the client hears.
type Case = (&'static str, &'static str, &'static [&'static [&'static str]], &'static [&'static str], Heard);

pub fn add(trials: &mut Trials) {
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
        ("journal", "fdatasync", &[&["EIO", "EROFS"]], &["1", "1+"], Heard::TemporaryUntilReload),
        ("journal", "fdatasync", &[&["ENOSPC", "EDQUOT"]], &["1"], Heard::Temporary),
        ("journal", "pwrite64", &[&["EIO", "ENOSPC", "EDQUOT"]], &["1", "2", "1+"], Heard::Temporary),
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
    let committer = threads(process, |name| name.starts_with("committer"));
    assert_eq!(committer.len(), 1, "one committer thread");
    let open_before = descriptors(process);
    let injection = Injection::attach(&committer, fault);
    let (reply, lines) = send(server, content);
    let (letter, text) = reply.unwrap_or_else(|| panic!("{fault}: no reply; {}", server.log.all()));
    let injected = injection.injected();
    drop(injection);
    assert!(injected > 0, "{fault}: no such call was made");

    let complaints: Vec<&str> = lines
        .iter()
        .map(|line| line.text.as_str())
        .filter(|text| ["warning: ", "error: ", "fatal: "].iter().any(|word| text.contains(word)))
        .collect();
    if heard == Heard::Queued {
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
        Heard::Queued => "K, and the message is whole",
        Heard::Temporary => "Z, nothing left behind; the next message K",
        Heard::TemporaryUntilReload => "Z, and Z for all until the next reload",
    };
    if heard == Heard::TemporaryUntilReload {
        assert_eq!(after, Some('Z'), "{fault}: a sync has failed, and yet the next message is accepted");
        server.signal(Signal::SIGHUP);
        wait::until("a reload brings the service back", || (letter_after(server) == Some('K')).then_some(()));
        wait::until("the old process is gone", || (!server.services().contains(&process)).then_some(()));
    } else {
        assert_eq!(after, Some('K'), "{fault}: the service does not return");
    }
    server.queue.take();
    record::note(place, fault, injected, outcome);
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
            "EINTR" => ('K', "K, and the message is whole"),
            _ => ('Z', "Z, nothing left behind; the next message K"),
        };
        assert_eq!(reply.map(|(letter, _)| letter), Some(letter), "{fault}: {}", server.log.all());
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
    assert_eq!(heard, Some('Z'), "{}", server.log.all());
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
