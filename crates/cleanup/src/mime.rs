//! Separates headers from body, also in MIME parts: records in, headers and body records out. Reports MIME errors
//! if the operator wants to know.

mod errors;
mod quoted_printable;

use std::sync::Arc;

use postfix::record::RecordType;

use crate::header::{ContentType, Encoding, MediaType, name_len};
use crate::options::Options;
use postfix::text::until_nul;

pub(crate) use errors::{Errors, MimeError, Strictness};
use quoted_printable::QuotedPrintable;

/// Which header section a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// The headers of the message itself.
    Primary,
    /// The headers of a body part.
    Part,
    /// The headers of an enclosed message.
    Nested,
}

/// Who takes the parts of a message.
pub(crate) trait Receiver {
    /// A header is complete: its name, `:`, and the rest with newlines before continuation lines. The buffer may be
    /// changed at will.
    fn header(&mut self, section: Section, header: &mut Vec<u8>);
    /// The primary header section is complete; `errors` is what was found so far.
    fn end_of_primary(&mut self, errors: Errors);
    /// A record that is not a header: empty lines, boundary lines, body. `offset` counts the bytes of the body before it,
    /// line ends too; it begins anew behind each header section, and with a boundary line that ends the last part.
    fn body(&mut self, kind: RecordType, data: &[u8], offset: u64);
    /// Something is wrong, the first time that it is; `text` is where.
    fn error(&mut self, error: MimeError, text: &[u8]);
}

/// The state of the walk through a message.
///
/// ```text
/// Header(Primary) ─ line that is not a header ─ Body ─ --boundary ─ Header(Part) ─ line that is not a header ─ Body
///        └─ empty line, Content-Type: message/rfc822 ─ Header(Nested) ─ line that is not a header ─ Body
/// ```
///
/// Holds at most one header of `header_size_limit` bytes (and one record more), and boundary strings:
/// `mime_nesting_limit` + 2 of `mime_boundary_length_limit` bytes.
#[derive(Debug)]
pub(crate) struct Parser {
    options: Arc<Options>,
    strictness: Strictness,
    errors: Errors,
    mode: Mode,
    /// The type of the part that the current headers describe.
    media_type: MediaType,
    /// Its encoding.
    encoding: Encoding,
    /// The header that is being collected; empty if none is.
    header: Vec<u8>,
    /// The record before was a piece of a line.
    in_line: bool,
    /// Innermost last.
    boundaries: Vec<Boundary>,
    /// See [`Receiver::body`].
    body_offset: u64,
    /// The 8-bit text that is being converted, under `force_mime_input_conversion`.
    conversion: Option<QuotedPrintable>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Header(Section),
    Body,
}

#[derive(Debug)]
struct Boundary {
    text: Vec<u8>,
    /// What the parts are unless they say otherwise.
    default_type: MediaType,
}

impl Parser {
    /// A parser that has seen our own Received: header, which is complete and whose handling is another's: the caller
    /// makes sure that the first record does not begin with a blank.
    pub(crate) fn new(options: Arc<Options>, strictness: Strictness) -> Self {
        Self {
            conversion: options.force_mime_input_conversion.then(QuotedPrintable::default),
            options,
            strictness,
            errors: Errors::default(),
            mode: Mode::Header(Section::Primary),
            media_type: MediaType::Text,
            encoding: Encoding::SevenBit,
            header: Vec::new(),
            in_line: false,
            boundaries: Vec::new(),
            body_offset: 0,
        }
    }

    /// What was found to be wrong.
    pub(crate) const fn errors(&self) -> Errors {
        self.errors
    }

