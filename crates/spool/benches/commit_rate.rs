//! Messages per second from create to durable, in both ways, beside bare programs that make the same promise.
//!
//! `cargo bench -p spool -- [DIRECTORY [MESSAGES [ROUNDS [SESSIONS...]]]]`. The directory should be on a freshly made file
//! system with a journal (ext4: on a loop device with direct I/O); nothing is deleted between the rounds. Without one a
//! temporary directory is used, which says nothing about a disk. Figures vary; the ratios within a round are what
//! counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for measuring")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags};
use spool::committer::{Clock, Committers, Job};
use spool::journal;
use spool::journal::Instance;
use spool::{CommitWay, Draft, Options, Receipt, Spool, SpoolError, Timestamp, UnixDisk};

const MESSAGE_BYTES: usize = 4096;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let temporary = tempfile::tempdir().unwrap();
    let base = arguments.first().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (messages, rounds) = (number(1, 4000), number(2, 1));
    let sessions: Vec<u64> = arguments.iter().skip(3).map(|text| text.parse().unwrap()).collect();
    let sessions = if sessions.is_empty() { vec![1, 20, 100] } else { sessions };
    for round in 0..rounds {
        let place = |name: &str| {
            let path = base.join(format!("{round}-{name}"));
            fs::create_dir_all(&path).unwrap();
            path
        };
        for &sessions in &sessions {
            let threads = usize::try_from(sessions).unwrap();
            for way in ["file", "journal"] {
                let name = format!("{way}, {sessions} sessions");
                report(&format!("floor, {name}"), messages, || match way {
                    "file" => floor(&place(&format!("floor-file-{sessions}")), threads, messages),
                    _ => floor_journal(&place(&format!("floor-journal-{sessions}")), threads, messages),
                });
                for threads in COMMIT_THREADS {
                    report(&format!("committers, {name}, {threads} threads"), messages, || {
                        let place = place(&format!("{way}-{sessions}-{threads}"));
                        committers(&place, way, sessions, threads, messages);
                    });
                }
            }
        }
    }
}

/// Values of `qmqpd_commit_threads`, the default first.
const COMMIT_THREADS: [usize; 3] = [16, 32, 64];

fn report(name: &str, messages: u64, run: impl FnOnce()) {
    // What the run before has left to be written is not this one's.
    rustix::fs::sync();
    let (started, before) = (Instant::now(), processor_time());
    run();
    let (elapsed, used) = (started.elapsed(), processor_time().saturating_sub(before));
    let rate = messages as f64 / elapsed.as_secs_f64();
    let cost = used.as_secs_f64() * 1000.0 / messages as f64;
    println!("{name:45} {rate:8.0} messages/s {cost:7.3} CPU s per 1000");
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() }
}

/// Runs `one` as often as there are messages, on so many threads.
fn spread(threads: usize, messages: u64, one: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= messages {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
}

/// The least that the promise takes: open, rename, write, fchmod, fsync, close.
fn floor(path: &Path, threads: usize, messages: u64) {
    fs::create_dir(path.join("incoming")).unwrap();
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let text = vec![b'x'; MESSAGE_BYTES];
    spread(threads, messages, |number| {
        let (temporary, name) = (format!("incoming/{number}.0"), format!("incoming/{number:05X}ABCDEF"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600)).unwrap();
        rustix::fs::renameat(&directory, &temporary, &directory, &name).unwrap();
        assert_eq!(rustix::io::pwrite(&file, &text, 0).unwrap(), text.len());
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o700)).unwrap();
        rustix::fs::fsync(&file).unwrap();
    });
}

