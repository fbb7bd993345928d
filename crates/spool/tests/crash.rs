//! Can an accepted letter be lost? The power goes, the process is killed, or the disk says no, at every single call.

#![cfg(test)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use postfix::notice::{Notice, Severity};
use postfix::record::{RecordType, encode};
use proptest::prelude::*;
use spool::simulated::{Bytes, Lie, Names, Simulated};
use spool::{Disk, Draft, ErrorKind, Options, Queue, Spool, SpoolError, Timestamp};

/// One message in the streamed layout: content first, behind a gap, and the front last.
struct Message {
    front: Vec<u8>,
    rest: Vec<u8>,
}

const FRONT_BYTES: usize = 1024;

impl Message {
    fn new(number: usize, lines: usize) -> Self {
        let mut front = Vec::new();
        encode(&mut front, RecordType::SIZE, &[b' '; 95]);
        encode(&mut front, RecordType::SENDER, format!("sender-{number}@example.org").as_bytes());
        let mut rest = Vec::new();
        for line in 0..lines {
            encode(&mut rest, RecordType::NORMAL, format!("message {number} line {line}").as_bytes());
        }
        encode(&mut rest, RecordType::EXTRACTED, b"");
        encode(&mut rest, RecordType::END, b"");
        Self { front, rest }
    }

    fn file(&self) -> Vec<u8> {
        let mut bytes = self.front.clone();
        bytes.resize(FRONT_BYTES, 0);
        bytes.extend_from_slice(&self.rest);
        bytes
    }

    fn write(&self, draft: &mut Draft<Simulated>) -> Result<(), SpoolError> {
        let mut offset = FRONT_BYTES as u64;
        for piece in self.rest.chunks(700) {
            draft.write_at(offset, piece)?;
            offset += piece.len() as u64;
        }
        draft.write_at(0, &self.front)
    }
}

/// What a run of [`work`] came to.
#[derive(Default)]
struct Outcome {
    /// Queue ID to whole file, of what was acknowledged.
    acknowledged: BTreeMap<String, Vec<u8>>,
    /// The same of whatever was begun.
    begun: BTreeMap<String, Vec<u8>>,
    errors: Vec<ErrorKind>,
    notices: Vec<Notice>,
}

fn hashed() -> Options {
    Options {
        hash_queue_names: ["incoming", "defer", "hold"].map(str::to_owned).to_vec(),
        hash_queue_depth: 2,
        create_missing: true,
        ..Options::default()
    }
}

fn flat() -> Options {
    Options { create_missing: true, long_queue_ids: true, ..Options::default() }
}

/// The same with drafts that have names from the beginning.
fn named(options: Options) -> Options {
    Options { names_drafts: true, ..options }
}

/// Flat and hashed queues, drafts without and with names.
fn every_kind() -> [Options; 4] {
    [flat(), hashed(), named(flat()), named(hashed())]
}

fn silent() -> spool::Notify {
    Arc::new(|_| ())
}

/// Four clients at a time: two are answered, one of them for a message that is put on hold, one goes away, one is still
/// sending at the end; then a fifth.
fn work(disk: &Simulated, options: &Options) -> Outcome {
    let mut outcome = Outcome::default();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let opened = Spool::open(disk.clone(), options, Arc::new(move |notice| log.lock().unwrap().push(notice)));
    match opened {
        Ok(spool) => serve(&spool, &mut outcome),
        Err(error) => outcome.errors.push(error.kind()),
    }
    outcome.notices = std::mem::take(&mut notices.lock().unwrap());
    outcome
}

fn serve(spool: &Spool<Simulated>, outcome: &mut Outcome) {
    let ticks = Cell::new(0);
    let clock = || {
        ticks.set(ticks.get() + 7);
        Timestamp { seconds: 1_795_000_000, microseconds: 400_000 + ticks.get() }
    };
    let messages: Vec<Message> =
        [90, 3, 30, 40, 60].iter().enumerate().map(|(n, l)| Message::new(n, *l)).collect();
    let mut drafts = Vec::new();
    for message in &messages[..4] {
        match begin(spool, &clock, message, outcome) {
            Ok(draft) => drafts.push((message, draft)),
            Err(error) => outcome.errors.push(error.kind()),
        }
    }
    let mut sending = None;
    for (number, (message, draft)) in drafts.into_iter().enumerate() {
        match number {
            0 => finish(draft, message, outcome),
            1 => hold(draft, message, outcome),
            2 => drop(draft),
            _ => sending = Some(draft),
        }
    }
    match begin(spool, &clock, &messages[4], outcome) {
        Ok(draft) => finish(draft, &messages[4], outcome),
        Err(error) => outcome.errors.push(error.kind()),
    }
    // Whoever kills the process or cuts the power did so before this; an orderly end drops what is open.
    drop(sending);
}

