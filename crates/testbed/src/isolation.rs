//! Namespaces of our own: a network with nothing but loopback, and a mount table in which `/etc/hosts` and
//! `/etc/resolv.conf` are ours. The machine's own files stay as they are.

use std::path::Path;
use std::process::Command;

/// Set, to the directory with the files, for the second life of a test program.
const MARK: &str = "QMQPD_TEST_ISOLATED";

/// Names for loopback addresses, for reverse and forward lookups. Addresses that are missing here go to the name server.
const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost
127.0.0.2 client.example.com
127.0.0.3 MixedCase.Example.COM
127.0.0.4 under_score.example.com
127.0.0.5 -bad.example.com
127.0.0.6 single
127.0.0.7 first.example.com second.example.com
127.0.0.8 bell\x07\x1b[31m.example.com
";

/// Starts the program again in namespaces of its own, if that is possible and has not been done. Returns where it
/// should go on: inside, or outside on a machine without root or namespaces.
pub fn enter() {
    if inside() || missing().is_some() {
        return;
    }
    let dir = crate::postfix::scratch("names");
    std::fs::write(dir.path().join("hosts"), HOSTS).unwrap();
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        .unwrap();
    // A new network lets ten datagrams wait for postlogd(8). As Postfix reloads, master(8) itself may wait for a place among
    // them before it starts the postlogd that would make one.
    let script = r#"set -e
        echo 512 >/proc/sys/net/unix/max_dgram_qlen || true
        mount --bind "$0/hosts" /etc/hosts
        mount --bind "$0/resolv.conf" /etc/resolv.conf
        ip link set lo up
        exec "$@""#;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", script])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(MARK, dir.path())
        .status()
        .expect("unshare(1)");
    drop(dir);
    std::process::exit(status.code().unwrap_or(1));
}

/// Whether this program runs in namespaces of its own.
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Why there can be no namespaces here; `None` if there can be.
pub fn missing() -> Option<String> {
    if inside() {
        return None;
    }
    if !nix::unistd::Uid::effective().is_root() {
        return Some("namespaces need root".to_owned());
    }
    let works = |program: &str| {
        Path::new("/usr/bin").join(program).exists()
            || Path::new("/usr/sbin").join(program).exists()
            || Path::new("/sbin").join(program).exists()
    };
    if let Some(program) = ["unshare", "ip", "mount"].into_iter().find(|program| !works(program)) {
        return Some(format!("{program} is not there; run make peers"));
    }
    let status = Command::new("unshare").args(["--net", "--mount", "true"]).status();
    (!status.is_ok_and(|status| status.success())).then(|| "this machine allows no namespaces".to_owned())
}
