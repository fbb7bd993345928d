//! The least that the promise takes: a program that accepts QMQP, writes one file a message, makes it durable, replies,
//! and does nothing else. No cleanup, no access control, no logs, no time limits, no recovery. What a server does
//! beyond this is measured against it; nobody should give it mail.
//!
//! `floor PORT DIRECTORY file|journal [THREADS]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program for measuring"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use qmqp::netstring::Length;
use rustix::fs::{CWD, Mode, OFlags};

/// As many as there may be clients: each waits in its own system calls.
const THREADS: usize = 100;
const REPLY: &[u8] = b"3:Kok,";
const READ_BYTES: usize = 64 * 1024;

const JOURNAL_BYTES: u64 = 256 << 20;
/// Larger messages do not pass through the journal.
const JOURNAL_RECORD_BYTES_MAX: usize = 1 << 20;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, directory, way, threads @ ..] = arguments.as_slice() else {
        panic!("floor PORT DIRECTORY file|journal [THREADS]");
    };
    let path = Path::new(directory);
    std::fs::create_dir_all(path.join("incoming")).unwrap();
    let spool = Spool {
        directory: rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap(),
        next: AtomicU64::new(0),
        journal: match way.as_str() {
            "file" => None,
            "journal" => Some(Journal::create(path)),
            other => panic!("{other}: write file or journal"),
        },
    };
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    rustix::net::listen(&listener, 4096).unwrap();
    let threads = threads.first().map_or(THREADS, |threads| threads.parse().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| spool.serve(&listener));
        }
        if spool.journal.is_some() {
            loop {
                std::thread::sleep(CHECKPOINT_INTERVAL);
                rustix::fs::syncfs(&spool.directory).unwrap();
            }
        }
    });
}

struct Spool {
    directory: OwnedFd,
    next: AtomicU64,
    journal: Option<Journal>,
}

impl Spool {
    fn serve(&self, listener: &TcpListener) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            // A client that goes away leaves a file behind; there is none that does.
            let _ = self.take(&mut stream, &mut buffer);
        }
    }

    fn take(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
        let mut read = stream.read(buffer)?;
        let mut payload = &buffer[..read];
        let payload_bytes = Length::new().read(&mut payload).ok().flatten().unwrap_or(0);
        let request_bytes = (read - payload.len()) as u64 + payload_bytes + 1;

        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (temporary, name) = (format!("incoming/{number}.0"), format!("incoming/{number:05X}ABCDEF"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &temporary, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, &name)?;

        let mut record = Vec::new();
        let mut written = 0;
        loop {
            rustix::io::pwrite(&file, &buffer[..read], written)?;
            if self.journal.is_some() && record.len() <= JOURNAL_RECORD_BYTES_MAX {
                record.extend_from_slice(&buffer[..read]);
            }
            written += read as u64;
            if written >= request_bytes {
                break;
            }
            read = stream.read(buffer)?;
            if read == 0 {
                return Ok(());
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o700))?;
        match &self.journal {
            Some(journal) if record.len() <= JOURNAL_RECORD_BYTES_MAX => journal.commit(&record),
            _ => rustix::fs::fsync(&file)?,
        }
        stream.write_all(REPLY)
    }
}

/// Whoever comes first writes for all who have come since the last write.
struct Journal {
    file: OwnedFd,
    state: Mutex<FloorState>,
    durable: Condvar,
}

#[derive(Default)]
struct FloorState {
    waiting: Vec<u8>,
    /// Records that have come, and records that are on disk.
    begun: u64,
    durable: u64,
    is_writing: bool,
    offset: u64,
}

impl Journal {
    fn create(directory: &Path) -> Self {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let path = directory.join("journal");
        let file = rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o600)).unwrap();
        // Written once, so that later writes change nothing but these blocks.
        let zeros = vec![0; 1 << 20];
        for offset in (0..JOURNAL_BYTES).step_by(zeros.len()) {
            rustix::io::pwrite(&file, &zeros, offset).unwrap();
        }
        rustix::fs::fsync(&file).unwrap();
        Self { file, state: Mutex::default(), durable: Condvar::new() }
    }

    fn commit(&self, record: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.waiting.extend_from_slice(record);
        state.begun += 1;
        let mine = state.begun;
        while state.durable < mine {
            if state.is_writing {
                state = self.durable.wait(state).unwrap();
                continue;
            }
            state.is_writing = true;
            let batch = std::mem::take(&mut state.waiting);
            let last = state.begun;
            if state.offset + batch.len() as u64 > JOURNAL_BYTES {
                state.offset = 0;
            }
            let offset = state.offset;
            state.offset += batch.len() as u64;
            drop(state);
            rustix::io::pwrite(&self.file, &batch, offset).unwrap();
            rustix::fs::fdatasync(&self.file).unwrap();
            state = self.state.lock().unwrap();
            state.durable = last;
            state.is_writing = false;
            self.durable.notify_all();
        }
    }
}
