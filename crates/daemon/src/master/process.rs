//! What the master knows of one service process, from its start to its burial: how far it is, whether it answers, and what is
//! to be done about it. When another one is started is the roster's matter.
//!
//! ```text
//! starting ──► serving ──► draining ──► syncing ──► (gone)
//!     │           │ SIGTERM    │           ▲ │
//!     └───────────┴──► ending ◄┘           │ └─► killed: it waited for the disk for qmqpd_stop_timeout
//!                        │  └──────────────┘
//!                        └─► killed: its sessions did not end within 5 s
//! ```

use std::time::{Duration, Instant};

use postfix::child::ChildState;
use postfix::settings::Settings;

use super::status_channel::{Breach, StatusChannel};

/// How long the sessions of a process have to end after SIGTERM.
pub(super) const SESSIONS_PATIENCE: Duration = Duration::from_secs(5);

/// How long a wait for the disk is nothing to talk about.
const DISK_QUIET: Duration = Duration::from_secs(2);

/// A process has been silent for long enough when it has missed so many ticks, one more than [`TICKS_PER_SILENCE`]: the first
/// may follow at once on its last word.
const TICKS_MISSED_MAX: u32 = TICKS_PER_SILENCE + 1;

const TICKS_PER_SILENCE: u32 = 4;

/// A process that misses so many ticks does not answer, as far as a service manager wants to know.
const TICKS_MISSED_DOUBT: u32 = 3;

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has said nothing yet.
    Starting,
    /// It takes clients.
    Serving,
    /// It takes no client any more, and finishes its sessions.
    Draining,
    /// It was told to end them.
    Ending,
    /// They are over, and it waits for the disk: until then its journal answers for accepted mail.
    Syncing,
    /// It was killed.
    Killed,
}

/// How long what may take, from the settings of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// `daemon_timeout`: until it is ready.
    pub(super) start_max: Duration,
    /// `qmqpd_hang_timeout`: without a word. Zero is for ever.
    pub(super) silence_max: Duration,
    /// `qmqpd_stop_timeout`: for the disk.
    pub(super) disk_max: Duration,
}

impl Limits {
    /// Those of a service with these settings.
    pub(super) const fn new(settings: &Settings) -> Self {
        Self {
            start_max: settings.daemon_timeout,
            silence_max: settings.qmqpd_hang_timeout,
            disk_max: settings.qmqpd_stop_timeout,
        }
    }
}

/// What the master does about a process, and what it says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Measure {
    /// Only says it.
    Say(String),
    /// Kills it.
    Kill(String),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Process {
    service: String,
    generation: u32,
    channel: StatusChannel,
    limits: Limits,
    stage: Stage,
    /// Of this stage.
    since: Instant,
    /// Once it has spoken: from then on it has to go on doing so.
    pulse: Option<Pulse>,
    is_disk_said: bool,
}

impl Process {
    /// A process that was just started.
    pub(super) fn new(
        service: &str,
        generation: u32,
        channel: StatusChannel,
        limits: Limits,
        now: Instant,
    ) -> Self {
        Self {
            service: service.to_owned(),
            generation,
            channel,
            limits,
            stage: Stage::Starting,
            since: now,
            pulse: None,
            is_disk_said: false,
        }
    }

    /// The name of its service.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Which start of a process this was.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// How far it is.
    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Since when.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// How long it may wait for the disk.
    pub(super) const fn disk_max(&self) -> Duration {
        self.limits.disk_max
    }

    /// Where it is heard.
    pub(super) const fn channel(&self) -> &StatusChannel {
        &self.channel
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }

    /// Reads what it has said.
    pub(super) fn listen(&mut self, process_id: i32, now: Instant) -> Result<Vec<ChildState>, Breach> {
        let states = self.channel.read(process_id, self.generation, now)?;
        states.iter().for_each(|state| self.heard(*state, now));
        Ok(states)
    }

    fn heard(&mut self, state: ChildState, now: Instant) {
        self.pulse = (!self.limits.silence_max.is_zero()).then(|| Pulse::new(self.limits.silence_max, now));
        match (state, self.stage) {
            (ChildState::Available, Stage::Starting) => self.enter(Stage::Serving, now),
            // To our master, busy means: permanently.
            (ChildState::Taken, Stage::Starting | Stage::Serving) => self.enter(Stage::Draining, now),
            (ChildState::Syncing, Stage::Starting | Stage::Serving | Stage::Draining | Stage::Ending) => {
                self.enter(Stage::Syncing, now);
            }
            _ => {}
        }
    }

