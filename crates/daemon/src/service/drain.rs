//! From accepting to the end of the process, whatever its sockets are.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::accept::{self, Server};
use super::commits::Commits;
use super::status::Reporter;
use super::sync::{JoinSet, select, timeout};

/// Accepts at `doors` until a successor is wanted, says so with `hand_over` when no client is taken any more, and returns
/// with the last session. When it is `terminated`, it returns with the last reply that is due.
pub(super) async fn run<H: Server>(
    server: Arc<H>,
    doors: Vec<H::Acceptor>,
    relief: Option<Arc<Reporter>>,
    commits: &Commits,
    terminated: impl Future<Output = ()>,
    successor_is_wanted: impl Future<Output = ()>,
    hand_over: impl FnOnce(),
) {
    let mut terminated = pin!(terminated);
    let mut over = server.connection_limit().watch();
    let mut accepting = JoinSet::new();
    for acceptor in doors {
        accepting.spawn(accept::run(Arc::clone(&server), acceptor, relief.clone()));
    }
    select! {
        () = &mut terminated => {
            server.begin_drain("");
            return last_replies(commits).await;
        }
        () = successor_is_wanted => server.begin_drain(""),
        _ = over.wait_for(|is_over| *is_over) => {}
    }
    while accepting.join_next().await.is_some() {}
    hand_over();
    select! {
        () = &mut terminated => last_replies(commits).await,
        () = server.connection_limit().drained() => {}
    }
}

async fn last_replies(commits: &Commits) {
    let _ = timeout(LAST_REPLIES_TIME_MAX, commits.finish()).await;
}

/// How long a stop waits for the disk, for messages that are complete.
const LAST_REPLIES_TIME_MAX: Duration = Duration::from_secs(3);
