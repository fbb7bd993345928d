//! `cdb:` tables: D. J. Bernstein's constant database, read from the file for each lookup.
//!
//! 256 pairs (position, slots) of hash tables stand at the beginning, each slot is (hash, position of a record), each
//! record is (key length, value length, key, value); all numbers have 32 bits, low byte first. Every position is
//! checked against the size of the file, so a damaged file gives an error and nothing worse.

use std::fs::File;
use std::os::unix::fs::FileExt;

use postfix::notice::Notice;

use super::indexed::Indexed;
use super::{Call, Opened, Table, TableError, values};
use crate::options::Options;
use crate::syntax::shown;
use postfix::text::system_words;

struct Cdb {
    indexed: Indexed,
}

/// `cdb:name`, the file `name.cdb`.
pub(super) fn open(name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let mut indexed = Indexed::open("cdb", name, ".cdb", options, notices)?;
    // Postfix's log lines show the whole file name for this type.
    indexed.name.push_str(".cdb");
    Ok(Box::new(Cdb { indexed }))
}

impl Table for Cdb {
    fn name(&self) -> &str {
        &self.indexed.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let reader = Reader { file: self.indexed.file.file(), value_bytes_max: self.indexed.value_bytes_max };
        self.indexed.find(key, |key| reader.find(key)).map_err(|reason| {
            let path = self.indexed.file.path().display();
            call.notices.push(Notice::warning(format!("error reading {path}: {reason}")));
            TableError { table: self.indexed.name.clone(), temporary: true }
        })
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        let reader = Reader { file: self.indexed.file.file(), value_bytes_max: self.indexed.value_bytes_max };
        reader.records().find(|(_, value)| values::is_foreign(value)).map(|(key, value)| (shown(&key), value))
    }

    fn changed(&self) -> Option<String> {
        self.indexed.changed()
    }
}

struct Reader<'a> {
    file: &'a File,
    value_bytes_max: u64,
}

/// The file does not hold together.
fn damaged() -> String {
    "the file is damaged; build it again with postmap(1)".to_owned()
}

/// The records of a file that are looked at for a remark about it.
const RECORDS_MAX: usize = 100_000;

/// Where the records begin: behind the 256 pairs.
const FIRST_RECORD: u64 = 2048;

impl<'a> Reader<'a> {
    /// Keys and values in the order of the file, at most [`RECORDS_MAX`], up to the first that does not hold together. The
    /// NUL behind a key that postmap(1) wrote is left out.
    fn records(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + use<'_, 'a> {
        let tables = (0..256_u64).filter_map(|number| self.pair(number.saturating_mul(8)).ok());
        // A table without slots can stand anywhere.
        let end = tables.filter(|(_, slots)| *slots > 0).map(|(at, _)| u64::from(at)).min().unwrap_or(0);
        let mut at = FIRST_RECORD;
        let next = move || {
            let record = (at < end).then_some(at)?;
            let (key_len, value_len) = self.pair(record).ok()?;
            let (key_len, value_len) = (u64::from(key_len), u64::from(value_len));
            let key_at = record.saturating_add(8);
            let value_at = key_at.saturating_add(key_len);
            at = value_at.saturating_add(value_len);
            if at > end || key_len.max(value_len) > self.value_bytes_max {
                return None;
            }
            let (mut key, value) = (self.bytes(key_at, key_len).ok()?, self.bytes(value_at, value_len).ok()?);
            if key.last() == Some(&0) {
                key.pop();
            }
            Some((key, value))
        };
        std::iter::from_fn(next).take(RECORDS_MAX)
    }
}

impl Reader<'_> {
    fn find(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let size = self.file.metadata().map_err(|error| system_words(&error))?.len();
        let hash = hash(key);
        let (table, slots) = self.pair(u64::from(hash & 0xff).saturating_mul(8))?;
        let (table, slots) = (u64::from(table), u64::from(slots));
        if slots == 0 {
            return Ok(None);
        }
        if slots.saturating_mul(8).saturating_add(table) > size {
            return Err(damaged());
        }
        let first = u64::from(hash >> 8).checked_rem(slots).ok_or_else(damaged)?;
        for slot in (first..slots).chain(0..first) {
            let (slot_hash, record) = self.pair(table.saturating_add(slot.saturating_mul(8)))?;
            if record == 0 {
                return Ok(None);
            }
            if slot_hash == hash
                && let Some(value) = self.value(u64::from(record), key, size)?
            {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of the record, if it has this key.
    fn value(&self, record: u64, key: &[u8], size: u64) -> Result<Option<Vec<u8>>, String> {
        let (key_len, value_len) = self.pair(record)?;
        let (key_len, value_len) = (u64::from(key_len), u64::from(value_len));
        let key_at = record.saturating_add(8);
        let value_at = key_at.saturating_add(key_len);
        if value_at.saturating_add(value_len) > size || value_len > self.value_bytes_max {
            return Err(damaged());
        }
        if u64::try_from(key.len()) != Ok(key_len) || self.bytes(key_at, key_len)? != key {
            return Ok(None);
        }
        self.bytes(value_at, value_len).map(Some)
    }

    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| damaged())?];
        self.read(&mut bytes, at)?;
        Ok(bytes)
    }

