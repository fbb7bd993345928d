//! The account of every message: what a client was told, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use postfix::record::{RecordType, encode};

/// One message, by its number.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// The client was told that it is accepted.
    is_accepted: bool,
    delivered: u64,
    /// When it was delivered last, in microseconds.
    delivered_at: u64,
    /// An operator removed it, or may have.
    is_removed: bool,
    /// Its last removal from the queue failed: it may be delivered again.
    may_repeat: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    lines: BTreeMap<u64, Line>,
    /// What must not be, in words.
    pub(crate) failures: Vec<String>,
    /// Since the last crash there are journals that are not settled.
    is_unsettled: bool,
    /// When that was so last, in microseconds.
    unsettled_at: u64,
}

/// How many messages came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Begun by a client.
    pub begun: u64,
    /// Acknowledged.
    pub accepted: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that were repeated, with an excuse.
    pub repeated: u64,
}

impl Ledger {
    /// A client begins a message. Returns its number and its bytes.
    pub(crate) fn begin(&mut self, lines: u64) -> (u64, Vec<u8>) {
        let number = self.lines.len() as u64;
        let mut bytes = Vec::new();
        encode(&mut bytes, RecordType::SIZE, &[b' '; 95]);
        encode(&mut bytes, RecordType::SENDER, format!("m{number}@example.org").as_bytes());
        for line in 0..lines {
            encode(&mut bytes, RecordType::NORMAL, format!("message {number} line {line}").as_bytes());
        }
        encode(&mut bytes, RecordType::EXTRACTED, b"");
        encode(&mut bytes, RecordType::RECIPIENT, b"r@example.net");
        encode(&mut bytes, RecordType::END, b"");
        self.lines.insert(number, Line { bytes: bytes.clone(), ..Line::default() });
        (number, bytes)
    }

    pub(crate) fn accept(&mut self, number: u64) {
        if let Some(line) = self.lines.get_mut(&number) {
            line.is_accepted = true;
        }
    }

    /// Which message a file is, if it is one, whole.
    pub(crate) fn number_of(&self, found: &[u8]) -> Option<u64> {
        let at = found.iter().position(|byte| *byte == b'm')?;
        let digits: String =
            found.get(at + 1..)?.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
        let number = digits.parse().ok()?;
        (self.lines.get(&number)?.bytes == found).then_some(number)
    }

    /// A queue manager delivers a message.
    pub(crate) fn deliver(&mut self, number: u64, now: u64) {
        let is_excused = self.is_unsettled
            || self.lines.get(&number).is_some_and(|l| l.may_repeat || self.unsettled_at >= l.delivered_at);
        let Some(line) = self.lines.get_mut(&number) else { return };
        if line.delivered > 0 && !is_excused {
            self.failures.push(format!("m{number} is delivered again without an excuse"));
        }
        line.delivered += 1;
        line.delivered_at = now;
    }

    pub(crate) fn may_repeat(&mut self, number: u64) {
        if let Some(line) = self.lines.get_mut(&number) {
            line.may_repeat = true;
        }
    }

    pub(crate) fn remove(&mut self, number: u64) {
        if let Some(line) = self.lines.get_mut(&number) {
            line.is_removed = true;
        }
    }

    /// From here on a message can come back that was delivered.
    pub(crate) fn crash(&mut self) {
        self.is_unsettled = true;
    }

    /// A settlement was cut short: the step that was under way is done again, and what it had written under another queue
    /// ID comes twice (docs/durability.md).
    pub(crate) fn settlement_was_cut_short(&mut self) {
        self.lines.values_mut().for_each(|line| line.may_repeat = true);
    }

    /// All journals are settled.
    pub(crate) fn settle(&mut self, now: u64) {
        if std::mem::replace(&mut self.is_unsettled, false) {
            self.unsettled_at = now;
        }
    }

    /// Draws up the account. `queued`: what is in the queues, whole.
    pub(crate) fn close(&mut self, queued: &BTreeSet<u64>) {
        for (number, line) in &self.lines {
            let is_there = line.delivered > 0 || line.is_removed || queued.contains(number);
            if line.is_accepted && !is_there {
                self.failures.push(format!("m{number} was accepted and is lost"));
            }
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let count = |is: fn(&Line) -> bool| self.lines.values().filter(|line| is(line)).count() as u64;
        let sum = |of: fn(&Line) -> u64| self.lines.values().map(of).sum();
        Totals {
            begun: self.lines.len() as u64,
            accepted: count(|line| line.is_accepted),
            delivered: sum(|line| line.delivered),
            repeated: sum(|line| line.delivered.saturating_sub(1)),
        }
    }
}
