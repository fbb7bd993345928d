//! Settlement while the disk fails at any call, and while a queue manager works on the same messages.

use spool::simulated::{Bytes, Names, Simulated};
use spool::{CommitWay, Options, Queue};

use super::*;

/// A server that has accepted some messages, some of them delivered, and that is gone: with `is_cut` with the power, otherwise
/// killed on a mount that lasts.
pub(super) fn crashed(is_cut: bool) -> (Simulated, BTreeMap<String, Vec<u8>>, Vec<String>) {
    let disk = Simulated::new();
    disk.set_mount_id(7);
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..5).map(|n| server.accept(&format!("m{n}"), 20 + n).unwrap()).collect();
    server.deliver(&ids[1]);
    assert!(disk.rename_by_another(&format!("incoming/{}", ids[2]), &format!("active/{}", ids[2])));
    assert!(disk.rename_by_another(&format!("incoming/{}", ids[3]), &format!("deferred/{}", ids[3])));
    let owed = ids.iter().enumerate().filter(|(number, _)| *number != 1);
    let acknowledged = server.ledger.lock().unwrap().acknowledged.clone();
    let owed = owed.map(|(_, id)| (id.clone(), acknowledged[id].clone())).collect();
    drop(server);
    let image = if is_cut { disk.after_power_cut(Names::Mixed, Bytes::Torn, 5) } else { disk.after_kill() };
    (image, owed, ids)
}

fn boot(is_cut: bool) -> &'static str {
    if is_cut { SECOND_BOOT } else { FIRST_BOOT }
}

/// A process that only settles.
pub(super) fn settler(image: &Simulated, is_cut: bool) -> Result<Server, SpoolError> {
    Server::open(image, &Options { commit_way: CommitWay::File, ..options(boot(is_cut), 2) })
}

/// Where each message is, by its content.
pub(super) fn places(image: &Simulated, whole: &[u8]) -> Vec<String> {
    let is_it = |path: &String| {
        let found = image.bytes(path);
        image.mode(path) == Some(0o700) && found.as_deref() == Some(whole)
    };
    image.files().into_iter().filter(is_it).collect()
}

pub(super) fn calls_of_settlement(crashed: &Simulated, is_cut: bool) -> std::ops::Range<u64> {
    let image = crashed.after_kill();
    let server = settler(&image, is_cut).unwrap();
    let first = image.calls();
    let settled = server.spool.settle(&later()).unwrap();
    assert_eq!((settled.settled, settled.kept), (1, 0));
    first..image.calls()
}

#[test]
fn a_failure_of_any_call_of_settlement_keeps_the_journal_and_loses_nothing() {
    let mut kept = 0;
    for is_cut in [true, false] {
        let (crashed, owed, ids) = crashed(is_cut);
        for call in calls_of_settlement(&crashed, is_cut) {
            for (errno, lasts) in [(EIO, false), (EIO, true), (ENOSPC, false), (13, false), (24, true)] {
                let what = format!("{is_cut}, call {call}, error {errno}, lasts {lasts}");
                let image = crashed.after_kill();
                let server = settler(&image, is_cut).unwrap();
                image.fail(call..=if lasts { u64::MAX } else { call }, errno, false);
                let settled = server.spool.settle(&later());
                let is_told =
                    server.ledger.lock().unwrap().notices.iter().any(|n| n.severity != Severity::Info);
                let is_there = image.files().iter().any(|path| path.starts_with("journal/"));
                match settled {
                    // What a crash left of a message is gone then, or is whole.
                    Ok(settled) if settled.kept == 0 => {
                        for (id, whole) in &owed {
                            let left = Queue::ALL.map(|queue| image.bytes(&format!("{queue}/{id}")));
                            let is_whole = left.iter().flatten().all(|found| found == whole);
                            assert!(is_whole, "{what}: a remnant of {id} is left in silence");
                        }
                    }
                    Ok(_) => {
                        kept += 1;
                        assert!(is_there && is_told, "{what}: {:?}", image.files());
                    }
                    // The directory of journals cannot be read.
                    Err(_) => assert!(is_there, "{what}"),
                }
                drop(server);
                // Whatever came of it: what was acknowledged survives the power cut that follows, and the next try ends well.
                for (names, bytes) in
                    [(Names::Lost, Bytes::Lost), (Names::Kept, Bytes::Torn), (Names::Mixed, Bytes::Ordered)]
                {
                    let image = image.after_power_cut(names, bytes, call);
                    let server = settler(&image, true).unwrap();
                    let settled = server.spool.settle(&later()).unwrap();
                    assert_eq!(settled.kept, 0, "{what}: {:?}", server.ledger.lock().unwrap().notices);
                    for (id, whole) in &owed {
                        let places = places(&image, whole);
                        assert_eq!(places.len(), 1, "{what}, {names:?}, {bytes:?}: {id} is at {places:?}");
                    }
                }
                let image = image.after_kill();
                let server = settler(&image, is_cut).unwrap();
                assert_eq!(server.spool.settle(&later()).unwrap().kept, 0, "{what}");
                assert!(image.files().iter().all(|path| !path.starts_with("journal/")), "{what}");
                if !is_cut {
                    let path = format!("incoming/{}", ids[1]);
                    assert_eq!(image.bytes(&path), None, "{what}: what was delivered came back");
                }
            }
        }
    }
    assert!(kept > 50, "only {kept} settlements met the fault");
}

