//! `qmqpd serve` and the commands that steer it, as an operator uses them.
#![cfg(test)]

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmqpd");
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `found` finds something; a machine may be slow, a test must not be wrong for that.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn netstring(content: &[u8]) -> Vec<u8> {
    [format!("{}:", content.len()).as_bytes(), content, b","].concat()
}

fn request() -> Vec<u8> {
    let parts: [&[u8]; 3] = [b"Subject: hello\n\nHello.\n", b"you@example.com", b"friend@example.com"];
    netstring(&parts.map(netstring).concat())
}

/// Finishes a session: the first letter of the reply, `None` if there was no reply.
fn finish(mut stream: TcpStream, rest: &[u8]) -> Option<char> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(rest).ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    String::from_utf8(reply).unwrap().split_once(':')?.1.chars().next()
}

fn send(address: SocketAddr) -> Option<char> {
    finish(TcpStream::connect(address).ok()?, &request())
}

/// A directory in which servers are started, with a configuration in `etc`.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The service's own user must be able to come here.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes main.cf: what every test needs, and `lines`.
    fn configure(&self, lines: &str) {
        let path = self.path("etc/main.cf");
        let common = format!(
            "queue_directory = {}\nmail_owner = nobody\ndefault_privs = daemon\nmyhostname = mx.example.test\n\
             qmqpd_log = stderr\nqmqpd_authorized_clients = 127.0.0.1\n",
            self.path("queue").display()
        );
        fs::write(&path, common + lines).unwrap();
        // Older than a second: nobody waits whether somebody is still writing.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("CARGO_MANIFEST_DIR");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts a server and waits until every service says that it runs.
    fn serve(&self, arguments: &[&str]) -> Server<'_> {
        let log = self.path("log");
        let stderr = fs::File::create(&log).unwrap();
        let mut command = self.command(&[&["serve"], arguments].concat());
        let master = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let server =
            Server { site: self, master, arguments: arguments.iter().map(ToString::to_string).collect() };
        server.wait_until_running();
        server
    }
}

struct Server<'s> {
    site: &'s Site,
    master: Child,
    arguments: Vec<String>,
}

