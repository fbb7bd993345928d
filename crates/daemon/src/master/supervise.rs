//! The loop of the master: signals, status messages, ended processes, timers. It never reads a byte from a peer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use postfix::child::ChildState;
use postfix::notice::{Notice, Severity};

use super::children::{Children, Need, Outcome};
use super::listen::{ListenError, ListenSpec, Listener, rebind};
use super::process::{Limits, Process, Stage};
use super::queue_lock::start_time;
use super::settlement::Settlement;
use super::start::{Command, StartError, Starter, environment};
use super::state::{LastReload, MasterState, ServiceState};
use super::status_channel::StatusChannel;
use super::stop::Stop;
use super::systemd::ServiceManager;
use crate::config::{Config, Service};
use crate::log::{Log, Program};

/// How long the service manager waits for services that do not say they are ready.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// One service with its sockets and processes.
#[derive(Debug)]
pub(super) struct ServiceSlot {
    pub(super) service: Service,
    listeners: Vec<Listener>,
    pub(super) children: Children,
}

impl ServiceSlot {
    fn backlog(&self) -> u32 {
        backlog(&self.service)
    }

    fn throttle_max(&self) -> Duration {
        self.service.settings.service_throttle_time
    }

    fn condition(&self) -> &'static str {
        match (self.children.is_throttled(), self.children.is_ready()) {
            (true, _) => "waiting",
            (false, true) => "running",
            (false, false) => "starting",
        }
    }
}

/// The configuration, read and checked afresh.
pub(super) struct Reloaded {
    /// What is wrong with it, if anything is.
    pub(super) outcome: Result<Box<Config>, Vec<String>>,
    /// What the operator should know in any case.
    pub(super) warnings: Vec<String>,
    /// Those warnings that no service process logs.
    pub(super) to_log: Vec<String>,
}

/// Loads the configuration afresh.
pub(super) type Reload = Box<dyn Fn() -> Reloaded>;

/// See the module's text.
pub(super) struct Master {
    pub(super) log: Log,
    pub(super) config: Config,
    /// Where the state file is.
    run_directory: PathBuf,
    reload: Reload,
    pub(super) starter: Starter,
    pub(super) settlement: Settlement,
    signals: SignalFd,
    pub(super) manager: ServiceManager,
    /// Path of our program, for the log.
    program: String,
    pub(super) slots: Vec<ServiceSlot>,
    /// All processes that live, those of earlier generations and of removed services among them.
    pub(super) processes: BTreeMap<i32, Process>,
    generation: u32,
    reloads: u64,
    last_reload: LastReload,
    started: Instant,
    told_ready: bool,
    pub(super) stop: Option<Stop>,
    /// Since when a stop waits for nothing but the journals of processes that are gone.
    pub(super) settling_since: Option<Instant>,
    saved: Option<MasterState>,
}

/// What the loop begins with.
pub(super) struct Parts {
    pub(super) log: Log,
    pub(super) config: Config,
    pub(super) run_directory: PathBuf,
    pub(super) reload: Reload,
    pub(super) starter: Starter,
    pub(super) signals: SignalFd,
    pub(super) manager: ServiceManager,
    pub(super) program: String,
}

/// Why the master cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The log of the new configuration cannot be opened.
    #[error("{source}")]
    Log {
        /// Why.
        source: crate::log::LogError,
    },
}

/// Postfix: the larger of the service's own limit and the general one.
fn backlog(service: &Service) -> u32 {
    service.process_limit.max(u32::try_from(service.settings.default_process_limit).unwrap_or(u32::MAX))
}

fn specs(services: &[Service]) -> Vec<ListenSpec> {
    services
        .iter()
        .flat_map(|service| {
            service.addresses.iter().map(move |address| ListenSpec {
                address: address.clone(),
                backlog: backlog(service),
                origin: service.origin.clone(),
            })
        })
        .collect()
}

