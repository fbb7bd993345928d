//! The places where lines go.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format::Framer;
use super::{Line, LogConfig, LogDestination, LogError};

/// How long one line waits for a log daemon whose queue is full before lines are dropped.
const DATAGRAM_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Framing {
    Syslog,
    Postlog,
}

struct Datagrams {
    framing: Framing,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// The last record timed out: do not wait for the next one until one goes through.
    stalled: bool,
}

impl Datagrams {
    fn open(framing: Framing, path: &Path) -> Self {
        let mut this = Self { framing, path: path.to_owned(), socket: None, stalled: false };
        // Each line tries again.
        let _ = this.connect();
        this
    }

    fn connect(&mut self) -> std::io::Result<()> {
        (self.socket, self.stalled) = (None, false);
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_write_timeout(Some(DATAGRAM_PATIENCE))?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Whether the log daemon has it. If it cannot be reached, `reason` says so.
    fn send(&mut self, record: &[u8], reason: &mut Option<std::io::Error>) -> bool {
        match self.try_send(record) {
            Ok(()) => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stall(true);
                return false;
            }
            Err(_) => {}
        }
        // It was restarted: its old socket is dead, the new one may be there already.
        match self.connect().and_then(|()| self.try_send(record)) {
            Ok(()) => true,
            Err(error) => {
                *reason = Some(error);
                false
            }
        }
    }

    fn try_send(&mut self, record: &[u8]) -> std::io::Result<()> {
        if self.socket.is_none() {
            self.connect()?;
        }
        let socket = self.socket.as_ref().ok_or(ErrorKind::NotConnected)?;
        socket.send(record)?;
        if self.stalled {
            self.stall(false);
        }
        Ok(())
    }

    fn stall(&mut self, stalled: bool) {
        if self.socket.as_ref().is_some_and(|socket| socket.set_nonblocking(stalled).is_ok()) {
            self.stalled = stalled;
        }
    }
}

enum Sink {
    Stderr,
    Stdout,
    File(File),
    Datagrams(Datagrams),
}

impl Sink {
    fn open(place: &LogDestination) -> Result<Self, LogError> {
        Ok(match place {
            LogDestination::Stderr => Self::Stderr,
            LogDestination::File { path, .. } if path == Path::new("/dev/stdout") => Self::Stdout,
            LogDestination::File { path, mode } => {
                let file = File::options().append(true).create(true).mode(*mode).open(path);
                Self::File(
                    file.map_err(|source| LogError::File { path: path.display().to_string(), source })?,
                )
            }
            LogDestination::Syslog { path } => Self::Datagrams(Datagrams::open(Framing::Syslog, path)),
            LogDestination::Postlog { path } => Self::Datagrams(Datagrams::open(Framing::Postlog, path)),
        })
    }

    /// How many of the lines were lost; `reason` is what the system said about the last one, if it said anything.
    fn write(&mut self, framer: &mut Framer, lines: &[Line], reason: &mut Option<std::io::Error>) -> usize {
        match self {
            Self::Stderr => write_stream(&mut std::io::stderr(), framer, lines, reason),
            Self::Stdout => write_stream(&mut std::io::stdout().lock(), framer, lines, reason),
            Self::File(file) => write_stream(file, framer, lines, reason),
            Self::Datagrams(datagrams) => match datagrams.framing {
                Framing::Syslog => {
                    let is_sent = |line: &&Line| datagrams.send(framer.syslog(line), reason);
                    lines.len().saturating_sub(lines.iter().filter(is_sent).count())
                }
                Framing::Postlog => send_together(datagrams, framer, lines, reason),
            },
        }
    }
}

