//! Under Postfix's master(8): process limits, reloads, stops.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::load::{Load, LoadResult, send};
use testbed::client::{self, End, request};
use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{self, Instance, Setup};
use testbed::trials::Trials;
use testbed::{ports, wait};

pub(crate) fn add(trials: &mut Trials) {
    let needs = [Peer::Postfix];
    for (way, submit) in [("cleanup", Submit::Postfix), ("our_cleanup", Submit::Local)] {
        for (name, columns) in [
            ("limit_1", "n - n - 1"),
            ("limit_2", "n - n - 2"),
            ("limit_100", "n - n - 100"),
            ("no_limit", "n - n - 0"),
            ("limit_1_chroot", "n - y - 1"),
            ("limit_100_chroot", "n - y - 100"),
        ] {
            trials.add(&format!("life::{name}_with_{way}"), &needs, move || limit(submit, columns));
        }
        let mut add = |name: &str, body: fn(Submit)| {
            trials.add(&format!("life::{name}_with_{way}"), &needs, move || body(submit));
        };
        add("reload_loses_nothing", reload);
        add("a_session_survives_reloads", session_across_reloads);
        add("stop_is_prompt", stop);
        add("abort_is_prompt", abort);
        add("a_removed_service_ends_at_once", removed_service);
        add("max_use_counts_from_an_age_on", max_use);
        add("two_thousand_idle_clients_hold_up_nobody", idle_clients);
    }
    trials.add("life::stress_of_a_public_address_starts_nothing", &needs, stress);
    trials.add("life::a_mistake_is_z_and_its_correction_counts_at_once", &needs, mistake);
}

/// The limit of master.cf does not bound the clients of one process, whatever it is.
fn limit(submit: Submit, columns: &'static str) {
    let setup = Setup { columns: Some(columns), ..Default::default() };
    let server = drop_in::start(submit, &setup);
    let idle: Vec<_> = (0..150).map(|_| client::connect(server.address)).collect();
    let seen = Load::during(&server, 3, |load| load.wait_for_more(10));
    drop(idle);
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), seen.accepted);
    assert_no_trouble(&server);
}

/// Nothing that a master says about a service that does not behave.
fn assert_no_trouble(server: &Instance) {
    let log = server.log.all();
    for word in
        ["throttling", "process limit", "ignoring status", "exit status", "killed by", "fatal:", "panic:"]
    {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

/// A listening address that is not loopback makes master(8) restart a service whose process limit is reached. Ours never
/// reaches it: one process is enough.
fn stress() {
    let port = ports::free();
    let setup = Setup { master_cf: format!("0.0.0.0:{port} inet n - n - 2 qmqpd\n"), ..Default::default() };
    let server = drop_in::start(Submit::Local, &setup);
    let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let said = client::send(
                        at(port),
                        b"Subject: x\n\nx\n",
                        b"a@sender.example",
                        &[b"b@rcpt.example"],
                    );
                    assert!(said.starts_with('K'), "{said}");
                }
            });
        }
    });
    assert_no_trouble(&server);
}

const RELOADS: usize = 20;
const CLIENTS: usize = 3;

/// What clients see who come and go while Postfix reloads so many times; and how many messages are in the queue.
fn load_with_reloads(server: &Instance) -> (LoadResult, LoadResult, usize) {
    let quiet = Load::during(server, CLIENTS, |load| load.wait_for_more(60));
    let seen = Load::during(server, CLIENTS, |load| {
        for _ in 0..RELOADS {
            load.wait_for_more(10);
            server.control("reload");
        }
        load.wait_for_more(10);
    });
    (quiet, seen, server.queue.take().into_iter().map(Result::unwrap).count())
}

