//! What `qmqpd status` and `qmqpd reload` read: `qmqpd.state`, beside the pid file, replaced in one step whenever something changes.
//!
//! Text, one `key value` a line. Only the master writes it; it is true while the lock on the queue is held.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const STATE_FILE: &str = "qmqpd.state";

/// One service and its processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServiceState {
    /// The name, as in master.cf.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) addresses: Vec<String>,
    /// Its processes.
    pub(crate) process_ids: Vec<i32>,
    /// `running`, `starting` or `waiting` (after a failed start).
    pub(crate) condition: String,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LastReload {
    /// What was wrong with the configuration; nothing if it was accepted.
    pub(crate) errors: Vec<String>,
    /// What there was to say besides.
    pub(crate) warnings: Vec<String>,
}

/// Errors or warnings of a reload that are kept; the others are in the log.
const TEXTS_MAX: usize = 100;

impl LastReload {
    /// The texts, a line each, and not more than a terminal shows.
    pub(crate) fn new(mut errors: Vec<String>, mut warnings: Vec<String>) -> Self {
        for texts in [&mut errors, &mut warnings] {
            texts.iter_mut().for_each(|text| *text = text.replace('\n', "; "));
            let more = texts.len().saturating_sub(TEXTS_MAX);
            texts.truncate(TEXTS_MAX);
            if more > 0 {
                texts.push(format!("and {more} more: `qmqpd check` reports all"));
            }
        }
        Self { errors, warnings }
    }

    /// In a few words.
    pub(crate) fn summary(&self) -> String {
        if self.errors.is_empty() { "accepted".to_owned() } else { self.errors.join("; ") }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MasterState {
    /// The master's process ID.
    pub(crate) process_id: u32,
    /// When it was started, as /proc/PID/stat says it: with the process ID, a process that no other is.
    pub(crate) started: u64,
    /// The configuration directory, or `none`.
    pub(crate) configuration: String,
    /// Counts started service processes.
    pub(crate) generation: u32,
    /// Reloads asked for so far.
    pub(crate) reloads: u64,
    /// How the last one went.
    pub(crate) last_reload: LastReload,
    /// The services.
    pub(crate) services: Vec<ServiceState>,
    /// Processes that take no client any more and finish their sessions.
    pub(crate) draining: Vec<i32>,
    /// Processes whose sessions are over and that wait for the disk.
    pub(crate) syncing: Vec<i32>,
    /// How many seconds these may take at most.
    pub(crate) disk_seconds_max: u64,
}

impl MasterState {
    /// The file's content.
    fn to_text(&self) -> String {
        let joined = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mut lines = vec![
            format!("pid {}", self.process_id),
            format!("started {}", self.started),
            format!("configuration {}", self.configuration),
            format!("generation {}", self.generation),
            format!("reloads {}", self.reloads),
            format!("draining {}", joined(&self.draining)),
            format!("syncing {}", joined(&self.syncing)),
            format!("disk_seconds_max {}", self.disk_seconds_max),
        ];
        let LastReload { errors, warnings } = &self.last_reload;
        lines.extend(errors.iter().map(|text| format!("reload_error {text}")));
        lines.extend(warnings.iter().map(|text| format!("reload_warning {text}")));
        for service in &self.services {
            lines.push(format!("service {}", service.name));
            lines.push(format!("condition {}", service.condition));
            lines.extend(service.addresses.iter().map(|address| format!("address {address}")));
            lines.push(format!("pids {}", joined(&service.process_ids)));
        }
        lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Reads the content back. Unknown keys are skipped: another version may have written them.
    fn from_text(text: &str) -> Self {
        let ids = |value: &str| value.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let mut state = Self::default();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "pid" => state.process_id = value.parse().unwrap_or_default(),
                "started" => state.started = value.parse().unwrap_or_default(),
                "configuration" => value.clone_into(&mut state.configuration),
                "generation" => state.generation = value.parse().unwrap_or_default(),
                "reloads" => state.reloads = value.parse().unwrap_or_default(),
                "reload_error" => state.last_reload.errors.push(value.to_owned()),
                "reload_warning" => state.last_reload.warnings.push(value.to_owned()),
                "draining" => state.draining = ids(value),
                "syncing" => state.syncing = ids(value),
                "disk_seconds_max" => state.disk_seconds_max = value.parse().unwrap_or_default(),
                "service" => {
                    state.services.push(ServiceState { name: value.to_owned(), ..ServiceState::default() });
                }
                _ => {
                    let Some(service) = state.services.last_mut() else { continue };
                    match key {
                        "condition" => value.clone_into(&mut service.condition),
                        "address" => service.addresses.push(value.to_owned()),
                        "pids" => service.process_ids = ids(value),
                        _ => {}
                    }
                }
            }
        }
        state
    }

    /// Replaces the file in `directory`.
    pub(crate) fn save(&self, directory: &Path) -> std::io::Result<()> {
        let path = directory.join(STATE_FILE);
        let fresh = path.with_extension("state.new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o644).open(&fresh)?;
        std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.write_all(self.to_text().as_bytes())?;
        std::fs::rename(&fresh, &path)
    }

    /// Reads the file in `directory`.
    pub(crate) fn load(directory: &Path) -> std::io::Result<Self> {
        std::fs::read_to_string(directory.join(STATE_FILE)).map(|text| Self::from_text(&text))
    }

    /// Removes the file from `directory`: nothing runs any more.
    pub(crate) fn remove(directory: &Path) {
        let _gone_already = std::fs::remove_file(directory.join(STATE_FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = MasterState {
            process_id: 4711,
            started: 123_456,
            configuration: "/etc/with blank".to_owned(),
            generation: 9,
            reloads: 2,
            last_reload: LastReload::new(
                vec!["main.cf, line 3: bad value".to_owned(), "line 4: too".to_owned()],
                vec!["odd".to_owned()],
            ),
            services: vec![
                ServiceState {
                    name: "628".to_owned(),
                    addresses: vec!["127.0.0.1:628".to_owned(), "/q b/private/qmqp".to_owned()],
                    process_ids: vec![4712, 4713],
                    condition: "running".to_owned(),
                },
                ServiceState {
                    name: "629".to_owned(),
                    condition: "waiting".to_owned(),
                    ..ServiceState::default()
                },
            ],
            draining: vec![4000],
            syncing: vec![4001, 4002],
            disk_seconds_max: 300,
        };
        for _ in 0..2 {
            state.save(directory.path()).unwrap();
            assert_eq!(MasterState::load(directory.path()).unwrap(), state);
        }
        MasterState::remove(directory.path());
        assert!(MasterState::load(directory.path()).is_err());
    }
}
