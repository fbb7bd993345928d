//! `qmqpd reload|stop|status`: what an operator says to a running `qmqpd serve`. The lock on its queue tells
//! whether it lives, signals carry the orders, and its state file the answers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::config::{self, ConfigSource};
use crate::exit::{Exit, remark};
use crate::master::queue_lock::{Holder, QueueLock, start_time};
use crate::master::state::{LastReload, MasterState};

/// How long an order may take. The master itself gives its processes 5 s to end their sessions; when they wait for the disk
/// behind that, `stop` waits with it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often we look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After so long a wait for the disk, it is said.
const DISK_QUIET: Duration = Duration::from_secs(2);

/// Where the running master keeps its files.
struct Running {
    queue: PathBuf,
    run_directory: PathBuf,
    master: Holder,
}

impl Running {
    fn find(source: &ConfigSource, overrides: &[String]) -> Result<Self, Exit> {
        let (queue, run_directory) = places(source, overrides)?;
        match QueueLock::holder(&queue) {
            Ok(Some(master)) => Ok(Self { queue, run_directory, master }),
            Ok(None) => Err(nothing_runs(&queue)),
            Err(error) => {
                let who = if error.is_not_ours() {
                    "; run this as root, or as the user that started the server"
                } else {
                    ""
                };
                Err(Exit::unavailable(format!("{error}{who}")))
            }
        }
    }

    fn process_id(&self) -> i32 {
        self.master.process_id()
    }

    fn signal(&self, signal: Signal) -> Result<(), Exit> {
        self.master.signal(signal).map_err(|error| {
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let who = if denied { "; run this as root, or as the user that started the server" } else { "" };
            Exit::unavailable(format!("cannot signal process {}: {error}{who}", self.process_id()))
        })
    }

    fn state(&self) -> Result<MasterState, Exit> {
        MasterState::load(&self.run_directory).map_err(|error| {
            Exit::unavailable(format!(
                "process {} is running, but its state in {} cannot be read: {error}",
                self.process_id(),
                self.run_directory.display()
            ))
        })
    }

    fn lives(&self) -> bool {
        matches!(QueueLock::holder(&self.queue), Ok(Some(holder)) if holder.process_id() == self.process_id())
    }
}

/// The queue directory, and where the state of its master is.
fn places(source: &ConfigSource, overrides: &[String]) -> Result<(PathBuf, PathBuf), Exit> {
    let (queue, process_id_directory) =
        config::queue_directory(source, overrides).map_err(|errors| Exit::config(&errors))?;
    let run_directory = queue.join(process_id_directory);
    Ok((queue, run_directory))
}

fn nothing_runs(queue: &Path) -> Exit {
    Exit::unavailable(format!(
        "no `qmqpd serve` is running on the queue {} (use the same -c and -o as for `qmqpd serve`)",
        queue.display()
    ))
}

/// Looks until `found` finds something or patience is at its end.
fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Has the configuration read again. Returns what to print.
///
/// # Errors
/// Nothing runs; or the new configuration is bad, and the old one stays in force.
pub fn reload(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let running = Running::find(source, overrides)?;
    remark("warning", without_effect(overrides).iter());
    let before = running.state()?.reloads;
    running.signal(Signal::HUP)?;
    let after = wait_for(|| running.state().ok().filter(|state| state.reloads > before));
    match after {
        Some(state) => {
            let LastReload { errors, warnings } = state.last_reload;
            remark("warning", warnings.iter());
            if errors.is_empty() {
                let process_id = running.process_id();
                return Ok(format!("reloaded: process {process_id}, configuration {}", state.configuration));
            }
            let mut lines = errors;
            lines.push("the current configuration stays in effect".to_owned());
            Err(Exit { status: Exit::CONFIG, lines })
        }
        None => {
            Err(Exit::unavailable(format!("process {} does not answer; see its log", running.process_id())))
        }
    }
}

/// What to say about each `-o` that an operator gives to a reload in the hope that it changes something: it serves to find the
/// running server.
fn without_effect(overrides: &[String]) -> Vec<String> {
    let name = |text: &String| text.split('=').next().unwrap_or_default().trim().to_owned();
    let finds = |name: &String| ["queue_directory", "process_id_directory"].contains(&name.as_str());
    let named = overrides.iter().map(name).filter(|name| !finds(name));
    named
        .map(|name| {
            format!("-o {name} has no effect on a reload: the server keeps the -o that it was started with")
        })
        .collect()
}

