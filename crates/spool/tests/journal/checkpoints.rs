//! How a journal is made, filled, freed by checkpoints, and closed.

use std::sync::mpsc;
use std::time::Instant;

use spool::journal::Mount;
use spool::journal::record::{Batch, Content, Header};
use spool::journal::scan::{Account, account, scan};
use spool::simulated::{Bytes, Names, Simulated};
use spool::{CommitWay, Options};

use super::*;

pub(super) fn journal_path() -> String {
    format!("journal/{}.v2", Instance([1; 16]))
}

fn incoming(id: &str) -> String {
    format!("incoming/{id}")
}

/// What the journal says as it stands.
fn accounted(disk: &Simulated) -> Account {
    let bytes = disk.bytes(&journal_path()).unwrap_or_default();
    let read = |offset: u64, buffer: &mut [u8]| {
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    };
    account(&scan(Instance([1; 16]), read).unwrap())
}

fn with(checkpoint_delay: Duration, checkpoint_bytes: u64) -> Options {
    let commit_way = CommitWay::Journal(journal::Options {
        instance: Instance([1; 16]),
        checkpoint_delay,
        checkpoint_bytes,
    });
    Options { commit_way, ..options(FIRST_BOOT, 1) }
}

/// A message whose record and header take so many bytes in the journal.
pub(super) fn record_of(server: &Server, bytes: usize) -> (Draft<Simulated>, Vec<u8>) {
    let mut content = message("m", 1);
    content.resize(bytes - 256, b'x');
    (server.begin(&content).unwrap(), content)
}

fn accept(server: &Server, (draft, content): (Draft<Simulated>, Vec<u8>)) -> String {
    let id = draft.queue_id().to_string();
    server.commit(draft, content, || ());
    assert!(server.ledger.lock().unwrap().acknowledged.contains_key(&id), "{id}");
    id
}

/// Hands over all of these while the answer to another is given.
pub(super) fn accept_together(server: &Server, messages: Vec<(Draft<Simulated>, Vec<u8>)>) {
    let (first, content) = record_of(server, 512);
    let other = server.clone();
    server.commit(first, content, move || {
        for (draft, content) in messages {
            other.commit(draft, content, || ());
        }
    });
}

/// The first message meets an error while its journal is made: it has a sync of its own, and so have all that follow. Want
/// of room is over with the next message.
#[test]
fn an_error_as_the_journal_is_made_gives_it_up_and_want_of_room_does_not() {
    let mut places = 0;
    for call in 0..60 {
        let (seen, seen_by) = (Arc::new(Mutex::new(false)), Arc::<Mutex<bool>>::default());
        for (errno, gives_up) in [(EIO, true), (ENOSPC, false)] {
            let disk = Simulated::new();
            let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
            let call = disk.calls() + call;
            let (is_there, is_over) = (Arc::clone(&seen), Arc::clone(&seen_by));
            let ledger = Arc::clone(&server.ledger);
            disk.before_call(call, move |disk| {
                *is_there.lock().unwrap() = disk.bytes(&journal_path()).is_some();
                *is_over.lock().unwrap() = !ledger.lock().unwrap().acknowledged.is_empty();
            });
            disk.fail(call..=call, errno, false);
            let first = server.accept("first", 3);
            if !*seen.lock().unwrap() || *seen_by.lock().unwrap() {
                continue;
            }
            places += 1;
            let what = format!("call {call}, error {errno}");
            let ids = [first.expect(&what), server.accept("second", 3).expect(&what)];
            let notices = server.ledger.lock().unwrap().notices.clone();
            let is_told = notices.iter().any(|notice| notice.text.contains("until `qmqpd reload`"));
            assert_eq!(is_told, gives_up, "{what}: {notices:?}");
            let second = ids[1].as_str();
            let in_journal = accounted(&disk).messages.iter().any(|(_, header)| {
                matches!(header.content, Content::Message { queue_id, .. } if queue_id.as_str() == second)
            });
            assert_eq!(in_journal, !gives_up, "{what}");
            let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, call);
            start(&lost, SECOND_BOOT, 2).unwrap();
            for id in ids {
                assert!(lost.bytes(&incoming(&id)).is_some_and(|bytes| is_complete(&bytes)), "{what}: {id}");
            }
        }
    }
    assert!(places >= 12, "only {places} failures while the journal was made");
}

