//! The master and processes that misbehave: hung ones, ones that a stranger has taken over, too many old ones; and other users
//! of the machine who would keep it from its work.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use ::postfix::child::{ChildState, status_message};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use testbed::client::{self, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::program;
use testbed::trials::Trials;
use testbed::{postfix, wait};

pub(crate) fn add(trials: &mut Trials) {
    let root = [Peer::Root];
    trials.add("supervision::a_hung_process_is_replaced", &[], hung);
    trials.add("supervision::a_hung_process_that_drains_goes_too", &[], hung_and_draining);
    trials.add("supervision::a_process_that_floods_the_master_is_put_down", &root, flood);
    trials.add("supervision::a_process_that_talks_nonsense_is_put_down", &root, nonsense);
    trials.add("supervision::slow_clients_of_old_tables_keep_no_place", &[], tables_change);
    trials.add("supervision::old_generations_are_few", &[], many_reloads);
    trials.add("supervision::a_terminal_ends_it_in_order", &[], terminal);
    trials.add("supervision::a_socket_that_a_process_silenced_listens_again", &root, silenced);
    trials.add("supervision::no_other_user_can_keep_it_from_starting", &root, locked_by_others);
    trials.add("supervision::a_stale_number_is_never_signalled", &root, stale_number);
    trials.add("supervision::the_queue_has_one_master_wherever_its_pid_file_is", &[], one_master);
    trials.add("supervision::another_user_sees_its_status", &root, status_for_others);
}

const CONTENT: &[u8] = b"Subject: supervision\n\nhello\n";

fn send(server: &Instance) -> String {
    client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

fn with(lines: &[&str]) -> Instance {
    let main_cf = lines.iter().map(|line| (*line).to_owned()).collect();
    Instance::start(&Setup { main_cf, ..Setup::default() })
}

fn qmqpd(server: &Instance, arguments: &[&str]) -> Output {
    Command::new(program::qmqpd())
        .arg(arguments[0])
        .arg("-c")
        .arg(&server.config)
        .args(&arguments[1..])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(server: &Instance) -> String {
    text(&qmqpd(server, &["status"]).stdout)
}

fn only_service(server: &Instance) -> Pid {
    let [process] = server.services()[..] else { panic!("one process: {:?}", server.services()) };
    process
}

/// A client in the middle of its message.
fn sticky(server: &Instance) -> TcpStream {
    let mut stream = client::connect(server.address);
    stream.write_all(&request(CONTENT, b"a@sender.example", &[b"b@rcpt.example"])[..20]).unwrap();
    stream
}

fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let is_over =
        !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    is_over
}

/// A log line comes a moment after what it tells of.
fn until_logged(server: &Instance, words: &str) {
    let found = wait::within(wait::PATIENCE, || server.log.all().contains(words).then_some(()));
    assert!(found.is_some(), "no {words:?} in the log");
}

fn until_gone(server: &Instance, process: Pid) {
    wait::until("the process is gone", || (!server.services().contains(&process)).then_some(()));
}

fn hung() {
    let server = with(&["qmqpd_hang_timeout = 4s"]);
    let process = only_service(&server);
    kill(process, Signal::SIGSTOP).unwrap();
    until_gone(&server, process);
    let said = send(&server);
    assert!(said.starts_with('K'), "{said}");
    let words = format!("process {process} has not answered for 4 s (qmqpd_hang_timeout): killed");
    until_logged(&server, &words);
}

fn hung_and_draining() {
    let server = with(&["qmqpd_hang_timeout = 4s"]);
    let process = only_service(&server);
    let _client = sticky(&server);
    server.signal(Signal::SIGHUP);
    wait::until("it drains", || {
        status(&server).contains(&format!("draining: processes {process}")).then_some(())
    });
    kill(process, Signal::SIGSTOP).unwrap();
    until_gone(&server, process);
    until_logged(&server, &format!("process {process} has not answered for 4 s"));
}

/// The status channel of a process, as that process has it.
fn status_channel(process: Pid) -> std::os::unix::net::UnixStream {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let pidfd =
        pidfd_open(rustix::process::Pid::from_raw(process.as_raw()).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(pidfd, ::postfix::child::STATUS_DESCRIPTOR, PidfdGetfdFlags::empty()).unwrap().into()
}

/// The most memory that a process has had, in KiB.
fn memory_peak(process: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Without an end to reading, the master would do nothing else, and remember it all.
fn flood() {
    let server = with(&[]);
    let process = only_service(&server);
    let before = memory_peak(server.pid());
    let mut channel = status_channel(process);
    let message = status_message(u32::try_from(process.as_raw()).unwrap(), 1, ChildState::Alive).repeat(1000);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                if is_over.load(Ordering::Relaxed) || channel.write_all(&message).is_err() {
                    return;
                }
            }
        });
        let gone = wait::within(wait::PATIENCE, || (!server.services().contains(&process)).then_some(()));
        let reloaded = qmqpd(&server, &["reload"]);
        is_over.store(true, Ordering::Relaxed);
        assert!(gone.is_some(), "it was not put down");
        assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
    });
    assert!(send(&server).starts_with('K'));
    until_logged(&server, &format!("process {process}: it floods its status channel: killed"));
    let grown = memory_peak(server.pid()) - before;
    assert!(grown < 10_000, "the master has grown by {grown} KiB");
}