fn begin(
    spool: &Spool<Simulated>,
    clock: &dyn Fn() -> Timestamp,
    message: &Message,
    outcome: &mut Outcome,
) -> Result<Draft<Simulated>, SpoolError> {
    let mut draft = spool.create(clock)?;
    outcome.begun.insert(draft.queue_id().to_string(), message.file());
    message.write(&mut draft)?;
    Ok(draft)
}

fn finish(draft: Draft<Simulated>, message: &Message, outcome: &mut Outcome) {
    match draft.commit() {
        Ok(receipt) => {
            outcome.acknowledged.insert(receipt.queue_id().to_string(), message.file());
        }
        Err(error) => outcome.errors.push(error.kind()),
    }
}

fn hold(mut draft: Draft<Simulated>, message: &Message, outcome: &mut Outcome) {
    draft.hold();
    finish(draft, message, outcome);
}

/// Whether a queue manager would take this for a message: it ends with the record that says so.
fn is_complete(bytes: &[u8]) -> bool {
    bytes.len() > FRONT_BYTES && bytes.ends_with(&[b'X', 0, b'E', 0])
}

/// Every acknowledged message is there, whole and ready. With `strict`, nothing else that is ready is a broken message
/// that a reader would take for a whole one.
fn check(image: &Simulated, outcome: &Outcome, strict: bool) -> Result<(), String> {
    let mut ready = BTreeMap::new();
    for path in image.files() {
        if image.mode(&path) == Some(0o700) {
            let id = path.rsplit('/').next().unwrap_or_default().to_owned();
            ready.insert(id, image.bytes(&path).unwrap_or_default());
        }
    }
    for (id, bytes) in &outcome.acknowledged {
        match ready.get(id) {
            None => return Err(format!("{id} was acknowledged and is not there")),
            Some(found) if found != bytes => return Err(format!("{id} was acknowledged and is damaged")),
            Some(_) => {}
        }
    }
    for (id, bytes) in &ready {
        if strict && is_complete(bytes) && outcome.begun.get(id) != Some(bytes) {
            return Err(format!("{id} is damaged and looks whole"));
        }
    }
    Ok(())
}

/// The next process cleans up, finds nothing of ours unfinished, and takes mail again.
fn recover(image: &Simulated, options: &Options, outcome: &Outcome) -> Result<(), String> {
    let spool = Spool::open(image.clone(), options, silent()).map_err(|error| error.to_string())?;
    let now = Timestamp { seconds: 1_795_000_100, microseconds: 0 };
    for notice in spool.remove_stale(now).map_err(|error| error.to_string())? {
        if notice.severity != Severity::Info {
            return Err(notice.text);
        }
    }
    if let Some(path) = image.files().iter().find(|path| image.mode(path) != Some(0o700)) {
        return Err(format!("{path} was left behind"));
    }
    check(image, outcome, false)?;
    let mut draft = spool.create(&|| now).map_err(|error| error.to_string())?;
    Message::new(9, 9).write(&mut draft).map_err(|error| error.to_string())?;
    let receipt = draft.commit().map_err(|error| error.to_string())?;
    let found = spool.find(receipt.queue_id()).map_err(|error| error.to_string())?;
    if found.is_none_or(|entry| entry.queue != Queue::Incoming || !entry.is_ready()) {
        return Err("the first message after the crash is not there".to_owned());
    }
    Ok(())
}

/// Cuts the power at every call and looks at many ways in which that can end.
fn cut_power_everywhere(options: &Options, is_lying: bool) -> Result<u64, String> {
    let all_calls = {
        let disk = Simulated::new();
        let outcome = work(&disk, options);
        assert_eq!(outcome.acknowledged.len(), 3, "{:?}", outcome.errors);
        disk.calls()
    };
    let mut images = 0;
    for call in 0..=all_calls {
        let disk = Simulated::new();
        if is_lying {
            disk.make_sync_lie(Lie::File("incoming/"));
        }
        disk.cut_power_at(call);
        let outcome = work(&disk, options);
        for names in [Names::Kept, Names::Lost, Names::Mixed] {
            for bytes in [Bytes::Kept, Bytes::Lost, Bytes::Ordered, Bytes::Torn] {
                for seed in 0..4 {
                    let seed = call * 4 + seed;
                    let replay = || format!("call {call}, {names:?}, {bytes:?}, seed {seed}");
                    let image = disk.after_power_cut(names, bytes, seed);
                    check(&image, &outcome, bytes != Bytes::Torn)
                        .map_err(|e| format!("{}: {e}", replay()))?;
                    recover(&image, options, &outcome).map_err(|e| format!("{}: {e}", replay()))?;
                    images += 1;
                }
            }
        }
    }
    Ok(images)
}

