//! Addresses: rewriting of those in the envelope and of those in headers.
#![no_main]

use cleanup::fuzzing;
use cleanup::incoming::{is_storable, verp_sender};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let options = fuzzing::options();
    let _ = verp_sender(data, &options.verp_delimiter_filter).map_err(|error| error.to_string());
    if !is_storable(data) {
        return;
    }
    let once = fuzzing::rewrite_internal(&options, data);
    assert!(!once.contains(&b'\n') && !once.contains(&0), "a record cannot hold it");
    // Each byte can become two by quoting, and four domains may be appended.
    assert!(once.len() <= 4 * data.len() + 200, "{} bytes become {}", data.len(), once.len());
    let external = fuzzing::rewrite_external(&options, data);
    assert!(external.len() <= 8 * data.len() + 200);
});