/// The generation passes 8, which is written 10.
fn reload(submit: Submit) {
    // A postlogd(8) that waits for the disk for ten seconds would end, and master(8) starts the next one a minute later.
    let main_cf = vec!["postlogd_watchdog_timeout = 100s".to_owned()];
    let server = drop_in::start(submit, &Setup { main_cf, ..Setup::default() });
    let (quiet, seen, queued) = load_with_reloads(&server);
    assert_eq!(queued, quiet.accepted + seen.accepted, "messages in the queue");
    assert_no_trouble(&server);
    eprintln!("{RELOADS} reloads: {seen:?}; without: {quiet:?}");
    let slow = quiet.slowest.saturating_mul(3).max(Duration::from_secs(5));
    if submit == Submit::Local {
        // On a busy machine one may come late, but not at each reload.
        assert!(seen.slowest < slow, "{seen:?}, and without reloads {quiet:?}");
        assert!(seen.stalls < RELOADS / 2, "{seen:?}, and without reloads {quiet:?}");
        return;
    }
    // A cleanup(8) that hears nothing from trivial-rewrite(8), which ends when Postfix reloads, sleeps for one second and
    // asks again, and with Postfix's qmqpd some messages met two such pauses. Nothing here can shorten that, and nothing
    // may prolong it.
    assert!(seen.slowest < slow + Duration::from_secs(3), "{seen:?}, and without reloads {quiet:?}");
    assert!(seen.stalls <= RELOADS * CLIENTS, "more than one stall for each client and reload: {seen:?}");
}

/// A client that is in the middle of its message when Postfix reloads, again and again, is served to the end.
fn session_across_reloads(submit: Submit) {
    use std::io::Write;
    let server = drop_in::start(submit, &Setup::default());
    let whole = request(&b"0123456789abcde\n".repeat(20_000), b"a@sender.example", &[b"b@rcpt.example"]);
    let mut stream = client::connect(server.address);
    let mut pieces = whole.chunks(whole.len() / 4 + 1);
    for piece in pieces.by_ref().take(3) {
        stream.write_all(piece).unwrap();
        server.control("reload");
        assert!(send(&server).starts_with('K'));
    }
    pieces.for_each(|piece| stream.write_all(piece).unwrap());
    let (received, end) = client::read_to_end(&mut stream);
    let said = client::reply(&received).map(client::text).unwrap_or_default();
    assert!(said.starts_with('K') && end == End::Closed, "{said}, {end:?}");
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), 4);
    wait::until("the old processes have ended", || {
        (server.children().iter().filter(|(_, name)| name == "qmqpd").count() <= 1).then_some(())
    });
}

/// Postfix's process would end, its master would wait for `service_throttle_time`, and clients would hear nothing.
fn mistake() {
    let server = drop_in::start(Submit::Local, &Setup::default());
    let path = server.config.join("main.cf");
    let good = std::fs::read_to_string(&path).unwrap();
    assert!(send(&server).starts_with('K'));
    postfix::write_old(&path, &format!("{good}\nqmqpd_error_delay = never\n"));
    server.control("reload");
    wait::until("clients hear of it", || {
        (send(&server) == "ZError: server configuration error").then_some(())
    });
    server.log.all_with("parameter qmqpd_error_delay: bad time value or unit: never");
    server.log.all_with("warning: NOQUEUE: unknown[127.0.0.1]: Error: server configuration error");
    postfix::write_old(&path, &good);
    let corrected = Instant::now();
    server.control("reload");
    wait::until("mail is taken again", || send(&server).starts_with('K').then_some(()));
    assert!(corrected.elapsed() < Duration::from_secs(5), "it took {:?}", corrected.elapsed());
}

/// A client that says nothing and one in the middle of a message see the end of the connection and no reply; nothing
/// stays in the queue, and no process stays behind.
fn end_by(submit: Submit, verb: &str) {
    use std::io::Write;
    let mut server = drop_in::start(submit, &Setup::default());
    assert!(send(&server).starts_with('K'));
    let mut idle = client::connect(server.address);
    let mut busy = client::connect(server.address);
    let whole = request(&b"0123456789abcde\n".repeat(20_000), b"a@sender.example", &[b"b@rcpt.example"]);
    busy.write_all(&whole[..whole.len() / 2]).unwrap();
    server.log.lines_until("both clients", |line| line.text.starts_with("connect from "));
    let began = Instant::now();
    server.control(verb);
    server.wait();
    assert!(began.elapsed() < Duration::from_secs(4), "postfix {verb} took {:?}", began.elapsed());
    for stream in [&mut idle, &mut busy] {
        assert_eq!(client::read_to_end(stream).0, b"", "a reply to a message that is not there");
    }
    wait::until("every process is gone", || server.processes().is_empty().then_some(()));
    assert!(std::net::TcpStream::connect(server.address).is_err(), "somebody still listens");
    let files = server.queue.take().into_iter().map(Result::unwrap).count();
    assert_eq!((files, server.queue.incoming().len()), (1, 0), "files in the queue");
}

