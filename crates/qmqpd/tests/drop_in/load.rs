//! Clients that come and go as long as something else happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testbed::client;
use testbed::postfix::Instance;
use testbed::wait;

/// What the clients saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadResult {
    /// Messages; each was accepted, or the test has failed.
    pub(crate) accepted: usize,
    /// From connection to reply.
    pub(crate) slowest: Duration,
    /// Messages that took nearly a second, or more.
    pub(crate) stalls: usize,
}

/// The clients at work.
pub(crate) struct Load<'s> {
    server: &'s Instance,
    accepted: AtomicUsize,
    stalls: AtomicUsize,
    is_over: AtomicBool,
}

const STALL: Duration = Duration::from_millis(900);

impl<'s> Load<'s> {
    /// Waits until so many more messages have been accepted.
    pub(crate) fn wait_for_more(&self, count: usize) {
        let before = self.accepted.load(Ordering::Acquire);
        let accepted = || (self.accepted.load(Ordering::Acquire) >= before + count).then_some(());
        if wait::within(wait::PATIENCE, accepted).is_none() {
            panic!("no more messages are accepted");
        }
    }

    /// Runs so many clients, each with one message after the other, while `work` runs.
    pub(crate) fn during(server: &'s Instance, clients: usize, work: impl FnOnce(&Self)) -> LoadResult {
        let load = Self {
            server,
            accepted: AtomicUsize::new(0),
            stalls: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        };
        let slowest = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(|| load.client())).collect();
            let _over = Over(&load.is_over);
            work(&load);
            drop(_over);
            clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
        });
        LoadResult { accepted: load.accepted.into_inner(), slowest, stalls: load.stalls.into_inner() }
    }

    fn client(&self) -> Duration {
        let server = self.server;
        let mut slowest = Duration::ZERO;
        while !self.is_over.load(Ordering::Acquire) {
            let began = Instant::now();
            let said = send(server);
            assert!(said.starts_with('K'), "{said}");
            let took = began.elapsed();
            slowest = slowest.max(took);
            self.stalls.fetch_add(usize::from(took >= STALL), Ordering::AcqRel);
            self.accepted.fetch_add(1, Ordering::AcqRel);
        }
        slowest
    }
}

/// Lets the clients end even when the work panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// One small message; the reply.
pub(crate) fn send(server: &Instance) -> String {
    client::send(server.address, b"Subject: load\n\nhello\n", b"a@sender.example", &[b"b@rcpt.example"])
}
