//! A private Postfix whose qmqpd(8) is ours: master(8) finds it in `daemon_directory`, among links to Postfix's own
//! programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::postfix::{Instance, Setup};
use crate::program;
use crate::queue::directory;

/// Where Debian keeps the programs that master(8) starts.
const POSTFIX_PROGRAMS: &str = "/usr/lib/postfix/sbin";

/// Who takes the message from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submit {
    /// Postfix's cleanup(8).
    Postfix,
    /// Our own, into the same queue.
    Local,
}

impl Submit {
    /// The main.cf line; empty for the default.
    fn lines(self) -> Vec<String> {
        match self {
            Self::Postfix => vec![],
            Self::Local => vec!["qmqpd_submit = local".to_owned()],
        }
    }
}

/// What `QMQPD_OURS` asks the differential suite to compare with Postfix: nothing for `qmqpd serve`.
pub(crate) fn asked_for() -> Option<Submit> {
    match std::env::var("QMQPD_OURS").ok().as_deref() {
        None | Some("" | "serve") => None,
        Some("drop-in") => Some(Submit::Postfix),
        Some("drop-in-local") => Some(Submit::Local),
        Some(other) => panic!("QMQPD_OURS={other}: write serve, drop-in or drop-in-local"),
    }
}

/// Starts a Postfix with our qmqpd.
pub fn start(submit: Submit, setup: &Setup) -> Instance {
    let mut setup = setup.clone();
    setup.main_cf.extend(submit.lines());
    setup.replaces_qmqpd = true;
    Instance::start(&setup)
}

/// Makes a directory of Postfix's programs, but for one.
pub(crate) fn fill(programs: &Path) {
    directory(programs, 0o755);
    for entry in fs::read_dir(POSTFIX_PROGRAMS).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let target = if name == "qmqpd" { Path::new(program::qmqpd()).to_owned() } else { entry.path() };
        symlink(target, programs.join(name)).unwrap();
    }
}
