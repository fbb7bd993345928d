//! The machine, its processes, and what happens to them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use postfix::notice::Notice;
use shuttle::thread::spawn;
use spool::committer::{Clock, Committers, Job};
use spool::journal::continuity::Witness;
use spool::journal::settlement::has_orphans;
use spool::journal::{self, BootId, Instance, WitnessId};
use spool::simulated::{Bytes, Names, Simulated};
use spool::{CommitWay, Disk as _, Draft, Options, Queue, Receipt, Spool, SpoolError, Timestamp};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::plan::Plan;

/// The second at which a world begins.
const BEGIN_SECS: u64 = 1_795_000_000;

/// A service process that takes mail.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) number: u64,
    pub(crate) is_alive: Arc<AtomicBool>,
    pub(crate) committers: Arc<Committers<Simulated>>,
}

/// What changes when the machine or its programs do.
pub(crate) struct Machine {
    pub(crate) disk: Simulated,
    boot: u64,
    next_process: u64,
    /// Those that are alive, with what tells their tasks so.
    alive: Vec<(u64, Arc<AtomicBool>)>,
    witness: Option<Witness<Simulated>>,
    /// It has tried to make its witness.
    has_master: bool,
    pub(crate) servers: Vec<Server>,
    pub(crate) is_starting: bool,
    /// How many look after journals just now.
    settlers: u64,
    /// The queue manager that is at work.
    pub(crate) manager: Option<u64>,
}

/// See the [module](self). Its locks are those of the standard library: no task waits while it holds one.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: AtomicU64,
    pub(crate) chance: Mutex<Chance>,
    pub(crate) machine: Mutex<Machine>,
    pub(crate) ledger: Mutex<Ledger>,
    /// What happened, line by line.
    pub(crate) story: Mutex<Vec<String>>,
}

