//! Whether the queue's file system has room for more: `qmqpd_free_space_min`.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is free, remembered for a moment.
#[derive(Debug)]
pub struct FreeSpace {
    /// In bytes; 0 is no limit, and the file system is not asked.
    min: u64,
    known: Mutex<Option<(Instant, u64)>>,
}

/// There is too little, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    free: u64,
    min: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { free, min } = self;
        write!(f, "{free} bytes are free on the queue's file system, qmqpd_free_space_min = {min}")
    }
}

impl FreeSpace {
    /// `min` as the parameter has it: 0 and less are no limit.
    #[must_use]
    pub fn new(min: i64) -> Self {
        Self { min: u64::try_from(min).unwrap_or(0), known: Mutex::new(None) }
    }

    /// Whether there is too little. The file system is asked by a thread that may wait, at most once a second for all sessions;
    /// one that does not answer counts as roomy: the write will tell.
    pub async fn shortage(&self) -> Option<Shortage> {
        if self.min == 0 {
            return None;
        }
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match known {
            Some((when, free)) if when.elapsed() < REMEMBERED => free,
            _ => {
                let asked = tokio::task::spawn_blocking(free_bytes);
                let free = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()??;
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), free));
                free
            }
        };
        (free < self.min).then_some(Shortage { free, min: self.min })
    }
}

/// What an unprivileged user may still fill. The queue is the working directory of a service process.
fn free_bytes() -> Option<u64> {
    let found = rustix::fs::statvfs(".").ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

const REMEMBERED: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(5);
