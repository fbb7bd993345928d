//! `qmqpctl queue show`

use super::directory::{Directory, QueueFile, with_file};
use super::postcat::{Postcat, PrintError, Selection, is_header_line};
use super::{QueueChoice, QueueError, complain};
use crate::json::{Object, OwnedText, Text};
use jiff::tz::TimeZone;
use postfix::queue_file::letter::{Content, Event, Letter, Recipient};
use postfix::queue_id::QueueId;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// A line of content is written to JSON in pieces of at most this size.
const LINE_PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    queue_choice: QueueChoice,
    /// Print the messages with these queue IDs; an argument with a slash is the path of a queue file
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Print only the envelope; --envelope, --headers and --body can be combined
    #[arg(long)]
    envelope: bool,
    /// Print only the headers
    #[arg(long)]
    headers: bool,
    /// Print only the body
    #[arg(long)]
    body: bool,
    /// Print one JSON object per message
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Leave control characters as they are, as postcat does. By default those in the envelope are printed as \xNN, and
    /// on a terminal those in headers and body, too
    #[arg(long)]
    raw: bool,
}

impl Args {
    const fn selection(&self) -> Selection {
        let all = !(self.envelope || self.headers || self.body);
        Selection { envelope: self.envelope || all, headers: self.headers || all, body: self.body || all }
    }
}

/// Why one message is not printed completely. The others are printed anyway.
#[derive(Debug, thiserror::Error)]
enum Complaint {
    #[error("{0}")]
    QueueError(#[from] QueueError),
    #[error("{path}: {damage}")]
    Damaged { path: String, damage: String },
    #[error("{id}: no such message in {root}")]
    NoMessage { id: QueueId, root: String },
    #[error("{0}")]
    NoId(#[from] postfix::queue_id::InvalidQueueId),
}

/// Prints the messages. `Ok(false)` if one of them could not be printed whole.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<bool, QueueError> {
    let mut complete = true;
    for id in &args.ids {
        let shown = if id.contains('/') { show_path(args, id, out) } else { show_id(args, id, out) };
        match shown {
            Ok(()) => {}
            Err(Complaint::QueueError(QueueError::Output(error))) => return Err(QueueError::Output(error)),
            Err(complaint) => {
                complete = false;
                // What could be read comes before the complaint about the rest.
                out.flush()?;
                complain(&complaint);
            }
        }
    }
    Ok(complete)
}

fn show_path(args: &Args, path: &str, out: &mut dyn Write) -> Result<(), Complaint> {
    let name = path.rsplit('/').next().unwrap_or(path);
    with_file(Path::new(path), |file| show(args, name, file, path, out))
        .map_err(|error| QueueError::File { path: path.to_owned(), error })?
}

fn show_id(args: &Args, id: &str, out: &mut dyn Write) -> Result<(), Complaint> {
    let id: QueueId = id.parse()?;
    let root = args.queue_choice.resolve()?;
    let directory = Directory::open(&root)?;
    match directory.open_message(&id)? {
        Some((file, entry)) => show(args, id.as_str(), &file, &entry.path, out),
        None => Err(Complaint::NoMessage { id, root: root.display().to_string() }),
    }
}

fn show(
    args: &Args,
    name: &str,
    file: &QueueFile<'_>,
    path: &str,
    out: &mut dyn Write,
) -> Result<(), Complaint> {
    let selection = args.selection();
    let printed = if args.json {
        JsonMessage::begin(selection, out)
            .map_err(PrintError::Output)
            .and_then(|json| json.print(name, path, file))
    } else {
        let (raw, to_terminal) = (args.raw, io::stdout().is_terminal());
        Postcat { label: path, selection, raw, to_terminal, zone: &TimeZone::system(), out }.print(file)
    };
    printed.map_err(|error| match error {
        PrintError::Output(error) => Complaint::QueueError(QueueError::Output(error)),
        PrintError::Damaged(damage) => Complaint::Damaged { path: path.to_owned(), damage },
    })
}

/// One message as a JSON object. The content goes out while it is read; what the envelope says follows it, since the
/// recipients may stand behind the content.
struct JsonMessage<'a> {
    selection: Selection,
    object: Object<'a>,
    /// A line of content that is not complete.
    line: Vec<u8>,
    part: ContentPart,
    /// The line at hand belongs to the headers, and a part of it has gone out.
    in_header: bool,
    any_header: bool,
    recipients: Vec<RecipientRow>,
    failed: Option<io::Error>,
}

#[derive(Debug, Serialize)]
struct RecipientRow {
    address: OwnedText,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsn_original: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<u32>,
    state: &'static str,
    offset: u64,
}

#[derive(Debug, Serialize)]
struct AttributeRow<'a> {
    name: Text<'a>,
    value: Text<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentPart {
    Headers,
    Body,
}

impl<'a> JsonMessage<'a> {
    fn begin(selection: Selection, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(Self {
            selection,
            object: Object::begin(out)?,
            line: Vec::new(),
            part: ContentPart::Headers,
            in_header: false,
            any_header: false,
            recipients: Vec::new(),
            failed: None,
        })
    }

    fn print(mut self, name: &str, path: &str, file: &QueueFile<'_>) -> Result<(), PrintError> {
        self.object.field("queue_id", &name)?;
        self.object.field("path", &path)?;
        if self.selection.headers {
            self.object.begin_field("headers")?;
            self.object.begin_array()?;
        }
        let wanted = self.selection.headers || self.selection.body;
        let content = if wanted { Content::Read } else { Content::Skip };
        let mut letter = Letter::default();
        let result = letter.read(file, content, &mut |event| {
            if self.failed.is_none() {
                self.failed = self.event(event).err();
            }
        });
        if let Some(error) = self.failed.take() {
            return Err(PrintError::Output(error));
        }
        self.end_of_content()?;
        if self.selection.envelope {
            self.envelope(&letter)?;
        }
        let damage = result.err().map(|error| error.to_string());
        self.object.field_if_some("damaged", damage.as_deref())?;
        self.object.end()?;
        damage.map_or(Ok(()), |damage| Err(PrintError::Damaged(damage)))
    }

    fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Recipient(recipient) => {
                if self.selection.envelope {
                    self.recipient(&recipient);
                }
                Ok(())
            }
            Event::Content { data, line_ends } => {
                self.line.extend_from_slice(data);
                if line_ends {
                    return self.end_of_line("\n");
                }
                // A line that is longer than any header's name is decided by then, and goes out in pieces.
                if self.line.len() >= LINE_PIECE_BYTES {
                    if self.in_header || !self.leave_headers()? {
                        self.header_piece("")?;
                        self.in_header = true;
                    } else {
                        self.flush_line("")?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether the body has begun, with the line at hand or before it.
    fn leave_headers(&mut self) -> io::Result<bool> {
        if self.part == ContentPart::Headers && !is_header_line(&self.line) {
            self.begin_body()?;
        }
        Ok(self.part == ContentPart::Body)
    }

    fn begin_body(&mut self) -> io::Result<()> {
        self.part = ContentPart::Body;
        if self.selection.headers {
            if self.any_header {
                self.object.end_string()?;
            }
            self.object.end_array()?;
        }
        if !self.selection.body {
            return Ok(());
        }
        self.object.begin_field("body")?;
        self.object.begin_string()
    }

    fn end_of_line(&mut self, line_end: &str) -> io::Result<()> {
        if !self.in_header && self.leave_headers()? {
            return self.flush_line(line_end);
        }
        self.header_piece(line_end)?;
        self.in_header = false;
        Ok(())
    }

    /// Writes what there is of a line of the headers. Without a line end a character that is cut in two waits.
    fn header_piece(&mut self, line_end: &str) -> io::Result<()> {
        let line = self.take_line(line_end);
        if !self.selection.headers {
            return Ok(());
        }
        if !self.in_header {
            // A continuation belongs to the header before it.
            let folded = self.any_header && matches!(line.first(), Some(b' ' | b'\t'));
            if folded {
                self.object.string_piece(b"\n")?;
            } else {
                if self.any_header {
                    self.object.end_string()?;
                }
                self.object.begin_element(!self.any_header)?;
                self.object.begin_string()?;
            }
            self.any_header = true;
        }
        self.object.string_piece(&line)
    }

    /// The line at hand; without a line end all of it but a character that is cut in two.
    fn take_line(&mut self, line_end: &str) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.line);
        if line_end.is_empty() {
            let whole = line.utf8_chunks().last().filter(|chunk| !chunk.invalid().is_empty());
            let cut = whole.map_or(0, |chunk| chunk.invalid().len());
            if cut < 4 {
                self.line = line.split_off(line.len().saturating_sub(cut));
            }
        }
        line
    }

    /// Writes what there is of a line of the body. Without a line end a character that is cut in two waits.
    fn flush_line(&mut self, line_end: &str) -> io::Result<()> {
        let mut line = self.take_line(line_end);
        if !self.selection.body {
            return Ok(());
        }
        line.extend_from_slice(line_end.as_bytes());
        self.object.string_piece(&line)
    }

    fn end_of_content(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.end_of_line("")?;
            let rest = std::mem::take(&mut self.line);
            let is_wanted = match self.part {
                ContentPart::Headers => self.selection.headers,
                ContentPart::Body => self.selection.body,
            };
            if is_wanted && !rest.is_empty() {
                self.object.string_piece(&rest)?;
            }
        }
        if self.part == ContentPart::Headers {
            self.begin_body()?;
        }
        if self.selection.body { self.object.end_string() } else { Ok(()) }
    }

    fn recipient(&mut self, recipient: &Recipient<'_>) {
        let owned = |bytes: &[u8]| OwnedText(bytes.to_vec());
        self.recipients.push(RecipientRow {
            address: owned(recipient.address),
            original: recipient.original.map(owned),
            dsn_original: recipient.dsn_original.map(owned),
            notify: recipient.notify,
            state: recipient.state.name(),
            offset: recipient.offset,
        });
    }

    fn envelope(&mut self, letter: &Letter) -> io::Result<()> {
        let object = &mut self.object;
        if let Some(size) = &letter.size {
            object.field("data_size", &size.data_size)?;
            object.field("data_offset", &size.data_offset)?;
            object.field("recipient_count", &size.recipients)?;
            object.field("qmgr_flags", &size.qmgr_flags)?;
            object.field("message_size", &size.content_length)?;
            object.field("send_options", &size.send_options)?;
        }
        object.field_if_some("arrival_time", letter.arrival.map(|(seconds, _)| seconds))?;
        object.field_if_some("arrival_microseconds", letter.arrival.map(|(_, microseconds)| microseconds))?;
        object.field_if_some("create_time", letter.created)?;
        object.field_if_some("warning_message_time", letter.warning_time)?;
        object.field_if_some("sender", letter.sender.as_deref().map(Text))?;
        object.field_if_some("verp_delimiters", letter.verp.as_deref().map(Text))?;
        object.field_if_some("content_filter", letter.filter.as_deref().map(Text))?;
        object.field_if_some("redirect_to", letter.redirect.as_deref().map(Text))?;
        let attributes: Vec<_> = letter
            .attributes
            .iter()
            .map(|(name, value)| AttributeRow { name: Text(name), value: Text(value) })
            .collect();
        object.field("attributes", &attributes)?;
        object.field("recipients_left", &letter.recipients_todo)?;
        object.field("recipients", &self.recipients)
    }
}
