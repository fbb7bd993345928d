//! A private Postfix: own configuration, queue and data directories, own loopback port, no delivery unless asked for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::maillog::Maillog;
use crate::queue::{Queue, directory};
use crate::{BASE_MAIN_CF, ports, setting, wait};

/// A version of Postfix: the first two numbers.
pub type Version = (u32, u32);

/// Its program.
const MASTER: &str = "/usr/lib/postfix/sbin/master";

/// The services that QMQP mail passes. Without qmgr a message stays in `incoming`, where the tests look for it.
const INJECTION: &str = "\
postlog   unix-dgram n - n - 1 postlogd
cleanup   unix  n - n - 0 cleanup
rewrite   unix  - - n - - trivial-rewrite
";

/// The services that deliver: to files through pipe(8), and to nowhere through discard(8) and error(8).
const DELIVERY: &str = "\
qmgr      unix  n - n 300 1 qmgr
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
discard   unix  - - n - - discard
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
smtp      unix  - - n - - smtp
";

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines behind the common ones.
    pub main_cf: Vec<String>,
    /// Lines behind the services that are always there.
    pub master_cf: String,
    /// Whether a queue manager runs.
    pub delivers: bool,
    /// Whether it is woken through a named pipe, as in old configurations.
    pub has_fifo: bool,
    /// A queue directory to use; otherwise one of its own.
    pub queue: Option<PathBuf>,
    /// Whether its qmqpd is ours; see [`crate::drop_in`].
    pub replaces_qmqpd: bool,
    /// The columns of qmqpd in master.cf from private to maxproc, where they are not `n - n - -`.
    pub columns: Option<&'static str>,
}

/// A running Postfix; it stops when dropped.
#[derive(Debug)]
pub struct Instance {
    /// Where its qmqpd listens.
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
    /// Starts a Postfix and waits until it listens.
    pub fn start(setup: &Setup) -> Self {
        let dir = scratch("postfix");
        let port = ports::free();
        let queue = Queue::make(&setup.queue.clone().unwrap_or_else(|| dir.path().join("queue")));
        let log = dir.path().join("maillog");
        let data = dir.path().join("data");
        directory(&data, 0o700);
        let owner = nix::unistd::User::from_name("postfix").unwrap().expect("user postfix").uid;
        nix::unistd::chown(&data, Some(owner), None).unwrap();
        let mut main_cf = main_cf(dir.path(), &queue.path, &setup.main_cf);
        writeln!(main_cf, "data_directory = {}", data.display()).unwrap();
        let mut master_cf = String::from(INJECTION);
        if setup.delivers {
            let services =
                if setup.has_fifo { &DELIVERY.replace("qmgr      unix", "qmgr      fifo") } else { DELIVERY };
            master_cf.push_str(services);
        }
        let columns = setup.columns.unwrap_or("n - n - -");
        for host in hosts() {
            writeln!(master_cf, "{host}:{port} inet {columns} qmqpd").unwrap();
        }
        if setup.replaces_qmqpd {
            let programs = dir.path().join("programs");
            crate::drop_in::fill(&programs);
            writeln!(main_cf, "daemon_directory = {}", programs.display()).unwrap();
        }
        master_cf.push_str(&setup.master_cf);
        let config = write_config(dir.path(), &main_cf, &master_cf);
        let master = Command::new(MASTER)
            .arg("-c")
            .arg(&config)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("Postfix's master");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut instance = Self { address, queue, log: Maillog::new(&log), config, master, dir };
        let listening =
            wait::within(wait::PATIENCE, || instance.log.all().contains("daemon started").then_some(()));
        assert!(listening.is_some(), "Postfix did not start\n{main_cf}\n{master_cf}");
        drop(crate::client::connect(address));
        instance
            .log
            .lines_until("the end of the first session", |line| line.text.starts_with("disconnect from "));
        instance
    }