impl Master {
    /// Binds what the configuration asks for; `inherited` are sockets that were bound for us.
    pub(super) fn new(parts: Parts, mut inherited: Vec<Listener>) -> Result<Self, MasterError> {
        let Parts { log, config, run_directory, reload, starter, signals, manager, program } = parts;
        let settlement = Settlement::new(config.queue_directory(), Instant::now());
        let mut master = Self {
            log,
            settlement,
            run_directory,
            reload,
            starter,
            signals,
            manager,
            program,
            slots: Vec::new(),
            processes: BTreeMap::new(),
            generation: 0,
            reloads: 0,
            last_reload: LastReload::default(),
            started: Instant::now(),
            told_ready: false,
            stop: None,
            settling_since: None,
            saved: None,
            config,
        };
        let bound = rebind(&mut inherited, &specs(&master.config.services))?;
        for stray in &inherited {
            master.say(
                Severity::Warning,
                &format!("the inherited socket on {} does not belong to a service: closed", stray.address()),
            );
        }
        master.slots = slots(&master.config.services);
        hand_out(&mut master.slots, bound);
        Ok(master)
    }

    /// The configuration in force.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Where each service listens, in words.
    pub(super) fn listens(&self) -> Vec<(String, Vec<String>)> {
        let addresses = |slot: &ServiceSlot| {
            slot.listeners.iter().map(|listener| listener.address().to_string()).collect()
        };
        self.slots.iter().map(|slot| (slot.service.name.clone(), addresses(slot))).collect()
    }

    /// Runs until it is told to stop and every process is gone.
    pub(super) fn run(mut self) {
        loop {
            self.start_what_is_needed();
            self.bound_old_processes();
            self.tell_ready();
            self.save_state();
            self.look_for_journals();
            if self.is_over() {
                break;
            }
            self.wait();
            self.read_signals();
            self.read_status();
            self.reap();
            self.look_after_processes();
            self.look_after_stop();
            let is_well = self.processes.values().all(Process::answers);
            self.manager.ping(is_well);
        }
        MasterState::remove(&self.run_directory);
        self.log.flush();
    }

    pub(super) fn say(&self, severity: Severity, text: &str) {
        self.log.write(Program::Master, severity, text);
    }

    fn say_all(&self, notices: &[Notice]) {
        notices.iter().for_each(|notice| self.log.notice(Program::Master, notice));
    }

