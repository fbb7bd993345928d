//! Limits that are held over all processes of a service: those that finish their sessions after a reload, and those
//! that Postfix's master(8) starts beside each other.
//!
//! Each process has a region of one file (`file`) that it holds by a lock, and tells there (`region`) how many
//! connections, sessions and messages its clients have, and how many sessions it has logged. It reads what the
//! others tell, and what they come to (`sums`) is added to its own counts. Sessions never do that: a thread does,
//! [`Changes`] wakes it, and what it has read is in memory. So accepting costs no system call, and a disk that
//! stands still holds up no client.
//!
//! - Counts are exchanged 100 ms after they have changed, and 10 ms after a client has come to a quarter of a
//!   limit. What a client does within that time in several processes is counted too late; that, and all clients but
//!   the 255 that take most in a process, is the error.
//! - What a process holds goes with its lock, so nothing is left of one that was killed. What was counted within a
//!   time unit (connections, messages, logged sessions) is adopted by a process that finds the region free, and the
//!   log lines that the other has lost are counted in the log.
//! - Under Postfix's master(8) a process that drains is unknown to the master. It reads how many have begun to
//!   drain after it, and cuts its sessions when these are `qmqpd_old_process_limit`.
//!
//! A process that was taken over can tell what it likes, in the regions of others, too; and hold regions, so that
//! others count by themselves. Its bytes are parsed with bounds, nothing waits for its locks, and the work for one
//! exchange is bounded by the file.

mod changes;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod minute;
mod region;
mod sums;

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use postfix::notice::Severity;
use rustix::time::{ClockId, clock_gettime};

pub use changes::Changes;
pub(crate) use file::RegionFile;
pub use minute::Minute;
pub(crate) use region::Counts;
pub(crate) use sums::{Others, Sum};

use self::file::{Held, REGIONS};
use self::region::Report;
use super::{Service, now};
use crate::log::Program;

/// The thread, until the process ends.
#[derive(Debug)]
pub(super) struct Siblings {
    changes: Arc<Changes>,
    has_ended: mpsc::Receiver<()>,
}

/// Takes a region of the file, and begins to tell and to read. Nothing stands in the way of serving if that is not possible; the log
/// says so. `service_name` is for the log.
pub(super) fn start(service: &Arc<Service>, file: RegionFile, service_name: &str) -> Option<Siblings> {
    let log = |text: String| service.log.write(Program::Service, Severity::Warning, &text);
    let own = match file.take() {
        Ok(Some(own)) => own,
        Ok(None) => {
            log(format!(
                "more than {REGIONS} processes of service {service_name}: this one counts its clients alone"
            ));
            return None;
        }
        Err(error) => {
            log(format!("lock the counts of clients: {error}: this process counts its clients alone"));
            return None;
        }
    };
    let mut exchange = Exchange {
        service: Arc::clone(service),
        service_name: service_name.to_owned(),
        file,
        own,
        known: [false; REGIONS],
        reports: [const { None }; REGIONS],
        draining_since: None,
        is_ending: false,
        is_trouble_said: false,
        is_last: false,
        lines_lost: 0,
    };
    exchange.agree_on_minutes();
    exchange.adopt_all();
    exchange.run();
    let (end, has_ended) = mpsc::channel();
    let changes = Arc::clone(&service.changes);
    let thread = thread::Builder::new().name("siblings".to_owned());
    if let Err(error) = thread.spawn(move || exchange.live(&end)) {
        log(format!(
            "start a thread for the counts of clients: {error}: this process counts its clients alone"
        ));
        return None;
    }
    Some(Siblings { changes, has_ended })
}

impl Siblings {
    /// Tells once more what there is to tell; a disk that stands still is not waited for.
    pub(super) fn finish(self) {
        self.changes.end();
        let _slow = self.has_ended.recv_timeout(LAST_EXCHANGE_TIME_MAX);
    }
}

/// What the thread works with.
struct Exchange {
    service: Arc<Service>,
    service_name: String,
    file: RegionFile,
    own: usize,
    /// The regions that other processes held at the last look.
    known: Held,
    /// What they told.
    reports: [Option<Report>; REGIONS],
    /// In milliseconds of this boot.
    draining_since: Option<u64>,
    /// It has to cut its sessions, and was told so.
    is_ending: bool,
    is_trouble_said: bool,
    /// The process is about to end.
    is_last: bool,
    /// Log lines that processes have lost that are gone, and of which the log does not say so yet.
    lines_lost: u64,
}

impl Exchange {
    fn live(mut self, end: &mpsc::Sender<()>) {
        let changes = Arc::clone(&self.service.changes);
        changes.listen();
        let mut last = Instant::now();
        loop {
            // A process that accepts has nothing to do while nothing happens.
            let longest = self.draining_since.map(|_| LOOK_INTERVAL_DRAINING);
            let goes_on = changes.wait(last, longest);
            last = Instant::now();
            self.is_last = !goes_on;
            self.run();
            if !goes_on {
                let _nobody_waits = end.send(());
                return;
            }
            if !self.is_ending && self.has_to_end() {
                // It is said once, and until it is gone this process stays the oldest to the others.
                self.is_ending = true;
                let limit = self.service.settings.qmqpd_old_process_limit;
                let name = &self.service_name;
                let text = format!(
                    "service {name}: more than {limit} draining processes (qmqpd_old_process_limit): this is the \
                     oldest, and ends its sessions"
                );
                self.service.log.write(Program::Service, Severity::Warning, &text);
                self.service.too_old.notify_one();
            }
        }
    }