    /// A successor takes over: tells it to finish its sessions.
    pub(super) fn stop_accepting(&mut self, now: Instant) {
        self.channel.end();
        if matches!(self.stage, Stage::Starting | Stage::Serving) {
            self.enter(Stage::Draining, now);
        }
    }

    /// Whether it is to hear SIGTERM now; from here on its sessions have little time.
    pub(super) fn terminate(&mut self, now: Instant) -> bool {
        self.channel.end();
        let has_sessions = matches!(self.stage, Stage::Starting | Stage::Serving | Stage::Draining);
        if has_sessions {
            self.enter(Stage::Ending, now);
        }
        has_sessions
    }

    /// It is killed: what it still says is of no interest.
    pub(super) fn kill(&mut self, now: Instant) {
        self.channel.close();
        self.enter(Stage::Killed, now);
    }

    /// Whether it does what it is there for, as far as can be told: no process that serves has been silent.
    pub(super) fn answers(&self) -> bool {
        let is_silent = self.pulse.as_ref().is_some_and(|pulse| pulse.missed >= TICKS_MISSED_DOUBT);
        !(self.stage == Stage::Serving && is_silent)
    }

    /// What has to be done by now. Call it after [`Process::listen`].
    pub(super) fn due(&mut self, process_id: i32, now: Instant) -> Option<Measure> {
        let service = &self.service;
        let waited = now.saturating_duration_since(self.since);
        match self.stage {
            Stage::Starting if waited >= self.limits.start_max => Some(Measure::Kill(format!(
                "service {service}: process {process_id} was not ready within {} s (daemon_timeout): killed",
                self.limits.start_max.as_secs()
            ))),
            Stage::Serving | Stage::Draining => {
                let is_hung = self.pulse.as_mut().is_some_and(|pulse| pulse.is_silent(now));
                is_hung.then(|| {
                    Measure::Kill(format!(
                        "service {service}: process {process_id} has not answered for {} s (qmqpd_hang_timeout): killed",
                        self.limits.silence_max.as_secs()
                    ))
                })
            }
            Stage::Ending if waited >= SESSIONS_PATIENCE => Some(Measure::Kill(format!(
                "service {service}: process {process_id} did not end its sessions within {} s: killed",
                SESSIONS_PATIENCE.as_secs()
            ))),
            Stage::Syncing if waited >= self.limits.disk_max => Some(Measure::Kill(format!(
                "service {service}: process {process_id} waited for the disk for {} s \
                 (qmqpd_stop_timeout): killed; messages in its journal may be delivered again",
                self.limits.disk_max.as_secs()
            ))),
            Stage::Syncing if waited >= DISK_QUIET && !self.is_disk_said => {
                self.is_disk_said = true;
                Some(Measure::Say(format!(
                    "service {service}: process {process_id} has no sessions and waits until accepted \
                     mail is on disk: at most {} s (qmqpd_stop_timeout)",
                    self.limits.disk_max.as_secs()
                )))
            }
            Stage::Starting | Stage::Ending | Stage::Syncing | Stage::Killed => None,
        }
    }

    /// When [`Process::due`] has to be asked at the latest.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let after = |wait: Duration| self.since.checked_add(wait);
        match self.stage {
            Stage::Starting => after(self.limits.start_max),
            Stage::Serving | Stage::Draining => self.pulse.as_ref().map(|pulse| pulse.next_tick),
            Stage::Ending => after(SESSIONS_PATIENCE),
            Stage::Syncing if self.is_disk_said => after(self.limits.disk_max),
            Stage::Syncing => after(DISK_QUIET.min(self.limits.disk_max)),
            Stage::Killed => None,
        }
    }
}

/// How long a process has been silent, in ticks of the master's own clock: time in which the master did not run either, for the
/// whole machine was stopped, is one tick at most.
#[derive(Debug)]
struct Pulse {
    tick: Duration,
    next_tick: Instant,
    missed: u32,
}

