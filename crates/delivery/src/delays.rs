//! How long a delivery took, as the log says it.

use std::fmt;
use std::time::Duration;

/// The four parts of a delivery's time (Postfix's `delays=a/b/c/d`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delays {
    /// From arrival until the queue manager took the message: for a later attempt, the whole time in the queue.
    pub before_queue_manager: Duration,
    /// In the queue manager, waiting for its turn.
    pub in_queue_manager: Duration,
    /// Looking up hosts, connecting, greeting, TLS; hosts that failed count here.
    pub connection_setup: Duration,
    /// Sending the message.
    pub transmission: Duration,
}

impl Delays {
    /// From arrival to the end.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.in_queue_manager, self.connection_setup, self.transmission]
            .into_iter()
            .fold(self.before_queue_manager, Duration::saturating_add)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [self.before_queue_manager, self.in_queue_manager, self.connection_setup, self.transmission];
        write!(out, "delay={}, delays=", Seconds(self.total()))?;
        for (index, part) in parts.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "/" };
            write!(out, "{separator}{}", Seconds(part))?;
        }
        Ok(())
    }
}

/// Seconds with two significant digits, at most two of them behind the point; whole from ten on (observed on Postfix
/// 3.7 with its default `delay_logging_resolution_limit = 2`).
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let whole = |unit: u128| micros.saturating_add(unit / 2) / unit;
        // Rounded, then judged: 9.96 s is 10 s.
        let hundredths = whole(10_000);
        let tenths = whole(100_000);
        match (hundredths, tenths) {
            (0, _) => out.write_str("0"),
            (1..=99, _) => write_trimmed(out, hundredths, 100, 2),
            (_, ..=99) => write_trimmed(out, tenths, 10, 1),
            _ => write!(out, "{}", whole(1_000_000)),
        }
    }
}

fn write_trimmed(out: &mut fmt::Formatter<'_>, parts: u128, per_second: u128, digits: usize) -> fmt::Result {
    let fraction = format!("{:0digits$}", parts % per_second);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    write!(out, "{}{point}{fraction}", parts / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_two_significant_digits() {
        for (micros, text) in [
            (0, "0"),
            (4_999, "0"),
            (5_000, "0.01"),
            (57_000, "0.06"),
            (100_000, "0.1"),
            (123_456, "0.12"),
            (994_999, "0.99"),
            (999_000, "1"),
            (1_149_000, "1.1"),
            (2_040_000, "2"),
            (9_949_000, "9.9"),
            (9_960_000, "10"),
            (17_400_000, "17"),
            (53_816_200_000, "53816"),
        ] {
            assert_eq!(Seconds(Duration::from_micros(micros)).to_string(), text, "{micros}");
        }
    }

    #[test]
    fn the_line_is_postfix_s() {
        let delays = Delays {
            before_queue_manager: Duration::from_millis(10),
            in_queue_manager: Duration::from_millis(10),
            connection_setup: Duration::ZERO,
            transmission: Duration::from_millis(40),
        };
        assert_eq!(delays.to_string(), "delay=0.06, delays=0.01/0.01/0/0.04");
    }
}
