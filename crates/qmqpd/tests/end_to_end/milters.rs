//! Mail filters that nobody here wrote: OpenDKIM signs and verifies, SpamAssassin marks, rspamd marks and rejects.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use testbed::client;
use testbed::milter::{Filter, Script};
use testbed::ours;
use testbed::peers::Peer;
use testbed::ports;
use testbed::postfix::{self, scratch};
use testbed::queue::{Queue, directory};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    trials.add("milters::opendkim_signs_and_another_verifies", &[Peer::OpenDkim, Peer::Root], opendkim);
    trials.add("milters::spamassassin_marks_spam", &[Peer::SpamassMilter, Peer::Root], spamassassin);
    trials.add("milters::rspamd_marks_and_rejects", &[Peer::Rspamd, Peer::Postfix], rspamd);
    trials.add("milters::many_sessions_at_a_time", &[], many_sessions);
    trials.add("milters::a_large_message_takes_little_memory", &[], large_message);
}

/// A filter program that ends with the test.
struct Program {
    child: Child,
    _dir: Option<TempDir>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let gone = wait::within(std::time::Duration::from_secs(5), || self.child.try_wait().ok().flatten());
        if gone.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn start(command: &mut Command, dir: Option<TempDir>) -> Program {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Program { child: child.expect("a filter program"), _dir: dir }
}

/// Waits until somebody listens on the port.
fn listens(port: u16) {
    wait::until("the filter listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
}

/// A key, and the same as a name server would publish it.
fn key(dir: &Path) -> PathBuf {
    let private = dir.join("private.pem");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).stderr(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}");
        output.stdout
    };
    let path = private.to_str().unwrap();
    openssl(&["genrsa", "-out", path, "2048"]);
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
    let public = String::from_utf8(openssl(&["rsa", "-in", path, "-pubout"])).unwrap();
    let base64: String = public.lines().filter(|line| !line.starts_with("-----")).collect();
    let record = format!("test._domainkey.sender.example v=DKIM1; k=rsa; p={base64}\n");
    fs::write(dir.join("published"), record).unwrap();
    private
}

fn opendkim_with(dir: &Path, name: &str, lines: &str) -> Program {
    let path = dir.join(name);
    fs::write(&path, format!("Syslog no\nRequireSafeKeys no\n{lines}")).unwrap();
    start(Command::new("/usr/sbin/opendkim").arg("-f").arg("-x").arg(&path), None)
}

fn send(server: &ours::Instance, content: &[u8]) -> String {
    let reply = client::send(server.address, content, b"alice@sender.example", &[b"bob@rcpt.example"]);
    assert!(reply.starts_with('K'), "{reply}");
    let file = server.queue.take().remove(0).unwrap();
    String::from_utf8(file.message()).unwrap()
}

