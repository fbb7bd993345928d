//! A table or pattern file that changes is in force for the next client, and nobody is cut off.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use testbed::client::{self, End, Step, request};
use testbed::peers::{self, Peer};
use testbed::postfix::{self, scratch, write_config};
use testbed::queue::Queue;
use testbed::trials::Trials;
use testbed::{drop_in, ours, wait};

/// How each kind of table is written in a list, and whether Postfix's postmap makes it.
const TABLES: &[(&str, &str, bool)] = &[
    ("texthash", "texthash:FILE", false),
    ("cidr", "cidr:FILE", false),
    ("regexp", "regexp:FILE", false),
    ("pcre", "pcre:FILE", false),
    ("lmdb", "lmdb:FILE", true),
    ("cdb", "cdb:FILE", true),
    ("hash", "hash:FILE", true),
    ("btree", "btree:FILE", true),
    ("union", "unionmap:{texthash:FILE}", false),
    ("pattern_file", "/FILE", false),
    ("included_file", "/OUTER", false),
];

/// Who serves.
#[derive(Debug, Clone, Copy)]
enum Who {
    Serve,
    DropIn,
}

pub(crate) fn add(trials: &mut Trials) {
    trials.add("changes::while_a_client_is_looked_up_refuse_nobody_for_good", &[], while_looked_up);
    trials.add("changes::rules_missing_for_a_moment", &[], rules_missing_for_a_moment);
    trials.add("changes::a_named_pipe_is_no_list", &[], named_pipe);
    for (jail, columns) in [("in_a_jail", "n - y - -"), ("without_a_jail", "n - n - -")] {
        for (place, who) in [("serve", Who::Serve), ("under_postfix", Who::DropIn)] {
            // The names of the clients must not cost time.
            let needs = [Peer::Postfix, Peer::Isolation];
            trials.add(&format!("changes::in_force_at_once_{place}_{jail}"), &needs, move || {
                TABLES.iter().for_each(|table| in_force(who, columns, table));
            });
            trials.add(&format!("changes::missing_for_a_moment_{place}_{jail}"), &needs, move || {
                TABLES.iter().for_each(|table| missing_for_a_moment(who, columns, table));
            });
            trials.add(&format!("changes::twenty_lose_no_reply_{place}_{jail}"), &needs, move || {
                twenty(who, columns);
            });
        }
    }
}

/// A running server of either kind.
enum Server {
    Serve(ours::Instance),
    DropIn(postfix::Instance),
}

