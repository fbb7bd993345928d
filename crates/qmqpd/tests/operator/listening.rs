//! Where it listens, and where it does not.

use std::process::Command;

use testbed::peers::Peer;
use testbed::trials::Trials;

use super::site::{Site, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "listening::localhost_without_ipv6_is_served_where_it_is_and_warned_of",
        &[Peer::Root, Peer::Isolation],
        localhost_without_ipv6_is_served_where_it_is_and_warned_of,
    );
}

/// Starts a command in a network of its own without IPv6, where `localhost` is `::1` too.
fn without_ipv6(site: &Site) -> Command {
    site.write("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    let script = r#"set -e
        echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
        mount --bind "$0" /etc/hosts
        ip link set lo up
        exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", script]);
    command.arg(site.path("hosts")).arg(testbed::program::qmqpd()).current_dir(site.directory.path());
    command
}

fn localhost_without_ipv6_is_served_where_it_is_and_warned_of() {
    let site = Site::new();
    for (lines, master_cf, warning) in [
        (
            "qmqpd_listen = 628\ninet_interfaces = localhost\n",
            "",
            "qmqpd_listen: localhost also resolves to ::1",
        ),
        ("qmqpd_listen = localhost:628\n", "", "qmqpd_listen: localhost also resolves to ::1"),
        ("qmqpd_listen = 628\ninet_interfaces = loopback-only\n", "", "loopback-only also resolves to ::1"),
        (
            "inet_interfaces = localhost\n",
            "628 inet n - n - - qmqpd\n",
            "master.cf, line 1: localhost also resolves to ::1",
        ),
    ] {
        site.configure(&format!("{lines}qmqpd_authorized_clients = 127.0.0.1\n"));
        site.write("etc/master.cf", master_cf);
        let mut check = without_ipv6(&site);
        let checked = check.args(["check", "-c", "etc"]).output().unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(0), "{lines}: {said}");
        let rest = ", which this machine does not have: not listening there";
        assert!(said.contains(&format!("{warning}{rest}")), "{lines}: {said}");
        let mut serve = without_ipv6(&site);
        serve.args(["serve", "-c", "etc"]);
        let server = site.start(serve, &["-c", "etc"]);
        until("it listens", || server.log().contains("listens on 127.0.0.1:628\n").then_some(()));
        until("it warns", || server.log().contains(warning).then_some(()));
    }
}
