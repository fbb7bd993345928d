//! The master: a service process ends, and a new one cannot be started at once.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::record;
use testbed::client;
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::program;
use testbed::strace::{Fault, Injection, threads};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    trials.add("supervision::start", &[Peer::Strace], start);
    trials.add("supervision::a_stop_waits_for_the_disk", &[Peer::Strace], stop_waits);
    trials.add("supervision::a_second_signal_leaves_the_disk_its_time", &[Peer::Strace], second_signal);
    trials.add("supervision::the_wait_for_the_disk_is_bounded", &[Peer::Strace], bounded_wait);
    trials.add("supervision::a_draining_process_has_the_disk_for_itself_too", &[Peer::Strace], draining);
}

/// Longer than sessions have to end, so that a master which does not know better would have killed.
const SLOW: Fault = Fault { call: "syncfs", error: "delay_enter=9000000", when: "1+" };
/// Longer than any test waits.
const STUCK: Fault = Fault { call: "syncfs", error: "delay_enter=120000000", when: "1+" };

/// Puts a slow disk below the process, and a message into its journal.
fn with_a_slow_disk(server: &Instance, process: Pid, fault: &Fault) -> Injection {
    let injection = Injection::attach(&threads(process, |_| true), fault);
    let said = client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(said.starts_with('K'), "{said}");
    assert_ne!(journals(server), 0);
    injection
}

fn journals(server: &Instance) -> usize {
    std::fs::read_dir(server.queue.path.join("journal")).map_or(0, Iterator::count)
}

fn only_service(server: &Instance) -> Pid {
    let [process] = server.services()[..] else { panic!("one process: {:?}", server.services()) };
    process
}

fn qmqpd(server: &Instance, verb: &str) -> std::process::Output {
    std::process::Command::new(program::qmqpd()).arg(verb).arg("-c").arg(&server.config).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_stopped_in_order(server: &Instance) {
    let log = server.log.all();
    assert_eq!(journals(server), 0, "a journal is left: {log}");
    assert!(!log.contains("killed"), "{log}");
    assert!(log.contains("has no sessions and waits until accepted mail is on disk"), "{log}");
}

fn stop_waits() {
    let mut server = Instance::start(&Setup::default());
    let _slow = with_a_slow_disk(&server, only_service(&server), &SLOW);
    let output = qmqpd(&server, "stop");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.starts_with("stopped: process "), "{out}{err}");
    assert!(err.contains("waiting for the disk: processes "), "{err}");
    assert!(server.wait().success());
    assert_stopped_in_order(&server);
}

fn second_signal() {
    let mut server = Instance::start(&Setup::default());
    let _slow = with_a_slow_disk(&server, only_service(&server), &SLOW);
    server.signal(Signal::SIGTERM);
    wait::until("the disk is waited for", || {
        server.log.all().contains("waits until accepted mail is on disk").then_some(())
    });
    server.signal(Signal::SIGTERM);
    wait::until("it was heard", || {
        server.log.all().contains("only waits for the disk: further signals").then_some(())
    });
    assert!(server.wait().success());
    assert_stopped_in_order(&server);
}

fn bounded_wait() {
    let main_cf = vec!["qmqpd_stop_timeout = 3s".to_owned()];
    let mut server = Instance::start(&Setup { main_cf, ..Setup::default() });
    let _stuck = with_a_slow_disk(&server, only_service(&server), &STUCK);
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
    server.log.all_with("waited for the disk for 3 s (qmqpd_stop_timeout): killed");
    assert_eq!(journals(&server), 1, "nothing may be thrown away");
}

/// After a reload the old process ends its last session, and is still at the disk when the stop comes.
fn draining() {
    let mut server = Instance::start(&Setup::default());
    let old = only_service(&server);
    let _slow = with_a_slow_disk(&server, old, &SLOW);
    server.signal(Signal::SIGHUP);
    wait::until("it waits for the disk", || {
        text(&qmqpd(&server, "status").stdout)
            .contains(&format!("waiting for the disk: processes {old}"))
            .then_some(())
    });
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
    assert_stopped_in_order(&server);
}

fn start() {
    let mut tried = 0;
    for (call, error) in [
        ("socketpair", "EMFILE"),
        ("pipe2", "ENFILE"),
        ("clone3", "EAGAIN"),
        ("clone", "ENOMEM"),
        ("vfork", "EAGAIN"),
        ("poll", "EINTR"),
        ("wait4", "EINTR"),
        ("read", "EINTR"),
    ] {
        let fault = Fault { call, error, when: "1" };
        // A new server each time: one whose processes end again and again is patient with them.
        let server = Instance::start(&Setup::default());
        let old = server.services();
        let injection = Injection::attach(&threads(server.pid(), |_| true), &fault);
        for process in &old {
            kill(*process, Signal::SIGKILL).unwrap();
        }
        let new = wait::within(wait::PATIENCE, || {
            let now = server.services();
            (!now.is_empty() && now.iter().all(|process| !old.contains(process))).then_some(())
        });
        let injected = injection.injected();
        drop(injection);
        assert!(new.is_some(), "{fault}: no new service process");
        let reply =
            client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
        assert!(reply.starts_with('K'), "{fault}: {reply}");
        if injected > 0 {
            tried += 1;
            record::note("master", &fault, injected, "a new service process, perhaps after a pause");
        }
    }
    assert!(tried >= 3, "only {tried} of the calls are made at all: is this list still right?");
}
