//! Start, reload, stop, crash.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};

use testbed::client::{self, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::program;
use testbed::trials::Trials;
use testbed::{isolation, postfix, queue, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("life::reload_under_load_loses_no_reply", &[], reload_under_load);
    trials.add("life::reload_changes_settings", &[], reload_changes_settings);
    trials.add("life::a_bad_reload_keeps_the_old_configuration", &[], bad_reload);
    trials.add("life::a_bad_configuration_stops_the_start", &[], bad_start);
    trials.add("life::sigterm_is_prompt", &[], sigterm);
    trials.add("life::a_killed_service_is_started_again", &[], killed_service);
    trials.add("life::a_killed_process_leaves_no_half_message", &[Peer::NamelessFiles], nothing_left);
    trials.add("life::stale_files_are_removed_and_no_others", &[], stale_files);
    trials.add("life::root_hands_its_services_to_the_mail_owner", &[Peer::Root, Peer::Postfix], privileges);
    trials.add(
        "life::serves_an_ordinary_user_without_configuration",
        &[Peer::Root, Peer::Isolation],
        ordinary_user,
    );
}

const CONTENT: &[u8] = b"Subject: life\n\nhello\n";

fn send(server: &Instance) -> String {
    client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

fn with(lines: &[&str]) -> Instance {
    Instance::start(&Setup {
        main_cf: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Default::default()
    })
}

/// Replaces the part of main.cf.
fn edit(server: &Instance, edit: impl Fn(String) -> String) {
    let path = server.config.join("main.cf");
    let text = fs::read_to_string(&path).unwrap();
    postfix::write_old(&path, &edit(text));
}

/// The log without the lines of sessions in which nothing happened.
fn unusual(server: &Instance) -> String {
    let usual = ["connect from", "client=", "message-id="];
    let log = server.log.all();
    log.lines().filter(|line| !usual.iter().any(|part| line.contains(part))).collect::<Vec<_>>().join("\n")
}

/// Every message gets its `K`, however often the configuration is read again meanwhile.
fn reload_under_load() {
    const RELOADS: usize = 10;
    let server = Instance::start(&Setup::default());
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        let said = send(&server);
                        assert!(said.starts_with('K'), "{said}; {}", unusual(&server));
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for _ in 0..RELOADS {
            let before = server.services();
            server.signal(Signal::SIGHUP);
            wait::until("another process has taken over", || (server.services() != before).then_some(()));
        }
        done.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum::<usize>()
    });
    assert!(sent > 0);
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), sent);
}

fn reload_changes_settings() {
    let server = with(&["qmqpd_authorized_clients = 10.0.0.0/8"]);
    // A client that came before the reload is served under the old rules.
    let refused = |said: &str| said.ends_with("is not authorized to use this service");
    assert!(refused(&send(&server)));
    edit(&server, |text| {
        text.replace("qmqpd_authorized_clients = 10.0.0.0/8", "qmqpd_authorized_clients = 127.0.0.1")
    });
    server.signal(Signal::SIGHUP);
    wait::until("the new list is in force", || send(&server).starts_with('K').then_some(()));
}

fn bad_reload() {
    let mut server = Instance::start(&Setup::default());
    let services = server.services();
    edit(&server, |text| text + "qmqpd_timeout = 5 soon\n");
    server.log.skip();
    server.signal(Signal::SIGHUP);
    let told = wait::within(wait::PATIENCE, || {
        let everything = server.log.all() + &server.stderr();
        everything.contains("qmqpd_timeout").then_some(everything)
    });
    let told = told.unwrap_or_else(|| panic!("no word about qmqpd_timeout"));
    assert!(told.contains("main.cf"), "{told}");
    assert!(send(&server).starts_with('K'));
    assert_eq!(server.services(), services, "the old service did not go on");
    // Repaired, a reload works again.
    edit(&server, |text| text.replace("qmqpd_timeout = 5 soon", "qmqpd_timeout = 20s"));
    server.signal(Signal::SIGHUP);
    wait::until("another process has taken over", || (server.services() != services).then_some(()));
    assert!(send(&server).starts_with('K'));
}

/// File, line, name, value; exit status 78 and nothing that listens.
fn bad_start() {
    let place = postfix::scratch("bad");
    let text = format!("queue_directory = {}/queue\n\nqmqpd_timeout = 5 soon\n", place.path().display());
    let config = postfix::write_config(place.path(), &text, "");
    fs::remove_file(config.join("master.cf")).unwrap();
    for command in ["serve", "check"] {
        let output = Command::new(program::qmqpd())
            .arg(command)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
        for part in ["main.cf", "3", "qmqpd_timeout", "5 soon"] {
            assert!(said.contains(part), "{command}: no {part:?} in {said}");
        }
    }
}

fn sigterm() {
    let mut server = Instance::start(&Setup::default());
    let _idle: Vec<TcpStream> = (0..10).map(|_| client::connect(server.address)).collect();
    let mut half = client::connect(server.address);
    std::io::Write::write_all(&mut half, b"100:20:half").unwrap();
    assert!(send(&server).starts_with('K'));
    let began = Instant::now();
    server.signal(Signal::SIGTERM);
    let status = server.wait();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert!(status.success(), "{status}");
    assert!(TcpStream::connect(server.address).is_err(), "something still listens");
    assert_eq!(server.queue.take().len(), 1);
    server.queue.wait_until_empty();
}

fn killed_service() {
    let server = Instance::start(&Setup::default());
    assert!(send(&server).starts_with('K'));
    for service in server.services() {
        kill(service, Signal::SIGKILL).unwrap();
    }
    // The socket is the master's: a client may wait, but is never refused.
    assert!(send(&server).starts_with('K'));
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), 2);
}

