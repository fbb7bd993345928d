//! `hash:` and `btree:` files on disk: how they are opened, watched and locked. What stands in them is in `postmap/README.md`.

#![cfg(test)] // A helper that fails fails its test.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use lookup::{Options, table};
use nix::fcntl::{Flock, FlockArg};
use postfix::notice::Notice;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postmap").join(name);
    std::fs::read(path).unwrap()
}

/// A table whose file is `t.db`.
struct Site {
    dir: tempfile::TempDir,
    kind: &'static str,
}

impl Site {
    fn new(kind: &'static str) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), kind };
        std::fs::write(site.file(), fixture(&format!("hosts-{kind}.db"))).unwrap();
        site
    }

    fn name(&self) -> PathBuf {
        self.dir.path().join("t")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("t.db")
    }

    fn open(&self) -> Opened {
        let mut notices = Vec::new();
        let table =
            table::open(self.kind, self.name().to_str().unwrap(), &Options::default(), &mut notices).unwrap();
        Opened { table, notices }
    }
}

struct Opened {
    table: Box<dyn table::Table>,
    notices: Vec<Notice>,
}

impl Opened {
    fn ask(&mut self, key: &str) -> Result<Option<String>, table::TableError> {
        self.ask_until(key, None)
    }

    fn ask_until(
        &mut self,
        key: &str,
        deadline: Option<Instant>,
    ) -> Result<Option<String>, table::TableError> {
        let mut call = table::Call { notices: &mut self.notices, deadline, budget: None };
        let value = self.table.lookup(key.as_bytes(), &mut call)?;
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }

    fn last_notice(&self) -> &str {
        &self.notices.last().unwrap().text
    }
}

#[test]
fn answers_come_without_their_nul_and_keys_as_they_are() {
    for kind in ["hash", "btree"] {
        let site = Site::new(kind);
        let mut opened = site.open();
        assert_eq!(opened.ask("host40.example.com"), Ok(Some("v40".repeat(12))));
        assert_eq!(opened.ask("big.example.com"), Ok(Some("0123456789".repeat(500))));
        for key in ["Mixed.Example", "host80.example.com", ""] {
            assert_eq!(opened.ask(key), Ok(None), "{kind} {key}");
        }
        assert!(opened.table.is_fixed() && !opened.table.is_remote());
        assert_eq!(opened.table.name(), format!("{kind}:{}", site.name().display()));
        assert_eq!(opened.notices, []);
        // Address maps fold what they ask for.
        let options = Options { fold_keys: true, ..Options::default() };
        let name = site.name();
        opened.table = table::open(kind, name.to_str().unwrap(), &options, &mut Vec::new()).unwrap();
        assert_eq!(opened.ask("Mixed.Example"), Ok(Some("folded by postmap".to_owned())));
    }
}

#[test]
fn what_cannot_be_opened_is_said_with_a_remedy() {
    for kind in ["hash", "btree"] {
        let site = Site::new(kind);
        let name = site.name().display().to_string();
        let remedy = format!("run \"postmap {kind}:{name}\" to rebuild it");
        let mut version = fixture(&format!("hosts-{kind}.db"));
        version[16] = 4;
        let other = if kind == "hash" { "btree" } else { "hash" };
        for (contents, expected) in [
            (vec![], format!("it is not a Berkeley DB file, or it is damaged; {remedy}")),
            (
                b"127.0.0.1 ok\n".repeat(100),
                format!(
                    "it is not a Berkeley DB file, or it is damaged; \
             {remedy}"
                ),
            ),
            (
                fixture(&format!("hosts-{other}.db")),
                format!("it is a {other}: table; write {other}:{name}, or {remedy}"),
            ),
            (
                version,
                format!(
                    "it has version 4 of the {kind} format, and versions {} to 10 are supported; {remedy}",
                    if kind == "hash" { 7 } else { 8 }
                ),
            ),
        ] {
            std::fs::write(site.file(), contents).unwrap();
            let mut opened = site.open();
            let reason = format!("open database {name}.db: Invalid argument; {expected}");
            assert_eq!(opened.notices, [Notice::error(reason.clone())]);
            assert!(opened.ask("10.0.0.1").is_err_and(|error| error.temporary));
            assert_eq!(opened.last_notice(), format!("{kind}:{name} is unavailable. {reason}"));
        }
        std::fs::remove_file(site.file()).unwrap();
        let reason = format!("open database {name}.db: No such file or directory");
        assert_eq!(site.open().notices, [Notice::error(reason)]);
        std::fs::create_dir(site.file()).unwrap();
        let reason = format!("open database {name}.db: Not a regular file but a directory");
        assert_eq!(site.open().notices, [Notice::error(reason)]);
    }
}

