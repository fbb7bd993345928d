//! A limit on address space (`ulimit -v`, softlimit): where there is one, allocations may fail, and a program that cannot
//! allocate dies without a word. So what is needed is looked at before anything is begun.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use postfix::settings::Settings;
use rustix::process::{Resource, getrlimit};

/// The program, its libraries, tables, and the threads besides those of [`needed`].
const BASE_BYTES: u64 = 128 << 20;

/// A thread's stack, and what it allocates.
const THREAD_BYTES: u64 = 3 << 20;

/// The allocator of the C library reserves 64 MiB of address space for each thread that allocates, unless this forbids it.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Starts this program again with an allocator that reserves little, if address space is limited and that has not been done.
/// Call it first of all: everything that a parent left open is still there then.
pub fn be_modest(arguments: &[OsString]) {
    if getrlimit(Resource::As).current.is_none() || std::env::var_os(ARENAS).is_some() {
        return;
    }
    let (Some((name, rest)), Ok(program)) = (arguments.split_first(), std::env::current_exe()) else {
        return;
    };
    // If it cannot be, it goes on as it is.
    let _not_started = Command::new(program).arg0(name).args(rest).env(ARENAS, "1").exec();
}

/// What a service process with these settings needs, in bytes.
fn needed(settings: &Settings) -> u64 {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = count(settings.qmqpd_commit_threads).saturating_add(u64::try_from(processors).unwrap_or(1));
    BASE_BYTES
        .saturating_add(threads.saturating_mul(THREAD_BYTES))
        .saturating_add(count(settings.qmqpd_memory_limit))
}

/// Whether the limit is too low for a service process with these settings, in words.
pub fn shortage(settings: &Settings) -> Option<String> {
    let limit = getrlimit(Resource::As).current?;
    let needed = needed(settings);
    (limit < needed).then(|| {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "the limit on address space is {} MB, and a service process needs {} MB: raise it (ulimit -v, softlimit -a), or \
             lower qmqpd_memory_limit or qmqpd_commit_threads",
            megabytes(limit),
            megabytes(needed)
        )
    })
}
