//! Under Postfix's master(8): process limits, reloads, stops.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::harness::client;
use super::harness::drop_in::{self, Submit};
use super::harness::peers::Peer;
use super::harness::postfix::{self, Instance, Setup};
use super::harness::trials::Trials;
use super::harness::wait;

pub fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    trials.add("life::limit_1", &needs, || limit("n - n - 1"));
    trials.add("life::limit_2", &needs, || limit("n - n - 2"));
    trials.add("life::limit_100", &needs, || limit("n - n - 100"));
    trials.add("life::reload_loses_nothing_with_cleanup", &needs, || reload(Submit::Postfix));
    trials.add("life::reload_loses_nothing_with_our_cleanup", &needs, || reload(Submit::Local));
    trials.add("life::a_mistake_is_z_and_its_correction_counts_at_once", &needs, mistake);
    trials.add("life::stop_is_prompt", &needs, stop);
    trials.add("life::max_use_ends_a_process_not_a_session", &needs, max_use);
}

const CONTENT: &[u8] = b"Subject: life\n\nhello\n";

fn send(server: &Instance) -> String {
    client::send(server.address, CONTENT, b"a@sender.example", &[b"b@rcpt.example"])
}

/// The limit of master.cf does not bound the clients of one process, whatever it is.
fn limit(columns: &'static str) {
    let setup = Setup { columns: Some(columns), ..Default::default() };
    let server = drop_in::start(Submit::Postfix, &setup);
    let idle: Vec<_> = (0..150).map(|_| client::connect(server.address)).collect();
    for _ in 0..5 {
        let said = send(&server);
        assert!(said.starts_with('K'), "{said}");
    }
    drop(idle);
    let log = server.log.all();
    assert!(!log.contains("throttling") && !log.contains("process limit"), "{log}");
}

/// Clients that come and go while master reloads again and again.
fn reload(submit: Submit) {
    const RELOADS: usize = 12;
    const CLIENTS: usize = 3;
    let server = drop_in::start(submit, &Setup::default());
    let (sent, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let slowest = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut slowest = Duration::ZERO;
                    while !is_over.load(Ordering::Acquire) {
                        let began = Instant::now();
                        let said = send(&server);
                        assert!(said.starts_with('K'), "{said}");
                        slowest = slowest.max(began.elapsed());
                        sent.fetch_add(1, Ordering::AcqRel);
                    }
                    slowest
                })
            })
            .collect();
        for _ in 0..RELOADS {
            let before = sent.load(Ordering::Acquire);
            wait::until("more messages are sent", || {
                (sent.load(Ordering::Acquire) >= before + 10).then_some(())
            });
            kill(server.pid(), Signal::SIGHUP).unwrap();
        }
        is_over.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
    });
    let queued = server.queue.take().len();
    assert_eq!(queued, sent.load(Ordering::Acquire), "messages in the queue");
    assert!(slowest < Duration::from_secs(5), "a client waited for {slowest:?}");
    eprintln!("{queued} messages, {RELOADS} reloads, the slowest took {slowest:?}");
}

/// Postfix's process would end, its master would wait for `service_throttle_time`, and clients would hear nothing.
fn mistake() {
    let server = drop_in::start(Submit::Local, &Setup::default());
    let path = server.config.join("main.cf");
    let good = std::fs::read_to_string(&path).unwrap();
    assert!(send(&server).starts_with('K'));
    postfix::write_old(&path, &format!("{good}\nqmqpd_error_delay = never\n"));
    kill(server.pid(), Signal::SIGHUP).unwrap();
    wait::until("clients hear of it", || {
        (send(&server) == "ZError: server configuration error").then_some(())
    });
    assert!(server.log.all().contains("parameter qmqpd_error_delay: bad time value or unit: never"));
    postfix::write_old(&path, &good);
    let corrected = Instant::now();
    kill(server.pid(), Signal::SIGHUP).unwrap();
    wait::until("mail is taken again", || send(&server).starts_with('K').then_some(()));
    assert!(corrected.elapsed() < Duration::from_secs(5), "it took {:?}", corrected.elapsed());
}

fn stop() {
    let mut server = drop_in::start(Submit::Postfix, &Setup::default());
    let _idle = client::connect(server.address);
    assert!(send(&server).starts_with('K'));
    let address = server.address;
    let began = Instant::now();
    server.stop();
    wait::until("nobody listens", || std::net::TcpStream::connect(address).is_err().then_some(()));
    assert!(began.elapsed() < Duration::from_secs(4), "stopped after {:?}", began.elapsed());
}

fn max_use() {
    let setup = Setup { main_cf: vec!["max_use = 2".to_owned()], ..Default::default() };
    let server = drop_in::start(Submit::Postfix, &setup);
    for _ in 0..10 {
        let said = send(&server);
        assert!(said.starts_with('K'), "{said}");
    }
    assert!(!server.log.all().contains("warning: /"), "{}", server.log.all());
}
