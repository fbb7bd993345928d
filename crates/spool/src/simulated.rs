//! A disk in memory that fails and loses power on command, for tests of this crate and of its users.
//!
//! Every call of [`Disk`](crate::Disk) has a number, counted from 0. A test runs its work once, counts the calls, then runs it again
//! with a failure or a power cut at each. Bytes and names that were not synced are kept apart, since they get lost
//! apart. Whatever is left to chance follows from a seed (and from the
//! version of fastrand).

mod calls;
mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use rustix::io::Errno;

use crate::disk::{FileKind, Status, Timestamp};
use crate::sync::{Mutex, MutexGuard};
use inode::Inode;

pub use inode::{BLOCK_BYTES, Bytes};

/// The simulated disk. Cloning gives another handle to the same one.
#[derive(Debug, Clone)]
pub struct Simulated {
    world: Arc<Mutex<World>>,
    /// Who calls; see [`Simulated::as_process`].
    process: u64,
}

/// What becomes of the names that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All changes reached the disk.
    Kept,
    /// None did.
    Lost,
    /// Each did or did not, by the seed.
    Mixed,
}

/// A sync that can be taken out; see [`Simulated::make_sync_lie`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// [`Disk::sync`](crate::Disk::sync) of files below this directory.
    File(&'static str),
    /// [`Disk::sync_data`](crate::Disk::sync_data).
    Data,
    /// [`Disk::sync_all`](crate::Disk::sync_all).
    All,
}

#[derive(Debug, Clone)]
struct World {
    inodes: BTreeMap<u64, Inode>,
    /// What programs see: path to inode number.
    names: BTreeMap<String, u64>,
    /// What is certainly on disk.
    durable_names: BTreeMap<String, u64>,
    /// What lies between the two, in order.
    pending_names: Vec<NameChange>,
    locks: BTreeMap<u64, u64>,
    /// Those of flock(2), apart from the others.
    delivery_locks: BTreeMap<u64, u64>,
    /// Files that a process holds locked which lives on when this one is killed.
    held: BTreeSet<u64>,
    mount_id: u64,
    is_read_only: bool,
    open_handles: BTreeMap<u64, Handle>,
    next_number: u64,
    calls: u64,
    hook: Option<Hook>,
    faults: Vec<Fault>,
    power_cut_at: Option<u64>,
    lies: Vec<Lie>,
    has_locks: bool,
    has_sync_all: bool,
    /// The Linux error number of every try to prepare one; 0 for success.
    prepare_errno: i32,
    has_nameless_files: bool,
    umask: u32,
    clock: Timestamp,
    user: u32,
    /// Whose call it is.
    caller: u64,
    /// Processes that were killed.
    dead: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Handle {
    inode: u64,
    process: u64,
    /// Another process's sync lost bytes of this file: the next one through this handle says so, once, as Linux has done
    /// since 4.13.
    has_unreported_loss: bool,
}

#[derive(Debug, Clone)]
struct NameChange {
    inode: u64,
    removed: Option<String>,
    added: Option<String>,
}

/// What another process does before a call.
#[derive(Clone)]
struct Hook {
    call: u64,
    act: Arc<dyn Fn(&Simulated) + Send + Sync>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("call", &self.call).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Fault {
    calls: RangeInclusive<u64>,
    errno: i32,
    is_partial: bool,
}

/// An open file of a [`Simulated`] disk.
#[derive(Debug)]
pub struct SimulatedFile {
    world: Simulated,
    handle: u64,
    inode: u64,
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut world = self.world.lock();
        world.open_handles.remove(&self.handle);
        if world.locks.get(&self.inode) == Some(&self.handle) {
            world.locks.remove(&self.inode);
        }
        if world.delivery_locks.get(&self.inode) == Some(&self.handle) {
            world.delivery_locks.remove(&self.inode);
        }
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulated {
    /// An empty disk of user 1000, whose clock stands at a second in 2026.
    #[must_use]
    pub fn new() -> Self {
        Self::of(World {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeMap::new(),
            delivery_locks: BTreeMap::new(),
            held: BTreeSet::new(),
            mount_id: 0,
            is_read_only: false,
            open_handles: BTreeMap::new(),
            next_number: 11,
            calls: 0,
            hook: None,
            faults: Vec::new(),
            power_cut_at: None,
            lies: Vec::new(),
            has_locks: true,
            has_sync_all: true,
            prepare_errno: 0,
            has_nameless_files: true,
            umask: 0,
            clock: Timestamp { seconds: 1_795_000_000, microseconds: 0 },
            user: 1000,
            caller: 0,
            dead: BTreeSet::new(),
        })
    }

    fn of(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), process: 0 }
    }

