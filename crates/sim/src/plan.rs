//! What a seed drew before the world begins: its settings, and which kinds of faults it has (swarm). A world with all of
//! them at once finds less than many worlds with a few.

use std::collections::BTreeSet;
use std::fmt;

use crate::chance::Chance;

/// A kind of fault, or of disturbance. A seed has about half of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A service process is killed.
    Kill,
    /// The master and all service processes are killed.
    KillAll,
    /// The machine loses its power.
    PowerCut,
    /// The file system fails and is mounted anew; the machine runs on.
    Remount,
    /// The disk is full for a while.
    NoSpace,
    /// Some calls fail with EIO.
    Error,
    /// The queue manager is killed.
    KillManager,
    /// A second service process starts, and the first one drains.
    Reload,
    /// The server is stopped in order, and started again.
    Stop,
    /// An operator removes, holds or releases messages.
    Operator,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::KillAll,
        Self::PowerCut,
        Self::Remount,
        Self::NoSpace,
        Self::Error,
        Self::KillManager,
        Self::Reload,
        Self::Stop,
        Self::Operator,
    ];

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::PowerCut => "power-cut",
            Self::Remount => "remount",
            Self::NoSpace => "no-space",
            Self::Error => "error",
            Self::KillManager => "kill-manager",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Operator => "operator",
        })
    }
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Kinds of faults that are left out, whatever the seed drew.
    pub without: BTreeSet<Fault>,
    /// After so many simulated seconds the faults end, and the account is drawn up.
    pub until_secs: u64,
}

impl Run {
    /// All that the seed draws, for two simulated minutes.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, without: BTreeSet::new(), until_secs: 120 }
    }
}

/// The settings of a world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) faults: BTreeSet<Fault>,
    /// Simulated seconds between two faults, on average.
    pub(crate) calm_secs: u64,
    pub(crate) has_journal: bool,
    pub(crate) names_drafts: bool,
    pub(crate) is_hashed: bool,
    pub(crate) long_queue_ids: bool,
    pub(crate) has_mount_ids: bool,
    pub(crate) has_witness: bool,
    pub(crate) has_sync_all: bool,
    pub(crate) has_queue_manager: bool,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) lines_max: u64,
    pub(crate) committers: usize,
    /// Milliseconds between two messages, on average.
    pub(crate) pause_ms: u64,
}

impl Plan {
    pub(crate) fn draw(run: &Run) -> Self {
        let mut chance = Chance::new(run.seed, "plan");
        let drawn: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|_| chance.percent(45)).collect();
        Self {
            faults: drawn.difference(&run.without).copied().collect(),
            calm_secs: chance.between(2, 20),
            has_journal: chance.percent(85),
            names_drafts: chance.percent(30),
            is_hashed: chance.percent(30),
            long_queue_ids: chance.percent(50),
            has_mount_ids: chance.percent(50),
            has_witness: chance.percent(70),
            has_sync_all: chance.percent(90),
            has_queue_manager: chance.percent(85),
            checkpoint_bytes: chance.between(1, 12) * 4096,
            lines_max: [10, 60, 300][chance.below(3) as usize],
            committers: chance.between(1, 4) as usize,
            pause_ms: chance.between(100, 1500),
        }
    }
}
