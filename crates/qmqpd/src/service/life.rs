//! The life of a service process: it accepts, gives way to a successor, drains, ends.
//!
//! ```text
//! accepting ──► giving way ──► draining ──► exit 0
//!    │   master closed the status channel, a table changed, max_use or max_idle
//!    └── SIGTERM ──► commits under way are answered (bounded) ──► exit 0
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use postfix::child::State;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Service;
use crate::inherited;

use super::accept::{self, Listener};
use super::start::Inherited;
use super::status::StatusChannel;
use super::worker::Ties;

/// Lives until there is nothing left to do.
pub(super) async fn live(service: Arc<Service>, sockets: Inherited, ties: Option<Ties>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let process_id = ties.as_ref().map_or_else(std::process::id, |ties| ties.known_process_id);
    let status = sockets.status.map(|socket| StatusChannel::new(socket, process_id, sockets.generation));
    let status = status.transpose()?.map(Arc::new);
    let known_process = ties.as_ref().map(|ties| {
        ties.known_process.try_clone().and_then(|pipe| inherited::watch(pipe, Interest::READABLE))
    });
    let known_process = known_process.transpose()?;
    if let Some(status) = &status {
        // Postfix's master counts us so from birth and ignores it; ours takes it for the end of our start.
        // It must be said before somebody finds no place and says the contrary.
        status.report(State::Available);
    }
    let mut accepting = JoinSet::new();
    // Postfix's master can start another process for the clients that are too many for this one.
    let relief = status.clone().filter(|_| service.is_under_postfix);
    for socket in sockets.listeners {
        let listener = Listener::inherit(socket, sockets.passes_connections)?;
        let give_way = service.give_way.subscribe();
        accepting.spawn(accept::run(Arc::clone(&service), listener, relief.clone(), give_way));
    }
    tokio::select! {
        _ = terminate.recv() => {
            service.give_way("");
            // A message that is durable but not yet answered would be sent again.
            let _ = timeout(LAST_REPLIES_TIME_MAX, service.commits.finished()).await;
            return Ok(());
        }
        () = reason_to_give_way(&service, status.as_deref(), known_process.as_ref()) => {}
    }
    while accepting.join_next().await.is_some() {}
    match (ties, &status) {
        (Some(ties), _) => ties.give_way(),
        // Whoever counts us as waiting for clients would start no successor.
        (None, Some(status)) => status.report(State::Taken),
        (None, None) => {}
    }
    tokio::select! {
        _ = terminate.recv() => {
            let _ = timeout(LAST_REPLIES_TIME_MAX, service.commits.finished()).await;
        }
        () = drained(&service) => {}
    }
    Ok(())
}

/// Waits until a successor should take over, and tells the accepting tasks.
async fn reason_to_give_way(
    service: &Service,
    status: Option<&StatusChannel>,
    known_process: Option<&AsyncFd<OwnedFd>>,
) {
    let master_is_gone = async {
        match status {
            // The known process looks after that, and knows more.
            Some(_) if known_process.is_some() => std::future::pending().await,
            Some(status) => status.closed().await,
            None => std::future::pending().await,
        }
    };
    let known_process_is_gone = async {
        match known_process {
            // Nobody writes into this pipe: what can be read is its end.
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    };
    let mut give_way = service.give_way.subscribe();
    tokio::select! {
        () = known_process_is_gone => service.give_way(""),
        () = master_is_gone => service.give_way(""),
        () = worn_out(service, status), if service.is_under_postfix => service.give_way(""),
        _ = give_way.wait_for(|is_over| *is_over) => {}
    }
}

/// Our own master has nothing to gain from fresh processes, Postfix's counts on them.
async fn worn_out(service: &Service, status: Option<&StatusChannel>) {
    let is_idle = || service.connections.available_permits() == service.connections_max;
    service.wear.worn_out(is_idle, || status.into_iter().for_each(StatusChannel::prove)).await;
}

/// Waits for the last session.
async fn drained(service: &Service) {
    let all = u32::try_from(service.connections_max).unwrap_or(u32::MAX);
    // An error would mean that somebody closed the semaphore; nobody does.
    let _ = service.connections.acquire_many(all).await;
}

/// How long a stop waits for the disk, for messages that are complete.
const LAST_REPLIES_TIME_MAX: Duration = Duration::from_secs(3);
