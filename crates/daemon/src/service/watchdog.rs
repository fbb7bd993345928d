//! Ends a process whose sessions no longer move, so that the master can start another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postfix::notice::Severity;

use crate::log::{Log, Program};

/// Starts the beat, a task, and the thread that listens for it. When the runtime has run no task for `daemon_timeout`, the
/// process ends with Postfix's words. Needs the runtime.
pub(super) fn start(daemon_timeout: Duration, log: &Log) -> io::Result<()> {
    let beats = Arc::new(AtomicU64::new(0));
    let interval = (daemon_timeout / BEATS_PER_TIMEOUT).max(BEAT_INTERVAL_MIN);
    let heart = Arc::clone(&beats);
    tokio::spawn(async move {
        loop {
            heart.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(interval).await;
        }
    });
    let log = log.clone();
    let thread = std::thread::Builder::new().name("watchdog".to_owned()).stack_size(64 * 1024);
    thread.spawn(move || {
        let mut watch = Watch::new(daemon_timeout, Instant::now());
        loop {
            std::thread::sleep(interval);
            if watch.has_stopped(beats.load(Ordering::Relaxed), Instant::now()) {
                log.write(Program::Service, Severity::Fatal, "watchdog timeout");
                log.flush();
                std::process::exit(1);
            }
        }
    })?;
    Ok(())
}

/// Decides, from the count of beats and the time.
struct Watch {
    timeout: Duration,
    beats: u64,
    since: Instant,
}

impl Watch {
    const fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, beats: 0, since: now }
    }

    fn has_stopped(&mut self, beats: u64, now: Instant) -> bool {
        if beats != self.beats {
            self.beats = beats;
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= self.timeout
    }
}

const BEATS_PER_TIMEOUT: u32 = 4;
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_heart_that_stands_still_for_the_whole_time_has_stopped() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::new(Duration::from_secs(10), start);
        assert!(!watch.has_stopped(1, after(9)));
        assert!(!watch.has_stopped(2, after(18)));
        assert!(!watch.has_stopped(2, after(27)));
        assert!(watch.has_stopped(2, after(28)));
    }
}