    /// Takes the next record.
    #[inline]
    pub(crate) fn record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        if self.mode == Mode::Body {
            self.body_record(kind, data, receiver);
        } else {
            self.header_record(kind, data, receiver);
        }
    }

    /// Whether the records that come next are handed on as they are, whatever they are.
    #[inline]
    pub(crate) fn passes_body(&self) -> bool {
        self.mode == Mode::Body
            && !self.in_line
            && self.boundaries.is_empty()
            && self.conversion.is_none()
            && !self.strictness.body_is_7bit
    }

    /// Counts lines that were handed on without [`Self::record`]: their bytes, with line ends.
    #[inline]
    pub(crate) const fn skip_body(&mut self, bytes: usize) {
        self.body_offset = self.body_offset.saturating_add(bytes as u64);
    }

    /// The content is complete.
    pub(crate) fn finish(&mut self, receiver: &mut impl Receiver) {
        if self.in_line {
            self.record(RecordType::NORMAL, b"", receiver);
        }
        if let Mode::Header(section) = self.mode {
            self.end_header(section, receiver);
            self.end_section(section, b"", receiver);
            self.mode = Mode::Body;
        }
    }

    #[inline]
    fn body_record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        if self.strictness.body_is_7bit && self.encoding == Encoding::SevenBit && !data.is_ascii() {
            self.report(MimeError::EightBitBody, data, receiver);
        }
        if !self.boundaries.is_empty() && !self.in_line && data.starts_with(b"--") {
            self.boundary_line(data);
        }
        self.in_line = kind == RecordType::PARTIAL;
        if self.conversion.is_some() && self.encoding.domain() != Encoding::SevenBit {
            self.convert(kind, data, receiver);
        } else {
            self.body_out(kind, data, receiver);
        }
    }

    #[inline]
    fn body_out(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        receiver.body(kind, data, self.body_offset);
        self.body_offset = self.body_offset.saturating_add(data.len() as u64).saturating_add(1);
    }

    fn convert(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        let Some(mut conversion) = self.conversion.take() else { return };
        conversion.record(kind, data, &mut |line| self.body_out(RecordType::NORMAL, line, receiver));
        self.conversion = Some(conversion);
    }

    /// A line that begins with `--`: does it end a part? What stands behind the boundary string does not matter, since
    /// our copy of the string may be cut. `--` alone does not count, even for an empty boundary string.
    fn boundary_line(&mut self, line: &[u8]) {
        let Some(text @ [_, ..]) = line.get(2..) else { return };
        let Some(found) = self.boundaries.iter().rposition(|boundary| text.starts_with(&boundary.text))
        else {
            return;
        };
        self.boundaries.truncate(found.saturating_add(1));
        let Some(boundary) = self.boundaries.last() else { return };
        self.encoding = Encoding::SevenBit;
        if text.get(boundary.text.len()..).is_some_and(|rest| rest.starts_with(b"--")) {
            self.boundaries.pop();
            self.media_type = MediaType::Other;
            self.body_offset = 0;
        } else {
            self.media_type = boundary.default_type;
            self.mode = Mode::Header(Section::Part);
        }
    }

    fn header_record(&mut self, kind: RecordType, data: &[u8], receiver: &mut impl Receiver) {
        let Mode::Header(section) = self.mode else { return };
        if !self.header.is_empty() {
            if self.in_line || matches!(data.first(), Some(b' ' | b'\t')) {
                self.continue_header(data);
                self.in_line = kind == RecordType::PARTIAL;
                return;
            }
            self.end_header(section, receiver);
        }
        if let Some(len) = name_len(data) {
            self.begin_header(data, len);
            self.in_line = kind == RecordType::PARTIAL;
            return;
        }
        self.end_section(section, data, receiver);
        self.mode = if !data.is_empty() {
            if section == Section::Primary {
                self.body_out(RecordType::NORMAL, b"", receiver);
            }
            Mode::Body
        } else {
            self.mode_behind_headers()
        };
        self.body_offset = 0;
        // The record that ended the section is body, even if another section follows.
        self.body_record(kind, data, receiver);
    }

    /// What follows the empty line behind a header section.
    fn mode_behind_headers(&mut self) -> Mode {
        let is_readable = self.conversion.is_none() || self.encoding.domain() == Encoding::SevenBit;
        match self.media_type {
            MediaType::Message => self.enter_message(),
            MediaType::GlobalMessage if is_readable => self.enter_message(),
            MediaType::Multipart => {
                self.media_type = MediaType::Other;
                self.encoding = Encoding::SevenBit;
                Mode::Body
            }
            _ => Mode::Body,
        }
    }

    const fn enter_message(&mut self) -> Mode {
        self.media_type = MediaType::Text;
        self.encoding = Encoding::SevenBit;
        Mode::Header(Section::Nested)
    }

    fn begin_header(&mut self, data: &[u8], name_len: usize) {
        let (name, rest) = data.split_at(name_len);
        let blanks = rest.iter().take_while(|&&byte| byte != b':').count();
        self.header.extend_from_slice(name);
        self.header.extend_from_slice(until_nul(rest.get(blanks..).unwrap_or_default()));
    }

    fn continue_header(&mut self, data: &[u8]) {
        if self.header.len() >= self.options.header_size_limit {
            return;
        }
        if !self.in_line {
            self.header.push(b'\n');
        }
        self.header.extend_from_slice(until_nul(data));
    }

    /// No more lines belong to the collected header.
    fn end_header(&mut self, section: Section, receiver: &mut impl Receiver) {
        if self.header.is_empty() {
            return;
        }
        let mut header = std::mem::take(&mut self.header);
        let mut is_encoding = false;
        if !self.options.disable_mime_input_processing {
            if let Some(value) = value_of(&header, b"content-type:") {
                self.note_content_type(&header, value, receiver);
            } else if let Some(value) = value_of(&header, b"content-transfer-encoding:") {
                is_encoding = true;
                self.encoding = Encoding::parse(value).unwrap_or(self.encoding);
            }
        }
        if self.strictness.headers_are_7bit && !header.is_ascii() {
            self.report(MimeError::EightBitHeader, &header, receiver);
        }
        // An encoding that the conversion will change is announced when all of the section is known.
        if !(is_encoding && self.is_converted()) {
            receiver.header(section, &mut header);
        }
        header.clear();
        self.header = header;
        self.in_line = false;
    }

    /// The current part is converted to 7-bit form.
    const fn is_converted(&self) -> bool {
        self.conversion.is_some() && !matches!(self.encoding.domain(), Encoding::SevenBit)
    }

    /// A header section is complete; `line` is what ended it.
    fn end_section(&mut self, section: Section, line: &[u8], receiver: &mut impl Receiver) {
        if self.is_converted() {
            let encoding = match self.media_type {
                MediaType::Message
                | MediaType::MessageFragment
                | MediaType::OpaqueMessage
                | MediaType::Multipart => Encoding::SevenBit,
                MediaType::Text | MediaType::GlobalMessage | MediaType::Other => Encoding::QuotedPrintable,
            };
            let mut header = format!("Content-Transfer-Encoding: {}", encoding.name()).into_bytes();
            receiver.header(section, &mut header);
        }
        if section == Section::Primary {
            if self.strictness.end_of_header_is_empty && !line.is_empty() {
                self.report(MimeError::NonEmptyEndOfHeader, line, receiver);
            }
            receiver.end_of_primary(self.errors);
        }
        let is_legal = match self.media_type {
            MediaType::MessageFragment => self.encoding.domain() == Encoding::SevenBit,
            MediaType::Message | MediaType::Multipart => self.encoding.is_identity(),
            _ => true,
        };
        if self.strictness.encoding_domain && !is_legal {
            self.report(MimeError::EncodingDomain, self.encoding.name().as_bytes(), receiver);
        }
    }

    fn note_content_type(&mut self, header: &[u8], value: &[u8], receiver: &mut impl Receiver) {
        let content_type = ContentType::parse(value);
        self.media_type = content_type.media_type.unwrap_or(self.media_type);
        let default_type = if content_type.digest { MediaType::Message } else { MediaType::Text };
        let room = self.options.mime_nesting_limit.saturating_add(2).saturating_sub(self.boundaries.len());
        if content_type.boundaries.len() > room && self.strictness.nesting {
            self.report(MimeError::Nesting, header, receiver);
        }
        for mut text in content_type.boundaries.into_iter().take(room) {
            text.truncate(self.options.mime_boundary_length_limit);
            self.boundaries.push(Boundary { text, default_type });
        }
    }

    fn report(&mut self, error: MimeError, text: &[u8], receiver: &mut impl Receiver) {
        if self.errors.add(error) {
            receiver.error(error, text);
        }
    }
}

/// What is behind the colon, if the header has this name, given with its colon.
fn value_of<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = header.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests;
