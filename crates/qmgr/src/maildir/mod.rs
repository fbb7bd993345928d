//! The agent that delivers into Maildirs: virtual(8).
//!
//! | module | has |
//! |---|---|
//! | [`directory`] | a message on its way into a Maildir |
//! | [`server`] | the process |
//! | [`identity`] | the user that it is written as |

pub mod directory;
pub mod identity;
pub mod server;

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use delivery::outcome::{Outcome, Status, status};
use lookup::Maps;
use postfix::notice::Notice;

use crate::delivery_line::{self, external};
use crate::mail_copy::{Additions, CopyError, MailCopy, QueueFile, was_delivered_to};
use crate::mailbox::Mailbox;
use crate::request::{Finished, Recipient, RecipientOutcome, Request};
use directory::{Disk, MaildirError, UnixDisk};
use identity::{Identity, as_user};

/// The relay of a log line.
const RELAY: &str = "virtual";

/// What the agent knows of mailboxes.
#[derive(Debug)]
pub struct MaildirAgent {
    /// `virtual_mailbox_base`.
    pub base: PathBuf,
    /// `virtual_mailbox_maps`: an address to a path below the base.
    pub mailboxes: Maps,
    /// `virtual_uid_maps`.
    pub user_ids: Maps,
    /// `virtual_gid_maps`.
    pub group_ids: Maps,
    /// `virtual_minimum_uid`.
    pub user_id_min: u32,
    /// `virtual_mailbox_limit`, in bytes, for a single file.
    pub file_bytes_max: u64,
    /// `recipient_delimiter`.
    pub recipient_delimiter: String,
    /// `enable_original_recipient`.
    pub shows_original_recipient: bool,
    /// The host's name, for names of files.
    pub host: String,
    /// `soft_bounce`.
    pub soft_bounce: bool,
}

impl MaildirAgent {
    /// Delivers to one recipient after the other. `report` gets an outcome for each, `log` what is to be logged.
    pub fn deliver(
        &self,
        request: &Request,
        file: &File,
        report: &mut dyn FnMut(RecipientOutcome),
        log: &dyn Fn(Notice),
    ) -> Finished {
        let finished = Finished::well(request.number);
        for (index, recipient) in request.recipients.iter().enumerate() {
            let began = SystemTime::now();
            let outcome = match self.attempt(request, recipient, file, log) {
                Ok(outcome) if self.soft_bounce => outcome.softened(),
                Ok(outcome) => outcome,
                Err(error) => {
                    log(Notice::warning(format!("{}: {error}", request.queue_id)));
                    if error.is_damage() {
                        return Finished { is_content_damaged: true, ..finished };
                    }
                    Outcome::failed(status(4, 3, 0), format!("queue file read error: {error}"))
                }
            };
            let delays = delivery_line::delays_of(request, began, SystemTime::now());
            let line = delivery_line::text(request, recipient, RELAY, delays, &outcome);
            log(Notice::info(String::from_utf8_lossy(&line)));
            report(RecipientOutcome { number: request.number, index, outcome, is_dsn_passed_on: false });
        }
        finished
    }

    fn attempt(
        &self,
        request: &Request,
        recipient: &Recipient,
        file: &File,
        log: &dyn Fn(Notice),
    ) -> Result<Outcome, CopyError<io::Error>> {
        let quoted = external(&recipient.address);
        let shown = String::from_utf8_lossy(&quoted).into_owned();
        if was_delivered_to(QueueFile(file), request.content.start, &quoted)? {
            return Ok(Outcome::failed(status(5, 4, 6), format!("mail forwarding loop for {shown}")));
        }
        let place = match self.place(recipient, &shown, log) {
            Ok(place) => place,
            Err(outcome) => return Ok(outcome),
        };
        let additions = self.additions(request, recipient, quoted);
        let mut copy = MailCopy::new(QueueFile(file), request.content.start, additions);
        let delivered = as_user(place.identity, || {
            let disk: &dyn Disk = &UnixDisk;
            directory::deliver(disk, &place.path, &self.host, self.file_bytes_max, |out| copy.next(out))
        });
        match delivered {
            Ok(Ok(())) => Ok(Outcome::sent(status(2, 0, 0), "delivered to maildir")),
            Ok(Err(MaildirError::Message(error))) => Err(error),
            Ok(Err(error)) => {
                Ok(Outcome::failed(status_of(&error), format!("maildir delivery failed: {error}")))
            }
            Err(error) => {
                log(Notice::warning(format!("recipient {shown}: {error}")));
                Ok(misconfigured())
            }
        }
    }

