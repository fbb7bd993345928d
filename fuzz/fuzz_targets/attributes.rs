//! Attribute lists, and what cleanup(8), proxymap(8) and master(8) say in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix::attr::{AttributeList, DecodeError, Decoder, Entry};
use postfix::child;
use postfix::cleanup_dialogue::{Announcement, Judgement};
use postfix::proxymap_dialogue::{Dialect, open_reply, without_announcement};

const LIST_BYTES_MAX: usize = 1000;

fn decode(pieces: &[&[u8]]) -> (Vec<AttributeList>, Option<DecodeError>, bool) {
    let mut decoder = Decoder::new(LIST_BYTES_MAX);
    let mut lists = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(list)) => lists.push(list),
                Ok(None) => break,
                Err(error) => return (lists, Some(error), false),
            }
        }
        assert!(input.is_empty(), "bytes are left though more is asked for");
    }
    (lists, None, decoder.is_between_lists())
}

fn words(list: &AttributeList) -> usize {
    list.entries
        .iter()
        .map(|entry| match entry {
            Entry::Attribute(name, value) => name.len() + value.len(),
            Entry::Hash(pairs) => pairs.iter().map(|(name, value)| name.len() + value.len()).sum(),
        })
        .sum()
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(&[data]);
    assert_eq!(decode(&fuzz::pieces(data)), whole, "the lists depend on the split");
    for list in &whole.0 {
        assert!(words(list) <= LIST_BYTES_MAX);
        let mut written = Vec::new();
        list.encode(&mut written);
        let again = decode(&[&written]).0;
        assert_eq!(again.first(), Some(list), "what is written is not read back");

        let _ = Announcement::decode(list).map_err(|error| error.to_string());
        let _ = Judgement::decode(list).map_err(|error| error.to_string());
        let _ = open_reply(list).map_err(|error| error.to_string());
        for dialect in [Dialect::UpTo3_10, Dialect::Since3_11] {
            let _ = dialect.lookup_reply(list).map_err(|error| error.to_string());
        }
        let _ = without_announcement(list.clone()).map_err(|error| error.to_string());
    }
    for dialect in [Dialect::UpTo3_10, Dialect::Since3_11] {
        let request = dialect.lookup_request(data, 0, 0, data);
        let (lists, error, is_complete) = decode(&[&request]);
        assert!(error == Some(DecodeError::TooLong(LIST_BYTES_MAX)) || (lists.len() == 1 && is_complete));
    }
    if let Some(message) = data.first_chunk() {
        let (process_id, generation, state) = child::parse_status_message(message);
        if let Some(state) = state {
            assert_eq!(child::status_message(process_id, generation, state), *message);
        }
    }
    let text = String::from_utf8_lossy(data);
    let argv: Vec<&str> = text.split('\n').collect();
    let _ = child::Arguments::parse(&argv).map_err(|error| error.to_string());
});
