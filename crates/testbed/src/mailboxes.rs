//! Where Postfix's queue manager delivers to in the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::postfix::Setup;
use crate::queue::{self, directory};
use crate::wait;

/// A directory into which a pipe(8) transport writes each delivery as `SENDER:RECIPIENT`.
#[derive(Debug)]
pub struct Mailboxes {
    directory: PathBuf,
    script: PathBuf,
}

impl Mailboxes {
    /// Makes it below this directory.
    pub fn new(below: &Path) -> Self {
        let boxes = Self { directory: below.join("delivered"), script: below.join("deliver") };
        directory(&boxes.directory, 0o777);
        // The final name appears when the message is whole.
        let text = format!(
            "#!/bin/sh\nset -e\ncd {}\ncat >\".$1:$2\"\nmv \".$1:$2\" \"$1:$2\"\n",
            boxes.directory.display()
        );
        fs::write(&boxes.script, text).unwrap();
        fs::set_permissions(&boxes.script, fs::Permissions::from_mode(0o755)).unwrap();
        boxes
    }

    /// A Postfix that delivers everything in its queue here: one delivery for each recipient, the message as it is.
    pub fn setup(&self, main_cf: &[String]) -> Setup {
        let ours =
            ["default_transport = tofile", "tofile_destination_recipient_limit = 1"].map(str::to_owned);
        let script = self.script.display();
        Setup {
            main_cf: [main_cf, &ours].concat(),
            master_cf: format!(
                "tofile unix - n n - 10 pipe flags= user=nobody null_sender= argv={script} ${{sender}} ${{recipient}}\n"
            ),
            delivers: true,
            ..Default::default()
        }
    }

    /// Waits until so many messages are there; name and text of each.
    pub fn wait_for(&self, count: usize) -> Vec<(String, Vec<u8>)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let files = wait::within(wait::PATIENCE, || {
            let mut files = queue::files_below(&self.directory);
            files.retain(|path| !name(path).starts_with('.'));
            (files.len() >= count).then_some(files)
        });
        let files = files.expect("everything is delivered");
        files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
    }
}
