//! Can a letter that is being delivered be lost? The power goes, the process is killed, or the disk says no, at every single
//! call of a queue manager's round.

#![cfg(test)]

use std::sync::Arc;

use postfix::queue_id::QueueId;
use spool::lease::{Lease, Queues, ReasonLog, Taken};
use spool::queue::{find, list};
use spool::simulated::{Bytes, Names, Simulated};
use spool::{Disk, Queue, SpoolError, Timestamp};

const NOW: Timestamp = Timestamp { seconds: 1_796_057_688, microseconds: 5 };
const ID: &str = "1C835288";
/// Three recipients' records among other bytes; the file is no queue file to anyone else.
const FILE: &[u8] = b"Cxx R..R..R..E";
const OFFSETS: [u64; 3] = [4, 7, 10];
const ENTRY: &[u8] = b"recipient=a@b\nreason=no\n\n";

fn id() -> QueueId {
    QueueId::parse(ID).unwrap()
}

fn disk_with(path: &str) -> Simulated {
    let disk = Simulated::new();
    for queue in ["incoming", "active", "deferred", "hold", "corrupt", "defer", "bounce", "trace"] {
        disk.create_directory(queue, 0o700).unwrap();
    }
    disk.put(path, 0o700, FILE);
    disk.make_durable();
    disk
}

fn queues(disk: &Simulated) -> Arc<Queues<Simulated>> {
    Queues::new(disk.clone(), ["deferred", "defer"].map(str::to_owned).to_vec(), 1)
}