/// One sync answers for all that came meanwhile, as far as a batch may go.
#[test]
fn what_comes_while_another_is_answered_is_one_batch_up_to_its_limit() {
    let disk = Simulated::new();
    // A batch has at most a quarter of the file, which has at most twice this.
    let server = Server::open(&disk, &with(Duration::from_secs(3600), 32 * 1024)).unwrap();
    let messages = (0..9).map(|_| record_of(&server, 4096)).collect();
    let before = disk.calls();
    accept_together(&server, messages);
    let ledger = server.ledger.lock().unwrap();
    assert_eq!((ledger.acknowledged.len(), ledger.errors.len()), (10, 0));
    let account = accounted(&disk);
    let mut batches: Vec<(u64, u32)> =
        account.messages.iter().map(|(_, header)| (header.batch.first, header.batch.count)).collect();
    batches.dedup();
    assert_eq!(batches, [(1, 1), (2, 4), (6, 4), (10, 1)], "{} calls", disk.calls() - before);
    assert_eq!((account.lost, account.lost_batches, account.unfinished), (0, 0, 0));
}

/// What is too large for a batch has a sync of its own.
#[test]
fn the_largest_message_of_a_batch_goes_through_the_journal_and_no_larger_one() {
    for (bytes, goes) in [(16 * 1024, true), (16 * 1024 + 1, false)] {
        let disk = Simulated::new();
        let server = Server::open(&disk, &with(Duration::from_secs(3600), 32 * 1024)).unwrap();
        let message = record_of(&server, bytes);
        let id = accept(&server, message);
        assert_eq!(accounted(&disk).messages.len(), usize::from(goes), "{bytes} bytes");
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        start(&lost, SECOND_BOOT, 2).unwrap();
        assert!(lost.bytes(&incoming(&id)).is_some());
    }
}

/// Waits until a checkpoint has retired all messages.
fn wait_for_checkpoint(disk: &Simulated) {
    let begin = Instant::now();
    while !accounted(disk).messages.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_checkpoint_comes_by_itself_after_the_delay_and_not_before() {
    let disk = Simulated::new();
    let delay = Duration::from_millis(300);
    let server = Server::open(&disk, &with(delay, 32 * 1024)).unwrap();
    let spool = server.spool.clone();
    let thread = std::thread::spawn(move || spool.run_checkpoints());
    for _ in 0..2 {
        let begin = Instant::now();
        server.accept("m", 3).unwrap();
        wait_for_checkpoint(&disk);
        let elapsed = begin.elapsed();
        assert!(elapsed >= delay, "after {elapsed:?}");
    }
    // With nothing to do it waits, and a stop ends that.
    server.spool.stop_checkpoints();
    thread.join().unwrap();
}

#[test]
fn a_checkpoint_comes_at_once_when_the_journal_has_grown_to_its_size() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &with(Duration::from_secs(3600), 32 * 1024)).unwrap();
    let spool = server.spool.clone();
    let thread = std::thread::spawn(move || spool.run_checkpoints());
    for round in 0..3 {
        for number in 0..8 {
            assert_eq!(accounted(&disk).messages.len(), number, "round {round}");
            accept(&server, record_of(&server, 4096));
        }
        wait_for_checkpoint(&disk);
    }
    // A stop does not wait for the delay.
    server.accept("m", 3).unwrap();
    server.spool.stop_checkpoints();
    thread.join().unwrap();
    assert_eq!(accounted(&disk).messages.len(), 1);
}