    /// The directory with everything of this instance.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its version, from the mark `mail_version=3.7.11` in its program: what it logs is the setting of that name.
    pub fn version(&self) -> Version {
        const MARK: &[u8] = b"\0mail_version=";
        static VERSION: OnceLock<Version> = OnceLock::new();
        *VERSION.get_or_init(|| {
            let program = std::fs::read(MASTER).unwrap();
            let at =
                program.windows(MARK.len()).position(|part| part == MARK).expect("the mark of a version");
            let text = String::from_utf8_lossy(&program[at + MARK.len()..][..16]).into_owned();
            let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
    }

    /// Its master, which an administrator signals.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.master.id()).unwrap())
    }

    /// What an administrator types: `postfix reload`, `stop`, `abort`. Waits until that command has ended.
    pub fn control(&self, verb: &str) {
        let output =
            Command::new("/usr/sbin/postfix").arg("-c").arg(&self.config).arg(verb).output().unwrap();
        assert!(output.status.success(), "postfix {verb}: {output:?}");
    }

    /// The processes that its master has started and knows, with the names of their programs.
    pub fn children(&self) -> Vec<(Pid, String)> {
        let pid = self.pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let named = children.split_whitespace().filter_map(|child| {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            Some((Pid::from_raw(child.parse().ok()?), name.trim_end().to_owned()))
        });
        named.collect()
    }

    /// Every process with this configuration, known to the master or not; without the master itself.
    pub fn processes(&self) -> Vec<Pid> {
        let mark = format!("MAIL_CONFIG={}\0", self.config.display()).into_bytes();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ours = all.filter_map(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let has_it = environment.windows(mark.len()).any(|part| part == mark);
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            has_it.then(|| Pid::from_raw(pid)).filter(|pid| *pid != self.pid())
        });
        ours.collect()
    }

    /// Waits for the end of the master.
    pub fn wait(&mut self) {
        wait::until("Postfix's master ends", || self.master.try_wait().unwrap());
    }

    /// Stops it and waits until it is gone.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.master.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let gone = wait::within(Duration::from_secs(5), || self.master.try_wait().ok().flatten());
        if gone.is_none() {
            let _ = self.master.kill();
            let _ = self.master.wait();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
        self.log.ends();
    }
}

/// Addresses to listen on: loopback, IPv6 too where the machine has it.
pub fn hosts() -> Vec<&'static str> {
    let mut hosts = vec!["127.0.0.1"];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.push("[::1]");
    }
    hosts
}

/// A temporary directory that a server which changed its user can enter.
pub fn scratch(name: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("qmqpd-test-{name}-")).tempdir().unwrap();
    directory(dir.path(), 0o755);
    dir
}

/// main.cf for a server that keeps everything below `dir`.
pub fn main_cf(dir: &Path, queue: &Path, more: &[String]) -> String {
    // A setting that stands twice would be warned of by every process that starts.
    let is_common =
        |line: &&&str| setting(more, line.split_once('=').map_or(**line, |(name, _)| name.trim())).is_none();
    let mut text = BASE_MAIN_CF.iter().filter(is_common).copied().collect::<Vec<_>>().join("\n");
    let (dir, queue) = (dir.display(), queue.display());
    write!(
        text,
        "\nqueue_directory = {queue}\nmaillog_file = {dir}/maillog\nmaillog_file_prefixes = {dir}\n"
    )
    .unwrap();
    for line in more {
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// Writes a configuration directory below `dir`. The files get an old date, because Postfix's programs wait for a
/// freshly written main.cf to cool down.
pub fn write_config(dir: &Path, main_cf: &str, master_cf: &str) -> PathBuf {
    let config = dir.join("config");
    directory(&config, 0o755);
    for (name, text) in [("main.cf", main_cf), ("master.cf", master_cf)] {
        write_old(&config.join(name), text);
    }
    config
}

/// Writes a file that is an hour old.
pub fn write_old(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}
