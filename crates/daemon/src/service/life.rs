//! The life of a service process: it accepts, drains while a replacement takes over, and exits. What is heard from
//! outside; `drain` does the rest.
//!
//! ```text
//! accepting ──► giving way ──► draining ──► exit 0
//!    │   master closed the status channel, a table changed, max_use or max_idle
//!    └── SIGTERM ──► commits under way are answered (bounded) ──► exit 0
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use super::listener::{Listener, Process};
use super::program::Sessions;
use super::start::Inherited;
use super::status::StatusChannel;
use super::sync::select;
use super::worker::WorkerLink;
use super::{Service, drain};
use crate::inherited;

/// Lives until there is nothing left to do.
pub(super) async fn live<S: Sessions>(
    service: Arc<Service>,
    sessions: Arc<S>,
    sockets: Inherited,
    worker_link: Option<WorkerLink>,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let process_id =
        worker_link.as_ref().map_or_else(std::process::id, |worker_link| worker_link.known_process_id);
    let status = sockets.status.map(|socket| StatusChannel::new(socket, process_id, sockets.generation));
    let status = status.transpose()?;
    let known_process = worker_link.as_ref().map(|worker_link| {
        worker_link.known_process.try_clone().and_then(|pipe| inherited::watch(pipe, Interest::READABLE))
    });
    let known_process = known_process.transpose()?;
    if let Some(status) = &status {
        // Postfix's master counts us so from birth and ignores it; ours takes it for the end of our start.
        // It must be said before a client finds no permit and the opposite is said.
        status.reporter.ready();
    }
    let doors = sockets.listeners.into_iter();
    let doors = doors.map(|socket| Listener::inherit(socket, sockets.passes_connections));
    // Postfix's master can start another process for the clients that are too many for this one.
    let relief = status.as_ref().filter(|_| service.is_under_postfix);
    let life = drain::run(
        Arc::new(Process { service: Arc::clone(&service), sessions }),
        doors.collect::<io::Result<_>>()?,
        relief.map(|status| Arc::clone(&status.reporter)),
        &service.commits,
        async {
            select! {
                _ = terminate.recv() => {}
                () = service.too_old.notified() => {}
            }
        },
        successor_is_wanted(&service, status.as_ref(), known_process.as_ref()),
        || {
            // A master that counts us as waiting for clients would not start a replacement.
            if let Some(status) = &status {
                status.reporter.retire();
            }
            if let Some(worker_link) = worker_link {
                worker_link.begin_drain();
            }
        },
    );
    select! {
        () = life => {}
        () = beats(&service, status.as_ref()) => {}
    }
    Ok(())
}

/// Never ends.
async fn beats(service: &Service, status: Option<&StatusChannel>) {
    let silence_max = service.settings.qmqpd_hang_timeout;
    match status.filter(|_| !service.is_under_postfix && !silence_max.is_zero()) {
        Some(status) => status.beat(silence_max / BEATS_PER_TIMEOUT).await,
        None => std::future::pending().await,
    }
}

/// The master counts four ticks in that time, and there has to be a beat in each.
const BEATS_PER_TIMEOUT: u32 = 5;

/// Waits until a replacement should take over, for a reason from outside or because this process has served its share.
async fn successor_is_wanted(
    service: &Service,
    status: Option<&StatusChannel>,
    known_process: Option<&AsyncFd<OwnedFd>>,
) {
    let somebody_is_gone = async {
        match (known_process, status) {
            // It looks after the master, and knows more. No process writes into this pipe: only its end can be read.
            (Some(pipe), _) => drop(pipe.readable().await),
            (None, Some(status)) => status.closed().await,
            (None, None) => std::future::pending().await,
        }
    };
    let report_served = || status.into_iter().for_each(|status| status.reporter.report_served());
    // Our own master has nothing to gain from fresh processes, Postfix's counts on them.
    let limit_reached = service.usage.limit_reached(|| service.connection_limit.is_empty(), report_served);
    select! {
        () = somebody_is_gone => {}
        () = limit_reached, if service.is_under_postfix => {}
    }
}