impl Server {
    fn start(who: Who, columns: &'static str, list: &str) -> Self {
        let main_cf = vec![format!("qmqpd_authorized_clients = {list}")];
        match who {
            Who::Serve => {
                let setup = ours::Setup { main_cf, ..Default::default() };
                Self::Serve(ours::Instance::start_with_columns(&setup, columns))
            }
            Who::DropIn => {
                let setup = postfix::Setup { main_cf, columns: Some(columns), ..Default::default() };
                Self::DropIn(drop_in::start(drop_in::Submit::Local, &setup))
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Serve(server) => server.address,
            Self::DropIn(server) => server.address,
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Serve(server) => server.log.all(),
            Self::DropIn(server) => server.log.all(),
        }
    }

    fn queue(&self) -> &Queue {
        match self {
            Self::Serve(server) => &server.queue,
            Self::DropIn(server) => &server.queue,
        }
    }

    fn send(&self) -> String {
        client::send(self.address(), CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
    }
}

const CONTENT: &[u8] = b"Subject: changes\n\nhello\n";

/// A table, and how to give it other contents.
struct Table {
    dir: tempfile::TempDir,
    kind: &'static str,
    config: Option<PathBuf>,
}

impl Table {
    fn new(kind: &'static str, is_built: bool) -> Self {
        let dir = scratch("changes");
        let config = is_built.then(|| write_config(dir.path(), "compatibility_level = 3.6\n", ""));
        fs::write(dir.path().join("outer"), format!("{}\n", dir.path().join("file").display())).unwrap();
        Self { dir, kind, config }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    /// As it stands in main.cf.
    fn list(&self, form: &str) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let (file, outer) = (path("file"), path("outer"));
        form.replace("/FILE", &file).replace("FILE", &file).replace("/OUTER", &outer)
    }

    /// Lets one address in, by a new file in the place of the old one, as editors and installers do it.
    fn allow(&self, address: &str) {
        let text = match self.kind {
            "regexp" | "pcre" => format!("/^{}$/ yes\n", address.replace('.', "\\.")),
            "pattern_file" | "included_file" => format!("{address}\n"),
            _ => format!("{address} yes\n"),
        };
        replace(&self.file(), &text);
        if let Some(config) = &self.config {
            let mut postmap = peers::command("/usr/sbin/postmap").unwrap();
            let table = format!("{}:{}", self.kind, self.file().display());
            assert!(postmap.arg("-c").arg(config).arg(table).status().unwrap().success());
        }
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn in_force(who: Who, columns: &'static str, &(kind, form, is_built): &(&'static str, &str, bool)) {
    let table = Table::new(kind, is_built);
    table.allow("127.0.0.1");
    let server = Server::start(who, columns, &table.list(form));
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut under_way: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
        let mut stream = client::connect(server.address());
        stream.write_all(first).unwrap();
        under_way.push(stream);
        // A connection is not a session yet; the next one, in order, is served after this one was accepted.
        assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
        table.allow("127.0.0.9");
        assert!(server.send().ends_with("is not authorized to use this service"), "{kind}: {}", server.log());
        table.allow("127.0.0.1");
    }
    assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
    for mut stream in under_way {
        stream.write_all(second).unwrap();
        let (received, end) = client::read_to_end(&mut stream);
        let reply = client::text(client::reply(&received).unwrap_or_default());
        assert!(reply.starts_with('K') && end == End::Closed, "{kind}: {reply}, {end:?}: {}", server.log());
    }
    assert_eq!(server.queue().take().into_iter().map(Result::unwrap).count(), 7, "{kind}");
    let restarts = || server.log().matches(" has changed -- restarting").count();
    // Changes of files that postmap writes in place are seen by the next lookup, without a fresh process. At times Postfix's
    // master has two processes for the same clients, and each of them says that it ends; the log of one that ends can come
    // late.
    let is_right = if matches!(kind, "lmdb" | "hash" | "btree") {
        restarts() == 0
    } else {
        wait::within(wait::PATIENCE, || (restarts() >= 4).then_some(())).is_some()
    };
    assert!(is_right, "{kind}: {} restarts: {}", restarts(), server.log());
}

/// Editors, package managers and people remove a file before they write it anew, and a client may come between.
fn missing_for_a_moment(
    who: Who,
    columns: &'static str,
    &(kind, form, is_built): &(&'static str, &str, bool),
) {
    let table = Table::new(kind, is_built);
    table.allow("127.0.0.1");
    let server = Server::start(who, columns, &table.list(form));
    assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
    let index = table.file().with_extension(if matches!(kind, "hash" | "btree") { "db" } else { kind });
    let file = if is_built { &index } else { &table.file() };
    for _ in 0..2 {
        fs::remove_file(file).unwrap();
        assert_eq!(server.send(), "ZError: server configuration error", "{kind}: {}", server.log());
        table.allow("127.0.0.1");
        assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
        assert!(server.send().starts_with('K'), "{kind}: {}", server.log());
    }
}

fn rules_missing_for_a_moment() {
    let dir = scratch("changes");
    let rules = dir.path().join("rules");
    fs::write(&rules, "/^X-Bad:/ REJECT\n").unwrap();
    let main_cf = vec![format!("header_checks = pcre:{}", rules.display())];
    let server = ours::Instance::start(&ours::Setup { main_cf, ..Default::default() });
    let send = || client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(send().starts_with('K'));
    fs::remove_file(&rules).unwrap();
    assert_eq!(send(), "ZError: queue file write error");
    // One with a mistake is no better than none, and one more try is worth while when it has changed.
    fs::create_dir(&rules).unwrap();
    assert_eq!(send(), "ZError: queue file write error");
    fs::remove_dir(&rules).unwrap();
    fs::write(&rules, "/^Subject: changes/ REJECT\n").unwrap();
    assert_eq!(send(), "DError: 5.7.1 message content rejected");
}

/// It has nothing in it when the list is read, and so excepts nobody.
fn named_pipe() {
    let dir = scratch("changes");
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let main_cf = vec![format!("qmqpd_authorized_clients = !{}, 127.0.0.1", pipe.display())];
    let server = ours::Instance::start(&ours::Setup { main_cf, ..Default::default() });
    let said = client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    assert_eq!(said, "ZError: server configuration error");
    let reason = format!("open file {}: Not a regular file but a named pipe", pipe.display());
    server.log.all_with(&reason);
    fs::remove_file(&pipe).unwrap();
    fs::write(&pipe, "192.0.2.1\n").unwrap();
    let said = client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(said.starts_with('K'), "{said}");
}

/// Tells the senders to stop, whatever happens.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The list is replaced while another table is asked about the client, who stands on the new list alone.
fn while_looked_up() {
    let table = Table::new("pattern_file", false);
    table.allow("127.0.0.9");
    let questions = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = questions.local_addr().unwrap().port();
    let file = table.file();
    let is_due = std::sync::Arc::new(AtomicBool::new(false));
    let due = std::sync::Arc::clone(&is_due);
    std::thread::spawn(move || {
        for stream in questions.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream.try_clone().unwrap()));
            while let Some(Ok(_)) = lines.next() {
                if due.swap(false, Ordering::Relaxed) {
                    replace(&file, "127.0.0.1\n");
                }
                let _ = stream.write_all(b"500 no\n");
            }
        }
    });
    let list = format!("tcp:127.0.0.1:{port}, {}", table.list("/FILE"));
    let server = Server::start(Who::Serve, "n - n - -", &list);
    assert!(server.send().contains("is not authorized"), "{}", server.log());
    is_due.store(true, Ordering::Relaxed);
    let said = server.send();
    assert!(
        said.starts_with("ZError: the list of authorized clients has just changed"),
        "{said}: {}",
        server.log()
    );
    let said = server.send();
    assert!(said.starts_with('K'), "{said}: {}", server.log());
}

