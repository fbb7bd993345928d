//! Replies of table servers: tcp and socketmap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookup::fuzzing::{quote_tcp_key, socketmap_reply, tcp_reply, unquote_tcp_text};

const REPLY_BYTES_MAX: usize = 300;

fuzz_target!(|data: &[u8]| {
    if let Some(value) = tcp_reply(data) {
        assert!(value.len() <= data.len());
    }
    let quoted = quote_tcp_key(data);
    assert!(quoted.iter().all(u8::is_ascii_graphic));
    assert_eq!(unquote_tcp_text(&quoted).as_deref(), Some(data));

    // A reply is complete or refused at the same byte, however it comes.
    let mut outcome = None;
    for end in 0..=data.len() {
        match socketmap_reply(&data[..end], REPLY_BYTES_MAX) {
            Ok(None) => assert!(outcome.is_none(), "a reply that was complete is so no more"),
            decided => {
                assert!(outcome.is_none_or(|earlier| earlier == decided), "more bytes change a decision");
                outcome = Some(decided);
            }
        }
    }
    if let Some(Ok(Some(reply))) = outcome {
        assert!(reply.len() <= REPLY_BYTES_MAX);
    }
});
