//! `lmdb:` tables: the B+ tree of OpenLDAP's LMDB, read from the file for each lookup.
//!
//! Our own reader instead of the library: the library maps the file into memory, so a file that is cut short or damaged
//! kills the process with all its sessions. Here every offset is checked. Only what postmap(1) writes is read: the
//! one unnamed database, keys in byte order, no duplicates; 64-bit layout in the byte order of this machine.
//!
//! Postfix opens these files without LMDB's own locks (NOSUBDIR, NOLOCK). A reader holds a shared fcntl() lock on the file
//! during a lookup; a writer takes an exclusive one for a moment before it reuses old pages. The locks here belong to
//! the open file, not to the process, so that threads and tables do not take them away from each other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use postfix::notice::Notice;

use super::indexed::Indexed;
use super::{Call, Opened, Table, TableError, values};
use crate::options::Options;
use crate::syntax::shown;
use postfix::text::system_words;

struct Lmdb {
    indexed: Indexed,
    /// Held during a lookup: the lock on the file is one for all threads.
    turn: Mutex<()>,
    lock_timeout: Duration,
}

/// `lmdb:name`, the file `name.lmdb`.
pub(super) fn open(name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let mut indexed = Indexed::open("lmdb", name, ".lmdb", options, notices)?;
    let path = indexed.file.path().display().to_string();
    indexed.file = indexed.file.read_live();
    let table = Lmdb { indexed, turn: Mutex::new(()), lock_timeout: options.operation_timeout };
    let file = table.indexed.file.file();
    Tree::open(file).map_err(|reason| format!("open database {path}: {reason}"))?;
    Ok(Box::new(table))
}

impl Table for Lmdb {
    fn name(&self) -> &str {
        &self.indexed.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        // A thread that panicked left nothing half done behind: the lock guards no data.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.indexed.file.file();
        let limit = Instant::now().checked_add(self.lock_timeout);
        let until = [limit, call.deadline].into_iter().flatten().min();
        let found = ReadLock::take(file, until).and_then(|_lock| {
            let tree = Tree::open(file)?;
            self.indexed.find(key, |key| tree.find(key, self.indexed.value_bytes_max))
        });
        found.map_err(|reason| {
            let name = &self.indexed.name;
            call.notices.push(Notice::warning(format!("error reading {name}: {reason}")));
            TableError { table: name.clone(), temporary: true }
        })
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.indexed.file.file();
        let until = Instant::now().checked_add(self.lock_timeout);
        let _lock = ReadLock::take(file, until).ok()?;
        let tree = Tree::open(file).ok()?;
        let (key, value) = tree.small_entry(values::is_foreign)?;
        Some((shown(postfix::text::until_nul(&key)), value))
    }

    fn changed(&self) -> Option<String> {
        self.indexed.changed()
    }
}

/// The shared lock; goes with the value.
struct ReadLock<'a> {
    file: &'a File,
}

impl<'a> ReadLock<'a> {
    fn take(file: &'a File, until: Option<Instant>) -> Result<Self, String> {
        loop {
            match set_lock(file, libc::F_RDLCK) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => {}
                Err(error) => return Err(format!("lock dictionary: {}", error.desc())),
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err("lock dictionary: another process holds the lock for too long".to_owned());
            }
            // A writer holds it for a moment only.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for ReadLock<'_> {
    fn drop(&mut self) {
        // Unlocking a file that is open cannot fail.
        let _ = set_lock(self.file, libc::F_UNLCK);
    }
}

fn set_lock(file: &File, kind: libc::c_int) -> Result<(), Errno> {
    let kind = libc::c_short::try_from(kind).map_err(|_| Errno::EINVAL)?;
    let whole_file = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file)).map(|_| ())
}

const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 136;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// The value stands on pages of its own.
const BIG_DATA: u16 = 0x01;
/// The pages of a tree that are looked at for a remark about its values.
const REMARK_PAGES_MAX: usize = 20_000;
/// No tree has more levels than this.
const DEPTH_MAX: usize = 64;

/// One state of the database, as the newer of the two meta pages describes it.
struct Tree<'a> {
    file: &'a File,
    page_bytes: usize,
    /// The page at the top; `None` if the database is empty.
    root: Option<u64>,
}

fn damaged() -> String {
    "MDB_CORRUPTED: Located page was wrong type".to_owned()
}

impl<'a> Tree<'a> {
    fn open(file: &'a File) -> Result<Self, String> {
        let invalid = || "MDB_INVALID: File is not an LMDB file".to_owned();
        // A writer may be changing a meta page right now: believe what is read twice.
        let mut seen = Self::metas(file)?;
        for _ in 0..100 {
            let again = Self::metas(file)?;
            if again == seen {
                break;
            }
            seen = again;
        }
        let valid = |meta: &Vec<u8>| u32_at(meta, 0) == Some(MAGIC);
        let newest = seen.iter().flatten().filter(|meta| valid(meta)).max_by_key(|meta| u64_at(meta, 128));
        let meta = newest.ok_or_else(invalid)?;
        if u32_at(meta, 4) != Some(VERSION) {
            return Err("MDB_VERSION_MISMATCH: Database environment version mismatch".to_owned());
        }
        let page_bytes = page_bytes(meta).ok_or_else(invalid)?;
        // The flags say how keys are ordered: other than by bytes, or with duplicates, is not postmap's.
        if u16_at(meta, 76) != Some(0) {
            return Err("MDB_INCOMPATIBLE: Operation and DB incompatible, or DB flags changed".to_owned());
        }
        let root = u64_at(meta, 112).filter(|&root| root != u64::MAX);
        Ok(Self { file, page_bytes, root })
    }

