//! Committers, the commit group and the checkpoints under a model checker: the same code, with its locks and threads in the
//! hands of shuttle, which tries orders in which they can run. `make model`; `QMQPD_MODELS` says how many orders, and a failure
//! prints the schedule that repeats it (`shuttle::replay`).
#![cfg(shuttle)]
#![cfg(test)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postfix::record::{RecordType, encode};
use shuttle::rand::Rng;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use spool::committer::{Clock, Committers, Job};
use spool::journal;
use spool::journal::{BootId, Instance};
use spool::simulated::{Bytes, Names, Simulated};
use spool::{CommitWay, Draft, Options, Queue, Receipt, Spool, SpoolError, Timestamp};

fn orders() -> usize {
    std::env::var("QMQPD_MODELS").map_or(1000, |text| text.parse().expect("QMQPD_MODELS is a number"))
}

/// Two ways to choose an order: at random, and with few changes between threads at the worst moments (PCT).
/// The model returns how many messages were accepted: orders in which none ever is would show nothing.
fn check(model: impl Fn() -> usize + Send + Sync + Clone + 'static) {
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = {
        let accepted = Arc::clone(&accepted);
        move || {
            accepted.fetch_add(model(), Ordering::SeqCst);
        }
    };
    shuttle::check_random(counted.clone(), orders());
    shuttle::check_pct(counted, orders(), 3);
    assert!(accepted.load(Ordering::SeqCst) > 0, "no message was accepted in any order");
}

fn clock() -> Clock {
    let ticks = AtomicU32::new(0);
    Arc::new(move || {
        let tick = ticks.fetch_add(1, Ordering::SeqCst);
        Timestamp { seconds: 1_795_000_000, microseconds: 0 }.plus_microseconds(tick)
    })
}

fn options(way: CommitWay, boot: u8) -> Options {
    let boot_id = BootId::parse(&format!("00000000-0000-0000-0000-0000000000{boot:02}"));
    Options { create_missing: true, long_queue_ids: true, commit_way: way, boot_id, ..Options::default() }
}

/// A checkpoint is due after every message: the most work for the thread that makes them.
fn small_journal(instance: u8) -> CommitWay {
    CommitWay::Journal(journal::Options {
        instance: Instance([instance; 16]),
        checkpoint_delay: Duration::from_secs(3600),
        checkpoint_bytes: 4096,
    })
}

fn message(n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, RecordType::SIZE, &[b' '; 95]);
    encode(&mut bytes, RecordType::SENDER, format!("{n}@example.org").as_bytes());
    encode(&mut bytes, RecordType::NORMAL, &vec![b'x'; 200]);
    encode(&mut bytes, RecordType::END, b"");
    bytes
}

/// What became of the messages of one run.
#[derive(Default)]
struct Outcomes {
    answered: AtomicUsize,
    accepted: Mutex<BTreeSet<String>>,
}