    /// The same disk as another process sees it, which can be [killed](Self::kill) by itself. Until then all are process 0.
    #[must_use]
    pub fn as_process(&self, process: u64) -> Self {
        Self { world: Arc::clone(&self.world), process }
    }

    /// Kills a process: its descriptors and locks are gone, and no call of it has an effect from here on. What it wrote stays.
    pub fn kill(&self, process: u64) {
        let mut world = self.lock();
        world.dead.insert(process);
        let gone = |handle: &Handle| handle.process == process;
        let handles: BTreeSet<u64> =
            world.open_handles.iter().filter(|(_, handle)| gone(handle)).map(|(number, _)| *number).collect();
        world.open_handles.retain(|number, _| !handles.contains(number));
        world.locks.retain(|_, handle| !handles.contains(handle));
        world.delivery_locks.retain(|_, handle| !handles.contains(handle));
    }

    /// Ends the failures that [`Self::fail`] began or foresaw.
    pub fn end_failures(&self) {
        self.lock().faults.clear();
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many files are open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.lock().open_handles.len()
    }

    /// Makes the calls with these numbers fail with a Linux error number, without effect, or, with `is_partial`, after
    /// half of a write.
    pub fn fail(&self, calls: RangeInclusive<u64>, errno: i32, is_partial: bool) {
        self.lock().faults.push(Fault { calls, errno, is_partial });
    }

    /// Lets another process act just before the call with this number, by what does not count as a call.
    pub fn before_call(&self, call: u64, act: impl Fn(&Self) + Send + Sync + 'static) {
        self.lock().hook = Some(Hook { call, act: Arc::new(act) });
    }

    /// Gives a file another name as another program would, without counting as a call. `false` if it is not there.
    pub fn rename_by_another(&self, from: &str, to: &str) -> bool {
        let mut world = self.lock();
        let Ok(inode) = world.lookup(from) else { return false };
        world.change(NameChange { inode, removed: Some(from.to_owned()), added: Some(to.to_owned()) });
        true
    }

    /// Overwrites bytes of a file as another program would, or a disk that loses what it has, without counting as a call.
    ///
    /// # Panics
    /// There is no such file.
    pub fn overwrite_by_another(&self, path: &str, offset: u64, bytes: &[u8]) {
        let mut world = self.lock();
        let now = world.clock;
        let written = world.lookup(path).and_then(|inode| world.inode(inode)?.write(offset, bytes, now));
        assert!(written.is_ok(), "{path}: {written:?}");
    }

    /// Takes a file's name away as another program would, without counting as a call. `false` if it is not there.
    pub fn remove_by_another(&self, path: &str) -> bool {
        let mut world = self.lock();
        let Ok(inode) = world.lookup(path) else { return false };
        world.change(NameChange { inode, removed: Some(path.to_owned()), added: None });
        true
    }

    /// From the call with this number on nothing has an effect, and everything fails.
    pub fn cut_power_at(&self, call: u64) {
        self.lock().power_cut_at = Some(call);
    }

    /// Makes a kind of sync say yes and do nothing. A test that still passes then does not test durability.
    pub fn make_sync_lie(&self, lie: Lie) {
        self.lock().lies.push(lie);
    }

