//! What an operator does to a message: killed, without power, or refused by the disk at every call; beside a queue manager and
//! a session; and with a journal that holds the message.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use postfix::queue_id::QueueId;
use postfix::record::{RecordType, encode};
use spool::journal::{self, BootId, Instance};
use spool::lease::Queues;
use spool::operator::{Acted, Identity, Operator, Verb};
use spool::queue::{find, list};
use spool::simulated::{Bytes, Lie, Names, Simulated};
use spool::{CommitWay, Disk, Options, Queue, Spool, SpoolError, Timestamp};

const NOW: Timestamp = Timestamp { seconds: 1_796_057_688, microseconds: 5 };
const ARRIVAL: Timestamp = Timestamp { seconds: 1_795_000_000, microseconds: 7 };
const ID: &str = "1C835288";
const EIO: i32 = 5;

const VERBS: [Verb; 7] = [
    Verb::Hold,
    Verb::Release,
    Verb::Delete,
    Verb::Requeue { through_pickup: false },
    Verb::Requeue { through_pickup: true },
    Verb::Expire,
    Verb::Flush,
];

fn id() -> QueueId {
    QueueId::parse(ID).unwrap()
}

fn file() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, RecordType::SIZE, &[b' '; 95]);
    encode(&mut bytes, RecordType::TIME, b"1795000000 7");
    encode(&mut bytes, RecordType::SENDER, b"a@b");
    encode(&mut bytes, RecordType::END, b"");
    bytes
}

fn disk_with(path: &str) -> Simulated {
    let disk = Simulated::new();
    for queue in [
        "incoming", "active", "deferred", "hold", "corrupt", "defer", "bounce", "trace", "maildrop",
        "journal",
    ] {
        disk.create_directory(queue, 0o700).unwrap();
    }
    if path.starts_with("deferred/1/") {
        disk.create_directory("deferred/1", 0o700).unwrap();
    }
    disk.put(path, 0o700, &file());
    disk.make_durable();
    disk
}

fn operator(disk: &Simulated) -> Operator<Simulated> {
    let hashed = ["deferred", "defer"].map(str::to_owned).to_vec();
    Operator::new(Queues::new(disk.clone(), hashed, 1), Instance([9; 16])).unwrap()
}

fn act(disk: &Simulated, verb: Verb) -> Result<Acted, SpoolError> {
    let mut operator = operator(disk);
    let acted = operator.act(verb, &id(), None, NOW)?;
    operator.close()?;
    Ok(acted)
}

/// The files that there are, with their modes and times of modification.
fn state(disk: &Simulated) -> Vec<(String, u32, Timestamp)> {
    let describe = |path: String| {
        let status = disk.status(&path).unwrap();
        (path, status.mode, status.modified)
    };
    disk.files().into_iter().map(describe).collect()
}

