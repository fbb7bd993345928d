//! A power cut below a real ext4: of what was written since the last flush, any part may be on the disk.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use super::account::Account;
use super::recorder::{Event, Record, Recorder, run, unmount};
use testbed::client;
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::postfix::scratch;
use testbed::random::{Random, seed};
use testbed::strace::{Fault, Injection, threads};
use testbed::trials::Trials;
use testbed::{queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Root, Peer::Isolation, Peer::Fuse, Peer::Ext4];
    for way in ["file", "journal"] {
        trials.add(&format!("power_cut::nothing_is_lost::{way}"), &needs, move || nothing_is_lost(way));
    }
    let needs = [Peer::Strace, Peer::Isolation, Peer::Fuse, Peer::Ext4];
    trials.add("power_cut::a_lying_sync_is_found_out", &needs, lying_sync);
}

const DISK_MEBIBYTES: usize = 64;
const MESSAGES: usize = 120;

fn cuts() -> usize {
    std::env::var("QMQPD_CRASHES").ok().map_or(12, |text| text.parse().expect("QMQPD_CRASHES is a number"))
}

/// What happened on the disk while a server took messages, from which event on, and when it said `K`.
fn load(way: &str, lie: Option<&Fault>) -> (Record, usize, Arc<Account>) {
    let disk = Recorder::mount(DISK_MEBIBYTES);
    let queue = disk.mounted.join("queue");
    let main_cf = vec![commit(way), "qmqpd_commit_threads = 4".to_owned()];
    let server = Instance::start(&Setup { main_cf, queue: Some(queue) });
    let lying = lie.map(|fault| {
        let committers = threads(server.services()[0], |name| name.starts_with("committer"));
        Injection::attach(&committers, fault)
    });
    // The directories are the administrator's, from long ago.
    run(Command::new("sync").arg("-f").arg(&disk.mounted));
    let first = disk.position();
    let account = Arc::new(Account::default());
    let queue = disk.mounted.join("queue");
    // The load goes on beyond the second checkpoint: what was acknowledged before it is in no journal any more.
    let is_over = |mark: &AtomicUsize| {
        if mark.load(Ordering::SeqCst) == 0 && (way == "file" || has_both_marks(&queue)) {
            mark.store(account.accepted() + MESSAGES, Ordering::SeqCst);
        }
        let last = mark.load(Ordering::SeqCst);
        last > 0 && account.accepted() >= last
    };
    let last = AtomicUsize::new(0);
    account.load(server.address, 8, || is_over(&last), || disk.position());
    drop(lying);
    // The record ends here; what unmounting writes is no part of it.
    let record = disk.record();
    drop(server);
    (record, first, account)
}

/// Whether a journal says that two checkpoints were made.
fn has_both_marks(queue: &Path) -> bool {
    queue::journals(queue).iter().any(|path| {
        std::fs::read(path).is_ok_and(|bytes| {
            let starts = |at| bytes.get(at..).is_some_and(|rest: &[u8]| rest.starts_with(b"qmqpd-J"));
            starts(0) && starts(4096)
        })
    })
}

fn commit(way: &str) -> String {
    format!("qmqpd_commit = {way}")
}

fn nothing_is_lost(way: &'static str) {
    let (record, first, account) = load(way, None);
    let flushes = record.events[first..].iter().filter(|event| matches!(event, Event::Flush)).count();
    assert!(flushes > 0, "nothing was ever flushed");
    let (mut owed, mut most) = (0, 0);
    for round in 0..cuts() {
        let mut random = Random::new(seed(), round);
        let cut = first + 1 + random.below(record.events.len() - first);
        let image = after_power_cut(&record, cut, &mut random);
        let here = look(&image, &account, cut, way, round < 2)
            .unwrap_or_else(|error| panic!("QMQPD_SEED={}, cut {round} at event {cut}: {error}", seed()));
        owed += here;
        most = most.max(here);
    }
    assert!(most > MESSAGES / 4, "the cuts come too early: {most} messages at most");
    eprintln!(
        "power cuts with qmqpd_commit = {way}: {} cuts in {} events with {flushes} flushes, {owed} messages owed, 0 lost",
        cuts(),
        record.events.len() - first
    );
}

/// A disk that says that it has synced and has not must lose messages here, or else this test sees nothing.
fn lying_sync() {
    let fault = Fault { call: "fsync", error: "retval=0", when: "1+" };
    let (record, first, account) = load("file", Some(&fault));
    let mut lost = 0;
    for round in 0..cuts() {
        let mut random = Random::new(seed(), round);
        let cut = record.events.len() - random.below((record.events.len() - first) / 4 + 1);
        let image = after_power_cut(&record, cut, &mut random);
        lost += usize::from(look(&image, &account, cut, "file", false).is_err());
    }
    assert!(lost > 0, "without a single sync nothing was lost in {} power cuts", cuts());
}

/// The disk after a power cut behind so many events: everything until the last flush, and of what came later what chance kept,
/// block by block.
fn after_power_cut(record: &Record, cut: usize, random: &mut Random) -> Vec<u8> {
    // Nothing, everything, or anything between.
    let kept_of_ten = [0, 10, 1 + random.below(9)][random.below(3)];
    // What a disk writes whole. The superblock of an ext4 lies in one such block, and no file system survives half of it.
    const BLOCK: usize = 4096;
    let events = &record.events[..cut];
    let flushed = events.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
    let mut disk = record.base.clone();
    for (at, event) in events.iter().enumerate() {
        let Event::Write(offset, bytes) = event else { continue };
        let start = usize::try_from(*offset).unwrap();
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            if at < flushed || random.below(10) < kept_of_ten {
                let place = start + index * BLOCK;
                disk[place..place + block.len()].copy_from_slice(block);
            }
        }
    }
    disk
}

/// Mounts such a disk, as the machine does that comes up again, and compares. Returns how many messages were owed. Where there
/// is a journal, the server that starts then writes again what is only there; with `serve`, any server must go on with the disk.
fn look(image: &[u8], account: &Account, cut: usize, way: &str, serve: bool) -> Result<usize, String> {
    let _beside = super::MOUNTS.read().unwrap_or_else(PoisonError::into_inner);
    let dir = scratch("after");
    let file = dir.path().join("image");
    std::fs::write(&file, image).unwrap();
    let mounted = dir.path().join("ext4");
    std::fs::create_dir(&mounted).unwrap();
    run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&file).arg(&mounted));
    let queue = mounted.join("queue");
    let server = (way == "journal" || serve).then(|| {
        let boot_id = dir.path().join("boot_id");
        std::fs::write(&boot_id, "12345678-1234-4123-8123-123456789abc\n").unwrap();
        let main_cf = vec![commit(way)];
        Instance::start_after_boot(&Setup { main_cf, queue: Some(queue.clone()) }, &boot_id)
    });
    if way == "journal" {
        wait::until("the journals are settled", || queue::journals(&queue).is_empty().then_some(()));
    }
    let result = account.check(&queue, cut, false);
    if let Some(server) = server.filter(|_| serve && result.is_ok()) {
        let said = client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
        assert!(said.starts_with('K'), "{said}");
        wait::until("drafts from before the cut are removed", || {
            (server.queue.incoming().len() == server.queue.committed().len()).then_some(())
        });
    }
    unmount(&mounted);
    result
}