/// The file of a message that comes has no name: nobody sees it, and it goes with the process.
fn nothing_left() {
    let mut server = Instance::start(&Setup::default());
    assert!(send(&server).starts_with('K'));
    let whole = server.queue.incoming();
    let bytes = request(&b"0123456789abcde\n".repeat(100_000), b"a@sender.example", &[b"b@x.example"]);
    let mut stream = client::connect(server.address);
    std::io::Write::write_all(&mut stream, &bytes[..bytes.len() / 2]).unwrap();
    let services = server.services();
    wait::until("a file without a name is being written", || {
        let open = fs::read_dir(format!("/proc/{}/fd", services.first()?)).ok()?;
        let mut targets = open.flatten().filter_map(|link| fs::read_link(link.path()).ok());
        targets.find(|target| {
            let target = target.to_string_lossy();
            target.contains("/incoming/") && target.ends_with("(deleted)")
        })
    });
    server.signal(Signal::SIGKILL);
    for service in services {
        let _ = kill(service, Signal::SIGKILL);
    }
    server.wait();
    assert_eq!(server.queue.incoming(), whole);
}

/// What a crash left goes; what is young, whole or foreign stays.
fn stale_files() {
    let place = postfix::scratch("stale");
    let queue_path = place.path().join("queue");
    let setup =
        Setup { main_cf: vec!["qmqpd_named_drafts = yes".to_owned()], queue: Some(queue_path.clone()) };
    let mut server = Instance::start(&setup);
    assert!(send(&server).starts_with('K'));
    let whole = server.queue.committed().remove(0);

    // A crash in the middle of a message: services and master are killed at once.
    let bytes = request(&b"0123456789abcde\n".repeat(100_000), b"a@sender.example", &[b"b@x.example"]);
    let mut stream = client::connect(server.address);
    std::io::Write::write_all(&mut stream, &bytes[..bytes.len() / 2]).unwrap();
    let torn = wait::until("a file is being written", || {
        // Its first name, which it has for a moment, has a dot in it.
        let has_queue_id = |path: &std::path::PathBuf| path.extension().is_none();
        server.queue.incoming().into_iter().find(|path| *path != whole && has_queue_id(path))
    });
    let services = server.services();
    server.signal(Signal::SIGKILL);
    for service in services {
        let _ = kill(service, Signal::SIGKILL);
    }
    server.wait();
    assert!(torn.exists(), "a killed server cannot have tidied up");

    let incoming = queue_path.join("incoming");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&whole).unwrap());
    let place_file = |name: &str, mode: u32, age: Duration| {
        let path = incoming.join(name);
        fs::write(&path, b"not ours to judge").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        path
    };
    let eight_days = Duration::from_secs(8 * 24 * 3600);
    let foreign = place_file("notes.txt", 0o600, eight_days);
    let young = place_file("123456.999999", 0o600, Duration::ZERO);
    let old_file = fs::File::options().write(true).open(&torn).unwrap();
    old_file.set_modified(SystemTime::now() - eight_days).unwrap();

    let server = Instance::start(&setup);
    wait::until("the torn file is removed", || (!torn.exists()).then_some(()));
    assert!(send(&server).starts_with('K'));
    assert!(whole.exists() && foreign.exists() && young.exists(), "{:?}", server.queue.incoming());
}

fn privileges() {
    let server = Instance::start(&Setup::default());
    let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap().uid;
    let services = server.services();
    assert!(!services.is_empty());
    for service in services {
        wait::until("the service has given up root", || {
            let status = fs::read_to_string(format!("/proc/{service}/status")).unwrap();
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_owned();
            let uids = field("Uid:");
            let all_owner = uids.split_whitespace().all(|uid| uid == owner.to_string());
            (all_owner && field("NoNewPrivs:").trim() == "1" && field("CapEff:").trim() == "0000000000000000")
                .then_some(())
        });
    }
}

/// The first command of the README, as nobody in an empty directory.
fn ordinary_user() {
    assert!(isolation::inside());
    let place = postfix::scratch("ordinary");
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    std::os::unix::fs::chown(place.path(), Some(nobody.uid.as_raw()), None).unwrap();
    // The build directory may be out of reach for others.
    let program = place.path().join("qmqpd");
    fs::copy(program::qmqpd(), &program).unwrap();
    let stderr = place.path().join("stderr");
    let mut child = Command::new("setpriv")
        .args([
            format!("--reuid={}", nobody.uid),
            format!("--regid={}", nobody.gid),
            "--clear-groups".to_owned(),
        ])
        .arg(&program)
        .arg("serve")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 6628));
    let listening = wait::within(wait::PATIENCE, || TcpStream::connect(address).ok());
    assert!(listening.is_some(), "{}", fs::read_to_string(&stderr).unwrap());
    drop(listening);
    let reply = client::run(address, &[Step::Send(request(CONTENT, b"a@sender.example", &[b"b@x.example"]))]);
    let files = queue::files_below(&place.path().join("qmqpd-spool/incoming"));
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = wait::until("it ends", || child.try_wait().unwrap());
    let said = fs::read_to_string(&stderr).unwrap();
    assert!(client::text(&reply.received).contains(":KOk: queued as "), "{said}");
    assert_eq!(files.len(), 1);
    assert!(status.success(), "{status}; {said}");
    for part in ["127.0.0.1:6628", "qmqpd-spool"] {
        assert!(said.contains(part), "the first lines do not mention {part}: {said}");
    }
}
