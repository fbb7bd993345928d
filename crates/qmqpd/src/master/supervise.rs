//! The loop of the master: signals, status messages, ended processes, timers. It never reads a byte from a peer.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use postfix::child::State as ChildState;
use postfix::notice::{Notice, Severity};

use super::listen::{ListenError, Listener, Wish, rebind};
use super::roster::{Need, Outcome, Roster};
use super::settlement::Settlement;
use super::start::{Command, Starter, environment};
use super::state::{LastReload, ServiceState, State};
use super::status_channel::StatusChannel;
use super::systemd::ServiceManager;
use crate::config::{Config, Service};
use crate::log::{Log, Program};

/// How long processes have to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long the service manager waits for services that do not say they are ready.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// One service with its sockets and processes.
#[derive(Debug)]
struct Lane {
    service: Service,
    listeners: Vec<Listener>,
    status: StatusChannel,
    roster: Roster,
}

impl Lane {
    fn process_limit(&self) -> u32 {
        self.service.process_limit
    }

    fn throttle_max(&self) -> Duration {
        self.service.settings.service_throttle_time
    }

    fn condition(&self) -> &'static str {
        match (self.roster.is_throttled(), self.roster.is_ready()) {
            (true, _) => "waiting",
            (false, true) => "running",
            (false, false) => "starting",
        }
    }
}