#[test]
fn a_file_older_than_its_source_is_warned_of() {
    let site = Site::new("hash");
    let at = |path: &Path, seconds: u64| {
        let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    at(&site.file(), 500);
    at(&site.name(), 400);
    let mut opened = site.open();
    let name = site.name().display().to_string();
    let text = format!("database {name}.db is older than source file {name}");
    assert_eq!(opened.notices, [Notice::warning(text)]);
    assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
}

#[test]
fn new_contents_count_at_once_and_a_new_file_is_a_change() {
    for kind in ["hash", "btree"] {
        let site = Site::new(kind);
        let mut opened = site.open();
        assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
        // In place, of another byte order and page size, and with keys that have no NUL.
        std::fs::write(site.file(), fixture(&format!("big-endian-{kind}.db"))).unwrap();
        assert_eq!(opened.ask("host07.example.com"), Ok(Some("v07".repeat(12))), "{kind}");
        std::fs::write(site.file(), fixture(&format!("hosts-{kind}.db"))).unwrap();
        assert_eq!(opened.ask("host08.example.com"), Ok(Some("v08".repeat(12))), "{kind}");
        assert_eq!(opened.table.changed(), None);
        let new = site.dir.path().join("new");
        std::fs::copy(site.file(), &new).unwrap();
        std::fs::rename(new, site.file()).unwrap();
        assert_eq!(opened.table.changed(), Some(site.file().display().to_string()));
    }
}

/// As cp(1) writes over a file: without a lock, from the beginning.
#[test]
fn a_file_that_is_being_copied_over_is_never_taken_for_a_whole_one() {
    for kind in ["hash", "btree"] {
        let site = Site::new(kind);
        let mut opened = site.open();
        let whole = fixture(&format!("hosts-{kind}.db"));
        let file = File::options().write(true).open(site.file()).unwrap();
        for len in (0..whole.len()).step_by(2048) {
            file.set_len(0).unwrap();
            file.write_all_at(&whole[..len], 0).unwrap();
            let found = opened.ask("10.0.0.1");
            assert!(found.is_err_and(|error| error.temporary), "{kind} of {len} bytes");
            let remedy = format!("run \"postmap {kind}:{}\" to rebuild it", site.name().display());
            assert!(opened.last_notice().ends_with(&remedy), "{}", opened.last_notice());
            let start = format!("error reading {}: ", site.file().display());
            assert!(opened.last_notice().starts_with(&start), "{}", opened.last_notice());
        }
        file.write_all_at(&whole, 0).unwrap();
        assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
    }
}

#[test]
fn a_lookup_waits_for_the_lock_of_a_writer_until_its_deadline() {
    for kind in ["hash", "btree"] {
        let site = Site::new(kind);
        let mut opened = site.open();
        assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
        let exclusive = || Flock::lock(File::open(site.file()).unwrap(), FlockArg::LockExclusiveNonblock);
        let lock = exclusive().unwrap();
        assert!(opened.table.is_remote(), "it takes long now");
        let deadline = Instant::now() + Duration::from_millis(50);
        assert!(opened.ask_until("10.0.0.1", Some(deadline)).is_err_and(|error| error.temporary));
        assert!(Instant::now() >= deadline);
        let words = "lock dictionary: another process holds the lock for too long";
        assert!(opened.last_notice().ends_with(words), "{}", opened.last_notice());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| opened.ask("10.0.0.1"));
            drop(lock);
            assert_eq!(waiting.join().unwrap(), Ok(Some("address".to_owned())));
        });
        assert!(!opened.table.is_remote());
        // And after a lookup nothing is locked any more.
        assert!(exclusive().is_ok());
    }
}

/// postmap may be at work when the server starts.
#[test]
fn a_table_that_is_locked_is_opened_and_answers_later() {
    let site = Site::new("hash");
    let whole = std::fs::read(site.file()).unwrap();
    let file = File::options().write(true).open(site.file()).unwrap();
    file.set_len(0).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let mut opened = site.open();
    assert_eq!(opened.notices, []);
    lock.write_all_at(&whole, 0).unwrap();
    drop(lock);
    assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
}
