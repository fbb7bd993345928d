//! The queue manager of this world: it takes messages by [`spool::lease`], and delivers, puts off or holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::thread::spawn;
use spool::lease::{Queues, Taken};
use spool::simulated::Simulated;
use spool::{Entry, Queue, Timestamp};

use crate::world::{World, lock};

/// The most that a file of this world has.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// One round of the queue manager: it looks, takes some messages, and does something with each. `delivers_all`: that is to
/// deliver it.
pub(crate) fn start_round(world: &Arc<World>, delivers_all: bool) {
    if lock(&world.machine).manager.is_some() {
        return;
    }
    let (number, disk, is_alive) = world.begin_process();
    lock(&world.machine).manager = Some(number);
    let world = Arc::clone(world);
    spawn(move || {
        let hashed = world.options(false).hash_queue_names;
        let queues = Queues::new(disk.clone(), hashed, 1);
        if let Err(error) = queues.return_active(world.timestamp(), |_| ()) {
            world.tell(&format!("[{number}] {error}"));
        }
        for queue in [Queue::Incoming, Queue::Deferred] {
            let ready = spool::queue::list(&disk, queue).filter_map(Result::ok).filter(Entry::is_ready);
            for entry in ready.collect::<Vec<_>>() {
                if delivers_all || world.percent(70) {
                    work(&world, &queues, &entry, &is_alive, delivers_all);
                }
            }
        }
        if is_alive.load(Ordering::Relaxed) {
            lock(&world.machine).manager = None;
            world.end_process(number);
        }
    });
}

fn work(
    world: &Arc<World>,
    queues: &Arc<Queues<Simulated>>,
    entry: &Entry,
    is_alive: &Arc<AtomicBool>,
    delivers_all: bool,
) {
    let now = world.timestamp();
    let Ok(Taken::Lease(lease)) = queues.take(entry, now) else { return };
    let mut bytes = vec![0; FILE_BYTES_MAX];
    let Ok(count) = lease.read_at(0, &mut bytes) else { return };
    bytes.truncate(count);
    let number = lock(&world.ledger).number_of(&bytes);
    let is_alive = || is_alive.load(Ordering::Relaxed);
    let Some(number) = number else {
        if is_alive() {
            world.tell(&format!("{} is set aside: it is not whole", entry.queue_id));
        }
        let _ = lease.set_aside();
        return;
    };
    if !is_alive() {
        return;
    }
    let lot = if delivers_all { 0 } else { world.below(100) };
    match lot {
        0..75 => {
            world.tell(&format!("m{number} is delivered, as {}", entry.queue_id));
            lock(&world.ledger).deliver(number, world.now());
            if lease.finish().is_err() || !is_alive() {
                lock(&world.ledger).may_repeat(number);
            }
        }
        75..95 => {
            let _ = lease.defer(Timestamp { seconds: now.seconds + 60, ..now });
        }
        _ => {
            let _ = lease.hold();
        }
    }
}