#[test]
fn a_power_cut_at_any_call_loses_no_acknowledged_message() {
    for options in every_kind() {
        let images = cut_power_everywhere(&options, false).unwrap();
        assert!(images > 1000, "only {images} crashes were looked at");
    }
}

#[test]
fn without_sync_the_same_test_fails() {
    for options in [flat(), named(flat())] {
        let verdict = cut_power_everywhere(&options, true).unwrap_err();
        assert!(verdict.contains("was acknowledged and is"), "{verdict}");
    }
}

#[test]
fn a_kill_at_any_call_leaves_nothing_that_the_next_start_does_not_remove() {
    for options in every_kind() {
        let all_calls = {
            let disk = Simulated::new();
            work(&disk, &options);
            disk.calls()
        };
        for call in 0..=all_calls {
            let disk = Simulated::new();
            disk.cut_power_at(call);
            let outcome = work(&disk, &options);
            let image = disk.after_kill();
            check(&image, &outcome, true).unwrap_or_else(|error| panic!("killed at call {call}: {error}"));
            recover(&image, &options, &outcome)
                .unwrap_or_else(|error| panic!("killed at call {call}: {error}"));
        }
    }
}

#[test]
fn a_failure_of_any_call_is_an_error_and_leaves_nothing() {
    fail_everywhere(&hashed());
    fail_everywhere(&named(hashed()));
}

fn fail_everywhere(options: &Options) {
    const EACCES: i32 = 13;
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;
    let calls = {
        let disk = Simulated::new();
        work(&disk, options);
        disk.calls()
    };
    let mut failures_seen = 0;
    for call in 0..calls {
        for (errno, is_partial) in
            [(ENOSPC, false), (ENOSPC, true), (EIO, false), (EIO, true), (EMFILE, false), (EACCES, false)]
        {
            let disk = Simulated::new();
            disk.fail(call..=call, errno, is_partial);
            let outcome = work(&disk, options);
            let what = format!("call {call} fails with {errno}");
            check(&disk, &outcome, true).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(disk.open_files(), 0, "{what}: a descriptor leaked");
            failures_seen += outcome.errors.len();
            // A lock that fails once is no file system without locks, whose drafts have no mark.
            assert!(!outcome.notices.iter().any(|notice| notice.text.contains("no locks")), "{what}");
            for path in disk.files() {
                let id = path.rsplit('/').next().unwrap_or_default();
                if !outcome.acknowledged.contains_key(id) {
                    // Only if the removal itself failed, and then it is not ready and the log says so.
                    assert_eq!(disk.mode(&path), Some(0o1600), "{what}: {path}");
                    let is_told = |notice: &Notice| notice.text.contains(&path);
                    assert!(outcome.notices.iter().any(is_told), "{what}: {path} left in silence");
                }
            }
        }
    }
    assert!(failures_seen > 200, "only {failures_seen} failures came through");
}

#[test]
fn a_disk_that_fails_for_good_accepts_nothing_more() {
    const EIO: i32 = 5;
    for options in [flat(), named(flat())] {
        let disk = Simulated::new();
        work(&disk, &options);
        for call in 0..disk.calls() {
            let disk = Simulated::new();
            disk.fail(call..=u64::MAX, EIO, true);
            let outcome = work(&disk, &options);
            check(&disk, &outcome, false).unwrap();
            assert!(outcome.acknowledged.len() <= 3);
            assert_eq!(disk.open_files(), 0);
        }
    }
}

/// The disk fails for a while in the middle of a commit. What was refused is not delivered, even if it cannot be removed.
#[test]
fn a_refused_message_that_cannot_be_removed_is_not_ready() {
    const EIO: i32 = 5;
    for options in [flat(), named(flat())] {
        let (mut refused, mut left) = (0, 0);
        for call in 0..12 {
            for last in call..call + 6 {
                let disk = Simulated::new();
                let spool = Spool::open(disk.clone(), &options, silent()).unwrap();
                let draft = draft(&spool).unwrap();
                let first = disk.calls();
                disk.fail(first + call..=first + last, EIO, false);
                if draft.commit().is_ok() {
                    continue;
                }
                refused += 1;
                let modes: Vec<_> = disk.files().iter().map(|path| disk.mode(path)).collect();
                left += modes.len();
                // While the disk refuses everything nothing can be done.
                let is_over = disk.calls() > first + last + 1;
                assert!(!is_over || !modes.contains(&Some(0o700)), "calls {call} to {last} fail: {modes:?}");
            }
        }
        assert!(refused > 5 && left > 2, "{refused} refused, {left} left");
    }
}

