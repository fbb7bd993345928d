//! Runs a world from its first event to its account.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use spool::journal::settlement::has_orphans;

use crate::ledger::Totals;
use crate::manager;
use crate::order::{Order, Pace};
use crate::plan::{Fault, Plan, Run};
use crate::world::{World, lock};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const STACK_BYTES: usize = 256 * 1024;
/// More than any run needs: one that never ends is a failure.
const STEPS_MAX: usize = 20_000_000;

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What must not be, in words; empty: all is well.
    pub failures: Vec<String>,
    /// What happened, line by line.
    pub story: Vec<String>,
    /// Choices of who runs next, and their checksum.
    pub steps: (u64, u64),
    /// Messages.
    pub totals: Totals,
}

/// Runs the world of a seed.
///
/// # Panics
/// Never: a panic of the code under test is a failure of the outcome.
#[must_use]
pub fn run(run: &Run) -> Outcome {
    if !cfg!(shuttle) {
        let failures = vec!["the simulator works under --cfg shuttle alone: make simulate".to_owned()];
        return Outcome { failures, ..Outcome::default() };
    }
    let pace = Arc::new(Pace::default());
    let order = Order::new(run.seed, Arc::clone(&pace));
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let result = {
        let (run, pace, outcome) = (run.clone(), Arc::clone(&pace), Arc::clone(&outcome));
        let drive = move || drive(&run, &pace, &outcome);
        catch_unwind(AssertUnwindSafe(|| Runner::new(order, config).run(drive)))
    };
    let mut outcome = lock(&outcome).clone();
    if result.is_err() {
        outcome.failures.push("a task panicked, or all of them wait".to_owned());
    }
    outcome.steps = pace.steps();
    outcome
}

/// The smallest run that fails as this one does: without a kind of fault after the other, then for half as long.
#[must_use]
pub fn shrink(failing: &Run) -> Run {
    let fails = |candidate: &Run| !run(candidate).failures.is_empty();
    let mut smallest = failing.clone();
    for fault in Fault::ALL {
        let mut candidate = smallest.clone();
        if candidate.without.insert(fault) && fails(&candidate) {
            smallest = candidate;
        }
    }
    while smallest.until_secs > 1 {
        let candidate = Run { until_secs: smallest.until_secs / 2, ..smallest.clone() };
        if !fails(&candidate) {
            break;
        }
        smallest = candidate;
    }
    smallest
}

/// What happens when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Submit,
    Round,
    Checkpoint,
    /// The master looks: is there a server, is there a journal without a process?
    Supervise,
    Fault,
}

fn drive(run: &Run, pace: &Pace, outcome: &Mutex<Outcome>) {
    let plan = Plan::draw(run);
    let world = World::new(plan, run.seed);
    world.tell(&format!("the seed drew {:?}", world.plan));
    world.start_master();
    world.start_server();
    pace.until_idle();
    let mut events = BinaryHeap::new();
    for event in [Event::Submit, Event::Round, Event::Checkpoint, Event::Supervise, Event::Fault] {
        events.push(Reverse((pause(&world, event), event)));
    }
    while let Some(Reverse((at, event))) = events.pop() {
        if at > run.until_secs * 1_000_000 {
            break;
        }
        world.now.fetch_max(at, Ordering::Relaxed);
        happen(&world, event);
        events.push(Reverse((world.now() + pause(&world, event), event)));
        pace.let_run(world.below(12));
        if world.percent(50) {
            pace.until_idle();
        }
    }
    finish(&world, pace);
    let mut outcome = lock(outcome);
    let ledger = lock(&world.ledger);
    outcome.failures = ledger.failures.clone();
    outcome.totals = ledger.totals();
    outcome.story = lock(&world.story).clone();
}

/// Until the next event of this kind, in microseconds.
fn pause(world: &World, event: Event) -> u64 {
    let average_ms = match event {
        Event::Submit => world.plan.pause_ms,
        Event::Round => 3_000,
        Event::Checkpoint => 1_000,
        Event::Supervise => 1_500,
        Event::Fault => world.plan.calm_secs * 1_000,
    };
    1 + world.below(2 * average_ms * 1_000)
}

