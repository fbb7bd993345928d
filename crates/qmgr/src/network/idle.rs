//! Connections that wait a moment for more mail to the same host (Postfix's scache(8)).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;

/// How often connections that have waited long enough are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// The connections, by host, address and port.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    shared: Arc<Mutex<WaitingSessions>>,
    idle_max: Duration,
    age_max: Duration,
    connections_max: usize,
}

#[derive(Debug, Default)]
struct WaitingSessions {
    waiting: HashMap<String, Vec<(Session, Instant)>>,
    count: usize,
    has_sweeper: bool,
}

impl Idle {
    pub(super) fn new(idle_max: Duration, age_max: Duration, connections_max: usize) -> Self {
        Self { shared: Arc::default(), idle_max, age_max, connections_max }
    }

    /// A connection to this host that still serves, as far as can be told without asking.
    pub(super) fn take(&self, host: &str) -> Option<Session> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        let mut taken = 0_usize;
        let list = state.waiting.get_mut(host)?;
        // The one that waits for the shortest time.
        while let Some((session, since)) = list.pop() {
            taken += 1;
            if since.elapsed() < self.idle_max && session.is_quiet() {
                found = Some(session);
                break;
            }
        }
        if list.is_empty() {
            state.waiting.remove(host);
        }
        state.count = state.count.saturating_sub(taken);
        found
    }

    /// Lets a connection wait. It is given back if it may not: it is too old, or too many wait already.
    pub(super) fn put(&self, host: String, session: Session) -> Option<Session> {
        if self.idle_max.is_zero() || session.age() >= self.age_max {
            return Some(session);
        }
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.count >= self.connections_max {
            return Some(session);
        }
        state.count += 1;
        state.waiting.entry(host).or_default().push((session, Instant::now()));
        if !std::mem::replace(&mut state.has_sweeper, true) {
            tokio::spawn(sweep(Arc::clone(&self.shared), self.idle_max));
        }
        None
    }
}

/// Says good-bye on connections that have waited long enough, until none is left.
async fn sweep(shared: Arc<Mutex<WaitingSessions>>, idle_max: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let (over, is_done) = {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let mut over = Vec::new();
            for list in state.waiting.values_mut() {
                over.extend(list.extract_if(.., |(_, since)| since.elapsed() >= idle_max));
            }
            state.waiting.retain(|_, list| !list.is_empty());
            state.count = state.count.saturating_sub(over.len());
            state.has_sweeper = state.count > 0;
            (over, !state.has_sweeper)
        };
        for (mut session, _) in over {
            session.quit().await;
        }
        if is_done {
            return;
        }
    }
}