    /// Takes locks away, as some network file systems do.
    pub fn remove_locks(&self) {
        self.lock().has_locks = false;
    }

    /// Takes the sync of everything away, as on Linux before 5.8, where it cannot be trusted.
    pub fn remove_sync_all(&self) {
        self.lock().has_sync_all = false;
    }

    /// Lets nothing be prepared for a sync of everything, with a Linux error number; 0 ends that.
    pub fn fail_preparing(&self, errno: i32) {
        self.lock().prepare_errno = errno;
    }

    /// Takes files without a name away, as many file systems and kernels do.
    pub fn remove_nameless_files(&self) {
        self.lock().has_nameless_files = false;
    }

    /// Takes these permission bits away from new files without a name, as a umask or an access control list does.
    pub fn set_umask(&self, umask: u32) {
        self.lock().umask = umask;
    }

    /// Sets the clock of the file system, which stamps files.
    pub fn set_clock(&self, clock: Timestamp) {
        self.lock().clock = clock;
    }

    /// Lets the system tell the ID of the mount, as Linux does since 6.8.
    pub fn set_mount_id(&self, id: u64) {
        self.lock().mount_id = id;
    }

    /// Lets nothing be changed or synced any more, as a file system does that has met an error.
    pub fn make_read_only(&self) {
        self.lock().is_read_only = true;
    }

    /// Puts a file there that another process holds locked. It lives on when this one is killed.
    pub fn hold(&self, path: &str) {
        self.put(path, 0o644, b"");
        self.hold_there(path);
    }

    /// Lets another process hold the lock of a file that is there.
    pub fn hold_there(&self, path: &str) {
        let mut world = self.lock();
        if let Ok(number) = world.lookup(path) {
            world.held.insert(number);
        }
    }

    /// Makes everything that was written so far durable, and forgets which calls there were.
    pub fn make_durable(&self) {
        let mut world = self.lock();
        world.sync_all();
        world.calls = 0;
    }

    /// Moves a directory to another file system.
    pub fn set_device(&self, path: &str, device: u64) {
        let mut world = self.lock();
        if let Ok(number) = world.lookup(path)
            && let Ok(inode) = world.inode(number)
        {
            inode.device = device;
        }
    }

    /// Changes the user whose files the new ones will be.
    pub fn set_user(&self, user: u32) {
        self.lock().user = user;
    }

    /// The same disk as the next process finds it after this one was killed: everything written is there, locks and
    /// descriptors are gone.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut world = self.lock().clone();
        world.calm();
        Self::of(world)
    }

    /// The same disk as the machine finds it after a power cut, or when the file system failed and was mounted anew without one:
    /// what was not synced is lost all the same, and so are all locks.
    #[must_use]
    pub fn after_power_cut(&self, names: Names, bytes: Bytes, seed: u64) -> Self {
        let mut world = self.lock().clone();
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut stopped = BTreeSet::new();
        for change in std::mem::take(&mut world.pending_names) {
            let is_kept = match names {
                Names::Kept => true,
                Names::Lost => false,
                Names::Mixed => chance.bool(),
            };
            // What happens to one file reaches the disk in order: once a change is lost, so are the later ones.
            let parent = change.added.as_deref().and_then(|path| path.rsplit_once('/'));
            let has_parent = parent.is_none_or(|(parent, _)| world.durable_names.contains_key(parent));
            if is_kept && has_parent && !stopped.contains(&change.inode) {
                change.apply(&mut world.durable_names);
            } else {
                stopped.insert(change.inode);
            }
        }
        world.names = world.durable_names.clone();
        for (number, inode) in &mut world.inodes {
            inode.lose_power(bytes, !stopped.contains(number), &mut chance);
        }
        let named: BTreeSet<u64> = world.names.values().copied().collect();
        world.inodes.retain(|number, _| named.contains(number));
        world.calm();
        world.held.clear();
        world.is_read_only = false;
        if world.mount_id != 0 {
            world.mount_id += 1;
        }
        Self::of(world)
    }

