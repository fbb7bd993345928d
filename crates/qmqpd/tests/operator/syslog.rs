//! A log daemon that is started anew while a server logs to it from behind a change of the root directory.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::peers::Peer;
use testbed::trials::Trials;

use super::site::{Site, free_address, send, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "syslog::a_log_daemon_that_is_started_anew_is_found_from_within_a_chroot",
        &[Peer::Root],
        a_log_daemon_that_is_started_anew_is_found_from_within_a_chroot,
    );
    trials.add(
        "syslog::a_log_daemon_that_is_started_anew_hears_how_many_lines_were_lost",
        &[Peer::Root],
        a_log_daemon_that_is_started_anew_hears_how_many_lines_were_lost,
    );
    trials.add(
        "syslog::a_killed_process_leaves_the_count_of_its_lost_lines",
        &[Peer::Root],
        a_killed_process_leaves_the_count_of_its_lost_lines,
    );
}

/// A process cannot say any more what it has lost when it is killed; the next one does.
fn a_killed_process_leaves_the_count_of_its_lost_lines() {
    let site = Site::new();
    let address = free_address();
    site.configure("qmqpd_log = syslog\nqmqpd_authorized_clients = 127.0.0.1\n");
    site.write("etc/master.cf", &format!("{address} inet n - y - - qmqpd\n"));
    let path = site.path("syslog");
    let daemon = listen(&path);
    let mut serve = with_log(&site, &path);
    serve.args(["serve", "-c", "etc"]);
    let server = site.start(serve, &["-c", "etc"]);
    until("it runs", || server.status().contains(": running\n").then_some(()));
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    let told = site.path(&format!("queue/pid/qmqpd-clients.inet.{address}"));
    until("the other processes are told of lines that are lost", || {
        assert!(send(address).starts_with('K'));
        let regions = std::fs::read(&told).unwrap_or_default();
        regions
            .chunks(16 * 1024)
            .any(|region| region.get(44..48).is_some_and(|lost| lost != [0; 4]))
            .then_some(())
    });
    let daemon = listen(&path);
    let master = server.master.id();
    let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
    for child in children.split_whitespace() {
        let killed = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
    }
    let line =
        until("the next process says how many lines were lost", || daemon.heard("a process that is gone: "));
    assert!(number_before(&line, " log lines were lost: it could not reach the log") > 0, "{line}");
}

/// Starts a command that sees a /dev of its own, in which /dev/log is this socket.
fn with_log(site: &Site, socket: &Path) -> Command {
    std::fs::create_dir(site.path("dev")).unwrap();
    let script = r#"set -e
        mount -t tmpfs tmpfs "$0"
        for name in null zero urandom random; do
            touch "$0/$name"
            mount --bind "$2/$name" "$0/$name"
        done
        ln -s "$1" "$0/log"
        mount --rbind "$0" "$2"
        shift 2
        exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command
        .arg(site.path("dev"))
        .arg(socket)
        .arg("/dev")
        .arg(testbed::program::qmqpd())
        .current_dir(site.directory.path());
    command
}

/// A log daemon. It reads all the time: what waits in a full socket for longer than a second is lost.
struct Daemon {
    lines: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

fn listen(path: &Path) -> Daemon {
    let socket = UnixDatagram::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (lines, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
    let (heard, ends) = (Arc::clone(&lines), Arc::clone(&is_over));
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !ends.load(Ordering::Relaxed) {
            if let Ok(length) = socket.recv(&mut buffer) {
                heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
    });
    Daemon { lines, is_over, reader: Some(reader) }
}

impl Daemon {
    /// The last line with these words.
    fn heard(&self, words: &str) -> Option<String> {
        self.lines.lock().unwrap().iter().rfind(|line| line.contains(words)).cloned()
    }
}

/// Its socket is closed after that.
impl Drop for Daemon {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.reader.take().map(JoinHandle::join);
    }
}

/// The number in front of these words.
fn number_before(line: &str, words: &str) -> usize {
    let before = line.split(words).next().unwrap().trim_end();
    before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no number: {line}"))
}

fn a_log_daemon_that_is_started_anew_is_found_from_within_a_chroot() {
    started_anew("y");
}

fn a_log_daemon_that_is_started_anew_hears_how_many_lines_were_lost() {
    started_anew("n");
}

fn started_anew(chroot: &str) {
    let site = Site::new();
    let address = free_address();
    site.configure("qmqpd_log = syslog\nqmqpd_authorized_clients = 127.0.0.1\n");
    site.write("etc/master.cf", &format!("{address} inet n - {chroot} - - qmqpd\n"));
    let path = site.path("syslog");
    let daemon = listen(&path);
    let mut serve = with_log(&site, &path);
    serve.args(["serve", "-c", "etc"]);
    let server = site.start(serve, &["-c", "etc"]);
    until("it runs", || server.status().contains(": running\n").then_some(()));
    assert!(send(address).starts_with('K'));
    until("the session is logged", || daemon.heard("disconnect from"));
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    // So many that not all of their lines can still be on their way.
    for _ in 0..100 {
        assert!(send(address).starts_with('K'));
    }
    let daemon = listen(&path);
    let (words, least) = match chroot {
        "y" => ("it could not reach the log", 400),
        _ => ("the log could not be written: No such file or directory", 1),
    };
    // Within a chroot a young process waits a little before it makes room for the next one; every client is served meanwhile. Each
    // process counts its own lines, and one that was about to end says so too.
    until("sessions are logged again, and how many lines were not", || {
        assert!(send(address).starts_with('K'));
        daemon.heard("disconnect from")?;
        let line = daemon.heard(words)?;
        (number_before(&line, " log lines were lost") >= least).then_some(())
    });
}
