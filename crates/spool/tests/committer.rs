//! The committer threads: every job is answered once, none is lost, and the end waits for all.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spool::committer::{Clock, Committers, Job, Reason, Written};
use spool::journal;
use spool::journal::{BootId, Instance};
use spool::simulated::Simulated;
use spool::{
    CommitWay, Disk, Draft, ErrorKind, Options, Queue, Receipt, Spool, SpoolError, Timestamp, UnixDisk,
};

/// A clock on which no two readings are the same.
fn clock() -> Clock {
    let ticks = AtomicU32::new(0);
    Arc::new(move || {
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        Timestamp { seconds: 1_795_000_000, microseconds: 0 }.plus_microseconds(tick)
    })
}

fn own_queue() -> Options {
    Options { create_missing: true, ..Options::default() }
}

fn simulated() -> (Simulated, Spool<Simulated>) {
    let disk = Simulated::new();
    let spool = Spool::open(disk.clone(), &own_queue(), Arc::new(|_| ())).unwrap();
    (disk, spool)
}

/// Sends what a callback gets.
fn answer<T: Send + 'static>(to: &Sender<T>) -> Box<dyn FnOnce(T) + Send> {
    let to = to.clone();
    Box::new(move |outcome| to.send(outcome).unwrap())
}

fn create<D: Disk>(committers: &Committers<D>) -> Draft<D> {
    let (to, from) = mpsc::channel();
    committers.submit(Job::Create { done: answer(&to) }).unwrap();
    from.recv().unwrap().unwrap()
}

type Outcomes = Receiver<Result<Receipt, SpoolError>>;

/// A journal with checkpoints all the time.
fn with_journal(instance: u8) -> Options {
    let commit_way = CommitWay::Journal(journal::Options {
        instance: Instance([instance; 16]),
        checkpoint_delay: Duration::from_millis(5),
        checkpoint_bytes: 64 * 1024,
    });
    Options { commit_way, ..own_queue() }
}

#[test]
fn many_sessions_on_few_threads_all_get_their_own_answer() {
    for options in [own_queue(), with_journal(1)] {
        many_sessions(&options);
    }
}

fn many_sessions(options: &Options) {
    let directory = tempfile::tempdir().unwrap();
    let disk = UnixDisk::open(directory.path()).unwrap();
    let spool = Spool::open(disk, options, Arc::new(|notice| panic!("{notice:?}"))).unwrap();
    // A real clock, so that threads meet within a microsecond.
    let real: Clock = Arc::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() }
    });
    let committers = Committers::start(spool.clone(), real, 8, 100).unwrap();
    let accepted = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for session in 0..20 {
            let (committers, accepted) = (&committers, &accepted);
            scope.spawn(move || {
                for message in 0..20 {
                    let text = format!("session {session} message {message}{}", " and more".repeat(500));
                    if message % 2 == 1 {
                        // A small message comes whole.
                        let draft = create(committers);
                        let (to, from) = mpsc::channel();
                        let writes = vec![(0, text.clone().into_bytes())];
                        committers.submit(Job::Commit { draft, writes, done: answer(&to) }).unwrap();
                        let receipt = from.recv().unwrap().unwrap();
                        accepted.lock().unwrap().insert((receipt.queue_id().to_string(), text));
                        continue;
                    }
                    let draft = create(committers);
                    if message % 10 == 4 {
                        committers.submit(Job::Discard { draft, done: Box::new(|()| ()) }).unwrap();
                        continue;
                    }
                    let (to, from) = mpsc::channel();
                    let write =
                        Job::Write { draft, offset: 0, bytes: text.clone().into(), done: answer(&to) };
                    committers.submit(write).unwrap();
                    let Written { draft, bytes, outcome } = from.recv().unwrap();
                    outcome.unwrap();
                    let writes = vec![(bytes.len() as u64, b" the end".to_vec())];
                    let (to, from) = mpsc::channel();
                    committers.submit(Job::Commit { draft, writes, done: answer(&to) }).unwrap();
                    let receipt = from.recv().unwrap().unwrap();
                    accepted.lock().unwrap().insert((receipt.queue_id().to_string(), text + " the end"));
                }
            });
        }
    });
    committers.shut_down();
    let found: BTreeSet<(String, String)> = spool
        .list(Queue::Incoming)
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(entry.is_ready());
            let text = fs::read_to_string(directory.path().join(&entry.path)).unwrap();
            (entry.queue_id.to_string(), text)
        })
        .collect();
    assert_eq!(found.len(), 20 * 18);
    assert_eq!(found, *accepted.lock().unwrap());
}

