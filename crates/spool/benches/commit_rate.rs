//! Messages per second from create to durable, beside a bare program that makes the same system calls.
//!
//! `cargo bench -p spool -- [DIRECTORY [MESSAGES [ROUNDS]]]`. The directory should be on a freshly made file system
//! with a journal (ext4: on a loop device with direct I/O); nothing is deleted between the rounds. Without one a
//! temporary directory is used, which says nothing about a disk. Figures vary; the ratios within a round are what
//! counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program for measuring")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags};
use spool::committer::{Clock, Committers, Job};
use spool::{Draft, Options, Receipt, Spool, SpoolError, Timestamp, UnixDisk};

const MESSAGE_BYTES: usize = 4096;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let temporary = tempfile::tempdir().unwrap();
    let base = arguments.first().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (messages, rounds) = (number(1, 4000), number(2, 1));
    for round in 0..rounds {
        let place = |name: &str| {
            let path = base.join(format!("{round}-{name}"));
            fs::create_dir_all(&path).unwrap();
            path
        };
        for threads in [1, 8, 16, 32, 64, 100] {
            report(&format!("floor, {threads} threads"), messages, || {
                floor(&place(&format!("floor-{threads}")), threads, messages);
            });
            report(&format!("spool, {threads} threads"), messages, || {
                direct(&place(&format!("spool-{threads}")), threads, messages);
            });
        }
        for sessions in [1, 20, 100] {
            for threads in [8, 16, 32, 64] {
                report(&format!("committers, {sessions} sessions, {threads} threads"), messages, || {
                    committers(
                        &place(&format!("committers-{sessions}-{threads}")),
                        sessions,
                        threads,
                        messages,
                    );
                });
            }
        }
    }
}

fn report(name: &str, messages: u64, run: impl FnOnce()) {
    let (started, before) = (Instant::now(), processor_time());
    run();
    let (elapsed, used) = (started.elapsed(), processor_time().saturating_sub(before));
    let rate = messages as f64 / elapsed.as_secs_f64();
    let cost = used.as_secs_f64() * 1000.0 / messages as f64;
    println!("{name:40} {rate:8.0} messages/s {cost:7.3} CPU s per 1000");
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

fn open(path: &Path) -> io::Result<Spool<UnixDisk>> {
    let options = Options { create_missing: true, ..Options::default() };
    let disk = UnixDisk::open(path)?;
    let spool = Spool::open(disk, &options, Arc::new(|notice| eprintln!("{}", notice.text)));
    // A queue is older than this run.
    for name in ["bounce", "defer", "trace"] {
        fs::File::open(path.join(name))?.set_modified(UNIX_EPOCH + Duration::from_secs(1))?;
    }
    spool.map_err(io::Error::other)
}

/// The spool, called by the threads themselves.
fn direct(path: &Path, threads: usize, messages: u64) {
    let spool = open(path).unwrap();
    let text = vec![b'x'; MESSAGE_BYTES];
    spread(threads, messages, |_| {
        let mut draft = spool.create(&now).unwrap();
        draft.write_at(0, &text).unwrap();
        draft.commit().map(drop).unwrap();
    });
}

enum Answer {
    Created(Result<Draft<UnixDisk>, SpoolError>),
    Committed(Result<Receipt, SpoolError>),
}

/// Sessions that each wait for their answer before they go on, all driven by one thread, as an event loop would.
fn committers(path: &Path, sessions: u64, threads: usize, messages: u64) {
    let clock: Clock = Arc::new(now);
    let committers = Committers::start(open(path).unwrap(), clock, threads, 1000).unwrap();
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
