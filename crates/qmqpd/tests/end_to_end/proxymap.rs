//! `proxy:` tables, served by the proxymap(8) of a Postfix on the same queue directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use testbed::client::{self, Step, request};
use testbed::ours;
use testbed::peers::{self, Peer};
use testbed::postfix::{self, scratch, write_config, write_old};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    for (name, columns) in [("in_a_jail", "n - y - -"), ("without_a_jail", "n - n - -")] {
        for kind in ["hash", "texthash"] {
            trials.add(&format!("proxymap::{kind}_{name}"), &[Peer::Postfix, Peer::Isolation], move || {
                asked(kind, columns)
            });
        }
    }
    trials.add("proxymap::a_table_that_is_not_approved_is_z", &[Peer::Postfix], not_approved);
    trials.add("proxymap::a_killed_proxymap_is_asked_again", &[Peer::Postfix], killed);
    trials.add("proxymap::a_proxymap_that_comes_later_is_used", &[Peer::Postfix], comes_later);
}

/// Two tables, in a Postfix that serves one of them.
struct Pair {
    files: TempDir,
    postfix: postfix::Instance,
}

impl Pair {
    fn start() -> Self {
        let files = scratch("proxy-tables");
        let config = write_config(files.path(), "compatibility_level = 3.6\n", "");
        for name in ["clients", "others"] {
            let path = files.path().join(name);
            write_old(&path, "127.0.0.1 yes\nexample.com yes\n");
            let mut postmap = peers::command("/usr/sbin/postmap").unwrap();
            let status = postmap.arg("-c").arg(&config).arg(format!("hash:{}", path.display())).status();
            assert!(status.unwrap().success());
        }
        let clients = files.path().join("clients").display().to_string();
        let postfix = postfix::Instance::start(&postfix::Setup {
            main_cf: vec![
                format!("proxy_read_maps = proxy:hash:{clients} proxy:texthash:{clients}"),
                // A process that is killed before master(8) has heard of its first client counts as one that cannot start.
                "service_throttle_time = 1s".to_owned(),
            ],
            master_cf: "proxymap unix - - n - - proxymap\n".to_owned(),
            ..Default::default()
        });
        Self { files, postfix }
    }

    /// Ours beside it, with one list of one table.
    fn ours(&self, kind: &str, name: &str, columns: &str) -> ours::Instance {
        let path = self.files.path().join(name);
        serve(&self.postfix.queue.path, &format!("proxy:{kind}:{}", path.display()), columns)
    }
}

fn serve(queue: &Path, list: &str, columns: &str) -> ours::Instance {
    let main_cf = vec![format!("qmqpd_authorized_clients = {list}")];
    ours::Instance::start_with_columns(&ours::Setup { main_cf, queue: Some(queue.to_owned()) }, columns)
}

const CONTENT: &[u8] = b"Subject: proxy\n\nhello\n";
const UNUSABLE: &str = "ZError: server configuration error";

fn send(server: &ours::Instance) -> String {
    client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

fn asked(kind: &str, columns: &str) {
    let pair = Pair::start();
    let server = pair.ours(kind, "clients", columns);
    assert!(send(&server).starts_with('K'));
    // By its address, by a parent domain of its name, not at all.
    let from = |address: &str| {
        let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
        let session = client::run_from(address, server.address, &[Step::Send(whole)]);
        client::text(client::reply(&session.received).expect("a whole reply"))
    };
    assert!(from("127.0.0.2").starts_with('K'));
    let refused = "is not authorized to use this service";
    assert!(from("127.0.0.6").contains(refused));
    assert!(from("127.0.0.1").starts_with('K'));
    // The refusal has its line, and the start says what such a table needs; nothing else is worth one.
    let log = server.log.all_with(refused);
    let complains = |line: &&str| line.contains("warning: ") || line.contains("error: ");
    let expected = |line: &str| line.contains(refused) || line.contains("in its proxy_read_maps");
    assert!(log.lines().filter(complains).all(expected), "{log}");
    assert!(!pair.postfix.log.all().contains("warning: "));
}

fn not_approved() {
    let pair = Pair::start();
    let server = pair.ours("hash", "others", "n - y - -");
    for _ in 0..2 {
        assert_eq!(send(&server), UNUSABLE);
    }
    let table = format!("hash:{}", pair.files.path().join("others").display());
    let words = format!(
        "proxymap service is not configured for table \"{table}\"; add proxy:{table} to proxy_read_maps"
    );
    for line in [format!("error: {words}"), format!("warning: {words}")] {
        server.log.all_with(&line);
    }
    pair.postfix.log.all_with("request for unapproved table");
}

/// The processes of this name that work in the queue directory.
fn processes(queue: &Path, name: &str) -> Vec<Pid> {
    let queue = queue.canonicalize().unwrap();
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_ours = |id: &i32| {
        let process = Path::new("/proc").join(id.to_string());
        fs::read_to_string(process.join("comm")).is_ok_and(|found| found.trim() == name)
            && fs::read_link(process.join("cwd")).is_ok_and(|directory| directory == queue)
    };
    ids.filter(is_ours).map(Pid::from_raw).collect()
}

fn killed() {
    let pair = Pair::start();
    let server = pair.ours("hash", "clients", "n - y - -");
    assert!(send(&server).starts_with('K'));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let before = processes(&pair.postfix.queue.path, "proxymap");
        assert!(!before.is_empty(), "nobody was asked");
        for &process in &before {
            kill(process, signal).unwrap();
        }
        // Not waiting for the end: a request into its last moment is repeated.
        assert!(send(&server).starts_with('K'), "{signal}");
        let after = processes(&pair.postfix.queue.path, "proxymap");
        assert!(after.iter().any(|process| !before.contains(process)), "{before:?} still answer");
    }
}

/// A server that starts before its Postfix.
fn comes_later() {
    let files = scratch("proxy-later");
    let queue = files.path().join("queue");
    write_old(&files.path().join("clients"), "127.0.0.1 yes\n");
    let list = format!("proxy:texthash:{}", files.path().join("clients").display());
    let server = serve(&queue, &list, "n - y - -");
    assert_eq!(send(&server), UNUSABLE);
    server.log.all_with("is Postfix running on this queue directory?");
    let _postfix = postfix::Instance::start(&postfix::Setup {
        main_cf: vec![format!("proxy_read_maps = {list}")],
        master_cf: "proxymap unix - - n - - proxymap\n".to_owned(),
        queue: Some(queue),
        ..Default::default()
    });
    wait::until("the table is served", || send(&server).starts_with('K').then_some(()));
    check(&server);
}

/// `qmqpd check` finds nothing wrong, asks nobody, and says what is needed.
fn check(server: &ours::Instance) {
    let output =
        Command::new(testbed::program::qmqpd()).arg("check").arg("-c").arg(&server.config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("in its proxy_read_maps"), "{said}");
}
