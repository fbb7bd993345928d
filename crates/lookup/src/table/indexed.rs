//! What the indexed files of postmap(1) have in common: where they lie, NUL behind keys, stale files.

use postfix::text::system_words;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use postfix::notice::Notice;

use crate::options::Options;
use crate::syntax::shown;
use crate::watch::Watched;
use postfix::text::fold_if;

/// An open file, and how its keys are written.
pub(super) struct Indexed {
    /// `type:name`, where the name is without suffix or, for cdb, with it, as in Postfix's log lines.
    pub(super) name: String,
    pub(super) file: Watched,
    /// How long a value may be, in bytes; a longer one means that the file is damaged.
    pub(super) value_bytes_max: u64,
    fold: bool,
    unicode: bool,
    /// [`UNDECIDED`], or one of the forms once a key was found in it: a file has only one.
    form: AtomicU8,
}

const UNDECIDED: u8 = 0;
const WITH_NUL: u8 = 1;
const WITHOUT_NUL: u8 = 2;

impl Indexed {
    /// Opens `name` plus the suffix, and warns if the file that it was made from is newer.
    pub(super) fn open(
        type_name: &str,
        name: &[u8],
        suffix: &str,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, String> {
        let path = format!("{}{suffix}", shown(name));
        let bytes = [name, suffix.as_bytes()].concat();
        let file = Watched::open(Path::new(OsStr::from_bytes(&bytes)))
            .map_err(|error| format!("open database {path}: {}", system_words(&error)))?;
        let source = Path::new(OsStr::from_bytes(name));
        if is_stale(&file, source) {
            let source = shown(name);
            notices.push(Notice::warning(format!("database {path} is older than source file {source}")));
        }
        Ok(Self {
            name: format!("{type_name}:{}", shown(name)),
            file,
            value_bytes_max: options.file_bytes_max,
            fold: options.fold_keys,
            unicode: options.smtputf8_enable,
            form: AtomicU8::new(UNDECIDED),
        })
    }

    /// Looks for the key with a NUL behind it, then without; after the first hit only in that form.
    pub(super) fn find<E>(
        &self,
        key: &[u8],
        mut find: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let key: Cow<'_, [u8]> = fold_if(self.fold, key, self.unicode);
        let decided = self.form.load(Ordering::Relaxed);
        for form in [WITH_NUL, WITHOUT_NUL] {
            if decided != UNDECIDED && decided != form {
                continue;
            }
            let found = if form == WITH_NUL { find(&[&key, &[0][..]].concat())? } else { find(&key)? };
            if let Some(value) = found {
                self.form.store(form, Ordering::Relaxed);
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The file has other contents: its keys may be written the other way now.
    pub(super) fn forget_form(&self) {
        self.form.store(UNDECIDED, Ordering::Relaxed);
    }

    pub(super) fn changed(&self) -> Option<String> {
        self.file.changed().then(|| self.file.path().display().to_string())
    }
}

/// Whether the source was written after the index was built, and not just now (it may be about to be built).
fn is_stale(index: &Watched, source: &Path) -> bool {
    let Ok(source) = std::fs::metadata(source) else { return false };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let settled = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(100);
    source.mtime() > index.modified() && source.mtime() < settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    #[test]
    fn an_index_older_than_its_source_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("clients");
        let index = dir.path().join("clients.cdb");
        let at = |path: &Path, now: SystemTime, seconds_ago: u64| {
            let time = now - Duration::from_secs(seconds_ago);
            let file = File::options().write(true).create(true).truncate(true).open(path).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        };
        let cases = [(500, 400, true), (400, 500, false), (500, 500, false), (500, 20, false)];
        for (index_age, source_age, expected) in cases {
            let now = SystemTime::now();
            at(&index, now, index_age);
            at(&name, now, source_age);
            let mut notices = Vec::new();
            let bytes = name.as_os_str().as_bytes();
            Indexed::open("cdb", bytes, ".cdb", &Options::default(), &mut notices).unwrap();
            let text = format!("database {} is older than source file {}", index.display(), name.display());
            assert_eq!(notices, if expected { vec![Notice::warning(text)] } else { vec![] });
        }
    }

    #[test]
    fn a_file_whose_form_is_known_is_asked_in_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("t");
        std::fs::write(dir.path().join("t.cdb"), "").unwrap();
        let bytes = name.as_os_str().as_bytes();
        let asked = |indexed: &Indexed, known: &[u8]| {
            let mut asked = Vec::new();
            let found = indexed.find(b"k", |key| {
                asked.push(key.to_vec());
                Ok::<_, String>((key == known).then(|| b"v".to_vec()))
            });
            (found.unwrap().is_some(), asked)
        };
        let (with, without) = (b"k\0".to_vec(), b"k".to_vec());
        let both = vec![with.clone(), without.clone()];
        for (form, other, first) in [(&with, &without, vec![with.clone()]), (&without, &with, both.clone())] {
            let indexed = Indexed::open("cdb", bytes, ".cdb", &Options::default(), &mut Vec::new()).unwrap();
            assert_eq!(asked(&indexed, b""), (false, both.clone()));
            assert_eq!(asked(&indexed, form), (true, first));
            assert_eq!(asked(&indexed, other), (false, vec![form.clone()]));
            indexed.forget_form();
            assert_eq!(asked(&indexed, b""), (false, both.clone()));
        }
    }
}