fn nonsense() {
    let server = with(&[]);
    let process = only_service(&server);
    // It speaks for a process that is not its own.
    let message = status_message(1, 1, ChildState::Available);
    status_channel(process).write_all(&message).unwrap();
    until_gone(&server, process);
    assert!(send(&server).starts_with('K'));
    let words = format!("process {process}: it sent an invalid status message: killed");
    until_logged(&server, &words);
}

/// Where the master.cf line allows one process, two changes of a table with a slow client each left no process that accepts.
fn tables_change() {
    let place = postfix::scratch("table");
    let table = place.path().join("clients");
    let write = |extra: usize| postfix::write_old(&table, &format!("127.0.0.1 ok\n192.0.2.{extra} ok\n"));
    write(0);
    let main_cf = vec![
        format!("qmqpd_authorized_clients = texthash:{}", table.display()),
        "qmqpd_old_process_limit = 3".to_owned(),
    ];
    let server = Instance::start_with_columns(&Setup { main_cf, ..Setup::default() }, "n - n - 1");
    let mut clients = Vec::new();
    for change in 1..=6 {
        clients.push(sticky(&server));
        wait::until("its session begins", || {
            (server.log.all().matches(": connect from ").count() > 2 * change - 1).then_some(())
        });
        write(change);
        let said = send(&server);
        assert!(said.starts_with('K'), "after change {change}: {said}; {}", status(&server));
    }
    wait::until("the oldest ones are told to end", || clients.iter().take(3).all(is_over).then_some(()));
    assert!(!clients.iter().skip(3).any(is_over), "three may finish");
    // Four of this service, and one of that on ::1.
    wait::until("few processes are left", || (server.services().len() <= 5).then_some(()));
    assert!(status(&server).contains(": running\n"), "{}", status(&server));
}

fn many_reloads() {
    let server = with(&["qmqpd_old_process_limit = 2"]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(sticky(&server));
        let serving = only_serving(&server);
        assert!(qmqpd(&server, &["reload"]).status.success());
        wait::until("a successor serves", || (only_serving(&server) != serving).then_some(()));
    }
    assert!(send(&server).starts_with('K'));
    wait::until("few processes are left", || (server.services().len() <= 3).then_some(()));
    assert!(clients.iter().take(6).all(is_over) && !clients.iter().skip(6).any(is_over));
    until_logged(&server, "more than 2 draining processes (qmqpd_old_process_limit)");
    let log = server.log.all();
    assert!(!log.contains("killed by signal"), "{log}");
}

/// The one that `status` says serves.
fn only_serving(server: &Instance) -> Pid {
    wait::until("a process serves", || {
        let status = status(server);
        let process = status.lines().find_map(|line| line.trim().strip_prefix("processes: "))?;
        status.contains(": running\n").then(|| process.parse().ok().map(Pid::from_raw)).flatten()
    })
}

/// ^C goes to all processes of the terminal; it is for the master to end them, and to leave no journal.
fn terminal() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let mut server = with(&["qmqpd_journal_checkpoint_delay = 600s"]);
        assert!(send(&server).starts_with('K'));
        killpg(server.pid(), signal).unwrap();
        assert!(server.wait().success());
        let journals = std::fs::read_dir(server.queue.path.join("journal")).map_or(0, Iterator::count);
        assert_eq!(journals, 0, "{signal}");
        assert!(!server.log.all().contains("killed by signal"));
    }
}

/// All processes share the listening socket, and one that was taken over can shut it down for all.
fn silenced() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let server = with(&[]);
    let process = only_service(&server);
    let number = rustix::process::Pid::from_raw(process.as_raw()).unwrap();
    let pidfd = pidfd_open(number, PidfdFlags::empty()).unwrap();
    let socket =
        pidfd_getfd(pidfd, ::postfix::child::FIRST_LISTEN_DESCRIPTOR, PidfdGetfdFlags::empty()).unwrap();
    rustix::net::shutdown(socket, rustix::net::Shutdown::Both).unwrap();
    assert!(TcpStream::connect(server.address).is_err(), "this test does nothing");
    kill(process, Signal::SIGKILL).unwrap();
    wait::until("it listens again", || TcpStream::connect(server.address).ok());
    assert!(send(&server).starts_with('K'));
    until_logged(&server, "had stopped listening: listening again");
}