/// The same for a journal: open, rename, write, fchmod, close, and one fdatasync for all that came meanwhile.
fn floor_journal(path: &Path, threads: usize, messages: u64) {
    fs::create_dir(path.join("incoming")).unwrap();
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let text = vec![b'x'; MESSAGE_BYTES];
    let journal = fs::File::create(path.join("journal")).unwrap();
    // Bytes that wait, how many batches were begun and ended; the journal has its blocks.
    let journal_bytes = 128 * 1024 * 1024;
    for _ in 0..128 {
        rustix::io::write(&journal, &vec![0; journal_bytes / 128]).unwrap();
    }
    journal.sync_all().unwrap();
    let state = Mutex::new((Vec::new(), 0_u64, 0_u64));
    let ended = Condvar::new();
    let offset = AtomicU64::new(0);
    spread(threads, messages, |number| {
        let (temporary, name) = (format!("incoming/{number}.0"), format!("incoming/{number:05X}ABCDEF"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600)).unwrap();
        rustix::fs::renameat(&directory, &temporary, &directory, &name).unwrap();
        assert_eq!(rustix::io::pwrite(&file, &text, 0).unwrap(), text.len());
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o700)).unwrap();
        drop(file);
        let mut guard = state.lock().unwrap();
        guard.0.extend_from_slice(&text);
        let mine = guard.1;
        while guard.2 <= mine {
            if guard.1 > guard.2 {
                guard = ended.wait(guard).unwrap();
                continue;
            }
            let batch = std::mem::take(&mut guard.0);
            guard.1 += 1;
            drop(guard);
            let at = offset.fetch_add(batch.len() as u64, Ordering::Relaxed) % (journal_bytes as u64 / 2);
            assert_eq!(rustix::io::pwrite(&journal, &batch, at).unwrap(), batch.len());
            rustix::fs::fdatasync(&journal).unwrap();
            guard = state.lock().unwrap();
            guard.2 += 1;
            ended.notify_all();
        }
    });
}

fn open(path: &Path, way: &str) -> io::Result<Spool<UnixDisk>> {
    let commit_way = match way {
        "file" => CommitWay::File,
        _ => CommitWay::Journal(journal::Options {
            instance: Instance([1; 16]),
            checkpoint_delay: Duration::from_secs(1),
            checkpoint_bytes: 64 * 1024 * 1024,
        }),
    };
    let options = Options { create_missing: true, commit_way, ..Options::default() };
    let disk = UnixDisk::open(path)?;
    let spool = Spool::open(disk, &options, Arc::new(|notice| eprintln!("{}", notice.text)));
    // A queue is older than this run.
    for name in ["bounce", "defer", "trace"] {
        fs::File::open(path.join(name))?.set_modified(UNIX_EPOCH + Duration::from_secs(1))?;
    }
    spool.map_err(io::Error::other)
}

enum Answer {
    Created(Result<Draft<UnixDisk>, SpoolError>),
    Committed(Result<Receipt, SpoolError>),
}

/// Sessions that each wait for their answer before they go on, all driven by one thread, as an event loop would.
fn committers(path: &Path, way: &str, sessions: u64, threads: usize, messages: u64) {
    let clock: Clock = Arc::new(now);
    let committers = Committers::start(open(path, way).unwrap(), clock, threads, 1000).unwrap();
    let (to, answers) = mpsc::channel();
    let create = || {
        let to = to.clone();
        let done = Box::new(move |draft| to.send(Answer::Created(draft)).unwrap());
        committers.submit(Job::Create { done }).unwrap();
    };
    let (mut begun, mut finished) = (0, 0);
    while begun < sessions.min(messages) {
        create();
        begun += 1;
    }
    while finished < messages {
        match answers.recv().unwrap() {
            Answer::Created(draft) => {
                let (to, writes) = (to.clone(), vec![(0, vec![b'x'; MESSAGE_BYTES])]);
                let done = Box::new(move |outcome| to.send(Answer::Committed(outcome)).unwrap());
                committers.submit(Job::Commit { draft: draft.unwrap(), writes, done }).unwrap();
            }
            Answer::Committed(outcome) => {
                outcome.map(drop).unwrap();
                finished += 1;
                if begun < messages {
                    create();
                    begun += 1;
                }
            }
        }
    }
}