fn happen(world: &Arc<World>, event: Event) {
    match event {
        Event::Submit => (0..=world.below(4)).for_each(|_| world.submit()),
        Event::Round if world.plan.has_queue_manager => manager::start_round(world, false),
        Event::Round => {}
        Event::Checkpoint => world.checkpoint(),
        Event::Supervise => {
            world.start_master();
            let is_down = {
                let machine = lock(&world.machine);
                machine.servers.is_empty() && !machine.is_starting
            };
            if is_down { world.start_server() } else { world.start_settlement() }
        }
        Event::Fault => {
            let faults: Vec<Fault> = world.plan.faults.iter().copied().collect();
            if let Some(fault) = faults.get(world.below(faults.len() as u64) as usize) {
                strike(world, *fault);
            }
        }
    }
}

fn strike(world: &Arc<World>, fault: Fault) {
    world.tell(&format!("--- {fault}"));
    let (disk, server, manager) = {
        let machine = lock(&world.machine);
        (machine.disk.clone(), machine.servers.first().cloned(), machine.manager)
    };
    match (fault, server) {
        (Fault::Kill, Some(server)) => world.end_process(server.number),
        (Fault::KillAll, _) => world.end_all(),
        (Fault::PowerCut, _) => world.lose_power(true),
        (Fault::Remount, _) => world.lose_power(false),
        (Fault::NoSpace | Fault::Error, _) => {
            let first = disk.calls() + world.below(40);
            let errno = if fault == Fault::NoSpace { ENOSPC } else { EIO };
            // What settlement cannot look at proves nothing, and comes back.
            lock(&world.ledger).crash();
            disk.fail(
                first..=first + world.below(if fault == Fault::NoSpace { 60 } else { 4 }),
                errno,
                world.percent(50),
            );
        }
        (Fault::KillManager, _) => {
            if let Some(number) = manager {
                lock(&world.machine).manager = None;
                world.end_process(number);
            }
        }
        (Fault::Reload, Some(server)) => {
            world.start_server();
            world.stop(server);
        }
        (Fault::Stop, Some(server)) => world.stop(server),
        (Fault::Operator, _) => operate(world),
        (Fault::Kill | Fault::Reload | Fault::Stop, None) => {}
    }
}

/// An operator removes a message, or moves it to or from `hold`.
fn operate(world: &World) {
    let disk = world.disk();
    let is_message = |path: &String| path.starts_with("incoming/") || path.starts_with("deferred/");
    let paths: Vec<_> = disk.files().into_iter().filter(is_message).collect();
    let Some(path) = paths.get(world.below(paths.len() as u64) as usize) else { return };
    let number = disk.bytes(path).and_then(|bytes| lock(&world.ledger).number_of(&bytes));
    let Some(number) = number else { return };
    if world.percent(50) {
        lock(&world.ledger).remove(number);
        world.tell(&format!("an operator removes m{number}, {path}"));
        disk.remove_by_another(path);
    } else if let Some((_, id)) = path.rsplit_once('/') {
        world.tell(&format!("an operator holds m{number}, {path}"));
        disk.rename_by_another(path, &format!("hold/{id}"));
    }
}

/// The last fault, then a quiet time in which everything due must happen, then the account.
fn finish(world: &Arc<World>, pace: &Pace) {
    world.disk().end_failures();
    let last = world.below(4);
    world.tell(&format!("--- the end, of kind {last}"));
    match last {
        0 => world.end_all(),
        1 => world.lose_power(true),
        2 => world.lose_power(false),
        _ => {}
    }
    pace.until_idle();
    world.disk().end_failures();
    world.stop_all();
    pace.until_idle();
    for _ in 0..3 {
        world.start_settlement();
        pace.until_idle();
    }
    let disk = world.disk();
    if has_orphans(&disk).unwrap_or(true) {
        lock(&world.ledger).failures.push("a journal without a process is not settled".to_owned());
    }
    world.start_server();
    pace.until_idle();
    if lock(&world.machine).servers.is_empty() {
        lock(&world.ledger).failures.push("the server does not start".to_owned());
    }
    lock(&world.machine).manager = None;
    for _ in 0..2 {
        manager::start_round(world, true);
        pace.until_idle();
    }
    world.stop_all();
    pace.until_idle();
    let queued = world.queued();
    let mut ledger = lock(&world.ledger);
    ledger.close(&queued);
    let aside = disk.files().into_iter().filter(|path| path.ends_with(".damaged"));
    if !world.plan.faults.contains(&Fault::Error) && !world.plan.faults.contains(&Fault::NoSpace) {
        ledger.failures.extend(aside.map(|path| format!("{path}: a journal lacks records")));
    }
    drop(ledger);
    world.end_all();
    pace.until_idle();
}
