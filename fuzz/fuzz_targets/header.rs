//! Address headers: the value of To:, Cc: and the like.
#![no_main]

use cleanup::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.contains(&0) {
        return;
    }
    let options = fuzzing::options();
    let Some(once) = fuzzing::rewrite_addresses(&options, data) else { return };
    assert!(once.len() <= 60 * data.len() + 300, "{} bytes become {}", data.len(), once.len());
    let text: Vec<u8> = once.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
    let _ = fuzzing::rewrite_addresses(&options, &text);
});