#[test]
fn each_verb_does_to_each_queue_what_it_says() {
    let paths = ["incoming/1C835288", "active/1C835288", "deferred/1/1C835288", "hold/1C835288"];
    for (path, queue) in paths.into_iter().zip([Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Hold])
    {
        for verb in VERBS {
            let disk = disk_with(path);
            disk.put("defer/1/1C835288", 0o600, b"reasons");
            let was = disk.status(path).unwrap().modified;
            let reasons = ("defer/1/1C835288".to_owned(), 0o600, was);
            let expected = match (verb, queue) {
                (Verb::Hold, Queue::Hold) | (Verb::Flush, Queue::Active | Queue::Hold) => None,
                (Verb::Hold, _) => Some(vec![reasons, ("hold/1C835288".to_owned(), 0o700, was)]),
                (Verb::Release, Queue::Hold) => {
                    Some(vec![reasons, ("deferred/1/1C835288".to_owned(), 0o700, was)])
                }
                (Verb::Release, _) => None,
                (Verb::Delete, _) => Some(vec![]),
                (Verb::Requeue { through_pickup: false }, _) => {
                    Some(vec![reasons, ("incoming/1C835288".to_owned(), 0o700, NOW)])
                }
                (Verb::Requeue { through_pickup: true }, _) => {
                    Some(vec![reasons, ("maildrop/1C835288".to_owned(), 0o700, NOW)])
                }
                (Verb::Expire, Queue::Active | Queue::Hold) => {
                    Some(vec![reasons, (path.to_owned(), 0o710, was)])
                }
                (Verb::Expire, _) => Some(vec![reasons, (path.to_owned(), 0o710, NOW)]),
                (Verb::Flush, _) => Some(vec![reasons, ("incoming/1C835288".to_owned(), 0o740, NOW)]),
            };
            let acted = act(&disk, verb).unwrap();
            let what = format!("{verb:?} of {path}");
            match expected {
                None => {
                    assert_eq!(acted, Acted::NotFor(queue), "{what}");
                    assert_eq!(disk.bytes(path).unwrap(), file(), "{what}");
                }
                Some(mut expected) => {
                    assert_eq!(acted, Acted::Done(queue), "{what}");
                    expected.sort();
                    assert_eq!(state(&disk), expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_damaged_file_can_only_be_deleted() {
    for verb in VERBS {
        let disk = disk_with("corrupt/1C835288");
        let acted = act(&disk, verb).unwrap();
        let expected =
            if verb == Verb::Delete { Acted::Done(Queue::Corrupt) } else { Acted::NotFor(Queue::Corrupt) };
        assert_eq!(acted, expected, "{verb:?}");
    }
}

#[test]
fn what_a_session_writes_or_commits_is_left_alone() {
    for verb in VERBS {
        let disk = disk_with("incoming/1C835288");
        let session = disk.open("incoming/1C835288").unwrap();
        assert!(disk.try_lock(&session).unwrap());
        let before = state(&disk);
        assert_eq!(act(&disk, verb).unwrap(), Acted::Unfinished, "{verb:?}");
        assert_eq!(state(&disk), before, "{verb:?}");
        drop(session);
        let disk = disk_with("hold/1C835289");
        disk.put("incoming/1C835288", 0o600, &file());
        assert_eq!(act(&disk, verb).unwrap(), Acted::Unfinished, "{verb:?}");
        assert!(disk.bytes("incoming/1C835288").is_some(), "{verb:?}");
    }
}

#[test]
fn another_message_of_the_same_id_is_left_alone() {
    let disk = disk_with("hold/1C835288");
    let inode = disk.status("hold/1C835288").unwrap().inode;
    for (identity, expected) in [
        (Identity { inode: inode + 1, arrival: Some(ARRIVAL) }, Acted::Replaced),
        (Identity { inode, arrival: Some(NOW) }, Acted::Replaced),
        (Identity { inode, arrival: None }, Acted::Replaced),
        (Identity { inode, arrival: Some(ARRIVAL) }, Acted::Done(Queue::Hold)),
    ] {
        let mut operator = operator(&disk);
        assert_eq!(
            operator.act(Verb::Delete, &id(), Some(&identity), NOW).unwrap(),
            expected,
            "{identity:?}"
        );
    }
    assert_eq!(act(&disk, Verb::Delete).unwrap(), Acted::Gone);
}

/// A queue manager moves the message before any call of ours, or is done with it.
#[test]
fn a_message_that_moves_is_found_and_one_that_goes_is_no_error() {
    for verb in VERBS {
        let calls = {
            let disk = disk_with("incoming/1C835288");
            act(&disk, verb).unwrap();
            disk.calls()
        };
        for call in 0..calls {
            let disk = disk_with("incoming/1C835288");
            disk.before_call(call, |disk| {
                disk.rename_by_another("incoming/1C835288", "active/1C835288");
            });
            let acted = act(&disk, verb).unwrap_or_else(|error| panic!("{verb:?}, call {call}: {error}"));
            let is_done = match acted {
                Acted::Done(_) => true,
                Acted::NotFor(_) => false,
                other => panic!("{verb:?}, call {call}: {other:?}"),
            };
            let left = disk.files().iter().filter(|path| path.ends_with(ID)).count();
            let expected = usize::from(!(verb == Verb::Delete && is_done));
            assert_eq!(left, expected, "{verb:?}, call {call}: {:?}", disk.files());

            let disk = disk_with("incoming/1C835288");
            disk.before_call(call, |disk| {
                disk.remove_by_another("incoming/1C835288");
            });
            act(&disk, verb).unwrap_or_else(|error| panic!("{verb:?}, call {call}: {error}"));
        }
    }
}

/// Where the message is, if it is somewhere; never in two places, and always whole.
fn place(disk: &Simulated, what: &str) -> Option<String> {
    let mut paths: Vec<String> =
        disk.files().into_iter().filter(|path| path.ends_with(ID) && !path.starts_with("de")).collect();
    paths.extend(list(disk, Queue::Deferred).map(|entry| entry.unwrap().path));
    assert!(paths.len() <= 1, "{what}: {paths:?}");
    let path = paths.pop()?;
    assert_eq!(disk.bytes(&path).unwrap(), file(), "{what}: {path}");
    Some(path)
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_and_what_was_told_stays_done() {
    for (verb, from) in VERBS.into_iter().flat_map(|verb| {
        ["incoming/1C835288", "deferred/1/1C835288", "hold/1C835288"].map(|from| (verb, from))
    }) {
        let (calls, after) = {
            let disk = disk_with(from);
            act(&disk, verb).unwrap();
            (disk.calls(), place(&disk, "whole"))
        };
        for call in 0..=calls {
            let disk = disk_with(from);
            disk.cut_power_at(call);
            let is_told = act(&disk, verb).is_ok();
            assert_eq!(is_told, call == calls, "{verb:?} at {call}");
            let what = format!("{verb:?} of {from} at call {call}");
            let killed = place(&disk.after_kill(), &what);
            assert!(killed.as_deref() == Some(from) || killed == after, "{what}: {killed:?}");
            for seed in 0..10 {
                for names in [Names::Kept, Names::Lost, Names::Mixed] {
                    let cut = disk.after_power_cut(names, Bytes::Torn, seed);
                    let found = place(&cut, &what);
                    assert!(found.as_deref() == Some(from) || found == after, "{what}: {found:?}");
                    if is_told {
                        assert_eq!(found, after, "{what}, {names:?}, seed {seed}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_its_sync_a_power_cut_undoes_what_was_told() {
    let disk = disk_with("incoming/1C835288");
    disk.make_sync_lie(Lie::All);
    act(&disk, Verb::Hold).unwrap();
    let cut = disk.after_power_cut(Names::Lost, Bytes::Kept, 1);
    assert_eq!(place(&cut, "a lie").as_deref(), Some("incoming/1C835288"));
}

#[test]
fn a_failure_of_any_call_is_told_and_loses_nothing() {
    for verb in VERBS {
        let calls = {
            let disk = disk_with("incoming/1C835288");
            act(&disk, verb).unwrap();
            disk.calls()
        };
        for call in 0..calls {
            let disk = disk_with("incoming/1C835288");
            disk.fail(call..=call, EIO, false);
            let acted = act(&disk, verb);
            let left = place(&disk, &format!("{verb:?}, call {call}"));
            assert!(left.is_some() || verb == Verb::Delete, "{verb:?}, call {call}");
            if let Err(error) = acted {
                assert!(error.to_string().contains(' '), "{error}");
            }
        }
    }
}

// With a journal.

fn options(boot: u8, instance: u8) -> Options {
    Options {
        create_missing: true,
        long_queue_ids: true,
        commit_way: CommitWay::Journal(journal::Options {
            instance: Instance([instance; 16]),
            checkpoint_delay: Duration::from_secs(1),
            checkpoint_bytes: 32 * 1024,
        }),
        boot_id: BootId::parse(&format!("00000000-0000-0000-0000-0000000000{boot:02}")),
        ..Options::default()
    }
}

fn open(disk: &Simulated, boot: u8, instance: u8) -> Spool<Simulated> {
    Spool::open(disk.clone(), &options(boot, instance), Arc::new(|_| ())).unwrap()
}

fn clock() -> Timestamp {
    ARRIVAL
}

/// A message that the server has acknowledged by its journal alone.
fn accept(server: &Spool<Simulated>) -> QueueId {
    let draft = server.create(&clock).unwrap();
    let queue_id = *draft.queue_id();
    let (told, hears) = std::sync::mpsc::channel();
    draft.commit_whole(file(), Box::new(move |outcome| told.send(outcome.map(|_| ())).unwrap()));
    hears.recv().unwrap().unwrap();
    queue_id
}

/// What the next start of the machine makes of the disk; crashed once more at this call of it, if there is one.
fn restart(disk: &Simulated, crash_at: u64) -> Simulated {
    let first = disk.after_power_cut(Names::Mixed, Bytes::Lost, crash_at);
    first.make_durable();
    first.cut_power_at(crash_at);
    let spool = Spool::open(first.clone(), &options(2, 3), Arc::new(|_| ()));
    let _ = spool.and_then(|spool| spool.settle(&clock));
    let second = first.after_power_cut(Names::Mixed, Bytes::Lost, crash_at + 1);
    open(&second, 3, 4).settle(&clock).unwrap();
    second
}

#[test]
fn what_a_journal_holds_does_not_come_back_when_it_was_deleted() {
    for verb in [Verb::Delete, Verb::Requeue { through_pickup: true }] {
        let disk = Simulated::new();
        let server = open(&disk, 1, 1);
        disk.create_directory("maildrop", 0o700).ok();
        let (deleted, kept) = (accept(&server), accept(&server));
        let hashed = vec!["deferred".to_owned()];
        let mut operator = Operator::new(Queues::new(disk.clone(), hashed, 1), Instance([9; 16])).unwrap();
        assert_eq!(operator.act(verb, &deleted, None, NOW).unwrap(), Acted::Done(Queue::Incoming));
        operator.settle().unwrap();
        assert!(operator.is_awaited().unwrap(), "the server's journal holds it");
        operator.close().unwrap();
        for crash_at in 0..60 {
            let after = restart(&disk, crash_at);
            assert_eq!(
                find(&after, &deleted).unwrap(),
                None,
                "{verb:?}: came back, second crash at {crash_at}"
            );
            assert!(find(&after, &kept).unwrap().is_some(), "lost, second crash at {crash_at}");
        }
        // A settlement while the server runs leaves the note, and one behind its checkpoint takes it away.
        let beside = open(&disk, 1, 5);
        let settled = beside.settle(&clock).unwrap();
        assert_eq!((settled.settled, settled.live, settled.kept), (0, 2, 0));
        assert_eq!(find(&restart(&disk, 1000), &deleted).unwrap(), None, "{verb:?}");
        server.checkpoint();
        let settled = beside.settle(&clock).unwrap();
        assert_eq!((settled.settled, settled.live, settled.kept), (1, 1, 0));
        assert_eq!(find(&restart(&disk, 1000), &deleted).unwrap(), None, "{verb:?}");
    }
}

/// The test above sees what the note is for.
#[test]
fn without_the_note_a_journal_brings_back_what_was_removed() {
    let disk = Simulated::new();
    let server = open(&disk, 1, 1);
    let id = accept(&server);
    assert!(disk.remove_by_another(&format!("incoming/{id}")));
    disk.sync_all().unwrap();
    assert!(find(&restart(&disk, 1000), &id).unwrap().is_some());
}

#[test]
fn no_note_is_made_or_left_where_no_journal_needs_it() {
    let disk = disk_with("incoming/1C835288");
    act(&disk, Verb::Delete).unwrap();
    assert_eq!(disk.files(), Vec::<String>::new());
    let disk = Simulated::new();
    let server = open(&disk, 1, 1);
    let id = accept(&server);
    server.checkpoint();
    let mut operator = operator(&disk);
    operator.act(Verb::Delete, &id, None, NOW).unwrap();
    operator.settle().unwrap();
    assert!(!operator.is_awaited().unwrap());
    operator.close().unwrap();
    assert_eq!(disk.files().len(), 1, "the server's journal alone: {:?}", disk.files());
}