/// Sends lines to postlogd(8), with a newline between two, as many in a datagram as it takes: they are as many lines in the
/// file for the work of one, since each datagram costs it a write, and it and master(8) two status messages. (10,000 lines cost the
/// three of us 310 ms of processor time one by one, and 11 ms so.)
fn send_together(
    datagrams: &mut Datagrams,
    framer: &mut Framer,
    lines: &[Line],
    reason: &mut Option<std::io::Error>,
) -> usize {
    let mut records = Vec::new();
    let (mut together, mut lost) = (0_usize, 0_usize);
    let mut send = |records: &mut Vec<u8>, together: &mut usize| {
        if *together > 0 && !datagrams.send(records, reason) {
            lost = lost.saturating_add(*together);
        }
        records.clear();
        *together = 0;
    };
    for line in lines {
        let record = framer.postlog(line);
        if records.len().saturating_add(record.len()) >= POSTLOG_DATAGRAM_BYTES_MAX {
            send(&mut records, &mut together);
        }
        if together > 0 {
            records.push(b'\n');
        }
        records.extend_from_slice(record);
        together = together.saturating_add(1);
    }
    send(&mut records, &mut together);
    lost
}

/// postlogd(8) writes at most 4096 bytes of a datagram (observed on Postfix 3.7).
const POSTLOG_DATAGRAM_BYTES_MAX: usize = 4000;

/// Writes whole lines, as many at once as fit into [`WRITE_BYTES`].
fn write_stream(
    stream: &mut impl Write,
    framer: &mut Framer,
    lines: &[Line],
    reason: &mut Option<std::io::Error>,
) -> usize {
    let mut buffer = Vec::new();
    let (mut buffered, mut lost) = (0_usize, 0_usize);
    let mut rest = lines.iter().peekable();
    while let Some(line) = rest.next() {
        buffer.extend_from_slice(framer.file(line));
        buffered = buffered.saturating_add(1);
        if buffer.len() >= WRITE_BYTES || rest.peek().is_none() {
            if let Err(error) = stream.write_all(&buffer).and_then(|()| stream.flush()) {
                lost = lost.saturating_add(buffered);
                *reason = Some(error);
            }
            buffer.clear();
            buffered = 0;
        }
    }
    lost
}

/// From so many bytes on, lines for a file are written without waiting for more.
const WRITE_BYTES: usize = 64 * 1024;

/// All places of one log.
pub(super) struct Sinks(Vec<Sink>);

impl Sinks {
    pub(super) fn open(config: &LogConfig) -> Result<Self, LogError> {
        config.destinations.iter().map(Sink::open).collect::<Result<_, _>>().map(Self)
    }

    /// As [`Sinks::open`], without the places that cannot be opened.
    pub(super) fn open_what_opens(config: &LogConfig) -> Self {
        Self(config.destinations.iter().filter_map(|place| Sink::open(place).ok()).collect())
    }

    /// Writes the lines to every place; returns how many some place has not taken, and leaves in `reason` what the system said
    /// about it.
    pub(super) fn write(
        &mut self,
        framer: &mut Framer,
        lines: &[Line],
        reason: &mut Option<std::io::Error>,
    ) -> usize {
        self.0.iter_mut().map(|sink| sink.write(framer, lines, reason)).max().unwrap_or(0)
    }

