//! A log daemon that is started anew while a server logs to it from behind a change of the root directory.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::site::{PROGRAM, Site, free_address, send, until};

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
    command.arg(site.path("dev")).arg(socket).arg("/dev").arg(PROGRAM).current_dir(site.directory.path());
    command
}

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Whether a line with these words comes soon.
fn hears(socket: &UnixDatagram, words: &str) -> bool {
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        if String::from_utf8_lossy(&buffer[..length]).contains(words) {
            return true;
        }
    }
    false
}

#[test]
fn a_log_daemon_that_is_started_anew_is_found_from_within_a_chroot() {
    if !nix::unistd::Uid::effective().is_root() {
        assert!(std::env::var_os("QMQPD_PEERS").is_none(), "a chroot needs root");
        eprintln!("left out: a chroot needs root");
        return;
    }
    let site = Site::new();
    let address = free_address();
    site.configure("qmqpd_log = syslog\nqmqpd_authorized_clients = 127.0.0.1\n");
    site.write("etc/master.cf", &format!("{address} inet n - y - - qmqpd\n"));
    let path = site.path("syslog");
    let first = listen(&path);
    let mut serve = with_log(&site, &path);
    serve.args(["serve", "-c", "etc"]);
    let server = site.start(serve, &["-c", "etc"]);
    until("it runs", || server.status().contains(": running\n").then_some(()));
    assert!(send(address).starts_with('K'));
    until("the session is logged", || hears(&first, "disconnect from").then_some(()));
    drop(first);
    std::fs::remove_file(&path).unwrap();
    let second = listen(&path);
    // A young process waits a little before it makes room for the next one; every client is served meanwhile.
    until("sessions are logged again", || {
        assert!(send(address).starts_with('K'));
        hears(&second, "disconnect from").then_some(())
    });
}
