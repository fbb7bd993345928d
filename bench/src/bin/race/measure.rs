//! One load on one server: what the source measured, and what the server's processes used for it.

use std::collections::HashMap;
use std::fmt;
use std::process::Command;

use serde_json::Value;

use crate::FileSystem;
use crate::contestant::{Contestant, Kind, Programs};
use crate::image::succeed;
use crate::load::{Amount, Load};
use crate::trouble::{Context as _, Result, trouble};

/// The figures of one run.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) place: FileSystem,
    pub(crate) round: u32,
    pub(crate) load: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) messages_per_second: f64,
    pub(crate) recipients_per_second: f64,
    pub(crate) p50_milliseconds: f64,
    pub(crate) p99_milliseconds: f64,
    pub(crate) p999_milliseconds: f64,
    pub(crate) cpu_seconds_per_1000: f64,
    /// The most that was resident, of all its processes together.
    pub(crate) peak_memory_mib: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:12} {:14} {:9.1} messages/s  p99 {:9.3} ms  {:7.3} CPU s per 1000  {:6.1} MiB",
            self.load,
            self.kind.title(),
            self.messages_per_second,
            self.p99_milliseconds,
            self.cpu_seconds_per_1000,
            self.peak_memory_mib
        )
    }
}

/// Puts the load on the server.
pub(crate) fn run(
    place: FileSystem,
    round: u32,
    load: &Load,
    contestant: &Contestant,
    programs: &Programs,
) -> Result<Sample> {
    let before = Usage::of(contestant.pid());
    forget_peaks(&before);
    let report = source(load, contestant, programs)?;
    let after = Usage::of(contestant.pid());
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.ok_or_else(|| trouble(format!("the source says nothing about {pointer}")))
    };
    let accepted = number("/messages/accepted")?;
    let ticks = after.ticks.saturating_sub(before.ticks) as f64;
    Ok(Sample {
        place,
        round,
        load: load.name,
        title: load.title,
        kind: contestant.kind,
        messages_per_second: number("/messages_per_second")?,
        recipients_per_second: number("/recipients_per_second")?,
        p50_milliseconds: number("/service_milliseconds/p50")?,
        p99_milliseconds: number("/service_milliseconds/p99")?,
        p999_milliseconds: number("/service_milliseconds/p99.9")?,
        cpu_seconds_per_1000: ticks / TICKS_PER_SECOND * 1000.0 / accepted.max(1.0),
        peak_memory_mib: after.peak_kib as f64 / 1024.0,
    })
}

/// Of /proc, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn source(load: &Load, contestant: &Contestant, programs: &Programs) -> Result<Value> {
    let mut command = Command::new(programs.path("qmqp-bench"));
    command.args(["source", &contestant.address, "--quiet", "--json", "-"]);
    for (option, value) in [
        ("--sessions", u64::from(load.sessions)),
        ("--length", load.content_bytes),
        ("--recipients", load.recipients),
        ("--idle", load.idle.into()),
    ] {
        command.arg(option).arg(value.to_string());
    }
    match load.amount {
        Amount::Time(time) => command.arg("--duration").arg(time.as_secs_f64().to_string()),
        Amount::Messages(count) => command.arg("--messages").arg(count.to_string()),
    };
    let text = succeed(&mut command)
        .map_err(|error| trouble(format!("{} under {}: {}", contestant.kind.title(), load.name, error.0)))?;
    serde_json::from_str(&text).context(|| "read what the source says".to_owned())
}

/// What a process and all below it have used.
#[derive(Debug)]
struct Usage {
    /// Processor time, user and system, children that are gone included.
    ticks: u64,
    /// The sum of their peaks; pages that they share count in each.
    peak_kib: u64,
    pids: Vec<u32>,
}

impl Usage {
    fn of(root: u32) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut ticks_of = HashMap::new();
        for pid in all_pids() {
            // Behind the name, which may hold anything: state, parent, …, then user and system time, own and children's.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = fields.split(' ').collect();
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            let parent = u32::try_from(number(1)).unwrap_or(0);
            children.entry(parent).or_default().push(pid);
            ticks_of.insert(pid, (11..15).map(number).sum::<u64>());
        }
        let mut usage = Self { ticks: 0, peak_kib: 0, pids: vec![root] };
        let mut next = 0;
        while let Some(&pid) = usage.pids.get(next) {
            next += 1;
            usage.ticks += ticks_of.get(&pid).copied().unwrap_or(0);
            usage.peak_kib += peak_kib(pid);
            usage.pids.extend(children.get(&pid).into_iter().flatten());
        }
        usage
    }
}

fn all_pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// From here on the peaks are those of the load.
fn forget_peaks(usage: &Usage) {
    for pid in &usage.pids {
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}
