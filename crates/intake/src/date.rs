//! The time of day as mail headers write it.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// Writes dates in the local time zone.
#[derive(Debug, Clone)]
pub struct DateFormat {
    zone: TimeZone,
}

impl DateFormat {
    /// Reads the time zone (`TZ`, else the system's): call it before any chroot.
    #[must_use]
    pub fn local() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// Dates in one zone, for tests and for callers that know the zone.
    #[must_use]
    pub const fn in_zone(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// `Sun, 22 Nov 2026 22:25:00 +0000 (UTC)`: RFC 5322 section 3.3 with the zone's name as a comment, as Postfix writes
    /// it since 3.9 (earlier releases pad the day with a blank instead of a zero).
    #[must_use]
    pub fn rfc5322(&self, seconds: u64) -> String {
        let second = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let zoned = second.unwrap_or_default().to_zoned_datetime(self.zone.clone());
        // The format has no directive that could fail for a time with a zone.
        strtime::format("%a, %d %b %Y %H:%M:%S %z (%Z)", &zoned).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postfix_writes_it() {
        let utc = DateFormat::in_zone(TimeZone::UTC);
        assert_eq!(utc.rfc5322(1_795_386_300), "Sun, 22 Nov 2026 22:25:00 +0000 (UTC)");
        assert_eq!(utc.rfc5322(0), "Thu, 01 Jan 1970 00:00:00 +0000 (UTC)");
        let east = DateFormat::in_zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(east.rfc5322(1_795_386_300), "Sun, 22 Nov 2026 23:25:00 +0100 (CET)");
    }
}
