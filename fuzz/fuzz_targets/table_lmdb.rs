//! `lmdb:` files: damaged ones, as a broken disk or a half-written copy has them.
#![no_main]

use std::sync::LazyLock;

use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use lookup::Options;
use lookup::table::{Call, open};

static FILE: LazyLock<Scratch> = LazyLock::new(|| Scratch::new("table.lmdb"));

fuzz_target!(|data: &[u8]| {
    FILE.write(data);
    let name = FILE.path().with_extension("");
    let options = Options { smtputf8_enable: false, file_bytes_max: 1 << 20, ..Options::default() };
    let Ok(table) = open("lmdb", name.to_str().unwrap(), &options, &mut Vec::new()) else { return };
    for key in [&b"127.0.0.1"[..], b"localhost", b"k", b"", b"mail.example.com"] {
        let mut notices = Vec::new();
        let answer = table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None });
        match answer {
            Ok(value) => assert!(value.is_none_or(|value| value.len() as u64 <= options.file_bytes_max)),
            Err(_) => assert!(!notices.is_empty(), "an error without a word in the log"),
        }
    }
});
