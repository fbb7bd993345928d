//! Reports our state to systemd, or to the program that set `NOTIFY_SOCKET`: sd_notify(3), Type=notify-reload,
//! watchdog.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager above us, if there is one.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// How often the watchdog wants to hear from us, halved.
    ping_every: Option<Duration>,
    next_ping: Option<Instant>,
    /// While a stop takes longer.
    next_extension: Option<Instant>,
}

/// How much more time we ask for at once, as long as a stop waits for the disk; again after a third of it.
const EXTENSION: Duration = Duration::from_secs(30);

impl ServiceManager {
    /// Reads `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn new() -> Self {
        let ping_every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let next_ping = ping_every.map(|_| Instant::now());
        Self { ping_every, next_ping, next_extension: None }
    }

    /// We serve; `status` is shown to the operator. Also ends a reload.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins. systemd wants the time with it, to tell late messages of an earlier reload from this one's.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// We end.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// We end, and it takes longer than was said: `for_what` tells the operator why.
    pub(super) fn extend_stop(&mut self, for_what: &str) {
        let now = Instant::now();
        if self.next_extension.is_none_or(|next| next <= now) {
            let microseconds = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
            tell(&[NotifyState::ExtendTimeoutUsec(microseconds), NotifyState::Status(for_what)]);
            self.next_extension = now.checked_add(EXTENSION / 3);
        }
    }

    /// When the next extension has to be asked for.
    pub(super) const fn next_extension(&self) -> Option<Instant> {
        self.next_extension
    }

    /// When the watchdog is due next.
    pub(super) const fn next_ping(&self) -> Option<Instant> {
        self.next_ping
    }

    /// Pings the watchdog if it is time, and all is well.
    pub(super) fn ping(&mut self, is_well: bool) {
        let now = Instant::now();
        if let (Some(every), Some(next)) = (self.ping_every, self.next_ping)
            && next <= now
        {
            if is_well {
                tell(&[NotifyState::Watchdog]);
            }
            self.next_ping = now.checked_add(every);
        }
    }
}

/// A service manager that cannot be reached finds out by itself.
fn tell(state: &[NotifyState<'_>]) {
    let _nobody_listens = sd_notify::notify(state);
}