/// While a mark is written, the one before it counts: it is torn, and what was delivered before stays delivered.
#[test]
fn a_torn_mark_leaves_the_one_before_it() {
    for checkpoints in 1..6 {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let mut ids = Vec::new();
        let mut before = Vec::new();
        for number in 0..=checkpoints {
            if number == 0 {
                ids.push(server.accept("first", 3).unwrap());
            }
            // A message comes during the sync: its batch cannot say yet what that retires.
            let (other, during) = (server.clone(), Arc::new(Mutex::new(None)));
            let id = Arc::clone(&during);
            if number < checkpoints {
                disk.before_call(disk.calls(), move |_| *id.lock().unwrap() = other.accept("during", 3));
            }
            before = disk.bytes(&journal_path()).unwrap();
            server.spool.checkpoint();
            ids.extend(during.lock().unwrap().take());
        }
        assert_eq!(ids.len(), checkpoints + 1);
        // All are delivered, and that is on disk.
        ids.iter().for_each(|id| server.deliver(id));
        disk.sync_all().unwrap();
        let after = disk.bytes(&journal_path()).unwrap();
        let written: Vec<usize> = (0..after.len() / 4096)
            .filter(|page| after[page * 4096..][..4096] != before[page * 4096..][..4096])
            .collect();
        assert_eq!(written.len(), 1, "the last checkpoint writes one mark: {written:?}");
        let lost = disk.after_power_cut(Names::Kept, Bytes::Kept, 1);
        let file = lost.open_to_write(&journal_path()).unwrap();
        lost.write_at(&file, written[0] as u64 * 4096, &[0; 4096]).unwrap();
        drop(file);
        start(&lost, SECOND_BOOT, 2).unwrap();
        let last = ids.pop().unwrap();
        for id in ids {
            assert_eq!(lost.bytes(&incoming(&id)), None, "{checkpoints} checkpoints: {id} came back");
        }
        assert!(lost.bytes(&incoming(&last)).is_some());
    }
}

/// The end of a process, while a message is still on its way: its journal stays for settlement.
#[test]
fn a_message_that_comes_during_the_last_checkpoint_is_not_lost() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    server.accept("first", 3).unwrap();
    let bytes = message("late", 3);
    let draft = server.begin(&bytes).unwrap();
    let id = draft.queue_id().to_string();
    // The message is written and named; before its file is closed the end begins, and while that syncs everything the message
    // comes into the journal.
    let (go, gone) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let (gate, done) = (Mutex::new(go.1), Mutex::new(gone.0));
    let (entered, inside) = mpsc::channel::<()>();
    let third_call = disk.calls() + 2;
    disk.before_call(third_call, move |_| {
        entered.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
    });
    std::thread::scope(|scope| {
        let late = server.clone();
        scope.spawn(move || {
            late.commit(draft, bytes, || ());
            done.lock().unwrap().send(()).unwrap();
        });
        inside.recv().unwrap();
        let (go, gone) = (Mutex::new(go.0), Mutex::new(gone.1));
        disk.before_call(disk.calls(), move |_| {
            go.lock().unwrap().send(()).unwrap();
            gone.lock().unwrap().recv().unwrap();
        });
        server.spool.close_journal();
    });
    assert!(server.ledger.lock().unwrap().acknowledged.contains_key(&id));
    assert_eq!(accounted(&disk).messages.len(), 1, "it came through the journal, during the checkpoint");
    let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    start(&lost, SECOND_BOOT, 2).unwrap();
    assert!(lost.bytes(&incoming(&id)).is_some(), "{id} is lost");
}

/// The end comes from within the answer to a message, so that nobody can wait for the writer.
#[test]
fn a_journal_that_is_closed_by_its_writer_is_left_to_settlement() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let bytes = message("m", 3);
    let draft = server.begin(&bytes).unwrap();
    let id = draft.queue_id().to_string();
    let other = server.clone();
    server.commit(draft, bytes, move || other.spool.close_journal());
    let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    start(&lost, SECOND_BOOT, 2).unwrap();
    assert!(lost.bytes(&incoming(&id)).is_some(), "{id} is lost");
    assert!(lost.files().iter().all(|path| !path.starts_with("journal/")));
}

