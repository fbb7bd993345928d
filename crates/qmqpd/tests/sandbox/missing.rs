//! A kernel that lacks a layer: mail is served, and the log says what is not in force.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter};

use testbed::client::{self, request};
use testbed::peers::Peer;
use testbed::postfix::{main_cf, scratch, write_config};
use testbed::program;
use testbed::queue::Queue;
use testbed::trials::Trials;

/// Makes this program hide a system call from another program: `MARK landlock PROGRAM ARGUMENTS…`.
pub(crate) const MARK: &str = "--hide";

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Root, Peer::Postfix];
    trials.add("missing::a_kernel_without_landlock_is_named", &needs, || {
        let (line, warning) = start("landlock");
        assert!(line.ends_with("no new privileges, seccomp, no Landlock"), "{line}");
        assert!(warning.contains("Landlock is not in force: this kernel does not support it"), "{warning}");
    });
    trials.add("missing::a_kernel_without_seccomp_is_named", &[Peer::Landlock, needs[0], needs[1]], || {
        let (line, warning) = start("seccomp");
        assert!(line.contains("no new privileges, no seccomp, Landlock (ABI "), "{line}");
        assert!(warning.contains("seccomp is not in force: this kernel does not support it"), "{warning}");
    });
}

/// Serves one session where the layer is missing; what the log says about the layers.
fn start(layer: &str) -> (String, String) {
    let dir = scratch("missing");
    let queue = Queue::make(&dir.path().join("queue"));
    let config = write_config(dir.path(), &main_cf(dir.path(), &queue.path, &[]), "");
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args([MARK, layer, program::qmqpd(), "-S", "-u"])
        .env("MAIL_CONFIG", config)
        .env("QMQPD_STANDALONE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = request(b"Subject: x\n\nx\n", b"a@sender.example", &[b"b@rcpt.example"]);
    server.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = server.wait_with_output().unwrap();
    let log = std::fs::read_to_string(dir.path().join("maillog")).unwrap_or_default();
    let said = client::reply(&output.stdout).map(client::text).unwrap_or_default();
    assert!(said.starts_with("KOk: "), "{said}: {log}");
    let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
    (line("confined: "), line("is not in force"))
}

/// In the other process: from here on the kernel knows no such call.
pub(crate) fn main(layer: &str, command: &[String]) -> ExitCode {
    let call = match layer {
        "landlock" => libc::SYS_landlock_create_ruleset,
        "seccomp" => libc::SYS_seccomp,
        other => panic!("hide {other}?"),
    };
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, missing, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
    panic!("{}", Command::new(&command[0]).args(&command[1..]).exec());
}
