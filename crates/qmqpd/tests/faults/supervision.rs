//! The master: a service process ends, and a new one cannot be started at once.

use nix::sys::signal::{Signal, kill};

use super::harness::client;
use super::harness::ours::{Instance, Setup};
use super::harness::peers::Peer;
use super::harness::strace::{Fault, Injection, threads};
use super::harness::trials::Trials;
use super::harness::wait;
use super::record;

pub fn add(trials: &mut Trials) {
    trials.add("supervision::start", &[Peer::Strace], start);
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
        assert!(new.is_some(), "{fault}: no new service process; {}", server.log.all());
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