#[test]
fn an_orderly_end_leaves_no_journal_and_mail_goes_on_without() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let before = server.accept("before", 3).unwrap();
    server.spool.close_journal();
    let after = server.accept("after", 3).unwrap();
    assert_eq!(disk.files(), [incoming(&before), incoming(&after)]);
    let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    for id in [before, after] {
        assert!(lost.bytes(&incoming(&id)).is_some_and(|bytes| is_complete(&bytes)), "{id}");
    }
    assert!(!server.ledger.lock().unwrap().notices.iter().any(|notice| notice.severity != Severity::Info));
}

/// Another process settles and removes a journal in the moment between our open and our lock.
#[test]
fn a_journal_that_goes_between_open_and_lock_is_not_settled_twice() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..3).map(|n| server.accept(&format!("m{n}"), 3).unwrap()).collect();
    drop(server);
    let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let (mut acted, file_way) = (0, Options { commit_way: CommitWay::File, ..options(SECOND_BOOT, 2) });
    for call in 0..8 {
        let image = crashed.after_kill();
        let ours = Server::open(&image, &file_way).unwrap();
        let theirs = Server::open(&image, &file_way).unwrap();
        let (did, all) = (Arc::new(Mutex::new(0)), ids.clone());
        let seen = Arc::clone(&did);
        image.before_call(image.calls() + call, move |_| {
            let settled = theirs.spool.settle(&later()).unwrap();
            *seen.lock().unwrap() = settled.settled;
            // The queue manager delivers what they bring back.
            all.iter().for_each(|id| theirs.deliver(id));
        });
        let settled = ours.spool.settle(&later()).unwrap();
        if *did.lock().unwrap() == 0 {
            continue;
        }
        acted += 1;
        assert_eq!((settled.settled, settled.kept, settled.written_again), (0, 0, 0), "call {call}");
        assert_eq!(image.files(), Vec::<String>::new(), "call {call}: delivered mail came back");
    }
    assert!(acted >= 3, "only {acted} times");
}

/// Linux before 5.8, or no locks: each message is synced by itself, and the log says so.
#[test]
fn where_a_sync_of_everything_tells_of_no_errors_there_is_no_journal() {
    type Lack = (fn(&Simulated), &'static str);
    let lacks: [Lack; 3] = [
        (Simulated::remove_sync_all, "syncfs(2) does not report errors (before Linux 5.8)"),
        (Simulated::remove_locks, "the file system has no locks"),
        (|disk| disk.put("journal", 0o600, b"not a directory"), "cannot create journal/"),
    ];
    for (lack, words) in lacks {
        let disk = Simulated::new();
        drop(
            Server::open(&disk, &Options { commit_way: CommitWay::File, ..options(FIRST_BOOT, 1) }).unwrap(),
        );
        disk.remove_by_another("journal");
        lack(&disk);
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        assert!(!server.spool.has_journal());
        let notices = server.ledger.lock().unwrap().notices.clone();
        let told: Vec<_> = notices.iter().filter(|notice| notice.text.contains("no journal")).collect();
        assert_eq!(told.len(), 1, "{notices:?}");
        assert!(told[0].severity == Severity::Warning && told[0].text.contains(words), "{}", told[0].text);
        assert_eq!(
            told[0].text.contains("before Linux 5.8"),
            !words.starts_with("cannot"),
            "{}",
            told[0].text
        );
        let id = server.accept("m", 3).unwrap();
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        assert!(lost.bytes(&incoming(&id)).is_some_and(|bytes| is_complete(&bytes)));
    }
}

/// A journal from under another kernel is settled all the same: each message is synced by itself.
#[test]
fn settlement_needs_no_sync_of_everything() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..3).map(|n| server.accept(&format!("m{n}"), 3).unwrap()).collect();
    drop(server);
    let crashed = disk.after_power_cut(Names::Mixed, Bytes::Lost, 1);
    crashed.remove_sync_all();
    let server = start(&crashed, SECOND_BOOT, 2).unwrap();
    let notices = server.ledger.lock().unwrap().notices.clone();
    let is_sync = |notice: &Notice| notice.text.contains("synced by itself");
    assert!(!notices.iter().any(is_sync), "{notices:?}");
    let lost = crashed.after_power_cut(Names::Lost, Bytes::Lost, 1);
    for id in ids {
        assert!(lost.bytes(&incoming(&id)).is_some_and(|bytes| is_complete(&bytes)), "{id}");
    }
}

