//! What the figures depend on: the machine, the versions, the command.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::contestant::Programs;
use crate::image::succeed;
use crate::trouble::{Context as _, Result};

/// What is mounted from here on is seen by this program and its children alone, and goes with them.
pub(crate) fn enter_mount_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context(|| "make a mount namespace".to_owned())?;
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>)
        .context(|| "make a mount namespace".to_owned())
}

/// For the head of the results.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) lines: Vec<(&'static str, String)>,
    pub(crate) has_journal: bool,
}

impl Facts {
    pub(crate) fn gather(programs: &Programs, arguments: String, took: Duration) -> Self {
        let output = |program: &str, arguments: &[&str]| {
            succeed(Command::new(program).args(arguments))
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = field(&cpuinfo, "model name").unwrap_or("unknown").to_owned();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib: u64 =
            field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
        let ours = output(&programs.path("qmqpd").to_string_lossy(), &["--version"]);
        let revision = output("git", &["rev-parse", "--short", "HEAD"]);
        let is_dirty = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        let changed = if is_dirty { ", with changes that are not committed" } else { "" };
        Self {
            lines: vec![
                ("Date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
                ("Processor", format!("{processors} × {model}, load generator on the same ones")),
                ("Memory", format!("{:.0} GiB", memory_kib as f64 / f64::from(1 << 20))),
                ("System", output("uname", &["-srm"])),
                (
                    "Ours",
                    format!("{ours}, revision {revision}{changed}, {}", output("rustc", &["--version"])),
                ),
                ("Postfix", output("postconf", &["-dh", "mail_version"])),
                ("Command", format!("`make bench`, that is `race {arguments}`")),
                ("Took", format!("{:.0} s", took.as_secs_f64())),
            ],
            has_journal: programs.has_journal,
        }
    }
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}
