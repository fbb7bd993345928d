//! Our own program under test, run the way an administrator runs it: `qmqpd serve -c DIR`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

use crate::maillog::Maillog;
use crate::postfix::{hosts, main_cf, scratch, write_config};
use crate::queue::{Queue, directory};
use crate::{ports, program, wait};

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines behind the common ones.
    pub main_cf: Vec<String>,
    /// A queue directory to use; otherwise one of its own.
    pub queue: Option<PathBuf>,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Instance {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its queue.
    pub queue: Queue,
    /// Its log.
    pub log: Maillog,
    /// Its configuration directory.
    pub config: PathBuf,
    master: Child,
    dir: TempDir,
}

impl Instance {
    /// Starts a server and waits until it listens.
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, None, &[], Command::new(program::qmqpd()))
    }

    /// Starts a server whose service stands in a master.cf, with these columns from private to maxproc.
    pub fn start_with_columns(setup: &Setup, columns: &str) -> Self {
        Self::start_with(setup, Some(columns), &[], Command::new(program::qmqpd()))
    }

    /// Starts a server whose services stand in a master.cf: its own with these columns from private to maxproc, and more lines.
    pub fn start_with_lines(setup: &Setup, columns: &str, lines: &[String]) -> Self {
        Self::start_with(setup, Some(columns), lines, Command::new(program::qmqpd()))
    }

    /// Starts a server that has one processor, and so one thread for all its sessions.
    pub fn start_on_one_processor(setup: &Setup) -> Self {
        use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
        let this_thread = Pid::from_raw(0);
        let all = sched_getaffinity(this_thread).unwrap();
        let first = (0..CpuSet::count()).find(|&cpu| all.is_set(cpu).unwrap()).unwrap();
        let mut one = CpuSet::new();
        one.set(first).unwrap();
        // A child has the processors of the thread that starts it.
        sched_setaffinity(this_thread, &one).unwrap();
        let server = Self::start(setup);
        sched_setaffinity(this_thread, &all).unwrap();
        server
    }

    /// Starts a server that takes the machine for one that was started anew: to it, this file is the kernel's boot_id.
    /// Needs root.
    pub fn start_after_boot(setup: &Setup, boot_id: &Path) -> Self {
        Self::start_with(setup, None, &[], program_that_sees(boot_id, "/proc/sys/kernel/random/boot_id"))
    }

    /// Starts a server with a resolver configuration of its own. Needs root.
    pub fn start_with_resolver(setup: &Setup, resolv_conf: &Path) -> Self {
        Self::start_with(setup, None, &[], program_that_sees(resolv_conf, "/etc/resolv.conf"))
    }

    /// Starts a server by way of another program, which runs it in the end.
    pub fn start_program(setup: &Setup, program: Command) -> Self {
        Self::start_with(setup, None, &[], program)
    }

    fn start_with(setup: &Setup, columns: Option<&str>, lines: &[String], mut program: Command) -> Self {
        let dir = scratch("ours");
        let port = ports::free();
        let queue_path = setup.queue.clone().unwrap_or_else(|| dir.path().join("queue"));
        let queue = if Uid::effective().is_root() {
            Queue::make(&queue_path)
        } else {
            directory(&queue_path, 0o755);
            Queue { path: queue_path }
        };
        let mut main_cf = main_cf(dir.path(), &queue.path, &setup.main_cf);
        let listen: Vec<String> = hosts().iter().map(|host| format!("{host}:{port}")).collect();
        let mut master_cf = String::new();
        match columns {
            None => writeln!(main_cf, "qmqpd_listen = {}", listen.join(", ")).unwrap(),
            Some(columns) => {
                for place in listen {
                    writeln!(master_cf, "{place} inet {columns} qmqpd").unwrap();
                }
            }
        }
        lines.iter().for_each(|line| writeln!(master_cf, "{line}").unwrap());
        writeln!(main_cf, "data_directory = {}/data", dir.path().display()).unwrap();
        let config = write_config(dir.path(), &main_cf, &master_cf);
        if columns.is_none() {
            std::fs::remove_file(config.join("master.cf")).unwrap();
        }
        let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let master = program
            .arg("serve")
            .arg("-c")
            .arg(&config)
            .env("TZ", "UTC")
            // A group of its own: a test can kill all of it at once.
            .process_group(0)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("our server");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = Maillog::new(&dir.path().join("maillog"));
        let mut instance = Self { address, queue, log, config, master, dir };
        instance.wait_until_listening();
        instance
    }

    /// The first session: a connection and its end. Later ones find every process at work.
    fn wait_until_listening(&mut self) {
        let first = wait::within(wait::PATIENCE, || {
            if let Some(status) = self.master.try_wait().unwrap() {
                panic!("our server ended at once, {status}: {}", self.stderr());
            }
            std::net::TcpStream::connect(self.address).ok()
        });
        assert!(first.is_some(), "our server does not listen: {}", self.stderr());
        drop(first);
        self.log
            .lines_until("the end of the first session", |line| line.text.starts_with("disconnect from "));
    }

    /// What it wrote to standard error.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// The directory with everything of this instance.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process that an administrator sees and signals.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.master.id()).unwrap())
    }

    /// The service processes: children of the master, but for the one that settles journals now and then.
    pub fn services(&self) -> Vec<Pid> {
        let pid = self.pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let serves = |child: &&str| {
            let arguments = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            !arguments.split(|byte| *byte == 0).any(|word| word == b"settle")
        };
        let serving = children.split_whitespace().filter(serves);
        serving.filter_map(|child| child.parse().ok()).map(Pid::from_raw).collect()
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end; panics when it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("our server ends", || self.master.try_wait().unwrap())
    }

    /// Stops it and waits until it is gone.
    pub fn stop(&mut self) {
        if self.master.try_wait().unwrap().is_some() {
            return;
        }
        let _ = kill(self.pid(), Signal::SIGTERM);
        if wait::within(Duration::from_secs(5), || self.master.try_wait().ok().flatten()).is_none() {
            let _ = self.master.kill();
            let _ = self.master.wait();
        }
    }
}

/// Our program, for which one file stands in the place of another.
fn program_that_sees(file: &Path, in_place_of: &str) -> Command {
    let mut program = Command::new("unshare");
    let script = format!(r#"mount --bind "$0" {in_place_of} && exec "$@""#);
    program
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(file)
        .arg(program::qmqpd());
    program
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
        self.log.ends();
    }
}
