//! Errors one at a time, at the start of a process and at the end of a settlement: what the log says, and what stays.

use spool::simulated::{Bytes, Names, Simulated};

use super::checkpoints::{accept_together, journal_path, record_of};
use super::faults::{calls_of_settlement, crashed, places, settler};
use super::*;

const EACCES: i32 = 13;
const EMFILE: i32 = 24;

fn has_journal_file(disk: &Simulated) -> bool {
    disk.files().iter().any(|path| path.starts_with("journal/"))
}

fn notices(server: &Server) -> Vec<Notice> {
    server.ledger.lock().unwrap().notices.clone()
}

/// A disk with all directories, and no call behind it.
fn with_directories() -> Simulated {
    let disk = Simulated::new();
    drop(Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap());
    disk.make_durable();
    disk
}

/// The calls of a start that make and remove the file that tries whether there are locks.
fn calls_that_try_locks() -> (u64, u64) {
    let disk = with_directories();
    drop(Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap());
    let is_there_before = |call: &u64| {
        let disk = with_directories();
        let seen = Arc::new(Mutex::new(false));
        let is_there = Arc::clone(&seen);
        disk.before_call(*call, move |disk| *is_there.lock().unwrap() = has_journal_file(disk));
        drop(Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap());
        *seen.lock().unwrap()
    };
    let calls: Vec<u64> = (0..disk.calls()).filter(is_there_before).collect();
    (calls[0] - 1, calls[calls.len() - 1])
}

/// A server that is started on a full disk, or beside one that clears up, has a journal when there is room.
#[test]
fn a_start_on_a_full_disk_or_beside_a_settlement_is_one_with_a_journal() {
    let (create, unlink) = calls_that_try_locks();
    for is_full in [true, false] {
        let disk = with_directories();
        if is_full {
            disk.fail(create..=create, ENOSPC, false);
        } else {
            disk.before_call(unlink, |disk| assert!(disk.remove_by_another(&journal_path())));
        }
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        assert!(server.spool.has_journal() && notices(&server).is_empty(), "{:?}", notices(&server));
        server.accept("m", 20).unwrap();
        assert!(has_journal_file(&disk), "full: {is_full}");
    }
}

/// The directory of journals is not to be written in: each message has a sync of its own, and the log says why.
#[test]
fn a_start_that_cannot_make_or_remove_a_journal_does_without() {
    let (create, unlink) = calls_that_try_locks();
    for (call, words) in [(create, "cannot create journal/"), (unlink, "cannot remove journal/")] {
        let disk = with_directories();
        disk.fail(call..=call, EACCES, false);
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        assert!(!server.spool.has_journal());
        let told = notices(&server);
        assert!(told.iter().any(|n| n.text.contains("journal") && n.text.contains(words)), "{told:?}");
        let id = server.accept("m", 20).unwrap();
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        assert!(lost.bytes(&format!("incoming/{id}")).is_some(), "{words}");
    }
}

/// The last act of a settlement is to remove the journal. That another process was faster is no trouble; that it cannot be
/// removed is told, and the next settlement does it.
#[test]
fn a_settled_journal_that_cannot_be_removed_is_told_and_one_that_is_gone_is_not() {
    let (crashed, owed, _) = crashed(true);
    let last = calls_of_settlement(&crashed, true).end - 1;
    let path = crashed.files().into_iter().find(|path| path.starts_with("journal/")).unwrap();

    let image = crashed.after_kill();
    let server = settler(&image, true).unwrap();
    image.fail(last..=last, EACCES, false);
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept), (0, 1));
    let told = notices(&server);
    let is_told = |n: &Notice| n.severity == Severity::Error && n.text.starts_with("cannot remove journal/");
    assert!(told.iter().any(is_told), "{told:?}");
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept, settled.written_again), (1, 0, 0));
    assert!(!has_journal_file(&image));
    assert!(owed.values().all(|whole| places(&image, whole).len() == 1));

    let image = crashed.after_kill();
    let server = settler(&image, true).unwrap();
    image.before_call(last, move |disk| assert!(disk.remove_by_another(&path)));
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept), (1, 0));
    assert!(notices(&server).iter().all(|n| n.severity == Severity::Info), "{:?}", notices(&server));
}

/// Errors of what settlement writes would not be heard: it writes nothing, and the journal stays. A journal that answers for
/// nothing needs no sync.
#[test]
fn a_settlement_that_could_not_hear_of_errors_does_not_begin() {
    let (crashed, owed, _) = crashed(true);
    let server = settler(&crashed, true).unwrap();
    crashed.fail_preparing(EMFILE);
    let before = crashed.files();
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept, settled.written_again), (0, 1, 0));
    assert_eq!(crashed.files(), before);
    let told = notices(&server);
    assert!(told.iter().any(|n| n.text.contains("cannot open simulated: ")), "{told:?}");
    crashed.fail_preparing(0);
    assert_eq!(server.spool.settle(&later()).unwrap().settled, 1);
    assert!(owed.values().all(|whole| places(&crashed, whole).len() == 1));

    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    server.accept("m", 20).unwrap();
    server.spool.checkpoint();
    drop(server);
    let image = disk.after_kill();
    image.fail_preparing(EMFILE);
    let settled = settler(&image, true).unwrap().spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept), (1, 0));
}

