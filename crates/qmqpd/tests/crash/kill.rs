//! `kill -9` of master and service at once, while twenty clients send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, killpg};

use super::account::Account;
use super::harness::client;
use super::harness::ours::{Instance, Setup};
use super::harness::peers::Peer;
use super::harness::random::{Random, seed};
use super::harness::trials::Trials;
use super::harness::wait;

pub fn add(trials: &mut Trials) {
    for way in ["file", "journal"] {
        trials.add(&format!("kill::process_group::{way}"), &[Peer::Root], move || process_group(way));
    }
}

const ROUNDS: usize = 4;

fn process_group(way: &str) {
    let queue = super::harness::postfix::scratch("killed");
    let path = queue.path().join("queue");
    let setup = Setup { main_cf: vec![format!("qmqpd_commit = {way}")], queue: Some(path.clone()) };
    let account = Arc::new(Account::default());
    let mut owed = 0;
    for round in 0..ROUNDS {
        let mut random = Random::new(seed(), round);
        let server = Instance::start(&setup);
        let is_over = AtomicBool::new(false);
        // The number of replies decides when, not the clock.
        let target = account.accepted() + 20 + random.below(200);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                account.load(server.address, 20, || is_over.load(Ordering::SeqCst), || 0);
            });
            wait::until("there is load", || (account.accepted() >= target).then_some(()));
            killpg(server.pid(), Signal::SIGKILL).unwrap();
            is_over.store(true, Ordering::SeqCst);
            load.join().unwrap();
        });
        wait::until("the service is gone", || {
            std::net::TcpStream::connect(server.address).is_err().then_some(())
        });
        // The page cache is as it was: whatever is ready is whole.
        owed = account
            .check(&path, 0, true)
            .unwrap_or_else(|error| panic!("QMQPD_SEED={}, round {round}: {error}", seed()));
        assert!(owed >= target, "{owed} owed of {target}");
    }
    // The next start clears away what was being written.
    let server = Instance::start(&setup);
    let reply =
        client::send(server.address, b"Subject: after\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(reply.starts_with('K'), "{reply}");
    wait::until("drafts of the killed are removed", || {
        (server.queue.incoming().len() == server.queue.committed().len()).then_some(())
    });
    eprintln!("kill -9 with qmqpd_commit = {way}: {ROUNDS} kills, {owed} messages answered K, 0 lost");
}
