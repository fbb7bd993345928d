//! Can a letter that was accepted through the journal be lost? The power goes at every single call, in recovery too; and
//! when any one sync is taken out, these tests notice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postfix::notice::{Notice, Severity};
use postfix::record::{RecordType, encode};
use spool::journal;
use spool::journal::continuity::Mount;
use spool::journal::record::{Batch, BootId, Content, Header, Instance};
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

/// A sync of everything fails for another program's file, or for a moment: mail goes on, the journal is given up, and
/// settlement proves message by message what is on disk.
#[test]
fn after_a_failed_checkpoint_mail_goes_on_and_settlement_proves_each_message() {
    let disk = Simulated::new();
    disk.set_mount_id(7);
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let id = server.accept("m", 20).unwrap();
    let delivered = server.accept("delivered", 20).unwrap();
    server.deliver(&delivered);
    let path = format!("incoming/{id}");
    let whole = disk.bytes(&path).unwrap();
    disk.fail(disk.calls()..=disk.calls(), EIO, false);
    server.spool.checkpoint();
    assert!(!server.spool.is_poisoned());
    let told = server.ledger.lock().unwrap().notices.clone();
    assert!(
        told.iter().any(|n| n.severity == Severity::Error && n.text.contains("until `qmqpd reload`")),
        "{told:?}"
    );
    let by_itself = server.accept("by itself", 20).expect("each message has a sync of its own now");
    assert!(server.spool.has_orphans().unwrap(), "nobody holds the journal any more");
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept, settled.written_again), (1, 0, 0));
    assert!(disk.files().iter().all(|path| !path.starts_with("journal/")), "{:?}", disk.files());
    server.spool.close_journal();
    let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    assert_eq!(lost.bytes(&path).as_ref(), Some(&whole));
    assert!(lost.bytes(&format!("incoming/{by_itself}")).is_some());
    start(&lost, SECOND_BOOT, 4).unwrap();
    assert_eq!(lost.bytes(&format!("incoming/{delivered}")), None, "it came back");
}

/// The disk takes nothing any more: no message is acknowledged, and the journal answers for those that were.
#[test]
fn after_errors_that_last_only_the_journal_is_believed() {
    let disk = Simulated::new();
    disk.set_mount_id(7);
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let id = server.accept("m", 20).unwrap();
    let path = format!("incoming/{id}");
    let whole = disk.bytes(&path).unwrap();
    disk.make_read_only();
    server.spool.checkpoint();
    assert_eq!(server.accept("refused", 20), None);
    assert_eq!(server.spool.settle(&later()).unwrap().kept, 1);
    drop(server);
    // Processes come and go, and see the message whole. On the mount that has failed nothing is settled.
    let image = disk.after_kill();
    for instance in [2, 3] {
        let why = start(&image, FIRST_BOOT, instance).map(drop).unwrap_err();
        assert!(why.contains("do not remove the file"), "{why}");
    }
    // Unmounted, repaired, mounted again, without a start of the machine.
    let lost = image.after_power_cut(Names::Kept, Bytes::Lost, 1);
    assert_ne!(lost.bytes(&path).unwrap(), whole, "the failure lost nothing: this tests nothing");
    start(&lost, FIRST_BOOT, 4).unwrap();
    assert_eq!(lost.bytes(&path).unwrap(), whole);
}

/// The machine runs on, and the file system is mounted anew, after an error or from a snapshot: an equal boot ID proves nothing.
#[test]
fn a_file_system_that_is_mounted_anew_loses_nothing() {
    for has_mount_ids in [false, true] {
        for is_witnessed in [false, true] {
            let disk = Simulated::new();
            if has_mount_ids {
                disk.set_mount_id(7);
            }
            let server = Server::open(&disk, &options(FIRST_BOOT, 9)).unwrap();
            drop(server);
            let witness = format!("journal/{}.witness", "5".repeat(32));
            if is_witnessed {
                disk.hold(&witness);
            }
            let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
            let ids: Vec<String> = (0..4).map(|n| server.accept(&format!("m{n}"), 20).unwrap()).collect();
            let wholes: Vec<_> =
                ids.iter().map(|id| disk.bytes(&format!("incoming/{id}")).unwrap()).collect();
            server.deliver(&ids[0]);
            // The process is killed: what is missing was delivered, where that can be proven.
            let killed = disk.after_kill();
            start(&killed, FIRST_BOOT, 2).unwrap();
            let came_back = killed.bytes(&format!("incoming/{}", ids[0])).is_some();
            assert_eq!(came_back, !has_mount_ids && !is_witnessed, "{has_mount_ids} {is_witnessed}");
            for (names, bytes) in WAYS {
                let image = disk.after_power_cut(names, bytes, 3);
                start(&image, FIRST_BOOT, 2).unwrap();
                for (id, whole) in ids.iter().zip(&wholes) {
                    assert_eq!(
                        image.bytes(&format!("incoming/{id}")).as_ref(),
                        Some(whole),
                        "{names:?} {bytes:?}"
                    );
                }
            }
        }
    }
}

