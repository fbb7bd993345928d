//! The real service processes: what /proc says about them, and what the log says at their start.

use std::io::{BufRead, Write};

use nix::unistd::{Pid, User};

use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{client, ours, peers, postfix, queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Root, Peer::Postfix];
    let with_landlock = [Peer::Landlock, needs[0], needs[1]];
    trials.add("service::is_confined", &with_landlock, || serve("n - n - -", "no chroot"));
    trials.add("service::is_confined_in_a_jail", &with_landlock, || serve("n - y - -", "chroot /"));
    trials.add("service::both_processes_are_confined_under_postfix", &needs, under_postfix);
    trials.add("service::reaches_a_table_server_by_name", &needs, || remote_table("localhost"));
    trials.add("service::reaches_a_table_server_by_address", &needs, || remote_table("[127.0.0.1]"));
    trials.add("service::puts_mail_on_hold", &needs, on_hold);
    trials.add("service::the_unit_file_scores_ok", &[Peer::SystemdAnalyze], unit_file);
    trials.add("service::a_site_can_do_without", &needs, switched_off);
}

fn send(address: std::net::SocketAddr) -> String {
    client::send(address, b"Subject: x\n\nx\n", b"a@sender.example", &[b"b@rcpt.example"])
}

/// A field of /proc/PID/status.
fn field(process: Pid, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn assert_confined(process: Pid) {
    let owner = User::from_name("postfix").unwrap().unwrap().uid.to_string();
    // It may have been started a moment ago.
    wait::until("the process is confined", || (field(process, "Seccomp") == "2").then_some(()));
    assert_eq!(field(process, "NoNewPrivs"), "1");
    for ids in ["Uid", "Gid"] {
        let found = field(process, ids);
        let expected = if ids == "Uid" { owner.as_str() } else { found.split_whitespace().next().unwrap() };
        assert!(found.split_whitespace().all(|id| id == expected && id != "0"), "{ids}: {found}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(process, set), "0000000000000000", "{set}");
    }
}

fn serve(columns: &str, root: &str) {
    let server = ours::Instance::start_with_columns(&ours::Setup::default(), columns);
    assert!(send(server.address).starts_with('K'));
    let services = server.services();
    assert!(!services.is_empty());
    services.into_iter().for_each(assert_confined);
    let log = server.log.all_with("confined: ");
    let line = log.lines().find(|line| line.contains("confined: ")).unwrap_or_default();
    assert!(line.contains(&format!("confined: user postfix, {root}")), "{log}");
    assert!(line.contains(", no capabilities, no new privileges, seccomp, Landlock (ABI "), "{log}");
    assert!(!log.contains("not in force"), "{log}");
}

/// All processes below this one that are called so.
fn descendants(of: Pid, name: &str) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap()));
    children
        .flat_map(|child| {
            let own = (field(child, "Name") == name).then_some(child);
            own.into_iter().chain(descendants(child, name)).collect::<Vec<_>>()
        })
        .collect()
}

/// The one that the master knows, and its worker.
fn under_postfix() {
    for submit in [Submit::Local, Submit::Postfix] {
        let server = drop_in::start(submit, &postfix::Setup::default());
        let said = send(server.address);
        assert!(said.starts_with('K'), "{said}");
        let processes = descendants(server.pid(), "qmqpd");
        assert!(processes.len() >= 2, "{processes:?}");
        processes.into_iter().for_each(assert_confined);
        server.log.all_with("confined: user postfix, no chroot, ");
    }
}

fn switched_off() {
    let setup = ours::Setup { main_cf: vec!["qmqpd_sandbox =".to_owned()], ..Default::default() };
    let server = ours::Instance::start(&setup);
    assert!(send(server.address).starts_with('K'));
    for service in server.services() {
        assert_eq!((field(service, "Seccomp").as_str(), field(service, "NoNewPrivs").as_str()), ("0", "1"));
    }
    let log = server.log.all_with("no seccomp (qmqpd_sandbox), no Landlock (qmqpd_sandbox)");
    assert!(!log.contains("not in force"), "{log}");
}

/// A server of `tcp:` tables that knows every key.
fn table_server() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut answers = stream.try_clone().unwrap();
            for _ in std::io::BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = answers.write_all(b"200 yes\n");
            }
        }
    });
    address
}

/// The C library reads its files, and loads what it needs, to find the server; and the port is open to us.
fn remote_table(host: &str) {
    let port = table_server().port();
    let main_cf = vec![format!("qmqpd_authorized_clients = tcp:{host}:{port}")];
    let server =
        ours::Instance::start_with_columns(&ours::Setup { main_cf, ..Default::default() }, "n - n - -");
    let said = send(server.address);
    assert!(said.starts_with('K'), "{said}");
    server.services().into_iter().for_each(assert_confined);
}

/// systemd's rating goes from 0.0 to 10.0, the less the better; from 5.0 on it is no longer "OK".
fn unit_file() {
    const TENTHS_MAX: &str = "--threshold=40";
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/qmqpd.service");
    let mut analyze = peers::command("/usr/bin/systemd-analyze").unwrap();
    let output =
        analyze.args(["security", "--offline=true", "--no-pager", TENTHS_MAX, unit]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" OK "), "{said}");
    // What systemd lets through must suffice for the sandbox of the service processes.
    let text = std::fs::read_to_string(unit).unwrap();
    let filter = text.lines().find(|line| line.starts_with("SystemCallFilter=")).unwrap();
    for call in
        ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "chroot"]
    {
        assert!(filter.split([' ', '=']).any(|word| word == call), "{call} is not in {filter}");
    }
}

/// The one queue file that is made elsewhere than in `incoming`.
fn on_hold() {
    let main_cf = vec!["header_checks = regexp:{{/^Subject: x/ HOLD wait}}".to_owned()];
    let server = ours::Instance::start(&ours::Setup { main_cf, ..Default::default() });
    let said = send(server.address);
    assert!(said.starts_with('K'), "{said}");
    assert_eq!(queue::files_below(&server.queue.path.join("hold")).len(), 1);
    server.queue.wait_until_empty();
}
