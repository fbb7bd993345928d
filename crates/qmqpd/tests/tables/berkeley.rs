//! `hash:` and `btree:` files of all sizes and shapes: what postmap(1) finds in them, and nothing else, also while they are
//! written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lookup::{Options, table};

use super::{Dice, Heard, ours, postmap, run};
use testbed::peers::{self, DB_LOAD, Peer};
use testbed::postfix::{scratch, write_config, write_old};
use testbed::trials::Trials;

const KINDS: [&str; 2] = ["hash", "btree"];

pub(super) fn add(trials: &mut Trials) {
    for kind in KINDS {
        let mut add = |name: &str, needs: &[Peer], body: fn(&'static str)| {
            trials.add(&format!("tables::berkeley::{kind}_{name}"), needs, move || body(kind));
        };
        add("of_any_size", &[Peer::Postfix], of_any_size);
        add("after_deletions", &[Peer::Postfix], after_deletions);
        add("of_any_shape", &[Peer::Postfix, Peer::DbLoad], of_any_shape);
        add("with_what_postmap_does_not_make", &[Peer::Postfix, Peer::DbLoad], foreign);
        add("being_made_anew", &[Peer::Postfix], being_made_anew);
        add("being_changed", &[Peer::Postfix], being_changed);
    }
}

type Entries = BTreeMap<String, String>;

fn word(dice: &mut Dice, len: usize) -> String {
    (0..len).map(|_| dice.pick(&["a", "b", "c", "x", "y", "z", "0", "1", "9", ".", "@", "-", "_"])).collect()
}

/// Mostly what tables have; now and then something that does not fit among others on a page, or on no page.
fn entries(dice: &mut Dice, count: usize) -> Entries {
    let mut entries = Entries::new();
    while entries.len() < count {
        let len = match dice.roll(200) {
            0 if count <= 2000 => 1000 + dice.roll(5000),
            1..=4 => 100 + dice.roll(1500),
            _ => 1 + dice.roll(30),
        };
        let value = match dice.roll(200) {
            0 if count <= 2000 => 1000 + dice.roll(30_000),
            1..=4 => 100 + dice.roll(3000),
            _ => 1 + dice.roll(40),
        };
        // The first letter keeps postmap from taking a line for a comment, or for one that goes on.
        entries.insert(format!("k{}", word(dice, len)), word(dice, value));
    }
    entries
}

/// Every key, or many of them, and others that are almost the same.
fn questions(dice: &mut Dice, entries: &Entries) -> Vec<String> {
    let step = 1 + entries.len() / 20_000;
    let mut keys: Vec<String> = entries.keys().step_by(step).cloned().collect();
    for number in 0..keys.len().min(3000) {
        let key = &keys[number];
        let (shorter, _) = key.split_at(key.len() - 1);
        keys.push(match dice.roll(4) {
            0 => format!("{key}x"),
            1 => format!("k{key}"),
            2 => shorter.to_owned(),
            _ => format!("{shorter}?"),
        });
    }
    keys.extend((0..500).map(|_| word(dice, 8)));
    // postmap reads one line for each.
    keys.retain(|key| !key.is_empty());
    keys
}

/// Both find what is there, and only that. `missed_max`: how many of the keys postmap may miss. Berkeley DB 5.3 does not find each
/// long key in small pages with long chains, which db_dump(1) shows to be there.
fn compare(
    config: &Path,
    table: (&str, &Path),
    entries: &Entries,
    dice: &mut Dice,
    missed_max: usize,
    what: &str,
) {
    let (kind, path) = table;
    let keys = questions(dice, entries);
    let name = path.display().to_string();
    let theirs = postmap(config, &format!("{kind}:{name}"), &keys);
    let ours = ours(kind, &name, &keys);
    let put_in: Vec<_> =
        keys.iter().filter_map(|key| Some(format!("{key}\t{}", entries.get(key)?))).collect();
    let missed = match &theirs {
        Heard::Answers(found, log) if log.is_empty() && is_part(found, &put_in) => put_in.len() - found.len(),
        _ => usize::MAX,
    };
    let put_in = Heard::Answers(put_in, [].into());
    // Not by assert_eq: it would print megabytes.
    let is_right = missed <= missed_max;
    assert!(is_right, "{kind}, {what}, postmap and what was put in: {}", difference(&theirs, &put_in));
    assert!(ours == put_in, "{kind}, {what}, ours and what was put in: {}", difference(&ours, &put_in));
}

/// Whether these are some of those, in the same order.
fn is_part(some: &[String], all: &[String]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other == one))
}

