//! What goes wrong meanwhile, one thing after the other.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::account::Account;
use testbed::ours::Instance;
use testbed::queue::Queue;
use testbed::random::Random;
use testbed::{peers, postfix, wait};

/// A queue on a small file system of its own; unmounted when dropped.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn mount() -> Self {
        let dir = postfix::scratch("soak");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=0755,size=48m", "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "mount: {status}");
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn queue(&self) -> Queue {
        Queue::make(&self.dir.path().join("queue"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// A list that lets the clients in; each version is another file.
pub(crate) fn write_table(path: &Path, version: usize) {
    let new = path.with_extension("new");
    // On a full disk there is no new version.
    if fs::write(&new, format!("# version {version}\n127.0.0.1\n")).is_ok() {
        fs::rename(new, path).unwrap();
    }
}

/// How long the server may take until it is itself again, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The troubles so far.
pub(crate) struct Troubles<'s> {
    server: &'s Instance,
    disk: &'s Disk,
    table: PathBuf,
    seed: u64,
    round: usize,
    last: Option<usize>,
    counts: [usize; KINDS.len()],
}

const KINDS: [&str; 5] = ["reloads", "killed processes", "changed tables", "full disks", "clock steps"];

/// main.cf line with which service processes have a time of their own, which [`Troubles`] sets: the clock of the machine is
/// not ours. It lies where a service process can read it in its sandbox.
pub(crate) fn own_clock() -> String {
    let library = peers::faketime().expect("libfaketime");
    format!(
        "import_environment = MAIL_CONFIG LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE=/{CLOCK} DONT_FAKE_MONOTONIC=1 \
         FAKETIME_CACHE_DURATION=1 FAKETIME_DISABLE_SHM=1",
        library.display()
    )
}

/// Below the queue directory, which is the root directory of service processes.
const CLOCK: &str = "hold/.clock";

impl<'s> Troubles<'s> {
    pub(crate) fn new(server: &'s Instance, disk: &'s Disk, table: PathBuf, seed: u64) -> Self {
        Self { server, disk, table, seed, round: 0, last: None, counts: [0; KINDS.len()] }
    }

    /// Waits until the last trouble is over.
    pub(crate) fn wait_for_mail(&self, account: &Account) {
        let before = account.queued();
        let over = wait::within(PATIENCE, || (account.queued() > before + 10).then_some(()));
        if over.is_none() {
            let log = self.server.log.all();
            let lines: Vec<&str> = log.lines().collect();
            let last = self.last.map_or("none", |kind| KINDS[kind]);
            panic!(
                "no mail in {PATIENCE:?} after {self}, the last one of {last}: {:#?}",
                &lines[lines.len().saturating_sub(60)..]
            );
        }
    }

    /// Waits until mail has come through since the last trouble, and a moment longer, and then makes another.
    pub(crate) fn next(&mut self, account: &Account) {
        self.wait_for_mail(account);
        let mut random = Random::new(self.seed ^ 0x7f0_0b1e, self.round);
        std::thread::sleep(Duration::from_millis(random.below(300) as u64));
        // Each once before any comes again.
        let kind = if self.round < KINDS.len() { self.round } else { random.below(KINDS.len()) };
        match kind {
            0 => self.server.signal(Signal::SIGHUP),
            1 => {
                for service in self.server.services() {
                    // It may have ended just now.
                    let _ = kill(service, Signal::SIGKILL);
                }
            }
            2 => write_table(&self.table, self.round + 1),
            3 => self.fill(account),
            _ => self.step_clock(random.pick(&["+1d", "-1d", "+3600", "-3600", "+5", "-5", "+0"])),
        }
        self.counts[kind] += 1;
        self.last = Some(kind);
        self.round += 1;
    }

    /// The time of day of the service processes from now on, against the machine's.
    pub(crate) fn step_clock(&self, offset: &str) {
        let path = self.server.queue.path.join(CLOCK);
        fs::write(&path, format!("{offset}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// To the last byte, until a client has heard of it.
    fn fill(&self, account: &Account) {
        let path = self.disk.dir().join("filler");
        let mut filler = fs::File::create(&path).unwrap();
        let before = account.storage_errors();
        wait::until("a full disk is answered with Z", || {
            // What the queue manager frees is taken again.
            while filler.write_all(&[0; 4096]).is_ok() {}
            (account.storage_errors() > before).then_some(())
        });
        fs::remove_file(path).unwrap();
    }

    pub(crate) fn each_happened(&self) -> bool {
        self.counts.iter().all(|count| *count > 0)
    }
}

impl fmt::Display for Troubles<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            KINDS.iter().zip(self.counts).map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(out, "{}", counts.join(", "))
    }
}