/// A queue manager takes messages, puts them off, finishes them, while settlement looks for them.
#[test]
fn what_moves_or_goes_while_settlement_looks_is_neither_lost_nor_doubled() {
    type Act = fn(&Simulated, &[String]) -> bool;
    let acts: [(&str, Act); 5] = [
        ("taken", |disk, ids| {
            disk.rename_by_another(&format!("incoming/{}", ids[0]), &format!("active/{}", ids[0]))
        }),
        ("put off", |disk, ids| {
            disk.rename_by_another(&format!("active/{}", ids[2]), &format!("deferred/{}", ids[2]))
        }),
        ("tried again", |disk, ids| {
            disk.rename_by_another(&format!("deferred/{}", ids[3]), &format!("active/{}", ids[3]))
        }),
        ("put back", |disk, ids| {
            disk.rename_by_another(&format!("active/{}", ids[2]), &format!("incoming/{}", ids[2]))
        }),
        ("finished", |disk, ids| disk.remove_by_another(&format!("active/{}", ids[2]))),
    ];
    for (is_cut, has_sync_all) in [(true, true), (true, false), (false, true)] {
        for (name, act) in acts {
            // With all names and bytes on disk, it is the look that decides.
            let (crashed, owed, ids) = crashed(false);
            if !has_sync_all {
                crashed.remove_sync_all();
            }
            let mut acted = 0;
            for call in calls_of_settlement(&crashed, is_cut) {
                let image = crashed.after_kill();
                let server = settler(&image, is_cut).unwrap();
                let (did, by) = (Arc::new(Mutex::new(false)), ids.clone());
                let seen = Arc::clone(&did);
                image.before_call(call, move |disk| *seen.lock().unwrap() = act(disk, &by));
                assert_eq!(server.spool.settle(&later()).unwrap().kept, 0);
                let did = *did.lock().unwrap();
                acted += usize::from(did);
                for (id, whole) in &owed {
                    let places = places(&image, whole);
                    let is_finished = name == "finished" && *id == ids[2] && did;
                    let what = format!("{name} before call {call}, {is_cut}: {id} is at {places:?}");
                    match places.len() {
                        1 => {}
                        0 if is_finished => {}
                        _ => panic!("{what}"),
                    }
                    // On a mount that lasts, what is gone is gone.
                    assert!(!is_finished || is_cut || places.is_empty(), "{what}");
                }
            }
            assert!(acted > 20, "{name}: only {acted} times");
        }
    }
}

/// What the queue manager could not read is for the operator, also when it is what a crash left of a message.
#[test]
fn a_remnant_in_the_corrupt_queue_stays() {
    let (crashed, owed, ids) = crashed(true);
    let remnant = &owed[&ids[0]][..100];
    for queue in Queue::ALL {
        crashed.remove_by_another(&format!("{queue}/{}", ids[0]));
    }
    crashed.put(&format!("corrupt/{}", ids[0]), 0o700, remnant);
    let server = settler(&crashed, true).unwrap();
    server.spool.settle(&later()).unwrap();
    assert_eq!(crashed.bytes(&format!("corrupt/{}", ids[0])).as_deref(), Some(remnant));
    assert_eq!(places(&crashed, &owed[&ids[0]]).len(), 1);
}

