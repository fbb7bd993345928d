//! Whole cleanup: a line for the sender, one for recipients (blanks between), then the content.
#![no_main]

use std::sync::Arc;

use cleanup::{FixLineEndings, NoTables, Options, Tables};
use fuzz::message::{Received, check, read, receive, small_limits};
use libfuzzer_sys::fuzz_target;
use postfix::queue_file::classic;

fuzz_target!(|data: &[u8]| {
    let (sender, rest) = fuzz::split_line(data);
    let (recipients, content) = fuzz::split_line(rest);
    let recipients: Vec<&[u8]> = recipients.split(|byte| *byte == b' ').collect();
    let options = Arc::new(Options {
        append_dot_mydomain: data.len() % 2 == 0,
        always_bcc: if data.len() % 3 == 0 { "archive".to_owned() } else { String::new() },
        ..small_limits()
    });
    let tables: Arc<dyn Tables> = Arc::new(NoTables);
    let whole = receive(&options, &tables, &[content], sender, &recipients);
    let split = receive(&options, &tables, &fuzz::pieces(content), sender, &recipients);
    assert_eq!(split.outcome, whole.outcome, "the outcome depends on the split");
    assert_eq!(split.content, whole.content, "the records depend on the split");
    if check(&options, &whole).is_some() {
        fixed_point(&options, &tables, &whole, sender, &recipients);
    }
});

/// What cleanup has made of a content, it leaves as it is the second time. Postfix's is no fixed point everywhere:
/// headers that are too long lose their ends again, white space moves when a header is folded, and what was read as an address
/// list may be another list when it is written; so only messages whose headers are plain are held to it.
fn fixed_point(
    options: &Arc<Options>,
    tables: &Arc<dyn Tables>,
    received: &Received,
    sender: &[u8],
    recipients: &[&[u8]],
) {
    let Some(text) = text(received) else { return };
    let head_end = text.windows(2).position(|pair| pair == b"\n\n").unwrap_or(text.len());
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" \n:.-_@/=,+".contains(byte);
    let head = &text[..head_end];
    if !head.iter().all(is_plain) || head.split(|byte| *byte == b'\n').any(|line| line.len() > 60) {
        return;
    }
    let options = Arc::new(Options { fix_line_endings: FixLineEndings::Never, ..Options::clone(options) });
    let again = receive(&options, tables, &[&text], sender, recipients);
    if let Some(again) = self::text(&again) {
        assert_eq!(
            String::from_utf8_lossy(&again),
            String::from_utf8_lossy(&text),
            "a second cleanup changes what the first made"
        );
    }
}

/// The content without our own Received: header.
fn text(received: &Received) -> Option<Vec<u8>> {
    let finished = received.outcome.result.as_ref().ok()?;
    let mut parts = finished.parts(&received.recipients, &received.content);
    parts.received = &[];
    let mut file = Vec::new();
    classic(&parts, &mut file).ok()?;
    if parts.content.is_empty() {
        return None;
    }
    Some(read(&file).text)
}
