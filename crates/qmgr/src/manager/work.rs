//! The thread of the queue manager: what happens, and what is done next.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use daemon::log::{Log, Program};
use daemon::service::now;
use delivery::active::{Active, Delivery, Destination};
use delivery::delays::Delays;
use delivery::outcome::{Outcome, status};
use delivery::routing::{self, NoRoute};
use delivery::window::End;
use postfix::notice::Severity;
use postfix::queue_id::QueueId;
use spool::lease::{Lease, Queues, Taken};
use spool::{Entry, Queue, SpoolError, Timestamp, UnixDisk};

use super::agents::{Agents, HandError};
use super::letter::{self, Envelope, Reading, Unreadable};
use super::report::Reporter;
use super::scan::Scan;
use super::tables::Tables;
use crate::request::{Answer, Blame, Recipient, Request};
use crate::settings::ManagerSettings;
use crate::{delivery_line, lines};

/// What the thread hears.
#[derive(Debug)]
pub(super) enum Event {
    /// Another program asks for scans.
    Wake(Wake),
    /// An agent has said something.
    Answer(Answer),
    /// A connection to an agent has ended.
    AgentGone { transport: String, connection: u64, words: String },
    /// A report was made, or not.
    Reported { queue_id: QueueId, result: Result<Option<QueueId>, String> },
    /// Begin nothing more, and end with the last delivery.
    Drain,
}

/// What a wake-up asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Wake {
    pub(super) incoming: bool,
    pub(super) deferred: bool,
    /// Whatever the time stamps of files say.
    pub(super) ignores_times: bool,
    /// Whatever is known of dead destinations.
    pub(super) revives: bool,
}

impl Wake {
    /// What the bytes of Postfix's programs ask for; others do not matter.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let has = |byte| bytes.contains(&byte);
        Self {
            incoming: has(b'W') || has(b'I'),
            deferred: has(b'D'),
            ignores_times: has(b'A'),
            revives: has(b'F'),
        }
    }
}

/// How often incoming is scanned without being asked.
const INCOMING_SCAN_EVERY: Duration = Duration::from_secs(300);
/// How often what is idle is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// Events that are looked at before new deliveries begin.
const EVENTS_PER_TURN: usize = 256;
/// Messages that are taken before the next look at the events.
const MESSAGES_PER_TURN: usize = 16;
/// Recipients that are read at a time.
const RECIPIENTS_PER_READING: usize = 5000;

/// A recipient that waits for its turn.
#[derive(Debug)]
pub(super) struct WaitingRecipient {
    recipient: Recipient,
    nexthop: Arc<str>,
    by_relayhost: bool,
}

/// A message in hand.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) lease: Lease<UnixDisk>,
    pub(super) file: Arc<OwnedFd>,
    pub(super) envelope: Arc<Envelope>,
    pub(super) taken: Timestamp,
    pub(super) passed: u64,
    pub(super) has_more: bool,
    /// Recipients of this reading without an outcome.
    pub(super) unsettled: usize,
    pub(super) has_deferred: bool,
    pub(super) is_damaged: bool,
    /// Entries that are not in the logs yet.
    pub(super) bounces: Vec<u8>,
    pub(super) deferrals: Vec<u8>,
    /// Recipients to be marked when the log of bounces is durable.
    pub(super) to_mark: Vec<u64>,
}

#[derive(Debug)]
struct Running {
    queue_id: QueueId,
    destination: Destination,
    recipients: Vec<Option<Recipient>>,
}

/// See the module's text.
pub(super) struct Work<'q> {
    pub(super) queues: &'q Arc<Queues<UnixDisk>>,
    pub(super) settings: ManagerSettings,
    pub(super) log: Log,
    tables: Arc<Tables>,
    events: Receiver<Event>,
    pub(super) reporter: Reporter,
    agents: Agents,
    active: Active<QueueId, WaitingRecipient>,
    pub(super) messages: HashMap<QueueId, Message>,
    running: HashMap<u64, Running>,
    next_number: u64,
    /// Why destinations are out of order.
    blames: HashMap<Destination, Blame>,
    /// Transports whose agents cannot be reached, and until when.
    dead_transports: HashMap<String, Instant>,
    incoming: Scan<'q>,
    deferred: Scan<'q>,
    began: Instant,
    incoming_scan_at: Instant,
    deferred_scan_at: Instant,
    forget_at: Instant,
    is_draining: bool,
    /// Until when `defer_transports` does not count: a flush.
    is_flushing: bool,
}

