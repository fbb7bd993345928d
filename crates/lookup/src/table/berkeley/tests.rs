//! Files in memory: sound ones of both byte orders, and what any damage to them can do.

use std::cell::Cell;

use super::{Database, Fault, Method, Storage};

pub(super) struct InMemory<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) read: &'a Cell<usize>,
}

impl Storage for InMemory<'_> {
    fn len(&self) -> Result<u64, Fault> {
        Ok(self.bytes.len() as u64)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Fault> {
        self.read.set(self.read.get() + bytes.len());
        let there = self.bytes.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(there.ok_or(Fault::Damaged("it is truncated"))?);
        Ok(())
    }
}

pub(super) const VALUE_BYTES_MAX: u64 = 10_000;
/// What a search may read, and a value, and the first page.
const READ_BYTES_MAX: usize = (16 << 20) + 2 * VALUE_BYTES_MAX as usize + 65536 + 512;

/// Name, contents, and whether keys and values end in NUL. Made as `tests/postmap/README.md` says.
const FILES: [(&str, Method, &[u8], bool); 4] = [
    ("hash", Method::Hash, include_bytes!("../../../tests/postmap/hosts-hash.db"), true),
    ("btree", Method::Btree, include_bytes!("../../../tests/postmap/hosts-btree.db"), true),
    ("big-endian hash", Method::Hash, include_bytes!("../../../tests/postmap/big-endian-hash.db"), false),
    ("big-endian btree", Method::Btree, include_bytes!("../../../tests/postmap/big-endian-btree.db"), false),
];

fn ask(file: &[u8], method: Method, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let read = Cell::new(0);
    let found = Database::open(InMemory { bytes: file, read: &read }, method, VALUE_BYTES_MAX)
        .and_then(|database| database.find(key));
    assert!(read.get() <= READ_BYTES_MAX, "{} bytes were read", read.get());
    found
}

/// What is in every file, and some keys that are not.
fn contents() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut contents: Vec<(String, Option<String>)> = (0..80)
        .map(|number| (format!("host{number:02}.example.com"), Some(format!("v{number:02}").repeat(12))))
        .collect();
    contents.push(("big.example.com".to_owned(), Some("0123456789".repeat(500))));
    contents.push(("10.0.0.1".to_owned(), Some("address".to_owned())));
    contents.push(("mixed.example".to_owned(), Some("folded by postmap".to_owned())));
    contents.push(("k".repeat(1500), Some("long key".to_owned())));
    for key in ["", "host", "host80.example.com", "zzz", "!", "host00.example.con"] {
        contents.push((key.to_owned(), None));
    }
    for len in [1, 1499, 1501, 5000] {
        contents.push(("k".repeat(len), None));
    }
    contents.push(("k".repeat(1499) + "l", None));
    contents.into_iter().map(|(key, value)| (key.into_bytes(), value.map(String::into_bytes))).collect()
}

fn with_nul(mut text: Vec<u8>, nul: bool) -> Vec<u8> {
    text.extend(nul.then_some(0));
    text
}

#[test]
fn every_key_is_found_and_nothing_else() {
    for (name, method, file, nul) in FILES {
        for (key, value) in contents() {
            let found = ask(file, method, &with_nul(key.clone(), nul));
            let expected = Ok(value.map(|value| with_nul(value, nul)));
            assert_eq!(found, expected, "{name}: {}", String::from_utf8_lossy(&key));
        }
    }
}

#[test]
fn a_value_longer_than_the_bound_is_an_error() {
    for (_, method, file, nul) in FILES {
        let read = Cell::new(0);
        let database = Database::open(InMemory { bytes: file, read: &read }, method, 4999).unwrap();
        let found = database.find(&with_nul(b"big.example.com".to_vec(), nul));
        assert_eq!(found, Err(Fault::Damaged("a value is longer than the limit or the file")));
    }
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error() {
    for (name, method, file, _) in FILES {
        for len in (0..file.len()).step_by(97).chain((0..file.len()).step_by(512)).chain([file.len() - 1]) {
            assert!(ask(&file[..len], method, b"none").is_err(), "{name} of {len} bytes");
        }
    }
}

#[test]
fn the_first_page_is_understood_or_refused_in_words() {
    let damaged = |file: &[u8], at: usize, byte: u8| {
        let mut file = file.to_vec();
        file[at] = byte;
        file
    };
    for (name, method, file, nul) in FILES {
        let version_at = if name.starts_with("big") { 19 } else { 16 };
        for version in 0..=20 {
            let found =
                ask(&damaged(file, version_at, version), method, &with_nul(b"10.0.0.1".to_vec(), nul));
            let oldest = if method == Method::Hash { 7 } else { 8 };
            if (oldest..=10).contains(&version) {
                assert_eq!(found, Ok(Some(with_nul(b"address".to_vec(), nul))));
            } else {
                assert_eq!(found, Err(Fault::Version { method, version: version.into() }));
            }
        }
        for (at, byte) in [(24, 1), (26, 1), (26, 2), (48, 1), (51, 1)] {
            let found = ask(&damaged(file, at, byte), method, b"k");
            assert!(matches!(found, Err(Fault::Feature(_))), "{name}, byte {at}: {found:?}");
        }
        for (at, byte) in [(12, 9), (13, 9), (25, 0), (25, 5), (20, 1), (23, 1)] {
            let found = ask(&damaged(file, at, byte), method, b"k");
            assert_eq!(found, Err(Fault::NoDatabase), "{name}, byte {at}");
        }
        let other = if method == Method::Hash { Method::Btree } else { Method::Hash };
        assert_eq!(ask(file, other, b"k"), Err(Fault::OtherMethod(method)));
    }
    let fault = Fault::Version { method: Method::Hash, version: 12 };
    assert_eq!(fault.to_string(), "it has version 12 of the hash format, and versions 7 to 10 are supported");
}

/// Numbers that look random; the first one is the seed.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |sides| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % sides
    }
}

