//! Taking clients, and giving way to a successor.

use std::io;
use std::sync::Arc;

use super::connection_limit::{ConnectionLimit, Permit, RejectSlot};
use super::status::Reporter;
use super::sync::{select, spawn, yield_now};
use super::usage::Usage;

/// Where clients arrive.
pub(super) trait Acceptor: Send + Sync + 'static {
    /// Who comes through it.
    type Accepted: Send + 'static;

    /// Waits until a client is there, without accepting it.
    fn wait_for_client(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Accepts one; `None` if another process was faster, or no client is left.
    fn accept(&self) -> io::Result<Option<Self::Accepted>>;
}

/// What is done with those who come.
pub(super) trait Server: Send + Sync + 'static {
    /// Where they come from.
    type Acceptor: Acceptor;

    /// The places.
    fn connection_limit(&self) -> &ConnectionLimit;

    /// How much it has been used.
    fn usage(&self) -> &Usage;

    /// Why a process with fresh tables should take the next client, if one should.
    fn is_outdated(&self) -> Option<String>;

    /// All places are taken, and the master may start another process.
    fn full(&self);

    /// Stops accepting: a replacement takes over, and this process exits with its last session.
    fn begin_drain(&self, reason: &str);

    /// Serves a client to the end. The place is given back when all that is left is to tell the client that it may not send.
    fn serve(
        self: Arc<Self>,
        accepted: <Self::Acceptor as Acceptor>::Accepted,
        permit: Permit,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Tells a client that the connection limit is reached.
    fn turn_away(
        self: Arc<Self>,
        accepted: <Self::Acceptor as Acceptor>::Accepted,
        slot: RejectSlot,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// No client could be accepted. Returns when it is worth another try.
    fn failed(&self, error: &io::Error) -> impl Future<Output = ()> + Send;
}

/// Accepts until a successor does. Where `relief` is there, clients that are too many wait in the backlog, for a place here
/// or for another process; elsewhere they are turned away.
pub(super) async fn run<H: Server>(server: Arc<H>, acceptor: H::Acceptor, relief: Option<Arc<Reporter>>) {
    let mut over = server.connection_limit().watch();
    loop {
        let ready = select! {
            biased;
            _ = over.wait_for(|is_over| *is_over) => return,
            ready = acceptor.wait_for_client() => ready,
        };
        if let Err(error) = ready {
            server.failed(&error).await;
            continue;
        }
        for taken in 0..=ACCEPT_BATCH {
            if taken == ACCEPT_BATCH {
                // Places of clients who may not send are free again when their tasks have run.
                yield_now().await;
                break;
            }
            // Asked before each client is taken: it is still in the backlog for a process with the new table.
            if let Some(reason) = server.is_outdated() {
                server.begin_drain(&reason);
                return;
            }
            let mut permit = server.connection_limit().try_permit();
            if let (None, Some(relief)) = (&permit, &relief) {
                server.full();
                permit = select! {
                    biased;
                    _ = over.wait_for(|is_over| *is_over) => return,
                    permit = wait_for_permit(server.connection_limit(), relief) => permit,
                };
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => start_session(&server, accepted, permit),
                no_client => {
                    drop(permit);
                    server.usage().none_came();
                    if let Err(error) = no_client {
                        server.failed(&error).await;
                    }
                    break;
                }
            }
        }
    }
}

/// Meanwhile the master may start another process, as it does for a process of Postfix that is busy.
async fn wait_for_permit(connection_limit: &ConnectionLimit, relief: &Reporter) -> Option<Permit> {
    let report_full = relief.report_full();
    let permit = connection_limit.permit().await;
    report_full.end();
    permit
}

fn start_session<H: Server>(
    server: &Arc<H>,
    accepted: <H::Acceptor as Acceptor>::Accepted,
    permit: Option<Permit>,
) {
    let server = Arc::clone(server);
    if let Some(permit) = permit {
        spawn(async move {
            Arc::clone(&server).serve(accepted, permit).await;
            server.usage().session_ended();
        });
    } else if let Some(slot) = server.connection_limit().try_reject_slot() {
        spawn(server.turn_away(accepted, slot));
    }
}

/// Clients taken in a row before other work.
const ACCEPT_BATCH: usize = 16;
