//! How a message is listed: for a person, as JSON, and as postqueue(1) prints it.

use super::message::{Message, Recipient};
use super::text::{asctime, escaped, local_time};
use crate::json::{self, Text};
use jiff::tz::TimeZone;
use serde::Serialize;
use spool::Queue;
use std::fmt::Write as _;
use std::io::{self, Write};

/// How many recipients of a message a line shows.
const RECIPIENTS_SHOWN: usize = 3;
/// In which column postqueue(1) lets a reason end, without its parentheses.
const REASON_END: usize = 76;

/// Lines for people and for programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) zone: &'a TimeZone,
    /// Seconds since 1970.
    pub(super) now: u64,
}

impl Rows<'_> {
    /// The line above all.
    pub(super) fn head() -> String {
        format!(
            "{:8}  {:16}  {:>9}  {:19}  {:>4}  {:>6}  SENDER → RECIPIENTS LEFT (REASON)\n",
            "QUEUE", "ID", "BYTES", "ARRIVED", "NEXT", "LEFT"
        )
    }

    /// A line for a person.
    pub(super) fn text(&self, message: &Message) -> String {
        let mut line = format!(
            "{:8}  {:16}  {:>9}  {:19}  {:>4}  {:>6}  ",
            message.queue,
            message.id,
            message.bytes(),
            local_time(message.arrival, self.zone),
            message.next_attempt().map_or_else(|| "-".to_owned(), |at| self.until(at)),
            message.letter.recipients_todo
        );
        // Writing to a String does not fail.
        if let Some(sender) = &message.letter.sender {
            let _ = write!(line, "<{}>", escaped(sender));
        }
        for (index, recipient) in message.recipients.iter().take(RECIPIENTS_SHOWN).enumerate() {
            let arrow = if index == 0 { " →" } else { "" };
            let _ = write!(line, "{arrow} <{}>", escaped(&recipient.address));
        }
        let more = message.recipients.len().saturating_sub(RECIPIENTS_SHOWN);
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
        if let Some(reason) = message.reason() {
            let _ = write!(line, " ({})", escaped(reason.as_bytes()));
        }
        if message.forced_expire {
            line.push_str(" (to be given up)");
        }
        if let Some(damage) = &message.damage {
            let _ = write!(line, " (damaged: {damage})");
        }
        line.push('\n');
        line
    }

    fn until(&self, at: u64) -> String {
        let left = at.saturating_sub(self.now);
        match left {
            0 => "due".to_owned(),
            1..60 => format!("{left}s"),
            60..5400 => format!("{}m", left.div_ceil(60)),
            5400..172_800 => format!("{}h", left.div_ceil(3600)),
            _ => format!("{}d", left.div_ceil(86_400)),
        }
    }
}

/// A message as JSON, with the names of postqueue -j.
#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    queue_name: &'static str,
    queue_id: &'a str,
    arrival_time: u64,
    message_size: u64,
    forced_expire: bool,
    sender: Option<Text<'a>>,
    recipients_left: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<u64>,
    recipients: Vec<JsonRecipient<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct JsonRecipient<'a> {
    address: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_reason: Option<&'a str>,
}

impl<'a> JsonRecipient<'a> {
    fn of(message: &'a Message, recipient: &'a Recipient) -> Self {
        Self { address: Text(&recipient.address), delay_reason: message.reason_of(recipient) }
    }
}

/// Writes a line with one JSON object.
pub(super) fn write_json(message: &Message, out: &mut dyn Write) -> io::Result<()> {
    let row = JsonRow {
        queue_name: message.queue.name(),
        queue_id: message.id.as_str(),
        arrival_time: message.arrival,
        message_size: message.bytes(),
        forced_expire: message.forced_expire,
        sender: message.letter.sender.as_deref().map(Text),
        recipients_left: message.letter.recipients_todo,
        next_attempt: message.next_attempt(),
        recipients: message
            .recipients
            .iter()
            .map(|recipient| JsonRecipient::of(message, recipient))
            .collect(),
        damaged: message.damage.as_deref(),
    };
    json::write_line(out, &row)
}

/// The output of postqueue -p, as scripts read it.
#[derive(Debug)]
pub(super) struct Mailq<'a> {
    zone: &'a TimeZone,
    /// The columns are wider with long queue IDs; the first message decides.
    is_long: Option<bool>,
}

impl<'a> Mailq<'a> {
    pub(super) const fn new(zone: &'a TimeZone) -> Self {
        Self { zone, is_long: None }
    }

    /// A message, behind the head or an empty line.
    pub(super) fn entry(&mut self, message: &Message) -> String {
        let mut text = String::new();
        let is_long = if let Some(is_long) = self.is_long {
            text.push('\n');
            is_long
        } else {
            let is_long = message.id.is_long();
            text.push_str(if is_long {
                "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
            } else {
                "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
            });
            is_long
        };
        self.is_long = Some(is_long);
        let mark = match (message.queue, message.forced_expire) {
            (_, true) => "#",
            (Queue::Active, _) => "*",
            (Queue::Hold, _) => "!",
            _ => "",
        };
        let id = format!("{}{mark}", message.id);
        let time = asctime(i64::try_from(message.arrival).unwrap_or(i64::MAX), self.zone);
        let sender = message.letter.sender.as_deref().filter(|sender| !sender.is_empty());
        let sender = sender.map_or_else(|| "MAILER-DAEMON".to_owned(), escaped);
        // Writing to a String does not fail.
        let _ = if is_long {
            writeln!(text, "{id:<17} {:>8} {time:.19} {sender}", message.bytes())
        } else {
            writeln!(text, "{id:<11} {:>7} {time:.20} {sender}", message.bytes())
        };
        let mut last = None;
        for recipient in &message.recipients {
            let reason = message.reason_of(recipient);
            if reason != last {
                let words =
                    reason.map_or_else(|| "reason unavailable".to_owned(), |it| escaped(it.as_bytes()));
                let padding = REASON_END.saturating_sub(words.chars().count());
                let _ = writeln!(text, "{:padding$}({words})", "");
                last = reason;
            }
            let indent = if is_long { 47 } else { 41 };
            let _ = writeln!(text, "{:indent$}{}", "", escaped(&recipient.address));
        }
        text
    }

    /// The last line.
    pub(super) fn end(&self, messages: u64, bytes: u64, out: &mut dyn Write) -> io::Result<()> {
        if messages == 0 {
            return writeln!(out, "Mail queue is empty");
        }
        let plural = if messages == 1 { "" } else { "s" };
        writeln!(out, "\n-- {} Kbytes in {messages} Request{plural}.", bytes / 1024)
    }
}
