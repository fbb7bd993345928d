//! The program under test. Cargo tells only the test programs of the package that has it where it is, so each of them passes it
//! on as it begins: [`set`].

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static PLACE: OnceLock<ProgramPaths> = OnceLock::new();

struct ProgramPaths {
    qmqpd: &'static str,
    target: PathBuf,
}

/// Says what is tested: `set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"))`, first thing in `main`.
///
/// # Panics
///
/// When the second is not a directory inside of the one that cargo builds in.
pub fn set(qmqpd: &'static str, target_tmpdir: &'static str) {
    let target = Path::new(target_tmpdir).parent().expect("CARGO_TARGET_TMPDIR is inside of target");
    PLACE.get_or_init(|| ProgramPaths { qmqpd, target: target.to_owned() });
}

/// The path of qmqpd.
///
/// # Panics
///
/// When the test program has not said where it is.
pub fn qmqpd() -> &'static str {
    place().qmqpd
}

/// The directory that cargo builds in, where `make peers` puts what it unpacks.
///
/// # Panics
///
/// When the test program has not said where it is.
pub fn target() -> &'static Path {
    &place().target
}

fn place() -> &'static ProgramPaths {
    PLACE.get().expect("the test program calls testbed::program::set first")
}