/// A draft of a process that lives has the queue ID of an old message: it is not a remnant.
#[test]
fn a_draft_that_is_being_written_is_left_alone() {
    for (mode, is_held) in [(0o1600, true), (0o600, false)] {
        let (crashed, owed, ids) = crashed(true);
        for queue in Queue::ALL {
            crashed.remove_by_another(&format!("{queue}/{}", ids[0]));
        }
        let path = format!("incoming/{}", ids[0]);
        crashed.put(&path, mode, b"");
        if is_held {
            crashed.hold_there(&path);
        }
        let server = settler(&crashed, true).unwrap();
        server.spool.settle(&later()).unwrap();
        assert_eq!(crashed.bytes(&path).as_deref(), Some(&b""[..]), "mode {mode:o}");
        assert_eq!(places(&crashed, &owed[&ids[0]]).len(), 1);
    }
}

/// A bug in the middle of a write to the journal: nobody waits for ever, then or later.
#[test]
fn a_panic_in_the_writer_leaves_no_message_without_an_answer() {
    let calls = {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        server.accept("before", 20).unwrap();
        let first = disk.calls();
        server.accept("m", 20).unwrap();
        first..disk.calls()
    };
    let mut panics = 0;
    for call in calls {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let before = server.accept("before", 20).unwrap();
        disk.before_call(call, |_| panic!("a bug"));
        let (sender, bytes) = (server.clone(), message("m", 20));
        // A panic before the message is in the hands of the journal is the caller's.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let draft = sender.begin(&bytes).unwrap();
            let (told, answer) = std::sync::mpsc::channel();
            draft.commit_whole(bytes, Box::new(move |outcome| told.send(outcome.is_ok()).unwrap()));
            answer.try_recv().expect("an answer")
        }));
        if caught.is_ok() {
            panics += usize::from(caught.is_ok_and(|is_accepted| !is_accepted));
        }
        let after = server.accept("after", 20).expect("the next message is accepted");
        let lost = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
        start(&lost, SECOND_BOOT, 2).unwrap();
        for id in [before, after] {
            assert!(lost.bytes(&format!("incoming/{id}")).is_some(), "call {call}: {id}");
        }
    }
    assert!(panics >= 3, "only {panics} panics were the writer's");
}

/// The disk shows other bytes of the journal than a moment ago: nothing is written from them.
#[test]
fn a_record_that_changes_under_the_eyes_of_settlement_is_not_believed() {
    let (crashed, owed, sent) = crashed(true);
    let journal = crashed.files().into_iter().find(|path| path.starts_with("journal/")).unwrap();
    let bytes = crashed.bytes(&journal).unwrap();
    let line = bytes.windows(12).position(|window| window == b"m4@example.o").unwrap();
    let mut kept = 0;
    for call in calls_of_settlement(&crashed, true) {
        let image = crashed.after_kill();
        let server = settler(&image, true).unwrap();
        let path = journal.clone();
        image.before_call(call, move |disk| {
            if disk.bytes(&path).is_some() {
                disk.overwrite_by_another(&path, line as u64, b"x");
            }
        });
        kept += server.spool.settle(&later()).unwrap().kept;
        for path in image.files().into_iter().filter(|path| !path.starts_with("journal/")) {
            let id = path.rsplit('/').next().unwrap().to_owned();
            // The second one was delivered, which a power cut forgets.
            let is_sent =
                owed.get(&id).map_or(id == sent[1], |whole| image.bytes(&path).as_ref() == Some(whole));
            let is_complete = image.bytes(&path).is_some_and(|bytes| is_complete(&bytes));
            assert!(is_sent || !is_complete || image.mode(&path) != Some(0o700), "call {call}: {path}");
        }
    }
    assert!(kept > 0, "the change was never met");
}

