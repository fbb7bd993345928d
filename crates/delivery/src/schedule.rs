//! When a message is tried again, when its sender is told of a delay, and when it is given up.
//!
//! Times are seconds since 1970; one number a message, whatever its recipients ran into (Postfix's way: the modification
//! time of its queue file is the time of the next attempt).

/// The parameters that decide (postconf(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `minimal_backoff_time`, seconds.
    pub minimal_backoff_secs: u64,
    /// `maximal_backoff_time`, seconds.
    pub maximal_backoff_secs: u64,
    /// `maximal_queue_lifetime`, seconds. 0: one attempt.
    pub lifetime_secs: u64,
    /// `bounce_queue_lifetime`, seconds: the same for mail from the null sender. Not above `lifetime_secs`.
    pub bounce_lifetime_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            minimal_backoff_secs: 300,
            maximal_backoff_secs: 4000,
            lifetime_secs: 5 * DAY,
            bounce_lifetime_secs: 5 * DAY,
        }
    }
}

/// What is to be done with a message that has recipients left after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its recipients are returned to the sender.
    Expire,
    /// It is tried again then.
    RetryAt(u64),
}

impl Settings {
    /// What follows an attempt that ended at `now`.
    ///
    /// The time until the next attempt is the age of the message, within the two limits, as with Postfix; then up to a
    /// fifth is added, by `spread` (any number), so that what failed together does not come back together. Postfix
    /// spreads nothing.
    #[must_use]
    pub fn after_attempt(&self, created: u64, now: u64, sender_is_null: bool, spread: u64) -> Next {
        if now.saturating_sub(created) >= self.lifetime(sender_is_null) {
            return Next::Expire;
        }
        let age = now.saturating_sub(created);
        let backoff =
            age.clamp(self.minimal_backoff_secs, self.maximal_backoff_secs.max(self.minimal_backoff_secs));
        let more = spread.checked_rem(backoff / 5 + 1).unwrap_or(0);
        Next::RetryAt(now.saturating_add(backoff).saturating_add(more))
    }

    const fn lifetime(&self, sender_is_null: bool) -> u64 {
        if sender_is_null && self.bounce_lifetime_secs < self.lifetime_secs {
            self.bounce_lifetime_secs
        } else {
            self.lifetime_secs
        }
    }
}

/// Is the sender to be told of the delay now? `warn_at` is what the `W` record says; nothing: there is none, or the
/// notice has been sent.
///
/// A second early counts, as with Postfix.
#[must_use]
pub const fn warns(warn_at: Option<u64>, now: u64) -> bool {
    match warn_at {
        Some(at) => now.saturating_add(1) >= at,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        minimal_backoff_secs: 300,
        maximal_backoff_secs: 4000,
        lifetime_secs: 432_000,
        bounce_lifetime_secs: 86_400,
    };

    #[test]
    fn the_pause_is_the_age_within_limits() {
        for (age, pause) in [(0, 300), (299, 300), (301, 301), (1200, 1200), (4001, 4000), (100_000, 4000)] {
            assert_eq!(
                SETTINGS.after_attempt(1000, 1000 + age, false, 0),
                Next::RetryAt(1000 + age + pause),
                "{age}"
            );
        }
    }

    #[test]
    fn attempts_are_spread_over_a_fifth_of_the_pause() {
        let at = |spread| match SETTINGS.after_attempt(0, 1000, false, spread) {
            Next::RetryAt(at) => at,
            Next::Expire => 0,
        };
        let times: Vec<u64> = (0..10_000).map(at).collect();
        assert_eq!((times.iter().min(), times.iter().max()), (Some(&2000), Some(&2200)));
        assert!(at(u64::MAX) <= 2200);
    }

    #[test]
    fn a_message_expires_at_its_lifetime_and_one_without_sender_sooner() {
        assert_eq!(SETTINGS.after_attempt(0, 432_000, false, 0), Next::Expire);
        assert_ne!(SETTINGS.after_attempt(0, 431_999, false, 0), Next::Expire);
        assert_eq!(SETTINGS.after_attempt(0, 86_400, true, 0), Next::Expire);
        assert_ne!(SETTINGS.after_attempt(0, 86_399, true, 0), Next::Expire);
        let once = Settings { lifetime_secs: 0, ..SETTINGS };
        assert_eq!(once.after_attempt(5, 5, false, 0), Next::Expire);
        // The bounce lifetime is capped.
        let capped = Settings { bounce_lifetime_secs: u64::MAX, ..SETTINGS };
        assert_eq!(capped.after_attempt(0, 432_000, true, 0), Next::Expire);
    }

    #[test]
    fn a_clock_that_went_back_does_no_harm() {
        assert_eq!(SETTINGS.after_attempt(5000, 1000, false, 0), Next::RetryAt(1300));
        assert_ne!(SETTINGS.after_attempt(0, u64::MAX - 1, true, 7), Next::RetryAt(0));
        let odd = Settings { minimal_backoff_secs: 500, maximal_backoff_secs: 100, ..SETTINGS };
        assert_eq!(odd.after_attempt(0, 1000, false, 0), Next::RetryAt(1500));
    }

    #[test]
    fn a_delay_is_told_once_it_is_due() {
        assert!(!warns(None, u64::MAX));
        assert!(!warns(Some(1000), 998) && warns(Some(1000), 999) && warns(Some(1000), 5000));
    }
}
