//! A directory in which servers are started, with a configuration in `etc`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testbed::program;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `found` finds something; a machine may be slow, a test must not be wrong for that.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address that nobody uses: other tests of this machine may take it meanwhile, which fails with words that say so.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn netstring(content: &[u8]) -> Vec<u8> {
    [format!("{}:", content.len()).as_bytes(), content, b","].concat()
}

pub(crate) fn request() -> Vec<u8> {
    let parts: [&[u8]; 3] = [b"Subject: hello\n\nHello.\n", b"you@example.com", b"friend@example.com"];
    netstring(&parts.map(netstring).concat())
}

/// Sends a message; the reply without its frame, empty if there is none.
pub(crate) fn send_over(mut stream: impl Read + Write) -> String {
    let _gone = stream.write_all(&request());
    let mut reply = Vec::new();
    let _gone = stream.read_to_end(&mut reply);
    let reply = String::from_utf8(reply).unwrap();
    reply.split_once(':').map_or("", |(_, rest)| rest).to_owned()
}

/// The same to an address.
pub(crate) fn send(address: SocketAddr) -> String {
    TcpStream::connect(address).map_or_else(
        |_| String::new(),
        |stream| {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            send_over(stream)
        },
    )
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) struct Site {
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The service's own user must be able to come here.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that is older than a second: nobody waits whether somebody is still writing.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    /// Writes main.cf: what every test needs (five lines), and `lines`.
    pub(crate) fn configure(&self, lines: &str) {
        let common = format!(
            "queue_directory = {}\nmail_owner = nobody\ndefault_privs = daemon\nmyhostname = mx.example.test\n\
             qmqpd_log = stderr\n",
            self.path("queue").display()
        );
        self.write("etc/main.cf", &(common + lines));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program::qmqpd());
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("CARGO_MANIFEST_DIR");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit status, and what standard error says.
    pub(crate) fn outcome(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        (output.status.code(), text(&output.stderr))
    }

    /// Starts a server and waits until every service says that it runs.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server<'_> {
        let server = self.start(self.command(&[&["serve"], arguments].concat()), arguments);
        until("the service runs", || server.status().contains(": running\n").then_some(()));
        server
    }

    /// Starts a server by this command, and waits for nothing.
    pub(crate) fn start(&self, mut command: Command, arguments: &[&str]) -> Server<'_> {
        let log = fs::File::create(self.path("log")).unwrap();
        let master = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Server { site: self, master, arguments: arguments.iter().map(ToString::to_string).collect() }
    }
}

pub(crate) struct Server<'s> {
    site: &'s Site,
    pub(crate) master: Child,
    arguments: Vec<String>,
}

impl Server<'_> {
    pub(crate) fn control(&self, command: &str) -> Output {
        let arguments: Vec<&str> =
            std::iter::once(command).chain(self.arguments.iter().map(String::as_str)).collect();
        self.site.run(&arguments)
    }

    pub(crate) fn status(&self) -> String {
        text(&self.control("status").stdout)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.site.path("log")).unwrap()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.master.try_wait().unwrap().is_none() {
            kill(Pid::from_raw(self.master.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
            let _ = self.master.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
