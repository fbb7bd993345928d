//! The servers that are compared, each with its configuration, queue and log on the file system under test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, User, chown};

use crate::trouble::{Context as _, Result, trouble};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Postfix,
    OursFile,
    OursJournal,
    /// Our service under Postfix's master, its cleanup(8) writes the queue file.
    DropInPostfix,
    /// The same with our own cleanup, and the journal.
    DropInLocal,
    FloorFile,
    FloorJournal,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Postfix,
        Self::OursFile,
        Self::OursJournal,
        Self::DropInPostfix,
        Self::DropInLocal,
        Self::FloorFile,
        Self::FloorJournal,
    ];

    /// In tables and plots.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::OursFile => "ours, file",
            Self::OursJournal => "ours, journal",
            Self::DropInPostfix => "drop-in, Postfix's cleanup",
            Self::DropInLocal => "drop-in, local, journal",
            Self::FloorFile => "floor, file",
            Self::FloorJournal => "floor, journal",
        }
    }

    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::OursFile | Self::OursJournal | Self::DropInPostfix | Self::DropInLocal)
    }

    /// Under Postfix's master.
    pub(crate) const fn is_drop_in(self) -> bool {
        matches!(self, Self::DropInPostfix | Self::DropInLocal)
    }

    /// The bare program that keeps the same promise in the same way.
    pub(crate) const fn floor(self) -> Option<Self> {
        match self {
            Self::OursFile => Some(Self::FloorFile),
            Self::OursJournal | Self::DropInLocal => Some(Self::FloorJournal),
            _ => None,
        }
    }

    const fn directory(self) -> &'static str {
        match self {
            Self::Postfix => "postfix",
            Self::OursFile => "ours-file",
            Self::OursJournal => "ours-journal",
            Self::DropInPostfix => "drop-in-postfix",
            Self::DropInLocal => "drop-in-local",
            Self::FloorFile => "floor-file",
            Self::FloorJournal => "floor-journal",
        }
    }
}

/// Where our programs are, and what they can do.
#[derive(Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
    pub(crate) has_journal: bool,
}

