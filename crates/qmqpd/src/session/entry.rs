//! Which client comes, and whether it may send: the part of a session before its first byte. A client that may not, or of
//! which that takes time to find out, must not keep the places of those who may.

use std::time::Duration;

use tokio::select;
use tokio::time::sleep;

use super::Context;
use crate::access::{Answer, Authorization};
use crate::client::Client;
use crate::peer::{Name, PeerName};
use crate::verdict::Ending;
use daemon::log::Program;
use daemon::peer_address::{PeerAddress, network};
use daemon::service::{Held, Permit, QuotaGuard, RejectSlot};

/// What a session has of the things of which there are only so many.
#[derive(Debug, Default)]
pub(super) struct Holdings<'s> {
    /// One of `qmqpd_connection_limit`.
    pub(super) permit: Option<Permit>,
    /// In its stead, a reject slot.
    pub(super) slot: Option<RejectSlot>,
    /// While it is not known whether the client may send.
    pub(super) guest: Option<Held<'s>>,
    /// As one of the sessions of its client.
    pub(super) session: Option<Held<'s>>,
    /// As one of the connections of its client.
    pub(super) connection: Option<Held<'s>>,
}

impl Holdings<'_> {
    /// Gives up the place for a reject slot, if there is one.
    pub(super) fn leave(&mut self, service: &Context) {
        if self.slot.is_none() {
            self.slot = service.connection_limit.try_reject_slot();
        }
        (self.permit, self.guest, self.session) = (None, None, None);
    }
}

/// What is known when the log says `connect from`.
pub(super) struct Met {
    pub(super) client: Client,
    /// The client as limits know it.
    pub(super) network: Option<std::net::IpAddr>,
    /// Whether it may send, where that is known, and was asked with the verbosity of all sessions.
    pub(super) answer: Option<Answer>,
    /// It cannot stay.
    pub(super) refusal: Option<Ending>,
}

/// Finds out who it is. A client that the list authorizes by what is known at once, or rejects, waits for its name briefly, for the
/// log; all others until the list has what it needs.
pub(super) async fn meet<'s>(
    service: &'s Context,
    peer: PeerAddress,
    quota_guard: &QuotaGuard<'_>,
    holdings: &mut Holdings<'s>,
) -> Met {
    let with_port = service.settings.qmqpd_client_port_logging;
    let network = peer.ip().map(|ip| network(service.names.canonical_address(ip)));
    let met = |client, answer, refusal| Met { client, network, answer, refusal };
    let Some(ip) = peer.ip() else {
        return met(Client::new(peer, &Name::Unknown, with_port), None, None);
    };
    let named = |found: &PeerName| {
        for notice in found.notices.iter().filter(|_| !quota_guard.is_silent()) {
            service.log.notice(Program::Service, notice);
        }
        Client::new(peer, &found.name, with_port)
    };
    let known = service.names.known(ip);
    let client = known.as_ref().map_or_else(|| Client::pending(peer, with_port), &named);
    let answer = service.access.authorize_at_once(&client, service.access.verbosity);
    match answer.as_ref().map(|answer| answer.authorization) {
        Some(Authorization::Granted) if known.is_some() => return met(client, answer, None),
        Some(Authorization::Granted) => {
            return match service.names.lookup_soon(ip).await {
                // The list is asked again: what it says to the log is to be about the client by its name.
                Some(found) => met(named(&found), None, None),
                None => met(client, answer, None),
            };
        }
        Some(Authorization::Denied | Authorization::Broken | Authorization::Busy) => {
            if known.is_some() {
                return met(client, answer, None);
            }
            holdings.leave(service);
            let Some(slot) = &holdings.slot else { return met(client, answer, None) };
            let found = select! {
                biased;
                found = service.names.lookup_soon(ip) => found,
                () = slot.wanted() => None,
            };
            return match found {
                Some(found) => met(named(&found), None, None),
                None => met(client, answer, None),
            };
        }
        Some(Authorization::Undetermined) | None => {}
    }
    holdings.guest = service.clients.guest(network);
    if holdings.guest.is_none() {
        return met(client, None, Some(Ending::TooManyConnections));
    }
    if known.is_some() {
        return met(client, None, None);
    }
    if let Some(found) = service.names.lookup_soon(ip).await {
        return met(named(&found), None, None);
    }
    if answer.is_none() {
        let answer = service.access.authorize(&client, service.access.verbosity).await;
        if answer.authorization != Authorization::Undetermined {
            return met(client, Some(answer), None);
        }
    }
    met(named(&service.names.lookup(ip).await), None, None)
}

/// A place for a client that found none, if it may send, and one is free before another client wants its seat.
pub(super) async fn place_after_all(
    service: &Context,
    peer: PeerAddress,
    slot: &RejectSlot,
) -> Option<Permit> {
    let with_port = service.settings.qmqpd_client_port_logging;
    let client = match peer.ip() {
        None => Client::new(peer, &Name::Unknown, with_port),
        Some(ip) => match service.names.known(ip) {
            Some(found) => Client::new(peer, &found.name, with_port),
            None => Client::pending(peer, with_port),
        },
    };
    let answer = service.access.authorize_at_once(&client, service.access.verbosity)?;
    if answer.authorization != Authorization::Granted {
        return None;
    }
    select! {
        permit = service.connection_limit.permit() => permit,
        () = sleep(PLACE_WAIT_MAX) => None,
        () = slot.wanted() => None,
    }
}

/// How long a client that may send waits for a place: those who have theirs may be strangers whose turn to run has not come.
const PLACE_WAIT_MAX: Duration = Duration::from_millis(500);

/// What a client that may send, or may not, has used up.
pub(super) async fn within_limits<'s>(
    service: &'s Context,
    met: &Met,
    is_granted: bool,
    holdings: &mut Holdings<'s>,
) -> Result<(), Ending> {
    if is_granted {
        holdings.guest = None;
        holdings.session = service.clients.session(met.network, service.connection_limit.free_places());
        if holdings.permit.is_some() && holdings.session.is_none() {
            return Err(Ending::TooManyConnections);
        }
        if service.access.all_authorized_are_exempt() {
            return Ok(());
        }
    }
    let (connection, excess) = service.clients.connection(met.network, daemon::service::now().seconds);
    holdings.connection = Some(connection);
    match excess {
        Some(excess) if !service.access.is_exempt(&met.client).await => {
            Err(Ending::OverLimit(excess, met.client.address.clone()))
        }
        _ => Ok(()),
    }
}