/// The disk fails for good in the middle of a commit. What was refused is not delivered, even if it cannot be removed.
#[test]
fn a_refused_message_that_cannot_be_removed_is_not_ready() {
    let (mut refused, mut left) = (0, 0);
    for call in 0..40 {
        for last in call..call + 12 {
            let disk = Simulated::new();
            let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
            let first = disk.calls();
            disk.fail(first + call..=first + last, EIO, false);
            if server.accept("m", 3).is_some() {
                continue;
            }
            refused += 1;
            // The file can be looked at again: then it must not be one for the queue manager, unless nothing could be done.
            let ready: Vec<String> =
                disk.files().into_iter().filter(|path| disk.mode(path) == Some(0o700)).collect();
            left += disk.files().iter().filter(|path| disk.mode(path) == Some(0o1600)).count();
            let is_over = disk.calls() > first + last + 1;
            assert!(ready.is_empty() || !is_over, "calls {call} to {last} fail: {ready:?} is ready");
            let notices = server.ledger.lock().unwrap().notices.clone();
            for path in disk.files().iter().filter(|path| path.starts_with("incoming/")) {
                assert!(notices.iter().any(|notice| notice.text.contains(path)), "{path} left in silence");
            }
        }
    }
    assert!(refused > 50 && left > 5, "{refused} refused, {left} left");
}

/// A master asks this to know whether somebody has to settle.
#[test]
fn only_a_journal_without_a_process_is_an_orphan() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    assert!(!server.spool.has_orphans().unwrap(), "there is none");
    disk.put(&format!("journal/{}.v3", "a".repeat(32)), 0o600, b"of a later version");
    server.accept("m", 3).unwrap();
    assert!(!server.spool.has_orphans().unwrap(), "its process lives");
    let killed = disk.after_kill();
    let next =
        Server::open(&killed, &Options { commit_way: CommitWay::File, ..options(FIRST_BOOT, 2) }).unwrap();
    assert!(next.spool.has_orphans().unwrap());
    // What cannot be looked at is no answer: the directory, the file, its lock.
    for call in 0..3 {
        let call = killed.calls() + call;
        killed.fail(call..=call, EIO, false);
        assert!(next.spool.has_orphans().is_err(), "call {call}");
    }
    let path = journal_path();
    killed.before_call(killed.calls() + 1, move |disk| {
        disk.remove_by_another(&path);
    });
    assert!(!next.spool.has_orphans().unwrap(), "another process has settled it");
    killed.remove_by_another("journal");
    assert!(!next.spool.has_orphans().unwrap(), "without a directory there is none");
}

/// What is on hold, or was written to before, has a sync of its own.
#[test]
fn a_message_on_hold_or_in_pieces_passes_by_the_journal() {
    for (is_held, is_begun) in [(true, false), (false, true), (true, true)] {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let bytes = message("m", 3);
        let mut draft = server.begin(&bytes).unwrap();
        let id = draft.queue_id().to_string();
        if is_held {
            draft.hold();
        }
        if is_begun {
            draft.write_at(0, &bytes[..10]).unwrap();
        }
        server.commit(draft, bytes.clone(), || ());
        assert_eq!(accounted(&disk).messages.len(), 0, "held: {is_held}, begun: {is_begun}");
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        let queue = if is_held { "hold" } else { "incoming" };
        assert_eq!(lost.bytes(&format!("{queue}/{id}")), Some(bytes));
    }
}