/// Settlement is stopped in three places, and what it wrote last about it is damaged: what it wrote before stands.
#[test]
fn the_mark_of_a_settlement_stands_while_the_next_one_is_written() {
    let disk = Simulated::new();
    let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
    let ids: Vec<String> = (0..12).map(|n| server.accept(&format!("m{n}"), 20).unwrap()).collect();
    drop(server);
    let mut image = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let journal = image.files().into_iter().find(|path| path.starts_with("journal/")).unwrap();
    let count =
        |image: &Simulated| ids.iter().filter(|id| image.bytes(&format!("incoming/{id}")).is_some()).count();
    let retired = |image: &Simulated, place: usize| {
        let bytes = image.bytes(&journal).unwrap();
        u64::from_le_bytes(bytes[place + 72..place + 80].try_into().unwrap())
    };
    let mut marks_seen = Vec::new();
    // Three times the disk is full for a moment, some messages later each time.
    for _ in 0..3 {
        let before = count(&image);
        image = (10..400)
            .find_map(|call| {
                let stopped = image.after_kill();
                let server = settler(&stopped, true).unwrap();
                stopped.fail(call..=call, ENOSPC, false);
                let kept = server.spool.settle(&later()).map_or(0, |settled| settled.kept);
                let is_stopped = kept == 1 && (before + 2..ids.len() - 2).contains(&count(&stopped));
                is_stopped.then_some(stopped)
            })
            .expect("a place to stop it");
        marks_seen.push(retired(&image, 0).max(retired(&image, 4096)));
    }
    let is_back = |image: &Simulated, id: &String| image.bytes(&format!("incoming/{id}")).is_some();
    let marks = |places: &[u64]| -> Vec<bool> {
        let bytes = image.bytes(&journal).unwrap();
        places.iter().map(|place| bytes[*place as usize..].starts_with(b"qmqpd-J")).collect()
    };
    assert_eq!(marks(&[0, 4096]), [true, true]);
    // All that is back is delivered; then the newest mark is damaged: the one with the greater number of what is retired.
    for id in ids.iter().filter(|id| is_back(&image, id)) {
        assert!(image.remove_by_another(&format!("incoming/{id}")));
    }
    let newest = if retired(&image, 0) > retired(&image, 4096) { 0 } else { 4096 };
    let before = retired(&image, 4096 - newest as usize);
    assert_eq!(Some(&before), marks_seen.get(1), "{marks_seen:?}: the mark before the newest one is lost");
    image.overwrite_by_another(&journal, newest, &[0xff; 256]);
    let server = settler(&image, true).unwrap();
    server.spool.settle(&later()).unwrap();
    let back = count(&image) as u64;
    assert_eq!(
        back,
        ids.len() as u64 - (before - 1),
        "what the mark before retired came back, or more is missing"
    );
}

/// What the log says of a settlement, and that it says nothing when there was nothing to do.
#[test]
fn the_log_counts_what_was_written_again() {
    for (is_cut, expected) in [(true, 1), (false, 0)] {
        let (crashed, _, _) = crashed(is_cut);
        let server = settler(&crashed, is_cut).unwrap();
        let settled = server.spool.settle(&later()).unwrap();
        let notices = server.ledger.lock().unwrap().notices.clone();
        let sums: Vec<_> =
            notices.iter().filter(|notice| notice.text.contains("since the last checkpoint")).collect();
        assert_eq!(sums.len(), expected, "{notices:?}");
        for sum in sums {
            let words = format!(
                "5 messages since the last checkpoint, {} of them written again, 0 more incomplete",
                settled.written_again
            );
            assert!(
                sum.text.contains(&words) && sum.text.contains("the machine was rebooted"),
                "{}",
                sum.text
            );
            assert_eq!(
                notices.iter().filter(|n| n.text.contains(": written again from journal/")).count() as u64,
                settled.written_again
            );
        }
    }
}

/// Another process settles journals just when this one makes its own: it is made once more, and mail goes through it.
#[test]
fn a_new_journal_that_is_taken_for_one_that_was_left_is_made_again() {
    let calls = {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let first = disk.calls();
        server.accept("m", 20).unwrap();
        first..disk.calls()
    };
    let mut taken = 0;
    for call in calls {
        let disk = Simulated::new();
        let server = Server::open(&disk, &options(FIRST_BOOT, 1)).unwrap();
        let settled = Arc::new(Mutex::new(0));
        let count = Arc::clone(&settled);
        disk.before_call(call, move |disk| {
            let other = settler(disk, false).unwrap();
            *count.lock().unwrap() = other.spool.settle(&later()).unwrap().settled;
        });
        server.accept("m", 20).unwrap_or_else(|| panic!("call {call}: it is refused"));
        let is_taken = *settled.lock().unwrap() > 0;
        taken += usize::from(is_taken);
        let notices = server.ledger.lock().unwrap().notices.clone();
        assert!(notices.iter().all(|notice| notice.severity == Severity::Info), "call {call}: {notices:?}");
        assert!(disk.files().iter().any(|path| path.starts_with("journal/")), "call {call}: no journal");
    }
    assert!(taken > 0, "the new journal was never taken");
}
