//! `qmqpctl queue list`

use super::directory::{Directory, QueueFile};
use super::text::{escaped, local_time};
use super::{QueueChoice, QueueError, complain};
use crate::json::{self, OwnedText, Text};
use jiff::tz::TimeZone;
use postfix::queue_file::letter::{Content, Event, Letter, RecipientState, parse_arrival};
use postfix::queue_file::reader::Walker;
use postfix::queue_id::QueueId;
use postfix::record::RecordType;
use serde::Serialize;
use spool::{Entry as File, Queue};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// How many recipients of a message a line shows.
const RECIPIENTS_SHOWN: u64 = 3;
/// How many records at the front of a file are searched for the arrival time, which is the second.
const RECORDS_BEFORE_ARRIVAL: usize = 8;
/// The mode bit of a message that the administrator let expire.
const FORCE_EXPIRE: u32 = 0o010;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    queue_choice: QueueChoice,
    /// List only these queues, of incoming, active, deferred, hold and corrupt
    #[arg(long, value_parser = parse_queue, value_delimiter = ',', value_name = "QUEUE,…")]
    queue: Vec<Queue>,
    /// Print one JSON object per line, with the names of postqueue -j
    #[arg(long)]
    json: bool,
}

fn parse_queue(name: &str) -> Result<Queue, String> {
    Queue::parse(name).ok_or_else(|| "the queues are incoming, active, deferred, hold and corrupt".to_owned())
}

/// A message that was seen, with what is needed to sort it. There may be very many, so it holds nothing else.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListedMessage {
    arrival: u64,
    id: QueueId,
}

/// What was printed, for the last line.
#[derive(Debug, Default)]
struct Totals {
    messages: u64,
    recipients: u64,
    bytes: u64,
}

/// Lists the messages. `Ok(false)` if some could not be read.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<bool, QueueError> {
    let root = args.queue_choice.resolve()?;
    let directory = Directory::open(&root)?;
    let queues = if args.queue.is_empty() { &Queue::ALL[..] } else { &args.queue };
    let seen = collect(&directory, queues)?;
    let zone = TimeZone::system();
    let mut totals = Totals::default();
    let mut complete = true;
    if !args.json && !seen.is_empty() {
        writeln!(
            out,
            "{:8}  {:16}  {:>9}  {:19}  {:>6}  SENDER → RECIPIENTS LEFT",
            "QUEUE", "ID", "BYTES", "ARRIVED", "LEFT"
        )?;
    }
    for message in &seen {
        let listed = match directory.open_message(&message.id) {
            // Delivered since it was seen.
            Ok(None) => continue,
            Ok(Some((file, found))) => Entry::read(&file, &found, message, args.json),
            Err(failure) => Err(failure),
        };
        match listed {
            Ok(entry) => {
                totals.add(&entry);
                if args.json {
                    json::write_line(out, &entry.row())?;
                } else {
                    out.write_all(entry.to_text(&zone).as_bytes())?;
                }
            }
            Err(failure) => {
                complete = false;
                complain(&failure);
            }
        }
    }
    if !args.json {
        writeln!(out, "{}", totals.to_text(&root))?;
    }
    Ok(complete)
}

/// Looks at every file once, for the time to sort by.
fn collect(directory: &Directory, queues: &[Queue]) -> Result<Vec<ListedMessage>, QueueError> {
    let mut seen = Vec::new();
    // A message that is put off while this looks goes from active to deferred, and back when its time has come: looking
    // at active again behind deferred misses neither.
    let order = [Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Active, Queue::Hold, Queue::Corrupt];
    for queue in order.into_iter().filter(|queue| queues.contains(queue)) {
        directory.walk(queue, &mut |file| {
            seen.push(ListedMessage { arrival: arrival(directory, file), id: file.queue_id });
        })?;
    }
    seen.sort_unstable();
    // A file name is the same in every queue, and so is its arrival time.
    seen.dedup_by(|a, b| a.id == b.id);
    Ok(seen)
}

/// When the message arrived; without a readable record the time of the last change.
fn arrival(directory: &Directory, file: &File) -> u64 {
    let changed = file.status.modified.seconds;
    let Ok(file) = directory.open_file(&file.path) else { return changed };
    let mut walker = Walker::new(&file);
    for _ in 0..RECORDS_BEFORE_ARRIVAL {
        match walker.next() {
            Ok(Some(record)) if record.kind == RecordType::TIME => {
                return parse_arrival(record.data).map_or(changed, |(seconds, _)| seconds);
            }
            Ok(Some(record)) if record.kind != RecordType::CONTENT => {}
            _ => break,
        }
    }
    changed
}

