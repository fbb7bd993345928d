//! Runs a command that reads a message: in a process group of its own, for so long and no longer, with as much of its
//! output as a log line and a report can use.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use delivery::exit_status::CommandEnd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// As much of the output is kept, in bytes, as Postfix keeps. What comes behind it is read and forgotten.
pub const OUTPUT_BYTES_MAX: usize = 4096;

/// So long is waited for the end of a command that was killed. A process that waits for a dead disk ends later.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How a command is run, besides its arguments.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// How long it may run.
    pub time_limit: Duration,
}

/// How it ended, and what it printed on both of its outputs.
#[derive(Debug)]
pub struct Ended {
    /// By itself, by a signal, or by the time limit.
    pub end: CommandEnd,
    /// The first [`OUTPUT_BYTES_MAX`].
    pub output: Vec<u8>,
}

/// Why a command could not be run, or its input not be had.
#[derive(Debug)]
pub enum RunError<E> {
    /// It could not be started.
    Start(io::Error),
    /// The message cannot be read. The command was killed.
    Input(E),
    /// The system does not let us wait for it. It was killed.
    Wait(io::Error),
}

/// Runs `arguments`; `input` appends the next piece of its input, and says false at the end.
///
/// A command that does not read all of its input is not at fault, as for Postfix. What it leaves running when it ends is
/// left alone; when it is killed, so is all of its process group.
///
/// # Errors
/// It cannot be started, its input cannot be read, or the system fails.
pub fn run<E>(
    arguments: &[Vec<u8>],
    surroundings: &Surroundings,
    mut input: impl FnMut(&mut Vec<u8>) -> Result<bool, E>,
) -> Result<Ended, RunError<E>> {
    let mut running = Running::start(arguments, surroundings).map_err(RunError::Start)?;
    let deadline = Instant::now().checked_add(surroundings.time_limit);
    let mut piece = Vec::new();
    let mut is_more = true;
    loop {
        if running.input.is_some() && piece.is_empty() {
            if is_more {
                is_more = input(&mut piece).map_err(RunError::Input)?;
            }
            if piece.is_empty() && !is_more {
                running.input = None;
            }
        }
        let left =
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            running.kill();
            running.drain();
            return Ok(Ended { end: CommandEnd::TimedOut, output: std::mem::take(&mut running.output) });
        }
        let ready = running.wait(left, !piece.is_empty()).map_err(RunError::Wait)?;
        if ready.output {
            running.read();
        }
        if ready.input {
            running.write(&mut piece);
        }
        if ready.end {
            // What it printed last is in the pipe.
            running.drain();
            let status = running.child.wait().map_err(RunError::Wait)?;
            running.has_ended = true;
            let end = match (status.code(), status.signal()) {
                (Some(code), _) => CommandEnd::Exited(code),
                (None, signal) => CommandEnd::Killed(signal.unwrap_or_default()),
            };
            return Ok(Ended { end, output: std::mem::take(&mut running.output) });
        }
    }
}

/// A command that runs. Dropped before its end, it is killed.
struct Running {
    child: Child,
    process: rustix::fd::OwnedFd,
    group: Pid,
    input: Option<ChildStdin>,
    reader: Option<io::PipeReader>,
    output: Vec<u8>,
    has_ended: bool,
}

struct Ready {
    input: bool,
    output: bool,
    end: bool,
}