/// One OpenDKIM signs, over a socket in the queue directory; the next, over TCP, sees the signature and finds it good. A body
/// of many chunks, so that the signature covers what both heard.
fn opendkim() {
    let dir = scratch("opendkim");
    let private = key(dir.path());
    let queue = dir.path().join("queue");
    directory(&queue, 0o755);
    let queue_dir = Queue::make(&queue);
    let sockets = queue_dir.path.join("private");
    directory(&sockets, 0o755);
    let signs = format!(
        "Mode s\nDomain sender.example\nSelector test\nKeyFile {}\nSocket local:{}/sign\nUMask 000\nCanonicalization relaxed/simple\n",
        private.display(),
        sockets.display(),
    );
    let port = ports::free();
    let nobody = dir.path().join("internal");
    fs::write(&nobody, "192.0.2.1\n").unwrap();
    let verifies = format!(
        "Mode v\nSocket inet:{port}@127.0.0.1\nInternalHosts {}\nTestPublicKeys {}\nAuthservID mx.example.test\nAlwaysAddARHeader yes\n",
        nobody.display(),
        dir.path().join("published").display(),
    );
    let _signer = opendkim_with(dir.path(), "sign.conf", &signs);
    let _verifier = opendkim_with(dir.path(), "verify.conf", &verifies);
    wait::until("the signer listens", || sockets.join("sign").exists().then_some(()));
    listens(port);
    let server = ours::Instance::start_with_columns(
        &ours::Setup {
            main_cf: vec![format!("non_smtpd_milters = unix:private/sign, inet:localhost:{port}")],
            queue: Some(queue),
        },
        "n - y - -",
    );
    let mut content =
        "From: Alice <alice@sender.example>\nTo: bob\nSubject: a signed\n message\n\n".to_owned();
    for line in 0..12_000 {
        writeln!(content, "line {line} of a body that takes several packets").unwrap();
    }
    for content in [
        "From: alice@sender.example\nSubject: short\n\nhello\n",
        &content,
        "From: alice@sender.example\n\nno end",
    ] {
        let message = send(&server, content.as_bytes());
        let (header, _) = message.split_once("\n\n").unwrap();
        assert!(
            header.contains("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=sender.example;"),
            "{header}"
        );
        let results = header.split("Authentication-Results: mx.example.test;").nth(1).expect(header);
        assert!(results.split("\nX-").next().unwrap().contains("dkim=pass"), "{header}");
    }
}

/// SpamAssassin, in its own words for tests, calls the test message spam; it gets the headers of its verdict.
fn spamassassin() {
    let dir = scratch("spamass");
    let (daemon, port) = (ports::free(), ports::free());
    let home = dir.path().join("home");
    directory(&home, 0o777);
    let rules = dir.path().join("rules");
    directory(&rules, 0o755);
    fs::write(rules.join("test.pre"), "loadplugin Mail::SpamAssassin::Plugin::Check\n").unwrap();
    let rule = "body TEST_SPAM /XJS-OUR-TEST-SPAM/\nscore TEST_SPAM 50\nreport_safe 0\nclear_headers\n";
    let headers = "add_header spam Flag _YESNOCAPS_\nadd_header all Status _YESNO_, score=_SCORE_\n";
    fs::write(rules.join("test.cf"), format!("{rule}{headers}")).unwrap();
    let _spamd = start(
        Command::new("/usr/sbin/spamd")
            .args(["--local", "--nouser-config", "--max-children=1", "--syslog=null", "--listen=127.0.0.1"])
            .arg(format!("--port={daemon}"))
            .arg(format!("--configpath={}", rules.display()))
            .arg(format!("--siteconfigpath={}", rules.display()))
            .env("HOME", &home),
        None,
    );
    listens(daemon);
    let _milter = start(
        Command::new("/usr/sbin/spamass-milter")
            .arg("-p")
            .arg(format!("inet:{port}@127.0.0.1"))
            .args(["--", "-d", "127.0.0.1", "-p"])
            .arg(daemon.to_string()),
        None,
    );
    listens(port);
    let server = ours::Instance::start(&ours::Setup {
        main_cf: vec![format!("non_smtpd_milters = inet:127.0.0.1:{port}")],
        ..Default::default()
    });
    let spam = send(&server, b"Subject: offer\nX-Spam-Status: No, says the sender\n\nXJS-OUR-TEST-SPAM\n");
    assert!(spam.contains("\nX-Spam-Flag: YES\n"), "{spam}");
    assert!(!spam.contains("says the sender"), "{spam}");
    let ham = send(&server, b"Subject: letter\n\nhello\n");
    assert!(!ham.contains("X-Spam-Flag: YES"), "{ham}");
}