    fn start_what_is_needed(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index) else { return };
            if slot.children.need(now) == Need::Process {
                self.start(index, now);
            }
        }
    }

    fn start(&mut self, index: usize, now: Instant) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let name = &slot.service.name;
        let mut notices = Vec::new();
        for listener in &slot.listeners {
            // An attacker who took over a process that is gone has had the socket, too.
            match listener.heal(slot.backlog()) {
                Ok(false) => {}
                Ok(true) => notices.push(Notice::warning(format!(
                    "service {name}: the socket on {} had stopped listening: listening again",
                    listener.address()
                ))),
                Err(error) => notices.push(Notice::warning(format!(
                    "service {name}: the socket on {} cannot be used: {error}",
                    listener.address()
                ))),
            }
        }
        let channel = StatusChannel::new(now);
        let started = channel.map_err(StartError::Channel).and_then(|(channel, far_end)| {
            let process_id = spawn(slot, &self.starter, &self.config, &far_end, generation)?;
            let limits = Limits::new(&slot.service.settings);
            Ok((process_id, Process::new(&slot.service.name, generation, channel, limits, now)))
        });
        match started {
            Ok((process_id, process)) => {
                slot.children.started(process_id, now);
                self.processes.insert(process_id, process);
            }
            Err(error) => {
                let throttle_max = slot.throttle_max();
                let wait = slot.children.not_started(now, throttle_max).as_secs();
                let name = &slot.service.name;
                notices.push(Notice::warning(format!(
                    "service {name}: cannot start a process: {error}; next attempt in {wait} s"
                )));
            }
        }
        self.say_all(&notices);
    }

    fn tell_ready(&mut self) {
        let settled = |slot: &ServiceSlot| slot.children.is_ready() || slot.children.is_throttled();
        if !self.told_ready
            && self.stop.is_none()
            && (self.slots.iter().all(settled) || self.started.elapsed() > READY_PATIENCE)
        {
            self.told_ready = true;
            self.manager.ready(&format!("{} services, generation {}", self.slots.len(), self.generation));
        }
    }

    /// Sleeps until something happens or the next timer is due.
    fn wait(&self) {
        let now = Instant::now();
        // One that is past was for a wait that is over.
        let extension = self.manager.next_extension().filter(|next| *next > now);
        let mut due: Vec<Instant> = self.manager.next_ping().into_iter().chain(extension).collect();
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for process in self.processes.values() {
            watched.extend(process.channel().near_end().map(|end| PollFd::new(end, PollFlags::POLLIN)));
            due.extend(process.next_look());
        }
        for slot in &self.slots {
            match slot.children.need(now) {
                Need::Wait(until) => due.push(until),
                Need::Process => due.push(now),
                Need::Nothing => {}
            }
        }
        if !self.told_ready {
            due.extend(self.started.checked_add(READY_PATIENCE));
        }
        if self.stop.is_none() {
            due.extend(self.settlement.next_look());
        }
        due.extend(self.next_look_after_stop());
        let timeout = due.into_iter().min().map_or(PollTimeout::NONE, |due| {
            // Rounded up: a timer that is looked at too early would make the loop spin.
            let wait = due.saturating_duration_since(now).saturating_add(Duration::from_millis(1));
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                self.say(Severity::Error, &format!("poll: {errno}"));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(found)) = self.signals.read_signal() {
            match i32::try_from(found.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGHUP)) => self.reload(),
                Ok(Ok(signal @ (Signal::SIGTERM | Signal::SIGINT))) => self.begin_stop(signal),
                Ok(Ok(Signal::SIGQUIT)) => self.begin_drain(),
                _ => {}
            }
        }
    }

    fn read_status(&mut self) {
        let process_ids: Vec<i32> = self.processes.keys().copied().collect();
        process_ids.into_iter().for_each(|process_id| self.read_status_of(process_id));
    }

    /// What comes is judged by the channel; a process that says what it should not is put down.
    fn read_status_of(&mut self, process_id: i32) {
        let now = Instant::now();
        let Some(process) = self.processes.get_mut(&process_id) else { return };
        let states = match process.listen(process_id, now) {
            Ok(states) => states,
            Err(breach) => {
                let service = process.service().to_owned();
                self.put_down(
                    process_id,
                    &format!("service {service}: process {process_id}: {breach}: killed"),
                );
                return;
            }
        };
        let service = process.service().to_owned();
        for state in states {
            if let ChildState::LinesLost(count) = state {
                let more = if count == u16::MAX { " or more" } else { "" };
                let text = format!(
                    "service {service}: process {process_id}: {count}{more} log lines were lost: it could not reach the log"
                );
                self.say(Severity::Warning, &text);
            }
            if let ChildState::Available | ChildState::Taken = state {
                for slot in &mut self.slots {
                    slot.children.reported(process_id, state == ChildState::Available);
                }
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (process_id, outcome) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), Outcome::Exit(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), Outcome::Signal(signal as i32)),
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.process_ended(process_id, outcome);
        }
    }

    fn process_ended(&mut self, process_id: i32, outcome: Outcome) {
        if self.settlement_ended(process_id, outcome) {
            return;
        }
        // Its last words may still be on their way: they decide whether it failed to start.
        self.read_status_of(process_id);
        let process = self.processes.remove(&process_id);
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { return };
            let throttle_max = slot.throttle_max();
            if let Some(notices) = slot.children.ended(process_id, outcome, now, &self.program, throttle_max)
            {
                self.say_all(&notices);
                return;
            }
        }
        // Signals that we sent ourselves are no news.
        let was_told =
            process.is_some_and(|process| matches!(process.stage(), Stage::Ending | Stage::Killed));
        if !was_told {
            self.say_all(&outcome.notice(&self.program, process_id).into_iter().collect::<Vec<_>>());
        }
    }

    fn reload(&mut self) {
        if self.stop.is_some() {
            return;
        }
        self.reloads = self.reloads.saturating_add(1);
        self.manager.reloading();
        let Reloaded { outcome, warnings, to_log } = (self.reload)();
        let outcome = outcome.and_then(|config| self.adopt(*config).map_err(|error| vec![error.to_string()]));
        to_log.iter().for_each(|warning| self.say(Severity::Warning, warning));
        let errors = outcome.err().unwrap_or_default();
        if errors.is_empty() {
            self.say(
                Severity::Info,
                &format!(
                    "reload -- version {}, configuration {}",
                    env!("CARGO_PKG_VERSION"),
                    self.config.source
                ),
            );
        } else {
            errors.iter().for_each(|error| self.say(Severity::Error, error));
            self.say(Severity::Error, "reload rejected: the current configuration stays in effect");
        }
        self.last_reload = LastReload::new(errors, warnings);
        let outcome = self.last_reload.summary();
        self.manager.ready(&format!("{} services, last reload {outcome}", self.slots.len()));
    }

    /// Puts a configuration in force: all or nothing.
    fn adopt(&mut self, config: Config) -> Result<(), MasterError> {
        if config.queue_directory() != self.config.queue_directory() {
            self.say(
                Severity::Warning,
                "a reload does not change queue_directory: stop and start the server",
            );
        }
        let log = Log::open(&config.log).map_err(|error| MasterError::Log { source: error })?;
        let mut fresh = slots(&config.services);
        let mut have: Vec<Listener> =
            self.slots.iter_mut().flat_map(|slot| std::mem::take(&mut slot.listeners)).collect();
        match rebind(&mut have, &specs(&config.services)) {
            Ok(bound) => hand_out(&mut fresh, bound),
            Err(error) => {
                hand_out(&mut self.slots, have);
                return Err(error.into());
            }
        }
        let notices = config.notices.clone();
        self.dismiss_all(fresh);
        self.config = config;
        self.log = log;
        if let Err(error) = self.log.start_writer() {
            self.say(Severity::Warning, &error.to_string());
        }
        self.say_all(&notices);
        Ok(())
    }

    fn save_state(&mut self) {
        let at = |stages: &[Stage]| {
            let found = self.processes.iter().filter(|(_, process)| stages.contains(&process.stage()));
            found.map(|(process_id, _)| *process_id).collect::<Vec<_>>()
        };
        let taking_clients = at(&[Stage::Starting, Stage::Serving]);
        let own = |slot: &ServiceSlot| {
            slot.children.children().iter().map(|child| child.process_id).collect::<Vec<_>>()
        };
        let disk_max = self.processes.values().map(Process::disk_max).max().unwrap_or_default();
        let state = MasterState {
            process_id: std::process::id(),
            started: start_time(std::process::id()).unwrap_or_default(),
            configuration: self.config.source.to_string(),
            generation: self.generation,
            reloads: self.reloads,
            last_reload: self.last_reload.clone(),
            services: self
                .slots
                .iter()
                .map(|slot| ServiceState {
                    name: slot.service.name.clone(),
                    addresses: slot.listeners.iter().map(|listener| listener.address().to_string()).collect(),
                    process_ids: own(slot).into_iter().filter(|id| taking_clients.contains(id)).collect(),
                    condition: slot.condition().to_owned(),
                })
                .collect(),
            draining: at(&[Stage::Draining, Stage::Ending, Stage::Killed]),
            syncing: at(&[Stage::Syncing]),
            disk_seconds_max: disk_max.as_secs(),
        };
        if self.saved.as_ref() != Some(&state) {
            if let Err(error) = state.save(&self.run_directory) {
                self.say(Severity::Warning, &format!("cannot write the state for `qmqpd status`: {error}"));
            }
            self.saved = Some(state);
        }
    }
}

