//! What each way of accepting a message needs of the world around it.

use std::path::PathBuf;

use daemon::jail;
use postfix::settings::Settings;

/// What one way needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and ports that the jail has to leave open.
    pub jail: jail::Needs,
    /// Services of Postfix's master(8) that are asked through their sockets.
    pub sockets: Vec<PublicService>,
    /// Descriptors that one session can have open at the same time, its own socket included.
    pub descriptors_per_session: u64,
    /// Whether a journal of the queue is kept, which syncs the whole file system.
    pub keeps_journal: bool,
}

/// A `unix` service of master.cf that is not private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicService {
    /// The first column of its line.
    pub name: String,
    /// The parameter that names it.
    pub parameter: &'static str,
    /// What it does for us; goes behind `no public unix service "NAME" `.
    pub purpose: &'static str,
    /// The line to write where it is missing.
    pub line: String,
}

pub(super) fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// Threads that do nothing but work with files.
#[must_use]
pub fn file_threads(settings: &Settings) -> usize {
    usize::try_from(settings.qmqpd_commit_threads).unwrap_or(1)
}
