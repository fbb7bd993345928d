//! The receiving part of a session: bytes from the socket through the protocol machine into a back end.

use qmqp::server::{Event, Fault, Problem, Server};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::{Broken, Session};
use crate::submit::Handoff;
use crate::verdict::Ending;

/// What is read at a time: a typical message with its envelope in one system call.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What exists once a message has begun.
struct Letter<'s> {
    handoff: Handoff,
    /// Our share of `qmqpd_memory_limit`; given back when the message is done.
    _memory: SemaphorePermit<'s>,
}

impl<'s> Session<'s> {
    /// Receives one message and makes it durable.
    pub(super) async fn receive(&mut self) -> Ending {
        let mut machine = Server::new(self.service.protocol_limits());
        let mut letter = None;
        // An idle connection costs no buffer: it is taken when the first byte is there.
        if let Err(broken) = self.connection.readable(&self.patience).await {
            return ending_of(&broken, &machine);
        }
        let mut buffer = Vec::with_capacity(READ_BUFFER_BYTES);
        loop {
            buffer.clear();
            match self.connection.read(&mut buffer, &self.patience).await {
                Ok(0) => return Ending::Peer(machine.end_of_file()),
                Ok(_) => {}
                Err(broken) => return ending_of(&broken, &machine),
            }
            // A client that sends as fast as we read must not keep its thread from the other sessions.
            tokio::task::consume_budget().await;
            let mut input = buffer.as_slice();
            loop {
                match machine.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(Event::End)) => {
                        drop(buffer);
                        return self.commit(letter).await;
                    }
                    Ok(Some(event)) => {
                        if let Err(ending) = self.take(event, &mut letter).await {
                            return ending;
                        }
                    }
                    Err(fault) => return Ending::Peer(fault),
                }
            }
        }
    }

    async fn take(&mut self, event: Event<'_>, letter: &mut Option<Letter<'s>>) -> Result<(), Ending> {
        self.log.event(&event);
        if let Event::Begin { .. } = event {
            *letter = Some(self.begin().await?);
            return Ok(());
        }
        let Some(Letter { handoff, .. }) = letter else { return Ok(()) };
        match event {
            Event::Content(piece) => handoff.body(piece).await,
            Event::ContentEnd => handoff.end_of_body().await,
            Event::Sender(address) => handoff.sender(address).await,
            Event::Recipient(address) => handoff.recipient(address).await,
            Event::Begin { .. } | Event::ContentBegin { .. } | Event::End => {}
        }
        Ok(())
    }

    /// The client has sent a packet header: now it is worth memory and a queue file.
    async fn begin(&mut self) -> Result<Letter<'s>, Ending> {
        let memory = timeout(self.patience.operation, self.service.memory.acquire()).await;
        let Ok(Ok(memory)) = memory else { return Err(Ending::OutOfMemoryBudget) };
        let handoff = self.service.submit.open(self.client, self.arrived).await.map_err(Ending::Refused)?;
        if let Some(queue_id) = handoff.queue_id() {
            self.log.begin_message(queue_id);
        }
        Ok(Letter { handoff, _memory: memory })
    }

    async fn commit(&self, letter: Option<Letter<'_>>) -> Ending {
        // The machine ends only what it has begun.
        let Some(Letter { mut handoff, _memory }) = letter else { return Ending::ConfigurationError };
        if handoff.queue_id().is_none() {
            if let Err(refusal) = handoff.assign_queue_id().await {
                return Ending::Refused(refusal);
            }
            if let Some(queue_id) = handoff.queue_id() {
                self.log.begin_message(queue_id);
            }
        }
        let _under_way = self.service.commits.begin();
        match handoff.commit().await {
            Ok(receipt) => Ending::Queued(receipt),
            Err(refusal) => Ending::Refused(refusal),
        }
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
