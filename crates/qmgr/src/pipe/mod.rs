//! The agent that gives mail to a program: pipe(8).
//!
//! | module | has |
//! |---|---|
//! | [`attributes`] | what the master.cf line says |
//! | [`account`] | the user that it runs as |
//! | [`template`] | an argument with macros |
//! | [`arguments`] | the command line for a request |
//! | [`server`] | the process |
//! | [`command`] | the command while it runs |
//!
//! What the end of a command means to the mail is decided in `delivery::exit_status`.

pub mod account;
pub mod arguments;
pub mod attributes;
pub mod command;
pub mod server;
pub mod template;

use std::fs::File;
use std::io;
use std::time::SystemTime;

use delivery::exit_status::{self, CommandEnd};
use delivery::outcome::{Outcome, status};
use postfix::notice::Notice;

use crate::delivery_line::{self, external};
use crate::mail_copy::{Additions, CopyError, MailCopy, QueueFile, was_delivered_to};
use crate::request::{Finished, RecipientOutcome, Request};
use attributes::Attributes;
use command::{Ended, RunError, Surroundings, run};

/// The status of a command that could not be started: temporary failure, sysexits(3).
const EXIT_TEMPORARY_FAILURE: i32 = 75;

/// A pipe transport, in a process that is its user already.
#[derive(Debug, Clone)]
pub struct PipeAgent {
    /// What the line of master.cf says.
    pub attributes: Attributes,
    /// Environment, directory and time limit of the command.
    pub surroundings: Surroundings,
    /// `recipient_delimiter`.
    pub recipient_delimiter: String,
    /// `soft_bounce`.
    pub soft_bounce: bool,
}

impl PipeAgent {
    /// Gives the message to the command, once for all recipients, and waits for its end: as long as the command takes, up
    /// to the time limit. `report` gets an outcome for each recipient, `log` what is to be logged.
    pub fn deliver(
        &self,
        request: &Request,
        file: &File,
        report: &mut dyn FnMut(RecipientOutcome),
        log: &dyn Fn(Notice),
    ) -> Finished {
        let began = SystemTime::now();
        let attempted = self.attempt(request, file, log);
        let finished = Finished::well(request.number);
        let outcome = match attempted {
            Ok(outcome) if self.soft_bounce => outcome.softened(),
            Ok(outcome) => outcome,
            Err(error) => {
                log(Notice::warning(format!("{}: {error}", request.queue_id)));
                if error.is_damage() {
                    return Finished { is_content_damaged: true, ..finished };
                }
                Outcome::failed(status(4, 3, 0), format!("queue file read error: {error}"))
            }
        };
        let delays = delivery_line::delays_of(request, began, SystemTime::now());
        for (index, recipient) in request.recipients.iter().enumerate() {
            let line = delivery_line::text(request, recipient, &request.transport, delays, &outcome);
            log(Notice::info(String::from_utf8_lossy(&line)));
            let number = request.number;
            report(RecipientOutcome { number, index, outcome: outcome.clone(), is_dsn_passed_on: false });
        }
        finished
    }

    fn attempt(
        &self,
        request: &Request,
        file: &File,
        log: &dyn Fn(Notice),
    ) -> Result<Outcome, CopyError<io::Error>> {
        let Attributes { flags, size_bytes_max, .. } = &self.attributes;
        if size_bytes_max.is_some_and(|max| request.size_bytes > max) {
            return Ok(Outcome::failed(status(5, 2, 3), "message too large"));
        }
        for letter in [b'D', b'O'] {
            if flags.has(letter) && request.recipients.len() > 1 {
                let (letter, transport) = (char::from(letter), &request.transport);
                log(Notice::warning(format!(
                    "pipe flag `{letter}' requires {transport}_destination_recipient_limit = 1"
                )));
                return Ok(Outcome::failed(status(4, 3, 5), "mail system configuration error"));
            }
        }
        let first = request.recipients.first();
        if let Some(recipient) = first.filter(|_| flags.has(b'D')) {
            let address = external(&recipient.address);
            if was_delivered_to(QueueFile(file), request.content.start, &address)? {
                let address = String::from_utf8_lossy(&address).into_owned();
                return Ok(Outcome::failed(status(5, 4, 6), format!("mail forwarding loop for {address}")));
            }
        }
        let command = arguments::arguments(&self.attributes, request, &self.recipient_delimiter);
        let additions = self.additions(request, SystemTime::now());
        let mut copy = MailCopy::new(QueueFile(file), request.content.start, additions);
        let ended = match run(&command, &self.surroundings, |out| copy.next(out)) {
            Ok(ended) => ended,
            Err(RunError::Input(error)) => return Err(error),
            Err(RunError::Start(error) | RunError::Wait(error)) => {
                Ended { end: CommandEnd::Exited(EXIT_TEMPORARY_FAILURE), output: self.not_started(&error) }
            }
        };
        Ok(self.outcome(request, &ended))
    }

    fn outcome(&self, request: &Request, ended: &Ended) -> Outcome {
        exit_status::outcome(&request.transport, &self.attributes.program(), ended.end, &ended.output)
    }

    fn not_started(&self, error: &io::Error) -> Vec<u8> {
        let words = postfix::text::system_words(error);
        format!("pipe: fatal: cannot run {}: {words}", self.attributes.program()).into_bytes()
    }

    /// What the flags add to the message.
    fn additions(&self, request: &Request, now: SystemTime) -> Additions {
        let Attributes { flags, line_end, .. } = &self.attributes;
        let sender = external(arguments::sender(&self.attributes, request));
        let recipient = request.recipients.first();
        let mut head: Vec<Vec<u8>> = Vec::new();
        if flags.has(b'F') {
            head.push([b"From ", sender.as_slice(), b"  ", date(now).as_bytes()].concat());
        }
        if flags.has(b'R') {
            head.push([b"Return-Path: <", sender.as_slice(), b">"].concat());
        }
        if let Some(recipient) = recipient.filter(|each| flags.has(b'O') && !each.original.is_empty()) {
            head.push([b"X-Original-To: ".to_vec(), external(&recipient.original)].concat());
        }
        if let Some(recipient) = recipient.filter(|_| flags.has(b'D')) {
            head.push([b"Delivered-To: ".to_vec(), external(&recipient.address)].concat());
        }
        Additions {
            head,
            line_end: line_end.clone(),
            doubles_dots: flags.has(b'.'),
            quotes_from: flags.has(b'>'),
            ends_with_blank: flags.has(b'B'),
        }
    }
}

/// The date of a line that begins with `From `, in local time: `Mon Nov 30 16:54:48 2026`.
fn date(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::TimeZone::system().to_datetime(now).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

#[cfg(test)]
mod tests;