fn take(disk: &Simulated) -> Lease<Simulated> {
    match try_take(disk).unwrap() {
        Taken::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn try_take(disk: &Simulated) -> Result<Taken<Simulated>, SpoolError> {
    let entry = find(disk, &id()).unwrap().expect("the message");
    queues(disk).take(&entry, NOW)
}

fn place(disk: &Simulated) -> Option<Queue> {
    find(disk, &id()).unwrap().map(|entry| entry.queue)
}

#[test]
fn a_message_is_taken_marked_and_finished() {
    let disk = disk_with("incoming/1C835288");
    let mut lease = take(&disk);
    assert_eq!(place(&disk), Some(Queue::Active));
    let mut bytes = [0; 100];
    let read = lease.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes[..read], FILE);
    for offset in OFFSETS {
        lease.mark_done(offset).unwrap();
        lease.mark_done(offset).unwrap();
    }
    assert_eq!(disk.bytes("active/1C835288").unwrap(), b"Cxx D..D..D..E");
    lease.finish().unwrap();
    assert_eq!(disk.files(), Vec::<String>::new());
}

#[test]
fn only_a_recipient_is_marked() {
    let disk = disk_with("incoming/1C835288");
    let mut lease = take(&disk);
    for offset in [0, 5, 13, 14, 5000] {
        let error = lease.mark_done(offset).unwrap_err().to_string();
        assert!(error.contains(&format!("no recipient's record stands at offset {offset}")), "{error}");
    }
    assert_eq!(disk.bytes("active/1C835288").unwrap(), FILE);
}

#[test]
fn a_deferred_message_has_its_time_its_reasons_and_its_place() {
    let disk = disk_with("incoming/1C835288");
    let mut lease = take(&disk);
    lease.log(ReasonLog::Defer, ENTRY).unwrap();
    lease.log(ReasonLog::Defer, ENTRY).unwrap();
    let due = Timestamp { seconds: NOW.seconds + 300, microseconds: 0 };
    lease.defer(due).unwrap();
    let entry = find(&disk, &id()).unwrap().unwrap();
    assert_eq!(
        (entry.path.as_str(), entry.status.modified, entry.is_ready()),
        ("deferred/1/1C835288", due, true)
    );
    assert_eq!(disk.bytes("defer/1/1C835288").unwrap(), [ENTRY, ENTRY].concat());
    // The next attempt begins with a new log.
    let lease = take(&disk);
    assert_eq!(disk.files(), ["active/1C835288"]);
    lease.hold().unwrap();
    assert_eq!(place(&disk), Some(Queue::Hold));
}

#[test]
fn a_log_goes_on_behind_a_torn_entry() {
    let disk = disk_with("incoming/1C835288");
    disk.put("bounce/1C835288", 0o600, b"recipient=x@y\nreas");
    let mut lease = take(&disk);
    lease.log(ReasonLog::Bounce, ENTRY).unwrap();
    assert_eq!(disk.bytes("bounce/1C835288").unwrap(), [b"recipient=x@y\nreas\n\n", ENTRY].concat());
    let mut bytes = [0; 9];
    assert_eq!(lease.read_log_at(ReasonLog::Bounce, 10, &mut bytes).unwrap(), 9);
    assert_eq!(lease.read_log_at(ReasonLog::Trace, 0, &mut bytes).unwrap(), 0);
}

#[test]
fn a_message_whose_sender_was_not_told_stays() {
    let disk = disk_with("incoming/1C835288");
    let mut lease = take(&disk);
    lease.log(ReasonLog::Bounce, ENTRY).unwrap();
    let error = lease.finish().unwrap_err().to_string();
    assert!(error.contains("its sender has not been told of all failures"), "{error}");
    assert_eq!(place(&disk), Some(Queue::Active));
}

#[test]
fn what_another_process_works_on_rests_for_a_minute() {
    let disk = disk_with("incoming/1C835288");
    let agent = disk.open("incoming/1C835288").unwrap();
    assert!(disk.try_lock_for_delivery(&agent).unwrap());
    assert!(matches!(try_take(&disk).unwrap(), Taken::InDelivery));
    let entry = find(&disk, &id()).unwrap().unwrap();
    assert_eq!((entry.queue, entry.status.modified.seconds), (Queue::Incoming, NOW.seconds + 60));
    drop(agent);
    take(&disk);
}

#[test]
fn an_operators_marks_are_read_and_taken_away() {
    let disk = disk_with("incoming/1C835288");
    disk.put("incoming/1C835288", 0o750, FILE);
    disk.put("defer/1/1C835288", 0o600, ENTRY);
    let lease = take(&disk);
    assert!(lease.is_flushed() && lease.is_expired());
    assert_eq!(disk.mode("active/1C835288"), Some(0o700));
    assert!(disk.bytes("defer/1/1C835288").is_some(), "what the sender is to be told");
}

#[test]
fn a_message_that_is_gone_is_no_error() {
    let disk = disk_with("incoming/1C835288");
    let entry = find(&disk, &id()).unwrap().unwrap();
    disk.remove_by_another("incoming/1C835288");
    assert!(matches!(queues(&disk).take(&entry, NOW).unwrap(), Taken::Gone));
    for end in [Lease::hold, Lease::finish, Lease::set_aside, |lease: Lease<_>| lease.defer(NOW)] {
        let disk = disk_with("incoming/1C835288");
        let lease = take(&disk);
        disk.remove_by_another("active/1C835288");
        end(lease).unwrap();
        assert_eq!(place(&disk), None);
    }
}

#[test]
fn what_a_killed_queue_manager_had_in_hand_comes_back() {
    let disk = disk_with("deferred/1/1C835288");
    drop(take(&disk));
    let disk = disk.after_kill();
    let mut failures = Vec::new();
    assert_eq!(queues(&disk).return_active(NOW, |error| failures.push(error.to_string())).unwrap(), 1);
    let entry = find(&disk, &id()).unwrap().unwrap();
    assert_eq!((entry.queue, entry.status.modified, failures.len()), (Queue::Incoming, NOW, 0));
    assert_eq!(list(&disk, Queue::Active).count(), 0);
}

/// One round: the first recipient is delivered, the second bounces, the third is put off.
fn round(disk: &Simulated) -> Result<(), SpoolError> {
    queues(disk).return_active(NOW, |error| panic!("{error}"))?;
    let Taken::Lease(mut lease) = try_take_any(disk)? else { return Ok(()) };
    lease.mark_done(OFFSETS[0])?;
    lease.log(ReasonLog::Bounce, b"recipient=second@x\nreason=no\n\n")?;
    lease.log(ReasonLog::Defer, b"recipient=third@x\nreason=later\n\n")?;
    lease.sync_logs()?;
    lease.mark_done(OFFSETS[1])?;
    lease.defer(Timestamp { seconds: NOW.seconds + 300, microseconds: 0 })
}

fn try_take_any(disk: &Simulated) -> Result<Taken<Simulated>, SpoolError> {
    for queue in [Queue::Incoming, Queue::Deferred] {
        if let Some(entry) = list(disk, queue).next() {
            return queues(disk).take(&entry?, NOW);
        }
    }
    Ok(Taken::Gone)
}

/// After whatever happened: the message is in one queue, whole but for marks; who is marked without having been delivered is
/// in the log of bounces.
fn holds(disk: &Simulated, what: &str) {
    let entries: Vec<_> =
        Queue::ALL.iter().flat_map(|queue| list(disk, *queue)).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1, "{what}: {entries:?}");
    let file = disk.bytes(&entries[0].path).unwrap();
    for (at, (&found, &was)) in file.iter().zip(FILE).enumerate() {
        let may_change = at == 4 || at == 7;
        assert!(found == was || may_change && found == b'D', "{what}: byte {at} of {file:?}");
    }
    if file[7] == b'D' {
        let log = disk.bytes("bounce/1C835288").unwrap_or_default();
        // What a power cut tore before it was synced may stand before it.
        let entry = b"\nrecipient=second@x\nreason=no\n\n";
        let is_whole = log.starts_with(&entry[1..]) || log.windows(entry.len()).any(|part| part == entry);
        assert!(is_whole, "{what}: {log:?}");
    }
    assert!(entries[0].is_ready(), "{what}");
}