/// After a start of the machine the log has a line for each journal that answers for something, also when all of it was in the
/// queue; and none for one that answers for nothing.
#[test]
fn the_log_counts_messages_that_were_all_there() {
    for is_retired in [false, true] {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        server.accept("m", 20).unwrap();
        server.accept("n", 20).unwrap();
        if is_retired {
            server.spool.checkpoint();
        }
        drop(server);
        let image = disk.after_power_cut(Names::Kept, Bytes::Kept, 1);
        let server = start(&image, SECOND_BOOT, 2).unwrap();
        let told = notices(&server);
        let words = "2 messages since the last checkpoint, 0 of them written again, 0 more incomplete";
        let expected = usize::from(!is_retired);
        assert_eq!(told.iter().filter(|n| n.text.contains(words)).count(), expected, "{told:?}");
        assert_eq!(told.len(), expected, "{told:?}");
        assert!(!has_journal_file(&image));
    }
}

/// One message of a batch cannot be read, and a later batch proves that it was acknowledged.
#[test]
fn a_damaged_record_of_a_batch_is_counted_and_the_journal_kept() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let together: Vec<_> = (0..3).map(|_| record_of(&server, 1024)).collect();
    let ids: Vec<String> = together.iter().map(|(draft, _)| draft.queue_id().to_string()).collect();
    accept_together(&server, together);
    server.accept("after", 20).unwrap();
    drop(server);
    let image = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let bytes = image.bytes(&journal_path()).unwrap();
    let at = bytes.windows(ids[1].len()).position(|window| window == ids[1].as_bytes()).unwrap();
    image.overwrite_by_another(&journal_path(), at as u64, b"?");
    let server = start(&image, SECOND_BOOT, 2).unwrap();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(image.bytes(&format!("incoming/{id}")).is_some(), number != 1, "{number}");
    }
    assert!(image.bytes(&format!("{}.damaged", journal_path())).is_some(), "{:?}", image.files());
    let told = notices(&server);
    let words =
        "accepted messages may be lost: 1 records and 0 batches of records cannot be read (1 damaged places)";
    assert!(told.iter().any(|n| n.severity == Severity::Error && n.text.contains(words)), "{told:?}");
}

/// Another process has the new journal and lives on, and it cannot be removed: the log says so, and each message has a sync
/// of its own.
#[test]
fn a_new_journal_that_was_taken_and_cannot_be_removed_is_told() {
    let disk = with_directories();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let first = disk.calls();
    server.accept("m", 20).unwrap();
    let is_there_before = |call: &u64| {
        let disk = with_directories();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let seen = Arc::new(Mutex::new(false));
        let is_there = Arc::clone(&seen);
        disk.before_call(*call, move |disk| *is_there.lock().unwrap() = has_journal_file(disk));
        server.accept("m", 20).unwrap();
        *seen.lock().unwrap()
    };
    let lock = (first..disk.calls()).find(is_there_before).unwrap();

    let disk = with_directories();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    disk.before_call(lock, |disk| disk.hold_there(&journal_path()));
    disk.fail(lock + 1..=lock + 1, EACCES, false);
    let id = server.accept("m", 20).unwrap();
    let told = notices(&server);
    let errors: Vec<_> = told.iter().filter(|n| n.severity == Severity::Error).collect();
    assert!(errors.len() == 1 && errors[0].text.starts_with("cannot remove journal/"), "{told:?}");
    let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    assert!(lost.bytes(&format!("incoming/{id}")).is_some());
}

/// What a crash left of a message cannot be looked at or removed: the journal stays, or it is gone in the end.
#[test]
fn a_remnant_that_cannot_be_removed_keeps_the_journal() {
    let (crashed, owed, ids) = crashed(true);
    for queue in spool::Queue::ALL {
        crashed.remove_by_another(&format!("{queue}/{}", ids[0]));
    }
    let (path, whole) = (format!("incoming/{}", ids[0]), &owed[&ids[0]]);
    crashed.put(&path, 0o700, &whole[..100]);
    let mut kept = 0;
    for call in calls_of_settlement(&crashed, true) {
        let image = crashed.after_kill();
        let server = settler(&image, true).unwrap();
        // It is tried twice.
        image.fail(call..=call + 1, EACCES, false);
        let Ok(settled) = server.spool.settle(&later()) else { continue };
        kept += settled.kept;
        let is_left = image.bytes(&path).as_ref() != Some(whole);
        assert!(settled.kept == 1 || !is_left, "call {call}: a remnant is left in silence");
    }
    assert!(kept > 10, "only {kept} settlements met the error");
}
