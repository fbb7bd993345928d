//! Hides what no two sessions share: queue ID, client port, and the seconds in which the session happened.
//!
//! Nothing is guessed by shape. A date is masked only if it names a second between the session's beginning and end, an
//! ID only if it is the ID of this message; what a test's own message says stays as it is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::queue_file::Record;

/// What to hide, and as what.
#[derive(Debug, Clone)]
pub struct Mask {
    words: Vec<(Vec<u8>, &'static str)>,
    seconds: std::ops::RangeInclusive<u64>,
    port: String,
}

/// One second on either side: clocks are read before and after.
const SLACK_SECONDS: u64 = 2;

impl Mask {
    /// A mask for a session that a client with this port had from `began` until now.
    pub fn new(id: Option<&str>, port: u16, began: SystemTime) -> Self {
        let second = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let seconds = second(began) - SLACK_SECONDS..=second(SystemTime::now()) + SLACK_SECONDS;
        let mut words = Vec::new();
        for at in seconds.clone() {
            let zoned =
                jiff::Timestamp::from_second(i64::try_from(at).unwrap()).unwrap().in_tz("UTC").unwrap();
            words.push((zoned.strftime("%Y%m%d%H%M%S.").to_string().into_bytes(), "STAMP."));
            // Postfix 3.7 pads the day with a blank, from 3.9 on with a zero.
            for form in ["%a, %d %b %Y %H:%M:%S +0000 (UTC)", "%a, %e %b %Y %H:%M:%S +0000 (UTC)"] {
                words.push((zoned.strftime(form).to_string().into_bytes(), "DATE"));
            }
        }
        if let Some(id) = id {
            words.push((id.as_bytes().to_vec(), "QUEUE-ID"));
        }
        Self { words, seconds, port: port.to_string() }
    }

    /// The text with everything hidden.
    pub fn bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        'text: while let Some((&first, tail)) = rest.split_first() {
            for (word, name) in &self.words {
                if rest.starts_with(word) {
                    out.extend_from_slice(name.as_bytes());
                    rest = &rest[word.len()..];
                    continue 'text;
                }
            }
            out.push(first);
            rest = tail;
        }
        out
    }

    /// A log line or a reply: as [`Mask::bytes`], and the client's port behind its address.
    pub fn line(&self, text: &str) -> String {
        let port = format!("]:{}", self.port);
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).replace(&port, "]:PORT")
    }

    /// A record of a queue file, readable.
    pub fn record(&self, record: &Record) -> String {
        let masked = match (record.kind, record.data.as_slice()) {
            (b'T', data) => self.time(data),
            (b'A', data) => self.attribute(data),
            (b'W', data) => self.warning_time(data),
            (_, data) => self.bytes(data),
        };
        Record { kind: record.kind, data: masked }.to_string()
    }

    /// `seconds microseconds`, if the seconds are those of the session.
    fn time(&self, data: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(data);
        let whole = text.split_once(' ').and_then(|(seconds, micro)| {
            let micro: u32 = micro.parse().ok()?;
            (self.is_now(seconds) && micro < 1_000_000).then(|| b"SECONDS MICROSECONDS".to_vec())
        });
        whole.unwrap_or_else(|| data.to_vec())
    }

    /// `delay_warning_time` after now, of which only whole hours are tested.
    fn warning_time(&self, data: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(data);
        let seconds: Option<u64> = text.trim_start().parse().ok();
        match seconds.and_then(|at| (1..=24).find(|hours| self.seconds.contains(&(at - hours * 3600)))) {
            Some(hours) if data.len() == 15 => format!("SECONDS in {hours} hours").into_bytes(),
            _ => data.to_vec(),
        }
    }

    fn attribute(&self, data: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(data);
        match text.split_once('=') {
            Some(("create_time", value)) if self.is_now(value) => b"create_time=SECONDS".to_vec(),
            Some((name @ ("log_client_port" | "client_port"), value)) if value == self.port => {
                format!("{name}=PORT").into_bytes()
            }
            Some(("log_message_origin", _)) => self.line(&text).into_bytes(),
            _ => self.bytes(data),
        }
    }

    fn is_now(&self, seconds: &str) -> bool {
        seconds.parse().is_ok_and(|seconds: u64| self.seconds.contains(&seconds))
    }
}