/// Recovery goes in steps: a disk that is full, or a kill, repeats no step that is done.
#[test]
fn recovery_that_is_interrupted_goes_on_where_it_was() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..12).map(|n| server.accept(&format!("m{n}"), 20).unwrap()).collect();
    let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let all_calls = {
        let image = crashed.after_kill();
        start(&image, SECOND_BOOT, 2).unwrap();
        image.calls()
    };
    let mut stopped_early = 0;
    for call in 0..all_calls {
        let image = crashed.after_kill();
        // From here on the disk is full.
        image.fail(call..=call, ENOSPC, false);
        let server = Server::open(&image, &options(SECOND_BOOT, 2));
        let Ok(server) = server else { continue };
        let _ = server.spool.settle(&later());
        let before: Vec<String> =
            ids.iter().filter(|id| image.bytes(&format!("incoming/{id}")).is_some()).cloned().collect();
        if before.len() == ids.len() || before.is_empty() {
            continue;
        }
        // What is back is delivered, and recovery is tried again: it brings the rest, and nothing twice.
        stopped_early += 1;
        before.iter().for_each(|id| server.deliver(id));
        let settled = server.spool.settle(&later()).unwrap();
        assert_eq!(settled.written_again, (ids.len() - before.len()) as u64, "call {call}");
        for id in &ids {
            let is_back = image.bytes(&format!("incoming/{id}")).is_some();
            assert_eq!(is_back, !before.contains(id), "call {call}: {id}");
        }
    }
    assert!(stopped_early > 10, "only {stopped_early} recoveries were stopped in the middle");
}

/// A short queue ID comes again: another message has it, whole. Neither is lost.
#[test]
fn a_message_whose_queue_id_belongs_to_another_by_now_gets_a_new_one() {
    for queue in ["incoming", "active", "deferred", "hold", "corrupt"] {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let id = server.accept("m", 20).unwrap();
        let whole = disk.bytes(&format!("incoming/{id}")).unwrap();
        let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        let other = message("other", 7);
        crashed.put(&format!("{queue}/{id}"), 0o700, &other);
        let server = start(&crashed, SECOND_BOOT, 2).unwrap();
        assert_eq!(crashed.bytes(&format!("{queue}/{id}")), Some(other), "{queue}");
        let again: Vec<String> =
            crashed.files().into_iter().filter(|path| crashed.bytes(path) == Some(whole.clone())).collect();
        assert_eq!(again.len(), 1, "{queue}: {:?}", crashed.files());
        assert_eq!(crashed.mode(&again[0]), Some(0o700));
        let notices = &server.ledger.lock().unwrap().notices;
        assert!(
            notices.iter().any(|notice| notice.text.contains("another message has its queue ID")),
            "{notices:?}"
        );
    }
}

/// What a program of ours has delivered or removed must not come back, from whatever journal.
#[test]
fn what_is_done_does_not_come_back() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let bytes = |arrival: &str| {
        let mut bytes = Vec::new();
        encode(&mut bytes, RecordType::TIME, arrival.as_bytes());
        encode(&mut bytes, RecordType::END, b"");
        bytes
    };
    let mut ids = Vec::new();
    for arrival in ["1795000001 7", "1795000002 7"] {
        let draft = server.begin(&bytes(arrival)).unwrap();
        ids.push(*draft.queue_id());
        server.commit(draft, bytes(arrival), || ());
    }
    let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    // The journal of another process says that the first one is done, and that the second one of another arrival is.
    let mut other = vec![0; 8192];
    for (sequence, (queue_id, seconds)) in (1..).zip([(ids[0], 1_795_000_001), (ids[1], 1_795_000_001)]) {
        let arrival = Timestamp { seconds, microseconds: 7 };
        let header = Header {
            instance: Instance([2; 16]),
            mount: Mount::UNKNOWN,
            sequence,
            batch: Batch { first: 1, count: 2, follows: 1, retired_below: 1 },
            content: Content::Done { queue_id, arrival },
            payload_bytes: 0,
            payload_checksum: crc32fast_of_nothing(),
        };
        header.encode(&mut other);
        other.resize(other.len().next_multiple_of(512), 0);
    }
    crashed.put(&format!("journal/{}.v2", Instance([2; 16])), 0o600, &other);
    start(&crashed, SECOND_BOOT, 3).unwrap();
    assert_eq!(crashed.bytes(&format!("incoming/{}", ids[0])), None);
    assert_eq!(crashed.bytes(&format!("incoming/{}", ids[1])), Some(bytes("1795000002 7")));
    assert!(crashed.files().iter().all(|path| !path.starts_with("journal/")), "{:?}", crashed.files());
}