/// What the thread is made of.
pub(super) struct Parts {
    pub(super) settings: ManagerSettings,
    pub(super) log: Log,
    pub(super) tables: Arc<Tables>,
    pub(super) events: Receiver<Event>,
    pub(super) sender: Sender<Event>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) reporter: Reporter,
}

impl<'q> Work<'q> {
    pub(super) fn new(queues: &'q Arc<Queues<UnixDisk>>, parts: Parts) -> Self {
        let Parts { settings, log, tables, events, sender, runtime, reporter } = parts;
        let began = Instant::now();
        Self {
            queues,
            log,
            tables,
            events,
            reporter,
            agents: Agents::new(runtime, sender),
            active: Active::new(settings.limits),
            settings,
            messages: HashMap::new(),
            running: HashMap::new(),
            next_number: 1,
            blames: HashMap::new(),
            dead_transports: HashMap::new(),
            incoming: Scan::new(queues.disk(), Queue::Incoming),
            deferred: Scan::new(queues.disk(), Queue::Deferred),
            began,
            incoming_scan_at: began,
            deferred_scan_at: began,
            forget_at: began,
            is_draining: false,
            is_flushing: false,
        }
    }

    /// Works until it is told to drain, and the last delivery has ended.
    pub(super) fn run(mut self) {
        let log = self.log.clone();
        let failed = |error: SpoolError| {
            log.write(
                Program::Service,
                Severity::Warning,
                &format!("cannot return a message to incoming: {error}"),
            );
        };
        if let Err(error) = self.queues.return_active(now(), failed) {
            self.warn(&format!("cannot read the active queue: {error}"));
        }
        loop {
            self.hear();
            if self.is_draining && self.running.is_empty() {
                return;
            }
            if !self.is_draining {
                self.look_at_timers();
                self.take_messages();
                self.begin_deliveries();
            }
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.log.write(Program::Service, Severity::Warning, text);
    }

    pub(super) fn say(&self, text: &str) {
        self.log.write(Program::Service, Severity::Info, text);
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn hear(&mut self) {
        let mut wait = self.patience();
        for _ in 0..EVENTS_PER_TURN {
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take_event(event),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    self.is_draining = true;
                    return;
                }
            }
            wait = Duration::ZERO;
        }
    }

