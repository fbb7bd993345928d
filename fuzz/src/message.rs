//! Whole messages through cleanup, for the targets that look at what becomes of one.

use std::sync::Arc;

use cleanup::{Message, Options, Outcome, Tables, fixtures};
use postfix::notice::Notice;
use postfix::queue_file::letter::{Content, Event, Letter};
use postfix::queue_file::{EXTRACTED_RECORD, Late, Streamed, classic};
use postfix::record::{Reader, RecordType};

/// Limits that small inputs reach.
#[must_use]
pub fn small_limits() -> Options {
    Options {
        myhostname: "mx.example.test".to_owned(),
        myorigin: "mx.example.test".to_owned(),
        mydomain: "example.test".to_owned(),
        line_length_limit: 80,
        header_size_limit: 400,
        header_address_token_limit: 100,
        hopcount_limit: 5,
        message_size_limit: 20_000,
        mime_nesting_limit: 4,
        mime_boundary_length_limit: 20,
        duplicate_filter_limit: 3,
        undisclosed_recipients_header: "To: undisclosed-recipients:;".to_owned(),
        ..Options::default()
    }
}

/// A message that begins now.
#[must_use]
pub fn begin(options: &Arc<Options>, tables: &Arc<dyn Tables>) -> Message {
    Message::new(Arc::clone(options), Arc::clone(tables), fixtures::arrival(), fixtures::origin())
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// What is logged, and whether it is accepted.
    pub outcome: Outcome,
    /// Records of the content.
    pub content: Vec<u8>,
    /// Records of recipients.
    pub recipients: Vec<u8>,
}

/// Gives a message its content, and returns the records.
#[must_use]
pub fn give_content(message: &mut Message, pieces: &[&[u8]]) -> Vec<u8> {
    let mut content = Vec::new();
    for piece in pieces {
        message.content_bytes(piece, &mut content);
    }
    message.end_of_content(&mut content);
    content
}

/// Gives a message its envelope, and completes it.
///
/// # Panics
/// When a refusal that was announced is taken back.
#[must_use]
pub fn complete(mut message: Message, content: Vec<u8>, sender: &[u8], recipients: &[&[u8]]) -> Received {
    let mut envelope = Vec::new();
    message.sender(sender, &mut envelope);
    for recipient in recipients {
        message.recipient(recipient, &mut envelope);
    }
    let so_far = message.refusal_so_far();
    let is_wanted = message.is_wanted();
    let outcome = message.finish();
    // What a rule has discarded is taken, whatever else is wrong with it.
    assert!(
        so_far.is_none() || outcome.result.is_err() || !is_wanted,
        "a refusal that was announced is taken back"
    );
    Received { outcome, content, recipients: envelope }
}

/// All of a message at once.
#[must_use]
pub fn receive(
    options: &Arc<Options>,
    tables: &Arc<dyn Tables>,
    pieces: &[&[u8]],
    sender: &[u8],
    recipients: &[&[u8]],
) -> Received {
    let mut message = begin(options, tables);
    let content = give_content(&mut message, pieces);
    complete(message, content, sender, recipients)
}

/// What a queue manager reads in a file.
#[derive(Debug)]
pub struct Read {
    /// The envelope.
    pub letter: Letter,
    /// Original recipient, if there is one, and recipient.
    pub recipients: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    /// The lines of the content.
    pub text: Vec<u8>,
}

/// Reads a queue file of ours.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn read(file: &[u8]) -> Read {
    let (mut letter, mut recipients, mut text) = (Letter::default(), Vec::new(), Vec::new());
    letter
        .read(file, Content::Read, &mut |event| match event {
            Event::Recipient(recipient) => {
                recipients.push((recipient.original.map(<[u8]>::to_vec), recipient.address.to_vec()));
            }
            Event::Content { data, line_ends } => {
                text.extend_from_slice(data);
                if line_ends {
                    text.push(b'\n');
                }
            }
        })
        .expect("our own file");
    Read { letter, recipients, text }
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

/// What holds for every message, accepted or not. Returns what a queue manager reads, if it is to be delivered.
///
/// # Panics
/// When it does not hold.
#[must_use]
pub fn check(options: &Options, received: &Received) -> Option<Read> {
    check_records(&received.content);
    check_notices(&received.outcome.notices);
    let finished = match &received.outcome.result {
        Ok(finished) => finished,
        Err(refusal) => {
            check_reply(&refusal.to_string());
            return None;
        }
    };
    if finished.fate == cleanup::Fate::Discard {
        return None;
    }
    let mut file = Vec::new();
    classic(&finished.parts(&received.recipients, &received.content), &mut file).expect("a layout");
    assert!(file.len() as u64 <= options.message_size_limit);
    let in_classic = read(&file);
    assert_eq!(in_classic.letter.recipients_todo, finished.counts.recipients);
    if let Some(file) = streamed(received) {
        let in_streamed = read(&file);
        assert_eq!(in_streamed.recipients, in_classic.recipients, "the layouts differ in recipients");
        assert_eq!(in_streamed.text, in_classic.text, "the layouts differ in content");
        assert_eq!(in_streamed.letter.sender, in_classic.letter.sender);
    }
    Some(in_classic)
}

/// Content is whole lines and pieces of lines, and a place for a header.
///
/// # Panics
/// When it is something else.
pub fn check_records(content: &[u8]) {
    for record in Reader::new(content) {
        let (_, record) = record.expect("whole records");
        let known = [RecordType::NORMAL, RecordType::PARTIAL, RecordType::POINTER];
        assert!(known.contains(&record.kind) && !record.data.contains(&b'\n'));
    }
}

/// Nothing that a client sent controls a terminal.
///
/// # Panics
/// When it does.
pub fn check_notices(notices: &[Notice]) {
    for notice in notices {
        assert!(
            !notice.text.chars().any(char::is_control),
            "a control character in the log: {:?}",
            notice.text
        );
    }
}

/// The words of a refusal are one line.
///
/// # Panics
/// When they are not.
pub fn check_reply(text: &str) {
    assert!(!text.chars().any(char::is_control), "a control character in a reply: {text:?}");
}