    fn pair(&self, at: u64) -> Result<(u32, u32), String> {
        let (mut first, mut second) = ([0; 4], [0; 4]);
        self.read(&mut first, at)?;
        self.read(&mut second, at.saturating_add(4))?;
        Ok((u32::from_le_bytes(first), u32::from_le_bytes(second)))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), String> {
        self.file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(),
            _ => system_words(&error),
        })
    }
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, &byte| hash.wrapping_mul(33) ^ u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Builds a file the way the format is described.
    fn build(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 2048];
        let mut tables: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for (key, value) in entries {
            let hash = hash(key);
            tables.entry(hash & 0xff).or_default().push((hash, file.len() as u32));
            file.extend((key.len() as u32).to_le_bytes());
            file.extend((value.len() as u32).to_le_bytes());
            file.extend_from_slice(key);
            file.extend_from_slice(value);
        }
        for (number, records) in tables {
            let slots = records.len() * 2;
            let mut table = vec![(0, 0); slots];
            for (hash, record) in records {
                let mut slot = (hash >> 8) as usize % slots;
                while table[slot] != (0, 0) {
                    slot = (slot + 1) % slots;
                }
                table[slot] = (hash, record);
            }
            let at = number as usize * 8;
            let here = file.len() as u32;
            file[at..at + 4].copy_from_slice(&here.to_le_bytes());
            file[at + 4..at + 8].copy_from_slice(&(slots as u32).to_le_bytes());
            for (hash, record) in table {
                file.extend(hash.to_le_bytes());
                file.extend(record.to_le_bytes());
            }
        }
        file
    }

    fn ask(contents: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.cdb"), contents).unwrap();
        let name = dir.path().join("t");
        let mut notices = Vec::new();
        let table =
            crate::table::open("cdb", name.to_str().unwrap(), &Options::default(), &mut notices).unwrap();
        table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None })
    }

    #[test]
    fn keys_are_found_with_and_without_nul() {
        let without = build(&[(b"a.example", b"1"), (b"10.0.0.1", b"2"), (b"", b"empty")]);
        assert_eq!(ask(&without, b"10.0.0.1"), Ok(Some(b"2".to_vec())));
        assert_eq!(ask(&without, b"10.0.0.2"), Ok(None));
        assert_eq!(ask(&without, b""), Ok(Some(b"empty".to_vec())));
        let with = build(&[(b"a.example\0", b"1\0")]);
        assert_eq!(ask(&with, b"a.example"), Ok(Some(b"1".to_vec())));
        assert_eq!(ask(&build(&[]), b"a"), Ok(None));
    }

    #[test]
    fn records_are_read_in_order_and_none_of_a_damaged_file() {
        let entries: [(&[u8], &[u8]); 3] = [(b"192.0.2.5", b"D"), (b"b\0", b"+X=\0"), (b"", b"")];
        let whole = build(&entries);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.cdb");
        let records = |contents: &[u8]| {
            std::fs::write(&path, contents).unwrap();
            let file = File::open(&path).unwrap();
            Reader { file: &file, value_bytes_max: 1000 }.records().collect::<Vec<_>>()
        };
        let read = records(&whole);
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], (b"192.0.2.5".to_vec(), b"D".to_vec()));
        assert_eq!(read[1], (b"b".to_vec(), b"+X=\0".to_vec()));
        for len in 0..whole.len() {
            assert!(records(&whole[..len]).len() <= 3);
        }
        let mut looped = whole.clone();
        looped[2048..2056].fill(0xff);
        assert_eq!(records(&looped), []);
    }

    #[test]
    fn a_short_file_is_an_error() {
        assert!(ask(b"", b"a").is_err());
        let whole = build(&[(b"a", b"value")]);
        let hash = hash(b"a");
        assert_eq!(hash, 177_604, "the published hash function");
        assert!(ask(&whole[..whole.len() - 1], b"a").is_err());
    }

    /// A file with one record, which stands at the end, behind the slots.
    fn with_last_record(key: &[u8], hash_of: &[u8], value: &[u8]) -> Vec<u8> {
        let hash = hash(hash_of);
        let mut file = vec![0; 2048];
        let at = (hash & 0xff) as usize * 8;
        file[at..at + 8].copy_from_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
        for number in [hash, 2056, key.len() as u32, value.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        [&file, key, value].concat()
    }

    #[test]
    fn a_record_ends_within_the_file_and_has_the_key() {
        let whole = with_last_record(b"a", b"a", b"value");
        assert_eq!(ask(&whole, b"a"), Ok(Some(b"value".to_vec())));
        assert_eq!(
            ask(&with_last_record(b"b", b"a", b"value"), b"a"),
            Ok(None),
            "only the hash is that of the key"
        );
        assert_eq!(ask(&with_last_record(b"ab", b"a", b"value"), b"a"), Ok(None));
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("t");
        let path = dir.path().join("t.cdb");
        for (cut, bytes_max, is_found) in
            [(0, 5, true), (1, 5, false), (0, 4, false), (7, 5, false), (14, 5, false)]
        {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let options = Options { file_bytes_max: bytes_max, ..Options::default() };
            let mut notices = Vec::new();
            let table = crate::table::open("cdb", name.to_str().unwrap(), &options, &mut notices).unwrap();
            let found = table.lookup(b"a", &mut Call { notices: &mut notices, deadline: None, budget: None });
            assert_eq!(found.is_ok(), is_found, "{cut} {bytes_max}");
            let text = format!(
                "error reading {}: the file is damaged; build it again with postmap(1)",
                path.display()
            );
            assert_eq!(notices, if is_found { vec![] } else { vec![Notice::warning(text)] });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_file_never_panics(at in 0_usize..2100, byte: u8, position: u8) {
            let mut file = build(&[(b"a", b"value"), (b"b", b"value"), (b"c", b"value")]);
            let last = file.len() - 1;
            file[at.min(last)] = byte;
            let slot = usize::from(hash(b"a") as u8) * 8 + usize::from(position % 8);
            file[slot] = byte;
            let _ = ask(&file, b"a");
        }
    }
}
