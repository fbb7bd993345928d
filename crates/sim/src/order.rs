//! Who runs next: each switch between tasks is drawn from the seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::chance::Chance;

/// What the world and the order of its tasks tell each other.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// No task but that of the world itself can run.
    is_idle: AtomicBool,
    /// The world waits until it is so.
    waits: AtomicBool,
    steps: AtomicU64,
    /// A checksum of all choices.
    choices: AtomicU64,
}

impl Pace {
    /// How many choices there were, and their checksum.
    pub(crate) fn steps(&self) -> (u64, u64) {
        (self.steps.load(Ordering::Relaxed), self.choices.load(Ordering::Relaxed))
    }

    /// Lets the others run a while: `turns` times until the world's own turn comes again.
    pub(crate) fn let_run(&self, turns: u64) {
        for _ in 0..turns {
            shuttle::thread::yield_now();
            if self.is_idle.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    /// Lets the others run until each waits for something.
    pub(crate) fn until_idle(&self) {
        self.waits.store(true, Ordering::Relaxed);
        shuttle::thread::yield_now();
        self.waits.store(false, Ordering::Relaxed);
    }
}

/// Draws; one run, then an end.
#[derive(Debug)]
pub(crate) struct Order {
    chance: Chance,
    pace: Arc<Pace>,
    is_spent: bool,
}

impl Order {
    pub(crate) fn new(seed: u64, pace: Arc<Pace>) -> Self {
        Self { chance: Chance::new(seed, "order"), pace, is_spent: false }
    }
}

impl Scheduler for Order {
    fn new_execution(&mut self) -> Option<Schedule> {
        (!std::mem::replace(&mut self.is_spent, true)).then(|| Schedule::new(0))
    }

    fn next_task(&mut self, runnable: &[&Task], _: Option<TaskId>, _: bool) -> Option<TaskId> {
        let world = TaskId::from(0);
        // Not those that could only wake for no reason: the world waits until all sleep.
        let awake = || runnable.iter().filter(|task| task.runnable()).map(|task| task.id());
        let others = awake().filter(|id| *id != world).count() as u64;
        let is_turn_of_world = others == 0
            || (awake().any(|id| id == world)
                && !self.pace.waits.load(Ordering::Relaxed)
                && self.chance.percent(5));
        self.pace.is_idle.store(others == 0, Ordering::Relaxed);
        let chosen = match is_turn_of_world {
            true => world,
            false => {
                let number = self.chance.below(others) as usize;
                awake().filter(|id| *id != world).nth(number)?
            }
        };
        let choices = self.pace.choices.load(Ordering::Relaxed);
        let mixed = (choices ^ usize::from(chosen) as u64).wrapping_mul(0x0100_0000_01b3).rotate_left(7);
        self.pace.choices.store(mixed, Ordering::Relaxed);
        self.pace.steps.fetch_add(1, Ordering::Relaxed);
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.chance.below(u64::MAX)
    }
}
