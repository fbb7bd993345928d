//! `qmqpctl queue export` and `import`: single messages, out of a queue and into one.

use super::directory::{Directory, QueueFile, with_file};
use super::{QueueChoice, QueueError, now, owner, wake};
use postfix::queue_file::letter::{Content, Event, Letter};
use postfix::queue_file::reader::Source;
use postfix::queue_id::QueueId;
use spool::{Options, Spool, Timestamp};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much is copied at a time.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    queue_choice: QueueChoice,
    /// Choose what to write
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Message)]
    format: Format,
    /// Name the message by its queue ID
    #[arg(value_name = "ID")]
    id: QueueId,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    queue_choice: QueueChoice,
    /// Read this queue file, as `export --format queue-file` writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Headers and body, as RFC 5322 has them
    Message,
    /// The queue file, with the envelope
    QueueFile,
}

/// Writes one message to standard output. `Ok(false)` if it is not in the queue.
pub(super) fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<bool, QueueError> {
    let root = args.queue_choice.resolve()?;
    if args.format == Format::QueueFile && io::stdout().is_terminal() {
        return Err(QueueError::Usage("a queue file is not for a terminal: write it to a file".to_owned()));
    }
    let directory = Directory::open(&root)?;
    let Some((file, entry)) = directory.open_message(&args.id)? else {
        crate::complain(&format_args!("{}: no such message in {}", args.id, root.display()));
        return Ok(false);
    };
    match args.format {
        Format::QueueFile => {
            let failed = |error| QueueError::File { path: entry.path.clone(), error };
            copy(&file, failed, |_, piece| Ok(out.write_all(piece)?))?;
        }
        Format::Message => {
            let mut written = Ok(());
            let read = Letter::default().read(&file, Content::Read, &mut |event| {
                if let (Event::Content { data, line_ends }, Ok(())) = (event, &written) {
                    let end: &[u8] = if line_ends { b"\n" } else { b"" };
                    written = out.write_all(data).and_then(|()| out.write_all(end));
                }
            });
            written?;
            read.map_err(|damage| QueueError::Damaged { path: entry.path, damage: damage.to_string() })?;
        }
    }
    Ok(true)
}

/// Hands out a file piece by piece, each with its offset.
fn copy(
    mut file: &QueueFile<'_>,
    failed: impl Fn(io::Error) -> QueueError,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), QueueError>,
) -> Result<(), QueueError> {
    let (mut offset, mut buffer) = (0_u64, vec![0; PIECE_BYTES]);
    loop {
        let count = file.read_at(offset, &mut buffer).map_err(&failed)?;
        if count == 0 {
            return Ok(());
        }
        each(offset, buffer.get(..count).unwrap_or_default())?;
        offset = offset.saturating_add(count as u64);
    }
}

/// Puts a queue file into the incoming queue, under an ID of its own.
pub(super) fn import(args: &ImportArgs, out: &mut dyn Write) -> Result<bool, QueueError> {
    let root = args.queue_choice.resolve()?;
    let layout = args.queue_choice.layout()?;
    let failed = |error| QueueError::File { path: args.file.display().to_string(), error };
    // It is opened with the rights of the user, and read with those of the queue's owner.
    with_file(&args.file, |file| {
        let mut letter = Letter::default();
        letter.read(file, Content::Read, &mut |_| ()).map_err(|damage| QueueError::Damaged {
            path: args.file.display().to_string(),
            damage: damage.to_string(),
        })?;
        owner::become_owner(&root)?;
        let id = put(&root, layout, file)?;
        writeln!(out, "{id}: imported, {} recipients left", letter.recipients_todo)?;
        Ok(true)
    })
    .map_err(failed)?
}

fn put(root: &Path, layout: super::Layout, file: &QueueFile<'_>) -> Result<QueueId, QueueError> {
    let options = Options {
        hash_queue_names: layout.hashed,
        hash_queue_depth: layout.depth,
        long_queue_ids: layout.long_queue_ids,
        ..Options::default()
    };
    let notify = Arc::new(|notice: postfix::notice::Notice| crate::complain(&notice.text));
    let spool = Spool::open(Directory::open(root)?.into_disk(), &options, notify)?;
    let clock = || Timestamp { seconds: now(), microseconds: microseconds() };
    let mut draft = spool.create(&clock)?;
    let failed = |error| QueueError::File { path: "the file".to_owned(), error };
    copy(file, failed, |offset, piece| Ok(draft.write_at(offset, piece)?))?;
    let receipt = draft.commit()?;
    if wake::wake(root, "qmgr", &[wake::SCAN_INCOMING]).is_err() {
        crate::complain(&"no queue manager listens: the message waits for one");
    }
    Ok(*receipt.queue_id())
}

/// Of this second.
fn microseconds() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.subsec_micros())
}
