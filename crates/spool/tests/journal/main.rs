//! Can a letter that was accepted through the journal be lost? The power goes at every single call, in recovery too; and
//! when any one sync is taken out, these tests notice.

#![cfg(test)]

mod checkpoints;
mod errors;
mod faults;
mod settlement;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postfix::notice::{Notice, Severity};
use postfix::record::{RecordType, encode};
use spool::journal;
use spool::journal::{BootId, Instance};
use spool::simulated::{Bytes, Lie, Names, Simulated};
use spool::{CommitWay, Disk, Draft, ErrorKind, Options, Receipt, Spool, SpoolError, Timestamp};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const FIRST_BOOT: &str = "00000000-0000-0000-0000-000000000001";
const SECOND_BOOT: &str = "00000000-0000-0000-0000-000000000002";

fn options(boot_id: &str, instance: u8) -> Options {
    Options {
        create_missing: true,
        long_queue_ids: true,
        commit_way: CommitWay::Journal(journal::Options {
            instance: Instance([instance; 16]),
            checkpoint_delay: Duration::from_secs(1),
            checkpoint_bytes: 32 * 1024,
        }),
        boot_id: BootId::parse(boot_id),
        ..Options::default()
    }
}

fn message(name: &str, lines: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, RecordType::SIZE, &[b' '; 95]);
    encode(&mut bytes, RecordType::SENDER, format!("{name}@example.org").as_bytes());
    for line in 0..lines {
        encode(&mut bytes, RecordType::NORMAL, format!("message {name} line {line}").as_bytes());
    }
    encode(&mut bytes, RecordType::EXTRACTED, b"");
    encode(&mut bytes, RecordType::END, b"");
    bytes
}

/// What was begun, answered and delivered.
#[derive(Debug, Default)]
struct Ledger {
    acknowledged: BTreeMap<String, Vec<u8>>,
    begun: BTreeMap<String, Vec<u8>>,
    delivered: BTreeSet<String>,
    errors: Vec<ErrorKind>,
    notices: Vec<Notice>,
}

/// A server, as far as the disk is concerned.
#[derive(Clone)]
struct Server {
    spool: Spool<Simulated>,
    ledger: Arc<Mutex<Ledger>>,
    ticks: Arc<Mutex<u32>>,
}

impl Server {
    fn open(disk: &Simulated, options: &Options) -> Result<Self, SpoolError> {
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let log = Arc::clone(&ledger);
        let notify = Arc::new(move |notice| log.lock().unwrap().notices.push(notice));
        let spool = Spool::open(disk.clone(), options, notify)?;
        Ok(Self { spool, ledger, ticks: Arc::default() })
    }

    fn begin(&self, bytes: &[u8]) -> Option<Draft<Simulated>> {
        let ticks = Cell::new(*self.ticks.lock().unwrap());
        let clock = || {
            ticks.set(ticks.get() + 7);
            Timestamp { seconds: 1_795_000_000, microseconds: 400_000 + ticks.get() }
        };
        let created = self.spool.create(&clock);
        *self.ticks.lock().unwrap() = ticks.get();
        let mut ledger = self.ledger.lock().unwrap();
        match created {
            Ok(draft) => {
                ledger.begun.insert(draft.queue_id().to_string(), bytes.to_vec());
                Some(draft)
            }
            Err(error) => {
                ledger.errors.push(error.kind());
                None
            }
        }
    }

    /// Commits, then does what `and_then` says while the answer is being given.
    fn commit(&self, draft: Draft<Simulated>, bytes: Vec<u8>, and_then: impl FnOnce() + Send + 'static) {
        let ledger = Arc::clone(&self.ledger);
        let copy = bytes.clone();
        draft.commit_whole(
            bytes,
            Box::new(move |outcome: Result<Receipt, SpoolError>| {
                {
                    let mut ledger = ledger.lock().unwrap();
                    match outcome {
                        Ok(receipt) => {
                            ledger.acknowledged.insert(receipt.queue_id().to_string(), copy);
                        }
                        Err(error) => ledger.errors.push(error.kind()),
                    }
                }
                and_then();
            }),
        );
    }

