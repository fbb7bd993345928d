//! Our own Received: header. It is the first that rules look at, and its text is the last that is known.

use crate::content::Content;
use crate::generated;
use crate::header::{Known, name_len};
use crate::mime::Section;
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
    for line in &mut lines {
        if rules.rejects_characters(line) {
            break;
        }
        rules.strip_characters(line);
    }
    let mut header = join(lines, content.options.header_size_limit);
    let change = if rules.refusal.is_some() { Change::Drop } else { rules.header(Section::Primary, &header) };
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
