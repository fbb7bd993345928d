//! The directories of a queue: their names, modes and owners, as Postfix makes them.

use std::io;

use postfix::notice::Notice;

use crate::disk::{Disk, FileKind, Status};
use crate::error::{SpoolError, Step, disk};
use crate::journal::names::DIRECTORY;

/// To whom the directories of a queue belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The user of `mail_owner`.
    pub mail_owner_uid: u32,
    /// The group of `setgid_group`.
    pub setgid_group_gid: u32,
}

/// Who owns a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Root,
    Mail,
    MailAndSetgidGroup,
}

/// Name, owner and mode of each directory: those of Postfix 3.7 on Debian, and one of our own.
const DIRECTORIES: [(&str, Owner, u32); 15] = [
    ("incoming", Owner::Mail, 0o700),
    ("active", Owner::Mail, 0o700),
    ("deferred", Owner::Mail, 0o700),
    ("hold", Owner::Mail, 0o700),
    ("corrupt", Owner::Mail, 0o700),
    ("saved", Owner::Mail, 0o700),
    ("bounce", Owner::Mail, 0o700),
    ("defer", Owner::Mail, 0o700),
    ("trace", Owner::Mail, 0o700),
    ("flush", Owner::Mail, 0o700),
    ("private", Owner::Mail, 0o700),
    ("public", Owner::MailAndSetgidGroup, 0o710),
    ("maildrop", Owner::MailAndSetgidGroup, 0o730),
    ("pid", Owner::Root, 0o755),
    (DIRECTORY, Owner::Mail, 0o700),
];

/// The queue manager renames between these, which works on one file system only.
const ONE_DEVICE: [&str; 5] = ["incoming", "active", "deferred", "hold", "corrupt"];

/// Makes what is missing of the queue's directories, with Postfix's modes, and gives them to their owners if the
/// process runs as root. What exists is left as it is; [`verify`] judges it.
///
/// `owners` is for root; anyone else makes a queue of his own, with `None`.
///
/// # Errors
/// A directory cannot be made.
pub fn create_missing<D: Disk>(disk_: &D, owners: Option<Owners>) -> Result<(), SpoolError> {
    for (name, owner, mode) in DIRECTORIES {
        let new_owner = match (owners, owner) {
            (None, _) | (_, Owner::Root) => None,
            (Some(owners), Owner::Mail) => Some((owners.mail_owner_uid, None)),
            (Some(owners), Owner::MailAndSetgidGroup) => {
                Some((owners.mail_owner_uid, Some(owners.setgid_group_gid)))
            }
        };
        create(disk_, name, new_owner, mode)?;
    }
    Ok(())
}

/// Makes the directory of [journals](crate::journal), if it is missing, in a queue whose other directories Postfix has
/// made. A process that is going to give up root names the user that it becomes.
///
/// # Errors
/// It cannot be made.
pub fn create_journal<D: Disk>(disk_: &D, mail_owner_uid: Option<u32>) -> Result<(), SpoolError> {
    create(disk_, DIRECTORY, mail_owner_uid.map(|uid| (uid, None)), 0o700)
}

fn create<D: Disk>(
    disk_: &D,
    name: &str,
    owner: Option<(u32, Option<u32>)>,
    mode: u32,
) -> Result<(), SpoolError> {
    match disk_.create_directory(name, mode) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // A missing permission to write is reported even if it exists.
        Err(_) if disk_.status(name).is_ok() => return Ok(()),
        Err(error) => return Err(disk(Step::CreateDirectory, &place(disk_, name))(error)),
    }
    let Some((uid, gid)) = owner else { return Ok(()) };
    disk_.set_directory_owner(name, uid, gid).map_err(disk(Step::SetOwner, &place(disk_, name)))?;
    // chown(2) may take permission bits away.
    disk_.set_directory_mode(name, mode).map_err(disk(Step::SetMode, &place(disk_, name)))
}

/// Looks whether messages can be put into this queue by this process and taken out of it by the queue manager.
///
/// Returns what is odd but not in the way: modes that let others in, missing directories of other purposes.
///
/// # Errors
/// [`SpoolError::Layout`] if `incoming` is missing, is no directory, belongs to another user than the one this process
/// runs as (files would have the wrong owner, and a queue manager that cannot open a file stops all delivery), or if
/// one of the queues is on another file system.
pub fn verify<D: Disk>(disk_: &D) -> Result<Vec<Notice>, SpoolError> {
    let mut notices = Vec::new();
    let incoming = directory(disk_, "incoming")?;
    let user = disk_.user();
    if incoming.uid != user {
        return Err(layout(
            disk_,
            "incoming",
            format!("it belongs to user {}, but this process runs as user {user}", incoming.uid),
            format!(
                "run as user {0} (mail_owner), or, with no program running on this queue, make user \
                 {user} the owner of its directories except pid, and of all files in them",
                incoming.uid
            ),
        ));
    }
    if incoming.mode & 0o700 != 0o700 {
        let problem = format!("its mode is {:04o}, which does not give its owner full access", incoming.mode);
        return Err(layout(disk_, "incoming", problem, "chmod 0700 it".to_owned()));
    }
    for (name, owner, mode) in DIRECTORIES {
        match directory(disk_, name) {
            Ok(status) => {
                if ONE_DEVICE.contains(&name) && status.device != incoming.device {
                    return Err(layout(
                        disk_,
                        name,
                        "it is on another file system than incoming".to_owned(),
                        "messages are moved between the queues by renaming: put all of them on one file system"
                            .to_owned(),
                    ));
                }
                if status.mode & 0o777 & !mode != 0 {
                    let path = place(disk_, name);
                    notices.push(Notice::warning(format!(
                        "{path}: mode {:04o} gives access to others than the mail system; chmod \
                         {mode:04o} it",
                        status.mode
                    )));
                }
                if owner == Owner::Mail && status.uid != incoming.uid {
                    let path = place(disk_, name);
                    notices.push(Notice::warning(format!(
                        "{path}: not owned by user {}, as incoming is; chown it",
                        incoming.uid
                    )));
                }
            }
            Err(error @ SpoolError::Layout { .. }) if ONE_DEVICE.contains(&name) => {
                notices.push(Notice::warning(error.to_string()));
            }
            // A program that only adds messages does not need the rest.
            Err(_) => {}
        }
    }
    Ok(notices)
}