/// What holds when another task panicked is for the account to say.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64) -> Arc<Self> {
        let disk = Simulated::new();
        if plan.has_mount_ids {
            disk.set_mount_id(7);
        }
        if !plan.has_sync_all {
            disk.remove_sync_all();
        }
        let machine = Machine {
            disk,
            boot: 1,
            next_process: 1,
            alive: Vec::new(),
            witness: None,
            has_master: false,
            servers: Vec::new(),
            is_starting: false,
            settlers: 0,
            manager: None,
        };
        Arc::new(Self {
            plan,
            now: AtomicU64::new(0),
            chance: Mutex::new(Chance::new(seed, "world")),
            machine: Mutex::new(machine),
            ledger: Mutex::default(),
            story: Mutex::default(),
        })
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        lock(&self.chance).below(limit)
    }

    pub(crate) fn percent(&self, percent: u64) -> bool {
        lock(&self.chance).percent(percent)
    }

    /// Microseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.now.fetch_add(1, Ordering::Relaxed);
        let seconds = BEGIN_SECS + now / 1_000_000;
        Timestamp { seconds, microseconds: (now % 1_000_000) as u32 }
    }

    pub(crate) fn tell(&self, words: &str) {
        let now = self.now();
        let line = format!("{:5}.{:06} {words}", now / 1_000_000, now % 1_000_000);
        lock(&self.story).push(line);
    }

    /// Begins a process: its number, its view of the disk, and whether it lives.
    pub(crate) fn begin_process(&self) -> (u64, Simulated, Arc<AtomicBool>) {
        let mut machine = lock(&self.machine);
        let number = machine.next_process;
        machine.next_process += 1;
        let is_alive = Arc::new(AtomicBool::new(true));
        machine.alive.push((number, Arc::clone(&is_alive)));
        (number, machine.disk.as_process(number), is_alive)
    }

    /// The end of a process, in order or not: nothing that its tasks still do counts.
    pub(crate) fn end_process(&self, number: u64) {
        // First the disk: what a process did that others know to be dead would count for no one.
        self.disk().kill(number);
        let servers: Vec<Server> = {
            let mut machine = lock(&self.machine);
            for (_, is_alive) in machine.alive.iter().filter(|(other, _)| *other == number) {
                is_alive.store(false, Ordering::Relaxed);
            }
            machine.alive.retain(|(other, _)| *other != number);
            let (gone, rest) =
                std::mem::take(&mut machine.servers).into_iter().partition(|s| s.number == number);
            machine.servers = rest;
            gone
        };
        // What is left of it finds out by itself that it is dead; the world does not wait for that.
        spawn(move || drop(servers));
    }

    /// The end of all processes.
    pub(crate) fn end_all(&self) {
        let (numbers, witness) = {
            let mut machine = lock(&self.machine);
            if machine.settlers > 0 {
                lock(&self.ledger).settlement_was_cut_short();
            }
            machine.is_starting = false;
            machine.manager = None;
            machine.has_master = false;
            machine.settlers = 0;
            (machine.alive.iter().map(|(number, _)| *number).collect::<Vec<_>>(), machine.witness.take())
        };
        numbers.into_iter().for_each(|number| self.end_process(number));
        drop(witness);
        lock(&self.ledger).crash();
    }

    /// The disk loses what was not synced. `reboots`: the machine begins anew, too.
    pub(crate) fn lose_power(&self, reboots: bool) {
        let names = [Names::Kept, Names::Lost, Names::Mixed][self.below(3) as usize];
        let bytes = [Bytes::Kept, Bytes::Lost, Bytes::Ordered, Bytes::Torn][self.below(4) as usize];
        let seed = self.below(u64::MAX);
        let disk = lock(&self.machine).disk.clone();
        // First the cut: no task may be told that something is on disk that the new one will not have.
        disk.cut_power_at(0);
        let after = disk.after_power_cut(names, bytes, seed);
        self.end_all();
        let mut machine = lock(&self.machine);
        machine.disk = after;
        machine.boot += u64::from(reboots);
    }

    pub(crate) fn options(&self, has_journal: bool) -> Options {
        let plan = &self.plan;
        let instance = Instance(std::array::from_fn(|_| self.below(256) as u8));
        let hashed: &[&str] = if plan.is_hashed { &["incoming", "deferred", "hold"] } else { &["deferred"] };
        let boot = lock(&self.machine).boot;
        Options {
            hash_queue_names: hashed.iter().map(|name| (*name).to_owned()).collect(),
            hash_queue_depth: 1,
            long_queue_ids: plan.long_queue_ids,
            names_drafts: plan.names_drafts,
            create_missing: true,
            commit_way: match plan.has_journal && has_journal {
                false => CommitWay::File,
                true => CommitWay::Journal(journal::Options {
                    instance,
                    // Time limits do not run here; a task of the world's makes the checkpoints that are due.
                    checkpoint_delay: Duration::from_secs(3_600),
                    checkpoint_bytes: plan.checkpoint_bytes,
                }),
            },
            boot_id: BootId::parse(&format!("{boot:032x}")),
        }
    }

    /// What the master does first, and once: it proves to others that this mount lasts.
    pub(crate) fn start_master(self: &Arc<Self>) {
        if !self.plan.has_witness || std::mem::replace(&mut lock(&self.machine).has_master, true) {
            return;
        }
        let id = WitnessId(std::array::from_fn(|_| 1 + self.below(255) as u8));
        let (_, disk, _) = self.begin_process();
        // It may be there.
        let _ = disk.create_directory(journal::DIRECTORY, 0o700);
        let witness = Witness::create(disk, id).ok();
        lock(&self.machine).witness = witness;
    }

    fn has_proof(&self) -> bool {
        lock(&self.machine).witness.is_some() || self.plan.has_mount_ids
    }

    fn notify(self: &Arc<Self>, number: u64, is_alive: &Arc<AtomicBool>) -> spool::Notify {
        let (world, is_alive) = (Arc::clone(self), Arc::clone(is_alive));
        Arc::new(move |notice: Notice| {
            if is_alive.load(Ordering::Relaxed) {
                world.tell(&format!("[{number}] {}", notice.text));
            }
        })
    }

    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        let world = Arc::clone(self);
        Arc::new(move || world.timestamp())
    }

    /// Opens the queue, settles, and takes mail, as a service process does.
    pub(crate) fn start_server(self: &Arc<Self>) {
        lock(&self.machine).is_starting = true;
        let (number, disk, is_alive) = self.begin_process();
        self.tell(&format!("[{number}] starts"));
        let world = Arc::clone(self);
        let options = self.options(true);
        let started = self.timestamp();
        spawn(move || {
            let notify = world.notify(number, &is_alive);
            let opened = Spool::open(disk, &options, notify).and_then(|spool| {
                world.settle(&spool, &is_alive);
                spool.remove_stale(started).map(|_| spool)
            });
            let committers = opened.map_err(|error| error.to_string()).and_then(|spool| {
                Committers::start(spool, world.clock(), world.plan.committers, 100).map_err(|e| e.to_string())
            });
            let mut machine = lock(&world.machine);
            let is_alive_now = is_alive.load(Ordering::Relaxed);
            if is_alive_now {
                machine.is_starting = false;
            }
            match committers {
                Ok(committers) if is_alive_now => {
                    machine.servers.push(Server { number, is_alive, committers: Arc::new(committers) });
                }
                Ok(committers) => {
                    drop(machine);
                    drop(committers);
                }
                Err(error) => {
                    drop(machine);
                    if is_alive_now {
                        world.tell(&format!("[{number}] does not start: {error}"));
                        world.end_process(number);
                    }
                }
            }
        });
    }

    /// Looks after journals, and says in the ledger when nothing can come back any more.
    fn settle(self: &Arc<Self>, spool: &Spool<Simulated>, is_alive: &Arc<AtomicBool>) {
        // Without proof, what was delivered since the process died comes back; that is documented.
        if !self.has_proof() {
            lock(&self.ledger).crash();
        }
        lock(&self.machine).settlers += 1;
        let settled = spool.settle(&*self.clock());
        if !is_alive.load(Ordering::Relaxed) {
            return;
        }
        let mut machine = lock(&self.machine);
        machine.settlers = machine.settlers.saturating_sub(1);
        let is_over = machine.settlers == 0 && settled.is_ok_and(|settled| settled.kept == 0);
        drop(machine);
        if is_over {
            lock(&self.ledger).settle(self.now());
        }
    }

    /// A process that only settles, as the master starts it beside one that takes mail.
    pub(crate) fn start_settlement(self: &Arc<Self>) {
        let (number, disk, is_alive) = self.begin_process();
        let world = Arc::clone(self);
        let options = self.options(false);
        spawn(move || {
            if has_orphans(&disk).unwrap_or(false) {
                let notify = world.notify(number, &is_alive);
                if let Ok(spool) = Spool::open(disk, &options, notify) {
                    world.settle(&spool, &is_alive);
                }
            }
            if is_alive.load(Ordering::Relaxed) {
                world.end_process(number);
            }
        });
    }

    /// A client sends a message: in one job or in several, and some of them go away in the middle.
    pub(crate) fn submit(self: &Arc<Self>) {
        let servers = lock(&self.machine).servers.clone();
        let Some(server) = servers.last().cloned() else { return };
        let lines = self.below(self.plan.lines_max);
        let (number, bytes) = lock(&self.ledger).begin(lines);
        let (is_streamed, holds, goes_away) = (self.percent(20), self.percent(5), self.percent(5));
        let world = Arc::clone(self);
        let again = Arc::downgrade(&server.committers);
        let is_alive = Arc::clone(&server.is_alive);
        let done = Box::new(move |draft: Result<Draft<Simulated>, SpoolError>| {
            let Ok(mut draft) = draft else { return };
            if holds {
                draft.hold();
            }
            if goes_away {
                hand_in(&again, Job::Discard { draft, done: Box::new(|()| ()) });
                return;
            }
            let writes = match is_streamed {
                true => {
                    let (front, rest) = bytes.split_at(bytes.len() / 2);
                    vec![(front.len() as u64, rest.to_vec()), (0, front.to_vec())]
                }
                false => vec![(0, bytes)],
            };
            let done = Box::new(move |outcome: Result<Receipt, SpoolError>| {
                if let Ok(receipt) = outcome
                    && is_alive.load(Ordering::Relaxed)
                {
                    lock(&world.ledger).accept(number);
                    world.tell(&format!("m{number} is accepted as {}", receipt.queue_id()));
                }
            });
            hand_in(&again, Job::Commit { draft, writes, done });
        });
        let _ = server.committers.submit(Job::Create { done });
        // The last owner may not be the world: it would wait.
        spawn(move || drop((server, servers)));
    }

    /// Stops all servers in order.
    pub(crate) fn stop_all(self: &Arc<Self>) {
        let servers = lock(&self.machine).servers.clone();
        servers.into_iter().for_each(|server| self.stop(server));
    }

    /// The disk as it is now. No lock of the world's is held while it is used.
    pub(crate) fn disk(&self) -> Simulated {
        lock(&self.machine).disk.clone()
    }

    /// A checkpoint whose time has come, in each server.
    pub(crate) fn checkpoint(&self) {
        let servers = lock(&self.machine).servers.clone();
        for server in servers {
            spawn(move || server.committers.spool().checkpoint());
        }
    }

    /// Stops a server in order.
    pub(crate) fn stop(self: &Arc<Self>, server: Server) {
        self.tell(&format!("[{}] drains and stops", server.number));
        lock(&self.machine).servers.retain(|other| other.number != server.number);
        let world = Arc::clone(self);
        spawn(move || {
            server.committers.shut_down();
            if server.is_alive.load(Ordering::Relaxed) {
                world.tell(&format!("[{}] has stopped", server.number));
                world.end_process(server.number);
            }
        });
    }

    /// What is whole in the queues, by number.
    pub(crate) fn queued(&self) -> std::collections::BTreeSet<u64> {
        let disk = lock(&self.machine).disk.clone();
        let in_queue = |path: &String| Queue::parse(path.split('/').next().unwrap_or_default()).is_some();
        let whole = disk.files().into_iter().filter(in_queue).filter(|path| disk.mode(path) == Some(0o700));
        let bytes: Vec<_> = whole.filter_map(|path| disk.bytes(&path)).collect();
        let ledger = lock(&self.ledger);
        bytes.iter().filter_map(|bytes| ledger.number_of(bytes)).collect()
    }
}

fn hand_in(committers: &Weak<Committers<Simulated>>, job: Job<Simulated>) {
    if let Some(committers) = committers.upgrade() {
        let _ = committers.submit(job);
    }
}
