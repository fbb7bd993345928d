//! `hash:` and `btree:` tables: the files that Berkeley DB writes for postmap(1), read page by page for each lookup.
//!
//! Our own reader instead of the library: the library is written for files that only it has written, and panics, in its own
//! words, or worse at others. Only what postmap makes is read: one database, no duplicates, no checksums, no
//! encryption; any page size, both byte orders. What decides is [`database`] and the modules below it, over bytes;
//! here are the file, the lock and the clock.
//!
//! postmap truncates a file and writes it in place, under an exclusive flock(2); Postfix takes a shared one for each lookup, and
//! so do we. Nothing is kept between two lookups, so that new contents count from the next one on. A program that
//! writes without the lock is noticed too: the answer counts only if the file was left alone meanwhile and a moment before.

mod btree;
mod buckets;
mod database;
mod fault;
mod hash;
mod meta;
mod page;
mod pages;
#[cfg(test)]
mod small;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postfix::notice::Notice;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub(super) use self::database::Database;
pub(super) use self::fault::{Fault, Method};
pub(super) use self::pages::Storage;
use super::indexed::Indexed;
use super::{Call, Opened, Table, TableError};
use crate::options::Options;
use postfix::text::system_words;

/// How long a file must have been left alone before an answer from it counts: more than the grain of the system's file times.
const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(2);
/// How long an opening waits for a postmap that is at work. Lookups find out by themselves what it has made.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);

struct Berkeley {
    indexed: Indexed,
    method: Method,
    /// What builds the file anew, for messages.
    remedy: String,
    /// Held during a lookup: the lock on the file is one for all threads. What was seen of the file lately.
    turn: Mutex<Option<LastSeen>>,
    timeout: Duration,
}

/// `hash:name` or `btree:name`, the file `name.db`.
pub(super) fn open(method: Method, name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let mut indexed = Indexed::open(method.name(), name, ".db", options, notices)?;
    indexed.file = indexed.file.read_live();
    let remedy = format!("run \"postmap {}\" to rebuild it", indexed.name);
    let table =
        Berkeley { indexed, method, remedy, turn: Mutex::new(None), timeout: options.operation_timeout };
    let opened = table.wait(Instant::now().checked_add(OPEN_PATIENCE), |_| Ok(()));
    match opened {
        Ok(()) | Err(BerkeleyError::Busy) => Ok(Box::new(table)),
        Err(BerkeleyError::Fault(Fault::Unreadable(why))) => {
            Err(format!("open database {}: {why}", table.path()))
        }
        Err(BerkeleyError::Fault(fault)) => {
            Err(format!("open database {}: Invalid argument; {}", table.path(), table.explain(&fault)))
        }
    }
}

/// Why there is no answer.
enum BerkeleyError {
    /// Another process has the lock, or keeps writing without it.
    Busy,
    Fault(Fault),
}

impl From<Fault> for BerkeleyError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Berkeley {
    fn path(&self) -> String {
        self.indexed.file.path().display().to_string()
    }

    /// The path without `.db`.
    fn source(&self) -> &str {
        self.indexed.name.split_once(':').map_or("", |(_, name)| name)
    }

    /// The fault, and what to do about it.
    fn explain(&self, fault: &Fault) -> String {
        match fault {
            Fault::Unreadable(why) => why.clone(),
            Fault::OtherMethod(method) => {
                format!("{fault}; write {}:{}, or {}", method.name(), self.source(), self.remedy)
            }
            _ => format!("{fault}; {}", self.remedy),
        }
    }