impl Server<'_> {
    fn control(&self, command: &str) -> Output {
        let arguments: Vec<&str> =
            std::iter::once(command).chain(self.arguments.iter().map(String::as_str)).collect();
        self.site.run(&arguments)
    }

    fn status(&self) -> String {
        String::from_utf8(self.control("status").stdout).unwrap()
    }

    fn wait_until_running(&self) {
        until("the service runs", || self.status().contains(": running\n").then_some(()));
    }

    fn service(&self) -> Pid {
        let status = self.status();
        let line = status.lines().find_map(|line| line.trim().strip_prefix("processes: ")).unwrap();
        Pid::from_raw(line.parse().unwrap_or_else(|_| panic!("one process: {status}")))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.master.id().try_into().unwrap()), signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        until("the master ends", || self.master.try_wait().unwrap()).code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.master.try_wait().unwrap().is_none() {
            self.signal(Signal::SIGTERM);
            let _ = self.master.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn messages(queue: &Path) -> usize {
    fs::read_dir(queue.join("incoming")).unwrap().count()
}

#[test]
fn without_a_configuration_it_serves_this_machine_and_says_how_to_try_it() {
    let site = Site::new();
    let address = free_address();
    let listen = format!("qmqpd_listen={address}");
    let mut server = site.serve(&["-o", &listen]);
    assert_eq!(send(address), Some('K'));
    let queue = site.path("qmqpd-spool");
    assert_eq!(messages(&queue), 1);
    let log = until("the last of the first lines", || {
        Some(server.log()).filter(|log| log.contains("qmqpctl queue list"))
    });
    for expected in [
        "daemon started -- version ",
        &format!("service qmqpd listens on {address}"),
        &format!("queue: {}", queue.display()),
        "only clients on 127.0.0.1 and ::1 may send mail",
        &format!("qmqp-send -s {address} -f you@example.com friend@example.com"),
        "qmqpctl queue list",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let status = server.status();
    assert!(status.contains(&format!("listens on: {address}")), "{status}");
    let stopped = server.control("stop");
    assert!(stopped.status.success() && text(&stopped.stdout).starts_with("stopped: process "));
    assert_eq!(server.wait(), Some(0));
    let nobody = server.control("status");
    assert_eq!(nobody.status.code(), Some(69));
    assert!(text(&nobody.stderr).contains("no `qmqpd serve` is running on the queue"));
}

#[test]
fn services_never_run_as_root() {
    let site = Site::new();
    let address = free_address();
    site.configure(&format!("qmqpd_listen = {address}\n"));
    let server = site.serve(&["-c", "etc"]);
    let proc_status = fs::read_to_string(format!("/proc/{}/status", server.service())).unwrap();
    let field = |name: &str| {
        let line = proc_status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(field("Uid:").iter().all(|id| *id != "0"), "{proc_status}");
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    if Uid::effective().is_root() {
        let root = fs::read_link(format!("/proc/{}/root", server.service())).unwrap();
        assert_eq!(root, site.path("queue"), "chroot");
    } else {
        assert!(server.log().contains("not started as root"), "{}", server.log());
    }
    assert_eq!(send(address), Some('K'));
}

#[test]
fn a_privileged_mail_owner_is_refused_where_it_would_be_used() {
    let site = Site::new();
    let listen = format!("qmqpd_listen={}", free_address());
    site.configure("");
    let arguments = ["-c", "etc", "-o", &listen, "-o", "mail_owner=root"];
    if Uid::effective().is_root() {
        let refused = site.run(&[&["serve"][..], &arguments].concat());
        assert_eq!(refused.status.code(), Some(78));
        assert!(text(&refused.stderr).contains("user root has privileged user ID"));
    } else {
        let server = site.serve(&arguments);
        assert!(server.log().contains("mail_owner is not used"));
    }
}

#[test]
fn bad_configurations_are_refused_with_file_line_and_remedy() {
    let site = Site::new();
    site.configure("qmqpd_timeout = 5x\nsoft_bounce = maybe\n");
    for command in ["serve", "check"] {
        let refused = site.run(&[command, "-c", "etc"]);
        assert_eq!(refused.status.code(), Some(78), "{command}");
        let said = text(&refused.stderr);
        let errors = said.lines().filter(|line| !line.starts_with("qmqpd: note: "));
        assert_eq!(errors.count(), 2, "all errors: {said}");
        let file = site.path("etc/main.cf");
        assert!(said.contains(&format!("{}, line 7: ", file.display())), "{said}");
        assert!(said.contains("bad time value or unit: 5x; write a time"), "{said}");
        assert!(
            said.contains("line 8: bad boolean configuration: soft_bounce = maybe; write yes or no"),
            "{said}"
        );
    }
    assert!(!site.path("queue").exists(), "nothing is made for a configuration that is refused");
}

#[test]
fn check_knows_tables_misspelt_names_and_foreign_ones() {
    let site = Site::new();
    site.configure("debug_peer_list = ldap:/etc/x\nqmqpd_timeuot = 5s\nsomething_else = 1\n");
    let checked = site.run(&["check", "-c", "etc"]);
    assert_eq!(checked.status.code(), Some(78));
    let said = text(&checked.stderr);
    assert!(
        said.contains("line 7: parameter debug_peer_list: \"ldap:/etc/x\": unsupported dictionary type"),
        "{said}"
    );
    assert!(said.contains("line 8: no such parameter: qmqpd_timeuot; did you mean qmqpd_timeout?"), "{said}");
    assert!(
        said.contains("warning: ") && said.contains("line 9: unused parameter: something_else"),
        "{said}"
    );
    site.configure("something_else = 1\n");
    assert_eq!(site.run(&["check", "-c", "etc"]).status.code(), Some(0), "others may read that name");
}

#[test]
fn a_file_for_myorigin_is_read_and_a_missing_one_is_refused() {
    let site = Site::new();
    let file = site.path("mailname");
    site.configure(&format!("myorigin = {}\n", file.display()));
    for command in ["check", "serve"] {
        let refused = site.run(&[command, "-c", "etc"]);
        assert_eq!(refused.status.code(), Some(78));
        let said = text(&refused.stderr);
        let line =
            format!("etc/main.cf, line 7: {}: cannot open file: No such file or directory; ", file.display());
        assert!(said.contains(&line), "{said}");
    }
    fs::write(&file, "mail.example.test\n").unwrap();
    let checked = site.run(&["check", "-c", "etc"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn check_says_that_a_journal_syncs_the_data_of_others() {
    let site = Site::new();
    let words = "shares its file system with";
    for (way, is_told) in [("journal", true), ("file", false)] {
        site.configure(&format!("qmqpd_commit = {way}\n"));
        let checked = site.run(&["check", "-c", "etc"]);
        assert_eq!(checked.status.code(), Some(0));
        assert_eq!(text(&checked.stderr).contains(words), is_told, "{way}: {}", text(&checked.stderr));
    }
}

#[test]
fn check_goes_on_behind_the_first_error() {
    let site = Site::new();
    site.configure(
        "soft_bounce = maybe\nno equals sign\nqmqpd_listen = 127.0.0.1:70000 nonsense::1\n\
         non_smtpd_milters = texthash:/x\nqmqpd_timeuot = 5s\ndebug_peer_list = 10.0.0.0/33\nsomething_else = 1\n",
    );
    let checked = site.run(&["check", "-c", "etc"]);
    assert_eq!(checked.status.code(), Some(78));
    let said = text(&checked.stderr);
    for expected in [
        "line 7: bad boolean configuration: soft_bounce = maybe",
        "line 8: missing '=' after attribute name",
        "line 9: parameter qmqpd_listen: ",
        "line 10: Milter service needs transport:endpoint instead of \"texthash:/x\"",
        "line 11: no such parameter: qmqpd_timeuot; did you mean qmqpd_timeout?",
        "line 12: parameter debug_peer_list: \"10.0.0.0/33\": ",
        "warning: ",
        "line 13: unused parameter: something_else",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }

    // A master.cf with a mistake in each line, under a main.cf with another.
    site.configure("soft_bounce = maybe\n");
    let lines = "127.0.0.1:1 inet n - n - - qmqpd\n  -o qmqpd_timeout=x\nnonsense\n127.0.0.1:1 inet n - n - - qmqpd\n  \
                 -o qmqpd_eror_delay=1\n";
    fs::write(site.path("etc/master.cf"), lines).unwrap();
    let said = text(&site.run(&["check", "-c", "etc"]).stderr);
    for expected in [
        "line 7: bad boolean configuration: soft_bounce = maybe",
        "master.cf, line 1: parameter qmqpd_timeout: bad time value or unit: x",
        "master.cf, line 3: missing \"transport type\" field",
        "master.cf, line 4: 127.0.0.1:1 is already used by ",
        "master.cf, line 4: no such parameter: qmqpd_eror_delay; did you mean qmqpd_error_delay?",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(said.matches("soft_bounce").count(), 1, "each error once: {said}");
}

#[test]
fn a_misspelt_name_of_ours_is_refused_at_start_and_reload() {
    let site = Site::new();
    let listen = format!("qmqpd_listen = {}\n", free_address());
    let wrong = format!("{listen}qmqpd_timout = 5s\n");
    site.configure(&wrong);
    let refused = site.run(&["serve", "-c", "etc"]);
    assert_eq!(refused.status.code(), Some(78));
    let expected = "line 8: no such parameter: qmqpd_timout; did you mean qmqpd_timeout?";
    assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));

    // Referred to, it is no mistake but a name of the operator's own.
    site.configure(&format!("{wrong}qmqpd_timeout = $qmqpd_timout\n"));
    let server = site.serve(&["-c", "etc"]);
    site.configure(&wrong);
    let refused = server.control("reload");
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
}

#[test]
fn a_misspelt_name_of_ours_is_a_warning_where_postfix_starts_us() {
    let site = Site::new();
    site.configure("qmqpd_timout = 5s\n");
    fs::create_dir(site.path("queue")).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_master, status) = std::io::pipe().unwrap();
    let mut actions = nix::spawn::PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(status.as_raw_fd(), 5).unwrap();
    actions.add_dup2(socket.as_raw_fd(), 6).unwrap();
    let script = format!(
        "cd {} && MAIL_CONFIG=$PWD/etc exec {PROGRAM} -t inet </dev/null 2>log",
        site.directory.path().display()
    );
    let words = ["sh", "-c", &script].map(|word| CString::new(word).unwrap());
    let attributes = nix::spawn::PosixSpawnAttr::init().unwrap();
    let pid = nix::spawn::posix_spawn("/bin/sh", &actions, &attributes, &words, &[] as &[CString]).unwrap();
    let log = || fs::read_to_string(site.path("log")).unwrap_or_default();
    let expected = "line 7: no such parameter: qmqpd_timout; did you mean qmqpd_timeout?";
    until("the warning", || log().contains(expected).then_some(()));
    assert!(log().lines().any(|line| line.contains("warning: ") && line.contains(expected)), "{}", log());
    kill(pid, Signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
}

#[test]
fn a_service_process_that_is_started_by_hand_says_how_to_start_it() {
    let site = Site::new();
    for (arguments, command) in [
        (&["-v"][..], "serve"),
        (&["-c", "etc", "serve"], "serve"),
        (&["-c", "etc", "check"], "check"),
        (&["-t", "inet", "-u"], "serve"),
    ] {
        let refused = site.run(arguments);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains("which only master(8) starts: no inherited sockets found"), "{said}");
        assert!(
            said.contains(&format!("write the command first: {PROGRAM} {command} -c DIRECTORY")),
            "{said}"
        );
    }
    let first = concat!("qmqpd ", env!("CARGO_PKG_VERSION"), "\n");
    for (option, second) in [("-V", ""), ("--version", "PCRE2 10.")] {
        let version = site.run(&[option]);
        assert!(version.status.success(), "{option}");
        let rest = text(&version.stdout).strip_prefix(first).map(str::to_owned).unwrap();
        assert!(rest.starts_with(second) && rest.is_empty() == second.is_empty(), "{option}: {rest}");
    }
}

#[test]
fn a_taken_address_and_a_taken_queue_are_named() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.configure(&format!("qmqpd_listen = {address}\n"));
    let refused = site.run(&["serve", "-c", "etc"]);
    assert_eq!(refused.status.code(), Some(69));
    let said = text(&refused.stderr);
    assert!(said.contains(&format!("cannot listen on {address} (qmqpd_listen in ")), "{said}");
    assert!(said.contains("line 7): Address already in use") && said.contains("another program"), "{said}");

    site.configure(&format!("qmqpd_listen = {}\n", free_address()));
    let server = site.serve(&["-c", "etc"]);
    let refused = site.run(&["serve", "-c", "etc", "-o", &format!("qmqpd_listen={}", free_address())]);
    assert_eq!(refused.status.code(), Some(69));
    let said = text(&refused.stderr);
    assert!(
        said.contains(&format!("another `qmqpd serve` (process {}) holds ", server.master.id())),
        "{said}"
    );
}

#[test]
fn a_killed_service_process_is_replaced() {
    let site = Site::new();
    let address = free_address();
    site.configure(&format!("qmqpd_listen = {address}\n"));
    let server = site.serve(&["-c", "etc"]);
    let first = server.service();
    kill(first, Signal::SIGKILL).unwrap();
    // The socket never closes: a client that comes now waits for the next process.
    assert_eq!(send(address), Some('K'));
    assert_ne!(server.service(), first);
    let warning = format!("warning: process {PROGRAM} pid {first} killed by signal 9");
    until("the log says so", || server.log().contains(&warning).then_some(()));
}

#[test]
fn a_reload_serves_the_new_configuration_and_cuts_nobody() {
    let site = Site::new();
    let (old, new) = (free_address(), free_address());
    site.configure(&format!("qmqpd_listen = {old}\n"));
    let server = site.serve(&["-c", "etc"]);
    let first = server.service();
    let mut session = TcpStream::connect(old).unwrap();
    let request = request();
    session.write_all(&request[..5]).unwrap();
    until("the session begins", || server.log().contains("connect from").then_some(()));

    site.configure(&format!("qmqpd_listen = {old}\nqmqpd_timeout = never\n"));
    let refused = server.control("reload");
    assert_eq!(refused.status.code(), Some(78));
    let said = text(&refused.stderr);
    assert!(
        said.contains("line 8: ") && said.contains("the current configuration stays in effect"),
        "{said}"
    );
    assert_eq!(server.service(), first, "nothing changed");
    until("the log says so", || server.log().contains("reload rejected").then_some(()));

    site.configure(&format!("qmqpd_listen = {old}\nqmqpd_authorized_clients = ldap:/etc/x\n"));
    let refused = server.control("reload");
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("unsupported dictionary type: ldap"), "{}", text(&refused.stderr));
    assert_eq!(server.service(), first, "a broken table changes nothing either");

    site.configure(&format!("qmqpd_listen = {new}\n"));
    let accepted = server.control("reload");
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    assert_eq!(send(new), Some('K'));
    until("nobody listens on the old address", || TcpStream::connect(old).is_err().then_some(()));
    assert!(server.status().contains(&format!("draining: processes {first}")), "{}", server.status());
    assert_eq!(finish(session, &request[5..]), Some('K'), "a session that began before the reload");
    until("the old process ends", || (!server.status().contains("finishing")).then_some(()));
    server.wait_until_running();
    assert_ne!(server.service(), first);
}

#[test]
fn a_wildcard_gives_way_to_one_address_of_the_same_port() {
    let site = Site::new();
    let port = free_address().port();
    site.configure(&format!("qmqpd_listen = 0.0.0.0:{port}\n"));
    let server = site.serve(&["-c", "etc"]);
    site.configure(&format!("qmqpd_listen = 127.0.0.1:{port}\n"));
    let accepted = server.control("reload");
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    assert_eq!(send(SocketAddr::from(([127, 0, 0, 1], port))), Some('K'));
    assert!(server.status().contains(&format!("listens on: 127.0.0.1:{port}\n")));
}

#[test]
fn a_drain_lets_sessions_finish_and_a_stop_does_not_wait_for_them() {
    for drain in [true, false] {
        let site = Site::new();
        let address = free_address();
        site.configure(&format!("qmqpd_listen = {address}\n"));
        let mut server = site.serve(&["-c", "etc"]);
        let mut session = TcpStream::connect(address).unwrap();
        let request = request();
        session.write_all(&request[..5]).unwrap();
        until("the session begins", || server.log().contains("connect from").then_some(()));
        server.signal(if drain { Signal::SIGQUIT } else { Signal::SIGTERM });
        if drain {
            until("nobody is let in", || TcpStream::connect(address).is_err().then_some(()));
            assert!(server.master.try_wait().unwrap().is_none());
            assert_eq!(finish(session, &request[5..]), Some('K'));
        } else {
            assert_eq!(finish(session, &[]), None);
        }
        assert_eq!(server.wait(), Some(0));
    }
}

#[test]
fn services_come_from_master_cf_with_their_own_settings() {
    let site = Site::new();
    let (first, second) = (free_address(), free_address());
    site.configure("");
    let lines = format!(
        "smtp inet n - n - - smtpd\n{first} inet n - n - - qmqpd\n{second} inet n - n - 1 qmqpd\n  -o soft_bounce=yes\n  -o qmqpd_authorized_clients=192.0.2.1\n"
    );
    fs::write(site.path("etc/master.cf"), lines).unwrap();
    let server = site.serve(&["-c", "etc"]);
    until("both run", || (server.status().matches(": running\n").count() == 2).then_some(()));
    assert_eq!(send(first), Some('K'));
    assert_eq!(send(second), Some('Z'), "refused, and soft_bounce turns D into Z");
}

#[test]
fn the_service_manager_hears_of_every_step() {
    let site = Site::new();
    site.configure(&format!("qmqpd_listen = {}\n", free_address()));
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |wanted: &str| {
        let mut heard = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = match socket.recv(&mut buffer) {
                // A child of another test that ended.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.unwrap_or_else(|error| panic!("{wanted}: {error}, {heard:?}")),
            };
            let message = text(&buffer[..length]);
            if message.lines().any(|line| line == wanted) {
                return message;
            }
            heard.push(message);
        }
    };
    let mut command = site.command(&["serve", "-c", "etc"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "200000");
    let mut master = command.stderr(fs::File::create(site.path("log")).unwrap()).spawn().unwrap();
    let pid = Pid::from_raw(master.id().try_into().unwrap());
    hear("READY=1");
    hear("WATCHDOG=1");
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    kill(pid, Signal::SIGTERM).unwrap();
    hear("STOPPING=1");
    assert!(master.wait().unwrap().success());
}

/// The master's health is that of its services: while one does not answer, the watchdog hears nothing.
#[test]
fn the_watchdog_hears_nothing_while_a_service_is_silent() {
    const SILENCE: Duration = Duration::from_secs(3);
    let site = Site::new();
    site.configure(&format!("qmqpd_listen = {}\nqmqpd_hang_timeout = 24s\n", free_address()));
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    let hear = |patience: Duration| {
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        socket.recv(&mut buffer).ok().map(|length| text(&buffer[..length]))
    };
    let mut command = site.command(&["serve", "-c", "etc"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "200000");
    let master = command.stderr(fs::File::create(site.path("log")).unwrap()).spawn().unwrap();
    let server = Server { site: &site, master, arguments: vec!["-c".to_owned(), "etc".to_owned()] };
    server.wait_until_running();
    let service = server.service();
    kill(service, Signal::SIGSTOP).unwrap();
    // A tenth of a second apart, then a silence of many seconds, before the process is killed.
    let deadline = Instant::now() + PATIENCE;
    while hear(SILENCE).is_some() {
        assert!(Instant::now() < deadline, "the watchdog still hears that all is well");
    }
    assert!(!server.log().contains("has not answered"), "it was killed before the watchdog could notice");
    kill(service, Signal::SIGCONT).unwrap();
    assert_eq!(hear(PATIENCE).as_deref().map(str::trim), Some("WATCHDOG=1"));
}

/// A stop within its own bounds is not cut short by the service manager.
#[test]
fn the_unit_gives_a_stop_the_time_that_it_may_take() {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/qmqpd.service")).unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).unwrap();
    let parameter =
        postfix::parameter::table::PARAMETERS.iter().find(|row| row.name == "qmqpd_stop_timeout").unwrap();
    let postfix::parameter::DefaultValue::Text(default) = parameter.default else { panic!("no text") };
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    // The sessions, and the burial of what had to be killed.
    assert!(seconds(stop) >= seconds(default) + 5 + 10, "{stop}, {default}");
}

#[test]
fn a_socket_of_the_service_manager_is_used() {
    let site = Site::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    site.configure(&format!("qmqpd_listen = {address}\n"));
    let mut actions = nix::spawn::PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(socket.as_raw_fd(), 3).unwrap();
    let script = format!(
        "cd {} && LISTEN_PID=$$ LISTEN_FDS=1 exec {PROGRAM} serve -c etc 2>log",
        site.directory.path().display()
    );
    let words = ["sh", "-c", &script].map(|word| CString::new(word).unwrap());
    let attributes = nix::spawn::PosixSpawnAttr::init().unwrap();
    let pid = nix::spawn::posix_spawn("/bin/sh", &actions, &attributes, &words, &[] as &[CString]).unwrap();
    // The address stays taken by our own copy: only the inherited socket can serve it.
    let reply = send(address);
    kill(pid, Signal::SIGTERM).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
    assert_eq!(reply, Some('K'), "{}", fs::read_to_string(site.path("log")).unwrap());
}
