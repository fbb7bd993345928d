//! The log: Postfix's words, tags and framing, to whichever place the configuration names.
//!
//! A [`Log`] is a cheap handle. Until [`Log::start_writer`] each line is written by the caller; from then on a
//! line goes into a bounded queue and one thread writes it, so that a slow log never holds up a session. What the
//! queue has no room for is counted, and the count is logged as one line.
//!
//! Destinations are opened by [`Log::open`], before chroot and the change of user.

mod format;
mod options;
mod queue;
mod sink;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postfix::notice::{Notice, Severity, Speaker};
use postfix::text::system_words;

use format::Framer;
pub use format::escape;
pub use options::{LogConfig, LogDestination, Mode};
use queue::{Batch, Queue};
use sink::Sinks;

/// How long [`Log::flush`] waits for a log that does not move.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// Whose line it is. It decides the tag: `syslog_name/qmqpd[pid]` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The service of this process. The word in the tag is [`LogConfig::process_name`].
    Service,
    /// What cleanup(8) logs.
    Cleanup,
    /// What trivial-rewrite(8) logs, whose work our cleanup does.
    TrivialRewrite,
    /// What master(8) logs.
    Master,
    /// What error(8) and retry(8) log, whose work our queue manager does.
    Error,
    /// What discard(8) logs; as above.
    Discard,
    /// What bounce(8) logs; as above.
    Bounce,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// maillog_file cannot be opened.
    #[error("cannot open the log file {path}: {source}; correct maillog_file, or create its directory")]
    File {
        /// The path as configured.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes the log: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
}

/// One line on its way: the text is already escaped and cut.
#[derive(Debug)]
struct Line {
    seconds: i64,
    program: Program,
    severity: Severity,
    text: String,
}

struct Writer {
    framer: Framer,
    sinks: Sinks,
    unreported_loss: Arc<AtomicU64>,
    /// What the system said when a line was lost, if that was the reason.
    loss_reason: Option<std::io::Error>,
    goes_line_by_line: Arc<AtomicBool>,
    is_unreachable: Arc<AtomicBool>,
}

/// How many lines were lost, and why.
fn loss(count: u64, reason: Option<&std::io::Error>) -> String {
    match reason {
        Some(error) => {
            let words = system_words(error);
            format!("{count} log lines were lost: the log could not be written: {words}")
        }
        None => format!("{count} log lines were lost: the log was too slow"),
    }
}

impl Writer {
    /// Writes lines, and says how many were lost as soon as the log takes lines again.
    fn write(&mut self, lines: &[Line]) {
        let Some(last) = lines.last() else { return };
        let at_once = if self.goes_line_by_line.load(Ordering::Acquire) { 1 } else { lines.len() };
        let batches = lines.chunks(at_once);
        let mut reason = None;
        let lost: usize = batches.map(|lines| self.sinks.write(&mut self.framer, lines, &mut reason)).sum();
        if reason.is_some() {
            self.loss_reason = reason;
        }
        if lost > 0 || self.is_unreachable.load(Ordering::Relaxed) {
            self.is_unreachable.store(self.sinks.is_unreachable(), Ordering::Relaxed);
        }
        self.lose(lost as u64);
        if lost < lines.len() && self.unreported_loss.load(Ordering::Relaxed) > 0 {
            self.report_loss(last.seconds);
        }
    }

    /// Only the writer changes the number.
    fn lose(&self, lines: u64) {
        let sum = self.unreported_loss.load(Ordering::Relaxed).saturating_add(lines);
        self.unreported_loss.store(sum, Ordering::Relaxed);
    }

    fn report_loss(&mut self, seconds: i64) {
        let text = loss(self.unreported_loss.load(Ordering::Relaxed), self.loss_reason.as_ref());
        let line = Line { seconds, program: Program::Service, severity: Severity::Warning, text };
        if self.sinks.write(&mut self.framer, &[line], &mut None) == 0 {
            self.unreported_loss.store(0, Ordering::Relaxed);
            self.loss_reason = None;
        }
    }
}

struct Shared {
    utf8: bool,
    /// Set once the writer runs.
    queue: OnceLock<Arc<Queue>>,
    /// Used by callers until the writer thread takes it over.
    direct: Mutex<Option<Writer>>,
    goes_line_by_line: Arc<AtomicBool>,
    is_unreachable: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.get() {
            queue.close();
        }
    }
}