    /// Does something with the database while no program writes it; tries again until it can.
    fn wait<T>(
        &self,
        until: Option<Instant>,
        mut ask: impl FnMut(&Database<&File>) -> Result<T, Fault>,
    ) -> Result<T, BerkeleyError> {
        loop {
            match self.attempt(&mut ask) {
                Err(BerkeleyError::Busy) if until.is_none_or(|until| Instant::now() < until) => {
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// One try, which does not wait for another process.
    fn attempt<T>(
        &self,
        ask: &mut impl FnMut(&Database<&File>) -> Result<T, Fault>,
    ) -> Result<T, BerkeleyError> {
        // What a thread that panicked has left behind is a stamp that was true.
        let mut seen = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.indexed.file.file();
        let (_lock, before) = self.enter(&mut seen)?;
        let answer = Database::open(file, self.method, self.indexed.value_bytes_max)
            .and_then(|database| ask(&database));
        if Stamp::of(file)? != before {
            return Err(BerkeleyError::Busy);
        }
        Ok(answer?)
    }

    /// Takes the lock, if the file is left alone.
    fn enter(&self, seen: &mut Option<LastSeen>) -> Result<(ReadLock<'_>, Stamp), BerkeleyError> {
        let file = self.indexed.file.file();
        let lock = ReadLock::take(file)?;
        let stamp = Stamp::of(file)?;
        let since = match *seen {
            Some(LastSeen { stamp: last, since }) if last == stamp => since,
            _ => {
                self.indexed.forget_form();
                seen.insert(LastSeen { stamp, since: Instant::now() }).since
            }
        };
        let is_settled = stamp.is_settled() || since.elapsed() >= SETTLED_AFTER;
        if is_settled { Ok((lock, stamp)) } else { Err(BerkeleyError::Busy) }
    }
}

impl Table for Berkeley {
    fn name(&self) -> &str {
        &self.indexed.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let limit = Instant::now().checked_add(self.timeout);
        let until = [limit, call.deadline].into_iter().flatten().min();
        let found = self.wait(until, |database| self.indexed.find(key, |key| database.find(key)));
        found.map_err(|failure| {
            let reason = match failure {
                BerkeleyError::Busy => {
                    "lock dictionary: another process holds the lock for too long".to_owned()
                }
                BerkeleyError::Fault(fault) => self.explain(&fault),
            };
            call.notices.push(Notice::warning(format!("error reading {}: {reason}", self.path())));
            TableError { table: self.indexed.name.clone(), temporary: true }
        })
    }

    fn is_fixed(&self) -> bool {
        true
    }

    /// Not through a socket; but while the file is being written a lookup takes as long as that.
    fn is_remote(&self) -> bool {
        let mut seen = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(self.enter(&mut seen), Err(BerkeleyError::Busy))
    }

    fn changed(&self) -> Option<String> {
        self.indexed.changed()
    }
}

/// What the last try saw, and since when.
#[derive(Debug, Clone, Copy)]
struct LastSeen {
    stamp: Stamp,
    since: Instant,
}

/// When a file was written last, and how long it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> Result<Self, Fault> {
        let metadata = file.metadata().map_err(|error| Fault::Unreadable(system_words(&error)))?;
        Ok(Self {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether the last write is long enough ago that another one would have another time.
    fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
            return false;
        };
        let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
        // A time in the future, from before a clock was set back, says nothing.
        changed.is_some_and(|changed| {
            SystemTime::now().duration_since(changed).is_ok_and(|age| age >= SETTLED_AFTER)
        })
    }
}

/// The shared lock; goes with the value.
struct ReadLock<'a> {
    file: &'a File,
}

impl<'a> ReadLock<'a> {
    fn take(file: &'a File) -> Result<Self, BerkeleyError> {
        match flock(file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { file }),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Err(BerkeleyError::Busy),
            Err(error) => {
                let why = system_words(&std::io::Error::from(error));
                Err(BerkeleyError::Fault(Fault::Unreadable(format!("lock dictionary: {why}"))))
            }
        }
    }
}

impl Drop for ReadLock<'_> {
    fn drop(&mut self) {
        // Unlocking a file that is open cannot fail.
        let _ = flock(self.file, FlockOperation::Unlock);
    }
}

impl Storage for &File {
    fn len(&self) -> Result<u64, Fault> {
        self.metadata()
            .map(|metadata| metadata.len())
            .map_err(|error| Fault::Unreadable(system_words(&error)))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Fault> {
        self.read_exact_at(bytes, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Fault::Damaged("it is truncated"),
            _ => Fault::Unreadable(system_words(&error)),
        })
    }
}

#[cfg(test)]
mod hands {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// A table in a directory that goes with it.
    fn table(dir: &tempfile::TempDir) -> Berkeley {
        let name = dir.path().join("t");
        std::fs::write(name.with_extension("db"), include_bytes!("../../../tests/postmap/hosts-hash.db"))
            .unwrap();
        let options = Options::default();
        let indexed =
            Indexed::open("hash", name.as_os_str().as_bytes(), ".db", &options, &mut Vec::new()).unwrap();
        Berkeley {
            indexed,
            method: Method::Hash,
            remedy: String::new(),
            turn: Mutex::new(None),
            timeout: options.operation_timeout,
        }
    }

    #[test]
    fn an_answer_from_a_file_that_was_written_meanwhile_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(&dir);
        let mut tries = 0;
        let found = table.wait(None, |database| {
            tries += 1;
            let found = database.find(b"10.0.0.1\0");
            if tries < 3 {
                // Without the lock, and without another length.
                let file = File::options().write(true).open(table.indexed.file.path()).unwrap();
                file.write_all_at(b"\0", 0).unwrap();
            }
            found
        });
        assert!(matches!(found, Ok(Some(value)) if value == b"address\0"));
        assert_eq!(tries, 3);
    }

    #[test]
    fn a_file_that_was_written_just_now_is_left_alone_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(&dir);
        let written = Instant::now();
        assert!(matches!(table.wait(None, |database| database.find(b"10.0.0.1\0")), Ok(Some(_))));
        // The times of files lag behind by a tick.
        assert!(written.elapsed() >= SETTLED_AFTER / 4);
        assert!(!table.is_remote());
    }

    #[test]
    fn a_file_that_was_left_alone_answers_at_the_first_try() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(&dir);
        let (seconds, nanoseconds) = Stamp::of(table.indexed.file.file()).unwrap().changed;
        let changed = UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds as u32);
        while SystemTime::now().duration_since(changed).is_ok_and(|age| age < SETTLED_AFTER) {
            std::thread::sleep(PAUSE);
        }
        let found = table.attempt(&mut |database: &Database<&File>| database.find(b"10.0.0.1\0"));
        assert!(matches!(found, Ok(Some(value)) if value == b"address\0"));
    }

    #[test]
    fn the_words_of_the_system_come_without_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let table = Berkeley { remedy: "remedy".to_owned(), ..table(&dir) };
        assert_eq!(table.explain(&Fault::Unreadable("Input/output error".to_owned())), "Input/output error");
        assert_eq!(table.explain(&Fault::Damaged("why")), "it is damaged: why; remedy");
    }
}
