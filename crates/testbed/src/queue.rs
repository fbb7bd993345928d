//! The queue directory of a server under test.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, Uid, User, chown};

use crate::queue_file::QueueFile;
use crate::wait;

/// A queue directory.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its path.
    pub path: PathBuf,
}

impl Queue {
    /// Makes the directories that Postfix's installation makes, with its owners and modes.
    pub fn make(path: &Path) -> Self {
        let owner = User::from_name("postfix").unwrap().expect("user postfix");
        let group = Group::from_name("postdrop").unwrap().expect("group postdrop");
        directory(path, 0o755);
        directory(&path.join("pid"), 0o755);
        for name in [
            "incoming", "active", "deferred", "hold", "corrupt", "saved", "bounce", "defer", "trace", "flush",
        ] {
            directory(&path.join(name), 0o700);
            chown(&path.join(name), Some(owner.uid), None).unwrap();
        }
        directory(&path.join("private"), 0o700);
        chown(&path.join("private"), Some(owner.uid), None).unwrap();
        for (name, mode) in [("public", 0o710), ("maildrop", 0o730)] {
            directory(&path.join(name), mode);
            chown(&path.join(name), Some(owner.uid), Some(group.gid)).unwrap();
        }
        Self { path: path.to_owned() }
    }

    /// Every file below `incoming`, at any depth.
    pub fn incoming(&self) -> Vec<PathBuf> {
        files_below(&self.path.join("incoming"))
    }

    /// The files in `incoming` and `hold` that carry the mark of a whole message.
    pub fn committed(&self) -> Vec<PathBuf> {
        let whole =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o700 == 0o700);
        self.incoming().into_iter().chain(files_below(&self.path.join("hold"))).filter(whole).collect()
    }

    /// Waits until `incoming` has no file; for refused messages.
    pub fn wait_until_empty(&self) {
        let mut left = Vec::new();
        let empty = wait::within(wait::PATIENCE, || {
            left = self.incoming();
            left.is_empty().then_some(())
        });
        assert!(empty.is_some(), "files were left behind in the queue: {left:?}");
    }

    /// Reads every message and removes it, in the order of arrival.
    pub fn take(&self) -> Vec<Result<QueueFile, String>> {
        let mut paths = self.committed();
        paths.sort_by_key(|path| fs::metadata(path).map(|data| (data.mtime(), data.mtime_nsec())).ok());
        let read = |path: &PathBuf| {
            check_owner(path)?;
            let is_held = path.starts_with(self.path.join("hold"));
            QueueFile::read(path).map(|file| QueueFile { is_held, ..file })
        };
        let files = paths.iter().map(read).collect();
        for path in paths {
            fs::remove_file(path).unwrap();
        }
        files
    }
}

/// Mode exactly 0700, and of the mail owner where the server could choose: anything else stops a queue manager.
fn check_owner(path: &Path) -> Result<(), String> {
    let data = fs::metadata(path).map_err(|error| error.to_string())?;
    let mode = data.permissions().mode() & 0o7777;
    if mode != 0o700 {
        return Err(format!("{} has mode {mode:o}", path.display()));
    }
    if Uid::effective().is_root() && data.uid() == 0 {
        return Err(format!("{} is owned by root", path.display()));
    }
    Ok(())
}

/// Makes a directory with this mode, whatever the umask.
pub fn directory(path: &Path, mode: u32) {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every file below `path`, at any depth, in no order. What vanishes meanwhile is not reported.
pub fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

/// The journals in a queue directory: what a start would have to settle, or a process uses.
pub fn journals(queue: &Path) -> Vec<PathBuf> {
    let is_witness = |path: &PathBuf| path.extension().is_some_and(|end| end == "witness");
    files_below(&queue.join("journal")).into_iter().filter(|path| !is_witness(path)).collect()
}
