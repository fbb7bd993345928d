//! A mixed load for a while, with everything going wrong that can: reloads, killed processes, changed tables, full disks,
//! steps of the clock, clients that leave. At the end an account: every `K` has its message, once and whole, and nothing grows.
//!
//! `make test` runs twenty seconds of it, `make soak` five minutes, `make soak MINUTES=600` a night. `QMQPD_SEED` repeats
//! the order of the troubles, though not their moments.
//!
//! What it cannot do: a power cut (the spool's own tests have a simulated disk for that), and steps of the machine's own
//! clock, which is not ours to set: the service processes see another time of day, and the file system does not.
#![cfg(test)]

mod account;
mod load;
mod trouble;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use account::{Account, Footprint};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::trials::Trials;
use testbed::{isolation, random, wait};
use trouble::{Disk, Troubles};

/// How long the form in `make test` takes.
const SECONDS: u64 = 20;

/// Sessions at a time.
const CLIENTS: usize = 6;

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    let mut trials = Trials::default();
    trials.add("the_account_notices_what_is_wrong", &[], account::notices_what_is_wrong);
    trials.add("soak", &[Peer::Root, Peer::Isolation, Peer::Postfix, Peer::Faketime], soak);
    trials.run()
}

fn seconds() -> u64 {
    std::env::var("QMQPD_SOAK_SECONDS")
        .map_or(SECONDS, |text| text.parse().expect("QMQPD_SOAK_SECONDS: a number"))
}

fn soak() {
    let (whole, seed) = (Duration::from_secs(seconds()), random::seed());
    let disk = Disk::mount();
    let table = disk.dir().join("clients");
    trouble::write_table(&table, 0);
    let main_cf = vec![
        format!("qmqpd_authorized_clients = {}", table.display()),
        "message_size_limit = 3000000".to_owned(),
        "qmqpd_session_log_limit = 100".to_owned(),
        "qmqpd_timeout = 20s".to_owned(),
        trouble::own_clock(),
    ];
    let server = Instance::start(&Setup { main_cf, queue: Some(disk.queue().path) });
    let account = Account::default();
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let start = Footprint::of(&server);
    let mut troubles = Troubles::new(&server, &disk, table.clone(), seed);
    let (calm, end) = std::thread::scope(|scope| {
        // Whatever fails below, the others come to an end: the scope waits for them.
        let stop = Stop(&is_over);
        for number in 0..CLIENTS {
            let (account, is_over) = (&account, &is_over);
            let address = server.address;
            scope.spawn(move || load::run(address, number, seed, account, is_over));
        }
        scope.spawn(|| account.collect_until(&server.queue, &is_over));
        // Three quarters of the time in trouble, the rest in peace: only a process that lives shows whether it grows.
        while began.elapsed() < whole * 3 / 4 {
            troubles.next(&account);
        }
        troubles.step_clock("+0");
        troubles.wait_for_mail(&account);
        wait::until("one process is left", || (server.services().len() == 1).then_some(()));
        std::thread::sleep(whole / 20);
        let calm = Footprint::of(&server);
        while began.elapsed() < whole {
            std::thread::sleep(Duration::from_millis(50));
        }
        let end = Footprint::of(&server);
        drop(stop);
        (calm, end)
    });
    // The sessions that are left end by themselves; then there are no drafts any more.
    wait::until("the last drafts are gone", || {
        account.collect(&server.queue);
        server.queue.incoming().is_empty().then_some(())
    });
    let idle = Footprint::of(&server);
    let report = account.report();
    eprintln!("soak: {} s, QMQPD_SEED={seed}\n{report}", whole.as_secs());
    eprintln!(
        "{troubles}\n{start} at the start\n{calm} at the beginning of the calm\n{end} at its end\n{idle} without clients"
    );
    let log = server.log.all();
    let alarming = log.lines().filter(|line| line.contains("panic") || line.contains("fatal: "));
    assert_eq!(alarming.collect::<Vec<_>>(), Vec::<&str>::new());
    let faults = account.faults();
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    assert!(account.queued() > 0);
    assert!(troubles.each_happened() || whole.as_secs() < SECONDS, "{troubles}");
    assert!(calm.service_pids == end.service_pids, "a process ended in peace: {calm}, {end}");
    end.assert_no_more_than(&calm);
    idle.assert_idle(&calm);
    end.assert_same_master(&start);
}

/// Ends the load, whatever happens.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
