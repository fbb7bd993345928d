//! What follows an outcome, and what follows when all recipients of a message have one.

use daemon::log::Program;
use daemon::service::now;
use delivery::failure_log::{Action, Entry, Reader};
use delivery::outcome::{Fate, Outcome};
use delivery::report::Kind;
use delivery::schedule::Next;
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use spool::lease::ReasonLog;
use spool::{SpoolError, Timestamp};

use super::letter::Unreadable;
use super::work::{Message, Work};
use crate::lines;
use crate::request::Recipient;

/// Entries that wait for their log, in bytes.
const ENTRIES_BYTES_MAX: usize = 65_536;

impl Work<'_> {
    /// Keeps what became of a recipient. The line is in the log already.
    pub(super) fn settle(&mut self, queue_id: &QueueId, recipient: &Recipient, outcome: &Outcome) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        let mut told = Ok(());
        match outcome.fate {
            Fate::Sent => told = message.lease.mark_done(recipient.offset),
            Fate::Deferred => {
                message.has_deferred = true;
                entry(recipient, Action::Delayed, outcome).write(&mut message.deferrals);
            }
            Fate::Bounced => {
                entry(recipient, Action::Failed, outcome).write(&mut message.bounces);
                message.to_mark.push(recipient.offset);
            }
        }
        if let Err(error) = told {
            // The recipient is done all the same, but after a crash it gets the message again.
            message.has_deferred = true;
            self.warn(&format!("{queue_id}: cannot mark a recipient as done: {error}"));
        }
        self.write_entries(queue_id, ENTRIES_BYTES_MAX);
        self.settled_one(queue_id);
    }

    /// One recipient less to wait for.
    pub(super) fn settled_one(&mut self, queue_id: &QueueId) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        message.unsettled = message.unsettled.saturating_sub(1);
        if message.unsettled == 0 {
            self.end_round(queue_id);
        }
    }

    /// Writes entries of which more than so many bytes wait.
    fn write_entries(&mut self, queue_id: &QueueId, bytes_max: usize) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        let mut errors = Vec::new();
        for log in [ReasonLog::Bounce, ReasonLog::Defer] {
            let entries =
                if log == ReasonLog::Bounce { &mut message.bounces } else { &mut message.deferrals };
            if entries.is_empty() || entries.len() <= bytes_max {
                continue;
            }
            if let Err(error) = message.lease.log(log, &std::mem::take(entries)) {
                if log == ReasonLog::Bounce {
                    // What is not in the log does not count: these recipients are tried again.
                    message.to_mark.clear();
                    message.has_deferred = true;
                }
                errors.push(error);
            }
        }
        errors.iter().for_each(|error| self.warn(&format!("{queue_id}: {error}")));
    }

    /// All recipients that were read have an outcome.
    fn end_round(&mut self, queue_id: &QueueId) {
        self.write_entries(queue_id, 0);
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        if !message.to_mark.is_empty()
            && let Err(error) = mark_bounced(message)
        {
            message.has_deferred = true;
            self.warn(&format!("{queue_id}: {error}"));
        }
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        if message.is_damaged {
            self.warn(&format!("{queue_id}: the content of the queue file is damaged; moved to corrupt"));
            let told = self.let_go(queue_id, |message| message.lease.set_aside());
            return self.warn_of(queue_id, "move the message to corrupt", told);
        }
        if message.has_more {
            match self.read_more(queue_id) {
                Ok(true) => return,
                Ok(false) => {}
                Err(Unreadable::Disk(words) | Unreadable::Damaged(words)) => {
                    self.warn(&format!("{queue_id}: {words}"));
                    if let Some(message) = self.messages.get_mut(queue_id) {
                        message.has_deferred = true;
                    }
                }
            }
        }
        let Some(message) = self.messages.get(queue_id) else { return };
        let mut byte = [0];
        match message.lease.read_log_at(ReasonLog::Bounce, 0, &mut byte) {
            Ok(0) => self.conclude(queue_id),
            Ok(_) => self.report(queue_id, Kind::Failure, ReasonLog::Bounce),
            Err(error) => {
                self.warn(&format!("{queue_id}: {error}"));
                self.defer(queue_id);
            }
        }
    }

    /// The report about failures is in the queue, or nothing has failed.
    fn conclude(&mut self, queue_id: &QueueId) {
        let Some(message) = self.messages.get(queue_id) else { return };
        if !message.has_deferred {
            return self.remove(queue_id);
        }
        let envelope = &message.envelope;
        let is_by_order = message.lease.is_expired();
        let next = self.settings.schedule.after_attempt(
            envelope.created,
            now().seconds,
            envelope.sender.is_empty(),
            spread(queue_id),
        );
        if is_by_order || next == Next::Expire {
            self.say(&lines::expired(queue_id, &envelope.sender, is_by_order));
            return self.report(queue_id, Kind::Failure, ReasonLog::Defer);
        }
        self.defer(queue_id);
    }

    /// Begins a report from a log of reasons; [`Self::reported`] follows.
    fn report(&mut self, queue_id: &QueueId, kind: Kind, log: ReasonLog) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        if let Err(error) = message.lease.sync_logs() {
            self.warn(&format!("{queue_id}: {error}"));
            return self.defer(queue_id);
        }
        match message.lease.open_log_to_read(log) {
            Ok(reasons) => self.reporter.begin(message, kind, log, reasons),
            Err(error) => {
                self.warn(&format!("{queue_id}: {error}"));
                self.defer(queue_id);
            }
        }
    }

    /// A report is in the queue, or was not needed, or could not be made.
    pub(super) fn reported(&mut self, queue_id: &QueueId, result: Result<Option<QueueId>, String>) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        let Some(log) = self.reporter.ended(queue_id) else { return };
        match result {
            Err(words) => {
                self.warn(&format!("{queue_id}: cannot report to the sender: {words}"));
                return self.defer(queue_id);
            }
            Ok(report) => {
                if let Some(report) = report {
                    let line = lines::reported(queue_id, Kind::Failure, &report);
                    self.log.write(Program::Bounce, Severity::Info, &line);
                }
            }
        }
        if log == ReasonLog::Bounce {
            if let Err(error) = message.lease.remove_log(ReasonLog::Bounce) {
                self.warn(&format!("{queue_id}: {error}"));
                return self.defer(queue_id);
            }
            return self.conclude(queue_id);
        }
        // The message is given up: its recipients are done, and a crash from here on sends no second report.
        if let Err(error) = mark_all_deferred(message) {
            self.warn(&format!("{queue_id}: {error}"));
        }
        self.remove(queue_id);
    }

    fn remove(&mut self, queue_id: &QueueId) {
        match self.let_go(queue_id, |message| message.lease.finish()) {
            Ok(()) => self.say(&lines::removed(queue_id)),
            told => self.warn_of(queue_id, "remove the message", told),
        }
    }

    fn defer(&mut self, queue_id: &QueueId) {
        let schedule = self.settings.schedule;
        let told = self.let_go(queue_id, |message| {
            let now = now();
            let next = schedule.after_attempt(
                message.envelope.created,
                now.seconds,
                message.envelope.sender.is_empty(),
                spread(message.lease.queue_id()),
            );
            let seconds = match next {
                Next::RetryAt(at) => at,
                Next::Expire => now.seconds.saturating_add(schedule.minimal_backoff_secs),
            };
            message.lease.defer(Timestamp { seconds, microseconds: 0 })
        });
        self.warn_of(queue_id, "defer the message", told);
    }

    /// The message is in hand no more.
    fn let_go(
        &mut self,
        queue_id: &QueueId,
        how: impl FnOnce(Message) -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        self.messages.remove(queue_id).map_or(Ok(()), how)
    }

    fn warn_of(&self, queue_id: &QueueId, what: &str, told: Result<(), SpoolError>) {
        if let Err(error) = told {
            self.warn(&format!(
                "{queue_id}: cannot {what}: {error}; it stays in active until the next start"
            ));
        }
    }
}