    /// The bytes of a file, without counting as a call.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let world = self.lock();
        let inode = world.inodes.get(world.names.get(path)?)?;
        Some(inode.visible.bytes.clone())
    }

    /// The permission bits of a file, without counting as a call.
    #[must_use]
    pub fn mode(&self, path: &str) -> Option<u32> {
        let world = self.lock();
        let inode = world.inodes.get(world.names.get(path)?)?;
        Some(inode.visible.mode)
    }

    /// The paths of all regular files, in order, without counting as a call.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let world = self.lock();
        let is_file = |inode: &u64| world.inodes.get(inode).is_some_and(|i| i.kind == FileKind::Regular);
        world.names.iter().filter(|(_, inode)| is_file(inode)).map(|(name, _)| name.clone()).collect()
    }

    /// Puts a file there as another program would, synced, without counting as a call.
    pub fn put(&self, path: &str, mode: u32, bytes: &[u8]) {
        let mut world = self.lock();
        let number = world.add(path, FileKind::Regular, mode);
        if let Some(inode) = world.inodes.get_mut(&number) {
            inode.visible.bytes = bytes.to_vec();
            inode.durable = inode.visible.clone();
        }
        world.sync_names(number);
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call, behind what another process does just before it.
    fn enter(&self) -> MutexGuard<'_, World> {
        let mut world = self.lock();
        let calls = world.calls;
        if let Some(hook) = world.hook.take_if(|hook| hook.call == calls) {
            drop(world);
            (hook.act)(self);
            world = self.lock();
        }
        world.caller = self.process;
        world
    }

    /// Begins a call: counts it and lets it fail if it is its turn.
    fn call(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.enter();
        match world.begin_call() {
            None => Ok(world),
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
        }
    }

    /// Begins a call that changes something.
    fn change(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.call()?;
        if world.is_read_only { Err(Errno::ROFS.into()) } else { Ok(world) }
    }

    fn open_handle(&self, world: &mut World, inode: u64) -> SimulatedFile {
        let handle = world.number();
        world
            .open_handles
            .insert(handle, Handle { inode, process: self.process, has_unreported_loss: false });
        SimulatedFile { world: self.clone(), handle, inode }
    }
}

impl World {
    fn begin_call(&mut self) -> Option<Fault> {
        let number = self.calls;
        self.calls += 1;
        if self.is_cut_off() || self.power_cut_at.is_some_and(|cut| number >= cut) {
            return Some(Fault { calls: 0..=0, errno: Errno::IO.raw_os_error(), is_partial: false });
        }
        self.faults.iter().find(|fault| fault.calls.contains(&number)).cloned()
    }

    /// Whether the caller was killed.
    fn is_cut_off(&self) -> bool {
        self.dead.contains(&self.caller)
    }

    /// Begins the sync of a file, which fails if it is its turn, or if bytes of the file were lost since the last one.
    fn begin_sync(&mut self, file: &SimulatedFile) -> io::Result<()> {
        let fault = self.begin_call();
        if fault.is_some() && self.power_cut_at.is_none() && !self.is_cut_off() {
            self.lose_dirty(|inode| inode == file.inode);
        }
        let handle = self.open_handles.get_mut(&file.handle);
        let was_lost = handle.is_some_and(|handle| std::mem::take(&mut handle.has_unreported_loss));
        match fault {
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None if was_lost => Err(Errno::IO.into()),
            None if self.is_read_only => Err(Errno::ROFS.into()),
            None => Ok(()),
        }
    }

    /// A sync failed: what these files had to write never gets to the disk, and every open handle of theirs will say so.
    fn lose_dirty(&mut self, is_concerned: impl Fn(u64) -> bool) {
        for (number, inode) in &mut self.inodes {
            if is_concerned(*number) && inode.lose_dirty() {
                let handles = self.open_handles.values_mut().filter(|handle| handle.inode == *number);
                handles.for_each(|handle| handle.has_unreported_loss = true);
            }
        }
    }

