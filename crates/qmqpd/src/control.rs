//! `qmqpd reload|stop|status`: what an operator says to a running `qmqpd serve`. The lock on its pid file tells
//! whether it lives, signals carry the orders, and its state file the answers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::check;
use crate::config::{self, ConfigSource};
use crate::exit::Exit;
use crate::master::pid_file::PidFile;
use crate::master::state::{LastReload, State};

/// How long an order may take. The master itself gives its processes 5 s to end before it kills them.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often we look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the running master keeps its files.
struct Running {
    run_directory: PathBuf,
    process_id: Pid,
}

impl Running {
    fn find(source: &ConfigSource, overrides: &[String]) -> Result<Self, Exit> {
        let (queue, process_id_directory) =
            config::queue_directory(source, overrides).map_err(|errors| Exit::config(&errors))?;
        let run_directory = queue.join(process_id_directory);
        match PidFile::holder(&run_directory).map_err(|error| Exit::unavailable(error.to_string()))? {
            Some(process_id) => Ok(Self { run_directory, process_id }),
            None => Err(Exit::unavailable(format!(
                "no `qmqpd serve` runs on the queue {} (give -c and -o as for `qmqpd serve`)",
                queue.display()
            ))),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Exit> {
        kill(self.process_id, signal).map_err(|errno| {
            let who = if errno == Errno::EPERM { "; be root, or the user who started it" } else { "" };
            Exit::unavailable(format!("cannot signal process {}: {errno}{who}", self.process_id))
        })
    }

    fn state(&self) -> Result<State, Exit> {
        State::load(&self.run_directory).map_err(|error| {
            Exit::unavailable(format!(
                "process {} runs, but its state cannot be read in {}: {error}",
                self.process_id,
                self.run_directory.display()
            ))
        })
    }

    fn lives(&self) -> bool {
        matches!(PidFile::holder(&self.run_directory), Ok(Some(process_id)) if process_id == self.process_id)
    }
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
    check::print("warning", without_effect(overrides).iter());
    let before = running.state()?.reloads;
    running.signal(Signal::SIGHUP)?;
    let after = wait_for(|| running.state().ok().filter(|state| state.reloads > before));
    match after {
        Some(state) => {
            let LastReload { errors, warnings } = state.last_reload;
            check::print("warning", warnings.iter());
            if errors.is_empty() {
                let process_id = running.process_id;
                return Ok(format!("reloaded: process {process_id}, configuration {}", state.configuration));
            }
            let mut lines = errors;
            lines.push("the configuration that was in force stays in force".to_owned());
            Err(Exit { status: Exit::CONFIG, lines })
        }
        None => {
            Err(Exit::unavailable(format!("process {} does not answer; see its log", running.process_id)))
        }
    }
}

/// What to say about each `-o` that somebody gives to a reload in the hope that it changes something: it serves to find the
/// running server.
fn without_effect(overrides: &[String]) -> Vec<String> {
    let name = |text: &String| text.split('=').next().unwrap_or_default().trim().to_owned();
    let finds = |name: &String| ["queue_directory", "process_id_directory"].contains(&name.as_str());
    let named = overrides.iter().map(name).filter(|name| !finds(name));
    named
        .map(|name| {
            format!("-o {name} changes nothing at a reload: the server keeps the -o that it was started with")
        })
        .collect()
}

/// Ends the master and all service processes. With `drain`, sessions may finish first, however long that takes, and
/// this returns as soon as no new client is let in. Returns what to print.
///
/// # Errors
/// Nothing runs, or it does not end.
pub fn stop(source: &ConfigSource, overrides: &[String], drain: bool) -> Result<String, Exit> {
    let running = Running::find(source, overrides)?;
    if drain {
        running.signal(Signal::SIGQUIT)?;
        let drained = wait_for(|| {
            let no_services = running.state().is_ok_and(|state| state.services.is_empty());
            (no_services || !running.lives()).then_some(())
        });
        return drained
            .map(|()| {
                format!(
                    "process {} lets nobody in any more, and ends with its last session",
                    running.process_id
                )
            })
            .ok_or_else(|| {
                Exit::unavailable(format!("process {} does not answer; see its log", running.process_id))
            });
    }
    running.signal(Signal::SIGTERM)?;
    wait_for(|| (!running.lives()).then_some(()))
        .map(|()| format!("stopped: process {}", running.process_id))
        .ok_or_else(|| Exit::unavailable(format!("process {} does not end; see its log", running.process_id)))
}

/// What runs, in words.
///
/// # Errors
/// Nothing runs.
pub fn status(source: &ConfigSource, overrides: &[String]) -> Result<String, Exit> {
    let running = Running::find(source, overrides)?;
    Ok(describe(&running.state()?, &running.run_directory))
}

fn describe(state: &State, run_directory: &Path) -> String {
    let ids = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        format!("running: process {}", state.process_id),
        format!("configuration: {}", state.configuration),
        format!("state: {}", run_directory.display()),
        format!("generation: {}", state.generation),
    ];
    if state.reloads > 0 {
        lines.push(format!("reloads: {}, the last one: {}", state.reloads, state.last_reload.summary()));
    }
    for service in &state.services {
        let processes =
            if service.process_ids.is_empty() { "none".to_owned() } else { ids(&service.process_ids) };
        lines.push(format!("service {}: {}", service.name, service.condition));
        lines.push(format!("  listens on: {}", service.addresses.join(", ")));
        lines.push(format!("  processes: {processes}"));
    }
    if !state.draining.is_empty() {
        lines.push(format!("finishing their sessions: processes {}", ids(&state.draining)));
    }
    lines.join("\n")
}
