//! What settlement makes of journals, in the weather that administrators have.

use postfix::record::{RecordType, encode};
use spool::journal::Instance;
use spool::journal::Mount;
use spool::journal::record::{Batch, Content, Header};
use spool::simulated::{Bytes, Names, Simulated};
use spool::{CommitWay, Disk, Options, Timestamp};

use super::*;

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
