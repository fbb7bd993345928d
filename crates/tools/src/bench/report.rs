//! What a source says in the end, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::tally::{Counts, Interval, Tally, Timeline};

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) sessions: u32,
    pub(super) content_bytes: u64,
    pub(super) recipients: u64,
    pub(super) rate: Option<f64>,
    pub(super) is_unique: bool,
}

/// The connections on which nothing was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) opened: u32,
    pub(super) closed_by_server: u32,
}

/// All that came of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) server: String,
    pub(super) load: Load,
    pub(super) elapsed: Duration,
    pub(super) counts: Counts,
    /// Messages that were due and never begun.
    pub(super) unsent: u64,
    /// Microseconds from the call for a connection to the reply.
    pub(super) service: Histogram<u64>,
    /// The same, corrected for coordinated omission: see [`corrected`].
    pub(super) latency: Histogram<u64>,
    pub(super) idle: Idle,
    pub(super) seconds_each: u64,
    pub(super) intervals: Vec<Interval>,
}

/// The percentiles that are reported.
pub(super) const PERCENTILES: &[(&str, f64)] =
    &[("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

impl Report {
    pub(super) fn new(
        server: String,
        load: Load,
        elapsed: Duration,
        unsent: u64,
        tally: Tally,
        timeline: Timeline,
        idle: Idle,
    ) -> Self {
        let latency = if load.rate.is_some() { tally.since_due } else { corrected(&tally.service) };
        let (seconds_each, intervals) = timeline.into_parts();
        let (counts, service) = (tally.counts, tally.service);
        Self { server, load, elapsed, counts, unsent, service, latency, idle, seconds_each, intervals }
    }

    /// Every message was accepted, and no idle connection lost.
    pub(super) fn is_clean(&self) -> bool {
        let counts = &self.counts;
        let refused = counts.temporary.saturating_add(counts.permanent).saturating_add(counts.failures());
        refused == 0 && self.unsent == 0 && self.idle.closed_by_server == 0
    }

    pub(super) fn messages_per_second(&self) -> f64 {
        self.counts.accepted as f64 / self.elapsed.as_secs_f64().max(0.000_001)
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let Counts { accepted, temporary, permanent, no_connection, lost, timed_out, garbled } = self.counts;
        let load = &self.load;
        let rate = self.messages_per_second();
        writeln!(
            out,
            "{}: {} sessions, {} bytes to {} recipients each",
            self.server, load.sessions, load.content_bytes, load.recipients
        )?;
        writeln!(out, "{accepted} messages accepted in {:.3} s", self.elapsed.as_secs_f64())?;
        writeln!(
            out,
            "{rate:.1} messages/s, {:.1} recipients/s, {:.3} MB/s of content",
            rate * load.recipients as f64,
            rate * load.content_bytes as f64 / 1e6
        )?;
        for (count, what) in [
            (temporary, "temporarily rejected (Z)"),
            (permanent, "permanently rejected (D)"),
            (no_connection, "without a connection"),
            (lost, "lost: the server closed without a reply"),
            (timed_out, "without a reply in time"),
            (garbled, "with an invalid reply"),
            (self.unsent, "due but not sent: no session was free"),
        ] {
            if count > 0 {
                writeln!(out, "{count} messages {what}")?;
            }
        }
        let Idle { opened, closed_by_server } = self.idle;
        if opened > 0 {
            writeln!(out, "{opened} idle connections, {closed_by_server} of them closed by the server")?;
        }
        if self.service.is_empty() {
            return Ok(());
        }
        write!(out, "{:25}", "milliseconds")?;
        for (name, _) in PERCENTILES {
            write!(out, "{name:>11}")?;
        }
        writeln!(out)?;
        let latency = if load.rate.is_some() { "due to reply" } else { "corrected for stalls" };
        for (name, histogram) in [("connection to reply", &self.service), (latency, &self.latency)] {
            write!(out, "{name:25}")?;
            for (_, percentile) in PERCENTILES {
                write!(out, "{:11.3}", milliseconds(histogram, *percentile))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Counts { accepted, temporary, permanent, no_connection, lost, timed_out, garbled } = self.counts;
        let load = &self.load;
        let rate = self.messages_per_second();
        json!({
            "server": self.server,
            "load": {
                "sessions": load.sessions,
                "content_bytes": load.content_bytes,
                "recipients": load.recipients,
                "messages_per_second": load.rate,
                "unique_bodies": load.is_unique,
                "idle_connections": self.idle.opened,
            },
            "seconds": self.elapsed.as_secs_f64(),
            "messages": {
                "accepted": accepted,
                "temporary": temporary,
                "permanent": permanent,
                "no_connection": no_connection,
                "lost": lost,
                "timed_out": timed_out,
                "garbled": garbled,
                "unsent": self.unsent,
            },
            "idle_connections_closed": self.idle.closed_by_server,
            "messages_per_second": rate,
            "recipients_per_second": rate * load.recipients as f64,
            "content_bytes_per_second": rate * load.content_bytes as f64,
            "service_milliseconds": times(&self.service),
            "latency_milliseconds": times(&self.latency),
            "seconds_per_interval": self.seconds_each,
            "accepted_per_interval": self.intervals.iter().map(|each| each.counts.accepted).collect::<Vec<_>>(),
        })
    }

    /// For spreadsheets: a line for each interval.
    pub(super) fn csv(&self) -> String {
        let mut out = String::from("second,accepted,temporary,permanent,failed");
        for (name, _) in PERCENTILES {
            let _ = write!(out, ",{name}_milliseconds");
        }
        out.push('\n');
        for (at, Interval { counts, latency }) in (0_u64..).zip(&self.intervals) {
            let Counts { accepted, temporary, permanent, .. } = counts;
            let second = at.saturating_mul(self.seconds_each);
            let _ = write!(out, "{second},{accepted},{temporary},{permanent},{}", counts.failures());
            for (_, percentile) in PERCENTILES {
                let _ = write!(out, ",{:.3}", milliseconds(latency, *percentile));
            }
            out.push('\n');
        }
        out
    }
}

/// A percentile in milliseconds; 0 if nothing was recorded.
pub(super) fn milliseconds(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_percentile(percentile) as f64 / 1000.0 }
}

fn times(histogram: &Histogram<u64>) -> Value {
    let mut times = serde_json::Map::new();
    times.insert("mean".to_owned(), json!(histogram.mean() / 1000.0));
    for (name, percentile) in PERCENTILES {
        times.insert((*name).to_owned(), json!(milliseconds(histogram, *percentile)));
    }
    Value::Object(times)
}

/// Corrects for coordinated omission where sessions wait for their server: while one reply is late, a session does not
/// send the messages that would have been late too. They are put in, at the session's mean pace. A load with a rate of its
/// own needs none of this: it measures from the moment at which a message was due.
fn corrected(service: &Histogram<u64>) -> Histogram<u64> {
    service.clone_correct(service.mean().max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use qmqp::reply::Status;

    use super::super::tally::{Live, Outcome, Times};
    use super::*;

    fn report(rate: Option<f64>) -> Report {
        let (mut tally, live, timeline) = (Tally::new(), Live::default(), Timeline::new());
        for milliseconds in std::iter::repeat_n(1, 99).chain([101]) {
            let service = Duration::from_millis(milliseconds);
            let times = Times { service, since_due: service * 3 };
            tally.add(Outcome::Reply(Status::Queued), times, &live);
        }
        tally.add(Outcome::Lost, Times { service: Duration::ZERO, since_due: Duration::ZERO }, &live);
        tally.flush(Duration::from_millis(500), &timeline);
        let load = Load { sessions: 1, content_bytes: 1000, recipients: 5, rate, is_unique: false };
        let idle = Idle { opened: 0, closed_by_server: 0 };
        Report::new("h:628".to_owned(), load, Duration::from_secs(2), 0, tally, timeline, idle)
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let report = report(None);
        assert!(!report.is_clean());
        let text = report.text();
        assert!(text.contains("100 messages accepted in 2.000 s"), "{text}");
        assert!(text.contains("50.0 messages/s, 250.0 recipients/s, 0.050 MB/s"), "{text}");
        assert!(text.contains("1 messages lost"), "{text}");
        let json = report.json();
        assert_eq!(json["messages"]["accepted"], 100);
        assert_eq!(json["messages"]["lost"], 1);
        assert_eq!(json["messages_per_second"], 50.0);
        let csv = report.csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("0,100,0,0,1,"), "{csv}");
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
    }

    #[test]
    fn a_stall_counts_for_all_that_it_held_up() {
        let closed = report(None);
        assert!(milliseconds(&closed.service, 90.0) < 2.0);
        assert!(milliseconds(&closed.latency, 90.0) > 70.0, "{}", milliseconds(&closed.latency, 90.0));
        let open = report(Some(10.0));
        assert!((2.9..3.1).contains(&milliseconds(&open.latency, 50.0)));
    }
}
