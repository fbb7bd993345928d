//! Medians over the rounds, ratios within them, and the page that shows both.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::FileSystem;
use crate::contestant::Kind;
use crate::machine::Facts;
use crate::measure::Sample;
use crate::plot;
use crate::trouble::{Context as _, Result, trouble};

/// All samples.
#[derive(Debug)]
pub(crate) struct Results {
    samples: Vec<Sample>,
}

/// A figure of a sample.
type Figure = fn(&Sample) -> f64;

impl Results {
    pub(crate) const fn new(samples: Vec<Sample>) -> Self {
        Self { samples }
    }

    fn of(&self, place: FileSystem, load: &str, kind: Kind) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |it| it.place == place && it.load == load && it.kind == kind)
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, place: FileSystem, load: &str, kind: Kind, figure: Figure) -> Option<f64> {
        median(self.of(place, load, kind).map(figure).collect())
    }

    /// The median of the ratios between two servers in the same round.
    fn ratio(
        &self,
        place: FileSystem,
        load: (&str, &str),
        kinds: (Kind, Kind),
        figure: Figure,
    ) -> Option<f64> {
        let other = |round| self.of(place, load.1, kinds.1).find(|it| it.round == round).map(figure);
        let ratios = self.of(place, load.0, kinds.0).filter_map(|it| Some(figure(it) / other(it.round)?));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    pub(crate) fn places(&self) -> Vec<FileSystem> {
        self.samples.iter().map(|it| it.place).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn loads(&self, place: FileSystem) -> Vec<(&'static str, &'static str)> {
        let mut loads: Vec<(&str, &str)> = Vec::new();
        for sample in self.samples.iter().filter(|it| it.place == place) {
            if !loads.contains(&(sample.load, sample.title)) {
                loads.push((sample.load, sample.title));
            }
        }
        loads
    }

    fn rounds(&self) -> u32 {
        self.samples.iter().map(|it| it.round).max().map_or(0, |last| last.saturating_add(1))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some((upper + lower) / 2.0)
}

/// Writes RESULTS.md, results.csv and the plots.
pub(crate) fn write(directory: &Path, results: &Results, facts: &Facts) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))
    };
    write("RESULTS.md", &page(results, facts))?;
    write("results.csv", &csv(results))?;
    for place in results.places() {
        let drawing = plot::rates(results, place).map_err(|reason| trouble(format!("draw: {reason}")))?;
        write(&plot::file_name(place), &drawing)?;
    }
    Ok(())
}

fn page(results: &Results, facts: &Facts) -> String {
    let mut out = String::from(
        "# Results\n\nWritten by `make bench`; [README.md](README.md) says what is measured and how.\n\n",
    );
    out.push_str("| | |\n|---|---|\n");
    for (name, text) in &facts.lines {
        let _ = writeln!(out, "| {name} | {text} |");
    }
    let _ = writeln!(
        out,
        "| Rounds | {}; figures are medians, ratios are medians of the ratios within a round |",
        results.rounds()
    );
    if !facts.has_journal {
        out.push_str("\nThis server has no journal: only the file way was measured.\n");
    }
    for place in results.places() {
        let _ = writeln!(out, "\n## {}\n", heading(place));
        let _ = writeln!(out, "![messages per second]({})\n", plot::file_name(place));
        write_ratios(&mut out, results, place);
        for (load, title) in results.loads(place) {
            let _ = writeln!(out, "\n### {title}\n");
            write_load(&mut out, results, place, load);
        }
    }
    out
}

const fn heading(place: FileSystem) -> &'static str {
    match place {
        FileSystem::Memory => "File system in memory",
        FileSystem::Disk => "File system on the disk",
    }
}

