//! A queue file as postcat(1) of Postfix 3.7 prints it.

use super::text::{asctime, escaped, for_terminal};
use jiff::tz::TimeZone;
use postfix::queue_file::SizeRecord;
use postfix::queue_file::letter::split_attribute;
use postfix::queue_file::reader::{Located, Source, WalkError, Walker};
use postfix::record::RecordType;
use std::io::{self, Write};

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) envelope: bool,
    pub(super) headers: bool,
    pub(super) body: bool,
}

impl Selection {
    const fn content(self) -> bool {
        self.headers || self.body
    }

    const fn contains(self, part: Part) -> bool {
        match part {
            Part::Envelope => self.envelope,
            Part::Headers => self.headers,
            Part::Body => self.body,
        }
    }
}

/// The part of the file where the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Envelope,
    Headers,
    Body,
}

/// Whether to go on with the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    Finished,
}

/// Why printing stops.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    #[error("{0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// One print-out.
pub(super) struct Postcat<'a> {
    /// How the file is called in the marker lines.
    pub(super) label: &'a str,
    pub(super) selection: Selection,
    /// Do not escape envelope records.
    pub(super) raw: bool,
    /// Escape the content, too: it goes to a terminal.
    pub(super) to_terminal: bool,
    pub(super) zone: &'a TimeZone,
    pub(super) out: &'a mut dyn Write,
}

/// Where the reading is.
struct PrintState {
    part: Part,
    /// The last printed record was a line without its end.
    line_open: bool,
    size: Option<SizeRecord>,
}

impl Postcat<'_> {
    /// Prints the file.
    pub(super) fn print<S: Source>(&mut self, source: S) -> Result<(), PrintError> {
        let mut walker = Walker::new(source);
        let mut state = PrintState { part: Part::Envelope, line_open: false, size: None };
        if self.selection.envelope {
            writeln!(self.out, "*** ENVELOPE RECORDS {} ***", self.label)?;
        }
        loop {
            let Some(record) = walker.next().map_err(damaged)? else {
                return Err(PrintError::Damaged("missing end record".to_owned()));
            };
            // A hole of a sparse file reads as very many such records.
            if record.kind.0 == 0 {
                let text =
                    format!("damaged at offset {}: there are zeros instead of a record", record.offset);
                return Err(PrintError::Damaged(text));
            }
            let (step, seek) = self.record(&record, &mut state)?;
            if step == Step::Finished {
                return Ok(());
            }
            if let Some(offset) = seek {
                walker.seek(offset);
            }
        }
    }

    /// Prints one record. Gives the offset to go on with where something can be skipped.
    fn record(
        &mut self,
        record: &Located<'_>,
        state: &mut PrintState,
    ) -> Result<(Step, Option<u64>), PrintError> {
        let extracted = state.size.and_then(|size| size.extracted_offset());
        match record.kind {
            RecordType::CONTENT => {
                self.marker("MESSAGE CONTENTS")?;
                state.part = Part::Headers;
                return Ok((Step::Next, extracted.filter(|_| !self.selection.content())));
            }
            RecordType::EXTRACTED => {
                if state.line_open && self.selection.contains(state.part) {
                    self.out.write_all(b"\n")?;
                }
                state.line_open = false;
                self.marker("HEADER EXTRACTED")?;
                state.part = Part::Envelope;
                let step = if self.selection.envelope { Step::Next } else { Step::Finished };
                return Ok((step, None));
            }
            RecordType::END => {
                self.marker("MESSAGE FILE END")?;
                return Ok((Step::Finished, None));
            }
            RecordType::SIZE => return self.size(record, state).map(|seek| (Step::Next, seek)),
            RecordType::NORMAL | RecordType::PARTIAL
                if state.part == Part::Headers && !state.line_open && !is_header_line(record.data) =>
            {
                state.part = Part::Body;
                if !self.selection.body {
                    let step = if self.selection.envelope { Step::Next } else { Step::Finished };
                    return Ok((step, extracted));
                }
            }
            _ => {}
        }
        if self.selection.contains(state.part) {
            self.print_record(record, state)?;
        } else if state.part != Part::Envelope {
            // Headers may be left out: where a line of them ends must be known all the same.
            state.line_open = record.kind == RecordType::PARTIAL;
        }
        Ok((Step::Next, None))
    }

    fn size(&mut self, record: &Located<'_>, state: &mut PrintState) -> Result<Option<u64>, PrintError> {
        if self.selection.envelope {
            self.named(record)?;
        }
        if state.size.is_some() {
            return Ok(None);
        }
        let Ok(size) = SizeRecord::parse(record.data) else { return Ok(None) };
        state.size = Some(size);
        if self.selection.envelope {
            return Ok(None);
        }
        state.part = Part::Headers;
        Ok(Some(size.data_offset))
    }

    fn print_record(&mut self, record: &Located<'_>, state: &mut PrintState) -> Result<(), PrintError> {
        state.line_open = false;
        match record.kind {
            RecordType::NORMAL => {
                self.content(record.data)?;
                self.out.write_all(b"\n")?;
            }
            RecordType::PARTIAL if state.part != Part::Envelope => {
                self.content(record.data)?;
                state.line_open = true;
            }
            RecordType::TIME | RecordType::WARNING_TIME => {
                let time = asctime(leading_number(record.data), self.zone);
                writeln!(self.out, "{}: {time}", type_name(record.kind))?;
            }
            RecordType::ATTRIBUTE => self.attribute(record)?,
            _ => self.named(record)?,
        }
        Ok(())
    }

    fn content(&mut self, line: &[u8]) -> io::Result<()> {
        if self.to_terminal && !self.raw {
            self.out.write_all(for_terminal(line).as_bytes())
        } else {
            self.out.write_all(line)
        }
    }

    fn attribute(&mut self, record: &Located<'_>) -> Result<(), PrintError> {
        match split_attribute(record.data) {
            Some((b"create_time", value)) => {
                writeln!(self.out, "create_time: {}", asctime(leading_number(value), self.zone))?;
            }
            Some((name, value)) => {
                write!(self.out, "{}: ", type_name(record.kind))?;
                self.value(name)?;
                self.out.write_all(b"=")?;
                self.value(value)?;
                self.out.write_all(b"\n")?;
            }
            None => self.named(record)?,
        }
        Ok(())
    }

    fn named(&mut self, record: &Located<'_>) -> Result<(), PrintError> {
        write!(self.out, "{}: ", type_name(record.kind))?;
        self.value(record.data)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.raw { self.out.write_all(bytes) } else { self.out.write_all(escaped(bytes).as_bytes()) }
    }

    fn marker(&mut self, text: &str) -> io::Result<()> {
        if self.selection.envelope { writeln!(self.out, "*** {text} {} ***", self.label) } else { Ok(()) }
    }
}

