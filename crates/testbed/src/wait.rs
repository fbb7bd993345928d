//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a condition may take that normally holds within milliseconds. Generous: a loaded machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `condition` yields a value; panics with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Polls until `condition` yields a value; `None` after `patience`.
pub fn within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