#[test]
fn the_journal_goes_with_an_orderly_end_and_stays_without() {
    let directory = tempfile::tempdir().unwrap();
    let journals = || fs::read_dir(directory.path().join("journal")).unwrap().count();
    let open = |instance, boot_id: &str| {
        let disk = UnixDisk::open(directory.path()).unwrap();
        let options = Options { boot_id: BootId::parse(boot_id), ..with_journal(instance) };
        let spool = Spool::open(disk, &options, Arc::new(|_| ())).unwrap();
        spool.settle(&*clock()).unwrap();
        spool
    };
    let first = "00000000-0000-0000-0000-000000000001";
    let committers = Committers::start(open(1, first), clock(), 2, 100).unwrap();
    let (to, from) = mpsc::channel();
    for _ in 0..50 {
        let draft = create(&committers);
        let writes = vec![(0, b"x".repeat(3000))];
        committers.submit(Job::Commit { draft, writes, done: answer(&to) }).unwrap();
    }
    assert_eq!(from.iter().take(50).filter(Result::is_ok).count(), 50);
    assert_eq!(journals(), 1);
    // Somebody else looks while it is in use.
    drop(open(2, first));
    assert_eq!(journals(), 1);
    committers.shut_down();
    assert_eq!(journals(), 0);
    // Nobody shuts it down: it stays until the next start, and an earlier start of the machine brings the mail back.
    let spool = open(3, first);
    let mut draft = Some(spool.create(&*clock()).unwrap());
    let id = draft.as_ref().unwrap().queue_id().to_string();
    draft.take().unwrap().commit_whole(b"y".repeat(3000), Box::new(|outcome| assert!(outcome.is_ok())));
    drop(spool);
    assert_eq!(journals(), 1);
    fs::remove_file(directory.path().join("incoming").join(&id)).unwrap();
    drop(open(4, "00000000-0000-0000-0000-000000000002"));
    assert_eq!(fs::read(directory.path().join("incoming").join(&id)).unwrap(), b"y".repeat(3000));
    assert_eq!(journals(), 0);
}

#[test]
fn shutting_down_does_all_that_was_taken_and_takes_no_more() {
    let (disk, spool) = simulated();
    let committers = Committers::start(spool, clock(), 2, 1000).unwrap();
    let (to, from) = mpsc::channel();
    for _ in 0..200 {
        let draft = create(&committers);
        committers
            .submit(Job::Commit { draft, writes: vec![(0, b"x".to_vec())], done: answer(&to) })
            .unwrap();
    }
    committers.shut_down();
    drop(to);
    let outcomes: Outcomes = from;
    assert_eq!(outcomes.iter().filter(Result::is_ok).count(), 200);
    assert_eq!(disk.files().len(), 200);
    let (to, _from) = mpsc::channel();
    let refused = committers.submit(Job::Create { done: answer(&to) }).unwrap_err();
    assert_eq!(refused.reason, Reason::ShuttingDown);
}

/// However it ends: what was taken is done by then, and no journal is left.
#[test]
fn the_end_waits_for_the_last_answer() {
    for is_dropped in [false, true] {
        let disk = Simulated::new();
        let spool = Spool::open(disk.clone(), &with_journal(1), Arc::new(|_| ())).unwrap();
        let committers = Committers::start(spool, clock(), 2, 100).unwrap();
        let (to, from) = mpsc::channel();
        let draft = create(&committers);
        let done: Box<dyn FnOnce(Result<Receipt, SpoolError>) + Send> = Box::new(move |outcome| {
            // Long enough for an end that does not wait.
            std::thread::sleep(Duration::from_millis(100));
            to.send(outcome).unwrap();
        });
        committers.submit(Job::Commit { draft, writes: vec![(0, b"x".to_vec())], done }).unwrap();
        if is_dropped {
            drop(committers);
        } else {
            committers.shut_down();
        }
        assert!(from.try_recv().unwrap().is_ok());
        assert!(disk.files().iter().all(|path| path.starts_with("incoming/")), "{:?}", disk.files());
        assert_eq!(disk.files().len(), 1);
    }
}