    /// The two meta pages without their headers; the second is found with the page size of the first.
    fn metas(file: &File) -> Result<[Option<Vec<u8>>; 2], String> {
        let Some(first) = read(file, PAGE_HEADER_BYTES as u64, META_BYTES)? else { return Ok([None, None]) };
        let second = match page_bytes(&first).and_then(|bytes| bytes.checked_add(PAGE_HEADER_BYTES)) {
            Some(at) => read(file, at as u64, META_BYTES)?,
            None => None,
        };
        Ok([Some(first), second])
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, String> {
        let at = number.checked_mul(self.page_bytes as u64).ok_or_else(damaged)?;
        read(self.file, at, self.page_bytes)?.ok_or_else(damaged)
    }

    fn find(&self, key: &[u8], value_bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(mut number) = self.root else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            let page = self.page(number)?;
            match u16_at(&page, 10) {
                Some(flags) if flags & BRANCH != 0 => number = branch(&page, key).ok_or_else(damaged)?,
                Some(LEAF) => return self.leaf(&page, key, value_bytes_max),
                _ => break,
            }
        }
        Err(damaged())
    }

    fn leaf(&self, page: &[u8], key: &[u8], value_bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        for index in 0..nodes(page) {
            let node = Node::at(page, index).ok_or_else(damaged)?;
            if node.key != key {
                continue;
            }
            let len = node.value_len();
            if u64::from(len) > value_bytes_max {
                return Err(damaged());
            }
            let len = usize::try_from(len).map_err(|_| damaged())?;
            return match node.flags {
                0 => Ok(Some(node.rest.get(..len).ok_or_else(damaged)?.to_vec())),
                BIG_DATA => self.big_value(node.rest, len).map(Some),
                _ => Err(damaged()),
            };
        }
        Ok(None)
    }

    /// The first entry with such a value among those that stand beside their keys, in a bounded part of the tree.
    fn small_entry(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut waiting: Vec<u64> = self.root.into_iter().collect();
        for _ in 0..REMARK_PAGES_MAX {
            let page = self.page(waiting.pop()?).ok()?;
            let nodes = (0..nodes(&page)).filter_map(|index| Node::at(&page, index));
            if u16_at(&page, 10)? & BRANCH != 0 {
                let mut below: Vec<u64> = nodes.map(|node| node.page_number()).collect();
                below.reverse();
                waiting.append(&mut below);
                waiting.truncate(REMARK_PAGES_MAX);
                continue;
            }
            for node in nodes.filter(|node| node.flags == 0) {
                let value = node.rest.get(..usize::try_from(node.value_len()).ok()?)?;
                if is_wanted(value) {
                    return Some((node.key.to_vec(), value.to_vec()));
                }
            }
        }
        None
    }

    /// A value on pages of its own; the node holds the number of the first.
    fn big_value(&self, node: &[u8], len: usize) -> Result<Vec<u8>, String> {
        let number = u64_at(node, 0).ok_or_else(damaged)?;
        let at = number.checked_mul(self.page_bytes as u64).ok_or_else(damaged)?;
        let header = read(self.file, at, PAGE_HEADER_BYTES)?.ok_or_else(damaged)?;
        if u16_at(&header, 10).is_none_or(|flags| flags & OVERFLOW == 0) {
            return Err(damaged());
        }
        let at = at.checked_add(PAGE_HEADER_BYTES as u64).ok_or_else(damaged)?;
        read(self.file, at, len)?.ok_or_else(damaged)
    }
}

/// The page below a branch page in which the key would be: that of the last node whose key is not greater. The first
/// node has no key, it stands for everything smaller.
fn branch(page: &[u8], key: &[u8]) -> Option<u64> {
    let mut number = Node::at(page, 0)?.page_number();
    for index in 1..nodes(page) {
        let node = Node::at(page, index)?;
        if node.key > key {
            break;
        }
        number = node.page_number();
    }
    Some(number)
}

/// How many nodes a page has: their offsets stand between the header and the lower bound of the free space.
fn nodes(page: &[u8]) -> usize {
    u16_at(page, 12).map_or(0, |lower| usize::from(lower).saturating_sub(PAGE_HEADER_BYTES) / 2)
}

/// An entry of a page.
struct Node<'a> {
    low: u16,
    high: u16,
    flags: u16,
    key: &'a [u8],
    /// Everything behind the key, to the end of the page.
    rest: &'a [u8],
}

impl<'a> Node<'a> {
    fn at(page: &'a [u8], index: usize) -> Option<Self> {
        let slot = index.checked_mul(2)?.checked_add(PAGE_HEADER_BYTES)?;
        let node = page.get(usize::from(u16_at(page, slot)?)..)?;
        let (first, second) = (u16_at(node, 0)?, u16_at(node, 2)?);
        let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        let (key, rest) = node.get(8..)?.split_at_checked(usize::from(u16_at(node, 6)?))?;
        Some(Self { low, high, flags: u16_at(node, 4)?, key, rest })
    }

    fn value_len(&self) -> u32 {
        u32::from(self.low) | u32::from(self.high) << 16
    }

    fn page_number(&self) -> u64 {
        u64::from(self.value_len()) | u64::from(self.flags) << 32
    }
}

fn page_bytes(meta: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(u32_at(meta, 24)?).ok()?;
    (bytes.is_power_of_two() && (512..=32768).contains(&bytes)).then_some(bytes)
}

/// Reads a piece of the file; `None` if the file is shorter.
fn read(file: &File, at: u64, len: usize) -> Result<Option<Vec<u8>>, String> {
    // Behind what any file can have. Whether this one has it says the read itself.
    let end = u64::try_from(len).ok().and_then(|len| at.checked_add(len));
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(system_words(&error)),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}
