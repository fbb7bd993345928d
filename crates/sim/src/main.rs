//! `make simulate SEED=N`: runs the world of a seed, and tells its story when it fails.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use sim::{Fault, Planted, Run, plant, run, shrink};

fn main() -> ExitCode {
    match work() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// `FIRST COUNT [--until SECONDS] [--without FAULT]... [--planted NUMBER|all] [--story]`
fn work() -> Result<bool, String> {
    let (mut numbers, mut without, mut until, mut planted, mut tells) =
        (Vec::new(), Vec::new(), None, None, false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--until" => until = Some(number(&value()?)?),
            "--without" => {
                let name = value()?;
                without.push(Fault::parse(&name).ok_or_else(|| format!("{name}: no kind of fault"))?);
            }
            "--planted" => planted = Some(value()?),
            "--story" => tells = true,
            _ => numbers.push(number(&argument)?),
        }
    }
    let first = numbers.first().copied().unwrap_or(1);
    let count = numbers.get(1).copied().unwrap_or(1);
    let of = |seed| Run {
        without: without.iter().copied().collect(),
        until_secs: until.unwrap_or(120),
        ..Run::new(seed)
    };
    match planted.as_deref() {
        None => seeds(first, count, tells, of),
        Some("all") => {
            Ok(Planted::ALL.into_iter().filter(|fault| !hunt(*fault, first, count, of)).count() == 0)
        }
        Some(text) => {
            let fault = Planted::ALL.get((number(text)? as usize).wrapping_sub(1));
            Ok(hunt(*fault.ok_or_else(|| format!("{text}: no planted fault"))?, first, count, of))
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: not a number"))
}

/// Runs seeds until one fails. Was there none?
fn seeds(first: u64, count: u64, tells: bool, of: impl Fn(u64) -> Run) -> Result<bool, String> {
    let began = Instant::now();
    let (mut steps, mut accepted, mut repeated) = (0, 0, 0);
    for seed in first..first + count {
        let outcome = run(&of(seed));
        steps += outcome.steps.0;
        accepted += outcome.totals.accepted;
        repeated += outcome.totals.repeated;
        if !outcome.failures.is_empty() {
            let smallest = shrink(&of(seed));
            let outcome = run(&smallest);
            tell(&outcome.story);
            tell(&outcome.failures);
            let without: String =
                smallest.without.iter().map(|fault| format!(" --without {fault}")).collect();
            tell(&[format!("repeat it: sim {seed} 1 --until {}{without} --story", smallest.until_secs)]);
            return Ok(false);
        }
        if tells {
            tell(&outcome.story);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    tell(&[format!(
        "{count} seeds from {first}: {accepted} messages accepted, {repeated} repeated with an excuse, {steps} events in \
         {seconds:.1} s, {:.0} events/s",
        steps as f64 / seconds
    )]);
    Ok(true)
}

/// Looks for a planted fault. Was it found?
fn hunt(fault: Planted, first: u64, count: u64, of: impl Fn(u64) -> Run) -> bool {
    plant(Some(fault));
    let found = (first..first + count).find_map(|seed| {
        let failures = run(&of(seed)).failures;
        failures.first().map(|failure| format!("{fault:?}: seed {seed}: {failure}"))
    });
    plant(None);
    tell(&[found.clone().unwrap_or_else(|| format!("{fault:?}: NOT FOUND in {count} seeds"))]);
    found.is_some()
}

fn tell(lines: &[String]) {
    let mut out = io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}