fn stop(submit: Submit) {
    end_by(submit, "stop");
}

fn abort(submit: Submit) {
    end_by(submit, "abort");
}

/// master(8) waits, doing nothing else, until every process of a service that is gone from master.cf has ended.
fn removed_service(submit: Submit) {
    let server = drop_in::start(submit, &Setup::default());
    let path = server.config.join("master.cf");
    let with = std::fs::read_to_string(&path).unwrap();
    let without: String =
        with.lines().filter(|line| !line.ends_with(" qmqpd")).map(|line| format!("{line}\n")).collect();
    assert!(without.len() < with.len());
    let mut idle = client::connect(server.address);
    assert!(send(&server).starts_with('K'));
    postfix::write_old(&path, &without);
    let began = Instant::now();
    server.control("reload");
    let (received, _) = client::read_to_end(&mut idle);
    assert_eq!(received, b"");
    wait::until("nobody listens", || std::net::TcpStream::connect(server.address).is_err().then_some(()));
    wait::until("its processes are gone", || {
        let of_qmqpd = |pid: &nix::unistd::Pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "qmqpd")
        };
        (!server.processes().iter().any(of_qmqpd)).then_some(())
    });
    postfix::write_old(&path, &with);
    server.control("reload");
    wait::until("it is back", || std::net::TcpStream::connect(server.address).ok());
    assert!(send(&server).starts_with('K'));
    assert!(began.elapsed() < Duration::from_secs(10), "master(8) was held up for {:?}", began.elapsed());
    assert_no_trouble(&server);
}

fn max_use(submit: Submit) {
    let lines = ["max_use = 2", "max_idle = 1s"];
    let setup = Setup { main_cf: lines.map(str::to_owned).to_vec(), ..Default::default() };
    let server = drop_in::start(submit, &setup);
    let served = || -> BTreeSet<String> {
        let log = server.log.all();
        let ids = log.lines().filter_map(|line| line.split_once("/qmqpd[")?.1.split(']').next());
        ids.map(str::to_owned).collect()
    };
    // Each process makes room for the next one, and cuts no session.
    let seen = Load::during(&server, 3, |load| {
        load.wait_for_more(30);
        wait::within(Duration::from_secs(60), || (served().len() >= 3).then_some(()))
            .unwrap_or_else(|| panic!("no fresh process"));
    });
    // But not after two of its clients each time.
    let processes = served().len();
    assert!(processes * 3 < seen.accepted, "{processes} processes for {} messages", seen.accepted);
    assert_eq!(server.queue.take().into_iter().map(Result::unwrap).count(), seen.accepted);
    assert_no_trouble(&server);
}

/// Stock Postfix serves nobody beyond its hundredth process.
fn idle_clients(submit: Submit) {
    const CLIENTS: usize = 2000;
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let server = drop_in::start(submit, &Setup::default());
    let idle: Vec<_> = (0..CLIENTS).map(|_| client::connect(server.address)).collect();
    for _ in 0..5 {
        let said = send(&server);
        assert!(said.starts_with('K'), "{said}");
    }
    // They are served too, when they have something to say.
    use std::io::Write;
    for mut client in idle.into_iter().step_by(400) {
        client
            .write_all(&request(b"Subject: late\n\nx\n", b"a@sender.example", &[b"b@rcpt.example"]))
            .unwrap();
        let (received, _) = client::read_to_end(&mut client);
        assert!(client::text(&received).contains(":KOk: queued as "), "{}", client::text(&received));
    }
    assert_no_trouble(&server);
}
