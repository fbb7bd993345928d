//! How a sink behaves towards each client, drawn by lot.

use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use qmqp::reply::Status;

/// Which replies there are, in which proportion: `K`, or `K=90,Z=8,D=2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mix {
    accepted: u32,
    temporary: u32,
    permanent: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { accepted: 0, temporary: 0, permanent: 0 };
        for part in text.split(',') {
            let (letter, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight =
                weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX).ok_or_else(|| {
                    format!("{weight:?} is not a weight: write a number up to {WEIGHT_MAX}")
                })?;
            match letter.trim() {
                "K" => mix.accepted = weight,
                "Z" => mix.temporary = weight,
                "D" => mix.permanent = weight,
                _ => {
                    return Err(format!(
                        "{letter:?} is not a reply: write K, Z or D, each with its weight, as in K=9,Z=1"
                    ));
                }
            }
        }
        if mix.sum() == 0 { Err("at least one weight must not be 0".to_owned()) } else { Ok(mix) }
    }
}

impl Mix {
    const fn sum(self) -> u32 {
        self.accepted.saturating_add(self.temporary).saturating_add(self.permanent)
    }

    pub(super) fn draw(self, random: &mut Rng) -> Status {
        let lot = random.u32(..self.sum().max(1));
        if lot < self.accepted {
            Status::Queued
        } else if lot < self.accepted.saturating_add(self.temporary) {
            Status::Temporary
        } else {
            Status::Permanent
        }
    }
}

/// How long a reply is held back: `20`, or `20-500`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delay {
    min: Duration,
    max: Duration,
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let milliseconds = |text: &str| {
            let value: Option<u64> = text.trim().parse().ok();
            value.filter(|value| *value <= DELAY_MILLISECONDS_MAX).map(Duration::from_millis).ok_or_else(
                || {
                    format!(
                        "{text:?} is not a delay: write milliseconds up to {DELAY_MILLISECONDS_MAX}, or MIN-MAX"
                    )
                },
            )
        };
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let delay = Self { min: milliseconds(min)?, max: milliseconds(max)? };
        if delay.min > delay.max { Err("the shorter delay comes first".to_owned()) } else { Ok(delay) }
    }
}

impl Delay {
    pub(super) fn draw(self, random: &mut Rng) -> Duration {
        let (min, max) = (self.min.as_micros(), self.max.as_micros());
        let drawn = random.u128(min..=max.max(min));
        Duration::from_micros(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

/// The percentage of connections that the sink reads to the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentage(f64);

impl FromStr for Percentage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: f64 = text.trim_end_matches('%').parse().map_err(|_| "write a percentage".to_owned())?;
        if (0.0..=100.0).contains(&value) { Ok(Self(value)) } else { Err("write 0 to 100".to_owned()) }
    }
}

impl Percentage {
    pub(super) fn draw(self, random: &mut Rng) -> bool {
        random.f64() * 100.0 < self.0
    }
}

const WEIGHT_MAX: u32 = 1_000_000;
const DELAY_MILLISECONDS_MAX: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_in_their_proportion() {
        let mix: Mix = "K=70,Z=20,D=10".parse().unwrap();
        let mut random = Rng::with_seed(1);
        let drawn: Vec<Status> = (0..10_000).map(|_| mix.draw(&mut random)).collect();
        let count = |status| drawn.iter().filter(|each| **each == status).count();
        assert!((6700..7300).contains(&count(Status::Queued)), "{}", count(Status::Queued));
        assert!((1700..2300).contains(&count(Status::Temporary)), "{}", count(Status::Temporary));
        assert!((800..1200).contains(&count(Status::Permanent)), "{}", count(Status::Permanent));
        let only: Mix = "D".parse().unwrap();
        assert!((0..100).all(|_| only.draw(&mut random) == Status::Permanent));
    }

    #[test]
    fn delays_stay_between_their_bounds() {
        let delay: Delay = "20-30".parse().unwrap();
        let mut random = Rng::with_seed(1);
        let bounds = Duration::from_millis(20)..=Duration::from_millis(30);
        assert!((0..1000).all(|_| bounds.contains(&delay.draw(&mut random))));
        assert_eq!("5".parse::<Delay>().unwrap().draw(&mut random), Duration::from_millis(5));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "X", "K=", "K=-1", "K=0", "K=1;Z=1", "K=99999999"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        for text in ["", "-", "5-", "9-3", "1.5", "3600001"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        for text in ["", "x", "-1", "101", "NaN"] {
            assert!(text.parse::<Percentage>().is_err(), "{text}");
        }
    }
}