    /// How long there is nothing to do but to listen.
    fn patience(&self) -> Duration {
        if self.is_draining {
            return Duration::from_secs(1);
        }
        let scans = self.incoming.is_under_way() || self.deferred.is_under_way();
        if scans && self.has_room() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let timers = [self.incoming_scan_at, self.deferred_scan_at, self.forget_at];
        let next = timers.into_iter().map(|at| at.saturating_duration_since(now)).min();
        let opens = self.active.wakes_at().map(|at| at.saturating_sub(self.elapsed()));
        let least = Duration::from_millis(1);
        next.into_iter().chain(opens).min().unwrap_or(FORGET_EVERY).max(least)
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Wake(wake) => self.wake(wake),
            Event::Answer(Answer::Recipient(told)) => {
                let Some(running) = self.running.get_mut(&told.number) else { return };
                let Some(recipient) = running.recipients.get_mut(told.index).and_then(Option::take) else {
                    return;
                };
                let queue_id = running.queue_id;
                self.settle(&queue_id, &recipient, &told.outcome);
            }
            Event::Answer(Answer::Finished(finished)) => {
                if finished.is_content_damaged
                    && let Some(running) = self.running.get(&finished.number)
                    && let Some(message) = self.messages.get_mut(&running.queue_id)
                {
                    message.is_damaged = true;
                }
                let end = match (&finished.blame, finished.is_congested) {
                    (Some(_), _) => End::Blamed,
                    (None, true) => End::AskedForLess,
                    (None, false) => End::Served,
                };
                self.end_delivery(finished.number, end, finished.blame);
            }
            Event::AgentGone { transport, connection, words } => {
                let unfinished = self.agents.gone(&transport, connection);
                if !unfinished.is_empty() {
                    self.warn(&format!("private/{transport} socket: {words}"));
                }
                for number in unfinished {
                    self.end_delivery(number, End::Served, None);
                }
            }
            Event::Reported { queue_id, result } => self.reported(&queue_id, result),
            Event::Drain => self.is_draining = true,
        }
    }

    fn wake(&mut self, wake: Wake) {
        if wake.revives {
            self.active.revive_all();
            self.blames.clear();
            self.dead_transports.clear();
            self.is_flushing = true;
        }
        if wake.incoming {
            self.incoming.request(wake.ignores_times);
        }
        if wake.deferred {
            self.deferred.request(wake.ignores_times);
        }
    }

    fn look_at_timers(&mut self) {
        let now = Instant::now();
        let later = |wait| now.checked_add(wait).unwrap_or(now);
        if self.incoming_scan_at <= now {
            self.incoming.request(false);
            self.incoming_scan_at = later(INCOMING_SCAN_EVERY);
        }
        if self.deferred_scan_at <= now {
            self.deferred.request(false);
            self.deferred_scan_at = later(self.settings.queue_run_delay);
        }
        if self.forget_at <= now {
            let elapsed = self.elapsed();
            self.active.forget_idle(elapsed);
            let active = &mut self.active;
            self.blames.retain(|destination, _| active.is_out_of_order(destination, elapsed));
            self.dead_transports.retain(|_, until| *until > now);
            self.forget_at = later(FORGET_EVERY);
        }
    }

    fn has_room(&self) -> bool {
        self.messages.len() < self.settings.messages_max && self.active.has_room()
    }

    /// Takes what is due, from both queues by turns.
    fn take_messages(&mut self) {
        let log = self.log.clone();
        let mut failed = |error: SpoolError| {
            log.write(Program::Service, Severity::Warning, &format!("cannot look at a message: {error}"));
        };
        for _ in 0..MESSAGES_PER_TURN {
            if !self.has_room() {
                return;
            }
            let found = [self.incoming.next(now(), &mut failed), self.deferred.next(now(), &mut failed)];
            let is_nothing = found.iter().all(Option::is_none);
            for entry in found.into_iter().flatten() {
                self.take(&entry);
            }
            if is_nothing {
                if !self.deferred.is_under_way() {
                    self.is_flushing = false;
                }
                return;
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        let queue_id = entry.queue_id;
        if self.messages.contains_key(&queue_id) {
            return;
        }
        let lease = match self.queues.take(entry, now()) {
            Ok(Taken::Lease(lease)) => lease,
            Ok(Taken::InDelivery) => return self.say(&lines::in_delivery(&queue_id)),
            Ok(Taken::Gone) => return,
            Err(error) => return self.warn(&format!("{queue_id}: cannot take the message: {error}")),
        };
        let read = letter::read(&lease, 0, RECIPIENTS_PER_READING);
        let file = lease.open_to_read();
        let (reading, file) = match (read, file) {
            (Ok(reading), Ok(file)) => (reading, file),
            (Err(Unreadable::Damaged(words)), _) => {
                self.warn(&format!("{queue_id}: the queue file is damaged: {words}; moved to corrupt"));
                if let Err(error) = lease.set_aside() {
                    self.warn(&format!("{queue_id}: cannot move the message to corrupt: {error}"));
                }
                return;
            }
            (Err(Unreadable::Disk(words)), _) => return self.put_off(lease, &words),
            (_, Err(error)) => return self.put_off(lease, &error.to_string()),
        };
        let Reading { envelope, recipients, passed, has_more } = reading;
        self.say(&lines::active(&queue_id, &envelope.sender, envelope.size_bytes, envelope.recipients));
        let message = Message {
            lease,
            file: Arc::new(file),
            envelope: Arc::new(envelope),
            taken: now(),
            passed,
            has_more,
            unsettled: 0,
            has_deferred: false,
            is_damaged: false,
            bounces: Vec::new(),
            deferrals: Vec::new(),
            to_mark: Vec::new(),
        };
        self.messages.insert(queue_id, message);
        self.route_all(&queue_id, recipients);
    }

    fn put_off(&self, lease: Lease<UnixDisk>, words: &str) {
        let queue_id = *lease.queue_id();
        self.warn(&format!("{queue_id}: {words}; tried again later"));
        let due = Timestamp {
            seconds: now().seconds.saturating_add(self.settings.schedule.minimal_backoff_secs),
            microseconds: 0,
        };
        if let Err(error) = lease.defer(due) {
            self.warn(&format!("{queue_id}: cannot defer the message: {error}"));
        }
    }

    /// Reads the next recipients of a message. Are there any?
    pub(super) fn read_more(&mut self, queue_id: &QueueId) -> Result<bool, Unreadable> {
        let Some(message) = self.messages.get_mut(queue_id) else { return Ok(false) };
        let reading = letter::read(&message.lease, message.passed, RECIPIENTS_PER_READING)?;
        (message.passed, message.has_more) = (reading.passed, reading.has_more);
        if reading.recipients.is_empty() {
            return Ok(false);
        }
        self.route_all(queue_id, reading.recipients);
        Ok(true)
    }

    /// Finds out where recipients go. One that needs no agent is settled at once.
    fn route_all(&mut self, queue_id: &QueueId, recipients: Vec<Recipient>) {
        let Some(message) = self.messages.get_mut(queue_id) else { return };
        // One more, so that the round does not end before all are routed.
        message.unsettled = recipients.len().saturating_add(1);
        let envelope = Arc::clone(&message.envelope);
        let is_expired = message.lease.is_expired();
        let mut by_destination: HashMap<(Destination, Arc<str>), Vec<WaitingRecipient>> = HashMap::new();
        let mut order = Vec::new();
        for mut recipient in recipients {
            if let Some(address) = &envelope.redirect {
                recipient.address.clone_from(address);
            }
            let route = if is_expired {
                Routed::retry("4.7.0 message is administratively expired")
            } else {
                self.route(&envelope, &recipient)
            };
            match self.internal(&route) {
                Some((program, outcome)) => {
                    self.log_own(queue_id, &recipient, &outcome, program);
                    self.settle(queue_id, &recipient, &outcome);
                }
                None => {
                    let destination = self.destination(&route, &recipient);
                    let elapsed = self.elapsed();
                    if self.active.is_out_of_order(&destination, elapsed) {
                        self.suspend(queue_id, &recipient, &destination);
                        continue;
                    }
                    let nexthop: Arc<str> = route.nexthop.as_str().into();
                    let key = (destination, Arc::clone(&nexthop));
                    let waiting = WaitingRecipient { recipient, nexthop, by_relayhost: route.by_relayhost };
                    let group = by_destination.entry(key.clone()).or_insert_with(|| {
                        order.push(key);
                        Vec::new()
                    });
                    group.push(waiting);
                }
            }
        }
        for key in order {
            let Some(group) = by_destination.remove(&key) else { continue };
            let per_delivery =
                if envelope.verp.is_some() { 1 } else { self.settings.recipients_of(&key.0.transport) };
            self.active.add(*queue_id, &key.0, group, per_delivery, self.settings.window);
        }
        self.settled_one(queue_id);
    }

    fn route(&self, envelope: &Envelope, recipient: &Recipient) -> Routed {
        if let Some(filter) = &envelope.filter {
            return self.filter_route(filter, recipient);
        }
        match routing::route(&envelope.sender, &recipient.address, &self.settings.routing, &*self.tables) {
            Ok(route) => Routed {
                transport: route.transport,
                nexthop: route.nexthop,
                by_relayhost: route.by_relayhost,
            },
            Err(NoRoute::BadAddress) => Routed::error("5.1.3 bad address syntax"),
            Err(NoRoute::Failed(failure)) => {
                self.log.write(
                    Program::TrivialRewrite,
                    Severity::Warning,
                    &format!("{} lookup failure", failure.parameter),
                );
                Routed::retry("4.3.0 address resolver failure")
            }
        }
    }

    fn filter_route(&self, filter: &str, recipient: &Recipient) -> Routed {
        let (transport, nexthop) = filter.split_once(':').unwrap_or((filter, ""));
        let domain = || {
            let address = String::from_utf8_lossy(&recipient.address);
            let domain = address.rsplit_once('@').map(|(_, domain)| domain.to_owned());
            domain.unwrap_or_else(|| self.settings.hostname.clone())
        };
        let nexthop = match (nexthop, self.settings.filter_nexthop.as_str()) {
            ("", "") => domain(),
            ("", default) => default.to_owned(),
            (given, _) => given.to_owned(),
        };
        Routed { transport: transport.to_owned(), nexthop, by_relayhost: false }
    }

    /// What becomes of a recipient whose transport is ours: `error`, `retry`, `discard`.
    fn internal(&self, route: &Routed) -> Option<(Program, Outcome)> {
        let transport = route.transport.as_str();
        let waits = self.settings.defer_transports.iter().any(|name| name == transport) && !self.is_flushing;
        let outcome = match transport {
            "discard" => return Some((Program::Discard, Outcome::sent(status(2, 0, 0), &route.nexthop))),
            "error" => worded(&route.nexthop, 5),
            "retry" => worded(&route.nexthop, 4),
            _ if waits => worded("4.3.2 deferred transport", 4),
            _ if self.is_dead(transport) => worded("4.3.0 mail transport unavailable", 4),
            _ => return None,
        };
        Some((Program::Error, if self.settings.soft_bounce { outcome.softened() } else { outcome }))
    }

    fn is_dead(&self, transport: &str) -> bool {
        self.dead_transports.get(transport).is_some_and(|until| *until > Instant::now())
    }

    fn destination(&self, route: &Routed, recipient: &Recipient) -> Destination {
        let nexthop = route.nexthop.to_lowercase();
        let name = if self.settings.recipients_of(&route.transport) == 1 {
            let address = String::from_utf8_lossy(&recipient.address).into_owned();
            let user = address.rsplit_once('@').map_or(address.as_str(), |(user, _)| user);
            format!("{user}@{nexthop}")
        } else {
            nexthop
        };
        Destination { transport: route.transport.clone(), name }
    }

    /// The destination is out of order: the recipient is deferred without an attempt.
    fn suspend(&mut self, queue_id: &QueueId, recipient: &Recipient, destination: &Destination) {
        let outcome = match self.blames.get(destination) {
            Some(blame) => Outcome {
                diagnostic: blame.diagnostic.clone(),
                remote_mta: blame.remote_mta.clone(),
                ..Outcome::failed(
                    blame.status.made_temporary(),
                    format!("delivery temporarily suspended: {}", blame.reason),
                )
            },
            None => Outcome::failed(status(4, 4, 0), "delivery temporarily suspended: unknown reason"),
        };
        self.log_own(queue_id, recipient, &outcome, Program::Error);
        self.settle(queue_id, recipient, &outcome);
    }

    fn log_own(&self, queue_id: &QueueId, recipient: &Recipient, outcome: &Outcome, program: Program) {
        let Some(message) = self.messages.get(queue_id) else { return };
        let delays = Delays {
            before_queue_manager: between(message.envelope.arrival, message.taken),
            in_queue_manager: between(message.taken, now()),
            ..Delays::default()
        };
        let line = delivery_line::of(queue_id, recipient, "none", delays, outcome);
        self.log.write_bytes(program, Severity::Info, &line);
    }

    fn begin_deliveries(&mut self) {
        while let Some(delivery) = self.active.next(self.elapsed()) {
            self.begin(delivery);
        }
    }

    fn begin(&mut self, delivery: Delivery<QueueId, WaitingRecipient>) {
        let Delivery { message: queue_id, destination, recipients } = delivery;
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let Some(message) = self.messages.get(&queue_id) else {
            self.active.end(&destination, End::Served, self.elapsed());
            return;
        };
        let Some(first) = recipients.first() else { return };
        let (nexthop, by_relayhost) = (first.nexthop.to_string(), first.by_relayhost);
        let envelope = &message.envelope;
        let sender = envelope.sender_for(&first.recipient.address);
        let recipients: Vec<Recipient> = recipients.into_iter().map(|waiting| waiting.recipient).collect();
        let request = Request {
            number,
            transport: destination.transport.clone(),
            nexthop,
            by_relayhost,
            queue_id,
            sender,
            arrival: envelope.arrival,
            active: message.taken,
            content: envelope.content.clone(),
            size_bytes: envelope.size_bytes,
            is_eight_bit: envelope.is_eight_bit,
            is_smtp_utf8: envelope.is_smtp_utf8,
            envelope_id: envelope.envelope_id.clone(),
            returned: envelope.returned,
            client: envelope.client.clone(),
            recipients,
            is_flushed: message.lease.is_flushed(),
        };
        let handed = self.agents.hand(&request, Arc::clone(&message.file));
        let recipients: Vec<Option<Recipient>> = request.recipients.into_iter().map(Some).collect();
        self.running.insert(number, Running { queue_id, destination, recipients });
        if let Err(error) = handed {
            self.warn(&error.to_string());
            if let HandError::Connect { transport, .. } = error {
                let until = Instant::now().checked_add(self.settings.transport_retry);
                self.dead_transports.insert(transport, until.unwrap_or_else(Instant::now));
            }
            self.end_delivery(number, End::Served, None);
        }
    }

    /// A delivery is over; recipients without an outcome are deferred.
    fn end_delivery(&mut self, number: u64, end: End, blame: Option<Blame>) {
        let Some(running) = self.running.remove(&number) else { return };
        let Running { queue_id, destination, recipients } = running;
        self.agents.finished(&destination.transport, number);
        if let Some(blame) = blame {
            self.blames.insert(destination.clone(), blame);
        }
        let given_up = self.active.end(&destination, end, self.elapsed());
        let unavailable = Outcome::failed(status(4, 3, 0), "mail transport unavailable");
        for recipient in recipients.into_iter().flatten() {
            self.log_own(&queue_id, &recipient, &unavailable, Program::Error);
            self.settle(&queue_id, &recipient, &unavailable);
        }
        for (queue_id, waiting) in given_up {
            for each in waiting {
                self.suspend(&queue_id, &each.recipient, &destination);
            }
        }
    }
}

/// Where a recipient goes.
#[derive(Debug)]
struct Routed {
    transport: String,
    nexthop: String,
    by_relayhost: bool,
}

impl Routed {
    fn error(words: &str) -> Self {
        Self { transport: "error".into(), nexthop: words.into(), by_relayhost: false }
    }

    fn retry(words: &str) -> Self {
        Self { transport: "retry".into(), nexthop: words.into(), by_relayhost: false }
    }
}

/// The outcome that the words of an `error:` or `retry:` next-hop ask for. They may begin with a status; one of another class is
/// cut off.
fn worded(words: &str, class: u8) -> Outcome {
    let found = delivery::outcome::Status::parse(words.as_bytes());
    let rest = match found {
        Some(_) => words.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start()),
        None => words,
    };
    let rest = if rest.is_empty() { "Address is undeliverable" } else { rest };
    Outcome::failed(found.filter(|found| found.class == class).unwrap_or_else(|| status(class, 0, 0)), rest)
}

