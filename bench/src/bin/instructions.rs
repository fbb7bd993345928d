//! How many instructions the pure crates take for their work, counted by callgrind: the same on a busy machine as on an
//! idle one. `make bench-check` fails when one takes more than [`TOLERANCE_PERCENT`] more than bench/instructions.csv
//! says; `--bless` writes that file. `--wall` tells times instead.

#![allow(clippy::print_stdout, reason = "a program for measuring")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use bench::cases::{CASES, Case};
use clap::Parser;

/// Count the instructions that the pure crates take
#[derive(Debug, Parser)]
#[command(name = "instructions", version)]
struct Arguments {
    /// Write what is counted as the new baseline
    #[arg(long)]
    bless: bool,

    /// Tell times and rates instead; they depend on the machine
    #[arg(long, conflicts_with = "bless")]
    wall: bool,

    /// Compare with this baseline
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.csv")]
    baseline: PathBuf,

    /// Run this case alone, as callgrind's guest
    #[arg(long, hide = true)]
    guest: Option<String>,
}

const TOLERANCE_PERCENT: f64 = 5.0;
/// What callgrind counts: this function, and what it calls.
const COUNTED: &str = "*counted_section*";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.guest {
        Some(name) => guest(name),
        None if arguments.wall => {
            CASES.iter().for_each(wall);
            Ok(true)
        }
        None => check(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn guest(name: &str) -> Result<bool, String> {
    let case =
        CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("there is no case {name}"))?;
    let mut work = (case.prepare)();
    // Tables that are made at the first use, and the heap's first growth, are not what is counted.
    work();
    counted_section(&mut *work);
    Ok(true)
}

#[inline(never)]
fn counted_section(work: &mut dyn FnMut()) {
    for _ in 0..GUEST_ROUNDS {
        black_box(&mut *work)();
    }
}

const GUEST_ROUNDS: u64 = 10;

fn wall(case: &Case) {
    let mut work = (case.prepare)();
    work();
    let began = Instant::now();
    let mut rounds = 0_u32;
    while began.elapsed().as_secs_f64() < 0.5 {
        work();
        rounds = rounds.saturating_add(1);
    }
    let each = began.elapsed().as_secs_f64() / f64::from(rounds.max(1));
    let megabytes = case.bytes as f64 / each / 1e6;
    println!(
        "{:26} {:10.1} µs {:9.0}/s {megabytes:8.0} MB/s",
        case.name,
        each * 1e6,
        case.things as f64 / each
    );
}

/// Compares with the baseline, or writes it; whether all is well.
fn check(arguments: &Arguments) -> Result<bool, String> {
    let baseline = std::fs::read_to_string(&arguments.baseline).unwrap_or_default();
    let compiler = compiler();
    if !arguments.bless && !baseline.contains(&compiler) {
        println!(
            "the baseline was counted with another compiler than {compiler}: small differences may be its own"
        );
    }
    let scratch = tempfile::tempdir().map_err(|error| format!("make a directory: {error}"))?;
    let mut new = format!("# {compiler}\n# instructions for {GUEST_ROUNDS} rounds: make bench-check\n");
    let mut is_well = true;
    for case in CASES {
        let count = count(case, scratch.path())?;
        let _ = writeln!(new, "{},{count}", case.name);
        let before = baseline.lines().find_map(|line| {
            let (name, count) = line.split_once(',')?;
            (name == case.name).then(|| count.parse::<u64>().ok())?
        });
        let (more, verdict) = match before {
            None if arguments.bless => (0.0, ""),
            None => {
                is_well = false;
                (0.0, "  is not in the baseline")
            }
            Some(before) => {
                let more = (count as f64 / before.max(1) as f64 - 1.0) * 100.0;
                let is_too_much = more > TOLERANCE_PERCENT && !arguments.bless;
                is_well &= !is_too_much;
                (more, if is_too_much { "  too many" } else { "" })
            }
        };
        let each = count as f64 / GUEST_ROUNDS as f64 / case.things as f64;
        println!("{:26} {count:12} {more:+7.2} %  {each:10.0} for each {}{verdict}", case.name, case.thing);
    }
    if arguments.bless {
        std::fs::write(&arguments.baseline, new)
            .map_err(|error| format!("write {}: {error}", arguments.baseline.display()))?;
    } else if !is_well {
        println!(
            "more than {TOLERANCE_PERCENT} % more instructions: find out why, or accept them with make bench-bless"
        );
    }
    Ok(is_well)
}

fn count(case: &Case, scratch: &Path) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let out = scratch.join(case.name);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--guest", case.name])
        .output()
        .map_err(|error| format!("run valgrind, which must be installed: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: valgrind: {}: {words}", case.name, output.status));
    }
    let counts = std::fs::read_to_string(&out).map_err(|error| format!("read {}: {error}", out.display()))?;
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    total
        .and_then(|total| total.trim().parse().ok())
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("{}: callgrind counted nothing: {words}", case.name))
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "rustc".to_owned(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
}
