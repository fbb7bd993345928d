//! Acts on messages one by one, and tells of each when it is durable.

use super::action::Action;
use super::directory::Directory;
use super::message::Message;
use super::select::Filters;
use super::{QueueError, complain, now};
use indicatif::ProgressBar;
use postfix::queue_id::QueueId;
use spool::operator::{Acted, Identity, Operator, Verb};
use spool::{Queue, Timestamp, UnixDisk};
use std::io::Write;
use std::time::Duration;

/// After so many messages what was done is made durable, and told.
const STEP_MESSAGES_MAX: usize = 500;
/// How often a person sees how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How many messages ended in which way.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Report {
    pub(super) done: u64,
    pub(super) gone: u64,
    pub(super) unfinished: u64,
    pub(super) not_for: u64,
    pub(super) replaced: u64,
    pub(super) filtered: u64,
    pub(super) errors: u64,
}

/// The work of one command.
pub(super) struct Work<'a> {
    action: Action,
    verb: Verb,
    /// `None`: nothing is done.
    operator: Option<Operator<UnixDisk>>,
    quiet: bool,
    out: &'a mut dyn Write,
    /// Done, and not told yet.
    untold: Vec<QueueId>,
    report: Report,
    progress: ProgressBar,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        action: Action,
        verb: Verb,
        operator: Option<Operator<UnixDisk>>,
        quiet: bool,
        out: &'a mut dyn Write,
    ) -> Self {
        if operator.as_ref().is_some_and(|operator| !operator.can_sync()) {
            complain(
                &"this kernel cannot say what is on disk: a power cut within the next seconds can undo the changes",
            );
        }
        // It draws on a terminal only.
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(PROGRESS_EVERY);
        Self { action, verb, operator, quiet, out, untold: Vec::new(), report: Report::default(), progress }
    }

    /// A message that a walk has found.
    pub(super) fn message(&mut self, message: &Message) -> Result<(), QueueError> {
        self.act(&message.id, message.queue, Some(&message.identity))
    }

    /// A message that was named; what filters leave out is counted.
    pub(super) fn id(
        &mut self,
        text: &str,
        directory: &Directory,
        filters: &Filters,
        now: u64,
    ) -> Result<(), QueueError> {
        let id = match text.parse::<QueueId>() {
            Ok(id) => id,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        if !filters.is_set() && self.operator.is_some() {
            // Which queue it is in, is found where it is done.
            return self.act(&id, Queue::Incoming, None);
        }
        let found = directory.open_message(&id).and_then(|found| match found {
            Some((file, entry)) => {
                Message::read(directory, &file, &entry, filters.looks_at_reasons()).map(Some)
            }
            None => Ok(None),
        });
        match found {
            Ok(Some(message)) if filters.matches(&message, now) => self.message(&message)?,
            Ok(Some(_)) => self.report.filtered = self.report.filtered.saturating_add(1),
            Ok(None) => self.gone(&id)?,
            Err(error) => self.fail(&error),
        }
        Ok(())
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) {
        self.report.errors = self.report.errors.saturating_add(1);
        self.progress.suspend(|| complain(error));
    }

    fn gone(&mut self, id: &QueueId) -> Result<(), QueueError> {
        self.report.gone = self.report.gone.saturating_add(1);
        self.say(id, "not in the queue (any more)")
    }

    fn say(&mut self, id: &QueueId, words: &str) -> Result<(), QueueError> {
        if self.quiet {
            return Ok(());
        }
        let out = &mut self.out;
        self.progress.suspend(|| writeln!(out, "{id}: {words}").and_then(|()| out.flush()))?;
        Ok(())
    }

    fn act(&mut self, id: &QueueId, queue: Queue, identity: Option<&Identity>) -> Result<(), QueueError> {
        let now = Timestamp { seconds: now(), microseconds: 0 };
        let acted = match &mut self.operator {
            Some(operator) => operator.act(self.verb, id, identity, now),
            None if self.action.is_for(queue) => Ok(Acted::Done(queue)),
            None => Ok(Acted::NotFor(queue)),
        };
        let report = &mut self.report;
        let (count, words) = match acted {
            Ok(Acted::Done(_)) => {
                self.untold.push(*id);
                if self.untold.len() >= STEP_MESSAGES_MAX {
                    self.step()?;
                }
                return Ok(());
            }
            Ok(Acted::Gone) => return self.gone(id),
            Ok(Acted::NotFor(queue)) => (&mut report.not_for, format!("left alone: it is in {queue}")),
            Ok(Acted::Unfinished) => {
                (&mut report.unfinished, "left alone: it is still being received".to_owned())
            }
            Ok(Acted::Replaced) => {
                (&mut report.replaced, "left alone: another message has this queue ID by now".to_owned())
            }
            Err(error) => {
                self.fail(&format_args!("{id}: {}", QueueError::from(error)));
                return Ok(());
            }
        };
        *count = count.saturating_add(1);
        self.say(id, &words)
    }

    /// Makes what was done durable, and tells of it.
    fn step(&mut self) -> Result<(), QueueError> {
        if let Some(operator) = &mut self.operator
            && let Err(error) = operator.settle()
        {
            let words =
                format!("{error}; what was {} is so, but a power cut can undo it", self.action.done());
            self.fail(&words);
        }
        let prefix = if self.operator.is_some() { "" } else { "would be " };
        self.report.done = self.report.done.saturating_add(self.untold.len() as u64);
        for id in std::mem::take(&mut self.untold) {
            self.say(&id, &format!("{prefix}{}", self.action.done()))?;
        }
        self.progress.set_message(format!("{} {}", self.report.done, self.action.done()));
        Ok(())
    }

    /// Ends the work.
    pub(super) fn end(mut self) -> Result<Report, QueueError> {
        self.step()?;
        self.progress.finish_and_clear();
        if let Some(operator) = self.operator.take()
            && let Err(error) = operator.close()
        {
            self.fail(&error);
        }
        Ok(self.report)
    }
}
