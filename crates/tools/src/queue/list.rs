//! `qmqpctl queue list`

use super::directory::Directory;
use super::message::Message;
use super::row::{Mailq, Rows, write_json};
use super::select::Filters;
use super::walk::Walk;
use super::{QueueChoice, QueueError, complain, now};
use jiff::tz::TimeZone;
use postfix::queue_id::QueueId;
use std::cmp::Reverse;
use std::io::Write;
use std::ops::ControlFlow;

/// After so many rows nothing is written out at once any more.
const ROWS_AT_ONCE: u64 = 50;
/// With a limit, so many more messages are remembered before the rest is dropped.
const SORTED_SLACK: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    queue_choice: QueueChoice,
    #[command(flatten)]
    filters: Filters,
    /// Sort the messages: all of them are looked at before the first is printed [default: as they are found]
    #[arg(long, value_enum, value_name = "BY")]
    sort: Option<Order>,
    /// Print the last ones first
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Print only so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Print one JSON object per line, with the names of postqueue -j
    #[arg(long, conflicts_with = "mailq")]
    json: bool,
    /// Print what postqueue -p and mailq print
    #[arg(long)]
    mailq: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// The oldest first
    Arrival,
    /// The smallest first
    Size,
    /// Those with the fewest recipients left first
    Recipients,
    /// By envelope sender
    Sender,
    /// Those that are tried next first
    Next,
}

/// What a message is sorted by. There may be very many, so this holds no more than it must.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SortedMessage {
    number: u64,
    text: Box<[u8]>,
    id: QueueId,
}

/// Lists the messages. `Ok(false)` if some could not be read, or the filters match none.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<bool, QueueError> {
    let root = args.queue_choice.resolve()?;
    let directory = Directory::open(&root)?;
    let zone = TimeZone::system();
    let now = now();
    let mut output = Output {
        rows: Rows { zone: &zone, now },
        mailq: args.mailq.then(|| Mailq::new(&zone)),
        json: args.json,
        totals: Totals::default(),
        out,
    };
    let is_text = !args.json && !args.mailq;
    let limit = args.limit.unwrap_or(u64::MAX);
    let walk = Walk {
        directory: &directory,
        filters: &args.filters,
        queues: args.filters.queues(),
        with_reasons: true,
        now,
    };
    let complete = match args.sort {
        None => walk.run(&mut |message| {
            if output.totals.messages >= limit {
                return Ok(ControlFlow::Break(()));
            }
            output.message(&message)?;
            Ok(ControlFlow::Continue(()))
        })?,
        Some(order) => sorted(args, order, &Walk { with_reasons: false, ..walk }, &mut output)?,
    };
    let Output { totals, mailq, out, .. } = output;
    if let Some(mailq) = mailq {
        mailq.end(totals.messages, totals.bytes, out)?;
    } else if is_text {
        writeln!(out, "{}", totals.to_text(&root.display().to_string()))?;
    }
    if totals.messages == 0 && args.filters.is_set() {
        out.flush()?;
        complain(&"no message matches the filters");
        return Ok(false);
    }
    Ok(complete)
}

/// Looks at all messages first, then prints those that come first.
fn sorted(args: &Args, order: Order, walk: &Walk<'_>, output: &mut Output<'_>) -> Result<bool, QueueError> {
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut seen = Vec::new();
    let mut complete = walk.run(&mut |message| {
        seen.push(SortedMessage::new(&message, order));
        if seen.len() > limit.saturating_add(SORTED_SLACK) {
            arrange(&mut seen, args.reverse, limit);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    arrange(&mut seen, args.reverse, limit);
    for SortedMessage { id, .. } in seen {
        let read = match walk.directory.open_message(&id) {
            // Delivered since it was seen.
            Ok(None) => continue,
            Ok(Some((file, found))) => Message::read(walk.directory, &file, &found, true),
            Err(failure) => Err(failure),
        };
        match read {
            Ok(message) => output.message(&message)?,
            Err(failure) => {
                complete = false;
                complain(&failure);
            }
        }
    }
    Ok(complete)
}

fn arrange(seen: &mut Vec<SortedMessage>, reverse: bool, limit: usize) {
    if reverse {
        seen.sort_unstable_by(|a, b| Reverse(a).cmp(&Reverse(b)));
    } else {
        seen.sort_unstable();
    }
    seen.truncate(limit);
}

impl SortedMessage {
    fn new(message: &Message, order: Order) -> Self {
        let number = match order {
            Order::Arrival => message.arrival_microseconds(),
            Order::Size => message.bytes(),
            Order::Recipients => message.letter.recipients_todo,
            Order::Sender => 0,
            // What waits for no time is tried first.
            Order::Next => message.next_attempt().unwrap_or(0),
        };
        let sender = message.letter.sender.as_deref().filter(|_| order == Order::Sender);
        Self { number, text: sender.unwrap_or_default().into(), id: message.id }
    }
}

/// Where messages are printed, and how.
struct Output<'a> {
    rows: Rows<'a>,
    mailq: Option<Mailq<'a>>,
    json: bool,
    totals: Totals,
    out: &'a mut dyn Write,
}

impl Output<'_> {
    fn message(&mut self, message: &Message) -> Result<(), QueueError> {
        let is_first = self.totals.messages == 0;
        self.totals.add(message);
        if self.json {
            write_json(message, self.out)?;
            return self.flush_at_first();
        }
        let text = match &mut self.mailq {
            Some(mailq) => mailq.entry(message),
            None if is_first => Rows::head() + &self.rows.text(message),
            None => self.rows.text(message),
        };
        self.out.write_all(text.as_bytes())?;
        self.flush_at_first()
    }

    /// Someone waits for the first rows.
    fn flush_at_first(&mut self) -> Result<(), QueueError> {
        if self.totals.messages <= ROWS_AT_ONCE {
            self.out.flush()?;
        }
        Ok(())
    }
}

/// What was printed, for the last line.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    messages: u64,
    recipients: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, message: &Message) {
        self.messages = self.messages.saturating_add(1);
        self.recipients = self.recipients.saturating_add(message.letter.recipients_todo);
        self.bytes = self.bytes.saturating_add(message.bytes());
    }

    fn to_text(self, root: &str) -> String {
        if self.messages == 0 {
            return format!("no messages in {root}");
        }
        format!(
            "{}, {} left, {} in {root}",
            counted(self.messages, "message"),
            counted(self.recipients, "recipient"),
            counted(self.bytes, "byte"),
        )
    }
}

/// `1 message`, `2 messages`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