/// A lane for each service, without sockets.
fn slots(services: &[Service]) -> Vec<ServiceSlot> {
    let slot = |service: &Service| ServiceSlot {
        service: service.clone(),
        listeners: Vec::new(),
        children: Children::default(),
    };
    services.iter().map(slot).collect()
}

fn spawn(
    slot: &ServiceSlot,
    starter: &Starter,
    config: &Config,
    status: &OwnedFd,
    generation: u32,
) -> Result<i32, StartError> {
    let argv = Command {
        program: &slot.service.program,
        name: &slot.service.name,
        transport: None,
        process_limit: slot.service.process_limit,
        unprivileged: slot.service.unprivileged,
        chroot: slot.service.chroot,
        addresses: &slot.service.addresses,
        arguments: &slot.service.arguments,
    }
    .argv();
    let variables = environment(
        &slot.service.settings.import_environment,
        |name| std::env::var(name).ok(),
        &config.service_environment(),
        generation,
    );
    Ok(starter.start(&argv, &variables, status, &slot.listeners)?.as_raw())
}

/// Gives each lane the sockets that its service asks for.
fn hand_out(slots: &mut [ServiceSlot], mut bound: Vec<Listener>) {
    for slot in slots {
        let addresses = &slot.service.addresses;
        let wanted = |listener: &Listener| addresses.iter().any(|address| listener.is_for(address));
        let (mine, rest) = bound.into_iter().partition(wanted);
        slot.listeners = mine;
        bound = rest;
    }
}
