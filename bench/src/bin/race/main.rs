//! The race: our server, Postfix's qmqpd(8) and a bare program take the same loads in turns, on a file system in memory
//! and on the disk. `make bench` runs it; bench/README.md says what it does, and bench/RESULTS.md is what it wrote.

mod contestant;
mod image;
mod load;
mod machine;
mod measure;
mod plot;
mod results;
mod trouble;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use contestant::{Contestant, Kind, Programs};
use image::{Image, Mounted};
use load::Load;
use measure::Sample;
use results::Results;
use trouble::{Result, Trouble, trouble};

/// Let our server, Postfix's qmqpd and a bare program take the same loads in turns
#[derive(Debug, Parser)]
#[command(name = "race", version)]
struct Arguments {
    /// Run this many rounds; each has file systems and servers of its own, and figures are medians over all
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Run each load of small messages for this many seconds
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,

    /// Run on these file systems; both unless given
    #[arg(long = "on", value_enum)]
    places: Vec<FileSystem>,

    /// Run these loads; all unless given
    #[arg(long = "load")]
    loads: Vec<String>,

    /// Make the image of the file system on the disk here; 8 GiB
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    disk_directory: PathBuf,

    /// Make the image of the file system in memory here; 8 GiB as well
    #[arg(long, value_name = "DIRECTORY", default_value = "/dev/shm")]
    memory_directory: PathBuf,

    /// Find the programs here
    #[arg(long, value_name = "DIRECTORY", default_value = "target/release")]
    programs: PathBuf,

    /// Write the results here
    #[arg(long, value_name = "DIRECTORY", default_value = "bench")]
    output: PathBuf,
}

/// A file system to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
enum FileSystem {
    /// ext4 in memory
    Memory,
    /// ext4 on the disk
    Disk,
}

impl FileSystem {
    const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble(text)) => {
            let _ = writeln!(std::io::stderr(), "race: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err(trouble("this needs root: it makes and mounts file systems, and starts a Postfix"));
    }
    machine::enter_mount_namespace()?;
    let programs = Programs::find(&arguments.programs)?;
    let loads = chosen_loads(arguments)?;
    let places =
        if arguments.places.is_empty() { FileSystem::ALL.to_vec() } else { arguments.places.clone() };
    let started = Instant::now();
    let mut samples = Vec::new();
    for place in places {
        let directory = match place {
            FileSystem::Memory => &arguments.memory_directory,
            FileSystem::Disk => &arguments.disk_directory,
        };
        say(&format!("making an image in {}", directory.display()));
        let image = Image::make(directory, IMAGE_BYTES)?;
        for round in 0..arguments.rounds {
            let text = format!(
                "{}, round {} of {}, {:.0} s",
                place.name(),
                round + 1,
                arguments.rounds,
                started.elapsed().as_secs_f64()
            );
            say(&text);
            samples.extend(run_round(place, round, &image.mount()?, &programs, &loads)?);
        }
    }
    let results = Results::new(samples);
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let facts = machine::Facts::gather(&programs, command, started.elapsed());
    results::write(&arguments.output, &results, &facts)?;
    say(&format!("written to {}/RESULTS.md", arguments.output.display()));
    Ok(())
}

/// A round leaves 5 GB behind, and nothing is removed within one.
const IMAGE_BYTES: u64 = 8 << 30;

fn chosen_loads(arguments: &Arguments) -> Result<Vec<Load>> {
    let all = load::all(Duration::from_secs_f64(arguments.seconds.clamp(0.1, 60.0)));
    if arguments.loads.is_empty() {
        return Ok(all);
    }
    let known = |name: &String| all.iter().find(|load| load.name == name.as_str()).cloned();
    arguments
        .loads
        .iter()
        .map(|name| {
            let names: Vec<_> = all.iter().map(|load| load.name).collect();
            known(name)
                .ok_or_else(|| trouble(format!("there is no load {name}; there are {}", names.join(", "))))
        })
        .collect()
}

/// Starts everybody, and lets them take each load in turns.
fn run_round(
    place: FileSystem,
    round: u32,
    mounted: &Mounted,
    programs: &Programs,
    loads: &[Load],
) -> Result<Vec<Sample>> {
    let mut contestants = Vec::new();
    for kind in Kind::ALL {
        if let Some(contestant) = Contestant::start(kind, mounted.path(), programs)? {
            contestants.push(contestant);
        }
    }
    let mut samples = Vec::new();
    for load in loads {
        let count = contestants.len();
        for turn in 0..count {
            // Who is first in one round is last in another.
            let at = turn.saturating_add(usize::try_from(round).unwrap_or(0)) % count.max(1);
            let Some(contestant) = contestants.get(at).filter(|it| load.is_for(it.kind)) else { continue };
            mounted.settle()?;
            let sample = measure::run(place, round, load, contestant, programs)?;
            say(&format!("  {sample}"));
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