/// Ends the master and all service processes. With `drain`, sessions may finish first, however long that takes, and
/// this returns as soon as no new client is accepted. Returns what to print; `say` prints what it waits for meanwhile.
///
/// # Errors
/// Nothing runs, or it does not end.
pub fn stop(
    source: &ConfigSource,
    overrides: &[String],
    drain: bool,
    say: &dyn Fn(&str),
) -> Result<String, Exit> {
    let running = Running::find(source, overrides)?;
    if drain {
        running.signal(Signal::QUIT)?;
        let drained = wait_for(|| {
            let no_services = running.state().is_ok_and(|state| state.services.is_empty());
            (no_services || !running.lives()).then_some(())
        });
        return drained
            .map(|()| {
                format!(
                    "process {} accepts no new clients and will exit after its last session",
                    running.process_id()
                )
            })
            .ok_or_else(|| {
                Exit::unavailable(format!("process {} does not answer; see its log", running.process_id()))
            });
    }
    running.signal(Signal::TERM)?;
    wait_for_the_end(&running, say)
}

/// Waits until the master is gone: a while, and longer where its processes have ended their sessions and wait for the disk.
fn wait_for_the_end(running: &Running, say: &dyn Fn(&str)) -> Result<String, Exit> {
    let process_id = running.process_id();
    let mut deadline = Instant::now() + PATIENCE;
    let mut disk_since: Option<Instant> = None;
    let mut is_said = false;
    while running.lives() {
        let now = Instant::now();
        let state = MasterState::load(&running.run_directory).ok();
        if let Some(state) = state.filter(|state| !state.syncing.is_empty()) {
            let since = *disk_since.get_or_insert(now);
            let disk_max = Duration::from_secs(state.disk_seconds_max);
            deadline = deadline.max(since.checked_add(disk_max + PATIENCE).unwrap_or(deadline));
            if now.saturating_duration_since(since) >= DISK_QUIET && !std::mem::replace(&mut is_said, true) {
                say(&format!(
                    "waiting for the disk: processes {} have no sessions and write accepted mail to \
                     disk, at most {} s (qmqpd_stop_timeout)",
                    ids(&state.syncing),
                    state.disk_seconds_max
                ));
            }
        }
        if now >= deadline {
            return Err(Exit::unavailable(format!("process {process_id} does not exit; see its log")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(format!("stopped: process {process_id}"))
}

/// What runs, in words.
///
/// # Errors
/// Nothing runs.
pub fn status(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let (queue, run_directory) = places(source, overrides)?;
    match QueueLock::holder(&queue) {
        Ok(None) => Err(nothing_runs(&queue)),
        Ok(Some(master)) => {
            let running = Running { queue, run_directory, master };
            Ok(describe(&running.state()?))
        }
        // The lock is for the master's user only, what it says about itself for all.
        Err(error) if error.is_not_ours() => match MasterState::load(&run_directory) {
            Ok(state) if start_time(state.process_id).is_some_and(|started| started == state.started) => {
                Ok(describe(&state))
            }
            _ => Err(nothing_runs(&queue)),
        },
        Err(error) => Err(Exit::unavailable(error.to_string())),
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn describe(state: &MasterState) -> String {
    let mut lines = vec![
        format!("running: process {}", state.process_id),
        format!("configuration: {}", state.configuration),
        format!("generation: {}", state.generation),
    ];
    if state.reloads > 0 {
        lines.push(format!("last reload: {} ({} since start)", state.last_reload.summary(), state.reloads));
    }
    for service in &state.services {
        let processes =
            if service.process_ids.is_empty() { "none".to_owned() } else { ids(&service.process_ids) };
        lines.push(format!("service {}: {}", service.name, service.condition));
        lines.push(format!("  listens on: {}", service.addresses.join(", ")));
        lines.push(format!("  processes: {processes}"));
    }
    if !state.draining.is_empty() {
        lines.push(format!("draining: processes {}", ids(&state.draining)));
    }
    if !state.syncing.is_empty() {
        lines.push(format!("waiting for the disk: processes {}", ids(&state.syncing)));
    }
    lines.join("\n")
}
