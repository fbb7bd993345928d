//! The machine runs on, and the file system does not: it meets an error, is unmounted, repaired and mounted anew. What the
//! kernel had in memory for it is gone, although the boot ID is what it was. And the reverse: other mounts of the same file
//! system, which must not be taken for another one.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, PoisonError};

use nix::sys::signal::{Signal, kill};

use super::account::Account;
use super::recorder::{run, unmount};
use testbed::client;
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::postfix::scratch;
use testbed::program;
use testbed::trials::Trials;
use testbed::{queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    for kind in [FileSystem::Ext4, FileSystem::Xfs] {
        let name = format!("remount::after_an_error_nothing_is_lost::{}", kind.name());
        trials.add(&name, &kind.needs(), move || after_an_error(kind));
    }
    trials.add(
        "remount::other_mounts_are_the_same_file_system",
        &[Peer::Root, Peer::Isolation],
        other_mounts,
    );
}

const MESSAGES: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn needs(self) -> Vec<Peer> {
        let mut needs = vec![Peer::Root, Peer::Isolation, Peer::Ext4];
        needs.extend((self == Self::Xfs).then_some(Peer::Xfs));
        needs
    }

    fn make(self, image: &Path) {
        let mebibytes: u64 = if self == Self::Xfs { 320 } else { 64 };
        std::fs::File::create(image).unwrap().set_len(mebibytes << 20).unwrap();
        match self {
            Self::Ext4 => run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image)),
            Self::Xfs => run(Command::new("mkfs.xfs").arg("-q").arg(image)),
        }
    }

    fn mount(self, image: &Path, at: &Path) {
        let options = if self == Self::Xfs { "loop" } else { "loop,errors=remount-ro" };
        run(Command::new("mount").args(["-t", self.name(), "-o", options]).arg(image).arg(at));
    }

    /// The file system meets an error, as when the disk below it fails.
    fn fail(self, mounted: &Path) {
        match self {
            Self::Ext4 => {
                let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
                let is_here = |line: &&str| line.split(' ').nth(1).map(Path::new) == Some(mounted);
                let line = mounts.lines().find(is_here).unwrap();
                let device = line.split(' ').next().unwrap().rsplit('/').next().unwrap();
                std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
            }
            Self::Xfs => run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(mounted)),
        }
    }

    fn repair(self, image: &Path) {
        // XFS repairs itself when it is mounted.
        if self == Self::Ext4 {
            let status = Command::new("e2fsck").args(["-f", "-y"]).arg(image).output().unwrap().status;
            assert!(status.code().is_some_and(|code| code <= 1), "e2fsck: {status}");
        }
    }
}

fn after_an_error(kind: FileSystem) {
    let _alone = super::MOUNTS.write().unwrap_or_else(PoisonError::into_inner);
    let dir = scratch("remount");
    let (image, mounted) = (dir.path().join("image"), dir.path().join("mounted"));
    std::fs::create_dir(&mounted).unwrap();
    kind.make(&image);
    kind.mount(&image, &mounted);
    let queue = mounted.join("queue");
    // The checkpoint is an hour away: what is acknowledged is in the journal and in the memory of the machine.
    let main_cf = vec!["qmqpd_commit = journal".to_owned(), "qmqpd_journal_checkpoint_delay = 1h".to_owned()];
    let setup = Setup { main_cf, queue: Some(queue.clone()) };
    let mut server = Instance::start(&setup);
    // The directories are from long ago.
    run(Command::new("sync").arg("-f").arg(&mounted));
    let account = Arc::new(Account::default());
    account.load(server.address, 8, || account.accepted() >= MESSAGES, || 0);
    kind.fail(&mounted);
    for _ in 0..3 {
        let said = client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
        assert!(said.starts_with('Z'), "{said}");
    }
    server.stop();
    let log = server.log.all();
    assert!(log.contains("do not remove it") || log.contains("check the disk"), "{log}");
    unmount(&mounted);
    kind.repair(&image);
    kind.mount(&image, &mounted);
    let torn = account.check(&queue, 0, false).unwrap_err();
    assert!(torn.contains("is lost") || torn.contains("not whole") || torn.contains("is there as"), "{torn}");
    let server = Instance::start(&setup);
    wait::until("the journal is settled", || queue::journals(&queue).is_empty().then_some(()));
    let owed = account.check(&queue, 0, false).unwrap_or_else(|error| panic!("{error}"));
    assert!(owed >= MESSAGES, "{owed}");
    eprintln!("{} mounted anew: {owed} messages owed, 0 lost", kind.name());
    drop(server);
    unmount(&mounted);
}

/// The server runs in a mount namespace of its own, with its queue below a bind mount, as systemd arranges it. A process of it is
/// killed: what was delivered does not come back.
fn other_mounts() {
    let _beside = super::MOUNTS.read().unwrap_or_else(PoisonError::into_inner);
    let dir = scratch("mounts");
    let queue = dir.path().join("queue");
    let main_cf = vec!["qmqpd_commit = journal".to_owned(), "qmqpd_journal_checkpoint_delay = 1h".to_owned()];
    let mut program = Command::new("unshare");
    let script = r#"mkdir -p "$0" && mount --bind "$0" "$0" && exec "$@""#;
    program
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(&queue)
        .arg(program::qmqpd());
    program.process_group(0);
    let server = Instance::start_program(&Setup { main_cf, queue: Some(queue.clone()) }, program);
    let send = || client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
    let (delivered, stays) = (id_in(&send()), id_in(&send()));
    std::fs::remove_file(queue.join("incoming").join(&delivered)).unwrap();
    for service in server.services() {
        let _ = kill(service, Signal::SIGKILL);
    }
    wait::until("the journal of the killed process is settled", || {
        queue::journals(&queue).is_empty().then_some(())
    });
    assert_eq!(ids_below(&queue), [stays]);
}

fn id_in(reply: &str) -> String {
    reply.strip_prefix("KOk: queued as ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn ids_below(queue: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    queue::files_below(&queue.join("incoming")).into_iter().map(name).collect()
}