    /// Tells and reads; the log has the first thing that goes wrong.
    fn run(&mut self) {
        if let Err(error) = self.try_run()
            && !std::mem::replace(&mut self.is_trouble_said, true)
        {
            let text = format!("exchange the counts of clients with other processes: {error}");
            self.service.log.write(Program::Service, Severity::Warning, &text);
        }
    }

    fn try_run(&mut self) -> io::Result<()> {
        let service = Arc::clone(&self.service);
        let seconds = now().seconds;
        let (window, minute) = (service.clients.window(seconds), service.session_quota.minute(seconds));
        if self.draining_since.is_none() && service.connection_limit.is_closed() {
            self.draining_since = Some(boot_milliseconds());
        }
        self.say_lines_lost();
        let told = self.file.write(self.own, &self.report(window, minute).encode());
        let held = self.file.held()?;
        for region in 0..REGIONS {
            let (was, is) = (flag(&self.known, region), flag(&held, region));
            if was && !is {
                self.adopt(region);
            }
            let report = if is {
                self.file.read(region)?.or_else(|| self.reports.get_mut(region)?.take())
            } else {
                None
            };
            if let Some(place) = self.reports.get_mut(region) {
                *place = report;
            }
        }
        self.known = held;
        let others = Others::sum(self.reports.iter().flatten(), window, minute);
        service.session_quota.hear(minute, others.logged, others.logged_of());
        service.clients.hear(others);
        told
    }

    fn report(&self, window: u64, minute: Minute) -> Report {
        let service = &self.service;
        let (logged, voices) = service.session_quota.counts(minute);
        Report {
            draining_since: self.draining_since,
            free_places: u32::try_from(service.connection_limit.free_places()).unwrap_or(u32::MAX),
            minute,
            logged,
            lines_lost: u32::try_from(self.lines_lost()).unwrap_or(u32::MAX),
            clients: sums::greatest(service.clients.counts(window, voices)),
        }
    }

    /// Those of this process, too, which Postfix's master(8) would not hear of; ours does, from a process that ends in order.
    fn lines_lost(&self) -> u64 {
        let is_said = self.is_last && !self.service.is_under_postfix;
        let own = if is_said { 0 } else { self.service.log.lost_lines() };
        self.lines_lost.saturating_add(own)
    }

    /// Has the log count what processes have lost that are gone, unless this one does not reach it either.
    fn say_lines_lost(&mut self) {
        if self.lines_lost == 0 || self.service.log.is_unreachable() {
            return;
        }
        let (name, count) = (&self.service_name, std::mem::take(&mut self.lines_lost));
        let text = format!(
            "service {name}: a process that is gone: {count} log lines were lost: it could not reach the log"
        );
        self.service.log.write(Program::Service, Severity::Warning, &text);
    }

    /// The minutes of the log quota are those of the processes that are there, or have just been there; or they begin now.
    fn agree_on_minutes(&self) {
        let seconds = now().seconds;
        let reports = (0..REGIONS).filter_map(|region| self.file.read(region).ok()?);
        let mut minutes = reports
            .map(|report| report.minute)
            .filter(|minute| Minute::new(minute.phase, seconds) == *minute);
        let phase = minutes.next().map_or_else(|| Minute::phase_of(seconds), |minute| minute.phase);
        self.service.session_quota.begin_minutes_at(phase);
    }

    /// What processes have left that are gone.
    fn adopt_all(&mut self) {
        let held = self.file.held().unwrap_or([true; REGIONS]);
        for region in (0..REGIONS).filter(|region| !flag(&held, *region)) {
            self.adopt(region);
        }
    }

    /// Counts as our own what a process has counted within the time unit that is not over; others are not to do that, too. What goes
    /// wrong here is a count that is lost.
    fn adopt(&mut self, region: usize) {
        let is_ours = region == self.own;
        if !is_ours && !self.file.try_lock(region).unwrap_or(false) {
            return;
        }
        if let Ok(Some(report)) = self.file.read(region) {
            let _lost = self.file.clear(region);
            self.service.clients.adopt(&report.clients, now().seconds);
            let logged_of = report.clients.iter().map(|(client, counts)| (*client, counts.logged));
            self.service.session_quota.adopt(report.minute, report.logged, logged_of, now().seconds);
            self.lines_lost = self.lines_lost.saturating_add(report.lines_lost.into());
            self.service.changes.note();
        }
        if !is_ours {
            let _still_held = self.file.unlock(region);
        }
    }

    /// Whether this process, which no master knows any more, has to cut its sessions.
    fn has_to_end(&self) -> bool {
        let Some(since) = self.draining_since.filter(|_| self.service.is_under_postfix) else { return false };
        let limit = usize::try_from(self.service.settings.qmqpd_old_process_limit).unwrap_or(usize::MAX);
        let others = self.reports.iter().zip(0..);
        let others = others.filter_map(|(report, region)| Some((report.as_ref()?.draining_since?, region)));
        sums::has_to_end((since, self.own), others, limit)
    }
}

fn flag(held: &Held, region: usize) -> bool {
    held.get(region).copied().unwrap_or(false)
}

fn boot_milliseconds() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let milliseconds = time.tv_nsec.checked_div(1_000_000).unwrap_or(0);
    u64::try_from(time.tv_sec.saturating_mul(1000).saturating_add(milliseconds)).unwrap_or(0)
}

/// How long the end of a process waits for its last exchange.
const LAST_EXCHANGE_TIME_MAX: Duration = Duration::from_millis(200);

/// How often a process that finishes its sessions looks whether it may.
const LOOK_INTERVAL_DRAINING: Duration = Duration::from_secs(1);
