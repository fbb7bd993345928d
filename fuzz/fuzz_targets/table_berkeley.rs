//! `hash:` and `btree:` files: damaged ones, as a broken disk, a half-written copy or another program has them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookup::fuzzing::berkeley_find;

const VALUE_BYTES_MAX: u64 = 1 << 16;
/// The search, the value and the first page.
const READ_BYTES_MAX: usize = (16 << 20) + 3 * (1 << 16) + (1 << 17) + 512;
/// Longer values can stand in several pieces.
const PIECE_BYTES: usize = 512 - 26;

fuzz_target!(|data: &[u8]| {
    // The first page says which kind it is.
    let is_btree = data.get(25) == Some(&9);
    for key in [&b"host40.example.com\0"[..], b"host07.example.com", b"big.example.com\0", b"10.0.0.1", b"", &[b'k'; 600]] {
        let (found, read) = berkeley_find(data, is_btree, key, VALUE_BYTES_MAX);
        assert!(read <= READ_BYTES_MAX, "{read} bytes were read");
        let Ok(Some(value)) = &found else { continue };
        assert!(value.len() as u64 <= VALUE_BYTES_MAX);
        for text in [key, value] {
            let stands = text.len() > PIECE_BYTES || text.is_empty() || data.windows(text.len()).any(|there| there == text);
            assert!(stands, "an answer, or a key, that is not in the file");
        }
        assert_eq!(berkeley_find(data, is_btree, key, VALUE_BYTES_MAX).0, found);
    }
});
