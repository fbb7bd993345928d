//! Room for thousands of sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to `wanted` and a few more, as far as the system allows it.
///
/// # Errors
/// In words: how many may be open, when that is not enough.
pub(super) fn make_room(wanted: u64) -> Result<(), String> {
    let wanted = wanted.saturating_add(FOR_OTHER_THINGS);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    // Root may raise the upper limit too; for others this fails, and the second attempt goes as far as they may.
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum.map(|maximum| maximum.max(wanted)) };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let highest = limit.maximum.unwrap_or(wanted);
    Err(format!("{wanted} open files are needed, and {highest} are allowed: raise the limit with ulimit -n"))
}

/// Standard streams, output files, epoll and signal descriptors of some threads.
const FOR_OTHER_THINGS: u64 = 256;