fn entry(recipient: &Recipient, action: Action, outcome: &Outcome) -> Entry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Entry {
        original_recipient: lines::shown(&recipient.original),
        offset: recipient.offset,
        dsn_original: text(&recipient.dsn_original),
        notify: recipient.notify,
        ..Entry::new(lines::shown(&recipient.address), action, outcome)
    }
}

/// First the reasons are durable, then the recipients are done.
fn mark_bounced(message: &mut Message) -> Result<(), SpoolError> {
    let offsets = std::mem::take(&mut message.to_mark);
    message.lease.sync_logs()?;
    offsets.into_iter().try_for_each(|offset| message.lease.mark_done(offset))
}

fn mark_all_deferred(message: &mut Message) -> Result<(), SpoolError> {
    let mut reader = Reader::new(Action::Delayed);
    let mut offsets = Vec::new();
    let mut piece = [0; 8192];
    let mut at = 0_u64;
    loop {
        let count = message.lease.read_log_at(ReasonLog::Defer, at, &mut piece)?;
        if count == 0 {
            break;
        }
        at = at.saturating_add(count as u64);
        reader.take(piece.get(..count).unwrap_or_default(), |entry| offsets.push(entry.offset));
        for offset in offsets.drain(..).filter(|offset| *offset > 0) {
            message.lease.mark_done(offset)?;
        }
    }
    Ok(())
}

/// What failed together is not to come back together: any number that differs from message to message.
fn spread(queue_id: &QueueId) -> u64 {
    queue_id
        .as_bytes()
        .iter()
        .fold(u64::from(now().microseconds), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}