    fn accept(&self, name: &str, lines: usize) -> Option<String> {
        let bytes = message(name, lines);
        let draft = self.begin(&bytes)?;
        let id = draft.queue_id().to_string();
        self.commit(draft, bytes, || ());
        self.ledger.lock().unwrap().acknowledged.contains_key(&id).then_some(id)
    }

    /// The queue manager takes a message, delivers it, and removes it.
    fn deliver(&self, id: &str) {
        let disk = self.spool.disk();
        if disk.rename_new(&format!("incoming/{id}"), &format!("active/{id}")).is_ok() {
            self.ledger.lock().unwrap().delivered.insert(id.to_owned());
            let _ = disk.unlink(&format!("active/{id}"));
        }
    }

    fn ledger(self) -> Ledger {
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

/// Single messages, a batch of three, one that goes away, a large one, deliveries, checkpoints, and more than the
/// journal has room for.
fn work(disk: &Simulated) -> Ledger {
    disk.set_mount_id(7);
    let server = match Server::open(disk, &options(FIRST_BOOT, 1)) {
        Ok(server) => server,
        Err(error) => return Ledger { errors: vec![error.kind()], ..Ledger::default() },
    };
    let first = server.accept("first", 40);
    // What arrives while the answer to another is given is one batch.
    let together: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .filter_map(|name| {
            let bytes = message(name, 30);
            Some((server.begin(&bytes)?, bytes))
        })
        .collect();
    let bytes = message("second", 3);
    if let Some(draft) = server.begin(&bytes) {
        let other = server.clone();
        server.commit(draft, bytes, move || {
            for (draft, bytes) in together {
                other.commit(draft, bytes, || ());
            }
        });
    }
    drop(server.begin(b"a client that goes away"));
    if let Some(id) = &first {
        server.deliver(id);
    }
    server.accept("large", 900);
    server.spool.checkpoint();
    let third = server.accept("third", 20);
    server.accept("fourth", 60);
    if let Some(id) = &third {
        server.deliver(id);
    }
    for round in 0..7 {
        if let Some(id) = server.accept(&format!("round {round}"), 160)
            && round % 3 == 0
        {
            server.deliver(&id);
        }
    }
    server.accept("last", 10);
    server.ledger()
}

fn is_complete(bytes: &[u8]) -> bool {
    bytes.ends_with(&[b'X', 0, b'E', 0])
}

/// What can lie in the queue besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Besides {
    /// Nothing that is ready for the queue manager.
    Nothing,
    /// What lacks its end, which the queue manager sees.
    Incomplete,
    /// What has holes, as in a file system that writes lengths before bytes; nobody was told that it was accepted.
    Torn,
}

fn besides(bytes: Bytes) -> Besides {
    if bytes == Bytes::Torn { Besides::Torn } else { Besides::Incomplete }
}

/// Every message that was acknowledged and not delivered is there, whole and ready. Whatever looks whole was sent by
/// somebody.
fn check(image: &Simulated, ledger: &Ledger, besides: Besides) -> Result<(), String> {
    let mut ready = BTreeMap::new();
    for path in image.files().iter().filter(|path| !path.starts_with("journal/")) {
        if image.mode(path) == Some(0o700) {
            let id = path.rsplit('/').next().unwrap_or_default().to_owned();
            if ready.insert(id, image.bytes(path).unwrap_or_default()).is_some() {
                return Err(format!("{path} is there twice"));
            }
        }
    }
    for (id, bytes) in &ledger.acknowledged {
        match ready.get(id) {
            None if ledger.delivered.contains(id) => {}
            None => return Err(format!("{id} was acknowledged and is not there")),
            Some(found) if found != bytes => return Err(format!("{id} was acknowledged and is damaged")),
            Some(_) => {}
        }
    }
    for (id, bytes) in &ready {
        let is_suspect = match besides {
            Besides::Nothing => true,
            Besides::Incomplete => is_complete(bytes),
            Besides::Torn => false,
        };
        if is_suspect && ledger.begun.get(id) != Some(bytes) {
            return Err(format!("{id} is invented or damaged"));
        }
    }
    Ok(())
}

/// A clock that moves on.
fn later() -> impl Fn() -> Timestamp {
    let ticks = Cell::new(0);
    move || {
        ticks.set(ticks.get() + 1);
        Timestamp { seconds: 1_795_000_050, microseconds: ticks.get() }
    }
}

/// The next process starts, and what the last one left is settled.
fn start(image: &Simulated, boot_id: &str, instance: u8) -> Result<Server, String> {
    let server = Server::open(image, &options(boot_id, instance)).map_err(|error| error.to_string())?;
    let settled = server.spool.settle(&later()).map_err(|error| error.to_string())?;
    if settled.kept > 0 {
        return Err(format!("{:?}", server.ledger.lock().unwrap().notices));
    }
    let now = Timestamp { seconds: 1_795_000_100, microseconds: 0 };
    server.spool.remove_stale(now).map_err(|error| error.to_string())?;
    Ok(server)
}

/// The next process finds everything, takes mail, and has no trouble to report.
fn recover(image: &Simulated, boot_id: &str, ledger: &Ledger, besides: Besides) -> Result<(), String> {
    let server = start(image, boot_id, 3)?;
    if let Some(notice) = server.ledger.lock().unwrap().notices.iter().find(|n| n.severity != Severity::Info)
    {
        return Err(notice.text.clone());
    }
    check(image, ledger, besides)?;
    if let Some(path) = image.files().iter().find(|path| image.mode(path) != Some(0o700)) {
        return Err(format!("{path} was left behind"));
    }
    server.accept("after", 10).ok_or("the first message after the crash is not accepted")?;
    Ok(())
}

const WAYS: [(Names, Bytes); 12] = {
    use Names::{Kept, Lost, Mixed};
    [
        (Kept, Bytes::Kept),
        (Kept, Bytes::Lost),
        (Kept, Bytes::Ordered),
        (Kept, Bytes::Torn),
        (Lost, Bytes::Kept),
        (Lost, Bytes::Lost),
        (Lost, Bytes::Ordered),
        (Lost, Bytes::Torn),
        (Mixed, Bytes::Kept),
        (Mixed, Bytes::Lost),
        (Mixed, Bytes::Ordered),
        (Mixed, Bytes::Torn),
    ]
};

fn calls_of_work() -> u64 {
    let disk = Simulated::new();
    let ledger = work(&disk);
    assert_eq!(ledger.errors, [], "{:?}", ledger.notices);
    assert_eq!(ledger.acknowledged.len(), 16);
    disk.calls()
}

fn cut_power_everywhere(lie: Option<Lie>) -> Result<u64, String> {
    let mut images = 0;
    for call in 0..=calls_of_work() {
        let disk = Simulated::new();
        if let Some(lie) = lie {
            disk.make_sync_lie(lie);
        }
        disk.cut_power_at(call);
        let ledger = work(&disk);
        for (way, (names, bytes)) in WAYS.into_iter().enumerate() {
            for seed in 0..2 {
                let seed = call * 100 + way as u64 * 2 + seed;
                let image = disk.after_power_cut(names, bytes, seed);
                recover(&image, SECOND_BOOT, &ledger, besides(bytes))
                    .map_err(|error| format!("call {call}, {names:?}, {bytes:?}, seed {seed}: {error}"))?;
                images += 1;
            }
        }
    }
    Ok(images)
}

#[test]
fn a_power_cut_at_any_call_loses_no_acknowledged_message() {
    let images = cut_power_everywhere(None).unwrap();
    assert!(images > 5000, "only {images} crashes were looked at");
}

#[test]
fn without_any_one_sync_the_same_test_fails() {
    // The name of the journal; its bytes; the queue files at a checkpoint; the queue file of a large message.
    for lie in [Lie::File("journal/"), Lie::Data, Lie::All, Lie::File("incoming/")] {
        let verdict = cut_power_everywhere(Some(lie)).expect_err(&format!("{lie:?} went unnoticed"));
        let is_loss = verdict.contains("was acknowledged and is") || verdict.contains("may be lost");
        assert!(is_loss, "{lie:?}: {verdict}");
    }
}

/// Cuts the power in the work at some calls, and then in recovery at every call.
fn cut_power_in_recovery(boot_id: &str, lie: Option<Lie>) -> Result<u64, String> {
    let mut images = 0;
    for call in (0..=calls_of_work()).step_by(17) {
        let disk = Simulated::new();
        disk.cut_power_at(call);
        let ledger = work(&disk);
        for (way, (names, bytes)) in
            WAYS.into_iter().enumerate().filter(|(way, _)| (*way as u64 + call).is_multiple_of(8))
        {
            // With the same boot ID, the process was killed and the power is cut while the next one recovers.
            let crashed = if boot_id == FIRST_BOOT {
                disk.after_kill()
            } else {
                disk.after_power_cut(names, bytes, call)
            };
            let calls = {
                let image = crashed.after_kill();
                start(&image, boot_id, 2)?;
                image.calls()
            };
            for second in 0..=calls {
                let image = crashed.after_kill();
                if let Some(lie) = lie {
                    image.make_sync_lie(lie);
                }
                image.cut_power_at(second);
                // Its failure is the power cut.
                let _ = start(&image, boot_id, 2);
                let seed = call * 1000 + second;
                let image = image.after_power_cut(names, bytes, seed);
                recover(&image, SECOND_BOOT, &ledger, besides(bytes)).map_err(|error| {
                    format!("call {call}, way {way}, call {second} of recovery, seed {seed}: {error}")
                })?;
                images += 1;
            }
        }
    }
    Ok(images)
}

#[test]
fn a_power_cut_at_any_call_of_recovery_loses_nothing() {
    for boot_id in [SECOND_BOOT, FIRST_BOOT] {
        let images = cut_power_in_recovery(boot_id, None).unwrap();
        assert!(images > 1000, "only {images} crashes were looked at");
    }
}

#[test]
fn without_the_sync_of_recovery_the_same_test_fails() {
    for boot_id in [SECOND_BOOT, FIRST_BOOT] {
        let verdict = cut_power_in_recovery(boot_id, Some(Lie::All)).unwrap_err();
        assert!(verdict.contains("was acknowledged and is"), "{verdict}");
    }
}

#[test]
fn a_kill_at_any_call_replays_nothing_and_loses_nothing() {
    for call in 0..=calls_of_work() {
        let disk = Simulated::new();
        disk.cut_power_at(call);
        let ledger = work(&disk);
        let image = disk.after_kill();
        let found: Vec<String> =
            image.files().into_iter().filter(|path| path.starts_with("incoming/")).collect();
        recover(&image, FIRST_BOOT, &ledger, Besides::Nothing)
            .unwrap_or_else(|error| panic!("killed at call {call}: {error}"));
        let appeared = |path: &String| {
            path.starts_with("incoming/")
                && !found.contains(path)
                && !image.bytes(path).unwrap().starts_with(b"x")
        };
        // Only the message of after the start is new.
        assert!(image.files().iter().filter(|path| appeared(path)).count() <= 1, "killed at call {call}");
    }
}

#[test]
fn after_a_checkpoint_what_is_delivered_stays_delivered() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..4).map(|n| server.accept(&format!("m{n}"), 20).unwrap()).collect();
    server.spool.checkpoint();
    ids.iter().for_each(|id| server.deliver(id));
    disk.sync_all().unwrap();
    let late = server.accept("late", 20).unwrap();
    server.deliver(&late);
    for (names, bytes) in WAYS {
        let image = disk.after_power_cut(names, bytes, 7);
        start(&image, SECOND_BOOT, 2).unwrap();
        for id in &ids {
            assert_eq!(image.bytes(&format!("incoming/{id}")), None, "{id} came back");
        }
        // At least once: of this one nobody knows any more that it was delivered.
        assert!(image.bytes(&format!("incoming/{late}")).is_some());
        assert_eq!(image.files().iter().filter(|path| path.starts_with("journal/")).count(), 0);
    }
}