    fn calm(&mut self) {
        self.locks.clear();
        self.delivery_locks.clear();
        self.open_handles.clear();
        self.calls = 0;
        self.hook = None;
        self.faults.clear();
        self.power_cut_at = None;
        self.lies.clear();
        self.dead.clear();
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| Errno::BADF.into())
    }

    fn lookup(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| Errno::NOENT.into())
    }

    /// The directory that a path is in must exist.
    fn check_parent(&self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            None => Ok(()),
            Some((parent, _)) => match self.inodes.get(&self.lookup(parent)?) {
                Some(inode) if inode.kind == FileKind::Directory => Ok(()),
                _ => Err(Errno::NOTDIR.into()),
            },
        }
    }

    fn add(&mut self, path: &str, kind: FileKind, mode: u32) -> u64 {
        let number = self.add_nameless(kind, mode);
        self.change(NameChange { inode: number, removed: None, added: Some(path.to_owned()) });
        number
    }

    fn add_nameless(&mut self, kind: FileKind, mode: u32) -> u64 {
        let number = self.number();
        let inode = Inode::new(kind, mode, self.user, self.clock);
        self.inodes.insert(number, inode);
        number
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        for path in [&change.removed, &change.added].into_iter().flatten() {
            let parent = path.rsplit_once('/').and_then(|(parent, _)| self.names.get(parent));
            if let Some(directory) = parent.and_then(|number| self.inodes.get_mut(number)) {
                directory.visible.modified = self.clock;
            }
        }
        self.pending_names.push(change);
    }

    /// Makes the names of a file durable, and those of the directories above it.
    fn sync_names(&mut self, number: u64) {
        let mut wanted = BTreeSet::from([number]);
        for (path, inode) in &self.names {
            if *inode == number {
                let above = path.match_indices('/').filter_map(|(at, _)| self.names.get(path.get(..at)?));
                wanted.extend(above);
            }
        }
        // One name changes in order: what happened to it before, with another file, is on disk too.
        loop {
            let is_wanted = |change: &&NameChange| wanted.contains(&change.inode);
            let paths: BTreeSet<&str> =
                self.pending_names.iter().filter(is_wanted).flat_map(NameChange::paths).collect();
            let touched =
                self.pending_names.iter().filter(|change| change.paths().any(|path| paths.contains(path)));
            let more: BTreeSet<u64> =
                touched.map(|change| change.inode).filter(|inode| !wanted.contains(inode)).collect();
            if more.is_empty() {
                break;
            }
            wanted.extend(more);
        }
        let changes = std::mem::take(&mut self.pending_names);
        let (synced, pending) = changes.into_iter().partition(|change| wanted.contains(&change.inode));
        self.pending_names = pending;
        for change in Vec::into_iter(synced) {
            change.apply(&mut self.durable_names);
        }
    }

    fn sync_all(&mut self) {
        self.inodes.values_mut().for_each(Inode::sync);
        self.durable_names = self.names.clone();
        self.pending_names.clear();
    }

    fn status(&self, number: u64) -> io::Result<Status> {
        let inode = self.inodes.get(&number).ok_or(Errno::BADF)?;
        Ok(Status {
            kind: inode.kind,
            mode: inode.visible.mode,
            inode: number,
            device: inode.device,
            links: self.names.values().filter(|inode| **inode == number).count() as u64,
            size_bytes: inode.visible.bytes.len() as u64,
            modified: inode.visible.modified,
            uid: inode.uid,
            gid: inode.gid,
        })
    }
}

impl NameChange {
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().chain(&self.added).map(String::as_str)
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(removed) = &self.removed {
            names.remove(removed);
        }
        if let Some(added) = &self.added {
            names.insert(added.clone(), self.inode);
        }
    }
}