#[test]
fn the_queue_before_the_threads_has_its_limit() {
    let disk = Simulated::new();
    let options = Options { names_drafts: true, ..own_queue() };
    let spool = Spool::open(disk.clone(), &options, Arc::new(|_| ())).unwrap();
    let committers = Committers::start(spool, clock(), 1, 3).unwrap();
    let draft = create(&committers);
    // The only thread waits in this callback until it is let go.
    let (let_go, gate) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let done = Box::new(move |_draft: Result<Draft<Simulated>, SpoolError>| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
    });
    committers.submit(Job::Create { done }).unwrap();
    inside.recv().unwrap();
    let (to, from) = mpsc::channel();
    for _ in 0..3 {
        committers.submit(Job::Create { done: answer(&to) }).unwrap();
    }
    assert_eq!(committers.waiting_jobs(), 3);
    let (commit_to, _) = mpsc::channel();
    let job = Job::Commit { draft, writes: Vec::new(), done: answer(&commit_to) };
    let refused = committers.submit(job).unwrap_err();
    assert_eq!(refused.reason, Reason::Full);
    assert!(refused.to_string().contains("the disk is too slow"));
    // The draft came back with the job, so that its file goes.
    let files = disk.files().len();
    drop(refused);
    assert_eq!(disk.files().len(), files - 1);
    let_go.send(()).unwrap();
    assert_eq!(from.iter().take(3).filter(Result::is_ok).count(), 3);
}

#[test]
fn a_callback_that_panics_takes_no_thread_along() {
    let disk = Simulated::new();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let notify = Arc::new(move |notice| log.lock().unwrap().push(notice));
    let spool = Spool::open(disk.clone(), &own_queue(), notify).unwrap();
    let committers = Committers::start(spool, clock(), 1, 10).unwrap();
    committers.submit(Job::Create { done: Box::new(|_| panic!("on purpose")) }).unwrap();
    drop(create(&committers));
    committers.shut_down();
    assert_eq!(notices.lock().unwrap()[0].text, "committer: a job panicked");
    assert_eq!(disk.files(), Vec::<String>::new(), "the draft of the callback is gone");
}

/// From the draft to the receipt, or to nothing, on one thread and in one job.
#[test]
fn a_whole_message_is_one_job() {
    let (disk, spool) = simulated();
    let committers = Committers::start(spool, clock(), 1, 1).unwrap();
    let (to, from) = mpsc::channel();
    let done = answer(&to);
    let work = Box::new(|draft: Result<Draft<Simulated>, SpoolError>| {
        draft.unwrap().commit_whole(b"all of it".to_vec(), done);
    });
    committers.submit(Job::Whole { work }).unwrap();
    let receipt: Receipt = from.recv().unwrap().unwrap();
    let path = format!("incoming/{}", receipt.queue_id());
    assert_eq!(disk.files(), [path]);
    // One that its work does not want, and one whose work panics: nothing stays, and the thread does.
    let (to, from) = mpsc::channel();
    let done = answer(&to);
    let work = Box::new(move |draft| {
        drop(draft);
        done(());
    });
    committers.submit(Job::Whole { work }).unwrap();
    from.recv().unwrap();
    committers.submit(Job::Whole { work: Box::new(|_| panic!("on purpose")) }).unwrap();
    committers.shut_down();
    assert_eq!(disk.files().len(), 1);
    assert_eq!(disk.open_files(), 0);
}

#[test]
fn a_failed_write_in_a_commit_is_the_answer_to_it() {
    const ENOSPC: i32 = 28;
    let (disk, spool) = simulated();
    let committers = Committers::start(spool, clock(), 1, 10).unwrap();
    let draft = create(&committers);
    let second_write = disk.calls() + 1;
    disk.fail(second_write..=second_write, ENOSPC, true);
    let (to, from) = mpsc::channel();
    let writes = vec![(4, b"tail".to_vec()), (0, b"head".to_vec())];
    committers.submit(Job::Commit { draft, writes, done: answer(&to) }).unwrap();
    assert_eq!(from.recv().unwrap().unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(disk.files(), Vec::<String>::new());
    assert_eq!(disk.open_files(), 0);
}