#[test]
fn a_kill_or_a_power_cut_at_any_call_loses_nothing() {
    let calls = {
        let disk = disk_with("incoming/1C835288");
        round(&disk).unwrap();
        holds(&disk, "whole");
        assert_eq!(place(&disk), Some(Queue::Deferred));
        disk.calls()
    };
    assert!(calls > 15, "{calls}");
    for call in 0..=calls {
        let disk = disk_with("incoming/1C835288");
        disk.cut_power_at(call);
        let _ = round(&disk);
        let killed = disk.after_kill();
        holds(&killed, &format!("kill at {call}"));
        for seed in 0..20 {
            for names in [Names::Kept, Names::Lost, Names::Mixed] {
                for bytes in [Bytes::Kept, Bytes::Lost, Bytes::Ordered, Bytes::Torn] {
                    let after = disk.after_power_cut(names, bytes, seed);
                    let what = format!("power cut at {call}, {names:?}, {bytes:?}, seed {seed}");
                    holds(&after, &what);
                    // The next queue manager goes on with it.
                    round(&after).unwrap_or_else(|error| panic!("{what}: {error}"));
                    holds(&after, &format!("{what}, next round"));
                }
            }
        }
    }
}

#[test]
fn a_failure_of_any_call_is_told_and_loses_nothing() {
    const EIO: i32 = 5;
    let calls = {
        let disk = disk_with("incoming/1C835288");
        round(&disk).unwrap();
        disk.calls()
    };
    for call in 0..calls {
        let disk = disk_with("incoming/1C835288");
        disk.fail(call..=call, EIO, false);
        if let Err(error) = round(&disk) {
            assert!(error.to_string().contains(['/', ' ']), "{error}");
        }
        holds(&disk, &format!("call {call}"));
        round(&disk).unwrap_or_else(|error| panic!("call {call}: {error}"));
    }
}