    /// Whether a log daemon was not there when it was last looked for.
    pub(super) fn is_unreachable(&self) -> bool {
        self.0.iter().any(|sink| matches!(sink, Sink::Datagrams(datagrams) if datagrams.socket.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use postfix::notice::Severity;

    use postfix::settings::words::Facility;

    use super::super::{Log, Program};
    use super::*;

    fn config(place: LogDestination) -> LogConfig {
        LogConfig {
            syslog_name: "postfix".to_owned(),
            process_name: "qmqpd".to_owned(),
            host_name: "mx".to_owned(),
            facility: Facility::Mail,
            utf8: true,
            destinations: vec![place],
        }
    }

    fn receive(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_restarted_log_daemon_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(&config(LogDestination::Syslog { path: path.clone() })).unwrap();
        log.write(Program::Service, Severity::Info, "lost: no daemon listens yet");
        let first = UnixDatagram::bind(&path).unwrap();
        log.write(Program::Service, Severity::Info, "one");
        assert!(receive(&first).ends_with("]: one"));
        let lost =
            "]: warning: 1 log lines were lost: the log could not be written: No such file or directory";
        let datagram = receive(&first);
        assert!(datagram.ends_with(lost), "{datagram}");
        assert_eq!(log.lost_lines(), 0, "it has said so");
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        log.write(Program::Service, Severity::Info, "two");
        let datagram = receive(&second);
        assert!(datagram.starts_with("<22>") && datagram.ends_with("]: two"), "{datagram}");
        assert!(!log.is_unreachable());
        drop(second);
        std::fs::remove_file(&path).unwrap();
        log.write(Program::Service, Severity::Info, "lost: its socket is out of sight");
        assert!(log.is_unreachable());
        assert_eq!(log.lost_lines(), 1);
    }

    #[test]
    fn lines_for_postlogd_go_out_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postlog");
        let postlogd = UnixDatagram::bind(&path).unwrap();
        let config = config(LogDestination::Postlog { path });
        let (mut framer, mut sinks) = (Framer::new(&config), Sinks::open(&config).unwrap());
        let line = |text: &str| Line {
            seconds: 0,
            program: Program::Service,
            severity: Severity::Info,
            text: text.to_owned(),
        };
        let lines = ["one", "two", &"x".repeat(2000), &"y".repeat(2000)].map(line);
        assert_eq!(sinks.write(&mut framer, &lines, &mut None), 0);
        let first = receive(&postlogd);
        let texts: Vec<&str> = first.split('\n').map(|line| line.split_once("]: ").unwrap().1).collect();
        assert_eq!(texts, ["one", "two", &"x".repeat(2000)]);
        assert!(receive(&postlogd).ends_with(&format!("]: {}", "y".repeat(2000))));
        drop(postlogd);
        assert_eq!(sinks.write(&mut framer, &lines, &mut None), 4, "all are lost, and counted");
    }

    #[test]
    fn a_process_that_gives_way_sends_one_line_in_a_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postlog");
        let postlogd = UnixDatagram::bind(&path).unwrap();
        let log = Log::open(&config(LogDestination::Postlog { path })).unwrap();
        log.start_writer().unwrap();
        log.write(Program::Service, Severity::Info, "wakes the writer");
        assert!(receive(&postlogd).ends_with("]: wakes the writer"));
        log.go_line_by_line();
        // Within the pause of the writer: they are one batch.
        let texts = ["one", "two", "three"];
        texts.iter().for_each(|text| log.write(Program::Service, Severity::Info, text));
        for text in texts {
            let datagram = receive(&postlogd);
            assert!(!datagram.contains('\n') && datagram.ends_with(&format!("]: {text}")), "{datagram}");
        }
    }

    /// Takes nothing while it is full.
    struct Disk {
        is_full: bool,
        taken: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.is_full {
                return Err(std::io::Error::from_raw_os_error(nix::libc::ENOSPC));
            }
            self.taken.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_the_reason_for_lost_lines() {
        let mut framer = Framer::new(&config(LogDestination::Stderr));
        let line =
            Line { seconds: 0, program: Program::Service, severity: Severity::Info, text: "x".to_owned() };
        let (mut disk, mut reason) = (Disk { is_full: true, taken: Vec::new() }, None);
        let lines = [line];
        assert_eq!(write_stream(&mut disk, &mut framer, &lines, &mut reason), 1);
        assert_eq!(reason.as_ref().map(std::io::Error::kind), Some(ErrorKind::StorageFull));
        assert_eq!(
            super::super::loss(7, reason.as_ref()),
            "7 log lines were lost: the log could not be written: No space left on device"
        );
        disk.is_full = false;
        assert_eq!(write_stream(&mut disk, &mut framer, &lines, &mut None), 0);
    }

    #[test]
    fn a_log_file_is_appended_to_and_made_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mail.log");
        for text in ["one", "two"] {
            let log = Log::open(&config(LogDestination::File { path: path.clone(), mode: 0o600 })).unwrap();
            log.write(Program::Service, Severity::Info, text);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