fn draft(spool: &Spool<Simulated>) -> Result<Draft<Simulated>, SpoolError> {
    let mut draft = spool.create(&|| Timestamp { seconds: 1_795_000_000, microseconds: 1 })?;
    Message::new(1, 5).write(&mut draft)?;
    Ok(draft)
}

/// Lets the sync of the next commit fail, if nothing comes between: it is the call after the one that gives the file
/// its name.
fn fail_next_sync(disk: &Simulated, errno: i32) {
    let sync = disk.calls() + 1;
    disk.fail(sync..=sync, errno, false);
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_until_restart() {
    const EIO: i32 = 5;
    let disk = Simulated::new();
    let spool = Spool::open(disk.clone(), &flat(), silent()).unwrap();
    let good = draft(&spool).unwrap().commit().unwrap();
    let (unlucky, late) = (draft(&spool).unwrap(), draft(&spool).unwrap());
    fail_next_sync(&disk, EIO);
    let error = unlucky.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cannot bring to disk incoming/"), "{error}");
    assert!(spool.is_poisoned());
    assert_eq!(draft(&spool).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::Poisoned, "a draft begun before is refused too");
    assert_eq!(disk.files(), [format!("incoming/{}", good.queue_id())]);
    let restarted = Spool::open(disk.clone(), &flat(), silent()).unwrap();
    assert!(draft(&restarted).unwrap().commit().is_ok());
}

#[test]
fn a_full_disk_at_sync_is_over_when_there_is_room() {
    const ENOSPC: i32 = 28;
    let disk = Simulated::new();
    let spool = Spool::open(disk.clone(), &flat(), silent()).unwrap();
    let unlucky = draft(&spool).unwrap();
    fail_next_sync(&disk, ENOSPC);
    let error = unlucky.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(!spool.is_poisoned());
    assert_eq!(disk.files(), Vec::<String>::new());
    assert!(draft(&spool).unwrap().commit().is_ok());
}

#[test]
fn a_draft_with_a_failed_write_is_never_committed() {
    const ENOSPC: i32 = 28;
    let disk = Simulated::new();
    let spool = Spool::open(disk.clone(), &flat(), silent()).unwrap();
    let mut draft = spool.create(&|| Timestamp { seconds: 5, microseconds: 5 }).unwrap();
    disk.fail(disk.calls()..=disk.calls(), ENOSPC, true);
    assert_eq!(draft.write_at(0, b"some bytes").unwrap_err().kind(), ErrorKind::NoSpace);
    draft.write_at(0, b"some bytes").unwrap();
    assert!(matches!(draft.commit(), Err(SpoolError::Incomplete { .. })));
    assert_eq!(disk.files(), Vec::<String>::new());
}

#[test]
fn a_draft_that_somebody_removed_is_not_acknowledged() {
    let disk = Simulated::new();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let notify = Arc::new(move |notice: Notice| log.lock().unwrap().push(notice.text));
    let spool = Spool::open(disk.clone(), &named(flat()), notify).unwrap();
    let draft = draft(&spool).unwrap();
    let path = format!("incoming/{}", draft.queue_id());
    disk.unlink(&path).unwrap();
    assert!(matches!(draft.commit(), Err(SpoolError::Vanished { .. })));
    let told = notices.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].starts_with(&format!("{path}: another program took it")), "{told:?}");
}

#[test]
fn a_message_is_ready_whatever_the_umask() {
    let disk = Simulated::new();
    let spool = Spool::open(disk.clone(), &flat(), silent()).unwrap();
    disk.set_umask(0o177);
    let receipt = draft(&spool).unwrap().commit().unwrap();
    assert_eq!(disk.mode(&format!("incoming/{}", receipt.queue_id())), Some(0o700));
}

/// One step of a random history.
#[derive(Debug, Clone, Copy)]
enum Move {
    Begin { lines: usize },
    Commit { which: usize },
    Drop { which: usize },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..60_usize).prop_map(|lines| Move::Begin { lines }),
        (0..8_usize).prop_map(|which| Move::Commit { which }),
        (0..8_usize).prop_map(|which| Move::Drop { which }),
    ];
    proptest::collection::vec(one, 1..20)
}