fn directory<D: Disk>(disk_: &D, name: &str) -> Result<Status, SpoolError> {
    match disk_.status(name) {
        Ok(status) if status.kind == FileKind::Directory => Ok(status),
        Ok(_) => Err(layout(
            disk_,
            name,
            "it is not a directory".to_owned(),
            "move it away and create a directory of this name".to_owned(),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(layout(
            disk_,
            name,
            "the directory does not exist".to_owned(),
            "run \"postfix check\" or \"qmqpd serve\" to create it, or correct queue_directory".to_owned(),
        )),
        Err(error) => Err(disk(Step::Examine, &place(disk_, name))(error)),
    }
}

fn layout<D: Disk>(disk_: &D, name: &str, problem: String, remedy: String) -> SpoolError {
    SpoolError::Layout { path: place(disk_, name), problem, remedy }
}

/// The name as an operator would type it.
fn place<D: Disk>(disk_: &D, name: &str) -> String {
    format!("{}/{name}", disk_.describe())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::simulated::Simulated;

    const EACCES: i32 = 13;

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_one_that_is_there_is_none_of_it() {
        for number in 0..DIRECTORIES.len() as u64 {
            let disk = Simulated::new();
            disk.fail(number..=number, EACCES, false);
            let error = create_missing(&disk, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            let words = error.to_string();
            let (name, ..) = DIRECTORIES[number as usize];
            assert!(words.starts_with(&format!("cannot create the directory simulated/{name}")), "{words}");
        }
        let disk = Simulated::new();
        create_missing(&disk, None).unwrap();
        create_missing(&disk, None).unwrap();
        // A user who may not write there sees that all is there.
        disk.make_read_only();
        create_missing(&disk, None).unwrap();
    }

    #[test]
    fn what_is_odd_is_told_and_what_is_missing_beside_the_queues_is_not() {
        let queue = || {
            let disk = Simulated::new();
            create_missing(&disk, None).unwrap();
            disk
        };
        assert_eq!(verify(&queue()).unwrap(), []);
        let disk = queue();
        disk.remove_by_another("flush");
        disk.remove_by_another("pid");
        assert_eq!(verify(&disk).unwrap(), []);
        for name in ["active", "deferred", "hold", "corrupt"] {
            let disk = queue();
            disk.remove_by_another(name);
            let notices = verify(&disk).unwrap();
            assert!(notices.len() == 1 && notices[0].text.contains(name), "{notices:?}");
        }
        let disk = queue();
        disk.set_directory_mode("hold", 0o750).unwrap();
        disk.set_directory_mode("pid", 0o755).unwrap();
        let notices = verify(&disk).unwrap();
        assert!(
            notices.len() == 1 && notices[0].text.contains("mode 0750 gives access to others"),
            "{notices:?}"
        );
        let disk = queue();
        disk.set_directory_owner("active", 7, None).unwrap();
        disk.set_directory_owner("pid", 0, None).unwrap();
        let notices = verify(&disk).unwrap();
        assert!(
            notices.len() == 1 && notices[0].text.contains("active: not owned by user 1000"),
            "{notices:?}"
        );
        let disk = queue();
        disk.fail(disk.calls()..=disk.calls(), EACCES, false);
        let words = verify(&disk).unwrap_err().to_string();
        assert!(words.starts_with("cannot examine simulated/incoming"), "{words}");
        // On another file system only the queues are in the way.
        let disk = queue();
        disk.set_device("pid", 2);
        assert_eq!(verify(&disk).unwrap(), []);
    }

    /// In a queue that Postfix has made, this one directory is ours to make.
    #[test]
    fn the_directory_of_journals_is_made_for_the_user_that_the_process_becomes() {
        let disk = Simulated::new();
        create_journal(&disk, Some(7)).unwrap();
        let status = disk.status(DIRECTORY).unwrap();
        assert_eq!((status.kind, status.uid, status.mode), (FileKind::Directory, 7, 0o700));
    }
}