/// One message as it is listed.
#[derive(Debug)]
struct Entry {
    queue: Queue,
    id: QueueId,
    arrival: u64,
    forced_expire: bool,
    letter: Letter,
    /// File size, for a letter without a size record.
    file_bytes: u64,
    damage: Option<String>,
    /// The first recipients left, for a person.
    recipients_text: String,
    /// All recipients left, for a program; a person needs none of them.
    recipients: Vec<ListedRecipient>,
}

/// One message for a program: the fields of postqueue -j, and two more.
#[derive(Debug, Serialize)]
struct Row<'a> {
    queue_name: &'static str,
    queue_id: &'a str,
    arrival_time: u64,
    message_size: u64,
    forced_expire: bool,
    sender: Option<Text<'a>>,
    recipients_left: u64,
    recipients: &'a [ListedRecipient],
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ListedRecipient {
    address: OwnedText,
}

impl Entry {
    fn read(
        file: &QueueFile<'_>,
        found: &File,
        seen: &ListedMessage,
        for_program: bool,
    ) -> Result<Self, QueueError> {
        let status = file.status().map_err(|error| QueueError::File { path: found.path.clone(), error })?;
        let mut letter = Letter::default();
        let (mut recipients_text, mut recipients, mut shown) = (String::new(), Vec::new(), 0);
        let result = letter.read(file, Content::Skip, &mut |event| {
            let Event::Recipient(recipient) = event else { return };
            if recipient.state != RecipientState::ToDo {
                return;
            }
            if shown < RECIPIENTS_SHOWN {
                // Writing to a String does not fail.
                let _ = write!(recipients_text, " <{}>", escaped(recipient.address));
            }
            shown += 1;
            if for_program {
                recipients.push(ListedRecipient { address: OwnedText(recipient.address.to_vec()) });
            }
        });
        Ok(Self {
            queue: found.queue,
            id: found.queue_id,
            arrival: letter.arrival.map_or(seen.arrival, |(seconds, _)| seconds),
            forced_expire: status.mode & FORCE_EXPIRE != 0,
            letter,
            file_bytes: status.size_bytes,
            damage: result.err().map(|error| error.to_string()),
            recipients_text,
            recipients,
        })
    }

    fn bytes(&self) -> u64 {
        self.letter.size.map_or(self.file_bytes, |size| size.content_length)
    }

    fn to_text(&self, zone: &TimeZone) -> String {
        let mut line = format!(
            "{:8}  {:16}  {:>9}  {:19}  {:>6}  ",
            self.queue,
            self.id,
            self.bytes(),
            local_time(self.arrival, zone),
            self.letter.recipients_todo
        );
        if let Some(sender) = &self.letter.sender {
            let _ = write!(line, "<{}>", escaped(sender));
        }
        if !self.recipients_text.is_empty() {
            let _ = write!(line, " →{}", self.recipients_text);
        }
        let more = self.letter.recipients_todo.saturating_sub(RECIPIENTS_SHOWN);
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
        if let Some(damage) = &self.damage {
            let _ = write!(line, " (damaged: {damage})");
        }
        line.push('\n');
        line
    }

    fn row(&self) -> Row<'_> {
        Row {
            queue_name: self.queue.name(),
            queue_id: self.id.as_str(),
            arrival_time: self.arrival,
            message_size: self.bytes(),
            forced_expire: self.forced_expire,
            sender: self.letter.sender.as_deref().map(Text),
            recipients_left: self.letter.recipients_todo,
            recipients: &self.recipients,
            damaged: self.damage.as_deref(),
        }
    }
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        self.messages = self.messages.saturating_add(1);
        self.recipients = self.recipients.saturating_add(entry.letter.recipients_todo);
        self.bytes = self.bytes.saturating_add(entry.bytes());
    }

    fn to_text(&self, root: &Path) -> String {
        if self.messages == 0 {
            return format!("no messages in {}", root.display());
        }
        format!(
            "{}, {} left, {} in {}",
            counted(self.messages, "message"),
            counted(self.recipients, "recipient"),
            counted(self.bytes, "byte"),
            root.display()
        )
    }
}

/// `1 message`, `2 messages`.
fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
