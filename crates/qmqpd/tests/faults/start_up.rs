//! `qmqpd serve` from its first call to its first client: whatever fails, it ends with words and a status that is not
//! zero, or it serves, or it says why it cannot and tries again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::record;
use testbed::client::{self, request};
use testbed::peers::Peer;
use testbed::postfix::{main_cf, scratch, write_config};
use testbed::program;
use testbed::queue::Queue;
use testbed::strace::{Fault, injected};
use testbed::trials::Trials;
use testbed::{ports, wait};

/// The call, an error that it can have, and how many of its calls are tried at most in each process.
const CASES: &[(&str, &str, usize)] = &[
    ("socket", "EMFILE", 6),
    ("setsockopt", "ENOMEM", 4),
    ("bind", "EADDRINUSE", 2),
    ("bind", "EACCES", 2),
    ("bind", "EADDRNOTAVAIL", 2),
    ("listen", "EADDRINUSE", 2),
    ("openat", "EIO", 24),
    ("read", "EIO", 24),
    ("mkdir", "ENOSPC", 4),
    ("mkdirat", "EROFS", 4),
    ("fchown", "EPERM", 4),
    ("chdir", "EACCES", 3),
    ("chroot", "EPERM", 2),
    ("setgroups", "EPERM", 2),
    ("setgid", "EPERM", 2),
    ("setuid", "EAGAIN", 2),
    ("setresuid", "EAGAIN", 2),
    ("prctl", "EPERM", 12),
    ("seccomp", "ENOMEM", 3),
    ("landlock_create_ruleset", "ENOMEM", 3),
    ("landlock_add_rule", "ENOMEM", 3),
    ("landlock_restrict_self", "E2BIG", 2),
    ("pipe2", "EMFILE", 4),
    ("socketpair", "ENFILE", 3),
    ("signalfd4", "ENFILE", 2),
    ("epoll_create1", "EMFILE", 2),
    ("eventfd2", "EMFILE", 2),
    ("clone3", "EAGAIN", 8),
    ("fcntl", "ENOLCK", 6),
    ("unlink", "EROFS", 3),
    ("rename", "ENOSPC", 3),
];

pub(crate) fn add(trials: &mut Trials) {
    for (call, error, most) in CASES {
        let name = format!("start_up::{call}::{error}");
        trials.add(&name, &[Peer::Strace, Peer::Root], move || each(call, error, *most));
    }
}

const WHENS: [&str; 24] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    "20", "21", "22", "23", "24",
];

fn each(call: &'static str, error: &'static str, most: usize) {
    let mut tried = 0;
    for when in &WHENS[..most] {
        if !try_fault(&Fault { call, error, when }) {
            break;
        }
        tried += 1;
    }
    assert!(tried > 0, "{call} is never called: is this list still right?");
}

/// A server in the making, and its strace.
struct Start {
    strace: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Start {
    fn new(fault: &Fault) -> Self {
        let dir = scratch("start");
        let port = ports::free();
        let queue = Queue::make(&dir.path().join("queue"));
        let more = [format!("qmqpd_listen = 127.0.0.1:{port}")];
        let text = main_cf(dir.path(), &queue.path, &more);
        let text = format!("{text}\ndata_directory = {}/data\n", dir.path().display());
        let config = write_config(dir.path(), &text, "");
        std::fs::remove_file(config.join("master.cf")).unwrap();
        let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut command = fault.command(&dir.path().join("trace"));
        command.env_remove("LD_LIBRARY_PATH").env("TZ", "UTC");
        command.args([Path::new(program::qmqpd()), Path::new("serve"), Path::new("-c"), &config]);
        command.process_group(0).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let strace = command.spawn().expect("strace(1)");
        Self { strace, address: SocketAddr::from(([127, 0, 0, 1], port)), dir }
    }

    fn said(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("stderr") + &read("maillog")
    }

    /// The first letter of the reply to a message; nothing while nobody answers.
    fn letter(&self) -> Option<char> {
        let mut stream = TcpStream::connect_timeout(&self.address, ANSWER_TIME_MAX).ok()?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        stream.write_all(&request(b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"])).ok()?;
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        client::reply(&received)?.first().map(|letter| char::from(*letter))
    }

    fn is_in_vain(&self) -> bool {
        injected(&self.dir.path().join("trace")) == 0
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        // strace, the master and its processes.
        let group = Pid::from_raw(i32::try_from(self.strace.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.strace.wait();
    }
}

/// What one sees of a server that starts.
#[derive(Debug)]
enum StartResult {
    Ended(ExitStatus),
    Answers(char),
    TriesAgain,
}

impl Start {
    fn look(&mut self) -> Option<StartResult> {
        if let Some(status) = self.strace.try_wait().unwrap() {
            return Some(StartResult::Ended(status));
        }
        let tries_again = self.said().matches("next attempt in").count() >= 2;
        self.letter().map(StartResult::Answers).or_else(|| tries_again.then_some(StartResult::TriesAgain))
    }

    /// Whether the server has said what is wrong. Its log may be a moment behind.
    fn complains(&self) -> bool {
        let words = ["warning: ", "error: ", "fatal: ", "cannot "];
        let complaint = || words.iter().any(|word| self.said().contains(word)).then_some(());
        wait::within(wait::PATIENCE, complaint).is_some()
    }
}

/// Whether such a call was made.
fn try_fault(fault: &Fault) -> bool {
    let mut start = Start::new(fault);
    let seen = wait::within(wait::PATIENCE, || start.look());
    if start.is_in_vain() {
        assert!(
            matches!(seen, Some(StartResult::Answers('K'))),
            "{fault}: {seen:?} without it; {}",
            start.said()
        );
        return false;
    }
    let outcome = match seen {
        Some(StartResult::Answers('K')) => "it serves",
        Some(StartResult::Answers('Z')) => {
            assert!(start.complains(), "{fault}: Z, and no word: {}", start.said());
            "it says why it cannot serve, and its clients hear Z"
        }
        Some(StartResult::TriesAgain) => "it says why it cannot serve, and tries again; its clients wait",
        Some(StartResult::Ended(status)) => {
            assert!(!status.success(), "{fault}: it ends with status 0: {}", start.said());
            assert!(!start.said().trim().is_empty(), "{fault}: {status} without a word");
            if status.code() == Some(127) { "the dynamic linker gives up" } else { "it says why, and ends" }
        }
        other => panic!("{fault}: {other:?}: it neither serves nor ends; {}", start.said()),
    };
    assert!(!start.said().contains("panicked"), "{fault}: {}", start.said());
    record::note("qmqpd serve, its start", fault, 1, outcome);
    true
}

/// How long a client waits for an answer before it looks again.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
