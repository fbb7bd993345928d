//! Queue files: what lies in a queue directory may be cut short, damaged, or written by somebody else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix::queue_file::letter::{Content, Event, Letter};
use postfix::queue_file::reader::Walker;

fuzz_target!(|data: &[u8]| {
    // Pointers may form circles: the walk must end all the same.
    let mut walker = Walker::new(data);
    let mut records = 0_usize;
    while let Ok(Some(_)) = walker.next() {
        records += 1;
        // Each pointer record leads back once at most, and behind it no record is read twice.
        assert!(records <= data.len() * (data.len() / 3 + 2), "the walk does not end");
    }

    let read = |content| {
        let (mut letter, mut todo, mut done, mut bytes) = (Letter::default(), 0_u64, 0_u64, 0_usize);
        let mut recipients = Vec::new();
        let outcome = letter.read(data, content, &mut |event| match event {
            Event::Recipient(recipient) => {
                match recipient.state.name() {
                    "todo" => todo += 1,
                    _ => done += 1,
                }
                assert!(recipient.offset < data.len() as u64);
                recipients.push(recipient.address.to_vec());
            }
            Event::Content { data, .. } => bytes += data.len(),
        });
        assert_eq!((letter.recipients_todo, letter.recipients_done), (todo, done));
        (outcome.map_err(|error| error.to_string()), letter, recipients, bytes)
    };
    let with_content = read(Content::Read);
    let without = read(Content::Skip);
    if with_content.0.is_ok() {
        assert!(with_content.1.sender.is_some() && with_content.1.arrival.is_some());
    }
    // A skipped content has no say in the envelope, unless the size record lies about where it ends.
    if with_content.0.is_ok()
        && without.0.is_ok()
        && without.3 == 0
        && with_content.2.len() == without.2.len()
    {
        assert_eq!(with_content.2, without.2);
    }
});
