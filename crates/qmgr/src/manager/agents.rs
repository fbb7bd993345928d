//! The connections to delivery agents: `private/NAME` in the queue directory, one for each transport in use.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender as EventSender;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::work::Event;
use crate::request::Request;
use crate::wire::{Channel, InvalidFrame, decode_answer, encode_request};

/// A request on its way to an agent.
type Parcel = (Vec<u8>, Arc<OwnedFd>);

/// The agents that are connected.
#[derive(Debug)]
pub(super) struct Agents {
    runtime: Handle,
    events: EventSender<Event>,
    connected: HashMap<String, Agent>,
    /// Tells one connection of a transport from the next.
    next: u64,
}

#[derive(Debug)]
struct Agent {
    connection: u64,
    parcels: mpsc::UnboundedSender<Parcel>,
    /// Requests without an end, by number.
    outstanding: HashSet<u64>,
}

/// Why a request could not be handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandError {
    /// The agent cannot be reached.
    #[error("connect to transport private/{transport}: {}", words_of(source))]
    Connect {
        /// Its name.
        transport: String,
        /// What the system said.
        source: io::Error,
    },
    /// The request does not fit.
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
}

/// What the system said, without its number: the words of strerror(3), as Postfix logs them.
fn words_of(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or_default().to_owned()
}

impl Agents {
    pub(super) fn new(runtime: Handle, events: EventSender<Event>) -> Self {
        Self { runtime, events, connected: HashMap::new(), next: 0 }
    }

    /// Hands a request over. How many wait here is bounded by the windows of the destinations.
    pub(super) fn hand(&mut self, request: &Request, file: Arc<OwnedFd>) -> Result<(), HandError> {
        let frame = encode_request(request)?;
        let transport = &request.transport;
        if !self.connected.contains_key(transport) {
            let agent = self
                .connect(transport)
                .map_err(|source| HandError::Connect { transport: transport.clone(), source })?;
            self.connected.insert(transport.clone(), agent);
        }
        if let Some(agent) = self.connected.get_mut(transport) {
            agent.outstanding.insert(request.number);
            // A connection that has ended is told by its reader, with all that is outstanding.
            let _told_by_reader = agent.parcels.send((frame, file));
        }
        Ok(())
    }

    /// A delivery is over.
    pub(super) fn finished(&mut self, transport: &str, number: u64) {
        if let Some(agent) = self.connected.get_mut(transport) {
            agent.outstanding.remove(&number);
        }
    }

    /// A connection has ended: what it had not finished, in the order of the requests.
    pub(super) fn gone(&mut self, transport: &str, connection: u64) -> Vec<u64> {
        let is_it = self.connected.get(transport).is_some_and(|agent| agent.connection == connection);
        let agent = if is_it { self.connected.remove(transport) } else { None };
        let mut numbers: Vec<u64> = agent.map(|agent| agent.outstanding).into_iter().flatten().collect();
        numbers.sort_unstable();
        numbers
    }

    fn connect(&mut self, transport: &str) -> io::Result<Agent> {
        // No slash: the name comes from a table.
        if transport.contains('/') || transport.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let socket = UnixStream::connect(format!("private/{transport}"))?;
        socket.set_nonblocking(true)?;
        let _inside = self.runtime.enter();
        let Channel { mut sender, mut receiver } = Channel::new(tokio::net::UnixStream::from_std(socket)?);
        let (parcels, mut waiting) = mpsc::unbounded_channel::<Parcel>();
        let connection = self.next;
        self.next = self.next.wrapping_add(1);
        self.runtime.spawn(async move {
            while let Some((frame, file)) = waiting.recv().await {
                if sender.send(&frame, Some(file.as_fd())).await.is_err() {
                    return;
                }
            }
        });
        let (events, transport) = (self.events.clone(), transport.to_owned());
        self.runtime.spawn(async move {
            let words = loop {
                match receiver.receive().await {
                    Ok(Some(frame)) => match decode_answer(&frame) {
                        Ok(answer) => {
                            if events.send(Event::Answer(answer)).is_err() {
                                return;
                            }
                        }
                        Err(error) => break error.to_string(),
                    },
                    Ok(None) => break "the agent has closed the connection".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let _ended = events.send(Event::AgentGone { transport, connection, words });
        });
        Ok(Agent { connection, parcels, outstanding: HashSet::new() })
    }
}