fn difference(left: &Heard, right: &Heard) -> String {
    let (Heard::Answers(left, log), Heard::Answers(right, _)) = (left, right) else {
        return "one of them is unusable".to_owned();
    };
    let at = (0..left.len().max(right.len())).find(|&at| left.get(at) != right.get(at));
    let shown = |answers: &[String]| {
        let answer = answers.get(at?)?;
        Some(format!("{:.60} of {} bytes", answer, answer.len()))
    };
    format!("{:?}, {:?}; log {log:?}", shown(left), shown(right))
}

fn write_source(path: &Path, entries: &Entries) {
    let mut text = String::new();
    for (key, value) in entries {
        writeln!(text, "{key} {value}").unwrap();
    }
    write_old(path, &text);
}

fn of_any_size(kind: &'static str) {
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let path = dir.path().join(kind);
    for (seed, count) in [0, 1, 2, 3, 5, 20, 100, 500, 1000, 2000, 20_000, 200_000].into_iter().enumerate() {
        let mut dice = Dice(seed as u64);
        let entries = entries(&mut dice, count);
        write_source(&path, &entries);
        let (_, log) = run(&config, &[&format!("{kind}:{}", path.display())], "");
        assert_eq!(log, "");
        assert_version(&path, "postmap");
        compare(&config, (kind, &path), &entries, &mut dice, 0, &format!("{count} entries, seed {seed}"));
    }
}

/// Pages that became empty, and are used again for something else.
fn after_deletions(kind: &'static str) {
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let path = dir.path().join(kind);
    let table = format!("{kind}:{}", path.display());
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut entries = entries(&mut dice, 2000);
        write_source(&path, &entries);
        run(&config, &[&table], "");
        for round in 0..3 {
            let of_all = [3, 30, 2][round];
            let gone: Vec<String> = entries.keys().filter(|_| dice.roll(of_all) > 0).cloned().collect();
            run(&config, &["-d", "-", &table], &(gone.join("\n") + "\n"));
            gone.iter().for_each(|key| drop(entries.remove(key)));
            compare(
                &config,
                (kind, &path),
                &entries,
                &mut dice,
                0,
                &format!("deleted, seed {seed}, {round}"),
            );
            let more = super::berkeley::entries(&mut dice, 500);
            let lines: String = more.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            run(&config, &["-r", "-i", &table], &lines);
            entries.extend(more);
            compare(&config, (kind, &path), &entries, &mut dice, 0, &format!("added, seed {seed}, {round}"));
        }
    }
}

/// A file as db_load(1) makes it from these entries, with these options.
fn load(path: &Path, kind: &str, options: &[&str], entries: &Entries) {
    let source = path.with_extension("load");
    let text: String = entries.iter().map(|(key, value)| format!("{key}\n{value}\n")).collect();
    std::fs::write(&source, text).unwrap();
    let file = path.with_extension("db");
    let _ = std::fs::remove_file(&file);
    let mut command = peers::command(DB_LOAD).unwrap();
    command.args(["-T", "-t", kind, "-f"]).arg(source).args(options).arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The version of the format, as docs/testing.md tells it.
fn assert_version(path: &Path, what: &str) {
    let file = std::fs::read(path.with_extension("db")).unwrap();
    let version: [u8; 4] = file[16..20].try_into().unwrap();
    // In the byte order of the file.
    assert!([u32::from_le_bytes(version), u32::from_be_bytes(version)].contains(&9), "{what}: {version:?}");
}

fn of_any_shape(kind: &'static str) {
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let path = dir.path().join(kind);
    let mut seed = 0;
    for page in ["512", "1024", "2048", "8192", "65536"] {
        for order in ["1234", "4321"] {
            // Many keys to a bucket make long chains of pages.
            for shape in [None, Some(if kind == "hash" { "h_ffactor=500" } else { "bt_minkey=8" })] {
                seed += 1;
                let mut dice = Dice(seed);
                let entries = entries(&mut dice, 1500);
                let (page, order) = (format!("db_pagesize={page}"), format!("db_lorder={order}"));
                let mut options = vec!["-c", &page, "-c", &order];
                options.extend(shape.iter().flat_map(|shape| ["-c", *shape]));
                load(&path, kind, &options, &entries);
                assert_version(&path, "db_load");
                compare(&config, (kind, &path), &entries, &mut dice, 5, &format!("{options:?}, seed {seed}"));
            }
        }
    }
}

/// What Berkeley DB has and postmap never asks it for is refused by name, and not half understood.
fn foreign(kind: &'static str) {
    let dir = scratch("tables");
    let path = dir.path().join("t");
    let entries = Entries::from([("k1".to_owned(), "v".to_owned()), ("k2".to_owned(), "v".to_owned())]);
    let other = if kind == "hash" { "btree" } else { "hash" };
    for (made_as, options, expected) in [
        (kind, &["-c", "duplicates=1"][..], "it has duplicate keys, or several databases"),
        (kind, &["-c", "dupsort=1"], "it has duplicate keys, or several databases"),
        (kind, &["-c", "database=one"], "it has duplicate keys, or several databases"),
        (kind, &["-c", "chksum=1"], "it has checksums"),
        (kind, &["-P", "secret"], "it is encrypted"),
        (other, &[], &format!("it is a {other}: table; write {other}:")),
    ] {
        load(&path, made_as, options, &entries);
        let mut notices = Vec::new();
        let name = path.to_str().unwrap();
        let table = table::open(kind, name, &Options::default(), &mut notices).unwrap();
        let start = format!("open database {name}.db: Invalid argument; ");
        let remedy = format!("run \"postmap {kind}:{name}\" to rebuild it");
        let said = &notices[0].text;
        assert!(said.starts_with(&start) && said.contains(expected) && said.ends_with(&remedy), "{said}");
        let mut call = table::Call { notices: &mut Vec::new(), deadline: None, budget: None };
        assert!(table.lookup(b"k1", &mut call).is_err_and(|error| error.temporary), "{options:?}");
    }
}

/// Asks as fast as it can until `work` has done its part; how often it asked.
fn meanwhile(work: impl FnOnce() + Send, mut ask: impl FnMut()) -> usize {
    let is_done = AtomicBool::new(false);
    let done = &is_done;
    let mut count = 0;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            work();
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) && !worker.is_finished() {
            ask();
            count += 1;
        }
    });
    count
}

