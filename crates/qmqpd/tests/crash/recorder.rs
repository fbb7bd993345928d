//! A block device that remembers every write and every flush: a loop device on a file that this process serves by FUSE.
//!
//! The file is all that is mounted, so a handful of requests is the whole protocol (Linux, fuse(4), version 7.31). Requests
//! are answered one after the other; so a write that was answered before a flush began stands before it in the record, as it
//! must: the kernel waits for the writes that a flush shall cover.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use testbed::postfix::scratch;
use testbed::wait;

/// What the device was asked to do.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// What was written before is on disk now.
    Flush,
}

/// The disk as it was at the beginning, and what has happened to it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The first image.
    pub(crate) base: Vec<u8>,
    /// Since then.
    pub(crate) events: Vec<Event>,
}

struct Disk {
    record: Record,
    now: Vec<u8>,
}

/// An ext4 on such a device; unmounted when dropped.
pub(crate) struct Recorder {
    disk: Arc<Mutex<Disk>>,
    /// Where the ext4 is mounted.
    pub(crate) mounted: PathBuf,
    device: PathBuf,
    _dir: tempfile::TempDir,
}

impl Recorder {
    /// Makes an ext4 of so many MiB and mounts it.
    pub(crate) fn mount(mebibytes: usize) -> Self {
        let dir = scratch("recorder");
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len((mebibytes << 20) as u64).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-J", "size=4"]).arg(&image));
        let base = std::fs::read(&image).unwrap();
        std::fs::remove_file(&image).unwrap();
        let record = Record { base: base.clone(), events: Vec::new() };
        let disk = Arc::new(Mutex::new(Disk { record, now: base }));

        let device = dir.path().join("device");
        std::fs::write(&device, b"").unwrap();
        let fuse = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        // The channel goes to mount(8) as its standard input.
        let options = "fd=0,rootmode=100600,user_id=0,group_id=0";
        let channel = Stdio::from(fuse.try_clone().unwrap());
        let mount = ["-i", "-t", "fuse", "-o", options, "recorder"];
        run(Command::new("mount").args(mount).arg(&device).stdin(channel));
        let served = Arc::clone(&disk);
        std::thread::spawn(move || serve(fuse, &served));

        let mounted = dir.path().join("ext4");
        std::fs::create_dir(&mounted).unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&device).arg(&mounted));
        Self { disk, mounted, device, _dir: dir }
    }

    /// How many events there are until now.
    pub(crate) fn position(&self) -> usize {
        self.lock().record.events.len()
    }

    /// Everything until now.
    pub(crate) fn record(&self) -> Record {
        self.lock().record.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
        // The loop device lets go of it when it likes.
        let _ = Command::new("umount").arg("-l").arg(&self.device).status();
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Unmounts a file system. Somebody may still have a hand on it for a moment: a process that ends, or one that looks at all
/// file systems.
pub(crate) fn unmount(mounted: &Path) {
    wait::until("the file system is free", || {
        Command::new("umount")
            .arg(mounted)
            .stderr(Stdio::null())
            .status()
            .ok()
            .filter(|status| status.success())
    });
}

const INIT: u32 = 26;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
/// Requests without an answer: FORGET, INTERRUPT, BATCH_FORGET.
const SILENT: [u32; 3] = [2, 36, 42];

const WRITE_BYTES_MAX: usize = 1 << 20;

fn serve(mut fuse: File, disk: &Mutex<Disk>) {
    let mut buffer = vec![0; WRITE_BYTES_MAX + 8192];
    // The end of the mount is an error here.
    while let Ok(len) = fuse.read(&mut buffer) {
        let request = &buffer[..len];
        let opcode = u32_at(request, 4);
        if SILENT.contains(&opcode) {
            continue;
        }
        let (error, body) = match answer(opcode, &request[40..], disk) {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut out = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        out.extend(error.to_ne_bytes());
        out.extend(&request[8..16]);
        out.extend(body);
        if fuse.write_all(&out).is_err() {
            return;
        }
    }
}

fn answer(opcode: u32, body: &[u8], disk: &Mutex<Disk>) -> Result<Vec<u8>, i32> {
    let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    match opcode {
        INIT => Ok(init(body)),
        GETATTR | SETATTR => Ok(attributes(disk.now.len() as u64)),
        // Handle 0. The kernel may cache what is read; what is written comes at once.
        OPEN => Ok([&0_u64.to_ne_bytes()[..], &0_u32.to_ne_bytes(), &0_u32.to_ne_bytes()].concat()),
        READ => {
            let start = usize::try_from(u64_at(body, 8)).unwrap().min(disk.now.len());
            let end = (start + u32_at(body, 16) as usize).min(disk.now.len());
            Ok(disk.now[start..end].to_vec())
        }
        WRITE => {
            let (offset, len) = (u64_at(body, 8), u32_at(body, 16));
            let bytes = &body[40..40 + len as usize];
            let start = usize::try_from(offset).unwrap();
            let Some(place) = disk.now.get_mut(start..start + bytes.len()) else { return Err(libc::ENOSPC) };
            place.copy_from_slice(bytes);
            disk.record.events.push(Event::Write(offset, bytes.to_vec()));
            Ok([len.to_ne_bytes(), 0_u32.to_ne_bytes()].concat())
        }
        FSYNC => {
            disk.record.events.push(Event::Flush);
            Ok(Vec::new())
        }
        FLUSH | RELEASE => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    }
}

fn init(body: &[u8]) -> Vec<u8> {
    const MAX_PAGES: u32 = 1 << 22;
    const BIG_WRITES: u32 = 1 << 5;
    let mut out = Vec::new();
    for word in [7, 31, u32_at(body, 8), u32_at(body, 12) & (MAX_PAGES | BIG_WRITES)] {
        out.extend(word.to_ne_bytes());
    }
    // Background requests and congestion, the longest write, the grain of times.
    out.extend([16_u16.to_ne_bytes(), 12_u16.to_ne_bytes()].concat());
    out.extend(u32::try_from(WRITE_BYTES_MAX).unwrap().to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    out.extend(256_u16.to_ne_bytes());
    out.resize(64, 0);
    out
}

/// Of a file that belongs to root; nothing else about it matters.
fn attributes(size: u64) -> Vec<u8> {
    let mut out = [3600_u64.to_ne_bytes(), [0; 8]].concat();
    for word in [1, size, size / 512, 0, 0, 0] {
        out.extend(word.to_ne_bytes());
    }
    for word in [0, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0] {
        out.extend(word.to_ne_bytes());
    }
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
