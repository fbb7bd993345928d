//! How processes end: old generations, few of them; processes that hang; and the stop of the whole, in two phases. Sessions
//! end quickly, then the disk gets the time that it needs, for until it has taken accepted mail the journal answers for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postfix::notice::Severity;

use super::process::{Measure, Process, Stage};
use super::supervise::{Master, ServiceSlot};

/// How long the master waits for a process that was killed: one that hangs in the kernel can outlast everything.
const BURIAL_PATIENCE: Duration = Duration::from_secs(10);

/// How the master ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// With the last session.
    Drained,
    /// As soon as accepted mail is safe.
    Terminated,
}

impl Master {
    /// SIGTERM. The first one ends the sessions of all processes. A further one kills those that still have some, and leaves
    /// those alone that only wait for the disk: with them their journals would stay, and mail be delivered again.
    pub(super) fn begin_stop(&mut self, signal: Signal) {
        self.say(Severity::Info, &format!("terminating on signal {}", signal as i32));
        let is_again = self.stop == Some(Stop::Terminated);
        self.stop = Some(Stop::Terminated);
        self.manager.stopping();
        self.dismiss_all(Vec::new());
        let process_ids: Vec<i32> = self.processes.keys().copied().collect();
        for process_id in process_ids {
            if !is_again {
                self.terminate(process_id);
                continue;
            }
            let Some(process) = self.processes.get(&process_id) else { continue };
            if process.stage() == Stage::Syncing {
                let text = format!(
                    "process {process_id} only waits for the disk: further signals to the master have \
                     no effect; after kill -9 {process_id}, messages in its journal may be delivered again"
                );
                self.say(Severity::Info, &text);
            } else if process.stage() != Stage::Killed {
                self.put_down(
                    process_id,
                    &format!("process {process_id}: killed because of a second signal"),
                );
            }
        }
    }

    /// SIGQUIT.
    pub(super) fn begin_drain(&mut self) {
        self.say(Severity::Info, "draining: accepting no new clients, exiting when the last session ends");
        self.manager.stopping();
        self.dismiss_all(Vec::new());
        self.stop.get_or_insert(Stop::Drained);
    }

    /// Puts these lanes in the place of those that are there, whose sockets are closed, and whose processes finish their
    /// sessions.
    pub(super) fn dismiss_all(&mut self, fresh: Vec<ServiceSlot>) {
        let now = Instant::now();
        for mut slot in std::mem::replace(&mut self.slots, fresh) {
            for child in slot.children.renew() {
                if let Some(process) = self.processes.get_mut(&child.process_id) {
                    process.stop_accepting(now);
                }
            }
        }
    }

    /// Tells a process to end its sessions, unless it has heard that already.
    fn terminate(&mut self, process_id: i32) {
        let process = self.processes.get_mut(&process_id);
        if process.is_some_and(|process| process.terminate(Instant::now())) {
            send(process_id, Signal::SIGTERM);
        }
    }

    /// Kills a process, and starts another in its place before it is gone.
    pub(super) fn put_down(&mut self, process_id: i32, why: &str) {
        self.say(Severity::Warning, why);
        if let Some(process) = self.processes.get_mut(&process_id) {
            process.kill(Instant::now());
        }
        self.slots.iter_mut().for_each(|slot| slot.children.given_up(process_id));
        send(process_id, Signal::SIGKILL);
    }

    /// Does to each process what is due.
    pub(super) fn look_after_processes(&mut self) {
        let now = Instant::now();
        let due = |(process_id, process): (&i32, &mut Process)| {
            process.due(*process_id, now).map(|measure| (*process_id, measure))
        };
        let measures: Vec<(i32, Measure)> = self.processes.iter_mut().filter_map(due).collect();
        for (process_id, measure) in measures {
            match measure {
                Measure::Say(text) => self.say(Severity::Info, &text),
                Measure::Kill(text) => self.put_down(process_id, &text),
            }
        }
    }

    /// Of each service so many processes may finish their sessions: when there are more, the oldest one is told to end.
    pub(super) fn bound_old_processes(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let mut old: BTreeMap<&str, Vec<(u32, i32)>> = BTreeMap::new();
        for (process_id, process) in &self.processes {
            if process.stage() == Stage::Draining {
                old.entry(process.service()).or_default().push((process.generation(), *process_id));
            }
        }
        let mut excess = Vec::new();
        for (service, mut processes) in old {
            let settings = self.slots.iter().find(|slot| slot.service.name == service);
            let settings = settings.map_or(&self.config.settings, |slot| &slot.service.settings);
            let limit = usize::try_from(settings.qmqpd_old_process_limit).unwrap_or(usize::MAX);
            processes.sort_unstable();
            let count = processes.len();
            for (_, process_id) in processes.into_iter().take(count.saturating_sub(limit)) {
                let text = format!(
                    "service {service}: more than {limit} draining processes (qmqpd_old_process_limit): \
                     the oldest, process {process_id}, must end its sessions"
                );
                excess.push((process_id, text));
            }
        }
        for (process_id, text) in excess {
            self.say(Severity::Warning, &text);
            self.terminate(process_id);
        }
    }

    /// Whether the master has nothing left to wait for: no process, and no journal that one has left.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if self.stop.is_none() || !self.processes.values().all(|process| is_lost(process, now)) {
            return false;
        }
        let since = *self.settling_since.get_or_insert(now);
        let limit = self.config.settings.qmqpd_stop_timeout;
        !self.settles_at_the_end() || now.saturating_duration_since(since) >= limit
    }

    /// When [`Master::is_over`] has to be asked: a process that was killed does not go, or a journal takes too long.
    pub(super) fn next_look_after_stop(&self) -> Option<Instant> {
        self.stop?;
        let killed = self.processes.values().filter(|process| process.stage() == Stage::Killed);
        let burials = killed.filter_map(|process| process.since().checked_add(BURIAL_PATIENCE));
        let limit = self.config.settings.qmqpd_stop_timeout;
        burials.chain(self.settling_since.and_then(|since| since.checked_add(limit))).min()
    }

    /// Keeps the service manager from killing us while accepted mail is brought to disk.
    pub(super) fn look_after_stop(&mut self) {
        if self.stop != Some(Stop::Terminated) {
            return;
        }
        let waiting = self.processes.values().filter(|process| process.stage() == Stage::Syncing).count();
        if waiting > 0 {
            let text = format!("{waiting} processes without sessions wait for the disk");
            self.manager.extend_stop(&text);
        } else if self.settling_since.is_some() {
            self.manager.extend_stop("journals of accepted mail are settled");
        }
    }
}

fn is_lost(process: &Process, now: Instant) -> bool {
    process.stage() == Stage::Killed && now.saturating_duration_since(process.since()) >= BURIAL_PATIENCE
}

fn send(process_id: i32, signal: Signal) {
    let _gone_already = kill(Pid::from_raw(process_id), signal);
}
