//! Faults in system calls of a running program, put there by strace(1): the call does not happen, and the program is told
//! that it failed.

use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::postfix::scratch;
use crate::wait;

/// Which call fails, how, and when, in the words of strace(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The name of the call.
    pub call: &'static str,
    /// The name of the error; or `retval=0`, or `delay_enter=TIME`.
    pub error: &'static str,
    /// Which call of a thread: `1` is the first, `1+` each.
    pub when: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at call {}", self.call, self.error, self.when)
    }
}

impl Fault {
    fn argument(&self) -> String {
        // `retval=0` is a call that did nothing and says that it has; `delay_enter=1500ms` one that is slow.
        let how =
            if self.error.contains('=') { self.error.to_owned() } else { format!("error={}", self.error) };
        format!("inject={}:{how}:when={}", self.call, self.when)
    }

    /// A command that runs a program with this fault in it and its children. What was injected is written to the file.
    pub fn command(&self, trace: &std::path::Path) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(trace);
        command.args(["-e", &format!("trace={}", self.call), "-e", &self.argument()]);
        command
    }
}

/// A fault in threads that run; it ends when dropped.
pub struct Injection {
    strace: Child,
    dir: tempfile::TempDir,
}

impl Injection {
    /// Puts the fault into these threads and returns when it is in force.
    pub fn attach(threads: &[Pid], fault: &Fault) -> Self {
        Self::attach_all(threads, std::slice::from_ref(fault))
    }

    /// Puts several faults into these threads, each in another call.
    pub fn attach_all(threads: &[Pid], faults: &[Fault]) -> Self {
        let calls: Vec<&str> = faults.iter().map(|fault| fault.call).collect();
        let dir = scratch("strace");
        let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let list: Vec<String> = threads.iter().map(ToString::to_string).collect();
        let strace = Command::new("strace")
            .arg("-o")
            .arg(dir.path().join("trace"))
            .args(["-e", &format!("trace={}", calls.join(","))])
            .args(faults.iter().flat_map(|fault| ["-e".to_owned(), fault.argument()]))
            .args(["-p", &list.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("strace(1)");
        let injection = Self { strace, dir };
        wait::until("strace has attached", || {
            let said = std::fs::read_to_string(injection.dir.path().join("stderr")).unwrap();
            assert!(!said.contains("invalid") && !said.contains("not permitted"), "strace: {said}");
            // A thread may have ended since it was listed.
            let gone = said.matches("No such process").count();
            (said.matches(" attached").count() + gone == threads.len()).then_some(())
        });
        injection
    }

    /// How many calls have failed so.
    pub fn injected(&self) -> usize {
        injected(&self.trace())
    }

    /// The calls that have failed so, as strace(1) writes them: with their arguments, without the thread.
    pub fn failed_calls(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(self.trace()).unwrap_or_default();
        let mut begun = std::collections::HashMap::new();
        let mut failed = Vec::new();
        for line in trace.lines() {
            // With one thread there is no column for it.
            let call = line.trim_start_matches(|c: char| c.is_ascii_digit());
            let thread = line.strip_suffix(call).unwrap_or_default();
            let call = call.trim_start();
            if let Some(beginning) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, beginning.to_owned());
            } else if call.contains("(INJECTED)") {
                let resumed = call.split_once(" resumed>").filter(|_| call.starts_with("<... "));
                failed.push(match resumed {
                    Some((_, end)) => begun.remove(&thread).unwrap_or_default() + end,
                    None => call.to_owned(),
                });
            }
        }
        failed
    }

    /// Where the calls are noted.
    pub fn trace(&self) -> PathBuf {
        self.dir.path().join("trace")
    }
}

/// How many calls in a trace were made to fail.
pub fn injected(trace: &std::path::Path) -> usize {
    let trace = std::fs::read_to_string(trace).unwrap_or_default();
    trace.matches("(INJECTED)").count() + trace.matches("(DELAYED)").count()
}

impl Drop for Injection {
    fn drop(&mut self) {
        // On this signal it leaves the program as it is; on others too, but this one it was made for.
        let _ = kill(Pid::from_raw(i32::try_from(self.strace.id()).unwrap()), Signal::SIGINT);
        let _ = self.strace.wait();
    }
}

/// The threads of a process, those whose name fulfils `wanted`.
pub fn threads(process: Pid, wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let count = || -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
    };
    // The kernel stops listing at a thread that ends just then.
    let tasks = wait::until("the list of threads is whole", || {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
        let tasks: Vec<_> = tasks.into_iter().flatten().flatten().collect();
        (tasks.len() == count().unwrap_or(0)).then_some(tasks)
    });
    tasks
        .into_iter()
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| wanted(name.trim_end()))
        })
        .map(|task| Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap()))
        .collect()
}

/// Whether a thread of a process is in this system call, or stands at its beginning.
pub fn is_in_call(process: Pid, number: libc::c_long) -> bool {
    threads(process, |_| true).into_iter().any(|thread| {
        let call = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall"));
        call.is_ok_and(|text| text.split(' ').next() == Some(number.to_string().as_str()))
    })
}

/// How many descriptors a process has open.
pub fn descriptors(process: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}