/// Gives one message to the committers as a session does: create, then commit. Whatever happens, it is counted once.
fn send(committers: &Arc<Committers<Simulated>>, n: usize, outcomes: &Arc<Outcomes>) {
    let (again, outcomes) = (Arc::downgrade(committers), Arc::clone(outcomes));
    let refused = Arc::clone(&outcomes);
    let done = Box::new(move |draft: Result<Draft<Simulated>, SpoolError>| {
        let Ok(draft) = draft else {
            outcomes.answered.fetch_add(1, Ordering::SeqCst);
            return;
        };
        let refused = Arc::clone(&outcomes);
        let done = Box::new(move |outcome: Result<Receipt, SpoolError>| {
            if let Ok(receipt) = outcome {
                outcomes.accepted.lock().unwrap().insert(receipt.queue_id().to_string());
            }
            outcomes.answered.fetch_add(1, Ordering::SeqCst);
        });
        let job = Job::Commit { draft, writes: vec![(0, message(n))], done };
        let taken = again.upgrade().is_some_and(|committers| committers.submit(job).is_ok());
        if !taken {
            refused.answered.fetch_add(1, Ordering::SeqCst);
        }
    });
    if committers.submit(Job::Create { done }).is_err() {
        refused.answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// As many messages as there are senders, while somebody shuts the committers down. Returns what was accepted.
fn run(disk: &Simulated, way: CommitWay, senders: usize) -> BTreeSet<String> {
    let spool = Spool::open(disk.clone(), &options(way, 1), Arc::new(|_| ())).unwrap();
    let committers = Arc::new(Committers::start(spool, clock(), 2, 16).unwrap());
    let outcomes = Arc::new(Outcomes::default());
    let threads: Vec<_> = (0..senders)
        .map(|n| {
            let (committers, outcomes) = (Arc::clone(&committers), Arc::clone(&outcomes));
            shuttle::thread::spawn(move || send(&committers, n, &outcomes))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    committers.shut_down();
    assert_eq!(outcomes.answered.load(Ordering::SeqCst), senders, "a job was answered twice, or never");
    assert_eq!(committers.waiting_jobs(), 0);
    outcomes.accepted.lock().unwrap().clone()
}

/// The queue IDs of whole messages that a new start finds after a power cut that takes all it may.
fn after_power_cut(disk: &Simulated, way: CommitWay) -> BTreeSet<String> {
    let disk = disk.after_power_cut(Names::Lost, Bytes::Lost, 1);
    let spool = Spool::open(disk.clone(), &options(way, 2), Arc::new(|_| ())).unwrap();
    spool.settle(&*clock()).unwrap();
    let entries = spool.list(Queue::Incoming).map(|entry| entry.unwrap());
    entries
        .filter(|entry| disk.bytes(&entry.path).is_some_and(|bytes| bytes.ends_with(b"E\0")))
        .map(|entry| entry.queue_id.to_string())
        .collect()
}

#[test]
fn every_job_is_answered_once_and_what_is_accepted_is_durable() {
    check(|| {
        let disk = Simulated::new();
        let accepted = run(&disk, CommitWay::File, 3);
        assert!(after_power_cut(&disk, CommitWay::File).is_superset(&accepted));
        accepted.len()
    });
}

#[test]
fn a_group_acknowledges_only_what_is_in_the_journal() {
    check(|| {
        let disk = Simulated::new();
        let accepted = run(&disk, small_journal(1), 3);
        assert!(after_power_cut(&disk, small_journal(2)).is_superset(&accepted), "{accepted:?}");
        accepted.len()
    });
}

/// The power goes while all are at work: what was answered until then must be there.
#[test]
fn a_power_cut_between_any_two_steps_loses_nothing() {
    check(|| {
        let disk = Simulated::new();
        let spool = Spool::open(disk.clone(), &options(small_journal(1), 1), Arc::new(|_| ())).unwrap();
        let committers = Arc::new(Committers::start(spool, clock(), 2, 16).unwrap());
        let outcomes = Arc::new(Outcomes::default());
        for n in 0..3 {
            send(&committers, n, &outcomes);
        }
        let cut = {
            let (disk, outcomes) = (disk.clone(), Arc::clone(&outcomes));
            shuttle::thread::spawn(move || {
                let accepted = outcomes.accepted.lock().unwrap().clone();
                assert!(after_power_cut(&disk, small_journal(2)).is_superset(&accepted), "{accepted:?}");
                accepted.len()
            })
        };
        let accepted = cut.join().unwrap();
        committers.shut_down();
        // At the end all are counted: the power can go before the first.
        accepted + outcomes.accepted.lock().unwrap().len()
    });
}

/// A failed sync: everybody is answered, nobody with a receipt that is worth nothing, and the threads end.
#[test]
fn a_failed_sync_leaves_nobody_waiting() {
    const EIO: i32 = 5;
    check(|| {
        let disk = Simulated::new();
        let spool = Spool::open(disk.clone(), &options(small_journal(1), 1), Arc::new(|_| ())).unwrap();
        let call = disk.calls() + shuttle::rand::thread_rng().gen_range(0..60_u64);
        disk.fail(call..=call, EIO, false);
        let committers = Arc::new(Committers::start(spool, clock(), 2, 16).unwrap());
        let outcomes = Arc::new(Outcomes::default());
        for n in 0..3 {
            send(&committers, n, &outcomes);
        }
        committers.shut_down();
        assert_eq!(outcomes.answered.load(Ordering::SeqCst), 3, "a job was answered twice, or never");
        let accepted = outcomes.accepted.lock().unwrap().clone();
        assert!(after_power_cut(&disk, small_journal(2)).is_superset(&accepted), "{accepted:?}");
        accepted.len()
    });
}
