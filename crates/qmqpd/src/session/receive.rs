//! The receiving part of a session: bytes from the socket through the protocol machine into a back end.

use std::sync::Arc;

use qmqp::server::{Event, Fault, Problem, Server};
use tokio::time::{Instant, timeout};

use super::presence::Presence;
use super::whole::{Whole, piece_of};
use super::{Broken, Session, Timeouts};
use crate::verdict::Ending;
use daemon::service::{Excess, MemoryShare};
use intake::{Handoff, Piece};

/// What is read first: a typical message with its envelope in one system call.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What is read at a time of a message that does not fit in there.
const LARGE_READ_BUFFER_BYTES: usize = 64 * 1024;

/// What a back end gets at a time, so that what it makes of it stays small: a record for each line, be it empty.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// What exists once a message has begun.
struct Letter {
    handoff: Handoff,
    /// Our share of `qmqpd_memory_limit`; given back when the message is done.
    _memory: MemoryShare,
    /// How fast it comes.
    pace: Pace,
    /// For those who work on it: whether the client is still there.
    presence: Arc<Presence>,
}

/// What has come since a moment that is at most `qmqpd_stress_timeout` ago.
pub(super) struct Pace {
    pub(super) since: Instant,
    pub(super) bytes: usize,
}

/// Less than this within `qmqpd_stress_timeout` is not worth a share of the memory that others wait for.
const STRESS_BYTES_MIN: usize = 1024;

