//! What a log line looks like: escaping, tags, time stamps, the framing of each kind of place.

use jiff::tz::TimeZone;
use postfix::notice::Severity;
use postfix::text::printable_up_to;

use super::{Line, LogConfig, Program};

/// Text is cut at this many bytes, tag and severity not counted (Postfix: the same).
const TEXT_BYTES_MAX: usize = 2000;

/// Makes `text` fit for a log: what does not print becomes `?`, and it is cut at 2000 bytes.
///
/// With `utf8` (smtputf8_enable) valid UTF-8 stays, save the control characters U+0080 to U+009F, which a terminal
/// may obey; each byte of anything else becomes one `?`. Without it only printable ASCII stays.
#[must_use]
pub fn escape(text: &[u8], utf8: bool) -> String {
    printable_up_to(text, utf8, TEXT_BYTES_MAX)
}

/// Severity numbers of syslog; Postfix gives both fatal and panic LOG_CRIT.
const fn syslog_severity(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 6,
        Severity::Warning => 4,
        Severity::Error => 3,
        Severity::Fatal | Severity::Panic => 2,
    }
}

/// Turns lines into the bytes of one record, into a buffer that is used again.
pub(super) struct Framer {
    zone: TimeZone,
    /// The second that `padded` and `two_digit` stand for.
    stamped: Option<i64>,
    /// `Nov  2 22:47:24`, the day padded with a blank: syslog(3).
    padded: String,
    /// `Nov 02 22:47:24`: postlogd(8) and files.
    two_digit: String,
    host_label: String,
    syslog_name: String,
    process_name: String,
    facility: u8,
    process_id: u32,
    record: Vec<u8>,
}

impl Framer {
    pub(super) fn new(config: &LogConfig) -> Self {
        let label = config.host_name.split('.').next().unwrap_or_default();
        Self {
            zone: TimeZone::system(),
            stamped: None,
            padded: String::new(),
            two_digit: String::new(),
            host_label: if label.is_empty() { "amnesiac".to_owned() } else { label.to_owned() },
            syslog_name: config.syslog_name.clone(),
            process_name: config.process_name.clone(),
            facility: config.facility.code(),
            process_id: std::process::id(),
            record: Vec::with_capacity(512),
        }
    }

    pub(super) fn refresh_process_id(&mut self) {
        self.process_id = std::process::id();
    }

    /// As syslog(3) sends it: priority, date, tag; no host, no newline.
    pub(super) fn syslog(&mut self, line: &Line) -> &[u8] {
        self.stamp(line.seconds);
        let priority = u16::from(self.facility) * 8 + u16::from(syslog_severity(line.severity));
        self.record.clear();
        self.record.extend_from_slice(format!("<{priority}>{} ", self.padded).as_bytes());
        self.tag_and_text(line);
        &self.record
    }

    /// As postlogd(8) wants it: date, host label, tag; no priority, no newline.
    pub(super) fn postlog(&mut self, line: &Line) -> &[u8] {
        self.stamp(line.seconds);
        self.record.clear();
        self.record.extend_from_slice(self.two_digit.as_bytes());
        self.record.push(b' ');
        self.record.extend_from_slice(self.host_label.as_bytes());
        self.record.push(b' ');
        self.tag_and_text(line);
        &self.record
    }

    /// As postlogd(8) writes it into a file.
    pub(super) fn file(&mut self, line: &Line) -> &[u8] {
        self.postlog(line);
        self.record.push(b'\n');
        &self.record
    }

    fn tag_and_text(&mut self, line: &Line) {
        let program = match line.program {
            Program::Service => self.process_name.as_str(),
            Program::Cleanup => "cleanup",
            Program::TrivialRewrite => "trivial-rewrite",
            Program::Master => "master",
            Program::Error => "error",
            Program::Discard => "discard",
            Program::Bounce => "bounce",
        };
        let tag = format!("{}/{program}[{}]: ", self.syslog_name, self.process_id);
        self.record.extend_from_slice(tag.as_bytes());
        self.record.extend_from_slice(line.severity.prefix().as_bytes());
        self.record.extend_from_slice(line.text.as_bytes());
    }