/// Ends with the value.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// An ordinary user locks, shared and exclusively, by flock(2), whatever there is to open in these directories.
fn locks_of_nobody(directories: &[PathBuf]) -> Vec<Holder> {
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let mut holders = Vec::new();
    for directory in directories {
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        for file in files.chain([directory.clone()]) {
            let mut command = Command::new("flock");
            command.args(["--shared", "--nonblock"]).arg(&file).args(["sleep", "600"]);
            command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw()).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            holders.push(Holder(command.spawn().unwrap()));
        }
    }
    holders
}

fn locked_by_others() {
    let place = postfix::scratch("locked");
    let setup = Setup { queue: Some(place.path().join("queue")), ..Setup::default() };
    let mut server = Instance::start(&setup);
    server.stop();
    let queue = server.queue.path.clone();
    assert!(queue.join("pid/qmqpd.pid").exists());
    let holders = locks_of_nobody(&[queue.clone(), queue.join("pid")]);
    wait::until("there are locks", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let has_lock = |holder: &Holder| locks.contains(&format!(" {} ", holder.0.id()));
        holders.iter().any(has_lock).then_some(())
    });
    drop(server);
    let server = Instance::start(&setup);
    assert!(send(&server).starts_with('K'));
}

/// After a crash of the master its number is another process's.
fn stale_number() {
    let place = postfix::scratch("stale_number");
    let setup = Setup { queue: Some(place.path().join("queue")), ..Setup::default() };
    let mut server = Instance::start(&setup);
    for process in server.services().into_iter().chain([server.pid()]) {
        kill(process, Signal::SIGKILL).unwrap();
    }
    server.wait();
    let mut innocent = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let pid_file = server.queue.path.join("pid/qmqpd.pid");
    std::fs::write(&pid_file, format!("{:>32}\n", innocent.id())).unwrap();
    let holders = locks_of_nobody(&[server.queue.path.clone(), server.queue.path.join("pid")]);
    wait::until("the pid file is locked", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        holders.iter().any(|holder| locks.contains(&format!(" {} ", holder.0.id()))).then_some(())
    });
    let refused = qmqpd(&server, &["stop"]);
    let ended = innocent.try_wait().unwrap();
    let innocent = Holder(innocent);
    assert_eq!(refused.status.code(), Some(69), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("no `qmqpd serve` is running on the queue"),
        "{}",
        text(&refused.stderr)
    );
    assert!(ended.is_none(), "it was signalled");
    drop(innocent);
}

fn one_master() {
    let server = with(&[]);
    let port = testbed::ports::free();
    let other = server.dir().join("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let mut second = Command::new(program::qmqpd());
    second.arg("serve").arg("-c").arg(&server.config).process_group(0);
    second.args(["-o", &format!("process_id_directory={}", other.display())]);
    second.args(["-o", &format!("qmqpd_listen=127.0.0.1:{port}")]);
    let stderr = server.dir().join("second");
    let second = second.stdin(Stdio::null()).stderr(std::fs::File::create(&stderr).unwrap()).spawn().unwrap();
    let mut second = Holder(second);
    let ended = wait::within(wait::PATIENCE, || second.0.try_wait().unwrap());
    let said = std::fs::read_to_string(&stderr).unwrap() + &server.log.all();
    assert_eq!(ended.and_then(|status| status.code()), Some(69), "{said}");
    assert!(said.contains(&format!("another `qmqpd serve` (process {}) holds ", server.pid())), "{said}");
}

fn status_for_others() {
    let server = with(&[]);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    // The build directory may be out of reach for others.
    let place = postfix::scratch("status");
    let program = place.path().join("qmqpd");
    std::fs::copy(program::qmqpd(), &program).unwrap();
    let run = |verb: &str| {
        let mut command = Command::new(&program);
        command.arg(verb).arg("-c").arg(&server.config).uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        // Another test's child may hold the copy open for writing until it has become its program.
        wait::until("the copy can be run", || command.output().ok())
    };
    let seen = run("status");
    assert!(
        text(&seen.stdout).contains(&format!("running: process {}\n", server.pid())),
        "{}",
        text(&seen.stderr)
    );
    let refused = run("stop");
    assert_eq!(refused.status.code(), Some(69));
    assert!(
        text(&refused.stderr).contains("run this as root, or as the user that started the server"),
        "{}",
        text(&refused.stderr)
    );
}