impl Pulse {
    fn new(silence_max: Duration, now: Instant) -> Self {
        let tick = silence_max / TICKS_PER_SILENCE;
        Self { tick, next_tick: now.checked_add(tick).unwrap_or(now), missed: 0 }
    }

    fn is_silent(&mut self, now: Instant) -> bool {
        if now >= self.next_tick {
            self.missed = self.missed.saturating_add(1);
            self.next_tick = now.checked_add(self.tick).unwrap_or(now);
        }
        self.missed >= TICKS_MISSED_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use postfix::child::status_message;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        process: Process,
        far: UnixStream,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            let (channel, far) = StatusChannel::new(now).unwrap();
            let limits = Limits { start_max: SECOND * 100, silence_max: SECOND * 8, disk_max: SECOND * 60 };
            Self { process: Process::new("628", 3, channel, limits, now), far: far.into(), now }
        }

        fn hears(&mut self, state: ChildState) {
            self.far.write_all(&status_message(7, 3, state)).unwrap();
            self.process.listen(7, self.now).unwrap();
        }

        /// Lets so many seconds pass, and collects what is to be done meanwhile.
        fn pass(&mut self, seconds: u64) -> Vec<(u64, Measure)> {
            let mut measures = Vec::new();
            for second in 1..=seconds {
                self.now += SECOND;
                let measure = self.process.due(7, self.now);
                measures.extend(measure.map(|measure| (second, measure)));
            }
            measures
        }
    }

    fn killed(measures: &[(u64, Measure)], second: u64, words: &str) -> bool {
        matches!(measures.first(), Some((at, Measure::Kill(text))) if *at == second && text.contains(words))
    }

    #[test]
    fn sessions_have_little_time_and_the_disk_much() {
        let mut scene = Scene::new();
        scene.hears(ChildState::Available);
        assert!(scene.process.terminate(scene.now));
        assert_eq!(scene.pass(4), []);
        assert!(killed(&scene.pass(1), 1, "did not end its sessions within 5 s"));

        let mut scene = Scene::new();
        scene.hears(ChildState::Available);
        assert!(scene.process.terminate(scene.now));
        scene.pass(4);
        scene.hears(ChildState::Syncing);
        assert!(
            !scene.process.terminate(scene.now),
            "a second signal is not for a process that waits for the disk"
        );
        let measures = scene.pass(59);
        assert!(
            matches!(&measures[..], [(2, Measure::Say(text))] if text.contains("waits until accepted mail is on disk")),
            "{measures:?}"
        );
        assert!(killed(&scene.pass(1), 1, "waited for the disk for 60 s"));
    }

    #[test]
    fn a_process_that_is_silent_is_killed_and_one_that_beats_is_not() {
        let mut scene = Scene::new();
        scene.hears(ChildState::Available);
        for _ in 0..20 {
            assert_eq!(scene.pass(5), []);
            assert!(scene.process.answers());
            scene.hears(ChildState::Alive);
        }
        assert_eq!(scene.pass(8), []);
        assert!(!scene.process.answers());
        assert!(killed(&scene.pass(10), 2, "has not answered for 8 s"));
    }

    #[test]
    fn a_machine_that_stood_still_is_no_silence() {
        let mut scene = Scene::new();
        scene.hears(ChildState::Available);
        scene.now += SECOND * 10_000;
        assert_eq!(scene.pass(7), []);
        assert!(!scene.pass(10).is_empty());
    }

    #[test]
    fn without_a_limit_silence_is_no_fault() {
        let mut scene = Scene::new();
        scene.process.limits.silence_max = Duration::ZERO;
        scene.hears(ChildState::Available);
        assert_eq!(scene.pass(1000), []);
    }

    #[test]
    fn a_start_may_take_long_but_not_for_ever() {
        let mut scene = Scene::new();
        assert_eq!(scene.pass(99), []);
        assert!(killed(&scene.pass(1), 1, "was not ready within 100 s"));
    }

    #[test]
    fn the_next_look_is_never_later_than_what_is_due() {
        let mut scene = Scene::new();
        scene.hears(ChildState::Available);
        for _ in 0..100 {
            let look = scene.process.next_look().unwrap();
            scene.now = look;
            if matches!(scene.process.due(7, scene.now), Some(Measure::Kill(_))) {
                assert!(look >= scene.process.since + SECOND * 8);
                return;
            }
        }
        panic!("never due");
    }
}