    fn stamp(&mut self, seconds: i64) {
        if self.stamped == Some(seconds) {
            return;
        }
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let time = time.to_zoned_datetime(self.zone.clone());
        self.padded = time.strftime("%b %e %H:%M:%S").to_string();
        self.two_digit = time.strftime("%b %d %H:%M:%S").to_string();
        self.stamped = Some(seconds);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use postfix::settings::words::Facility;

    use super::super::LogDestination;
    use super::*;

    fn framer() -> Framer {
        let mut framer = Framer::new(&LogConfig {
            syslog_name: "postfix/628".to_owned(),
            process_name: "qmqpd".to_owned(),
            host_name: "mx.example.test".to_owned(),
            facility: Facility::Mail,
            utf8: true,
            destinations: vec![LogDestination::Stderr],
        });
        framer.process_id = 15091;
        framer.zone = TimeZone::UTC;
        framer
    }

    fn line(severity: Severity, program: Program) -> Line {
        // 2026-11-02 22:47:24 UTC
        Line {
            seconds: 1_793_659_644,
            program,
            severity,
            text: "connect from localhost[127.0.0.1]".to_owned(),
        }
    }

    #[test]
    fn syslog_datagrams_are_those_of_libc() {
        let mut framer = framer();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(framer.syslog(&line(Severity::Info, Program::Service))),
            "<22>Nov  2 22:47:24 postfix/628/qmqpd[15091]: connect from localhost[127.0.0.1]"
        );
        assert!(
            text(framer.syslog(&line(Severity::Warning, Program::Cleanup)))
                .starts_with("<20>Nov  2 22:47:24 postfix/628/cleanup[15091]: warning: connect")
        );
        assert!(
            text(framer.syslog(&line(Severity::Error, Program::Master)))
                .starts_with("<19>Nov  2 22:47:24 postfix/628/master[15091]: error: connect")
        );
        assert!(text(framer.syslog(&line(Severity::Fatal, Program::Service))).starts_with("<18>"));
        assert!(text(framer.syslog(&line(Severity::Panic, Program::Service))).starts_with("<18>"));
    }

    #[test]
    fn postlog_records_carry_host_label_and_two_digit_day() {
        let mut framer = framer();
        assert_eq!(
            framer.postlog(&line(Severity::Info, Program::Service)),
            b"Nov 02 22:47:24 mx postfix/628/qmqpd[15091]: connect from localhost[127.0.0.1]"
        );
        assert!(framer.file(&line(Severity::Info, Program::Service)).ends_with(b"]\n"));
    }

    #[test]
    fn control_bytes_and_broken_utf8_become_question_marks() {
        assert_eq!(escape(b"a\r\nb\x00c\x7f\t", true), "a??b?c??");
        assert_eq!(escape("é\u{9b}x".as_bytes(), true), "é??x");
        assert_eq!(escape("é".as_bytes(), false), "??");
        assert_eq!(escape(b"a\xff\xfeb\xc3", true), "a??b?");
    }

    #[test]
    fn the_cut_never_splits_a_character() {
        let long = "é".repeat(1500);
        assert_eq!(escape(long.as_bytes(), true).len(), 2000);
        assert_eq!(escape(format!("a{long}").as_bytes(), true).len(), 1999);
        assert_eq!(escape(&[0xff; 5000], true).len(), 2000);
    }

    proptest! {
        #[test]
        fn no_byte_from_outside_can_end_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..4000), utf8 in any::<bool>()) {
            let text = escape(&bytes, utf8);
            prop_assert!(text.len() <= 2000);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(utf8 || text.is_ascii());
        }
    }
}