/// An rspamd that judges by its test patterns and one rule. It asks no other server, and all that it writes is in this
/// directory.
fn rspamd_in(dir: &Path, port: u16) -> Program {
    let here = dir.display();
    // The list of public suffixes that comes with it takes seconds to compile.
    fs::write(dir.join("suffixes"), "example\n").unwrap();
    let rule = "rspamd_config:register_symbol{ name = 'LATER', type = 'prefilter', callback = function(task)\n\
        if task:get_header('Subject') == 'later' then task:set_pre_result('soft reject', 'come later') end end }\n";
    fs::write(dir.join("rules.lua"), rule).unwrap();
    let options = format!(
        "options {{ filters = \"\"; enable_test_patterns = true; url_tld = \"{here}/suffixes\";\n\
         tempdir = \"{here}\"; hs_cache_dir = \"{here}\"; cache_file = \"{here}/symbols\";\n\
         control_socket = \"{here}/control\"; dns {{ nameserver = [\"127.0.0.1:{}\"]; }} }}\n",
        ports::free(),
    );
    let worker = format!(
        "worker \"rspamd_proxy\" {{ bind_socket = \"127.0.0.1:{port}\"; count = 1; milter = yes;\n\
         upstream \"self\" {{ default = yes; self_scan = yes; }} }}\n\
         lua = \"{here}/rules.lua\";\n",
    );
    let headers = "modules { path = \"/usr/share/rspamd/plugins/milter_headers.lua\"; }\n\
        milter_headers { use = [\"x-spamd-result\", \"x-rspamd-queue-id\"]; skip_local = false; }\n";
    let actions = "logging { type = \"console\"; }\nactions { reject = 15; add_header = 6; }\n";
    let path = dir.join("rspamd.conf");
    fs::write(&path, format!("{options}{worker}{headers}{actions}")).unwrap();
    let program = start(Command::new("/usr/bin/rspamd").args(["-f", "-i", "-c"]).arg(&path), None);
    listens(port);
    program
}

/// What becomes of a message: the reply, and the message in the queue from its own first header on, where there is one. The
/// queue ID is `ID` in both.
fn outcome(address: SocketAddr, queue: &Queue, subject: &str, body: &str) -> (String, String) {
    let content = format!(
        "From: alice@sender.example\nX-Spamd-Result: says the sender\nSubject: {subject}\n\n{body}\n"
    );
    let reply = client::send(address, content.as_bytes(), b"alice@sender.example", &[b"bob@rcpt.example"]);
    let Some(file) = queue.take().pop() else { return (reply, String::new()) };
    let file = file.unwrap();
    let message = String::from_utf8(file.message()).unwrap().replace(&file.id, "ID");
    let (_, own) = message.split_at(message.find("From: ").expect(&message));
    let lines = own.split_inclusive('\n');
    let message =
        lines.filter(|line| !line.starts_with("Date: ") && !line.starts_with("Message-Id: ")).collect();
    (reply.replace(&file.id, "ID"), message)
}

