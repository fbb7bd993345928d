//! Tables of lines: texthash, inline, cidr. The first line is the key.
#![no_main]

use std::sync::LazyLock;

use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use lookup::Options;
use lookup::table::{Call, open};

static FILE: LazyLock<Scratch> = LazyLock::new(|| Scratch::new("text"));

fuzz_target!(|data: &[u8]| {
    let (key, table) = fuzz::split_line(data);
    FILE.write(table);
    let path = FILE.path().to_str().unwrap();
    let inline = String::from_utf8_lossy(table);
    for smtputf8_enable in [true, false] {
        for (type_name, name) in [("texthash", path), ("cidr", path), ("inline", &inline)] {
            let options = Options { smtputf8_enable, fold_keys: smtputf8_enable, ..Options::default() };
            let Ok(table) = open(type_name, name, &options, &mut Vec::new()) else { continue };
            let answer =
                |key: &[u8]| table.lookup(key, &mut Call { notices: &mut Vec::new(), deadline: None, budget: None });
            let first = answer(key);
            assert_eq!(answer(key), first, "the same key gets another answer");
            if let Ok(Some(value)) = first {
                assert!(!value.contains(&0));
                assert!(!smtputf8_enable || std::str::from_utf8(&value).is_ok());
            }
        }
    }
});