/// postmap truncates the file and writes it from the beginning. No key is ever missing, and no answer is older than one before.
fn being_made_anew(kind: &'static str) {
    const ROUNDS: usize = 40;
    const KEYS: usize = 2000;
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let path = dir.path().join(kind);
    let name = path.display().to_string();
    let make = |round: usize| {
        let entries = (0..KEYS).map(|key| (format!("key{key}"), format!("{round}"))).collect();
        write_source(&path, &entries);
        let (_, log) = run(&config, &[&format!("{kind}:{name}")], "");
        assert_eq!(log, "");
    };
    make(0);
    let mut notices = Vec::new();
    let table = table::open(kind, &name, &Options::default(), &mut notices).unwrap();
    let mut ask = |key: String| {
        let mut call = table::Call { notices: &mut notices, deadline: None, budget: None };
        let value = table.lookup(key.as_bytes(), &mut call);
        let value = value.unwrap_or_else(|error| panic!("{key}: {error}: {notices:?}"));
        String::from_utf8(value.unwrap_or_else(|| panic!("{key} is missing"))).unwrap().parse().unwrap()
    };
    let (mut newest, mut number) = (0_usize, 0_usize);
    let asked = meanwhile(
        || (1..=ROUNDS).for_each(make),
        || {
            number += 7;
            let round = ask(format!("key{}", number % KEYS));
            assert!(round >= newest, "{round} after {newest}");
            newest = round;
        },
    );
    assert!(asked > ROUNDS, "{asked} questions");
    assert_eq!(ask("key5".to_owned()), ROUNDS);
    assert_eq!(table.changed(), None, "another process would know nothing more");
}

/// `postmap -d` writes what it has changed when it no longer has the lock.
fn being_changed(kind: &'static str) {
    const ROUNDS: usize = 10;
    let dir = scratch("tables");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let path = dir.path().join(kind);
    let name = path.display().to_string();
    let mut dice = Dice(7);
    let stay = entries(&mut dice, 2000);
    // Their keys differ in the first letter.
    let go: String = (0..3000).map(|number| format!("m{number:04} value\n")).collect();
    let gone: String = (0..3000).map(|number| format!("m{number:04}\n")).collect();
    write_source(&path, &stay);
    run(&config, &[&format!("{kind}:{name}")], "");
    let mut notices = Vec::new();
    let table = table::open(kind, &name, &Options::default(), &mut notices).unwrap();
    let mut keys = stay.iter().cycle();
    let asked = meanwhile(
        || {
            for _ in 0..ROUNDS {
                run(&config, &["-i", &format!("{kind}:{name}")], &go);
                run(&config, &["-d", "-", &format!("{kind}:{name}")], &gone);
            }
        },
        || {
            let (key, value) = keys.next().unwrap();
            let mut call = table::Call { notices: &mut notices, deadline: None, budget: None };
            let answer = table.lookup(key.as_bytes(), &mut call);
            // Between two writes the file can be in pieces, which is said; it is never taken for an answer.
            let is_right = answer.as_ref().is_ok_and(|found| found.as_deref() == Some(value.as_bytes()));
            assert!(is_right || answer.is_err(), "{key}: {answer:?}");
        },
    );
    assert!(asked > ROUNDS, "{asked} questions");
}