impl Session<'_> {
    /// Receives one message and makes it durable.
    pub(super) async fn receive(&mut self) -> Ending {
        let mut machine = Server::new(self.service.protocol_limits());
        let ending = self.receive_into(&mut machine).await;
        // What was read already does not come again.
        self.unread = match ending {
            // It has had its time.
            Ending::Deadline(_) => 0,
            _ => machine.outstanding().saturating_sub(self.unread),
        };
        ending
    }

    /// Leaves in `unread` what it has read, and the machine has not taken.
    async fn receive_into(&mut self, machine: &mut Server) -> Ending {
        let mut letter = None;
        // An idle connection costs no buffer: it is taken when the first byte is there.
        if let Err(broken) = self.connection.readable(&self.timeouts).await {
            return ending_of(&broken, machine);
        }
        let mut buffer = Vec::with_capacity(READ_BUFFER_BYTES);
        let mut is_first = true;
        loop {
            if buffer.len() == READ_BUFFER_BYTES && buffer.capacity() < LARGE_READ_BUFFER_BYTES {
                buffer = Vec::with_capacity(LARGE_READ_BUFFER_BYTES);
            }
            buffer.clear();
            match self.read(&mut buffer, letter.as_mut().map(|letter: &mut Letter| &mut letter.pace)).await {
                Ok(0) => return Ending::Peer(machine.end_of_file()),
                Ok(_) => {}
                Err(Stop::Broken(broken)) => return ending_of(&broken, machine),
                Err(Stop::GaveWay) => return Ending::OutOfMemoryBudget,
            }
            if std::mem::take(&mut is_first) {
                match self.take_whole(buffer).await {
                    Ok(ending) => return ending,
                    Err(untouched) => buffer = untouched,
                }
            }
            // A client that sends as fast as we read must not keep its thread from the other sessions.
            tokio::task::consume_budget().await;
            let mut input = buffer.as_slice();
            loop {
                if let Some(letter) = &letter {
                    letter.presence.awaits(machine.outstanding().saturating_sub(input.len() as u64));
                }
                match machine.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(Event::End)) => {
                        drop(buffer);
                        return self.commit(letter).await;
                    }
                    Ok(Some(event)) => {
                        if let Err(ending) = self.take(event, &mut letter).await {
                            self.unread = input.len() as u64;
                            return ending;
                        }
                    }
                    Err(fault) => {
                        self.unread = input.len() as u64;
                        return Ending::Peer(fault);
                    }
                }
            }
        }
    }

    /// Reads what is there. While there is no memory for a further message of this client, a stalled one is ended:
    /// a few hundred that stop in the middle would hold up all others for `qmqpd_timeout`.
    pub(super) async fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        pace: Option<&mut Pace>,
    ) -> Result<usize, Stop> {
        let Some(pace) = pace else { return Ok(self.connection.read(buffer, &self.timeouts).await?) };
        let until = Instant::now() + self.timeouts.operation;
        loop {
            let window_end = pace.since + self.service.settings.qmqpd_stress_timeout;
            let wait = window_end.min(until).saturating_duration_since(Instant::now());
            let timeouts = Timeouts { operation: wait, deadline: self.timeouts.deadline };
            let read = self.connection.read(buffer, &timeouts).await;
            pace.bytes = pace.bytes.saturating_add(*read.as_ref().unwrap_or(&0));
            let now = Instant::now();
            if now >= window_end {
                let is_slow = pace.bytes < STRESS_BYTES_MIN;
                *pace = Pace { since: now, bytes: 0 };
                if is_slow && self.service.memory.is_exhausted_for(self.network) {
                    return Err(Stop::GaveWay);
                }
            }
            match read {
                Err(Broken::Timeout) if now < until => {}
                read => return Ok(read?),
            }
        }
    }

    /// Has a message made durable in one go, if the first read has brought all of it, as it does with most, and there is a
    /// shorter way for it. Otherwise what was read comes back.
    async fn take_whole(&mut self, read: Vec<u8>) -> Result<Ending, Vec<u8>> {
        if !self.service.backend.has_short_way() || self.is_limited || self.log.shows_protocol() {
            return Err(read);
        }
        let request = Whole::new(read, self.service.protocol_limits())?;
        let _memory = match self.memory().await {
            Ok(memory) => memory,
            Err(ending) => return Ok(ending),
        };
        self.log.begin_message();
        self.under_way = Some(self.service.commits.begin().await);
        let name = self.log.name();
        match self.service.backend.take_whole(self.client.origin(), self.arrived, name, request).await {
            Ok(taken) => Ok(taken.map_or_else(Ending::Refused, Ending::Queued)),
            Err(untouched) => {
                self.under_way = None;
                Err(untouched.into_bytes())
            }
        }
    }

    /// A share of `qmqpd_memory_limit`, when there is one, and room on the disk.
    async fn memory(&self) -> Result<MemoryShare, Ending> {
        if let Some(shortage) = self.service.space.shortage().await {
            return Err(Ending::OutOfSpace(shortage));
        }
        match timeout(self.timeouts.operation, self.service.memory.share(self.network)).await {
            Ok(Some(memory)) => Ok(memory),
            _ => Err(Ending::OutOfMemoryBudget),
        }
    }

    async fn take(&mut self, event: Event<'_>, letter: &mut Option<Letter>) -> Result<(), Ending> {
        self.log.event(&event);
        if let Event::Begin { .. } = event {
            *letter = Some(self.begin().await?);
            return Ok(());
        }
        let Some(Letter { handoff, .. }) = letter else { return Ok(()) };
        match piece_of(event) {
            None => {}
            Some(Piece::Content(bytes)) => {
                for piece in bytes.chunks(PIECE_BYTES_MAX) {
                    handoff.feed(Piece::Content(piece)).await;
                }
            }
            Some(piece) => {
                if let Piece::Recipient(_) = piece {
                    self.recipients = self.recipients.saturating_add(1);
                    if self.is_limited
                        && let Some(excess) = self.service.clients.too_many_at_once(self.recipients)
                    {
                        return Err(self.over_limit(excess));
                    }
                }
                handoff.feed(piece).await;
            }
        }
        Ok(())
    }

    /// The client has sent a packet header: now it is worth memory and a queue file.
    async fn begin(&mut self) -> Result<Letter, Ending> {
        if self.is_limited
            && let Some(excess) = self.service.clients.message(self.network, daemon::service::now().seconds)
        {
            return Err(self.over_limit(excess));
        }
        let memory = self.memory().await?;
        self.log.begin_message();
        let presence = Arc::new(self.connection.presence());
        let asker = Arc::<Presence>::clone(&presence);
        let opened =
            self.service.backend.open(self.client.origin(), self.arrived, asker, self.log.name()).await;
        let handoff = opened.map_err(Ending::Refused)?;
        let pace = Pace { since: Instant::now(), bytes: 0 };
        Ok(Letter { handoff, _memory: memory, pace, presence })
    }

    fn over_limit(&self, excess: Excess) -> Ending {
        Ending::OverLimit(excess, self.client.address.clone())
    }

    async fn commit(&mut self, letter: Option<Letter>) -> Ending {
        // The machine ends only what it has begun.
        let Some(Letter { mut handoff, _memory, .. }) = letter else { return Ending::ConfigurationError };
        if self.is_limited
            && let Some(excess) =
                self.service.clients.recipients(self.network, self.recipients, daemon::service::now().seconds)
        {
            return self.over_limit(excess);
        }
        if let Err(refusal) = handoff.complete(self.log.name()).await {
            return Ending::Refused(refusal);
        }
        self.under_way = Some(self.service.commits.begin().await);
        // On the heap, where it costs nothing to a session that only waits: its state is larger than all else of a session.
        match Box::pin(handoff.commit()).await {
            Ok(receipt) => Ending::Queued(receipt),
            Err(refusal) => Ending::Refused(refusal),
        }
    }
}

/// Why no more is read.
pub(super) enum Stop {
    Broken(Broken),
    /// To messages that wait for memory.
    GaveWay,
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn ending_of(broken: &Broken, machine: &Server) -> Ending {
    let phase = machine.phase();
    match broken {
        Broken::Lost => Ending::Peer(machine.end_of_file()),
        Broken::Timeout => Ending::Peer(Fault { problem: Problem::Timeout, phase }),
        Broken::Deadline => Ending::Deadline(phase),
    }
}