impl Running {
    fn start(arguments: &[Vec<u8>], surroundings: &Surroundings) -> io::Result<Self> {
        let (program, rest) =
            arguments.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let (reader, writer) = io::pipe()?;
        let mut child = std::process::Command::new(OsStr::from_bytes(program))
            .args(rest.iter().map(|argument| OsStr::from_bytes(argument)))
            .env_clear()
            .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&surroundings.directory)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let prepared = id.ok_or_else(|| io::ErrorKind::InvalidData.into()).and_then(|group| {
            if let Some(input) = &input {
                ioctl_fionbio(input, true)?;
            }
            ioctl_fionbio(&reader, true)?;
            Ok((group, pidfd_open(group, PidfdFlags::empty())?))
        });
        match prepared {
            Ok((group, process)) => {
                let reader = Some(reader);
                Ok(Self { child, process, group, input, reader, output: Vec::new(), has_ended: false })
            }
            Err(error) => {
                let _gone = child.kill();
                let _ended = child.wait();
                Err(error)
            }
        }
    }

    /// Waits until something can be done, or `left` is over.
    fn wait(&self, left: Duration, has_input: bool) -> io::Result<Ready> {
        let mut descriptors = vec![PollFd::new(&self.process, PollFlags::IN)];
        let output = self.reader.as_ref().map(|reader| {
            descriptors.push(PollFd::new(reader, PollFlags::IN));
            descriptors.len().saturating_sub(1)
        });
        let input = self.input.as_ref().filter(|_| has_input).map(|input| {
            descriptors.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT));
            descriptors.len().saturating_sub(1)
        });
        match poll(&mut descriptors, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: Option<usize>| {
            index.and_then(|index| descriptors.get(index)).is_some_and(|each| !each.revents().is_empty())
        };
        Ok(Ready { input: is_ready(input), output: is_ready(output), end: is_ready(Some(0)) })
    }

    /// Reads once; closes the pipe at its end.
    fn read(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let mut buffer = [0; 4096];
        match reader.read(&mut buffer) {
            Ok(count) if count > 0 => {
                let room = OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
                self.output.extend(buffer.iter().take(count.min(room)));
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            _ => {
                self.reader = None;
                false
            }
        }
    }

    /// Reads what is there, up to what is kept: a process that was left behind may print without end.
    fn drain(&mut self) {
        while self.output.len() < OUTPUT_BYTES_MAX && self.read() {}
    }

    /// Writes what the pipe takes of `piece`; when the command has closed it, all is said.
    fn write(&mut self, piece: &mut Vec<u8>) {
        let Some(input) = &mut self.input else { return };
        match input.write(piece) {
            Ok(count) => drop(piece.drain(..count.min(piece.len()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(_) => {
                self.input = None;
                piece.clear();
            }
        }
    }

    /// Kills the command and what it started, and waits a moment for it.
    fn kill(&mut self) {
        let _gone = kill_process_group(self.group, Signal::KILL);
        let patience = Timespec::try_from(KILL_PATIENCE).ok();
        let _late = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], patience.as_ref());
        let _not_yet = self.child.try_wait();
        self.has_ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(seconds: u64) -> Surroundings {
        Surroundings {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: "/".into(),
            time_limit: Duration::from_secs(seconds),
        }
    }

    fn shell(script: &str, seconds: u64, input: &[u8]) -> Ended {
        let arguments = ["sh", "-c", script].map(|argument| argument.as_bytes().to_vec());
        let mut pieces = input.chunks(65_536);
        run::<()>(&arguments, &surroundings(seconds), |out| {
            let piece = pieces.next();
            out.extend_from_slice(piece.unwrap_or_default());
            Ok(piece.is_some())
        })
        .unwrap()
    }

    fn text(ended: &Ended) -> &str {
        str::from_utf8(&ended.output).unwrap()
    }

    #[test]
    fn it_gets_its_input_and_both_outputs_are_heard() {
        let ended = shell("wc -c; echo wrong >&2; exit 3", 60, &vec![b'x'; 3_000_000]);
        assert_eq!((ended.end, text(&ended)), (CommandEnd::Exited(3), "3000000\nwrong\n"));
    }

    #[test]
    fn input_that_it_does_not_read_is_no_failure() {
        let ended = shell("exec <&-; echo enough", 60, &vec![b'x'; 3_000_000]);
        assert_eq!((ended.end, text(&ended)), (CommandEnd::Exited(0), "enough\n"));
    }

    #[test]
    fn megabytes_of_output_are_read_and_forgotten() {
        let ended = shell("cat; head -c 5000000 /dev/zero | tr '\\0' y; exit 9", 60, &vec![b'x'; 3_000_000]);
        assert_eq!((ended.end, ended.output.len()), (CommandEnd::Exited(9), OUTPUT_BYTES_MAX));
    }

    #[test]
    fn a_signal_is_told_from_an_exit() {
        assert_eq!(shell("kill -9 $$", 60, b"").end, CommandEnd::Killed(9));
    }

    #[test]
    fn at_the_time_limit_it_ends_with_its_offspring() {
        // The child holds the output open and has its number told.
        let ended = shell("sleep 1000 & echo $!; wait", 2, b"");
        assert_eq!(ended.end, CommandEnd::TimedOut);
        let child = text(&ended).trim();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if status.is_empty() || status.contains(") Z ") {
                break;
            }
            assert!(Instant::now() < deadline, "{child} still runs: {status}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_it_leaves_behind_does_not_hold_the_mail_up() {
        let ended = shell("sleep 1000 & echo $!; exit 0", 600, b"");
        assert_eq!(ended.end, CommandEnd::Exited(0));
        let child = text(&ended).trim().parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(child, Signal::KILL).unwrap();
    }

    #[test]
    fn its_environment_is_what_it_was_given() {
        let mut surroundings = surroundings(60);
        surroundings.environment.push(("LANG".into(), "x".into()));
        let ended = run::<()>(&[b"env".to_vec()], &surroundings, |_| Ok(false)).unwrap();
        assert_eq!(text(&ended), "LANG=x\nPATH=/usr/bin:/bin\n");
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error() {
        let error = run::<()>(&[b"/no/such".to_vec()], &surroundings(60), |_| Ok(false)).unwrap_err();
        assert!(matches!(error, RunError::Start(error) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_message_that_cannot_be_read_kills_it() {
        let arguments = [b"sleep".to_vec(), b"1000".to_vec()];
        let began = Instant::now();
        let error = run(&arguments, &surroundings(600), |_| Err("damaged")).unwrap_err();
        assert!(matches!(error, RunError::Input("damaged")));
        assert!(began.elapsed() < Duration::from_secs(300));
    }
}
