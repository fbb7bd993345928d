//! Whole cleanup: a line for the sender, one for recipients (blanks between), then the content.
#![no_main]

use std::sync::Arc;

use cleanup::{Arrival, FixLineEndings, Message, NoTables, Options, Origin, Outcome};
use libfuzzer_sys::fuzz_target;
use postfix::queue_file::letter::{Content, Event, Letter};
use postfix::queue_file::{EXTRACTED_RECORD, Late, Streamed, classic};
use postfix::record::{Reader, RecordType};

fn begin(options: &Arc<Options>) -> Message {
    let arrival = Arrival {
        queue_id: "23A5D9AA1F6".to_owned(),
        created: (1_795_386_300, 146_013),
        arrived: (1_795_386_300, 145_704),
        date: "Sun, 22 Nov 2026 22:25:00 +0000 (UTC)".to_owned(),
    };
    let origin = Origin {
        client_name: "localhost".to_owned(),
        client_address: "127.0.0.1".to_owned(),
        client_port: "44544".to_owned(),
        address_family: 2,
        log_origin: "localhost[127.0.0.1]".to_owned(),
    };
    Message::new(Arc::clone(options), Arc::new(NoTables), arrival, origin)
}

struct Received {
    outcome: Outcome,
    content: Vec<u8>,
    recipients: Vec<u8>,
}

fn receive(options: &Arc<Options>, pieces: &[&[u8]], sender: &[u8], recipients: &[&[u8]]) -> Received {
    let mut message = begin(options);
    let (mut content, mut envelope) = (Vec::new(), Vec::new());
    for piece in pieces {
        message.content_bytes(piece, &mut content);
    }
    message.end_of_content(&mut content);
    message.sender(sender, &mut envelope);
    for recipient in recipients {
        message.recipient(recipient, &mut envelope);
    }
    let so_far = message.refusal_so_far();
    let outcome = message.finish();
    assert!(so_far.is_none() || outcome.result.is_err(), "a refusal that was announced is taken back");
    Received { outcome, content, recipients: envelope }
}

/// What a queue manager reads in a file: its envelope, recipients, and the text.
fn read(file: &[u8]) -> (Letter, Vec<Vec<u8>>, Vec<u8>) {
    let (mut letter, mut recipients, mut text) = (Letter::default(), Vec::new(), Vec::new());
    letter
        .read(file, Content::Read, &mut |event| match event {
            Event::Recipient(recipient) => recipients.push(recipient.address.to_vec()),
            Event::Content { data, line_ends } => {
                text.extend_from_slice(data);
                if line_ends {
                    text.push(b'\n');
                }
            }
        })
        .expect("our own file");
    (letter, recipients, text)
}

/// The same message as it lies in a file whose content was written before the envelope was known.
fn streamed(received: &Received) -> Option<Vec<u8>> {
    let finished = received.outcome.result.as_ref().ok()?;
    let layout = Streamed {
        front_bytes: 16384,
        content_bytes: received.content.len() as u64,
        recipients_bytes: received.recipients.len() as u64,
    };
    let parts = finished.parts(&received.recipients, &received.content);
    let late = Late {
        envelope: parts.envelope,
        received: parts.received,
        from: parts.from,
        extracted: parts.extracted,
        counts: parts.counts,
    };
    let mut file = vec![0; 16384];
    file.extend_from_slice(&received.content);
    file.extend_from_slice(&EXTRACTED_RECORD);
    file.extend_from_slice(&received.recipients);
    for write in layout.finish(&late).ok()? {
        let (start, end) = (write.offset as usize, write.offset as usize + write.bytes.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(&write.bytes);
    }
    Some(file)
}

fuzz_target!(|data: &[u8]| {
    let (sender, rest) = fuzz::split_line(data);
    let (recipients, content) = fuzz::split_line(rest);
    let recipients: Vec<&[u8]> = recipients.split(|byte| *byte == b' ').collect();
    let options = Arc::new(Options {
        myhostname: "mx.example.test".to_owned(),
        myorigin: "mx.example.test".to_owned(),
        mydomain: "example.test".to_owned(),
        // Small limits are reached by small inputs.
        line_length_limit: 80,
        header_size_limit: 400,
        header_address_token_limit: 100,
        hopcount_limit: 5,
        message_size_limit: 20_000,
        mime_nesting_limit: 4,
        mime_boundary_length_limit: 20,
        append_dot_mydomain: data.len() % 2 == 0,
        duplicate_filter_limit: 3,
        always_bcc: if data.len() % 3 == 0 { "archive".to_owned() } else { String::new() },
        undisclosed_recipients_header: "To: undisclosed-recipients:;".to_owned(),
        ..Options::default()
    });
    let whole = receive(&options, &[content], sender, &recipients);
    let split = receive(&options, &fuzz::pieces(content), sender, &recipients);
    assert_eq!(split.outcome, whole.outcome, "the outcome depends on the split");
    assert_eq!(split.content, whole.content, "the records depend on the split");

    for record in Reader::new(&whole.content) {
        let (_, record) = record.expect("whole records");
        let known = [RecordType::NORMAL, RecordType::PARTIAL, RecordType::POINTER];
        assert!(known.contains(&record.kind) && !record.data.contains(&b'\n'));
    }
    for notice in &whole.outcome.notices {
        assert!(
            !notice.text.chars().any(char::is_control),
            "a control character in the log: {:?}",
            notice.text
        );
    }
    let Ok(finished) = &whole.outcome.result else { return };
    let mut file = Vec::new();
    classic(&finished.parts(&whole.recipients, &whole.content), &mut file).expect("a layout");
    assert!(file.len() as u64 <= options.message_size_limit);
    let in_classic = read(&file);
    assert_eq!(in_classic.0.recipients_todo, finished.counts.recipients);
    if let Some(file) = streamed(&whole) {
        let in_streamed = read(&file);
        assert_eq!(in_streamed.1, in_classic.1, "the layouts differ in recipients");
        assert_eq!(in_streamed.2, in_classic.2, "the layouts differ in content");
        assert_eq!(in_streamed.0.sender, in_classic.0.sender);
    }
    fixed_point(&options, &whole, sender, &recipients);
});

/// What cleanup has made of a content, it leaves as it is the second time. Postfix's is no fixed point everywhere:
/// headers that are too long lose their ends again, white space moves when a header is folded, and what was read as an address
/// list may be another list when it is written; so only messages whose headers are plain are held to it.
fn fixed_point(options: &Arc<Options>, received: &Received, sender: &[u8], recipients: &[&[u8]]) {
    let Some(text) = text(received) else { return };
    let head_end = text.windows(2).position(|pair| pair == b"\n\n").unwrap_or(text.len());
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" \n:.-_@/=,+".contains(byte);
    let head = &text[..head_end];
    if !head.iter().all(is_plain) || head.split(|byte| *byte == b'\n').any(|line| line.len() > 60) {
        return;
    }
    let options = Arc::new(Options { fix_line_endings: FixLineEndings::Never, ..Options::clone(options) });
    let again = receive(&options, &[&text], sender, recipients);
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
    Some(read(&file).2)
}
