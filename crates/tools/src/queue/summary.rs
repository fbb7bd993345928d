//! `qmqpctl queue summary`: what waits, by destination, sender or reason, and for how long.

use super::directory::Directory;
use super::list::counted;
use super::message::Message;
use super::select::{Filters, domain_of};
use super::text::escaped;
use super::walk::Walk;
use super::{QueueChoice, QueueError, now};
use crate::json;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;

/// Ages in minutes that end a column: those of qshape(1). The last column is for what is older.
const AGES: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];
/// So many columns.
const COLUMNS: usize = AGES.len() + 1;
/// So many different names are counted; what comes later is one row.
const NAMES_MAX: usize = 100_000;
/// The name of that row.
const OTHERS: &str = "(others)";
/// The widest that a name is printed in the table.
const NAME_WIDTH_MAX: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    queue_choice: QueueChoice,
    #[command(flatten)]
    filters: Filters,
    /// Choose what the rows are
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Domain)]
    by: By,
    /// Print only the largest so many rows
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Recipients left, by their domain
    Domain,
    /// Messages, by the domain of the sender
    SenderDomain,
    /// Messages, by sender
    Sender,
    /// Recipients left, by the reason why they were put off
    Reason,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::SenderDomain => "sender_domain",
            Self::Sender => "sender",
            Self::Reason => "reason",
        }
    }

    /// The names that a message counts for, each with how often.
    fn names(self, message: &Message, each: &mut dyn FnMut(String)) {
        let named = |name: String| if name.is_empty() { "MAILER-DAEMON".to_owned() } else { name };
        let sender = message.letter.sender.as_deref().unwrap_or_default();
        match self {
            Self::Domain => {
                message.recipients.iter().for_each(|recipient| each(named(domain_of(&recipient.address))));
            }
            Self::SenderDomain => each(named(domain_of(sender))),
            Self::Sender => each(named(String::from_utf8_lossy(sender).into_owned())),
            Self::Reason => message.recipients.iter().for_each(|recipient| {
                each(message.reason_of(recipient).unwrap_or("(not tried, or not known)").to_owned());
            }),
        }
    }
}

/// The numbers of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Row {
    total: u64,
    by_age: [u64; COLUMNS],
    /// Seconds since 1970 at which the oldest message arrived.
    oldest: Option<u64>,
}

impl Row {
    fn add(&mut self, column: usize, arrival: u64) {
        self.total = self.total.saturating_add(1);
        if let Some(number) = self.by_age.get_mut(column) {
            *number = number.saturating_add(1);
        }
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
    }
}

/// All rows.
#[derive(Debug, Default)]
struct Table {
    rows: HashMap<String, Row>,
    total: Row,
    messages: u64,
}

impl Table {
    fn add(&mut self, message: &Message, by: By, now: u64) {
        self.messages = self.messages.saturating_add(1);
        let minutes = now.saturating_sub(message.arrival) / 60;
        let column = AGES.iter().position(|limit| minutes < *limit).unwrap_or(AGES.len());
        by.names(message, &mut |name| {
            self.total.add(column, message.arrival);
            let is_new = self.rows.len() >= NAMES_MAX && !self.rows.contains_key(&name);
            let name = if is_new { OTHERS.to_owned() } else { name };
            self.rows.entry(name).or_default().add(column, message.arrival);
        });
    }

    /// The largest first.
    fn sorted(self, limit: usize) -> Vec<(String, Row)> {
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by(|(a_name, a), (b_name, b)| {
            (Reverse(a.total), a_name).cmp(&(Reverse(b.total), b_name))
        });
        rows.truncate(limit);
        rows
    }
}

/// Sums up. `Ok(false)` if some messages could not be read.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<bool, QueueError> {
    let root = args.queue_choice.resolve()?;
    let directory = Directory::open(&root)?;
    let now = now();
    let mut table = Table::default();
    let walk = Walk {
        directory: &directory,
        filters: &args.filters,
        queues: args.filters.queues(),
        with_reasons: args.by == By::Reason,
        now,
    };
    let complete = walk.run(&mut |message| {
        table.add(&message, args.by, now);
        Ok(ControlFlow::Continue(()))
    })?;
    let (total, messages) = (table.total, table.messages);
    let rows = table.sorted(args.limit);
    if args.json {
        for (name, row) in &rows {
            let mut object = json::Object::begin(out)?;
            object.field(args.by.word(), name)?;
            object.field("count", &row.total)?;
            object.field("by_age", &row.by_age)?;
            object.field_if_some("oldest", row.oldest)?;
            object.end()?;
        }
        return Ok(complete);
    }
    let rows: Vec<_> = rows.into_iter().map(|(name, row)| (shortened(&name), row)).collect();
    print(&rows, &total, out)?;
    writeln!(out, "{} in {}", counted(messages, "message"), root.display())?;
    Ok(complete)
}

/// A name that fits into the table.
fn shortened(name: &str) -> String {
    let name = escaped(name.as_bytes());
    if name.chars().count() <= NAME_WIDTH_MAX {
        return name;
    }
    let kept: String = name.chars().take(NAME_WIDTH_MAX.saturating_sub(1)).collect();
    kept + "…"
}

/// The table, as qshape(1) has it: ages in minutes.
fn print(rows: &[(String, Row)], total: &Row, out: &mut dyn Write) -> std::io::Result<()> {
    let name_width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("TOTAL".len());
    let last = AGES.last().copied().unwrap_or_default();
    let heads: Vec<String> = AGES.iter().map(u64::to_string).chain([format!("{last}+")]).collect();
    let width = |column: usize, head: &str| {
        let number = total.by_age.get(column).copied().unwrap_or_default().to_string();
        number.len().max(head.len())
    };
    let total_width = total.total.to_string().len().max(1);
    write!(out, "{:name_width$}  {:>total_width$}", "", "T")?;
    for (column, head) in heads.iter().enumerate() {
        write!(out, " {head:>width$}", width = width(column, head))?;
    }
    writeln!(out)?;
    for (name, row) in
        [("TOTAL", total)].into_iter().chain(rows.iter().map(|(name, row)| (name.as_str(), row)))
    {
        write!(out, "{name:>name_width$}  {:>total_width$}", row.total)?;
        for ((column, head), number) in heads.iter().enumerate().zip(row.by_age) {
            write!(out, " {number:>width$}", width = width(column, head))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let mut row = Row::default();
        row.add(0, 7);
        row.add(9, 3);
        let mut out = Vec::new();
        print(&[("b.example".to_owned(), row)], &row, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "           T 5 10 20 40 80 160 320 640 1280 1280+\n    \
                        TOTAL  2 1  0  0  0  0   0   0   0    0     1\nb.example  2 1  0  0  0  0   0   0   0    0     1\n";
        assert_eq!(text, expected);
        assert_eq!(row.oldest, Some(3));
        assert_eq!(shortened(&"x".repeat(70)).chars().count(), 60);
    }
}
