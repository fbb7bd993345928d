//! Our own Received: header. Rules see it first, but its text is known last.

use crate::content::Content;
use crate::generated;
use crate::header::{Known, name_len};
use crate::mime::{Errors, MimeError, Section};
use crate::options::Origin;
use crate::rules::Change;

/// Looks what rules will say of the header, with and without a recipient in it.
pub(crate) fn foresee(content: &mut Content, origin: &Origin) {
    if content.rules.has_header_rules() {
        let forms = [None, Some(b"".as_slice())]
            .map(|recipient| generated::received(&content.options, &content.arrival, origin, recipient))
            .map(|lines| join(lines, content.options.header_size_limit));
        content.rules.foresee(&forms);
    }
}

/// Makes the header and shows it to the rules; what they say of it comes before what they said of the content. Returns
/// the records that go before the content.
pub(crate) fn records(content: &mut Content, origin: &Origin, recipient: Option<&[u8]>) -> Vec<u8> {
    let mut rules = content.rules.anew();
    let mut lines = generated::received(&content.options, &content.arrival, origin, recipient);
    for (line, name) in lines.iter_mut().zip(["Received:", "", ""]) {
        if rules.rejects_characters(line) {
            break;
        }
        // It stays a header, whatever is taken away from it.
        let mut text = line.split_off(name.len());
        rules.strip_characters(&mut text);
        line.append(&mut text);
    }
    let mut header = join(lines, content.options.header_size_limit);
    let is_over = rules.is_over() || content.rules.is_first_line_refused;
    if !is_over && content.strictness().headers_are_7bit && !header.is_ascii() {
        // Each error is logged the first time that it occurs.
        content.rules.forget_mime_error(MimeError::EightBitHeader);
        rules.mime_error(MimeError::EightBitHeader, &header);
        content.mime_errors.add(MimeError::EightBitHeader);
    }
    let change = if is_over { Change::Drop } else { rules.header(Section::Primary, &header) };
    if rules.is_over() {
        content.mime_errors = Errors::default();
    }
    let of_content = std::mem::replace(&mut content.rules, rules);

    let mut records = Vec::new();
    match change {
        Change::Keep => {}
        Change::Drop => header.clear(),
        Change::Prepend(first) => content.write_header(&first, &mut records),
        Change::Replace(other) => {
            header = other;
            let name = header.get(..name_len(&header).unwrap_or_default()).unwrap_or_default();
            if let Some(known) = Known::find(name) {
                content.rewrite(known, &mut header);
            }
        }
    }
    let name = header.get(..name_len(&header).unwrap_or_default()).unwrap_or_default();
    if !header.is_empty() && !content.is_dropped(name) {
        content.write_header(&header, &mut records);
    }
    content.rules.follow(of_content);
    records
}

/// One header of some lines.
fn join(lines: [Vec<u8>; 3], header_size_limit: usize) -> Vec<u8> {
    let mut lines = lines.into_iter();
    let mut header = lines.next().unwrap_or_default();
    for line in lines {
        if header.len() < header_size_limit {
            header.push(b'\n');
            header.extend_from_slice(&line);
        }
    }
    header
}
