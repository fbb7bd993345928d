//! `qmqpctl queue list`

use super::directory::{Directory, QueueFile};
use super::text::{escaped, json, local_time};
use super::{QueueChoice, QueueError, complain};
use jiff::tz::TimeZone;
use postfix::queue_file::letter::{Content, Event, Letter, RecipientState, parse_arrival};
use postfix::queue_file::reader::Walker;
use postfix::queue_id::QueueId;
use postfix::record::RecordType;
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
            Ok(Some((file, found))) => Entry::read(&file, &found, message),
            Err(failure) => Err(failure),
        };
        match listed {
            Ok(entry) => {
                totals.add(&entry);
                let line = if args.json { entry.to_json() } else { entry.to_text(&zone) };
                out.write_all(line.as_bytes())?;
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
    /// The recipients left as elements of a JSON array.
    recipients_json: String,
}

impl Entry {
    fn read(file: &QueueFile<'_>, found: &File, seen: &ListedMessage) -> Result<Self, QueueError> {
        let status = file.status().map_err(|error| QueueError::File { path: found.path.clone(), error })?;
        let mut letter = Letter::default();
        let (mut recipients_text, mut recipients_json, mut shown) = (String::new(), String::new(), 0);
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
            let comma = if recipients_json.is_empty() { "" } else { ", " };
            let _ = write!(recipients_json, "{comma}{{\"address\": {}}}", json(recipient.address));
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
            recipients_json,
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

    fn to_json(&self) -> String {
        let mut line = format!(
            "{{\"queue_name\": {}, \"queue_id\": {}, \"arrival_time\": {}, \"message_size\": {}, \
             \"forced_expire\": {}, \"sender\": {}, \"recipients_left\": {}, \"recipients\": [{}]",
            json(self.queue.name().as_bytes()),
            json(self.id.as_bytes()),
            self.arrival,
            self.bytes(),
            self.forced_expire,
            self.letter.sender.as_deref().map_or_else(|| "null".to_owned(), json),
            self.letter.recipients_todo,
            self.recipients_json
        );
        if let Some(damage) = &self.damage {
            let _ = write!(line, ", \"damaged\": {}", json(damage.as_bytes()));
        }
        line.push_str("}\n");
        line
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