impl Programs {
    pub(crate) fn find(directory: &Path) -> Result<Self> {
        let directory = directory.canonicalize().context(|| format!("look into {}", directory.display()))?;
        let mut this = Self { directory, has_journal: false };
        for name in ["qmqpd", "qmqp-bench", "floor"] {
            if !this.path(name).is_file() {
                return Err(trouble(format!("{} is not there: make build", this.path(name).display())));
            }
        }
        if !Path::new(POSTFIX_MASTER).is_file() {
            return Err(trouble(format!("{POSTFIX_MASTER} is not there: install Postfix")));
        }
        let scratch = tempfile::tempdir().context(|| "make a directory".to_owned())?;
        let config =
            write_config(scratch.path(), &main_cf(scratch.path(), "qmqpd_commit = journal\n"), None)?;
        let check = Command::new(this.path("qmqpd")).arg("check").arg("-c").arg(config).output();
        let check = check.context(|| "run qmqpd check".to_owned())?;
        // It may find other things that are missing there, and has advice; here it is about a parameter that it does not know.
        let words = [check.stdout, check.stderr].concat();
        this.has_journal = !String::from_utf8_lossy(&words).contains("unused parameter: qmqpd_commit");
        Ok(this)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

const POSTFIX_PROGRAMS: &str = "/usr/lib/postfix/sbin";
const POSTFIX_MASTER: &str = "/usr/lib/postfix/sbin/master";

/// A running server; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    pub(crate) address: String,
    process: Child,
}

impl Contestant {
    /// Starts it below `base`; `None` if our server cannot do this yet.
    pub(crate) fn start(kind: Kind, base: &Path, programs: &Programs) -> Result<Option<Self>> {
        let directory = base.join(kind.directory());
        make_directory(&directory, 0o755)?;
        let port = free_port()?;
        let mut command = match kind {
            Kind::OursJournal if !programs.has_journal => return Ok(None),
            Kind::OursFile => ours(programs, &directory, port, "file")?,
            Kind::OursJournal => ours(programs, &directory, port, "journal")?,
            Kind::FloorFile => floor(programs, &directory, port, "file"),
            Kind::FloorJournal => floor(programs, &directory, port, "journal"),
            Kind::Postfix => postfix(&directory, port, "", "")?,
            Kind::DropInPostfix => drop_in(programs, &directory, port, "qmqpd_submit=postfix")?,
            Kind::DropInLocal => {
                drop_in(programs, &directory, port, "qmqpd_submit=local -o qmqpd_commit=journal")?
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(&directory);
        let process = command.spawn().context(|| format!("start {}", kind.title()))?;
        let mut this = Self { kind, address: format!("127.0.0.1:{port}"), process };
        this.wait_until_listening()?;
        Ok(Some(this))
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_TIME_MAX {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(trouble(format!("{} ended at once: {status}", self.kind.title())));
            }
            if TcpStream::connect(&self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(trouble(format!("{} does not listen", self.kind.title())))
    }

    /// The process that was started; its children do the work.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX));
        let _ = kill(pid, Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < STOP_TIME_MAX {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const START_TIME_MAX: Duration = Duration::from_secs(20);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context(|| "find a free port".to_owned())?;
    Ok(listener.local_addr().context(|| "find a free port".to_owned())?.port())
}

/// What both servers are told. The sizes are for the lists: `message_size_limit` counts the recipients too. The rest is
/// for Postfix: without a queue manager it would pause before each message, and no process of its should end in the middle.
fn main_cf(directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "compatibility_level = 3.6\n\
         myhostname = mx.example.test\n\
         mydestination =\n\
         inet_interfaces = loopback-only\n\
         alias_maps =\n\
         in_flow_delay = 0\n\
         max_use = 1000000\n\
         max_idle = 1h\n\
         message_size_limit = 200000000\n\
         qmqpd_authorized_clients = 127.0.0.0/8\n\
         mail_owner = postfix\n\
         queue_directory = {directory}/queue\n\
         data_directory = {directory}/data\n\
         maillog_file = {directory}/maillog\n\
         maillog_file_prefixes = {directory}\n\
         {more}"
    )
}

/// Without qmgr: messages stay in `incoming`.
const POSTFIX_MASTER_CF: &str = "\
postlog   unix-dgram n - n - 1 postlogd
cleanup   unix  n - n - 0 cleanup
rewrite   unix  - - n - - trivial-rewrite
";

fn ours(programs: &Programs, directory: &Path, port: u16, way: &str) -> Result<Command> {
    make_queue(&directory.join("queue"))?;
    let more = format!(
        "qmqpd_listen = 127.0.0.1:{port}\nqmqpd_commit = {way}\nqmqpd_connection_limit = 6000\n\
         default_process_limit = 1000\n"
    );
    let config = write_config(directory, &main_cf(directory, &more), None)?;
    let mut command = Command::new(programs.path("qmqpd"));
    command.arg("serve").arg("-c").arg(config);
    Ok(command)
}

/// A private Postfix; `more` is for main.cf, `options` for the service's line in master.cf.
fn postfix(directory: &Path, port: u16, more: &str, options: &str) -> Result<Command> {
    make_queue(&directory.join("queue"))?;
    let data = directory.join("data");
    make_directory(&data, 0o700)?;
    own(&data, false)?;
    let master_cf = format!("{POSTFIX_MASTER_CF}127.0.0.1:{port} inet n - n - - qmqpd{options}\n");
    let config = write_config(directory, &main_cf(directory, more), Some(&master_cf))?;
    let mut command = Command::new(POSTFIX_MASTER);
    command.arg("-c").arg(config);
    Ok(command)
}

/// The same with our program in the place of Postfix's qmqpd(8), which lives as long as Postfix's defaults let it.
fn drop_in(programs: &Programs, directory: &Path, port: u16, options: &str) -> Result<Command> {
    let sbin = directory.join("sbin");
    make_directory(&sbin, 0o755)?;
    let doing = || format!("fill {}", sbin.display());
    for entry in fs::read_dir(POSTFIX_PROGRAMS).context(doing)? {
        let entry = entry.context(doing)?;
        if entry.file_name() != "qmqpd" {
            symlink(entry.path(), sbin.join(entry.file_name())).context(doing)?;
        }
    }
    symlink(programs.path("qmqpd"), sbin.join("qmqpd")).context(doing)?;
    let more = format!("daemon_directory = {}\nqmqpd_connection_limit = 6000\n", sbin.display());
    postfix(directory, port, &more, &format!(" -o max_use=100 -o max_idle=100s -o {options}"))
}

fn floor(programs: &Programs, directory: &Path, port: u16, way: &str) -> Command {
    let mut command = Command::new(programs.path("floor"));
    command.arg(port.to_string()).arg(directory.join("queue")).arg(way);
    command
}

/// The directories that Postfix's installation makes.
fn make_queue(path: &Path) -> Result<()> {
    make_directory(path, 0o755)?;
    make_directory(&path.join("pid"), 0o755)?;
    for name in [
        "incoming", "active", "deferred", "hold", "corrupt", "saved", "bounce", "defer", "trace", "flush",
        "private",
    ] {
        make_directory(&path.join(name), 0o700)?;
        own(&path.join(name), false)?;
    }
    for (name, mode) in [("public", 0o710), ("maildrop", 0o730)] {
        make_directory(&path.join(name), mode)?;
        own(&path.join(name), true)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let doing = || format!("make {}", path.display());
    fs::DirBuilder::new().mode(mode).create(path).context(doing)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(doing)
}

/// Gives a directory to Postfix's user.
fn own(path: &Path, to_group: bool) -> Result<()> {
    let user =
        User::from_name("postfix").ok().flatten().ok_or_else(|| trouble("there is no user postfix"))?;
    let group =
        Group::from_name("postdrop").ok().flatten().ok_or_else(|| trouble("there is no group postdrop"))?;
    chown(path, Some(user.uid), to_group.then_some(group.gid)).context(|| format!("chown {}", path.display()))
}

/// Writes a configuration directory, an hour old: Postfix's programs wait for a freshly written main.cf to cool down.
fn write_config(directory: &Path, main_cf: &str, master_cf: Option<&str>) -> Result<PathBuf> {
    let config = directory.join("config");
    make_directory(&config, 0o755)?;
    for (name, text) in [("main.cf", Some(main_cf)), ("master.cf", master_cf)] {
        let Some(text) = text else { continue };
        let path = config.join(name);
        let doing = || format!("write {}", path.display());
        fs::write(&path, text).context(doing)?;
        let file = fs::File::options().write(true).open(&path).context(doing)?;
        let hour_ago =
            SystemTime::now().checked_sub(Duration::from_secs(3600)).unwrap_or(SystemTime::UNIX_EPOCH);
        file.set_modified(hour_ago).context(doing)?;
    }
    Ok(config)
}
