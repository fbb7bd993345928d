//! Makes the headers that are added: our own Received: header and missing ones.

use crate::address::quote;
use crate::options::{Arrival, Options, Origin};

/// The lines of our Received: header, each without line end. `recipient` is the recipient as received if the client
/// named exactly one, otherwise `None`: hidden recipients must stay hidden.
#[must_use]
pub fn received(
    options: &Options,
    arrival: &Arrival,
    origin: &Origin,
    recipient: Option<&[u8]>,
) -> [Vec<u8>; 3] {
    let Origin { client_name, protocol, .. } = origin;
    let Arrival { queue_id, date, .. } = arrival;
    let from = format!("Received: from {client_name} ({client_name} [{}])", origin.literal()).into_bytes();
    let mut by = format!("\tby {} ({}) with {protocol}", options.myhostname, options.mail_name).into_bytes();
    let last = match recipient {
        Some(recipient) => {
            by.extend_from_slice(format!(" id {queue_id}").as_bytes());
            [b"\tfor <", quote(recipient).as_slice(), b">; ", date.as_bytes()].concat()
        }
        None => format!("\tid {queue_id}; {date}").into_bytes(),
    };
    [from, by, last]
}

/// A message ID with its brackets. A short queue ID is unique only for a second, so that second is part of it, in UTC.
pub(crate) fn message_id(options: &Options, arrival: &Arrival) -> String {
    let Options { myhostname, .. } = options;
    let Arrival { queue_id, .. } = arrival;
    if options.long_queue_ids {
        format!("<{queue_id}@{myhostname}>")
    } else {
        format!("<{}.{queue_id}@{myhostname}>", utc_digits(arrival.created.0))
    }
}

/// The From: header for an envelope sender; `prefix` is `Resent-` or nothing.
pub(crate) fn from(prefix: &str, sender: &[u8]) -> Vec<u8> {
    let author = if sender.is_empty() { b"MAILER-DAEMON" } else { sender };
    [prefix.as_bytes(), b"From: ", &quote(author)].concat()
}

/// Seconds since 1970 as `YYYYMMDDHHMMSS`.
fn utc_digits(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01: each year, and each era of 400 of them, then ends with its leap day.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = day_of_era.saturating_sub(leap_days) / 365;
    let day_of_year = day_of_era.saturating_sub(365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year.saturating_sub((153 * month_from_march + 2) / 5).saturating_add(1);
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era.saturating_mul(400).saturating_add(year_of_era).saturating_add(u64::from(month <= 2));
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc() {
        for (seconds, digits) in [
            (0, "19700101000000"),
            (951_782_399, "20000228235959"),
            (951_782_400, "20000229000000"),
            (951_868_800, "20000301000000"),
            (1_795_386_300, "20261122222500"),
            (4_107_542_399, "21000228235959"),
            (4_107_542_400, "21000301000000"),
        ] {
            assert_eq!(utc_digits(seconds), digits);
        }
    }

    #[test]
    fn utc_counts_every_day() {
        let mut expected = (1970, 1, 1);
        for day in 0..200_000_u64 {
            let (year, month, date) = expected;
            assert_eq!(utc_digits(day * 86_400), format!("{year:04}{month:02}{date:02}000000"));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = match month {
                2 => 28 + i32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (date < days, month < 12) {
                (true, _) => (year, month, date + 1),
                (false, true) => (year, month + 1, 1),
                (false, false) => (year + 1, 1, 1),
            };
        }
    }

    #[test]
    fn the_author_of_a_message_without_one_is_the_sender() {
        assert_eq!(from("", b"user name@x"), b"From: \"user name\"@x");
        assert_eq!(from("Resent-", b""), b"Resent-From: MAILER-DAEMON");
    }
}
