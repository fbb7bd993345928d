//! Minutes that all processes of a service agree on.

use std::time::Duration;

/// The time in which sessions are counted, in seconds.
const WINDOW_SECONDS: u64 = 60;

/// A minute in which sessions are counted: the processes of a service have the same ones, which begin so many seconds after those
/// of the clock as the first of these processes was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    /// How many seconds after that of the clock it began.
    pub phase: u32,
    /// How many there were since 1970.
    pub number: u64,
}

impl Minute {
    /// The one of this moment.
    #[must_use]
    pub fn new(phase: u32, seconds: u64) -> Self {
        Self { phase, number: seconds.saturating_sub(phase.into()).checked_div(WINDOW_SECONDS).unwrap_or(0) }
    }

    /// The phase of minutes one of which begins now.
    #[must_use]
    pub fn phase_of(seconds: u64) -> u32 {
        u32::try_from(seconds.checked_rem(WINDOW_SECONDS).unwrap_or(0)).unwrap_or(0)
    }

    /// How long it lasts yet.
    #[must_use]
    pub fn rest(self, seconds: u64) -> Duration {
        let end =
            self.number.saturating_add(1).saturating_mul(WINDOW_SECONDS).saturating_add(self.phase.into());
        Duration::from_secs(end.saturating_sub(seconds).clamp(1, WINDOW_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_begin_where_the_first_process_began() {
        let phase = Minute::phase_of(1_000_037);
        let minutes = [1_000_037, 1_000_096, 1_000_097].map(|seconds| Minute::new(phase, seconds));
        assert!(minutes[0] == minutes[1] && minutes[1].number + 1 == minutes[2].number, "{minutes:?}");
        assert_eq!((minutes[0].rest(1_000_037).as_secs(), minutes[0].rest(1_000_096).as_secs()), (60, 1));
    }
}