fn damaged<E: std::error::Error>(error: WalkError<E>) -> PrintError {
    PrintError::Damaged(error.to_string())
}

/// Whether a line of the content can belong to its headers: a label and a colon, or a continuation. Postfix allows
/// blanks between label and colon.
pub(super) fn is_header_line(line: &[u8]) -> bool {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return true;
    }
    let Some(colon) = memchr(b':', line) else { return false };
    let label = line.get(..colon).unwrap_or_default();
    let end = label.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'));
    let Some(label) = end.and_then(|end| label.get(..=end)) else { return false };
    label.iter().all(u8::is_ascii_graphic)
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|other| *other == byte)
}

/// The number that the data begin with, as C's atol takes it; 0 without one.
fn leading_number(data: &[u8]) -> i64 {
    let text = data.trim_ascii_start();
    let sign_len = usize::from(text.first() == Some(&b'-'));
    let digits = text.iter().skip(sign_len).take_while(|byte| byte.is_ascii_digit()).count();
    let number = text.get(..sign_len + digits).and_then(|number| str::from_utf8(number).ok());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What postcat(1) calls a record.
const fn type_name(kind: RecordType) -> &'static str {
    match kind.0 {
        b'C' => "message_size",
        b'T' => "message_arrival_time",
        b'c' => "queue_file_create_time",
        b'F' => "sender_fullname",
        b'I' => "content_inspector",
        b'L' => "content_filter",
        b'S' => "sender",
        b'D' => "done_recipient",
        b'/' => "canceled_recipient",
        b'R' => "recipient",
        b'O' => "original_recipient",
        b'W' => "warning_message_time",
        b'A' => "named_attribute",
        b'K' => "killed_record",
        b'N' => "regular_text",
        b'r' => "return_receipt",
        b'e' => "errors_to",
        b'P' => "priority",
        b'V' => "verp_delimiters",
        b'>' => "redirect_to",
        b'f' => "flags",
        b'<' => "dsn_return_flags",
        b'i' => "dsn_envelope_id",
        b'o' => "dsn_original_recipient",
        b'n' => "dsn_notify_flags",
        _ => "unknown_record_type",
    }
}