fn twenty(who: Who, columns: &'static str) {
    const CHANGES: usize = 20;
    let table = Table::new("pattern_file", false);
    table.allow("127.0.0.1");
    let server = Server::start(who, columns, &table.list("/FILE"));
    let done = AtomicBool::new(false);
    let whole = request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"]);
    let mut said = Vec::new();
    let sent = std::thread::scope(|scope| {
        // Set even if a check below fails: the scope waits for the senders.
        let is_over = Over(&done);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        let said = server.send();
                        assert!(said.starts_with('K'), "{said}: {}", server.log());
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for change in 1..=CHANGES {
            // Each change lets in somebody who was kept out before, and whose very next connection must succeed.
            let newcomer = if change % 2 == 0 { "127.0.0.2" } else { "127.0.0.3" };
            replace(&table.file(), &format!("127.0.0.1\n{newcomer}\n"));
            let send = || {
                let session = client::run_from(newcomer, server.address(), &[Step::Send(whole.clone())]);
                client::text(&session.received)
            };
            // Whoever comes between the look at the table and his acceptance is asked to come again, and never told D.
            let reply = Some(send()).filter(|reply| !reply.contains("has just changed")).unwrap_or_else(send);
            said.push((newcomer, reply));
        }
        drop(is_over);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum::<usize>()
    });
    for (newcomer, reply) in said {
        assert!(reply.contains(":KOk: "), "{newcomer}: {reply}: {}", server.log());
    }
    assert!(sent > 0);
    assert_eq!(server.queue().take().into_iter().map(Result::unwrap).count(), sent + CHANGES);
}