/// A handle to the log; see the module's text. Clones write to the same place.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Opens the places that `config` names. Reads the time zone; call it before any chroot.
    ///
    /// A missing syslog socket is no error: as with Postfix, each line tries again, and is lost while there is none.
    ///
    /// # Errors
    /// A log file, or standard output, cannot be opened.
    pub fn open(config: &LogConfig) -> Result<Self, LogError> {
        Ok(Self::with_sinks(config, Sinks::open(config)?))
    }

    /// As [`Log::open`], without the places that cannot be opened: for saying that something else is wrong.
    #[must_use]
    pub fn open_what_opens(config: &LogConfig) -> Self {
        Self::with_sinks(config, Sinks::open_what_opens(config))
    }

    fn with_sinks(config: &LogConfig, sinks: Sinks) -> Self {
        let goes_line_by_line = Arc::new(AtomicBool::new(false));
        let is_unreachable = Arc::new(AtomicBool::new(false));
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            framer: Framer::new(config),
            sinks,
            unreported_loss: Arc::clone(&lost),
            loss_reason: None,
            goes_line_by_line: Arc::clone(&goes_line_by_line),
            is_unreachable: Arc::clone(&is_unreachable),
        };
        let direct = Mutex::new(Some(writer));
        let queue = OnceLock::new();
        Self(Arc::new(Shared { utf8: config.utf8, queue, direct, goes_line_by_line, is_unreachable, lost }))
    }

    /// Hands the writing to a thread of its own. Call it once, after the privileges were given up: the thread takes
    /// over the credentials of that moment. Calling it again does nothing.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start_writer(&self) -> Result<(), LogError> {
        let Some(mut writer) = self.0.direct.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        writer.framer.refresh_process_id();
        let queue = Arc::new(Queue::default());
        let writers = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || run(writer, &writers))
            .map_err(|source| LogError::Thread { source })?;
        let _first = self.0.queue.set(queue);
        Ok(())
    }

    /// Logs one line. Never waits once the writer runs. Bytes that do not print become `?`; the text is cut at
    /// 2000 bytes.
    pub fn write(&self, program: Program, severity: Severity, text: &str) {
        self.write_bytes(program, severity, text.as_bytes());
    }

    /// As [`Log::write`], for text that holds bytes from outside: each that is not valid UTF-8 becomes one `?`.
    pub fn write_bytes(&self, program: Program, severity: Severity, text: &[u8]) {
        let line = Line { seconds: now_seconds(), program, severity, text: escape(text, self.0.utf8) };
        let Some(queue) = self.0.queue.get() else {
            if let Some(writer) = self.0.direct.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                writer.write(&[line]);
            }
            return;
        };
        queue.push(line);
    }

    /// Logs what pure code had to say that does the work of `program`.
    pub fn notice(&self, program: Program, notice: &Notice) {
        let program = match notice.speaker {
            Speaker::Caller => program,
            Speaker::TrivialRewrite => Program::TrivialRewrite,
        };
        self.write(program, notice.severity, &notice.text);
    }

    /// From now on each line is written by itself. A process that ends has been told that the configuration may be another;
    /// and postlogd(8), where that no longer names a maillog_file, makes one line of syslog out of each datagram.
    pub fn go_line_by_line(&self) {
        self.0.goes_line_by_line.store(true, Ordering::Release);
    }

    /// Whether the log daemon was gone when the last line was lost, and could not be reached anew: as after its restart, where
    /// its new socket is out of sight behind a change of the root directory.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.0.is_unreachable.load(Ordering::Relaxed)
    }

    /// How many lines were lost of which the log does not say so.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Returns when all lines so far are written, or after two seconds of a log that does not move.
    pub fn flush(&self) {
        if let Some(queue) = self.0.queue.get() {
            queue.flush(FLUSH_PATIENCE);
        }
    }
}

fn run(mut writer: Writer, queue: &Queue) {
    let mut written = Batch::default();
    while let Some(batch) = queue.next(written) {
        writer.write(&batch.lines);
        if batch.dropped > 0 {
            writer.lose(batch.dropped);
            writer.report_loss(now_seconds());
        }
        written = batch;
    }
}

fn now_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use postfix::settings::words::Facility;

    use super::*;

    fn file_config(path: &std::path::Path) -> LogConfig {
        LogConfig {
            syslog_name: "postfix".to_owned(),
            process_name: "qmqpd".to_owned(),
            host_name: "mx.example.test".to_owned(),
            facility: Facility::Mail,
            utf8: true,
            destinations: vec![LogDestination::File { path: path.to_owned(), mode: 0o600 }],
        }
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_are_all_there_after_a_flush() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(&file_config(&path)).unwrap();
        log.write(Program::Master, Severity::Info, "before the writer");
        log.start_writer().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = log.clone();
                scope.spawn(move || {
                    for n in 0..200 {
                        log.write(Program::Service, Severity::Warning, &format!("thread {thread} line {n}"));
                    }
                });
            }
        });
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 801, "{text}");
        assert!(text.lines().next().unwrap().ends_with(": before the writer"));
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.contains("postfix/qmqpd[") && line.contains("]: warning: thread "))
        );
    }

    #[test]
    fn the_last_handle_closes_the_file_behind_the_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let is_open = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| target == path)
        };
        let log = Log::open(&file_config(&path)).unwrap();
        log.start_writer().unwrap();
        let other = log.clone();
        other.write(Program::Master, Severity::Info, "the last line");
        drop(log);
        assert!(is_open());
        drop(other);
        let began = std::time::Instant::now();
        while is_open() {
            assert!(began.elapsed() < Duration::from_secs(20), "the file stays open");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("]: the last line\n"));
    }
}
