//! Journals of service processes that are gone. The master looks for them, and starts the process that settles them: at its own
//! start, when a process has ended, every half a minute, and once more when all processes have ended at a stop.

use std::path::Path;
use std::time::{Duration, Instant};

use postfix::notice::Severity;
use spool::UnixDisk;
use spool::journal::settlement::has_orphans;

use super::children::Outcome;
use super::start::{Command, environment};
use super::status_channel::StatusChannel;
use super::supervise::Master;
use crate::config::SETTLEMENT_TRANSPORT;

/// How often the master looks without a reason. A journal can be left by a process that it does not know.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long after a settlement that left something the next one is tried.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// When to look next, and what runs.
#[derive(Debug)]
pub(super) struct Settlement {
    disk: Option<UnixDisk>,
    running: Option<i32>,
    look_at: Instant,
    /// Nothing before this: the last one has left something.
    not_before: Instant,
    is_last_begun: bool,
    has_warned: bool,
}

impl Settlement {
    /// The first look is due at once.
    pub(super) fn new(queue: &Path, now: Instant) -> Self {
        let disk = UnixDisk::open(queue).ok();
        Self { disk, running: None, look_at: now, not_before: now, is_last_begun: false, has_warned: false }
    }

    /// When the master has to wake for it.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.running.is_none().then(|| self.look_at.max(self.not_before))
    }

    /// A process has ended, and may have left a journal.
    pub(super) const fn look_soon(&mut self, now: Instant) {
        self.look_at = now;
    }

    /// Whether a look is due; then the next one is planned.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_look().is_some_and(|at| at <= now);
        if is_due {
            self.look_at = now.checked_add(LOOK_EVERY).unwrap_or(now);
        }
        is_due
    }

    /// A process ended. Whether it was the one that settles.
    fn ended(&mut self, process_id: i32, outcome: Outcome, now: Instant) -> bool {
        if self.running != Some(process_id) {
            return false;
        }
        self.running = None;
        if outcome != Outcome::Exit(0) {
            self.not_before = now.checked_add(RETRY_DELAY).unwrap_or(now);
        }
        true
    }
}

impl Master {
    /// Looks for journals without a process, when it is time to.
    pub(super) fn look_for_journals(&mut self) {
        if self.stop.is_none() && self.settlement.is_due(Instant::now()) && self.has_orphans() {
            self.start_settlement();
        }
    }

    /// When all service processes have ended: settles what they left. Whether there is something to wait for.
    pub(super) fn settles_at_the_end(&mut self) -> bool {
        if self.settlement.running.is_some() {
            return true;
        }
        if std::mem::replace(&mut self.settlement.is_last_begun, true) {
            if self.has_orphans() {
                self.say(
                    Severity::Warning,
                    "journals of accepted messages remain in journal/; the next start settles them",
                );
            }
            return false;
        }
        self.has_orphans() && self.start_settlement()
    }

    /// Whether the process that ended was the one that settles journals; otherwise there may be one to look for.
    pub(super) fn settlement_ended(&mut self, process_id: i32, outcome: Outcome) -> bool {
        let now = Instant::now();
        if self.settlement.ended(process_id, outcome, now) {
            return true;
        }
        self.settlement.look_soon(now);
        false
    }

    fn has_orphans(&mut self) -> bool {
        let Some(disk) = &self.settlement.disk else { return false };
        match has_orphans(disk) {
            Ok(has_orphans) => has_orphans,
            Err(error) => {
                if !std::mem::replace(&mut self.settlement.has_warned, true) {
                    self.say(
                        Severity::Warning,
                        &format!("cannot search for journals of earlier processes: {error}"),
                    );
                }
                false
            }
        }
    }

    fn start_settlement(&mut self) -> bool {
        let Some(service) = self.config.services.first() else { return false };
        let command = Command {
            program: &service.program,
            name: &service.name,
            transport: Some(SETTLEMENT_TRANSPORT),
            process_limit: 1,
            unprivileged: service.unprivileged,
            chroot: service.chroot,
            addresses: &[],
            arguments: &service.arguments,
        };
        let variables = environment(
            &service.settings.import_environment,
            |name| std::env::var(name).ok(),
            &self.config.service_environment(),
            0,
        );
        let channel = StatusChannel::new(Instant::now()).map_err(|error| error.to_string());
        let started = channel.and_then(|(_near, far_end)| {
            let started = self.starter.start(&command.argv(), &variables, &far_end, &[]);
            started.map_err(|error| error.to_string())
        });
        match started {
            Ok(process_id) => {
                self.settlement.running = Some(process_id.as_raw());
                true
            }
            Err(error) => {
                self.say(
                    Severity::Warning,
                    &format!("cannot start a process that settles journals: {error}"),
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_the_start_after_each_end_and_now_and_then() {
        let start = Instant::now();
        let mut settlement = Settlement::new(Path::new("/nonexistent"), start);
        assert!(settlement.is_due(start));
        assert!(!settlement.is_due(start));
        assert_eq!(settlement.next_look(), Some(start + LOOK_EVERY));
        settlement.look_soon(start + Duration::from_secs(1));
        assert!(settlement.is_due(start + Duration::from_secs(1)));
        // While one runs there is nothing to look for.
        settlement.running = Some(7);
        assert_eq!(settlement.next_look(), None);
        assert!(!settlement.ended(8, Outcome::Exit(0), start));
        assert!(settlement.ended(7, Outcome::Exit(0), start));
        assert!(settlement.next_look().is_some());
    }

    #[test]
    fn what_cannot_be_settled_is_not_tried_again_at_once() {
        let start = Instant::now();
        for outcome in [Outcome::Exit(75), Outcome::Signal(9)] {
            let mut settlement = Settlement::new(Path::new("/nonexistent"), start);
            settlement.running = Some(7);
            assert!(settlement.ended(7, outcome, start));
            settlement.look_soon(start);
            assert_eq!(settlement.next_look(), Some(start + RETRY_DELAY));
        }
    }
}