/// CRC-32 of no bytes.
const fn crc32fast_of_nothing() -> u32 {
    0
}

/// A message contains what looks like a record of a later version; later, that part of the ring is stale.
#[test]
fn a_letter_raises_no_alarm() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let mut record = Vec::new();
    Header {
        instance: Instance([9; 16]),
        mount: Mount::UNKNOWN,
        sequence: 1,
        batch: Batch { first: 1, count: 1, follows: 1, retired_below: 1 },
        content: Content::MARK,
        payload_bytes: 0,
        payload_checksum: 0,
    }
    .encode(&mut record);
    record[7] = 77;
    // At every place where a record can begin.
    let mut letter = record.repeat(20);
    letter.resize(letter.len().next_multiple_of(512), 0);
    let draft = server.begin(&letter).unwrap();
    server.commit(draft, letter, || ());
    server.spool.checkpoint();
    server.accept("small", 2).unwrap();
    let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let next = start(&crashed, SECOND_BOOT, 2).unwrap();
    let notices = &next.ledger.lock().unwrap().notices;
    assert!(notices.iter().all(|notice| notice.severity == Severity::Info), "{notices:?}");
    assert!(crashed.files().iter().all(|path| !path.starts_with("journal/")));
}

/// A program passes over the journals of later versions, and says what to do.
#[test]
fn a_journal_of_a_later_version_is_left_alone() {
    let disk = Simulated::new();
    drop(Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap());
    let path = format!("journal/{}.v3", "a".repeat(32));
    disk.put(&path, 0o600, b"qmqpd-J\x03");
    let server = start(&disk, SECOND_BOOT, 2).unwrap();
    assert_eq!(disk.files(), [path]);
    let notices = &server.ledger.lock().unwrap().notices;
    assert!(
        notices.iter().any(|n| n.text.contains("a journal of format 3") && n.text.contains("qmqpd stop")),
        "{notices:?}"
    );
}

/// `rm -rf journal/` beneath a running server: nothing is lost, and mail goes on.
#[test]
fn without_its_journal_each_message_is_synced_by_itself() {
    for directory_goes in [false, true] {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let mut ids = vec![server.accept("before", 20).unwrap()];
        disk.unlink(&format!("journal/{}.v2", Instance([1; 16]))).unwrap();
        if directory_goes {
            disk.unlink("journal").unwrap();
        }
        ids.extend((0..3).map(|n| server.accept(&format!("after {n}"), 20).expect("mail goes on")));
        let notices = server.ledger.lock().unwrap().notices.clone();
        let told: Vec<_> = notices.iter().filter(|notice| notice.severity == Severity::Error).collect();
        assert_eq!(told.len(), 1, "{notices:?}");
        assert!(told[0].text.contains("remove nothing below journal/"), "{}", told[0].text);
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        for id in ids {
            assert!(lost.bytes(&format!("incoming/{id}")).is_some_and(|bytes| is_complete(&bytes)), "{id}");
        }
    }
}

/// A journal directory that this process may not use does not keep it from its work.
#[test]
fn a_directory_of_journals_that_cannot_be_used_stops_no_mail() {
    let file = Options { commit_way: CommitWay::File, ..options(FIRST_BOOT, 1) };
    for options in [options(FIRST_BOOT, 1), file] {
        let disk = Simulated::new();
        drop(Server::open(&disk, &options).unwrap());
        disk.unlink("journal").ok();
        disk.put("journal", 0o600, b"not a directory");
        let server = Server::open(&disk, &options).unwrap();
        let id = server.accept("m", 20).unwrap();
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        assert!(lost.bytes(&format!("incoming/{id}")).is_some());
    }
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