/// What a finished stop looks like from outside.
#[derive(Debug)]
pub(super) struct Stop {
    kill_at: Option<Instant>,
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
    log: Log,
    pub(super) config: Config,
    /// Where the state file is.
    run_directory: PathBuf,
    reload: Reload,
    pub(super) starter: Starter,
    pub(super) settlement: Settlement,
    signals: SignalFd,
    manager: ServiceManager,
    /// Path of our program, for the log.
    program: String,
    lanes: Vec<Lane>,
    /// Processes of earlier generations and of removed services.
    leaving: BTreeMap<i32, String>,
    generation: u32,
    reloads: u64,
    last_reload: LastReload,
    started: Instant,
    told_ready: bool,
    pub(super) stop: Option<Stop>,
    saved: Option<State>,
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
    /// The system failed us.
    #[error("cannot {what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

fn wishes(services: &[Service]) -> Vec<Wish> {
    // Postfix: the larger of the service's own limit and the general one.
    let backlog = |service: &Service| {
        service.process_limit.max(u32::try_from(service.settings.default_process_limit).unwrap_or(u32::MAX))
    };
    services
        .iter()
        .flat_map(|service| {
            service.addresses.iter().map(move |address| Wish {
                address: address.clone(),
                backlog: backlog(service),
                origin: service.origin.clone(),
            })
        })
        .collect()
}

impl Master {
    /// Binds what the configuration asks for; `inherited` are sockets that somebody bound for us.
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
            lanes: Vec::new(),
            leaving: BTreeMap::new(),
            generation: 0,
            reloads: 0,
            last_reload: LastReload::default(),
            started: Instant::now(),
            told_ready: false,
            stop: None,
            saved: None,
            config,
        };
        let bound = rebind(&mut inherited, &wishes(&master.config.services))?;
        for stray in &inherited {
            master.say(
                Severity::Warning,
                &format!(
                    "the socket on {} that was handed to this process belongs to no service: closed",
                    stray.address()
                ),
            );
        }
        master.lanes = lanes(&master.config.services)?;
        hand_out(&mut master.lanes, bound);
        Ok(master)
    }

    /// The configuration in force.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Where each service listens, in words.
    pub(super) fn listens(&self) -> Vec<(String, Vec<String>)> {
        let addresses =
            |lane: &Lane| lane.listeners.iter().map(|listener| listener.address().to_string()).collect();
        self.lanes.iter().map(|lane| (lane.service.name.clone(), addresses(lane))).collect()
    }

    /// Runs until it is told to stop and every process is gone.
    pub(super) fn run(mut self) {
        loop {
            self.start_what_is_needed();
            self.tell_ready();
            self.save_state();
            self.look_for_journals();
            if self.stop.is_some() && self.leaving.is_empty() && !self.settles_at_the_end() {
                break;
            }
            self.wait();
            self.read_signals();
            self.read_status();
            self.reap();
            self.hurry_the_stop();
            self.manager.ping();
        }
        State::remove(&self.run_directory);
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
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get(index) else { return };
            if lane.roster.need(now, lane.process_limit()) == Need::Process {
                self.start(index, now);
            }
        }
    }

    fn start(&mut self, index: usize, now: Instant) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let addresses: Vec<_> = lane.service.addresses.clone();
        let argv = Command {
            program: &lane.service.program,
            name: &lane.service.name,
            transport: None,
            process_limit: lane.service.process_limit,
            unprivileged: lane.service.unprivileged,
            chroot: lane.service.chroot,
            addresses: &addresses,
            arguments: &lane.service.arguments,
        }
        .argv();
        let variables = environment(
            &lane.service.settings.import_environment,
            |name| std::env::var(name).ok(),
            &self.config.service_environment(),
            generation,
        );
        match self.starter.start(&argv, &variables, lane.status.far_end(), &lane.listeners) {
            Ok(process_id) => lane.roster.started(process_id.as_raw(), generation, now),
            Err(error) => {
                let throttle_max = lane.throttle_max();
                let wait = lane.roster.not_started(now, throttle_max).as_secs();
                let name = &lane.service.name;
                let text =
                    format!("service {name}: cannot start a process: {error}; next attempt in {wait} s");
                self.say(Severity::Warning, &text);
            }
        }
    }

    fn tell_ready(&mut self) {
        let settled = |lane: &Lane| lane.roster.is_ready() || lane.roster.is_throttled();
        if !self.told_ready
            && self.stop.is_none()
            && (self.lanes.iter().all(settled) || self.started.elapsed() > READY_PATIENCE)
        {
            self.told_ready = true;
            self.manager.ready(&format!("{} services, generation {}", self.lanes.len(), self.generation));
        }
    }

    /// Sleeps until something happens or the next timer is due.
    fn wait(&self) {
        let now = Instant::now();
        let mut due: Vec<Instant> = self.manager.next_ping().into_iter().collect();
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for lane in &self.lanes {
            watched.push(PollFd::new(lane.status.near_end(), PollFlags::POLLIN));
            match lane.roster.need(now, lane.process_limit()) {
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
        due.extend(self.stop.as_ref().and_then(|stop| stop.kill_at));
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
        let mut notices = Vec::new();
        for lane in &mut self.lanes {
            for (process_id, generation, state) in lane.status.read() {
                let Some(state) = state else {
                    notices.push(Notice::warning("master_status_event: ignoring unknown status"));
                    continue;
                };
                let process_id = i32::try_from(process_id).unwrap_or_default();
                notices.extend(lane.roster.reported(process_id, generation, state == ChildState::Available));
            }
        }
        self.say_all(&notices);
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
            self.bury(process_id, outcome);
        }
    }

    fn bury(&mut self, process_id: i32, outcome: Outcome) {
        if self.settlement_ended(process_id, outcome) {
            return;
        }
        if self.leaving.remove(&process_id).is_some() {
            // Signals that we sent ourselves are no news.
            if self.stop.is_none() {
                self.say_all(&outcome.notice(&self.program, process_id).into_iter().collect::<Vec<_>>());
            }
            return;
        }
        // Its last words may still be on their way: they decide whether it failed to start.
        self.read_status();
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else { return };
            let throttle_max = lane.throttle_max();
            if let Some(notices) = lane.roster.ended(process_id, outcome, now, &self.program, throttle_max) {
                self.say_all(&notices);
                return;
            }
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
            self.say(Severity::Error, "reload refused: the configuration that was in force stays in force");
        }
        self.last_reload = LastReload::new(errors, warnings);
        let outcome = self.last_reload.summary();
        self.manager.ready(&format!("{} services, last reload {outcome}", self.lanes.len()));
    }

    /// Puts a configuration in force: all or nothing.
    fn adopt(&mut self, config: Config) -> Result<(), MasterError> {
        if config.queue_directory() != self.config.queue_directory() {
            self.say(
                Severity::Warning,
                "queue_directory does not change with a reload: stop and start the server for that",
            );
        }
        let log = Log::open(&config.log).map_err(|error| MasterError::Log { source: error })?;
        let mut fresh = lanes(&config.services)?;
        let mut have: Vec<Listener> =
            self.lanes.iter_mut().flat_map(|lane| std::mem::take(&mut lane.listeners)).collect();
        match rebind(&mut have, &wishes(&config.services)) {
            Ok(bound) => hand_out(&mut fresh, bound),
            Err(error) => {
                hand_out(&mut self.lanes, have);
                return Err(error.into());
            }
        }
        let notices = config.notices.clone();
        // With the lane goes our end of its status channel: that is how its processes learn to finish.
        for mut lane in std::mem::replace(&mut self.lanes, fresh) {
            for child in lane.roster.renew() {
                self.leaving.insert(child.process_id, lane.service.name.clone());
            }
        }
        self.config = config;
        self.log = log;
        if let Err(error) = self.log.start_writer() {
            self.say(Severity::Warning, &error.to_string());
        }
        self.say_all(&notices);
        Ok(())
    }

    fn begin_stop(&mut self, signal: Signal) {
        self.say(Severity::Info, &format!("terminating on signal {}", signal as i32));
        let again = self.stop.as_ref().is_some_and(|stop| stop.kill_at.is_some());
        self.dismiss();
        self.signal_all(if again { Signal::SIGKILL } else { Signal::SIGTERM });
        self.stop = Some(Stop { kill_at: Instant::now().checked_add(STOP_PATIENCE) });
    }

    fn begin_drain(&mut self) {
        self.say(Severity::Info, "draining: no new clients, and the end when the last session has ended");
        self.dismiss();
        self.stop.get_or_insert(Stop { kill_at: None });
    }

    /// Closes all sockets and status channels; every process is on its way out from here on.
    fn dismiss(&mut self) {
        self.manager.stopping();
        for mut lane in std::mem::take(&mut self.lanes) {
            for child in lane.roster.renew() {
                self.leaving.insert(child.process_id, lane.service.name.clone());
            }
        }
    }

    fn hurry_the_stop(&mut self) {
        let late = self.stop.as_ref().and_then(|stop| stop.kill_at).is_some_and(|at| at <= Instant::now());
        if late && !self.leaving.is_empty() {
            self.say(
                Severity::Warning,
                &format!(
                    "{} processes did not end within {} s: killed",
                    self.leaving.len(),
                    STOP_PATIENCE.as_secs()
                ),
            );
            self.signal_all(Signal::SIGKILL);
            self.stop = Some(Stop { kill_at: Instant::now().checked_add(STOP_PATIENCE) });
        }
    }

    fn signal_all(&self, signal: Signal) {
        for process_id in self.leaving.keys() {
            let _gone_already = kill(Pid::from_raw(*process_id), signal);
        }
    }

    fn save_state(&mut self) {
        let state = State {
            process_id: std::process::id(),
            configuration: self.config.source.to_string(),
            generation: self.generation,
            reloads: self.reloads,
            last_reload: self.last_reload.clone(),
            services: self
                .lanes
                .iter()
                .map(|lane| ServiceState {
                    name: lane.service.name.clone(),
                    addresses: lane.listeners.iter().map(|listener| listener.address().to_string()).collect(),
                    process_ids: lane.roster.children().iter().map(|child| child.process_id).collect(),
                    condition: lane.condition().to_owned(),
                })
                .collect(),
            draining: self.leaving.keys().copied().collect(),
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
fn lanes(services: &[Service]) -> Result<Vec<Lane>, MasterError> {
    let lane = |service: &Service| {
        let status = StatusChannel::new()
            .map_err(|source| MasterError::System { what: "make a status channel for a service", source })?;
        Ok(Lane { service: service.clone(), listeners: Vec::new(), status, roster: Roster::default() })
    };
    services.iter().map(lane).collect()
}

/// Gives each lane the sockets that its service asks for.
fn hand_out(lanes: &mut [Lane], mut bound: Vec<Listener>) {
    for lane in lanes {
        let addresses = &lane.service.addresses;
        let wanted = |listener: &Listener| addresses.iter().any(|address| listener.is_for(address));
        let (mine, rest) = bound.into_iter().partition(wanted);
        lane.listeners = mine;
        bound = rest;
    }
}