proptest! {
    #[test]
    fn no_history_loses_an_acknowledged_message(
        moves in moves(),
        cut in 14..200_u64,
        is_hashed in any::<bool>(),
        names in prop_oneof![Just(Names::Kept), Just(Names::Lost), Just(Names::Mixed)],
        bytes in prop_oneof![Just(Bytes::Kept), Just(Bytes::Lost), Just(Bytes::Ordered), Just(Bytes::Torn)],
        seed in any::<u64>(),
    ) {
        let options = if is_hashed { hashed() } else { flat() };
        let disk = Simulated::new();
        disk.cut_power_at(cut);
        let mut outcome = Outcome::default();
        if let Ok(spool) = Spool::open(disk.clone(), &options, silent()) {
            let ticks = Cell::new(0);
            let clock = || {
                ticks.set(ticks.get() + 1);
                Timestamp { seconds: 1_795_000_000, microseconds: ticks.get() }
            };
            let mut drafts = Vec::new();
            for (number, step) in moves.into_iter().enumerate() {
                match step {
                    Move::Begin { lines } => {
                        let message = Message::new(number, lines);
                        if let Ok(draft) = begin(&spool, &clock, &message, &mut outcome) {
                            drafts.push((message, draft));
                        }
                    }
                    Move::Commit { which } if which < drafts.len() => {
                        let (message, draft) = drafts.swap_remove(which);
                        finish(draft, &message, &mut outcome);
                    }
                    Move::Drop { which } if which < drafts.len() => drop(drafts.swap_remove(which)),
                    Move::Commit { .. } | Move::Drop { .. } => {}
                }
            }
            // What is still open when the power goes is not dropped in order.
            disk.cut_power_at(0);
        }
        prop_assert_eq!(disk.open_files(), 0);
        let image = disk.after_power_cut(names, bytes, seed);
        prop_assert_eq!(check(&image, &outcome, bytes != Bytes::Torn), Ok(()));
        prop_assert_eq!(recover(&image, &options, &outcome), Ok(()));
        prop_assert_eq!(recover(&disk.after_kill(), &options, &outcome), Ok(()));
    }
}

#[test]
fn clearing_up_survives_every_failure_and_removes_nothing_wrong() {
    const EIO: i32 = 5;
    let options = named(hashed());
    let crashed = {
        let disk = Simulated::new();
        let calls = {
            work(&disk, &options);
            disk.calls()
        };
        let disk = Simulated::new();
        disk.cut_power_at(calls - 1);
        let outcome = work(&disk, &options);
        (disk.after_kill(), outcome)
    };
    let (image, outcome) = crashed;
    image.put("incoming/5/0/50123ABC", 0o600, b"cleanup at work");
    let now = Timestamp { seconds: 1_795_000_100, microseconds: 0 };
    let spool = Spool::open(image.after_kill(), &options, silent()).unwrap();
    let first = spool.disk().calls();
    assert_eq!(spool.remove_stale(now).unwrap().len(), 1);
    let calls = spool.disk().calls() - first;
    for call in 0..calls {
        let image = image.after_kill();
        let spool = Spool::open(image.clone(), &options, silent()).unwrap();
        let call = image.calls() + call;
        image.fail(call..=call, EIO, false);
        // An error, or a line for the log: never silence.
        match spool.remove_stale(now) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
            Ok(notices) => {
                assert!(notices.iter().any(|notice| notice.severity == Severity::Warning), "{notices:?}")
            }
        }
        assert_eq!(image.open_files(), 0);
        assert!(image.bytes("incoming/5/0/50123ABC").is_some());
        check(&image, &outcome, true).unwrap();
        // The next time it works.
        spool.remove_stale(now).unwrap();
        assert_eq!(image.files().iter().filter(|path| image.mode(path) == Some(0o1600)).count(), 0);
    }
}

#[test]
fn without_locks_nothing_is_marked_and_nothing_removed() {
    let disk = Simulated::new();
    disk.remove_locks();
    disk.remove_nameless_files();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let spool =
        Spool::open(disk.clone(), &flat(), Arc::new(move |notice| log.lock().unwrap().push(notice))).unwrap();
    let (alive, other) = (draft(&spool).unwrap(), draft(&spool).unwrap());
    drop(draft(&spool).unwrap());
    assert_eq!(disk.mode(&format!("incoming/{}", alive.queue_id())), Some(0o600));
    let later = Timestamp { seconds: 1_795_000_100, microseconds: 0 };
    assert_eq!(spool.remove_stale(later).unwrap(), []);
    assert!(alive.commit().is_ok());
    drop(other);
    let texts: Vec<String> =
        notices.lock().unwrap().iter().map(|notice: &Notice| notice.text.clone()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("the file system has no locks"));
}