/// An error or an answer, in bounded time: `ask` counts what is read.
#[test]
fn no_damage_makes_a_search_panic_or_endless() {
    for (name, method, file, nul) in FILES {
        let page = if name.starts_with("big") { 512 } else { 4096 };
        for seed in 0..4000_u64 {
            let mut roll = dice(seed);
            let mut damaged = file.to_vec();
            for _ in 0..=roll(4) {
                // Half of it where a page says what it is.
                let at = match roll(2) {
                    0 => roll(file.len()),
                    _ => roll(file.len() / page) * page + roll(100),
                };
                let len = [1, 1, 1, 2, 4, 100][roll(6)].min(file.len() - at);
                match roll(4) {
                    0 => damaged[at..at + len].fill(0),
                    1 => damaged[at..at + len].fill(0xff),
                    2 => damaged[at..at + len].iter_mut().for_each(|byte| *byte = roll(256) as u8),
                    // A small number in the place of another is a page, an offset, a type.
                    _ => damaged[at] = roll(40) as u8,
                }
            }
            for key in ["host40.example.com", "big.example.com", "10.0.0.1", &"k".repeat(1500), "none"] {
                let found = ask(&damaged, method, &with_nul(key.as_bytes().to_vec(), nul));
                let is_bounded = found.is_err()
                    || found.is_ok_and(|value| {
                        value.is_none_or(|value| value.len() as u64 <= VALUE_BYTES_MAX.max(page as u64))
                    });
                assert!(is_bounded, "{name}, seed {seed}, {key}");
            }
        }
    }
}

/// A table of one key has a bucket that was never written. Later, zeros are damage: a disk that lost what was written.
#[test]
fn only_a_bucket_that_never_had_a_key_is_a_page_of_zeros() {
    let mut file = vec![0; 3 * 512];
    file[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    (file[16], file[21], file[25], file[32]) = (9, 2, 8, 2);
    (file[72], file[76], file[96], file[100]) = (1, 1, 1, 1);
    file[92..96].copy_from_slice(&super::buckets::hash(b"%$sniglet^&\0").to_le_bytes());
    let page = &mut file[1024..];
    (page[8], page[20], page[25]) = (2, 2, 13);
    page[26..30].copy_from_slice(&[0xfe, 1, 0xfc, 1]);
    page[508..].copy_from_slice(b"\x01v\x01k");
    let (written, blank): (Vec<_>, Vec<_>) =
        (b'a'..=b'z').partition(|&letter| super::buckets::hash(&[letter]) % 2 == 1);
    assert!(written.contains(&b'k') && !blank.is_empty());
    for letter in written.iter().chain(&blank) {
        let expected = Ok((*letter == b'k').then(|| b"v".to_vec()));
        assert_eq!(ask(&file, Method::Hash, &[*letter]), expected);
    }
    let last = file.len() - 1;
    file[600] = 1;
    assert!(ask(&file, Method::Hash, &blank[..1]).is_err(), "not all zeros");
    assert_eq!(file[last], b'k');
    let (_, method, whole, _) = FILES[0];
    let mut damaged = whole.to_vec();
    damaged[4096..8192].fill(0);
    let lost = contents()
        .iter()
        .filter(|(key, _)| ask(&damaged, method, &with_nul(key.clone(), true)).is_err())
        .count();
    assert!(lost > 5, "{lost} of all");
}

/// Chains that lead back to themselves.
#[test]
fn a_chain_without_end_ends() {
    for (name, method, file, _) in FILES {
        let (page, is_big) = if name.starts_with("big") { (512, true) } else { (4096, false) };
        let mut damaged = file.to_vec();
        for number in 1..file.len() / page {
            let next = 1 + number % (file.len() / page - 1);
            let next = next as u32;
            let bytes = if is_big { next.to_be_bytes() } else { next.to_le_bytes() };
            damaged[number * page + 16..number * page + 20].copy_from_slice(&bytes);
        }
        let results: Vec<_> =
            (0..200).map(|number| ask(&damaged, method, format!("none{number}").as_bytes())).collect();
        if method == Method::Hash {
            assert!(results.iter().any(Result::is_err), "{name}");
        }
    }
}
