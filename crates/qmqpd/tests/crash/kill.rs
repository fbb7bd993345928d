//! `kill -9` of master and service at once, while twenty clients send.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, killpg};

use super::account::Account;
use testbed::client::{self, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::queue::Queue;
use testbed::random::{Random, seed};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    for way in ["file", "journal"] {
        trials.add(&format!("kill::process_group::{way}"), &[Peer::Root], move || process_group(way));
    }
}

const ROUNDS: usize = 4;

/// Drafts of the killed: files that have a name already and are not ready.
fn unfinished(queue: &Queue) -> Vec<PathBuf> {
    let ready = queue.committed();
    queue.incoming().into_iter().filter(|path| !ready.contains(path)).collect()
}

/// A client that has sent half of a large message, and the file in which it is.
fn half_a_message(server: &Instance) -> (TcpStream, PathBuf) {
    let before = server.queue.incoming();
    let bytes = request(&b"0123456789abcde\n".repeat(100_000), b"a@sender.example", &[b"b@rcpt.example"]);
    let mut stream = client::connect(server.address);
    stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let draft = wait::until("half a message is in the queue", || {
        // Its first name, which it has for a moment, has a dot in it.
        let is_new = |path: &PathBuf| !before.contains(path) && path.extension().is_none();
        unfinished(&server.queue).into_iter().find(is_new)
    });
    (stream, draft)
}

fn process_group(way: &str) {
    let queue = testbed::postfix::scratch("killed");
    let path = queue.path().join("queue");
    let setup = |named_drafts: &str| {
        let main_cf = vec![format!("qmqpd_commit = {way}"), format!("qmqpd_named_drafts = {named_drafts}")];
        Setup { main_cf, queue: Some(path.clone()) }
    };
    let account = Arc::new(Account::default());
    let (mut owed, mut left_behind) = (0, Vec::new());
    for round in 0..ROUNDS {
        let mut random = Random::new(seed(), round);
        // A draft without a name goes with its process: only one with a name can be left behind.
        let is_named = round.is_multiple_of(2);
        let server = Instance::start(&setup(if is_named { "yes" } else { "no" }));
        let half = is_named.then(|| half_a_message(&server));
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
        wait::until("the service is gone", || TcpStream::connect(server.address).is_err().then_some(()));
        // The page cache is as it was: whatever is ready is whole.
        owed = account
            .check(&path, 0, true)
            .unwrap_or_else(|error| panic!("QMQPD_SEED={}, round {round}: {error}", seed()));
        assert!(owed >= target, "{owed} owed of {target}");
        if let Some((_, draft)) = half {
            assert!(draft.exists(), "a killed server cannot have tidied up");
            left_behind.push(draft);
        }
    }
    // The next start clears away what was being written.
    let server = Instance::start(&setup("no"));
    let reply =
        client::send(server.address, b"Subject: after\n\n", b"a@sender.example", &[b"b@rcpt.example"]);
    assert!(reply.starts_with('K'), "{reply}");
    wait::until("drafts of the killed are removed", || unfinished(&server.queue).is_empty().then_some(()));
    assert!(left_behind.iter().all(|draft| !draft.exists()));
    eprintln!("kill -9 with qmqpd_commit = {way}: {ROUNDS} kills, {owed} messages answered K, 0 lost");
}
