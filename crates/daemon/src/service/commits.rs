//! Messages between their durability and their reply.

use std::sync::PoisonError;

use super::sync::{Mutex, Notify};

/// Counts messages whose client has heard no reply although they may be durable already, so that a stop can wait for
/// these replies: a client without one sends its message again.
#[derive(Debug, Default)]
pub struct Commits {
    count: Mutex<Count>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Count {
    under_way: usize,
    is_closed: bool,
}

/// A commit under way, until it is dropped: after its reply.
#[derive(Debug)]
pub struct Commit<'c>(&'c Commits);

impl Commits {
    /// A commit begins. It never does when the process is about to end: the client, which has heard nothing, sends its
    /// message again, and there must not be two of it.
    pub async fn begin(&self) -> Commit<'_> {
        match self.try_begin() {
            Some(commit) => commit,
            None => std::future::pending().await,
        }
    }

    fn try_begin(&self) -> Option<Commit<'_>> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.is_closed {
            return None;
        }
        count.under_way = count.under_way.saturating_add(1);
        Some(Commit(self))
    }

    /// Lets none begin any more, and waits until none is under way.
    pub async fn finish(&self) {
        loop {
            // Before the look: what ends after it is heard.
            let changed = self.changed.notified();
            if self.close() == 0 {
                return;
            }
            changed.await;
        }
    }

    fn close(&self) -> usize {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.is_closed = true;
        count.under_way
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.under_way = count.under_way.saturating_sub(1);
        let is_last = count.under_way == 0;
        drop(count);
        if is_last {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether it ends without anything else happening.
    async fn ends(future: impl Future) -> bool {
        let mut future = pin!(future);
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_stop_waits_for_all_that_are_under_way_and_lets_none_begin() {
        let commits = Commits::default();
        let (first, second) = (commits.begin().await, commits.begin().await);
        let mut finish = pin!(commits.finish());
        assert!(!ends(finish.as_mut()).await);
        drop(first);
        assert!(!ends(finish.as_mut()).await, "one is under way");
        assert!(!ends(commits.begin()).await, "a new one waits for ever");
        drop(second);
        timeout(Duration::from_secs(60), finish).await.expect("the last one has ended");
        assert!(ends(commits.finish()).await, "nothing is under way");
    }
}
