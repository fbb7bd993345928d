//! What was tried, for the tables in docs/testing.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use testbed::strace::Fault;

/// Place, call and outcome; the errors that led there, and how many calls failed so.
type Rows = BTreeMap<(&'static str, &'static str, String), (Vec<String>, usize)>;

static ROWS: Mutex<Rows> = Mutex::new(BTreeMap::new());

/// Notes a fault and its outcome in a few words.
pub(crate) fn note(place: &'static str, fault: &Fault, injected: usize, outcome: impl Into<String>) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    let (errors, count) = rows.entry((place, fault.call, outcome.into())).or_default();
    if !errors.iter().any(|error| error == fault.error) {
        errors.push(fault.error.to_owned());
    }
    *count += injected;
}

/// Writes the tables, one for each place, to `target/faults.md`.
pub(crate) fn write() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.is_empty() {
        return;
    }
    let mut tables = String::new();
    let mut place_before = "";
    for ((place, call, outcome), (errors, count)) in rows.iter() {
        if *place != place_before {
            place_before = place;
            let head = "| call | errors | failed calls | outcome |\n|---|---|---|---|";
            write!(tables, "\n**{place}**\n\n{head}\n").unwrap();
        }
        writeln!(tables, "| `{call}` | {} | {count} | {outcome} |", errors.join(", ")).unwrap();
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("faults.md");
    std::fs::write(&path, tables.trim_start()).unwrap();
    eprintln!("the faults that were tried are in {}", path.display());
}
