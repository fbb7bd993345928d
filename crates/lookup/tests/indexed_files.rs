//! Files that postmap(1) of Postfix 3.7.11 wrote; see `postmap/README.md` for what is in them.

#![cfg(test)] // A helper that fails fails its test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lookup::{Options, table};
use postfix::notice::Notice;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postmap").join(name)
}

struct Opened {
    table: Box<dyn table::Table>,
    notices: Vec<Notice>,
}

impl Opened {
    fn open(type_name: &str, path: &Path) -> Self {
        let mut notices = Vec::new();
        let name = path.to_str().unwrap();
        let table = table::open(type_name, name, &Options::default(), &mut notices).unwrap();
        Self { table, notices }
    }

    fn ask(&mut self, key: &str) -> Result<Option<String>, table::TableError> {
        let mut call = table::Call { notices: &mut self.notices, deadline: None, budget: None };
        let value = self.table.lookup(key.as_bytes(), &mut call)?;
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }
}

#[test]
fn every_key_is_found_and_nothing_else() {
    for type_name in ["lmdb", "cdb"] {
        let mut opened = Opened::open(type_name, &fixture("hosts"));
        for number in 0..80 {
            let value = format!("v{number:02}").repeat(12);
            assert_eq!(opened.ask(&format!("host{number:02}.example.com")), Ok(Some(value)), "{type_name}");
        }
        assert_eq!(opened.ask("big.example.com"), Ok(Some("0123456789".repeat(500))));
        assert_eq!(opened.ask("10.0.0.1"), Ok(Some("address".to_owned())));
        assert_eq!(opened.ask("mixed.example"), Ok(Some("folded by postmap".to_owned())));
        for key in ["Mixed.Example", "host80.example.com", "host", "", "zzz", "\u{1}"] {
            assert_eq!(opened.ask(key), Ok(None), "{type_name} {key:?}");
        }
        assert!(opened.table.is_fixed() && !opened.table.is_remote());
        assert_eq!(opened.notices, []);
    }
}

#[test]
fn a_file_that_is_missing_or_something_else_fails_each_lookup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let name = path.display();
    let mut opened = Opened::open("lmdb", &path);
    let reason = format!("open database {name}.lmdb: No such file or directory");
    assert_eq!(opened.notices, [Notice::error(reason.clone())]);
    assert!(opened.ask("k").is_err_and(|error| error.temporary));
    assert_eq!(opened.notices[1], Notice::warning(format!("lmdb:{name} is unavailable. {reason}")));

    std::fs::write(dir.path().join("t.lmdb"), "no database at all").unwrap();
    let opened = Opened::open("lmdb", &path);
    let reason = format!("open database {name}.lmdb: MDB_INVALID: File is not an LMDB file");
    assert_eq!(opened.notices, [Notice::error(reason)]);
}

#[test]
fn a_file_that_is_cut_short_while_open_is_an_error_and_not_the_end() {
    for type_name in ["lmdb", "cdb"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let file = path.with_extension(type_name);
        std::fs::copy(fixture(&format!("hosts.{type_name}")), &file).unwrap();
        let mut opened = Opened::open(type_name, &path);
        std::fs::File::options().write(true).open(&file).unwrap().set_len(8192).unwrap();
        let results: Vec<_> =
            (0..80).map(|number| opened.ask(&format!("host{number:02}.example.com"))).collect();
        assert!(results.iter().any(Result::is_err), "{type_name}");
    }
}

#[test]
fn no_damage_to_the_file_makes_a_lookup_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    for type_name in ["lmdb", "cdb"] {
        let whole = std::fs::read(fixture(&format!("hosts.{type_name}"))).unwrap();
        let mut seed: u32 = 1;
        for _ in 0..400 {
            let mut damaged = whole.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = seed as usize % damaged.len();
                damaged[at] = (seed >> 24) as u8;
                // The first bytes of a page decide most.
                let at = (seed as usize % 10) * 4096 + seed as usize / 16 % 64;
                if let Some(byte) = damaged.get_mut(at) {
                    *byte = (seed >> 16) as u8;
                }
            }
            std::fs::write(path.with_extension(type_name), damaged).unwrap();
            let mut opened = Opened::open(type_name, &path);
            for key in ["host40.example.com", "big.example.com", "none"] {
                let _ = opened.ask(key);
            }
        }
    }
}