/// A process that lives has delivered what is in the journal of one that is gone.
#[test]
fn what_is_done_in_a_live_journal_does_not_come_back() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let mut bytes = Vec::new();
    encode(&mut bytes, RecordType::TIME, b"1795000001 7");
    encode(&mut bytes, RecordType::END, b"");
    let draft = server.begin(&bytes).unwrap();
    let queue_id = *draft.queue_id();
    server.commit(draft, bytes.clone(), || ());
    let crashed = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let mut live = vec![0; 8192];
    Header {
        instance: Instance([2; 16]),
        mount: Mount::UNKNOWN,
        sequence: 1,
        batch: Batch { first: 1, count: 1, follows: 1, retired_below: 1 },
        content: Content::Done { queue_id, arrival: Timestamp { seconds: 1_795_000_001, microseconds: 7 } },
        payload_bytes: 0,
        payload_checksum: 0,
    }
    .encode(&mut live);
    let path = format!("journal/{}.v2", Instance([2; 16]));
    crashed.put(&path, 0o600, &live);
    crashed.hold_there(&path);
    start(&crashed, SECOND_BOOT, 3).unwrap();
    assert_eq!(crashed.bytes(&incoming(queue_id.as_str())), None, "it came back");
    assert!(crashed.bytes(&path).is_some());
}

/// The file grows by half, by at least 64 KiB, so that most batches go where it has blocks already; and not before it is full.
#[test]
fn the_journal_grows_ahead_of_what_comes() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &with(Duration::from_secs(60), 1024 * 1024)).unwrap();
    let kilobytes: Vec<usize> = (0..47)
        .map(|_| {
            accept(&server, record_of(&server, 4096));
            disk.bytes(&journal_path()).unwrap().len() / 1024
        })
        .collect();
    // Two places for marks, then 14 batches to the end of the first 64 KiB.
    let expected = [vec![64; 14], vec![128; 16], vec![192; 16], vec![288; 1]].concat();
    assert_eq!(kilobytes, expected);
}

/// The end comes before anything has to be written: the thread that makes checkpoints goes home.
#[test]
fn a_thread_for_checkpoints_that_starts_after_the_end_returns() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    server.spool.stop_checkpoints();
    let (told, returned) = mpsc::channel();
    let spool = server.spool.clone();
    std::thread::spawn(move || {
        spool.run_checkpoints();
        told.send(()).unwrap();
    });
    assert!(returned.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for ever");
}

/// The end comes in the middle of a checkpoint of another thread: it waits for that, and leaves no journal.
#[test]
fn an_end_during_a_checkpoint_leaves_no_journal() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    server.accept("m", 3).unwrap();
    let (at_sync, in_sync) = mpsc::channel();
    let (ended, end) = mpsc::channel::<()>();
    let hook = Mutex::new((at_sync, end));
    // The first call of a checkpoint is its sync.
    disk.before_call(disk.calls(), move |_| {
        let hook = hook.lock().unwrap();
        hook.0.send(()).unwrap();
        // An end that does not wait comes back in this time. No order of the two may leave a journal.
        let _ = hook.1.recv_timeout(Duration::from_millis(300));
    });
    let other = server.clone();
    let checkpoint = std::thread::spawn(move || other.spool.checkpoint());
    in_sync.recv_timeout(Duration::from_secs(20)).unwrap();
    server.spool.close_journal();
    let _ = ended.send(());
    checkpoint.join().unwrap();
    assert!(!disk.files().contains(&journal_path()), "{:?}", disk.files());
}