/// From one moment to a later one; nothing if the clock went back.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    let since_1970 = |at: Timestamp| {
        Duration::from_secs(at.seconds).saturating_add(Duration::from_micros(at.microseconds.into()))
    };
    since_1970(to).saturating_sub(since_1970(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Postfix 3.7 makes of right-hand sides of transport tables.
    #[test]
    fn words_of_error_and_retry_may_begin_with_a_status() {
        let told = |words, class| {
            let outcome = worded(words, class);
            (outcome.status.to_string(), outcome.reason, outcome.word)
        };
        assert_eq!(
            told("5.7.1 no such host here", 5),
            ("5.7.1".into(), "no such host here".into(), "bounced")
        );
        assert_eq!(told("no such host", 5), ("5.0.0".into(), "no such host".into(), "bounced"));
        assert_eq!(told("4.2.1 later", 5), ("5.0.0".into(), "later".into(), "bounced"));
        assert_eq!(told("later", 4), ("4.0.0".into(), "later".into(), "deferred"));
        assert_eq!(told("4.2.1 later", 4), ("4.2.1".into(), "later".into(), "deferred"));
    }

    #[test]
    fn wake_ups_are_postfix_s() {
        assert_eq!(Wake::of_bytes(b"W\0"), Wake { incoming: true, ..Wake::default() });
        let flush = Wake { deferred: true, ignores_times: true, revives: true, ..Wake::default() };
        assert_eq!(Wake::of_bytes(b"FAD"), flush);
        assert_eq!(Wake::of_bytes(b"x\n"), Wake::default());
    }
}