/// What it comes down to.
fn write_ratios(out: &mut String, results: &Results, place: FileSystem) {
    out.push_str("| load | server | rate against Postfix | CPU against Postfix | rate against the floor |\n");
    out.push_str("|---|---|---:|---:|---:|\n");
    let rate: Figure = |it| it.messages_per_second;
    let shown = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} ×"));
    for (load, title) in results.loads(place) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_ours()) {
            if results.median(place, load, kind, rate).is_none() {
                continue;
            }
            let against = |other, figure| results.ratio(place, (load, load), (kind, other), figure);
            let _ = writeln!(
                out,
                "| {title} | {} | {} | {} | {} |",
                kind.title(),
                shown(against(Kind::Postfix, rate)),
                shown(against(Kind::Postfix, |it| it.cpu_seconds_per_1000)),
                shown(kind.floor().and_then(|floor| against(floor, rate)))
            );
        }
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_ours()) {
        let beside = |figure| results.ratio(place, ("idle", "small-20"), (kind, kind), figure);
        let (Some(rate), Some(p99)) = (beside(rate), beside(|it| it.p99_milliseconds)) else { continue };
        let memory = |load| results.median(place, load, kind, |it| it.peak_memory_mib).unwrap_or(0.0);
        let each = (memory("idle") - memory("small-20")) * 1024.0 / 5000.0;
        let _ = writeln!(
            out,
            "\nBeside 5,000 idle connections, against 20 sessions alone ({}): rate {rate:.2} ×, p99 {p99:.2} ×, {each:.1} KiB of memory for each.",
            kind.title()
        );
    }
}

fn write_load(out: &mut String, results: &Results, place: FileSystem, load: &str) {
    out.push_str(
        "| server | messages/s | recipients/s | p50 ms | p99 ms | p99.9 ms | CPU s per 1,000 | peak MiB |\n",
    );
    out.push_str("|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for kind in Kind::ALL {
        let median = |figure| results.median(place, load, kind, figure);
        let Some(rate) = median(|it| it.messages_per_second) else { continue };
        let figure = |figure, digits: usize| format!("{:.digits$}", median(figure).unwrap_or(0.0));
        let _ = writeln!(
            out,
            "| {} | {rate:.*} | {} | {} | {} | {} | {} | {} |",
            kind.title(),
            if rate < 100.0 { 2 } else { 0 },
            figure(|it| it.recipients_per_second, 0),
            figure(|it| it.p50_milliseconds, 2),
            figure(|it| it.p99_milliseconds, 2),
            figure(|it| it.p999_milliseconds, 2),
            figure(|it| it.cpu_seconds_per_1000, 3),
            figure(|it| it.peak_memory_mib, 1),
        );
    }
}

/// Every sample, for whoever wants to look for himself.
fn csv(results: &Results) -> String {
    let mut out = String::from(
        "place,round,load,server,messages_per_second,recipients_per_second,p50_ms,p99_ms,p999_ms,cpu_s_per_1000,peak_mib\n",
    );
    for it in &results.samples {
        let _ = writeln!(
            out,
            "{},{},{},\"{}\",{:.2},{:.1},{:.3},{:.3},{:.3},{:.4},{:.2}",
            it.place.name(),
            it.round,
            it.load,
            it.kind.title(),
            it.messages_per_second,
            it.recipients_per_second,
            it.p50_milliseconds,
            it.p99_milliseconds,
            it.p999_milliseconds,
            it.cpu_seconds_per_1000,
            it.peak_memory_mib
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, kind: Kind, rate: f64) -> Sample {
        Sample {
            place: FileSystem::Disk,
            round,
            load: "small-1",
            title: "small",
            kind,
            messages_per_second: rate,
            recipients_per_second: rate,
            p50_milliseconds: 1.0,
            p99_milliseconds: 2.0,
            p999_milliseconds: 3.0,
            cpu_seconds_per_1000: 0.1,
            peak_memory_mib: 10.0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let samples = [(100.0, 300.0), (10.0, 30.0), (200.0, 200.0)];
        let samples = (0..).zip(samples).flat_map(|(round, (postfix, ours))| {
            [sample(round, Kind::Postfix, postfix), sample(round, Kind::OursFile, ours)]
        });
        let results = Results::new(samples.collect());
        let rate: Figure = |it| it.messages_per_second;
        assert_eq!(results.median(FileSystem::Disk, "small-1", Kind::OursFile, rate), Some(200.0));
        let load = ("small-1", "small-1");
        assert_eq!(results.ratio(FileSystem::Disk, load, (Kind::OursFile, Kind::Postfix), rate), Some(3.0));
        assert_eq!(results.ratio(FileSystem::Memory, load, (Kind::OursFile, Kind::Postfix), rate), None);
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
