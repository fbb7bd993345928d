//! A file system of one's own, made afresh for each round.
//!
//! ext4 with a journal, in an image file, on a loop device with direct I/O where that can be. The image is written once
//! from end to end, so that nobody's round pays for its growth; making the file system again touches only its tables.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::trouble::{Context as _, Result, trouble};

/// The image; removed when dropped.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    mount_point: tempfile::TempDir,
}

/// It, mounted; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    path: PathBuf,
    directory: File,
}

impl Image {
    pub(crate) fn make(directory: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(directory).context(|| format!("make {}", directory.display()))?;
        let path = directory.join(format!("qmqpd-bench-{}.image", std::process::id()));
        let mount_point = tempfile::tempdir().context(|| "make a mount point".to_owned())?;
        let image = Self { path, mount_point };
        let doing = || format!("write {bytes} bytes to {}", image.path.display());
        let mut file = File::create_new(&image.path).context(doing)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..bytes / (1 << 20) {
            file.write_all(&zeros).context(doing)?;
        }
        file.sync_all().context(doing)?;
        Ok(image)
    }

    pub(crate) fn mount(&self) -> Result<Mounted> {
        let image = self.path.to_string_lossy();
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        succeed(Command::new("mkfs.ext4").args(["-q", "-F", "-i", "8192", "-E", options, &image]))?;
        let attach = |direct: &[&str]| {
            succeed(Command::new("losetup").args(["--find", "--show"]).args(direct).arg(&*image))
        };
        // A file system in memory may have no direct I/O.
        let device = attach(&["--direct-io=on"]).or_else(|_| attach(&[]))?;
        let device = device.trim();
        let path = self.mount_point.path();
        let mounted = succeed(Command::new("mount").args(["-t", "ext4", device]).arg(path));
        // The device goes when it is no longer mounted.
        succeed(Command::new("losetup").args(["--detach", device]))?;
        mounted?;
        // mail_owner must get in.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .context(|| format!("open {} to others", path.display()))?;
        let directory = File::open(path).context(|| format!("open {}", path.display()))?;
        Ok(Mounted { path: path.to_owned(), directory })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes out what is left of the load before, so that it is not paid for in the next one.
    pub(crate) fn settle(&self) -> Result<()> {
        rustix::fs::syncfs(&self.directory).context(|| "sync the file system".to_owned())?;
        std::thread::sleep(SETTLE_TIME);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Servers that are still ending hold it for a moment: it goes when the last one has.
        let _ = succeed(Command::new("umount").arg("--lazy").arg(&self.path));
    }
}

const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Runs a program; its standard output, if it ends well.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().context(|| shown.clone())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(trouble(format!("{shown}: {}: {}", output.status, words.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
