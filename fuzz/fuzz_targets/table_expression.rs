//! Tables of regular expressions: regexp and pcre. The first line is the key.
#![no_main]

use std::sync::LazyLock;

use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use lookup::Options;
use lookup::table::{Call, open};

static FILE: LazyLock<Scratch> = LazyLock::new(|| Scratch::new("expressions"));

fuzz_target!(|data: &[u8]| {
    // The C library copies what is repeated for each `+` and `{}`, copies of copies too, without a bound. That is its, and
    // the operator's, affair: docs/fuzzing.md.
    let repeats = data.iter().filter(|byte| **byte == b'+').count();
    if data.len() > 512 || repeats > 6 || data.contains(&b'{') {
        return;
    }
    let (key, table) = fuzz::split_line(data);
    FILE.write(table);
    for type_name in ["regexp", "pcre"] {
        let options = Options::default();
        let Ok(table) = open(type_name, FILE.path().to_str().unwrap(), &options, &mut Vec::new()) else {
            continue;
        };
        let answer = |key: &[u8]| table.lookup(key, &mut Call { notices: &mut Vec::new(), deadline: None, budget: None });
        let first = answer(key);
        assert_eq!(answer(key), first, "the same key gets another answer");
        if let Ok(Some(value)) = first {
            assert!(!value.contains(&0) && std::str::from_utf8(&value).is_ok());
        }
    }
});