    /// Where the recipient's Maildir is, and whose.
    fn place(
        &self,
        recipient: &Recipient,
        shown: &str,
        log: &dyn Fn(Notice),
    ) -> Result<OwnedMailbox, Outcome> {
        let refuse = |words: String| {
            log(Notice::warning(format!("recipient {shown}: {words}")));
            misconfigured()
        };
        let found = self.find(&self.mailboxes, &recipient.address, log)?;
        let Some(found) = found else {
            return Err(Outcome::failed(status(5, 1, 1), format!("unknown user: \"{shown}\"")));
        };
        let found = String::from_utf8(found).map_err(|_| refuse("the mailbox is not UTF-8".to_owned()))?;
        if !found.ends_with('/') {
            return Err(refuse(format!(
                "mailbox {found} in virtual_mailbox_maps is a file: this server delivers into Maildirs only; write {found}/"
            )));
        }
        // An address must not choose a place outside, by whatever expression made the path of it.
        let is_below = Path::new(&found).components().all(|part| !matches!(part, Component::ParentDir));
        if !is_below {
            return Err(refuse(format!("mailbox {found} in virtual_mailbox_maps: .. is refused")));
        }
        let path = self.base.join(found.trim_start_matches('/'));
        let number = |maps: &Maps, name: &str| {
            let value = self.find(maps, &recipient.address, log)?;
            let Some(value) = value else { return Err(refuse(format!("not found in {name}"))) };
            let text = String::from_utf8_lossy(&value).into_owned();
            text.parse::<u32>().map_err(|_| refuse(format!("bad value {text} in {name}: write a number")))
        };
        let user_id = number(&self.user_ids, "virtual_uid_maps")?;
        let group_id = number(&self.group_ids, "virtual_gid_maps")?;
        if user_id < self.user_id_min {
            let words =
                format!("bad uid {user_id} in virtual_uid_maps: virtual_minimum_uid is {}", self.user_id_min);
            return Err(refuse(words));
        }
        Ok(OwnedMailbox { path, identity: Identity { user_id, group_id } })
    }

    /// Asks for the address, the address without its extension, and `@domain`.
    fn find(&self, maps: &Maps, address: &[u8], log: &dyn Fn(Notice)) -> Result<Option<Vec<u8>>, Outcome> {
        let mailbox = Mailbox::of(address, &self.recipient_delimiter);
        let plain = mailbox.extension.map(|_| [mailbox.user, b"@", mailbox.domain].concat());
        let domain = [b"@", mailbox.domain].concat();
        let keys = [Some((address.to_vec(), false)), plain.map(|key| (key, true)), Some((domain, true))];
        for (key, is_part) in keys.into_iter().flatten() {
            let mut notices = Vec::new();
            let found = maps.find(&key, is_part, &mut notices);
            notices.into_iter().for_each(log);
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => {
                    let words = format!("mail system configuration error: {error}");
                    return Err(Outcome::failed(status(4, 3, 0), words));
                }
            }
        }
        Ok(None)
    }

    fn additions(&self, request: &Request, recipient: &Recipient, quoted: Vec<u8>) -> Additions {
        let mut head = vec![[b"Return-Path: <".to_vec(), external(&request.sender), b">".to_vec()].concat()];
        if self.shows_original_recipient && !recipient.original.is_empty() {
            head.push([b"X-Original-To: ".to_vec(), external(&recipient.original)].concat());
        }
        head.push([b"Delivered-To: ".to_vec(), quoted].concat());
        Additions { head, line_end: b"\n".to_vec(), ..Additions::default() }
    }
}

struct OwnedMailbox {
    path: PathBuf,
    identity: Identity,
}

fn misconfigured() -> Outcome {
    Outcome::failed(status(4, 3, 5), "mail system configuration error")
}

/// A full mailbox is the recipient's affair, a full disk the system's.
fn status_of(error: &MaildirError<CopyError<io::Error>>) -> Status {
    if matches!(error, MaildirError::TooLarge) {
        return status(4, 2, 2);
    }
    match error.system_error().map(io::Error::kind) {
        Some(io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => status(4, 2, 2),
        Some(
            io::ErrorKind::StorageFull
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::StaleNetworkFileHandle,
        ) => status(4, 3, 0),
        _ => status(4, 2, 0),
    }
}

#[cfg(test)]
mod tests;