/// rspamd adds its verdict to an ordinary message, in place of what the sender calls one, and the queue ID that it was told. Of
/// its test messages it marks one, renames one and rejects one, and another shall come later. The same from Postfix.
fn rspamd() {
    let dir = scratch("rspamd");
    let port = ports::free();
    let _rspamd = rspamd_in(dir.path(), port);
    let main_cf = vec![format!("non_smtpd_milters = inet:127.0.0.1:{port}")];
    let mut server = ours::Instance::start(&ours::Setup { main_cf: main_cf.clone(), ..Default::default() });
    let postfix = postfix::Instance::start(&postfix::Setup { main_cf, ..Default::default() });

    let test = |kind| format!("{kind}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
    let passed = |headers: &str, body: &str| {
        let message = format!("From: alice@sender.example\n{headers}\n{body}\n");
        ("KOk: queued as ID".to_owned(), message)
    };
    let refused = |reply: &str| (reply.to_owned(), String::new());
    // rspamd adds its headers in the order of a hash table: any.
    let [verdict, id] = ["X-Spamd-Result: default: False [0.00 / 15.00]\n", "X-Rspamd-Queue-Id: ID\n"];
    let (added, either_way) = (format!("{verdict}{id}"), format!("{id}{verdict}"));
    let ordered = |(reply, message): (String, String)| (reply, message.replace(either_way.as_str(), &added));
    let headed = format!("Subject: letter\n{added}");
    let marked = "X-Spamd-Result: says the sender\nSubject: letter\nX-Spam: Yes\n";
    let renamed = "X-Spamd-Result: says the sender\nSubject: *** SPAM *** letter\n";
    for (subject, body, expected) in [
        ("letter", "hello".to_owned(), passed(&headed, "hello")),
        ("letter", test('Y'), passed(marked, &test('Y'))),
        ("letter", test('Z'), passed(renamed, &test('Z'))),
        ("letter", test('X'), refused("DError: 5.7.1 Gtube pattern")),
        ("later", "hello".to_owned(), refused("ZError: 4.7.1 come later")),
    ] {
        let found = ordered(outcome(server.address, &server.queue, subject, &body));
        assert_eq!(found, expected);
        let found = ordered(outcome(postfix.address, &postfix.queue, subject, &body));
        assert_eq!(found, expected, "Postfix");
    }
    for text in ["5.7.1 Gtube pattern", "4.7.1 come later"] {
        let is_it = format!(
            "milter-reject: END-OF-MESSAGE from localhost[127.0.0.1]: {text}; from=<alice@sender.example>"
        );
        server.log.lines_until("the rejection", |line| line.text.contains(&is_it));
    }
    server.queue.wait_until_empty();
}

/// Sessions do not wait for each other's filters, and no connection to one is left behind.
fn many_sessions() {
    let filter = Filter::start();
    let edits = vec![testbed::milter::packet(b'h', b"", &["X-Seen", "yes"])];
    filter.set(Script::new().edits(edits));
    let server = ours::Instance::start(&ours::Setup {
        main_cf: vec![format!("non_smtpd_milters = inet:{}", filter.address)],
        ..Default::default()
    });
    let address = server.address;
    let clients: Vec<_> = (0..40)
        .map(|number| {
            std::thread::spawn(move || {
                let content = format!("Subject: {number}\n\nhello\n");
                client::send(address, content.as_bytes(), b"a@sender.example", &[b"b@rcpt.example"])
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().unwrap().starts_with('K'));
    }
    let files = server.queue.take();
    assert_eq!(files.len(), 40);
    for file in files {
        assert!(String::from_utf8(file.unwrap().message()).unwrap().contains("\nX-Seen: yes\n\nhello\n"));
    }
    let heard = filter.take();
    assert_eq!(heard.iter().filter(|line| line.starts_with("Q ")).count(), 40);
}

/// A message of 60 MB through a filter that replaces nothing, and one that has its body replaced: neither is ever in memory.
fn large_message() {
    let filter = Filter::start();
    filter.set(Script::new());
    let server = ours::Instance::start(&ours::Setup {
        main_cf: vec![
            format!("non_smtpd_milters = inet:{}", filter.address),
            "message_size_limit = 0".to_owned(),
        ],
        ..Default::default()
    });
    let line = "0123456789".repeat(7) + "\n";
    let content = format!("Subject: large\n\n{}", line.repeat(60_000_000 / line.len()));
    let before = peak(&server);
    let reply = client::send(server.address, content.as_bytes(), b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(reply.starts_with('K'), "{reply}");
    let grown = peak(&server).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more for a message of 60 MB");
    let file = server.queue.take().remove(0).unwrap();
    assert!(file.message().ends_with(line.as_bytes()) && file.bytes > 60_000_000);
    let chunks = filter.take().iter().filter(|line| line.starts_with("B ")).count();
    assert!(chunks >= 60_000_000 / 65_535, "{chunks} packets");
}

/// The most memory that a service process has had, in KiB.
fn peak(server: &ours::Instance) -> u64 {
    let of = |pid: Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
    };
    server.services().into_iter().map(of).max().unwrap_or(0)
}