#[test]
fn what_was_recovered_once_does_not_come_back() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let id = server.accept("m", 20).unwrap();
    let image = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let second = start(&image, SECOND_BOOT, 2).unwrap();
    assert!(image.bytes(&format!("incoming/{id}")).is_some());
    let file = image.open(&format!("incoming/{id}")).unwrap();
    second.deliver(&id);
    image.sync(&file).unwrap();
    let third = image.after_power_cut(Names::Lost, Bytes::Lost, 2);
    // The name of the journal is back; it says itself that nothing in it is needed.
    let journal = format!("journal/{}.v2", Instance([1; 16]));
    assert!(third.bytes(&journal).is_some());
    start(&third, "00000000-0000-0000-0000-000000000003", 3).unwrap();
    assert_eq!(third.files(), Vec::<String>::new());
}

#[test]
fn a_failure_of_any_call_is_an_error_and_leaves_nothing() {
    let mut failures_seen = 0;
    for call in 0..calls_of_work() {
        for (errno, is_partial) in [(ENOSPC, false), (ENOSPC, true), (EIO, false), (EIO, true)] {
            let disk = Simulated::new();
            disk.fail(call..=call, errno, is_partial);
            let ledger = work(&disk);
            let what = format!("call {call} fails with {errno}");
            check(&disk, &ledger, Besides::Nothing).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(disk.open_files(), 0, "{what}: a descriptor leaked");
            failures_seen += ledger.errors.len();
            for path in disk.files().iter().filter(|path| !path.starts_with("journal/")) {
                let id = path.rsplit('/').next().unwrap_or_default();
                if !ledger.acknowledged.contains_key(id) {
                    let is_told = |notice: &Notice| notice.text.contains(path);
                    assert!(ledger.notices.iter().any(is_told), "{what}: {path} left in silence");
                }
            }
            // Whatever failed, what was acknowledged survives the power cut that follows.
            for (names, bytes) in [(Names::Lost, Bytes::Lost), (Names::Mixed, Bytes::Torn)] {
                let image = disk.after_power_cut(names, bytes, call);
                start(&image, SECOND_BOOT, 2).unwrap_or_else(|error| panic!("{what}: {error}"));
                check(&image, &ledger, besides(bytes))
                    .unwrap_or_else(|error| panic!("{what}, then power cut: {error}"));
            }
        }
    }
    assert!(failures_seen > 200, "only {failures_seen} failures came through");
}

/// A part of the journal cannot be read: the rest comes back, and the file is kept.
#[test]
fn a_damaged_journal_is_kept_and_the_rest_of_it_recovered() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..3).map(|n| server.accept(&format!("m{n}"), 20).unwrap()).collect();
    drop(server);
    let image = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let journal = format!("journal/{}.v2", Instance([1; 16]));
    let bytes = image.bytes(&journal).unwrap();
    let second = bytes.windows(ids[1].len()).position(|window| window == ids[1].as_bytes()).unwrap();
    let file = image.open_to_write(&journal).unwrap();
    image.write_at(&file, second as u64, b"?").unwrap();
    drop(file);
    let next = start(&image, SECOND_BOOT, 2).unwrap();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(image.bytes(&format!("incoming/{id}")).is_some(), number != 1);
    }
    assert!(image.bytes(&format!("{journal}.damaged")).is_some());
    let notices = &next.ledger.lock().unwrap().notices;
    let told = notices.iter().find(|notice| notice.severity == Severity::Error).unwrap();
    assert!(told.text.contains("accepted messages may be lost: 0 records and 1 batches"), "{}", told.text);
}