#[test]
fn what_counts_as_a_change() {
    let dir = tempfile::tempdir().unwrap();
    for (type_name, in_place) in [("lmdb", false), ("cdb", true)] {
        let path = dir.path().join("t");
        let file = path.with_extension(type_name);
        let source = fixture(&format!("hosts.{type_name}"));
        std::fs::copy(&source, &file).unwrap();
        let opened = Opened::open(type_name, &path);
        assert_eq!(opened.table.changed(), None);
        // An lmdb file is written in place and its new contents are seen at once.
        std::fs::write(&file, std::fs::read(&source).unwrap()).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_eq!(opened.table.changed().is_some(), in_place, "{type_name}");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(opened.table.changed(), Some(file.display().to_string()));
    }
}

#[test]
fn a_lock_that_a_writer_keeps_ends_the_lookup_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    std::fs::copy(fixture("hosts.lmdb"), path.with_extension("lmdb")).unwrap();
    let mut opened = Opened::open("lmdb", &path);
    let writer = std::fs::File::options().write(true).open(path.with_extension("lmdb")).unwrap();
    // The kind of lock that another process would hold: it belongs to the open file, so it works within this one.
    let lock = |kind: i32| {
        let whole = libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    };
    lock(libc::F_WRLCK);
    let deadline = Some(Instant::now() + Duration::from_millis(30));
    let mut call = table::Call { notices: &mut opened.notices, deadline, budget: None };
    assert!(opened.table.lookup(b"10.0.0.1", &mut call).is_err_and(|error| error.temporary));
    assert!(opened.notices[0].text.ends_with(
        "lock dictionary: another process holds the lock for too \
     long"
    ));
    opened.notices.clear();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| opened.ask("10.0.0.1"));
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(50) {
            assert!(!waiting.is_finished(), "it waits for the writer");
            std::thread::yield_now();
        }
        lock(libc::F_UNLCK);
        assert_eq!(waiting.join().unwrap(), Ok(Some("address".to_owned())));
    });
    // And after a lookup nothing is locked any more.
    lock(libc::F_WRLCK);
}

#[test]
fn a_file_of_tcprules_is_named_because_it_lets_denied_clients_in() {
    let item = format!("cdb:{}", fixture("tcprules").display());
    let said: Vec<_> = lookup::check("qmqpd_authorized_clients", &item, &Options::default())
        .iter()
        .map(ToString::to_string)
        .collect();
    let what = "this file was made by tcprules(1), and the value \"D\" of \"192.0.2.5\" authorizes the client that it denies to tcpserver(1); write !192.0.2.5 before the pattern that authorizes the others, and addresses and networks instead of \
                this table";
    assert_eq!(said, [format!("\"{item}\": {what}")]);
    // It is so: found is found.
    assert_eq!(Opened::open("cdb", &fixture("tcprules")).ask("192.0.2.5"), Ok(Some("D".to_owned())));
    for name in ["lmdb:", "cdb:"].map(|name| format!("{name}{}", fixture("hosts").display())) {
        assert_eq!(lookup::check("qmqpd_authorized_clients", &name, &Options::default()), []);
    }
}

#[test]
fn values_of_access_tables_that_refuse_are_found_in_indexed_files() {
    for table in ["lmdb", "cdb"] {
        let item = format!("{table}:{}", fixture("access").display());
        let said = lookup::check("qmqpd_authorized_clients", &item, &Options::default());
        assert_eq!(said.len(), 1, "{table}: {said:?}");
        assert!(said[0].what.contains("\"REJECT\" of \"late.example.com\" has no effect"), "{}", said[0]);
        assert_eq!(lookup::check("debug_peer_list", &format!("!{item} a.test"), &Options::default()), []);
    }
}
